"""Losses of a row of scores, one for each class."""

from dataclasses import dataclass
from typing import ClassVar

from lossrs.loss import ArrayOption, Loss, loss


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class RowwiseLoss(Loss):
    """A loss of a row of scores, one for each of C classes."""

    arguments: ClassVar[str] = """\
input : array_like
    Scores of shape (C,), (N, C) or (N, C, d1, ..., dK): float64, float32, float16 or bfloat16.
target : array_like
    Labels in [0, C), of the input's shape without the axis of classes: any integer type, or floats that are whole.
"""


@loss("cross_entropy")
class CrossEntropyLoss(RowwiseLoss):
    """The cross-entropy of logits and labels or probabilities.

    With ``p = softmax(input)`` over the classes, the loss of a sample with label y is ``-w[y] * log(p[y])``, and that
    of a sample with probabilities t is ``-sum(w * t * log(p))``, where w is `weight`. Smoothing by e replaces the
    target by ``1 - e`` times it plus ``e / C`` for each class. With q for the weighted target the gradient is ``p *
    sum(q) - q`` and the Hessian's diagonal ``sum(q) * p * (1 - p)``. Targets are probabilities where they have the
    input's shape.

    ``'mean'`` divides by ``sum(w[y])`` over the samples that are not ignored, or, of probabilities, by their number.
    A sample with label `ignore_index` has loss and gradient 0, whatever its logits are. A logit of -inf is an
    impossible class: it adds nothing where its probability is 0, and smoothing is spread over the possible classes.

    Parameters
    ----------
    weight : array_like, optional
        A weight for each class, of shape (C,).
    ignore_index : int, default -100
        The label of samples that are left out.
    label_smoothing : float, default 0.0
        In [0, 1].
    reduction : {'none', 'mean', 'sum'}, default 'mean'
        What becomes of the losses of the samples.

    References
    ----------
    C. Szegedy et al., Rethinking the Inception architecture for computer vision, CVPR 2016, for the smoothing.
    ``torch.nn.functional.cross_entropy``; ONNX's SoftmaxCrossEntropyLoss; scikit-learn's half multinomial loss.

    Examples
    --------
    >>> import lossrs.functional as F
    >>> logits = [[2.0, 1.0], [0.5, 1.5], [2.0, 1.0], [0.5, 1.5]]
    >>> round(F.cross_entropy(logits, [0, 1, 0, 1]), 4)
    0.3133
    """

    weight: ArrayOption = None
    ignore_index: int = -100
    label_smoothing: float = 0.0

    arguments: ClassVar[str] = """\
input : array_like
    Logits of shape (C,), (N, C) or (N, C, d1, ..., dK): float64, float32, float16 or bfloat16.
target : array_like
    Labels in [0, C), of the input's shape without the axis of classes: any integer type, or floats that are whole. Or
    probabilities, of the input's shape.
"""


@loss("nll_loss")
class NLLLoss(RowwiseLoss):
    """The negative log-likelihood of labels under log-probabilities.

    The loss of a sample with label y is ``-w[y] * input[y]``, where w is `weight`; its gradient is ``-w[y]`` at the
    label and 0 elsewhere, its Hessian 0. ``'mean'`` divides by ``sum(w[y])`` over the samples that are not ignored.

    Parameters
    ----------
    weight : array_like, optional
        A weight for each class, of shape (C,).
    ignore_index : int, default -100
        The label of samples that are left out.
    reduction : {'none', 'mean', 'sum'}, default 'mean'
        What becomes of the losses of the samples.

    References
    ----------
    ``torch.nn.functional.nll_loss``; ONNX's NegativeLogLikelihoodLoss.

    Examples
    --------
    >>> import lossrs.functional as F
    >>> F.nll_loss([[-0.5, -1.0], [-2.0, -0.25]], [0, 1])
    0.375
    """

    weight: ArrayOption = None
    ignore_index: int = -100
