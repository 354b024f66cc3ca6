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
import pytest
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
# Of these torch has no second derivative.
NO_CURVATURE = ("multi_margin_loss", "multilabel_margin_loss")


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


#: Losses whose targets are 1 or -1 to us, and any number to torch.
SIGNED = ("hinge_embedding_loss", "margin_ranking_loss", "soft_margin_loss")


def kernel_of(loss: Any) -> Any:
    """Return what knows the operands of a function of ours, or of an object."""
    return (loss if isinstance(loss, lossrs.Loss) else class_of(loss)())._kernel


def agreed(loss: Any, args: Sequence[Any]) -> list[Any]:
    """Return arguments that both take. Where that are not torch's own, it is asserted that we refuse those.

    Signs: torch takes any number for one; for others than 1 and -1 its formulas mean nothing, so we compare the signs.
    NaN: torch's hinges have a slope of 0 there, ours have NaN, and so has the loss of both; we compare with 0 instead.
    Shapes: torch broadcasts the operands of some losses, a variance along any axis; we compare with them spread out.
    """
    name = class_of(loss).function_name
    operands = dict(zip(kernel_of(loss).operands, args, strict=False))
    others = args[len(operands) :]
    if name not in (*SIGNED, "gaussian_nll_loss"):
        return list(args)
    shapes = {operand: tensor.shape for operand, tensor in operands.items()}
    shape = torch.broadcast_shapes(*(own for operand, own in shapes.items() if operand != "var"))
    shared = {"var": (shape, shape[:-1], (*shape[:-1], 1), ())}
    spread = [operand for operand, own in shapes.items() if own not in shared.get(operand, (shape,))]
    if spread:
        assert_refused(loss, args, ValueError)
        operands |= {operand: operands[operand].expand(shape).contiguous() for operand in spread}
    if name in SIGNED and (operands["target"].abs() != 1).any():
        assert_refused(loss, [*operands.values(), *others], lossrs.DomainError)
        operands["target"] = operands["target"].sign() + (operands["target"] == 0)
    missing = sum(tensor.isnan() for tensor in operands.values()) > 0
    if name in ("hinge_embedding_loss", "margin_ranking_loss") and missing.any():
        function = getattr(lossrs.functional, name)
        for array in flat(function.value_and_grad(*map(to_numpy, operands.values()), reduction="none")):
            np.testing.assert_array_equal(np.isnan(array), missing.numpy())
        operands |= {operand: tensor.where(~tensor.isnan(), 0) for operand, tensor in operands.items()}
    return [*operands.values(), *others]


def assert_refused(loss: Any, args: Sequence[Any], error: type[Exception]) -> None:
    """Check that we don't take what torch takes."""
    for verb in (loss, loss.value_and_grad):
        with pytest.raises(error):
            verb(*map(to_numpy, args))


def widened(value: Any) -> Any:
    """Return a tensor, or a module, in float64."""
    if isinstance(value, torch.nn.Module):
        return copy.deepcopy(value).double()
    return value.detach().double() if isinstance(value, torch.Tensor) and value.is_floating_point() else value


def torch_value_and_gradients(
    reference: Callable[..., torch.Tensor],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    places: Sequence[int] = (0,),
    grad_output: torch.Tensor | None = None,
) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
    """Return the value and the gradients in the arguments at some places, of the sum if there is no `grad_output`."""
    leaves = {place: args[place].detach().clone().requires_grad_() for place in places}
    value = reference(*(leaves.get(place, arg) for place, arg in enumerate(args)), **kwargs)
    return value.detach(), torch.autograd.grad(
        value, [*leaves.values()], torch.ones_like(value) if grad_output is None else grad_output
    )


def torch_curvature(
    reference: Callable[..., torch.Tensor], args: Sequence[Any], kwargs: Mapping[str, Any], place: int = 0
) -> torch.Tensor:
    """Return the diagonal of the Hessian, in the argument at a place, of the sum of what `reference` returns."""
    at = args[place].detach()
    if not args[0].numel():
        return torch.zeros_like(at)
    hessian = torch.autograd.functional.hessian(
        lambda point: reference(*args[:place], point, *args[place + 1 :], **kwargs).sum(), at, vectorize=True
    )
    return hessian.reshape(at.numel(), at.numel()).diagonal().reshape(at.shape)


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


def flat(results: Any) -> list[Any]:
    """Return what a verb returns, one after the other."""
    return [array for result in results for array in (result if isinstance(result, tuple) else (result,))]


def assert_parity(
    loss: Any, reference: Callable[..., torch.Tensor], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> None:
    """Hold all four verbs of `loss` against torch's `reference`, both called with `args` and `kwargs`.

    Derivatives with respect to all inputs that we have any for. The curvature only of up to `LARGEST_HESSIAN` elements,
    since torch has to compute the whole Hessian.
    """
    kernel = kernel_of(loss)
    places = [kernel.operands.index(name) for name in kernel.inputs]
    dtypes = [args[place].dtype for place in places]
    arrays, options = arguments(args, kwargs)
    wrt = {"wrt": kernel.inputs} if len(places) > 1 else {}
    value = loss(*arrays, **options)
    value_again, *gradients = flat(loss.value_and_grad(*arrays, **options, **wrt))
    assert np.array_equal(value, value_again, equal_nan=True), "value_and_grad's value is not that of the call"

    exact, wide = widened(reference), [widened(arg) for arg in args]
    wide_kwargs = {name: widened(option) for name, option in kwargs.items()}
    expected, expected_gradients = torch_value_and_gradients(exact, wide, wide_kwargs, places)
    assert_value(value, expected, dtypes[0], "value")
    tolerances = [coarsened(ARRAY[dtype], loss) if dtype == torch.float64 else ARRAY[dtype] for dtype in dtypes]
    each = list(zip(kernel.inputs, dtypes, tolerances, strict=True))
    for (name, dtype, tolerance), gradient, of_torch in zip(each, gradients, expected_gradients, strict=True):
        assert_array(gradient, of_torch, dtype, f"gradient in {name}", tolerance)

    grad_output = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1)).to(dtypes[0])
    products = flat([loss.backward(to_numpy(grad_output), *arrays, **options, **wrt)])
    _, expected_products = torch_value_and_gradients(exact, wide, wide_kwargs, places, grad_output.double())
    for (name, dtype, tolerance), product, of_torch in zip(each, products, expected_products, strict=True):
        assert_array(product, of_torch, dtype, f"vector-Jacobian product in {name}", tolerance)

    if kernel.has_hessian and args[0].numel() <= LARGEST_HESSIAN:
        again = flat(loss.grad_and_hess(*arrays, **options, **wrt))
        for gradient, other in zip(gradients, again, strict=False):
            assert np.array_equal(gradient, other, equal_nan=True), "grad_and_hess's gradient is another"
        for name, dtype, place, curvature in zip(kernel.inputs, dtypes, places, again[len(places) :], strict=True):
            if class_of(loss).function_name in NO_CURVATURE:
                continue
            of_torch, tolerance = torch_curvature(exact, wide, wide_kwargs, place), ARRAY[dtype]
            if reference is torch.nn.functional.binary_cross_entropy or isinstance(reference, torch.nn.BCELoss):
                # Torch's second derivative adds 1e-12 to a probability and its complement.
                inside = (wide[0] - 0.5).abs() < 0.5 - 1e-6
                curvature, of_torch = curvature[inside.numpy()], of_torch[inside]
                tolerance = Tolerance(max(tolerance.rtol, 1e-5), tolerance.atol)
            assert_array(curvature, of_torch, dtype, f"curvature in {name}", tolerance)

    if dtypes[0] in NATIVE:
        native, native_gradients = torch_value_and_gradients(reference, args, kwargs, places)
        tolerance = coarsened(NATIVE[dtypes[0]], loss)
        assert_close(value, native, tolerance, "value, against torch in this dtype")
        for gradient, of_torch in zip(gradients, native_gradients, strict=True):
            assert_close(gradient, of_torch, tolerance, "gradient, against torch in this dtype")
