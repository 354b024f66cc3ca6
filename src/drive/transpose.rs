//! Rows that lie side by side, as classes that do, and back.
//!
//! A vector's lanes of 128 bits are loaded each from another row, and so are as many vectors as a lane has elements. The square that
//! the vectors are in each lane is then transposed, by the instructions that work in lanes. So a pass of loads, two shuffles
//! a vector and stores does all, for any number of classes: where a lane's width does not divide it, the last classes are done twice.
//!
//! LLVM would gather element by element; so on x86-64 this is written in the sets' own instructions.

use crate::isa::{Baseline, Kernel, Set};
use crate::real::Real;

/// Elements beyond the last row that must be there to be read or written, as a lane of 128 bits reaches beyond a row that is no longer
/// than this.
pub const BEYOND: usize = 3;

/// Brings rows that lie side by side, a multiple of 16 of them, into a tile.
pub struct Transpose<'a, T> {
    /// The rows, one after the other, and what is [`BEYOND`] them.
    pub from: &'a [T],
    /// The tile.
    pub to: &'a mut [T],
    /// The number of rows.
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
        let Self { from, to, rows } = self;
        let classes = to.len() / rows;
        assert!(rows.is_multiple_of(16) && from.len() >= rows * classes + beyond(classes));
        // SAFETY: this runs where the set is there, and the lengths have been looked at.
        #[cfg(target_arch = "x86_64")]
        unsafe {
            x86::with_vector!(S, T => x86::into_tile(from.as_ptr().cast(), to.as_mut_ptr().cast(), rows, classes));
        }
        #[cfg(not(target_arch = "x86_64"))]
        for (class, to) in to.chunks_exact_mut(rows).enumerate() {
            for (row, to) in to.iter_mut().enumerate() {
                *to = from[row * classes + class];
            }
        }
    }
}

/// Brings a tile back into rows, the same way back.
pub struct TransposeBack<'a, T> {
    /// The tile.
    pub from: &'a [T],
    /// The rows, one after the other, and what is [`BEYOND`] them, which becomes something or other.
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
        let classes = from.len() / rows;
        assert!(rows.is_multiple_of(16) && to.len() >= rows * classes + beyond(classes));
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        unsafe {
            x86::with_vector!(S, T => x86::into_rows(from.as_ptr().cast(), to.as_mut_ptr().cast(), rows, classes));
        }
        #[cfg(not(target_arch = "x86_64"))]
        for (class, from) in from.chunks_exact(rows).enumerate() {
            for (row, &from) in from.iter().enumerate() {
                to[row * classes + class] = from;
            }
        }
    }
}

/// How many elements beyond the last row a lane of 128 bits may reach.
const fn beyond(classes: usize) -> usize {
    BEYOND.saturating_sub(classes.saturating_sub(1))
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    #[allow(clippy::wildcard_imports, reason = "vectors and instructions, by the dozen")]
    use std::arch::x86_64::*;

    /// Calls a function with the vectors of a set and a type: a `Real` of four bytes is an `f32`, and else it is an `f64`.
    macro_rules! with_vector {
        ($S:ident, $T:ident => $module:ident::$function:ident($($argument:expr),*)) => {{
            use crate::isa::Isa;
            use std::arch::x86_64::{__m128, __m128d, __m256, __m256d, __m512, __m512d};
            match ($S::ISA, size_of::<$T>()) {
                (Isa::Avx512, 4) => $module::$function::<__m512, f32, 4>($($argument),*),
                (Isa::Avx512, _) => $module::$function::<__m512d, f64, 2>($($argument),*),
                (Isa::Avx2, 4) => $module::$function::<__m256, f32, 4>($($argument),*),
                (Isa::Avx2, _) => $module::$function::<__m256d, f64, 2>($($argument),*),
                (Isa::Baseline, 4) => $module::$function::<__m128, f32, 4>($($argument),*),
                (Isa::Baseline, _) => $module::$function::<__m128d, f64, 2>($($argument),*),
            }
        }};
    }
    pub(super) use with_vector;

    /// A vector of lanes of 128 bits, each of `W` elements.
    pub(super) trait Vector<T, const W: usize>: Copy {
        /// The number of lanes.
        const LANES: usize;

        /// # Safety
        /// The machine must have the vector's set, here and in what follows. There must be so many elements to read.
        unsafe fn load(from: *const T) -> Self;

        /// # Safety
        /// There must be so many elements to write.
        unsafe fn store(self, to: *mut T);

        /// The lanes that begin `step` elements from one another.
        ///
        /// # Safety
        /// There must be so many elements to read.
        unsafe fn gather(from: *const T, step: usize) -> Self;

        /// Writes the first lane of each vector in turn, `step` elements from one another, then the second lanes, and so on.
        ///
        /// # Safety
        /// There must be so many elements to write.
        unsafe fn scatter(vectors: [Self; W], to: *mut T, step: usize);

        /// The square in each lane, of which a vector has a row, with its columns for rows.
        ///
        /// # Safety
        /// As above.
        unsafe fn transposed(vectors: [Self; W]) -> [Self; W];
    }

    /// Where the classes begin that are worked on at once: `W` of them, or all if there are fewer.
    #[inline(always)]
    fn starts<const W: usize>(classes: usize) -> impl Iterator<Item = usize> {
        (0..classes).step_by(W).map(move |start| start.min(classes.saturating_sub(W)))
    }

    /// # Safety
    /// The machine must have the vector's set. There must be a tile to write and its rows to read, a multiple of a vector's elements,
    /// and [`super::beyond`] them.
    #[inline(always)]
    pub(super) unsafe fn into_tile<V: Vector<T, W>, T, const W: usize>(
        from: *const T,
        to: *mut T,
        rows: usize,
        classes: usize,
    ) {
        for first in (0..rows).step_by(W * V::LANES) {
            for start in starts::<W>(classes) {
                // SAFETY: the caller's. Lane j of vector i is of the row W j + i after the first, so that in each lane of a column
                // rows follow one another.
                unsafe {
                    let from = from.add(first * classes + start);
                    let mut vectors = [V::gather(from, W * classes); W];
                    for i in 1..W {
                        vectors[i] = V::gather(from.add(i * classes), W * classes);
                    }
                    let columns = V::transposed(vectors);
                    for i in 0..W.min(classes) {
                        columns[i].store(to.add((start + i) * rows + first));
                    }
                }
            }
        }
    }

    /// # Safety
    /// As above, in the other direction.
    #[inline(always)]
    pub(super) unsafe fn into_rows<V: Vector<T, W>, T, const W: usize>(
        from: *const T,
        to: *mut T,
        rows: usize,
        classes: usize,
    ) {
        for first in (0..rows).step_by(W * V::LANES) {
            for start in starts::<W>(classes) {
                // SAFETY: the caller's. What a lane writes beyond its row is written over by the next one.
                unsafe {
                    let from = from.add(start * rows + first);
                    let mut columns = [V::load(from); W];
                    for i in 1..W.min(classes) {
                        columns[i] = V::load(from.add(i * rows));
                    }
                    V::scatter(V::transposed(columns), to.add(first * classes + start), classes);
                }
            }
        }
    }

    /// The vectors of a type, by the instructions for a vector, for a lane, and for the lanes after the first.
    macro_rules! vector {
        (
            $vector:ident of $t:ident, $W:literal: $load:ident, $store:ident, $widen:expr, $narrow:expr;
            $load_lane:ident, $store_lane:ident; $($lane:literal: $insert:expr, $extract:expr;)*
            $square:ident($($shuffle:ident),*)
        ) => {
            impl Vector<$t, $W> for $vector {
                const LANES: usize = size_of::<Self>() / size_of::<__m128>();

                #[inline(always)]
                unsafe fn load(from: *const $t) -> Self {
                    // SAFETY: the caller's.
                    unsafe { $load(from) }
                }

                #[inline(always)]
                unsafe fn store(self, to: *mut $t) {
                    // SAFETY: the caller's.
                    unsafe { $store(to, self) }
                }

                #[inline(always)]
                unsafe fn gather(from: *const $t, step: usize) -> Self {
                    let _ = step;
                    // SAFETY: the caller's.
                    unsafe {
                        let vector = $widen($load_lane(from));
                        $(let vector = $insert(vector, $load_lane(from.add($lane * step)));)*
                        vector
                    }
                }

                #[inline(always)]
                unsafe fn scatter(vectors: [Self; $W], to: *mut $t, step: usize) {
                    // SAFETY: the caller's.
                    unsafe {
                        for i in 0..$W {
                            $store_lane(to.add(i * step), $narrow(vectors[i]));
                        }
                        $(for i in 0..$W {
                            $store_lane(to.add(($W * $lane + i) * step), $extract(vectors[i]));
                        })*
                    }
                }

                #[inline(always)]
                unsafe fn transposed(vectors: [Self; $W]) -> [Self; $W] {
                    // SAFETY: the caller's.
                    unsafe { $square!(vectors, $($shuffle),*) }
                }
            }
        };
    }

    /// Lanes of four by four.
    macro_rules! fours {
        ($vectors:ident, $low:ident, $high:ident, $shuffle:ident) => {{
            let [a, b, c, d] = $vectors;
            let (ab, cd) = ([$low(a, b), $high(a, b)], [$low(c, d), $high(c, d)]);
            [
                $shuffle::<0b01_00_01_00>(ab[0], cd[0]),
                $shuffle::<0b11_10_11_10>(ab[0], cd[0]),
                $shuffle::<0b01_00_01_00>(ab[1], cd[1]),
                $shuffle::<0b11_10_11_10>(ab[1], cd[1]),
            ]
        }};
    }

    /// Lanes of two by two.
    macro_rules! twos {
        ($vectors:ident, $low:ident, $high:ident) => {{
            let [a, b] = $vectors;
            [$low(a, b), $high(a, b)]
        }};
    }

    vector! {
        __m512 of f32, 4: _mm512_loadu_ps, _mm512_storeu_ps, _mm512_castps128_ps512, _mm512_castps512_ps128;
        _mm_loadu_ps, _mm_storeu_ps;
        1: _mm512_insertf32x4::<1>, _mm512_extractf32x4_ps::<1>;
        2: _mm512_insertf32x4::<2>, _mm512_extractf32x4_ps::<2>;
        3: _mm512_insertf32x4::<3>, _mm512_extractf32x4_ps::<3>;
        fours(_mm512_unpacklo_ps, _mm512_unpackhi_ps, _mm512_shuffle_ps)
    }

    vector! {
        __m256 of f32, 4: _mm256_loadu_ps, _mm256_storeu_ps, _mm256_castps128_ps256, _mm256_castps256_ps128;
        _mm_loadu_ps, _mm_storeu_ps;
        1: _mm256_insertf128_ps::<1>, _mm256_extractf128_ps::<1>;
        fours(_mm256_unpacklo_ps, _mm256_unpackhi_ps, _mm256_shuffle_ps)
    }

    vector! {
        __m128 of f32, 4: _mm_loadu_ps, _mm_storeu_ps, std::convert::identity, std::convert::identity;
        _mm_loadu_ps, _mm_storeu_ps;
        fours(_mm_unpacklo_ps, _mm_unpackhi_ps, _mm_shuffle_ps)
    }

    vector! {
        __m512d of f64, 2: _mm512_loadu_pd, _mm512_storeu_pd, _mm512_castpd128_pd512, _mm512_castpd512_pd128;
        _mm_loadu_pd, _mm_storeu_pd;
        1: _mm512_insertf64x2::<1>, _mm512_extractf64x2_pd::<1>;
        2: _mm512_insertf64x2::<2>, _mm512_extractf64x2_pd::<2>;
        3: _mm512_insertf64x2::<3>, _mm512_extractf64x2_pd::<3>;
        twos(_mm512_unpacklo_pd, _mm512_unpackhi_pd)
    }

    vector! {
        __m256d of f64, 2: _mm256_loadu_pd, _mm256_storeu_pd, _mm256_castpd128_pd256, _mm256_castpd256_pd128;
        _mm_loadu_pd, _mm_storeu_pd;
        1: _mm256_insertf128_pd::<1>, _mm256_extractf128_pd::<1>;
        twos(_mm256_unpacklo_pd, _mm256_unpackhi_pd)
    }

    vector! {
        __m128d of f64, 2: _mm_loadu_pd, _mm_storeu_pd, std::convert::identity, std::convert::identity;
        _mm_loadu_pd, _mm_storeu_pd;
        twos(_mm_unpacklo_pd, _mm_unpackhi_pd)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::Isa;
    use crate::real::Real;

    fn transposes<T: Real>(isa: Isa, rows: usize, classes: usize) {
        let elements = rows * classes;
        let from: Vec<T> = (0..elements + BEYOND).map(|i| T::of(i as f64)).collect();
        let (mut to, mut back) = (vec![T::ZERO; elements], vec![T::ZERO; elements + BEYOND]);
        isa.run(Transpose { from: &from, to: &mut to, rows });
        for (i, &value) in to.iter().enumerate() {
            let (class, row) = (i / rows, i % rows);
            assert_eq!(value, from[row * classes + class], "{isa:?}: class {class} of {classes}, row {row} of {rows}");
        }
        isa.run(TransposeBack { from: &to, to: &mut back, rows });
        assert_eq!(back[..elements], from[..elements], "{isa:?}: {rows} rows of {classes} back");
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
