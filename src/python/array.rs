//! NumPy arrays as addresses and descriptions, read through the fields of `PyArrayObject`.
//!
//! The `numpy` crate's borrow checker takes a process-wide lock for every borrow and refuses results that are their own
//! operand, so it is not used: drivers take raw addresses, and who may write where is checked here.

use std::sync::atomic::{AtomicI32, Ordering};

use numpy::npyffi::{
    NPY_ARRAY_C_CONTIGUOUS, NPY_ARRAY_WRITEABLE, NPY_ORDER, NPY_TYPES, PY_ARRAY_API, PyArray_CheckExact, PyArray_Descr,
    PyArrayObject,
};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::drive::layout::{Layout, Operand};
use crate::python::memory::array_of;
use crate::real::Real;
use crate::storage::{Dtype, Run};

/// An argument as an array.
pub struct Array<'py> {
    name: &'static str,
    object: Bound<'py, PyAny>,
    dtype: Dtype,
    swapped: bool,
}

/// An array's elements over the axes of some shape: their distances along each, or, if they are at equal distances in C order,
/// that of its run alone.
pub struct View(Operand);

impl View {
    fn even(run: Run, stride: isize) -> Self {
        Self(Operand::new(Run { stride, ..run }, Vec::new()))
    }

    fn strided(run: Run, strides: &[isize]) -> Self {
        match *strides {
            [stride] => Self::even(run, stride),
            _ => Self(Operand::new(run, strides.to_vec())),
        }
    }

    /// 1 everywhere.
    pub fn one() -> Self {
        Self(Operand::one())
    }

    fn is_even(&self) -> bool {
        self.0.outer().is_empty()
    }

    fn strides(&self, shape: &[usize]) -> Vec<isize> {
        if !self.is_even() {
            return self.0.outer().to_vec();
        }
        let mut strides = vec![0; shape.len()];
        let mut step = self.0.run.stride;
        for (stride, &length) in strides.iter_mut().zip(shape).rev() {
            *stride = step;
            // Of no elements, lengths may be anything.
            step = step.wrapping_mul(length as isize);
        }
        strides
    }

    /// The elements over a shape's axes but one, and the distance along that.
    pub fn split(self, shape: &[usize], axis: usize) -> (Self, isize) {
        let run = self.0.run;
        if self.is_even() && axis + 1 == shape.len() {
            return (Self::even(run, run.stride.wrapping_mul(shape[axis] as isize)), run.stride);
        }
        let mut strides = self.strides(shape);
        let stride = strides.remove(axis);
        (Self::strided(run, &strides), stride)
    }
}

/// The type number that bfloat16 got when it was registered; -1 until it has been seen.
static BFLOAT16: AtomicI32 = AtomicI32::new(-1);

impl<'py> Array<'py> {
    /// The array that an argument is or becomes.
    ///
    /// # Errors
    /// If its elements are not numbers that losses are made of, or it is masked.
    #[inline]
    pub fn new(name: &'static str, object: &Bound<'py, PyAny>) -> PyResult<Self> {
        let object = as_array(name, object)?;
        // SAFETY: `as_array` returns arrays.
        let descr = unsafe { (*object.as_ptr().cast::<PyArrayObject>()).fields.descr };
        // SAFETY: an array has a descriptor.
        let (type_number, order) = unsafe { ((*descr).fields.type_num, (*descr).fields.byteorder as u8) };
        let dtype = dtype(&object, type_number).ok_or_else(|| {
            let dtype = object.getattr("dtype").map_or_else(|_| "unknown".into(), |dtype| dtype.to_string());
            PyTypeError::new_err(format!(
                "{name} has dtype {dtype}; expected float64, float32, float16, bfloat16, an integer type or bool"
            ))
        })?;
        let swapped = order == if cfg!(target_endian = "little") { b'>' } else { b'<' };
        Ok(Self { name, object, dtype, swapped })
    }

    fn raw(&self) -> *mut PyArrayObject {
        self.object.as_ptr().cast()
    }

    /// The name of the argument.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The type of the elements.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Whether what is computed of the elements is computed in double precision.
    pub fn is_double(&self) -> bool {
        !matches!(self.dtype, Dtype::Float32 | Dtype::Float16 | Dtype::Bfloat16)
    }

    /// The length of each axis.
    pub fn shape(&self) -> &[usize] {
        // SAFETY: an array's fields describe `nd` axes, whose lengths are not negative; the pointer may be null of none.
        unsafe {
            let fields = &(*self.raw()).fields;
            if fields.nd == 0 {
                &[]
            } else {
                std::slice::from_raw_parts(fields.dimensions.cast::<usize>(), fields.nd as usize)
            }
        }
    }

    /// The distance in bytes along each axis.
    pub fn strides(&self) -> &[isize] {
        // SAFETY: as above.
        unsafe {
            let fields = &(*self.raw()).fields;
            if fields.nd == 0 { &[] } else { std::slice::from_raw_parts(fields.strides, fields.nd as usize) }
        }
    }

    fn has_flag(&self, flag: i32) -> bool {
        // SAFETY: an array has flags.
        unsafe { (*self.raw()).fields.flags & flag != 0 }
    }

    /// The first element.
    pub fn run(&self) -> Run {
        // SAFETY: an array has a data pointer.
        let first = unsafe { (*self.raw()).fields.data.cast() };
        Run { first, stride: 0, dtype: self.dtype, swapped: self.swapped }
    }

    /// The elements as a slice.
    ///
    /// # Errors
    /// If they do not lie side by side in C order, as elements of that type.
    pub fn contiguous<T: Real>(&self) -> PyResult<&[T]> {
        let run = Run { stride: self.dtype.size() as isize, ..self.run() };
        // SAFETY: the array holds these elements and lives as long as the slice; that nobody writes them is the caller's word.
        let slice = unsafe { run.as_slice(self.shape().iter().product()) };
        let slice = slice.filter(|_| self.has_flag(NPY_ARRAY_C_CONTIGUOUS));
        slice.ok_or_else(|| {
            PyValueError::new_err(format!("{} must be contiguous and of one type with the others", self.name))
        })
    }

    /// The elements of a type that is no `Real`, as a slice.
    ///
    /// # Errors
    /// If they are of another type or do not lie side by side in C order.
    pub fn elements<E: Copy>(&self, dtype: Dtype) -> PyResult<&[E]> {
        let first = self.run().first.cast::<E>();
        let fits = self.dtype == dtype && !self.swapped && dtype.size() == size_of::<E>() && first.is_aligned();
        if !fits || !self.has_flag(NPY_ARRAY_C_CONTIGUOUS) {
            return Err(PyTypeError::new_err(format!("{} must be a contiguous array of its type", self.name)));
        }
        // SAFETY: the array holds these elements and lives as long as the slice; that nobody writes them is the caller's word.
        Ok(unsafe { std::slice::from_raw_parts(first, self.shape().iter().product()) })
    }

    /// The elements over the array's own axes.
    pub fn view(&self) -> View {
        if self.has_flag(NPY_ARRAY_C_CONTIGUOUS) {
            return View::even(self.run(), self.dtype.size() as isize);
        }
        View::strided(self.run(), self.strides())
    }

    /// The elements over the axes of a shape that the array is broadcast to.
    ///
    /// # Errors
    /// If it does not broadcast to that shape.
    pub fn broadcast(&self, shape: &[usize], to: &str) -> PyResult<View> {
        if self.shape() == shape {
            return Ok(self.view());
        }
        let mine = self.shape();
        if mine.is_empty() {
            return Ok(View::even(self.run(), 0));
        }
        let fits = mine.len() <= shape.len()
            && mine.iter().rev().zip(shape.iter().rev()).all(|(&mine, &theirs)| mine == theirs || mine == 1);
        if !fits {
            return Err(PyValueError::new_err(format!(
                "{} of shape {} does not broadcast to {to}, {}",
                self.name,
                tuple(mine),
                tuple(shape)
            )));
        }
        let mut strides = vec![0; shape.len() - mine.len()];
        strides.extend(mine.iter().zip(self.strides()).map(|(&length, &stride)| if length == 1 { 0 } else { stride }));
        Ok(View::strided(self.run(), &strides))
    }

    /// The elements over the leading axes of a shape, each the same along the others.
    pub fn stretched(&self, shape: &[usize]) -> View {
        let mut strides: Vec<isize> = self
            .shape()
            .iter()
            .zip(self.strides())
            .map(|(&length, &stride)| if length == 1 { 0 } else { stride })
            .collect();
        strides.resize(shape.len(), 0);
        View::strided(self.run(), &strides)
    }

    /// The elements over some of the array's axes.
    pub fn along(&self, axes: impl Iterator<Item = usize>) -> View {
        let strides: Vec<isize> = axes.map(|axis| self.strides()[axis]).collect();
        View::strided(self.run(), &strides)
    }

    /// A new array of this one's float type, in native byte order; of float64 for integers.
    fn result_descr(&self) -> *mut PyArray_Descr {
        let py = self.object.py();
        // SAFETY: descriptors are reference-counted, and the caller hands the reference on to a function that takes it.
        unsafe {
            if self.dtype.is_float() && !self.swapped {
                let descr = (*self.raw()).fields.descr;
                pyo3::ffi::Py_INCREF(descr.cast());
                descr
            } else {
                let number = match self.dtype {
                    Dtype::Float32 => NPY_TYPES::NPY_FLOAT as i32,
                    Dtype::Float16 => NPY_TYPES::NPY_HALF as i32,
                    Dtype::Bfloat16 => BFLOAT16.load(Ordering::Relaxed),
                    _ => NPY_TYPES::NPY_DOUBLE as i32,
                };
                PY_ARRAY_API.PyArray_DescrFromType(py, number as _)
            }
        }
    }

    /// The type of a result like this array: the same float type, or float64 for integers.
    fn result_dtype(&self) -> Dtype {
        if self.dtype.is_float() { self.dtype } else { Dtype::Float64 }
    }

    /// The bytes of a result of a shape.
    fn result_bytes(&self, shape: &[usize]) -> usize {
        shape.iter().fold(self.result_dtype().size(), |bytes, &length| bytes.saturating_mul(length))
    }

    /// A new array like this one, its memory in the same order.
    pub fn new_like(&self, name: &'static str) -> PyResult<Self> {
        let py = self.object.py();
        let object = array_of(py, self.result_bytes(self.shape()), || {
            let (order, descr) = (NPY_ORDER::NPY_KEEPORDER, self.result_descr());
            // SAFETY: takes the descriptor's reference, returns a new array or sets an exception.
            unsafe {
                let array = PY_ARRAY_API.PyArray_NewLikeArray(py, self.raw(), order, descr, 0);
                Bound::from_owned_ptr_or_err(py, array)
            }
        })?;
        Array::new(name, &object)
    }

    /// A new array of a shape, in C order.
    pub fn new_of(&self, name: &'static str, shape: &[usize]) -> PyResult<Self> {
        let py = self.object.py();
        let bytes = self.result_bytes(shape);
        let shape: Vec<isize> = shape.iter().map(|&length| length as isize).collect();
        // SAFETY: as above; the shape is copied.
        let object = array_of(py, bytes, || unsafe {
            let array = PY_ARRAY_API.PyArray_NewFromDescr(
                py,
                numpy::npyffi::get_type_object(py, numpy::npyffi::NpyTypes::PyArray_Type),
                self.result_descr(),
                shape.len() as _,
                shape.as_ptr().cast_mut(),
                std::ptr::null_mut(),
                std::ptr::null_mut(),
                0,
                std::ptr::null_mut(),
            );
            Bound::from_owned_ptr_or_err(py, array)
        })?;
        Array::new(name, &object)
    }

    /// A result that the caller gave: an array of that shape and this one's float type, which can be written.
    ///
    /// # Errors
    /// If it is something else.
    pub fn given(&self, name: &'static str, out: &Bound<'py, PyAny>, shape: &[usize]) -> PyResult<Self> {
        if !is_array(out) {
            let class = out.get_type().name()?;
            return Err(PyTypeError::new_err(format!("{name} must be an array, got {class}")));
        }
        let out = Array::new(name, out)?;
        let expected = self.result_dtype();
        if out.dtype != expected {
            let dtype = out.object.getattr("dtype")?;
            return Err(PyTypeError::new_err(format!("{name} has dtype {dtype}; expected {}", expected.name())));
        }
        if out.shape() != shape {
            let (got, expected) = (tuple(out.shape()), tuple(shape));
            return Err(PyValueError::new_err(format!("{name} has shape {got}; expected {expected}")));
        }
        if !out.has_flag(NPY_ARRAY_WRITEABLE) {
            return Err(PyValueError::new_err(format!("{name} is read-only")));
        }
        if !out.has_flag(NPY_ARRAY_C_CONTIGUOUS) && out.meets_itself() {
            return Err(PyValueError::new_err(format!("{name} has elements that share memory")));
        }
        Ok(out)
    }

    /// Whether two elements may lie in the same place: whether some axis, from the nearest elements outwards, does not step
    /// over all that lies within.
    fn meets_itself(&self) -> bool {
        let mut axes: Vec<(usize, usize)> = self
            .strides()
            .iter()
            .zip(self.shape())
            .filter(|&(_, &length)| length > 1)
            .map(|(&stride, &length)| (stride.unsigned_abs(), length))
            .collect();
        axes.sort_unstable();
        let mut extent = self.dtype.size();
        axes.into_iter().any(|(stride, length)| {
            let meets = stride < extent;
            extent += stride * (length - 1);
            meets
        })
    }

    /// The addresses from the first byte to the one after the last.
    fn extent(&self) -> (usize, usize) {
        let (mut low, mut high) = (0_isize, self.dtype.size() as isize);
        for (&stride, &length) in self.strides().iter().zip(self.shape()) {
            if length == 0 {
                return (0, 0);
            }
            let reach = stride.saturating_mul(length as isize - 1);
            if reach < 0 { low = low.saturating_add(reach) } else { high = high.saturating_add(reach) }
        }
        let first = self.run().first as usize;
        (first.wrapping_add_signed(low), first.wrapping_add_signed(high))
    }

    /// Whether the elements of both are the same, in the same places.
    pub fn is_same(&self, other: &Self) -> bool {
        self.run().first == other.run().first
            && self.dtype == other.dtype
            && self.swapped == other.swapped
            && self.shape() == other.shape()
            && self.strides() == other.strides()
    }

    /// Refuses a result that shares memory with another array otherwise than element by element.
    ///
    /// # Errors
    /// If it does.
    pub fn check_apart(&self, other: &Self, may_be_same: bool) -> PyResult<()> {
        static SHARES_MEMORY: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let ((low, high), (other_low, other_high)) = (self.extent(), other.extent());
        if low >= other_high || other_low >= high || (may_be_same && self.is_same(other)) {
            return Ok(());
        }
        let py = self.object.py();
        let shares = SHARES_MEMORY.import(py, "numpy", "shares_memory")?.call1((&self.object, &other.object))?;
        if shares.is_truthy()? {
            let (name, other) = (self.name, other.name);
            return Err(PyValueError::new_err(format!("{name} shares memory with {other}; give it memory of its own")));
        }
        Ok(())
    }

    /// Into the result that a call returns.
    pub fn into_object(self) -> Bound<'py, PyAny> {
        self.object
    }
}

impl Dtype {
    fn name(self) -> &'static str {
        match self {
            Self::Float64 => "float64",
            Self::Float32 => "float32",
            Self::Float16 => "float16",
            Self::Bfloat16 => "bfloat16",
            _ => "an integer type",
        }
    }
}

/// A common layout of views over a shape, and their operands. `sort` as in [`Layout::new`].
pub fn lay_out(shape: &[usize], views: Vec<View>, sort: bool) -> (Layout, Vec<Operand>) {
    if views.iter().all(View::is_even) {
        return (Layout::flat(shape.iter().product()), views.into_iter().map(|View(operand)| operand).collect());
    }
    let strides: Vec<Vec<isize>> = views.iter().map(|view| view.strides(shape)).collect();
    let described: Vec<(Run, &[isize])> =
        views.iter().zip(&strides).map(|(View(operand), strides)| (operand.run, &**strides)).collect();
    Layout::new(shape, &described, sort)
}

/// A shape as Python writes it.
pub fn tuple(shape: &[usize]) -> String {
    let lengths: Vec<String> = shape.iter().map(usize::to_string).collect();
    if lengths.len() == 1 { format!("({},)", lengths[0]) } else { format!("({})", lengths.join(", ")) }
}

fn is_array(object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: any object may be asked.
    unsafe { numpy::npyffi::PyArray_Check(object.py(), object.as_ptr()) != 0 }
}

/// What `numpy.asarray` makes of an argument; masked arrays, whose mask it would drop, are refused.
fn as_array<'py>(name: &str, object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    static AS_ARRAY: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    static MASKED_ARRAY: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = object.py();
    // SAFETY: any object may be asked.
    if unsafe { PyArray_CheckExact(py, object.as_ptr()) } != 0 {
        return Ok(object.clone());
    }
    if is_array(object) {
        if object.is_instance(MASKED_ARRAY.import(py, "numpy.ma", "MaskedArray")?)? {
            return Err(PyTypeError::new_err(format!(
                "{name} is a masked array, whose mask would be lost; fill it, or give sample_weight 0 where it is masked"
            )));
        }
        return Ok(object.clone());
    }
    AS_ARRAY.import(py, "numpy", "asarray")?.call1((object,))
}

/// The type of an array's elements by NumPy's number for it.
fn dtype(array: &Bound<'_, PyAny>, number: i32) -> Option<Dtype> {
    use NPY_TYPES as N;
    const BYTES_OF_LONG: usize = size_of::<std::ffi::c_long>();
    Some(match number {
        n if n == N::NPY_FLOAT as i32 => Dtype::Float32,
        n if n == N::NPY_DOUBLE as i32 => Dtype::Float64,
        n if n == N::NPY_HALF as i32 => Dtype::Float16,
        n if n == N::NPY_LONG as i32 => {
            if BYTES_OF_LONG == 8 {
                Dtype::Int64
            } else {
                Dtype::Int32
            }
        }
        n if n == N::NPY_ULONG as i32 => {
            if BYTES_OF_LONG == 8 {
                Dtype::Uint64
            } else {
                Dtype::Uint32
            }
        }
        n if n == N::NPY_LONGLONG as i32 => Dtype::Int64,
        n if n == N::NPY_ULONGLONG as i32 => Dtype::Uint64,
        n if n == N::NPY_INT as i32 => Dtype::Int32,
        n if n == N::NPY_UINT as i32 => Dtype::Uint32,
        n if n == N::NPY_SHORT as i32 => Dtype::Int16,
        n if n == N::NPY_USHORT as i32 => Dtype::Uint16,
        n if n == N::NPY_BYTE as i32 => Dtype::Int8,
        n if n == N::NPY_UBYTE as i32 => Dtype::Uint8,
        n if n == N::NPY_BOOL as i32 => Dtype::Bool,
        n if n == BFLOAT16.load(Ordering::Relaxed) => Dtype::Bfloat16,
        n if n >= N::NPY_USERDEF as i32 => {
            // ml_dtypes registers bfloat16 when it is imported, under a number that nobody knows before.
            let name = array.getattr("dtype").and_then(|dtype| dtype.getattr("name")).ok()?;
            if name.extract::<String>().ok()? != "bfloat16" {
                return None;
            }
            BFLOAT16.store(n, Ordering::Relaxed);
            Dtype::Bfloat16
        }
        _ => return None,
    })
}
