//! What the elementary functions must know of a binary format: its numbers, its polynomials, and its bits.

/// A binary floating-point format of IEEE 754, of p bits' precision.
///
/// The polynomials are minimax in the relative error of the function as a whole, with coefficients that the format holds
/// (Sollya's `fpminimax`), from the lowest power up.
pub trait Format: Sized + 'static {
    /// 3·2^(p−2) + 2·bias. Adding it to a small number rounds that to a whole n, and leaves n + 2·bias in the low bits.
    const ROUND: Self;
    /// 3·2^(p−2) + bias + `RAISE`, which leaves n + bias + `RAISE`.
    const ROUND_RAISED: Self;
    /// 2^−`RAISE`, half the format's range: room for a result below it.
    const LOWER: Self;
    /// log₂ e
    const LOG2_E: Self;
    /// 1/12, and what its rounding left out.
    const TWELFTH: (Self, Self);
    /// 2^(p−1): from here on every number is whole.
    const WHOLE: Self;
    /// ln 2, and what its rounding left out.
    const LN_2: (Self, Self);
    /// Below the first, e^x rounds to zero; above the second, to infinity.
    const EXP_RANGE: (Self, Self);
    /// q in e^r = 1 + r + r²·q(r), |r| ≤ ½ ln 2.
    const EXP: &'static [Self];
    /// w in ln((1 + s)/(1 − s)) = 2s + s³·w(s²), √½ ≤ (1 + s)/(1 − s) ≤ √2.
    const LN: &'static [Self];
    /// w in 2·artanh(s/2) = s + s³(1/12 + s²·w(s²)), |s| ≤ 0.344, to 2p + 12 bits.
    const LN_TAIL: &'static [Self];
    /// w in 2·artanh(s/2) = s + s³·w(s²), 0 ≤ s ≤ ⅔.
    const ARTANH: &'static [Self];

    /// 2^⌊n/2⌋ and 2^⌈n/2⌉, for `rounded` = n + `ROUND`: their product may lie outside the format.
    fn powers_of_two(rounded: Self) -> (Self, Self);
    /// 2^(n + `RAISE`), for `rounded` = n + `ROUND_RAISED`.
    fn power_of_two(rounded: Self) -> Self;
    /// (m, e, 2^(1−e)) with self = m·2^e and √½ ≤ m < √2, for a positive normal number.
    fn split(self) -> (Self, Self, Self);
    /// (self·2^p, p) where self is subnormal or zero, else (self, 0).
    fn normalize(self) -> (Self, Self);
}

macro_rules! implement {
    ($float:ident: $bits:ident, ln_2_low: $ln_2_low:expr, twelfth_low: $twelfth_low:expr, exp_range: $exp_range:expr, exp: $exp:expr, ln: $ln:expr,
     ln_tail: $ln_tail:expr, artanh: $artanh:expr) => {
        impl Format for $float {
            const ROUND: Self =
                (((3 as $bits) << (Self::MANTISSA_DIGITS - 2)) + 2 * (Self::MAX_EXP as $bits - 1)) as $float;
            const ROUND_RAISED: Self = (((3 as $bits) << (Self::MANTISSA_DIGITS - 2))
                + (Self::MAX_EXP as $bits - 1)
                + (Self::MAX_EXP as $bits / 2)) as $float;
            const LOWER: Self = Self::from_bits(((Self::MAX_EXP as $bits / 2) - 1) << (Self::MANTISSA_DIGITS - 1));
            const LOG2_E: Self = std::$float::consts::LOG2_E;
            const LN_2: (Self, Self) = (std::$float::consts::LN_2, $ln_2_low);
            const TWELFTH: (Self, Self) = (1.0 / 12.0, $twelfth_low);
            const WHOLE: Self = 1.0 / Self::EPSILON;
            const EXP_RANGE: (Self, Self) = $exp_range;
            const EXP: &'static [Self] = &$exp;
            const LN: &'static [Self] = &$ln;
            const LN_TAIL: &'static [Self] = &$ln_tail;
            const ARTANH: &'static [Self] = &$artanh;

            #[inline(always)]
            fn powers_of_two(rounded: Self) -> (Self, Self) {
                const SHIFT: u32 = $float::MANTISSA_DIGITS - 1;
                let whole = rounded.to_bits();
                let floor = whole >> 1;
                let ceiling = whole.wrapping_sub(floor);
                (Self::from_bits(floor << SHIFT), Self::from_bits(ceiling << SHIFT))
            }

            #[inline(always)]
            fn power_of_two(rounded: Self) -> Self {
                Self::from_bits(rounded.to_bits() << (Self::MANTISSA_DIGITS - 1))
            }

            #[inline(always)]
            fn split(self) -> (Self, Self, Self) {
                const SHIFT: u32 = $float::MANTISSA_DIGITS - 1;
                const ONE: $bits = (1.0 as $float).to_bits();
                const ROOT_HALF: $bits = std::$float::consts::FRAC_1_SQRT_2.to_bits();
                const WHOLE: $float = ((1 as $bits) << SHIFT) as $float;
                // The bits of m begin at √½'s, so that m is below 1 where rounding the exponent up serves it better.
                let offset = self.to_bits().wrapping_add(ONE - ROOT_HALF);
                let exponent = offset >> SHIFT;
                let m = Self::from_bits(offset - (exponent << SHIFT) + ROOT_HALF);
                let e = Self::from_bits(exponent | WHOLE.to_bits()) - (WHOLE + (Self::MAX_EXP - 1) as $float);
                let shrink =
                    Self::from_bits(((2 * Self::MAX_EXP as $bits - 1) << SHIFT).wrapping_sub(exponent << SHIFT));
                (m, e, shrink)
            }

            #[inline(always)]
            fn normalize(self) -> (Self, Self) {
                const DIGITS: $float = $float::MANTISSA_DIGITS as $float;
                const GROW: $float = ((1 as $bits) << $float::MANTISSA_DIGITS) as $float;
                if self < Self::MIN_POSITIVE { (self * GROW, DIGITS) } else { (self, 0.0) }
            }
        }
    };
}

implement! {
    f32: u32,
    ln_2_low: -1.904_654_2e-9,
    twelfth_low: -2.483527e-09,
    exp_range: (-104.0, 89.0),
    exp: [0.5, 0.16666666, 0.041666478, 0.008333567, 0.001393369, 0.00019743292],
    ln: [0.66666776, 0.39977583, 0.29870844],
    ln_tail: [0.012500048, 0.002230242, 0.00045741032],
    artanh: [0.08333334, 0.012499672, 0.0022355542, 0.00041885505, 0.00011835599]
}

implement! {
    f64: u64,
    ln_2_low: 2.319_046_813_846_299_6e-17,
    twelfth_low: 4.625929269271485e-18,
    exp_range: (-746.0, 710.0),
    exp: [
        0.5, 0.16666666666666677, 0.04166666666666661, 0.008333333333321468, 0.0013888888888923799,
        0.00019841269886462863, 2.4801587237495696e-05, 2.7557243922782542e-06, 2.7557353002715044e-07,
        2.5109123454214843e-08, 2.0889432668404438e-09,
    ],
    ln: [
        0.6666666666666734, 0.39999999999416613, 0.2857142874205726, 0.2222219859913776, 0.18183563321501056,
        0.15314068591584146, 0.14795837814520912,
    ],
    ln_tail: [0.012499999999999994, 0.0022321428571440483, 0.00043402777769134884, 8.877841231953122e-05, 1.8779978627507655e-05, 4.069904249044709e-06, 8.907945339527743e-07, 2.285279799075511e-07],
    artanh: [0.08333333333333288, 0.012500000000048696, 0.0022321428553146883, 0.000434027811705303, 8.877804822262862e-05, 1.878241308825981e-05, 4.059162094707458e-06, 9.2357032492398e-07, 1.5912726384438035e-07, 8.112792746095926e-08]
}
