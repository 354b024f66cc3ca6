"""Calls verbs of losses with anything at all, and fails at an undocumented exception.

Arguments: a seed, and how many calls.
"""

import dataclasses
import random
import signal
import sys
import warnings
from fractions import Fraction

import lossrs
import lossrs.functional as F
import ml_dtypes
import numpy as np

seed, calls = map(int, sys.argv[1:])
draw, rng = random.Random(seed), np.random.default_rng(seed)
arrays: list[np.ndarray] = []


class OwnError(Exception):
    """What an argument raises."""


class EnoughError(Exception):
    """What a signal's handler raises in a call of more elements than there is time for."""


class Raises:
    def __array__(self, *arguments, **options):
        raise OwnError


class IsNoArray:
    def __array__(self, *arguments, **options):
        return "no array"


class CallsLossrs:
    def __array__(self, *arguments, **options):
        large = np.ones(draw.choice([10, 1 << 17]), np.float32)
        return F.huber_loss(large, large, reduction="none")


class Reshapes:
    """Gives the call's other arguments, which may have been looked at, another shape."""

    def __array__(self, *arguments, **options):
        for array in arrays:
            if array.flags.c_contiguous:
                array.shape = draw.choice([array.shape[::-1], array.size])
        return np.zeros(4)


class Forged:
    @property
    def __array_interface__(self):
        return {"shape": (2**40, -1), "typestr": "<f8", "data": (0, False), "version": 3}


class Subclass(np.ndarray):
    pass


USUAL = ["f4", "f4", "f8", "f8", "f2", ml_dtypes.bfloat16, "i8", "i4", "u1", "?"]
DTYPES = [
    *np.typecodes["All"],
    *("S3", "U2", "V5", "M8[s]", "m8[D]", ">f4", ">i2", [("a", "f4"), ("b", "i8")]),
    *(ml_dtypes.bfloat16, ml_dtypes.float8_e5m2, ml_dtypes.int4),
]
FITTING = [(4,), (4, 3), (4, 3, 2), (4, 3, 2, 2)]
SHAPES = [
    *((), (1,), (4,), (4, 2), (3, 4), (0,), (0, 3), (4, 0), (1 << 16,), (1 << 14, 5)),
    *((2,) + (1,) * 63, (1,) * 62 + (2, 3), (2,) * 16),
    *((0, 1 << 40), (1 << 30, 0, 1 << 20), (1 << 40,), (1 << 30, 1 << 10), (5, 1 << 40)),
]
NUMBERS = [0, 1, -1, 0.5, 2.5, -0.0, float("nan"), float("inf"), 10**40, -(2**63), Fraction(1, 3), np.float16(3), True]
THINGS = [
    *NUMBERS,
    *(None, "mean", "sum", "", b"x", "\ud800", 1j, {}, {1: 2}, set(), (), [], [[]], [1, [2]], [None], range(4), ...),
    *(object(), len, slice(3), bytearray(32), memoryview(b"12345678"), np.ma.ones(4), F, Raises),
    *(3 * [Raises(), IsNoArray(), CallsLossrs(), Reshapes(), Forged()]),
]
DISTRIBUTIONS = [rng.random, rng.standard_cauchy, lambda shape: rng.integers(0, 3, shape)]


def array(like=None):
    shape = draw.choice(FITTING if draw.random() < 0.7 else SHAPES)
    dtype = np.dtype(draw.choice(USUAL if draw.random() < 0.9 else DTYPES))
    if isinstance(like, np.ndarray):
        if draw.random() < 0.8:
            shape = like.shape if draw.random() < 0.6 else like.shape[:1] + like.shape[2:]
        if draw.random() < 0.5:
            dtype = like.dtype
    if np.prod(shape, dtype=object) > 1 << 20:
        return np.broadcast_to(np.ones((), dtype), shape)
    try:
        made = draw.choice(DISTRIBUTIONS)(shape).astype(dtype)
    except (TypeError, ValueError):
        made = np.zeros(shape, dtype)
    match draw.randrange(16):
        case 0:
            made = np.asfortranarray(made)
        case 1 if made.ndim:
            made = np.repeat(made, 2, -1)[..., ::2]
        case 2 if made.ndim:
            made = made[::-1]
        case 3:
            made.flags.writeable = False
        case 4 if made.dtype.itemsize and not made.dtype.hasobject:
            made = np.frombuffer(b"x" + made.tobytes(), made.dtype, made.size, 1).reshape(made.shape)
        case 5:
            made = made.view(Subclass)
        case 6 if made.size:
            made = np.broadcast_to(made[(0,) * made.ndim], made.shape)
        case 7 if 0 < made.size < 100:
            made = made.tolist()
    return made


def thing(like=None):
    return array(like) if draw.random() < 0.95 else draw.choice(THINGS)


KERNELS = [cls()._kernel for cls in lossrs.losses.values()]


def option(name, input):
    if name == "reduction":
        return draw.choice(["none"] * 5 + ["sum", "mean"]) if draw.random() < 0.9 else draw.choice(THINGS)
    if name == "out":
        pair = draw.choice([(thing(input), thing(input)), (input, input), (np.empty_like(input), np.empty_like(input))])
        return draw.choice([input, thing(input), pair, pair, (pair, (thing(input), thing(input)))])
    if name == "wrt":
        inputs = [*draw.choice(KERNELS).inputs, draw.choice(THINGS)]
        return draw.choice([draw.choice(inputs), tuple(inputs[:-1]), tuple(inputs[1:]), inputs])
    return thing(input) if "weight" in name else draw.choice(NUMBERS if draw.random() < 0.7 else THINGS)


def is_large(*arguments):
    return any(isinstance(argument, np.ndarray) and argument.size > 1 << 20 for argument in arguments)


def sum_up(input, *others, **options):
    total = lossrs.ExactSum()
    total.add(input)
    total.merge(total)
    state = bytearray(total.to_bytes())
    state[draw.randrange(len(state))] = draw.randrange(256)
    repr(lossrs.ExactSum.from_bytes(bytes(state[: draw.choice([None, 9, len(state) - 1])])))
    total.merge(draw.choice(THINGS))


def call():
    name = draw.choice(F.__all__)
    kernel = lossrs.losses[name]()._kernel
    verb = draw.choice(["value", "value_and_grad", "backward", *["grad_and_hess"] * kernel.has_hessian])
    fields = {field.name for field in dataclasses.fields(lossrs.losses[name])}
    input = thing()
    arguments = [*([thing(input)] if verb == "backward" else []), input, *(thing(input) for _ in kernel.operands[1:])]
    likely = {"reduction": 0.6, "nonsense": 0.02}
    several = {"wrt"} if len(kernel.inputs) > 1 and verb != "value" else set()
    names = sorted(fields | {"sample_weight", "out", "nonsense"} | several)
    options = {name: option(name, input) for name in names if draw.random() < likely.get(name, 0.12)}
    arrays[:] = [argument for argument in arguments if isinstance(argument, np.ndarray)]
    of = getattr(F, name)
    if draw.random() < 0.05:
        of, verb = sum_up, "value"
    elif draw.random() < 0.2 and not is_large(*options.values()):
        of = lossrs.losses[name](**{name: options.pop(name) for name in fields & {*options}})
    try:
        if is_large(*arguments):
            signal.setitimer(signal.ITIMER_REAL, 0.03)
        (of if verb == "value" else getattr(of, verb))(*arguments, **options)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def enough(number, frame):
    raise EnoughError


warnings.simplefilter("ignore")
signal.signal(signal.SIGALRM, enough)
outcomes: dict[str, int] = {}
for i in range(calls):
    try:
        call()
        outcome = "returned"
    except (TypeError, ValueError, MemoryError, OwnError, EnoughError) as error:
        outcome = type(error).__name__
    except BaseException:
        print(f"call {i} of seed {seed}: arrays {[(array.dtype, array.shape, array.strides) for array in arrays]}")
        raise
    outcomes[outcome] = outcomes.get(outcome, 0) + 1
print(outcomes)
documented = {"TypeError", "ValueError", "LabelError", "DomainError", "MemoryError", "OwnError", "EnoughError"}
assert outcomes.keys() == documented | {"returned"}
assert outcomes["returned"] > calls / 10
