"""Every loss with several settings of its options, and samples to call it with."""

import contextlib
import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import lossrs
import lossrs.functional as F
import ml_dtypes
import numpy as np
from lossrs import _lossrs
from lossrs.definitions.rows import RowwiseLoss
from reference import DRAW, REFERENCES

BFLOAT16 = ml_dtypes.bfloat16
FLOATS = [np.float64, np.float32, np.float16, BFLOAT16]
INTEGERS = [np.dtype(code) for code in "bBhHiIlLqQ"]
ARRAYS = ("weight", "pos_weight")
INSTRUCTION_SETS = ("baseline", "avx2", "avx512")


class Sample(NamedTuple):
    """The arguments of a call."""

    input: Any
    target: Any
    options: dict[str, Any]

    def map(self, change, options=None) -> "Sample":
        """Change all arrays."""
        changed = {
            name: (options or change)(value) if isinstance(value, np.ndarray) else value
            for name, value in self.options.items()
        }
        return Sample(change(self.input), change(self.target), changed)


@dataclass(frozen=True, eq=False)
class Case:
    """A loss, with a kind of target and a setting of its options."""

    name: str
    target: str
    parameters: Mapping[str, Any]
    arrays: tuple[str, ...]

    def __str__(self) -> str:
        """Name the test."""
        options = [f"{name}={value}" for name, value in self.parameters.items()]
        return "-".join([self.name, self.target, *options, *self.arrays])

    @property
    def function(self):
        return getattr(F, self.name)

    @property
    def rowwise(self) -> bool:
        return issubclass(lossrs.losses[self.name], RowwiseLoss)

    def shapes(self) -> list[tuple[int, ...]]:
        """Return input shapes of every number of axes."""
        if self.rowwise:
            return [(5,), (7, 3), (3, 4, 5), (2, 3, 4, 2), (3, 1), (1, 67)]
        return [(), (7,), (5, 3), (2, 3, 4, 2), (1, 67)]

    def shape(self, elements: int, classes: int = 7) -> tuple[int, ...]:
        """Return an input shape of about so many elements."""
        return (-(-elements // classes), classes) if self.rowwise else (elements,)

    def sample(self, rng, shape, dtype=np.float64) -> Sample:
        """Draw arguments; some of the labels are ignored ones."""
        reference = REFERENCES[self.name]

        def draw(kind, shape):
            return np.asarray(DRAW[kind](rng, shape)).astype(dtype)

        options = dict(self.parameters)
        for name in self.arrays:
            options[name] = draw("probability", shape[min(1, len(shape) - 1)] if self.rowwise else shape)
        if self.target == "label":
            axis = min(1, len(shape) - 1)
            samples = shape[:axis] + shape[axis + 1 :]
            target = np.asarray(rng.integers(0, shape[axis], samples))
            ignored = options.get("ignore_index", lossrs.losses[self.name]().ignore_index)
            target[np.asarray(rng.random(samples) < 0.2)] = ignored
        else:
            target = draw(self.target, shape)
            if self.rowwise:
                axis = min(1, len(shape) - 1)
                target = np.asarray(target / target.sum(axis, keepdims=True)).astype(dtype)
        return Sample(draw(reference.input, shape), target, options)

    def samples_shape(self, input) -> tuple[int, ...]:
        """Return the shape of the losses."""
        axis = min(1, input.ndim - 1)
        return input.shape[:axis] + input.shape[axis + 1 :] if self.rowwise else input.shape

    def expected(self, sample: Sample) -> tuple[Any, Any]:
        """Return the losses of the samples and what the mean divides by: the plain formula in extended precision."""
        wide = sample.map(lambda array: array if array.dtype.kind in "iub" else array.astype(np.longdouble))
        losses, divisor = REFERENCES[self.name].formula(wide.input, wide.target, **wide.options)
        shape = self.samples_shape(sample.input)
        return np.broadcast_to(losses, shape), np.broadcast_to(np.asarray(divisor, np.longdouble), shape)

    def drop(self, sample: Sample, gone) -> Sample:
        """Leave samples out; of inputs of one or two axes only."""
        count, kept = len(sample.input), ~np.asarray(gone)
        options = {
            name: value[kept] if isinstance(value, np.ndarray) and not self.rowwise and len(value) == count else value
            for name, value in sample.options.items()
        }
        return Sample(sample.input[kept], sample.target[kept], options)

    def loss(self, sample: Sample, **options):
        """Return the same loss as an object."""
        return lossrs.losses[self.name](**sample.options, **options)


def cases(name: str) -> Iterator[Case]:
    """Enumerate the cases of a loss: its settings, without and with the options that are arrays."""
    reference = REFERENCES[name]
    arrays = tuple(field.name for field in dataclasses.fields(lossrs.losses[name]) if field.name in ARRAYS)
    for target in reference.targets:
        for parameters in ({}, *reference.parameters):
            if target != "label":
                parameters = {name: value for name, value in parameters.items() if name != "ignore_index"}
            for given in sorted({(), arrays}):
                yield Case(name, target, parameters, given)


def unique(cases) -> list[Case]:
    return list({str(case): case for case in cases}.values())


# A loss without a reference is a failing test of its own.
CASES = unique(case for name in lossrs.losses if name in REFERENCES for case in cases(name))
#: One case for each loss and kind of target, with the options that are arrays.
PLAIN = list({(case.name, case.target): case for case in CASES if not case.parameters}.values())


def results(case: Case, sample: Sample, sample_weight=None, grad_output=1.25) -> dict[str, Any]:
    """Return what all verbs say."""
    function, (input, target, options) = case.function, sample
    options = options | {"sample_weight": sample_weight}
    gradient, hessian = function.grad_and_hess(input, target, reduction="sum", **options)
    losses, slopes = function.value_and_grad(input, target, reduction="none", **options)
    mean, mean_gradient = function.value_and_grad(input, target, **options)
    return {
        "none": function(input, target, reduction="none", **options),
        "mean": function(input, target, **options),
        "sum": function(input, target, reduction="sum", **options),
        "value_and_grad of none": losses,
        "gradient of none": slopes,
        "value_and_grad": mean,
        "gradient": mean_gradient,
        "grad_and_hess": gradient,
        "hessian": hessian,
        "backward": function.backward(grad_output, input, target, **options),
    }


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


def ulps(actual, expected, dtype=None):
    """Return the distance to the exact value in units of the last place that `dtype` has there."""
    actual, expected = np.asarray(actual), np.asarray(expected, np.longdouble)
    dtype = dtype or actual.dtype
    limits = ml_dtypes.finfo(dtype)
    _, exponent = np.frexp(abs(expected))
    unit = np.ldexp(np.longdouble(limits.eps), np.maximum(exponent - 1, limits.minexp))
    with np.errstate(invalid="ignore"):
        distance = abs(actual.astype(np.longdouble) - expected) / unit
    return np.where((actual == expected) | ((actual != actual) & (expected != expected)), 0, distance)


def exact_mean(case: Case, sample: Sample, losses, sample_weight=None) -> float:
    """Return the sum of the losses over that of the weights, each rounded once."""
    divisor = case.expected(sample)[1].astype(sample.input.dtype)
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
