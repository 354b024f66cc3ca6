"""The same bits whatever the layout, the neighbours, the threads and the instruction set."""

import functools
import math
import os
import subprocess
import sys

import lossrs
import numpy as np
import pytest
from cases import (
    BFLOAT16,
    CASES,
    FLOATS,
    FORMS,
    INSTRUCTION_SETS,
    INTEGERS,
    PLAIN,
    assert_same,
    instruction_set,
    results,
    threads,
)
from layouts import LAYOUTS, every_second, everything_at_once, read_only

#: Lengths around those that drivers and kernels work in.
LENGTHS = sorted({near for at in (1, 2, 16, 64, 128, 640, 1024, 2048) for near in (at - 1, at, at + 1)} | {1088, 3000})
CLASSES = [1, 2, 10, 63, 64, 65, 127, 128, 129, 1000, 1023, 1024, 1025, 1088, 2048, 5000]
#: All types for each way of a call; of other losses the two that are computed in.
FORMS_AND_OTHERS = [(case, FLOATS) for case in FORMS] + [(case, FLOATS[:2]) for case in CASES if case not in FORMS]
TYPED = [pytest.param(case, dtype, id=f"{case}-{np.dtype(dtype)}") for case, of in FORMS_AND_OTHERS for dtype in of]


def name(function) -> str:
    return function.__name__


@pytest.mark.parametrize("layout", LAYOUTS, ids=name)
@pytest.mark.parametrize("case", FORMS, ids=str)
def test_any_layout(case, layout, rng):
    """How arrays lie is nothing that formulas know of."""
    for dtype in FLOATS:
        for shape in case.shapes:
            sample = case.sample(rng, shape, dtype)
            weight = rng.random(case.samples_shape(sample)).astype(dtype)
            expected = results(case, sample, weight)
            for operand, array in sample.operands.items():
                assert_same(results(case, sample.replace(**{operand: layout(array)}), weight), expected)
            assert_same(results(case, sample.map(layout), layout(weight)), expected)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_any_loss_of_some_layouts(case, rng):
    for dtype in FLOATS[:2]:
        sample = case.sample(rng, max(case.shapes, key=len), dtype)
        weight = rng.random(case.samples_shape(sample)).astype(dtype)
        expected = results(case, sample, weight)
        for layout in (every_second, everything_at_once):
            assert_same(results(case, sample.map(layout), layout(weight)), expected)


@pytest.mark.parametrize("layout", [layout for layout in LAYOUTS if layout is not read_only], ids=name)
@pytest.mark.parametrize("case", FORMS, ids=str)
def test_results_of_any_layout(case, layout, rng):
    for dtype in FLOATS:
        for shape in [*case.shapes, case.shape(2000, 1100)]:
            sample = case.sample(rng, shape, dtype)
            expected = dict.fromkeys(case.verbs, case.value_and_grad(sample, reduction="none")[1])
            expected[""] = (case.value(sample, reduction="none"),)
            if case.has_hessian:
                expected["grad_and_hess"] = sum(case.grad_and_hess(sample, reduction="none"), ())
            for of, arrays in expected.items():
                outs = tuple(layout(np.zeros_like(array)) for array in arrays)
                half = len(outs) // 2
                out = (outs[:half], outs[half:]) if of == "grad_and_hess" else outs if of else outs[0]
                case.call(of, sample, reduction="none", out=out)
                for actual, array in zip(outs, arrays, strict=True):
                    np.testing.assert_array_equal(actual, array)


@pytest.mark.parametrize("case", PLAIN, ids=str)
def test_broadcast_arrays(case, rng):
    """Stride 0 along any axes."""
    for shape in case.shapes:
        for kept in (None, 0, len(shape) - 1):
            # Labels are those of the classes that there are, so the axes that a loss is of are not stretched.
            own = (*case.axes(shape), kept)
            small = tuple(length if axis in own else 1 for axis, length in enumerate(shape))
            wide, narrow = case.sample(rng, shape), case.sample(rng, small)
            stretched = narrow.map(np.copy)
            for arrays, of in ((stretched.operands, wide.operands), (stretched.options, wide.options)):
                for each, array in arrays.items():
                    if isinstance(array, np.ndarray):
                        arrays[each] = np.broadcast_to(array, of[each].shape)
            assert_same(results(case, stretched), results(case, stretched.map(np.array)))


@functools.cache
def plain_results(case, dtype):
    sample = case.sample(np.random.default_rng(5), case.shape(70_001, 101), dtype)
    weight = np.random.default_rng(6).choice([0, 0.3, 1], case.samples_shape(sample)).astype(dtype)
    with threads(1), instruction_set("baseline"):
        return sample, weight, results(case, sample, weight)


@pytest.mark.parametrize(("case", "dtype"), [each for each in TYPED if each.values[0] in PLAIN])
def test_any_threads_and_instruction_set(case, dtype, isa):
    """More elements than stay on the caller's thread, in a length that is a multiple of nothing."""
    sample, weight, expected = plain_results(case, dtype)
    assert lossrs.instruction_set() == isa
    for number in (1, 2, 5):
        with threads(number):
            assert_same(results(case, sample, weight), expected)
    if case in FORMS:
        with threads(2):
            assert_same(results(case, sample.map(every_second), every_second(weight)), expected)
            assert_same(results(case, sample.map(everything_at_once), everything_at_once(weight)), expected)


@pytest.mark.parametrize(("case", "dtype"), TYPED)
def test_any_instruction_set(case, dtype, isa, rng):
    for shape in [*case.shapes, case.shape(1100, 1100)]:
        sample = case.sample(rng, shape, dtype)
        with instruction_set("baseline"):
            expected = results(case, sample)
        assert_same(results(case, sample), expected)


def unreduced(case, sample):
    """Return losses, gradients and Hessians."""
    losses, gradients = case.value_and_grad(sample, reduction="none")
    return losses, *gradients, *(case.grad_and_hess(sample, reduction="none")[1] if case.has_hessian else ())


SHARED = ("of one column", "without columns")


def is_shared(case) -> bool:
    return any(operand.shape in (*SHARED, "number") for operand in case.operands.values())


@pytest.mark.parametrize(
    ("case", "dtype"), [each for each in TYPED if each.values[0].elementwise and not is_shared(each.values[0])]
)
def test_an_element_is_the_same_alone_and_anywhere_in_an_array(case, dtype, isa, rng):
    sample = case.sample(rng, (max(LENGTHS),), dtype)
    whole = unreduced(case, sample)
    parts = [slice(length) for length in LENGTHS] + [slice(start, start + 70) for start in range(20)]
    for part in [*parts, *rng.integers(0, max(LENGTHS), 40)]:
        for actual, expected in zip(unreduced(case, case.take(sample, part)), whole, strict=True):
            np.testing.assert_array_equal(actual, expected[part], strict=not np.isscalar(part))


@pytest.mark.parametrize("dtype", FLOATS[:2], ids=["float64", "float32"])
@pytest.mark.parametrize("case", [case for case in CASES if case.elementwise and not is_shared(case)], ids=str)
def test_gradients_of_sums_begin_anywhere_in_a_line(case, dtype, isa, rng):
    """Those that are written to the caches and those that go past them, beside elements that stay as they are."""
    for length in (2048, 20_000, (1 << 22) // np.dtype(dtype).itemsize + 999):
        sample = case.sample(rng, (length,), dtype)
        losses, expected = case.value_and_grad(sample, reduction="none")
        total = math.fsum(losses.tolist()) if np.isfinite(losses).all() else None
        for starts in [(0, 0), (1, 0), (5, 5), (15, 3)]:
            rooms = [np.full(length + 32, 9, dtype) for _ in expected]
            outs = [room[start : start + length] for room, start in zip(rooms, starts, strict=False)]
            actual, _ = case.call("value_and_grad", sample, reduction="sum", out=tuple(outs))
            assert total is None or actual == dtype(total)
            for room, out, start, gradient in zip(rooms, outs, starts, expected, strict=False):
                np.testing.assert_array_equal(out, gradient)
                out[...] = 9
                np.testing.assert_array_equal(room, 9, err_msg=f"beside {start}")


@pytest.mark.parametrize("columns", [1, 3, 630, 1300])
@pytest.mark.parametrize(
    ("case", "dtype"), [each for each in TYPED if any(of.shape in SHARED for of in each.values[0].operands.values())]
)
def test_what_a_row_shares_is_the_same_alone_and_in_an_array(case, dtype, columns, isa, rng):
    sample = case.sample(rng, (7, columns), dtype)
    whole = unreduced(case, sample)
    for row in range(7):
        for actual, expected in zip(unreduced(case, case.take(sample, slice(row, row + 1))), whole, strict=True):
            np.testing.assert_array_equal(actual[0], expected[row])


@pytest.mark.parametrize(("case", "dtype"), [each for each in TYPED if not each.values[0].elementwise])
def test_a_row_is_the_same_alone_and_in_an_array(case, dtype, isa, rng):
    """All lengths for each way of a call; of other losses one of each kind."""
    for classes in CLASSES if case in FORMS else (2, 65, 1025):
        sample = case.sample(rng, (5, classes), dtype)
        whole = unreduced(case, sample)
        for row in range(5):
            # As a row without the axis of samples, if the loss takes one.
            place = row if any(len(shape) == 1 for shape in case.shapes) else slice(row, row + 1)
            for actual, expected in zip(unreduced(case, case.take(sample, place)), whole, strict=True):
                np.testing.assert_array_equal(actual, expected[place])
        if case.axes((2, 2, 2)) != (1,):
            continue
        # The rows as positions of one image, so that classes lie apart.
        image = sample.replace(**{each: np.ascontiguousarray(array.T)[None] for each, array in sample.operands.items()})
        for actual, expected in zip(unreduced(case, image), whole, strict=True):
            np.testing.assert_array_equal(actual[0].T, expected)


@pytest.mark.parametrize("case", [case for case in CASES if case.label], ids=str)
def test_labels_of_every_type(case, rng):
    sample = case.sample(rng, (300, 100))
    labels = sample[case.label]
    if "ignore_index" not in sample.options:
        labels[labels < 0] = 7
    expected = results(case, sample)
    for dtype in [*INTEGERS, *FLOATS]:
        for order in "<>":
            changed = labels.astype(dtype if dtype is BFLOAT16 else np.dtype(dtype).newbyteorder(order))
            assert_same(results(case, sample.replace(**{case.label: changed})), expected)
    binary = sample.replace(**{case.label: labels % 2})
    expected = results(case, binary)
    assert_same(results(case, sample.replace(**{case.label: (labels % 2).astype(bool)})), expected)
    assert_same(results(case, binary.map(np.ndarray.tolist)), expected)


@pytest.mark.parametrize("case", PLAIN, ids=str)
def test_nested_lists_are_arrays(case, rng):
    sample = case.sample(rng, case.shapes[2])
    assert_same(results(case, sample.map(np.ndarray.tolist)), results(case, sample))


def test_a_long_integer_of_either_name_is_a_label():
    for code in "lLqQ":
        assert lossrs.functional.nll_loss([[0.0, -2.0]], np.array([1], code)) == 2.0


PRINT_RESULTS = """
import lossrs, numpy as np, zlib
from cases import PLAIN, results
rng = np.random.default_rng(3)
digest = 0
for case in sorted(PLAIN, key=str):
    for dtype in (np.float32, np.float64):
        sample = case.sample(rng, case.shape(3000, 70), dtype)
        for value in results(case, sample).values():
            digest = zlib.crc32(np.asarray(value).tobytes(), digest)
print(lossrs.instruction_set(), digest)
"""


def run_with_instruction_set(name, program=PRINT_RESULTS):
    environment = os.environ | {"LOSSRS_ISA": name, "PYTHONPATH": os.path.dirname(__file__)}
    return subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60)


def test_the_environment_chooses_the_instruction_set():
    """A set that the machine does not have is an error, so that nobody takes the results for its own."""
    digests = set()
    for name in INSTRUCTION_SETS:
        process = run_with_instruction_set(name)
        if process.returncode:
            assert f"ValueError: LOSSRS_ISA: this machine does not have the instruction set {name}" in process.stderr
            continue
        used, digest = process.stdout.split()
        assert used == name
        digests.add(digest)
    assert len(digests) == 1


@pytest.mark.parametrize("name", ["avx1024", "AVX2", "", "avx2 "])
def test_an_unknown_instruction_set_is_an_error(name):
    process = run_with_instruction_set(name, "import lossrs")
    assert process.returncode == 1
    assert "ValueError: LOSSRS_ISA: instruction set must be one of baseline, avx2, avx512" in process.stderr
    with pytest.raises(ValueError, match="must be one of"):
        lossrs._lossrs.use_instruction_set(name)
