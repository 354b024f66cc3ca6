//! `Real`: the arithmetic that a loss's formula is written in.
//!
//! A formula is generic over `T: Real` and is compiled for `f32` and `f64`, once per instruction set. Everything here is
//! branch-free and built from IEEE operations and explicit `mul_add`, which Rust neither reassociates nor contracts, so a
//! formula has one meaning, to the bit, on every machine.

mod exponential;
mod format;
mod logarithm;
mod logistic;
mod pair;
mod power;
mod scaled;

pub use scaled::Scaled;

use format::Format;
use std::ops::{Add, Div, Mul, Neg, Sub};

/// A floating-point type that losses are computed in.
///
/// Each elementary function but `ln_1p_fraction` is within 1 ULP of the true value for every argument, subnormal ones and
/// results included; `docs/accuracy.md` has the errors measured. Infinities, NaN and signed zeros are as in C's functions.
#[allow(clippy::return_self_not_must_use, reason = "arithmetic, on every line of which the attribute would be noise")]
pub trait Real:
    Format
    + Copy
    + Default
    + PartialOrd
    + std::fmt::Debug
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + Send
    + Sync
    + 'static
{
    /// 0
    const ZERO: Self;
    /// 1
    const ONE: Self;
    /// +∞
    const INFINITY: Self;
    /// A quiet NaN.
    const NAN: Self;

    /// The nearest value to a double: for a formula's constants and parameters.
    fn of(x: f64) -> Self;
    /// The same value as a double.
    fn to_f64(self) -> f64;
    /// `self * a + b`, rounded once.
    fn mul_add(self, a: Self, b: Self) -> Self;
    /// |self|
    fn abs(self) -> Self;
    /// The square root.
    fn sqrt(self) -> Self;
    /// The larger of the two; `other` where `self` is NaN, as `maxps` has it.
    fn max(self, other: Self) -> Self;
    /// The smaller of the two; `other` where `self` is NaN, as `minps` has it.
    fn min(self, other: Self) -> Self;
    /// `self` brought into `[low, high]`; a NaN stays one.
    fn clamp(self, low: Self, high: Self) -> Self;
    /// 1 where the condition holds, else 0.
    fn one_if(condition: bool) -> Self;
    /// |self| with the sign of `sign`.
    fn copysign(self, sign: Self) -> Self;
    /// 1, −1 or, of a zero or a NaN, itself.
    #[inline(always)]
    fn sign(self) -> Self {
        let unit = Self::ONE.copysign(self);
        if self.abs() > Self::ZERO { unit } else { self }
    }
    /// Whether this is a NaN.
    fn is_nan(self) -> bool;
    /// 0 of a finite number, NaN of others.
    #[allow(clippy::eq_op, reason = "∞ − ∞ is NaN")]
    #[inline(always)]
    fn zero_or_nan(self) -> Self {
        self - self
    }

    /// e^self
    #[inline(always)]
    fn exp(self) -> Self {
        exponential::exp(self)
    }
    /// e^self for self ≤ 0, where it gives the bits of `exp` in less time. For self > 0 it is unspecified.
    #[inline(always)]
    fn exp_nonpositive(self) -> Self {
        exponential::exp_nonpositive(self)
    }
    /// e^self − 1
    #[inline(always)]
    fn exp_m1(self) -> Self {
        exponential::exp_m1(self)
    }
    /// The natural logarithm.
    #[inline(always)]
    fn ln(self) -> Self {
        logarithm::ln(self)
    }
    /// ln(1 + self)
    #[inline(always)]
    fn ln_1p(self) -> Self {
        logarithm::ln_1p(self)
    }
    /// self^y, as C's `pow` has it.
    #[inline(always)]
    fn pow(self, y: Self) -> Self {
        power::pow(self, y)
    }
    /// ln(1 + self) for 0 ≤ self ≤ 1, within 1.1 ULP: half the cost of `ln_1p` or less. Beyond, it is unspecified.
    #[inline(always)]
    fn ln_1p_fraction(self) -> Self {
        logarithm::ln_1p_fraction(self)
    }
    /// The logistic function, 1/(1 + e^−self).
    #[inline(always)]
    fn sigmoid(self) -> Self {
        logistic::sigmoid(self)
    }
    /// ln(1 + e^self)
    #[inline(always)]
    fn softplus(self) -> Self {
        logistic::softplus(self)
    }
    /// ln of the sigmoid, −ln(1 + e^−self).
    #[inline(always)]
    fn log_sigmoid(self) -> Self {
        -(-self).softplus()
    }
    /// The hyperbolic tangent.
    #[inline(always)]
    fn tanh(self) -> Self {
        logistic::tanh(self)
    }
}

macro_rules! implement {
    ($t:ident) => {
        impl Real for $t {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            const INFINITY: Self = $t::INFINITY;
            const NAN: Self = $t::NAN;

            #[inline(always)]
            fn of(x: f64) -> Self {
                x as $t
            }
            #[inline(always)]
            fn to_f64(self) -> f64 {
                f64::from(self)
            }
            #[inline(always)]
            fn mul_add(self, a: Self, b: Self) -> Self {
                $t::mul_add(self, a, b)
            }
            #[inline(always)]
            fn abs(self) -> Self {
                $t::abs(self)
            }
            #[inline(always)]
            fn sqrt(self) -> Self {
                $t::sqrt(self)
            }
            #[inline(always)]
            fn max(self, other: Self) -> Self {
                if self > other { self } else { other }
            }
            #[inline(always)]
            fn min(self, other: Self) -> Self {
                if self < other { self } else { other }
            }
            #[inline(always)]
            fn clamp(self, low: Self, high: Self) -> Self {
                let raised = if self < low { low } else { self };
                if raised > high { high } else { raised }
            }
            #[inline(always)]
            fn one_if(condition: bool) -> Self {
                if condition { 1.0 } else { 0.0 }
            }
            #[inline(always)]
            fn copysign(self, sign: Self) -> Self {
                $t::copysign(self, sign)
            }
            #[inline(always)]
            fn is_nan(self) -> bool {
                $t::is_nan(self)
            }
        }
    };
}

implement!(f32);
implement!(f64);

macro_rules! elementary {
    (one argument: $($unary:ident)*; two: $($binary:ident)*) => {
        /// The elementary functions by name: those of one argument, then those of two.
        pub const ELEMENTARY: (&[&str], &[&str]) = (&[$(stringify!($unary)),*], &[$(stringify!($binary)),*]);

        /// An elementary function of each x (and y) into `out`, or `false` if there is none of that name.
        #[inline(always)]
        pub fn elementary<T: Real>(name: &str, x: &[T], y: Option<&[T]>, out: &mut [T]) -> bool {
            match (name, y) {
                // Loops, not closures, which would be compiled for the baseline where they are not inlined.
                $((stringify!($unary), None) => {
                    for (out, x) in out.iter_mut().zip(x) {
                        *out = T::$unary(*x);
                    }
                })*
                $((stringify!($binary), Some(y)) => {
                    for ((out, x), y) in out.iter_mut().zip(x).zip(y) {
                        *out = T::$binary(*x, *y);
                    }
                })*
                _ => return false,
            }
            true
        }
    };
}

elementary! {
    one argument: exp exp_nonpositive exp_m1 ln ln_1p ln_1p_fraction tanh sigmoid softplus log_sigmoid;
    two: pow
}

/// A polynomial, lowest coefficient first, by Horner's rule. Estrin's would wait less and multiply once more; but the units that
/// multiply are what most loops have least of.
#[inline(always)]
fn polynomial<T: Real>(x: T, coefficients: &[T]) -> T {
    coefficients.iter().rev().copied().reduce(|sum, coefficient| sum.mul_add(x, coefficient)).unwrap_or(T::ZERO)
}
