"""Arrays of equal elements that lie differently in memory."""

import tempfile

import numpy as np


def fortran(array):
    return np.asfortranarray(array) if array.ndim else array.copy()


def backwards(array):
    # `numpy.flip` makes a scalar of an array without axes.
    return array[(*[slice(None, None, -1)] * array.ndim, ...)]


def reversed_axes(array):
    return backwards(backwards(array).copy())


def every_second(array):
    room = np.zeros([2 * length + 1 for length in array.shape], array.dtype)
    view = room[(*[slice(1, None, 2)] * array.ndim, ...)]
    view[...] = array
    return view


def rows_apart(array):
    room = np.zeros([length + 3 for length in array.shape], array.dtype)
    view = room[(*[slice(2, -1)] * array.ndim, ...)]
    view[...] = array
    return view


def first_axis_last(array):
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(array, 0, -1)), -1, 0) if array.ndim else array.copy()


def unaligned(array):
    room = np.zeros(array.nbytes + 1, np.uint8)
    view = room[1:].view(array.dtype).reshape(array.shape)
    view[...] = array
    return view


def byte_swapped(array):
    return array.astype(array.dtype.newbyteorder("S"))


def read_only(array):
    copy = array.copy()
    copy.setflags(write=False)
    return copy


def memory_mapped(array):
    with tempfile.TemporaryFile() as file:
        file.write(array.tobytes() or b"\0")
        file.flush()
        view = np.memmap(file, array.dtype, "r+", shape=array.shape or (1,)) if array.size else array.copy()
    return view.reshape(array.shape)


def subclass(array):
    return array.view(type("Subclass", (np.ndarray,), {}))


def everything_at_once(array):
    swapped = np.moveaxis(byte_swapped(array), 0, -1) if array.ndim else byte_swapped(array)
    room = np.zeros(2 * array.nbytes + 1, np.uint8)
    view = room[1:].view(swapped.dtype).reshape((*swapped.shape, 2))
    view = backwards(view[..., 1])
    view[...] = swapped
    return np.moveaxis(view, -1, 0) if array.ndim else view


LAYOUTS = [
    fortran,
    reversed_axes,
    every_second,
    rows_apart,
    first_axis_last,
    unaligned,
    byte_swapped,
    read_only,
    memory_mapped,
    subclass,
    everything_at_once,
]
