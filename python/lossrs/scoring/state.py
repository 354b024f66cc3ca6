"""What a run found, as a file: ``--save``, ``lossrs merge`` and ``--checkpoint``.

A file is a mark that tells what it is, a version, a header in JSON, accumulators as bytes, and a checksum of it all.
States merge if the same was asked, and no row is in two:

1. Rows are numbered over the files of a state in the order of their paths. Merging numbers them anew, over the files
   of all states, so that what comes out is what scoring these files at once gives, to the bit.
2. Of files that were read in shares (``--shard``), the states tell which; shares of one division merge, and make a
   whole when all are there.
"""

from __future__ import annotations

import base64
import bisect
import hashlib
import itertools
import json
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np

from lossrs.accumulator import Accumulator, Terms
from lossrs.loss import losses
from lossrs.scoring.calibration import Calibration, predictions
from lossrs.scoring.columns import Array, Batch, ScoreError, no_groups
from lossrs.scoring.comparison import ROLE, Comparison, drawn_by
from lossrs.scoring.outputs import Output
from lossrs.scoring.worst import Columns, WorstRows

_MARK = b"lossrs "
_VERSION = 1


@dataclass(frozen=True)
class Question:
    """What is asked of files."""

    loss: str
    options: dict[str, Any]
    columns: dict[str, list[str]]
    labels: list[str] | None
    where: str | None
    by: list[str]
    histogram: bool
    calibration: bool
    worst: int
    bootstrap: int = 0

    @property
    def compares(self) -> bool:
        """Whether there is a second model."""
        return ROLE in self.columns

    def accumulator(self) -> Accumulator:
        """Return an accumulator of no rows."""
        return self._accumulator(histogram=self.histogram, bootstrap=self.bootstrap)

    def comparison(self) -> Comparison | None:
        """Return what is known of a second model before the first row, if there is one."""
        if not self.compares:
            return None
        # Replicates of the difference are the differences of the replicates.
        return Comparison(self._accumulator(bootstrap=self.bootstrap), self._accumulator(), self._accumulator())

    def _accumulator(self, **settings: Any) -> Accumulator:
        options: dict[str, Any] = {
            name: np.array(value) if isinstance(value, list) else value for name, value in self.options.items()
        }
        accumulator = Accumulator(losses[self.loss](**options), **settings)
        if self.by:
            # So that there are groups, none, even if there is no row.
            accumulator.update_losses([], group=no_groups(self.by))
        return accumulator

    def differences(self, other: Question) -> str | None:
        """Say what the other asks otherwise."""
        for of in fields(self):
            mine, theirs = getattr(self, of.name), getattr(other, of.name)
            if mine != theirs:
                return f"{of.name} {_shown(mine)}, not {_shown(theirs)}"
        return None


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={_shown(part)}" for name, part in value.items()) or "none"
    if isinstance(value, list):
        return ",".join(map(str, value)) or "none"
    return "none" if value is None else str(value)


@dataclass(frozen=True, order=True)
class Source:
    """A file whose rows were read.

    Attributes
    ----------
    path : str
        As it was named; ``-`` for standard input.
    digest : str
        Of standard input, what was found: nothing else tells two streams apart.
    size : int
        In bytes.
    rows : int
        All its rows.
    location : str
        The absolute path without links, where it was read. Elsewhere the same file may have another, so that it tells
        only that two sources are one.
    """

    path: str
    digest: str
    size: int
    rows: int
    location: str = field(default="", compare=False)


@dataclass(frozen=True)
class Division:
    """Files that were read together, and which of so many shares of their rows."""

    sources: tuple[Source, ...]
    shares: int
    read: tuple[int, ...]

    @property
    def missing(self) -> list[str]:
        """The shares that were not read."""
        return [f"{share}/{self.shares}" for share in range(1, self.shares + 1) if share not in self.read]


@dataclass
class Found:
    """What is known of some rows, to which more can be added."""

    accumulator: Accumulator
    worst: WorstRows
    calibration: Calibration | None = None
    comparison: Comparison | None = None

    def add(
        self,
        terms: Terms,
        batch: Batch,
        group: Any,
        columns: Columns,
        operands: Sequence[Array] = (),
        weight: Array | None = None,
        second: Terms | None = None,
    ) -> None:
        """Add the rows of a batch, with a second model's if there is one, or nothing if there is an error."""
        entries = self.worst.entries_of(terms, batch, columns)
        rows: dict[str, Any] = {"group": group, "first_row": batch.first}
        if batch.kept is not None:
            rows["ids"] = batch.row_numbers()
        if self.accumulator.bootstrap:
            rows["cluster"] = drawn_by(batch)
        additions = [(self.accumulator, terms)]
        if self.comparison is not None and second is not None:
            additions += zip(self.comparison.accumulators, self.comparison.terms(terms, second), strict=True)
        predicted = None
        if self.calibration is not None:
            predicted = predictions(self.accumulator.loss, operands[0], operands[1], weight)
        # What is wrong with the rows is known by now, but for their groups, which the first one refuses for all.
        try:
            for accumulator, of in additions:
                accumulator.add(of, **rows)
        except (TypeError, OverflowError) as error:  # an integer of more than 64 bits
            raise ScoreError(f"{batch.path}: {error}") from error
        self.worst.take(entries)
        if self.calibration is not None:
            self.calibration.update_all(predicted)

    def merge(self, other: Found) -> None:
        """Add what another knows."""
        self.accumulator.merge(other.accumulator)
        self.worst.merge(other.worst)
        if self.comparison is not None and other.comparison is not None:
            self.comparison.merge(other.comparison)
        if self.calibration is not None and other.calibration is not None:
            self.calibration.merge(other.calibration)

    def renumber(self, starts: Sequence[int], to: Sequence[int]) -> None:
        """Give rows other numbers, in the same order: those from ``starts[i]`` on from ``to[i]`` on."""
        self.accumulator.renumber(starts, to)
        self.worst.renumber(starts, to)
        if self.comparison is not None:
            self.comparison.renumber(starts, to)

    def header(self) -> dict[str, Any]:
        """Return what the bytes of the accumulators do not tell."""
        calibration = self.calibration and base64.b64encode(self.calibration.to_bytes()).decode()
        return {"worst": self.worst.entries, "calibration": calibration}

    def blobs(self) -> list[bytes]:
        """Return the accumulators as bytes."""
        others = () if self.comparison is None else self.comparison.accumulators
        return [accumulator.to_bytes() for accumulator in (self.accumulator, *others)]

    @classmethod
    def nothing(cls, question: Question) -> Self:
        """Return what is known of no rows."""
        calibration = Calibration() if question.calibration else None
        return cls(question.accumulator(), WorstRows(question.worst), calibration, question.comparison())

    @classmethod
    def read(cls, question: Question, header: dict[str, Any], blobs: Sequence[bytes]) -> Self:
        """Return what `header` and the bytes of the accumulators tell."""
        loss = question.accumulator().loss
        accumulator, *others = (Accumulator.from_bytes(blob, loss) for blob in blobs)
        return cls(
            accumulator,
            WorstRows(question.worst, header["worst"]),
            Calibration.from_bytes(base64.b64decode(header["calibration"])) if question.calibration else None,
            Comparison(*others) if question.compares else None,
        )


@dataclass
class State:
    """What was asked, of which files, and what was found."""

    question: Question
    divisions: list[Division]
    found: Found

    @property
    def sources(self) -> list[Source]:
        """The files, in the order in which their rows are numbered."""
        return sorted(itertools.chain.from_iterable(division.sources for division in self.divisions))

    @cached_property
    def _numbered(self) -> tuple[list[Source], list[int]]:
        sources = self.sources
        return sources, _starts(sources)

    @property
    def missing(self) -> list[str]:
        """The shares that are missing."""
        return list(itertools.chain.from_iterable(division.missing for division in self.divisions))

    def place(self, row: int) -> tuple[Path, int]:
        """Return the file of a row, and the row's number in it."""
        sources, starts = self._numbered
        # Of files without rows, the last that begins there is the one that has rows.
        index = bisect.bisect_right(starts, row) - 1
        return Path(sources[index].path), row - starts[index]

    def save(self, path: str | Path) -> None:
        """Write a file."""
        header = {
            "question": asdict(self.question),
            "divisions": [asdict(division) for division in self.divisions],
            "found": self.found.header(),
        }
        with Output(path, None, [Path(source.path) for source in self.sources]) as output:
            output.write(pack("state", header, self.found.blobs()))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote."""
        question, divisions, header, blobs = _described(path)
        try:
            return cls(question, divisions, Found.read(question, header, blobs))
        except (KeyError, TypeError, ValueError) as error:
            raise _unreadable(path, error) from error


def _described(path: str | Path) -> tuple[Question, list[Division], dict[str, Any], list[bytes]]:
    """Return what is asked in a state, of which files, and what was found, not yet read."""
    header, blobs = unpack(path, "state")
    try:
        divisions = [
            Division(tuple(Source(**source) for source in of["sources"]), of["shares"], tuple(of["read"]))
            for of in header["divisions"]
        ]
        return Question(**header["question"]), divisions, header["found"], blobs
    except (KeyError, TypeError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: str | Path, error: Exception) -> ScoreError:
    return ScoreError(f"{path}: is a state that this lossrs cannot read: {error}")


def divided(sources: Sequence[Source], shard: tuple[int, int], found: Found) -> list[Division]:
    """Return which rows a run has read."""
    if any(source.path == "-" for source in sources):
        digest = hashlib.sha256(found.accumulator.to_bytes()).hexdigest()
        sources = [Source(source.path, digest, source.size, source.rows) for source in sources]
    return [Division(tuple(sorted(sources)), shard[1], (shard[0],))]


def merge(paths: Sequence[str | Path]) -> State:
    """Return what the states in files make together.

    Raises
    ------
    ScoreError
        One of them is damaged or of another question, or has rows that another has too.
    """
    # Twice, because rows can be numbered when all files are known, and there may be more states than fit in memory.
    described = [_described(path)[:2] for path in paths]
    (question, _), parts = described[0], [divisions for _, divisions in described]
    for path, (other, _) in zip(paths, described, strict=True):
        if difference := other.differences(question):
            raise ScoreError(f"{path}: is of {difference} as in {paths[0]}")
    divisions = _together(paths, parts)
    sources = sorted(itertools.chain.from_iterable(division.sources for division in divisions))
    numbers = dict(zip(sources, _starts(sources), strict=True))
    merged = Found.nothing(question)
    for path in paths:
        state = State.load(path)
        own = state.sources
        state.found.renumber(_starts(own), [numbers[source] for source in own])
        merged.merge(state.found)
    return State(question, divisions, merged)


def _starts(sources: Sequence[Source]) -> list[int]:
    """Return the numbers of the files' first rows."""
    return list(itertools.accumulate((source.rows for source in sources), initial=0))[: len(sources)]


def _together(paths: Sequence[str | Path], parts: Sequence[list[Division]]) -> list[Division]:
    """Return which rows states have together; no row may be in two."""
    holders: dict[Source, tuple[Any, int]] = {}
    located: dict[str, tuple[Source, int]] = {}
    shares: dict[tuple[tuple[Source, ...], int], dict[int, int]] = {}
    for number, divisions in enumerate(parts):
        for division in divisions:
            key = division.sources, division.shares
            for source in division.sources:
                same, other = located.setdefault(source.location or source.path, (source, number))
                if source.location and same != source:
                    known = "which has changed since" if same.path == source.path else f"as {same.path} in"
                    raise ScoreError(f"{paths[number]}: has rows of {source.path}, {known} {paths[other]}")
                held, other = holders.setdefault(source, (key, number))
                if other != number and (held != key or division.shares == 1):
                    raise ScoreError(f"{paths[number]}: has rows of {_name(source)} that {paths[other]} has too")
            for share in division.read:
                other = shares.setdefault(key, {}).setdefault(share, number)
                if other != number:
                    raise ScoreError(
                        f"{paths[number]}: has the shard {share}/{division.shares} that {paths[other]} has too"
                    )
    whole = [sources for (sources, count), read in shares.items() if len(read) == count]
    open_ones = [
        Division(sources, count, tuple(sorted(read))) for (sources, count), read in shares.items() if len(read) < count
    ]
    complete = Division(tuple(sorted(itertools.chain.from_iterable(whole))), 1, (1,))
    return [*([complete] if whole else []), *sorted(open_ones, key=lambda part: (part.sources, part.shares))]


def _name(source: Source) -> str:
    return "the same standard input" if source.path == "-" else source.path


def pack(kind: str, header: dict[str, Any], blobs: Sequence[bytes]) -> bytes:
    """Return a file of some kind as bytes."""
    text = json.dumps(header, default=_plain).encode()
    parts = [_MARK, kind.encode(), b"\n", struct.pack("<IQ", _VERSION, len(text)), text]
    for blob in blobs:
        parts += [struct.pack("<Q", len(blob)), blob]
    whole = b"".join(parts)
    return whole + struct.pack("<I", zlib.crc32(whole))


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} cannot be kept in a state")


def unpack(path: str | Path, kind: str) -> tuple[dict[str, Any], list[bytes]]:
    """Return the header and the accumulators of a file of some kind."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ScoreError(f"{path}: cannot be read: {error.strerror}") from error
    mark = _MARK + kind.encode() + b"\n"
    if not data.startswith(mark):
        if data and mark.startswith(data):
            raise ScoreError(f"{path}: is cut short: it has {len(data)} bytes")
        what = next((other for other in ("state", "checkpoint") if data.startswith(_MARK + other.encode())), None)
        raise ScoreError(
            f"{path}: is {f'a {what}' if what else 'a file of another kind'}, not a {kind} of lossrs score"
        )
    at = len(mark)
    try:
        version, length = struct.unpack_from("<IQ", data, at)
        if version != _VERSION:
            raise ScoreError(f"{path}: is of version {version}; this lossrs reads version {_VERSION}")
        text = data[at + 12 : at + 12 + length]
        at += 12 + length
        blobs = []
        while at < len(data) - 4:
            (size,) = struct.unpack_from("<Q", data, at)
            blobs.append(data[at + 8 : at + 8 + size])
            at += 8 + size
        (checksum,) = struct.unpack_from("<I", data, at)
    except (struct.error, OverflowError):
        raise ScoreError(f"{path}: is cut short: it has {len(data)} bytes") from None
    if at + 4 != len(data) or zlib.crc32(data[:-4]) != checksum:
        raise ScoreError(f"{path}: is damaged: its checksum is wrong")
    return json.loads(text), blobs
