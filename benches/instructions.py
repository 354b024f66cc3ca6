"""Count the instructions of a dozen calls, small ones among them: a regression that needs no clock to be seen.

Callgrind runs the calls on one thread and counts what happens in the extension module, NumPy's and Python's functions
that it calls included. The counts are kept in a page of the documentation; `--check` compares with it. Valgrind knows
no AVX-512, so they are those of AVX2 and of the baseline.

    python benches/instructions.py --check docs/instructions.md
"""

import argparse
import math
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from subjects import SUBJECTS, Call

INSTRUCTION_SETS = ("avx2", "baseline")
#: How far a count may be from what it was: the versions of Python and NumPy are in it.
TOLERANCE = 0.05
#: What is called, on which shape, of which type, and whether with gradient.
CALLS = (
    ("mse_loss", (8,), "float32", False),
    ("mse_loss", (8,), "float32", True),
    ("mse_loss", (4096,), "float32", False),
    ("mse_loss", (4096,), "float32", True),
    ("mse_loss", (4096,), "float64", True),
    ("huber_loss", (4096,), "float32", True),
    ("binary_cross_entropy_with_logits", (4096,), "float32", False),
    ("binary_cross_entropy_with_logits", (4096,), "float32", True),
    ("binary_cross_entropy_with_logits", (4096,), "float16", True),
    ("sigmoid_focal_loss", (4096,), "float32", True),
    ("cross_entropy", (400, 10), "float32", False),
    ("cross_entropy", (400, 10), "float32", True),
    ("cross_entropy", (4, 1000), "float32", True),
    ("triplet_margin_loss", (32, 128), "float32", True),
    ("dice_loss", (1, 64, 64), "float32", True),
    ("ctc_loss", (50, 1, 64), "float32", True),
)
METHODS = ("value", "value_and_grad")


def names() -> list[str]:
    """Return what the calls are called."""
    return [
        f"{loss} {' x '.join(f'{length:,}' for length in shape)} {dtype}{' + gradient' * gradient}"
        for loss, shape, dtype, gradient in CALLS
    ]


def calls() -> Iterator[Call]:
    """Yield the calls."""
    for loss, shape, dtype, gradient in CALLS:
        subject = SUBJECTS[loss]
        yield subject.lossrs_call(subject.operands(shape, dtype), gradient=gradient, fresh=False)


def count(instruction_set: str) -> list[int]:
    """Return the instructions of each call."""
    environment = os.environ | {"LOSSRS_ISA": instruction_set, "PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1"}
    environment["LOSSRS_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "callgrind")
        functions = [f"<_lossrs::python::Loss>::__pymethod_{method}__" for method in METHODS]
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", "--collect-atstart=no"]
        command += ["--toggle-collect=*Loss>::__pymethod_value*", *(f"--dump-after={name}" for name in functions)]
        command += [sys.executable, __file__, "--calls"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stderr)
        dumps = sorted(Path(folder).glob("callgrind.*"), key=lambda path: int(path.suffix[1:]))
        counts = [int(re.findall(r"^totals: (\d+)", dump.read_text(), re.MULTILINE)[0]) for dump in dumps]
    if len(counts) != 2 * len(CALLS):
        raise SystemExit(f"expected {2 * len(CALLS)} counts of calls, got {len(counts)}")
    # The first round starts what calls need.
    return counts[len(CALLS) :]


def table(counts: Mapping[str, list[int]]) -> str:
    """Return the counts as a table."""
    header = ["call", *(f"{name}{what}" for name in counts for what in ("", ", an element"))]
    lines = [header, ["---", *["--:"] * (len(header) - 1)]]
    for row, name in enumerate(names()):
        elements = math.prod(CALLS[row][1])
        cells = [cell for of in counts.values() for cell in (f"{of[row]:,}", f"{of[row] / elements:.2f}")]
        lines.append([name, *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def read(page: Path) -> dict[str, list[int]]:
    """Return the counts that a page has, by call."""
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.read_text().splitlines() if "|" in line]
    return {row[0]: [int(cell.replace(",", "")) for cell in row[1::2]] for row in rows[2:]}


def check(page: Path, counts: Mapping[str, list[int]]) -> None:
    """Compare counts with those of a page."""
    expected, failures = read(page), []
    if list(expected) != names():
        raise SystemExit(f"{page} is of other calls: write it anew with --write")
    for row, name in enumerate(names()):
        for before, (instruction_set, of) in zip(expected[name], counts.items(), strict=True):
            if abs(of[row] - before) > TOLERANCE * before:
                failures.append(f"{name}, {instruction_set}: {of[row]:,} instructions, {before:,} in {page}")
    if failures:
        raise SystemExit("\n".join([*failures, "if that is meant, write the page anew with --write"]))


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--check", type=Path, metavar="PAGE", help="compare with the counts there")
    what.add_argument("--write", type=Path, metavar="PAGE", help="write the counts there")
    what.add_argument("--calls", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.calls:
        prepared = list(calls())
        for _ in range(2):
            for call in prepared:
                call()
        return
    counts = {instruction_set: count(instruction_set) for instruction_set in INSTRUCTION_SETS}
    print(table(counts))
    if options.write:
        text = options.write.read_text()
        options.write.write_text(f"{text[: text.index('| call')]}{table(counts)}\n")
    else:
        check(options.check, counts)


if __name__ == "__main__":
    main()
