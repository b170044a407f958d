"""Classify and regress of servable.Client against the real server, over REST and gRPC."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from example_models import MODELS
from servable.client import Client
from servable.errors import InvalidArgument, NotFound
from servable.wire.examples import encode_example
from servers import model_server
from version_folders import publish_python

if TYPE_CHECKING:
    from collections.abc import Iterator

    from servable.server import ModelServer

ROW = {"count": 3, "name": "ä", "raw": b"\xff", "sizes": [0.5, 1.5], "flags": [True, False], "none": []}


@pytest.fixture(scope="module")
def examples_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelServer]:
    folder = tmp_path_factory.mktemp("models")
    for name in ("both", "echo", "values"):
        publish_python(folder / name, 1, MODELS[name])
    with model_server(folder) as server:
        server.wait_until_ready(30)
        yield server


@pytest.fixture(params=["rest", "grpc"])
def client(request: pytest.FixtureRequest, examples_server: ModelServer) -> Iterator[Client]:
    addresses = examples_server.addresses
    url = f"grpc://{addresses.grpc}" if request.param == "grpc" else f"http://{addresses.rest}"
    with Client(url) as client:
        yield client


def test_every_kind_of_feature_arrives(client: Client) -> None:
    [[(label, score)]] = client.classify("echo", [ROW])
    assert (bytes.fromhex(label), score) == (encode_example(ROW), 0)


def test_a_context_comes_before_each_row(client: Client) -> None:
    rows = client.classify("echo", [{"a": 1}, {}], context={"b": np.float32(0.5)})
    context = encode_example({"b": 0.5})
    assert [bytes.fromhex(row[0][0]) for row in rows] == [context + encode_example({"a": 1}), context]


def test_classes_have_labels_and_scores(client: Client) -> None:
    size = len(encode_example({"a": 1}))
    assert client.classify("both", [{"a": 1}], version=1) == [[("short", -size), ("long", size)]]


def test_regress_gives_an_array(client: Client) -> None:
    found = client.regress("values", [{"a": 1}, {}])
    np.testing.assert_array_equal(found, np.array([len(encode_example({"a": 1})), 0], np.float32), strict=True)


def test_serialized_examples_go_over_grpc_alone(client: Client) -> None:
    if client.url.startswith("grpc"):
        assert client.regress("values", [b"abc"]).tolist() == [3]
        return
    with pytest.raises(InvalidArgument, match="REST takes examples as dicts"):
        client.regress("values", [b"abc"])


def test_refusals_are_typed(client: Client) -> None:
    with pytest.raises(NotFound, match=r"Latest\(none\)"):
        client.classify("none", [{}])
    with pytest.raises(InvalidArgument, match="No signature was found with the name: s"):
        client.regress("values", [{}], signature="s")
    with pytest.raises(InvalidArgument, match="list of dicts"):
        client.classify("both", {"a": 1})  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument):
        client.classify("both", [])
    with pytest.raises(InvalidArgument, match="f"):
        client.classify("both", [{"f": [1, 0.5]}])
