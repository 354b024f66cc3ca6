"""What ``lossrs.scoring.score`` computes: against NumPy on the whole data, the functional API, and itself."""

import dataclasses
import math
from fractions import Fraction

import lossrs
import lossrs.functional as F
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from lossrs.accumulator import Summary
from lossrs.definitions.embeddings import EmbeddingsLoss
from lossrs.definitions.pointwise import PointwiseLoss
from lossrs.definitions.rows import RowwiseLoss
from lossrs.scoring import ScoreError, score


def write(path, **columns):
    """Write a Parquet file; a two-dimensional array is a list column."""
    arrow = {}
    for name, values in columns.items():
        if isinstance(values, np.ndarray) and values.ndim == 2:
            arrow[name] = pa.FixedSizeListArray.from_arrays(values.ravel(), values.shape[1])
        else:
            arrow[name] = pa.array(values)
    pq.write_table(pa.table(arrow), path, row_group_size=37)
    return path


def close(found, expected, ulps=2):
    """Tell whether two numbers are the same but for the last bit or two."""
    return (
        found == expected
        or abs(found - expected) <= ulps * math.ulp(expected)
        or (found != found and expected != expected)
    )


def whole_mean_and_error(losses, weights):
    """Return the weighted mean and its standard error by the documented formula, in rational arithmetic."""
    losses = [Fraction(float(loss)) for loss in losses]
    weights = [Fraction(float(weight)) for weight in weights]
    total = sum(weights)
    mean = sum(w * loss for w, loss in zip(weights, losses, strict=True)) / total
    n = sum(weight != 0 for weight in weights)
    spread = sum((w * (loss - mean)) ** 2 for w, loss in zip(weights, losses, strict=True))
    return float(mean), math.sqrt(spread * n / (n - 1)) / float(total)


def summaries(found):
    """Return the summaries of the groups, then that of all rows."""
    return [*found.groups.values(), found.overall]


numbers = st.floats(-1e6, 1e6, width=32)


@st.composite
def tables(draw):
    rows = draw(st.integers(2, 60))
    prediction = draw(arrays(np.float32, rows, elements=numbers))
    truth = draw(arrays(np.float32, rows, elements=numbers))
    weight = draw(arrays(np.float64, rows, elements=st.sampled_from([0.0, 0.25, 1.0, 3.0])))
    group = draw(arrays(np.int8, rows, elements=st.integers(0, 3)))
    return prediction, truth, weight, group


@settings(deadline=None, max_examples=60)
@given(tables(), st.integers(1, 70), st.randoms(use_true_random=False))
def test_neither_batches_nor_the_order_of_rows_change_a_bit(tmp_path_factory, table, batch_size, random):
    folder = tmp_path_factory.mktemp("batches")

    def result(rows, batch_size):
        names = ("prediction", "truth", "weight", "group")
        columns = {name: column[rows] for name, column in zip(names, table, strict=True)}
        file = write(folder / "table.parquet", **columns)
        found = score(
            file,
            "mse_loss",
            input="prediction",
            target="truth",
            sample_weight="weight",
            by="group",
            batch_size=batch_size,
        )
        return [repr(dataclasses.replace(of, minimum_row=0, maximum_row=0)) for of in summaries(found)]

    rows = list(range(len(table[0])))
    expected = result(rows, 10_000)
    assert result(rows, batch_size) == expected
    random.shuffle(rows)
    assert result(rows, batch_size) == expected


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("weighted", [False, True])
def test_mean_and_standard_error_are_numpys_on_the_whole_data(tmp_path, dtype, weighted):
    random = np.random.default_rng(1)
    prediction, truth = random.normal(size=(2, 1_000)).astype(dtype)
    # Powers of two, so that the weighted losses are not rounded, which for float32 would be seen.
    weight = random.choice([0.0, 0.5, 1.0, 4.0], 1_000) if weighted else np.ones(1_000)
    file = write(tmp_path / "table.parquet", prediction=prediction, truth=truth, weight=weight)
    column = "weight" if weighted else None
    found = score(file, "l1_loss", input="prediction", target="truth", sample_weight=column, batch_size=64).overall
    losses = np.abs(prediction - truth).astype(np.float64)
    mean = np.average(losses, weights=weight)
    n = np.count_nonzero(weight)
    error = math.sqrt(n / (n - 1) * np.sum(weight**2 * (losses - mean) ** 2)) / weight.sum()
    assert found.mean == pytest.approx(mean, rel=1e-14, abs=0)
    assert found.standard_error == pytest.approx(error, rel=1e-12, abs=0)
    assert found.sum == math.fsum(losses * weight)
    assert (found.rows, found.ignored, found.nonfinite, found.weight) == (1_000, 1_000 - n, 0, weight.sum())
    if not weighted:
        assert found.standard_error == pytest.approx(np.std(losses, ddof=1) / math.sqrt(1_000), rel=1e-12, abs=0)


def test_the_standard_error_survives_cancellation(tmp_path):
    random = np.random.default_rng(2)
    truth = np.zeros(500)
    prediction = 1e8 + random.random(500) * 1e-6  # the squares agree in 15 digits
    weight = random.random(500)
    file = write(tmp_path / "table.parquet", prediction=prediction, truth=truth, weight=weight)
    found = score(file, "l1_loss", input="prediction", target="truth").overall
    mean, error = whole_mean_and_error(np.abs(prediction), np.ones(500))
    assert (found.mean, found.standard_error) == (mean, pytest.approx(error, rel=1e-14, abs=0))
    # The product of weight and loss is rounded once, for each row: nothing else is.
    found = score(file, "l1_loss", input="prediction", target="truth", sample_weight="weight").overall
    assert found.mean == pytest.approx(whole_mean_and_error(prediction, weight)[0], rel=1e-15, abs=0)
    assert found.sum == math.fsum(prediction * weight)


def class_data(dtype, rows=400, classes=7):
    random = np.random.default_rng(3)
    logits = (3 * random.normal(size=(rows, classes))).astype(dtype)
    labels = random.integers(0, classes, rows)
    labels[::11] = -1
    return logits, labels, random.random(rows) + 0.1, random.random(classes) + 0.1


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("sample_weighted", [False, True])
@pytest.mark.parametrize("class_weighted", [False, True])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_cross_entropy_is_the_functional_apis(tmp_path, dtype, sample_weighted, class_weighted, label_smoothing):
    logits, labels, sample_weight, weight = class_data(dtype)
    file = write(tmp_path / "table.parquet", logits=logits, label=labels, sample_weight=sample_weight)
    options = {"ignore_index": -1, "label_smoothing": label_smoothing} | ({"weight": weight} if class_weighted else {})
    found = score(
        file,
        "cross_entropy",
        input="logits",
        target="label",
        options=options,
        sample_weight="sample_weight" if sample_weighted else None,
        batch_size=23,
    ).overall
    call = options | ({"sample_weight": sample_weight} if sample_weighted else {})
    assert found.sum == F.cross_entropy(logits, labels, reduction="sum", **call)
    assert close(found.mean, F.cross_entropy(logits, labels, **call))
    assert found.ignored == np.count_nonzero(labels == -1)


def test_probability_targets_are_divided_by_the_rows_whatever_the_class_weights(tmp_path):
    logits, _, sample_weight, weight = class_data(np.float64)
    target = np.random.default_rng(4).dirichlet(np.ones(7), len(logits))
    named = {f"target_{index}": column for index, column in enumerate(target.T)}
    file = write(tmp_path / "table.parquet", logits=logits, w=sample_weight, **named)
    options = {"weight": weight}
    found = score(file, "cross_entropy", input="logits", target="target_*", options=options, sample_weight="w").overall
    assert close(found.mean, F.cross_entropy(logits, target, sample_weight=sample_weight, **options))
    found = score(file, "cross_entropy", input="logits", target="target_*", options=options).overall
    assert close(found.mean, F.cross_entropy(logits, target, **options))


def test_a_row_of_weight_zero_may_have_any_label(tmp_path):
    logits, labels, sample_weight, weight = class_data(np.float32)
    labels[5], sample_weight[5] = 99, 0
    options = {"weight": weight, "ignore_index": -1}
    file = write(tmp_path / "table.parquet", logits=logits, label=labels, w=sample_weight)
    found = score(file, "cross_entropy", input="logits", target="label", sample_weight="w", options=options).overall
    assert close(found.mean, F.cross_entropy(logits, labels, sample_weight=sample_weight, **options))


def call_of(name, dtype, columns, with_options):
    """Make rows that a loss can be computed of, and a value for each of its options; None if no rows have losses."""
    random = np.random.default_rng(5)
    cls = lossrs.losses[name]
    if not issubclass(cls, PointwiseLoss | RowwiseLoss | EmbeddingsLoss):
        return None
    options = {}
    for field in dataclasses.fields(cls) if with_options else ():
        if field.name in cls.array_options:
            options[field.name] = random.random(columns)
        elif isinstance(field.default, float):
            options[field.name] = field.default + 0.25
        elif isinstance(field.default, int):
            options[field.name] = 1
    shape = (300, columns)
    signs = np.array([-1, 1], np.int8)
    targets = (
        random.integers(0, columns, 300),
        random.random(shape).astype(dtype),
        random.choice(signs, shape),
        random.choice(signs, 300),
        random.integers(0, 2, 300),
        random.integers(-1, columns, shape),
    )
    for target in targets:
        operands = {
            operand: target if operand == "target" else random.random(shape).astype(dtype) for operand in cls().operands
        }
        try:
            losses = getattr(F, name)(**operands, reduction="none", **options)
        except (ValueError, TypeError):
            continue
        return operands, options, losses.size // 300
    raise AssertionError(f"no rows are right for {name}")


@pytest.mark.parametrize("name", sorted(lossrs.losses))
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("columns", [1, 3])
@pytest.mark.parametrize("with_options", [False, True])
def test_every_loss_is_the_functional_apis(tmp_path, name, dtype, weighted, columns, with_options):
    call = call_of(name, dtype, columns, with_options)
    weight = np.random.default_rng(6).random(300)
    weight[::10] = 0
    asked = {"sample_weight": "weight"} if weighted else {}
    if call is None:
        operands = {operand: operand for operand in lossrs.losses[name]().operands}
        file = write(tmp_path / "table.parquet", weight=weight, **dict.fromkeys(operands, weight))
        with pytest.raises(ScoreError, match=name):
            score(file, name, **operands, **asked)
        return
    operands, options, per_row = call
    file = write(tmp_path / "table.parquet", weight=weight, **operands)
    asked |= {operand: operand for operand in operands}
    found = score(file, name, batch_size=50, options=options, **asked).overall
    function, options = getattr(F, name), dict(options)
    if weighted:
        options["sample_weight"] = weight if function(**operands, reduction="none").ndim == 1 else weight[:, None]
    total = function(**operands, reduction="sum", **options) / per_row
    assert found.sum == total if per_row == 1 else close(found.sum, total)
    assert close(found.mean, function(**operands, **options))
    weightless = (weight == 0) if weighted else np.zeros(300, bool)
    if "ignore_index" in options:
        weightless |= operands["target"] == options["ignore_index"]
    assert found.ignored == np.count_nonzero(weightless)


def test_several_columns_of_an_elementwise_loss_are_averaged_in_each_row(tmp_path):
    prediction, truth = np.random.default_rng(6).normal(size=(2, 200, 3))
    weight = np.arange(200.0)
    columns = {f"p{index}": prediction[:, index] for index in range(3)}
    file = write(tmp_path / "table.parquet", truth=truth, weight=weight, **columns)
    found = score(file, "mse_loss", input="p0,p1,p2", target="truth", sample_weight="weight", batch_size=7).overall
    rows = ((prediction - truth) ** 2).mean(axis=1)
    mean, error = whole_mean_and_error(rows, weight)
    assert found.mean == pytest.approx(mean, rel=1e-14, abs=0)
    assert found.standard_error == pytest.approx(error, rel=1e-12, abs=0)
    assert found.mean == pytest.approx(F.mse_loss(prediction, truth, sample_weight=weight[:, None]), rel=1e-14, abs=0)


def test_integer_and_boolean_targets_of_an_elementwise_loss(tmp_path):
    random = np.random.default_rng(7)
    logit, label = random.normal(size=100).astype(np.float32), random.random(100) < 0.5
    file = write(tmp_path / "table.parquet", logit=logit, truth=label, one=label.astype(np.int8))
    expected = F.binary_cross_entropy_with_logits(logit, label.astype(np.float32))
    for target in ("truth", "one"):
        found = score(file, "binary_cross_entropy_with_logits", input="logit", target=target)
        assert found.overall.mean == expected


def test_each_group_is_what_it_is_alone(tmp_path):
    logits, labels, weight, _ = class_data(np.float32)
    names = np.random.default_rng(8).choice(["a", "b", "item 9", "item 10"], len(labels)).astype(object)
    names[::13] = None
    file = write(tmp_path / "table.parquet", logits=logits, label=labels, w=weight, name=names.tolist())
    asked = {"input": "logits", "target": "label", "sample_weight": "w", "options": {"ignore_index": -1}}
    found = score(file, "cross_entropy", by="name", batch_size=31, **asked)
    assert list(found.groups) == ["a", "b", "item 9", "item 10", None]
    for name, group in found.groups.items():
        rows = np.array([other == name for other in names])
        alone = write(tmp_path / "alone.parquet", logits=logits[rows], label=labels[rows], w=weight[rows])
        expected = score(alone, "cross_entropy", **asked).overall.to_dict()
        for extreme in ("minimum_row", "maximum_row"):
            expected[extreme] = np.flatnonzero(rows)[expected[extreme]]
        assert group.to_dict() == expected
    assert found.overall.to_dict() == score(file, "cross_entropy", **asked).overall.to_dict()


@pytest.mark.parametrize(
    ("values", "keys"),
    [
        (pa.array([3, -1, None, 3], pa.int16()), [-1, 3, None]),
        (pa.array([True, False, None, True]), [False, True, None]),
        (pa.array(["b", "a", None, "b"]), ["a", "b", None]),
        (pa.array(["b", "a", None, "b"], pa.large_string()), ["a", "b", None]),
        (pa.array(["b", "a", None, "b"]).dictionary_encode(), ["a", "b", None]),
        (pa.DictionaryArray.from_arrays(pa.array([0, 1, 2, 3], pa.uint8()), ["b", "a", None, "b"]), ["a", "b", None]),
        (pa.array([7, 6, None, 7]).dictionary_encode(), [6, 7, None]),
        (pa.array([1, 0, None, 1], pa.date32()), ["1970-01-01", "1970-01-02", None]),
        (pa.nulls(4), [None]),
    ],
    ids=str,
)
def test_groups_of_every_kind(tmp_path, values, keys):
    table = pa.table({"x": [1.0, 2.0, 3.0, 4.0], "y": [0.0] * 4, "key": values})
    with pa.ipc.new_file(tmp_path / "table.arrow", table.schema) as file:
        file.write_table(table)
    found = score(tmp_path / "table.arrow", "l1_loss", input="x", target="y", by="key", batch_size=3)
    assert list(found.groups) == keys
    assert [type(key) for key in found.groups] == [type(key) for key in keys]
    sums = {1: [10.0], 3: [2.0, 5.0, 3.0]}[len(keys)]
    assert [group.sum for group in found.groups.values()] == sums


def test_thousands_of_groups(tmp_path):
    random = np.random.default_rng(9)
    key, x = random.integers(0, 5_000, 40_000), random.random(40_000)
    file = write(tmp_path / "table.parquet", x=x, y=np.zeros(40_000), key=key)
    found = score(file, "l1_loss", input="x", target="y", by="key", batch_size=10_000)
    assert len(found.groups) == len(np.unique(key))
    for group in (0, 17, 4_999):
        assert found.groups[group].sum == math.fsum(x[key == group])
        assert found.groups[group].rows == np.count_nonzero(key == group)
    assert found.overall.sum == math.fsum(x)


def test_nan_and_infinity_are_data(tmp_path):
    x = np.array([1.0, np.nan, np.inf, 4.0, 5.0])
    key = ["a", "b", "c", "a", "a"]
    file = write(tmp_path / "table.parquet", x=x, y=np.zeros(5), w=[1.0, 0.0, 1.0, 1.0, 1.0], key=key)
    found = score(file, "l1_loss", input="x", target="y", by="key")
    assert (found.overall.rows, found.overall.nonfinite) == (5, 2)
    assert math.isnan(found.overall.mean)
    assert math.isnan(found.overall.sum)
    assert (found.groups["a"].mean, found.groups["a"].nonfinite) == (10 / 3, 0)
    assert (found.groups["c"].mean, found.groups["c"].sum, found.groups["c"].nonfinite) == (math.inf, math.inf, 1)
    # A weight of zero removes a row, whatever it holds.
    found = score(file, "l1_loss", input="x", target="y", sample_weight="w", by="key")
    assert (found.overall.mean, found.overall.ignored, found.overall.nonfinite) == (math.inf, 1, 1)
    assert math.isnan(found.overall.standard_error)


def test_nothing_to_average(tmp_path):
    nothing = Summary(0, 0, 0, 0.0, 0.0, math.nan, math.nan, math.nan, None, math.nan, None)
    file = write(tmp_path / "none.parquet", x=np.empty(0), y=np.empty(0), key=pa.array([], pa.string()))
    found = score(file, "l1_loss", input="x", target="y", by="key")
    assert repr(found.overall) == repr(nothing)
    assert found.groups == {}
    file = write(tmp_path / "weightless.parquet", x=np.ones(3), y=np.zeros(3), w=np.zeros(3))
    found = score(file, "l1_loss", input="x", target="y", sample_weight="w").overall
    assert repr(found) == repr(dataclasses.replace(nothing, rows=3, ignored=3))
    file = write(tmp_path / "one.parquet", x=np.ones(1), y=np.zeros(1))
    found = score(file, "l1_loss", input="x", target="y").overall
    assert found.mean == 1.0
    assert math.isnan(found.standard_error)


@pytest.mark.parametrize("ending", [".parquet", ".arrow", ".csv", ".npy"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_per_sample_losses_are_the_functional_apis(tmp_path, ending, dtype):
    logits, labels, weight, _ = class_data(dtype)
    file = write(tmp_path / "table.parquet", logits=logits, label=labels, w=weight)
    output = tmp_path / f"losses{ending}"
    output.write_text("an older file")
    score(
        file,
        "cross_entropy",
        input="logits",
        target="label",
        sample_weight="w",
        options={"ignore_index": -1},
        per_sample=output,
        batch_size=33,
    )
    # Half precision is computed, and written, as single precision.
    logits = logits.astype(np.promote_types(dtype, np.float32))
    expected = F.cross_entropy(logits, labels, reduction="none", ignore_index=-1, sample_weight=weight)
    if ending == ".npy":
        losses = np.load(output)
    elif ending == ".parquet":
        losses = pq.read_table(output)["loss"].to_numpy()
    elif ending == ".csv":
        losses = np.loadtxt(output, skiprows=1)
        assert output.read_text().splitlines()[0].strip('"') == "loss"
    else:
        losses = pa.ipc.open_file(output).read_all()["loss"].to_numpy()
    assert ending == ".csv" or losses.dtype == expected.dtype
    np.testing.assert_array_equal(losses.astype(expected.dtype), expected)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"losses{ending}", "table.parquet"]


@pytest.mark.parametrize("weight", [None, "w"])
def test_a_list_of_one_is_calibrated_as_a_number(tmp_path, weight):
    random = np.random.default_rng(0)
    columns = {"x": random.random(50), "y": random.integers(0, 2, 50).astype(float), "w": random.random(50)}
    asked = {"input": "x", "target": "y", "sample_weight": weight, "calibration": True}
    found = [
        score(write(tmp_path / f"{name}.parquet", **columns | lists), "binary_cross_entropy", **asked).calibration
        for name, lists in (("numbers", {}), ("lists", {"x": columns["x"][:, None]}))
    ]
    assert found[0] == found[1]
    assert found[0].bins().rows.sum() == 50
