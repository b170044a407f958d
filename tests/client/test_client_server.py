"""servable.Client against the real data plane, by every way there is to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from servable.client import Client
from servable.client.oip import Oip
from servable.client.types import Target
from servable.client.values import json_numbers
from servable.errors import InvalidArgument, NotFound
from servable.wire.tensors import Tensor, as_tensor

if TYPE_CHECKING:
    from collections.abc import Iterator

X = np.array([[1, 2], [3, np.inf]], np.float32)
WAYS = ["auto", "servable", "oip", "tfs", "json", "grpc", "hedged"]


def connect(way: str, server: Any) -> Client:
    if way == "grpc":
        return Client(server.grpc)
    if way == "json":
        return Client(server.rest, binary=False)
    if way == "hedged":
        return Client(server.rest, hedge_after=5.0)
    return Client(server.rest, dialect=way)


@pytest.fixture(params=WAYS)
def client(request: pytest.FixtureRequest, real_server: Any) -> Iterator[Client]:
    with connect(request.param, real_server) as client:
        yield client


@pytest.fixture(params=[way for way in WAYS if way != "oip"])
def full_client(request: pytest.FixtureRequest, real_server: Any) -> Iterator[Client]:
    """The ways that know of labels and signatures."""
    with connect(request.param, real_server) as client:
        yield client


def test_the_newest_version_answers(client: Client) -> None:
    np.testing.assert_array_equal(client.predict("m", X), 3 * X, strict=True)


def test_a_version_answers_by_number(client: Client) -> None:
    np.testing.assert_array_equal(client.predict("m", X, version=1), 2 * X, strict=True)


def test_a_version_answers_by_label(full_client: Client) -> None:
    np.testing.assert_array_equal(full_client.predict("m", X, label="stable"), 2 * X, strict=True)


def test_strings_go_in_and_out(full_client: Client) -> None:
    answer = full_client.predict("m", {"word": ["ab", "ü"], "times": [2, 3]}, signature="words")
    assert answer["text"].tolist() == [b"abab", "üüü".encode()]
    assert answer["size"].tolist() == [4, 6]
    assert answer["size"].dtype == np.int32


@pytest.mark.parametrize("way", ["servable", "grpc", "tfs", "json"])
def test_strings_may_be_any_bytes(real_server: Any, way: str) -> None:
    with connect(way, real_server) as client:
        answer = client.predict("m", {"word": [b"\xff"], "times": [3]}, signature="words")
    assert answer["text"].tolist() == [b"\xff\xff\xff"]


@pytest.mark.parametrize(
    ("tensor", "what"),
    [
        (as_tensor(np.array([b"\xff"], object)), "bytes that are no text"),
        (as_tensor(np.array([1, np.nan], np.float32)), "NaN or infinity"),
    ],
)
def test_what_the_protocols_json_cannot_carry_is_refused(tensor: Tensor, what: str) -> None:
    with pytest.raises(InvalidArgument, match=f"Input 'x' has {what}") as caught:
        Oip(binary=False).predict(Target("m"), "serving_default", {"x": tensor}, ())
    assert "binary=True" in str(caught.value.hint)


def test_numbers_travel_as_json_of_the_protocol(real_server: Any) -> None:
    finite = np.array([[1, 2], [3, 1e-38]], np.float32)
    with Client(real_server.rest, dialect="oip", binary=False) as client:
        np.testing.assert_array_equal(client.predict("m", finite), 3 * finite, strict=True)


def test_outputs_can_be_chosen(full_client: Client) -> None:
    size = full_client.predict("m", {"word": ["ab"], "times": [2]}, signature="words", outputs=["size"])
    assert isinstance(size, np.ndarray)
    assert size.tolist() == [4]


@pytest.mark.parametrize("way", ["servable", "oip", "grpc"])
def test_an_empty_batch_keeps_its_shape_where_it_travels_in_binary(real_server: Any, way: str) -> None:
    with connect(way, real_server) as client:
        assert client.predict("m", np.zeros((0, 2), np.float32)).shape == (0, 2)


def test_a_large_batch_arrives_whole(client: Client) -> None:
    large = np.random.default_rng(0).random((5000, 2), np.float32)
    np.testing.assert_array_equal(client.predict("m", large), 3 * large, strict=True)


def test_metadata_tells_names_and_shapes(full_client: Client) -> None:
    found = full_client.metadata("m")
    assert found.version == 2
    assert str(found.signatures["serving_default"]) == "serving_default(x: FP32 [-1, 2]) -> y: FP32 [-1, 2]"
    assert {spec.name for spec in found.signatures["words"].inputs} == {"word", "times"}


def test_status_tells_every_version_newest_first(client: Client) -> None:
    found = client.status("m")
    assert [(each.version, each.state, each.code) for each in found] == [
        (3, "END", "RESOURCE_EXHAUSTED"),
        (2, "AVAILABLE", "OK"),
        (1, "AVAILABLE", "OK"),
    ]
    assert found[0].message == "no memory"


def test_server_and_model_are_ready(client: Client) -> None:
    client.wait_until_ready(timeout=5)
    client.wait_until_ready("m", timeout=5)
    assert not client.ready("unknown")


def test_an_unknown_model_is_not_found(client: Client) -> None:
    with pytest.raises(NotFound):
        client.predict("unknown", X)
    with pytest.raises(NotFound):
        client.status("unknown")


def test_an_unknown_version_is_not_found(client: Client) -> None:
    with pytest.raises(NotFound):
        client.predict("m", X, version=9)


def test_an_unknown_input_is_refused_by_the_server(client: Client) -> None:
    with pytest.raises(InvalidArgument, match=r"\b[xz]\b"):
        client.predict("m", {"z": X})


def test_a_prefix_in_the_address_is_kept(real_server: Any) -> None:
    with Client(real_server.rest + "/nowhere", dialect="tfs") as client, pytest.raises(NotFound):
        client.status("m")


@pytest.mark.parametrize("way", ["tfs", "json"])
def test_every_float32_keeps_its_value_in_json(real_server: Any, way: str) -> None:
    bits = np.random.default_rng(0).integers(0, 1 << 32, 20_000, np.uint32).view(np.float32)
    x = bits[np.abs(bits) < 1e38].copy()[:10_000].reshape(-1, 2)
    with connect(way, real_server) as client:
        np.testing.assert_array_equal(client.predict("m", x), 3 * x)


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (np.float32(0.5), "0.5"),
        (np.array([[0, 1], [1e-9, 1e30]], np.float32), "[[0,1],[9.99999972e-10,1.00000002e+30]]"),
        (np.array([0.1], np.float64), "[0.1]"),
        (np.array([[]], np.float32), "[[]]"),
        (np.array([np.nan, -np.inf], np.float32), "[NaN, -Infinity]"),
        (np.array([True, False]), "[true, false]"),
        (np.array([[2**63 - 1]]), "[[9223372036854775807]]"),
    ],
)
def test_numbers_are_written_as_json(array: Any, text: str) -> None:
    assert json_numbers(np.asarray(array)) == text
