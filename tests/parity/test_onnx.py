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
    """The loss is the node's first output, and the log-probabilities are the second, where it has one."""
    case = CASES[name]
    (node,) = case.model.graph.node
    options: dict[str, Any] = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
    options["reduction"] = options["reduction"].decode()
    if len(node.output) > 1:
        options["return_log_prob"] = True
    for inputs, outputs in case.data_sets:
        results = LOSSES[node.op_type](*inputs, **options)
        for ours, expected in zip(results if len(outputs) > 1 else [results], outputs, strict=True):
            np.testing.assert_allclose(ours, expected, rtol=1e-6, atol=case.atol)


def test_cases_of_both() -> None:
    """None has been lost."""
    operators = [case.model.graph.node[0].op_type for case in CASES.values()]
    assert {operator: operators.count(operator) for operator in LOSSES} == {
        "SoftmaxCrossEntropyLoss": 34,
        "NegativeLogLikelihoodLoss": 18,
    }
