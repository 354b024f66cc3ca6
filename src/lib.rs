//! Loss functions and their derivatives on buffers, at the speed of memory.

pub mod drive;
pub mod isa;
pub mod loss;
pub mod losses;
pub mod real;
pub mod storage;
pub mod sum;
pub mod threads;
