"""How named tensors become arguments, and results named outputs."""

from __future__ import annotations

import numpy as np
import pytest

from servable.convert.call import Call, as_served, call_of_examples, golden_of, line_of, name_outputs
from servable.errors import ConversionError
from servable.model.examples import take_examples
from servable.model.golden import GoldenExample
from servable.model.signatures import Signature, TensorSpec
from servable.wire.tensors import as_tensor

A, B = TensorSpec("a", "FP32", (-1,)), TensorSpec("b", "FP32", (-1,))


@pytest.mark.parametrize(
    ("form", "asked"),
    [("list", (([1, 2],), {})), ("dict", (({"a": 1, "b": 2},), {})), ("keywords", ((), {"a": 1, "b": 2}))],
)
def test_a_function_is_called_in_its_own_form(form, asked):
    assert Call((A, B), form).ask(lambda *args, **keywords: (args, keywords), {"a": 1, "b": 2}) == asked


def test_a_call_is_the_same_after_it_went_to_another_process():
    call = Call((A, TensorSpec("b", "BYTES", (-1, 2))), "keywords")
    assert Call.from_json(call.to_json()) == call


@pytest.mark.parametrize("value", [{"b": 2, "a": 1}, [1, 2], (1, 2)])
def test_what_a_function_would_be_called_with_is_named(value):
    assert Call((A, B), "dict").named(value) == {"a": 1, "b": 2}


def test_examples_show_datatypes_and_shapes():
    examples = take_examples({"x": np.zeros((2, 3)), "n": np.array([1, 2]), "s": ["a", "b"]})
    specs = call_of_examples(examples).specs
    assert [str(spec) for spec in specs] == ["x: FP32 [-1, 3]", "n: INT64 [-1]", "s: BYTES [-1]"]
    assert call_of_examples(examples, "FP64").specs[0].datatype == "FP64"


def test_a_column_with_a_gap_among_strings_is_refused_by_name():
    with pytest.raises(ConversionError, match="Examples of 's'"):
        call_of_examples(take_examples({"s": np.array(["a", None], object)}))


@pytest.mark.parametrize(
    ("value", "names", "expected"),
    [
        (1, ["dense"], {"outputs": 1}),
        ({"x": 1}, ["dense"], {"x": 1}),
        ([1, 2], ["left", "right"], {"left": 1, "right": 2}),
        ([1, 2], ["dense", "dense"], {"output_0": 1, "output_1": 2}),
        ((1, 2), [], {"output_0": 1, "output_1": 2}),
    ],
)
def test_outputs_are_named(value, names, expected):
    assert name_outputs(value, names) == expected


def test_an_answer_that_is_no_tensor_is_named():
    examples = take_examples([1.0, 2.0])
    with pytest.raises(ConversionError, match="Output 'y'"):
        golden_of(lambda _: {"y": np.array([{}, {}])}, call_of_examples(examples), examples)


@pytest.mark.parametrize(("answered", "served"), [("INT32", "INT64"), ("FP64", "FP32")])
def test_answers_are_kept_in_the_datatype_that_is_served(answered, served):
    example = GoldenExample({}, {"y": as_tensor([1, 2], answered)})
    (kept,) = as_served([example], [Signature("serving_default", (), (TensorSpec("y", served, (-1,)),))])
    assert kept.outputs["y"].datatype == served


def test_an_answer_of_another_kind_is_left_for_the_proof_to_refuse():
    example = GoldenExample({}, {"y": as_tensor([1.5, 2], "FP32")})
    (kept,) = as_served([example], [Signature("serving_default", (), (TensorSpec("y", "INT64", (-1,)),))])
    assert kept.outputs["y"].datatype == "FP32"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a  b\n c\n\nmore", "a b c"),
        ("in user code:\n\n  File x\n\n  ValueError: no", "ValueError: no"),
        ("Exception encountered when calling Dense.call().\n\n\x1b[1mbad\x1b[0m\n\nArguments", None),
        ("could not load:\n\nthe vocabulary", "could not load: the vocabulary"),
        ("", "ValueError"),
    ],
)
def test_a_long_error_becomes_the_line_that_counts(text, line):
    assert line_of(ValueError(text)) == (line or "Exception encountered when calling Dense.call(). bad")
