//! Loss functions and their derivatives on buffers, at the speed of memory.

pub mod real;
pub mod sum;
