"""What ``lossrs score`` prints: a table for people, JSON, CSV or Markdown."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, TextIO

import numpy as np

import lossrs
from lossrs.scoring.figures import PLACES, Figures, on_one_line, shown
from lossrs.scoring.files import path_text
from lossrs.scoring.progress import Run, color_system
from lossrs.scoring.score import Score


@dataclass(frozen=True)
class Results:
    """What is printed."""

    score: Score
    figures: Figures
    run: Run

    @property
    def title(self) -> str:
        """What was scored."""
        paths = self.score.files
        return f"{self.score.loss} of {path_text(paths[0]) if len(paths) == 1 else f'{len(paths):,} files'}"


def print_json(results: Results, stream: TextIO) -> None:
    """Print an object on one line, as the schema describes it."""
    # Of other encodings, escapes are understood by all.
    escaped = (stream.encoding or "utf-8").lower().replace("_", "-") not in ("utf-8", "utf8")
    stream.write(_json(document(results), escaped)[:-1])
    if results.score.by:
        stream.write(', "groups": [')
        for number, group in enumerate(_group_objects(results)):
            stream.write((", " if number else "") + _json(group, escaped))
        stream.write("]}\n")
    else:
        stream.write(', "groups": null}\n')


def document(results: Results) -> dict[str, Any]:
    """Return what JSON says but for the groups."""
    score, figures = results.score, results.figures
    return {
        "lossrs": lossrs.__version__,
        "command": list(results.run.command),
        "missing_shards": score.state.missing,
        "files": [path_text(path) for path in score.files],
        "loss": score.loss,
        "options": {name: plain(value) for name, value in score.options.items()},
        **{figure.name: _value(figure.name, figures.overall[figure.name], score) for figure in figures.figures},
        "run": results.run.to_dict(),
        "by": list(score.by),
    }


def _group_objects(results: Results) -> Iterator[dict[str, Any]]:
    figures = results.figures
    keys, names = len(figures.by), [figure.name for figure in figures.figures]
    for group in figures.groups():
        key = group[0] if keys == 1 else list(group[:keys])
        values = zip(names, group[keys:], strict=True)
        yield {"group": key} | {name: _value(name, value, results.score) for name, value in values}


def _value(name: str, value: Any, score: Score) -> Any:
    if name not in PLACES or value is None:
        return plain(value)
    path, row = score.place(value)
    return {"file": path_text(path), "row": row}


def plain(value: Any) -> Any:
    """Return a value as JSON has it: what is not finite becomes a string."""
    if isinstance(value, np.ndarray):
        return [plain(item) for item in value.tolist()]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _json(value: Any, escaped: bool) -> str:
    return json.dumps(value, ensure_ascii=escaped, allow_nan=False)


def schema() -> str:
    """Return the JSON schema of what is printed."""
    return files("lossrs.scoring").joinpath("schema.json").read_text("utf-8")


def print_csv(results: Results, stream: TextIO) -> None:
    """Print a row for each group and one for all, with all digits; what has no value is empty."""
    figures, names = results.figures, [figure.name for figure in results.figures.figures]

    def cells(values: Iterable[Any]) -> Iterator[Any]:
        for name, value in zip(names, values, strict=True):
            if name in PLACES:
                found = _value(name, value, results.score) or {"file": None, "row": None}
                yield from (found["file"], found["row"])
            else:
                yield value

    header = [part for name in names for part in ([name[:-3] + "file", name] if name in PLACES else [name])]
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["scope", *figures.by, *header])
    for group in figures.groups():
        keys = [shown(part) if isinstance(part, bool) else part for part in group[: len(figures.by)]]
        writer.writerow(["group", *keys, *cells(group[len(figures.by) :])])
    writer.writerow(["all", *[None] * len(figures.by), *cells(figures.overall[name] for name in names)])


def _lines(figures: Figures) -> tuple[list[str], list[list[str]]]:
    """Return the header and the lines of a table."""
    columns, keys = figures.in_tables, len(figures.by)
    lines = [
        [
            *(on_one_line(shown(part)) for part in group[:keys]),
            *(shown(value, figure) for value, figure in zip(group[keys:], columns, strict=True)),
        ]
        for group in figures.groups(columns)
    ]
    overall = [shown(figures.overall[figure.name], figure) for figure in columns]
    lines.append((["all"] + [""] * (keys - 1) if keys else []) + overall)
    return [*map(on_one_line, figures.by), *(figure.title for figure in columns)], lines


def print_markdown(results: Results, stream: TextIO) -> None:
    """Print a table in Markdown."""
    header, lines = _lines(results.figures)
    keys = len(results.figures.by)
    rule = [":--" if column < keys else "--:" for column in range(len(header))]
    for line in [[*map(_for_markdown, header)], rule, *([*map(_for_markdown, line)] for line in lines)]:
        print(f"| {' | '.join(line)} |", file=stream)


def _for_markdown(text: str) -> str:
    return "".join("\\" + char if char in r"\`*_[]<>|" else char for char in text)


def print_table(results: Results, stream: TextIO) -> None:
    """Print a table, with rich on a terminal."""
    header, lines = _lines(results.figures)
    keys = len(results.figures.by)
    if stream.isatty() and _print_rich_table(results, header, lines):
        return
    widths = [max(len(line[column]) for line in [header, *lines]) for column in range(len(header))]
    for line in [header, *lines]:
        cells = [
            cell.ljust(width) if column < keys else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        print("  ".join(cells).rstrip(), file=stream)


def _print_rich_table(results: Results, header: Sequence[str], lines: list[list[str]]) -> bool:
    """Print with rich; return False if it is missing, or would have to cut numbers off."""
    try:
        from rich.box import SIMPLE_HEAD
        from rich.console import Console
        from rich.measure import Measurement
        from rich.table import Table
        from rich.text import Text
    except ImportError:
        return False
    console = Console(color_system=color_system())
    keys = len(results.figures.by)
    table = Table(title=Text(on_one_line(results.title)), box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for index, name in enumerate(header):
        table.add_column(Text(name), justify="left" if index < keys else "right")
    for index, line in enumerate(lines):
        table.add_row(*map(Text, line), end_section=keys > 0 and index == len(lines) - 2)
    if Measurement.get(console, console.options.update(max_width=10_000), table).minimum > console.width:
        return False
    console.print(table)
    return True


#: What prints each format.
FORMATS: Mapping[str, Callable[[Results, TextIO], None]] = {
    "table": print_table,
    "json": print_json,
    "csv": print_csv,
    "markdown": print_markdown,
}
