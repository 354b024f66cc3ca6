"""A second model's predictions on the same rows, ``--compare``, and intervals by the bootstrap, ``--bootstrap``.

1. Differences are taken row by row and added up in an accumulator of their own: the standard error of their mean is
   that of a paired comparison, which knows that what is hard for one model is hard for the other.
2. A row is drawn for a replicate by its file and its number there, whichever runs and states it comes by. So both
   models' replicates are of the same rows, and their differences are replicates of the difference.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lossrs.accumulator import Accumulator, Bootstrap, Groups, Result, Summary, Terms
from lossrs.scoring.columns import Array, Batch
from lossrs.scoring.figures import Figure

#: The operand that stands for the second model's input.
ROLE = "compare"
LEVEL = 0.95

_MEAN_INTERVAL = (Figure("mean_lower", "95% from"), Figure("mean_upper", "95% to"))
_FIGURES = (
    *_MEAN_INTERVAL,
    Figure("second_mean", "second mean", ".8g"),
    Figure("second_standard_error", "standard error of the second", ".3g", in_tables=False),
    Figure("second_mean_lower", "second from", in_tables=False),
    Figure("second_mean_upper", "second to", in_tables=False),
    Figure("difference", "difference"),
    Figure("difference_standard_error", "its standard error", ".3g"),
    Figure("difference_lower", "difference from"),
    Figure("difference_upper", "difference to"),
    Figure("win_rate", "win rate", ".4g"),
)


def drawn_by(batch: Batch) -> Array:
    """Return the numbers by which the rows of a batch are drawn."""
    path = str(batch.source).encode("utf-8", "surrogateescape")
    start = np.frombuffer(hashlib.blake2b(path, digest_size=8).digest(), "<u8").astype(np.uint64)
    rows = batch.row_numbers() - batch.first + batch.start
    drawn: Array = (start + rows.astype(np.uint64)).view(np.int64)
    return drawn


@dataclass
class Comparison:
    """What is known of a second model: its losses, how much larger they are, and in which rows they are smaller."""

    second: Accumulator
    differences: Accumulator
    wins: Accumulator

    @property
    def accumulators(self) -> tuple[Accumulator, Accumulator, Accumulator]:
        """All that has to be kept."""
        return self.second, self.differences, self.wins

    def terms(self, first: Terms, second: Terms) -> tuple[Terms, Terms, Terms]:
        """Return what rows add to each accumulator."""
        with np.errstate(all="ignore"):
            losses = second.losses.astype(np.float64) - first.losses
            differences = Terms(losses, second.values.astype(np.float64) - first.values, first.weight, first.ignored)
            won = (second.losses < first.losses).astype(np.float64)
            weighed = won if first.weight is None else won * first.weight
        if first.ignored is not None:
            weighed = np.where(first.ignored, 0.0, weighed)
        return second, differences, Terms(won, weighed, first.weight, first.ignored)

    def merge(self, other: Comparison) -> None:
        """Add what another knows."""
        for mine, theirs in zip(self.accumulators, other.accumulators, strict=True):
            mine.merge(theirs)

    def renumber(self, starts: Sequence[int], to: Sequence[int]) -> None:
        """Give rows other numbers, as `Accumulator.renumber` does."""
        for accumulator in self.accumulators:
            accumulator.renumber(starts, to)

    def result(self, in_order: Callable[[Result], Result]) -> Compared:
        """Return what is known."""
        return Compared(*(in_order(accumulator.result()) for accumulator in self.accumulators))


@dataclass(frozen=True)
class Compared:
    """How a second model does on the same rows.

    Attributes
    ----------
    second : Result
        Of its losses.
    difference : Result
        Of its loss less that of the first, row by row: below 0 where the second is better. The standard error of the
        mean is that of the paired comparison.
    wins : Result
        Of a number that is 1 where its loss is smaller and 0 where it is not: the mean is the win rate.
    """

    second: Result
    difference: Result
    wins: Result


def wanted(*, compares: bool, bootstrap: bool) -> list[Figure]:
    """Return the figures that there are."""
    of_one_or_two = _FIGURES if compares else _MEAN_INTERVAL
    return [figure for figure in of_one_or_two if bootstrap or not figure.name.endswith(("_lower", "_upper"))]


def figures(result: Result, compared: Compared | None) -> Iterator[tuple[Figure, float, Array | None]]:
    """Iterate over the figures, with their values for all rows and for each group."""
    chosen = wanted(compares=compared is not None, bootstrap=result.bootstrap is not None)
    others = () if compared is None else (compared.second, compared.difference, compared.wins)
    overall = _values(result, *others)
    columns: dict[str, Any] = {}
    if result.groups:
        columns = _values(result.groups, *(other.groups for other in others if other.groups is not None))
    for figure in chosen:
        column = None if result.groups is None else np.asarray(columns.get(figure.name, ()), np.float64)
        yield figure, float(overall[figure.name]), column


def _values(first: Summary | Groups, *others: Summary | Groups) -> dict[str, Any]:
    """Return the values of the figures by their names."""
    values: dict[str, Any] = {}

    def add_interval(name: str, bootstrap: Bootstrap) -> None:
        values[f"{name}_lower"], values[f"{name}_upper"] = bootstrap.interval(LEVEL)

    if first.bootstrap is not None:
        add_interval("mean", first.bootstrap)
    if not others:
        return values
    second, difference, wins = others
    values |= {
        "second_mean": second.mean,
        "second_standard_error": second.standard_error,
        "difference": difference.mean,
        "difference_standard_error": difference.standard_error,
        "win_rate": wins.mean,
    }
    if first.bootstrap is not None and second.bootstrap is not None:
        add_interval("second_mean", second.bootstrap)
        add_interval("difference", second.bootstrap - first.bootstrap)
    return values
