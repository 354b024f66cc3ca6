"""scikit-learn's loss metrics, under its names and signatures, without its one-hot matrices.

Sums are exact, so that results do not depend on the order of the rows; rows of weight 0 count for nothing, whatever
they hold; `log_loss` and `brier_score_loss` take logits too. An infinite or NaN prediction is no error here: its loss
is what mathematics says.
"""

from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lossrs import _lossrs
from lossrs.definitions.pointwise import (
    BCEWithLogitsLoss,
    HingeLoss,
    L1Loss,
    MSELoss,
    PinballLoss,
    TweedieDevianceLoss,
)
from lossrs.definitions.rows import CrossEntropyLoss
from lossrs.loss import Loss

__all__ = [
    "brier_score_loss",
    "hinge_loss",
    "log_loss",
    "mean_absolute_error",
    "mean_pinball_loss",
    "mean_squared_error",
    "mean_tweedie_deviance",
]

Array = NDArray[Any]

#: Rows that are worked at once where a matrix has to be computed.
_ROWS = 16_384


def log_loss(
    y_true: ArrayLike,
    y_proba: ArrayLike,
    *,
    normalize: bool = True,
    sample_weight: ArrayLike | None = None,
    labels: ArrayLike | None = None,
    from_logits: bool = False,
    eps: float | None = None,
) -> float:
    """Return the cross-entropy, as ``sklearn.metrics.log_loss``.

    Whether the probabilities of a row add up to 1 is not looked at.

    Parameters
    ----------
    y_true : array_like of shape (n,)
        Labels.
    y_proba : array_like of shape (n, classes) or (n,)
        Probabilities of the classes in the order of their labels; of one axis, those of the larger label.
    normalize : bool, default True
        Whether to return the mean; else the sum.
    sample_weight : array_like of shape (n,), optional
        Weights.
    labels : array_like, optional
        All labels, if some do not occur in `y_true`.
    from_logits : bool, default False
        Whether `y_proba` holds logits: unnormalised log-probabilities, or of one axis log-odds. Nothing is clipped
        then.
    eps : float, optional
        Probabilities are clipped to ``[eps, 1 - eps]``; by default the machine epsilon of their type, as in
        scikit-learn. 0 clips nothing.

    Returns
    -------
    float

    Examples
    --------
    >>> from lossrs.metrics import log_loss
    >>> round(log_loss(["spam", "ham", "ham", "spam"], [[0.1, 0.9], [0.9, 0.1], [0.8, 0.2], [0.35, 0.65]]), 5)
    0.21616
    """
    predicted = _floats("y_proba", y_proba)
    columns = _columns(predicted)
    codes = _codes(y_true, labels, max(columns, 2), len(predicted))
    if from_logits:
        loss = _bce(predicted, codes) if columns == 1 else _per_row(CrossEntropyLoss, predicted, codes)
        return _average(loss, sample_weight, normalize)
    _check_probabilities(predicted)
    eps = float(np.finfo(predicted.dtype).eps) if eps is None else eps
    if columns == 1:
        positive = predicted.reshape(-1)
        chosen = np.where(codes == 1, positive, 1 - positive)
    else:
        chosen = predicted[np.arange(len(codes)), codes]
    with np.errstate(divide="ignore"):
        losses = -np.log(np.clip(chosen, eps, 1 - eps))
    return _average(losses, sample_weight, normalize)


def brier_score_loss(
    y_true: ArrayLike,
    y_proba: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
    pos_label: Any = None,
    labels: ArrayLike | None = None,
    scale_by_half: bool | Literal["auto"] = "auto",
    from_logits: bool = False,
) -> float:
    """Return the Brier score, as ``sklearn.metrics.brier_score_loss``.

    Parameters
    ----------
    y_true : array_like of shape (n,)
        Labels.
    y_proba : array_like of shape (n,) or (n, classes)
        Probabilities of the positive label, or of the classes in the order of their labels.
    sample_weight : array_like of shape (n,), optional
        Weights.
    pos_label : int, float, bool or str, optional
        The positive label; by default 1 of {0, 1} and {-1, 1}, and the larger one of other numbers.
    labels : array_like, optional
        All labels, if some do not occur in `y_true`.
    scale_by_half : bool or 'auto', default 'auto'
        Whether to halve the sum over the classes; by default if there are two.
    from_logits : bool, default False
        Whether `y_proba` holds logits: log-odds, or unnormalised log-probabilities of the classes.

    Returns
    -------
    float

    Examples
    --------
    >>> from lossrs.metrics import brier_score_loss
    >>> round(brier_score_loss([0, 1, 1, 0], [0.1, 0.9, 0.8, 0.3]), 6)
    0.0375
    """
    predicted = _floats("y_proba", y_proba)
    columns = _columns(predicted)
    halve = max(columns, 2) < 3 if scale_by_half == "auto" else bool(scale_by_half)
    if not from_logits:
        _check_probabilities(predicted)
    if columns == 1:
        target = _is_positive(y_true, pos_label, len(predicted)).astype(predicted.dtype)
        probabilities = np.exp(-np.logaddexp(0, -predicted)) if from_logits else predicted
        score = _average(_per_row(MSELoss, probabilities.reshape(-1), target), sample_weight)
        return score if halve else 2 * score
    codes = _codes(y_true, labels, columns, len(predicted))
    losses = np.empty(len(predicted))
    for rows in _pieces(len(predicted)):
        piece = predicted[rows].astype(np.float64)
        if from_logits:
            np.exp(piece - piece.max(axis=1, keepdims=True), out=piece)
            piece /= piece.sum(axis=1, keepdims=True)
        piece[np.arange(len(piece)), codes[rows]] -= 1
        losses[rows] = np.einsum("ij,ij->i", piece, piece)
    score = _average(losses, sample_weight)
    return score / 2 if halve else score


def hinge_loss(
    y_true: ArrayLike,
    pred_decision: ArrayLike,
    *,
    labels: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
) -> float:
    """Return the hinge loss, as ``sklearn.metrics.hinge_loss``; of more than two classes that of Crammer and Singer.

    Parameters
    ----------
    y_true : array_like of shape (n,)
        Labels; the larger of two is the positive one.
    pred_decision : array_like of shape (n,) or (n, classes)
        Decisions.
    labels : array_like, optional
        All labels, if some do not occur in `y_true`.
    sample_weight : array_like of shape (n,), optional
        Weights.

    Returns
    -------
    float

    Examples
    --------
    >>> from lossrs.metrics import hinge_loss
    >>> round(hinge_loss([-1, 1, 1], [-2.18, 2.36, 0.09]), 2)
    0.3
    """
    decisions = _floats("pred_decision", pred_decision)
    columns = _columns(decisions)
    codes = _codes(y_true, labels, max(columns, 2), len(decisions))
    if columns == 1:
        signs = (2 * codes - 1).astype(decisions.dtype)
        return _average(_per_row(HingeLoss, decisions.reshape(-1), signs), sample_weight)
    losses = np.empty(len(decisions), decisions.dtype)
    for rows in _pieces(len(decisions)):
        piece, own = decisions[rows].copy(), (np.arange(len(decisions[rows])), codes[rows])
        chosen = piece[own]
        piece[own] = -np.inf
        losses[rows] = np.maximum(1 - (chosen - piece.max(axis=1)), 0)
    return _average(losses, sample_weight)


def mean_squared_error(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
    multioutput: Any = "uniform_average",
) -> Any:
    """Return the mean squared error, as ``sklearn.metrics.mean_squared_error``.

    Parameters
    ----------
    y_true, y_pred : array_like of shape (n,) or (n, outputs)
        Targets and predictions.
    sample_weight : array_like of shape (n,), optional
        Weights.
    multioutput : {'raw_values', 'uniform_average'} or array_like of shape (outputs,), default 'uniform_average'
        Whether to return the errors of the outputs, their mean, or their mean by these weights.

    Returns
    -------
    float or ndarray

    Examples
    --------
    >>> from lossrs.metrics import mean_squared_error
    >>> mean_squared_error([3, -0.5, 2, 7], [2.5, 0.0, 2, 8])
    0.375
    """
    return _regression(MSELoss(), y_true, y_pred, sample_weight, multioutput)


def mean_absolute_error(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
    multioutput: Any = "uniform_average",
) -> Any:
    """Return the mean absolute error, as ``sklearn.metrics.mean_absolute_error``.

    Parameters
    ----------
    y_true, y_pred, sample_weight, multioutput
        As of `mean_squared_error`.

    Returns
    -------
    float or ndarray

    Examples
    --------
    >>> from lossrs.metrics import mean_absolute_error
    >>> mean_absolute_error([3, -0.5, 2, 7], [2.5, 0.0, 2, 8])
    0.5
    """
    return _regression(L1Loss(), y_true, y_pred, sample_weight, multioutput)


def mean_pinball_loss(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
    alpha: float = 0.5,
    multioutput: Any = "uniform_average",
) -> Any:
    """Return the mean pinball loss, as ``sklearn.metrics.mean_pinball_loss``.

    Parameters
    ----------
    y_true, y_pred, sample_weight, multioutput
        As of `mean_squared_error`.
    alpha : float, default 0.5
        Which quantile is predicted.

    Returns
    -------
    float or ndarray

    Examples
    --------
    >>> from lossrs.metrics import mean_pinball_loss
    >>> round(mean_pinball_loss([1, 2, 3], [0, 2, 3], alpha=0.1), 4)
    0.0333
    """
    return _regression(PinballLoss(alpha=alpha), y_true, y_pred, sample_weight, multioutput)


def mean_tweedie_deviance(
    y_true: ArrayLike, y_pred: ArrayLike, *, sample_weight: ArrayLike | None = None, power: float = 0
) -> float:
    """Return the mean of Tweedie's deviance, as ``sklearn.metrics.mean_tweedie_deviance``.

    Parameters
    ----------
    y_true, y_pred : array_like of shape (n,)
        Targets and predictions.
    sample_weight : array_like of shape (n,), optional
        Weights.
    power : float, default 0
        At most 0, or at least 1: 0 the squared error, 1 Poisson's deviance, 2 the gamma's, 3 the inverse Gaussian's.

    Returns
    -------
    float

    Examples
    --------
    >>> from lossrs.metrics import mean_tweedie_deviance
    >>> round(mean_tweedie_deviance([2, 0, 1, 4], [0.5, 0.5, 2.0, 2.0], power=1), 4)
    1.426
    """
    mean: float = _regression(TweedieDevianceLoss(power=power), y_true, y_pred, sample_weight, "uniform_average")
    return mean


def _floats(name: str, values: ArrayLike) -> Array:
    array = np.asarray(values)
    if array.ndim not in (1, 2):
        raise ValueError(f"{name} has {array.ndim} dimensions; expected (n,) or (n, classes)")
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float64)


def _columns(predicted: Array) -> int:
    return 1 if predicted.ndim == 1 else predicted.shape[1]


def _pieces(rows: int) -> Iterator[slice]:
    return (slice(start, start + _ROWS) for start in range(0, rows, _ROWS))


def _codes(y_true: ArrayLike, labels: ArrayLike | None, columns: int, rows: int) -> Array:
    """Return the number of each label's column."""
    target = _vector(y_true, rows)
    classes: Array
    if labels is None:
        classes, codes = np.unique(target, return_inverse=True)
    else:
        classes = np.unique(np.asarray(labels))
        places = np.minimum(np.searchsorted(classes, target), len(classes) - 1)
        if (unknown := classes[places] != target).any():
            row = int(np.argmax(unknown))
            raise ValueError(f"label {target[row].item()!r} at row {row} of y_true is not one of labels")
        codes = places
    if len(classes) != columns:
        where = "y_true; give all of them as labels" if labels is None else "labels"
        raise ValueError(f"the predictions are of {columns} classes, and there are {len(classes)} in {where}")
    return codes


def _vector(y_true: ArrayLike, rows: int) -> Array:
    target = np.asarray(y_true)
    if target.ndim == 2 and target.shape[1] == 1:
        target = target[:, 0]
    if target.shape != (rows,):
        raise ValueError(f"y_true has shape {target.shape}; expected ({rows},), a label for each row")
    return target


def _is_positive(y_true: ArrayLike, pos_label: Any, rows: int) -> Array:
    target = _vector(y_true, rows)
    classes = np.unique(target)
    if len(classes) > 2:
        raise ValueError(f"y_true has {len(classes)} labels; predictions of one column are of two")
    if pos_label is None:
        if classes.dtype.kind in "OUST":
            raise ValueError("pos_label must be given where labels are strings")
        is_usual = set(classes.tolist()) <= {0, 1} or set(classes.tolist()) <= {-1, 1}
        pos_label = 1 if is_usual else classes[-1]
    elif len(classes) == 2 and pos_label not in classes:
        raise ValueError(f"pos_label={pos_label!r} is not one of the labels {classes.tolist()}")
    positive: Array = target == pos_label
    return positive


def _check_probabilities(predicted: Array) -> None:
    if predicted.size and not (predicted.min() >= 0 and predicted.max() <= 1):
        wrong = ~((predicted >= 0) & (predicted <= 1))
        row = int(np.argmax(wrong.reshape(len(predicted), -1).any(axis=1)))
        value = predicted.reshape(len(predicted), -1)[row][wrong.reshape(len(predicted), -1)[row]][0]
        raise ValueError(f"{value} at row {row} is not a probability; logits want from_logits=True")


def _bce(logits: Array, codes: Array) -> Array:
    return _per_row(BCEWithLogitsLoss, logits.reshape(-1), codes.astype(logits.dtype))


def _per_row(loss: Callable[..., Loss], predicted: Array, target: Array) -> Array:
    losses: Array = loss(reduction="none")(predicted, target)
    return losses


def _average(losses: Array, sample_weight: ArrayLike | None, normalize: bool = True) -> float:
    """Return the exact mean, or sum, of losses."""
    weight: Array | None = None
    if sample_weight is not None:
        weight = np.asarray(sample_weight)
        if weight.shape != losses.shape:
            raise ValueError(f"sample_weight has shape {weight.shape}; expected {losses.shape}")
        weight = weight.astype(np.float64)
        with np.errstate(invalid="ignore"):
            losses = np.where(weight == 0, 0, losses * weight)
    total, divisor = _lossrs.ExactSum(), _lossrs.ExactSum()
    total.add(losses)
    if not normalize:
        return total.value()
    divisor.add(np.array([len(losses)]) if weight is None else weight)
    if divisor.value() == 0:
        raise ValueError("the mean needs rows whose weights do not add up to 0")
    return total.value() / divisor.value()


def _regression(loss: Loss, y_true: ArrayLike, y_pred: ArrayLike, sample_weight: Any, multioutput: Any) -> Any:
    target, predicted = (_floats(name, values) for name, values in (("y_true", y_true), ("y_pred", y_pred)))
    target, predicted = (array[:, None] if array.ndim == 1 else array for array in (target, predicted))
    if target.shape != predicted.shape:
        raise ValueError(f"y_true has shape {target.shape} and y_pred {predicted.shape}; they must be the same")
    if len(target) == 0:
        raise ValueError("y_true is empty; there is no mean of nothing")
    dtype = np.result_type(target, predicted)
    outputs = [
        loss(predicted[:, output].astype(dtype, copy=False), target[:, output], sample_weight=sample_weight)
        for output in range(target.shape[1])
    ]
    if isinstance(multioutput, str):
        if multioutput == "raw_values":
            return np.array(outputs)
        if multioutput != "uniform_average":
            raise ValueError(f"multioutput must be 'raw_values', 'uniform_average' or weights, got {multioutput!r}")
        multioutput = None
    elif multioutput is not None and np.shape(multioutput) != (len(outputs),):
        raise ValueError(f"multioutput has shape {np.shape(multioutput)}; expected a weight for each of {len(outputs)}")
    return outputs[0] if len(outputs) == 1 else float(np.average(outputs, weights=multioutput))
