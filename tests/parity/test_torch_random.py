"""Random calls: shapes, dtypes, layouts and options that torch's own samples don't combine."""

from typing import Any

import lossrs.functional as F
import torch
import torch.nn.functional as T
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .torch_calls import DTYPES, REDUCTIONS, assert_parity

EXAMPLES = settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
REGRESSION = ("mse_loss", "l1_loss", "huber_loss", "smooth_l1_loss")
BINARY = ("binary_cross_entropy", "binary_cross_entropy_with_logits")
LABELS = ("cross_entropy", "nll_loss")

shapes = st.lists(st.integers(0, 5), max_size=3).map(tuple)
positive = st.floats(0.01, 4)


class Call:
    """What a test draws from: tensors of one dtype, each in a layout of its own."""

    def __init__(self, draw: Any) -> None:
        self.draw = draw
        self.dtype = draw(st.sampled_from(DTYPES))
        self.generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32 - 1)))

    def laid_out(self, tensor: torch.Tensor) -> torch.Tensor:
        """The same values in C order, in the order of shuffled axes, or at every other place of a larger buffer."""
        match self.draw(st.sampled_from(["C", "permuted", "spread"])):
            case "permuted":
                order = self.draw(st.permutations(range(tensor.ndim)))
                return tensor.permute(order).contiguous().permute([order.index(axis) for axis in range(tensor.ndim)])
            case "spread":
                return tensor.unsqueeze(-1).expand(*tensor.shape, 2).contiguous()[..., 0]
        return tensor

    def uniform(self, shape: tuple[int, ...], low: float, high: float) -> torch.Tensor:
        values = low + (high - low) * torch.rand(shape, generator=self.generator, dtype=torch.float64)
        return self.laid_out(values.to(self.dtype))

    def labels(self, shape: tuple[int, ...], classes: int) -> torch.Tensor:
        return self.laid_out(torch.randint(classes, shape, generator=self.generator))

    def maybe_weight(self, shape: tuple[int, ...], name: str = "weight") -> dict[str, torch.Tensor]:
        return {name: self.uniform(shape, 0, 2)} if self.draw(st.booleans()) else {}

    def reduction(self) -> dict[str, str]:
        return {"reduction": self.draw(st.sampled_from(REDUCTIONS))}


calls = st.composite(Call)()


@EXAMPLES
@given(call=calls, shape=shapes, name=st.sampled_from(REGRESSION), threshold=positive)
def test_regression(call: Call, shape: tuple[int, ...], name: str, threshold: float) -> None:
    options = {"huber_loss": {"delta": threshold}, "smooth_l1_loss": {"beta": threshold}}.get(name, {})
    if name != "smooth_l1_loss":
        options |= call.maybe_weight(shape)
    input, target = call.uniform(shape, -4, 4), call.uniform(shape, -4, 4)
    assert_parity(getattr(F, name), getattr(T, name), (input, target), options | call.reduction())


@EXAMPLES
@given(call=calls, shape=shapes, name=st.sampled_from(BINARY), hard=st.booleans())
def test_binary(call: Call, shape: tuple[int, ...], name: str, hard: bool) -> None:
    low, high = (-30, 30) if name.endswith("logits") else (0, 1)
    target = call.uniform(shape, 0, 1)
    # Weights broadcast: against the last axes, or along an axis of length one.
    part = shape[call.draw(st.integers(0, len(shape))) :]
    options = call.maybe_weight(part)
    if name.endswith("logits"):
        options |= call.maybe_weight(shape[-1:], "pos_weight")
    args = call.uniform(shape, low, high), target.round() if hard else target
    assert_parity(getattr(F, name), getattr(T, name), args, options | call.reduction())


@EXAMPLES
@given(call=calls, classes=st.integers(1, 7), places=st.none() | shapes.filter(bool), data=st.data())
def test_labels(call: Call, classes: int, places: tuple[int, ...] | None, data: st.DataObject) -> None:
    """`places`: the axes other than the class axis; None for a single row without a batch axis."""
    name = data.draw(st.sampled_from(LABELS))
    batch, rest = ((), ()) if places is None else (places[:1], places[1:])
    options: dict[str, Any] = call.maybe_weight((classes,))
    target = call.labels(batch + rest, classes)
    if data.draw(st.booleans()):
        options["ignore_index"] = data.draw(st.integers(-2, classes + 1))
    if name == "cross_entropy" and data.draw(st.booleans()):
        options["label_smoothing"] = data.draw(st.floats(0, 1))
    args = call.uniform((*batch, classes, *rest), -20, 0), target
    assert_parity(getattr(F, name), getattr(T, name), args, options | call.reduction())


@EXAMPLES
@given(
    call=calls,
    classes=st.integers(1, 7),
    places=st.none() | shapes.filter(bool),
    smoothing=st.just(0.0) | st.floats(0, 1),
)
def test_probabilities(call: Call, classes: int, places: tuple[int, ...] | None, smoothing: float) -> None:
    shape = (classes,) if places is None else (places[0], classes, *places[1:])
    args = call.uniform(shape, -20, 20), call.uniform(shape, 0, 1)
    options = {"label_smoothing": smoothing, **call.maybe_weight((classes,)), **call.reduction()}
    assert_parity(F.cross_entropy, T.cross_entropy, args, options)
