//! Sums that run side by side in vectors: a block's values, added while they are computed.
//!
//! Values are split as in [`super::split`], in two parts, with an E that is guessed. The first parts' sum starts at the cut M,
//! so that adding a value rounds it there: with a = M + Σ high so far, s = a + x and high = s − a are as exact as (x + M) − M
//! and M, and take one operation less. There are at least 8 lanes, so a lane's Σ|x| is at most 2^(E+8) = 2^(k−2), and s stays
//! between 2^k and 2^(k+1).
//!
//! Whether the guess was good, and the sum so exact, the magnitudes' extremes tell in the end.
//!
//! Plain loops over lanes are what LLVM's vectoriser of straight-line code takes apart: for AVX-512 it moved single lanes
//! through general registers, and a squared error cost 0.44 ns an element where these take 0.25 (Zen 4, from the first-level
//! cache). So each instruction set has lanes of its own, of the same meaning as the portable ones.

use super::{Summand, fold};

/// Values are added so many at a time.
pub const GRAIN: usize = 64;

/// What lanes have added up: the two parts, and the extremes of what was added.
pub struct Totals<T> {
    /// The sum of the first parts.
    pub high: f64,
    /// The sum of the second parts.
    pub low: f64,
    /// The smallest magnitude that is not zero, and the largest.
    pub extremes: (T, T),
}

/// Sums that run side by side.
pub trait Lanes<T>: Sized {
    /// Nothing yet, to be cut at `cut`.
    ///
    /// # Safety
    /// The machine must have the lanes' instruction set, as for all methods.
    unsafe fn new(cut: f64) -> Self;

    /// Adds values.
    ///
    /// # Safety
    /// As above.
    unsafe fn add(&mut self, values: &[T; GRAIN]);

    /// What was added.
    ///
    /// # Safety
    /// As above.
    unsafe fn totals(self) -> Totals<T>;
}

/// Lanes for any machine.
pub struct Portable<T: Summand> {
    cut: f64,
    high: [f64; 16],
    low: [f64; 16],
    largest: [T::Bits; 16],
    smallest: [T::Bits; 16],
}

impl<T: Summand> Lanes<T> for Portable<T> {
    #[inline(always)]
    unsafe fn new(cut: f64) -> Self {
        let nothing = [T::Bits::default(); 16];
        Self { cut, high: [cut; 16], low: [0.0; 16], largest: nothing, smallest: nothing }
    }

    #[inline(always)]
    unsafe fn add(&mut self, values: &[T; GRAIN]) {
        for values in values.as_chunks::<16>().0 {
            for lane in 0..16 {
                let value = values[lane].to_f64();
                let sum = self.high[lane] + value;
                self.low[lane] += value - (sum - self.high[lane]);
                self.high[lane] = sum;
            }
            T::extend(values, &mut self.largest, &mut self.smallest);
        }
    }

    #[inline(always)]
    unsafe fn totals(self) -> Totals<T> {
        Totals {
            high: fold(self.high.map(|high| high - self.cut), |a, b| a + b),
            low: fold(self.low, |a, b| a + b),
            extremes: T::magnitudes(fold(self.largest, Ord::max), fold(self.smallest, Ord::max)),
        }
    }
}

#[cfg(target_arch = "x86_64")]
pub use x86::{Avx2F32, Avx2F64, Avx512F32, Avx512F64};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{GRAIN, Lanes, Summand, Totals, fold};
    #[allow(clippy::wildcard_imports, reason = "vectors and instructions, by the dozen")]
    use std::arch::x86_64::*;

    /// Lanes of an instruction set and a type. A step adds two vectors of doubles; what a macro's user says of it is how they
    /// are read, and the bits of the same values.
    macro_rules! lanes {
        (
            $name:ident: $t:ident, $bits:ident, $doubles:ident, $integers:ident, $width:literal;
            $set:ident, $add:ident, $sub:ident, $store:ident;
            $zero:ident, $set_bits:ident, $and:ident, $sub_bits:ident, $max:path, $store_bits:ident;
            |$from:ident| $step:expr
        ) => {
            /// Lanes of an instruction set and a type.
            #[derive(Clone, Copy)]
            pub struct $name {
                cut: $doubles,
                high: [$doubles; 2],
                low: [$doubles; 2],
                largest: $integers,
                smallest: $integers,
            }

            impl Lanes<$t> for $name {
                #[inline(always)]
                unsafe fn new(cut: f64) -> Self {
                    // SAFETY: the caller's.
                    unsafe {
                        let (cut, zero) = ($set(cut), $zero());
                        Self { cut, high: [cut; 2], low: [$set(0.0); 2], largest: zero, smallest: zero }
                    }
                }

                #[inline(always)]
                unsafe fn add(&mut self, values: &[$t; GRAIN]) {
                    for values in values.as_chunks::<{ 2 * $width }>().0 {
                        let $from = values.as_ptr();
                        // SAFETY: the caller's, and a step reads twice as many values as doubles fit a vector.
                        let (values, bits) = unsafe { $step };
                        for bits in bits {
                            // As in `Summand::extend`. SAFETY: the caller's.
                            unsafe {
                                let bits = $and(bits, $set_bits($bits::MAX));
                                self.largest = $max(self.largest, bits);
                                self.smallest = $max(self.smallest, $sub_bits($set_bits($bits::MIN), bits));
                            }
                        }
                        for (i, value) in values.into_iter().enumerate() {
                            // SAFETY: the caller's.
                            unsafe {
                                let sum = $add(self.high[i], value);
                                self.low[i] = $add(self.low[i], $sub(value, $sub(sum, self.high[i])));
                                self.high[i] = sum;
                            }
                        }
                    }
                }

                #[inline(always)]
                unsafe fn totals(self) -> Totals<$t> {
                    let (mut parts, mut bits) =
                        ([[0.0; $width]; 2], [[0; size_of::<$integers>() / size_of::<$t>()]; 2]);
                    // SAFETY: the caller's, and each array is as large as the vector that is stored there.
                    unsafe {
                        let [[high, other_high], [low, other_low]] =
                            [self.high.map(|high| $sub(high, self.cut)), self.low];
                        $store(parts[0].as_mut_ptr(), $add(high, other_high));
                        $store(parts[1].as_mut_ptr(), $add(low, other_low));
                        $store_bits(bits[0].as_mut_ptr().cast(), self.largest);
                        $store_bits(bits[1].as_mut_ptr().cast(), self.smallest);
                    }
                    let [high, low] = parts.map(|lanes| fold(lanes, |a, b| a + b));
                    let [largest, smallest] = bits.map(|lanes| fold(lanes, Ord::max));
                    Totals { high, low, extremes: $t::magnitudes(largest, smallest) }
                }
            }
        };
    }

    lanes! {
        Avx512F32: f32, i32, __m512d, __m512i, 8;
        _mm512_set1_pd, _mm512_add_pd, _mm512_sub_pd, _mm512_storeu_pd;
        _mm512_setzero_si512, _mm512_set1_epi32, _mm512_and_si512, _mm512_sub_epi32, _mm512_max_epi32, _mm512_storeu_si512;
        |from| {
            let values = _mm512_loadu_ps(from);
            let [near, far] = [_mm512_castps512_ps256(values), _mm512_extractf32x8_ps::<1>(values)];
            ([_mm512_cvtps_pd(near), _mm512_cvtps_pd(far)], [_mm512_castps_si512(values)])
        }
    }

    lanes! {
        Avx512F64: f64, i64, __m512d, __m512i, 8;
        _mm512_set1_pd, _mm512_add_pd, _mm512_sub_pd, _mm512_storeu_pd;
        _mm512_setzero_si512, _mm512_set1_epi64, _mm512_and_si512, _mm512_sub_epi64, _mm512_max_epi64, _mm512_storeu_si512;
        |from| {
            let values = [_mm512_loadu_pd(from), _mm512_loadu_pd(from.add(8))];
            (values, values.map(|values| _mm512_castpd_si512(values)))
        }
    }

    lanes! {
        Avx2F32: f32, i32, __m256d, __m256i, 4;
        _mm256_set1_pd, _mm256_add_pd, _mm256_sub_pd, _mm256_storeu_pd;
        _mm256_setzero_si256, _mm256_set1_epi32, _mm256_and_si256, _mm256_sub_epi32, _mm256_max_epi32, _mm256_storeu_si256;
        |from| {
            let values = _mm256_loadu_ps(from);
            let [near, far] = [_mm256_castps256_ps128(values), _mm256_extractf128_ps::<1>(values)];
            ([_mm256_cvtps_pd(near), _mm256_cvtps_pd(far)], [_mm256_castps_si256(values)])
        }
    }

    lanes! {
        Avx2F64: f64, i64, __m256d, __m256i, 4;
        _mm256_set1_pd, _mm256_add_pd, _mm256_sub_pd, _mm256_storeu_pd;
        _mm256_setzero_si256, _mm256_set1_epi64x, _mm256_and_si256, _mm256_sub_epi64, max_epi64, _mm256_storeu_si256;
        |from| {
            let values = [_mm256_loadu_pd(from), _mm256_loadu_pd(from.add(4))];
            (values, values.map(|values| _mm256_castpd_si256(values)))
        }
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
    use super::{super::cut, *};
    use crate::isa::{Baseline, Isa, Kernel, Set};
    use crate::sum::ExactSum;
    use proptest::prelude::*;

    struct Sum<'a, T> {
        values: &'a [[T; GRAIN]],
        cut: f64,
    }

    impl<T: Summand> Sum<'_, T> {
        /// # Safety
        /// The machine must have the lanes' set.
        #[inline(always)]
        unsafe fn by<L: Lanes<T>>(self) -> Totals<T> {
            // SAFETY: the caller's.
            unsafe {
                let mut lanes = L::new(self.cut);
                for values in self.values {
                    lanes.add(values);
                }
                lanes.totals()
            }
        }
    }

    impl<T: Summand> Kernel for Sum<'_, T> {
        type Output = Totals<T>;

        #[inline(always)]
        fn run(self) -> Totals<T> {
            self.run_on::<Baseline>()
        }

        #[inline(always)]
        fn run_on<S: Set>(self) -> Totals<T> {
            // SAFETY: this runs where the set is there.
            unsafe {
                match S::ISA {
                    Isa::Baseline => self.by::<Portable<T>>(),
                    Isa::Avx2 => self.by::<T::Avx2>(),
                    Isa::Avx512 => self.by::<T::Avx512>(),
                }
            }
        }
    }

    /// Whether lanes of each set add values up, beginning with a guess; if they do, they are right.
    fn adds<T: Summand>(values: &[T], first_guess: i32) -> bool {
        let values = values.as_chunks().0;
        let mut expected = ExactSum::new();
        values.as_flattened().iter().for_each(|value| expected.add(value.to_f64()));
        let outcomes = Isa::available().map(|isa| {
            let (mut sum, mut guess) = (ExactSum::new(), first_guess);
            // A guess that was too small is made large enough.
            let added = (0..2).any(|_| {
                let totals = isa.run(Sum { values, cut: cut(guess) });
                sum.add_totals(&totals, &mut guess)
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
            mut values in prop::collection::vec((-1.0..1.0, -12..12), 16 * GRAIN),
            zeros in 0..16 * GRAIN,
            guess in -5..20,
        ) {
            values[..zeros].fill((0.0, 0));
            let values: Vec<f64> = values.into_iter().map(|(digits, exponent)| digits * 2f64.powi(exponent)).collect();
            adds(&values, guess);
            prop_assert!(adds(&values.iter().map(|&value| value as f32).collect::<Vec<_>>(), guess));
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
