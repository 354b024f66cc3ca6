"""Compare lossrs with its peers, and with the memory: the same arrays, in one process, in turn.

Each round calls every contender once, small calls many times, so that what else the machine does meets all of them.
Times and ratios are medians over the rounds; a ratio is of times of one round, and ± half the distance between its
quartiles. The limit is a copy that moves as many bytes in all as the call must at least read and write, by as many
threads.

    python benches/compare.py --only cross_entropy --rounds 15 --json results.json
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import lossrs
import numpy as np
from subjects import SHAPES, SUBJECTS, THREADS, Array, Call, ml_dtypes, optional

ROUND = 2e-3  # seconds that a contender is called for in a round, if it is quicker than that
COPIED_FROM = 1 << 20  # bytes from which a copy says something about the memory
PEERS = ("torch", "scikit-learn", "numpy")


@dataclass(frozen=True)
class Work:
    """A call to compare: a loss of some shape and type, alone or with its gradients, into `out` or fresh arrays."""

    loss: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    gradient: bool = False
    fresh: bool = False

    @property
    def name(self) -> str:
        """What the call is, in words."""
        dtype = "" if self.dtype == "float32" else f" {self.dtype}"
        gradient = (" + fresh gradient" if self.fresh else " + gradient") if self.gradient else ""
        return f"{self.loss} {' x '.join(f'{length:,}' for length in self.shape)}{dtype}{gradient}"

    def operands(self) -> tuple[Array, ...]:
        """Return the operands."""
        return SUBJECTS[self.loss].operands(self.shape, self.dtype)

    def call(self, operands: tuple[Array, ...]) -> Call:
        """Return the call to lossrs."""
        return SUBJECTS[self.loss].lossrs_call(operands, gradient=self.gradient, fresh=self.fresh)

    def peers(self, operands: tuple[Array, ...]) -> Iterator[tuple[str, Call]]:
        """Yield the calls to the peers that have the loss."""
        subject = SUBJECTS[self.loss]
        makers = (subject.torch_call, subject.sklearn_call, subject.numpy_call)
        for name, make in zip(PEERS, makers, strict=True):
            if call := make(operands, gradient=self.gradient):
                yield name, call

    def traffic(self, operands: tuple[Array, ...]) -> int:
        """Return the bytes that the call must move."""
        gradients = SUBJECTS[self.loss].inputs if self.gradient else ()
        return sum(array.nbytes for array in operands) + sum(operands[i].nbytes for i in gradients)


@dataclass(frozen=True)
class Result:
    """What was measured: the seconds that each contender took in each round."""

    name: str
    seconds: dict[str, list[float]]

    def ratio(self, slower: str, faster: str) -> str:
        """Return how many times as long as another a contender takes, in words."""
        if not {slower, faster} <= self.seconds.keys():
            return ""
        ratios = [a / b for a, b in zip(self.seconds[slower], self.seconds[faster], strict=True)]
        quartiles = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
        return f"{quartiles[1]:,.2f} ± {(quartiles[2] - quartiles[0]) / 2:,.2f}"


def copy_call(traffic: int, pool: ThreadPoolExecutor) -> Call:
    """Return a copy that reads and writes so many bytes in all, a share of it by each thread."""
    source, copy = np.ones(traffic // 2, np.uint8), np.zeros(traffic // 2, np.uint8)
    shares = list(zip(np.array_split(copy, THREADS), np.array_split(source, THREADS), strict=True))

    def call() -> None:
        for done in [pool.submit(np.copyto, *share) for share in shares]:
            done.result()

    return call


def seconds(call: Call, times: int) -> float:
    """Return the seconds that a call takes."""
    start = time.perf_counter()
    for _ in range(times):
        call()
    return (time.perf_counter() - start) / times


def measure(work: Work, rounds: int, pool: ThreadPoolExecutor) -> Result:
    """Time a call and its peers, after looking whether they agree."""
    operands = work.operands()
    contenders = {"lossrs": work.call(operands), **dict(work.peers(operands))}
    expected = contenders["lossrs"]()
    for name, call in contenders.items():
        if not math.isclose(value := call(), expected, rel_tol=1e-2 if "16" in work.dtype else 1e-4):
            raise SystemExit(f"{work.name}: {name} says {value}, lossrs {expected}")
    if (traffic := work.traffic(operands)) >= COPIED_FROM:
        contenders["copy"] = copy_call(traffic, pool)
    counts = dict.fromkeys(contenders, 1)
    if rounds > 1:
        counts = {
            name: max(1, int(ROUND / min(seconds(call, 1) for _ in range(3)))) for name, call in contenders.items()
        }
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, call in contenders.items():
            taken[name].append(seconds(call, counts[name]))
    return Result(work.name, taken)


def extra_memory(loss: str, shape: tuple[int, int]) -> int | None:
    """Return the bytes by which a call raises the peak of the process's memory, less its output; on Linux."""
    status, clear = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not clear.exists():
        return None
    few, many = (Work(loss, (rows, shape[1]), gradient=True, fresh=True) for rows in (1000, shape[0]))
    few.call(few.operands())()  # which starts the threads
    operands = many.operands()
    clear.write_text("5")
    before = status.read_text()
    output = lossrs.losses[loss]().value_and_grad(*operands)[1]
    peak, resident = status.read_text().split("VmHWM:")[1], before.split("VmRSS:")[1]
    return (int(peak.split()[0]) - int(resident.split()[0])) * 1024 - int(output.nbytes)


IMPORT = """
import os, time, numpy
count_threads = lambda: len(os.listdir("/proc/self/task")) if os.path.exists("/proc/self/task") else 0
threads, start = count_threads(), time.perf_counter()
import lossrs
print(time.perf_counter() - start, count_threads() - threads)
"""


def facts(rounds: int) -> dict[str, float | None]:
    """Return what does not depend on arrays: memory, import, wheel."""
    command = [sys.executable, "-c", IMPORT]
    runs = [subprocess.run(command, capture_output=True, text=True, check=True).stdout.split() for _ in range(rounds)]
    wheels = sorted(Path(__file__).parents[1].glob("**/wheels/lossrs-*.whl"), key=os.path.getmtime)
    return {
        "bytes of memory of cross_entropy + gradient beyond its output": extra_memory("cross_entropy", (16_384, 1000)),
        "milliseconds of import beyond NumPy's": statistics.median(1000 * float(taken) for taken, _ in runs),
        "threads that the import starts": max(int(threads) for _, threads in runs),
        "bytes of the newest wheel": wheels[-1].stat().st_size if wheels else None,
    }


def works() -> Iterator[Work]:
    """Yield the calls that are compared."""
    calls = [Work("mse_loss", (8,)), Work("mse_loss", (1 << 24,)), Work("huber_loss", (1 << 24,))]
    calls += [Work("binary_cross_entropy_with_logits", (length,)) for length in (1000, 100_000, 1 << 24)]
    calls += [Work("cross_entropy", shape) for shape in ((100_000, 10), (16_384, 1000), (512, 128_256))]
    calls += [
        Work(name, shape) for name in SUBJECTS for shape in SHAPES.get(name, ((1 << 22,),)) if name != "cross_entropy"
    ]
    halves = ("float16", "bfloat16") if ml_dtypes else ("float16",)
    calls += [Work("cross_entropy", (512, 128_256), dtype) for dtype in halves]
    for call in calls:
        yield call
        yield replace(call, gradient=True)
        yield replace(call, gradient=True, fresh=True)


def show(results: list[Result]) -> None:
    """Print a table, with rich if it is there."""
    header = ["call", "lossrs", "lossrs / copy", *(f"{peer} / lossrs" for peer in PEERS)]
    lines = []
    for result in results:
        microseconds = f"{statistics.median(result.seconds['lossrs']) * 1e6:,.2f} µs"
        peers = [result.ratio(peer, "lossrs") for peer in PEERS]
        lines.append([result.name, microseconds, result.ratio("lossrs", "copy"), *peers])
    if console := optional("rich.console"):
        table = optional("rich.table").Table(*header)
        for line in lines:
            table.add_row(*line)
        console.Console(width=None if sys.stdout.isatty() else 160).print(table)
        return
    widths = [max(map(len, column)) for column in zip(header, *lines, strict=True)]
    for line in [header, *lines]:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)))


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all times there")
    parser.add_argument("--only", default="", metavar="PATTERN", help="only calls whose name contains this")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--quick", action="store_true", help="one round: see that everything works")
    options = parser.parse_args()
    rounds = 1 if options.quick else options.rounds
    print(f"lossrs {lossrs.__version__}, {lossrs.instruction_set()}, {THREADS} threads: {lossrs.__file__}")
    with ThreadPoolExecutor(THREADS) as pool:
        results = [measure(work, rounds, pool) for work in works() if options.only in work.name]
    show(results)
    others = {} if options.only else facts(rounds)
    for name, value in others.items():
        print(
            f"{name}: {'unknown' if value is None else f'{value:,.4g}' if isinstance(value, float) else f'{value:,}'}"
        )
    if options.json:
        contents = {"calls": [vars(result) for result in results], "facts": others}
        options.json.write_text(json.dumps(contents, indent=1))


if __name__ == "__main__":
    main()
