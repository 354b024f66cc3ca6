"""CTC: random calls in all of torch's forms, and where we mean to differ."""

import math
from typing import Any

import lossrs
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lossrs import functional
from torch.nn import functional as torch_functional

from .test_torch_random import EXAMPLES, Call, calls
from .torch_calls import REDUCTIONS, assert_parity, to_numpy, torch_value_and_gradients

INF = math.inf


@EXAMPLES
@given(
    call=calls,
    form=st.sampled_from(["padded", "concatenated", "alone", "alone as a batch"]),
    steps=st.integers(1, 20),
    samples=st.integers(1, 4),
    classes=st.integers(2, 70),
    longest=st.integers(0, 8),
    normalised=st.booleans(),
    data=st.data(),
)
def test_random(
    call: Call,
    form: str,
    steps: int,
    samples: int,
    classes: int,
    longest: int,
    normalised: bool,
    data: st.DataObject,
) -> None:
    """Labels are repeated, losses infinite, and rows not always those of a softmax."""
    alone = form.startswith("alone")
    samples = 1 if alone else samples
    blank = data.draw(st.integers(0, classes - 1))
    log_probs = 4 * torch.randn((steps, samples, classes), generator=call.generator, dtype=torch.float64)
    log_probs = call.laid_out((log_probs.log_softmax(-1) if normalised else log_probs - 4).to(call.dtype))
    integers, as_tensors = data.draw(st.sampled_from([torch.int64, torch.int32])), data.draw(st.booleans())

    def lengths(most: int) -> Any:
        drawn = torch.randint(most + 1, (samples,), generator=call.generator, dtype=integers)
        return drawn if as_tensors else tuple(drawn.tolist())

    input_lengths, target_lengths = lengths(steps), lengths(longest)
    few = min(classes - 1, data.draw(st.integers(1, 70)))
    targets = (blank + 1 + torch.randint(few, (samples, longest), generator=call.generator, dtype=integers)) % classes
    if form in ("concatenated", "alone"):
        targets = torch.cat([row[:length] for row, length in zip(targets, target_lengths, strict=True)])
    else:
        targets = call.laid_out(targets)
    if alone:
        log_probs = log_probs[:, 0]
    options = {"blank": blank, "zero_infinity": data.draw(st.booleans()), **call.reduction()}
    args = log_probs, targets, input_lengths, target_lengths
    assert_parity(functional.ctc_loss, torch_functional.ctc_loss, args, options)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_large(dtype: torch.dtype, reduction: str) -> None:
    """So long that not all of a sample's states are kept, and more classes than a block."""
    generator = torch.Generator().manual_seed(0)
    for steps, classes, longest in ((1100, 5, 90), (60, 2100, 20)):
        log_probs = torch.randn((steps, 3, classes), generator=generator, dtype=dtype).log_softmax(-1)
        targets = torch.randint(1, classes, (3, longest), generator=generator)
        args = log_probs, targets, (steps, steps - 1, steps // 2), (longest, longest - 3, longest // 2)
        assert_parity(functional.ctc_loss, torch_functional.ctc_loss, args, {"reduction": reduction})


def test_gradient_through_log_softmax() -> None:
    """Logits get the same gradient with and without a derivative of `log_softmax` after ours, as in torch."""
    logits = torch.randn((9, 2, 4), generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    rest = torch.tensor([[1, 2, 2], [3, 1, 0]]), torch.tensor([9, 8]), torch.tensor([3, 2])
    log_probs = logits.log_softmax(-1)
    (expected,) = torch.autograd.grad(torch_functional.ctc_loss(log_probs, *rest), logits, retain_graph=True)
    _, ours = functional.ctc_loss.value_and_grad(log_probs.detach().numpy(), *map(to_numpy, rest))
    (through,) = torch.autograd.grad(log_probs, logits, torch.from_numpy(ours))
    np.testing.assert_allclose(ours, expected, atol=1e-14)
    np.testing.assert_allclose(through, expected, atol=1e-14)


def test_impossible_class() -> None:
    """A log-probability of -inf has gradient nan in torch; its probability is 0, whatever is done."""
    log_probs = torch.randn((5, 1, 4), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    log_probs[:, :, 3] = -INF
    args = log_probs.log_softmax(-1), torch.tensor([[1, 2]]), (5,), (2,)
    expected, (gradient,) = torch_value_and_gradients(torch_functional.ctc_loss, args, {})
    ours, our_grad = functional.ctc_loss.value_and_grad(*map(to_numpy, args))
    assert ours == pytest.approx(expected.item(), rel=1e-14)
    assert gradient[..., 3].isnan().all()
    assert not our_grad[..., 3].any()
    np.testing.assert_allclose(our_grad[..., :3], gradient[..., :3], atol=1e-14)


@pytest.mark.parametrize("label", [0, 4, -1], ids=["blank", "beyond", "negative"])
def test_what_is_no_label(label: int) -> None:
    """Torch computes something."""
    args = torch.zeros((9, 1, 4)).log_softmax(-1), torch.tensor([[1, label]]), (9,), (2,)
    assert torch_functional.ctc_loss(*args).ndim == 0
    with pytest.raises(lossrs.LabelError, match=f"label {label} at row 0, position 1 is"):
        functional.ctc_loss(*map(to_numpy, args))


@pytest.mark.parametrize("shape", [(0, 2, 4), (3, 0, 4)])
def test_empty(shape: tuple[int, ...]) -> None:
    """Torch wants at least one number; no steps have one alignment, that of no labels."""
    samples = shape[1]
    args = torch.zeros(shape), torch.ones((samples, 1), dtype=torch.long), (0,) * samples, (0,) * samples
    with pytest.raises(RuntimeError, match="must not be empty"):
        torch_functional.ctc_loss(*args)
    loss, gradient = functional.ctc_loss.value_and_grad(*map(to_numpy, args), reduction="sum")
    assert loss == 0
    assert gradient.shape == shape


def test_label_of_any_integer_type() -> None:
    """Torch reads targets as int64 or int32."""
    log_probs = torch.randn((6, 1, 4), generator=torch.Generator().manual_seed(0)).log_softmax(-1)
    expected = torch_functional.ctc_loss(log_probs, torch.tensor([[1, 3]]), (6,), (2,)).item()
    for dtype in (np.int8, np.uint8, np.int16, np.uint16, np.uint32, np.uint64):
        targets, lengths = np.array([[1, 3]], dtype), (np.array([6], dtype), np.array([2], dtype))
        assert functional.ctc_loss(log_probs.numpy(), targets, *lengths) == pytest.approx(expected, rel=1e-6)
