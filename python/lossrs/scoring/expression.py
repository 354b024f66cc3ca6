"""Expressions in a small part of Python's grammar: read by Python's parser and never evaluated by Python."""

from __future__ import annotations

import ast
import warnings
from abc import ABC, abstractmethod
from typing import ClassVar, NoReturn

from lossrs.scoring.columns import ScoreError


class Expression(ABC):
    """An expression. What is wrong with it is said in one line, with the place."""

    what: ClassVar[str]  # what errors call it

    def __init__(self, text: str) -> None:
        self._text = " ".join(text.splitlines()).strip()
        try:
            with warnings.catch_warnings(action="ignore"):  # of odd escapes in strings
                self._tree = ast.parse(self._text, mode="eval").body
            self._read()
        except SyntaxError as error:
            raise self._error(error.offset or 1, error.msg) from None
        except (ValueError, OverflowError, RecursionError, MemoryError) as error:
            raise self._error(1, str(error) or "too deeply nested") from None

    @abstractmethod
    def _read(self) -> None:
        """Refuse what the language does not have."""

    def _error(self, position: int, found: str) -> ScoreError:
        return ScoreError(f"{self.what} {self._text!r}: {found}, at character {position}")

    def _refuse(self, node: ast.AST, found: str) -> NoReturn:
        # Python counts the bytes of UTF-8.
        before = self._text.encode()[: node.col_offset].decode(errors="replace")  # type: ignore[attr-defined]
        raise self._error(len(before) + 1, found)

    def _source(self, node: ast.expr) -> str:
        return ast.get_source_segment(self._text, node) or "this"
