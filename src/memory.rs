//! Memory for large results, used again.
//!
//! The system clears each page that it hands out, which takes about as long as to compute a gradient. A freed block is therefore
//! kept for the next result of its size. What is kept is marked `MADV_FREE`: the system takes its pages as soon as it wants
//! them, without asking, and until then they can be written without a fault. Blocks too small for that to pay are few.
//!
//! Arrays are freed on any thread, with or without the interpreter, and in the child of a fork, so there is no lock: a kept block is
//! one word in a slot, and whoever swaps the word out owns the block.

use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// Results from this size on come from here. Below, `malloc` costs nothing beside the call.
pub const LARGE: usize = 256 << 10;

/// The most bytes that are kept: results of 512 MiB, and what is around them.
pub const MOST_KEPT: usize = (512 << 20) + SLOTS * GRAIN;

/// The most blocks that are kept.
const SLOTS: usize = 8;

/// A block that nobody has wanted while so many were freed goes.
const PATIENCE: usize = 256;

/// Blocks from this size on are marked for the system to take. That takes 2 µs of two huge pages, but 12 µs of 1 MiB of small pages,
/// which then take almost twice as long to write.
const MARKED: usize = 4 << 20;

/// The size of a huge page, to which blocks of that size are aligned.
const HUGE_PAGE: usize = 2 << 20;

/// What lengths are multiples of: the largest page of any 64-bit Linux.
const GRAIN: usize = 64 << 10;

/// The bytes before a result, where its block's [`Header`] is; results are aligned to it.
const HEADER: usize = 64;

/// Whether huge pages are asked for.
static HUGE_PAGES: AtomicBool = AtomicBool::new(true);

static KEPT: Kept = Kept::new();

/// Has no huge pages asked for from now on.
pub fn avoid_huge_pages() {
    HUGE_PAGES.store(false, Ordering::Relaxed);
}

/// Room for so many bytes, whose content is arbitrary, or nothing if the system has none.
pub fn allocate(size: usize) -> Option<NonNull<u8>> {
    KEPT.allocate(size)
}

/// Gives back what [`allocate`] or [`reallocate`] returned.
///
/// # Safety
/// It is not used any more.
pub unsafe fn free(first: NonNull<u8>) {
    // SAFETY: the caller's.
    unsafe { KEPT.free(first) }
}

/// Room for so many bytes, the first of which are those there were. The old room is gone, unless there is no new one.
///
/// # Safety
/// The old room was returned by [`allocate`] or `reallocate`, and is not used any more if this returns another.
pub unsafe fn reallocate(first: NonNull<u8>, size: usize) -> Option<NonNull<u8>> {
    // SAFETY: the caller's.
    unsafe { KEPT.reallocate(first, size) }
}

/// A mapping of its own.
#[derive(Clone, Copy)]
struct Block {
    base: usize,
    length: usize,
}

impl Block {
    /// The length of a block with room for so many bytes.
    fn length_for(size: usize) -> Option<usize> {
        size.checked_add(HEADER)?.checked_next_multiple_of(GRAIN)
    }

    /// A block in one word, which is never 0. Addresses have up to 48 bits, the lowest 12 of which are 0 here; what is left is
    /// room for the length.
    fn pack(self) -> u64 {
        debug_assert!(self.base >> 48 == 0 && self.base.is_multiple_of(1 << 12) && self.length / GRAIN < 1 << 28);
        (self.base as u64) << 16 | (self.length / GRAIN) as u64
    }

    fn unpack(word: u64) -> Option<Self> {
        let length = (word & ((1 << 28) - 1)) as usize * GRAIN;
        (word != 0).then_some(Self { base: (word >> 28 << 12) as usize, length })
    }

    fn address(self) -> *mut c_void {
        std::ptr::with_exposed_provenance_mut(self.base)
    }

    /// The block's room, for whoever owns the block.
    fn open(self, may_be_kept: bool) -> NonNull<u8> {
        // SAFETY: the block is mapped, longer than the header, and nobody else's.
        unsafe {
            self.address().cast::<Header>().write(Header { length: self.length, may_be_kept });
            NonNull::new_unchecked(self.address().cast::<u8>().add(HEADER))
        }
    }

    /// The block of a room, and whether it may be kept.
    ///
    /// # Safety
    /// The room was returned by [`open`](Self::open) and its block is still mapped.
    unsafe fn of(first: NonNull<u8>) -> (Self, bool) {
        // SAFETY: `open` wrote the header there.
        unsafe {
            let base: *mut c_void = first.as_ptr().sub(HEADER).cast();
            let header = base.cast::<Header>().read();
            (Self { base: base.expose_provenance(), length: header.length }, header.may_be_kept)
        }
    }
}

/// What lies before a block's room.
#[derive(Clone, Copy)]
struct Header {
    length: usize,
    may_be_kept: bool,
}

/// Blocks that are free.
struct Kept {
    slots: [Slot; SLOTS],
    /// How many blocks have been freed.
    freed: AtomicUsize,
}

/// Room for a free block.
struct Slot {
    /// The block, packed, or 0.
    word: AtomicU64,
    /// How many had been freed when it was.
    since: AtomicUsize,
}

impl Kept {
    const fn new() -> Self {
        let slots = [const { Slot { word: AtomicU64::new(0), since: AtomicUsize::new(0) } }; SLOTS];
        Self { slots, freed: AtomicUsize::new(0) }
    }

    fn allocate(&self, size: usize) -> Option<NonNull<u8>> {
        let length = Block::length_for(size)?;
        if let Some(block) = self.take(length) {
            return Some(block.open(true));
        }
        // Asked here rather than when the block is freed, because that costs two system calls.
        let is_plentiful = system::is_plentiful();
        if !is_plentiful {
            self.give_back();
        }
        let block = system::map(length).or_else(|| {
            self.give_back();
            system::map(length)
        })?;
        Some(block.open(is_plentiful && (LARGE..=MOST_KEPT).contains(&length)))
    }

    /// # Safety
    /// As of the function of this name.
    unsafe fn free(&self, first: NonNull<u8>) {
        // SAFETY: the caller's.
        let (block, may_be_kept) = unsafe { Block::of(first) };
        if may_be_kept && (block.length < MARKED || system::mark(block)) {
            self.keep(block);
        } else {
            system::unmap(block);
        }
    }

    /// # Safety
    /// As of the function of this name.
    unsafe fn reallocate(&self, first: NonNull<u8>, size: usize) -> Option<NonNull<u8>> {
        // SAFETY: the caller's.
        let (old, _) = unsafe { Block::of(first) };
        if fits(old.length, Block::length_for(size)?) {
            return Some(first);
        }
        let new = self.allocate(size)?;
        // SAFETY: both blocks have at least so many bytes after their headers, and they are different ones.
        unsafe { std::ptr::copy_nonoverlapping(first.as_ptr(), new.as_ptr(), size.min(old.length - HEADER)) };
        // SAFETY: the caller's.
        unsafe { self.free(first) };
        Some(new)
    }

    /// The shortest of the kept blocks that fit a length.
    fn take(&self, length: usize) -> Option<Block> {
        loop {
            let fitting = self.blocks().filter(|(_, block)| fits(block.length, length));
            let (slot, block) = fitting.min_by_key(|(_, block)| block.length)?;
            // What was written in the block before it was kept must not come after what its new owner writes.
            if slot.word.compare_exchange(block.pack(), 0, Ordering::Acquire, Ordering::Relaxed).is_ok() {
                return Some(block);
            }
        }
    }

    fn keep(&self, block: Block) {
        let now = self.freed.fetch_add(1, Ordering::Relaxed);
        for (slot, _) in self.blocks().filter(|(slot, _)| now.saturating_sub(slot.since()) > PATIENCE) {
            slot.replace(0);
        }
        let is_taken = |slot: &Slot| slot.word.load(Ordering::Relaxed) != 0;
        let Some(slot) = self.slots.iter().min_by_key(|slot| (is_taken(slot), slot.since())) else { return };
        slot.since.store(now, Ordering::Relaxed);
        slot.replace(block.pack());
        // Each thread looks after it has added, so in the end there is never too much.
        while self.blocks().map(|(_, block)| block.length).sum::<usize>() > MOST_KEPT
            && let Some((oldest, _)) = self.blocks().min_by_key(|(slot, _)| slot.since())
        {
            oldest.replace(0);
        }
    }

    /// The slots that are taken, and by which blocks.
    fn blocks(&self) -> impl Iterator<Item = (&Slot, Block)> {
        let block = |slot: &Slot| Block::unpack(slot.word.load(Ordering::Relaxed));
        self.slots.iter().filter_map(move |slot| Some((slot, block(slot)?)))
    }

    fn give_back(&self) {
        self.slots.iter().for_each(|slot| slot.replace(0));
    }
}

impl Slot {
    fn since(&self) -> usize {
        self.since.load(Ordering::Relaxed)
    }

    /// Gives the block back that was here.
    fn replace(&self, word: u64) {
        if let Some(block) = Block::unpack(self.word.swap(word, Ordering::AcqRel)) {
            system::unmap(block);
        }
    }
}

/// Whether a block of a length will do for another, without much memory that nobody uses.
fn fits(length: usize, wanted: usize) -> bool {
    length >= wanted && length - wanted <= (wanted / 8).min(HUGE_PAGE / 2)
}

#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod system {
    use std::sync::atomic::AtomicU8;

    use super::{Block, HUGE_PAGE, HUGE_PAGES, Ordering};

    /// A new block.
    pub fn map(length: usize) -> Option<Block> {
        let is_huge = length >= HUGE_PAGE;
        let reserved = if is_huge { length.checked_add(HUGE_PAGE)? } else { length };
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping, where the system likes.
        let address = unsafe { libc::mmap(std::ptr::null_mut(), reserved, access, kind, -1, 0) };
        if address == libc::MAP_FAILED {
            return None;
        }
        let address = address.expose_provenance();
        if !is_huge {
            return Some(Block { base: address, length });
        }
        let block = Block { base: address.next_multiple_of(HUGE_PAGE), length };
        unmap(Block { base: address, length: block.base - address });
        unmap(Block { base: block.base + length, length: address + reserved - block.base - length });
        if HUGE_PAGES.load(Ordering::Relaxed) {
            // SAFETY: the mapping is this block's; a system without huge pages does nothing.
            unsafe { libc::madvise(block.address(), length, libc::MADV_HUGEPAGE) };
        }
        Some(block)
    }

    /// Gives a part of a mapping back.
    pub fn unmap(part: Block) {
        if part.length > 0 {
            // SAFETY: nobody uses it any more.
            unsafe { libc::munmap(part.address(), part.length) };
        }
    }

    /// Lets the system take a block's pages when it wants them; whether it will.
    pub fn mark(block: Block) -> bool {
        // SAFETY: nobody needs the content any more.
        unsafe { libc::madvise(block.address(), block.length, libc::MADV_FREE) == 0 }
    }

    /// Whether blocks may be kept without other allocations failing for it: whether what counts is memory that is used, and not
    /// what is mapped.
    pub fn is_plentiful() -> bool {
        const PLENTY: u8 = 1;
        const ACCOUNTED: u8 = 2;
        static OVERCOMMIT: AtomicU8 = AtomicU8::new(0);
        let is_unlimited = |resource| {
            let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            // SAFETY: writes the limit.
            unsafe { libc::getrlimit(resource, &raw mut limit) == 0 && limit.rlim_cur == libc::RLIM_INFINITY }
        };
        if OVERCOMMIT.load(Ordering::Relaxed) == 0 {
            let mode = std::fs::read_to_string("/proc/sys/vm/overcommit_memory");
            let is_accounted = mode.is_ok_and(|mode| mode.trim() == "2");
            OVERCOMMIT.store(if is_accounted { ACCOUNTED } else { PLENTY }, Ordering::Relaxed);
        }
        OVERCOMMIT.load(Ordering::Relaxed) == PLENTY && is_unlimited(libc::RLIMIT_AS) && is_unlimited(libc::RLIMIT_DATA)
    }
}

/// Elsewhere there is nothing here, and results are NumPy's to allocate.
#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
mod system {
    use super::Block;

    pub fn map(_: usize) -> Option<Block> {
        None
    }

    pub fn unmap(_: Block) {}

    pub fn mark(_: Block) -> bool {
        false
    }

    pub fn is_plentiful() -> bool {
        false
    }
}

#[cfg(all(test, target_os = "linux", target_pointer_width = "64"))]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn allocate(kept: &Kept, size: usize) -> NonNull<u8> {
        kept.allocate(size).unwrap()
    }

    fn free(kept: &Kept, first: NonNull<u8>) {
        // SAFETY: tests free what they allocated, once.
        unsafe { kept.free(first) }
    }

    /// The bytes that are kept.
    fn held(kept: &Kept) -> usize {
        kept.blocks().map(|(_, block)| block.length).sum()
    }

    fn bytes<'a>(first: NonNull<u8>, size: usize) -> &'a mut [u8] {
        // SAFETY: tests ask for what they allocated, before they free it.
        unsafe { std::slice::from_raw_parts_mut(first.as_ptr(), size) }
    }

    #[test]
    fn a_block_is_a_word() {
        for (base, length) in [(1 << 12, GRAIN), ((1 << 47) - HUGE_PAGE, MOST_KEPT), ((1 << 48) - 4096, 1 << 40)] {
            let block = Block::unpack(Block { base, length }.pack()).unwrap();
            assert_eq!((block.base, block.length), (base, length));
        }
        assert!(Block::unpack(0).is_none());
    }

    #[test]
    fn every_byte_can_be_written() {
        let kept = Kept::new();
        for size in [1, LARGE, LARGE + 1, 2 * MIB - HEADER, 2 * MIB, 5 * MIB + 3] {
            for _ in 0..2 {
                let first = allocate(&kept, size);
                assert_eq!(first.as_ptr().align_offset(HEADER), 0);
                bytes(first, size).fill(7);
                free(&kept, first);
            }
        }
        kept.give_back();
    }

    #[test]
    fn a_freed_block_is_used_again() {
        let kept = Kept::new();
        for size in [MIB, 8 * MIB] {
            let first = allocate(&kept, size);
            free(&kept, first);
            assert_eq!(allocate(&kept, size - size / 16), first);
            assert_ne!(allocate(&kept, size), first);
            assert_eq!(held(&kept), 0);
        }
    }

    #[test]
    fn a_block_of_another_size_is_not() {
        let kept = Kept::new();
        for (size, other) in [(MIB, MIB + GRAIN), (MIB, MIB / 2), (64 * MIB, 62 * MIB)] {
            let first = allocate(&kept, size);
            free(&kept, first);
            let second = allocate(&kept, other);
            assert_ne!(second, first);
            free(&kept, second);
            kept.give_back();
        }
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let kept = Kept::new();
        let hold = |count: usize, size: usize| {
            let blocks: Vec<_> = (0..count).map(|_| allocate(&kept, size)).collect();
            for first in blocks {
                free(&kept, first);
            }
            held(&kept)
        };
        assert!((SLOTS * MIB..SLOTS * 2 * MIB).contains(&hold(20, MIB)));
        assert!((MOST_KEPT / 2..=MOST_KEPT).contains(&hold(5, 200 * MIB)));
        assert!((512 * MIB..=MOST_KEPT).contains(&hold(2, 256 * MIB)));
        assert!((512 * MIB..=MOST_KEPT).contains(&hold(2, 512 * MIB)));
        assert_eq!(hold(1, MOST_KEPT), held(&kept));
        // A size that is not wanted any more makes way.
        for _ in 0..2 * PATIENCE {
            free(&kept, allocate(&kept, MIB));
        }
        assert!(held(&kept) < 2 * MIB);
        assert_eq!(hold(1, LARGE / 4), held(&kept));
        kept.give_back();
        assert_eq!(held(&kept), 0);
    }

    #[test]
    fn room_that_grows_or_shrinks_keeps_its_content() {
        let kept = Kept::new();
        let mut first = allocate(&kept, MIB);
        bytes(first, MIB).iter_mut().enumerate().for_each(|(i, byte)| *byte = i as u8);
        for size in [MIB - 1, 3 * MIB, 100, 9 * MIB] {
            // SAFETY: the room is replaced by what is returned.
            first = unsafe { kept.reallocate(first, size) }.unwrap();
            assert!(bytes(first, 100).iter().enumerate().all(|(i, &byte)| byte == i as u8));
            bytes(first, size)[100..].fill(1);
        }
        free(&kept, first);
        kept.give_back();
    }

    #[test]
    fn too_much_is_refused() {
        assert_eq!(Kept::new().allocate(usize::MAX), None);
        assert_eq!(Kept::new().allocate(usize::MAX - HUGE_PAGE), None);
        assert_eq!(Kept::new().allocate(1 << 60), None);
    }

    #[test]
    fn threads_never_share_a_block() {
        let kept = Kept::new();
        let (sender, receiver) = std::sync::mpsc::channel::<(usize, u8)>();
        std::thread::scope(|scope| {
            for mark in 1..=4_u8 {
                let (kept, sender) = (&kept, sender.clone());
                scope.spawn(move || {
                    for i in 0..500 {
                        let size = LARGE << (i % 3);
                        let first = allocate(kept, size);
                        bytes(first, size).iter_mut().step_by(4096).for_each(|byte| *byte = mark);
                        std::thread::yield_now();
                        assert!(bytes(first, size).iter().step_by(4096).all(|&byte| byte == mark));
                        if i % 2 == 0 {
                            free(kept, first);
                        } else {
                            sender.send((first.as_ptr().expose_provenance(), mark)).unwrap();
                        }
                    }
                });
            }
            drop(sender);
            for (first, mark) in receiver {
                let first = NonNull::new(std::ptr::with_exposed_provenance_mut::<u8>(first)).unwrap();
                assert_eq!(bytes(first, 1)[0], mark);
                free(&kept, first);
            }
        });
        assert!(held(&kept) <= MOST_KEPT);
        kept.give_back();
    }
}
