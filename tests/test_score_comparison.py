"""``--compare`` and ``--bootstrap``: against NumPy on the whole data, and against the accumulator."""

import json
import math

import jsonschema
import lossrs
import lossrs.functional as F
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lossrs import Accumulator
from lossrs.scoring import ScoreError, merge, score
from lossrs.scoring.command_line import main
from lossrs.scoring.formats import schema

VALIDATOR = jsonschema.Draft202012Validator(json.loads(schema()))
ROWS = 3_000


@pytest.fixture
def data():
    random = np.random.default_rng(3)
    y = random.normal(size=ROWS)
    a = y + random.normal(size=ROWS)
    columns = {"a": a, "b": 0.1 * y + 0.9 * a + 0.2 * random.normal(size=ROWS), "y": y}
    return {name: column.astype(np.float32) for name, column in columns.items()} | {
        "w": random.integers(0, 4, ROWS) / 2,
        "key": random.choice(["k2", "k10", "k1"], ROWS),
    }


@pytest.fixture
def file(tmp_path, data):
    pq.write_table(pa.table(data), tmp_path / "table.parquet", row_group_size=500)
    return tmp_path / "table.parquet"


ASKED = {"loss": "huber_loss", "input": "a", "target": "y", "compare": "b"}
COMMAND = ("--loss", "huber_loss", "--input", "a", "--target", "y", "--compare", "b")


@pytest.mark.parametrize("weighted", [False, True])
def test_two_models_against_numpy(file, data, weighted):
    found = score(file, **ASKED, by="key", sample_weight="w" if weighted else None, batch_size=700)
    first, second = (F.huber_loss(data[name], data["y"], reduction="none").astype(float) for name in "ab")
    w = data["w"] if weighted else np.ones(ROWS)
    compared = found.compared

    def check(rows, *summaries):
        one, two, difference, wins = summaries
        weight, delta = w[rows], (second - first)[rows]
        assert one.mean == pytest.approx(np.average(first[rows], weights=weight), rel=1e-6)
        assert two.mean == pytest.approx(np.average(second[rows], weights=weight), rel=1e-6)
        mean = np.average(delta, weights=weight)
        assert difference.mean == pytest.approx(mean, rel=1e-5)
        assert difference.mean == pytest.approx(two.mean - one.mean, rel=1e-5)
        n = np.count_nonzero(weight)
        error = math.sqrt(n / (n - 1) * (weight**2 * (delta - mean) ** 2).sum()) / weight.sum()
        assert difference.standard_error == pytest.approx(error, rel=1e-6)
        # The models err alike, which only the paired error knows.
        assert difference.standard_error < math.hypot(one.standard_error, two.standard_error)
        assert wins.mean == pytest.approx(np.average(delta < 0, weights=weight), rel=1e-12)
        assert one.rows == two.rows == difference.rows == wins.rows == rows.sum()
        assert one.ignored == two.ignored == difference.ignored == wins.ignored == (weight == 0).sum()

    check(np.ones(ROWS, bool), found.overall, compared.second, compared.difference, compared.wins)
    assert list(found.groups) == list(compared.difference.groups) == ["k1", "k2", "k10"]
    for key in found.groups:
        results = (found, compared.second, compared.difference, compared.wins)
        check(data["key"] == key, *(result.groups[key] for result in results))


def test_the_second_is_what_scoring_it_gives(file):
    asked = {"by": "key", "bootstrap": 20, "histogram": True}
    compared = score(file, **ASKED, **asked).compared
    alone = score(file, "huber_loss", input="b", target="y", by="key", bootstrap=20).result
    assert repr(compared.second) == repr(alone)
    assert (compared.second.bootstrap.sums == alone.bootstrap.sums).all()
    same = score(file, **ASKED | {"compare": "a"}, **asked).compared
    assert same.difference.mean == same.difference.standard_error == same.wins.mean == 0


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_models_of_another_precision(tmp_path, data, dtype):
    data["b"] = data["b"].astype(dtype)
    pq.write_table(pa.table(data), tmp_path / "table.parquet")
    found = score(tmp_path / "table.parquet", **ASKED, bootstrap=30, sample_weight="w")
    losses = F.huber_loss(data["b"].astype(np.promote_types(dtype, np.float32)), data["y"], reduction="none")
    assert found.compared.second.mean == pytest.approx(np.average(losses, weights=data["w"]), rel=1e-6)
    replicates = found.compared.second.bootstrap - found.result.bootstrap
    assert replicates.means.mean() == pytest.approx(found.compared.difference.mean, rel=0.2)


def test_rows_of_classes(tmp_path):
    random = np.random.default_rng(0)
    one, two = random.normal(size=(2, 200, 3)).astype(np.float32)
    label = random.integers(0, 3, 200)
    lists = [pa.FixedSizeListArray.from_arrays(scores.ravel(), 3) for scores in (one, two)]
    columns = {"one": lists[0], "label": label} | {f"two_{index}": two[:, index] for index in range(3)}
    pq.write_table(pa.table(columns), tmp_path / "table.parquet")
    found = score(tmp_path, "cross_entropy", input="one", target="label", compare="two_*")
    assert found.compared.second.mean == F.cross_entropy(two, label)
    assert found.overall.derived.keys() == {"perplexity", "bits"}
    with pytest.raises(ScoreError, match="3 input columns and 2 columns to compare; the numbers must be equal"):
        score(tmp_path, "cross_entropy", input="one", target="label", compare="two_0,two_1")


def test_intervals_are_those_of_the_replicates(file, data):
    found = score(file, **ASKED, by="key", bootstrap=400, where="w > 0", batch_size=400)
    kept = data["w"] > 0
    first, second = (F.huber_loss(data[name], data["y"], reduction="none")[kept] for name in "ab")
    replicates = found.compared.second.bootstrap - found.result.bootstrap
    assert replicates.standard_error == pytest.approx(found.compared.difference.standard_error, rel=0.15)
    assert found.result.bootstrap.standard_error == pytest.approx(found.overall.standard_error, rel=0.15)
    lower, upper = replicates.interval()
    assert lower < found.compared.difference.mean < upper
    # The rows are drawn by their numbers in the file, from a start that is the file's.
    from lossrs.scoring.columns import Batch
    from lossrs.scoring.comparison import drawn_by

    batch = Batch(file, kept.sum(), 0, 0, 0, {}, {}, file, ROWS, kept=np.flatnonzero(kept))
    total = Accumulator(lossrs.HuberLoss(), bootstrap=400)
    total.update_losses(first, cluster=drawn_by(batch))
    assert (total.result().bootstrap.sums == found.result.bootstrap.sums).all()
    total = Accumulator(lossrs.HuberLoss(), bootstrap=400)
    total.update_losses(second.astype(float) - first, cluster=drawn_by(batch))
    np.testing.assert_allclose(total.result().interval(), (lower, upper), rtol=1e-9)


def test_what_is_printed(file, monkeypatch, capsys):
    monkeypatch.chdir(file.parent)

    def run(*arguments):
        status = main(["score", file.name, *COMMAND, "-q", *arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    figures = {
        "second_mean": lambda of: of.second.mean,
        "second_standard_error": lambda of: of.second.standard_error,
        "difference": lambda of: of.difference.mean,
        "difference_standard_error": lambda of: of.difference.standard_error,
        "win_rate": lambda of: of.wins.mean,
    }
    compared = score(file.name, **ASKED, bootstrap=50, by="key").compared
    status, out, _ = run("--json", "--bootstrap", "50", "--by", "key")
    printed = json.loads(out)
    VALIDATOR.validate(printed)
    assert status == 0
    for name, of in figures.items():
        assert printed[name] == of(compared)
    found = score(file.name, **ASKED, bootstrap=50, by="key")
    replicates = found.compared.second.bootstrap - found.result.bootstrap
    assert (printed["difference_lower"], printed["difference_upper"]) == replicates.interval()
    assert (printed["mean_lower"], printed["mean_upper"]) == found.overall.interval()
    assert (printed["second_mean_lower"], printed["second_mean_upper"]) == compared.second.interval()
    for group in printed["groups"]:
        assert group["difference"] == compared.difference.groups[group["group"]].mean
        assert (group["mean_lower"], group["mean_upper"]) == found.groups[group["group"]].interval()
    without = json.loads(run("--json")[1])
    VALIDATOR.validate(without)
    assert not [name for name in without if name.endswith(("_lower", "_upper"))]
    assert {"difference", "win_rate"} < set(without)
    for form in ("table", "csv", "markdown"):
        assert "difference" in run("--format", form)[1]
        assert "win" not in main_of_one(file, form, capsys)
    nobody = json.loads(run("--json", "--bootstrap", "9", "--by", "key", "--where", "w > 99")[1])
    VALIDATOR.validate(nobody)
    assert nobody["groups"] == []
    assert nobody["difference"] == nobody["difference_lower"] == "NaN"


def main_of_one(file, form, capsys):
    main(["score", file.name, *COMMAND[:6], "-q", "--format", form])
    return capsys.readouterr().out


def test_conditions(file, capsys):
    def run(*arguments):
        status = main(["score", str(file), *COMMAND, "-q", *arguments])
        return status, capsys.readouterr().err

    assert run("--bootstrap", "50", "--fail-if", "difference_lower > 0 or win_rate < 0.4") == (0, "")
    status, error = run("--by", "key", "--fail-if", "any(difference < 1)")
    assert status == 1
    assert "difference = " in error
    status, error = run("--fail-if", "mean_lower > 0")
    assert (status, "no figure 'mean_lower'" in error) == (2, True)


def test_states_tell_the_same(tmp_path, file, capsys):
    asked = ASKED | {"bootstrap": 30, "by": "key"}
    whole = score(file, **asked, save=tmp_path / "whole.state")
    for share in (1, 2):
        score(file, **asked, shard=(share, 2), save=tmp_path / f"{share}.state")
    merge([tmp_path / "2.state", tmp_path / "1.state"]).save(tmp_path / "merged.state")
    assert (tmp_path / "merged.state").read_bytes() == (tmp_path / "whole.state").read_bytes()
    printed = []
    for state in ("whole.state", "merged.state"):
        assert main(["merge", str(tmp_path / state), "-q", "--json", "--fail-if", "difference_upper > 9"]) == 0
        printed.append({name: of for name, of in json.loads(capsys.readouterr().out).items() if name != "run"})
        printed[-1].pop("command")
    assert printed[0] == printed[1]
    assert printed[0]["difference"] == whole.compared.difference.mean
    score(file, **ASKED, by="key", save=tmp_path / "other.state")
    with pytest.raises(ScoreError, match="bootstrap 0, not 30"):
        merge([tmp_path / "whole.state", tmp_path / "other.state"])
    score(file, "huber_loss", input="a", target="y", by="key", bootstrap=30, save=tmp_path / "other.state")
    with pytest.raises(ScoreError, match="columns input=a, target=y, not input=a, target=y, compare=b"):
        merge([tmp_path / "whole.state", tmp_path / "other.state"])


ERRORS = {
    "a column that is missing": ({"compare": "c"}, "no column 'c'"),
    "too many replicates": ({"bootstrap": 10**6}, "the bootstrap has between 0 and 100000 replicates, got 1000000"),
    "fewer than none": ({"bootstrap": -1}, "got -1"),
    "words": ({"compare": "key"}, "column 'key' holds string; numbers are needed"),
    "several columns": ({"compare": "a,b"}, "1 input columns and 2 columns to compare"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors(file, case):
    changes, message = ERRORS[case]
    with pytest.raises(ScoreError, match=message):
        score(file, **ASKED | changes)


def test_bad_values_of_the_second_are_said_to_be_its_own(tmp_path, data):
    p = {"p": np.full(9, 0.5), "q": np.r_[np.full(8, 0.5), 1.5], "y": np.zeros(9)}
    pq.write_table(pa.table(p), tmp_path / "table.parquet")
    with pytest.raises(ScoreError, match=r"column 'q': 1\.5 at row 8 is outside the domain"):
        score(tmp_path, "binary_cross_entropy", input="p", target="y", compare="q")
    with pytest.raises(ScoreError, match="has no input that a second model's could be compared with"):
        score(tmp_path, "margin_ranking_loss", input1="p", input2="q", target="y", compare="p")
