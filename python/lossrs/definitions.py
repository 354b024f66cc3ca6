"""A definition for each loss: its options, its formula and where it comes from."""

from dataclasses import dataclass
from typing import ClassVar

from lossrs.loss import ArrayOption, Loss, loss


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class PointwiseLoss(Loss):
    """A loss of one element at a time."""

    arguments: ClassVar[str] = """\
input : array_like
    Predictions, of any shape: float64, float32, float16 or bfloat16. Integers are taken as float64.
target : array_like
    Of the input's shape.
"""


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class RowwiseLoss(Loss):
    """A loss of a row of scores, one for each of C classes."""

    arguments: ClassVar[str] = """\
input : array_like
    Scores of shape (C,), (N, C) or (N, C, d1, ..., dK): float64, float32, float16 or bfloat16.
target : array_like
    Labels in [0, C), of the input's shape without the axis of classes: any integer type, or floats that are whole.
"""


@loss("mse_loss")
class MSELoss(PointwiseLoss):
    """The squared error.

    With ``d = input - target`` the loss is ``d**2``, its gradient ``2 * d`` and its Hessian ``2``.

    Parameters
    ----------
    weight : array_like, optional
        Weights that are broadcast to the input; ``'mean'`` then divides by their sum.
    reduction : {'none', 'mean', 'sum'}, default 'mean'
        What becomes of the losses of the elements.

    References
    ----------
    ``torch.nn.functional.mse_loss``; twice scikit-learn's half squared error.

    Examples
    --------
    >>> import lossrs.functional as F
    >>> round(F.mse_loss([2.5, 0.0, 2.1, 1.8], [3.0, -0.5, 2.0, 1.0]), 4)
    0.2875
    """

    weight: ArrayOption = None


@loss("l1_loss")
class L1Loss(PointwiseLoss):
    """The absolute error.

    With ``d = input - target`` the loss is ``abs(d)``, its gradient ``sign(d)``, which is 0 at 0 and NaN of
    NaN, where torch gives 0, and its Hessian 0.

    Parameters
    ----------
    weight : array_like, optional
        Weights that are broadcast to the input; ``'mean'`` then divides by their sum.
    reduction : {'none', 'mean', 'sum'}, default 'mean'
        What becomes of the losses of the elements.

    References
    ----------
    ``torch.nn.functional.l1_loss``.

    Examples
    --------
    >>> import lossrs.functional as F
    >>> F.l1_loss([1.0, 4.0], [0.0, 2.0])
    1.5
    """

    weight: ArrayOption = None


@loss("huber_loss")
class HuberLoss(PointwiseLoss):
    """Huber's loss: quadratic near zero, linear beyond `delta`.

    With ``d = input - target`` the loss is ``d**2 / 2`` where ``abs(d) <= delta`` and ``delta * (abs(d) - delta / 2)``
    beyond, its gradient ``clip(d, -delta, delta)`` and its Hessian 1 and 0.

    Parameters
    ----------
    delta : float, default 1.0
        Where the loss becomes linear; positive.
    weight : array_like, optional
        Weights that are broadcast to the input; as in torch, ``'mean'`` divides by the count all the same.
    reduction : {'none', 'mean', 'sum'}, default 'mean'
        What becomes of the losses of the elements.

    References
    ----------
    P. Huber, Robust estimation of a location parameter, Annals of Mathematical Statistics 35, 1964.
    ``torch.nn.functional.huber_loss``; scikit-learn's Huber loss.

    Examples
    --------
    >>> import lossrs.functional as F
    >>> F.huber_loss([0.5, 3.0], [0.0, 0.0], reduction="none")
    array([0.125, 2.5  ])
    """

    delta: float = 1.0
    weight: ArrayOption = None


@loss("smooth_l1_loss")
class SmoothL1Loss(PointwiseLoss):
    """The smooth absolute error: Huber's loss over its threshold.

    With ``d = input - target`` the loss is ``d**2 / (2 * beta)`` where ``abs(d) < beta`` and ``abs(d) - beta / 2``
    beyond, its gradient ``d / beta`` and ``sign(d)``, its Hessian ``1 / beta`` and 0. With ``beta = 0`` it is the
    absolute error.

    Parameters
    ----------
    beta : float, default 1.0
        Where the loss becomes linear; at least 0.
    reduction : {'none', 'mean', 'sum'}, default 'mean'
        What becomes of the losses of the elements.

    References
    ----------
    R. Girshick, Fast R-CNN, ICCV 2015. ``torch.nn.functional.smooth_l1_loss``.

    Examples
    --------
    >>> import lossrs.functional as F
    >>> F.smooth_l1_loss([0.5, 3.0], [0.0, 0.0], beta=2.0, reduction="none")
    array([0.0625, 2.    ])
    """

    beta: float = 1.0


@loss("binary_cross_entropy")
class BCELoss(PointwiseLoss):
    """The binary cross-entropy of probabilities.

    Of a probability p and a target t it is ``-(t * log(p) + (1 - t) * log(1 - p))``, its gradient ``(p - t) / (p * (1
    - p))`` and its Hessian ``t / p**2 + (1 - t) / (1 - p)**2``. As in torch, logarithms are at least -100, so that a
    certain and wrong prediction costs 100, and the denominators of the derivatives are at least 1e-12. Inputs and
    targets lie in [0, 1]; NaN gives NaN. From logits, `binary_cross_entropy_with_logits` is more accurate and
    quicker.

    Parameters
    ----------
    weight : array_like, optional
        Weights that are broadcast to the input; as in torch, ``'mean'`` divides by the count all the same.
    reduction : {'none', 'mean', 'sum'}, default 'mean'
        What becomes of the losses of the elements.

    References
    ----------
    ``torch.nn.functional.binary_cross_entropy``; scikit-learn's ``log_loss`` of two classes.

    Examples
    --------
    >>> import lossrs.functional as F
    >>> round(F.binary_cross_entropy([0.8, 0.1, 0.6, 0.4], [1, 0, 1, 0]), 4)
    0.3375
    """

    weight: ArrayOption = None


@loss("binary_cross_entropy_with_logits")
class BCEWithLogitsLoss(PointwiseLoss):
    """The binary cross-entropy of logits.

    Of a logit x and a target t it is ``-(c * t * log(s(x)) + (1 - t) * log(s(-x)))``, where ``s`` is the logistic
    function and ``c`` is `pos_weight`. Its gradient is ``(1 - t) * s(x) - c * t * s(-x)`` and its Hessian ``(1 - t +
    c * t) * s(x) * s(-x)``. Nothing cancels or overflows. At infinite logits it is 0 where the prediction is right
    and infinite where it is wrong; torch gives NaN there.

    Parameters
    ----------
    weight : array_like, optional
        Weights that are broadcast to the input; as in torch, ``'mean'`` divides by the count all the same.
    pos_weight : array_like, optional
        Weights of the positive part, broadcast to the input.
    reduction : {'none', 'mean', 'sum'}, default 'mean'
        What becomes of the losses of the elements.

    References
    ----------
    ``torch.nn.functional.binary_cross_entropy_with_logits``; scikit-learn's half binomial loss.

    Examples
    --------
    >>> import lossrs.functional as F
    >>> F.binary_cross_entropy_with_logits([0.0, 1000.0], [1.0, 0.0], reduction="none")
    array([6.93147181e-01, 1.00000000e+03])
    """

    weight: ArrayOption = None
    pos_weight: ArrayOption = None


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


@loss("linear_cross_entropy")
class LinearCrossEntropyLoss(Loss):
    """The cross-entropy of the logits that a linear layer makes, which are never stored whole.

    With the logits ``x = input @ linear_weight.T + linear_bias``, or ``softcap * tanh(x / softcap)`` of them, the loss of a
    sample with label y is ``w[y] * (lse(x) - x[y]) + z_loss * lse(x)**2``, ``lse(x) = log(sum(exp(x)))``: the first part is
    `cross_entropy`, with its smoothing, the second has no weight of a class. ``'mean'`` divides the first by the sum of
    ``w[y]`` and the second by the number of samples, as Liger does.

    Gradients come in one call with respect to the input, the weight and, where it is given, the bias; `wrt` names those that
    are wanted, and the others are not computed. There is no Hessian. What is kept besides the results is at most 32 MiB, or
    64 rows of logits where that is more, and 1 MiB for each thread; of a float16 or bfloat16 weight its gradient in float32.

    A product is summed in the order of its terms, 256 at a time, each rounded once with the sum: the loss of a sample is
    the same, bit for bit, whatever the other samples, and as all results whatever the threads, the layout and the
    instruction set. Samples that are left out cost nothing. Logits are rounded to the type that is computed in, so losses
    are accurate to the extent that the products are.

    Parameters
    ----------
    weight : array_like, optional
        A weight for each class. ``'mean'`` divides by the weights of the labels.
    ignore_index : int, default -100
        The label of samples that are left out: their loss is 0 and so is their gradient, whatever they hold.
    label_smoothing : float, default 0.0
        How much of each target is spread evenly over the classes, in [0, 1].
    z_loss : float, default 0.0
        What the square of ``lse(x)`` is multiplied by; at least 0.
    softcap : float, optional
        What logits are bounded by; positive.
    reduction : {'none', 'mean', 'sum'}, default 'mean'
        What becomes of the losses of the samples.

    References
    ----------
    ``torch.nn.functional.linear_cross_entropy``. E. Wijmans et al., Cut your losses in large-vocabulary language models,
    2024. A. Chowdhery et al., PaLM: scaling language modeling with pathways, 2022, of the z-loss. Gemma Team, Gemma 2, 2024,
    of the cap. P. Hsu et al., Liger kernel: efficient Triton kernels for LLM training, 2024.

    Examples
    --------
    >>> import lossrs.functional as F
    >>> input, linear_weight = [[1.0, 0.0], [0.5, 2.0]], [[2.0, 0.0], [0.0, 1.0], [1.0, 1.0]]
    >>> round(F.linear_cross_entropy(input, linear_weight, [0, 2], z_loss=1e-4), 4)
    0.4369
    >>> loss, (by_input, by_weight) = F.linear_cross_entropy.value_and_grad(input, linear_weight, [0, 2])
    >>> by_weight.shape
    (3, 2)
    """

    arguments: ClassVar[str] = """\
input : array_like
    Features of shape (..., in): float64, float32, float16 or bfloat16.
linear_weight : array_like
    The layer's weight, of shape (C, in), a row for each class.
target : array_like
    Labels in [0, C), of the input's shape without its last axis: any integer type, or floats that are whole.
linear_bias : array_like, optional
    The layer's bias, of shape (C,).
"""

    weight: ArrayOption = None
    ignore_index: int = -100
    label_smoothing: float = 0.0
    z_loss: float = 0.0
    softcap: float | None = None
