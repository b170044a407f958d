"""The clients against recorded answers of real servers: `exchanges/*.json`, each with its source.

A file has the `call` of the client, the `exchanges` that it has to lead to (a request of the client, and what the
server answered), and the `result` (arrays as lists, other values by their repr) or the `error`.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from servable import errors
from servable.client import AsyncClient, Client

FILES = sorted((Path(__file__).parent / "exchanges").glob("*.json"))


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def record(request: pytest.FixtureRequest, recorded: Any) -> Any:
    record = json.loads(request.param.read_text())
    for exchange in record["exchanges"]:
        reply = exchange["reply"]
        path = exchange["request"]["line"].split(" ")[1]
        recorded.tell(path, recorded.raw(reply["status"], reply["body"].encode(), reply["headers"]))
    return record


def check(record: Any, recorded: Any, found: Any) -> None:
    sent = [
        {"line": f"{seen.method} {seen.path}", "body": json.loads(seen.body) if seen.body else None}
        for seen in recorded.seen
    ]
    assert sent == [exchange["request"] for exchange in record["exchanges"]]
    if "error" in record:
        assert type(found) is getattr(errors, record["error"]["class"])
        assert str(found) == record["error"]["message"]
    elif isinstance(found, np.ndarray):
        np.testing.assert_array_equal(found, np.array(record["result"], np.float64).astype(found.dtype), strict=True)
    else:
        assert record["result"] == (found if isinstance(found, bool) else repr(found))


def test_the_client_sends_and_reads_what_was_recorded(record: Any, recorded: Any) -> None:
    call = record["call"]
    with Client(recorded.url, dialect=record["dialect"], binary=record.get("binary")) as client:
        try:
            found = getattr(client, call["method"])(*call["arguments"], **call.get("options", {}))
        except errors.ServableError as error:
            found = error
    check(record, recorded, found)


def test_the_async_client_does_the_same(record: Any, recorded: Any) -> None:
    call = record["call"]

    async def ask() -> Any:
        async with AsyncClient(recorded.url, dialect=record["dialect"], binary=record.get("binary")) as client:
            try:
                return await getattr(client, call["method"])(*call["arguments"], **call.get("options", {}))
            except errors.ServableError as error:
                return error

    check(record, recorded, asyncio.run(ask()))


def test_every_record_names_its_source() -> None:
    assert len(FILES) >= 12
    for path in FILES:
        assert json.loads(path.read_text())["source"], path
