"""The clients against a server that misbehaves: what is sent again, what is not, and that nothing hangs."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from faulty_server import STATUS, FaultyServer, answer, faulty_server, half, hang_up
from servable.client import AsyncClient, Client, Retry
from servable.client.http_transport import AsyncHttp, Http
from servable.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    ServableError,
    Unavailable,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

X = np.array([1, 2], np.float32)
FAST = Retry(pause=0.001)
GOOD = answer(STATUS)
BUSY = answer({"error": "busy"}, 503)
PREDICTED = answer({"outputs": [{"name": "y", "datatype": "FP32", "shape": [2], "data": [3, 4]}]})


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    with faulty_server() as server:
        yield server


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest, server: FaultyServer) -> Any:
    """Calls one method of one of the clients: `ask("status", "m", retry=None)`."""

    def call(method: str, *arguments: Any, retry: Retry | None = FAST, **options: Any) -> Any:
        made = {name: options.pop(name) for name in ("timeout", "hedge_after") if name in options}
        if request.param == "sync":
            with Client(server.url, dialect="servable", retry=retry, **made) as client:
                return getattr(client, method)(*arguments, **options)

        async def run() -> Any:
            async with AsyncClient(server.url, dialect="servable", retry=retry, **made) as client:
                return await getattr(client, method)(*arguments, **options)

        return asyncio.run(run())

    return call


class TestRetries:
    @pytest.mark.parametrize("fault", [hang_up, half, BUSY, answer({}, 429), answer({}, 502)])
    def test_a_question_is_asked_again(self, server: FaultyServer, ask: Any, fault: Any) -> None:
        server.play(fault, fault, GOOD)
        assert ask("status", "m")[0].state == "AVAILABLE"
        assert len(server.seen) == 3

    def test_a_prediction_is_asked_again(self, server: FaultyServer, ask: Any) -> None:
        server.play(hang_up, BUSY, PREDICTED)
        assert ask("predict", "m", X).tolist() == [3, 4]

    @pytest.mark.parametrize(("fault", "expected"), [(hang_up, Unavailable), (half, Unavailable), (BUSY, Unavailable)])
    def test_the_last_failure_is_told(self, server: FaultyServer, ask: Any, fault: Any, expected: Any) -> None:
        server.play(fault)
        with pytest.raises(expected):
            ask("status", "m")
        assert len(server.seen) == 3

    def test_nothing_is_sent_again_without_a_policy(self, server: FaultyServer, ask: Any) -> None:
        server.play(BUSY)
        with pytest.raises(Unavailable, match="busy"):
            ask("status", "m", retry=None)
        assert len(server.seen) == 1

    @pytest.mark.parametrize("status", [400, 404, 413, 500, 501, 504, 507])
    def test_what_is_final_is_not_sent_again(self, server: FaultyServer, ask: Any, status: int) -> None:
        server.play(answer({"error": "no"}, status))
        with pytest.raises(ServableError, match="no"):
            ask("status", "m")
        assert len(server.seen) == 1

    @pytest.mark.parametrize("fault", [hang_up, half, answer({}, 502)])
    def test_a_change_that_may_have_happened_is_not_sent_again(
        self, server: FaultyServer, ask: Any, fault: Any
    ) -> None:
        server.play(fault, answer({}))
        with pytest.raises(Unavailable):
            ask("unload", "m")
        assert len(server.seen) == 1

    def test_a_change_that_was_refused_is_sent_again(self, server: FaultyServer, ask: Any) -> None:
        server.play(BUSY, answer({}))
        ask("unload", "m")
        assert len(server.seen) == 2

    def test_an_upload_is_sent_once(self, server: FaultyServer, ask: Any, tmp_path: Any) -> None:
        (tmp_path / "model.onnx").write_bytes(b"model")
        server.play(BUSY)
        with pytest.raises(Unavailable):
            ask("upload", tmp_path / "model.onnx", "m")
        assert len(server.seen) == 1

    def test_the_policy_can_be_to_send_nothing_twice_that_may_have_run(self, server: FaultyServer, ask: Any) -> None:
        server.play(BUSY, hang_up)
        with pytest.raises(Unavailable, match="broke"):
            ask("status", "m", retry=Retry(pause=0.001, unsure=False))
        assert len(server.seen) == 2

    def test_the_client_comes_back_when_the_server_said(self, server: FaultyServer, ask: Any) -> None:
        server.play(answer({}, 429, Retry_After="1"), GOOD)
        began = time.monotonic()
        ask("status", "m")
        assert 1.0 <= time.monotonic() - began < 5.0

    def test_nobody_waits_for_a_moment_after_the_deadline(self, server: FaultyServer, ask: Any) -> None:
        server.play(answer({"error": "busy"}, 503, Retry_After="60"))
        began = time.monotonic()
        with pytest.raises(Unavailable, match="busy") as caught:
            ask("status", "m", timeout=20.0)
        assert caught.value.retry_after == 60.0
        assert time.monotonic() - began < 10.0

    def test_a_limit_tells_when_to_come_back(self, server: FaultyServer, ask: Any) -> None:
        server.play(answer({"error": "slow down"}, 429, Retry_After="7"))
        with pytest.raises(ResourceExhausted, match="slow down") as caught:
            ask("status", "m", retry=None)
        assert caught.value.retry_after == 7.0

    def test_the_timeout_is_for_all_attempts_together(self, server: FaultyServer, ask: Any) -> None:
        server.play(BUSY, BUSY, server.hold)
        began = time.monotonic()
        with pytest.raises(DeadlineExceeded, match=r"No answer within 0\.3 s"):
            ask("status", "m", timeout=0.3)
        assert time.monotonic() - began < 3.0

    def test_a_server_that_is_not_there_stays_unavailable(self) -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{unused.getsockname()[1]}"
            with Client(url, retry=Retry(5, pause=0.001)) as client, pytest.raises(Unavailable, match="Cannot reach"):
                client.unload("m")

    @pytest.mark.parametrize(
        "values", [{"attempts": 0}, {"attempts": 101}, {"pause": -1}, {"pause": float("nan")}, {"pause": 3.0}]
    )
    def test_a_policy_out_of_range_is_refused(self, values: dict[str, Any]) -> None:
        with pytest.raises(InvalidArgument):
            Retry(**values)


class TestHedging:
    def test_the_first_answer_wins_and_the_slow_request_is_cancelled(self, server: FaultyServer, ask: Any) -> None:
        server.play(server.hold, PREDICTED)
        assert ask("predict", "m", X, hedge_after=0.05, timeout=20.0).tolist() == [3, 4]
        assert server.left.wait(10)
        assert len(server.seen) == 2

    def test_a_fast_answer_is_asked_for_once(self, server: FaultyServer, ask: Any) -> None:
        server.play(PREDICTED)
        assert ask("predict", "m", X, hedge_after=10.0).tolist() == [3, 4]
        assert len(server.seen) == 1

    def test_a_refusal_does_not_win(self, server: FaultyServer, ask: Any) -> None:
        def late(connection: socket.socket) -> None:
            assert refused.wait(10)
            connection.sendall(PREDICTED)

        def refuse(connection: socket.socket) -> None:
            connection.sendall(BUSY)
            refused.set()

        refused = threading.Event()
        server.play(late, refuse)
        assert ask("predict", "m", X, hedge_after=0.05, retry=None).tolist() == [3, 4]

    def test_two_failures_are_one(self, server: FaultyServer, ask: Any) -> None:
        def late(connection: socket.socket) -> None:
            assert second.wait(10)

        def fail(connection: socket.socket) -> None:
            second.set()

        second = threading.Event()
        server.play(late, fail)
        with pytest.raises(Unavailable, match="broke"):
            ask("predict", "m", X, hedge_after=0.05, retry=None)

    def test_a_change_is_never_hedged(self, server: FaultyServer, ask: Any) -> None:
        server.play(server.hold)
        with pytest.raises(DeadlineExceeded):
            ask("unload", "m", hedge_after=0.01, timeout=0.2)
        assert len(server.seen) == 1

    def test_both_are_given_up_at_the_deadline(self, server: FaultyServer, ask: Any) -> None:
        server.play(server.hold)
        with pytest.raises(DeadlineExceeded):
            ask("predict", "m", X, hedge_after=0.01, timeout=0.3, retry=None)
        assert len(server.seen) == 2

    def test_a_closed_client_says_so(self, server: FaultyServer) -> None:
        client = Client(server.url, hedge_after=0.1)
        client.close()
        client.close()
        with pytest.raises(FailedPrecondition, match="closed"):
            client.status("m")

    def test_the_delay_is_above_zero(self) -> None:
        with pytest.raises(InvalidArgument, match="above 0"):
            Client("http://localhost", hedge_after=0)


class TestAnswers:
    @pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000, b'{"outputs": 1}', b'{"outputs": [{}]}'])
    def test_wrong_json_is_an_internal_error(self, server: FaultyServer, ask: Any, body: bytes) -> None:
        server.play(answer(body))
        with pytest.raises(Internal):
            ask("predict", "m", X)

    def test_bytes_that_are_no_http_are_a_broken_connection(self, server: FaultyServer, ask: Any) -> None:
        server.play(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
        with pytest.raises(Unavailable, match="broke"):
            ask("status", "m", retry=None)

    def test_a_redirect_is_not_followed(self, server: FaultyServer, ask: Any) -> None:
        server.play(answer(b"", 307, Location="http://elsewhere/"))
        with pytest.raises(ServableError) as caught:
            ask("status", "m")
        assert "http://elsewhere/" in str(caught.value.hint)
        assert len(server.seen) == 1

    def test_a_huge_answer_ends_at_the_limit(self, server: FaultyServer) -> None:
        from servable.client.exchange import Request
        from servable.client.steps import Send
        from servable.client.types import Deadline

        server.play(answer(bytes(100_000)))
        send = Send(Request("GET", "/"), Deadline(20))
        http = Http(server.url, largest_answer=50_000)
        with pytest.raises(ResourceExhausted, match="larger than 50000 bytes"):
            http.send(send)
        http.close()

        async def run() -> None:
            transport = AsyncHttp(server.url, largest_answer=50_000)
            try:
                await transport.send(send)
            finally:
                await transport.close()

        with pytest.raises(ResourceExhausted, match="larger than 50000 bytes"):
            asyncio.run(run())

    def test_headers_that_drip_end_at_the_deadline(self, server: FaultyServer, ask: Any) -> None:
        def drip(connection: socket.socket) -> None:
            connection.sendall(b"HTTP/1.1 200 OK\r\n")
            while not server.left.wait(0.05):
                connection.sendall(b"a: b\r\n")

        server.play(drip)
        began = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            ask("status", "m", timeout=0.3)
        server.left.set()
        assert time.monotonic() - began < 3.0


class TestCancelling:
    def test_a_cancelled_task_cancels_its_request(self, server: FaultyServer) -> None:
        server.play(server.hold)

        async def run() -> None:
            async with AsyncClient(server.url, dialect="servable") as client:
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.1):
                        await client.predict("m", X)
                assert await asyncio.to_thread(server.left.wait, 10)

        asyncio.run(run())

    def test_a_client_that_is_closed_ends_what_waits(self, server: FaultyServer) -> None:
        server.play(server.hold)
        failures: list[Exception] = []
        client = Client(server.url, dialect="servable", hedge_after=0.01)

        def wait() -> None:
            try:
                client.predict("m", X)
            except ServableError as error:
                failures.append(error)

        thread = threading.Thread(target=wait)
        thread.start()
        while len(server.seen) < 2:
            thread.join(0.01)
        client.close()
        thread.join(10)
        assert [type(error) for error in failures] == [FailedPrecondition]


def test_an_error_of_the_server_passes_through_a_hedged_client(server: FaultyServer) -> None:
    server.play(answer({"error": "no such model"}, 404))
    with Client(server.url, hedge_after=0.1) as client, pytest.raises(NotFound, match="no such model"):
        client.status("m")
