//! Losses of a linear layer's scores.

use pyo3::exceptions::{PyMemoryError, PyValueError};
use pyo3::prelude::*;

use crate::drive::linear::{self, Loss};
use crate::drive::product::Grid;
use crate::drive::rows::{self, Matrix, Target, Weight};
use crate::drive::{Failure, Want};
use crate::python::array::{Array, View, lay_out, tuple};
use crate::python::call::{self, Arguments, GradOutput, Reduction, Results, interruptible};
use crate::python::error;
use crate::storage::Run;

/// A call of such a loss.
pub struct Layer<'a, 'py> {
    py: Python<'py>,
    loss: &'a dyn Loss,
    ignore_index: Option<i128>,
    input: Array<'py>,
    linear_weight: Array<'py>,
    linear_bias: Option<Array<'py>>,
    target: Array<'py>,
    weight: Option<Array<'py>>,
    sample_weight: Option<Array<'py>>,
    reduction: Reduction,
}

impl<'a, 'py> Layer<'a, 'py> {
    pub fn new(loss: &'a dyn Loss, ignore_index: Option<i128>, arguments: &Arguments<'_, 'py>) -> PyResult<Self> {
        let call = Self {
            py: arguments.operands.py(),
            loss,
            ignore_index,
            input: arguments.operand(0, "input")?,
            linear_weight: arguments.operand(1, "linear_weight")?,
            linear_bias: arguments.array("linear_bias")?,
            target: arguments.operand(2, "target")?,
            weight: arguments.array("weight")?,
            sample_weight: arguments.sample_weight()?,
            reduction: arguments.reduction,
        };
        call.check_shapes()?;
        Ok(call)
    }

    fn check_shapes(&self) -> PyResult<()> {
        let (input, linear_weight) = (self.input.shape(), self.linear_weight.shape());
        let Some((features, samples)) = input.split_last() else {
            return Err(PyValueError::new_err("input must have an axis of features, got a number"));
        };
        if linear_weight.len() != 2 || linear_weight[1] != *features {
            let (got, input) = (tuple(linear_weight), tuple(input));
            return Err(PyValueError::new_err(format!(
                "linear_weight has shape {got}; expected (C, {features}), a row for each class, for an input of shape {input}"
            )));
        }
        if self.classes() == 0 {
            return Err(PyValueError::new_err(format!(
                "linear_weight of shape {} has no classes",
                tuple(linear_weight)
            )));
        }
        for (array, what) in [(&self.linear_bias, "number"), (&self.weight, "weight")] {
            if let Some(array) = array
                && array.shape() != [self.classes()]
            {
                let (name, got, classes) = (array.name(), tuple(array.shape()), self.classes());
                return Err(PyValueError::new_err(format!(
                    "{name} has shape {got}; expected a {what} for each class, ({classes},)"
                )));
            }
        }
        if self.target.shape() != samples {
            let (got, samples, input) = (tuple(self.target.shape()), tuple(samples), tuple(input));
            return Err(PyValueError::new_err(format!(
                "target has shape {got}; expected {samples} as labels, for an input of shape {input}"
            )));
        }
        Ok(())
    }

    fn classes(&self) -> usize {
        self.linear_weight.shape()[0]
    }

    fn features(&self) -> usize {
        self.linear_weight.shape()[1]
    }

    /// The shape of the losses.
    fn samples(&self) -> &[usize] {
        let shape = self.input.shape();
        &shape[..shape.len() - 1]
    }

    fn run<T: rows::Kind>(&self, want: Want, results: &Results<'py>, grad_output: &GradOutput<'py>) -> PyResult<f64> {
        let (loss, samples) = (self.loss, self.samples());
        let of_samples = |array: &Array<'py>| array.along(0..samples.len());
        let broadcast = |array: &Array<'py>| array.broadcast(samples, "the samples' shape");
        let mut views = vec![of_samples(&self.input), self.target.view()];
        let mut index = |view: Option<PyResult<View>>| -> PyResult<Option<usize>> {
            let Some(view) = view else { return Ok(None) };
            views.push(view?);
            Ok(Some(views.len() - 1))
        };
        let sample_weight = index(self.sample_weight.as_ref().map(broadcast))?;
        let grad_output_at = index(grad_output.array().map(broadcast))?;
        let value = index(results.value.as_ref().map(|array| Ok(array.view())))?;
        let [input_slope, weight_slope, bias_slope] = &results.slope;
        let slope = index(input_slope.as_ref().map(|array| Ok(of_samples(array))))?;
        let (layout, operands) = lay_out(samples, views, false);
        let at = |index: Option<usize>| index.map(|index| &operands[index]);
        let matrix = |index: usize, array: &Array<'py>| Matrix {
            samples: operands[index].clone(),
            stride: array.strides()[samples.len()],
        };
        let input = matrix(0, &self.input);
        let slope = slope.zip(input_slope.as_ref()).map(|(index, array)| matrix(index, array));
        let target = Target::Labels(operands[1].clone());
        let weight = self.weight.as_ref().map(|weight| Weight::Classes(vector(weight)));
        let mut call = linear::Call {
            samples: rows::Call {
                layout: &layout,
                want,
                classes: self.classes(),
                input: &input,
                target: &target,
                weight: weight.as_ref(),
                ignore_index: self.ignore_index,
                sample_weight: at(sample_weight),
                grad_output: at(grad_output_at),
                factor: 1.0,
                value: at(value),
                slope: slope.as_ref(),
                curvature: None,
                log_probabilities: None,
                sum: self.reduction != Reduction::None && want.value(),
            },
            features: self.features(),
            weight: grid(&self.linear_weight),
            bias: self.linear_bias.as_ref().map(vector),
            softcap: loss.softcap(),
            weight_slope: weight_slope.as_ref().map(grid),
            bias_slope: bias_slope.as_ref().map(vector),
        };
        let (is_mean, factor) = (self.reduction == Reduction::Mean, grad_output.factor());
        let elements = call.elements();
        let run = move |stop: &dyn Fn() -> bool| {
            // SAFETY: the arrays live as long as the call; results were checked to be writable and apart from what is read.
            unsafe {
                let (mut total, mut unweighted) = (call.samples.total_weight::<T>(true, stop)?.value(), 1.0);
                if !is_mean {
                    total = 1.0;
                } else if loss.has_unweighted_part() && call.samples.weight.is_some() {
                    let weight = call.samples.weight.take();
                    unweighted = total / call.samples.total_weight::<T>(true, stop)?.value();
                    call.samples.weight = weight;
                }
                call.samples.factor = factor / total;
                let formula = loss.formula(unweighted);
                Ok(call.run(T::blocks(&*formula), stop)?.value() / total)
            }
        };
        interruptible(self.py, elements, run)?.map_err(|failure| match failure {
            Failure::Label { row, label } => error::label(self.py, row, samples, label, self.classes()),
            Failure::Memory => PyMemoryError::new_err("there is not enough memory"),
            other => unreachable!("{other:?} of a linear layer's loss"),
        })
    }
}

/// The elements of an array of one axis.
fn vector(array: &Array<'_>) -> Run {
    Run { stride: array.strides()[0], ..array.run() }
}

/// The rows of an array of two axes.
fn grid(array: &Array<'_>) -> Grid {
    Grid { row: Run { stride: array.strides()[1], ..array.run() }, step: array.strides()[0] }
}

impl<'py> call::Call<'py> for Layer<'_, 'py> {
    fn input(&self, index: usize) -> Option<&Array<'py>> {
        match index {
            0 => Some(&self.input),
            1 => Some(&self.linear_weight),
            2 => self.linear_bias.as_ref(),
            _ => None,
        }
    }

    fn visit(&self, visitor: &mut dyn FnMut(&Array<'py>) -> PyResult<()>) -> PyResult<()> {
        let optional = [&self.linear_bias, &self.weight, &self.sample_weight];
        [&self.input, &self.linear_weight, &self.target]
            .into_iter()
            .chain(optional.into_iter().flatten())
            .try_for_each(visitor)
    }

    fn losses_shape(&self) -> Vec<usize> {
        self.samples().to_vec()
    }

    /// Each derivative is a sum over what others are still computed from.
    fn overwrites(&self) -> bool {
        false
    }

    fn run(&self, want: Want, results: &Results<'py>, grad_output: &GradOutput<'py>) -> PyResult<f64> {
        if self.input.is_double() {
            self.run::<f64>(want, results, grad_output)
        } else {
            self.run::<f32>(want, results, grad_output)
        }
    }
}
