"""What is refused, and what the message says: what was expected, what came, and where."""

import pickle

import lossrs
import lossrs.functional as F
import numpy as np
import pytest
from cases import ALL_VERBS, CASES, INTEGERS, PLAIN, verb

ROWWISE = [case for case in PLAIN if case.rowwise]
POINTWISE = [case for case in PLAIN if not case.rowwise]
LABELLED = [case for case in PLAIN if case.target == "label"]


def call(function, name, input, target, **options):
    """Call a verb; `backward` with a plain gradient."""
    grad_output = [1.0] if name == "backward" else []
    return verb(function, name)(*grad_output, input, target, **options)


def every(cases):
    """Run a test with each case and each verb."""

    def mark(test):
        return pytest.mark.parametrize("name", ALL_VERBS, ids=lambda name: name or "value")(
            pytest.mark.parametrize("case", cases, ids=str)(test)
        )

    return mark


NOT_NUMBERS = [
    np.zeros(3, object),
    np.zeros(3, complex),
    np.zeros(3, np.complex64),
    np.zeros(3, "datetime64[s]"),
    np.zeros(3, "timedelta64[s]"),
    np.zeros(3, [("a", float)]),
    np.array(["a", "b", "c"]),
    np.array([b"a", b"b", b"c"]),
    np.zeros(3, "V8"),
    np.zeros(3, np.longdouble),
    None,
    "text",
    {"a": 1},
    object(),
]


@pytest.mark.parametrize("wrong", NOT_NUMBERS, ids=lambda wrong: str(getattr(wrong, "dtype", type(wrong).__name__)))
@every(PLAIN)
def test_what_is_not_an_array_of_numbers(case, name, wrong, rng):
    sample = case.sample(rng, (3, 3) if case.rowwise else (3,))
    options = sample.options
    with pytest.raises(TypeError, match=r"^input has dtype .*; expected float64, float32"):
        call(case.function, name, wrong, sample.target, **options)
    with pytest.raises(TypeError, match=r"^target has dtype"):
        call(case.function, name, sample.input, wrong, **options)
    if wrong is not None:
        with pytest.raises(TypeError, match=r"^sample_weight has dtype"):
            call(case.function, name, sample.input, sample.target, sample_weight=wrong, **options)
    if wrong is not None and "weight" in options:
        with pytest.raises(TypeError, match=r"^weight has dtype"):
            call(case.function, name, sample.input, sample.target, **options | {"weight": wrong})


@every(PLAIN)
def test_masked_arrays(case, name, rng):
    sample = case.sample(rng, (3, 3) if case.rowwise else (3,))
    masked = np.ma.masked_array(sample.input, mask=sample.input > 0.5)
    with pytest.raises(TypeError, match="input is a masked array, whose mask would be lost"):
        call(case.function, name, masked, sample.target)
    with pytest.raises(TypeError, match="target is a masked array"):
        call(case.function, name, sample.input, np.ma.masked_array(sample.target))
    with pytest.raises(TypeError, match="sample_weight is a masked array"):
        call(case.function, name, sample.input, sample.target, sample_weight=np.ma.masked_array(np.ones(3)))


@pytest.mark.parametrize("shape", [(), (2,), (4,), (3, 1), (1, 3), (3, 3), (1,), (0,)], ids=str)
@every(POINTWISE)
def test_shapes_must_be_equal(case, name, shape):
    with pytest.raises(ValueError, match=r"input has shape \(3,\) and target \(.*\); they must be the same"):
        call(case.function, name, np.full(3, 0.5), np.full(shape, 0.5))


@pytest.mark.parametrize(
    ("input", "target"),
    [
        ((3,), (3, 1)),
        ((3,), (1,)),
        ((4, 3), ()),
        ((4, 3), (3,)),
        ((4, 3), (4, 1)),
        ((4, 3, 2), (4, 3)),
        ((4, 3, 2), (2, 4)),
    ],
    ids=str,
)
@every(ROWWISE)
def test_targets_must_fit_the_samples(case, name, input, target):
    labels = input[:1] + input[2:] if len(input) > 1 else ()
    expected = str(labels).replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(ValueError, match=f"target has shape .*; expected {expected} as labels"):
        call(case.function, name, np.zeros(input), np.zeros(target, int))


@every(ROWWISE)
def test_there_must_be_classes(case, name):
    with pytest.raises(ValueError, match="axis of classes"):
        call(case.function, name, 1.0, 0)
    for shape in [(0,), (3, 0), (0, 0), (3, 0, 2)]:
        with pytest.raises(ValueError, match=r"has no classes"):
            call(case.function, name, np.zeros(shape), np.zeros(shape[:1] + shape[2:] if shape[1:] else (), int))


@every(PLAIN)
def test_weights_must_broadcast_to_the_samples(case, name, rng):
    sample = case.sample(rng, (4, 3, 5))
    for shape in [(3,) if case.rowwise else (4,), (5, 4), (4, 3, 5, 1), (4, 1, 1, 1), (0,)]:
        with pytest.raises(ValueError, match=r"sample_weight of shape .* does not broadcast to"):
            call(case.function, name, sample.input, sample.target, sample_weight=np.ones(shape))
    if "weight" in sample.options:
        for shape in [(2,), (4, 1), (1, 3), ()] if case.rowwise else [(4,), (2, 4, 3, 5)]:
            with pytest.raises(ValueError, match=r"weight (of|has) shape"):
                call(case.function, name, sample.input, sample.target, **sample.options | {"weight": np.ones(shape)})
    if "pos_weight" in sample.options:
        with pytest.raises(ValueError, match="pos_weight of shape"):
            call(case.function, name, sample.input, sample.target, pos_weight=np.ones(4))


@pytest.mark.parametrize("label", [3, -1, -99, 10**9, np.iinfo(np.int64).min, 2**63, 2**64 - 1])
@every(LABELLED)
def test_labels_outside_the_classes(case, name, label, rng):
    input = case.sample(rng, (70, 3)).input
    target = np.zeros(70, np.uint64 if label > 2**62 else np.int64)
    target[[5, 60]] = label, 2
    with pytest.raises(ValueError, match=rf"^label {label} at row 5 is outside \[0, 3\)$") as caught:
        call(case.function, name, input, target)
    assert isinstance(caught.value, lossrs.LabelError)
    assert (caught.value.row, caught.value.label) == (5, label)


@pytest.mark.parametrize("label", [0.5, -0.25, 1e300, np.nan, np.inf, -np.inf])
@every(LABELLED)
def test_labels_that_are_not_whole(case, name, label, rng):
    target = np.zeros(70)
    target[5] = label
    what = "is outside" if abs(label) == 1e300 else "is not a whole number"
    with pytest.raises(ValueError, match=f"^label .* at row 5 {what}") as caught:
        call(case.function, name, case.sample(rng, (70, 3)).input, target)
    assert caught.value.row == 5
    np.testing.assert_equal(float(caught.value.label), label)


@pytest.mark.parametrize("case", LABELLED, ids=str)
def test_the_first_wrong_label_is_reported(case, rng):
    """On any thread; over several axes the row has several indices."""
    target = np.zeros(100_000, np.int32)
    target[[77_777, 99_999, 91_000]] = 7
    for _ in range(5):
        with pytest.raises(lossrs.LabelError, match="label 7 at row 77777 ") as caught:
            case.function(np.zeros((100_000, 2)), target)
        assert caught.value.row == 77_777
    target = np.zeros((2, 3, 4), int)
    target[1, 0, 2] = -3
    with pytest.raises(lossrs.LabelError, match=r"label -3 at row \(1, 0, 2\) is outside \[0, 5\)") as caught:
        case.function(np.zeros((2, 5, 3, 4)), target)
    assert caught.value.row == 14
    with pytest.raises(lossrs.LabelError, match=r"^label 9 is outside \[0, 5\)"):
        case.function(np.zeros(5), 9)


@pytest.mark.parametrize("dtype", [dtype for dtype in INTEGERS if dtype.kind == "i"], ids=str)
def test_the_ignored_label_is_no_error_in_any_type(dtype):
    assert F.cross_entropy([[0.0, 0.0]] * 2, np.array([-100, 1], dtype)) == pytest.approx(np.log(2))
    with pytest.raises(ValueError, match="label -100 at row 0"):
        F.cross_entropy([[0.0, 0.0]] * 2, np.array([-100, 1], dtype), ignore_index=-1)


def test_label_errors_survive_pickling():
    with pytest.raises(lossrs.LabelError) as caught:
        F.nll_loss([[0.0]], [1])
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (str(copy), copy.row, copy.label) == (str(caught.value), 0, 1)


@pytest.mark.parametrize("wrong", [-0.1, 1.1, np.inf, -np.inf, -1e-300])
@pytest.mark.parametrize("name", ALL_VERBS, ids=lambda name: name or "value")
def test_probabilities_outside_their_range(wrong, name):
    fine = np.full((90, 2), 0.5)
    broken = fine.copy()
    broken[[60, 80], [1, 0]] = wrong
    for argument, arguments in (("input", (broken, fine)), ("target", (fine, broken))):
        with pytest.raises(ValueError, match=rf"^{argument} .* at row \(60, 1\) is outside \[0, 1\]$") as caught:
            call(F.binary_cross_entropy, name, *arguments)
        assert isinstance(caught.value, lossrs.DomainError)
        assert (caught.value.row, caught.value.value) == (121, wrong)


@every(ROWWISE)
def test_probabilities_are_floats(case, name):
    if len([other for other in ROWWISE if other.name == case.name]) > 1:
        with pytest.raises(TypeError, match="holds probabilities, but its type is an integer's"):
            call(case.function, name, np.zeros((3, 2)), np.zeros((3, 2), int))


@every(CASES)
def test_unknown_options(case, name, rng):
    sample = case.sample(rng, (3, 3))
    with pytest.raises(ValueError, match="reduction must be 'none', 'mean' or 'sum', got \"avg\""):
        call(case.function, name, sample.input, sample.target, reduction="avg")
    for reduction in (None, 1, b"mean"):
        with pytest.raises(TypeError, match="reduction must be 'none', 'mean' or 'sum', got an object of type"):
            call(case.function, name, sample.input, sample.target, reduction=reduction)
    for unknown in ({"size_average": True}, {"reduce": False}, {"epsilon": 1.0}):
        with pytest.raises(TypeError, match=f"{case.name} has no option '{next(iter(unknown))}'; its options are"):
            call(case.function, name, sample.input, sample.target, **unknown)
    with pytest.raises(TypeError):
        call(case.function, name, sample.input, sample.target, None, "mean")
    with pytest.raises(TypeError):
        verb(case.function, name)(sample.input)
    with pytest.raises(ValueError, match="reduction must be"):
        case.loss_class(reduction="avg")
    with pytest.raises(TypeError, match="epsilon"):
        case.loss_class(epsilon=1.0)


@pytest.mark.parametrize(
    ("name", "option", "wrong", "expected"),
    [
        ("huber_loss", "delta", (0.0, -1.0, np.nan, -np.inf), "positive"),
        ("smooth_l1_loss", "beta", (-1.0, np.nan, -1e-300), "at least 0"),
        ("cross_entropy", "label_smoothing", (-0.1, 1.1, np.nan, np.inf), r"in \[0, 1\]"),
    ],
)
def test_parameters_outside_their_range(name, option, wrong, expected):
    for value in wrong:
        with pytest.raises(ValueError, match=f"^{option} must be {expected}, got "):
            getattr(F, name)([[0.5, 0.5]], [[0.5, 0.5]], **{option: value})
        with pytest.raises(ValueError, match=f"^{option} must be {expected}, got "):
            lossrs.losses[name](**{option: value})
    for value in ("1", None, [1.0], 1j, object(), np.ones(2)):
        with pytest.raises(TypeError, match=f"^{option} must be a number, got "):
            getattr(F, name)([[0.5, 0.5]], [[0.5, 0.5]], **{option: value})
        with pytest.raises(TypeError, match=f"^{option} must be a number, got "):
            lossrs.losses[name](**{option: value})


@pytest.mark.parametrize("name", ["cross_entropy", "nll_loss"])
def test_the_ignored_label_is_an_integer(name):
    for value in ("1", None, 1.0, [1], 1j):
        with pytest.raises(TypeError, match=r"^ignore_index must be an integer, got "):
            getattr(F, name)([[0.5, 0.5]], [0], ignore_index=value)


@every(PLAIN)
def test_grad_output(case, name, rng):
    if name != "backward":
        return
    sample = case.sample(rng, (4, 3))
    for wrong in (np.ones(2), "1", None, 1j):
        with pytest.raises(TypeError, match="grad_output must be a number"):
            case.function.backward(wrong, sample.input, sample.target)
    with pytest.raises(ValueError, match=r"grad_output of shape .* does not broadcast"):
        case.function.backward(np.ones(7), sample.input, sample.target, reduction="none")


# Results that cannot be written.


def outs(case, sample, name):
    """Return a good out of a verb."""
    shape = case.samples_shape(sample.input) if not name else sample.input.shape
    return np.zeros(shape, sample.input.dtype)


def call_out(case, name, sample, out, **options):
    arguments = [np.ones(case.samples_shape(sample.input))] if name == "backward" else []
    pair = (out, np.zeros(sample.input.shape, sample.input.dtype)) if name == "grad_and_hess" else out
    options = {"reduction": "none"} | sample.options | options
    return verb(case.function, name)(*arguments, sample.input, sample.target, out=pair, **options)


@every(PLAIN)
def test_out_of_the_wrong_kind(case, name, rng):
    sample = case.sample(rng, (4, 3))
    good = outs(case, sample, name)
    read_only = good.copy()
    read_only.setflags(write=False)
    for out, error, message in [
        (good.astype(np.float32), TypeError, "out has dtype float32; expected float64"),
        (good.astype(int), TypeError, "out has dtype int64; expected float64"),
        (good.astype(complex), TypeError, "out has dtype complex128"),
        (good[:-1], ValueError, r"out has shape \(3.*\); expected \(4"),
        (good[..., None], ValueError, "out has shape"),
        (read_only, ValueError, "out is read-only"),
        (np.broadcast_to(good[:1], good.shape), ValueError, "out is read-only"),
        (good.tolist(), TypeError, "out must be an array, got list"),
        (7, TypeError, "out must be an array, got int"),
        (np.ma.masked_array(good), TypeError, "out is a masked array"),
    ]:
        with pytest.raises(error, match=message):
            call_out(case, name, sample, out)
    stuck = np.lib.stride_tricks.as_strided(np.zeros(50), good.shape, [8] * good.ndim)
    if good.ndim > 1:
        with pytest.raises(ValueError, match="out has elements that share memory"):
            call_out(case, name, sample, stuck)
    with pytest.raises(ValueError, match="out has elements that share memory"):
        call_out(case, name, sample, np.lib.stride_tricks.as_strided(np.zeros(50), good.shape, [0] * good.ndim))


def test_out_goes_with_unreduced_losses_or_gradients():
    for reduction in ("mean", "sum"):
        with pytest.raises(ValueError, match="out takes the losses of the samples; it goes with reduction='none'"):
            F.mse_loss([1.0], [2.0], out=np.zeros(1), reduction=reduction)
    for wrong in (np.zeros(2), [np.zeros(1)], 3):
        with pytest.raises((TypeError, ValueError), match=r"pair|array"):
            F.mse_loss.grad_and_hess([1.0], [2.0], out=wrong)
    same = np.zeros(1)
    with pytest.raises(ValueError, match="shares memory"):
        F.mse_loss.grad_and_hess([1.0], [2.0], out=(same, same))


@every(PLAIN)
def test_out_that_overlaps_an_argument(case, name, rng):
    """Shifted or reversed: an error, and the arguments are as they were."""
    sample = case.sample(rng, (6, 3))
    like = outs(case, sample, name)
    extra = like.shape[1] if like.ndim > 1 else 1
    arguments = {"input": sample.input, "target": sample.target} | {
        key: value for key, value in sample.options.items() if isinstance(value, np.ndarray)
    }
    arguments["sample_weight"] = np.ones(case.samples_shape(sample.input))
    for argument, array in arguments.items():
        if array.dtype != like.dtype:
            continue
        room = np.zeros(array.size + like.size + extra)
        mine = room[: array.size].reshape(array.shape)
        mine[...] = array
        before = room.copy()
        changed = sample._replace(**{argument: mine}) if argument in ("input", "target") else sample
        options = {} if argument in ("input", "target") else {argument: mine}
        shifted = room[1 : 1 + like.size].reshape(like.shape)
        reversed_ = np.flip(room[: like.size].reshape(like.shape))
        for out in (shifted, reversed_) if like.size > 1 else ():
            if not np.shares_memory(out, mine):
                continue
            with pytest.raises(ValueError, match=f"out shares memory with {argument}"):
                call_out(case, name, changed, out, **options)
            np.testing.assert_array_equal(room, before)


def test_arrays_that_share_memory_with_no_element_in_common():
    room = np.arange(1.0, 9.0)
    gradient = F.mse_loss.value_and_grad(room[::2], np.zeros(4), out=room[1::2], reduction="sum")[1]
    np.testing.assert_array_equal(gradient, [2, 6, 10, 14])
    np.testing.assert_array_equal(room[::2], [1, 3, 5, 7])


@pytest.mark.parametrize("name", ["value_and_grad", "grad_and_hess", "backward"])
@pytest.mark.parametrize("count", [10, 3000, 200_000])
def test_an_error_leaves_an_input_that_is_also_the_result_as_it_was(name, count):
    """Of wrong labels and of values outside their domain, which are found on the way."""
    logits, labels = np.ones((count, 2)), np.zeros(count, int)
    labels[-1] = 5
    probabilities, wrong = np.full(count, 0.5), np.full(count, 0.5)
    wrong[-1] = 2
    for function, input, target in (
        (F.cross_entropy, logits, labels),
        (F.nll_loss, logits, labels),
        (F.binary_cross_entropy, wrong, probabilities),
        (F.binary_cross_entropy, probabilities, wrong),
    ):
        for reduction in ("mean", "none"):
            before = input.copy()
            grad_output = [np.ones(count) if reduction == "none" else 1.0] if name == "backward" else []
            out = (input, np.zeros_like(input)) if name == "grad_and_hess" else input
            with pytest.raises(ValueError, match="outside"):
                verb(function, name)(*grad_output, input, target, out=out, reduction=reduction)
            np.testing.assert_array_equal(input, before)


@pytest.mark.parametrize("case", PLAIN, ids=str)
def test_a_result_too_large_for_memory(case):
    """Huge arrays that are one element, over and over."""
    shape = (2**43, 2) if case.rowwise else (2**44,)
    input = np.broadcast_to(np.float64(0.5), shape)
    target = np.broadcast_to(np.int8(0), shape[:1]) if case.target == "label" else input
    for name in ("value_and_grad", "grad_and_hess"):
        with pytest.raises(MemoryError):
            verb(case.function, name)(input, target)
    with pytest.raises(MemoryError):
        case.function(input, target, reduction="none")
