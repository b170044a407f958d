"""Writes a large SavedModel: `python -m bench.saved_model FOLDER`. Only this process imports TensorFlow's Python."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from bench.tools import ROOT, WORK, BenchError

ROWS, COLUMNS = 7500, 10_000
"""300 MB of float32."""


def large() -> Path:
    """The folder of a SavedModel of 300 MB; made once, and taken again by later runs."""
    path = WORK / "saved_models" / "large"
    if not path.exists():
        partial = path.with_suffix(".partial")
        command = [sys.executable, "-m", "bench.saved_model", str(partial)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
        if done.returncode:
            raise BenchError(f"The SavedModel could not be made:\n{done.stderr[-2000:]}")
        partial.rename(path)
    return path


def main(folder: Path) -> None:
    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    import tensorflow as tf  # type: ignore[import-untyped]

    class Large(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            self.weights = tf.Variable(tf.random.stateless_uniform([ROWS, COLUMNS], [1, 2]))

        @tf.function(input_signature=[tf.TensorSpec([None, ROWS], tf.float32, name="x")])  # type: ignore[untyped-decorator]
        def multiply(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"y": tf.reduce_sum(tf.matmul(x, self.weights), axis=1)}

    module = Large()
    tf.saved_model.save(module, str(folder), signatures=module.multiply)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
