"""Losses of the scores that a linear layer makes."""

from typing import ClassVar

from lossrs.loss import ArrayOption, Loss, loss


@loss("linear_cross_entropy")
class LinearCrossEntropyLoss(Loss):
    """The cross-entropy of the logits that a linear layer makes, which are never stored whole.

    With the logits ``x = input @ linear_weight.T + linear_bias``, or ``softcap * tanh(x / softcap)`` of them, and
    ``lse(x) = log(sum(exp(x)))``, the loss of a sample with label y is ``w[y] * (lse(x) - x[y]) + z_loss *
    lse(x)**2``. The first part is `cross_entropy`, with its smoothing; the second has no weight of a class. ``'mean'``
    divides the first by the sum of ``w[y]`` and the second by the number of samples, as Liger does.

    Gradients come in one call with respect to the input, the weight and, where it is given, the bias; `wrt` names
    those that are wanted, and the others are not computed. There is no Hessian. What is kept besides the results is at
    most 32 MiB, or 64 rows of logits where that is more, and 2 MiB for each thread; of a float16 or bfloat16 weight its
    gradient in float32 besides.

    Products are added in their order, 256 at a time, and each is rounded once, with its sum. So the loss of a sample
    and the gradient of its features are the same, bit for bit, whatever the other samples are; and all results are,
    whatever the threads, the layout and the instruction set. Samples that are left out cost nothing. Logits are rounded
    to the type that is computed in, so losses are as accurate as products of matrices are.

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
    ``torch.nn.functional.linear_cross_entropy``. E. Wijmans et al., Cut your losses in large-vocabulary language
    models, 2024. A. Chowdhery et al., PaLM: scaling language modeling with pathways, 2022, of the z-loss. Gemma Team,
    Gemma 2, 2024, of the cap. P. Hsu et al., Liger kernel: efficient Triton kernels for LLM training, 2024.

    Examples
    --------
    >>> import lossrs.functional as F
    >>> input, linear_weight = [[1.0, 0.0], [0.5, 2.0]], [[2.0, 0.0], [0.0, 1.0], [1.0, 1.0]]
    >>> round(F.linear_cross_entropy(input, linear_weight, [0, 2], z_loss=1e-4), 4)
    0.5066
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
