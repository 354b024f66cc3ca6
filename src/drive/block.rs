//! Blocks: the unit that kernels work on, small enough for the first-level cache.

use std::mem::MaybeUninit;

use crate::isa::{Isa, Kernel};
use crate::loss::Domain;
use crate::real::Real;
use crate::storage;
use crate::sum::{Summand, fold};

/// The most elements of a block.
pub const BLOCK: usize = 1024;

/// Kernels work on a multiple of this many elements, so that their loops have no remainder.
pub use crate::sum::GRAIN;

/// Lanes in which sums run, the same on every instruction set.
pub const LANES: usize = 16;

/// A number in which drivers compute: float32 or float64.
pub trait Number: Real + Summand {}
impl<T: Real + Summand> Number for T {}

/// Room for a block, on the stack, not cleared: clearing it would cost more than a small call. It begins with a line of the
/// caches, so that no vector lies across two.
#[repr(align(64))]
pub struct Block<T, const N: usize = BLOCK>([MaybeUninit<T>; N]);

impl<T: Copy, const N: usize> Block<T, N> {
    /// A block that holds nothing yet.
    #[inline(always)]
    pub const fn new() -> Self {
        Self([MaybeUninit::uninit(); N])
    }

    /// The first `len` elements, after `fill` has been given room for all of them.
    ///
    /// # Safety
    /// `fill` must write every element of the slice that it gets.
    #[inline(always)]
    pub unsafe fn filled(&mut self, len: usize, fill: impl FnOnce(&mut [T])) -> &mut [T] {
        // SAFETY: `T` is a plain number, of which every bit pattern is one, and `fill` only writes, as the caller grants.
        let room = unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast::<T>(), len.min(N)) };
        fill(room);
        room
    }

    /// The first `len` elements, which must have been written before.
    ///
    /// # Safety
    /// They must have been.
    #[inline(always)]
    pub unsafe fn written(&mut self, len: usize) -> &mut [T] {
        // SAFETY: the caller's.
        unsafe { self.filled(len, |_| ()) }
    }
}

/// Multiplies losses or slopes by weights and a factor. A weight of zero removes what is there, NaN included.
pub fn weigh<T: Real>(isa: Isa, values: &mut [T], weights: &[T], factor: T) {
    struct Weigh<'a, T>(&'a mut [T], &'a [T], T);
    impl<T: Real> Kernel for Weigh<'_, T> {
        type Output = ();
        #[inline(always)]
        fn run(self) {
            let Self(values, weights, factor) = self;
            for (value, &weight) in values.iter_mut().zip(weights) {
                let weighed = *value * (weight * factor);
                *value = if weight == T::ZERO { T::ZERO } else { weighed };
            }
        }
    }
    isa.run(Weigh(values, weights, factor));
}

/// Multiplies by other values, plainly.
pub fn multiply<T: Real>(isa: Isa, values: &mut [T], by: &[T]) {
    struct Multiply<'a, T>(&'a mut [T], &'a [T]);
    impl<T: Real> Kernel for Multiply<'_, T> {
        type Output = ();
        #[inline(always)]
        fn run(self) {
            for (value, &by) in self.0.iter_mut().zip(self.1) {
                *value = *value * by;
            }
        }
    }
    isa.run(Multiply(values, by));
}

/// Multiplies by a factor.
pub fn scale<T: Real>(isa: Isa, values: &mut [T], factor: T) {
    struct Scale<'a, T>(&'a mut [T], T);
    impl<T: Real> Kernel for Scale<'_, T> {
        type Output = ();
        #[inline(always)]
        fn run(self) {
            for value in self.0 {
                *value = *value * self.1;
            }
        }
    }
    isa.run(Scale(values, factor));
}

/// Whether a condition holds for none of some values, which are asked for ahead as this may be the first to read them.
#[inline(always)]
fn none<T: Real>(values: &[T], condition: impl Fn(T) -> bool) -> bool {
    let (grains, rest) = values.as_chunks::<GRAIN>();
    let mut holds = false;
    for grain in grains {
        storage::prefetch_beyond(grain);
        for &value in grain {
            holds |= condition(value);
        }
    }
    !rest.iter().fold(holds, |holds, &value| holds | condition(value))
}

/// Whether all values are of a domain.
pub fn is_within<T: Real>(isa: Isa, values: &[T], domain: Domain) -> bool {
    struct Within<'a, T>(&'a [T], T, T);
    impl<T: Real> Kernel for Within<'_, T> {
        type Output = bool;
        #[inline(always)]
        fn run(self) -> bool {
            let Self(values, low, high) = self;
            none(values, |value| (value < low) | (value > high))
        }
    }
    struct Either<'a, T>(&'a [T], T, T);
    impl<T: Real> Kernel for Either<'_, T> {
        type Output = bool;
        #[inline(always)]
        fn run(self) -> bool {
            let Self(values, one, other) = self;
            none(values, |value| (value != one) & (value != other))
        }
    }
    match domain {
        Domain::Real => true,
        Domain::Interval(low, high) => isa.run(Within(values, T::of(low), T::of(high))),
        Domain::Sign => isa.run(Either(values, -T::ONE, T::ONE)),
        Domain::Binary => isa.run(Either(values, T::ZERO, T::ONE)),
    }
}

/// So many elements from an index on.
#[inline(always)]
pub fn at<T, const N: usize>(values: &[T], index: usize) -> &[T; N] {
    &values[index..].as_chunks().0[0]
}

/// The same, to be written.
#[inline(always)]
pub fn at_mut<T, const N: usize>(values: &mut [T], index: usize) -> &mut [T; N] {
    &mut values[index..].as_chunks_mut().0[0]
}

/// The larger of values and the largest so far, in each lane; NaN aside.
#[inline(always)]
pub fn larger<T: Real, const N: usize>(values: &[T; N], mut largest: [T; N]) -> [T; N] {
    for lane in 0..N {
        largest[lane] = values[lane].max(largest[lane]);
    }
    largest
}

/// What scores are relative to: the largest, but before any score above −∞, which would be at no distance to itself, 0.
#[inline(always)]
pub fn relative<T: Real>(largest: T) -> T {
    if largest > -T::INFINITY { largest } else { T::ZERO }
}

/// The largest of a multiple of [`GRAIN`] elements, NaN aside; −∞ of none.
pub fn largest<T: Real>(isa: Isa, values: &[T]) -> T {
    /// Four to each lane, which hides the latency.
    const WIDE: usize = 4 * LANES;
    struct Largest<'a, T>(&'a [T]);
    impl<T: Real> Kernel for Largest<'_, T> {
        type Output = T;
        #[inline(always)]
        fn run(self) -> T {
            let mut wide = [-T::INFINITY; WIDE];
            for values in self.0.as_chunks::<WIDE>().0 {
                wide = larger(values, wide);
            }
            let (lanes, _) = wide.as_chunks::<LANES>();
            fold(larger(&larger(&lanes[0], lanes[1]), larger(&lanes[2], lanes[3])), T::max)
        }
    }
    isa.run(Largest(values))
}
