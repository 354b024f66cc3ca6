"""A call of a torch loss, turned into the same call of ours, and the comparison of the two.

The reference is torch in float64 on the very numbers that we are given, so that what is compared with it is our
rounding and not torch's: torch adds float16 up in float16.
"""

import copy
import inspect
import random
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import lossrs
import lossrs.functional
import ml_dtypes
import numpy as np
import torch
import torch.nn.functional
from torch.testing._internal.common_methods_invocations import op_db
from torch.testing._internal.common_modules import module_db
from torch.testing._internal.opinfo.core import OpInfo

DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
REDUCTIONS = ("none", "mean", "sum")

# Torch's class holds the layer, and its function takes more than ours: see test_torch_linear.py.
LAYER, LAYER_CLASS = "linear_cross_entropy", "LinearCrossEntropyLoss"
CLASSES = {cls.__name__: cls for cls in lossrs.losses.values()}
MODULES = [info for info in module_db if info.module_cls.__name__ in CLASSES.keys() - {LAYER_CLASS}]
OPS = [op for op in op_db if op.name.removeprefix("nn.functional.") in lossrs.losses.keys() - {LAYER}]
LAYER_OPS = [op for op in op_db if op.name == f"nn.functional.{LAYER}"]

# What torch calls a loss: a public function with a `reduction`.
TORCH_LOSSES = sorted(
    name
    for name, function in vars(torch.nn.functional).items()
    if not name.startswith("_")
    and inspect.isfunction(function)
    and "reduction" in inspect.signature(function).parameters
)
TORCH_LOSS_CLASSES = sorted(
    cls.__name__ for cls in vars(torch.nn).values() if inspect.isclass(cls) and cls.__name__.endswith("Loss")
)


class Tolerance(NamedTuple):
    """What `numpy.testing.assert_allclose` may allow."""

    rtol: float
    atol: float


# Reduced values: the error of the arithmetic, which is float32 for the half precisions. The absolute part is what the
# rounding of a logit of magnitude 10 leaves of a loss near zero.
VALUE = {
    torch.float64: Tolerance(2e-14, 2e-14),
    torch.float32: Tolerance(2e-6, 4e-6),
    torch.float16: Tolerance(2e-6, 4e-6),
    torch.bfloat16: Tolerance(2e-6, 4e-6),
}
# Arrays are rounded to the input's dtype besides: one unit in its last place.
ARRAY = VALUE | {torch.float16: Tolerance(2**-10, 4e-6), torch.bfloat16: Tolerance(2**-7, 4e-6)}
# Where torch computes in the dtype itself: what `torch.testing.assert_close` allows.
NATIVE = {torch.float64: Tolerance(1e-7, 1e-7), torch.float32: Tolerance(1.3e-6, 1e-5)}
# How much further torch's own rounding goes where it is no finer than ours: it adds up hundreds of logarithms.
TORCH_ROUNDS = {"ctc_loss": 1000}
LARGEST_HESSIAN = 2000


def seed(*of: object) -> None:
    """Make torch, which draws its samples from the global generators, draw the same in every run of any tests."""
    number = zlib.crc32(repr(of).encode())
    torch.manual_seed(number)
    random.seed(number)


def to_numpy(value: Any) -> Any:
    """Return a tensor as the array on the same memory, with its strides; anything else as it is.

    torch's pairwise distance is the one that we know by name.
    """
    if isinstance(value, torch.nn.PairwiseDistance):
        assert (value.norm, value.eps, value.keepdim) == (2, 1e-6, False)
        return "euclidean"
    if not isinstance(value, torch.Tensor):
        return value
    value = value.detach()
    if value.dtype == torch.bfloat16:
        return value.view(torch.uint16).numpy().view(ml_dtypes.bfloat16)
    return value.numpy()


def arguments(args: Iterable[Any], kwargs: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Return what torch is called with as what we are called with."""
    return [to_numpy(arg) for arg in args], {name: to_numpy(value) for name, value in kwargs.items()}


def our_module(module_cls: type, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Return the instance of our class that `module_cls(*args, **kwargs)` is in torch."""
    options = inspect.signature(module_cls).bind(*args, **kwargs).arguments
    return CLASSES[module_cls.__name__](**{name: to_numpy(value) for name, value in options.items()})


def our_function(op: OpInfo) -> Any:
    """Return our function of an op's name."""
    return getattr(lossrs.functional, op.name.removeprefix("nn.functional."))


def class_of(loss: Any) -> type[lossrs.Loss]:
    """Return the class of one of our functions, or of an instance."""
    return type(loss) if isinstance(loss, lossrs.Loss) else lossrs.losses[loss.__name__]


def coarsened(tolerance: Tolerance, loss: Any) -> Tolerance:
    """Return a tolerance that allows for torch's rounding in a loss, too."""
    factor = TORCH_ROUNDS.get(class_of(loss).function_name, 1)
    return Tolerance(factor * tolerance.rtol, factor * tolerance.atol)


def widened(value: Any) -> Any:
    """Return a tensor, or a module, in float64."""
    if isinstance(value, torch.nn.Module):
        return copy.deepcopy(value).double()
    return value.detach().double() if isinstance(value, torch.Tensor) and value.is_floating_point() else value


def torch_value_and_gradients(
    reference: Callable[..., torch.Tensor],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    inputs: int = 1,
    grad_output: torch.Tensor | None = None,
) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
    """Return the value and the gradients in the first `inputs` arguments, of the sum if there is no `grad_output`."""
    leaves = [arg.detach().clone().requires_grad_() for arg in args[:inputs]]
    value = reference(*leaves, *args[inputs:], **kwargs)
    return value.detach(), torch.autograd.grad(
        value, leaves, torch.ones_like(value) if grad_output is None else grad_output
    )


def torch_curvature(
    reference: Callable[..., torch.Tensor], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> torch.Tensor:
    """Return the diagonal of the Hessian of the sum of what `reference` returns."""
    first, *others = args
    if not first.numel():
        return torch.zeros_like(first)
    hessian = torch.autograd.functional.hessian(
        lambda point: reference(point, *others, **kwargs).sum(), first.detach(), vectorize=True
    )
    return hessian.reshape(first.numel(), first.numel()).diagonal().reshape(first.shape)


def assert_close(ours: Any, reference: torch.Tensor, tolerance: Tolerance, what: str) -> None:
    """Compare numbers and shapes."""
    np.testing.assert_allclose(
        np.asarray(ours, dtype=np.float64), reference.double().numpy(force=True), *tolerance, err_msg=what, strict=True
    )


def assert_value(ours: Any, reference: torch.Tensor, dtype: torch.dtype, what: str) -> None:
    """Compare a loss: a float where it was reduced, otherwise an array of the input's dtype."""
    if reference.ndim == 0 and not isinstance(ours, np.ndarray):
        assert type(ours) is float, f"{what} is {type(ours)}"
        assert_close(ours, reference, VALUE[dtype], what)
    else:
        assert_array(ours, reference, dtype, what)


def assert_array(
    ours: Any, reference: torch.Tensor, dtype: torch.dtype, what: str, tolerance: Tolerance | None = None
) -> None:
    """Compare arrays and dtypes."""
    assert ours.dtype == to_numpy(torch.empty(0, dtype=dtype)).dtype, f"{what} is {ours.dtype}"
    assert_close(ours, reference.to(dtype), tolerance or ARRAY[dtype], what)


def assert_parity(
    loss: Any, reference: Callable[..., torch.Tensor], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> None:
    """Hold all four verbs of `loss` against torch's `reference`, both called with `args` and `kwargs`.

    The curvature only of up to `LARGEST_HESSIAN` elements, since torch has to compute the whole Hessian.
    """
    dtype = args[0].dtype
    arrays, options = arguments(args, kwargs)
    value = loss(*arrays, **options)
    value_again, gradients = loss.value_and_grad(*arrays, **options)
    assert np.array_equal(value, value_again, equal_nan=True), "value_and_grad's value is not that of the call"
    gradients = gradients if isinstance(gradients, tuple) else (gradients,)

    exact, wide = widened(reference), [widened(arg) for arg in args]
    wide_kwargs = {name: widened(option) for name, option in kwargs.items()}
    expected, expected_gradients = torch_value_and_gradients(exact, wide, wide_kwargs, len(gradients))
    assert_value(value, expected, dtype, "value")
    tolerance = coarsened(ARRAY[dtype], loss) if dtype == torch.float64 else ARRAY[dtype]
    for at, (gradient, expected_gradient) in enumerate(zip(gradients, expected_gradients, strict=True)):
        assert_array(gradient, expected_gradient, dtype, f"gradient in argument {at}", tolerance)

    grad_output = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    product = loss.backward(to_numpy(grad_output), *arrays, **options)
    product = product if isinstance(product, tuple) else (product,)
    _, expected_product = torch_value_and_gradients(exact, wide, wide_kwargs, len(product), grad_output.double())
    for at, (gradient, expected_gradient) in enumerate(zip(product, expected_product, strict=True)):
        assert_array(gradient, expected_gradient, dtype, f"vector-Jacobian product in argument {at}", tolerance)

    if class_of(loss)()._kernel.has_hessian and len(gradients) == 1 and args[0].numel() <= LARGEST_HESSIAN:
        gradient, curvature = loss.grad_and_hess(*arrays, **options)
        assert np.array_equal(gradient, gradients[0], equal_nan=True), "grad_and_hess's gradient is another"
        expected_curvature, tolerance = torch_curvature(exact, wide, wide_kwargs), ARRAY[dtype]
        if reference is torch.nn.functional.binary_cross_entropy or isinstance(reference, torch.nn.BCELoss):
            # Torch's second derivative adds 1e-12 to a probability and its complement.
            inside = (wide[0] - 0.5).abs() < 0.5 - 1e-6
            curvature, expected_curvature = curvature[inside.numpy()], expected_curvature[inside]
            tolerance = Tolerance(max(tolerance.rtol, 1e-5), tolerance.atol)
        assert_array(curvature, expected_curvature, dtype, "curvature", tolerance)

    if dtype in NATIVE:
        native, native_gradients = torch_value_and_gradients(reference, args, kwargs, len(gradients))
        tolerance = coarsened(NATIVE[dtype], loss)
        assert_close(value, native, tolerance, "value, against torch in this dtype")
        for gradient, native_gradient in zip(gradients, native_gradients, strict=True):
            assert_close(gradient, native_gradient, tolerance, "gradient, against torch in this dtype")
