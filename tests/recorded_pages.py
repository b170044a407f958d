"""Metadata as servers of the two protocols write it, and what they are asked and answer in tests of the client."""

from __future__ import annotations

from typing import Any

import numpy as np

X = np.arange(6, dtype=np.float32).reshape(3, 2)
Y = np.array([[0.25], [0.5], [np.inf]], np.float32)


def tf_metadata(version: int = 3, **signatures: tuple[dict[str, str], dict[str, str]]) -> dict[str, Any]:
    """The metadata page of TensorFlow Serving; a signature is two dicts from names to dtypes."""

    def infos(tensors: dict[str, str]) -> dict[str, Any]:
        shape = {"dim": [{"size": "-1", "name": ""}, {"size": "2", "name": ""}], "unknown_rank": False}
        return {name: {"dtype": dtype, "tensor_shape": shape, "name": f"{name}:0"} for name, dtype in tensors.items()}

    definitions = {
        name: {"inputs": infos(inputs), "outputs": infos(outputs), "method_name": "tensorflow/serving/predict"}
        for name, (inputs, outputs) in signatures.items()
    }
    return {
        "model_spec": {"name": "m", "signature_name": "", "version": str(version)},
        "metadata": {"signature_def": {"signature_def": definitions}},
    }


def oip_metadata(**inputs: str) -> dict[str, Any]:
    return {
        "name": "m",
        "versions": ["1"],
        "platform": "onnx",
        "inputs": [{"name": name, "datatype": datatype, "shape": [-1, 2]} for name, datatype in inputs.items()],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 1]}],
    }
