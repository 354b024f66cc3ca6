"""Losses of rows: what is theirs alone, and not in the suites of all losses."""

import lossrs
import lossrs.functional as F
import ml_dtypes
import numpy as np
import pytest
from cases import BFLOAT16, FLOATS, INTEGERS, assert_same, instruction_set, threads
from layouts import LAYOUTS, every_second

INF, NAN = np.inf, np.nan
#: Around the classes of a tile, and of a block.
CLASSES = [1, 2, 5, 16, 63, 64, 65, 100, 1024, 1025, 3000]


def both(function, *arguments, **options):
    """Return losses and gradient, of each sample."""
    return function.value_and_grad(*arguments, reduction="none", **options)


@pytest.mark.parametrize("classes", CLASSES)
def test_the_focal_loss_of_gamma_zero_is_cross_entropy(classes, rng):
    logits, labels = 4 * rng.standard_normal((20, classes)), rng.integers(0, classes, 20)
    labels[3] = -100
    for dtype in FLOATS:
        x = logits.astype(dtype)
        for reduction in ("none", "mean", "sum"):
            for verb in ("value_and_grad", "grad_and_hess"):
                focal = getattr(F.softmax_focal_loss, verb)(x, labels, gamma=0, reduction=reduction)
                plain = getattr(F.cross_entropy, verb)(x, labels, reduction=reduction)
                for ours, expected in zip(focal, plain, strict=True):
                    np.testing.assert_array_equal(ours, expected, strict=isinstance(expected, np.ndarray))


@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("gamma", [0.0, 0.25, 0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("classes", [3, 100])
def test_the_focal_loss_of_a_sure_prediction(gamma, dtype, classes):
    """It keeps its digits: with q = 1 - p of less than any unit in the last place of p, q**(1 + gamma)."""
    for distance in (20.0, 40.0, 60.0):
        logits = np.zeros((1, classes), dtype)
        logits[0, 1] = distance
        others = np.exp(np.full(classes - 1, -distance, np.longdouble)).sum()
        q = others / (1 + others)
        surprise = np.log1p(others)
        losses, gradient = both(F.softmax_focal_loss, logits, [1], gamma=gamma)
        _, hessian = F.softmax_focal_loss.grad_and_hess(logits, [1], gamma=gamma, reduction="none")
        tiny, close = np.finfo(dtype).tiny, {"rtol": 40 * np.finfo(dtype).eps, "atol": np.finfo(dtype).tiny}
        np.testing.assert_allclose(losses[0], float(q**gamma * surprise), **close)
        slope = q**gamma * (1 + gamma * (1 - q) * surprise / q) * q
        np.testing.assert_allclose(gradient[0, 1], -float(slope), **close)
        np.testing.assert_allclose(np.delete(gradient[0], 1), float(slope / (classes - 1)), **close)
        assert np.isfinite(hessian).all()
        # Next to the minimum the loss is q**(1 + gamma), and q falls as e**-x.
        if tiny < hessian[0, 1] < 1e-6:
            np.testing.assert_allclose(hessian[0, 1], float((1 + gamma) ** 2 * q ** (1 + gamma)), rtol=1e-4)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("dtype", FLOATS, ids=["float64", "float32", "float16", "bfloat16"])
def test_the_focal_loss_at_its_limits(gamma, dtype):
    """Certain and right, it is 0 and flat; certain and wrong, it is the cross-entropy; without probabilities, NaN."""
    sure = np.array([[INF, 0, 0], [-INF, 0, 0], [-INF, -INF, 1], [-INF, -INF, -INF], [3e4, 0, 0], [1, 1, 1]], dtype)
    certain = F.softmax_focal_loss.value_and_grad(sure[[2, 4]], [2, 0], gamma=gamma, reduction="none")
    np.testing.assert_array_equal(certain[0], 0)
    np.testing.assert_array_equal(certain[1], 0)
    losses, gradient = both(F.softmax_focal_loss, sure[[1]], [0], gamma=gamma)
    assert losses[0] == INF
    np.testing.assert_array_equal(gradient, np.array([[-1, 0.5, 0.5]], dtype))
    for undefined in (sure[[0]], sure[[3]]):
        losses, gradient = both(F.softmax_focal_loss, undefined, [0], gamma=gamma)
        assert np.isnan(losses).all()
        assert np.isnan(gradient).any()
    losses, _ = both(F.softmax_focal_loss, sure[[5]], [0], gamma=gamma)
    expected = (2 / 3) ** gamma * np.log(3)
    np.testing.assert_allclose(losses[0].astype(float), expected, rtol=4 * float(ml_dtypes.finfo(dtype).eps))


def test_the_mean_of_the_focal_loss_and_of_margins_counts_samples(rng):
    x, y, w = rng.standard_normal((50, 6)), rng.integers(0, 6, 50), rng.random(6)
    losses = F.softmax_focal_loss(x, y, w, reduction="none")
    assert F.softmax_focal_loss(x, y, alpha=w) == pytest.approx(losses.mean())
    kept = y != 2
    assert F.softmax_focal_loss(x, y, w, ignore_index=2) == pytest.approx(losses[kept].mean())
    losses = F.multi_margin_loss(x, y, w, reduction="none")
    assert F.multi_margin_loss(x, y, weight=w) == pytest.approx(losses.mean())
    weight = rng.random(50)
    assert F.multi_margin_loss(x, y, w, sample_weight=weight) == pytest.approx(np.average(losses, weights=weight))


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("classes", CLASSES)
def test_nothing_cancels_in_margins(p, classes):
    """The label's own class is not added and taken away again, and the differences of near scores are exact."""
    x = np.full((1, classes), 1e8)
    x[0, 0] += 1
    losses, gradient = both(F.multi_margin_loss, x, [0], p=p, margin=1 + 2.0**-20)
    others = classes - 1
    assert losses[0] == others * 2.0 ** (-20 * p) / classes
    np.testing.assert_array_equal(gradient[0, 1:], (1 if p == 1 else 2.0**-19) / classes)
    large = F.multi_margin_loss(np.zeros((1, classes)), [0], p=1, margin=1e300)
    assert large == pytest.approx(others * 1e300 / classes)


@pytest.mark.parametrize("classes", [3, 100, 2000])
def test_margins_of_infinite_scores(classes):
    x = np.zeros((4, classes))
    x[0, 1], x[1, 0], x[2, 0], x[3, 0] = INF, INF, -INF, NAN
    losses, gradient = both(F.multi_margin_loss, x, [0] * 4)
    np.testing.assert_array_equal(losses, [INF, 0, INF, NAN])
    assert gradient[0, 1] == 1 / classes
    assert not gradient[1].any()
    assert np.isnan(gradient[3]).all()
    impossible = np.zeros((1, classes))
    impossible[0, 1:] = -INF
    for label in (0, 1):
        losses, gradient = both(F.multi_margin_loss, impossible, [label])
        assert losses[0] == (0 if label == 0 else INF)
        assert np.isfinite(gradient).all()


def test_a_number_is_a_row_of_one_class():
    """As torch has it."""
    for options in ({}, {"p": 2}, {"weight": [2.0]}):
        assert F.multi_margin_loss(1.5, 0, **options) == 0.0
        losses, gradient = both(F.multi_margin_loss, 1.5, 0, **options)
        assert losses.shape == gradient.shape == ()
    assert F.multilabel_margin_loss(1.5, 0) == 0.0
    assert F.multilabel_margin_loss(1.5, -1, reduction="none").shape == ()
    x = np.array([0.5, 1.0, -1.0])
    losses, gradient = both(F.multi_margin_loss, x, [2])
    assert (losses.shape, gradient.shape) == ((1,), (3,))
    assert losses == F.multi_margin_loss(x, 2)
    product = F.multi_margin_loss.backward([2.0], x, [2], reduction="none")
    np.testing.assert_array_equal(product, 2 * gradient)
    with pytest.raises(lossrs.LabelError, match=r"label 1 is outside \[0, 1\)"):
        F.multi_margin_loss(1.5, 1)


def test_shapes_of_targets_of_rows():
    for input, target in [
        ((3,), (3, 1)),
        ((4, 3), (3,)),
        ((4, 3), (4, 1)),
        ((4, 3), ()),
        ((), (3,)),
        ((4, 3, 2), (2, 4)),
    ]:
        with pytest.raises(ValueError, match="target has shape"):
            F.multi_margin_loss(np.zeros(input), np.zeros(target, int))
    for function in (F.multilabel_margin_loss, F.multilabel_soft_margin_loss):
        for input, target in [((3,), ()), ((4, 3), (4,)), ((4, 3), (3,)), ((4, 3), (4, 1)), ((), (1,))]:
            with pytest.raises(ValueError, match=r"they must be the same|axis of classes"):
                function(np.zeros(input), np.zeros(target, int))
    with pytest.raises(ValueError, match="axis of classes"):
        F.multilabel_soft_margin_loss(1.0, 1.0)
    for function in (F.multi_margin_loss, F.multilabel_margin_loss, F.multilabel_soft_margin_loss):
        with pytest.raises(ValueError, match="no classes"):
            function(np.zeros((3, 0)), np.zeros((3, 0) if function is not F.multi_margin_loss else 3, int))


def test_parameters_of_rows():
    for p in (0, 1.5, 3, NAN):
        with pytest.raises(ValueError, match=r"^p must be 1 or 2, got "):
            F.multi_margin_loss([0.0, 1.0], 0, p=p)
    for gamma in (-0.5, NAN):
        with pytest.raises(ValueError, match=r"^gamma must be at least 0, got "):
            lossrs.SoftmaxFocalLoss(gamma=gamma)


def test_a_class_of_weight_zero_has_no_margin_and_counts(rng):
    x, y, w = rng.standard_normal((6, 3)), np.array([0, 1, 2] * 2), np.array([0.0, 1.0, 2.0])
    x[0] = NAN
    for function in (F.multi_margin_loss, F.softmax_focal_loss):
        losses, gradient = both(function, x, y, **{"weight" if function is F.multi_margin_loss else "alpha": w})
        np.testing.assert_array_equal(losses[[0, 3]], 0)
        np.testing.assert_array_equal(gradient[[0, 3]], 0)
        assert function(x, y, w) == pytest.approx(losses.sum() / 6)


def sets_of_labels(rng, samples, classes, most):
    """Return rows of up to so many labels, which end with a -1, and after it anything."""
    target = rng.integers(-9, 2 * classes, (samples, classes))
    for row in target:
        number = rng.integers(0, min(most, classes) + 1)
        row[:number] = rng.choice(classes, number, replace=False)
        row[number : number + 1] = -1
    return target


@pytest.mark.parametrize("classes", CLASSES)
def test_the_order_of_labels_is_nothing_and_what_follows_them(classes, rng):
    x = rng.standard_normal((6, classes))
    target = sets_of_labels(rng, 6, classes, 20)
    losses, gradient = both(F.multilabel_margin_loss, x, target)
    other = target.copy()
    for row in other:
        ends = np.flatnonzero(row == -1)
        number = ends[0] if len(ends) else classes
        row[:number] = row[:number][::-1]
        row[number + 1 :] = 0
    for ours, same in zip(both(F.multilabel_margin_loss, x, other), (losses, gradient), strict=True):
        np.testing.assert_array_equal(ours, same)


def test_a_label_that_is_there_twice_counts_twice():
    x = [[0.1, 0.2, 0.4, 0.8]]
    once = both(F.multilabel_margin_loss, x, [[3, -1, 0, 0]])
    twice = both(F.multilabel_margin_loss, x, [[3, 3, -1, 0]])
    for ours, expected in zip(twice, once, strict=True):
        np.testing.assert_array_equal(ours, 2 * expected)
    all_of_them = both(F.multilabel_margin_loss, x, [[3, 1, 2, 0]])
    assert not all_of_them[0].any()
    assert not all_of_them[1].any()


@pytest.mark.parametrize("classes", [5, 70, 3000])
def test_sets_of_labels_in_place(classes, rng):
    x, target = rng.standard_normal((40, classes)), sets_of_labels(rng, 40, classes, 9)
    value, gradient = F.multilabel_margin_loss.value_and_grad(x, target)
    room = x.copy()
    assert F.multilabel_margin_loss.value_and_grad(room, target, out=room) == (value, room)
    np.testing.assert_array_equal(room, gradient)


@pytest.mark.parametrize("dtype", [*INTEGERS, np.float64, np.float32], ids=str)
def test_sets_of_labels_of_any_type(dtype, rng):
    x = rng.standard_normal((8, 5))
    target = rng.integers(0, 5, (8, 5)) if np.dtype(dtype).kind == "u" else rng.integers(-1, 5, (8, 5))
    expected = both(F.multilabel_margin_loss, x, target)
    for ours, same in zip(both(F.multilabel_margin_loss, x, target.astype(dtype)), expected, strict=True):
        np.testing.assert_array_equal(ours, same)


@pytest.mark.parametrize("label", [5, -2, 2**40, 0.5, NAN])
def test_a_wrong_label_of_a_set(label):
    """It is found before anything is written, but not where it says nothing."""
    x, target = np.zeros((70_000, 5)), np.zeros((70_000, 5), type(label))
    target[:, 1] = -1
    target[60_000, :2] = 0, label
    target[69_000, 0] = label
    for verb in (F.multilabel_margin_loss, F.multilabel_margin_loss.value_and_grad):
        with pytest.raises(lossrs.LabelError, match=r"^label .* at row 60000 ") as caught:
            verb(x, target, **({} if verb is F.multilabel_margin_loss else {"out": x}))
        assert caught.value.row == 60_000
        assert not x.any()
    weight = np.ones(70_000)
    weight[[60_000, 69_000]] = 0
    assert np.isfinite(F.multilabel_margin_loss(x, target, sample_weight=weight))


def test_weights_of_the_soft_margin_are_of_elements(rng):
    x, t = rng.standard_normal((4, 3, 5)), rng.random((4, 3, 5))
    for shape in [(4, 3, 5), (5,), (3, 1), (4, 1, 1), (1, 3, 5), ()]:
        w = rng.random(shape)
        expected = F.binary_cross_entropy_with_logits(x, t, np.broadcast_to(w, x.shape), reduction="none").mean(-1)
        losses, gradient = both(F.multilabel_soft_margin_loss, x, t, weight=w)
        np.testing.assert_allclose(losses, expected, rtol=1e-14)
        assert losses.shape == (4, 3)
        assert gradient.shape == x.shape
    w = np.ones(5)
    w[1] = 0
    x[..., 1] = NAN
    losses, gradient = both(F.multilabel_soft_margin_loss, x, t, w)
    assert np.isfinite(losses).all()
    assert not gradient[..., 1].any()


@pytest.mark.parametrize("classes", [3, 100, 2000])
def test_the_soft_margin_of_infinite_logits(classes):
    x, t = np.full((2, classes), INF), np.ones((2, classes))
    x[:, ::2], t[:, ::2] = -INF, 0
    t[1, 0] = 0.5
    losses, gradient = both(F.multilabel_soft_margin_loss, x, t)
    np.testing.assert_array_equal(losses, [0, INF])
    assert not gradient[0].any()
    assert gradient[1, 0] == -0.5 / classes


def log_softmax(x, axis):
    x = x.astype(np.longdouble)
    shifted = x - x.max(axis, keepdims=True)
    others = np.exp(shifted)
    np.put_along_axis(others, x.argmax(axis, keepdims=True), 0, axis)
    return shifted - np.log1p(others.sum(axis, keepdims=True))


@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("dtype", FLOATS, ids=["float64", "float32", "float16", "bfloat16"])
def test_log_probabilities(classes, dtype, rng):
    """Of all samples, whatever else is asked for; and nothing else is changed by it."""
    x = (4 * rng.standard_normal((30, classes))).astype(dtype)
    labels, probabilities = rng.integers(0, classes, 30), rng.random((30, classes)).astype(dtype)
    labels[[0, 7]] = -100
    weight, sample_weight = rng.random(classes).astype(dtype), rng.integers(0, 2, 30).astype(dtype)
    weight[0] = 0
    expected = log_softmax(x, 1)
    limit = {np.float64: 1e-14, np.float32: 2e-6, np.float16: 2e-3, BFLOAT16: 1e-2}[dtype]
    for target in (labels, probabilities):
        for options in ({}, {"weight": weight, "sample_weight": sample_weight}, {"label_smoothing": 0.1}):
            for reduction in ("mean", "none"):
                options["reduction"] = reduction
                value, log_prob = F.cross_entropy(x, target, return_log_prob=True, **options)
                again = F.cross_entropy.value_and_grad(x, target, return_log_prob=True, **options)
                plain = F.cross_entropy.value_and_grad(x, target, **options)
                np.testing.assert_array_equal(value, plain[0])
                for ours, same in zip(again, (*plain, log_prob), strict=True):
                    np.testing.assert_array_equal(ours, same)
                assert (log_prob.dtype, log_prob.shape) == (x.dtype, x.shape)
                np.testing.assert_allclose(log_prob.astype(float), expected.astype(float), rtol=limit, atol=limit)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
@pytest.mark.parametrize("classes", [4, 70])
def test_log_probabilities_of_any_layout(layout, classes, rng):
    x, y = rng.standard_normal((3, classes, 5)), rng.integers(0, classes, (3, 5))
    _, log_prob = F.cross_entropy(layout(x), y, return_log_prob=True)
    np.testing.assert_array_equal(log_prob, F.cross_entropy(x, y, return_log_prob=True)[1])
    np.testing.assert_allclose(log_prob, log_softmax(x, 1).astype(float), rtol=1e-13)
    alone = F.cross_entropy(x[0, :, 0], y[0, 0], return_log_prob=True)[1]
    np.testing.assert_array_equal(alone, log_prob[0, :, 0])


@pytest.mark.parametrize("classes", [10, 100, 1500])
def test_log_probabilities_have_the_same_bits_everywhere(classes, isa, rng):
    x, y = rng.standard_normal((70_000 // classes, classes)), rng.integers(0, classes, 70_000 // classes)

    def found(x):
        value, gradient, log_prob = F.cross_entropy.value_and_grad(x, y, return_log_prob=True)
        return {"value": value, "gradient": gradient, "log_prob": log_prob}

    with threads(1), instruction_set("baseline"):
        expected = found(x)
    with threads(3):
        assert_same(found(x), expected)
        assert_same(found(every_second(x)), expected)


@pytest.mark.parametrize("classes", [10, 100, 1500])
def test_log_probabilities_of_samples_that_are_left_out_and_of_none(classes):
    """An ignored row's NaN stays there; impossible classes have -inf; the gradient may go where the logits were."""
    x = np.zeros((4, classes))
    x[0, 0], x[1, :-1], x[2] = NAN, -INF, -INF
    value, gradient, log_prob = F.cross_entropy.value_and_grad(
        x, [-100, classes - 1, -100, 0], reduction="none", return_log_prob=True, out=x
    )
    assert gradient is x
    np.testing.assert_array_equal(value[:3], 0)
    assert np.isnan(log_prob[[0, 2]]).all()
    np.testing.assert_array_equal(log_prob[1], [*[-INF] * (classes - 1), 0])
    np.testing.assert_allclose(log_prob[3], -np.log(classes))
    np.testing.assert_array_equal(gradient[[0, 2]], 0)


def test_log_probabilities_are_asked_for_by_an_argument(rng):
    x, y = rng.standard_normal((5, 3)), rng.integers(0, 3, 5)
    loss = lossrs.CrossEntropyLoss(label_smoothing=0.1)
    for verb in ("__call__", "value_and_grad"):
        function = F.cross_entropy if verb == "__call__" else getattr(F.cross_entropy, verb)
        ours = getattr(loss, verb)(x, y, return_log_prob=True)
        for one, other in zip(ours, function(x, y, label_smoothing=0.1, return_log_prob=True), strict=True):
            np.testing.assert_array_equal(one, other)
    for refused in (F.cross_entropy.grad_and_hess, loss.grad_and_hess, F.nll_loss, lossrs.NLLLoss(), F.mse_loss):
        with pytest.raises(TypeError, match="return_log_prob"):
            refused(x, y, return_log_prob=True)
