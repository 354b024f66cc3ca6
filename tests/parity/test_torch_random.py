"""Random calls: shapes, dtypes, layouts and options that torch's own samples don't combine."""

from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lossrs import functional
from torch.nn import functional as torch_functional

from .torch_calls import DTYPES, REDUCTIONS, SIGNED, assert_parity

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
        """Return the same values in C order, in the order of shuffled axes, or spread over a larger buffer."""
        match self.draw(st.sampled_from(["C", "permuted", "spread"])):
            case "permuted":
                order = self.draw(st.permutations(range(tensor.ndim)))
                return tensor.permute(order).contiguous().permute([order.index(axis) for axis in range(tensor.ndim)])
            case "spread":
                return tensor.unsqueeze(-1).expand(*tensor.shape, 2).contiguous()[..., 0]
        return tensor

    def uniform(self, shape: tuple[int, ...], low: float, high: float) -> torch.Tensor:
        """Return numbers between `low` and `high`."""
        values = low + (high - low) * torch.rand(shape, generator=self.generator, dtype=torch.float64)
        return self.laid_out(values.to(self.dtype))

    def labels(self, shape: tuple[int, ...], classes: int) -> torch.Tensor:
        """Return labels."""
        return self.laid_out(torch.randint(classes, shape, generator=self.generator))

    def maybe_weight(self, shape: tuple[int, ...], name: str = "weight") -> dict[str, torch.Tensor]:
        """Return weights as an option, or no option."""
        return {name: self.uniform(shape, 0, 2)} if self.draw(st.booleans()) else {}

    def reduction(self) -> dict[str, str]:
        """Return a reduction as an option."""
        return {"reduction": self.draw(st.sampled_from(REDUCTIONS))}


calls = st.composite(Call)()


@EXAMPLES
@given(call=calls, shape=shapes, name=st.sampled_from(REGRESSION), threshold=positive)
def test_regression(call: Call, shape: tuple[int, ...], name: str, threshold: float) -> None:
    """Weights have the input's shape."""
    options: dict[str, Any] = {"huber_loss": {"delta": threshold}, "smooth_l1_loss": {"beta": threshold}}.get(name, {})
    if name != "smooth_l1_loss":
        options |= call.maybe_weight(shape)
    input, target = call.uniform(shape, -4, 4), call.uniform(shape, -4, 4)
    assert_parity(
        getattr(functional, name), getattr(torch_functional, name), (input, target), options | call.reduction()
    )


@EXAMPLES
@given(call=calls, shape=shapes, name=st.sampled_from(BINARY), hard=st.booleans())
def test_binary(call: Call, shape: tuple[int, ...], name: str, hard: bool) -> None:
    """Weights broadcast, from the last axes."""
    low, high = (-30, 30) if name.endswith("logits") else (0, 1)
    target = call.uniform(shape, 0, 1)
    part = shape[call.draw(st.integers(0, len(shape))) :]
    options = call.maybe_weight(part)
    if name.endswith("logits"):
        options |= call.maybe_weight(shape[-1:], "pos_weight")
    args = call.uniform(shape, low, high), target.round() if hard else target
    assert_parity(getattr(functional, name), getattr(torch_functional, name), args, options | call.reduction())


@EXAMPLES
@given(call=calls, classes=st.integers(1, 7), places=st.none() | shapes.filter(bool), data=st.data())
def test_labels(call: Call, classes: int, places: tuple[int, ...] | None, data: st.DataObject) -> None:
    """Of `places`, the axes other than that of classes; of a single row if there are none."""
    name = data.draw(st.sampled_from(LABELS))
    batch, rest = ((), ()) if places is None else (places[:1], places[1:])
    options: dict[str, Any] = call.maybe_weight((classes,))
    target = call.labels(batch + rest, classes)
    if data.draw(st.booleans()):
        options["ignore_index"] = data.draw(st.integers(-2, classes + 1))
    if name == "cross_entropy" and data.draw(st.booleans()):
        options["label_smoothing"] = data.draw(st.floats(0, 1))
    args = call.uniform((*batch, classes, *rest), -20, 0), target
    assert_parity(getattr(functional, name), getattr(torch_functional, name), args, options | call.reduction())


@EXAMPLES
@given(
    call=calls,
    classes=st.integers(1, 7),
    places=st.none() | shapes.filter(bool),
    smoothing=st.just(0.0) | st.floats(0, 1),
)
def test_probabilities(call: Call, classes: int, places: tuple[int, ...] | None, smoothing: float) -> None:
    """Probabilities need not sum to one."""
    shape = (classes,) if places is None else (places[0], classes, *places[1:])
    args = call.uniform(shape, -20, 20), call.uniform(shape, 0, 1)
    options = {"label_smoothing": smoothing, **call.maybe_weight((classes,)), **call.reduction()}
    assert_parity(functional.cross_entropy, torch_functional.cross_entropy, args, options)


@EXAMPLES
@given(call=calls, shape=shapes, full=st.booleans(), eps=positive)
def test_gaussian(call: Call, shape: tuple[int, ...], full: bool, eps: float) -> None:
    """Elements of the last axis, or all of them, may share a variance."""
    own = call.draw(st.sampled_from([shape, (*shape[:-1], 1), shape[:-1], ()] if shape else [()]))
    args = call.uniform(shape, -4, 4), call.uniform(shape, -4, 4), call.uniform(own, 0.1, 4)
    options = {"full": full, **call.draw(st.sampled_from([{}, {"eps": eps}])), **call.reduction()}
    assert_parity(functional.gaussian_nll_loss, torch_functional.gaussian_nll_loss, args, options)


@EXAMPLES
@given(call=calls, shape=shapes, log_input=st.booleans(), full=st.booleans(), eps=positive)
def test_poisson(call: Call, shape: tuple[int, ...], log_input: bool, full: bool, eps: float) -> None:
    """Counts, or numbers between them."""
    target = call.uniform(shape, 0, 9)
    args = call.uniform(shape, -4 if log_input else 0.01, 4), target.round() if call.draw(st.booleans()) else target
    options = {"log_input": log_input, "full": full, "eps": eps, **call.reduction()}
    assert_parity(functional.poisson_nll_loss, torch_functional.poisson_nll_loss, args, options)


@EXAMPLES
@given(call=calls, shape=shapes, log_target=st.booleans(), reduction=st.sampled_from([*REDUCTIONS, "batchmean"]))
@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides the total loss")
def test_divergence(call: Call, shape: tuple[int, ...], log_target: bool, reduction: str) -> None:
    """With respect to the target, too."""
    args = call.uniform(shape, -9, 0), call.uniform(shape, -9, 0) if log_target else call.uniform(shape, 0.01, 1)
    options = {"log_target": log_target, "reduction": reduction}
    assert_parity(functional.kl_div, torch_functional.kl_div, args, options)


@EXAMPLES
@given(call=calls, shape=shapes, name=st.sampled_from(SIGNED), margin=st.floats(-2, 2))
def test_signs(call: Call, shape: tuple[int, ...], name: str, margin: float) -> None:
    """Of one score, or of two."""
    target = call.uniform(shape, -1, 1)
    target = torch.where(target < 0, -1.0, 1.0).to(target)
    scores = [call.uniform(shape, -4, 4) for _ in range(2 if name == "margin_ranking_loss" else 1)]
    options = ({} if name == "soft_margin_loss" else {"margin": margin}) | call.reduction()
    assert_parity(getattr(functional, name), getattr(torch_functional, name), (*scores, target), options)


def torchvision_focal(
    input: torch.Tensor, target: torch.Tensor, alpha: float = 0.25, gamma: float = 2, reduction: str = "none"
) -> torch.Tensor:
    """Return the focal loss by the formula of `torchvision.ops.sigmoid_focal_loss`, which is not in torch."""
    entropy = torch_functional.binary_cross_entropy_with_logits(input, target, reduction="none")
    probability = torch.sigmoid(input)
    of_target = probability * target + (1 - probability) * (1 - target)
    loss = entropy * (1 - of_target) ** gamma
    if alpha >= 0:
        loss = (alpha * target + (1 - alpha) * (1 - target)) * loss
    return {"none": loss, "mean": loss.mean(), "sum": loss.sum()}[reduction]


@EXAMPLES
@given(
    call=calls,
    shape=shapes,
    alpha=st.just(-1.0) | st.floats(0, 1),
    gamma=st.sampled_from([0.0, 1.0, 2.0]) | st.floats(0.25, 4),
    hard=st.booleans(),
)
def test_focal(call: Call, shape: tuple[int, ...], alpha: float, gamma: float, hard: bool) -> None:
    """Of logits for which torchvision's formula loses few digits."""
    target = call.uniform(shape, 0, 1)
    args = call.uniform(shape, -6, 6), target.round() if hard else target
    options = {"alpha": alpha, "gamma": gamma, **call.reduction()}
    assert_parity(functional.sigmoid_focal_loss, torchvision_focal, args, options)


LARGE = [
    *(pytest.param(name, (3000,), None, id=name) for name in (*REGRESSION, *BINARY)),
    *(pytest.param(name, (70, 33, 5), None, id=f"{name}-3d") for name in (*REGRESSION, *BINARY)),
    *(pytest.param(name, (3000, 10), (3000,), id=f"{name}-rows") for name in LABELS),
    *(pytest.param(name, (7, 3000), (7,), id=f"{name}-classes") for name in LABELS),
    *(pytest.param(name, (3, 7, 2100), (3, 2100), id=f"{name}-places") for name in LABELS),
    pytest.param("cross_entropy", (50, 300), None, id="cross_entropy-probabilities"),
]


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("name", "shape", "labels"), LARGE)
def test_large(
    name: str, shape: tuple[int, ...], labels: tuple[int, ...] | None, dtype: torch.dtype, reduction: str
) -> None:
    """Sizes beyond a block of the kernels, none a multiple of it."""
    generator = torch.Generator().manual_seed(0)
    input, target = torch.rand(2, *shape, generator=generator, dtype=torch.float64).to(dtype)
    if labels is not None:
        target = torch.randint(shape[1], labels, generator=generator)
    elif name == "cross_entropy":
        target = target.softmax(1)
    if name != "binary_cross_entropy":
        input = 10 * (input - 1)
    assert_parity(getattr(functional, name), getattr(torch_functional, name), (input, target), {"reduction": reduction})
