"""Losses of one element at a time."""

from typing import ClassVar, Literal

from lossrs.loss import ArrayOption, Loss, loss


class PointwiseLoss(Loss):
    """A loss of one element at a time."""

    arguments: ClassVar[str] = """\
input : array_like
    Predictions, of any shape: float64, float32, float16 or bfloat16. Integers are taken as float64.
target : array_like
    Of the input's shape.
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


@loss("poisson_nll_loss")
class PoissonNLLLoss(PointwiseLoss):
    """The negative log-likelihood of counts under Poisson's law.

    Of an input x and a count t it is ``exp(x) - t * x``, or without `log_input` ``x - t * log(x + eps)``; with `full`,
    Stirling's ``t * log(t) - t + log(2 * pi * t) / 2`` stands for ``log(t!)`` where ``t > 1``. Its gradient is ``exp(x)
    - t`` or ``1 - t / (x + eps)``, its Hessian ``exp(x)`` or ``t / (x + eps)**2``. A count of 0 has no part in the
    logarithm, whatever x is, and an infinite x is an infinite loss, where torch has NaN.

    Parameters
    ----------
    log_input : bool, default True
        Whether the input is the logarithm of the mean.
    full : bool, default False
        Whether to add Stirling's approximation.
    eps : float, default 1e-8
        What is added to the mean in its logarithm; at least 0.
    reduction : {'none', 'mean', 'sum'}, default 'mean'
        What becomes of the losses of the elements.

    References
    ----------
    ``torch.nn.functional.poisson_nll_loss``; scikit-learn's half Poisson loss.

    Examples
    --------
    >>> import lossrs.functional as F
    >>> F.poisson_nll_loss([0.0, 1.0], [1.0, 0.0], reduction="none")
    array([1.        , 2.71828183])
    """

    log_input: bool = True
    full: bool = False
    eps: float = 1e-8


@loss("gaussian_nll_loss")
class GaussianNLLLoss(PointwiseLoss):
    """The negative log-likelihood of targets under a normal law of predicted mean and variance.

    With ``d = input - target`` and ``v = max(var, eps)`` the loss is ``(log(v) + d**2 / v) / 2``, and with `full`
    ``log(2 * pi) / 2`` more. Its gradients are ``d / v`` with respect to the input and ``(1 - d**2 / v) / (2 * v)``
    with respect to the variance, as torch has it also where `eps` bounds that; its Hessian's diagonal ``1 / v`` and
    ``d**2 / v**3 - 1 / (2 * v**2)``. What is derived with respect to a variance that several elements share is summed
    over them. Unlike torch's, targets are not broadcast, nor are variances along other axes than the last.

    Parameters
    ----------
    full : bool, default False
        Whether to add the constant.
    eps : float, default 1e-6
        The least variance; positive.
    reduction : {'none', 'mean', 'sum'}, default 'mean'
        What becomes of the losses of the elements.

    References
    ----------
    D. Nix and A. Weigend, Estimating the mean and variance of the target probability distribution, ICNN 1994.
    ``torch.nn.functional.gaussian_nll_loss``.

    Examples
    --------
    >>> import lossrs.functional as F
    >>> F.gaussian_nll_loss([1.0, 2.0], [0.0, 0.0], [1.0, 4.0], reduction="none")
    array([0.5       , 1.19314718])
    """

    full: bool = False
    eps: float = 1e-6

    arguments: ClassVar[str] = """\
input : array_like
    Predicted means, of any shape: float64, float32, float16 or bfloat16. Integers are taken as float64.
target : array_like
    Of the input's shape.
var : array_like
    Predicted variances, at least 0: of the input's shape; or of that without the last axis, or of length 1 along it, or
    a number, for elements that share one.
"""


@loss("kl_div")
class KLDivLoss(PointwiseLoss):
    """The Kullback-Leibler divergence of log-probabilities from a target.

    Of a log-probability x and a target t it is ``t * (log(t) - x)``, or with `log_target` ``exp(t) * (t - x)``; a
    probability of 0 adds nothing, whatever x is, where torch gives NaN for infinite x. Its gradient is ``-t`` or
    ``-exp(t)``, its Hessian 0. With respect to the target, on request by ``wrt``, the gradient is ``log(t) - x + 1`` or
    ``exp(t) * (t - x + 1)``.

    Parameters
    ----------
    log_target : bool, default False
        Whether targets are logarithms of probabilities.
    reduction : {'none', 'mean', 'batchmean', 'sum'}, default 'mean'
        What becomes of the losses of the elements. ``'batchmean'`` divides by the length of the first axis, as the
        divergence is defined, and ``'mean'`` by the number of elements; with sample weights ``'batchmean'`` is the
        weighted mean times the number of elements in an entry of the first axis.

    References
    ----------
    S. Kullback and R. Leibler, On information and sufficiency, Annals of Mathematical Statistics 22, 1951.
    ``torch.nn.functional.kl_div``.

    Examples
    --------
    >>> import numpy as np
    >>> import lossrs.functional as F
    >>> round(F.kl_div(np.log([[0.5, 0.5]]), [[0.25, 0.75]], reduction="batchmean"), 4)
    0.1308
    """

    reductions: ClassVar[tuple[str, ...]] = ("none", "mean", "batchmean", "sum")

    log_target: bool = False
    reduction: Literal["none", "mean", "batchmean", "sum"] = "mean"  # type: ignore[assignment]

    arguments: ClassVar[str] = """\
input : array_like
    Log-probabilities, of any shape: float64, float32, float16 or bfloat16.
target : array_like
    Probabilities, or their logarithms, of the input's shape.
"""


@loss("pinball_loss")
class PinballLoss(PointwiseLoss):
    """The pinball loss, whose minimum is a quantile.

    With ``d = target - input`` the loss is ``alpha * d`` where d is at least 0 and ``(alpha - 1) * d`` where it is
    negative, its gradient ``-alpha`` and ``1 - alpha``, its Hessian 0.

    Parameters
    ----------
    alpha : float, default 0.5
        Which quantile is predicted; in [0, 1].
    reduction : {'none', 'mean', 'sum'}, default 'mean'
        What becomes of the losses of the elements.

    References
    ----------
    R. Koenker and G. Bassett, Regression quantiles, Econometrica 46, 1978. scikit-learn's ``mean_pinball_loss``.

    Examples
    --------
    >>> import lossrs.functional as F
    >>> F.pinball_loss([1.0, 3.0], [2.0, 2.0], alpha=0.75, reduction="none")
    array([0.75, 0.25])
    """

    alpha: float = 0.5


@loss("tweedie_deviance_loss")
class TweedieDevianceLoss(PointwiseLoss):
    """Tweedie's deviance of a mean, for a variance that is a power of the mean.

    Of a mean m, a target y and the power p it is ``2 * (y**(2 - p) / ((1 - p) * (2 - p)) - y * m**(1 - p) / (1 - p) +
    m**(2 - p) / (2 - p))``, its gradient ``2 * (m - y) / m**p`` and its Hessian ``2 * (1 - p + p * y / m) / m**p``. Of
    power 0 it is the squared error; of power 1 Poisson's deviance, ``2 * (y * log(y / m) - y + m)``; of power 2 that of
    the gamma distribution, ``2 * (log(m / y) + y / m - 1)``; of power 3 the inverse Gaussian's. Of a negative power,
    negative targets count as 0 in the first term, as in scikit-learn.

    Parameters
    ----------
    power : float, default 1.0
        At most 0, or at least 1.
    reduction : {'none', 'mean', 'sum'}, default 'mean'
        What becomes of the losses of the elements.

    References
    ----------
    B. Jorgensen, Exponential dispersion models, Journal of the Royal Statistical Society B 49, 1987. scikit-learn's
    ``mean_tweedie_deviance``.

    Examples
    --------
    >>> import lossrs.functional as F
    >>> F.tweedie_deviance_loss([2.0, 1.0], [0.0, 1.0], reduction="none")
    array([4., 0.])
    """

    power: float = 1.0

    arguments: ClassVar[str] = """\
input : array_like
    Predicted means, of any shape, positive (at least 1.2e-38) unless the power is 0: float64, float32, float16 or
    bfloat16. Integers are taken as float64.
target : array_like
    Of the input's shape: at least 0 for powers from 1 on, positive from 2 on.
"""


@loss("hinge_loss")
class HingeLoss(PointwiseLoss):
    """The hinge loss of scores and signs, of support-vector machines.

    Of a score x and a sign y it is ``max(0, 1 - y * x)``, its gradient ``-y`` where that is positive and 0 elsewhere,
    its Hessian 0.

    Parameters
    ----------
    reduction : {'none', 'mean', 'sum'}, default 'mean'
        What becomes of the losses of the elements.

    References
    ----------
    C. Cortes and V. Vapnik, Support-vector networks, Machine Learning 20, 1995. scikit-learn's ``hinge_loss``.

    Examples
    --------
    >>> import lossrs.functional as F
    >>> F.hinge_loss([0.5, 3.0, 1.0], [1, 1, -1], reduction="none")
    array([0.5, 0. , 2. ])
    """

    arguments: ClassVar[str] = """\
input : array_like
    Scores, of any shape: float64, float32, float16 or bfloat16. Integers are taken as float64.
target : array_like
    1 or -1, of the input's shape.
"""


@loss("soft_margin_loss")
class SoftMarginLoss(PointwiseLoss):
    """The logistic loss of scores and signs.

    Of a score x and a sign y it is ``log(1 + exp(-y * x))``, its gradient ``-y / (1 + exp(y * x))`` and its Hessian
    ``exp(y * x) / (1 + exp(y * x))**2``. Nothing overflows: torch gives infinity for ``y * x = -1000``. Targets are 1
    or -1; torch takes any.

    Parameters
    ----------
    reduction : {'none', 'mean', 'sum'}, default 'mean'
        What becomes of the losses of the elements.

    References
    ----------
    ``torch.nn.functional.soft_margin_loss``.

    Examples
    --------
    >>> import lossrs.functional as F
    >>> F.soft_margin_loss([0.0, -1000.0], [1, 1], reduction="none")
    array([6.93147181e-01, 1.00000000e+03])
    """

    arguments: ClassVar[str] = """\
input : array_like
    Scores, of any shape: float64, float32, float16 or bfloat16. Integers are taken as float64.
target : array_like
    1 or -1, of the input's shape.
"""


@loss("hinge_embedding_loss")
class HingeEmbeddingLoss(PointwiseLoss):
    """The hinge loss of distances between similar and dissimilar pairs.

    Of a distance x and a sign y it is x where ``y = 1`` and ``max(0, margin - x)`` where ``y = -1``. Its gradient is
    1, or -1 below the margin and 0 from there on; its Hessian 0. The gradient of NaN is NaN, where torch gives 1 or
    0. Targets are 1 or -1; of others torch adds up both cases.

    Parameters
    ----------
    margin : float, default 1.0
        The distance from which a dissimilar pair costs nothing.
    reduction : {'none', 'mean', 'sum'}, default 'mean'
        What becomes of the losses of the elements.

    References
    ----------
    ``torch.nn.functional.hinge_embedding_loss``.

    Examples
    --------
    >>> import lossrs.functional as F
    >>> F.hinge_embedding_loss([0.25, 0.25], [1, -1], reduction="none")
    array([0.25, 0.75])
    """

    margin: float = 1.0

    arguments: ClassVar[str] = """\
input : array_like
    Distances, of any shape: float64, float32, float16 or bfloat16. Integers are taken as float64.
target : array_like
    1 of a similar pair, -1 of a dissimilar one, of the input's shape.
"""


@loss("margin_ranking_loss")
class MarginRankingLoss(PointwiseLoss):
    """The hinge loss of pairs of scores in the wrong order.

    Of scores x1 and x2 and a sign y it is ``max(0, margin - y * (x1 - x2))``. Its gradients are ``-y`` with respect
    to x1 and ``y`` with respect to x2 where the loss is not 0, and 0 where it is; its Hessian 0. Those of NaN are
    NaN, where torch gives 0. Targets are 1 or -1; torch takes any.

    Parameters
    ----------
    margin : float, default 0.0
        By how much the one score has to exceed the other.
    reduction : {'none', 'mean', 'sum'}, default 'mean'
        What becomes of the losses of the elements.

    References
    ----------
    ``torch.nn.functional.margin_ranking_loss``.

    Examples
    --------
    >>> import lossrs.functional as F
    >>> F.margin_ranking_loss([1.0, 1.0], [0.5, 0.5], [1, -1], reduction="none")
    array([0. , 0.5])
    """

    margin: float = 0.0

    arguments: ClassVar[str] = """\
input1 : array_like
    Scores, of any shape: float64, float32, float16 or bfloat16. Integers are taken as float64.
input2 : array_like
    Scores to compare them with, of the same shape.
target : array_like
    1 where the first should be larger, -1 where the second should; of the same shape.
"""


@loss("sigmoid_focal_loss")
class SigmoidFocalLoss(PointwiseLoss):
    """The focal loss of logits: binary cross-entropy that goes easy on what is well predicted.

    With ``p`` the logistic function of a logit and t its target, it is ``a * c * q**gamma``, where ``c`` is their
    binary cross-entropy, ``q = t * (1 - p) + (1 - t) * p`` how far the prediction is from the target, and ``a = alpha
    * t + (1 - alpha) * (1 - t)``. Its gradient is ``a * q**gamma * (c' + gamma * c * q' / q)`` with ``c' = p - t``
    and ``q' = (1 - 2 * t) * p * (1 - p)``. The Hessian is exact, so it may be negative. Nothing in it cancels or
    overflows, of any `gamma`.

    Parameters
    ----------
    alpha : float or None, default 0.25
        The weight of positive targets, of negative ones ``1 - alpha``; None, or less than 0 as in torchvision, weighs
        all as 1.
    gamma : float, default 2.0
        The focus, at least 0; 0 gives the binary cross-entropy.
    reduction : {'none', 'mean', 'sum'}, default 'mean'
        What becomes of the losses of the elements. torchvision's default is ``'none'``.

    References
    ----------
    T.-Y. Lin et al., Focal loss for dense object detection, ICCV 2017. ``torchvision.ops.sigmoid_focal_loss``.

    Examples
    --------
    >>> import lossrs.functional as F
    >>> F.sigmoid_focal_loss([2.0, -2.0], [1.0, 1.0], reduction="none")
    array([0.00045089, 0.41251954])
    """

    alpha: float | None = 0.25
    gamma: float = 2.0

    arguments: ClassVar[str] = """\
input : array_like
    Logits, of any shape: float64, float32, float16 or bfloat16. Integers are taken as float64.
target : array_like
    Probabilities, of the input's shape.
"""
