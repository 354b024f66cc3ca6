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
from typing import Any, Literal, Protocol, overload

from numpy.typing import ArrayLike, NDArray

__all__ = {names}

_Array = NDArray[Any]
"""

RETURNS = {
    "value_and_grad": ("tuple[float, _Array]", "tuple[_Array, _Array]"),
    "grad_and_hess": ("tuple[_Array, _Array]", None),
    "backward": ("_Array", None),
    "__call__": ("float", "_Array"),
}
TYPES = {
    "reduction": 'Literal["none", "mean", "sum"]',
    "sample_weight": "ArrayLike | None",
    "out": "_Array | None",
    "input": "ArrayLike",
    "target": "ArrayLike",
    "grad_output": "ArrayLike",
}


def text_of(default: object) -> str:
    """Return a default as source."""
    return json.dumps(default) if isinstance(default, str) else repr(default)


def method(cls: type[lossrs.Loss], verb: str) -> str:
    """Return a verb as a method of a protocol, in two overloads where the reduction decides what it returns."""
    function = getattr(functional, cls.function_name)
    signature = inspect.signature(function if verb == "__call__" else getattr(function, verb))
    fields = {field.name: field.type for field in dataclasses.fields(cls)}

    def annotation(name: str) -> str:
        if name in ("weight", "pos_weight"):
            return "ArrayLike | None"
        if name == "out" and verb == "grad_and_hess":
            return "tuple[_Array, _Array] | None"
        if name in TYPES:
            return TYPES[name]
        type_ = fields[name]
        return type_.__name__ if isinstance(type_, type) else str(type_)

    def text(reduction: str | None, returns: str) -> str:
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
            parts.append(f"{parameter.name}: {kind}{default}")
        return f"    def {verb}(\n        " + ",\n        ".join(parts) + f",\n    ) -> {returns}: ...\n"

    reduced, unreduced = RETURNS[verb]
    if unreduced is None:
        return text(None, reduced)
    return (
        "    @overload\n"
        + text('Literal["mean", "sum"]', reduced)
        + "    @overload\n"
        + text('Literal["none"]', unreduced)
    )


def stub() -> str:
    """Return the whole stub."""
    classes = sorted(lossrs.losses.values(), key=lambda cls: cls.function_name)
    names = [cls.function_name for cls in classes]
    parts = [HEADER.format(names="[\n" + "".join(f'    "{name}",\n' for name in names) + "]")]
    for cls in classes:
        verbs = "".join(method(cls, verb) for verb in ("__call__", "value_and_grad", "grad_and_hess", "backward"))
        parts.append(f"\nclass _{cls.__name__}(Protocol):\n{verbs}\n{cls.function_name}: _{cls.__name__}\n")
    return "".join(parts)


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(0 if STUB.read_text() == stub() else f"{STUB.name} is not what {Path(__file__).name} writes: run it")
    STUB.write_text(stub())
