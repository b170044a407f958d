"""TLS on both ports: with real certificates, clients and files that change."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import threading
from typing import TYPE_CHECKING, Any

import grpc
import httpx2
import numpy as np
import pytest
import requests

import servable
import tiny_models
from certificates import Authority, Signed
from servable import _native
from servable.errors import InvalidArgument, Unavailable
from servers import eventually, host_and_port, metric
from version_folders import publish_onnx

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from servable.server import ModelServer

BODY = {"instances": [[1.0], [2.0]]}


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "pki")


@pytest.fixture
def mine(authority: Authority) -> Signed:
    return authority.sign("server")


@pytest.fixture
def secure(models: Path, start: Callable[..., ModelServer], mine: Signed) -> Callable[..., ModelServer]:
    """Starts servers of one model with TLS."""
    publish_onnx(models / "m", 1, tiny_models.double(size=1))

    def start_one(**settings: Any) -> ModelServer:
        return start(tls_cert=str(mine.cert), tls_key=str(mine.key), **settings)

    return start_one


def serial(server: ModelServer, ca: Path) -> int:
    """The serial number of the certificate that a new connection sees."""
    context = ssl.create_default_context(cafile=str(ca))
    with (
        socket.create_connection(host_and_port(server.addresses.rest), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as stream,
    ):
        return int(stream.getpeercert()["serialNumber"], 16)


# --- both ports


def test_rest_answers_over_http1_and_http2(secure: Callable[..., ModelServer], authority: Authority) -> None:
    server = secure()
    url = f"https://{server.addresses.rest}/v1/models/m:predict"
    reply = requests.post(url, json=BODY, verify=str(authority.ca), timeout=10)
    assert reply.json() == {"predictions": [[2.0], [4.0]]}
    for protocols, spoken in ((["h2", "http/1.1"], "h2"), (["http/1.1"], "http/1.1"), ([], None)):
        context = ssl.create_default_context(cafile=str(authority.ca))
        if protocols:
            context.set_alpn_protocols(protocols)
        with (
            socket.create_connection(host_and_port(server.addresses.rest), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as stream,
        ):
            assert stream.selected_alpn_protocol() == spoken


def test_http2_is_seen_by_its_preface_where_the_client_has_no_alpn(
    secure: Callable[..., ModelServer], authority: Authority
) -> None:
    server = secure()
    context = ssl.create_default_context(cafile=str(authority.ca))
    for start, answer in (
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", b"\0\0"),
        (b"GET /livez", b"HTTP/1.1 200"),
    ):
        with (
            socket.create_connection(host_and_port(server.addresses.rest), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as stream,
        ):
            stream.sendall(start[:5])
            stream.sendall(start[5:])
            if answer != b"\0\0":
                stream.sendall(b" HTTP/1.1\r\nhost: x\r\n\r\n")
            assert stream.recv(4096).startswith(answer)


def test_the_client_speaks_https_and_grpcs_also_with_large_tensors(
    secure: Callable[..., ModelServer], authority: Authority
) -> None:
    server = secure()
    x = np.arange(1_000_000, dtype=np.float32)[:, None]
    for url in (f"https://{server.addresses.rest}", f"grpcs://{server.addresses.grpc}"):
        with servable.Client(url, ca=authority.ca) as client:
            assert np.array_equal(client.predict("m", x), 2 * x)


def test_the_async_client_speaks_https_and_grpcs(secure: Callable[..., ModelServer], authority: Authority) -> None:
    server, x = secure(), np.arange(6, dtype=np.float32)[:, None]

    async def ask(url: str, hedge_after: float | None) -> object:
        async with servable.AsyncClient(url, ca=authority.ca, hedge_after=hedge_after) as client:
            return await client.predict("m", x)

    for url in (f"https://{server.addresses.rest}", f"grpcs://{server.addresses.grpc}"):
        for hedge_after in (None, 5.0):
            assert np.array_equal(asyncio.run(ask(url, hedge_after)), 2 * x)


def test_a_certificate_of_another_authority_is_refused_by_the_client(
    secure: Callable[..., ModelServer], tmp_path: Path
) -> None:
    server, other = secure(), Authority(tmp_path / "other", "other")
    for url in (f"https://{server.addresses.rest}", f"grpcs://{server.addresses.grpc}"):
        with servable.Client(url, ca=other.ca, timeout=5) as client, pytest.raises(Unavailable):
            client.status("m")


def test_the_unix_socket_stays_in_plain_text(secure: Callable[..., ModelServer], tmp_path: Path) -> None:
    server = secure(grpc_socket_path=str(tmp_path / "s.sock"))
    with servable.Client(f"unix:{server.addresses.grpc_socket}") as client:
        assert client.status("m")[0].state == "AVAILABLE"


def test_the_data_plane_can_secure_the_unix_socket_and_leave_rest_in_plain_text(
    mine: Signed, authority: Authority, tmp_path: Path
) -> None:
    tls = {"certificate": mine.cert.read_text(), "key": mine.key.read_text(), "rest": False, "grpc_socket": True}
    path = str(tmp_path / "s.sock")
    settings = {"rest_address": "127.0.0.1:0", "grpc_address": "", "grpc_socket_path": path, "tls": tls}
    server = _native.Server(json.dumps(settings))
    rest = json.loads(server.start())["rest"]
    try:
        context = ssl.create_default_context(cafile=str(authority.ca))
        context.set_alpn_protocols(["h2"])
        with socket.socket(socket.AF_UNIX) as plain:
            plain.settimeout(10)
            plain.connect(path)
            with context.wrap_socket(plain, server_hostname="localhost") as stream:
                assert stream.selected_alpn_protocol() == "h2"
        assert requests.get(f"http://{rest}/livez", timeout=10).status_code == 200
    finally:
        server.stop(1)


def test_certificates_without_tls_in_the_address_are_refused(authority: Authority) -> None:
    with pytest.raises(InvalidArgument, match="without certificates"):
        servable.Client("http://localhost:1", ca=authority.ca)


# --- mutual TLS


def test_a_client_needs_a_certificate_of_the_right_authority(
    secure: Callable[..., ModelServer], authority: Authority, tmp_path: Path
) -> None:
    server = secure(tls_client_ca=str(authority.ca))
    good, bad = authority.sign("client"), Authority(tmp_path / "other", "other").sign("client")
    url = f"https://{server.addresses.rest}/v1/models/m:predict"
    post = requests.Session().post
    cert = (str(good.cert), str(good.key))
    assert post(url, json=BODY, verify=str(authority.ca), cert=cert, timeout=10).status_code == 200
    for wrong in (None, (str(bad.cert), str(bad.key))):
        with pytest.raises(requests.ConnectionError):
            requests.post(url, json=BODY, verify=str(authority.ca), cert=wrong, timeout=10)
    for address in (f"https://{server.addresses.rest}", f"grpcs://{server.addresses.grpc}"):
        with servable.Client(address, ca=authority.ca, cert=(good.cert, good.key)) as client:
            assert client.predict("m", [[1.0]]) == [[2.0]]
        with servable.Client(address, ca=authority.ca, timeout=5) as client, pytest.raises(Unavailable):
            client.status("m")


def test_an_optional_certificate_may_be_missing_but_not_wrong(
    secure: Callable[..., ModelServer], authority: Authority, tmp_path: Path
) -> None:
    server = secure(tls_client_ca=str(authority.ca), tls_client_verify="optional")
    bad = Authority(tmp_path / "other", "other").sign("client")
    url = f"https://{server.addresses.rest}/readyz"
    assert requests.get(url, verify=str(authority.ca), timeout=10).status_code == 200
    with pytest.raises(requests.ConnectionError):
        requests.get(url, verify=str(authority.ca), cert=(str(bad.cert), str(bad.key)), timeout=10)


# --- files that change


def test_a_renewed_certificate_is_shown_to_new_connections_and_open_ones_stay(
    secure: Callable[..., ModelServer], authority: Authority
) -> None:
    server = secure(poll_interval=0.05)
    before = serial(server, authority.ca)
    with httpx2.Client(verify=ssl.create_default_context(cafile=str(authority.ca)), timeout=10) as open_before:
        assert open_before.get(f"https://{server.addresses.rest}/livez").status_code == 200
        authority.sign("server")
        assert eventually(lambda: serial(server, authority.ca) != before)
        assert open_before.get(f"https://{server.addresses.rest}/livez").status_code == 200


def test_a_broken_certificate_leaves_the_one_before_and_is_mended(
    secure: Callable[..., ModelServer], authority: Authority, mine: Signed, caplog: pytest.LogCaptureFixture
) -> None:
    server = secure(poll_interval=0.05)
    before = serial(server, authority.ca)
    mine.cert.write_text("-----BEGIN CERTIFICATE-----\nnonsense\n")
    assert eventually(lambda: "the ones before stay" in caplog.text)
    assert serial(server, authority.ca) == before
    authority.sign("server")
    assert eventually(lambda: serial(server, authority.ca) != before)


def test_a_server_without_readable_certificates_does_not_start(
    models: Path, start: Callable[..., ModelServer], mine: Signed, tmp_path: Path
) -> None:
    other = Authority(tmp_path / "other", "other").sign("server")
    for key, text in ((other.key, "cannot be used"), (mine.cert, "no private key"), (tmp_path / "none", "Cannot read")):
        with pytest.raises(InvalidArgument, match=text):
            start(ready=False, tls_cert=str(mine.cert), tls_key=str(key)).start()


# --- clients that do it wrong


def test_plain_text_on_a_tls_port_is_answered_in_words(secure: Callable[..., ModelServer]) -> None:
    server = secure()
    reply = requests.post(f"http://{server.addresses.rest}/v1/models/m:predict", json=BODY, timeout=10)
    assert (reply.status_code, "speaks TLS" in reply.json()["error"]) == (400, True)
    with grpc.insecure_channel(server.addresses.grpc) as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=10)
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    assert metric(server, "servable_rejected_total", reason="not_tls") >= 2


def test_a_handshake_that_does_not_come_to_an_end_is_cut_off(
    secure: Callable[..., ModelServer], authority: Authority
) -> None:
    server = secure(send_timeout=0.3, max_connections=2)
    address = host_and_port(server.addresses.rest)
    for start in (b"", b"\x16", b"\x16\x03\x01\x02\x00\x01"):
        with socket.create_connection(address, timeout=10) as stream:
            stream.sendall(start)
            assert stream.recv(100) == b""
    assert eventually(lambda: metric(server, "servable_rejected_total", reason="tls_handshake") == 3)
    assert requests.get(f"https://{server.addresses.rest}/livez", verify=str(authority.ca), timeout=10).ok


def test_nonsense_after_the_first_byte_is_no_more_than_a_closed_connection(
    secure: Callable[..., ModelServer], authority: Authority
) -> None:
    server = secure()
    for port in (server.addresses.rest, server.addresses.grpc):
        with socket.create_connection(host_and_port(port), timeout=10) as stream:
            stream.sendall(b"\x16" + bytes(range(256)) * 64)
            # An alert, or a reset where the server closed on bytes that it had not read.
            with contextlib.suppress(ConnectionResetError):
                while stream.recv(4096):
                    pass
    assert requests.get(f"https://{server.addresses.rest}/livez", verify=str(authority.ca), timeout=10).ok


def test_a_server_with_open_handshakes_stops_in_time(secure: Callable[..., ModelServer]) -> None:
    server = secure()
    with socket.create_connection(host_and_port(server.addresses.rest), timeout=10) as stream:
        stream.sendall(b"\x16")
        assert eventually(lambda: metric(server, "servable_connections") >= 1)
        done = threading.Event()
        threading.Thread(target=lambda: server.stop(5) and done.set()).start()
        assert done.wait(4)
