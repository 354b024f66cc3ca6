//! A call from Python: the verbs and their results, whatever the kind of loss. Each kind says in a module of its own which
//! arrays it takes, how their shapes must fit, and how its driver runs over them.

mod embeddings;
mod linear;
mod pointwise;
mod regions;
mod rows;
mod sequences;

use std::cell::Cell;

use pyo3::exceptions::{PyRuntimeError, PyRuntimeWarning, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFloat, PyTuple};

use crate::drive::{ALONE_BELOW, Failure, Want};
use crate::losses;
use crate::python::array::{Array, tuple};
use crate::python::{Loss, error};
use crate::threads;

/// The most inputs of a loss that have gradients.
const MOST_INPUTS: usize = 3;

/// What becomes of the losses of the samples.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Reduction {
    /// They are returned.
    None,
    /// Their sum over the sum of their weights.
    Mean,
    /// Their sum.
    Sum,
    /// Their mean times their number in an entry of the first axis.
    BatchMean,
}

impl<'py> FromPyObject<'_, 'py> for Reduction {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        match object.extract::<&str>() {
            Ok("mean") => Ok(Self::Mean),
            Ok("sum") => Ok(Self::Sum),
            Ok("none") => Ok(Self::None),
            Ok("batchmean") => Ok(Self::BatchMean),
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
    /// The operands that must be given, in the loss's order.
    pub operands: &'a Bound<'py, PyTuple>,
    /// The options that are arrays and given, by name.
    pub arrays: Option<&'a Bound<'py, PyDict>>,
    /// Weights of the samples.
    pub sample_weight: Option<&'a Bound<'py, PyAny>>,
    /// What becomes of the losses.
    pub reduction: Reduction,
}

impl<'py> Arguments<'_, 'py> {
    fn operand(&self, index: usize, name: &'static str) -> PyResult<Array<'py>> {
        Array::new(name, &*self.operands.get_borrowed_item(index)?)
    }

    fn array(&self, name: &'static str) -> PyResult<Option<Array<'py>>> {
        match self.arrays {
            Some(arrays) => arrays.get_item(name)?.map(|array| Array::new(name, &array)).transpose(),
            None => Ok(None),
        }
    }

    fn sample_weight(&self) -> PyResult<Option<Array<'py>>> {
        self.sample_weight.map(|weight| Array::new("sample_weight", weight)).transpose()
    }
}

/// A call whose arguments are arrays of shapes that fit. The first of its inputs decides the type that is computed in, and
/// that of the losses.
pub trait Call<'py> {
    /// The inputs that have gradients, in the loss's order.
    fn input(&self, index: usize) -> Option<&Array<'py>>;

    /// Visits everything that is read.
    fn visit(&self, visitor: &mut dyn FnMut(&Array<'py>) -> PyResult<()>) -> PyResult<()>;

    /// The shape of the losses.
    fn losses_shape(&self) -> Vec<usize>;

    /// Where new losses go.
    fn new_losses(&self, input: &Array<'py>) -> PyResult<Array<'py>> {
        input.new_of("losses", &self.losses_shape())
    }

    /// Whether a derivative may be written over what is read of the input's shape: whether an element, and with it all
    /// that it is computed from, is read before it is written.
    fn overwrites(&self) -> bool {
        true
    }

    /// Runs the call into the results; what it reduces to.
    fn run(&self, want: Want, results: &Results<'py>, grad_output: &GradOutput<'py>) -> PyResult<f64>;
}

/// Where results go.
#[derive(Default)]
pub struct Results<'py> {
    /// The losses.
    pub value: Option<Array<'py>>,
    /// The gradient with respect to each input.
    pub slope: [Option<Array<'py>>; MOST_INPUTS],
    /// The diagonal of the Hessian with respect to each input.
    pub curvature: [Option<Array<'py>>; MOST_INPUTS],
    /// The logarithms of the classes' probabilities.
    pub log_prob: Option<Array<'py>>,
}

/// What a gradient is multiplied by.
pub enum GradOutput<'py> {
    /// Where losses are reduced.
    Number(f64),
    /// Where they are not.
    Array(Array<'py>),
}

impl<'py> GradOutput<'py> {
    const ONE: Self = Self::Number(1.0);

    /// The factor that is the same everywhere.
    pub fn factor(&self) -> f64 {
        match self {
            Self::Number(number) => *number,
            Self::Array(_) => 1.0,
        }
    }

    /// The factors, where they differ.
    pub fn array(&self) -> Option<&Array<'py>> {
        match self {
            Self::Number(_) => None,
            Self::Array(array) => Some(array),
        }
    }
}

impl Loss {
    /// The call of this loss with some arguments.
    fn with_call<'py, R>(
        &self,
        arguments: &Arguments<'_, 'py>,
        run: impl FnOnce(&dyn Call<'py>) -> PyResult<R>,
    ) -> PyResult<R> {
        if arguments.reduction == Reduction::BatchMean && !self.description.has_batch_mean {
            return Err(PyValueError::new_err("reduction must be 'none', 'mean' or 'sum', got \"batchmean\""));
        }
        error::without_panic(|| match &self.formula {
            losses::Loss::Pointwise(loss) => run(&pointwise::Pointwise::new(&**loss, arguments)?),
            losses::Loss::Rowwise(loss) => run(&rows::Rows::new(loss, arguments)?),
            losses::Loss::LabelSets(loss) => run(&rows::Rows::of_sets(&**loss, arguments)?),
            losses::Loss::Embeddings(loss) => run(&embeddings::Embeddings::new(&**loss, arguments)?),
            losses::Loss::Sequencewise { loss, blank, zero_infinity } => {
                run(&sequences::Sequences::new(&**loss, *blank, *zero_infinity, arguments)?)
            }
            losses::Loss::Regions { loss, settings } => run(&regions::Regions::new(&**loss, *settings, arguments)?),
            losses::Loss::Linear { loss, ignore_index } => run(&linear::Layer::new(&**loss, *ignore_index, arguments)?),
        })
    }

    /// The loss.
    pub fn evaluate<'py>(
        &self,
        arguments: &Arguments<'_, 'py>,
        out: Option<&Bound<'py, PyAny>>,
        log_prob: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.with_call(arguments, |call| {
            if out.is_some() && arguments.reduction != Reduction::None {
                return Err(PyValueError::new_err(
                    "out takes the losses of the samples; it goes with reduction='none'",
                ));
            }
            let mut results = Results { value: losses(call, arguments.reduction, out)?, ..Results::default() };
            results.log_prob = self.log_prob(call, log_prob)?;
            let value = call.run(Want::Value, &results, &GradOutput::ONE)?;
            let value = reduced(arguments, value, results.value.take());
            match results.log_prob {
                Some(log_prob) => {
                    Ok(PyTuple::new(arguments.operands.py(), [value, log_prob.into_object()])?.into_any())
                }
                None => Ok(value),
            }
        })
    }

    /// Where the log-probabilities go, if they are returned.
    fn log_prob<'py>(&self, call: &dyn Call<'py>, returned: bool) -> PyResult<Option<Array<'py>>> {
        if !returned {
            return Ok(None);
        }
        match call.input(0) {
            Some(input) if self.description.has_log_prob => Ok(Some(input.new_like("log_prob")?)),
            _ => Err(PyTypeError::new_err(format!("{} has no log-probabilities to return", self.name))),
        }
    }

    /// The loss and its gradients; and the log-probabilities, if they are returned.
    pub fn differentiate<'py>(
        &self,
        arguments: &Arguments<'_, 'py>,
        wrt: Option<&Bound<'py, PyAny>>,
        out: Option<&Bound<'py, PyAny>>,
        log_prob: bool,
    ) -> PyResult<Bound<'py, PyTuple>> {
        self.with_call(arguments, |call| {
            let chosen = Chosen::new(call, self.description.asked, wrt)?;
            let mut results = Results { value: losses(call, arguments.reduction, None)?, ..Results::default() };
            chosen.derivatives(call, out, "gradient", &mut results.slope)?;
            check_apart(&results)?;
            results.log_prob = self.log_prob(call, log_prob)?;
            let value = call.run(Want::ValueAndGradient, &results, &GradOutput::ONE)?;
            let gradient = chosen.result(arguments.operands.py(), &mut results.slope)?;
            let value = reduced(arguments, value, results.value.take());
            let py = arguments.operands.py();
            match results.log_prob {
                Some(log_prob) => PyTuple::new(py, [value, gradient, log_prob.into_object()]),
                None => PyTuple::new(py, [value, gradient]),
            }
        })
    }

    /// The gradients and the diagonals of the Hessians.
    pub fn differentiate_twice<'py>(
        &self,
        arguments: &Arguments<'_, 'py>,
        wrt: Option<&Bound<'py, PyAny>>,
        out: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
        self.with_call(arguments, |call| {
            if !self.description.has_hessian {
                return Err(PyTypeError::new_err(format!("{} has no Hessian here; its gradient it has", self.name)));
            }
            let chosen = Chosen::new(call, self.description.asked, wrt)?;
            let outs: Option<(Bound<'py, PyAny>, Bound<'py, PyAny>)> = match out {
                Some(out) => Some(out.extract().map_err(|_| {
                    PyTypeError::new_err("out must be a pair, for the gradient and for the diagonal of the Hessian")
                })?),
                None => None,
            };
            let mut results = Results::default();
            chosen.derivatives(call, outs.as_ref().map(|pair| &pair.0), "gradient", &mut results.slope)?;
            chosen.derivatives(call, outs.as_ref().map(|pair| &pair.1), "hessian", &mut results.curvature)?;
            check_apart(&results)?;
            call.run(Want::GradientAndHessian, &results, &GradOutput::ONE)?;
            let py = arguments.operands.py();
            Ok((chosen.result(py, &mut results.slope)?, chosen.result(py, &mut results.curvature)?))
        })
    }

    /// The gradients times the gradient with respect to the loss.
    pub fn multiply<'py>(
        &self,
        grad_output: &Bound<'py, PyAny>,
        arguments: &Arguments<'_, 'py>,
        wrt: Option<&Bound<'py, PyAny>>,
        out: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        // Before shapes are looked at, as what makes an array of it may change another's.
        let grad_output = if arguments.reduction == Reduction::None {
            GradOutput::Array(Array::new("grad_output", grad_output)?)
        } else {
            let number = grad_output.extract().map_err(|_| {
                PyTypeError::new_err("grad_output must be a number, as the loss is, where it is reduced")
            })?;
            GradOutput::Number(number)
        };
        self.with_call(arguments, |call| {
            let chosen = Chosen::new(call, self.description.asked, wrt)?;
            let mut results = Results::default();
            chosen.derivatives(call, out, "gradient", &mut results.slope)?;
            check_apart(&results)?;
            if let Some(array) = grad_output.array() {
                for slope in results.slope.iter().flatten() {
                    slope.check_apart(array, array.shape() == slope.shape() && call.overwrites())?;
                }
            }
            call.run(Want::Gradient, &results, &grad_output)?;
            chosen.result(arguments.operands.py(), &mut results.slope)
        })
    }
}

/// The inputs that a call's derivatives are with respect to.
struct Chosen {
    indices: [usize; MOST_INPUTS],
    count: usize,
    /// Whether the result is an array, and not a tuple of them.
    is_one: bool,
}

impl Chosen {
    fn new<'py>(call: &dyn Call<'py>, asked: usize, wrt: Option<&Bound<'py, PyAny>>) -> PyResult<Self> {
        let indices = std::array::from_fn(|index| index);
        let Some(wrt) = wrt else {
            // Those of operands that may be given are there if they are.
            let count = (0..asked).take_while(|&index| call.input(index).is_some()).count();
            return Ok(Self { indices, count, is_one: asked == 1 });
        };
        let inputs = || indices.iter().map_while(|&index| call.input(index).map(Array::name));
        let index = |name: &str| {
            inputs().position(|input| input == name).ok_or_else(|| {
                let names: Vec<String> = inputs().map(|name| format!("'{name}'")).collect();
                PyValueError::new_err(format!("wrt must be among {}, got {name:?}", names.join(", ")))
            })
        };
        if let Ok(name) = wrt.extract::<&str>() {
            return Ok(Self { indices: [index(name)?; MOST_INPUTS], count: 1, is_one: true });
        }
        let names: Vec<String> = wrt.extract().map_err(|_| {
            let class = wrt.get_type().name().map_or_else(|_| "an object".into(), |name| name.to_string());
            PyTypeError::new_err(format!("wrt must be the name of an input, or a tuple of names, got {class}"))
        })?;
        let mut chosen = Self { indices, count: names.len(), is_one: false };
        if names.is_empty() || (1..names.len()).any(|i| names[..i].contains(&names[i])) {
            return Err(PyValueError::new_err("wrt must name an input, and each only once"));
        }
        for (chosen, name) in chosen.indices.iter_mut().zip(&names) {
            *chosen = index(name)?;
        }
        Ok(chosen)
    }

    fn indices(&self) -> &[usize] {
        &self.indices[..self.count]
    }

    /// Makes room for derivatives, or takes the caller's.
    fn derivatives<'py>(
        &self,
        call: &dyn Call<'py>,
        out: Option<&Bound<'py, PyAny>>,
        name: &'static str,
        room: &mut [Option<Array<'py>>; MOST_INPUTS],
    ) -> PyResult<()> {
        let outs: Vec<Bound<'py, PyAny>> = match out {
            Some(out) if !self.is_one => {
                let outs = out.cast::<PyTuple>().ok().filter(|outs| outs.len() == self.count);
                let outs = outs.ok_or_else(|| {
                    let count = self.count;
                    PyTypeError::new_err(format!("out must be a tuple of {count} arrays, one for each {name}"))
                })?;
                outs.iter().collect()
            }
            _ => Vec::new(),
        };
        for (i, &index) in self.indices().iter().enumerate() {
            let Some(input) = call.input(index) else { continue };
            let out = if self.is_one { out } else { outs.get(i) };
            room[index] = Some(match out {
                Some(out) => apart(call, input.given("out", out, input.shape())?)?,
                None => input.new_like(name)?,
            });
        }
        Ok(())
    }

    /// The derivatives as they are returned.
    fn result<'py>(
        &self,
        py: Python<'py>,
        room: &mut [Option<Array<'py>>; MOST_INPUTS],
    ) -> PyResult<Bound<'py, PyAny>> {
        let mut object =
            |index: usize| room[index].take().map(Array::into_object).ok_or_else(|| PyValueError::new_err("no result"));
        if self.is_one {
            return object(self.indices[0]);
        }
        let objects: Vec<_> = self.indices().iter().map(|&index| object(index)).collect::<PyResult<_>>()?;
        Ok(PyTuple::new(py, objects)?.into_any())
    }
}

/// Where the losses go, if they are not reduced.
fn losses<'py>(
    call: &dyn Call<'py>,
    reduction: Reduction,
    out: Option<&Bound<'py, PyAny>>,
) -> PyResult<Option<Array<'py>>> {
    let Some(input) = call.input(0).filter(|_| reduction == Reduction::None) else { return Ok(None) };
    Ok(Some(match out {
        Some(out) => apart(call, input.given("out", out, &call.losses_shape())?)?,
        None => call.new_losses(input)?,
    }))
}

/// A result that shares memory with an argument at most element by element.
fn apart<'py>(call: &dyn Call<'py>, out: Array<'py>) -> PyResult<Array<'py>> {
    let shape = call.input(0).map(Array::shape);
    let overwrites = call.overwrites() && shape == Some(out.shape());
    call.visit(&mut |other| out.check_apart(other, overwrites && other.shape() == out.shape()))?;
    Ok(out)
}

/// Refuses results that share memory with one another.
fn check_apart(results: &Results<'_>) -> PyResult<()> {
    let mut others = [&results.value].into_iter().chain(&results.slope).chain(&results.curvature).flatten();
    while let Some(result) = others.next() {
        others.clone().try_for_each(|other| other.check_apart(result, false))?;
    }
    Ok(())
}

/// The losses, or what they were reduced to.
fn reduced<'py>(arguments: &Arguments<'_, 'py>, value: f64, losses: Option<Array<'py>>) -> Bound<'py, PyAny> {
    match losses {
        Some(losses) => losses.into_object(),
        None => PyFloat::new(arguments.operands.py(), value).into_any(),
    }
}

/// Requires two arrays to have one shape.
///
/// # Errors
/// If they have not.
fn check_same_shape(one: &Array<'_>, other: &Array<'_>) -> PyResult<()> {
    if one.shape() == other.shape() {
        return Ok(());
    }
    let (name, shape) = (one.name(), tuple(one.shape()));
    let (other, other_shape) = (other.name(), tuple(other.shape()));
    Err(PyValueError::new_err(format!("{name} has shape {shape} and {other} {other_shape}; they must be the same")))
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
    if elements < ALONE_BELOW {
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
