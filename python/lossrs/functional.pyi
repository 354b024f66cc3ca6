# Written by tools/write_functional_stub.py.
import collections.abc
from typing import Any, Literal, Protocol, overload

from numpy.typing import ArrayLike, NDArray

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "contrastive_distance_loss",
    "contrastive_loss",
    "cosine_embedding_loss",
    "cross_entropy",
    "ctc_loss",
    "dice_loss",
    "focal_tversky_loss",
    "gaussian_nll_loss",
    "hinge_embedding_loss",
    "hinge_loss",
    "huber_loss",
    "jaccard_loss",
    "kl_div",
    "l1_loss",
    "linear_cross_entropy",
    "margin_ranking_loss",
    "mse_loss",
    "multi_margin_loss",
    "multilabel_margin_loss",
    "multilabel_soft_margin_loss",
    "nll_loss",
    "pinball_loss",
    "poisson_nll_loss",
    "sigmoid_focal_loss",
    "smooth_l1_loss",
    "soft_margin_loss",
    "softmax_focal_loss",
    "triplet_margin_loss",
    "triplet_margin_with_distance_loss",
    "tversky_loss",
    "tweedie_deviance_loss",
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

class _ContrastiveDistanceLoss(Protocol):
    @overload
    def __call__(
        self,
        distance: ArrayLike,
        target: ArrayLike,
        *,
        margin: float = 1.0,
        reduction: Literal["mean", "sum"] = "mean",
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> float: ...
    @overload
    def __call__(
        self,
        distance: ArrayLike,
        target: ArrayLike,
        *,
        margin: float = 1.0,
        reduction: Literal["none"],
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> _Array: ...
    @overload
    def value_and_grad(
        self,
        distance: ArrayLike,
        target: ArrayLike,
        *,
        margin: float = 1.0,
        reduction: Literal["mean", "sum"] = "mean",
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> tuple[float, _Array]: ...
    @overload
    def value_and_grad(
        self,
        distance: ArrayLike,
        target: ArrayLike,
        *,
        margin: float = 1.0,
        reduction: Literal["none"],
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> tuple[_Array, _Array]: ...
    def grad_and_hess(
        self,
        distance: ArrayLike,
        target: ArrayLike,
        *,
        margin: float = 1.0,
        reduction: Literal["none", "mean", "sum"] = "mean",
        sample_weight: ArrayLike | None = None,
        out: tuple[_Array, _Array] | None = None,
    ) -> tuple[_Array, _Array]: ...
    def backward(
        self,
        grad_output: ArrayLike,
        distance: ArrayLike,
        target: ArrayLike,
        *,
        margin: float = 1.0,
        reduction: Literal["none", "mean", "sum"] = "mean",
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> _Array: ...

contrastive_distance_loss: _ContrastiveDistanceLoss

class _ContrastiveLoss(Protocol):
    @overload
    def __call__(
        self,
        input1: ArrayLike,
        input2: ArrayLike,
        target: ArrayLike,
        *,
        margin: float = 1.0,
        reduction: Literal["mean", "sum"] = "mean",
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> float: ...
    @overload
    def __call__(
        self,
        input1: ArrayLike,
        input2: ArrayLike,
        target: ArrayLike,
        *,
        margin: float = 1.0,
        reduction: Literal["none"],
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> _Array: ...
    @overload
    def value_and_grad(
        self,
        input1: ArrayLike,
        input2: ArrayLike,
        target: ArrayLike,
        *,
        margin: float = 1.0,
        reduction: Literal["mean", "sum"] = "mean",
        sample_weight: ArrayLike | None = None,
        wrt: str | tuple[str, ...] | None = None,
        out: Any | None = None,
    ) -> tuple[float, Any]: ...
    @overload
    def value_and_grad(
        self,
        input1: ArrayLike,
        input2: ArrayLike,
        target: ArrayLike,
        *,
        margin: float = 1.0,
        reduction: Literal["none"],
        sample_weight: ArrayLike | None = None,
        wrt: str | tuple[str, ...] | None = None,
        out: Any | None = None,
    ) -> tuple[_Array, Any]: ...
    def backward(
        self,
        grad_output: ArrayLike,
        input1: ArrayLike,
        input2: ArrayLike,
        target: ArrayLike,
        *,
        margin: float = 1.0,
        reduction: Literal["none", "mean", "sum"] = "mean",
        sample_weight: ArrayLike | None = None,
        wrt: str | tuple[str, ...] | None = None,
        out: Any | None = None,
    ) -> Any: ...

contrastive_loss: _ContrastiveLoss

class _CosineEmbeddingLoss(Protocol):
    @overload
    def __call__(
        self,
        input1: ArrayLike,
        input2: ArrayLike,
        target: ArrayLike,
        *,
        margin: float = 0.0,
        reduction: Literal["mean", "sum"] = "mean",
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> float: ...
    @overload
    def __call__(
        self,
        input1: ArrayLike,
        input2: ArrayLike,
        target: ArrayLike,
        *,
        margin: float = 0.0,
        reduction: Literal["none"],
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> _Array: ...
    @overload
    def value_and_grad(
        self,
        input1: ArrayLike,
        input2: ArrayLike,
        target: ArrayLike,
        *,
        margin: float = 0.0,
        reduction: Literal["mean", "sum"] = "mean",
        sample_weight: ArrayLike | None = None,
        wrt: str | tuple[str, ...] | None = None,
        out: Any | None = None,
    ) -> tuple[float, Any]: ...
    @overload
    def value_and_grad(
        self,
        input1: ArrayLike,
        input2: ArrayLike,
        target: ArrayLike,
        *,
        margin: float = 0.0,
        reduction: Literal["none"],
        sample_weight: ArrayLike | None = None,
        wrt: str | tuple[str, ...] | None = None,
        out: Any | None = None,
    ) -> tuple[_Array, Any]: ...
    def backward(
        self,
        grad_output: ArrayLike,
        input1: ArrayLike,
        input2: ArrayLike,
        target: ArrayLike,
        *,
        margin: float = 0.0,
        reduction: Literal["none", "mean", "sum"] = "mean",
        sample_weight: ArrayLike | None = None,
        wrt: str | tuple[str, ...] | None = None,
        out: Any | None = None,
    ) -> Any: ...

cosine_embedding_loss: _CosineEmbeddingLoss

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
        return_log_prob: Literal[False] = False,
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
        return_log_prob: Literal[False] = False,
        out: _Array | None = None,
    ) -> _Array: ...
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
        return_log_prob: Literal[True],
        out: _Array | None = None,
    ) -> tuple[float, _Array]: ...
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
        return_log_prob: Literal[True],
        out: _Array | None = None,
    ) -> tuple[_Array, _Array]: ...
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
        return_log_prob: Literal[False] = False,
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
        return_log_prob: Literal[False] = False,
        out: _Array | None = None,
    ) -> tuple[_Array, _Array]: ...
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
        return_log_prob: Literal[True],
        out: _Array | None = None,
    ) -> tuple[float, _Array, _Array]: ...
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
        return_log_prob: Literal[True],
        out: _Array | None = None,
    ) -> tuple[_Array, _Array, _Array]: ...
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

class _CTCLoss(Protocol):
    @overload
    def __call__(
        self,
        log_probs: ArrayLike,
        targets: ArrayLike,
        input_lengths: ArrayLike,
        target_lengths: ArrayLike,
        *,
        blank: int = 0,
        zero_infinity: bool = False,
        reduction: Literal["mean", "sum"] = "mean",
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> float: ...
    @overload
    def __call__(
        self,
        log_probs: ArrayLike,
        targets: ArrayLike,
        input_lengths: ArrayLike,
        target_lengths: ArrayLike,
        *,
        blank: int = 0,
        zero_infinity: bool = False,
        reduction: Literal["none"],
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> _Array: ...
    @overload
    def value_and_grad(
        self,
        log_probs: ArrayLike,
        targets: ArrayLike,
        input_lengths: ArrayLike,
        target_lengths: ArrayLike,
        *,
        blank: int = 0,
        zero_infinity: bool = False,
        reduction: Literal["mean", "sum"] = "mean",
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> tuple[float, _Array]: ...
    @overload
    def value_and_grad(
        self,
        log_probs: ArrayLike,
        targets: ArrayLike,
        input_lengths: ArrayLike,
        target_lengths: ArrayLike,
        *,
        blank: int = 0,
        zero_infinity: bool = False,
        reduction: Literal["none"],
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> tuple[_Array, _Array]: ...
    def backward(
        self,
        grad_output: ArrayLike,
        log_probs: ArrayLike,
        targets: ArrayLike,
        input_lengths: ArrayLike,
        target_lengths: ArrayLike,
        *,
        blank: int = 0,
        zero_infinity: bool = False,
        reduction: Literal["none", "mean", "sum"] = "mean",
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> _Array: ...

ctc_loss: _CTCLoss

class _DiceLoss(Protocol):
    @overload
    def __call__(
        self,
        input: ArrayLike,
        target: ArrayLike,
        weight: ArrayLike | None = None,
        *,
        mode: Literal["binary", "multilabel", "multiclass"] = "binary",
        from_logits: bool = True,
        ignore_index: int | None = None,
        per_image: bool = True,
        empty: Literal["smooth", "zero", "skip"] = "smooth",
        smooth_numerator: float = 1e-05,
        smooth_denominator: float = 1e-05,
        squared: bool = False,
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
        mode: Literal["binary", "multilabel", "multiclass"] = "binary",
        from_logits: bool = True,
        ignore_index: int | None = None,
        per_image: bool = True,
        empty: Literal["smooth", "zero", "skip"] = "smooth",
        smooth_numerator: float = 1e-05,
        smooth_denominator: float = 1e-05,
        squared: bool = False,
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
        mode: Literal["binary", "multilabel", "multiclass"] = "binary",
        from_logits: bool = True,
        ignore_index: int | None = None,
        per_image: bool = True,
        empty: Literal["smooth", "zero", "skip"] = "smooth",
        smooth_numerator: float = 1e-05,
        smooth_denominator: float = 1e-05,
        squared: bool = False,
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
        mode: Literal["binary", "multilabel", "multiclass"] = "binary",
        from_logits: bool = True,
        ignore_index: int | None = None,
        per_image: bool = True,
        empty: Literal["smooth", "zero", "skip"] = "smooth",
        smooth_numerator: float = 1e-05,
        smooth_denominator: float = 1e-05,
        squared: bool = False,
        reduction: Literal["none"],
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> tuple[_Array, _Array]: ...
    def backward(
        self,
        grad_output: ArrayLike,
        input: ArrayLike,
        target: ArrayLike,
        weight: ArrayLike | None = None,
        *,
        mode: Literal["binary", "multilabel", "multiclass"] = "binary",
        from_logits: bool = True,
        ignore_index: int | None = None,
        per_image: bool = True,
        empty: Literal["smooth", "zero", "skip"] = "smooth",
        smooth_numerator: float = 1e-05,
        smooth_denominator: float = 1e-05,
        squared: bool = False,
        reduction: Literal["none", "mean", "sum"] = "mean",
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> _Array: ...

dice_loss: _DiceLoss

class _FocalTverskyLoss(Protocol):
    @overload
    def __call__(
        self,
        input: ArrayLike,
        target: ArrayLike,
        weight: ArrayLike | None = None,
        *,
        mode: Literal["binary", "multilabel", "multiclass"] = "binary",
        from_logits: bool = True,
        ignore_index: int | None = None,
        per_image: bool = True,
        empty: Literal["smooth", "zero", "skip"] = "smooth",
        smooth_numerator: float = 1e-05,
        smooth_denominator: float = 1e-05,
        alpha: float = 0.3,
        beta: float = 0.7,
        gamma: float = 0.75,
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
        mode: Literal["binary", "multilabel", "multiclass"] = "binary",
        from_logits: bool = True,
        ignore_index: int | None = None,
        per_image: bool = True,
        empty: Literal["smooth", "zero", "skip"] = "smooth",
        smooth_numerator: float = 1e-05,
        smooth_denominator: float = 1e-05,
        alpha: float = 0.3,
        beta: float = 0.7,
        gamma: float = 0.75,
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
        mode: Literal["binary", "multilabel", "multiclass"] = "binary",
        from_logits: bool = True,
        ignore_index: int | None = None,
        per_image: bool = True,
        empty: Literal["smooth", "zero", "skip"] = "smooth",
        smooth_numerator: float = 1e-05,
        smooth_denominator: float = 1e-05,
        alpha: float = 0.3,
        beta: float = 0.7,
        gamma: float = 0.75,
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
        mode: Literal["binary", "multilabel", "multiclass"] = "binary",
        from_logits: bool = True,
        ignore_index: int | None = None,
        per_image: bool = True,
        empty: Literal["smooth", "zero", "skip"] = "smooth",
        smooth_numerator: float = 1e-05,
        smooth_denominator: float = 1e-05,
        alpha: float = 0.3,
        beta: float = 0.7,
        gamma: float = 0.75,
        reduction: Literal["none"],
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> tuple[_Array, _Array]: ...
    def backward(
        self,
        grad_output: ArrayLike,
        input: ArrayLike,
        target: ArrayLike,
        weight: ArrayLike | None = None,
        *,
        mode: Literal["binary", "multilabel", "multiclass"] = "binary",
        from_logits: bool = True,
        ignore_index: int | None = None,
        per_image: bool = True,
        empty: Literal["smooth", "zero", "skip"] = "smooth",
        smooth_numerator: float = 1e-05,
        smooth_denominator: float = 1e-05,
        alpha: float = 0.3,
        beta: float = 0.7,
        gamma: float = 0.75,
        reduction: Literal["none", "mean", "sum"] = "mean",
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> _Array: ...

focal_tversky_loss: _FocalTverskyLoss

class _GaussianNLLLoss(Protocol):
    @overload
    def __call__(
        self,
        input: ArrayLike,
        target: ArrayLike,
        var: ArrayLike,
        *,
        full: bool = False,
        eps: float = 1e-06,
        reduction: Literal["mean", "sum"] = "mean",
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> float: ...
    @overload
    def __call__(
        self,
        input: ArrayLike,
        target: ArrayLike,
        var: ArrayLike,
        *,
        full: bool = False,
        eps: float = 1e-06,
        reduction: Literal["none"],
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> _Array: ...
    @overload
    def value_and_grad(
        self,
        input: ArrayLike,
        target: ArrayLike,
        var: ArrayLike,
        *,
        full: bool = False,
        eps: float = 1e-06,
        reduction: Literal["mean", "sum"] = "mean",
        sample_weight: ArrayLike | None = None,
        wrt: str | tuple[str, ...] | None = None,
        out: Any | None = None,
    ) -> tuple[float, Any]: ...
    @overload
    def value_and_grad(
        self,
        input: ArrayLike,
        target: ArrayLike,
        var: ArrayLike,
        *,
        full: bool = False,
        eps: float = 1e-06,
        reduction: Literal["none"],
        sample_weight: ArrayLike | None = None,
        wrt: str | tuple[str, ...] | None = None,
        out: Any | None = None,
    ) -> tuple[_Array, Any]: ...
    def grad_and_hess(
        self,
        input: ArrayLike,
        target: ArrayLike,
        var: ArrayLike,
        *,
        full: bool = False,
        eps: float = 1e-06,
        reduction: Literal["none", "mean", "sum"] = "mean",
        sample_weight: ArrayLike | None = None,
        wrt: str | tuple[str, ...] | None = None,
        out: tuple[Any, Any] | None = None,
    ) -> tuple[Any, Any]: ...
    def backward(
        self,
        grad_output: ArrayLike,
        input: ArrayLike,
        target: ArrayLike,
        var: ArrayLike,
        *,
        full: bool = False,
        eps: float = 1e-06,
        reduction: Literal["none", "mean", "sum"] = "mean",
        sample_weight: ArrayLike | None = None,
        wrt: str | tuple[str, ...] | None = None,
        out: Any | None = None,
    ) -> Any: ...

gaussian_nll_loss: _GaussianNLLLoss

class _HingeEmbeddingLoss(Protocol):
    @overload
    def __call__(
        self,
        input: ArrayLike,
        target: ArrayLike,
        *,
        margin: float = 1.0,
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
        margin: float = 1.0,
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
        margin: float = 1.0,
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
        margin: float = 1.0,
        reduction: Literal["none"],
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> tuple[_Array, _Array]: ...
    def grad_and_hess(
        self,
        input: ArrayLike,
        target: ArrayLike,
        *,
        margin: float = 1.0,
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
        margin: float = 1.0,
        reduction: Literal["none", "mean", "sum"] = "mean",
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> _Array: ...

hinge_embedding_loss: _HingeEmbeddingLoss

class _HingeLoss(Protocol):
    @overload
    def __call__(
        self,
        input: ArrayLike,
        target: ArrayLike,
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
        *,
        reduction: Literal["none"],
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> tuple[_Array, _Array]: ...
    def grad_and_hess(
        self,
        input: ArrayLike,
        target: ArrayLike,
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
        *,
        reduction: Literal["none", "mean", "sum"] = "mean",
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> _Array: ...

hinge_loss: _HingeLoss

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

class _JaccardLoss(Protocol):
    @overload
    def __call__(
        self,
        input: ArrayLike,
        target: ArrayLike,
        weight: ArrayLike | None = None,
        *,
        mode: Literal["binary", "multilabel", "multiclass"] = "binary",
        from_logits: bool = True,
        ignore_index: int | None = None,
        per_image: bool = True,
        empty: Literal["smooth", "zero", "skip"] = "smooth",
        smooth_numerator: float = 1e-05,
        smooth_denominator: float = 1e-05,
        squared: bool = False,
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
        mode: Literal["binary", "multilabel", "multiclass"] = "binary",
        from_logits: bool = True,
        ignore_index: int | None = None,
        per_image: bool = True,
        empty: Literal["smooth", "zero", "skip"] = "smooth",
        smooth_numerator: float = 1e-05,
        smooth_denominator: float = 1e-05,
        squared: bool = False,
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
        mode: Literal["binary", "multilabel", "multiclass"] = "binary",
        from_logits: bool = True,
        ignore_index: int | None = None,
        per_image: bool = True,
        empty: Literal["smooth", "zero", "skip"] = "smooth",
        smooth_numerator: float = 1e-05,
        smooth_denominator: float = 1e-05,
        squared: bool = False,
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
        mode: Literal["binary", "multilabel", "multiclass"] = "binary",
        from_logits: bool = True,
        ignore_index: int | None = None,
        per_image: bool = True,
        empty: Literal["smooth", "zero", "skip"] = "smooth",
        smooth_numerator: float = 1e-05,
        smooth_denominator: float = 1e-05,
        squared: bool = False,
        reduction: Literal["none"],
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> tuple[_Array, _Array]: ...
    def backward(
        self,
        grad_output: ArrayLike,
        input: ArrayLike,
        target: ArrayLike,
        weight: ArrayLike | None = None,
        *,
        mode: Literal["binary", "multilabel", "multiclass"] = "binary",
        from_logits: bool = True,
        ignore_index: int | None = None,
        per_image: bool = True,
        empty: Literal["smooth", "zero", "skip"] = "smooth",
        smooth_numerator: float = 1e-05,
        smooth_denominator: float = 1e-05,
        squared: bool = False,
        reduction: Literal["none", "mean", "sum"] = "mean",
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> _Array: ...

jaccard_loss: _JaccardLoss

class _KLDivLoss(Protocol):
    @overload
    def __call__(
        self,
        input: ArrayLike,
        target: ArrayLike,
        *,
        log_target: bool = False,
        reduction: Literal["mean", "batchmean", "sum"] = "mean",
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> float: ...
    @overload
    def __call__(
        self,
        input: ArrayLike,
        target: ArrayLike,
        *,
        log_target: bool = False,
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
        log_target: bool = False,
        reduction: Literal["mean", "batchmean", "sum"] = "mean",
        sample_weight: ArrayLike | None = None,
        wrt: str | tuple[str, ...] | None = None,
        out: Any | None = None,
    ) -> tuple[float, Any]: ...
    @overload
    def value_and_grad(
        self,
        input: ArrayLike,
        target: ArrayLike,
        *,
        log_target: bool = False,
        reduction: Literal["none"],
        sample_weight: ArrayLike | None = None,
        wrt: str | tuple[str, ...] | None = None,
        out: Any | None = None,
    ) -> tuple[_Array, Any]: ...
    def grad_and_hess(
        self,
        input: ArrayLike,
        target: ArrayLike,
        *,
        log_target: bool = False,
        reduction: Literal["none", "mean", "batchmean", "sum"] = "mean",
        sample_weight: ArrayLike | None = None,
        wrt: str | tuple[str, ...] | None = None,
        out: tuple[Any, Any] | None = None,
    ) -> tuple[Any, Any]: ...
    def backward(
        self,
        grad_output: ArrayLike,
        input: ArrayLike,
        target: ArrayLike,
        *,
        log_target: bool = False,
        reduction: Literal["none", "mean", "batchmean", "sum"] = "mean",
        sample_weight: ArrayLike | None = None,
        wrt: str | tuple[str, ...] | None = None,
        out: Any | None = None,
    ) -> Any: ...

kl_div: _KLDivLoss

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

class _LinearCrossEntropyLoss(Protocol):
    @overload
    def __call__(
        self,
        input: ArrayLike,
        linear_weight: ArrayLike,
        target: ArrayLike,
        linear_bias: ArrayLike | None = None,
        *,
        weight: ArrayLike | None = None,
        ignore_index: int = -100,
        label_smoothing: float = 0.0,
        z_loss: float = 0.0,
        softcap: float | None = None,
        reduction: Literal["mean", "sum"] = "mean",
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> float: ...
    @overload
    def __call__(
        self,
        input: ArrayLike,
        linear_weight: ArrayLike,
        target: ArrayLike,
        linear_bias: ArrayLike | None = None,
        *,
        weight: ArrayLike | None = None,
        ignore_index: int = -100,
        label_smoothing: float = 0.0,
        z_loss: float = 0.0,
        softcap: float | None = None,
        reduction: Literal["none"],
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> _Array: ...
    @overload
    def value_and_grad(
        self,
        input: ArrayLike,
        linear_weight: ArrayLike,
        target: ArrayLike,
        linear_bias: ArrayLike | None = None,
        *,
        weight: ArrayLike | None = None,
        ignore_index: int = -100,
        label_smoothing: float = 0.0,
        z_loss: float = 0.0,
        softcap: float | None = None,
        reduction: Literal["mean", "sum"] = "mean",
        sample_weight: ArrayLike | None = None,
        wrt: str | tuple[str, ...] | None = None,
        out: Any | None = None,
    ) -> tuple[float, Any]: ...
    @overload
    def value_and_grad(
        self,
        input: ArrayLike,
        linear_weight: ArrayLike,
        target: ArrayLike,
        linear_bias: ArrayLike | None = None,
        *,
        weight: ArrayLike | None = None,
        ignore_index: int = -100,
        label_smoothing: float = 0.0,
        z_loss: float = 0.0,
        softcap: float | None = None,
        reduction: Literal["none"],
        sample_weight: ArrayLike | None = None,
        wrt: str | tuple[str, ...] | None = None,
        out: Any | None = None,
    ) -> tuple[_Array, Any]: ...
    def backward(
        self,
        grad_output: ArrayLike,
        input: ArrayLike,
        linear_weight: ArrayLike,
        target: ArrayLike,
        linear_bias: ArrayLike | None = None,
        *,
        weight: ArrayLike | None = None,
        ignore_index: int = -100,
        label_smoothing: float = 0.0,
        z_loss: float = 0.0,
        softcap: float | None = None,
        reduction: Literal["none", "mean", "sum"] = "mean",
        sample_weight: ArrayLike | None = None,
        wrt: str | tuple[str, ...] | None = None,
        out: Any | None = None,
    ) -> Any: ...

linear_cross_entropy: _LinearCrossEntropyLoss

class _MarginRankingLoss(Protocol):
    @overload
    def __call__(
        self,
        input1: ArrayLike,
        input2: ArrayLike,
        target: ArrayLike,
        *,
        margin: float = 0.0,
        reduction: Literal["mean", "sum"] = "mean",
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> float: ...
    @overload
    def __call__(
        self,
        input1: ArrayLike,
        input2: ArrayLike,
        target: ArrayLike,
        *,
        margin: float = 0.0,
        reduction: Literal["none"],
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> _Array: ...
    @overload
    def value_and_grad(
        self,
        input1: ArrayLike,
        input2: ArrayLike,
        target: ArrayLike,
        *,
        margin: float = 0.0,
        reduction: Literal["mean", "sum"] = "mean",
        sample_weight: ArrayLike | None = None,
        wrt: str | tuple[str, ...] | None = None,
        out: Any | None = None,
    ) -> tuple[float, Any]: ...
    @overload
    def value_and_grad(
        self,
        input1: ArrayLike,
        input2: ArrayLike,
        target: ArrayLike,
        *,
        margin: float = 0.0,
        reduction: Literal["none"],
        sample_weight: ArrayLike | None = None,
        wrt: str | tuple[str, ...] | None = None,
        out: Any | None = None,
    ) -> tuple[_Array, Any]: ...
    def grad_and_hess(
        self,
        input1: ArrayLike,
        input2: ArrayLike,
        target: ArrayLike,
        *,
        margin: float = 0.0,
        reduction: Literal["none", "mean", "sum"] = "mean",
        sample_weight: ArrayLike | None = None,
        wrt: str | tuple[str, ...] | None = None,
        out: tuple[Any, Any] | None = None,
    ) -> tuple[Any, Any]: ...
    def backward(
        self,
        grad_output: ArrayLike,
        input1: ArrayLike,
        input2: ArrayLike,
        target: ArrayLike,
        *,
        margin: float = 0.0,
        reduction: Literal["none", "mean", "sum"] = "mean",
        sample_weight: ArrayLike | None = None,
        wrt: str | tuple[str, ...] | None = None,
        out: Any | None = None,
    ) -> Any: ...

margin_ranking_loss: _MarginRankingLoss

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

class _MultiMarginLoss(Protocol):
    @overload
    def __call__(
        self,
        input: ArrayLike,
        target: ArrayLike,
        weight: ArrayLike | None = None,
        *,
        p: int = 1,
        margin: float = 1.0,
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
        p: int = 1,
        margin: float = 1.0,
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
        p: int = 1,
        margin: float = 1.0,
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
        p: int = 1,
        margin: float = 1.0,
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
        p: int = 1,
        margin: float = 1.0,
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
        p: int = 1,
        margin: float = 1.0,
        reduction: Literal["none", "mean", "sum"] = "mean",
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> _Array: ...

multi_margin_loss: _MultiMarginLoss

class _MultiLabelMarginLoss(Protocol):
    @overload
    def __call__(
        self,
        input: ArrayLike,
        target: ArrayLike,
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
        *,
        reduction: Literal["none"],
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> tuple[_Array, _Array]: ...
    def grad_and_hess(
        self,
        input: ArrayLike,
        target: ArrayLike,
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
        *,
        reduction: Literal["none", "mean", "sum"] = "mean",
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> _Array: ...

multilabel_margin_loss: _MultiLabelMarginLoss

class _MultiLabelSoftMarginLoss(Protocol):
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

multilabel_soft_margin_loss: _MultiLabelSoftMarginLoss

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

class _PinballLoss(Protocol):
    @overload
    def __call__(
        self,
        input: ArrayLike,
        target: ArrayLike,
        *,
        alpha: float = 0.5,
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
        alpha: float = 0.5,
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
        alpha: float = 0.5,
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
        alpha: float = 0.5,
        reduction: Literal["none"],
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> tuple[_Array, _Array]: ...
    def grad_and_hess(
        self,
        input: ArrayLike,
        target: ArrayLike,
        *,
        alpha: float = 0.5,
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
        alpha: float = 0.5,
        reduction: Literal["none", "mean", "sum"] = "mean",
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> _Array: ...

pinball_loss: _PinballLoss

class _PoissonNLLLoss(Protocol):
    @overload
    def __call__(
        self,
        input: ArrayLike,
        target: ArrayLike,
        *,
        log_input: bool = True,
        full: bool = False,
        eps: float = 1e-08,
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
        log_input: bool = True,
        full: bool = False,
        eps: float = 1e-08,
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
        log_input: bool = True,
        full: bool = False,
        eps: float = 1e-08,
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
        log_input: bool = True,
        full: bool = False,
        eps: float = 1e-08,
        reduction: Literal["none"],
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> tuple[_Array, _Array]: ...
    def grad_and_hess(
        self,
        input: ArrayLike,
        target: ArrayLike,
        *,
        log_input: bool = True,
        full: bool = False,
        eps: float = 1e-08,
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
        log_input: bool = True,
        full: bool = False,
        eps: float = 1e-08,
        reduction: Literal["none", "mean", "sum"] = "mean",
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> _Array: ...

poisson_nll_loss: _PoissonNLLLoss

class _SigmoidFocalLoss(Protocol):
    @overload
    def __call__(
        self,
        input: ArrayLike,
        target: ArrayLike,
        *,
        alpha: float | None = 0.25,
        gamma: float = 2.0,
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
        alpha: float | None = 0.25,
        gamma: float = 2.0,
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
        alpha: float | None = 0.25,
        gamma: float = 2.0,
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
        alpha: float | None = 0.25,
        gamma: float = 2.0,
        reduction: Literal["none"],
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> tuple[_Array, _Array]: ...
    def grad_and_hess(
        self,
        input: ArrayLike,
        target: ArrayLike,
        *,
        alpha: float | None = 0.25,
        gamma: float = 2.0,
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
        alpha: float | None = 0.25,
        gamma: float = 2.0,
        reduction: Literal["none", "mean", "sum"] = "mean",
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> _Array: ...

sigmoid_focal_loss: _SigmoidFocalLoss

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

class _SoftMarginLoss(Protocol):
    @overload
    def __call__(
        self,
        input: ArrayLike,
        target: ArrayLike,
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
        *,
        reduction: Literal["none"],
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> tuple[_Array, _Array]: ...
    def grad_and_hess(
        self,
        input: ArrayLike,
        target: ArrayLike,
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
        *,
        reduction: Literal["none", "mean", "sum"] = "mean",
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> _Array: ...

soft_margin_loss: _SoftMarginLoss

class _SoftmaxFocalLoss(Protocol):
    @overload
    def __call__(
        self,
        input: ArrayLike,
        target: ArrayLike,
        alpha: ArrayLike | None = None,
        *,
        gamma: float = 2.0,
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
        alpha: ArrayLike | None = None,
        *,
        gamma: float = 2.0,
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
        alpha: ArrayLike | None = None,
        *,
        gamma: float = 2.0,
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
        alpha: ArrayLike | None = None,
        *,
        gamma: float = 2.0,
        ignore_index: int = -100,
        reduction: Literal["none"],
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> tuple[_Array, _Array]: ...
    def grad_and_hess(
        self,
        input: ArrayLike,
        target: ArrayLike,
        alpha: ArrayLike | None = None,
        *,
        gamma: float = 2.0,
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
        alpha: ArrayLike | None = None,
        *,
        gamma: float = 2.0,
        ignore_index: int = -100,
        reduction: Literal["none", "mean", "sum"] = "mean",
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> _Array: ...

softmax_focal_loss: _SoftmaxFocalLoss

class _TripletMarginLoss(Protocol):
    @overload
    def __call__(
        self,
        anchor: ArrayLike,
        positive: ArrayLike,
        negative: ArrayLike,
        *,
        margin: float = 1.0,
        p: float = 2.0,
        eps: float = 1e-06,
        swap: bool = False,
        reduction: Literal["mean", "sum"] = "mean",
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> float: ...
    @overload
    def __call__(
        self,
        anchor: ArrayLike,
        positive: ArrayLike,
        negative: ArrayLike,
        *,
        margin: float = 1.0,
        p: float = 2.0,
        eps: float = 1e-06,
        swap: bool = False,
        reduction: Literal["none"],
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> _Array: ...
    @overload
    def value_and_grad(
        self,
        anchor: ArrayLike,
        positive: ArrayLike,
        negative: ArrayLike,
        *,
        margin: float = 1.0,
        p: float = 2.0,
        eps: float = 1e-06,
        swap: bool = False,
        reduction: Literal["mean", "sum"] = "mean",
        sample_weight: ArrayLike | None = None,
        wrt: str | tuple[str, ...] | None = None,
        out: Any | None = None,
    ) -> tuple[float, Any]: ...
    @overload
    def value_and_grad(
        self,
        anchor: ArrayLike,
        positive: ArrayLike,
        negative: ArrayLike,
        *,
        margin: float = 1.0,
        p: float = 2.0,
        eps: float = 1e-06,
        swap: bool = False,
        reduction: Literal["none"],
        sample_weight: ArrayLike | None = None,
        wrt: str | tuple[str, ...] | None = None,
        out: Any | None = None,
    ) -> tuple[_Array, Any]: ...
    def backward(
        self,
        grad_output: ArrayLike,
        anchor: ArrayLike,
        positive: ArrayLike,
        negative: ArrayLike,
        *,
        margin: float = 1.0,
        p: float = 2.0,
        eps: float = 1e-06,
        swap: bool = False,
        reduction: Literal["none", "mean", "sum"] = "mean",
        sample_weight: ArrayLike | None = None,
        wrt: str | tuple[str, ...] | None = None,
        out: Any | None = None,
    ) -> Any: ...

triplet_margin_loss: _TripletMarginLoss

class _TripletMarginWithDistanceLoss(Protocol):
    @overload
    def __call__(
        self,
        anchor: ArrayLike,
        positive: ArrayLike,
        negative: ArrayLike,
        *,
        distance_function: str | collections.abc.Callable[..., Any] = "euclidean",
        margin: float = 1.0,
        swap: bool = False,
        reduction: Literal["mean", "sum"] = "mean",
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> float: ...
    @overload
    def __call__(
        self,
        anchor: ArrayLike,
        positive: ArrayLike,
        negative: ArrayLike,
        *,
        distance_function: str | collections.abc.Callable[..., Any] = "euclidean",
        margin: float = 1.0,
        swap: bool = False,
        reduction: Literal["none"],
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> _Array: ...
    @overload
    def value_and_grad(
        self,
        anchor: ArrayLike,
        positive: ArrayLike,
        negative: ArrayLike,
        *,
        distance_function: str | collections.abc.Callable[..., Any] = "euclidean",
        margin: float = 1.0,
        swap: bool = False,
        reduction: Literal["mean", "sum"] = "mean",
        sample_weight: ArrayLike | None = None,
        wrt: str | tuple[str, ...] | None = None,
        out: Any | None = None,
    ) -> tuple[float, Any]: ...
    @overload
    def value_and_grad(
        self,
        anchor: ArrayLike,
        positive: ArrayLike,
        negative: ArrayLike,
        *,
        distance_function: str | collections.abc.Callable[..., Any] = "euclidean",
        margin: float = 1.0,
        swap: bool = False,
        reduction: Literal["none"],
        sample_weight: ArrayLike | None = None,
        wrt: str | tuple[str, ...] | None = None,
        out: Any | None = None,
    ) -> tuple[_Array, Any]: ...
    def backward(
        self,
        grad_output: ArrayLike,
        anchor: ArrayLike,
        positive: ArrayLike,
        negative: ArrayLike,
        *,
        distance_function: str | collections.abc.Callable[..., Any] = "euclidean",
        margin: float = 1.0,
        swap: bool = False,
        reduction: Literal["none", "mean", "sum"] = "mean",
        sample_weight: ArrayLike | None = None,
        wrt: str | tuple[str, ...] | None = None,
        out: Any | None = None,
    ) -> Any: ...

triplet_margin_with_distance_loss: _TripletMarginWithDistanceLoss

class _TverskyLoss(Protocol):
    @overload
    def __call__(
        self,
        input: ArrayLike,
        target: ArrayLike,
        weight: ArrayLike | None = None,
        *,
        mode: Literal["binary", "multilabel", "multiclass"] = "binary",
        from_logits: bool = True,
        ignore_index: int | None = None,
        per_image: bool = True,
        empty: Literal["smooth", "zero", "skip"] = "smooth",
        smooth_numerator: float = 1e-05,
        smooth_denominator: float = 1e-05,
        alpha: float = 0.5,
        beta: float = 0.5,
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
        mode: Literal["binary", "multilabel", "multiclass"] = "binary",
        from_logits: bool = True,
        ignore_index: int | None = None,
        per_image: bool = True,
        empty: Literal["smooth", "zero", "skip"] = "smooth",
        smooth_numerator: float = 1e-05,
        smooth_denominator: float = 1e-05,
        alpha: float = 0.5,
        beta: float = 0.5,
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
        mode: Literal["binary", "multilabel", "multiclass"] = "binary",
        from_logits: bool = True,
        ignore_index: int | None = None,
        per_image: bool = True,
        empty: Literal["smooth", "zero", "skip"] = "smooth",
        smooth_numerator: float = 1e-05,
        smooth_denominator: float = 1e-05,
        alpha: float = 0.5,
        beta: float = 0.5,
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
        mode: Literal["binary", "multilabel", "multiclass"] = "binary",
        from_logits: bool = True,
        ignore_index: int | None = None,
        per_image: bool = True,
        empty: Literal["smooth", "zero", "skip"] = "smooth",
        smooth_numerator: float = 1e-05,
        smooth_denominator: float = 1e-05,
        alpha: float = 0.5,
        beta: float = 0.5,
        reduction: Literal["none"],
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> tuple[_Array, _Array]: ...
    def backward(
        self,
        grad_output: ArrayLike,
        input: ArrayLike,
        target: ArrayLike,
        weight: ArrayLike | None = None,
        *,
        mode: Literal["binary", "multilabel", "multiclass"] = "binary",
        from_logits: bool = True,
        ignore_index: int | None = None,
        per_image: bool = True,
        empty: Literal["smooth", "zero", "skip"] = "smooth",
        smooth_numerator: float = 1e-05,
        smooth_denominator: float = 1e-05,
        alpha: float = 0.5,
        beta: float = 0.5,
        reduction: Literal["none", "mean", "sum"] = "mean",
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> _Array: ...

tversky_loss: _TverskyLoss

class _TweedieDevianceLoss(Protocol):
    @overload
    def __call__(
        self,
        input: ArrayLike,
        target: ArrayLike,
        *,
        power: float = 1.0,
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
        power: float = 1.0,
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
        power: float = 1.0,
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
        power: float = 1.0,
        reduction: Literal["none"],
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> tuple[_Array, _Array]: ...
    def grad_and_hess(
        self,
        input: ArrayLike,
        target: ArrayLike,
        *,
        power: float = 1.0,
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
        power: float = 1.0,
        reduction: Literal["none", "mean", "sum"] = "mean",
        sample_weight: ArrayLike | None = None,
        out: _Array | None = None,
    ) -> _Array: ...

tweedie_deviance_loss: _TweedieDevianceLoss
