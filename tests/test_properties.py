"""Random calls: any loss, options, shape, type, layout and values, against the plain formula and a plain call."""

import contextlib
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
    verb,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import LAYOUTS
from reference import REFERENCES

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
    """Draw an input shape of at most some thousands of elements."""
    shape = draw(st.lists(lengths, min_size=int(case.rowwise), max_size=4))
    if case.rowwise:
        shape[min(1, len(shape) - 1)] = max(1, shape[min(1, len(shape) - 1)])
    while math.prod(length or 1 for length in shape) > 5000:
        shape[np.argmax(shape)] //= 2
    return tuple(shape)


@st.composite
def calls(draw, dtypes):
    """Draw a loss and arguments for it, some of magnitudes that training does not see."""
    case = draw(st.sampled_from(CASES))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    sample = case.sample(rng, draw(shapes(case)), draw(st.sampled_from(dtypes)))
    factor = draw(st.sampled_from([1.0, 0.5, 0.01]))
    # Half of a positive number, and of a fraction, is another.
    options = {name: value * factor if isinstance(value, float) else value for name, value in sample.options.items()}
    scale = draw(st.sampled_from([1.0, 1.0, 1e-6, 1e-2, 30.0, 1000.0]))
    if REFERENCES[case.name].input != "probability":
        sample = sample._replace(input=(sample.input * scale).astype(sample.input.dtype))
    weight = rng.choice([0, 0.3, 1, 2.5], case.samples_shape(sample.input)).astype(sample.input.dtype)
    return case, sample._replace(options=options), np.asarray(weight) if draw(st.booleans()) else None, rng


@given(calls([np.float64, np.float32]))
@settings(max_examples=10 * settings().max_examples)
def test_any_call_is_the_formula(call):
    case, sample, weight, _ = call
    dtype, options = sample.input.dtype, sample.options | {"sample_weight": weight}
    losses = case.function(sample.input, sample.target, reduction="none", **options)
    expected = case.expected(sample)[0] * (1 if weight is None else weight)
    # What underflows is only as near as the smallest number.
    normal = abs(expected) > 1e6 * np.finfo(dtype).tiny
    # A difference of logits is rounded before its exponential is taken, which is most of a loss near 0.
    limit = 8 + np.where(abs(expected) < 1e-3, np.ptp(sample.input) if case.rowwise and sample.input.size else 0, 0)
    assert np.all((ulps(losses, expected) <= limit)[normal])
    np.testing.assert_allclose(losses[~normal], expected[~normal].astype(dtype), atol=1e6 * np.finfo(dtype).tiny)
    assert case.function(sample.input, sample.target, reduction="sum", **options) == math.fsum(losses.ravel())
    mean = case.function(sample.input, sample.target, **options)
    np.testing.assert_equal(mean, exact_mean(case, sample, losses, weight))


@given(
    calls(FLOATS),
    st.booleans(),
    st.tuples(layouts, layouts, layouts, layouts),
    st.sampled_from([name for name in INSTRUCTION_SETS if available(name)]),
    st.sampled_from([1, 2, 5]),
)
@settings(max_examples=5 * settings().max_examples)
def test_any_call_has_the_bits_of_a_plain_one(call, special, laid, isa, number):
    """Infinities, NaN, subnormal numbers and the rest of them too."""
    case, sample, weight, rng = call
    if special and REFERENCES[case.name].input != "probability" and sample.input.size:
        places = rng.integers(0, sample.input.size, 1 + sample.input.size // 8)
        with np.errstate(over="ignore"):
            sample.input.ravel()[places] = rng.choice(SPECIAL, places.size).astype(sample.input.dtype)
    with instruction_set("baseline"), threads(1):
        expected = results(case, sample, weight)
    of_input, of_target, of_options, of_weight = laid
    options = sample.map(np.copy, of_options).options
    moved = sample._replace(input=of_input(sample.input), target=of_target(sample.target), options=options)
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
names = [
    "weight",
    "pos_weight",
    "sample_weight",
    "reduction",
    "out",
    "delta",
    "beta",
    "label_smoothing",
    "ignore_index",
]


@given(
    st.sampled_from(sorted(lossrs.losses)),
    st.sampled_from(ALL_VERBS),
    st.lists(anything, min_size=2, max_size=3),
    st.dictionaries(st.sampled_from(names), st.one_of(anything, st.tuples(arrays, arrays)), max_size=2),
)
@settings(max_examples=10 * settings().max_examples)
@pytest.mark.filterwarnings("ignore:.*(cast|NaN|overflow|string)")
def test_any_arguments_give_a_result_or_an_error_that_python_knows(name, of, arguments, options):
    with contextlib.suppress(ValueError, TypeError, MemoryError):
        verb(getattr(F, name), of)(*arguments, **options)
