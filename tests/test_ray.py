"""Losses in a real local Ray, two workers: the bits of a single process, also when a worker dies."""

import os

import lossrs
import numpy as np
import pytest

pa = pytest.importorskip("pyarrow")
ray = pytest.importorskip("ray")
pytest.importorskip("ray.data")

import lossrs.ray  # noqa: E402
import pyarrow.compute as pc  # noqa: E402
from clusters import COLUMNS, EVERYTHING, LOSS, arrays, single_process, write_predictions  # noqa: E402

# Ray leaves sockets and processes to the interpreter's end, and warns of its own future.
pytestmark = [pytest.mark.filterwarnings("default"), pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def cluster():
    ray.init(num_cpus=2, object_store_memory=256 * 2**20, include_dashboard=False, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("predictions")


@pytest.fixture(scope="module")
def table(folder):
    return write_predictions(folder)


@pytest.fixture(scope="module")
def blocks(cluster, table):
    return ray.data.from_arrow([table.slice(start, 15_000) for start in range(0, len(table), 15_000)])


def backwards(folder):
    """Return a folder of the same files in the opposite order."""
    other = folder.with_name("backwards")
    other.mkdir()
    for number, file in enumerate(sorted(folder.glob("*.parquet"), reverse=True)):
        (other / f"{number}.parquet").symlink_to(file)
    return other


PARTITIONINGS = {
    "as in the files": lambda folder: ray.data.read_parquet(str(folder)),
    "many blocks": lambda folder: ray.data.read_parquet(str(folder), override_num_blocks=23),
    "one block, in another order": lambda folder: ray.data.read_parquet(str(backwards(folder))).repartition(1),
}


@pytest.mark.parametrize("partitioning", PARTITIONINGS)
def test_the_bits_of_a_single_process(cluster, table, folder, partitioning):
    found = PARTITIONINGS[partitioning](folder).aggregate(lossrs.ray.Loss(LOSS, **EVERYTHING))["loss"]
    expected = single_process(table, **EVERYTHING)
    assert found["state"] == expected.to_bytes()
    figures = expected.result().to_dict()
    assert {name: found[name] for name in figures} == figures
    groups = lossrs.Accumulator.from_bytes(found["state"], LOSS).result().groups
    assert groups["pt"] == expected.result().groups["pt"]


def test_without_ids_rows_have_no_numbers(blocks, table):
    found = blocks.aggregate(lossrs.ray.Loss(LOSS, name="surprise", **COLUMNS))["surprise"]
    assert found["state"] == single_process(table, **COLUMNS).to_bytes()
    assert "maximum_row" not in found


def test_groupby(blocks, table):
    columns = {name: column for name, column in EVERYTHING.items() if name != "group"}
    rows = blocks.groupby("country", num_partitions=2).aggregate(lossrs.ray.Loss(LOSS, **columns)).take_all()
    assert sorted(row["country"] for row in rows) == ["de", "fr", "no", "pt"]
    for row in rows:
        of_country = table.filter(pc.equal(table["country"], row["country"]))
        assert row["loss"]["state"] == single_process(of_country, **columns).to_bytes()


def test_a_worker_that_is_killed(cluster, table, folder, tmp_path):
    marker = str(tmp_path / "killed")

    class Killed(lossrs.ray.Loss):
        def aggregate_block(self, block):
            state = super().aggregate_block(block)
            try:
                os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                return state
            os.kill(os.getpid(), 9)

    rows = ray.data.read_parquet(str(folder), override_num_blocks=16).materialize()
    found = rows.aggregate(Killed(LOSS, **EVERYTHING))["loss"]
    assert os.path.exists(marker)
    assert found["state"] == single_process(table, **EVERYTHING).to_bytes()


@pytest.mark.parametrize("batch_format", ["numpy", "pyarrow"])
def test_losses_as_a_column(blocks, table, batch_format):
    losses = lossrs.ray.PerSample(LOSS, input="logits", target="label")
    scored = blocks.map_batches(losses, batch_format=batch_format)
    found = pa.concat_tables(ray.get(scored.to_arrow_refs())).sort_by("id")
    expected = lossrs.CrossEntropyLoss(reduction="none")(*arrays(table))[np.argsort(table["id"].to_numpy())]
    assert np.array_equal(found["loss"].to_numpy(), expected)


def test_what_is_wrong_is_said(cluster, table):
    rows = ray.data.from_arrow(table.slice(0, 100))
    with pytest.raises(ValueError, match=r"block: no column 'lable' \(did you mean 'label'\?\)"):
        rows.aggregate(lossrs.ray.Loss(LOSS, input="logits", target="lable"))
    with pytest.raises(lossrs.LabelError, match=r"block: column 'id': label \d+ at row 0 is outside") as raised:
        rows.aggregate(lossrs.ray.Loss(LOSS, input="logits", target="id"))
    assert raised.value.row == 0


def test_an_empty_dataset(cluster, table):
    found = ray.data.from_arrow(table.slice(0, 0)).aggregate(lossrs.ray.Loss(LOSS, input="logits", target="label"))
    assert found["loss"]["rows"] == 0
