"""What is wrong with the data or the disk: one clear line, status 2, nothing half-written, nothing lost."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

TIMEOUT = 60
ROWS = 20_000
random = np.random.default_rng(0)
COLUMNS = {
    "logits": random.normal(size=(ROWS, 3)).astype(np.float32),
    "label": random.integers(0, 3, ROWS),
    "w": random.random(ROWS),
    "key": random.integers(0, 5, ROWS),
    "row": np.arange(ROWS),
}
SCORE = "--loss cross_entropy --input logits --target label --sample-weight w --by key -q --json --batch-size 500"


def write(path, **other):
    columns = COLUMNS | other
    if isinstance(columns["logits"], np.ndarray):
        columns["logits"] = pa.FixedSizeListArray.from_arrays(columns["logits"].ravel(), 3)
    columns = {name: column for name, column in columns.items() if column is not None}
    pq.write_table(pa.table(columns), path, row_group_size=5_000, compression="none", write_page_checksum=True)
    return path


def changed(values, row, value):
    """Return a column with another value in a row."""
    values = values.tolist()
    values[row] = value
    return pa.array(values)


def corrupt(path):
    """Flip a bit of a page in the third row group; the footer, which is read first, stays as it is."""
    write(path)
    column = pq.ParquetFile(path).metadata.row_group(2).column(0)
    content = bytearray(path.read_bytes())
    content[column.data_page_offset + column.total_compressed_size // 2] ^= 1
    path.write_bytes(content)


def cut(path):
    """Leave pages out, so that the footer names places that are not there."""
    write(path)
    content = path.read_bytes()
    path.write_bytes(content[:60_000] + content[-20_000:])


def lists(row, length):
    values = COLUMNS["logits"].tolist()
    values[row] = values[row] * 2 if length > 3 else values[row][:length]
    return pa.array(values, pa.list_(pa.float32()))


BAD = {
    "label": (
        lambda path: write(path, label=changed(COLUMNS["label"], 18_123, 3)),
        "17.parquet: column 'label': label 3 at row 18123 is outside [0, 3)",
    ),
    "null label": (
        lambda path: write(path, label=changed(COLUMNS["label"], 18_123, None)),
        "17.parquet: column 'label': null at row 18123; a number is needed in every row",
    ),
    "null in a list": (
        lambda path: write(
            path, logits=changed(COLUMNS["logits"], 9_999, [1.0, None, 2.0]).cast(pa.list_(pa.float32()))
        ),
        "17.parquet: column 'logits': null at row 9999; a number is needed in every row",
    ),
    "null weight": (
        lambda path: write(path, w=changed(COLUMNS["w"], 5_000, None)),
        "17.parquet: column 'w': null at row 5000; a number is needed in every row",
    ),
    "longer list": (
        lambda path: write(path, logits=lists(12_345, 6)),
        "17.parquet: column 'logits': the list at row 12345 has 6 values, the first has 3",
    ),
    "shorter list": (
        lambda path: write(path, logits=lists(12_345, 2)),
        "17.parquet: column 'logits': the list at row 12345 has 2 values, the first has 3",
    ),
    "other lists": (
        lambda path: write(path, logits=pa.FixedSizeListArray.from_arrays(np.zeros(2 * ROWS, np.float32), 2)),
        "17.parquet: column 'logits' holds 2 values at row 0, in the first row 3 values",
    ),
    "missing column": (lambda path: write(path, label=None), "17.parquet: no column 'label'; there are 'logits', "),
    "missing group": (lambda path: write(path, key=None), "17.parquet: no column 'key'"),
    "text": (
        lambda path: write(path, w=pa.array(["heavy"] * ROWS)),
        "17.parquet: column 'w' holds string; numbers are needed",
    ),
    "labels that are no whole numbers": (
        lambda path: write(path, label=pa.array(COLUMNS["label"] + 0.5)),
        "17.parquet: column 'label' holds float64, in ",
    ),
    "groups that are no keys": (
        lambda path: write(path, key=pa.array(COLUMNS["w"])),
        "17.parquet: column 'key' holds double; labels and groups are integers, strings, booleans or dates",
    ),
    "corrupt page": (corrupt, "17.parquet: cannot be read: "),
    "pages left out": (cut, "17.parquet: cannot be read: "),
    "truncated": (
        lambda path: path.write_bytes(write(path).read_bytes()[:-1_000]),
        "17.parquet: cannot be read: ",
    ),
}


def run(folder, *arguments, preexec_fn=None):
    command = [sys.executable, "-m", "lossrs", "score", "data", *SCORE.split(), *arguments]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT, check=False, preexec_fn=preexec_fn
    )


def assert_error(ran, message):
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith("lossrs: error: ")
    assert message in ran.stderr
    assert ran.stderr.count("\n") == 1


def figures(ran):
    assert (ran.returncode, ran.stderr) == (0, "")
    return {name: value for name, value in json.loads(ran.stdout).items() if name not in ("command", "run")}


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A folder of data, and what scoring it gives."""
    folder = tmp_path_factory.mktemp("good")
    (folder / "data").mkdir()
    for index in (15, 16, 17, 18):
        write(folder / "data" / f"{index}.parquet")
    return folder, figures(run(folder, "--save", "state"))


OUTPUTS = {
    "per sample": ["--per-sample", "losses.parquet"],
    "others": ["--worst", "3", "worst.csv", "--save", "state", "--checkpoint", "checkpoint"],
}


@pytest.mark.parametrize("outputs", OUTPUTS)
@pytest.mark.parametrize("case", BAD)
def test_bad_data_in_one_of_the_files(tmp_path, good, case, outputs):
    make, message = BAD[case]
    shutil.copytree(good[0] / "data", tmp_path / "data")
    make(tmp_path / "data" / "17.parquet")
    assert_error(run(tmp_path, *OUTPUTS[outputs]), message)
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left in (["data"], ["checkpoint", "data"])
    # What went before is kept: only the file that is mended is read again.
    shutil.copy(good[0] / "data" / "17.parquet", tmp_path / "data")
    assert figures(run(tmp_path, *OUTPUTS[outputs])) == good[1]
    if outputs == "others":
        assert (tmp_path / "state").read_bytes() != b""
        assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "state", "worst.csv"]


def limited(size):
    """Return a function that keeps files from becoming larger than this."""

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return limit


@pytest.mark.parametrize(
    ("output", "size"),
    [
        (["--per-sample", "out.parquet"], 20_000),
        (["--per-sample", "out.csv"], 20_000),
        (["--save", "out.state"], 500),
        (["--save", "out.state", "--worst", "100", "worst.json"], 2_000),
        (["--worst", "100", "out.json"], 2_000),
        (["--worst", "100", "out.csv"], 2_000),
        (["--worst", "100", "out.parquet"], 2_000),
        (["--worst", "100", "out.arrow"], 2_000),
        (["--checkpoint", "out.checkpoint", "--checkpoint-seconds", "0"], 1_500),
    ],
    ids=str,
)
def test_a_file_that_becomes_too_large(good, tmp_path, output, size):
    (tmp_path / "data").symlink_to(good[0] / "data")
    name = next(part for part in output if part.startswith("out."))
    if "--checkpoint" not in output:
        (tmp_path / name).write_text("before")
    assert_error(run(tmp_path, *output, preexec_fn=limited(size)), f"{name}: cannot be written: File too large")
    left = {path.name for path in tmp_path.iterdir()}
    if "--checkpoint" in output:
        assert left == {"data"}
        return
    assert left == {"data", name}
    assert (tmp_path / name).read_text() == "before"


def test_a_checkpoint_that_cannot_be_replaced_stays(good, tmp_path):
    shutil.copytree(good[0] / "data", tmp_path / "data")
    checkpoint = ["--checkpoint", "checkpoint", "--checkpoint-seconds", "0"]
    write(tmp_path / "data" / "17.parquet", label=changed(COLUMNS["label"], 10_000, 9))
    assert_error(run(tmp_path, *checkpoint), "label 9 at row 10000")
    before = (tmp_path / "checkpoint").read_bytes()
    shutil.copy(good[0] / "data" / "17.parquet", tmp_path / "data")
    ran = run(tmp_path, *checkpoint, preexec_fn=limited(len(before) // 2))
    assert_error(ran, "checkpoint: cannot be written: File too large")
    assert (tmp_path / "checkpoint").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint", "data"]
    assert figures(run(tmp_path, *checkpoint)) == good[1]


FULL_DISK = """\
set -e
mount -t tmpfs -o size=64k tmpfs disk
cd disk
set +e
"$@"
status=$?
ls -A >&2
exit $status
"""


def has_namespaces():
    ran = subprocess.run(
        ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, timeout=TIMEOUT, check=False
    )
    return ran.returncode == 0


@pytest.mark.skipif(not shutil.which("unshare") or not has_namespaces(), reason="no user namespaces to mount a disk in")
@pytest.mark.parametrize(
    "output",
    [
        ["--per-sample", "out.npy"],
        ["--per-sample", "out.parquet"],
        ["--save", "out.state", "--by", "row"],
        ["--worst", "9000", "out.csv"],
        ["--checkpoint", "out.checkpoint", "--checkpoint-seconds", "0", "--worst", "9000", "none.csv"],
    ],
    ids=str,
)
def test_a_full_disk(good, tmp_path, output):
    (tmp_path / "disk").mkdir()
    command = [sys.executable, "-m", "lossrs", "score", str(good[0] / "data"), *SCORE.split(), *output]
    shell = ["unshare", "-rm", "sh", "-c", FULL_DISK, "sh", *command]
    ran = subprocess.run(shell, cwd=tmp_path, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    name = next(part for part in output if part.startswith("out."))
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.endswith(f"{name}: cannot be written: No space left on device\n")
    assert ran.stderr.count("\n") == 1


def test_a_folder_that_cannot_be_written(good, tmp_path):
    (tmp_path / "data").symlink_to(good[0] / "data")
    for output in (["--save", "none/x"], ["--worst", "1", "none/x.csv"], ["--checkpoint", "none/x"]):
        assert_error(run(tmp_path, *output), "cannot be written: No such file or directory")
    assert os.listdir(tmp_path) == ["data"]
