//! What lies in a buffer: float64, float32, float16, bfloat16, integers and bool, and how it becomes a `Real` and back.
//!
//! The conversions are integer and floating-point arithmetic that LLVM vectorises; those of float16 are the hardware's where there
//! are any, which is not so on the baseline.

#[cfg(target_arch = "x86_64")]
mod x86;

use std::mem::MaybeUninit;

use crate::isa::{Baseline, Isa, Kernel, Set};
use crate::real::Real;
use crate::sum::GRAIN;

/// The type of a buffer's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtype {
    /// IEEE binary64
    Float64,
    /// IEEE binary32
    Float32,
    /// IEEE binary16
    Float16,
    /// The upper half of a binary32
    Bfloat16,
    /// Signed integers
    Int8,
    /// 16 bits
    Int16,
    /// 32 bits
    Int32,
    /// 64 bits
    Int64,
    /// Unsigned integers
    Uint8,
    /// 16 bits
    Uint16,
    /// 32 bits
    Uint32,
    /// 64 bits
    Uint64,
    /// One byte, true unless 0
    Bool,
}

impl Dtype {
    /// The type of a `T` as it lies in memory.
    pub const fn of<T: Real>() -> Self {
        if size_of::<T>() == 4 { Self::Float32 } else { Self::Float64 }
    }

    /// The size of an element in bytes.
    pub const fn size(self) -> usize {
        match self {
            Self::Float64 | Self::Int64 | Self::Uint64 => 8,
            Self::Float32 | Self::Int32 | Self::Uint32 => 4,
            Self::Float16 | Self::Bfloat16 | Self::Int16 | Self::Uint16 => 2,
            Self::Int8 | Self::Uint8 | Self::Bool => 1,
        }
    }

    /// Whether it is one of the four floating-point types.
    pub const fn is_float(self) -> bool {
        matches!(self, Self::Float64 | Self::Float32 | Self::Float16 | Self::Bfloat16)
    }
}

/// An element as it lies in memory.
trait Element: Copy {
    /// Its bytes the other way round.
    fn swapped(self) -> Self;
    /// Its value.
    fn widen<T: Real>(self) -> T;
}

/// An element that results are written as.
trait FloatElement: Element {
    /// The nearest element, ties to even.
    fn narrow<T: Real>(value: T) -> Self;
}

/// IEEE binary16, by its bits.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Float16(u16);

/// bfloat16, by its bits.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Bfloat16(u16);

/// NumPy's bool, whose byte may hold anything.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Bool(u8);

macro_rules! element {
    ($($t:ident: |$x:ident| $swapped:expr, $widened:expr;)+) => {$(
        impl Element for $t {
            #[inline(always)]
            fn swapped(self) -> Self {
                let $x = self;
                $swapped
            }
            #[inline(always)]
            fn widen<T: Real>(self) -> T {
                let $x = self;
                $widened
            }
        }
    )+};
}

element! {
    f64: |x| Self::from_bits(x.to_bits().swap_bytes()), T::of(x);
    f32: |x| Self::from_bits(x.to_bits().swap_bytes()), T::of(x.into());
    Float16: |x| Self(x.0.swap_bytes()), T::of(f16_to_f32(x.0).into());
    Bfloat16: |x| Self(x.0.swap_bytes()), T::of(f32::from_bits(u32::from(x.0) << 16).into());
    i8: |x| x, T::of(x.into());
    u8: |x| x, T::of(x.into());
    i16: |x| x.swap_bytes(), T::of(x.into());
    u16: |x| x.swap_bytes(), T::of(x.into());
    i32: |x| x.swap_bytes(), T::of(f64::from(x));
    u32: |x| x.swap_bytes(), T::of(f64::from(x));
    i64: |x| x.swap_bytes(), T::of(x as f64);
    u64: |x| x.swap_bytes(), T::of(x as f64);
    Bool: |x| x, T::of(if x.0 == 0 { 0.0 } else { 1.0 });
}

impl FloatElement for f64 {
    #[inline(always)]
    fn narrow<T: Real>(value: T) -> Self {
        value.to_f64()
    }
}

impl FloatElement for f32 {
    #[inline(always)]
    fn narrow<T: Real>(value: T) -> Self {
        value.to_f64() as f32
    }
}

impl FloatElement for Float16 {
    #[inline(always)]
    fn narrow<T: Real>(value: T) -> Self {
        Self(f32_to_f16(value.to_f64() as f32))
    }
}

impl FloatElement for Bfloat16 {
    #[inline(always)]
    fn narrow<T: Real>(value: T) -> Self {
        Self(f32_to_bf16(value.to_f64() as f32))
    }
}

/// Widens a binary16, exactly: the bits are moved into place and the exponent's bias is corrected by a multiplication, which
/// is right for subnormals too; only infinities and NaN need a select.
#[inline(always)]
fn f16_to_f32(half: u16) -> f32 {
    const BIAS: f32 = f32::from_bits((127 + 112) << 23); // 2^112
    let magnitude = u32::from(half & 0x7fff) << 13;
    let scaled = (f32::from_bits(magnitude) * BIAS).to_bits();
    let bits = if magnitude >= 0x7c00 << 13 { magnitude | 0x7f80_0000 } else { scaled };
    f32::from_bits(bits | (u32::from(half & 0x8000) << 16))
}

/// Narrows to binary16, ties to even. Normal results are rounded by an integer addition that carries into the exponent;
/// subnormal ones by a floating-point addition that puts the last place of the result at the last place of the sum.
#[inline(always)]
fn f32_to_f16(x: f32) -> u16 {
    const SUBNORMAL: f32 = f32::from_bits((127 - 15 + (23 - 10) + 1) << 23); // 0.5: its last place is 2^-24
    let sign = (x.to_bits() >> 16) & 0x8000;
    let magnitude = x.to_bits() & 0x7fff_ffff;
    let normal = magnitude.wrapping_add(0xfff + ((magnitude >> 13) & 1)).wrapping_sub(112 << 23) >> 13;
    let subnormal = (f32::from_bits(magnitude) + SUBNORMAL).to_bits().wrapping_sub(SUBNORMAL.to_bits());
    let nan = 0x7e00 | ((magnitude >> 13) & 0x3ff);
    let finite = if magnitude < 113 << 23 { subnormal } else { normal };
    // From 65520 up the nearest is infinity; the rounding addition has already carried there below 2^16.
    let bounded = if magnitude >= 143 << 23 { 0x7c00 } else { finite };
    let bits = if magnitude > 0x7f80_0000 { nan } else { bounded };
    (bits | sign) as u16
}

/// Narrows to bfloat16, ties to even.
#[inline(always)]
fn f32_to_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
    let nan = (bits >> 16) | 0x40;
    (if bits & 0x7fff_ffff > 0x7f80_0000 { nan } else { rounded }) as u16
}

/// Calls `$body` with `$S` naming the Rust type of the elements.
macro_rules! with_element {
    ($dtype:expr, $S:ident => $body:expr) => {
        with_element!(@ $dtype, $S => $body; Float64 f64, Float32 f32, Float16 Float16, Bfloat16 Bfloat16, Int8 i8, Int16 i16,
            Int32 i32, Int64 i64, Uint8 u8, Uint16 u16, Uint32 u32, Uint64 u64, Bool Bool)
    };
    (@ $dtype:expr, $S:ident => $body:expr; $($name:ident $type:ty),+ $(; $rest:expr)?) => {
        match $dtype {
            $(Dtype::$name => {
                type $S = $type;
                $body
            })+
            $(_ => $rest,)?
        }
    };
}

/// Calls `$body` with `$S` naming the Rust type of the elements, which are floating-point.
macro_rules! with_float_element {
    ($dtype:expr, $S:ident => $body:expr) => {
        with_element!(@ $dtype, $S => $body; Float64 f64, Float32 f32, Float16 Float16, Bfloat16 Bfloat16;
            unreachable!("results are floating-point"))
    };
}

/// Calls `$body` with `$S` naming the Rust type of the elements, which are integers, or else evaluates to `$rest`.
macro_rules! with_integer_element {
    ($dtype:expr, $S:ident => $body:expr, $rest:expr) => {
        with_element!(@ $dtype, $S => $body; Int8 i8, Int16 i16, Int32 i32, Int64 i64, Uint8 u8, Uint16 u16, Uint32 u32,
            Uint64 u64; $rest)
    };
}

/// Elements at equal distances in memory: one run of a strided buffer.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// The first element, which need not be aligned.
    pub first: *mut u8,
    /// Bytes from one element to the next; may be zero or negative.
    pub stride: isize,
    /// The type of the elements.
    pub dtype: Dtype,
    /// Whether their bytes are in the other order than this machine's.
    pub swapped: bool,
}

// SAFETY: a run is an address and a description; whoever reads or writes through it answers for the memory behind it, and
// drivers write each element of a result from one thread only.
unsafe impl Send for Run {}
// SAFETY: as above.
unsafe impl Sync for Run {}

impl Run {
    /// The elements from the `index`-th on.
    #[inline(always)]
    #[must_use]
    pub fn from(self, index: usize) -> Self {
        Self { first: self.first.wrapping_offset(self.stride.wrapping_mul(index as isize)), ..self }
    }

    /// Reads the run's first elements into all of `out`.
    ///
    /// # Safety
    /// The run must have `out.len()` readable elements.
    pub unsafe fn load<T: Real>(self, isa: Isa, out: &mut [T]) {
        isa.run(Load { run: self, out });
    }

    /// Reads labels as places among `classes`, all of `out`; whether they are integers, each is such a place and none is `ignored`.
    ///
    /// # Safety
    /// The run must have `out.len()` readable elements.
    pub unsafe fn load_places(self, isa: Isa, classes: usize, ignored: Option<usize>, out: &mut [usize]) -> bool {
        let (classes, ignored) = (classes as u64, ignored.map_or(u64::MAX, |place| place as u64));
        isa.run(LoadPlaces { run: self, classes, ignored, out })
    }

    /// Writes all `values` to the run's first elements; `stream` writes past the caches, where that can be done.
    ///
    /// # Safety
    /// The run must have `values.len()` writable elements, of a floating-point type.
    pub unsafe fn store<T: Real>(self, isa: Isa, values: &[T], stream: bool) {
        isa.run(Store { run: self, values, stream });
    }

    /// Its memory, to be asked for ahead of its time.
    #[inline]
    pub fn ahead(self) -> Ahead {
        Ahead { first: self.first, stride: self.stride }
    }

    /// Reads runs that begin `apart` bytes from one another, `len` elements of each, into as many `rows`-long parts of `out`;
    /// what remains of a part becomes 0.
    ///
    /// # Safety
    /// The runs must have so many readable elements.
    pub unsafe fn load_tile<T: Real>(self, isa: Isa, apart: isize, len: usize, rows: usize, out: &mut [T]) {
        isa.run(LoadTile { run: self, apart, len, rows, out });
    }

    /// Writes the first `len` of each `rows` values to runs that begin `apart` bytes from one another.
    ///
    /// # Safety
    /// The runs must have so many writable elements, of a floating-point type.
    pub unsafe fn store_tile<T: Real>(self, isa: Isa, apart: isize, len: usize, rows: usize, values: &[T]) {
        isa.run(StoreTile { run: self, apart, len, rows, values });
    }

    /// Reads the elements at some indices, each into a place of `out`.
    ///
    /// # Safety
    /// The run must have readable elements at the indices.
    pub unsafe fn gather(self, places: &[(usize, usize)], out: &mut [f64]) {
        with_element!(self.dtype, S => {
            for &(index, place) in places {
                // SAFETY: the caller's.
                let element = unsafe { self.from(index).first.cast::<S>().read_unaligned() };
                out[place] = (if self.swapped { element.swapped() } else { element }).widen();
            }
        });
    }

    /// Reads, from each of the runs that begin where this one's elements lie, the element at some place of it, `apart` bytes from
    /// one to the next.
    ///
    /// # Safety
    /// The runs must have readable elements there.
    pub unsafe fn load_at<T: Real>(self, isa: Isa, apart: isize, places: &[usize], out: &mut [T]) {
        isa.run(LoadAt { run: self, apart, places, out });
    }

    /// The element at `index` as an integer.
    ///
    /// # Errors
    /// With its value, where that is not whole.
    ///
    /// # Safety
    /// The run must have a readable element there.
    #[inline(always)]
    pub unsafe fn label(self, index: usize) -> Result<i128, f64> {
        let at = self.from(index).first;
        macro_rules! read {
            ($t:ty) => {{
                // SAFETY: the caller's; the read is unaligned.
                let value = unsafe { at.cast::<$t>().read_unaligned() };
                if self.swapped { value.swapped() } else { value }
            }};
        }
        match self.dtype {
            Dtype::Int64 => Ok(read!(i64).into()),
            Dtype::Int32 => Ok(read!(i32).into()),
            Dtype::Int16 => Ok(read!(i16).into()),
            Dtype::Int8 => Ok(read!(i8).into()),
            Dtype::Uint64 => Ok(read!(u64).into()),
            Dtype::Uint32 => Ok(read!(u32).into()),
            Dtype::Uint16 => Ok(read!(u16).into()),
            Dtype::Uint8 => Ok(read!(u8).into()),
            Dtype::Bool => Ok((read!(Bool).0 != 0).into()),
            Dtype::Float64 => whole(read!(f64)),
            Dtype::Float32 => whole(read!(f32).into()),
            Dtype::Float16 => whole(read!(Float16).widen()),
            Dtype::Bfloat16 => whole(read!(Bfloat16).widen()),
        }
    }

    /// The run as a slice, if its elements are `T` as they lie.
    ///
    /// # Safety
    /// The run must have `len` readable elements that nobody writes while the slice lives.
    #[inline(always)]
    pub unsafe fn as_slice<'a, T: Real>(self, len: usize) -> Option<&'a [T]> {
        // SAFETY: the caller's, and the type, order, distance and alignment have been checked.
        self.is_slice_of::<T>().then(|| unsafe { std::slice::from_raw_parts(self.first.cast::<T>(), len) })
    }

    /// Its elements, to be written as they lie.
    ///
    /// # Safety
    /// They must be `T` as they lie, and the run must have `len` of them, that nobody else reads or writes while the slice lives.
    #[inline(always)]
    pub unsafe fn to_slice<'a, T: Real>(self, len: usize) -> &'a mut [T] {
        debug_assert!(self.is_slice_of::<T>());
        // SAFETY: the caller's.
        unsafe { std::slice::from_raw_parts_mut(self.first.cast::<T>(), len) }
    }

    /// Whether its elements are `T` as they lie.
    #[inline(always)]
    pub fn is_slice_of<T: Real>(self) -> bool {
        self.dtype == Dtype::of::<T>()
            && !self.swapped
            && self.stride == size_of::<T>() as isize
            && self.first.cast::<T>().is_aligned()
    }
}

/// Memory that is asked for while other is worked on, line by line, into the second-level cache. Asked for at once, it would make
/// the loads of that work wait.
#[derive(Clone, Copy)]
pub struct Ahead {
    first: *const u8,
    stride: isize,
}

impl Ahead {
    /// Asks for `len` elements from `start` on.
    #[inline(always)]
    pub fn fetch<T>(self, start: usize, len: usize) {
        let first = self.first.wrapping_offset(self.stride.wrapping_mul(start as isize));
        prefetch::<2>(first, len * size_of::<T>());
    }
}

/// The distance in bytes at which loops over elements ask for them: more than a page, as the machine's own prefetching ends where
/// a page does.
const DISTANCE: usize = 5120;

/// Elements that lie anywhere are asked for so many before they are read.
const SCATTERED: usize = 16;
/// Bytes from run to run, or within a run, from which elements of each lie anywhere; nearer ones the machine's own prefetching meets.
const FAR: usize = 256;

/// Asks memory for elements that will be needed when those that follow these have been worked on, into the second-level cache.
#[inline(always)]
pub fn prefetch_beyond<T>(elements: &[T]) {
    prefetch::<2>(elements.as_ptr().cast::<u8>().wrapping_add(DISTANCE), size_of_val(elements));
}

/// A line of the caches, in bytes.
const LINE: usize = 64;

/// The elements that lie before the first whole line; of elements that no line begins with, 0.
pub fn elements_before_line<T>(first: *const u8) -> usize {
    match first.cast::<T>().align_offset(LINE) {
        usize::MAX => 0,
        elements => elements,
    }
}

/// Whether elements begin with a line, if there are any.
#[inline(always)]
pub fn begins_a_line<T>(elements: &[T]) -> bool {
    elements.is_empty() || elements.as_ptr().addr().is_multiple_of(LINE)
}

/// Writes values as they are, some whole lines of them, past the caches if `stream`.
///
/// # Safety
/// The machine must have the set, and what is streamed must begin with a line.
#[inline(always)]
pub unsafe fn put_lines<I: Set, T: Real>(values: &[T; GRAIN], to: &mut [T; GRAIN], stream: bool) {
    #[cfg(target_arch = "x86_64")]
    if stream {
        // SAFETY: the caller's; both have the size of whole lines.
        unsafe { x86::stream_aligned::<I>(values.as_ptr().cast(), to.as_mut_ptr().cast(), size_of_val(values)) };
        return;
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = stream;
    *to = *values;
}

/// Asks memory for bytes that will be needed, into the cache of a level, 1 or 2.
#[inline(always)]
pub fn prefetch<const LEVEL: u8>(first: *const u8, bytes: usize) {
    #[cfg(target_arch = "x86_64")]
    for offset in (0..bytes).step_by(LINE) {
        use std::arch::x86_64::{_MM_HINT_T0, _MM_HINT_T1, _mm_prefetch};
        let line = first.wrapping_add(offset).cast();
        // SAFETY: a prefetch may be of any address and does nothing that a program can see.
        unsafe {
            match LEVEL {
                1 => _mm_prefetch::<_MM_HINT_T0>(line),
                _ => _mm_prefetch::<_MM_HINT_T1>(line),
            }
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (first, bytes, LINE);
}

fn whole(value: f64) -> Result<i128, f64> {
    if value == value.trunc() && value.abs() < 1e18 { Ok(value as i128) } else { Err(value) }
}

struct Load<'a, T> {
    run: Run,
    out: &'a mut [T],
}

impl<T: Real> Kernel for Load<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        self.run_on::<Baseline>();
    }

    #[inline(always)]
    fn run_on<I: Set>(self) {
        let Self { run, out } = self;
        // SAFETY: `Run::load`'s caller grants `out.len()` elements.
        with_element!(run.dtype, S => unsafe { read_run::<I, S, T>(run, out) });
    }
}

struct LoadPlaces<'a> {
    run: Run,
    classes: u64,
    ignored: u64,
    out: &'a mut [usize],
}

impl Kernel for LoadPlaces<'_> {
    type Output = bool;

    #[inline(always)]
    fn run(self) -> bool {
        let Self { run, .. } = self;
        with_integer_element!(run.dtype, S => {
            #[allow(clippy::unnecessary_cast, reason = "of one type it is")]
            let widen = |label: S| (if run.swapped { label.swapped() } else { label }) as u64;
            let size = size_of::<S>() as isize;
            // SAFETY: `Run::load_places`'s caller grants `out.len()` elements.
            unsafe { if run.stride == size { self.read(size, widen) } else { self.read(run.stride, widen) } }
        }, false)
    }
}

impl LoadPlaces<'_> {
    /// # Safety
    /// As [`Run::load_places`], with elements of this type at this stride.
    #[inline(always)]
    unsafe fn read<S: Element>(self, stride: isize, widen: impl Fn(S) -> u64) -> bool {
        let Self { run, classes, ignored, out } = self;
        let mut are_others = false;
        for (i, place) in out.iter_mut().enumerate() {
            // SAFETY: the caller's.
            let label = widen(unsafe { run.first.offset(stride * i as isize).cast::<S>().read_unaligned() });
            are_others |= (label >= classes) | (label == ignored);
            *place = label as usize;
        }
        !are_others
    }
}

struct LoadAt<'a, T> {
    run: Run,
    apart: isize,
    places: &'a [usize],
    out: &'a mut [T],
}

impl<T: Real> Kernel for LoadAt<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        // SAFETY: `Run::load_at`'s caller grants the elements.
        with_element!(self.run.dtype, S => unsafe {
            if self.run.swapped {
                self.read(true, S::swapped);
            } else if self.run.stride.unsigned_abs().max(self.apart.unsigned_abs()) < FAR {
                self.read(false, |x: S| x);
            } else {
                self.read(true, |x: S| x);
            }
        });
    }
}

impl<T: Real> LoadAt<'_, T> {
    /// # Safety
    /// As [`Run::load_at`], with elements of this type.
    #[inline(always)]
    unsafe fn read<S: Element>(self, are_far: bool, order: impl Fn(S) -> S) {
        let Self { run, apart, places, out } = self;
        let at = |index: usize, place: usize| run.from(index).first.wrapping_offset(apart.wrapping_mul(place as isize));
        for (index, (&place, out)) in places.iter().zip(out).enumerate() {
            if are_far && let Some(&place) = places.get(index + SCATTERED) {
                prefetch::<1>(at(index + SCATTERED, place), 1);
            }
            // SAFETY: the caller's.
            *out = order(unsafe { at(index, place).cast::<S>().read_unaligned() }).widen();
        }
    }
}

struct LoadTile<'a, T> {
    run: Run,
    apart: isize,
    len: usize,
    rows: usize,
    out: &'a mut [T],
}

impl<T: Real> Kernel for LoadTile<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        self.run_on::<Baseline>();
    }

    #[inline(always)]
    fn run_on<I: Set>(self) {
        let Self { mut run, apart, len, rows, out } = self;
        with_element!(run.dtype, S => {
            for out in out.chunks_exact_mut(rows) {
                let (read, rest) = out.split_at_mut(len);
                // SAFETY: `Run::load_tile`'s caller grants `len` elements of each run.
                unsafe { read_run::<I, S, T>(run, read) };
                rest.fill(T::ZERO);
                run.first = run.first.wrapping_offset(apart);
            }
        });
    }
}

/// # Safety
/// As [`Run::load`], and the elements must be of this type.
#[inline(always)]
unsafe fn read_run<I: Set, S: Element, T: Real>(run: Run, out: &mut [T]) {
    let size = size_of::<S>() as isize;
    #[cfg(target_arch = "x86_64")]
    if I::ISA != Isa::Baseline
        && run.dtype == Dtype::Float16
        && size_of::<T>() == 4
        && run.stride == size
        && !run.swapped
    {
        // SAFETY: the caller's, as this runs where the set is there; a `T` of four bytes is an `f32`.
        unsafe {
            let out = std::slice::from_raw_parts_mut(out.as_mut_ptr().cast(), out.len());
            x86::widen_f16::<I>(run.first.cast(), out);
        }
        return;
    }
    // The strides that occur most get loops of their own, which vectorise.
    // SAFETY: the caller's.
    unsafe {
        if run.swapped {
            read::<S, T>(run.first, run.stride, out, S::swapped);
        } else if run.stride == size {
            read::<S, T>(run.first, size, out, |x| x);
        } else {
            read::<S, T>(run.first, run.stride, out, |x| x);
        }
    }
}

/// # Safety
/// `first` must have `out.len()` readable elements at that stride.
#[inline(always)]
unsafe fn read<S: Element, T: Real>(first: *const u8, stride: isize, out: &mut [T], order: impl Fn(S) -> S) {
    for (i, out) in out.iter_mut().enumerate() {
        // SAFETY: the caller's.
        let element = unsafe { first.offset(stride * i as isize).cast::<S>().read_unaligned() };
        *out = order(element).widen();
    }
}

struct Store<'a, T> {
    run: Run,
    values: &'a [T],
    stream: bool,
}

impl<T: Real> Kernel for Store<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        self.run_on::<Baseline>();
    }

    #[inline(always)]
    fn run_on<I: Set>(self) {
        let Self { run, values, stream } = self;
        // SAFETY: `Run::store`'s caller grants `values.len()` writable elements at `run.stride`.
        with_float_element!(run.dtype, S => unsafe { write::<I, S, T>(run, values, stream) });
    }
}

struct StoreTile<'a, T> {
    run: Run,
    apart: isize,
    len: usize,
    rows: usize,
    values: &'a [T],
}

impl<T: Real> Kernel for StoreTile<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        self.run_on::<Baseline>();
    }

    #[inline(always)]
    fn run_on<I: Set>(self) {
        let Self { mut run, apart, len, rows, values } = self;
        with_float_element!(run.dtype, S => {
            for values in values.chunks_exact(rows) {
                // SAFETY: `Run::store_tile`'s caller grants `len` writable elements of each run.
                unsafe { write::<I, S, T>(run, &values[..len], false) };
                run.first = run.first.wrapping_offset(apart);
            }
        });
    }
}

/// # Safety
/// As `Run::store`.
#[inline(always)]
unsafe fn write<I: Set, S: FloatElement, T: Real>(run: Run, values: &[T], streamed: bool) {
    /// Elements that are narrowed before they are streamed.
    const CHUNK: usize = 256;
    let size = size_of::<S>() as isize;
    if run.stride != size || run.swapped {
        for (i, &value) in values.iter().enumerate() {
            let element = S::narrow(value);
            let element = if run.swapped { element.swapped() } else { element };
            // SAFETY: the caller's.
            unsafe { run.first.offset(run.stride * i as isize).cast::<S>().write_unaligned(element) };
        }
    } else if !streamed {
        // SAFETY: the caller's; the elements lie side by side.
        unsafe { narrow::<I, S, T>(run.dtype, values, run.first.cast()) };
    } else if run.dtype == Dtype::of::<T>() {
        // SAFETY: the elements are `T`, side by side; the rest is the caller's.
        unsafe { stream::<I>(values.as_ptr().cast(), run.first, size_of_val(values)) };
    } else {
        for (i, values) in values.chunks(CHUNK).enumerate() {
            let mut room = [MaybeUninit::<S>::uninit(); CHUNK];
            // SAFETY: the room has as many elements, all of which are written; the rest is the caller's.
            unsafe {
                narrow::<I, S, T>(run.dtype, values, room.as_mut_ptr().cast());
                stream::<I>(
                    room.as_ptr().cast(),
                    run.first.cast::<S>().add(i * CHUNK).cast(),
                    values.len() * size as usize,
                );
            }
        }
    }
}

/// Writes values as elements that lie side by side.
///
/// # Safety
/// So many elements of the type must be writable, and the machine must have the set.
#[inline(always)]
unsafe fn narrow<I: Set, S: FloatElement, T: Real>(dtype: Dtype, values: &[T], to: *mut S) {
    #[cfg(target_arch = "x86_64")]
    if I::ISA != Isa::Baseline && dtype == Dtype::Float16 && size_of::<T>() == size_of::<f32>() {
        // SAFETY: as in `read_run`.
        unsafe {
            let values = std::slice::from_raw_parts(values.as_ptr().cast(), values.len());
            x86::narrow_f16::<I>(values, to.cast());
        }
        return;
    }
    for (i, &value) in values.iter().enumerate() {
        // SAFETY: the caller's.
        unsafe { to.add(i).write_unaligned(S::narrow(value)) };
    }
}

/// Copies past the caches: a large result is not read again soon, and a store that misses would first fetch its line.
///
/// # Safety
/// Both ranges must be valid and must not overlap, and the machine must have the set.
#[inline(always)]
unsafe fn stream<I: Set>(from: *const u8, to: *mut u8, bytes: usize) {
    // SAFETY: the caller's.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        x86::stream::<I>(from, to, bytes);
        #[cfg(not(target_arch = "x86_64"))]
        std::ptr::copy_nonoverlapping(from, to, bytes);
    }
}

/// Makes streamed results visible to other threads: to be called by a thread before it reports its work done.
#[inline(always)]
pub fn fence() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: SSE is baseline on x86-64.
    unsafe {
        std::arch::x86_64::_mm_sfence();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value of a binary16, straight from the definition.
    fn f16_value(bits: u16) -> f64 {
        let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 0x3ff));
        let magnitude = match exponent {
            0 => fraction * 2f64.powi(-24),
            31 if fraction == 0.0 => f64::INFINITY,
            31 => f64::NAN,
            _ => (1024.0 + fraction) * 2f64.powi(exponent - 25),
        };
        if bits >> 15 == 1 { -magnitude } else { magnitude }
    }

    #[test]
    fn every_float16_widens_exactly_and_narrows_to_itself() {
        for bits in 0..=u16::MAX {
            let (value, wide) = (f16_value(bits), f16_to_f32(bits));
            if value.is_nan() {
                assert!(wide.is_nan() && f16_to_f32(f32_to_f16(wide)).is_nan(), "{bits:#06x}");
            } else {
                assert_eq!(f64::from(wide).to_bits(), value.to_bits(), "{bits:#06x}");
                assert_eq!(f32_to_f16(wide), bits, "{bits:#06x}");
            }
        }
    }

    /// Between two neighbours, narrowing goes to the nearer and at the middle to the even one.
    #[test]
    fn float16_rounds_to_nearest_even() {
        for low in 0..0x7c00_u16 {
            // Beyond the largest finite one, infinity stands for 2^16.
            let above = if low + 1 == 0x7c00 { 65536.0 } else { f16_value(low + 1) };
            let middle = f64::midpoint(f16_value(low), above) as f32;
            let even = low + (low & 1);
            assert_eq!(f32_to_f16(middle), even, "{low:#06x}");
            assert_eq!(f32_to_f16(middle.next_down()), low, "{low:#06x}");
            assert_eq!(f32_to_f16(middle.next_up()), low + 1, "{low:#06x}");
            assert_eq!(f32_to_f16(-middle), even | 0x8000, "{low:#06x}");
        }
        assert_eq!(f32_to_f16(f32::MAX), 0x7c00);
        assert_eq!(f32_to_f16(f32::INFINITY), 0x7c00);
    }

    #[test]
    fn bfloat16_rounds_to_nearest_even() {
        for low in 0..0x7f80_u32 {
            let middle = f32::from_bits((low << 16) | 0x8000);
            assert_eq!(u32::from(f32_to_bf16(middle)), low + (low & 1));
            assert_eq!(u32::from(f32_to_bf16(middle.next_down())), low);
            assert_eq!(u32::from(f32_to_bf16(middle.next_up())), low + 1);
        }
        assert!(f32::from_bits(u32::from(f32_to_bf16(f32::from_bits(0x7f80_0001))) << 16).is_nan());
        assert_eq!(f32_to_bf16(f32::NEG_INFINITY), 0xff80);
    }

    /// Copies as a trampoline does.
    struct Stream<'a>(&'a [u8], &'a mut [u8]);

    impl Kernel for Stream<'_> {
        type Output = ();

        #[inline(always)]
        fn run(self) {
            self.run_on::<Baseline>();
        }

        #[inline(always)]
        fn run_on<I: Set>(self) {
            // SAFETY: both are so long, and this runs where the set is there.
            unsafe { stream::<I>(self.0.as_ptr(), self.1.as_mut_ptr(), self.0.len()) };
        }
    }

    #[test]
    fn streaming_copies_every_byte_at_every_alignment() {
        let from: Vec<u8> = (0..250).collect();
        for (isa, start) in Isa::available().flat_map(|isa| (0..70).map(move |start| (isa, start))) {
            for len in 0..180 {
                let mut to = vec![255_u8; 250];
                isa.run(Stream(&from[3..3 + len], &mut to[start..start + len]));
                fence();
                assert_eq!(to[start..start + len], from[3..3 + len]);
                assert!(to[..start].iter().chain(&to[start + len..]).all(|&byte| byte == 255));
            }
        }
    }

    /// A run of so many elements.
    fn run(first: *mut u8, dtype: Dtype) -> Run {
        Run { first, stride: dtype.size() as isize, dtype, swapped: false }
    }

    #[test]
    fn each_set_converts_every_float16_as_the_definition_does() {
        let mut halves: Vec<u16> = (0..=u16::MAX).collect();
        for isa in Isa::available() {
            let mut wide = vec![0_f32; halves.len()];
            // SAFETY: there are as many elements.
            unsafe { run(halves.as_mut_ptr().cast(), Dtype::Float16).load(isa, &mut wide) };
            for (&half, &wide) in halves.iter().zip(&wide) {
                let value = f16_value(half);
                assert!(f64::from(wide).to_bits() == value.to_bits() || value.is_nan() && wide.is_nan(), "{half:#06x}");
            }
        }
    }

    #[test]
    fn each_set_narrows_to_the_same_float16() {
        // Every upper half, with lower ones around the middles between float16s and at random.
        let values: Vec<f32> = (0..=u16::MAX)
            .flat_map(|high| {
                [0, 1, 0xfff, 0x1000, 0x1001, 0x2000, 0x3000, 0x7e3b, 0xefff, 0xf001].map(|low| (high, low))
            })
            .map(|(high, low): (u16, u16)| f32::from_bits(u32::from(high) << 16 | u32::from(low)))
            .collect();
        for (isa, streamed, start) in Isa::available().flat_map(|isa| [(isa, false, 0), (isa, true, 0), (isa, true, 5)])
        {
            let mut halves = vec![0_u16; values.len() + start];
            // SAFETY: there are as many elements from `start` on.
            unsafe { run(halves[start..].as_mut_ptr().cast(), Dtype::Float16).store(isa, &values, streamed) };
            fence();
            for (&value, &half) in values.iter().zip(&halves[start..]) {
                assert_eq!(half, f32_to_f16(value), "{isa:?}: {value} ({:#010x})", value.to_bits());
            }
        }
    }
}
