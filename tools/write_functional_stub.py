"""Write python/lossrs/functional.pyi from the registry: names, arguments and defaults, for type checkers."""

import dataclasses
import inspect
import json
import sys
from pathlib import Path

import lossrs
from lossrs import functional

STUB = Path(__file__).parent.parent / "python" / "lossrs" / "functional.pyi"

HEADER = """\
# Written by tools/write_functional_stub.py.
import collections.abc
from typing import Any, Literal, Protocol, overload

from numpy.typing import ArrayLike, NDArray

__all__ = {names}

_Array = NDArray[Any]
"""


def text_of(default: object) -> str:
    """Return a default as source."""
    return json.dumps(default) if isinstance(default, str) else repr(default)


def type_of(type_: object) -> str:
    """Return the type of an option as source."""
    text = type_.__name__ if isinstance(type_, type) else str(type_)
    return text.replace("typing.", "").replace("'", '"')


def gradients(count: int, *, is_tuple: bool) -> str:
    """Return the type of the gradients with respect to so many inputs."""
    return f"tuple[{', '.join(['_Array'] * count)}]" if is_tuple else "_Array"


def method(cls: type[lossrs.Loss], verb: str) -> str:
    """Return a verb as a method of a protocol, in two overloads where the reduction decides what it returns."""
    function = getattr(functional, cls.function_name)
    signature = inspect.signature(function if verb == "__call__" else getattr(function, verb))
    fields = {field.name: field.type for field in dataclasses.fields(cls)}
    kernel = cls()._kernel
    several = len(kernel.inputs) > 1
    # With several inputs it depends on `wrt`.
    gradient = "Any" if several else gradients(kernel.asked, is_tuple=False)

    def annotation(name: str) -> str:
        if name in fields and name not in cls.array_options:
            return type_of(fields[name])
        if name == "out":
            pair = f"tuple[{gradient}, {gradient}]"
            return f"{'_Array' if verb == '__call__' else pair if verb == 'grad_and_hess' else gradient} | None"
        if name == "wrt":
            return "str | tuple[str, ...] | None"
        if name == "return_log_prob":
            return "Literal[False]"
        return "ArrayLike | None" if signature.parameters[name].default is None else "ArrayLike"

    def text(reduction: str | None, returns: str, *, log_prob: bool = False) -> str:
        parts = ["self"]
        star = False
        for parameter in signature.parameters.values():
            if parameter.kind is parameter.KEYWORD_ONLY and not star:
                parts.append("*")
                star = True
            default = "" if parameter.default is parameter.empty else f" = {text_of(parameter.default)}"
            kind = annotation(parameter.name)
            if parameter.name == "reduction" and reduction is not None:
                kind, default = (reduction, "" if "none" in reduction else default)
            if parameter.name == "return_log_prob" and log_prob:
                kind, default = "Literal[True]", ""
            parts.append(f"{parameter.name}: {kind}{default}")
        return f"    def {verb}(\n        " + ",\n        ".join(parts) + f",\n    ) -> {returns}: ...\n"

    if verb == "grad_and_hess":
        return text(None, f"tuple[{gradient}, {gradient}]")
    if verb == "backward":
        return text(None, gradient)
    reduced = type_of(fields["reduction"]).replace('"none", ', "")
    gradients_ = [gradient] * (verb == "value_and_grad")
    overloads = []
    for log_prob in (False, True) if kernel.has_log_prob else (False,):
        for reductions, value in ((reduced, "float"), ('Literal["none"]', "_Array")):
            results = [value, *gradients_, *["_Array"] * log_prob]
            returns = f"tuple[{', '.join(results)}]" if len(results) > 1 else value
            overloads.append(text(reductions, returns, log_prob=log_prob))
    return "".join(f"    @overload\n{overload}" for overload in overloads)


def stub() -> str:
    """Return the whole stub."""
    classes = sorted(lossrs.losses.values(), key=lambda cls: cls.function_name)
    names = [cls.function_name for cls in classes]
    parts = [HEADER.format(names="[\n" + "".join(f'    "{name}",\n' for name in names) + "]")]
    for cls in classes:
        function = getattr(functional, cls.function_name)
        verbs = [verb for verb in ("value_and_grad", "grad_and_hess", "backward") if hasattr(function, verb)]
        methods = "".join(method(cls, verb) for verb in ("__call__", *verbs))
        parts.append(f"\nclass _{cls.__name__}(Protocol):\n{methods}\n{cls.function_name}: _{cls.__name__}\n")
    return "".join(parts)


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(0 if STUB.read_text() == stub() else f"{STUB.name} is not what {Path(__file__).name} writes: run it")
    STUB.write_text(stub())
