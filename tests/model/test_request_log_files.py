"""servable.model.request_log and servable.model.replay."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from servable.errors import InvalidArgument, NotFound, Unavailable
from servable.model.replay import Latencies, at_recorded_speed, replay
from servable.model.request_log import LogRecord, log_files, read_log
from servable.wire.log_metadata import LogMetadata
from servable.wire.predict import ModelSpec, PredictionLog, PredictRequest, PredictResponse
from servable.wire.tensors import as_tensor
from servable.wire.tfrecord import write_records

if TYPE_CHECKING:
    from pathlib import Path


def record(value: float, model: str = "m", answer: float | None = None) -> bytes:
    spec = ModelSpec(model)
    response = None if answer is None else PredictResponse({"y": as_tensor(np.float32([answer]))}, spec)
    return PredictionLog(PredictRequest(spec, {"x": as_tensor(np.float32([value]))}), response).encode()


def write(path: Path, *records: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        write_records(file, records)
    return path


def records(*values: tuple[float, float | None]) -> list[LogRecord]:
    data = [record(value, answer=answer) for value, answer in values]
    return [LogRecord(number, "file", each, LogMetadata("m")) for number, each in enumerate(data, 1)]  # type: ignore[arg-type]


def twice(_signature: str, inputs: Any) -> Any:
    return {"y": as_tensor(inputs["x"].array * np.float32(2))}


def test_a_log_is_a_file_a_folder_or_a_glob(tmp_path: Path) -> None:
    first = write(tmp_path / "logs" / "a" / "requests-1.tfrecord", record(1))
    second = write(tmp_path / "logs" / "b" / "requests-2.tfrecord", record(2))
    write(tmp_path / "logs" / "notes.txt", record(3))
    assert log_files(tmp_path / "logs") == [first, second]
    assert log_files(second) == [second]
    assert log_files(f"{tmp_path}/logs/a/*.tfrecord") == [first]
    with pytest.raises(NotFound):
        log_files(tmp_path / "c*")


def test_records_of_other_models_are_passed_over_but_counted(tmp_path: Path) -> None:
    file = write(tmp_path / "log", record(1, "a"), record(2, "b"), record(3, ""))
    assert [each.number for each in read_log([file], "b")] == [2, 3]


def test_a_file_that_is_damaged_is_named(tmp_path: Path) -> None:
    file = write(tmp_path / "log", record(1), record(2))
    data = bytearray(file.read_bytes())
    data[20] ^= 1
    file.write_bytes(data)
    with pytest.raises(InvalidArgument, match=str(file)):
        list(read_log([file]))


@pytest.mark.parametrize("line", [b"[]\n", b"{\n", b'{"predictLog": 3}\n', b"[" * 100_000 + b"\n", b"\xff\n"])
def test_a_line_that_is_no_record_is_told(tmp_path: Path, line: bytes) -> None:
    file = tmp_path / "log.jsonl"
    file.write_bytes(line)
    with pytest.raises(InvalidArgument, match="line of the log"):
        list(read_log([file]))


def test_a_cut_line_is_passed_over_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "log.jsonl"
    file.write_bytes(b'{"predictLog": {}}\n{"predictL')
    assert len(list(read_log([file]))) == 1
    assert "cut short" in caplog.text


def test_answers_are_compared_with_the_recorded_ones() -> None:
    found = replay(records((1, 2), (2, 5), (3, 60), (4, None)), twice)
    assert (found.records, found.compared, found.mismatches) == (4, 3, 2)
    assert [(each.record, each.distance) for each in found.worst] == [(3, 54.0), (2, 1.0)]


def test_answers_are_compared_with_those_of_a_baseline() -> None:
    found = replay(records((1, 99), (2, None)), twice, baseline=twice)
    assert (found.compared, found.mismatches) == (2, 0)
    assert found.baseline.count == 2


def test_an_error_of_the_version_is_a_mismatch_and_one_of_the_baseline_is_not() -> None:
    def fails(_signature: str, _inputs: Any) -> Any:
        raise Unavailable("no")

    found = replay(records((1, 2)), fails)
    assert (found.mismatches, found.worst[0].distance) == (1, math.inf)
    assert "no" in found.worst[0].what
    assert replay(records((1, 2)), twice, baseline=fails).compared == 0


def test_percentiles_are_right_to_a_percent() -> None:
    latencies = Latencies()
    for milliseconds in range(1, 1001):
        latencies.add(milliseconds / 1000)
    assert latencies.percentile(0.5) == pytest.approx(0.5, rel=0.02)
    assert latencies.percentile(0.99) == pytest.approx(0.99, rel=0.02)
    assert sum(count for *_, count in latencies.histogram()) == 1000
    assert Latencies().percentile(0.5) == 0


def test_recorded_speed_waits_until_a_record_is_due() -> None:
    now, waits = [100.0], []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        now[0] += seconds

    timed = [LogRecord(1, "f", b"", LogMetadata(time=time)) for time in (50, 50, 53, 60)]  # type: ignore[arg-type]
    assert len(list(at_recorded_speed(timed, lambda: now[0], sleep))) == 4
    assert waits == [3.0, 7.0]
