"""Which columns of a file are meant, and what they hold as NumPy arrays.

A column of a batch is a NumPy array or an Arrow array. Errors name the file, the column and the row of the file.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Key = int | str | bool | None

_RANGE = re.compile(r"(-?\d+)?:(-?\d+)?")


class ScoreError(Exception):
    """What is wrong with a file or a request, in one line."""


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
        return [_only(request, names, path)]
    selected: list[str] = []
    for part in request.split(","):
        if part in names:
            found = [_only(part, names, path)]
        elif numbered and (match := _RANGE.fullmatch(part)):
            first, last = (int(number) if number else None for number in match.groups())
            found = [part] if range(len(names))[first:last] else []
        elif numbered and re.fullmatch(r"-\d+", part) and int(part) >= -len(names):
            found = [str(int(part) + len(names))]
        else:
            found = sorted((name for name in names if fnmatchcase(name, part)), key=natural_order)
        if not found:
            raise ScoreError(f"{path}: no column {part!r}{near_misses(part, names) or f'; there are {_listed(names)}'}")
        selected += found
    return selected


def _only(name: str, names: Sequence[str], path: Path) -> str:
    if names.count(name) > 1:
        raise ScoreError(f"{path}: {names.count(name)} columns are named {name!r}")
    return name


def _listed(names: Sequence[str], most: int = 8) -> str:
    if not names:
        return "no columns"
    return ", ".join(map(repr, names[:most])) + (f" and {len(names) - most} more" if len(names) > most else "")


@dataclass
class Batch:
    """Consecutive rows of a file: where they start, how many they are, the columns of numbers, the column of groups."""

    start: int
    rows: int
    columns: dict[str, Any]
    key: Any = None


@dataclass
class Numbers:
    """The columns that together make one array of numbers: (rows,) for one plain column, else (rows, K)."""

    path: Path
    names: list[str]
    _widths: dict[str, int] = field(default_factory=dict)

    def read(self, batch: Batch) -> Array:
        """Read these columns of a batch."""
        blocks = [self._block(name, batch) for name in self.names]
        if len(blocks) == 1:
            return blocks[0]
        blocks = [block if block.ndim == 2 else block[:, None] for block in blocks]
        whole = np.empty((batch.rows, sum(block.shape[1] for block in blocks)), np.result_type(*blocks))
        return np.concatenate(blocks, axis=1, out=whole)

    def name_of(self, index: int, of: int) -> str:
        """Return the name of the column that is at an index of the array, or the names if lists make that uncertain."""
        return self.names[index] if len(self.names) == of else ",".join(self.names)

    def _block(self, name: str, batch: Batch) -> Array:
        given = batch.columns[name]
        column: Array = given if isinstance(given, np.ndarray) else self._from_arrow(name, given, batch.start)
        if column.dtype.kind not in "fiub" or column.ndim > 2:
            raise self._wrong_type(name, numpy_type(column))
        return column.view(np.uint8) if column.dtype.kind == "b" else column

    def _from_arrow(self, name: str, column: Any, start: int) -> Array:
        import pyarrow as pa

        if isinstance(column, pa.ExtensionArray):
            column = column.storage
        if isinstance(column, pa.DictionaryArray):
            column = column.dictionary_decode()
        self._refuse_nulls(name, column, start, 1)
        if isinstance(column, (pa.FixedSizeListArray, pa.ListArray, pa.LargeListArray)):
            width = self._width(name, column, start)
            values = column.flatten()
            self._refuse_nulls(name, values, start, width)
        else:
            width, values = None, column
        if not (
            pa.types.is_floating(values.type) or pa.types.is_integer(values.type) or pa.types.is_boolean(values.type)
        ):
            raise self._wrong_type(name, str(column.type))
        numbers: Array = values.to_numpy(zero_copy_only=False)
        return numbers if width is None else numbers.reshape(len(column), width)

    def _width(self, name: str, column: Any, start: int) -> int:
        import pyarrow as pa

        if pa.types.is_fixed_size_list(column.type):
            return int(column.type.list_size)
        lengths = np.asarray(column.value_lengths())
        if not lengths.size:
            return self._widths.get(name, 0)
        width = self._widths.setdefault(name, int(lengths[0]))
        if (wrong := np.flatnonzero(lengths != width)).size:
            row = start + int(wrong[0])
            found = f"the list at row {row} has {lengths[wrong[0]]} values, the first has {width}"
            raise ScoreError(f"{self.path}: column {name!r}: {found}")
        return width

    def _refuse_nulls(self, name: str, values: Any, start: int, per_row: int) -> None:
        if values.null_count:
            row = start + values.is_null().index(True).as_py() // per_row
            raise ScoreError(f"{self.path}: column {name!r}: null at row {row}; a number is needed in every row")

    def _wrong_type(self, name: str, found: str) -> ScoreError:
        return ScoreError(f"{self.path}: column {name!r} holds {found}; numbers are needed")


def numpy_type(array: Array) -> str:
    """Describe what an array of rows holds."""
    return str(array.dtype) + (f" of shape {array.shape[1:]}" if array.ndim > 1 else "")


def keys(path: Path, name: str, batch: Batch) -> tuple[Array, list[Key]]:
    """Group the rows of a batch: an index for each row, and what the indices stand for."""
    return _numpy_keys(path, name, batch) if isinstance(batch.key, np.ndarray) else _arrow_keys(path, name, batch)


def _no_keys(path: Path, name: str, found: str) -> ScoreError:
    return ScoreError(f"{path}: column {name!r} holds {found}; groups are integers, strings, booleans or dates")


def _numpy_keys(path: Path, name: str, batch: Batch) -> tuple[Array, list[Key]]:
    column: Array = batch.key
    if column.dtype.kind not in "iubfUS" or column.ndim != 1:
        raise _no_keys(path, name, numpy_type(column))
    values, codes = np.unique(column, return_inverse=True)
    if values.dtype.kind == "f":
        # A table of floats may have a column of whole numbers.
        if not (np.isfinite(values) & (values == np.floor(values))).all():
            raise _no_keys(path, name, f"{values.dtype} that is not whole")
        return codes, [int(value) for value in values]
    if values.dtype.kind == "S":
        return codes, [value.decode(errors="replace") for value in values.tolist()]
    return codes, values.tolist()


def _arrow_keys(path: Path, name: str, batch: Batch) -> tuple[Array, list[Key]]:
    import pyarrow as pa
    from pyarrow import types

    column = batch.key
    kind = column.type.value_type if types.is_dictionary(column.type) else column.type
    if types.is_null(kind):
        return np.zeros(batch.rows, np.intp), [None]
    if types.is_temporal(kind):
        column, kind = column.cast(pa.string()), pa.string()
    is_string = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
    if not (is_string or types.is_integer(kind) or types.is_boolean(kind)):
        raise _no_keys(path, name, str(column.type))
    if not types.is_dictionary(column.type):
        column = column.dictionary_encode()
    # A dictionary may be much larger than the batch: look up only what occurs.
    used, codes = np.unique(column.indices.cast(pa.int64()).fill_null(-1).to_numpy(), return_inverse=True)
    return codes, column.dictionary.take(pa.array(used, mask=used < 0)).to_pylist()
