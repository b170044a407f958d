"""Classify, Regress and MultiInference over both protocols: reference/tf-serving.md, sections 2.6 and 3."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from example_models import MODELS, publish_all
from servable.model.request_log import log_files, read_log
from servers import metric, model_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import SimpleNamespace

    from servable.server import ModelServer

Code = grpc.StatusCode
CLASSIFY, REGRESS = "tensorflow/serving/classify", "tensorflow/serving/regress"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelServer]:
    folder = tmp_path_factory.mktemp("examples")
    publish_all(folder)
    with model_server(folder, batch="off", load_retries=0, max_rows=100) as server:
        server.wait_for(lambda routes: len(routes.models) == len(MODELS) + 1, 30)
        server.wait_until_ready(30)
        yield server


class Caller:
    """One server, asked over gRPC."""

    def __init__(self, tfs: SimpleNamespace, channel: grpc.Channel) -> None:
        self.tfs = tfs
        self.service = tfs.prediction(channel)

    def input(self, *examples: dict[str, Any], context: dict[str, Any] | None = None) -> Any:
        found = self.tfs.inference.MultiInferenceRequest().input
        kind = found.example_list if context is None else found.example_list_with_context
        kind.SetInParent()
        for each in examples:
            kind.examples.add().CopyFrom(self.example(**each))
        if context is not None:
            kind.context.CopyFrom(self.example(**context))
        return found

    def example(self, **features: Any) -> Any:
        example = self.tfs.example.Example()
        for name, values in features.items():
            feature = example.features.feature[name]
            for value in values if isinstance(values, list) else [values]:
                kind = {int: feature.int64_list, float: feature.float_list, bytes: feature.bytes_list}[type(value)]
                kind.value.append(value)
        return example

    def request(self, kind: Any, model: str, given: Any, signature: str = "") -> Any:
        request = kind()
        request.model_spec.name = model
        request.model_spec.signature_name = signature
        request.input.CopyFrom(given)
        return request

    def classify(self, model: str, given: Any, signature: str = "") -> Any:
        request = self.request(self.tfs.classification.ClassificationRequest, model, given, signature)
        return self.service.Classify(request, timeout=20)

    def regress(self, model: str, given: Any, signature: str = "") -> Any:
        request = self.request(self.tfs.regression.RegressionRequest, model, given, signature)
        return self.service.Regress(request, timeout=20)

    def multi(self, given: Any, *tasks: tuple[str, str, str]) -> Any:
        """`tasks`: model, signature and method of each."""
        request = self.tfs.inference.MultiInferenceRequest(input=given)
        for model, signature, method in tasks:
            task = request.tasks.add(method_name=method)
            task.model_spec.name = model
            task.model_spec.signature_name = signature
        return self.service.MultiInference(request, timeout=20)


@pytest.fixture
def caller(server: ModelServer, tfs: SimpleNamespace, channel: Callable[[ModelServer], grpc.Channel]) -> Caller:
    return Caller(tfs, channel(server))


@pytest.fixture
def post(server: ModelServer) -> Callable[[str, Any], requests.Response]:
    """`post("model:classify", body)`."""

    def send(place: str, body: Any) -> requests.Response:
        url = f"http://{server.addresses.rest}/v1/models/{place}"
        return requests.post(url, body if isinstance(body, str) else json.dumps(body), timeout=20)

    return send


def refusal(call: Callable[..., Any], *arguments: Any) -> tuple[Code, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call(*arguments)
    return caught.value.code(), caught.value.details()


def test_classify_answers_labels_and_scores(caller: Caller, post: Any) -> None:
    given = caller.input({"a": 1}, {})
    size = len(caller.example(a=1).SerializeToString())
    answer = caller.classify("both", given)
    spec = answer.model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("both", 1, "serving_default")
    rows = [[(each.label, each.score) for each in row.classes] for row in answer.result.classifications]
    assert rows == [[("short", -size), ("long", size)], [("short", 0), ("long", 0)]]
    found = post("both:classify", {"examples": [{"a": 1}, {}]})
    assert found.headers["Content-Type"] == "application/json"
    assert found.json() == {"results": [[["short", -size], ["long", size]], [["short", 0.0], ["long", 0.0]]]}


@pytest.mark.parametrize(
    ("model", "row"), [("labels", [["short", 0.0], ["long", 0.0]]), ("scores", [["", 0], ["", 0]])]
)
def test_a_model_may_give_only_labels_or_only_scores(caller: Caller, post: Any, model: str, row: list[Any]) -> None:
    assert post(f"{model}:classify", {"examples": [{}]}).json() == {"results": [row]}
    classes = caller.classify(model, caller.input({})).result.classifications[0].classes
    assert [[each.label, each.score] for each in classes] == row


@pytest.mark.parametrize("model", ["values", "column"])
def test_regress_answers_one_value_for_each_example(caller: Caller, post: Any, model: str) -> None:
    given = caller.input({"a": 1}, {}, {"b": b"words"})
    sizes = [len(each.SerializeToString()) for each in given.example_list.examples]
    answer = caller.regress(model, given)
    assert [each.value for each in answer.result.regressions] == sizes
    assert (answer.model_spec.name, answer.model_spec.version.value) == (model, 1)
    found = post(f"{model}:regress", {"examples": [{"a": 1}, {}, {"b": "words"}]})
    assert found.json() == {"results": sizes}


FEATURES = st.dictionaries(
    st.text(max_size=8),
    st.one_of(
        st.lists(st.integers(-(2**63), 2**63 - 1), max_size=4),
        st.lists(st.floats(width=32, allow_nan=False), max_size=4),
        st.lists(st.text(max_size=8), max_size=4),
    ),
    max_size=4,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(FEATURES, min_size=1, max_size=4), context=st.none() | FEATURES)
def test_examples_in_json_are_those_that_protobuf_makes(
    caller: Caller, post: Any, rows: list[dict[str, Any]], context: dict[str, Any] | None
) -> None:
    body = {"examples": rows} | ({} if context is None else {"context": context})
    results = post("echo:classify", body).json()["results"]

    def parse(text: str) -> dict[str, Any]:
        example = caller.tfs.example.Example.FromString(bytes.fromhex(text))
        lists = {
            name: getattr(feature, feature.WhichOneof("kind")).value if feature.WhichOneof("kind") else []
            for name, feature in example.features.feature.items()
        }
        return {
            name: [each.decode() if isinstance(each, bytes) else each for each in values]
            for name, values in lists.items()
        }

    assert [parse(row[0][0]) for row in results] == [(context or {}) | row for row in rows]


def test_an_example_and_its_context_reach_the_model_byte_by_byte(caller: Caller) -> None:
    example, context = {"a": 1, "b": [0.5]}, {"c": b"\xff"}
    answer = caller.classify("echo", caller.input(example, context=context))
    expected = caller.example(**context).SerializeToString() + caller.example(**example).SerializeToString()
    assert bytes.fromhex(answer.result.classifications[0].classes[0].label) == expected


def test_features_may_be_bytes_and_truth_values(caller: Caller, post: Any) -> None:
    found = post("echo:classify", {"examples": [{"a": {"b64": "/w=="}, "b": [True, False]}]}).json()
    example = caller.tfs.example.Example.FromString(bytes.fromhex(found["results"][0][0][0]))
    assert example == caller.example(a=b"\xff", b=[1, 0])


def test_multi_inference_answers_in_the_order_of_its_tasks(caller: Caller) -> None:
    given = caller.input({"a": 1}, {})
    answer = caller.multi(given, ("two", "other", REGRESS), ("two", "", REGRESS))
    specs = [result.model_spec for result in answer.results]
    assert [(each.name, each.version.value, each.signature_name) for each in specs] == [
        ("two", 1, "other"),
        ("two", 1, "serving_default"),
    ]
    sizes = [len(each.SerializeToString()) for each in given.example_list.examples]
    for result in answer.results:
        assert [each.value for each in result.regression_result.regressions] == sizes
    classified = caller.multi(given, ("both", "", CLASSIFY)).results[0].classification_result
    assert classified == caller.classify("both", given).result


def test_multi_inference_refuses_in_tensorflow_servings_words(caller: Caller) -> None:
    given = caller.input({})
    duplicate = "Duplicate evaluation of signature: serving_default"
    for tasks, code, message in [
        ([("two", "", REGRESS), ("two", "serving_default", REGRESS)], Code.INVALID_ARGUMENT, duplicate),
        ([("two", "", REGRESS), ("both", "", CLASSIFY)], Code.INVALID_ARGUMENT, ("All ModelSpecs in a "
         "MultiInferenceRequest must access the same model name.")),
        ([("two", "", REGRESS), ("", "", REGRESS)], Code.INVALID_ARGUMENT, "Found ModelSpec with an empty model name."),
        ([("two", "s", REGRESS)], Code.INVALID_ARGUMENT, "Requested signature not found in model graph: s"),
        ([("two", "", "tensorflow/serving/predict")], Code.UNIMPLEMENTED,
         "Unsupported signature method_name: tensorflow/serving/predict"),
        ([("none", "", REGRESS)], Code.NOT_FOUND, "Servable not found for request: Latest(none)"),
        ([], Code.INVALID_ARGUMENT, "ModelSpec has no name specified."),
    ]:  # fmt: skip
        assert refusal(caller.multi, given, *tasks) == (code, message)
    assert refusal(caller.multi, caller.input(), ("two", "", REGRESS)) == (Code.INVALID_ARGUMENT, "Input is empty.")


WRONG_SIGNATURES = [
    ("classify", "predicts", Code.FAILED_PRECONDITION, ("Expected classification signature outputs to contain at least "
     'one of "classes" or "scores". Signature was: serving_default: inputs -> y')),
    ("regress", "predicts", Code.FAILED_PRECONDITION, ("No regression outputs found in SignatureDef: "
     "serving_default: inputs -> y")),
    ("regress", "both", Code.INVALID_ARGUMENT, "Expected one output Tensor."),
    ("classify", "named", Code.FAILED_PRECONDITION, ("No classification inputs found in SignatureDef: "
     "serving_default: x -> scores")),
    ("regress", "floats", Code.INVALID_ARGUMENT, "Expects arg[0] to be float but string is provided"),
    ("regress", "wide", Code.INVALID_ARGUMENT, ("Expected output Tensor shape to be either [batch_size] or "
     "[batch_size, 1] but got [1,2]")),
    ("classify", "flat", Code.INVALID_ARGUMENT, "Expected Tensor shape: [batch_size num_classes] but got [1]"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "model", "code", "message"), WRONG_SIGNATURES)
def test_a_model_that_does_not_fit_is_told_why(
    caller: Caller, post: Any, method: str, model: str, code: Code, message: str
) -> None:
    assert refusal(getattr(caller, method), model, caller.input({})) == (code, message)
    answer = post(f"{model}:{method}", {"examples": [{}]})
    assert (answer.status_code, answer.json()["error"]) == (400, message)


def test_what_is_not_served_is_told_in_tensorflow_servings_words(caller: Caller, post: Any) -> None:
    given = caller.input({})
    assert refusal(caller.classify, "none", given)[1] == "Servable not found for request: Latest(none)"
    unknown = "No signature was found with the name: s"
    assert refusal(caller.regress, "values", given, "s") == (Code.INVALID_ARGUMENT, unknown)
    answer = post("values:regress", {"examples": [{}], "signature_name": "s"})
    assert (answer.status_code, answer.json()["error"]) == (400, unknown)
    answer = post("none:classify", {"examples": [{}]})
    assert (answer.status_code, answer.json()["error"]) == (404, "Servable not found for request: Latest(none)")
    # The request is read before the model is looked for.
    assert post("none:classify", "{").status_code == 400
    request = caller.tfs.classification.ClassificationRequest(input=given)
    assert refusal(caller.service.Classify, request) == (Code.INVALID_ARGUMENT, "Missing ModelSpec")


def test_no_examples_are_refused(caller: Caller, post: Any) -> None:
    for empty in (caller.input(), caller.tfs.inference.MultiInferenceRequest().input, caller.input(context={"a": 1})):
        assert refusal(caller.classify, "both", empty) == (Code.INVALID_ARGUMENT, "Input is empty.")
    missing = "When method is classify, key 'examples' is expected and was not found"
    assert post("both:regress", {}).json()["error"] == f"JSON Value: {{}} {missing}"
    assert post("both:classify", {"examples": []}).json()["error"].endswith("'examples' value is an empty array")


@pytest.mark.parametrize(
    ("feature", "message"),
    [
        ("[1, 0.5]", "Unexpected element type in feature: f expecting type: int64"),
        ("null", "Feature: f has element with unexpected JSON type: Null"),
        ("[[1]]", "Feature: f has element with unexpected JSON type: Array"),
        ("18446744073709551615", "Feature: f has uint64 element. Only int64_t is supported."),
    ],
)
def test_a_feature_that_cannot_be_read_is_named(post: Any, feature: str, message: str) -> None:
    answer = post("both:classify", f'{{"examples": [{{"f": {feature}}}]}}')
    assert (answer.status_code, answer.json()["error"]) == (400, message)


def test_too_many_rows_are_refused(caller: Caller, post: Any) -> None:
    assert post("values:regress", {"examples": [{}] * 101}).status_code == 413
    code, details = refusal(caller.regress, "values", caller.input(*[{}] * 101))
    assert (code, details) == (Code.INVALID_ARGUMENT, "The request has 101 rows; the limit is 100 (setting max_rows)")


def test_a_context_cannot_fill_the_memory(caller: Caller) -> None:
    given = caller.input(*[{}] * 2000, context={"a": b"x" * (1 << 20)})
    code, details = refusal(caller.classify, "both", given)
    assert code is Code.RESOURCE_EXHAUSTED
    assert "once they are read" in details


def test_calls_are_counted_by_their_api(server: ModelServer, caller: Caller, post: Any) -> None:
    def count(model: str, api: str, entrypoint: str) -> float:
        labels = {"model_name": model, "API": api, "entrypoint": entrypoint}
        return metric(server, ":tensorflow:serving:request_latency_count", **labels)

    kinds = [("both", "Classify", "GRPC"), ("both", "classify", "REST"), ("two", "Regress", "GRPC"),
             ("two", "regress", "REST"), ("two", "MultiInference", "GRPC")]  # fmt: skip
    before = [count(*kind) for kind in kinds]
    given = caller.input({})
    caller.classify("both", given)
    post("both:classify", {"examples": [{}]})
    caller.regress("two", given)
    post("two:regress", {"examples": [{}]})
    caller.multi(given, ("two", "", REGRESS))
    assert [count(*kind) for kind in kinds] == [each + 1 for each in before]


def test_the_method_name_is_checked_where_the_setting_says_so(
    tmp_path: Any, tfs: SimpleNamespace, channel: Callable[[ModelServer], grpc.Channel]
) -> None:
    publish_all(tmp_path)
    with model_server({"both": tmp_path / "both"}, check_method_names=True) as server:
        server.wait_until_ready(30)
        caller = Caller(tfs, channel(server))
        assert refusal(caller.classify, "both", caller.input({})) == (
            Code.INVALID_ARGUMENT,
            f"Expected classification signature method_name to be {CLASSIFY}. Was: tensorflow/serving/predict",
        )


def test_requests_that_wait_together_run_together(
    tmp_path: Any, tfs: SimpleNamespace, channel: Callable[[ModelServer], grpc.Channel]
) -> None:
    publish_all(tmp_path)
    with model_server({"m": tmp_path / "values"}, batch="on", max_batch_rows=4, batch_timeout=30) as server:
        server.wait_until_ready(30)
        caller = Caller(tfs, channel(server))
        requests_ = [
            caller.request(tfs.regression.RegressionRequest, "m", caller.input({"a": b"x" * length}))
            for length in range(4)
        ]
        # None would be answered in time if it waited alone: four rows make a batch.
        calls = [caller.service.Regress.future(request, timeout=20) for request in requests_]
        found = [call.result().result.regressions[0].value for call in calls]
        assert found == [len(each.input.example_list.examples[0].SerializeToString()) for each in requests_]


@pytest.mark.parametrize("form", ["tfrecord", "json"])
def test_the_request_log_holds_the_messages_of_each_call(
    form: str, tmp_path: Path, tfs: SimpleNamespace, channel: Callable[[ModelServer], grpc.Channel]
) -> None:
    publish_all(tmp_path / "models")
    logs = tmp_path / "logs"
    names = ("both", "values", "two")
    folders = {name: tmp_path / "models" / name for name in names}
    with model_server(folders, request_log=str(logs), request_log_format=form) as server:
        server.wait_until_ready(30)
        caller = Caller(tfs, channel(server))
        given = caller.input({"a": 1}, {"b": b"\xff"}, context={"c": 0.5})
        classified = caller.classify("both", given)
        regressed = caller.regress("values", given)
        multi = caller.multi(given, ("two", "serving_default", REGRESS), ("two", "other", REGRESS))
        url = f"http://{server.addresses.rest}/v1/models/both:classify"
        body = {"context": {"c": 0.5}, "examples": [{"a": 1}]}
        assert requests.post(url, json=body, timeout=20).ok
    records = {}
    for name in names:
        found = read_log(log_files(logs / name))
        records[name] = [tfs.log.PredictionLog.FromString(record.data) for record in found]
    by_grpc, by_rest = records["both"]
    assert (by_grpc.classify_log.request.input, by_grpc.classify_log.response) == (given, classified)
    assert records["values"][0].regress_log.response == regressed
    assert records["values"][0].log_metadata.model_spec == regressed.model_spec
    assert records["two"][0].multi_inference_log.response == multi
    assert len(records["two"][0].multi_inference_log.request.tasks) == 2
    example = by_rest.classify_log.request.input.example_list.examples[0]
    assert set(example.features.feature) == {"a", "c"}
    assert by_rest.classify_log.response.result.classifications[0].classes[1].label == "long"
