//! Errors as Python has them.

use std::panic::{AssertUnwindSafe, catch_unwind};

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;

use crate::loss::Domain;

pyo3::create_exception!(
    lossrs,
    LabelError,
    PyValueError,
    "A label is not one of the classes. `row` counts the samples in C order; `label` is what stands there."
);

pyo3::create_exception!(
    lossrs,
    DomainError,
    PyValueError,
    "A value is outside the loss's domain. `row` counts the elements in C order; `value` is what stands there."
);

/// Runs a call; a panic, which is an error of ours, becomes a `RuntimeError`.
pub fn without_panic<R>(call: impl FnOnce() -> PyResult<R>) -> PyResult<R> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        let message = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("unknown");
        Err(PyRuntimeError::new_err(format!("lossrs failed: {message}; please report this")))
    })
}

/// An index over a shape, as messages have it: `row 5`, or `row (1, 4)` of several axes.
fn place(index: usize, shape: &[usize]) -> String {
    let mut left = index;
    let mut indices: Vec<String> = shape
        .iter()
        .rev()
        .map(|&length| {
            let at = left % length;
            left /= length;
            at.to_string()
        })
        .collect();
    indices.reverse();
    match indices.as_slice() {
        [] => String::new(),
        [row] => format!(" at row {row}"),
        _ => format!(" at row ({})", indices.join(", ")),
    }
}

/// A label that is not one of the classes.
pub fn label(py: Python<'_>, row: usize, shape: &[usize], label: Result<i128, f64>, classes: usize) -> PyErr {
    label_at(py, row, &place(row, shape), label, classes, None)
}

/// A label of a sequence that is not one of the classes, or is the blank.
pub fn label_in_sequence(
    py: Python<'_>,
    row: usize,
    shape: &[usize],
    position: usize,
    label: Result<i128, f64>,
    classes: usize,
    blank: usize,
) -> PyErr {
    let row_place = place(row, shape);
    let place = if row_place.is_empty() { " at".into() } else { format!("{row_place},") };
    label_at(py, row, &format!("{place} position {position}"), label, classes, Some(blank))
}

fn label_at(
    py: Python<'_>,
    row: usize,
    place: &str,
    label: Result<i128, f64>,
    classes: usize,
    blank: Option<usize>,
) -> PyErr {
    let error = match label {
        Ok(label) if blank.is_some_and(|blank| blank as i128 == label) => {
            LabelError::new_err(format!("label {label}{place} is the blank"))
        }
        Ok(label) => LabelError::new_err(format!("label {label}{place} is outside [0, {classes})")),
        // Beyond all integer types.
        Err(label) if label.fract() == 0.0 => {
            LabelError::new_err(format!("label {label:?}{place} is outside [0, {classes})"))
        }
        Err(label) => LabelError::new_err(format!("label {label:?}{place} is not a whole number")),
    };
    let value = error.value(py);
    let labelled = match label {
        Ok(label) => value.setattr("label", label),
        Err(label) => value.setattr("label", label),
    };
    labelled.and_then(|()| value.setattr("row", row)).err().unwrap_or(error)
}

/// A value outside its domain.
pub fn domain(py: Python<'_>, name: &str, row: usize, shape: &[usize], value: f64, domain: Domain) -> PyErr {
    let place = place(row, shape);
    let error = DomainError::new_err(match domain {
        Domain::Interval(low, high) if high == f64::INFINITY => {
            format!("{name} {value:?}{place} is less than {low}")
        }
        Domain::Interval(low, high) => format!("{name} {value:?}{place} is outside [{low}, {high}]"),
        Domain::Sign => format!("{name} {value:?}{place} is neither 1 nor -1"),
        Domain::Binary => format!("{name} {value:?}{place} is neither 0 nor 1"),
        Domain::Real => unreachable!("any value is real"),
    });
    let instance = error.value(py);
    let named = instance.setattr("row", row).and_then(|()| instance.setattr("value", value));
    named.err().unwrap_or(error)
}
