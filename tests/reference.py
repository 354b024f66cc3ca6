"""The formula of each loss in plain NumPy, and what its arguments are: all that the tests need to know of a loss.

A formula takes the input, the target and the options, and returns the losses of the samples and what the mean divides
by. It computes in the type of its arguments, which the tests make `numpy.longdouble`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

#: A number of samples of each kind, before it is rounded to a dtype.
DRAW: dict[str, Callable[..., Any]] = {
    "real": lambda rng, shape: 2 * rng.standard_normal(shape),
    "logit": lambda rng, shape: 3 * rng.standard_normal(shape),
    "probability": lambda rng, shape: rng.uniform(1 / 16, 15 / 16, shape),
    "log_probability": lambda rng, shape: -2 * rng.exponential(size=shape),
}


@dataclass(frozen=True)
class Reference:
    """A loss as the tests see it."""

    formula: Callable[..., tuple[Any, Any]]
    #: What the input is: a key of `DRAW`.
    input: str
    #: What the target may be: keys of `DRAW`, or "label".
    targets: tuple[str, ...]
    #: Settings of the options that are not arrays, besides the defaults.
    parameters: tuple[Mapping[str, Any], ...] = ()


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


def class_axis(array):
    """Return the axis of classes, 1 but for a single sample."""
    return min(1, array.ndim - 1)


def over_classes(input, target, weight):
    """Return the weights, the target as probabilities, and the weight of each sample."""
    axis = class_axis(input)
    classes = np.arange(input.shape[axis]).reshape([-1] + [1] * (input.ndim - axis - 1))
    weight = np.ones(input.shape[axis], input.dtype) if weight is None else weight
    weight = weight.reshape(classes.shape)
    if target.shape == input.shape:
        return weight, target, np.ones(np.delete(input.shape, axis))
    target = (np.expand_dims(target, axis) == classes).astype(input.dtype)
    return weight, target, (weight * target).sum(axis)


def cross_entropy(input, target, weight=None, ignore_index=-100, label_smoothing=0.0):
    axis = class_axis(input)
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


def negative_log_likelihood(input, target, weight=None, ignore_index=-100):
    kept = target != ignore_index
    weight, target, divisor = over_classes(input, target, weight)
    return times(kept, times(weight * target, -input).sum(class_axis(input))), times(kept, divisor)


def cosine(first, second):
    def square(vector):
        return (vector * vector).sum(-1) + np.longdouble(1e-12)

    return (first * second).sum(-1) / np.sqrt(square(first) * square(second))


def cosine_embedding(input1, input2, target, margin=0.0):
    similarity = cosine(input1, input2)
    return np.where(target == 1, 1 - similarity, np.maximum(0, similarity - margin)), 1


def contrastive_of_distance(distance, target, margin=1.0):
    near, far = times(target, distance**2), times(1 - target, np.maximum(0, margin - distance) ** 2)
    return near + far, 1


def contrastive(input1, input2, target, margin=1.0):
    return contrastive_of_distance(np.sqrt(((input1 - input2) ** 2).sum(-1)), target, margin)


def triplet(distance, anchor, positive, negative, margin, swap):
    near, far = distance(anchor, positive), distance(anchor, negative)
    return np.maximum(0, margin + near - (np.minimum(far, distance(positive, negative)) if swap else far)), 1


def triplet_margin(anchor, positive, negative, margin=1.0, p=2.0, eps=1e-6, swap=False):
    def distance(x, y):
        return np.linalg.norm(x - y + eps, p, axis=-1)

    return triplet(distance, anchor, positive, negative, margin, swap)


DISTANCES = {
    "euclidean": lambda x, y: np.linalg.norm(x - y + 1e-6, axis=-1),
    "squared_euclidean": lambda x, y: ((x - y) ** 2).sum(-1),
    "cosine": lambda x, y: 1 - cosine(x, y),
    "manhattan": lambda x, y: abs(x - y).sum(-1),
}


def triplet_margin_with_distance(anchor, positive, negative, distance_function="euclidean", margin=1.0, swap=False):
    return triplet(DISTANCES[distance_function], anchor, positive, negative, margin, swap)


REFERENCES = {
    "mse_loss": Reference(squared_error, "real", ("real",)),
    "l1_loss": Reference(absolute_error, "real", ("real",)),
    "huber_loss": Reference(huber, "real", ("real",), ({"delta": 0.25}, {"delta": 3.0})),
    "smooth_l1_loss": Reference(smooth_absolute_error, "real", ("real",), ({"beta": 2.5}, {"beta": 0.0})),
    "binary_cross_entropy": Reference(binary_cross_entropy, "probability", ("probability",)),
    "binary_cross_entropy_with_logits": Reference(binary_cross_entropy_with_logits, "logit", ("probability",)),
    "cross_entropy": Reference(
        cross_entropy,
        "logit",
        ("label", "probability"),
        ({"ignore_index": 1}, {"label_smoothing": 0.125}, {"label_smoothing": 1.0, "ignore_index": 0}),
    ),
    "nll_loss": Reference(negative_log_likelihood, "log_probability", ("label",), ({"ignore_index": 0},)),
}
