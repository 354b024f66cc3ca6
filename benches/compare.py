"""Compare lossrs with its peers, and with the memory: the same arrays, in one process, in turn.

Each round calls every contender once (small calls: many times), so that what else the machine does meets all of them.
Times are medians over the rounds, with the distance between the quartiles as their spread. The limit is a copy that moves
as many bytes in all as the call must at least read and write, by as many threads.

    python benches/compare.py --only cross_entropy --rounds 15 --json results.json
"""

import argparse
import importlib
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import lossrs
import lossrs.functional as F
import numpy as np

Array = np.ndarray[Any, Any]
Call = Callable[[], float]
THREADS = lossrs.get_num_threads()
PEERS = ("torch", "scikit-learn", "numpy")
#: Seconds that a contender is called for in a round, if it is quicker than that.
ROUND = 2e-3
#: Bytes from which a copy says something about the memory.
COPIED_FROM = 1 << 20


def optional(name: str) -> ModuleType | None:
    """Return a module, or None if it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


torch, sklearn_loss, ml_dtypes = (optional(name) for name in ("torch", "sklearn._loss", "ml_dtypes"))
if torch:
    torch.set_num_threads(THREADS)


@dataclass(frozen=True)
class Work:
    """A call to compare: a loss of some shape and type, with its gradient or without."""

    loss: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    gradient: bool = False
    out: bool = True

    @property
    def name(self) -> str:
        """What the call is, in words."""
        output = (" + gradient" + (" into out" if self.out else "")) if self.gradient else ""
        return f"{self.loss} {' × '.join(f'{length:,}' for length in self.shape)} {self.dtype}{output}"

    def arrays(self) -> tuple[Array, Array]:
        """Return an input and a target."""
        random = np.random.default_rng(0)
        dtype = np.dtype(ml_dtypes.bfloat16 if ml_dtypes and self.dtype == "bfloat16" else self.dtype)
        inputs = (3 * random.standard_normal(self.shape, np.float32)).astype(dtype)
        if self.loss == "cross_entropy":
            return inputs, random.integers(0, self.shape[1], self.shape[0])
        if self.loss == "binary_cross_entropy_with_logits":
            return inputs, random.integers(0, 2, self.shape).astype(dtype)
        return inputs, random.standard_normal(self.shape, np.float32).astype(dtype)


@dataclass
class Result:
    """What was measured: seconds of each contender, their spread, and the copy's."""

    name: str
    seconds: dict[str, float] = field(default_factory=dict)
    spread: dict[str, float] = field(default_factory=dict)

    def ratio(self, other: str) -> float:
        """Return how many times as long as lossrs another one takes."""
        return self.seconds.get(other, math.nan) / self.seconds["lossrs"]


def lossrs_call(work: Work, inputs: Array, target: Array) -> Call:
    """Return the call to lossrs."""
    function = getattr(F, work.loss)
    if not work.gradient:
        return lambda: function(inputs, target)
    verb, out = function.value_and_grad, np.empty_like(inputs)
    return (lambda: verb(inputs, target, out=out)[0]) if work.out else (lambda: verb(inputs, target)[0])


def torch_call(work: Work, inputs: Array, target: Array) -> Call | None:
    """Return what does the same in eager torch, a fresh gradient each time."""
    if not torch:
        return None

    def tensor(array: Array) -> Any:
        is_bfloat16 = array.dtype.kind == "V" or array.dtype.name == "bfloat16"
        return torch.from_numpy(array.view(np.uint16)).view(torch.bfloat16) if is_bfloat16 else torch.from_numpy(array)

    function, x, y = getattr(torch.nn.functional, work.loss), tensor(inputs), tensor(target)

    def forward() -> float:
        return function(x, y).item()

    def backward() -> float:
        x.grad = None
        value = function(x, y)
        value.backward()
        return value.item()

    x.requires_grad_(work.gradient)
    return backward if work.gradient else forward


def sklearn_call(work: Work, inputs: Array, target: Array) -> Call | None:
    """Return what does nearly the same in scikit-learn, which writes the losses of the samples as well."""
    names = {
        "mse_loss": "HalfSquaredError",
        "huber_loss": "HuberLoss",
        "binary_cross_entropy_with_logits": "HalfBinomialLoss",
        "cross_entropy": "HalfMultinomialLoss",
    }
    if not sklearn_loss or work.dtype != "float32":
        return None
    options = {"huber_loss": {"delta": 1.0}, "cross_entropy": {"n_classes": work.shape[-1]}}.get(work.loss, {})
    loss: Any = getattr(importlib.import_module("sklearn._loss.loss"), names[work.loss])(**options)
    target = target.astype(np.float32)
    losses, gradient = np.empty_like(target), np.empty_like(inputs)
    factor = 2.0 if work.loss == "mse_loss" else 1.0

    def forward() -> float:
        return factor * loss.loss(target, inputs, loss_out=losses, n_threads=THREADS).mean(dtype=np.float64)

    def backward() -> float:
        loss.loss_gradient(target, inputs, loss_out=losses, gradient_out=gradient, n_threads=THREADS)
        return factor * losses.mean(dtype=np.float64)

    return backward if work.gradient else forward


def numpy_call(work: Work, x: Array, y: Array) -> Call | None:
    """Return what one would write in NumPy."""
    if work.dtype != "float32":
        return None

    def mse_loss() -> float:
        d = x - y
        _ = work.gradient and 2 / d.size * d
        return np.mean(d * d)

    def huber_loss() -> float:
        d = x - y
        slope = np.clip(d, -1, 1)
        _ = work.gradient and slope / d.size
        return np.mean(slope * (d - 0.5 * slope))

    def binary_cross_entropy_with_logits() -> float:
        _ = work.gradient and (1 / (1 + np.exp(-x)) - y) / x.size
        return np.mean(np.logaddexp(0, x) - x * y)

    def cross_entropy() -> float:
        rows, shifted = np.arange(len(x)), x - x.max(axis=1, keepdims=True)
        powers = np.exp(shifted)
        sums = powers.sum(axis=1)
        if work.gradient:
            powers /= sums[:, np.newaxis]
            powers[rows, y] -= 1
            powers /= len(x)
        return np.mean(np.log(sums) - shifted[rows, y])

    calls = (mse_loss, huber_loss, binary_cross_entropy_with_logits, cross_entropy)
    return next(call for call in calls if call.__name__ == work.loss)


def copy_call(traffic: int, pool: ThreadPoolExecutor) -> Call:
    """Return a copy that reads and writes so many bytes in all, a share of it by each thread."""
    source, copy = np.ones(traffic // 2, np.uint8), np.zeros(traffic // 2, np.uint8)
    shares = list(zip(np.array_split(copy, THREADS), np.array_split(source, THREADS), strict=True))

    def call() -> float:
        for done in [pool.submit(np.copyto, *share) for share in shares]:
            done.result()
        return math.nan

    return call


def repetitions(call: Call) -> int:
    """Return how many calls fill a round, after two to warm up."""
    for _ in range(2):
        start = time.perf_counter()
        call()
        elapsed = time.perf_counter() - start
    return max(1, int(ROUND / max(elapsed, 1e-7)))


def measure(work: Work, rounds: int, pool: ThreadPoolExecutor) -> Result:
    """Time a call and its peers."""
    inputs, target = work.arrays()
    makers = dict(zip(PEERS, (torch_call, sklearn_call, numpy_call), strict=True))
    contenders = {"lossrs": lossrs_call(work, inputs, target)}
    contenders |= {name: call for name, make in makers.items() if (call := make(work, inputs, target))}
    values = {name: call() for name, call in contenders.items()}
    for name, value in values.items():
        if not math.isclose(value, values["lossrs"], rel_tol=1e-2 if "16" in work.dtype else 1e-4):
            raise SystemExit(f"{work.name}: {name} says {value}, lossrs {values['lossrs']}")
    traffic = inputs.nbytes * (2 if work.gradient else 1) + target.nbytes
    if traffic >= COPIED_FROM:
        contenders["copy"] = copy_call(traffic, pool)
    counts = {name: repetitions(call) if rounds > 1 else 1 for name, call in contenders.items()}
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, call in contenders.items():
            start = time.perf_counter()
            for _ in range(counts[name]):
                call()
            times[name].append((time.perf_counter() - start) / counts[name])
    result = Result(work.name)
    for name, seconds in times.items():
        result.seconds[name] = statistics.median(seconds)
        quartiles = statistics.quantiles(seconds, n=4) if rounds > 1 else [0.0, 0.0, 0.0]
        result.spread[name] = (quartiles[2] - quartiles[0]) / result.seconds[name]
    return result


def extra_memory(work: Work) -> int | None:
    """Return the bytes by which a call raises the peak of the process's memory, where Linux says so."""
    status, clear = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not clear.exists():
        return None

    def kilobytes(name: str) -> int:
        return int(status.read_text().split(f"{name}:")[1].split()[0])

    inputs, target = work.arrays()
    call = lossrs_call(work, inputs, target)
    call()
    clear.write_text("5")
    before = kilobytes("VmRSS")
    call()
    return (kilobytes("VmHWM") - before) * 1024


def facts(rounds: int) -> dict[str, float | int | None]:
    """Return what does not depend on arrays: memory, import, wheel."""
    program = (
        "import os, time, numpy; threads = lambda: len(os.listdir('/proc/self/task')) if os.path.exists('/proc') else 0;"
        "before = threads(); start = time.perf_counter(); import lossrs; print(time.perf_counter() - start, threads() - before)"
    )
    runs = [
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        for _ in range(rounds)
    ]
    imports = [[float(word) for word in run.stdout.split()] for run in runs]
    wheels = sorted(Path(__file__).parents[1].glob("**/wheels/lossrs-*.whl"), key=os.path.getmtime)
    work = Work("cross_entropy", (2048, 1000), gradient=True)
    return {
        f"extra memory of {work.name} [bytes]": extra_memory(work),
        "import beyond NumPy's [s]": statistics.median(seconds for seconds, _ in imports),
        "threads started by the import": max(int(threads) for _, threads in imports),
        "newest wheel [bytes]": wheels[-1].stat().st_size if wheels else None,
    }


def works() -> Iterator[Work]:
    """Yield the calls that are compared."""
    values = [Work("mse_loss", (8,)), Work("mse_loss", (1 << 24,)), Work("huber_loss", (1 << 24,))]
    values += [Work("binary_cross_entropy_with_logits", (length,)) for length in (1000, 100_000, 1 << 24)]
    values += [Work("cross_entropy", shape) for shape in ((100_000, 10), (16_384, 1000), (512, 128_256))]
    values += [Work("cross_entropy", (512, 128_256), dtype) for dtype in ("float16", "bfloat16")]
    for work in values:
        if work.dtype != "bfloat16" or ml_dtypes:
            yield work
            yield Work(work.loss, work.shape, work.dtype, gradient=True)
            yield Work(work.loss, work.shape, work.dtype, gradient=True, out=False)


def show(results: list[Result]) -> None:
    """Print a table, with rich if it is there."""
    header = ["call", "lossrs", "spread", "÷ copy", *(f"{peer} ÷ lossrs" for peer in PEERS)]
    lines = []
    for result in results:
        microseconds = f"{result.seconds['lossrs'] * 1e6:,.2f} µs"
        ratios = [1 / result.ratio("copy"), *(result.ratio(peer) for peer in PEERS)]
        cells = ["" if math.isnan(ratio) else f"{ratio:.2f}" for ratio in ratios]
        lines.append([result.name, microseconds, f"{result.spread['lossrs']:.0%}", *cells])
    if optional("rich"):
        from rich.console import Console
        from rich.table import Table

        table = Table(*header)
        for line in lines:
            table.add_row(*line)
        Console(width=None if sys.stdout.isatty() else 140).print(table)
        return
    widths = [max(map(len, column)) for column in zip(header, *lines, strict=True)]
    for line in [header, *lines]:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)))


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all times there")
    parser.add_argument("--only", default="", metavar="PART", help="only calls whose name contains this")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--quick", action="store_true", help="one round: see that everything works")
    options = parser.parse_args()
    rounds = 1 if options.quick else options.rounds
    print(
        f"lossrs {lossrs.__version__} from {Path(lossrs.__file__).parent}, {lossrs.instruction_set()}, {THREADS} threads"
    )
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
        options.json.write_text(json.dumps(contents, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
