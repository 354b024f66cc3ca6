"""The figures of a score by name, for all rows and as columns of groups: what every format is made from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lossrs.accumulator import Groups, Key, Part, Summary
from lossrs.scoring.columns import Array


@dataclass(frozen=True)
class Figure:
    """A number that is known of all rows and of each group.

    Attributes
    ----------
    name : str
        What it is called in JSON, in CSV and in conditions.
    title : str
        What it is called in tables.
    format : str
        How tables round it.
    in_tables : bool
        Whether tables show it, which have little room.
    """

    name: str
    title: str
    format: str = ".6g"
    in_tables: bool = True


_COUNTS = (
    Figure("rows", "rows", "d"),
    Figure("ignored", "ignored", "d"),
    Figure("nonfinite", "non-finite", "d"),
)
_SUMS = (
    Figure("weight", "weight", ".10g", in_tables=False),
    Figure("sum", "sum", ".10g"),
)
_MEANS = (
    Figure("mean", "mean", ".8g"),
    Figure("standard_error", "standard error", ".3g"),
)
_EXTREMES = (
    Figure("minimum", "minimum", in_tables=False),
    Figure("minimum_row", "row of the minimum", "d", in_tables=False),
    Figure("maximum", "maximum", in_tables=False),
    Figure("maximum_row", "row of the maximum", "d", in_tables=False),
)
_BASE = (*_COUNTS, *_SUMS, *_MEANS, *_EXTREMES)
#: The figures whose values are no numbers, and which conditions cannot be about.
PLACES = ("minimum_row", "maximum_row")
#: The names of the figures that there always are.
NAMES = tuple(figure.name for figure in _BASE)


def quantile_name(share: float) -> str:
    """Return what a quantile is called: p50 for the median, p99.9."""
    return f"p{100 * share:.12g}"


class Figures:
    """The figures of a score.

    Attributes
    ----------
    figures : list of Figure
        In the order in which machines get them.
    by : tuple of str
        The columns whose values are the keys of the groups.
    overall : dict of str to number
        The figures of all rows.
    """

    def __init__(
        self, overall: Summary, groups: Groups | None, by: Sequence[str] = (), quantiles: Sequence[float] = ()
    ) -> None:
        self.by, self._groups, self._shares = tuple(by), groups, tuple(dict.fromkeys(quantiles))
        self.figures = [*_BASE, *(Figure(name, name) for name in overall.derived)]
        self.overall: dict[str, Any] = overall.to_dict()
        self._columns: dict[str, Array] = {}
        if groups is not None:
            self._columns = {figure.name: getattr(groups, figure.name) for figure in _BASE} | groups.derived
        names = [quantile_name(share) for share in self._shares]
        if names:
            self.figures += [Figure(name, name) for name in names]
            self.overall |= zip(names, overall.quantile(self._shares).tolist(), strict=True)

    def add(self, figure: Figure, overall: float, groups: Array | None = None) -> None:
        """Add a figure, its value for all rows and, if there are groups, for each of them."""
        self.figures.append(figure)
        self.overall[figure.name] = overall
        if groups is not None:
            self._columns[figure.name] = groups

    @property
    def in_tables(self) -> list[Figure]:
        """The figures that tables show, in their order: means and the like, then sums and counts."""
        last = [figure for figure in (*_SUMS, *_COUNTS) if figure.in_tables]
        first = [figure for figure in dict.fromkeys((*_MEANS, *self.figures)) if figure.in_tables]
        return [figure for figure in first if figure not in last] + last

    @property
    def group_count(self) -> int:
        """The number of groups."""
        return 0 if self._groups is None else len(self._groups)

    def key(self, index: int) -> tuple[Part, ...]:
        """Return the key of a group by its place."""
        assert self._groups is not None
        return tuple(column[index : index + 1].tolist()[0] for column in self._groups.keys_columns)

    def column(self, name: str) -> Array:
        """Return a figure of each group."""
        if name not in self._columns:
            names = [quantile_name(share) for share in self._shares]
            assert self._groups is not None
            assert name in names
            table = np.array([group.quantile(self._shares) for group in self._groups.values()], np.float64)
            self._columns |= zip(names, table.reshape(-1, len(names)).T, strict=True)
        return self._columns[name]

    def groups(self, figures: Sequence[Figure] | None = None, order: Array | None = None) -> Iterator[tuple[Key, ...]]:
        """Iterate over the groups: the parts of the key, and these figures, in their order or in another."""
        if self._groups is None:
            return
        columns = [*self._groups.keys_columns, *(self.column(figure.name) for figure in figures or self.figures)]
        # Piece by piece: lists of numbers take several times the room of arrays.
        for start in range(0, len(self._groups) if order is None else len(order), _PIECE):
            piece: Any = slice(start, start + _PIECE) if order is None else order[start : start + _PIECE]
            yield from zip(*(column[piece].tolist() for column in columns), strict=True)


_PIECE = 4_096


def shown(value: Any, figure: Figure | None = None) -> str:
    """Return a figure, or a part of a key, as tables show it."""
    if value is None:
        return "null" if figure is None else ""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if figure is None or isinstance(value, str) else format(value, figure.format)


def on_one_line(text: str) -> str:
    """Escape what would break a line, or make a terminal do something."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
