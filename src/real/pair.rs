//! Twice the precision: a number held as the unevaluated sum of two, for the steps whose rounding would show.

use super::Real;

/// `high + low`, where `low` is what `high` had no room for.
#[derive(Clone, Copy)]
pub(super) struct Pair<T> {
    pub(super) high: T,
    pub(super) low: T,
}

impl<T: Real> Pair<T> {
    /// A single number as a pair.
    #[inline(always)]
    pub(super) fn exact(a: T) -> Self {
        Pair { high: a, low: T::ZERO }
    }

    /// a + b exactly, for |a| ≥ |b| or a = 0 (Dekker).
    #[inline(always)]
    pub(super) fn ordered_sum(a: T, b: T) -> Self {
        let high = a + b;
        Pair { high, low: b - (high - a) }
    }

    /// a + b exactly (Knuth).
    #[inline(always)]
    pub(super) fn sum(a: T, b: T) -> Self {
        let high = a + b;
        let b_share = high - a;
        Pair { high, low: (a - (high - b_share)) + (b - b_share) }
    }

    /// a·b exactly, where it does not underflow.
    #[inline(always)]
    pub(super) fn product(a: T, b: T) -> Self {
        let high = a * b;
        Pair { high, low: a.mul_add(b, -high) }
    }

    /// Both parts times a power of two.
    #[inline(always)]
    pub(super) fn scale(self, by: T) -> Self {
        Pair { high: self.high * by, low: self.low * by }
    }

    /// The product, to nearly twice the precision.
    #[inline(always)]
    pub(super) fn times(self, other: Self) -> Self {
        let product = Pair::product(self.high, other.high);
        let cross = self.high.mul_add(other.low, self.low * other.high);
        Pair { high: product.high, low: product.low + cross }
    }

    /// self / divisor to nearly twice the precision, by one division and a step of Newton's.
    #[inline(always)]
    pub(super) fn divide(self, divisor: Self) -> Self {
        let reciprocal = T::ONE / divisor.high;
        let high = self.high * reciprocal;
        let remainder = (-high).mul_add(divisor.high, self.high) + self.low;
        Pair { high, low: (-high).mul_add(divisor.low, remainder) * reciprocal }
    }

    /// self + a, leaving what rounding lost in the low part.
    #[inline(always)]
    pub(super) fn add(self, a: T) -> Self {
        let sum = Pair::sum(self.high, a);
        Pair { high: sum.high, low: sum.low + self.low }
    }

    /// self + a, for an a that the high part has no room for.
    #[inline(always)]
    pub(super) fn nudge(self, a: T) -> Self {
        Pair { high: self.high, low: self.low + a }
    }

    /// The nearest single number.
    #[inline(always)]
    pub(super) fn value(self) -> T {
        self.high + self.low
    }
}
