//! The logistic function and its kin: sigmoid, softplus, tanh.

use super::{
    Real,
    exponential::{exp_m1_pair, exp_pair},
    logarithm::ln_1p_unit,
    pair::Pair,
};

/// (ln(1 + e^x), 1/(1 + e^−x)), each within 1 ULP for every x.
///
/// 1. t = e^−|x|, a pair.
/// 2. softplus = max(x, 0) + ln(1 + t).
/// 3. sigmoid = 1/(1 + t) for x ≥ 0, else t/(1 + t).
#[inline(always)]
pub(super) fn softplus_and_sigmoid<T: Real>(x: T) -> (T, T) {
    let t = exp_pair(-x.abs());
    let softplus = ln_1p_unit(t).add(if x < T::ZERO { T::ZERO } else { x }).value();
    let one = Pair { high: T::ONE, low: T::ZERO };
    let numerator = if x < T::ZERO { t } else { one };
    let denominator = Pair::ordered_sum(T::ONE, t.high);
    let sigmoid = numerator.divide(Pair { high: denominator.high, low: denominator.low + t.low }).value();
    (softplus, sigmoid)
}

/// The hyperbolic tangent, within 1 ULP for every x.
///
/// tanh|x| = −d/(2 + d) with d = e^(−2|x|) − 1.
#[inline(always)]
pub(super) fn tanh<T: Real>(x: T) -> T {
    let d = exp_m1_pair(x.abs() * T::of(-2.0));
    let denominator = Pair::ordered_sum(T::of(2.0), d.high);
    let denominator = Pair { high: denominator.high, low: denominator.low + d.low };
    Pair { high: -d.high, low: -d.low }.divide(denominator).value().copysign(x)
}
