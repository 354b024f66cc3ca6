"""Which columns are meant, and what they hold as NumPy arrays.

A column of a batch is a NumPy array, an Arrow array, or the constant that a folder's name gives. Errors name the file,
the column and the row of the file.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Part = int | str | bool | None

_RANGE = re.compile(r"(-?\d+)?:(-?\d+)?")


class ScoreError(Exception):
    """What is wrong with a file or a request, in one line."""


def require_pyarrow(purpose: str) -> None:
    """Say what to install, if pyarrow is missing."""
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise ScoreError(f"{purpose} needs pyarrow: pip install 'lossrs[score]'") from None


def near_misses(word: str, words: Iterable[str]) -> str:
    """Return `` (did you mean 'label'?)``, or nothing when no word resembles this one."""
    close = difflib.get_close_matches(word, list(words), n=3, cutoff=0.6)
    return f" (did you mean {' or '.join(map(repr, close))}?)" if close else ""


def natural_order(name: str) -> list[tuple[bool, int, str]]:
    """Return a sorting key that puts ``logit_2`` before ``logit_10``."""
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in re.split(r"([0-9]+)", name)]


def select(request: str, names: Sequence[str], path: Path, *, numbered: bool = False) -> list[str]:
    """Find the columns that are asked for: names, globs in natural order, or ranges where columns are numbered."""
    if request in names:
        return [only(request, names, path)]
    selected: list[str] = []
    for part in request.split(","):
        if part in names:
            found = [only(part, names, path)]
        elif numbered and (match := _RANGE.fullmatch(part)):
            first, last = (int(number) if number else None for number in match.groups())
            found = [part] if range(len(names))[first:last] else []
        elif numbered and re.fullmatch(r"-\d+", part) and int(part) >= -len(names):
            found = [str(int(part) + len(names))]
        else:
            found = sorted((name for name in names if fnmatchcase(name, part)), key=natural_order)
        if not found:
            raise _no_column(path, part, names)
        selected += found
    return selected


def _no_column(path: Path, name: str, names: Sequence[str]) -> ScoreError:
    return ScoreError(f"{path}: no column {name!r}{near_misses(name, names) or f'; there are {_listed(names)}'}")


def only(name: str, names: Sequence[str], path: Path) -> str:
    """Return a column's name if there is just one of that name."""
    if name not in names:
        raise _no_column(path, name, names)
    if names.count(name) > 1:
        raise ScoreError(f"{path}: {names.count(name)} columns are named {name!r}")
    return name


def _listed(names: Sequence[str], most: int = 8) -> str:
    if not names:
        return "no columns"
    return ", ".join(map(repr, names[:most])) + (f" and {len(names) - most} more" if len(names) > most else "")


@dataclass(frozen=True)
class Constant:
    """A column that has one value in the whole file, an integer or a string: ``year=2024`` in its path."""

    value: int | str | None
    is_integer: bool

    def scalar(self) -> Any:
        """Return it as an Arrow scalar."""
        import pyarrow as pa

        return pa.scalar(self.value, pa.int64() if self.is_integer else pa.string())


@dataclass
class Batch:
    """Rows of a file.

    Attributes
    ----------
    path : Path
        The file, as errors call it.
    rows : int
        How many they are.
    start, first : int
        What the first is, counted from 0 in the file and over all files; without filter the others follow it.
    done : int
        How many rows have been dealt with when these have, in this and the files before.
    numbers, texts : dict of str to column
        The columns that are read as numbers and those that are labels or groups. They differ for text files.
    source : Path
        The file, as it was found.
    end : int
        The row of the file that comes next, perhaps in the next batch.
    is_last : bool
        Whether this, which has no rows, is the end of a file.
    kept : ndarray, optional
        The offsets from `start` of the rows that a filter left.
    """

    path: Path
    rows: int
    start: int
    first: int
    done: int
    numbers: dict[str, Any]
    texts: dict[str, Any]
    source: Path
    end: int
    is_last: bool = False
    kept: Array | None = None

    def row(self, index: int) -> int:
        """Return a row's number in the file."""
        return self.start + int(index if self.kept is None else self.kept[index])

    def row_numbers(self) -> Array:
        """Return the rows' numbers over all files."""
        return self.first + (np.arange(self.rows) if self.kept is None else self.kept)

    def filtered(self, mask: Array) -> Batch:
        """Return the rows that a mask leaves."""
        # Taking rows is quicker than filtering unless most are kept, and then not much slower.
        return self if mask.all() else self.taken(np.flatnonzero(mask))

    def taken(self, indices: Array) -> Batch:
        """Return some of the rows."""

        def taken(column: Any) -> Any:
            if isinstance(column, Constant):
                return column
            if isinstance(column, np.ndarray):
                return column[indices]
            import pyarrow as pa
            import pyarrow.compute as pc

            return pc.take(column, pa.array(indices), boundscheck=False)

        numbers = {name: taken(column) for name, column in self.numbers.items()}
        texts = {
            name: numbers[name] if column is self.numbers.get(name) else taken(column)
            for name, column in self.texts.items()
        }
        kept = indices if self.kept is None else self.kept[indices]
        return replace(self, rows=len(indices), numbers=numbers, texts=texts, kept=kept)

    def error(self, name: str, found: str) -> ScoreError:
        """Say what is wrong with a column."""
        return ScoreError(f"{self.path}: column {name!r}{found}")


@dataclass
class Labels:
    """What the strings of a column of labels stand for: 0, 1, 2, … in their order."""

    names: Sequence[str]

    def __post_init__(self) -> None:
        """Refuse labels that are there twice."""
        self._codes = {name: code for code, name in enumerate(self.names)}
        if not self.names:
            raise ScoreError("labels: there are none")
        if len(self._codes) < len(self.names):
            twice = next(name for code, name in enumerate(self.names) if self._codes[name] != code)
            raise ScoreError(f"labels: {twice!r} is there twice")

    def codes(self, name: str, batch: Batch) -> Array:
        """Return the labels of a batch as numbers."""
        occurring, indices = _distinct(name, batch)
        texts = [str(value).lower() if isinstance(value, bool) else str(value) for value in occurring]
        codes = np.array(
            [-1 if value is None else self._codes.get(text, -1) for value, text in zip(occurring, texts, strict=True)],
            np.int64,
        )
        rows: Array = codes[indices] if len(codes) else np.empty(0, np.int64)
        if (unknown := np.flatnonzero(rows < 0)).size:
            index = int(unknown[0])
            value = occurring[int(indices[index])]
            if value is None:
                raise batch.error(name, f": null at row {batch.row(index)}; a label is needed in every row")
            known = near_misses(str(value), self._codes) or f"; they are {_listed(self.names)}"
            raise batch.error(name, f": {value!r} at row {batch.row(index)} is none of the labels{known}")
        return rows


@dataclass
class Numbers:
    """The columns that together make one array of numbers: (rows,) for one plain column, else (rows, K).

    Attributes
    ----------
    names : list of str
        The columns.
    labels : Labels, optional
        What they hold, if that is no numbers.
    widths : dict of str to int or None
        How long the lists were so far; None of columns of plain numbers.
    """

    names: list[str]
    labels: Labels | None = None
    widths: dict[str, int | None] = field(default_factory=dict)
    _room: Array | None = None

    def read(self, batch: Batch) -> Array:
        """Read these columns of a batch; what was read before may be written over."""
        blocks = [self._block(name, batch) for name in self.names]
        if len(blocks) == 1:
            return blocks[0]
        blocks = [block if block.ndim == 2 else block[:, None] for block in blocks]
        # A column lies in one piece, as it does in the file: to put it there is one copy, and cheaper than rows.
        whole = self._space(sum(block.shape[1] for block in blocks), batch.rows, np.result_type(*blocks))
        place = 0
        for block in blocks:
            whole[place : place + block.shape[1]] = block.T
            place += block.shape[1]
        return whole.T

    def _space(self, columns: int, rows: int, dtype: np.dtype[Any]) -> Array:
        # Of one batch after the other: pages that the system has to clear cost as much as the copy.
        size = columns * rows
        if self._room is None or self._room.dtype != dtype or self._room.size < size:
            self._room = np.empty(size, dtype)
        return self._room[:size].reshape(columns, rows)

    def name_of(self, index: int, of: int) -> str:
        """Return the name of the column that is at an index of the array, or the names if lists make that uncertain."""
        return self.names[index] if len(self.names) == of else ",".join(self.names)

    def _block(self, name: str, batch: Batch) -> Array:
        if self.labels is not None:
            return self.labels.codes(name, batch)
        given = batch.numbers[name]
        if isinstance(given, Constant):
            if not given.is_integer or given.value is None:
                raise batch.error(name, f" is {given.value!r} by the file's path; numbers are needed")
            return np.full(batch.rows, given.value)
        column: Array = given if isinstance(given, np.ndarray) else self._from_arrow(name, given, batch)
        if column.dtype == np.dtype("V2"):  # how NumPy's files keep bfloat16
            column = _from_bfloat16(column.view("<u2"))
        if column.dtype.kind not in "fiub" or column.ndim > 2:
            raise _wrong_type(name, numpy_type(column), batch)
        self._check_width(name, column.shape[1] if column.ndim == 2 else None, batch)
        return column.view(np.uint8) if column.dtype.kind == "b" else column

    def _check_width(self, name: str, width: int | None, batch: Batch) -> None:
        if batch.rows and self.widths.setdefault(name, width) != width:
            found, first = ("a number" if n is None else f"{n} values" for n in (width, self.widths[name]))
            raise batch.error(name, f" holds {found} at row {batch.row(0)}, in the first row {first}")

    def _from_arrow(self, name: str, column: Any, batch: Batch) -> Array:
        import pyarrow as pa

        if isinstance(column, pa.ExtensionArray):
            column = column.storage
        if isinstance(column, pa.DictionaryArray):
            column = column.dictionary_decode()
        self._refuse_nulls(name, column, batch, 1)
        if isinstance(column, (pa.FixedSizeListArray, pa.ListArray, pa.LargeListArray)):
            width = self._width(name, column, batch)
            values = column.flatten()
            self._refuse_nulls(name, values, batch, width)
        else:
            width, values = None, column
        if pa.types.is_fixed_size_binary(values.type) and values.type.byte_width == 2:
            # Lance's extension type for bfloat16; Parquet's own FLOAT16 is halffloat.
            bits = np.frombuffer(values.buffers()[1] or b"", "<u2")
            numbers = _from_bfloat16(bits[values.offset : values.offset + len(values)])
        elif pa.types.is_floating(values.type) or pa.types.is_integer(values.type):
            # As `to_numpy` would, which gives up the interpreter's lock for nothing, and then waits for it.
            dtype, buffer = np.dtype(values.type.to_pandas_dtype()), values.buffers()[1]
            numbers = np.frombuffer(buffer or b"", dtype, len(values), values.offset * dtype.itemsize)
        elif pa.types.is_boolean(values.type):
            numbers = values.to_numpy(zero_copy_only=False)
        else:
            raise _wrong_type(name, str(column.type), batch)
        return numbers if width is None else numbers.reshape(len(column), width)

    def _width(self, name: str, column: Any, batch: Batch) -> int:
        import pyarrow as pa

        if pa.types.is_fixed_size_list(column.type):
            return int(column.type.list_size)
        lengths = np.asarray(column.value_lengths())
        if not lengths.size:
            return self.widths.get(name) or 0
        width = self.widths.setdefault(name, int(lengths[0])) or 0
        if (wrong := np.flatnonzero(lengths != width)).size:
            index = int(wrong[0])
            found = f"the list at row {batch.row(index)} has {lengths[index]} values, the first has {width}"
            raise batch.error(name, f": {found}")
        return width

    def _refuse_nulls(self, name: str, values: Any, batch: Batch, per_row: int) -> None:
        if values.null_count:
            row = batch.row(values.is_null().index(True).as_py() // per_row)
            raise batch.error(name, f": null at row {row}; a number is needed in every row")


def _from_bfloat16(bits: Array) -> Array:
    """Widen bfloat16 to float32, whose upper half it is."""
    widened: Array = (bits.astype(np.uint32) << 16).view(np.float32)
    return widened


def _wrong_type(name: str, found: str, batch: Batch) -> ScoreError:
    return batch.error(name, f" holds {found}; numbers are needed")


def numpy_type(array: Array) -> str:
    """Describe what an array of rows holds."""
    return str(array.dtype) + (f" of shape {array.shape[1:]}" if array.ndim > 1 else "")


@dataclass(frozen=True)
class Categorical:
    """A column of keys as an accumulator takes it: an index for each row into a list of what occurs."""

    codes: Array
    categories: list[Part]


def groups_of(names: Sequence[str], batch: Batch) -> Any:
    """Return the groups of a batch's rows for an accumulator: of one column its keys, of several theirs by name."""
    columns = {name: _keys(name, batch) for name in names}
    return columns if len(columns) > 1 else columns[names[0]]


def values_of(name: str, batch: Batch) -> list[Part]:
    """Return the values of a column of keys."""
    occurring, codes = _distinct(name, batch)
    return [occurring[code] for code in codes]


def no_groups(names: Sequence[str]) -> Any:
    """Return the groups of no rows."""
    columns = {name: np.empty(0, np.int64) for name in names}
    return columns if len(columns) > 1 else columns[names[0]]


def _keys(name: str, batch: Batch) -> Array | Categorical:
    column = batch.texts[name]
    if isinstance(column, np.ndarray):
        if column.dtype.kind in "iu" and column.ndim == 1:
            return column
    elif not isinstance(column, Constant):
        from pyarrow import types

        if types.is_integer(column.type) and not column.null_count:
            numbers: Array = column.to_numpy()
            return numbers
    occurring, codes = _distinct(name, batch)
    return Categorical(codes, occurring)


def _distinct(name: str, batch: Batch) -> tuple[list[Part], Array]:
    """Return the values that occur in a column, and for each row which it is."""
    column = batch.texts[name]
    if isinstance(column, Constant):
        return [column.value], np.zeros(batch.rows, np.intp)
    return (
        _numpy_distinct(name, column, batch) if isinstance(column, np.ndarray) else _arrow_distinct(name, column, batch)
    )


def _no_keys(name: str, found: str, batch: Batch) -> ScoreError:
    return batch.error(name, f" holds {found}; labels and groups are integers, strings, booleans or dates")


def _numpy_distinct(name: str, column: Array, batch: Batch) -> tuple[list[Part], Array]:
    if column.dtype.kind not in "iubfUS" or column.ndim != 1:
        raise _no_keys(name, numpy_type(column), batch)
    values, codes = np.unique(column, return_inverse=True)
    if values.dtype.kind == "f":
        # A table of floats may have a column of whole numbers.
        if not (np.isfinite(values) & (values == np.floor(values))).all():
            raise _no_keys(name, f"{values.dtype} that is not whole", batch)
        return [int(value) for value in values], codes
    if values.dtype.kind == "S":
        return [value.decode(errors="replace") for value in values.tolist()], codes
    return values.tolist(), codes


def _arrow_distinct(name: str, column: Any, batch: Batch) -> tuple[list[Part], Array]:
    import pyarrow as pa
    from pyarrow import types

    kind = column.type.value_type if types.is_dictionary(column.type) else column.type
    if types.is_null(kind):
        return [None], np.zeros(batch.rows, np.intp)
    if types.is_temporal(kind):
        column, kind = column.cast(pa.string()), pa.string()
    elif types.is_string_view(column.type):
        # Polars' strings, whose rows can't be taken.
        column, kind = column.cast(pa.large_string()), pa.large_string()
    is_string = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
    if not (is_string or types.is_integer(kind) or types.is_boolean(kind)):
        raise _no_keys(name, str(column.type), batch)
    if not types.is_dictionary(column.type):
        column = column.dictionary_encode()
    size = len(column.dictionary)
    indices = column.indices.cast(pa.int64()).fill_null(size).to_numpy()
    if size <= batch.rows:
        used = np.flatnonzero(np.bincount(indices, minlength=size + 1))
        numbers = np.zeros(size + 1, np.intp)
        numbers[used] = np.arange(len(used))
        codes = numbers[indices]
    else:  # a dictionary may be much larger than the batch
        used, codes = np.unique(indices, return_inverse=True)
    try:
        return column.dictionary.take(pa.array(used, mask=used == size)).to_pylist(), codes
    except UnicodeDecodeError:
        raise batch.error(name, " holds text that is not UTF-8") from None
