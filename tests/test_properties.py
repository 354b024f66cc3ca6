"""Random calls: any loss, options, shape, type, layout and values, against the plain formula and a plain call."""

import contextlib
import dataclasses
import math

import lossrs
import lossrs.functional as F
import numpy as np
import pytest
from cases import (
    ALL_VERBS,
    CASES,
    FLOATS,
    INSTRUCTION_SETS,
    INTEGERS,
    assert_same,
    exact_mean,
    instruction_set,
    results,
    threads,
    ulps,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import LAYOUTS

SPECIAL = [np.inf, -np.inf, np.nan, 0.0, -0.0, 1e30, -1e30, 1e-30, 5e-324]
lengths = st.one_of(st.integers(0, 5), st.sampled_from([15, 16, 17, 63, 64, 65, 1023, 1025]))
layouts = st.sampled_from([np.copy, *LAYOUTS])


def available(name: str) -> bool:
    try:
        with instruction_set(name):
            return True
    except ValueError:
        return False


@st.composite
def shapes(draw, case):
    """Draw a shape of the first operand of at most some thousands of elements, of as many axes as the loss takes."""
    axes = draw(st.sampled_from(sorted({len(shape) for shape in case.shapes})))
    shape = [draw(lengths) for _ in range(axes)]
    for axis in case.axes(shape):
        shape[axis] = max(1, shape[axis])
    while math.prod(length or 1 for length in shape) > 5000:
        shape[np.argmax(shape)] //= 2
    return tuple(shape)


#: What stays within its kind when it is scaled.
SCALED = ("real", "logit", "positive", "log_probability")


@st.composite
def calls(draw, dtypes):
    """Draw a loss and arguments for it, some of magnitudes that training does not see."""
    case = draw(st.sampled_from(CASES))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    sample = case.sample(rng, draw(shapes(case)), draw(st.sampled_from(dtypes)))
    factor = draw(st.sampled_from([1.0, 0.5, 0.01]))
    # Half of most numbers is as good as they are.
    for name, value in sample.options.items():
        if isinstance(value, float):
            with contextlib.suppress(ValueError):
                case.loss_class(**{name: value * factor})
                sample.options[name] = value * factor
    scale = draw(st.sampled_from([1.0, 1.0, 1e-6, 1e-2, 30.0, 1000.0]))
    for name, operand in case.operands.items():
        if operand.kind in SCALED:
            with np.errstate(over="ignore"):
                sample = sample.replace(**{name: np.asarray(sample[name] * scale).astype(sample[name].dtype)})
    weight = rng.choice([0, 0.3, 1, 2.5], case.samples_shape(sample)).astype(sample.first.dtype)
    return case, sample, np.asarray(weight) if draw(st.booleans()) else None, rng


@given(calls([np.float64, np.float32]))
@settings(max_examples=10 * settings().max_examples)
def test_any_call_is_the_formula(call):
    case, sample, weight, _ = call
    dtype, of_weight = sample.first.dtype, 1 if weight is None else weight
    losses = case.value(sample, reduction="none", sample_weight=weight)
    with np.errstate(over="ignore"):
        expected, magnitude = case.expected(sample)[0] * of_weight, case.magnitude(sample) * of_weight
    finite = abs(expected) < np.finfo(dtype).max
    np.testing.assert_array_equal(losses[~finite], np.full_like(losses, np.inf)[~finite])
    # What underflows is only as near as the smallest number.
    normal = finite & (magnitude > 1e6 * np.finfo(dtype).tiny)
    # A difference of logits is rounded before its exponential is taken, which is most of a loss near 0.
    near = 0 if case.elementwise or not sample.first.size else np.ptp(sample.first)
    limit = case.reference.ulp + 2 + np.where(abs(expected) < 1e-3, near, 0)
    assert np.all((ulps(losses, expected, magnitude=magnitude) <= limit)[normal])
    tiny = finite & ~normal
    np.testing.assert_allclose(losses[tiny], expected[tiny].astype(dtype), atol=1e6 * np.finfo(dtype).tiny)
    if finite.all():
        assert case.value(sample, reduction="sum", sample_weight=weight) == math.fsum(losses.ravel())
        mean = case.value(sample, sample_weight=weight)
        np.testing.assert_equal(mean, exact_mean(case, sample, losses, weight))


@given(
    calls(FLOATS),
    st.booleans(),
    st.lists(layouts, min_size=8, max_size=8),
    st.sampled_from([name for name in INSTRUCTION_SETS if available(name)]),
    st.sampled_from([1, 2, 5]),
)
@settings(max_examples=5 * settings().max_examples)
def test_any_call_has_the_bits_of_a_plain_one(call, special, laid, isa, number):
    """Infinities, NaN, subnormal numbers and the rest of them too."""
    case, sample, weight, rng = call
    for name, operand in case.operands.items():
        array = sample[name]
        if special and operand.kind in ("real", "logit", "log_probability") and array.size:
            places = rng.integers(0, array.size, 1 + array.size // 8)
            with np.errstate(over="ignore"):
                array.ravel()[places] = rng.choice(SPECIAL, places.size).astype(array.dtype)
    with instruction_set("baseline"), threads(1):
        expected = results(case, sample, weight)
    of_weight, of_options, *of_operands = laid
    moved = sample.map(np.copy, of_options)
    for (name, array), layout in zip(sample.operands.items(), of_operands, strict=False):
        moved.operands[name] = layout(array)
    with instruction_set(isa), threads(number):
        assert_same(results(case, moved, None if weight is None else of_weight(weight)), expected)


arrays = st.builds(
    lambda shape, dtype, layout, low: (np.copy if dtype is object else layout)(np.full(shape, low).astype(dtype)),
    st.lists(st.integers(0, 3), max_size=4),
    st.sampled_from([*FLOATS, *INTEGERS, bool, complex, "U3", "datetime64[s]", object, np.longdouble]),
    layouts,
    st.sampled_from([0, 1, 2, 200]),
)
anything = st.one_of(arrays, arrays, st.none(), st.integers(), st.floats(), st.text(max_size=3), st.lists(st.floats()))
options = {field.name for cls in lossrs.losses.values() for field in dataclasses.fields(cls)}
names = sorted(options | {"sample_weight", "out", "wrt"} | {name for case in CASES for name in case.operands})


@given(
    st.sampled_from(sorted(lossrs.losses)),
    st.sampled_from(ALL_VERBS),
    st.lists(anything, min_size=1, max_size=4),
    st.dictionaries(st.sampled_from(names), st.one_of(anything, st.tuples(arrays, arrays)), max_size=2),
)
@settings(max_examples=10 * settings().max_examples)
@pytest.mark.filterwarnings("ignore:.*(cast|NaN|overflow|string)")
def test_any_arguments_give_a_result_or_an_error_that_python_knows(name, of, arguments, options):
    with contextlib.suppress(ValueError, TypeError, MemoryError):
        function = getattr(F, name)
        getattr(function, of or "__call__", function)(*arguments, **options)
