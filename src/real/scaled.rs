//! Numbers of any magnitude: sums and products of what a double underflows at, without logarithms.

use super::{Real, exponential};

/// mantissa·2^exponent. The exponent is −∞, or nearly, of zero; else the mantissa is near 1.
///
/// An operation rounds the mantissa as a double's would be, whatever the exponents. A sum may be taken of mantissas between
/// 2^−400 and 2^400, so a chain of operations needs to be [normalised](Self::normal) now and then only.
#[derive(Clone, Copy, Debug)]
pub struct Scaled {
    /// The significant digits.
    pub mantissa: f64,
    /// A whole number.
    pub exponent: f64,
}

impl Scaled {
    /// 0
    pub const ZERO: Self = Self { mantissa: 0.0, exponent: f64::NEG_INFINITY };
    /// 1
    pub const ONE: Self = Self { mantissa: 1.0, exponent: 0.0 };

    /// e^x, its mantissa between 0.7 and 1.5.
    #[inline(always)]
    pub fn exp(x: f64) -> Self {
        // Beyond, a double's neighbours are so far apart that whole powers of two are all that can be told.
        const WHOLE: f64 = (1_u64 << 50) as f64;
        let near = Real::clamp(x, -WHOLE, WHOLE);
        let (mantissa, exponent) = exponential::exp_parts(near);
        Self { mantissa, exponent: (x - near).mul_add(std::f64::consts::LOG2_E, exponent) }
    }

    /// The sum of all terms. A product 0·∞ among them counts as 0.
    #[inline(always)]
    pub fn sum<const N: usize>(terms: [Self; N]) -> Self {
        // Finite, so that −∞ less it is −∞.
        let mut exponent = f64::MIN;
        for term in terms {
            exponent = if term.exponent > exponent { term.exponent } else { exponent };
        }
        let mut mantissa = 0.0;
        for term in terms {
            mantissa = term.mantissa.mul_add(power_of_two(term.exponent - exponent), mantissa);
        }
        Self { mantissa, exponent }
    }

    /// 1 over it.
    #[inline(always)]
    #[must_use]
    pub fn reciprocal(self) -> Self {
        Self { mantissa: 1.0 / self.mantissa, exponent: -self.exponent }
    }

    /// The product.
    #[inline(always)]
    #[must_use]
    pub fn times(self, other: Self) -> Self {
        Self { mantissa: self.mantissa * other.mantissa, exponent: self.exponent + other.exponent }
    }

    /// The same number with a mantissa in [1, 2), if it is positive and the mantissa normal.
    #[inline(always)]
    #[must_use]
    pub fn normal(self) -> Self {
        const ONE: u64 = 1_f64.to_bits();
        const FRACTION: u64 = (1 << 52) - 1;
        const WHOLE: f64 = (1_u64 << 52) as f64;
        let bits = self.mantissa.to_bits();
        // To a float without a conversion: as the low bits of 2^52.
        let shift = f64::from_bits(bits >> 52 | WHOLE.to_bits()) - (WHOLE + 1023.0);
        let is_normal = self.mantissa >= f64::MIN_POSITIVE;
        Self {
            mantissa: if is_normal { f64::from_bits(bits & FRACTION | ONE) } else { self.mantissa },
            exponent: if is_normal { self.exponent + shift } else { self.exponent },
        }
    }

    /// As a double; 0 or ∞ where the exponent alone is beyond a double's.
    #[inline(always)]
    pub fn value(self) -> f64 {
        let exponent = if self.exponent > 1024.0 { 1024.0 } else { self.exponent };
        self.mantissa * power_of_two(exponent)
    }

    /// The natural logarithm.
    #[inline(always)]
    pub fn ln(self) -> f64 {
        // Where the number is a double, and above all near 1, nothing cancels.
        if self.exponent.abs() < 512.0 {
            Real::ln(self.value())
        } else {
            self.exponent.mul_add(std::f64::consts::LN_2, Real::ln(self.mantissa))
        }
    }
}

/// 2^n for a whole n ≤ 1024; 0 for n < −1022 and for NaN, ∞ for 1024.
#[inline(always)]
fn power_of_two(n: f64) -> f64 {
    const ROUND: f64 = 1.5 * (1_u64 << 52) as f64 + 1023.0;
    let n = if n > -1023.0 { n } else { -1023.0 };
    f64::from_bits((n + ROUND).to_bits() << 52)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Where doubles do, too: the same number to a few units in the last place.
        #[test]
        fn agrees_with_doubles(x in -300.0..300.0, y in -300.0..300.0, z in -300.0..300.0) {
            let close = |a: f64, b: f64| (a - b).abs() <= 1e-15 * b.abs();
            let numbers: [f64; 3] = [x, y, z].map(f64::exp);
            let [a, b, c] = [x, y, z].map(Scaled::exp);
            prop_assert!(close(a.value(), numbers[0]));
            prop_assert!(close(Scaled::sum([a, b, c]).value(), numbers.iter().sum()));
            prop_assert!(close(a.times(b).value(), numbers[0] * numbers[1]));
            prop_assert!(close(a.times(b).normal().value(), numbers[0] * numbers[1]));
            prop_assert!((1.0..2.0).contains(&a.times(b).normal().mantissa));
            prop_assert!((a.ln() - x).abs() <= 1e-15 * x.abs().max(1.0));
        }

        /// Far beyond doubles.
        #[test]
        fn is_of_any_magnitude(x in prop_oneof![-1e18..1e18, -1e300..1e300, -1e4..1e4], above in 0.0..30.0) {
            let number = Scaled::exp(x);
            let close = |a: f64, b: f64| (a - b).abs() <= 1e-15 * b.abs().max(1.0);
            prop_assert!(close(number.ln(), x));
            prop_assert!(close(number.times(number).normal().ln(), 2.0 * x));
            let sum = Scaled::sum([number, Scaled::ZERO, number.times(Scaled::exp(above))]);
            prop_assert!(close(sum.ln(), x + above.exp().ln_1p()));
        }
    }

    #[test]
    fn zero_is_nothing_in_a_sum_and_everything_in_a_product() {
        let tiny = Scaled::exp(-1e30);
        for zero in
            [Scaled::ZERO, Scaled::exp(f64::NEG_INFINITY), tiny.times(Scaled::ZERO), Scaled::sum([Scaled::ZERO; 2])]
        {
            assert_eq!(Scaled::sum([zero, tiny]).ln(), tiny.ln());
            assert!(zero.normal().ln() < -1e308 && zero.value() == 0.0);
            assert_eq!(Scaled::sum([zero, zero]).value(), 0.0);
        }
        assert!(Scaled::exp(f64::NAN).ln().is_nan());
        assert!(Scaled::sum([Scaled::ONE, Scaled::exp(f64::NAN)]).ln().is_nan());
    }
}
