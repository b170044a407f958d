"""Lists of models that change while `tensorflow_model_server` runs: by the config file and by a call."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import requests
from google.protobuf import text_format

from contract.model_server_process import ModelServerProcess, models_config, run
from servable.model.request_log import read_log
from servers import eventually
from version_folders import constant, publish, publish_onnx

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import SimpleNamespace

RELOAD = "HandleReloadConfigRequest"
ALL = "model_version_policy { all {} }"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "models.config"


class Server:
    """A server that was started with a list of models, and its clients."""

    def __init__(self, config: Path, tfs: SimpleNamespace, *arguments: str) -> None:
        self.process = ModelServerProcess(f"--model_config_file={config}", *arguments, rest=True)
        self._tfs = tfs
        self._channel = self.process.channel()
        self.process.wait_for('"Ready:')

    def reload(self, text: str) -> Any:
        request = self._tfs.management.ReloadConfigRequest(
            config=text_format.Parse(text, self._tfs.config.ModelServerConfig())
        )
        return self._tfs.model(self._channel).HandleReloadConfigRequest(request, timeout=30)

    def refusal(self, text: str) -> tuple[grpc.StatusCode, str]:
        with pytest.raises(grpc.RpcError) as caught:
            self.reload(text)
        return caught.value.code(), caught.value.details()

    def answer(self, path: str) -> Any:
        url = f"{self.process.rest}/v1/models/{path}:predict"
        answer = requests.post(url, json={"instances": [[0.0, 0.0]]}, timeout=20).json()
        return answer["predictions"][0][0] if "predictions" in answer else answer["error"]

    def end(self) -> None:
        self._channel.close()
        self.process.end()


@pytest.fixture
def serve(config: Path, tfs: SimpleNamespace) -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(*arguments: str) -> Server:
        servers.append(Server(config, tfs, *arguments))
        return servers[-1]

    yield start
    for server in servers:
        server.end()


@pytest.fixture
def two(models: Path) -> dict[str, Path]:
    """Models a (versions 1 and 2) and b (version 1), whose answer is their version."""
    for name, version in (("a", 1), ("a", 2), ("b", 1)):
        publish_onnx(models / name, version, constant(version))
    return {name: models / name for name in ("a", "b")}


def test_policies_say_which_versions_are_served(
    serve: Callable[..., Server], config: Path, two: dict[str, Path]
) -> None:
    config.write_text(models_config(two, "model_version_policy { specific { versions: 1 } }"))
    server = serve()
    assert (server.answer("a"), server.answer("b")) == (1.0, 1.0)
    assert server.answer("a/versions/2") == "Servable not found for request: Specific(a, 2)"


def test_a_call_replaces_the_whole_list(serve: Callable[..., Server], config: Path, two: dict[str, Path]) -> None:
    config.write_text(models_config({"a": two["a"]}))
    server = serve()
    done = server.reload(models_config({"b": two["b"]}))
    assert done.status.error_code == 0
    assert server.answer("b") == 1.0
    assert server.answer("a") == "Servable not found for request: Latest(a)"
    server.reload(models_config({"a": two["a"]}, ALL))
    assert server.answer("a") == 2.0
    assert eventually(lambda: server.answer("a/versions/1") == 1.0)


def test_a_list_that_is_wrong_changes_nothing(serve: Callable[..., Server], config: Path, two: dict[str, Path]) -> None:
    config.write_text(models_config(two))
    server = serve()
    invalid = grpc.StatusCode.INVALID_ARGUMENT
    model = f'config {{ name: "a" base_path: "{two["a"]}" model_platform: "tensorflow" }}'
    assert server.refusal(f"model_config_list {{ {model} {model} }}") == (
        invalid,
        "Illegal to list model a multiple times in config list",
    )
    assert server.refusal("") == (
        invalid,
        f"ServerModelConfig type not supported by {RELOAD}. Only ModelConfigList is currently supported",
    )
    other = models_config({"c": two["a"]}).replace('"tensorflow"', '"torch"')
    assert server.refusal(other) == (invalid, "Model c requests unsupported platform torch")
    code, details = server.refusal(models_config(two).replace('"tensorflow"', '"torch"'))
    assert (code, details.startswith("Illegal to change a model's platform. ")) == (invalid, True)
    for logging in ("sampling_config { sampling_rate: 1 }", 'log_collector_config { type: "x" filename_prefix: "/x" }'):
        refused = server.refusal(models_config(two, f"logging_config {{ {logging} }}"))
        assert refused == (invalid, "No request-logger-creator provided.")
    for prefix in ("relative", "/not/there/prefix", "/"):
        refused = server.refusal(models_config(two, logging_config(prefix)))
        assert refused == (
            invalid,
            f"filename_prefix must be an absolute path in a folder that is there; was {prefix}",
        )
    rate = models_config(two, logging_config("/tmp/requests", 1.5))
    assert server.refusal(rate) == (invalid, "sampling_rate must be from 0 to 1; was 1.5")
    assert (server.answer("a"), server.answer("b")) == (2.0, 1.0)


def logging_config(prefix: Path | str, rate: float = 1) -> str:
    collector = f'log_collector_config {{ type: "file" filename_prefix: "{prefix}" }}'
    return f"logging_config {{ {collector} sampling_config {{ sampling_rate: {rate} }} }}"


def test_requests_are_logged_where_the_list_says_so_until_another_list_does_not(
    serve: Callable[..., Server], config: Path, two: dict[str, Path], tmp_path: Path
) -> None:
    prefix = tmp_path / "requests"

    def count() -> int:
        return len(list(read_log(sorted(tmp_path.glob("requests-*.tfrecord")))))

    config.write_text(models_config({"a": two["a"]}, logging_config(prefix)))
    server = serve()
    assert server.answer("a") == 2.0
    assert eventually(lambda: count() == 1)
    server.reload(models_config({"a": two["a"]}))
    assert server.answer("a") == 2.0
    server.reload(models_config({"a": two["a"]}, logging_config(prefix)))
    assert server.answer("a") == 2.0
    assert eventually(lambda: count() == 2)
    server.reload(models_config({"a": two["a"]}, logging_config(prefix, 0)))
    assert server.answer("a") == 2.0
    server.process.process.terminate()
    server.process.process.wait(20)
    assert count() == 2


def test_a_new_model_that_cannot_be_loaded_is_told_and_the_others_serve(
    serve: Callable[..., Server], config: Path, two: dict[str, Path], models: Path
) -> None:
    config.write_text(models_config({"a": two["a"]}))
    server = serve()
    publish(models / "bad", 3, {"model.onnx": b"broken"})
    code, details = server.refusal(models_config(two | {"bad": models / "bad"}))
    assert code == grpc.StatusCode.UNKNOWN
    expected = "1 model(s) did not become available: {{name: bad version: 3} due to error: INVALID_ARGUMENT: "
    assert details.startswith(expected)
    assert (server.answer("a"), server.answer("b")) == (2.0, 1.0)


def test_a_new_model_whose_folder_is_missing_is_told_and_served_once_it_is_there(
    serve: Callable[..., Server], config: Path, two: dict[str, Path], models: Path
) -> None:
    config.write_text(models_config({"a": two["a"]}))
    server = serve()
    code, details = server.refusal(models_config(two | {"late": models / "late"}))
    assert code == grpc.StatusCode.UNKNOWN
    assert "{name: late} due to error: NOT_FOUND: Could not find base path" in details
    publish_onnx(models / "late", 1, constant(7))
    assert eventually(lambda: server.answer("late") == 7.0)


def test_what_is_no_request_is_refused(serve: Callable[..., Server], config: Path, two: dict[str, Path]) -> None:
    config.write_text(models_config(two))
    server = serve()
    with server.process.channel() as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(f"/tensorflow.serving.ModelService/{RELOAD}")(b"\xff" * 100, timeout=20)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_a_label_needs_a_version_that_is_available(
    serve: Callable[..., Server], config: Path, two: dict[str, Path]
) -> None:
    config.write_text(models_config({"a": two["a"]}, ALL))
    server = serve()
    assert eventually(lambda: server.answer("a/versions/1") == 1.0)
    label = f'{ALL} version_labels {{ key: "stable" value: %d }}'
    server.reload(models_config({"a": two["a"]}, label % 1))
    assert server.answer("a/labels/stable") == 1.0
    server.reload(models_config({"a": two["a"]}, label % 2))
    assert server.answer("a/labels/stable") == 2.0
    assert server.refusal(models_config({"a": two["a"]}, label % 3)) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "Request to assign label to version 3 of model a, which is not currently available for inference",
    )
    assert server.answer("a/labels/stable") == 2.0
    server.reload(models_config({"a": two["a"]}, ALL))
    assert server.answer("a/labels/stable") == "Unrecognized servable version label: stable"


def test_labels_in_the_first_list_need_the_flag(config: Path, two: dict[str, Path]) -> None:
    config.write_text(models_config({"a": two["a"]}, 'version_labels { key: "stable" value: 2 }'))
    done = run(f"--model_config_file={config}")
    assert done.returncode == 255
    assert "Error: FAILED_PRECONDITION: Request to assign label to version 2 of model a, which is not" in done.stdout


def test_with_the_flag_a_new_label_may_wait_for_its_version_but_one_in_use_may_not_move(
    serve: Callable[..., Server], config: Path, two: dict[str, Path]
) -> None:
    label = f'{ALL} version_labels {{ key: "next" value: %d }}'
    config.write_text(models_config({"a": two["a"]}, label % 3))
    server = serve("--allow_version_labels_for_unavailable_models")
    assert server.answer("a/labels/next") == "Servable not found for request: Specific(a, 3)"
    server.reload(models_config({"a": two["a"]}, label % 3))
    assert server.refusal(models_config({"a": two["a"]}, label % 4))[0] == grpc.StatusCode.FAILED_PRECONDITION
    assert eventually(lambda: server.answer("a/versions/1") == 1.0)
    server.reload(models_config({"a": two["a"]}, label % 1))
    assert server.answer("a/labels/next") == 1.0


def test_the_config_file_is_read_again_and_a_bad_one_is_passed_over(
    serve: Callable[..., Server], config: Path, two: dict[str, Path]
) -> None:
    config.write_text(models_config({"a": two["a"]}))
    server = serve("--model_config_file_poll_wait_seconds=1")
    config.write_text("nonsense")
    server.process.wait_for("is not taken over: Invalid protobuf file")
    assert server.answer("a") == 2.0
    config.write_text(models_config({"b": two["b"]}))
    assert eventually(lambda: server.answer("b") == 1.0)
    assert eventually(lambda: server.answer("a") == "Servable not found for request: Latest(a)")


def test_many_reloads_at_once_come_to_an_end_and_the_server_serves(
    serve: Callable[..., Server], config: Path, two: dict[str, Path]
) -> None:
    config.write_text(models_config({"a": two["a"]}))
    server = serve()
    lists = [models_config({"a": two["a"]}), models_config(two), models_config(two, ALL)]

    def reload(number: int) -> int:
        return int(server.reload(lists[number % 3]).status.error_code)

    with ThreadPoolExecutor(8) as pool:
        done = pool.map(reload, range(30))
        answers = {server.answer("a") for _ in range(50)}
        assert set(done) == {0}
    assert answers == {2.0}


def test_servable_serve_reads_the_same_file(config: Path, two: dict[str, Path], tfs: SimpleNamespace) -> None:
    from cli.serve_process import FREE_PORTS, Process

    config.write_text(models_config({"a": two["a"]}, 'version_labels { key: "stable" value: 2 }'))
    process = Process("--model-config-file", config, *FREE_PORTS, cwd=config.parent)
    try:
        process.wait_for("Ready: a/2")
        url = f"{process.rest}/v1/models/a/labels/stable:predict"
        answer = requests.post(url, json={"instances": [[0.0, 0.0]]}, timeout=20)
        assert answer.json() == {"predictions": [[2.0]]}
    finally:
        process.end()
