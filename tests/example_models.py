"""Python models that take serialized tf.Examples, but look at nothing more than their bytes."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from version_folders import publish, publish_python

if TYPE_CHECKING:
    from pathlib import Path


def source(outputs: dict[str, Any], answer: str, inputs: str = '{"inputs": ("BYTES", [-1])}') -> str:
    """A `model.py`; `answer` may use `x`, the examples, and `sizes`, their lengths as float32."""
    return f"""
import numpy as np

class Model:
    signature = {{"inputs": {inputs}, "outputs": {outputs!r}}}

    def predict(self, x):
        sizes = np.array([len(each) if isinstance(each, bytes) else 0 for each in x], np.float32)
        return {answer}
"""


CLASSES, SCORES, VALUES = ("BYTES", [-1, -1]), ("FP32", [-1, -1]), ("FP32", None)
STRINGS = "np.array([[b'short', b'long']] * len(x), object)"
PAIRS = "np.stack([-sizes, sizes], axis=1)"
MODELS = {
    "both": source({"classes": CLASSES, "scores": SCORES}, f"{{'classes': {STRINGS}, 'scores': {PAIRS}}}"),
    "labels": source({"classes": CLASSES}, STRINGS),
    "scores": source({"scores": SCORES}, PAIRS),
    # The label of the only class is the example itself, as hexadecimal digits.
    "echo": source({"classes": CLASSES}, "np.array([[each.hex().encode()] for each in x], object)"),
    "values": source({"outputs": ("FP32", [-1])}, "sizes"),
    "column": source({"outputs": ("FP32", [-1, 1])}, "sizes[:, None]"),
    "wide": source({"outputs": ("FP32", [-1, 2])}, PAIRS),
    "flat": source({"scores": ("FP32", [-1])}, "sizes"),
    "predicts": source({"y": ("FP32", [-1])}, "sizes"),
    "floats": source({"outputs": ("FP32", [-1])}, "x", '{"inputs": ("FP32", [-1])}'),
    "named": source({"scores": SCORES}, PAIRS, '{"x": ("BYTES", [-1])}'),
}


def publish_all(folder: Path) -> None:
    """Every model as version 1 of its own folder, and `two`: the signatures `serving_default` and `other`."""
    for name, model in MODELS.items():
        publish_python(folder / name, 1, model)
    publish_two(folder / "two")


def publish_two(folder: Path) -> None:
    """Two signatures with the same tensors: a Python model is not told which of them is meant."""
    model = MODELS["values"].encode()
    signatures = [
        {
            "name": name,
            "inputs": [{"name": "inputs", "datatype": "BYTES", "shape": [-1]}],
            "outputs": [{"name": "outputs", "datatype": "FP32", "shape": [-1]}],
        }
        for name in ("serving_default", "other")
    ]
    files = {"model.py": {"size": len(model), "sha256": hashlib.sha256(model).hexdigest()}}
    manifest = {"schema": 1, "format": "python", "file": "model.py", "signatures": signatures, "files": files}
    publish(folder, 1, {"model.py": model, "servable.json": json.dumps(manifest).encode()})
