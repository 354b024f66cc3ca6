"""What ``lossrs score`` prints: the formats against each other and the schema, conditions, and the cost of a run."""

import csv
import io
import json
import math
import re
import subprocess
import sys
from fractions import Fraction
from types import SimpleNamespace

import jsonschema
import lossrs
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lossrs.scoring import ScoreError, score
from lossrs.scoring.command_line import main
from lossrs.scoring.condition import Condition
from lossrs.scoring.figures import NAMES, PLACES, Figures
from lossrs.scoring.formats import FORMATS, schema
from lossrs.scoring.progress import Progress, Run, counted, duration, peak_memory
from test_score_command import on_a_terminal

VALIDATOR = jsonschema.Draft202012Validator(json.loads(schema()))


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run the command in a folder; return its status and what it printed."""
    monkeypatch.chdir(tmp_path)

    def ran(*arguments):
        status = main([*map(str, arguments)])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return ran


def write(path, **columns):
    pq.write_table(pa.table(columns), path)
    return path


@pytest.fixture
def file(tmp_path):
    random = np.random.default_rng(0)
    columns = {f"logit_{index}": random.normal(size=300).astype(np.float32) for index in range(3)}
    columns |= {
        "label": random.integers(0, 3, 300),
        "w": random.random(300),
        "country": pa.array(random.choice(np.array(["de", "f|r", None], object), 300)),
        "day": random.integers(9, 11, 300),
        "test": random.random(300) < 0.5,
    }
    return write(tmp_path / "table.parquet", **columns)


CLASSES = ("--loss", "cross_entropy", "--input", "logit_*", "--target", "label")
XY = ("--loss", "mse_loss", "--input", "x", "--target", "y")


def as_json(printed):
    found = json.loads(printed, parse_constant=pytest.fail)
    VALIDATOR.validate(found)
    return found


def test_the_schema_is_valid_and_says_what_everything_is(run):
    jsonschema.Draft202012Validator.check_schema(VALIDATOR.schema)
    assert run("schema") == (0, schema(), "")

    def undescribed(node, name):
        if isinstance(node, dict):
            for key, child in node.items():
                if key in ("properties", "patternProperties"):
                    for of, what in child.items():
                        if "description" not in what:
                            yield of
                        yield from undescribed(what, of)
                else:
                    yield from undescribed(child, key)

    assert list(undescribed(VALIDATOR.schema, "")) == []
    assert set(NAMES) == set(VALIDATOR.schema["$defs"]["figures"]["required"])


def test_the_schema_knows_all_derived_figures():
    described = VALIDATOR.schema["$defs"]["figures"]["properties"].keys()
    for cls in lossrs.losses.values():
        assert lossrs.Accumulator(cls()).result().derived.keys() <= described


@pytest.mark.parametrize("options", [(), ("--quantiles", "0,.5,.999,1"), ("--sample-weight", "w", "--weight", "1,2,3")])
@pytest.mark.parametrize("by", [None, "country", "day,country", "test"])
def test_json_is_as_the_schema_says(run, file, options, by):
    status, printed, errors = run("score", file, *CLASSES, *options, *(("--by", by) if by else ()), "--json")
    assert (status, errors, printed.count("\n")) == (0, "", 1)
    found = as_json(printed)
    assert (found["rows"], found["by"]) == (300, by.split(",") if by else [])
    assert {"p0", "p50", "p99.9", "p100"} <= found.keys() or "--quantiles" not in options
    assert found["perplexity"] == pytest.approx(math.exp(found["mean"]))
    if by:
        assert sum(group["rows"] for group in found["groups"]) == 300
        for group in found["groups"]:
            assert found.keys() - group.keys() == {
                "lossrs",
                "command",
                "missing_shards",
                "files",
                "loss",
                "options",
                "run",
                "by",
                "groups",
            }
    else:
        assert found["groups"] is None
    assert found["command"][:2] == ["lossrs", "score"]
    assert found["run"]["seconds"] > 0
    assert 2**20 < found["run"]["peak_memory"] < 2**40


@pytest.mark.parametrize("x", [[], [1.0], [np.nan], [np.inf, 1.0], [np.inf, -np.inf, np.nan]])
@pytest.mark.parametrize("loss", ["mse_loss", "l1_loss", "huber_loss", "soft_margin_loss"])
def test_json_of_odd_numbers_is_as_the_schema_says(run, tmp_path, x, loss):
    write(tmp_path / "x.parquet", x=np.array(x), y=np.ones(len(x)), key=np.arange(len(x)))
    arguments = ("--loss", loss, *XY[2:], "--by", "key", "--quantiles", ".5", "--json")
    assert as_json(run("score", "x.parquet", *arguments)[1])["rows"] == len(x)


def test_a_quantile_of_negative_zero_is_that_of_zero(run, file):
    assert "p0" in as_json(run("score", file, *CLASSES, "--quantiles=-0.0", "--json")[1])


def test_the_rate_is_that_of_this_run(run, file):
    asked = ("score", file, *CLASSES, "--batch-size", "7", "--json", "--save", "state", "--shard", "1/2")
    whole = as_json(run(*asked)[1])
    assert whole["run"]["rows_per_second"] > 0
    assert whole["missing_shards"] == ["2/2"]
    of_state = as_json(run("merge", "state", "--json")[1])
    assert of_state["run"]["rows_per_second"] is None
    assert of_state["missing_shards"] == ["2/2"]

    def stop(*_):
        raise KeyboardInterrupt

    again = {"loss": "cross_entropy", "input": "logit_*", "target": "label", "checkpoint": "checkpoint"}
    with pytest.raises(KeyboardInterrupt):
        score(file, **again, batch_size=7, progress=stop)
    assert score(file, **again).rows_read == 293
    assert score(file, **again).rows_read == 0


def test_progress_does_not_count_what_took_no_time(monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    times = iter([0.0, 1.0, 3.0, 3.0])
    monkeypatch.setattr("lossrs.scoring.progress.time.monotonic", lambda: next(times))
    shown = []
    monkeypatch.setattr(
        Progress,
        "_start",
        lambda _: SimpleNamespace(task_ids=[0], update=lambda *_, **of: shown.append(of), stop=lambda: None),
    )
    progress = Progress(delay=2)
    progress(1_000_000, 2_000_000)
    progress(1_000_010, 2_000_000)
    assert shown[0]["shown"].startswith("1,000,010 rows  5 rows/s")


def test_the_schema_refuses_what_is_something_else(run, file):
    found = as_json(run("score", file, *CLASSES, "--by", "day", "--json")[1])
    for change in (
        {"mean": "nan"},
        {"rows": -1},
        {"rows": 1.5},
        {"unheard": 1},
        {"p": 1},
        {"groups": [{"group": 1}]},
        {"groups": [found["groups"][0] | {"by": []}]},
        {"minimum_row": 3},
    ):
        assert not VALIDATOR.is_valid(found | change), change
    del found["mean"]
    assert not VALIDATOR.is_valid(found)


@pytest.mark.parametrize("by", [(), ("--by", "country"), ("--by", "day,test")])
def test_csv_says_what_json_says(run, file, by):
    arguments = ("score", file, *CLASSES, *by, "--quantiles", "0.5")
    found = as_json(run(*arguments, "--json")[1])
    status, printed, errors = run(*arguments, "--format", "csv")
    assert (status, errors) == (0, "")
    *groups, overall = csv.DictReader(io.StringIO(printed))
    assert [group["scope"] for group in groups] == ["group"] * len(found["groups"] or [])
    assert overall["scope"] == "all"
    for line, expected in zip([*groups, overall], [*(found["groups"] or []), found], strict=True):
        for name in [*NAMES, "perplexity", "bits", "p50"]:
            if name in PLACES:
                path = line[name.replace("_row", "_file")]
                assert {"file": path, "row": int(line[name])} == expected[name]
            else:
                assert float(line[name]) == expected[name]
        if "group" in expected:
            keys = expected["group"] if isinstance(expected["group"], list) else [expected["group"]]
            shown = ["" if key is None else str(key).lower() if isinstance(key, bool) else str(key) for key in keys]
            assert [line[name] for name in found["by"]] == shown


def test_markdown_is_a_table_of_what_the_table_shows(run, file):
    arguments = ("score", file, *CLASSES, "--by", "country,day", "--quantiles", "0.5,0.99")
    table, markdown = run(*arguments)[1], run(*arguments, "--format", "markdown")[1]
    lines = [re.split(r" (?<!\\)\| ", line.removeprefix("| ").removesuffix(" |")) for line in markdown.splitlines()]
    assert {len(line) for line in lines} == {12}
    assert lines[1] == [":--"] * 2 + ["--:"] * 10
    unescaped = [[re.sub(r"\\(.)", r"\1", cell) for cell in line] for line in [lines[0], *lines[2:]]]
    assert [" ".join(line).split() for line in unescaped] == [line.split() for line in table.splitlines()]
    assert r"f\|r" in markdown


@pytest.mark.parametrize("format", ["table", "csv", "markdown"])
def test_what_is_piped_on_depends_on_the_rows_alone(run, file, format):
    arguments = ("score", file, *CLASSES, "--by", "day", "--format", format)
    assert run(*arguments) == run(*arguments, "--batch-size", "7", "-q")


def test_a_name_that_would_break_a_line_or_move_the_cursor_is_escaped(run, tmp_path):
    write(tmp_path / "x.parquet", x=[1.0, 2.0], y=[0.0, 0.0], key=["a\nb", "\x1b[2J"])
    for format in ("table", "markdown"):
        printed = run("score", "x.parquet", *XY, "--by", "key", "--format", format)[1]
        assert "\x1b" not in printed
        assert len(printed.splitlines()) == 4 + (format == "markdown")


def test_many_groups_are_all_printed(run, tmp_path):
    rows = 10_000  # more than a piece
    write(tmp_path / "x.parquet", x=np.arange(rows) / 1.0, y=np.zeros(rows), key=np.arange(rows))
    found = as_json(run("score", "x.parquet", *XY, "--by", "key", "--json", "--quantiles", "0.5")[1])
    assert [group["sum"] for group in found["groups"]] == [float(key) ** 2 for key in range(rows)]
    assert [group["p50"] for group in found["groups"]] == [float(key) ** 2 for key in range(rows)]


@pytest.mark.parametrize(("name", "text"), [("quantiles", "1.5"), ("quantiles", "half"), ("format", "xml")])
def test_options_are_checked(run, file, name, text):
    with pytest.raises(SystemExit, match="2"):
        run("score", "nowhere.parquet", *CLASSES, f"--{name}", text)


# Conditions

COLUMNS = {name: 1.0 for name in NAMES if name not in PLACES}


def figures_of(losses, keys=None, quantiles=()):
    total = lossrs.Accumulator(lossrs.MSELoss(), histogram=True)
    total.update_losses(np.asarray(losses, float), group=None if keys is None else {"key": np.asarray(keys)})
    result = total.result()
    return Figures(result, result.groups, ("key",) if keys is not None else (), quantiles)


def failure(text, losses, keys=None):
    condition = Condition(text, [*COLUMNS, "rmse"], grouped=keys is not None)
    return condition.failure(figures_of(losses, keys, condition.quantiles))


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("mean > 0.35", True),
        ("mean > 2", False),
        ("mean >= 2", True),
        ("mean == 2 and rows != 2", True),
        ("not mean == 2", False),
        ("1 < mean < 3", True),
        ("1 < mean < 2", False),
        ("mean > 5 or maximum > 2.5", True),
        ("mean > 5 or maximum > 3", False),
        ("mean - 2 * standard_error > 0", True),
        ("mean - 9 * standard_error > 0", False),
        ("-mean < -1 and +mean > 1", True),
        ("sum / rows == mean", True),
        ("rmse > 1.5", False),
        ("rmse > 1.4", True),
        ("ignored > 0 or nonfinite > 0", False),
        ("p50 > 1.9 and p50 < 2.1", True),
        ("quantile(0.999) < 2.9", False),
        ("p100 == 3", True),
        ("rows / ignored > 1", True),  # infinity
        ("(mean > 1) and not (mean > 5 or rows > 10)", True),
    ],
)
def test_conditions(text, holds):
    assert (failure(text, [1, 2, 3]) is not None) == holds


@pytest.mark.parametrize("text", ["mean > 1", "mean < 1", "not mean > 1", "mean == mean", "mean > 1 and rows == 0"])
def test_what_cannot_be_told_counts_as_holding(text):
    assert "cannot be told, and counts as holding: mean = nan" in failure(text, [])


@pytest.mark.parametrize(("text", "holds"), [("mean > 1 and rows > 0", False), ("mean > 1 or rows == 0", True)])
def test_what_decides_can_be_told_without_the_rest(text, holds):
    found = failure(text, [])
    assert (found is not None) == holds
    assert found is None or found.endswith("holds: rows = 0")


@pytest.mark.parametrize(
    ("text", "ending"),
    [
        ("any(mean > 2)", "in key=b: mean = 5.0 (and 1 more of 3 groups)"),
        ("any(mean > 6)", "in key=null: mean = 7.0"),
        ("any(rows > 1 and mean > 1)", "in key=a: rows = 2, mean = 1.5"),
        ("any(p50 > 6)", "in key=null: p50 = 7.0"),
        ("mean > 1 and any(mean < 2)", "mean = 3.75, in key=a: mean = 1.5"),
        ("not any(mean > 8)", "in none of the groups"),
        ("any(mean > 8) or rows == 4", "rows = 4"),
        ("any(standard_error > 9)", "in key=b: standard_error = nan (and 1 more of 3 groups)"),
        ("any(mean > 8)", None),
        ("any(rows > 1 and standard_error > 9)", None),
        ("any(mean > 1 and mean < 1)", None),
    ],
)
def test_conditions_on_groups(text, ending):
    found = failure(text, [1, 2, 5, 7], np.array(["a", "a", "b", None], object))
    assert (found is None) == (ending is None)
    assert ending is None or found.endswith(": " + ending)


def test_no_group_is_any_group():
    assert failure("any(mean < 9)", [], np.array([], int)) is None


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(-9, 9), st.integers(0, 3)), min_size=1), st.floats(-9, 9))
def test_any_is_true_of_some_group(rows, limit):
    losses, keys = np.array([loss for loss, _ in rows]), np.array([key for _, key in rows])
    groups = [losses[keys == key].tolist() for key in range(4) if key in keys]
    expected = any(float(sum(map(Fraction, group)) / len(group)) > limit for group in groups)
    assert (failure(f"any(mean > {limit})", losses, keys) is not None) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "at character 1"),
        ("mean >", "at character"),
        ("mean", "a comparison is needed, as in mean > 0.35, at character 1"),
        ("mean > 1 and rows", "a comparison is needed, as in mean > 0.35, at character 14"),
        ("maen > 1", "no figure 'maen' (did you mean 'mean'?), at character 1"),
        ("loss > 1", "no figure 'loss'"),
        ("perplexity > 1", "no figure 'perplexity'"),
        ("minimum_row > 1", "no figure 'minimum_row'"),
        ("mean > 'a'", "is neither a figure nor a number"),
        ("mean > true", "no figure 'true'"),
        ("mean > True", "neither a figure nor a number"),
        ("mean ** 2 > 1", "neither a figure nor a number"),
        ("mean in (1, 2)", "figures are compared by"),
        ("mean is 1", "figures are compared by"),
        ("1 > 2", "compares no figure"),
        ("any(mean > 1)", "there are none without --by"),
        ("mean > any(mean > 1)", "neither a figure nor a number"),
        ("quantile(2) > 1", "shares are in [0, 1]"),
        ("p101 > 1", "shares are in [0, 1]"),
        ("p" + "9" * 400 + " > 1", "shares are in [0, 1]"),
        ("p" + "9" * 5000 + " > 1", "shares are in [0, 1]"),
        ("quantile(" + "9" * 400 + ") > 1", "shares are in [0, 1]"),
        ("quantile(True) > 1", "neither a figure nor a number"),
        ("quantile(mean) > 1", "neither a figure nor a number"),
        ("mean > 1e999", "too large"),
        ("mean > 1" + "0" * 400, "too large"),
        ("__import__('os').system('true') > 1", "neither a figure nor a number"),
        ("(" * 300 + "mean > 1" + ")" * 300, "too many nested parentheses"),
        ("größe > 1 and mean > x", "no figure 'größe'"),
    ],
)
def test_a_mistaken_condition_is_refused_before_anything_is_read(run, text, message):
    status, printed, errors = run("score", "nowhere.parquet", *XY, "--fail-if", text)
    assert (status, printed, len(errors.splitlines())) == (2, "", 1)
    assert "fail-if" in errors
    assert message in errors


def test_any_within_any_is_refused():
    with pytest.raises(ScoreError, match="groups within groups"):
        Condition("any(mean > 1 and any(rows > 1))", COLUMNS, grouped=True)


@pytest.mark.parametrize("format", FORMATS)
def test_fail_if_ends_with_status_1_after_the_results(run, file, format):
    arguments = ("score", file, *CLASSES, "--by", "day", "--format", format)
    status, printed, errors = run(*arguments, "--fail-if", "mean > 1.2 or any(rows > 900)", "--fail-if", "rows > 900")
    if format == "json":
        assert as_json(printed)["rows"] == 300
    else:
        assert printed == run(*arguments)[1]
    assert status == 1
    assert re.fullmatch(r"lossrs: fail-if 'mean > 1.2 or any\(rows > 900\)' holds: mean = 1\.\d+\n", errors)
    status, _, errors = run(*arguments, "--fail-if", "mean > 99")
    assert (status, errors) == (0, "")


def test_fail_if_writes_what_was_asked_for(run, file, tmp_path):
    assert run("score", file, *CLASSES, "--fail-if", "rows > 1", "--per-sample", "losses.npy")[0] == 1
    assert len(np.load(tmp_path / "losses.npy")) == 300


def test_fail_if_is_heard_though_nobody_reads_the_results(file):
    command = [sys.executable, "-m", "lossrs", "score", str(file), *CLASSES, "--fail-if", "rows > 1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b"lossrs: fail-if 'rows > 1' holds: rows = 300\n"
    assert process.returncode == 1


# The cost of a run


@pytest.fixture
def long_job(tmp_path):
    np.save(tmp_path / "table.npy", np.ones((2_000_000, 2), np.float32) * [2, 0])
    return ["score", tmp_path / "table.npy", "--loss", "mse_loss", "--input", "0", "--target", "1", "--batch-size", "1"]


def test_progress_says_rows_rate_time_left_and_mean(long_job):
    shown = on_a_terminal(long_job, b"mean 4")
    assert re.search(r"\d[\d,]* rows  \d[\d.]* ?[kM]? rows/s  \S+ (s |min )?left  mean 4", shown)
    assert re.search(r"\x1b\[[\d;]*m", shown)


def test_progress_respects_no_color(long_job):
    shown = on_a_terminal(long_job, b"mean 4", NO_COLOR="1")
    assert "mean 4" in shown
    assert not re.search(r"\x1b\[[\d;]*m", shown)


@pytest.mark.parametrize(("options", "environment"), [(("-q",), {}), ((), {"TERM": "dumb"})])
def test_nothing_moves_on_a_dumb_terminal_or_when_quiet(file, options, environment):
    big = write(file.with_name("big.parquet"), x=np.ones(150_000), y=np.zeros(150_000))
    arguments = ["score", big, *XY, "--batch-size", "10", *options]
    shown = on_a_terminal(arguments, b"never", **environment)
    assert "150000" in shown
    assert "\r\x1b" not in shown
    assert "\x1b[2K" not in shown
    assert ("peak memory" in shown) == (not options)


def test_the_cost_is_the_last_dim_line_on_a_terminal(file):
    last = on_a_terminal(["score", file, *CLASSES], b"never").splitlines()[-1]
    assert re.fullmatch(r"\x1b\[2m.*300 rows in .* s, .* rows/s, peak memory .* MiB\x1b\[0m", last)
    for format in ("json", "csv", "markdown"):
        shown = on_a_terminal(["score", file, *CLASSES, "--format", format], b"never", NO_COLOR="1")
        assert re.fullmatch(r"300 rows in .* s, .* rows/s, peak memory .* MiB", shown.splitlines()[-1])


def test_the_table_without_colour(file):
    shown = on_a_terminal(["score", file, *CLASSES, "--by", "country"], b"never", NO_COLOR="1")
    assert "─" in shown
    assert "\x1b" not in shown


def test_a_run_in_a_line():
    assert str(Run((), 12_345_678, 4.0, 3 * 2**20)) == "12,345,678 rows in 4 s, 3.09 M rows/s, peak memory 3 MiB"
    assert str(Run((), 0, 0.0, None)) == "0 rows in 0 s"
    assert str(Run((), None, 2.0, None)) == "2 s"
    assert [duration(of) for of in (0.1234, 59.94, 60, 3599.6, 90_061)] == [
        "0.123 s",
        "59.9 s",
        "1:00 min",
        "1:00:00",
        "25:01:01",
    ]
    assert [counted(of) for of in (1, 999.4, 999.9, 1e6, 2.5e9)] == ["1", "999", "1 k", "1 M", "2.5 G"]


def test_peak_memory_grows_with_what_is_held():
    program = "import numpy, sys; from lossrs.scoring.progress import peak_memory; a = peak_memory();"
    program += "b = numpy.ones(20_000_000); print(peak_memory() - a)"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert int(ran.stdout) == pytest.approx(160e6, rel=0.05)
    assert peak_memory() > 2**20
