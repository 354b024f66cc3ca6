"""The drop-ins for scikit-learn's metrics, against scikit-learn."""

import doctest
import inspect
import math
import tracemalloc
import warnings

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st
from lossrs import metrics

NAMES = metrics.__all__
seeds = st.integers(0, 2**32 - 1)
dtypes = st.sampled_from([np.float32, np.float64])


def theirs(name, *arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return getattr(sklearn.metrics, name)(*arguments, **options)


def agree(name, *arguments, dtype=np.float64, **options):
    ours = getattr(metrics, name)(*arguments, **options)
    tolerance = 1e-5 if dtype == np.float32 else 1e-12
    np.testing.assert_allclose(ours, theirs(name, *arguments, **options), rtol=tolerance, atol=tolerance)
    return ours


def weights_of(rng, rows, weighted):
    return rng.choice([0.0, 0.5, 1.0, 3.0], rows) + 1e-3 if weighted else None


def probabilities(rng, rows, classes, dtype):
    logits = (3 * rng.standard_normal((rows, classes))).astype(dtype)
    powers = np.exp(logits.astype(float))
    return logits, powers / powers.sum(axis=1, keepdims=True)


LABELS = [lambda codes: codes, lambda codes: 10 - 3 * codes, lambda codes: np.array(["äpfel", "b", "c", "dd"])[codes]]


@given(seeds, dtypes, st.booleans(), st.sampled_from(LABELS), st.integers(2, 4), st.booleans())
def test_log_loss_and_brier_of_classes(seed, dtype, weighted, name_of, classes, shown):
    rng = np.random.default_rng(seed)
    rows = int(rng.integers(1, 60))
    logits, exact = probabilities(rng, rows, classes, dtype)
    proba = exact.astype(dtype)
    labels = name_of(np.arange(classes))
    y = rng.choice(labels, rows)
    options = {"sample_weight": weights_of(rng, rows, weighted)}
    if not shown:
        y[:classes] = labels[: len(y[:classes])]
    if shown or len(np.unique(y)) < classes:
        options["labels"] = np.sort(labels)
    clipped = proba.copy()
    clipped[0] = np.eye(classes)[rng.integers(classes)]
    for p in (proba, clipped):
        agree("log_loss", y, p, dtype=dtype, **options)
        agree("log_loss", y, p, dtype=dtype, normalize=False, **options)
        for half in (True, False, "auto"):
            agree("brier_score_loss", y, p, dtype=dtype, scale_by_half=half, **options)
    for metric in (metrics.log_loss, metrics.brier_score_loss):
        expected = theirs(metric.__name__, y, exact, **options)
        np.testing.assert_allclose(metric(y, logits, from_logits=True, **options), expected, rtol=2e-5, atol=1e-7)


@given(seeds, dtypes, st.booleans(), st.booleans())
def test_log_loss_and_brier_of_one_column(seed, dtype, weighted, tall):
    rng = np.random.default_rng(seed)
    rows = int(rng.integers(2, 60))
    logits = (3 * rng.standard_normal(rows)).astype(dtype)
    exact = 1 / (1 + np.exp(-logits.astype(float)))
    proba = exact.astype(dtype)
    options = {"sample_weight": weights_of(rng, rows, weighted)}
    given_proba = proba[:, None] if tall else proba
    for labels in ([0, 1], [-1, 1], [3, 7], ["no", "yes"]):
        y = rng.choice(labels, rows)
        y[:2] = labels
        agree("log_loss", y, given_proba, dtype=dtype, **options)
        positive = {"pos_label": "yes"} if "yes" in labels else {"pos_label": labels[0]} if rng.random() < 0.3 else {}
        agree("brier_score_loss", y, given_proba, dtype=dtype, **options, **positive)
        agree("brier_score_loss", y, given_proba, dtype=dtype, scale_by_half=False, **options, **positive)
        for metric, more in ((metrics.log_loss, {}), (metrics.brier_score_loss, positive)):
            expected = theirs(metric.__name__, y, exact, **options, **more)
            ours = metric(y, logits, from_logits=True, **options, **more)
            np.testing.assert_allclose(ours, expected, rtol=2e-5, atol=1e-7)


@given(seeds, dtypes, st.booleans(), st.sampled_from(LABELS), st.integers(2, 4))
def test_hinge_loss(seed, dtype, weighted, name_of, classes):
    rng = np.random.default_rng(seed)
    rows = int(rng.integers(classes, 60))
    labels = name_of(np.arange(classes))
    y = rng.choice(labels, rows)
    y[:classes] = labels
    decisions = rng.standard_normal((rows, classes) if classes > 2 else rows).astype(dtype)
    before = decisions.copy()
    options = {"sample_weight": weights_of(rng, rows, weighted)}
    agree("hinge_loss", y, decisions, dtype=dtype, **options)
    if classes > 2:
        agree("hinge_loss", y[: rows // 2 + 1], decisions[: rows // 2 + 1], labels=np.sort(labels), dtype=dtype)
    np.testing.assert_array_equal(decisions, before)


REGRESSIONS = [
    ("mean_squared_error", {}),
    ("mean_absolute_error", {}),
    ("mean_pinball_loss", {"alpha": 0.9}),
    ("mean_pinball_loss", {}),
]


@given(seeds, dtypes, st.booleans(), st.sampled_from(REGRESSIONS), st.integers(0, 3))
def test_regression(seed, dtype, weighted, metric, outputs):
    rng = np.random.default_rng(seed)
    rows = int(rng.integers(1, 60))
    name, options = metric
    y, x = rng.standard_normal((2, rows, outputs) if outputs else (2, rows)).astype(dtype)
    options = {"sample_weight": weights_of(rng, rows, weighted)} | options
    averages = ["uniform_average", "raw_values", *([rng.random(outputs)] if outputs > 1 else [])]
    for multioutput in averages:
        agree(name, y, x, dtype=dtype, multioutput=multioutput, **options)
    agree(name, y.astype(float), x, dtype=dtype, **options)
    agree(name, np.round(y).astype(int).tolist(), x.tolist(), dtype=dtype, **options)


@given(seeds, dtypes, st.booleans(), st.sampled_from([-1.0, -0.5, 0, 1, 1.5, 1.9, 2, 2.5, 3]))
def test_tweedie(seed, dtype, weighted, power):
    rng = np.random.default_rng(seed)
    rows = int(rng.integers(1, 60))
    x = rng.uniform(0.25, 4, rows).astype(dtype)
    y = rng.uniform(0.25, 4, rows).astype(dtype)
    if 1 <= power < 2:
        y[rng.random(rows) < 0.3] = 0
    elif power <= 0:
        y[rng.random(rows) < 0.3] *= -1
    agree("mean_tweedie_deviance", y, x, dtype=dtype, power=power, sample_weight=weights_of(rng, rows, weighted))


def test_rows_that_do_not_count_may_hold_anything():
    assert metrics.log_loss([0, 1, 1], [0.5, 0.5, math.nan], sample_weight=[1, 1, 0], eps=0, from_logits=True) > 0
    assert metrics.mean_squared_error([0, math.nan], [1, 1], sample_weight=[1, 0]) == 1


def test_sure_predictions_need_not_be_clipped():
    assert metrics.log_loss([0, 1], [0.0, 1.0], eps=0) == 0
    assert metrics.log_loss([0, 1], [1.0, 1.0], eps=0) == math.inf
    assert metrics.log_loss([0, 1], [-2000.0, -2000.0], from_logits=True) == 1000


ERRORS = [
    (lambda: metrics.log_loss([0, 1, 2], [[0.5, 0.5]] * 3), "are of 2 classes, and there are 3 in y_true"),
    (lambda: metrics.log_loss([0, 0], [[0.5, 0.5]] * 2), "give all of them as labels"),
    (lambda: metrics.log_loss([0, 5], [[0.5, 0.5]] * 2, labels=[0, 1]), "label 5 at row 1 of y_true is not one of"),
    (lambda: metrics.log_loss([0, 1], [[0.5, 0.5], [1.5, -0.5]]), "1.5 at row 1 is not a probability; logits want"),
    (lambda: metrics.log_loss([0, 1, 1], [0.5, 0.5]), r"y_true has shape \(3,\); expected \(2,\)"),
    (lambda: metrics.log_loss([0, 1], [0.5, 0.5], sample_weight=[1]), "sample_weight has shape"),
    (lambda: metrics.log_loss([0, 1], [0.5, 0.5], sample_weight=[0, 0]), "do not add up to 0"),
    (lambda: metrics.log_loss([0, 1], np.ones((2, 2, 2))), "y_proba has 3 dimensions"),
    (lambda: metrics.brier_score_loss(["a", "b"], [0.5, 0.5]), "pos_label must be given"),
    (lambda: metrics.brier_score_loss([0, 1], [0.5, 0.5], pos_label=7), "pos_label=7 is not one of"),
    (lambda: metrics.brier_score_loss([0, 1, 2], [0.5, 0.5, 0.5]), "y_true has 3 labels"),
    (lambda: metrics.mean_squared_error([0, 1], [0.5]), "they must be the same"),
    (lambda: metrics.mean_squared_error([], []), "y_true is empty"),
    (lambda: metrics.mean_squared_error([[0, 1]], [[1, 1]], multioutput="all"), "multioutput must be"),
    (lambda: metrics.mean_squared_error([[0, 1]], [[1, 1]], multioutput=[1]), "multioutput has shape"),
    (lambda: metrics.mean_tweedie_deviance([1], [1], power=0.5), "power must be at most 0 or at least 1"),
    (lambda: metrics.mean_tweedie_deviance([1], [0], power=1), "input 0.0 at row 0"),
    (lambda: metrics.mean_pinball_loss([1], [0], alpha=2), "alpha"),
]


@pytest.mark.parametrize(("call", "message"), ERRORS)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("name", NAMES)
def test_signatures_are_those_of_sklearn(name):
    ours = inspect.signature(getattr(metrics, name)).parameters
    known = inspect.signature(getattr(sklearn.metrics, name)).parameters
    assert [parameter for parameter in known if parameter not in ours] == [
        parameter for parameter in known if parameter == "y_pred" and "y_proba" in known
    ]
    for parameter in known:
        if parameter in ours and parameter != "y_proba":
            assert ours[parameter].default == known[parameter].default
            assert ours[parameter].kind == known[parameter].kind


def test_nothing_is_one_hot():
    rng = np.random.default_rng(0)
    proba = rng.dirichlet(np.ones(1000), 4000).astype(np.float32)
    y = rng.integers(0, 1000, 4000)
    for from_logits in (False, True):
        tracemalloc.start()
        metrics.log_loss(y, proba, labels=np.arange(1000), from_logits=from_logits)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < proba.nbytes / 20


@pytest.mark.parametrize("name", NAMES)
def test_examples(name):
    example = doctest.DocTestParser().get_doctest(getattr(metrics, name).__doc__, {}, name, None, None)
    assert example.examples
    output = []
    doctest.DocTestRunner().run(example, out=output.append)
    assert not output, "".join(output)
