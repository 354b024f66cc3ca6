//! Losses of a row of scores.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;

use crate::drive::rows::{self, Matrix, Target, Weight};
use crate::drive::{Failure, Want, label_sets};
use crate::losses::Rowwise;
use crate::python::array::{Array, View, lay_out, tuple};
use crate::python::call::{self, Arguments, GradOutput, Reduction, Results, check_same_shape, interruptible};
use crate::python::error;

/// What the target says, and the formula for that.
#[derive(Clone, Copy)]
enum Kind<'a> {
    /// A label for each sample.
    Labels(&'a dyn rows::Loss),
    /// A probability for each class.
    Probabilities(&'a dyn rows::Loss),
    /// Any number of labels for each sample.
    LabelSets(&'a dyn label_sets::Loss),
}

/// A call of such a loss.
pub struct Rows<'a, 'py> {
    py: Python<'py>,
    kind: Kind<'a>,
    ignore_index: Option<i128>,
    input: Array<'py>,
    target: Array<'py>,
    weight: Option<Array<'py>>,
    sample_weight: Option<Array<'py>>,
    reduction: Reduction,
    /// The axis of classes, if there is one.
    axis: Option<usize>,
    /// The shape of the losses.
    samples: Vec<usize>,
}

impl<'a, 'py> Rows<'a, 'py> {
    pub fn new(loss: &'a Rowwise, arguments: &Arguments<'_, 'py>) -> PyResult<Self> {
        let (input, target) = (arguments.operand(0, "input")?, arguments.operand(1, "target")?);
        // Shapes are looked at when all arguments are arrays, as what makes one of them may change another's shape.
        let (weight, sample_weight) = (arguments.array(loss.weight)?, arguments.sample_weight()?);
        let is_of_elements = loss.labels.is_none();
        let dimensions = input.shape().len();
        let axis = if is_of_elements { dimensions.checked_sub(1) } else { usize::from(dimensions > 1).into() };
        let (labels, probabilities) = (loss.labels.as_deref(), loss.probabilities.as_deref());
        let kind = match (labels, probabilities) {
            // Whether targets are probabilities is whether their shape is the input's.
            (labels, Some(probabilities)) if labels.is_none() || input.shape() == target.shape() => {
                Kind::Probabilities(probabilities)
            }
            (Some(labels), _) => Kind::Labels(labels),
            (None, _) => unreachable!("every loss has a target"),
        };
        let call = Self::with(kind, input, target, sample_weight, axis, loss.takes_numbers, arguments)?;
        let mut call = Self { weight, ignore_index: loss.ignore_index, ..call };
        if is_of_elements {
            check_same_shape(&call.input, &call.target)?;
        } else {
            call.check_target(probabilities.is_some(), loss.takes_numbers)?;
            call.check_weight()?;
        }
        Ok(call)
    }

    pub fn of_sets(loss: &'a dyn label_sets::Loss, arguments: &Arguments<'_, 'py>) -> PyResult<Self> {
        let (input, target) = (arguments.operand(0, "input")?, arguments.operand(1, "target")?);
        let sample_weight = arguments.sample_weight()?;
        let axis = usize::from(input.shape().len() > 1);
        let call = Self::with(Kind::LabelSets(loss), input, target, sample_weight, Some(axis), true, arguments)?;
        check_same_shape(&call.input, &call.target)?;
        Ok(call)
    }

    fn with(
        kind: Kind<'a>,
        input: Array<'py>,
        target: Array<'py>,
        sample_weight: Option<Array<'py>>,
        axis: Option<usize>,
        takes_numbers: bool,
        arguments: &Arguments<'_, 'py>,
    ) -> PyResult<Self> {
        let mut samples = input.shape().to_vec();
        let axis = axis.filter(|&axis| axis < samples.len());
        let (py, reduction) = (arguments.operands.py(), arguments.reduction);
        match axis.map(|axis| samples.remove(axis)) {
            Some(0) => {
                return Err(PyValueError::new_err(format!("input of shape {} has no classes", tuple(input.shape()))));
            }
            None if !takes_numbers => {
                return Err(PyValueError::new_err("input must have an axis of classes, got a number"));
            }
            _ => (),
        }
        let (ignore_index, weight) = (None, None);
        Ok(Self { py, kind, ignore_index, input, target, weight, sample_weight, reduction, axis, samples })
    }

    fn check_weight(&self) -> PyResult<()> {
        if let Some(weight) = &self.weight
            && weight.shape() != [self.classes()]
        {
            let (name, got, classes) = (weight.name(), tuple(weight.shape()), self.classes());
            return Err(PyValueError::new_err(format!(
                "{name} has shape {got}; expected a weight for each class, ({classes},)"
            )));
        }
        Ok(())
    }

    fn check_target(&mut self, takes_probabilities: bool, takes_numbers: bool) -> PyResult<()> {
        let (input, target) = (self.input.shape(), self.target.shape());
        if target == self.samples {
            return Ok(());
        }
        if takes_numbers && self.samples.is_empty() && target == [1] {
            self.samples = vec![1];
            return Ok(());
        }
        let labels = tuple(&self.samples);
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

    fn classes(&self) -> usize {
        self.axis.map_or(1, |axis| self.input.shape()[axis])
    }

    fn run<T: rows::Kind + label_sets::Kind>(
        &self,
        want: Want,
        results: &Results<'py>,
        grad_output: &GradOutput<'py>,
    ) -> PyResult<f64> {
        let (kind, samples, shape) = (self.kind, &self.samples, self.input.shape());
        let broadcast = |array: &Array<'py>| array.broadcast(samples, "the samples' shape");
        let mut views: Vec<View> = Vec::with_capacity(8);
        let mut index = |view: View| {
            views.push(view);
            views.len() - 1
        };
        // The samples of an array of the input's shape, and the distance between its classes.
        let split = |view: View| match self.axis {
            Some(axis) => view.split(shape, axis),
            None => (view, 0),
        };
        let mut matrix = |view: View| {
            let (view, stride) = split(view);
            (index(view), stride)
        };
        let input = matrix(self.input.view());
        let slope = results.slope[0].as_ref().map(|array| matrix(array.view()));
        let curvature = results.curvature[0].as_ref().map(|array| matrix(array.view()));
        let log_prob = results.log_prob.as_ref().map(|array| matrix(array.view()));
        let targets = match kind {
            Kind::Labels(_) => None,
            Kind::Probabilities(_) | Kind::LabelSets(_) => Some(matrix(self.target.view())),
        };
        let weights = match (kind, &self.weight) {
            (Kind::Probabilities(loss), Some(weight)) if T::blocks(loss).traits().weighs_elements => {
                Some(matrix(weight.broadcast(shape, "the input's shape")?))
            }
            _ => None,
        };
        let labels = if targets.is_none() { Some(index(self.target.view())) } else { None };
        let sample_weight = self.sample_weight.as_ref().map(broadcast).transpose()?.map(&mut index);
        let grad_output_at = grad_output.array().map(broadcast).transpose()?.map(&mut index);
        let value = results.value.as_ref().map(|array| index(array.view()));
        let (layout, operands) = lay_out(samples, views, false);
        let at = |index: Option<usize>| index.map(|index| &operands[index]);
        let matrix = |(index, stride): (usize, isize)| Matrix { samples: operands[index].clone(), stride };
        let (input, slope, curvature) = (matrix(input), slope.map(matrix), curvature.map(matrix));
        let log_prob = log_prob.map(matrix);
        let target = match (kind, targets.map(matrix)) {
            (Kind::LabelSets(_), Some(targets)) => Target::LabelSets(targets),
            (_, Some(targets)) => Target::Probabilities(targets),
            (_, None) => Target::Labels(operands[labels.unwrap_or_default()].clone()),
        };
        let weight = match (weights, &self.weight) {
            (Some(weights), _) => Some(Weight::Elements(matrix(weights))),
            (None, Some(weight)) => {
                let mut run = weight.run();
                run.stride = weight.strides()[0];
                Some(Weight::Classes(run))
            }
            (None, None) => None,
        };
        let mut call = rows::Call {
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
            curvature: curvature.as_ref(),
            log_probabilities: log_prob.as_ref(),
            sum: self.reduction != Reduction::None && want.value(),
        };
        let (is_mean, factor) = (self.reduction == Reduction::Mean, grad_output.factor());
        self.interruptible(layout.len().saturating_mul(self.classes()), |stop| {
            // SAFETY: the arrays live as long as the call; results were checked to be writable and apart from what is read.
            unsafe {
                let weight = match kind {
                    Kind::Labels(loss) | Kind::Probabilities(loss) => {
                        call.total_weight::<T>(T::blocks(loss).traits().label_weight_normalises, stop)?
                    }
                    Kind::LabelSets(_) => call.total_weight_of_sets::<T>(stop)?,
                };
                let total = if is_mean { weight.value() } else { 1.0 };
                call.factor = factor / total;
                let sum = match kind {
                    Kind::Labels(loss) | Kind::Probabilities(loss) => call.run(T::blocks(loss), stop)?,
                    Kind::LabelSets(loss) => call.run_sets(T::of_sets(loss), stop)?,
                };
                Ok(sum.value() / total)
            }
        })
    }

    fn interruptible<R: Send>(
        &self,
        elements: usize,
        work: impl FnOnce(&dyn Fn() -> bool) -> Result<R, Failure> + Send,
    ) -> PyResult<R> {
        interruptible(self.py, elements, work)?.map_err(|failure| match failure {
            Failure::Label { row, label } => error::label(self.py, row, &self.samples, label, self.classes()),
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
        self.samples.clone()
    }

    fn run(&self, want: Want, results: &Results<'py>, grad_output: &GradOutput<'py>) -> PyResult<f64> {
        if self.input.is_double() {
            self.run::<f64>(want, results, grad_output)
        } else {
            self.run::<f32>(want, results, grad_output)
        }
    }
}
