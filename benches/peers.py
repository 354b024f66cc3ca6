"""The same losses in other libraries: each peer makes a call of its own from the arrays that lossrs gets.

torch's counterpart is its function of the same name, or is written here in torch's operations, as its users write it;
JAX has formulas alone, as its users write them. What is not installed is left out.
"""

import warnings
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import version
from typing import Any

import numpy as np
from subjects import THREADS, Array, Call, Subject, optional

torch, jax, sklearn_loss = (optional(name) for name in ("torch", "jax", "sklearn._loss.loss"))
if torch:
    torch.set_num_threads(THREADS)
    # The Kullback-Leibler divergence's mean is what is compared.
    warnings.filterwarnings("ignore", message="reduction: 'mean' divides")


def torch_sigmoid_focal(x: Any, y: Any) -> Any:
    """Return the focal loss as torchvision computes it."""
    p = torch.sigmoid(x)
    entropy = torch.nn.functional.binary_cross_entropy_with_logits(x, y, reduction="none")
    away = 1 - (p * y + (1 - p) * (1 - y))
    return ((0.25 * y + 0.75 * (1 - y)) * entropy * away**2).mean()


def torch_softmax_focal(x: Any, y: Any) -> Any:
    """Return the focal loss of labels as torch's users write it."""
    logarithm = torch.log_softmax(x, 1).gather(1, y[:, None])[:, 0]
    return (-((1 - logarithm.exp()) ** 2) * logarithm).mean()


def torch_dice(x: Any, y: Any) -> Any:
    """Return the Dice loss of masks as torch's users write it."""
    p = torch.sigmoid(x).flatten(1)
    y = y.flatten(1)
    return (1 - (2 * (p * y).sum(1) + 1e-5) / (p.sum(1) + y.sum(1) + 1e-5)).mean()


def torch_contrastive(x: Any, y: Any, similar: Any) -> Any:
    """Return the contrastive loss of pairs as torch's users write it."""
    distance = torch.nn.functional.pairwise_distance(x, y)
    return (similar * distance**2 + (1 - similar) * torch.clamp(1 - distance, min=0) ** 2).mean()


TORCH_LOSSES: Mapping[str, Callable[..., Any]] = {
    "sigmoid_focal_loss": torch_sigmoid_focal,
    "softmax_focal_loss": torch_softmax_focal,
    "dice_loss": torch_dice,
    "contrastive_loss": torch_contrastive,
}


def torch_function(subject: Subject) -> Callable[..., Any] | None:
    """Return torch's loss of tensors."""
    if not torch:
        return None
    if subject.loss in TORCH_LOSSES:
        return TORCH_LOSSES[subject.loss]
    function = getattr(torch.nn.functional, subject.loss, None)
    return function and partial(function, **subject.options)


def torch_call(subject: Subject, operands: tuple[Array, ...], *, gradient: bool, compiled: bool = False) -> Call | None:
    """Return the call to torch, with fresh gradients each time."""
    function = torch_function(subject)
    if function is None or (compiled and subject.loss in NOT_COMPILED):
        return None
    if compiled:
        torch.compiler.reset()
        function = torch.compile(function, dynamic=False)
    tensors = [
        torch.from_numpy(array.view(np.uint16)).view(torch.bfloat16)
        if array.dtype.name == "bfloat16"
        else torch.from_numpy(array)
        for array in operands
    ]
    leaves = [tensors[i].requires_grad_(gradient) for i in subject.inputs]

    def backward() -> Any:
        for leaf in leaves:
            leaf.grad = None
        value = function(*tensors)
        value.backward()
        return value.item()

    return backward if gradient else lambda: function(*tensors).item()


#: What torch.compile hands on to the same eager kernels: a loop of its own, and matrix products of seconds.
NOT_COMPILED = ("ctc_loss", "linear_cross_entropy")


def jax_losses() -> Mapping[str, Callable[..., Any]]:
    """Return JAX's losses: means over the samples."""
    jnp, log_softmax, softplus = jax.numpy, jax.nn.log_softmax, jax.nn.softplus

    def at_labels(x: Any, y: Any) -> Any:
        return jnp.take_along_axis(x, y[:, None], axis=1)[:, 0]

    def binary_cross_entropy_with_logits(x: Any, y: Any) -> Any:
        return jnp.maximum(x, 0) - x * y + jnp.log1p(jnp.exp(-jnp.abs(x)))

    def huber(x: Any, y: Any) -> Any:
        d = jnp.abs(x - y)
        return jnp.where(d <= 1, 0.5 * d**2, d - 0.5)

    def sigmoid_focal(x: Any, y: Any) -> Any:
        p = jax.nn.sigmoid(x)
        away = p + y - 2 * p * y
        return (0.75 - 0.5 * y) * away**2 * binary_cross_entropy_with_logits(x, y)

    def softmax_focal(x: Any, y: Any) -> Any:
        logarithm = at_labels(log_softmax(x), y)
        return -((1 - jnp.exp(logarithm)) ** 2) * logarithm

    def multi_margin(x: Any, y: Any) -> Any:
        margins = jnp.maximum(0, 1 - at_labels(x, y)[:, None] + x)
        return (margins.sum(1) - 1) / x.shape[1]

    def distance(x: Any, y: Any) -> Any:
        return jnp.sqrt(((x - y + 1e-6) ** 2).sum(-1))

    def contrastive(x: Any, y: Any, similar: Any) -> Any:
        d = distance(x, y)
        return similar * d**2 + (1 - similar) * jnp.maximum(0, 1 - d) ** 2

    def cosine_embedding(x: Any, y: Any, sign: Any) -> Any:
        cosine = (x * y).sum(-1) / jnp.sqrt(((x * x).sum(-1) + 1e-7) * ((y * y).sum(-1) + 1e-7))
        return jnp.where(sign > 0, 1 - cosine, jnp.maximum(0, cosine))

    def dice(x: Any, y: Any) -> Any:
        p, y = jax.nn.sigmoid(x).reshape(len(x), -1), y.reshape(len(y), -1)
        return 1 - (2 * (p * y).sum(1) + 1e-5) / (p.sum(1) + y.sum(1) + 1e-5)

    formulas: Mapping[str, Callable[..., Any]] = {
        "mse_loss": lambda x, y: (x - y) ** 2,
        "l1_loss": lambda x, y: jnp.abs(x - y),
        "huber_loss": huber,
        "smooth_l1_loss": huber,
        "binary_cross_entropy": lambda x, y: -(y * jnp.log(x) + (1 - y) * jnp.log1p(-x)),
        "binary_cross_entropy_with_logits": binary_cross_entropy_with_logits,
        "poisson_nll_loss": lambda x, y: jnp.exp(x) - y * x,
        "gaussian_nll_loss": lambda x, y, v: 0.5 * (jnp.log(jnp.maximum(v, 1e-6)) + (x - y) ** 2 / v),
        "kl_div": lambda x, y: y * (jnp.log(y) - x),
        "soft_margin_loss": lambda x, y: softplus(-y * x),
        "hinge_embedding_loss": lambda x, y: jnp.where(y > 0, x, jnp.maximum(0, 1 - x)),
        "margin_ranking_loss": lambda a, b, y: jnp.maximum(0, -y * (a - b)),
        "sigmoid_focal_loss": sigmoid_focal,
        "cross_entropy": lambda x, y: -at_labels(log_softmax(x), y),
        "nll_loss": lambda x, y: -at_labels(x, y),
        "multi_margin_loss": multi_margin,
        "multilabel_soft_margin_loss": lambda x, y: (y * softplus(-x) + (1 - y) * softplus(x)).mean(1),
        "softmax_focal_loss": softmax_focal,
        "cosine_embedding_loss": cosine_embedding,
        "contrastive_loss": contrastive,
        "triplet_margin_loss": lambda a, p, n: jnp.maximum(0, 1 + distance(a, p) - distance(a, n)),
        "dice_loss": dice,
    }
    return formulas


def jax_call(subject: Subject, operands: tuple[Array, ...], *, gradient: bool) -> Call | None:
    """Return the call to a function that `jax.jit` has compiled."""
    formula = jax_losses().get(subject.loss) if jax else None
    if formula is None or operands[0].dtype == np.float64:
        return None

    def mean(*arrays: Any) -> Any:
        return formula(*arrays).mean()

    arrays = [jax.numpy.asarray(array) for array in operands]
    if not gradient:
        function = jax.jit(mean)
        return lambda: float(function(*arrays))
    both = jax.jit(jax.value_and_grad(mean, argnums=subject.inputs))

    def call() -> Any:
        value, gradients = both(*arrays)
        jax.block_until_ready(gradients)
        return float(value)

    return call


#: scikit-learn's counterparts for so many classes, and how many times theirs ours are.
SKLEARN_LOSSES: Mapping[str, Callable[[int], tuple[Any, float]]] = {
    "mse_loss": lambda _: (sklearn_loss.HalfSquaredError(), 2.0),
    "l1_loss": lambda _: (sklearn_loss.AbsoluteError(), 1.0),
    "huber_loss": lambda _: (sklearn_loss.HuberLoss(delta=1.0), 1.0),
    "binary_cross_entropy_with_logits": lambda _: (sklearn_loss.HalfBinomialLoss(), 1.0),
    "poisson_nll_loss": lambda _: (sklearn_loss.HalfPoissonLoss(), 1.0),
    "cross_entropy": lambda classes: (sklearn_loss.HalfMultinomialLoss(n_classes=classes), 1.0),
}


def sklearn_call(subject: Subject, operands: tuple[Array, ...], *, gradient: bool) -> Call | None:
    """Return what does nearly the same in scikit-learn, into buffers; it writes the losses of the samples as well."""
    inputs, target = operands[:2]
    if not sklearn_loss or inputs.dtype != np.float32 or subject.loss not in SKLEARN_LOSSES:
        return None
    loss, factor = SKLEARN_LOSSES[subject.loss](inputs.shape[-1])
    arrays = {"y_true": target.astype(np.float32), "raw_prediction": inputs, "n_threads": THREADS}
    losses, gradients = np.empty(target.shape, np.float32), np.empty_like(inputs)

    def call() -> Any:
        if gradient:
            loss.loss_gradient(**arrays, loss_out=losses, gradient_out=gradients)
        else:
            loss.loss(**arrays, loss_out=losses)
        return factor * losses.mean(dtype=np.float64)

    return call


def numpy_mse_loss(x: Array, y: Array, out: Array | None) -> Any:
    """Return the mean squared error."""
    d = x - y
    if out is not None:
        np.multiply(d, 2 / d.size, out=out)
    return np.mean(d * d)


def numpy_huber_loss(x: Array, y: Array, out: Array | None) -> Any:
    """Return the mean of Huber's loss."""
    d = x - y
    slope = np.clip(d, -1, 1)
    if out is not None:
        np.divide(slope, d.size, out=out)
    return np.mean(slope * (d - 0.5 * slope))


def numpy_binary_cross_entropy_with_logits(x: Array, y: Array, out: Array | None) -> Any:
    """Return the mean binary cross-entropy."""
    if out is not None:
        np.divide(1 / (1 + np.exp(-x)) - y, x.size, out=out)
    return np.mean(np.logaddexp(0, x) - x * y)


def numpy_cross_entropy(x: Array, y: Array, out: Array | None) -> Any:
    """Return the mean cross-entropy of labels."""
    rows, shifted = np.arange(len(x)), x - x.max(axis=1, keepdims=True)
    powers = np.exp(shifted)
    sums = powers.sum(axis=1)
    if out is not None:
        np.divide(powers, len(x) * sums[:, np.newaxis], out=out)
        out[rows, y] -= 1 / len(x)
    return np.mean(np.log(sums) - shifted[rows, y])


NUMPY_LOSSES: Mapping[str, Callable[..., Any]] = {
    "mse_loss": numpy_mse_loss,
    "huber_loss": numpy_huber_loss,
    "binary_cross_entropy_with_logits": numpy_binary_cross_entropy_with_logits,
    "cross_entropy": numpy_cross_entropy,
}


def numpy_call(subject: Subject, operands: tuple[Array, ...], *, gradient: bool) -> Call | None:
    """Return what one would write in NumPy."""
    formula = NUMPY_LOSSES.get(subject.loss)
    if formula is None or operands[0].dtype != np.float32:
        return None
    out = np.empty_like(operands[0]) if gradient else None
    return lambda: formula(*operands[:2], out)


#: What makes a peer's call for a loss and operands, if it has the loss.
PEERS: Mapping[str, Callable[..., Call | None]] = {
    "torch": torch_call,
    "torch.compile": partial(torch_call, compiled=True),
    "jax.jit": jax_call,
    "scikit-learn": sklearn_call,
    "numpy": numpy_call,
}


def versions() -> dict[str, str]:
    """Return the versions of what is installed."""
    installed = {"numpy": np, "torch": torch, "jax": jax, "scikit-learn": sklearn_loss}
    return {name: version(name) for name, module in installed.items() if module}
