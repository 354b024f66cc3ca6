"""A look at all files before any is read: which columns are meant, whether they agree, and how many rows there are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lossrs.scoring.batches import LISTS, Part, Request, Table, open_table
from lossrs.scoring.columns import ScoreError, only, select
from lossrs.scoring.files import File
from lossrs.scoring.where import Where


class Survey:
    """A look at all files before any is read: which columns are meant, whether they agree, and how long they are."""

    def __init__(self, requests: dict[str, str], by: Sequence[str], where: Where | None, has_labels: bool) -> None:
        self._requests, self._by, self._where, self._has_labels = requests, by, where, has_labels
        self.chosen: dict[str, list[str]] = {}  # the columns of each operand, and of the sample weight
        self.by: list[str] = []
        self.rows: int | None = 0
        self.counts: dict[Path, int | None] = {}  # the rows of each file, None of those that have to be read for it
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
                self.counts[file.path] = 0
                continue
            self.counts[file.path] = table.rows
            if self.rows is not None:
                self.rows = None if table.rows is None else self.rows + table.rows
            if shard != (1, 1):
                units.append(table.units())
                self.counts[file.path] = units[-1][-1]
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
