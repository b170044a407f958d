"""SavedModels through TensorFlow's C library: they answer as TensorFlow does, and their errors are TensorFlow's."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

import servable
from servable.engines.native import run
from servable.engines.options import EngineOptions, TensorFlowOptions
from servable.errors import DeadlineExceeded, EngineMissing, InvalidArgument, NotFound, ServableError
from servable.wire.tensors import as_tensor

if TYPE_CHECKING:
    from collections.abc import Callable

    from servable.engines.load import Loaded

pytestmark = pytest.mark.tensorflow


def f32(values: object) -> np.ndarray:
    return np.asarray(values, np.float32)


def test_a_keras_model_answers_as_keras_did(saved_models: Path) -> None:
    with servable.load(saved_models / "network" / "1") as network:
        answers = network.predict(np.load(saved_models / "images.npy"))
    np.testing.assert_allclose(answers, np.load(saved_models / "answers.npy"), rtol=1e-6)


def test_preprocessing_inside_a_model_takes_raw_numbers_and_strings(saved_models: Path) -> None:
    with servable.load(saved_models / "prepared" / "1") as model:
        answers = model.predict({"age": f32([[40], [20]]), "town": np.array([["Bergen"], ["Rome"]])})
    np.testing.assert_allclose(answers.ravel(), [1.0, 1.0 - np.sqrt(1.5)], rtol=1e-5)


def test_strings_go_through_a_table_with_an_asset_file(saved_models: Path) -> None:
    words = ["bb", "a word of more than twenty-two bytes", "", "na\0me", "münchen " * 10]
    with servable.load(saved_models / "words" / "1") as model:
        answers = model.predict(np.array(words, object))
    assert answers["numbers"].tolist() == [1, 2, -1, -1, -1]
    assert answers["upper"].tolist()[:4] == [b"BB", b"A WORD OF MORE THAN TWENTY-TWO BYTES", b"", b"NA\0ME"]
    assert answers["upper"][4].decode() == "MüNCHEN " * 10


def test_a_thousand_strings_of_every_length_come_back(saved_models: Path) -> None:
    words = [b"X" * length for length in range(1000)]
    with servable.load(saved_models / "words" / "1") as model:
        assert model.predict(np.array(words, object))["upper"].tolist() == words
        assert model.predict(np.array([], object))["upper"].tolist() == []


def test_operations_of_tensorflow_text_are_found_where_it_is_installed(saved_models: Path) -> None:
    with servable.load(saved_models / "tokens" / "1") as model:
        answers = model.predict(np.array(["to be", "or"], object))
    assert answers["tokens"].tolist() == [b"to", b"be", b"or"]
    assert answers["row_lengths"].tolist() == [2, 1]


def test_an_operation_that_no_library_has_is_named(saved_models: Path) -> None:
    # In a process of its own: libraries of operations stay open once they are.
    script = """
import sys, servable, servable.engines.options as options
options.tensorflow_text_libraries = list
servable.load(sys.argv[1])
"""
    command = [sys.executable, "-c", script, str(saved_models / "tokens" / "1")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "Op type not registered" in done.stderr


def test_a_library_of_operations_that_is_none_is_refused(saved_models: Path, tmp_path: Path) -> None:
    library = tmp_path / "ops.so"
    library.write_bytes(b"nothing")
    options = EngineOptions(tensorflow=TensorFlowOptions(custom_ops=(library,)))
    with pytest.raises(ServableError, match=r"ops\.so"):
        servable.load(saved_models / "affine" / "1", options=options)


def test_every_signature_can_be_called(load: Callable[..., Loaded], saved_models: Path) -> None:
    loaded = load(saved_models / "affine" / "1")
    assert [each.name for each in loaded.signatures] == ["back", "serving_default"], "and no initialisers"
    assert run(loaded.servable, "back", {"y": as_tensor(f32([[3, 5]]))})["x"].array.tolist() == [[1, 2]]


def test_outputs_that_are_not_wanted_are_not_given(load: Callable[..., Loaded], saved_models: Path) -> None:
    loaded = load(saved_models / "affine" / "1")
    answer = run(loaded.servable, "serving_default", {"x": as_tensor(f32([[1, 2]]))}, ["twice"])
    assert {name: tensor.array.tolist() for name, tensor in answer.items()} == {"twice": [[2, 4]]}


def test_a_graph_of_tensorflow_1_takes_shapes_that_its_signature_does_not_say(
    load: Callable[..., Loaded], saved_models: Path
) -> None:
    loaded = load(saved_models / "half_plus_two" / "1")
    answer = run(loaded.servable, "serving_default", {"x": as_tensor(f32([1, 2, 5]))})
    assert answer["y"].array.tolist() == [2.5, 3, 4.5]


def test_a_variable_of_tensorflow_1_is_read_as_its_value(load: Callable[..., Loaded], saved_models: Path) -> None:
    loaded = load(saved_models / "half_plus_two" / "1")
    assert run(loaded.servable, "variable", {"x": as_tensor(f32([[1]]))})["b"].array == 2.0


def test_a_graph_that_is_pinned_to_a_gpu_runs_without_one(saved_models: Path) -> None:
    with servable.load(saved_models / "pinned" / "1") as model:
        assert model.predict(f32([1, 2])).tolist() == [2, 4]


def test_a_wrong_dtype_is_refused_in_tensorflows_words(load: Callable[..., Loaded], saved_models: Path) -> None:
    loaded = load(saved_models / "affine" / "1")
    with pytest.raises(InvalidArgument, match=r"Expects arg\[0\] to be float but int32 is provided"):
        run(loaded.servable, "serving_default", {"x": as_tensor(np.array([[1, 2]], np.int32))})


def test_a_wrong_shape_is_refused_by_the_graph(load: Callable[..., Loaded], saved_models: Path) -> None:
    loaded = load(saved_models / "network" / "1")
    with pytest.raises(InvalidArgument, match="Matrix size-incompatible"):
        run(loaded.servable, "serving_default", {"image": as_tensor(f32([[1, 2, 3]]))})


def test_a_run_is_given_up_at_its_deadline(load: Callable[..., Loaded], saved_models: Path) -> None:
    loaded = load(saved_models / "endless" / "1")
    inputs = {"x": as_tensor(f32([1]))}
    start = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        run(loaded.servable, "serving_default", inputs, timeout=0.3)
    assert time.monotonic() - start < 20


def test_tags_that_no_meta_graph_has_are_refused(saved_models: Path) -> None:
    options = EngineOptions(tensorflow=TensorFlowOptions(tags=("serve", "gpu")))
    with pytest.raises(NotFound, match="tags"):
        servable.load(saved_models / "affine" / "1", options=options)


@pytest.fixture
def damaged(saved_models: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved_models / "affine" / "1", tmp_path / "1"))


def test_a_corrupt_graph_is_refused(damaged: Path) -> None:
    (damaged / "saved_model.pb").write_bytes(b"\x08\x01\xff\xff")
    with pytest.raises(ServableError):
        servable.load(damaged)


def test_truncated_variables_are_refused(damaged: Path) -> None:
    data = damaged / "variables" / "variables.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:10])
    with pytest.raises(ServableError):
        servable.load(damaged)


def test_a_server_without_tensorflow_says_what_to_install(saved_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("servable.engines.library._package_folder", lambda package: None)
    with pytest.raises(EngineMissing, match="TensorFlow is not installed") as raised:
        servable.load(saved_models / "affine" / "1")
    assert "pip install tensorflow" in str(raised.value.hint)


MEMORY = """
import sys, psutil, numpy, servable
for _ in range(20):
    with servable.load(sys.argv[1]) as model:
        model.predict(numpy.ones((1, 2500), numpy.float32))
        loaded = psutil.Process().memory_info().rss
    print(loaded, psutil.Process().memory_info().rss)
"""


def test_memory_comes_back_after_every_unload(saved_models: Path) -> None:
    folder = str(saved_models / "large" / "1")
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, folder], capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stderr
    rounds = [[int(number) / 1e6 for number in line.split()] for line in done.stdout.splitlines()]
    assert len(rounds) == 20
    assert all(loaded - after > 80 for loaded, after in rounds), "MB that a version held"
    assert rounds[-1][1] - rounds[0][1] < 50


def test_tensorflow_is_not_imported(saved_models: Path) -> None:
    script = "import sys, servable; servable.load(sys.argv[1]); print('tensorflow' in sys.modules)"
    command = [sys.executable, "-c", script, str(saved_models / "affine" / "1")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "False"


def test_models_are_served_with_their_metadata(saved_models: Path, models: Path, start: Callable) -> None:
    from urllib.request import urlopen

    for name in ("affine", "half_plus_two", "words"):
        shutil.copytree(saved_models / name, models / name)
    server = start()

    def ask(path: str, body: dict | None = None) -> dict:
        data = None if body is None else json.dumps(body).encode()
        with urlopen(f"http://{server.addresses.rest}/v1/models/{path}", data, timeout=30) as answer:
            return json.load(answer)

    assert ask("half_plus_two:predict", {"instances": [1, 2, 5]}) == {"predictions": [2.5, 3, 4.5]}
    assert ask("affine:predict", {"signature_name": "back", "instances": [[3, 5]]}) == {"predictions": [[1, 2]]}
    assert ask("words:predict", {"inputs": ["bb"]}) == {"outputs": {"numbers": [1], "upper": ["BB"]}}
    examples = {"signature_name": "regress", "examples": [{"x": 1.0}, {"x": 5.0}]}
    assert ask("half_plus_two:regress", examples) == {"results": [2.5, 4.5]}
    described = ask("affine/metadata")["metadata"]["signature_def"]["signature_def"]
    assert set(described) == {"serving_default", "back", "__saved_model_init_op"}
    assert described["__saved_model_init_op"]["outputs"]["__saved_model_init_op"]["dtype"] == "DT_INVALID"
    assert described["serving_default"]["inputs"]["x"]["name"] == "serving_default_x:0"
