"""Losses of embeddings: formulas and their derivatives, ties, coincident and zero vectors, distances, errors."""

import pickle
import re

import lossrs
import lossrs.functional as F
import numpy as np
import pytest
import reference
from cases import CASES, assert_same, threads
from lossrs.definitions.embeddings import EmbeddingsLoss

INF, NAN = np.inf, np.nan

EMBEDDINGS = [case for case in CASES if issubclass(case.loss_class, EmbeddingsLoss)]
EACH = pytest.mark.parametrize("case", EMBEDDINGS, ids=str)


@EACH
@pytest.mark.parametrize("shape", [(4, 16), (3, 37), (2, 3, 130), (1, 1024), (1, 1100), (40, 64)], ids=str)
def test_losses_of_long_vectors(case, shape, rng):
    """Of one group of rows and of several, of whole lanes and not, of one block and of two."""
    sample = case.sample(rng, shape)
    losses, limit = case.value(sample, reduction="none"), case.magnitude(sample) * 1e-14
    assert np.all(abs(losses - case.expected(sample)[0]) <= limit)


@EACH
def test_derivatives_of_long_vectors(case, rng):
    """A step along the gradient makes the difference that it says."""
    sample = case.sample(rng, (8, 1500))
    losses, gradients = case.value_and_grad(sample, reduction="none")
    length = np.sqrt(sum((gradient**2).sum(-1, keepdims=True) for gradient in gradients))
    for sign in (-1, 1):
        step = sign * 1e-7 / np.maximum(length, 1e-300)
        moved = {name: sample[name] + step * gradient for name, gradient in zip(case.inputs, gradients, strict=True)}
        difference = case.expected(sample.replace(**moved))[0] - case.expected(sample)[0]
        np.testing.assert_allclose(difference.astype(float), sign * 1e-7 * length[:, 0], rtol=1e-4, atol=1e-15)
    assert np.any(losses > 0)


@EACH
def test_gradients_take_the_place_of_long_vectors(case, rng):
    sample = case.sample(rng, (5, 1500), np.float32)
    value, gradients = case.value_and_grad(sample)
    again, results = case.value_and_grad(sample, out=tuple(sample[name] for name in case.inputs))
    assert again == value
    np.testing.assert_array_equal(results, gradients)


@EACH
def test_same_bits_whatever_the_threads_and_the_layout(case, rng):
    def call(sample):
        losses, gradients = case.value_and_grad(sample, reduction="none")
        return {"losses": losses} | dict(zip(case.inputs, gradients, strict=True))

    sample = case.sample(rng, (700, 130), np.float32)
    with threads(1):
        alone = call(sample)
    with threads(4):
        assert_same(call(sample), alone)
    assert_same(call(sample.map(np.asfortranarray)), alone)
    assert_same(call(sample.map(lambda array: array.astype(array.dtype.newbyteorder()))), alone)
    assert_same(call(case.take(sample, slice(3, 9))), {name: array[3:9] for name, array in alone.items()})


def value_and_grad(name, *vectors, **options):
    """Return the loss of one row and its gradients."""
    return getattr(F, name).value_and_grad(*map(np.array, vectors), reduction="sum", **options)


def test_swap_shares_a_tie():
    """The negative is equally far from both: half of its gradient is due to each, as torch has it."""
    anchor, positive, negative = [0.0, 0.0], [2.0, 0.0], [1.0, 3.0]
    value, (to_a, to_p, to_n) = value_and_grad(
        "triplet_margin_loss", anchor, positive, negative, margin=5.0, eps=0.0, swap=True
    )
    apart = np.sqrt(10)
    assert value == pytest.approx(7 - apart)
    np.testing.assert_allclose(to_n, [0, -3 / apart], atol=1e-16)
    np.testing.assert_allclose(to_a, [-1 + 0.5 / apart, 1.5 / apart])
    np.testing.assert_allclose(to_p, [1 - 0.5 / apart, 1.5 / apart])


def test_swap_takes_the_nearer():
    value, (to_a, to_p, to_n) = value_and_grad(
        "triplet_margin_loss", [0.0], [2.0], [3.0], margin=5.0, eps=0.0, p=1, swap=True
    )
    assert (value, to_a, to_p, to_n) == (6.0, -1.0, 2.0, -1.0)


def test_the_largest_features_share_the_gradient():
    value, (to_a, to_p, to_n) = value_and_grad(
        "triplet_margin_loss", [0.0, 0.0, 0.0], [2.0, -2.0, 1.0], [0.0, 4.0, 0.0], margin=5.0, eps=0.0, p=INF
    )
    assert value == 3
    np.testing.assert_array_equal(to_p, [0.5, -0.5, 0])
    np.testing.assert_array_equal(to_n, [0, -1, 0])
    np.testing.assert_array_equal(to_a, [-0.5, 1.5, 0])


@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 3.0, INF])
def test_coincident_vectors_have_no_gradient(p):
    value, gradients = value_and_grad("triplet_margin_loss", [1.0, 2.0], [1.0, 2.0], [1.0, 2.0], eps=0.0, p=p)
    assert value == 1
    assert not np.any(gradients)
    # The eps may make them coincide, too.
    value, (_, to_p, _) = value_and_grad(
        "triplet_margin_loss", [1.0, 2.0], [1.5, 2.5], [1.5, 9.0], margin=99.0, eps=0.5, p=p
    )
    assert np.isfinite(value)
    assert not np.any(to_p)


def test_coincident_dissimilar_vectors_have_a_loss_and_no_gradient():
    value, gradients = value_and_grad("contrastive_loss", [1.0, 2.0], [1.0, 2.0], 0, margin=3.0)
    assert value == 9
    assert not np.any(gradients)


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0, INF])
def test_a_loss_of_zero_has_no_gradient(p):
    """Just at the margin, as torch has it, and with an infinite vector far beyond it."""
    for negative in ([2.0, 0.0], [INF, 0.0]):
        value, gradients = value_and_grad(
            "triplet_margin_loss", [0.0, 0.0], [0.0, 1.0], negative, eps=0.0, margin=1.0, p=p
        )
        assert value == 0
        assert not np.any(gradients)
    for margin in (0.0, 0.5):
        value, gradients = value_and_grad("cosine_embedding_loss", [1.0, 0.0], [0.0, 1.0], -1, margin=margin)
        assert value == 0
        assert not np.any(gradients)


def test_a_vector_of_zeros_is_at_right_angles():
    value, (to_first, to_second) = value_and_grad("cosine_embedding_loss", [1.0, 2.0, 2.0], [0.0, 0.0, 0.0], 1)
    assert value == pytest.approx(1, abs=1e-15)
    np.testing.assert_allclose(to_first, 0, atol=1e-12)
    np.testing.assert_allclose(to_second, [-1e6 / 3, -2e6 / 3, -2e6 / 3])
    value, gradients = value_and_grad("cosine_embedding_loss", [1.0, 2.0, 2.0], [0.0, 0.0, 0.0], -1)
    assert value == 0
    assert not np.any(gradients)


@pytest.mark.parametrize("angle", [1, 1e-2, 1e-3, 1e-4])
def test_nearly_parallel_vectors_keep_their_loss(angle, rng):
    """In float32, 1 less the cosine is lost below 1e-7; twice the square of the sine of half the angle is not."""
    first = rng.normal(size=300)
    second = rng.normal(size=300)
    second -= first * (first @ second) / (first @ first)
    second = 5 * (first * np.cos(angle) + second * np.sin(angle) * np.linalg.norm(first) / np.linalg.norm(second))
    first, second = first.astype(np.float32), second.astype(np.float32)
    exact = reference.cosine_embedding(first.astype(np.longdouble), second.astype(np.longdouble), 1)[0]
    value, (gradient, _) = value_and_grad("cosine_embedding_loss", first, second, 1)
    assert value == pytest.approx(float(exact), rel=max(5e-7, 1e-14 / angle**2))
    # The gradient is at right angles to the vector, and as long as the sine over its length.
    length = np.linalg.norm(first.astype(float))
    assert abs(first.astype(float) @ gradient) < 1e-6 * length
    assert np.linalg.norm(gradient) * length == pytest.approx(np.sin(angle), rel=1e-5 / angle)


def test_long_vectors_have_a_cosine():
    """A float32 may be beyond the root of the largest."""
    first, second = np.array([3e30, 4e30], np.float32), np.array([4e30, 3e30], np.float32)
    assert F.cosine_embedding_loss(first, second, 1) == pytest.approx(0.04, rel=1e-6)


@EACH
def test_nan_stays_in_its_row(case, rng):
    sample = case.sample(rng, (3, 20))
    expected, others = case.value_and_grad(sample, reduction="none")
    sample.first[1, 5] = NAN
    losses, gradients = case.value_and_grad(sample, reduction="none")
    assert np.isnan(losses[1])
    assert all(np.isnan(gradient[1, 5]) for gradient in gradients)
    np.testing.assert_array_equal(losses[::2], expected[::2])
    for gradient, other in zip(gradients, others, strict=True):
        np.testing.assert_array_equal(gradient[::2], other[::2])


@EACH
def test_vectors_of_no_features_coincide(case, rng):
    sample = case.sample(rng, (3, 0))
    losses, gradients = case.value_and_grad(sample, reduction="none")
    np.testing.assert_array_equal(losses, case.expected(sample)[0])
    assert all(gradient.shape == (3, 0) for gradient in gradients)


def euclidean(x, y):
    return np.linalg.norm(x - y + 1e-6, axis=-1)


@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_a_distance_of_the_callers(swap, reduction, rng):
    triplet = rng.normal(size=(3, 9, 5))
    options = {"swap": swap, "margin": 0.7, "reduction": reduction, "sample_weight": rng.uniform(size=9)}
    named = F.triplet_margin_with_distance_loss(*triplet, **options)
    given = F.triplet_margin_with_distance_loss(*triplet, distance_function=euclidean, **options)
    np.testing.assert_allclose(given, named, rtol=1e-14)
    assert type(given) is type(named)
    weight = options.pop("sample_weight")
    loss = lossrs.TripletMarginWithDistanceLoss(distance_function=euclidean, **options)
    np.testing.assert_array_equal(loss(*triplet, sample_weight=weight), given)
    assert pickle.loads(pickle.dumps(loss)) == loss
    F.triplet_margin_loss(*triplet, **options)


def test_a_distance_of_the_callers_has_no_gradient(rng):
    triplet = list(rng.normal(size=(3, 4, 5)))
    message = "distance_function is a Python function, whose gradient is not known"
    loss = lossrs.TripletMarginWithDistanceLoss(distance_function=euclidean)
    for call in (
        lambda: F.triplet_margin_with_distance_loss.value_and_grad(*triplet, distance_function=euclidean),
        lambda: F.triplet_margin_with_distance_loss.backward(1.0, *triplet, distance_function=euclidean),
        lambda: loss.value_and_grad(*triplet),
    ):
        with pytest.raises(TypeError, match=message):
            call()
    with pytest.raises(ValueError, match=re.escape("returned distances of shapes (4,) and (3,)")):
        F.triplet_margin_with_distance_loss(
            *triplet, distance_function=lambda x, y: np.zeros(4 if y is triplet[1] else 3)
        )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: F.cosine_embedding_loss([[1.0]] * 3, [[1.0]] * 3, [1, -1, 0]),
            "target 0.0 at row 2 is neither 1 nor -1",
        ),
        (lambda: F.contrastive_loss([[1.0]] * 2, [[1.0]] * 2, [1, -1]), "target -1.0 at row 1 is neither 0 nor 1"),
        (lambda: F.contrastive_loss([1.0], [1.0], NAN), "target NaN is neither 0 nor 1"),
        (lambda: F.contrastive_distance_loss([-1.0], [1]), "distance -1.0 at row 0 is less than 0"),
        (lambda: F.contrastive_distance_loss([1.0], [1.5]), "target 1.5 at row 0 is outside [0, 1]"),
        (
            lambda: F.cosine_embedding_loss(np.ones((2, 3)), np.ones((2, 3)), np.ones(3)),
            "target has shape (3,); expected (2,), one for each row of input1, which has shape (2, 3)",
        ),
        (
            lambda: F.cosine_embedding_loss(np.ones((2, 3)), np.ones((1, 3)), np.ones(2)),
            "input1 has shape (2, 3) and input2 (1, 3); they must be the same",
        ),
        (
            lambda: F.triplet_margin_loss(np.ones((2, 3)), np.ones((2, 3)), np.ones(3)),
            "anchor has shape (2, 3) and negative (3,); they must be the same",
        ),
        (lambda: F.triplet_margin_loss(1.0, 2.0, 3.0), "anchor must have an axis of features, got a number"),
        (lambda: lossrs.TripletMarginLoss(p=0.5), "p must be at least 1, got 0.5"),
        (lambda: lossrs.TripletMarginLoss(p=NAN), "p must be at least 1, got NaN"),
        (lambda: lossrs.TripletMarginLoss(margin=0), "margin must be positive, got 0"),
        (lambda: lossrs.TripletMarginWithDistanceLoss(margin=-1.0), "margin must be positive, got -1"),
        (
            lambda: lossrs.TripletMarginWithDistanceLoss(margin=-1.0, distance_function=euclidean),
            "margin must be positive, got -1",
        ),
        (
            lambda: lossrs.TripletMarginWithDistanceLoss(distance_function="euclid"),
            "distance_function must be one of 'euclidean', 'squared_euclidean', 'cosine', 'manhattan', got \"euclid\"",
        ),
        (
            lambda: F.triplet_margin_with_distance_loss([1.0], [1.0, 2.0], [1.0], distance_function=euclidean),
            "anchor has shape (1,) and positive (2,); they must be the same",
        ),
        (lambda: lossrs.ContrastiveLoss(margin=0.0), "margin must be positive, got 0"),
    ],
)
def test_errors_say_what_and_where(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


def test_a_target_that_is_none_leaves_the_inputs_as_they_were(rng):
    first, second = rng.normal(size=(2, 50, 40))
    before = first.copy(), second.copy()
    target = np.ones(50)
    target[-1] = 2
    with pytest.raises(lossrs.DomainError) as raised:
        F.cosine_embedding_loss.value_and_grad(first, second, target, out=(first, second))
    assert (raised.value.row, raised.value.value) == (49, 2)
    np.testing.assert_array_equal((first, second), before)
    # Where it weighs nothing it may be anything.
    weight = np.append(np.ones(49), 0)
    assert np.isfinite(F.cosine_embedding_loss(first, second, target, sample_weight=weight))


def test_targets_are_of_any_type(rng):
    first, second = rng.normal(size=(2, 6, 5)).astype(np.float32)
    target = np.array([1, 0, 0, 1, 1, 0])
    losses = F.contrastive_loss(first, second, target, margin=4.0)
    for dtype in (bool, np.uint8, np.int16, np.float16, np.float32, float, ">i4"):
        assert F.contrastive_loss(first, second, target.astype(dtype), margin=4.0) == losses
    distance = np.sqrt(((first - second) ** 2).sum(-1))
    assert F.contrastive_distance_loss(distance, target, margin=4.0) == pytest.approx(losses, rel=1e-6)
    assert not hasattr(F.contrastive_loss, "grad_and_hess")
    with pytest.raises(TypeError, match="contrastive_loss has no Hessian"):
        lossrs.ContrastiveLoss().grad_and_hess(first, second, target)
