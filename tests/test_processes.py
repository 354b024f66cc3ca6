"""lossrs as a process: import, threads, fork, signals, limits. Each scenario is a program, with a hard timeout."""

import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

THREADS = 3

PRELUDE = """
import os, signal, sys, threading, time
from pathlib import Path
import numpy as np
import lossrs, lossrs.functional as F

# Which is ignored in the background jobs of a shell.
signal.signal(signal.SIGINT, signal.default_int_handler)
rng = np.random.default_rng(0)
x, y = rng.standard_normal((2, 1 << 17), dtype=np.float32)
scores, labels = rng.standard_normal((4096, 40)), rng.integers(0, 40, 4096)
endless = np.broadcast_to(np.float64(1), 1 << 59)

def results():
    pairs = F.huber_loss.value_and_grad(x, y, delta=0.5), F.cross_entropy.value_and_grad(scores, labels)
    return [(value, gradient.tobytes()) for value, gradient in pairs]

def helpers():
    # The pool's threads, and the time that each has worked, in ticks.
    found = {}
    for task in os.listdir("/proc/self/task"):
        try:
            name, fields = Path(f"/proc/self/task/{task}/stat").read_text().split("(", 1)[1].rsplit(")", 1)
        except (FileNotFoundError, ProcessLookupError):  # it has just ended
            continue
        if name.startswith("lossrs-"):
            found[task] = sum(map(int, fields.split()[11:13]))
    return found

def check():
    # All threads work, and the results are those of one.
    while len(helpers()) < lossrs.get_num_threads() - 1 or not all(helpers().values()):
        assert results() == expected
    assert len(helpers()) == lossrs.get_num_threads() - 1

def in_child(work, leave=sys.exit):
    child = os.fork()
    if not child:
        work()
        leave(0)
    assert os.waitpid(child, 0)[1] == 0

def interrupt(number=signal.SIGINT, after=0.2):
    global sent
    time.sleep(after)
    sent = time.perf_counter()
    os.kill(os.getpid(), number)

threads = lossrs.get_num_threads()
lossrs.set_num_threads(1)
expected = results()
assert not helpers()
lossrs.set_num_threads(threads)
"""


def run(code, *, prelude=PRELUDE, status=0, timeout=60, errors="", **environment):
    """Run a program; its exit status and what it writes to stderr must be as expected. Return what it prints."""
    inherited = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    inherited.pop("LOSSRS_ISA", None)
    environment = inherited | {"LOSSRS_NUM_THREADS": str(THREADS)} | environment
    environment = {name: value for name, value in environment.items() if value is not None}
    # Python warns of a fork where there are threads.
    warnings = ["-Werror", "-Wignore:This process:DeprecationWarning"]
    command = [sys.executable, "-Xfaulthandler", *warnings, "-c", prelude + dedent(code)]
    done = subprocess.run(command, env=environment, timeout=timeout, capture_output=True, text=True)
    assert done.returncode == status, done.stdout + done.stderr
    assert errors in done.stderr if errors else not done.stderr, done.stderr
    return done.stdout


# Import


def test_import_starts_no_thread_and_loads_nothing_heavy():
    run(
        """
        import os, sys
        import numpy
        before = os.listdir("/proc/self/task")
        import lossrs
        assert lossrs.functional.mse_loss([1.0, 2.0], [2.0, 4.0]) == 2.5
        assert os.listdir("/proc/self/task") == before
        heavy = {"hypothesis", "ml_dtypes", "pandas", "pyarrow", "rich", "scipy", "sklearn", "torch"}
        assert not heavy & set(sys.modules)
        """,
        prelude="",
    )


def test_a_subinterpreter_may_try_to_import():
    run(
        """
        try:
            import _interpreters as interpreters
        except ImportError:
            import _xxsubinterpreters as interpreters
        interpreter = interpreters.create()
        try:
            print(interpreters.run_string(interpreter, "import lossrs; lossrs.functional.mse_loss([1.0], [2.0])"))
        except Exception as error:
            print(error)
        check()
        """
    )


@pytest.mark.parametrize("isa", ["baseline", "avx2", "avx512"])
def test_instruction_set_is_forced_or_refused(isa):
    code = "import hashlib; print(lossrs.instruction_set(), hashlib.sha256(repr(results()).encode()).hexdigest())"
    avx2 = {"avx2", "fma", "f16c", "bmi1", "bmi2"}
    avx512 = avx2 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}
    needs = {"baseline": set(), "avx2": avx2, "avx512": avx512}[isa]
    if needs <= set(Path("/proc/cpuinfo").read_text().split()):
        name, digest = run(code, LOSSRS_ISA=isa).split()
        assert name == isa
        assert digest == run(code).split()[1]
    else:
        run("", LOSSRS_ISA=isa, status=1, errors=f"LOSSRS_ISA: this machine does not have the instruction set {isa}")


@pytest.mark.parametrize("isa", ["AVX2", "sse", "", "avx\udcff"])
def test_instruction_set_of_another_name_is_an_error(isa):
    shown = isa.replace(chr(0xDCFF), "\N{REPLACEMENT CHARACTER}")
    message = f'ValueError: LOSSRS_ISA: instruction set must be one of baseline, avx2, avx512; got "{shown}"'
    run("", LOSSRS_ISA=isa, status=1, errors=message)


# The number of threads


CPUS = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, CPUS),
        ({"OMP_NUM_THREADS": "5"}, 5),
        ({"OMP_NUM_THREADS": "5,2"}, 5),
        ({"OMP_NUM_THREADS": "5", "RAYON_NUM_THREADS": "6"}, 6),
        ({"OMP_NUM_THREADS": "5", "RAYON_NUM_THREADS": "6", "LOSSRS_NUM_THREADS": "7"}, 7),
        ({"OMP_NUM_THREADS": "5", "LOSSRS_NUM_THREADS": "0"}, 5),
        ({"OMP_NUM_THREADS": "5", "LOSSRS_NUM_THREADS": ""}, 5),
        ({"OMP_NUM_THREADS": "5", "LOSSRS_NUM_THREADS": "-3"}, 5),
        ({"OMP_NUM_THREADS": "5", "LOSSRS_NUM_THREADS": "many"}, 5),
        ({"LOSSRS_NUM_THREADS": "many"}, CPUS),
        ({"LOSSRS_NUM_THREADS": "9" * 30}, CPUS),
        ({"LOSSRS_NUM_THREADS": "1000000"}, 1024),
    ],
)
def test_number_of_threads_comes_from_the_environment(environment, expected):
    code = """
        import lossrs
        print(lossrs.get_num_threads())
        lossrs.set_num_threads(2)
        assert lossrs.get_num_threads() == 2
        lossrs.set_num_threads(0)
        print(lossrs.get_num_threads())
        """
    printed = run(code, prelude="", **{"LOSSRS_NUM_THREADS": None} | environment)
    assert printed.split() == [str(expected)] * 2


def test_number_of_threads_is_that_of_the_cpus_allowed():
    code = "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); import lossrs; print(lossrs.get_num_threads())"
    assert run(code, prelude="import os\n", LOSSRS_NUM_THREADS=None) == "1\n"


def test_number_of_threads_that_is_none():
    run(
        """
        for number in -1, -(10**30), 10**30, 2.5, "2", None:
            expected_error = ValueError if isinstance(number, int) else TypeError
            try:
                lossrs.set_num_threads(number)
            except expected_error as error:
                assert expected_error is TypeError or str(number) in str(error), error
            else:
                raise AssertionError(number)
        assert lossrs.get_num_threads() == threads
        lossrs.set_num_threads(np.int8(2))
        check()
        lossrs.set_num_threads(10**6)
        assert lossrs.get_num_threads() == 1024
        """
    )


@pytest.mark.parametrize("first", ["lossrs", "threadpoolctl"])
def test_threadpoolctl_limits_the_threads(first):
    run(
        """
        from threadpoolctl import threadpool_info, threadpool_limits
        exec(prelude)
        check()
        (info,) = [info for info in threadpool_info() if info["user_api"] == "lossrs"]
        assert (info["num_threads"], info["version"]) == (threads, lossrs.__version__), info
        with threadpool_limits(1):
            assert lossrs.get_num_threads() == 1
            worked = helpers()
            assert results() == expected
            with threadpool_limits({"lossrs": 2}):
                assert lossrs.get_num_threads() == 2
            assert lossrs.get_num_threads() == 1
        assert lossrs.get_num_threads() == threads
        check()
        """,
        prelude=f"import {first}\nprelude = {PRELUDE!r}\n",
    )


def test_a_larger_number_adds_threads_and_a_smaller_one_leaves_them():
    printed = run(
        """
        for number in 2, 3, 7, 5:
            lossrs.set_num_threads(number)
            while len(helpers()) < number - 1:
                assert results() == expected
            print(len(helpers()))
        """
    )
    assert printed == "1\n2\n6\n6\n"


# Fork


@pytest.mark.parametrize("leave", ["sys.exit", "os._exit"])
@pytest.mark.parametrize("used", [False, True])
def test_fork(used, leave):
    run(
        f"""
        if {used}:
            check()
        in_child(check, {leave})
        check()
        in_child(lambda: in_child(check, {leave}), {leave})
        check()
        """
    )


def test_fork_again_and_again():
    run(
        """
        check()
        def start():
            while len(helpers()) < threads - 1:
                assert results() == expected
        for _ in range(50):
            in_child(start, os._exit)
        """
    )


def test_fork_keeps_the_number_of_threads():
    run(
        """
        lossrs.set_num_threads(2)
        check()
        in_child(check)
        in_child(lambda: (lossrs.set_num_threads(4), check()))
        assert lossrs.get_num_threads() == 2
        """
    )


@pytest.mark.parametrize("forker", ["main", "other"])
def test_fork_while_another_thread_is_in_a_call(forker):
    run(
        f"""
        threading.Thread(target=F.mse_loss, args=(endless, endless), daemon=True).start()
        time.sleep(0.1)
        def fork():
            for _ in range(2):
                in_child(check, os._exit)
        if {forker == "main"}:
            fork()
        else:
            from concurrent.futures import ThreadPoolExecutor
            with ThreadPoolExecutor() as executor:
                executor.submit(fork).result()
        check()
        """
    )


def test_fork_while_others_use_the_pool_for_the_first_time():
    run(
        """
        others = [threading.Thread(target=results) for _ in range(4)]
        for other in others:
            other.start()
        for _ in range(3):
            in_child(check, os._exit)
        for other in others:
            other.join()
        check()
        """
    )


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(method):
    run(
        f"""
        import multiprocessing
        method = {method!r}
        """
        """
        check()
        value, gradient = F.huber_loss.value_and_grad(x, y)
        with multiprocessing.get_context(method).Pool(2) as pool:
            assert set(pool.starmap(F.huber_loss, [(x, y)] * 8)) == {value}
            loss = lossrs.HuberLoss()
            for other, others in pool.starmap(loss.value_and_grad, [(x, y)] * 8):
                assert other == value and others.tobytes() == gradient.tobytes()
            pool.close()
            pool.join()
        """
    )


# Threads of Python


def test_many_threads_call_at_once_while_the_number_of_threads_changes():
    run(
        """
        from concurrent.futures import ThreadPoolExecutor
        def call(i):
            if i % 3 == 0:
                lossrs.set_num_threads(1 + i % 4)
            return results() == expected
        with ThreadPoolExecutor(8) as executor:
            assert all(executor.map(call, range(200)))
        assert len(helpers()) <= 3
        lossrs.set_num_threads(4)
        check()
        """
    )


def test_a_call_releases_the_interpreter_and_does_not_wait_for_another():
    run(
        """
        from concurrent.futures import ThreadPoolExecutor
        def others():
            for _ in range(20):
                assert results() == expected
            os.kill(os.getpid(), signal.SIGINT)
        executor = ThreadPoolExecutor()
        other = executor.submit(others)
        try:
            F.mse_loss(endless, endless)
        except KeyboardInterrupt:
            other.result()
            check()
        else:
            raise AssertionError
        """
    )


def test_others_may_write_the_arrays_of_a_call():
    run(
        """
        from contextlib import suppress
        labels, out = labels.copy(), np.empty_like(scores)
        done = threading.Event()
        def spoil_elements():
            while not done.is_set():
                labels.flat[rng.integers(labels.size, size=50)] = rng.integers(-(2**62), 2**62, size=50)
                scores.flat[rng.integers(scores.size)] = rng.choice([np.nan, np.inf, 0.0])
                out[...] = 1.0
                time.sleep(0)
                labels[...] = 0
        def spoil_shapes():
            shapes = (scores, (40, 4096)), (labels, (64, 64)), (x, (256, 512))
            while not done.is_set():
                for array, shape in shapes:
                    before = array.shape
                    array.shape = shape
                    time.sleep(0)
                    array.shape = before
        others = [threading.Thread(target=spoil) for spoil in (spoil_elements, spoil_shapes)]
        for other in others:
            other.start()
        end, wrong, right = time.monotonic() + 3, 0, 0
        while time.monotonic() < end:
            for call in (
                lambda: F.cross_entropy.value_and_grad(scores, labels, out=out),
                lambda: F.cross_entropy(scores, labels, weight=scores[0], sample_weight=labels, reduction="none"),
                lambda: F.mse_loss.value_and_grad(x, y),
                lambda: F.binary_cross_entropy(x, y, out=out[:, 0]),
            ):
                try:
                    call()
                    right += 1
                except ValueError:
                    wrong += 1
        done.set()
        for other in others:
            other.join()
        assert right and wrong, (right, wrong)
        """
    )


# The end


@pytest.mark.parametrize(
    "code",
    [
        "check()",
        "check(); os._exit(0)",
        "import atexit; atexit.register(check)",
        "check(); import atexit; atexit.register(lambda: in_child(check, os._exit))",
        "class Late:\n    def __del__(self, check=check): check()\nlate = Late()",
        "threading.Timer(0.2, os._exit, [0]).start(); F.mse_loss(endless, endless)",
    ],
)
def test_exit_after_use_and_during_it(code):
    run(code)


@pytest.mark.parametrize("array", ["endless", "x"])
def test_exit_while_daemon_threads_call(array):
    run(
        f"""
        def work():
            while True:
                F.mse_loss({array}, {array})
                F.huber_loss.value_and_grad(x, y)
        for _ in range(4):
            threading.Thread(target=work, daemon=True).start()
        time.sleep(0.3)
        """
    )


# Signals

ENDLESS_CALLS = {
    "pointwise": "F.mse_loss(endless, endless)",
    "strided": "F.l1_loss(*(np.broadcast_to(array[::2, None], (1 << 16, 1 << 40)) for array in (x, y)))",
    "weights": "F.mse_loss(endless, endless, sample_weight=endless)",
    "rows": "F.cross_entropy(np.broadcast_to(scores[0], (1 << 50, 40)), np.broadcast_to(np.int8(3), 1 << 50))",
    "classes": "F.cross_entropy(np.broadcast_to(1.0, (1, 1 << 50)), [1])",
    "row_of_another_thread": "F.cross_entropy(np.broadcast_to(1.0, (3, 1 << 50)), [1, 2, 3])",
    "layer": "F.linear_cross_entropy(*[np.broadcast_to(1.0, (1 << 20, 512))] * 2, np.zeros(1 << 20, int))",
    "layer_with_gradient": (
        "F.linear_cross_entropy.value_and_grad(np.broadcast_to(1.0, (1 << 20, 512)), np.broadcast_to(1.0, (9999, 512)),"
        " np.zeros(1 << 20, int), np.zeros(9999), wrt='linear_bias')"
    ),
    "sum": "lossrs.ExactSum().add(endless)",
}


@pytest.mark.parametrize("number", [1, THREADS])
@pytest.mark.parametrize("call", ENDLESS_CALLS)
def test_interrupt(call, number):
    latency = run(
        f"""
        threading.Thread(target=interrupt).start()
        try:
            {ENDLESS_CALLS[call]}
        except KeyboardInterrupt:
            print(time.perf_counter() - sent)
        check()
        """,
        LOSSRS_NUM_THREADS=str(number),
    )
    assert float(latency) < 1


def test_interrupt_while_another_thread_works():
    run(
        """
        worker = threading.Thread(target=F.mse_loss, args=(endless, endless), daemon=True)
        worker.start()
        threading.Thread(target=interrupt).start()
        try:
            worker.join()
        except KeyboardInterrupt:
            assert time.perf_counter() - sent < 1
            check()
        else:
            raise AssertionError
        """
    )


def test_what_a_signal_handler_raises_comes_out():
    run(
        """
        class Alarm(Exception): pass
        def handler(number, frame):
            raise Alarm(number)
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        try:
            F.mse_loss(endless, endless)
        except Alarm as alarm:
            assert alarm.args == (signal.SIGALRM,)
            check()
        else:
            raise AssertionError
        """
    )


def test_a_signal_handler_that_raises_nothing_lets_a_call_finish():
    run(
        """
        calls = []
        def handler(number, frame):
            calls.append(results() == expected)
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
        ones = endless[: 1 << 28]
        while len(calls) < 4:
            assert F.mse_loss(ones, np.broadcast_to(-2.0, 1 << 28), reduction="sum") == 9 * 2.0**28
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert all(calls)
        check()
        """
    )


def test_a_signal_handler_that_forks():
    run(
        """
        child = None
        def handler(number, frame):
            global child
            child = os.fork()
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        ones = endless[: 1 << 31]
        try:
            while child is None:
                assert F.mse_loss(ones, np.broadcast_to(-2.0, 1 << 31), reduction="sum") == 9 * 2.0**31
        except RuntimeError as error:
            assert child == 0 and "fork" in str(error)
            check()
        else:
            assert child
            assert os.waitpid(child, 0)[1] == 0
            check()
        """
    )


def test_the_pool_takes_no_signals_that_the_program_blocks():
    run(
        """
        check()
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        for _ in range(20):
            os.kill(os.getpid(), signal.SIGINT)
            assert results() == expected
        assert signal.sigpending() == {signal.SIGINT}
        assert signal.sigwait({signal.SIGINT}) == signal.SIGINT
        """,
        OPENBLAS_NUM_THREADS="1",
    )


# Limits


@pytest.mark.parametrize("limit", [1, 12])
def test_fewer_threads_than_asked_for(limit):
    came = run(
        f"""
        import resource, warnings
        # Root is above this limit, so it becomes somebody else, who has this one process.
        if os.getuid() == 0:
            os.setuid(54321)
        resource.setrlimit(resource.RLIMIT_NPROC, ({limit}, {limit}))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for _ in range(5):
                assert results() == expected
        (warning,) = caught
        assert warning.category is RuntimeWarning
        assert str(warning.message) == "the system refused lossrs threads; it goes on with fewer"
        assert results() == expected
        print(len(helpers()))
        """,
        LOSSRS_NUM_THREADS="65",
    )
    assert (os.getuid() == 0 and limit > 1) <= int(came) < limit


def test_out_of_memory_is_a_memory_error():
    run(
        """
        import resource
        def fails(call, *arguments, **options):
            try:
                call(*arguments, **options)
            except MemoryError:
                return
            raise AssertionError(call)
        def all_fail(x, scores, labels):
            for loss, target in (F.mse_loss, x), (F.binary_cross_entropy_with_logits, x), (F.cross_entropy, labels):
                input = scores if loss is F.cross_entropy else x
                fails(loss.value_and_grad, input, target)
                fails(loss.grad_and_hess, input, target)
                fails(loss.backward, 1.0, input, target)
            fails(F.mse_loss, x, x, reduction="none")
        check()
        all_fail(endless[: 1 << 50], np.broadcast_to(1.0, (1 << 46, 16)), np.broadcast_to(1, 1 << 46))
        large, scores_of_many, labels_of_many = np.zeros(1 << 24), np.zeros((1 << 20, 16)), np.zeros(1 << 20, int)
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + (64 << 20),) * 2)
        all_fail(large, scores_of_many, labels_of_many)
        assert F.mse_loss.value_and_grad(large, large, out=large)[0] == 0
        check()
        """
    )


# Floating point


def test_the_floating_point_environment_is_left_alone():
    run(
        """
        import ctypes
        libm = ctypes.CDLL("libm.so.6")
        rounding, handling = libm.fegetround(), np.geterr()
        check()
        assert (libm.fegetround(), np.geterr()) == (rounding, handling)
        assert np.finfo(np.float32).smallest_subnormal > 0 and np.finfo(np.float64).smallest_subnormal > 0
        # Squares of these are subnormal, which is where flushing to zero would show, in any thread.
        for dtype, low, high in (np.float32, 3e-23, 5e-20), (np.float64, 3e-162, 7e-155):
            small = np.geomspace(low, high, 1 << 20, dtype=dtype)
            squares = F.mse_loss(small, np.zeros_like(small), reduction="none")
            assert (squares > 0).all() and (squares < np.finfo(dtype).tiny).all()
            assert (squares == small * small).all()
        with np.errstate(all="raise"):
            wild = np.array([np.inf, -np.inf, np.nan, 3e38, 1e-45, 0.0], np.float32)[np.arange(1 << 17) % 6]
            for loss in F.mse_loss, F.l1_loss, F.huber_loss, F.smooth_l1_loss, F.binary_cross_entropy_with_logits:
                loss.grad_and_hess(wild, wild[::-1], reduction="sum")
                loss(wild, wild[::-1], reduction="none")
            F.cross_entropy.value_and_grad(wild.reshape(-1, 32), np.arange(1 << 12) % 32)
            assert np.float32(1) + np.float32(2) == 3
        """
    )


# Arguments


@pytest.mark.parametrize("seed", range(3))
def test_anything_as_an_argument_gives_a_result_or_a_documented_error(seed):
    program = Path(__file__).with_name("fuzz_arguments.py")
    run(f"sys.argv[1:] = ['{seed}', '3000']\nimport runpy\nrunpy.run_path({str(program)!r})\ncheck()")
