"""Files that are written: they have their names only once they are whole."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from lossrs.scoring.columns import ScoreError


class Output:
    """A file to be written: used as a context, it gets its name on success and is removed otherwise.

    Attributes
    ----------
    path : Path
        What it will be called.
    ending : str
        The ending of that, which says what is to be written.
    file : binary file
        Where to write.
    """

    def __init__(self, path: str | Path, endings: Sequence[str] | None, sources: Sequence[Path] = ()) -> None:
        self.path = Path(os.path.realpath(path))
        self.ending = self.path.suffix.lower()
        if endings is not None and self.ending not in endings:
            raise ScoreError(f"{path}: the ending {self.ending!r} is none of {', '.join(endings)}")
        _require_unread(path, sources)
        if self.path.exists() and not self.path.is_file():
            raise ScoreError(f"{path}: is not a regular file; it is not overwritten")
        self._partial = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}.partial")
        try:
            self.file: IO[bytes] = self._partial.open("xb")
        except OSError as error:
            raise ScoreError(f"{path}: cannot be written: {error.strerror}") from error

    def failed(self, error: OSError) -> ScoreError:
        """Say that it cannot be written."""
        return ScoreError(f"{self.path}: cannot be written: {error.strerror or error}")

    def write(self, data: bytes) -> None:
        """Append bytes."""
        try:
            self.file.write(data)
        except OSError as error:
            raise self.failed(error) from error

    def __enter__(self) -> Self:
        """Return itself; what is written has no name yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the file its name, or remove it."""
        self.close(kind is None)

    def close(self, whole: bool) -> None:
        """Give the file its name if it is whole, else remove it."""
        try:
            if whole:
                self.file.flush()
                os.fsync(self.file.fileno())  # lest a crash leave the name without the content
                self.file.close()
                self._partial.replace(self.path)
        except OSError as failure:
            raise self.failed(failure) from failure
        finally:
            self._partial.unlink(missing_ok=True)
            with suppress(OSError):  # what is still buffered need not be written
                self.file.close()


def replace_whole(path: Path, data: bytes) -> None:
    """Write a file anew, which is the old one until it is whole; what a killed process left is written over."""
    path = Path(os.path.realpath(path))
    partial = path.with_name(f".{path.name}.partial")
    try:
        try:
            with partial.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise ScoreError(f"{path}: cannot be written: {error.strerror or error}") from error


def require_apart(outputs: Mapping[str, str | Path | None], sources: Sequence[Path]) -> None:
    """Refuse outputs that are one file, or one that is read, by whatever name; the keys say what they are for."""
    known: dict[str, str] = {}
    for purpose, path in outputs.items():
        if path is None:
            continue
        other = known.setdefault(os.path.realpath(path), purpose)
        if other != purpose:
            raise ScoreError(f"{path}: is asked for twice, by {other} and {purpose}")
        _require_unread(path, sources)


def _require_unread(path: str | Path, sources: Sequence[Path]) -> None:
    try:
        found = os.stat(path)
    except OSError:
        return
    if any(_is_same(found, source) for source in sources):
        raise ScoreError(f"{path}: is the file that is read; it is not overwritten")


def _is_same(output: os.stat_result, source: Path) -> bool:
    try:
        return os.path.samestat(output, source.stat())
    except OSError:
        return False
