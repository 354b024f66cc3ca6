//! e^x and e^x − 1.

use super::{Real, pair::Pair, polynomial};

/// e^x, within 1 ULP for every x.
///
/// 1. Reduce: n = round(x/ln 2), r = x − n·ln 2 with ln 2 in two parts (Cody and Waite). n is rounded by adding a number so
///    large that only whole ones are left.
/// 2. e^r = 1 + r(1 + r·q(r)), |r| ≤ ½ ln 2.
/// 3. Scale by 2^n in two factors, so that n may reach past either end of the format; a subnormal result is rounded once.
#[inline(always)]
pub(super) fn exp<T: Real>(x: T) -> T {
    let (n, r, rounded) = reduce(x.clamp(T::EXP_RANGE.0, T::EXP_RANGE.1), T::ROUND);
    let (left, right) = T::powers_of_two(rounded);
    exp_reduced(n, r) * left * right
}

/// e^x for x ≤ 0, within 1 ULP: cheaper, as it can't overflow.
#[inline(always)]
pub(super) fn exp_nonpositive<T: Real>(x: T) -> T {
    let x = if x < T::EXP_RANGE.0 { T::EXP_RANGE.0 } else { x };
    let (n, r, rounded) = reduce(x, T::ROUND_RAISED);
    exp_reduced(n, r) * T::raised_power_of_two(rounded) * T::LOWER
}

/// e^x for x ≤ 0, as a pair.
#[inline(always)]
pub(super) fn exp_nonpositive_pair<T: Real>(x: T) -> Pair<T> {
    let x = if x < T::EXP_RANGE.0 { T::EXP_RANGE.0 } else { x };
    let (n, r, rounded) = reduce(x, T::ROUND_RAISED);
    exp_reduced_pair(n, Pair { high: r, low: T::ZERO }).scale(T::raised_power_of_two(rounded)).scale(T::LOWER)
}

/// e^x as a pair.
#[inline(always)]
pub(super) fn exp_pair<T: Real>(x: Pair<T>) -> Pair<T> {
    let (n, r, rounded) = reduce(x.high.clamp(T::EXP_RANGE.0, T::EXP_RANGE.1), T::ROUND);
    let (left, right) = T::powers_of_two(rounded);
    exp_reduced_pair(n, Pair { high: r, low: x.low }).scale(left).scale(right)
}

/// (n, x − n·ln 2, n + round). The product is exact: subtracting it cancels all but the last p bits.
#[inline(always)]
fn reduce<T: Real>(x: T, round: T) -> (T, T, T) {
    let rounded = x.mul_add(T::LOG2_E, round);
    let n = rounded - round;
    (n, (-n).mul_add(T::LN_2.0, x), rounded)
}

/// e^(r − n·ln 2's low part), for a short r.
#[inline(always)]
fn exp_reduced<T: Real>(n: T, r: T) -> T {
    let r = (-n).mul_add(T::LN_2.1, r);
    polynomial(r, T::EXP).mul_add(r, T::ONE).mul_add(r, T::ONE)
}

/// The same as a normal pair, within 0.2 ULP.
#[inline(always)]
fn exp_reduced_pair<T: Real>(n: T, r: Pair<T>) -> Pair<T> {
    let linear = Pair::ordered_sum(T::ONE, r.high);
    let low = (-n).mul_add(T::LN_2.1, r.low);
    let short = r.high + low;
    let rest = (short * short).mul_add(polynomial(short, T::EXP), low);
    Pair::ordered_sum(linear.high, linear.low + rest)
}

/// e^x − 1, within 1 ULP for every x.
///
/// e^x as a pair, so that what the subtraction cancels is still there. Where e^x overflows, it is the result.
#[inline(always)]
pub(super) fn exp_m1<T: Real>(x: T) -> T {
    let exponential = exp_pair(Pair { high: x, low: T::ZERO });
    let y = exponential.add(-T::ONE).value().copysign(x);
    if exponential.high < T::INFINITY { y } else { exponential.high }
}

/// e^x − 1 as a pair, for x ≤ 0.
#[inline(always)]
pub(super) fn exp_m1_pair<T: Real>(x: T) -> Pair<T> {
    let y = exp_nonpositive_pair(x).add(-T::ONE);
    Pair::ordered_sum(y.high, y.low)
}
