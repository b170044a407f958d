"""`--ssl_config_file`: gRPC speaks TLS, REST does not."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import grpc
import pytest
import requests
from model_server_process import ModelServerProcess

import tiny_models
from certificates import Authority
from version_folders import publish_onnx

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import SimpleNamespace

    from certificates import Signed


@pytest.fixture
def serve(models: Path, tmp_path: Path) -> Iterator[Callable[..., ModelServerProcess]]:
    publish_onnx(models / "m", 1, tiny_models.double())
    with ExitStack() as running:

        def start() -> ModelServerProcess:
            flags = (f"--model_base_path={models / 'm'}", f"--ssl_config_file={tmp_path / 'ssl.config'}")
            process = ModelServerProcess(*flags, rest=True)
            running.callback(process.end)
            process.wait_for("Ready")
            return process

        yield start


def write_config(path: Path, signed: Signed, more: str = "") -> None:
    def quoted(pem: bytes) -> str:
        return '"' + pem.decode().replace("\n", "\\n") + '"'

    new = path.with_suffix(".new")
    new.write_text(
        f"server_key: {quoted(signed.key.read_bytes())} server_cert: {quoted(signed.cert.read_bytes())} {more}"
    )
    new.rename(path)


def ca_field(authority: Authority) -> str:
    return 'custom_ca: "' + authority.ca.read_text().replace("\n", "\\n") + '"'


def status_over_tls(
    tfs: SimpleNamespace, server: ModelServerProcess, ca: Path, client: Signed | None = None
) -> grpc.StatusCode:
    """How one call ends that is made with these certificates."""
    own = (client.key.read_bytes(), client.cert.read_bytes()) if client else (None, None)
    credentials = grpc.ssl_channel_credentials(ca.read_bytes(), *own)
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.secure_channel(f"localhost:{server.port}", credentials, options=options) as channel:
        try:
            request = tfs.status.GetModelStatusRequest()
            request.model_spec.name = "default"
            tfs.model(channel).GetModelStatus(request, timeout=20)
        except grpc.RpcError as error:
            return error.code()
    return grpc.StatusCode.OK


def test_grpc_is_encrypted_and_rest_is_not(
    serve: Callable[[], ModelServerProcess], tmp_path: Path, tfs: SimpleNamespace
) -> None:
    authority = Authority(tmp_path / "ca")
    write_config(tmp_path / "ssl.config", authority.sign("server"))
    server = serve()
    assert status_over_tls(tfs, server, authority.ca) is grpc.StatusCode.OK
    assert requests.get(f"{server.rest}/v1/models/default", timeout=20).status_code == 200
    with server.channel() as plain, pytest.raises(grpc.RpcError):
        tfs.model(plain).GetModelStatus(tfs.status.GetModelStatusRequest(), timeout=20)


def test_clients_need_a_certificate_where_client_verify_says_so(
    serve: Callable[[], ModelServerProcess], tmp_path: Path, tfs: SimpleNamespace
) -> None:
    authority, stranger = Authority(tmp_path / "ca"), Authority(tmp_path / "other", "other")
    write_config(tmp_path / "ssl.config", authority.sign("server"), f"{ca_field(authority)} client_verify: true")
    server = serve()
    assert status_over_tls(tfs, server, authority.ca, authority.sign("client")) is grpc.StatusCode.OK
    assert status_over_tls(tfs, server, authority.ca) is grpc.StatusCode.UNAVAILABLE
    assert status_over_tls(tfs, server, authority.ca, stranger.sign("client")) is grpc.StatusCode.UNAVAILABLE


def test_a_file_that_changes_is_read_again(
    serve: Callable[[], ModelServerProcess], tmp_path: Path, tfs: SimpleNamespace
) -> None:
    before, after = Authority(tmp_path / "before", "before"), Authority(tmp_path / "after", "after")
    write_config(tmp_path / "ssl.config", before.sign("server"))
    server = serve()
    assert status_over_tls(tfs, server, before.ca) is grpc.StatusCode.OK
    write_config(tmp_path / "ssl.config", after.sign("server"))
    server.wait_for("certificates have changed")
    assert status_over_tls(tfs, server, after.ca) is grpc.StatusCode.OK
    assert status_over_tls(tfs, server, before.ca) is grpc.StatusCode.UNAVAILABLE
