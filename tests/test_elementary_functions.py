"""The elementary functions against MPFR, and against NumPy's validation sets.

``python tests/test_elementary_functions.py 400000`` prints the float64 table of ``docs/accuracy.md``, from that many
inputs of each kind.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path

import gmpy2
import numpy as np
import pytest
from gmpy2 import mpfr
from lossrs._lossrs import elementary

gmpy2.get_context().precision = 200

FLOAT64_MIN_EXPONENT = -1021  # of the smallest normal number, as frexp counts


def softplus(x: mpfr) -> mpfr:
    """ln(1 + e^x) without overflow."""
    return (x if x > 0 else mpfr(0)) + gmpy2.log1p(gmpy2.exp(-abs(x)))


def sigmoid(x: mpfr) -> mpfr:
    """1/(1 + e^-x) without overflow."""
    return 1 / (1 + gmpy2.exp(-x)) if x > 0 else gmpy2.exp(x) / (1 + gmpy2.exp(x))


REFERENCE: dict[str, Callable[..., mpfr]] = {
    "exp": gmpy2.exp,
    "exp_nonpositive": gmpy2.exp,
    "exp_m1": gmpy2.expm1,
    "ln": gmpy2.log,
    "ln_1p": gmpy2.log1p,
    "ln_1p_fraction": gmpy2.log1p,
    "tanh": gmpy2.tanh,
    "sigmoid": sigmoid,
    "softplus": softplus,
    "log_sigmoid": lambda x: -softplus(-x),
    "pow": lambda x, y: x**y,
}
# Where a function's result is neither 0, 1, infinite nor its argument.
INTERESTING = {
    "exp": (-745.2, 709.8),
    "exp_nonpositive": (-745.2, 0.0),
    "exp_m1": (-40.0, 709.8),
    "ln": (0.0, 40.0),
    "ln_1p": (-1.0, 40.0),
    "ln_1p_fraction": (0.0, 1.0),
    "tanh": (-20.0, 20.0),
    "sigmoid": (-745.2, 40.0),
    "softplus": (-745.2, 40.0),
    "log_sigmoid": (-40.0, 745.2),
}
NUMPY_NAMES = {"exp": "exp", "expm1": "exp_m1", "log": "ln", "log1p": "ln_1p", "tanh": "tanh"}


def any_bits(rng: np.random.Generator, n: int) -> np.ndarray:
    """Every sign and exponent alike, subnormal numbers included; no infinity, no NaN."""
    x = rng.integers(0, 2**64, n, dtype=np.uint64).view(np.float64)
    return np.where(np.isfinite(x), x, 1.0)


def near(rng: np.random.Generator, points: np.ndarray, n: int) -> np.ndarray:
    """Numbers within a hundred units of the last place of some of the points."""
    return (rng.choice(points, n).view(np.int64) + rng.integers(-100, 101, n)).view(np.float64)


def arguments(name: str, n: int, seed: int) -> np.ndarray:
    """Arguments of a function of one argument: n each of five kinds, without those outside its domain."""
    rng = np.random.default_rng(seed)
    low, high = INTERESTING[name]
    halves = np.arange(-2150, 2050) * (math.log(2) / 2)  # where the exponential's reduction turns over
    powers = np.ldexp(1.0, np.arange(-1074, 1024))
    roots = np.ldexp(math.sqrt(2), np.arange(-1022, 1023))  # where the logarithm's does
    x = np.concatenate(
        [
            any_bits(rng, n),
            rng.uniform(low, high, n),
            rng.uniform(max(low, -2.0), min(high, 2.0), n),
            np.copysign(np.ldexp(rng.uniform(1, 2, n), rng.integers(-60, 8, n)), rng.uniform(-1, 1, n)),
            near(rng, np.concatenate([halves, powers, roots, roots - 1, 1 - powers, powers - 1, [low, high]]), n),
        ]
    )
    domain = {"exp_nonpositive": x <= 0, "ln": x > 0, "ln_1p": x > -1, "ln_1p_fraction": (x >= 0) & (x <= 1)}
    return np.asarray(x[domain.get(name, np.isfinite(x)) & np.isfinite(x)])


def pairs(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Arguments of x^y: x of any exponent and close to 1, y that spreads the result over the format, or whole."""
    rng = np.random.default_rng(seed)
    close = 1 + np.copysign(np.ldexp(rng.uniform(1, 2, n), -rng.integers(2, 53, n)), rng.uniform(-1, 1, n))
    x = np.concatenate([np.abs(any_bits(rng, n)), close, rng.uniform(0, 1, n), rng.uniform(-20, 20, n)])
    with np.errstate(divide="ignore", over="ignore"):
        spread = rng.uniform(-746, 710, 2 * n) / np.log(x[: 2 * n])
    whole = rng.integers(-60, 61, n).astype(np.float64)
    y = np.concatenate([spread, rng.uniform(-5, 5, n), whole])
    fine = np.isfinite(x) & np.isfinite(y) & (x != 0)
    return x[fine], y[fine]


def ulps(got: float, want: mpfr) -> float:
    """|got - want| in units of the last place of want; a result that overflows counts as 2^1024."""
    if math.isnan(got):
        return math.inf
    if want == 0 or gmpy2.is_infinite(want):  # beyond MPFR's own exponents
        return 0.0 if got == want else math.inf
    if gmpy2.get_exp(want) > 1024:
        return 0.0 if got == math.copysign(math.inf, want) else math.inf
    exact = mpfr(got) if math.isfinite(got) else gmpy2.mul_2exp(mpfr(math.copysign(1, got)), 1024)
    exponent = max(gmpy2.get_exp(want), FLOAT64_MIN_EXPONENT)
    return float(gmpy2.mul_2exp(abs(exact - want), 53 - exponent))


def worst(name: str, n: int, seed: int) -> tuple[float, tuple[float, ...], int]:
    """Return a function's largest error in ULP, where it is, and how many arguments were tried."""
    arrays = pairs(n, seed) if name == "pow" else (arguments(name, n, seed),)
    got = elementary(name, *arrays)
    reference = REFERENCE[name]
    largest, where = 0.0, tuple(float(array[0]) for array in arrays)
    for value, *at in zip(got.tolist(), *(array.tolist() for array in arrays), strict=True):
        error = ulps(value, reference(*map(mpfr, at)))
        if error > largest:
            largest, where = error, tuple(at)
    return largest, where, len(got)


@pytest.mark.parametrize("name", REFERENCE)
def test_float64_is_within_its_bound_of_mpfr(name: str) -> None:
    """Every function, on every kind of argument."""
    largest, where, _ = worst(name, 4000, seed=20260101)
    assert largest < (1.1 if name == "ln_1p_fraction" else 1), f"{name} is {largest} ULP off at {where}"


def validation_set(numpy_name: str, dtype: type[np.floating]) -> tuple[np.ndarray, np.ndarray]:
    """Return the arguments and correctly rounded results that NumPy holds its own functions to."""
    path = next(Path(np.__file__).parent.glob(f"*core/tests/data/umath-validation-set-{numpy_name}.csv"))
    rows = [line.split(",") for line in path.read_text().splitlines() if line.startswith(f"np.{dtype.__name__},")]
    bits = np.array([[int(x, 16), int(y, 16)] for _, x, y, _ in rows], np.uint32 if dtype is np.float32 else np.uint64)
    x, y = np.ascontiguousarray(bits.T).view(dtype)
    return x, y


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("numpy_name", NUMPY_NAMES)
def test_numpys_validation_set(numpy_name: str, dtype: type[np.floating]) -> None:
    """Within 1 ULP of the truth is at most the next number to the correctly rounded one: NumPy's sets allow 1 to 4."""
    x, expected = validation_set(numpy_name, dtype)
    assert len(x) > 100
    got = elementary(NUMPY_NAMES[numpy_name], x)
    neighbour = (got == np.nextafter(expected, dtype(-np.inf))) | (got == np.nextafter(expected, dtype(np.inf)))
    met = (got == expected) | neighbour | (np.isnan(got) & np.isnan(expected))
    assert met.all(), f"at {x[~met][:5]}: {got[~met][:5]}, not {expected[~met][:5]}"
    zero = expected == 0
    assert np.array_equal(np.signbit(got[zero]), np.signbit(expected[zero]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_array_is_its_elements(dtype: type[np.floating]) -> None:
    """The same bits alone as in an array."""
    x = np.linspace(-30, 30, 1001, dtype=dtype)
    for name in REFERENCE.keys() - {"pow"}:
        alone = np.concatenate([elementary(name, x[i : i + 1]) for i in range(len(x))])
        np.testing.assert_array_equal(elementary(name, x).view(np.uint8), alone.view(np.uint8))


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 4000
    for function in REFERENCE:
        error, at, tried = worst(function, count, seed=1)
        print(
            f"| `{function}` | f64 | {error:.4f} | {', '.join(f'{x!r} ({x.hex()})' for x in at)} | {tried} |",
            flush=True,
        )
