"""Metrics for Hugging Face's Trainer."""

from typing import Any

import numpy as np

from lossrs.accumulator import Accumulator
from lossrs.adapters._tensors import array
from lossrs.loss import Loss


class ComputeMetrics:
    """What a Trainer takes as `compute_metrics`, adding up batch by batch: no logits are kept.

    It is meant for ``TrainingArguments(batch_eval_metrics=True)``, and works without that too. The results are named
    ``loss``, ``standard_error``, ``rows`` and so on, and ``perplexity`` of the cross-entropy; the Trainer writes
    ``eval_`` before them, and its own ``eval_loss``, the mean of batches, over the exact one unless they are renamed
    by `prefix`.

    Parameters
    ----------
    loss : Loss
        A loss of this package.
    shift : bool, default False
        Whether a label is that of the logits one before it, as causal language models have it.
    prefix : str, default 'exact_'
        What stands before the names of the results.

    Examples
    --------
    >>> import lossrs
    >>> from lossrs.adapters.transformers import ComputeMetrics
    >>> metrics = ComputeMetrics(lossrs.CrossEntropyLoss(), shift=True)  # Trainer(..., compute_metrics=metrics)
    """

    def __init__(self, loss: Loss, *, shift: bool = False, prefix: str = "exact_") -> None:
        self.total, self.shift, self.prefix = Accumulator(loss), shift, prefix

    def __call__(self, predictions: Any, compute_result: bool = True) -> dict[str, float]:
        """Add an ``EvalPrediction``; with the last one, return the results and forget them."""
        logits, labels = (_first(part) for part in (predictions.predictions, predictions.label_ids))
        logits, labels = array(logits), array(labels)
        if self.shift:
            logits, labels = logits[:, :-1], labels[:, 1:]
        if np.ndim(logits) == np.ndim(labels) + 1 and np.ndim(labels) > 1:
            # Classes are last there, as in all of transformers.
            logits, labels = logits.reshape(-1, logits.shape[-1]), labels.reshape(-1)
        self.total.update(logits, labels)
        if not compute_result:
            return {}
        figures = self.total.result().to_dict()
        self.total.reset()
        names = {"mean": "loss"}
        left_out = ("minimum_row", "maximum_row")
        return {self.prefix + names.get(name, name): value for name, value in figures.items() if name not in left_out}


def _first(part: Any) -> Any:
    """Return the logits, which models return before other things."""
    return part[0] if isinstance(part, tuple) else part
