"""Losses of a sequence of rows and a shorter sequence of labels."""

from typing import ClassVar

from lossrs.loss import Loss, loss


@loss("ctc_loss")
class CTCLoss(Loss):
    """Connectionist temporal classification: labels of a sequence, without saying where in it they are.

    An alignment says a class at each of the T steps; it means the labels that are left when repetitions are joined and
    then blanks are dropped. With p for the sum over all alignments that mean `targets` of ``exp`` of the sum of their
    log-probabilities, the loss of a sample is ``-log(p)``. ``'mean'`` divides each loss by the number of its labels, or
    by 1 if there are none, and then takes the mean: ``sum(w * loss / max(target_length, 1)) / sum(w)``.

    The gradient is torch's, ``exp(log_probs) - q``, where ``q[t, c]`` is the part of p of the alignments that say c at
    step t. Where log_probs are the ``log_softmax`` of logits it is the derivative with respect to those, and passes
    unchanged through a derivative of ``log_softmax``; that with respect to log_probs alone is ``-q``. From a sample's
    number of steps on it is 0.

    Probabilities are added up in double precision with exponents of their own, so no alignment is too improbable to
    count. Where none is possible the loss is inf and the gradient nan over the sample's steps; with `zero_infinity`
    both are 0. A log-probability of -inf is an impossible class: its gradient is 0, where torch has nan. Batches of no
    samples or of no steps are valid. Labels that are not classes, or are the blank, are errors; torch takes them.

    Parameters
    ----------
    blank : int, default 0
        The class that is no label, in [0, C).
    zero_infinity : bool, default False
        Whether a loss that is infinite and its gradient are 0 instead.
    reduction : {'none', 'mean', 'sum'}, default 'mean'
        What becomes of the losses of the samples.

    References
    ----------
    A. Graves et al., Connectionist temporal classification: labelling unsegmented sequence data with recurrent neural
    networks, ICML 2006. ``torch.nn.functional.ctc_loss``.

    Examples
    --------
    >>> import numpy as np
    >>> import lossrs.functional as F
    >>> log_probs = np.log([[[0.6, 0.4]], [[0.7, 0.3]]])
    >>> loss = F.ctc_loss(log_probs, [[1]], [2], [1])
    >>> round(float(np.exp(-loss)), 4)  # 0.4 * 0.3 + 0.4 * 0.7 + 0.6 * 0.3
    0.58
    """

    blank: int = 0
    zero_infinity: bool = False

    arguments: ClassVar[str] = """\
log_probs : array_like
    Log-probabilities of shape (T, N, C), or (T, C) of a single sample: float64, float32, float16 or bfloat16.
targets : array_like
    Labels in [0, C) of any integer type, none of them the blank: of shape (N, S), each sample's followed by anything up
    to S; or those of all samples one after the other, of shape (sum(target_lengths),).
input_lengths : array_like
    The number of steps of each sample, at most T: integers of shape (N,); () or (1,) of a single sample.
target_lengths : array_like
    The number of labels of each sample.
"""
