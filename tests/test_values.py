"""Losses and derivatives against plain NumPy formulas in extended precision."""

import dataclasses
import math

import lossrs
import lossrs.functional as F
import numpy as np
import pytest
from cases import ARRAYS, BFLOAT16, CASES, FLOATS, PLAIN, exact_mean, ulps
from lossrs import _lossrs
from reference import REFERENCES

# Where long double is no more than double, the formulas of the tests lose a few digits themselves.
SLACK = 1 if np.finfo(np.longdouble).eps < 1e-18 else 32


@pytest.mark.parametrize("name", lossrs.losses)
def test_every_loss_has_a_reference(name):
    assert name in REFERENCES, f"write {name}'s formula in tests/reference.py"
    options = {field.name for field in dataclasses.fields(lossrs.losses[name])} - {"reduction", *ARRAYS}
    varied = {option for parameters in REFERENCES[name].parameters for option in parameters}
    assert options == varied, f"tests/reference.py must have settings of all options of {name}"


def test_the_registries_agree():
    assert set(_lossrs.loss_names()) == set(lossrs.losses) == set(REFERENCES)


@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_losses_are_within_a_few_ulp(case, dtype, rng):
    for shape in [*case.shapes(), case.shape(5000)]:
        sample = case.sample(rng, shape, dtype)
        losses = case.function(sample.input, sample.target, reduction="none", **sample.options)
        expected, _ = case.expected(sample)
        assert losses.shape == expected.shape
        assert losses.dtype == dtype
        assert ulps(losses, expected).max() <= 6 * SLACK


@pytest.mark.parametrize("case", CASES, ids=str)
def test_reductions_are_within_a_few_ulp(case, rng):
    for shape in [*case.shapes(), case.shape(5000)]:
        sample = case.sample(rng, shape)
        expected, divisor = case.expected(sample)
        call = case.function(sample.input, sample.target, reduction="sum", **sample.options)
        assert isinstance(call, float)
        assert ulps(call, expected.sum()) <= 6 * SLACK
        mean = case.function(sample.input, sample.target, **sample.options)
        assert ulps(mean, expected.sum() / divisor.sum() if divisor.sum() else np.nan) <= 8 * SLACK


@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_sum_is_rounded_once(case, dtype, rng):
    for elements in (1, 100, 3000):
        sample = case.sample(rng, case.shape(elements), dtype)
        sample_weight = rng.uniform(0, 2, case.samples_shape(sample.input)).astype(dtype)
        for weight in (None, sample_weight):
            options = sample.options | {"sample_weight": weight}
            losses = case.function(sample.input, sample.target, reduction="none", **options)
            assert case.function(sample.input, sample.target, reduction="sum", **options) == math.fsum(losses.ravel())
            mean = case.function(sample.input, sample.target, **options)
            np.testing.assert_equal(mean, exact_mean(case, sample, losses, weight))


def differentiate(function, x, step):
    """Return central differences of the fourth order, and where no kink is near.

    `function` gives one value for each value of x, of which it must not depend on the others.
    """
    at = {k: function(x + k * step) for k in (-2, -1, 0, 1, 2)}
    derivative = (8 * (at[1] - at[-1]) - (at[2] - at[-2])) / (12 * step)
    bend = abs(at[2] - at[1] - (at[-1] - at[-2])) / step
    smooth = bend <= 50 * step * (1 + abs(derivative)) ** 2
    assert smooth.mean() > 0.9
    return derivative, smooth


def one_by_one(case, sample, function):
    """Return x -> what `function(input)` gives for the samples, as x moves each element alone."""
    if not case.rowwise:
        return function
    axis = min(1, sample.input.ndim - 1)

    def along(x):
        moved = []
        for index in range(x.shape[axis]):
            at = tuple(slice(index, index + 1) if i == axis else slice(None) for i in range(x.ndim))
            input = sample.input.astype(x.dtype)
            input[at] = x[at]
            result = function(input)
            moved.append(np.expand_dims(result, axis) if result.ndim < x.ndim else result[at])
        return np.concatenate(moved, axis)

    return along


@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradients_are_derivatives(case, rng):
    for shape in case.shapes():
        sample = case.sample(rng, shape)
        function = one_by_one(case, sample, lambda input, sample=sample: case.expected(sample._replace(input=input))[0])
        expected, smooth = differentiate(function, sample.input.astype(np.longdouble), np.longdouble(2.0**-13))
        gradient = case.function.value_and_grad(sample.input, sample.target, reduction="sum", **sample.options)[1]
        np.testing.assert_allclose(gradient[smooth], expected[smooth].astype(float), rtol=2e-9, atol=1e-9)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_hessians_are_derivatives_of_gradients(case, rng):
    for shape in case.shapes():
        sample = case.sample(rng, shape)

        def gradient(input, sample=sample):
            return case.function.grad_and_hess(input, sample.target, reduction="sum", **sample.options)[0]

        expected, smooth = differentiate(one_by_one(case, sample, gradient), sample.input, 2.0**-13)
        _, hessian = case.function.grad_and_hess(sample.input, sample.target, reduction="sum", **sample.options)
        np.testing.assert_allclose(hessian[smooth], expected[smooth], rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_derivatives_in_single_precision(case, rng):
    sample = case.sample(rng, case.shape(3000), np.float32)
    wide = sample.map(lambda array: array if array.dtype.kind in "iu" else array.astype(np.float64))
    single = case.function.grad_and_hess(sample.input, sample.target, reduction="sum", **sample.options)
    double = case.function.grad_and_hess(wide.input, wide.target, reduction="sum", **wide.options)
    for narrow, exact in zip(single, double, strict=True):
        assert narrow.dtype == np.float32
        np.testing.assert_allclose(narrow, exact, rtol=2e-6, atol=4e-7)


@pytest.mark.parametrize("dtype", [np.float16, BFLOAT16], ids=["float16", "bfloat16"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_half_precision_is_computed_in_single(case, dtype, rng):
    """Results are those of float32, of which arrays are rounded to the input's dtype."""
    half = case.sample(rng, case.shape(3000), dtype)
    single = half.map(lambda array: array if array.dtype.kind in "iu" else array.astype(np.float32))
    for reduction in ("mean", "sum"):
        options = {"reduction": reduction}
        value, gradient = case.function.value_and_grad(half.input, half.target, **half.options, **options)
        expected, slopes = case.function.value_and_grad(single.input, single.target, **single.options, **options)
        assert value == expected
        np.testing.assert_array_equal(gradient, slopes.astype(dtype), strict=True)
    losses = case.function(half.input, half.target, reduction="none", **half.options)
    expected = case.function(single.input, single.target, reduction="none", **single.options)
    np.testing.assert_array_equal(losses, expected.astype(dtype), strict=True)


@pytest.mark.parametrize("case", PLAIN, ids=str)
def test_integers_are_computed_in_double(case, rng):
    shape = case.shape(500)
    target = case.sample(rng, shape).target
    for dtype in (np.int8, np.uint8, np.int32, np.int64, np.uint64, bool):
        input = rng.integers(0, 2, shape).astype(dtype)
        for verb in (case.function.value_and_grad, case.function.grad_and_hess):
            actual = verb(input, target, reduction="none")
            expected = verb(input.astype(np.float64), target, reduction="none")
            for one, other in zip(actual, expected, strict=True):
                np.testing.assert_array_equal(one, other, strict=True)


@pytest.mark.parametrize("case", [case for case in PLAIN if case.target != "label"], ids=str)
def test_a_target_is_taken_in_the_type_of_the_input(case, rng):
    sample = case.sample(rng, case.shape(500))
    for dtype in FLOATS:
        input = sample.input.astype(dtype)
        computed = np.float64 if dtype is np.float64 else np.float32
        actual = case.function.value_and_grad(input, sample.target, **sample.options)
        rounded = sample.map(lambda array, computed=computed: array.astype(computed))
        expected = case.function.value_and_grad(input, rounded.target, **rounded.options)
        assert actual[0] == expected[0]
        np.testing.assert_array_equal(actual[1], expected[1], strict=True)
        assert actual[1].dtype == dtype


def test_worked_examples():
    prediction, observed = np.array([2.5, 0, 2.1, 1.8]), np.array([3, -0.5, 2, 1])
    assert F.mse_loss(prediction, observed) == pytest.approx(0.2875, abs=1e-15)
    assert F.mse_loss(prediction, observed) == pytest.approx(np.mean((prediction - observed) ** 2), rel=1e-15)
    assert F.l1_loss(prediction, observed) == pytest.approx(1.9 / 4)
    logits = [[2, 1], [0.5, 1.5], [2, 1], [0.5, 1.5]]
    assert F.cross_entropy(logits, [0, 1, 0, 1]) == pytest.approx(0.3133, abs=5e-5)
    assert F.cross_entropy(logits, [0, 1, 0, 1]) == pytest.approx(math.log1p(math.exp(-1)), rel=1e-15)
    assert F.binary_cross_entropy([0.8, 0.1, 0.6, 0.4], [1, 0, 1, 0]) == pytest.approx(0.3375, abs=5e-5)
    assert F.huber_loss([0.5, 3.0], [0.0, 0.0], reduction="sum") == 0.125 + 2.5
    assert F.smooth_l1_loss([0.5, 3.0], [0.0, 0.0], beta=2.0, reduction="sum") == 0.0625 + 2.0


def test_losses_that_are_others(rng):
    x, t, y = rng.standard_normal((200, 5)), rng.random((200, 5)), rng.integers(0, 5, 200)
    sigmoid = 1 / (1 + np.exp(-x))
    assert F.binary_cross_entropy(sigmoid, t) == pytest.approx(F.binary_cross_entropy_with_logits(x, t), rel=1e-13)
    log_softmax = x - np.log(np.exp(x).sum(1, keepdims=True))
    assert F.nll_loss(log_softmax, y) == pytest.approx(F.cross_entropy(x, y), rel=1e-13)
    assert F.cross_entropy(x, np.eye(5)[y]) == pytest.approx(F.cross_entropy(x, y), rel=1e-14)
    two = np.stack([np.zeros(200), x[:, 0]], 1)
    binary = F.binary_cross_entropy_with_logits(x[:, 0], y.clip(0, 1).astype(float))
    assert F.cross_entropy(two, y.clip(0, 1)) == pytest.approx(binary, rel=1e-14)
    assert F.smooth_l1_loss(x, t, beta=0.0) == F.l1_loss(x, t)
    assert F.smooth_l1_loss(x, t, beta=0.5) == pytest.approx(F.huber_loss(x, t, delta=0.5) / 0.5, rel=1e-14)
    assert F.huber_loss(x, t, delta=1e9) == pytest.approx(F.mse_loss(x, t) / 2, rel=1e-15)


def test_torch_divides_weighted_means_by_the_weights_of_some_losses_only():
    x, y, weight = np.array([1.0, 2.0]), np.zeros(2), np.array([1.0, 3.0])
    assert F.mse_loss(x, y, weight) == (1 + 3 * 4) / 4
    assert F.l1_loss(x, y, weight) == (1 + 3 * 2) / 4
    assert F.huber_loss(x, y, weight) == (0.5 + 3 * 1.5) / 2
    assert F.huber_loss(x, y, sample_weight=weight) == (0.5 + 3 * 1.5) / 4


def test_the_mean_of_many_half_precision_losses_does_not_overflow():
    assert F.mse_loss(np.full(70_000, 3, np.float16), np.zeros(70_000, np.float16)) == 9.0


def test_small_losses_keep_their_digits():
    """Sure and right predictions: no cancellation in the losses, nor in their gradients."""
    for x in (20.0, 40.0, 300.0, 700.0):
        small = math.exp(-x)
        value, gradient = F.binary_cross_entropy_with_logits.value_and_grad([x], [1.0])
        assert value == pytest.approx(math.log1p(small), rel=1e-15)
        assert gradient[0] == pytest.approx(-small / (1 + small), rel=1e-15)
        value, gradient = F.cross_entropy.value_and_grad([[x, 0.0]], [0])
        assert value == pytest.approx(math.log1p(small), rel=1e-15)
        np.testing.assert_allclose(gradient[0], np.array([-small, small]) / (1 + small), rtol=1e-15)
    assert F.binary_cross_entropy([1e-300], [0.0]) == pytest.approx(1e-300, rel=1e-15)


@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["float64", "float32"])
def test_probabilities_near_their_ends(dtype, rng):
    small = 10 ** rng.uniform(-30, -1, 1000)
    near_one = 1 - 2.0 ** -rng.integers(1, np.finfo(dtype).nmant + 2, 1000)
    p = np.concatenate([small, near_one]).astype(dtype)
    for target in (0.0, 0.25, 1.0):
        t = np.full_like(p, target)
        losses, gradient = F.binary_cross_entropy.value_and_grad(p, t, reduction="none")
        wide, expected = p.astype(np.longdouble), REFERENCES["binary_cross_entropy"].formula
        assert ulps(losses, expected(wide, t.astype(np.longdouble))[0]).max() <= 6 * SLACK
        variance = np.maximum(wide * (1 - wide), 1e-12)
        assert ulps(gradient, ((wide - t) / variance).astype(dtype), dtype).max() <= 6 * SLACK
