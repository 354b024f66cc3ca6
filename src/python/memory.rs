//! NumPy's memory handlers (NEP 49): large results are of `crate::memory`'s blocks, which the array owns as it owns any other.

use std::ffi::{c_char, c_void};
use std::ptr::NonNull;

use numpy::npyffi::is_numpy_2;
use pyo3::exceptions::PyMemoryError;
use pyo3::ffi::{PyCapsule_New, PyObject};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyCapsule;

use crate::memory::{self, LARGE};

/// NumPy's `PyDataMem_Handler`.
#[repr(C)]
struct Handler {
    name: [c_char; 127],
    version: u8,
    context: *mut c_void,
    malloc: extern "C" fn(*mut c_void, usize) -> *mut c_void,
    calloc: extern "C" fn(*mut c_void, usize, usize) -> *mut c_void,
    realloc: unsafe extern "C" fn(*mut c_void, *mut c_void, usize) -> *mut c_void,
    free: unsafe extern "C" fn(*mut c_void, *mut c_void, usize),
}

// SAFETY: it is never written, and its functions may be called from any thread.
unsafe impl Sync for Handler {}

static HANDLER: Handler = Handler {
    name: {
        let (mut name, text) = ([0; 127], b"lossrs");
        let mut i = 0;
        while i < text.len() {
            name[i] = text[i] as c_char;
            i += 1;
        }
        name
    },
    version: 1,
    context: std::ptr::null_mut(),
    malloc,
    calloc,
    realloc,
    free,
};

fn address(room: Option<NonNull<u8>>) -> *mut c_void {
    room.map_or(std::ptr::null_mut(), |room| room.as_ptr().cast())
}

extern "C" fn malloc(_: *mut c_void, size: usize) -> *mut c_void {
    address(memory::allocate(size))
}

extern "C" fn calloc(_: *mut c_void, count: usize, size: usize) -> *mut c_void {
    let room = count.checked_mul(size).and_then(|size| {
        let room = memory::allocate(size)?;
        // SAFETY: it has so many bytes; those of a block that was used before are not zero.
        unsafe { room.write_bytes(0, size) };
        Some(room)
    });
    address(room)
}

/// # Safety
/// As of C's `realloc`, of what these functions returned.
unsafe extern "C" fn realloc(_: *mut c_void, first: *mut c_void, size: usize) -> *mut c_void {
    // SAFETY: the caller's.
    address(
        NonNull::new(first.cast())
            .map_or_else(|| memory::allocate(size), |first| unsafe { memory::reallocate(first, size) }),
    )
}

/// # Safety
/// As of C's `free`, of what these functions returned.
unsafe extern "C" fn free(_: *mut c_void, first: *mut c_void, _: usize) {
    if let Some(first) = NonNull::new(first.cast()) {
        // SAFETY: the caller's.
        unsafe { memory::free(first) }
    }
}

/// The functions of NumPy's that handlers are set by, which the `numpy` crate doesn't have.
struct Handlers {
    set: unsafe extern "C" fn(*mut PyObject) -> *mut PyObject,
    get: unsafe extern "C" fn() -> *mut PyObject,
    default: *mut PyObject,
    own: Py<PyAny>,
}

// SAFETY: functions, and an object of NumPy's that lives for ever and is only compared.
unsafe impl Send for Handlers {}
// SAFETY: as above.
unsafe impl Sync for Handlers {}

impl Handlers {
    /// Where results are NumPy's to allocate, on demand or for want of anything better, there are none.
    fn new(py: Python<'_>) -> PyResult<Option<Self>> {
        let is_off = |name| std::env::var(name).is_ok_and(|value| value == "0");
        if !cfg!(all(target_os = "linux", target_pointer_width = "64")) || is_off("LOSSRS_REUSE_MEMORY") {
            return Ok(None);
        }
        if is_off("NUMPY_MADVISE_HUGEPAGE") {
            memory::avoid_huge_pages();
        }
        let module = if is_numpy_2(py) { "numpy._core.multiarray" } else { "numpy.core.multiarray" };
        let api = py.import(module)?.getattr("_ARRAY_API")?.cast_into::<PyCapsule>()?;
        let api = api.pointer_checked(None)?.cast::<*mut c_void>();
        // SAFETY: the table of NumPy 1.22 and later, in which these are the entries of these types; it lives as long as NumPy's module,
        // which is never unloaded. NumPy keeps a pointer to the handler, and does not write it.
        unsafe {
            let own = PyCapsule_New((&raw const HANDLER).cast_mut().cast(), c"mem_handler".as_ptr(), None);
            Ok(Some(Self {
                set: std::mem::transmute::<*mut c_void, unsafe extern "C" fn(*mut PyObject) -> *mut PyObject>(
                    api.add(304).read(),
                ),
                get: std::mem::transmute::<*mut c_void, unsafe extern "C" fn() -> *mut PyObject>(api.add(305).read()),
                default: api.add(306).read().cast::<*mut PyObject>().read(),
                own: Bound::from_owned_ptr_or_err(py, own)?.unbind(),
            }))
        }
    }

    /// Sets another handler, and returns that which was set.
    ///
    /// # Errors
    /// If there is no memory for that.
    fn set<'py>(&self, handler: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        // SAFETY: a handler; a new reference or an exception is returned.
        unsafe { Bound::from_owned_ptr_or_err(handler.py(), (self.set)(handler.as_ptr())) }
    }
}

/// What `make` returns: an array of so many bytes of its own, which are of the memory that is used again where they are many.
///
/// # Errors
/// If it can't be made.
pub fn array_of<'py>(
    py: Python<'py>,
    bytes: usize,
    make: impl Fn() -> PyResult<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    if bytes < LARGE { make() } else { large_array_of(py, &make) }
}

#[cold]
fn large_array_of<'py>(py: Python<'py>, make: &dyn Fn() -> PyResult<Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyAny>> {
    static HANDLERS: PyOnceLock<Option<Handlers>> = PyOnceLock::new();
    let Some(handlers) = HANDLERS.get_or_try_init(py, || Handlers::new(py))? else { return make() };
    // SAFETY: a new reference or an exception is returned.
    let current = unsafe { Bound::from_owned_ptr_or_err(py, (handlers.get)())? };
    if current.as_ptr() != handlers.default {
        // Somebody wants arrays to be allocated otherwise.
        return make();
    }
    handlers.set(handlers.own.bind(py))?;
    let array = make();
    handlers.set(&current)?;
    // What the system refuses us NumPy may still have, or else the words for it.
    array.or_else(|error| if error.is_instance_of::<PyMemoryError>(py) { make() } else { Err(error) })
}
