//! Losses of a row of vectors.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::drive::embeddings::{self, Loss, MOST_VECTORS};
use crate::drive::rows::Matrix;
use crate::drive::{Failure, Want};
use crate::isa::Isa;
use crate::python::array::{Array, View, lay_out, tuple};
use crate::python::call::{self, Arguments, GradOutput, Reduction, Results, check_same_shape, interruptible};
use crate::python::error;

/// A call of such a loss.
pub struct Embeddings<'a, 'py> {
    py: Python<'py>,
    loss: &'a dyn Loss,
    vectors: Vec<Array<'py>>,
    target: Option<Array<'py>>,
    sample_weight: Option<Array<'py>>,
    reduction: Reduction,
}

impl<'a, 'py> Embeddings<'a, 'py> {
    pub fn new(loss: &'a dyn Loss, arguments: &Arguments<'_, 'py>) -> PyResult<Self> {
        let (vectors, target) = loss.operands().split_at(loss.vectors());
        let vectors: Vec<Array<'py>> =
            (0..).zip(vectors).map(|(i, name)| arguments.operand(i, name)).collect::<PyResult<_>>()?;
        let target = target.first().map(|name| arguments.operand(vectors.len(), name)).transpose()?;
        let call = Self {
            py: arguments.operands.py(),
            loss,
            vectors,
            target,
            sample_weight: arguments.sample_weight()?,
            reduction: arguments.reduction,
        };
        call.check_shapes()?;
        Ok(call)
    }

    fn check_shapes(&self) -> PyResult<()> {
        let (first, others) = (&self.vectors[0], &self.vectors[1..]);
        let (name, shape) = (first.name(), tuple(first.shape()));
        if first.shape().is_empty() {
            return Err(PyValueError::new_err(format!("{name} must have an axis of features, got a number")));
        }
        others.iter().try_for_each(|other| check_same_shape(first, other))?;
        if let Some(target) = &self.target
            && target.shape() != self.samples()
        {
            let (target, samples) = (tuple(target.shape()), tuple(self.samples()));
            return Err(PyValueError::new_err(format!(
                "target has shape {target}; expected {samples}, one for each row of {name}, which has shape {shape}"
            )));
        }
        Ok(())
    }

    /// The last axis is that of the features.
    fn axis(&self) -> usize {
        self.vectors[0].shape().len() - 1
    }

    fn features(&self) -> usize {
        self.vectors[0].shape()[self.axis()]
    }

    /// The shape of the losses.
    fn samples(&self) -> &[usize] {
        &self.vectors[0].shape()[..self.axis()]
    }

    fn run<T: embeddings::Kind>(
        &self,
        want: Want,
        results: &Results<'py>,
        grad_output: &GradOutput<'py>,
    ) -> PyResult<f64> {
        let (loss, samples, axis) = (self.loss, self.samples(), self.axis());
        let of_samples = |array: &Array<'py>| array.along(0..axis);
        let broadcast = |array: &Array<'py>| array.broadcast(samples, "the samples' shape");
        let mut views: Vec<View> = self.vectors.iter().map(of_samples).collect();
        let mut index = |view: Option<PyResult<View>>| -> PyResult<Option<usize>> {
            let Some(view) = view else { return Ok(None) };
            views.push(view?);
            Ok(Some(views.len() - 1))
        };
        let target = index(self.target.as_ref().map(|array| Ok(array.view())))?;
        let sample_weight = index(self.sample_weight.as_ref().map(broadcast))?;
        let grad_output_at = index(grad_output.array().map(broadcast))?;
        let value = index(results.value.as_ref().map(|array| Ok(array.view())))?;
        let mut slopes = [None; MOST_VECTORS];
        for (slope, array) in slopes.iter_mut().zip(&results.slope) {
            *slope = index(array.as_ref().map(|array| Ok(of_samples(array))))?;
        }
        let (layout, operands) = lay_out(samples, views, false);
        let at = |index: Option<usize>| index.map(|index| &operands[index]);
        let matrix = |index: usize, array: &Array<'py>| Matrix {
            samples: operands[index].clone(),
            stride: array.strides()[axis],
        };
        let vectors: Vec<Matrix> = self.vectors.iter().enumerate().map(|(i, array)| matrix(i, array)).collect();
        let slopes: Vec<Option<Matrix>> = slopes
            .into_iter()
            .zip(&results.slope)
            .map(|(index, array)| index.zip(array.as_ref()).map(|(index, array)| matrix(index, array)))
            .collect();
        let mut call = embeddings::Call {
            layout: &layout,
            want,
            features: self.features(),
            vectors: &vectors,
            target: at(target),
            domain: loss.targets(),
            sample_weight: at(sample_weight),
            grad_output: at(grad_output_at),
            factor: 1.0,
            value: at(value),
            slopes: &slopes,
            sum: self.reduction != Reduction::None && want.value(),
        };
        let (is_mean, factor) = (self.reduction == Reduction::Mean, grad_output.factor());
        let elements = layout.len().saturating_mul(self.features());
        let outcome = interruptible(self.py, elements, |stop| {
            // SAFETY: the arrays live as long as the call; results were checked to be writable and apart from what is read.
            unsafe {
                let weight = call.total_weight::<T>(stop)?.value();
                let total = if is_mean { weight } else { 1.0 };
                call.factor = factor / total;
                Ok(call.run(T::blocks(loss), stop)?.value() / total)
            }
        })?;
        outcome.map_err(|failure| match failure {
            Failure::Domain { index, .. } => self.misfit(index),
            other => unreachable!("{other:?} of a loss of embeddings"),
        })
    }

    /// A target that is none.
    fn misfit(&self, row: usize) -> PyErr {
        let Some(target) = &self.target else { unreachable!("it has targets") };
        let (layout, operands) = lay_out(self.samples(), vec![target.view()], false);
        let mut value = [0.0];
        // SAFETY: the array lives, and has this element.
        unsafe { layout.at(&operands[0], row).load(Isa::active(), &mut value) };
        error::domain(self.py, target.name(), row, self.samples(), value[0], self.loss.targets())
    }
}

impl<'py> call::Call<'py> for Embeddings<'_, 'py> {
    fn input(&self, index: usize) -> Option<&Array<'py>> {
        self.vectors.get(index)
    }

    fn visit(&self, visitor: &mut dyn FnMut(&Array<'py>) -> PyResult<()>) -> PyResult<()> {
        self.vectors.iter().chain(&self.target).chain(&self.sample_weight).try_for_each(visitor)
    }

    fn losses_shape(&self) -> Vec<usize> {
        self.samples().to_vec()
    }

    fn run(&self, want: Want, results: &Results<'py>, grad_output: &GradOutput<'py>) -> PyResult<f64> {
        if self.vectors[0].is_double() {
            self.run::<f64>(want, results, grad_output)
        } else {
            self.run::<f32>(want, results, grad_output)
        }
    }
}
