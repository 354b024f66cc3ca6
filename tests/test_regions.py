"""The losses of regions against plain NumPy, over all of their options."""

import itertools
import math

import lossrs
import lossrs.functional as F
import numpy as np
import pytest
from cases import BFLOAT16, FLOATS, INTEGERS, bits, instruction_set, threads, ulps
from hypothesis import given
from hypothesis import strategies as st
from layouts import LAYOUTS
from reference import times

NAMES = ("dice_loss", "jaccard_loss", "tversky_loss", "focal_tversky_loss")
MODES = ("binary", "multilabel", "multiclass")
EMPTIES = ("smooth", "zero", "skip")
#: Settings of each loss's own options.
PARAMETERS = {
    "dice_loss": ({}, {"squared": True}),
    "jaccard_loss": ({}, {"squared": True}),
    "tversky_loss": ({}, {"alpha": 0.25, "beta": 1.5}),
    "focal_tversky_loss": ({}, {"alpha": 0.5, "beta": 0.5, "gamma": 2.0}),
}
SMOOTHINGS = (
    {},
    {"smooth_numerator": 0.0, "smooth_denominator": 0.0},
    {"smooth_numerator": 0.5, "smooth_denominator": 1.0},
)


def probabilities(input, mode, from_logits):
    """Return probabilities and their complements, classes along axis 1."""
    if not from_logits:
        return input, 1 - input
    with np.errstate(over="ignore"):
        if mode != "multiclass":
            return 1 / (1 + np.exp(-input)), 1 / (1 + np.exp(input))
    powers = np.exp(input - input.max(1, keepdims=True))
    total = powers.sum(1, keepdims=True)
    others = np.stack([np.delete(powers, c, 1).sum(1) for c in range(input.shape[1])], 1)
    return powers / total, others / total


def regions(complement):
    """Return the losses of images from that of a class, and whether each counts."""

    def formula(
        input,
        target,
        mode="binary",
        from_logits=True,
        weight=None,
        ignore_index=None,
        per_image=True,
        empty="smooth",
        smooth_numerator=1e-5,
        smooth_denominator=1e-5,
        **options,
    ):
        has_labels = mode == "multiclass" and target.ndim < input.ndim
        input = input.reshape(len(input), 1 if mode == "binary" else input.shape[1], -1)
        target = target.reshape(len(target), 1 if has_labels else input.shape[1], -1)
        kept = np.broadcast_to(True if ignore_index is None else target != ignore_index, input.shape)
        if has_labels:
            target = target == np.arange(input.shape[1])[:, None]
        p, q = probabilities(input, mode, from_logits)
        p, q, g = np.where(kept, p, 0), np.where(kept, q, 1), np.where(kept, target, 0).astype(input.dtype)
        if not per_image:
            p, q, g = (np.moveaxis(array, 1, 0).reshape(1, array.shape[1], -1) for array in (p, q, g))
        absent = ~g.any(-1)
        # Of errors, as their difference from one would cancel.
        over, under = p * (1 - g), q * g
        if options.pop("squared", False):
            over, under = np.maximum(over - under, 0) ** 2, np.maximum(under - over, 0) ** 2
        sums = ((p * g).sum(-1), over.sum(-1), under.sum(-1))
        losses = complement(*sums, smooth_numerator, smooth_denominator, **options)
        weight = np.ones(p.shape[1], input.dtype) if weight is None else np.asarray(weight, input.dtype)
        weight = np.where(absent & (empty == "skip"), 0, weight)
        losses = times(weight, np.where(absent & (empty != "smooth"), 0, losses)).sum(1)
        total = weight.sum(1)
        losses, counts = np.divide(losses, total, out=np.zeros_like(losses), where=total != 0), total != 0
        return (losses, counts) if per_image else (losses[0], counts[0])

    return formula


def ratio(numerator, denominator):
    """Return a ratio in which 0/0 is 0."""
    return np.divide(numerator, denominator, out=np.zeros_like(denominator), where=denominator != 0)


@regions
def dice(both, over, under, n, d):
    return ratio(over + under + (d - n), 2 * both + over + under + d)


@regions
def jaccard(both, over, under, n, d):
    return ratio(over + under + (d - n), both + over + under + d)


@regions
def tversky(both, over, under, n, d, alpha=0.5, beta=0.5):
    return ratio(alpha * over + beta * under + (d - n), both + alpha * over + beta * under + d)


@regions
def focal_tversky(both, over, under, n, d, alpha=0.3, beta=0.7, gamma=0.75):
    errors = alpha * over + beta * under
    return ratio(errors + (d - n), both + errors + d) ** gamma


FORMULAS = {
    "dice_loss": dice,
    "jaccard_loss": jaccard,
    "tversky_loss": tversky,
    "focal_tversky_loss": focal_tversky,
}


def reference(name, input, target, options):
    """Return the losses and whether each counts, in extended precision."""
    return FORMULAS[name](np.asarray(input, np.longdouble), np.asarray(target), **options)


def shape_of(mode, images=3, classes=4):
    return (images, 5, 7) if mode == "binary" else (images, classes, 5, 7)


def sample(rng, mode, from_logits, target="hard", dtype=np.float64, shape=None):
    """Draw an input and a target of which each class is absent from some images, and empty ones."""
    shape = shape or shape_of(mode)
    input = 2 * rng.standard_normal(shape) if from_logits else rng.uniform(0, 1, shape)
    if mode == "multiclass" and not from_logits:
        input /= input.sum(1, keepdims=True)
    if mode == "multiclass" and target == "hard":
        labels = rng.integers(0, shape[1], (shape[0], *shape[2:]))
        labels[labels == shape[1] - 1] = 0
        labels[-1:] = 0
        return input.astype(dtype), labels
    if target == "soft":
        masks = rng.uniform(0, 1, shape)
        masks = masks / masks.sum(1, keepdims=True) if mode == "multiclass" else masks
        masks = (
            masks
            if mode == "binary"
            else masks * (np.arange(shape[1]) < shape[1] - 1).reshape(-1, *[1] * (len(shape) - 2))
        )
        return input.astype(dtype), masks.astype(dtype)
    masks = (rng.uniform(0, 1, shape) < 0.4).astype(np.int64)
    masks[-1:] = 0
    return input.astype(dtype), masks


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("from_logits", [True, False])
def test_all_options_are_as_in_plain_numpy(rng, name, mode, from_logits):
    function = getattr(F, name)
    for kind, weighted, ignores in itertools.product(("hard", "soft"), (False, True), (False, True)):
        input, target = sample(rng, mode, from_logits, kind)
        options = {}
        if weighted:
            options["weight"] = [0.5] if mode == "binary" else [1.5, 0.0, 0.25, 1.0]
        if ignores:
            if mode == "multiclass" and kind == "soft":
                continue
            options["ignore_index"] = 255
            target[rng.uniform(0, 1, target.shape) < 0.3] = 255
        for per_image, empty in itertools.product((True, False), EMPTIES):
            for own, smoothing in itertools.product(PARAMETERS[name], SMOOTHINGS):
                call = {"mode": mode, "from_logits": from_logits, "per_image": per_image, "empty": empty}
                call |= options | own | smoothing
                expected, counts = reference(name, input, target, call)
                losses = function(input, target, reduction="none", **call)
                assert losses.shape == expected.shape == ((3,) if per_image else ())
                np.testing.assert_allclose(losses, expected.astype(float), rtol=1e-13, atol=1e-300, err_msg=str(call))
                mean = function(input, target, **call)
                number = counts.sum()
                np.testing.assert_equal(mean, math.fsum(np.atleast_1d(losses)) / number if number else math.nan)
                assert function(input, target, reduction="sum", **call) == math.fsum(np.atleast_1d(losses))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("from_logits", [True, False])
@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_gradients_are_central_differences(rng, name, mode, from_logits, kind):
    function = getattr(F, name)
    step = 2.0**-20
    for own, per_image, empty in itertools.product(PARAMETERS[name], (True, False), ("smooth", "skip")):
        input, target = sample(rng, mode, from_logits, kind, shape=(2, 3) if mode == "binary" else (2, 3, 4))
        if not from_logits:
            input = np.clip(input, 2 * step, 1 - 2 * step)
        options = {"smooth_numerator": 0.25, "smooth_denominator": 0.5, "mode": mode, "from_logits": from_logits}
        options |= {"per_image": per_image, "empty": empty, **own}
        if mode != "binary":
            options["weight"] = [1.0, 0.25, 2.0]
        if mode != "multiclass" or kind == "hard":
            options["ignore_index"] = 7
            target.ravel()[1] = 7
        if mode == "binary":
            target[0, 0] = 1
        weight = np.array([0.75, 2.0]) if per_image else np.array(1.25)
        value, gradient = function.value_and_grad(input, target, sample_weight=weight, **options)
        assert value == function(input, target, sample_weight=weight, **options)

        def mean(moved, target=target, weight=weight, options=options):
            losses, counts = reference(name, moved, target, options)
            weight = weight * counts
            return (losses * weight).sum() / weight.sum()

        expected = np.zeros(input.shape)
        for index in np.ndindex(input.shape):
            moved = np.array(input, np.longdouble)
            moved[index] += step
            above = mean(moved)
            moved[index] -= 2 * step
            expected[index] = (above - mean(moved)) / (2 * step)
        np.testing.assert_allclose(gradient, expected, rtol=1e-9, atol=1e-11, err_msg=str(options))
        if "ignore_index" in options:
            of_positions = np.moveaxis(gradient, 1, -1) if mode == "multiclass" else gradient
            assert np.all(of_positions[target == 7] == 0)


def test_the_verbs_agree(rng):
    for mode, per_image in itertools.product(MODES, (True, False)):
        input, target = sample(rng, mode, True)
        options = {"mode": mode, "per_image": per_image}
        shape = (3,) if per_image else ()
        losses = F.dice_loss(input, target, reduction="none", **options)
        out = np.empty(shape)
        assert F.dice_loss(input, target, reduction="none", out=out, **options) is out
        np.testing.assert_array_equal(out, losses)
        both, gradient = F.dice_loss.value_and_grad(input, target, reduction="none", **options)
        np.testing.assert_array_equal(both, losses)
        grad_output = rng.standard_normal(shape)
        product = F.dice_loss.backward(grad_output, input, target, reduction="none", **options)
        factors = grad_output.reshape(-1, *[1] * (input.ndim - 1)) if per_image else grad_output
        np.testing.assert_allclose(product, gradient * factors, rtol=1e-12, atol=1e-18)
        np.testing.assert_allclose(
            F.dice_loss.backward(2.0, input, target, **options),
            gradient * (2 / 3 if per_image else 2),
            rtol=1e-12,
            atol=1e-18,
        )
        assert not hasattr(F.dice_loss, "grad_and_hess")
        with pytest.raises(TypeError, match="dice_loss has no Hessian"):
            lossrs.DiceLoss(**options).grad_and_hess(input, target)


@pytest.mark.parametrize("name", NAMES)
def test_index_and_soft_targets_agree(rng, name):
    for from_logits in (True, False):
        input, labels = sample(rng, "multiclass", from_logits)
        masks = np.moveaxis(np.eye(input.shape[1])[labels], -1, 1)
        for target in (masks, masks.astype(np.uint8), masks.astype(bool), masks.astype(np.float32)):
            for verb in ("value_and_grad", "backward"):
                leading = (1.0,) if verb == "backward" else ()
                function = getattr(getattr(F, name), verb)
                options = {"mode": "multiclass", "from_logits": from_logits}
                of_labels = function(*leading, input, labels, **options)
                of_masks = function(*leading, input, target, **options)
                if verb == "backward":
                    of_labels, of_masks = (0, of_labels), (0, of_masks)
                assert of_labels[0] == of_masks[0]
                np.testing.assert_array_equal(of_labels[1], of_masks[1])


def test_one_formula_under_four_names(rng):
    input, target = sample(rng, "multilabel", True)
    none = {"mode": "multilabel", "reduction": "none", "smooth_numerator": 0.0, "smooth_denominator": 0.0}
    np.testing.assert_array_equal(F.dice_loss(input, target, **none), F.tversky_loss(input, target, **none))
    np.testing.assert_array_equal(
        F.jaccard_loss(input, target, **none), F.tversky_loss(input, target, alpha=1, beta=1, **none)
    )
    np.testing.assert_array_equal(
        F.tversky_loss(input, target, alpha=0.3, beta=0.7, **none),
        F.focal_tversky_loss(input, target, gamma=1, **none),
    )


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("from_logits", [True, False])
def test_an_ignored_position_is_as_if_it_were_not_there(rng, mode, from_logits):
    shape = (2, 40) if mode == "binary" else (2, 3, 40)
    input, target = sample(rng, mode, from_logits, shape=shape)
    gone = np.arange(40) % 3 == 1
    target[..., gone] = -1
    input[..., gone] = np.nan
    options = {"mode": mode, "from_logits": from_logits, "reduction": "none"}
    losses, gradient = F.dice_loss.value_and_grad(input, target, ignore_index=-1, **options)
    cropped = F.dice_loss.value_and_grad(input[..., ~gone], target[..., ~gone], **options)
    np.testing.assert_allclose(losses, cropped[0], rtol=1e-15)
    np.testing.assert_allclose(gradient[..., ~gone], cropped[1], rtol=1e-12, atol=1e-18)
    assert np.all(gradient[..., gone] == 0)
    assert not np.isnan(losses).any()
    everything = np.full_like(target, -1)
    for empty in EMPTIES:
        losses, gradient = F.dice_loss.value_and_grad(input, everything, ignore_index=-1, empty=empty, **options)
        np.testing.assert_array_equal(losses, 0)
        np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize("name", NAMES)
def test_what_an_absent_class_costs(name):
    function = getattr(F, name)
    # Class 1 is not in the target; nothing of it is predicted in the first image, and half of it in the second.
    input = np.array([[[1.0, 1.0], [0.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]]])
    target = np.array([[[1, 1], [0, 0]], [[1, 1], [0, 0]]])
    options = {"mode": "multilabel", "from_logits": False, "reduction": "none"}
    half = function(input[1:, :1], target[1:, :1], **options)[0]
    alpha = {"dice_loss": 0.5, "jaccard_loss": 1.0, "tversky_loss": 0.5, "focal_tversky_loss": 0.3}[name]
    unit = 0.5 if name == "dice_loss" else 1
    wrong = (alpha / (alpha + 1e-5 * unit)) ** (0.75 if name.startswith("focal") else 1)
    np.testing.assert_allclose(function(input, target, **options), [0, (half + wrong) / 2])
    np.testing.assert_allclose(function(input, target, empty="zero", **options), [0, half / 2])
    np.testing.assert_allclose(function(input, target, empty="skip", **options), [0, half])
    for empty in ("zero", "skip"):
        _, gradient = function.value_and_grad(input, target, empty=empty, **options)
        assert np.all(gradient[:, 1] == 0)
        assert np.any(gradient[1, 0] != 0)
    # Without smoothing nothing predicted of nothing is right, and something predicted of nothing wrong.
    none = {"smooth_numerator": 0.0, "smooth_denominator": 0.0}
    np.testing.assert_allclose(function(input[:, 1:], target[:, 1:], **options, **none), [0, 1])
    # As in Keras, where only the denominator is smoothed.
    none["smooth_denominator"] = 1e-7
    assert function(input[:1, 1:], target[:1, 1:], **options, **none) == [1]


def test_an_image_of_absent_classes_does_not_count():
    input = np.array([[0.5, -0.25], [np.nan, 1.0], [2.0, 0.5]])
    target = np.array([[1, 0], [0, 0], [0, 1]])
    losses = F.dice_loss(input, target, empty="skip", reduction="none")
    mean, gradient = F.dice_loss.value_and_grad(input, target, empty="skip")
    assert losses[1] == 0
    assert mean == (losses[0] + losses[2]) / 2
    kept, kept_gradient = F.dice_loss.value_and_grad(input[::2], target[::2])
    assert kept == mean
    np.testing.assert_array_equal(gradient[::2], kept_gradient)
    np.testing.assert_array_equal(gradient[1], 0)
    mean, gradient = F.dice_loss.value_and_grad(input, 0 * target, empty="skip")
    assert math.isnan(mean)
    np.testing.assert_array_equal(gradient, 0)
    counted = F.dice_loss(input, target, empty="zero", reduction="none")
    np.testing.assert_array_equal(counted, losses)
    assert F.dice_loss(input, target, empty="zero") == math.fsum(losses) / 3


def test_weights_of_images_and_classes(rng):
    input, target = sample(rng, "multiclass", True)
    input[1, :, 0] = np.nan
    target[1, 0] = 99
    weight = np.array([2.0, 0.0, 0.5])
    options = {"mode": "multiclass", "reduction": "none"}
    losses, gradient = F.jaccard_loss.value_and_grad(input, target, sample_weight=weight, **options)
    of_kept, gradient_of_kept = F.jaccard_loss.value_and_grad(input[::2], target[::2], **options)
    np.testing.assert_array_equal(losses, [2 * of_kept[0], 0, of_kept[1] / 2])
    np.testing.assert_allclose(gradient[::2], gradient_of_kept * weight[::2].reshape(2, 1, 1, 1), rtol=1e-14)
    np.testing.assert_array_equal(gradient[1], 0)
    assert F.jaccard_loss(input, target, mode="multiclass", sample_weight=weight) == math.fsum(losses) / 2.5
    # A class of weight 0 is left out, whatever is predicted of it.
    input, target = sample(rng, "multilabel", True)
    input[:, 2] = np.nan
    losses, gradient = F.dice_loss.value_and_grad(input, target, [1, 1, 0, 1], mode="multilabel")
    kept = [0, 1, 3]
    expected, expected_gradient = F.dice_loss.value_and_grad(input[:, kept], target[:, kept], mode="multilabel")
    assert losses == expected
    np.testing.assert_array_equal(gradient[:, kept], expected_gradient)
    np.testing.assert_array_equal(gradient[:, 2], 0)
    # One loss of the batch has one weight.
    assert F.dice_loss(input, target, [1, 1, 0, 1], mode="multilabel", per_image=False, sample_weight=0.0,
                       reduction="sum") == 0  # fmt: skip
    with pytest.raises(
        ValueError, match=r"sample_weight of shape \(3,\) does not broadcast to the losses' shape, \(\)"
    ):
        F.dice_loss(input, target, mode="multilabel", per_image=False, sample_weight=weight)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("squared", [False, True])
def test_near_perfect_predictions_keep_their_digits(rng, dtype, squared):
    """Where one minus the index has no digits left."""
    limit = 40 * np.finfo(dtype).eps
    masks = rng.integers(0, 2, (2, 300))
    logits = (np.where(masks, 1, -1) * rng.uniform(15, 20, masks.shape)).astype(dtype)
    none = {"smooth_numerator": 0.0, "smooth_denominator": 0.0}
    for name in NAMES[:2] if squared else NAMES:
        options = {**none, "squared": True} if squared else none
        losses, gradient = getattr(F, name).value_and_grad(logits, masks, reduction="none", **options)
        expected, _ = reference(name, logits, masks, options)
        assert np.all(expected < 1e-5)
        np.testing.assert_allclose(losses, expected.astype(float), rtol=limit)
        assert np.all(gradient != 0)
        p = (1 - rng.uniform(0, 1e-5, masks.shape)).astype(dtype)
        p = np.where(masks, p, 1 - p)
        losses = getattr(F, name)(p, masks, from_logits=False, reduction="none", **options)
        expected, _ = reference(name, p, masks, {**options, "from_logits": False})
        np.testing.assert_allclose(losses, expected.astype(float), rtol=limit)
    labels = rng.integers(0, 4, (2, 300))
    logits = rng.standard_normal((2, 4, 300))
    np.put_along_axis(logits, labels[:, None], 40.0, 1)
    logits = logits.astype(dtype)
    options = {"mode": "multiclass", **none, **({"squared": True} if squared else {})}
    losses, gradient = F.dice_loss.value_and_grad(logits, labels, reduction="none", **options)
    expected, _ = reference("dice_loss", logits, labels, options)
    np.testing.assert_allclose(losses, expected.astype(float), rtol=limit)
    # The gradient of a softmax, in extended precision.
    p, _ = probabilities(logits.astype(np.longdouble), "multiclass", True)
    g = (labels[:, None] == np.arange(4)[:, None]).astype(np.longdouble)
    if not squared:
        denominator = (p + g).sum(-1, keepdims=True)
        slope = (2 * (p * g).sum(-1, keepdims=True) / denominator - 2 * g) / denominator / 4
        at_label = np.where(g == 1, 0, p * (slope - (slope * g).sum(1, keepdims=True)))
        at_label = at_label - p * np.where(g == 1, 0, at_label).sum(1, keepdims=True)
        np.testing.assert_allclose(gradient, at_label.astype(float), rtol=limit)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("mode", MODES)
def test_every_dtype(rng, dtype, mode):
    for from_logits in (True, False):
        input, target = sample(rng, mode, from_logits, dtype=dtype)
        options = {"mode": mode, "from_logits": from_logits}
        losses, gradient = F.tversky_loss.value_and_grad(input, target, reduction="none", **options)
        assert losses.dtype == gradient.dtype == input.dtype
        wide = input.astype(np.float64)
        expected, expected_gradient = F.tversky_loss.value_and_grad(wide, target, reduction="none", **options)
        assert np.all(ulps(losses, expected) <= 12)
        unit = {np.float64: 1e-15, np.float32: 1e-6, np.float16: 1e-3, BFLOAT16: 8e-3}[dtype]
        np.testing.assert_allclose(gradient.astype(float), expected_gradient, rtol=4 * unit, atol=unit / 10)
        assert isinstance(F.tversky_loss(input, target, **options), float)
        for integer in [*INTEGERS, np.dtype(bool)]:
            if integer == np.dtype(bool) and mode == "multiclass":
                continue
            again = F.tversky_loss.value_and_grad(input, target.astype(integer), reduction="none", **options)
            np.testing.assert_array_equal(bits(again[0]), bits(losses))
            np.testing.assert_array_equal(bits(again[1]), bits(gradient))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [np.float32, BFLOAT16])
def test_any_layout_gives_the_same_bits(rng, layout, dtype):
    for mode, from_logits, kind, per_image in itertools.product(MODES, (True, False), ("hard", "soft"), (True, False)):
        shape = (2, 33, 9) if mode == "binary" else (2, 3, 33, 9)
        input, target = sample(rng, mode, from_logits, kind, dtype=dtype, shape=shape)
        options = {"mode": mode, "from_logits": from_logits, "per_image": per_image, "reduction": "none"}
        expected = F.dice_loss.value_and_grad(input, target, **options)
        actual = F.dice_loss.value_and_grad(layout(input), layout(target), **options)
        for one, other in zip(actual, expected, strict=True):
            np.testing.assert_array_equal(bits(one), bits(other))
        out = layout(np.zeros_like(input))
        if out.flags.writeable:
            F.dice_loss.backward(np.ones_like(expected[0]), layout(input), layout(target), out=out, **options)
            np.testing.assert_array_equal(bits(np.asarray(out)), bits(expected[1]))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("mode", MODES)
def test_threads_and_instruction_sets_give_the_same_bits(rng, dtype, mode):
    shape = (3, 211, 401) if mode == "binary" else (3, 5, 89, 131)
    for per_image, squared in ((True, False), (False, True)):
        input, target = sample(rng, mode, True, dtype=dtype, shape=shape)
        options = {"mode": mode, "per_image": per_image, "squared": squared, "reduction": "none"}
        results = []
        for name, number in (("avx512", 1), ("avx512", 2), ("avx512", 7), ("avx2", 1), ("avx2", 3)):
            try:
                with instruction_set(name), threads(number):
                    results.append(F.dice_loss.value_and_grad(input, target, **options))
            except ValueError as error:
                assert "does not have the instruction set" in str(error)  # noqa: PT017
        with instruction_set("baseline"):
            # An image alone has the bits that it has among others.
            alone = [F.dice_loss.value_and_grad(input[i : i + 1], target[i : i + 1], **options) for i in range(3)]
            results.append(F.dice_loss.value_and_grad(input, target, **options))
        for losses, gradient in results:
            np.testing.assert_array_equal(bits(losses), bits(results[-1][0]))
            np.testing.assert_array_equal(bits(gradient), bits(results[-1][1]))
        if per_image:
            np.testing.assert_array_equal(bits(np.concatenate([loss for loss, _ in alone])), bits(results[0][0]))
            np.testing.assert_array_equal(bits(np.concatenate([slope for _, slope in alone])), bits(results[0][1]))


def test_the_gradient_may_go_where_an_argument_was(rng):
    for mode, from_logits, kind in itertools.product(MODES, (True, False), ("hard", "soft")):
        input, target = sample(rng, mode, from_logits, kind)
        options = {"mode": mode, "from_logits": from_logits}
        expected = F.dice_loss.value_and_grad(input, target, **options)
        for place in ("input", "target"):
            arguments = {"input": input.copy(), "target": target.astype(float)}
            out = arguments[place]
            if out.shape != input.shape:
                continue
            value, gradient = F.dice_loss.value_and_grad(**arguments, out=out, **options)
            assert gradient is out
            assert value == expected[0]
            np.testing.assert_array_equal(gradient, expected[1])


def test_binary_masks_may_have_an_axis_of_one_class(rng):
    input, target = sample(rng, "binary", True)
    expected = F.dice_loss.value_and_grad(input, target)
    for one, other in ((input[:, None], target[:, None]), (input[:, None], target), (input, target[:, None])):
        value, gradient = F.dice_loss.value_and_grad(one, other)
        assert value == expected[0]
        assert gradient.shape == one.shape
        np.testing.assert_array_equal(gradient.reshape(input.shape), expected[1])
    flat = F.dice_loss.value_and_grad(input.ravel(), target.ravel(), per_image=False)
    batch = F.dice_loss.value_and_grad(input, target, per_image=False)
    assert flat[0] == batch[0]
    np.testing.assert_array_equal(flat[1].reshape(input.shape), batch[1])


def test_nothing():
    for shape in ((0, 4), (0, 3, 4)):
        value, gradient = F.dice_loss.value_and_grad(np.zeros(shape), np.zeros(shape), mode="multilabel")
        assert math.isnan(value)
        assert gradient.shape == shape
        assert F.dice_loss(np.zeros(shape), np.zeros(shape), mode="multilabel", reduction="sum") == 0
        assert F.dice_loss(np.zeros(shape), np.zeros(shape), mode="multilabel", per_image=False) == 0
    np.testing.assert_array_equal(F.dice_loss(np.zeros((2, 0)), np.zeros((2, 0)), reduction="none"), [0, 0])
    np.testing.assert_array_equal(
        F.dice_loss(np.zeros((2, 3, 0)), np.zeros((2, 0)), mode="multiclass", reduction="none"), [0, 0]
    )


def test_infinite_logits_are_certain():
    inf = np.inf
    losses, gradient = F.dice_loss.value_and_grad([[inf, -inf], [-inf, inf]], [[1, 0], [1, 0]], reduction="none")
    np.testing.assert_allclose(losses, [0, 1 - 1e-5 / (2 + 1e-5)])
    np.testing.assert_array_equal(gradient, 0)
    input = [[[3.0, -inf], [-inf, 2.0], [-inf, -inf]]]
    losses, gradient = F.dice_loss.value_and_grad(input, [[0, 1]], mode="multiclass", reduction="none")
    np.testing.assert_array_equal(losses, 0)
    np.testing.assert_array_equal(gradient, 0)
    for undefined in (inf, -inf):
        input = [[[3.0, undefined], [2.0, undefined]]]
        assert np.isnan(F.dice_loss(input, [[0, 1]], mode="multiclass"))
        assert F.dice_loss(input, [[0, 9]], mode="multiclass", ignore_index=9) == F.dice_loss(
            [[[3.0], [2.0]]], [[0]], mode="multiclass"
        )


def test_focal_tversky_is_flat_at_its_minimum():
    _, gradient = F.focal_tversky_loss.value_and_grad([[1.0, 0.0]], [[1, 0]], from_logits=False)
    np.testing.assert_array_equal(gradient, 0)


def test_labels_that_are_no_classes_are_found(rng):
    input, target = sample(rng, "multiclass", True)
    for from_logits in (True, False):
        options = {"mode": "multiclass", "from_logits": from_logits}
        scores = input if from_logits else np.full_like(input, 0.25)
        for wrong, text in ((4, "4"), (-1, "-1"), (255, "255")):
            bad = target.copy()
            bad[2, 4, 1], bad[1, 3, 6] = 77, wrong
            out = scores.copy()
            with pytest.raises(
                lossrs.LabelError, match=rf"label {text} at row \(1, 3, 6\) is outside \[0, 4\)"
            ) as info:
                F.dice_loss.value_and_grad(out, bad, out=out, **options)
            assert (info.value.row, info.value.label) == (35 + 27, wrong)
            np.testing.assert_array_equal(out, scores)
        floats = target.astype(float)
        assert F.dice_loss(scores, floats, **options) == F.dice_loss(scores, target, **options)
        floats[0, 0, 2] = 1.0 + 1e-12
        with pytest.raises(lossrs.LabelError, match=r"label 1.000000000001 at row \(0, 0, 2\) is not a whole number"):
            F.dice_loss(scores.astype(np.float32), floats, **options)


def test_values_outside_the_unit_interval_are_found(rng):
    for mode in MODES:
        input, target = sample(rng, mode, False, "soft")
        options = {"mode": mode, "from_logits": False}
        place = (1, *[2] * (input.ndim - 1))
        for name in ("input", "target"):
            for wrong in (1.5, -1e-3, np.inf):
                arguments = {"input": input.copy(), "target": target.copy()}
                arguments[name][place] = wrong
                arguments[name][2:, ..., 0] = 7
                place_of = ", ".join(map(str, place))
                match = rf"{name} {wrong} at row \({place_of}\) is outside \[0.0, 1.0\]|{name} {wrong} .* \[0, 1\]"
                before = arguments["input"].copy()
                with pytest.raises(lossrs.DomainError, match=match) as info:
                    F.dice_loss.value_and_grad(**arguments, out=arguments["input"], **options)
                assert info.value.row == np.ravel_multi_index(place, input.shape)
                assert info.value.value == wrong
                np.testing.assert_array_equal(arguments["input"], before)
            arguments = {"input": input.copy(), "target": target.copy()}
            arguments[name][place] = np.nan
            assert np.isnan(F.dice_loss(**arguments, **options))
    with pytest.raises(lossrs.DomainError, match=r"target 255.0 at row \(0, 1\)"):
        F.dice_loss([[0.5, 1.0]], np.array([[0, 255]], np.uint8))


def test_shapes_and_options_that_do_not_fit():
    images = np.zeros((2, 3, 4))
    for options, input, target, match in (
        ({}, images, images[:, 0], r"input has shape \(2, 3, 4\) and target \(2, 4\); they must be the same, or"),
        ({}, np.zeros(()), np.zeros(()), r"input has shape \(\); it must have an axis of images"),
        ({}, np.zeros(4), np.zeros(()), r"input has shape \(4,\) and target \(\); they must be the same, or"),
        ({"mode": "multilabel"}, images, images[:, :1], r"\(2, 1, 4\); they must be the same"),
        ({"mode": "multilabel"}, images[:, :0], images[:, :0], r"input of shape \(2, 0, 4\) has no classes"),
        ({"mode": "multiclass"}, np.zeros(3), np.zeros(3), "an axis of images and one of classes"),
        ({"mode": "multiclass"}, images, images[0], r"target has shape \(3, 4\); expected \(2, 4\) as labels or"),
        ({"mode": "multiclass", "ignore_index": 0}, images, images, "ignore_index goes with labels"),
        ({"mode": "multiclass", "weight": [1, 2]}, images, images, r"weight has shape \(2,\); expected .* \(3,\)"),
        ({"mode": "sum"}, images, images, "mode must be one of 'binary', 'multilabel', 'multiclass', got \"sum\""),
        ({"empty": "nan"}, images, images, "empty must be one of 'smooth', 'zero', 'skip', got \"nan\""),
        ({"smooth_numerator": 1.0}, images, images, "smooth_numerator must be at most smooth_denominator"),
        ({"smooth_denominator": -1.0}, images, images, "smooth_denominator must be at least 0, got -1"),
        ({"reduction": "batchmean"}, images, images, "reduction must be 'none', 'mean' or 'sum'"),
    ):
        with pytest.raises(ValueError, match=match):
            F.dice_loss(input, target, **options)
    for name, value in (("alpha", -0.5), ("beta", math.nan), ("gamma", 0.0)):
        with pytest.raises(ValueError, match=f"{name} must be"):
            F.focal_tversky_loss(images, images, **{name: value})
    for name, value in (
        ("from_logits", "yes"),
        ("per_image", 2),
        ("mode", 1),
        ("ignore_index", 0.5),
        ("squared", None),
    ):
        with pytest.raises(TypeError, match=f"{name} must be"):
            F.dice_loss(images, images, **{name: value})


@st.composite
def calls(draw):
    mode = draw(st.sampled_from(MODES))
    images, classes = draw(st.integers(0, 4)), draw(st.integers(1, 70))
    axes = draw(st.lists(st.integers(0, 40), max_size=2))
    shape = (images, *axes) if mode == "binary" else (images, classes, *axes)
    name = draw(st.sampled_from(NAMES))
    options = {
        "mode": mode,
        "from_logits": draw(st.booleans()),
        "per_image": draw(st.booleans()),
        "empty": draw(st.sampled_from(EMPTIES)),
        "smooth_denominator": draw(st.sampled_from([1e-5, 0.5])),
        **draw(st.sampled_from(PARAMETERS[name])),
    }
    kind = draw(st.sampled_from(["hard", "soft"]))
    if draw(st.booleans()) and not (mode == "multiclass" and kind == "soft"):
        options["ignore_index"] = draw(st.integers(-3, -1))
    return name, shape, kind, options, draw(st.integers(0, 2**32))


@given(calls())
def test_any_call_is_as_in_plain_numpy(call):
    name, shape, kind, options, seed = call
    rng = np.random.default_rng(seed)
    input, target = sample(rng, options["mode"], options["from_logits"], kind, shape=shape)
    if "ignore_index" in options:
        target[rng.uniform(0, 1, target.shape) < 0.3] = options["ignore_index"]
    if input.size:
        expected, _ = reference(name, input, target, options)
        losses, gradient = getattr(F, name).value_and_grad(input, target, reduction="none", **options)
        np.testing.assert_allclose(losses, expected.astype(float), rtol=1e-12, atol=1e-300)
        assert np.isfinite(gradient).all()
        if options["from_logits"] and options["mode"] == "multiclass":
            # A softmax does not change where all logits rise.
            np.testing.assert_allclose(gradient.sum(1), 0, atol=1e-14)
        narrow = getattr(F, name)(input.astype(np.float32), target, reduction="none", **options)
        np.testing.assert_allclose(narrow, expected.astype(float), rtol=1e-4, atol=1e-6)
    else:
        getattr(F, name).value_and_grad(input, target, **options)
