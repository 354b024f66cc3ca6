//! The logistic function and its kin: softplus, sigmoid, tanh.
//!
//! Each takes one exponential, as a pair, and one division.

use super::{
    Real,
    exponential::{exp_m1_pair, exp_nonpositive_pair},
    pair::Pair,
    polynomial,
};

/// ln(1 + e^x), within 1 ULP for every x: max(x, 0) + ln(1 + t) with t = e^−|x|.
///
/// ln(1 + t) = 2·artanh(s/2) = s + s³·w(s²) with s = 2t/(2 + t), a pair since it is most of the sum.
#[inline(always)]
pub(super) fn softplus<T: Real>(x: T) -> T {
    let t = exp_nonpositive_pair(-x.abs());
    let two = T::of(2.0);
    let s = t.scale(two).divide(Pair::ordered_sum(two, t.high).nudge(t.low));
    let square = s.high * s.high;
    let curve = (square * s.high).mul_add(polynomial(square, T::LN_1P), s.low);
    // `max` in this order lets a NaN through.
    let y = Pair { high: s.high, low: curve }.add(T::ZERO.max(x)).value();
    if x < T::INFINITY { y } else { x }
}

/// 1/(1 + e^−x), within 1 ULP for every x: with t = e^−|x|, 1/(1 + t) for x ≥ 0 and t/(1 + t) below.
#[inline(always)]
pub(super) fn sigmoid<T: Real>(x: T) -> T {
    let t = exp_nonpositive_pair(-x.abs());
    let numerator = if x < T::ZERO { t } else { Pair::exact(T::ONE) };
    numerator.divide(Pair::ordered_sum(T::ONE, t.high).nudge(t.low)).value()
}

/// The hyperbolic tangent, within 1 ULP for every x.
///
/// tanh|x| = −d/(2 + d) with d = e^(−2|x|) − 1.
#[inline(always)]
pub(super) fn tanh<T: Real>(x: T) -> T {
    let d = exp_m1_pair(x.abs() * T::of(-2.0));
    d.divide(Pair::ordered_sum(T::of(2.0), d.high).nudge(d.low)).value().copysign(x)
}
