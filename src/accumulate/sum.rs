//! An exact sum in a few words, for states that hold millions of them.
//!
//! 1. The sum is an integer in two's complement, in 64-bit limbs, times a power of two: a window of `N` limbs on the number
//!    line, laid around the first value. Adding a value of at most 107 bits is a shift and `N` additions with carry.
//! 2. A value that the window does not cover, or a carry out of it, moves the window if another place covers everything, or
//!    else makes it as wide as need be, on the heap.
//! 3. There is no largest or smallest exponent, so that products of doubles neither overflow nor underflow.
//!
//! Limbs begin at multiples of 64 bits; without zeros below and repeated signs above, the limbs are a function of the sum
//! alone, which is what is compared and written.

use num_bigint::{BigInt, BigUint, Sign};

/// Bits that a window leaves free above the first value: 2^40 values of its size may be added before it moves.
const HEADROOM: i32 = 40;
/// The base of a window that has not been laid yet.
const UNPLACED: i16 = i16::MIN;

/// A sum of signed integers times powers of two, exact until [`CompactSum::value`] rounds it.
#[derive(Clone, Debug)]
pub struct CompactSum<const N: usize>(Window<N>);

#[derive(Clone, Debug)]
enum Window<const N: usize> {
    Narrow { base: i16, limbs: [u64; N] },
    Wide(Box<Wide>),
}

/// Σ limbs\[i\] · 2^(64 (base + i)), the last limb signed.
#[derive(Clone, Debug, Default)]
struct Wide {
    base: i32,
    limbs: Vec<u64>,
}

/// A finite value: (−1)^negative · significand · 2^exponent.
#[derive(Clone, Copy, Debug)]
pub struct Term {
    negative: bool,
    significand: u128,
    exponent: i32,
}

impl Term {
    /// A double; `None` if it is infinite or NaN.
    #[inline(always)]
    pub fn of(value: f64) -> Option<Self> {
        let bits = value.to_bits();
        let (exponent, fraction) = ((bits >> 52) as i32 & 0x7ff, bits & ((1 << 52) - 1));
        let subnormal = exponent == 0;
        let significand = if subnormal { fraction } else { fraction | 1 << 52 };
        let exponent_of_last_bit = if subnormal { -1074 } else { exponent - 1075 };
        let term = Self { negative: value < 0.0, significand: significand.into(), exponent: exponent_of_last_bit };
        (exponent != 0x7ff).then_some(term)
    }

    /// An integer.
    pub fn integer(value: u64) -> Self {
        Self { negative: false, significand: value.into(), exponent: 0 }
    }

    /// A part of a sum of doubles.
    pub fn part(negative: bool, significand: u32, exponent: i32) -> Self {
        Self { negative, significand: significand.into(), exponent }
    }

    /// The exact product of two doubles.
    #[inline(always)]
    #[must_use]
    pub fn times(self, other: Self) -> Self {
        Self {
            negative: self.negative != other.negative,
            significand: (self.significand as u64 as u128) * (other.significand as u64 as u128),
            exponent: self.exponent + other.exponent,
        }
    }

    /// The words of the significand, shifted by less than 64 bits.
    #[inline(always)]
    fn words(self, shift: u32) -> [u64; 3] {
        let low = self.significand << shift;
        let high = if shift == 0 { 0 } else { self.significand >> (128 - shift) };
        [low as u64, (low >> 64) as u64, high as u64]
    }
}

impl<const N: usize> Default for CompactSum<N> {
    fn default() -> Self {
        Self(Window::Narrow { base: UNPLACED, limbs: [0; N] })
    }
}

impl<const N: usize> CompactSum<N> {
    /// Adds a term.
    #[inline(always)]
    pub fn add(&mut self, term: Term) {
        if term.significand == 0 {
            return;
        }
        if let Window::Narrow { base, limbs } = &mut self.0 {
            let length = 128 - term.significand.leading_zeros() as i32;
            if *base == UNPLACED {
                *base = ((term.exponent + length + HEADROOM).div_euclid(64) + 1 - N as i32) as i16;
            }
            let lowest = term.exponent - 64 * i32::from(*base);
            if lowest >= 0 && lowest + length < 64 * N as i32 - 1 {
                let (skipped, words) = (lowest as usize / 64, term.words(lowest as u32 % 64));
                let mut shifted = [0; N];
                for (i, limb) in shifted.iter_mut().enumerate() {
                    *limb = match i.wrapping_sub(skipped) {
                        word @ 0..=2 => words[word],
                        _ => 0,
                    };
                }
                let (sum, overflow) = sum_of(*limbs, shifted, term.negative);
                if !overflow {
                    *limbs = sum;
                    return;
                }
            }
        }
        self.add_beyond(term);
    }

    /// Adds terms.
    pub fn add_all(&mut self, terms: &[Term]) {
        for &term in terms {
            self.add(term);
        }
    }

    #[cold]
    #[inline(never)]
    fn add_beyond(&mut self, term: Term) {
        let base = term.exponent.div_euclid(64);
        let words = term.words(term.exponent.rem_euclid(64) as u32);
        let mut limbs = [words[0], words[1], words[2], 0];
        if term.negative {
            negate(&mut limbs);
        }
        self.add_limbs(base, &limbs);
    }

    /// Adds what another sum holds.
    pub fn merge<const M: usize>(&mut self, other: &CompactSum<M>) {
        match &other.0 {
            Window::Narrow { base: UNPLACED, .. } => {}
            Window::Narrow { base, limbs } => self.add_limbs(i32::from(*base), limbs),
            Window::Wide(wide) => self.add_limbs(wide.base, &wide.limbs),
        }
    }

    /// Adds a number in two's complement.
    fn add_limbs(&mut self, base: i32, limbs: &[u64]) {
        match &mut self.0 {
            Window::Wide(wide) => wide.add(base, limbs),
            Window::Narrow { base: mine, limbs: own } => {
                if i32::from(*mine) == base
                    && let Ok(limbs) = <[u64; N]>::try_from(limbs)
                {
                    let (sum, overflow) = sum_of(*own, limbs, false);
                    if !overflow {
                        *own = sum;
                        return;
                    }
                }
                let mut wide = Wide::default();
                if *mine != UNPLACED {
                    wide.add(i32::from(*mine), own);
                }
                wide.add(base, limbs);
                self.0 = wide.narrowed();
            }
        }
    }

    /// The limbs that are a function of the sum alone, in two's complement, and the first one's place; none of zero.
    pub fn canonical(&self) -> (i32, Vec<u64>) {
        let (base, limbs) = self.limbs();
        let (first, end) = significant(limbs);
        (if first == end { 0 } else { base + first as i32 }, limbs[first..end].to_vec())
    }

    /// The sum of those limbs; `None` if they are none that [`CompactSum::canonical`] returns.
    pub fn from_canonical(base: i32, limbs: &[u64]) -> Option<Self> {
        // Products of doubles lie within 2^±2148, and 2^64 of them may be added.
        if significant(limbs) != (0, limbs.len()) || !(-64..=64).contains(&base) || limbs.len() > 80 {
            return None;
        }
        let mut sum = Self::default();
        if !limbs.is_empty() {
            sum.add_limbs(base, limbs);
        }
        Some(sum)
    }

    fn limbs(&self) -> (i32, &[u64]) {
        match &self.0 {
            Window::Narrow { base, limbs } => (i32::from(*base), limbs),
            Window::Wide(wide) => (wide.base, &wide.limbs),
        }
    }

    /// The sum as an integer and the exponent of the power of two that multiplies it.
    pub fn integer(&self) -> (BigInt, i32) {
        let (base, mut limbs) = self.canonical();
        let negative = is_negative(&limbs);
        if negative {
            negate(&mut limbs);
        }
        let digits = limbs.iter().flat_map(|&limb| [limb as u32, (limb >> 32) as u32]).collect();
        let sign = if negative { Sign::Minus } else { Sign::Plus };
        (BigInt::from_biguint(sign, BigUint::new(digits)), 64 * base)
    }

    /// The sum, rounded once to the nearest double, ties to even.
    pub fn value(&self) -> f64 {
        let (base, limbs) = self.limbs();
        let magnitude = |limbs: &[u64]| scale(significand_of(limbs), 64 * base);
        if is_negative(limbs) {
            let mut limbs = limbs.to_vec();
            negate(&mut limbs);
            -magnitude(&limbs)
        } else {
            magnitude(limbs)
        }
    }
}

impl Wide {
    fn add(&mut self, base: i32, limbs: &[u64]) {
        let (first, end) = significant(limbs);
        if first == end {
            return;
        }
        let (base, limbs) = (base + first as i32, &limbs[first..end]);
        if self.limbs.is_empty() {
            self.base = base;
        }
        if base < self.base {
            self.limbs.splice(0..0, std::iter::repeat_n(0, (self.base - base) as usize));
            self.base = base;
        }
        let skipped = (base - self.base) as usize;
        // A limb more than both have cannot overflow.
        let sign = if is_negative(&self.limbs) { u64::MAX } else { 0 };
        let length = self.limbs.len().max(skipped + limbs.len()) + 1;
        self.limbs.resize(length, sign);
        let sign = if is_negative(limbs) { u64::MAX } else { 0 };
        let mut carry = false;
        for (i, limb) in self.limbs.iter_mut().enumerate().skip(skipped) {
            let other = limbs.get(i - skipped).copied().unwrap_or(sign);
            (*limb, carry) = add_with_carry(*limb, other, carry);
        }
        let (_, end) = significant(&self.limbs);
        self.limbs.truncate(end);
    }

    /// In a window of `N` limbs, if it fits and leaves room above.
    fn narrowed<const N: usize>(self) -> Window<N> {
        let (first, end) = significant(&self.limbs);
        let used = &self.limbs[first..end];
        let Some(&top) = used.last() else { return Window::Narrow { base: UNPLACED, limbs: [0; N] } };
        let free = if is_negative(used) { top.leading_ones() } else { top.leading_zeros() };
        let above = usize::from((free as i32) < HEADROOM);
        let Some(below) = N.checked_sub(used.len() + above) else { return Window::Wide(Box::new(self)) };
        let mut limbs = [if is_negative(used) { u64::MAX } else { 0 }; N];
        limbs[..below].fill(0);
        limbs[below..][..used.len()].copy_from_slice(used);
        Window::Narrow { base: (self.base + first as i32 - below as i32) as i16, limbs }
    }
}

/// a + b or a − b, and whether it left the window.
#[inline(always)]
fn sum_of<const N: usize>(a: [u64; N], b: [u64; N], subtract: bool) -> ([u64; N], bool) {
    let flip = if subtract { u64::MAX } else { 0 };
    let (mut sum, mut carry) = ([0; N], subtract);
    for i in 0..N {
        (sum[i], carry) = add_with_carry(a[i], b[i] ^ flip, carry);
    }
    let top = N - 1;
    // Two numbers of one sign cannot have a sum of the other.
    let overflow = (a[top] ^ sum[top]) & ((b[top] ^ flip) ^ sum[top]);
    (sum, overflow >> 63 == 1)
}

#[inline(always)]
fn add_with_carry(a: u64, b: u64, carry: bool) -> (u64, bool) {
    let (sum, first) = a.overflowing_add(b);
    let (sum, second) = sum.overflowing_add(carry.into());
    (sum, first | second)
}

fn negate(limbs: &mut [u64]) {
    let mut carry = true;
    for limb in limbs {
        (*limb, carry) = add_with_carry(!*limb, 0, carry);
    }
}

fn is_negative(limbs: &[u64]) -> bool {
    limbs.last().is_some_and(|&top| top >> 63 == 1)
}

/// The limbs between zeros below and repeated signs above.
fn significant(limbs: &[u64]) -> (usize, usize) {
    let Some(first) = limbs.iter().position(|&limb| limb != 0) else { return (0, 0) };
    let mut end = limbs.len();
    while end > first + 1 {
        let (top, next) = (limbs[end - 1], limbs[end - 2]);
        if top != ((next as i64) >> 63) as u64 {
            break;
        }
        end -= 1;
    }
    (first, end)
}

/// A magnitude as significand · 2^exponent with 64 bits, the first of them 1, and whether something was cut off below them;
/// (0, 0, false) of zero.
fn significand_of(limbs: &[u64]) -> (u64, i32, bool) {
    let Some(top) = limbs.iter().rposition(|&limb| limb != 0) else { return (0, 0, false) };
    let next = if top > 0 { limbs[top - 1] } else { 0 };
    let shift = limbs[top].leading_zeros();
    let window = (u128::from(limbs[top]) << 64 | u128::from(next)) << shift;
    let below = window as u64 != 0 || limbs[..top.saturating_sub(1)].iter().any(|&limb| limb != 0);
    ((window >> 64) as u64, 64 * top as i32 - shift as i32, below)
}

/// significand · 2^(exponent + by), rounded once to the nearest double, ties to even.
fn scale((significand, exponent, below): (u64, i32, bool), by: i32) -> f64 {
    if significand == 0 {
        return 0.0;
    }
    // The significand has 64 bits: a normal double keeps 53 of them, a subnormal one fewer.
    let exponent = exponent + by;
    let dropped = 11.max(-1074 - exponent);
    if dropped > 65 {
        return 0.0;
    }
    let whole = u128::from(significand) << 1 | u128::from(below);
    let (quotient, rest) = ((whole >> (dropped + 1)) as u64, whole & ((1 << (dropped + 1)) - 1));
    let half = 1 << dropped;
    let rounded = quotient + u64::from(rest > half || (rest == half && quotient & 1 == 1));
    // In the doubles' coding a carry into the exponent is as it should be.
    let field = exponent + dropped + 1074;
    if field >= 0x7fe {
        return f64::INFINITY;
    }
    f64::from_bits(((field as u64) << 52) + rounded)
}

/// A positive integer times 2^exponent as a double in [1, 2], rounded once, and its exponent.
pub fn normalised(integer: &BigUint, exponent: i32) -> (f64, i32) {
    let (significand, own, below) = significand_of(&integer.to_u64_digits());
    (scale((significand, -63, below), 0), own + 63 + exponent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use num_bigint::BigInt;
    use proptest::prelude::*;

    /// x · 2^2200 as an integer.
    fn wide(term: Term) -> BigInt {
        let magnitude = BigInt::from(term.significand) << (term.exponent + 2200);
        if term.negative { -magnitude } else { magnitude }
    }

    fn finite() -> impl Strategy<Value = f64> {
        prop_oneof![
            any::<u64>().prop_map(f64::from_bits).prop_filter("finite", |value| value.is_finite()),
            -1e3..1e3_f64,
            (-60_i32..60).prop_map(|e| 2f64.powi(e)),
            Just(0.0),
            Just(f64::MAX),
            Just(-5e-324),
        ]
    }

    fn terms() -> impl Strategy<Value = Vec<(Term, f64)>> {
        let term = |value: f64| Term::of(value).unwrap();
        let one = prop_oneof![
            finite().prop_map(move |a| (term(a), a)),
            (finite(), finite()).prop_map(move |(a, b)| (term(a).times(term(b)), a * b)),
        ];
        prop::collection::vec(one, 0..40)
    }

    proptest! {
        #[test]
        fn sums_are_exact_whatever_the_window(terms in terms(), split in 0_usize..40) {
            let expected: BigInt = terms.iter().map(|&(term, _)| wide(term)).sum();
            let (mut three, mut four) = (CompactSum::<3>::default(), CompactSum::<4>::default());
            let (front, back) = terms.split_at(split.min(terms.len()));
            for &(term, _) in back.iter().rev() {
                three.add(term);
            }
            for &(term, _) in front {
                four.add(term);
            }
            four.merge(&three);
            let mut all = CompactSum::<3>::default();
            for &(term, _) in &terms {
                all.add(term);
            }
            let (integer, exponent) = all.integer();
            prop_assert_eq!(integer << (exponent + 2200) as u32 as usize, expected);
            prop_assert_eq!(all.canonical(), four.canonical());
            prop_assert_eq!(all.value().to_bits(), four.value().to_bits());
            let (base, limbs) = all.canonical();
            let again = CompactSum::<4>::from_canonical(base, &limbs).unwrap();
            prop_assert_eq!(again.canonical(), (base, limbs));
        }

        #[test]
        fn values_are_rounded_once(value in finite(), other in finite()) {
            let mut sum = CompactSum::<3>::default();
            sum.add(Term::of(value).unwrap());
            prop_assert_eq!(sum.value(), value);
            sum.add(Term::of(other).unwrap());
            // The sum of two doubles is correctly rounded by the machine.
            prop_assert_eq!(sum.value(), value + other);
            let mut product = CompactSum::<4>::default();
            product.add(Term::of(value).unwrap().times(Term::of(other).unwrap()));
            prop_assert_eq!(product.value(), value * other);
        }
    }
}
