"""The verbs against each other, classes against functions, and weights of samples."""

import lossrs
import numpy as np
import pytest
from cases import ALL_VERBS, CASES, FLOATS, PLAIN, Sample, assert_same, exact_mean, results, verb

REDUCTIONS = ("none", "mean", "sum")


def sample_weight_of(case, sample, rng, values=(0.0, 0.5, 1.0, 2.0, 3.7)):
    """Draw weights, the first two of which are not zero."""
    weight = rng.choice(values, case.samples_shape(sample.input))
    weight.ravel()[:2] = values[-1]
    return np.asarray(weight, sample.input.dtype)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_verbs_agree(case, rng):
    for shape in case.shapes():
        sample = case.sample(rng, shape)
        for sample_weight in (None, sample_weight_of(case, sample, rng)):
            for reduction in REDUCTIONS:
                options = sample.options | {"sample_weight": sample_weight, "reduction": reduction}
                arguments = sample.input, sample.target
                value = case.function(*arguments, **options)
                also, gradient = case.function.value_and_grad(*arguments, **options)
                again, _ = case.function.grad_and_hess(*arguments, **options)
                one = np.ones(case.samples_shape(sample.input)) if reduction == "none" else 1
                product = case.function.backward(one, *arguments, **options)
                np.testing.assert_array_equal(also, value, strict=True)
                np.testing.assert_array_equal(again, gradient, strict=True)
                np.testing.assert_array_equal(product, gradient, strict=True)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_derivatives_of_the_mean_are_those_of_the_sum_over_the_weight(case, rng):
    for shape in case.shapes():
        sample = case.sample(rng, shape)
        weight = sample_weight_of(case, sample, rng)
        options = sample.options | {"sample_weight": weight}
        total = (case.expected(sample)[1] * weight).sum(dtype=np.longdouble).astype(float)
        ofsum = case.function.grad_and_hess(sample.input, sample.target, reduction="sum", **options)
        ofnone = case.function.grad_and_hess(sample.input, sample.target, reduction="none", **options)
        for name, sums, nones in zip(ofsum, ofsum, ofnone, strict=True):
            np.testing.assert_array_equal(sums, nones, err_msg=str(name))
        if total == 0:
            continue
        ofmean = case.function.grad_and_hess(sample.input, sample.target, **options)
        for means, sums in zip(ofmean, ofsum, strict=True):
            np.testing.assert_allclose(means, sums / total, rtol=1e-14, atol=1e-16)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_backward_multiplies_the_gradient(case, rng):
    for shape in case.shapes():
        sample = case.sample(rng, shape)
        arguments, options = (sample.input, sample.target), sample.options
        _, gradient = case.function.value_and_grad(*arguments, reduction="none", **options)
        grad_output = rng.choice([-2.0, 0.0, 0.5, 4.0], case.samples_shape(sample.input))
        product = case.function.backward(grad_output, *arguments, reduction="none", **options)
        axis = min(1, len(shape) - 1)
        factor = np.expand_dims(grad_output, axis) if case.rowwise else grad_output
        np.testing.assert_array_equal(product, factor * gradient)
        _, gradient = case.function.value_and_grad(*arguments, reduction="sum", **options)
        for number in (2, -0.5, np.float32(4), np.array(0.25)):
            product = case.function.backward(number, *arguments, reduction="sum", **options)
            np.testing.assert_array_equal(product, number * gradient)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_classes_are_functions_with_their_options(case, rng):
    sample = case.sample(rng, case.shapes()[2])
    weight = sample_weight_of(case, sample, rng)
    for reduction in REDUCTIONS:
        loss = case.loss(sample, reduction=reduction)
        for name in ALL_VERBS:
            grad_output = np.ones(case.samples_shape(sample.input)) if reduction == "none" else 2.0
            arguments = ([grad_output] if name == "backward" else []) + [sample.input, sample.target]
            of_class = verb(loss, name)(*arguments, sample_weight=weight)
            options = sample.options | {"sample_weight": weight, "reduction": reduction}
            of_function = verb(case.function, name)(*arguments, **options)
            np.testing.assert_equal(of_class, of_function, strict=True)


@pytest.mark.parametrize("dtype", FLOATS, ids=["float64", "float32", "float16", "bfloat16"])
@pytest.mark.parametrize("case", PLAIN, ids=str)
def test_out_receives_results(case, dtype, rng):
    """A fresh array, the input itself, and where it is possible the target."""
    for shape in [*case.shapes(), case.shape(3000, 1100)]:
        sample = case.sample(rng, shape, dtype)
        options = sample.options | {"reduction": "none"}
        function, target = case.function, sample.target
        losses, gradient = function.value_and_grad(sample.input, target, **options)
        _, hessian = function.grad_and_hess(sample.input, target, **options)
        ones = np.ones_like(losses)

        def check(actual, out, expected):
            assert actual is out
            np.testing.assert_array_equal(actual, expected, strict=True)

        out = np.full_like(losses, 9)
        check(function(sample.input, target, out=out, **options), out, losses)
        for make in (np.empty_like, np.copy):
            # `np.copy` makes the out that is the input itself.
            input = make(sample.input)
            input[...] = sample.input
            out = input if make is np.copy else np.full_like(input, 9)
            check(function.value_and_grad(input, target, out=out, **options)[1], out, gradient)
            input[...] = sample.input
            check(function.backward(ones, input, target, out=out, **options), out, gradient)
            input[...] = sample.input
            pair = (out, np.full_like(out, 9))
            first, second = function.grad_and_hess(input, target, out=pair, **options)
            check(first, pair[0], gradient)
            check(second, pair[1], hessian)
        if target.shape == sample.input.shape:
            out = target.copy()
            check(function.value_and_grad(sample.input, out, out=out, **options)[1], out, gradient)
            both = target.copy(), sample.input.copy()
            first, second = function.grad_and_hess(both[1], both[0], out=both, **options)
            check(first, both[0], gradient)
            check(second, both[1], hessian)
        if not case.rowwise:
            input = sample.input.copy()
            check(function(input, target, out=input, **options), input, losses)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_sample_weights_broadcast(case, rng):
    shape = (6, 3, 4) if case.rowwise else (6, 4)
    sample = case.sample(rng, shape)
    for narrow in ((), (1,), (4,), (6, 1), (1, 4), (6, 4)):
        weight = rng.choice([0.5, 1.0, 4.0], narrow)
        wide = np.ascontiguousarray(np.broadcast_to(weight, (6, 4)))
        assert_same(results(case, sample, weight), results(case, sample, wide))
        assert_same(results(case, sample, weight.tolist()), results(case, sample, wide))
    losses = case.function(sample.input, sample.target, reduction="none", **sample.options)
    weighted = case.function(sample.input, sample.target, reduction="none", sample_weight=wide, **sample.options)
    np.testing.assert_array_equal(weighted, losses * wide)
    mean = case.function(sample.input, sample.target, sample_weight=wide, **sample.options)
    assert mean == exact_mean(case, sample, weighted, wide)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_whole_weights_repeat_samples(case, rng):
    """Powers of two, so that no product is rounded: the same bits."""
    sample = case.sample(rng, case.shape(500))
    weight = sample_weight_of(case, sample, rng, (0, 1, 2, 4))
    count = len(weight)
    repeat = weight.astype(int)
    repeated = Sample(
        sample.input.repeat(repeat, 0),
        sample.target.repeat(repeat, 0),
        {
            name: value.repeat(repeat) if isinstance(value, np.ndarray) and len(value) == count else value
            for name, value in sample.options.items()
        },
    )
    for reduction in ("mean", "sum"):
        weighted = case.function(
            sample.input, sample.target, sample_weight=weight, reduction=reduction, **sample.options
        )
        assert weighted == case.function(repeated.input, repeated.target, reduction=reduction, **repeated.options)


def assert_left_out(actual, expected, gone):
    """Check that results are those without some samples, whose own are exactly 0."""
    for name, value in expected.items():
        if np.ndim(value):
            np.testing.assert_array_equal(actual[name][~gone], value, err_msg=name, strict=True)
            assert not actual[name][gone].any(), name
        else:
            assert actual[name] == value, name


GARBAGE = [np.nan, np.inf, -np.inf, 1e300, -7.0]


@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_weight_zero_removes_a_sample_whatever_it_holds(case, dtype, rng):
    sample = case.sample(rng, case.shape(300), dtype)
    weight = sample_weight_of(case, sample, rng)
    gone = weight == 0
    assert 0 < gone.sum() < len(gone)
    with np.errstate(over="ignore"):
        garbage = rng.choice(GARBAGE, sample.input.shape).astype(dtype)
        sample.input[gone] = garbage[gone]
        sample.target[gone] = rng.choice([-5, 10**6], gone.sum()) if case.target == "label" else garbage[gone]
    expected = results(case, case.drop(sample, gone), weight[~gone])
    assert_left_out(results(case, sample, weight), expected, gone)


@pytest.mark.parametrize("case", [case for case in PLAIN if case.arrays and not case.rowwise], ids=str)
def test_weight_zero_of_an_element_removes_it(case, rng):
    """torch's own `weight`, too."""
    sample = case.sample(rng, (300,))
    gone = rng.random(300) < 0.3
    sample.options["weight"][gone] = 0
    sample.input[gone] = rng.choice(GARBAGE, gone.sum())
    for name, value in results(case, sample).items():
        assert np.isfinite(value).all(), name
        assert np.ndim(value) == 0 or not value[gone].any(), name


@pytest.mark.parametrize("case", [case for case in PLAIN if case.target == "label"], ids=str)
@pytest.mark.parametrize("why", ["ignored", "of weight 0"])
def test_samples_of_an_ignored_label_or_of_class_weight_zero_are_left_out(case, why, rng):
    sample = case.sample(rng, (60, 5))
    sample.options["weight"][4] = 0
    sample.target[:] = rng.integers(0, 4, 60)
    gone = np.arange(60) < 20
    expected = results(case, case.drop(sample, gone))
    sample.target[gone] = 4 if why == "of weight 0" else lossrs.losses[case.name]().ignore_index
    sample.input[gone] = rng.choice(GARBAGE, (20, 5))
    assert_left_out(results(case, sample), expected, gone)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_arguments_are_not_written(case, rng):
    for shape in [*case.shapes(), case.shape(3000, 1100)]:
        sample = case.sample(rng, shape)
        weight = sample_weight_of(case, sample, rng)
        before, weight_before = sample.map(np.copy), weight.copy()
        results(case, sample, weight)
        np.testing.assert_equal(sample, before)
        np.testing.assert_array_equal(weight, weight_before)
