"""The exact sum against `math.fsum`, whatever the order, the parts and the type."""

import copy
import itertools
import math
import pickle
from fractions import Fraction

import lossrs.functional as F
import numpy as np
import pytest
from cases import BFLOAT16, FLOATS, INTEGERS, instruction_set, threads
from hypothesis import given
from hypothesis import strategies as st
from layouts import LAYOUTS
from lossrs import ExactSum

EXTREMES = [0.0, -0.0, 5e-324, -5e-324, 2.2250738585072014e-308, 1.7976931348623157e308, 1.0, 2.0**-1022, 2.0**970]
numbers = st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.sampled_from(EXTREMES))
#: Few binades, so that the quick ways of adding a block are taken.
narrow = st.builds(math.ldexp, st.integers(-(2**53), 2**53), st.integers(-60, -20))
lists = st.one_of(st.lists(numbers, max_size=80), st.lists(narrow, max_size=80))


def sum_of(values) -> ExactSum:
    total = ExactSum()
    total.add(np.asarray(values, float))
    return total


def fsum(values) -> float:
    """Return the sum rounded once; `math.fsum` gives up where it overflows on the way."""
    try:
        return math.fsum(values)
    except OverflowError:
        total = sum(map(Fraction, values))
        try:
            return float(total)
        except OverflowError:
            return math.inf if total > 0 else -math.inf


@given(lists, st.integers(1, 40))
def test_sums_are_those_of_fsum(values, repeat):
    assert sum_of(values * repeat).value() == fsum(values * repeat)


@given(lists, st.randoms(use_true_random=False), st.lists(st.integers(0, 80), max_size=5))
def test_order_and_parts_do_not_matter(values, random, cuts):
    whole = sum_of(values)
    shuffled = random.sample(values, len(values))
    bounds = [0, *sorted(min(cut, len(values)) for cut in cuts), len(values)]
    merged = ExactSum()
    for start, stop in itertools.pairwise(bounds):
        merged.merge(pickle.loads(pickle.dumps(sum_of(shuffled[start:stop]))))
    assert merged.to_bytes() == whole.to_bytes()
    assert merged == whole
    assert merged.value() == whole.value()


@given(lists, lists, lists)
def test_merging_is_commutative_and_associative(a, b, c):
    def merged(*sums):
        total = ExactSum()
        for one in sums:
            total.merge(one)
        return total.to_bytes()

    x, y, z = sum_of(a), sum_of(b), sum_of(c)
    xy, yz = sum_of(a), sum_of(b)
    xy.merge(y)
    yz.merge(z)
    assert merged(x, y, z) == merged(z, y, x) == merged(y, x, z) == merged(xy, z) == merged(x, yz)
    assert merged(x, ExactSum()) == x.to_bytes()


@given(lists)
def test_what_is_added_and_taken_away_leaves_nothing(values):
    total = sum_of(values)
    total.add(-np.asarray(values, float))
    assert total == ExactSum()
    assert math.copysign(1, total.value()) == 1


@given(st.lists(st.sampled_from([math.inf, -math.inf, math.nan, 1.0, -1e308]), min_size=1, max_size=8))
def test_infinities_and_nan_are_added_as_by_ieee(values):
    special = [value for value in values if not math.isfinite(value)]
    expected = sum(special) if special else fsum(values)
    np.testing.assert_equal(sum_of(values).value(), expected)
    np.testing.assert_equal(pickle.loads(pickle.dumps(sum_of(values))).value(), expected)


def test_a_sum_may_overflow_on_the_way_and_at_the_end():
    assert sum_of([1.7e308, 1.7e308, -1.7e308]).value() == 1.7e308
    assert sum_of([1.7e308] * 2).value() == math.inf
    assert sum_of([-1.7e308] * 2).value() == -math.inf
    assert sum_of([1.7976931348623157e308, 2.0**969]).value() == 1.7976931348623157e308
    assert sum_of([1.7976931348623157e308, 2.0**970]).value() == math.inf


def test_ties_go_to_even():
    assert sum_of([1.0, 2.0**-53]).value() == 1.0
    assert sum_of([1.0, 2.0**-53, 5e-324]).value() == 1.0 + 2.0**-52
    assert sum_of([1.0 + 2.0**-52, 2.0**-53]).value() == 1.0 + 2.0**-51


@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS, bool], ids=lambda dtype: np.dtype(dtype).name)
def test_every_type(dtype, rng):
    values = np.asarray(200 * rng.random(5000) - (100 if np.dtype(dtype).kind in "fiV" else 0)).astype(dtype)
    assert sum_of(values).value() == math.fsum(values.tolist())


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
@pytest.mark.parametrize("dtype", FLOATS, ids=["float64", "float32", "float16", "bfloat16"])
def test_every_layout(dtype, layout, rng):
    for shape in [(), (0,), (2000,), (3, 5, 70)]:
        values = np.asarray(rng.standard_normal(shape)).astype(dtype)
        total = ExactSum()
        total.add(layout(values))
        assert total.value() == math.fsum(values.ravel().tolist())


def test_every_length_thread_and_instruction_set(isa, rng):
    for scale in (1, 20, 200):
        values = rng.standard_normal(70_001) * 10.0 ** rng.uniform(-scale, scale, 70_001)
        with threads(1), instruction_set("baseline"):
            expected = {length: sum_of(values[:length]).to_bytes() for length in (*range(70), 1023, 1025, 70_001)}
        assert sum_of(values).value() == math.fsum(values)
        for number in (1, 2, 5):
            with threads(number):
                for length, state in expected.items():
                    assert sum_of(values[:length]).to_bytes() == state


def test_single_precision_is_added_as_it_is(rng):
    values = (rng.standard_normal(3000) * 10.0 ** rng.uniform(-44, 37, 3000)).astype(np.float32)
    total = ExactSum()
    total.add(values)
    assert total.value() == math.fsum(values.tolist())
    total = ExactSum()
    total.add(np.full(70_000, 9, BFLOAT16))
    assert total.value() == 630_000


@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["float64", "float32"])
def test_losses_are_added_exactly_as_they_are_computed(dtype, isa, rng):
    """Magnitudes that rise, fall and leap from block to block, and within them; zeros; what is not finite."""
    steps = [0, 0, 12, -12, 3, 30, 30, -18, -5, 5, 0, 18]
    blocks = [np.full(640, 2.0**step) * rng.standard_normal(640) for step in steps]
    blocks += [np.zeros(640), np.ldexp(rng.standard_normal(640), rng.integers(-50, 50, 640)), np.full(640, 5e-30)]
    blocks += [np.where(np.arange(640) == 99, special, 1.0) for special in (np.inf, np.nan, 1e-19, 1e18)]
    for order in (range(len(blocks)), rng.permutation(len(blocks)), [0] * 100):
        for count in (640 * len(order), 640 * len(order) - 37):
            x = np.concatenate([blocks[i] for i in order])[:count].astype(dtype)
            for finite in (x, np.nan_to_num(x, nan=2.0, posinf=3.0)):
                losses, slopes = F.mse_loss.value_and_grad(finite, np.zeros_like(x), reduction="none")
                value, gradient = F.mse_loss.value_and_grad(finite, np.zeros_like(x), reduction="sum")
                np.testing.assert_equal(value, fsum(losses.astype(float)))
                np.testing.assert_equal(F.mse_loss(finite, np.zeros_like(x), reduction="sum"), value)
                np.testing.assert_array_equal(gradient, slopes)


def test_numbers_and_sequences_can_be_added():
    total = ExactSum()
    total.add(0.1)
    total.add([0.2, 0.3])
    total.add(1)
    assert total.value() == math.fsum([0.1, 0.2, 0.3, 1])
    total.merge(total)
    assert total.value() == 2 * math.fsum([0.1, 0.2, 0.3, 1])


def test_copies_are_apart():
    total = sum_of([0.1])
    for other in (copy.copy(total), copy.deepcopy(total), pickle.loads(pickle.dumps(total))):
        assert other == total
        other.add(1.0)
        assert other != total
    assert total.value() == 0.1
    assert total != 0.1
    assert repr(total) == "<ExactSum 0.1>"


def test_what_cannot_be_added_or_restored():
    total = sum_of([1.0])
    for wrong in ("1", None, 1j, np.array(["a"]), np.zeros(2, object)):
        with pytest.raises(TypeError, match="values has dtype"):
            total.add(wrong)
    with pytest.raises(TypeError, match="masked"):
        total.add(np.ma.masked_array([1.0]))
    with pytest.raises(TypeError):
        total.merge(1.0)
    for state in (b"", b"1", total.to_bytes() + b"1", b"\xff" * 4 + total.to_bytes()[:-12] + b"\x01" * 8):
        with pytest.raises(ValueError, match="not the state of an ExactSum"):
            ExactSum.from_bytes(state)
    assert total.value() == 1.0
