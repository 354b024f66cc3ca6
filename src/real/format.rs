//! What the elementary functions must know of a binary format: its numbers, its polynomials, and its bits.

#![allow(clippy::unreadable_literal, clippy::excessive_precision, reason = "coefficients stand as they were computed")]

/// A binary floating-point format of IEEE 754, of p bits' precision.
///
/// The polynomials are minimax in the relative error of the whole approximation, their coefficients numbers of the format,
/// lowest power first (Sollya's `fpminimax`). The error that remains is written beside each.
pub trait Format: Sized + 'static {
    /// 3·2^(p−2) + 2·bias. Adding it to a small number rounds that to a whole n, and leaves n + 2·bias in the low bits.
    const ROUND: Self;
    /// 3·2^(p−2) + raise: the same, and leaves n + raise.
    const ROUND_RAISED: Self;
    /// 2^−raise, where raise is half the largest exponent: room for results below the format.
    const LOWER: Self;
    /// 2^(p−1): from here on, every number is whole.
    const WHOLE: Self;
    /// log₂ e
    const LOG2_E: Self;
    /// ln 2, and what its rounding left out.
    const LN_2: (Self, Self);
    /// 1/12, and what its rounding left out.
    const TWELFTH: (Self, Self);
    /// Below the first, e^x rounds to zero; above the second, to infinity.
    const EXP_RANGE: (Self, Self);

    /// q in e^r = 1 + r + ½r² + r³·q(r), for |r| ≤ ½ ln 2.
    const EXP: &'static [Self];
    /// The same, closer: for a pair.
    const EXP_PAIR: &'static [Self];
    /// w in 2·artanh s = 2s + s³·w(s²), for |s| ≤ 3 − √8: the logarithm of √½ to √2.
    const LN: &'static [Self];
    /// w in 2·artanh(s/2) = s + s³(1/12 + s²·w(s²)), over the same interval.
    const LN_TAIL: &'static [Self];
    /// w in 2·artanh(s/2) = s + s³·w(s²), for 0 ≤ s ≤ ⅔: the logarithm of 1 to 2.
    const LN_1P: &'static [Self];
    /// q in ln(1 + x) = x + x²·q(x), for 0 ≤ x ≤ 1.
    const LN_1P_FRACTION: &'static [Self];

    /// 2^⌊n/2⌋ and 2^⌈n/2⌉, for `rounded` = n + `ROUND`. Their product may lie outside the format.
    fn powers_of_two(rounded: Self) -> (Self, Self);
    /// self·2^(n + raise), for `rounded` = n + `ROUND_RAISED`, if both are normal; of a NaN, anything.
    fn times_raised_power_of_two(self, rounded: Self) -> Self;
    /// (m, e, 2^(1−e)) with self = m·2^e and √½ ≤ m < √2, for a positive normal number.
    fn split(self) -> (Self, Self, Self);
    /// (self·2^p, p) where self is subnormal or zero, else (self, 0).
    fn normalize(self) -> (Self, Self);
}

/// The part of an implementation that follows from the format's parameters.
macro_rules! derived {
    ($float:ident, $bits:ident) => {
        const ROUND: Self = 1.5 * Self::WHOLE + 2.0 * (Self::MAX_EXP - 1) as $float;
        const ROUND_RAISED: Self = 1.5 * Self::WHOLE + (Self::MAX_EXP / 2) as $float;
        const LOWER: Self = Self::from_bits((Self::MAX_EXP as $bits / 2 - 1) << (Self::MANTISSA_DIGITS - 1));
        const WHOLE: Self = 1.0 / Self::EPSILON;
        const LOG2_E: Self = std::$float::consts::LOG2_E;

        #[inline(always)]
        fn powers_of_two(rounded: Self) -> (Self, Self) {
            const SHIFT: u32 = $float::MANTISSA_DIGITS - 1;
            // Half of n + 2·bias is a biased exponent, and so is the other half. The shift drops ROUND's high bits.
            let floor = rounded.to_bits() >> 1;
            let ceiling = rounded.to_bits() - floor;
            (Self::from_bits(floor << SHIFT), Self::from_bits(ceiling << SHIFT))
        }

        #[inline(always)]
        fn times_raised_power_of_two(self, rounded: Self) -> Self {
            // The shift drops ROUND_RAISED's high bits; what is left is added to the exponent.
            Self::from_bits(self.to_bits().wrapping_add(rounded.to_bits() << (Self::MANTISSA_DIGITS - 1)))
        }

        #[inline(always)]
        fn split(self) -> (Self, Self, Self) {
            const SHIFT: u32 = $float::MANTISSA_DIGITS - 1;
            const BIAS: $bits = $float::MAX_EXP as $bits - 1;
            const ROOT_HALF: $bits = std::$float::consts::FRAC_1_SQRT_2.to_bits();
            // Moved up so that the exponent's field turns over at √2 instead of 2.
            let moved = self.to_bits().wrapping_add((BIAS << SHIFT) - ROOT_HALF);
            let biased = moved >> SHIFT;
            let m = Self::from_bits(moved - (biased << SHIFT) + ROOT_HALF);
            // To a float without a conversion: as the low bits of 2^(p−1).
            let e = Self::from_bits(biased | Self::WHOLE.to_bits()) - (Self::WHOLE + BIAS as $float);
            let reciprocal = Self::from_bits((2 * BIAS + 1).wrapping_sub(biased) << SHIFT);
            (m, e, reciprocal)
        }

        #[inline(always)]
        fn normalize(self) -> (Self, Self) {
            const P: $float = $float::MANTISSA_DIGITS as $float;
            if self < Self::MIN_POSITIVE { (self * (2.0 * Self::WHOLE), P) } else { (self, 0.0) }
        }
    };
}

impl Format for f32 {
    derived!(f32, u32);

    const LN_2: (Self, Self) = (std::f32::consts::LN_2, -1.9046542e-9);
    const TWELFTH: (Self, Self) = (0.083333336, -2.483527e-9);
    const EXP_RANGE: (Self, Self) = (-104.0, 89.0);

    // 2^−28.0
    const EXP: &'static [Self] = &[0.16666535, 0.04166725, 0.008367433, 0.0013862752];
    // 2^−30.9
    const EXP_PAIR: &'static [Self] = &[0.16666666, 0.041666478, 0.008333567, 0.001393369, 0.00019743292];
    // 2^−30.2
    const LN: &'static [Self] = &[0.66666776, 0.39977583, 0.29870844];
    // 2^−36.7
    const LN_TAIL: &'static [Self] = &[0.012500048, 0.002230242, 0.00045741032];
    // 2^−33.0
    const LN_1P: &'static [Self] = &[0.08333334, 0.012499672, 0.0022355542, 0.00041885505, 0.00011835599];
    // 2^−30.1
    const LN_1P_FRACTION: &'static [Self] = &[
        -0.49999988,
        0.3333271,
        -0.24988808,
        0.19899188,
        -0.16133384,
        0.124752,
        -0.08317504,
        0.04205833,
        -0.013664181,
        0.002078881,
    ];
}

impl Format for f64 {
    derived!(f64, u64);

    const LN_2: (Self, Self) = (std::f64::consts::LN_2, 2.3190468138462996e-17);
    const TWELFTH: (Self, Self) = (0.08333333333333333, 4.625929269271485e-18);
    const EXP_RANGE: (Self, Self) = (-746.0, 710.0);

    // 2^−57.4
    const EXP: &'static [Self] = &[
        0.16666666666666433,
        0.04166666666660395,
        0.008333333333500484,
        0.0013888888926799814,
        0.0001984126946530708,
        2.480150867716866e-05,
        2.755764163813217e-06,
        2.762518932891706e-07,
        2.497814756765643e-08,
    ];
    // 2^−61.5
    const EXP_PAIR: &'static [Self] = &[
        0.16666666666666677,
        0.04166666666666661,
        0.008333333333321468,
        0.0013888888888923799,
        0.00019841269886462863,
        2.4801587237495696e-5,
        2.7557243922782542e-6,
        2.7557353002715044e-7,
        2.5109123454214843e-8,
        2.0889432668404438e-9,
    ];
    // 2^−59.4
    const LN: &'static [Self] = &[
        0.6666666666666734,
        0.39999999999416613,
        0.2857142874205726,
        0.2222219859913776,
        0.18183563321501056,
        0.15314068591584146,
        0.14795837814520912,
    ];
    // 2^−73.4
    const LN_TAIL: &'static [Self] = &[
        0.012499999999999994,
        0.0022321428571440483,
        0.00043402777769134884,
        8.877841231953122e-5,
        1.8779978627507655e-5,
        4.069904249044709e-6,
        8.907945339527743e-7,
        2.285279799075511e-7,
    ];
    // 2^−59.4
    const LN_1P: &'static [Self] = &[
        0.08333333333333288,
        0.012500000000048696,
        0.0022321428553146883,
        0.000434027811705303,
        8.877804822262862e-5,
        1.878241308825981e-5,
        4.059162094707458e-6,
        9.2357032492398e-7,
        1.5912726384438035e-7,
        8.112792746095926e-8,
    ];
    // 2^−59.1
    const LN_1P_FRACTION: &'static [Self] = &[
        -0.499999999999999,
        0.333333333333136,
        -0.24999999998614483,
        0.19999999949970654,
        -0.16666665570940986,
        0.1428569828788668,
        -0.12499834506064635,
        0.11109845765529046,
        -0.09992626770380121,
        0.09057402176395586,
        -0.08212440401449689,
        0.07340972826791312,
        -0.06310167426627135,
        0.05037999873301736,
        -0.03586577683196941,
        0.021798672958661336,
        -0.010801834908979948,
        0.0041369857503870565,
        -0.0011387228461414677,
        0.00019926279307029438,
        -1.6581746199171866e-5,
    ];
}
