"""Losses of embeddings: formulas and their derivatives, ties, coincident and zero vectors, distances, errors."""

import math
import pickle
import re

import lossrs
import lossrs.functional as F
import numpy as np
import pytest
import reference
from cases import FLOATS, assert_same, bits, threads, ulps
from hypothesis import given
from hypothesis import strategies as st

INF, NAN = np.inf, np.nan

#: Each loss with settings of its options: its name, formula, targets and options.
SETTINGS = [
    ("cosine_embedding_loss", reference.cosine_embedding, (-1, 1), {}),
    ("cosine_embedding_loss", reference.cosine_embedding, (-1, 1), {"margin": -0.4}),
    ("contrastive_loss", reference.contrastive, (0, 1), {}),
    ("contrastive_loss", reference.contrastive, (0, 1), {"margin": 3.5}),
    *(
        ("triplet_margin_loss", reference.triplet_margin, (), {"p": p, "swap": swap, "margin": margin, "eps": eps})
        for p in (1.0, 1.5, 2.0, 3.0, INF)
        for swap, margin, eps in ((False, 1.0, 1e-6), (True, 2.5, 0.01))
    ),
    *(
        (
            "triplet_margin_with_distance_loss",
            reference.triplet_margin_with_distance,
            (),
            {"distance_function": distance, "swap": swap},
        )
        for distance in reference.DISTANCES
        for swap in (False, True)
    ),
]
SETTING = pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: f"{setting[0]}-{setting[3]}")


def draw(setting, rng, shape, dtype=np.float64):
    """Return the operands of a call; the last of them is the target, where there is one."""
    vectors = [rng.normal(size=shape).astype(dtype) for _ in range(2 if setting[2] else 3)]
    return [*vectors, np.asarray(rng.choice(setting[2], shape[:-1]))] if setting[2] else vectors


def expected(setting, operands):
    """Return the losses of the samples in extended precision."""
    wide = [operand.astype(np.longdouble) if operand.dtype.kind not in "iub" else operand for operand in operands]
    return setting[1](*wide, **setting[3])[0]


@SETTING
@pytest.mark.parametrize(
    "shape", [(3,), (5, 1), (4, 16), (3, 37), (2, 3, 130), (1, 1024), (2, 2500), (40, 64)], ids=str
)
def test_value_is_the_formula(setting, shape, rng):
    function, operands = getattr(F, setting[0]), draw(setting, rng, shape)
    losses = expected(setting, operands)
    value = function(*operands, reduction="none", **setting[3])
    assert value.shape == shape[:-1]
    np.testing.assert_allclose(value, losses.astype(float), rtol=1e-13, atol=1e-14)
    assert function(*operands, reduction="sum", **setting[3]) == pytest.approx(float(losses.sum()), rel=1e-13)


@SETTING
@given(seed=st.integers(0, 2**32), features=st.integers(1, 40))
def test_gradient_is_that_of_central_differences(setting, seed, features):
    rng = np.random.default_rng(seed)
    function, operands = getattr(F, setting[0]), draw(setting, rng, (3, features))
    _, gradients = function.value_and_grad(*operands, reduction="none", **setting[3])
    step = 2.0**-16
    losses = expected(setting, operands)
    for index, gradient in enumerate(gradients):
        for feature in range(features):
            at = []
            for sign in (-1, 1):
                moved = [operand.copy() for operand in operands]
                moved[index][:, feature] += sign * step
                at.append(expected(setting, moved))
            left, right = (losses - at[0]) / step, (at[1] - losses) / step
            # At a kink the two differ, and anything between them will do.
            slack = 1e-6 * (1 + abs(gradient[:, feature]))
            assert np.all(gradient[:, feature] > np.minimum(left, right) - slack)
            assert np.all(gradient[:, feature] < np.maximum(left, right) + slack)


@SETTING
@pytest.mark.parametrize("dtype", FLOATS, ids=["float64", "float32", "float16", "bfloat16"])
def test_results_are_of_the_inputs_type(setting, dtype, rng):
    function, operands = getattr(F, setting[0]), draw(setting, rng, (6, 70), dtype)
    losses, gradients = function.value_and_grad(*operands, reduction="none", **setting[3])
    assert losses.dtype == dtype
    # Of computing in float32 or better, and of rounding once more.
    assert np.all(
        ulps(losses, expected(setting, operands), dtype)[losses > 0.01] < (300 if dtype == np.float32 else 600)
    )
    wide = [operand.astype(float) if operand.dtype.kind not in "iub" else operand for operand in operands]
    _, precise = function.value_and_grad(*wide, reduction="none", **setting[3])
    for gradient, exact in zip(gradients, precise, strict=True):
        assert gradient.dtype == dtype
        if dtype in (np.float64, np.float32):
            np.testing.assert_allclose(gradient, exact, rtol=1e-4, atol=2e-6)


@SETTING
def test_verbs_agree(setting, rng):
    function, operands = getattr(F, setting[0]), draw(setting, rng, (7, 33))
    options = setting[3]
    weight = np.array([0.5, 0.0, 2.0, 1.0, 0.0, 3.0, 1.0])
    for array in operands[:2]:
        array[1] = NAN
    losses, gradients = function.value_and_grad(*operands, reduction="none", sample_weight=weight, **options)
    assert losses[1] == 0
    assert all(np.all(bits(gradient[[1, 4]]) == 0) for gradient in gradients)
    assert np.array_equal(function(*operands, reduction="none", sample_weight=weight, **options), losses)
    mean, of_mean = function.value_and_grad(*operands, sample_weight=weight, **options)
    assert mean == math.fsum(losses) / weight.sum()
    for one, other in zip(of_mean, gradients, strict=True):
        np.testing.assert_allclose(one, other / weight.sum(), rtol=1e-14)
    names = F.__dict__[setting[0]].value_and_grad.__signature__.parameters
    names = list(names)[: len(gradients)]
    for name, gradient in zip(names, gradients, strict=True):
        _, alone = function.value_and_grad(*operands, reduction="none", sample_weight=weight, wrt=name, **options)
        np.testing.assert_array_equal(alone, gradient)
    _, pair = function.value_and_grad(
        *operands, reduction="none", sample_weight=weight, wrt=(names[1], names[0]), **options
    )
    np.testing.assert_array_equal(pair, (gradients[1], gradients[0]))
    by = rng.choice([-2.0, 0.0, 0.5, 4.0], 7)
    product = function.backward(by, *operands, reduction="none", sample_weight=weight, **options)
    for one, gradient in zip(product, gradients, strict=True):
        np.testing.assert_allclose(one, by[:, None] * gradient, rtol=1e-14)
    loss = lossrs.losses[setting[0]](**options)
    assert pickle.loads(pickle.dumps(loss)) == loss == eval(repr(loss), {**vars(lossrs), "float": float})
    kept = weight > 0
    assert loss.value_and_grad(*(array[kept] for array in operands), sample_weight=weight[kept])[0] == mean


@SETTING
def test_gradients_may_take_the_inputs_place(setting, rng):
    function, operands = getattr(F, setting[0]), draw(setting, rng, (5, 1500), np.float32)
    expected_value, gradients = function.value_and_grad(*operands, **setting[3])
    places = tuple(operands[: len(gradients)])
    value, results = function.value_and_grad(*operands, out=places, **setting[3])
    assert value == expected_value
    assert all(result is place for result, place in zip(results, places, strict=True))
    np.testing.assert_array_equal(results, gradients)


@SETTING
def test_same_bits_whatever_the_threads_and_the_layout(setting, rng):
    function, operands = getattr(F, setting[0]), draw(setting, rng, (700, 130), np.float32)

    def call(operands):
        losses, gradients = function.value_and_grad(*operands, reduction="none", **setting[3])
        mean, _ = function.value_and_grad(*operands, **setting[3])
        return {"losses": losses, "mean": mean} | {f"gradient {i}": array for i, array in enumerate(gradients)}

    with threads(1):
        alone = call(operands)
    with threads(4):
        assert_same(call(operands), alone)
    assert_same(call([np.asfortranarray(operand) for operand in operands]), alone)
    assert_same(call([operand.astype(operand.dtype.newbyteorder()) for operand in operands]), alone)
    assert_same(
        {name: value[:3] for name, value in call([array[:3] for array in operands]).items() if name != "mean"},
        {name: value[:3] for name, value in alone.items() if name != "mean"},
    )


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


@pytest.mark.parametrize("angle", [1e-2, 1e-3, 1e-4])
def test_nearly_parallel_vectors_keep_their_loss(angle, rng):
    """In float32, 1 less the cosine is lost below 1e-7; twice the square of the sine of half the angle is not."""
    first = rng.normal(size=300)
    second = rng.normal(size=300)
    second -= first * (first @ second) / (first @ first)
    second = 5 * (first * np.cos(angle) + second * np.sin(angle) * np.linalg.norm(first) / np.linalg.norm(second))
    first, second = first.astype(np.float32), second.astype(np.float32)
    exact = reference.cosine_embedding(first.astype(np.longdouble), second.astype(np.longdouble), 1)[0]
    value, (gradient, _) = value_and_grad("cosine_embedding_loss", first, second, 1)
    assert value == pytest.approx(float(exact), rel=1e-6 / angle)
    # The gradient is at right angles to the vector, and as long as the sine over its length.
    length = np.linalg.norm(first.astype(float))
    assert abs(first.astype(float) @ gradient) < 1e-6 * length
    assert np.linalg.norm(gradient) * length == pytest.approx(np.sin(angle), rel=1e-5 / angle)


def test_long_vectors_have_a_cosine():
    """A float32 may be beyond the root of the largest."""
    first, second = np.array([3e30, 4e30], np.float32), np.array([4e30, 3e30], np.float32)
    assert F.cosine_embedding_loss(first, second, 1) == pytest.approx(0.04, rel=1e-6)


@SETTING
@pytest.mark.parametrize("value", [NAN, INF])
def test_what_is_not_a_number_stays_in_its_row(setting, value, rng):
    function, operands = getattr(F, setting[0]), draw(setting, rng, (3, 20))
    finite_losses, finite = function.value_and_grad(*operands, reduction="none", **setting[3])
    operands[0][1, 5] = value
    losses, gradients = function.value_and_grad(*operands, reduction="none", **setting[3])
    assert np.isnan(losses[1]) or (value == INF and losses[1] in (INF, 0))
    assert np.isnan(losses[1]) == np.isnan(function(*operands, reduction="sum", **setting[3]))
    if value != value:
        assert all(np.isnan(gradient[1, 5]) for gradient in gradients)
    np.testing.assert_array_equal(losses[[0, 2]], finite_losses[[0, 2]])
    for gradient, same in zip(gradients, finite, strict=True):
        np.testing.assert_array_equal(gradient[[0, 2]], same[[0, 2]])


@pytest.mark.parametrize("shape", [(0, 4), (3, 0), (0,)], ids=str)
@SETTING
def test_nothing(setting, shape, rng):
    """Of no samples the mean is NaN; vectors of no features are at the distance 0."""
    function, operands = getattr(F, setting[0]), draw(setting, rng, shape)
    mean, gradients = function.value_and_grad(*operands, **setting[3])
    assert all(gradient.shape == shape for gradient in gradients)
    if shape[:-1] == (0,):
        assert np.isnan(mean)
    elif setting[3].get("p") != INF:
        assert mean == pytest.approx(float(expected(setting, operands).mean()))


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
