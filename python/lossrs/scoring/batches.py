"""Files of columns, read in batches of bounded memory.

Parquet, Arrow and CSV are read by pyarrow; ``.npy`` and the uncompressed members of ``.npz`` are memory-mapped, and
compressed members are decompressed as a stream.
"""

from __future__ import annotations

import itertools
import math
import queue
import struct
import sys
import threading
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

import numpy as np

from lossrs.scoring.columns import Array, Batch, ScoreError, require_pyarrow
from lossrs.scoring.files import STANDARD_INPUT, File
from lossrs.scoring.where import Where

BATCH_ROWS = 65_536
BATCH_BYTES = 32 << 20
#: What shares are cut by where a file has no row groups or record batches of its own.
UNIT_ROWS = 65_536

LISTS = "lists of "
_STANDARD_INPUT = Path("<stdin>")  # what errors call it


@dataclass(frozen=True)
class Request:
    """What is wanted of files: columns as numbers, columns as text, which rows, and how many at a time."""

    numbers: Sequence[str]
    texts: Sequence[str]
    where: Where | None
    most_rows: int

    def columns(self, file: File) -> list[str]:
        """Return the columns that are to be read from a file."""
        return [name for name in dict.fromkeys([*self.numbers, *self.texts]) if name not in file.constants]


Piece = tuple[int, int, dict[str, Any], dict[str, Any]]  # the first row, how many they are, numbers and texts


class Table(Protocol):
    """A file of columns."""

    file: File
    path: Path  # what errors call it
    names: list[str]
    rows: int | None  # None where only reading to the end would tell
    numbered: bool  # the columns have no names but numbers, and ranges of them can be asked for

    def kind(self, name: str) -> str | None:
        """Return what a column holds, in words that are equal where it does not matter; None if it is all one."""
        ...

    def units(self) -> list[int]:
        """Return where the file can be cut: the rows at which its row groups, or the like, begin, and its end."""
        ...

    def pieces(self, request: Request, first: int, last: int | None) -> Iterator[Piece]:
        """Read the rows from `first` to before `last`, those perhaps left out that cannot satisfy the filter."""
        ...


def open_table(file: File) -> Table:
    """Open a file as its ending says; standard input is an Arrow stream."""
    path = file.path
    if path == STANDARD_INPUT:
        require_pyarrow("reading standard input")
        with _reading(_STANDARD_INPUT):
            return _Stdin(file)
    ending = path.suffix.lower()
    if ending not in _KINDS:
        raise ScoreError(f"{path}: the ending {ending!r} is none of {', '.join(_KINDS)}")
    if not path.exists():
        raise ScoreError(f"{path}: no such file")
    if ending not in (".npy", ".npz"):
        require_pyarrow(f"reading {ending}")
    with _reading(path):
        if path.stat().st_size == 0:
            raise ScoreError(f"{path}: the file is empty")
        return _KINDS[ending](file)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn what pyarrow, NumPy and zipfile raise about a file into one line that names it."""
    try:
        yield
    except (
        OSError,
        ValueError,
        TypeError,
        EOFError,
        RuntimeError,
        KeyError,
        zipfile.BadZipFile,
        zlib.error,
        struct.error,
    ) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ScoreError(f"{path}: cannot be read: {reason}") from error


@dataclass(frozen=True)
class Part:
    """Consecutive rows of a file; `first_row` is the first's number over all files, None where nobody has counted."""

    file: File
    first: int
    last: int | None
    first_row: int | None


def batches(parts: Iterable[Part], request: Request, opened: Table | None = None, done: int = 0) -> Generator[Batch]:
    """Read parts of files batch by batch, the next one while the last one is used; some may be empty.

    Parameters
    ----------
    opened : Table, optional
        The table of the only file, if it is open already.
    done : int
        How many rows have been dealt with before.
    """
    read = _batches(parts, request, opened, done)
    # A pipe may be silent for long: who waits for it must be open to Ctrl-C.
    return read if isinstance(opened, _Stdin) else _ahead(read)


def _batches(parts: Iterable[Part], request: Request, opened: Table | None, done_before: int) -> Generator[Batch]:
    rows_before = 0
    for part in parts:
        file, where = part.file, request.where
        table = opened or open_table(file)
        first_row = rows_before if part.first_row is None else part.first_row
        end = table.rows if part.last is None else part.last
        seen = part.first
        for start, rows, numbers, texts in table.pieces(request, part.first, part.last):
            seen = start + rows
            for columns, names in ((numbers, request.numbers), (texts, request.texts)):
                columns |= {name: file.constants[name] for name in names if name in file.constants}
            first, done = first_row + start - part.first, done_before + seen - part.first
            batch = Batch(table.path, rows, start, first, done, numbers, texts, file.path, seen)
            yield batch if where is None else batch.filtered(where.mask(numbers, texts, rows))
        end = seen if end is None else end
        rows_before, done_before = first_row + end - part.first, done_before + end - part.first
        yield Batch(table.path, 0, end, rows_before, done_before, {}, {}, file.path, end, is_last=True)


Item = TypeVar("Item")
# What a read that is under way may take to end when nobody wants it any more; one that hangs is left behind.
_SECONDS_TO_STOP = 1.0


def _ahead(items: Iterator[Item]) -> Generator[Item]:
    """Take items from an iterator in a thread of its own, one beyond what is asked for."""
    ready: queue.SimpleQueue[tuple[bool, Any]] = queue.SimpleQueue()
    wanted = threading.Semaphore(2)
    stopped = False

    def take() -> None:
        try:
            for item in items:
                ready.put((True, item))
                del item
                wanted.acquire()
                if stopped:
                    return
            ready.put((False, None))
        except BaseException as error:
            ready.put((False, error))

    # A daemon, so that a file system that hangs does not keep the process from ending.
    thread = threading.Thread(target=take, name="lossrs-read-ahead", daemon=True)
    thread.start()
    try:
        while True:
            is_item, item = ready.get()
            if not is_item:
                if item is not None:
                    raise item
                return
            yield item
            del item
            wanted.release()
    finally:
        stopped = True
        wanted.release()
        thread.join(_SECONDS_TO_STOP)


def _rows_per_batch(most_rows: int, row_bytes: float) -> int:
    return max(1, min(most_rows, int(BATCH_BYTES / max(row_bytes, 1))))


def _cut(
    record_batch: Any, start: int, request: Request, first: int, last: int | None, names: list[str]
) -> Iterator[Piece]:
    """Cut what is wanted of a record batch of any size into pieces of bounded size."""
    rows = record_batch.num_rows
    step = _rows_per_batch(request.most_rows, record_batch.nbytes / max(rows, 1))
    if rows <= min(1.5 * step, request.most_rows):  # a small rest is not worth a piece
        step = max(rows, 1)
    end = rows if last is None else min(rows, last - start)
    for offset in range(max(first - start, 0), end, step):
        piece = record_batch.slice(offset, min(step, end - offset))
        columns = dict(zip(names, map(_without_views, piece.columns), strict=True))
        yield start + offset, piece.num_rows, *_assigned(columns, request)


def _without_views(column: Any) -> Any:
    """Return views of strings as strings: pyarrow cannot look them up yet."""
    import pyarrow as pa

    return column.cast(pa.string()) if pa.types.is_string_view(column.type) else column


def _assigned(columns: dict[str, Any], request: Request) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the columns that are numbers and those that are text."""
    numbers, texts = ({n: columns[n] for n in names if n in columns} for names in (request.numbers, request.texts))
    return numbers, texts


def _kind(arrow_type: Any) -> str:
    """Describe what an Arrow column holds, leaving out how it is stored."""
    import pyarrow as pa
    from pyarrow import types

    if isinstance(arrow_type, pa.BaseExtensionType):
        arrow_type = arrow_type.storage_type
    if types.is_dictionary(arrow_type):
        return _kind(arrow_type.value_type)
    if types.is_list(arrow_type) or types.is_large_list(arrow_type) or types.is_fixed_size_list(arrow_type):
        return f"{LISTS}{_kind(arrow_type.value_type)}"
    if types.is_string(arrow_type) or types.is_large_string(arrow_type) or types.is_string_view(arrow_type):
        return "string"
    if types.is_integer(arrow_type) or types.is_boolean(arrow_type):
        return "integer"
    return {"halffloat": "float16", "float": "float32", "double": "float64"}.get(str(arrow_type), str(arrow_type))


class _Parquet:
    numbered = False

    def __init__(self, file: File) -> None:
        self.file, self.path = file, file.path
        self._file = self._open()
        self._schema = self._file.schema_arrow  # made anew by each access
        self.names: list[str] = self._schema.names
        self.rows: int | None = self._file.metadata.num_rows

    def _open(self, dictionaries: Sequence[str] = ()) -> Any:
        import pyarrow.parquet as pq

        return pq.ParquetFile(
            self.path, memory_map=True, read_dictionary=list(dictionaries), page_checksum_verification=True
        )

    def kind(self, name: str) -> str | None:
        return _kind(self._schema.field(name).type)

    def units(self) -> list[int]:
        metadata = self._file.metadata
        rows = (metadata.row_group(group).num_rows for group in range(metadata.num_row_groups))
        return list(itertools.accumulate(rows, initial=0))

    def pieces(self, request: Request, first: int, last: int | None) -> Iterator[Piece]:
        wanted = request.columns(self.file)
        with _reading(self.path):
            schema = self._schema
            strings = [name for name in request.texts if name in wanted and _is_string(schema.field(name).type)]
            file = self._open(strings) if strings else self._file
            step = _rows_per_batch(request.most_rows, sum(self._row_bytes(schema.field(name)) for name in wanted))
            units, where = self.units(), request.where
            spans = enumerate(itertools.pairwise(units))
            groups = [group for group, (start, end) in spans if end > first and (last is None or start < last)]
            if where is not None and groups:
                groups = self._possible(groups, where)
            for _, neighbours in itertools.groupby(enumerate(groups), lambda pair: pair[1] - pair[0]):
                run = [group for _, group in neighbours]
                start = units[run[0]]
                for record_batch in file.iter_batches(batch_size=step, row_groups=run, columns=wanted):
                    yield from _cut(record_batch.select(wanted), start, request, first, last, wanted)
                    start += record_batch.num_rows

    def _possible(self, groups: list[int], where: Where) -> list[int]:
        """Leave out the row groups whose statistics rule the filter out."""
        import pyarrow as pa
        from pyarrow import dataset, fs

        schema, path = self._schema, str(self.path)
        expression = where.expression({field.name: field.type for field in schema}, self.file.constants)
        fragment = dataset.ParquetFileFormat().make_fragment(path, fs.LocalFileSystem(), row_groups=groups)
        try:
            return [part.row_groups[0].id for part in fragment.split_by_row_group(expression, schema)]
        except pa.ArrowException:
            return groups  # where it is evaluated, an error can say more

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


def _is_string(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_string(kind) or types.is_large_string(kind))


class _Arrow:
    numbered = False
    rows: int | None = None

    def __init__(self, file: File) -> None:
        self.file, self.path = file, file.path
        with self._open() as reader:
            self._schema = reader.schema
        self.names: list[str] = self._schema.names

    def _open(self, options: Any = None) -> Any:
        import pyarrow as pa

        source = pa.memory_map(str(self.path))
        is_file = source.read(6) == b"ARROW1"
        source.seek(0)
        open_it = pa.ipc.open_file if is_file else pa.ipc.open_stream
        # All columns: pyarrow copies the chosen ones of a batch, but maps a whole batch.
        return open_it(source, options=options)

    def kind(self, name: str) -> str | None:
        return _kind(self._schema.field(name).type)

    def units(self) -> list[int]:
        import pyarrow as pa

        # One column, because others may have to be decompressed.
        with _reading(self.path), self._open(pa.ipc.IpcReadOptions(included_fields=[0])) as reader:
            rows = (record_batch.num_rows for record_batch in self._record_batches(reader))
            return list(itertools.accumulate(rows, initial=0))

    def _record_batches(self, reader: Any) -> Iterator[Any]:
        if hasattr(reader, "num_record_batches"):
            return (reader.get_batch(index) for index in range(reader.num_record_batches))
        return iter(reader)

    def pieces(self, request: Request, first: int, last: int | None) -> Iterator[Piece]:
        wanted = request.columns(self.file)
        with _reading(self.path), self._open() as reader:
            start = 0
            for record_batch in self._record_batches(reader):
                yield from _cut(record_batch.select(wanted), start, request, first, last, wanted)
                start += record_batch.num_rows
                if last is not None and start >= last:
                    return


class _Stdin(_Arrow):
    """Standard input: an Arrow stream, or an Arrow file, which is a stream between a mark and a table of contents."""

    def __init__(self, file: File) -> None:
        self.file, self.path = file, _STANDARD_INPUT
        self._reader = self._open()
        self._schema = self._reader.schema
        self.names: list[str] = self._schema.names

    def _open(self, options: Any = None) -> Any:
        import pyarrow as pa

        if sys.stdin is None:
            raise ScoreError(f"{self.path}: standard input is closed")
        pipe: Any = sys.stdin.buffer
        mark = pipe.peek(6)[:6]
        if not mark:
            raise ScoreError(f"{self.path}: the stream is empty")
        if mark[:4] == b"PAR1":
            raise ScoreError(f"{self.path}: is a Parquet file; an Arrow stream is needed")
        if mark == b"ARROW1":
            pipe.read(8)
        return pa.ipc.open_stream(pa.PythonFile(pipe, mode="r"))

    def units(self) -> list[int]:
        raise ScoreError(f"{self.path}: cannot be read by shards; files can")

    def pieces(self, request: Request, first: int, last: int | None) -> Iterator[Piece]:
        wanted = request.columns(self.file)
        with _reading(self.path):
            start = 0
            for record_batch in self._reader:
                yield from _cut(record_batch.select(wanted), start, request, first, last, wanted)
                start += record_batch.num_rows


class _Csv:
    """Comma-separated text with a header. NaN is a number there; an empty field, NA and null are nulls."""

    numbered = False
    rows: int | None = None
    _NULLS = ("", "NA", "N/A", "n/a", "#N/A", "NULL", "null")

    def __init__(self, file: File) -> None:
        self.file, self.path = file, file.path
        with self._explaining() as invalid_row, self._open({}, [], invalid_row) as reader:
            self.names: list[str] = reader.schema.names

    def kind(self, name: str) -> str | None:
        return None

    def units(self) -> list[int]:
        import pyarrow as pa

        name = self.names[0]
        with _reading(self.path), self._explaining() as invalid_row:
            rows = sum(record_batch.num_rows for record_batch in self._open({name: pa.string()}, [name], invalid_row))
        return [*range(0, rows, UNIT_ROWS), rows]

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

    def pieces(self, request: Request, first: int, last: int | None) -> Iterator[Piece]:
        import pyarrow as pa
        import pyarrow.compute as pc

        wanted = request.columns(self.file)
        # Types are asked for, never inferred: the first block may hold whole numbers only.
        types = {name: pa.string() if name in request.texts else pa.float64() for name in wanted}
        with _reading(self.path):
            start = 0
            try:
                for record_batch in self._open(types, wanted):
                    for piece in _cut(record_batch, start, request, first, last, wanted):
                        _, _, numbers, texts = piece
                        for name in numbers.keys() & texts.keys():
                            numbers[name] = pc.utf8_trim_whitespace(texts[name]).cast(pa.float64())
                        yield piece
                    start += record_batch.num_rows
                    if last is not None and start >= last:
                        return
            except pa.ArrowInvalid:
                self._explain([name for name in request.numbers if name in wanted])
                raise

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
        self.kind = _numpy_kind(dtype, len(shape) - 1)
        self.row_bytes = dtype.itemsize * math.prod(shape[1:])
        self.read = read

    @classmethod
    def mapped(cls, array: Array) -> Self:
        return cls(array.dtype, array.shape, lambda first, last: array[first:last])


def _numpy_kind(dtype: np.dtype[Any], dimensions: int) -> str:
    """Describe what an array holds, in the words of `_kind`."""
    kind = {"i": "integer", "u": "integer", "b": "integer", "U": "string", "S": "string"}.get(dtype.kind, dtype.name)
    kind = "bfloat16" if dtype == np.dtype("V2") else kind
    return kind if dimensions == 0 else f"{LISTS}{kind}" if dimensions == 1 else f"{dimensions}-dimensional {kind}"


class _Arrays:
    """Arrays with as many rows as each other."""

    file: File
    path: Path
    names: list[str]
    numbered = False
    rows: int | None = None

    def _open(self, wanted: list[str], files: ExitStack) -> dict[str, _Column]:
        raise NotImplementedError

    def _opened(self, wanted: list[str], files: ExitStack) -> tuple[dict[str, _Column], int]:
        columns = self._open(wanted or self.names[:1], files)
        name, rows = next((name, column.rows) for name, column in columns.items())
        for other, column in columns.items():
            if column.rows != rows:
                raise ScoreError(f"{self.path}: {name!r} has {rows} rows, {other!r} has {column.rows}")
        return columns, rows

    def kind(self, name: str) -> str | None:
        with _reading(self.path), ExitStack() as files:
            return self._open([name], files)[name].kind

    def units(self) -> list[int]:
        with _reading(self.path), ExitStack() as files:
            _, rows = self._opened([], files)
        return [*range(0, rows, UNIT_ROWS), rows]

    def pieces(self, request: Request, first: int, last: int | None) -> Iterator[Piece]:
        with _reading(self.path), ExitStack() as files:
            columns, rows = self._opened(request.columns(self.file), files)
            step = _rows_per_batch(request.most_rows, sum(column.row_bytes for column in columns.values()))
            end = rows if last is None else min(rows, last)
            for start in range(first, end, step):
                stop = min(start + step, end)
                read = {name: column.read(start, stop) for name, column in columns.items()}
                yield start, stop - start, *_assigned(read, request)


class _Npy(_Arrays):
    def __init__(self, file: File) -> None:
        self.file = file
        self.path = path = file.path
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
    def __init__(self, file: File) -> None:
        self.file = file
        self.path = path = file.path
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

        header_bytes = stream.tell()

        def read(first: int, last: int) -> Array:
            stream.seek(header_bytes + first * row_bytes)
            data = stream.read((last - first) * row_bytes)
            if len(data) < (last - first) * row_bytes:
                raise ScoreError(f"{self.path}: {name!r} ends before row {last}")
            return np.frombuffer(data, dtype).reshape(last - first, *shape[1:])

        return _Column(dtype, shape, read)


_KINDS: dict[str, Callable[[File], Table]] = {
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
ENDINGS = tuple(_KINDS)
