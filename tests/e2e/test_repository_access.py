"""Who may change the models of a server: by settings, by tokens, and not by way of a browser."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import requests

import servable
import tiny_models
from archives import model_files, tar
from certificates import Authority
from repository_calls import ask, change, index, put, url
from servable.errors import PermissionDenied
from servable.settings.token_file import create_token
from version_folders import publish_onnx

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from servable.server import ModelServer


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


def test_other_machines_with_certificates_may_change_models_where_that_is_allowed(
    start: Callable[..., ModelServer], models: Path, tmp_path: Path
) -> None:
    authority = Authority(tmp_path / "pki")
    mine, yours = authority.sign("server"), authority.sign("client")
    (tmp_path / "m.tar").write_bytes(tar(model_files(2)))
    secure = {"bind": "0.0.0.0", "tls_cert": str(mine.cert), "tls_key": str(mine.key), "ready": False}

    def client(server: ModelServer) -> servable.Client:
        assert server.addresses.rest is not None
        port = server.addresses.rest.rpartition(":")[2]
        return servable.Client(f"https://localhost:{port}", ca=authority.ca, cert=yours.both)

    with client(start(**secure, tls_client_ca=str(authority.ca), repository="write")) as asked:
        assert asked.upload(tmp_path / "m.tar", "m").state == "AVAILABLE"
    for lax in ({"tls_client_verify": "optional", "insecure": True, "repository": "write"}, {}):
        with client(start(**secure, tls_client_ca=str(authority.ca), **lax)) as asked:
            assert [each.model for each in asked.models()] == ["m"]
            with pytest.raises(PermissionDenied):
                asked.unload("m")
