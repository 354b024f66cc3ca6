"""``score``: the losses of the rows of files, added up for all rows and for each group.

1. All files are looked at before any is read (`survey`).
2. They are read batch by batch (`batches`); a batch becomes the losses of its rows (`row_losses`).
3. The losses go into a `lossrs.Accumulator`: no result depends on the batches, the order of rows or the threads. Rows
   are numbered over all files in their order, so that states of shards merge to what the whole is.
"""

from __future__ import annotations

import bisect
import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import lossrs
from lossrs.accumulator import Accumulator, Groups, Key, Result, Summary
from lossrs.definitions.embeddings import EmbeddingsLoss
from lossrs.definitions.pointwise import PointwiseLoss
from lossrs.definitions.rows import RowwiseLoss
from lossrs.scoring.batches import BATCH_ROWS, ENDINGS, batches
from lossrs.scoring.calibration import Calibration, has_probabilities
from lossrs.scoring.columns import Labels, Numbers, ScoreError, groups_of, natural_order, near_misses, no_groups
from lossrs.scoring.files import find_files
from lossrs.scoring.per_sample import PerSample
from lossrs.scoring.row_losses import RowLosses
from lossrs.scoring.survey import Survey
from lossrs.scoring.where import Where


@dataclasses.dataclass(frozen=True)
class Score:
    """What ``score`` returns.

    Attributes
    ----------
    files : tuple of Path
        What was read.
    loss : str
        The name of the loss.
    options : dict
        Its options, the defaults among them.
    by : tuple of str
        The columns of groups.
    result : Result
        The figures of all rows and, in the natural order of their keys, of each group. Keys are the values of the
        column of groups, or tuples of the values of several. Rows are numbered over all files: `place` tells where one
        is.
    starts : tuple of (int, Path)
        The numbers of the files' first rows, of those files that had rows.
    calibration : Calibration or None
        If it was asked for and the loss is one of probabilities: how often predictions came true.
    """

    files: tuple[Path, ...]
    loss: str
    options: dict[str, Any]
    by: tuple[str, ...]
    result: Result
    starts: tuple[tuple[int, Path], ...] = dataclasses.field(repr=False)
    calibration: Calibration | None = dataclasses.field(default=None, repr=False)

    @property
    def overall(self) -> Summary:
        """The figures of all rows."""
        return self.result.overall

    @property
    def groups(self) -> Groups | None:
        """The figures of each group."""
        return self.result.groups

    def place(self, row: int) -> tuple[Path, int]:
        """Return the file of a row, and the row's number in it, from the row's number over all files."""
        first, path = self.starts[bisect.bisect_right(self.starts, row, key=lambda start: start[0]) - 1]
        return path, row - first


def score(
    files: str | Path | Sequence[str | Path],
    loss: str,
    *,
    options: Mapping[str, Any] | None = None,
    by: str | Sequence[str] = (),
    sample_weight: str | None = None,
    labels: Sequence[str] | None = None,
    where: str | None = None,
    shard: tuple[int, int] = (1, 1),
    per_sample: str | Path | None = None,
    batch_size: int = BATCH_ROWS,
    histogram: bool = False,
    calibration: bool = False,
    progress: Callable[[int, int | None, Callable[[], float]], None] | None = None,
    **operands: str,
) -> Score:
    """Score the predictions in files.

    Parameters
    ----------
    files : path or sequence of paths
        Parquet, Arrow, CSV, ``.npy`` and ``.npz`` files, globs, folders, or ``-`` for an Arrow stream on standard
        input. They are read in the order of their paths. Folders named ``name=value`` give columns.
    loss : str
        The name of a loss: ``"cross_entropy"``.
    **operands : str
        The columns of each operand of the loss, mostly `input` and `target`: a name, a comma list, or a glob.
    options : mapping, optional
        The options of the loss.
    by : str or sequence of str, optional
        The columns whose values group the rows.
    sample_weight : str, optional
        The column that weighs the rows.
    labels : sequence of str, optional
        What the strings of the target stand for: 0, 1, 2, ... in this order.
    where : str, optional
        Which rows count: an expression in the language of ``lossrs.scoring.where``.
    shard : (int, int), optional
        (i, n) reads the i-th of n shares of the rows, cut where row groups or record batches begin.
    per_sample : path, optional
        Where to write what ``reduction="none"`` gives for each row: a Parquet, Arrow, CSV or ``.npy`` file.
    batch_size : int
        The most rows to hold at a time. It does not change any result.
    histogram : bool, default False
        Whether to keep histograms of the losses, for quantiles.
    calibration : bool, default False
        Whether to look how often predictions came true, where the loss is one of probabilities.
    progress : callable, optional
        Called after each batch with the rows that are done, the rows in all (None if not known), and a function that
        returns the mean so far.

    Raises
    ------
    ScoreError
        A file or the request is wrong.
    """
    if batch_size < 1:
        raise ScoreError(f"the batch size must be at least 1, got {batch_size}")
    if not 1 <= shard[0] <= shard[1]:
        raise ScoreError(f"a shard is one of 1/n to n/n, got {shard[0]}/{shard[1]}")
    if loss not in lossrs.losses:
        raise ScoreError(f"no loss {loss!r}{near_misses(loss, lossrs.losses)}")
    if not issubclass(lossrs.losses[loss], PointwiseLoss | RowwiseLoss | EmbeddingsLoss):
        raise ScoreError(f"{loss} has no loss of each row by itself, and so no score of a file")
    found = find_files([files] if isinstance(files, str | Path) else files, ENDINGS)
    names = lossrs.losses[loss]().operands
    if sorted(operands) != sorted(names):
        raise ScoreError(f"{loss} takes columns for {', '.join(names)}, got {', '.join(operands) or 'none'}")
    condition = None if where is None else Where(where)
    vocabulary = None if labels is None else Labels(labels)
    if vocabulary and "target" not in names:
        raise ScoreError(f"{loss} has no target that labels could be of")
    columns = dict.fromkeys(names, "") | operands
    if sample_weight is not None:
        columns["sample_weight"] = sample_weight
    survey = Survey(columns, [by] if isinstance(by, str) else by, condition, labels is not None)
    parts = survey.parts(found, shard)
    numbers = {
        role: Numbers(chosen, vocabulary if role == "target" else None) for role, chosen in survey.chosen.items()
    }
    weights = numbers.pop("sample_weight", None)
    try:
        accumulator = Accumulator(lossrs.losses[loss](**dict(options or {})), histogram=histogram)
    except (ValueError, TypeError) as error:
        raise ScoreError(f"{loss}: {error}") from error
    if survey.by:
        # So that there are groups, none, even if there is no row.
        accumulator.update_losses([], group=no_groups(survey.by))
    rows_of = RowLosses(accumulator, numbers, weights, vocabulary)
    calibrated = Calibration() if calibration and has_probabilities(loss) else None
    starts: list[tuple[int, Path]] = []
    with (
        PerSample(per_sample, [file.path for file in found]) as output,
        closing(batches(parts, survey.request(batch_size), survey.opened)) as read,
    ):
        for batch in read:
            if not starts or starts[-1][1] != batch.path:
                starts.append((batch.first - batch.start, batch.path))
            operand_arrays, w = rows_of.read(batch)
            group = groups_of(survey.by, batch) if survey.by else None
            if batch.rows:
                terms = rows_of(operand_arrays, w, batch)
                output.write(terms.values)
                ids = None if batch.kept is None else batch.row_numbers()
                try:
                    accumulator.add(terms, group=group, ids=ids, first_row=batch.first)
                except (TypeError, OverflowError) as error:  # an integer of more than 64 bits
                    raise ScoreError(f"{batch.path}: {error}") from error
                if calibrated is not None:
                    calibrated.update_from(accumulator.loss, *operand_arrays, sample_weight=w)
            if progress:
                progress(batch.done, survey.rows, lambda: accumulator.result().mean)
    defaults = {field.name: field.default for field in dataclasses.fields(lossrs.losses[loss])}
    defaults.pop("reduction", None)
    result = accumulator.result()
    if result.groups is not None:
        result = dataclasses.replace(result, groups=result.groups.sorted(_group_order))
    return Score(
        tuple(file.path for file in found),
        loss,
        defaults | dict(options or {}),
        tuple(survey.by),
        result,
        tuple(starts),
        calibrated,
    )


def _group_order(key: Key) -> tuple[Any, ...]:
    if isinstance(key, tuple):
        return tuple(_group_order(part) for part in key)
    if key is None:
        return 2, 0
    if not isinstance(key, str):
        return 0, key
    return (0, float(key)) if re.fullmatch(r"-?\d+(\.\d*)?", key) else (1, natural_order(key))
