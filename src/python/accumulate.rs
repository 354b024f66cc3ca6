use std::sync::{Mutex, MutexGuard, PoisonError};

use numpy::IntoPyArray;
use pyo3::exceptions::{PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyInt, PyList, PyString, PyTuple};

use crate::accumulate::{Bootstrap, Clusters, Column, Labels, Name, Part, Report, Rows, State, Texts};
use crate::isa::Isa;
use crate::python::array::Array;
use crate::python::call::interruptible;
use crate::python::error;
use crate::storage::Dtype;
use crate::sum::Summand;

/// The state of an accumulator: `Accumulation(histograms, worst, replicates, seed)`.
///
/// Its lock is taken only where the GIL is not held, and no call to Python is made under it.
#[pyclass(frozen, module = "lossrs._lossrs")]
pub struct Accumulation(Mutex<State>);

/// A column of keys as an argument.
enum Keys<'py> {
    Integers(Array<'py>),
    Texts(Array<'py>),
    Coded(Array<'py>, Vec<Part>),
}

/// Arguments of [`Accumulation::update`] as arrays.
struct Arguments<'py> {
    losses: Array<'py>,
    values: Array<'py>,
    weights: Option<Array<'py>>,
    ignored: Option<Array<'py>>,
    first: i64,
    numbers: Option<Array<'py>>,
    names: Option<Array<'py>>,
    keys: Vec<Keys<'py>>,
    clusters: Option<Array<'py>>,
}

#[pymethods]
impl Accumulation {
    #[new]
    fn new(histograms: bool, worst: usize, replicates: usize, seed: u64) -> Self {
        Self(Mutex::new(State::new(histograms, worst, Bootstrap { replicates, seed })))
    }

    /// What `Accumulation` was called with.
    fn settings(&self, py: Python<'_>) -> (bool, usize, usize, u64) {
        let (histograms, worst, bootstrap) = py.detach(|| self.state().settings());
        (histograms, worst, bootstrap.replicates, bootstrap.seed)
    }

    /// Adds rows: arrays of one length, contiguous, `losses`, `values` and `weights` of one type.
    fn update<'py>(
        &self,
        py: Python<'py>,
        losses: &Bound<'py, PyAny>,
        values: &Bound<'py, PyAny>,
        weights: Option<&Bound<'py, PyAny>>,
        ignored: Option<&Bound<'py, PyAny>>,
        first: i64,
        numbers: Option<&Bound<'py, PyAny>>,
        names: Option<&Bound<'py, PyAny>>,
        keys: &Bound<'py, PyList>,
        clusters: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<()> {
        let optional =
            |name, object: Option<&Bound<'py, PyAny>>| object.map(|object| Array::new(name, object)).transpose();
        let arguments = Arguments {
            losses: Array::new("losses", losses)?,
            values: Array::new("values", values)?,
            weights: optional("weights", weights)?,
            ignored: optional("ignored", ignored)?,
            first,
            numbers: optional("ids", numbers)?,
            names: optional("ids", names)?,
            keys: keys.iter().map(|keys| Keys::new(&keys)).collect::<PyResult<_>>()?,
            clusters: optional("cluster", clusters)?,
        };
        error::without_panic(|| {
            if arguments.losses.dtype() == Dtype::Float32 {
                self.update_of::<f32>(py, &arguments)
            } else {
                self.update_of::<f64>(py, &arguments)
            }
        })
    }

    /// Adds what another holds, which keeps the same.
    fn merge(&self, py: Python<'_>, other: &Bound<'_, Self>) {
        let other = other.get();
        py.detach(|| {
            // The lower address first: two threads may merge two states into each other.
            match std::ptr::from_ref(self).cmp(&std::ptr::from_ref(other)) {
                std::cmp::Ordering::Equal => {
                    let own = self.state().clone();
                    self.state().merge(&own);
                }
                std::cmp::Ordering::Less => {
                    let mut state = self.state();
                    state.merge(&other.state());
                }
                std::cmp::Ordering::Greater => {
                    let other = other.state();
                    self.state().merge(&other);
                }
            }
        });
    }

    /// Numbers rows anew: those from `starts[i]` to before `starts[i + 1]` from `to[i]` on.
    fn renumber(&self, py: Python<'_>, starts: &Bound<'_, PyAny>, to: &Bound<'_, PyAny>) -> PyResult<()> {
        let (starts, to) = (Array::new("starts", starts)?, Array::new("to", to)?);
        let (starts, to) = (starts.elements(Dtype::Int64)?, to.elements(Dtype::Int64)?);
        py.detach(|| self.state().renumber(starts, to));
        Ok(())
    }

    /// An equal state that changes by itself.
    fn copy(&self, py: Python<'_>) -> Self {
        py.detach(|| Self(Mutex::new(self.state().clone())))
    }

    /// What is reported of all rows.
    fn overall<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let columns = py.detach(|| {
            let overall = self.state().overall();
            Columns::of([overall.ungrouped()].into_iter())
        });
        columns.into_dict(py)
    }

    /// What is reported of each group, in the order of the keys.
    fn groups<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let columns = py.detach(|| Columns::of(self.state().reports()));
        columns.into_dict(py)
    }

    fn to_bytes<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        let bytes = py.detach(|| self.state().to_bytes());
        PyBytes::new(py, &bytes)
    }

    /// The state that `to_bytes` wrote.
    #[staticmethod]
    fn from_bytes(py: Python<'_>, state: &[u8]) -> PyResult<Self> {
        let state = py.detach(|| State::from_bytes(state));
        state
            .map(|state| Self(Mutex::new(state)))
            .ok_or_else(|| PyValueError::new_err("not the state of an accumulator"))
    }
}

impl Accumulation {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update_of<T: Summand>(&self, py: Python<'_>, arguments: &Arguments<'_>) -> PyResult<()> {
        let losses: &[T] = arguments.losses.contiguous()?;
        let length = losses.len();
        let weights = arguments.weights.as_ref().map(Array::contiguous).transpose()?;
        let ignored: Option<&[u8]> = arguments.ignored.as_ref().map(|array| array.elements(Dtype::Bool)).transpose()?;
        let numbers: Option<&[i64]> =
            arguments.numbers.as_ref().map(|array| array.elements(Dtype::Int64)).transpose()?;
        let names = arguments.names.as_ref().map(|array| texts(array, length)).transpose()?;
        let clusters = match &arguments.clusters {
            Some(array) if array.dtype() == Dtype::Uint32 => Some(Clusters::Names(texts(array, length)?)),
            Some(array) => Some(Clusters::Numbers(array.elements(Dtype::Int64)?)),
            None => None,
        };
        let values = arguments.values.contiguous()?;
        let mut columns = Vec::with_capacity(arguments.keys.len());
        let mut fits = values.len() == length
            && weights.is_none_or(|weights: &[T]| weights.len() == length)
            && ignored.is_none_or(|ignored| ignored.len() == length)
            && numbers.is_none_or(|numbers| numbers.len() == length)
            && names.is_none_or(|names| names.width * length == names.characters.len())
            && match clusters {
                Some(Clusters::Numbers(numbers)) => numbers.len() == length,
                Some(Clusters::Names(names)) => names.width * length == names.characters.len(),
                None => true,
            };
        for keys in &arguments.keys {
            let column = match keys {
                Keys::Integers(array) => Column::Integers(array.elements(Dtype::Int64)?),
                Keys::Texts(array) => Column::Texts(texts(array, length)?),
                Keys::Coded(codes, parts) => Column::Coded { codes: codes.elements(Dtype::Int64)?, parts },
            };
            fits &= match &column {
                Column::Integers(values) => values.len() == length,
                Column::Texts(texts) => texts.width * length == texts.characters.len(),
                Column::Coded { codes, parts } => {
                    codes.len() == length && codes.iter().all(|&code| (0..parts.len() as i64).contains(&code))
                }
            };
            columns.push(column);
        }
        if !fits {
            return Err(PyValueError::new_err("losses, weights, groups, ids and clusters must be of one length"));
        }
        let labels = Labels { first: arguments.first, numbers, names };
        let rows = Rows { losses, values, weights, ignored, labels, clusters };
        let isa = Isa::active();
        let (_, _, bootstrap) = py.detach(|| self.state().settings());
        // Drawing takes long and may be interrupted: nothing has been added then.
        let drawn = if bootstrap.replicates > 0 {
            let drawn = interruptible(py, length.saturating_mul(bootstrap.replicates), |stop| {
                bootstrap.draw(isa, &rows, &columns, stop)
            })?;
            Some(drawn.map_err(|_| PyValueError::new_err("rows could not be drawn"))?)
        } else {
            None
        };
        py.detach(|| {
            let mut state = self.state();
            state.update(isa, &rows, &columns);
            if let Some(drawn) = &drawn {
                state.add_drawn(drawn);
            }
        });
        Ok(())
    }
}

impl<'py> Keys<'py> {
    /// An array of integers, an array of characters, or codes and what they stand for.
    fn new(object: &Bound<'py, PyAny>) -> PyResult<Self> {
        if let Ok(pair) = object.cast::<PyTuple>() {
            let (codes, parts): (Bound<'py, PyAny>, Vec<Bound<'py, PyAny>>) = pair.extract()?;
            return Ok(Self::Coded(Array::new("group", &codes)?, parts.iter().map(part).collect::<PyResult<_>>()?));
        }
        let array = Array::new("group", object)?;
        Ok(if array.dtype() == Dtype::Uint32 { Self::Texts(array) } else { Self::Integers(array) })
    }
}

/// Texts as an array of characters, `length` times as many as each has.
fn texts<'a>(array: &'a Array<'_>, length: usize) -> PyResult<Texts<'a>> {
    let characters: &[u32] = array.elements(Dtype::Uint32)?;
    Ok(Texts { characters, width: characters.len().checked_div(length).unwrap_or(0) })
}

fn part(object: &Bound<'_, PyAny>) -> PyResult<Part> {
    if object.is_none() {
        return Ok(Part::Null);
    }
    if let Ok(value) = object.cast::<PyBool>() {
        return Ok(Part::Bool(value.is_true()));
    }
    if object.is_instance_of::<PyInt>() {
        return object
            .extract()
            .map(Part::Integer)
            .map_err(|_| PyOverflowError::new_err(format!("group {object} is beyond 64 bits")));
    }
    if object.is_instance_of::<PyString>() {
        let text = object.call_method1("encode", ("utf-8", "surrogatepass"))?;
        return Ok(Part::Text(text.extract::<&[u8]>()?.to_vec()));
    }
    let class = object.get_type().name()?;
    Err(PyTypeError::new_err(format!("a group is an integer, a string, a bool or None, got {class}")))
}

fn text_object<'py>(py: Python<'py>, text: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    if let Ok(text) = std::str::from_utf8(text) {
        return Ok(PyString::new(py, text).into_any());
    }
    let bytes = PyBytes::new(py, text);
    let surrogates = bytes.call_method1("decode", ("utf-8", "surrogatepass"));
    // Only of a state that nobody wrote.
    surrogates.or_else(|_| bytes.call_method1("decode", ("utf-8", "replace")))
}

fn part_object<'py>(py: Python<'py>, part: &Part) -> PyResult<Bound<'py, PyAny>> {
    Ok(match part {
        Part::Bool(value) => PyBool::new(py, *value).to_owned().into_any(),
        Part::Integer(value) => value.into_pyobject(py)?.into_any(),
        Part::Text(text) => text_object(py, text)?,
        Part::Null => py.None().into_bound(py),
    })
}

/// Reports of groups, a column for each figure.
#[derive(Default)]
struct Columns {
    keys: Vec<Vec<Part>>,
    counts: [Vec<u64>; 3],
    sums: [Vec<f64>; 4],
    extremes: [Vec<f64>; 2],
    rows: [Vec<i64>; 2],
    names: [Vec<Name>; 2],
    bucket_ends: Option<Vec<u64>>,
    edges: [Vec<f64>; 2],
    buckets: Vec<u64>,
    worst_ends: Vec<u64>,
    worst_losses: Vec<f64>,
    worst_rows: Vec<i64>,
    worst_names: Vec<Name>,
    /// Of all groups in turn.
    replicates: [Vec<f64>; 2],
}

impl Columns {
    fn of<'a>(reports: impl Iterator<Item = Report<'a>>) -> Self {
        let mut columns = Self::default();
        for report in reports {
            for (i, part) in report.key().into_iter().enumerate() {
                if columns.keys.len() == i {
                    columns.keys.push(Vec::new());
                }
                columns.keys[i].push(part);
            }
            push(&mut columns.counts, report.counts());
            let summary = report.summary();
            push(&mut columns.sums, [summary.weight, summary.sum, summary.mean, summary.standard_error]);
            let extremes = report.extremes();
            push(&mut columns.extremes, extremes.each_ref().map(|mark| mark.loss));
            push(&mut columns.rows, extremes.each_ref().map(|mark| mark.row));
            push(&mut columns.names, extremes.map(|mark| mark.name));
            if let Some((lower, upper, counts)) = report.histogram() {
                push_all(&mut columns.edges, [lower, upper]);
                columns.buckets.extend(counts);
                columns.bucket_ends.get_or_insert_default().push(columns.buckets.len() as u64);
            }
            for sums in report.replicates() {
                push(&mut columns.replicates, sums);
            }
            for mark in report.worst() {
                columns.worst_losses.push(mark.loss);
                columns.worst_rows.push(mark.row);
                columns.worst_names.push(mark.name.clone());
            }
            columns.worst_ends.push(columns.worst_losses.len() as u64);
        }
        columns
    }

    fn into_dict(self, py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
        let dict = PyDict::new(py);
        let keys = self.keys.into_iter().map(|column| {
            let integers: Option<Vec<i64>> =
                column.iter().map(|part| if let Part::Integer(value) = part { Some(*value) } else { None }).collect();
            if let Some(integers) = integers {
                return Ok(integers.into_pyarray(py).into_any());
            }
            let objects = column.iter().map(|part| part_object(py, part)).collect::<PyResult<Vec<_>>>()?;
            Ok(PyList::new(py, objects)?.into_any())
        });
        dict.set_item("keys", PyList::new(py, keys.collect::<PyResult<Vec<_>>>()?)?)?;
        for (name, column) in ["rows", "ignored", "nonfinite"].into_iter().zip(self.counts) {
            dict.set_item(name, column.into_pyarray(py))?;
        }
        for (name, column) in ["weight", "sum", "mean", "standard_error"].into_iter().zip(self.sums) {
            dict.set_item(name, column.into_pyarray(py))?;
        }
        for (name, column) in ["minimum", "maximum"].into_iter().zip(self.extremes) {
            dict.set_item(name, column.into_pyarray(py))?;
        }
        for (name, column) in ["minimum_row", "maximum_row"].into_iter().zip(self.rows) {
            dict.set_item(name, column.into_pyarray(py))?;
        }
        for (name, column) in ["minimum_name", "maximum_name"].into_iter().zip(self.names) {
            dict.set_item(name, names(py, &column)?)?;
        }
        if let Some(ends) = self.bucket_ends {
            let [lower, upper] = self.edges.map(|edges| edges.into_pyarray(py));
            dict.set_item("histogram", (ends.into_pyarray(py), lower, upper, self.buckets.into_pyarray(py)))?;
        }
        let [sums, weights] = self.replicates.map(|column| column.into_pyarray(py));
        dict.set_item("replicates", (sums, weights))?;
        let worst_names = names(py, &self.worst_names)?;
        let [losses, rows] =
            [self.worst_losses.into_pyarray(py).into_any(), self.worst_rows.into_pyarray(py).into_any()];
        dict.set_item("worst", (self.worst_ends.into_pyarray(py), losses, rows, worst_names))?;
        Ok(dict)
    }
}

/// Names as a list; None if no row has one.
fn names<'py>(py: Python<'py>, names: &[Name]) -> PyResult<Option<Bound<'py, PyList>>> {
    if names.iter().all(Option::is_none) {
        return Ok(None);
    }
    let objects = names.iter().map(|name| name.as_ref().map(|name| text_object(py, name)).transpose());
    PyList::new(py, objects.collect::<PyResult<Vec<_>>>()?).map(Some)
}

fn push<V, const N: usize>(columns: &mut [Vec<V>; N], values: [V; N]) {
    for (column, value) in columns.iter_mut().zip(values) {
        column.push(value);
    }
}

fn push_all<V, const N: usize>(columns: &mut [Vec<V>; N], values: [Vec<V>; N]) {
    for (column, values) in columns.iter_mut().zip(values) {
        column.extend(values);
    }
}
