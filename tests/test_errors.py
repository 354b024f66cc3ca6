"""What is refused, and what the message says: what was expected, what came, and where."""

import itertools
import pickle

import lossrs
import lossrs.functional as F
import numpy as np
import pytest
from cases import ALL_VERBS, CASES, INTEGERS, PLAIN, verb
from lossrs.definitions.rows import RowwiseLoss

POINTWISE = [case for case in PLAIN if case.elementwise]
LABELLED = [case for case in PLAIN if case.label]
#: Losses of rows of scores whose targets are labels, or for some have the input's shape. The others, and those that
#: take numbers for rows, are in test_rows.py.
LABELLED_ROWS = {case.name for case in LABELLED if issubclass(case.loss_class, RowwiseLoss)} - {"multi_margin_loss"}
ROWWISE = [case for case in PLAIN if case.name in LABELLED_ROWS]


def call(function, name, *arguments, **options):
    """Call a verb; `backward` with a plain gradient."""
    grad_output = [1.0] if name == "backward" else []
    return verb(function, name)(*grad_output, *arguments, **options)


def every(cases):
    """Run a test with each case and each of its verbs."""
    pairs = [pytest.param(case, name, id=f"{case}-{name or 'value'}") for case in cases for name in case.verbs]
    return pytest.mark.parametrize(("case", "name"), pairs)


def square(case, rng, dtype=np.float64):
    return case.sample(rng, (3,) if case.elementwise else (3, 3), dtype)


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


@every(PLAIN)
def test_what_is_not_an_array_of_numbers(case, name, rng):
    sample = square(case, rng)
    for wrong in NOT_NUMBERS:
        for operand in sample.operands:
            expected = rf"^{operand} has dtype .*" + ("; expected float64, float32" if operand in case.inputs else "")
            with pytest.raises(TypeError, match=expected):
                call(case.function, name, *sample.replace(**{operand: wrong}).arguments, **sample.options)
        for option in ("sample_weight", *case.arrays) if wrong is not None else ():
            with pytest.raises(TypeError, match=rf"^{option} has dtype"):
                call(case.function, name, *sample.arguments, **sample.options | {option: wrong})


@every(PLAIN)
def test_masked_arrays(case, name, rng):
    sample = square(case, rng)
    for operand, array in sample.operands.items():
        masked = np.ma.masked_array(array, mask=array > 0.5)
        with pytest.raises(TypeError, match=f"{operand} is a masked array, whose mask would be lost"):
            call(case.function, name, *sample.replace(**{operand: masked}).arguments)
    for option in ("sample_weight", *case.arrays):
        with pytest.raises(TypeError, match=f"{option} is a masked array"):
            call(case.function, name, *sample.arguments, **{option: np.ma.masked_array(np.ones(3))})


@every(POINTWISE)
def test_shapes_must_be_equal(case, name, rng):
    sample = case.sample(rng, (3,))
    for shape in [(), (2,), (4,), (3, 1), (1, 3), (3, 3), (1,), (0,)]:
        for operand in [operand for operand, of in case.operands.items() if of.shape == "same"][1:]:
            if operand == "var" and shape in ((), (1,)):
                continue
            wrong = sample.replace(**{operand: np.ones(shape)})
            first = next(iter(case.operands))
            expected = (
                r"^var has shape \(.*\); expected the input's, \(3,\), or that without the last axis, or a number$"
                if operand == "var"
                else rf"^{first} has shape \(3,\) and {operand} \(.*\); they must be the same$"
            )
            with pytest.raises(ValueError, match=expected):
                call(case.function, name, *wrong.arguments, **sample.options)


@pytest.mark.parametrize("name", ALL_VERBS, ids=lambda name: name or "value")
def test_a_variance_has_the_shape_of_the_input_without_the_last_axis_at_least(name):
    x = np.ones((4, 3, 2))
    for shape in [(4, 3, 3), (4, 1, 2), (1, 3, 2), (4,), (3,), (4, 3, 1, 1), (1, 1, 1), (1,), (4, 1), (1, 3), (2,)]:
        with pytest.raises(ValueError, match=r"^var has shape .*; expected the input's, \(4, 3, 2\)"):
            call(F.gaussian_nll_loss, name, x, x, np.ones(shape))
        with pytest.raises(ValueError, match="they must be the same"):
            call(F.gaussian_nll_loss, name, x, np.ones(shape), x)


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
    with pytest.raises(ValueError, match=f"target has shape .*; expected {expected}"):
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
    sample = case.sample(rng, max(case.shapes, key=len))
    samples = case.samples_shape(sample)
    for shape in [(samples[0] + 1, *samples[1:]), (*samples[:-1], samples[-1] + 1), (*samples, 1), (1, *samples), (0,)]:
        with pytest.raises(ValueError, match=r"sample_weight of shape .* does not broadcast to"):
            call(case.function, name, *sample.arguments, sample_weight=np.ones(shape))
    for option in case.arrays:
        of_classes = case.reference.arrays[option].shape == "classes"
        own = sample.options[option].shape
        wrong = [(own[0] + 1,), (own[0], 1), (1, *own), ()] if of_classes else [(own[0] + 1,), (2, *own)]
        for shape in wrong:
            with pytest.raises(ValueError, match=rf"{option} (of|has) shape"):
                call(case.function, name, *sample.arguments, **sample.options | {option: np.ones(shape)})


@pytest.mark.parametrize("label", [3, -1, -99, 10**9, np.iinfo(np.int64).min, 2**63, 2**64 - 1])
@every(LABELLED)
def test_labels_outside_the_classes(case, name, label, rng):
    target = np.zeros(70, np.uint64 if label > 2**62 else np.int64)
    target[[5, 60]] = label, 2
    sample = case.sample(rng, (70, 3)).replace(**{case.label: target})
    with pytest.raises(ValueError, match=rf"^label {label} at row 5 is outside \[0, 3\)$") as caught:
        call(case.function, name, *sample.arguments)
    assert isinstance(caught.value, lossrs.LabelError)
    assert (caught.value.row, caught.value.label) == (5, label)


@pytest.mark.parametrize("label", [0.5, -0.25, 1e300, np.nan, np.inf, -np.inf])
@every(LABELLED)
def test_labels_that_are_not_whole(case, name, label, rng):
    target = np.zeros(70)
    target[5] = label
    what = "is outside" if abs(label) == 1e300 else "is not a whole number"
    with pytest.raises(ValueError, match=f"^label .* at row 5 {what}") as caught:
        call(case.function, name, *case.sample(rng, (70, 3)).replace(**{case.label: target}).arguments)
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


#: Values outside the domains of operands, by their kind, and what is said of them.
OUTSIDE = {
    "probability": ((-0.1, 1.1, np.inf, -np.inf, -1e-300), r"outside \[0, 1\]"),
    "sign": ((0.0, 0.5, -2.0, np.inf, -np.inf, np.nan), "neither 1 nor -1"),
    "positive": ((-0.1, -np.inf, -1e-300), "less than 0"),
}
#: Operands that have one, by loss.
DOMAINS = {
    "binary_cross_entropy": ("input", "target"),
    "sigmoid_focal_loss": ("target",),
    "soft_margin_loss": ("target",),
    "hinge_embedding_loss": ("target",),
    "margin_ranking_loss": ("target",),
    "gaussian_nll_loss": ("var",),
}


@every([case for case in PLAIN if case.name in DOMAINS])
def test_values_outside_their_domain(case, name, rng):
    """The first of them is reported, in the whole array's order, also where elements share it."""
    sample = case.sample(rng, (90, 2))
    for operand in DOMAINS[case.name]:
        wrongs, expected = OUTSIDE[case.operands[operand].kind]
        broken = sample[operand].copy()
        places = {(90, 2): (60, 1), (90, 1): (60, 0), (90,): (60,), (): ()}[broken.shape]
        for wrong in wrongs:
            broken[places] = wrong
            if broken.ndim == 2:
                broken[80] = wrong
            row = 121 if broken.shape == (90, 2) else 120 if broken.ndim else 0
            where = str(divmod(row, 2)).replace("(", r"\(").replace(")", r"\)")
            with pytest.raises(ValueError, match=rf"^{operand} .* at row {where} is {expected}$") as caught:
                call(case.function, name, *sample.replace(**{operand: broken}).arguments, **sample.options)
            assert isinstance(caught.value, lossrs.DomainError)
            assert caught.value.row == row
            np.testing.assert_equal(caught.value.value, wrong)


@every([case for case in PLAIN if case.name in DOMAINS])
def test_one_value_everywhere_that_is_outside_its_domain(case, name, rng):
    sample = case.sample(rng, (5000,))
    for operand in DOMAINS[case.name]:
        wrong = OUTSIDE[case.operands[operand].kind][0][0]
        broken = sample.replace(**{operand: np.broadcast_to(np.float64(wrong), sample[operand].shape)})
        with pytest.raises(lossrs.DomainError) as caught:
            call(case.function, name, *broken.arguments, **sample.options)
        assert caught.value.row == 0


@every(ROWWISE)
def test_probabilities_are_floats(case, name):
    if len([other for other in ROWWISE if other.name == case.name]) > 1:
        with pytest.raises(TypeError, match="holds probabilities, but its type is an integer's"):
            call(case.function, name, np.zeros((3, 2)), np.zeros((3, 2), int))


def reductions_of(case):
    *others, last = map(repr, case.loss_class.reductions)
    return f"reduction must be {', '.join(others)} or {last}"


@every(CASES)
def test_unknown_options(case, name, rng):
    arguments, known = case.sample(rng, (3, 3)).arguments, "reduction must be 'none', 'mean' or 'sum'"
    with pytest.raises(ValueError, match=f'{known}, got "avg"'):
        call(case.function, name, *arguments, reduction="avg")
    for reduction in (None, 1, b"mean"):
        with pytest.raises(TypeError, match=f"{known}, got an object of type"):
            call(case.function, name, *arguments, reduction=reduction)
    for unknown in ({"size_average": True}, {"reduce": False}, {"epsilon": 1.0}):
        with pytest.raises(TypeError, match=f"{case.name} has no option '{next(iter(unknown))}'; its options are"):
            call(case.function, name, *arguments, **unknown)
    with pytest.raises(TypeError, match=r"takes .* it got \d arguments by position"):
        call(case.function, name, *arguments, None, "mean")
    operands = list(case.operands)
    with pytest.raises(TypeError, match=f"is missing '{operands[-1]}'"):
        call(case.function, name, *arguments[:-1])
    with pytest.raises(TypeError, match=f"got two values for '{operands[0]}'"):
        call(case.function, name, *arguments, **{operands[0]: arguments[0]})
    with pytest.raises(ValueError, match=f"{reductions_of(case)}, got 'avg'"):
        case.loss_class(reduction="avg")
    with pytest.raises(TypeError, match="epsilon"):
        case.loss_class(epsilon=1.0)


@pytest.mark.parametrize("name", sorted({case.name for case in PLAIN if "batchmean" not in case.loss_class.reductions}))
def test_batchmean_is_of_the_divergence_alone(name):
    case = next(case for case in PLAIN if case.name == name)
    sample = case.sample(np.random.default_rng(0), (3, 3))
    with pytest.raises(ValueError, match=reductions_of(case)):
        case.value(sample, reduction="batchmean")
    with pytest.raises(ValueError, match=reductions_of(case)):
        case.loss_class(reduction="batchmean")


@every([case for case in PLAIN if len(case.inputs) > 1])
def test_wrt_names_inputs(case, name, rng):
    arguments = case.sample(rng, (3, 3)).arguments
    if not name:
        with pytest.raises(TypeError, match="no option 'wrt'"):
            call(case.function, name, *arguments, wrt=case.inputs[0])
        return
    for wrong in ("nothing", "", (case.inputs[0], "nothing"), "weight"):
        with pytest.raises(ValueError, match=f"^wrt must be among {', '.join(map(repr, case.inputs))}, got "):
            call(case.function, name, *arguments, wrt=wrong)
    for wrong in ((), [], (case.inputs[0], case.inputs[0]), (*case.inputs, case.inputs[0])):
        with pytest.raises(ValueError, match=r"^wrt must name an input, and each only once$"):
            call(case.function, name, *arguments, wrt=wrong)
    for wrong in (0, 1.5, b"input", (0,), object()):
        with pytest.raises(TypeError, match=r"^wrt must be the name of an input, or a tuple of names, got"):
            call(case.function, name, *arguments, wrt=wrong)


@every([case for case in PLAIN if len(case.inputs) == 1])
def test_wrt_is_of_losses_of_several_inputs(case, name, rng):
    with pytest.raises(TypeError, match="has no option 'wrt'"):
        call(case.function, name, *case.sample(rng, (3, 3)).arguments, wrt=case.inputs[0])


@pytest.mark.parametrize(
    ("name", "option", "wrong", "expected"),
    [
        ("huber_loss", "delta", (0.0, -1.0, np.nan, -np.inf), "positive"),
        ("smooth_l1_loss", "beta", (-1.0, np.nan, -1e-300), "at least 0"),
        ("cross_entropy", "label_smoothing", (-0.1, 1.1, np.nan, np.inf), r"in \[0, 1\]"),
        ("gaussian_nll_loss", "eps", (0.0, -1e-6, np.nan), "positive"),
        ("poisson_nll_loss", "eps", (-1e-8, np.nan, -np.inf), "at least 0"),
        ("sigmoid_focal_loss", "gamma", (-0.5, np.nan, -np.inf), "at least 0"),
        ("sigmoid_focal_loss", "alpha", (1.5, np.inf, np.nan), "at most 1"),
        ("hinge_embedding_loss", "margin", (), ""),
        ("margin_ranking_loss", "margin", (), ""),
    ],
)
def test_parameters_outside_their_range(name, option, wrong, expected):
    halves = [[[0.5, 0.5]]] * len(lossrs.losses[name]()._kernel.operands)
    for value in wrong:
        with pytest.raises(ValueError, match=f"^{option} must be {expected}, got "):
            getattr(F, name)(*halves, **{option: value})
        with pytest.raises(ValueError, match=f"^{option} must be {expected}, got "):
            lossrs.losses[name](**{option: value})
    for value in ("1", [1.0], 1j, object(), np.ones(2), *[None] * (option != "alpha")):
        with pytest.raises(TypeError, match=f"^{option} must be a number, got "):
            getattr(F, name)(*halves, **{option: value})
        with pytest.raises(TypeError, match=f"^{option} must be a number, got "):
            lossrs.losses[name](**{option: value})


@pytest.mark.parametrize("name", ["cross_entropy", "nll_loss"])
def test_the_ignored_label_is_an_integer(name):
    for value in ("1", None, 1.0, [1], 1j):
        with pytest.raises(TypeError, match=r"^ignore_index must be an integer, got "):
            getattr(F, name)([[0.5, 0.5]], [0], ignore_index=value)


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("kl_div", "log_target"),
        ("poisson_nll_loss", "log_input"),
        ("poisson_nll_loss", "full"),
        ("gaussian_nll_loss", "full"),
    ],
)
def test_flags_are_true_or_false(name, option):
    for value in ("yes", None, 2, -1, 0.5, [True], np.ones(2)):
        with pytest.raises(TypeError, match=f"^{option} must be True or False, got "):
            lossrs.losses[name](**{option: value})
    for value in (True, 1, np.True_, np.int8(1)):
        assert lossrs.losses[name](**{option: value}) == lossrs.losses[name](**{option: True})


@pytest.mark.parametrize("case", PLAIN, ids=str)
def test_grad_output(case, rng):
    sample = case.sample(rng, (4, 3))
    for wrong in (np.ones(2), "1", None, 1j):
        with pytest.raises(TypeError, match="grad_output must be a number"):
            case.backward(wrong, sample)
    with pytest.raises(ValueError, match=r"grad_output of shape .* does not broadcast"):
        case.backward(np.ones(7), sample, reduction="none")


# Results that cannot be written.


def outs(case, sample, name):
    """Return good outs of a verb, one for each of its results, in the order of its inputs."""
    if not name:
        return [np.zeros(case.samples_shape(sample), sample.first.dtype)]
    gradients = [np.zeros(sample[input].shape, sample[input].dtype) for input in case.inputs]
    return gradients * 2 if name == "grad_and_hess" else gradients


def call_out(case, name, sample, outs, **options):
    half = len(outs) // 2
    out = (tuple(outs[:half]), tuple(outs[half:])) if name == "grad_and_hess" else tuple(outs) if name else outs[0]
    return case.call(name, sample, out=out, reduction="none", **options)


@every(PLAIN)
def test_out_of_the_wrong_kind(case, name, rng):
    sample = case.sample(rng, (4, 3))
    for i, good in enumerate(outs(case, sample, name)):
        if good.shape[:1] != (4,):
            continue
        read_only = good.copy()
        read_only.setflags(write=False)
        strides = np.lib.stride_tricks.as_strided
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
            (strides(np.zeros(50), good.shape, [0] * good.ndim), ValueError, "out has elements that share memory"),
            (strides(np.zeros(50), (4, 3), [8, 8]), ValueError, "out has (elements that share memory|shape)"),
        ]:
            # The others are as they should be.
            given = [array.copy() for array in outs(case, sample, name)]
            given[i] = out
            with pytest.raises(error, match=message):
                call_out(case, name, sample, given)


@every([case for case in PLAIN if len(case.inputs) > 1])
def test_out_of_several_gradients_is_a_tuple(case, name, rng):
    if not name:
        return
    sample = case.sample(rng, (4, 3))
    good = outs(case, sample, name)[: len(case.inputs)]
    for wrong in (good[0], good, tuple(good[:1]), (*good, good[0]), None if name == "grad_and_hess" else 7):
        out = (wrong, wrong) if name == "grad_and_hess" else wrong
        with pytest.raises(TypeError, match=rf"^out must be a tuple of {len(good)} arrays, one for each"):
            case.call(name, sample, out=out)
    # An array where one gradient is asked for by its name, a tuple where it is by a tuple.
    arguments = sample.arguments
    pair = (lambda out: (out, out.copy())) if name == "grad_and_hess" else lambda out: out
    single = pair(good[0]) if name == "grad_and_hess" else good[0]
    call(case.function, name, *arguments, wrt=case.inputs[0], out=single, **sample.options)
    wrong = ((good[0],), (good[0].copy(),)) if name == "grad_and_hess" else (good[0],)
    with pytest.raises(TypeError, match=r"^out must be an array, got tuple"):
        call(case.function, name, *arguments, wrt=case.inputs[0], out=wrong, **sample.options)
    call(case.function, name, *arguments, wrt=case.inputs[:1], out=wrong, **sample.options)


@every([case for case in PLAIN if len(case.inputs) > 1])
def test_outs_are_apart(case, name, rng):
    """One array for two results, wholly or in part."""
    if not name:
        return
    sample = case.sample(rng, (4, 3))
    room = np.zeros((5, 3))
    given = outs(case, sample, name)
    places = [i for i, out in enumerate(given) if out.shape == (4, 3)]
    for i, j in itertools.pairwise(places):
        for one, other in ((room[:4], room[:4]), (room[:4], room[1:]), (room[:4], room[3::-1])):
            given = [array.copy() for array in outs(case, sample, name)]
            given[i], given[j] = one, other
            with pytest.raises(ValueError, match="shares memory"):
                call_out(case, name, sample, given)


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
    sample.options["sample_weight"] = np.ones(case.samples_shape(sample))
    for i, like in enumerate(outs(case, sample, name)):
        extra = like.shape[1] if like.ndim > 1 else 1
        for argument, array in (sample.operands | sample.options).items():
            if not isinstance(array, np.ndarray) or array.dtype != like.dtype or like.size < 2:
                continue
            room = np.zeros(array.size + like.size + extra)
            mine = room[: array.size].reshape(array.shape)
            mine[...] = array
            before = room.copy()
            changed = sample.map(np.copy)
            (changed.operands if argument in sample.operands else changed.options)[argument] = mine
            shifted = room[1 : 1 + like.size].reshape(like.shape)
            reversed_ = np.flip(room[: like.size].reshape(like.shape))
            for out in (shifted, reversed_):
                if not np.shares_memory(out, mine):
                    continue
                given = [each.copy() for each in outs(case, sample, name)]
                given[i] = out
                with pytest.raises(ValueError, match=f"out shares memory with {argument}"):
                    call_out(case, name, changed, given)
                np.testing.assert_array_equal(room, before)


@pytest.mark.parametrize("own", [(6, 1), (6,), ()], ids=str)
def test_a_gradient_is_not_written_over_a_variance_that_elements_share(own):
    """It is read again for the next of them."""
    x, var = np.ones((6, 3)), np.ones(own)
    with pytest.raises(ValueError, match="out shares memory with var"):
        F.gaussian_nll_loss.value_and_grad(x, x, var, wrt="var", out=var)


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
    fine, wrong = np.full(count, 0.5), np.full(count, 0.5)
    wrong[-1] = -2
    for function, *operands in (
        (F.cross_entropy, logits, labels),
        (F.nll_loss, logits, labels),
        (F.binary_cross_entropy, wrong, fine),
        (F.binary_cross_entropy, fine, wrong),
        (F.sigmoid_focal_loss, fine, wrong),
        (F.soft_margin_loss, fine, wrong),
        (F.margin_ranking_loss, fine, fine + 1, wrong),
        (F.gaussian_nll_loss, fine, fine + 1, wrong),
    ):
        several = {"wrt": ("input1", "input2")} if function is F.margin_ranking_loss else {}
        several = {"wrt": ("input", "var")} if function is F.gaussian_nll_loss else several
        for reduction in ("mean", "none"):
            own = [operand.copy() for operand in operands]
            grad_output = [np.ones(count) if reduction == "none" else 1.0] if name == "backward" else []
            # Over the first operand, and the last where it has a gradient or is of its shape.
            out = (own[0], own[-1]) if several else own[0]
            fresh = tuple(map(np.zeros_like, out)) if several else np.zeros_like(own[0])
            out = (out, fresh) if name == "grad_and_hess" else out
            with pytest.raises(ValueError, match=r"outside|neither|less"):
                verb(function, name)(*grad_output, *own, out=out, reduction=reduction, **several)
            for operand, before in zip(own, operands, strict=True):
                np.testing.assert_array_equal(operand, before)


@pytest.mark.parametrize("case", PLAIN, ids=str)
def test_a_result_too_large_for_memory(case, rng):
    """Huge arrays that are one element, over and over."""
    shape = (2**44,) if case.elementwise else (2**43, 2)
    small = case.sample(rng, (1,) if case.elementwise else (1, 2))
    small.options.update(dict.fromkeys(case.arrays))
    sample = small.map(np.copy)
    for name, array in small.operands.items():
        if case.operands[name].shape == "same":
            sample = sample.replace(**{name: np.broadcast_to(array.ravel()[0], shape)})
        elif case.operands[name].shape == "samples":
            sample = sample.replace(**{name: np.broadcast_to(0 if name == case.label else array[0], shape[:1])})
    for name in case.verbs[1:]:
        with pytest.raises(MemoryError):
            call(case.function, name, *sample.arguments, **case.variant.options)
    with pytest.raises(MemoryError):
        case.function(*sample.arguments, reduction="none", **case.variant.options)
