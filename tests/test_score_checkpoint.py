"""``--checkpoint``: runs that are killed, interrupted or fail, and go on to the bits of one that was not."""

import json
import os
import random as random_module
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lossrs.scoring import ScoreError, score
from lossrs.scoring.checkpoint import interruptible, undisturbed

TIMEOUT = 100
ROWS = 40_000
random = np.random.default_rng(0)
COLUMNS = {
    "x": random.normal(size=(ROWS, 3)).astype(np.float32).round(1),
    "y": random.integers(0, 3, ROWS),
    "w": random.random(ROWS).round(1),
    "key": random.integers(0, 5, ROWS),
}
PIECES = [slice(0, 300), slice(300, 300), slice(300, 15_000), slice(15_000, 15_400), slice(15_400, ROWS)]
ASKED = {"input": "x", "target": "y", "sample_weight": "w", "by": "key", "histogram": True, "worst": 5}


def write(path, rows=slice(None), **other):
    columns = {name: column[rows] for name, column in (COLUMNS | other).items()}
    if path.suffix == ".npz":
        np.savez(path, **columns)
        return path
    columns["x"] = pa.FixedSizeListArray.from_arrays(columns["x"].ravel(), 3)
    table = pa.table(columns)
    if path.suffix == ".parquet":
        pq.write_table(table, path, row_group_size=4_000)
    elif path.suffix == ".csv":
        x = {f"x{index}": COLUMNS["x"][rows, index] for index in range(3)}
        pyarrow.csv.write_csv(pa.table(x | {name: columns[name] for name in ("y", "w", "key")}), path)
    else:
        with pa.ipc.new_file(path, table.schema) as file:
            file.write_table(table, max_chunksize=3_000)
    return path


def files(folder, ending):
    folder.mkdir(exist_ok=True)
    return [write(folder / f"{index}.{ending}", rows) for index, rows in enumerate(PIECES)]


def scored(folder, **asked):
    """Return what scoring saves."""
    state = folder.parent / "state"
    # The same model twice: that there are two is what matters.
    asked = ASKED | {"loss": "cross_entropy", "save": state, "compare": "x", "bootstrap": 2} | asked
    if list(folder.glob("*.csv")):
        asked["input"] = asked["compare"] = "x*"
    score(folder, **asked)
    return state.read_bytes()


def stopping(after, error=KeyboardInterrupt):
    """Return a function that is called after each batch, and raises."""
    calls = iter(range(after + 1))

    def progress(*_):
        if next(calls) == after:
            raise error

    return progress


def noting(seen):
    """Return a function that is called after each batch, and notes how far it is."""
    return lambda rows, of, mean: seen.append((rows, of))


@pytest.mark.parametrize("ending", ["parquet", "arrow", "csv", "npz"])
@pytest.mark.parametrize("asked", [{}, {"where": "w > 0.2 and key != 4"}, {"shard": (2, 3)}], ids=str)
def test_a_run_goes_on_from_any_batch(tmp_path, ending, asked):
    data = tmp_path / "data"
    files(data, ending)
    whole = scored(data, **asked)
    checkpoint = tmp_path / "checkpoint"
    for stops in ([0, 0], [1], [2, 1], [3, 0, 1], [7]):
        for stop in stops:
            with pytest.raises(KeyboardInterrupt):
                scored(data, **asked, checkpoint=checkpoint, batch_size=900, progress=stopping(stop))
            assert checkpoint.exists()
        seen: list[tuple[int, int | None]] = []
        assert scored(data, **asked, checkpoint=checkpoint, batch_size=1_300, progress=noting(seen)) == whole
        assert [rows for rows, _ in seen] == sorted({rows for rows, _ in seen})
        assert all(of is None or rows <= of for rows, of in seen)
        # It is complete: nothing is read again.
        assert scored(data, **asked, checkpoint=checkpoint, progress=stopping(0)) == whole
        checkpoint.unlink()


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(0, 6), max_size=4), st.integers(900, 20_000))
def test_any_stops_end_in_the_same_bits(tmp_path_factory, stops, batch_size):
    tmp_path = tmp_path_factory.mktemp("stops")
    data, checkpoint = tmp_path / "data", tmp_path / "checkpoint"
    files(data, "parquet")
    whole = scored(data)
    for stop in stops:
        try:
            scored(data, checkpoint=checkpoint, checkpoint_seconds=0, batch_size=batch_size, progress=stopping(stop))
        except KeyboardInterrupt:
            continue
    assert scored(data, checkpoint=checkpoint, batch_size=batch_size) == whole


def test_a_file_that_was_mended_is_read_anew_and_no_other(tmp_path):
    data, checkpoint = tmp_path / "data", tmp_path / "checkpoint"
    paths = files(data, "parquet")
    whole = scored(data)
    wrong = COLUMNS["y"].copy()
    wrong[12_345] = 9
    write(paths[2], PIECES[2], y=wrong)
    for _ in range(2):
        with pytest.raises(ScoreError, match=r"2\.parquet: column 'y': label 9 at row 12045 is outside \[0, 3\)"):
            scored(data, checkpoint=checkpoint, batch_size=1_000)
    write(paths[2], PIECES[2])
    write(paths[4], PIECES[4])  # has not been begun: it may change
    seen = []
    assert scored(data, checkpoint=checkpoint, progress=lambda done, *_: seen.append(done)) == whole
    assert seen[0] > 300  # the first file was not read again


def test_what_is_not_the_same_run_is_refused(tmp_path):
    data, checkpoint = tmp_path / "data", tmp_path / "checkpoint"
    paths = files(data, "parquet")

    state = scored(data)

    def stop(**asked):
        with pytest.raises(KeyboardInterrupt):
            scored(data, **{"checkpoint": checkpoint, "batch_size": 1_000, "progress": stopping(5)} | asked)

    def refused(message, **asked):
        before = checkpoint.read_bytes()
        with pytest.raises(ScoreError, match=message) as raised:
            scored(data, checkpoint=checkpoint, **asked)
        assert "\n" not in str(raised.value)
        assert checkpoint.read_bytes() == before

    stop()
    refused("of loss cross_entropy, not softmax_focal_loss; without this file", loss="softmax_focal_loss")
    refused("of options .*, not .*label_smoothing=0.5", options={"label_smoothing": 0.5})
    refused("of by key, not none", by=[])
    refused("of where none, not key > 1", where="key > 1")
    refused("of shard 1/1, not 1/2", shard=(1, 2))
    refused("--checkpoint and --per-sample do not go together", per_sample=tmp_path / "losses.npy")
    before = paths[0].stat()
    os.utime(paths[0], ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    refused("checkpoint: .*0.parquet has changed since")
    os.utime(paths[0], ns=(before.st_atime_ns, before.st_mtime_ns))
    write(data / "00.parquet", PIECES[0])
    refused("checkpoint: is a checkpoint of other files: .*1.parquet")
    (data / "00.parquet").unlink()
    paths[1].rename(tmp_path / "away")
    refused("checkpoint: is a checkpoint of other files: .*1.parquet")
    (tmp_path / "away").rename(paths[1])
    # Of a share all files must be as they were, because they decide where it is cut.
    checkpoint.unlink()
    stop(shard=(1, 2), progress=stopping(0))
    os.utime(paths[4])
    refused("checkpoint: .*4.parquet has changed since", shard=(1, 2))
    checkpoint.unlink()
    stop()
    good = checkpoint.read_bytes()
    for damaged, message in (
        (good[:-1], "is cut short|is damaged"),
        (good[: len(good) // 2], "is cut short"),
        (good[:100] + bytes([good[100] ^ 1]) + good[101:], "is damaged"),
        (good.replace(b"checkpoint\n\1", b"checkpoint\n\7", 1), "is of version 7; this lossrs reads version 1"),
        (b"other", "is a file of another kind, not a checkpoint"),
        (state, "is a state, not a checkpoint"),
    ):
        checkpoint.write_bytes(damaged)
        refused(message)
    checkpoint.write_bytes(good)
    assert scored(data, checkpoint=checkpoint) == state


def test_lists_of_another_length_after_the_stop(tmp_path):
    data, checkpoint = tmp_path / "data", tmp_path / "checkpoint"
    paths = files(data, "parquet")
    values = pa.FixedSizeListArray.from_arrays(np.zeros(40, np.float32), 4)
    pq.write_table(pa.table({"x": values, "y": [0] * 10, "w": [1.0] * 10, "key": [0] * 10}), paths[4])
    with pytest.raises(KeyboardInterrupt):
        scored(data, checkpoint=checkpoint, batch_size=400, progress=stopping(37))
    assert b'"path": null' in checkpoint.read_bytes() or b"3.parquet" in checkpoint.read_bytes()
    with pytest.raises(ScoreError, match=r"4\.parquet: column 'x' holds 4 values at row 0, in the first row 3 values"):
        scored(data, checkpoint=checkpoint)


def test_interrupts_wait_for_what_is_done_wholly():
    done = []
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012
        with undisturbed():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
            done.append(1)
        done.append(2)
    assert done == [1]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_interrupts_wait_to_be_looked_for_but_not_twice():
    done = []
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012
        with interruptible() as look:
            look()
            os.kill(os.getpid(), signal.SIGINT)
            done.append(1)
            look()
        done.append(2)
    with pytest.raises(KeyboardInterrupt), interruptible():  # noqa: PT012
        os.kill(os.getpid(), signal.SIGINT)
        done.append(3)
        os.kill(os.getpid(), signal.SIGINT)
        done.append(4)
    with pytest.raises(KeyboardInterrupt), interruptible():  # noqa: PT012
        os.kill(os.getpid(), signal.SIGINT)
        done.append(5)
    assert done == [1, 3, 5]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("place", ["predictions", "Comparison.terms"])
def test_a_batch_that_fails_adds_nothing(tmp_path, monkeypatch, place):
    path, checkpoint = write(tmp_path / "table.parquet"), tmp_path / "checkpoint"
    asked = {"input": "x", "target": "y", "compare": "x", "calibration": True, "save": tmp_path / "state"}
    score(path, "cross_entropy", **asked)
    whole = (tmp_path / "state").read_bytes()

    def failing(*_):
        raise ScoreError("a fault")

    def fail(*_):
        monkeypatch.setattr(f"lossrs.scoring.state.{place}", failing)

    with pytest.raises(ScoreError, match="a fault"):
        score(path, "cross_entropy", **asked, checkpoint=checkpoint, batch_size=900, progress=fail)
    monkeypatch.undo()
    score(path, "cross_entropy", **asked, checkpoint=checkpoint)
    assert (tmp_path / "state").read_bytes() == whole


# Real processes.

SCORE = "--loss cross_entropy --input x --target y --sample-weight w --by key --quantiles 0.5 --json -q"


def command(*arguments):
    return [sys.executable, "-m", "lossrs", "score", "data", *SCORE.split(), *map(str, arguments)]


def figures(output):
    document = json.loads(output)
    return {name: value for name, value in document.items() if name not in ("command", "run")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("killed")
    files(folder / "data", "parquet")
    ran = subprocess.run(command("--save", "whole"), cwd=folder, capture_output=True, check=True, timeout=TIMEOUT)
    return folder, figures(ran.stdout), (folder / "whole").read_bytes()


def written(path):
    """Return when a file was written; None if there is none."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return None


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM, None], ids=str)
def test_a_process_that_is_ended_at_any_moment_goes_on(folder, sent, seed):
    folder, expected, whole = folder
    choice, checkpoint = random_module.Random(seed), folder / "checkpoint"
    arguments = ["--batch-size", "10", "--checkpoint", checkpoint, "--checkpoint-seconds", "0.01", "--save", "state"]
    ended = 0
    while True:
        process = subprocess.Popen(command(*arguments), cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if ended < 5:
            # After it has written a few times, which tells that it is in the midst of it.
            before, writes = written(checkpoint), choice.randint(1, 6)
            while process.poll() is None and writes:
                now = written(checkpoint)
                writes -= now not in (before, None)
                before = now
            time.sleep(choice.uniform(0, 0.03))
            process.send_signal(sent or choice.choice([signal.SIGKILL, signal.SIGINT, signal.SIGTERM]))
        output, error = process.communicate(timeout=TIMEOUT)
        assert error == b""
        if output:
            break
        ended += 1
        assert process.returncode in (-signal.SIGKILL, 130, 143)
    assert ended > 0
    assert figures(output) == expected
    assert (folder / "state").read_bytes() == whole
    if process.returncode == 0:  # it may have been killed after it had printed
        assert [path.name for path in folder.iterdir() if "checkpoint" in path.name] == []
    checkpoint.unlink(missing_ok=True)
    (folder / "state").unlink()


def test_what_ends_without_a_stop_leaves_no_checkpoint(folder):
    folder, expected, _ = folder
    ran = subprocess.run(command("--checkpoint", "new"), cwd=folder, capture_output=True, timeout=TIMEOUT, check=True)
    assert figures(ran.stdout) == expected
    assert not list(folder.glob("*new*"))
    (folder / "link").symlink_to("elsewhere")
    subprocess.run(command("--checkpoint", "link"), cwd=folder, capture_output=True, timeout=TIMEOUT, check=True)
    assert not (folder / "elsewhere").exists()
    (folder / "link").unlink()


def test_standard_input_has_no_checkpoint(tmp_path):
    arguments = [sys.executable, "-m", "lossrs", "score", "-", *SCORE.split(), "--checkpoint", "checkpoint"]
    stream = pa.BufferOutputStream()
    table = pa.table(
        {"x": pa.FixedSizeListArray.from_arrays(np.zeros(9), 3), "y": [0] * 3, "w": [0] * 3, "key": [0] * 3}
    )
    with pa.ipc.new_stream(stream, table.schema) as writer:
        writer.write_table(table)
    ran = subprocess.run(
        arguments, cwd=tmp_path, input=stream.getvalue().to_pybytes(), capture_output=True, timeout=TIMEOUT, check=False
    )
    assert ran.returncode == 2
    assert ran.stderr == b"lossrs: error: checkpoint: standard input cannot be read again, and so has no checkpoint\n"
    assert list(tmp_path.iterdir()) == []
