"""scikit-learn's tests of its losses, run on lossrs in a process of their own (see `sklearn_plugin`)."""

import json
import os
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
# Of each adapter, the fewest tests that must have called it: a third of what did in scikit-learn 1.9.
FEWEST = 48


def test_losses(tmp_path: Path) -> None:
    """All of scikit-learn's tests that reach an adapter pass, and every adapter is reached."""
    report = tmp_path / "adapters.json"
    search_path = os.pathsep.join(filter(None, [str(FOLDER), os.environ.get("PYTHONPATH")]))
    # scikit-learn compares with its array API losses, and in float32, only if asked to.
    environment = {"PYTHONPATH": search_path, "SCIPY_ARRAY_API": "1", "SKLEARN_RUN_FLOAT32_TESTS": "1"}
    command = [sys.executable, "-m", "pytest", "--pyargs", "sklearn._loss.tests.test_loss", "-q", "--tb=short", "-rfs"]
    plugin = ["-p", "sklearn_plugin", f"--adapter-report={report}", "-p", "no:cacheprovider"]
    process = subprocess.run(
        command + plugin, cwd=tmp_path, env=os.environ | environment, capture_output=True, text=True, check=False
    )
    print(process.stdout)
    assert process.returncode == 0, process.stdout + process.stderr
    called = json.loads(report.read_text())
    assert min(called.values()) >= FEWEST, called
