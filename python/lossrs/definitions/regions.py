"""Losses of regions: of how predicted masks and true ones overlap."""

from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

from lossrs.loss import ArrayOption, Loss, loss

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
        Whether inputs are logits, of which the logistic function makes probabilities, or the softmax over the classes
        with ``mode='multiclass'``. Else inputs are probabilities, in [0, 1].
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


@dataclass(kw_only=True, repr=False, eq=False)
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

    def __init_subclass__(cls, index: str = "index", **rest: object) -> None:
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
    the batch, has no logits, smooths the denominator alone, by 1e-7, and weighs false negatives by its alpha.

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
