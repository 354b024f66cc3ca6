//! Streaming stores, and the hardware's conversions of float16, which LLVM does not make of loops.
//!
//! The conversions' results are those of `f16_to_f32` and `f32_to_f16` to the bit, but that a signaling NaN becomes quiet when it
//! is read and not when it is first used; neither depends on the rounding mode nor on the treatment of subnormals.

use super::{f16_to_f32, f32_to_f16};
use crate::isa::{Isa, Set};
#[allow(clippy::wildcard_imports, reason = "vectors and instructions, by the dozen")]
use std::arch::x86_64::*;

/// Copies past the caches, in stores as wide as the set's.
///
/// # Safety
/// The machine must have the set. Both ranges must be valid and must not overlap.
#[inline(always)]
pub(super) unsafe fn stream<S: Set>(from: *const u8, to: *mut u8, bytes: usize) {
    let width = width::<S>();
    let head = to.align_offset(16).min(bytes);
    let (narrow_end, end) = (head + (bytes - head) / 16 * 16, bytes);
    let wide = to.align_offset(width).min(narrow_end);
    let wide_end = wide + (narrow_end - wide) / width * width;
    // SAFETY: all is within the caller's ranges, `to + head` and what follows in steps of 16 is aligned to 16, and `to + wide` and
    // what follows in steps of `width` to that.
    unsafe {
        std::ptr::copy_nonoverlapping(from, to, head);
        // What comes before whole lines and after them goes past the caches too: an ordinary store there would fetch the line.
        for at in (head..wide).step_by(16).chain((wide_end..narrow_end).step_by(16)) {
            _mm_stream_si128(to.add(at).cast(), _mm_loadu_si128(from.add(at).cast()));
        }
        stream_aligned::<S>(from.add(wide), to.add(wide), wide_end - wide);
        std::ptr::copy_nonoverlapping(from.add(narrow_end), to.add(narrow_end), end - narrow_end);
    }
}

/// The bytes of a set's widest store.
#[inline(always)]
const fn width<S: Set>() -> usize {
    match S::ISA {
        Isa::Baseline => 16,
        Isa::Avx2 => 32,
        Isa::Avx512 => 64,
    }
}

/// Copies a multiple of [`width`] past the caches, to where so wide a store is aligned.
///
/// # Safety
/// As [`stream`].
#[inline(always)]
pub(super) unsafe fn stream_aligned<S: Set>(from: *const u8, to: *mut u8, bytes: usize) {
    for at in (0..bytes).step_by(width::<S>()) {
        // SAFETY: the caller's.
        unsafe {
            let (from, to) = (from.add(at), to.add(at));
            match S::ISA {
                Isa::Baseline => _mm_stream_si128(to.cast(), _mm_loadu_si128(from.cast())),
                Isa::Avx2 => _mm256_stream_si256(to.cast(), _mm256_loadu_si256(from.cast())),
                Isa::Avx512 => _mm512_stream_si512(to.cast(), _mm512_loadu_si512(from.cast())),
            }
        }
    }
}

/// Widens float16 that lie side by side.
///
/// # Safety
/// The machine must have the set, which must not be the baseline; as many elements as `out` has must be readable.
#[inline(always)]
pub(super) unsafe fn widen_f16<S: Set>(from: *const u16, out: &mut [f32]) {
    let (len, to) = (out.len(), out.as_mut_ptr());
    let mut i = 0;
    // SAFETY: the caller's, and nothing is read or written beyond `len` elements.
    unsafe {
        if S::ISA == Isa::Avx512 {
            while i + 16 <= len {
                _mm512_storeu_ps(to.add(i), _mm512_cvtph_ps(_mm256_loadu_si256(from.add(i).cast())));
                i += 16;
            }
        }
        while i + 8 <= len {
            _mm256_storeu_ps(to.add(i), _mm256_cvtph_ps(_mm_loadu_si128(from.add(i).cast())));
            i += 8;
        }
        while i < len {
            to.add(i).write(f16_to_f32(from.add(i).read_unaligned()));
            i += 1;
        }
    }
}

/// Narrows to float16 that lie side by side.
///
/// # Safety
/// The machine must have the set, which must not be the baseline; as many elements as there are values must be writable.
#[inline(always)]
pub(super) unsafe fn narrow_f16<S: Set>(values: &[f32], to: *mut u16) {
    const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT;
    let (len, from) = (values.len(), values.as_ptr());
    let mut i = 0;
    // SAFETY: the caller's, and nothing is read or written beyond `len` elements.
    unsafe {
        if S::ISA == Isa::Avx512 {
            while i + 16 <= len {
                _mm256_storeu_si256(to.add(i).cast(), _mm512_cvtps_ph::<NEAREST>(_mm512_loadu_ps(from.add(i))));
                i += 16;
            }
        }
        while i + 8 <= len {
            _mm_storeu_si128(to.add(i).cast(), _mm256_cvtps_ph::<NEAREST>(_mm256_loadu_ps(from.add(i))));
            i += 8;
        }
        while i < len {
            to.add(i).write_unaligned(f32_to_f16(from.add(i).read()));
            i += 1;
        }
    }
}
