"""The accumulator against exact arithmetic, and its laws: a commutative monoid over the sets of rows."""

import copy
import itertools
import math
import pickle
import random as random_module
import threading
from dataclasses import dataclass, replace
from fractions import Fraction

import lossrs
import ml_dtypes
import mpmath
import numpy as np
import pytest
from cases import CASES, FLOATS, PLAIN, instruction_set
from hypothesis import given
from hypothesis import strategies as st
from lossrs import Accumulator
from lossrs.accumulator import UNNUMBERED, Summary

LOSS = lossrs.MSELoss()


@dataclass(frozen=True)
class Row:
    """A row as a test sees it."""

    loss: float
    weight: float
    key: tuple
    number: int


ANY = [0.0, -0.0, 1.0, 5e-324, -5e-324, 1.7976931348623157e308, 2.2250738585072014e-308, math.inf, -math.inf, math.nan]
anything = st.one_of(st.floats(), st.sampled_from(ANY))
ordinary = st.floats(0, 20, width=32)
weights = st.one_of(st.just(1.0), st.sampled_from([0.0, 1.0, 2.0, 0.5]), st.floats(0, 1e3))
keys = st.tuples(st.integers(-2, 2), st.sampled_from(["a", "b", "", "a\0b", "ü", "\U0001f600", "\ud800"]))


def rows_of(losses, most=60):
    row = st.builds(Row, losses, weights, keys, st.integers(-3, 60))
    unweighted = st.builds(Row, losses, st.just(1.0), keys, st.integers(-3, 60))
    return st.one_of(st.lists(row, max_size=most), st.lists(unweighted, max_size=most))


rows_lists = st.one_of(rows_of(anything), rows_of(ordinary), rows_of(st.floats(allow_nan=False, allow_infinity=False)))


def accumulated(rows, *, grouped=True, **settings) -> Accumulator:
    """Return what holds these rows, added in this order in one update."""
    total = Accumulator(LOSS, **settings)
    add(total, rows, grouped=grouped)
    return total


def add(total, rows, *, grouped=True):
    group = tuple(np.array(part, object) for part in zip(*(row.key for row in rows), strict=True)) if rows else None
    if not grouped or group is None:
        group = None
    weight = [row.weight for row in rows]
    total.update_losses(
        np.array([row.loss for row in rows], float),
        sample_weight=None if all(w == 1 for w in weight) else weight,
        group=group,
        ids=np.array([row.number for row in rows], int),
    )


def rounded(number: Fraction) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def close(value, exact, ulps=8):
    return value == exact or abs(value - exact) <= ulps * math.ulp(exact) or (math.isnan(value) and math.isnan(exact))


def check(summary, rows):
    """Compare a summary with what exact arithmetic says of its rows."""
    kept = [row for row in rows if row.weight != 0]
    values = [row.weight * row.loss for row in kept]
    assert (summary.rows, summary.ignored) == (len(rows), len(rows) - len(kept))
    assert summary.nonfinite == sum(not math.isfinite(value) for value in values)
    finite = [Fraction(value) for value in values if math.isfinite(value)]
    special = sum(value for value in values if not math.isfinite(value))
    total = special if special != 0 else rounded(sum(finite, Fraction(0)))
    weight = rounded(sum((Fraction(row.weight) for row in kept), Fraction(0)))
    np.testing.assert_equal(summary.sum, float(total))
    assert summary.weight == weight
    np.testing.assert_equal(summary.mean, float(np.float64(total) / np.float64(weight)) if kept else math.nan)
    # Around an infinite mean there is no finite error.
    if math.isfinite(total):
        assert close(summary.standard_error, standard_error(kept, values))
    known = sorted((row.loss, row.number) for row in kept if not math.isnan(row.loss))
    if known:
        assert (summary.minimum, summary.minimum_row) == known[0]
        assert (summary.maximum, summary.maximum_row) == min(known, key=lambda row: (-row[0], row[1]))
    else:
        assert math.isnan(summary.minimum)
        assert math.isnan(summary.maximum)
        assert summary.minimum_row is summary.maximum_row is None


def standard_error(kept, values) -> float:
    if len(kept) < 2 or not all(map(math.isfinite, values)):
        return math.nan
    weights = [Fraction(row.weight) for row in kept]
    values = [Fraction(value) for value in values]
    mean = sum(values) / sum(weights)
    spread = sum((value - weight * mean) ** 2 for value, weight in zip(values, weights, strict=True))
    square = spread * len(kept) / (len(kept) - 1) / sum(weights) ** 2
    with mpmath.workprec(200):
        return float(mpmath.sqrt(mpmath.mpf(square.numerator) / square.denominator))


def check_result(result, rows):
    check(result, rows)
    by_key = {}
    for row in rows:
        by_key.setdefault(row.key, []).append(row)
    assert dict(zip(result.groups, range(len(by_key)), strict=True)).keys() == by_key.keys()
    assert list(result.groups) == sorted(by_key, key=lambda key: (key[0], key[1].encode("utf-8", "surrogatepass")))
    for key, members in by_key.items():
        check(result.groups[key], members)


@np.errstate(all="ignore")
@given(rows_lists)
def test_figures_are_those_of_exact_arithmetic(rows):
    check(accumulated(rows, grouped=False).result(), rows)
    if rows:
        check_result(accumulated(rows).result(), rows)


@np.errstate(all="ignore")
@given(rows_lists, st.integers(1, 60))
def test_many_rows_of_no_group_go_by_blocks_and_single_rows_alike(rows, repeat):
    many = [replace(row, number=row.number + 7 * i) for i in range(repeat) for row in rows]
    check(accumulated(many, grouped=False).result(), many)


@np.errstate(all="ignore")
@given(rows_lists, st.randoms(use_true_random=False), st.lists(st.integers(0, 60), max_size=4), st.booleans())
def test_splits_orders_and_merges_do_not_matter(rows, random, cuts, grouped):
    settings = {"histogram": True, "worst": 3, "bootstrap": 5, "seed": 7}
    whole = accumulated(rows, grouped=grouped, **settings)
    shuffled = random.sample(rows, len(rows))
    bounds = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    parts = [accumulated(shuffled[a:b], grouped=grouped, **settings) for a, b in itertools.pairwise(bounds)]
    one_by_one = Accumulator(LOSS, **settings)
    for row in shuffled:
        add(one_by_one, [row], grouped=grouped)
    while len(parts) > 1:
        a = parts.pop(random.randrange(len(parts)))
        b = parts.pop(random.randrange(len(parts)))
        parts.append(pickle.loads(pickle.dumps(a)) + b)
    for same in (parts[0], one_by_one):
        assert same == whole
        assert same.to_bytes() == whole.to_bytes()
        assert repr(same.result()) == repr(whole.result())


@given(rows_lists, rows_lists, rows_lists)
def test_merging_is_a_commutative_monoid(a, b, c):
    with np.errstate(all="ignore"):
        x, y, z = (accumulated(rows, worst=2, bootstrap=3) for rows in (a, b, c))
    empty = Accumulator(LOSS, worst=2, bootstrap=3)
    assert x + y == y + x
    assert (x + y) + z == x + (y + z) == sum([z, x, y])
    assert x + empty == empty + x == x
    before = x.copy()
    x.merge(y, z)
    assert x == before + y + z


@np.errstate(all="ignore")
@given(rows_lists, st.lists(st.floats(0, 1), min_size=1, max_size=4))
def test_quantiles_are_within_their_bound(rows, shares):
    summary = accumulated(rows, grouped=False, histogram=True).result()
    known = np.array([row.loss for row in rows if row.weight != 0 and not math.isnan(row.loss)])
    if not known.size:
        assert np.isnan(summary.quantile(shares)).all()
        return
    assert int(summary.histogram.counts.sum()) == known.size
    exact = np.sort(known)[np.clip(np.ceil(np.array(shares) * known.size).astype(int), 1, known.size) - 1]
    for found, expected in zip(summary.quantile(shares), exact, strict=True):
        bound = max(abs(expected) / 256 if math.isfinite(expected) else 0, 2.0**-1029)
        assert found == expected or abs(found - expected) <= bound
    assert summary.quantile(1.0) == summary.maximum
    for edge, count in zip(summary.histogram.lower, summary.histogram.counts, strict=True):
        assert (known == edge).sum() <= count


@np.errstate(all="ignore")
@given(rows_lists, st.integers(1, 5))
def test_the_worst_rows_are_sorted_and_ties_decided(rows, most):
    worst = accumulated(rows, grouped=False, worst=most).result().worst
    kept = [(row.loss + 0.0, row.number) for row in rows if row.weight != 0]
    expected = sorted(kept, key=lambda row: (not math.isnan(row[0]), -row[0] if row[0] == row[0] else 0, row[1]))[:most]
    if not expected:
        assert worst is None
        return
    np.testing.assert_array_equal(worst.losses, [loss for loss, _ in expected])
    np.testing.assert_array_equal(worst.rows, [number for _, number in expected])


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("weighted", [False, True])
def test_sum_and_mean_are_those_of_the_loss(case, weighted, rng):
    for dtype, shape in itertools.product(FLOATS, case.shapes):
        sample = case.sample(rng, shape, dtype)
        loss = case.loss(sample)
        losses_shape = np.shape(replace(loss, reduction="none")(*sample.arguments))
        weight = rng.choice([0, 0.25, 1, 3.7], losses_shape) if weighted else None
        total = Accumulator(loss, histogram=True)
        total.update(*sample.arguments, sample_weight=weight)
        result = total.result()
        assert result.rows == math.prod(losses_shape)
        for reduction in ("mean", "sum"):
            expected = replace(loss, reduction=reduction)(*sample.arguments, sample_weight=weight)
            np.testing.assert_array_equal(getattr(result, reduction), expected, err_msg=f"{dtype} {shape}")
        assert int(result.histogram.counts.sum()) == result.rows - result.ignored


@pytest.mark.parametrize("case", PLAIN, ids=str)
def test_batches_of_a_loss_add_up_to_the_whole(case, rng):
    sample = case.sample(rng, case.shape(3000), np.float32)
    count = len(sample.first)
    # Weights of single rows are not those of a part.
    options = {name: value for name, value in sample.options.items() if np.shape(value)[:1] != (count,)}
    loss, group = lossrs.losses[case.name](**options), rng.integers(0, 5, count)
    whole = Accumulator(loss, worst=4)
    whole.update(*sample.arguments, group=group)
    parts = []
    for rows in np.array_split(rng.permutation(count), 7):
        part = Accumulator(loss, worst=4)
        # Rows that are handed over one by one are the same rows.
        part.update(*case.take(sample, rows).arguments, group=group[rows], ids=rows)
        parts.append(part)
    assert sum(parts) == whole


def test_every_instruction_set_gives_the_same_state(isa, rng):
    with instruction_set("baseline"):
        expected = [state.to_bytes() for state in states(np.random.default_rng(5))]
    assert [state.to_bytes() for state in states(np.random.default_rng(5))] == expected


def states(rng):
    for dtype, scale in itertools.product([np.float32, np.float64], [1, 1e-30, 1e30]):
        losses = (rng.exponential(size=5000) * scale).astype(dtype)
        weight = rng.exponential(size=5000).astype(dtype)
        for sample_weight, group in itertools.product([None, weight], [None, rng.integers(0, 9, 5000)]):
            total = Accumulator(LOSS, histogram=True, worst=5)
            total.update_losses(losses, sample_weight=sample_weight, group=group)
            yield total


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_rows_one_by_one_or_at_once_grouped_or_not(dtype, rng):
    losses = rng.exponential(size=3000).astype(dtype)
    losses[::7] *= 1e-20
    weight = rng.exponential(size=3000)
    for sample_weight in (None, weight):
        whole, single, one_group = (Accumulator(LOSS, worst=2, histogram=True) for _ in range(3))
        whole.update_losses(losses, sample_weight=sample_weight)
        one_group.update_losses(losses, sample_weight=sample_weight, group=np.zeros(3000, int))
        for row, loss in enumerate(losses):
            single.update_losses(loss, sample_weight=None if sample_weight is None else weight[row])
        assert whole == single
        result = replace(one_group.result(), groups=None)
        assert repr(result) == repr(whole.result())


def test_weights_of_one_are_no_weights(rng):
    losses = rng.exponential(size=100)
    plain = Accumulator(LOSS)
    plain.update_losses(losses)
    for group in (None, np.zeros(100, int)):
        expected = Accumulator(LOSS)
        expected.update_losses(losses, group=group)
        weighed = Accumulator(LOSS)
        weighed.update_losses(losses, sample_weight=np.ones(100, np.int8), group=group)
        assert weighed == expected


def test_rows_are_numbered_in_turn_and_merged_as_given():
    losses = np.array([3.0, 1.0, 2.0])
    total = Accumulator(LOSS, worst=2)
    for _ in range(3):
        total.update_losses(losses)
    total.update_losses([9.0, -1.0], first_row=1000)
    result = total.result()
    assert (result.maximum_row, result.minimum_row) == (1000, 1001)
    assert result.worst.rows.tolist() == [1000, 0]
    other = Accumulator(LOSS, worst=2)
    other.update_losses([9.0, -1.0], first_row=5)
    both = total + other
    assert (both.result().maximum_row, both.result().minimum_row) == (5, 6)
    both.update_losses([100.0])
    assert both.result().maximum_row == 13


def test_ids_are_reported():
    losses = [1.0, 5.0, 5.0, 0.5]
    for ids in (["w", "y", "x", "zebra\ud800"], np.array(["w", "y", "x", "zebra\ud800"], object)):
        total = Accumulator(LOSS, worst=3)
        total.update_losses(losses, ids=ids, group=[0, 0, 1, 1])
        result = total.result()
        assert (result.minimum_row, result.maximum_row) == ("zebra\ud800", "y")
        assert result.worst.ids == ["y", "x", "w"]
        assert result.worst.rows.tolist() == [1, 2, 0]
        assert [result.groups[key].maximum_row for key in (0, 1)] == ["y", "x"]
        assert pickle.loads(pickle.dumps(total)) == total
    numbers = Accumulator(LOSS, worst=3)
    numbers.update_losses(losses, ids=np.array([7, 9, 8, 2**40], np.uint64))
    assert (numbers.result().minimum_row, numbers.result().maximum_row) == (2**40, 8)


def test_ties_by_name_do_not_depend_on_the_order():
    states = set()
    for order in itertools.permutations("abc"):
        total = Accumulator(LOSS, worst=2)
        for name in order:
            total.update_losses([1.0], ids=[name], first_row=0)
        states.add(total.to_bytes())
        assert total.result().maximum_row == "a"
        assert total.result().worst.ids == ["a", "b"]
    assert len(states) == 1


class Categorical:
    """What pandas' categories look like."""

    def __init__(self, codes, categories):
        self.codes, self.categories = np.asarray(codes, np.int8), np.asarray(categories, object)


def arrow(values):
    import pyarrow as pa

    return [pa.array(values), pa.array(values).dictionary_encode(), pa.chunked_array([values[:2], values[2:]])]


TEXTS = ["b", "a", "b", "äé\U0001f600"]
INTEGERS = [3, -1, 3, 2**40]


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        *(
            (TEXTS if i == 0 else np.array(TEXTS, dtype), sorted(set(TEXTS)))
            for i, dtype in enumerate(["", "O", ">U9", "T"])
        ),
        *((group, sorted(set(TEXTS))) for group in arrow(TEXTS)),
        *((group, sorted(set(INTEGERS))) for group in [INTEGERS, np.array(INTEGERS, "O"), np.array(INTEGERS, ">i8")]),
        *((group, sorted(set(INTEGERS))) for group in arrow(INTEGERS)),
        *((np.array([3, 1, 3, 7], code), [1, 3, 7]) for code in "bBhHiIlLqQ"),
        ([True, False, True, True], [False, True]),
        ([None, "a", 5, "a"], [5, "a", None]),
        ([None, None, None, None], [None]),
        ([1, True, "1", True], [True, 1, "1"]),
        (Categorical([1, 0, -1, 1], ["x", "y"]), ["x", "y", None]),
        (["", "a\0", "a", "a\0b"], ["", "a", "a\0", "a\0b"]),
        ("same", ["same"]),
        (np.int16(4), [4]),
    ],
)
def test_groups_of_every_kind(group, expected):
    total = Accumulator(LOSS)
    total.update_losses([1.0, 2.0, 3.0, 4.0], group=group)
    groups = total.result().groups
    assert [(type(key), key) for key in groups] == [(type(key), key) for key in expected]
    assert groups.rows.sum() == 4
    assert len(groups) == len(expected)
    assert Accumulator.from_bytes(total.to_bytes()) == total


def test_overall_is_the_result_without_groups(rng):
    total = Accumulator(LOSS, histogram=True, worst=3)
    for _ in range(2):
        total.update(rng.normal(size=50), rng.normal(size=50), group=rng.integers(0, 9, 50))
        result, overall = total.result(), total.overall()
        assert type(overall) is Summary
        for name, value in vars(overall).items():
            assert getattr(result, name) == value


def test_groups_of_several_keys():
    for group, names in [
        ((["a", "b", "a", "b"], [1, 1, 2, 1]), ("group_0", "group_1")),
        ({"letter": ["a", "b", "a", "b"], "digit": [1, 1, 2, 1]}, ("letter", "digit")),
    ]:
        total = Accumulator(LOSS)
        total.update_losses([1.0, 2.0, 3.0, 4.0], group=group)
        groups = total.result().groups
        assert {key: group.mean for key, group in groups.items()} == {("a", 1): 1, ("a", 2): 3, ("b", 1): 3}
        assert tuple(groups.to_dict())[:2] == names
        assert groups.to_dict()[names[1]].tolist() == [1, 2, 1]
        assert groups.mean.tolist() == [1, 3, 3]
        again = Accumulator.from_bytes(total.to_bytes())
        assert again == total
        assert again.result().groups.names == groups.names


def test_groups_broadcast_to_the_losses():
    total = Accumulator(LOSS)
    total.update(np.arange(6.0).reshape(2, 3), np.zeros((2, 3)), group=np.array([["x"], ["y"]]))
    assert {key: group.sum for key, group in total.result().groups.items()} == {"x": 5, "y": 50}


def test_rows_with_and_without_groups_mix():
    total = Accumulator(LOSS)
    total.update_losses([1.0, 2.0])
    total.update_losses([3.0, 4.0], group=["a", "b"])
    result = total.result()
    assert (result.rows, result.sum, result.minimum_row, result.maximum_row) == (4, 10, 0, 3)
    assert {key: group.sum for key, group in result.groups.items()} == {"a": 3, "b": 4}
    assert Accumulator(LOSS).result().groups is None


FAILURES = {
    "shapes": ({"operands": ([1.0, 2.0], [1.0])}, ValueError, "shape"),
    "weights of another shape": ({"sample_weight": [1.0, 2.0, 3.0]}, ValueError, "broadcast"),
    "weights that are words": ({"sample_weight": ["a", "b"]}, TypeError, "sample_weight has dtype"),
    "masked weights": ({"sample_weight": np.ma.array([1.0, 2.0])}, TypeError, "masked"),
    "a masked input": ({"operands": (np.ma.array([1.0, 2.0]), [1.0, 2.0])}, TypeError, "masked"),
    "groups of another length": ({"group": [1, 2, 3]}, ValueError, "group of shape .3,. does not broadcast"),
    "groups that are floats": ({"group": [1.5, 2.0]}, TypeError, "a group is an integer, a string.*got 1.5"),
    "groups in an array of floats": ({"group": np.ones(2)}, TypeError, "group has dtype float64"),
    "groups that are tuples": ({"group": np.array([(1,), None], object)}, TypeError, "a group is an integer"),
    "groups beyond 64 bits": ({"group": [2**70, 1]}, (OverflowError, ValueError), "64 bits"),
    "unsigned groups beyond 63 bits": ({"group": np.array([2**63, 1], np.uint64)}, (TypeError, ValueError), "group"),
    "masked groups": ({"group": np.ma.array([1, 2])}, TypeError, "masked"),
    "no groups": ({"group": ()}, ValueError, "no arrays"),
    "another number of keys": ({"group": ([1, 2], [3, 4])}, ValueError, "group is 2 arrays; earlier batches had one"),
    "ids of another length": ({"ids": [1, 2, 3]}, ValueError, "ids of shape .3,. does not broadcast"),
    "ids that are floats": ({"ids": [1.0, 2.0]}, TypeError, "ids has dtype float64"),
    "too few operands": ({"operands": ([1.0, 2.0],)}, TypeError, "target"),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_batch_that_fails_adds_nothing(failure):
    changes, error, message = FAILURES[failure]
    total = Accumulator(LOSS, histogram=True, worst=3)
    total.update([1.0, 2.0], [0.0, 0.0], group=[5, 6], sample_weight=[1.0, 2.0])
    before, shown = total.to_bytes(), repr(total)
    arguments = {"operands": ([1.0, 2.0], [3.0, 4.0]), "group": ["new", "newer"]} | changes
    with pytest.raises(error, match=message):
        total.update(*arguments.pop("operands"), **arguments)
    assert total.to_bytes() == before
    assert repr(total) == shown


def test_a_label_that_is_out_of_range_adds_nothing():
    total = Accumulator(lossrs.CrossEntropyLoss())
    logits = np.zeros((100_000, 3), np.float32)
    labels = np.zeros(100_000, int)
    total.update(logits, labels)
    before = total.to_bytes()
    labels[99_999] = 3
    with pytest.raises(lossrs.LabelError, match="label 3 at row 99999"):
        total.update(logits, labels, group=labels)
    assert total.to_bytes() == before
    labels[99_999] = -100
    total.update(logits, labels, sample_weight=labels != 1)
    assert (total.result().rows, total.result().ignored) == (200_000, 1)


def test_a_row_of_weight_zero_may_hold_anything():
    total = Accumulator(lossrs.CrossEntropyLoss())
    total.update([[0.0, 1.0], [math.nan, 1.0]], [0, 77], sample_weight=[2.0, 0.0])
    result = total.result()
    assert (result.rows, result.ignored, result.nonfinite) == (2, 1, 0)
    assert result.sum == 2 * F_cross_entropy([[0.0, 1.0]], [0])


def F_cross_entropy(logits, labels):  # noqa: N802
    return lossrs.functional.cross_entropy(logits, labels)


def test_half_precision_is_not_rounded_back(rng):
    logits = rng.normal(size=(500, 7))
    labels = rng.integers(0, 7, 500)
    for dtype in (np.float16, ml_dtypes.bfloat16):
        half, single = Accumulator(lossrs.CrossEntropyLoss()), Accumulator(lossrs.CrossEntropyLoss())
        half.update(logits.astype(dtype), labels)
        single.update(logits.astype(dtype).astype(np.float32), labels)
        assert half == single


SETTINGS = [
    (Accumulator(lossrs.L1Loss()), "this is an accumulator of MSELoss.., the other of L1Loss.."),
    (Accumulator(LOSS, histogram=True), "of histogram=False, the other of histogram=True"),
    (Accumulator(LOSS, worst=3), "of worst=0, the other of worst=3"),
    (Accumulator(LOSS, bootstrap=3), "of bootstrap=0, the other of bootstrap=3"),
]


@pytest.mark.parametrize(("other", "message"), SETTINGS)
def test_others_are_refused_by_name(other, message):
    total = Accumulator(LOSS)
    total.update_losses([1.0])
    before = total.to_bytes()
    with pytest.raises(ValueError, match=message):
        total.merge(total.copy(), other)
    assert total.to_bytes() == before
    assert total != other
    with pytest.raises(TypeError, match="merges accumulators, got ExactSum"):
        total.merge(lossrs.ExactSum())
    with pytest.raises(TypeError):
        total + 1
    assert total != 1


def test_groups_of_another_kind_are_refused():
    one, two = Accumulator(LOSS), Accumulator(LOSS)
    one.update_losses([1.0], group=[1])
    two.update_losses([1.0], group={"a": [1], "b": [2]})
    with pytest.raises(ValueError, match="groups are one array, the other's arrays named a, b"):
        one.merge(two)


@pytest.mark.parametrize(
    "loss",
    [
        lossrs.MSELoss(),
        lossrs.HuberLoss(delta=0.1, reduction="sum"),
        lossrs.CrossEntropyLoss(weight=np.array([0.1, 2, 1 / 3]), label_smoothing=0.25, ignore_index=-7),
        lossrs.BCEWithLogitsLoss(pos_weight=[math.inf]),
    ],
    ids=repr,
)
def test_a_state_knows_its_loss(loss):
    total = Accumulator(loss)
    again = Accumulator.from_bytes(total.to_bytes())
    assert again == total
    assert again.loss == replace(loss, reduction="mean")
    assert Accumulator.from_bytes(total.to_bytes(), loss) == total
    for copied in (copy.copy(total), copy.deepcopy(total), pickle.loads(pickle.dumps(total))):
        assert copied == total
        assert repr(copied) == repr(total)
    with pytest.raises(ValueError, match=r"the state is of .*, not of L1Loss\(\)"):
        Accumulator.from_bytes(total.to_bytes(), lossrs.L1Loss())


def small_state() -> bytes:
    total = Accumulator(LOSS, histogram=True, worst=2)
    total.update(
        [1.0, -2.0, 0.5], [0.0, 0.0, 0.0], sample_weight=[1.0, 0.5, 0.0], group=["a", "b", "a"], ids=["x", "y", "z"]
    )
    return total.to_bytes()


RECORDED = (
    "6c6f7373727320616363756d756c61746f720a0100000061000000000000007b2267726f757073223a205b747275652c20312c206e75"
    "6c6c5d2c20226c6f7373223a20224d53454c6f73732829222c20226e616d65223a20226d73655f6c6f7373222c20226f7074696f6e73"
    "223a207b22776569676874223a206e756c6c7d7ddf010000000000000102000000000000000300000000000000000000000000000000"
    "0000000000000000000000000000000000000000000000000000000000f07fffffffffffffff7f00000000000000f0ffffffffffffff"
    "ff7f00000000000000000000000000000000000000000000000400000000000000046100000200000000000000010000000000000000"
    "00000000000000000000000000f03f000000000000000001010000000000000078000000000000f03f00000000000000000101000000"
    "000000007800000101000000000000000001010000000000000000010000000000000080ff0100000000000100000000000000010000"
    "0000000000000000000000f03f0000000000000000010100000000000000780400000000000000046200000100000000000000000000"
    "000000000000000000000000000000000000001040010000000000000001010000000000000079000000000000104001000000000000"
    "000101000000000000007900000102000000000000000001040000000000000001ff0200000000000000800000000000000000000101"
    "00000000000000ff01000000000000004001000000000000008000020000000000010000000000000001000000000000000000000000"
    "001040010000000000000001010000000000000079cfeb5a84"
)


def test_states_are_what_they_were_in_version_1():
    # Recorded when the format was made; a change to it needs another version.
    assert small_state().hex() == RECORDED
    assert Accumulator.from_bytes(bytes.fromhex(RECORDED)).result().mean == 2.0


def test_a_state_that_is_cut_short_is_refused():
    state = small_state()
    for length in range(len(state)):
        with pytest.raises(ValueError, match=r"cut short|not the state|checksum"):
            Accumulator.from_bytes(state[:length])
    with pytest.raises(ValueError, match="damaged"):
        Accumulator.from_bytes(state + b"\0")


def test_a_state_with_a_flipped_bit_is_refused():
    state = small_state()
    for bit in range(8 * len(state)):
        damaged = bytearray(state)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ValueError, match=r"cut short|not the state|checksum|version"):
            Accumulator.from_bytes(bytes(damaged))


def test_a_state_of_another_version_is_refused():
    state = bytearray(small_state())
    state[state.index(b"\n") + 1] = 3
    with pytest.raises(ValueError, match="the state is of version 3; this lossrs reads versions 1 and 2"):
        Accumulator.from_bytes(bytes(state))


def test_no_bytes_crash_the_core():
    from lossrs import _lossrs

    total = Accumulator(LOSS, histogram=True, worst=2, bootstrap=2)
    total.update_losses([1.0, 2.0], sample_weight=[2.0, math.inf], group=["a", None])
    state = total._state.to_bytes()
    random = random_module.Random(7)
    for _ in range(20_000):
        damaged = bytearray(state)
        for _ in range(random.randint(1, 4)):
            damaged[random.randrange(len(damaged))] = random.choice([0, 1, 2, 0x7F, 0x80, 0xFF, random.randrange(256)])
        try:
            read = _lossrs.Accumulation.from_bytes(
                bytes(damaged[: random.choice([len(damaged), random.randrange(len(damaged))])])
            )
        except ValueError:
            continue
        read.overall()
        read.groups()
        read.merge(read.copy())


def test_what_is_no_loss_is_refused():
    with pytest.raises(TypeError, match="loss must be a loss of lossrs, got str"):
        Accumulator("mse_loss")
    with pytest.raises(ValueError, match="worst must be at least 0, got -1"):
        Accumulator(LOSS, worst=-1)
    with pytest.raises(ValueError, match="bootstrap must be between 0 and 100000, got -1"):
        Accumulator(LOSS, bootstrap=-1)
    with pytest.raises(ValueError, match="seed must be a number of 64 bits, got -1"):
        Accumulator(LOSS, bootstrap=1, seed=-1)


def test_reset_and_copies_are_apart():
    total = Accumulator(LOSS, worst=2)
    total.update_losses([1.0, 2.0], group=["a", "b"])
    kept = total.copy()
    total.update_losses([3.0], group=["c"])
    assert (len(kept.result().groups), len(total.result().groups)) == (2, 3)
    total.reset()
    assert total == Accumulator(LOSS, worst=2)
    total.update_losses([3.0])
    assert total.result().maximum_row == 0


def test_results_of_equal_states_are_equal():
    def result(first):
        total = Accumulator(LOSS, histogram=True, worst=2)
        total.update_losses([first, 2.0, math.nan], ids=["a", "b", "c"])
        # NaN is not equal to itself.
        return replace(total.result(), sum=0.0, mean=0.0, standard_error=0.0, derived={})

    assert result(1.0) == result(1.0)
    assert result(1.0).histogram != result(3.0).histogram
    assert result(1.0).worst == result(1.5).worst != result(3.0).worst


def test_derived_figures():
    squared = Accumulator(LOSS)
    squared.update([3.0, 4.0], [0.0, 0.0], group=["a", "b"])
    assert squared.result().derived == {"rmse": math.sqrt(12.5)}
    assert squared.result().groups["b"].derived == {"rmse": 4}
    assert squared.result().groups.derived["rmse"].tolist() == [3, 4]
    text = Accumulator(lossrs.CrossEntropyLoss())
    text.update(np.zeros((6, 8)), np.arange(6))
    result = text.result()
    assert result.derived["perplexity"] == pytest.approx(8)
    assert result.derived["bits"] == pytest.approx(3)
    assert result.bits_per_byte(9) == pytest.approx(2)
    assert result.to_dict()["perplexity"] == result.derived["perplexity"]
    smoothed = Accumulator(lossrs.CrossEntropyLoss(label_smoothing=0.1))
    assert smoothed.result().derived == {}
    with pytest.raises(ValueError, match="histogram=True"):
        result.quantile(0.5)


def test_results_are_frozen_and_readable():
    total = Accumulator(LOSS)
    total.update_losses([1.0, 2.0, 4.0, 8.0], group=[1, 2, 3, 4])
    result = total.result()
    with pytest.raises(AttributeError):
        result.mean = 0.0
    assert "mean=3.75" in repr(result)
    assert repr(result.groups) == "<4 groups, means {1: 1, 2: 2, 3: 4, ...}>"
    assert repr(total) == "<Accumulator(MSELoss()) of 4 rows>"
    with pytest.raises(AttributeError, match="no column 'median'"):
        _ = result.groups.median
    with pytest.raises(KeyError):
        _ = result.groups["x"]
    assert list(copy.deepcopy(result.groups)) == [1, 2, 3, 4]


def test_many_groups_in_many_threads(rng):
    group, losses = rng.integers(0, 50_000, 400_000), rng.exponential(size=400_000).astype(np.float32)
    whole = Accumulator(LOSS)
    whole.update_losses(losses, group=group)
    parts = [Accumulator(LOSS) for _ in range(4)]

    def work(part, rows):
        part.update_losses(losses[rows], group=group[rows], ids=rows)

    pieces = np.array_split(np.arange(400_000), 4)
    threads = [threading.Thread(target=work, args=pair) for pair in zip(parts, pieces, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(parts) == whole
    groups = whole.result().groups
    sums = np.bincount(group, losses)
    np.testing.assert_allclose(groups.sum, sums[sums > 0], rtol=1e-12)


def test_rows_without_numbers():
    losses, ids = [1.0, 5.0, 5.0, 0.5], ["w", "y", "x", "z"]
    for named in (None, ids):
        whole, parts = (Accumulator(LOSS, worst=2 if named else 0) for _ in range(2))
        whole.update_losses(losses, ids=named, first_row=UNNUMBERED, group=[0, 0, 1, 1])
        for row in (2, 0, 3, 1):
            one = None if named is None else [named[row]]
            parts.update_losses([losses[row]], ids=one, first_row=UNNUMBERED, group=[row // 2])
        assert parts.to_bytes() == whole.to_bytes()
        result = Accumulator.from_bytes(whole.to_bytes()).result()
        assert (result.minimum_row, result.maximum_row) == (("z", "x") if named else (None, None))
        assert result.groups.maximum_row.tolist() == (["y", "x"] if named else [None, None])
        assert result.worst is None if named is None else result.worst.ids == ["x", "y"]


def test_groups_in_another_order():
    total = Accumulator(LOSS, histogram=True, worst=1)
    keys = [f"item {number}" for number in (1, 10, 2, 11)]
    total.update_losses([1.0, 2.0, 3.0, 4.0], group=keys, ids=[f"row of {key}" for key in keys])
    groups = total.result().groups
    by_number = groups.sorted(lambda key: int(key.split()[1]))
    assert list(groups) == ["item 1", "item 10", "item 11", "item 2"]
    assert list(by_number) == by_number.to_dict()["group"].tolist() == ["item 1", "item 2", "item 10", "item 11"]
    assert by_number.mean.tolist() == [1.0, 3.0, 2.0, 4.0]
    assert by_number.minimum_row.tolist() == [f"row of {key}" for key in by_number]
    assert {key: repr(of) for key, of in by_number.items()} == {key: repr(of) for key, of in groups.items()}


def test_the_terms_of_several_columns():
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(2, 50, 3))
    weight = generator.choice([0.0, 0.5, 2.0], size=(50, 1))
    own = np.array([0.5, 1.0, 3.0])
    for loss in (lossrs.MSELoss(), lossrs.MSELoss(weight=own)):
        total = Accumulator(loss)
        total.add(total.terms(x, y, sample_weight=weight).means_of_columns())
        found = total.result()
        assert (found.rows, found.ignored) == (50, np.count_nonzero(weight == 0))
        assert found.mean == pytest.approx(loss(x, y, sample_weight=weight), rel=1e-14)
        per_row = replace(loss, reduction="none")(x, y).mean(axis=1)[weight[:, 0] != 0]
        assert (found.minimum, found.maximum) == (per_row.min(), per_row.max())
