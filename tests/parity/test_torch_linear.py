"""torch's samples of `linear_cross_entropy`: those with labels and one axis of classes, whatever its chunks."""

from typing import Any

import lossrs
import lossrs.functional as F
import numpy as np
import pytest
import torch
from torch.testing._internal.opinfo.core import OpInfo, SampleInput

from .torch_calls import (
    ARRAY,
    DTYPES,
    LAYER_OPS,
    NATIVE,
    REDUCTIONS,
    VALUE,
    Tolerance,
    arguments,
    assert_array,
    assert_close,
    seed,
    widened,
)


def samples(op: OpInfo, dtype: torch.dtype) -> list[SampleInput]:
    """Return the samples that are calls of ours."""
    seed(op.full_name, dtype)
    return [
        sample
        for sample in op.reference_inputs("cpu", dtype, requires_grad=False)
        if sample.args[0].ndim == 2 and not sample.args[1].is_floating_point()
    ]


CASES = [
    pytest.param(op, sample, id=f"{op.variant_test_name or 'default'}-{str(dtype)[6:]}-{at}")
    for op in LAYER_OPS
    for dtype in DTYPES
    if dtype in op.supported_backward_dtypes("cpu")
    for at, sample in enumerate(samples(op, dtype))
]


def torch_value_and_gradients(
    sample: SampleInput, kwargs: dict[str, Any], grad_output: torch.Tensor | None = None
) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
    """Return torch's value without chunks, and its gradients in the input, the weight and, if it is there, the bias."""
    kwargs = {name: value for name, value in kwargs.items() if name != "options"}
    leaves = [array.detach().clone().requires_grad_() for array in (sample.input, sample.args[0])]
    bias = kwargs.pop("linear_bias", None)
    if bias is not None:
        leaves.append(bias.detach().clone().requires_grad_())
    value = torch.nn.functional.linear_cross_entropy(
        *leaves[:2], sample.args[1], linear_bias=leaves[2] if bias is not None else None, **kwargs
    )
    ones = torch.ones_like(value) if grad_output is None else grad_output
    return value.detach(), torch.autograd.grad(value, leaves, ones)


def tolerance(sample: SampleInput, dtype: torch.dtype, reduced: bool) -> Tolerance:
    """Return what the rounding of the sample's logits leaves of a loss near zero; `ARRAY` has it of magnitude 10."""
    largest = (widened(sample.input).abs() @ widened(sample.args[0]).abs().T).max().item()
    bias = sample.kwargs.get("linear_bias")
    largest += 0 if bias is None else bias.abs().max().item()
    rtol, atol = (VALUE if reduced else ARRAY)[dtype]
    return Tolerance(rtol, atol * max(1, largest / 10))


def wide(sample: SampleInput) -> SampleInput:
    """Return a sample in float64."""
    return SampleInput(widened(sample.input), args=tuple(map(widened, sample.args)))


@pytest.mark.parametrize(("op", "sample"), CASES)
def test_op(op: OpInfo, sample: SampleInput) -> None:
    """Value, gradients and product are torch's, in the sample's reduction and in the others."""
    dtype = sample.input.dtype
    for kwargs in [sample.kwargs, *({**sample.kwargs, "reduction": reduction} for reduction in REDUCTIONS)]:
        known = {name: value for name, value in kwargs.items() if value is not None}
        arrays, options = arguments((sample.input, *sample.args), known)
        options.pop("options", None)
        value, gradients = F.linear_cross_entropy.value_and_grad(*arrays, **options)
        assert np.array_equal(value, F.linear_cross_entropy(*arrays, **options), equal_nan=True)
        wide_options = {name: widened(option) for name, option in known.items()}
        expected, expected_gradients = torch_value_and_gradients(wide(sample), wide_options)
        reduced = isinstance(value, float)
        assert reduced == (kwargs.get("reduction") != "none")
        assert_close(value, expected if reduced else expected.to(dtype), tolerance(sample, dtype, reduced), "value")
        for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
            assert_array(gradient, expected_gradient, dtype, "gradient", tolerance(sample, dtype, False))
        grad_output = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1)).to(dtype)
        product = F.linear_cross_entropy.backward(arguments([grad_output], {})[0][0], *arrays, **options)
        _, expected_product = torch_value_and_gradients(wide(sample), wide_options, grad_output.double())
        for gradient, expected_gradient in zip(product, expected_product, strict=True):
            assert_array(gradient, expected_gradient, dtype, "product", tolerance(sample, dtype, False))
        if dtype in NATIVE:
            # And what torch makes of it in its own way, in chunks too.
            assert_close(value, op.op(sample.input, *sample.args, **kwargs), NATIVE[dtype], "value in this dtype")


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_module(bias: bool, dtype: torch.dtype) -> None:
    """Our loss is that of torch's module on the arrays of its layer."""
    seed("module", bias, dtype)
    options: dict[str, Any] = {"ignore_index": 2, "label_smoothing": 0.1, "reduction": "sum"}
    module = torch.nn.LinearCrossEntropyLoss(6, 9, bias=bias, dtype=dtype, **options)
    input, target = torch.randn(40, 6, dtype=dtype), torch.randint(0, 9, (40,))
    expected = module(input, target)
    parameters = [parameter.detach().numpy() for parameter in module.linear.parameters()]
    loss = lossrs.LinearCrossEntropyLoss(**options)
    value, (_, *gradients) = loss.value_and_grad(input.numpy(), parameters[0], target.numpy(), *parameters[1:])
    assert_close(value, expected.detach(), NATIVE[dtype], "value")
    expected.backward()
    for gradient, parameter in zip(gradients, module.linear.parameters(), strict=True):
        assert_close(gradient, parameter.grad, NATIVE[dtype], "gradient")


@pytest.mark.parametrize("op", LAYER_OPS, ids=lambda op: op.variant_test_name or "default")
def test_error_inputs(op: OpInfo) -> None:
    """Calls that torch tests as errors are errors of ours."""
    for error in op.error_inputs("cpu"):
        sample = error.sample_input
        arrays, options = arguments((sample.input, *sample.args), sample.kwargs)
        options.pop("options", None)
        with pytest.raises((ValueError, TypeError)):
            F.linear_cross_entropy.value_and_grad(*arrays, **options)
