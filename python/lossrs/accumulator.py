"""Losses added up batch by batch, exactly: results that merge, whatever the split, the order and the machine."""

from __future__ import annotations

import dataclasses
import json
import math
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lossrs import _lossrs
from lossrs.loss import Loss, losses

Array = NDArray[Any]
Part: TypeAlias = int | str | bool | None
Key: TypeAlias = Part | tuple[Part, ...]

#: As `first_row`: rows have no numbers, because those would depend on how the rows are split.
UNNUMBERED = int(np.iinfo(np.int64).min)

_MAGIC = b"lossrs accumulator\n"
#: Of states without replicates, and with them.
_VERSIONS = (1, 2)
MOST_REPLICATES = 100_000


class _Arrays:
    """Equality of dataclasses of arrays."""

    def __eq__(self, other: object) -> bool:
        """Whether all arrays are the same."""
        if type(self) is not type(other):
            return NotImplemented
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return all(
            np.array_equal(a, b, equal_nan=a.dtype.kind == "f") if isinstance(a, np.ndarray) else a == b
            for a, b in pairs
        )

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True, eq=False)
class Histogram(_Arrays):
    """Counts of losses by size.

    Buckets are cut by the bits of a double, 128 to a power of two, whatever the data: so histograms of parts add up to
    the histogram of the whole. A loss is known from its bucket to a relative error of 2**-8, 0.4 %.

    Attributes
    ----------
    lower, upper : ndarray of float64
        The edges of the buckets that are not empty, in order. Infinity is a bucket of its own.
    counts : ndarray of uint64
        The losses in each. Ignored rows and NaN are in none.
    """

    lower: Array
    upper: Array
    counts: Array

    def quantile(self, q: ArrayLike) -> Any:
        """Return quantiles: within 0.4 % of the smallest loss that a share q of the losses does not exceed.

        Parameters
        ----------
        q : array_like
            Shares, in [0, 1].

        Returns
        -------
        float or ndarray
            The middle of the bucket; NaN if there are no losses.
        """
        shares = np.asarray(q, np.float64)
        if not ((shares >= 0) & (shares <= 1)).all():
            raise ValueError(f"quantiles are of shares in [0, 1], got {q!r}")
        below = np.cumsum(self.counts)
        if not below.size:
            return np.full(shares.shape, math.nan)[()]
        total = int(below[-1])
        rank = np.clip(np.ceil(shares * total), 1, total)
        bucket = np.searchsorted(below, rank)
        middle = self.lower / 2 + self.upper / 2
        return middle[bucket][()]


@dataclass(frozen=True, eq=False)
class Worst(_Arrays):
    """The rows of the largest losses, the worst first: NaN, then the losses downwards, equal ones by row.

    Attributes
    ----------
    losses : ndarray of float64
    rows : ndarray of int64
        The numbers of the rows, or their ids if those are integers.
    ids : list of str or None
        The ids, if they are strings.
    """

    losses: Array
    rows: Array
    ids: list[str | None] | None = None


@dataclass(frozen=True, eq=False)
class Bootstrap(_Arrays):
    """Replicates of some rows: in each, every row counts k times, k drawn from the Poisson distribution of mean 1.

    Attributes
    ----------
    sums, weights : ndarray of float64
        Of each replicate, the sum of weight times loss and the sum of the weights; of groups, a row for each.
    """

    sums: Array
    weights: Array

    @property
    def means(self) -> Array:
        """The mean of each replicate; NaN where it has no rows."""
        with np.errstate(all="ignore"):
            means: Array = self.sums / self.weights
        return means

    @property
    def standard_error(self) -> Any:
        """The standard deviation of the replicates' means."""
        return self._of_means(lambda means: means.std(axis=-1, ddof=1) if means.shape[-1] > 1 else np.nan)

    def interval(self, level: float = 0.95) -> Any:
        """Return a confidence interval of the mean, by percentiles: the quantiles of the replicates' means.

        Parameters
        ----------
        level : float
            How probable it is that such intervals have the mean.

        Returns
        -------
        (lower, upper) : floats, or arrays with an element for each group
            Replicates without rows, which few rows have, do not count. NaN if the mean of any other is NaN.
        """
        if not 0 < level < 1:
            raise ValueError(f"level must be between 0 and 1, got {level!r}")
        shares = [(1 - level) / 2, (1 + level) / 2]
        bounds = self._of_means(lambda means: np.moveaxis(np.quantile(means, shares, axis=-1), 0, -1))
        return bounds[..., 0], bounds[..., 1]

    def _of_means(self, function: Callable[[Array], Any]) -> Any:
        """Return a function of the means of those replicates that have rows."""
        means, empty = self.means, self.weights == 0
        with np.errstate(all="ignore"):
            found = np.array(function(means), np.float64)
            for place in map(tuple, np.argwhere(empty.any(-1) & ~empty.all(-1))):
                found[place] = function(means[place][~empty[place]])
        return found[()]

    def __sub__(self, other: Bootstrap) -> Bootstrap:
        """Return the differences of the means of two models, in replicates that have the same rows of both."""
        if not isinstance(other, Bootstrap):
            return NotImplemented
        if self.sums.shape != other.sums.shape or ((self.weights == 0) != (other.weights == 0)).any():
            raise ValueError("the replicates are not of the same rows")
        with np.errstate(all="ignore"):
            differences = np.where(self.weights == 0, 0, (self.means - other.means) * self.weights)
        return Bootstrap(differences, self.weights)


@dataclass(frozen=True)
class Summary:
    """What is known of some rows.

    Attributes
    ----------
    rows : int
        All rows, the ignored ones among them.
    ignored : int
        Rows that count for nothing, because their label is `ignore_index` or their weight is 0.
    nonfinite : int
        Rows whose loss is infinite or NaN. They enter the sums as they do in IEEE arithmetic.
    weight : float
        The sum of the weights, which is the number of rows that are not ignored if all weights are 1.
    sum : float
        The sum of weight times loss.
    mean : float
        ``sum / weight``; NaN of nothing.
    standard_error : float
        That of the mean, ``sqrt(n / (n - 1) * sum(w**2 * (loss - mean)**2)) / sum(w)`` over the n rows that are not
        ignored: of weights 1 the sample's standard deviation over ``sqrt(n)``, else that of a ratio estimator. NaN if n
        is below 2 or a loss is not finite.
    minimum, maximum : float
        The smallest and the largest loss, not weighted; NaN if there are none.
    minimum_row, maximum_row : int or str or None
        Where they are: the first row, or the smallest id, of several. None if there are none, or rows have no numbers.
    histogram : Histogram or None
        If it was asked for.
    worst : Worst or None
        If it was asked for.
    bootstrap : Bootstrap or None
        If it was asked for: replicates, for intervals.
    derived : dict of str to float
        What is usual for the loss: ``rmse`` of the squared error, ``perplexity`` and ``bits`` (the mean in bits) of
        the cross-entropy of labels.
    """

    rows: int
    ignored: int
    nonfinite: int
    weight: float
    sum: float
    mean: float
    standard_error: float
    minimum: float
    minimum_row: int | str | None
    maximum: float
    maximum_row: int | str | None
    histogram: Histogram | None = dataclasses.field(default=None, repr=False)
    worst: Worst | None = dataclasses.field(default=None, repr=False)
    bootstrap: Bootstrap | None = dataclasses.field(default=None, repr=False)
    derived: dict[str, float] = dataclasses.field(default_factory=dict)

    def quantile(self, q: ArrayLike) -> Any:
        """Return quantiles of the losses, if histograms were asked for; see `Histogram.quantile`."""
        if self.histogram is None:
            raise ValueError("quantiles need histograms: Accumulator(loss, histogram=True)")
        # No loss is beyond the extremes, which are known without error.
        quantiles = np.clip(self.histogram.quantile(q), self.minimum, self.maximum)
        return np.select([np.equal(q, 0), np.equal(q, 1)], [self.minimum, self.maximum], quantiles)[()]

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return a confidence interval of the mean, if replicates were asked for; see `Bootstrap.interval`."""
        if self.bootstrap is None:
            raise ValueError("intervals need replicates: Accumulator(loss, bootstrap=1000)")
        lower, upper = self.bootstrap.interval(level)
        return float(lower), float(upper)

    def bits_per_byte(self, bytes: float) -> float:
        """Return the sum in bits over a number of bytes: of a language model's losses, over those of the text."""
        return self.sum / math.log(2) / bytes

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as plain Python objects."""
        figures = {name: getattr(self, name) for name in _FIGURES}
        return figures | self.derived


_FIGURES = (
    "rows",
    "ignored",
    "nonfinite",
    "weight",
    "sum",
    "mean",
    "standard_error",
    "minimum",
    "minimum_row",
    "maximum",
    "maximum_row",
)


class Groups(Mapping[Key, Summary]):
    """The summaries of groups, by key and as columns.

    As a mapping it gives the `Summary` of each key, in the order of the keys: numbers, then strings, then None. The
    columns, arrays with an element for each group, are made for millions: ``groups.mean``, ``groups.rows`` and so on,
    named as in `Summary`.

    Attributes
    ----------
    names : tuple of str or None
        What the parts of the keys are called, if the groups were given as a dict.
    keys_columns : tuple of ndarray
        The parts of the keys.
    """

    def __init__(
        self,
        columns: dict[str, Any],
        loss: Loss,
        single: bool,
        names: tuple[str, ...] | None,
        order: Array | None = None,
    ) -> None:
        self._columns, self._loss, self._single, self.names, self._order = columns, loss, single, names, order
        self.keys_columns: tuple[Array, ...] = tuple(self._ordered(_objects(column)) for column in columns["keys"])
        self._numbers: dict[Key, int] | None = None

    def _ordered(self, column: Array) -> Array:
        return column if self._order is None else column[self._order]

    def sorted(self, key: Callable[[Key], Any]) -> Groups:
        """Return the groups in another order of the keys."""
        keys = list(Groups(self._columns, self._loss, self._single, self.names))
        order = np.array(sorted(range(len(keys)), key=lambda number: key(keys[number])), np.intp)
        return Groups(self._columns, self._loss, self._single, self.names, order)

    def __getattr__(self, name: str) -> Array:
        """Return a column."""
        if name in _FIGURES:
            return self._ordered(self._columns[name])
        raise AttributeError(f"groups have no column {name!r}; there are {', '.join(_FIGURES)}")

    @property
    def derived(self) -> dict[str, Array]:
        """The derived figures, a column each."""
        return _derived(self._loss, self.mean)

    @property
    def bootstrap(self) -> Bootstrap | None:
        """The replicates, if they were asked for: a row for each group."""
        sums, weights = self._columns["replicates"]
        if not sums.size:
            return None
        of_groups = (self._ordered(column.reshape(len(self), -1)) for column in (sums, weights))
        return Bootstrap(*of_groups)

    def __len__(self) -> int:
        """Return the number of groups."""
        return len(self._columns["rows"])

    def __iter__(self) -> Iterator[Key]:
        """Iterate over the keys in order."""
        columns = [column.tolist() for column in self.keys_columns]
        return iter(columns[0] if self._single and columns else zip(*columns, strict=True))

    def __getitem__(self, key: Key) -> Summary:
        """Return the summary of a key."""
        if self._numbers is None:
            self._numbers = {known: number for number, known in enumerate(self)}
        number = self._numbers[key]
        return _summary(self._columns, number if self._order is None else int(self._order[number]), self._loss)

    def to_dict(self) -> dict[str, Array]:
        """Return all columns, the keys first: what a data frame is made of."""
        names = self.names or (["group"] if self._single else [f"group_{i}" for i in range(len(self.keys_columns))])
        keys = dict(zip(names, self.keys_columns, strict=True))
        return keys | {name: getattr(self, name) for name in _FIGURES} | self.derived

    def __repr__(self) -> str:
        """Show the first groups."""
        shown = [f"{key!r}: {self[key].mean:.6g}" for key, _ in zip(self, range(3), strict=False)]
        more = ", ..." if len(self) > 3 else ""
        return f"<{len(self)} groups, means {{{', '.join(shown)}{more}}}>"


@dataclass(frozen=True)
class Result(Summary):
    """The summary of all rows, and those of the groups.

    Attributes
    ----------
    groups : Groups or None
        If rows were given groups.
    """

    groups: Groups | None = None

    @property
    def overall(self) -> Summary:
        """The summary of all rows by itself."""
        return Summary(**{field.name: getattr(self, field.name) for field in dataclasses.fields(Summary)})


@dataclass(frozen=True, eq=False)
class Terms:
    """What rows add to an accumulator.

    Attributes
    ----------
    losses : ndarray
        Their losses.
    values : ndarray
        Weight times loss, 0 where a row is ignored: the same array as `losses` without weights.
    weight : ndarray or None
        What the mean divides by, in a shape that broadcasts to that of the losses; None if all are 1.
    ignored : ndarray of bool or None
        Which rows count for nothing; None if there are none.
    """

    losses: Array
    values: Array
    weight: Array | None
    ignored: Array | None

    def means_of_columns(self) -> Terms:
        """Return the terms of rows whose loss is the mean over the columns, as an elementwise loss of several is."""

        def mean(array: Array) -> Array:
            # In one piece, so that NumPy adds each row in the same order.
            whole = np.ascontiguousarray(array)
            means: Array = whole[:, 0] if whole.shape[1] == 1 else whole.mean(axis=1, dtype=np.float64)
            return means

        losses = mean(self.losses)
        values = losses if self.values is self.losses else mean(self.values)
        weight = None if self.weight is None else mean(np.atleast_2d(self.weight))
        return Terms(losses, values, weight, None if weight is None else weight == 0)


#: What an accumulator is asked for.
_SETTINGS = ("histogram", "worst", "bootstrap", "seed")


class Accumulator:
    """Losses of any number of batches, added up exactly.

    What it holds is a function of the set of rows alone: however they are split over batches, accumulators, threads and
    machines, and in whatever order they are merged, results, ``==`` and ``to_bytes()`` are the same to the bit. Its
    size does not depend on the number of rows, only on that of groups: about 180 bytes each, more with weights.

    Parameters
    ----------
    loss : Loss
        A loss of this package, ``lossrs.CrossEntropyLoss()``. Its `reduction` does not matter. A row is what it has
        one loss for.
    histogram : bool, default False
        Whether to keep histograms of the losses, for quantiles.
    worst : int, default 0
        How many of the worst rows to keep.
    bootstrap : int, default 0
        How many replicates of the rows to keep, for confidence intervals: 64 bytes each for every group, twice that
        while rows are added, and 0.5 to 1.2 ns for every row and replicate, more in groups of few rows.
    seed : int, default 0
        Other replicates for another seed.

    Notes
    -----
    A row's loss is what the loss returns with ``reduction='none'`` and no sample weights: extremes, histograms and
    worst rows are of that. The sum is of weight times loss, rounded as the loss rounds it, so that `sum` and `mean` are
    those that the loss itself returns for all rows at once, unless its mean divides by something else than weights, as
    that of CTC does by the lengths of the targets. A weight for each class or element that is an option of the loss
    counts as the loss has it.

    The replicates are those of the mergeable Poisson bootstrap (Chamandy et al., 2012). How often a row counts in each
    is drawn by hashing the seed and the row's id or number, so it is the same however rows are split and merged, and
    two accumulators of the same rows, of two models' losses say, have replicates of the same rows. Rows of one id or
    number are drawn together: shards want `first_row`, or ids, for numbers of their own. Where rows come in clusters
    (users, documents) that are drawn as a whole, `cluster` says so.

    In several threads, give each an accumulator of its own, and merge them.

    Examples
    --------
    >>> import lossrs
    >>> total = lossrs.Accumulator(lossrs.MSELoss())
    >>> total.update([2.5, 0.0], [3.0, -0.5], group=["a", "b"])
    >>> total.update([2.1, 1.8], [2.0, 1.0], group=["a", "a"])
    >>> round(total.result().mean, 4)
    0.2875
    >>> {key: round(group.mean, 4) for key, group in total.result().groups.items()}
    {'a': 0.3, 'b': 0.25}
    """

    loss: Loss
    histogram: bool
    worst: int
    bootstrap: int
    seed: int

    def __init__(
        self, loss: Loss, *, histogram: bool = False, worst: int = 0, bootstrap: int = 0, seed: int = 0
    ) -> None:
        if not isinstance(loss, Loss):
            raise TypeError(f"loss must be a loss of lossrs, got {type(loss).__name__}")
        if worst < 0:
            raise ValueError(f"worst must be at least 0, got {worst}")
        if not 0 <= bootstrap <= MOST_REPLICATES:
            raise ValueError(f"bootstrap must be between 0 and {MOST_REPLICATES}, got {bootstrap}")
        if not 0 <= seed < 2**64:
            raise ValueError(f"seed must be a number of 64 bits, got {seed}")
        # What is added up is the losses of the rows; its identity leaves the reduction out.
        self.loss = dataclasses.replace(loss, reduction=type(loss).reduction)
        self.histogram, self.worst = bool(histogram), int(worst)
        # Without replicates there is nothing that a seed changes.
        self.bootstrap, self.seed = int(bootstrap), int(seed) if bootstrap else 0
        self._per_row = dataclasses.replace(loss, reduction="none")
        self.reset()

    def reset(self) -> None:
        """Forget all rows."""
        self._state = _lossrs.Accumulation(self.histogram, self.worst, self.bootstrap, self.seed)
        self._rows = 0
        # How groups are given: None as long as there are none, else whether keys are single, how many parts they
        # have, and what those are called.
        self._grouping: tuple[bool, int, tuple[str, ...] | None] | None = None

    def update(
        self,
        *operands: ArrayLike,
        sample_weight: ArrayLike | None = None,
        group: Any = None,
        ids: ArrayLike | None = None,
        first_row: int | None = None,
        cluster: ArrayLike | None = None,
        **named: ArrayLike,
    ) -> None:
        """Add a batch. If anything is wrong with it, an error says so and nothing has been added.

        Parameters
        ----------
        *operands, **named : array_like
            What the loss takes: input, target and so on.
        sample_weight : array_like, optional
            Weights, broadcast to the losses of the rows. Rows of weight 0 are ignored, whatever they hold.
        group : array_like, or tuple or dict of array_like, optional
            The group of each row: integers, strings, bools or None, broadcast to the losses of the rows. Several
            arrays, as a tuple or by name in a dict, make groups of their combinations. Categories of pandas and
            dictionaries of Arrow are taken as they are.
        ids : array_like, optional
            Integers or strings that are reported for extreme rows. Integers take the place of the rows' numbers.
        first_row : int, optional
            The number of the first row; by default numbering goes on from the rows so far. States are merged with the
            numbers as given. With ``lossrs.accumulator.UNNUMBERED`` rows have none but their ids.
        cluster : array_like, optional
            Integers or strings: rows of one are drawn together in the replicates. By default rows are drawn each by its
            id or number.
        """
        terms = self.terms(*operands, sample_weight=sample_weight, **named)
        self.add(terms, group=group, ids=ids, first_row=first_row, cluster=cluster)

    def terms(self, *operands: ArrayLike, sample_weight: ArrayLike | None = None, **named: ArrayLike) -> Terms:
        """Return what rows would add, for `add`: between the two one may look at the losses, or change them.

        Parameters
        ----------
        *operands, sample_weight, **named
            As in `update`.
        """
        # Half precision is computed in float32; the losses are not to be rounded back.
        arrays = tuple(map(_without_half, operands))
        named = {name: _without_half(operand) for name, operand in named.items()}
        per_row: Any = self._per_row
        if sample_weight is None:
            row_losses = values = np.asarray(per_row(*arrays, **named))
            weight = ignored = None
        else:
            given = _weights(sample_weight)
            kept = given != 0
            row_losses = np.asarray(per_row(*arrays, sample_weight=None if kept.all() else kept, **named))
            weight = given.astype(row_losses.dtype)
            ignored = weight == 0
            if getattr(self.loss, "weight", None) is None or _has_classes(self.loss):
                values = _times(row_losses, weight)
            else:
                # Two weights multiply each loss: rounded as the loss itself rounds them.
                values = np.asarray(per_row(*arrays, sample_weight=given, **named))
        if getattr(self.loss, "weight", None) is not None or _has_classes(self.loss):
            target = np.asarray(dict(zip(self.loss.operands, arrays, strict=False), **named)["target"])
            weight, ignored = _own_weights(self.loss, target, row_losses, weight, ignored)
        return Terms(row_losses, values, weight, ignored)

    def update_losses(
        self,
        losses: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        group: Any = None,
        ids: ArrayLike | None = None,
        first_row: int | None = None,
        cluster: ArrayLike | None = None,
    ) -> None:
        """Add losses of rows that have been computed already; otherwise as `update`.

        Parameters
        ----------
        losses : array_like
            What the loss returned with ``reduction='none'`` and no sample weights, in float32 or float64.
        sample_weight, group, ids, first_row, cluster
            As in `update`.
        """
        row_losses = np.asarray(losses)
        if row_losses.dtype != np.float32:
            row_losses = row_losses.astype(np.float64)
        _refuse_masked("losses", losses)
        terms = Terms(row_losses, row_losses, None, None)
        if sample_weight is not None:
            weight = _weights(sample_weight).astype(row_losses.dtype)
            terms = Terms(row_losses, _times(row_losses, weight), weight, weight == 0)
        self.add(terms, group=group, ids=ids, first_row=first_row, cluster=cluster)

    def add(
        self,
        terms: Terms,
        *,
        group: Any = None,
        ids: ArrayLike | None = None,
        first_row: int | None = None,
        cluster: ArrayLike | None = None,
    ) -> None:
        """Add what `terms` returned; otherwise as `update`.

        Parameters
        ----------
        terms : Terms
            The losses and weights of rows.
        group, ids, first_row, cluster
            As in `update`.
        """
        row_losses = terms.losses
        shape, rows = row_losses.shape, row_losses.size
        grouping, keys = self._grouping, []
        if group is not None:
            grouping, columns = _columns_of(group)
            if self._grouping is not None and self._grouping != grouping:
                raise ValueError(f"group is {_described(grouping)}; earlier batches had {_described(self._grouping)}")
            keys = [_keys(column, shape) for column in columns]
        numbers, names = (None, None) if ids is None else _ids("ids", ids, shape)
        clusters = None
        if cluster is not None:
            clusters = next(found for found in _ids("cluster", cluster, shape) if found is not None)
        first = self._rows if first_row is None else int(first_row)
        if first == UNNUMBERED and numbers is None:
            if self.bootstrap and names is None and clusters is None:
                raise ValueError("rows have no numbers, by which replicates would draw them")
            numbers = np.full(rows, UNNUMBERED)
        flat = np.ascontiguousarray(row_losses).reshape(-1)
        weight, ignored = terms.weight, terms.ignored
        self._state.update(
            flat,
            flat if terms.values is row_losses else np.ascontiguousarray(terms.values).reshape(-1),
            None if weight is None else _broadcast("sample_weight", weight.astype(flat.dtype, copy=False), shape),
            None if ignored is None else _broadcast("sample_weight", ignored, shape),
            first,
            numbers,
            names,
            keys,
            clusters,
        )
        self._rows += rows
        self._grouping = grouping

    def merge(self, *others: Accumulator) -> None:
        """Add what other accumulators hold, of the same loss and settings."""
        grouping = self._grouping
        for other in others:
            if not isinstance(other, Accumulator):
                raise TypeError(f"an accumulator merges accumulators, got {type(other).__name__}")
            for mine, theirs in zip(self._settings(), other._settings(), strict=True):
                if mine != theirs:
                    raise ValueError(f"this is an accumulator of {mine}, the other of {theirs}")
            if grouping is None:
                grouping = other._grouping
            elif other._grouping is not None and other._grouping != grouping:
                raise ValueError(f"groups are {_described(grouping)}, the other's {_described(other._grouping)}")
        for other in others:
            self._state.merge(other._state)
            self._rows += other._rows
        self._grouping = grouping

    def _settings(self) -> tuple[str, ...]:
        return (repr(self.loss), *(f"{name}={getattr(self, name)}" for name in _SETTINGS))

    def renumber(self, starts: ArrayLike, to: ArrayLike) -> None:
        """Give rows other numbers, before a merge with rows that have the same ones.

        Parameters
        ----------
        starts, to : array_like of int
            Rows from ``starts[i]`` to before ``starts[i + 1]`` are numbered from ``to[i]`` on. No two rows may change
            their order.
        """
        self._state.renumber(np.ascontiguousarray(starts, np.int64), np.ascontiguousarray(to, np.int64))

    def copy(self) -> Accumulator:
        """Return an equal accumulator that changes by itself."""
        copy = Accumulator(
            self.loss, histogram=self.histogram, worst=self.worst, bootstrap=self.bootstrap, seed=self.seed
        )
        copy._state, copy._rows, copy._grouping = self._state.copy(), self._rows, self._grouping
        return copy

    def __add__(self, other: object) -> Accumulator:
        """Return what both hold."""
        if not isinstance(other, Accumulator):
            return NotImplemented
        both = self.copy()
        both.merge(other)
        return both

    def __radd__(self, other: object) -> Accumulator:
        """Let `sum` start from 0."""
        return self.copy() if isinstance(other, int) and other == 0 else NotImplemented

    def __eq__(self, other: object) -> bool:
        """Whether both hold the same, to the bit."""
        return isinstance(other, Accumulator) and self.to_bytes() == other.to_bytes()

    __hash__ = None  # type: ignore[assignment]

    def __copy__(self) -> Accumulator:
        """Return a copy."""
        return self.copy()

    def __deepcopy__(self, memo: Any) -> Accumulator:
        """Return a copy."""
        return self.copy()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as bytes."""
        return (_restore, (self.loss, self.to_bytes()))

    def __repr__(self) -> str:
        """Name the loss, the settings and the number of rows."""
        settings = [setting for setting in _SETTINGS if getattr(self, setting)]
        text = ", ".join([repr(self.loss), *(f"{name}={getattr(self, name)}" for name in settings)])
        return f"<Accumulator({text}) of {self._rows} rows>"

    def result(self) -> Result:
        """Return what is known of all rows and of each group.

        Returns
        -------
        Result
            The figures are attributes; `groups` has those of the groups.
        """
        groups = None
        if self._grouping is not None:
            single, _, names = self._grouping
            columns = self._state.groups()
            for which in ("minimum", "maximum"):
                columns[f"{which}_row"] = _rows(columns[which], columns[f"{which}_row"], columns[f"{which}_name"])
            groups = Groups(columns, self.loss, single, names)
        summary = self.overall()
        figures = {field.name: getattr(summary, field.name) for field in dataclasses.fields(Summary)}
        return Result(**figures, groups=groups)

    def overall(self) -> Summary:
        """Return what is known of all rows, without that of each group: sooner, where there are millions."""
        overall = self._state.overall()
        for which in ("minimum", "maximum"):
            overall[f"{which}_row"] = _rows(overall[which], overall[f"{which}_row"], overall[f"{which}_name"])
        return _summary(overall, 0, self.loss)

    def to_bytes(self) -> bytes:
        """Return the state: the same bytes of the same rows, on every machine.

        Returns
        -------
        bytes
            A name and a version, a header that names the loss, its options and the groups, the state in
            little-endian order, and a checksum.
        """
        header = json.dumps(
            {
                "loss": repr(self.loss),
                "name": self.loss.function_name,
                "options": _options(self.loss),
                "groups": self._grouping,
            },
            sort_keys=True,
        ).encode()
        state = self._state.to_bytes()
        version = _VERSIONS[self.bootstrap > 0]
        whole = _MAGIC + struct.pack("<IQ", version, len(header)) + header + struct.pack("<Q", len(state)) + state
        return whole + struct.pack("<I", zlib.crc32(whole))

    @classmethod
    def from_bytes(cls, state: bytes, loss: Loss | None = None) -> Self:
        """Return the accumulator that `to_bytes` wrote.

        Parameters
        ----------
        state : bytes
            What `to_bytes` returned.
        loss : Loss, optional
            The loss that it must be of. By default it is made from the name and the options in the state.

        Raises
        ------
        ValueError
            If these bytes are no such state: of another version, incomplete, changed, or of another loss.
        """
        state = bytes(state)
        if state[: len(_MAGIC)] != _MAGIC[: len(state)] or not state:
            raise ValueError("not the state of a lossrs accumulator")
        at = len(_MAGIC)
        try:
            version, length = struct.unpack_from("<IQ", state, at)
            if version not in _VERSIONS:
                versions = " and ".join(map(str, _VERSIONS))
                raise ValueError(f"the state is of version {version}; this lossrs reads versions {versions}")
            at += 12
            header = state[at : at + length]
            (size,) = struct.unpack_from("<Q", state, at + length)
            at += length + 8
            (checksum,) = struct.unpack_from("<I", state, at + size)
        except (struct.error, OverflowError):
            raise ValueError(f"the state of a lossrs accumulator is cut short: it has {len(state)} bytes") from None
        if len(state) != at + size + 4 or zlib.crc32(state[:-4]) != checksum:
            raise ValueError("the state of a lossrs accumulator is damaged: its checksum is wrong")
        described = json.loads(header)
        if loss is None:
            known = losses.get(described["name"])
            if known is None:
                raise ValueError(f"the state is of {described['loss']}, which this lossrs does not have")
            loss = known(**described["options"])
        if repr(dataclasses.replace(loss, reduction=type(loss).reduction)) != described["loss"]:
            raise ValueError(f"the state is of {described['loss']}, not of {loss!r}")
        restored = _lossrs.Accumulation.from_bytes(state[at : at + size])
        histogram, worst, bootstrap, seed = restored.settings()
        accumulator = cls(loss, histogram=histogram, worst=worst, bootstrap=bootstrap, seed=seed)
        accumulator._state = restored
        accumulator._rows = int(accumulator._state.overall()["rows"][0])
        if described["groups"] is not None:
            single, parts, names = described["groups"]
            accumulator._grouping = (single, parts, None if names is None else tuple(names))
        return accumulator


def _restore(loss: Loss, state: bytes) -> Accumulator:
    return Accumulator.from_bytes(state, loss)


def _options(loss: Loss) -> dict[str, Any]:
    options = {field.name: getattr(loss, field.name) for field in dataclasses.fields(loss) if field.name != "reduction"}
    return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in options.items()}


def _without_half(operand: Any) -> Any:
    array = operand if isinstance(operand, np.ndarray) else np.asarray(operand)
    return array.astype(np.float32) if array.dtype == np.float16 or array.dtype.name == "bfloat16" else array


def _weights(sample_weight: ArrayLike) -> Array:
    _refuse_masked("sample_weight", sample_weight)
    weight: Array = _without_half(sample_weight)
    if weight.dtype.kind not in "fiub":
        raise TypeError(f"sample_weight has dtype {weight.dtype}; expected numbers")
    return weight


def _times(row_losses: Array, weight: Array) -> Array:
    weight = np.broadcast_to(weight, row_losses.shape)
    with np.errstate(all="ignore"):
        values: Array = np.asarray(row_losses * weight)
    values[weight == 0] = 0
    return values


def _refuse_masked(name: str, array: Any) -> None:
    if isinstance(array, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array, whose mask would be lost")


def _has_classes(loss: Loss) -> bool:
    return hasattr(loss, "ignore_index")


def _own_weights(
    loss: Loss, target: Array, row_losses: Array, weight: Array | None, ignored: Array | None
) -> tuple[Array | None, Array | None]:
    """Return what the mean divides by and which rows are ignored, with the weights that are options of the loss."""
    own: Array | None = getattr(loss, "weight", None)
    if not _has_classes(loss):
        if own is None or not loss._kernel.weight_normalises:
            return weight, ignored
        weighed = own.astype(row_losses.dtype)
        weight = weighed if weight is None else weighed * weight
        return weight, weight == 0
    if target.shape != row_losses.shape:
        return weight, ignored  # probabilities
    left_out = target == loss.ignore_index  # type: ignore[attr-defined]
    if own is not None:
        classes = own.astype(row_losses.dtype)
        # A row that is left out may have a label that is no class.
        labels = np.where((target >= 0) & (target < len(classes)), target, 0).astype(np.intp)
        weight = classes[labels] if weight is None else classes[labels] * weight
        left_out = left_out | (weight == 0)
    elif not left_out.any():
        return weight, ignored
    ignored = left_out if ignored is None else ignored | left_out
    return (None if weight is None else np.where(ignored, 0, weight).astype(row_losses.dtype)), ignored


def _columns_of(group: Any) -> tuple[tuple[bool, int, tuple[str, ...] | None], list[Any]]:
    """Return how groups are given, and their arrays."""
    grouping: tuple[bool, int, tuple[str, ...] | None]
    if isinstance(group, Mapping):
        columns = list(group.values())
        grouping = (False, len(columns), tuple(str(name) for name in group))
    elif isinstance(group, tuple):
        columns, grouping = list(group), (False, len(group), None)
    else:
        return (True, 1, None), [group]
    if not columns:
        raise ValueError("group has no arrays")
    return grouping, columns


def _described(grouping: tuple[bool, int, tuple[str, ...] | None]) -> str:
    single, parts, names = grouping
    return "one array" if single else f"{parts} arrays" if names is None else f"arrays named {', '.join(names)}"


def _keys(column: Any, shape: tuple[int, ...]) -> Any:
    """Return keys as the core takes them: integers, characters, or codes and what they stand for."""
    _refuse_masked("group", column)
    coded = _categories(column)
    if coded is not None:
        codes, labels = coded
        codes = _broadcast("group", codes.astype(np.int64), shape)
        if codes.size and codes.min() < 0:
            # Of no category.
            codes = np.where(codes < 0, len(labels), codes)
            labels = [*labels, None]
        return codes, labels
    array = _of_objects(column)
    if array.dtype.kind in "iu" and not (
        array.dtype == np.uint64 and array.size and array.max() > np.iinfo(np.int64).max
    ):
        return _broadcast("group", array.astype(np.int64), shape)
    if array.dtype.kind == "b":
        return _broadcast("group", array.astype(np.int64), shape), [False, True]
    if array.dtype.kind == "U":
        return _characters(_broadcast("group", array, shape))
    if array.dtype.kind in "OT":
        numbers: dict[tuple[type, Any], int] = {}
        objects = array.astype(object).reshape(-1).tolist()
        codes = np.fromiter(
            (numbers.setdefault((type(key), key), len(numbers)) for key in objects), np.int64, len(objects)
        )
        labels = [key.item() if isinstance(key, np.generic) else key for _, key in numbers]
        for label in labels:
            if not (label is None or isinstance(label, int | str)):
                raise TypeError(f"a group is an integer, a string, a bool or None, got {label!r}")
        return _broadcast("group", codes.reshape(array.shape), shape), labels
    raise TypeError(f"group has dtype {array.dtype}; expected integers, strings, bools or None")


def _of_objects(column: Any) -> Array:
    array = np.asarray(column)
    if isinstance(column, np.ndarray) or array.dtype.kind in "iubO":
        return array
    # A list of strings and other things would become one of strings alone, and those lose zeros at their end.
    objects = np.asarray(column, object)
    plain = all(isinstance(key, str) and not key.endswith("\0") for key in objects.reshape(-1).tolist())
    return array if plain else objects


def _categories(column: Any) -> tuple[Array, list[Part]] | None:
    """Return codes and labels of a pandas categorical or an Arrow dictionary."""
    column = getattr(column, "array", column)
    if hasattr(column, "codes") and hasattr(column, "categories"):
        categories = column.categories
        return np.asarray(column.codes), categories if isinstance(categories, list) else list(categories.tolist())
    if hasattr(column, "combine_chunks"):
        column = column.combine_chunks()
    if hasattr(column, "dictionary_encode"):
        encoded = column.dictionary_encode()
        return np.asarray(encoded.indices.cast("int64").fill_null(-1)), encoded.dictionary.to_pylist()
    return None


def _characters(texts: Array) -> Array:
    width = max(texts.dtype.itemsize // 4, 1)
    texts = np.ascontiguousarray(texts.reshape(-1), np.dtype(f"=U{width}"))
    return texts.view(np.uint32).reshape(len(texts), width)


def _broadcast(name: str, array: Array, shape: tuple[int, ...]) -> Array:
    try:
        return np.ascontiguousarray(np.broadcast_to(array, shape)).reshape(-1)
    except ValueError:
        raise ValueError(f"{name} of shape {array.shape} does not broadcast to the losses' shape, {shape}") from None


def _ids(name: str, ids: ArrayLike, shape: tuple[int, ...]) -> tuple[Array | None, Array | None]:
    """Return integers, or else characters."""
    _refuse_masked(name, ids)
    array = np.asarray(ids)
    if array.dtype.kind in "iu" and not (
        array.dtype == np.uint64 and array.size and array.max() > np.iinfo(np.int64).max
    ):
        return _broadcast(name, array.astype(np.int64), shape), None
    if array.dtype.kind in "OT" and all(isinstance(text, str) for text in array.reshape(-1).tolist()):
        array = array.astype(str)
    if array.dtype.kind != "U":
        raise TypeError(f"{name} has dtype {array.dtype}; expected integers of 64 bits or strings")
    return None, _characters(_broadcast(name, array, shape))


def _objects(column: Any) -> Array:
    """Return a part of the keys as an array."""
    if isinstance(column, np.ndarray):
        return column
    objects = np.empty(len(column), object)
    objects[:] = column
    return objects


def _rows(extremes: Array, rows: Array, names: list[str | None] | None) -> Array:
    """Return where extremes are: numbers or names; None where there are none, or rows have none."""
    missing, unnumbered = np.isnan(extremes), rows == UNNUMBERED
    if names is None and not (missing | unnumbered).any():
        return rows
    places = rows.astype(object)
    places[unnumbered] = None
    if names is not None:
        for index, name in enumerate(names):
            if name is not None:
                places[index] = name
    places[missing] = None
    return places


def _derived(loss: Loss, mean: Any) -> dict[str, Any]:
    with np.errstate(all="ignore"):
        if loss.function_name == "mse_loss":
            return {"rmse": np.sqrt(mean)}
        if loss.function_name in ("cross_entropy", "nll_loss") and getattr(loss, "label_smoothing", 0) == 0:
            return {"perplexity": np.exp(mean), "bits": mean / math.log(2)}
    return {}


def _summary(columns: dict[str, Any], number: int, loss: Loss) -> Summary:
    """Return a row of columns as a summary."""
    figures = {name: columns[name][number] for name in _FIGURES}
    figures = {name: value.item() if isinstance(value, np.generic) else value for name, value in figures.items()}
    histogram = worst = None
    if "histogram" in columns:
        ends, *arrays = columns["histogram"]
        lower, upper, counts = (
            array[slice(int(ends[number - 1]) if number else 0, int(ends[number]))] for array in arrays
        )
        histogram = Histogram(lower, upper, counts)
    ends, worst_losses, rows, ids = columns["worst"]
    if len(worst_losses):
        part = slice(int(ends[number - 1]) if number else 0, int(ends[number]))
        worst = Worst(worst_losses[part], rows[part], None if ids is None else ids[part])
    sums, weights = (column.reshape(len(columns["rows"]), -1)[number] for column in columns["replicates"])
    bootstrap = Bootstrap(sums, weights) if sums.size else None
    derived = {name: float(value) for name, value in _derived(loss, figures["mean"]).items()}
    return Summary(**figures, histogram=histogram, worst=worst, bootstrap=bootstrap, derived=derived)
