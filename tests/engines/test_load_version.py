from __future__ import annotations

import numpy as np
import onnx
import pytest

import tiny_models
from example_models import MODELS
from servable.convert.save import save
from servable.engines.load import load_version
from servable.engines.native import run
from servable.engines.options import EngineOptions
from servable.errors import (
    EngineMissing,
    GoldenMismatch,
    InvalidArgument,
    ManifestError,
    NotFound,
    ServableError,
)
from servable.model.golden import FILE_NAME, GoldenExample, write_examples
from servable.wire.examples import encode_example
from servable.wire.tensors import as_tensor
from servable.wire.tfrecord import write_records
from version_folders import publish_python

X = np.array([[1, 2], [3, 5]], np.float32)


@pytest.fixture
def plain(tmp_path):
    """Writes a folder without a manifest, as anybody may have it."""

    def write(model, *examples, name="model.onnx"):
        onnx.save(model, tmp_path / name)
        if examples:
            write_examples(tmp_path, examples)
        return tmp_path

    return write


def example(factor=2):
    return GoldenExample({"x": as_tensor(X)}, {"y": as_tensor(X * np.float32(factor))})


def test_a_plain_folder_is_loaded(plain, load):
    loaded = load(plain(tiny_models.double(), name="doubler.onnx"))
    assert str(loaded.signatures[0]) == "serving_default(x: FP32 [-1, 2]) -> y: FP32 [-1, 2]"
    assert (loaded.manifest, loaded.batch_safe, loaded.batchable, loaded.golden_examples) == (None, None, False, 0)
    assert run(loaded.servable, "serving_default", {"x": as_tensor(X)})["y"].array.tolist() == (X * 2).tolist()


def test_a_plain_folder_with_examples_is_proven_while_it_loads(plain, load):
    loaded = load(plain(tiny_models.double(), example()))
    assert loaded.batchable
    assert loaded.golden_examples == 1


def test_a_plain_folder_whose_rows_influence_each_other_is_not_batched(plain, load):
    assert load(plain(tiny_models.centred(), GoldenExample({"x": as_tensor(X)}))).batch_safe is False


def test_a_model_of_one_row_is_not_batched(plain, load):
    assert load(plain(tiny_models.double(rows=1), GoldenExample({"x": as_tensor(X[:1])}))).batch_safe is False


def test_a_changed_golden_answer_is_refused_with_a_table(plain):
    with pytest.raises(GoldenMismatch, match=r"y +FP32 +4 of 4"):
        load_version(plain(tiny_models.double(), example(3)))


def test_an_example_that_the_model_refuses_fails_the_load(plain):
    wrong = GoldenExample({"x": as_tensor(np.zeros((1, 3), np.float32))})
    with pytest.raises(ServableError):
        load_version(plain(tiny_models.double(), wrong))


def test_a_saved_version_is_loaded_with_its_manifest(tmp_path, load):
    loaded = load(save(tiny_models.double(), tmp_path / "m", examples=X).path)
    assert loaded.manifest is not None
    assert loaded.batchable
    assert loaded.footprint > 0


def test_corrupted_weights_are_refused(tmp_path):
    path = save(tiny_models.double(), tmp_path / "m", examples=X).path
    raw = bytearray((path / "model.onnx").read_bytes())
    raw[-20] ^= 1
    (path / "model.onnx").write_bytes(raw)
    with pytest.raises(ManifestError, match="checksum"):
        load_version(path)


def test_a_half_copied_version_is_refused(tmp_path):
    path = save(tiny_models.double(), tmp_path / "m", examples=X).path
    (path / "assets.extra" / "tf_serving_warmup_requests").unlink()
    with pytest.raises(ManifestError, match="is missing"):
        load_version(path)


def test_threads_of_a_saved_version_are_kept(tmp_path, load):
    version = save(tiny_models.double(), tmp_path / "m", examples=X, options=EngineOptions(intra_op_threads=2))
    assert version.manifest.engine_options == {"intra_op_threads": 2}
    load(version.path)


def test_an_onnx_file_that_is_none_is_refused(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(ServableError):
        load_version(tmp_path)


def test_a_folder_that_is_not_there_is_not_found(tmp_path):
    with pytest.raises(NotFound):
        load_version(tmp_path / "none")


def test_a_missing_engine_says_what_to_install(plain, monkeypatch):
    monkeypatch.setattr("servable.engines.library._package_folder", lambda package: None)
    with pytest.raises(EngineMissing, match="not installed"):
        load_version(plain(tiny_models.double()))


def test_wrong_inputs_are_the_callers_fault(plain, load):
    loaded = load(plain(tiny_models.double()))
    with pytest.raises(InvalidArgument):
        run(loaded.servable, "serving_default", {"x": as_tensor([[1, 2]])})


def with_records(folder, logs):
    """A version of the model `both` (see example_models) with these records of Google's as its warm-up file."""
    version = publish_python(folder, 1, MODELS["both"])
    path = version / FILE_NAME
    path.parent.mkdir()
    with path.open("wb") as file:
        write_records(file, [log.SerializeToString() for log in logs])
    return version


def classify_log(tfs, score):
    log = tfs.log.PredictionLog().classify_log
    log.request.input.example_list.examples.add().features.feature["a"].int64_list.value.append(1)
    classes = log.response.result.classifications.add().classes
    classes.add(label="short", score=-score)
    classes.add(label="long", score=score)
    return tfs.log.PredictionLog(classify_log=log)


def test_records_of_classify_are_replayed_and_compared(load, tmp_path, tfs):
    size = len(encode_example({"a": 1}))
    assert load(with_records(tmp_path / "good", [classify_log(tfs, size)])).golden_examples == 1
    with pytest.raises(GoldenMismatch, match="scores"):
        load(with_records(tmp_path / "bad", [classify_log(tfs, size + 1)]))
