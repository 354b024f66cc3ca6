"""``--worst``: which rows, where they are, and what they hold."""

import json
import math
import subprocess
import sys

import lossrs
import lossrs.functional as F
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lossrs.scoring import score
from lossrs.scoring.worst import write_worst

losses = st.sampled_from([0.0, 1.0, 2.0, 2.5, math.inf, -math.inf, math.nan])


@settings(deadline=None, max_examples=60)
@given(st.lists(losses, min_size=1, max_size=40), st.integers(1, 50), st.integers(1, 50), st.data())
def test_are_those_of_the_accumulator(tmp_path_factory, x, most, batch_size, data):
    weight = data.draw(st.lists(st.sampled_from([0.0, 1.0]), min_size=len(x), max_size=len(x)))
    path = tmp_path_factory.mktemp("worst") / "table.parquet"
    pq.write_table(pa.table({"x": x, "y": [0.0] * len(x), "w": weight}), path, row_group_size=7)
    total = lossrs.Accumulator(lossrs.L1Loss(), worst=most)
    total.update(x, np.zeros(len(x)), sample_weight=weight)
    expected = total.result().worst
    found = score(path, "l1_loss", input="x", target="y", sample_weight="w", worst=most, batch_size=batch_size).worst
    assert [row["row"] for row in found] == ([] if expected is None else expected.rows.tolist())
    for row in found:
        np.testing.assert_equal(row["x"], x[row["row"]])
        np.testing.assert_equal(row["loss"], abs(x[row["row"]]))


@pytest.fixture
def folder(tmp_path):
    random = np.random.default_rng(0)
    for of, rows in (("de", 40), ("fr", 60)):
        logits = random.normal(size=(rows, 3)).astype(np.float32)
        columns = {
            "logits": pa.FixedSizeListArray.from_arrays(logits.ravel(), 3),
            "label": random.choice(["ant", "bee", "cow"], rows),
            "half": random.random(rows).astype(np.float16),
            "loss": random.integers(0, 9, rows),
        }
        (tmp_path / f"country={of}").mkdir()
        pq.write_table(pa.table(columns), tmp_path / f"country={of}" / "part.parquet", row_group_size=13)
    return tmp_path


ASKED = {"input": "logits", "target": "label", "labels": ["ant", "bee", "cow"], "sample_weight": "half"}


def expected_rows(folder, most, where=lambda table: np.ones(len(table), bool)):
    rows = []
    for of in ("de", "fr"):
        path = folder / f"country={of}" / "part.parquet"
        table = pq.ParquetFile(path).read()
        label = np.array([ASKED["labels"].index(name) for name in table["label"].to_pylist()])
        losses = F.cross_entropy(np.array(table["logits"].to_pylist(), np.float32), label, reduction="none")
        for row in np.flatnonzero(where(table)).tolist():
            content = {name: table[name][row].as_py() for name in ("logits", "half", "label")}
            rows.append({"file": str(path), "row": row, "loss": float(losses[row]), "country": of} | content)
    return sorted(rows, key=lambda row: -row["loss"])[:most]


def test_hold_their_columns(folder):
    found = score(folder, "cross_entropy", **ASKED, by=["country", "loss"], worst=8).worst
    for row, expected in zip(found, expected_rows(folder, 8), strict=True):
        assert row.pop("column loss") in range(9)
        assert row == expected


def test_of_a_filter(folder):
    found = score(folder, "cross_entropy", **ASKED, where="label != 'bee' and loss < 5", by="country", worst=8).worst
    rows = expected_rows(folder, 8, lambda table: (np.array(table["label"]) != "bee") & (table["loss"].to_numpy() < 5))
    assert found == rows


@pytest.mark.parametrize("ending", ["parquet", "arrow", "csv", "json"])
def test_are_written(folder, ending):
    output = folder / f"worst.{ending}"
    found = score(folder, "cross_entropy", **ASKED, by="country", worst=5, worst_output=output).worst
    if ending == "json":
        assert json.loads(output.read_text()) == found
        return
    if ending == "parquet":
        table = pq.ParquetFile(output).read()
    elif ending == "arrow":
        table = pa.ipc.open_file(output).read_all()
    else:
        table = pyarrow.csv.read_csv(output)
        found = [row | {"logits": json.dumps(row["logits"])} for row in found]
    assert table.to_pylist() == found


def test_there_may_be_none(tmp_path):
    pq.write_table(pa.table({"x": pa.array([], pa.float64()), "y": pa.array([], pa.float64())}), tmp_path / "t.parquet")
    for ending in ("parquet", "arrow", "csv", "json"):
        output = tmp_path / f"worst.{ending}"
        assert score(tmp_path / "t.parquet", "l1_loss", input="x", target="y", worst=3, worst_output=output).worst == []
        assert output.exists()


def test_losses_that_are_not_finite_in_json(tmp_path):
    pq.write_table(pa.table({"x": [1.0, math.nan, math.inf], "y": [0.0] * 3}), tmp_path / "t.parquet")
    command = ["score", "t.parquet", "--loss", "l1_loss", "--input", "x", "--target", "y", "--worst", "9", "worst.json"]
    subprocess.run([sys.executable, "-m", "lossrs", *command], cwd=tmp_path, check=True, timeout=60)
    found = json.loads((tmp_path / "worst.json").read_text(), parse_constant=pytest.fail)
    assert [(row["row"], row["loss"], row["x"]) for row in found] == [
        (1, "NaN", "NaN"),
        (2, "Infinity", "Infinity"),
        (0, 1.0, 1.0),
    ]


KINDS = {
    "numbers and text": ([1, 2], ["a", "b"], ["1", "2", "a", "b"]),
    "large": ([1, 2], np.array([3, 2**63], np.uint64), [1, 2, 3, 2**63]),
    "large lists": (np.array([[1]], np.uint64), np.array([[2**63]], np.uint64), [[1], [2**63]]),
    "large and negative": ([-1], np.array([2**63], np.uint64), ["-1", str(2**63)]),
    "truths and numbers": ([True, False], [3, 4], ["true", "false", "3", "4"]),
}


@pytest.mark.parametrize("ending", ["parquet", "arrow", "csv", "json"])
@pytest.mark.parametrize("kind", KINDS)
def test_columns_of_several_kinds_are_written(tmp_path, ending, kind):
    first, second, expected = KINDS[kind]
    values = np.asarray(first).tolist() + np.asarray(second).tolist()
    records = [{"file": "a", "row": row, "loss": 1.0, "of": value} for row, value in enumerate(values)]
    output = tmp_path / f"worst.{ending}"
    write_worst(records, output, [])
    if ending == "json":
        assert [row["of"] for row in json.loads(output.read_text())] == values
    elif ending == "parquet":
        assert pq.read_table(output)["of"].to_pylist() == expected
    elif ending == "arrow":
        assert pa.ipc.open_file(output).read_all()["of"].to_pylist() == expected
    else:
        assert len(output.read_text().splitlines()) == len(values) + 1
