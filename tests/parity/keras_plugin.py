"""A pytest plugin under which Keras's tests of its losses test lossrs.

It puts adapters over lossrs in the place of the functions that Keras's losses call, before the tests run; skips tests
that call none of them, so that what passes are tests of lossrs; and writes how many tests called each to
`--adapter-report`.

CTC is not among them: all of Keras's tests of it have a blank between the labels of a target.
"""

import functools
import json
import unittest
from collections import Counter
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import keras.src.losses.losses as keras_losses
import lossrs
import numpy as np
import pytest
from keras.src import backend, ops
from keras.src.losses.loss import squeeze_or_expand_to_same_rank
from lossrs import functional

CALLED: set[str] = set()
Array = np.ndarray
EPSILON = backend.epsilon()

#: Tests of what is refused here, and the error.
REFUSED: dict[str, type[Exception]] = {
    # Masks of counts.
    "DiceTest::test_correctness": lossrs.DomainError,
    "DiceTest::test_dtype_arg": lossrs.DomainError,
    "TverskyTest::test_correctness": lossrs.DomainError,
    "TverskyTest::test_correctness_custom_coefficients": lossrs.DomainError,
    "TverskyTest::test_dtype_arg": lossrs.DomainError,
    # Shapes that Keras refuses too, in other words.
    "BinaryCrossentropyTest::test_shape_mismatch": ValueError,
    "CategoricalCrossentropyTest::test_shape_mismatch": ValueError,
}
CURRENT = ""
REFUSALS: set[str] = set()


def elementwise(loss: Any, **fixed: Any) -> Callable[..., Array]:
    """Return an adapter of the mean of a loss over the last axis."""
    return lambda y_true, y_pred, **options: loss(y_pred, y_true, reduction="none", **fixed, **options).mean(-1)


def clipped(probabilities: Array) -> Array:
    """Return probabilities as Keras bounds them."""
    return np.clip(probabilities, EPSILON, 1 - EPSILON)


def binary_crossentropy(
    y_true: Array, y_pred: Array, from_logits: bool = False, label_smoothing: float = 0.0, axis: int = -1
) -> Array:
    """Return the cross-entropy of two classes."""
    y_true = y_true * (1 - label_smoothing) + label_smoothing / 2
    if from_logits:
        return functional.binary_cross_entropy_with_logits(y_pred, y_true, reduction="none").mean(axis)
    return functional.binary_cross_entropy(clipped(y_pred), y_true, reduction="none").mean(axis)


def binary_focal_crossentropy(
    y_true: Array,
    y_pred: Array,
    apply_class_balancing: bool = False,
    alpha: float = 0.25,
    gamma: float = 2.0,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Array:
    """Return the focal loss of two classes, of logits."""
    y_true = y_true * (1 - label_smoothing) + label_smoothing / 2
    if not from_logits:
        y_pred = np.log(clipped(y_pred) / (1 - clipped(y_pred)))
    return functional.sigmoid_focal_loss(
        y_pred, y_true, alpha=alpha if apply_class_balancing else None, gamma=gamma, reduction="none"
    ).mean(axis)


def logits(y_pred: Array, from_logits: bool, axis: int) -> Array:
    """Return logits with the axis of classes at 1, of what Keras makes of probabilities."""
    if not from_logits:
        y_pred = np.log(clipped(y_pred / y_pred.sum(axis, keepdims=True)))
    return np.moveaxis(y_pred, axis, 1 if y_pred.ndim > 1 else 0)


def categorical_crossentropy(
    y_true: Array, y_pred: Array, from_logits: bool = False, label_smoothing: float = 0.0, axis: int = -1
) -> Array:
    """Return the cross-entropy of distributions."""
    target = np.moveaxis(y_true, axis, 1 if y_pred.ndim > 1 else 0)
    return functional.cross_entropy(
        logits(y_pred, from_logits, axis), target, label_smoothing=label_smoothing, reduction="none"
    )


def sparse_categorical_crossentropy(
    y_true: Array, y_pred: Array, from_logits: bool = False, ignore_class: int | None = None, axis: int = -1
) -> Array:
    """Return the cross-entropy of labels."""
    if y_true.ndim == y_pred.ndim:
        y_true = y_true.squeeze(axis)
    ignored = {} if ignore_class is None else {"ignore_index": ignore_class}
    losses = functional.cross_entropy(logits(y_pred, from_logits, axis), y_true, reduction="none", **ignored)
    if ignore_class is not None:
        losses = ops.convert_to_tensor(losses)
        backend.set_keras_mask(losses, mask=ops.convert_to_tensor(y_true != ignore_class))
    return losses


def kl_divergence(y_true: Array, y_pred: Array) -> Array:
    """Return the divergence, summed over the last axis."""
    y_true, y_pred = np.clip(y_true, EPSILON, 1), np.clip(y_pred, EPSILON, 1)
    return functional.kl_div(np.log(y_pred), y_true, reduction="none").sum(-1)


def hinge(y_true: Array, y_pred: Array) -> Array:
    """Return the hinge loss; labels may be 0 and 1."""
    if np.isin(y_true, (0, 1)).all():
        y_true = 2 * y_true - 1
    return functional.hinge_loss(y_pred, y_true, reduction="none").mean(-1)


def cosine_similarity(y_true: Array, y_pred: Array, axis: int = -1) -> Array:
    """Return the cosine, negated: the loss of similar vectors is one less it."""
    y_true, y_pred = (np.moveaxis(array, axis, -1) for array in (y_true, y_pred))
    similar = np.ones(y_pred.shape[:-1], y_pred.dtype)
    return functional.cosine_embedding_loss(y_true, y_pred, similar, reduction="none") - 1


def region(loss: Any, **fixed: Any) -> Callable[..., Array]:
    """Return an adapter of a loss of masks: Keras sums over all axes, or over all but the first."""

    def adapter(y_true: Array, y_pred: Array, axis: tuple[int, ...] | None = None, **options: Any) -> Array:
        assert axis is None or axis == tuple(range(1, y_pred.ndim))
        # Keras's alpha weighs false negatives.
        options = {{"alpha": "beta", "beta": "alpha"}[name]: value for name, value in options.items()}
        return loss(
            y_pred,
            y_true,
            from_logits=False,
            per_image=axis is not None,
            smooth_numerator=0.0,
            reduction="none",
            **fixed,
            **options,
        )

    return adapter


#: What stands for each function of Keras's: of targets and predictions, the losses of the samples.
ADAPTERS: dict[str, Callable[..., Any]] = {
    "mean_squared_error": elementwise(functional.mse_loss),
    "mean_absolute_error": elementwise(functional.l1_loss),
    "huber": elementwise(functional.huber_loss),
    "poisson": elementwise(functional.poisson_nll_loss, log_input=False, eps=EPSILON),
    "hinge": hinge,
    "kl_divergence": kl_divergence,
    "binary_crossentropy": binary_crossentropy,
    "binary_focal_crossentropy": binary_focal_crossentropy,
    "categorical_crossentropy": categorical_crossentropy,
    "sparse_categorical_crossentropy": sparse_categorical_crossentropy,
    "cosine_similarity": cosine_similarity,
    "dice": region(functional.dice_loss, smooth_denominator=EPSILON),
    "tversky": region(functional.tversky_loss, smooth_denominator=EPSILON),
}


def put(name: str, adapter: Callable[..., Any]) -> None:
    """Put an adapter in the place of a function."""
    function = getattr(keras_losses, name)

    @functools.wraps(function)
    def replacement(y_true: Any, y_pred: Any, **options: Any) -> Any:
        CALLED.add(name)
        y_pred = ops.convert_to_tensor(y_pred)
        tensors = squeeze_or_expand_to_same_rank(ops.convert_to_tensor(y_true), y_pred)
        targets, predictions = (backend.convert_to_numpy(tensor) for tensor in tensors)
        try:
            losses = adapter(targets, predictions, **options)
        except REFUSED.get(CURRENT, ()) as error:
            REFUSALS.add(CURRENT)
            raise unittest.SkipTest(f"refused, as it must be: {error}") from error
        return ops.cast(losses, y_pred.dtype) if isinstance(losses, Array) else losses

    setattr(keras_losses, name, replacement)


TESTS = Counter(dict.fromkeys(ADAPTERS, 0))
for name, adapter in ADAPTERS.items():
    put(name, adapter)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Count the test for the adapters that it calls; don't count it as passed if it calls none."""
    global CURRENT
    CURRENT = "::".join(item.nodeid.split("::")[-2:])
    CALLED.clear()
    result = yield
    if CURRENT in REFUSED:
        assert CURRENT in REFUSALS, f"{CURRENT} must be refused"
        return result
    if not CALLED:
        pytest.skip("passed, and called no loss of ours")
    TESTS.update(CALLED)
    return result


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--adapter-report`."""
    parser.addoption(
        "--adapter-report", type=Path, required=True, help="where to write how many tests called each adapter"
    )


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the report."""
    session.config.getoption("--adapter-report").write_text(json.dumps(TESTS))
