"""Losses of a row of scores, one for each class."""

from typing import ClassVar

from lossrs.loss import ArrayOption, Loss, loss


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
    With ``return_log_prob=True`` calls return ``log(p)`` besides, as the last of their results.

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


@loss("softmax_focal_loss")
class SoftmaxFocalLoss(RowwiseLoss):
    """The focal loss of logits and labels: a cross-entropy in which what is already well predicted counts less.

    With ``p = softmax(input)`` over the classes and ``q = 1 - p[y]``, the loss of a sample with label y is
    ``-alpha[y] * q**gamma * log(p[y])``. Its gradient is ``a * (p - e)``, where ``a = alpha[y] * q**gamma * (1 -
    gamma * p[y] * log(p[y]) / q)`` and e is 1 at the label and 0 elsewhere. The Hessian's diagonal is ``a * p * (1 -
    p) + b * ((p - e) / q)**2`` with ``b = alpha[y] * gamma * q**(gamma + 1) * (2 * p[y] - (gamma * p[y] - 1) * p[y] *
    log(p[y]) / q)``. With `gamma` 0 it is the cross-entropy. ``1 - p[y]`` is summed from the other classes, so
    nothing cancels, and a sure prediction keeps its small loss and gradient; for `gamma` below 1 too they are 0 where
    the prediction is certain.

    ``'mean'`` divides by the number of samples that are not ignored, whatever their `alpha`. A sample with label
    `ignore_index` has loss and gradient 0, whatever its logits are. A logit of -inf is an impossible class.

    Parameters
    ----------
    alpha : array_like, optional
        A weight for each class, of shape (C,).
    gamma : float, default 2.0
        How much less: at least 0.
    ignore_index : int, default -100
        The label of samples that are left out.
    reduction : {'none', 'mean', 'sum'}, default 'mean'
        What becomes of the losses of the samples.

    References
    ----------
    T.-Y. Lin et al., Focal loss for dense object detection, ICCV 2017, there of two classes.

    Examples
    --------
    >>> import lossrs.functional as F
    >>> logits = [[2.0, 1.0], [0.5, 1.5], [2.0, 1.0], [0.5, 1.5]]
    >>> round(F.softmax_focal_loss(logits, [0, 1, 0, 0]), 4)
    0.1925
    """

    alpha: ArrayOption = None
    gamma: float = 2.0
    ignore_index: int = -100


@loss("multi_margin_loss")
class MultiMarginLoss(RowwiseLoss):
    """The margin loss of several classes: how far the label's score fails to be `margin` above each of the others.

    The loss of a sample with label y is ``w[y] * sum(max(0, margin - input[y] + input[c])**p) / C`` over the C
    classes c but y, where w is `weight`. Its gradient with respect to ``input[c]`` is ``w[y] * p * max(0, margin -
    input[y] + input[c])**(p - 1) / C`` where that maximum is positive, and at the label the negated sum of these. The
    Hessian's diagonal is 0 for `p` 1, and for `p` 2 ``2 * w[y] / C`` where the maximum is positive, and at the label
    the sum of these. ``'mean'`` divides by the number of samples, whatever their weights. A score of -inf is an
    impossible class. As torch has it, a number is a row of one class, whose loss is 0; and more axes may follow that
    of the classes.

    Parameters
    ----------
    p : {1, 2}, default 1
        The power.
    margin : float, default 1.0
        Of either sign.
    weight : array_like, optional
        A weight for each class, of shape (C,).
    reduction : {'none', 'mean', 'sum'}, default 'mean'
        What becomes of the losses of the samples.

    References
    ----------
    J. Weston and C. Watkins, Support vector machines for multi-class pattern recognition, ESANN 1999.
    ``torch.nn.functional.multi_margin_loss``, which gives NaN scores no loss.

    Examples
    --------
    >>> import lossrs.functional as F
    >>> F.multi_margin_loss([[0.5, 1.0, -1.0], [2.0, 0.5, 0.25]], [0, 0])
    0.25
    """

    p: int = 1
    margin: float = 1.0
    weight: ArrayOption = None


@loss("multilabel_margin_loss")
class MultiLabelMarginLoss(RowwiseLoss):
    """The margin loss of several labels: how far each label's score fails to be 1 above those of the other classes.

    The loss of a sample is ``sum(max(0, 1 - (input[j] - input[i]))) / C`` over its labels j and the classes i that
    are not among them. Its gradient with respect to ``input[i]`` is the number of labels for which the maximum is
    positive, divided by C, and with respect to ``input[j]`` the negated number of classes, likewise. The Hessian's
    diagonal is 0. A label that is there twice counts twice, as in torch. A score of -inf that is not a label's adds
    nothing.

    Parameters
    ----------
    reduction : {'none', 'mean', 'sum'}, default 'mean'
        What becomes of the losses of the samples.

    References
    ----------
    ``torch.nn.functional.multilabel_margin_loss``, which gives NaN scores no loss.

    Examples
    --------
    >>> import lossrs.functional as F
    >>> round(F.multilabel_margin_loss([0.1, 0.2, 0.4, 0.8], [3, 0, -1, 1]), 4)
    0.85
    """

    arguments: ClassVar[str] = """\
input : array_like
    Scores of shape (C,), (N, C) or (N, C, d1, ..., dK): float64, float32, float16 or bfloat16.
target : array_like
    Of the input's shape: the labels of each sample, in [0, C), from the first place on, and -1 after the last. What
    follows that is ignored. Any integer type, or floats that are whole.
"""


@loss("multilabel_soft_margin_loss")
class MultiLabelSoftMarginLoss(RowwiseLoss):
    """The binary cross-entropies of a row of logits, and of those the mean.

    Of C logits x and targets t it is ``-mean(w * (t * log(s(x)) + (1 - t) * log(s(-x))))``, where ``s`` is the
    logistic function and w is `weight`. Its gradient is ``w * (s(x) - t) / C`` and the Hessian's diagonal ``w * s(x)
    * s(-x) / C``. Nothing cancels or overflows. Classes are the last axis, as in torch; the losses have the input's
    shape without it.

    Parameters
    ----------
    weight : array_like, optional
        Weights that are broadcast to the input; as in torch, ``'mean'`` divides by the count all the same.
    reduction : {'none', 'mean', 'sum'}, default 'mean'
        What becomes of the losses of the samples.

    References
    ----------
    ``torch.nn.functional.multilabel_soft_margin_loss``.

    Examples
    --------
    >>> import lossrs.functional as F
    >>> round(F.multilabel_soft_margin_loss([[2.0, -1.0, 0.5]], [[1, 0, 0]]), 4)
    0.4714
    """

    weight: ArrayOption = None

    arguments: ClassVar[str] = """\
input : array_like
    Logits of shape (..., C): float64, float32, float16 or bfloat16.
target : array_like
    Of the input's shape: 0 or 1, or a probability.
"""
