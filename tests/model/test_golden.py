from __future__ import annotations

import numpy as np
import pytest

from servable.errors import DataLoss, GoldenMismatch, InvalidArgument, ManifestError, NotFound, Unimplemented
from servable.model.golden import FILE_NAME, GoldenExample, check, read_examples, require, write_examples
from servable.wire.examples import CLASSIFY, REGRESS, write_input
from servable.wire.predict import ModelSpec
from servable.wire.protobuf import Writer
from servable.wire.tensors import as_tensor
from servable.wire.tfrecord import write_records

X = as_tensor(np.arange(4, dtype=np.float32).reshape(2, 2))


def doubled(signature, inputs):
    return {"y": as_tensor(inputs["x"].array * np.float32(2))}


def example(factor=2):
    return GoldenExample({"x": X}, {"y": as_tensor(X.array * np.float32(factor))})


def write_raw(folder, *records):
    path = folder / FILE_NAME
    path.parent.mkdir()
    with path.open("wb") as file:
        write_records(file, records)


def test_examples_come_back(tmp_path):
    write_examples(tmp_path, [example(), GoldenExample({"x": X}, None, "other")], "digits")
    first, second = read_examples(tmp_path)
    assert first.inputs["x"].array.tolist() == X.array.tolist()
    assert first.outputs["y"].array.tolist() == (X.array * 2).tolist()
    assert (first.signature, second.signature) == ("serving_default", "other")
    assert second.outputs is None


def test_a_folder_without_examples_has_none(tmp_path):
    assert read_examples(tmp_path) == []


def test_a_version_that_answers_as_expected_passes():
    assert check(doubled, [example(), example()]).passed


def test_a_version_that_answers_otherwise_is_refused_with_a_table():
    with pytest.raises(GoldenMismatch, match=r"y +FP32 +3 of 4"):
        require(check(doubled, [example(3)]), "models/digits/1 answers otherwise:")


def test_examples_without_answers_are_run_to_warm_up():
    ran = []
    report = check(lambda signature, inputs: ran.append(signature) or {}, [GoldenExample({"x": X}, None, "s")])
    assert report.passed
    assert ran == ["s"]


def test_an_error_of_the_model_goes_through():
    def fails(signature, inputs):
        raise NotFound("no such signature")

    with pytest.raises(NotFound):
        check(fails, [example()])


def test_the_thousand_and_first_record_is_refused(tmp_path):
    write_raw(tmp_path, *[b""] * 1001)
    with pytest.raises(ManifestError, match="more than 1000"):
        read_examples(tmp_path)
    with pytest.raises(InvalidArgument, match="limit of 1000"):
        write_examples(tmp_path, [example()] * 1001)


def test_a_damaged_file_is_refused_with_its_path(tmp_path):
    (tmp_path / "assets.extra").mkdir()
    (tmp_path / FILE_NAME).write_bytes(b"not a record file at all")
    with pytest.raises(DataLoss, match=r"tf_serving_warmup_requests.*TFRecord"):
        read_examples(tmp_path)


def test_a_record_that_is_no_prediction_log_is_refused(tmp_path):
    write_raw(tmp_path, b"\xff\xff\xff")
    with pytest.raises(ManifestError, match="Malformed"):
        read_examples(tmp_path)


def test_a_record_of_another_call_is_unimplemented(tmp_path):
    write_raw(tmp_path, Writer().data(5, b"").to_bytes())
    with pytest.raises(Unimplemented, match="session_run_log"):
        read_examples(tmp_path)


def with_float(writer, field, value):
    return writer._add(bytes([field << 3 | 5]) + np.float32(value).tobytes())


def examples_request(*examples, signature=""):
    return Writer().message(1, ModelSpec("m", signature=signature).write()).message(2, write_input(examples))


def regress_log(values, *examples, signature=""):
    result = Writer()
    for value in values:
        result.message(1, with_float(Writer(), 1, value))
    log = Writer().message(1, examples_request(*examples, signature=signature)).message(2, Writer().message(1, result))
    return Writer().message(3, log).to_bytes()


def test_a_classify_log_is_run_and_compared(tmp_path):
    classes = Writer()
    for label, score in [("no", 0.25), ("yes", 0.75)]:
        classes.message(1, with_float(Writer().text(1, label), 2, score))
    response = Writer().message(1, Writer().message(1, classes))
    log = Writer().message(1, examples_request(b"abc", signature="s")).message(2, response)
    write_raw(tmp_path, Writer().message(2, log).to_bytes())
    [found] = read_examples(tmp_path)
    assert found.signature == "s"
    assert found.inputs["inputs"].array.tolist() == [b"abc"]
    answer = {"classes": as_tensor([["no", "yes"]]), "scores": as_tensor(np.array([[0.25, 0.75]], np.float32))}
    assert check(lambda signature, inputs: answer, [found]).passed
    other = {**answer, "scores": as_tensor(np.array([[0.5, 0.5]], np.float32))}
    assert not check(lambda signature, inputs: other, [found]).passed


@pytest.mark.parametrize("shape", [(2,), (2, 1)])
def test_a_regress_log_fits_both_shapes_of_an_answer(tmp_path, shape):
    write_raw(tmp_path, regress_log([1.0, 2.0], b"a", b"bc"))
    [found] = read_examples(tmp_path)
    answer = {"outputs": as_tensor(np.array([1, 2], np.float32).reshape(shape))}
    assert check(lambda signature, inputs: answer, [found]).passed
    other = {"outputs": as_tensor(np.array([1, 3], np.float32).reshape(shape))}
    assert not check(lambda signature, inputs: other, [found]).passed


def test_a_multi_inference_log_is_one_example_for_each_task(tmp_path):
    request = Writer()
    for signature, method in [("a", CLASSIFY), ("b", REGRESS)]:
        request.message(1, Writer().message(1, ModelSpec("m", signature=signature).write()).text(2, method))
    request.message(2, write_input([b"x"], context=b"c"))
    write_raw(tmp_path, Writer().message(4, Writer().message(1, request)).to_bytes())
    first, second = read_examples(tmp_path)
    assert (first.signature, second.signature) == ("a", "b")
    assert first.inputs["inputs"].array.tolist() == second.inputs["inputs"].array.tolist() == [b"cx"]
    assert first.outputs is None


def test_a_log_without_examples_is_refused(tmp_path):
    write_raw(tmp_path, regress_log([]))
    with pytest.raises(ManifestError, match="Input is empty"):
        read_examples(tmp_path)


def test_a_huge_file_is_refused_without_reading_it(tmp_path):
    (tmp_path / "assets.extra").mkdir()
    with (tmp_path / FILE_NAME).open("wb") as file:
        file.truncate((1 << 30) + 1)
    with pytest.raises(ManifestError, match="limit of 1024 MiB"):
        read_examples(tmp_path)
