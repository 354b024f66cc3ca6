"""Keras's tests of its losses, run in a process of their own (see `keras_plugin`), and its losses of masks."""

import json
import os
import subprocess
import sys
from pathlib import Path

import lossrs.functional as F
import numpy as np
import pytest
import torch

os.environ.setdefault("KERAS_BACKEND", "torch")
import keras

FOLDER = Path(__file__).parent
# Of each adapter, the fewest tests that must have called it: half of what did in Keras 3.15, but of Dice, which has 2.
FEWEST, FEWEST_OF = 2, {"dice": 1}


def test_losses(tmp_path: Path) -> None:
    """All of Keras's tests that reach an adapter pass, or are refused as listed, and every adapter is reached."""
    report = tmp_path / "adapters.json"
    search_path = os.pathsep.join(filter(None, [str(FOLDER), os.environ.get("PYTHONPATH")]))
    environment = {"PYTHONPATH": search_path, "KERAS_BACKEND": "torch", "KERAS_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "pytest", "--pyargs", "keras.src.losses.losses_test", "-q", "--tb=short", "-rfs"]
    plugin = ["-p", "keras_plugin", f"--adapter-report={report}", "-p", "no:cacheprovider"]
    process = subprocess.run(
        command + plugin, cwd=tmp_path, env=os.environ | environment, capture_output=True, text=True, check=False
    )
    print(process.stdout)
    assert process.returncode == 0, process.stdout + process.stderr
    called = json.loads(report.read_text())
    assert all(count >= FEWEST_OF.get(name, FEWEST) for name, count in called.items()), called


@pytest.mark.parametrize("axis", [None, (1, 2)])
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize(("alpha", "beta"), [(0.5, 0.5), (0.25, 1.5)])
def test_losses_of_masks(axis, soft, alpha, beta):
    """Values and gradients, of the batch and of images; Keras's alpha weighs false negatives."""
    rng = np.random.default_rng(17)
    p = rng.uniform(0, 1, (4, 9, 11))
    g = rng.uniform(0, 1, p.shape) if soft else rng.integers(0, 2, p.shape).astype(float)
    options = {"from_logits": False, "per_image": axis is not None, "reduction": "none"}
    options |= {"smooth_numerator": 0.0, "smooth_denominator": keras.backend.epsilon()}
    cases = [(F.tversky_loss, {"alpha": beta, "beta": alpha}, keras.losses.Tversky(alpha, beta, "none", axis=axis))]
    if alpha == beta:
        cases.append((F.dice_loss, {}, keras.losses.Dice("none", axis=axis)))
    for function, own, loss in cases:
        tensor = torch.tensor(p, requires_grad=True)
        expected = type(loss).call(loss, torch.tensor(g), tensor)
        expected.sum().backward()
        losses, gradient = function.value_and_grad(p, g, **options, **own)
        np.testing.assert_allclose(losses, expected.detach().numpy(), rtol=1e-13)
        np.testing.assert_allclose(gradient, tensor.grad.numpy(), rtol=1e-11, atol=1e-16)
