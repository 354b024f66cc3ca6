"""A pytest plugin under which scikit-learn's tests of its losses test lossrs.

It puts adapters over lossrs in the place of the Cython losses that `sklearn._loss.loss` composes, before the tests are
imported; takes away the tests that call none of them, so that what passes are tests of lossrs; and writes how many
tests called each to `--adapter-report`.
"""

import inspect
import json
from collections import Counter
from collections.abc import Generator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import sklearn._loss.loss as sklearn_losses
from lossrs import functional

CALLED: set[str] = set()
Array = np.ndarray
Weight = np.ndarray | None


class Adapter:
    """The methods of sklearn's `CyLossFunction`. Half of a loss is the loss with weights of one half."""

    loss_function: Any
    options: Mapping[str, float] = MappingProxyType({})
    scale = 1.0

    def _call(self, verb: str, y_true: Array, raw_prediction: Array, sample_weight: Weight) -> Any:
        CALLED.add(type(self).__name__)
        if sample_weight is not None:
            sample_weight = self.scale * np.asarray(sample_weight)
        elif self.scale != 1:
            sample_weight = np.array(self.scale, dtype=raw_prediction.dtype)
        return getattr(self.loss_function, verb)(
            raw_prediction, y_true, reduction="none", sample_weight=sample_weight, **self.options
        )

    def loss(
        self, y_true: Array, raw_prediction: Array, sample_weight: Weight, loss_out: Array, n_threads: int = 1
    ) -> None:
        """Write the losses."""
        loss_out[...] = self._call("__call__", y_true, raw_prediction, sample_weight)

    def gradient(
        self, y_true: Array, raw_prediction: Array, sample_weight: Weight, gradient_out: Array, n_threads: int = 1
    ) -> None:
        """Write the gradient."""
        gradient_out[...] = self._call("value_and_grad", y_true, raw_prediction, sample_weight)[1]

    def loss_gradient(
        self,
        y_true: Array,
        raw_prediction: Array,
        sample_weight: Weight,
        loss_out: Array,
        gradient_out: Array,
        n_threads: int = 1,
    ) -> None:
        """Write the losses and the gradient."""
        loss_out[...], gradient_out[...] = self._call("value_and_grad", y_true, raw_prediction, sample_weight)

    def gradient_hessian(
        self,
        y_true: Array,
        raw_prediction: Array,
        sample_weight: Weight,
        gradient_out: Array,
        hessian_out: Array,
        n_threads: int = 1,
    ) -> None:
        """Write the gradient and the curvature."""
        gradient_out[...], hessian_out[...] = self._call("grad_and_hess", y_true, raw_prediction, sample_weight)


class CyHalfSquaredError(Adapter):
    """Half the squared error."""

    loss_function = staticmethod(functional.mse_loss)
    scale = 0.5


class CyAbsoluteError(Adapter):
    """The absolute error. Of its curvature, 1 to scikit-learn by convention, no test says anything."""

    loss_function = staticmethod(functional.l1_loss)


class CyHuberLoss(Adapter):
    """Huber's loss."""

    loss_function = staticmethod(functional.huber_loss)

    def __init__(self, delta: float) -> None:
        self.delta = delta
        self.options = {"delta": delta}


class CyHalfBinomialLoss(Adapter):
    """The binary cross-entropy of logits."""

    loss_function = staticmethod(functional.binary_cross_entropy_with_logits)


class CyHalfMultinomialLoss(Adapter):
    """The cross-entropy of logits; labels come as floats."""

    loss_function = staticmethod(functional.cross_entropy)

    def gradient_proba(
        self,
        y_true: Array,
        raw_prediction: Array,
        sample_weight: Weight,
        gradient_out: Array,
        proba_out: Array,
        n_threads: int = 1,
    ) -> None:
        """Write the gradient and the probabilities, which are the gradient without weights, plus one at the label."""
        proba = self._call("value_and_grad", y_true, raw_prediction, None)[1]
        proba[np.arange(len(y_true)), y_true.astype(int)] += 1
        proba_out[...] = proba
        self.gradient(y_true, raw_prediction, sample_weight, gradient_out)

    def _test_cy_gradient(self, y_true: Array, raw_prediction: Array, sample_weight: Weight) -> Array:
        gradient = np.empty_like(raw_prediction)
        self.gradient(y_true, raw_prediction, sample_weight, gradient)
        return gradient


ADAPTERS = {adapter.__name__: adapter for adapter in Adapter.__subclasses__()}
TESTS = Counter(dict.fromkeys(ADAPTERS, 0))
for name, adapter in ADAPTERS.items():
    assert inspect.isclass(getattr(sklearn_losses, name)), f"scikit-learn has no {name} any more"
    setattr(sklearn_losses, name, adapter)


def composed_of_adapter(loss: Any) -> bool:
    """Tell whether a loss of scikit-learn's, or a class of them, computes with one of ours."""
    return isinstance((loss() if inspect.isclass(loss) else loss).closs, Adapter)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep what has one of our losses as its parameter, or has no such parameter (then see `pytest_runtest_call`).

    What needs another device than the CPU has nothing to do with us.
    """
    kept, others = [], []
    for item in items:
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        loss = parameters.get("loss")
        if isinstance(loss, str):
            loss = sklearn_losses._LOSSES[loss]
        ours = (loss is None or composed_of_adapter(loss)) and parameters.get("device_name") in (None, "cpu")
        (kept if ours else others).append(item)
    config.hook.pytest_deselected(items=others)
    items[:] = kept


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Count the test for the adapters that it calls; don't count it as passed if it calls none."""
    CALLED.clear()
    result = yield
    if not CALLED:
        pytest.skip("passed, and called no loss of ours")
    TESTS.update(CALLED)
    return result


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--adapter-report`."""
    parser.addoption(
        "--adapter-report", type=Path, required=True, help="where to write how many tests called each adapter"
    )


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the report."""
    session.config.getoption("--adapter-report").write_text(json.dumps(TESTS))
