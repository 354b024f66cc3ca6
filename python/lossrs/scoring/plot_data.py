"""What pictures are made from: bars, shares, bins and lines, of histograms, sums and figures."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from lossrs.accumulator import Histogram
from lossrs.scoring.calibration import EDGES, Bins, Calibration
from lossrs.scoring.columns import Array
from lossrs.scoring.figures import Figures, on_one_line, shown

MOST_GROUPS = 30
LARGE = 1e300  # what is larger would overflow in sums of ends of axes


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
    can = (histogram.upper > -LARGE) & (histogram.lower < LARGE)
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


def display_bins(calibration: Calibration) -> Bins:
    """Return bins to draw: twentieths, or where nearly all predictions are small ones, halves of what is left."""
    fine = calibration.bins()
    if is_rare(fine):
        small = EDGES[EDGES < 0.025]
        return calibration.bins(np.concatenate([small[:1], small[1::2], np.array([1, 2, 4, 8, 16, 40]) / 40]))
    return calibration.bins(np.arange(21) / 20)


def is_rare(fine: Bins) -> bool:
    """Tell whether nearly all predictions are of probabilities below a twentieth."""
    return bool(len(fine.rows) and fine.rows[fine.upper <= 0.05].sum() > 0.9 * fine.rows.sum())


class GroupLine(NamedTuple):
    """A line of the picture of groups: a group, or where `groups` exceeds 1 all those between."""

    label: str
    groups: int
    rows: int
    value: float
    low: float
    high: float


def group_lines(figures: Figures, name: str = "mean", most: int = MOST_GROUPS) -> list[GroupLine]:
    """Return the groups by a figure, the largest first, with intervals; of very many the largest and the smallest.

    What cannot be compared, NaN, comes first.
    """
    values, rows = figures.column(name), figures.column("rows")
    order = np.argsort(np.where(np.isnan(values), np.inf, values), kind="stable")[::-1]
    middle = order[:0]
    if len(order) > most:
        top, bottom = (most + 1) // 2, most // 2 - 1
        middle, order = order[top : len(order) - bottom], np.concatenate([order[:top], order[len(order) - bottom :]])
    low, high = interval(figures, name)
    lines = [
        GroupLine(_key(figures.key(index)), 1, int(rows[index]), *map(float, (values[index], low[index], high[index])))
        for index in order.tolist()
    ]
    if len(middle):
        between = values[middle][np.abs(values[middle]) < LARGE]
        ends = float(between.min(initial=math.inf)), float(between.max(initial=-math.inf))
        label, total = f"{len(middle):,} groups between", int(rows[middle].sum())
        lines.insert((most + 1) // 2, GroupLine(label, len(middle), total, math.nan, *ends))
    return lines


def interval(figures: Figures, name: str = "mean") -> tuple[Array, Array]:
    """Return the ends of the 95 % intervals of a figure of the groups; NaN where its error is not known."""
    if is_bootstrapped(figures, name):
        return figures.column(f"{name}_lower"), figures.column(f"{name}_upper")
    error = "standard_error" if name == "mean" else f"{name}_standard_error"
    margin = 1.959964 * figures.column(error)
    return figures.column(name) - margin, figures.column(name) + margin


def is_bootstrapped(figures: Figures, name: str) -> bool:
    """Tell whether the intervals of a figure are those of the bootstrap."""
    return f"{name}_lower" in figures.overall


def short(text: str, most: int = 36) -> str:
    """Return a name that fits beside an axis: of a long one the beginning and more of the end, where names differ."""
    text = on_one_line(text)
    head, tail = 2 * most // 5, most - 2 * most // 5 - 1
    return text if len(text) <= most else f"{text[:head]}…{text[-tail:]}"


def _key(parts: tuple[Any, ...]) -> str:
    return ", ".join(short(shown(part), max(12, 40 // len(parts))) or '""' for part in parts)
