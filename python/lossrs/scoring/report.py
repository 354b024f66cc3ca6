"""A score on one page: all that is known, in HTML that needs no other file and no network.

The page is well-formed XML, too. Pictures are SVG whose colours are those of the page, light and dark.
"""

from __future__ import annotations

import datetime
import math
import re
import shlex
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

import numpy as np

import lossrs
from lossrs.scoring.figures import Figure, on_one_line, shown
from lossrs.scoring.files import path_text
from lossrs.scoring.formats import Results
from lossrs.scoring.plot import (
    BLUE,
    GREEN,
    INK,
    MUTED,
    ORANGE,
    PAPER,
    RULE,
    Picture,
    panels,
    percent,
    svg,
)
from lossrs.scoring.plot_data import display_bins

MOST_GROUPS, MOST_FILES, MOST_WORST = 1_000, 100, 100
_COLOURS = {BLUE: "blue", ORANGE: "orange", GREEN: "green", INK: "ink", MUTED: "muted", RULE: "rule", PAPER: "paper"}


def report(results: Results) -> str:
    """Return the page."""
    score, picture = results.score, Picture.of(results)
    page = Template(files("lossrs.scoring").joinpath("report.html").read_text("utf-8"))
    now = datetime.datetime.now(datetime.UTC)
    sections = [
        _pictures(picture),
        _groups(results),
        _worst(score.worst),
        _all_figures(results),
        _calibration(picture),
        _request(results),
    ]
    return page.substitute(
        title=_text(results.title),
        subtitle=_text(f"{score.overall.rows:,} rows" + (f", by {', '.join(score.by)}" if score.by else "")),
        cards=_cards(results),
        sections="\n".join(filter(None, sections)),
        version=_text(lossrs.__version__),
        written=f"{now:%Y-%m-%d %H:%M} UTC",
        cost=_text(str(results.run)),
    )


def _text(text: str) -> str:
    return escape(on_one_line(text))


def _class(name: str) -> str:
    return f' class="{name}"' if name else ""


def _section(title: str, content: str) -> str:
    return f"<section>\n<h2>{_text(title)}</h2>\n{content}\n</section>"


def _cards(results: Results) -> str:
    overall = results.figures.overall
    cards = []
    for figure in results.figures.in_tables:
        name, value = figure.name, overall[figure.name]
        if name.endswith(("_lower", "_upper", "standard_error")):
            continue  # they belong to others
        margins = []
        error = overall.get("standard_error" if name == "mean" else f"{name}_standard_error", math.nan)
        if math.isfinite(error):
            margins.append(f"± {error:.2g} (standard error)")
        if f"{name}_lower" in overall:
            margins.append(f"95 %: {overall[f'{name}_lower']:.4g} to {overall[f'{name}_upper']:.4g}")
        small = "".join(f"<small>{_text(margin)}</small>" for margin in margins)
        text = f"{value:,}" if isinstance(value, int) else shown(value, figure)
        cards.append(f"<div><dt>{_text(figure.title)}</dt><dd>{_text(text)}{small}</dd></div>")
    return "".join(cards)


def _pictures(picture: Picture) -> str:
    drawn = [
        f"<figure{_class('wide' if panel.wide else '')}>{_inline(svg(panel), panel.name)}</figure>"
        for panel in panels(picture)
    ]
    return _section("Pictures", f'<div class="pictures">\n{"".join(drawn)}\n</div>') if drawn else ""


def _inline(drawn: bytes, name: str) -> str:
    """Make a part of the page of an SVG file: without its prolog, with names and colours of the page."""
    text = drawn.decode()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r"<[^>]+>", lambda tag: _of_page(tag[0], name.replace(" ", "-")), text)  # and not what is written
    return text.replace("<svg", f'<svg role="img" aria-label="{escape(name)}"', 1)


def _of_page(tag: str, prefix: str) -> str:
    if tag.startswith("<svg"):
        tag = re.sub(r' (width|height)="[^"]*"', "", tag)
    tag = re.sub(r'\bid="', f'id="{prefix}-', tag)
    tag = re.sub(r'(href="|url\()#', rf"\1#{prefix}-", tag)
    for colour, variable in _COLOURS.items():
        tag = re.sub(rf"(?<=[:\s]){colour}\b", f"var(--{variable})", tag, flags=re.IGNORECASE)
    return tag


def _cell(value: Any, figure: Figure | None = None) -> str:
    """Return a cell: a number with all its digits for sorting, or text."""
    if figure is None:
        return f'<td class="text">{_text(shown(value))}</td>'
    return f'<td data-value="{value}">{_text(shown(value, figure))}</td>'


def _table(header: Sequence[tuple[str, bool]], rows: Iterable[str], foot: str = "") -> str:
    """Return a table whose columns sort it; of each the title and whether it is text."""
    cells = "".join(
        f'<th scope="col"{_class("text" if is_text else "")}><button type="button">{_text(title)}</button></th>'
        for title, is_text in header
    )
    body = "\n".join(f"<tr>{row}</tr>" for row in rows)
    foot = f"<tfoot><tr>{foot}</tr></tfoot>" if foot else ""
    return f'<div class="scroll"><table><thead><tr>{cells}</tr></thead>\n<tbody>\n{body}\n</tbody>{foot}</table></div>'


def _groups(results: Results) -> str:
    figures = results.figures
    if not figures.group_count:
        return ""
    columns = [*figures.in_tables, *(of for of in figures.figures if of.name in ("minimum", "maximum"))]
    order, note = None, ""
    if figures.group_count > MOST_GROUPS:
        mean = figures.column("mean")
        order = np.argsort(np.where(np.isnan(mean), np.inf, mean), kind="stable")[::-1][:MOST_GROUPS]
        found = f"The {MOST_GROUPS:,} of the largest mean; --format csv prints all {figures.group_count:,}."
        note = f'<p class="note">{found}</p>'
    keys = len(figures.by)
    rows = (
        "".join(map(_cell, group[:keys])) + "".join(map(_cell, group[keys:], columns))
        for group in figures.groups(columns, order)
    )
    foot = '<td class="text">all</td>' + "<td></td>" * (keys - 1)
    foot += "".join(_cell(figures.overall[figure.name], figure) for figure in columns)
    header = [*((name, True) for name in figures.by), *((figure.title, False) for figure in columns)]
    return _section(f"Groups ({figures.group_count:,})", note + _table(header, rows, foot))


def _worst(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return ""
    number, count = Figure("", "", ".8g"), Figure("", "", "d")

    def cell(value: Any) -> str:
        return _cell(value, number if isinstance(value, float) else count if isinstance(value, int) else None)

    names = list(rows[0])
    header = [(name, not isinstance(rows[0][name], int | float)) for name in names]
    body = ("".join(cell(row.get(name)) for name in names) for row in rows[:MOST_WORST])
    return _section("Worst rows", _table(header, body))


def _all_figures(results: Results) -> str:
    figures, score = results.figures, results.score
    rows = []
    for figure in figures.figures:
        value = figures.overall[figure.name]
        if figure.name in ("minimum_row", "maximum_row") and isinstance(value, int):
            path, row = score.place(value)
            text = f"row {row} of {path_text(path)}"
        else:
            text = "" if value is None else str(value)
        rows.append(
            f'<tr><th scope="row" class="text">{_text(figure.title)}</th><td class="text">{_text(text)}</td></tr>'
        )
    return _section("All rows", f'<div class="scroll"><table><tbody>\n{"".join(rows)}\n</tbody></table></div>')


def _calibration(picture: Picture) -> str:
    if picture.calibration is None:
        return ""
    bins = display_bins(picture.calibration)
    if not len(bins.rows):
        return ""
    low, high = bins.intervals()
    share, count = Figure("share", "share", ".4g"), Figure("rows", "rows", "d")
    columns = (bins.lower, bins.upper, bins.rows, bins.predicted, bins.observed, low, high)
    kinds = (share, share, count, share, share, share, share)
    rows = ("".join(map(_cell, row, kinds)) for row in zip(*(column.tolist() for column in columns), strict=True))
    titles = ("from", "to", "rows", "predicted", "observed", "95 % from", "95 % to")
    note = f'<p class="note">Predicted and observed are {percent(bins.error)} apart on average.</p>'
    table = _table([(title, False) for title in titles], rows)
    return _section("Calibration", f"{note}<details><summary>Bins of probability</summary>{table}</details>")


def _request(results: Results) -> str:
    score = results.score
    options = "".join(
        f'<tr><th scope="row" class="text">{_text(name)}</th><td class="text">{_text(_option(value))}</td></tr>'
        for name, value in score.options.items()
    )
    paths = [path_text(path) for path in score.files]
    listed = "".join(f"<li>{_text(path)}</li>" for path in paths[:MOST_FILES])
    more = f'<p class="note">and {len(paths) - MOST_FILES:,} more</p>' if len(paths) > MOST_FILES else ""
    table = f'<div class="scroll"><table><tbody>{options}</tbody></table></div>' if options else ""
    return "\n".join(
        [
            _section("Command", f"<pre>{_text(shlex.join(results.run.command))}</pre>"),
            _section(f"Options of {score.loss}", table) if options else "",
            _section(f"Files ({len(paths):,})", f"<ol>{listed}</ol>{more}"),
        ]
    )


def _option(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return ", ".join(map(str, value.tolist()))
    return "" if value is None else str(value)
