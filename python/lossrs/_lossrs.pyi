from typing import Any, final

from numpy.typing import ArrayLike, NDArray

__all__ = [
    "Accumulation",
    "DomainError",
    "ExactSum",
    "LabelError",
    "Loss",
    "__version__",
    "elementary",
    "get_num_threads",
    "instruction_set",
    "loss_names",
    "set_num_threads",
    "use_instruction_set",
]

__version__: str

class LabelError(ValueError):
    row: int
    label: int | float

class DomainError(ValueError):
    row: int
    value: float

@final
class Loss:
    operands: tuple[str, ...]
    optional: tuple[str, ...]
    inputs: tuple[str, ...]
    asked: int
    weight_normalises: bool
    has_hessian: bool
    has_log_prob: bool
    def __new__(cls, name: str, /, **parameters: float | str | None) -> Loss: ...
    def value(
        self,
        operands: tuple[ArrayLike, ...],
        arrays: dict[str, ArrayLike] | None,
        sample_weight: ArrayLike | None,
        reduction: str,
        out: NDArray[Any] | None,
        log_prob: bool = False,
    ) -> Any: ...
    def value_and_grad(
        self,
        operands: tuple[ArrayLike, ...],
        arrays: dict[str, ArrayLike] | None,
        sample_weight: ArrayLike | None,
        reduction: str,
        out: Any,
        wrt: str | tuple[str, ...] | None,
        log_prob: bool = False,
    ) -> tuple[Any, ...]: ...
    def grad_and_hess(
        self,
        operands: tuple[ArrayLike, ...],
        arrays: dict[str, ArrayLike] | None,
        sample_weight: ArrayLike | None,
        reduction: str,
        out: Any,
        wrt: str | tuple[str, ...] | None,
    ) -> tuple[Any, Any]: ...
    def backward(
        self,
        grad_output: ArrayLike,
        operands: tuple[ArrayLike, ...],
        arrays: dict[str, ArrayLike] | None,
        sample_weight: ArrayLike | None,
        reduction: str,
        out: Any,
        wrt: str | tuple[str, ...] | None,
    ) -> Any: ...

@final
class ExactSum:
    def __new__(cls) -> ExactSum: ...
    def __eq__(self, other: object, /) -> bool: ...
    def add(self, values: ArrayLike) -> None: ...
    def merge(self, other: ExactSum) -> None: ...
    def value(self) -> float: ...
    def to_bytes(self) -> bytes: ...
    @staticmethod
    def from_bytes(state: bytes) -> ExactSum: ...

@final
class Accumulation:
    def __new__(cls, histograms: bool, worst: int, replicates: int, seed: int) -> Accumulation: ...
    def settings(self) -> tuple[bool, int, int, int]: ...
    def update(
        self,
        losses: NDArray[Any],
        values: NDArray[Any],
        weights: NDArray[Any] | None,
        ignored: NDArray[Any] | None,
        first: int,
        numbers: NDArray[Any] | None,
        names: NDArray[Any] | None,
        keys: list[Any],
        clusters: NDArray[Any] | None,
    ) -> None: ...
    def merge(self, other: Accumulation) -> None: ...
    def renumber(self, starts: NDArray[Any], to: NDArray[Any]) -> None: ...
    def copy(self) -> Accumulation: ...
    def overall(self) -> dict[str, Any]: ...
    def groups(self) -> dict[str, Any]: ...
    def to_bytes(self) -> bytes: ...
    @staticmethod
    def from_bytes(state: bytes) -> Accumulation: ...

def loss_names() -> tuple[str, ...]: ...
def elementary(name: str, x: NDArray[Any], y: NDArray[Any] | None = None) -> NDArray[Any]: ...
def get_num_threads() -> int: ...
def set_num_threads(num_threads: int) -> None: ...
def instruction_set() -> str: ...
def use_instruction_set(name: str) -> None: ...
