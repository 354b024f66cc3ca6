"""Files of columns, read in batches of bounded memory.

Parquet, Arrow and CSV are read by pyarrow; ``.npy`` and the uncompressed members of ``.npz`` are memory-mapped, and
compressed members are decompressed as a stream.
"""

from __future__ import annotations

import math
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np

from lossrs.scoring.columns import Array, Batch, ScoreError

BATCH_ROWS = 65_536
BATCH_BYTES = 32 << 20


class Table(Protocol):
    """A file of columns."""

    path: Path
    names: list[str]
    rows: int | None  # None where only reading to the end would tell
    numbered: bool  # the columns have no names but numbers, and ranges of them can be asked for

    def batches(self, numbers: Sequence[str], key: str | None, most_rows: int) -> Iterator[Batch]:
        """Read columns of numbers and a column of groups, batch by batch; one empty batch if there are no rows."""
        ...


def open_table(path: Path) -> Table:
    """Open a file as its ending says."""
    ending = path.suffix.lower()
    kinds: dict[str, Callable[[Path], Table]] = {
        ".parquet": _Parquet,
        ".pq": _Parquet,
        ".arrow": _Arrow,
        ".feather": _Arrow,
        ".ipc": _Arrow,
        ".arrows": _Arrow,
        ".csv": _Csv,
        ".npy": _Npy,
        ".npz": _Npz,
    }
    if ending not in kinds:
        raise ScoreError(f"{path}: the ending {ending!r} is none of {', '.join(kinds)}")
    if not path.exists():
        raise ScoreError(f"{path}: no such file")
    if path.is_dir():
        raise ScoreError(f"{path}: is a directory")
    if ending not in (".npy", ".npz"):
        require_pyarrow(f"reading {ending}")
    with _reading(path):
        if path.stat().st_size == 0:
            raise ScoreError(f"{path}: the file is empty")
        return kinds[ending](path)


def require_pyarrow(purpose: str) -> None:
    """Say what to install, if pyarrow is missing."""
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise ScoreError(f"{purpose} needs pyarrow: pip install 'lossrs[score]'") from None


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn what pyarrow, NumPy and zipfile raise about a file into one line that names it."""
    try:
        yield
    except (
        OSError,
        ValueError,
        EOFError,
        NotImplementedError,
        KeyError,
        zipfile.BadZipFile,
        zlib.error,
        struct.error,
    ) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ScoreError(f"{path}: cannot be read: {reason}") from error


def _wanted(numbers: Sequence[str], key: str | None) -> list[str]:
    return list(dict.fromkeys([*numbers, *([key] if key else [])]))


def _rows_per_batch(most_rows: int, row_bytes: float) -> int:
    return max(1, min(most_rows, int(BATCH_BYTES / max(row_bytes, 1))))


def _cut(record_batch: Any, start: int, most_rows: int, key: str | None) -> Iterator[Batch]:
    """Cut a record batch of any size into batches of bounded size."""
    rows = record_batch.num_rows
    step = _rows_per_batch(most_rows, record_batch.nbytes / max(rows, 1))
    for first in range(0, max(rows, 1), step):
        piece = record_batch.slice(first, step)
        columns = dict(zip(piece.schema.names, piece.columns, strict=True))
        yield Batch(start + first, piece.num_rows, columns, columns[key] if key else None)


class _Parquet:
    numbered = False

    def __init__(self, path: Path) -> None:
        import pyarrow.parquet as pq

        self.path = path
        self._file = pq.ParquetFile(path, memory_map=True)
        self.names: list[str] = self._file.schema_arrow.names
        self.rows: int | None = self._file.metadata.num_rows

    def batches(self, numbers: Sequence[str], key: str | None, most_rows: int) -> Iterator[Batch]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        wanted = _wanted(numbers, key)
        with _reading(self.path):
            file, schema = self._file, self._file.schema_arrow
            if key and (pa.types.is_string(schema.field(key).type) or pa.types.is_large_string(schema.field(key).type)):
                file = pq.ParquetFile(self.path, memory_map=True, read_dictionary=[key])
            step = _rows_per_batch(most_rows, sum(self._row_bytes(schema.field(name)) for name in wanted))
            start = 0
            for record_batch in file.iter_batches(batch_size=step, columns=wanted):
                yield from _cut(record_batch.select(wanted), start, most_rows, key)
                start += record_batch.num_rows
            if start == 0:
                fields = pa.schema([schema.field(name) for name in wanted])
                yield from _cut(pa.RecordBatch.from_pylist([], fields), 0, 1, key)

    def _row_bytes(self, field: Any) -> float:
        import pyarrow as pa

        if not pa.types.is_list(field.type) and not pa.types.is_large_list(field.type):
            return _width(field.type)
        most, metadata = 0.0, self._file.metadata
        for group in range(metadata.num_row_groups):
            for leaf in range(metadata.num_columns):
                column = metadata.row_group(group).column(leaf)
                if column.path_in_schema.startswith(field.name + "."):
                    most = max(most, column.num_values / max(metadata.row_group(group).num_rows, 1))
        return most * _width(field.type.value_type)


def _width(kind: Any) -> float:
    """Return the bytes of a value of an Arrow type; a guess for text."""
    import pyarrow as pa

    if pa.types.is_fixed_size_list(kind):
        return float(kind.list_size) * _width(kind.value_type)
    return kind.bit_width / 8 if pa.types.is_primitive(kind) else 32


class _Arrow:
    numbered = False
    rows: int | None = None

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._open() as reader:
            self.names: list[str] = reader.schema.names

    def _open(self) -> Any:
        import pyarrow as pa

        source = pa.memory_map(str(self.path))
        is_file = source.read(6) == b"ARROW1"
        source.seek(0)
        # All columns: pyarrow copies the chosen ones of a batch, but maps a whole batch.
        return pa.ipc.open_file(source) if is_file else pa.ipc.open_stream(source)

    def batches(self, numbers: Sequence[str], key: str | None, most_rows: int) -> Iterator[Batch]:
        import pyarrow as pa

        wanted = _wanted(numbers, key)
        with _reading(self.path), self._open() as reader:
            start = 0
            if isinstance(reader, pa.ipc.RecordBatchFileReader):
                record_batches = (reader.get_batch(index) for index in range(reader.num_record_batches))
            else:
                record_batches = iter(reader)
            for record_batch in record_batches:
                yield from _cut(record_batch.select(wanted), start, most_rows, key)
                start += record_batch.num_rows
            if start == 0:
                yield from _cut(pa.RecordBatch.from_pylist([], reader.schema).select(wanted), 0, 1, key)


class _Csv:
    """Comma-separated text with a header. NaN is a number there; an empty field, NA and null are nulls."""

    numbered = False
    rows: int | None = None
    _NULLS = ("", "NA", "N/A", "n/a", "#N/A", "NULL", "null")

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._explaining() as invalid_row, self._open({}, [], invalid_row) as reader:
            self.names: list[str] = reader.schema.names

    def _open(self, types: dict[str, Any], wanted: list[str], invalid_row: Callable[[Any], str] | None = None) -> Any:
        from pyarrow import csv

        return csv.open_csv(
            self.path,
            # Only the serial reader knows the number of a malformed row.
            read_options=csv.ReadOptions(use_threads=invalid_row is None),
            parse_options=csv.ParseOptions(invalid_row_handler=invalid_row),
            convert_options=csv.ConvertOptions(
                column_types=types, include_columns=wanted, null_values=self._NULLS, strings_can_be_null=True
            ),
        )

    @contextmanager
    def _explaining(self) -> Iterator[Callable[[Any], str]]:
        """Give a handler that notes malformed rows, for their place; what it raised itself pyarrow would drop."""
        import pyarrow as pa

        malformed: list[Any] = []

        def note(row: Any) -> str:
            malformed.append(row)
            return "error"

        try:
            yield note
        except pa.ArrowInvalid:
            if not malformed:
                raise
            row = malformed[0]
            row_number = row.number - 2  # from 1, and that is the header
            found = f"row {row_number} has {row.actual_columns} fields, the header has {row.expected_columns}"
            raise ScoreError(f"{self.path}: {found}") from None

    def batches(self, numbers: Sequence[str], key: str | None, most_rows: int) -> Iterator[Batch]:
        import pyarrow as pa
        import pyarrow.compute as pc

        # Types are asked for, never inferred: the first block may hold whole numbers only.
        types = dict.fromkeys(numbers, pa.float64()) | ({key: pa.string()} if key else {})
        with _reading(self.path):
            start = 0
            try:
                for record_batch in self._open(types, list(types)):
                    for batch in _cut(record_batch, start, most_rows, key):
                        if key is not None and key in numbers:
                            batch.columns[key] = pc.utf8_trim_whitespace(batch.key).cast(pa.float64())
                        yield batch
                    start += record_batch.num_rows
            except pa.ArrowInvalid:
                self._explain(list(numbers))
                raise
            if start == 0:
                types |= dict.fromkeys(numbers, pa.float64())
                yield from _cut(pa.RecordBatch.from_pylist([], pa.schema(types)), 0, 1, key)

    def _explain(self, numbers: list[str]) -> None:
        """Find the text that is not a number, because pyarrow does not tell: read it again as text, and look."""
        import pyarrow as pa
        import pyarrow.compute as pc

        start = 0
        with self._explaining() as invalid_row:
            for record_batch in self._open(dict.fromkeys(numbers, pa.string()), numbers, invalid_row):
                for name, column in zip(numbers, record_batch.columns, strict=True):
                    text = pc.utf8_trim_whitespace(column)
                    if _is_numbers(text):
                        continue
                    row = next(row for row in range(len(text)) if not _is_numbers(text.slice(row, 1)))
                    found = f"{text[row].as_py()!r} at row {start + row} is not a number"
                    raise ScoreError(f"{self.path}: column {name!r}: {found}")
                start += record_batch.num_rows


def _is_numbers(text: Any) -> bool:
    import pyarrow as pa

    try:
        text.cast(pa.float64())
    except pa.ArrowInvalid:
        return False
    return True


class _Column:
    """An array, read from its first row to its last by ``read(first, last)``."""

    def __init__(self, dtype: np.dtype[Any], shape: tuple[int, ...], read: Callable[[int, int], Array]) -> None:
        self.rows = shape[0]
        self.row_bytes = dtype.itemsize * math.prod(shape[1:])
        self.read = read

    @classmethod
    def mapped(cls, array: Array) -> Self:
        return cls(array.dtype, array.shape, lambda first, last: array[first:last])


class _Arrays:
    """Arrays with as many rows as each other."""

    path: Path
    numbered = False
    rows: int | None = None

    def _open(self, wanted: list[str], files: ExitStack) -> dict[str, _Column]:
        raise NotImplementedError

    def batches(self, numbers: Sequence[str], key: str | None, most_rows: int) -> Iterator[Batch]:
        with _reading(self.path), ExitStack() as files:
            columns = self._open(_wanted(numbers, key), files)
            name, rows = next((name, column.rows) for name, column in columns.items())
            for other, column in columns.items():
                if column.rows != rows:
                    raise ScoreError(f"{self.path}: {name!r} has {rows} rows, {other!r} has {column.rows}")
            self.rows = rows
            step = _rows_per_batch(most_rows, sum(column.row_bytes for column in columns.values()))
            for first in range(0, max(rows, 1), step):
                last = min(first + step, rows)
                rows_read = {name: column.read(first, last) for name, column in columns.items()}
                yield Batch(first, last - first, rows_read, rows_read[key] if key else None)


class _Npy(_Arrays):
    def __init__(self, path: Path) -> None:
        self.path = path
        if zipfile.is_zipfile(path):
            raise ScoreError(f"{path}: is an .npz file")
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        if not (array.ndim == 2 or array.ndim == 1):
            raise ScoreError(f"{path}: has {array.ndim} dimensions; rows, or rows and columns, are needed")
        self._array = array if array.ndim == 2 or array.dtype.names else array[:, None]
        self.numbered = not array.dtype.names
        self.names = (
            [str(number) for number in range(self._array.shape[1])] if self.numbered else list(array.dtype.names)
        )
        self.rows = len(array)

    def _open(self, wanted: list[str], files: ExitStack) -> dict[str, _Column]:
        return {name: _Column.mapped(self._column(name)) for name in wanted}

    def _column(self, name: str) -> Array:
        index: Any = name
        if self.numbered:
            first, *last = (int(number) if number else None for number in name.split(":"))
            index = (slice(None), slice(first, *last) if last else first)
        column: Array = self._array[index]
        return column


class _Npz(_Arrays):
    def __init__(self, path: Path) -> None:
        self.path = path
        if not zipfile.is_zipfile(path):
            raise ScoreError(f"{path}: is not an .npz file, or a truncated one")
        with zipfile.ZipFile(path) as archive:
            self.names = [member.removesuffix(".npy") for member in archive.namelist()]

    def _open(self, wanted: list[str], files: ExitStack) -> dict[str, _Column]:
        archive = files.enter_context(zipfile.ZipFile(self.path))
        return {name: self._column(name, archive, files) for name in wanted}

    def _column(self, name: str, archive: zipfile.ZipFile, files: ExitStack) -> _Column:
        """Map what lies uncompressed in the file; decompress the rest as it is read."""
        member = archive.infolist()[self.names.index(name)]
        stream = files.enter_context(archive.open(member))
        version = np.lib.format.read_magic(stream)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran_order, dtype = read_header(stream)
        if dtype.hasobject or not shape:
            raise ScoreError(f"{self.path}: {name!r} holds {dtype} of shape {shape}; rows of numbers are needed")
        if math.prod(shape) == 0:
            return _Column.mapped(np.empty(shape, dtype))
        if member.compress_type == zipfile.ZIP_STORED:
            with self.path.open("rb") as file:
                # The header before a member repeats its name and has an extra field of its own length (APPNOTE 4.3.7).
                file.seek(member.header_offset)
                name_length, extra_length = struct.unpack("<26xHH", file.read(30))
            offset = member.header_offset + 30 + name_length + extra_length + stream.tell()
            return _Column.mapped(np.memmap(self.path, dtype, "r", offset, shape, "F" if fortran_order else "C"))
        if fortran_order and len(shape) > 1:
            raise ScoreError(
                f"{self.path}: {name!r} is compressed in Fortran order, so its rows cannot be streamed; np.savez maps"
            )
        row_bytes = dtype.itemsize * math.prod(shape[1:])

        def read(first: int, last: int) -> Array:
            data = stream.read((last - first) * row_bytes)
            if len(data) < (last - first) * row_bytes:
                raise ScoreError(f"{self.path}: {name!r} ends before row {last}")
            return np.frombuffer(data, dtype).reshape(last - first, *shape[1:])

        return _Column(dtype, shape, read)
