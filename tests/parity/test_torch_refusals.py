"""Calls that torch tests as errors (`error_inputs`, `module_error_inputs`): lossrs must refuse them, all of them."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.testing._internal.common_modules import ErrorModuleInput
from torch.testing._internal.opinfo.core import ErrorInput

from .torch_calls import MODULES, OPS, arguments, our_function, our_module, seed

Call = Callable[[], Any]


def op_calls(op: Any, error: ErrorInput) -> tuple[Call, Call]:
    """Return torch's call of an op, and ours."""
    sample = error.sample_input
    args, kwargs = (sample.input, *sample.args), sample.kwargs
    arrays, options = arguments(args, kwargs)
    return lambda: op.op(*args, **kwargs), lambda: our_function(op).value_and_grad(*arrays, **options)


def module_calls(module_cls: type, error: ErrorModuleInput) -> tuple[Call, Call]:
    """Return torch's call of a module, construction included, and ours."""
    made, call = error.module_error_input.constructor_input, error.module_error_input.forward_input
    args, kwargs = (call.args, call.kwargs) if call is not None else ([torch.zeros(2), torch.zeros(2)], {})
    arrays, options = arguments(args, kwargs)
    return (
        lambda: module_cls(*made.args, **made.kwargs)(*args, **kwargs),
        lambda: our_module(module_cls, made.args, made.kwargs).value_and_grad(*arrays, **options),
    )


def collected() -> dict[str, tuple[Call, Call]]:
    """Return the calls by the names of their tests."""
    calls = {}
    for op in OPS:
        seed(op.full_name)
        for at, error in enumerate(op.error_inputs("cpu") if op.error_inputs_func else ()):
            calls[f"{op.full_name.removeprefix('nn.functional.')}-{at}"] = op_calls(op, error)
    for info in MODULES:
        for dtype in (torch.float64, torch.float32):
            seed(info.name, dtype)
            errors = info.module_error_inputs_func or (lambda *_, **__: ())
            for at, error in enumerate(errors(info, device="cpu", dtype=dtype, requires_grad=False, training=True)):
                calls[f"{info.module_cls.__name__}-{str(dtype)[6:]}-{at}"] = module_calls(info.module_cls, error)
    return calls


CALLS = collected()


@pytest.mark.parametrize("which", CALLS)
def test_error_input(which: str) -> None:
    """Our error is a ValueError or TypeError, whatever torch's is."""
    torch_call, our_call = CALLS[which]
    with warnings.catch_warnings(action="ignore"), pytest.raises((RuntimeError, ValueError, TypeError, IndexError)):
        torch_call()
    with pytest.raises((ValueError, TypeError)):
        our_call()
