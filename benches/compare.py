"""Compare lossrs with its peers, and with the memory: the same arrays, in one process, in turn.

Each round calls every contender once, small calls many times, so that what else the machine does meets all of them; but
first without looking at the clock, for as long as threads of whoever came before may spin.
Times and ratios are medians over the rounds; a ratio is of times of one round, and ± half the distance between its
quartiles. The limit is a copy that moves as many bytes in all as the call must at least read and write, by as many
threads.

    python benches/compare.py --only cross_entropy --rounds 15 --json results.json
    python benches/compare.py --write docs/benchmarks.md
"""

import argparse
import functools
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self

import lossrs
import numpy as np
from peers import PEERS, versions
from present import Measured, Result, machine, show, write
from subjects import SHAPES, SUBJECTS, THREADS, Array, Call, ml_dtypes

ROUND = 2e-3  # seconds that a contender is called for in a round, if it is quicker than that
SETTLING = 10e-3  # seconds that it is called for before it is timed: so long threads of OpenMP spin after a call
LONGEST = 30.0  # seconds that the rounds of a call may take together, if there are three
FEW = 1 << 18  # elements that are enough to see that everything works
COPIED_FROM = 1 << 20  # bytes from which a copy says something about the memory


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
        """Return the operands, the same for the calls of one loss, shape and type."""
        return drawn(self.loss, self.shape, self.dtype)

    def shortened(self) -> Self:
        """Return the same work on few elements."""
        shape = list(self.shape)
        while math.prod(shape) > FEW:
            shape[shape.index(max(shape))] //= 2
        return replace(self, shape=tuple(shape))

    def call(self, operands: tuple[Array, ...]) -> Call:
        """Return the call to lossrs."""
        return SUBJECTS[self.loss].lossrs_call(operands, gradient=self.gradient, fresh=self.fresh)

    def traffic(self, operands: tuple[Array, ...]) -> int:
        """Return the bytes that the call must move."""
        gradients = SUBJECTS[self.loss].inputs if self.gradient else ()
        return sum(array.nbytes for array in operands) + sum(operands[i].nbytes for i in gradients)


@functools.lru_cache(maxsize=1)
def drawn(loss: str, shape: tuple[int, ...], dtype: str) -> tuple[Array, ...]:
    """Return operands."""
    return SUBJECTS[loss].operands(shape, dtype)


@functools.lru_cache(maxsize=2 * len(PEERS))
def peer_call(peer: str, loss: str, shape: tuple[int, ...], dtype: str, gradient: bool) -> Call | None:
    """Return a peer's call, if it has the loss. Its gradients are fresh: one call stands beside both of ours."""
    return PEERS[peer](SUBJECTS[loss], drawn(loss, shape, dtype), gradient=gradient)


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


def settle(call: Call) -> None:
    """Call until the threads of whoever was called before sleep, and the caches hold what they can."""
    until = time.perf_counter() + SETTLING
    while time.perf_counter() < until:
        call()


def measure(work: Work, peers: list[str], rounds: int, pool: ThreadPoolExecutor) -> Result:
    """Time a call and its peers, after looking whether they agree."""
    operands = work.operands()
    contenders = {"lossrs": work.call(operands)}
    for peer in peers:
        if call := peer_call(peer, work.loss, work.shape, work.dtype, work.gradient):
            contenders[peer] = call
    expected = contenders["lossrs"]()
    for name, call in contenders.items():
        if not math.isclose(value := call(), expected, rel_tol=2e-2 if "16" in work.dtype else 2e-4):
            raise SystemExit(f"{work.name}: {name} says {value}, lossrs {expected}")
    if (traffic := work.traffic(operands)) >= COPIED_FROM:
        contenders["copy"] = copy_call(traffic, pool)
    counts = dict.fromkeys(contenders, 1)
    if rounds > 1:
        once = {name: min(seconds(call, 1) for _ in range(3)) for name, call in contenders.items()}
        counts = {name: max(1, int(ROUND / taken)) for name, taken in once.items()}
        # Slow calls are called twice in a round, once to settle.
        rounds = max(3, min(rounds, int(LONGEST / (2 * sum(once.values())))))
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, call in contenders.items():
            settle(call)
            taken[name].append(seconds(call, counts[name]))
    elements = math.prod(work.shape)
    return Result(work.name, work.loss, work.gradient, work.fresh, elements, traffic, taken)


def extra_memory(loss: str, shape: tuple[int, int]) -> int | None:
    """Return the bytes by which a call raises the peak of the process's memory, less its output; on Linux."""
    status, clear = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not clear.exists():
        return None
    few, many = (Work(loss, (rows, shape[1]), gradient=True) for rows in (1000, shape[0]))
    few.call(few.operands())()  # which starts the threads
    call = many.call(many.operands())
    call()
    clear.write_text("5")
    before = status.read_text()
    call()
    peak, resident = status.read_text().split("VmHWM:")[1], before.split("VmRSS:")[1]
    return (int(peak.split()[0]) - int(resident.split()[0])) * 1024


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
    calls = [Work("mse_loss", (length,)) for length in (8, 1000, 1 << 24)]
    calls += [Work("huber_loss", (1 << 24,))]
    calls += [Work("binary_cross_entropy_with_logits", (length,)) for length in (1000, 100_000, 1 << 24)]
    shapes = ((100_000, 10), (100_000, 100), (16_384, 1000), (512, 128_256))
    calls += [Work("cross_entropy", shape) for shape in shapes]
    calls += [
        Work(name, shape) for name in SUBJECTS for shape in SHAPES.get(name, ((1 << 22,),)) if name != "cross_entropy"
    ]
    types = ("float64", "float16", *["bfloat16"] * bool(ml_dtypes))
    calls += [Work("binary_cross_entropy_with_logits", (1 << 22,), dtype) for dtype in types]
    calls += [Work("cross_entropy", (512, 128_256), dtype) for dtype in types]
    for call in calls:
        yield call
        yield replace(call, gradient=True)
        yield replace(call, gradient=True, fresh=True)


def lengths(longest: int) -> Iterator[Work]:
    """Yield calls of growing length."""
    for exponent in range(10, longest + 1, 2):
        for loss in ("mse_loss", "binary_cross_entropy_with_logits"):
            yield Work(loss, (1 << exponent,), gradient=True)


def measure_all(peers: list[str], rounds: int, only: str, *, quick: bool) -> Measured:
    """Measure all calls whose names contain something, and if that is nothing the rest."""
    wanted = [work.shortened() if quick else work for work in works() if only in work.name]
    longer = [] if only else lengths(16 if quick else 28)
    print(f"lossrs {lossrs.__version__}, {lossrs.instruction_set()}, {THREADS} threads: {lossrs.__file__}")
    with ThreadPoolExecutor(THREADS) as pool:
        calls = [measure(work, peers, rounds, pool) for work in wanted]
        growth = [measure(work, [], rounds, pool) for work in longer]
    return Measured(machine() | versions(), calls, growth, {} if only else facts(rounds))


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all times there")
    parser.add_argument("--write", type=Path, metavar="FILE", help="also write tables and plots into this page")
    parser.add_argument("--read", type=Path, metavar="FILE", help="show what --json wrote, and measure nothing")
    parser.add_argument("--only", default="", metavar="PATTERN", help="only calls whose name contains this")
    parser.add_argument("--peers", default=",".join(PEERS), help="only these (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--quick", action="store_true", help="one round on few elements: see that everything works")
    options = parser.parse_args()
    rounds, peers = 1 if options.quick else options.rounds, [name for name in options.peers.split(",") if name]
    if unknown := set(peers) - set(PEERS):
        parser.error(f"no peer {', '.join(sorted(unknown))}; there are {', '.join(PEERS)}")
    if options.read:
        measured = Measured.of(json.loads(options.read.read_text()))
    else:
        measured = measure_all(peers, rounds, options.only, quick=options.quick)
    show(measured)
    if options.json:
        options.json.write_text(json.dumps(asdict(measured), indent=1))
    if options.write:
        write(options.write, measured)


if __name__ == "__main__":
    main()
