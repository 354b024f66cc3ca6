"""The loss of a file's rows: mean with standard error, sum, counts, for all rows and for each group.

With l a row's loss and w its weight (the sample weight, for losses over classes times the weight of the class)::

    sum             Σ wl
    mean            m = Σ wl / Σ w
    standard error  sqrt(n / (n - 1) · Σ w²(l - m)²) / Σ w,   n the rows that are not ignored

An elementwise loss over several columns has as a row's loss the mean over its columns.

Outline:

1. Each batch gives wl for its rows, by the public function with ``reduction="none"``.
2. Σ wl, Σ w, Σ (wl)², Σ w·wl and Σ w² are kept as exact sums: a product is added as its rounded value and its
   rounding error (T. J. Dekker, 1971).
3. Mean and standard error are computed from them as fractions: Σ w²(l - m)² = Σ (wl)² - 2m Σ w·wl + m² Σ w² cancels
   without harm, and the mean is correctly rounded. No result depends on the batches, the order of rows or the threads.

Bound: exact while the squares stay within about 1e-290 … 1e300. Where they overflow, the standard error is nan.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

import lossrs
import lossrs.functional
from lossrs.scoring.batches import BATCH_ROWS, open_table
from lossrs.scoring.columns import Array, Key, Numbers, ScoreError, keys, natural_order, near_misses, select
from lossrs.scoring.per_sample import PerSample


@dataclasses.dataclass(frozen=True)
class Summary:
    """The result for all rows, or for a group of them."""

    rows: int
    ignored: int  # the target is the ignore_index, or the weight is zero
    nonfinite: int  # the loss is nan or infinite
    weight: float
    sum: float
    mean: float
    standard_error: float


@dataclasses.dataclass(frozen=True)
class Score:
    """What ``score`` returns: the result overall and, in the order of their keys, of each group."""

    file: Path
    loss: str
    options: dict[str, Any]
    overall: Summary
    groups: dict[Key, Summary] | None


def score(
    file: str | Path,
    loss: str,
    *,
    input: str,
    target: str,
    options: Mapping[str, Any] | None = None,
    by: str | None = None,
    sample_weight: str | None = None,
    per_sample: str | Path | None = None,
    batch_size: int = BATCH_ROWS,
    progress: Callable[[int, int | None], None] | None = None,
) -> Score:
    """Score the predictions in a file.

    Parameters
    ----------
    file : path
        A Parquet, Arrow, CSV, ``.npy`` or ``.npz`` file.
    loss : str
        The name of a loss: ``"cross_entropy"``.
    input, target : str
        Columns: a name, a comma list, or a glob.
    options : mapping, optional
        The options of the loss.
    by : str, optional
        The column whose values group the rows.
    sample_weight : str, optional
        The column that weighs the rows.
    per_sample : path, optional
        Where to write what ``reduction="none"`` gives for each row: a Parquet, Arrow, CSV or ``.npy`` file.
    batch_size : int
        The most rows to hold at a time. It does not change any result.
    progress : callable, optional
        Called after each batch with the rows that are done and the rows of the file (None if not known).

    Raises
    ------
    ScoreError
        The file or the request is wrong.
    """
    path = Path(file)
    if batch_size < 1:
        raise ScoreError(f"the batch size must be at least 1, got {batch_size}")
    if loss not in lossrs.losses:
        raise ScoreError(f"no loss {loss!r}{near_misses(loss, lossrs.losses)}")
    table = open_table(path)

    def numbers(request: str) -> Numbers:
        return Numbers(path, select(request, table.names, path, numbered=table.numbered))

    inputs, targets = numbers(input), numbers(target)
    weights = _one(numbers(sample_weight), sample_weight) if sample_weight else None
    key = _one(numbers(by), by).names[0] if by else None
    rows_of = _RowLosses(loss, dict(options or {}), inputs, targets)
    wanted = [*inputs.names, *targets.names, *(weights.names if weights else [])]
    groups: dict[Key, _Moments] = {}
    with PerSample(per_sample, path) as output:
        for batch in table.batches(wanted, key, batch_size):
            x, y = inputs.read(batch), targets.read(batch)
            w = weights.read(batch) if weights else None
            codes, labels = keys(path, key, batch) if key is not None else (None, [])
            if batch.rows:
                losses, weight, ignored = rows_of(x, y, w, batch.start)
                output.write(losses)
                _add(groups, losses, weight, ignored, codes, labels)
            if progress:
                progress(batch.start + batch.rows, table.rows)
    overall = _Moments()
    for moments in groups.values():
        overall.merge(moments)
    defaults = {field.name: field.default for field in dataclasses.fields(lossrs.losses[loss])}
    defaults.pop("reduction", None)
    return Score(
        path,
        loss,
        defaults | dict(options or {}),
        overall.summary(),
        {group: groups[group].summary() for group in sorted(groups, key=_group_order)} if key is not None else None,
    )


def _one(columns: Numbers, request: str) -> Numbers:
    if len(columns.names) != 1 or ":" in columns.names[0]:
        raise ScoreError(f"{columns.path}: {request!r} means {len(columns.names)} columns; one is needed")
    return columns


def _group_order(key: Key) -> tuple[int, Any]:
    if key is None:
        return 2, 0
    if not isinstance(key, str):
        return 0, key
    return (0, float(key)) if re.fullmatch(r"-?\d+(\.\d*)?", key) else (1, natural_order(key))


class _RowLosses:
    """The loss as a function of a batch."""

    def __init__(self, name: str, options: dict[str, Any], inputs: Numbers, targets: Numbers) -> None:
        self._path, self._name, self._inputs, self._targets = inputs.path, name, inputs, targets
        try:
            self._loss = lossrs.losses[name](reduction="none", **options)
        except (ValueError, TypeError) as error:
            raise ScoreError(f"{name}: {error}") from error
        # A loss that can ignore a label has labels, and classes along axis 1.
        self._ignore_index: int | None = getattr(self._loss, "ignore_index", None)
        self._weight: Array | None = getattr(self._loss, "weight", None)
        # The mean of some losses is divided by the sum of `weight`; that of others, such as Huber's, is not.
        self._weight_normalises = False
        if self._weight is not None and self._ignore_index is None:
            mean = getattr(lossrs.functional, name)
            self._weight_normalises = bool(mean([0.25], [0.75], weight=2.0) == mean([0.25], [0.75]))

    def __call__(self, x: Array, y: Array, w: Array | None, start: int) -> tuple[Array, Array | None, Array]:
        """Return the rows' weighted losses, their weights (None: all 1), and which are ignored."""
        if w is not None and w.ndim != 1:
            raise ScoreError(f"{self._path}: the sample weight has {w.shape[1]} columns; one is needed")
        has_classes = self._ignore_index is not None
        has_labels = has_classes and y.ndim == 1
        x = _in_columns(x)
        if x.dtype == np.float16:
            x = x.astype(np.float32)  # what half precision is computed in; the losses are not to be rounded back
        if not has_labels:
            y = _in_columns(y)
            if x.shape != y.shape:
                found = f"{x.shape[1]} input columns and {y.shape[1]} target columns"
                raise ScoreError(f"{self._path}: {found}; the numbers must be equal")
            if x.dtype.kind == "f":
                y = y.astype(x.dtype)
        losses = self._evaluate(x, y, w if w is None or has_classes else w[:, None], start)
        ignored = y == self._ignore_index if has_labels else np.zeros(len(x), bool)
        weight = None if w is None else w.astype(losses.dtype)
        if self._weight is not None and (has_labels or self._weight_normalises):
            own = self._weight.astype(losses.dtype)
            if has_labels:
                # A row that is left out may have a label that is no class.
                own = own[np.where((y >= 0) & (y < len(own)), y, 0).astype(np.intp)]
            else:
                own = np.broadcast_to(own, x.shape)
            weight = own if weight is None else own * (weight if has_labels else weight[:, None])
            weight = weight if has_labels else weight.mean(axis=1, dtype=np.float64)
        if losses.ndim == 2:
            losses = losses[:, 0] if x.shape[1] == 1 else np.ascontiguousarray(losses).mean(axis=1, dtype=np.float64)
        if weight is not None:
            weight = np.where(ignored, 0, weight)
            ignored = weight == 0
        return losses, weight, ignored

    def _evaluate(self, x: Array, y: Array, w: Array | None, start: int) -> Array:
        try:
            return np.asarray(self._loss(x, y, sample_weight=w))
        except lossrs.LabelError as error:
            wrong = f"is outside [0, {x.shape[1]})" if error.label == error.label // 1 else "is not a whole number"
            found = f"label {error.label} at row {start + error.row} {wrong}"
            raise ScoreError(f"{self._path}: column {self._targets.names[0]!r}: {found}") from error
        except lossrs.DomainError as error:
            row, index = divmod(error.row, x.shape[1])
            columns = self._inputs if x[row, index] == error.value else self._targets
            found = f"{error.value} at row {start + row} is outside the domain of {self._name}"
            raise ScoreError(f"{self._path}: column {columns.name_of(index, x.shape[1])!r}: {found}") from error
        except (ValueError, TypeError) as error:
            raise ScoreError(f"{self._name}: {error}") from error


def _in_columns(array: Array) -> Array:
    return array if array.ndim == 2 else array[:, None]


def _add(
    groups: dict[Key, _Moments],
    losses: Array,
    weight: Array | None,
    ignored: Array,
    codes: Array | None,
    labels: list[Key],
) -> None:
    """Add a batch to its groups; without groups, to the one that is called None."""
    nonfinite = ~np.isfinite(losses)
    if codes is None:
        terms = _terms(losses, weight)
        groups.setdefault(None, _Moments()).add(
            len(losses), int(ignored.sum()), int(nonfinite.sum()), terms, slice(None)
        )
        return
    order = np.argsort(codes, kind="stable")
    terms = _terms(losses[order], None if weight is None else weight[order])
    rows = np.bincount(codes, minlength=len(labels))
    ignored_rows = np.bincount(codes[ignored], minlength=len(labels))
    nonfinite_rows = np.bincount(codes[nonfinite], minlength=len(labels))
    ends = np.cumsum(rows).tolist()
    for index, label in enumerate(labels):
        part = slice(ends[index] - int(rows[index]), ends[index])
        moments = groups.setdefault(label, _Moments())
        moments.add(int(rows[index]), int(ignored_rows[index]), int(nonfinite_rows[index]), terms, part)


# The sums that are kept; without weights only the first two, because an ignored row's loss is 0.
_VALUE, _SQUARE, _CROSS, _WEIGHT, _WEIGHT_SQUARE = range(5)
_Terms = dict[int, Array]


def _terms(losses: Array, weight: Array | None) -> _Terms:
    v = losses.astype(np.float64, copy=False)
    terms = {_VALUE: v, _SQUARE: _product(v, v)}
    if weight is not None:
        w = weight.astype(np.float64, copy=False)
        terms |= {_WEIGHT: w, _CROSS: _product(v, w), _WEIGHT_SQUARE: _product(w, w)}
    return terms


def _product(a: Array, b: Array) -> Array:
    """Return rounded products and, where there are any, their rounding errors beside them."""
    with np.errstate(all="ignore"):
        product = a * b
        (a_high, a_low), (b_high, b_low) = _split(a), _split(b)
        error = a_low * b_low - (((product - a_high * b_high) - a_low * b_high) - a_high * b_low)
    return np.stack([product, error], axis=1) if error.any() else product


def _split(a: Array) -> tuple[Array, Array]:
    scaled = 134217729.0 * a  # 2^27 + 1
    high = scaled - (scaled - a)
    return high, a - high


class _Moments:
    """The sums for a group of rows."""

    __slots__ = ("ignored", "nonfinite", "rows", "sums")

    def __init__(self) -> None:
        self.rows = self.ignored = self.nonfinite = 0
        self.sums: dict[int, lossrs.ExactSum] = {}

    def add(self, rows: int, ignored: int, nonfinite: int, terms: _Terms, part: slice) -> None:
        self.rows += rows
        self.ignored += ignored
        self.nonfinite += nonfinite
        for kind, values in terms.items():
            self._sum(kind).add(values[part])

    def merge(self, other: _Moments) -> None:
        self.rows += other.rows
        self.ignored += other.ignored
        self.nonfinite += other.nonfinite
        for kind, total in other.sums.items():
            self._sum(kind).merge(total)

    def _sum(self, kind: int) -> lossrs.ExactSum:
        if kind not in self.sums:
            self.sums[kind] = lossrs.ExactSum()
        return self.sums[kind]

    def summary(self) -> Summary:
        counted = self.rows - self.ignored
        total, square = self._exact(_VALUE), self._exact(_SQUARE)
        if _WEIGHT in self.sums:
            cross, weight, weight_square = self._exact(_CROSS), self._exact(_WEIGHT), self._exact(_WEIGHT_SQUARE)
        else:
            cross, weight, weight_square = total, Fraction(counted), Fraction(counted)
        mean = error = math.nan
        if isinstance(total, float) or isinstance(weight, float):
            mean = float(total) / float(weight) if weight else math.nan
        elif weight:
            exact_mean = total / weight
            mean = _rounded(exact_mean)
            if isinstance(square, Fraction) and isinstance(cross, Fraction) and isinstance(weight_square, Fraction):
                spread = square - 2 * exact_mean * cross + exact_mean**2 * weight_square
                if counted > 1:
                    # Where products underflow, the spread may come out below zero.
                    error = math.sqrt(_rounded(max(spread, Fraction(0)) / weight**2 * counted / (counted - 1)))
        value = self.sums[_VALUE].value() if _VALUE in self.sums else 0.0
        return Summary(self.rows, self.ignored, self.nonfinite, _rounded(weight), value, mean, error)

    def _exact(self, kind: int) -> Fraction | float:
        """Return a sum without rounding: its rounded value, the rounded rest, and so on until nothing is left."""
        rest = lossrs.ExactSum()
        if kind in self.sums:
            rest.merge(self.sums[kind])
        exact = Fraction(0)
        while part := rest.value():
            if not math.isfinite(part):
                return part
            exact += Fraction(part)
            rest.add(np.array([-part]))
        return exact


def _rounded(number: Fraction | float) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf
