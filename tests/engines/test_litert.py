"""TensorFlow Lite models in LiteRT: they answer as TensorFlow does, in whatever shape they are asked."""

from __future__ import annotations

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

import servable
from servable.engines.library import litert_library
from servable.engines.native import run
from servable.engines.options import EngineOptions, LiteRTOptions
from servable.errors import EngineMissing, FailedPrecondition, InvalidArgument, Unimplemented
from servable.wire.tensors import as_tensor

if TYPE_CHECKING:
    from collections.abc import Callable

    from servable.engines.load import Loaded

pytestmark = pytest.mark.litert


def f32(values: object) -> np.ndarray:
    return np.asarray(values, np.float32)


@pytest.fixture
def ask(load: Callable[..., Loaded], tflite_models: Path) -> Callable[..., dict[str, np.ndarray]]:
    """`ask(model, signature, **inputs)`: the outputs. Each model is loaded once."""
    loaded: dict[str, Loaded] = {}

    def ask(model: str, signature: str = "serving_default", **inputs: np.ndarray) -> dict[str, np.ndarray]:
        if model not in loaded:
            loaded[model] = load(tflite_models / model / "1")
        tensors = {name: as_tensor(array) for name, array in inputs.items()}
        return {name: tensor.array for name, tensor in run(loaded[model].servable, signature, tensors).items()}

    return ask


def test_inputs_take_whatever_shape_arrives(ask: Callable) -> None:
    for x in ([[1]], [1, 2, 5], [[[1], [2]]], [7], [[1]]):
        assert ask("half_plus_two", tflite_input=f32(x))["tflite_output"].tolist() == (f32(x) / 2 + 2).tolist()


def test_every_signature_has_its_own_inputs_and_outputs_by_name(ask: Callable) -> None:
    z, a = f32([[1, 2], [3, 4]]), f32([[10, 20], [30, 40]])
    answer = ask("affine", z=z, a=a)
    assert answer["sum"].tolist() == (2 * z + a).tolist()
    assert answer["difference"].tolist() == (2 * z - a).tolist()
    assert answer["same"].tolist() == a.tolist(), "an input that is an output as well"
    assert ask("affine", "back", y=z)["x"].tolist() == (z / 2).tolist()


def test_signatures_for_tensorflow_serving_are_read_from_the_metadata(ask: Callable) -> None:
    assert ask("aliased", x=f32([1, 2, 5]))["y"].tolist() == [2.5, 3, 4.5]
    assert ask("aliased", "other", x=f32([1]))["y"].tolist() == [2.5]


def test_a_signature_of_tensors_that_are_not_there_is_refused(tflite_models: Path) -> None:
    with pytest.raises(FailedPrecondition, match=r"no tensor 'nowhere:0', which signature 'serving_default' names"):
        servable.load(tflite_models / "lost" / "1")


def test_a_result_may_have_a_shape_that_depends_on_the_values(ask: Callable) -> None:
    for count in (0, 1, 2, 5, 50_000, 3, 200_000):
        x = f32([-1, *range(1, count + 1)])
        assert ask("positive", x=x)["y"].tolist() == x[1:].tolist()


def test_a_scalar_stays_one_whatever_shapes_came_before(ask: Callable) -> None:
    for by in (f32(3), f32([4]), f32(5), f32([1, 2])):
        assert ask("scaled", x=f32([1, 2]), by=by)["y"].tolist() == (f32([1, 2]) * by).tolist()


def test_elements_of_every_type_come_through(ask: Callable) -> None:
    given = {
        "boolean": np.array([True, False]),
        "byte": np.array([0, 255], np.uint8),
        "small": np.array([-128, 127], np.int8),
        "int": np.array([-(1 << 31), 5], np.int32),
        "long": np.array([1 << 40, -1]),
        "half": np.array([0.5, -2], np.float16),
    }
    answer = ask("types", **given)
    for name, array in given.items():
        np.testing.assert_array_equal(answer[f"{name}_out"], array[:, None], strict=True)


def test_networks_answer_as_tensorflow_did_also_when_quantised(ask: Callable, tflite_models: Path) -> None:
    dense = np.load(tflite_models / "dense.npz")
    np.testing.assert_allclose(ask("dense", x=dense["x"])["y"], dense["y"], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(ask("dynamic_range", x=dense["x"])["y"], dense["y"], atol=0.05)
    # Integers are given and taken as they are; what they stand for is the client's affair.
    x = np.round(dense["x"] / dense["x_scale"] + dense["x_zero"]).clip(-128, 127).astype(np.int8)
    y = ask("quantised", x=x)["y"]
    assert y.dtype == np.int8
    np.testing.assert_allclose((y.astype(float) - dense["y_zero"]) * dense["y_scale"], dense["y"], atol=0.05)


def test_a_wrong_dtype_is_refused_in_tensorflows_words(ask: Callable) -> None:
    with pytest.raises(InvalidArgument, match=r"Expects arg\[0\] to be int8 but float is provided"):
        ask("quantised", x=np.zeros((1, 32), np.float32))


def test_shapes_that_the_graph_cannot_run_on_are_refused_and_the_next_call_runs(ask: Callable) -> None:
    dense = f32(np.ones((2, 32)))
    good = ask("dense", x=dense)["y"].tolist()
    for bad in (f32(np.ones((2, 33))), f32(np.ones(())), f32(np.ones((0, 32))), f32(np.ones((1,) * 9))):
        with pytest.raises(InvalidArgument, match="LiteRT"):
            ask("dense", x=bad)
        assert ask("dense", x=dense)["y"].tolist() == good


def test_strings_are_refused_with_a_way_out(ask: Callable) -> None:
    with pytest.raises(Unimplemented, match="serve the SavedModel instead"):
        ask("words", words=np.array(["a"], object))


def test_operations_that_litert_lacks_are_named(tflite_models: Path) -> None:
    with pytest.raises(FailedPrecondition, match=r"operations that LiteRT may lack \(FlexMatrixInverse\)"):
        servable.load(tflite_models / "inverse" / "1")


def test_threads_that_call_at_once_get_their_own_answers(load: Callable[..., Loaded], tflite_models: Path) -> None:
    options = EngineOptions(litert=LiteRTOptions(interpreters=3))
    loaded = load(tflite_models / "affine" / "1", options=options).servable

    def call(number: int) -> bool:
        z, a = f32(np.full((number % 5 + 1, 2), number)), f32(np.full((number % 5 + 1, 2), 7))
        answer = run(loaded, "serving_default", {"z": as_tensor(z), "a": as_tensor(a)})
        return bool((answer["sum"].array == 2 * z + a).all() and answer["sum"].array.shape == z.shape)

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(call, range(2000)))


def test_the_saved_model_beside_it_is_taken_unless_lite_is_preferred(
    load: Callable[..., Loaded], tflite_models: Path
) -> None:
    prefer = EngineOptions(litert=LiteRTOptions(prefer=True))
    assert load(tflite_models / "both" / "1").format.engine == "tensorflow"
    assert load(tflite_models / "both" / "1", options=prefer).format.engine == "litert"
    assert load(tflite_models / "affine" / "1", options=prefer).format.engine == "litert"


@pytest.mark.parametrize("content", [b"", b"TFL3", b"\x1c\0\0\0TFL3" + b"\xff" * 100], ids=["empty", "short", "noise"])
def test_what_is_no_model_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.tflite").write_bytes(content)
    with pytest.raises(InvalidArgument):
        servable.load(tmp_path)


DAMAGED = """
import sys, random, pathlib, numpy, servable
original = pathlib.Path(sys.argv[1], "model.tflite").read_bytes()
file = pathlib.Path(sys.argv[2], "model.tflite")
draw = random.Random(0)
for _ in range(500):
    damaged = bytearray(original)
    if draw.random() < 0.3:
        del damaged[draw.randrange(len(damaged)):]
    else:
        damaged[draw.randrange(len(damaged) // 2)] = draw.randrange(256)
    file.unlink(missing_ok=True)
    file.write_bytes(damaged)
    try:
        with servable.load(file.parent) as model:
            model.predict(numpy.ones((1, 32), numpy.float32))
    except servable.ServableError:
        print("refused")
"""


def test_damaged_models_are_refused_or_answer_but_never_crash(tflite_models: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", DAMAGED, str(tflite_models / "dense" / "1"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("refused") > 40


def test_a_server_without_litert_says_what_to_install(tflite_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("servable.engines.library._package_folder", lambda package: None)
    with pytest.raises(EngineMissing, match="LiteRT is not installed") as raised:
        servable.load(tflite_models / "affine" / "1")
    assert "pip install ai-edge-litert" in str(raised.value.hint)


def test_a_version_that_was_never_tried_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("servable.engines.library._installed_version", lambda distribution: "3.0.1")
    with pytest.raises(EngineMissing, match=r"LiteRT 3\.0\.1 is not known .* runs 2\.2 and 2\.3"):
        litert_library()


def test_a_library_that_is_another_is_refused(tflite_models: Path) -> None:
    options = EngineOptions(library=Path(servable._native.__file__))
    script = "import sys, servable, pathlib; from servable.engines.options import EngineOptions as Options\n"
    script += "servable.load(sys.argv[1], options=Options(library=pathlib.Path(sys.argv[2])))"
    # In a process of its own: a library stays open once it is.
    command = [sys.executable, "-c", script, str(tflite_models / "affine" / "1"), str(options.library)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "is no LiteRT that is known here" in done.stderr


MEMORY = """
import sys, psutil, numpy, servable
for _ in range(20):
    with servable.load(sys.argv[1]) as model:
        model.predict(numpy.ones((1, 32), numpy.float32))
        loaded = psutil.Process().memory_info().rss
    print(loaded, psutil.Process().memory_info().rss)
"""


def test_memory_comes_back_after_every_unload(tflite_models: Path) -> None:
    command = [sys.executable, "-c", MEMORY, str(tflite_models / "large" / "1")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    rounds = [[int(number) / 1e6 for number in line.split()] for line in done.stdout.splitlines()]
    assert len(rounds) == 20
    assert all(loaded - after > 80 for loaded, after in rounds), "MB that a version held"
    assert rounds[-1][1] - rounds[0][1] < 50


def test_models_are_served_over_rest_and_grpc(
    tflite_models: Path, models: Path, start: Callable, channel: Callable, tfs, post: Callable
) -> None:
    for name in ("affine", "half_plus_two", "both"):
        shutil.copytree(tflite_models / name, models / name)
    server = start(prefer_tflite=True, tflite_interpreters=2)
    assert post(server, "half_plus_two:predict", {"instances": [1, 2, 5]}) == {"predictions": [2.5, 3, 4.5]}
    assert post(server, "both:predict", {"signature_name": "back", "instances": [[2, 4]]}) == {"predictions": [[1, 2]]}
    request = tfs.predict.PredictRequest()
    request.model_spec.name = "affine"
    request.inputs["z"].CopyFrom(tfs.floats([[1, 2]]))
    request.inputs["a"].CopyFrom(tfs.floats([[10, 20]]))
    answer = tfs.prediction(channel(server)).Predict(request, timeout=30)
    assert list(answer.outputs["sum"].float_val) == [12, 24]


def test_requests_are_joined_where_it_is_asked_for(
    tflite_models: Path, models: Path, start: Callable, post: Callable
) -> None:
    shutil.copytree(tflite_models / "half_plus_two", models / "half_plus_two")
    server = start(batch="on", batch_timeout=0.05, max_batch_rows=4)
    with ThreadPoolExecutor(8) as clients:
        asked = clients.map(lambda number: post(server, "half_plus_two:predict", {"instances": [[number]]}), range(40))
        assert [answer["predictions"] for answer in asked] == [[[number / 2 + 2]] for number in range(40)]


def test_litert_is_not_imported(tflite_models: Path) -> None:
    script = "import sys, servable; servable.load(sys.argv[1]); print('ai_edge_litert' in sys.modules)"
    command = [sys.executable, "-c", script, str(tflite_models / "affine" / "1")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "False"


@pytest.fixture
def post() -> Callable[..., dict]:
    """`post(server, path, body)`: the answer of TensorFlow Serving's REST API."""
    import json
    from urllib.request import urlopen

    def post(server, path: str, body: dict) -> dict:
        data = json.dumps(body).encode()
        with urlopen(f"http://{server.addresses.rest}/v1/models/{path}", data, timeout=30) as answer:
            return json.load(answer)

    return post
