"""Pictures of a score: how losses are distributed, which rows make them up, groups, and calibration.

Each picture is a `Panel`, drawn by itself into a report or beside others into one file. What is drawn comes from sums
and histograms alone, so that pictures cost the same whatever the number of rows.
"""

from __future__ import annotations

import io
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
from lossrs.scoring.calibration import EDGES, Bins, Calibration, is_of_classes
from lossrs.scoring.columns import Array, ScoreError
from lossrs.scoring.figures import Figures, on_one_line, shown
from lossrs.scoring.formats import Results
from lossrs.scoring.outputs import Output

ENDINGS = (".png", ".svg", ".pdf")
# Of the palette of M. Okabe and K. Ito (2008), which the colour-blind can tell apart.
BLUE, ORANGE, GREEN = "#0072b2", "#d55e00", "#009e73"
INK, MUTED, RULE, PAPER = "#1a1c1f", "#5b6067", "#dfe1e5", "#ffffff"
MOST_GROUPS = 30
_LARGE = 1e300  # what is larger would overflow in sums of ends of axes

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
        import matplotlib  # noqa: F401
    except ImportError:
        raise ScoreError(f"{purpose} needs matplotlib: pip install 'lossrs[score]'") from None


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
        found.append(Panel("groups", 1.5 + 0.24 * rows, True, lambda part: _draw_groups(part, picture)))
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

        figure = Figure(figsize=(2 * width if panel.wide else width, panel.height), layout="constrained")
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
    import logging

    import matplotlib
    from matplotlib import font_manager

    known = set(font_manager.get_font_names())
    fonts = {"font.family": ["DejaVu Sans", *(name for name in _FONTS if name in known)]}
    # Groups may be named in letters that no font has: those are drawn as boxes.
    with matplotlib.rc_context(_STYLE | fonts), warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        logger = logging.getLogger("matplotlib")
        level = logger.level
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)


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


class Bars(NamedTuple):
    """A histogram as it is drawn.

    Attributes
    ----------
    edges, shares : ndarray
        The edges of bars, and the shares of all losses in them.
    is_log : bool
        Whether the axis is logarithmic.
    zero, below, above, infinite : float
        The shares that are not drawn: exactly 0 where there is no place for that, beyond the axis, and infinite.
    """

    edges: Array
    shares: Array
    is_log: bool
    zero: float
    below: float
    above: float
    infinite: float


def bars(histogram: Histogram) -> Bars | None:
    """Choose an axis for a histogram; None if no loss can be drawn."""
    total = float(histogram.counts.sum())
    can = (histogram.upper > -_LARGE) & (histogram.lower < _LARGE)
    lower, upper, counts = histogram.lower[can], histogram.upper[can], histogram.counts[can].astype(np.float64)
    if not counts.size:
        return None
    upper = np.where(lower == 0, 0.0, upper)  # what is in that bucket is 0
    edges, is_log = _axis(lower, upper, counts)
    if edges[-1] - edges[0] < abs(edges[0]) / 8:
        lower = upper = lower / 2 + upper / 2  # bars may be narrower than buckets
    cumulative = np.concatenate([[0.0], np.cumsum(counts)])
    points = np.stack([lower, upper], axis=1).ravel()
    at_edges = np.interp(edges, points, np.stack([cumulative[:-1], cumulative[1:]], axis=1).ravel())
    if not is_log:
        at_edges[0] = counts[upper < edges[0]].sum()  # what is all at the first edge is in the first bar
    zero = counts[lower == 0].sum() if is_log else 0.0
    infinite = np.isinf(histogram.upper)
    beyond = [histogram.counts[of & ~infinite & ~can].sum() for of in (histogram.upper < 0, histogram.lower > 0)]
    return Bars(
        edges,
        np.diff(at_edges) / total,
        is_log,
        zero / total,
        max(at_edges[0] - zero + beyond[0], 0.0) / total,
        max(cumulative[-1] - at_edges[-1] + beyond[1], 0.0) / total,
        float(histogram.counts[infinite].sum()) / total,
    )


def _axis(lower: Array, upper: Array, counts: Array) -> tuple[Array, bool]:
    """Return the edges of bars for buckets, and whether they are those of a logarithmic axis."""
    positive = lower > 0
    low, high = float(lower[0]), float(upper[-1])
    if low >= 0 and counts[positive].sum() > counts.sum() / 2:
        first, last = _quantiles(lower[positive], counts[positive], [0.01, 0.99])
        if last >= 150 * first:
            low, far = _quantiles(lower[positive], counts[positive], [0.001, 0.9999])
            ends = math.log10(low), math.log10(min(high, far * 1e3))
            return np.logspace(*ends, int(np.clip(round(10 * (ends[1] - ends[0])), 30, 90)) + 1), True
    if 0 <= low < 0.3 * high:
        low = 0.0
    near, middle, far = _quantiles(lower, counts, [0.001, 0.5, 0.999])
    high = far + 0.02 * (far - low) if high - middle > 3 * (far - middle) > 0 else high
    low = near if middle - low > 3 * (middle - near) > 0 else low
    if high - low <= abs(high) / 32:  # a bucket or little more: room around it
        low, high = (0.0, 1.0) if high == 0 else (low - 0.05 * abs(low), high + 0.05 * abs(high))
    return np.linspace(low, high, 61), False


def _quantiles(lower: Array, counts: Array, shares: list[float]) -> list[float]:
    below = np.cumsum(counts)
    return [float(lower[np.searchsorted(below, share * below[-1])]) for share in shares]


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


def worst_shares(histogram: Histogram) -> tuple[Array, Array] | None:
    """Return shares of the rows, the worst first, and what share of the total loss they make up.

    Infinite losses are left out; None where that says nothing: of losses below 0, or none above.
    """
    finite = np.isfinite(histogram.upper)
    middle = (histogram.lower / 2 + histogram.upper / 2)[finite][::-1]
    middle = np.where(middle < 1e-300, np.minimum(middle, 0), middle)  # zeros lie in the smallest bucket
    counts = histogram.counts[finite][::-1].astype(np.float64)
    if not len(counts) or middle[-1] < 0 or middle[0] <= 0:
        return None
    # Relative to the largest, lest the total overflow.
    losses = counts * (middle / middle[0])
    rows = np.concatenate([[0.0], np.cumsum(counts) / counts.sum()])
    return rows, np.concatenate([[0.0], np.cumsum(losses) / losses.sum()])


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
        if share > 0.97 and labelled > 0.9:  # they would lie on each other
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
    axes.legend(loc="lower left" if is_log else "lower right")
    assert picture.histogram is not None
    worst = 0.01 if is_log else 0.1
    share = float(np.interp(worst, rows, losses))
    _title(axes, f"The worst {percent(worst)} of the rows make up {percent(share)} of the loss")
    infinite = int(picture.histogram.counts[np.isinf(picture.histogram.upper)].sum())
    if infinite:
        _note(axes, f"Without {infinite:,} infinite losses")


def display_bins(calibration: Calibration) -> Bins:
    """Return bins to draw: twentieths, or where nearly all predictions are small ones, halves of what is left."""
    fine = calibration.bins()
    if is_rare(fine):
        small = EDGES[EDGES < 0.025]
        return calibration.bins(np.concatenate([small[:1], small[1::2], EDGES[EDGES >= 0.025]]))
    return calibration.bins(np.arange(21) / 20)


def is_rare(fine: Bins) -> bool:
    """Tell whether nearly all predictions are of probabilities below a twentieth."""
    return bool(len(fine.rows) and fine.rows[fine.upper <= 0.05].sum() > 0.9 * fine.rows.sum())


def _draw_calibration(part: Any, picture: Picture, bins: Bins) -> None:
    from matplotlib.ticker import FuncFormatter, PercentFormatter

    assert picture.calibration is not None
    axes, below = part.subplots(2, 1, sharex=True, height_ratios=[3.4, 1])
    rare = is_rare(picture.calibration.bins())
    of_classes = is_of_classes(picture.loss)
    ends = bins.intervals()
    if rare:
        kept = (bins.predicted > 0) & (bins.observed > 0)
        low = float(min(bins.predicted[kept].min(initial=1e-3), bins.observed[kept].min(initial=1e-3)) / 2)
        axes.set_xscale("log")
        axes.set_yscale("log", nonpositive="clip")
        axes.set_xlim(low, 1)
        axes.set_ylim(low, 1)
    else:
        low = 0.0
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
    axes.plot([low, 1], [low, 1], color=MUTED, linestyle="--", linewidth=1.2, label="calibrated")
    axes.errorbar(
        bins.predicted,
        bins.observed,
        yerr=np.maximum([bins.observed - ends[0], ends[1] - bins.observed], 0),
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
    predicted = float((bins.weight * bins.predicted).sum() / weight)
    observed = float((bins.weight * bins.observed).sum() / weight)
    error = f"calibration error {bins.error:.2g}"
    if of_classes:
        _title(axes, f"Sure of {percent(predicted)} on average, right in {percent(observed)}: {error}")
    else:
        _title(axes, f"Predicted {percent(predicted)} on average, observed {percent(observed)}: {error}")


class GroupLine(NamedTuple):
    """A line of the picture of groups: a group, or where `groups` exceeds 1 all those between."""

    label: str
    groups: int
    rows: int
    mean: float
    low: float
    high: float


def group_lines(figures: Figures, most: int = MOST_GROUPS) -> list[GroupLine]:
    """Return the groups by mean, the worst first, with intervals; of very many the worst and the best.

    What cannot be compared, NaN, is worst.
    """
    mean, rows = figures.column("mean"), figures.column("rows")
    order = np.argsort(np.where(np.isnan(mean), np.inf, mean), kind="stable")[::-1]
    middle = order[:0]
    if len(order) > most:
        top, bottom = (most + 1) // 2, most // 2 - 1
        middle, order = order[top : len(order) - bottom], np.concatenate([order[:top], order[len(order) - bottom :]])
    low, high = interval(figures)
    lines = []
    for index in order.tolist():
        lines.append(
            GroupLine(
                _key(figures.key(index)), 1, int(rows[index]), float(mean[index]), float(low[index]), float(high[index])
            )
        )
    if len(middle):
        total, means = int(rows[middle].sum()), mean[middle][np.abs(mean[middle]) < _LARGE]
        rest = GroupLine(
            f"{len(middle):,} groups between",
            len(middle),
            total,
            math.nan,
            float(means.min(initial=math.inf)),
            float(means.max(initial=-math.inf)),
        )
        lines.insert((most + 1) // 2, rest)
    return lines


def interval(figures: Figures) -> tuple[Array, Array]:
    """Return the ends of the 95 % intervals of the groups' means; NaN where a mean's error is not known."""
    mean = figures.column("mean")
    margin = 1.959964 * figures.column("standard_error")
    return mean - margin, mean + margin


def _draw_groups(part: Any, picture: Picture) -> None:
    figures = picture.figures
    axes = part.subplots()
    lines = group_lines(figures)
    overall = figures.overall["mean"]
    means = [value for line in lines for value in ((line.mean,) if line.groups == 1 else (line.low, line.high))]
    means = [value for value in [*means, overall] if abs(value) < _LARGE]
    is_log = bool(means) and min(means) > 0 and max(means) > 50 * min(means)
    low, high = _range(lines, means, is_log)
    if is_log:
        axes.set_xscale("log")
        _log_axis(axes.xaxis)
    axes.set_xlim(low, high)
    for place, line in enumerate(lines):
        if line.groups > 1:
            axes.plot(
                [line.low, line.high], [place, place], color=MUTED, alpha=0.35, linewidth=7, solid_capstyle="butt"
            )
        elif abs(line.mean) < _LARGE:
            if math.isfinite(line.high - line.low):
                axes.plot([max(line.low, low), min(line.high, high)], [place, place], color=BLUE, linewidth=1.6)
            axes.plot([line.mean], [place], "o", color=BLUE, markersize=5)
        else:
            axes.annotate(
                f"{line.mean:.3g}", (0.985, place), xycoords=axes.get_yaxis_transform(), ha="right", va="center"
            )
        count = f"{line.rows:,}"
        axes.annotate(
            count, (1.01, place), xycoords=axes.get_yaxis_transform(), va="center", color=MUTED, annotation_clip=False
        )
    axes.annotate(
        "rows", (1.01, -0.9), xycoords=axes.get_yaxis_transform(), va="center", color=MUTED, annotation_clip=False
    )
    if abs(overall) < _LARGE:
        axes.axvline(overall, color=ORANGE, linewidth=1.4, zorder=1, label=f"all rows: {overall:.4g}")
        axes.legend(loc="best")
    axes.set_yticks(range(len(lines)), [line.label for line in lines])
    axes.set_ylim(len(lines) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(f"mean {picture.axis}, with 95 % intervals (1.96 standard errors)")
    axes.set_ylabel(_short(", ".join(figures.by)))
    low_ends, high_ends = interval(figures)
    above, under = int((low_ends > overall).sum()), int((high_ends < overall).sum())
    if math.isfinite(overall):
        found = f"{above:,} of {figures.group_count:,} groups worse than all rows, {under:,} better"
        _title(axes, f"{found}, by their 95\N{NO-BREAK SPACE}% intervals")
    else:
        infinite = int((~np.isfinite(figures.column("mean"))).sum())
        _title(axes, f"{infinite:,} of {figures.group_count:,} groups have no finite mean")


def _range(lines: list[GroupLine], means: list[float], is_log: bool) -> tuple[float, float]:
    """Return the ends of an axis: all means are on it, and intervals as far as they are no longer than it."""
    if not means:
        return 0.0, 1.0
    to, back = (math.log10, lambda value: 10.0**value) if is_log else (float, float)
    low, high = to(min(means)), to(max(means))
    lengths = [line.high - line.low for line in lines if line.groups == 1 and math.isfinite(line.high - line.low)]
    # The interval of a few rows may be much longer than that of the others.
    span = max(high - low, 2 * float(np.median(lengths)) if lengths and not is_log else 0.0) or abs(high) or 1.0
    for line in lines:
        if math.isfinite(line.low) and math.isfinite(line.high):
            ends = [to(end) if not is_log or end > 0 else -math.inf for end in (line.low, line.high)]
            low, high = min(low, max(ends[0], to(min(means)) - span)), max(high, min(ends[1], to(max(means)) + span))
    margin = 0.04 * ((high - low) or abs(high) or 1.0)
    return back(low - margin), back(high + margin)


def _short(text: str, most: int = 36) -> str:
    text = on_one_line(text)
    head, tail = 2 * most // 5, most - 2 * most // 5 - 1
    return text if len(text) <= most else f"{text[:head]}…{text[-tail:]}"


def _key(parts: tuple[Any, ...]) -> str:
    return ", ".join(_short(shown(part), max(12, 40 // len(parts))) or '""' for part in parts)
