"""``--save`` and ``lossrs merge``: states of parts make what the whole makes, to the bit, or are refused."""

import dataclasses
import io
import itertools
import json
import struct
import subprocess
import sys
import zlib

import lossrs
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lossrs.scoring import ScoreError, State, merge, score

ROWS = 1_000
PIECES = [slice(0, 300), slice(300, 310), slice(310, 310), slice(310, 700), slice(700, ROWS)]
random = np.random.default_rng(0)
COLUMNS = {
    "x": random.normal(size=ROWS).astype(np.float32).round(1),  # so that losses are equal, and rows decide
    "x2": random.normal(size=ROWS).astype(np.float32).round(1),
    "y": np.zeros(ROWS, np.float32),
    "w": random.random(ROWS).round(1),
    "key": random.integers(0, 5, ROWS),
    "name": random.choice(["a", "item 2", "item 10"], ROWS),
}
ASKED = {"input": "x", "target": "y"}
ALL = {"sample_weight": "w", "by": ["key", "name"], "histogram": True, "worst": 7, "bootstrap": 5, "compare": "x2"}


def write(path, rows=slice(None)):
    table = pa.table({name: column[rows] for name, column in COLUMNS.items()})
    if path.suffix == ".parquet":
        pq.write_table(table, path, row_group_size=90)
    elif path.suffix == ".csv":
        pyarrow.csv.write_csv(table, path)
    elif path.suffix == ".arrow":
        with pa.ipc.new_file(path, table.schema) as file:
            file.write_table(table, max_chunksize=70)
    else:
        np.savez(path, **{name: column[rows] for name, column in COLUMNS.items()})
    return path


def files(folder, ending):
    folder.mkdir(exist_ok=True)
    return [write(folder / f"part-{index}.{ending}", rows) for index, rows in enumerate(PIECES)]


def saved(path, *arguments, **asked):
    """Return the state that scoring saves."""
    score(*arguments, **{"loss": "l1_loss"} | ASKED | asked, save=path)
    return path


def merged(paths, to):
    merge(paths).save(to)
    return to.read_bytes()


@pytest.mark.parametrize("ending", ["parquet", "arrow", "csv", "npz"])
@pytest.mark.parametrize("asked", [{}, ALL, ALL | {"where": "key != 3"}], ids=["plain", "all", "where"])
def test_shards_merge_to_the_whole(tmp_path, ending, asked):
    files(tmp_path / "data", ending)
    whole = saved(tmp_path / "whole", tmp_path / "data", **asked)
    shards = [saved(tmp_path / str(n), tmp_path / "data", **asked, shard=(n, 4), batch_size=31) for n in (1, 2, 3, 4)]
    assert merged(shards, tmp_path / "merged") == whole.read_bytes()
    assert merged(shards[::-1], tmp_path / "merged") == whole.read_bytes()
    merged(shards[1:3], tmp_path / "middle")
    assert merged([shards[3], tmp_path / "middle", shards[0]], tmp_path / "merged") == whole.read_bytes()
    assert merge([tmp_path / "middle"]).missing == ["1/4", "4/4"]


@pytest.mark.parametrize("ending", ["parquet", "csv"])
@pytest.mark.parametrize("asked", [{}, ALL], ids=["plain", "all"])
def test_states_of_other_files_merge_as_if_they_had_been_read_together(tmp_path, ending, asked):
    paths = files(tmp_path / "data", ending)
    whole = saved(tmp_path / "whole", tmp_path / "data", **asked)
    # Files that lie between each other's: rows are numbered anew.
    odd, even = (saved(tmp_path / str(n), paths[n::2], **asked) for n in (1, 0))
    alone = [saved(tmp_path / path.stem, path, **asked) for path in paths]
    for parts in ([odd, even], [even, odd], alone, alone[::-1]):
        assert merged(parts, tmp_path / "merged") == whole.read_bytes()
    some = [saved(tmp_path / f"{n} of 2", paths[:2], **asked, shard=(n, 2)) for n in (1, 2)]
    assert merged([alone[4], some[1], alone[2], alone[3], some[0]], tmp_path / "merged") == whole.read_bytes()
    # In two steps, of which the first leaves a share open.
    merged([alone[3], some[1]], tmp_path / "step")
    assert merge([tmp_path / "step"]).missing == ["1/2"]
    assert merged([tmp_path / "step", alone[2], some[0], alone[4]], tmp_path / "merged") == whole.read_bytes()


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 5), min_size=12, max_size=12), st.randoms(use_true_random=False))
def test_any_grouping_of_states_is_the_whole(tmp_path_factory, of, order):
    folder = tmp_path_factory.mktemp("states")
    paths = [write(folder / f"{index}.parquet", slice(80 * index, 80 * index + 80)) for index in range(12)]
    whole = saved(folder / "whole", paths, **ALL)
    states = []
    for number in set(of):
        mine = [path for path, other in zip(paths, of, strict=True) if other == number]
        states.append(saved(folder / f"state {number}", mine, **ALL))
    order.shuffle(states)
    while len(states) > 1:
        taken, states = states[:2], states[2:]
        states.append(folder / f"step {len(states)} {order.random()}")
        merged(taken, states[-1])
    assert states[0].read_bytes() == whole.read_bytes()


def test_what_a_state_tells_is_what_scoring_returns(tmp_path):
    files(tmp_path / "data", "parquet")
    found = score(tmp_path / "data", "l1_loss", **ASKED, **ALL, save=tmp_path / "state")
    state = State.load(tmp_path / "state")
    assert state.found.accumulator == found.state.found.accumulator
    rows = found.worst
    assert [row["loss"] for row in rows] == sorted(np.abs(COLUMNS["x"][COLUMNS["w"] > 0]).tolist(), reverse=True)[:7]
    again = dataclasses.replace(found, state=state)
    assert again.worst == rows
    assert again.place(found.overall.maximum_row) == found.place(found.overall.maximum_row)


def command(*arguments, cwd, input=None):
    command = [sys.executable, "-m", "lossrs", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, timeout=60, check=False, input=input)


SCORE = ("--loss", "l1_loss", "--input", "x", "--target", "y")


def test_the_command(tmp_path):
    files(tmp_path / "data", "parquet")
    asked = (*SCORE, "--by", "name", "--quantiles", "0.5,0.99", "--json", "-q")
    whole = command("score", "data", *asked, "--worst", "3", "worst.csv", cwd=tmp_path)
    for n in (1, 2):
        arguments = ("--worst", "5", f"{n}.json", "--shard", f"{n}/2", "--save", f"{n}.state")
        assert command("score", "data", *asked, *arguments, cwd=tmp_path).returncode == 0
    outputs = ("--quantiles", "0.5,0.99", "--json", "-q", "--worst", "3", "merged.csv", "--save", "both.state")
    both = command("merge", "2.state", "1.state", *outputs, cwd=tmp_path)
    assert both.stderr == whole.stderr == b""
    found, expected = (json.loads(ran.stdout) for ran in (both, whole))
    for document in (found, expected):
        document.pop("command"), document.pop("run")
    assert found == expected
    assert (tmp_path / "merged.csv").read_text() == (tmp_path / "worst.csv").read_text()
    assert command("merge", "both.state", "-q", cwd=tmp_path).stdout.splitlines()[-1].startswith(b"all ")
    assert command("merge", "both.state", "-q", "--fail-if", "rows == 1000", cwd=tmp_path).returncode == 1
    one = command("merge", "1.state", "-q", cwd=tmp_path)
    assert (one.returncode, one.stderr) == (0, b"lossrs: warning: shards 2/2 are missing\n")


def stream(rows):
    table = pa.table({name: column[rows] for name, column in COLUMNS.items()})
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def test_states_of_standard_input(tmp_path):
    whole = json.loads(command("score", "-", *SCORE, "--json", cwd=tmp_path, input=stream(slice(None))).stdout)
    for index, rows in enumerate(PIECES):
        ran = command("score", "-", *SCORE, "--save", f"{index}.state", cwd=tmp_path, input=stream(rows))
        assert ran.returncode == 0
    paths = [tmp_path / f"{index}.state" for index in range(len(PIECES))]
    found = {
        merged(order, tmp_path / "merged") for order in itertools.islice(itertools.permutations(paths), 0, 120, 17)
    }
    assert len(found) == 1
    figures = json.loads(command("merge", *paths, "--json", cwd=tmp_path).stdout)
    assert (figures["mean"], figures["sum"], figures["rows"]) == (whole["mean"], whole["sum"], ROWS)
    with pytest.raises(ScoreError, match=r"4\.state: has rows of the same standard input that .*merged has too"):
        merge([tmp_path / "merged", paths[4]])


def with_version(data, version):
    """Return a state of another version, its checksum right."""
    at = data.index(b"\n") + 1
    data = data[:at] + struct.pack("<I", version) + data[at + 4 : -4]
    return data + struct.pack("<I", zlib.crc32(data))


REFUSED = {
    "another loss": ({"loss": "mse_loss"}, "b: is of loss mse_loss, not l1_loss as in .*a"),
    "other options": (
        {"loss": "huber_loss", "options": {"delta": 2.0}},
        "b: is of options delta=2.0.*, not delta=1.0.* as in",
    ),
    "other columns": ({"input": "w"}, "b: is of columns input=w, target=y, not input=x, target=y as in"),
    "weights": ({"sample_weight": "w"}, "b: is of columns .*sample_weight=w, not"),
    "other groups": ({"by": "key"}, "b: is of by key, not none as in"),
    "another filter": ({"where": "key > 1"}, "b: is of where key > 1, not none as in"),
    "histograms": ({"histogram": True}, "b: is of histogram True, not False as in"),
    "more of the worst": ({"worst": 3}, "b: is of worst 3, not 0 as in"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_states_of_other_questions_are_refused(tmp_path, case):
    asked, message = REFUSED[case]
    first, second = files(tmp_path / "data", "parquet")[:2]
    of_first = {"loss": "huber_loss"} if case == "other options" else {}
    paths = [saved(tmp_path / "a", first, **of_first), saved(tmp_path / "b", second, **asked)]
    with pytest.raises(ScoreError, match=message) as raised:
        merge(paths)
    assert "\n" not in str(raised.value)
    merge([paths[0]])
    merge([paths[1]])


def test_rows_count_once(tmp_path):
    paths = files(tmp_path / "data", "parquet")
    whole, one = saved(tmp_path / "whole", paths), saved(tmp_path / "one", paths[3])
    shards = [saved(tmp_path / f"{n} of 3", paths, shard=(n, 3)) for n in (1, 2, 3)]
    half = saved(tmp_path / "1 of 2", paths, shard=(1, 2))
    two = tmp_path / "two"
    merged(shards[:2], two)
    for states, message in (
        ([shards[0], shards[1], shards[0]], "1 of 3: has the shard 1/3 that .*1 of 3 has too"),
        ([two, shards[1]], "2 of 3: has the shard 2/3 that .*two has too"),
        ([whole, whole], "whole: has rows of .*part-0.parquet that .*whole has too"),
        ([whole, one], "one: has rows of .*part-3.parquet that .*whole has too"),
        ([one, whole], "whole: has rows of .*part-3.parquet that .*one has too"),
        ([whole, shards[2]], "3 of 3: has rows of .*part-0.parquet that .*whole has too"),
        ([shards[2], half], "1 of 2: has rows of .*part-0.parquet that .*3 of 3 has too"),
        ([shards[1], one], "one: has rows of .*part-3.parquet that .*2 of 3 has too"),
    ):
        with pytest.raises(ScoreError, match=message):
            merge(states)


def test_a_file_is_one_by_whatever_name(tmp_path, monkeypatch):
    path = write(tmp_path / "table.parquet")
    (tmp_path / "link.parquet").symlink_to(path)
    monkeypatch.chdir(tmp_path)
    assert score([path, "link.parquet", "table.parquet"], "l1_loss", **ASKED).overall.rows == ROWS
    absolute = saved(tmp_path / "absolute", path)
    for name in ("table.parquet", "link.parquet"):
        with pytest.raises(ScoreError, match=f"other: has rows of {name}, as .*table.parquet in .*absolute"):
            merge([absolute, saved(tmp_path / "other", name)])
    write(path, slice(500))
    with pytest.raises(ScoreError, match=r"other: has rows of .*table.parquet, which has changed since .*absolute"):
        merge([absolute, saved(tmp_path / "other", path)])
    # Elsewhere the paths may be others.
    moved = tmp_path / "moved"
    moved.mkdir()
    write(path)
    first = saved(tmp_path / "1", "table.parquet", shard=(1, 2))
    path.rename(moved / path.name)
    monkeypatch.chdir(moved)
    assert merge([first, saved(tmp_path / "2", "table.parquet", shard=(2, 2))]).missing == []


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    folder = tmp_path_factory.mktemp("state")
    return saved(folder / "good", write(folder / "table.parquet"), **ALL).read_bytes()


@settings(deadline=None, max_examples=200)
@given(is_cut=st.booleans(), where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_damaged_state_is_refused(tmp_path_factory, state, is_cut, where, bit):
    path, at = tmp_path_factory.mktemp("damaged") / "bad", int(where * len(state))
    path.write_bytes(state[:at] if is_cut else state[:at] + bytes([state[at] ^ 1 << bit]) + state[at + 1 :])
    with pytest.raises(ScoreError, match=r"bad: is (cut short|damaged|of version|a file of another kind)") as raised:
        merge([path])
    assert "\n" not in str(raised.value)


def test_a_state_that_is_none_ends_the_command(tmp_path, state):
    (tmp_path / "good").write_bytes(state)
    write(tmp_path / "table.parquet")
    cases = {
        "short": (state[:-100], "bad: is cut short: it has "),
        "longer": (state + b"\0", "bad: is "),
        "newer": (with_version(state, 2), "bad: is of version 2; this lossrs reads version 1"),
        "flipped": (state[:-50] + bytes([state[-50] ^ 8]) + state[-49:], "bad: is damaged: its checksum is wrong"),
        "empty": (b"", "bad: is "),
        "accumulator": (lossrs.Accumulator(lossrs.L1Loss()).to_bytes(), "bad: is "),
        "parquet": ((tmp_path / "table.parquet").read_bytes(), "bad: is a file of another kind, not a state"),
    }
    for damaged, message in cases.values():
        (tmp_path / "bad").write_bytes(damaged)
        before = sorted(path.name for path in tmp_path.iterdir())
        ran = command("merge", "good", "bad", "--save", "out", "--worst", "2", "out.csv", cwd=tmp_path)
        assert (ran.returncode, ran.stdout) == (2, b"")
        assert ran.stderr.decode().startswith(f"lossrs: error: {message}")
        assert ran.stderr.count(b"\n") == 1
        assert sorted(path.name for path in tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["merge"], "the following arguments are required: STATE"),
        (["merge", "none"], "none: cannot be read: No such file or directory"),
        (["merge", "state", "--quantiles", "0.5"], "state: was saved without --quantiles, and so cannot tell any"),
        (["merge", "state", "--worst", "3", "out.csv"], "state: keeps the 2 worst rows; 3 are asked for"),
        (["merge", "state", "--worst", "x", "out.csv"], "argument --worst: 'x' is not a number of rows"),
        (["merge", "state", "--worst", "0", "out.csv"], "argument --worst: '0' is not a number of rows"),
        (["merge", "state", "--worst", "2", "out.npy"], "the ending '.npy' is none of .parquet, .arrow, .csv, .json"),
        (["score", "table.parquet", *SCORE, "--save", "table.parquet"], "is the file that is read"),
        (["score", "table.parquet", *SCORE, "--save", "none/state"], "cannot be written: No such file or directory"),
        (["score", "table.parquet", *SCORE, "--worst", "1", "table.parquet"], "is the file that is read"),
        (["score", "table.parquet", *SCORE, "--worst", "1", "out.txt"], "the ending '.txt' is none of"),
        (["score", "table.parquet", *SCORE, "--save", "out", "--checkpoint", "./out"], "by --save and --checkpoint"),
        (["score", "table.parquet", *SCORE, "--per-sample", "o.csv", "--worst", "1", "o.csv"], "asked for twice"),
        (["score", "table.parquet", *SCORE, "--plot", "o.svg", "--save", "o.svg"], "asked for twice"),
        (["score", "page.html.npy", *SCORE, "--report", "page.html"], "is the file that is read"),
        (["score", "table.parquet", *SCORE, "--labels", "labels", "--save", "labels"], "is the file that is read"),
        (["merge", "state", "--worst", "1", "table.parquet"], "is the file that is read"),
        (["merge", "state", "--save", "state"], "is the file that is read"),
        (["merge", "state", "--plot", "o.svg", "--save", "o.svg"], "asked for twice"),
    ],
)
def test_errors(tmp_path, arguments, message):
    write(tmp_path / "table.parquet")
    saved(tmp_path / "state", tmp_path / "table.parquet", worst=2)
    (tmp_path / "labels").write_text("a")
    (tmp_path / "page.html").write_text("")
    (tmp_path / "page.html.npy").symlink_to(tmp_path / "page.html")
    before = sorted(path.name for path in tmp_path.iterdir())
    ran = command(*arguments, cwd=tmp_path)
    assert (ran.returncode, ran.stdout) == (2, b"")
    assert message in ran.stderr.decode()
    assert ran.stderr.count(b"\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == before
