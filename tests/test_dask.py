"""Losses in a real Dask cluster, two worker processes: the bits of a single process, also when a worker dies."""

import doctest
import os
import signal

import lossrs
import numpy as np
import pytest

pandas = pytest.importorskip("pandas")
pa = pytest.importorskip("pyarrow")
pytest.importorskip("dask.dataframe")
distributed = pytest.importorskip("distributed")

import dask.array  # noqa: E402
import dask.bag  # noqa: E402
import dask.dataframe  # noqa: E402
import lossrs.dask  # noqa: E402
from clusters import COLUMNS, EVERYTHING, LOSS, ROWS, arrays, single_process, write_predictions  # noqa: E402

pytestmark = [pytest.mark.filterwarnings("default"), pytest.mark.timeout(300)]


@pytest.fixture(scope="module", autouse=True)
def client():
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs="CRITICAL"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("predictions")


@pytest.fixture(scope="module")
def table(folder):
    return write_predictions(folder)


@pytest.fixture(scope="module")
def logits_and_labels(table):
    return arrays(table)


@pytest.fixture
def frame(table, folder):
    return lambda **options: dask.dataframe.read_parquet(folder, **options)


PARTITIONINGS = {
    "a file": lambda frame: frame(split_row_groups=False),
    "a row group": lambda frame: frame(split_row_groups=1),
    "one": lambda frame: frame().repartition(npartitions=1),
    "in another order": lambda frame: dask.dataframe.concat([frame().partitions[[3, 1]], frame().partitions[[0, 2]]]),
}


@pytest.mark.parametrize("partitioning", PARTITIONINGS)
def test_the_bits_of_a_single_process(frame, table, partitioning):
    total = lossrs.dask.accumulate(PARTITIONINGS[partitioning](frame), LOSS, split_every=3, **EVERYTHING).compute()
    expected = single_process(table, **EVERYTHING)
    assert total.to_bytes() == expected.to_bytes()
    assert total.result() == expected.result()


def test_without_ids_rows_have_no_numbers(frame, table):
    total = lossrs.dask.accumulate(frame(split_row_groups=2), LOSS, **COLUMNS).compute()
    assert total.to_bytes() == single_process(table, **COLUMNS).to_bytes()
    assert total.result().maximum_row is None


def test_only_the_columns_that_are_needed_are_read():
    read = []
    table = pandas.DataFrame({name: np.resize([1.0, -1.0, -1.0], 6) for name in ("x_1", "x_2", "y", "z")})

    def rows(start, columns=None):
        read.append(columns)
        return table[start : start + 2][columns]

    parts = dask.dataframe.from_map(rows, range(0, 6, 2), meta=table[:0])
    loss = lossrs.MarginRankingLoss()
    total = lossrs.dask.accumulate(parts, loss, input1="x_1", input2="x_2", target="y").compute(scheduler="sync")
    assert total.result().mean == loss(table["x_1"], table["x_2"], table["y"])
    assert read == [["x_1", "x_2", "y"]] * 3


def test_columns_that_are_numbered(logits_and_labels):
    numbers = logits_and_labels[0][:100, :2]
    frame = dask.dataframe.from_pandas(pandas.DataFrame(numbers), npartitions=3)
    total = lossrs.dask.accumulate(frame, lossrs.MSELoss(), input="0", target="1").compute()
    assert total.result().mean == lossrs.MSELoss()(numbers[:, 0], numbers[:, 1])


def kill_once(rows, marker):
    """Die in the middle of the work, the first time."""
    try:
        os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return rows
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_that_is_killed(client, frame, table, tmp_path):
    workers = set(client.scheduler_info()["workers"])
    rows = frame(split_row_groups=1)
    meta = rows._meta
    dying = rows.map_partitions(by_value(kill_once), str(tmp_path / "killed"), meta=meta)
    total = lossrs.dask.accumulate(dying, LOSS, **EVERYTHING).compute()
    assert (tmp_path / "killed").exists()
    assert total.to_bytes() == single_process(table, **EVERYTHING).to_bytes()
    assert set(client.scheduler_info()["workers"]) != workers


def by_value(function):
    """Return a function that is pickled with its code: workers can't import this module."""
    return type(function)(function.__code__, {"os": os, "signal": signal, "__builtins__": __builtins__})


def test_bags_of_tables_and_of_rows(table):
    table = table.slice(0, 3_000)
    tables = dask.bag.from_sequence([table.slice(0, 700), table.slice(700).to_pandas()], npartitions=2)
    total = lossrs.dask.accumulate(tables, LOSS, **EVERYTHING).compute()
    assert total.to_bytes() == single_process(table, **EVERYTHING).to_bytes()
    some = table.slice(0, 500)
    rows = dask.bag.from_sequence(some.to_pylist(), npartitions=5)
    # Python's floats are of double precision.
    doubles = some.set_column(0, "logits", some["logits"].cast(pa.list_(pa.float64())))
    doubles = doubles.set_column(2, "weight", some["weight"].cast(pa.float64()))
    found = lossrs.dask.accumulate(rows, LOSS, **EVERYTHING).compute()
    assert found.to_bytes() == single_process(doubles, **EVERYTHING).to_bytes()


@pytest.mark.parametrize("sizes", [(ROWS, 10), (7_001, 10), (15_000, 3)])
def test_arrays(logits_and_labels, table, sizes):
    logits, labels = logits_and_labels
    group, weight = table["country"].to_numpy(), table["weight"].to_numpy()
    expected = lossrs.Accumulator(LOSS, histogram=True, worst=20, bootstrap=20)
    expected.update(logits, labels, sample_weight=weight, group=(group, labels))
    total = lossrs.dask.accumulate_arrays(
        LOSS,
        dask.array.from_array(logits, chunks=sizes),
        target=dask.array.from_array(labels, chunks=9_999),
        sample_weight=weight,
        group=(group, labels),
        histogram=True,
        worst=20,
        bootstrap=20,
    ).compute()
    # Rows are numbered over all blocks.
    assert total.to_bytes() == expected.to_bytes()


def test_arrays_of_several_axes_and_of_unknown_sizes(logits_and_labels, frame):
    x = logits_and_labels[0]
    expected = lossrs.Accumulator(lossrs.MSELoss(), worst=3)
    expected.update(x, x[::-1])
    blocks = dask.array.from_array(x, chunks=(8_000, 4))
    total = lossrs.dask.accumulate_arrays(lossrs.MSELoss(), blocks, blocks[::-1], worst=3).compute()
    assert total.to_bytes() == expected.to_bytes()
    weight = frame()[["weight"]].to_dask_array()
    found = lossrs.dask.accumulate_arrays(lossrs.MSELoss(), weight, 2 * weight, ids=weight * 0 + 7, group=None)
    with pytest.raises(TypeError, match=r"block \d: ids has dtype float32"):
        found.compute()
    found = lossrs.dask.accumulate_arrays(lossrs.MSELoss(), weight, 2 * weight).compute().result()
    assert (found.rows, found.maximum, found.maximum_row) == (ROWS, 9.0, None)


def test_losses_as_a_column(frame, logits_and_labels):
    scored = lossrs.dask.per_sample(frame(), LOSS, input="logits", target="label")
    assert scored.dtypes["loss"] == np.float64
    expected = lossrs.CrossEntropyLoss(reduction="none")(*logits_and_labels)
    assert np.array_equal(scored["loss"].compute().to_numpy(), expected)


def test_what_is_wrong_is_said(frame, logits_and_labels):
    with pytest.raises(ValueError, match=r"data frame: no column 'lable' \(did you mean 'label'\?\)"):
        lossrs.dask.accumulate(frame(), LOSS, input="logits", target="lable")
    wrong = lossrs.dask.accumulate(frame(), LOSS, input="logits", target="id")
    with pytest.raises(lossrs.LabelError, match=r"partition \d: column 'id': label \d+ at row \d is outside") as raised:
        wrong.compute()
    assert raised.value.row < 9
    logits, labels = logits_and_labels
    labels = labels.copy()
    labels[12_345] = 10
    with pytest.raises(lossrs.LabelError, match="block 1, from row 10000: label 10 at row 2345") as raised:
        lossrs.dask.accumulate_arrays(LOSS, dask.array.from_array(logits, chunks=(10_000, 5)), labels).compute()
    assert (raised.value.row, raised.value.label) == (2_345, 10)
    with pytest.raises(ValueError, match="operand 1 has 39999 rows, the first operand 40000"):
        lossrs.dask.accumulate_arrays(LOSS, logits, labels[1:])
    with pytest.raises(ValueError, match="ctc_loss has no loss of each row by itself"):
        lossrs.dask.accumulate_arrays(lossrs.CTCLoss(), logits, labels, labels, labels)
    with pytest.raises(TypeError, match="data is a data frame or a bag of Dask, got dict"):
        lossrs.dask.accumulate({}, LOSS, input="logits", target="label")


def test_nothing_and_examples():
    rows = dask.bag.from_sequence([], npartitions=1)
    assert lossrs.dask.accumulate(rows, LOSS, input="logits", target="label").compute().result().rows == 0
    found = doctest.testmod(lossrs.dask)
    assert (found.failed, found.attempted > 0) == (0, True)
