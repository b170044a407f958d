"""The package `tensorflow-serving-api`, with which TensorFlow Serving's clients are written, works against us."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from contract.model_server_process import ModelServerProcess, models_config

SCRIPT = Path(__file__).with_name("serving_api_client.py")


@pytest.mark.tensorflow
def test_every_method_of_googles_client_is_answered(saved_models: Path, tmp_path: Path) -> None:
    folder = saved_models / "half_plus_two"
    config = tmp_path / "models.config"
    config.write_text(models_config({"half": folder}))
    server = ModelServerProcess(f"--model_config_file={config}")
    try:
        server.wait_for('"Ready:')
        command = [sys.executable, str(SCRIPT), f"127.0.0.1:{server.port}", "half", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    finally:
        server.end()
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "predict": [[2.5], [3.0], [4.5]],
        "classify": [["low", 5.0], ["high", 2.5]],
        "regress": [2.5, 4.5],
        "multi_inference": ["classification_result", "regression_result"],
        "metadata": ["classify", "regress", "serving_default", "variable"],
        "status": [[1, "AVAILABLE", 0]],
        "reload": [0, [[2.5], [3.0], [4.5]]],
    }
