"""CTC: against the sum over all alignments, and against 200 bits; its forms, lengths, weights and errors."""

import itertools
from dataclasses import dataclass
from typing import Any

import gmpy2
import lossrs
import lossrs.functional as F
import numpy as np
import pytest
from cases import BFLOAT16, FLOATS, INTEGERS, bits, instruction_set, threads, ulps
from hypothesis import given
from hypothesis import strategies as st
from layouts import LAYOUTS, read_only

gmpy2.get_context().precision = 200
REDUCTIONS = ("none", "mean", "sum")


@dataclass
class Batch:
    """Arguments of a call, targets padded by what is no label."""

    log_probs: Any
    targets: Any
    input_lengths: Any
    target_lengths: Any
    blank: int = 0

    @property
    def arguments(self) -> tuple[Any, ...]:
        return self.log_probs, self.targets, self.input_lengths, self.target_lengths

    @property
    def concatenated(self) -> Any:
        return np.concatenate([row[:length] for row, length in zip(self.targets, self.target_lengths, strict=True)])

    def sample(self, n: int) -> tuple[Any, ...]:
        """Return a sample's arguments."""
        return (
            self.log_probs[:, n],
            self.targets[n, : self.target_lengths[n]],
            self.input_lengths[n],
            self.target_lengths[n],
        )

    def __len__(self) -> int:
        return self.log_probs.shape[1]


def log_softmax(x):
    x = x - x.max(-1, keepdims=True, initial=-np.inf)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def draw(rng, steps, samples, classes, labels, dtype=np.float64, blank=0, scale=1.0) -> Batch:
    """Draw a batch of lengths that mostly can be aligned."""
    target_lengths = rng.integers(0, labels + 1, samples)
    input_lengths = np.minimum(steps, 2 * target_lengths + rng.integers(0, steps + 1, samples))
    targets = np.full((samples, labels), -7)
    for row, length in zip(targets, target_lengths, strict=True):
        row[:length] = (blank + rng.integers(1, max(classes, 2), length)) % max(classes, 2)
    log_probs = log_softmax(scale * rng.standard_normal((steps, samples, classes))).astype(dtype)
    return Batch(log_probs, targets, input_lengths, target_lengths, blank)


def by_definition(log_probs, labels, blank):
    """Return p and, for each step and class, the part of the alignments that say it: all are enumerated."""
    steps, classes = log_probs.shape
    log_probs = log_probs.astype(np.longdouble)
    total, parts = np.longdouble(0), np.zeros(log_probs.shape, np.longdouble)
    for said in itertools.product(range(classes), repeat=steps):
        if [label for label, _ in itertools.groupby(said) if label != blank] == list(labels):
            probability = np.exp(log_probs[np.arange(steps), list(said)].sum())
            total += probability
            parts[np.arange(steps), list(said)] += probability
    return total, parts


def in_200_bits(log_probs, labels, blank):
    """Return the loss and the gradient by the forward and the backward sums."""
    steps, classes = log_probs.shape
    y = [[gmpy2.exp(gmpy2.mpfr(float(x))) for x in row] for row in log_probs]
    states = [blank, *itertools.chain.from_iterable((int(label), blank) for label in labels)]
    skips = [s > 1 and states[s] != blank and states[s] != states[s - 2] for s in range(len(states))]
    zero = gmpy2.mpfr(0)
    forward = [[zero] * len(states) for _ in range(steps)]
    for t, s in itertools.product(range(steps), range(len(states))):
        if t:
            before = forward[t - 1]
            ways = before[s] + (before[s - 1] if s > 0 else 0) + (before[s - 2] if skips[s] else 0)
        else:
            ways = gmpy2.mpfr(s < 2)
        forward[t][s] = ways * y[t][states[s]]
    backward = [gmpy2.mpfr(s + 2 >= len(states)) for s in range(len(states))]
    total = sum(forward[-1][-2:], zero)
    gradient = np.empty((steps, classes))
    for t in reversed(range(steps)):
        if t + 1 < steps:
            after = [b * y[t + 1][state] for b, state in zip(backward, states, strict=True)] + [zero, zero]
            backward = [
                after[s] + after[s + 1] + (after[s + 2] if s + 2 < len(states) and skips[s + 2] else 0)
                for s in range(len(states))
            ]
        slopes = list(y[t])
        for s, state in enumerate(states):
            slopes[state] -= forward[t][s] * backward[s] / total
        gradient[t] = [float(slope) for slope in slopes]
    return -gmpy2.log(total), gradient


def expected_loss(batch: Batch, n: int) -> float:
    """Return a sample's loss, in many digits rounded once."""
    log_probs, labels, length, _ = batch.sample(n)
    if length == 0:
        return 0.0 if len(labels) == 0 else np.inf
    return float(in_200_bits(log_probs[:length], labels, batch.blank)[0])


batches = st.tuples(
    st.integers(0, 2**32 - 1), st.integers(0, 6), st.integers(1, 3), st.integers(2, 4), st.integers(0, 4), st.booleans()
)


@given(sizes=batches, moved=st.floats(-3, 3), reduction=st.sampled_from(REDUCTIONS), zero_infinity=st.booleans())
def test_is_the_sum_over_all_alignments(sizes, moved, reduction, zero_infinity):
    """The rows need not be those of a softmax, and classes may be impossible."""
    seed, steps, samples, classes, labels, impossible = sizes
    rng = np.random.default_rng(seed)
    batch = draw(rng, steps, samples, classes, labels, blank=int(rng.integers(classes)))
    batch.log_probs += moved
    if impossible:
        batch.log_probs[rng.random(batch.log_probs.shape) < 0.2] = -np.inf
    weight = rng.uniform(0.5, 2, samples)
    options = {"blank": batch.blank, "zero_infinity": zero_infinity, "reduction": reduction, "sample_weight": weight}
    value, gradient = F.ctc_loss.value_and_grad(*batch.arguments, **options)
    losses, slopes = np.zeros(samples), np.zeros(batch.log_probs.shape)
    for n in range(samples):
        log_probs, target, length, _ = batch.sample(n)
        total, parts = by_definition(log_probs[:length], target, batch.blank)
        with np.errstate(divide="ignore", invalid="ignore"):
            losses[n] = 0 if zero_infinity and total == 0 else -np.log(total)
            slopes[:length, n] = np.exp(log_probs[:length]) - parts / total
        if total == 0:
            slopes[:, n] = 0
            slopes[:length, n] = 0 if zero_infinity else np.nan
    divisor = np.maximum(batch.target_lengths, 1) * weight.sum() if reduction == "mean" else np.ones(samples)
    losses, slopes = losses * weight / divisor, slopes * (weight / divisor)[:, None]
    np.testing.assert_allclose(value, losses if reduction == "none" else losses.sum(), rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(gradient, slopes, rtol=1e-12, atol=1e-13)
    assert np.array_equal(value, F.ctc_loss(*batch.arguments, **options))
    grad_output = rng.standard_normal(samples) if reduction == "none" else 1.5
    product = F.ctc_loss.backward(grad_output, *batch.arguments, **options)
    scale = grad_output[:, None] if reduction == "none" else grad_output
    np.testing.assert_allclose(product, slopes * scale, rtol=1e-12, atol=1e-13)


# So peaked that most alignments are less probable than any double; and so long that not all rows of states are kept.
@pytest.mark.parametrize(
    ("steps", "classes", "labels", "scale"),
    [(1, 3, 1, 1), (40, 7, 12, 1), (40, 7, 12, 40), (150, 70, 20, 60), (130, 5, 30, 3), (1100, 4, 6, 2), (64, 2, 9, 9)],
)
@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["float64", "float32"])
def test_digits(steps, classes, labels, scale, dtype, rng):
    batch = draw(rng, steps, 2, classes, labels, dtype, scale=scale)
    losses, gradient = F.ctc_loss.value_and_grad(*batch.arguments, reduction="none")
    assert losses.dtype == gradient.dtype == dtype
    assert np.array_equal(losses, F.ctc_loss(*batch.arguments, reduction="none"))
    for n in range(2):
        log_probs, target, length, _ = batch.sample(n)
        if length == 0 or not np.isfinite(losses[n]):
            assert losses[n] == expected_loss(batch, n)
            continue
        loss, slopes = in_200_bits(log_probs[:length], target, 0)
        # Products of `length` factors, each of them rounded in double precision; and the result once more.
        unit, drift = np.finfo(dtype).eps, 4 * length**0.5 * np.finfo(np.float64).eps
        assert abs(losses[n] - float(loss)) <= unit * float(loss) + drift
        # Of the classes that are no labels the gradient is e^x, which itself is good to a unit.
        assert np.all(abs(gradient[:length, n] - slopes) <= 2 * unit * abs(slopes) + drift)
        assert not gradient[length:, n].any()


def test_a_sure_prediction_keeps_its_digits():
    """Nearly all of the probability is one alignment's: the loss is near 1e-6, and so is the gradient."""
    said = np.array([0, 1, 1, 0, 2, 0, 0, 2, 2, 0])
    log_probs = np.full((10, 3), np.log(5e-8), np.float32)
    log_probs[np.arange(10), said] = np.log1p(-1e-7)
    loss, gradient = F.ctc_loss.value_and_grad(log_probs, [1, 2, 2], 10, 3, reduction="none")
    expected, slopes = in_200_bits(log_probs, [1, 2, 2], 0)
    assert 1e-7 < loss < 1e-6
    assert ulps(loss, float(expected)) <= 1
    np.testing.assert_allclose(gradient, slopes, rtol=1e-7, atol=1e-15)


def test_no_alignment_is_too_improbable():
    """A model that says blank, of 80 labels: e^-2400 of its alignments is right, but it is all that there is."""
    log_probs = np.full((200, 1, 64), -30.0)
    log_probs[..., 0] = np.log1p(-63 * np.exp(-30.0))
    targets = np.arange(1, 81).reshape(1, -1) % 63 + 1
    loss, gradient = F.ctc_loss.value_and_grad(log_probs, targets, [200], [80], reduction="sum")
    expected, slopes = in_200_bits(log_probs[:, 0], targets[0], 0)
    assert abs(loss / float(expected) - 1) < 1e-15
    np.testing.assert_allclose(gradient[:, 0], slopes, rtol=1e-11, atol=1e-13)
    # For a while, the states that lead to the end are e^-5000 times as probable as the others.
    far = np.zeros((40, 1, 2))
    far[:20, :, 1], far[20:, :, 1] = -5000, -np.inf
    assert F.ctc_loss(far, [[1]], [40], [1], reduction="sum") == pytest.approx(5000 - np.log(20), rel=1e-15)
    far[:20, :, 0] = -1e30
    assert F.ctc_loss(far, [[1]], [40], [1], reduction="sum") == 20 * 5000


def test_sums_to_one_in_a_long_sample(rng):
    """However states are kept: at each step the alignments say something."""
    batch = draw(rng, 3000, 2, 20, 100)
    batch.input_lengths[:] = [3000, 2999]
    loss, gradient = F.ctc_loss.value_and_grad(*batch.arguments, reduction="none")
    said = np.exp(batch.log_probs) - gradient
    for n in range(2):
        np.testing.assert_allclose(said[: batch.input_lengths[n], n].sum(-1), 1, rtol=1e-12)
        alone = F.ctc_loss.value_and_grad(*batch.sample(n), reduction="none")
        assert alone[0] == loss[n]
        assert np.array_equal(alone[1], gradient[:, n])


def test_gradient_is_that_of_logits(rng):
    """Central differences of the loss of a softmax's logits; of log-probabilities alone, e^x less."""
    batch = draw(rng, 8, 2, 4, 3)
    logits, step = rng.standard_normal(batch.log_probs.shape), 1e-5

    def loss(change, of=log_softmax):
        return F.ctc_loss(of(logits + change), *batch.arguments[1:], zero_infinity=True)

    for of in (log_softmax, lambda x: x):
        _, gradient = F.ctc_loss.value_and_grad(of(logits), *batch.arguments[1:], zero_infinity=True)
        scale = 1 / np.maximum(batch.target_lengths, 1) / 2
        reached = np.arange(8)[:, None] < batch.input_lengths
        finite = F.ctc_loss(of(logits), *batch.arguments[1:], reduction="none") < np.inf
        for at in np.ndindex(logits.shape):
            change = np.zeros(logits.shape)
            change[at] = step
            slope = (loss(change, of) - loss(-change, of)) / (2 * step)
            if of is not log_softmax:
                slope += np.exp(logits[at]) * scale[at[1]] * reached[at[:2]] * finite[at[1]]
            assert gradient[at] == pytest.approx(slope, abs=1e-9)


def test_forms_of_targets_and_lengths(rng):
    batch = draw(rng, 12, 3, 5, 4)
    expected = F.ctc_loss.value_and_grad(*batch.arguments, reduction="none", zero_infinity=True)

    def same(actual):
        return all(np.array_equal(bits(a), bits(b)) for a, b in zip(actual, expected, strict=True))

    def call(*arguments):
        return F.ctc_loss.value_and_grad(*arguments, reduction="none", zero_infinity=True)

    log_probs, targets, input_lengths, target_lengths = batch.arguments
    assert same(call(log_probs, batch.concatenated, input_lengths, target_lengths))
    assert same(call(log_probs, targets.tolist(), input_lengths.tolist(), tuple(target_lengths)))
    for n in range(3):
        alone, labels, length, count = batch.sample(n)
        for target in (labels, labels[None], targets[n : n + 1]):
            for lengths in ((length, count), (length[None], count[None]), ([int(length)], [int(count)])):
                loss, gradient = call(alone, target, *lengths)
                assert loss.shape == ()
                assert loss == expected[0][n]
                assert np.array_equal(gradient, expected[1][:, n])
    mean = F.ctc_loss(*batch.sample(0), zero_infinity=True)
    assert type(mean) is float
    assert mean == pytest.approx(expected[0][0] / max(target_lengths[0], 1))
    padded = np.maximum(targets, 0)
    for dtype in INTEGERS:
        lengths = input_lengths.astype(dtype), target_lengths.astype(dtype)
        assert same(call(log_probs, padded.astype(dtype), *lengths))
        assert same(call(log_probs, batch.concatenated.astype(dtype.newbyteorder("S")), *lengths))
    loss = lossrs.CTCLoss(blank=0, zero_infinity=True, reduction="none")
    assert same(loss.value_and_grad(*batch.arguments))
    assert same(loss.value_and_grad(targets=targets, log_probs=log_probs, input_lengths=input_lengths,
                                    target_lengths=target_lengths))  # fmt: skip
    assert repr(loss) == "CTCLoss(reduction='none', zero_infinity=True)"
    assert not hasattr(F.ctc_loss, "grad_and_hess")


def test_nothing(rng):
    """No samples, no steps, no labels."""
    log_probs = log_softmax(rng.standard_normal((4, 2, 3)))
    nothing = np.zeros((4, 0, 3)), np.zeros((0, 5), int), [], []
    assert np.isnan(F.ctc_loss(*nothing))
    assert F.ctc_loss(*nothing, reduction="sum") == 0
    losses, gradient = F.ctc_loss.value_and_grad(*nothing, reduction="none")
    assert losses.shape == (0,)
    assert gradient.shape == (4, 0, 3)
    for targets in (np.zeros((2, 0), int), [], [[5], [5]]):
        losses = F.ctc_loss(log_probs, targets, [4, 0], [0, 0], reduction="none")
        np.testing.assert_allclose(losses, [-log_probs[:, 0, 0].sum(), 0], rtol=1e-15)
    for steps in (log_probs[:0], log_probs):
        losses, gradient = F.ctc_loss.value_and_grad(steps, [[1], [1]], [0, 0], [0, 1], reduction="none")
        assert np.array_equal(losses, [0, np.inf])
        assert not np.signbit(losses).any()
        assert not gradient.any()
    assert F.ctc_loss([[0.0]], [], 1, 0) == 0


def test_infinite_losses(rng):
    """Of 4 steps: too many labels, a label twice that leaves no room for the blank, an impossible class."""
    log_probs = log_softmax(rng.standard_normal((5, 5, 4)))
    log_probs[2, 2] = [-np.inf, 0, -np.inf, -np.inf]
    log_probs[:, 3, 3] = -np.inf
    targets = [[1, 2, 3, 1, 2], [1, 1, 2, 0, 0], [2, 2, 0, 0, 0], [1, 2, 0, 0, 0], [1, 2, 3, 0, 0]]
    arguments = log_probs, targets, [4, 3, 4, 4, 4], [5, 3, 2, 2, 3]
    losses, gradient = F.ctc_loss.value_and_grad(*arguments, reduction="none")
    assert np.array_equal(np.isinf(losses), [True, True, True, False, False])
    for n, length in enumerate(arguments[2]):
        assert np.isnan(gradient[:length, n]).all() == np.isinf(losses[n])
        assert not gradient[length:, n].any()
    # A class that cannot be said has probability 0, and 0 - 0 is 0.
    assert not gradient[:, 3, 3].any()
    zeroed, gradient_zeroed = F.ctc_loss.value_and_grad(*arguments, reduction="none", zero_infinity=True)
    assert np.array_equal(zeroed, np.where(np.isinf(losses), 0, losses))
    assert np.array_equal(gradient_zeroed[:, 3:], gradient[:, 3:])
    assert not gradient_zeroed[:, :3].any()
    assert F.ctc_loss(*arguments) == np.inf
    mean = F.ctc_loss(*arguments, zero_infinity=True)
    assert mean == pytest.approx((losses[3] / 2 + losses[4] / 3) / 5)


def test_nan(rng):
    """It shows where it is met: a class that is no label leaves the loss alone."""
    log_probs = log_softmax(rng.standard_normal((6, 1, 4)))
    expected, slopes = F.ctc_loss.value_and_grad(log_probs, [[1, 2]], [5], [2])
    log_probs[2, 0, 3] = log_probs[5] = np.nan
    loss, gradient = F.ctc_loss.value_and_grad(log_probs, [[1, 2]], [5], [2])
    assert loss == expected
    slopes[2, 0, 3] = np.nan
    assert np.array_equal(gradient, slopes, equal_nan=True)
    for zero_infinity in (False, True):
        options = {"reduction": "none", "zero_infinity": zero_infinity}
        losses, gradient = F.ctc_loss.value_and_grad(log_probs, [[1, 3]], [5], [2], **options)
        assert np.isnan(losses).all()
        assert np.isnan(gradient[:5]).all()
        assert not gradient[5].any()


@pytest.mark.parametrize("dtype", FLOATS, ids=lambda dtype: np.dtype(dtype).name)
def test_weights(dtype, rng):
    batch = draw(rng, 20, 6, 70, 4, dtype)
    weight = rng.uniform(0.5, 2, 6).astype(dtype)
    wide = weight.astype(np.float64)
    losses, slopes = F.ctc_loss.value_and_grad(*batch.arguments, reduction="none", zero_infinity=True)
    weighed, gradient = F.ctc_loss.value_and_grad(
        *batch.arguments, reduction="none", sample_weight=weight, zero_infinity=True
    )
    eps = 4 * float(max(np.finfo(np.float64).eps, 2.0 ** -{8: 52, 4: 23, 2: 7}[np.dtype(dtype).itemsize]))
    np.testing.assert_allclose(weighed.astype(float), losses.astype(float) * wide, rtol=eps)
    np.testing.assert_allclose(gradient.astype(float), slopes.astype(float) * wide[:, None], rtol=eps, atol=eps)
    mean = F.ctc_loss(*batch.arguments, sample_weight=weight, zero_infinity=True)
    divided = losses.astype(float) / np.maximum(batch.target_lengths, 1)
    assert mean == pytest.approx((wide * divided).sum() / wide.sum(), rel=eps)
    assert F.ctc_loss(*batch.arguments, sample_weight=2.0, zero_infinity=True) == pytest.approx(
        F.ctc_loss(*batch.arguments, zero_infinity=True), rel=eps
    )


@pytest.mark.parametrize("padded", [True, False])
def test_a_sample_of_weight_zero_is_not_looked_at(padded, rng):
    batch = draw(rng, 10, 3, 5, 4)
    expected = F.ctc_loss.value_and_grad(*batch.arguments, zero_infinity=True, sample_weight=[1, 0, 2])
    batch.log_probs[:, 1] = np.nan
    batch.input_lengths[1] = 99
    batch.targets[1] = 1234
    if padded:
        batch.target_lengths[1] = -5
    targets = batch.targets if padded else batch.concatenated
    lengths = batch.input_lengths, batch.target_lengths
    loss, gradient = F.ctc_loss.value_and_grad(
        batch.log_probs, targets, *lengths, zero_infinity=True, sample_weight=[1, 0, 2]
    )
    assert loss == expected[0]
    assert np.array_equal(gradient, expected[1])
    assert not gradient[:, 1].any()
    assert np.isnan(F.ctc_loss(batch.log_probs, targets, *lengths, sample_weight=0.0))


@pytest.mark.parametrize("dtype", [np.float16, BFLOAT16], ids=["float16", "bfloat16"])
def test_half_precision_is_computed_in_single(dtype, rng):
    batch = draw(rng, 30, 4, 70, 6, dtype)
    for reduction in REDUCTIONS:
        options = {"reduction": reduction, "zero_infinity": True}
        value, gradient = F.ctc_loss.value_and_grad(*batch.arguments, **options)
        wide = F.ctc_loss.value_and_grad(batch.log_probs.astype(np.float32), *batch.arguments[1:], **options)
        assert np.array_equal(value, wide[0].astype(dtype) if reduction == "none" else wide[0])
        assert np.array_equal(gradient, wide[1].astype(dtype))
        assert gradient.dtype == dtype


def all_results(arguments, weight):
    """Return what all verbs say, as bytes; so NaN are compared, too."""
    results: list[Any] = []
    for reduction in REDUCTIONS:
        options = {"reduction": reduction, "sample_weight": weight}
        results += F.ctc_loss.value_and_grad(*arguments, **options)
        results.append(F.ctc_loss(*arguments, **options))
        grad_output = weight if reduction == "none" else 0.5
        results.append(F.ctc_loss.backward(grad_output, *arguments, **options))
    return [bits(result).tobytes() for result in results]


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_any_layout(layout, rng):
    for dtype in FLOATS:
        for classes in (3, 64, 1100):
            batch = draw(rng, 7, 4, classes, 3, dtype)
            weight = rng.random(4).astype(dtype)
            expected = all_results(batch.arguments, weight)
            assert all_results([layout(argument) for argument in batch.arguments], layout(weight)) == expected
            moved = (layout(batch.log_probs), layout(batch.concatenated), *batch.arguments[2:])
            assert all_results(moved, weight) == expected
            losses, gradient = F.ctc_loss.value_and_grad(*batch.arguments, reduction="none")
            if layout is not read_only:
                out = layout(np.zeros_like(losses)), layout(np.zeros_like(gradient))
                F.ctc_loss(*batch.arguments, reduction="none", out=out[0])
                F.ctc_loss.value_and_grad(*batch.arguments, reduction="none", out=out[1])
                assert np.array_equal(bits(out[0]), bits(losses))
                assert np.array_equal(bits(out[1]), bits(gradient))


@pytest.mark.parametrize("steps", [30, 1500])
def test_the_gradient_may_be_written_over_the_log_probabilities(steps, rng):
    for classes in (5, 1100) if steps == 30 else (5,):
        batch = draw(rng, steps, 3, classes, 9)
        loss, gradient = F.ctc_loss.value_and_grad(*batch.arguments)
        again, out = F.ctc_loss.value_and_grad(*batch.arguments, out=batch.log_probs)
        assert out is batch.log_probs
        assert loss == again
        assert np.array_equal(bits(out), bits(gradient))


def test_same_bits_on_any_number_of_threads_and_instruction_set(isa, rng):
    for dtype in (np.float64, np.float32):
        batch = draw(rng, 150, 9, 70, 20, dtype)
        with instruction_set("baseline"):
            expected = all_results(batch.arguments, np.ones(9, dtype))
        assert lossrs.instruction_set() == isa
        for number in (1, 2, 5):
            with threads(number):
                assert all_results(batch.arguments, np.ones(9, dtype)) == expected


SHAPES_THAT_DO_NOT_FIT = [
    ({"log_probs": np.zeros(3)}, r"^log_probs has shape \(3,\); expected \(T, N, C\) or \(T, C\)$"),
    ({"log_probs": np.zeros((2, 2, 2, 2))}, "^log_probs has shape"),
    ({"targets": [[1], [2], [3]]}, r"^targets has shape \(3, 1\); expected \(2, S\), or one axis of all labels"),
    ({"targets": 1}, r"^targets has shape \(\)"),
    ({"input_lengths": [4]}, r"^input_lengths has shape \(1,\); expected \(2,\) for log_probs of shape \(4, 2, 3\)$"),
    ({"target_lengths": 1}, r"^target_lengths has shape \(\); expected \(2,\)"),
    ({"input_lengths": [5, 4]}, r"^input_lengths\[0\] is 5; log_probs has 4 steps$"),
    ({"input_lengths": [4, -1]}, r"^input_lengths\[1\] is -1; log_probs has 4 steps$"),
    ({"target_lengths": [1, 3]}, r"^target_lengths\[1\] is 3; targets has 2 labels there$"),
    ({"target_lengths": [-1, 1]}, r"^target_lengths\[0\] is -1; targets has 2 labels there$"),
    ({"targets": [1, 2], "target_lengths": [1, 2]}, r"^target_lengths\[1\] is 2; targets has 1 labels left$"),
    ({"targets": [1, 2, 1, 1]}, r"^targets has 4 labels; target_lengths add up to 3$"),
    ({"blank": 3}, r"^blank must be in \[0, 3\), got 3$"),
    ({"blank": -1}, r"^blank must be in \[0, 3\), got -1$"),
    ({"sample_weight": [1, 2, 3]}, "^sample_weight of shape"),
]


@pytest.mark.parametrize(("change", "message"), SHAPES_THAT_DO_NOT_FIT)
def test_what_does_not_fit(change, message):
    """The error comes before anything is written."""
    arguments = {"log_probs": np.zeros((4, 2, 3)), "targets": [[1, 2], [2, 1]], "input_lengths": [4, 3],
                 "target_lengths": [2, 1]}  # fmt: skip
    F.ctc_loss(**arguments)
    out = np.full((4, 2, 3), 7.0)
    with pytest.raises(ValueError, match=message):
        F.ctc_loss.value_and_grad(**arguments | change, out=out)
    assert np.all(out == 7)


@pytest.mark.parametrize(
    ("label", "what"),
    [(3, r"is outside \[0, 3\)"), (-1, r"is outside \[0, 3\)"), (0, "is the blank"), (2**70, r"is outside \[0, 3\)"),
     (1.5, "is not a whole number")],
)  # fmt: skip
def test_labels_that_do_not_fit(label, what):
    out = np.full((9, 3, 3), 7.0)
    targets = np.array([[1, 2], [2, 1], [1, label]], float if isinstance(label, float) or label > 9 else int)
    for given_targets in (targets, targets.ravel()):
        with pytest.raises(lossrs.LabelError, match=rf"^label .* at row 2, position 1 {what}$") as caught:
            F.ctc_loss.value_and_grad(np.zeros((9, 3, 3)), given_targets, [9, 9, 9], [2, 2, 2], out=out)
        assert caught.value.row == 2
        assert caught.value.label == label
        assert np.all(out == 7)
    with pytest.raises(lossrs.LabelError, match=rf"^label .* at position 1 {what}$") as caught:
        F.ctc_loss(np.zeros((9, 3)), targets[2], 9, 2)
    assert caught.value.row == 0
    # What lies beyond a sample's labels is not looked at.
    assert F.ctc_loss(np.zeros((9, 3, 3)), targets, [9, 9, 9], [2, 2, 1]) < np.inf


def test_types_that_do_not_fit():
    arguments = np.zeros((4, 2, 3)), [[1, 2], [2, 1]], [4, 3], [2, 1]
    for at, name in ((2, "input_lengths"), (3, "target_lengths")):
        changed = [*arguments[:at], [1.0, 2.0], *arguments[at + 1 :]]
        with pytest.raises(TypeError, match=f"^{name} must be of an integer type$"):
            F.ctc_loss(*changed)
    for at, name in enumerate(("log_probs", "targets", "input_lengths", "target_lengths")):
        changed = [*arguments[:at], np.ma.masked_array(arguments[at]), *arguments[at + 1 :]]
        with pytest.raises(TypeError, match=f"^{name} is a masked array"):
            F.ctc_loss(*changed)
    with pytest.raises(TypeError, match=r"^blank must be an integer, got float$"):
        F.ctc_loss(*arguments, blank=0.5)
    with pytest.raises(ValueError, match=r"^reduction must be"):
        F.ctc_loss(*arguments, reduction="batchmean")
    with pytest.raises(TypeError, match=r"^zero_infinity must be True or False"):
        F.ctc_loss(*arguments, zero_infinity="yes")
    with pytest.raises(TypeError, match="ctc_loss is missing 'target_lengths'"):
        F.ctc_loss(*arguments[:3])
