"""``score``: the losses of the rows of files, added up for all rows and for each group.

1. All files are looked at before any is read (`survey`).
2. They are read batch by batch (`batches`); a batch becomes the losses of its rows (`row_losses`).
3. The losses go into a `lossrs.Accumulator`: no result depends on the batches, the order of rows or the threads. Rows
   are numbered over all files in their order, so that states of shards merge to what the whole is.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

import lossrs
from lossrs.accumulator import MOST_REPLICATES, Groups, Key, Result, Summary
from lossrs.scoring.batches import BATCH_ROWS, ENDINGS, batches
from lossrs.scoring.calibration import Calibration, has_probabilities
from lossrs.scoring.checkpoint import SECONDS, Checkpoint, SoFar, interruptible, undisturbed
from lossrs.scoring.columns import Labels, Numbers, ScoreError, groups_of, natural_order, near_misses
from lossrs.scoring.comparison import ROLE, Compared
from lossrs.scoring.files import STANDARD_INPUT, find_files
from lossrs.scoring.outputs import Output, require_apart
from lossrs.scoring.per_sample import PerSample
from lossrs.scoring.row_losses import BY_ROWS, RowLosses
from lossrs.scoring.state import Question, Source, State, divided
from lossrs.scoring.survey import Survey
from lossrs.scoring.where import Where
from lossrs.scoring.worst import Columns, worst_file, write_worst


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
    state : State
        What can be saved and merged.
    compared : Compared or None
        How the second model does, if there is one.
    rows_read : int or None
        How many of the rows this run has read itself, and no checkpoint knew; None of states.
    """

    files: tuple[Path, ...]
    loss: str
    options: dict[str, Any]
    by: tuple[str, ...]
    result: Result
    state: State = dataclasses.field(repr=False)
    compared: Compared | None = None
    rows_read: int | None = dataclasses.field(default=None, compare=False)

    @classmethod
    def of(cls, state: State, rows_read: int | None = None) -> Score:
        """Return what a state tells."""
        question, found = state.question, state.found
        compared = None if found.comparison is None else found.comparison.result(_in_order)
        files = tuple(Path(source.path) for source in state.sources)
        result = _in_order(found.accumulator.result())
        return cls(files, question.loss, question.options, tuple(question.by), result, state, compared, rows_read)

    @property
    def overall(self) -> Summary:
        """The figures of all rows."""
        return self.result.overall

    @property
    def groups(self) -> Groups | None:
        """The figures of each group."""
        return self.result.groups

    @property
    def calibration(self) -> Calibration | None:
        """How often predictions came true, if it was asked for and the loss is one of probabilities."""
        return self.state.found.calibration

    @property
    def worst(self) -> list[dict[str, Any]]:
        """The worst rows, if they were asked for: file, row, loss, and the columns that were read."""
        return self.state.found.worst.records(self.state.place)

    def place(self, row: int) -> tuple[Path, int]:
        """Return the file of a row, and the row's number in it, from the row's number over all files."""
        return self.state.place(row)


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
    bootstrap: int = 0,
    compare: str | None = None,
    calibration: bool = False,
    worst: int = 0,
    worst_output: str | Path | None = None,
    save: str | Path | None = None,
    checkpoint: str | Path | None = None,
    checkpoint_seconds: float = SECONDS,
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
    bootstrap : int, default 0
        How many replicates to keep, for confidence intervals: 64 bytes each for every group.
    compare : str, optional
        The columns of a second model's `input`, whose losses are compared row by row.
    calibration : bool, default False
        Whether to look how often predictions come true, where the loss is one of probabilities.
    worst : int, default 0
        How many of the worst rows to keep, with what they hold.
    worst_output : path, optional
        Where to write them: a Parquet, Arrow, CSV or JSON file.
    save : path, optional
        Where to write a state that ``merge`` merges with others.
    checkpoint : path, optional
        Where what has been found is kept, every `checkpoint_seconds` and when an error or an interrupt ends the run. If
        there is such a file, of the same question and files, the run goes on from there. At the end it holds all, and
        the same call returns at once; it can then be removed.
    checkpoint_seconds : float
        How often.
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
    if not issubclass(lossrs.losses[loss], BY_ROWS):
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
    if compare is not None:
        if "input" not in names:
            raise ScoreError(f"{loss} has no input that a second model's could be compared with")
        columns[ROLE] = compare
    if not 0 <= bootstrap <= MOST_REPLICATES:
        raise ScoreError(f"the bootstrap has between 0 and {MOST_REPLICATES} replicates, got {bootstrap}")
    if worst < 0:
        raise ScoreError(f"the worst rows must be at least 0, got {worst}")
    paths = [file.path for file in found]
    # What cannot be written is an error at once.
    outputs = {"per_sample": per_sample, "worst_output": worst_output, "save": save, "checkpoint": checkpoint}
    require_apart(outputs, paths)
    if worst_output is not None:
        worst_file(worst_output, paths).close(whole=False)
    if save is not None:
        Output(save, None, paths).close(whole=False)
    if checkpoint is not None and per_sample is not None:
        raise ScoreError("--checkpoint and --per-sample do not go together: what is written cannot be gone on with")
    survey = Survey(columns, [by] if isinstance(by, str) else by, condition, labels is not None)
    parts = survey.parts(found, shard)
    numbers = {
        role: Numbers(chosen, vocabulary if role == "target" else None) for role, chosen in survey.chosen.items()
    }
    try:
        defaults = dataclasses.asdict(lossrs.losses[loss](**dict(options or {})))
    except (ValueError, TypeError) as error:
        raise ScoreError(f"{loss}: {error}") from error
    question = Question(
        loss,
        {name: _plain(value) for name, value in defaults.items() if name != "reduction"},
        survey.chosen,
        None if labels is None else list(labels),
        where,
        survey.by,
        histogram,
        calibration and has_probabilities(loss),
        worst,
        bootstrap,
    )
    kept = (
        None if checkpoint is None else Checkpoint(checkpoint, checkpoint_seconds, shard, list(survey.counts), numbers)
    )
    so_far = (kept and kept.resume(question)) or SoFar.begin(question, apart=kept is not None)
    known = so_far.rows()
    parts, rows_before = so_far.remaining(parts, survey.counts)
    sizes = {path: 0 if path == STANDARD_INPUT else path.stat().st_size for path in survey.counts}
    whole = nullcontext if kept is None else undisturbed
    first_numbers = {role: columns for role, columns in numbers.items() if role != ROLE}
    rows_of = RowLosses(so_far.done.accumulator, first_numbers, vocabulary)
    second_of = rows_of.of_second(numbers[ROLE]) if compare is not None else None
    texts = [*survey.by, *(survey.chosen["target"] if labels is not None else [])]
    columns_kept = Columns([name for of in survey.chosen.values() for name in of if name not in texts], texts)
    # A pipe may be silent for long: who waits for it can be interrupted at any moment.
    interrupts: AbstractContextManager[Callable[[], None]] = interruptible()
    if STANDARD_INPUT in paths:
        interrupts = nullcontext(lambda: None)
    with (
        interrupts as look_for_interrupts,
        PerSample(per_sample, paths) as output,
        closing(batches(parts, survey.request(batch_size), survey.opened, rows_before)) as read,
        nullcontext() if kept is None else kept.kept(so_far),
    ):
        for batch in read:
            look_for_interrupts()
            if batch.is_last:
                with whole():
                    so_far.finish(batch)
                continue
            operand_arrays, w = rows_of.read(batch)
            group = groups_of(survey.by, batch) if survey.by else None
            if batch.rows:
                terms = rows_of(operand_arrays, w, batch)
                second = None
                if second_of is not None:
                    second = second_of(second_of.with_input(operand_arrays, batch), w, batch)
                output.write(terms.values)
                with whole():
                    so_far.current.add(terms, batch, group, columns_kept, operand_arrays, w, second)
                    so_far.advance(batch)
            else:
                so_far.advance(batch)
            if progress:
                progress(batch.done, survey.rows, so_far.mean)
            if kept is not None and kept.is_due():
                kept.write(so_far)
    sources = []
    for path, count in survey.counts.items():
        rows = so_far.counts[str(path)] if count is None else count
        location = "" if path == STANDARD_INPUT else os.path.realpath(path)
        sources.append(Source(str(path), "", sizes[path], rows, location))
    if so_far.current is not so_far.done:
        so_far.done.merge(so_far.current)
    state = State(question, divided(sources, shard, so_far.done), so_far.done)
    if save is not None:
        state.save(save)
    scored = Score.of(state, state.found.accumulator.overall().rows - known)
    if worst_output is not None:
        write_worst(scored.worst, worst_output, paths)
    return scored


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else value


def _in_order(result: Result) -> Result:
    """Return a result with its groups in their natural order."""
    # Integers are in their order already.
    if result.groups is None or all(column.dtype != object for column in result.groups.keys_columns):
        return result
    return dataclasses.replace(result, groups=result.groups.sorted(_group_order))


def _group_order(key: Key) -> tuple[Any, ...]:
    if isinstance(key, tuple):
        return tuple(_group_order(part) for part in key)
    if key is None:
        return 2, 0
    if not isinstance(key, str):
        return 0, key
    return (0, float(key)) if re.fullmatch(r"-?\d+(\.\d*)?", key) else (1, natural_order(key))
