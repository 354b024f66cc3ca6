//! e^x and e^x − 1.

use super::{Real, pair::Pair, polynomial};

/// e^x, within 1 ULP for every x.
///
/// 1. Reduce: n = round(x/ln 2), r = x − n·ln 2 with ln 2 in two parts (Cody and Waite). n is rounded by adding a number so
///    large that only whole ones are left.
/// 2. e^r = 1 + r(1 + r(½ + r·q(r))), |r| ≤ ½ ln 2.
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
    // A NaN's bits are changed by the scaling, so it is added again: additions are what processors have more to spare of
    // than multiplications.
    exp_reduced(n, r).times_raised_power_of_two(rounded).mul_add(T::LOWER, n.zero_or_nan())
}

/// (m, n) with e^x = m·2^n, where x·log₂ e is far from what cannot be rounded: m within 1 ULP.
#[inline(always)]
pub(super) fn exp_parts<T: Real>(x: T) -> (T, T) {
    let (n, r, _) = reduce(x, T::ROUND);
    (exp_reduced(n, r), n)
}

/// e^x − 1, within 1 ULP for every x: of e^x as a pair, so that what the subtraction cancels is still there.
#[inline(always)]
pub(super) fn exp_m1<T: Real>(x: T) -> T {
    let exponential = exp_pair(Pair::exact(x));
    let y = exponential.add(-T::ONE).value().copysign(x);
    // Beside infinity, the low part is NaN.
    if exponential.high < T::INFINITY { y } else { exponential.high }
}

/// e^x for x ≤ 0, as a pair.
#[inline(always)]
pub(super) fn exp_nonpositive_pair<T: Real>(x: T) -> Pair<T> {
    let x = if x < T::EXP_RANGE.0 { T::EXP_RANGE.0 } else { x };
    let (n, r, rounded) = reduce(x, T::ROUND_RAISED);
    exp_reduced_pair(n, Pair::exact(r)).scale(T::ONE.times_raised_power_of_two(rounded)).scale(T::LOWER)
}

/// e^x as a pair.
#[inline(always)]
pub(super) fn exp_pair<T: Real>(x: Pair<T>) -> Pair<T> {
    let (n, r, rounded) = reduce(x.high.clamp(T::EXP_RANGE.0, T::EXP_RANGE.1), T::ROUND);
    let (left, right) = T::powers_of_two(rounded);
    exp_reduced_pair(n, Pair { high: r, low: x.low }).scale(left).scale(right)
}

/// e^x − 1 for x ≤ 0, as a normal pair.
#[inline(always)]
pub(super) fn exp_m1_pair<T: Real>(x: T) -> Pair<T> {
    let y = exp_nonpositive_pair(x).add(-T::ONE);
    Pair::ordered_sum(y.high, y.low)
}

/// (n, x − n·ln 2 but for ln 2's low part, n + round), n = round(x/ln 2). The middle one is exact: no more than p bits of the
/// product survive the subtraction.
#[inline(always)]
fn reduce<T: Real>(x: T, round: T) -> (T, T, T) {
    let rounded = x.mul_add(T::LOG2_E, round);
    let n = rounded - round;
    (n, (-n).mul_add(T::LN_2.0, x), rounded)
}

/// e^(r − n·(ln 2's low part)), within 0.91 ULP.
#[inline(always)]
fn exp_reduced<T: Real>(n: T, r: T) -> T {
    let r = (-n).mul_add(T::LN_2.1, r);
    polynomial(r, T::EXP).mul_add(r, T::of(0.5)).mul_add(r, T::ONE).mul_add(r, T::ONE)
}

/// The same as a normal pair, of an r that is one itself. Its error is some hundredths of the high part's ULP, so that even
/// e^x − 1 at its worst, 0.35, stands it.
#[inline(always)]
fn exp_reduced_pair<T: Real>(n: T, r: Pair<T>) -> Pair<T> {
    let Pair { high: r, low } = Pair::ordered_sum(r.high, (-n).mul_add(T::LN_2.1, r.low));
    let linear = Pair::ordered_sum(T::ONE, r);
    let square = (T::of(0.5) * r).mul_add(r, low * linear.high);
    let rest = (r * r * r).mul_add(polynomial(r, T::EXP_PAIR), square);
    Pair::ordered_sum(linear.high, linear.low + rest)
}
