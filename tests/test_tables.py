"""Losses of tables of any library, and the same bits however the rows are split into them."""

import doctest
import pickle

import lossrs
import lossrs.tables
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lossrs.accumulator import UNNUMBERED
from lossrs.tables import PerSample, accumulate

pa = pytest.importorskip("pyarrow")

LOSS = lossrs.CrossEntropyLoss()
ROWS = 300
ROLES = {"input": "logits", "target": "label", "sample_weight": "weight", "group": "country"}


def predictions():
    rng = np.random.default_rng(0)
    logits = (10 * rng.standard_normal((ROWS, 5))).astype(np.float32)
    return {
        "logits": logits,
        "label": np.where(rng.random(ROWS) < 0.05, -100, rng.integers(0, 5, ROWS)),
        "weight": rng.choice([0, 0.25, 1, 3], ROWS).astype(np.float32),
        "country": rng.choice(["de", "fr", "no"], ROWS),
        "id": np.array([f"row {number}" for number in rng.permutation(ROWS)]),
        "extra": np.arange(ROWS),
    } | {f"logit_{k}": logits[:, k] for k in range(5)}


DATA = predictions()


def arrow(data=DATA):
    lists = pa.FixedSizeListArray.from_arrays(pa.array(data["logits"].reshape(-1)), 5)
    return pa.table({name: lists if name == "logits" else column for name, column in data.items()})


def pandas(data=DATA):
    return pytest.importorskip("pandas").DataFrame({name: list(column) for name, column in data.items()})


FORMS = {
    "a dict of arrays": lambda: DATA,
    "a dict of objects": lambda: DATA | {name: DATA[name].astype(object) for name in ("country", "id")},
    "an Arrow table": arrow,
    "an Arrow table in chunks": lambda: pa.concat_tables([arrow().slice(0, 100), arrow().slice(100)]),
    "a record batch": lambda: arrow().to_batches()[0],
    "lists of any length": lambda: arrow().set_column(0, "logits", arrow()["logits"].cast(pa.list_(pa.float32()))),
    "categories": lambda: arrow().set_column(3, "country", arrow()["country"].dictionary_encode()),
    "pandas": pandas,
    "pandas from Arrow": lambda: arrow().to_pandas(types_mapper=pytest.importorskip("pandas").ArrowDtype),
    "Polars' strings": lambda: arrow().cast(
        pa.schema(
            [field.with_type(pa.string_view()) if field.type == pa.string() else field for field in arrow().schema]
        )
    ),
    "anything that gives Arrow": lambda: Stream(arrow()),
}


class Stream:
    def __init__(self, table):
        self.table = table

    def __arrow_c_stream__(self, requested_schema=None):
        return self.table.__arrow_c_stream__(requested_schema)


def expected(first_row=UNNUMBERED, **options):
    total = lossrs.Accumulator(LOSS, histogram=True, worst=7)
    total.update(
        DATA["logits"],
        DATA["label"],
        sample_weight=DATA["weight"],
        group=DATA["country"],
        ids=DATA["id"],
        first_row=first_row,
    )
    return total


@pytest.mark.parametrize("form", FORMS)
def test_tables_of_every_kind(form):
    total = accumulate([FORMS[form]()], LOSS, ids="id", histogram=True, worst=7, **ROLES)
    assert total.to_bytes() == expected().to_bytes()
    assert total.result().worst.ids == expected().result().worst.ids


@pytest.mark.parametrize("form", FORMS)
def test_losses_as_a_column(form):
    given = FORMS[form]()
    found = PerSample(LOSS, input="logits", target="label", name="surprise")(given)
    assert isinstance(found, pa.Table if form == "anything that gives Arrow" else type(given))
    losses = lossrs.CrossEntropyLoss(reduction="none")(DATA["logits"], DATA["label"])
    assert np.array_equal(np.asarray(found["surprise"]), losses.astype(np.float64))
    assert np.asarray(found["surprise"]).dtype == np.float64


@pytest.mark.parametrize("form", FORMS)
def test_losses_in_the_place_of_a_column(form):
    given = FORMS[form]()
    found = PerSample(LOSS, input="logits", target="label", name="weight")(given)
    names = [list(of.schema.names if hasattr(of, "schema") else of) for of in (found, arrow())]
    assert names[0][:6] == names[1][:6]
    assert names[0].count("weight") == 1
    losses = lossrs.CrossEntropyLoss(reduction="none")(DATA["logits"], DATA["label"])
    assert np.array_equal(np.asarray(found["weight"]), losses.astype(np.float64))


KEPT = {
    "neither ids nor clusters": {"histogram": True},
    "ids": {"histogram": True, "ids": "id", "worst": 3, "bootstrap": 20},
    "ids and clusters": {"ids": "extra", "cluster": "country", "bootstrap": 20, "seed": 1},
    "clusters": {"cluster": "label", "bootstrap": 20},
}


@pytest.mark.parametrize("kept", KEPT)
@given(order=st.permutations(range(6)), cuts=st.lists(st.integers(0, ROWS), min_size=5, max_size=5))
def test_the_same_bits_however_the_rows_are_split(kept, order, cuts):
    ends = [0, *sorted(cuts), ROWS]
    parts = [{name: column[ends[i] : ends[i + 1]] for name, column in DATA.items()} for i in order]
    options = ROLES | KEPT[kept]
    whole = accumulate([DATA], LOSS, **options)
    assert accumulate(parts, LOSS, **options).to_bytes() == whole.to_bytes()
    merged = sum(accumulate([part], LOSS, **options) for part in parts)
    assert merged.to_bytes() == whole.to_bytes()


def test_rows_have_no_numbers_without_ids():
    result = accumulate([DATA], LOSS, **ROLES).result()
    assert (result.minimum_row, result.maximum_row) == (None, None)
    assert set(result.groups.minimum_row) == {None}
    with_ids = accumulate([DATA], LOSS, ids="extra", **ROLES).result()
    losses = lossrs.CrossEntropyLoss(reduction="none")(DATA["logits"], DATA["label"])
    assert losses[with_ids.maximum_row] == with_ids.maximum == result.maximum
    restored = lossrs.Accumulator.from_bytes(accumulate([DATA], LOSS, **ROLES).to_bytes())
    assert restored.result().maximum_row is None


def test_columns_by_glob_by_names_and_in_several_groups():
    by_list = accumulate([DATA], LOSS, input="logits", target="label", group=["country", "label"])
    names = [f"logit_{k}" for k in range(5)]
    for request in ("logit_*", names, ",".join(names)):
        found = accumulate([DATA], LOSS, input=request, target="label", group=["country", "label"])
        assert found.to_bytes() == by_list.to_bytes()
    assert by_list.result().groups.names == ("country", "label")


def test_an_elementwise_loss_of_several_columns_has_their_mean():
    found = accumulate([DATA], lossrs.L1Loss(), input="logit_0,logit_1", target="logit_2,logit_3").result()
    errors = np.abs(DATA["logits"][:, :2] - DATA["logits"][:, 2:4]).mean(axis=1, dtype=np.float64)
    assert (found.rows, found.maximum) == (ROWS, errors.max())


def test_columns_that_are_numbered():
    numbered = dict(enumerate(DATA["logits"].T))
    expected = accumulate([DATA], LOSS, input="logits", target="logit_*").to_bytes()
    for table in (numbered, pytest.importorskip("pandas").DataFrame(DATA["logits"])):
        found = accumulate([table], LOSS, input="0,1,2,3,4", target=["0", "1", "2", "3", "4"])
        assert found.to_bytes() == expected


def test_dates_are_groups():
    days = np.array(["2024-02-29", "2024-03-01", "NaT"], "datetime64[D]")[DATA["extra"] % 3]
    for unit in ("D", "s", "ms", "us", "ns"):
        data = DATA | {"day": days.astype(f"datetime64[{unit}]")}
        expected = accumulate([arrow().append_column("day", pa.array(data["day"]))], LOSS, **ROLES | {"group": "day"})
        assert accumulate([data], LOSS, **ROLES | {"group": "day"}).to_bytes() == expected.to_bytes()
        names = [name and name[:10] for name in expected.result().groups]
        assert sorted(names, key=str) == ["2024-02-29", "2024-03-01", None]
    frame = pandas().assign(day=days.astype("datetime64[ns]"))
    assert accumulate([frame], LOSS, **ROLES | {"group": "day"}).to_bytes() == expected.to_bytes()
    with pytest.raises(ValueError, match="table: column 'day': Unsupported datetime64 time unit"):
        accumulate([DATA | {"day": days.astype("datetime64[M]")}], LOSS, **ROLES | {"group": "day"})


def test_labels_are_strings():
    found = accumulate([DATA], LOSS, input="logit_0,logit_1,logit_2", target="country", labels=["de", "fr", "no"])
    codes = np.searchsorted(["de", "fr", "no"], DATA["country"])
    assert found.result().mean == LOSS(DATA["logits"][:, :3], codes)


def test_tables_without_rows():
    empty = {name: column[:0] for name, column in DATA.items()}
    assert accumulate([{}, empty, arrow(empty), pa.table({})], LOSS, input="logits", target="label").result().rows == 0
    assert PerSample(LOSS, input="logits", target="label")(empty)["loss"].dtype == np.float64
    assert PerSample(LOSS, input="logits", target="label")(arrow(empty)).num_rows == 0


def wrong_label(position=77):
    label = DATA["label"].copy()
    label[position] = 12
    return DATA | {"label": label}


def test_a_wrong_label_keeps_its_row_and_names_its_id():
    with pytest.raises(lossrs.LabelError, match="'label': label 12 at row 77 is outside") as raised:
        accumulate([wrong_label()], LOSS, input="logits", target="label")
    assert (raised.value.row, raised.value.label) == (77, 12)
    with pytest.raises(lossrs.LabelError, match=f"id '{DATA['id'][77]}'") as raised:
        accumulate([wrong_label()], LOSS, ids="id", **ROLES | {"sample_weight": "extra"})
    assert pickle.loads(pickle.dumps(raised.value)).row == 77
    with pytest.raises(lossrs.LabelError) as raised:
        PerSample(LOSS, input="logits", target="label")(wrong_label())
    assert raised.value.row == 77
    with pytest.raises(lossrs.DomainError, match="'logit_0'") as raised:
        accumulate([DATA], lossrs.BCELoss(), input="logit_0", target="weight")
    assert raised.value.row == np.flatnonzero((DATA["logit_0"] < 0) | (DATA["logit_0"] > 1))[0]


@pytest.mark.parametrize("column", ["a", "b", "y", "z"])
def test_a_wrong_element_of_several_columns_has_its_row(column):
    for row in range(3):
        table = {name: np.full(3, 0.5) for name in ("a", "b", "y", "z")} | {"id": np.arange(100, 103)}
        table[column][row] = 2
        columns = {"input": ["a", "b"], "target": ["y", "z"]}
        message = f"'{column}': 2.0 at row {row} is outside the domain of binary_cross_entropy .id {100 + row}.$"
        with pytest.raises(lossrs.DomainError, match=message) as raised:
            accumulate([table], lossrs.BCELoss(), ids="id", **columns)
        assert (raised.value.row, raised.value.value) == (row, 2.0)
        with pytest.raises(lossrs.DomainError) as raised:
            PerSample(lossrs.BCELoss(), **columns)(table)
        assert raised.value.row == row


def test_a_wrong_target_of_embeddings_has_its_row():
    embeddings = np.ones((6, 3))
    table = {"x": embeddings, "y": embeddings, "same": np.array([1, 1, -1, 1, 1, 3.0]), "id": np.arange(10, 16)}
    with pytest.raises(lossrs.DomainError, match=r"'same': 3.0 at row 5 is outside .* \(id 15\)$") as raised:
        accumulate([table], lossrs.CosineEmbeddingLoss(), input1="x", input2="y", target="same", ids="id")
    assert raised.value.row == 5


LENGTHS = {
    "'a' has 2, 'g' has 1$": {"a": [1.0, 2.0], "y": [1.0, 2.0], "g": ["k"]},
    "'a' has 0, 'y' has 2$": {"a": [], "y": [1.0, 2.0], "g": ["k", "k"]},
    "'a' has 2, 'y' has none$": {"a": [1.0, 2.0], "y": np.float64(1), "g": ["k", "k"]},
    "'a' has none$": {"a": 1.0, "y": 1.0, "g": 1},
}


@pytest.mark.parametrize("lengths", LENGTHS)
def test_arrays_of_different_lengths_are_no_table(lengths):
    with pytest.raises(ValueError, match=f"table: the columns must be of one length: {lengths}"):
        accumulate([LENGTHS[lengths]], lossrs.MSELoss(), input="a", target="y", group="g")


WRONG = {
    "a missing operand": ({"target": "lable"}, ValueError, "no column 'lable' .did you mean 'label'"),
    "a missing group": ({"group": "city"}, ValueError, "no column 'city'"),
    "a missing weight": ({"sample_weight": "mass"}, ValueError, "no column 'mass'"),
    "missing ids": ({"ids": "row"}, ValueError, "no column 'row'"),
    "text": ({"input": "country"}, ValueError, "'country' holds string; numbers are needed"),
    "a group of floats": ({"group": "weight"}, ValueError, "column 'weight' holds"),
    "ids of floats": ({"ids": "weight"}, TypeError, "ids has dtype float32"),
    "weights in lists": ({"sample_weight": "logits"}, ValueError, "sample weight has 5 columns"),
    "another operand": ({"var": "weight"}, TypeError, "cross_entropy takes columns for input, target, got"),
    "replicates without ids": ({"bootstrap": 3}, ValueError, "replicates need ids or clusters"),
    "clusters of floats": ({"bootstrap": 3, "cluster": "weight"}, TypeError, "cluster has dtype float32"),
    "worst rows without ids": ({"worst": 3}, ValueError, "worst rows need ids"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_said(what):
    options, error, message = WRONG[what]
    with pytest.raises(error, match=message):
        accumulate([arrow()], LOSS, **{"input": "logits", "target": "label"} | options)


def test_nulls_changing_columns_and_losses_of_batches_are_refused():
    null = arrow().set_column(1, "label", pa.array([*DATA["label"][:-1].tolist(), None]))
    with pytest.raises(ValueError, match="'label': null at row 299"):
        accumulate([null], LOSS, input="logits", target="label")
    with pytest.raises(ValueError, match="those of tables before"):
        accumulate([DATA, DATA | {"logit_5": DATA["logit_0"]}], LOSS, input="logit_*", target="label")
    with pytest.raises(ValueError, match="dice_loss has no loss of each row by itself"):
        accumulate([DATA], lossrs.DiceLoss(), input="logits", target="label")


def test_examples():
    assert doctest.testmod(lossrs.tables).failed == 0
    assert doctest.testmod(lossrs.tables).attempted > 0
