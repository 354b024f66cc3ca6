"""Where lossrs means to differ from torch: torch's behaviour and ours, side by side, both run here.

A test fails when torch changes its mind as well as when we do: the documentation of the loss would then be out of date.
"""

import contextlib
import inspect
import math
import warnings
from collections.abc import Callable
from typing import Any

import lossrs
import numpy as np
import pytest
import torch
from lossrs import functional
from lossrs.definitions.pointwise import PointwiseLoss
from torch.nn import functional as torch_functional

from .torch_calls import REDUCTIONS, SIGNED, TORCH_LOSSES, assert_parity, to_numpy, torch_value_and_gradients

INF, NAN = math.inf, math.nan
LABEL_LOSSES = ("cross_entropy", "nll_loss")
INTEGERS = (np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64, np.bool_)


def torch_gradient(function: Callable[..., torch.Tensor], *args: Any, **kwargs: Any) -> tuple[float, np.ndarray]:
    """Return torch's value and gradient."""
    value, (gradient,) = torch_value_and_gradients(function, args, kwargs)
    return float(value), gradient.numpy()


def our_gradient(name: str, *args: Any, **kwargs: Any) -> tuple[Any, np.ndarray]:
    """Return our value and gradient, of the arguments of torch."""
    return getattr(functional, name).value_and_grad(
        *map(to_numpy, args), **{option: to_numpy(value) for option, value in kwargs.items()}
    )


def logits(*rows: list[float]) -> torch.Tensor:
    """Return a matrix in float64."""
    return torch.tensor(rows, dtype=torch.float64)


def broadcasts(name: str) -> bool:
    """Tell whether torch broadcasts the target of a loss."""
    with warnings.catch_warnings(action="ignore"):
        try:
            return getattr(torch_functional, name)(torch.rand(3, 4), torch.rand(4), reduction="none").shape == (3, 4)
        except (RuntimeError, ValueError, TypeError, IndexError):
            return False


# Those of an input and a target alone.
PAIRED = [name for name, cls in lossrs.losses.items() if cls()._kernel.operands == ("input", "target")]
BROADCASTING = [name for name in lossrs.losses if name in TORCH_LOSSES and broadcasts(name)]


def test_some_broadcast() -> None:
    """`BROADCASTING` has at least these."""
    assert {"mse_loss", "l1_loss", "huber_loss", "smooth_l1_loss"} <= set(BROADCASTING)


@pytest.mark.parametrize("shapes", [((3, 4), (1, 4)), ((3, 4), (4,)), ((4, 1), (4,)), ((4,), ()), ((), (1,))], ids=str)
@pytest.mark.parametrize("name", BROADCASTING)
def test_shapes_differ(name: str, shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    """Torch broadcasts, which is hardly ever what was meant; of some losses it warns. We refuse."""
    input, target = (torch.rand(shape) for shape in shapes)
    warns = name in ("mse_loss", "l1_loss", "huber_loss", "smooth_l1_loss")
    # That of the soft margin spreads targets alone.
    refuses = name == "soft_margin_loss" and shapes[0] != np.broadcast_shapes(*shapes)
    with (
        pytest.warns(UserWarning, match="target size")
        if warns
        else pytest.raises(RuntimeError, match="shape")
        if refuses
        else contextlib.nullcontext()
    ):
        assert getattr(torch_functional, name)(input, target, reduction="none").shape == np.broadcast_shapes(*shapes)
    with pytest.raises(ValueError, match="shape"):
        getattr(functional, name)(input.numpy(), target.numpy())


@pytest.mark.parametrize("label", [3, 12, -1])
@pytest.mark.parametrize("name", LABEL_LOSSES)
def test_label_out_of_range(name: str, label: int) -> None:
    """Torch's IndexError names the label; our ValueError the row as well."""
    labels = torch.tensor([0, 1, label, 2])
    with pytest.raises(IndexError, match=f"^Target {label} is out of bounds.$"):
        getattr(torch_functional, name)(torch.zeros(4, 3), labels)
    with pytest.raises(ValueError, match=rf"{label} at row 2\b.*\[0, 3\)"):
        getattr(functional, name)(np.zeros((4, 3)), labels.numpy())


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("name", LABEL_LOSSES)
def test_label_dtype(name: str, dtype: type) -> None:
    """Torch takes int64 and uint8; we take every integer dtype and bool."""
    scores, labels = np.log([[0.2, 0.3, 0.5], [0.1, 0.6, 0.3]]), np.array([0, 1])
    expected = getattr(torch_functional, name)(torch.from_numpy(scores), torch.from_numpy(labels)).item()
    if dtype not in (np.int64, np.uint8):
        with pytest.raises(RuntimeError, match="Long or Byte"):
            getattr(torch_functional, name)(torch.from_numpy(scores), torch.from_numpy(labels.astype(dtype)))
    assert getattr(functional, name)(scores, labels.astype(dtype)) == pytest.approx(expected, rel=1e-15)


def test_nan_in_ignored_row() -> None:
    """Torch's loss does without the row, but its gradient is 0·NaN; ours is 0."""
    args = logits([1, NAN, 2], [0, 1, 2]), torch.tensor([-100, 1])
    value, gradient = torch_gradient(torch_functional.cross_entropy, *args)
    assert math.isfinite(value)
    assert np.isnan(gradient[0]).all()
    ours, our_grad = our_gradient("cross_entropy", *args)
    assert ours == pytest.approx(value, rel=1e-15)
    assert not our_grad[0].any()
    np.testing.assert_allclose(our_grad[1], gradient[1], rtol=1e-14)


@pytest.mark.parametrize(
    ("name", "first_input", "other_input"),
    [
        ("cross_entropy", [NAN, 0, 2], [0, 1, 2]),
        ("nll_loss", [NAN, 0, 2], [0, -1, -2]),
        ("binary_cross_entropy_with_logits", [NAN, INF, -INF], [0, 1, 2]),
        ("mse_loss", [NAN, INF, -INF], [0, 1, 2]),
        ("l1_loss", [NAN, INF, -INF], [0, 1, 2]),
        ("huber_loss", [NAN, INF, -INF], [0, 1, 2]),
    ],
)
def test_not_finite_under_weight_zero(name: str, first_input: list[float], other_input: list[float]) -> None:
    """Torch multiplies by the weight, and 0·NaN is NaN; to us a weight of 0 removes the sample, whatever it holds."""
    input = logits(first_input, other_input)
    if name in LABEL_LOSSES:
        target, weight = torch.tensor([0, 1]), torch.tensor([0, 1, 1], dtype=torch.float64)
    else:
        target, weight = torch.zeros(2, 3, dtype=torch.float64), logits([0, 0, 0], [1, 1, 1])
    assert math.isnan(torch_gradient(getattr(torch_functional, name), input, target, weight=weight, reduction="sum")[0])
    ours, gradient = our_gradient(name, input, target, weight=weight, reduction="sum")
    expected, expected_gradient = our_gradient(name, input[1:], target[1:], reduction="sum")
    assert ours == expected
    assert not gradient[0].any()
    np.testing.assert_array_equal(gradient[1:], expected_gradient)


@pytest.mark.parametrize("name", LABEL_LOSSES)
def test_mean_over_weights_of_zero(name: str) -> None:
    """The mean is NaN to both; the gradient of samples of weight 0 is 0 all the same, where torch divides 0 by 0."""
    args, weight = (logits([0, 1, 2], [3, 4, 5]), torch.tensor([1, 1])), torch.zeros(3, dtype=torch.float64)
    value, gradient = torch_gradient(getattr(torch_functional, name), *args, weight=weight)
    assert math.isnan(value)
    assert np.isnan(gradient[:, 1]).all()
    ours, our_grad = our_gradient(name, *args, weight=weight)
    assert math.isnan(ours)
    assert not our_grad.any()


@pytest.mark.parametrize(("name", "options"), [("l1_loss", {}), ("smooth_l1_loss", {"beta": 0.0})])
def test_slope_at_nan(name: str, options: dict[str, float]) -> None:
    """Torch's sign of NaN is 0; we don't hide a NaN from who looks at gradients only."""
    args = logits([NAN, 1.0, INF]), logits([0.0, NAN, INF])
    value, gradient = torch_gradient(getattr(torch_functional, name), *args, **options, reduction="sum")
    assert math.isnan(value)
    assert not gradient.any()
    ours, our_grad = our_gradient(name, *args, **options, reduction="sum")
    assert math.isnan(ours)
    assert np.isnan(our_grad).all()


@pytest.mark.parametrize(("input", "target"), [(NAN, 0.0), (0.5, NAN)])
def test_probability_of_nan(input: float, target: float) -> None:
    """Torch refuses a NaN as it does 1.5; to us one NaN in a batch is the NaN of its own loss."""
    args = logits([input, 0.25]), logits([target, 1.0])
    with pytest.raises(RuntimeError, match="between 0 and 1"):
        torch_functional.binary_cross_entropy(*args)
    ours, our_grad = our_gradient("binary_cross_entropy", *args, reduction="none")
    np.testing.assert_allclose(ours, [[NAN, math.log(4)]], rtol=1e-15)
    np.testing.assert_allclose(our_grad, [[NAN, -4.0]], rtol=1e-15)


@pytest.mark.parametrize("name", ["mse_loss", "l1_loss", "huber_loss"])
def test_weight_broadcasts(name: str) -> None:
    """Torch broadcasts the weights of its binary cross-entropies, but not these; we broadcast every weight."""
    input, target, weight = logits([1, 2, 3], [4, 5, 6]), logits([0, 0, 0], [1, 1, 1]), logits([1, 2, 4])
    with pytest.raises((RuntimeError, ValueError)):
        getattr(torch_functional, name)(input, target, weight=weight)
    ours, our_grad = our_gradient(name, input, target, weight=weight)
    expected, gradient = torch_gradient(getattr(torch_functional, name), input, target, weight=weight.expand(2, 3))
    assert ours == pytest.approx(expected, rel=1e-15)
    np.testing.assert_allclose(our_grad, gradient, rtol=1e-15)


@pytest.mark.parametrize("name", LABEL_LOSSES)
def test_weight_dtype(name: str) -> None:
    """Torch wants class weights in the input's dtype; we take them to the type of the computation."""
    input, labels, weight = (
        torch.log_softmax(torch.arange(6.0).reshape(2, 3), 1),
        torch.tensor([0, 1]),
        logits([1, 2, 4])[0],
    )
    with pytest.raises(RuntimeError, match="scalar type"):
        getattr(torch_functional, name)(input, labels, weight=weight)
    ours, our_grad = our_gradient(name, input, labels, weight=weight)
    expected, gradient = torch_gradient(getattr(torch_functional, name), input, labels, weight=weight.float())
    assert ours == pytest.approx(expected, rel=2e-7)
    assert our_grad.dtype == np.float32
    np.testing.assert_allclose(our_grad, gradient, atol=2e-7)


def operands(name: str, input: torch.Tensor, target: torch.Tensor) -> list[torch.Tensor]:
    """Return arguments of any loss."""
    known = {"input": input, "input1": input, "input2": 1 - input, "target": target, "var": input + 1}
    return [known[operand] for operand in lossrs.losses[name]()._kernel.operands]


ELEMENTWISE = [
    name
    for name, cls in lossrs.losses.items()
    if name in TORCH_LOSSES and issubclass(cls, PointwiseLoss) and "target" in cls()._kernel.operands
]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.int64, torch.bool], ids=str)
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_target_dtype(name: str, dtype: torch.dtype) -> None:
    """Torch promotes or refuses, each loss in its own way; we compute in the input's type."""
    input, target = torch.tensor([0.25, 0.5, 0.75]), torch.tensor([int(name in SIGNED), 1, 1]).to(dtype)
    options = {"reduction": "none"} | ({"margin": 1.0} if name == "margin_ranking_loss" else {})
    expected, (gradient,) = torch_value_and_gradients(
        getattr(torch_functional, name), operands(name, input, target.float()), options
    )
    ours, our_grad = our_gradient(name, *operands(name, input, target), **options)
    our_grad = our_grad[0] if isinstance(our_grad, tuple) else our_grad
    assert ours.dtype == our_grad.dtype == np.float32
    np.testing.assert_allclose(ours, expected, rtol=1e-6)
    np.testing.assert_allclose(our_grad, gradient, rtol=1e-6)


def test_impossible_class_of_probability_zero() -> None:
    """A logit of -inf where the target's probability is 0: 0·inf is 0."""
    args = logits([-INF, 0, 1]), logits([0, 0.5, 0.5])
    assert math.isnan(torch_gradient(torch_functional.cross_entropy, *args)[0])
    ours, gradient = our_gradient("cross_entropy", *args)
    expected, expected_gradient = torch_gradient(torch_functional.cross_entropy, args[0][:, 1:], args[1][:, 1:])
    assert ours == pytest.approx(expected, rel=1e-15)
    np.testing.assert_allclose(gradient, [[0, *expected_gradient[0]]], rtol=1e-14)


@pytest.mark.parametrize("weight", [None, [1.0, 2.0, 3.0]])
def test_impossible_class_with_label_smoothing(weight: list[float] | None) -> None:
    """Torch gives the impossible class a share of the smoothing, hence inf; we share it among the possible ones."""
    args, label = logits([-INF, 0, 1]), torch.tensor([1])
    weights = None if weight is None else torch.tensor(weight, dtype=torch.float64)
    assert torch_gradient(torch_functional.cross_entropy, args, label, weight=weights, label_smoothing=0.2)[0] == INF
    ours, gradient = our_gradient("cross_entropy", args, label, weight=weights, label_smoothing=0.2)
    possible = None if weights is None else weights[1:]
    expected, expected_gradient = torch_gradient(
        torch_functional.cross_entropy, args[:, 1:], label - 1, weight=possible, label_smoothing=0.2
    )
    assert ours == pytest.approx(expected, rel=1e-15)
    np.testing.assert_allclose(gradient, [[0, *expected_gradient[0]]], rtol=1e-14, atol=1e-16)


@pytest.mark.parametrize(("logit", "target"), [(INF, 1), (-INF, 0), (INF, 0), (-INF, 1)])
def test_infinite_logit(logit: float, target: float) -> None:
    """Binary cross-entropy of an infinite logit: the limit, where torch says nan unless it is (inf, 0)."""
    args = logits([logit]), logits([target])
    theirs, gradient = torch_gradient(torch_functional.binary_cross_entropy_with_logits, *args)
    right = (logit > 0) == (target > 0)
    assert theirs == INF if (logit, target) == (INF, 0) else math.isnan(theirs)
    ours, our_grad = our_gradient("binary_cross_entropy_with_logits", *args)
    assert ours == (0 if right else INF)
    np.testing.assert_array_equal(our_grad, gradient)


@pytest.mark.parametrize("name", LABEL_LOSSES)
def test_mean_of_many_halves(name: str) -> None:
    """Torch adds 70,000 float16 losses and weights up in float16, beyond its largest number; our sums are exact."""
    input, labels = torch.full((70_000, 3), -1.1, dtype=torch.float16), torch.zeros(70_000, dtype=torch.long)
    assert not math.isfinite(getattr(torch_functional, name)(input, labels))
    expected = getattr(torch_functional, name)(input[:1].double(), labels[:1]).item()
    assert getattr(functional, name)(input.numpy(), labels.numpy()) == pytest.approx(expected, rel=2**-22)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("name", ["mse_loss", "l1_loss", "huber_loss"])
def test_weighted_mean(name: str, reduction: str) -> None:
    """Not a difference: like torch, we divide by the weights in MSE and L1, and by their number in Huber."""
    generator = torch.Generator().manual_seed(0)
    input, target, weight = torch.rand(3, 4, 5, generator=generator, dtype=torch.float64)
    assert_parity(
        getattr(functional, name),
        getattr(torch_functional, name),
        (input, target),
        {"weight": weight, "reduction": reduction},
    )


@pytest.mark.parametrize("label_smoothing", [-0.1, 1.5, NAN])
def test_label_smoothing_outside_unit_interval(label_smoothing: float) -> None:
    """Torch takes what is not above 0 for none at all."""
    input, labels = torch.rand(2, 3), torch.tensor([0, 1])
    if label_smoothing > 1:
        with pytest.raises(RuntimeError, match="label_smoothing"):
            torch_functional.cross_entropy(input, labels, label_smoothing=label_smoothing)
    else:
        smoothed = torch_functional.cross_entropy(input, labels, label_smoothing=label_smoothing)
        assert smoothed == torch_functional.cross_entropy(input, labels)
    with pytest.raises(ValueError, match="label_smoothing"):
        functional.cross_entropy(input.numpy(), labels.numpy(), label_smoothing=label_smoothing)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_soft_margin_far_on_the_wrong_side(sign: float) -> None:
    """Torch's exponential overflows, and its gradient is infinity over infinity."""
    args = logits([-1000 * sign]), logits([sign])
    value, gradient = torch_gradient(torch_functional.soft_margin_loss, *args)
    assert value == INF
    assert np.isnan(gradient).all()
    ours, our_grad = our_gradient("soft_margin_loss", *args)
    assert ours == 1000
    np.testing.assert_array_equal(our_grad, [[-sign]])


@pytest.mark.parametrize("target", [0.0, 0.5, -2.0, NAN])
@pytest.mark.parametrize("name", SIGNED)
def test_signs(name: str, target: float) -> None:
    """Torch takes any number for a sign; we take 1 and -1, so that labels of 0 and 1 are not taken for signs."""
    args = operands(name, logits([0.25, 0.5]), logits([target, 1.0]))
    getattr(torch_functional, name)(*args)
    with pytest.raises(lossrs.DomainError, match=r"target .* at row \(0, 0\) is neither 1 nor -1"):
        our_gradient(name, *args)


@pytest.mark.parametrize("target", [1.0, -1.0])
@pytest.mark.parametrize("name", ["hinge_embedding_loss", "margin_ranking_loss"])
def test_hinge_of_nan(name: str, target: float) -> None:
    """Torch's slope is that of either line, although the loss is NaN."""
    args = operands(name, logits([NAN]), logits([target]))
    value, gradient = torch_gradient(getattr(torch_functional, name), *args)
    assert math.isnan(value)
    assert np.isfinite(gradient).all()
    ours, our_grad = our_gradient(name, *args)
    assert math.isnan(ours)
    assert np.isnan(our_grad).all()


@pytest.mark.parametrize("input", [INF, -INF])
@pytest.mark.parametrize(("target", "log_target"), [(0.0, False), (-INF, True)])
def test_divergence_of_probability_zero(target: float, log_target: bool, input: float) -> None:
    """A class that can't come has no share in the divergence, whatever its prediction is; torch multiplies."""
    args = logits([input, -1.0]), logits([target, -0.5 if log_target else 0.5])
    assert math.isnan(torch_gradient(torch_functional.kl_div, *args, log_target=log_target, reduction="sum")[0])
    ours, gradient = our_gradient("kl_div", *args, log_target=log_target, reduction="sum")
    rest = args[0][:, 1:], args[1][:, 1:]
    expected, slope = torch_gradient(torch_functional.kl_div, *rest, log_target=log_target, reduction="sum")
    assert ours == pytest.approx(expected, rel=1e-15)
    np.testing.assert_allclose(gradient, [[0, *slope[0]]], rtol=1e-15)


def test_slope_of_the_divergence_at_probability_zero() -> None:
    """With respect to the target: the limit, where torch divides 0 by 0."""
    args = logits([-1.0]), logits([0.0])
    _, (gradient,) = torch_value_and_gradients(torch_functional.kl_div, args, {"reduction": "sum"}, (1,))
    assert gradient.isnan().all()
    assert functional.kl_div.backward(1.0, *map(to_numpy, args), wrt="target") == -INF


@pytest.mark.parametrize(("input", "log_input"), [(-INF, True), (0.0, False)])
def test_count_of_zero_at_mean_zero(input: float, log_input: bool) -> None:
    """It is certain to come: 0 times the logarithm of 0 is 0."""
    args, options = (logits([input]), logits([0.0])), {"log_input": log_input, "eps": 0.0}
    assert math.isnan(torch_gradient(torch_functional.poisson_nll_loss, *args, **options)[0])
    ours, gradient = our_gradient("poisson_nll_loss", *args, **options)
    assert ours == 0
    np.testing.assert_array_equal(gradient, [[float(not log_input)]])


@pytest.mark.parametrize("log_input", [False, True])
def test_infinite_mean(log_input: bool) -> None:
    """The mean grows faster than its logarithm, so their difference is infinite; torch has infinity less infinity."""
    args = logits([INF]), logits([2.0])
    assert math.isnan(torch_gradient(torch_functional.poisson_nll_loss, *args, log_input=log_input)[0])
    ours, gradient = our_gradient("poisson_nll_loss", *args, log_input=log_input)
    assert ours == INF
    np.testing.assert_array_equal(gradient, [[INF if log_input else 1.0]])


def test_variance_along_another_axis() -> None:
    """Torch broadcasts a variance along any one axis; to us elements of the last one may share it."""
    input, var = torch.ones(3, 4, 2), torch.ones(3, 1, 2)
    torch_functional.gaussian_nll_loss(input, input, var)
    with pytest.raises(ValueError, match=r"var has shape \(3, 1, 2\); expected the input's, \(3, 4, 2\)"):
        functional.gaussian_nll_loss(input.numpy(), input.numpy(), var.numpy())


@pytest.mark.parametrize("flag", ["size_average", "reduce"])
@pytest.mark.parametrize("name", [name for name in lossrs.losses if name in TORCH_LOSSES])
def test_deprecated_flags(name: str, flag: str) -> None:
    """We have only `reduction`."""
    if flag in inspect.signature(getattr(torch_functional, name)).parameters:
        with pytest.raises(TypeError, match=flag):
            getattr(functional, name)(*[np.zeros((2, 3))] * len(lossrs.losses[name]()._kernel.operands), **{flag: True})
