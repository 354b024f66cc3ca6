"""``--checkpoint``: what has been found so far and how far that is, in a file, from which the same command goes on.

1. What is found of the file that is being read is kept apart from that of the files before, and merged at its end. So
   a file that has changed, because its bad row was mended, is read anew, and only that one.
2. The file is written every few seconds, and when an error or an interrupt ends the run. It is replaced as a whole.
3. The sums are exact and rows keep their numbers, so a run that went on ends in the same bits as one that was never
   stopped.
"""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lossrs.scoring.batches import Part
from lossrs.scoring.columns import Batch, Numbers, ScoreError
from lossrs.scoring.outputs import Output, replace_whole
from lossrs.scoring.state import Found, Question, pack, unpack

SECONDS = 10.0
#: Writing takes at most about this share of the time.
_SHARE = 1 / 20


@dataclass
class SoFar:
    """What has been found, and how far that is.

    Attributes
    ----------
    question : Question
        What is asked.
    done : Found
        What is known of the files that were read to their end.
    current : Found
        What is known of the file that is being read; the same object as `done` if nobody asks for it apart.
    counts : dict of str to int
        The rows of the files that were read to their end.
    path : str or None
        The file that is being read.
    row : int
        Its next row.
    """

    question: Question
    done: Found
    current: Found
    counts: dict[str, int] = field(default_factory=dict)
    path: str | None = None
    row: int = 0

    @classmethod
    def begin(cls, question: Question, *, apart: bool) -> SoFar:
        """Return what there is before the first row."""
        done = Found.nothing(question)
        return cls(question, done, Found.nothing(question) if apart else done)

    def advance(self, batch: Batch) -> None:
        """Note that the rows of a batch are in."""
        self.path, self.row = str(batch.source), batch.end

    def finish(self, batch: Batch) -> None:
        """Note that a file is at its end."""
        if self.current is not self.done:
            self.done.merge(self.current)
            self.current = Found.nothing(self.question)
        self.counts[str(batch.source)] = batch.end
        self.path, self.row = None, 0

    def rows(self) -> int:
        """Return how many rows were scored so far."""
        parts = [self.done] if self.current is self.done else [self.done, self.current]
        return sum(part.accumulator.overall().rows for part in parts)

    def mean(self) -> float:
        """Return the mean so far."""
        if self.current is self.done:
            return self.done.accumulator.overall().mean
        parts = [of.accumulator.overall() for of in (self.done, self.current)]
        weight = sum(part.weight for part in parts)
        return sum(part.sum for part in parts) / weight if weight else math.nan

    def remaining(self, parts: Sequence[Part], counts: Mapping[Path, int | None]) -> tuple[list[Part], int]:
        """Return what is still to be read, and how many rows have been."""
        first_rows, before = {}, 0
        for path, count in counts.items():
            first_rows[path] = before
            before += self.counts.get(str(path), 0) if count is None else count
        rest: list[Part] = []
        rows = 0
        for part in parts:
            path = part.file.path
            if str(path) in self.counts:
                rows += (self.counts[str(path)] if part.last is None else part.last) - part.first
                continue
            first = max(part.first, self.row) if str(path) == self.path else part.first
            rows += first - part.first
            # Of the files after this one nobody may have counted the rows.
            rest.append(Part(part.file, first, part.last, part.first_row if rest else first_rows[path] + first))
        return rest, rows


class Checkpoint:
    """The file.

    Parameters
    ----------
    path : path
        Where it is.
    seconds : float
        How often it is written, at most.
    shard : (int, int)
        Which share is read.
    files : sequence of Path
        All files, in their order.
    numbers : mapping of str to Numbers
        The columns, which know how long lists are.
    """

    def __init__(
        self,
        path: str | Path,
        seconds: float,
        shard: tuple[int, int],
        files: Sequence[Path],
        numbers: Mapping[str, Numbers],
    ) -> None:
        self.path, self._seconds, self._shard, self._numbers = Path(path), seconds, shard, numbers
        if Path("-") in files:
            raise ScoreError(f"{path}: standard input cannot be read again, and so has no checkpoint")
        Output(path, None, files).close(whole=False)  # it can be written
        self._stats = [[str(file), *_stat(file)] for file in files]
        self._wait_until = time.monotonic() + seconds

    def resume(self, question: Question) -> SoFar | None:
        """Return what the file has, if there is one of the same question and files."""
        if not self.path.exists():
            return None
        header, blobs = unpack(self.path, "checkpoint")
        try:
            return self._resume(question, header, blobs[: len(blobs) // 2], blobs[len(blobs) // 2 :])
        except (KeyError, TypeError, ValueError) as error:
            raise ScoreError(f"{self.path}: is a checkpoint that this lossrs cannot read: {error}") from error

    def _resume(self, question: Question, header: dict[str, Any], done: list[bytes], current: list[bytes]) -> SoFar:
        anew = "; without this file the run begins anew"
        if difference := Question(**header["question"]).differences(question):
            raise ScoreError(f"{self.path}: is a checkpoint of {difference}{anew}")
        if header["shard"] != list(self._shard):
            shards = ("/".join(map(str, of)) for of in (header["shard"], self._shard))
            raise ScoreError(f"{self.path}: is a checkpoint of shard {', not '.join(shards)}{anew}")
        known, counts, path = header["stats"], header["counts"], header["path"]
        names = [name for name, *_ in known]
        reached = max([names.index(name) + 1 for name in [*counts, *([path] if path else [])]], default=0)
        if self._shard != (1, 1):
            reached = max(len(known), len(self._stats))  # where files are cut depends on all of them
        so_far = SoFar(
            question,
            Found.read(question, header["done"], done),
            Found.read(question, header["current"], current),
            counts,
            path,
            header["row"],
        )
        for index in range(reached):
            before, now = (stats[index] if index < len(stats) else [None] for stats in (known, self._stats))
            if before[0] != now[0]:
                raise ScoreError(f"{self.path}: is a checkpoint of other files: {before[0] or now[0]}{anew}")
            if before != now:
                if self._shard != (1, 1) or before[0] != path:
                    raise ScoreError(f"{self.path}: {before[0]} has changed since this checkpoint{anew}")
                so_far.current, so_far.path, so_far.row = Found.nothing(question), None, 0
        if so_far.counts or so_far.path is not None:  # else nothing of what was read counts
            for role, widths in header["widths"].items():
                self._numbers[role].widths.update(widths)
        return so_far

    def is_due(self) -> bool:
        """Whether it is time to write."""
        return time.monotonic() >= self._wait_until

    def write(self, so_far: SoFar) -> None:
        """Replace the file."""
        began = time.monotonic()
        header = {
            "question": asdict(so_far.question),
            "shard": self._shard,
            "stats": self._stats,
            "counts": so_far.counts,
            "path": so_far.path,
            "row": so_far.row,
            "widths": {role: numbers.widths for role, numbers in self._numbers.items()},
            "done": so_far.done.header(),
            "current": so_far.current.header(),
        }
        replace_whole(self.path, pack("checkpoint", header, [*so_far.done.blobs(), *so_far.current.blobs()]))
        now = time.monotonic()
        self._wait_until = now + max(self._seconds, (now - began) / _SHARE)

    @contextmanager
    def kept(self, so_far: SoFar) -> Iterator[None]:
        """Write when an error of the data or an interrupt ends what is done here, and at its end."""
        try:
            yield
        except (ScoreError, KeyboardInterrupt, SystemExit):
            with suppress(ScoreError):  # what ended the run is what there is to say
                self.write(so_far)
            raise
        self.write(so_far)


def _stat(path: Path) -> tuple[int, int]:
    try:
        found = os.stat(path)
    except OSError as error:
        raise ScoreError(f"{path}: cannot be read: {error.strerror}") from error
    return found.st_size, found.st_mtime_ns


@contextmanager
def undisturbed() -> Iterator[None]:
    """Put off Ctrl-C and SIGTERM, so that what is done here is done wholly."""
    with _handled(insist=False) as look:
        yield
    look()


@contextmanager
def interruptible() -> Iterator[Callable[[], None]]:
    """Put off Ctrl-C and SIGTERM until the function is called that is given, and at most to the end.

    What is raised at any moment may be raised in a destructor, which swallows it. A second one is not put off.
    """
    with _handled(insist=True) as look:
        yield look
    look()


@contextmanager
def _handled(*, insist: bool) -> Iterator[Callable[[], None]]:
    caught: list[tuple[int, Any]] = []
    handlers: dict[int, Any] = {}

    def handle(number: int, frame: Any) -> None:
        if insist and caught:
            handlers[number](number, frame)
        caught.append((number, frame))

    def look() -> None:
        while caught:
            number, frame = caught.pop(0)
            handlers[number](number, frame)

    try:
        if threading.current_thread() is threading.main_thread():
            for number in map(int, (signal.SIGINT, signal.SIGTERM)):
                if callable(handler := signal.getsignal(number)):
                    handlers[number] = handler
                    signal.signal(number, handle)
        yield look
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
