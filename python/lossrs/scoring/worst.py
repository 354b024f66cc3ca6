"""The worst rows, with what they hold: ``--worst``."""

from __future__ import annotations

import bisect
import json
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lossrs.accumulator import Terms
from lossrs.scoring.columns import Batch, Numbers, ScoreError, require_pyarrow, values_of
from lossrs.scoring.files import path_text
from lossrs.scoring.outputs import Output

ENDINGS = (".parquet", ".arrow", ".csv", ".json")
_OWN = ("file", "row", "loss")


@dataclass(frozen=True)
class Columns:
    """Which columns of a row are kept: those that are numbers, and those that are labels or keys."""

    numbers: Sequence[str]
    texts: Sequence[str]


class WorstRows:
    """The rows of the largest losses, NaN before all, equal ones by their number.

    Attributes
    ----------
    most : int
        How many are kept.
    entries : list of [loss, row, columns]
        The worst first, with the rows' numbers over all files.
    """

    def __init__(self, most: int, entries: Sequence[Any] = ()) -> None:
        self.most, self.entries = most, [list(entry) for entry in entries]

    def entries_of(self, terms: Terms, batch: Batch, columns: Columns) -> list[Any]:
        """Return the rows of a batch that may be among the worst, for `take`."""
        if not self.most:
            return []
        losses = np.broadcast_to(terms.losses, batch.rows).astype(np.float64)
        may = np.ones(batch.rows, bool) if terms.ignored is None else ~np.broadcast_to(terms.ignored, batch.rows)
        if len(self.entries) == self.most:
            # NaN is not below anything.
            may &= ~(losses < self.entries[-1][0])
        indices = np.flatnonzero(may)
        rows = batch.row_numbers()
        order = np.lexsort((rows[indices], -losses[indices], ~np.isnan(losses[indices])))[: self.most]
        indices = indices[order]
        if not indices.size:
            return []
        few = batch.taken(indices)
        values: dict[str, list[Any]] = {name: Numbers([name]).read(few).tolist() for name in columns.numbers}
        values |= {name: values_of(name, few) for name in columns.texts}
        held = [dict(zip(values, of, strict=True)) for of in zip(*values.values(), strict=True)]
        return [list(entry) for entry in zip(losses[indices].tolist(), rows[indices].tolist(), held, strict=True)]

    def merge(self, other: WorstRows) -> None:
        """Take what another has."""
        self.take(other.entries)

    def take(self, entries: Sequence[Any]) -> None:
        """Take rows, and keep the worst."""
        self.entries = sorted([*self.entries, *entries], key=_order)[: self.most]

    def renumber(self, starts: Sequence[int], to: Sequence[int]) -> None:
        """Give rows other numbers, in the same order: those from ``starts[i]`` on from ``to[i]`` on."""
        for entry in self.entries:
            run = bisect.bisect_right(starts, entry[1]) - 1
            entry[1] += to[run] - starts[run]

    def records(self, place: Callable[[int], tuple[Path, int]]) -> list[dict[str, Any]]:
        """Return what is known of each, the worst first: its file, its number in the file, its loss, its columns."""
        records = []
        for loss, row, columns in self.entries:
            path, number = place(row)
            renamed = {f"column {name}" if name in _OWN else name: value for name, value in columns.items()}
            records.append({"file": path_text(path), "row": number, "loss": loss} | renamed)
        return records


def _order(entry: Any) -> tuple[bool, float, int]:
    loss, row, _ = entry
    return (False, 0.0, row) if math.isnan(loss) else (True, -loss, row)


def write_worst(records: Sequence[dict[str, Any]], path: str | Path, sources: Sequence[Path]) -> None:
    """Write rows as a table."""
    with worst_file(path, sources) as output:
        try:
            _write(records, output)
        except OSError as error:
            raise output.failed(error) from error
        except (ValueError, TypeError, OverflowError) as error:  # pyarrow's are among them
            raise ScoreError(f"{path}: the worst rows cannot be written: {' '.join(str(error).split())}") from error


def worst_file(path: str | Path, sources: Sequence[Path]) -> Output:
    """Return where rows are written."""
    ending = Path(path).suffix.lower()
    if ending in ENDINGS and ending != ".json":
        require_pyarrow(f"writing {ending}")
    return Output(path, ENDINGS, sources)


def _write(records: Sequence[dict[str, Any]], output: Output) -> None:
    if output.ending == ".json":
        output.write(
            json.dumps([_finite(record) for record in records], ensure_ascii=False, indent=1).encode(
                errors="backslashreplace"
            )
            + b"\n"
        )
        return
    import pyarrow as pa

    names = list(dict.fromkeys(name for record in records for name in record)) or list(_OWN)
    columns = {name: _array([record.get(name) for record in records]) for name in names}
    if output.ending == ".csv":
        from pyarrow import csv

        flat = {
            name: [json.dumps(value) for value in of.to_pylist()] if pa.types.is_nested(of.type) else of
            for name, of in columns.items()
        }
        csv.write_csv(pa.table(flat), output.file)
    elif output.ending == ".parquet":
        import pyarrow.parquet as pq

        pq.write_table(pa.table(columns), output.file)
    else:
        table = pa.table(columns)
        with pa.ipc.new_file(output.file, table.schema) as writer:
            writer.write_table(table)


def _array(values: Sequence[Any]) -> Any:
    """Return a column: of text where files hold different kinds of it."""
    import pyarrow as pa

    for kind in (None, pa.uint64(), pa.list_(pa.uint64())):
        with suppress(ValueError, TypeError, OverflowError):
            return pa.array(values, kind)
    return pa.array([value if value is None or isinstance(value, str) else json.dumps(value) for value in values])


def _finite(value: Any) -> Any:
    """Return a value for JSON, which has no NaN and no infinities."""
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_finite(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value
