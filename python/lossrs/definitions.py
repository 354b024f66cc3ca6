"""A definition for each loss: its options, its formula and where it comes from."""

from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

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


Mode: TypeAlias = Literal["binary", "multilabel", "multiclass"]
Empty: TypeAlias = Literal["smooth", "zero", "skip"]

_OF_REGIONS = """\
With probabilities p and targets g in [0, 1], sums run over the positions of an image, for each class: ``TP = sum(p *
    g)``, ``FP = sum(p * (1 - g))`` and ``FN = sum((1 - p) * g)``. None is the difference of others, so that a
    near-perfect prediction keeps the digits of its small loss. The loss of an image is the mean of its classes' losses,
    weighted by `weight`. 0/0, of empty masks without smoothing, is 0.

    The gradient with respect to p follows from the derivatives with respect to the three sums; that with respect to a
    logit is ``p * (1 - p)`` times it, or, of a softmax, ``p * (u - sum(p * u))``, where u is the gradient with respect
    to p and the sum is over the classes."""

_REGION_OPTIONS = """\
mode : {'binary', 'multilabel', 'multiclass'}, default 'binary'
        What targets are: a mask; a mask of each class, which may overlap; or one class at each position.
    from_logits : bool, default True
        Whether inputs are logits, of which the logistic function makes probabilities, or, with ``mode='multiclass'``, the
        softmax over the classes. Else inputs are probabilities, in [0, 1].
    weight : array_like, optional
        The weight of each class in the mean over the classes, of shape (C,). A weight of 0 leaves out a class, such as
        the background.
    ignore_index : int, optional
        The target of positions that are left out of all sums and have gradient 0, whatever the input is there.
    per_image : bool, default True
        Whether sums run over each image, so that there are as many losses as images; else they run over all images, and
        there is one loss, of shape ().
    empty : {'smooth', 'zero', 'skip'}, default 'smooth'
        What a class costs that is absent from the target of an image (or, without `per_image`, of the batch).
        ``'smooth'``: what the formula says, which with equal smoothing is 0 where nothing is predicted and near 1 where
        much is; MONAI and nnU-Net do so. ``'zero'``: nothing, and it counts in the mean over the classes, as in
        segmentation_models_pytorch. ``'skip'``: nothing, and it does not count in that mean; an image from which all
        classes are absent has loss 0 and does not count in the mean over the images."""

_SMOOTHING = """\
smooth_numerator : float, default 1e-5
        Added to the numerator of the {index}; from 0 to `smooth_denominator`.
    smooth_denominator : float, default 1e-5
        Added to its denominator."""

_REGION_REDUCTION = """\
reduction : {'none', 'mean', 'sum'}, default 'mean'
        What becomes of the losses of the images."""


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class RegionLoss(Loss):
    """A loss of how predicted masks and true ones overlap."""

    mode: Mode = "binary"
    from_logits: bool = True
    weight: ArrayOption = None
    ignore_index: int | None = None
    per_image: bool = True
    empty: Empty = "smooth"
    smooth_numerator: float = 1e-5
    smooth_denominator: float = 1e-5

    arguments: ClassVar[str] = """\
input : array_like
    Logits or probabilities of N images of C classes, of shape (N, C, d1, ..., dK); of binary masks (N, d1, ..., dK) or
    (N, 1, d1, ..., dK): float64, float32, float16 or bfloat16.
target : array_like
    Masks of the input's shape: any integer type, bool, or floats in [0, 1]. With ``mode='multiclass'`` labels in [0, C)
    of the input's shape without the axis of classes, or probabilities of the input's shape.
"""

    def __init_subclass__(cls, index: str, **rest: object) -> None:
        """Write into the docstring what all of these losses have in common."""
        super().__init_subclass__(**rest)
        smoothing = _SMOOTHING.format(index=index)
        for place, text in {
            "<sums and gradient>": _OF_REGIONS,
            "<options of regions>": _REGION_OPTIONS,
            "<smoothing>": smoothing,
            "<reduction>": _REGION_REDUCTION,
        }.items():
            cls.__doc__ = (cls.__doc__ or "").replace(place, text)


@loss("dice_loss")
class DiceLoss(RegionLoss, index="coefficient"):
    """The complement of Dice's coefficient: one minus twice the overlap over the sum of the sizes.

    It is ``1 - (2 * TP + n) / (2 * TP + FP + FN + d)``, where n and d are `smooth_numerator` and `smooth_denominator`,
    and its gradient with respect to p is ``(1 - loss - 2 * g) / (2 * TP + FP + FN + d)``. It is Tversky's loss with
    alpha and beta of one half, and half of this smoothing.

    <sums and gradient>

    Parameters
    ----------
    <options of regions>
    squared : bool, default False
        Whether sizes are sums of squares, ``sum(p**2) + sum(g**2)``, as in V-Net; errors are then ``(p - g)**2``.
    <smoothing>
    <reduction>

    References
    ----------
    F. Milletari, N. Navab and S. Ahmadi, V-Net: fully convolutional neural networks for volumetric medical image
    segmentation, 3DV 2016. MONAI's and segmentation_models_pytorch's DiceLoss; ``keras.losses.Dice`` sums over the
    batch, has no logits, and smooths the denominator alone, by 1e-7.

    Examples
    --------
    >>> import lossrs.functional as F
    >>> masks, labels = [[[0.9, 0.8], [0.2, 0.1]]], [[[1, 1], [0, 0]]]
    >>> round(F.dice_loss(masks, labels, from_logits=False), 4)
    0.15
    """

    squared: bool = False


@loss("jaccard_loss")
class JaccardLoss(RegionLoss, index="index"):
    """The complement of Jaccard's index: one minus the intersection over the union.

    It is ``1 - (TP + n) / (TP + FP + FN + d)``, where n and d are `smooth_numerator` and `smooth_denominator`, and its
    gradient with respect to p is ``(1 - loss - g * (2 - loss)) / (TP + FP + FN + d)``. It is Tversky's loss with alpha
    and beta of one.

    <sums and gradient>

    Parameters
    ----------
    <options of regions>
    squared : bool, default False
        Whether sizes are sums of squares, ``sum(p**2)`` and ``sum(g**2)``; errors are then ``(p - g)**2``.
    <smoothing>
    <reduction>

    References
    ----------
    M. Rahman and Y. Wang, Optimizing intersection-over-union in deep neural networks for image segmentation, ISVC 2016.
    segmentation_models_pytorch's JaccardLoss; MONAI's DiceLoss with ``jaccard=True`` has half of this smoothing.

    Examples
    --------
    >>> import lossrs.functional as F
    >>> masks, labels = [[[0.9, 0.8], [0.2, 0.1]]], [[[1, 1], [0, 0]]]
    >>> round(F.jaccard_loss(masks, labels, from_logits=False), 4)
    0.2609
    """

    squared: bool = False


@loss("tversky_loss")
class TverskyLoss(RegionLoss, index="index"):
    """The complement of Tversky's index, which weighs false positives and false negatives.

    It is ``1 - (TP + n) / (TP + alpha * FP + beta * FN + d)``, where n and d are `smooth_numerator` and
    `smooth_denominator`, and with D for this denominator its gradient with respect to p is ``((1 - g) * alpha * (1 -
    loss) - g * (loss + beta * (1 - loss))) / D``. With alpha and beta of one half it is Dice's loss, of one Jaccard's.

    <sums and gradient>

    Parameters
    ----------
    <options of regions>
    alpha : float, default 0.5
        The weight of false positives; at least 0.
    beta : float, default 0.5
        The weight of false negatives; at least 0.
    <smoothing>
    <reduction>

    References
    ----------
    S. Salehi, D. Erdogmus and A. Gholipour, Tversky loss function for image segmentation using 3D fully convolutional
    deep networks, MLMI 2017. MONAI's and segmentation_models_pytorch's TverskyLoss; ``keras.losses.Tversky`` sums over
    the batch, has no logits, and smooths the denominator alone, by 1e-7.

    Examples
    --------
    >>> import lossrs.functional as F
    >>> masks, labels = [[[0.9, 0.8], [0.2, 0.1]]], [[[1, 1], [0, 0]]]
    >>> round(F.tversky_loss(masks, labels, from_logits=False, alpha=0.3, beta=0.7), 4)
    0.15
    """

    alpha: float = 0.5
    beta: float = 0.5


@loss("focal_tversky_loss")
class FocalTverskyLoss(RegionLoss, index="index"):
    """Tversky's loss to a power, class by class.

    It is ``t**gamma`` of ``t = 1 - (TP + n) / (TP + alpha * FP + beta * FN + d)``, where n and d are `smooth_numerator`
    and `smooth_denominator`; its gradient is ``gamma * t**(gamma - 1)`` times that of `tversky_loss`, and 0 where t is
    0. Below 1, gamma raises the share of classes that are nearly right, above it of those that are wrong.

    <sums and gradient>

    Parameters
    ----------
    <options of regions>
    alpha : float, default 0.3
        The weight of false positives; at least 0.
    beta : float, default 0.7
        The weight of false negatives; at least 0.
    gamma : float, default 0.75
        The power; positive. Abraham and Khan write it as ``1 / gamma``, with a gamma of 4/3, and their alpha is `beta`.
        segmentation_models_pytorch raises the mean of the classes to the power gamma rather than each.
    <smoothing>
    <reduction>

    References
    ----------
    N. Abraham and N. Khan, A novel focal Tversky loss function with improved attention U-Net for lesion segmentation,
    ISBI 2019.

    Examples
    --------
    >>> import lossrs.functional as F
    >>> masks, labels = [[[0.9, 0.8], [0.2, 0.1]]], [[[1, 1], [0, 0]]]
    >>> round(F.focal_tversky_loss(masks, labels, from_logits=False), 4)
    0.241
    """

    alpha: float = 0.3
    beta: float = 0.7
    gamma: float = 0.75
