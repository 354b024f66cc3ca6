//! Products of matrices, for losses of a linear layer.
//!
//! The right operand is packed into panels of so many columns, row after row, so that a vector of each row lies ready; 8 rows
//! of the left one are multiplied with a panel at a time, in registers. Each element of a product is the sum of the products
//! along the depth, in order, each rounded once with its sum (`mul_add`), 256 at most at a time: so its bits depend on its own
//! row and column and on nothing else, neither neighbours, threads nor instruction set.
//!
//! With AVX-512 one core of a Zen 5 does 230 to 240 GFLOP/s of float32 here; the crate `gemm` 0.19 and NumPy's OpenBLAS do
//! 110, and both cut the depth by the size of the machine's caches.

use crate::drive::block::{LANES, Number};
use crate::isa::{Isa, Kernel};
use crate::real::Real;
use crate::storage::{Dtype, Run};

/// Rows of the left operand that are computed at once. There must be a multiple of them.
pub const ROWS: usize = 8;

/// The most of the depth that is summed at once: what a panel has of it stays in the first-level cache.
pub const DEPTH: usize = 256;

/// Bytes of a panel's row: two vectors of the widest instruction set.
const PANEL_BYTES: usize = 128;

/// Columns of a panel.
pub const fn width<T>() -> usize {
    PANEL_BYTES / size_of::<T>()
}

/// A matrix in memory of any kind.
#[derive(Clone, Copy, Debug)]
pub struct Grid {
    /// The first row.
    pub row: Run,
    /// Bytes from a row to the next.
    pub step: isize,
}

/// A matrix in memory of numbers: what lies at `row * rows + column * columns`.
#[derive(Clone, Copy, Debug)]
pub struct Strided<'a, T> {
    /// From its first element on.
    pub elements: &'a [T],
    /// The distance between rows.
    pub rows: usize,
    /// The distance between columns.
    pub columns: usize,
}

/// Where a product goes: into each row's first elements, at a distance of `stride` from row to row.
pub struct Output<'a, T> {
    /// From its first element on.
    pub elements: &'a mut [T],
    /// The distance between rows.
    pub stride: usize,
    /// The number of rows; the left operand may have more.
    pub rows: usize,
    /// The number of columns; the panel may have more.
    pub columns: usize,
}

impl Grid {
    /// The row of that number.
    #[inline]
    pub fn row(self, index: usize) -> Run {
        Run { first: self.row.first.wrapping_offset(self.step.wrapping_mul(index as isize)), ..self.row }
    }

    /// Whether rows are of the type `T`, side by side, each of so many columns.
    pub fn is_dense<T: Real>(self, columns: usize) -> bool {
        let size = size_of::<T>() as isize;
        // SAFETY: of no elements.
        unsafe { self.row.as_slice::<T>(0) }.is_some() && self.step == size * columns as isize
    }

    /// `len` columns of `count` rows, as they lie where that can be, else converted into `room`; and of zeros as many rows more
    /// as make a multiple of `rows`.
    ///
    /// # Safety
    /// They must be readable, and must not be written while the slice lives.
    pub unsafe fn block<T: Real>(
        self,
        isa: Isa,
        (start, count): (usize, usize),
        (column, len): (usize, usize),
        rows: usize,
        room: &mut Vec<T>,
    ) -> Strided<'_, T> {
        let size = size_of::<T>() as isize;
        let distance = self.step / size;
        if self.step % size == 0 && distance >= 0 && count.is_multiple_of(rows) {
            let run = self.row(start).from(column);
            // SAFETY: the caller's; the last of the elements is the last of the block.
            if let Some(elements) = unsafe { run.as_slice(distance as usize * (count - 1) + len) } {
                return Strided { elements, rows: distance as usize, columns: 1 };
            }
        }
        room.clear();
        room.resize(count.next_multiple_of(rows) * len, T::ZERO);
        for (index, out) in room.chunks_exact_mut(len).take(count).enumerate() {
            // SAFETY: the caller's.
            unsafe { self.row(start + index).from(column).load(isa, out) };
        }
        Strided { elements: room, rows: len, columns: 1 }
    }
}

/// Packs `len` columns of `rows` into panels of [`width`] columns, the last filled up with zeros.
pub fn pack<T: Number>(isa: Isa, from: Strided<'_, T>, rows: usize, len: usize, panels: &mut [T]) {
    for (panel, first) in panels.chunks_exact_mut(rows * width::<T>()).zip((0..len).step_by(width::<T>())) {
        let from = Strided { elements: &from.elements[first..], ..from };
        let columns = width::<T>().min(len - first);
        if columns < width::<T>() {
            panel.fill(T::ZERO);
        }
        isa.run(PackRows { from, columns, panel });
    }
}

/// Packs the transpose of `rows`: a panel has as many rows as those have columns, and [`width`] of them as columns; the last is
/// filled up with zeros.
pub fn pack_transposed<T: Number>(isa: Isa, from: Strided<'_, T>, rows: usize, len: usize, panels: &mut [T]) {
    for (panel, first) in panels.chunks_exact_mut(len * width::<T>()).zip((0..rows).step_by(width::<T>())) {
        let from = Strided { elements: &from.elements[first * from.rows..], ..from };
        let rows = width::<T>().min(rows - first);
        if rows < width::<T>() {
            panel.fill(T::ZERO);
        }
        isa.run(PackColumns { from, rows, panel });
    }
}

/// Transposes a matrix and adds a number to each column of what comes out; all lengths are multiples of [`LANES`].
pub fn transpose<T: Number>(isa: Isa, from: Strided<'_, T>, plus: &[T], rows: usize, out: &mut [T], stride: usize) {
    isa.run(Transpose { from, plus, rows, out, stride });
}

struct PackRows<'a, T> {
    from: Strided<'a, T>,
    columns: usize,
    panel: &'a mut [T],
}

impl<T: Real> Kernel for PackRows<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { from, columns, panel } = self;
        for (row, out) in panel.chunks_exact_mut(width::<T>()).enumerate() {
            let elements = &from.elements[row * from.rows..][..columns];
            if columns == width::<T>() {
                // Of a length that the compiler knows.
                out.copy_from_slice(&elements[..width::<T>()]);
            } else {
                out[..columns].copy_from_slice(elements);
            }
        }
    }
}

struct PackColumns<'a, T> {
    from: Strided<'a, T>,
    rows: usize,
    panel: &'a mut [T],
}

impl<T: Real> Kernel for PackColumns<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { from, rows, panel } = self;
        let len = panel.len() / width::<T>();
        // Squares that stay in the first-level cache, both ways.
        for start in (0..len).step_by(LANES) {
            let end = len.min(start + LANES);
            let square = &mut panel[start * width::<T>()..end * width::<T>()];
            for row in 0..rows {
                let elements = &from.elements[row * from.rows + start..][..end - start];
                for (out, &element) in square.chunks_exact_mut(width::<T>()).zip(elements) {
                    out[row] = element;
                }
            }
        }
    }
}

struct Transpose<'a, T> {
    from: Strided<'a, T>,
    plus: &'a [T],
    rows: usize,
    out: &'a mut [T],
    stride: usize,
}

impl<T: Real> Kernel for Transpose<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { from, plus, rows, out, stride } = self;
        let (plus, _) = plus.as_chunks::<LANES>();
        for row in (0..rows).step_by(LANES) {
            for (square, plus) in plus.iter().enumerate() {
                let mut columns = [[T::ZERO; LANES]; LANES];
                for (column, elements) in columns.iter_mut().enumerate() {
                    let at = (square * LANES + column) * from.rows + row;
                    elements.copy_from_slice(&from.elements[at..at + LANES]);
                }
                for lane in 0..LANES {
                    let mut elements = [T::ZERO; LANES];
                    for column in 0..LANES {
                        elements[column] = columns[column][lane] + plus[column];
                    }
                    out[(row + lane) * stride + square * LANES..][..LANES].copy_from_slice(&elements);
                }
            }
        }
    }
}

/// Multiplies `left` with a panel of `depth` rows, into `out` or, if `add`, onto it. `left` must have as many rows as `out`, up
/// to a multiple of [`ROWS`].
pub fn multiply<T: Number>(isa: Isa, left: Strided<'_, T>, depth: usize, panel: &[T], out: Output<'_, T>, add: bool) {
    // What fits the registers: 32 of 16 float32 with AVX-512, 16 of 8 with AVX2.
    match (Dtype::of::<T>(), isa) {
        (Dtype::Float32, Isa::Avx512) => isa.run(Multiply::<_, 8, 32, 1> { left, depth, panel, out, add }),
        (Dtype::Float32, _) => isa.run(Multiply::<_, 4, 16, 2> { left, depth, panel, out, add }),
        (_, Isa::Avx512) => isa.run(Multiply::<_, 8, 16, 1> { left, depth, panel, out, add }),
        _ => isa.run(Multiply::<_, 4, 8, 2> { left, depth, panel, out, add }),
    }
}

/// `M` rows at a time, and `N` columns, a panel being `PARTS` times as wide.
struct Multiply<'a, T, const M: usize, const N: usize, const PARTS: usize> {
    left: Strided<'a, T>,
    depth: usize,
    panel: &'a [T],
    out: Output<'a, T>,
    add: bool,
}

impl<T: Real, const M: usize, const N: usize, const PARTS: usize> Kernel for Multiply<'_, T, M, N, PARTS> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { left, depth, panel, out, add } = self;
        let (panel, _) = panel[..depth * N * PARTS].as_chunks::<N>();
        if out.rows == 0 || depth == 0 {
            return;
        }
        let last = (out.rows.next_multiple_of(M) - 1) * left.rows + (depth - 1) * left.columns;
        assert!(last < left.elements.len());
        for first in (0..out.rows).step_by(M) {
            for part in 0..PARTS {
                let columns = N.min(out.columns.saturating_sub(part * N));
                if columns > 0 {
                    // SAFETY: row `first + M − 1` and column `depth − 1` are within the left operand, as the assertion says.
                    let sums = unsafe { Self::sums(left, first, panel, part) };
                    Self::put(
                        &sums,
                        out.elements,
                        first * out.stride + part * N,
                        out.stride,
                        out.rows - first,
                        columns,
                        add,
                    );
                }
            }
        }
    }
}

impl<T: Real, const M: usize, const N: usize, const PARTS: usize> Multiply<'_, T, M, N, PARTS> {
    /// # Safety
    /// The left operand must have rows `first` to `first + M`, and columns as the panel has rows.
    #[inline(always)]
    unsafe fn sums(left: Strided<'_, T>, first: usize, panel: &[[T; N]], part: usize) -> [[T; N]; M] {
        let mut sums = [[T::ZERO; N]; M];
        for (depth, right) in panel.chunks_exact(PARTS).enumerate() {
            let right = &right[part];
            for (row, sums) in sums.iter_mut().enumerate() {
                let at = (first + row) * left.rows + depth * left.columns;
                // SAFETY: the caller's.
                let factor = unsafe { *left.elements.get_unchecked(at) };
                for column in 0..N {
                    sums[column] = factor.mul_add(right[column], sums[column]);
                }
            }
        }
        sums
    }

    #[inline(always)]
    fn put(sums: &[[T; N]; M], out: &mut [T], at: usize, stride: usize, rows: usize, columns: usize, add: bool) {
        for row in 0..M {
            if row < rows {
                let out = &mut out[at + row * stride..][..columns];
                // An array of its own: what is indexed by a variable is not kept in registers.
                let sums = sums[row];
                if let Ok(out) = <&mut [T; N]>::try_from(&mut *out) {
                    for column in 0..N {
                        out[column] = if add { out[column] + sums[column] } else { sums[column] };
                    }
                } else {
                    for (out, sum) in out.iter_mut().zip(sums) {
                        *out = if add { *out + sum } else { sum };
                    }
                }
            }
        }
    }
}
