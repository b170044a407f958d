"""A real server's metrics page after real traffic: TensorFlow Serving's names, for dashboards that know them."""

from __future__ import annotations

import re
import shutil
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
import requests

from contract.model_server_process import ModelServerProcess, models_config
from servable.model.golden import GoldenExample, write_examples
from servable.wire.tensors import as_tensor
from servers import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import SimpleNamespace

pytestmark = pytest.mark.tensorflow

SERVING = ":tensorflow:serving:"
BATCHING = f"{SERVING}batching_session:"
BUCKETS = {"le"}
NAMES = {
    f"{SERVING}request_count": ("counter", {"model_name", "status"}),
    f"{SERVING}request_latency": ("histogram", {"model_name", "API", "entrypoint"}),
    f"{SERVING}runtime_latency": ("histogram", {"model_name", "API", "runtime"}),
    f"{SERVING}model_warmup_latency": ("histogram", {"model_path", "status"}),
    f"{SERVING}model_warmup_records_read": ("counter", {"model_path"}),
    f"{BATCHING}queuing_latency": ("histogram", {"thread_pool_name"}),
    f"{BATCHING}wrapped_run_count": ("counter", set()),
    f"{BATCHING}input_batch_size": ("histogram", set()),
    f"{BATCHING}processed_batch_size": ("histogram", set()),
    f"{BATCHING}padding_size": ("histogram", {"execution_batch_size"}),
    f"{SERVING}request_example_counts": ("histogram", {"model"}),
    f"{SERVING}request_example_count_total": ("counter", {"model"}),
    f"{SERVING}request_log_count": ("counter", {"model_name", "status_code"}),
    ":tensorflow:cc:saved_model:load_attempt_count": ("counter", {"model_path", "status"}),
    ":tensorflow:cc:saved_model:load_latency": ("counter", {"model_path"}),
    ":tensorflow:core:graph_runs": ("counter", set()),
    ":tensorflow:core:graph_run_time_usecs": ("counter", set()),
}


class Page:
    """A page of metrics, read.

    Attributes:
        kinds: Name -> what it is.
        samples: Name -> its samples: labels, value.
    """

    def __init__(self, text: str) -> None:
        assert "# HELP :" not in text, "upstream has no such lines"
        self.kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
        self.samples: dict[str, list[tuple[dict[str, str], float]]] = defaultdict(list)
        for name, labels, value in re.findall(r"^([^#\s{]\S*?)(?:\{(.*)\})? (\S+)$", text, re.MULTILINE):
            self.samples[name].append((dict(re.findall(r'(\w+)="([^"]*)"', labels)), float(value)))

    def value(self, name: str, **labels: str) -> float:
        return sum(value for have, value in self.samples[name] if labels.items() <= have.items())


@pytest.fixture(scope="module")
def page(saved_models: Path, tfs: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """What the page says after requests of each kind over REST and gRPC, and some that are refused."""
    folder = tmp_path_factory.mktemp("metrics")
    version = shutil.copytree(saved_models / "half_plus_two" / "1", folder / "half" / "1")
    (version / "assets.extra").mkdir()
    (version / "assets.extra" / "mlmd_uuid").write_text("an-artifact")
    write_examples(version, [GoldenExample({"x": as_tensor(np.float32([[1]]))})])
    log = f'log_collector_config {{ filename_prefix: "{folder}/log" }} sampling_config {{ sampling_rate: 1 }}'
    config, batching, monitoring = (folder / f"{name}.config" for name in ("models", "batching", "monitoring"))
    monitoring.write_text("prometheus_config { enable: true }")
    config.write_text(models_config({"half": folder / "half"}, f"logging_config {{ {log} }}"))
    batching.write_text("max_batch_size { value: 8 } allowed_batch_sizes: 4 allowed_batch_sizes: 8")
    server = ModelServerProcess(
        f"--model_config_file={config}",
        f"--monitoring_config_file={monitoring}",
        f"--batching_parameters_file={batching}",
        "--enable_batching",
        rest=True,
    )
    try:
        server.wait_for('"Ready:')
        ask_over_rest(server)
        with server.channel() as channel:
            ask_over_grpc(tfs, tfs.prediction(channel))
        # Requests are counted when their answers have been sent, and again when the log has been written.
        assert eventually(lambda: read_page(server).value(f"{SERVING}request_count") >= 10)
        assert eventually(lambda: read_page(server).value(f"{SERVING}request_log_count") >= 8)
        yield read_page(server)
    finally:
        server.end()


def read_page(server: ModelServerProcess) -> Page:
    return Page(requests.get(f"{server.rest}/monitoring/prometheus/metrics", timeout=20).text)


def ask_over_rest(server: ModelServerProcess) -> None:
    url = f"{server.rest}/v1/models/half"
    for method, body, status in [
        (":predict", {"instances": [1, 2, 5]}, 200),
        (":predict", {"inputs": 1.0}, 200),
        (":predict", {"instances": []}, 400),
        (":classify", {"signature_name": "classify", "examples": [{"x": 1.0}] * 3}, 200),
        (":regress", {"signature_name": "regress", "examples": [{"x": 1.0}] * 3}, 200),
    ]:
        assert requests.post(url + method, json=body, timeout=20).status_code == status


def ask_over_grpc(tfs: SimpleNamespace, service: Any) -> None:
    predict = tfs.predict.PredictRequest(inputs={"x": tfs.floats([[1]])})
    predict.model_spec.name = "half"
    service.Predict(predict, timeout=20)
    predict.model_spec.name = "unknown"
    with pytest.raises(grpc.RpcError):
        service.Predict(predict, timeout=20)
    given = tfs.inference.MultiInferenceRequest().input
    given.example_list.examples.add().features.feature["x"].float_list.value.append(1)
    for kind, method in [(tfs.classification.ClassificationRequest, "Classify"),
                         (tfs.regression.RegressionRequest, "Regress")]:  # fmt: skip
        request = kind(input=given)
        request.model_spec.name, request.model_spec.signature_name = "half", method.lower()
        getattr(service, method)(request, timeout=20)
    request = tfs.inference.MultiInferenceRequest(input=given)
    task = request.tasks.add(method_name="tensorflow/serving/regress")
    task.model_spec.name, task.model_spec.signature_name = "half", "regress"
    service.MultiInference(request, timeout=20)


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_there_with_its_kind_and_labels(page: Page, name: str) -> None:
    kind, labels = NAMES[name]
    assert page.kinds[name] == kind
    parts = [f"{name}_bucket", f"{name}_sum", f"{name}_count"] if kind == "histogram" else [name]
    for part in parts:
        assert page.samples[part], part
        for found, _ in page.samples[part]:
            assert set(found) == labels | (BUCKETS if part.endswith("_bucket") else set())


def test_the_artifact_of_a_version_is_told(page: Page) -> None:
    assert page.samples[f"{SERVING}mlmd_map"] == [
        ({"model_name": "half", "version": "1", "mlmd_uuid": "an-artifact"}, 1)
    ]


@pytest.mark.parametrize(
    ("name", "first", "factor", "count"),
    [
        (f"{SERVING}request_latency", 10, 1.8, 33),
        (f"{SERVING}runtime_latency", 10, 1.8, 33),
        (f"{BATCHING}queuing_latency", 100, 1.2, 52),
        (f"{BATCHING}input_batch_size", 1, 2, 14),
    ],
)
def test_buckets_are_those_of_upstream(page: Page, name: str, first: float, factor: float, count: int) -> None:
    samples = page.samples[f"{name}_bucket"]
    others = {key: value for key, value in samples[0][0].items() if key != "le"}
    bounds = [float(labels["le"]) for labels, _ in samples if others.items() <= labels.items()]
    expected = [first * factor**power for power in range(count)]
    assert bounds[-1] == float("inf")
    assert bounds[:-1] == pytest.approx(expected, rel=1e-5)


def test_requests_are_counted_by_api_and_by_what_came_of_them(page: Page) -> None:
    latency = f"{SERVING}request_latency_count"
    for api, entrypoint, count in [
        ("predict", "REST", 2), ("classify", "REST", 1), ("regress", "REST", 1),
        ("Predict", "GRPC", 1), ("Classify", "GRPC", 1), ("Regress", "GRPC", 1),
    ]:  # fmt: skip
        assert page.value(latency, model_name="half", API=api, entrypoint=entrypoint) == count, api
    requests_ = f"{SERVING}request_count"
    assert page.value(requests_, model_name="half", status="OK") == 8
    assert page.value(requests_, model_name="half", status="INVALID_ARGUMENT") == 1
    assert page.value(requests_, status="NOT_FOUND") == 1
    for api in ("Predict", "Classify", "Regress"):
        assert page.value(f"{SERVING}runtime_latency_count", model_name="half", API=api, runtime="TF1") > 0
    assert page.value(f"{SERVING}request_log_count", model_name="half", status_code="OK") == 8


def test_loads_warm_up_and_batches_are_counted(page: Page) -> None:
    assert page.value(":tensorflow:cc:saved_model:load_attempt_count", status="success") == 1
    assert page.value(f"{SERVING}model_warmup_records_read") == 1
    assert page.value(f"{BATCHING}padding_size_count", execution_batch_size="4") > 0
    assert page.value(f"{BATCHING}wrapped_run_count") == 1, "the scalar cannot be joined"
    assert page.value(":tensorflow:core:graph_runs") >= 8
