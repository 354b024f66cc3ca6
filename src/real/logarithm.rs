//! ln x and ln(1 + x).

use super::{Real, pair::Pair, polynomial};

/// ln x, within 1 ULP for every x.
///
/// 1. x = m·2^e with √½ ≤ m < √2, so that ln x = e·ln 2 + ln(1 + f), where f = m − 1 is exact.
/// 2. ln(1 + f) = 2·artanh s = 2s + s³·w(s²) with s = f/(2 + f). But 2s = f − h + s·h with h = f²/2: so most of it is exact,
///    and s's rounding falls on small terms only (as in Sun's fdlibm).
/// 3. e·ln 2 + f as a pair, since for e = ±1 it may cancel.
#[inline(always)]
pub(super) fn ln<T: Real>(x: T) -> T {
    let (y, shift) = x.normalize();
    let (m, e, _) = y.split();
    let y = ln_reduced(e - shift, m - T::ONE, T::ZERO);
    let y = if x < T::INFINITY { y } else { x };
    let outside = if x == T::ZERO { -T::INFINITY } else { T::NAN };
    if x <= T::ZERO { outside } else { y }
}

/// ln(1 + x), within 1 ULP for every x.
///
/// As [`ln`], of u = 1 + x, whose rounding error is kept and scaled beside f.
#[inline(always)]
pub(super) fn ln_1p<T: Real>(x: T) -> T {
    let u = Pair::sum(T::ONE, x);
    let (m, e, twice_reciprocal) = u.high.split();
    let y = ln_reduced(e, m - T::ONE, u.low * twice_reciprocal * T::of(0.5)).copysign(x);
    let y = if x < T::INFINITY { y } else { x };
    let outside = if x == -T::ONE { -T::INFINITY } else { T::NAN };
    if x <= -T::ONE { outside } else { y }
}

/// ln(1 + x) for 0 ≤ x ≤ 1, within 1.1 ULP: x + x²·q(x), without the division and the pairs of [`ln_1p`].
///
/// q's last step stands alone, so that it is rounded once: near 1, where x²·q(x) is −0.3, its error shows. The others are by pairs of
/// terms (Estrin), which round less often than Horner's rule: that is 0.17 ULP further off.
#[inline(always)]
pub(super) fn ln_1p_fraction<T: Real>(x: T) -> T {
    let (square, (first, rest)) = (x * x, (T::LN_1P_FRACTION[0], &T::LN_1P_FRACTION[1..]));
    let pairs = rest.chunks(2).rev().map(|pair| if let [a, b] = *pair { b.mul_add(x, a) } else { pair[0] });
    let rest = pairs.reduce(|sum, pair| sum.mul_add(square, pair)).unwrap_or(T::ZERO);
    square.mul_add(rest.mul_add(x, first), x)
}

/// e·ln 2 + ln(1 + f + g), where g is below f's last place.
#[inline(always)]
fn ln_reduced<T: Real>(e: T, f: T, g: T) -> T {
    let high = e.mul_add(T::LN_2.0, f);
    let lost = f - (-e).mul_add(T::LN_2.0, high);
    let short = f + g;
    let half = T::of(0.5) * short;
    let h = half * short;
    let s = half / (T::ONE + half);
    let square = s * s;
    let rest = s.mul_add(square.mul_add(polynomial(square, T::LN), h), e * T::LN_2.1) - h;
    high + ((lost + g) + rest)
}
