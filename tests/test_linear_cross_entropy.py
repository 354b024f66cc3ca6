"""Cross-entropy of a linear layer's logits against cross-entropy of the logits themselves."""

import itertools
import pickle
import re
import subprocess
import sys
from pathlib import Path

import lossrs
import lossrs.functional as F
import numpy as np
import pytest
from cases import BFLOAT16, FLOATS, INSTRUCTION_SETS, INTEGERS, bits, instruction_set, threads
from layouts import LAYOUTS

linear_cross_entropy = F.linear_cross_entropy

OPTIONS = [
    {},
    {"label_smoothing": 0.2},
    {"z_loss": 0.3},
    {"softcap": 1.5},
    {"label_smoothing": 0.1, "z_loss": 1e-2, "softcap": 3.0},
]
#: (shape of the samples, features, classes): tiles, panels, groups and chunks that are full or not.
SHAPES = [
    ((), 5, 4),
    ((1,), 1, 1),
    ((2, 3), 7, 3),
    ((33,), 31, 67),
    ((40,), 257, 256),
    ((7,), 600, 1025),
    ((300,), 16, 300),
    ((2500,), 3, 17),
    ((600,), 8, 9000),
]


def draw(rng, samples, features, classes, dtype=np.float64, *, weighted=True):
    """Return the arrays of a call; some of the labels are ignored ones."""
    target = np.asarray(rng.integers(0, classes, samples))
    target[np.asarray(rng.random(samples) < 0.1)] = -100
    arrays = {
        "input": rng.standard_normal((*samples, features)),
        "linear_weight": rng.standard_normal((classes, features)) * 2 / np.sqrt(features),
        "linear_bias": rng.standard_normal(classes),
    }
    if weighted:
        arrays["weight"] = rng.uniform(0.5, 2, classes)
        arrays["sample_weight"] = np.asarray(rng.uniform(0.5, 2, samples))
    return {name: array.astype(dtype) for name, array in arrays.items()} | {"target": target}


def expected(
    input,
    linear_weight,
    target,
    linear_bias,
    weight=None,
    sample_weight=1.0,
    label_smoothing=0.0,
    z_loss=0.0,
    softcap=None,
    ignore_index=-100,
):
    """Return the losses in two parts, what a mean divides each by, and the derivatives of their sums by the logits."""
    samples, features = target.shape, input.shape[-1]
    input, target = input.reshape(-1, features), target.reshape(-1)
    kept = np.broadcast_to(sample_weight, samples).reshape(-1) * (target != ignore_index)
    raw = input @ linear_weight.T + linear_bias
    logits = raw if softcap is None else softcap * np.tanh(raw / softcap)
    options = {
        "weight": weight,
        "label_smoothing": label_smoothing,
        "ignore_index": ignore_index,
        "sample_weight": kept,
    }
    losses, by_logits = F.cross_entropy.value_and_grad(logits, target, reduction="none", **options)
    largest = logits.max(1, keepdims=True)
    powers = np.exp(logits - largest)
    lse = largest[:, 0] + np.log(powers.sum(1))
    squares = z_loss * lse**2 * kept
    by_squares = 2 * z_loss * (lse * kept)[:, None] * powers / powers.sum(1, keepdims=True)
    if softcap is not None:
        by_logits, by_squares = (slope / np.cosh(raw / softcap) ** 2 for slope in (by_logits, by_squares))
    labels = np.where(target == ignore_index, 0, target)
    divisor = (kept * (1 if weight is None else weight[labels])).sum()
    return losses.reshape(samples), squares.reshape(samples), (divisor, kept.sum()), (by_logits, by_squares)


def gradients(input, linear_weight, slopes, **_):
    """Return the gradients of the arguments from those of the logits."""
    features = input.shape[-1]
    by_input = (slopes @ linear_weight).reshape(input.shape)
    return by_input, slopes.T @ input.reshape(-1, features), slopes.sum(0)


def close(actual, wanted, tolerance):
    assert np.shape(actual) == np.shape(wanted)
    np.testing.assert_allclose(actual, wanted, rtol=tolerance, atol=tolerance * np.abs(wanted).max(initial=1e-300))


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
def test_is_cross_entropy_of_the_logits(shape, options, weighted, rng):
    arrays = draw(rng, *shape, weighted=weighted)
    losses, squares, (divisor, count), (by_logits, by_squares) = expected(**arrays, **options)
    close(linear_cross_entropy(**arrays, **options, reduction="none"), losses + squares, 1e-12)
    value, slopes = linear_cross_entropy.value_and_grad(**arrays, **options, reduction="sum")
    close(value, (losses + squares).sum(), 1e-12)
    for actual, wanted in zip(slopes, gradients(**arrays, slopes=by_logits + by_squares), strict=True):
        close(actual, wanted, 1e-12)
    if count == 0:
        return
    # The mean of the squares has no weight of a class, in the divisor either.
    value, slopes = linear_cross_entropy.value_and_grad(**arrays, **options)
    assert value == linear_cross_entropy(**arrays, **options)
    close(value, losses.sum() / divisor + squares.sum() / count, 1e-12)
    for actual, wanted in zip(
        slopes, gradients(**arrays, slopes=by_logits / divisor + by_squares / count), strict=True
    ):
        close(actual, wanted, 1e-12)
    product = linear_cross_entropy.backward(-2.5, **arrays, **options)
    for actual, slope in zip(product, slopes, strict=True):
        close(actual, -2.5 * slope, 1e-14)
    grad_output = rng.standard_normal(shape[0])
    product = linear_cross_entropy.backward(grad_output, **arrays, **options, reduction="none")
    slopes = (by_logits + by_squares) * grad_output.reshape(-1, 1)
    for actual, wanted in zip(product, gradients(**arrays, slopes=slopes), strict=True):
        close(actual, wanted, 1e-12)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("name", ["input", "linear_weight", "linear_bias"])
def test_gradients_are_central_differences(name, options, rng):
    arrays = draw(rng, (5,), 4, 6)
    _, gradient = linear_cross_entropy.value_and_grad(**arrays, **options, wrt=name)
    step = 1e-6
    for index in np.ndindex(gradient.shape):
        moved = []
        for sign in (1, -1):
            array = arrays[name].copy()
            array[index] += sign * step
            moved.append(linear_cross_entropy(**arrays | {name: array}, **options))
        assert gradient[index] == pytest.approx((moved[0] - moved[1]) / (2 * step), abs=1e-8)


def test_saturated_logits_keep_their_gradient():
    # The derivative is 4 exp(-2 * 20) there, which 1 minus a square would have lost.
    arrays = {"input": [[20.0]], "linear_weight": [[1.0], [0.0]], "target": [1]}
    _, gradient = linear_cross_entropy.value_and_grad(**arrays, softcap=1.0, wrt="input")
    probability = 1 / (1 + np.exp(-1.0))
    assert gradient[0, 0] == pytest.approx(probability * 4 * np.exp(-40.0), rel=1e-14)


@pytest.mark.parametrize("dtype", FLOATS, ids=lambda dtype: np.dtype(dtype).name)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_types(dtype, options, rng):
    arrays = draw(rng, (300,), 40, 300, dtype)
    # What the losses and gradients are of the same numbers in double precision, rounded.
    wide = {name: array if name == "target" else array.astype(np.float64) for name, array in arrays.items()}
    value, slopes = linear_cross_entropy.value_and_grad(**arrays, **options)
    exact, exact_slopes = linear_cross_entropy.value_and_grad(**wide, **options)
    tolerance = 2e-15 if dtype == np.float64 else 2e-6
    assert type(value) is float
    assert value == pytest.approx(exact, rel=tolerance)
    for slope, exact_slope, name in zip(slopes, exact_slopes, ("input", "linear_weight", "linear_bias"), strict=True):
        assert slope.dtype == dtype
        assert slope.shape == arrays[name].shape
        rounded = exact_slope.astype(dtype).astype(np.float64)
        unit = np.float64(unit_of(dtype))
        np.testing.assert_allclose(
            slope.astype(np.float64), rounded, rtol=2 * unit + 4 * tolerance, atol=4e-6 * abs(rounded).max()
        )
    losses = linear_cross_entropy(**arrays, **options, reduction="none")
    assert losses.dtype == dtype


def unit_of(dtype):
    return {np.float64: 2.0**-52, np.float32: 2.0**-23, np.float16: 2.0**-10, BFLOAT16: 2.0**-7}[dtype]


def test_the_gradient_of_a_half_precision_weight_is_added_up_in_single_precision():
    # Of 2,000 equal terms; from 2^11 times a term on, a float16 sum would grow no more.
    ones = np.ones((20_000, 1), np.float16)
    weight = np.zeros((300, 1), np.float16)
    arrays = ones, weight, np.zeros(len(ones), int)
    _, gradient = linear_cross_entropy.value_and_grad(*arrays, wrt="linear_weight", reduction="sum")
    assert gradient[1, 0] == np.float16(20_000 / 300)


@pytest.mark.parametrize("dtype", [*INTEGERS, np.dtype(bool), np.dtype(float)], ids=str)
def test_labels_of_any_type(dtype, rng):
    arrays = draw(rng, (9,), 3, 2)
    target = rng.integers(0, 2, 9)
    wanted = linear_cross_entropy(**arrays | {"target": target})
    assert linear_cross_entropy(**arrays | {"target": target.astype(dtype)}) == wanted


def everything(arrays, **options):
    """Return the bits of all that a call can say."""
    losses, slopes = linear_cross_entropy.value_and_grad(**arrays, **options, reduction="none")
    mean, mean_slopes = linear_cross_entropy.value_and_grad(**arrays, **options)
    alone = linear_cross_entropy(**arrays, **options, reduction="none")
    return [bits(array) for array in (losses, alone, np.float64(mean), *slopes, *mean_slopes)]


def assert_same(actual, wanted):
    for one, other in zip(actual, wanted, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("dtype", FLOATS, ids=lambda dtype: np.dtype(dtype).name)
@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_layouts_change_nothing(layout, dtype, rng):
    for samples in ((50,), (5, 4, 3)):
        arrays = draw(rng, samples, 37, 300, dtype)
        wanted = everything(arrays, z_loss=0.1, softcap=2.0)
        assert_same(
            everything({name: layout(array) for name, array in arrays.items()}, z_loss=0.1, softcap=2.0), wanted
        )


@pytest.mark.parametrize("dtype", FLOATS, ids=lambda dtype: np.dtype(dtype).name)
@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_results_go_where_they_are_wanted(layout, dtype, rng):
    arrays = draw(rng, (50,), 37, 300, dtype)
    _, wanted = linear_cross_entropy.value_and_grad(**arrays)
    out = [layout(np.full(slope.shape, 7, dtype)) for slope in wanted]
    for array in out:
        if not array.flags.writeable:
            return
    _, slopes = linear_cross_entropy.value_and_grad(**arrays, out=tuple(out))
    for array, slope, want in zip(out, slopes, wanted, strict=True):
        assert slope is array
        np.testing.assert_array_equal(slope.astype(dtype), want)


@pytest.mark.parametrize("shape", [((600,), 70, 4000), ((3000,), 5, 70), ((70,), 300, 2000)], ids=str)
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16], ids=lambda dtype: np.dtype(dtype).name)
def test_threads_change_nothing(shape, dtype, rng):
    arrays = draw(rng, *shape, dtype)
    options = {"label_smoothing": 0.1, "z_loss": 0.1}
    with threads(1):
        wanted = everything(arrays, **options)
    for number in (2, 3, 7):
        with threads(number):
            assert_same(everything(arrays, **options), wanted)


@pytest.mark.parametrize("name", INSTRUCTION_SETS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=lambda dtype: np.dtype(dtype).name)
def test_instruction_sets_change_nothing(name, dtype, rng):
    arrays = draw(rng, (70,), 300, 300, dtype)
    wanted = everything(arrays, softcap=3.0, z_loss=0.1)
    try:
        with instruction_set(name):
            actual = everything(arrays, softcap=3.0, z_loss=0.1)
    except ValueError as error:
        pytest.skip(str(error))
    assert_same(actual, wanted)


@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=lambda dtype: np.dtype(dtype).name)
def test_neighbours_change_nothing(dtype, rng):
    arrays = draw(rng, (600,), 300, 1500, dtype, weighted=False)
    losses, (slopes, _, _) = linear_cross_entropy.value_and_grad(**arrays, reduction="none")
    for samples in (slice(0, 1), slice(599, 600), slice(3, 300), slice(None, None, -1)):
        some = arrays | {"input": arrays["input"][samples], "target": arrays["target"][samples]}
        some_losses, (some_slopes, _, _) = linear_cross_entropy.value_and_grad(**some, reduction="none")
        np.testing.assert_array_equal(some_losses, losses[samples])
        np.testing.assert_array_equal(some_slopes, slopes[samples])
        np.testing.assert_array_equal(linear_cross_entropy(**some, reduction="none"), losses[samples])


@pytest.mark.parametrize("how", ["ignored", "weight of the sample", "weight of the class"])
def test_samples_that_are_left_out_do_nothing(how, rng):
    arrays = draw(rng, (700,), 20, 600)
    arrays["target"] = rng.integers(0, 599, 700)
    gone = rng.random(700) < 0.4
    if how == "ignored":
        arrays["target"][gone] = -100
    elif how == "weight of the sample":
        arrays["sample_weight"][gone] = 0
        arrays["target"][gone] = 10**6
    else:
        arrays["weight"][599] = 0
        arrays["target"][gone] = 599
    arrays["input"][gone] = rng.choice([np.nan, np.inf, 1e300], (gone.sum(), 20))
    value, (by_input, *others) = linear_cross_entropy.value_and_grad(**arrays)
    losses = linear_cross_entropy(**arrays, reduction="none")
    assert (losses[gone] == 0).all()
    assert (by_input[gone] == 0).all()
    # The others are as if those were not there, bit for bit.
    kept = {name: arrays[name][~gone] for name in ("input", "target", "sample_weight")}
    some, (some_by_input, *some_others) = linear_cross_entropy.value_and_grad(**arrays | kept)
    assert value == some
    np.testing.assert_array_equal(by_input[~gone], some_by_input)
    np.testing.assert_array_equal(losses[~gone], linear_cross_entropy(**arrays | kept, reduction="none"))
    for one, other in zip(others, some_others, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_class_of_weight_zero_has_the_z_loss_still():
    arrays = {"input": [[1.0]], "linear_weight": [[0.0], [2.0]], "target": [0], "weight": [0.0, 1.0]}
    lse = np.log(1 + np.exp(2.0))
    assert linear_cross_entropy(**arrays, reduction="sum") == 0
    assert linear_cross_entropy(**arrays, reduction="sum", z_loss=0.5) == pytest.approx(lse**2 / 2, rel=1e-15)


def test_infinite_logits_are_those_of_cross_entropy():
    arrays = {"input": [[1.0], [-1.0]], "linear_weight": [[-np.inf], [0.0], [2.0]], "target": [1, 1]}
    losses = linear_cross_entropy(**arrays, reduction="none")
    np.testing.assert_array_equal(losses, F.cross_entropy([[-np.inf, 0, 2], [np.inf, 0, -2]], [1, 1], reduction="none"))


@pytest.mark.parametrize("dtype", FLOATS, ids=lambda dtype: np.dtype(dtype).name)
@pytest.mark.parametrize("samples", [(0,), (3, 0)], ids=str)
def test_no_samples(samples, dtype, rng):
    arrays = draw(rng, samples, 5, 4, dtype)
    value, slopes = linear_cross_entropy.value_and_grad(**arrays)
    assert np.isnan(value)
    for slope, name in zip(slopes, ("input", "linear_weight", "linear_bias"), strict=True):
        np.testing.assert_array_equal(slope, np.zeros_like(arrays[name]), strict=True)
    assert linear_cross_entropy(**arrays, reduction="sum") == 0
    assert linear_cross_entropy(**arrays, reduction="none").shape == samples


def test_no_sample_counts(rng):
    arrays = draw(rng, (50,), 5, 4)
    arrays["target"][:] = -100
    out = tuple(np.full_like(arrays[name], 3) for name in ("input", "linear_weight", "linear_bias"))
    value, slopes = linear_cross_entropy.value_and_grad(**arrays, out=out)
    assert np.isnan(value)
    assert all((slope == 0).all() for slope in slopes)


def test_no_features():
    value, (by_input, by_weight) = linear_cross_entropy.value_and_grad(np.zeros((3, 0)), np.zeros((4, 0)), [0, 1, 2])
    assert value == pytest.approx(np.log(4), rel=1e-15)
    assert by_input.shape == (3, 0)
    assert by_weight.shape == (4, 0)


def test_what_is_wanted_alone_is_what_it_is_with_the_others(rng):
    arrays = draw(rng, (70,), 30, 400)
    names = ("input", "linear_weight", "linear_bias")
    value, slopes = linear_cross_entropy.value_and_grad(**arrays)
    slopes = dict(zip(names, slopes, strict=True))
    for count in (1, 2, 3):
        for wrt in itertools.permutations(names, count):
            also, some = linear_cross_entropy.value_and_grad(**arrays, wrt=wrt)
            assert also == value
            assert isinstance(some, tuple)
            for name, slope in zip(wrt, some, strict=True):
                np.testing.assert_array_equal(slope, slopes[name])
    for name in names:
        _, slope = linear_cross_entropy.value_and_grad(**arrays, wrt=name)
        np.testing.assert_array_equal(slope, slopes[name])
        np.testing.assert_array_equal(linear_cross_entropy.backward(1.0, **arrays, wrt=name), slopes[name])
    arrays["linear_bias"] = None
    _, slopes = linear_cross_entropy.value_and_grad(**arrays)
    assert [slope.shape for slope in slopes] == [(70, 30), (400, 30)]
    with pytest.raises(ValueError, match="wrt must be among 'input', 'linear_weight', got \"linear_bias\""):
        linear_cross_entropy.value_and_grad(**arrays, wrt="linear_bias")


def test_the_class_says_what_the_function_says(rng):
    arrays = draw(rng, (20,), 6, 9)
    arrays["target"][arrays["target"] == -100] = -7
    weight, options = arrays.pop("weight"), {"z_loss": 0.1, "softcap": 2.0, "ignore_index": -7}
    loss = lossrs.LinearCrossEntropyLoss(weight=weight, **options)
    value, slopes = linear_cross_entropy.value_and_grad(**arrays, weight=weight, **options)
    for same in (loss, pickle.loads(pickle.dumps(loss)), eval(repr(loss), vars(lossrs))):
        assert same == loss
        assert same(**arrays) == value
        also, others = same.value_and_grad(**arrays)
        assert also == value
        for slope, other in zip(slopes, others, strict=True):
            np.testing.assert_array_equal(slope, other)
    operands = arrays["input"], arrays["linear_weight"], arrays["target"], arrays["linear_bias"]
    assert loss(*operands, sample_weight=arrays["sample_weight"]) == value
    without = loss(*operands[:3], sample_weight=arrays["sample_weight"])
    assert without == linear_cross_entropy(**arrays | {"linear_bias": None}, weight=weight, **options)


def test_there_is_no_hessian(rng):
    assert not hasattr(linear_cross_entropy, "grad_and_hess")
    with pytest.raises(TypeError, match="linear_cross_entropy has no Hessian"):
        lossrs.LinearCrossEntropyLoss().grad_and_hess(**draw(rng, (3,), 2, 4, weighted=False))


ERRORS = [
    ({"input": np.float64(1)}, "input must have an axis of features, got a number"),
    ({"linear_weight": np.zeros(5)}, r"linear_weight has shape \(5,\); expected \(C, 5\), a row for each class"),
    ({"linear_weight": np.zeros((4, 6))}, r"linear_weight has shape \(4, 6\); expected \(C, 5\), .* shape \(2, 3, 5\)"),
    ({"linear_weight": np.zeros((0, 5))}, r"linear_weight of shape \(0, 5\) has no classes"),
    ({"linear_bias": np.zeros(5)}, r"linear_bias has shape \(5,\); expected a number for each class, \(4,\)"),
    ({"weight": np.zeros((1, 4))}, r"weight has shape \(1, 4\); expected a weight for each class, \(4,\)"),
    ({"target": np.zeros(6, int)}, r"target has shape \(6,\); expected \(2, 3\) as labels, for an input of shape"),
    (
        {"sample_weight": np.zeros(2)},
        r"sample_weight of shape \(2,\) does not broadcast to the samples' shape, \(2, 3\)",
    ),
    ({"z_loss": -1.0}, "z_loss must be at least 0, got -1"),
    ({"z_loss": np.nan}, "z_loss must be at least 0, got NaN"),
    ({"softcap": 0.0}, "softcap must be positive and finite, or None, got 0"),
    ({"softcap": np.inf}, "softcap must be positive and finite, or None, got inf"),
    ({"label_smoothing": 1.5}, r"label_smoothing must be in \[0, 1\], got 1.5"),
    ({"reduction": "batchmean"}, "reduction must be"),
]


@pytest.mark.parametrize(("change", "message"), ERRORS, ids=lambda value: value if isinstance(value, str) else "")
def test_errors(change, message, rng):
    arrays = draw(rng, (2, 3), 5, 4)
    with pytest.raises(ValueError, match=message):
        linear_cross_entropy(**arrays | change)
    with pytest.raises(ValueError, match=message):
        linear_cross_entropy.value_and_grad(**arrays | change)


def test_labels_are_checked_before_anything_is_written(rng):
    arrays = draw(rng, (2, 300), 5, 4)
    arrays["target"][1, 298] = 4
    out = tuple(np.full_like(arrays[name], 7) for name in ("input", "linear_weight", "linear_bias"))
    with pytest.raises(lossrs.LabelError, match=re.escape("label 4 at row (1, 298) is outside [0, 4)")) as raised:
        linear_cross_entropy.value_and_grad(**arrays, out=out)
    assert raised.value.row == 598
    assert all((array == 7).all() for array in out)


def test_results_may_not_share_memory_with_what_is_read(rng):
    arrays = draw(rng, (4,), 5, 4, weighted=False)
    for name, other in itertools.product(("input", "linear_weight", "linear_bias"), repeat=2):
        if arrays[name].shape == arrays[other].shape:
            with pytest.raises(ValueError, match=f"out shares memory with {other}"):
                linear_cross_entropy.value_and_grad(**arrays, wrt=name, out=arrays[other])
    room = np.zeros((4, 5))
    with pytest.raises(ValueError, match="shares memory"):
        linear_cross_entropy.value_and_grad(**arrays, wrt=("input", "linear_weight"), out=(room, room))


PROGRAM = """
import sys
from pathlib import Path
import numpy as np
import lossrs
import lossrs.functional as F

lossrs.set_num_threads(2)
dtype = {"float64": np.float64, "float32": np.float32, "float16": np.float16}[sys.argv[1]]

def calls(samples, features, classes):
    arrays = np.full((samples, features), 0.5, dtype), np.full((classes, features), 0.5, dtype)
    target, bias = np.zeros(samples, np.int32), np.zeros(classes, dtype)
    out = tuple(np.ones_like(array) for array in (*arrays, bias))
    def call():
        F.linear_cross_entropy(*arrays, target, bias)
        F.linear_cross_entropy.value_and_grad(*arrays, target, bias, z_loss=0.1, out=out)
    return call

def peak():
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) / 1024

calls(10, 10, 300)()
large = calls(1024, 8, 32768)
# Unlike `ru_maxrss`, this peak can be put back to what is in use.
Path("/proc/self/clear_refs").write_text("5")
before = peak()
large()
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from Linux's /proc")
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_extra_memory_is_bounded(dtype):
    # All logits would be 256 MiB, or 128 in single precision.
    process = subprocess.run(
        [sys.executable, "-c", PROGRAM, dtype], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=100
    )
    assert process.returncode == 0, process.stderr
    assert float(process.stdout) < 40
