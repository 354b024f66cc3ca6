"""The formula of each loss in plain NumPy, and what its arguments are: all that the tests need to know of a loss.

A formula takes the operands and the options, and returns the losses of the samples and what the mean divides by. It
computes in the type of its arguments, which the tests make `numpy.longdouble`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np


def class_axis(ndim):
    """Return the axis of classes, 1 but for a single sample."""
    return min(1, ndim - 1)


def labels(rng, shape, first, axes):
    return rng.integers(0, first[axes[0]], shape)


def label_sets(rng, shape, first, axes):
    """Return labels, some of them twice, that end with a -1, or do not end."""
    return rng.integers(-1, first[axes[0]], shape)


def distributions(rng, shape, first, axes):
    array = rng.uniform(1 / 16, 15 / 16, shape)
    return array / array.sum(axes, keepdims=True)


#: A number of samples of each kind, before it is rounded to a dtype; labels are not. A function gets the shape, that of
#: the first operand, and those of its axes that a loss is of.
DRAW: dict[str, Callable[..., Any]] = {
    "real": lambda rng, shape, *_: 2 * rng.standard_normal(shape),
    "logit": lambda rng, shape, *_: 3 * rng.standard_normal(shape),
    "probability": lambda rng, shape, *_: rng.uniform(1 / 16, 15 / 16, shape),
    "log_probability": lambda rng, shape, *_: -2 * rng.exponential(size=shape) - 1 / 16,
    "positive": lambda rng, shape, *_: rng.uniform(1 / 4, 4, shape),
    "count": lambda rng, shape, *_: rng.poisson(2, shape),
    "sign": lambda rng, shape, *_: rng.choice([-1, 1], shape),
    "binary": lambda rng, shape, *_: rng.integers(0, 2, shape),
    "label": labels,
    "label set": label_sets,
    "distribution": distributions,
}

#: The shape of an operand, of that of the first and of its axes that a loss is of.
SHAPES: dict[str, Callable[..., tuple[int, ...]]] = {
    "same": lambda first, axes: first,
    "samples": lambda first, axes: tuple(np.delete(first, axes).tolist()),
    "classes": lambda first, axes: (first[axes[0]],),
    "of one column": lambda first, axes: (*first[:-1], 1) if first else (),
    "without columns": lambda first, axes: first[:-1],
    "number": lambda first, axes: (),
}


class Operand(NamedTuple):
    """What an argument that is an array is: keys of `DRAW` and `SHAPES`."""

    kind: str
    shape: str = "same"


class Variant(NamedTuple):
    """A setting of the options that are not arrays, and the operands that are others with it."""

    options: Mapping[str, Any] = {}
    operands: Mapping[str, Operand] = {}


def options(**options) -> Variant:
    return Variant(options)


@dataclass(frozen=True)
class Reference:
    """A loss as the tests see it."""

    formula: Callable[..., tuple[Any, Any]]
    #: The arguments that must be given, in their order.
    operands: Mapping[str, Operand]
    #: Besides the defaults.
    variants: tuple[Variant, ...] = ()
    #: The options that are arrays.
    arrays: Mapping[str, Operand] = field(default_factory=dict)
    #: The axes of the first operand that a loss is of, by its number of axes: the losses have the shape of the others.
    axes: Callable[[int], tuple[int, ...]] = lambda ndim: ()
    #: Shapes of the first operand to try.
    shapes: tuple[tuple[int, ...], ...] = ((), (7,), (5, 3), (2, 3, 4, 2), (1, 67))
    #: Of the operands and options: how large what is added up in a loss is, where it cancels.
    magnitude: Callable[..., Any] | None = None
    #: How many units in the last place rounding may add up to, of a loss or its magnitude.
    ulp: float = 6
    #: Whether a gradient may be written over an operand of its shape.
    in_place: bool = True


def pointwise(formula, *variants, weights=(), magnitude=None, ulp=6, **kinds) -> Reference:
    """Return the reference of a loss of one element at a time, from its operands' kinds."""
    operands = {name: Operand(kind) for name, kind in kinds.items()}
    arrays = {name: Operand("probability") for name in weights}
    return Reference(formula, operands, variants, arrays, magnitude=magnitude, ulp=ulp)


def rowwise(formula, *variants, weights=(), magnitude=None, ulp=6, **operands) -> Reference:
    """Return the reference of a loss of a row of scores, whose axis of classes is 1."""
    arrays = {name: Operand("probability", "classes") for name in weights}
    shapes = ((5,), (7, 3), (3, 4, 5), (2, 3, 4, 2), (3, 1), (1, 67))
    return Reference(formula, operands, variants, arrays, lambda ndim: (class_axis(ndim),), shapes, magnitude, ulp)


def embeddings(formula, *variants, vectors, target=None, magnitude=None, ulp=12) -> Reference:
    """Return the reference of a loss of rows of vectors along the last axis."""
    operands = dict.fromkeys(vectors, Operand("real")) | ({"target": Operand(target, "samples")} if target else {})
    shapes = ((5,), (7, 3), (2, 3, 4), (3, 1), (1, 37))
    return Reference(
        formula, operands, variants, axes=lambda ndim: (ndim - 1,), shapes=shapes, magnitude=magnitude, ulp=ulp
    )


TAU = 8 * np.arctan(np.longdouble(1))


def times(weight, value):
    """Return a product in which 0 times anything is 0."""
    with np.errstate(invalid="ignore"):
        return np.where(weight == 0, 0, weight * value)


def squared_error(input, target, weight=1.0):
    return times(weight, (input - target) ** 2), weight


def absolute_error(input, target, weight=1.0):
    return times(weight, abs(input - target)), weight


def huber(input, target, delta=1.0, weight=1.0):
    distance = abs(input - target)
    return times(weight, np.where(distance <= delta, distance**2 / 2, delta * (distance - delta / 2))), 1


def smooth_absolute_error(input, target, beta=1.0):
    distance = abs(input - target)
    return np.where(distance < beta, distance**2 / (2 * beta or 1), distance - beta / 2), 1


def binary_cross_entropy(input, target, weight=1.0):
    with np.errstate(divide="ignore"):
        positive, negative = np.maximum(np.log(input), -100), np.maximum(np.log1p(-input), -100)
    return times(weight, -(target * positive + (1 - target) * negative)), 1


def binary_cross_entropy_with_logits(input, target, weight=1.0, pos_weight=1.0):
    positive, negative = np.logaddexp(0, -input), np.logaddexp(0, input)
    return times(weight, times(pos_weight * target, positive) + times(1 - target, negative)), 1


def sigmoid_focal(input, target, alpha=0.25, gamma=2.0):
    positive, negative = np.logaddexp(0, -input), np.logaddexp(0, input)
    entropy = times(target, positive) + times(1 - target, negative)
    # 1 - p as e^-x p, so that nothing cancels.
    away = target * np.exp(-negative) + (1 - target) * np.exp(-positive)
    balance = 1 if alpha is None or alpha < 0 else alpha * target + (1 - alpha) * (1 - target)
    return times(balance * away**gamma, entropy), 1


def pinball(input, target, alpha=0.5):
    distance = target - input
    return np.where(distance < 0, (alpha - 1) * distance, alpha * distance), 1


def tweedie_terms(input, target, power):
    one, other = 1 - np.longdouble(power), 2 - np.longdouble(power)
    if power == 0:
        yield (input - target) ** 2
    elif power == 1:
        # Of the difference, which is exact: a quotient near 1 leaves nothing to tell how near.
        yield 2 * times(target, np.log1p((np.where(target == 0, input, target) - input) / input))
        yield 2 * (input - target)
    elif power == 2:
        yield 2 * np.log1p((input - target) / target)
        yield 2 * (target - input) / input
    else:
        yield 2 * np.maximum(target, 0) ** other / (one * other)
        yield -2 * target * input**one / one
        yield 2 * input**other / other


def tweedie(input, target, power=1.0):
    return sum(tweedie_terms(input, target, power)), 1


def tweedie_magnitude(input, target, power=1.0):
    return sum(map(abs, tweedie_terms(input, target, power)))


def hinge(input, target):
    return np.maximum(0, 1 - target * input), 1


def soft_margin(input, target):
    return np.logaddexp(0, -target * input), 1


def hinge_embedding(input, target, margin=1.0):
    return np.where(target > 0, input, np.maximum(0, margin - input)), 1


def margin_ranking(input1, input2, target, margin=0.0):
    return np.maximum(0, margin - target * (input1 - input2)), 1


def margin_ranking_magnitude(input1, input2, target, margin=0.0):
    return abs(margin) + abs(input1 - input2)


def kl_terms(input, target, log_target):
    probability = np.exp(target) if log_target else target
    with np.errstate(divide="ignore"):
        return times(probability, target if log_target else np.log(target)), times(probability, input)


def kl(input, target, log_target=False):
    one, other = kl_terms(input, target, log_target)
    return one - other, 1


def kl_magnitude(input, target, log_target=False):
    return sum(map(abs, kl_terms(input, target, log_target)))


def poisson_terms(input, target, log_input, full, eps):
    with np.errstate(divide="ignore"):
        yield np.exp(input) if log_input else input
        yield -times(target, input if log_input else np.log(input + eps))
        if full:
            large = np.maximum(target, 1)
            yield np.where(target > 1, target * np.log(large) - target + np.log(TAU * large) / 2, 0)


def poisson(input, target, log_input=True, full=False, eps=1e-8):
    return sum(poisson_terms(input, target, log_input, full, eps)), 1


def poisson_magnitude(input, target, log_input=True, full=False, eps=1e-8):
    return sum(map(abs, poisson_terms(input, target, log_input, full, eps)))


def gaussian_terms(input, target, var, full, eps):
    # Of the input's shape without the last axis, or of that with length 1 there.
    var = np.maximum(var, eps)
    if var.ndim and var.ndim < input.ndim:
        var = var[..., None]
    yield np.log(var) / 2
    yield (input - target) ** 2 / var / 2
    if full:
        yield np.log(TAU) / 2


def gaussian(input, target, var, full=False, eps=1e-6):
    return sum(gaussian_terms(input, target, var, full, eps)), 1


def gaussian_magnitude(input, target, var, full=False, eps=1e-6):
    return sum(map(abs, gaussian_terms(input, target, var, full, eps)))


def over_classes(input, target, weight):
    """Return the weights, the target as probabilities, and the weight of each sample."""
    axis = class_axis(input.ndim)
    classes = np.arange(input.shape[axis]).reshape([-1] + [1] * (input.ndim - axis - 1))
    weight = np.ones(input.shape[axis], input.dtype) if weight is None else weight
    weight = weight.reshape(classes.shape)
    if target.shape == input.shape:
        return weight, target, np.ones(np.delete(input.shape, axis))
    target = (np.expand_dims(target, axis) == classes).astype(input.dtype)
    return weight, target, (weight * target).sum(axis)


def cross_entropy(input, target, weight=None, ignore_index=-100, label_smoothing=0.0):
    axis = class_axis(input.ndim)
    kept = True if target.shape == input.shape else target != ignore_index
    weight, target, divisor = over_classes(input, target, weight)
    possible = input > -np.inf
    target = (1 - label_smoothing) * target + label_smoothing * possible / possible.sum(axis, keepdims=True)
    shifted = input - input.max(axis, keepdims=True)
    # Without the largest, whose power is 1: for a sure prediction the others are all that matters.
    others = np.exp(shifted)
    np.put_along_axis(others, input.argmax(axis, keepdims=True), 0, axis)
    distance = np.log1p(others.sum(axis, keepdims=True)) - shifted
    return times(kept, times(weight * target, distance).sum(axis)), times(kept, divisor)


def softmax_focal(input, target, alpha=None, gamma=2.0, ignore_index=-100):
    axis, kept = class_axis(input.ndim), target != ignore_index
    losses, _ = cross_entropy(input, target, alpha, ignore_index)
    _, target, _ = over_classes(input, target, None)
    powers = np.exp(input - input.max(axis, keepdims=True))
    return losses * (((1 - target) * powers).sum(axis) / powers.sum(axis)) ** gamma, kept.astype(input.dtype)


def multi_margins(input, target, weight):
    """Return the difference to each score that matters, and what it counts for."""
    axis = class_axis(input.ndim)
    weight, target, _ = over_classes(input, target, weight)
    label = (target * input).sum(axis, keepdims=True)
    return input - label, (1 - target) * (target * weight).sum(axis, keepdims=True) / input.shape[axis]


def multi_margin(input, target, p=1, margin=1.0, weight=None):
    differences, weight = multi_margins(input, target, weight)
    return (weight * np.maximum(0, margin + differences) ** p).sum(class_axis(input.ndim)), 1


def multi_margin_magnitude(input, target, p=1, margin=1.0, weight=None):
    differences, weight = multi_margins(input, target, weight)
    return (weight * (abs(margin) + abs(differences)) ** p).sum(class_axis(input.ndim))


def multilabel_margins(input, target):
    """Return how far each score is above each other one, and what that counts for, along the last two axes."""
    axis = class_axis(input.ndim)
    input, target = np.moveaxis(input, axis, -1), np.moveaxis(target, axis, -1)
    counts = np.logical_and.accumulate(target != -1, -1)
    classes = np.arange(input.shape[-1])
    times_there = ((target[..., None] == classes) & counts[..., None]).sum(-2)
    weight = times_there[..., None] * (times_there[..., None, :] == 0) / input.dtype.type(len(classes))
    return input[..., None] - input[..., None, :], weight


def multilabel_margin(input, target):
    distances, weight = multilabel_margins(input, target)
    return (weight * np.maximum(0, 1 - distances)).sum((-1, -2)), 1


def multilabel_margin_magnitude(input, target):
    distances, weight = multilabel_margins(input, target)
    return (weight * (1 + abs(distances))).sum((-1, -2))


def multilabel_soft_margin(input, target, weight=1.0):
    losses, _ = binary_cross_entropy_with_logits(input, target, weight)
    return losses.mean(-1), 1


def negative_log_likelihood(input, target, weight=None, ignore_index=-100):
    kept = target != ignore_index
    weight, target, divisor = over_classes(input, target, weight)
    return times(kept, times(weight * target, -input).sum(class_axis(input.ndim))), times(kept, divisor)


def cosine(first, second):
    """Return the cosine and 1 less the cosine, of which nothing cancels where they are nearly parallel."""
    eps = np.longdouble(1e-12)
    one, other, product = (first**2).sum(-1), (second**2).sum(-1), (first * second).sum(-1)
    lengths = np.sqrt((one + eps) * (other + eps))
    # lengths**2 - product**2, by the part of the second vector that is at right angles to the first.
    away = second - np.where(one > 0, product / np.maximum(one, eps**2), 0)[..., None] * first
    apart = one * (away**2).sum(-1) + eps * (one + other + eps)
    return product / lengths, np.where(product > 0, apart / (lengths + abs(product)), lengths - product) / lengths


def cosine_embedding(input1, input2, target, margin=0.0):
    similarity, distance = cosine(input1, input2)
    return np.where(target == 1, distance, np.maximum(0, similarity - margin)), 1


def cosine_embedding_magnitude(input1, input2, target, margin=0.0):
    # Of similar vectors it is the vectors' difference that is rounded, the root of the loss.
    _, distance = cosine(input1, input2)
    return np.where(target == 1, np.maximum(distance, np.sqrt(distance)), 1 + abs(margin))


def contrastive_of_distance(distance, target, margin=1.0):
    return times(target, distance**2) + times(1 - target, np.maximum(0, margin - distance) ** 2), 1


def contrastive_of_distance_magnitude(distance, target, margin=1.0):
    return times(target, distance**2) + times(1 - target, (margin + distance) ** 2)


def contrastive(input1, input2, target, margin=1.0):
    square = ((input1 - input2) ** 2).sum(-1)
    return np.where(target == 1, square, np.maximum(0, margin - np.sqrt(square)) ** 2), 1


def contrastive_magnitude(input1, input2, target, margin=1.0):
    return contrastive_of_distance_magnitude(np.sqrt(((input1 - input2) ** 2).sum(-1)), target, margin)


def minkowski(p, eps):
    def distance(x, y):
        difference = abs(x - y + eps)
        return difference.max(-1, initial=0) if p == np.inf else (difference**p).sum(-1) ** (1 / np.longdouble(p))

    return distance


DISTANCES = {
    "euclidean": minkowski(2, 1e-6),
    "squared_euclidean": lambda x, y: ((x - y) ** 2).sum(-1),
    "cosine": lambda x, y: cosine(x, y)[1],
    "manhattan": minkowski(1, 0.0),
}


def triplet_terms(distance, anchor, positive, negative, margin, swap):
    near, far = distance(anchor, positive), distance(anchor, negative)
    return margin, near, np.minimum(far, distance(positive, negative)) if swap else far


def triplet_margin(anchor, positive, negative, margin=1.0, p=2.0, eps=1e-6, swap=False):
    margin, near, far = triplet_terms(minkowski(p, eps), anchor, positive, negative, margin, swap)
    return np.maximum(0, margin + near - far), 1


def triplet_margin_magnitude(anchor, positive, negative, margin=1.0, p=2.0, eps=1e-6, swap=False):
    return sum(triplet_terms(minkowski(p, eps), anchor, positive, negative, margin, swap))


def triplet_margin_with_distance(anchor, positive, negative, distance_function="euclidean", margin=1.0, swap=False):
    distance = DISTANCES[distance_function]
    margin, near, far = triplet_terms(distance, anchor, positive, negative, margin, swap)
    return np.maximum(0, margin + near - far), 1


def triplet_margin_with_distance_magnitude(
    anchor, positive, negative, distance_function="euclidean", margin=1.0, swap=False
):
    return sum(triplet_terms(DISTANCES[distance_function], anchor, positive, negative, margin, swap))


LABEL = Operand("label", "samples")
PAIR, TRIPLET = ("input1", "input2"), ("anchor", "positive", "negative")


REFERENCES = {
    "mse_loss": pointwise(squared_error, weights=["weight"], input="real", target="real"),
    "l1_loss": pointwise(absolute_error, weights=["weight"], input="real", target="real"),
    "huber_loss": pointwise(
        huber, options(delta=0.25), options(delta=3.0), weights=["weight"], input="real", target="real"
    ),
    "smooth_l1_loss": pointwise(
        smooth_absolute_error, options(beta=2.5), options(beta=0.0), input="real", target="real"
    ),
    "binary_cross_entropy": pointwise(
        binary_cross_entropy, weights=["weight"], input="probability", target="probability"
    ),
    "binary_cross_entropy_with_logits": pointwise(
        binary_cross_entropy_with_logits, weights=["weight", "pos_weight"], input="logit", target="probability"
    ),
    "sigmoid_focal_loss": pointwise(
        sigmoid_focal,
        options(alpha=None, gamma=0.0),
        options(alpha=-1.0, gamma=0.5),
        options(alpha=0.75, gamma=1.0),
        options(gamma=5.0),
        ulp=24,
        input="logit",
        target="probability",
    ),
    "pinball_loss": pointwise(pinball, options(alpha=0.125), options(alpha=1.0), input="real", target="real"),
    "tweedie_deviance_loss": pointwise(
        tweedie,
        options(power=0.0),
        options(power=1.5),
        options(power=-0.5),
        Variant({"power": 2.0}, {"target": Operand("positive")}),
        Variant({"power": 3.0}, {"target": Operand("positive")}),
        magnitude=tweedie_magnitude,
        ulp=12,
        input="positive",
        target="count",
    ),
    "hinge_loss": pointwise(hinge, input="real", target="sign"),
    "soft_margin_loss": pointwise(soft_margin, input="logit", target="sign"),
    "hinge_embedding_loss": pointwise(hinge_embedding, options(margin=2.5), input="real", target="sign"),
    "margin_ranking_loss": pointwise(
        margin_ranking,
        options(margin=0.75),
        magnitude=margin_ranking_magnitude,
        input1="real",
        input2="real",
        target="sign",
    ),
    "kl_div": pointwise(
        kl,
        Variant({"log_target": True}, {"target": Operand("log_probability")}),
        magnitude=kl_magnitude,
        input="log_probability",
        target="probability",
    ),
    "poisson_nll_loss": pointwise(
        poisson,
        options(full=True),
        Variant({"log_input": False}, {"input": Operand("positive")}),
        Variant({"log_input": False, "full": True, "eps": 0.125}, {"input": Operand("positive")}),
        magnitude=poisson_magnitude,
        input="real",
        target="count",
    ),
    "gaussian_nll_loss": pointwise(
        gaussian,
        options(full=True),
        options(eps=0.125),
        Variant({}, {"var": Operand("positive", "of one column")}),
        Variant({}, {"var": Operand("positive", "without columns")}),
        Variant({}, {"var": Operand("positive", "number")}),
        magnitude=gaussian_magnitude,
        input="real",
        target="real",
        var="positive",
    ),
    "nll_loss": rowwise(
        negative_log_likelihood,
        options(ignore_index=0),
        weights=["weight"],
        input=Operand("log_probability"),
        target=LABEL,
    ),
    "cross_entropy": rowwise(
        cross_entropy,
        options(ignore_index=1),
        options(label_smoothing=0.125),
        options(label_smoothing=1.0, ignore_index=0),
        Variant({}, {"target": Operand("distribution")}),
        Variant({"label_smoothing": 0.125}, {"target": Operand("distribution")}),
        weights=["weight"],
        input=Operand("logit"),
        target=LABEL,
    ),
    "softmax_focal_loss": rowwise(
        softmax_focal,
        options(gamma=0.0, ignore_index=0),
        options(gamma=0.5),
        options(gamma=3.25),
        weights=["alpha"],
        ulp=16,
        input=Operand("logit"),
        target=LABEL,
    ),
    "multi_margin_loss": rowwise(
        multi_margin,
        options(p=2, margin=0.75),
        options(margin=-0.5),
        weights=["weight"],
        magnitude=multi_margin_magnitude,
        input=Operand("real"),
        target=LABEL,
    ),
    "multilabel_margin_loss": rowwise(
        multilabel_margin,
        magnitude=multilabel_margin_magnitude,
        input=Operand("real"),
        target=Operand("label set"),
    ),
    "multilabel_soft_margin_loss": Reference(
        multilabel_soft_margin,
        {"input": Operand("logit"), "target": Operand("probability")},
        (Variant({}, {"target": Operand("binary")}),),
        {"weight": Operand("probability")},
        axes=lambda ndim: (ndim - 1,),
        shapes=((5,), (7, 3), (3, 4, 5), (2, 3, 4, 2), (3, 1), (1, 67)),
    ),
    "cosine_embedding_loss": embeddings(
        cosine_embedding,
        options(margin=-0.5),
        vectors=PAIR,
        target="sign",
        magnitude=cosine_embedding_magnitude,
    ),
    "contrastive_loss": embeddings(
        contrastive, options(margin=6.0), vectors=PAIR, target="binary", magnitude=contrastive_magnitude
    ),
    "contrastive_distance_loss": pointwise(
        contrastive_of_distance,
        options(margin=2.5),
        magnitude=contrastive_of_distance_magnitude,
        distance="positive",
        target="probability",
    ),
    "triplet_margin_loss": embeddings(
        triplet_margin,
        options(p=1.0, swap=True, margin=3.0),
        options(p=1.5, eps=0.125),
        options(p=2.0, swap=True, margin=3.0),
        options(p=3.0, swap=True, margin=3.0),
        options(p=np.inf),
        options(p=np.inf, swap=True, margin=3.0),
        vectors=TRIPLET,
        magnitude=triplet_margin_magnitude,
    ),
    "triplet_margin_with_distance_loss": embeddings(
        triplet_margin_with_distance,
        *(
            options(distance_function=distance, swap=swap, margin=margin)
            for distance in DISTANCES
            for swap, margin in ((False, 1.0), (True, 2.5))
        ),
        vectors=TRIPLET,
        magnitude=triplet_margin_with_distance_magnitude,
    ),
}

#: The losses that a suite of their own tests, and why this form does not suit them.
OWN_SUITES: dict[str, str] = {
    "ctc_loss": "test_ctc.py: operands of several shapes, some of them lengths",
    "linear_cross_entropy": "test_linear_cross_entropy.py: its losses are as accurate as products of matrices",
    "dice_loss": "test_regions.py: targets of several kinds, and one loss of a batch as well as of an image",
    "focal_tversky_loss": "test_regions.py: targets of several kinds, and one loss of a batch as well as of an image",
    "jaccard_loss": "test_regions.py: targets of several kinds, and one loss of a batch as well as of an image",
    "tversky_loss": "test_regions.py: targets of several kinds, and one loss of a batch as well as of an image",
}
