//! The exact sum: any number of floating-point values, in any order, added without rounding and rounded once.
//!
//! 1. The state is a fixed-point number that covers every bit of a double, 2^−1074 to 2^1024, with 60 bits of
//!    head-room: Kulisch's long accumulator, in signed 64-bit limbs that carry 32 bits each, so that carries wait (Neal
//!    2015).
//! 2. A block of up to 1,024 values is first summed in double precision *without rounding*. Its largest magnitude and
//!    its smallest non-zero one bound the bits in use; `(x + M) − M` cuts each value at bits that the largest one fixes
//!    (Demmel & Nguyen 2013, after Rump's extraction), so that each part adds up exactly, in any order and any lanes.
//!    Only the block's one to three totals go into the fixed-point number.
//! 3. A block that spans too many binades, or has infinities or NaNs, goes in value by value.
//!
//! Every step is exact, so the sum depends on the values alone: not on order, blocks, merges or instruction set.
//!
//! U. Kulisch, Computer Arithmetic and Validity, 2013. R. Neal, Fast exact summation using small and large
//! superaccumulators, arXiv:1505.05571, 2015. J. Demmel and H. D. Nguyen, Fast reproducible floating-point summation,
//! ARITH 21, 2013. S. Rump, T. Ogita and S. Oishi, Accurate floating-point summation I, SIAM J. Sci. Comput. 31, 2008.

mod lanes;

use crate::real::Real;

pub use lanes::{GRAIN, Lanes, Portable, Totals};

/// 68 · 32 = 2,176 bits: 2,098 for the doubles, 60 for 2^60 of them, a sign, and some left over.
const LIMBS: usize = 68;
/// Additions between two propagations of the carries.
const MAX_PENDING: u32 = 1 << 30;
/// Values that are summed in double precision at once: 2^10.
const BLOCK: usize = 1024;
/// Sums that run side by side, for SIMD: enough to hide the latency of additions.
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

    /// Adds many values. Meant to be inlined into code that is compiled for an instruction set.
    #[inline(always)]
    pub fn add_block<T: Summand>(&mut self, values: &[T]) {
        for block in values.chunks(BLOCK) {
            if block.len() < SMALL {
                self.add_each(block);
                continue;
            }
            // The last lanes are filled up with zeros, which change nothing.
            let (lanes, tail) = block.as_chunks();
            let mut last = [T::ZERO; LANES];
            last[..tail.len()].copy_from_slice(tail);
            let lanes = lanes.iter().chain(if tail.is_empty() { None } else { Some(&last) });
            match plan(T::extremes(lanes.clone())) {
                (0, _) => {}
                (1, largest) => self.add_parts(split::<T, 1>(lanes, largest)),
                (2, largest) => self.add_parts(split::<T, 2>(lanes, largest)),
                (3, largest) => self.add_parts(split::<T, 3>(lanes, largest)),
                _ => self.add_each(block),
            }
        }
    }

    /// Adds what [`Lanes`] have added up of at most 1,024 values, if that is exact; if not, because the guess was too small,
    /// makes it large enough for these. Whether it was exact.
    pub fn add_totals<T: Summand>(&mut self, totals: &Totals<T>, guess: &mut i32) -> bool {
        let (parts, largest) = plan(totals.extremes);
        let unit = exponent(totals.extremes.0) + 1 - T::DIGITS;
        match parts {
            0 => true,
            1..=3 if largest <= *guess => {
                let exact = *guess - unit <= 86;
                if exact {
                    self.add_parts([totals.high, totals.low]);
                }
                exact
            }
            1..=3 => {
                // A little more than these need, for the blocks to come.
                *guess = largest.min(1008) + 2;
                false
            }
            _ => false,
        }
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

    /// Adds a value for which there is room: its 53 bits touch three limbs.
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
        let wide = u128::from(integer) << (position % 32);
        // Negation without a branch: (p ^ −1) − (−1) = −p.
        let sign = bits as i64 >> 63;
        let first = position / 32;
        self.first = self.first.min(first);
        self.end = self.end.max(first + 3);
        for (part, limb) in self.limbs[first..][..3].iter_mut().enumerate() {
            *limb += (i64::from((wide >> (32 * part)) as u32) ^ sign) - sign;
        }
    }

    #[inline(always)]
    fn add_parts<const PARTS: usize>(&mut self, parts: [f64; PARTS]) {
        for part in parts {
            self.add(part);
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

/// A block's totals, `PARTS` of them, each exact.
///
/// Let n ≤ 2^10, all |x| ≤ 2^(E+1), and every x be a multiple of 2^q.
///
/// One part: any partial sum is a multiple of 2^q of at most 2^(E+11). If E − q ≤ 42, it is a double and every addition
/// exact.
///
/// Each further part takes M = 1.5 · 2^k with k = E + 10. As |x| ≤ 2^(k−1), x + M lies in [2^k, 2^(k+1)], where doubles
/// are multiples of 2^(k−52) = 2^(E−42); taking M off again is exact. So high = (x + M) − M is such a multiple of at
/// most 2^(E+1), and sums of 2^10 of them are exact. The rest, x − high, is at most 2^(E−43), no larger than x and a
/// multiple of x's last bit, hence a double. So the rests are a block of their own, with E − 44 in E's place: p parts
/// are exact if E − q ≤ 42 + 44 (p − 1).
#[inline(always)]
fn split<'a, T: Summand, const PARTS: usize>(
    block: impl Iterator<Item = &'a [T; LANES]>,
    largest: i32,
) -> [f64; PARTS] {
    let cuts: [f64; PARTS] = std::array::from_fn(|part| {
        let k = largest + 10 - 44 * part as i32;
        f64::from_bits(((k + 1023) as u64) << 52 | 1 << 51)
    });
    let mut sums = [[0.0; LANES]; PARTS];
    block.for_each(|values| {
        for lane in 0..LANES {
            let mut rest = values[lane].to_f64();
            for part in 0..PARTS - 1 {
                let high = (rest + cuts[part]) - cuts[part];
                sums[part][lane] += high;
                rest -= high;
            }
            sums[PARTS - 1][lane] += rest;
        }
    });
    sums.map(|lanes| fold(lanes, |a, b| a + b))
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

/// The cut at which [`Lanes`] split values whose magnitudes are expected to be below 2^(`guess` + 1).
#[inline(always)]
pub fn cut(guess: i32) -> f64 {
    f64::from_bits(((guess + 10 + 1023) as u64) << 52 | 1 << 51)
}

/// How many parts [`split`] needs for a block with these extremes, and its E: 0 parts if all is zero, 4 if it will not
/// do.
///
/// Neither M = 1.5 · 2^(E+10) nor a sum of 2^(E+11) may overflow, which keeps infinities and NaNs out as well. And as
/// all that `split` computes is a multiple of 2^q, with q ≥ −1022 nothing is subnormal: neither slow, nor lost where a
/// host program flushes such values to zero.
#[inline(always)]
fn plan<T: Summand>((smallest, largest): (T, T)) -> (usize, i32) {
    let (unit, nothing) = (exponent(smallest) + 1 - T::DIGITS, largest == T::ZERO);
    let largest = exponent(largest);
    let parts = match largest - unit {
        _ if nothing => 0,
        _ if largest > 1012 || unit < -1022 => 4,
        i32::MIN..=42 => 1,
        43..=86 => 2,
        87..=130 => 3,
        _ => 4,
    };
    (parts, largest)
}

/// The E with 2^E ≤ |x| < 2^(E+1), of normal doubles.
#[inline(always)]
fn exponent<T: Real>(magnitude: T) -> i32 {
    (magnitude.to_f64().to_bits() >> 52) as i32 - 1023
}

/// A type whose values [`ExactSum`] adds.
pub trait Summand: Real {
    /// Bits of a significand.
    const DIGITS: i32;

    /// A magnitude's bits, as a signed integer.
    type Bits: Copy + Default + Ord;
    /// The lanes of AVX2, or of any machine where there is no such thing.
    type Avx2: Lanes<Self>;
    /// The lanes of AVX-512, likewise.
    type Avx512: Lanes<Self>;

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

            type Bits = $bits;
            #[cfg(target_arch = "x86_64")]
            type Avx2 = lanes::$avx2;
            #[cfg(target_arch = "x86_64")]
            type Avx512 = lanes::$avx512;
            #[cfg(not(target_arch = "x86_64"))]
            type Avx2 = Portable<Self>;
            #[cfg(not(target_arch = "x86_64"))]
            type Avx512 = Portable<Self>;

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

    /// The parts that a block takes, which the sums in `tests/exact_sum.rs` rely on to reach every path.
    fn parts<T: Summand>(block: &[T]) -> usize {
        let mut lanes = [T::ZERO; LANES];
        lanes[..block.len()].copy_from_slice(block);
        plan(T::extremes([lanes].iter())).0
    }

    #[test]
    fn each_span_takes_its_path() {
        let power = |exponent: i32| 2f64.powi(exponent);
        for (narrow, wide, parts_below, parts_beyond) in [(34, 35, 2, 3), (78, 79, 3, 4)] {
            assert_eq!(parts(&[0.0, power(narrow), -1.5]), parts_below);
            assert_eq!(parts(&[0.0, power(wide), -1.5]), parts_beyond);
        }
        for (narrow, wide, parts_below, parts_beyond) in [(19, 20, 1, 2), (63, 64, 2, 3), (107, 108, 3, 4)] {
            assert_eq!(parts(&[power(narrow) as f32, 0.0, 1.5]), parts_below);
            assert_eq!(parts(&[power(wide) as f32, 0.0, 1.5]), parts_beyond);
        }
        assert_eq!(parts(&[0.0, -0.0f32]), 0);
        assert_eq!(parts(&[0.0; 32]), 0);
        assert_eq!(parts(&[power(1012)]), 2);
        assert_eq!(parts(&[power(-970)]), 2);
        assert_eq!(parts(&[f32::MAX]), 1);
        for slow in [power(1013), power(-971), f64::MIN_POSITIVE, 5e-324, f64::INFINITY, f64::NAN, -f64::NAN] {
            assert_eq!(parts(&[slow]), 4, "{slow}");
        }
        for slow in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN, -f32::NAN] {
            assert_eq!(parts(&[1.0, slow]), 4, "{slow}");
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
