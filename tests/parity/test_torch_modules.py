"""torch's `module_db`: the inputs on which torch tests its own loss modules."""

from typing import Any

import pytest
import torch
from torch.testing._internal.common_modules import ModuleInfo, ModuleInput

from .torch_calls import (
    CLASSES,
    LAYER_CLASS,
    MODULES,
    NATIVE,
    TORCH_LOSS_CLASSES,
    agreed,
    arguments,
    assert_close,
    assert_parity,
    our_module,
    seed,
)

#: What torch says of `kl_div` whenever its mean is asked for.
pytestmark = pytest.mark.filterwarnings("ignore:reduction. 'mean' divides the total loss")


def inputs(info: ModuleInfo, dtype: torch.dtype) -> list[ModuleInput]:
    """Return torch's inputs of a module."""
    seed(info.name, dtype)
    return list(info.module_inputs_func(info, device="cpu", dtype=dtype, requires_grad=False, training=True))


CASES = [
    pytest.param(
        info.module_cls, case, dtype, id=f"{info.module_cls.__name__}-{str(dtype)[6:]}-{at}-{case.desc or 'default'}"
    )
    for info in MODULES
    for dtype in (torch.float64, torch.float32)
    for at, case in enumerate(inputs(info, dtype))
]


@pytest.mark.parametrize(("module_cls", "case", "dtype"), CASES)
def test_reference(module_cls: type, case: ModuleInput, dtype: torch.dtype) -> None:
    """Our value is that of the reference that torch itself is tested with."""
    made, call = case.constructor_input, case.forward_input
    loss = our_module(module_cls, made.args, made.kwargs)
    args = agreed(loss, call.args)
    arrays, options = arguments(args, call.kwargs)
    value = loss(*arrays, **options)
    assert case.reference_fn is not None
    reference = case.reference_fn(module_cls(*made.args, **made.kwargs), *args, **call.kwargs)
    assert_close(value, torch.as_tensor(reference), NATIVE[dtype], "value")


@pytest.mark.parametrize(("module_cls", "case", "dtype"), CASES)
def test_module(module_cls: type, case: ModuleInput, dtype: torch.dtype) -> None:
    """Value, gradient, product and curvature are those of torch's module, in the case's reduction and in the others."""
    made, call = case.constructor_input, case.forward_input
    own: dict[str, Any] = dict(made.kwargs)
    for kwargs in [own, *({**own, "reduction": reduction} for reduction in CLASSES[module_cls.__name__].reductions)]:
        loss = our_module(module_cls, made.args, kwargs)
        assert_parity(loss, module_cls(*made.args, **kwargs), agreed(loss, call.args), dict(call.kwargs))


def test_every_shared_class_has_inputs() -> None:
    """A class that both have is tried, but for those that torch has no inputs for; their functions are, in `op_db`."""
    tried = {info.module_cls.__name__ for info in MODULES}
    untried = {"TripletMarginLoss", "TripletMarginWithDistanceLoss", LAYER_CLASS}
    assert tried | untried == set(CLASSES) & set(TORCH_LOSS_CLASSES)
