"""The command ``lossrs``, run as a process: exit status, what it prints, and what it leaves behind."""

import dataclasses
import json
import os
import pty
import resource
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import lossrs
import lossrs.functional as F
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

TIMEOUT = 60
ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS")}


def run(*arguments, cwd=None, preexec_fn=None, **environment):
    return subprocess.run(
        [sys.executable, "-m", "lossrs", *map(str, arguments)],
        cwd=cwd,
        env=ENVIRONMENT | environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
        preexec_fn=preexec_fn,
    )


@pytest.fixture
def file(tmp_path):
    random = np.random.default_rng(0)
    columns = {f"logit_{index}": random.normal(size=300).astype(np.float32) for index in range(3)}
    columns |= {
        "label": random.integers(0, 3, 300),
        "w": random.random(300),
        "country": random.choice(["de", "fr"], 300),
    }
    pq.write_table(pa.table(columns), tmp_path / "table.parquet")
    return tmp_path / "table.parquet"


CLASSES = ("--loss", "cross_entropy", "--input", "logit_*", "--target", "label")


def expected_losses(file, **options):
    table = pq.read_table(file)
    logits = np.stack([table[f"logit_{index}"].to_numpy() for index in range(3)], axis=1)
    return F.cross_entropy(logits, table["label"].to_numpy(), reduction="none", **options).astype(np.float64)


def test_the_table(file):
    ran = run("score", file, *CLASSES, "--by", "country")
    assert (ran.returncode, ran.stderr) == (0, "")
    lines = [line.split() for line in ran.stdout.splitlines()]
    assert " ".join(lines[0]) == "country mean standard error perplexity bits sum rows ignored non-finite"
    assert [line[0] for line in lines[1:]] == ["de", "fr", "all"]
    losses = expected_losses(file)
    mean, error, perplexity, bits, total, *counts = lines[-1][1:]
    assert float(perplexity) == pytest.approx(np.exp(losses.mean()), rel=1e-5)
    assert float(bits) == pytest.approx(losses.mean() / np.log(2), rel=1e-5)
    assert float(mean) == pytest.approx(losses.mean(), rel=1e-7)
    assert float(error) == pytest.approx(losses.std(ddof=1) / 300**0.5, rel=1e-2)
    assert float(total) == pytest.approx(losses.sum(), rel=1e-9)
    assert counts == ["300", "0", "0"]


def test_json(file):
    options = ("--ignore-index", "2", "--weight", "0.5,1,2", "--label-smoothing", "0.1")
    ran = run("score", file, *CLASSES, *options, "--by", "country", "--json")
    assert (ran.returncode, ran.stderr) == (0, "")
    found = json.loads(ran.stdout)
    assert (found["files"], found["loss"], found["by"]) == ([str(file)], "cross_entropy", ["country"])
    assert found["options"] == {"weight": [0.5, 1.0, 2.0], "ignore_index": 2, "label_smoothing": 0.1}
    call = {"ignore_index": 2, "weight": np.array([0.5, 1, 2]), "label_smoothing": 0.1}
    assert found["sum"] == pytest.approx(expected_losses(file, **call).sum(), rel=1e-14, abs=0)
    assert found["ignored"] == np.count_nonzero(pq.read_table(file)["label"].to_numpy() == 2)
    assert [group["group"] for group in found["groups"]] == ["de", "fr"]
    assert sum(group["rows"] for group in found["groups"]) == found["rows"] == 300
    losses = expected_losses(file, **call | {"ignore_index": -100})
    counted = np.where(pq.read_table(file)["label"].to_numpy() == 2, -1, losses)
    assert found["maximum_row"] == {"file": str(file), "row": np.argmax(counted)}


def test_json_of_numbers_that_are_not_finite(tmp_path):
    key = pa.array([1, 2, None])
    pq.write_table(pa.table({"x": [np.inf, np.nan, 1.0], "y": [0.0] * 3, "key": key}), tmp_path / "table.parquet")
    arguments = ("--loss", "l1_loss", "--input", "x", "--target", "y", "--by", "key", "--json")
    ran = run("score", tmp_path / "table.parquet", *arguments)
    found = json.loads(ran.stdout, parse_constant=pytest.fail)
    assert (found["mean"], found["nonfinite"]) == ("NaN", 2)
    assert [group["mean"] for group in found["groups"]] == ["Infinity", "NaN", 1.0]
    assert [group["group"] for group in found["groups"]] == [1, 2, None]


def test_the_class_name_means_the_loss_too(file):
    by_class = run("score", file, "--loss", "CrossEntropyLoss", *CLASSES[2:])
    assert by_class.returncode == 0
    assert by_class.stdout == run("score", file, *CLASSES).stdout


def test_the_installed_command():
    command = Path(sys.executable).with_name("lossrs")
    ran = subprocess.run([command, "--version"], capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert (ran.returncode, ran.stdout) == (0, f"lossrs {lossrs.__version__}\n")


def test_losses_lists_every_loss_with_its_options():
    ran = run("losses")
    assert ran.returncode == 0
    lines = {line.split()[0]: line.split() for line in ran.stdout.splitlines()}
    assert list(lines) == list(lossrs.losses)
    for name, cls in lossrs.losses.items():
        assert lines[name][1] == cls.__name__
        options = [
            "--" + field.name.replace("_", "-") for field in dataclasses.fields(cls) if field.name != "reduction"
        ]
        assert [word for word in lines[name][2:] if word.startswith("--")] == options


def test_info():
    ran = run("info")
    assert ran.returncode == 0
    for value in (lossrs.__version__, lossrs.instruction_set(), str(lossrs.get_num_threads())):
        assert value in ran.stdout.split()


def test_help_shows_the_options_of_the_loss():
    assert "\noptions of" not in run("score", "--help").stdout
    for name, cls in lossrs.losses.items():
        ran = run("score", "--loss", name, "--help")
        assert ran.returncode == 0
        for field in dataclasses.fields(cls):
            assert (f"--{field.name.replace('_', '-')} " in ran.stdout) == (field.name != "reduction")


@pytest.mark.parametrize("missing", ["pyarrow", "rich"])
def test_without_the_extra(file, tmp_path, missing):
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / f"{missing}.py").write_text(f"raise ImportError('no {missing}')")
    path = {"PYTHONPATH": os.pathsep.join([str(tmp_path / "path"), *filter(None, [os.environ.get("PYTHONPATH")])])}
    np.savez(tmp_path / "arrays.npz", x=np.ones(3), y=np.zeros(3))
    for arguments in (["info"], ["losses"], ["score", tmp_path / "arrays.npz", *XY]):
        assert run(*arguments, **path).returncode == 0
    if missing == "pyarrow":
        assert_error(
            run("score", file, *CLASSES, **path), "reading .parquet needs pyarrow: pip install 'lossrs[score]'"
        )
        ran = run("score", tmp_path / "arrays.npz", *XY, "--per-sample", tmp_path / "out.csv", **path)
        assert_error(ran, "writing .csv needs pyarrow: pip install 'lossrs[score]'")


XY = ("--loss", "mse_loss", "--input", "x", "--target", "y")


def assert_error(ran, message):
    assert (ran.returncode, ran.stdout) == (2, "")
    assert message in ran.stderr
    assert len(ran.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["scor"], "invalid choice: 'scor'"),
        (["score"], "the following arguments are required: FILE, --loss, --input, --target"),
        (["score", "table.parquet", "--loss"], "argument --loss: expected one argument"),
        (["score", "none.parquet", *CLASSES], "none.parquet: no such file"),
        (["score", "table.parquet", *CLASSES[2:], "--loss", "cros_entropy"], "did you mean 'cross_entropy'"),
        (["score", "table.parquet", *CLASSES[2:], "--loss", "nothing"], "no loss 'nothing'; see `lossrs losses`"),
        (["score", "table.parquet", *CLASSES, "--target", "lable"], "no column 'lable' (did you mean 'label'?)"),
        (["score", "table.parquet", *CLASSES, "--target", "country"], "column 'country' holds string"),
        (["score", "table.parquet", *CLASSES, "--delta", "2"], "unrecognized arguments: --delta 2"),
        (["score", "table.parquet", *CLASSES, "--label-smoothing", "much"], "--label-smoothing: invalid float value"),
        (["score", "table.parquet", *CLASSES, "--weight", "1,x"], "argument --weight: '1,x' is not a list of numbers"),
        (["score", "table.parquet", *CLASSES, "--label-smoothing", "2"], "cross_entropy: "),
        (["score", "table.parquet", *CLASSES, "--batch-size", "0"], "the batch size must be at least 1, got 0"),
        (["score", "table.parquet", *CLASSES, "--per-sample", "table.parquet"], "it is not overwritten"),
    ],
)
def test_an_error_is_one_line_and_status_2(file, arguments, message):
    assert_error(run(*arguments, cwd=file.parent), message)
    assert [path.name for path in file.parent.iterdir()] == ["table.parquet"]


def no_large_files():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))


@pytest.mark.parametrize("ending", ["npy", "parquet", "arrow", "csv"])
@pytest.mark.parametrize("trouble", ["disk full", "bad label"])
def test_nothing_partial_is_left_after_an_error(tmp_path, ending, trouble):
    random = np.random.default_rng(0)
    label = np.zeros(100_000, np.int8)
    label[90_000] = 5 if trouble == "bad label" else 0
    np.savez(tmp_path / "table.npz", x=random.random((100_000, 2)), label=label)
    output = tmp_path / f"losses.{ending}"
    output.write_bytes(b"before")
    arguments = ("--loss", "cross_entropy", "--input", "x", "--target", "label", "--batch-size", "5000")
    limit = no_large_files if trouble == "disk full" else None
    ran = run("score", tmp_path / "table.npz", *arguments, "--per-sample", output, preexec_fn=limit)
    message = {"disk full": "cannot be written: File too large", "bad label": "label 5 at row 90000 is outside [0, 2)"}
    assert_error(ran, message[trouble])
    assert output.read_bytes() == b"before"
    assert sorted(path.name for path in tmp_path.iterdir()) == [output.name, "table.npz"]


def test_per_sample(file, tmp_path):
    ran = run("score", file, *CLASSES, "--per-sample", "losses.npy", cwd=tmp_path)
    assert (ran.returncode, ran.stderr) == (0, "")
    np.testing.assert_array_equal(np.load(tmp_path / "losses.npy"), expected_losses(file).astype(np.float32))


@pytest.fixture
def long_job(tmp_path):
    """Arguments that keep the command busy for minutes."""
    np.save(tmp_path / "table.npy", np.zeros((2_000_000, 2), np.float32))
    return [
        "score",
        str(tmp_path / "table.npy"),
        "--loss",
        "mse_loss",
        "--input",
        "0",
        "--target",
        "1",
        "--batch-size",
        "1",
    ]


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_leaves_nothing_behind(tmp_path, long_job, sent, status):
    command = [sys.executable, "-m", "lossrs", *long_job, "--per-sample", "losses.npy"]
    process = subprocess.Popen(command, cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + TIMEOUT
    while not any(path.stat().st_size for path in tmp_path.glob(".losses.npy*")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(sent)
    stdout, stderr = process.communicate(timeout=TIMEOUT)
    assert (process.returncode, stdout, stderr) == (status, b"", b"")
    assert [path.name for path in tmp_path.iterdir()] == ["table.npy"]


def test_a_closed_pipe_is_quiet(file):
    command = [sys.executable, "-m", "lossrs", "score", str(file), *CLASSES]
    with subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def on_a_terminal(arguments, until, **environment):
    """Return what the command writes to a terminal, up to where `until` is found or to its end."""
    main, terminal = pty.openpty()
    environment = ENVIRONMENT | {"TERM": "xterm-256color", "COLUMNS": "120"} | environment
    process = subprocess.Popen(
        [sys.executable, "-m", "lossrs", *map(str, arguments)],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env=environment,
    )
    os.close(terminal)
    written, deadline = b"", time.monotonic() + TIMEOUT
    while time.monotonic() < deadline and until not in written:
        if select.select([main], [], [], 0.1)[0]:
            try:
                written += os.read(main, 65_536)
            except OSError:  # the other end is closed
                break
    process.terminate()
    process.wait(TIMEOUT)
    os.close(main)
    return written.decode()


def test_a_progress_bar_on_a_terminal(long_job):
    assert "rows" in on_a_terminal(long_job, b" rows")


def test_the_table_on_a_terminal(file):
    shown = on_a_terminal(["score", file, *CLASSES, "--by", "country"], b"never")
    assert "─" in shown
    assert "rows" in shown
    assert "\x1b[" in shown
    assert "\x1b[" not in on_a_terminal(["score", file, *CLASSES], b"never", NO_COLOR="1", TERM="dumb")


@pytest.mark.parametrize("format", ["table", "json"])
def test_a_full_disk_is_an_error(file, format):
    for command in (["score", file, *CLASSES, "--format", format], ["losses"]):
        with Path("/dev/full").open("w") as full:
            ran = subprocess.run(
                [sys.executable, "-m", "lossrs", *map(str, command)],
                stdout=full,
                stderr=subprocess.PIPE,
                timeout=TIMEOUT,
                check=False,
            )
        assert ran.returncode == 2
        assert ran.stderr.count(b"\n") == 1
        assert b"No space left on device" in ran.stderr


@pytest.mark.parametrize(("condition", "status"), [("rows > 0", 1), ("rows < 0", 0)])
@pytest.mark.parametrize("closed", [1, 2])
def test_closed_streams(file, closed, condition, status):
    ran = run("score", file, *CLASSES, "--fail-if", condition, preexec_fn=lambda: os.close(closed))
    assert ran.returncode == status
    assert ran.stdout == "" if closed == 1 else "300" in ran.stdout
    assert run("score", "-", *CLASSES, preexec_fn=lambda: os.close(0)).returncode == 2


def test_a_fault_is_no_condition_that_holds(file, tmp_path):
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "pyarrow.py").write_text("raise RuntimeError('a fault')")
    path = os.pathsep.join([str(tmp_path / "path"), *filter(None, [os.environ.get("PYTHONPATH")])])
    ran = run("score", file, *CLASSES, PYTHONPATH=path)
    assert ran.returncode == 70
    assert "RuntimeError: a fault" in ran.stderr


@pytest.mark.parametrize("format", ["table", "json", "csv", "markdown"])
def test_names_that_the_terminal_cannot_show(tmp_path, format):
    name = os.fsdecode(b"\xff.npz")
    np.savez(tmp_path / name, g=np.array(["\N{LATIN SMALL LETTER E WITH ACUTE}"]), x=np.ones(1), y=np.zeros(1))
    asked = ("score", name, *XY, "--by", "g", "--format", format, "--worst", "1", "worst.json", "--fail-if", "mean > 3")
    ran = run(*asked, cwd=tmp_path, PYTHONIOENCODING="ascii")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "e9" in ran.stdout
    assert json.loads((tmp_path / "worst.json").read_text("utf-8"))[0]["file"] == "\N{REPLACEMENT CHARACTER}.npz"
    if format == "json":
        assert json.loads(ran.stdout)["groups"][0]["group"] == "\N{LATIN SMALL LETTER E WITH ACUTE}"
    assert run(*asked, cwd=tmp_path, PYTHONIOENCODING="utf-8").returncode == 0
