"""A call needs little memory beyond its results, however large its arguments are and however they lie."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cases import FORMS, PLAIN

PROGRAM = """
import sys
from pathlib import Path
import numpy as np
from cases import BFLOAT16, PLAIN, SHAPES
import lossrs

layout, names = sys.argv[1], sys.argv[2:]
lossrs.set_num_threads(2)
elements = 2 * 2**20
dtype = {"half": np.dtype(np.float16), "bfloat16": np.dtype(BFLOAT16), "swapped": np.dtype(">f4")}.get(
    layout, np.dtype(np.float32)
)

def array(shape, dtype=dtype, value=0.5):
    # Filled in place: nothing is left over that a call could make use of.
    if layout == "strided" and shape:
        whole = np.empty((*shape[:-1], 2 * shape[-1]), dtype)
        whole.fill(value)
        return whole[..., ::-2]
    if layout == "fortran":
        whole = np.empty(shape, dtype, order="F")
    else:
        whole = np.empty(shape, dtype)
    whole.fill(value)
    return whole

VALUES = {"label": 1, "label set": 1, "sign": 1, "binary": 1}

def calls(case, elements):
    shape = (elements,) if case.elementwise else (elements // 64, 64)
    axes, own = case.axes(shape), dtype.newbyteorder("=")
    operands = [
        array(
            SHAPES[operand.shape](shape, axes),
            np.dtype(np.int32) if operand.kind.startswith("label") else dtype,
            VALUES.get(operand.kind, 0.5),
        )
        for operand in case.operands.values()
    ]
    options = dict(case.variant.options)
    options |= {name: array(SHAPES[case.reference.arrays[name].shape](shape, axes)) for name in case.arrays}
    samples = SHAPES["samples"](shape, axes)
    options["sample_weight"] = array(samples[:1])
    inputs = [array(SHAPES[case.operands[name].shape](shape, axes), own) for name in case.inputs]
    others, losses = [array(out.shape, own) for out in inputs], array(samples, own)
    one = len(inputs) == 1
    options |= {} if one else {"wrt": case.inputs}
    out, other = (inputs[0], others[0]) if one else (tuple(inputs), tuple(others))
    plain = {name: value for name, value in options.items() if name != "wrt"}
    function = case.function
    yield
    function(*operands, **plain)
    function.value_and_grad(*operands, out=out, **options)
    if case.has_hessian:
        function.grad_and_hess(*operands, out=(out, other), **options)
    function.backward(2.0, *operands, out=out, reduction="sum", **options)
    function(*operands, reduction="none", out=losses, **plain)
    lossrs.ExactSum().add(operands[0])
    yield

def peak():
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) / 1024

def more(calls):
    # Unlike `ru_maxrss`, this peak can be put back to what is in use.
    next(calls)
    Path("/proc/self/clear_refs").write_text("5")
    before = peak()
    next(calls)
    return peak() - before

def control():
    yield
    np.ones(2**20)
    yield

# What is allocated is seen, even when as much has been given back.
for _ in range(3):
    assert more(control()) > 7
for case in PLAIN:
    if str(case) in names:
        for _ in calls(case, 200_000):
            pass
        print(str(case), more(calls(case, elements)), sep="\t")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from Linux's /proc")
@pytest.mark.parametrize("layout", ["plain", "fortran", "strided", "half", "bfloat16", "swapped"])
def test_extra_memory_is_bounded(layout):
    """All losses as they are usually called; of other layouts a loss for each way of a call."""
    cases = [str(case) for case in (PLAIN if layout == "plain" else FORMS)]
    process = subprocess.run(
        [sys.executable, "-c", PROGRAM, layout, *cases],
        cwd=Path(__file__).parent,
        # Large arrays are of their own pages, which are given back.
        env=os.environ | {"MALLOC_MMAP_THRESHOLD_": "100000"},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert process.returncode == 0, process.stderr
    found = dict(line.split("\t") for line in process.stdout.splitlines())
    assert found.keys() == {*cases}
    assert {case: extra for case, extra in found.items() if float(extra) >= 2} == {}
