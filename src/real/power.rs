//! x^y.

use super::{Real, exponential::exp_pair, pair::Pair, polynomial};

/// x^y, within 1 ULP for every pair, with the special values of C's `pow`.
///
/// 1. ln|x| as a pair, good to some 12 bits more than the format's p: the absolute error of y·ln|x|, which reaches into the
///    hundreds, is the relative error of the result.
/// 2. |x|^y = e^(y·ln|x|).
/// 3. The sign, from y's parity; NaN for a negative x and a y that is not whole.
/// 4. 1, whatever NaN says, for x = 1 or y = 0.
#[inline(always)]
pub(super) fn pow<T: Real>(x: T, y: T) -> T {
    let magnitude = x.abs();
    let exponent = ln_pair(magnitude).times(Pair::exact(y));
    // Outside, the low part may be anything, and does not matter.
    let inside = exponent.high > T::EXP_RANGE.0 && exponent.high < T::EXP_RANGE.1;
    let power = exp_pair(Pair { low: if inside { exponent.low } else { T::ZERO }, ..exponent }).high;

    let odd = is_whole(y) && !is_whole(y * T::of(0.5));
    let signed = if odd { power.copysign(x) } else { power };
    let real = if x < T::ZERO && magnitude < T::INFINITY && !is_whole(y) { T::NAN } else { signed };
    if x == T::ONE || y == T::ZERO || (magnitude == T::ONE && y.abs() == T::INFINITY) { T::ONE } else { real }
}

/// ln x as a pair, for x ≥ 0.
///
/// ln m = 2·artanh(s/2) = s + s³(1/12 + s²·w(s²)) with s = 2(m − 1)/(m + 1): the first two terms as pairs.
#[inline(always)]
fn ln_pair<T: Real>(x: T) -> Pair<T> {
    let (y, shift) = x.normalize();
    let (m, e, _) = y.split();
    let numerator = Pair::exact(T::of(2.0) * (m - T::ONE));
    let s = numerator.divide(Pair::ordered_sum(T::ONE, m));
    let square = s.times(s);
    let tail = square.high * polynomial(square.high, T::LN_TAIL);
    let curve = Pair::ordered_sum(T::TWELFTH.0, tail).nudge(T::TWELFTH.1).times(square).times(s);
    let ln_m = Pair::ordered_sum(s.high, curve.high).nudge(s.low + curve.low);
    let ln_2 = Pair { high: T::LN_2.0, low: T::LN_2.1 }.times(Pair::exact(e - shift));
    let sum = Pair::ordered_sum(ln_2.high, ln_m.high).nudge(ln_2.low + ln_m.low);
    let high = if x == T::ZERO { -T::INFINITY } else { sum.high };
    Pair { high: if x < T::INFINITY { high } else { x }, ..sum }
}

/// Whether y is a whole number. Infinity is, and even.
#[inline(always)]
fn is_whole<T: Real>(y: T) -> bool {
    let y = y.abs();
    (y + T::WHOLE) - T::WHOLE == y || y >= T::WHOLE
}
