"""The ONNX backend's node tests of SoftmaxCrossEntropyLoss and NegativeLogLikelihoodLoss."""

import warnings
from typing import Any

import numpy as np
import onnx
import pytest
from lossrs import functional
from onnx.backend.test.case.test_case import TestCase
from onnx.backend.test.loader import load_model_tests

LOSSES = {"SoftmaxCrossEntropyLoss": functional.cross_entropy, "NegativeLogLikelihoodLoss": functional.nll_loss}


def node_cases() -> dict[str, TestCase]:
    """Return the cases that are one node of these; their `_expanded` twins are graphs of other nodes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of other operators' cases, which are made in passing
        cases = load_model_tests(kind="node")
    return {case.name: case for case in cases if [node.op_type in LOSSES for node in case.model.graph.node] == [True]}


CASES = node_cases()


@pytest.mark.parametrize("name", CASES)
def test_node(name: str) -> None:
    """The loss is the node's first output; the second, `log_prob`, follows from losses."""
    case = CASES[name]
    (node,) = case.model.graph.node
    options: dict[str, Any] = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
    options["reduction"] = options["reduction"].decode()
    for inputs, outputs in case.data_sets:
        value = LOSSES[node.op_type](*inputs, **options)
        np.testing.assert_allclose(value, outputs[0], rtol=1e-6)
        for log_prob in outputs[1:]:
            np.testing.assert_allclose(log_probabilities(inputs[0]), log_prob, rtol=1e-6, atol=case.atol)


def log_probabilities(scores: np.ndarray) -> np.ndarray:
    """Return ONNX's second output, which we do not offer: our loss of each class, negated."""
    shape = scores.shape[:1] + scores.shape[2:]
    return -np.stack(
        [functional.cross_entropy(scores, np.full(shape, label), reduction="none") for label in range(scores.shape[1])],
        axis=1,
    )


def test_cases_of_both() -> None:
    """None has been lost."""
    operators = [case.model.graph.node[0].op_type for case in CASES.values()]
    assert {operator: operators.count(operator) for operator in LOSSES} == {
        "SoftmaxCrossEntropyLoss": 34,
        "NegativeLogLikelihoodLoss": 18,
    }
