"""What failures become in a client over HTTP: errors of servers, and servers that are not there or do not answer."""

from __future__ import annotations

import socket
import threading
from typing import Any

import pytest

from recorded_pages import X
from servable.client import Client
from servable.errors import (
    AlreadyExists,
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    ServableError,
    StorageFull,
    TooLarge,
    Unauthenticated,
    Unavailable,
    Unimplemented,
)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, InvalidArgument),
        (401, Unauthenticated),
        (403, PermissionDenied),
        (404, NotFound),
        (409, AlreadyExists),
        (413, TooLarge),
        (429, ResourceExhausted),
        (500, Internal),
        (501, Unimplemented),
        (503, Unavailable),
        (504, DeadlineExceeded),
        (507, StorageFull),
        (302, ServableError),
    ],
)
def test_a_status_becomes_a_typed_error_with_the_text_of_the_server(
    ours: Any, status: int, expected: type[ServableError]
) -> None:
    ours.tell("/v2/models/m/infer", ours.json({"error": "the reason"}, status))
    with Client(ours.url, retry=None) as client, pytest.raises(ServableError, match="the reason") as caught:
        client.predict("m", X)
    assert type(caught.value) is expected


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"error": null}', b"[" * 100_000, b"\xff"])
def test_a_body_without_a_text_leaves_the_status(ours: Any, body: bytes) -> None:
    ours.tell("/v2/models/m/infer", ours.raw(500, body))
    with Client(ours.url, retry=None) as client, pytest.raises(Internal, match="HTTP status 500"):
        client.predict("m", X)


@pytest.mark.parametrize(("header", "seconds"), [("3", 3.0), ("soon", None), ("9" * 400, None)])
def test_unavailable_says_when_to_come_back(ours: Any, header: str, seconds: float | None) -> None:
    ours.tell("/v2/models/m/infer", ours.json({"error": "busy"}, 503, **{"Retry-After": header}))
    with Client(ours.url, retry=None) as client, pytest.raises(Unavailable) as caught:
        client.predict("m", X)
    assert caught.value.retry_after == seconds


def test_a_server_that_is_not_there_is_unavailable() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with (
            Client(url, retry=None) as client,
            pytest.raises(Unavailable, match=r"Cannot reach http://127\.0\.0\.1"),
        ):
            client.predict("m", X)


def test_a_server_that_hangs_up_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def hang_up() -> None:
            connection, _ = listener.accept()
            connection.recv(1)
            connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with Client(url, retry=None) as client, pytest.raises(Unavailable, match="broke"):
            client.status("m")
        thread.join()


def test_a_server_that_drips_is_given_up_at_the_deadline() -> None:
    enough = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip() -> None:
            connection, _ = listener.accept()
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
            while not enough.wait(0.01):
                connection.sendall(b" ")
            connection.close()

        thread = threading.Thread(target=drip)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with Client(url, retry=None) as client, pytest.raises(DeadlineExceeded, match=r"No answer within 0\.2 s"):
            client.status("m", timeout=0.2)
        enough.set()
        thread.join()


def test_a_server_that_is_silent_is_given_up_at_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with Client(url, timeout=0.1) as client, pytest.raises(DeadlineExceeded):
            client.status("m")


def test_a_closed_client_says_so(ours: Any) -> None:
    client = Client(ours.url)
    client.close()
    with pytest.raises(FailedPrecondition, match="closed"):
        client.status("m")
