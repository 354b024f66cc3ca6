"""Zeros, infinities and NaN, kinks and limits, and arguments that torch refuses but does not test: parity is the rule.

The exceptions to it are in `test_torch_differences`.
"""

import itertools
import math
from typing import Any

import pytest
import torch
from lossrs import functional
from torch.nn import functional as torch_functional

from .torch_calls import OPS, REDUCTIONS, SIGNED, agreed, arguments, assert_parity, our_function, to_numpy

INF, NAN = math.inf, math.nan
DTYPES = (torch.float64, torch.float32)
SPECIAL = (0.0, -0.0, 0.5, 1.0, -1.0, 1e-40, 1e30, -1e30, INF, -INF, NAN)
LABELS = torch.tensor([0, 1])


def pairs(
    inputs: tuple[float, ...], targets: tuple[float, ...], dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return every input with every target."""
    input, target = zip(*itertools.product(inputs, targets), strict=True)
    return torch.tensor(input, dtype=dtype), torch.tensor(target, dtype=dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mse_loss", {}),
        ("l1_loss", {}),
        ("huber_loss", {"delta": 0.75}),
        ("huber_loss", {"delta": 1e-3}),
        ("smooth_l1_loss", {"beta": 1.0}),
    ],
    ids=str,
)
def test_regression(name: str, options: dict[str, float], dtype: torch.dtype) -> None:
    """Differences may be zero, tiny, huge, infinite, or of infinities."""
    args = pairs(SPECIAL, SPECIAL, dtype)
    if name == "l1_loss":  # of NaN, see `test_torch_differences`
        kept = ~(args[0] - args[1]).isnan()
        args = args[0][kept], args[1][kept]
    assert_parity(getattr(functional, name), getattr(torch_functional, name), args, {**options, "reduction": "none"})


@pytest.mark.parametrize(
    ("dtype", "probabilities"),
    [
        (torch.float64, (1e-6, 0.5, 1 - 2**-24)),  # torch's bound is the float32 nearest to 1e-12 here too
        (torch.float32, (0.0, 1e-40, 1e-13, 1e-6, 0.5, 1 - 2**-24, 1.0)),
    ],
    ids=str,
)
def test_binary_cross_entropy(dtype: torch.dtype, probabilities: tuple[float, ...]) -> None:
    """Torch bounds the logarithm and, elsewhere, the gradient."""
    args = pairs(probabilities, (0.0, 0.25, 1.0), dtype)
    assert_parity(functional.binary_cross_entropy, torch_functional.binary_cross_entropy, args, {"reduction": "none"})


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("pos_weight", [None, 3.0])
def test_binary_cross_entropy_with_logits(dtype: torch.dtype, pos_weight: float | None) -> None:
    """Targets outside the unit interval are allowed, as they are in torch."""
    args = pairs((0.0, -0.0, 1e-40, 40.0, -40.0, 800.0, -800.0, 1e30, -1e30, NAN), (0.0, 0.25, 1.0, -1.0, 2.0), dtype)
    options = {} if pos_weight is None else {"pos_weight": torch.tensor(pos_weight, dtype=dtype)}
    loss = "binary_cross_entropy_with_logits"
    assert_parity(getattr(functional, loss), getattr(torch_functional, loss), args, {**options, "reduction": "none"})


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("log_input", [False, True])
def test_poisson(log_input: bool, full: bool, dtype: torch.dtype) -> None:
    """Means and their logarithms, counts that are large, and some that are no counts."""
    # Of a mean that overflows torch's loss is NaN, see `test_torch_differences`.
    inputs = (0.0, -0.0, 0.5, 1.0, 40.0, 1e-40, NAN, *((-1.0, -40.0, -1e30) if log_input else (1e30,)))
    args = pairs(inputs, (0.0, 0.5, 1.0, 2.0, 170.0, 1e10), dtype)
    options = {"log_input": log_input, "full": full, "eps": 2.0**-20, "reduction": "none"}
    assert_parity(functional.poisson_nll_loss, torch_functional.poisson_nll_loss, args, options)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("full", [False, True])
def test_gaussian(full: bool, dtype: torch.dtype) -> None:
    """Variances below the bound, too, where the slope is that at the bound."""
    input, var = pairs((0.0, 0.5, -3.0, 1e10, INF, NAN), (0.0, 1e-9, 1e-3, 1.0, 1e10, INF, NAN), dtype)
    options = {"full": full, "eps": 2.0**-12, "reduction": "none"}
    args = (input, torch.ones_like(input), var)
    assert_parity(functional.gaussian_nll_loss, torch_functional.gaussian_nll_loss, args, options)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("log_target", [False, True])
def test_divergence(log_target: bool, dtype: torch.dtype) -> None:
    """Probabilities that are not 0, and their logarithms."""
    targets = (-50.0, -1.0, 0.0, 2.0, NAN) if log_target else (1e-30, 0.5, 1.0, 2.0, NAN)
    args = pairs((0.0, -1.0, -50.0, -1e30, 1.0, NAN), targets, dtype)
    options = {"log_target": log_target, "reduction": "none"}
    assert_parity(functional.kl_div, torch_functional.kl_div, args, options)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", SIGNED)
def test_signs(name: str, dtype: torch.dtype) -> None:
    """On either side of the hinge, and on it."""
    finite = (0.0, -0.0, 0.5, 1.0, -1.0, 2.0, 1e-40, 20.0, -20.0)
    loss = getattr(functional, name)
    inputs = (*finite, NAN) if name == "soft_margin_loss" else (*finite, 1e30, -1e30, INF, -INF)
    input, target = pairs(inputs, (1.0, -1.0), dtype)
    others = (torch.full_like(input, 0.5),) if name == "margin_ranking_loss" else ()
    for options in [{}] if name == "soft_margin_loss" else [{"margin": margin} for margin in (0.0, 0.5, -1.0)]:
        reference = getattr(torch_functional, name)
        assert_parity(loss, reference, (input, *others, target), {**options, "reduction": "none"})


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
    """What a row holds stays in it."""
    args = torch.tensor([row, [1, 2, 3]], dtype=dtype), torch.tensor([label, 2])
    assert_parity(getattr(functional, name), getattr(torch_functional, name), args, {"reduction": "none"})


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("name", ["cross_entropy", "nll_loss"])
def test_all_ignored(name: str, reduction: str) -> None:
    """The mean over nothing is NaN, its gradient 0."""
    args = torch.rand(2, 3, dtype=torch.float64), torch.tensor([1, 1])
    assert_parity(
        getattr(functional, name), getattr(torch_functional, name), args, {"ignore_index": 1, "reduction": reduction}
    )


HALF = torch.full((2, 3), 0.5, dtype=torch.float64)
REFUSED: dict[str, tuple[str, tuple[Any, ...], dict[str, Any]]] = {
    **{
        f"BCE of {input} for {target}": ("binary_cross_entropy", pairs((input,), (target,), torch.float64), {})
        for input, target in [(-0.1, 0.0), (1.1, 0.0), (INF, 1.0), (0.5, -0.1), (0.5, 2.0)]
    },
    "smooth L1 beta below 0": ("smooth_l1_loss", (HALF, HALF), {"beta": -1.0}),
    "MSE weight that does not broadcast": ("mse_loss", (HALF, HALF), {"weight": HALF[:, 0]}),
    "BCE target of another shape": ("binary_cross_entropy", (HALF, HALF[0]), {}),
    "BCE with logits, target of another shape": ("binary_cross_entropy_with_logits", (HALF, HALF[0]), {}),
    "BCE with logits, weight that does not broadcast": (
        "binary_cross_entropy_with_logits",
        (HALF, HALF),
        {"weight": HALF[:, 0]},
    ),
    "BCE with logits, pos_weight that does not broadcast": (
        "binary_cross_entropy_with_logits",
        (HALF, HALF),
        {"pos_weight": HALF[:, 0]},
    ),
    "Gaussian var below 0": ("gaussian_nll_loss", (HALF, HALF, HALF - 1), {}),
    "Gaussian var of another shape": ("gaussian_nll_loss", (HALF, HALF, HALF[:, :2]), {}),
    "Gaussian var of too many axes": ("gaussian_nll_loss", (HALF, HALF, HALF[..., None]), {}),
    "KL of another shape": ("kl_div", (HALF, HALF[0, :2]), {"reduction": "sum"}),
    "soft margin of another shape": ("soft_margin_loss", (HALF, HALF[0, :2]), {}),
    "ranking of other dimensions": ("margin_ranking_loss", (HALF, HALF[0], HALF), {}),
    "CE labels in a column": ("cross_entropy", (HALF, LABELS[:, None]), {}),
    "CE integers of the input's shape": ("cross_entropy", (HALF, torch.zeros(2, 3, dtype=torch.long)), {}),
    "CE weight in two dimensions": ("cross_entropy", (HALF, LABELS), {"weight": HALF}),
    "CE of a number": ("cross_entropy", (HALF[0, 0], LABELS[0]), {}),
    "CE of no class": ("cross_entropy", (HALF[:, :0], LABELS), {}),
    "NLL probabilities": ("nll_loss", (HALF, HALF), {}),
    "NLL labels in a column": ("nll_loss", (HALF, LABELS[:, None]), {}),
    "NLL one label too many": ("nll_loss", (HALF, torch.tensor([0, 1, 2])), {}),
    "NLL weight of another number of classes": ("nll_loss", (HALF, LABELS), {"weight": HALF[0, :2]}),
}


@pytest.mark.parametrize("which", REFUSED)
def test_refused(which: str) -> None:
    """What torch refuses is a ValueError or TypeError."""
    name, args, kwargs = REFUSED[which]
    with pytest.raises((RuntimeError, ValueError, IndexError)):
        getattr(torch_functional, name)(*args, **kwargs)
    with pytest.raises((ValueError, TypeError)):
        getattr(functional, name)(*map(to_numpy, args), **{option: to_numpy(value) for option, value in kwargs.items()})


@pytest.mark.parametrize("reduction", ["avg", "elementwise_mean", "", "MEAN", None, 1])
@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name.removeprefix("nn.functional."))
def test_reduction(op: Any, reduction: object) -> None:
    """An unknown reduction is a ValueError in torch too; `elementwise_mean` is its deprecated name of the mean."""
    sample = next(iter(op.sample_inputs("cpu", torch.float64)))
    args = agreed(our_function(op), (sample.input, *sample.args))
    if reduction != "elementwise_mean":
        # Some add what is no string to their message.
        with pytest.raises((ValueError, TypeError), match=r"not (a )?valid|unsupported operand|Expected a type of str"):
            op.op(*args, **{**sample.kwargs, "reduction": reduction})
    arrays, options = arguments(args, sample.kwargs)
    with pytest.raises((ValueError, TypeError), match="reduction"):
        our_function(op)(*arrays, **options | {"reduction": reduction})
