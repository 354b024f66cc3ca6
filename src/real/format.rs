//! What the elementary functions must know of a binary format: its numbers, its polynomials, and its bits.

/// A binary floating-point format of IEEE 754, of p bits' precision.
///
/// The polynomials are minimax in the relative error of the function as a whole, with coefficients that the format holds
/// (Sollya's `fpminimax`), from the lowest power up.
pub trait Format: Sized + 'static {
    /// 3·2^(p−2) + 2·bias. Adding it to a small number rounds that to a whole n, and leaves n + 2·bias in the low bits.
    const ROUND: Self;
    /// log₂ e
    const LOG2_E: Self;
    /// ln 2, and what its rounding left out.
    const LN_2: (Self, Self);
    /// Below the first, e^x rounds to zero; above the second, to infinity.
    const EXP_RANGE: (Self, Self);
    /// q in e^r = 1 + r + r²·q(r), |r| ≤ ½ ln 2.
    const EXP: &'static [Self];
    /// u in ln(1 + f) = f + f²·u(f), √½ ≤ 1 + f ≤ √2.
    const LN: &'static [Self];

    /// 2^⌊n/2⌋ and 2^⌈n/2⌉, for `rounded` = n + `ROUND`: their product may lie outside the format.
    fn powers_of_two(rounded: Self) -> (Self, Self);
    /// (m, e, 2^(1−e)) with self = m·2^e and √½ ≤ m < √2, for a positive normal number.
    fn split(self) -> (Self, Self, Self);
    /// (self·2^p, p) where self is subnormal or zero, else (self, 0).
    fn normalize(self) -> (Self, Self);
}

macro_rules! implement {
    ($float:ident: $bits:ident, ln_2_low: $ln_2_low:expr, exp_range: $exp_range:expr, exp: $exp:expr, ln: $ln:expr) => {
        impl Format for $float {
            const ROUND: Self =
                (((3 as $bits) << (Self::MANTISSA_DIGITS - 2)) + 2 * (Self::MAX_EXP as $bits - 1)) as $float;
            const LOG2_E: Self = std::$float::consts::LOG2_E;
            const LN_2: (Self, Self) = (std::$float::consts::LN_2, $ln_2_low);
            const EXP_RANGE: (Self, Self) = $exp_range;
            const EXP: &'static [Self] = &$exp;
            const LN: &'static [Self] = &$ln;

            #[inline(always)]
            fn powers_of_two(rounded: Self) -> (Self, Self) {
                const SHIFT: u32 = $float::MANTISSA_DIGITS - 1;
                let whole = rounded.to_bits();
                let floor = whole >> 1;
                let ceiling = whole.wrapping_sub(floor);
                (Self::from_bits(floor << SHIFT), Self::from_bits(ceiling << SHIFT))
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
    exp_range: (-104.0, 89.0),
    exp: [0.5, 0.16666666, 0.041666478, 0.008333567, 0.001393369, 0.00019743292],
    ln: [
        -0.5, 0.3333331, -0.25, 0.20002227, -0.1666852, 0.14218114, -0.12396624, 0.11888892, -0.117244676, 0.06802376,
    ]
}

implement! {
    f64: u64,
    ln_2_low: 2.319_046_813_846_299_6e-17,
    exp_range: (-746.0, 710.0),
    exp: [
        0.5, 0.16666666666666677, 0.04166666666666661, 0.008333333333321468, 0.0013888888888923799,
        0.00019841269886462863, 2.4801587237495696e-05, 2.7557243922782542e-06, 2.7557353002715044e-07,
        2.5109123454214843e-08, 2.0889432668404438e-09,
    ],
    ln: [
        -0.5, 0.33333333333333504, -0.249999999999991, 0.1999999999993281, -0.16666666666864935, 0.1428571429511344,
        -0.1249999998720368, 0.11111110456059847, -0.10000000105306577, 0.09090935027497206, -0.08333354246027508,
        0.07691694724932689, -0.07141847364780542, 0.06675223058116435, -0.06271383922169899, 0.05818917621189673,
        -0.05318386209413841, 0.05401671625826908, -0.06288497605755736, 0.05745236791598887, -0.0245912407791289,
    ]
}
