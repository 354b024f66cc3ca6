"""The losses of the rows of a batch, and what is wrong with its data, said by file, column and row.

An elementwise loss over several columns has as a row's loss the mean over its columns.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

import lossrs
from lossrs.accumulator import Accumulator, Terms
from lossrs.definitions.embeddings import EmbeddingsLoss
from lossrs.definitions.pointwise import PointwiseLoss
from lossrs.definitions.rows import RowwiseLoss
from lossrs.scoring.columns import Array, Batch, Labels, Numbers, ScoreError

#: The losses that each row has by itself.
BY_ROWS = (PointwiseLoss, RowwiseLoss, EmbeddingsLoss)


class RowLosses:
    """The loss as a function of a batch."""

    def __init__(self, accumulator: Accumulator, numbers: Mapping[str, Numbers], labels: Labels | None) -> None:
        self._accumulator, self._loss, self._labels = accumulator, accumulator.loss, labels
        operands = self._operands = dict(numbers)
        self._weight = operands.pop("sample_weight", None)
        self._is_elementwise = isinstance(self._loss, PointwiseLoss)
        self._inputs = [operand in self._loss.inputs for operand in operands]

    def read(self, batch: Batch) -> tuple[list[Array], Array | None]:
        """Return the operands of a batch, and the sample weights."""
        arrays: list[Array] = []
        for name, columns in self._operands.items():
            if name == "target" and self._labels is not None and isinstance(self._loss, RowwiseLoss):
                classes, known = _in_columns(arrays[0]).shape[1], len(self._labels.names)
                if classes != known:
                    raise ScoreError(f"{known} labels for {classes} input columns; the numbers must be equal")
            arrays.append(columns.read(batch))
        w = self._weight.read(batch) if self._weight else None
        if w is not None and w.ndim != 1:
            raise ScoreError(f"{batch.path}: the sample weight has {w.shape[1]} columns; one is needed")
        return arrays, w

    def of_second(self, numbers: Numbers) -> RowLosses:
        """Return the same of a second model, whose input these columns are."""
        own = {role: numbers if role == "input" else columns for role, columns in self._operands.items()}
        return RowLosses(self._accumulator, own, self._labels)

    def with_input(self, operands: list[Array], batch: Batch) -> list[Array]:
        """Return the operands with this model's input in the place of another's."""
        replaced = []
        for role, array in zip(self._operands, operands, strict=True):
            if role == "input":
                own = self._operands[role].read(batch)
                columns, others = (_in_columns(of).shape[1] for of in (own, array))
                if columns != others:
                    found = f"{others} input columns and {columns} columns to compare"
                    raise ScoreError(f"{batch.path}: {found}; the numbers must be equal")
                array = own
            replaced.append(array)
        return replaced

    def __call__(self, operands: list[Array], w: Array | None, batch: Batch) -> Terms:
        """Return what the rows add to the accumulator, one loss each."""
        # Half precision is computed in single; the losses are not to be rounded back.
        operands = [array.astype(np.float32) if array.dtype == np.float16 else array for array in operands]
        if not self._is_elementwise:
            pairs = zip(operands, self._inputs, strict=True)
            operands = [_in_columns(array) if is_input else array for array, is_input in pairs]
            return self._terms(operands, w, batch)
        operands = self._elementwise(operands, batch)
        return self._terms(operands, None if w is None else w[:, None], batch).means_of_columns()

    def _elementwise(self, operands: list[Array], batch: Batch) -> list[Array]:
        operands = [_in_columns(array) for array in operands]
        first = operands[0]
        for name, array in zip(self._operands, operands, strict=True):
            if array.shape != first.shape:
                found = f"{first.shape[1]} {next(iter(self._operands))} columns and {array.shape[1]} {name} columns"
                raise ScoreError(f"{batch.path}: {found}; the numbers must be equal")
        return [array.astype(first.dtype, copy=False) if first.dtype.kind == "f" else array for array in operands]

    def _terms(self, operands: list[Array], w: Array | None, batch: Batch) -> Terms:
        classes = operands[0].shape[-1]
        name = self._loss.function_name
        try:
            return self._accumulator.terms(*operands, sample_weight=w)
        except lossrs.LabelError as error:
            wrong = f"is outside [0, {classes})" if error.label == error.label // 1 else "is not a whole number"
            found = f": label {error.label} at row {batch.row(error.row)} {wrong}"
            raise batch.error(self._operands["target"].names[0], found) from error
        except lossrs.DomainError as error:
            # An elementwise loss counts elements, not rows; of embeddings the target alone has a domain.
            wrong, index = "target", 0
            if self._is_elementwise:
                error.row, index = divmod(error.row, classes)
                pairs = zip(self._operands, operands, strict=True)
                wrong = next((name for name, array in pairs if array[error.row, index] == error.value), "input")
            found = f": {error.value} at row {batch.row(error.row)} is outside the domain of {name}"
            raise batch.error(self._operands[wrong].name_of(index, classes), found) from error
        except (ValueError, TypeError) as error:
            raise ScoreError(f"{name}: {error}") from error


def _in_columns(array: Array) -> Array:
    return array if array.ndim == 2 else array[:, None]
