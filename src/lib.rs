//! Loss functions and their derivatives on buffers, at the speed of memory.

pub mod isa;
pub mod real;
pub mod storage;
pub mod threads;
