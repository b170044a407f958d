"""Golden examples: stored inputs with the answers that the version gave when it was saved.

The file is TensorFlow Serving's warm-up file, `assets.extra/tf_serving_warmup_requests`: TFRecords of PredictionLog,
with the expected responses filled in. Source: https://www.tensorflow.org/tfx/serving/saved_model_warmup.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from servable.errors import DataLoss, GoldenMismatch, InvalidArgument, ManifestError, Unimplemented
from servable.model.compare import Report, compare, join
from servable.model.signatures import DEFAULT_SIGNATURE
from servable.wire.examples import read_examples_log
from servable.wire.predict import ModelSpec, PredictionLog, PredictRequest, PredictResponse
from servable.wire.tensors import Tensor
from servable.wire.tfrecord import read_records, write_records

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path
    from typing import BinaryIO

    from servable.model.tolerance import Tolerance
    from servable.wire.examples import Classes, ExamplesCall

FILE_NAME = "assets.extra/tf_serving_warmup_requests"
MAX_RECORDS = 1000
MAX_BYTES = 1 << 30

# Runs one signature: its name and its inputs in, its outputs out.
Run = Callable[[str, Mapping[str, Tensor]], Mapping[str, Tensor]]


@dataclass(frozen=True)
class GoldenExample:
    """One stored call.

    Attributes:
        inputs: What goes in, by name.
        outputs: What has to come out; None where nothing is known: such a record only warms up.
        signature: Name of the signature.
        shaped: Whether the shapes of the outputs are known. An answer of Regress is a list of values, whether the model
            gives them as `[n]` or as `[n, 1]`.
    """

    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor] | None = None
    signature: str = DEFAULT_SIGNATURE
    shaped: bool = True


def write_examples(folder: Path, examples: Iterable[GoldenExample], model: str = "") -> None:
    """Writes the golden examples into a version's folder.

    Args:
        folder: The version's folder.
        examples: At most 1000.
        model: Name of the model that the records name; no version is named, so the folder may be renamed.
    """
    records = [_encode(example, model) for example in examples]
    if len(records) > MAX_RECORDS:
        raise InvalidArgument(f"{len(records)} golden examples are over the limit of {MAX_RECORDS}")
    if sum(map(len, records)) > MAX_BYTES:
        raise InvalidArgument(
            f"The golden examples are over the limit of {MAX_BYTES >> 20} MiB", hint="give fewer rows"
        )
    path = folder / FILE_NAME
    path.parent.mkdir(exist_ok=True)
    with path.open("wb") as file:
        write_records(file, records)


def _encode(example: GoldenExample, model: str) -> bytes:
    spec = ModelSpec(name=model, signature=example.signature)
    response = None if example.outputs is None else PredictResponse(dict(example.outputs), spec)
    return PredictionLog(PredictRequest(spec, dict(example.inputs)), response).encode()


def read_examples(folder: Path) -> list[GoldenExample]:
    """The golden examples of a version's folder; none where the file is missing.

    Raises:
        DataLoss: The file is damaged, or is no TFRecord. In TensorFlow Serving's words.
        ManifestError: It holds what are no PredictionLogs, or is over a limit.
        Unimplemented: It holds a call other than Predict, Classify, Regress and MultiInference.
    """
    path = folder / FILE_NAME
    examples: list[GoldenExample] = []
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ManifestError(f"{path} is over the limit of {MAX_BYTES >> 20} MiB")
        with path.open("rb") as file:
            for count, record in enumerate(_records(file)):
                if count == MAX_RECORDS:
                    raise ManifestError(f"{path} holds more than {MAX_RECORDS} records")
                examples += decode_record(record)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ManifestError(f"{path}: {error.strerror}") from error
    except (InvalidArgument, Unimplemented) as error:
        kind = Unimplemented if isinstance(error, Unimplemented) else ManifestError
        raise kind(f"{path}: {error}", hint=error.hint) from error
    return examples


def _records(file: BinaryIO) -> Iterator[bytes]:
    try:
        yield from read_records(file, max_bytes=MAX_BYTES)
    except InvalidArgument as error:
        asked = "Please verify your warmup data is in TFRecord format."
        raise DataLoss(f"Failed to read a record from {file.name}: {error}. {asked}") from error


def decode_record(record: bytes) -> list[GoldenExample]:
    """The calls of a serialized PredictionLog: one; as many as there are tasks for a MultiInference.

    Raises:
        InvalidArgument: The bytes are no such message.
        Unimplemented: It is a call other than Predict, Classify, Regress and MultiInference.
    """
    calls = read_examples_log(record)
    if calls is not None:
        return [_of_call(call) for call in calls]
    log = PredictionLog.decode(record)
    outputs = None if log.response is None else log.response.outputs
    return [GoldenExample(log.request.inputs, outputs, log.request.spec.signature or DEFAULT_SIGNATURE)]


def _of_call(call: ExamplesCall) -> GoldenExample:
    if not call.examples:
        raise InvalidArgument("Input is empty.")
    inputs = {"inputs": _strings(call.examples, (len(call.examples),))}
    outputs = None
    if call.values is not None:
        outputs = {"outputs": Tensor("FP32", np.array(call.values, np.float32))}
    elif call.classes is not None:
        outputs = _of_classes(call.classes)
    return GoldenExample(inputs, outputs, call.spec.signature or DEFAULT_SIGNATURE, shaped=call.values is None)


def _of_classes(classes: list[Classes]) -> dict[str, Tensor]:
    """Labels and scores as tensors. What is nowhere but empty, or 0, is left out: the model may not have it."""
    counts = {len(row) for row in classes}
    if len(counts) > 1:
        raise InvalidArgument("A classify_log has rows with different numbers of classes")
    shape = (len(classes), counts.pop() if counts else 0)
    labels = [label for row in classes for label, _ in row]
    scores = np.array([score for row in classes for _, score in row], np.float32)
    outputs = {}
    if any(labels):
        outputs["classes"] = _strings([label.encode() for label in labels], shape)
    if scores.any():
        outputs["scores"] = Tensor("FP32", scores.reshape(shape))
    return outputs


def _strings(strings: Sequence[bytes], shape: tuple[int, ...]) -> Tensor:
    array = np.empty(len(strings), object)
    array[:] = strings
    return Tensor("BYTES", array.reshape(shape))


def check(run: Run, examples: Iterable[GoldenExample], tolerance: Mapping[str, Tolerance] | None = None) -> Report:
    """Runs every example and compares the answers with the expected ones.

    An example without expected answers is run all the same, to warm up. An error of `run` goes through.

    Returns:
        One difference for each output, over all examples.
    """
    reports = []
    for example in examples:
        answered = run(example.signature, example.inputs)
        if example.outputs is not None:
            expected = example.outputs if example.shaped else shaped_like(example.outputs, answered)
            reports.append(compare(answered, expected, tolerance))
    return join(reports)


def shaped_like(outputs: Mapping[str, Tensor], answered: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The outputs in the shapes of the answer, where that has as many values."""

    def shaped(name: str, tensor: Tensor) -> Tensor:
        got = answered.get(name)
        if got is None or got.array.size != tensor.array.size:
            return tensor
        return Tensor(tensor.datatype, tensor.array.reshape(got.shape))

    return {name: shaped(name, tensor) for name, tensor in outputs.items()}


def require(report: Report, what: str) -> None:
    """Raises GoldenMismatch, with the table, where a report did not pass."""
    if not report.passed:
        raise GoldenMismatch(f"{what}\n{report.table()}")
