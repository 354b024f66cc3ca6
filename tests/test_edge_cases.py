"""Infinities, NaN, nothing at all: the cases that mathematics or torch decide, and the few that differ from torch."""

import math

import lossrs.functional as F
import ml_dtypes
import numpy as np
import pytest
from cases import BFLOAT16, CASES, FLOATS, PLAIN, results, threads, ulps

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


@pytest.mark.parametrize("case", [case for case in CASES if case.label], ids=str)
def test_only_ignored_samples(case, rng):
    if getattr(case.loss_class(**case.variant.options), "ignore_index", None) is None:
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
        # A row without labels has no loss.
        for name, operand in case.operands.items():
            if operand.kind == "label set":
                clean[name][:, 0] = 0
        expected = results(case, clean)
        place = len(clean.first) // 2
        others = np.arange(len(clean.first)) != place
        for name, operand in case.operands.items():
            if operand.kind in ("label", "label set", "sign") or operand.shape != "same":
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
            if not only_label and gradients:
                assert any(np.isnan(dirty[key][place]).any() for key in gradients)


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


@DTYPES
def test_a_probability_of_zero_has_no_divergence(dtype):
    """Whatever the prediction is; torch has NaN where that is infinite."""
    x = [0.0, -1.0, -INF, INF, NAN]
    for target, options in (0.0, {}), (-INF, {"log_target": True}):
        losses, gradient, hessian = unreduced(F.kl_div, x, np.full(5, target), dtype=dtype, **options)
        np.testing.assert_array_equal(losses.astype(float), np.zeros(5))
        np.testing.assert_array_equal(gradient.astype(float), np.zeros(5))
        np.testing.assert_array_equal(hessian.astype(float), np.zeros(5))
    losses, gradient, _ = unreduced(F.kl_div, [-INF, -INF], [0.5, 1.0], dtype=dtype)
    np.testing.assert_array_equal(losses.astype(float), [INF, INF])
    np.testing.assert_array_equal(gradient.astype(float), [-0.5, -1])
    gradient, hessian = F.kl_div.grad_and_hess([-1.0], [0.0], wrt="target")
    np.testing.assert_array_equal([gradient, hessian], [[-INF], [INF]])
    gradient, hessian = F.kl_div.grad_and_hess([-1.0], [-INF], wrt="target", log_target=True)
    np.testing.assert_array_equal([gradient, hessian], [[0], [0]])


def test_a_negative_probability_has_no_logarithm():
    assert np.isnan(F.kl_div([-1.0], [-0.5]))


def test_batchmean_divides_by_the_length_of_the_first_axis(rng):
    x, t = np.log(rng.random((6, 5))), rng.random((6, 5))
    total, gradient = F.kl_div.value_and_grad(x, t, reduction="sum")
    mean, slopes = F.kl_div.value_and_grad(x, t, reduction="batchmean")
    assert mean == total / 6
    np.testing.assert_allclose(slopes, gradient / 6, rtol=1e-15)
    np.testing.assert_allclose(F.kl_div.backward(3.0, x, t, reduction="batchmean"), gradient / 2, rtol=1e-15)
    weight = np.array([0, 1, 1, 0, 1, 2.0])[:, None]
    weighted = F.kl_div(x, t, reduction="sum", sample_weight=weight) / 5
    assert F.kl_div(x, t, reduction="batchmean", sample_weight=weight) == pytest.approx(weighted, rel=1e-15)
    assert F.kl_div(x[0], t[0], reduction="batchmean") == pytest.approx(F.kl_div(x[0], t[0]), rel=1e-15)
    assert F.kl_div(x[0, 0], t[0, 0], reduction="batchmean") == F.kl_div(x[0, 0], t[0, 0])
    assert np.isnan(F.kl_div(x[:0], t[:0], reduction="batchmean"))
    assert F.kl_div(x[:, :0], t[:, :0], reduction="batchmean") == 0


@DTYPES
def test_a_count_of_zero_needs_no_logarithm(dtype):
    """0 times the logarithm of a mean of 0 is 0."""
    x, t = [-INF, INF, INF, NAN, -INF, 0], [0, 0, 2, 0, 1, 3]
    losses, gradient, hessian = unreduced(F.poisson_nll_loss, x, t, dtype=dtype)
    np.testing.assert_array_equal(losses.astype(float), [0, INF, INF, NAN, INF, 1])
    np.testing.assert_array_equal(gradient.astype(float), [0, INF, INF, NAN, -1, -2])
    np.testing.assert_array_equal(hessian.astype(float), [0, INF, INF, NAN, 0, 1])
    options = {"log_input": False, "eps": 0.0}
    x, t = [0, 0, INF, INF, -1, -1, NAN], [0, 1, 0, 1, 0, 1, 0]
    losses, gradient, hessian = unreduced(F.poisson_nll_loss, x, t, dtype=dtype, **options)
    np.testing.assert_array_equal(losses.astype(float), [0, INF, INF, INF, -1, NAN, NAN])
    np.testing.assert_array_equal(gradient.astype(float), [1, -INF, 1, 1, 1, 2, NAN])
    np.testing.assert_array_equal(hessian.astype(float), [0, INF, 0, 0, 0, 1, NAN])
    for full in (False, True):
        assert F.poisson_nll_loss([0.0], [0.0], full=full) == 1
        assert F.poisson_nll_loss([0.0], [1.0], full=full) == 1


def test_stirling_stands_for_the_factorial():
    for count in (2.0, 17.0, 1e6, 1e300):
        expected = count * math.log(count) - count + math.log(2 * math.pi * count) / 2
        added = F.poisson_nll_loss([0.0], [count], full=True) - F.poisson_nll_loss([0.0], [count])
        assert added == pytest.approx(expected, rel=1e-13)


@DTYPES
def test_variances_are_bounded(dtype):
    """The slope with respect to a variance below the bound is that at the bound, as torch has it."""
    x, y, var = [1.0, 1.0, 1.0, 3.0, 3.0], np.zeros(5), [0.0, 1e-3, 0.25, 0.25, INF]
    arguments = [np.asarray(array).astype(dtype) for array in (x, y, var)]
    losses, (slope, of_var) = F.gaussian_nll_loss.value_and_grad(*arguments, eps=0.25, reduction="none")
    expected = (np.log(0.25) + np.array([4, 4, 4, 36])) / 2
    np.testing.assert_allclose(losses[:4].astype(float), expected, rtol=4 * eps_of(dtype))
    assert losses[4] == INF
    np.testing.assert_array_equal(slope.astype(float), [4, 4, 4, 12, 0])
    np.testing.assert_array_equal(of_var.astype(float), [-6, -6, -6, -70, 0])


def eps_of(dtype):
    return float(ml_dtypes.finfo(dtype).eps)


@DTYPES
def test_a_variance_that_is_no_number(dtype):
    arguments = [np.asarray(array).astype(dtype) for array in ([1.0], [0.0], [NAN])]
    losses, (slope, of_var) = F.gaussian_nll_loss.value_and_grad(*arguments, reduction="none")
    assert np.isnan([losses, slope, of_var]).all()


@pytest.mark.parametrize("shape", [(6, 5), (3, 4, 5), (2, 3000), (700, 2)], ids=str)
@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["float64", "float32"])
def test_a_shared_variance_is_the_same_as_one_for_each(shape, dtype, rng):
    """Losses, and gradients with respect to the input; with respect to the variance they are sums."""
    input, target = rng.standard_normal((2, *shape)).astype(dtype)
    weight = rng.choice([0, 0.5, 2], shape).astype(dtype)
    grad_output = rng.standard_normal(shape).astype(dtype)
    for own in ((*shape[:-1], 1), shape[:-1], ()):
        var = rng.uniform(0.25, 4, own).astype(dtype)
        wide = np.array(np.broadcast_to(var[..., None] if own == shape[:-1] else var, shape))
        axes = tuple(range(len(shape))) if own == () else (-1,)
        for reduction in ("none", "sum", "mean"):
            options = {"reduction": reduction, "sample_weight": weight}
            factor = grad_output if reduction == "none" else 3.0
            value, (gradient, of_var) = F.gaussian_nll_loss.value_and_grad(input, target, var, **options)
            expected, (slope, each) = F.gaussian_nll_loss.value_and_grad(input, target, wide, **options)
            np.testing.assert_array_equal(value, expected)
            np.testing.assert_array_equal(gradient, slope)
            gradients, hessians = F.gaussian_nll_loss.grad_and_hess(input, target, var, **options)
            np.testing.assert_array_equal(gradients[1], of_var)
            curvatures = F.gaussian_nll_loss.grad_and_hess(input, target, wide, **options)[1]
            np.testing.assert_array_equal(hessians[0], curvatures[0])
            product = F.gaussian_nll_loss.backward(factor, input, target, var, wrt="var", **options)
            products = F.gaussian_nll_loss.backward(factor, input, target, wide, wrt="var", **options)
            for shared, parts in ((of_var, each), (hessians[1], curvatures[1]), (product, products)):
                assert shared.shape == own
                assert shared.dtype == dtype
                total = parts.astype(np.longdouble).sum(axes).reshape(own)
                size = abs(parts.astype(np.longdouble)).sum(axes).reshape(own)
                # Sums run in double precision.
                assert ulps(shared, total, magnitude=size).max() <= (2 if dtype is np.float32 else math.sqrt(each.size))


@DTYPES
def test_scores_far_on_the_wrong_side(dtype):
    """Nothing overflows: torch has infinity and NaN."""
    x, y = [1000.0, -1000.0, 1000.0, -1000.0, INF, -INF, INF, -INF], [1, 1, -1, -1, 1, 1, -1, -1]
    losses, gradient, hessian = unreduced(F.soft_margin_loss, x, y, dtype=dtype)
    np.testing.assert_array_equal(losses.astype(float), [0, 1000, 1000, 0, 0, INF, INF, 0])
    np.testing.assert_array_equal(gradient.astype(float), [0, -1, 1, 0, 0, -1, 1, 0])
    np.testing.assert_array_equal(hessian.astype(float), np.zeros(8))


def test_hinges_are_flat_where_they_begin():
    losses, gradient, _ = unreduced(F.hinge_embedding_loss, [1.0, 1.0, 0.0, 2.0, -1.0], [-1, 1, -1, -1, 1])
    np.testing.assert_array_equal(losses, [0, 1, 1, 0, -1])
    np.testing.assert_array_equal(gradient, [0, 1, -1, 0, 1])
    x, zero, y = [0.5, 1.0, -1.0, INF, -INF], np.zeros(5), np.array([1.0, 1, -1, 1, 1])
    losses, gradients = F.margin_ranking_loss.value_and_grad(x, zero, y, margin=1.0, reduction="none")
    np.testing.assert_array_equal(losses, [0.5, 0, 0, 0, INF])
    np.testing.assert_array_equal(gradients[0], [-1, 0, 0, 0, -1])
    np.testing.assert_array_equal(gradients[1], -gradients[0])


def focal_terms(x, t, alpha, gamma):
    """Return what the focal loss, its gradient and its Hessian are sums of."""
    positive, negative = np.logaddexp(0, -x), np.logaddexp(0, x)
    p, complement = np.exp(-positive), np.exp(-negative)
    entropy, away = t * positive + (1 - t) * negative, t * complement + (1 - t) * p
    weight = (1 if alpha is None else alpha * t + (1 - alpha) * (1 - t)) * away**gamma
    rises = (1 - t) * p, -t * complement
    ratio = np.where(away == 0, 0, (1 - 2 * t) * p * complement / np.where(away == 0, 1, away))
    focus = gamma * ratio
    yield [weight * entropy]
    yield [weight * rises[0], weight * rises[1], weight * focus * entropy]
    bend = (gamma - 1) * focus * ratio * entropy, focus * complement * entropy, -focus * p * entropy
    yield [weight * p * complement, *(2 * weight * focus * rise for rise in rises), *(weight * part for part in bend)]


@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("gamma", [0.0, 0.3, 0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("alpha", [None, 0.25])
def test_the_focal_loss_of_any_logits(gamma, alpha, dtype, rng):
    """Sure and right, sure and wrong, of any focus: finite, and as accurate as rounding a power allows."""
    gamma = float(dtype(gamma))
    x = (rng.choice([-1, 1], 5000) * 10 ** rng.uniform(-10, 4, 5000)).astype(dtype)
    t = rng.choice([0, 1, 0.25, 0.9, 1e-9, 1 - 2**-20], 5000).astype(dtype)
    options = {"alpha": alpha, "gamma": gamma}
    expected = focal_terms(x.astype(np.longdouble), t.astype(np.longdouble), **options)
    for actual, terms in zip(unreduced(F.sigmoid_focal_loss, x, t, dtype=dtype, **options), expected, strict=True):
        assert np.isfinite(actual).all()
        magnitude = sum(map(abs, terms))
        normal = magnitude > 1e6 * np.finfo(dtype).tiny
        assert ulps(actual, sum(terms), magnitude=magnitude)[normal].max() <= 8 + 3 * gamma
        np.testing.assert_array_less(abs(actual[~normal]), 1e7 * np.finfo(dtype).tiny)


@DTYPES
@pytest.mark.parametrize("gamma", [0.0, 0.3, 0.5, 1.0, 2.0, 5.0])
def test_the_focal_loss_of_infinite_logits(gamma, dtype):
    """The limit: 0 when right, infinite when wrong."""
    x, t = [INF, -INF, INF, -INF], [1, 0, 0, 1]
    losses, gradient, _ = unreduced(F.sigmoid_focal_loss, x, t, dtype=dtype, gamma=gamma, alpha=None)
    np.testing.assert_array_equal(losses.astype(float), [0, 0, INF, INF])
    np.testing.assert_array_equal(gradient.astype(float), [0, 0, 1, -1])
