"""Infinities, NaN, nothing at all: the cases that mathematics or torch decide, and the few that differ from torch."""

import lossrs.functional as F
import numpy as np
import pytest
from cases import BFLOAT16, CASES, FLOATS, PLAIN, results, threads

INF, NAN = np.inf, np.nan
DTYPES = pytest.mark.parametrize("dtype", FLOATS, ids=["float64", "float32", "float16", "bfloat16"])


def unreduced(function, *arguments, dtype=np.float64, **options):
    """Return losses, gradient and Hessian."""
    arguments = [np.asarray(array).astype(dtype) for array in arguments]
    losses, gradient = function.value_and_grad(*arguments, reduction="none", **options)
    return losses, gradient, function.grad_and_hess(*arguments, reduction="none", **options)[1]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_nothing(case, rng):
    """No samples, along any axis; of a variance that nothing shares the derivative is 0."""
    for shape in case.shapes:
        for axis in {*range(len(shape))} - {*case.axes(shape)}:
            sample = case.sample(rng, tuple(0 if i == axis else length for i, length in enumerate(shape)))
            for name, value in results(case, sample).items():
                if name in ("mean", "value_and_grad"):
                    assert np.isnan(value)
                elif name == "sum":
                    assert value == 0
                else:
                    like = sample[name.split()[-1]] if " of " in name and "of none" not in name else None
                    assert value.shape == (case.samples_shape(sample) if like is None else like.shape)
                    assert value.dtype == sample.first.dtype
                    np.testing.assert_array_equal(value, 0)


def check_left_out(found):
    """Check that there is nothing: the mean is NaN, and the gradient of what is not there 0."""
    for name, value in found.items():
        if name in ("mean", "value_and_grad"):
            assert np.isnan(value)
        else:
            np.testing.assert_array_equal(value, np.zeros_like(value), err_msg=name)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_weights_that_sum_to_zero(case, rng):
    sample = case.sample(rng, case.shapes[2])
    check_left_out(results(case, sample, np.zeros(case.samples_shape(sample))))


@pytest.mark.parametrize("case", [case for case in CASES if hasattr(case.loss_class(), "ignore_index")], ids=str)
def test_only_ignored_samples(case, rng):
    if not case.label:
        return
    sample = case.sample(rng, (4, 3))
    sample[case.label][:] = case.loss(sample).ignore_index
    sample.first[1] = NAN
    check_left_out(results(case, sample))


@DTYPES
@pytest.mark.parametrize("case", PLAIN, ids=str)
def test_nan_gives_nan_where_it_is_and_nowhere_else(case, dtype, rng):
    """In each operand; in long rows too, wherever it lies in them, and on any thread."""
    for shape in [case.shape(70), case.shape(70_000, 1100)]:
        clean = case.sample(rng, shape, dtype)
        if case.label:
            clean[case.label][:] = rng.integers(0, shape[1], shape[0])
        expected = results(case, clean)
        place = len(clean.first) // 2
        others = np.arange(len(clean.first)) != place
        for name, operand in case.operands.items():
            if operand.kind in ("label", "sign") or operand.shape != "same":
                continue
            sample = clean.map(np.copy)
            # Of the negative log-likelihood, only the label's score counts.
            only_label = case.name == "nll_loss"
            spot = (place, sample[case.label][place]) if only_label else place if case.elementwise else (place, -1)
            sample[name][spot] = NAN
            with threads(2):
                dirty = results(case, sample)
            assert np.isnan(dirty["mean"])
            assert np.isnan(dirty["sum"])
            assert np.isnan(dirty["none"][place])
            np.testing.assert_array_equal(dirty["none"][others], expected["none"][others])
            gradients = [
                key for key in expected if key.startswith("unreduced gradient") and expected[key].shape == shape
            ]
            for key in gradients:
                np.testing.assert_array_equal(dirty[key][others], expected[key][others])
            # A line's slope does not depend on where it is.
            if not only_label and gradients:
                assert any(np.isnan(dirty[key][place]).any() for key in gradients) or case.name in LINES


#: Losses that are made of lines, whose slopes are constants.
LINES = ("hinge_embedding_loss", "margin_ranking_loss")


@pytest.mark.parametrize("case", PLAIN, ids=str)
def test_nan_in_weights_gives_nan(case, rng):
    sample = case.sample(rng, case.shapes[1])
    if case.label:
        sample[case.label][:] = 0
    weight = np.ones(case.samples_shape(sample))
    weight.ravel()[0] = NAN
    assert np.isnan(case.value(sample, sample_weight=weight))
    assert np.isnan(case.value(sample, sample_weight=weight, reduction="sum"))


@DTYPES
def test_infinite_differences(dtype):
    x, y = [INF, -INF, INF, 1.0, -INF], [0.0, 0.0, INF, INF, INF]
    for function, slope in ((F.mse_loss, INF), (F.l1_loss, 1), (F.huber_loss, 1), (F.smooth_l1_loss, 1)):
        losses, gradient, _ = unreduced(function, x, y, dtype=dtype)
        np.testing.assert_array_equal(losses.astype(float), [INF, INF, NAN, INF, INF])
        np.testing.assert_array_equal(gradient.astype(float), [slope, -slope, NAN, -slope, -slope])
    assert F.mse_loss(np.array(x, dtype), np.array(y, dtype), sample_weight=[1, 1, 0, 1, 1]) == INF


@DTYPES
def test_the_slope_of_the_absolute_error_is_zero_at_zero(dtype):
    for options in ({}, {"beta": 0.0}):
        function = F.smooth_l1_loss if options else F.l1_loss
        losses, gradient, hessian = unreduced(function, [1.0, 2.0, 0.0], [1.0, 1.0, -0.0], dtype=dtype, **options)
        np.testing.assert_array_equal(losses.astype(float), [0, 1, 0])
        np.testing.assert_array_equal(gradient.astype(float), [0, 1, 0])
        np.testing.assert_array_equal(hessian.astype(float), [0, 0, 0])


def test_at_the_threshold():
    """Huber's loss is quadratic at its threshold, the smooth absolute error linear; values and slopes are the same."""
    x, zero = [-2.0, -1.0, 1.0, 2.0], np.zeros(4)
    losses, gradient, hessian = unreduced(F.huber_loss, x, zero, delta=2.0)
    np.testing.assert_array_equal(losses, [2, 0.5, 0.5, 2])
    np.testing.assert_array_equal(gradient, x)
    np.testing.assert_array_equal(hessian, [1, 1, 1, 1])
    losses, gradient, hessian = unreduced(F.smooth_l1_loss, x, zero, beta=2.0)
    np.testing.assert_array_equal(losses, [1, 0.25, 0.25, 1])
    np.testing.assert_array_equal(gradient, [-1, -0.5, 0.5, 1])
    np.testing.assert_array_equal(hessian, [0, 0.5, 0.5, 0])


def test_differences_that_overflow_or_underflow():
    assert F.mse_loss([1e200], [0.0]) == INF
    assert F.huber_loss([1e308], [-1e307], delta=1.0) == 1.1e308
    assert F.huber_loss([1e200], [0.0], delta=1e-200) == pytest.approx(1.0)
    assert F.smooth_l1_loss([5e-324], [0.0], beta=1.0) == 0
    assert F.smooth_l1_loss([1e-300], [0.0], beta=1e-300) == pytest.approx(5e-301)
    assert F.mse_loss([1e308], [1e308]) == 0
    # The sum is exact even where it overflows on the way.
    assert F.l1_loss([1.7e308, 1.7e308], [0.0, 0.0], sample_weight=[1.0, -1.0], reduction="sum") == 0


@DTYPES
def test_probabilities_of_zero_and_one(dtype):
    """As in torch, logarithms are at least -100 and the gradient's denominator at least 1e-12."""
    losses, gradient, _ = unreduced(F.binary_cross_entropy, [0, 1, 0, 1, 0.5], [0, 1, 1, 0, 1], dtype=dtype)
    np.testing.assert_array_equal(losses[:4].astype(float), [0, 0, 100, 100])
    with np.errstate(over="ignore"):
        steep = float(np.array(1e12).astype(dtype))
    np.testing.assert_array_equal(gradient.astype(float), [0, 0, -steep, steep, -2])


@DTYPES
def test_infinite_logits(dtype):
    """The limit: 0 when right, infinite when wrong; torch has NaN."""
    x, t = [INF, -INF, INF, -INF, INF, -INF], [1, 0, 0, 1, 0.5, 0.5]
    losses, gradient, hessian = unreduced(F.binary_cross_entropy_with_logits, x, t, dtype=dtype)
    np.testing.assert_array_equal(losses.astype(float), [0, 0, INF, INF, INF, INF])
    np.testing.assert_array_equal(gradient.astype(float), [0, 0, 1, -1, 0.5, -0.5])
    np.testing.assert_array_equal(hessian.astype(float), np.zeros(6))
    losses = F.binary_cross_entropy_with_logits([INF, -INF], [1.0, 1.0], pos_weight=[2.0, 0.0], reduction="none")
    np.testing.assert_array_equal(losses, [0, 0])


@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("places", [[0], [4], [0, 1, 2], [1, 2, 3, 4]], ids=str)
@pytest.mark.parametrize("width", [1, 13, 250, 600])
def test_impossible_classes_count_for_nothing(dtype, places, width, rng):
    """A logit of -inf where the target's probability is 0: as if the class were not there."""
    gone = np.isin(np.arange(5), places).repeat(width)
    x = rng.standard_normal((3, 5 * width)).astype(dtype)
    x[:, gone] = -INF
    label = int(np.flatnonzero(~gone)[-1])
    probabilities = rng.random((3, 5 * width)) * ~gone
    probabilities = (probabilities / probabilities.sum(1, keepdims=True)).astype(dtype)
    for smoothing in (0.0, 0.25):
        for target in (np.full(3, label), probabilities):
            rest = target[:, ~gone] if target.ndim == 2 else np.full(3, (~gone)[:label].sum())
            actual = unreduced(F.cross_entropy, x, target, dtype=None, label_smoothing=smoothing)
            expected = unreduced(F.cross_entropy, x[:, ~gone], rest, dtype=None, label_smoothing=smoothing)
            tolerance = {"rtol": 20 * np.finfo(dtype).eps, "atol": 2 * np.finfo(dtype).eps}
            np.testing.assert_allclose(actual[0], expected[0], **tolerance)
            for whole, part in zip(actual[1:], expected[1:], strict=True):
                np.testing.assert_allclose(whole[:, ~gone], part, **tolerance)
                assert not whole[:, gone].any()


def test_an_impossible_class_that_comes_is_an_infinite_loss():
    x = [[-INF, 0.0, 1.0]]
    assert F.cross_entropy(x, [0]) == INF
    assert F.cross_entropy(x, [0], label_smoothing=0.5) == INF
    assert F.cross_entropy(x, [[0.5, 0.5, 0.0]]) == INF
    assert F.nll_loss(x, [0]) == INF
    assert F.cross_entropy(x, [0], weight=[0.0, 1.0, 1.0], reduction="sum") == 0
    for count in (3, 64, 100, 1100):
        losses, gradient, _ = unreduced(F.cross_entropy, np.full((1, count), -INF), np.zeros(1))
        assert np.isnan(losses).all()
        assert np.isnan(gradient).all()


def test_logits_far_apart():
    assert F.cross_entropy([[1000.0, 0.0]], [1]) == 1000
    assert F.cross_entropy([[1000.0, 0.0]], [0]) == 0
    assert F.cross_entropy([[1e308, -1e308]], [0]) == 0
    assert F.cross_entropy([[-1e308, -1e308]], [0]) == pytest.approx(np.log(2))
    assert F.cross_entropy(np.array([[6e4, -6e4]], np.float16), [1]) == 120_000
    losses = F.binary_cross_entropy_with_logits([-1000.0, 1000.0], [1.0, 0.0], reduction="none")
    np.testing.assert_array_equal(losses, [1000, 1000])


@DTYPES
def test_equal_logits(dtype):
    """Ties for the largest, which the sums over the classes count apart."""
    for classes in (1, 2, 7, 64, 1000, 4096):
        for shift in (0.0, 3.0, -50.0):
            losses, gradient, _ = unreduced(F.cross_entropy, np.full((1, classes), shift), [0], dtype=dtype)
            tolerance = 2 * float(np.finfo(np.float16).eps if dtype in (np.float16, BFLOAT16) else np.finfo(dtype).eps)
            tolerance *= 8 if dtype is BFLOAT16 else 1
            np.testing.assert_allclose(losses.astype(float), np.log(classes), rtol=tolerance)
            expected = np.full(classes, 1 / classes)
            expected[0] -= 1
            np.testing.assert_allclose(gradient[0].astype(float), expected, rtol=tolerance, atol=1e-7)


def test_a_label_may_be_the_ignored_one_even_if_it_is_a_class():
    x = np.log([[0.5, 0.5], [0.25, 0.75]])
    assert F.nll_loss(x, [0, 1], ignore_index=1) == pytest.approx(np.log(2))
    assert F.nll_loss(x, [0, 255], ignore_index=255) == pytest.approx(np.log(2))
    assert F.nll_loss(x, np.array([0, 2**64 - 1], np.uint64), ignore_index=2**64 - 1) == pytest.approx(np.log(2))
    assert F.nll_loss(x, np.array([0, -1], np.int8), ignore_index=-1) == pytest.approx(np.log(2))


def test_negative_weights_are_weights():
    assert F.mse_loss([1.0, 2.0], [0.0, 0.0], sample_weight=[-1.0, 2.0]) == -1 + 8
    assert F.mse_loss([1.0, 2.0], [0.0, 0.0], weight=[1.0, -1.0], reduction="sum") == -3
