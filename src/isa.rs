//! The instruction sets: chosen at run time, entered through one trampoline each.
//!
//! A kernel is plain Rust; compiled inside a trampoline it may use the trampoline's instructions. It has the same meaning in
//! each of them, so the choice changes the speed and never a bit of the result.

use std::sync::atomic::{AtomicU8, Ordering};

/// Work that is compiled once for each instruction set.
pub trait Kernel {
    /// What the work returns.
    type Output;
    /// Does the work. An implementation must be `#[inline(always)]`, as must all that it calls in its loops: what is not
    /// inlined into the trampoline is compiled for the baseline.
    fn run(self) -> Self::Output;
    /// The same, told which set it is compiled for. Kernels that have something of a set's own override it.
    #[inline(always)]
    fn run_on<S: Set>(self) -> Self::Output
    where
        Self: Sized,
    {
        self.run()
    }
}

/// An instruction set that a kernel is being compiled for.
pub trait Set {
    /// Which it is.
    const ISA: Isa;
}

/// [`Isa::Baseline`]
pub struct Baseline;

impl Set for Baseline {
    const ISA: Isa = Isa::Baseline;
}

/// An instruction set that kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Isa {
    /// What every machine of the architecture has: SSE2 on x86-64, NEON on `AArch64`.
    Baseline,
    /// AVX2 with FMA and F16C: x86-64-v3.
    Avx2,
    /// AVX-512 F, BW, CD, DQ, VL: x86-64-v4.
    Avx512,
}

impl Isa {
    /// All of them, the narrowest first.
    pub const ALL: [Self; 3] = [Self::Baseline, Self::Avx2, Self::Avx512];

    /// The name that `LOSSRS_ISA` takes.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        }
    }

    /// Whether this machine has it.
    pub fn is_available(self) -> bool {
        match self {
            Self::Baseline => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => x86::has_avx2(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => x86::has_avx512(),
            #[cfg(not(target_arch = "x86_64"))]
            _ => false,
        }
    }

    /// Those that this machine has, the narrowest first.
    pub fn available() -> impl DoubleEndedIterator<Item = Self> {
        Self::ALL.into_iter().filter(|isa| isa.is_available())
    }

    /// The widest that this machine has.
    pub fn widest() -> Self {
        Self::available().next_back().unwrap_or(Self::Baseline)
    }

    /// The set of that name.
    ///
    /// # Errors
    /// If there is none of that name, or this machine does not have it.
    pub fn named(name: &str) -> Result<Self, String> {
        let isa = Self::ALL
            .into_iter()
            .find(|isa| isa.name() == name)
            .ok_or_else(|| format!("instruction set must be one of baseline, avx2, avx512; got {name:?}"))?;
        if isa.is_available() { Ok(isa) } else { Err(format!("this machine does not have the instruction set {name}")) }
    }

    /// The set that calls use now.
    #[inline]
    pub fn active() -> Self {
        match ACTIVE.load(Ordering::Relaxed) {
            0 => Self::Baseline,
            1 => Self::Avx2,
            2 => Self::Avx512,
            _ => {
                let isa = Self::widest();
                isa.activate();
                isa
            }
        }
    }

    /// Makes later calls use this set.
    ///
    /// # Panics
    /// If it is not available.
    pub fn activate(self) {
        assert!(self.is_available(), "instruction set {} is not available", self.name());
        ACTIVE.store(self as u8, Ordering::Relaxed);
    }

    /// Runs a kernel compiled for this set.
    #[inline]
    pub fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self {
            // SAFETY: `activate` is the only way to a set that calls use, and checks that the machine has its features;
            // `debug_assert` repeats it for sets that tests name.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe {
                debug_assert!(self.is_available());
                x86::avx2(kernel)
            },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe {
                debug_assert!(self.is_available());
                x86::avx512(kernel)
            },
            _ => baseline(kernel),
        }
    }
}

static ACTIVE: AtomicU8 = AtomicU8::new(u8::MAX);

#[inline(never)]
fn baseline<K: Kernel>(kernel: K) -> K::Output {
    kernel.run_on::<Baseline>()
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Isa, Kernel, Set};

    /// One list of features makes both the test and the trampoline, so that they cannot differ.
    macro_rules! level {
        ($isa:ident, $has:ident, $trampoline:ident, $($feature:tt),+) => {
            pub(super) fn $has() -> bool {
                $(std::arch::is_x86_feature_detected!($feature))&&+
            }

            /// # Safety
            /// The machine must have the features.
            #[target_feature($(enable = $feature),+)]
            #[inline(never)]
            pub(super) unsafe fn $trampoline<K: Kernel>(kernel: K) -> K::Output {
                struct This;
                impl Set for This {
                    const ISA: Isa = Isa::$isa;
                }
                kernel.run_on::<This>()
            }
        };
    }

    level!(Avx2, has_avx2, avx2, "avx2", "fma", "f16c", "bmi1", "bmi2");
    level!(
        Avx512, has_avx512, avx512, "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl", "avx2", "fma", "f16c",
        "bmi1", "bmi2"
    );
}
