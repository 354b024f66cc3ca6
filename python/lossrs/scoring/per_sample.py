"""Each row's loss, streamed to a file that has its name only once it is whole."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol, Self

import numpy as np

from lossrs.scoring.columns import Array, require_pyarrow
from lossrs.scoring.outputs import Output


class _Writer(Protocol):
    def write(self, losses: Array) -> None: ...
    def close(self) -> None: ...
    def abandon(self) -> None: ...


class PerSample:
    """The output of ``--per-sample``: used as a context, it gets its name on success and is removed otherwise."""

    def __init__(self, output: str | Path | None, sources: Sequence[Path]) -> None:
        self._writer: _Writer | None = None
        self._output: Output | None = None
        if output is None:
            return
        if Path(output).suffix.lower() in (".parquet", ".arrow", ".csv"):
            require_pyarrow(f"writing {Path(output).suffix.lower()}")
        self._output = Output(output, (".parquet", ".arrow", ".csv", ".npy"), sources)

    def write(self, losses: Array) -> None:
        """Append the losses of a batch."""
        if self._output is None:
            return
        try:
            if self._writer is None:
                kind = _Npy if self._output.ending == ".npy" else _Table
                self._writer = kind(self._output.file, self._output.ending, losses.dtype)
            self._writer.write(losses)
        except OSError as error:
            raise self._output.failed(error) from error

    def __enter__(self) -> Self:
        """Return itself; what is written has no name yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the file its name, or remove it."""
        if self._output is None:
            return
        whole = False
        try:
            if kind is None:
                if self._writer is None:
                    self.write(np.empty(0))
                assert self._writer is not None
                self._writer.close()
                whole = True
        except OSError as failure:
            raise self._output.failed(failure) from failure
        finally:
            if self._writer is not None:
                self._writer.abandon()
            self._output.close(whole)


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
