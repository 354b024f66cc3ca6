//! Rows that lie side by side, as classes that do, and back.
//!
//! With the elements' numbers written as (r, c), the row's number in binary: to interleave a quarter of the elements with
//! the other three moves the first two digits to the end. After all digits of r have moved, it is (c, r). That takes as
//! many passes as there are pairs of digits, each of loads, shuffles and stores of whole vectors, for any number of classes.
//!
//! LLVM makes such passes of plain loops too, but checks addresses and does the rest element by element, which takes half as long
//! again and is five times as much code; so on x86-64 they are written in shuffles.

use crate::isa::{Baseline, Kernel, Set};
use crate::real::Real;

/// Brings rows that lie side by side, `rows` of them, into a tile; `room` is as long.
pub struct Transpose<'a, T> {
    /// The rows, one after the other.
    pub from: &'a [T],
    /// The tile.
    pub to: &'a mut [T],
    /// What is between.
    pub room: &'a mut [T],
    /// The number of rows: 32, 64 or 256.
    pub rows: usize,
}

impl<T: Real> Kernel for Transpose<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        self.run_on::<Baseline>();
    }

    #[inline(always)]
    fn run_on<S: Set>(self) {
        let Self { from, to, room, rows } = self;
        match rows {
            256 => {
                interleave::<S, T, 4>(from, room);
                interleave::<S, T, 4>(room, to);
                interleave::<S, T, 4>(to, room);
                interleave::<S, T, 4>(room, to);
            }
            64 => {
                interleave::<S, T, 4>(from, to);
                interleave::<S, T, 4>(to, room);
                interleave::<S, T, 4>(room, to);
            }
            _ => {
                interleave::<S, T, 2>(from, to);
                interleave::<S, T, 4>(to, room);
                interleave::<S, T, 4>(room, to);
            }
        }
    }
}

/// Brings a tile back into rows, the same way back.
pub struct TransposeBack<'a, T> {
    /// The tile; it is room besides.
    pub from: &'a mut [T],
    /// The rows, one after the other.
    pub to: &'a mut [T],
    /// The number of rows.
    pub rows: usize,
}

impl<T: Real> Kernel for TransposeBack<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        self.run_on::<Baseline>();
    }

    #[inline(always)]
    fn run_on<S: Set>(self) {
        let Self { from, to, rows } = self;
        part::<S, T, 4>(from, to);
        match rows {
            256 => {
                part::<S, T, 4>(to, from);
                part::<S, T, 4>(from, to);
                part::<S, T, 2>(to, from);
                part::<S, T, 2>(from, to);
            }
            64 => {
                part::<S, T, 4>(to, from);
                part::<S, T, 4>(from, to);
            }
            _ => {
                part::<S, T, 4>(to, from);
                part::<S, T, 2>(from, to);
            }
        }
    }
}

/// Interleaves the `N` parts, 2 or 4, of equal length that the elements are.
#[inline(always)]
fn interleave<S: Set, T: Real, const N: usize>(from: &[T], to: &mut [T]) {
    let length = from.len() / N;
    let to = &mut to.as_chunks_mut::<N>().0[..length];
    let parts: [&[T]; N] = std::array::from_fn(|part| &from[part * length..][..length]);
    #[cfg(not(target_arch = "x86_64"))]
    let done = 0;
    // SAFETY: this runs where the set is there; so long are the parts, and the result `N` times as long; a `Real` of four bytes is an
    // `f32`, and else it is an `f64`.
    #[cfg(target_arch = "x86_64")]
    let done = unsafe {
        if size_of::<T>() == size_of::<f32>() {
            x86::interleave_f32::<S, N>(parts.map(|part| part.as_ptr().cast()), to.as_mut_ptr().cast(), length)
        } else {
            x86::interleave_f64::<S, N>(parts.map(|part| part.as_ptr().cast()), to.as_mut_ptr().cast(), length)
        }
    };
    for i in done..length {
        for part in 0..N {
            to[i][part] = parts[part][i];
        }
    }
}

/// The same back.
#[inline(always)]
fn part<S: Set, T: Real, const N: usize>(from: &[T], to: &mut [T]) {
    let length = from.len() / N;
    let from = &from.as_chunks::<N>().0[..length];
    let to = &mut to[..N * length];
    #[cfg(not(target_arch = "x86_64"))]
    let done = 0;
    // SAFETY: as in `interleave`, in the other direction.
    #[cfg(target_arch = "x86_64")]
    let done = unsafe {
        if size_of::<T>() == size_of::<f32>() {
            x86::part_f32::<S, N>(from.as_ptr().cast(), to.as_mut_ptr().cast(), length)
        } else {
            x86::part_f64::<S, N>(from.as_ptr().cast(), to.as_mut_ptr().cast(), length)
        }
    };
    for (part, to) in to.chunks_exact_mut(length.max(1)).enumerate() {
        for (to, from) in to[done..].iter_mut().zip(&from[done..]) {
            *to = from[part];
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use crate::isa::{Isa, Set};
    #[allow(clippy::wildcard_imports, reason = "vectors and instructions, by the dozen")]
    use std::arch::x86_64::*;

    /// A pass of a type each way, in steps of the widest vectors that the set has first, then of narrower ones.
    macro_rules! passes {
        (
            $t:ident, $interleave:ident, $part:ident;
            $($width:literal: $sets:pat => $load:ident, $store:ident, $interleaved:ident, $parted:ident;)+
        ) => {
            /// Interleaves parts, as far as whole vectors go; returns how far.
            ///
            /// # Safety
            /// The machine must have the set; the parts must have `length` elements, and the result `N` times as many.
            #[inline(always)]
            pub(super) unsafe fn $interleave<S: Set, const N: usize>(
                parts: [*const $t; N],
                to: *mut $t,
                length: usize,
            ) -> usize {
                let mut i = 0;
                $(while matches!(S::ISA, $sets) && i + $width <= length {
                    // SAFETY: the caller's; no vector reaches beyond `length` elements of a part, nor beyond the result's end.
                    unsafe {
                        let vectors = $interleaved(parts.map(|part| $load(part.add(i))));
                        for (at, vector) in vectors.into_iter().enumerate() {
                            $store(to.add(N * i + $width * at), vector);
                        }
                    }
                    i += $width;
                })+
                i
            }

            /// The same back.
            ///
            /// # Safety
            /// As above, in the other direction.
            #[inline(always)]
            pub(super) unsafe fn $part<S: Set, const N: usize>(from: *const $t, to: *mut $t, length: usize) -> usize {
                let mut i = 0;
                $(while matches!(S::ISA, $sets) && i + $width <= length {
                    // SAFETY: as above.
                    unsafe {
                        let vectors = std::array::from_fn(|at| $load(from.add(N * i + $width * at)));
                        for (part, vector) in $parted::<N>(vectors).into_iter().enumerate() {
                            $store(to.add(part * length + i), vector);
                        }
                    }
                    i += $width;
                })+
                i
            }
        };
    }

    passes! {
        f32, interleave_f32, part_f32;
        16: Isa::Avx512 => _mm512_loadu_ps, _mm512_storeu_ps, interleave_ps_16, part_ps_16;
        8: Isa::Avx512 | Isa::Avx2 => _mm256_loadu_ps, _mm256_storeu_ps, interleave_ps_8, part_ps_8;
        4: _ => _mm_loadu_ps, _mm_storeu_ps, interleave_ps_4, part_ps_4;
    }

    passes! {
        f64, interleave_f64, part_f64;
        8: Isa::Avx512 => _mm512_loadu_pd, _mm512_storeu_pd, interleave_pd_8, part_pd_8;
        4: Isa::Avx512 | Isa::Avx2 => _mm256_loadu_pd, _mm256_storeu_pd, interleave_pd_4, part_pd_4;
        2: _ => _mm_loadu_pd, _mm_storeu_pd, interleave_pd_2, part_pd_2;
    }

    /// Two functions of two vectors: their lanes in turn, those of the first halves and those of the second halves; and the even lanes
    /// and the odd ones.
    macro_rules! pairs {
        ($vector:ident, $zip:ident, $unzip:ident; |$a:ident, $b:ident| $zipped:expr, $unzipped:expr) => {
            /// # Safety
            /// The machine must have the vectors' set.
            #[inline(always)]
            unsafe fn $zip($a: $vector, $b: $vector) -> [$vector; 2] {
                // SAFETY: the caller's.
                unsafe { $zipped }
            }

            /// # Safety
            /// As above.
            #[inline(always)]
            unsafe fn $unzip($a: $vector, $b: $vector) -> [$vector; 2] {
                // SAFETY: the caller's.
                unsafe { $unzipped }
            }
        };
    }

    pairs! {
        __m512, zip_ps_16, unzip_ps_16;
        |a, b| {
            let first = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
            let second = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
            [_mm512_permutex2var_ps(a, first, b), _mm512_permutex2var_ps(a, second, b)]
        },
        {
            let even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
            let odd = _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
            [_mm512_permutex2var_ps(a, even, b), _mm512_permutex2var_ps(a, odd, b)]
        }
    }

    pairs! {
        __m512d, zip_pd_8, unzip_pd_8;
        |a, b| {
            let first = _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11);
            let second = _mm512_setr_epi64(4, 12, 5, 13, 6, 14, 7, 15);
            [_mm512_permutex2var_pd(a, first, b), _mm512_permutex2var_pd(a, second, b)]
        },
        {
            let even = _mm512_setr_epi64(0, 2, 4, 6, 8, 10, 12, 14);
            let odd = _mm512_setr_epi64(1, 3, 5, 7, 9, 11, 13, 15);
            [_mm512_permutex2var_pd(a, even, b), _mm512_permutex2var_pd(a, odd, b)]
        }
    }

    pairs! {
        __m256, zip_ps_8, unzip_ps_8;
        |a, b| {
            let (low, high) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
            [_mm256_permute2f128_ps::<0x20>(low, high), _mm256_permute2f128_ps::<0x31>(low, high)]
        },
        {
            let (low, high) = (_mm256_permute2f128_ps::<0x20>(a, b), _mm256_permute2f128_ps::<0x31>(a, b));
            [_mm256_shuffle_ps::<0b10_00_10_00>(low, high), _mm256_shuffle_ps::<0b11_01_11_01>(low, high)]
        }
    }

    pairs! {
        __m256d, zip_pd_4, unzip_pd_4;
        |a, b| {
            let (low, high) = (_mm256_unpacklo_pd(a, b), _mm256_unpackhi_pd(a, b));
            [_mm256_permute2f128_pd::<0x20>(low, high), _mm256_permute2f128_pd::<0x31>(low, high)]
        },
        {
            let (low, high) = (_mm256_permute2f128_pd::<0x20>(a, b), _mm256_permute2f128_pd::<0x31>(a, b));
            [_mm256_unpacklo_pd(low, high), _mm256_unpackhi_pd(low, high)]
        }
    }

    pairs! {
        __m128, zip_ps_4, unzip_ps_4;
        |a, b| [_mm_unpacklo_ps(a, b), _mm_unpackhi_ps(a, b)],
        [_mm_shuffle_ps::<0b10_00_10_00>(a, b), _mm_shuffle_ps::<0b11_01_11_01>(a, b)]
    }

    pairs! {
        __m128d, zip_pd_2, unzip_pd_2;
        |a, b| [_mm_unpacklo_pd(a, b), _mm_unpackhi_pd(a, b)],
        [_mm_unpacklo_pd(a, b), _mm_unpackhi_pd(a, b)]
    }

    /// Two or four vectors interleaved, and the same back: in one step of pairs or two.
    macro_rules! steps {
        ($vector:ident, $interleave:ident by $zip:ident, $part:ident by $unzip:ident) => {
            /// # Safety
            /// The machine must have the vectors' set.
            #[inline(always)]
            unsafe fn $interleave<const N: usize>(parts: [$vector; N]) -> [$vector; N] {
                // SAFETY: the caller's.
                unsafe {
                    if N == 2 {
                        let zipped = $zip(parts[0], parts[1]);
                        return std::array::from_fn(|i| zipped[i]);
                    }
                    let (even, odd) = ($zip(parts[0], parts[2]), $zip(parts[1], parts[3]));
                    let (first, second) = ($zip(even[0], odd[0]), $zip(even[1], odd[1]));
                    let zipped = [first[0], first[1], second[0], second[1]];
                    std::array::from_fn(|i| zipped[i])
                }
            }

            /// # Safety
            /// As above.
            #[inline(always)]
            unsafe fn $part<const N: usize>(vectors: [$vector; N]) -> [$vector; N] {
                // SAFETY: the caller's.
                unsafe {
                    if N == 2 {
                        let parts = $unzip(vectors[0], vectors[1]);
                        return std::array::from_fn(|i| parts[i]);
                    }
                    let (first, second) = ($unzip(vectors[0], vectors[1]), $unzip(vectors[2], vectors[3]));
                    let (even, odd) = ($unzip(first[0], second[0]), $unzip(first[1], second[1]));
                    let parts = [even[0], odd[0], even[1], odd[1]];
                    std::array::from_fn(|i| parts[i])
                }
            }
        };
    }

    steps!(__m512, interleave_ps_16 by zip_ps_16, part_ps_16 by unzip_ps_16);
    steps!(__m512d, interleave_pd_8 by zip_pd_8, part_pd_8 by unzip_pd_8);
    steps!(__m256, interleave_ps_8 by zip_ps_8, part_ps_8 by unzip_ps_8);
    steps!(__m256d, interleave_pd_4 by zip_pd_4, part_pd_4 by unzip_pd_4);
    steps!(__m128, interleave_ps_4 by zip_ps_4, part_ps_4 by unzip_ps_4);
    steps!(__m128d, interleave_pd_2 by zip_pd_2, part_pd_2 by unzip_pd_2);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::Isa;
    use crate::real::Real;

    fn transposes<T: Real>(isa: Isa, rows: usize, classes: usize) {
        let elements = rows * classes;
        let from: Vec<T> = (0..elements).map(|i| T::of(i as f64)).collect();
        let [mut to, mut room, mut back] = [(); 3].map(|()| vec![T::ZERO; elements]);
        isa.run(Transpose { from: &from, to: &mut to, room: &mut room, rows });
        for (i, &value) in to.iter().enumerate() {
            let (class, row) = (i / rows, i % rows);
            assert_eq!(value, from[row * classes + class], "{isa:?}: class {class} of {classes}, row {row} of {rows}");
        }
        isa.run(TransposeBack { from: &mut to, to: &mut back, rows });
        assert_eq!(back, from, "{isa:?}: {rows} rows of {classes} back");
    }

    #[test]
    fn classes_of_rows_come_together_and_part_again() {
        for isa in Isa::available() {
            for (rows, most_classes) in [(256, 4), (64, 16), (32, 64)] {
                for classes in 1..=most_classes {
                    transposes::<f32>(isa, rows, classes);
                    transposes::<f64>(isa, rows, classes);
                }
            }
        }
    }
}
