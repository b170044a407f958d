"""Runs the script that trains and saves Keras models, and compares what was saved with what Keras answered."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from servable.model.load import load

HERE = Path(__file__).parent


class Run:
    """One run of `keras_models.py`, which goes on while others are started."""

    def __init__(self, script: str, folder: Path, *cases: str, backend: str = "tensorflow") -> None:
        self.folder = folder
        path = os.pathsep.join([str(HERE.parents[1] / "src"), os.environ.get("PYTHONPATH", "")])
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", str(HERE / script), str(folder), *cases],
            env={**os.environ, "PYTHONPATH": path, "KERAS_BACKEND": backend},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._report = None

    def __getitem__(self, case):
        if self._report is None:
            out, errors = self._process.communicate()
            assert self._process.returncode == 0, errors[-3000:]
            self._report = json.loads(out.splitlines()[-1])
        return self._report[case]

    def error(self, case):
        """Class, message and hint of the error that saving raised, as one text."""
        told = self[case]
        assert "error" in told, f"{case} was saved"
        return f"{told['error']}: {told['message']} ({told['hint']})"

    def saved(self, case, batch_safe=True):
        """The signature of what was saved, as text, after it answered new inputs as the framework did."""
        told = self[case]
        assert "error" not in told, told
        return compare(self.folder / case, told, batch_safe)

    def close(self):
        self._process.kill()
        self._process.communicate()


def compare(path: Path, told, batch_safe=True) -> str:
    """Has a version answer the inputs of a report, and compares; returns its signature."""
    with load(path) as servable:
        assert servable.batch_safe is batch_safe
        answer = servable.predict(arrays(told["inputs"]))
        (first, *_) = servable.signatures["serving_default"].outputs
        named = answer if isinstance(answer, dict) else {first.name: answer}
        assert set(named) == set(told["answers"])
        for name, expected in told["answers"].items():
            np.testing.assert_allclose(named[name], np.asarray(expected), rtol=1e-4, atol=1e-5)
        return str(servable.signatures["serving_default"])


def arrays(inputs):
    if isinstance(inputs, dict):
        return {name: np.array(values) for name, values in inputs.items()}
    return np.array(inputs)
