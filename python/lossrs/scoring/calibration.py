"""How often predictions of a probability come true: sums by probability, exact and mergeable.

Of binary losses it is the probability of the positive class and whether the target is that; of losses over classes with
labels the probability of the likeliest class and whether that is the label.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

import lossrs
import lossrs.functional as F
from lossrs.accumulator import Accumulator
from lossrs.loss import Loss
from lossrs.scoring.columns import Array

_BINARY = ("binary_cross_entropy", "binary_cross_entropy_with_logits", "sigmoid_focal_loss")
_CLASSES = ("cross_entropy", "nll_loss", "softmax_focal_loss")


def has_probabilities(loss: str) -> bool:
    """Tell whether a loss is one of predictions of probabilities."""
    return loss in _BINARY + _CLASSES


def is_of_classes(loss: str) -> bool:
    """Tell whether it is the likeliest of classes that may be right."""
    return loss in _CLASSES


def _edges() -> Array:
    """Cut [0, 1] into fortieths, and the first and the last of them by halves and quarters of what is left."""
    fortieths = np.arange(1, 40) / 40
    # Products that are rounded to the same everywhere, which powers need not be.
    small = np.multiply.outer(0.025 * 0.5 ** np.arange(1, 20), [1.0, 1.5]).ravel()
    return np.sort(np.concatenate([[0.0], small, fortieths, 1 - small, [1.0]]))


EDGES = _edges()
_PREDICTED, _OBSERVED = 0, 1


@dataclass(frozen=True, eq=False)
class Bins:
    """Predictions by probability; only bins that are not empty.

    Attributes
    ----------
    lower, upper : ndarray
        The edges.
    rows : ndarray of int
        How many predictions there are in each.
    weight : ndarray
        Their weight.
    predicted, observed : ndarray
        The mean of the probabilities, and the share that came true.
    """

    lower: Array
    upper: Array
    rows: Array
    weight: Array
    predicted: Array
    observed: Array

    def intervals(self) -> tuple[Array, Array]:
        """Return the ends of the 95 % intervals of what was observed, by E. B. Wilson (1927): of rows, not weights."""
        z, n = 1.959964, self.rows
        middle = (self.observed + z * z / (2 * n)) / (1 + z * z / n)
        margin = z / (1 + z * z / n) * np.sqrt(self.observed * (1 - self.observed) / n + (z / (2 * n)) ** 2)
        return middle - margin, middle + margin

    @property
    def error(self) -> float:
        """The expected calibration error: how far predicted and observed are apart, on average over the weight."""
        gaps = self.weight * np.abs(self.predicted - self.observed)
        return float(gaps.sum() / self.weight.sum()) if self.weight.sum() else float("nan")


class Calibration:
    """Probabilities that were predicted, and what came of them.

    Whatever the batches, their order and that of merging, the same predictions give the same state, to the bit.
    """

    _MAGIC = b"lossrs calibration\n"

    def __init__(self) -> None:
        # Probabilities are their own absolute error from 0: an accumulator of that loss adds them up.
        self._sums = Accumulator(lossrs.L1Loss())

    def update(self, predicted: Array, observed: Array, *, sample_weight: Array | None = None) -> None:
        """Add predictions: their probabilities, and 1 or 0, or a probability, for what came of them.

        Predictions that are NaN, and those of weight 0, are left out.
        """
        predicted, observed = np.asarray(predicted), np.asarray(observed)
        weights = None if sample_weight is None else np.broadcast_to(sample_weight, predicted.shape)
        kept = (predicted >= 0) & (predicted <= 1) & (observed >= 0) & (observed <= 1)
        if weights is not None:
            kept &= weights != 0
        if not kept.all():
            predicted, observed = predicted[kept], observed[kept]
            weights = None if weights is None else weights[kept]
        predicted, observed = predicted.reshape(-1), observed.reshape(-1)
        bins = np.clip(np.searchsorted(EDGES, predicted.astype(np.float64), "right") - 1, 0, len(EDGES) - 2)
        self._sums.update_losses(
            np.concatenate([predicted, observed.astype(predicted.dtype)]),
            sample_weight=None if weights is None else np.tile(weights.reshape(-1), 2),
            group=np.concatenate([bins, bins + len(EDGES)]),
            ids=np.zeros(1, np.int64),  # which rows hold the extremes depends on the batches
        )

    def update_from(self, loss: Loss, input: Array, target: Array, *, sample_weight: Array | None = None) -> None:
        """Add the predictions that a loss is of."""
        self.update_all(predictions(loss, input, target, sample_weight))

    def update_all(self, found: Predictions | None) -> None:
        """Add what `predictions` returned."""
        if found is not None:
            self.update(found[0], found[1], sample_weight=found[2])

    def merge(self, *others: Calibration) -> None:
        """Add what others hold."""
        self._sums.merge(*(other._sums for other in others))

    def to_bytes(self) -> bytes:
        """Return the state: the same bytes of the same predictions, with a version and a checksum."""
        return self._MAGIC + self._sums.to_bytes()

    @classmethod
    def from_bytes(cls, state: bytes) -> Self:
        """Return what `to_bytes` wrote; ValueError if these bytes are no such state, cut short or changed."""
        if not state.startswith(cls._MAGIC):
            raise ValueError("not the state of a calibration of lossrs")
        calibration = cls()
        calibration._sums = Accumulator.from_bytes(state[len(cls._MAGIC) :], lossrs.L1Loss())
        return calibration

    def __eq__(self, other: object) -> bool:
        """Whether both hold the same, to the bit."""
        return isinstance(other, Calibration) and self._sums == other._sums

    __hash__ = None  # type: ignore[assignment]

    def bins(self, edges: Array = EDGES) -> Bins:
        """Return the predictions in bins, by default the finest.

        Parameters
        ----------
        edges : ndarray
            Some of `EDGES`, from 0 to 1.
        """
        groups = self._sums.result().groups
        if not groups:
            return Bins(*[np.empty(0)] * 6)
        which, numbers = divmod(groups.keys_columns[0], len(EDGES))
        columns = {}
        for name in ("rows", "weight", "sum"):
            fine = np.zeros((2, len(EDGES) - 1))
            fine[which, numbers] = getattr(groups, name)
            columns[name] = fine
        starts = np.searchsorted(EDGES, edges[:-1])
        rows = np.add.reduceat(columns["rows"][_OBSERVED], starts)
        weight = np.add.reduceat(columns["weight"][_OBSERVED], starts)
        full = weight > 0
        with np.errstate(all="ignore"):
            predicted, observed = (np.add.reduceat(total, starts) / weight for total in columns["sum"])
        columns_of_bins = (edges[:-1], edges[1:], rows.astype(np.int64), weight, predicted, observed)
        return Bins(*(column[full] for column in columns_of_bins))


#: Probabilities, what came of them, and their weights.
Predictions = tuple[Array, Array, Array | None]


def predictions(loss: Loss, input: Array, target: Array, sample_weight: Array | None = None) -> Predictions | None:
    """Return the predictions that a loss is of, without those that are ignored; of several targets there are none."""
    name, input, target = loss.function_name, np.asarray(input), np.asarray(target)
    if input.dtype not in (np.float32, np.float64):
        input = input.astype(np.float32 if input.dtype.kind != "i" else np.float64)
    if name in _BINARY:
        if name != "binary_cross_entropy":
            # The sigmoid is the derivative where the target is 0.
            zeros = np.zeros_like(input)
            input = F.binary_cross_entropy_with_logits.value_and_grad(input, zeros, reduction="sum")[1]
        # A column is as good as a list of one.
        input, target = (array if array.ndim == 2 else array[:, None] for array in (input, target))
        return input, target, None if sample_weight is None else sample_weight[:, None]
    if name not in _CLASSES or target.ndim != 1 or input.ndim != 2:
        return None
    kept = target != loss.ignore_index  # type: ignore[attr-defined]
    if not kept.all():
        input, target = input[kept], target[kept]
        sample_weight = None if sample_weight is None else sample_weight[kept]
    likeliest = np.argmax(input, axis=1)
    of_class: Any = F.nll_loss if name == "nll_loss" else F.cross_entropy
    surprise = np.maximum(of_class(input, likeliest, reduction="none"), 0)
    # This loss of target 0 is the exponential, of the same bits on every machine.
    probability = F.poisson_nll_loss(-surprise, np.zeros_like(surprise), reduction="none")
    return probability, likeliest == target, sample_weight
