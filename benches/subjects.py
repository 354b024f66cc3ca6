"""What is compared: every loss, on arrays that are drawn for it."""

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


ml_dtypes = optional("ml_dtypes")


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


@dataclass(frozen=True)
class Subject:
    """A loss to compare."""

    loss: str
    #: The kinds of its operands.
    draws: tuple[Draw, ...]
    options: Mapping[str, Any] = field(default_factory=dict)

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
        Subject("sigmoid_focal_loss", (LOGITS, binary)),
        Subject("cross_entropy", (LOGITS, labels)),
        Subject("nll_loss", (uniform(-5.0, 0.0), labels)),
        Subject("multi_margin_loss", (NUMBERS, labels)),
        Subject("multilabel_soft_margin_loss", (LOGITS, binary)),
        Subject("softmax_focal_loss", (LOGITS, labels)),
        Subject("cosine_embedding_loss", (NUMBERS, NUMBERS, by_row(signs))),
        Subject("contrastive_loss", (normal(0.1), normal(0.1), by_row(binary))),
        Subject("triplet_margin_loss", (NUMBERS, NUMBERS, NUMBERS)),
        Subject("dice_loss", (LOGITS, binary)),
        Subject("ctc_loss", (log_softmax, label_sequences, lengths(1), lengths(5))),
        Subject("linear_cross_entropy", (features, linear_weight, linear_labels)),
    )
}
