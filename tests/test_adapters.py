"""The adapters, in the libraries that they are for."""

import doctest
import importlib
import math
import subprocess
import sys
import textwrap

import lossrs
import lossrs.functional as F
import lossrs.metrics
import numpy as np
import pytest

LOSS = lossrs.CrossEntropyLoss()


def batches(rng, rows=500, classes=7, size=64):
    logits = rng.standard_normal((rows, classes)).astype(np.float32)
    labels = rng.integers(0, classes, rows)
    labels[::9] = -100
    return logits, labels, [slice(start, start + size) for start in range(0, rows, size)]


def test_no_library_is_imported_with_lossrs():
    program = (
        "import sys, lossrs, lossrs.adapters, lossrs.metrics, lossrs.tables\n"
        "print([name for name in NAMES if name in sys.modules])"
    )
    names = ["torch", "torchmetrics", "transformers", "sklearn", "pyarrow", "pandas", "ray", "dask"]
    found = subprocess.run(
        [sys.executable, "-c", program.replace("NAMES", repr(names))], capture_output=True, text=True
    )
    assert found.stdout.strip() == "[]", found.stderr


def examples_of(module):
    finder = doctest.DocTestFinder(recurse=True)
    return [example for example in finder.find(module, module.__name__) if example.examples]


@pytest.mark.parametrize("name", ["torchmetrics", "transformers", "sklearn"])
def test_examples(name):
    pytest.importorskip(name)
    module = importlib.import_module(f"lossrs.adapters.{name}")
    assert examples_of(module)
    for example in examples_of(module):
        output = []
        doctest.DocTestRunner().run(example, out=output.append)
        assert not output, "".join(output)


@pytest.fixture
def metric():
    pytest.importorskip("torchmetrics")
    from lossrs.adapters.torchmetrics import LossMetric

    return LossMetric


def test_torchmetrics_over_batches(metric, rng):
    import torch

    logits, labels, parts = batches(rng)
    expected = F.cross_entropy(logits, labels)
    whole = metric(LOSS)
    for rows in parts:
        whole.update(torch.from_numpy(logits[rows]), torch.from_numpy(labels[rows]))
    assert whole.compute().item() == expected
    assert whole.compute().dtype == torch.float64
    assert whole.accumulator().result().rows == len(labels)
    # `forward` returns the batch's own figure and adds it.
    forwarded = metric(LOSS)
    for rows in parts:
        value = forwarded(torch.from_numpy(logits[rows]), torch.from_numpy(labels[rows]))
        assert value.item() == F.cross_entropy(logits[rows], labels[rows])
    assert forwarded.compute().item() == expected
    whole.reset()
    whole.update(torch.empty(0, 7), torch.empty(0, dtype=torch.int64))
    assert whole.accumulator() == lossrs.Accumulator(LOSS)
    assert math.isnan(whole.compute().item())


def test_torchmetrics_merges_and_saves(metric, rng):
    import pickle

    import torch

    logits, labels, parts = batches(rng)
    one, other = metric(LOSS, figure="perplexity"), metric(LOSS, figure="perplexity")
    for index, rows in enumerate(parts):
        (one if index % 3 else other).update(torch.from_numpy(logits[rows]), torch.from_numpy(labels[rows]))
    one.merge_state(other)
    assert one.compute().item() == np.exp(F.cross_entropy(logits, labels))
    assert pickle.loads(pickle.dumps(one)).compute() == one.compute()
    one.persistent(True)
    again = metric(LOSS, figure="perplexity")
    again.persistent(True)
    again.load_state_dict(one.state_dict())
    assert again.accumulator() == one.accumulator()


def test_torchmetrics_in_a_collection(metric, rng):
    import torch
    import torchmetrics

    logits, labels, parts = batches(rng)
    both = torchmetrics.MetricCollection({"ours": metric(LOSS), "sum": metric(LOSS, figure="sum")})
    for rows in parts:
        both.update(torch.from_numpy(logits[rows]).to(torch.bfloat16), torch.from_numpy(labels[rows]))
    half = torch.from_numpy(logits).to(torch.bfloat16).float().numpy()
    result = both.compute()
    assert result["ours"].item() == F.cross_entropy(half, labels)
    assert result["sum"].item() == F.cross_entropy(half, labels, reduction="sum")


DISTRIBUTED = """
    import os, sys
    import numpy as np, torch, lossrs
    from lossrs.adapters.torchmetrics import LossMetric

    rank = int(sys.argv[1])
    torch.distributed.init_process_group(
        "gloo", init_method="file://" + sys.argv[2], rank=rank, world_size=2
    )
    rng = np.random.default_rng(0)
    logits, labels = rng.standard_normal((100, 5)), rng.integers(0, 5, 100)
    metric = LossMetric(lossrs.CrossEntropyLoss())
    if rank < int(sys.argv[3]):
        for rows in np.array_split(np.arange(100)[rank:: int(sys.argv[3])], 3):
            metric.update(torch.from_numpy(logits[rows]), torch.from_numpy(labels[rows]))
    print(metric.compute().item().hex())
    print(metric.accumulator().result().rows)
    torch.distributed.destroy_process_group()
"""


@pytest.mark.parametrize("active", [1, 2])
def test_torchmetrics_over_processes(metric, active, tmp_path):
    program = textwrap.dedent(DISTRIBUTED)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(rank), str(tmp_path / "store"), str(active)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    outputs = [process.communicate(timeout=100) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    rng = np.random.default_rng(0)
    logits, labels = rng.standard_normal((100, 5)), rng.integers(0, 5, 100)
    expected = F.cross_entropy(logits, labels).hex()
    shares = [100, 0] if active == 1 else [50, 50]
    assert [output.split() for output, _ in outputs] == [[expected, str(share)] for share in shares]


def test_the_trainer_of_a_language_model(rng, tmp_path):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    from lossrs.adapters.transformers import ComputeMetrics

    class Model(torch.nn.Module):
        """Logits of a token by the one before it."""

        def __init__(self):
            super().__init__()
            self.table = torch.nn.Embedding(11, 11)

        def forward(self, input_ids, labels=None):
            logits = self.table(input_ids)
            loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
            return {"loss": loss, "logits": logits}

    tokens = rng.integers(0, 11, (23, 9))
    labels = np.where(rng.random((23, 9)) < 0.3, -100, tokens)
    data = [{"input_ids": ids, "labels": target} for ids, target in zip(tokens, labels, strict=True)]
    model = Model()
    logits = model.table.weight.detach().numpy()[tokens][:, :-1].reshape(-1, 11)
    expected = F.cross_entropy(logits, labels[:, 1:].reshape(-1))
    for batch_eval in (True, False):
        metrics = ComputeMetrics(LOSS, shift=True)
        arguments = transformers.TrainingArguments(
            output_dir=str(tmp_path),
            per_device_eval_batch_size=5,
            batch_eval_metrics=batch_eval,
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
        )
        trainer = transformers.Trainer(model, arguments, eval_dataset=data, compute_metrics=metrics)
        for _ in range(2):
            found = trainer.evaluate()
            assert found["eval_exact_loss"] == expected
            assert found["eval_exact_perplexity"] == pytest.approx(math.exp(expected))
            assert found["eval_exact_rows"] == 23 * 8
            assert found["eval_exact_ignored"] == (labels[:, 1:] == -100).sum()


@pytest.mark.parametrize("weighted", [False, True])
def test_scorers_of_sklearn(rng, weighted):
    from lossrs.adapters.sklearn import loss_scorer
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression, QuantileRegressor
    from sklearn.metrics import log_loss, make_scorer, mean_pinball_loss
    from sklearn.model_selection import cross_val_score

    features, species = load_iris(return_X_y=True)
    names = np.array(["setosa", "versicolor", "virginica"])[species]
    model = LogisticRegression(max_iter=1000)
    expected = cross_val_score(model, features, names, scoring="neg_log_loss")
    for scorer in (
        loss_scorer(lossrs.NLLLoss(), labels=np.unique(names)),
        loss_scorer(LOSS, response_method="decision_function", labels=np.unique(names)),
        make_scorer(lossrs.metrics.log_loss, response_method="predict_proba", greater_is_better=False),
    ):
        np.testing.assert_allclose(cross_val_score(model, features, names, scoring=scorer), expected, rtol=1e-9)
    fitted = model.fit(features, names)
    weight = rng.random(len(names)) if weighted else None
    scorer = loss_scorer(lossrs.NLLLoss())
    expected = -log_loss(names, fitted.predict_proba(features), sample_weight=weight)
    assert scorer(fitted, features, names, sample_weight=weight) == pytest.approx(expected)
    two = species < 2
    fitted = model.fit(features[two], names[two])
    expected = -log_loss(names[two], fitted.predict_proba(features[two]))
    for method in ("predict_proba", "decision_function"):
        scorer = loss_scorer(LOSS, response_method=method)
        assert scorer(fitted, features[two], names[two]) == pytest.approx(expected)
    regressor = QuantileRegressor(quantile=0.8, alpha=0).fit(features[:, 1:], features[:, 0])
    found = loss_scorer(lossrs.PinballLoss(alpha=0.8))(regressor, features[:, 1:], features[:, 0])
    assert found == pytest.approx(-mean_pinball_loss(features[:, 0], regressor.predict(features[:, 1:]), alpha=0.8))


def test_scorers_are_picklable():
    import pickle

    from lossrs.adapters.sklearn import loss_scorer

    scorer = loss_scorer(lossrs.NLLLoss())
    assert repr(pickle.loads(pickle.dumps(scorer))) == repr(scorer)
