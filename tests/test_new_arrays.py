"""Arrays that calls return, large ones above all: NumPy's own in all that a user sees, of memory that is used again."""

import copy
import ctypes
import pickle
import sys
import threading
import tracemalloc
from queue import SimpleQueue

import lossrs.functional as F
import numpy as np
import pytest
from cases import BFLOAT16
from test_processes import run

LARGE = 1 << 18
LINUX = pytest.mark.skipif(sys.platform != "linux" or sys.maxsize < 1 << 32, reason="elsewhere memory is NumPy's")

PRELUDE = """
import os, resource, threading
from pathlib import Path
import numpy as np
from numpy._core.multiarray import get_handler_name
import lossrs.functional as F

MIB = 1 << 20
x, y = np.ones(16 * MIB, np.float32), np.zeros(16 * MIB, np.float32)

def losses(mib):
    return F.mse_loss(x[: mib * MIB // 4], y[: mib * MIB // 4], reduction="none")

def status(file, field):
    lines = Path(f"/proc/self/{file}").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field + ":")) / 1024

def mapped():
    return status("status", "VmSize")

def needed():
    # What the system can't take for something else.
    return status("smaps_rollup", "Rss") - status("smaps_rollup", "LazyFree")
"""


def large(dtype=np.float32, order="C", seed=0):
    x = np.random.default_rng(seed).integers(-9, 9, (LARGE // 64, 64))
    return np.asarray(x.astype(dtype), order=order)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, BFLOAT16, np.dtype(">f4"), np.int32])
@pytest.mark.parametrize("order", ["C", "F"])
def test_large_results_are_ordinary_arrays(dtype, order):
    x, y = large(dtype, order), large(dtype, order, seed=1)
    _, gradient = F.mse_loss.value_and_grad(x, y, reduction="sum")
    losses = F.mse_loss(x, y, reduction="none")
    expected = 2 * (x.astype(float) - y.astype(float))
    for array, values in (gradient, expected), (losses, expected**2 / 4):
        assert type(array) is np.ndarray
        assert array.base is None
        assert array.flags.owndata
        assert array.flags.writeable
        assert array.flags.aligned
        assert array.flags.f_contiguous == (order == "F")
        assert array.dtype == (np.float64 if dtype is np.int32 else np.dtype(dtype).newbyteorder("="))
        assert (array == values.astype(array.dtype)).all()
        for other in pickle.loads(pickle.dumps(array)), copy.copy(array), copy.deepcopy(array):
            assert (other == array).all()


def test_large_results_can_be_resized():
    x, y = large().ravel(), large(seed=1).ravel()
    array = F.mse_loss(x, y, reduction="none")
    expected = (x - y) ** 2
    for length in x.size - 1, 3 * x.size, 10, 0, 5, x.size, 40 * x.size:
        kept = min(length, array.size)
        array.resize(length, refcheck=False)
        assert array.shape == (length,)
        assert (array[:kept] == expected[:kept]).all()
        assert not array[kept:].any()
        expected = array.copy()
        array += 0
    array.__setstate__((1, (3,), np.dtype(np.float64), False, np.arange(3.0).tobytes()))
    assert array.tolist() == [0, 1, 2]


def test_large_results_are_traced():
    x, y = large(), large(seed=1)
    F.mse_loss.grad_and_hess(x, y)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        results = F.mse_loss.grad_and_hess(x, y)
        during, _ = tracemalloc.get_traced_memory()
        del results
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 0 <= during - before - 2 * x.nbytes < 10_000
    assert after - before < 10_000


def test_results_that_live_have_memory_of_their_own():
    x, y = large(), large(seed=1)
    held = []
    for i in range(30):
        held.append((i, F.mse_loss.value_and_grad(x, y + i, reduction="sum")[1]))
        del held[: i % 2]
    assert len(held) > 5
    for i, gradient in held:
        assert (gradient == 2 * (x - (y + i))).all()
    for i, (_, one) in enumerate(held):
        assert not any(np.shares_memory(one, other) for _, other in held[:i])


def test_results_may_be_freed_by_any_thread():
    x, y = large(), large(seed=1)
    queue, failures = SimpleQueue(), []

    def free():
        while (result := queue.get()) is not None:
            i, gradient = result
            if not (gradient == 2 * (x - (y + i))).all():
                failures.append(i)

    def call(start):
        for i in range(start, 100, 4):
            queue.put((i, F.mse_loss.value_and_grad(x, y + i, reduction="sum")[1]))

    freeing = [threading.Thread(target=free) for _ in range(2)]
    calling = [threading.Thread(target=call, args=(start,)) for start in range(4)]
    for thread in freeing + calling:
        thread.start()
    for thread in calling:
        thread.join()
    for _ in freeing:
        queue.put(None)
    for thread in freeing:
        thread.join()
    assert not failures


@LINUX
def test_memory_is_used_again():
    run(
        """
        for mib in 1, 16:
            place = losses(mib).ctypes.data
            assert all(losses(mib).ctypes.data == place for _ in range(5))
        """,
        prelude=PRELUDE,
    )


@LINUX
def test_freed_memory_is_the_systems():
    run(
        """
        def forget():
            # Sizes that nobody wants any more make way for others.
            for _ in range(300):
                losses(1)
        losses(64)
        forget()
        before, start = needed(), mapped()
        results = [losses(64) for _ in range(12)]
        assert needed() - before > 12 * 64 - 20
        del results
        assert needed() - before < 20
        assert mapped() - start < 530
        forget()
        assert mapped() - start < 20
        """,
        prelude=PRELUDE,
    )


@LINUX
@pytest.mark.parametrize("limit", ["RLIMIT_AS", "RLIMIT_DATA"])
def test_under_a_limit_nothing_is_kept(limit):
    run(
        f"""
        limit = resource.{limit}
        def fails():
            try:
                losses(64)
            except MemoryError as error:
                assert str(error).startswith("Unable to allocate 64.0 MiB"), error
                return True
        losses(32), losses(8), F.mse_loss(1.0, 1.0)
        del x, y
        x = y = np.ones(16 * MIB, np.float32)
        used = int(status("status", "VmSize" if limit == resource.RLIMIT_AS else "VmData") * MIB)
        resource.setrlimit(limit, (used + 40 * MIB, -1))
        # There is no room but for what was kept.
        assert not fails()
        room = np.ones(32 * MIB, np.int8)
        assert fails()
        del room
        for mib in 1, 30, 2, 40, 50, 60, 64:
            losses(mib)
            np.ones(60 * MIB, np.int8)
        """,
        prelude=PRELUDE,
    )


@LINUX
def test_the_child_of_a_fork_has_memory():
    run(
        """
        def work():
            for mib in 1, 16, 64, 1:
                assert (losses(mib) == 1).all()
        def call():
            while not done:
                work()
        work()
        done = False
        others = [threading.Thread(target=call) for _ in range(2)]
        for other in others:
            other.start()
        for _ in range(20):
            child = os.fork()
            if not child:
                work()
                work()
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
        done = True
        for other in others:
            other.join()
        """,
        prelude=PRELUDE,
    )


@LINUX
@pytest.mark.parametrize(("value", "expected"), [(None, "lossrs"), ("1", "lossrs"), ("0", "default_allocator")])
def test_the_environment_leaves_memory_to_numpy(value, expected):
    run(
        f"""
        assert get_handler_name(losses(1)) == {expected!r}
        assert get_handler_name(F.mse_loss.grad_and_hess(x, y)[1]) == {expected!r}
        assert get_handler_name(F.mse_loss(x[:9], y[:9], reduction="none")) == "default_allocator"
        assert get_handler_name(np.ones(MIB)) == get_handler_name() == "default_allocator"
        """,
        prelude=PRELUDE,
        LOSSRS_REUSE_MEMORY=value,
    )


@LINUX
def test_a_handler_that_somebody_set_is_used():
    from numpy._core import multiarray

    function = ctypes.pythonapi
    function.PyCapsule_GetPointer.restype = ctypes.c_void_p
    function.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    function.PyCapsule_New.restype = ctypes.py_object
    function.PyCapsule_New.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    api = ctypes.cast(function.PyCapsule_GetPointer(multiarray._ARRAY_API, None), ctypes.POINTER(ctypes.c_void_p))
    set_handler = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object)(api[304])
    get_handler = ctypes.PYFUNCTYPE(ctypes.py_object)(api[305])
    # NumPy's own functions under another name.
    own = ctypes.create_string_buffer(168)
    ctypes.memmove(own, function.PyCapsule_GetPointer(get_handler(), b"mem_handler"), 168)
    own[:5] = b"mine\0"
    before = set_handler(function.PyCapsule_New(ctypes.addressof(own), b"mem_handler", None))
    try:
        result = F.mse_loss(large(), large(), reduction="none")
        assert multiarray.get_handler_name(result) == multiarray.get_handler_name() == "mine"
    finally:
        del result
        set_handler(before)
    assert multiarray.get_handler_name(F.mse_loss(large(), large(), reduction="none")) == "lossrs"
