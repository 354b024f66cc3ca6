//! Where elements lie: a common order in which to visit several strided buffers of one shape.

use crate::drive::block::{BLOCK, Block, GRAIN};
use crate::isa::Isa;
use crate::real::Real;
use crate::storage::{Dtype, Run};

/// The axes of a visit, outermost first. The last one is apart, because most visits have no other.
#[derive(Clone, Debug)]
pub struct Layout {
    outer: Vec<usize>,
    inner: usize,
}

/// A buffer, by its distances along a [`Layout`]'s axes.
#[derive(Clone, Debug)]
pub struct Operand {
    /// The elements along the last axis, from the first on.
    pub run: Run,
    /// Bytes between elements along the other axes.
    outer: Vec<isize>,
}

static ONE: f64 = 1.0;

impl Layout {
    /// `len` elements, at equal distances in every operand.
    pub const fn flat(len: usize) -> Self {
        Self { outer: Vec::new(), inner: len }
    }

    /// The layout of a shape, and its operands from each one's first element and strides in bytes. Axes along which every
    /// operand goes on where it left off are joined. `sort` visits in the order of the first operand's memory, not in C order.
    pub fn new(shape: &[usize], operands: &[(Run, &[isize])], sort: bool) -> (Self, Vec<Operand>) {
        let mut axes: Vec<usize> = (0..shape.len()).filter(|&axis| shape[axis] != 1).collect();
        if sort && let Some((_, strides)) = operands.first() {
            axes.sort_by_key(|&axis| std::cmp::Reverse(strides[axis].unsigned_abs()));
        }
        let mut joined: Vec<(usize, Vec<isize>)> = Vec::new();
        for axis in axes {
            let distances: Vec<isize> = operands.iter().map(|(_, strides)| strides[axis]).collect();
            let length = shape[axis];
            match joined.last_mut() {
                Some((above, step))
                    if step.iter().zip(&distances).all(|(&s, &d)| Some(s) == d.checked_mul(length as isize)) =>
                {
                    *above *= length;
                    *step = distances;
                }
                _ => joined.push((length, distances)),
            }
        }
        let (inner, last) = joined.pop().unwrap_or_else(|| (1, vec![0; operands.len()]));
        let outer = joined.iter().map(|&(length, _)| length).collect();
        let operands = operands.iter().enumerate().map(|(i, &(run, _))| Operand {
            run: Run { stride: last[i], ..run },
            outer: joined.iter().map(|(_, distances)| distances[i]).collect(),
        });
        (Self { outer, inner }, operands.collect())
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.outer.iter().product::<usize>() * self.inner
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Calls `visit(run, offset, length)` for the runs that make up `len` elements of `operand` from `start` on; `offset`
    /// counts from `start`.
    #[inline]
    pub fn runs(&self, operand: &Operand, start: usize, len: usize, mut visit: impl FnMut(Run, usize, usize)) {
        let mut done = 0;
        while done < len {
            let at = start + done;
            let (line, within) = if self.outer.is_empty() { (0, at) } else { (at / self.inner, at % self.inner) };
            let length = (self.inner - within).min(len - done);
            visit(self.line(operand, line).from(within), done, length);
            done += length;
        }
    }

    /// The run along the last axis that is the `line`-th in the order of the visit.
    #[inline]
    fn line(&self, operand: &Operand, mut line: usize) -> Run {
        let mut first = operand.run.first;
        for (&length, &stride) in self.outer.iter().zip(&operand.outer).rev() {
            first = first.wrapping_offset(stride.wrapping_mul((line % length) as isize));
            line /= length;
        }
        Run { first, ..operand.run }
    }

    /// The run that begins at an element.
    #[inline]
    pub fn at(&self, operand: &Operand, index: usize) -> Run {
        if self.outer.is_empty() {
            operand.run.from(index)
        } else {
            self.line(operand, index / self.inner).from(index % self.inner)
        }
    }

    /// The run that elements `start..start + len` are, if they are one.
    #[inline]
    pub fn one_run(&self, operand: &Operand, start: usize, len: usize) -> Option<Run> {
        let is_one = self.outer.is_empty() || start % self.inner + len <= self.inner;
        is_one.then(|| self.at(operand, start))
    }

    /// Elements `start..start + len` of an operand, as they lie where that can be, else converted into `room`; followed in
    /// any case by readable ones up to a multiple of [`GRAIN`].
    ///
    /// # Safety
    /// The operand's elements must be readable, and must not be written while the slice lives.
    #[inline]
    pub unsafe fn fetch<'a, T: Real>(
        &self,
        isa: Isa,
        operand: &Operand,
        start: usize,
        len: usize,
        room: &'a mut Block<T>,
    ) -> &'a [T] {
        let padded = len.next_multiple_of(GRAIN);
        // SAFETY: the run holds `len` elements from `start` on, and the caller's word for them.
        let slice = self.one_run(operand, start, len).and_then(|run| unsafe { run.as_slice(len) });
        if let Some(slice) = slice
            && padded == len
        {
            return slice;
        }
        debug_assert!(len <= BLOCK);
        // SAFETY: the runs cover the first `len` elements, and the rest is filled.
        unsafe {
            room.filled(padded, |room| {
                match slice {
                    Some(slice) => room[..len].copy_from_slice(slice),
                    None => self.read(isa, operand, start, &mut room[..len]),
                }
                let last = if len == 0 { T::ONE } else { room[len - 1] };
                room[len..].fill(last);
            })
        }
    }

    /// Reads elements from `start` on.
    ///
    /// # Safety
    /// The operand's elements must be readable.
    #[inline]
    pub unsafe fn read<T: Real>(&self, isa: Isa, operand: &Operand, start: usize, out: &mut [T]) {
        self.runs(operand, start, out.len(), |run, offset, length| {
            // SAFETY: the caller's.
            unsafe { run.load(isa, &mut out[offset..offset + length]) };
        });
    }

    /// Writes elements from `start` on.
    ///
    /// # Safety
    /// The operand's elements must be writable floats that nobody else reads or writes.
    #[inline]
    pub unsafe fn put<T: Real>(&self, isa: Isa, operand: &Operand, start: usize, values: &[T], stream: bool) {
        self.runs(operand, start, values.len(), |run, offset, length| {
            // SAFETY: the caller's.
            unsafe { run.store(isa, &values[offset..offset + length], stream) };
        });
    }
}

impl Operand {
    /// A run of elements for each combination of indices along the outer axes, so many bytes apart.
    pub const fn new(run: Run, outer: Vec<isize>) -> Self {
        Self { run, outer }
    }

    /// Elements side by side, for a flat layout.
    pub const fn flat(first: *mut u8, dtype: Dtype, swapped: bool) -> Self {
        Self::new(Run { first, stride: dtype.size() as isize, dtype, swapped }, Vec::new())
    }

    /// 1 everywhere.
    pub const fn one() -> Self {
        let first = (&raw const ONE).cast_mut().cast();
        Self::new(Run { first, stride: 0, dtype: Dtype::Float64, swapped: false }, Vec::new())
    }

    /// The bytes between elements along the outer axes.
    pub fn outer(&self) -> &[isize] {
        &self.outer
    }

    /// The operand whose elements lie so many bytes on.
    #[must_use]
    pub fn moved(&self, bytes: isize) -> Self {
        let run = Run { first: self.run.first.wrapping_offset(bytes), ..self.run };
        Self { run, outer: self.outer.clone() }
    }

    /// Whether all elements are one and the same.
    pub fn is_constant(&self) -> bool {
        self.run.stride == 0 && self.outer.iter().all(|&stride| stride == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever the axes' order and direction, a layout visits the same elements as an index over the shape does.
        #[test]
        fn a_visit_meets_every_element_once(
            shape in prop::collection::vec(1_usize..5, 0..5),
            order in any::<u64>(),
            flips in any::<u8>(),
            sort in any::<bool>(),
            start in 0_usize..40,
        ) {
            let mut axes: Vec<usize> = (0..shape.len()).collect();
            axes.sort_by_key(|&axis| (order >> (8 * axis)) as u8);
            let mut strides = vec![0_isize; shape.len()];
            let (mut step, mut first) = (4_isize, 0_isize);
            for &axis in axes.iter().rev() {
                strides[axis] = step;
                if flips >> axis & 1 == 1 {
                    strides[axis] = -step;
                    first += step * (shape[axis] as isize - 1);
                }
                step *= shape[axis] as isize;
            }
            let len: usize = shape.iter().product();
            let memory: Vec<f32> = (0..len).map(|i| i as f32).collect();
            let run = Run {
                first: memory.as_ptr().cast_mut().cast::<u8>().wrapping_offset(first),
                stride: 0,
                dtype: Dtype::Float32,
                swapped: false,
            };
            let (layout, operands) = Layout::new(&shape, &[(run, &strides)], sort);
            prop_assert_eq!(layout.len(), len);
            let start = start.min(len);
            let mut room = Block::<f64>::new();
            // SAFETY: the operand describes `memory`.
            let seen = unsafe { layout.fetch(Isa::active(), &operands[0], start, len - start, &mut room) };
            let seen = &seen[..len - start];
            for (i, &value) in seen.iter().enumerate() {
                // SAFETY: as above.
                prop_assert_eq!(unsafe { layout.at(&operands[0], start + i).label(0) }, Ok(value as i128));
            }
            if !sort {
                let expected = (start..len).map(|mut index| {
                    let mut at = first;
                    for axis in (0..shape.len()).rev() {
                        at += strides[axis] * (index % shape[axis]) as isize;
                        index /= shape[axis];
                    }
                    (at / 4) as f64
                });
                prop_assert_eq!(seen.to_vec(), expected.collect::<Vec<_>>());
            }
            if start == 0 {
                let mut sorted = seen.to_vec();
                sorted.sort_by(f64::total_cmp);
                prop_assert_eq!(sorted, (0..len).map(|i| i as f64).collect::<Vec<_>>());
            }
        }
    }
}
