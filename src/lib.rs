//! Loss functions and their derivatives on buffers, at the speed of memory.

pub mod accumulate;
pub mod drive;
pub mod isa;
pub mod loss;
pub mod losses;
pub mod memory;
pub mod real;
pub mod storage;
pub mod sum;
pub mod threads;

#[cfg(feature = "python")]
mod python;

/// The extension module.
#[cfg(feature = "python")]
#[pyo3::pymodule(gil_used = false)]
mod _lossrs {
    #[pymodule_init]
    fn init(module: &pyo3::Bound<'_, pyo3::types::PyModule>) -> pyo3::PyResult<()> {
        crate::python::register(module)
    }
}
