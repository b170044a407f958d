"""Models uploaded over HTTP: whole or not at all, while requests run."""

from __future__ import annotations

import base64
import hashlib
import os
import resource
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING

import numpy as np
import pytest
import requests

import servable
import tiny_models
from archives import model_files, tar, tar_entry, zipped
from cli.serve_process import FREE_PORTS, Process
from raw_http import connected, read_answer
from repository_calls import BINARY, ask, left_behind, put, url
from servable.errors import StorageFull
from servers import eventually
from streams import Stream
from version_folders import publish_onnx

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import SimpleNamespace

    from gates import Gate
    from servable.server import ModelServer


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


def test_a_client_that_asks_before_it_sends_is_refused_at_once(
    writable: Callable[..., ModelServer], models: Path
) -> None:
    publish_onnx(models / "m", 1, tiny_models.double())
    server = writable()
    head = "PUT /v2/repository/models/m/versions/{} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n"
    archive = tar(model_files(2))
    with connected(server.addresses.rest) as connection:
        connection.sendall(head.format(1, len(archive)).encode() + b"Expect: 100-continue\r\n\r\n")
        assert read_answer(connection)[0] == 409
    with connected(server.addresses.rest) as connection:
        connection.sendall(head.format(2, len(archive)).encode() + b"Expect: 100-continue\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
        connection.sendall(archive)
        assert read_answer(connection)[0] == 200


def test_the_archive_is_gone_before_the_version_is_loaded(
    writable: Callable[..., ModelServer], models: Path, gate: Gate
) -> None:
    server = writable(upload_code=True)
    replies = []
    stop = f'    def __init__(self):\n        gates.find("{gate.name}").run(numpy.zeros((1, 2)))\n\n    def predict'
    source = "import numpy\n" + gate.source.replace("    def predict", stop)
    archive = tar({"model.py": source.encode()})
    thread = threading.Thread(target=lambda: replies.append(put(server, "m", 1, archive)))
    thread.start()
    gate.wait_for_a_call()
    assert left_behind(models) == []
    assert requests.post(url(server, "/index"), timeout=10).json()[0]["state"] == "LOADING"
    gate.open()
    thread.join()
    assert replies[0].json()["state"] == "AVAILABLE"


# --- when the disk is full


def test_a_full_disk_refuses_an_upload_and_leaves_nothing(models: Path, tmp_path: Path) -> None:
    publish_onnx(models / "m", 1, tiny_models.double())
    process = Process(str(models), *FREE_PORTS, "--repository", "write", cwd=tmp_path)
    try:
        process.wait_for("Loaded")
        # What may be written to one file stands in for the disk: the archive fits, or not even that.
        resource.prlimit(process.process.pid, resource.RLIMIT_FSIZE, (200_000, 200_000))
        with servable.Client(process.rest) as client:
            for name, size in (("unpacked", 250_000), ("archive", 250_000)):
                file = tmp_path / f"{name}.archive"
                content = bytes(size) if name == "unpacked" else np.random.default_rng(0).bytes(size)
                file.write_bytes(tar({"model.onnx": content}, "gz"))
                with pytest.raises(StorageFull, match="no room on the disk"):
                    client.upload(file, "m")
            file.write_bytes(tar(model_files(2)))
            assert client.upload(file, "m").state == "AVAILABLE"
    finally:
        process.end()
    assert left_behind(models) == []


def test_what_a_killed_server_left_is_removed_after_a_day(writable: Callable[..., ModelServer], models: Path) -> None:
    stale, fresh = models / ".uploads" / "a.archive", models / ".uploads" / "b.archive"
    stale.parent.mkdir()
    for file in (stale, fresh):
        file.write_bytes(b"half")
    os.utime(stale, (1e9, 1e9))
    assert put(writable(), "m", 1, tar(model_files(1))).status_code == 200
    assert left_behind(models) == [fresh]
