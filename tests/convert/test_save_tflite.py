"""TensorFlow Lite files become versions that LiteRT answers for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from servable.convert.save import save
from servable.errors import ConversionError, GoldenMismatch, NotFound, ServableError
from servable.model.golden import GoldenExample, read_examples, write_examples
from servable.model.load import load
from servable.wire.tensors import as_tensor

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.litert
X = np.arange(6, dtype=np.float32).reshape(3, 2)


@pytest.fixture
def affine(tflite_models: Path) -> Path:
    return tflite_models / "affine" / "1" / "model.tflite"


def test_a_file_becomes_a_version_with_the_engines_answers(affine, tmp_path):
    version = save(affine, tmp_path / "m", examples={"z": X, "a": X})
    assert version.manifest.format == "tflite"
    assert "ai-edge-litert" in version.manifest.frameworks
    (example,) = read_examples(version.path)
    assert example.outputs["sum"].array.tolist() == (3 * X).tolist()
    with load(version.path) as servable:
        assert servable.predict({"z": X, "a": X})["difference"].tolist() == X.tolist()
        assert servable.predict(X, signature="back").tolist() == (X / 2).tolist()


def test_what_the_converter_gave_needs_no_file(affine, tmp_path):
    assert save(affine.read_bytes(), tmp_path / "m", examples={"z": X, "a": X}).manifest.batch_safe is True


def test_a_model_of_one_row_is_asked_a_row_at_a_time(tflite_models, tmp_path):
    path = tflite_models / "half_plus_two" / "1" / "model.tflite"
    version = save(str(path), tmp_path / "m", examples=[[1], [2], [5]])
    answers = [example.outputs["tflite_output"].array.tolist() for example in read_examples(version.path)]
    assert answers == [[[2.5]], [[3.0]], [[4.5]]]
    assert version.manifest.batch_safe is False


def test_examples_of_other_names_are_refused(affine, tmp_path):
    with pytest.raises(ConversionError, match="The model takes a, z"):
        save(affine, tmp_path / "m", examples=X)


@pytest.mark.parametrize("raw", [b"", b"\x1c\0\0\0TFL", b"PK\x03\x04abcdefgh", b"\x1c\0\0\0TFL3" + b"\xff" * 64])
def test_a_file_that_is_no_model_is_refused_and_leaves_nothing(tmp_path, raw):
    (tmp_path / "trained.tflite").write_bytes(raw)
    with pytest.raises(ServableError):
        save(tmp_path / "trained.tflite", tmp_path / "m", examples=X)
    assert list((tmp_path / "m").iterdir()) == []


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(NotFound, match=r"trained\.tflite"):
        save(tmp_path / "trained.tflite", tmp_path / "m", examples=X)


@pytest.mark.parametrize("arguments", [{"preprocess": len}, {"format": "onnx"}, {"signatures": {"other": len}}])
def test_what_a_file_has_no_place_for_is_refused(affine, tmp_path, arguments):
    with pytest.raises(ConversionError):
        save(affine, tmp_path / "m", examples={"z": X, "a": X}, **arguments)


def test_strings_that_litert_cannot_carry_are_refused(tflite_models, tmp_path):
    with pytest.raises(ServableError):
        save(tflite_models / "words" / "1" / "model.tflite", tmp_path / "m", examples=["a"])


def test_a_changed_golden_answer_keeps_it_from_being_loaded(affine, tmp_path):
    version = save(affine, tmp_path / "m", examples={"z": X, "a": X})
    (example,) = read_examples(version.path)
    wrong = {**example.outputs, "sum": as_tensor(3 * X + 1)}
    write_examples(version.path, [GoldenExample(example.inputs, wrong)])
    (version.path / "servable.json").unlink()
    with pytest.raises(GoldenMismatch, match="sum"):
        load(version.path)


def test_a_file_that_was_changed_afterwards_is_not_loaded(affine, tmp_path):
    version = save(affine, tmp_path / "m", examples={"z": X, "a": X})
    path = version.path / "model.tflite"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(ServableError, match=r"model\.tflite"):
        load(version.path)
