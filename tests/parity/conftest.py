"""The suites run, or the run fails: no test here is skipped because something is not installed."""

import importlib.util

import pytest

NEEDED = ("expecttest", "hypothesis", "keras", "lossrs", "ml_dtypes", "numpy", "onnx", "sklearn", "torch")
if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
    raise pytest.UsageError(f"tests/parity needs {', '.join(missing)}: install lossrs[parity]")

import lossrs  # noqa: E402

from . import torch_calls  # noqa: E402

torch_calls.torch.set_num_threads(1)  # the tensors are small


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what torch has and we have not, so that a green run claims no more than it tried."""
    covered = {
        "torch.nn.functional": (torch_calls.TORCH_LOSSES, set(lossrs.losses)),
        "torch.nn": (torch_calls.TORCH_LOSS_CLASSES, set(torch_calls.CLASSES)),
    }
    terminalreporter.section("losses of torch")
    for where, (names, ours) in covered.items():
        absent = [name for name in names if name not in ours]
        terminalreporter.line(
            f"{where}: {len(names) - len(absent)} of {len(names)} in lossrs; not: {', '.join(absent)}"
        )
