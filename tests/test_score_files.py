"""The files that ``lossrs.scoring.score`` reads: every format gives the same result, errors are one line."""

import math
import subprocess
import sys
import tracemalloc

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from lossrs.scoring import ScoreError, score

ROWS = 1_000
CLASSES = 12

random = np.random.default_rng(0)
logits = random.normal(size=(ROWS, CLASSES)).round(3)
labels = random.integers(0, CLASSES, ROWS)
labels[::50] = -100
weights = random.random(ROWS)
groups = random.choice(["a", "b"], ROWS)


def scalar_columns():
    return {f"logit_{index}": logits[:, index] for index in range(CLASSES)} | {
        "label": labels,
        "w": weights,
        "g": groups,
    }


def write_parquet(path, input_kind="columns"):
    pq.write_table(arrow_table(input_kind), path, row_group_size=170)


def arrow_table(input_kind="columns"):
    fixed = pa.FixedSizeListArray.from_arrays(logits.ravel(), CLASSES)
    columns = {name: pa.array(column) for name, column in scalar_columns().items()}
    columns |= {
        "columns": {},
        "fixed": {"logits": fixed},
        "list": {"logits": fixed.cast(pa.list_(pa.float64()))},
        "large list": {"logits": fixed.cast(pa.large_list(pa.float64()))},
        "tensor": {"logits": pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(pa.float64(), [CLASSES]), fixed)},
    }[input_kind]
    return pa.table(columns)


def write_arrow(path, input_kind="columns", compression=None):
    table = arrow_table(input_kind)
    with pa.ipc.new_file(path, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as file:
        file.write_table(table, max_chunksize=130)


def write_stream(path):
    table = arrow_table()
    with pa.ipc.new_stream(path, table.schema) as file:
        file.write_table(table, max_chunksize=130)


def write_csv(path):
    pyarrow.csv.write_csv(arrow_table(), path)


def write_structured(path):
    kind = np.dtype([("logits", "f8", CLASSES), ("label", "i2"), ("w", "f8"), ("g", "U1")])
    table = np.empty(ROWS, kind)
    table["logits"], table["label"], table["w"], table["g"] = logits, labels, weights, groups
    np.save(path, table)


def arrays(**other):
    return {"logits": logits, "label": labels, "w": weights, "g": groups} | other


FORMATS = {
    "parquet": (write_parquet, "table.parquet", "logit_*"),
    "parquet, fixed-size lists": (lambda path: write_parquet(path, "fixed"), "table.parquet", "logits"),
    "parquet, lists": (lambda path: write_parquet(path, "list"), "table.pq", "logits"),
    "parquet, large lists": (lambda path: write_parquet(path, "large list"), "table.parquet", "logits"),
    "arrow": (write_arrow, "table.arrow", "logit_*"),
    "arrow, compressed": (lambda path: write_arrow(path, compression="zstd"), "table.feather", "logit_*"),
    "arrow, lists": (lambda path: write_arrow(path, "list"), "table.arrow", "logits"),
    "arrow, tensors": (lambda path: write_arrow(path, "tensor"), "table.ipc", "logits"),
    "arrow stream": (write_stream, "table.arrows", "logit_*"),
    "csv": (write_csv, "table.csv", "logit_*"),
    "npy, structured": (write_structured, "table.npy", "logits"),
    "npz": (lambda path: np.savez(path, **arrays()), "table.npz", "logits"),
    "npz, Fortran order": (
        lambda path: np.savez(path, **arrays(logits=np.asfortranarray(logits))),
        "table.npz",
        "logits",
    ),
    "npz, compressed": (lambda path: np.savez_compressed(path, **arrays()), "table.npz", "logits"),
    "npz, byte-swapped": (lambda path: np.savez(path, **arrays(logits=logits.astype(">f8"))), "table.npz", "logits"),
}


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    path = tmp_path_factory.mktemp("expected") / "table.parquet"
    write_parquet(path)
    return score(path, "cross_entropy", input="logit_*", target="label", sample_weight="w", by="g")


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("batch_size", [1, 64, 100_000])
def test_every_format_gives_the_same_result(tmp_path, expected, name, batch_size):
    write, file, columns = FORMATS[name]
    write(tmp_path / file)
    found = score(
        tmp_path / file,
        "cross_entropy",
        input=columns,
        target="label",
        sample_weight="w",
        by="g",
        batch_size=batch_size,
    )
    assert (found.overall, found.groups) == (expected.overall, expected.groups)


def test_a_table_of_numbers_has_numbered_columns(tmp_path, expected):
    table = np.column_stack([logits, labels, weights, groups == "b"])
    np.save(tmp_path / "table.npy", table)
    np.save(tmp_path / "fortran.npy", np.asfortranarray(table))
    for file in ("table.npy", "fortran.npy"):
        for inputs, target in (("0:12", "12"), (":-3", "-3"), ("0,1,2:-4,-4", "-3")):
            found = score(
                tmp_path / file,
                "cross_entropy",
                input=inputs,
                target=target,
                sample_weight="13",
                by="-1",
                batch_size=99,
            )
            assert found.overall == expected.overall
            assert [found.groups[0], found.groups[1]] == [expected.groups["a"], expected.groups["b"]]
    np.save(tmp_path / "vector.npy", np.array([1.0, 3.0]))
    assert score(tmp_path / "vector.npy", "mse_loss", input="0", target="0").overall.rows == 2


def test_columns_are_found_by_name_list_and_glob_in_natural_order(tmp_path):
    values = np.arange(12.0)
    columns = {f"p{index}": [values[index]] * 2 for index in reversed(range(12))} | {
        "a,b": [5.0, 5.0],
        "q.r": [7.0] * 2,
    }
    pq.write_table(pa.table(columns | {"y": [values.tolist()] * 2}), tmp_path / "table.parquet")

    def of(inputs, target="y"):
        return score(tmp_path / "table.parquet", "mse_loss", input=inputs, target=target).overall.mean

    assert of("p*") == 0.0
    assert of("p?,p1[01]") == 0.0
    assert of("p9,p8,p7,p6,p5,p4,p3,p2,p1,p0,p10,p11") > 0.0
    assert of("a,b", "p5") == 0.0
    assert of("q.r", "p7") == 0.0
    assert of("p1", "p3") == 4.0


def test_text_is_read_as_numbers(tmp_path):
    text = "x,y,key\n1,2,u\n 2.5 ,2.5,v\nnan,0,u\n-inf,0,\n1e2,99,v\n"
    (tmp_path / "table.csv").write_text(text)
    found = score(tmp_path / "table.csv", "l1_loss", input="x", target="y", by="key")
    assert (found.overall.rows, found.overall.nonfinite) == (5, 2)
    assert found.groups["v"].sum == 1.0
    assert found.groups[None].sum == math.inf
    # The first block of the file holds whole numbers only.
    (tmp_path / "late.csv").write_text("x,y\n" + "1,1\n" * 600_000 + "1.5,1\n")
    assert score(tmp_path / "late.csv", "l1_loss", input="x", target="y").overall.sum == 0.5


def test_a_column_may_be_target_and_group(tmp_path):
    for name in ("table.csv", "table.parquet"):
        (write_csv if name.endswith("csv") else write_parquet)(tmp_path / name)
        found = score(tmp_path / name, "cross_entropy", input="logit_*", target="label", by="label")
        assert [str(key) for key in found.groups] == [str(key) for key in [-100, *range(CLASSES)]]
        assert [group.rows for group in found.groups.values()] == [
            np.count_nonzero(labels == key) for key in [-100, *range(CLASSES)]
        ]


@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_memory_does_not_grow_with_a_mapped_file(tmp_path, kind):
    rows, classes = 200_000, 64  # 100 MB
    table = np.lib.format.open_memmap(tmp_path / "table.npy", "w+", np.float64, (rows, classes + 1))
    table[:, :classes] = np.arange(classes)
    if kind == "npz":
        np.savez(tmp_path / "table.npz", table=table, label=np.zeros(rows, np.int8))
    asked = {"npy": {"input": f":{classes}", "target": "-1"}, "npz": {"input": "table", "target": "label"}}[kind]
    del table
    tracemalloc.start()
    found = score(tmp_path / f"table.{kind}", "cross_entropy", batch_size=1_000, **asked)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.overall.rows == rows
    assert peak < 20 << 20


@pytest.mark.parametrize("name", ["table.parquet", "table.arrow", "table.csv"])
def test_memory_does_not_grow_with_a_file_that_pyarrow_reads(tmp_path, name):
    rows, width = 1_000_000, 16  # 64 MB, and one row group
    values = np.arange(rows * width, dtype=np.float32)
    table = pa.table({"x": pa.FixedSizeListArray.from_arrays(values, width), "y": values[:rows]})
    if name.endswith("parquet"):
        pq.write_table(table, tmp_path / name, row_group_size=rows, use_dictionary=False)
    elif name.endswith("arrow"):
        with pa.ipc.new_file(tmp_path / name, table.schema) as file:
            file.write_table(table)
    else:
        rows = 8_000_000
        (tmp_path / name).write_text("y,x\n" + "0.25,12345678.25\n" * rows)
    script = f"""
import pyarrow
from lossrs.scoring import score
found = score({str(tmp_path / name)!r}, "mse_loss", input="x", target="x", batch_size=10_000)
print(found.overall.rows, found.overall.sum, pyarrow.default_memory_pool().max_memory())
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=100, check=True)
    found_rows, total, peak = ran.stdout.split()
    assert (int(found_rows), float(total)) == (rows, 0.0)
    assert int(peak) < {"table.parquet": 24, "table.arrow": 8, "table.csv": 64}[name] << 20


def empty(tmp_path, name):
    (tmp_path / name).write_bytes(b"")
    return tmp_path / name


def truncated(tmp_path, name, keep):
    write, _, _ = FORMATS[{"table.arrow": "arrow", "table.arrows": "arrow stream"}.get(name, name.split(".")[1])]
    write(tmp_path / name)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: int(len(content) * keep)])
    return tmp_path / name


def truncated_npy(tmp_path):
    np.save(tmp_path / "table.npy", np.zeros((100, 2)))
    content = (tmp_path / "table.npy").read_bytes()
    (tmp_path / "table.npy").write_bytes(content[:-8])
    return tmp_path / "table.npy"


def table(tmp_path, **columns):
    base = {"x": [1.0] * 5, "y": [0.0] * 5, "label": [0, 1, 0, 1, 0], "l2": [[0.0, 1.0]] * 5}
    pq.write_table(pa.table(base | columns), tmp_path / "table.parquet", row_group_size=2)
    return tmp_path / "table.parquet"


def text(tmp_path, content):
    (tmp_path / "table.csv").write_text(content)
    return tmp_path / "table.csv"


def npz(tmp_path, compressed=False, **arrays):
    (np.savez_compressed if compressed else np.savez)(tmp_path / "table.npz", **arrays)
    return tmp_path / "table.npz"


def named(tmp_path, name):
    (tmp_path / name).mkdir()
    return tmp_path / name


XY = {"input": "x", "target": "y"}
CLASS = {"loss": "cross_entropy", "input": "l2", "target": "label"}

ERRORS = {
    "missing": (lambda t: t / "none.parquet", XY, "none.parquet: no such file"),
    "directory": (
        lambda t: named(t, "folder.parquet"),
        XY,
        "folder.parquet: no file in this folder ends in one of .parquet,",
    ),
    "unknown ending": (lambda t: empty(t, "table.xls"), XY, "table.xls: the ending '.xls' is none of .parquet,"),
    "empty parquet": (lambda t: empty(t, "table.parquet"), XY, "table.parquet: the file is empty"),
    "empty csv": (lambda t: empty(t, "table.csv"), XY, "table.csv: the file is empty"),
    "empty arrow": (lambda t: empty(t, "table.arrow"), XY, "table.arrow: the file is empty"),
    "empty npy": (lambda t: empty(t, "table.npy"), XY, "table.npy: the file is empty"),
    "empty npz": (lambda t: empty(t, "table.npz"), XY, "table.npz: the file is empty"),
    "truncated parquet": (lambda t: truncated(t, "table.parquet", 0.9), XY, "table.parquet: cannot be read: "),
    "truncated arrow": (lambda t: truncated(t, "table.arrow", 0.9), XY, "table.arrow: cannot be read: "),
    "truncated stream": (
        lambda t: truncated(t, "table.arrows", 0.9),
        {"input": "logit_0", "target": "w"},
        "table.arrows: cannot be read: ",
    ),
    "truncated npz": (
        lambda t: truncated(t, "table.npz", 0.9),
        XY,
        "table.npz: is not an .npz file, or a truncated one",
    ),
    "truncated npy": (truncated_npy, XY, "table.npy: cannot be read: "),
    "not parquet": (lambda t: text(t, "a,b\n1,2\n").rename(t / "table.parquet"), XY, "table.parquet: cannot be read: "),
    "misspelt column": (lambda t: table(t), XY | {"target": "labl"}, "no column 'labl' (did you mean 'label'?)"),
    "unknown column": (lambda t: table(t), XY | {"target": "w"}, "no column 'w'; there are 'x', 'y', 'label', 'l2'"),
    "glob without match": (lambda t: table(t), XY | {"input": "logit_*"}, "table.parquet: no column 'logit_*'"),
    "misspelt weight": (lambda t: table(t), XY | {"sample_weight": "yy"}, "no column 'yy'"),
    "misspelt group": (lambda t: table(t), XY | {"by": "labels"}, "no column 'labels' (did you mean 'label'?)"),
    "two weights": (lambda t: table(t), XY | {"sample_weight": "x,y"}, "'x,y' means 2 columns; one is needed"),
    "weight of two columns": (lambda t: table(t), XY | {"sample_weight": "l2"}, "weight has 2 columns; one is needed"),
    "number out of range": (
        lambda t: np.save(t / "table.npy", np.zeros((3, 2))) or t / "table.npy",
        {"input": "0", "target": "2"},
        "table.npy: no column '2'",
    ),
    "range without columns": (
        lambda t: np.save(t / "table.npy", np.zeros((3, 2))) or t / "table.npy",
        {"input": "5:", "target": "0"},
        "table.npy: no column '5:'",
    ),
    "two columns of a name": (
        lambda t: text(t, "x,x,y\n1,2,3\n"),
        XY,
        "table.csv: 2 columns are named 'x'",
    ),
    "text for numbers": (lambda t: table(t, x=list("abcde")), XY, "column 'x' holds string; numbers are needed"),
    "text for no numbers": (
        lambda t: table(t).parent / write_empty(t),
        XY,
        "column 'x' holds string; numbers are needed",
    ),
    "struct": (lambda t: table(t, x=[{"a": 1}] * 5), XY, "column 'x' holds struct<a: int64>; numbers are needed"),
    "lists of text": (lambda t: table(t, x=[["a"]] * 5), XY, "numbers are needed"),
    "text in csv": (
        lambda t: text(t, "x,y\n" + "1,1\n" * 300_000 + "1,one\n"),
        XY,
        "table.csv: column 'y': 'one' at row 300000 is not a number",
    ),
    "short row in csv": (
        lambda t: text(t, "x,y\n" + "1,1\n" * 300_000 + "1\n"),
        XY,
        "table.csv: row 300000 has 1 fields, the header has 2",
    ),
    "short first row in csv": (lambda t: text(t, "x,y\n1\n"), XY, "table.csv: row 0 has 1 fields, the header has 2"),
    "missing field in csv": (lambda t: text(t, "x,y\n1,1\n,1\n"), XY, "column 'x': null at row 1; a number is needed"),
    "null": (
        lambda t: table(t, y=[1.0, 2.0, 3.0, None, None]),
        XY,
        "table.parquet: column 'y': null at row 3; a number is needed in every row",
    ),
    "null weight": (lambda t: table(t, w=[1.0] * 4 + [None]), XY | {"sample_weight": "w"}, "column 'w': null at row 4"),
    "null list": (lambda t: table(t, l2=[[0.0, 1.0]] * 4 + [None]), CLASS, "column 'l2': null at row 4"),
    "null in a list": (lambda t: table(t, l2=[[0.0, 1.0]] * 4 + [[0.0, None]]), CLASS, "column 'l2': null at row 4"),
    "lists of two lengths": (
        lambda t: table(t, l2=[[0.0, 1.0]] * 3 + [[0.0]] * 2),
        CLASS,
        "column 'l2': the list at row 3 has 1 values, the first has 2",
    ),
    "label too large": (
        lambda t: table(t, label=[0, 1, 0, 2, 0]),
        CLASS,
        "table.parquet: column 'label': label 2 at row 3 is outside [0, 2)",
    ),
    "label negative": (
        lambda t: table(t, label=[0, 1, 0, 0, -7]),
        CLASS,
        "table.parquet: column 'label': label -7 at row 4 is outside [0, 2)",
    ),
    "label not whole": (lambda t: table(t, label=[0, 1, 0.5, 0, 1]), CLASS, "label 0.5 at row 2 is not a whole number"),
    "label nan": (
        lambda t: table(t, label=[0, 1, 0.0, math.nan, 1]),
        CLASS,
        "label nan at row 3 is not a whole number",
    ),
    "probability outside": (
        lambda t: table(t, x=[0.0, 0.5, 1.0, 0.5, 1.5]),
        XY | {"loss": "binary_cross_entropy"},
        "table.parquet: column 'x': 1.5 at row 4 is outside the domain of binary_cross_entropy",
    ),
    "target probability outside": (
        lambda t: table(t, p=[0.5] * 5, q=[0.0, 0.5, -1.0, 0.5, 0.5]),
        {"input": "p,p", "target": "p,q", "loss": "binary_cross_entropy"},
        "table.parquet: column 'q': -1.0 at row 2 is outside the domain of binary_cross_entropy",
    ),
    "columns differ": (lambda t: table(t), XY | {"input": "x,y"}, "2 input columns and 1 target columns"),
    "class weights of another number": (
        lambda t: table(t),
        CLASS | {"options": {"weight": np.ones(3)}},
        "cross_entropy: ",
    ),
    "bad option": (lambda t: table(t), XY | {"loss": "huber_loss", "options": {"delta": -1.0}}, "huber_loss: "),
    "unknown loss": (lambda t: table(t), XY | {"loss": "huber"}, "no loss 'huber' (did you mean 'huber_loss'?)"),
    "batch size": (lambda t: table(t), XY | {"batch_size": 0}, "the batch size must be at least 1, got 0"),
    "float groups": (lambda t: table(t), XY | {"by": "x"}, "column 'x' holds double; labels and groups are "),
    "list groups": (lambda t: table(t), XY | {"by": "l2"}, "groups are integers, strings, booleans or dates"),
    "npz of two lengths": (
        lambda t: npz(t, x=np.zeros(3), y=np.zeros(4)),
        XY,
        "table.npz: 'x' has 3 rows, 'y' has 4",
    ),
    "npz of objects": (lambda t: npz(t, x=np.array([{}]), y=np.zeros(1)), XY, "table.npz: 'x' holds object"),
    "npz of text": (lambda t: npz(t, x=np.array(["a"]), y=np.zeros(1)), XY, "table.npz: column 'x' holds string"),
    "npz scalar": (lambda t: npz(t, x=np.float64(1), y=np.zeros(1)), XY, "table.npz: 'x' holds float64 of shape ()"),
    "npz of three dimensions": (
        lambda t: npz(t, x=np.zeros((2, 2, 2)), y=np.zeros(2)),
        XY,
        "column 'x' holds 2-dimensional float64; numbers are needed",
    ),
    "npz compressed in Fortran order": (
        lambda t: npz(t, True, x=np.asfortranarray(np.zeros((3, 2))), y=np.zeros((3, 2))),
        XY,
        "table.npz: 'x' is compressed in Fortran order",
    ),
    "npy of three dimensions": (
        lambda t: np.save(t / "table.npy", np.zeros((2, 2, 2))) or t / "table.npy",
        XY,
        "table.npy: has 3 dimensions",
    ),
    "npy of objects": (
        lambda t: np.save(t / "table.npy", np.array([{}]), allow_pickle=True) or t / "table.npy",
        XY,
        "table.npy: cannot be read: ",
    ),
    "per-sample ending": (
        lambda t: table(t),
        XY | {"per_sample": "losses.txt"},
        "losses.txt: the ending '.txt' is none of .parquet, .arrow, .csv, .npy",
    ),
    "per-sample folder": (
        lambda t: table(t),
        XY | {"per_sample": "none/losses.npy"},
        "losses.npy: cannot be written: No such file or directory",
    ),
    "per-sample over the input": (
        lambda t: table(t),
        XY | {"per_sample": "table.parquet"},
        "table.parquet: is the file that is read; it is not overwritten",
    ),
}


def write_empty(tmp_path):
    pq.write_table(
        pa.table({"x": pa.array([], pa.string()), "y": pa.array([], pa.float64())}), tmp_path / "none.parquet"
    )
    return "none.parquet"


@pytest.mark.parametrize("name", ERRORS)
def test_errors_say_what_is_wrong_and_where(tmp_path, monkeypatch, name):
    make, request, message = ERRORS[name]
    file = make(tmp_path)
    content = file.read_bytes() if file.is_file() else None
    monkeypatch.chdir(tmp_path)
    before = sorted(path.name for path in tmp_path.iterdir())
    request = {"loss": "mse_loss", "per_sample": "losses.npy"} | request
    with pytest.raises(ScoreError) as raised:
        score(file, batch_size=request.pop("batch_size", 2), **request)
    assert message in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert content is None or file.read_bytes() == content


def test_a_link_to_the_input_is_not_overwritten(tmp_path):
    file = table(tmp_path)
    (tmp_path / "link.parquet").symlink_to(file)
    (tmp_path / "hard.parquet").hardlink_to(file)
    for name in ("link.parquet", "hard.parquet"):
        with pytest.raises(ScoreError, match="is the file that is read"):
            score(file, "mse_loss", **XY, per_sample=tmp_path / name)
