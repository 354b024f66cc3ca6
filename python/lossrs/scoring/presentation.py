"""How a result is shown, and with which exit status: the options that all commands have that print one."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from lossrs.accumulator import Accumulator
from lossrs.scoring import comparison
from lossrs.scoring.columns import ScoreError
from lossrs.scoring.condition import Condition
from lossrs.scoring.figures import NAMES, PLACES, Figure, Figures
from lossrs.scoring.formats import FORMATS, Results
from lossrs.scoring.outputs import Output
from lossrs.scoring.progress import Run, peak_memory, print_cost
from lossrs.scoring.score import Score


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say how a result is shown."""
    parser.add_argument(
        "--quantiles",
        metavar="Q,...",
        type=_shares,
        default=[],
        help="quantiles of the losses: 0.5,0.99 for the median and what one row in a hundred exceeds",
    )
    parser.add_argument(
        "--format",
        choices=FORMATS,
        default="table",
        help="what to print; in JSON, which `lossrs schema` describes, nan and infinities are strings",
    )
    parser.add_argument("--json", action="store_const", dest="format", const="json", help="the same as --format json")
    parser.add_argument(
        "--plot",
        metavar="OUT",
        type=Path,
        help="draw the losses, which rows make them up, the groups and, of probabilities, how often they come true: a "
        ".png, .svg or .pdf file",
    )
    parser.add_argument(
        "--report",
        metavar="OUT",
        type=Path,
        help="write all that is known on one page, an .html file that needs no other",
    )
    parser.add_argument(
        "--fail-if",
        metavar="CONDITION",
        action="append",
        default=[],
        help="end with status 1 if this holds: 'mean > 0.35'; may be repeated",
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="show no progress, and not what the run took")


def _shares(text: str) -> list[float]:
    try:
        shares = [float(part) + 0.0 for part in text.split(",")]  # no negative zero
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers") from None
    if not all(0 <= share <= 1 for share in shares):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of shares in [0, 1]")
    return shares


class Presentation:
    """How a result is shown: made, and so checked, before anything is read; a context in which outputs are written.

    Parameters
    ----------
    parsed : argparse.Namespace
        With the options of `add_options`, and `command`, the words of the command.
    nothing : Accumulator
        One of the loss, without rows: it tells which figures there will be.
    more : sequence of Figure
        Those that there will be besides.
    grouped : bool
        Whether there will be groups.

    Attributes
    ----------
    quantiles : list of float
        The shares of the quantiles that are needed, and so histograms.
    draws : bool
        Whether there will be pictures, of histograms and calibrations.
    """

    def __init__(
        self, parsed: argparse.Namespace, nothing: Accumulator, more: Sequence[Figure], *, grouped: bool
    ) -> None:
        self._parsed, self._began = parsed, time.monotonic()
        names = [name for name in NAMES if name not in PLACES] + list(nothing.result().derived)
        names += [figure.name for figure in more]
        self._conditions = [Condition(text, names, grouped=grouped) for text in parsed.fail_if]
        needed = (share for condition in self._conditions for share in condition.quantiles)
        self.quantiles = [*parsed.quantiles, *needed]
        self.draws = parsed.plot is not None or parsed.report is not None
        self._outputs = contextlib.ExitStack()
        self._plot: Output | None = None
        self._report: Output | None = None

    def __enter__(self) -> Self:
        """Open the outputs, so that one that cannot be written is an error now."""
        if self.draws:
            from lossrs.scoring import plot

            with contextlib.ExitStack() as opened:
                if self._parsed.plot is not None:
                    plot.require_matplotlib("drawing")
                    self._plot = opened.enter_context(Output(self._parsed.plot, plot.ENDINGS))
                if self._parsed.report is not None:
                    plot.require_matplotlib("a report")
                    self._report = opened.enter_context(Output(self._parsed.report, (".html",)))
                self._outputs = opened.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the outputs their names, or remove them."""
        self._outputs.__exit__(kind, error, trace)

    def show(self, score: Score) -> int:
        """Print a result, write the outputs and return the exit status."""
        run = Run(self._parsed.command, score.rows_read, time.monotonic() - self._began, peak_memory())
        figures = Figures(score.overall, score.groups, score.by, self.quantiles)
        for figure, overall, column in comparison.figures(score.result, score.compared):
            figures.add(figure, overall, column)
        results = Results(score, figures, run)
        if self._plot is not None:
            from lossrs.scoring.plot import Picture, write_picture

            write_picture(self._plot, Picture.of(results))
        if self._report is not None:
            from lossrs.scoring.report import report

            self._report.write(report(results).encode())
        failures = [failure for condition in self._conditions if (failure := condition.failure(results.figures))]
        try:
            with quiet_pipe():
                FORMATS[self._parsed.format](results, sys.stdout)
                sys.stdout.flush()
        except OSError as error:
            drop_standard_output()
            raise ScoreError(f"standard output cannot be written: {error.strerror or error}") from error
        if not self._parsed.quiet:
            print_cost(run)
        for failure in failures:
            print(f"lossrs: {failure}", file=sys.stderr)
        return 1 if failures else 0


@contextlib.contextmanager
def quiet_pipe() -> Iterator[None]:
    """Go on if the reader of standard output has seen enough."""
    try:
        yield
    except BrokenPipeError:
        drop_standard_output()


def drop_standard_output() -> None:
    """See to it that what is still buffered does not raise again at exit."""
    with contextlib.suppress(OSError):  # it may be no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
