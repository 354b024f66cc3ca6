"""A call needs little memory beyond its results, however large its arguments are and however they lie."""

import subprocess
import sys
from pathlib import Path

import pytest
from cases import PLAIN

PROGRAM = """
import sys
from pathlib import Path
import numpy as np
from cases import BFLOAT16, PLAIN
import lossrs

case = next(case for case in PLAIN if str(case) == sys.argv[1])
layout, threads = sys.argv[2], int(sys.argv[3])
lossrs.set_num_threads(threads)
elements = 4 * 2**20
dtype = {"half": np.dtype(np.float16), "bfloat16": np.dtype(BFLOAT16), "swapped": np.dtype(">f4")}.get(
    layout, np.dtype(np.float32)
)

def array(shape, dtype=dtype):
    # Filled in place: nothing is left over that a call could make use of.
    if layout == "strided":
        whole = np.empty((*shape[:-1], 2 * shape[-1]), dtype)
        whole.fill(0.5)
        return whole[..., ::-2]
    if layout == "fortran":
        whole = np.empty(shape, dtype, order="F")
    else:
        whole = np.empty(shape, dtype)
    whole.fill(0.5)
    return whole

def arguments(elements):
    shape = (elements // 64, 64) if case.rowwise else (elements,)
    input = array(shape)
    target = array(shape[:1], np.dtype(np.int32)) if case.target == "label" else array(shape)
    options = {name: array((64,) if case.rowwise else shape) for name in case.arrays}
    options["sample_weight"] = array(shape[:1])
    out = [array(shape, dtype.newbyteorder("=")) for _ in range(2)]
    losses = array(shape[:1], dtype.newbyteorder("="))
    return input, target, options, out, losses

def calls(input, target, options, out, losses):
    function = case.function
    function(input, target, **options)
    function.value_and_grad(input, target, out=out[0], **options)
    function.grad_and_hess(input, target, out=tuple(out), **options)
    function.backward(2.0, input, target, out=out[0], reduction="sum", **options)
    function(input, target, reduction="none", out=losses, **options)
    lossrs.ExactSum().add(input)

calls(*arguments(200_000))
large = arguments(elements)

def peak():
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) / 1024

# Unlike `ru_maxrss`, this peak can be put back to what is in use.
Path("/proc/self/clear_refs").write_text("5")
before = peak()
calls(*large)
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from Linux's /proc")
@pytest.mark.parametrize("layout", ["plain", "fortran", "strided", "half", "bfloat16", "swapped"])
@pytest.mark.parametrize("case", PLAIN, ids=str)
def test_extra_memory_is_bounded(case, layout):
    process = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(case), layout, "2"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert process.returncode == 0, process.stderr
    assert float(process.stdout) < 2
