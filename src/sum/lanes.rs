//! Sums that run side by side in vectors: a block's values, added up on a grid of fixed points.
//!
//! Let all |x| < 2^(E+1), of p bits. A level takes M = 1.5 · 2^k with k = E + 2. As |x| ≤ 2^(k−1), t = x + M lies in
//! [2^k, 2^(k+1)], where numbers are multiples of u = 2^(k−p+1) and follow each other as their bits do: the bits of t, as an
//! integer, are those of M and x/u rounded. So levels are summed as integers, whose additions are exact, and quicker than those of
//! numbers on processors that have more units for them; the sum of M's bits, as often as values were added, is taken off in the
//! end. Integers may wrap, as what is left then fits them: 2^(p−2) for each of up to 2^8 singles or 2^9 doubles in a lane.
//!
//! What a level has rounded off, x − (t − M), is a number: at most u/2 and a multiple of x's last bit. It goes to the next level,
//! with k − p + 1 in k's place. The last level rounds nothing off if its u is no larger than the last bit of any value; and
//! that, as well as E, the magnitudes' extremes tell in the end.
//!
//! Plain loops over lanes are what LLVM's vectoriser of straight-line code takes apart: for AVX-512 it moved single lanes
//! through general registers. So each instruction set has lanes of its own, of the same meaning as the portable ones.

use super::{Summand, fold};

/// Values are added so many at a time.
pub const GRAIN: usize = 64;

/// The most values of lanes: 2^8 singles in each of AVX2's eight, 2^9 doubles in each of its four.
pub const MOST_VALUES: usize = 2048;

/// The most lanes of a set.
const MOST_LANES: usize = 16;

/// What lanes have added up.
pub struct Totals<T: Summand, const LEVELS: usize> {
    /// The sums of the levels, each in its unit. Of values that were not as expected they mean nothing.
    pub(super) sums: [i64; LEVELS],
    /// The smallest magnitude that is not zero, and the largest.
    pub(super) extremes: (T, T),
}

impl<T: Summand, const LEVELS: usize> Totals<T, LEVELS> {
    /// Joins lanes: the sums of bits, in the first `width` of them, and magnitudes as [`Summand::extend`] has them.
    #[inline(always)]
    fn of(
        levels: &[[T::Bits; MOST_LANES]; LEVELS],
        extremes: [[T::Bits; MOST_LANES]; 2],
        cuts: &[T; LEVELS],
        width: usize,
        grains: usize,
    ) -> Self {
        let times = grains * (GRAIN / width);
        let mut sums = [0_i64; LEVELS];
        for level in 0..LEVELS {
            for &lane in &levels[level][..width] {
                sums[level] = sums[level].wrapping_add(T::multiple(lane, cuts[level], times));
            }
        }
        let [largest, smallest] = extremes;
        Self { sums, extremes: T::magnitudes(fold(largest, Ord::max), fold(smallest, Ord::max)) }
    }
}

/// Sums that run side by side, of up to [`MOST_VALUES`].
pub trait Lanes<T: Summand, const LEVELS: usize>: Sized {
    /// Nothing yet, of values that are expected to be below 2^(`largest` + 1).
    ///
    /// # Safety
    /// The machine must have the lanes' instruction set, as for all methods.
    unsafe fn new(largest: i32) -> Self;

    /// Adds values.
    ///
    /// # Safety
    /// As above.
    unsafe fn add(&mut self, values: &[T; GRAIN]);

    /// What was added.
    ///
    /// # Safety
    /// As above.
    unsafe fn totals(self) -> Totals<T, LEVELS>;
}

/// The k of a level, of values that are below 2^(`largest` + 1); and so the exponent of the unit of the level before.
#[inline(always)]
pub(super) fn exponent<T: Summand>(largest: i32, level: usize) -> i32 {
    largest + 2 - level as i32 * (T::DIGITS - 1)
}

/// The M of each level.
#[inline(always)]
fn cuts<T: Summand, const LEVELS: usize>(largest: i32) -> [T; LEVELS] {
    std::array::from_fn(|level| T::of(f64::from_bits(((exponent::<T>(largest, level) + 1023) as u64) << 52 | 1 << 51)))
}

/// Lanes for any machine.
pub struct Portable<T: Summand, const LEVELS: usize> {
    cuts: [T; LEVELS],
    grains: usize,
    levels: [[T::Bits; MOST_LANES]; LEVELS],
    extremes: [[T::Bits; MOST_LANES]; 2],
}

impl<T: Summand, const LEVELS: usize> Lanes<T, LEVELS> for Portable<T, LEVELS> {
    #[inline(always)]
    unsafe fn new(largest: i32) -> Self {
        let nothing = [T::Bits::default(); MOST_LANES];
        Self { cuts: cuts(largest), grains: 0, levels: [nothing; LEVELS], extremes: [nothing; 2] }
    }

    #[inline(always)]
    unsafe fn add(&mut self, values: &[T; GRAIN]) {
        self.grains += 1;
        for values in values.as_chunks::<MOST_LANES>().0 {
            for lane in 0..MOST_LANES {
                let mut rest = values[lane];
                for (level, &cut) in self.levels.iter_mut().zip(&self.cuts) {
                    let rounded = rest + cut;
                    level[lane] = T::add_bits(level[lane], rounded);
                    rest = rest - (rounded - cut);
                }
            }
            let [largest, smallest] = &mut self.extremes;
            T::extend(values, largest, smallest);
        }
    }

    #[inline(always)]
    unsafe fn totals(self) -> Totals<T, LEVELS> {
        let Self { cuts, grains, levels, extremes } = self;
        Totals::of(&levels, extremes, &cuts, MOST_LANES, grains)
    }
}

#[cfg(target_arch = "x86_64")]
pub use x86::{Avx2F32, Avx2F64, Avx512F32, Avx512F64};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{GRAIN, Lanes, MOST_LANES, Totals, cuts};
    #[allow(clippy::wildcard_imports, reason = "vectors and instructions, by the dozen")]
    use std::arch::x86_64::*;

    /// Lanes of an instruction set and a type: its numbers and their bits, then the instructions.
    macro_rules! lanes {
        (
            $name:ident: $t:ident, $bits:ident, $integers:ident, $width:literal;
            $set:ident, $load:ident, $add:ident, $sub:ident, $to_bits:ident;
            $zero:ident, $set_bits:ident, $and:ident, $add_bits:ident, $sub_bits:ident, $max:path, $store_bits:ident
        ) => {
            /// Lanes of an instruction set and a type.
            #[derive(Clone, Copy)]
            pub struct $name<const LEVELS: usize> {
                cuts: [$t; LEVELS],
                grains: usize,
                levels: [$integers; LEVELS],
                largest: $integers,
                smallest: $integers,
            }

            impl<const LEVELS: usize> Lanes<$t, LEVELS> for $name<LEVELS> {
                #[inline(always)]
                unsafe fn new(largest: i32) -> Self {
                    // SAFETY: the caller's.
                    let zero = unsafe { $zero() };
                    Self { cuts: cuts(largest), grains: 0, levels: [zero; LEVELS], largest: zero, smallest: zero }
                }

                #[inline(always)]
                unsafe fn add(&mut self, values: &[$t; GRAIN]) {
                    self.grains += 1;
                    for values in values.as_chunks::<$width>().0 {
                        // SAFETY: the caller's, and as many values are read as there are.
                        unsafe {
                            let mut rest = $load(values.as_ptr());
                            // As in `Summand::extend`.
                            let bits = $and($to_bits(rest), $set_bits($bits::MAX));
                            self.largest = $max(self.largest, bits);
                            self.smallest = $max(self.smallest, $sub_bits($set_bits($bits::MIN), bits));
                            for (level, &cut) in self.levels.iter_mut().zip(&self.cuts) {
                                let cut = $set(cut);
                                let rounded = $add(rest, cut);
                                *level = $add_bits(*level, $to_bits(rounded));
                                rest = $sub(rest, $sub(rounded, cut));
                            }
                        }
                    }
                }

                #[inline(always)]
                unsafe fn totals(self) -> Totals<$t, LEVELS> {
                    let lanes = |integers: $integers| {
                        let mut lanes = [0; MOST_LANES];
                        // SAFETY: the caller's, and the array is no smaller than the vector that is stored there.
                        unsafe { $store_bits(lanes.as_mut_ptr().cast(), integers) };
                        lanes
                    };
                    let Self { cuts, grains, levels, largest, smallest } = self;
                    let extremes = [lanes(largest), lanes(smallest)];
                    let mut sums = [[0; MOST_LANES]; LEVELS];
                    for level in 0..LEVELS {
                        sums[level] = lanes(levels[level]);
                    }
                    Totals::of(&sums, extremes, &cuts, $width, grains)
                }
            }
        };
    }

    lanes! {
        Avx512F32: f32, i32, __m512i, 16;
        _mm512_set1_ps, _mm512_loadu_ps, _mm512_add_ps, _mm512_sub_ps, _mm512_castps_si512;
        _mm512_setzero_si512, _mm512_set1_epi32, _mm512_and_si512, _mm512_add_epi32, _mm512_sub_epi32, _mm512_max_epi32,
        _mm512_storeu_si512
    }

    lanes! {
        Avx512F64: f64, i64, __m512i, 8;
        _mm512_set1_pd, _mm512_loadu_pd, _mm512_add_pd, _mm512_sub_pd, _mm512_castpd_si512;
        _mm512_setzero_si512, _mm512_set1_epi64, _mm512_and_si512, _mm512_add_epi64, _mm512_sub_epi64, _mm512_max_epi64,
        _mm512_storeu_si512
    }

    lanes! {
        Avx2F32: f32, i32, __m256i, 8;
        _mm256_set1_ps, _mm256_loadu_ps, _mm256_add_ps, _mm256_sub_ps, _mm256_castps_si256;
        _mm256_setzero_si256, _mm256_set1_epi32, _mm256_and_si256, _mm256_add_epi32, _mm256_sub_epi32, _mm256_max_epi32,
        _mm256_storeu_si256
    }

    lanes! {
        Avx2F64: f64, i64, __m256i, 4;
        _mm256_set1_pd, _mm256_loadu_pd, _mm256_add_pd, _mm256_sub_pd, _mm256_castpd_si256;
        _mm256_setzero_si256, _mm256_set1_epi64x, _mm256_and_si256, _mm256_add_epi64, _mm256_sub_epi64, max_epi64,
        _mm256_storeu_si256
    }

    /// The larger integers, for which AVX2 has no instruction.
    ///
    /// # Safety
    /// The machine must have AVX2.
    #[inline(always)]
    unsafe fn max_epi64(a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: the caller's.
        unsafe { _mm256_blendv_epi8(a, b, _mm256_cmpgt_epi64(b, a)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::{Baseline, Isa, Kernel, Set};
    use crate::sum::{ExactSum, Expectation};
    use proptest::prelude::*;

    struct Sum<'a, T> {
        values: &'a [[T; GRAIN]],
        largest: i32,
    }

    impl<T: Summand> Sum<'_, T> {
        /// # Safety
        /// The machine must have the lanes' set.
        #[inline(always)]
        unsafe fn by<L: Lanes<T, 2>>(self) -> Totals<T, 2> {
            // SAFETY: the caller's.
            unsafe {
                let mut lanes = L::new(self.largest);
                for values in self.values {
                    lanes.add(values);
                }
                lanes.totals()
            }
        }
    }

    impl<T: Summand> Kernel for Sum<'_, T> {
        type Output = Totals<T, 2>;

        #[inline(always)]
        fn run(self) -> Totals<T, 2> {
            self.run_on::<Baseline>()
        }

        #[inline(always)]
        fn run_on<S: Set>(self) -> Totals<T, 2> {
            // SAFETY: this runs where the set is there.
            unsafe {
                match S::ISA {
                    Isa::Baseline => self.by::<Portable<T, _>>(),
                    Isa::Avx2 => self.by::<T::Avx2<2>>(),
                    Isa::Avx512 => self.by::<T::Avx512<2>>(),
                }
            }
        }
    }

    /// Whether lanes of each set add values up, of which something is expected at first; if they do, they are right.
    fn adds<T: Summand>(values: &[T], first_largest: i32) -> bool {
        let values = values.as_chunks().0;
        let mut expected = ExactSum::new();
        values.as_flattened().iter().for_each(|value| expected.add(value.to_f64()));
        let outcomes = Isa::available().map(|isa| {
            let (mut sum, mut expectation) =
                (ExactSum::new(), Expectation { largest: Some(first_largest), ..Expectation::NOTHING });
            // What was expected too small is made large enough.
            let added = (0..2).any(|_| {
                let totals = isa.run(Sum { values, largest: expectation.largest() });
                sum.add_totals(&totals, &mut expectation)
            });
            assert_eq!(sum.to_bytes(), if added { expected.to_bytes() } else { ExactSum::new().to_bytes() }, "{isa:?}");
            added
        });
        let outcomes: Vec<bool> = outcomes.collect();
        assert!(outcomes.windows(2).all(|pair| pair[0] == pair[1]), "{outcomes:?}");
        outcomes[0]
    }

    proptest! {
        #[test]
        fn lanes_are_right_or_say_that_they_are_not(
            mut values in prop::collection::vec((-1.0..1.0, -12..12), MOST_VALUES),
            zeros in 0..MOST_VALUES,
            largest in -5..20,
        ) {
            values[..zeros].fill((0.0, 0));
            let values: Vec<f64> = values.into_iter().map(|(digits, exponent)| digits * 2f64.powi(exponent)).collect();
            adds(&values, largest);
            adds(&values.iter().map(|&value| value as f32).collect::<Vec<_>>(), largest);
        }

        /// As many binades as a grid bears, and one more.
        #[test]
        fn lanes_bear_their_span(
            fractions in prop::collection::vec((1_u64 << 52..1 << 53, any::<bool>(), 0..=21_i32), MOST_VALUES),
            top in -30..100_i32,
        ) {
            let value = |(fraction, negative, below): (u64, bool, i32)| {
                let magnitude = fraction as f64 * 2f64.powi(top - below - 52);
                if negative { -magnitude } else { magnitude }
            };
            // Cut to 24 bits, so that nothing rounds up to the next power of two.
            let single = |fraction| value(fraction) as f32;
            let mut values: Vec<f32> = fractions.into_iter().map(|(fraction, negative, below)| {
                single((fraction >> 29 << 29, negative, below))
            }).collect();
            values[1] = single((1 << 52, false, 0));
            prop_assert!(adds(&values, top));
            values[0] = single(((1 << 53) - (1 << 29), false, 22));
            prop_assert!(!adds(&values, top));
        }

        #[test]
        fn what_is_not_finite_is_left_to_others(place in 0..2 * GRAIN, which in 0..3_usize) {
            let mut values = [1.0; 2 * GRAIN];
            values[place] = [f64::INFINITY, f64::NEG_INFINITY, f64::NAN][which];
            prop_assert!(!adds(&values, 0));
            prop_assert!(!adds(&values.map(|value| value as f32), 0));
        }
    }
}
