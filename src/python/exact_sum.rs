use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

use crate::drive::pointwise;
use crate::python::array::{Array, lay_out};
use crate::python::call::interruptible;
use crate::python::error;
use crate::sum;

/// The exact sum of any number of floating-point values, in any order.
///
/// However the values are split, ordered and merged, ``value()`` is their correctly rounded sum in double precision, as
/// `math.fsum` has it. Infinities and NaN count as in IEEE addition.
///
/// Examples
/// --------
/// >>> import numpy as np
/// >>> import lossrs
/// >>> total = lossrs.ExactSum()
/// >>> total.add(np.array([1e300, 1.0, -1e300]))
/// >>> total.value()
/// 1.0
#[pyclass(frozen, module = "lossrs")]
pub struct ExactSum(Mutex<sum::ExactSum>);

impl ExactSum {
    fn sum(&self) -> MutexGuard<'_, sum::ExactSum> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl ExactSum {
    #[new]
    fn new() -> Self {
        Self(Mutex::new(sum::ExactSum::new()))
    }

    /// Adds all values of an array of numbers, or a number.
    fn add(&self, values: &Bound<'_, PyAny>) -> PyResult<()> {
        let total = error::without_panic(|| {
            let array = Array::new("values", values)?;
            let (layout, operands) = lay_out(array.shape(), vec![array.view()], true);
            let total = interruptible(values.py(), layout.len(), |stop| {
                // SAFETY: the array lives as long as the call.
                unsafe { pointwise::total_weight::<f64>(&layout, &operands, stop) }
            })?;
            total.map_err(|_| PyValueError::new_err("values could not be added"))
        })?;
        self.sum().merge(&total);
        Ok(())
    }

    /// Adds all that another sum holds.
    fn merge(&self, other: &Bound<'_, Self>) {
        let other = other.get().sum().clone();
        self.sum().merge(&other);
    }

    /// The sum, rounded once to a double.
    fn value(&self) -> f64 {
        self.sum().value()
    }

    fn __repr__(&self) -> String {
        format!("<ExactSum {:?}>", self.value())
    }

    fn __eq__(&self, other: &Bound<'_, Self>) -> bool {
        let other = other.get().sum().to_bytes();
        self.sum().to_bytes() == other
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyTuple>)> {
        let py = slf.py();
        let bytes = PyBytes::new(py, &slf.get().sum().to_bytes());
        Ok((slf.get_type().getattr("from_bytes")?, PyTuple::new(py, [bytes])?))
    }

    /// The state, the same bytes for the same values whatever their order.
    fn to_bytes<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.sum().to_bytes())
    }

    /// The sum of that state.
    #[staticmethod]
    fn from_bytes(state: &[u8]) -> PyResult<Self> {
        let sum =
            sum::ExactSum::from_bytes(state).ok_or_else(|| PyValueError::new_err("not the state of an ExactSum"))?;
        Ok(Self(Mutex::new(sum)))
    }
}
