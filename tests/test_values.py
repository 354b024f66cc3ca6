"""Losses and derivatives against plain NumPy formulas in extended precision."""

import dataclasses
import math
from pathlib import Path

import lossrs
import lossrs.functional as F
import numpy as np
import pytest
from cases import BFLOAT16, CASES, FLOATS, PLAIN, exact_mean, ulps
from lossrs import _lossrs
from reference import OWN_SUITES, REFERENCES

# Where long double is no more than double, the formulas of the tests lose a few digits themselves.
SLACK, CLOSE = (1, 2e-12) if np.finfo(np.longdouble).eps < 1e-18 else (32, 2e-9)


@pytest.mark.parametrize("name", sorted(lossrs.losses.keys() - OWN_SUITES))
def test_every_loss_has_a_reference(name):
    assert name in REFERENCES, f"write {name}'s formula in tests/reference.py"
    cls, reference = lossrs.losses[name], REFERENCES[name]
    assert tuple(reference.operands) == cls()._kernel.operands
    assert set(reference.arrays) == set(cls.array_options)
    options = {field.name for field in dataclasses.fields(cls)} - {"reduction", *reference.arrays}
    varied = {option for variant in reference.variants for option in variant.options}
    assert options == varied, f"tests/reference.py must have settings of all options of {name}"


def test_the_registries_agree():
    assert set(_lossrs.loss_names()) == set(lossrs.losses) == REFERENCES.keys() | OWN_SUITES.keys()
    assert all(Path(__file__).with_name(suite.partition(":")[0]).exists() for suite in OWN_SUITES.values())


@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_losses_are_within_a_few_ulp(case, dtype, rng):
    for shape in [*case.shapes, case.shape(5000)]:
        sample = case.sample(rng, shape, dtype)
        losses = case.value(sample, reduction="none")
        expected, _ = case.expected(sample)
        assert losses.shape == expected.shape
        assert losses.dtype == dtype
        assert ulps(losses, expected, magnitude=case.magnitude(sample)).max() <= case.reference.ulp * SLACK


@pytest.mark.parametrize("case", CASES, ids=str)
def test_reductions_are_within_a_few_ulp(case, rng):
    for shape in [*case.shapes, case.shape(5000)]:
        sample = case.sample(rng, shape)
        expected, divisor = case.expected(sample)
        divisor, magnitude = divisor.sum(), np.broadcast_to(case.magnitude(sample), expected.shape).sum()
        total, mean = case.value(sample, reduction="sum"), case.value(sample)
        assert isinstance(total, float)
        assert ulps(total, expected.sum(), magnitude=magnitude) <= case.reference.ulp * SLACK
        if divisor:
            limit = (case.reference.ulp + 2) * SLACK
            assert ulps(mean, expected.sum() / divisor, magnitude=magnitude / divisor) <= limit
        else:
            assert np.isnan(mean)


@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_sum_is_rounded_once(case, dtype, rng):
    for elements in (1, 100, 3000):
        sample = case.sample(rng, case.shape(elements), dtype)
        sample_weight = rng.uniform(0, 2, case.samples_shape(sample)).astype(dtype)
        for weight in (None, sample_weight):
            losses = case.value(sample, reduction="none", sample_weight=weight)
            assert case.value(sample, reduction="sum", sample_weight=weight) == math.fsum(losses.ravel())
            mean = case.value(sample, sample_weight=weight)
            np.testing.assert_equal(mean, exact_mean(case, sample, losses, weight))


def differentiate(function, x, step):
    """Return the derivative with respect to each element, by central differences of the fourth order, and where no
    kink is near; of a function that gives an array, that of the element which moves.
    """
    derivative, smooth = np.empty_like(x), np.empty(x.shape, bool)
    for index in np.ndindex(x.shape):
        at = {}
        for k in (-2, -1, 0, 1, 2):
            moved = x.copy()
            moved[index] += k * step
            at[k] = np.broadcast_to(function(moved), x.shape)[index]
        slope = (8 * (at[1] - at[-1]) - (at[2] - at[-2])) / (12 * step)
        bend = abs(at[2] - at[1] - (at[-1] - at[-2])) / step
        derivative[index], smooth[index] = slope, bend <= 50 * step * (1 + abs(slope)) ** 2
    return derivative, smooth


@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradients_are_derivatives(case, rng):
    """With respect to every input, those too that a call has to name."""
    everywhere = []
    for shape in case.shapes:
        sample = case.sample(rng, shape)
        _, gradients = case.value_and_grad(sample, reduction="sum")
        for name, gradient in zip(case.inputs, gradients, strict=True):

            def total(array, sample=sample, name=name):
                return case.expected(sample.replace(**{name: array}))[0].sum()

            expected, smooth = differentiate(total, sample[name].astype(np.longdouble), np.longdouble(2.0**-15))
            np.testing.assert_allclose(gradient[smooth], expected[smooth].astype(float), rtol=CLOSE, atol=CLOSE)
            everywhere.append(smooth.ravel())
    assert np.concatenate(everywhere).mean() > 0.9


@pytest.mark.parametrize("case", [case for case in CASES if case.has_hessian], ids=str)
def test_hessians_are_derivatives_of_gradients(case, rng):
    everywhere = []
    for shape in case.shapes:
        sample = case.sample(rng, shape)
        _, hessians = case.grad_and_hess(sample, reduction="sum")
        for i, (name, hessian) in enumerate(zip(case.inputs, hessians, strict=True)):

            def gradient(array, sample=sample, name=name, i=i):
                return case.value_and_grad(sample.replace(**{name: array}), reduction="sum")[1][i]

            expected, smooth = differentiate(gradient, sample[name], 2.0**-13)
            np.testing.assert_allclose(hessian[smooth], expected[smooth], rtol=1e-8, atol=1e-8)
            everywhere.append(smooth.ravel())
    assert np.concatenate(everywhere).mean() > 0.9


@pytest.mark.parametrize("case", CASES, ids=str)
def test_derivatives_in_single_precision(case, rng):
    sample = case.sample(rng, case.shape(3000), np.float32)
    single = case.value_and_grad(sample, reduction="sum")[1]
    double = case.value_and_grad(sample.floats(np.float64), reduction="sum")[1]
    if case.has_hessian:
        single = sum(case.grad_and_hess(sample, reduction="sum"), ())
        double = sum(case.grad_and_hess(sample.floats(np.float64), reduction="sum"), ())
    for narrow, exact in zip(single, double, strict=True):
        assert narrow.dtype == np.float32
        # Of what elements share, the derivative is a sum.
        np.testing.assert_allclose(narrow, exact, rtol=2e-6, atol=4e-7 * sample.first.size / narrow.size)


@pytest.mark.parametrize("dtype", [np.float16, BFLOAT16], ids=["float16", "bfloat16"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_half_precision_is_computed_in_single(case, dtype, rng):
    """Results are those of float32, of which arrays are rounded to the input's dtype."""
    half = case.sample(rng, case.shape(3000), dtype)
    single = half.floats(np.float32)
    for reduction in ("mean", "sum"):
        value, gradients = case.value_and_grad(half, reduction=reduction)
        expected, slopes = case.value_and_grad(single, reduction=reduction)
        assert value == expected
        for gradient, slope in zip(gradients, slopes, strict=True):
            np.testing.assert_array_equal(gradient, slope.astype(dtype), strict=True)
    losses = case.value(single, reduction="none")
    np.testing.assert_array_equal(case.value(half, reduction="none"), losses.astype(dtype), strict=True)


@pytest.mark.parametrize("case", PLAIN, ids=str)
def test_integers_are_computed_in_double(case, rng):
    sample = case.sample(rng, case.shape(500))
    sample.options.clear()
    sample.options.update(case.variant.options)
    for dtype in (np.int8, np.uint8, np.int32, np.int64, np.uint64, bool):
        whole = {
            name: np.asarray(rng.integers(case.operands[name].kind == "positive", 2, sample[name].shape)).astype(dtype)
            for name in case.inputs
        }
        for name in case.verbs:
            actual = case.call(name, sample.replace(**whole), reduction="none")
            double = {name: array.astype(np.float64) for name, array in whole.items()}
            expected = case.call(name, sample.replace(**double), reduction="none")
            np.testing.assert_equal(actual, expected, strict=True)


@pytest.mark.parametrize("case", PLAIN, ids=str)
def test_operands_are_taken_in_the_type_of_the_first(case, rng):
    sample = case.sample(rng, case.shape(500))
    for dtype in FLOATS:
        first = {next(iter(sample.operands)): sample.first.astype(dtype)}
        rounded = sample.floats(np.float64 if dtype is np.float64 else np.float32)
        value, gradients = case.value_and_grad(sample.replace(**first))
        expected, slopes = case.value_and_grad(rounded.replace(**first))
        assert value == expected
        for name, gradient, slope in zip(case.inputs, gradients, slopes, strict=True):
            assert gradient.dtype == first.get(name, sample[name]).dtype
            np.testing.assert_array_equal(gradient, slope.astype(gradient.dtype))


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
