"""Results as tables and plots, on the terminal and in a page of the documentation."""

import importlib
import os
import platform
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import lossrs
from peers import PEERS
from subjects import THREADS, optional


@dataclass(frozen=True)
class Result:
    """What was measured: the seconds that each contender took in each round."""

    name: str
    loss: str
    gradient: bool
    fresh: bool
    elements: int
    #: The bytes that the call must move.
    traffic: int
    seconds: dict[str, list[float]]

    def median(self, contender: str) -> float:
        """Return the seconds that a contender took."""
        return statistics.median(self.seconds[contender])

    def ratios(self, slower: str, faster: str) -> list[float]:
        """Return how many times as long as another a contender took: the quartiles of the rounds."""
        if not {slower, faster} <= self.seconds.keys():
            return []
        ratios = [a / b for a, b in zip(self.seconds[slower], self.seconds[faster], strict=True)]
        return statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3

    def ratio(self, slower: str, faster: str) -> str:
        """Return the same in words."""
        quartiles = self.ratios(slower, faster)
        return f"{quartiles[1]:,.2f} ± {(quartiles[2] - quartiles[0]) / 2:,.2f}" if quartiles else ""

    def best_peer(self) -> str | None:
        """Return the quickest of the peers."""
        return min((peer for peer in PEERS if peer in self.seconds), key=self.median, default=None)


@dataclass(frozen=True)
class Measured:
    """All that was measured."""

    machine: dict[str, str]
    calls: list[Result]
    #: Calls of growing length.
    growth: list[Result]
    facts: dict[str, float | None]

    @classmethod
    def of(cls, contents: dict[str, Any]) -> Self:
        """Return what was written as JSON."""
        calls, growth = ([Result(**result) for result in contents[part]] for part in ("calls", "growth"))
        return cls(contents["machine"], calls, growth, contents["facts"])


HEADER = ("call", "lossrs", "lossrs / copy", *(f"{peer} / lossrs" for peer in PEERS))


def line(result: Result) -> list[str]:
    """Return a result as a line of a table."""
    microseconds = f"{result.median('lossrs') * 1e6:,.2f} µs"
    return [
        result.name,
        microseconds,
        result.ratio("lossrs", "copy"),
        *(result.ratio(peer, "lossrs") for peer in PEERS),
    ]


def lines_of_growth(growth: Iterable[Result]) -> list[list[str]]:
    """Return the time for each element, by length."""
    return [
        [result.name, f"{result.median('lossrs') / result.elements * 1e9:.3f} ns", result.ratio("lossrs", "copy")]
        for result in growth
    ]


def lines_of_facts(facts: Mapping[str, float | None]) -> list[str]:
    """Return what does not depend on arrays."""
    return [
        f"{name}: {'unknown' if value is None else f'{value:,.4g}' if isinstance(value, float) else f'{value:,}'}"
        for name, value in facts.items()
    ]


def show(measured: Measured) -> None:
    """Print tables, with rich if it is there."""
    tables = [(list(HEADER), [line(result) for result in measured.calls])]
    if measured.growth:
        tables.append((["call", "an element", "lossrs / copy"], lines_of_growth(measured.growth)))
    console = optional("rich.console") and importlib.import_module("rich.console").Console()
    for header, lines in tables:
        if console and console.is_terminal:
            table = importlib.import_module("rich.table").Table(*header)
            for cells in lines:
                table.add_row(*cells)
            console.print(table)
            continue
        widths = [max(map(len, column)) for column in zip(header, *lines, strict=True)]
        for cells in [header, *lines]:
            print("  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip())
    print(*lines_of_facts(measured.facts), sep="\n")


def machine() -> dict[str, str]:
    """Return what the program ran on."""
    info = Path("/proc/cpuinfo")
    models = (
        [row.split(":")[1].strip() for row in info.read_text().splitlines() if row.startswith("model name")]
        if (info.exists())
        else []
    )
    return {
        "processor": models[0] if models else platform.processor(),
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "threads": str(THREADS),
        "instruction set": lossrs.instruction_set(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "lossrs": lossrs.__version__,
    }


BEGIN, END = "<!-- results: written by benches/compare.py -->", "<!-- end of results -->"


def write(page: Path, measured: Measured) -> None:
    """Write the results into a page, between its two marks, and the plots beside it."""
    text = page.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"{page}: the marks {BEGIN} and {END} are missing")
    folder = page.with_suffix("")
    folder.mkdir(exist_ok=True)
    plots = {"speed-up.svg": plot_of_peers, "memory.svg": plot_of_limits}
    for name, plot in plots.items():
        plot(measured.calls).savefig(folder / name, metadata={"Date": None})
    parts = [
        ", ".join(f"{name} {value}" for name, value in measured.machine.items()) + ".",
        f"![How many times as long the best peer takes]({folder.name}/speed-up.svg)",
        f"![The share of the memory's speed that is reached]({folder.name}/memory.svg)",
        markdown(HEADER, [line(result) for result in measured.calls]),
        "By length, into `out`:",
        markdown(("call", "an element", "lossrs / copy"), lines_of_growth(measured.growth)),
        "\n".join(f"- {fact}" for fact in lines_of_facts(measured.facts)),
    ]
    body = "\n\n".join(part for part in parts if part)
    page.write_text(f"{before}{BEGIN}\n\n{body}\n\n{END}{after}", encoding="utf-8")


def markdown(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a table."""
    rows = [header, ["---", *["--:"] * (len(header) - 1)], *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


#: Calls alone, with gradients into `out`, and with fresh ones; and colours that are told apart by all.
KINDS = {
    "forward": (False, False, "#0072b2"),
    "with gradient, into out": (True, False, "#009e73"),
    "with gradient, fresh": (True, True, "#e69f00"),
}


def chart(results: Sequence[Result], values: Mapping[str, dict[str, float]], title: str, label: str) -> Any:
    """Return a chart of dots: a row for each work, a colour for each kind of call."""
    figure_module = importlib.import_module("matplotlib.figure")
    names = [
        result.name for result in results if not result.gradient and any(result.name in of for of in values.values())
    ]
    figure = figure_module.Figure(figsize=(9, 1.5 + 0.24 * len(names)), layout="constrained")
    axes = figure.add_subplot()
    for kind, (_, _, colour) in KINDS.items():
        of = values[kind]
        rows = [row for row, name in enumerate(names) if name in of]
        axes.plot([of[names[row]] for row in rows], rows, "o", color=colour, label=kind, markersize=5)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xscale("log")
    axes.grid(axis="x", which="both", color="#dddddd", linewidth=0.6)
    axes.grid(axis="y", color="#eeeeee", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_formatter(importlib.import_module("matplotlib.ticker").FuncFormatter(lambda x, _: f"{x:g}"))
    axes.set_title(title, loc="left", fontsize=11)
    axes.set_xlabel(label)
    axes.axvline(1, color="#555555", linewidth=1)
    axes.legend(loc="upper center", bbox_to_anchor=(0.4, -0.05), ncols=3, frameon=False, fontsize=9)
    return figure


def by_kind(results: Sequence[Result], value: Any) -> dict[str, dict[str, float]]:
    """Return a number of each work by the kind of call, under the name that the work has alone."""
    values: dict[str, dict[str, float]] = {kind: {} for kind in KINDS}
    for result in results:
        name = result.name.removesuffix(" + fresh gradient").removesuffix(" + gradient")
        number = value(result)
        for kind, (gradient, fresh, _) in KINDS.items():
            if number is not None and (gradient, fresh) == (result.gradient, result.fresh):
                values[kind][name] = number
    return values


def plot_of_peers(results: Sequence[Result]) -> Any:
    """Draw how many times as long as lossrs the best peer takes."""

    def speed_up(result: Result) -> float | None:
        peer = result.best_peer()
        return result.ratios(peer, "lossrs")[1] if peer else None

    peers = [peer for peer in PEERS if any(peer in result.seconds for result in results)]
    label = f"time of the quickest peer / time of lossrs\n({', '.join(peers)})"
    return chart(results, by_kind(results, speed_up), "How many times as long as lossrs the best peer takes", label)


def plot_of_limits(results: Sequence[Result]) -> Any:
    """Draw the share of a copy's speed that is reached."""

    def share(result: Result) -> float | None:
        ratios = result.ratios("copy", "lossrs")
        return ratios[1] if ratios else None

    title = "The share of the memory's speed that lossrs reaches"
    label = "time of a copy of as many bytes as the call reads and writes / time of lossrs"
    return chart(results, by_kind(results, share), title, label)
