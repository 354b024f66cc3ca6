//! Losses of a row of scores.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;

use crate::drive::rows::{self, Loss, Matrix, Target};
use crate::drive::{Failure, Want};
use crate::python::array::{Array, View, lay_out, tuple};
use crate::python::call::{self, Arguments, GradOutput, Reduction, Results, interruptible};
use crate::python::error;

/// A call of such a loss.
pub struct Rows<'a, 'py> {
    py: Python<'py>,
    loss: &'a dyn Loss,
    ignore_index: Option<i128>,
    input: Array<'py>,
    target: Array<'py>,
    is_of_probabilities: bool,
    weight: Option<Array<'py>>,
    sample_weight: Option<Array<'py>>,
    reduction: Reduction,
}

impl<'a, 'py> Rows<'a, 'py> {
    pub fn new(
        labels: &'a dyn Loss,
        probabilities: Option<&'a dyn Loss>,
        ignore_index: Option<i128>,
        arguments: &Arguments<'_, 'py>,
    ) -> PyResult<Self> {
        arguments.refuse_batch_mean()?;
        let (input, target) = (arguments.operand(0, "input")?, arguments.operand(1, "target")?);
        // Whether targets are probabilities is whether their shape is the input's.
        let is_of_probabilities = input.shape() == target.shape();
        let loss = if is_of_probabilities { probabilities.unwrap_or(labels) } else { labels };
        let weight = arguments.array("weight")?;
        let (sample_weight, reduction) = (arguments.sample_weight()?, arguments.reduction);
        let py = arguments.operands.py();
        let call =
            Self { py, loss, ignore_index, input, target, is_of_probabilities, weight, sample_weight, reduction };
        call.check_shapes(probabilities.is_some())?;
        Ok(call)
    }

    fn check_shapes(&self, takes_probabilities: bool) -> PyResult<()> {
        let (input, target) = (self.input.shape(), self.target.shape());
        if input.is_empty() {
            return Err(PyValueError::new_err("input must have an axis of classes, got a number"));
        }
        if self.classes() == 0 {
            return Err(PyValueError::new_err(format!("input of shape {} has no classes", tuple(input))));
        }
        if let Some(weight) = &self.weight
            && weight.shape() != [self.classes()]
        {
            let (got, classes) = (tuple(weight.shape()), self.classes());
            return Err(PyValueError::new_err(format!(
                "weight has shape {got}; expected a weight for each class, ({classes},)"
            )));
        }
        if target == self.samples() {
            return Ok(());
        }
        let labels = tuple(&self.samples());
        if !takes_probabilities || input != target {
            let or = if takes_probabilities { " or, as probabilities, the input's" } else { "" };
            let (input, target) = (tuple(input), tuple(target));
            return Err(PyValueError::new_err(format!(
                "target has shape {target}; expected {labels} as labels{or}, for an input of shape {input}"
            )));
        }
        if self.ignore_index.is_some_and(|index| index >= 0) {
            return Err(PyValueError::new_err(
                "ignore_index goes with labels; target has the input's shape, so it holds probabilities",
            ));
        }
        if !self.target.dtype().is_float() {
            return Err(PyTypeError::new_err(format!(
                "target has the input's shape, so it holds probabilities, but its type is an integer's; labels have shape {labels}"
            )));
        }
        Ok(())
    }

    /// The axis of classes.
    fn class_axis(&self) -> usize {
        usize::from(self.input.shape().len() > 1)
    }

    fn classes(&self) -> usize {
        self.input.shape()[self.class_axis()]
    }

    /// The shape of the losses.
    fn samples(&self) -> Vec<usize> {
        let mut shape = self.input.shape().to_vec();
        shape.remove(self.class_axis());
        shape
    }

    fn run<T: rows::Kind>(&self, want: Want, results: &Results<'py>, grad_output: &GradOutput<'py>) -> PyResult<f64> {
        let (loss, samples) = (self.loss, self.samples());
        let axis = self.class_axis();
        let of_samples = |array: &Array<'py>| array.along((0..array.shape().len()).filter(|&other| other != axis));
        let broadcast = |array: &Array<'py>| array.broadcast(&samples, "the samples' shape");
        let probabilities = self.is_of_probabilities;
        let mut views = vec![of_samples(&self.input)];
        views.push(if probabilities { of_samples(&self.target) } else { self.target.view() });
        let mut index = |view: Option<PyResult<View>>| -> PyResult<Option<usize>> {
            let Some(view) = view else { return Ok(None) };
            views.push(view?);
            Ok(Some(views.len() - 1))
        };
        let sample_weight = index(self.sample_weight.as_ref().map(broadcast))?;
        let grad_output_at = index(grad_output.array().map(broadcast))?;
        let value = index(results.value.as_ref().map(|array| Ok(array.view())))?;
        let slope = index(results.slope[0].as_ref().map(|array| Ok(of_samples(array))))?;
        let curvature = index(results.curvature[0].as_ref().map(|array| Ok(of_samples(array))))?;
        let (layout, operands) = lay_out(&samples, &views, false);
        let at = |index: Option<usize>| index.map(|index| &operands[index]);
        let matrix = |index: usize, array: &Array<'py>| Matrix {
            samples: operands[index].clone(),
            stride: array.strides()[axis],
        };
        let input = matrix(0, &self.input);
        let target = if probabilities {
            Target::Probabilities(matrix(1, &self.target))
        } else {
            Target::Labels(operands[1].clone())
        };
        let slope = slope.zip(results.slope[0].as_ref()).map(|(index, array)| matrix(index, array));
        let curvature = curvature.zip(results.curvature[0].as_ref()).map(|(index, array)| matrix(index, array));
        let mut call = rows::Call {
            layout: &layout,
            want,
            classes: self.classes(),
            input: &input,
            target: &target,
            class_weight: self.weight.as_ref().map(|weight| {
                let mut run = weight.run();
                run.stride = weight.strides()[0];
                run
            }),
            ignore_index: self.ignore_index,
            sample_weight: at(sample_weight),
            grad_output: at(grad_output_at),
            factor: 1.0,
            value: at(value),
            slope: slope.as_ref(),
            curvature: curvature.as_ref(),
            sum: self.reduction != Reduction::None && want.value(),
        };
        let (is_mean, factor) = (self.reduction == Reduction::Mean, grad_output.factor());
        self.interruptible(layout.len().saturating_mul(self.classes()), |stop| {
            // SAFETY: the arrays live as long as the call; results were checked to be writable and apart from what is read.
            unsafe {
                let weight = call.total_weight::<T>(stop)?.value();
                let total = if is_mean { weight } else { 1.0 };
                call.factor = factor / total;
                Ok(call.run(T::blocks(loss), stop)?.value() / total)
            }
        })
    }

    fn interruptible<R: Send>(
        &self,
        elements: usize,
        work: impl FnOnce(&dyn Fn() -> bool) -> Result<R, Failure> + Send,
    ) -> PyResult<R> {
        interruptible(self.py, elements, work)?.map_err(|failure| match failure {
            Failure::Label { row, label } => error::label(self.py, row, &self.samples(), label, self.classes()),
            other => unreachable!("{other:?} of a rowwise loss"),
        })
    }
}

impl<'py> call::Call<'py> for Rows<'_, 'py> {
    fn input(&self, index: usize) -> Option<&Array<'py>> {
        (index == 0).then_some(&self.input)
    }

    fn visit(&self, visitor: &mut dyn FnMut(&Array<'py>) -> PyResult<()>) -> PyResult<()> {
        let weights = [&self.weight, &self.sample_weight];
        [&self.input, &self.target].into_iter().chain(weights.into_iter().flatten()).try_for_each(visitor)
    }

    fn losses_shape(&self) -> Vec<usize> {
        self.samples()
    }

    fn run(&self, want: Want, results: &Results<'py>, grad_output: &GradOutput<'py>) -> PyResult<f64> {
        if self.input.is_double() {
            self.run::<f64>(want, results, grad_output)
        } else {
            self.run::<f32>(want, results, grad_output)
        }
    }
}
