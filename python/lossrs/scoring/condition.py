"""The language of ``--fail-if``: when a result is not good enough.

Comparisons, chained ones too, of figures and numbers, joined by ``and``, ``or``, ``not``; figures may be added,
subtracted, multiplied and divided; ``any(...)`` is true where a group satisfies it::

    mean > 0.35
    mean - 2 * standard_error > 0.35 or nonfinite > 0
    any(rows >= 100 and mean > 0.5)
    p99 > 4 or quantile(0.999) > 8

A comparison with NaN, such as with a mean of no rows, is neither true nor false, as one with null in SQL, and a
condition that is neither counts as one that holds: what is not known to be good enough is not.
"""

from __future__ import annotations

import ast
import math
import operator
import re
import sys
from collections.abc import Callable, Collection
from typing import Any, ClassVar

import numpy as np

from lossrs.scoring.columns import Array, near_misses
from lossrs.scoring.expression import Expression
from lossrs.scoring.figures import Figures, quantile_name, shown

_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.divide,
}
_FALSE, _UNKNOWN, _TRUE = 0.0, 0.5, 1.0  # so that `and` is the minimum, `or` the maximum, and `not` 1 - x

Column = Callable[[str], Any]


class Condition(Expression):
    """A condition on the figures of a score.

    Parameters
    ----------
    text : str
        The condition.
    figures : collection of str
        The figures that there will be; quantiles there are.
    grouped : bool
        Whether there will be groups.

    Attributes
    ----------
    quantiles : list of float
        The shares whose quantiles it needs.
    """

    what: ClassVar[str] = "fail-if"

    def __init__(self, text: str, figures: Collection[str], *, grouped: bool) -> None:
        self._figures, self._grouped = figures, grouped
        self.quantiles: list[float] = []
        super().__init__(text)

    def _read(self) -> None:
        self._check(self._tree, in_group=False)

    def _check(self, node: ast.expr, *, in_group: bool) -> None:
        match node:
            case ast.BoolOp():
                for value in node.values:
                    self._check(value, in_group=in_group)
            case ast.UnaryOp(op=ast.Not()):
                self._check(node.operand, in_group=in_group)
            case ast.Compare():
                for comparison in node.ops:
                    if type(comparison) not in _COMPARISONS:
                        self._refuse(node, "figures are compared by == != < <= > >=")
                for side in [node.left, *node.comparators]:
                    self._check_number(side)
                if not any(self._name(part) for part in ast.walk(node)):
                    self._refuse(node, f"{self._source(node)!r} compares no figure")
            case ast.Call(func=ast.Name(id="any"), args=[condition], keywords=[]):
                if in_group:
                    self._refuse(node, "any(...) is not for groups within groups")
                if not self._grouped:
                    self._refuse(node, "any(...) asks for a group, and there are none without --by")
                self._check(condition, in_group=True)
            case _:
                self._refuse(node, "a comparison is needed, as in mean > 0.35")

    def _check_number(self, node: ast.expr) -> None:
        match node:
            case ast.BinOp() if type(node.op) in _ARITHMETIC:
                self._check_number(node.left)
                self._check_number(node.right)
            case ast.UnaryOp(op=ast.USub() | ast.UAdd()):
                self._check_number(node.operand)
            case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
                if abs(value) > sys.float_info.max:
                    self._refuse(node, "the number is too large")
            case _ if (share := self._share(node)) is not None:
                if not 0 <= share <= 1:
                    self._refuse(node, f"{self._source(node)!r} is no quantile: shares are in [0, 1]")
                self.quantiles.append(share)
            case ast.Name(id=name):
                if name not in self._figures:
                    known = near_misses(name, self._figures) or f"; there are {', '.join(self._figures)}, p50, p99"
                    self._refuse(node, f"no figure {name!r}{known}")
            case _:
                self._refuse(node, f"{self._source(node)!r} is neither a figure nor a number")

    def _share(self, node: ast.AST) -> float | None:
        """Return the share whose quantile a node means."""
        match node:
            case ast.Name(id=name) if (match := re.fullmatch(r"p(\d+)", name)) and name not in self._figures:
                return float(match[1]) / 100  # infinite of too many digits
            case ast.Call(
                func=ast.Name(id="quantile"), args=[ast.Constant(value=int() | float() as share)], keywords=[]
            ) if not isinstance(share, bool):
                return float(share) if share <= sys.float_info.max else math.inf
        return None

    def _name(self, node: ast.AST) -> str | None:
        """Return the figure that a node means."""
        share = self._share(node)
        if share is not None:
            return quantile_name(share)
        return node.id if isinstance(node, ast.Name) and node.id in self._figures else None

    def failure(self, figures: Figures) -> str | None:
        """Return, where the condition holds, a line that says so with the numbers."""
        with np.errstate(all="ignore"):
            truth = float(self._truth(self._tree, figures, figures.overall.__getitem__))
            if truth == _FALSE:
                return None
            verb = "holds" if truth == _TRUE else "cannot be told, and counts as holding"
            return f"fail-if {self._text!r} {verb}: {', '.join(dict.fromkeys(self._reasons(self._tree, figures)))}"

    def _truth(self, node: ast.expr, figures: Figures, column: Column) -> Array:
        """Return truths, of one for the whole or of one for each group."""
        match node:
            case ast.BoolOp(op=joined, values=values):
                join: Any = np.minimum if isinstance(joined, ast.And) else np.maximum
                truth = self._truth(values[0], figures, column)
                for value in values[1:]:
                    truth = join(truth, self._truth(value, figures, column))
                return truth
            case ast.UnaryOp(operand=operand):
                return np.asarray(1 - self._truth(operand, figures, column))
            case ast.Call(args=[condition]):
                return np.asarray(self._truth(condition, figures, figures.column).max(initial=_FALSE))
        assert isinstance(node, ast.Compare)
        sides = [self._number(side, column) for side in (node.left, *node.comparators)]
        truth = np.asarray(_TRUE)
        for comparison, left, right in zip(node.ops, sides, sides[1:], strict=False):
            unknown = np.isnan(left) | np.isnan(right)
            truth = np.minimum(truth, np.where(unknown, _UNKNOWN, _COMPARISONS[type(comparison)](left, right)))
        return truth

    def _number(self, node: ast.expr, column: Column) -> Any:
        name = self._name(node)
        if name is not None:
            return np.asarray(column(name), np.float64)
        match node:
            case ast.BinOp(left=left, op=how, right=right):
                return _ARITHMETIC[type(how)](self._number(left, column), self._number(right, column))
            case ast.UnaryOp(op=sign, operand=operand):
                return (-1 if isinstance(sign, ast.USub) else 1) * self._number(operand, column)
        assert isinstance(node, ast.Constant)
        assert isinstance(node.value, int | float)
        return np.float64(node.value)

    def _reasons(self, node: ast.expr, figures: Figures) -> list[str]:
        """Return the figures that decide, of groups those of the first one."""
        match node:
            case ast.BoolOp(op=joined, values=values):
                if isinstance(joined, ast.Or):
                    truths = [float(self._truth(value, figures, figures.overall.__getitem__)) for value in values]
                    values = [value for value, truth in zip(values, truths, strict=True) if truth == max(truths)]
                return [reason for value in values for reason in self._reasons(value, figures)]
            case ast.UnaryOp(operand=operand):
                return self._reasons(operand, figures)
            case ast.Call(args=[condition]):
                return self._groups(condition, figures)
        return [f"{name} = {figures.overall[name]}" for name in self._names(node)]

    def _groups(self, condition: ast.expr, figures: Figures) -> list[str]:
        truths = self._truth(condition, figures, figures.column)
        if not truths.size:
            return ["there are no groups"]
        chosen = np.flatnonzero(truths == truths.max())
        if truths.max() == _FALSE:
            return ["in none of the groups"]
        first = int(chosen[0])
        key = ", ".join(f"{name}={shown(part)}" for name, part in zip(figures.by, figures.key(first), strict=True))
        numbers = ", ".join(f"{name} = {figures.column(name)[first]}" for name in self._names(condition))
        more = f" (and {len(chosen) - 1} more of {len(truths)} groups)" if len(chosen) > 1 else ""
        return [f"in {key}: {numbers}{more}"]

    def _names(self, node: ast.AST) -> list[str]:
        return list(dict.fromkeys(name for part in ast.walk(node) if (name := self._name(part))))
