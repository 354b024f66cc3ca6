"""The same bits whatever the layout, the neighbours, the threads and the instruction set."""

import functools
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
    INSTRUCTION_SETS,
    INTEGERS,
    PLAIN,
    Sample,
    assert_same,
    instruction_set,
    results,
    threads,
)
from layouts import LAYOUTS, every_second, everything_at_once, read_only

#: Lengths around those that drivers and kernels work in.
LENGTHS = sorted({near for at in (1, 2, 16, 64, 128, 1024, 2048) for near in (at - 1, at, at + 1)} | {1088, 1100, 3000})
CLASSES = [1, 2, 10, 63, 64, 65, 127, 128, 129, 1000, 1023, 1024, 1025, 1088, 2048, 5000]


def name(function) -> str:
    return function.__name__


@pytest.mark.parametrize("layout", LAYOUTS, ids=name)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_any_layout(case, layout, rng):
    for dtype in FLOATS:
        for shape in case.shapes():
            sample = case.sample(rng, shape, dtype)
            weight = rng.random(case.samples_shape(sample.input)).astype(dtype)
            expected = results(case, sample, weight)
            assert_same(results(case, sample._replace(input=layout(sample.input)), weight), expected)
            assert_same(results(case, sample._replace(target=layout(sample.target)), weight), expected)
            assert_same(results(case, sample.map(layout), layout(weight)), expected)


@pytest.mark.parametrize("layout", [layout for layout in LAYOUTS if layout is not read_only], ids=name)
@pytest.mark.parametrize("case", PLAIN, ids=str)
def test_results_of_any_layout(case, layout, rng):
    for dtype in FLOATS:
        for shape in [*case.shapes(), case.shape(2000, 1100)]:
            sample = case.sample(rng, shape, dtype)
            arguments, options = (sample.input, sample.target), sample.options | {"reduction": "none"}
            losses, gradient = case.function.value_and_grad(*arguments, **options)
            _, hessian = case.function.grad_and_hess(*arguments, **options)
            empty = [layout(np.zeros_like(array)) for array in (losses, gradient, gradient, hessian)]
            case.function(*arguments, out=empty[0], **options)
            case.function.value_and_grad(*arguments, out=empty[1], **options)
            case.function.grad_and_hess(*arguments, out=(empty[2], empty[3]), **options)
            for actual, expected in zip(empty, (losses, gradient, gradient, hessian), strict=True):
                np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_broadcast_arrays(case, rng):
    """Stride 0 along any axes."""
    shape = (4, 3, 5)
    for kept in [(1, 3, 1), (4, 1, 5), (1, 3, 5), (1, 1, 1)]:
        small = case.sample(rng, kept)

        def stretch(array, kept=kept, small=small):
            if array.shape == small.input.shape:
                return np.broadcast_to(array, shape)
            return (
                np.broadcast_to(array, (4, 5)) if case.rowwise and array.ndim > 1 else np.broadcast_to(array, shape[1])
            )

        stretched = small.map(stretch)
        if case.target == "label":
            np.copyto(small.target, 0, where=(small.target < 0) | (small.target >= kept[1]))
        assert_same(results(case, stretched), results(case, stretched.map(np.ascontiguousarray)))


@functools.cache
def plain_results(case, dtype):
    sample = case.sample(np.random.default_rng(5), case.shape(70_001, 101), dtype)
    weight = np.random.default_rng(6).choice([0, 0.3, 1], case.samples_shape(sample.input)).astype(dtype)
    with threads(1), instruction_set("baseline"):
        return sample, weight, results(case, sample, weight)


@pytest.mark.parametrize("dtype", FLOATS, ids=["float64", "float32", "float16", "bfloat16"])
@pytest.mark.parametrize("case", PLAIN, ids=str)
def test_any_threads_and_instruction_set(case, dtype, isa):
    """More elements than stay on the caller's thread, in a length that is a multiple of nothing."""
    sample, weight, expected = plain_results(case, dtype)
    assert lossrs.instruction_set() == isa
    for number in (1, 2, 5):
        with threads(number):
            assert_same(results(case, sample, weight), expected)
    with threads(2):
        assert_same(results(case, sample.map(every_second), every_second(weight)), expected)
        assert_same(results(case, sample.map(everything_at_once), everything_at_once(weight)), expected)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_any_instruction_set(case, isa, rng):
    for dtype in FLOATS:
        for shape in [*case.shapes(), case.shape(1100, 1100)]:
            sample = case.sample(rng, shape, dtype)
            with instruction_set("baseline"):
                expected = results(case, sample)
            assert_same(results(case, sample), expected)


@pytest.mark.parametrize("dtype", FLOATS, ids=["float64", "float32", "float16", "bfloat16"])
@pytest.mark.parametrize("case", [case for case in CASES if not case.rowwise], ids=str)
def test_an_element_is_the_same_alone_and_anywhere_in_an_array(case, dtype, isa, rng):
    sample = case.sample(rng, (max(LENGTHS),), dtype)

    def unreduced(sample):
        losses, gradient = case.function.value_and_grad(sample.input, sample.target, reduction="none", **sample.options)
        _, hessian = case.function.grad_and_hess(sample.input, sample.target, reduction="none", **sample.options)
        return losses, gradient, hessian

    whole = unreduced(sample)
    parts = [slice(length) for length in LENGTHS] + [slice(start, start + 70) for start in range(20)]
    for part in [*parts, *rng.integers(0, max(LENGTHS), 40)]:
        for actual, expected in zip(unreduced(sample.map(lambda array, part=part: array[part])), whole, strict=True):
            np.testing.assert_array_equal(actual, expected[part], strict=not np.isscalar(part))


@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("case", [case for case in CASES if case.rowwise], ids=str)
def test_a_row_is_the_same_alone_and_in_an_array(case, classes, isa, rng):
    for dtype in (np.float64, np.float32, np.float16):
        sample = case.sample(rng, (5, classes), dtype)
        options = sample.options | {"reduction": "none"}
        losses, gradient = case.function.value_and_grad(sample.input, sample.target, **options)
        _, hessian = case.function.grad_and_hess(sample.input, sample.target, **options)
        for row in range(5):
            input, target = sample.input[row], sample.target[row]
            loss, slope = case.function.value_and_grad(input, target, **options)
            _, curvature = case.function.grad_and_hess(input, target, **options)
            np.testing.assert_array_equal(loss, losses[row])
            np.testing.assert_array_equal(slope, gradient[row])
            np.testing.assert_array_equal(curvature, hessian[row])
        # The rows as positions of one image, so that classes lie apart.
        image = np.ascontiguousarray(sample.input.T)[None]
        target = sample.target[None] if case.target == "label" else np.ascontiguousarray(sample.target.T)[None]
        loss, slope = case.function.value_and_grad(image, target, **options)
        np.testing.assert_array_equal(loss[0], losses)
        np.testing.assert_array_equal(slope[0].T, gradient)


@pytest.mark.parametrize("case", [case for case in CASES if case.target == "label"], ids=str)
def test_labels_of_every_type(case, rng):
    sample = case.sample(rng, (300, 100))
    if sample.options.get("ignore_index") is None:
        sample.target[sample.target < 0] = 7
    expected = results(case, sample)
    for dtype in [*INTEGERS, *FLOATS]:
        for order in "<>":
            target = sample.target.astype(dtype if dtype is BFLOAT16 else np.dtype(dtype).newbyteorder(order))
            assert_same(results(case, sample._replace(target=target)), expected)
    binary = sample.target % 2
    expected = results(case, sample._replace(target=binary))
    assert_same(results(case, sample._replace(target=binary.astype(bool))), expected)
    nested = Sample(
        sample.input.tolist(),
        binary.tolist(),
        {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in sample.options.items()},
    )
    assert_same(results(case, nested), expected)


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
