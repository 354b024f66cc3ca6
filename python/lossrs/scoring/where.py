"""The language of ``--where``: which rows count, as an expression over columns.

It is a small part of Python's grammar, read by Python's parser and never evaluated by Python::

    country == 'de' and 0.5 <= score < 0.9
    not is_test and (split in ('dev', 'test') or weight > 2)
    day >= '2024-03-01' and note is not null and column('odd name') != 3

It has comparisons, chained ones too, of columns, strings, numbers, ``true`` and ``false``; ``in`` and ``not in`` a
list; ``is null`` and ``is not null``; ``and``, ``or``, ``not``, parentheses; columns of truth values by themselves. A
string compared with a column of dates or times is read as one. As in SQL, a comparison with null is null, and a row
counts where the expression is true.

Each expression becomes calls of ``pyarrow.compute``: on the columns of a batch, for its rows, and on field references,
for pyarrow to find the row groups whose statistics rule them out.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np

from lossrs.scoring.columns import Array, Constant, ScoreError, require_pyarrow
from lossrs.scoring.expression import Expression

_COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.Eq: "equal",
    ast.NotEq: "not_equal",
    ast.Lt: "less",
    ast.LtE: "less_equal",
    ast.Gt: "greater",
    ast.GtE: "greater_equal",
}
_CONSTANTS = {"true": True, "false": False, "null": None}
_Operand = tuple[Any, Any]  # an array, a scalar or a field reference, and its Arrow type


class Where(Expression):
    """An expression over columns.

    Attributes
    ----------
    numbers, texts : list of str
        The columns that it needs: those that are compared with strings, and the others. Text files have no types of
        their own.
    """

    what: ClassVar[str] = "where"

    def __init__(self, text: str) -> None:
        require_pyarrow("choosing rows")
        super().__init__(text)

    def _read(self) -> None:
        columns: dict[str, bool] = {}
        self._check(self._tree, columns)
        self.numbers = [name for name, is_text in columns.items() if not is_text]
        self.texts = [name for name, is_text in columns.items() if is_text]

    def excludes(self, constants: Mapping[str, Constant]) -> bool:
        """Tell whether these columns alone, if they have these values in all rows, rule every row out."""
        import pyarrow as pa

        def column(name: str) -> _Operand:
            scalar = constants[name].scalar()
            return scalar, scalar.type

        is_and = isinstance(self._tree, ast.BoolOp) and isinstance(self._tree.op, ast.And)
        for condition in self._tree.values if is_and else [self._tree]:  # type: ignore[attr-defined]
            columns: dict[str, bool] = {}
            self._check(condition, columns)
            if columns.keys() <= constants.keys():
                chosen = self._evaluate(condition, column)
                if isinstance(chosen, pa.Scalar) and chosen.as_py() is not True:
                    return True
        return False

    def mask(self, numbers: Mapping[str, Any], texts: Mapping[str, Any], rows: int) -> Array:
        """Return which rows count, of columns that are Arrow or NumPy arrays."""
        import pyarrow as pa

        def column(name: str) -> _Operand:
            given = (texts if name in self.texts else numbers)[name]
            if isinstance(given, Constant):
                scalar = given.scalar()
                return scalar, scalar.type
            if isinstance(given, np.ndarray):
                given = _arrow(given)
            return _comparable(given, given.type)

        chosen = self._evaluate(self._tree, column)
        if isinstance(chosen, pa.Scalar):
            return np.full(rows, chosen.as_py() is True)
        mask: Array = chosen.fill_null(False).to_numpy(zero_copy_only=False)
        return mask

    def expression(self, types: Mapping[str, Any], constants: Mapping[str, Constant]) -> Any:
        """Return an expression of field references for pyarrow, of columns of these types."""
        import pyarrow as pa
        import pyarrow.compute as pc

        def column(name: str) -> _Operand:
            if name in constants:
                scalar = constants[name].scalar()
                return scalar, scalar.type
            return _comparable(pc.field(name), types[name])

        chosen = self._evaluate(self._tree, column)
        return pc.scalar(chosen) if isinstance(chosen, pa.Scalar) else chosen

    def _check(self, node: ast.expr, columns: dict[str, bool]) -> None:
        """Refuse what the language does not have, and note the columns, and whether strings stand beside them."""
        match node:
            case ast.BoolOp():
                for value in node.values:
                    self._check(value, columns)
            case ast.UnaryOp(op=ast.Not()):
                self._check(node.operand, columns)
            case ast.Compare():
                sides = [node.left, *node.comparators]
                for operator, left, right in zip(node.ops, sides, sides[1:], strict=False):
                    self._check_comparison(operator, left, right, columns)
            case _:
                if self._name(node) is None and not isinstance(self._constant(node), bool):
                    self._refuse(node, "a comparison, or a column of truth values, is needed")
                self._note([node], columns)

    def _check_comparison(self, operator: ast.cmpop, left: ast.expr, right: ast.expr, columns: dict[str, bool]) -> None:
        if isinstance(operator, ast.Is | ast.IsNot):
            if not self._is_null(right):
                self._refuse(right, "`is` is followed by null or by not null")
            self._note([left], columns)
        elif isinstance(operator, ast.In | ast.NotIn):
            if not isinstance(right, ast.Tuple | ast.List | ast.Set) or not right.elts:
                self._refuse(right, "`in` is followed by a list, as in ('a', 'b')")
            self._note([left, *right.elts], columns)
        else:
            self._note([left, right], columns)

    def _note(self, operands: list[ast.expr], columns: dict[str, bool]) -> None:
        names, constants = [], []
        for operand in operands:
            name = self._name(operand)
            if name is not None:
                names.append(name)
            elif self._is_null(operand):
                self._refuse(operand, "nothing compares with null; what asks for it is `is null`")
            else:
                constants.append(self._constant(operand))
        for name in names:
            columns[name] = columns.get(name, False) or any(isinstance(value, str) for value in constants)

    def _name(self, node: ast.expr) -> str | None:
        """Return the name of the column that a node means."""
        match node:
            case ast.Name() if node.id not in _CONSTANTS:
                return node.id
            case ast.Call(func=ast.Name(id="column"), args=[ast.Constant(value=str(name))], keywords=[]):
                return name
        return None

    def _is_null(self, node: ast.expr) -> bool:
        return self._name(node) is None and self._constant(node) is None

    def _constant(self, node: ast.expr) -> str | int | float | bool | None:
        match node:
            case ast.Name() if node.id in _CONSTANTS:
                return _CONSTANTS[node.id]
            case ast.Constant(value=str() | bool() | int() | float() | None as value):
                return value
            case ast.UnaryOp(op=ast.USub() | ast.UAdd() as sign, operand=ast.Constant(value=int() | float() as value)):
                return -value if isinstance(sign, ast.USub) else value
        self._refuse(node, f"{self._source(node)!r} is neither a column nor a string nor a number")

    def _evaluate(self, node: ast.expr, column: Callable[[str], _Operand]) -> Any:
        import pyarrow as pa

        try:
            return self._truth(node, column)
        except pa.ArrowException as error:
            raise ScoreError(f"where {self._text!r}: {' '.join(str(error).split())}") from error

    def _truth(self, node: ast.expr, column: Callable[[str], _Operand]) -> Any:
        import pyarrow as pa

        match node:
            case ast.BoolOp():
                join = "and_kleene" if isinstance(node.op, ast.And) else "or_kleene"
                return _joined(join, [self._truth(value, column) for value in node.values])
            case ast.UnaryOp():
                return _call("invert", self._truth(node.operand, column))
            case ast.Compare():
                sides = [node.left, *node.comparators]
                pairs = zip(node.ops, sides, sides[1:], strict=False)
                return _joined("and_kleene", [self._comparison(*pair, column) for pair in pairs])
        operand, kind = self._operand(node, column)
        if not pa.types.is_boolean(kind):
            self._refuse(node, f"column {self._name(node)!r} holds {kind}; a truth value is needed")
        return operand

    def _comparison(
        self, operator: ast.cmpop, left: ast.expr, right: ast.expr, column: Callable[[str], _Operand]
    ) -> Any:
        if isinstance(operator, ast.Is | ast.IsNot):
            operand, _ = self._operand(left, column)
            return _call("is_null" if isinstance(operator, ast.Is) else "is_valid", operand)
        if isinstance(operator, ast.In | ast.NotIn):
            assert isinstance(right, ast.Tuple | ast.List | ast.Set)
            # pyarrow's is_in would not be null where the column is.
            found = _joined("or_kleene", [self._compared("equal", left, item, column) for item in right.elts])
            return found if isinstance(operator, ast.In) else _call("invert", found)
        return self._compared(_COMPARISONS[type(operator)], left, right, column)

    def _compared(self, how: str, left: ast.expr, right: ast.expr, column: Callable[[str], _Operand]) -> Any:
        (x, x_type), (y, y_type) = self._operand(left, column), self._operand(right, column)
        if (converted := self._converted(right, y_type, x_type)) is not None:
            y, y_type = converted, x_type
        elif (converted := self._converted(left, x_type, y_type)) is not None:
            x, x_type = converted, y_type
        if None not in (_kind(x_type), _kind(y_type)) and _kind(x_type) != _kind(y_type):
            names = [f"column {name!r} holds" if (name := self._name(side)) else "this is" for side in (left, right)]
            self._refuse(right, f"{names[0]} {x_type}, {names[1]} {y_type}; they do not compare")
        return _call(how, x, y)

    def _converted(self, node: ast.expr, kind: Any, to: Any) -> Any:
        """Read a string that stands beside dates or times as one of them."""
        import pyarrow as pa

        if self._name(node) is not None or _kind(kind) != "text" or not pa.types.is_temporal(to):
            return None
        text = self._constant(node)
        try:
            return pa.scalar(text).cast(to)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            self._refuse(node, f"{text!r} cannot be read as {to}")

    def _operand(self, node: ast.expr, column: Callable[[str], _Operand]) -> _Operand:
        import pyarrow as pa

        name = self._name(node)
        if name is not None:
            return column(name)
        value = self._constant(node)
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            value = float(value) if abs(value) < 2**1023 else math.inf if value > 0 else -math.inf
        scalar = pa.scalar(value)
        return scalar, scalar.type


def _call(name: str, *operands: Any) -> Any:
    """Call a function of pyarrow, or make an expression that does if an operand is one."""
    import pyarrow as pa
    import pyarrow.compute as pc

    match operands:
        # A dictionary is looked through once, not for each of its rows.
        case [pa.DictionaryArray() as column, pa.Scalar() as scalar] if len(column.dictionary) <= len(column):
            return getattr(pc, name)(column.dictionary, scalar).take(column.indices)
        case [pa.Scalar() as scalar, pa.DictionaryArray() as column] if len(column.dictionary) <= len(column):
            return getattr(pc, name)(scalar, column.dictionary).take(column.indices)
    if any(isinstance(operand, pc.Expression) for operand in operands):
        operands = tuple(pc.scalar(operand) if isinstance(operand, pa.Scalar) else operand for operand in operands)
    return getattr(pc, name)(*operands)


def _joined(name: str, parts: list[Any]) -> Any:
    whole = parts[0]
    for part in parts[1:]:
        whole = _call(name, whole, part)
    return whole


def _kind(arrow_type: Any) -> str | None:
    """Return a name that types have in common that compare; None of other types."""
    from pyarrow import types

    kind = arrow_type.value_type if types.is_dictionary(arrow_type) else arrow_type
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return "text"
    if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        return "number"
    return "truth value" if types.is_boolean(kind) else None


def _comparable(operand: Any, arrow_type: Any) -> _Operand:
    """Widen half precision, which pyarrow does not compare."""
    import pyarrow as pa

    if pa.types.is_float16(arrow_type):
        return operand.cast(pa.float32()), pa.float32()
    return operand, arrow_type


def _arrow(array: Array) -> Any:
    import pyarrow as pa

    if array.dtype.kind == "S":
        array = np.char.decode(array, errors="replace")
    return pa.array(array.astype(array.dtype.newbyteorder("="), copy=False))
