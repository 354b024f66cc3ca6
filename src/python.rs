//! What Python sees: the only modules that name `pyo3` and `numpy`.

mod accumulate;
mod array;
mod call;
mod elementary;
mod error;
mod exact_sum;
mod memory;

use pyo3::exceptions::{PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::isa::Isa;
use crate::losses::{self, Description, Invalid, Parameter, Parameters};
use crate::threads;
use call::{Arguments, Reduction};

/// A loss with its parameters: `Loss(name, **parameters)`.
///
/// Its methods take the operands that must be given, as a tuple; the options that are arrays, as a dict of those given; and
/// what calls of all losses take.
#[pyclass(frozen, module = "lossrs._lossrs")]
pub struct Loss {
    name: String,
    formula: losses::Loss,
    description: Description,
}

#[pymethods]
impl Loss {
    #[new]
    #[pyo3(signature = (name, /, **parameters))]
    fn new(name: &str, parameters: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let mut values: Vec<(String, Parameter)> = Vec::new();
        for (key, value) in parameters.into_iter().flatten() {
            values.push((key.extract()?, parameter(&value)));
        }
        let value = |name: &str| values.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        let loss = losses::named(name, &Parameters(&value)).map_err(|invalid| match invalid {
            Invalid::Value(message) => PyValueError::new_err(message),
            Invalid::Type(message) => PyTypeError::new_err(message),
        })?;
        Ok(Self { name: name.into(), description: loss.description(), formula: loss })
    }

    /// The names of the operands that must be given.
    #[getter]
    fn operands<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.description.operands)
    }

    /// The names of the operands that may be given besides, among the options that are arrays.
    #[getter]
    fn optional<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.description.optional)
    }

    /// The names of the operands that have gradients.
    #[getter]
    fn inputs<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, &self.description.inputs)
    }

    /// The number of inputs whose gradients a call means that does not say which.
    #[getter]
    fn asked(&self) -> usize {
        self.description.asked
    }

    /// Whether the mean divides by the sum of a weight for each element, where one is given.
    #[getter]
    fn weight_normalises(&self) -> bool {
        self.description.weight_normalises
    }

    /// Whether the loss has a Hessian.
    #[getter]
    fn has_hessian(&self) -> bool {
        self.description.has_hessian
    }

    /// Whether `value` and `value_and_grad` can return the logarithms of the classes' probabilities besides.
    #[getter]
    fn has_log_prob(&self) -> bool {
        self.description.has_log_prob
    }

    /// The loss: a float, or an array where nothing is reduced.
    #[pyo3(signature = (operands, arrays, sample_weight, reduction, out, log_prob=false))]
    fn value<'py>(
        &self,
        operands: &Bound<'py, PyTuple>,
        arrays: Option<&Bound<'py, PyDict>>,
        sample_weight: Option<&Bound<'py, PyAny>>,
        reduction: Reduction,
        out: Option<&Bound<'py, PyAny>>,
        log_prob: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.evaluate(&Arguments { operands, arrays, sample_weight, reduction }, out, log_prob)
    }

    /// The loss and its gradients.
    #[pyo3(signature = (operands, arrays, sample_weight, reduction, out, wrt, log_prob=false))]
    fn value_and_grad<'py>(
        &self,
        operands: &Bound<'py, PyTuple>,
        arrays: Option<&Bound<'py, PyDict>>,
        sample_weight: Option<&Bound<'py, PyAny>>,
        reduction: Reduction,
        out: Option<&Bound<'py, PyAny>>,
        wrt: Option<&Bound<'py, PyAny>>,
        log_prob: bool,
    ) -> PyResult<Bound<'py, PyTuple>> {
        self.differentiate(&Arguments { operands, arrays, sample_weight, reduction }, wrt, out, log_prob)
    }

    /// The gradients and the diagonals of the Hessians.
    fn grad_and_hess<'py>(
        &self,
        operands: &Bound<'py, PyTuple>,
        arrays: Option<&Bound<'py, PyDict>>,
        sample_weight: Option<&Bound<'py, PyAny>>,
        reduction: Reduction,
        out: Option<&Bound<'py, PyAny>>,
        wrt: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
        self.differentiate_twice(&Arguments { operands, arrays, sample_weight, reduction }, wrt, out)
    }

    /// The gradients, times what the loss's own gradient is.
    fn backward<'py>(
        &self,
        grad_output: &Bound<'py, PyAny>,
        operands: &Bound<'py, PyTuple>,
        arrays: Option<&Bound<'py, PyDict>>,
        sample_weight: Option<&Bound<'py, PyAny>>,
        reduction: Reduction,
        out: Option<&Bound<'py, PyAny>>,
        wrt: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.multiply(grad_output, &Arguments { operands, arrays, sample_weight, reduction }, wrt, out)
    }
}

fn parameter(value: &Bound<'_, PyAny>) -> Parameter {
    if value.is_none() {
        Parameter::Nothing
    } else if let Ok(flag) = value.extract::<bool>() {
        // NumPy's too, which is no integer.
        Parameter::Integer(flag.into())
    } else if let Ok(integer) = value.extract::<i128>() {
        Parameter::Integer(integer)
    } else if let Ok(number) = value.extract::<f64>() {
        Parameter::Number(number)
    } else if let Ok(word) = value.extract::<String>() {
        Parameter::Word(word)
    } else {
        Parameter::Other(value.get_type().name().map_or_else(|_| "an object".into(), |name| name.to_string()))
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
