"""Modules of TensorFlow become SavedModels; a SavedModel is taken as it is."""

from __future__ import annotations

import shutil
import sys

import numpy as np
import pytest
from keras_runs import Run

from servable.convert.save import save
from servable.errors import ConversionError, ServableError
from servable.model.golden import read_examples
from servable.model.load import load

pytestmark = pytest.mark.tensorflow

X = np.array([[1, 2], [3, 5]], np.float32)
SAVED = ["affine", "words", "keywords", "text_before", "keras_2", "folder"]
REFUSED = ["untracked", "nothing_to_call", "no_function", "as_onnx", "failing"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    run = Run("tensorflow_modules.py", tmp_path_factory.mktemp("tensorflow"), *SAVED, *REFUSED)
    yield run
    run.close()


@pytest.fixture
def made_by_tensorflow(run):
    assert "answers" in run["folder"]
    return run.folder / "made_by_tensorflow"


@pytest.mark.parametrize(
    ("case", "signature"),
    [
        ("words", "words: BYTES [-1]) -> output_0: INT64 [-1], output_1: INT32 [-1]"),
        ("keywords", "left: FP32 [-1, 2], right: FP32 [-1, 2]) -> outputs: FP32 [-1, 2]"),
        ("text_before", "inputs: BYTES [-1]) -> outputs: FP32 [-1]"),
        ("keras_2", "inputs: FP32 [-1, 2]) -> outputs: FP32 [-1, 3]"),
    ],
)
def test_a_module_answers_new_inputs_as_it_did(run, case, signature):
    assert run.saved(case) == f"serving_default({signature}"


def test_the_file_of_a_table_is_among_the_assets(run):
    run.saved("words")
    assert (run.folder / "words" / "1" / "assets" / "words.txt").read_text() == "no\nyes\n"


def test_further_functions_keep_their_own_inputs_and_are_proven_where_they_take_the_examples(run):
    assert "answers" in run["affine"]
    with load(run.folder / "affine") as servable:
        assert servable.predict(X).tolist() == (3 * X + 1).tolist()
        np.testing.assert_allclose(servable.predict(3 * X + 1, signature="back"), X)
        repeated = servable.predict({"times": 2, "words": ["a", "b"]}, signature="repeat")
    assert repeated.tolist() == [b"a", b"a", b"b", b"b"]
    examples = read_examples(run.folder / "affine" / "1")
    assert sorted(example.signature for example in examples) == ["back", "serving_default"]


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("untracked", "keep tables and variables as attributes of a tf.Module"),
        ("nothing_to_call", "Module has no function to serve (give it __call__"),
        ("no_function", "Signature 'back' is no function but a int"),
        ("as_onnx", "cannot be written as 'onnx' (it becomes saved_model)"),
        ("failing", "The model fails on the examples (left, right)"),
    ],
)
def test_what_cannot_be_saved_is_named(run, case, words):
    assert words in run.error(case)
    assert not (run.folder / case / "1").exists()


def test_a_folder_is_taken_with_all_its_signatures_and_answers_itself(made_by_tensorflow, tmp_path):
    before = set(sys.modules)  # another test may have imported it
    version = save(made_by_tensorflow, tmp_path / "m", examples=X)
    assert version.manifest.batch_safe is True
    (example,) = read_examples(version.path)
    (answer,) = example.outputs.values()
    assert answer.array.tolist() == (3 * X + 1).tolist()
    with load(version.path) as servable:
        assert sorted(servable.signatures) == ["back", "serving_default"]
    assert "tensorflow" not in set(sys.modules) - before


def test_examples_that_a_folder_does_not_take_are_refused(made_by_tensorflow, tmp_path):
    with pytest.raises(ConversionError, match="takes x; the examples are a, b"):
        save(made_by_tensorflow, tmp_path / "m", examples={"a": X, "b": X})


def test_what_comes_before_a_folder_is_refused(made_by_tensorflow, tmp_path):
    with pytest.raises(ConversionError, match="takes no preprocess"):
        save(made_by_tensorflow, tmp_path / "m", examples=X, preprocess=abs)


def test_a_folder_is_not_copied_into_itself(made_by_tensorflow, tmp_path):
    source = tmp_path / "m"
    shutil.copytree(made_by_tensorflow, source)
    with pytest.raises(ConversionError, match="into itself"):
        save(source, source, examples=X)


def test_a_folder_without_its_variables_is_refused(made_by_tensorflow, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(made_by_tensorflow, broken)
    shutil.rmtree(broken / "variables")
    with pytest.raises(ServableError, match="variables"):
        save(broken, tmp_path / "m", examples=X)
    assert not list((tmp_path / "m").glob("1"))
