//! ln x and ln(1 + x).

use super::{Real, pair::Pair, polynomial};

/// ln x, within 1 ULP for every x.
///
/// 1. x = m·2^e with √½ ≤ m < √2, so that ln x = e·ln 2 + ln(1 + f), f = m − 1 exactly.
/// 2. ln(1 + f) = f + f²·u(f).
/// 3. e·ln 2 + f is summed without error, since for e = ±1 it cancels.
#[inline(always)]
pub(super) fn ln<T: Real>(x: T) -> T {
    let (y, shift) = x.normalize();
    let (m, e, _) = y.split();
    let y = ln_reduced(e - shift, m - T::ONE, T::ZERO, T::ZERO).value();
    let y = if x < T::INFINITY { y } else { x };
    let outside = if x == T::ZERO { -T::INFINITY } else { T::NAN };
    if x <= T::ZERO { outside } else { y }
}

/// ln(1 + x), within 1 ULP for every x.
///
/// As [`ln`] of u = 1 + x, where what u's rounding lost goes into f (Goldberg).
#[inline(always)]
pub(super) fn ln_1p<T: Real>(x: T) -> T {
    let u = Pair::sum(T::ONE, x);
    let (m, e, twice_shrink) = u.high.split();
    let y = ln_reduced(e, m - T::ONE, u.low * twice_shrink * T::of(0.5), T::ZERO).value().copysign(x);
    let y = if x < T::INFINITY { y } else { x };
    let outside = if x == -T::ONE { -T::INFINITY } else { T::NAN };
    if x <= -T::ONE { outside } else { y }
}

/// ln(1 + t) as a pair, for 0 ≤ t ≤ 1.
#[inline(always)]
pub(super) fn ln_1p_unit<T: Real>(t: Pair<T>) -> Pair<T> {
    let u = Pair::ordered_sum(T::ONE, t.high);
    let half = T::of(0.5);
    let upper = u.high > T::of(std::f64::consts::SQRT_2);
    let e = if upper { T::ONE } else { T::ZERO };
    let scale = if upper { half } else { T::ONE };
    ln_reduced(e, u.high.mul_add(scale, -T::ONE), u.low * scale, t.low * scale)
}

/// e·ln 2 + ln(1 + f + g + h), where g is below f's last place and h below g's.
#[inline(always)]
fn ln_reduced<T: Real>(e: T, f: T, g: T, h: T) -> Pair<T> {
    let high = e.mul_add(T::LN_2.0, f);
    let lost = f - (-e).mul_add(T::LN_2.0, high);
    let short = f + g;
    let rest = (short * short).mul_add(polynomial(short, T::LN), e.mul_add(T::LN_2.1, h));
    Pair::ordered_sum(high, (lost + g) + rest)
}
