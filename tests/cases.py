"""Every loss with several settings of its options, and samples to call it with."""

import contextlib
import functools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import lossrs
import lossrs.functional as F
import ml_dtypes
import numpy as np
from lossrs import _lossrs
from reference import DRAW, REFERENCES, SHAPES, Operand, Reference, Variant

BFLOAT16 = ml_dtypes.bfloat16
FLOATS = [np.float64, np.float32, np.float16, BFLOAT16]
INTEGERS = [np.dtype(code) for code in "bBhHiIlLqQ"]
INSTRUCTION_SETS = ("baseline", "avx2", "avx512")


@dataclass(frozen=True, eq=False)
class Sample:
    """The arguments of a call."""

    operands: dict[str, Any]
    options: dict[str, Any]

    def __getitem__(self, name: str) -> Any:
        """Return an operand."""
        return self.operands[name]

    @property
    def arguments(self) -> tuple[Any, ...]:
        """The operands in their order."""
        return tuple(self.operands.values())

    @property
    def first(self) -> Any:
        """The operand that decides the type that is computed in."""
        return self.arguments[0]

    def replace(self, **operands) -> "Sample":
        return Sample(self.operands | operands, self.options)

    def map(self, change: Callable[[Any], Any], options: Callable[[Any], Any] | None = None) -> "Sample":
        """Change all arrays."""
        changed = {
            name: (options or change)(value) if isinstance(value, np.ndarray) else value
            for name, value in self.options.items()
        }
        return Sample({name: change(array) for name, array in self.operands.items()}, changed)

    def floats(self, dtype) -> "Sample":
        """Give all arrays but labels another type."""
        return self.map(lambda array: array if array.dtype.kind in "iub" else array.astype(dtype))


@dataclass(frozen=True, eq=False)
class Case:
    """A loss with a setting of its options, with or without those that are arrays.

    Its verbs take a sample, and gradients and Hessians are tuples of those of all inputs, whatever their number.
    """

    name: str
    variant: Variant
    arrays: tuple[str, ...]

    def __str__(self) -> str:
        """Name the test."""
        options = [f"{name}={value}" for name, value in self.variant.options.items()]
        operands = [f"{name} {' '.join(operand)}" for name, operand in self.variant.operands.items()]
        return "-".join([self.name, *operands, *options, *self.arrays])

    @property
    def function(self) -> Any:
        return getattr(F, self.name)

    @property
    def loss_class(self) -> type[lossrs.Loss]:
        return lossrs.losses[self.name]

    @property
    def reference(self) -> Reference:
        return REFERENCES[self.name]

    @functools.cached_property
    def kernel(self) -> Any:
        return self.loss_class(**self.variant.options)._kernel

    @property
    def inputs(self) -> tuple[str, ...]:
        """The operands that have gradients."""
        return self.kernel.inputs

    @property
    def has_hessian(self) -> bool:
        return self.kernel.has_hessian

    @property
    def verbs(self) -> tuple[str, ...]:
        return tuple(name for name in ALL_VERBS if name != "grad_and_hess" or self.has_hessian)

    @property
    def operands(self) -> dict[str, Operand]:
        return {**self.reference.operands, **self.variant.operands}

    @property
    def label(self) -> str | None:
        """The operand that holds labels."""
        return next((name for name, operand in self.operands.items() if operand.kind == "label"), None)

    def axes(self, shape) -> tuple[int, ...]:
        """Return the axes that a loss is of; it is of one element where there are none."""
        return self.reference.axes(len(shape))

    @property
    def elementwise(self) -> bool:
        return not self.axes((2, 2))

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of the first operand, of every number of axes."""
        return self.reference.shapes

    def shape(self, elements: int, classes: int = 7) -> tuple[int, ...]:
        """Return a shape of the first operand of about so many elements."""
        return (elements,) if self.elementwise else (-(-elements // classes), classes)

    def sample(self, rng, shape, dtype=np.float64) -> Sample:
        """Draw arguments; some of the labels are ignored ones."""
        options, axes = dict(self.variant.options), self.axes(shape)

        def draw(operand):
            own = SHAPES[operand.shape](shape, axes)
            array = np.asarray(DRAW[operand.kind](rng, own, shape, axes))
            if operand.kind not in ("label", "label set"):
                return array.astype(dtype)
            ignored = getattr(self.loss_class(**options), "ignore_index", None)
            if ignored is not None:
                array[np.asarray(rng.random(own) < 0.2)] = ignored
            return array

        for name in self.arrays:
            options[name] = draw(self.reference.arrays[name])
        return Sample({name: draw(operand) for name, operand in self.operands.items()}, options)

    def samples_shape(self, sample: Sample) -> tuple[int, ...]:
        """Return the shape of the losses."""
        shape = np.shape(sample.first)
        return SHAPES["samples"](shape, self.axes(shape))

    def over_samples(self, sample: Sample, array):
        """Return an array of the samples' shape with an axis of length 1 for each that a loss is of."""
        return np.expand_dims(array, self.axes(np.shape(sample.first)))

    def expected(self, sample: Sample) -> tuple[Any, Any]:
        """Return the losses of the samples and what the mean divides by: the plain formula in extended precision."""
        wide = sample.floats(np.longdouble)
        losses, divisor = self.reference.formula(*wide.arguments, **wide.options)
        shape = self.samples_shape(sample)
        return np.broadcast_to(losses, shape), np.broadcast_to(np.asarray(divisor, np.longdouble), shape)

    def magnitude(self, sample: Sample) -> Any:
        """Return how large what is added up in the losses is: their accuracy is relative to that."""
        wide = sample.floats(np.longdouble)
        magnitude = self.reference.magnitude
        return abs(self.expected(sample)[0]) if magnitude is None else magnitude(*wide.arguments, **wide.options)

    def take(self, sample: Sample, places) -> Sample:
        """Choose samples by their places on the first axis."""
        shape = sample.first.shape

        def chosen(array, is_of_samples):
            return array[places] if isinstance(array, np.ndarray) and is_of_samples(array.shape) else array

        # Options go with the elements, or with the classes.
        options = {name: chosen(value, lambda own: own == shape) for name, value in sample.options.items()}
        of_samples = {name: chosen(array, lambda own: own[:1] == shape[:1]) for name, array in sample.operands.items()}
        return Sample(of_samples, options)

    def loss(self, sample: Sample, **options) -> lossrs.Loss:
        """Return the same loss as an object."""
        return self.loss_class(**sample.options, **options)

    def value(self, sample: Sample, **options) -> Any:
        return self.function(*sample.arguments, **sample.options | options)

    def value_and_grad(self, sample: Sample, **options) -> tuple[Any, tuple[Any, ...]]:
        options["out"] = self._only(options.get("out"))
        value, gradient = self.function.value_and_grad(*sample.arguments, **self._wrt(sample.options | options))
        return value, self._several(gradient)

    def grad_and_hess(self, sample: Sample, **options) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        if isinstance(options.get("out"), tuple):
            options["out"] = tuple(map(self._only, options["out"]))
        gradient, hessian = self.function.grad_and_hess(*sample.arguments, **self._wrt(sample.options | options))
        return self._several(gradient), self._several(hessian)

    def backward(self, grad_output, sample: Sample, **options) -> tuple[Any, ...]:
        options["out"] = self._only(options.get("out"))
        options = self._wrt(sample.options | options)
        return self._several(self.function.backward(grad_output, *sample.arguments, **options))

    def call(self, verb: str, sample: Sample, **options) -> Any:
        """Call a verb by its name; `backward` with ones."""
        if verb == "backward":
            reduced = options.get("reduction", "mean") != "none"
            return self.backward(1.0 if reduced else np.ones(self.samples_shape(sample)), sample, **options)
        return getattr(self, verb or "value")(sample, **options)

    def _wrt(self, options: dict[str, Any]) -> dict[str, Any]:
        return {"wrt": self.inputs} | options if len(self.inputs) > 1 else options

    def _only(self, arrays):
        """Return what a loss of one input takes for a tuple of one."""
        return arrays[0] if len(self.inputs) == 1 and isinstance(arrays, tuple) else arrays

    def _several(self, arrays) -> tuple[Any, ...]:
        return arrays if len(self.inputs) > 1 else (arrays,)


def cases(name: str) -> Iterator[Case]:
    """Enumerate the cases of a loss: its settings, without and with the options that are arrays."""
    reference = REFERENCES[name]
    for variant in (Variant(), *reference.variants):
        for given in sorted({(), tuple(reference.arrays)}):
            yield Case(name, variant, given)


# A loss without a reference is a failing test of its own.
CASES = [case for name in lossrs.losses if name in REFERENCES for case in cases(name)]


def one_of_each(key: Callable[[Case], Any]) -> list[Case]:
    """Return a case for each key, of the settings that come first, with the options that are arrays."""
    full = [case for case in CASES if len(case.arrays) == len(case.reference.arrays)]
    return list({key(case): case for case in reversed(full)}.values())[::-1]


def form(case: Case) -> Any:
    """Return what decides the way of a call to its formula."""
    checked = ("label", "probability", "sign", "binary")
    operands = [(operand.kind if operand.kind in checked else "", operand.shape) for operand in case.operands.values()]
    return operands, case.inputs, case.arrays, case.has_hessian, [case.axes((2,) * ndim) for ndim in (2, 3, 4)]


#: One case for each loss and kinds of its operands.
PLAIN = one_of_each(lambda case: (case.name, *case.operands.values()))
#: One case for each way of a call.
FORMS = one_of_each(lambda case: repr(form(case)))


def results(case: Case, sample: Sample, sample_weight=None, grad_output=1.25) -> dict[str, Any]:
    """Return what all verbs say."""
    weighted = {"sample_weight": sample_weight}
    losses, slopes = case.value_and_grad(sample, reduction="none", **weighted)
    mean, gradients = case.value_and_grad(sample, **weighted)
    gradients = {
        "unreduced gradient": slopes,
        "gradient": gradients,
        "backward": case.backward(grad_output, sample, **weighted),
    }
    if case.has_hessian:
        hessians = case.grad_and_hess(sample, reduction="sum", **weighted)
        gradients |= dict(zip(("grad_and_hess", "hessian"), hessians, strict=True))
    found = {
        "none": case.value(sample, reduction="none", **weighted),
        "mean": case.value(sample, **weighted),
        "sum": case.value(sample, reduction="sum", **weighted),
        "value_and_grad of none": losses,
        "value_and_grad": mean,
    }
    for name, arrays in gradients.items():
        found |= {f"{name} of {input}": array for input, array in zip(case.inputs, arrays, strict=True)}
    return found


def bits(array):
    """Return an array as integers; every NaN is the same one."""
    array = np.asarray(array)
    array = np.where(array != array, np.full((), np.nan, array.dtype), array).astype(array.dtype.newbyteorder("="))
    return array.view(f"u{array.dtype.itemsize}")


def assert_same(actual: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Check that results are the same bit for bit, and of the same types."""
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        assert type(actual[name]) is type(value), name
        np.testing.assert_array_equal(bits(actual[name]), bits(value), err_msg=name, strict=True)


def ulps(actual, expected, dtype=None, magnitude=None):
    """Return the distance to the exact value in units of the last place that `dtype` has there, or at a magnitude."""
    actual, expected = np.asarray(actual), np.asarray(expected, np.longdouble)
    dtype = dtype or actual.dtype
    limits = ml_dtypes.finfo(dtype)
    _, exponent = np.frexp(abs(expected) if magnitude is None else magnitude)
    unit = np.ldexp(np.longdouble(limits.eps), np.maximum(exponent - 1, limits.minexp))
    with np.errstate(invalid="ignore"):
        distance = abs(actual.astype(np.longdouble) - expected) / unit
    return np.where((actual == expected) | ((actual != actual) & (expected != expected)), 0, distance)


def exact_mean(case: Case, sample: Sample, losses, sample_weight=None) -> float:
    """Return the sum of the losses over that of the weights, each rounded once."""
    divisor = case.expected(sample)[1].astype(sample.first.dtype)
    weight = divisor if sample_weight is None else divisor * sample_weight
    total = math.fsum(weight.ravel())
    return math.fsum(losses.ravel()) / total if total else math.nan


@contextlib.contextmanager
def threads(number: int) -> Iterator[None]:
    before = lossrs.get_num_threads()
    lossrs.set_num_threads(number)
    try:
        yield
    finally:
        lossrs.set_num_threads(before)


@contextlib.contextmanager
def instruction_set(name: str) -> Iterator[None]:
    before = lossrs.instruction_set()
    _lossrs.use_instruction_set(name)
    try:
        yield
    finally:
        _lossrs.use_instruction_set(before)


def verb(function, name: str):
    """Return a verb of a function or class by its name; "" is the call itself."""
    return getattr(function, name) if name else function


ALL_VERBS = ("", "value_and_grad", "grad_and_hess", "backward")
