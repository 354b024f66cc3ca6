"""torch's `op_db`: the samples on which torch tests its loss functions and their derivatives."""

import lossrs
import numpy as np
import pytest
import torch
from torch.testing._internal.opinfo.core import OpInfo, SampleInput

from .torch_calls import (
    DTYPES,
    LAYER_OPS,
    NATIVE,
    OPS,
    TORCH_LOSSES,
    agreed,
    arguments,
    assert_close,
    assert_parity,
    flat,
    our_function,
    seed,
    to_numpy,
)

#: What torch says of `kl_div` whenever its mean is asked for.
pytestmark = pytest.mark.filterwarnings("ignore:reduction. 'mean' divides the total loss")


def samples(op: OpInfo, dtype: torch.dtype) -> list[SampleInput]:
    """Return an op's `reference_inputs`, which are the `sample_inputs` and, for some, more."""
    seed(op.full_name, dtype)
    return list(op.reference_inputs("cpu", dtype, requires_grad=False))


CASES = [
    pytest.param(op, sample, id=f"{op.full_name.removeprefix('nn.functional.')}-{str(dtype)[6:]}-{at}")
    for op in OPS
    for dtype in DTYPES
    if dtype in op.supported_backward_dtypes("cpu")
    for at, sample in enumerate(samples(op, dtype))
]


@pytest.mark.parametrize(("op", "sample"), CASES)
def test_op(op: OpInfo, sample: SampleInput) -> None:
    """Value, gradient, product and curvature are torch's, in the sample's reduction and in the others."""
    loss = our_function(op)
    args, reductions = agreed(loss, (sample.input, *sample.args)), lossrs.losses[loss.__name__].reductions
    for kwargs in [sample.kwargs, *({**sample.kwargs, "reduction": reduction} for reduction in reductions)]:
        assert_parity(loss, op.op, args, kwargs)


@pytest.mark.parametrize(("op", "sample"), CASES)
def test_layout(op: OpInfo, sample: SampleInput) -> None:
    """The strides that torch tries change no bit."""
    strided = sample.noncontiguous()
    loss = our_function(op)
    arrays, options = arguments(agreed(loss, (sample.input, *sample.args)), sample.kwargs)
    strided_arrays, strided_options = arguments(agreed(loss, (strided.input, *strided.args)), strided.kwargs)
    results = loss.value_and_grad(*strided_arrays, **strided_options)
    for ours, expected in zip(flat(results), flat(loss.value_and_grad(*arrays, **options)), strict=True):
        assert np.array_equal(ours, expected, equal_nan=True)


@pytest.mark.parametrize(("op", "sample"), [case for case in CASES if "with_distance" in case.id])
def test_distance_of_the_callers(op: OpInfo, sample: SampleInput) -> None:
    """The distance of a sample, called by us as it is, gives torch's value."""
    dtype, distance = sample.input.dtype, sample.kwargs["distance_function"]

    def call(*vectors: np.ndarray) -> np.ndarray:
        return to_numpy(distance(*map(torch.from_numpy, vectors)))

    arrays, options = arguments((sample.input, *sample.args), sample.kwargs)
    expected = op.op(sample.input, *sample.args, **sample.kwargs)
    if dtype in NATIVE:
        assert_close(
            our_function(op)(*arrays, **options | {"distance_function": call}), expected, NATIVE[dtype], "value"
        )


def test_every_shared_function_has_samples() -> None:
    """A function that both have is tried."""
    tried = {op.name.removeprefix("nn.functional.") for op in [*OPS, *LAYER_OPS]}
    assert tried == set(lossrs.losses) & set(TORCH_LOSSES)
