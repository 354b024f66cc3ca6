//! Losses of one element at a time.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::drive::layout::Layout;
use crate::drive::pointwise::{self, Loss, MOST_OPERANDS, MOST_SLOPES};
use crate::drive::{Failure, Want};
use crate::python::array::{Array, View, lay_out, tuple};
use crate::python::call::{self, Arguments, GradOutput, Reduction, Results, check_same_shape, interruptible};
use crate::python::error;

/// A call of such a loss.
pub struct Pointwise<'a, 'py> {
    py: Python<'py>,
    loss: &'a dyn Loss,
    operands: [Option<Array<'py>>; MOST_OPERANDS],
    weight: Option<Array<'py>>,
    sample_weight: Option<Array<'py>>,
    reduction: Reduction,
}

impl<'a, 'py> Pointwise<'a, 'py> {
    // Inlined, as to move a call takes as long as to make it.
    #[inline(always)]
    pub fn new(loss: &'a dyn Loss, arguments: &Arguments<'_, 'py>) -> PyResult<Self> {
        let (py, reduction) = (arguments.operands.py(), arguments.reduction);
        let operands = [const { None }; MOST_OPERANDS];
        let mut call = Self { py, loss, operands, weight: None, sample_weight: None, reduction };
        for (i, &name) in loss.operands().iter().enumerate() {
            call.operands[i] =
                if i < loss.required() { Some(arguments.operand(i, name)?) } else { arguments.array(name)? };
        }
        call.weight = arguments.array("weight")?;
        call.sample_weight = arguments.sample_weight()?;
        call.check()?;
        Ok(call)
    }

    fn check(&self) -> PyResult<()> {
        (1..self.loss.required()).try_for_each(|i| {
            if self.loss.shared() == Some(i) {
                self.shared_view(self.operand(i)).map(|_| ())
            } else {
                check_same_shape(self.operand(0), self.operand(i))
            }
        })
    }

    fn operand(&self, index: usize) -> &Array<'py> {
        self.operands[index].as_ref().unwrap_or_else(|| unreachable!("required operands are there"))
    }

    fn shape(&self) -> &[usize] {
        self.operand(0).shape()
    }

    /// An operand that may lack the last axis, or all of them, over the input's axes.
    fn shared_view(&self, array: &Array<'py>) -> PyResult<View> {
        let (shape, mine) = (self.shape(), array.shape());
        let fits = match shape.split_last() {
            Some((_, others)) => {
                mine == shape
                    || mine == others
                    || mine.is_empty()
                    || mine.split_last().is_some_and(|(&last, leading)| last == 1 && leading == others)
            }
            None => mine.is_empty(),
        };
        if !fits {
            let (name, mine, shape) = (array.name(), tuple(mine), tuple(shape));
            return Err(PyValueError::new_err(format!(
                "{name} has shape {mine}; expected the input's, {shape}, or that without the last axis, or a number"
            )));
        }
        Ok(if mine == shape { array.view() } else { array.stretched(shape) })
    }

    fn run<T: pointwise::Kind>(
        &self,
        want: Want,
        results: &Results<'py>,
        grad_output: &GradOutput<'py>,
    ) -> PyResult<f64> {
        let (loss, shape) = (self.loss, self.shape());
        let broadcast = |array: &Array<'py>| array.broadcast(shape, "the input's shape");
        // In this order: operands; weights that the mean divides by; other weights; and what else there is.
        let mut views: Vec<View> = Vec::with_capacity(12);
        for (i, array) in self.operands[..loss.operands().len()].iter().enumerate() {
            views.push(match array {
                None => View::one(),
                Some(array) if i >= loss.required() => broadcast(array)?,
                Some(array) if loss.shared() == Some(i) => self.shared_view(array)?,
                Some(array) => array.view(),
            });
        }
        let count = views.len();
        let (weight, divides) = (&self.weight, loss.weight_normalises());
        let divisors = [weight.as_ref().filter(|_| divides), self.sample_weight.as_ref()];
        for array in divisors.into_iter().chain([weight.as_ref().filter(|_| !divides)]).flatten() {
            views.push(broadcast(array)?);
        }
        let (divisors, weights) = (count + divisors.iter().flatten().count(), views.len());
        let mut index = |view: View| {
            views.push(view);
            views.len() - 1
        };
        let grad_output_at = grad_output.array().map(broadcast).transpose()?.map(&mut index);
        let value = results.value.as_ref().map(|array| index(array.view()));
        let mut shared = None;
        let mut at_shared = [None, None];
        let mut derivatives = [[None; MOST_SLOPES]; 2];
        for (order, arrays) in [&results.slope, &results.curvature].into_iter().enumerate() {
            for (i, array) in arrays.iter().enumerate().take(MOST_SLOPES) {
                let Some(array) = array else { continue };
                if array.shape() == shape {
                    derivatives[order][i] = Some(index(array.view()));
                } else {
                    let (layout, mut operands) = lay_out(array.shape(), vec![array.view()], false);
                    shared = Some((i, layout));
                    at_shared[order] = operands.pop();
                }
            }
        }
        let domain = T::blocks(loss).domain();
        let (layout, buffers) = lay_out(shape, views, domain.is_none() && shared.is_none());
        let at = |index: Option<usize>| index.map(|index| &buffers[index]);
        let (operands, divisors, weights) = (&buffers[..count], &buffers[count..divisors], &buffers[count..weights]);
        let (reduction, factor) = (self.reduction, grad_output.factor());
        let entries = shape.first().copied().unwrap_or(1) as f64;
        self.interruptible(layout.len(), |stop| {
            // SAFETY: the arrays live as long as the call; results were checked to be writable and apart from what is read.
            unsafe {
                let weight = || pointwise::total_weight::<T>(&layout, divisors, stop).map(|sum| sum.value());
                let total = match (reduction, divisors) {
                    (Reduction::None | Reduction::Sum, _) => 1.0,
                    (Reduction::Mean, []) => layout.len() as f64,
                    (Reduction::Mean, _) => weight()?,
                    (Reduction::BatchMean, []) => entries,
                    (Reduction::BatchMean, _) => weight()? * (entries / layout.len() as f64),
                };
                let mut call = pointwise::Call {
                    layout: &layout,
                    want: Want::Value,
                    operands,
                    weights,
                    grad_output: at(grad_output_at),
                    factor: factor / total,
                    value: None,
                    slope: [None; MOST_SLOPES],
                    curvature: [None; MOST_SLOPES],
                    shared: None,
                    sum: false,
                };
                let overwrites = |index| {
                    at(index).is_some_and(|output| operands.iter().any(|input| input.run.first == output.run.first))
                };
                if domain.is_some() && derivatives.iter().flatten().chain([&value]).any(|&index| overwrites(index)) {
                    // What an error would be about must not be lost.
                    call.run(T::blocks(loss), stop)?;
                }
                let outputs = |order: usize| {
                    std::array::from_fn(|i| {
                        let is_shared = shared.as_ref().is_some_and(|&(shared, _)| shared == i);
                        if is_shared { at_shared[order].as_ref() } else { at(derivatives[order][i]) }
                    })
                };
                call.want = want;
                (call.value, call.slope, call.curvature) = (at(value), outputs(0), outputs(1));
                call.shared = shared.as_ref().map(|(shared, layout)| (*shared, layout));
                call.sum = reduction != Reduction::None && want.value();
                Ok(call.run(T::blocks(loss), stop)? / total)
            }
        })
    }

    fn interruptible<R: Send>(
        &self,
        elements: usize,
        work: impl FnOnce(&dyn Fn() -> bool) -> Result<R, Failure> + Send,
    ) -> PyResult<R> {
        interruptible(self.py, elements, work)?.map_err(|failure| match failure {
            Failure::Domain { operand, index } => self.outside(operand, index),
            other => unreachable!("{other:?} of a pointwise loss"),
        })
    }

    /// What was wrong, in the arguments' names.
    fn outside(&self, operand: usize, index: usize) -> PyErr {
        let array = self.operand(operand);
        let Some(domains) = <f64 as pointwise::Kind>::blocks(self.loss).domain() else {
            unreachable!("it has domains")
        };
        let shape = self.shape();
        let view = if self.loss.shared() == Some(operand) { self.shared_view(array) } else { Ok(array.view()) };
        let (layout, operands): (Layout, _) = match view {
            Ok(view) => lay_out(shape, vec![view], false),
            Err(error) => return error,
        };
        let mut value = [0.0];
        // SAFETY: the array lives, and has this element.
        unsafe { layout.at(&operands[0], index).load(crate::isa::Isa::active(), &mut value) };
        error::domain(self.py, array.name(), index, shape, value[0], domains[operand])
    }
}

impl<'py> call::Call<'py> for Pointwise<'_, 'py> {
    fn input(&self, index: usize) -> Option<&Array<'py>> {
        self.loss.differentiable().get(index).map(|&operand| self.operand(operand))
    }

    fn visit(&self, visitor: &mut dyn FnMut(&Array<'py>) -> PyResult<()>) -> PyResult<()> {
        let weights = [&self.weight, &self.sample_weight];
        self.operands.iter().chain(weights).flatten().try_for_each(visitor)
    }

    fn losses_shape(&self) -> Vec<usize> {
        self.shape().to_vec()
    }

    fn new_losses(&self, input: &Array<'py>) -> PyResult<Array<'py>> {
        input.new_like("losses")
    }

    fn run(&self, want: Want, results: &Results<'py>, grad_output: &GradOutput<'py>) -> PyResult<f64> {
        if self.operand(0).is_double() {
            self.run::<f64>(want, results, grad_output)
        } else {
            self.run::<f32>(want, results, grad_output)
        }
    }
}
