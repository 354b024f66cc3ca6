"""What is compared: every loss on arrays that are drawn for it, and the same loss of the peers that are installed.

torch's counterpart is its function of the same name, or is written here in torch's operations, as its users write it.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import lossrs
import numpy as np
from lossrs import functional

Array = np.ndarray[Any, Any]
Call = Callable[[], Any]
Draw = Callable[[np.random.Generator, tuple[int, ...]], Array]
THREADS = lossrs.get_num_threads()


def optional(name: str) -> Any:
    """Return a module, or None if it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


torch, sklearn_loss, ml_dtypes = (optional(name) for name in ("torch", "sklearn._loss.loss", "ml_dtypes"))
if torch:
    torch.set_num_threads(THREADS)


def normal(scale: float) -> Draw:
    """Return a draw of numbers of either sign."""
    return lambda rng, shape: scale * rng.standard_normal(shape, np.float32)


def uniform(low: float, high: float) -> Draw:
    """Return a draw of numbers between two."""
    return lambda rng, shape: (low + (high - low) * rng.random(shape, np.float32)).astype(np.float32)


def labels(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Draw a class for each sample; classes are along axis 1."""
    return rng.integers(0, shape[1], (shape[0], *shape[2:]))


def binary(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Draw zeros and ones."""
    return rng.integers(0, 2, shape).astype(np.float32)


def signs(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Draw signs."""
    return 2 * binary(rng, shape) - 1


def by_row(draw: Draw) -> Draw:
    """Return a draw of one number for each row."""
    return lambda rng, shape: draw(rng, shape[:1])


def log_softmax(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Draw logarithms of probabilities, over the last axis."""
    x = rng.standard_normal(shape, np.float32)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def label_sequences(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Draw a sequence of labels for each sample of (T, N, C), a fifth as long; 0 is the blank."""
    return rng.integers(1, shape[2], (shape[1], shape[0] // 5))


def lengths(of: int) -> Draw:
    """Return a draw of full lengths: of inputs as long as (T, N, C) has them, or a part of it."""
    return lambda rng, shape: np.full(shape[1], shape[0] // of)


def features(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Draw a linear layer's input, of (N, in, C)."""
    return rng.standard_normal(shape[:2], np.float32)


def linear_weight(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Draw the layer's weight."""
    return rng.standard_normal((shape[2], shape[1]), np.float32) / np.float32(shape[1] ** 0.5)


def linear_labels(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Draw its labels."""
    return rng.integers(0, shape[2], shape[0])


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


@dataclass(frozen=True)
class Subject:
    """A loss to compare."""

    loss: str
    #: The kinds of its operands.
    draws: tuple[Draw, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    #: The loss of tensors, where torch has none of this name.
    torch: Callable[..., Any] | None = None

    @property
    def inputs(self) -> tuple[int, ...]:
        """Which of the operands have gradients."""
        kernel = lossrs.losses[self.loss](**self.options)._kernel
        asked = (name for name in kernel.inputs[: kernel.asked] if name in kernel.operands)
        return tuple(kernel.operands.index(name) for name in asked)

    def operands(self, shape: tuple[int, ...], dtype: str) -> tuple[Array, ...]:
        """Draw the operands; their floats are of that type."""
        rng = np.random.default_rng(0)
        type_ = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
        drawn = (draw(rng, shape) for draw in self.draws)
        return tuple(array.astype(type_) if array.dtype.kind == "f" else array for array in drawn)

    def lossrs_call(self, operands: tuple[Array, ...], *, gradient: bool, fresh: bool) -> Call:
        """Return the call to lossrs."""
        function = getattr(functional, self.loss)
        if not gradient:
            return lambda: function(*operands, **self.options)
        outs = tuple(np.empty_like(operands[i]) for i in self.inputs)
        out = None if fresh else outs[0] if len(outs) == 1 else outs
        verb = function.value_and_grad
        return lambda: verb(*operands, **self.options, out=out)[0]

    def torch_call(self, operands: tuple[Array, ...], *, gradient: bool) -> Call | None:
        """Return what does the same in eager torch, with fresh gradients each time."""
        function = self.torch or getattr(torch.nn.functional, self.loss, None) if torch else None
        if function is None:
            return None

        def tensor(array: Array) -> Any:
            is_bfloat16 = array.dtype.name == "bfloat16"
            return (
                torch.from_numpy(array.view(np.uint16)).view(torch.bfloat16) if is_bfloat16 else torch.from_numpy(array)
            )

        tensors = [tensor(array) for array in operands]
        leaves = [tensors[i].requires_grad_(gradient) for i in self.inputs]
        options = {} if self.torch else dict(self.options)

        def backward() -> Any:
            for leaf in leaves:
                leaf.grad = None
            value = function(*tensors, **options)
            value.backward()
            return value.item()

        return backward if gradient else lambda: function(*tensors, **options).item()

    def sklearn_call(self, operands: tuple[Array, ...], *, gradient: bool) -> Call | None:
        """Return what does nearly the same in scikit-learn, which writes the losses of the samples as well."""
        inputs, target = operands[:2]
        if not sklearn_loss or inputs.dtype != np.float32 or self.loss not in SKLEARN_LOSSES:
            return None
        loss, factor = SKLEARN_LOSSES[self.loss](inputs.shape[-1])
        arrays = {"y_true": target.astype(np.float32), "raw_prediction": inputs, "n_threads": THREADS}
        losses, gradients = np.empty(target.shape, np.float32), np.empty_like(inputs)

        def call() -> Any:
            if gradient:
                loss.loss_gradient(**arrays, loss_out=losses, gradient_out=gradients)
            else:
                loss.loss(**arrays, loss_out=losses)
            return factor * losses.mean(dtype=np.float64)

        return call

    def numpy_call(self, operands: tuple[Array, ...], *, gradient: bool) -> Call | None:
        """Return what one would write in NumPy."""
        formula = NUMPY_LOSSES.get(self.loss)
        if formula is None or operands[0].dtype != np.float32:
            return None
        out = np.empty_like(operands[0]) if gradient else None
        return lambda: formula(*operands[:2], out)


#: scikit-learn's counterparts for so many classes, and how many times theirs ours are.
SKLEARN_LOSSES: Mapping[str, Callable[[int], tuple[Any, float]]] = {
    "mse_loss": lambda _: (sklearn_loss.HalfSquaredError(), 2.0),
    "l1_loss": lambda _: (sklearn_loss.AbsoluteError(), 1.0),
    "huber_loss": lambda _: (sklearn_loss.HuberLoss(delta=1.0), 1.0),
    "binary_cross_entropy_with_logits": lambda _: (sklearn_loss.HalfBinomialLoss(), 1.0),
    "poisson_nll_loss": lambda _: (sklearn_loss.HalfPoissonLoss(), 1.0),
    "cross_entropy": lambda classes: (sklearn_loss.HalfMultinomialLoss(n_classes=classes), 1.0),
}


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

NUMBERS, LOGITS = normal(1.0), normal(3.0)
#: Shapes at which a loss is compared, of those that are not of elements alone.
ROWS, EMBEDDINGS = ((16_384, 1000), (100_000, 10)), ((16_384, 128), (16_384, 512))
SHAPES: Mapping[str, tuple[tuple[int, ...], ...]] = {
    "nll_loss": ROWS,
    "multi_margin_loss": ROWS,
    "multilabel_soft_margin_loss": ROWS,
    "softmax_focal_loss": ROWS,
    "cosine_embedding_loss": EMBEDDINGS,
    "contrastive_loss": EMBEDDINGS,
    "triplet_margin_loss": EMBEDDINGS,
    "dice_loss": ((16, 512, 512),),
    "ctc_loss": ((200, 32, 64),),
    "linear_cross_entropy": ((8192, 512, 32_768),),
}
SUBJECTS: Mapping[str, Subject] = {
    subject.loss: subject
    for subject in (
        Subject("mse_loss", (LOGITS, NUMBERS)),
        Subject("l1_loss", (LOGITS, NUMBERS)),
        Subject("huber_loss", (LOGITS, NUMBERS)),
        Subject("smooth_l1_loss", (LOGITS, NUMBERS)),
        Subject("binary_cross_entropy", (uniform(0.01, 0.99), binary)),
        Subject("binary_cross_entropy_with_logits", (LOGITS, binary)),
        Subject("poisson_nll_loss", (NUMBERS, uniform(0.0, 5.0))),
        Subject("gaussian_nll_loss", (NUMBERS, NUMBERS, uniform(0.1, 2.0))),
        Subject("kl_div", (uniform(-5.0, -0.1), uniform(0.01, 1.0))),
        Subject("soft_margin_loss", (LOGITS, signs)),
        Subject("hinge_embedding_loss", (uniform(0.0, 2.0), signs)),
        Subject("margin_ranking_loss", (NUMBERS, NUMBERS, signs)),
        Subject("sigmoid_focal_loss", (LOGITS, binary), torch=torch_sigmoid_focal),
        Subject("cross_entropy", (LOGITS, labels)),
        Subject("nll_loss", (uniform(-5.0, 0.0), labels)),
        Subject("multi_margin_loss", (NUMBERS, labels)),
        Subject("multilabel_soft_margin_loss", (LOGITS, binary)),
        Subject("softmax_focal_loss", (LOGITS, labels), torch=torch_softmax_focal),
        Subject("cosine_embedding_loss", (NUMBERS, NUMBERS, by_row(signs))),
        Subject("contrastive_loss", (normal(0.1), normal(0.1), by_row(binary)), torch=torch_contrastive),
        Subject("triplet_margin_loss", (NUMBERS, NUMBERS, NUMBERS)),
        Subject("dice_loss", (LOGITS, binary), torch=torch_dice),
        Subject("ctc_loss", (log_softmax, label_sequences, lengths(1), lengths(5))),
        Subject("linear_cross_entropy", (features, linear_weight, linear_labels)),
    )
}
