//! The drivers: how a formula meets buffers of any type, layout and size. One for each shape of data.

/// A trait `Kind` of the numbers in which a driver's `Loss` can be evaluated: its `Blocks` of each type.
macro_rules! evaluated_as {
    ($blocks:ident) => {
        /// A number in which a [`Loss`] can be evaluated.
        pub trait Kind: Number {
            /// The loss, for this type of numbers.
            fn $blocks(loss: &dyn Loss) -> &dyn Blocks<Self>;
        }

        impl Kind for f32 {
            fn $blocks(loss: &dyn Loss) -> &dyn Blocks<Self> {
                loss
            }
        }

        impl Kind for f64 {
            fn $blocks(loss: &dyn Loss) -> &dyn Blocks<Self> {
                loss
            }
        }
    };
}

mod band;
pub mod block;
pub mod embeddings;
pub mod label_sets;
mod labels;
pub mod layout;
pub mod linear;
pub mod pointwise;
pub mod product;
pub mod regions;
pub mod rows;
pub mod sequences;
mod tile;
mod transpose;

/// What a call asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// The loss.
    Value,
    /// Its gradient.
    Gradient,
    /// Both, in one pass.
    ValueAndGradient,
    /// The gradient and the diagonal of the Hessian.
    GradientAndHessian,
}

impl Want {
    /// Whether losses are wanted.
    pub const fn value(self) -> bool {
        matches!(self, Self::Value | Self::ValueAndGradient)
    }

    /// Whether first derivatives are wanted.
    pub const fn slope(self) -> bool {
        !matches!(self, Self::Value)
    }

    /// Whether second derivatives are wanted.
    pub const fn curvature(self) -> bool {
        matches!(self, Self::GradientAndHessian)
    }
}

/// Why a driver stopped.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Failure {
    /// The caller wanted to stop.
    Interrupted,
    /// An element is outside its operand's domain.
    Domain {
        /// The operand's place in the formula.
        operand: usize,
        /// The element, in the layout's order.
        index: usize,
    },
    /// A label is not one of the classes.
    Label {
        /// The row, counted over the samples in C order.
        row: usize,
        /// What stands there; a float where that is not whole.
        label: Result<i128, f64>,
    },
    /// A length or a label of a sequence does not fit.
    Sequence(sequences::Misfit),
    /// There is not enough memory.
    Memory,
}

impl From<sequences::Misfit> for Failure {
    fn from(misfit: sequences::Misfit) -> Self {
        Self::Sequence(misfit)
    }
}

impl From<std::collections::TryReserveError> for Failure {
    fn from(_: std::collections::TryReserveError) -> Self {
        Self::Memory
    }
}

impl From<crate::threads::Interrupted> for Failure {
    fn from(_: crate::threads::Interrupted) -> Self {
        Self::Interrupted
    }
}

/// Elements of work from which other threads are called in at once.
pub const SPREAD_FROM: usize = 1 << 16;

/// Elements of work below which it stays on the caller's thread, and keeps the interpreter: any hand-over would cost more. From
/// here to [`SPREAD_FROM`] a driver may leave it to the work's duration whether other threads are called in.
pub const ALONE_BELOW: usize = 1 << 14;

/// Tasks for each thread, of work that is not large: they end at about the same time.
const TASKS_PER_THREAD: usize = 8;

/// Bytes of output from which it is written past the caches.
const STREAM_FROM: usize = 1 << 22;
