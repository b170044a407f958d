"""servable.Client over HTTP, against exchanges of our own server and of servers of the two protocols."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest
import tritonclient.http

from recorded_pages import X, Y, oip_metadata, tf_metadata
from servable.client import Client, VersionStatus
from servable.errors import (
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    NotFound,
)


def infer_request(seen: Any) -> tuple[dict[str, Any], bytes]:
    length = int(seen.headers["inference-header-content-length"])
    return json.loads(seen.body[:length]), seen.body[length:]


class TestOurServer:
    def test_an_array_goes_in_and_an_array_comes_out(self, ours: Any) -> None:
        with Client(ours.url) as client:
            y = client.predict("m", X)
        np.testing.assert_array_equal(y, Y, strict=True)
        assert isinstance(y, np.ndarray)
        assert y.flags.writeable
        assert y.flags.aligned

    def test_the_request_is_what_tritonclient_would_send(self, ours: Any) -> None:
        with Client(ours.url) as client:
            client.predict("m", X, outputs=["y"])
        theirs = tritonclient.http.InferInput("x", [3, 2], "FP32")
        theirs.set_data_from_numpy(X)
        body, length = tritonclient.http.InferenceServerClient.generate_request_body(
            [theirs], outputs=[tritonclient.http.InferRequestedOutput("y", binary_data=True)]
        )
        header, binary = infer_request(ours.seen[-1])
        expected = json.loads(body[:length])
        assert header["inputs"] == expected["inputs"]
        assert header["outputs"] == expected["outputs"]
        assert binary == body[length:]

    def test_strings_travel_as_bytes_of_any_kind(self, ours: Any) -> None:
        strings = ({"s": "DT_STRING"}, {"t": "DT_STRING"})
        ours.tell("/v1/models/m/metadata", ours.json(tf_metadata(serving_default=strings)))
        ours.tell("/v2/models/m/infer", ours.binary(t=np.array([[b"\x00\xff", b""], [b"b", b"c"]], object)))
        with Client(ours.url) as client:
            answer = client.predict("m", np.array([b"a\x00\xff", "ü"], object))
        _, binary = infer_request(ours.seen[-1])
        assert binary == b"\x03\x00\x00\x00a\x00\xff\x02\x00\x00\x00\xc3\xbc"
        assert answer.tolist() == [[b"\x00\xff", b""], [b"b", b"c"]]

    def test_several_outputs_come_as_a_dict(self, ours: Any) -> None:
        both = {"label": np.array([1, 2]), "score": np.array([0.5, 1.0])}
        ours.tell("/v2/models/m/infer", ours.binary(**both))
        with Client(ours.url) as client:
            answer = client.predict("m", X)
        assert isinstance(answer, dict)
        assert answer["label"].tolist() == [1, 2]
        assert answer["score"].dtype == np.float64

    def test_lists_get_the_dtype_of_the_model(self, ours: Any) -> None:
        with Client(ours.url) as client:
            client.predict("m", [[1, 2], [3, 4]])
        header, binary = infer_request(ours.seen[-1])
        assert header["inputs"][0]["datatype"] == "FP32"
        assert binary == np.array([1, 2, 3, 4], np.float32).tobytes()

    def test_a_model_with_two_inputs_needs_a_dict(self, ours: Any) -> None:
        two = ({"a": "DT_FLOAT", "b": "DT_INT64"}, {"y": "DT_FLOAT"})
        ours.tell("/v1/models/m/metadata", ours.json(tf_metadata(serving_default=two)))
        with Client(ours.url) as client:
            with pytest.raises(InvalidArgument, match=r"has 2 inputs \(a, b\), but one array was given") as caught:
                client.predict("m", X)
            assert "dict" in str(caught.value.hint)
            client.predict("m", {"a": [1.0], "b": [2]})
        header, _ = infer_request(ours.seen[-1])
        assert [entry["datatype"] for entry in header["inputs"]] == ["FP32", "INT64"]

    def test_a_float_is_not_made_an_integer(self, ours: Any) -> None:
        integer = ({"n": "DT_INT32"}, {"y": "DT_FLOAT"})
        ours.tell("/v1/models/m/metadata", ours.json(tf_metadata(serving_default=integer)))
        with Client(ours.url) as client, pytest.raises(InvalidArgument, match="Input 'n'"):
            client.predict("m", [0.5])

    def test_a_version_has_its_own_path(self, ours: Any) -> None:
        metadata = ours.json(tf_metadata(serving_default=({"x": "DT_FLOAT"}, {"y": "DT_FLOAT"})))
        ours.tell("/v1/models/m/versions/3/metadata", metadata)
        ours.tell("/v2/models/m/versions/3/infer", ours.binary(y=Y))
        with Client(ours.url) as client:
            np.testing.assert_array_equal(client.predict("m", X, version=3), Y)

    def test_a_label_has_its_own_path(self, ours: Any) -> None:
        metadata = ours.json(tf_metadata(serving_default=({"x": "DT_FLOAT"}, {"y": "DT_FLOAT"})))
        ours.tell("/v1/models/m/labels/stable/metadata", metadata)
        ours.tell("/v1/models/m/labels/stable:predict", ours.binary(y=Y))
        with Client(ours.url) as client:
            np.testing.assert_array_equal(client.predict("m", X, label="stable"), Y)

    def test_a_signature_travels_as_a_parameter(self, ours: Any) -> None:
        with Client(ours.url) as client:
            client.predict("m", X, signature="other")
        header, _ = infer_request(ours.seen[-1])
        assert header["parameters"] == {"signature_name": "other", "binary_data_output": True}

    def test_an_unknown_signature_names_the_known_ones(self, ours: Any) -> None:
        with Client(ours.url) as client, pytest.raises(NotFound, match="no signature 'zzz'") as caught:
            client.predict("m", X, signature="zzz")
        assert caught.value.hint == "it has serving_default, other"

    def test_an_output_that_does_not_come_is_named(self, ours: Any) -> None:
        with Client(ours.url) as client, pytest.raises(InvalidArgument, match="m has no output 'z'"):
            client.predict("m", X, outputs=["z"])

    def test_what_a_model_takes_is_asked_once(self, ours: Any) -> None:
        with Client(ours.url) as client:
            for _ in range(3):
                client.predict("m", X)
        assert ours.paths() == ["/v2", "/v1/models/m/metadata"] + ["/v2/models/m/infer"] * 3

    def test_one_connection_serves_many_calls(self, ours: Any) -> None:
        with Client(ours.url) as client:
            for _ in range(5):
                client.predict("m", X)
        assert ours.connections == 1

    def test_threads_share_a_client(self, ours: Any) -> None:
        failures: list[Exception] = []

        def work(client: Client) -> None:
            try:
                for _ in range(20):
                    np.testing.assert_array_equal(client.predict("m", X), Y)
            except Exception as error:
                failures.append(error)

        with Client(ours.url) as client:
            threads = [threading.Thread(target=work, args=(client,)) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert not failures

    def test_a_new_version_with_another_input_is_noticed(self, ours: Any) -> None:
        old = ours.json(tf_metadata(serving_default=({"x": "DT_FLOAT"}, {"y": "DT_FLOAT"})))
        new = ours.json(tf_metadata(4, serving_default=({"image": "DT_FLOAT"}, {"y": "DT_FLOAT"})))
        ours.tell("/v1/models/m/metadata", old, new)
        ours.tell("/v2/models/m/infer", ours.json({"error": "no input 'x'"}, 400), ours.binary(y=Y))
        with Client(ours.url) as client:
            np.testing.assert_array_equal(client.predict("m", X), Y)
        header, _ = infer_request(ours.seen[-1])
        assert header["inputs"][0]["name"] == "image"

    def test_a_refused_request_is_not_sent_again_to_the_same_version(self, ours: Any) -> None:
        ours.tell("/v2/models/m/infer", ours.json({"error": "wrong shape"}, 400))
        with Client(ours.url) as client, pytest.raises(InvalidArgument, match="wrong shape"):
            client.predict("m", X)
        assert ours.paths().count("/v2/models/m/infer") == 1

    def test_names_with_odd_characters_are_escaped(self, ours: Any) -> None:
        with Client(ours.url) as client, pytest.raises(NotFound):
            client.metadata("a/b c?")
        assert ours.paths()[-1] == "/v1/models/a%2Fb%20c%3F/metadata"

    def test_metadata_tells_all_signatures(self, ours: Any) -> None:
        with Client(ours.url) as client:
            found = client.metadata("m")
        assert (found.model, found.version, list(found.signatures)) == ("m", 3, ["serving_default", "other"])
        assert str(found.signatures["other"]) == "other(x: FP32 [-1, 2]) -> y: FP32 [-1, 2]"

    def test_signatures_that_cannot_be_called_are_left_out(self, ours: Any) -> None:
        page = tf_metadata(serving_default=({"x": "DT_FLOAT"}, {"y": "DT_FLOAT"}), op=({}, {"o": "DT_INVALID"}))
        ours.tell("/v1/models/m/metadata", ours.json(page))
        with Client(ours.url) as client:
            assert list(client.metadata("m").signatures) == ["serving_default"]


class TestOpenInferenceProtocol:
    @pytest.fixture
    def triton(self, recorded: Any) -> Any:
        recorded.tell(
            "/v2", recorded.json({"name": "triton", "version": "2.60.0", "extensions": ["binary_tensor_data"]})
        )
        recorded.tell("/v2/models/m", recorded.json(oip_metadata(x="FP32")))
        recorded.tell("/v2/models/m/infer", recorded.binary(y=Y))
        return recorded

    def test_another_server_is_recognised(self, triton: Any) -> None:
        with Client(triton.url) as client:
            np.testing.assert_array_equal(client.predict("m", X), Y, strict=True)
        assert triton.paths() == ["/v2", "/v2/models/m", "/v2/models/m/infer"]

    def test_an_answer_in_json_is_read_too(self, triton: Any) -> None:
        entry = {"name": "y", "datatype": "FP32", "shape": [2, 1], "data": [0.5, 1]}
        strings = {"name": "s", "datatype": "BYTES", "shape": [0], "data": []}
        triton.tell("/v2/models/m/infer", triton.json({"outputs": [entry, strings]}))
        with Client(triton.url) as client:
            answer = client.predict("m", X)
        np.testing.assert_array_equal(answer["y"], np.array([[0.5], [1]], np.float32), strict=True)
        assert answer["s"].shape == (0,)

    @pytest.mark.parametrize("call", [{"label": "stable"}, {"signature": "other"}])
    def test_what_the_protocol_lacks_is_refused(self, triton: Any, call: dict[str, str]) -> None:
        with Client(triton.url, dialect="oip") as client, pytest.raises((InvalidArgument, NotFound)):
            client.predict("m", X, **call)  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("header", "body"),
        [
            ("9999", b'{"outputs": []}'),
            ("-1", b'{"outputs": []}'),
            ("x", b'{"outputs": []}'),
            (None, b"[]"),
            (None, b""),
            (None, b"null"),
            (None, b"[" * 100_000),
            (None, b'{"outputs": [1]}'),
            (None, b'{"outputs": [{"name": "y"}]}'),
            (None, b'{"outputs": [{"name": "y", "datatype": "FP32", "shape": [2], "data": [1]}]}'),
            (None, b'{"outputs": [{"name": "y", "datatype": "FP32", "shape": [1], "data": ["a"]}]}'),
            (None, b'{"outputs": [{"name": "y", "datatype": "NONE", "shape": [1], "data": [1]}]}'),
            (None, b'{"outputs": [{"name":"y","datatype":"FP32","shape":[1],"parameters":{"binary_data_size":4}}]}'),
            (None, b'{"outputs": [{"name":"y","datatype":"FP32","shape":[1],"parameters":{"binary_data_size":"4"}}]}'),
            (None, b'{"outputs": [{"name":"y","datatype":"BYTES","shape":[9],"parameters":{"binary_data_size":0}}]}'),
            (None, b'{"outputs": [{"name":"y","datatype":"BYTES","shape":[-1],"parameters":{"binary_data_size":0}}]}'),
        ],
    )
    def test_an_answer_out_of_form_is_an_internal_error(self, triton: Any, header: str | None, body: bytes) -> None:
        headers = {"Inference-Header-Content-Length": header} if header else {}
        triton.tell("/v2/models/m/infer", triton.raw(200, body, headers))
        with Client(triton.url) as client, pytest.raises((Internal, InvalidArgument)):
            client.predict("m", X)

    def test_strings_that_are_cut_short_are_an_internal_error(self, triton: Any) -> None:
        whole = triton.binary(y=np.array([b"abc", b"de"], object))
        for surplus in (b"\x00", b"\x00" * 5):
            body = whole.body.replace(b"\x03\x00\x00\x00abc", b"\x03\x00\x00\x01abc") + surplus
            size = len(body) - int(whole.headers["Inference-Header-Content-Length"])
            assert size
            triton.tell("/v2/models/m/infer", triton.raw(200, body, whole.headers))
            with Client(triton.url) as client, pytest.raises(Internal):
                client.predict("m", X)


class TestTensorFlowServing:
    def test_it_is_recognised_and_spoken_to_in_json(self, tfs: Any) -> None:
        with Client(tfs.url) as client:
            y = client.predict("m", X)
        np.testing.assert_array_equal(y, Y, strict=True)
        assert json.loads(tfs.seen[-1].body) == {
            "signature_name": "serving_default",
            "inputs": {"x": [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]},
        }

    def test_the_dialect_can_be_given(self, tfs: Any) -> None:
        with Client(tfs.url, dialect="tfs") as client:
            client.predict("m", X)
        assert "/v2" not in tfs.paths()

    def test_several_outputs_come_by_name_with_their_dtypes(self, tfs: Any) -> None:
        page = tf_metadata(serving_default=({"x": "DT_FLOAT"}, {"k": "DT_INT32", "p": "DT_FLOAT", "s": "DT_STRING"}))
        tfs.tell("/v1/models/m/metadata", tfs.json(page))
        body = b'{"outputs": {"k": [1], "p": [0.1], "s": ["a\xff", {"b64": "YgA="}]}}'
        tfs.tell("/v1/models/m:predict", tfs.raw(200, body))
        with Client(tfs.url) as client:
            answer = client.predict("m", X)
            some = client.predict("m", X, outputs=["p", "k"])
        assert answer["k"].dtype == np.int32
        assert answer["p"].tolist() == [np.float32(0.1)]
        assert answer["s"].tolist() == [b"a\xff", b"b\x00"]
        assert list(some) == ["p", "k"]

    def test_strings_are_sent_as_base64(self, tfs: Any) -> None:
        tfs.tell(
            "/v1/models/m/metadata", tfs.json(tf_metadata(serving_default=({"s": "DT_STRING"}, {"y": "DT_FLOAT"})))
        )
        with Client(tfs.url) as client:
            client.predict("m", [["a", b"\xff"]])
        assert json.loads(tfs.seen[-1].body)["inputs"] == {"s": [[{"b64": "YQ=="}, {"b64": "/w=="}]]}

    @pytest.mark.parametrize("outputs", [b"[[1], 2]", b'"x"', b'{"z": 1}', b'{"b64": "!"}', b"[" * 2000 + b"]" * 2000])
    def test_an_answer_that_does_not_fit_is_an_internal_error(self, tfs: Any, outputs: bytes) -> None:
        tfs.tell("/v1/models/m:predict", tfs.raw(200, b'{"outputs": ' + outputs + b"}"))
        with Client(tfs.url) as client, pytest.raises(Internal):
            client.predict("m", X)

    def test_status_comes_newest_first(self, tfs: Any) -> None:
        page = {
            "model_version_status": [
                {"version": "4", "state": "LOADING", "status": {"error_code": "OK", "error_message": ""}},
                {"version": "3", "state": "END", "status": {"error_code": "INTERNAL", "error_message": "bad file"}},
            ]
        }
        tfs.tell("/v1/models/m", tfs.json(page))
        with Client(tfs.url) as client:
            assert client.status("m") == [
                VersionStatus(4, "LOADING"),
                VersionStatus(3, "END", "INTERNAL", "bad file"),
            ]

    @pytest.mark.parametrize("body", [b"{}", b"[]", b'{"model_version_status": [{"version": "x", "state": "END"}]}'])
    def test_a_status_page_out_of_form_is_an_internal_error(self, tfs: Any, body: bytes) -> None:
        tfs.tell("/v1/models/m", tfs.raw(200, body))
        with Client(tfs.url) as client, pytest.raises(Internal):
            client.status("m")


class TestReadiness:
    def test_our_server_is_asked_for_its_health(self, ours: Any) -> None:
        ours.tell("/v2/health/ready", ours.json({"ready": True}))
        ours.tell("/v2/models/m/ready", ours.json({"error": "loading"}, 503))
        with Client(ours.url) as client:
            assert client.ready()
            assert not client.ready("m")

    def test_tensorflow_serving_is_ready_when_it_answers(self, tfs: Any) -> None:
        tfs.tell("/v1/models", tfs.json({"error": "Missing model name in request."}, 400))
        loading = {"model_version_status": [{"version": "1", "state": "LOADING"}]}
        loaded = {"model_version_status": [{"version": "1", "state": "AVAILABLE"}]}
        tfs.tell("/v1/models/m", tfs.json(loading), tfs.json(loaded))
        with Client(tfs.url) as client:
            assert client.ready()
            assert not client.ready("m")
            assert client.ready("m")

    def test_a_server_that_is_not_there_is_not_ready(self) -> None:
        with Client("http://127.0.0.1:1") as client:
            assert not client.ready()

    def test_waiting_ends_when_the_server_is_ready(self, ours: Any) -> None:
        not_yet = ours.json({"error": "starting"}, 503)
        ours.tell("/v2/health/ready", not_yet, not_yet, ours.json({}))
        with Client(ours.url) as client:
            client.wait_until_ready(timeout=10)
        assert ours.paths().count("/v2/health/ready") == 3

    def test_waiting_in_vain_ends_with_the_last_reason(self, ours: Any) -> None:
        ours.tell("/v2/models/m/ready", ours.json({"error": "version 2 failed"}, 503))
        with (
            Client(ours.url) as client,
            pytest.raises(DeadlineExceeded, match=r"not ready within 0\.1 s: version 2 failed"),
        ):
            client.wait_until_ready("m", timeout=0.1)


class TestArguments:
    @pytest.mark.parametrize(
        "url", ["", "localhost:8501", "ftp://x", "http://", "http://x:y", "grpc://x", "unix:", "http://[::1"]
    )
    def test_an_address_that_is_none_is_refused(self, url: str) -> None:
        with pytest.raises(InvalidArgument, match="is no address of a server"):
            Client(url)

    def test_an_unknown_dialect_is_refused(self) -> None:
        with pytest.raises(InvalidArgument, match="Unknown dialect 'x'"):
            Client("http://localhost", dialect="x")

    @pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf")])
    def test_a_timeout_is_above_zero(self, timeout: float) -> None:
        with pytest.raises(InvalidArgument, match="above 0"):
            Client("http://localhost", timeout=timeout)

    def test_version_and_label_together_are_refused(self, ours: Any) -> None:
        with Client(ours.url) as client, pytest.raises(InvalidArgument, match="not both"):
            client.predict("m", X, version=1, label="stable")

    def test_an_empty_name_is_refused(self, ours: Any) -> None:
        with Client(ours.url) as client, pytest.raises(InvalidArgument, match="name of the model is empty"):
            client.status("")

    def test_a_client_shows_its_address(self, ours: Any) -> None:
        with Client(ours.url) as client:
            assert repr(client) == f"Client('{ours.url}')"


def test_importing_the_client_loads_no_other_library() -> None:
    others = {"numpy", "httpx2", "grpc", "asyncio", "pandas", "onnxruntime"}
    code = f"import sys, servable.client; print(sorted({others} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_importing_the_client_takes_less_than_a_tenth_of_a_second() -> None:
    """Processor time, beyond what Python itself takes to start; the best of three, as other work slows caches down."""
    code = "import time; began = time.process_time(); import servable.client; print(time.process_time() - began)"
    taken = [float(subprocess.check_output([sys.executable, "-c", code], text=True)) for _ in range(3)]
    assert min(taken) < 0.1
