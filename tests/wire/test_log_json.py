"""servable.wire.log_json and servable.wire.log_metadata, beside protobuf's own library."""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf import json_format

from servable.wire.log_json import record_of_line
from servable.wire.log_metadata import read_metadata

if TYPE_CHECKING:
    from types import SimpleNamespace


def as_line(message: object) -> bytes:
    return json_format.MessageToJson(message, use_integers_for_enums=True, indent=None).encode()  # type: ignore[arg-type]


def test_a_predict_is_read_as_protobuf_writes_it(tfs: SimpleNamespace) -> None:
    log = tfs.log.PredictionLog()
    log.log_metadata.model_spec.name = "m"
    log.log_metadata.model_spec.version.value = 0
    log.log_metadata.sampling_config.sampling_rate = 0.25
    log.log_metadata.timestamp_secs = 1 << 40
    inputs = log.predict_log.request.inputs
    inputs["floats"].CopyFrom(tfs.floats([[1.5, float("nan")], [float("-inf"), 1e-30]]))
    inputs["text"].dtype = 7
    inputs["text"].string_val.append(b"\xff\x00")
    inputs["big"].uint64_val.append((1 << 64) - 1)
    inputs["big"].int64_val.append(-5)
    inputs["big"].bool_val.extend([True, False])
    inputs["big"].tensor_content = b"\x00\x01"
    log.predict_log.request.output_filter.append("y")
    found = tfs.log.PredictionLog.FromString(record_of_line(as_line(log)))
    # Not a number is not equal to itself.
    assert found.SerializeToString(deterministic=True) == log.SerializeToString(deterministic=True)
    metadata = read_metadata(record_of_line(as_line(log)))
    assert (metadata.model, metadata.version, metadata.time) == ("m", 0, 1 << 40)


def test_the_calls_with_examples_are_read_as_protobuf_writes_them(tfs: SimpleNamespace) -> None:
    example = tfs.example.Example()
    example.features.feature["a"].int64_list.value.extend([-1, 7])
    example.features.feature["b"].float_list.value.append(0.5)
    example.features.feature["c"].bytes_list.value.append(b"\xff")
    classify, regress, multi = (tfs.log.PredictionLog() for _ in range(3))
    classify.classify_log.request.input.example_list.examples.append(example)
    row = classify.classify_log.response.result.classifications.add()
    row.classes.add(label="cat", score=0.5)
    with_context = regress.regress_log.request.input.example_list_with_context
    with_context.examples.append(example)
    with_context.context.CopyFrom(example)
    regress.regress_log.response.result.regressions.add(value=2.5)
    multi.multi_inference_log.request.tasks.add(method_name="tensorflow/serving/regress").model_spec.name = "m"
    multi.multi_inference_log.request.input.example_list.examples.append(example)
    multi.multi_inference_log.response.results.add().regression_result.regressions.add(value=1)
    for log in (classify, regress, multi):
        assert tfs.log.PredictionLog.FromString(record_of_line(as_line(log))) == log


def test_what_is_not_known_is_passed_over() -> None:
    assert record_of_line(b'{"predictLog": {"other": {"x": [1]}}, "more": null}').hex() == "3200"
