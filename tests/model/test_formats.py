from __future__ import annotations

import pytest

from servable.errors import InvalidArgument, NotFound
from servable.model.formats import detect_format, format_of, holds_model


def folder_of(tmp_path, *names):
    for name in names:
        (tmp_path / name).write_bytes(b"")
    return tmp_path


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["model.onnx"], ("onnx", "model.onnx")),
        (["model.onnx", "other.onnx", "readme.md"], ("onnx", "model.onnx")),
        (["digits.onnx"], ("onnx", "digits.onnx")),
        (["model.py"], ("python", "model.py")),
        (["model.py", "weights.onnx"], ("python", "model.py")),
        (["saved_model.pb"], ("saved_model", "saved_model.pb")),
        (["saved_model.pbtxt"], ("saved_model", "saved_model.pbtxt")),
        (["saved_model.pb", "model.tflite"], ("saved_model", "saved_model.pb")),
        (["model.tflite"], ("tflite", "model.tflite")),
    ],
    ids=str,
)
def test_formats_are_told_by_file_names(tmp_path, names, found):
    form = detect_format(folder_of(tmp_path, *names))
    assert (form.name, form.file) == found


@pytest.mark.parametrize("saved_model", ["saved_model.pb", "saved_model.pbtxt"])
def test_tensorflow_lite_can_be_preferred_to_a_saved_model(tmp_path, saved_model):
    assert detect_format(folder_of(tmp_path, saved_model), prefer_tflite=True).name == "saved_model"
    assert detect_format(folder_of(tmp_path, "model.tflite"), prefer_tflite=True).name == "tflite"


@pytest.mark.parametrize("names", [["model.onnx", "model.py"], ["model.onnx", "saved_model.pb"], ["a.onnx", "b.onnx"]])
def test_two_models_in_one_folder_are_a_question(tmp_path, names):
    with pytest.raises(InvalidArgument):
        detect_format(folder_of(tmp_path, *names))


def test_what_was_found_is_named(tmp_path):
    with pytest.raises(InvalidArgument, match=r"found a\.txt, model\.pkl") as caught:
        detect_format(folder_of(tmp_path, "model.pkl", "a.txt"))
    assert "pickle" in (caught.value.hint or "")


def test_a_long_list_of_files_is_cut(tmp_path):
    with pytest.raises(InvalidArgument, match="and 92 more"):
        detect_format(folder_of(tmp_path, *(f"{number}.txt" for number in range(100))))


def test_no_folder_no_files_and_no_directory_are_told_apart(tmp_path):
    with pytest.raises(NotFound):
        detect_format(tmp_path / "none")
    with pytest.raises(InvalidArgument, match="empty"):
        detect_format(tmp_path)
    with pytest.raises(InvalidArgument, match="not a folder"):
        detect_format(folder_of(tmp_path, "model.onnx") / "model.onnx")


def test_an_unknown_format_of_a_manifest_is_refused():
    with pytest.raises(InvalidArgument, match="'caffe'"):
        format_of("caffe", "model.caffe")


def test_a_folder_of_versions_holds_no_model(tmp_path):
    (tmp_path / "1").mkdir()
    assert not holds_model(tmp_path)
    assert holds_model(folder_of(tmp_path, "servable.json"))
