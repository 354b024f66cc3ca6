"""Scorers for scikit-learn."""

from typing import Any

import numpy as np
from sklearn.metrics import make_scorer

from lossrs.loss import Loss


def loss_scorer(loss: Loss, *, response_method: Any = None, labels: Any = None) -> Any:
    """Return a scorer: the negative mean loss, for ``cross_val_score``, ``GridSearchCV`` and their like.

    Parameters
    ----------
    loss : Loss
        A loss of this package.
    response_method : str or list of str, optional
        What of the estimator the loss takes: by default ``'predict'``, or ``'predict_proba'`` if the loss has labels as
        targets, which then takes the logarithms of the probabilities. Decisions are logits.
    labels : array_like, optional
        The classes, sorted, if the loss has labels as targets; by default those of the targets scored.

    Examples
    --------
    >>> import lossrs
    >>> from lossrs.adapters.sklearn import loss_scorer
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.model_selection import cross_val_score
    >>> X, y = load_iris(return_X_y=True)
    >>> scorer = loss_scorer(lossrs.NLLLoss())
    >>> scores = cross_val_score(LogisticRegression(max_iter=1000), X, y, scoring=scorer)
    >>> bool((scores < 0).all())
    True
    """
    has_labels = hasattr(loss, "ignore_index")
    method = response_method or ("predict_proba" if has_labels else "predict")
    options = {"loss": loss, "labels": labels, "method": method} if has_labels else {"loss": loss}
    metric = _mean_loss_of_labels if has_labels else _mean_loss
    return make_scorer(metric, response_method=method, greater_is_better=False, **options)


def _mean_loss(y_true: Any, y_pred: Any, *, loss: Loss, sample_weight: Any = None) -> float:
    mean: float = loss(np.asarray(y_pred), np.asarray(y_true), sample_weight=sample_weight)
    return mean


def _mean_loss_of_labels(
    y_true: Any, y_pred: Any, *, loss: Loss, labels: Any, method: Any, sample_weight: Any = None
) -> float:
    target, scores = np.asarray(y_true), np.asarray(y_pred)
    codes = np.searchsorted(np.unique(target) if labels is None else np.asarray(labels), target)
    is_probability = method == "predict_proba"
    if scores.ndim == 1:
        # Of two classes, scikit-learn gives the second one's alone.
        scores = np.stack([1 - scores if is_probability else np.zeros_like(scores), scores], axis=1)
    if is_probability:
        with np.errstate(divide="ignore"):
            scores = np.log(scores)
    return _mean_loss(codes, scores, loss=loss, sample_weight=sample_weight)
