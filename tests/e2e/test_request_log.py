"""The request log of a real server, over every protocol, read back with protobuf; and the gate that it can be."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import requests
from google.protobuf import json_format

from servable.errors import SettingsError
from servable.lifecycle import State
from servable.model.golden import FILE_NAME
from servable.model.request_log import log_files, read_log
from servable.settings import load_server_settings
from servers import eventually, metric, model_server
from tiny_models import double
from version_folders import constant, publish_onnx

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import SimpleNamespace

    from servable.server import ModelServer

ROWS = [[1.0, 2.0], [3.0, 4.0]]


def stop_and_read(server: ModelServer, folder: Path, tfs: SimpleNamespace) -> list[Any]:
    """Every record of the log, as protobuf reads it."""
    server.stop()
    return [tfs.log.PredictionLog.FromString(record.data) for record in read_log(log_files(folder))]


def values(tensor: Any) -> list[Any]:
    return np.frombuffer(tensor.tensor_content, "<f4").reshape([dim.size for dim in tensor.tensor_shape.dim]).tolist()


def ask(server: ModelServer, model: str = "double") -> requests.Response:
    return requests.post(
        f"http://{server.addresses.rest}/v1/models/{model}:predict", json={"instances": ROWS}, timeout=20
    )


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    return tmp_path / "logs"


@pytest.fixture
def logged(models: Path, logs: Path, start: Callable[..., ModelServer]) -> ModelServer:
    """A server of the model double, version 5, that logs everything."""
    publish_onnx(models / "double", 5, double())
    return start(request_log=str(logs))


def ask_by_rest(server: ModelServer, _tfs: SimpleNamespace, _channel: Any) -> None:
    assert ask(server).ok


def ask_by_grpc(server: ModelServer, tfs: SimpleNamespace, channel: Any) -> None:
    request = tfs.predict.PredictRequest(model_spec={"name": "double"}, inputs={"x": tfs.floats(ROWS)})
    tfs.prediction(channel(server)).Predict(request, timeout=20)


def ask_by_oip_rest(server: ModelServer, _tfs: SimpleNamespace, _channel: Any) -> None:
    tensor = {"name": "x", "datatype": "FP32", "shape": [2, 2], "data": ROWS}
    url = f"http://{server.addresses.rest}/v2/models/double/infer"
    assert requests.post(url, json={"inputs": [tensor]}, timeout=20).ok


def ask_by_oip_grpc(server: ModelServer, _tfs: SimpleNamespace, _channel: Any) -> None:
    from servable.client import Client

    with Client(f"grpc://{server.addresses.grpc}") as client:
        assert np.allclose(client.predict("double", np.array(ROWS, np.float32)), 2 * np.array(ROWS))


@pytest.mark.parametrize("ask_once", [ask_by_rest, ask_by_grpc, ask_by_oip_rest, ask_by_oip_grpc])
def test_a_request_is_logged_in_one_form_whatever_its_protocol(
    ask_once: Callable[..., None], logged: ModelServer, logs: Path, tfs: SimpleNamespace, channel: Any
) -> None:
    ask_once(logged, tfs, channel)
    [record] = stop_and_read(logged, logs, tfs)
    log = record.predict_log
    assert values(log.request.inputs["x"]) == ROWS
    assert values(log.response.outputs["y"]) == [[2.0, 4.0], [6.0, 8.0]]
    assert (log.request.model_spec.name, log.request.model_spec.HasField("version")) == ("double", False)
    spec = record.log_metadata.model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("double", 5, "serving_default")
    assert record.log_metadata.sampling_config.sampling_rate == 1.0
    assert record.log_metadata.timestamp_secs > 1_600_000_000


def test_requests_that_fail_are_not_logged(logged: ModelServer, logs: Path, tfs: SimpleNamespace) -> None:
    url = f"http://{logged.addresses.rest}/v1/models/double:predict"
    assert requests.post(url, json={"instances": [["a", "b"]]}, timeout=20).status_code == 400
    assert ask(logged).ok
    assert len(stop_and_read(logged, logs, tfs)) == 1


def test_the_log_is_for_its_owner_alone_and_holds_no_tokens(logged: ModelServer, logs: Path) -> None:
    url = f"http://{logged.addresses.rest}/v1/models/double:predict"
    requests.post(url, json={"instances": ROWS}, headers={"Authorization": "Bearer sv_secret"}, timeout=20)
    logged.stop()
    [file] = log_files(logs)
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert b"sv_secret" not in file.read_bytes()


def test_a_log_is_a_warm_up_file(
    logged: ModelServer, logs: Path, models: Path, start: Callable[..., ModelServer]
) -> None:
    assert ask(logged).ok
    logged.stop()
    [file] = log_files(logs / "double")
    for number, model in ((6, double()), (7, constant(9.0))):
        version = publish_onnx(logs.parent / "staged", number, model)
        (version / FILE_NAME).parent.mkdir()
        (version / FILE_NAME).write_bytes(file.read_bytes())
        version.rename(models / "double" / str(number))
    again = start(ready=False, version_policy="all", load_retries=0)

    def is_settled(routes: Any) -> bool:
        states = [each.state for each in routes.models["double"].status.versions] if routes.models else []
        return len(states) == 3 and set(states) == {State.AVAILABLE, State.END}

    assert again.wait_for(is_settled, 20)
    assert again.routes.models["double"].available == (6, 5)
    failed = {each.version: each.message for each in again.routes.models["double"].status.versions}
    assert "golden examples" in failed[7]


def test_lines_of_json_are_read_by_protobuf_and_by_people(
    models: Path, logs: Path, start: Callable[..., ModelServer], tfs: SimpleNamespace
) -> None:
    publish_onnx(models / "double", 5, double())
    server = start(request_log=str(logs), request_log_format="json")
    assert ask(server).ok
    [by_us] = stop_and_read(server, logs, tfs)
    [file] = log_files(logs)
    line = file.read_text()
    assert json.loads(line)["predictLog"]["request"]["inputs"]["x"]["floatVal"] == [1.0, 2.0, 3.0, 4.0]
    assert json_format.Parse(line, tfs.log.PredictionLog()) == by_us


def test_a_model_may_have_a_log_of_its_own_or_none(
    models: Path, logs: Path, start: Callable[..., ModelServer], tfs: SimpleNamespace
) -> None:
    for name in ("double", "silent"):
        publish_onnx(models / name, 1, double())
    (models / "silent" / "servable.toml").write_text('request_log = ""\n')
    server = start(request_log=str(logs))
    assert ask(server).ok
    assert ask(server, "silent").ok
    assert [record.log_metadata.model_spec.name for record in stop_and_read(server, logs, tfs)] == ["double"]


def test_what_was_logged_is_counted(logged: ModelServer) -> None:
    assert ask(logged).ok
    count = ":tensorflow:serving:request_log_count"
    assert eventually(lambda: metric(logged, count, model_name="double", status_code="OK") == 1)
    assert metric(logged, "servable_request_log_dropped_total", model="double") == 0


def test_a_folder_that_cannot_be_made_ends_the_start(models: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="request_log"):
        model_server(models, request_log=str(tmp_path / "file")).start()
    with pytest.raises(SettingsError, match="least"):
        load_server_settings({"request_log_max_size": "1000"}, environ={})


def test_a_gate_keeps_a_version_out_that_answers_otherwise_while_requests_run(
    models: Path, logs: Path, start: Callable[..., ModelServer]
) -> None:
    publish_onnx(models / "m", 1, constant(1.0))
    server = start(request_log=str(logs), gate=str(logs), load_retries=5)
    answers, stopping = [], threading.Event()

    def load() -> None:
        while not stopping.is_set():
            answers.append(ask(server, "m").json()["predictions"][0][0])

    thread = threading.Thread(target=load)
    thread.start()
    try:
        assert eventually(lambda: metric(server, ":tensorflow:serving:request_log_count", status_code="OK") > 20)
        publish_onnx(models / "m", 2, constant(2.0))

        def ended(routes: Any) -> bool:
            return any(each.version == 2 and each.state is State.END for each in routes.models["m"].status.versions)

        assert server.wait_for(ended, 30)
        publish_onnx(models / "m", 3, constant(1.0))
        assert server.wait_for(lambda routes: routes.models["m"].available == (3,), 30)
    finally:
        stopping.set()
        thread.join()
    assert set(answers) == {1.0}
    refused = next(each for each in server.routes.models["m"].status.versions if each.version == 2)
    assert "does not agree with the gate" in refused.message
    assert "2 instead of 1" in refused.message


def test_a_gate_holds_up_neither_a_restart_nor_a_rollback(
    models: Path, logs: Path, start: Callable[..., ModelServer]
) -> None:
    for version in (1, 2):
        publish_onnx(models / "m", version, constant(version))
        with model_server(models, request_log=str(logs)) as server:
            server.wait_until_ready(20)
            assert ask(server, "m").ok
    again = start(gate=str(logs), version_policy="all")
    assert again.wait_for(lambda routes: routes.models["m"].available == (2, 1), 20)


def test_a_log_is_switched_off_while_requests_come(logged: ModelServer, models: Path, logs: Path, tfs: Any) -> None:
    assert ask(logged).ok
    (models / "double" / "servable.toml").write_text('request_log = ""\n')
    # Whoever sees the new model has read the new settings too.
    publish_onnx(models / "other", 1, double())
    assert logged.wait_for(lambda routes: "other" in routes.models and bool(routes.models["other"].available), 20)
    assert ask(logged).ok
    assert len(stop_and_read(logged, logs, tfs)) == 1


def test_a_gate_that_is_not_there_fails_the_load(models: Path, start: Callable[..., ModelServer]) -> None:
    publish_onnx(models / "m", 1, constant(1.0))
    server = start(ready=False, gate=str(models / "missing"), load_retries=0)
    assert server.wait_for(lambda routes: "m" in routes.models and routes.models["m"].status.versions[0].failure, 20)
    assert "There is no request log" in server.routes.models["m"].status.versions[0].message
