//! A call from Python: arguments to layouts, a driver, results to objects.

use std::cell::Cell;

use pyo3::exceptions::{PyRuntimeError, PyRuntimeWarning, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyFloat;

use crate::drive::layout::Operand;
use crate::drive::rows::{Matrix, Target};
use crate::drive::{Failure, SPREAD_FROM, Want, pointwise, rows};
use crate::losses;
use crate::python::array::{Array, View, lay_out, tuple};
use crate::python::{Loss, error};
use crate::storage::Dtype;
use crate::threads;

/// What becomes of the losses of the samples.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Reduction {
    /// They are returned.
    None,
    /// Their sum over the sum of their weights.
    Mean,
    /// Their sum.
    Sum,
}

impl<'py> FromPyObject<'_, 'py> for Reduction {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        match object.extract::<&str>() {
            Ok("mean") => Ok(Self::Mean),
            Ok("sum") => Ok(Self::Sum),
            Ok("none") => Ok(Self::None),
            Ok(other) => {
                Err(PyValueError::new_err(format!("reduction must be 'none', 'mean' or 'sum', got {other:?}")))
            }
            Err(_) => {
                let class = object.get_type().name()?;
                Err(PyTypeError::new_err(format!(
                    "reduction must be 'none', 'mean' or 'sum', got an object of type {class}"
                )))
            }
        }
    }
}

/// What all verbs take.
pub struct Arguments<'a, 'py> {
    pub input: &'a Bound<'py, PyAny>,
    pub target: &'a Bound<'py, PyAny>,
    pub weight: Option<&'a Bound<'py, PyAny>>,
    pub pos_weight: Option<&'a Bound<'py, PyAny>>,
    pub sample_weight: Option<&'a Bound<'py, PyAny>>,
    pub reduction: Reduction,
}

/// A call whose arguments are arrays of shapes that fit.
pub struct Call<'a, 'py> {
    py: Python<'py>,
    loss: &'a Loss,
    input: Array<'py>,
    target: Array<'py>,
    weight: Option<Array<'py>>,
    pos_weight: Option<Array<'py>>,
    sample_weight: Option<Array<'py>>,
    reduction: Reduction,
}

/// Where results go.
#[derive(Default)]
struct Results<'py> {
    value: Option<Array<'py>>,
    slope: Option<Array<'py>>,
    curvature: Option<Array<'py>>,
}

/// What a gradient is multiplied by.
enum GradOutput<'py> {
    Number(f64),
    Array(Array<'py>),
}

impl Loss {
    pub fn call<'a, 'py>(&'a self, arguments: &Arguments<'_, 'py>) -> PyResult<Call<'a, 'py>> {
        let optional =
            |name, object: Option<&Bound<'py, PyAny>>| object.map(|object| Array::new(name, object)).transpose();
        let call = Call {
            py: arguments.input.py(),
            loss: self,
            input: Array::new("input", arguments.input)?,
            target: Array::new("target", arguments.target)?,
            weight: optional("weight", arguments.weight)?,
            pos_weight: optional("pos_weight", arguments.pos_weight)?,
            sample_weight: optional("sample_weight", arguments.sample_weight)?,
            reduction: arguments.reduction,
        };
        call.check_shapes()?;
        Ok(call)
    }
}

impl<'py> Call<'_, 'py> {
    /// The losses.
    pub fn value(&self, out: Option<&Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyAny>> {
        if out.is_some() && self.reduction != Reduction::None {
            return Err(PyValueError::new_err("out takes the losses of the samples; it goes with reduction='none'"));
        }
        let mut results = Results { value: self.losses(out)?, ..Results::default() };
        let value = self.run(Want::Value, &mut results, &GradOutput::Number(1.0))?;
        Ok(self.reduced(value, results.value))
    }

    /// The losses and the gradient.
    pub fn value_and_grad(&self, out: Option<&Bound<'py, PyAny>>) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
        let mut results = Results { value: self.losses(None)?, slope: Some(self.derivative(out)?), curvature: None };
        let value = self.run(Want::ValueAndGradient, &mut results, &GradOutput::Number(1.0))?;
        let gradient = results.slope.take();
        Ok((self.reduced(value, results.value), object(gradient)?))
    }

    /// The gradient and the diagonal of the Hessian.
    pub fn grad_and_hess(
        &self,
        out: Option<&(Bound<'py, PyAny>, Bound<'py, PyAny>)>,
    ) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
        let slope = self.derivative(out.map(|pair| &pair.0))?;
        let curvature = self.derivative(out.map(|pair| &pair.1))?;
        if out.is_some() {
            slope.check_apart(&curvature, false)?;
        }
        let mut results = Results { value: None, slope: Some(slope), curvature: Some(curvature) };
        self.run(Want::GradientAndHessian, &mut results, &GradOutput::Number(1.0))?;
        Ok((object(results.slope)?, object(results.curvature)?))
    }

    /// The gradient times the gradient with respect to the loss.
    pub fn backward(
        &self,
        grad_output: &Bound<'py, PyAny>,
        out: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let grad_output = if self.reduction == Reduction::None {
            GradOutput::Array(Array::new("grad_output", grad_output)?)
        } else {
            let number = grad_output.extract().map_err(|_| {
                PyTypeError::new_err(
                    "grad_output must be a number, as the loss is, where it is reduced to 'mean' or 'sum'",
                )
            })?;
            GradOutput::Number(number)
        };
        let mut results = Results { slope: Some(self.derivative(out)?), ..Results::default() };
        self.run(Want::Gradient, &mut results, &grad_output)?;
        object(results.slope)
    }

    /// The type that is computed in: whether it is double precision.
    fn is_double(&self) -> bool {
        !matches!(self.input.dtype(), Dtype::Float32 | Dtype::Float16 | Dtype::Bfloat16)
    }

    fn is_rowwise(&self) -> bool {
        matches!(self.loss.loss, losses::Loss::Rowwise { .. })
    }

    /// Whether targets are probabilities: whether their shape is the input's.
    fn is_of_probabilities(&self) -> bool {
        self.is_rowwise() && self.input.shape() == self.target.shape()
    }

    fn check_shapes(&self) -> PyResult<()> {
        let (input, target) = (self.input.shape(), self.target.shape());
        if !self.is_rowwise() {
            return if input == target {
                Ok(())
            } else {
                let (input, target) = (tuple(input), tuple(target));
                Err(PyValueError::new_err(format!(
                    "input has shape {input} and target {target}; they must be the same"
                )))
            };
        }
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
        let losses::Loss::Rowwise { probabilities, .. } = &self.loss.loss else { return Ok(()) };
        if target == self.samples() {
            return Ok(());
        }
        let labels = tuple(&self.samples());
        if probabilities.is_none() || input != target {
            let or = if probabilities.is_some() { " or, as probabilities, the input's" } else { "" };
            let (input, target) = (tuple(input), tuple(target));
            return Err(PyValueError::new_err(format!(
                "target has shape {target}; expected {labels} as labels{or}, for an input of shape {input}"
            )));
        }
        if self.loss.ignore_index.is_some_and(|index| index >= 0) {
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
        if self.is_rowwise() {
            shape.remove(self.class_axis());
        }
        shape
    }

    /// Where the losses go, if they are not reduced.
    fn losses(&self, out: Option<&Bound<'py, PyAny>>) -> PyResult<Option<Array<'py>>> {
        if self.reduction != Reduction::None {
            return Ok(None);
        }
        Ok(Some(match out {
            Some(out) => self.apart(self.input.given("out", out, &self.samples())?)?,
            None if self.is_rowwise() => self.input.new_of("losses", &self.samples())?,
            None => self.input.new_like("losses")?,
        }))
    }

    /// Where a derivative goes.
    fn derivative(&self, out: Option<&Bound<'py, PyAny>>) -> PyResult<Array<'py>> {
        match out {
            Some(out) => self.apart(self.input.given("out", out, self.input.shape())?),
            None => self.input.new_like("gradient"),
        }
    }

    /// A result that shares memory with an argument at most element by element.
    fn apart(&self, out: Array<'py>) -> PyResult<Array<'py>> {
        // An element is written after all that it is computed from has been read, which of a row is a whole row.
        let may_be_same = |other: &Array<'_>| out.shape() == self.input.shape() && other.shape() == self.input.shape();
        let arguments = [&self.weight, &self.pos_weight, &self.sample_weight];
        for other in [&self.input, &self.target].into_iter().chain(arguments.into_iter().flatten()) {
            out.check_apart(other, may_be_same(other))?;
        }
        Ok(out)
    }

    /// Runs the call into the results; what it reduces to.
    fn run(&self, want: Want, results: &mut Results<'py>, grad_output: &GradOutput<'py>) -> PyResult<f64> {
        if let GradOutput::Array(array) = grad_output
            && let Some(slope) = &results.slope
        {
            slope.check_apart(array, array.shape() == self.input.shape())?;
        }
        match &self.loss.loss {
            losses::Loss::Pointwise(loss) => {
                if self.is_double() {
                    self.run_pointwise::<f64>(&**loss, want, results, grad_output)
                } else {
                    self.run_pointwise::<f32>(&**loss, want, results, grad_output)
                }
            }
            losses::Loss::Rowwise { labels, probabilities } => {
                let loss = match probabilities {
                    Some(probabilities) if self.is_of_probabilities() => probabilities,
                    _ => labels,
                };
                if self.is_double() {
                    self.run_rows::<f64>(&**loss, want, results, grad_output)
                } else {
                    self.run_rows::<f32>(&**loss, want, results, grad_output)
                }
            }
        }
    }

    fn run_pointwise<T: pointwise::Kind>(
        &self,
        loss: &dyn pointwise::Loss,
        want: Want,
        results: &Results<'py>,
        grad_output: &GradOutput<'py>,
    ) -> PyResult<f64> {
        let shape = self.input.shape();
        let broadcast = |array: &Array<'py>| array.broadcast(shape, "the input's shape");
        // In this order: operands; weights that the mean divides by; other weights; and what else there is.
        let mut views: Vec<View> = Vec::with_capacity(8);
        views.push(self.input.view());
        views.push(self.target.view());
        let mut divisors = 0;
        for (array, divides) in [(&self.sample_weight, true), (&self.weight, loss.weight_normalises())] {
            if let Some(array) = array {
                let view = broadcast(array)?;
                views.insert(if divides { 2 } else { views.len() }, view);
                divisors += usize::from(divides);
            }
        }
        let weights = views.len() - 2;
        let mut index = |array: Option<&Array<'py>>| -> PyResult<Option<usize>> {
            let Some(array) = array else { return Ok(None) };
            views.push(broadcast(array)?);
            Ok(Some(views.len() - 1))
        };
        let pos_weight = index(self.pos_weight.as_ref())?;
        let grad_output_at = index(if let GradOutput::Array(array) = grad_output { Some(array) } else { None })?;
        let value = index(results.value.as_ref())?;
        let slope = index(results.slope.as_ref())?;
        let curvature = index(results.curvature.as_ref())?;
        let domain = T::blocks(loss).domain();
        let (layout, operands) = lay_out(shape, &views, domain.is_none());
        let at = |index: Option<usize>| index.map(|index| &operands[index]);
        let one = Operand::one();
        let third = at(pos_weight).unwrap_or(&one);
        let inputs = [operands[0].clone(), operands[1].clone(), third.clone()];
        let weights = &operands[2..2 + weights];
        let (reduction, factor) = (self.reduction, grad_output.factor());
        self.interruptible(layout.len(), |stop| {
            // SAFETY: the arrays live as long as the call; results were checked to be writable and apart from what is read.
            unsafe {
                let total = if reduction != Reduction::Mean {
                    1.0
                } else if divisors > 0 {
                    pointwise::total_weight::<T>(&layout, &weights[..divisors], stop)?.value()
                } else {
                    layout.len() as f64
                };
                let mut call = pointwise::Call {
                    layout: &layout,
                    want: Want::Value,
                    operands: &inputs[..loss.operands()],
                    weights,
                    grad_output: at(grad_output_at),
                    factor: factor / total,
                    value: None,
                    slope: None,
                    curvature: None,
                    sum: false,
                };
                let overwrites = |index: Option<usize>| {
                    index.is_some_and(|index| inputs.iter().any(|input| input.run.first == operands[index].run.first))
                };
                if domain.is_some() && (overwrites(slope) || overwrites(curvature) || overwrites(value)) {
                    // What an error would be about must not be lost.
                    call.run(T::blocks(loss), stop)?;
                }
                call.want = want;
                (call.value, call.slope, call.curvature) = (at(value), at(slope), at(curvature));
                call.sum = reduction != Reduction::None && want.value();
                Ok(call.run(T::blocks(loss), stop)?.value() / total)
            }
        })
    }

    fn run_rows<T: rows::Kind>(
        &self,
        loss: &dyn rows::Loss,
        want: Want,
        results: &Results<'py>,
        grad_output: &GradOutput<'py>,
    ) -> PyResult<f64> {
        let samples = self.samples();
        let axis = self.class_axis();
        let of_samples = |array: &Array<'py>| array.along((0..array.shape().len()).filter(|&other| other != axis));
        let broadcast = |array: &Array<'py>| array.broadcast(&samples, "the samples' shape");
        let probabilities = self.is_of_probabilities();
        let mut views = vec![of_samples(&self.input)];
        views.push(if probabilities { of_samples(&self.target) } else { self.target.view() });
        let mut index = |view: Option<PyResult<View>>| -> PyResult<Option<usize>> {
            let Some(view) = view else { return Ok(None) };
            views.push(view?);
            Ok(Some(views.len() - 1))
        };
        let sample_weight = index(self.sample_weight.as_ref().map(broadcast))?;
        let grad_output_at =
            index(if let GradOutput::Array(array) = grad_output { Some(broadcast(array)) } else { None })?;
        let value = index(results.value.as_ref().map(|array| Ok(array.view())))?;
        let slope = index(results.slope.as_ref().map(|array| Ok(of_samples(array))))?;
        let curvature = index(results.curvature.as_ref().map(|array| Ok(of_samples(array))))?;
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
        let slope = slope.zip(results.slope.as_ref()).map(|(index, array)| matrix(index, array));
        let curvature = curvature.zip(results.curvature.as_ref()).map(|(index, array)| matrix(index, array));
        let weight = self.weight.as_ref().map(|weight| {
            let mut run = weight.run();
            run.stride = weight.strides()[0];
            rows::Weight::Classes(run)
        });
        let mut call = rows::Call {
            layout: &layout,
            want,
            classes: self.classes(),
            input: &input,
            target: &target,
            weight: weight.as_ref(),
            ignore_index: self.loss.ignore_index,
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
                let weight = call.total_weight(T::blocks(loss), stop)?.value();
                let total = if is_mean { weight } else { 1.0 };
                call.factor = factor / total;
                Ok(call.run(T::blocks(loss), stop)?.value() / total)
            }
        })
    }

    /// Runs work on so many elements; if they are many, without the interpreter, and answering its signals.
    fn interruptible<R: Send>(
        &self,
        elements: usize,
        work: impl FnOnce(&dyn Fn() -> bool) -> Result<R, Failure> + Send,
    ) -> PyResult<R> {
        match interruptible(self.py, elements, work)? {
            Ok(result) => Ok(result),
            Err(failure) => Err(self.error(failure)),
        }
    }

    /// What was wrong, in the arguments' names.
    fn error(&self, failure: Failure) -> PyErr {
        match failure {
            Failure::Interrupted => unreachable!("`interruptible` has raised"),
            Failure::Label { row, label } => error::label(self.py, row, &self.samples(), label, self.classes()),
            Failure::Domain { operand, index } => {
                let array = if operand == 0 { &self.input } else { &self.target };
                let losses::Loss::Pointwise(loss) = &self.loss.loss else {
                    unreachable!("rowwise losses have no domain")
                };
                let domain = <f64 as pointwise::Kind>::blocks(&**loss).domain().and_then(|domains| domains[operand]);
                let shape = array.shape();
                let (layout, operands) = lay_out(shape, &[array.view()], false);
                let mut value = [0.0];
                // SAFETY: the array lives, and has this element.
                unsafe { layout.at(&operands[0], index).load(crate::isa::Isa::active(), &mut value) };
                error::domain(self.py, array.name(), index, shape, value[0], domain.unwrap_or_default())
            }
        }
    }

    /// The losses, or what they were reduced to.
    fn reduced(&self, value: f64, losses: Option<Array<'py>>) -> Bound<'py, PyAny> {
        match losses {
            Some(losses) => losses.into_object(),
            None => PyFloat::new(self.py, value).into_any(),
        }
    }
}

impl GradOutput<'_> {
    fn factor(&self) -> f64 {
        match self {
            Self::Number(number) => *number,
            Self::Array(_) => 1.0,
        }
    }
}

/// The array of a result that was asked for.
fn object(array: Option<Array<'_>>) -> PyResult<Bound<'_, PyAny>> {
    array.map(Array::into_object).ok_or_else(|| PyValueError::new_err("no result"))
}

/// Runs work on so many elements; if they are many, without the interpreter, and answering its signals.
///
/// # Errors
/// What a signal's handler raised, `KeyboardInterrupt` above all; and warnings that are errors.
pub fn interruptible<R: Send>(
    py: Python<'_>,
    elements: usize,
    work: impl FnOnce(&dyn Fn() -> bool) -> Result<R, Failure> + Send,
) -> PyResult<Result<R, Failure>> {
    if elements < SPREAD_FROM {
        return Ok(work(&|| false));
    }
    // The first time this reads the environment, which others may write once the interpreter is released.
    threads::threads();
    let (result, raised) = py.detach(|| {
        let raised: Cell<Option<PyErr>> = Cell::new(None);
        let answers = Cell::new(true);
        let ask = |py: Python<'_>| {
            // Others have no signals to answer, and would wait for the interpreter each time.
            answers.set(is_main_thread(py)?);
            py.check_signals()
        };
        let result = work(&|| {
            // At the end of the interpreter there is nobody to ask.
            if answers.get()
                && let Some(Err(error)) = Python::try_attach(ask)
            {
                raised.set(Some(error));
                return true;
            }
            false
        });
        (result, raised.into_inner())
    });
    if let Some(error) = raised {
        return Err(error);
    }
    if threads::take_refusal() {
        let message = c"the system refused lossrs threads; it goes on with fewer";
        PyErr::warn(py, &py.get_type::<PyRuntimeWarning>(), message, 1)?;
    }
    match result {
        // Nothing was raised, so it was no signal that interrupted.
        Err(Failure::Interrupted) => Err(PyRuntimeError::new_err(
            "a signal handler forked the process during this call; its result is lost in the child",
        )),
        result => Ok(result),
    }
}

fn is_main_thread(py: Python<'_>) -> PyResult<bool> {
    let threading = py.import("threading")?;
    let ident = threading.call_method0("get_ident")?;
    threading.call_method0("main_thread")?.getattr("ident")?.eq(ident)
}
