"""Zeros, infinities and NaN, kinks and limits, and arguments that torch refuses but does not test: parity is the rule.

The exceptions to it are in `test_torch_differences`.
"""

import itertools
import math
from typing import Any

import lossrs.functional as F
import pytest
import torch
import torch.nn.functional as T

from .torch_calls import OPS, REDUCTIONS, assert_parity, our_function, to_numpy

INF, NAN = math.inf, math.nan
DTYPES = (torch.float64, torch.float32)
SPECIAL = (0.0, -0.0, 0.5, 1.0, -1.0, 1e-40, 1e30, -1e30, INF, -INF, NAN)
LABELS = torch.tensor([0, 1])


def pairs(
    inputs: tuple[float, ...], targets: tuple[float, ...], dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    input, target = zip(*itertools.product(inputs, targets), strict=True)
    return torch.tensor(input, dtype=dtype), torch.tensor(target, dtype=dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mse_loss", {}),
        ("l1_loss", {}),
        ("huber_loss", {"delta": 1.0}),
        ("huber_loss", {"delta": 1e-3}),
        ("smooth_l1_loss", {"beta": 1.0}),
        ("smooth_l1_loss", {"beta": 0.0}),
    ],
    ids=str,
)
def test_regression(name: str, options: dict[str, float], dtype: torch.dtype) -> None:
    args = pairs(SPECIAL, SPECIAL, dtype)
    assert_parity(getattr(F, name), getattr(T, name), args, {**options, "reduction": "none"})


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_binary_cross_entropy(dtype: torch.dtype) -> None:
    """Torch bounds the logarithm and, elsewhere, the gradient."""
    args = pairs((0.0, 1e-40, 1e-13, 1e-6, 0.5, 1 - 2**-24, 1.0), (0.0, 0.25, 1.0), dtype)
    assert_parity(F.binary_cross_entropy, T.binary_cross_entropy, args, {"reduction": "none"})


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("pos_weight", [None, 3.0])
def test_binary_cross_entropy_with_logits(dtype: torch.dtype, pos_weight: float | None) -> None:
    """Targets outside the unit interval are allowed, as they are in torch."""
    args = pairs((0.0, -0.0, 1e-40, 40.0, -40.0, 800.0, -800.0, 1e30, -1e30, NAN), (0.0, 0.25, 1.0, -1.0, 2.0), dtype)
    options = {} if pos_weight is None else {"pos_weight": torch.tensor(pos_weight, dtype=dtype)}
    loss = "binary_cross_entropy_with_logits"
    assert_parity(getattr(F, loss), getattr(T, loss), args, {**options, "reduction": "none"})


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize(
    "row",
    [
        [NAN, 0, 0],
        [INF, 0, 0],
        [INF, INF, 0],
        [-INF, -INF, -INF],
        [-INF, 0, 0],
        [0, 0, 0],
        [1e4, -1e4, 0],
        [1e30, 0, -1e30],
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["cross_entropy", "nll_loss"])
def test_labels(name: str, row: list[float], label: int, dtype: torch.dtype) -> None:
    args = torch.tensor([row, [1, 2, 3]], dtype=dtype), torch.tensor([label, 2])
    assert_parity(getattr(F, name), getattr(T, name), args, {"reduction": "none"})


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("name", ["cross_entropy", "nll_loss"])
@pytest.mark.parametrize(
    "options", [{"ignore_index": 1}, {"weight": torch.zeros(3, dtype=torch.float64)}], ids=["ignored", "weightless"]
)
def test_nothing_left(name: str, options: dict[str, Any], reduction: str) -> None:
    """The mean over nothing is NaN."""
    args = torch.rand(2, 3, dtype=torch.float64), torch.tensor([1, 1])
    assert_parity(getattr(F, name), getattr(T, name), args, {**options, "reduction": reduction})


half = torch.full((2, 3), 0.5, dtype=torch.float64)
REFUSED: dict[str, tuple[str, tuple[Any, ...], dict[str, Any]]] = {
    **{
        f"BCE of {input} for {target}": ("binary_cross_entropy", pairs((input,), (target,), torch.float64), {})
        for input, target in [(-0.1, 0.0), (1.1, 0.0), (NAN, 0.0), (INF, 1.0), (0.5, -0.1), (0.5, 2.0), (0.5, NAN)]
    },
    "smooth L1 beta below 0": ("smooth_l1_loss", (half, half), {"beta": -1.0}),
    "MSE weight of another shape": ("mse_loss", (half, half), {"weight": half[0]}),
    "L1 weight of another shape": ("l1_loss", (half, half), {"weight": half[0]}),
    "Huber weight of another shape": ("huber_loss", (half, half), {"weight": half[0]}),
    "BCE target of another shape": ("binary_cross_entropy", (half, half[0]), {}),
    "BCE with logits, target of another shape": ("binary_cross_entropy_with_logits", (half, half[0]), {}),
    "BCE with logits, weight that does not broadcast": (
        "binary_cross_entropy_with_logits",
        (half, half),
        {"weight": half[:, 0]},
    ),
    "BCE with logits, pos_weight that does not broadcast": (
        "binary_cross_entropy_with_logits",
        (half, half),
        {"pos_weight": half[:, 0]},
    ),
    "CE labels in a column": ("cross_entropy", (half, LABELS[:, None]), {}),
    "CE integers of the input's shape": ("cross_entropy", (half, torch.zeros(2, 3, dtype=torch.long)), {}),
    "CE weight in two dimensions": ("cross_entropy", (half, LABELS), {"weight": half}),
    "CE of a number": ("cross_entropy", (half[0, 0], LABELS[0]), {}),
    "CE of no class": ("cross_entropy", (half[:, :0], LABELS), {}),
    "NLL probabilities": ("nll_loss", (half, half), {}),
    "NLL labels in a column": ("nll_loss", (half, LABELS[:, None]), {}),
    "NLL one label too many": ("nll_loss", (half, torch.tensor([0, 1, 2])), {}),
    "NLL weight of another number of classes": ("nll_loss", (half, LABELS), {"weight": half[0, :2]}),
}


@pytest.mark.parametrize("which", REFUSED)
def test_refused(which: str) -> None:
    name, args, kwargs = REFUSED[which]
    with pytest.raises((RuntimeError, ValueError, IndexError)):
        getattr(T, name)(*args, **kwargs)
    with pytest.raises((ValueError, TypeError)):
        getattr(F, name)(*map(to_numpy, args), **{option: to_numpy(value) for option, value in kwargs.items()})


@pytest.mark.parametrize("reduction", ["avg", "elementwise_mean", "", "MEAN", None, 1])
@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name.removeprefix("nn.functional."))
def test_reduction(op: Any, reduction: object) -> None:
    """An unknown reduction is a ValueError in torch too; `elementwise_mean` is its deprecated name of the mean."""
    sample = next(iter(op.sample_inputs("cpu", torch.float64)))
    args = (sample.input, *sample.args)
    if reduction != "elementwise_mean":
        with pytest.raises(ValueError, match="not a valid value for reduction"):
            op.op(*args, **{**sample.kwargs, "reduction": reduction})
    with pytest.raises((ValueError, TypeError), match="reduction"):
        our_function(op)(*map(to_numpy, args), **{**sample.kwargs, "reduction": reduction})
