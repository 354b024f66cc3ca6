"""The accumulator's bootstrap: against exact arithmetic and a second writing of the draws, and as statistics."""

import math
import pickle
import signal
from fractions import Fraction

import lossrs
import mpmath
import numpy as np
import pytest
from cases import instruction_set
from hypothesis import given
from hypothesis import strategies as st
from lossrs import Accumulator
from lossrs.accumulator import UNNUMBERED

LOSS = lossrs.MSELoss()
MASK = 2**64 - 1
STEP = 0x9E3779B97F4A7C15


def mix(state: int) -> int:
    state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & MASK
    state = (state ^ state >> 27) * 0x94D049BB133111EB & MASK
    return state ^ state >> 31


def poisson(draw: int) -> int:
    """Return the k that 32 random bits stand for, by the distribution function."""
    k = 0
    with mpmath.workprec(120):
        while draw >= mpmath.nint(2**32 * mpmath.exp(-1) * sum(1 / mpmath.factorial(i) for i in range(k + 1))):
            k += 1
    return k


def count(row: int, replicate: int, seed: int) -> int:
    start = mix((row & MASK) ^ mix(seed + STEP & MASK))
    draws = mix(start + STEP * (replicate // 2 + 1) & MASK)
    return poisson((draws >> 32 * (replicate % 2) & 0xFFFFFFFF) ^ 1 << 31)


losses = st.one_of(st.floats(-1e3, 1e3), st.floats(allow_nan=False, allow_infinity=False))
rows_lists = st.lists(st.tuples(losses, st.sampled_from([0.0, 0.5, 1.0, 3.0]), st.integers(-2, 99)), max_size=30)


@given(rows_lists, st.integers(1, 5), st.integers(0, MASK))
def test_replicates_are_what_a_second_writing_says(rows, replicates, seed):
    values, weights, numbers = zip(*rows, strict=True) if rows else ((), (), ())
    total = Accumulator(LOSS, bootstrap=replicates, seed=seed)
    with np.errstate(all="ignore"):
        total.update_losses(np.array(values, float), sample_weight=np.array(weights, float), ids=np.array(numbers, int))
    bootstrap = total.result().bootstrap
    for replicate in range(replicates):
        counts = [count(number, replicate, seed) for number in numbers]
        weight = sum((k * Fraction(w) for k, w in zip(counts, weights, strict=True)), Fraction(0))
        assert bootstrap.weights[replicate] == weight
        products = [w * v if w else 0.0 for v, w in zip(values, weights, strict=True)]
        if all(map(math.isfinite, products)):
            exact = sum((k * Fraction(v) for k, v in zip(counts, products, strict=True)), Fraction(0))
            try:
                rounded = float(exact)
            except OverflowError:
                rounded = math.inf if exact > 0 else -math.inf
            assert bootstrap.sums[replicate] == rounded


@pytest.fixture(scope="module")
def counts() -> np.ndarray:
    """How often each of 30,000 rows counts in each of 64 replicates: rows that are groups of their own."""
    total = Accumulator(LOSS, bootstrap=64, seed=1)
    total.update_losses(np.ones(30_000), group=np.arange(30_000))
    return np.array([group.bootstrap.weights for group in total.result().groups.values()])


def test_rows_count_as_the_poisson_distribution_has_it(counts):
    share = [math.exp(-1) / math.factorial(k) for k in range(6)]
    expected = counts.size * np.array([*share, 1 - sum(share)])
    observed = np.bincount(np.minimum(counts.astype(int), 6).ravel(), minlength=7)
    # Chi squared of 6 degrees of freedom is above 30 once in 25,000 times.
    assert ((observed - expected) ** 2 / expected).sum() < 30
    assert abs(counts.mean() - 1) < 4 / math.sqrt(counts.size)
    assert abs(counts.var() - 1) < 4 * math.sqrt(3 / counts.size)


def test_draws_of_replicates_and_of_rows_are_independent(counts):
    def largest_correlation(columns):
        correlations = np.corrcoef(columns, rowvar=False)
        return np.abs(correlations - np.eye(len(correlations))).max() * math.sqrt(len(columns))

    # Of 2,016 normal variates one is beyond 5.2 once in 2,500 times.
    assert largest_correlation(counts) < 5.2
    assert largest_correlation(counts == 0) < 5.2
    rows = counts[: 30_000 // 60 * 60].reshape(60, -1).T
    assert largest_correlation(rows) < 5.2
    neighbours = [np.corrcoef(counts[lag:, 0], counts[:-lag, 0])[0, 1] for lag in (1, 2, 3, 4, 8, 16, 64, 512, 1024)]
    assert np.abs(neighbours).max() < 4 / math.sqrt(len(counts))


@pytest.mark.parametrize("weighted", [False, True])
def test_the_standard_error_is_the_analytic_one(rng, weighted):
    total = Accumulator(LOSS, bootstrap=1000)
    rows = rng.exponential(size=100_000)
    total.update_losses(rows, sample_weight=rng.exponential(size=100_000) if weighted else None)
    result = total.result()
    # A standard deviation of 1,000 is known to 1/sqrt(2000).
    assert abs(result.bootstrap.standard_error / result.standard_error - 1) < 4 / math.sqrt(2000)
    lower, upper = result.interval(0.9)
    assert abs((upper - lower) / (2 * 1.645 * result.standard_error) - 1) < 0.12
    assert lower < result.mean < upper
    assert result.interval(0.5)[0] > lower


def test_intervals_cover_what_they_should(rng):
    total = Accumulator(LOSS, bootstrap=200)
    trials, rows = 1000, 200
    group = np.repeat(np.arange(trials), rows)
    total.update_losses(rng.gamma(4, size=trials * rows), group=group)
    lower, upper = total.result().groups.bootstrap.interval(0.9)
    covered = np.mean((lower < 4) & (upper > 4))
    # Percentile intervals of 200 rows are a little too short.
    assert 0.86 < covered < 0.93
    assert total.result().groups[5].interval(0.9) == (lower[5], upper[5])
    backwards = total.result().groups.sorted(lambda key: -key)
    assert (backwards.bootstrap.interval(0.9)[0] == lower[::-1]).all()
    errors = total.result().groups.bootstrap.standard_error
    assert errors[5] == total.result().groups[5].bootstrap.standard_error


def test_threads_and_instruction_sets_do_not_matter(rng):
    rows, weight = rng.exponential(size=100_000) ** 4, rng.integers(0, 3, 100_000) / 2

    def state(**arguments):
        total = Accumulator(LOSS, bootstrap=70)
        total.update_losses(rows, **arguments)
        total.update_losses(rows.astype(np.float32), **arguments)
        return total.to_bytes()

    def states():
        return [state(), state(sample_weight=weight), state(group=weight, ids=np.arange(100_000)[::-1])]

    weight = weight.astype(int) + 1
    expected = states()
    for threads in (1, 2, 5):
        lossrs.set_num_threads(threads)
        try:
            assert states() == expected
        finally:
            lossrs.set_num_threads(0)
    for name in ("baseline", "avx2", "avx512"):
        with instruction_set(name):
            assert states() == expected


def test_two_models_on_the_same_rows_are_paired(rng):
    rows = rng.exponential(size=5000)
    first, second, difference = (Accumulator(LOSS, bootstrap=50, seed=3) for _ in range(3))
    first.update_losses(rows)
    second.update_losses(rows + 0.25)
    difference.update_losses(rows + 0.25 - rows)
    one, two, both = (total.result().bootstrap for total in (first, second, difference))
    assert (one.weights == two.weights).all()
    np.testing.assert_allclose(two.means - one.means, both.means, rtol=1e-12)
    np.testing.assert_allclose(both.interval(), 0.25, rtol=1e-12)
    np.testing.assert_allclose((two - one).interval(), 0.25, rtol=1e-12)
    assert ((two - one).weights == one.weights).all()
    with pytest.raises(ValueError, match="not of the same rows"):
        two - Accumulator(LOSS, bootstrap=50).result().bootstrap


def test_replicates_do_not_depend_on_their_number_and_seeds_differ(rng):
    def bootstrap(replicates, seed=0):
        total = Accumulator(LOSS, bootstrap=replicates, seed=seed)
        total.update_losses(np.ones(1000))
        return total.result().bootstrap

    few, many = bootstrap(7), bootstrap(100)
    assert (many.weights[:7] == few.weights).all()
    assert (bootstrap(7, seed=1).weights != few.weights).any()
    assert len(set(many.weights)) > 50


def test_rows_of_one_id_are_drawn_together():
    names = np.array(["a", "b", "a", "c", "b", "a"])
    numbers = np.array([ord(name) for name in names])
    for ids in ({"ids": names}, {"ids": numbers}, {"cluster": names}, {"cluster": numbers, "ids": np.arange(6)}):
        total = Accumulator(LOSS, bootstrap=40)
        total.update_losses(np.ones(6), **ids, group=np.arange(6))
        weights = np.array([group.bootstrap.weights for group in total.result().groups.values()])
        assert (weights[0] == weights[2]).all()
        assert (weights[1] == weights[4]).all()
        assert (weights[0] != weights[1]).any()
        split = Accumulator(LOSS, bootstrap=40)
        for start in (3, 0):
            part = slice(start, start + 3)
            split.update_losses(np.ones(3), **{name: ids[name][part] for name in ids}, group=np.arange(6)[part])
        assert (split.result().bootstrap.weights == total.result().bootstrap.weights).all()


def test_rows_without_numbers_are_not_drawn():
    total = Accumulator(LOSS, bootstrap=3)
    before = total.to_bytes()
    with pytest.raises(ValueError, match="rows have no numbers"):
        total.update_losses([1.0, 2.0], first_row=UNNUMBERED)
    with pytest.raises(TypeError, match="cluster has dtype float64; expected integers of 64 bits or strings"):
        total.update_losses([1.0, 2.0], cluster=[1.5, 2.0])
    with pytest.raises(ValueError, match="cluster of shape"):
        total.update_losses([1.0, 2.0], cluster=[1, 2, 3])
    assert total.to_bytes() == before
    for named in ({"ids": ["a", "b"]}, {"cluster": [7, 8]}):
        total.update_losses([1.0, 2.0], first_row=UNNUMBERED, **named)
    assert total.result().rows == 4


def test_replicates_without_rows_do_not_count():
    total = Accumulator(LOSS, bootstrap=300)
    total.update_losses([5.0])
    bootstrap = total.result().bootstrap
    # exp(-1) of them have none.
    assert 80 < np.isnan(bootstrap.means).sum() < 140
    assert bootstrap.interval() == (5, 5)
    assert bootstrap.standard_error == 0
    nothing = Accumulator(LOSS, bootstrap=300).result().bootstrap
    assert np.isnan(nothing.interval()).all()
    assert math.isnan(nothing.standard_error)
    total.update_losses([math.nan, math.inf])
    assert np.isnan(total.result().interval()).all()


def test_intervals_need_replicates_and_a_level():
    total = Accumulator(LOSS)
    total.update_losses([1.0, 2.0], group=["a", "b"])
    with pytest.raises(ValueError, match="bootstrap=1000"):
        total.result().interval()
    assert total.result().groups.bootstrap is None
    drawn = Accumulator(LOSS, bootstrap=5)
    assert [len(column) for column in Accumulator(LOSS, bootstrap=5).result().bootstrap.__dict__.values()] == [5, 5]
    with pytest.raises(ValueError, match="level must be between 0 and 1, got 95"):
        drawn.result().interval(95)


def small_state() -> bytes:
    total = Accumulator(LOSS, bootstrap=3, seed=2)
    total.update_losses([1.0, 0.5, math.inf], sample_weight=[1.0, 0.5, 1.0], group=["a", "b", "b"])
    return total.to_bytes()


RECORDED = (
    "6c6f7373727320616363756d756c61746f720a0200000061000000000000007b2267726f757073223a205b747275652c20312c206e75"
    "6c6c5d2c20226c6f7373223a20224d53454c6f73732829222c20226e616d65223a20226d73655f6c6f7373222c20226f7074696f6e73"
    "223a207b22776569676874223a206e756c6c7d7dd4010000000000000200000000000000000300000000000000020000000000000003"
    "000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000f07fffffffffffffff"
    "7f00000000000000f0ffffffffffffffff7f000000000000000000000000000000000000000000000400000000000000046100000100"
    "00000000000000000000000000000000000000000000000000000000f03f000000000000000000000000000000f03f00000000000000"
    "000000000101000000000000000001010000000000000000000001020000000000000000010200000000000000000000000000000102"
    "000000000000000001020000000000000004000000000000000462000002000000000000000000000000000000010000000000000000"
    "0000000000e03f010000000000000000000000000000f07f02000000000000000001ff010000000000000040ff010000000000000010"
    "01ff0200000000000000800100000000000000ff010000000000000020ff020000000000000040010000000000000001000000010200"
    "00000000000000ff02000000000000008000000000000000000001010000000000000000ff010000000000000040ff02000000000000"
    "00800000000000000000cbf6c0f0"
)


def test_states_are_what_they_were_in_version_2():
    # Recorded when the format was made: a change to it, or to the draws, needs another version.
    assert small_state().hex() == RECORDED
    total = Accumulator.from_bytes(bytes.fromhex(RECORDED))
    assert (total.bootstrap, total.seed) == (3, 2)
    assert pickle.loads(pickle.dumps(total)) == total.copy() == total
    assert repr(total) == "<Accumulator(MSELoss(), bootstrap=3, seed=2) of 3 rows>"


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs a timer")
@pytest.mark.parametrize("grouped", [False, True])
def test_an_update_that_is_interrupted_adds_nothing(grouped):
    class InterruptError(Exception):
        pass

    def interrupt(number, frame):
        raise InterruptError

    total = Accumulator(LOSS, bootstrap=10_000)
    total.update_losses([1.0, 2.0], group=[1, 2])
    before, rows = total.to_bytes(), np.ones(10**7, np.float32)
    handler = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(InterruptError):
            total.update_losses(rows, group=np.arange(10**7) % 3 if grouped else None)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
    assert total.to_bytes() == before
