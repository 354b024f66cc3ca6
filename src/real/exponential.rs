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
    let (r, rounded) = reduce(x.clamp(T::EXP_RANGE.0, T::EXP_RANGE.1), T::ROUND);
    let r = r.value();
    let (left, right) = T::powers_of_two(rounded);
    polynomial(r, T::EXP).mul_add(r, T::ONE).mul_add(r, T::ONE) * left * right
}

/// e^x for x ≤ 0, within 1 ULP: cheaper, as it can't overflow.
#[inline(always)]
pub(super) fn exp_nonpositive<T: Real>(x: T) -> T {
    let x = if x < T::EXP_RANGE.0 { T::EXP_RANGE.0 } else { x };
    let (r, rounded) = reduce(x, T::ROUND_RAISED);
    let r = r.value();
    polynomial(r, T::EXP).mul_add(r, T::ONE).mul_add(r, T::ONE) * T::power_of_two(rounded) * T::LOWER
}

/// e^x for x ≤ 0, as a pair.
#[inline(always)]
pub(super) fn exp_nonpositive_pair<T: Real>(x: T) -> Pair<T> {
    let x = if x < T::EXP_RANGE.0 { T::EXP_RANGE.0 } else { x };
    let (r, rounded) = reduce(x, T::ROUND_RAISED);
    exp_reduced(r).scale(T::power_of_two(rounded)).scale(T::LOWER)
}

/// e^x as a pair, within 0.2 ULP.
#[inline(always)]
fn exp_pair<T: Real>(x: T) -> Pair<T> {
    let (r, rounded) = reduce(x.clamp(T::EXP_RANGE.0, T::EXP_RANGE.1), T::ROUND);
    let (left, right) = T::powers_of_two(rounded);
    exp_reduced(r).scale(left).scale(right)
}

/// x = n·ln 2 + r as (r, n + round).
#[inline(always)]
fn reduce<T: Real>(x: T, round: T) -> (Pair<T>, T) {
    let rounded = x.mul_add(T::LOG2_E, round);
    let n = rounded - round;
    // The first product is exact: it cancels all but the last p bits.
    (Pair { high: (-n).mul_add(T::LN_2.0, x), low: -n * T::LN_2.1 }, rounded)
}

/// e^r as a normal pair.
#[inline(always)]
fn exp_reduced<T: Real>(r: Pair<T>) -> Pair<T> {
    let linear = Pair::ordered_sum(T::ONE, r.high);
    let short = r.value();
    let rest = (short * short).mul_add(polynomial(short, T::EXP), r.low);
    Pair::ordered_sum(linear.high, linear.low + rest)
}

/// e^x − 1, within 1 ULP for every x.
///
/// e^x as a pair, so that what the subtraction cancels is still there. Where e^x overflows, it is the result.
#[inline(always)]
pub(super) fn exp_m1<T: Real>(x: T) -> T {
    let exponential = exp_pair(x);
    let y = exponential.add(-T::ONE).value().copysign(x);
    if exponential.high < T::INFINITY { y } else { exponential.high }
}

/// e^x − 1 as a pair, for x ≤ 0.
#[inline(always)]
pub(super) fn exp_m1_pair<T: Real>(x: T) -> Pair<T> {
    let y = exp_nonpositive_pair(x).add(-T::ONE);
    Pair::ordered_sum(y.high, y.low)
}
