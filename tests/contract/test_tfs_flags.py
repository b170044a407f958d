"""The command line of `tensorflow_model_server`: its rules, its start-up and its errors."""

from __future__ import annotations

import re
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import requests

import tiny_models
from contract.model_server_process import ModelServerProcess, models_config, run
from version_folders import publish, publish_onnx

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import SimpleNamespace


@pytest.fixture
def model(models: Path) -> Path:
    """A model folder with one version."""
    publish_onnx(models / "m", 1, tiny_models.double())
    return models / "m"


@pytest.fixture
def serve() -> Iterator[Callable[..., ModelServerProcess]]:
    with ExitStack() as running:

        def start(*arguments: str, **options: Any) -> ModelServerProcess:
            process = ModelServerProcess(*arguments, **options)
            running.callback(process.end)
            return process

        yield start


def predict(server: ModelServerProcess, rows: int, model: str = "default") -> requests.Response:
    url = f"{server.rest}/v1/models/{model}:predict"
    return requests.post(url, json={"instances": [[1.0, 2.0]] * rows}, timeout=20)


def test_the_version_is_printed() -> None:
    done = run("--version")
    assert done.returncode == 0
    first, second = done.stdout.splitlines()
    assert first.startswith("TensorFlow ModelServer: ")
    assert second.startswith("TensorFlow Library: ")


@pytest.mark.parametrize("argument", ["--help", "--port=abc", "--enable_batching=maybe", "--port=99999999999"])
def test_help_and_bad_values_print_the_usage_and_end(argument: str) -> None:
    done = run(argument)
    assert done.returncode == 255
    assert "usage: tensorflow_model_server\nFlags:\n" in done.stdout
    assert "--rest_api_port=0" in done.stdout


def test_an_unknown_argument_is_told_and_the_server_goes_on(
    serve: Callable[..., ModelServerProcess], model: Path
) -> None:
    server = serve("--nonsense=1", f"--model_base_path={model}", rest=True)
    server.wait_for("unknown argument: --nonsense=1")
    server.wait_for('"Ready: default/1"')
    assert predict(server, 1).json() == {"predictions": [[2.0, 4.0]]}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "INVALID_ARGUMENT: Both server_options.model_base_path and server_options.model_config_file are empty!"),
        (("--model_base_path=/m", "--port=0"), "INVALID_ARGUMENT: server_options.grpc_port is not set."),
        (
            ("--model_base_path=m/n",),
            "INVALID_ARGUMENT: Expected model default to have an absolute path or URI; got base_path()=m/n",
        ),
        (
            ("--model_base_path=/m", "--batching_parameters_file=/b"),
            "INVALID_ARGUMENT: server_options.batching_parameters_file is set without setting server_options.",
        ),
        (("--model_config_file=/nowhere/models.config",), "NOT_FOUND: /nowhere/models.config; No such file"),
        (
            (
                "--model_base_path=/m",
                "--tensorflow_session_parallelism=1",
                "--tensorflow_intra_op_parallelism=1",
                "--tensorflow_inter_op_parallelism=1",
            ),
            "INVALID_ARGUMENT: Either configure tensorflow_session_parallelism or",
        ),
    ],
)
def test_what_cannot_be_served_is_refused_at_the_start(arguments: tuple[str, ...], message: str) -> None:
    done = run(*arguments)
    assert done.returncode == 255
    assert f"Failed to start server. Error: {message}" in done.stdout


def test_a_config_file_that_does_not_parse_is_told_twice(tmp_path: Path) -> None:
    file = tmp_path / "models.config"
    file.write_text("model_config_list { nonsense: 1 }")
    done = run(f"--model_config_file={file}")
    assert done.returncode == 255
    assert "Error parsing text-format tensorflow.serving.ModelServerConfig: 1:" in done.stderr
    assert f"Failed to start server. Error: INVALID_ARGUMENT: Invalid protobuf file: '{file}'" in done.stdout


@pytest.mark.parametrize("content", ["{" * 100_000, "model_config_list " + "{ config " * 5_000, "\x00\xff" * 100])
def test_a_hostile_config_file_is_an_error(tmp_path: Path, content: str) -> None:
    file = tmp_path / "models.config"
    file.write_bytes(content.encode("latin-1"))
    assert f"Invalid protobuf file: '{file}'" in run(f"--model_config_file={file}").stdout


def test_certificates_that_cannot_be_used_stop_the_start(tmp_path: Path, model: Path) -> None:
    file = tmp_path / "ssl.config"
    file.write_text('server_key: "k" server_cert: "c"')
    done = run(f"--model_base_path={model}", f"--ssl_config_file={file}")
    assert (done.returncode, "Error: INVALID_ARGUMENT: The TLS key" in done.stdout) == (255, True)


def test_the_server_ends_when_a_first_model_fails_for_good(models: Path) -> None:
    publish(models / "m", 1, {"model.onnx": b"broken"})
    done = run("--port=0", f"--grpc_socket_path={models}/s", f"--model_base_path={models / 'm'}", "--model_name=m")
    assert done.returncode == 255
    expected = "Failed to start server. Error: UNKNOWN: 1 servable(s) did not become available: {{name: m version: 1}"
    assert f"{expected} due to error: INVALID_ARGUMENT: " in done.stdout


def test_until_the_first_version_is_there_no_answer_says_servable(
    serve: Callable[..., ModelServerProcess], models: Path, tfs: SimpleNamespace
) -> None:
    (models / "m").mkdir()
    server = serve(f"--model_base_path={models / 'm'}", "--model_name=m")
    server.wait_for("Listening")
    server.wait_for(f"No versions of servable m found under base path {models / 'm'}")
    request = tfs.predict.PredictRequest()
    request.model_spec.name = "unknown"
    with server.channel() as channel:
        with pytest.raises(grpc.RpcError) as caught:
            tfs.prediction(channel).Predict(request, timeout=20, wait_for_ready=True)
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        assert "Servable" not in caught.value.details()
        publish_onnx(models / "m", 1, tiny_models.double())
        server.wait_for("Ready: m/1")
        with pytest.raises(grpc.RpcError) as caught:
            tfs.prediction(channel).Predict(request, timeout=20)
        assert caught.value.details() == "Servable not found for request: Latest(unknown)"


def test_rest_is_skipped_where_its_port_is_that_of_grpc(serve: Callable[..., ModelServerProcess], model: Path) -> None:
    server = serve(f"--model_base_path={model}")
    server.end()
    both = serve(f"--model_base_path={model}", f"--rest_api_port={server.port}", port=server.port)
    both.wait_for("Skipped exporting HTTP/REST API")
    assert '"rest": null' in both.wait_for("Listening")


def test_a_flag_without_effect_is_logged_once(serve: Callable[..., ModelServerProcess], model: Path) -> None:
    server = serve(f"--model_base_path={model}", "--enable_profiler=false", "--grpc_max_threads=4")
    server.wait_for("Ready")
    assert sum("--enable_profiler has no effect" in line for line in server.lines) == 1


@pytest.mark.litert
def test_tensorflow_lite_is_taken_where_it_is_preferred(
    serve: Callable[..., ModelServerProcess], tflite_models: Path
) -> None:
    # Only SavedModels list what initialises them.
    for flags, listed in ((["--prefer_tflite_model", "--num_tflite_pools=2"], False), ([], True)):
        server = serve(f"--model_base_path={tflite_models / 'both'}", *flags, rest=True)
        server.wait_for("Ready")
        url = f"{server.rest}/v1/models/default"
        body = {"signature_name": "back", "instances": [[2, 4]]}
        assert requests.post(f"{url}:predict", json=body, timeout=20).json() == {"predictions": [[1.0, 2.0]]}
        signatures = requests.get(f"{url}/metadata", timeout=20).json()["metadata"]["signature_def"]["signature_def"]
        assert ("__saved_model_init_op" in signatures) is listed


def test_a_request_that_is_too_large_for_a_batch_is_refused(
    serve: Callable[..., ModelServerProcess], model: Path, tmp_path: Path
) -> None:
    file = tmp_path / "batching.config"
    file.write_text("max_batch_size { value: 32 } allowed_batch_sizes: 8 allowed_batch_sizes: 32")
    server = serve(f"--model_base_path={model}", "--enable_batching", f"--batching_parameters_file={file}", rest=True)
    server.wait_for("Ready")
    assert predict(server, 32).json()["predictions"] == [[2.0, 4.0]] * 32
    refused = predict(server, 50)
    assert (refused.status_code, refused.json()) == (
        400,
        {"error": "Task size 50 is larger than maximum input batch size 32"},
    )


def test_a_large_request_is_split_where_that_is_asked_for(
    serve: Callable[..., ModelServerProcess], model: Path, tmp_path: Path
) -> None:
    file = tmp_path / "batching.config"
    file.write_text(
        "max_batch_size { value: 64 } max_execution_batch_size { value: 8 } "
        "enable_large_batch_splitting { value: true }"
    )
    server = serve(f"--model_base_path={model}", "--enable_batching", f"--batching_parameters_file={file}", rest=True)
    server.wait_for("Ready")
    rows = [[float(row), 0.0] for row in range(20)]
    answer = requests.post(f"{server.rest}/v1/models/default:predict", json={"instances": rows}, timeout=20)
    assert answer.json() == {"predictions": [[2 * row, 0.0] for row, _ in rows]}
    page = requests.get(f"{server.rest}/metrics", timeout=20).text
    runs, rows = (
        re.search(rf"^servable_batch_size_{name}{{.*}} (\d+)", page, re.MULTILINE) for name in ("count", "sum")
    )
    assert (runs and int(runs[1]), rows and int(rows[1])) == (3, 20)
    assert predict(server, 65).json() == {"error": "Task size 65 is larger than maximum input batch size 64"}


def test_batching_sizes_that_contradict_each_other_stop_the_start(model: Path, tmp_path: Path) -> None:
    file = tmp_path / "batching.config"
    file.write_text("max_batch_size { value: 32 } allowed_batch_sizes: 8 allowed_batch_sizes: 16")
    done = run(f"--model_base_path={model}", "--enable_batching", f"--batching_parameters_file={file}")
    assert "Last entry in allowed_batch_sizes must match max_batch_size; " in done.stdout


def test_each_version_may_bring_its_own_batching(
    serve: Callable[..., ModelServerProcess], models: Path, tmp_path: Path
) -> None:
    onnx = tiny_models.double().SerializeToString()
    publish(models / "own", 1, {"model.onnx": onnx, "batching_params.pbtxt": b"max_batch_size { value: 4 }"})
    publish(models / "none", 1, {"model.onnx": onnx})
    config = tmp_path / "models.config"
    config.write_text(models_config({name: models / name for name in ("own", "none")}))
    server = serve(
        f"--model_config_file={config}", "--enable_batching", "--enable_per_model_batching_parameters", rest=True
    )
    server.wait_for('"Ready:')
    assert predict(server, 5, "own").json() == {"error": "Task size 5 is larger than maximum input batch size 4"}
    assert len(predict(server, 5, "none").json()["predictions"]) == 5


def test_the_metrics_page_is_where_the_config_says(
    serve: Callable[..., ModelServerProcess], model: Path, tmp_path: Path
) -> None:
    file = tmp_path / "monitoring.config"
    file.write_text('prometheus_config { enable: true path: "/my/metrics" }')
    server = serve(f"--model_base_path={model}", f"--monitoring_config_file={file}", rest=True)
    server.wait_for("Ready")
    assert requests.get(f"{server.rest}/my/metrics", timeout=20).status_code == 200
    assert requests.get(f"{server.rest}/my/metrics?x=1", timeout=20).status_code == 400
    assert requests.get(f"{server.rest}/monitoring/prometheus/metrics", timeout=20).status_code == 404


def test_grpc_answers_on_a_socket_and_cors_headers_come_when_asked_for(
    serve: Callable[..., ModelServerProcess], model: Path, tfs: SimpleNamespace
) -> None:
    path = model.parent / "s"
    path.touch()
    server = serve(
        f"--model_base_path={model}",
        f"--grpc_socket_path={path}",
        "--rest_api_enable_cors_support",
        "--enable_serialization_as_tensor_content=true",
        rest=True,
        port=0,
    )
    server.wait_for("Ready")
    assert predict(server, 1).headers["Access-Control-Allow-Origin"] == "*"
    request = tfs.predict.PredictRequest(inputs={"x": tfs.floats([[1, 2]])})
    request.model_spec.name = "default"
    with grpc.insecure_channel(f"unix:{path}") as channel:
        answer = tfs.prediction(channel).Predict(request, timeout=20)
    assert answer.outputs["y"].tensor_content
