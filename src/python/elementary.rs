use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;

use crate::isa::{Isa, Kernel};
use crate::python::array::Array;
use crate::real::{self, Real};
use crate::storage::Dtype;

/// An elementary function of a contiguous float32 or float64 array, as losses compute it: for tests of its accuracy.
#[pyfunction]
#[pyo3(signature = (name, x, y=None))]
pub fn elementary<'py>(
    name: &str,
    x: &Bound<'py, PyAny>,
    y: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let x = Array::new("x", x)?;
    let y = y.map(|y| Array::new("y", y)).transpose()?;
    let out = x.new_of("out", x.shape())?;
    let known = match x.dtype() {
        Dtype::Float32 => evaluate::<f32>(name, &x, y.as_ref(), &out),
        Dtype::Float64 => evaluate::<f64>(name, &x, y.as_ref(), &out),
        _ => return Err(PyTypeError::new_err("x must be float32 or float64")),
    }?;
    if known { Ok(out.into_object()) } else { Err(PyValueError::new_err(format!("there is no function {name:?}"))) }
}

fn evaluate<T: Real>(name: &str, x: &Array<'_>, y: Option<&Array<'_>>, out: &Array<'_>) -> PyResult<bool> {
    struct Evaluate<'a, T> {
        name: &'a str,
        x: &'a [T],
        y: Option<&'a [T]>,
        out: &'a mut [T],
    }
    impl<T: Real> Kernel for Evaluate<'_, T> {
        type Output = bool;
        #[inline(always)]
        fn run(self) -> bool {
            real::elementary(self.name, self.x, self.y, self.out)
        }
    }
    let (x, y) = (x.contiguous()?, y.map(Array::contiguous).transpose()?);
    // SAFETY: `out` is new, of the type and shape of `x`, and nobody else's.
    let out = unsafe { std::slice::from_raw_parts_mut(out.run().first.cast::<T>(), x.len()) };
    Ok(Isa::active().run(Evaluate { name, x, y, out }))
}
