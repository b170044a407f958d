"""servable.AsyncClient against the real data plane, by every way there is to it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest

from servable.client import AsyncClient, Client, Retry
from servable.errors import DeadlineExceeded, FailedPrecondition, InvalidArgument, NotFound, Unavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

X = np.array([[1, 2], [3, np.inf]], np.float32)
WAYS = ["auto", "servable", "oip", "tfs", "grpc", "hedged", "hedged grpc"]
HEALTH, WATCH = "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"
STATUS = "/tensorflow.serving.ModelService/GetModelStatus"


@pytest.fixture(params=WAYS)
def asked(request: pytest.FixtureRequest, real_server: Any) -> Any:
    """Runs a coroutine function with a client: `asked(lambda client: client.predict("m", X))`."""
    way = request.param

    def run(call: Callable[[AsyncClient], Awaitable[Any]]) -> Any:
        async def inside() -> Any:
            options: dict[str, Any] = {"hedge_after": 5.0} if "hedged" in way else {}
            url = real_server.grpc if "grpc" in way else real_server.rest
            if way in ("servable", "oip", "tfs"):
                options["dialect"] = way
            async with AsyncClient(url, **options) as client:
                return await call(client)

        return asyncio.run(inside())

    return run


def test_the_newest_version_answers(asked: Any) -> None:
    np.testing.assert_array_equal(asked(lambda client: client.predict("m", X)), 3 * X, strict=True)


def test_a_version_answers_by_number(asked: Any) -> None:
    np.testing.assert_array_equal(asked(lambda client: client.predict("m", X, version=1)), 2 * X, strict=True)


def test_many_tasks_share_a_client(asked: Any) -> None:
    async def many(client: AsyncClient) -> list[Any]:
        return await asyncio.gather(*(client.predict("m", X + number) for number in range(30)))

    for number, answer in enumerate(asked(many)):
        np.testing.assert_array_equal(answer, 3 * (X + number))


def test_status_tells_every_version(asked: Any) -> None:
    assert [each.version for each in asked(lambda client: client.status("m"))] == [3, 2, 1]


def test_metadata_tells_the_inputs(asked: Any) -> None:
    found = asked(lambda client: client.metadata("m"))
    assert found.signatures["serving_default"].inputs[0].name == "x"


def test_server_and_model_are_ready(asked: Any) -> None:
    async def wait(client: AsyncClient) -> bool:
        await client.wait_until_ready(timeout=5)
        await client.wait_until_ready("m", timeout=5)
        return await client.ready("unknown")

    assert asked(wait) is False


def test_an_unknown_model_is_not_found(asked: Any) -> None:
    with pytest.raises(NotFound):
        asked(lambda client: client.predict("unknown", X))


def test_an_input_that_does_not_fit_is_refused(asked: Any) -> None:
    with pytest.raises(InvalidArgument):
        asked(lambda client: client.predict("m", {"z": X}))


def test_a_closed_client_says_so(real_server: Any) -> None:
    async def closed(url: str) -> None:
        client = AsyncClient(url)
        await client.close()
        await client.status("m")

    for url in (real_server.rest, real_server.grpc):
        with pytest.raises(FailedPrecondition, match="closed"):
            asyncio.run(closed(url))


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "grpc://127.0.0.1:1"])
def test_a_server_that_is_not_there_is_unavailable(url: str) -> None:
    async def ask() -> None:
        async with AsyncClient(url, retry=Retry(pause=0.001)) as client:
            await client.status("m")

    with pytest.raises(Unavailable):
        asyncio.run(ask())


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "grpc://127.0.0.1:1"])
def test_waiting_in_vain_ends_with_the_last_reason(url: str) -> None:
    async def wait() -> None:
        async with AsyncClient(url) as client:
            await client.wait_until_ready("m", timeout=0.1)

    with pytest.raises(DeadlineExceeded, match=r"m at .* was not ready within 0\.1 s: .+"):
        asyncio.run(wait())


def test_a_client_shows_its_address() -> None:
    assert repr(AsyncClient("http://localhost:1")) == "AsyncClient('http://localhost:1')"


def test_both_clients_have_the_same_methods_with_the_same_arguments() -> None:
    import inspect

    names = {name for name in vars(Client) if not name.startswith("_")}
    assert names == {name for name in vars(AsyncClient) if not name.startswith("_")}
    for name in sorted(names - {"timeout"}):
        assert inspect.signature(getattr(Client, name)) == inspect.signature(getattr(AsyncClient, name)), name
    assert inspect.signature(Client) == inspect.signature(AsyncClient)


class TestOverGrpc:
    def test_a_refusal_is_tried_again(self, rpc_server: Any) -> None:
        refusals = iter([(grpc.StatusCode.UNAVAILABLE, "1"), (grpc.StatusCode.RESOURCE_EXHAUSTED, "1")])
        good = bytes.fromhex("0a04 0801 101e")  # model_version_status {version: 1 state: AVAILABLE}

        def status(_: bytes, context: grpc.ServicerContext) -> bytes:
            code, pause = next(refusals, (None, ""))
            if code is not None:
                context.set_trailing_metadata((("grpc-retry-pushback-ms", pause),))
                context.abort(code, "busy")
            return good

        rpc_server.methods[STATUS] = status
        with Client(rpc_server.url, retry=Retry(pause=0.001)) as client:
            assert client.status("m")[0].state == "AVAILABLE"

    @pytest.mark.parametrize(
        ("code", "pushback"),
        [(grpc.StatusCode.RESOURCE_EXHAUSTED, None), (grpc.StatusCode.UNAVAILABLE, "-1")],
        ids=["too large, for all we know", "asked not to come back"],
    )
    def test_what_stays_so_is_not_tried_again(self, rpc_server: Any, code: Any, pushback: str | None) -> None:
        calls = []

        def status(_: bytes, context: grpc.ServicerContext) -> bytes:
            calls.append(1)
            if pushback:
                context.set_trailing_metadata((("grpc-retry-pushback-ms", pushback),))
            context.abort(code, "no")
            raise AssertionError

        rpc_server.methods[STATUS] = status
        with Client(rpc_server.url) as client, pytest.raises(Exception, match="no"):
            client.status("m")
        assert len(calls) == 1

    @pytest.mark.parametrize("kind", ["sync", "async"])
    def test_a_watch_ends_when_the_server_tells_of_the_change(self, real_rpc: Any, kind: str) -> None:
        """The server tells of it while the client waits, which asks only before and after."""
        checks, told = real_rpc
        if kind == "sync":
            with Client(told.url) as client:
                client.wait_until_ready(timeout=20)
        else:

            async def wait() -> None:
                async with AsyncClient(told.url) as client:
                    await client.wait_until_ready(timeout=20)

            asyncio.run(wait())
        assert checks == ["not serving", "watched", "serving"]


@pytest.fixture
def real_rpc() -> Any:
    """A server that is not serving until it is watched, and the questions it got."""
    from concurrent import futures
    from types import SimpleNamespace

    questions: list[str] = []

    def check(_: bytes, __: grpc.ServicerContext) -> bytes:
        questions.append("serving" if "watched" in questions else "not serving")
        return b"\x08\x01" if "watched" in questions else b"\x08\x02"

    def watch(_: bytes, __: grpc.ServicerContext) -> Any:
        yield b"\x08\x02"
        questions.append("watched")
        yield b"\x08\x01"

    class Handler(grpc.GenericRpcHandler):  # type: ignore[misc]
        def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
            if details.method == HEALTH:
                return grpc.unary_unary_rpc_method_handler(check)
            return grpc.unary_stream_rpc_method_handler(watch) if details.method == WATCH else None

    server = grpc.server(futures.ThreadPoolExecutor(2), handlers=[Handler()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield questions, SimpleNamespace(url=f"grpc://127.0.0.1:{port}")
    server.stop(None).wait()
