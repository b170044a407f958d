"""Models listed, uploaded, removed, loaded and unloaded over HTTP and gRPC, while requests run."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import requests

import servable
import tiny_models
from archives import model_files, tar, tar_entry, zipped
from raw_http import connected, read_answer
from servable.server import ModelServer
from servable.settings import ServerSettings
from servable.settings.token_file import create_token
from servers import DEFAULTS, eventually
from streams import Stream
from version_folders import publish_onnx

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path
    from types import SimpleNamespace

ROW = {"instances": [[1.0, 2.0]]}
BINARY = {"Content-Type": "application/octet-stream"}


@pytest.fixture
def writable(start: Callable[..., ModelServer]) -> Callable[..., ModelServer]:
    """Starts servers whose models clients may change."""
    return lambda **settings: start(**{"repository": "write", "load_retries": 0, "ready": False} | settings)


def url(server: ModelServer, path: str = "") -> str:
    return f"http://{server.addresses.rest}/v2/repository{path}"


def put(server: ModelServer, model: str, version: int, body: bytes, query: str = "", **headers: str) -> Any:
    path = url(server, f"/models/{model}/versions/{version}{query}")
    return requests.put(path, data=body, headers=BINARY | headers, timeout=30)


def index(server: ModelServer, **body: Any) -> list[tuple[str, str, str]]:
    rows = requests.post(url(server, "/index"), json=body, timeout=10).json()
    return [(row["name"], row["version"], row["state"]) for row in rows]


def change(server: ModelServer, model: str, verb: str, body: Any = None) -> requests.Response:
    return requests.post(url(server, f"/models/{model}/{verb}"), json=body or {}, timeout=30)


def ask(server: ModelServer, model: str) -> requests.Response:
    return requests.post(f"http://{server.addresses.rest}/v1/models/{model}:predict", json=ROW, timeout=10)


def left_behind(models: Path) -> list[Path]:
    """What uploads and removals left on the disk."""
    hidden = (".saving-", ".removing-")
    return [path for path in models.rglob("*") if path.suffix == ".archive" or path.name.startswith(hidden)]


# --- uploads


@pytest.mark.parametrize(
    "archive",
    [tar(model_files(7)), tar(model_files(7, "digits/"), "gz"), zipped(model_files(7, "top/"))],
    ids=["tar", "tar.gz", "zip"],
)
def test_an_uploaded_model_answers_when_the_upload_does(
    writable: Callable[..., ModelServer], models: Path, archive: bytes
) -> None:
    server = writable()
    reply = put(server, "m", 3, archive)
    assert reply.status_code == 200, reply.text
    sha256 = hashlib.sha256(archive).hexdigest()
    assert reply.json() == {
        "model": "m", "version": 3, "sha256": sha256, "bytes": len(archive), "state": "AVAILABLE",
    }  # fmt: skip
    assert ask(server, "m").json() == {"predictions": [[7.0]]}
    assert [path.name for path in (models / "m" / "3").iterdir()] == ["model.onnx"]
    assert left_behind(models) == []


def test_the_next_number_is_taken_where_none_is_given(writable: Callable[..., ModelServer]) -> None:
    server = writable()
    for version in (1, 2):
        reply = requests.post(
            url(server, "/models/m/versions"), data=tar(model_files(version)), headers=BINARY, timeout=30
        )
        assert reply.json()["version"] == version
        assert ask(server, "m").json() == {"predictions": [[float(version)]]}


def test_a_version_that_is_there_is_not_touched(writable: Callable[..., ModelServer], models: Path) -> None:
    publish_onnx(models / "m", 1, tiny_models.double())
    before = (models / "m" / "1" / "model.onnx").read_bytes()
    server = writable()
    reply = put(server, "m", 1, tar(model_files(7)) + bytes(4 << 20))
    assert reply.status_code == 409
    assert "leave the version out" in reply.json()["error"]
    assert (models / "m" / "1" / "model.onnx").read_bytes() == before


def test_requests_go_on_while_versions_are_uploaded(writable: Callable[..., ModelServer], tfs: SimpleNamespace) -> None:
    server = writable()
    assert put(server, "m", 1, tar(model_files(1))).status_code == 200
    with Stream(server, "m", tfs, rest=1, rpc=1) as stream:
        for version in (2, 3, 4):
            assert put(server, "m", version, zipped(model_files(version))).json()["state"] == "AVAILABLE"
            stream.wait_for(version)
    assert stream.failures == []


def test_a_version_that_does_not_load_says_why_and_the_old_one_serves(
    writable: Callable[..., ModelServer], models: Path
) -> None:
    server = writable()
    assert put(server, "m", 1, tar(model_files(1))).status_code == 200
    reply = put(server, "m", 2, tar({"model.onnx": b"no model"}))
    assert reply.status_code == 400
    assert "Version 2 of model m is stored, but cannot be loaded" in reply.json()["error"]
    assert str(models) not in reply.json()["error"].split("cannot be loaded")[0]
    assert ask(server, "m").json() == {"predictions": [[1.0]]}


def test_without_waiting_the_answer_comes_before_the_load_is_over(writable: Callable[..., ModelServer]) -> None:
    server = writable()
    reply = put(server, "m", 1, tar({"model.onnx": b"no model"}), "?wait=false")
    assert reply.status_code == 200
    assert put(server, "m", 2, tar(model_files(2)), "?wait=perhaps").status_code == 400
    assert put(server, "m", 2, tar(model_files(2)), "?wiat=false").status_code == 400


@pytest.mark.parametrize(
    ("archive", "why"),
    [
        (b"hello", "tar"),
        (tar({"readme.txt": b"x"}), "No model in the archive: found readme.txt"),
        (tar({"../../evil": b"x"}), "leads out"),
        (tar_entry("model.onnx", b"2", "/etc/passwd"), "neither a plain file"),
        (tar(model_files() | {"servable.json": b"{}"}), "servable.json: 'schema'"),
        (zipped(model_files())[:-30], "zip"),
    ],
)
def test_what_is_refused_leaves_nothing_behind(
    writable: Callable[..., ModelServer], models: Path, archive: bytes, why: str
) -> None:
    server = writable()
    reply = put(server, "new", 1, archive)
    assert reply.status_code == 400
    assert why in reply.json()["error"]
    assert str(models) not in reply.json()["error"]
    assert [path.name for path in models.iterdir()] == [".uploads"]
    assert left_behind(models) == []


def test_a_saved_version_is_checked_against_its_manifest(
    writable: Callable[..., ModelServer], models: Path, tmp_path: Path
) -> None:
    saved = servable.save(tiny_models.double(), tmp_path / "saved" / "m", examples=np.ones((3, 2), np.float32))
    paths = [path for path in saved.path.rglob("*") if path.is_file()]
    files = {path.relative_to(saved.path).as_posix(): path.read_bytes() for path in paths}
    server = writable()
    bad = files | {"model.onnx": files["model.onnx"][:-1] + b"?"}
    reply = put(server, "m", 1, tar(bad))
    assert reply.status_code == 400
    assert "model.onnx is not the file that was saved" in reply.json()["error"]
    assert str(models) not in reply.json()["error"]
    assert put(server, "m", 1, tar(files)).status_code == 200


def test_digests_are_verified_where_they_are_given(writable: Callable[..., ModelServer]) -> None:
    server = writable()
    archive = tar(model_files())
    right = hashlib.sha256(archive)
    text = base64.b64encode(right.digest()).decode()
    for header in ("Repr-Digest", "Content-Digest"):
        wrong = put(server, "m", 1, archive, **{header: f"sha-256=:{base64.b64encode(bytes(32)).decode()}:"})
        assert (wrong.status_code, "SHA-256" in wrong.json()["error"]) == (400, True)
        assert put(server, "m", 1, archive, **{header: "md5=:abcd:"}).status_code == 400
    assert put(server, "m", 1, archive, "?sha256=" + "0" * 64).status_code == 400
    assert put(server, "m", 1, archive, f"?sha256={right.hexdigest()}").status_code == 200
    assert put(server, "m", 2, archive, **{"Repr-Digest": f"sha-256=:{text}:"}).status_code == 200


@pytest.mark.parametrize("name", ["..", ".hidden", "a%2Fb", "%2e%2e", "12", "a.tmp", "x" * 300, "a%00b", "a b%0A"])
def test_names_that_no_model_can_have_are_refused(
    writable: Callable[..., ModelServer], models: Path, name: str
) -> None:
    server = writable()
    with connected(server.addresses.rest) as connection:
        body = tar(model_files())
        head = f"POST /v2/repository/models/{name}/versions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}"
        connection.sendall(head.encode() + b"\r\n\r\n" + body)
        status, _ = read_answer(connection)
    assert status in (400, 404)
    assert [path.name for path in models.iterdir()] in ([], [".uploads"])


def test_python_models_are_taken_only_where_that_is_allowed(writable: Callable[..., ModelServer], models: Path) -> None:
    source = {"model.py": b"class Model:\n    pass\n"}
    server = writable()
    reply = put(server, "m", 1, tar(source))
    assert (reply.status_code, "upload_code" in reply.json()["error"]) == (403, True)
    assert not (models / "m").exists()
    assert "stored" in put(writable(upload_code=True), "m", 1, tar(source)).json()["error"]


def test_an_upload_over_the_limit_is_refused(writable: Callable[..., ModelServer], models: Path) -> None:
    server = writable(max_upload_size=100_000)
    with connected(server.addresses.rest) as connection:
        head = "PUT /v2/repository/models/m/versions/1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 200000\r\n\r\n"
        connection.sendall(head.encode())
        status, body = read_answer(connection)
    assert (status, b"max_upload_size" in body) == (413, True)
    chunked = requests.put(
        url(server, "/models/m/versions/1"), data=iter([bytes(60_000)] * 3), headers=BINARY, timeout=30
    )
    assert chunked.status_code == 413
    assert put(server, "m", 1, tar({"model.onnx": bytes(90_000), "b": bytes(20_000)}, "gz")).status_code == 413
    assert eventually(lambda: left_behind(models) == [])


def test_a_client_that_goes_away_leaves_nothing(writable: Callable[..., ModelServer], models: Path) -> None:
    server = writable()
    head = "PUT /v2/repository/models/m/versions/1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900000\r\n\r\n"
    with connected(server.addresses.rest) as connection:
        connection.sendall(head.encode() + bytes(300_000))
        assert eventually(lambda: any(path.stat().st_size == 300_000 for path in left_behind(models)))
    assert eventually(lambda: left_behind(models) == [])
    assert not (models / "m").exists()


def test_a_client_that_sends_too_slowly_is_told_so(writable: Callable[..., ModelServer], models: Path) -> None:
    server = writable(send_timeout=0.2)
    head = "PUT /v2/repository/models/m/versions/1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000\r\n\r\nabc"
    with connected(server.addresses.rest) as connection:
        connection.sendall(head.encode())
        status, body = read_answer(connection)
    assert (status, b"send_timeout" in body) == (408, True)
    assert eventually(lambda: left_behind(models) == [])


# --- loaded and unloaded


def test_a_model_is_unloaded_and_loaded_without_the_others(
    writable: Callable[..., ModelServer], models: Path, tfs: SimpleNamespace
) -> None:
    server = writable()
    for name in ("a", "b"):
        assert put(server, name, 1, tar(model_files(1))).status_code == 200
    with Stream(server, "b", tfs, rest=1, rpc=1) as stream:
        stream.wait_for(1)
        assert change(server, "a", "unload", {"parameters": {"unload_dependents": False}}).status_code == 200
        assert ask(server, "a").status_code == 404
        assert requests.get(f"http://{server.addresses.rest}/readyz", timeout=10).status_code == 200
        # What comes meanwhile waits on the disk.
        assert put(server, "a", 2, tar(model_files(2))).json()["state"] is None
        assert ask(server, "a").status_code == 404
        assert change(server, "a", "load").status_code == 200
        assert ask(server, "a").json() == {"predictions": [[2.0]]}
    assert stream.failures == []
    assert change(server, "nobody", "load").status_code == 404
    assert change(server, "nobody", "unload").status_code == 404
    assert change(server, "..", "load").status_code == 404


def test_a_load_that_fails_says_why_and_is_tried_again(writable: Callable[..., ModelServer], models: Path) -> None:
    server = writable()
    assert put(server, "m", 1, tar({"model.onnx": b"no model"})).status_code == 400
    for _ in range(2):
        reply = change(server, "m", "load")
        assert (reply.status_code, "Version 1 of model m cannot be loaded" in reply.json()["error"]) == (400, True)


def test_parameters_that_are_not_known_are_refused(writable: Callable[..., ModelServer]) -> None:
    server = writable()
    assert put(server, "m", 1, tar(model_files(1))).status_code == 200
    wrong = ({"parameters": {"config": "{}"}}, {"parameters": 3}, {"parameters": {"unload_dependents": 1}}, [])
    for body in (*(json.dumps(each).encode() for each in wrong), b"{", b"\xff", b"[" * 100_000, b"[" * 60_000):
        reply = requests.post(url(server, "/models/m/load"), data=body, headers=BINARY, timeout=10)
        assert reply.status_code == 400, body[:100]


def test_to_load_a_version_pins_it(writable: Callable[..., ModelServer]) -> None:
    server = writable()
    for version in (1, 2):
        assert put(server, "m", version, tar(model_files(version))).status_code == 200
    assert change(server, "m", "versions/1/load").status_code == 200
    assert ask(server, "m").json() == {"predictions": [[1.0]]}
    about = requests.get(url(server, "/models/m"), timeout=10).json()
    assert (about["pinned"], about["default"]) == (1, 1)
    # A new version stays on the disk, and the pinned one there too.
    assert put(server, "m", 3, tar(model_files(3))).json()["state"] is None
    assert requests.delete(url(server, "/models/m/versions/1"), timeout=10).status_code == 400
    assert requests.delete(url(server, "/models/m/pin"), timeout=10).json()["was_pinned"] is True
    assert server.wait_for(lambda routes: routes.models["m"].default == 3)
    assert change(server, "m", "versions/9/load").status_code == 404


def test_the_index_tells_names_versions_states_and_reasons(writable: Callable[..., ModelServer]) -> None:
    server = writable()
    assert index(server) == []
    assert put(server, "good", 1, tar(model_files(1))).status_code == 200
    assert put(server, "bad", 1, tar({"model.onnx": b"no model"})).status_code == 400
    assert index(server) == [("bad", "1", "UNAVAILABLE"), ("good", "1", "READY")]
    assert index(server, ready=True) == [("good", "1", "READY")]
    reasons = {row["name"]: row["reason"] for row in requests.post(url(server, "/index"), timeout=10).json()}
    assert reasons["good"] == ""
    assert reasons["bad"]
    assert requests.post(url(server, "/index"), json={"ready": "yes"}, timeout=10).status_code == 400


# --- removed


def test_a_removed_version_gives_way_to_the_one_before(writable: Callable[..., ModelServer], models: Path) -> None:
    server = writable()
    for version in (1, 2):
        assert put(server, "m", version, tar(model_files(version))).status_code == 200
    reply = requests.delete(url(server, "/models/m/versions/2"), timeout=30)
    assert reply.json() == {"removed": {"model": "m", "version": 2}}
    assert server.wait_for(lambda routes: routes.models["m"].default == 1)
    assert requests.delete(url(server, "/models/m/versions/2"), timeout=30).status_code == 404
    assert requests.delete(url(server, "/models/m"), timeout=30).status_code == 200
    assert not (models / "m").exists()
    assert index(server) == []
    assert ask(server, "m").status_code == 404
    assert requests.delete(url(server, "/models/m"), timeout=30).status_code == 404
    assert left_behind(models) == []


def test_what_a_link_leads_to_is_not_removed(
    writable: Callable[..., ModelServer], models: Path, tmp_path: Path
) -> None:
    publish_onnx(tmp_path / "elsewhere", 1, tiny_models.double())
    (models / "m").symlink_to(tmp_path / "elsewhere")
    server = writable()
    assert requests.delete(url(server, "/models/m"), timeout=30).status_code == 200
    assert (tmp_path / "elsewhere" / "1" / "model.onnx").exists()
    assert not (models / "m").exists()


# --- servers that were told of their models by name


@pytest.fixture
def named(tmp_path: Path) -> Iterator[ModelServer]:
    """A server of one model folder, `m`."""
    publish_onnx(tmp_path / "m", 1, tiny_models.double())
    with ExitStack() as running:
        server = ModelServer(tmp_path / "m", ServerSettings(**DEFAULTS, repository="write"))  # type: ignore[arg-type]
        running.enter_context(server)
        server.wait_until_ready(20)
        yield server


def test_a_server_of_one_model_takes_versions_of_it_alone(named: ModelServer) -> None:
    assert put(named, "m", 2, tar(model_files(2))).status_code == 200
    assert ask(named, "m").json() == {"predictions": [[2.0]]}
    reply = put(named, "other", 1, tar(model_files(2)))
    assert (reply.status_code, "takes no new models" in reply.json()["error"]) == (400, True)
    reply = requests.delete(url(named, "/models/m"), timeout=10)
    assert (reply.status_code, "was started with" in reply.json()["error"]) == (400, True)
    assert change(named, "m", "unload").status_code == 200
    assert ask(named, "m").status_code == 404


# --- who may


def test_by_default_models_are_listed_and_not_changed(start: Callable[..., ModelServer], models: Path) -> None:
    publish_onnx(models / "m", 1, tiny_models.double())
    server = start()
    assert index(server) == [("m", "1", "READY")]
    for reply in (
        put(server, "m", 2, tar(model_files(2))),
        change(server, "m", "unload"),
        requests.delete(url(server, "/models/m"), timeout=10),
    ):
        assert (reply.status_code, "--repository write" in reply.json()["error"]) == (403, True)


def test_a_repository_that_is_off_shows_nothing(start: Callable[..., ModelServer], models: Path) -> None:
    publish_onnx(models / "m", 1, tiny_models.double())
    server = start(repository="off")
    assert requests.post(url(server, "/index"), timeout=10).status_code == 501


def test_other_machines_without_tokens_change_nothing(start: Callable[..., ModelServer], models: Path) -> None:
    publish_onnx(models / "m", 1, tiny_models.double())
    server = start(repository="write", bind="0.0.0.0", insecure=True)
    reply = change(server, "m", "unload")
    assert (reply.status_code, "neither for tokens" in reply.json()["error"]) == (403, True)


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"},
        {"Content-Type": "multipart/form-data; boundary=x"},
        {"Host": "evil.example:8501"},
        {"Host": "127.0.0.1.evil.example"},
    ],
)
def test_a_web_page_cannot_change_models(
    writable: Callable[..., ModelServer], models: Path, headers: Mapping[str, str]
) -> None:
    publish_onnx(models / "m", 1, tiny_models.double())
    server = writable(cors=True)
    assert server.wait_for(lambda routes: "m" in routes.models and bool(routes.models["m"].available))
    sent = {"Content-Type": "application/json"} | dict(headers)
    for method, path in (("POST", "unload"), ("POST", "versions"), ("DELETE", "pin"), ("POST", "versions/1/load")):
        reply = requests.request(method, url(server, f"/models/m/{path}"), headers=sent, timeout=10)
        assert reply.status_code == 403, reply.text
    assert ask(server, "m").status_code == 200
    question = {"Origin": "http://evil.example", "Access-Control-Request-Method": "PUT"}
    asked = requests.options(url(server, "/models/m/versions/1"), headers=question, timeout=10)
    assert asked.status_code == 404
    assert "PUT" not in asked.headers.get("Access-Control-Allow-Methods", "")


def test_tokens_with_the_scope_write_change_models(
    start: Callable[..., ModelServer], models: Path, tmp_path: Path
) -> None:
    file = tmp_path / "tokens.json"
    tokens = {scope: create_token(file, scope, [scope]) for scope in ("predict", "read", "write")}
    publish_onnx(models / "m", 1, tiny_models.double())
    server = start(tokens=str(file))
    for scope, expected in (("predict", 403), ("read", 403), ("write", 200)):
        bearer = {"Authorization": f"Bearer {tokens[scope]}", "Origin": "https://console.example"}
        assert put(server, "m", 2, tar(model_files(2)), **bearer).status_code == expected
    bearer = {"Authorization": f"Bearer {tokens['read']}"}
    assert requests.post(url(server, "/index"), headers=bearer, timeout=10).status_code == 200


def test_uploads_over_the_number_allowed_are_told_to_come_back(
    writable: Callable[..., ModelServer], models: Path
) -> None:
    server = writable()
    head = "PUT /v2/repository/models/m/versions/{} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000\r\n\r\nabc"
    with ExitStack() as stack:
        for number in range(4):
            connection = stack.enter_context(connected(server.addresses.rest))
            connection.sendall(head.format(number).encode())
        assert eventually(lambda: len(left_behind(models)) == 4)
        reply = put(server, "m", 9, tar(model_files(9)))
        assert (reply.status_code, reply.headers["retry-after"]) == (503, "5")
    assert eventually(lambda: left_behind(models) == [])


def test_uploads_of_the_same_version_at_once_make_one(writable: Callable[..., ModelServer], models: Path) -> None:
    server = writable()
    statuses = []

    def upload() -> None:
        statuses.append(put(server, "m", 1, tar(model_files(1))).status_code)

    threads = [threading.Thread(target=upload) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200, 409, 409, 409]
    assert left_behind(models) == []


# --- the clients of others


def test_tritons_client_lists_loads_and_unloads(writable: Callable[..., ModelServer]) -> None:
    http = pytest.importorskip("tritonclient.http")
    server = writable()
    assert put(server, "m", 1, tar(model_files(1))).status_code == 200
    with http.InferenceServerClient(server.addresses.rest) as client:
        assert client.get_model_repository_index()[0]["state"] == "READY"
        client.unload_model("m")
        assert not client.is_model_ready("m")
        client.load_model("m")
        assert client.is_model_ready("m")
