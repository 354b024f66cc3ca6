# Written by tools/write_functional_stub.py.
from typing import Any, Literal, Protocol, overload

from numpy.typing import ArrayLike, NDArray

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "huber_loss",
    "l1_loss",
    "mse_loss",
    "nll_loss",
    "smooth_l1_loss",
]

_Array = NDArray[Any]

class _BCELoss(Protocol):
    @overload
    def __call__(
        self,
        input: ArrayLike,
        target: ArrayLike,
        weight: ArrayLike | None = None,
        *,
        reduction: Literal["mean", "sum"] = "mean",
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> float: ...
    @overload
    def __call__(
        self,
        input: ArrayLike,
        target: ArrayLike,
        weight: ArrayLike | None = None,
        *,
        reduction: Literal["none"],
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> _Array: ...
    @overload
    def value_and_grad(
        self,
        input: ArrayLike,
        target: ArrayLike,
        weight: ArrayLike | None = None,
        *,
        reduction: Literal["mean", "sum"] = "mean",
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> tuple[float, _Array]: ...
    @overload
    def value_and_grad(
        self,
        input: ArrayLike,
        target: ArrayLike,
        weight: ArrayLike | None = None,
        *,
        reduction: Literal["none"],
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> tuple[_Array, _Array]: ...
    def grad_and_hess(
        self,
        input: ArrayLike,
        target: ArrayLike,
        weight: ArrayLike | None = None,
        *,
        reduction: Literal["none", "mean", "sum"] = "mean",
        sample_weight: ArrayLike | None = None,
        out: tuple[_Array, _Array] | None = None,
    ) -> tuple[_Array, _Array]: ...
    def backward(
        self,
        grad_output: ArrayLike,
        input: ArrayLike,
        target: ArrayLike,
        weight: ArrayLike | None = None,
        *,
        reduction: Literal["none", "mean", "sum"] = "mean",
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> _Array: ...

binary_cross_entropy: _BCELoss

class _BCEWithLogitsLoss(Protocol):
    @overload
    def __call__(
        self,
        input: ArrayLike,
        target: ArrayLike,
        weight: ArrayLike | None = None,
        *,
        pos_weight: ArrayLike | None = None,
        reduction: Literal["mean", "sum"] = "mean",
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> float: ...
    @overload
    def __call__(
        self,
        input: ArrayLike,
        target: ArrayLike,
        weight: ArrayLike | None = None,
        *,
        pos_weight: ArrayLike | None = None,
        reduction: Literal["none"],
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> _Array: ...
    @overload
    def value_and_grad(
        self,
        input: ArrayLike,
        target: ArrayLike,
        weight: ArrayLike | None = None,
        *,
        pos_weight: ArrayLike | None = None,
        reduction: Literal["mean", "sum"] = "mean",
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> tuple[float, _Array]: ...
    @overload
    def value_and_grad(
        self,
        input: ArrayLike,
        target: ArrayLike,
        weight: ArrayLike | None = None,
        *,
        pos_weight: ArrayLike | None = None,
        reduction: Literal["none"],
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> tuple[_Array, _Array]: ...
    def grad_and_hess(
        self,
        input: ArrayLike,
        target: ArrayLike,
        weight: ArrayLike | None = None,
        *,
        pos_weight: ArrayLike | None = None,
        reduction: Literal["none", "mean", "sum"] = "mean",
        sample_weight: ArrayLike | None = None,
        out: tuple[_Array, _Array] | None = None,
    ) -> tuple[_Array, _Array]: ...
    def backward(
        self,
        grad_output: ArrayLike,
        input: ArrayLike,
        target: ArrayLike,
        weight: ArrayLike | None = None,
        *,
        pos_weight: ArrayLike | None = None,
        reduction: Literal["none", "mean", "sum"] = "mean",
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> _Array: ...

binary_cross_entropy_with_logits: _BCEWithLogitsLoss

class _CrossEntropyLoss(Protocol):
    @overload
    def __call__(
        self,
        input: ArrayLike,
        target: ArrayLike,
        weight: ArrayLike | None = None,
        *,
        ignore_index: int = -100,
        label_smoothing: float = 0.0,
        reduction: Literal["mean", "sum"] = "mean",
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> float: ...
    @overload
    def __call__(
        self,
        input: ArrayLike,
        target: ArrayLike,
        weight: ArrayLike | None = None,
        *,
        ignore_index: int = -100,
        label_smoothing: float = 0.0,
        reduction: Literal["none"],
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> _Array: ...
    @overload
    def value_and_grad(
        self,
        input: ArrayLike,
        target: ArrayLike,
        weight: ArrayLike | None = None,
        *,
        ignore_index: int = -100,
        label_smoothing: float = 0.0,
        reduction: Literal["mean", "sum"] = "mean",
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> tuple[float, _Array]: ...
    @overload
    def value_and_grad(
        self,
        input: ArrayLike,
        target: ArrayLike,
        weight: ArrayLike | None = None,
        *,
        ignore_index: int = -100,
        label_smoothing: float = 0.0,
        reduction: Literal["none"],
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> tuple[_Array, _Array]: ...
    def grad_and_hess(
        self,
        input: ArrayLike,
        target: ArrayLike,
        weight: ArrayLike | None = None,
        *,
        ignore_index: int = -100,
        label_smoothing: float = 0.0,
        reduction: Literal["none", "mean", "sum"] = "mean",
        sample_weight: ArrayLike | None = None,
        out: tuple[_Array, _Array] | None = None,
    ) -> tuple[_Array, _Array]: ...
    def backward(
        self,
        grad_output: ArrayLike,
        input: ArrayLike,
        target: ArrayLike,
        weight: ArrayLike | None = None,
        *,
        ignore_index: int = -100,
        label_smoothing: float = 0.0,
        reduction: Literal["none", "mean", "sum"] = "mean",
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> _Array: ...

cross_entropy: _CrossEntropyLoss

class _HuberLoss(Protocol):
    @overload
    def __call__(
        self,
        input: ArrayLike,
        target: ArrayLike,
        weight: ArrayLike | None = None,
        *,
        delta: float = 1.0,
        reduction: Literal["mean", "sum"] = "mean",
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> float: ...
    @overload
    def __call__(
        self,
        input: ArrayLike,
        target: ArrayLike,
        weight: ArrayLike | None = None,
        *,
        delta: float = 1.0,
        reduction: Literal["none"],
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> _Array: ...
    @overload
    def value_and_grad(
        self,
        input: ArrayLike,
        target: ArrayLike,
        weight: ArrayLike | None = None,
        *,
        delta: float = 1.0,
        reduction: Literal["mean", "sum"] = "mean",
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> tuple[float, _Array]: ...
    @overload
    def value_and_grad(
        self,
        input: ArrayLike,
        target: ArrayLike,
        weight: ArrayLike | None = None,
        *,
        delta: float = 1.0,
        reduction: Literal["none"],
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> tuple[_Array, _Array]: ...
    def grad_and_hess(
        self,
        input: ArrayLike,
        target: ArrayLike,
        weight: ArrayLike | None = None,
        *,
        delta: float = 1.0,
        reduction: Literal["none", "mean", "sum"] = "mean",
        sample_weight: ArrayLike | None = None,
        out: tuple[_Array, _Array] | None = None,
    ) -> tuple[_Array, _Array]: ...
    def backward(
        self,
        grad_output: ArrayLike,
        input: ArrayLike,
        target: ArrayLike,
        weight: ArrayLike | None = None,
        *,
        delta: float = 1.0,
        reduction: Literal["none", "mean", "sum"] = "mean",
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> _Array: ...

huber_loss: _HuberLoss

class _L1Loss(Protocol):
    @overload
    def __call__(
        self,
        input: ArrayLike,
        target: ArrayLike,
        weight: ArrayLike | None = None,
        *,
        reduction: Literal["mean", "sum"] = "mean",
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> float: ...
    @overload
    def __call__(
        self,
        input: ArrayLike,
        target: ArrayLike,
        weight: ArrayLike | None = None,
        *,
        reduction: Literal["none"],
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> _Array: ...
    @overload
    def value_and_grad(
        self,
        input: ArrayLike,
        target: ArrayLike,
        weight: ArrayLike | None = None,
        *,
        reduction: Literal["mean", "sum"] = "mean",
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> tuple[float, _Array]: ...
    @overload
    def value_and_grad(
        self,
        input: ArrayLike,
        target: ArrayLike,
        weight: ArrayLike | None = None,
        *,
        reduction: Literal["none"],
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> tuple[_Array, _Array]: ...
    def grad_and_hess(
        self,
        input: ArrayLike,
        target: ArrayLike,
        weight: ArrayLike | None = None,
        *,
        reduction: Literal["none", "mean", "sum"] = "mean",
        sample_weight: ArrayLike | None = None,
        out: tuple[_Array, _Array] | None = None,
    ) -> tuple[_Array, _Array]: ...
    def backward(
        self,
        grad_output: ArrayLike,
        input: ArrayLike,
        target: ArrayLike,
        weight: ArrayLike | None = None,
        *,
        reduction: Literal["none", "mean", "sum"] = "mean",
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> _Array: ...

l1_loss: _L1Loss

class _MSELoss(Protocol):
    @overload
    def __call__(
        self,
        input: ArrayLike,
        target: ArrayLike,
        weight: ArrayLike | None = None,
        *,
        reduction: Literal["mean", "sum"] = "mean",
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> float: ...
    @overload
    def __call__(
        self,
        input: ArrayLike,
        target: ArrayLike,
        weight: ArrayLike | None = None,
        *,
        reduction: Literal["none"],
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> _Array: ...
    @overload
    def value_and_grad(
        self,
        input: ArrayLike,
        target: ArrayLike,
        weight: ArrayLike | None = None,
        *,
        reduction: Literal["mean", "sum"] = "mean",
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> tuple[float, _Array]: ...
    @overload
    def value_and_grad(
        self,
        input: ArrayLike,
        target: ArrayLike,
        weight: ArrayLike | None = None,
        *,
        reduction: Literal["none"],
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> tuple[_Array, _Array]: ...
    def grad_and_hess(
        self,
        input: ArrayLike,
        target: ArrayLike,
        weight: ArrayLike | None = None,
        *,
        reduction: Literal["none", "mean", "sum"] = "mean",
        sample_weight: ArrayLike | None = None,
        out: tuple[_Array, _Array] | None = None,
    ) -> tuple[_Array, _Array]: ...
    def backward(
        self,
        grad_output: ArrayLike,
        input: ArrayLike,
        target: ArrayLike,
        weight: ArrayLike | None = None,
        *,
        reduction: Literal["none", "mean", "sum"] = "mean",
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> _Array: ...

mse_loss: _MSELoss

class _NLLLoss(Protocol):
    @overload
    def __call__(
        self,
        input: ArrayLike,
        target: ArrayLike,
        weight: ArrayLike | None = None,
        *,
        ignore_index: int = -100,
        reduction: Literal["mean", "sum"] = "mean",
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> float: ...
    @overload
    def __call__(
        self,
        input: ArrayLike,
        target: ArrayLike,
        weight: ArrayLike | None = None,
        *,
        ignore_index: int = -100,
        reduction: Literal["none"],
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> _Array: ...
    @overload
    def value_and_grad(
        self,
        input: ArrayLike,
        target: ArrayLike,
        weight: ArrayLike | None = None,
        *,
        ignore_index: int = -100,
        reduction: Literal["mean", "sum"] = "mean",
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> tuple[float, _Array]: ...
    @overload
    def value_and_grad(
        self,
        input: ArrayLike,
        target: ArrayLike,
        weight: ArrayLike | None = None,
        *,
        ignore_index: int = -100,
        reduction: Literal["none"],
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> tuple[_Array, _Array]: ...
    def grad_and_hess(
        self,
        input: ArrayLike,
        target: ArrayLike,
        weight: ArrayLike | None = None,
        *,
        ignore_index: int = -100,
        reduction: Literal["none", "mean", "sum"] = "mean",
        sample_weight: ArrayLike | None = None,
        out: tuple[_Array, _Array] | None = None,
    ) -> tuple[_Array, _Array]: ...
    def backward(
        self,
        grad_output: ArrayLike,
        input: ArrayLike,
        target: ArrayLike,
        weight: ArrayLike | None = None,
        *,
        ignore_index: int = -100,
        reduction: Literal["none", "mean", "sum"] = "mean",
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> _Array: ...

nll_loss: _NLLLoss

class _SmoothL1Loss(Protocol):
    @overload
    def __call__(
        self,
        input: ArrayLike,
        target: ArrayLike,
        *,
        beta: float = 1.0,
        reduction: Literal["mean", "sum"] = "mean",
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> float: ...
    @overload
    def __call__(
        self,
        input: ArrayLike,
        target: ArrayLike,
        *,
        beta: float = 1.0,
        reduction: Literal["none"],
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> _Array: ...
    @overload
    def value_and_grad(
        self,
        input: ArrayLike,
        target: ArrayLike,
        *,
        beta: float = 1.0,
        reduction: Literal["mean", "sum"] = "mean",
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> tuple[float, _Array]: ...
    @overload
    def value_and_grad(
        self,
        input: ArrayLike,
        target: ArrayLike,
        *,
        beta: float = 1.0,
        reduction: Literal["none"],
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> tuple[_Array, _Array]: ...
    def grad_and_hess(
        self,
        input: ArrayLike,
        target: ArrayLike,
        *,
        beta: float = 1.0,
        reduction: Literal["none", "mean", "sum"] = "mean",
        sample_weight: ArrayLike | None = None,
        out: tuple[_Array, _Array] | None = None,
    ) -> tuple[_Array, _Array]: ...
    def backward(
        self,
        grad_output: ArrayLike,
        input: ArrayLike,
        target: ArrayLike,
        *,
        beta: float = 1.0,
        reduction: Literal["none", "mean", "sum"] = "mean",
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> _Array: ...

smooth_l1_loss: _SmoothL1Loss
