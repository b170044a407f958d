"""DataFrames as inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from servable.client import Client
from servable.client.values import to_tensors
from servable.errors import InvalidArgument
from servable.model.signatures import Signature, TensorSpec


def signature(**inputs: tuple[str, tuple[int, ...] | None]) -> Signature:
    return Signature("serving_default", tuple(TensorSpec(name, *spec, name) for name, spec in inputs.items()), ())


PRICES = signature(area=("FP32", (-1,)), rooms=("INT64", (-1, 1)), city=("BYTES", (-1,)))
MATRIX = signature(x=("FP32", (-1, 2)))


def test_columns_are_inputs_by_name_in_the_models_dtypes_and_shapes() -> None:
    frame = pd.DataFrame({"city": ["Bonn", "Köln"], "area": [70, 80], "rooms": [3, 4]})
    found = to_tensors(frame, PRICES)
    assert found["area"].array.dtype == np.float32
    assert found["rooms"].array.tolist() == [[3], [4]]
    assert found["city"].array.tolist() == [b"Bonn", "Köln".encode()]


@pytest.mark.parametrize("values", [[1.5, None], pd.array([1, None], "Int64"), np.array([1.5, pd.NA], object)])
def test_a_missing_number_is_nan(values: Any) -> None:
    found = to_tensors(pd.DataFrame({"a": values}), signature(a=("FP32", (-1,))))
    assert np.isnan(found["a"].array).tolist() == [False, True]


def test_a_missing_integer_is_refused() -> None:
    frame = pd.DataFrame({"n": pd.array([1, None], "Int64")})
    with pytest.raises(InvalidArgument, match="Values of 'n' are missing, and INT64 has no NaN"):
        to_tensors(frame, signature(n=("INT64", (-1,))))


def test_for_one_input_of_another_name_the_columns_are_a_matrix() -> None:
    found = to_tensors(pd.DataFrame({"a": [1, 2], "b": [0.5, 1.5]}), MATRIX)
    np.testing.assert_array_equal(found["x"].array, np.array([[1, 0.5], [2, 1.5]], np.float32), strict=True)


def test_cells_may_be_arrays_of_one_shape() -> None:
    found = to_tensors(pd.DataFrame({"x": [[1, 2], [3, 4]]}), MATRIX)
    assert found["x"].array.tolist() == [[1, 2], [3, 4]]
    with pytest.raises(InvalidArgument, match="differ in shape"):
        to_tensors(pd.DataFrame({"x": [[1, 2], [3]]}), MATRIX)


def test_cells_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="'a'"):
        to_tensors(pd.DataFrame({"a": [1, "many"]}), signature(a=("FP32", (-1,))))


def test_two_columns_of_one_name_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="same name"):
        to_tensors(pd.DataFrame([[1.0, 2.0]], columns=["x", "x"]), MATRIX)


def test_a_frame_travels_to_a_server(real_server: Any) -> None:
    with Client(real_server.rest) as client:
        answer = client.predict("m", pd.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0]}))
    np.testing.assert_array_equal(answer, [[3, 9], [6, 12]])
