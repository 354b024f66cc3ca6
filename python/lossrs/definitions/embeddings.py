"""Losses of rows of embeddings, two or three of them, and of a distance."""

from collections.abc import Callable
from typing import Any, ClassVar, NoReturn

import numpy as np

from lossrs import _lossrs
from lossrs.definitions.pointwise import PointwiseLoss
from lossrs.loss import Array, Loss, loss


class EmbeddingsLoss(Loss):
    """A loss of rows of vectors, which lie along the last axis."""


class TripletLoss(EmbeddingsLoss):
    """A loss of an anchor, a vector that should be near it, and one that should not."""

    arguments: ClassVar[str] = """\
anchor : array_like
    Vectors along the last axis, of shape (D,), (N, D) or with any other leading axes: float64, float32, float16 or
    bfloat16. Integers are taken as float64.
positive : array_like
    Vectors that should be near the anchors, of the same shape.
negative : array_like
    Vectors that should not, of the same shape.
"""


@loss("cosine_embedding_loss")
class CosineEmbeddingLoss(EmbeddingsLoss):
    """One less the cosine of similar vectors, and the cosine of dissimilar ones beyond a margin.

    With ``cos = sum(x * y) / sqrt((sum(x**2) + 1e-12) * (sum(y**2) + 1e-12))`` the loss is ``1 - cos`` where the target
    is 1, and ``max(0, cos - margin)`` where it is -1. The gradient of ``cos`` with respect to x is ``(y / norm(y) -
    cos * x / norm(x)) / norm(x)``, with norms that have the 1e-12; where ``cos <= margin``, that of a dissimilar pair
    is 0. Of nearly parallel vectors ``1 - cos`` does not cancel: it is half the squared distance of the two at unit
    length. As in torch, a vector of zeros has a large gradient, 1e6 times the other at unit length.

    A target that is neither 1 nor -1 is an error, where torch gives a loss of 0.

    Parameters
    ----------
    margin : float, default 0.0
        The cosine up to which dissimilar vectors cost nothing; -1 to 1 make sense.
    reduction : {'none', 'mean', 'sum'}, default 'mean'
        What becomes of the losses of the pairs.

    References
    ----------
    ``torch.nn.functional.cosine_embedding_loss``.

    Examples
    --------
    >>> import lossrs.functional as F
    >>> F.cosine_embedding_loss([[3.0, 4.0], [3.0, 4.0]], [[4.0, 3.0], [4.0, 3.0]], [1, -1], reduction="none")
    array([0.04, 0.96])
    """

    margin: float = 0.0

    arguments: ClassVar[str] = """\
input1 : array_like
    Vectors along the last axis, of shape (D,), (N, D) or with any other leading axes: float64, float32, float16 or
    bfloat16. Integers are taken as float64.
input2 : array_like
    Vectors to compare them with, of the same shape.
target : array_like
    1 for similar pairs and -1 for dissimilar ones, of the inputs' shape without the last axis.
"""


@loss("contrastive_loss")
class ContrastiveLoss(EmbeddingsLoss):
    """The squared distance of similar vectors, and what dissimilar ones lack of a margin, squared.

    **A target of 1 means similar, 0 dissimilar**, and there is **no factor of 1/2**. With ``d = norm(input1 -
    input2)`` the loss is ``d**2`` where the target is 1, and ``max(0, margin - d)**2`` where it is 0. Its gradient
    with respect to `input1` is ``2 * (input1 - input2)``, and ``-2 * (margin - d) * (input1 - input2) / d`` of
    dissimilar vectors within the margin; of coincident ones that is 0, as nothing says which way apart is. With
    respect to `input2` it is the opposite.

    In the paper targets are the other way round, and the loss half as large. `contrastive_distance_loss` takes
    distances.

    Parameters
    ----------
    margin : float, default 1.0
        The distance from which on dissimilar vectors cost nothing; positive.
    reduction : {'none', 'mean', 'sum'}, default 'mean'
        What becomes of the losses of the pairs.

    References
    ----------
    R. Hadsell, S. Chopra and Y. LeCun, Dimensionality reduction by learning an invariant mapping, CVPR 2006.
    Twice sentence-transformers' loss of the Euclidean distance.

    Examples
    --------
    >>> import lossrs.functional as F
    >>> F.contrastive_loss([[3.0, 4.0], [3.0, 4.0]], [[0.0, 0.0], [0.0, 0.0]], [1, 0], margin=7.0, reduction="none")
    array([25.,  4.])
    """

    margin: float = 1.0

    arguments: ClassVar[str] = """\
input1 : array_like
    Vectors along the last axis, of shape (D,), (N, D) or with any other leading axes: float64, float32, float16 or
    bfloat16. Integers are taken as float64.
input2 : array_like
    Vectors to compare them with, of the same shape.
target : array_like
    1 for similar pairs and 0 for dissimilar ones, of the inputs' shape without the last axis.
"""


@loss("contrastive_distance_loss")
class ContrastiveDistanceLoss(PointwiseLoss):
    """The contrastive loss of distances.

    **A target of 1 means similar, 0 dissimilar**, and there is **no factor of 1/2**. With d for a distance and y for
    its target, which may lie between, the loss is ``y * d**2 + (1 - y) * max(0, margin - d)**2``, its gradient
    ``2 * y * d - 2 * (1 - y) * max(0, margin - d)`` and its Hessian ``2 * y``, with ``2 * (1 - y)`` more below the
    margin. It is `contrastive_loss` for those who have distances, of any kind.

    Parameters
    ----------
    margin : float, default 1.0
        The distance from which on dissimilar pairs cost nothing; positive.
    reduction : {'none', 'mean', 'sum'}, default 'mean'
        What becomes of the losses of the pairs.

    References
    ----------
    R. Hadsell, S. Chopra and Y. LeCun, Dimensionality reduction by learning an invariant mapping, CVPR 2006.
    TensorFlow Addons' contrastive loss; twice sentence-transformers'.

    Examples
    --------
    >>> import lossrs.functional as F
    >>> F.contrastive_distance_loss([5.0, 5.0], [1, 0], margin=7.0, reduction="none")
    array([25.,  4.])
    """

    margin: float = 1.0

    arguments: ClassVar[str] = """\
distance : array_like
    Distances of pairs, at least 0, of any shape: float64, float32, float16 or bfloat16. Integers are taken as float64.
target : array_like
    1 for similar pairs and 0 for dissimilar ones, or a number between, of the distances' shape.
"""


@loss("triplet_margin_loss")
class TripletMarginLoss(TripletLoss):
    """How much nearer than by a margin the negative is to the anchor than the positive, in a norm.

    With ``d(x, y) = norm(x - y + eps, p)`` the loss is ``max(0, margin + d(anchor, positive) - d(anchor, negative))``,
    and with `swap` the smaller of ``d(anchor, negative)`` and ``d(positive, negative)`` counts. With ``v = x - y +
    eps``, the gradient of ``d`` with respect to x is ``sign(v) * (abs(v) / d)**(p - 1)``, ``v / d`` of the Euclidean
    norm, and with respect to y the opposite; where ``d`` is 0 it is 0. Where the loss is 0, so are its gradients.
    Ties are shared, as torch has it: of `swap`, half to each distance; of ``p=inf``, in equal parts to the features
    that tie for the largest.

    Parameters
    ----------
    margin : float, default 1.0
        How much nearer the positive must be; positive.
    p : float, default 2.0
        The norm's degree, at least 1; infinity for the largest feature.
    eps : float, default 1e-6
        Added to each difference, so that the gradient of coincident vectors is not undefined.
    swap : bool, default False
        Whether the anchor and the positive swap parts where that makes the negative nearer.
    reduction : {'none', 'mean', 'sum'}, default 'mean'
        What becomes of the losses of the triplets.

    References
    ----------
    V. Balntas et al., Learning local feature descriptors with triplets and shallow convolutional neural networks,
    BMVC 2016. ``torch.nn.functional.triplet_margin_loss``.

    Examples
    --------
    >>> import lossrs.functional as F
    >>> F.triplet_margin_loss([[0.0, 0.0]], [[3.0, 4.0]], [[0.0, 2.0]], eps=0.0)
    4.0
    """

    margin: float = 1.0
    p: float = 2.0
    eps: float = 1e-6
    swap: bool = False


@loss("triplet_margin_with_distance_loss")
class TripletMarginWithDistanceLoss(TripletLoss):
    """How much nearer than by a margin the negative is to the anchor than the positive, in a distance of choice.

    The loss is ``max(0, margin + d(anchor, positive) - d(anchor, negative))``, and with `swap` the smaller of
    ``d(anchor, negative)`` and ``d(positive, negative)`` counts. Where the loss is 0, so are its gradients; where the
    two that `swap` compares tie, half goes to each.

    Parameters
    ----------
    distance_function : str or callable, default 'euclidean'
        ``'euclidean'``, ``norm(x - y + 1e-6)`` as torch's PairwiseDistance; ``'squared_euclidean'``,
        ``sum((x - y)**2)``; ``'cosine'``, one less the cosine of `cosine_embedding_loss`; ``'manhattan'``,
        ``sum(abs(x - y))``. Or a function of two arrays that returns the distances of their rows: then there is the
        loss alone, and no gradient.
    margin : float, default 1.0
        How much nearer the positive must be; positive.
    swap : bool, default False
        Whether the anchor and the positive swap parts where that makes the negative nearer.
    reduction : {'none', 'mean', 'sum'}, default 'mean'
        What becomes of the losses of the triplets.

    References
    ----------
    ``torch.nn.functional.triplet_margin_with_distance_loss``.

    Examples
    --------
    >>> import lossrs.functional as F
    >>> triplet = [[1.0, 0.0]], [[0.0, 2.0]], [[3.0, 3.0]]
    >>> F.triplet_margin_with_distance_loss(*triplet, distance_function="manhattan")
    0.0
    >>> F.triplet_margin_with_distance_loss(*triplet, distance_function=lambda x, y: abs(x - y).max(-1))
    0.0
    """

    distance_function: str | Callable[..., Any] = "euclidean"
    margin: float = 1.0
    swap: bool = False

    @classmethod
    def make_kernel(cls, **options: Any) -> Any:
        """Return what computes the loss; of a Python distance, that is Python."""
        distance = options["distance_function"]
        if not callable(distance):
            return super().make_kernel(**options)
        return _Triplets(distance, super().make_kernel(**options | {"distance_function": "euclidean"}), **options)


class _Triplets:
    """The kernel of a triplet loss of a Python distance."""

    def __init__(
        self, distance: Callable[..., Any], kernel: _lossrs.Loss, *, margin: float, swap: bool, **_: Any
    ) -> None:
        self.operands, self.inputs, self.asked = kernel.operands, kernel.inputs, kernel.asked
        self.has_hessian, self.has_log_prob = kernel.has_hessian, kernel.has_log_prob
        self._distance, self._swap = distance, swap
        # max(0, margin - (far - near))
        self._hinge = _lossrs.Loss("margin_ranking_loss", margin=margin)

    def value(
        self, operands: tuple[Any, ...], _arrays: None, sample_weight: Any, reduction: str, out: Array | None, *_: bool
    ) -> Any:
        anchor, positive, negative = map(np.asarray, operands)
        for name, array in (("positive", positive), ("negative", negative)):
            if array.shape != anchor.shape:
                shapes = f"anchor has shape {anchor.shape} and {name} {array.shape}"
                raise ValueError(f"{shapes}; they must be the same")
        near, far = np.asarray(self._distance(anchor, positive)), np.asarray(self._distance(anchor, negative))
        if self._swap:
            far = np.minimum(far, self._distance(positive, negative))
        if near.shape != far.shape:
            raise ValueError(f"distance_function returned distances of shapes {near.shape} and {far.shape}")
        first = np.broadcast_to(np.int8(1), far.shape)
        return self._hinge.value((far, near, first), None, sample_weight, reduction, out)

    def _refuse(self, *_: Any) -> NoReturn:
        raise TypeError(
            "distance_function is a Python function, whose gradient is not known; with 'euclidean', "
            "'squared_euclidean', 'cosine' or 'manhattan' there are gradients"
        )

    value_and_grad = grad_and_hess = backward = _refuse
