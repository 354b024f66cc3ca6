"""Losses of tables: which columns are what, whichever library the tables are of.

A table is a pandas data frame, a dict of arrays, or whatever Arrow takes: its own tables and record batches, those of
Polars, DuckDB and others. ``lossrs.ray``, ``lossrs.dask`` and a loop of one's own, in Spark's ``mapInArrow`` say, hand
the parts of their data to what is here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from lossrs._lossrs import DomainError, LabelError
from lossrs.accumulator import UNNUMBERED, Accumulator, Array, Terms
from lossrs.loss import Loss
from lossrs.scoring.columns import Batch, Labels, Numbers, ScoreError, groups_of, only, select
from lossrs.scoring.row_losses import BY_ROWS, RowLosses

Names: TypeAlias = str | Sequence[str]


def accumulate(
    tables: Iterable[Any],
    loss: Loss,
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
    **operands: Names,
) -> Accumulator:
    """Add up the losses of the rows of tables.

    Parameters
    ----------
    tables : iterable
        The parts of a table, each small enough for memory.
    loss : Loss
        A loss that each row has by itself: of elements, of rows of scores, or of embeddings.
    histogram, worst, bootstrap, seed
        As in `lossrs.Accumulator`. Worst rows need `ids`; replicates need `ids` or `cluster`.
    sample_weight : str, optional
        The column that weighs the rows.
    group : str or sequence of str, optional
        The column whose values group the rows; several make groups of their combinations.
    ids : str, optional
        The column of integers or strings that names the rows, in `minimum_row`, `maximum_row` and `worst`. Without it
        rows have no numbers, because those would depend on how the rows are split, and the extremes' rows are None.
    cluster : str, optional
        The column of integers or strings whose rows are drawn together in the replicates.
    labels : sequence of str, optional
        What the strings of the target stand for: 0, 1, 2, ... in this order.
    **operands : str or sequence of str
        The columns of each operand of the loss, mostly `input` and `target`: one of numbers or of lists, several, or a
        glob, ``'logit_*'``. An elementwise loss over several columns has their mean as the loss of a row.

    Returns
    -------
    Accumulator
        The same to the bit however the rows are split into tables, and in whatever order.

    Raises
    ------
    LabelError, DomainError, ValueError
        The message names the column, and the row of the table.

    Examples
    --------
    >>> import lossrs, lossrs.tables
    >>> parts = [{"predicted": [2.5, 0.0], "price": [3.0, -0.5]}, {"predicted": [2.0], "price": [2.0]}]
    >>> total = lossrs.tables.accumulate(parts, lossrs.MSELoss(), input="predicted", target="price")
    >>> round(total.result().mean, 4)
    0.1667
    """
    columns = Columns(operands, sample_weight, group, ids, cluster, labels)
    settings = {"histogram": histogram, "worst": worst, "bootstrap": bootstrap, "seed": seed}
    return Scoring(loss, columns, settings).accumulate(tables)


class PerSample:
    """A table with the losses of its rows as a further column, of double precision: a function of tables.

    Parameters
    ----------
    loss : Loss
        As in `accumulate`.
    name : str, default 'loss'
        What the column is called; one of that name is replaced.
    labels, **operands
        As in `accumulate`.

    Examples
    --------
    >>> import lossrs, lossrs.tables
    >>> errors = lossrs.tables.PerSample(lossrs.L1Loss(), input="predicted", target="price")
    >>> errors({"predicted": [2.5, 0.0], "price": [3.0, -0.5]})["loss"]
    array([0.5, 0.5])
    """

    def __init__(
        self, loss: Loss, *, name: str = "loss", labels: Sequence[str] | None = None, **operands: Names
    ) -> None:
        self.name, self.scoring = name, Scoring(loss, Columns(operands, labels=labels))

    def __call__(self, table: Any) -> Any:
        """Return the table with the column: of pandas, a dict of arrays, or of Arrow as it was."""
        losses = self.scoring.losses(table)
        if hasattr(table, "assign"):
            return table.assign(**{self.name: losses})
        if isinstance(table, Mapping):
            return {**table, self.name: losses}
        import pyarrow as pa

        arrow = table if isinstance(table, pa.Table | pa.RecordBatch) else pa.table(table)
        if self.name in arrow.schema.names:
            return arrow.set_column(arrow.schema.names.index(self.name), self.name, pa.array(losses))
        return arrow.append_column(self.name, pa.array(losses))


@dataclass(frozen=True)
class Columns:
    """Which columns are what."""

    operands: Mapping[str, Names]
    sample_weight: str | None = None
    group: Names | None = None
    ids: str | None = None
    cluster: str | None = None
    labels: Sequence[str] | None = None

    def of(self, names: Sequence[str], source: str) -> dict[str, list[str]]:
        """Return the columns of a table that each operand, the weight, the groups, the ids and the clusters are."""
        requests: dict[str, Names] = dict(self.operands)
        for role in ("sample_weight", "group", "ids", "cluster"):
            if (request := getattr(self, role)) is not None:
                requests[role] = [request] if isinstance(request, str) else request
        path = Path(source)
        return {
            role: select(request, names, path)
            if isinstance(request, str)
            else [only(name, names, path) for name in request]
            for role, request in requests.items()
        }


@dataclass(frozen=True)
class Scoring:
    """What is to be computed of tables: a loss, its columns, and what is kept."""

    loss: Loss
    columns: Columns
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what can't be, before anything is read."""
        self.zero()
        name = self.loss.function_name
        if not isinstance(self.loss, BY_ROWS):
            raise ValueError(f"{name} has no loss of each row by itself")
        if sorted(self.columns.operands) != sorted(self.loss.operands):
            given = ", ".join(self.columns.operands) or "none"
            raise TypeError(f"{name} takes columns for {', '.join(self.loss.operands)}, got {given}")
        if self.columns.labels is not None and "target" not in self.loss.operands:
            raise TypeError(f"{name} has no target that labels could be of")
        without = "rows of a table that comes in parts have no numbers"
        if self.settings.get("worst") and self.columns.ids is None:
            raise ValueError(f"worst rows need ids: {without}")
        if self.settings.get("bootstrap") and self.columns.ids is None and self.columns.cluster is None:
            raise ValueError(f"replicates need ids or clusters: {without}")

    def zero(self) -> Accumulator:
        """Return an accumulator of no rows."""
        return Accumulator(self.loss, **self.settings)

    def needed(self, names: Sequence[str], source: str) -> list[str]:
        """Return those of the columns that are read."""
        with _errors():
            return list(dict.fromkeys(name for role in self.columns.of(names, source).values() for name in role))

    def accumulate(self, tables: Iterable[Any], source: str = "table") -> Accumulator:
        """Return an accumulator of the rows of tables, which errors call `source`."""
        rows = _Rows(self, source)
        with _errors():
            for table in tables:
                rows.add(table)
        return rows.total

    def losses(self, table: Any, source: str = "table") -> Array:
        """Return the losses of the rows of a table."""
        with _errors():
            return _Rows(self, source).losses(table)


class _Rows:
    """The rows of tables that have the same columns."""

    def __init__(self, scoring: Scoring, source: str) -> None:
        self.total, self._columns, self._source = scoring.zero(), scoring.columns, Path(source)
        self._chosen: dict[str, list[str]] | None = None

    def add(self, table: Any) -> None:
        """Add the losses of a table."""
        found = self._terms(table)
        if found is None:
            return
        batch, terms = found
        group = None if self._group is None else groups_of(self._group, batch)
        ids, cluster = (self._names(of, batch) for of in (self._columns.ids, self._columns.cluster))
        self.total.add(terms, group=group, ids=ids, first_row=UNNUMBERED, cluster=cluster)

    def losses(self, table: Any) -> Array:
        """Return the losses of a table."""
        found = self._terms(table)
        return np.empty(0) if found is None else found[1].losses.astype(np.float64)

    def _terms(self, table: Any) -> tuple[Batch, Terms] | None:
        names, rows, column = _opened(table, self._source)
        if not rows:
            # It may have no columns either: the empty blocks of Ray.
            return None
        chosen = self._columns.of(names, str(self._source))
        if self._chosen is None:
            self._choose(chosen)
        elif chosen != self._chosen:
            raise ScoreError(f"{self._source}: the columns are {chosen}, those of tables before {self._chosen}")
        arrays = {}
        for name in dict.fromkeys(name for role in chosen.values() for name in role):
            try:
                arrays[name] = column(name)
            except (ValueError, TypeError, NotImplementedError) as error:
                raise ScoreError(f"{self._source}: column {name!r}: {error}") from None
        batch = Batch(self._source, rows, 0, 0, rows, arrays, arrays, self._source, rows)
        try:
            return batch, self._losses(*self._losses.read(batch), batch)
        except ScoreError as error:
            cause = error.__cause__
            if self._columns.ids is None or not isinstance(cause, LabelError | DomainError):
                raise
            raise ScoreError(
                f"{error} (id {np.asarray(self._names(self._columns.ids, batch)).item(cause.row)!r})"
            ) from cause

    def _choose(self, chosen: dict[str, list[str]]) -> None:
        """Settle on the columns of the first table."""
        labels = None if self._columns.labels is None else Labels(self._columns.labels)
        # In the order in which the loss takes them.
        roles = [role for role in (*self.total.loss.operands, "sample_weight") if role in chosen]
        numbers = {role: Numbers(chosen[role], labels if role == "target" else None) for role in roles}
        self._chosen, self._group = chosen, chosen.get("group")
        self._losses = RowLosses(self.total, numbers, labels)

    @staticmethod
    def _names(name: str | None, batch: Batch) -> Any:
        column = None if name is None else batch.texts[name]
        return column if column is None or isinstance(column, np.ndarray) else column.to_numpy(zero_copy_only=False)


@contextmanager
def _errors() -> Iterator[None]:
    """Raise what is wrong with data as the errors that the loss itself raises, with their row."""
    try:
        yield
    except ScoreError as error:
        cause = error.__cause__
        if not isinstance(cause, LabelError | DomainError):
            raise ValueError(str(error)) from None
        placed = type(cause)(str(error))
        vars(placed).update(vars(cause))
        raise placed from None


def labels_of(columns: Iterable[Any]) -> dict[str, Any]:
    """Return by their names what the columns of a table are labelled with: integers, where pandas numbers them."""
    return {str(label): label for label in columns}


def _opened(table: Any, source: Path) -> tuple[list[str], int, Callable[[str], Any]]:
    """Return the names of the columns, the number of rows, and what returns a column as an array of NumPy or Arrow."""
    if isinstance(table, Mapping):
        labels = labels_of(table)
        rows = _common_length(table, source)
        return list(map(str, table)), rows, lambda name: _array(np.asarray(table[labels[name]]))
    if hasattr(table, "iloc"):
        labels = labels_of(table.columns)
        return list(map(str, table.columns)), len(table), lambda name: _of_pandas(table[labels[name]])
    import pyarrow as pa

    arrow = table if isinstance(table, pa.Table | pa.RecordBatch) else pa.table(table)
    return arrow.schema.names, arrow.num_rows, lambda name: _in_one(arrow.column(name))


def _common_length(table: Mapping[Any, Any], source: Path) -> int:
    found: dict[int | None, Any] = {}
    for name, column in table.items():
        try:
            found.setdefault(len(column), name)
        except TypeError:
            found.setdefault(None, name)
    if len(found) > 1 or None in found:
        lengths = ", ".join(f"{name!r} has {'none' if rows is None else rows}" for rows, name in found.items())
        raise ScoreError(f"{source}: the columns must be of one length: {lengths}")
    return next(iter(found), 0) or 0


def _array(array: Array) -> Any:
    if array.dtype.name == "bfloat16":
        return array.astype(np.float32)
    if array.dtype.kind not in "OTM":
        return array
    import pyarrow as pa

    return pa.array(array if array.dtype.kind == "M" else array.tolist())


def _of_pandas(column: Any) -> Any:
    if isinstance(column.dtype, np.dtype):
        return _array(column.to_numpy())
    import pyarrow as pa

    return _in_one(pa.array(column))


def _in_one(column: Any) -> Any:
    return column.combine_chunks() if hasattr(column, "combine_chunks") else column
