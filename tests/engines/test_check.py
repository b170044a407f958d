"""`check_version` on engines that have a choice, and with their golden examples."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import servable
from servable.engines.check import check_version
from servable.errors import FailedPrecondition, Unimplemented
from servable.model.golden import GoldenExample, write_examples
from servable.wire.tensors import as_tensor


@pytest.fixture
def network(saved_models: Path, tmp_path: Path) -> Path:
    """A network of Keras as a SavedModel, with its own answers."""
    folder = shutil.copytree(saved_models / "network" / "1", tmp_path / "1")
    images, answers = (as_tensor(np.load(saved_models / f"{name}.npy"), "FP32") for name in ("images", "answers"))
    with servable.load(folder) as loaded:
        signature = loaded.signatures["serving_default"]
    write_examples(
        folder,
        [GoldenExample({signature.inputs[0].name: images}, {signature.outputs[0].name: answers}, signature.name)],
    )
    return folder


@pytest.mark.tensorflow
def test_tensorflow_is_kept_to_the_processor(network: Path) -> None:
    found = check_version(network, device="cpu")
    assert (found.passed, found.batch_safe, found.format.engine) == (True, True, "tensorflow")


@pytest.mark.tensorflow
def test_a_gpu_that_is_not_there_is_missed(network: Path) -> None:
    if Path("/dev/nvidia0").exists():
        assert check_version(network, device="gpu").passed
        return
    with pytest.raises(FailedPrecondition, match="no GPU"):
        check_version(network, device="gpu")


@pytest.mark.litert
def test_a_tflite_file_is_checked_beside_its_saved_model(
    saved_models: Path, tflite_models: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(saved_models / "affine" / "1", tmp_path / "1")
    shutil.copy(tflite_models / "half_plus_two" / "1" / "model.tflite", folder)
    x = np.array([1, 2, 5], np.float32)
    write_examples(folder, [GoldenExample({"tflite_input": as_tensor(x)}, {"tflite_output": as_tensor(x / 2 + 2)})])
    assert check_version(folder, engine="litert").passed
    with pytest.raises(Unimplemented, match="CPU alone"):
        check_version(folder, engine="litert", device="gpu")


def test_a_python_model_chooses_its_device_itself(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text("")
    with pytest.raises(Unimplemented, match="itself"):
        check_version(tmp_path, device="cpu")
