"""What a run costs: how far it has come, on the terminal, and in the end its time and memory."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self


@dataclass(frozen=True)
class Run:
    """A run of the command, and what it cost.

    Attributes
    ----------
    command : tuple of str
        The words of the command.
    rows : int or None
        How many rows were scored, not those that a checkpoint or states knew; None if none were to be.
    seconds : float
        The time from the first look at the files to the last row.
    peak_memory : int or None
        The most memory that the process has held, in bytes, mapped pages of files among it; None where the system
        does not tell.
    """

    command: tuple[str, ...]
    rows: int | None
    seconds: float
    peak_memory: int | None

    @property
    def rows_per_second(self) -> float:
        """How many rows were scored in a second."""
        return self.rows / self.seconds if self.rows is not None and self.seconds > 0 else math.nan

    def to_dict(self) -> dict[str, Any]:
        """Return the cost as JSON has it."""
        rate = self.rows_per_second
        return {
            "seconds": self.seconds,
            "rows_per_second": rate if math.isfinite(rate) else None,
            "peak_memory": self.peak_memory,
        }

    def __str__(self) -> str:
        """Return the cost in a line."""
        parts = [duration(self.seconds) if self.rows is None else f"{self.rows:,} rows in {duration(self.seconds)}"]
        if math.isfinite(self.rows_per_second):
            parts.append(f"{counted(self.rows_per_second)} rows/s")
        if self.peak_memory is not None:
            parts.append(f"peak memory {self.peak_memory / 2**20:,.0f} MiB")
        return ", ".join(parts)


def duration(seconds: float) -> str:
    """Return a time as people read it: 0.25 s, 1:02:03."""
    if seconds < 60:
        return f"{seconds:.3g} s" if seconds < 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02} min"


def counted(number: float) -> str:
    """Return a count with three digits: 12.3 M."""
    for power, prefix in ((9, " G"), (6, " M"), (3, " k")):
        if number >= 0.9995 * 10**power:
            return f"{number / 10**power:.3g}{prefix}"
    return f"{number:.3g}"


def peak_memory() -> int | None:
    """Return the most memory that this process has held, in bytes."""
    try:
        # getrusage counts what the parent held before exec, too.
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        import resource
    except ImportError:
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def color_system() -> Any:
    """Return what rich is to write colours for: with NO_COLOR nothing, not bold and dim either."""
    return None if os.environ.get("NO_COLOR") else "auto"


def print_cost(run: Run) -> None:
    """Tell people what a run took, if they sit at a terminal: what is piped on depends on the rows alone."""
    if not sys.stderr.isatty():
        return
    try:
        from rich.console import Console
        from rich.text import Text
    except ImportError:
        print(run, file=sys.stderr)
    else:
        Console(stderr=True, color_system=color_system()).print(Text(str(run), style="dim"))


class Progress:
    """Rows, rate, time left and the running mean, on the terminal if there is one, of what takes longer than a second.

    Parameters
    ----------
    enabled : bool
        Whether to show anything at all.
    delay : float
        The seconds after which it appears.
    """

    def __init__(self, *, enabled: bool = True, delay: float = 1.0) -> None:
        self._from = time.monotonic() + delay
        self._bar: Any = None
        self._enabled = enabled and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._mean, self._mean_from = "", 0.0
        self._first: tuple[int, float] | None = None

    def __enter__(self) -> Self:
        """Return itself; nothing is shown yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """Remove what is shown."""
        if self._bar:
            self._bar.stop()

    def __call__(self, rows: int, of: int | None, mean: Callable[[], float] | None = None) -> None:
        """Show how many rows are done, of how many if that is known, and their mean so far."""
        now = time.monotonic()
        # A checkpoint may know of rows that took no time: the rate is that since the first batch.
        self._first = self._first or (rows, now)
        if not self._enabled or now < self._from:
            return
        if mean is not None and now >= self._mean_from:
            self._mean = f"mean {mean():.6g}"
            # A mean over very many groups takes time, of which it is to have a fiftieth.
            ended = time.monotonic()
            self._mean_from = ended + max(0.1, 50 * (ended - now))
        if self._bar is None:
            self._bar = self._start()
        if self._bar:
            done, elapsed = rows - self._first[0], now - self._first[1]
            rate = f"{counted(done / elapsed)} rows/s" if done and elapsed else ""
            left = "" if of is None or not done else f"{duration((of - rows) * elapsed / done)} left"
            shown = [f"{rows:,} rows", rate, left, self._mean]
            text = "  ".join(filter(None, shown))
            self._bar.update(self._bar.task_ids[0], completed=rows, total=of, shown=text)

    def _start(self) -> Any:
        try:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn
        except ImportError:
            self._enabled = False
            return None
        bar = Progress(
            BarColumn(bar_width=24),
            TextColumn("{task.fields[shown]}", markup=False),
            console=Console(stderr=True, color_system=color_system()),
            transient=True,
        )
        bar.add_task("", total=None, shown="")
        bar.start()
        return bar
