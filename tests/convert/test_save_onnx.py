from __future__ import annotations

import numpy as np
import onnx
import pytest

import tiny_models
from servable.convert.onnx_file import external_files
from servable.convert.save import save
from servable.errors import AlreadyExists, ConversionError, InvalidArgument, NotFound, ServableError
from servable.model.golden import read_examples
from servable.model.load import load
from servable.model.manifest import read_manifest
from servable.model.tolerance import Tolerance

X = np.array([[1, 2], [3, 5], [8, 13]], np.float32)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "models" / "m"


def write_with_weights(path, weights="weights.bin"):
    model = tiny_models.onnx_model(
        [onnx.helper.make_node("Add", ["x", "w"], ["y"])],
        {"x": (onnx.TensorProto.FLOAT, ["n", 1000])},
        {"y": (onnx.TensorProto.FLOAT, ["n", 1000])},
        {"w": np.ones(1000, np.float32)},
    )
    onnx.save(model, path, save_as_external_data=True, location=weights, size_threshold=0)
    return path


def test_a_model_in_memory_becomes_version_1(folder):
    stages = []
    version = save(tiny_models.double(), folder, examples=X, run="run 7", parent_version=3, progress=stages.append)
    assert (str(version), version.number, version.path) == ("m/1", 1, folder / "1")
    assert version.manifest == read_manifest(version.path)
    assert version.manifest.batch_safe is True
    assert (version.manifest.origin.run, version.manifest.origin.parent_version) == ("run 7", 3)
    assert len(stages) == 3


def test_the_engines_own_answers_are_the_golden_ones(folder):
    version = save(tiny_models.double(), folder, examples=X)
    (example,) = read_examples(version.path)
    assert example.outputs["y"].array.tolist() == (2 * X).tolist()


def test_a_file_is_copied(folder, tmp_path):
    onnx.save(tiny_models.double(), tmp_path / "trained.onnx")
    save(str(tmp_path / "trained.onnx"), folder, examples=X)
    with load(folder) as servable:
        assert servable.predict(X).tolist() == (2 * X).tolist()


def test_weights_in_files_of_their_own_are_copied_too(folder, tmp_path):
    path = write_with_weights(tmp_path / "trained.onnx")
    version = save(path, folder, examples=np.zeros((2, 1000), np.float32))
    assert "weights.bin" in version.manifest.files
    with load(version.path) as servable:
        assert servable.predict(np.zeros((1, 1000), np.float32)).sum() == 1000


def test_missing_weights_are_named(folder, tmp_path):
    path = write_with_weights(tmp_path / "trained.onnx")
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(NotFound, match=r"weights\.bin"):
        save(path, folder, examples=X)


@pytest.mark.parametrize("location", ["../weights.bin", "/etc/passwd", "model.onnx"])
def test_weights_outside_the_folder_are_refused(folder, tmp_path, location):
    model = onnx.load(write_with_weights(tmp_path / "trained.onnx"), load_external_data=False)
    model.graph.initializer[0].external_data[0].value = location
    (tmp_path / "trained.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ConversionError, match="cannot be kept"):
        save(tmp_path / "trained.onnx", folder, examples=X)


def test_weights_inside_inner_graphs_are_found(tmp_path):
    inner = onnx.load(write_with_weights(tmp_path / "trained.onnx"), load_external_data=False).graph
    outer = onnx.helper.make_node("If", ["c"], ["z"], then_branch=inner, else_branch=inner)
    model = onnx.helper.make_model(onnx.helper.make_graph([outer], "outer", [], []))
    (tmp_path / "outer.onnx").write_bytes(model.SerializeToString())
    assert external_files(tmp_path / "outer.onnx") == {"weights.bin"}


def test_a_model_in_memory_cannot_refer_to_files(folder, tmp_path):
    model = onnx.load(write_with_weights(tmp_path / "trained.onnx"), load_external_data=False)
    with pytest.raises(ConversionError, match=r"refers to files \(weights\.bin\)"):
        save(model, folder, examples=X)


@pytest.mark.parametrize("raw", [b"", b"\xff\xff", b"PK\x03\x04"])
def test_a_file_that_is_no_model_is_refused(folder, tmp_path, raw):
    (tmp_path / "trained.onnx").write_bytes(raw)
    with pytest.raises(ServableError):
        save(tmp_path / "trained.onnx", folder, examples=X)
    assert list(folder.iterdir()) == []


def test_examples_are_cast_to_what_the_model_takes(folder):
    version = save(tiny_models.double(), folder, examples=[[1, 2]])
    assert read_examples(version.path)[0].inputs["x"].datatype == "FP32"


@pytest.mark.parametrize("examples", [np.ones((2, 2)), {"a": [1.0]}, {"a": [1.0], "c": [1.0]}], ids=range(3))
def test_examples_with_other_names_are_refused(folder, examples):
    with pytest.raises(ConversionError, match="The model takes a, b"):
        save(tiny_models.add(), folder, examples=examples)


def test_examples_of_another_kind_are_refused(folder):
    with pytest.raises(ConversionError, match="Examples of 'x'"):
        save(tiny_models.double(), folder, examples=["a"])


def test_several_inputs_come_as_a_dict(folder):
    save(tiny_models.add(), folder, examples={"a": [1.0, 2.0], "b": [3.0, 5.0]})
    with load(folder) as servable:
        assert servable.predict({"b": [1], "a": [2]}).tolist() == [3]


def test_a_model_of_a_fixed_number_of_rows_is_asked_so_many_at_a_time(folder):
    version = save(tiny_models.double(rows=1), folder, examples=X)
    assert [each.inputs["x"].shape for each in read_examples(version.path)] == [(1, 2)] * 3
    assert version.manifest.batch_safe is False


def test_many_rows_become_several_records(folder):
    version = save(tiny_models.double(), folder, examples=np.ones((70, 2), np.float32))
    assert [len(each.inputs["x"].array) for each in read_examples(version.path)] == [32, 32, 6]


def test_rows_that_influence_each_other_are_found(folder):
    assert save(tiny_models.centred(), folder, examples=X).manifest.batch_safe is False


def test_strings_go_through(folder):
    save(tiny_models.echo_text(), folder, examples=["a", "ä"])
    with load(folder) as servable:
        assert servable.predict(["€"]).tolist() == ["€".encode()]


def test_the_tolerance_is_kept(folder):
    version = save(tiny_models.double(), folder, examples=X, tolerance={"FP32": Tolerance(0.5, 0)})
    assert read_manifest(version.path).tolerance == {"FP32": Tolerance(0.5, 0)}


def test_the_next_number_is_the_highest_plus_one(folder):
    assert save(tiny_models.double(), folder, examples=X, version=7).number == 7
    assert save(tiny_models.double(), folder, examples=X).number == 8


def test_a_taken_number_is_refused_before_any_work(folder):
    save(tiny_models.double(), folder, examples=X, version=7)
    stages = []
    with pytest.raises(AlreadyExists, match="Version 7 of m") as caught:
        save(tiny_models.double(), folder, examples=X, version=7, progress=stages.append)
    assert "take 8" in (caught.value.hint or "")
    assert stages == []


@pytest.mark.parametrize("examples", [[], np.zeros((0, 2)), {}, np.zeros((1025, 2)), object()], ids=range(5))
def test_unusable_examples_are_refused(folder, examples):
    with pytest.raises(InvalidArgument):
        save(tiny_models.double(), folder, examples=examples)


def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InvalidArgument, match="cannot be written to"):
        save(tiny_models.double(), tmp_path / "file" / "m", examples=X)
