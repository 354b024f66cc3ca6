//! The exact sum against integers of any length: through every path, order, split and instruction set.

use _lossrs::{
    isa::Isa,
    sum::{ExactSum, Summand},
};
use num_bigint::BigInt;
use proptest::{prelude::*, sample::Index};

/// A finite double is an integer times 2^−1074.
fn integer(value: f64) -> BigInt {
    let bits = value.abs().to_bits();
    let (fraction, exponent) = (bits & ((1 << 52) - 1), bits >> 52);
    let magnitude = if exponent == 0 { fraction.into() } else { BigInt::from(fraction | 1 << 52) << (exponent - 1) };
    if value < 0.0 { -magnitude } else { magnitude }
}

/// The sum as the definition has it. An integer times 2^−1074 is one times 10^−1074, and `parse` rounds decimals of any
/// length right.
fn oracle<T: Summand>(values: &[T]) -> f64 {
    let values = values.iter().map(|value| value.to_f64());
    let special: f64 = values.clone().filter(|value| !value.is_finite()).sum();
    if special != 0.0 {
        return special;
    }
    let exact: BigInt = values.map(integer).sum();
    format!("{}e-1074", exact * BigInt::from(5).pow(1074)).parse().unwrap()
}

/// The sum as each instruction set of this machine gives it.
fn on_each_instruction_set<T: Summand>(values: &[T]) -> Vec<ExactSum> {
    let sum = |isa| {
        let mut sum = ExactSum::new();
        sum.add_block(isa, values);
        sum
    };
    Isa::available().map(sum).collect()
}

fn same(a: f64, b: f64) -> bool {
    a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
}

/// Checks the sum of `values`: whole, one by one, and in the pieces that end at `cuts`, merged from the left and from
/// the right.
fn check<T: Summand>(values: &[T], cuts: &[Index]) {
    let expected = oracle(values);
    let mut sums = on_each_instruction_set(values);

    let mut one_by_one = ExactSum::new();
    for value in values {
        one_by_one.add(value.to_f64());
    }
    sums.push(one_by_one);

    let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(values.len() + 1)).chain([0, values.len()]).collect();
    cuts.sort_unstable();
    let pieces: Vec<_> =
        cuts.windows(2).filter_map(|cut| on_each_instruction_set(&values[cut[0]..cut[1]]).pop()).collect();
    let merged = |mut left: ExactSum, right: &ExactSum| {
        left.merge(right);
        left
    };
    sums.push(pieces.iter().fold(ExactSum::new(), merged));
    sums.push(pieces.iter().rev().fold(ExactSum::new(), merged));
    sums.push(ExactSum::from_bytes(&sums[0].to_bytes()).unwrap());

    for (way, sum) in sums.iter().enumerate() {
        assert!(same(sum.value(), expected), "way {way}: {:e}, but exactly {expected:e}", sum.value());
        assert_eq!(sum.to_bytes(), sums[0].to_bytes(), "way {way}");
    }
}

/// Finite doubles whose exponent fields lie within `span` of each other, in `fields`; some of them zero, some with
/// their negatives.
fn doubles(fields: std::ops::Range<u64>, lengths: impl Strategy<Value = usize>) -> impl Strategy<Value = Vec<f64>> {
    let span = prop_oneof![3 => prop::sample::select(&SPANS[..]), 1 => 0..fields.end];
    (lengths, fields.clone(), span, any::<bool>(), 0..3).prop_flat_map(
        move |(length, lowest, span, one_sign, zeros)| {
            let highest = (lowest + span).min(fields.end - 1);
            // The extremes more often than what is between.
            let field = prop_oneof![Just(lowest), Just(highest), lowest..=highest];
            let fraction = prop_oneof![2 => 0..1u64 << 52, 1 => Just((1u64 << 52) - 1), 1 => Just(0)];
            let value =
                (field, fraction, any::<bool>(), 0..10).prop_map(move |(field, fraction, negative, draw)| match draw {
                    _ if draw < zeros => {
                        if negative {
                            -0.0
                        } else {
                            0.0
                        }
                    }
                    _ => f64::from_bits(u64::from(negative && !one_sign) << 63 | field << 52 | fraction),
                });
            let cancelled = prop_oneof![3 => Just(0), 1 => Just(length), 1 => 0..=length];
            (prop::collection::vec(value, length), cancelled).prop_map(|(mut values, cancelled)| {
                values.extend_from_within(..cancelled);
                values[..cancelled].iter_mut().for_each(|value| *value = -*value);
                values
            })
        },
    )
}

fn lengths() -> impl Strategy<Value = usize> {
    prop_oneof![0..40usize, Just(1024), 0..5000usize]
}

fn cuts() -> impl Strategy<Value = Vec<Index>> {
    prop::collection::vec(any::<Index>(), 0..6)
}

/// Spans around the limits of two, three and four levels, for 24 bits and for 53.
const SPANS: [u64; 13] = [0, 21, 22, 44, 45, 50, 51, 67, 68, 102, 103, 154, 155];
const SPECIALS: [f64; 4] = [f64::INFINITY, -f64::INFINITY, f64::NAN, -f64::NAN];
/// Where a single's exponent lies in a double's field; below it only subnormals.
const SINGLES: std::ops::Range<u64> = 1023 - 149..1023 + 128;

proptest! {
    #[test]
    fn sums_of_doubles_are_exact(values in doubles(0..2047, lengths()), cuts in cuts()) {
        check(&values, &cuts);
    }

    #[test]
    fn sums_of_singles_are_exact(values in doubles(SINGLES, lengths()), cuts in cuts()) {
        let values: Vec<_> = values.iter().map(|&value| (value as f32).clamp(-f32::MAX, f32::MAX)).collect();
        check(&values, &cuts);
    }

    #[test]
    fn order_does_not_matter(
        (values, shuffled) in doubles(0..2047, 0..200usize)
            .prop_flat_map(|values| (Just(values.clone()), Just(values).prop_shuffle())),
    ) {
        check(&shuffled, &[]);
        let [sum, other] = [values, shuffled].map(|values| on_each_instruction_set(&values)[0].to_bytes());
        prop_assert_eq!(sum, other);
    }

    #[test]
    fn any_bits_will_do(bits in prop::collection::vec(any::<u64>(), 0..100), cuts in cuts()) {
        check(&bits.iter().map(|&bits| f64::from_bits(bits)).collect::<Vec<_>>(), &cuts);
        check(&bits.iter().map(|&bits| f32::from_bits(bits as u32)).collect::<Vec<_>>(), &cuts);
    }

    #[test]
    fn infinities_and_nans_add_as_they_do(
        mut values in doubles(1000..1040, 20..2000usize),
        specials in prop::collection::vec((any::<Index>(), prop::sample::select(&SPECIALS[..])), 1..3),
        cuts in cuts(),
    ) {
        for (index, special) in specials {
            let index = index.index(values.len());
            values[index] = special;
        }
        check(&values, &cuts);
        check(&values.iter().map(|&value| value as f32).collect::<Vec<_>>(), &cuts);
    }

    /// m + 1/2 and what is a bit more or less, far below, at every scale.
    #[test]
    fn ties_go_to_even(
        odd in any::<bool>(),
        significand in 1u64 << 52..1 << 53,
        exponent in -1021i32..971,
        sticky in -1074i32..971,
        sign in -1i8..=1,
    ) {
        let significand = significand & !1 | u64::from(odd);
        let unit = power(exponent);
        let below = f64::from(sign) * power(sticky.min(exponent - 2));
        check(&[significand as f64 * unit, unit * 0.5, below], &[]);
        check(&[-(significand as f64) * unit, unit * -0.5, below], &[]);
    }

    #[test]
    fn bytes_that_are_no_sum_are_refused(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        top in any::<i32>(),
        special in any::<f64>(),
    ) {
        prop_assert!(ExactSum::from_bytes(&bytes).is_none());
        let sound = ExactSum::new().to_bytes();
        let mut altered = sound;
        altered[268..272].copy_from_slice(&top.to_le_bytes());
        prop_assert_eq!(ExactSum::from_bytes(&altered).is_some(), top.unsigned_abs() <= 1 << 14);
        let mut altered = sound;
        altered[272..].copy_from_slice(&special.to_le_bytes());
        prop_assert_eq!(ExactSum::from_bytes(&altered).is_some(), special.to_bits() == 0 || !special.is_finite());
    }
}

/// 2^exponent, subnormal ones too.
fn power(exponent: i32) -> f64 {
    2f64.powi(exponent / 2) * 2f64.powi(exponent - exponent / 2)
}

#[test]
fn known_sums() {
    let cases: [(&[f64], f64); 14] = [
        (&[], 0.0),
        (&[-0.0, -0.0], 0.0),
        (&[0.1; 10], 1.0),
        (&[1e100, 1.0, -1e100], 1.0),
        (&[1e308, 1e308, -1e308], 1e308),
        (&[f64::MAX, f64::MAX], f64::INFINITY),
        (&[-f64::MAX, -f64::MAX, -1.0], -f64::INFINITY),
        // Half a unit beyond the largest double is the tie that overflows; a little less does not.
        (&[f64::MAX, 9.979_201_547_673_6e291], f64::INFINITY),
        (&[f64::MAX, 9.979_201_547_673_6e291, -5e-324], f64::MAX),
        (&[5e-324, 5e-324], 1e-323),
        (&[f64::MIN_POSITIVE, -5e-324], 2.225_073_858_507_201e-308),
        (&[1.0, f64::EPSILON / 2.0], 1.0),
        (&[1.0, f64::EPSILON / 2.0, 5e-324], 1.0 + f64::EPSILON),
        (&[1e300, 1e-300, -1e300], 1e-300),
    ];
    for (values, expected) in cases {
        check(values, &[]);
        let sum = &on_each_instruction_set(values)[0];
        assert_eq!(sum.value().to_bits(), expected.to_bits(), "{values:?}");
    }
    let huge_among_tiny: Vec<_> = (0..3000).map(|i| if i == 1500 { 1e300 } else { 1e-300 }).collect();
    check(&huge_among_tiny, &[]);
    check(&[&huge_among_tiny[..], &[-1e300]].concat(), &[]);
}

/// Full blocks of what a path can bear, of one sign: one value at the top of the span, one at its bottom, and a
/// thousand between them whose significands end in ones below half of a level's unit, so that as much as can be is left over.
#[test]
fn full_blocks_at_the_limits() {
    let mut random = 1u64;
    let mut block = |digits: i32, span: i32, middle: i32, level: i32| -> Vec<f64> {
        let value = |i: usize| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let exponent = match i {
                0 => 0,
                1 => -span,
                _ => -middle,
            };
            // Half of a level's unit is 2^(1 − level (digits − 1)), and the last bit 2^(exponent + 1 − digits).
            let ones = (1 - level * (digits - 1) - (exponent + 1 - digits)).clamp(1, digits - 1);
            let fraction = if level == 5 { random >> (65 - digits) } else { (1 << ones) - 1 };
            (power(digits - 1) + fraction as f64) * power(exponent + 1 - digits)
        };
        (0..1024).map(value).collect()
    };
    for span in SPANS.map(|span| span as i32) {
        for (middle, level) in (0..=span).flat_map(|middle| (1..=5).map(move |level| (middle, level))) {
            check(&block(53, span, middle, level), &[]);
            check(&block(24, span, middle, level).iter().map(|&value| value as f32).collect::<Vec<_>>(), &[]);
        }
    }
}

/// Full blocks where the total, or the smallest bit, is about to leave the range.
#[test]
fn full_blocks_at_the_ends_of_the_range() {
    for span in SPANS.map(|span| span as i32) {
        for top in [1023, 1021, 1020, 1019, 1000, span - 816, span - 969, span - 970, span - 971, span - 1022] {
            for few in [1, 512, 1023] {
                let exponent = |i| if i < few { top - span } else { top }.clamp(-1022, 1023);
                check(&(0..1024).map(|i| (2.0 - f64::EPSILON) * power(exponent(i))).collect::<Vec<_>>(), &[]);
            }
        }
    }
}
