//! Losses of regions: of sums over the positions of images.

use pyo3::exceptions::{PyMemoryError, PyValueError};
use pyo3::prelude::*;

use crate::drive::regions::{self, Activation, Mode, Settings};
use crate::drive::rows::{Matrix, Target};
use crate::drive::{Failure, Want};
use crate::loss::{Domain, Region};
use crate::python::array::{Array, View, lay_out, tuple};
use crate::python::call::{self, Arguments, GradOutput, Reduction, Results, interruptible};
use crate::python::error;

/// A call of such a loss.
pub struct Regions<'a, 'py> {
    py: Python<'py>,
    loss: &'a dyn Region,
    settings: Settings,
    input: Array<'py>,
    target: Array<'py>,
    weight: Option<Array<'py>>,
    sample_weight: Option<Array<'py>>,
    reduction: Reduction,
}

impl<'a, 'py> Regions<'a, 'py> {
    pub fn new(loss: &'a dyn Region, settings: Settings, arguments: &Arguments<'_, 'py>) -> PyResult<Self> {
        let call = Self {
            py: arguments.operands.py(),
            loss,
            settings,
            input: arguments.operand(0, "input")?,
            target: arguments.operand(1, "target")?,
            weight: arguments.array("weight")?,
            sample_weight: arguments.sample_weight()?,
            reduction: arguments.reduction,
        };
        call.check_shapes()?;
        Ok(call)
    }

    fn check_shapes(&self) -> PyResult<()> {
        let (input, target) = (self.input.shape(), self.target.shape());
        let is_binary = self.settings.mode == Mode::Binary;
        if input.len() < if is_binary { 1 } else { 2 } {
            let classes = if is_binary { "" } else { " and one of classes" };
            return Err(PyValueError::new_err(format!(
                "input has shape {}; it must have an axis of images{classes}",
                tuple(input)
            )));
        }
        if self.classes() == 0 {
            return Err(PyValueError::new_err(format!("input of shape {} has no classes", tuple(input))));
        }
        let fits = match self.settings.mode {
            Mode::Binary => self.samples() == self.samples_of(&self.target, &self.input),
            Mode::Multilabel => input == target,
            Mode::Multiclass => input == target || self.has_labels(),
        };
        if !fits {
            let expected = match self.settings.mode {
                Mode::Binary => "the same, or one of them without an axis of one class",
                Mode::Multilabel => "the same",
                Mode::Multiclass => {
                    let labels = tuple(&self.samples());
                    return Err(PyValueError::new_err(format!(
                        "target has shape {}; expected {labels} as labels or, as probabilities, the input's, {}",
                        tuple(target),
                        tuple(input)
                    )));
                }
            };
            return Err(PyValueError::new_err(format!(
                "input has shape {} and target {}; they must be {expected}",
                tuple(input),
                tuple(target)
            )));
        }
        if self.settings.mode == Mode::Multiclass && !self.has_labels() && self.settings.ignore_index.is_some() {
            return Err(PyValueError::new_err(
                "ignore_index goes with labels; target has the input's shape, so it holds probabilities",
            ));
        }
        if let Some(weight) = &self.weight
            && weight.shape() != [self.classes()]
        {
            let (got, classes) = (tuple(weight.shape()), self.classes());
            return Err(PyValueError::new_err(format!(
                "weight has shape {got}; expected a weight for each class, ({classes},)"
            )));
        }
        Ok(())
    }

    fn classes(&self) -> usize {
        if self.settings.mode == Mode::Binary { 1 } else { self.input.shape()[1] }
    }

    fn has_labels(&self) -> bool {
        self.settings.mode == Mode::Multiclass && self.target.shape() == self.samples()
    }

    /// Whether an array has an axis of classes, which a binary one may have or not: it is left out where the other is
    /// without.
    fn has_class_axis(&self, array: &Array<'py>, other: &Array<'py>) -> bool {
        let (shape, other) = (array.shape(), other.shape());
        match self.settings.mode {
            Mode::Binary => shape.len() == other.len() + 1 && shape.get(1) == Some(&1),
            _ => true,
        }
    }

    /// The shape of an array without the axis of classes.
    fn samples_of(&self, array: &Array<'py>, other: &Array<'py>) -> Vec<usize> {
        let mut shape = array.shape().to_vec();
        if self.has_class_axis(array, other) {
            shape.remove(1);
        }
        shape
    }

    /// The shape of the positions of all images.
    fn samples(&self) -> Vec<usize> {
        self.samples_of(&self.input, &self.target)
    }

    fn run<T: crate::drive::block::Number>(
        &self,
        want: Want,
        results: &Results<'py>,
        grad_output: &GradOutput<'py>,
    ) -> PyResult<f64> {
        let (samples, losses_shape) = (self.samples(), call::Call::losses_shape(self));
        let has_labels = self.has_labels();
        let drops = self.has_class_axis(&self.input, &self.target);
        let positions = |array: &Array<'py>, drops: bool| -> View {
            array.along((0..array.shape().len()).filter(|&axis| !(drops && axis == 1)))
        };
        let mut views = vec![
            positions(&self.input, drops),
            positions(&self.target, !has_labels && self.has_class_axis(&self.target, &self.input)),
        ];
        views.extend(results.slope[0].as_ref().map(|slope| positions(slope, drops)));
        let (layout, operands) = lay_out(&samples, views, false);
        let matrix = |index: usize, array: &Array<'py>| Matrix {
            samples: operands[index].clone(),
            stride: if self.settings.mode == Mode::Binary { 0 } else { array.strides()[1] },
        };
        let mut views = Vec::with_capacity(3);
        let mut index = |view: Option<PyResult<View>>| -> PyResult<Option<usize>> {
            let Some(view) = view else { return Ok(None) };
            views.push(view?);
            Ok(Some(views.len() - 1))
        };
        let broadcast = |array: &Array<'py>| array.broadcast(&losses_shape, "the losses' shape");
        let sample_weight = index(self.sample_weight.as_ref().map(broadcast))?;
        let grad_output_at = index(grad_output.array().map(broadcast))?;
        let value = index(results.value.as_ref().map(|array| Ok(array.view())))?;
        let (losses, of_losses) = lay_out(&losses_shape, views, false);
        let at = |index: Option<usize>| index.map(|index| &of_losses[index]);
        let slope = results.slope[0].as_ref().map(|slope| matrix(2, slope));
        let call = regions::Call {
            layout: &layout,
            regions: losses.len(),
            classes: self.classes(),
            want,
            input: &matrix(0, &self.input),
            target: &if has_labels {
                Target::Labels(operands[1].clone())
            } else {
                Target::Probabilities(matrix(1, &self.target))
            },
            activation: match (self.settings.from_logits, self.settings.mode) {
                (false, _) => Activation::Identity,
                (true, Mode::Multiclass) => Activation::Softmax,
                (true, _) => Activation::Sigmoid,
            },
            class_weight: self.weight.as_ref().map(|weight| {
                let mut run = weight.run();
                run.stride = weight.strides()[0];
                run
            }),
            ignore_index: self.settings.ignore_index,
            empty: self.settings.empty,
            losses: &losses,
            sample_weight: at(sample_weight),
            grad_output: at(grad_output_at),
            factor: grad_output.factor(),
            mean: self.reduction == Reduction::Mean,
            value: at(value),
            slope: slope.as_ref(),
        };
        let total = interruptible(self.py, layout.len().saturating_mul(call.classes), |stop| {
            // SAFETY: the arrays live as long as the call; results were checked to be writable and apart from what is read.
            unsafe { call.run::<T>(self.loss, stop) }
        })?;
        let total = total.map_err(|failure| self.error(failure))?;
        Ok(total.sum.value() / if call.mean { total.weight.value() } else { 1.0 })
    }

    /// What was wrong, in the arguments' names.
    fn error(&self, failure: Failure) -> PyErr {
        match failure {
            Failure::Label { row, label } => error::label(self.py, row, &self.samples(), label, self.classes()),
            Failure::Domain { operand, index } => {
                let array = if operand == 0 { &self.input } else { &self.target };
                // Counted position by position and then class by class.
                let (classes, image) = (self.classes(), self.samples()[1..].iter().product::<usize>());
                let (position, class) = (index / classes, index % classes);
                let index = (position / image * classes + class) * image + position % image;
                let (layout, operands) = lay_out(array.shape(), vec![array.view()], false);
                let mut value = [0.0];
                // SAFETY: the array lives, and has this element.
                unsafe { layout.at(&operands[0], index).load(crate::isa::Isa::active(), &mut value) };
                error::domain(self.py, array.name(), index, array.shape(), value[0], Domain::Interval(0.0, 1.0))
            }
            Failure::Memory => PyMemoryError::new_err("there is not enough memory for the sums of the images"),
            other => unreachable!("{other:?} of a loss of regions"),
        }
    }
}

impl<'py> call::Call<'py> for Regions<'_, 'py> {
    fn input(&self, index: usize) -> Option<&Array<'py>> {
        (index == 0).then_some(&self.input)
    }

    fn visit(&self, visitor: &mut dyn FnMut(&Array<'py>) -> PyResult<()>) -> PyResult<()> {
        let weights = [&self.weight, &self.sample_weight];
        [&self.input, &self.target].into_iter().chain(weights.into_iter().flatten()).try_for_each(visitor)
    }

    fn losses_shape(&self) -> Vec<usize> {
        if self.settings.per_image { vec![self.input.shape()[0]] } else { Vec::new() }
    }

    fn run(&self, want: Want, results: &Results<'py>, grad_output: &GradOutput<'py>) -> PyResult<f64> {
        if self.input.is_double() {
            self.run::<f64>(want, results, grad_output)
        } else {
            self.run::<f32>(want, results, grad_output)
        }
    }
}
