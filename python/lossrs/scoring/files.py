"""Which files are meant: paths, globs, folders, and what their paths say of their rows.

The order is that of the paths, as strings, whatever the order in which they are asked for; a file counts once.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from lossrs.scoring.columns import Constant, ScoreError

STANDARD_INPUT = Path("-")

_NULL = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True)
class File:
    """A file, and the columns that its path gives: ``country=de/day=3/part-0.parquet``."""

    path: Path
    constants: dict[str, Constant] = field(default_factory=dict)


def find_files(requests: Sequence[str | Path], endings: Iterable[str]) -> list[File]:
    """Find files: as named, by globs, and in folders those of known endings, however deep."""
    paths: dict[str, Path] = {}
    for request in requests:
        found = [STANDARD_INPUT] if str(request) == "-" else _found(str(request), tuple(endings))
        # Sorted, because a file may have several names, and a folder has no order.
        for path in sorted(found, key=str):
            paths.setdefault(os.path.realpath(path), path)
    if len(paths) > 1 and STANDARD_INPUT in paths.values():
        raise ScoreError("-: standard input and files cannot be read together")
    if not paths:
        raise ScoreError("no files")
    ordered = sorted(paths.values(), key=str)
    keys = [_partition(path) for path in ordered]
    integers = {
        name
        for name in {name for of_file in keys for name in of_file}
        if all(re.fullmatch(r"-?[0-9]{1,18}", value) for of_file in keys if (value := of_file.get(name)) is not None)
    }
    return [
        File(path, {name: _constant(value, name in integers) for name, value in of_file.items()})
        for path, of_file in zip(ordered, keys, strict=True)
    ]


def path_text(path: str | Path) -> str:
    """Return a path as text that can be printed, whatever bytes it is made of."""
    return os.fsencode(path).decode(errors="replace")


def _found(request: str, endings: tuple[str, ...]) -> list[Path]:
    if os.path.isdir(request):
        return _in_folder(Path(request), endings)
    if os.path.exists(request) or not glob.has_magic(request):
        return [Path(request)]
    found: list[Path] = []
    for match in glob.iglob(request, recursive=True):
        # With ** the files of a folder match by themselves.
        if not os.path.isdir(match):
            found.append(Path(match))
        elif "**" not in request:
            found += _in_folder(Path(match), endings)
    if not found:
        raise ScoreError(f"{request}: no file matches")
    return found


def _in_folder(folder: Path, endings: tuple[str, ...]) -> list[Path]:
    """Find the files in a folder; names that begin with a dot or an underscore are those of other things."""
    found: list[Path] = []
    seen: set[str] = set()

    def failed(error: OSError) -> None:
        raise ScoreError(f"{error.filename}: cannot be read: {error.strerror}")

    for parent, folders, names in os.walk(folder, onerror=failed, followlinks=True):
        if (real := os.path.realpath(parent)) in seen:  # by a link
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if not name.startswith((".", "_"))]
        found += [
            Path(parent, name) for name in names if name.lower().endswith(endings) and not name.startswith((".", "_"))
        ]
    if not found:
        raise ScoreError(f"{folder}: no file in this folder ends in one of {', '.join(endings)}")
    return found


def _partition(path: Path) -> dict[str, str | None]:
    """Return what folders of the form ``name=value`` say."""
    pairs = (part.partition("=") for part in path.parts[:-1])
    return {
        unquote(name): None if value == _NULL else unquote(value) for name, equals, value in pairs if name and equals
    }


def _constant(value: str | None, is_integer: bool) -> Constant:
    return Constant(int(value) if is_integer and value is not None else value, is_integer)
