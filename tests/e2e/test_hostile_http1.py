"""What no decent client sends, over HTTP/1.1: each gets a clear answer or is cut, and the server lives on."""

from __future__ import annotations

import gzip
import io
import threading
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

import numpy as np
import pytest

import tiny_models
from raw_http import connected, post, read_answer, read_to_end
from servers import eventually, metric
from version_folders import publish_onnx, publish_python

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from gates import Gate
    from servable.server import ModelServer

PREDICT = "/v1/models/m:predict"
GOOD = post(PREDICT, b'{"instances": [[1, 2]]}')
STATUS = b"GET /v1/models/m HTTP/1.1\r\nHost: test\r\n\r\n"
BAD_REQUESTS = {
    "another protocol": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 100,
    "a line without a colon": b"GET /v1/models/m HTTP/1.1\r\nnonsense\r\n\r\n",
    "a negative length": b"POST /v1/models/m:predict HTTP/1.1\r\nHost: t\r\nContent-Length: -5\r\n\r\n",
    "two lengths": b"POST /v1/models/m:predict HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    "a name with a control character": b"GET /v1/models/m\x01 HTTP/1.1\r\nHost: t\r\n\r\n",
    "a version that there is not": b"GET / HTTP/9.9\r\n\r\n",
}


@pytest.fixture
def serve(models: Path, start: Callable[..., ModelServer]) -> Iterator[Callable[..., ModelServer]]:
    """Starts a server of the model `m`; at the end of the test it must still answer."""
    publish_onnx(models / "m", 1, tiny_models.double())
    started = []

    def start_one(**settings: object) -> ModelServer:
        started.append(start(**settings))
        return started[-1]

    yield start_one
    for server in started:
        assert exchange(server, GOOD)[0] == 200


def exchange(server: ModelServer, data: bytes) -> tuple[int, bytes]:
    """Sends bytes and reads one answer; the server may refuse to read all of them."""
    with connected(server.addresses.rest) as connection:
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(data)
        return read_answer(connection)


@pytest.mark.parametrize("request_bytes", BAD_REQUESTS.values(), ids=BAD_REQUESTS.keys())
def test_what_is_no_request_is_refused(serve: Callable[..., ModelServer], request_bytes: bytes) -> None:
    assert exchange(serve(), request_bytes)[0] == 400


def test_a_body_that_is_announced_too_large_is_refused_unread(serve: Callable[..., ModelServer]) -> None:
    status, body = exchange(serve(), post(PREDICT, b"{", length=10**12))
    assert status == 413
    assert b"max_body_size" in body


def test_a_body_that_turns_out_too_large_is_refused(serve: Callable[..., ModelServer]) -> None:
    server = serve(max_body_size=10_000)
    chunks = b"1000\r\n" + b"x" * 4096 + b"\r\n"
    head = b"POST /v1/models/m:predict HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert exchange(server, head + 3 * chunks)[0] == 413
    assert exchange(server, post(PREDICT, b"x" * 10_001))[0] == 413
    assert metric(server, "servable_rejected_total", reason="body_too_large") == 2
    assert eventually(lambda: metric(server, "servable_queued_bytes") == 0)


def test_a_body_at_the_limit_is_taken(serve: Callable[..., ModelServer]) -> None:
    body = b'{"instances": [[1, 2]]}'.ljust(10_000)
    assert exchange(serve(max_body_size=10_000), post(PREDICT, body))[0] == 200


@pytest.mark.parametrize(
    "lines", [[f"X: {'a' * (1 << 20)}"], [f"X-{number}: a" for number in range(1000)]], ids=["long", "many"]
)
def test_a_head_that_is_too_large_is_refused(serve: Callable[..., ModelServer], lines: list[str]) -> None:
    head = "\r\n".join(["GET /v1/models/m HTTP/1.1", "Host: test", *lines, "\r\n"])
    assert exchange(serve(), head.encode())[0] == 431


def test_a_gzip_bomb_is_refused_before_it_is_unpacked(serve: Callable[..., ModelServer]) -> None:
    bomb = gzip.compress(bytes(100 << 20))
    assert len(bomb) < 200_000
    status, body = exchange(serve(max_body_size=1 << 20), post(PREDICT, bomb, "Content-Encoding: gzip"))
    assert status == 413
    assert b"max_body_size" in body


def test_a_gzip_body_that_ends_early_reads_as_empty(serve: Callable[..., ModelServer]) -> None:
    packed = gzip.compress(b'{"instances": [[1, 2]]}')[:-9]
    status, body = exchange(serve(), post(PREDICT, packed, "Content-Encoding: gzip"))
    assert (status, b"document is empty" in body) == (400, True)


def test_a_head_that_comes_too_slowly_is_refused(serve: Callable[..., ModelServer]) -> None:
    server = serve(send_timeout=0.2)
    assert exchange(server, b"GET /v1/mod")[0] == 408
    # Also where the connection has served before.
    with connected(server.addresses.rest) as connection:
        connection.sendall(STATUS)
        assert read_answer(connection)[0] == 200
        connection.sendall(b"GET /v1/mod")
        assert read_answer(connection)[0] == 408


def test_a_body_that_comes_too_slowly_is_refused(serve: Callable[..., ModelServer]) -> None:
    status, body = exchange(serve(send_timeout=0.2), post(PREDICT, b"{", length=100))
    assert status == 408
    assert b"send_timeout" in body


def test_a_client_that_does_not_read_its_answer_is_cut_off(serve: Callable[..., ModelServer]) -> None:
    server = serve(send_timeout=0.5)
    rows = io.BytesIO()
    np.save(rows, np.ones((2_000_000, 2), np.float32))
    with connected(server.addresses.rest) as connection:
        connection.sendall(post(PREDICT, rows.getvalue(), "Content-Type: application/x-npy"))
        assert eventually(lambda: metric(server, "servable_rejected_total", reason="send_timeout") == 1)
        with suppress(ConnectionResetError):
            answer = read_to_end(connection)
            assert b"200 OK" in answer[:20]
            assert not answer.endswith(b"}"), "cut, and nothing else written into it"


def test_a_connection_that_says_nothing_is_closed(serve: Callable[..., ModelServer]) -> None:
    with connected(serve(send_timeout=0.2).addresses.rest) as connection:
        assert read_to_end(connection) == b""


def test_a_connection_that_rests_between_requests_stays_open(serve: Callable[..., ModelServer]) -> None:
    server = serve(send_timeout=0.2)
    with connected(server.addresses.rest) as resting:
        resting.sendall(STATUS)
        assert read_answer(resting)[0] == 200
        # Two connections that the server closes for their silence, one after the other, are the clock.
        for _ in range(2):
            with connected(server.addresses.rest) as silent:
                read_to_end(silent)
        resting.sendall(GOOD)
        assert read_answer(resting)[0] == 200


def test_pipelined_requests_are_answered_in_order(serve: Callable[..., ModelServer]) -> None:
    count = 50
    with connected(serve().addresses.rest) as connection:
        connection.sendall(b"".join(post(PREDICT, b'{"instances": [[%d, 0]]}' % n) for n in range(count)))
        received = b""
        while received.count(b"predictions") < count:
            received += connection.recv(1 << 16)
    places = [received.index(b'{"predictions": [[%d.0, 0.0]]}' % (2 * n)) for n in range(count)]
    assert places == sorted(places)


def test_an_answer_does_not_wait_for_the_rest_of_the_next_request(serve: Callable[..., ModelServer]) -> None:
    with connected(serve().addresses.rest) as connection:
        connection.sendall(STATUS + GOOD[:20])
        assert read_answer(connection)[0] == 200
        connection.sendall(GOOD[20:])
        assert read_answer(connection)[0] == 200


def test_cut_bodies_leave_nothing_behind(serve: Callable[..., ModelServer]) -> None:
    server = serve()
    for cut in range(0, len(GOOD), 7):
        with connected(server.addresses.rest) as connection:
            connection.sendall(GOOD[:cut])
    assert eventually(lambda: metric(server, "servable_connections") == 0)
    assert metric(server, "servable_in_flight") == 0
    assert metric(server, "servable_queued_bytes") == 0


def test_connections_over_the_limit_are_closed_at_once(serve: Callable[..., ModelServer]) -> None:
    server = serve(max_connections=10)
    with ExitStack() as stack:
        for _ in range(10):
            connection = stack.enter_context(connected(server.addresses.rest))
            connection.sendall(STATUS)
            assert read_answer(connection)[0] == 200
        for _ in range(10):
            with connected(server.addresses.rest) as refused:
                assert read_to_end(refused) == b""
        connection.sendall(GOOD)
        assert read_answer(connection)[0] == 200
    assert metric(server, "servable_rejected_total", reason="too_many_connections") == 10
    assert eventually(lambda: metric(server, "servable_connections") == 0)


def test_bytes_over_the_limit_are_refused_until_there_is_room(
    serve: Callable[..., ModelServer], models: Path, gate: Gate
) -> None:
    publish_python(models / "slow", 1, gate.source)
    server = serve(max_queued_bytes=30_000)
    large = post("/v1/models/slow:predict", b'{"instances": [[1, 2]]}'.ljust(20_000))
    with connected(server.addresses.rest) as holding:
        holding.sendall(large)
        gate.wait_for_a_call()
        with connected(server.addresses.rest) as refused:
            refused.sendall(large)
            answer = read_whole(refused)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 1\r\n" in answer
        assert b"max_queued_bytes" in answer
        gate.open()
        assert read_answer(holding)[0] == 200
    assert exchange(server, large)[0] == 200


def test_unpacked_bytes_count_as_what_they_are(serve: Callable[..., ModelServer], models: Path, gate: Gate) -> None:
    publish_python(models / "slow", 1, gate.source)
    server = serve(max_queued_bytes=3_000_000)
    packed = gzip.compress(b'{"instances": [[1, 2]]}'.ljust(2_000_000))
    request = post("/v1/models/slow:predict", packed, "Content-Encoding: gzip")
    with connected(server.addresses.rest) as holding:
        holding.sendall(request)
        gate.wait_for_a_call()
        assert exchange(server, request)[0] == 503
        gate.open()
        assert read_answer(holding)[0] == 200


def read_whole(connection: object) -> bytes:
    """Head and body of one answer, raw."""
    received = b""
    while b"}" not in received:
        received += connection.recv(1 << 16)  # type: ignore[attr-defined]
    return received


def test_the_request_of_a_client_that_has_gone_is_never_run(
    serve: Callable[..., ModelServer], models: Path, gate: Gate
) -> None:
    publish_python(models / "slow", 1, gate.source)
    server = serve()

    def ask(number: int) -> bytes:
        return post("/v1/models/slow:predict", b'{"instances": [[%d, 0]]}' % number)

    with connected(server.addresses.rest) as first, connected(server.addresses.rest) as last:
        first.sendall(ask(1))
        gate.wait_for_a_call()
        with connected(server.addresses.rest) as gone:
            gone.sendall(ask(2))
            assert eventually(lambda: metric(server, "servable_queue_depth", model="slow") == 1)
        assert eventually(lambda: metric(server, "servable_connections") == 2)
        last.sendall(ask(3))
        assert eventually(lambda: metric(server, "servable_in_flight") == 2)
        gate.open()
        assert [read_answer(each)[0] for each in (first, last)] == [200, 200]
    assert gate.calls == [[[1, 0]], [[3, 0]]]
    assert metric(server, "servable_queue_depth") == 0


def test_many_clients_that_come_and_go_leave_nothing_behind(serve: Callable[..., ModelServer]) -> None:
    server = serve()

    def come_and_go() -> None:
        for length in range(1, len(GOOD), 5):
            with connected(server.addresses.rest) as connection:
                connection.sendall(GOOD + GOOD[:length])

    threads = [threading.Thread(target=come_and_go) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert eventually(lambda: metric(server, "servable_connections") == 0)
    assert metric(server, "servable_in_flight") == 0
    assert metric(server, "servable_queued_bytes") == 0
