from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from servable.errors import InvalidArgument, Unimplemented
from servable.wire.examples import CLASSIFY, encode_example, read_examples_log, write_input

VALUES = st.one_of(
    st.lists(st.integers(-(2**63), 2**63 - 1), max_size=4),
    st.lists(st.floats(width=32, allow_nan=False), max_size=4),
    st.lists(st.binary(max_size=8), max_size=4),
)


@given(features=st.dictionaries(st.text(max_size=8), VALUES, max_size=4))
def test_an_example_is_read_by_google_as_it_was_given(google, features):
    example = google("tensorflow.Example").FromString(encode_example(features))
    found = {}
    for name, feature in example.features.feature.items():
        kind = feature.WhichOneof("kind")
        found[name] = list(getattr(feature, kind).value) if kind else []
    assert found == features


def test_values_may_be_alone_text_truth_values_and_arrays(google):
    features = {"a": 1, "b": "ä", "c": [True, False], "d": np.array([0.5, 1.5], np.float64), "e": np.int32(7)}
    features = google("tensorflow.Example").FromString(encode_example(features)).features.feature
    assert list(features["a"].int64_list.value) == [1]
    assert list(features["b"].bytes_list.value) == ["ä".encode()]
    assert list(features["c"].int64_list.value) == [1, 0]
    assert list(features["d"].float_list.value) == [0.5, 1.5]
    assert list(features["e"].int64_list.value) == [7]


@pytest.mark.parametrize("values", [[1, 0.5], None, [[1]], 1 << 63, {"a": 1}])
def test_what_is_no_feature_is_refused_by_name(values):
    with pytest.raises(InvalidArgument, match="Feature 'f'"):
        encode_example({"f": values})


def test_a_log_of_google_is_read(google):
    log = google("tensorflow.serving.PredictionLog")()
    request = log.classify_log.request
    request.model_spec.name = "m"
    request.input.ParseFromString(write_input([encode_example({"a": 1})], encode_example({"b": 2})).to_bytes())
    assert request.input.example_list_with_context.context.features.feature["b"].int64_list.value == [2]
    log.classify_log.response.result.classifications.add().classes.add(label="x", score=0.5)
    [call] = read_examples_log(log.SerializeToString()) or []
    assert (call.method, call.spec.name, call.classes) == (CLASSIFY, "m", [[("x", 0.5)]])
    assert call.examples == (encode_example({"b": 2}) + encode_example({"a": 1}),)


@given(st.binary(max_size=80))
def test_no_bytes_raise_anything_but_our_errors(data):
    with contextlib.suppress(InvalidArgument, Unimplemented):
        read_examples_log(data)
