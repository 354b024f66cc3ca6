"""Each row's loss, streamed to a file that has its name only once it is whole."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol, Self

import numpy as np

from lossrs.scoring.columns import Array, ScoreError, require_pyarrow


class _Writer(Protocol):
    def write(self, losses: Array) -> None: ...
    def close(self) -> None: ...
    def abandon(self) -> None: ...


class PerSample:
    """The output of ``--per-sample``: used as a context, it is renamed to its name on success and removed otherwise."""

    def __init__(self, output: str | Path | None, sources: Sequence[Path]) -> None:
        self._writer: _Writer | None = None
        self._file: IO[bytes] | None = None
        if output is None:
            return
        self._path = Path(os.path.realpath(output))
        ending = self._path.suffix.lower()
        if ending not in (".parquet", ".arrow", ".csv", ".npy"):
            raise ScoreError(f"{output}: the ending {ending!r} is none of .parquet, .arrow, .csv, .npy")
        if self._path.exists() and any(_is_same(self._path.stat(), source) for source in sources):
            raise ScoreError(f"{output}: is the file that is read; it is not overwritten")
        if self._path.exists() and not self._path.is_file():
            raise ScoreError(f"{output}: is not a regular file; it is not overwritten")
        if ending != ".npy":
            require_pyarrow(f"writing {ending}")
        self._partial = self._path.with_name(f".{self._path.name}.{secrets.token_hex(4)}.partial")
        try:
            self._file = self._partial.open("xb")
        except OSError as error:
            raise ScoreError(f"{output}: cannot be written: {error.strerror}") from error

    def write(self, losses: Array) -> None:
        """Append the losses of a batch."""
        if self._file is None:
            return
        try:
            if self._writer is None:
                kind = _Npy if self._path.suffix.lower() == ".npy" else _Table
                self._writer = kind(self._file, self._path.suffix.lower(), losses.dtype)
            self._writer.write(losses)
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> ScoreError:
        return ScoreError(f"{self._path}: cannot be written: {error.strerror or error}")

    def __enter__(self) -> Self:
        """Return itself; what is written has no name yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the file its name, or remove it."""
        if self._file is None:
            return
        try:
            if kind is None:
                if self._writer is None:
                    self.write(np.empty(0))
                assert self._writer is not None
                self._writer.close()
                self._file.close()
                self._partial.replace(self._path)
        except OSError as failure:
            raise self._failed(failure) from failure
        finally:
            self._partial.unlink(missing_ok=True)
            if self._writer is not None:
                self._writer.abandon()
            with suppress(OSError):  # what is still buffered need not be written
                self._file.close()


def _is_same(output: os.stat_result, source: Path) -> bool:
    try:
        return os.path.samestat(output, source.stat())
    except OSError:
        return False


class _Npy:
    """The header is written again at the end, when the rows are known: NumPy leaves room for them."""

    def __init__(self, file: IO[bytes], ending: str, dtype: np.dtype[Any]) -> None:
        self._file, self._dtype, self._rows = file, dtype, 0
        self._header()

    def _header(self) -> None:
        header = {"descr": np.lib.format.dtype_to_descr(self._dtype), "fortran_order": False, "shape": (self._rows,)}
        np.lib.format.write_array_header_1_0(self._file, header)

    def write(self, losses: Array) -> None:
        self._file.write(np.ascontiguousarray(losses).data)
        self._rows += len(losses)

    def close(self) -> None:
        self._file.seek(0)
        self._header()

    def abandon(self) -> None:
        pass


class _Table:
    """A table with one column, ``loss``."""

    def __init__(self, file: IO[bytes], ending: str, dtype: np.dtype[Any]) -> None:
        import pyarrow as pa

        self._schema = pa.schema([pa.field("loss", pa.from_numpy_dtype(dtype), nullable=False)])
        self._writer: Any
        if ending == ".parquet":
            import pyarrow.parquet as pq

            self._writer = pq.ParquetWriter(file, self._schema, compression="zstd")
        elif ending == ".csv":
            from pyarrow import csv

            self._writer = csv.CSVWriter(file, self._schema)
        else:
            self._writer = pa.ipc.new_file(file, self._schema)

    def write(self, losses: Array) -> None:
        import pyarrow as pa

        self._writer.write_batch(pa.record_batch([pa.array(losses)], self._schema))

    def close(self) -> None:
        self._writer.close()

    def abandon(self) -> None:
        # The finalizer of a ParquetWriter would write to the closed file, and complain.
        if hasattr(self._writer, "is_open"):
            self._writer.is_open = False
