//! The exact sum: any number of floating-point values, in any order, added without rounding and rounded once.
//!
//! 1. The state is a fixed-point number that covers every bit of a double, 2^−1074 to 2^1024, with 60 bits of
//!    head-room: Kulisch's long accumulator, in signed 64-bit limbs that carry 32 bits each, so that carries wait (Neal
//!    2015).
//! 2. A block of up to 2,048 values is first summed by itself, in two to four integers. Its largest magnitude and its
//!    smallest non-zero one bound the bits in use; `(x + M) − M` cuts each value at bits that the largest one fixes
//!    (Demmel & Nguyen 2013, after Rump's extraction), so that each part is a whole number of its units
//!    ([`lanes`]). Only these integers go into the fixed-point number.
//! 3. A block of singles that spans too many binades is summed as doubles; one of doubles, or one that has infinities or
//!    NaNs, goes in value by value.
//!
//! Every step is exact, so the sum depends on the values alone: not on order, blocks, merges or instruction set.
//!
//! U. Kulisch, Computer Arithmetic and Validity, 2013. R. Neal, Fast exact summation using small and large
//! superaccumulators, arXiv:1505.05571, 2015. J. Demmel and H. D. Nguyen, Fast reproducible floating-point summation,
//! ARITH 21, 2013. S. Rump, T. Ogita and S. Oishi, Accurate floating-point summation I, SIAM J. Sci. Comput. 31, 2008.

mod lanes;

use crate::isa::{Isa, Kernel, Set};
use crate::real::Real;

use lanes::Portable;
pub use lanes::{GRAIN, Lanes, MOST_VALUES, Totals};

/// 68 · 32 = 2,176 bits: 2,098 for the doubles, 60 for 2^60 of them, a sign, and some left over.
const LIMBS: usize = 68;
/// Additions between two propagations of the carries.
const MAX_PENDING: u32 = 1 << 30;
/// Values that are summed at once: 2^10.
const BLOCK: usize = 1024;
/// The most levels on which values are added while they are computed. The fewest are 2: a number's last bit is below the first
/// one's unit.
const FUSED_LEVELS: usize = 3;
/// The most levels of a grid.
const MOST_LEVELS: usize = 4;
/// Lanes in which extremes are found, for SIMD: enough to hide the latency of maxima.
pub const LANES: usize = 32;
/// Blocks below this go in value by value: it is quicker.
const SMALL: usize = 16;

/// A sum of doubles, exact until [`ExactSum::value`] rounds it.
///
/// Holds 2^60 additions. Infinities and NaNs are kept beside the finite sum and mean what they mean in IEEE addition.
#[derive(Clone, Debug)]
pub struct ExactSum {
    /// Σ limbs\[i\] · 2^(32 i − 1074). Invariant: |limb| < (pending + 1) · 2^32, but for the last, which nothing
    /// leaves.
    limbs: [i64; LIMBS],
    /// Additions since the carries were last propagated, at most `MAX_PENDING + 1`.
    pending: u32,
    /// Only limbs\[first..end\] are in use, the others are zero: this makes small sums quick.
    first: usize,
    end: usize,
    /// The sum of the infinities and NaNs; 0 if there were none.
    special: f64,
}

impl Default for ExactSum {
    fn default() -> Self {
        Self::new()
    }
}

impl ExactSum {
    /// The length of [`ExactSum::to_bytes`].
    pub const BYTES: usize = 4 * LIMBS + 8;

    /// The sum of nothing.
    #[inline]
    pub const fn new() -> Self {
        Self { limbs: [0; LIMBS], pending: 0, first: LIMBS, end: 0, special: 0.0 }
    }

    /// Adds one value.
    #[inline]
    pub fn add(&mut self, value: f64) {
        self.make_room(1);
        self.deposit(value);
    }

    /// Adds many values.
    pub fn add_block<T: Summand>(&mut self, isa: Isa, values: &[T]) {
        for block in values.chunks(BLOCK) {
            if block.len() < SMALL {
                self.add_each(block);
                continue;
            }
            match isa.run(Sum { block }) {
                Summed::On { largest, sums } => self.add_levels::<T, MOST_LEVELS>(sums, largest),
                Summed::TooWide if T::DIGITS < <f64 as Summand>::DIGITS => {
                    let mut doubles = [0.0; BLOCK];
                    doubles.iter_mut().zip(block).for_each(|(double, value)| *double = value.to_f64());
                    self.add_block(isa, &doubles[..block.len()]);
                }
                Summed::TooWide => self.add_each(block),
            }
        }
    }

    /// Adds what [`Lanes`] have added up, if that is exact, and learns from them what to expect. Whether it
    /// was exact.
    pub fn add_totals<T: Summand, const LEVELS: usize>(
        &mut self,
        totals: &Totals<T, LEVELS>,
        expectation: &mut Expectation,
    ) -> bool {
        let expected = expectation.largest();
        let (smallest, largest) = totals.extremes;
        let exact = largest == T::ZERO
            || exponent(largest) <= expected && levels(exponent(smallest), expected, T::DIGITS) <= LEVELS;
        if exact {
            self.add_levels::<T, LEVELS>(totals.sums, expected);
        }
        if largest != T::ZERO {
            expectation.learn::<T>((smallest, largest));
        }
        exact
    }

    /// Adds what another sum holds.
    pub fn merge(&mut self, other: &Self) {
        self.make_room(other.pending + 1);
        for (limb, other) in self.limbs.iter_mut().zip(&other.limbs) {
            *limb += other;
        }
        self.first = self.first.min(other.first);
        self.end = self.end.max(other.end);
        self.special += other.special;
    }

    /// The sum, rounded once to the nearest double, ties to even: what Python's `math.fsum` returns, save that overflow
    /// on the way does not matter and a sum beyond the doubles is ±∞. A sum of zero is +0, as there, whatever the
    /// zeros' signs.
    pub fn value(&self) -> f64 {
        if self.special != 0.0 {
            return canonical(self.special);
        }
        let (digits, negative) = self.digits(1);
        // What the last limb in use carries goes into one more digit.
        let end = LIMBS.min(self.end + 1);
        if negative { -magnitude(&self.digits(-1).0[..end]) } else { magnitude(&digits[..end]) }
    }

    /// The infinities and NaNs aside, the sum as integers times powers of two: (negative, integer, exponent), one for each
    /// digit of the fixed-point number that is not 0.
    pub fn terms(&self) -> impl Iterator<Item = (bool, u32, i32)> {
        let (digits, negative) = self.digits(1);
        let digits = if negative { self.digits(-1).0 } else { digits };
        let place = move |(i, digit)| (negative, digit, 32 * i as i32 - 1074);
        digits.into_iter().enumerate().filter(|&(_, digit)| digit != 0).map(place)
    }

    /// The state, little-endian: the fixed-point number in two's complement, then the sum of infinities and NaNs. It
    /// depends on nothing but the values added.
    pub fn to_bytes(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        for (bytes, digit) in bytes.chunks_exact_mut(4).zip(self.digits(1).0) {
            bytes.copy_from_slice(&digit.to_le_bytes());
        }
        bytes[4 * LIMBS..].copy_from_slice(&canonical(self.special).to_le_bytes());
        bytes
    }

    /// The sum that [`ExactSum::to_bytes`] wrote; `None` if these bytes are no such thing.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (digits, special) = bytes.split_at_checked(4 * LIMBS)?;
        let special = f64::from_le_bytes(special.try_into().ok()?);
        let mut sum = Self { first: 0, end: LIMBS, special, ..Self::new() };
        for (limb, digit) in sum.limbs.iter_mut().zip(digits.as_chunks().0) {
            *limb = u32::from_le_bytes(*digit).into();
        }
        // The last limb is the signed one: 2^60 values below 2^1024 stay within 2^(1084 − 1070).
        let top = &mut sum.limbs[LIMBS - 1];
        *top = (*top as i32).into();
        let genuine = top.abs() <= 1 << 14 && (special.to_bits() == 0 || !special.is_finite());
        genuine.then_some(sum)
    }

    /// Makes sure that `additions` more cannot overflow a limb.
    #[inline(always)]
    fn make_room(&mut self, additions: u32) {
        self.pending += additions;
        if self.pending > MAX_PENDING {
            self.propagate();
            self.pending = additions;
        }
    }

    /// Brings every limb but the last into \[0, 2^32).
    #[cold]
    fn propagate(&mut self) {
        let mut carry = 0;
        for limb in &mut self.limbs[..LIMBS - 1] {
            let sum = *limb + carry;
            *limb = sum & 0xffff_ffff;
            carry = sum >> 32;
        }
        self.limbs[LIMBS - 1] += carry;
        (self.first, self.end) = (0, LIMBS);
    }

    /// The digits of the sum times `sign` in two's complement, and whether that is negative.
    fn digits(&self, sign: i64) -> ([u32; LIMBS], bool) {
        let (mut digits, mut carry) = ([0; LIMBS], 0);
        let used = self.first.min(self.end)..self.end;
        for (digit, limb) in digits[used.clone()].iter_mut().zip(&self.limbs[used]) {
            let sum = sign * limb + carry;
            *digit = sum as u32;
            carry = sum >> 32;
        }
        if let [next, rest @ ..] = &mut digits[self.end..] {
            *next = carry as u32;
            rest.fill((carry >> 63) as u32);
        }
        (digits, carry < 0)
    }

    /// Adds a value for which there is room.
    #[inline(always)]
    fn deposit(&mut self, value: f64) {
        let bits = value.to_bits();
        let exponent = (bits >> 52) as usize & 0x7ff;
        if exponent == 0x7ff {
            self.special += value;
            return;
        }
        let fraction = bits & ((1 << 52) - 1);
        let (integer, position) = if exponent == 0 { (fraction, 0) } else { (fraction | 1 << 52, exponent - 1) };
        self.place(integer, bits as i64 >> 63, position);
    }

    /// Adds an integer times 2^(`position` − 1074), for which there is room: its 64 bits touch three limbs. `sign` is −1 if it is
    /// to be subtracted, else 0.
    #[inline(always)]
    fn place(&mut self, integer: u64, sign: i64, position: usize) {
        let wide = u128::from(integer) << (position % 32);
        let first = position / 32;
        self.first = self.first.min(first);
        self.end = self.end.max(first + 3);
        for (part, limb) in self.limbs[first..][..3].iter_mut().enumerate() {
            // Negation without a branch: (p ^ −1) − (−1) = −p.
            *limb += (i64::from((wide >> (32 * part)) as u32) ^ sign) - sign;
        }
    }

    /// Adds the levels of values that are below 2^(`largest` + 1).
    #[inline(always)]
    fn add_levels<T: Summand, const LEVELS: usize>(&mut self, sums: [i64; LEVELS], largest: i32) {
        self.make_room(LEVELS as u32);
        for (level, sum) in sums.into_iter().enumerate() {
            let unit = lanes::exponent::<T>(largest, level + 1);
            self.place(sum.unsigned_abs(), sum >> 63, (unit + 1074) as usize);
        }
    }

    /// Adds a block of at most `BLOCK` values one by one.
    #[inline(never)]
    fn add_each<T: Summand>(&mut self, block: &[T]) {
        self.make_room(block.len() as u32);
        for &value in block {
            self.deposit(value.to_f64());
        }
    }
}

/// NaN has many bits; one of them is enough.
fn canonical(special: f64) -> f64 {
    if special.is_nan() { f64::NAN } else { special }
}

/// Σ digits\[i\] · 2^(32 i − 1074), rounded to nearest, ties to even.
fn magnitude(digits: &[u32]) -> f64 {
    let Some(top) = digits.iter().rposition(|&digit| digit != 0) else { return 0.0 };
    let digit = |i: usize| digits.get(i).copied().unwrap_or(0);
    // The three top digits, with a last bit for all that lies below: 65 to 96 bits, so it is never the rounding bit.
    let below = digits[..top.saturating_sub(2)].iter().fold(0, |all, digit| all | digit) != 0;
    let window = (0..3).fold(0, |window, i| window << 32 | u128::from(digit(top.wrapping_sub(i)))) | u128::from(below);
    let length = 128 - window.leading_zeros() as usize;
    // The bits that the integer Σ digits[i] · 2^(32 i) has beyond the 53 of a double. In the doubles' own coding, the
    // integer n < 2^53 is n · 2^−1074 (a subnormal or of the first binade), and each bit dropped adds one to the
    // exponent field; a rounding up to 2^53, or to infinity, carries into it as it should.
    let Some(dropped) = (32 * top + length - 64).checked_sub(53) else {
        return f64::from_bits(u64::from(digit(1)) << 32 | u64::from(digit(0)));
    };
    if dropped >= 0x7fe {
        return f64::INFINITY;
    }
    let shift = length - 53;
    let (quotient, remainder) = ((window >> shift) as u64, window & ((1 << shift) - 1));
    let half = 1 << (shift - 1);
    let up = remainder > half || (remainder == half && quotient & 1 == 1);
    f64::from_bits(((dropped as u64) << 52) + quotient + u64::from(up))
}

/// What is expected of the values of blocks to come, so that they may be added up before their extremes are known.
#[derive(Clone, Debug)]
pub struct Expectation {
    /// The E with all |x| < 2^(E+1), once there was a block.
    largest: Option<i32>,
    /// The levels of a grid that they need.
    levels: usize,
    /// The blocks until fewer levels will do.
    left: u32,
}

impl Expectation {
    /// Nothing is known.
    pub const NOTHING: Self = Self { largest: None, levels: FUSED_LEVELS, left: 0 };
    /// Values below 64: as good as any.
    const FIRST: i32 = 5;
    /// So many blocks get the levels that one needed, as to do a block again costs more than levels in vain.
    const BLOCKS: u32 = 48;

    /// The E that is expected.
    pub fn largest(&self) -> i32 {
        self.largest.unwrap_or(Self::FIRST)
    }

    /// Whether blocks are likely to be added up while they are computed: enough is known of them, and they do not span too much.
    pub fn is_fused(&self) -> bool {
        self.largest.is_some() && self.levels <= FUSED_LEVELS
    }

    /// The levels that the next block is expected to need. What needs more than [`FUSED_LEVELS`] is tried on those now and then, as
    /// nothing is learnt from blocks that are not.
    pub fn levels(&mut self) -> usize {
        match self.left {
            0 => self.levels = self.levels.min(FUSED_LEVELS),
            _ => self.left -= 1,
        }
        self.levels
    }

    /// Learns from a block. Of larger values than were expected, a little more than these need is expected from now on.
    fn learn<T: Summand>(&mut self, (smallest, largest): (T, T)) {
        let (low, high) = T::EXPECTED;
        let seen = exponent(largest);
        if seen > high {
            // Not finite, or as good as that: values of which there are likely to be more.
            (self.levels, self.left) = (MOST_LEVELS, Self::BLOCKS);
            return;
        }
        if self.largest.is_none_or(|expected| seen > expected) {
            self.largest = Some((seen + 1).clamp(low, high));
        }
        let needed = levels(exponent(smallest), self.largest(), T::DIGITS);
        if needed >= self.levels {
            (self.levels, self.left) = (needed, Self::BLOCKS);
        } else if self.left == 0 {
            self.levels = needed;
        }
    }
}

/// A block's sum.
enum Summed {
    /// On a grid for values below 2^(`largest` + 1).
    On { largest: i32, sums: [i64; MOST_LEVELS] },
    /// It spans too many binades, or not all values are finite.
    TooWide,
}

/// Sums a block on the grid that its extremes need.
struct Sum<'a, T> {
    block: &'a [T],
}

impl<T: Summand> Sum<'_, T> {
    /// # Safety
    /// The machine must have the lanes' instruction sets.
    #[inline(always)]
    unsafe fn by<Two: Lanes<T, 2>, Three: Lanes<T, 3>, Four: Lanes<T, 4>>(self) -> Summed {
        // The last lanes are filled up with zeros, which change nothing.
        let (grains, tail) = self.block.as_chunks();
        let mut last = [T::ZERO; GRAIN];
        last[..tail.len()].copy_from_slice(tail);
        let parts = [grains, if tail.is_empty() { &[] } else { std::slice::from_ref(&last) }];
        let [whole, rest] = parts.map(|grains| grains.as_flattened().as_chunks().0.iter());
        let (smallest, largest) = T::extremes(whole.chain(rest));
        if largest == T::ZERO {
            return Summed::On { largest: T::EXPECTED.0, sums: [0; MOST_LEVELS] };
        }
        let (low, high) = T::EXPECTED;
        let largest = exponent(largest).max(low);
        if largest > high {
            return Summed::TooWide;
        }
        // SAFETY: the caller's.
        let sums = unsafe {
            match levels(exponent(smallest), largest, T::DIGITS) {
                ..=2 => sum_of::<T, Two, 2>(parts, largest),
                3 => sum_of::<T, Three, 3>(parts, largest),
                4 => sum_of::<T, Four, 4>(parts, largest),
                _ => return Summed::TooWide,
            }
        };
        Summed::On { largest, sums }
    }
}

/// The sums of the levels, and of those that there are besides, 0.
///
/// # Safety
/// The machine must have the lanes' instruction set.
#[inline(always)]
unsafe fn sum_of<T: Summand, L: Lanes<T, LEVELS>, const LEVELS: usize>(
    parts: [&[[T; GRAIN]]; 2],
    largest: i32,
) -> [i64; MOST_LEVELS] {
    let mut sums = [0; MOST_LEVELS];
    // SAFETY: the caller's.
    unsafe {
        let mut lanes = L::new(largest);
        for part in parts {
            for values in part {
                lanes.add(values);
            }
        }
        sums[..LEVELS].copy_from_slice(&lanes.totals().sums);
    }
    sums
}

impl<T: Summand> Kernel for Sum<'_, T> {
    type Output = Summed;

    #[inline(always)]
    fn run(self) -> Summed {
        // SAFETY: these lanes are for any machine.
        unsafe { self.by::<Portable<T, 2>, Portable<T, 3>, Portable<T, 4>>() }
    }

    #[inline(always)]
    fn run_on<S: Set>(self) -> Summed {
        match S::ISA {
            Isa::Baseline => self.run(),
            // SAFETY: this is compiled for the set and runs where it is there.
            Isa::Avx2 => unsafe { self.by::<T::Avx2<2>, T::Avx2<3>, T::Avx2<4>>() },
            // SAFETY: as above.
            Isa::Avx512 => unsafe { self.by::<T::Avx512<2>, T::Avx512<3>, T::Avx512<4>>() },
        }
    }
}

/// Folds lanes, a power of two of them, by halves: always in the same order, in few steps, and each half in registers.
#[inline(always)]
pub fn fold<T: Copy, const N: usize>(mut lanes: [T; N], join: impl Fn(T, T) -> T) -> T {
    const { assert!(N.is_power_of_two()) };
    let mut half = N / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] = join(lanes[lane], lanes[lane + half]);
        }
        half /= 2;
    }
    lanes[0]
}

/// The levels that values of at least 2^`smallest` need, on a grid for values below 2^(`largest` + 1): the last one's unit
/// must be no larger than their last bit.
#[inline(always)]
fn levels(smallest: i32, largest: i32, digits: i32) -> usize {
    let (last_bit, bits) = (smallest + 1 - digits, digits - 1);
    ((largest + 2 - last_bit + bits - 1) / bits) as usize
}

/// The E with 2^E ≤ |x| < 2^(E+1); of a subnormal double, less than that of normal ones.
#[inline(always)]
fn exponent<T: Real>(magnitude: T) -> i32 {
    (magnitude.to_f64().to_bits() >> 52) as i32 - 1023
}

/// A type whose values [`ExactSum`] adds.
pub trait Summand: Real {
    /// Bits of a significand.
    const DIGITS: i32;

    /// The least and the largest E of a grid: on none of its levels may anything overflow, or be subnormal, which would be
    /// slow, and lost where a host program flushes such values to zero.
    const EXPECTED: (i32, i32);

    /// A number's bits, as a signed integer.
    type Bits: Copy + Default + Ord;
    /// The lanes of AVX2, or of any machine where there is no such thing.
    type Avx2<const LEVELS: usize>: Lanes<Self, LEVELS>;
    /// The lanes of AVX-512, likewise.
    type Avx512<const LEVELS: usize>: Lanes<Self, LEVELS>;

    /// The sum of a number's bits and others; it wraps.
    fn add_bits(bits: Self::Bits, value: Self) -> Self::Bits;

    /// Bits without those of a number so many times, as wrapping sums have it.
    fn multiple(bits: Self::Bits, value: Self, times: usize) -> i64;

    /// Takes values, one in each lane, into the largest magnitude and the smallest that is not zero.
    fn extend<const WIDTH: usize>(
        values: &[Self; WIDTH],
        largest: &mut [Self::Bits; WIDTH],
        smallest: &mut [Self::Bits; WIDTH],
    );

    /// The smallest and the largest magnitude of what [`Summand::extend`] has made of zeros.
    fn magnitudes(largest: Self::Bits, smallest: Self::Bits) -> (Self, Self);

    /// The smallest non-zero magnitude and the largest; zeros if there is none. Infinities and NaNs count, NaNs as the
    /// largest.
    #[inline(always)]
    fn extremes<'a>(block: impl Iterator<Item = &'a [Self; LANES]>) -> (Self, Self) {
        let (mut largest, mut smallest) = ([Self::Bits::default(); LANES], [Self::Bits::default(); LANES]);
        block.for_each(|values| Self::extend(values, &mut largest, &mut smallest));
        Self::magnitudes(fold(largest, Ord::max), fold(smallest, Ord::max))
    }
}

macro_rules! implement {
    ($t:ident, $bits:ident, $avx2:ident, $avx512:ident) => {
        impl Summand for $t {
            const DIGITS: i32 = $t::MANTISSA_DIGITS as i32;
            const EXPECTED: (i32, i32) =
                ($t::MIN_EXP - 3 + MOST_LEVELS as i32 * (<Self as Summand>::DIGITS - 1), $t::MAX_EXP - 4);

            type Bits = $bits;
            #[cfg(target_arch = "x86_64")]
            type Avx2<const LEVELS: usize> = lanes::$avx2<LEVELS>;
            #[cfg(target_arch = "x86_64")]
            type Avx512<const LEVELS: usize> = lanes::$avx512<LEVELS>;
            #[cfg(not(target_arch = "x86_64"))]
            type Avx2<const LEVELS: usize> = Portable<Self, LEVELS>;
            #[cfg(not(target_arch = "x86_64"))]
            type Avx512<const LEVELS: usize> = Portable<Self, LEVELS>;

            #[inline(always)]
            fn add_bits(bits: $bits, value: $t) -> $bits {
                bits.wrapping_add(value.to_bits() as $bits)
            }

            #[inline(always)]
            fn multiple(bits: $bits, value: $t, times: usize) -> i64 {
                i64::from(bits.wrapping_sub((value.to_bits() as $bits).wrapping_mul(times as $bits)))
            }

            #[inline(always)]
            fn extend<const WIDTH: usize>(
                values: &[Self; WIDTH],
                largest: &mut [$bits; WIDTH],
                smallest: &mut [$bits; WIDTH],
            ) {
                // Magnitudes order as their bits do, infinities and NaNs on top. Signed maxima, as most instruction
                // sets have those: MIN − bits grows as the magnitude shrinks, and is below 0 for zeros alone.
                for lane in 0..WIDTH {
                    let bits = values[lane].to_bits() as $bits & $bits::MAX;
                    let negated = $bits::MIN.wrapping_sub(bits);
                    largest[lane] = if bits > largest[lane] { bits } else { largest[lane] };
                    smallest[lane] = if negated > smallest[lane] { negated } else { smallest[lane] };
                }
            }

            #[inline(always)]
            fn magnitudes(largest: $bits, smallest: $bits) -> (Self, Self) {
                ($t::from_bits($bits::MIN.wrapping_sub(smallest) as _).abs(), $t::from_bits(largest as _))
            }
        }
    };
}

implement!(f32, i32, Avx2F32, Avx512F32);
implement!(f64, i64, Avx2F64, Avx512F64);

#[cfg(test)]
mod tests {
    use super::*;

    /// The levels that a block takes, which the sums in `tests/exact_sum.rs` rely on to reach every path; `None` if it is too
    /// wide.
    fn levels_of<T: Summand>(values: &[T]) -> Option<usize> {
        let mut block = [T::ZERO; GRAIN];
        block[..values.len()].copy_from_slice(values);
        match Isa::widest().run(Sum { block: &block }) {
            Summed::On { largest, .. } => {
                Some(levels(exponent(T::extremes(block.as_chunks().0.iter()).0), largest, T::DIGITS))
            }
            Summed::TooWide => None,
        }
    }

    #[test]
    fn each_span_takes_its_path() {
        let power = |exponent: i32| 2f64.powi(exponent);
        for (narrow, levels, beyond) in [(50, 2, Some(3)), (102, 3, Some(4)), (154, 4, None)] {
            assert_eq!(levels_of(&[0.0, power(narrow), -1.5]), Some(levels));
            assert_eq!(levels_of(&[0.0, power(narrow + 1), -1.5]), beyond);
        }
        for (narrow, levels, beyond) in [(21, 2, Some(3)), (44, 3, Some(4)), (67, 4, None)] {
            assert_eq!(levels_of(&[power(narrow) as f32, 0.0, 1.5]), Some(levels));
            assert_eq!(levels_of(&[power(narrow + 1) as f32, 0.0, 1.5]), beyond);
        }
        assert_eq!(levels_of(&[power(1020)]), Some(2));
        assert_eq!(levels_of(&[power(-970)]), Some(4));
        for slow in [power(1021), power(-971), f64::MIN_POSITIVE, 5e-324, f64::INFINITY, f64::NAN, -f64::NAN] {
            assert_eq!(levels_of(&[slow]), None, "{slow}");
        }
        for slow in [f32::MAX, f32::MIN_POSITIVE, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, -f32::NAN] {
            assert_eq!(levels_of(&[1.0, slow]), None, "{slow}");
        }
    }

    #[test]
    fn carries_are_propagated_in_time() {
        // As if MAX_PENDING − 1 additions had been made, each of the most that a limb can take.
        let mut sum = ExactSum::new();
        sum.limbs[..LIMBS - 1].fill(i64::from(MAX_PENDING) << 32);
        (sum.pending, sum.first, sum.end) = (MAX_PENDING - 1, 0, LIMBS - 1);
        let mut carried = sum.clone();
        carried.propagate();
        assert_eq!(carried.to_bytes(), sum.to_bytes());
        assert!(carried.limbs[..LIMBS - 1].iter().all(|&limb| limb >> 32 == 0));
        for value in [-1.5, f64::MAX, 5e-324] {
            sum.add(value);
            carried.add(value);
        }
        assert_eq!(sum.pending, 2);
        assert_eq!(carried.to_bytes(), sum.to_bytes());
    }
}
