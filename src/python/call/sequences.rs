//! Losses of a sequence of rows and a sequence of labels.

use pyo3::exceptions::{PyMemoryError, PyTypeError, PyValueError};
use pyo3::prelude::*;

use crate::drive::sequences::{self, Loss, Misfit, Rows, Targets};
use crate::drive::{Failure, Want};
use crate::python::array::{Array, View, lay_out, tuple};
use crate::python::call::{self, Arguments, GradOutput, Reduction, Results, interruptible};
use crate::python::error;
use crate::storage::Run;

/// A call of such a loss.
pub struct Sequences<'a, 'py> {
    py: Python<'py>,
    loss: &'a dyn Loss,
    blank: usize,
    zero_infinity: bool,
    log_probs: Array<'py>,
    targets: Array<'py>,
    input_lengths: Array<'py>,
    target_lengths: Array<'py>,
    sample_weight: Option<Array<'py>>,
    reduction: Reduction,
}

impl<'a, 'py> Sequences<'a, 'py> {
    pub fn new(loss: &'a dyn Loss, blank: i128, zero_infinity: bool, arguments: &Arguments<'_, 'py>) -> PyResult<Self> {
        let log_probs = arguments.operand(0, "log_probs")?;
        let targets = arguments.operand(1, "targets")?;
        let input_lengths = arguments.operand(2, "input_lengths")?;
        let target_lengths = arguments.operand(3, "target_lengths")?;
        let sample_weight = arguments.sample_weight()?;
        // Only now, as what makes arrays of the arguments may change one's shape.
        let shape = log_probs.shape();
        let ([_, classes] | [_, _, classes]) = *shape else {
            let shape = tuple(shape);
            return Err(PyValueError::new_err(format!("log_probs has shape {shape}; expected (T, N, C) or (T, C)")));
        };
        if !(0..classes as i128).contains(&blank) {
            return Err(PyValueError::new_err(format!("blank must be in [0, {classes}), got {blank}")));
        }
        let (py, reduction, blank) = (arguments.operands.py(), arguments.reduction, blank as usize);
        let call = Self {
            py,
            loss,
            blank,
            zero_infinity,
            log_probs,
            targets,
            input_lengths,
            target_lengths,
            sample_weight,
            reduction,
        };
        call.check_shapes()?;
        Ok(call)
    }

    fn check_shapes(&self) -> PyResult<()> {
        let (of_samples, log_probs) = (self.samples(), tuple(self.log_probs.shape()));
        let samples = of_samples.first().copied().unwrap_or(1);
        if !matches!(*self.targets.shape(), [_]) && !matches!(*self.targets.shape(), [n, _] if n == samples) {
            let shape = tuple(self.targets.shape());
            return Err(PyValueError::new_err(format!(
                "targets has shape {shape}; expected ({samples}, S), or one axis of all labels, for log_probs of shape {log_probs}"
            )));
        }
        for lengths in [&self.input_lengths, &self.target_lengths] {
            let (name, shape) = (lengths.name(), lengths.shape());
            if shape != [samples] && shape != of_samples {
                let shape = tuple(shape);
                return Err(PyValueError::new_err(format!(
                    "{name} has shape {shape}; expected ({samples},) for log_probs of shape {log_probs}"
                )));
            }
            if lengths.dtype().is_float() && samples > 0 {
                return Err(PyTypeError::new_err(format!("{name} must be of an integer type")));
            }
        }
        Ok(())
    }

    /// The shape of the losses.
    fn samples(&self) -> Vec<usize> {
        let shape = self.log_probs.shape();
        shape[1..shape.len() - 1].to_vec()
    }

    fn steps(&self) -> usize {
        self.log_probs.shape()[0]
    }

    fn classes(&self) -> usize {
        self.log_probs.shape()[self.log_probs.shape().len() - 1]
    }

    fn run<T: crate::drive::block::Number>(
        &self,
        want: Want,
        results: &Results<'py>,
        grad_output: &GradOutput<'py>,
    ) -> PyResult<f64> {
        let samples = self.samples();
        let axes = samples.len();
        let rows = |array: &Array<'py>| array.along(1..=axes);
        let broadcast = |array: &Array<'py>| array.broadcast(&samples, "the samples' shape");
        let is_padded = self.targets.shape().len() == 2;
        let mut views = vec![rows(&self.log_probs)];
        views.extend([&self.input_lengths, &self.target_lengths].map(|lengths| lengths.along(0..axes)));
        let mut index = |view: Option<PyResult<View>>| -> PyResult<Option<usize>> {
            let Some(view) = view else { return Ok(None) };
            views.push(view?);
            Ok(Some(views.len() - 1))
        };
        let targets = index(is_padded.then(|| Ok(self.targets.along(0..axes))))?;
        let sample_weight = index(self.sample_weight.as_ref().map(broadcast))?;
        let grad_output_at = index(grad_output.array().map(broadcast))?;
        let value = index(results.value.as_ref().map(|array| Ok(array.view())))?;
        let slope = index(results.slope[0].as_ref().map(|array| Ok(rows(array))))?;
        let (layout, operands) = lay_out(&samples, views, false);
        let at = |index: Option<usize>| index.map(|index| &operands[index]);
        let rows = |index: usize, array: &Array<'py>| Rows {
            samples: operands[index].clone(),
            step: array.strides()[0],
            class: array.strides()[1 + axes],
        };
        let stride = self.targets.strides()[usize::from(is_padded)];
        let targets = match at(targets) {
            Some(first) => Targets::Padded(first.clone(), stride, self.targets.shape()[1]),
            None => Targets::Concatenated(Run { stride, ..self.targets.run() }, self.targets.shape()[0]),
        };
        let input = rows(0, &self.log_probs);
        let slope = slope.zip(results.slope[0].as_ref()).map(|(index, array)| rows(index, array));
        let is_mean = self.reduction == Reduction::Mean;
        let mut call = sequences::Call {
            loss: self.loss,
            layout: &layout,
            want,
            steps: self.steps(),
            classes: self.classes(),
            input: &input,
            targets: &targets,
            input_lengths: &operands[1],
            target_lengths: &operands[2],
            blank: self.blank,
            zero_infinity: self.zero_infinity,
            per_label: is_mean,
            sample_weight: at(sample_weight),
            grad_output: at(grad_output_at),
            factor: 1.0,
            value: at(value),
            slope: slope.as_ref(),
            sum: self.reduction != Reduction::None && want.value(),
        };
        let factor = grad_output.factor();
        let result = interruptible(self.py, call.work(), |stop| {
            // SAFETY: the arrays live as long as the call; results were checked to be writable and apart from what is read.
            unsafe {
                let checked = call.check::<T>(stop)?;
                let total = if is_mean { checked.weight() } else { 1.0 };
                call.factor = factor / total;
                Ok(call.run::<T>(&checked, stop)?.value() / total)
            }
        })?;
        result.map_err(|failure| match failure {
            Failure::Sequence(misfit) => self.error(misfit),
            Failure::Memory => PyMemoryError::new_err("there is not enough memory for the states of a sample"),
            other => unreachable!("{other:?} of a loss of sequences"),
        })
    }

    /// What was wrong, in the arguments' names.
    fn error(&self, misfit: Misfit) -> PyErr {
        let text =
            |length: Result<i128, f64>| length.map_or_else(|length| length.to_string(), |length| length.to_string());
        let labels = self.targets.shape().iter().product::<usize>();
        PyValueError::new_err(match misfit {
            Misfit::InputLength { sample, length } => {
                format!("input_lengths[{sample}] is {}; log_probs has {} steps", text(length), self.steps())
            }
            Misfit::TargetLength { sample, length, most } => {
                let left = if self.targets.shape().len() == 2 { "there" } else { "left" };
                format!("target_lengths[{sample}] is {}; targets has {most} labels {left}", text(length))
            }
            Misfit::TargetsLeft { lengths } => {
                format!("targets has {labels} labels; target_lengths add up to {lengths}")
            }
            Misfit::Label { sample, position, label } => {
                let (classes, blank) = (self.classes(), self.blank);
                return error::label_in_sequence(self.py, sample, &self.samples(), position, label, classes, blank);
            }
        })
    }
}

impl<'py> call::Call<'py> for Sequences<'_, 'py> {
    fn input(&self, index: usize) -> Option<&Array<'py>> {
        (index == 0).then_some(&self.log_probs)
    }

    fn visit(&self, visitor: &mut dyn FnMut(&Array<'py>) -> PyResult<()>) -> PyResult<()> {
        let lengths = [&self.input_lengths, &self.target_lengths];
        [&self.log_probs, &self.targets].into_iter().chain(lengths).chain(&self.sample_weight).try_for_each(visitor)
    }

    fn losses_shape(&self) -> Vec<usize> {
        self.samples()
    }

    fn run(&self, want: Want, results: &Results<'py>, grad_output: &GradOutput<'py>) -> PyResult<f64> {
        if self.log_probs.is_double() {
            self.run::<f64>(want, results, grad_output)
        } else {
            self.run::<f32>(want, results, grad_output)
        }
    }
}
