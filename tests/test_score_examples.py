"""The examples run, and the predictions that are checked in are those that the example writes."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from lossrs.scoring import score

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(name, *arguments):
    command = [sys.executable, EXAMPLES / name, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=True).stdout


def test_digits(tmp_path):
    pytest.importorskip("sklearn")
    printed = run("digits.py", tmp_path / "digits.parquet")
    assert run("digits.py", tmp_path / "again.parquet") == printed
    assert (tmp_path / "again.parquet").read_bytes() == (tmp_path / "digits.parquet").read_bytes()
    checked_in, written = pq.read_table(EXAMPLES / "digits.parquet"), pq.read_table(tmp_path / "digits.parquet")
    assert written.schema == checked_in.schema
    for name in checked_in.column_names:
        if name.startswith("logit_"):  # another BLAS adds in another order
            np.testing.assert_allclose(written[name], checked_in[name], rtol=1e-5, atol=1e-6)
        else:
            assert written[name] == checked_in[name]


def test_the_checked_in_predictions():
    found = score(EXAMPLES / "digits.parquet", "cross_entropy", input="logit_*", target="label", by="split")
    table = pq.read_table(EXAMPLES / "digits.parquet")
    logits = np.stack([table[f"logit_{digit}"].to_numpy() for digit in range(10)], axis=1).astype(np.float64)
    label = table["label"].to_numpy()
    losses = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(label)), label]
    split = np.array(table["split"].to_pylist())
    for name, rows in (("train", 1_200), ("test", 597)):
        assert found.groups[name].rows == rows
        assert found.groups[name].mean == pytest.approx(losses[split == name].mean(), rel=1e-6)
        assert found.groups[name].mean < 0.3
    assert (EXAMPLES / "digits.parquet").stat().st_size < 100_000


def test_linear_regression():
    lines = run("linear_regression.py").splitlines()
    found = [re.fullmatch(r"Epoch \[(\d+)/100\], Loss: (\d+\.\d{4})", line) for line in lines]
    assert [int(line[1]) for line in found] == list(range(10, 101, 10))
    losses = [float(line[2]) for line in found]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0] / 10
