//! What Python sees: the only modules that name `pyo3` and `numpy`.

mod accumulate;
mod array;
mod call;
mod elementary;
mod error;
mod exact_sum;

use pyo3::exceptions::{PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::isa::Isa;
use crate::losses::{self, Parameters};
use crate::threads;
use call::{Arguments, Reduction};

/// A loss with its parameters: `Loss(name, **parameters)`.
#[pyclass(frozen, module = "lossrs._lossrs")]
pub struct Loss {
    loss: losses::Loss,
    ignore_index: Option<i128>,
}

#[pymethods]
impl Loss {
    #[new]
    #[pyo3(signature = (name, /, **parameters))]
    fn new(name: &str, parameters: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let mut values: Vec<(String, f64)> = Vec::new();
        let mut ignore_index = None;
        for (key, value) in parameters.into_iter().flatten() {
            let key: String = key.extract()?;
            let wrong = |expected: &str| {
                let class = value.get_type().name().map_or_else(|_| "an object".into(), |name| name.to_string());
                PyTypeError::new_err(format!("{key} must be {expected}, got {class}"))
            };
            if key == "ignore_index" {
                ignore_index = Some(value.extract().map_err(|_| wrong("an integer"))?);
            } else {
                let number = value.extract().map_err(|_| wrong("a number"))?;
                values.push((key, number));
            }
        }
        let value = |name: &str| values.iter().find(|(key, _)| key == name).map(|&(_, value)| value);
        let loss = losses::named(name, &Parameters(&value)).map_err(PyValueError::new_err)?;
        Ok(Self { loss, ignore_index })
    }

    /// The loss: a float, or an array where nothing is reduced.
    fn value<'py>(
        &self,
        input: &Bound<'py, PyAny>,
        target: &Bound<'py, PyAny>,
        weight: Option<&Bound<'py, PyAny>>,
        pos_weight: Option<&Bound<'py, PyAny>>,
        sample_weight: Option<&Bound<'py, PyAny>>,
        reduction: Reduction,
        out: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let arguments = Arguments { input, target, weight, pos_weight, sample_weight, reduction };
        error::without_panic(|| self.call(&arguments)?.value(out))
    }

    /// The loss and its gradient with respect to the input.
    fn value_and_grad<'py>(
        &self,
        input: &Bound<'py, PyAny>,
        target: &Bound<'py, PyAny>,
        weight: Option<&Bound<'py, PyAny>>,
        pos_weight: Option<&Bound<'py, PyAny>>,
        sample_weight: Option<&Bound<'py, PyAny>>,
        reduction: Reduction,
        out: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
        let arguments = Arguments { input, target, weight, pos_weight, sample_weight, reduction };
        error::without_panic(|| self.call(&arguments)?.value_and_grad(out))
    }

    /// The gradient and the diagonal of the Hessian.
    fn grad_and_hess<'py>(
        &self,
        input: &Bound<'py, PyAny>,
        target: &Bound<'py, PyAny>,
        weight: Option<&Bound<'py, PyAny>>,
        pos_weight: Option<&Bound<'py, PyAny>>,
        sample_weight: Option<&Bound<'py, PyAny>>,
        reduction: Reduction,
        out: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
        let arguments = Arguments { input, target, weight, pos_weight, sample_weight, reduction };
        let outs: Option<(Bound<'py, PyAny>, Bound<'py, PyAny>)> = match out {
            Some(out) => Some(out.extract().map_err(|_| {
                PyTypeError::new_err(
                    "out must be a pair of arrays, for the gradient and for the diagonal of the Hessian",
                )
            })?),
            None => None,
        };
        error::without_panic(|| self.call(&arguments)?.grad_and_hess(outs.as_ref()))
    }

    /// The gradient, times what the loss's own gradient is.
    fn backward<'py>(
        &self,
        grad_output: &Bound<'py, PyAny>,
        input: &Bound<'py, PyAny>,
        target: &Bound<'py, PyAny>,
        weight: Option<&Bound<'py, PyAny>>,
        pos_weight: Option<&Bound<'py, PyAny>>,
        sample_weight: Option<&Bound<'py, PyAny>>,
        reduction: Reduction,
        out: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let arguments = Arguments { input, target, weight, pos_weight, sample_weight, reduction };
        error::without_panic(|| self.call(&arguments)?.backward(grad_output, out))
    }
}

/// The names of all losses.
#[pyfunction]
fn loss_names(py: Python<'_>) -> PyResult<Bound<'_, PyTuple>> {
    PyTuple::new(py, losses::NAMES)
}

/// The number of threads that a call may use.
#[pyfunction]
fn get_num_threads() -> usize {
    threads::threads()
}

/// Sets the number of threads that a call may use; 0 goes back to the default.
#[pyfunction]
fn set_num_threads(num_threads: &Bound<'_, PyAny>) -> PyResult<()> {
    let number: PyResult<usize> = num_threads.extract();
    let number = number.map_err(|error| {
        if error.is_instance_of::<PyOverflowError>(num_threads.py()) {
            PyValueError::new_err(format!("num_threads must be 0 for the default, or positive; got {num_threads}"))
        } else {
            error
        }
    })?;
    threads::set_threads(number);
    Ok(())
}

/// The instruction set that kernels use: "baseline", "avx2" or "avx512".
#[pyfunction]
fn instruction_set() -> &'static str {
    Isa::active().name()
}

/// Makes later calls use an instruction set that this machine has.
#[pyfunction]
fn use_instruction_set(name: &str) -> PyResult<()> {
    Isa::named(name).map_err(PyValueError::new_err)?.activate();
    Ok(())
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    if let Some(name) = std::env::var_os("LOSSRS_ISA") {
        let isa = Isa::named(&name.to_string_lossy())
            .map_err(|error| PyValueError::new_err(format!("LOSSRS_ISA: {error}")))?;
        isa.activate();
    }
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<Loss>()?;
    module.add_class::<exact_sum::ExactSum>()?;
    module.add_class::<accumulate::Accumulation>()?;
    module.add("LabelError", module.py().get_type::<error::LabelError>())?;
    module.add("DomainError", module.py().get_type::<error::DomainError>())?;
    module.add_function(wrap_pyfunction!(elementary::elementary, module)?)?;
    module.add_function(wrap_pyfunction!(loss_names, module)?)?;
    module.add_function(wrap_pyfunction!(get_num_threads, module)?)?;
    module.add_function(wrap_pyfunction!(set_num_threads, module)?)?;
    module.add_function(wrap_pyfunction!(instruction_set, module)?)?;
    module.add_function(wrap_pyfunction!(use_instruction_set, module)?)?;
    Ok(())
}

/// The number of threads, for threadpoolctl.
#[unsafe(no_mangle)]
pub extern "C" fn lossrs_get_num_threads() -> i32 {
    i32::try_from(threads::threads()).unwrap_or(i32::MAX)
}

/// Sets the number of threads, for threadpoolctl.
#[unsafe(no_mangle)]
pub extern "C" fn lossrs_set_num_threads(num_threads: i32) {
    threads::set_threads(usize::try_from(num_threads).unwrap_or(1).max(1));
}
