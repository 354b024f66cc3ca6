"""Pictures of a score: how losses are distributed, which rows make them up, groups, and calibration.

Each picture is a `Panel`, drawn by itself into a report or beside others into one file. What is drawn comes from sums
and histograms alone, so that pictures cost the same whatever the number of rows.
"""

from __future__ import annotations

import io
import logging
import math
import re
import textwrap
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np

from lossrs.accumulator import Histogram
from lossrs.scoring.calibration import Bins, Calibration, is_of_classes
from lossrs.scoring.columns import Array, ScoreError
from lossrs.scoring.figures import Figures
from lossrs.scoring.formats import Results
from lossrs.scoring.outputs import Output
from lossrs.scoring.plot_data import (
    LARGE,
    MOST_GROUPS,
    GroupLine,
    bars,
    display_bins,
    group_lines,
    interval,
    is_bootstrapped,
    is_rare,
    short,
    worst_shares,
)

ENDINGS = (".png", ".svg", ".pdf")
# Of the palette of M. Okabe and K. Ito (2008), which the colour-blind can tell apart.
BLUE, ORANGE, GREEN = "#0072b2", "#d55e00", "#009e73"
INK, MUTED, RULE, PAPER = "#1a1c1f", "#5b6067", "#dfe1e5", "#ffffff"

_STYLE: dict[str, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": MUTED,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 9.5,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "axes.titlepad": 10,
    "axes.formatter.useoffset": False,
    "figure.facecolor": PAPER,
    "font.size": 9,
    "grid.color": RULE,
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "legend.labelcolor": INK,
    "lines.linewidth": 1.8,
    "savefig.facecolor": PAPER,
    "svg.fonttype": "none",
    "svg.hashsalt": "lossrs",
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
}

_SUPERSCRIPTS = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
#: For letters that matplotlib's own font lacks.
_FONTS = (
    "Noto Sans CJK JP",
    "Hiragino Sans",
    "PingFang SC",
    "Microsoft YaHei",
    "WenQuanYi Micro Hei",
    "Noto Sans Arabic",
)
#: In what a loss is measured, where it has a unit.
_UNITS = {
    "mse_loss": "squared unit of the target",
    "l1_loss": "unit of the target",
} | dict.fromkeys(
    (
        "binary_cross_entropy",
        "binary_cross_entropy_with_logits",
        "cross_entropy",
        "nll_loss",
        "linear_cross_entropy",
        "kl_div",
        "poisson_nll_loss",
        "gaussian_nll_loss",
    ),
    "nats",
)


def require_matplotlib(purpose: str) -> None:
    """Say what to install, if matplotlib is missing."""
    try:
        with _quiet():
            import matplotlib  # noqa: F401
    except ImportError:
        raise ScoreError(f"{purpose} needs matplotlib: pip install 'lossrs[score]'") from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep matplotlib from telling people what it does with fonts and caches."""
    logger = logging.getLogger("matplotlib")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


@dataclass(frozen=True)
class Picture:
    """What pictures are of."""

    title: str
    loss: str
    figures: Figures
    histogram: Histogram | None
    calibration: Calibration | None

    @classmethod
    def of(cls, results: Results) -> Self:
        """Return what a result's pictures are of."""
        score = results.score
        mean, error = score.overall.mean, score.overall.standard_error
        margin = f" ± {error:.2g} (standard error)" if math.isfinite(error) else ""
        title = f"{results.title}: mean {mean:.4g}{margin}, rows: {score.overall.rows:,}"
        return cls(title, score.loss, results.figures, score.overall.histogram, score.calibration)

    @property
    def axis(self) -> str:
        """What an axis of losses is called."""
        unit = _UNITS.get(self.loss)
        return f"loss ({unit})" if unit else "loss"

    @property
    def is_weighted(self) -> bool:
        """Whether rows have weights other than 1."""
        overall = self.figures.overall
        return bool(overall["weight"] != overall["rows"] - overall["ignored"])


class Panel(NamedTuple):
    """A picture: its name, the inches it is high, whether it wants the whole width, and what draws it."""

    name: str
    height: float
    wide: bool
    draw: Callable[[Any], None]


def panels(picture: Picture) -> list[Panel]:
    """Return the pictures that can be drawn of a score."""
    found = []
    if picture.histogram is not None and len(picture.histogram.counts):
        found.append(Panel("histogram", 4.2, False, lambda part: _draw_histogram(part, picture)))
        shares = worst_shares(picture.histogram)
        if shares is not None:
            found.append(Panel("worst rows", 4.2, False, lambda part: _draw_shares(part, picture, *shares)))
    if picture.calibration is not None:
        bins = display_bins(picture.calibration)
        if len(bins.rows):
            found.append(Panel("calibration", 4.2, False, lambda part: _draw_calibration(part, picture, bins)))
    if picture.figures.group_count:
        rows = min(picture.figures.group_count, MOST_GROUPS)
        height = 1.5 + 0.24 * rows
        found.append(Panel("groups", height, True, lambda part: _draw_groups(part, picture, "mean")))
        if "difference" in picture.figures.overall:
            found.append(Panel("differences", height, True, lambda part: _draw_groups(part, picture, "difference")))
    return found


def write_picture(output: Output, picture: Picture) -> None:
    """Draw all pictures into a file."""
    with _style():
        from matplotlib.figure import Figure

        drawn = panels(picture)
        beside, below = [panel for panel in drawn if not panel.wide], [panel for panel in drawn if panel.wide]
        rows = [beside] * bool(beside) + [[panel] for panel in below]
        heights = [max(panel.height for panel in row) for row in rows]
        width = max(9.6, 5.0 * len(beside))
        figure = Figure(figsize=(width, sum(heights) + 0.8), layout="constrained")
        figure.suptitle("\n".join(_wrapped(picture.title, width * 8)), x=0.012, ha="left", fontsize=13, color=INK)
        if rows:
            parts = figure.subfigures(len(rows), 1, squeeze=False, height_ratios=heights)[:, 0]
            for part, row in zip(parts, rows, strict=True):
                columns = part.subfigures(1, len(row), squeeze=False, wspace=0.04)[0]
                for column, panel in zip(columns, row, strict=True):
                    panel.draw(column)
        else:
            figure.text(0.5, 0.4, "no rows to draw", ha="center", color=MUTED)
        output.write(_saved(figure, output.ending[1:]))


def svg(panel: Panel, width: float = 5.6) -> bytes:
    """Return a picture as SVG, for a page."""
    with _style():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(2.6 * width if panel.wide else width, panel.height), layout="constrained")
        figure.set_facecolor("none")
        panel.draw(figure)
        return _saved(figure, "svg")


def _saved(figure: Any, kind: str) -> bytes:
    # Without dates, the same score gives the same bytes.
    metadata = {"png": {}, "svg": {"Date": None, "Creator": None}, "pdf": {"CreationDate": None}}[kind]
    drawn = io.BytesIO()
    figure.savefig(drawn, format=kind, dpi=150, metadata=metadata)
    return _numbered(drawn.getvalue()) if kind == "svg" else drawn.getvalue()


def _numbered(drawn: bytes) -> bytes:
    """Give the parts of an SVG file that are used again numbers: their names are hashes of the last bits of places."""
    names: dict[bytes, bytes] = {}
    for name in re.findall(rb'\bid="([A-Za-z][0-9a-f]{10})"', drawn):
        names.setdefault(name, b"%s%d" % (name[:1], len(names)))
    return re.sub(rb"\b[A-Za-z][0-9a-f]{10}\b", lambda found: names.get(found[0], found[0]), drawn)


@contextmanager
def _style() -> Iterator[None]:
    with _quiet(), warnings.catch_warnings(), np.errstate(all="ignore"):
        import matplotlib
        from matplotlib import font_manager

        known = set(font_manager.get_font_names())
        fonts = {"font.family": ["DejaVu Sans", *(name for name in _FONTS if name in known)]}
        # Groups may be named in letters that no font has: those are drawn as boxes.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        with matplotlib.rc_context(_STYLE | fonts):
            yield


def _wrapped(text: str, width: float) -> list[str]:
    return textwrap.wrap(text, max(int(width), 20)) or [""]


def _legend_above(axes: Any) -> None:
    legend = axes.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=3,
        columnspacing=1.1,
        handlelength=1.5,
        borderaxespad=0,
        borderpad=0.2,
    )
    legend.set_in_layout(False)  # else a long one would make the picture narrow


def _title(axes: Any, text: str, above: float = 0) -> None:
    inches = axes.get_figure(root=False).bbox.width / axes.get_figure(root=True).dpi
    axes.set_title("\n".join(_wrapped(text, inches * 9)), pad=_STYLE["axes.titlepad"] + above)


def _note(axes: Any, text: str) -> None:
    """Write what a picture leaves out below it."""
    axes.annotate(
        text,
        (0, 0),
        (0, -34),
        xycoords="axes fraction",
        textcoords="offset points",
        va="top",
        fontsize=8,
        color=MUTED,
        annotation_clip=False,
    )


def percent(share: float) -> str:
    """Return a share in percent, with two or three digits."""
    if 0.9995 <= share < 1:
        text = "nearly 100"
    elif share >= 0.1:
        text = f"{100 * share:.3g}"
    else:
        text = f"{100 * share:.2g}"
    return f"{text}\N{NO-BREAK SPACE}%"


def _log_axis(axis: Any) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    def shown(value: float, _: Any) -> str:
        power = round(math.log10(value)) if 0 < value < math.inf else 0
        return f"{value:g}" if abs(power) < 5 else "10" + str(power).translate(_SUPERSCRIPTS)

    axis.set_major_locator(LogLocator(10, numticks=6))
    axis.set_major_formatter(FuncFormatter(shown))
    axis.set_minor_formatter(NullFormatter())


def _draw_histogram(part: Any, picture: Picture) -> None:
    from matplotlib.ticker import PercentFormatter

    assert picture.histogram is not None
    axes = part.subplots()
    drawn = bars(picture.histogram)
    overall = picture.figures.overall
    axes.set_xlabel(picture.axis)
    if drawn is None:
        _title(axes, "No loss can be drawn")
        return
    if drawn.is_log:
        axes.set_xscale("log")
        _log_axis(axes.xaxis)
    axes.stairs(drawn.shares, drawn.edges, fill=True, color=BLUE, alpha=0.75)
    axes.set_xlim(drawn.edges[0], drawn.edges[-1])
    axes.set_ylim(0, 1.04 * float(drawn.shares.max()))
    axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    axes.grid(axis="x", visible=False)
    axes.set_ylabel("share of the rows")
    half, most = np.clip(picture.histogram.quantile([0.5, 0.99]), overall["minimum"], overall["maximum"]).tolist()
    few = picture.histogram.counts.sum() < 100
    last = ("largest", overall["maximum"]) if few else ("99\N{NO-BREAK SPACE}%", most)
    marks = [("median", half, MUTED, "--"), ("mean", overall["mean"], ORANGE, "-"), (*last, MUTED, ":")]
    for name, value, color, style in marks:
        label = f"{name} {value:.4g}" if name == "mean" else f"{name} {value:.3g}"
        if drawn.edges[0] <= value <= drawn.edges[-1]:
            axes.axvline(value, color=color, linestyle=style, label=label)
        elif math.isfinite(value):  # an arrow says where it would be
            axes.plot([], [], color=color, linestyle=style, label=label + (" →" if value > half else " ←"))
    _legend_above(axes)
    end = f"the largest is {overall['maximum']:.3g}" if few else f"1\N{NO-BREAK SPACE}% exceed {most:.3g}"
    if overall["minimum"] == overall["maximum"]:
        _title(axes, f"All losses are {half:.4g}", above=13)
    else:
        _title(axes, f"Half of the losses are up to {half:.3g}, {end}", above=13)
    missing = [
        (drawn.zero, "are 0"),
        (drawn.below, "are below the axis"),
        (drawn.above, "are above the axis"),
        (drawn.infinite, "are infinite"),
    ]
    left_out = [f"{percent(share)} {where}" for share, where in missing if share > 1e-12]
    unknown = overall["rows"] - overall["ignored"] - int(picture.histogram.counts.sum())
    if unknown:
        left_out.append(f"{unknown:,} are NaN")
    if left_out:
        _note(axes, "Not drawn: " + ", ".join(left_out))


def _draw_shares(part: Any, picture: Picture, rows: Array, losses: Array) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator

    axes = part.subplots()
    marks = [0.001, 0.01, 0.1, 0.5]
    first = float(np.interp(0.01, rows, losses))
    is_log = first > 0.3
    start = 10 ** math.floor(math.log10(max(rows[1], 1e-9))) if is_log else 0.0
    start = min(start, 1e-3) if is_log else start
    # A bucket's rows are worth about the same: on a logarithmic axis its straight line is not straight.
    x = np.unique(np.concatenate([rows, np.logspace(-9, 0, 400), np.linspace(0, 1, 101)]))
    x = x[x >= start]
    axes.plot(x, np.interp(x, rows, losses), color=BLUE)
    axes.fill_between(x, np.interp(x, rows, losses), color=BLUE, alpha=0.12, linewidth=0)
    axes.plot(x, x, color=MUTED, linestyle="--", linewidth=1.2, label="if all rows had the same loss")
    labelled = 0.0
    for mark in marks if is_log else marks[1:]:
        share = float(np.interp(mark, rows, losses))
        axes.plot([mark], [share], "o", color=ORANGE, markersize=5, clip_on=False, zorder=3)
        if labelled > 0.8 and share < labelled + 0.1:  # they would lie on each other
            continue
        labelled = share
        axes.annotate(
            f"{percent(mark)}: {percent(share)}",
            (mark, share),
            (8, -5) if share > 0.12 else (8, 3),
            textcoords="offset points",
            va="top" if share > 0.12 else "bottom",
            bbox={"boxstyle": "square,pad=0.15", "facecolor": PAPER, "edgecolor": "none", "alpha": 0.75},
        )
    if is_log:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(10))
    axes.set_xlim(start, 1)
    axes.set_ylim(0, 1.02)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: percent(value)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: percent(value)))
    axes.set_xlabel("share of the rows, the worst first" + (" (weights left out)" if picture.is_weighted else ""))
    axes.set_ylabel("share of the total loss")
    axes.legend(loc="best")
    assert picture.histogram is not None
    worst = 0.01 if is_log else 0.1
    share = float(np.interp(worst, rows, losses))
    _title(axes, f"The worst {percent(worst)} of the rows make up {percent(share)} of the loss")
    infinite = int(picture.histogram.counts[np.isinf(picture.histogram.upper)].sum())
    if infinite:
        _note(axes, f"Without {infinite:,} infinite losses")


def _draw_calibration(part: Any, picture: Picture, bins: Bins) -> None:
    from matplotlib.ticker import FuncFormatter, PercentFormatter

    assert picture.calibration is not None
    axes, below = part.subplots(2, 1, sharex=True, height_ratios=[3.4, 1])
    rare = is_rare(picture.calibration.bins())
    of_classes = is_of_classes(picture.loss)
    ends = bins.intervals()
    if rare:
        kept = bins.observed > 0  # there is no place for 0
        predicted, observed, ends = bins.predicted[kept], bins.observed[kept], (ends[0][kept], ends[1][kept])
        low = float(min(predicted.min(initial=1e-3), observed.min(initial=1e-3)) / 2)
        axes.set_xscale("log")
        axes.set_yscale("log", nonpositive="clip")
        axes.set_xlim(low, 1)
        axes.set_ylim(low, 1)
    else:
        predicted, observed, low = bins.predicted, bins.observed, 0.0
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
    axes.plot([low, 1], [low, 1], color=MUTED, linestyle="--", linewidth=1.2, label="calibrated")
    axes.errorbar(
        predicted,
        observed,
        yerr=np.maximum([observed - ends[0], ends[1] - observed], 0),
        color=BLUE,
        marker="o",
        markersize=4.5,
        linewidth=1.4,
        elinewidth=1,
        capsize=2,
        label="observed, with 95 % intervals",
    )
    axes.set_ylabel("share that is right" if of_classes else "share that came true")
    axes.legend(loc="best")
    share = bins.rows / bins.rows.sum()
    below.bar(bins.lower, share, bins.upper - bins.lower, align="edge", color=BLUE, alpha=0.75, linewidth=0)
    below.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    below.grid(axis="x", visible=False)
    below.set_ylabel("rows")
    below.set_xlabel("probability of the likeliest class" if of_classes else "predicted probability")
    for axis in (axes.xaxis, axes.yaxis):
        _log_axis(axis) if rare else axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    weight = bins.weight.sum()
    said, found = (percent(float((bins.weight * of).sum() / weight)) for of in (bins.predicted, bins.observed))
    error = f"calibration error {bins.error:.2g}"
    if of_classes:
        _title(axes, f"Sure of {said} on average, right in {found}: {error}")
    else:
        _title(axes, f"Predicted {said} on average, observed {found}: {error}")


def _draw_groups(part: Any, picture: Picture, name: str) -> None:
    """Draw a figure of the groups: their means, or how far those of two models are apart."""
    figures, is_mean = picture.figures, name == "mean"
    axes = part.subplots()
    lines = group_lines(figures, name)
    overall = figures.overall[name]
    values = [value for line in lines for value in ((line.value,) if line.groups == 1 else (line.low, line.high))]
    values = [value for value in [*values, overall] if abs(value) < LARGE]
    is_log = is_mean and bool(values) and min(values) > 0 and max(values) > 50 * min(values)
    low, high = _range(lines, values, is_log)
    if is_log:
        axes.set_xscale("log")
        _log_axis(axes.xaxis)
    axes.set_xlim(low, high)
    beside = {"xycoords": axes.get_yaxis_transform(), "va": "center", "annotation_clip": False}
    for place, line in enumerate(lines):
        if line.groups > 1:
            ends = [line.low, line.high]
            axes.plot(ends, [place, place], color=MUTED, alpha=0.35, linewidth=7, solid_capstyle="butt")
        elif abs(line.value) < LARGE:
            if math.isfinite(line.high - line.low):
                axes.plot([max(line.low, low), min(line.high, high)], [place, place], color=BLUE, linewidth=1.6)
            axes.plot([line.value], [place], "o", color=BLUE, markersize=5)
        else:
            axes.annotate(f"{line.value:.3g}", (0.985, place), ha="right", **beside)
        axes.annotate(f"{line.rows:,}", (1.01, place), color=MUTED, **beside)
    axes.annotate("rows", (1.01, -0.9), color=MUTED, **beside)
    if not is_mean:
        axes.axvline(0, color=MUTED, linestyle="--", linewidth=1.2, zorder=1)
    if abs(overall) < LARGE:
        axes.axvline(overall, color=ORANGE, linewidth=1.4, zorder=1, label=f"all rows: {overall:.4g}")
        axes.legend(loc="best")
    axes.set_yticks(range(len(lines)), [line.label for line in lines])
    axes.set_ylim(len(lines) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    what = f"mean {picture.axis}" if is_mean else f"mean {picture.axis} of the second model less that of the first"
    how = "bootstrap" if is_bootstrapped(figures, name) else "1.96 standard errors"
    axes.set_xlabel(f"{what}, with 95 % intervals ({how})")
    axes.set_ylabel(short(", ".join(figures.by)))
    _title(axes, _found(figures, name, overall if is_mean else 0.0))


def _found(figures: Figures, name: str, reference: float) -> str:
    """Say of how many groups the intervals are above and below."""
    count = figures.group_count
    if not math.isfinite(figures.overall[name]):
        return f"{int((~np.isfinite(figures.column(name))).sum()):,} of {count:,} groups have no finite {name}"
    low, high = interval(figures, name)
    above, below = int((low > reference).sum()), int((high < reference).sum())
    by = "by their 95\N{NO-BREAK SPACE}% intervals"
    if name == "mean":
        return f"{above:,} of {count:,} groups worse than all rows, {below:,} better, {by}"
    return f"The second model is better in {below:,} of {count:,} groups, worse in {above:,}, {by}"


def _range(lines: list[GroupLine], values: list[float], is_log: bool) -> tuple[float, float]:
    """Return the ends of an axis: all values are on it, and intervals as far as they are no longer than it."""
    if not values:
        return 0.0, 1.0
    to, back = (math.log10, lambda value: 10.0**value) if is_log else (float, float)
    low, high = to(min(values)), to(max(values))
    lengths = [line.high - line.low for line in lines if line.groups == 1 and math.isfinite(line.high - line.low)]
    # The interval of a few rows may be much longer than that of the others.
    span = max(high - low, 2 * float(np.median(lengths)) if lengths and not is_log else 0.0) or abs(high) or 1.0
    for line in lines:
        if math.isfinite(line.low) and math.isfinite(line.high):
            ends = [to(end) if not is_log or end > 0 else -math.inf for end in (line.low, line.high)]
            low, high = min(low, max(ends[0], to(min(values)) - span)), max(high, min(ends[1], to(max(values)) + span))
    margin = 0.04 * ((high - low) or abs(high) or 1.0)
    return back(low - margin), back(high + margin)
