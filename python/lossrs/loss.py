"""What all losses have in common: options, the four verbs, and their functional form."""

import dataclasses
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Literal, TypeAlias, TypeVar, dataclass_transform

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lossrs import _lossrs

Reduction: TypeAlias = Literal["none", "mean", "sum"]
Array = NDArray[Any]

_REGISTRY: dict[str, type["Loss"]] = {}
#: The class of each loss by its functional name.
losses: Mapping[str, type["Loss"]] = MappingProxyType(_REGISTRY)

# The options that are arrays; the others are parameters of the formula.
_ARRAYS = ("weight", "pos_weight")


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Loss:
    """A loss with its options: immutable, picklable, callable.

    Parameters
    ----------
    reduction : {'none', 'mean', 'sum'}, default 'mean'
        What becomes of the losses of the samples.
    """

    reduction: Reduction = "mean"

    function_name: ClassVar[str]
    # What numpydoc sections say of the arguments that calls take.
    arguments: ClassVar[str] = ""

    def __post_init__(self) -> None:
        """Check the options."""
        if self.reduction not in ("none", "mean", "sum"):
            raise ValueError(f"reduction must be 'none', 'mean' or 'sum', got {self.reduction!r}")
        options = self._options()
        arrays = {name: options.pop(name, None) for name in _ARRAYS}
        del options["reduction"]
        for name, value in arrays.items():
            if value is not None:
                array = np.array(value)
                array.setflags(write=False)
                object.__setattr__(self, name, array)
        object.__setattr__(self, "_kernel", _lossrs.Loss(self.function_name, **options))
        # The kernel has taken them as numbers; as the same numbers they are equal and have the same representation.
        for field in dataclasses.fields(self):
            if isinstance(field.default, int | float):
                object.__setattr__(self, field.name, type(field.default)(getattr(self, field.name)))
        object.__setattr__(self, "_arrays", tuple(getattr(self, name, None) for name in _ARRAYS))

    def _options(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def __repr__(self) -> str:
        """Python that makes the same loss, of the options that are not their defaults."""
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        shown = {
            name: value.tolist() if isinstance(value, np.ndarray) else value
            for name, value in self._options().items()
            if isinstance(value, np.ndarray) or value != defaults[name]
        }
        # Numbers that Python has no literals for.
        texts = {name: re.sub(r"\b(inf|nan)\b", r"float('\1')", repr(value)) for name, value in shown.items()}
        return f"{type(self).__name__}({', '.join(f'{name}={text}' for name, text in texts.items())})"

    def __eq__(self, other: object) -> bool:
        """Whether both are the same loss with the same options."""
        return type(self) is type(other) and repr(self) == repr(other)

    def __hash__(self) -> int:
        """Of equal losses, the same."""
        return hash(repr(self))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the options; the kernel is made anew."""
        return (_restore, (type(self), self._options()))

    def __call__(
        self, input: ArrayLike, target: ArrayLike, *, sample_weight: ArrayLike | None = None, out: Array | None = None
    ) -> Any:
        """Return the loss, as the function of `function_name` does."""
        return self._kernel.value(input, target, *self._arrays, sample_weight, self.reduction, out)

    def value_and_grad(
        self, input: ArrayLike, target: ArrayLike, *, sample_weight: ArrayLike | None = None, out: Array | None = None
    ) -> tuple[Any, Array]:
        """Return the loss and its gradient with respect to the input, in one pass."""
        return self._kernel.value_and_grad(input, target, *self._arrays, sample_weight, self.reduction, out)

    def grad_and_hess(
        self,
        input: ArrayLike,
        target: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        out: tuple[Array, Array] | None = None,
    ) -> tuple[Array, Array]:
        """Return the gradient and the diagonal of the Hessian."""
        return self._kernel.grad_and_hess(input, target, *self._arrays, sample_weight, self.reduction, out)

    def backward(
        self,
        grad_output: ArrayLike,
        input: ArrayLike,
        target: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        out: Array | None = None,
    ) -> Array:
        """Return the vector-Jacobian product: the gradient times that with respect to the loss."""
        return self._kernel.backward(grad_output, input, target, *self._arrays, sample_weight, self.reduction, out)

    _kernel: ClassVar[_lossrs.Loss]
    _arrays: ClassVar[tuple[Any, Any]]


LossType = TypeVar("LossType", bound=Loss)


def _restore(cls: type[Loss], options: dict[str, Any]) -> Loss:
    return cls(**options)


@dataclass_transform(frozen_default=True, kw_only_default=True)
def loss(function_name: str) -> Callable[[type[LossType]], type[LossType]]:
    """Register a class as the loss of a functional name, its annotated attributes as its options."""

    def register(cls: type[LossType]) -> type[LossType]:
        cls.function_name = function_name
        cls = dataclass(frozen=True, kw_only=True, repr=False, eq=False)(cls)
        _REGISTRY[function_name] = cls
        return cls

    return register


def function(cls: type[Loss]) -> Any:
    """Make the functional form of a loss: a function, with the other verbs as its attributes."""
    default = cls()._kernel
    defaults = {field.name: field.default for field in dataclasses.fields(cls) if field.name != "reduction"}

    def resolve(weight: Any, options: dict[str, Any]) -> tuple[_lossrs.Loss, Any, Any]:
        """Return the kernel of a call's own options, and their arrays."""
        if weight is not None:
            options["weight"] = weight
        unknown = [name for name in options if name not in defaults]
        if unknown:
            known = ", ".join([*defaults, "reduction", "sample_weight", "out"])
            raise TypeError(f"{cls.function_name} has no option {unknown[0]!r}; its options are {known}")
        weight, pos_weight = options.pop("weight", None), options.pop("pos_weight", None)
        parameters: dict[str, Any] = {name: value for name, value in defaults.items() if name not in _ARRAYS} | options
        return (_lossrs.Loss(cls.function_name, **parameters) if options else default, weight, pos_weight)

    def forward(name: str) -> Any:
        """Make a verb that takes no gradient; without options it calls the kernel that is there."""
        default_call = getattr(default, name)

        def verb(
            input: Any,
            target: Any,
            weight: Any = None,
            *,
            reduction: Any = "mean",
            sample_weight: Any = None,
            out: Any = None,
            **options: Any,
        ) -> Any:
            if weight is None and not options:
                return default_call(input, target, None, None, sample_weight, reduction, out)
            kernel, weight, pos_weight = resolve(weight, options)
            return getattr(kernel, name)(input, target, weight, pos_weight, sample_weight, reduction, out)

        verb.__name__ = name
        return verb

    def backward(
        grad_output: Any,
        input: Any,
        target: Any,
        weight: Any = None,
        *,
        reduction: Any = "mean",
        sample_weight: Any = None,
        out: Any = None,
        **options: Any,
    ) -> Any:
        kernel, weight, pos_weight = resolve(weight, options)
        return kernel.backward(grad_output, input, target, weight, pos_weight, sample_weight, reduction, out)

    name = cls.function_name
    value = forward("value")
    verbs: list[Any] = [value, forward("value_and_grad"), forward("grad_and_hess"), backward]
    for verb in verbs:
        verb.__module__ = "lossrs.functional"
        verb.__signature__ = signature(verb, defaults)
        verb.__doc__ = documentation(cls, verb.__name__)
        if verb is not value:
            verb.__qualname__ = f"{name}.{verb.__name__}"
            setattr(value, verb.__name__, verb)
    value.__name__ = value.__qualname__ = name
    return value


def signature(verb: Callable[..., Any], defaults: dict[str, Any]) -> inspect.Signature:
    """Return a verb's signature with the options of its loss: arrays first, then options by keyword only."""
    given = inspect.signature(verb).parameters
    keyword = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=value) for name, value in defaults.items()
    ]
    parameters = []
    for name, parameter in given.items():
        if name == "weight" and name not in defaults:
            continue
        if name == "reduction":
            parameters += [option for option in keyword if option.name != "weight"]
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD:
            parameters.append(parameter)
    return inspect.Signature(parameters)


_SAMPLE_WEIGHT = """\
sample_weight : array_like, optional
    Weights that are broadcast to the losses of the samples; ``'mean'`` is then ``sum(w * loss) / sum(w)``. A weight of
    zero leaves a sample out, whatever it holds.
"""

_GIVES = {
    "value": (
        "",
        "out : ndarray, optional\n    Where the losses go, with ``reduction='none'``.\n",
        "float or ndarray\n    The loss, in double precision; with ``reduction='none'`` the losses, in the\n"
        "    input's dtype.\n",
    ),
    "value_and_grad": (
        "The value and the gradient with respect to the input, in one pass.\n\n",
        "out : ndarray, optional\n    Where the gradient goes; it may be `input` itself.\n",
        "value : float or ndarray\n    The loss, or the losses with ``reduction='none'``.\n"
        "gradient : ndarray\n    Of the input's shape and dtype.\n",
    ),
    "grad_and_hess": (
        "The gradient and the diagonal of the Hessian with respect to the input.\n\n",
        "out : tuple of ndarray, optional\n    Where the two go.\n",
        "gradient, hessian : ndarray\n    Of the input's shape and dtype. Boosting wants them unscaled:\n"
        "    ``reduction='sum'``.\n",
    ),
    "backward": (
        "The vector-Jacobian product: the gradient times `grad_output`, the gradient with respect to the loss.\n\n",
        "out : ndarray, optional\n    Where the gradient goes; it may be `input` itself.\n",
        "gradient : ndarray\n    Of the input's shape and dtype.\n",
    ),
}


def documentation(cls: type[Loss], verb: str) -> str:
    """Return a verb's docstring: that of its class, with what calls take, return and raise."""
    text = inspect.cleandoc(cls.__doc__ or "")
    before, _, rest = text.partition("Parameters\n----------\n")
    options, section, after = rest.partition("\n\n")
    summary, _, body = before.partition("\n\n")
    leads, out, returns = _GIVES[verb]
    grad_output = "grad_output : array_like\n    The gradient with respect to the loss.\n" if verb == "backward" else ""
    return (
        f"{summary}\n\n{leads}{body}Parameters\n----------\n{grad_output}{cls.arguments}{options}\n{_SAMPLE_WEIGHT}{out}\n"
        f"Returns\n-------\n{returns}\n"
        "Raises\n------\nValueError\n    If shapes, labels or options do not fit; the message says what and where.\n"
        f"TypeError\n    If an argument is not an array of numbers, or is masked.{section}{after}"
    )
