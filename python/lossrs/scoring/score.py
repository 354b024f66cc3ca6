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
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

import lossrs
import lossrs.functional
from lossrs.definitions.embeddings import EmbeddingsLoss
from lossrs.definitions.pointwise import PointwiseLoss
from lossrs.definitions.rows import RowwiseLoss
from lossrs.scoring.batches import BATCH_ROWS, ENDINGS, LISTS, Part, Request, Table, batches, open_table
from lossrs.scoring.columns import (
    Array,
    Batch,
    Key,
    Labels,
    Numbers,
    ScoreError,
    keys,
    natural_order,
    near_misses,
    only,
    select,
)
from lossrs.scoring.files import File, find_files
from lossrs.scoring.per_sample import PerSample
from lossrs.scoring.where import Where


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
    """What ``score`` returns: the result overall and, in the order of their keys, of each group.

    Keys are the values of the column of groups, or tuples of the values of several.
    """

    files: tuple[Path, ...]
    loss: str
    options: dict[str, Any]
    by: tuple[str, ...]
    overall: Summary
    groups: dict[Key, Summary] | None


def score(
    files: str | Path | Sequence[str | Path],
    loss: str,
    *,
    options: Mapping[str, Any] | None = None,
    by: str | Sequence[str] = (),
    sample_weight: str | None = None,
    labels: Sequence[str] | None = None,
    where: str | None = None,
    shard: tuple[int, int] = (1, 1),
    per_sample: str | Path | None = None,
    batch_size: int = BATCH_ROWS,
    progress: Callable[[int, int | None], None] | None = None,
    **operands: str,
) -> Score:
    """Score the predictions in files.

    Parameters
    ----------
    files : path or sequence of paths
        Parquet, Arrow, CSV, ``.npy`` and ``.npz`` files, globs, folders, or ``-`` for an Arrow stream on standard
        input. They are read in the order of their paths. Folders named ``name=value`` give columns.
    loss : str
        The name of a loss: ``"cross_entropy"``.
    **operands : str
        The columns of each operand of the loss, mostly `input` and `target`: a name, a comma list, or a glob.
    options : mapping, optional
        The options of the loss.
    by : str or sequence of str, optional
        The columns whose values group the rows.
    sample_weight : str, optional
        The column that weighs the rows.
    labels : sequence of str, optional
        What the strings of the target stand for: 0, 1, 2, ... in this order.
    where : str, optional
        Which rows count: an expression in the language of ``lossrs.scoring.where``.
    shard : (int, int), optional
        (i, n) reads the i-th of n shares of the rows, cut where row groups or record batches begin.
    per_sample : path, optional
        Where to write what ``reduction="none"`` gives for each row: a Parquet, Arrow, CSV or ``.npy`` file.
    batch_size : int
        The most rows to hold at a time. It does not change any result.
    progress : callable, optional
        Called after each batch with the rows that are done and the rows in all (None if not known).

    Raises
    ------
    ScoreError
        A file or the request is wrong.
    """
    if batch_size < 1:
        raise ScoreError(f"the batch size must be at least 1, got {batch_size}")
    if not 1 <= shard[0] <= shard[1]:
        raise ScoreError(f"a shard is one of 1/n to n/n, got {shard[0]}/{shard[1]}")
    if loss not in lossrs.losses:
        raise ScoreError(f"no loss {loss!r}{near_misses(loss, lossrs.losses)}")
    if not issubclass(lossrs.losses[loss], PointwiseLoss | RowwiseLoss | EmbeddingsLoss):
        raise ScoreError(f"{loss} has no loss of each row by itself, and so no score of a file")
    found = find_files([files] if isinstance(files, str | Path) else files, ENDINGS)
    names = lossrs.losses[loss]().operands
    if sorted(operands) != sorted(names):
        raise ScoreError(f"{loss} takes columns for {', '.join(names)}, got {', '.join(operands) or 'none'}")
    condition = None if where is None else Where(where)
    vocabulary = None if labels is None else Labels(labels)
    if vocabulary and "target" not in names:
        raise ScoreError(f"{loss} has no target that labels could be of")
    columns = dict.fromkeys(names, "") | operands
    if sample_weight is not None:
        columns["sample_weight"] = sample_weight
    survey = _Survey(columns, [by] if isinstance(by, str) else by, condition, labels is not None)
    parts = survey.parts(found, shard)
    numbers = {
        role: Numbers(chosen, vocabulary if role == "target" else None) for role, chosen in survey.chosen.items()
    }
    weights = numbers.pop("sample_weight", None)
    rows_of = _RowLosses(loss, dict(options or {}), numbers, vocabulary)
    groups: dict[Key, _Moments] = {}
    with (
        PerSample(per_sample, [file.path for file in found]) as output,
        closing(batches(parts, survey.request(batch_size), survey.opened)) as read,
    ):
        for batch in read:
            operand_arrays = rows_of.read(batch)
            w = weights.read(batch) if weights else None
            codes, group_keys = keys(survey.by, batch) if survey.by else (None, [])
            if batch.rows:
                losses, weight, ignored = rows_of(operand_arrays, w, batch)
                output.write(losses)
                _add(groups, losses, weight, ignored, codes, group_keys)
            if progress:
                progress(batch.done, survey.rows)
    overall = _Moments()
    for moments in groups.values():
        overall.merge(moments)
    defaults = {field.name: field.default for field in dataclasses.fields(lossrs.losses[loss])}
    defaults.pop("reduction", None)
    return Score(
        tuple(file.path for file in found),
        loss,
        defaults | dict(options or {}),
        tuple(survey.by),
        overall.summary(),
        {group: groups[group].summary() for group in sorted(groups, key=_group_order)} if survey.by else None,
    )


class _Survey:
    """A look at all files before any is read: which columns are meant, whether they agree, and how long they are."""

    def __init__(self, requests: dict[str, str], by: Sequence[str], where: Where | None, has_labels: bool) -> None:
        self._requests, self._by, self._where, self._has_labels = requests, by, where, has_labels
        self.chosen: dict[str, list[str]] = {}  # the columns of each operand, and of the sample weight
        self.by: list[str] = []
        self.rows: int | None = 0
        self.opened: Table | None = None
        self._kinds: dict[str, str] = {}
        self._first: Path | None = None

    def parts(self, files: Sequence[File], shard: tuple[int, int]) -> list[Part]:
        """Look at all files and return the parts of this share, without the files whose paths the filter rules out."""
        kept: list[File] = []
        units: list[list[int]] = []
        for file in files:
            table = open_table(file)
            # What a file holds is nearer to the truth than what its path says.
            file = File(file.path, {name: file.constants[name] for name in file.constants if name not in table.names})
            self._compare(table, file)
            if self._where is not None and self._where.excludes(file.constants):
                continue
            if self.rows is not None:
                self.rows = None if table.rows is None else self.rows + table.rows
            if shard != (1, 1):
                units.append(table.units())
            kept.append(file)
            table.file = file
        if shard != (1, 1):
            return self._share(kept, units, shard)
        self.opened = table if len(files) == 1 else None
        return [Part(file, 0, None, None) for file in kept]

    def request(self, most_rows: int) -> Request:
        """Return what is to be read of each file."""
        numbers = [
            name for role, names in self.chosen.items() for name in names if not (role == "target" and self._has_labels)
        ]
        texts = self.by + (self.chosen["target"] if self._has_labels else [])
        if self._where is not None:
            numbers, texts = numbers + self._where.numbers, texts + self._where.texts
        return Request(list(dict.fromkeys(numbers)), list(dict.fromkeys(texts)), self._where, most_rows)

    def _share(self, files: Sequence[File], units: list[list[int]], shard: tuple[int, int]) -> list[Part]:
        total = sum(of_file[-1] for of_file in units)
        parts, before = [], 0
        for file, of_file in zip(files, units, strict=True):
            # A unit belongs to the share in which its first row falls.
            mine = [
                index
                for index, start in enumerate(of_file[:-1])
                if (before + start) * shard[1] // max(total, 1) == shard[0] - 1
            ]
            if mine:
                first, last = of_file[mine[0]], of_file[mine[-1] + 1]
                parts.append(Part(file, first, last, before + first))
            before += of_file[-1]
        self.rows = sum((part.last or 0) - part.first for part in parts)
        return parts

    def _compare(self, table: Table, file: File) -> None:
        names = [*table.names, *file.constants]

        def chosen(request: str) -> list[str]:
            return select(request, names, table.path, numbered=table.numbered)

        roles = {role: chosen(request) for role, request in self._requests.items()}
        by = list(dict.fromkeys(name for request in self._by for name in chosen(request)))
        for role, request in self._requests.items():
            if role == "sample_weight" and (len(roles[role]) != 1 or ":" in roles[role][0]):
                raise ScoreError(f"{table.path}: {request!r} means {len(roles[role])} columns; one is needed")
        if any(":" in name for name in by):
            raise ScoreError(f"{table.path}: {', '.join(by)!r} means several columns; groups need each by its number")
        if self._where is not None:
            for name in [*self._where.numbers, *self._where.texts]:
                only(name, names, table.path)
        if self._first is None:
            self._first, self.chosen, self.by = table.path, roles, by
        for role, request in self._requests.items():
            if roles[role] != self.chosen[role]:
                counts = f"{len(roles[role])} columns, in {self._first} {len(self.chosen[role])}"
                raise ScoreError(
                    f"{table.path}: {request!r} means {counts}: {_difference(roles[role], self.chosen[role])}"
                )
        for role, role_names in roles.items():
            for name in role_names:
                if name not in file.constants:
                    self._check_kind(table, name, is_labels=role == "target" and self._has_labels)

    def _check_kind(self, table: Table, name: str, *, is_labels: bool) -> None:
        kind = table.kind(name)
        if kind is None:
            return
        if not is_labels and kind.removeprefix(LISTS) not in _NUMERIC:
            raise ScoreError(f"{table.path}: column {name!r} holds {kind}; numbers are needed")
        first = self._kinds.setdefault(name, kind)
        if first != kind and not is_labels:
            raise ScoreError(f"{table.path}: column {name!r} holds {kind}, in {self._first} it holds {first}")


_NUMERIC = ("integer", "float16", "bfloat16", "float32", "float64", "fixed_size_binary[2]")


def _difference(names: list[str], first: list[str]) -> str:
    missing, added = [name for name in first if name not in names], [name for name in names if name not in first]
    if missing or added:
        return f"{missing[0]!r} is missing" if missing else f"{added[0]!r} is new"
    return "they are others"


def _group_order(key: Key) -> tuple[Any, ...]:
    if isinstance(key, tuple):
        return tuple(_group_order(part) for part in key)
    if key is None:
        return 2, 0
    if not isinstance(key, str):
        return 0, key
    return (0, float(key)) if re.fullmatch(r"-?\d+(\.\d*)?", key) else (1, natural_order(key))


class _RowLosses:
    """The loss as a function of a batch."""

    def __init__(self, name: str, options: dict[str, Any], operands: dict[str, Numbers], labels: Labels | None) -> None:
        self._name, self._operands, self._labels = name, operands, labels
        try:
            self._loss = lossrs.losses[name](reduction="none", **options)
        except (ValueError, TypeError) as error:
            raise ScoreError(f"{name}: {error}") from error
        self._is_elementwise = isinstance(self._loss, PointwiseLoss)
        self._inputs = [operand in self._loss.inputs for operand in operands]
        # A loss that can ignore a label has labels, and classes along axis 1.
        self._ignore_index: int | None = getattr(self._loss, "ignore_index", None)
        self._weight: Array | None = getattr(self._loss, "weight", None)
        # The mean of some losses is divided by the sum of `weight`; that of others, such as Huber's, is not.
        self._weight_normalises = False
        if self._weight is not None and self._is_elementwise:
            mean = getattr(lossrs.functional, name)
            self._weight_normalises = bool(mean([0.25], [0.75], weight=2.0) == mean([0.25], [0.75]))

    def read(self, batch: Batch) -> list[Array]:
        """Return the operands of a batch."""
        arrays: list[Array] = []
        for name, columns in self._operands.items():
            if name == "target" and self._labels is not None and isinstance(self._loss, RowwiseLoss):
                classes, known = _in_columns(arrays[0]).shape[1], len(self._labels.names)
                if classes != known:
                    raise ScoreError(f"{known} labels for {classes} input columns; the numbers must be equal")
            arrays.append(columns.read(batch))
        return arrays

    def __call__(self, operands: list[Array], w: Array | None, batch: Batch) -> tuple[Array, Array | None, Array]:
        """Return the rows' weighted losses, their weights (None: all 1), and which are ignored."""
        if w is not None and w.ndim != 1:
            raise ScoreError(f"{batch.path}: the sample weight has {w.shape[1]} columns; one is needed")
        # Half precision is computed in single; the losses are not to be rounded back.
        operands = [array.astype(np.float32) if array.dtype == np.float16 else array for array in operands]
        if self._is_elementwise:
            operands = self._elementwise(operands, batch)
        else:
            pairs = zip(operands, self._inputs, strict=True)
            operands = [_in_columns(array) if is_input else array for array, is_input in pairs]
        losses = self._evaluate(operands, w[:, None] if w is not None and self._is_elementwise else w, batch)
        x, y = operands[0], operands[-1]
        has_labels = self._ignore_index is not None and y.ndim == 1
        ignored = y == self._ignore_index if has_labels else np.zeros(batch.rows, bool)
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

    def _elementwise(self, operands: list[Array], batch: Batch) -> list[Array]:
        operands = [_in_columns(array) for array in operands]
        first = operands[0]
        for name, array in zip(self._operands, operands, strict=True):
            if array.shape != first.shape:
                found = f"{first.shape[1]} {next(iter(self._operands))} columns and {array.shape[1]} {name} columns"
                raise ScoreError(f"{batch.path}: {found}; the numbers must be equal")
        return [array.astype(first.dtype, copy=False) if first.dtype.kind == "f" else array for array in operands]

    def _evaluate(self, operands: list[Array], w: Array | None, batch: Batch) -> Array:
        classes = operands[0].shape[-1]
        try:
            losses = np.asarray(self._loss(*operands, sample_weight=w))
        except lossrs.LabelError as error:
            wrong = f"is outside [0, {classes})" if error.label == error.label // 1 else "is not a whole number"
            found = f": label {error.label} at row {batch.row(error.row)} {wrong}"
            raise batch.error(self._operands["target"].names[0], found) from error
        except lossrs.DomainError as error:
            row, index = divmod(error.row, classes)
            of = {name: array[row, index] for name, array in zip(self._operands, operands, strict=True)}
            columns = self._operands[next((name for name, value in of.items() if value == error.value), "input")]
            found = f": {error.value} at row {batch.row(row)} is outside the domain of {self._name}"
            raise batch.error(columns.name_of(index, classes), found) from error
        except (ValueError, TypeError) as error:
            raise ScoreError(f"{self._name}: {error}") from error
        return losses


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
    def product(a: Array, b: Array) -> Array:
        if losses.dtype != np.float32:
            return _product(a, b)
        with np.errstate(all="ignore"):
            return np.multiply(a, b)  # exact, as they have single precision

    v = losses.astype(np.float64, copy=False)
    terms = {_VALUE: v, _SQUARE: product(v, v)}
    if weight is not None:
        w = weight.astype(np.float64, copy=False)
        terms |= {_WEIGHT: w, _CROSS: product(v, w), _WEIGHT_SQUARE: product(w, w)}
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
