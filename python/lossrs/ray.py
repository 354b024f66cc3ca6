"""Losses of Ray's datasets: an aggregation whose partial results are accumulators, and a function for ``map_batches``.

It needs ``ray[data]``: ``pip install 'lossrs[ray]'``.
"""

from collections.abc import Sequence
from typing import Any

from ray.data.aggregate import AggregateFnV2

from lossrs.accumulator import Accumulator
from lossrs.loss import Loss as _Loss
from lossrs.tables import Columns, Names, PerSample, Scoring

__all__ = ["Loss", "PerSample"]


class Loss(AggregateFnV2):  # type: ignore[misc, unused-ignore]  # where it is not installed
    """The losses of a dataset's rows, added up exactly: the same bits however Ray splits and schedules them.

    It goes into ``Dataset.aggregate`` and ``GroupedData.aggregate``. The result is a dict of the figures of a
    `lossrs.accumulator.Summary`, and `state` beside them, the bytes of the accumulator:
    ``lossrs.Accumulator.from_bytes`` makes it, with its groups, histogram and worst rows, to be merged with others.

    Parameters
    ----------
    loss : Loss
        A loss that each row has by itself: of elements, of rows of scores, or of embeddings.
    histogram, worst, bootstrap, seed, sample_weight, group, ids, cluster, labels, **operands
        As in `lossrs.tables.accumulate`. Ray does not number rows: `minimum_row` and `maximum_row` are there with
        `ids` alone. With `group` the accumulator has the groups; ``groupby`` sorts each block and makes an accumulator
        for each of its groups, which suits few.
    name : str, default 'loss'
        What the result is called.

    Examples
    --------
    ::

        data = ray.data.read_parquet("predictions")
        loss = lossrs.ray.Loss(lossrs.CrossEntropyLoss(), input="logits", target="label", group="country")
        score = data.aggregate(loss)["loss"]
        score["mean"], score["standard_error"], score["rows"]
        lossrs.Accumulator.from_bytes(score["state"]).result().groups["DE"].mean
    """

    def __init__(
        self,
        loss: _Loss,
        *,
        histogram: bool = False,
        worst: int = 0,
        bootstrap: int = 0,
        seed: int = 0,
        sample_weight: str | None = None,
        group: Names | None = None,
        ids: str | None = None,
        cluster: str | None = None,
        labels: Sequence[str] | None = None,
        name: str = "loss",
        **operands: Names,
    ) -> None:
        columns = Columns(operands, sample_weight, group, ids, cluster, labels)
        settings = {"histogram": histogram, "worst": worst, "bootstrap": bootstrap, "seed": seed}
        self.scoring = Scoring(loss, columns, settings)
        # Of no column, Ray drops all but the keys of a groupby before they come here; of one, all others. "" is a
        # column that no dataset has, and then it drops none.
        super().__init__(name, self.scoring.zero().to_bytes, on="", ignore_nulls=False)

    def aggregate_block(self, block: Any) -> bytes:
        """Return the state of a block's rows."""
        return self.scoring.accumulate([block], "block").to_bytes()

    def combine(self, current_accumulator: bytes, new: bytes) -> bytes:
        """Return the state of both."""
        total = self._accumulator(current_accumulator)
        total.merge(self._accumulator(new))
        return total.to_bytes()

    def finalize(self, accumulator: bytes) -> dict[str, Any]:
        """Return the figures, and the state."""
        figures = self._accumulator(accumulator).result().to_dict()
        if self.scoring.columns.ids is None:
            del figures["minimum_row"], figures["maximum_row"]
        return figures | {"state": accumulator}

    def _accumulator(self, state: bytes) -> Accumulator:
        return Accumulator.from_bytes(state, self.scoring.loss)
