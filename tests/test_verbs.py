"""The verbs against each other, classes against functions, and weights of samples."""

import functools
import itertools

import numpy as np
import pytest
from cases import CASES, FLOATS, PLAIN, assert_same, exact_mean, results, verb

SEVERAL = [case for case in PLAIN if len(case.inputs) > 1]


def sample_weight_of(case, sample, rng, values=(0.0, 0.5, 1.0, 2.0, 3.7)):
    """Draw weights, the first two of which are not zero."""
    weight = rng.choice(values, case.samples_shape(sample))
    weight.ravel()[:2] = values[-1]
    return np.asarray(weight, sample.first.dtype)


def assert_equal(actual, expected):
    """Check results of a verb, tuples of arrays among them."""
    np.testing.assert_equal(actual, expected, strict=True)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_verbs_agree(case, rng):
    for shape in case.shapes:
        sample = case.sample(rng, shape)
        for sample_weight in (None, sample_weight_of(case, sample, rng)):
            for reduction in case.loss_class.reductions:
                options = {"sample_weight": sample_weight, "reduction": reduction}
                value, gradients = case.value_and_grad(sample, **options)
                assert_equal(case.value(sample, **options), value)
                assert_equal(case.call("backward", sample, **options), gradients)
                if case.has_hessian:
                    assert_equal(case.grad_and_hess(sample, **options)[0], gradients)


@pytest.mark.parametrize("case", SEVERAL, ids=str)
def test_gradients_are_those_that_are_asked_for(case, rng):
    """By a name, an array; by a tuple, in its order, one each; by default those that training needs."""
    sample = case.sample(rng, case.shapes[-1])
    verbs = {
        "value_and_grad": lambda **options: case.function.value_and_grad(*sample.arguments, **options)[1:],
        "grad_and_hess": lambda **options: case.function.grad_and_hess(*sample.arguments, **options),
        "backward": lambda **options: (case.function.backward(1.0, *sample.arguments, **options),),
    }
    bound = case.loss(sample)
    for name in verbs.keys() & {*case.verbs}:
        call = functools.partial(verbs[name], **sample.options)
        every = [dict(zip(case.inputs, arrays, strict=True)) for arrays in call(wrt=case.inputs)]
        for input in case.inputs:
            assert_equal(call(wrt=input), tuple(arrays[input] for arrays in every))
        for count in range(1, len(case.inputs) + 1):
            for order in itertools.permutations(case.inputs, count):
                assert_equal(call(wrt=order), tuple(tuple(arrays[input] for input in order) for arrays in every))
                assert_equal(call(wrt=list(order)), call(wrt=order))
        asked = case.inputs[0] if case.kernel.asked == 1 else case.inputs[: case.kernel.asked]
        assert_equal(call(), call(wrt=asked))
        leading = [1.0] if name == "backward" else []
        of_class = verb(bound, name)(*leading, *sample.arguments, wrt=case.inputs[-1])
        of_function = verb(case.function, name)(*leading, *sample.arguments, wrt=case.inputs[-1], **sample.options)
        assert_equal(of_class, of_function)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_derivatives_of_the_mean_are_those_of_the_sum_over_the_weight(case, rng):
    for shape in case.shapes:
        sample = case.sample(rng, shape)
        options = {"sample_weight": sample_weight_of(case, sample, rng)}
        total = (case.expected(sample)[1] * options["sample_weight"]).sum(dtype=np.longdouble).astype(float)
        for name in case.verbs[1:]:
            of_sum = case.call(name, sample, reduction="sum", **options)
            of_none = case.call(name, sample, reduction="none", **options)
            assert_equal(*((of[1:] if name == "value_and_grad" else of) for of in (of_sum, of_none)))
            if total == 0:
                continue
            of_mean = case.call(name, sample, **options)
            for means, sums in zip(flat(of_mean), flat(of_sum), strict=True):
                # Of what elements share, the derivative is a sum of rounded ones.
                share = sample.first.size / max(1, np.size(means))
                np.testing.assert_allclose(means, sums / total, rtol=1e-14 * share, atol=1e-16 * share)


def flat(of):
    """Return the results of a verb one after the other."""
    return [part for each in of for part in (each if isinstance(each, tuple) else (each,))]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_backward_multiplies_the_gradient(case, rng):
    for shape in case.shapes:
        sample = case.sample(rng, shape)
        _, gradients = case.value_and_grad(sample, reduction="none")
        grad_output = rng.choice([-2.0, 0.0, 0.5, 4.0], case.samples_shape(sample))
        for product, gradient in zip(case.backward(grad_output, sample, reduction="none"), gradients, strict=True):
            if gradient.shape == sample.first.shape:
                np.testing.assert_array_equal(product, case.over_samples(sample, grad_output) * gradient)
        _, gradients = case.value_and_grad(sample, reduction="sum")
        for number in (2, -0.5, np.float32(4), np.array(0.25)):
            for product, gradient in zip(case.backward(number, sample, reduction="sum"), gradients, strict=True):
                np.testing.assert_array_equal(product, number * gradient)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_classes_are_functions_with_their_options(case, rng):
    sample = case.sample(rng, case.shapes[2])
    weight = sample_weight_of(case, sample, rng)
    for reduction in case.loss_class.reductions:
        loss = case.loss(sample, reduction=reduction)
        for name in case.verbs:
            grad_output = np.ones(case.samples_shape(sample)) if reduction == "none" else 2.0
            arguments = ([grad_output] if name == "backward" else []) + [*sample.arguments]
            of_class = verb(loss, name)(*arguments, sample_weight=weight)
            options = sample.options | {"sample_weight": weight, "reduction": reduction}
            assert_equal(of_class, verb(case.function, name)(*arguments, **options))
            by_name = dict(zip(sample.operands, sample.arguments, strict=True))
            leading = arguments[: len(arguments) - len(by_name)]
            assert_equal(verb(loss, name)(*leading, sample_weight=weight, **by_name), of_class)
            assert_equal(verb(case.function, name)(*leading, **by_name, **options), of_class)


@pytest.mark.parametrize("dtype", FLOATS, ids=["float64", "float32", "float16", "bfloat16"])
@pytest.mark.parametrize("case", PLAIN, ids=str)
def test_out_receives_results(case, dtype, rng):
    """Fresh arrays, and where it is possible operands."""
    for shape in [*case.shapes, case.shape(3000, 1100)]:
        sample = case.sample(rng, shape, dtype)
        losses, gradients = case.value_and_grad(sample, reduction="none")
        out = np.full_like(losses, 9)
        assert case.value(sample, reduction="none", out=out) is out
        np.testing.assert_array_equal(out, losses, strict=True)
        expected = dict.fromkeys(("value_and_grad", "backward"), gradients)
        if case.has_hessian:
            expected["grad_and_hess"] = sum(case.grad_and_hess(sample, reduction="none"), ())
        like = sample.first
        overwritten = [
            name for name, array in sample.operands.items() if (array.shape, array.dtype) == (like.shape, like.dtype)
        ]
        for name, of in expected.items():
            for turn in range(1 + len(overwritten)):
                own = sample.map(np.copy)
                # All of them fresh, and then as many operands as there are, beginning with each of them.
                taken = (
                    [own[each] for each in overwritten[turn:] + overwritten[:turn]] if turn < len(overwritten) else []
                )
                outs = tuple(
                    taken.pop(0) if taken and each.shape == like.shape else np.full_like(each, 9) for each in of
                )
                half = len(outs) // 2
                given = (outs[:half], outs[half:]) if name == "grad_and_hess" else outs
                if turn < len(overwritten) and not case.reference.in_place:
                    with pytest.raises(ValueError, match="out shares memory with"):
                        case.call(name, own, reduction="none", out=given)
                    continue
                actual = case.call(name, own, reduction="none", out=given)
                actual = flat(actual[1:] if name == "value_and_grad" else actual)
                for result, out, array in zip(actual, outs, of, strict=True):
                    assert result is out
                    np.testing.assert_array_equal(result, array, strict=True)
        for name in overwritten if losses.shape == like.shape else ():
            own = sample.map(np.copy)
            case.value(own, reduction="none", out=own[name])
            np.testing.assert_array_equal(own[name], losses, strict=True)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_sample_weights_broadcast(case, rng):
    sample = case.sample(rng, max(case.shapes, key=len))
    samples = case.samples_shape(sample)
    for narrow in {(), (1,), samples[-1:], samples[1:], samples[:1] + (1,) * (len(samples) - 1), samples}:
        weight = rng.choice([0.5, 1.0, 4.0], narrow)
        wide = np.ascontiguousarray(np.broadcast_to(weight, samples))
        expected = results(case, sample, wide)
        assert_same(results(case, sample, weight), expected)
        assert_same(results(case, sample, weight.tolist()), expected)
    wide = rng.choice([0.5, 1.0, 4.0], samples)
    weighted = case.value(sample, reduction="none", sample_weight=wide)
    np.testing.assert_array_equal(weighted, case.value(sample, reduction="none") * wide)
    assert case.value(sample, sample_weight=wide) == exact_mean(case, sample, weighted, wide)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_whole_weights_repeat_samples(case, rng):
    """Powers of two, so that no product is rounded: the same bits."""
    sample = case.sample(rng, case.shape(500))
    weight = sample_weight_of(case, sample, rng, (0, 1, 2, 4))
    repeated = case.take(sample, np.arange(len(weight)).repeat(weight.astype(int)))
    for reduction in ("mean", "sum"):
        weighted = case.value(sample, sample_weight=weight, reduction=reduction)
        assert weighted == case.value(repeated, reduction=reduction)


def assert_left_out(actual, expected, gone):
    """Check that results are those without some samples, whose own are exactly 0."""
    for name, value in expected.items():
        if np.shape(value)[:1] == ((~gone).sum(),):
            np.testing.assert_array_equal(actual[name][~gone], value, err_msg=name, strict=True)
            assert not actual[name][gone].any(), name
        else:
            np.testing.assert_array_equal(actual[name], value, err_msg=name)


GARBAGE = [np.nan, np.inf, -np.inf, 1e300, -7.0]


def fill_with_garbage(sample, gone, rng):
    """Give samples operands that are no numbers, too large, or outside their domain."""
    for array in sample.operands.values():
        if array.shape[:1] != gone.shape:
            continue
        if array.dtype.kind in "iu":
            array[gone] = rng.choice([-5, 10**6], array.shape)[gone]
        else:
            with np.errstate(over="ignore"):
                array[gone] = rng.choice(GARBAGE, array.shape).astype(array.dtype)[gone]


@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_weight_zero_removes_a_sample_whatever_it_holds(case, dtype, rng):
    sample = case.sample(rng, case.shape(300), dtype)
    weight = sample_weight_of(case, sample, rng)
    gone = weight == 0
    assert 0 < gone.sum() < len(gone)
    fill_with_garbage(sample, gone, rng)
    expected = results(case, case.take(sample, ~gone), weight[~gone])
    assert_left_out(results(case, sample, weight), expected, gone)


@pytest.mark.parametrize("case", [case for case in PLAIN if case.arrays and case.elementwise], ids=str)
def test_weight_zero_of_an_element_removes_it(case, rng):
    """torch's own `weight`, too."""
    sample = case.sample(rng, (300,))
    gone = rng.random(300) < 0.3
    sample.options["weight"][gone] = 0
    fill_with_garbage(sample, gone, rng)
    for name, value in results(case, sample).items():
        assert np.isfinite(value).all(), name
        assert np.ndim(value) == 0 or not value[gone].any(), name


@pytest.mark.parametrize("case", [case for case in PLAIN if case.label and "weight" in case.arrays], ids=str)
@pytest.mark.parametrize("why", ["ignored", "of weight 0"])
def test_samples_of_an_ignored_label_or_of_class_weight_zero_are_left_out(case, why, rng):
    ignored = getattr(case.loss_class(), "ignore_index", None)
    if why == "ignored" and ignored is None:
        return
    sample = case.sample(rng, (60, 5))
    sample.options["weight"][4] = 0
    sample[case.label][:] = rng.integers(0, 4, 60)
    gone = np.arange(60) < 20
    expected = results(case, case.take(sample, ~gone))
    sample[case.label][gone] = 4 if why == "of weight 0" else ignored
    if case.expected(sample)[1][gone].any():
        # As torch has it, the mean of some losses counts samples of weight 0.
        expected = {name: value for name, value in expected.items() if name in ("none", "sum") or "unreduced" in name}
    labels = sample[case.label].copy()
    fill_with_garbage(sample, gone, rng)
    found = results(case, sample.replace(**{case.label: labels}))
    assert_left_out(found, expected, gone)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_arguments_are_not_written(case, rng):
    for shape in [*case.shapes, case.shape(3000, 1100)]:
        sample = case.sample(rng, shape)
        weight = sample_weight_of(case, sample, rng)
        before, weight_before = sample.map(np.copy), weight.copy()
        results(case, sample, weight)
        np.testing.assert_equal((sample.operands, sample.options), (before.operands, before.options))
        np.testing.assert_array_equal(weight, weight_before)
