"""What all losses have in common: options, the four verbs, and their functional form."""

import dataclasses
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import FunctionType, MappingProxyType
from typing import Any, ClassVar, Literal, TypeAlias, TypeVar, dataclass_transform

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lossrs import _lossrs

Reduction: TypeAlias = Literal["none", "mean", "sum"]
Array = NDArray[Any]
Wrt: TypeAlias = str | tuple[str, ...] | None

_REGISTRY: dict[str, type["Loss"]] = {}
#: The class of each loss by its functional name.
losses: Mapping[str, type["Loss"]] = MappingProxyType(_REGISTRY)

ArrayOption: TypeAlias = ArrayLike | None


@dataclass(kw_only=True, repr=False, eq=False)
class Loss:
    """A loss with its options: immutable, picklable, callable.

    Parameters
    ----------
    reduction : {'none', 'mean', 'sum'}, default 'mean'
        What becomes of the losses of the samples.
    """

    reduction: Reduction = "mean"

    function_name: ClassVar[str]
    #: The names of the arrays that calls take, in their order.
    operands: ClassVar[tuple[str, ...]]
    #: The names of those that calls may take besides.
    optional: ClassVar[tuple[str, ...]]
    #: The names of the operands that have gradients.
    inputs: ClassVar[tuple[str, ...]]
    #: The names of the options that are arrays; the others are parameters of the formula.
    array_options: ClassVar[tuple[str, ...]] = ()
    reductions: ClassVar[tuple[str, ...]] = ("none", "mean", "sum")
    # What numpydoc sections say of the arguments that calls take.
    arguments: ClassVar[str] = ""

    def __post_init__(self) -> None:
        """Check the options."""
        if self.reduction not in self.reductions:
            *others, last = map(repr, self.reductions)
            raise ValueError(f"reduction must be {', '.join(others)} or {last}, got {self.reduction!r}")
        options = self._options()
        del options["reduction"]
        arrays = {}
        for name in self.array_options:
            value = options.pop(name)
            if value is not None:
                array = np.array(value)
                array.setflags(write=False)
                setattr(self, name, array)
                arrays[name] = array
        kernel = self.make_kernel(**options)
        # The kernel has taken them as numbers; as the same numbers they are equal and have the same representation.
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(field.default, int | float) and value is not None:
                setattr(self, field.name, type(field.default)(value))
        vars(self).update(_kernel=kernel, _arrays=arrays or None)

    # Frozen as dataclasses are, without the methods that each would compile for itself at import.
    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse, once the loss is made."""
        if "_arrays" in vars(self):
            raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        """Refuse."""
        raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")

    @classmethod
    def make_kernel(cls, **options: Any) -> Any:
        """Return what computes the loss with these options, after checking them."""
        return _lossrs.Loss(cls.function_name, **options)

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
        self,
        *operands: ArrayLike,
        sample_weight: ArrayLike | None = None,
        out: Array | None = None,
        **named: ArrayLike,
    ) -> Any:
        """Return the loss, as the function of `function_name` does."""
        if not named and len(operands) == len(self.operands):
            return self._kernel.value(operands, self._arrays, sample_weight, self.reduction, out)
        log_prob = self._returns_log_prob(named)
        operands, arrays = self._bind(operands, named)
        return self._kernel.value(operands, arrays, sample_weight, self.reduction, out, log_prob)

    def value_and_grad(
        self,
        *operands: ArrayLike,
        sample_weight: ArrayLike | None = None,
        wrt: Wrt = None,
        out: Any = None,
        **named: ArrayLike,
    ) -> tuple[Any, ...]:
        """Return the loss and its gradients with respect to the inputs, in one pass."""
        if not named and len(operands) == len(self.operands):
            return self._kernel.value_and_grad(operands, self._arrays, sample_weight, self.reduction, out, wrt)
        log_prob = self._returns_log_prob(named)
        operands, arrays = self._bind(operands, named)
        return self._kernel.value_and_grad(operands, arrays, sample_weight, self.reduction, out, wrt, log_prob)

    def grad_and_hess(
        self,
        *operands: ArrayLike,
        sample_weight: ArrayLike | None = None,
        wrt: Wrt = None,
        out: Any = None,
        **named: ArrayLike,
    ) -> tuple[Any, Any]:
        """Return the gradients and the diagonals of the Hessians."""
        operands, arrays = self._bind(operands, named)
        return self._kernel.grad_and_hess(operands, arrays, sample_weight, self.reduction, out, wrt)

    def backward(
        self,
        grad_output: ArrayLike,
        *operands: ArrayLike,
        sample_weight: ArrayLike | None = None,
        wrt: Wrt = None,
        out: Any = None,
        **named: ArrayLike,
    ) -> Any:
        """Return the vector-Jacobian product: the gradients times that with respect to the loss."""
        operands, arrays = self._bind(operands, named)
        return self._kernel.backward(grad_output, operands, arrays, sample_weight, self.reduction, out, wrt)

    def _returns_log_prob(self, named: dict[str, Any]) -> bool:
        return bool(named and self._kernel.has_log_prob and named.pop("return_log_prob", False))

    def _bind(self, given: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any] | None]:
        """Return the operands, and the options that are arrays with the operands that may be given."""
        names, arrays = self.operands, self._arrays
        if named or len(given) != len(names):
            if len(given) == len(names) + 1 and self.optional:
                given, named = given[:-1], {self.optional[0]: given[-1], **named}
            given = bind(type(self).__name__, names, given, named)
            for name in self.optional:
                if (array := named.pop(name, None)) is not None:
                    arrays = {**(arrays or {}), name: array}
            if named:
                raise TypeError(f"{type(self).__name__} takes no argument {next(iter(named))!r}")
        return given, arrays

    # Of the class, the kernel of its defaults; of a loss, its own.
    _kernel: ClassVar[_lossrs.Loss]
    _arrays: ClassVar[dict[str, Any] | None]


LossType = TypeVar("LossType", bound=Loss)

# Types of options whose values stay what they are.
_PLAIN = (bool, int, float, str, type(None))


def _restore(cls: type[Loss], options: dict[str, Any]) -> Loss:
    return cls(**options)


@dataclass_transform(kw_only_default=True)
def loss(function_name: str) -> Callable[[type[LossType]], type[LossType]]:
    """Register a class as the loss of a functional name, its annotated attributes as its options."""

    def register(cls: type[LossType]) -> type[LossType]:
        cls.function_name = function_name
        cls = dataclass(kw_only=True, repr=False, eq=False)(cls)
        _REGISTRY[function_name] = cls
        cls.array_options = tuple(field.name for field in dataclasses.fields(cls) if field.type == ArrayOption)
        cls._kernel = kernel = cls()._kernel
        cls.operands, cls.optional, cls.inputs = kernel.operands, kernel.optional, kernel.inputs
        for verb in ("__call__", "value_and_grad", "grad_and_hess", "backward"):
            inherited = getattr(cls, verb)
            method = FunctionType(inherited.__code__, inherited.__globals__, verb, closure=inherited.__closure__)
            method.__kwdefaults__, method.__doc__ = inherited.__kwdefaults__, inherited.__doc__
            method.__qualname__ = f"{cls.__qualname__}.{verb}"
            method.__signature__ = signature(cls, verb, of_class=True)  # type: ignore[attr-defined]
            setattr(cls, verb, method)
        return cls

    return register


def bind(what: str, names: tuple[str, ...], given: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, ...]:
    """Return the arguments in their order; those given by name are taken out of `named`."""
    if len(given) > len(names):
        raise TypeError(f"{what} takes {', '.join(names)}; it got {len(given)} arguments by position")
    for name in names[: len(given)]:
        if name in named:
            raise TypeError(f"{what} got two values for {name!r}")
    missing = [name for name in names[len(given) :] if name not in named]
    if missing:
        raise TypeError(f"{what} is missing {' and '.join(map(repr, missing))}")
    return given + tuple(named.pop(name) for name in names[len(given) :])


def function(cls: type[Loss]) -> Any:
    """Make the functional form of a loss: a function, with the other verbs as its attributes."""
    default = cls._kernel
    name, arrays = cls.function_name, (*cls.optional, *cls.array_options)
    defaults = dict.fromkeys(cls.optional) | {
        field.name: field.default for field in dataclasses.fields(cls) if field.name != "reduction"
    }
    several, has_log_prob = len(cls.inputs) > 1, default.has_log_prob
    # The kernels of a few calls with options, which calls mostly repeat, by the options' values and types.
    kept: dict[Any, _lossrs.Loss] = {}

    def returns_log_prob(options: dict[str, Any]) -> bool:
        return bool(has_log_prob and options.pop("return_log_prob", False))

    def resolve(
        names: tuple[str, ...], given: tuple[Any, ...], options: dict[str, Any]
    ) -> tuple[_lossrs.Loss, tuple[Any, ...], dict[str, Any] | None]:
        """Return the kernel of a call's own options, its operands, and the options that are arrays."""
        key = None
        if len(given) == len(names):
            key = (*options.items(), *map(type, options.values()))
            try:
                if kernel := kept.get(key):
                    return kernel, given, None
            except TypeError:  # an array has no hash
                key = None
        # The first option that is an array may follow the operands.
        if len(given) == len(names) + 1 and arrays:
            if arrays[0] in options:
                raise TypeError(f"{name} got two values for {arrays[0]!r}")
            options[arrays[0]], given = given[-1], given[:-1]
        operands = bind(name, names, given, options)
        unknown = [option for option in options if option not in defaults]
        if unknown:
            special = [*["wrt"] * several, *["return_log_prob"] * has_log_prob, "out"]
            known = ", ".join([*defaults, "reduction", "sample_weight", *special])
            raise TypeError(f"{name} has no option {unknown[0]!r}; its options are {known}")
        chosen = {option: array for option in arrays if (array := options.pop(option, None)) is not None}
        if not options:
            return default, operands, chosen or None
        parameters: dict[str, Any] = {
            option: value for option, value in defaults.items() if option not in arrays
        } | options
        kernel = cls.make_kernel(**parameters)
        if key and not chosen and all(isinstance(value, _PLAIN) for value in options.values()):
            if len(kept) >= 16:
                kept.clear()
            kept[key] = kernel
        return kernel, operands, chosen or None

    def value(
        *operands: Any, reduction: Any = "mean", sample_weight: Any = None, out: Any = None, **options: Any
    ) -> Any:
        if not options and len(operands) == count:
            return default_value(operands, None, sample_weight, reduction, out)
        log_prob = returns_log_prob(options)
        kernel, operands, chosen = resolve(names, operands, options)
        return kernel.value(operands, chosen, sample_weight, reduction, out, log_prob)

    def value_and_grad(
        *operands: Any, reduction: Any = "mean", sample_weight: Any = None, out: Any = None, **options: Any
    ) -> Any:
        if not options and len(operands) == count:
            return default_value_and_grad(operands, None, sample_weight, reduction, out, None)
        wrt, log_prob = options.pop("wrt", None) if several else None, returns_log_prob(options)
        kernel, operands, chosen = resolve(names, operands, options)
        return kernel.value_and_grad(operands, chosen, sample_weight, reduction, out, wrt, log_prob)

    def grad_and_hess(
        *operands: Any, reduction: Any = "mean", sample_weight: Any = None, out: Any = None, **options: Any
    ) -> Any:
        wrt = options.pop("wrt", None) if several else None
        kernel, operands, chosen = resolve(names, operands, options)
        return kernel.grad_and_hess(operands, chosen, sample_weight, reduction, out, wrt)

    def backward(
        *operands: Any, reduction: Any = "mean", sample_weight: Any = None, out: Any = None, **options: Any
    ) -> Any:
        wrt = options.pop("wrt", None) if several else None
        given = resolve(("grad_output", *names), operands, options)
        kernel, (grad_output, *rest), chosen = given
        return kernel.backward(grad_output, tuple(rest), chosen, sample_weight, reduction, out, wrt)

    names, default_value, default_value_and_grad = cls.operands, default.value, default.value_and_grad
    count = len(names)
    verbs: list[Any] = [value, value_and_grad, *[grad_and_hess] * default.has_hessian, backward]
    for verb in verbs:
        verb.__module__ = "lossrs.functional"
        verb.__signature__ = signature(cls, verb.__name__)
        verb.__doc__ = documentation(cls, verb.__name__)
        if verb is not value:
            verb.__qualname__ = f"{name}.{verb.__name__}"
            setattr(value, verb.__name__, verb)
    value.__name__ = value.__qualname__ = name
    return value


def signature(cls: type[Loss], verb: str, *, of_class: bool = False) -> inspect.Signature:
    """Return a verb's signature: arrays first, then options by keyword only; those of a class are its instance's."""
    arrays = cls.optional if of_class else (*cls.optional, *cls.array_options)
    fields = {} if of_class else {field.name: field.default for field in dataclasses.fields(cls)}
    leading = [*["self"] * of_class, *["grad_output"] * (verb == "backward"), *cls.operands]
    options = {name: default for name, default in fields.items() if name not in ("reduction", *arrays[:1])}
    options |= {"reduction": fields["reduction"]} if fields else {}
    options["sample_weight"] = None
    if verb not in ("value", "__call__") and len(cls.inputs) > 1:
        options["wrt"] = None
    if cls._kernel.has_log_prob and verb in ("value", "__call__", "value_and_grad"):
        options["return_log_prob"] = False
    options["out"] = None
    positional, keyword = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
    return inspect.Signature(
        [
            *(inspect.Parameter(name, positional) for name in leading),
            *(inspect.Parameter(name, positional, default=None) for name in arrays[:1]),
            *(inspect.Parameter(name, keyword, default=default) for name, default in options.items()),
        ]
    )


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


_WRT = """\
wrt : str or tuple of str, optional
    What derivatives are with respect to, by default {asked}: of a name, among
    {inputs}, an array is returned, of a tuple of names a tuple, in its order.
"""

_RETURN_LOG_PROB = """\
return_log_prob : bool, default False
    Whether the logarithms of ``softmax(input)`` are returned besides, of ignored samples too.
"""

_LOG_PROB = """\
log_prob : ndarray
    With `return_log_prob`, of the input's shape and dtype; both are then a tuple.
"""

_OUT_OF_SEVERAL = """\
out : ndarray or tuple of ndarray, optional
    Where the gradients go, in the form that is returned; they may be operands.
"""

_GRADIENT_OF_SEVERAL = """\
gradient : ndarray or tuple of ndarray
    As `wrt` asks, of the inputs' shapes and dtypes.
"""

# The same of losses of several inputs.
_GIVES_OF_SEVERAL = {
    "value": _GIVES["value"],
    "value_and_grad": (
        "The value and the gradients with respect to the inputs, in one pass.\n\n",
        _OUT_OF_SEVERAL,
        f"value : float or ndarray\n    The loss, or the losses with ``reduction='none'``.\n{_GRADIENT_OF_SEVERAL}",
    ),
    "grad_and_hess": (
        "The gradients and the diagonals of the Hessians with respect to the inputs.\n\n",
        "out : tuple, optional\n    Where gradients and Hessians go: a pair, of arrays or of tuples of them.\n",
        "gradient, hessian : ndarray or tuple of ndarray\n    As `wrt` asks, of the inputs' shapes and dtypes.\n",
    ),
    "backward": (
        "The vector-Jacobian product: the gradients times `grad_output`, the gradient with respect to the loss.\n\n",
        _OUT_OF_SEVERAL,
        _GRADIENT_OF_SEVERAL,
    ),
}


def documentation(cls: type[Loss], verb: str) -> str:
    """Return a verb's docstring: that of its class, with what calls take, return and raise."""
    text = inspect.cleandoc(cls.__doc__ or "")
    before, _, rest = text.partition("Parameters\n----------\n")
    options, section, after = rest.partition("\n\n")
    summary, _, body = before.partition("\n\n")
    several = len(cls.inputs) > 1
    leads, out, returns = (_GIVES_OF_SEVERAL if several else _GIVES)[verb]
    grad_output = "grad_output : array_like\n    The gradient with respect to the loss.\n" if verb == "backward" else ""
    wrt = ""
    if several and verb != "value":
        names = [f"``'{name}'``" for name in cls.inputs]
        asked = "all of them" if cls._kernel.asked == len(names) else " and ".join(names[: cls._kernel.asked])
        wrt = _WRT.format(inputs=", ".join(names), asked=asked)
    log_prob = ""
    if cls._kernel.has_log_prob and verb in ("value", "value_and_grad"):
        log_prob, returns = _RETURN_LOG_PROB, returns + _LOG_PROB
    return (
        f"{summary}\n\n{leads}{body}Parameters\n----------\n{grad_output}{cls.arguments}{options}\n{_SAMPLE_WEIGHT}"
        f"{wrt}{log_prob}{out}\n"
        f"Returns\n-------\n{returns}\n"
        "Raises\n------\nValueError\n    If shapes, labels or options do not fit; the message says what and where.\n"
        f"TypeError\n    If an argument is not an array of numbers, or is masked.{section}{after}"
    )
