"""Losses of Dask's collections: reductions by a tree of accumulators, and the losses of rows as a column.

It needs ``dask``: ``pip install 'lossrs[dask]'``.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import dask
import dask.array
import numpy as np
from dask.delayed import Delayed

from lossrs._lossrs import DomainError, LabelError
from lossrs.accumulator import UNNUMBERED, Accumulator
from lossrs.definitions.rows import RowwiseLoss
from lossrs.loss import Loss
from lossrs.scoring.row_losses import BY_ROWS
from lossrs.tables import Columns, Names, PerSample, Scoring, labels_of

__all__ = ["PerSample", "accumulate", "accumulate_arrays", "per_sample"]

_ROWS_OF_A_TABLE = 2**16


def accumulate(
    data: Any,
    loss: Loss,
    *,
    histogram: bool = False,
    worst: int = 0,
    bootstrap: int = 0,
    seed: int = 0,
    sample_weight: str | None = None,
    group: Names | None = None,
    ids: str | None = None,
    cluster: str | None = None,
    labels: Sequence[str] | None = None,
    split_every: int = 8,
    **operands: Names,
) -> Delayed:
    """Add up the losses of the rows of a data frame or a bag.

    Parameters
    ----------
    data : dask.dataframe.DataFrame or dask.bag.Bag
        A bag is of rows, as dicts, or of tables, as `lossrs.tables` takes them, except dicts of arrays. A frame's lists
        must be lists: unless ``dataframe.convert-string`` is False, Dask makes strings of those that pandas holds.
    loss : Loss
        A loss that each row has by itself: of elements, of rows of scores, or of embeddings.
    histogram, worst, bootstrap, seed, sample_weight, group, ids, cluster, labels, **operands
        As in `lossrs.tables.accumulate`. Partitions do not number rows: `minimum_row` and `maximum_row` are there with
        `ids`.
    split_every : int, default 8
        How many accumulators are merged at a time: what a worker holds beside its partition.

    Returns
    -------
    dask.delayed.Delayed
        An `Accumulator`, the same to the bit however the rows are split.

    Examples
    --------
    >>> import dask.dataframe, lossrs, lossrs.dask, pandas
    >>> frame = pandas.DataFrame({"predicted": [2.5, 0.0, 2.0], "price": [3.0, -0.5, 2.0]})
    >>> parts = dask.dataframe.from_pandas(frame, npartitions=2)
    >>> total = lossrs.dask.accumulate(parts, lossrs.MSELoss(), input="predicted", target="price").compute()
    >>> round(total.result().mean, 4)
    0.1667
    """
    columns = Columns(operands, sample_weight, group, ids, cluster, labels)
    settings = {"histogram": histogram, "worst": worst, "bootstrap": bootstrap, "seed": seed}
    scoring = Scoring(loss, columns, settings)
    if hasattr(data, "columns"):
        # The others need not be read.
        labels_of_columns = labels_of(data.columns)
        needed = scoring.needed(list(map(str, data.columns)), "data frame")
        data = data[[labels_of_columns[name] for name in needed]]
    elif not hasattr(data, "to_delayed"):
        raise TypeError(f"data is a data frame or a bag of Dask, got {type(data).__name__}")
    part = dask.delayed(partial(_losses_of_partition, scoring), pure=False)
    states = [part(number, rows) for number, rows in enumerate(data.to_delayed())]
    return _merged(scoring.zero(), states, split_every)


def accumulate_arrays(
    loss: Loss,
    *operands: Any,
    sample_weight: Any = None,
    group: Any = None,
    ids: Any = None,
    cluster: Any = None,
    histogram: bool = False,
    worst: int = 0,
    bootstrap: int = 0,
    seed: int = 0,
    split_every: int = 8,
    **named: Any,
) -> Delayed:
    """Add up the losses of arrays, block by block.

    Parameters
    ----------
    loss : Loss
        A loss of this package whose samples lie along the first axis.
    *operands, **named : dask.array.Array
        What the loss takes: input, target and so on. They are cut along their first axis where the first of them is;
        its other axes are put together.
    sample_weight, group, ids, cluster : dask.array.Array, optional
        As in `lossrs.Accumulator.update`, with the first axis of the operands. Groups may be a tuple or a dict of them.
    histogram, worst, bootstrap, seed
        As in `lossrs.Accumulator`. Rows are numbered from the beginning of the arrays if the sizes of all blocks are
        known; else they have no numbers.
    split_every : int, default 8
        How many accumulators are merged at a time.

    Returns
    -------
    dask.delayed.Delayed
        An `Accumulator`, the same to the bit whatever the blocks.
    """
    if not isinstance(loss, BY_ROWS):
        raise ValueError(f"{loss.function_name} has no loss of each row by itself")
    zero = Accumulator(loss, histogram=histogram, worst=worst, bootstrap=bootstrap, seed=seed)
    first, *_ = map(dask.array.asarray, (*operands, *named.values()))
    if isinstance(loss, RowwiseLoss) and first.ndim == 1:
        raise ValueError(f"{loss.function_name} takes rows of scores; input has the shape {first.shape}")
    sizes = first.chunks[0]
    known = not np.isnan(sizes).any()
    if worst and ids is None and not known:
        raise ValueError("worst rows need ids: the sizes of some blocks are not known, and so the numbers of rows")
    starts = np.cumsum((0, *sizes)).tolist() if known else [None] * len(sizes)

    def blocks(name: str, given: Any) -> list[Any]:
        if given is None or np.ndim(given) == 0:
            return [given] * len(sizes)
        array = given
        if not isinstance(array, dask.array.Array):
            array = np.asarray(given)
            array = dask.array.from_array(array, chunks=array.shape)
        cuts = {axis: -1 for axis in range(1, array.ndim) if array.numblocks[axis] > 1}
        if known and array.chunks[0] != sizes:
            if array.shape[0] != first.shape[0]:
                raise ValueError(f"{name} has {array.shape[0]} rows, the first operand {first.shape[0]}")
            cuts[0] = sizes
        array = array.rechunk(cuts) if cuts else array
        if array.numblocks[0] != len(sizes):
            raise ValueError(f"{name} has {array.numblocks[0]} blocks, the first operand {len(sizes)} of unknown sizes")
        # As they are in the graph, so that what several arrays come from is computed once.
        return list(array.to_delayed(optimize_graph=False).reshape(-1))

    names = [f"operand {index}" for index in range(len(operands))]
    columns = [blocks(name, array) for name, array in zip(names, operands, strict=True)]
    options = {name: blocks(name, array) for name, array in named.items()}
    for name, array in (("sample_weight", sample_weight), ("ids", ids), ("cluster", cluster)):
        options[name] = blocks(name, array)
    if isinstance(group, Mapping):
        parts = {name: blocks("group", array) for name, array in group.items()}
        options["group"] = [dict(zip(parts, block, strict=True)) for block in zip(*parts.values(), strict=True)]
    elif isinstance(group, tuple):
        options["group"] = list(zip(*(blocks("group", array) for array in group), strict=True))
    else:
        options["group"] = blocks("group", group)
    part = dask.delayed(partial(_losses_of_block, zero), pure=False)
    states = [
        part(
            number,
            starts[number],
            [arrays[number] for arrays in columns],
            {name: arrays[number] for name, arrays in options.items()},
        )
        for number in range(len(sizes))
    ]
    return _merged(zero, states, split_every)


def per_sample(
    frame: Any, loss: Loss, *, name: str = "loss", labels: Sequence[str] | None = None, **operands: Names
) -> Any:
    """Return a data frame with the losses of its rows as a further column, of double precision.

    Parameters
    ----------
    frame : dask.dataframe.DataFrame
        The rows.
    loss, name, labels, **operands
        As in `lossrs.tables.PerSample`.
    """
    with_losses = PerSample(loss, name=name, labels=labels, **operands)
    return frame.map_partitions(with_losses, meta=frame._meta.assign(**{name: np.empty(0)}))


def _losses_of_partition(scoring: Scoring, number: int, rows: Any) -> Accumulator:
    return scoring.accumulate(_tables(rows), f"partition {number}")


def _tables(rows: Any) -> Iterator[Any]:
    """Yield the tables of a partition: of a data frame itself, of a bag its tables, or its rows a table at a time."""
    if hasattr(rows, "columns"):
        yield rows
        return
    import pyarrow as pa

    of_rows: list[Any] = []
    for row in rows:
        if not isinstance(row, Mapping):
            yield row
            continue
        of_rows.append(row)
        if len(of_rows) == _ROWS_OF_A_TABLE:
            yield pa.Table.from_pylist(of_rows)
            of_rows = []
    if of_rows:
        yield pa.Table.from_pylist(of_rows)


def _losses_of_block(
    zero: Accumulator, number: int, start: int | None, operands: list[Any], options: dict[str, Any]
) -> Accumulator:
    total = zero.copy()
    labels = {name: options.pop(name) for name in ("group", "ids", "cluster")}
    try:
        terms = total.terms(*operands, **options)
        # Losses of several axes are numbered as those of the whole array are.
        to_row = 0 if not start else terms.losses.size // max(len(terms.losses), 1) * start
        total.add(terms, first_row=UNNUMBERED if start is None else to_row, **labels)
    except (LabelError, DomainError, ValueError, TypeError) as error:
        begins = "" if start is None else f", from row {start}"
        placed = type(error)(f"block {number}{begins}: {error}")
        vars(placed).update(vars(error))
        raise placed from None
    return total


def _merged(zero: Accumulator, states: list[Delayed], split_every: int) -> Delayed:
    """Merge accumulators, some at a time, until there is one."""
    if split_every < 2:
        raise ValueError(f"split_every must be at least 2, got {split_every}")
    merge = dask.delayed(partial(_merge, zero), pure=False)
    states = states or [merge([])]
    while len(states) > 1:
        states = [merge(states[first : first + split_every]) for first in range(0, len(states), split_every)]
    return states[0]


def _merge(zero: Accumulator, states: Iterable[Accumulator]) -> Accumulator:
    # Dask may use results again: they stay as they are.
    total = zero.copy()
    total.merge(*states)
    return total
