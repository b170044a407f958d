"""Tokens: who comes in over REST and gRPC, for what, and when the file changes."""

from __future__ import annotations

import json
import socket
import stat
import threading
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import requests

import servable
import tiny_models
from servable.cli import main
from servable.errors import AlreadyExists, InvalidArgument, NotFound, PermissionDenied, SettingsError, Unauthenticated
from servable.settings.token_file import create_token, read_tokens, revoke_token
from servers import eventually, host_and_port, metric
from version_folders import publish_onnx

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import SimpleNamespace

    from servable.server import ModelServer

BODY = {"instances": [[1.0]]}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tokens.json"


@pytest.fixture
def guarded(models: Path, start: Callable[..., ModelServer], file: Path) -> Callable[..., ModelServer]:
    """Starts servers of one model that ask for the tokens of `file`."""
    publish_onnx(models / "m", 1, tiny_models.double(size=1))

    def start_one(**settings: Any) -> ModelServer:
        if not file.exists():
            file.write_text('{"tokens": []}')
        return start(tokens=str(file), **settings)

    return start_one


def predict(server: ModelServer, token: str | None) -> requests.Response:
    headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
    url = f"http://{server.addresses.rest}/v1/models/m:predict"
    return requests.post(url, json=BODY, headers=headers, timeout=10)


# --- who comes in


def test_rest_asks_for_a_token_and_says_so(guarded: Callable[..., ModelServer], file: Path) -> None:
    token = create_token(file, "ci", ["predict"])
    server = guarded()
    assert predict(server, token).json() == {"predictions": [[2.0]]}
    for wrong in (None, "", "x", token[:-1], token[:-1] + ("0" if token[-1] != "0" else "1"), token + "0", "\u00fc"):
        reply = predict(server, wrong)
        assert (reply.status_code, reply.headers["www-authenticate"]) == (401, 'Bearer realm="servable"')
        assert "token" in reply.json()["error"].lower()


def test_grpc_asks_for_a_token(
    guarded: Callable[..., ModelServer], file: Path, tfs: SimpleNamespace, channel: Callable[..., Any]
) -> None:
    token = create_token(file, "ci", ["predict"])
    server = guarded()
    stub = tfs.prediction(channel(server))
    request = tfs.predict.PredictRequest()
    request.model_spec.name = "m"
    request.inputs["x"].CopyFrom(tfs.floats([[1.0]]))
    answer = stub.Predict(request, metadata=[("authorization", f"Bearer {token}")], timeout=10)
    assert next(iter(answer.outputs.values())).float_val == [2.0]
    for metadata in ([], [("authorization", "Bearer svb_x")]):
        with pytest.raises(grpc.RpcError) as caught:
            stub.Predict(request, metadata=metadata, timeout=10)
        assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
    status = tfs.model(channel(server))
    asked = tfs.status.GetModelStatusRequest()
    asked.model_spec.name = "m"
    with pytest.raises(grpc.RpcError) as caught:
        status.GetModelStatus(asked, metadata=[("authorization", f"Bearer {token}")], timeout=10)
    assert caught.value.code() == grpc.StatusCode.PERMISSION_DENIED
    assert "scope read" in caught.value.details()


@pytest.mark.parametrize(
    ("scope", "allowed"), [("predict", (200, 403)), ("read", (403, 200)), ("write", (403, 403)), ("admin", (200, 200))]
)
def test_a_scope_is_good_for_its_own_requests(
    guarded: Callable[..., ModelServer], file: Path, scope: str, allowed: tuple[int, int]
) -> None:
    token = create_token(file, "ci", [scope])
    server = guarded()
    read = {"Authorization": f"Bearer {token}"}
    metrics = requests.get(f"http://{server.addresses.rest}/metrics", headers=read, timeout=10)
    assert (predict(server, token).status_code, metrics.status_code) == allowed


def test_health_stays_open(guarded: Callable[..., ModelServer], channel: Callable[..., Any]) -> None:
    server = guarded()
    for page in ("livez", "readyz", "startupz", "v2/health/live", "v2/health/ready"):
        assert requests.get(f"http://{server.addresses.rest}/{page}", timeout=10).status_code == 200
    assert channel(server).unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=10) == b"\x08\x01"
    assert requests.get(f"http://{server.addresses.rest}/v1/models/m", timeout=10).status_code == 401
    assert requests.get(f"http://{server.addresses.rest}/nothing", timeout=10).status_code == 401


def test_a_request_is_refused_before_its_body_has_come(guarded: Callable[..., ModelServer]) -> None:
    server = guarded()
    with socket.create_connection(host_and_port(server.addresses.rest), timeout=10) as stream:
        stream.sendall(b"POST /v1/models/m:predict HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n")
        assert stream.recv(4096).startswith(b"HTTP/1.1 401 ")


def test_a_grpc_call_is_refused_before_its_message_has_come(
    guarded: Callable[..., ModelServer], channel: Callable[..., Any]
) -> None:
    server = guarded()
    opened = channel(server).stream_unary("/tensorflow.serving.PredictionService/Predict")

    def never_ending() -> Any:
        yield b"x"
        stopped.wait(20)

    stopped = threading.Event()
    try:
        with pytest.raises(grpc.RpcError) as caught:
            opened(never_ending(), timeout=10)
        assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
    finally:
        stopped.set()


# --- the file


def test_a_token_is_good_once_it_is_made_and_refused_once_it_is_revoked(
    guarded: Callable[..., ModelServer], file: Path
) -> None:
    server = guarded(poll_interval=0.05)
    token = create_token(file, "new", ["predict"])
    assert eventually(lambda: predict(server, token).status_code == 200)
    revoke_token(file, "new")
    assert eventually(lambda: predict(server, token).status_code == 401)


def test_a_token_that_expires_is_refused_from_then_on(guarded: Callable[..., ModelServer], file: Path) -> None:
    token = create_token(file, "short", ["predict"], lifetime=2)
    server = guarded()
    assert predict(server, token).status_code == 200
    assert eventually(lambda: predict(server, token).status_code == 401)
    assert metric(server, "servable_rejected_total", reason="token_expired") >= 1


def test_a_broken_file_leaves_the_tokens_before(
    guarded: Callable[..., ModelServer], file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    token = create_token(file, "ci", ["predict"])
    server = guarded(poll_interval=0.05)
    for broken in ("{", "[]", '{"tokens": [{}]}', "[" * 100_000):
        caplog.clear()
        file.write_text(broken)
        assert eventually(lambda: "the ones before stay" in caplog.text), broken[:20]
        assert predict(server, token).status_code == 200


def test_a_server_without_its_file_of_tokens_does_not_start(start: Callable[..., ModelServer], file: Path) -> None:
    with pytest.raises(SettingsError, match="Cannot read the tokens"):
        start(ready=False, tokens=str(file))


def test_the_file_holds_no_token_and_is_for_its_owner_alone(file: Path) -> None:
    token = create_token(file, "ci", ["read", "predict"])
    assert token.rsplit("_", 1)[1] not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [(each.name, each.scopes) for each in read_tokens(file)] == [("ci", ("predict", "read"))]


def test_names_are_taken_once_and_scopes_are_known_words(file: Path) -> None:
    create_token(file, "ci", ["read"])
    with pytest.raises(AlreadyExists):
        create_token(file, "ci", ["read"])
    for name, scopes in (("", ["read"]), ("a b", ["read"]), ("x", []), ("x", ["everything"])):
        with pytest.raises(InvalidArgument):
            create_token(file, name, scopes)
    with pytest.raises(NotFound):
        revoke_token(file, "other")


# --- commands and client


def test_the_client_sends_its_token_over_rest_and_grpc(guarded: Callable[..., ModelServer], file: Path) -> None:
    all_of_it, little = create_token(file, "all", ["predict", "read"]), create_token(file, "little", ["read"])
    server = guarded()
    for url in (f"http://{server.addresses.rest}", f"grpc://{server.addresses.grpc}"):
        with servable.Client(url, token=all_of_it) as client:
            assert client.predict("m", [[1.0]]) == [[2.0]]
        with servable.Client(url, token=little) as client, pytest.raises(PermissionDenied, match="scope predict"):
            client.predict("m", [[1.0]])
        with servable.Client(url) as client, pytest.raises(Unauthenticated) as caught:
            client.status("m")
        assert "SERVABLE_TOKEN" in str(caught.value.hint)


def test_the_command_makes_shows_and_revokes_tokens(
    guarded: Callable[..., ModelServer], file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from click.testing import CliRunner

    monkeypatch.setenv("SERVABLE_TOKENS", str(file))
    run = CliRunner().invoke
    made = run(main, ["token", "create", "ci", "--scope", "predict", "--scope", "read", "--expires", "30d"])
    token = made.stdout.strip()
    assert made.exit_code == 0
    assert token.startswith("svb_")
    server = guarded()
    url = f"http://{server.addresses.rest}"
    shown = json.loads(run(main, ["token", "list", "--json"]).stdout)
    assert [(each["name"], each["scopes"]) for each in shown] == [("ci", ["predict", "read"])]
    monkeypatch.setenv("SERVABLE_TOKEN", token)
    assert run(main, ["status", url]).exit_code == 0
    body = tmp_path / "body.json"
    body.write_text(json.dumps(BODY))
    assert json.loads(run(main, ["predict", "m", str(body), "--url", url]).stdout) == {"predictions": [[2.0]]}
    assert run(main, ["token", "revoke", "ci"]).exit_code == 0
    assert read_tokens(file) == []
