from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tiny_models
from servable.convert.save import save
from servable.errors import InvalidArgument, ManifestError
from servable.model.manifest import FILE_NAME, read_manifest
from servable.model.reference_inputs import reference_inputs
from servable.model.signatures import Signature, TensorSpec
from servable.model.skew import feature_psi, is_skewed, population_stability_index, psi_by_chance
from servable.model.statistics import (
    MAX_CATEGORIES,
    MAX_FEATURES,
    MAX_TEXT,
    Bins,
    describe_tensors,
    feature_values,
    present_values,
)
from servable.model.statistics_json import statistics_from_json, statistics_to_json
from servable.wire.tensors import Tensor

RANDOM = np.random.default_rng(0)


def describe(value, datatype="FP32", shape=None):
    """The features of one input, x."""
    array = np.asarray(value)
    spec = TensorSpec("x", datatype, (-1, *array.shape[1:]) if shape is None else shape)
    inputs = reference_inputs(array, Signature("serving_default", (spec,), ()))
    return describe_tensors(inputs).features


def test_numbers_have_moments_and_deciles():
    [feature] = describe(np.arange(101, dtype=np.float32))
    assert (feature.name, feature.count, feature.missing) == ("x", 101, 0)
    assert (feature.mean, feature.minimum, feature.maximum) == (50, 0, 100)
    assert feature.deviation == pytest.approx(np.arange(101).std())
    assert feature.quantiles == pytest.approx(range(0, 101, 10))
    assert feature.edges == feature.quantiles[1:-1]
    assert sum(feature.counts) == 101
    assert set(feature.counts) <= {9, 10, 11}


def test_each_column_of_a_table_is_a_feature_and_an_image_is_one():
    assert [feature.name for feature in describe(np.ones((9, 3), np.float32))] == ["x[0]", "x[1]", "x[2]"]
    assert [feature.name for feature in describe(np.ones((9, 1), np.float32))] == ["x"]
    [wide] = describe(np.ones((9, 300), np.float32))
    assert (wide.name, wide.count) == ("x", 2700)
    [image] = describe(RANDOM.random((5, 100, 100, 3)).astype(np.float32))
    assert 5 * 3000 < image.count <= 5 * 4096, "evenly spaced"


def test_rows_of_any_length_are_one_feature():
    assert [feature.name for feature in describe(np.ones((9, 3), np.float32), shape=(-1, -1))] == ["x"]


def test_what_is_missing_is_counted_and_left_out_of_the_rest():
    [feature] = describe([1.0, np.nan, 3.0, None])
    assert (feature.count, feature.missing, feature.mean, feature.missing_ratio) == (2, 2, 2.0, 0.5)
    [text] = describe(np.array(["a", "", None, float("nan"), pd.NA, b"b"], object), "BYTES")
    assert (text.count, text.missing, text.categories) == (2, 4, ("a", "b"))
    [nothing] = describe([np.nan, np.nan])
    assert (nothing.count, nothing.missing, nothing.mean, nothing.counts) == (0, 2, None, (0,))


def test_infinite_numbers_are_binned_but_have_no_mean():
    [feature] = describe([*np.linspace(0, 1, 98), np.inf, -np.inf], "FP64")
    assert feature.mean == pytest.approx(0.5)
    assert sum(feature.counts) == 100


def test_categories_are_the_most_frequent_first_and_the_rest_is_others():
    names = [f"c{number}" for number in range(150) for _ in range(150 - number)]
    [feature] = describe(np.array(names, object), "BYTES")
    assert feature.categories[:2] == ("c0", "c1")
    assert len(feature.categories) == MAX_CATEGORIES
    assert feature.counts[0] == 150
    assert feature.counts[-1] == sum(range(1, 51))


def test_long_texts_are_among_the_others():
    [feature] = describe(np.array(["a", "b" * (MAX_TEXT + 1)], object), "BYTES")
    assert (feature.categories, feature.counts) == (("a",), (1, 1))


@pytest.mark.parametrize(
    ("values", "datatype", "categories"),
    [
        (np.repeat([3, 1, 1, 2], 10), "INT64", (1, 2, 3)),
        (np.repeat([0.5, 0.0, 0.0], 10).astype(np.float32), "FP32", (0.0, 0.5)),
        (np.repeat([True, False, True], 10), "BOOL", (1, 0)),
        (np.arange(500), "INT64", ()),
        (np.array([1, 2, 3]), "INT64", ()),
    ],
    ids=["integers", "floats", "booleans", "many", "few"],
)
def test_numbers_of_few_values_are_categories(values, datatype, categories):
    [feature] = describe(values, datatype)
    assert feature.categories == categories
    assert bool(feature.edges) != bool(categories)
    assert feature.mean == pytest.approx(values.mean())


def test_numbers_are_rounded_as_the_model_rounds_them():
    [feature] = describe(np.repeat([0.1, 0.7], 10))
    assert feature.categories == (float(np.float32(0.1)), float(np.float32(0.7)))
    assert Bins(categories=feature.categories).count(np.float64(np.float32([0.1, 9]))).tolist() == [1, 0, 1]


def test_values_below_a_lowest_value_that_is_frequent_are_told_from_it():
    [feature] = describe(np.r_[np.zeros(500), RANDOM.random(500)].astype(np.float32))
    counts = Bins(feature.edges).count(np.full(500, -1.0)).tolist()
    assert feature.counts[0] == 0
    assert counts[0] == 500


def test_only_so_many_features_are_described():
    specs = [TensorSpec(f"x{number}", "FP32", (-1, 200)) for number in range(5)]
    tensor = Tensor("FP32", np.ones((4, 200), np.float32))
    features = describe_tensors([(spec, tensor) for spec in specs]).features
    assert len(features) == 403 <= MAX_FEATURES, "what does not fit is one feature each"


def test_complex_numbers_have_none():
    assert describe(np.ones(3, np.complex64), "COMPLEX64", (-1,)) == ()


@given(st.lists(st.one_of(st.floats(width=32), st.integers(-5, 5).map(float)), min_size=1, max_size=60))
def test_any_numbers_are_described_and_come_back_from_json(values):
    tensor = Tensor("FP32", np.array(values, np.float32))
    found = describe_tensors([(TensorSpec("x", "FP32", (-1,)), tensor)])
    [feature] = found.features
    assert sum(feature.counts) == feature.count
    assert feature.count + feature.missing == len(values)
    there, _ = present_values(feature_values(tensor, None))
    assert Bins(feature.edges, feature.categories).count(there).tolist() == list(feature.counts)
    text = json.dumps(statistics_to_json({"s": found}), allow_nan=False)
    assert statistics_from_json(json.loads(text)) == {"s": found}


# --- where they come from


def test_a_version_keeps_statistics_of_its_examples_or_of_what_is_given(tmp_path):
    x = RANDOM.random((200, 2)).astype(np.float32)
    of_examples = save(tiny_models.double(), tmp_path / "m", examples=x[:40]).manifest.statistics["serving_default"]
    given = save(tiny_models.double(), tmp_path / "m", examples=x[:4], statistics=pd.DataFrame(x, columns=["a", "b"]))
    assert of_examples.rows == 40
    assert given.manifest.statistics["serving_default"].rows == 200
    assert read_manifest(given.path) == given.manifest


def test_a_table_of_training_data_may_hold_more_than_the_inputs(tmp_path):
    table = pd.DataFrame({"a": [1.0, None, 3.0], "b": [1, 2, 3], "label": ["x", "y", "z"]})
    ones = np.ones(2, np.float32)
    version = save(tiny_models.add(), tmp_path / "m", examples={"a": ones, "b": ones}, statistics=table)
    features = version.manifest.statistics["serving_default"].features
    assert [(feature.name, feature.missing) for feature in features] == [("a", 1), ("b", 0)]


@pytest.mark.parametrize(
    "statistics", [{"a": [1.0]}, [1.0], {"a": ["text"], "b": [1.0]}, {"a": [[1], [1, 2]], "b": [1.0]}], ids=range(4)
)
def test_statistics_of_other_inputs_are_refused_and_nothing_is_left(statistics, tmp_path):
    ones = np.ones(2, np.float32)
    with pytest.raises(InvalidArgument, match="statistics="):
        save(tiny_models.add(), tmp_path / "m", examples={"a": ones, "b": ones}, statistics=statistics)
    assert list((tmp_path / "m").iterdir()) == []


def test_of_very_many_rows_evenly_spaced_ones_are_looked_at():
    spec = TensorSpec("x", "FP32", (-1,))
    [(_, tensor)] = reference_inputs(np.arange(2_500_000, dtype=np.float32), Signature("s", (spec,), ()))
    assert tensor.array[:3].tolist() == [0, 3, 6]


FEATURE = {"input": "x", "count": 3, "missing": 0, "counts": [1, 2], "edges": [0.5]}


@pytest.mark.parametrize(
    "feature",
    [
        {"counts": [1]}, {"counts": [1, -2]}, {"counts": [1, 10**400]}, {"counts": [1, True]},
        {"edges": [float("inf")]}, {"edges": ["a"]},
        {"column": -1}, {"column": "a"}, {"mean": "a"}, {"mean": 10**400}, {"categories": [1, "a"]}, {"count": None},
        {"edges": [2.0, 1.0], "counts": [1, 1, 1]}, {"categories": [[]]}, {"edges": 3},
    ],
    ids=str,
)  # fmt: skip
def test_statistics_of_another_form_are_refused(feature, tmp_path):
    version = save(tiny_models.double(), tmp_path / "m", examples=np.ones((2, 2), np.float32))
    data = json.loads((version.path / FILE_NAME).read_text())
    data["statistics"] = {"serving_default": {"rows": 3, "features": [FEATURE | feature]}}
    (version.path / FILE_NAME).write_text(json.dumps(data))
    with pytest.raises(ManifestError, match="serving_default"):
        read_manifest(version.path)


def test_too_many_features_are_refused():
    with pytest.raises(ManifestError, match="at most 512"):
        statistics_from_json({"s": {"rows": 1, "features": [FEATURE] * 513}})
    with pytest.raises(ManifestError, match="64 signatures"):
        statistics_from_json({str(number): {"rows": 1, "features": []} for number in range(65)})


# --- PSI


def test_the_index_is_that_of_the_formula():
    expected, actual = np.array([500.5, 300.5, 200.5]), np.array([200.5, 300.5, 500.5])
    e, a = expected / expected.sum(), actual / actual.sum()
    assert population_stability_index([500, 300, 200], [200, 300, 500]) == pytest.approx(
        ((a - e) * np.log(a / e)).sum()
    )


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=12), st.data())
def test_the_index_is_finite_and_nothing_for_the_same(expected, data):
    actual = data.draw(st.lists(st.integers(0, 10**6), min_size=len(expected), max_size=len(expected)))
    assert 0 <= population_stability_index(expected, actual) < 100
    assert population_stability_index(expected, expected) == 0


def test_samples_of_one_population_are_about_as_far_apart_as_chance_says():
    found, draw = [], np.random.default_rng(1)
    for _ in range(200):
        one, other = (np.bincount(draw.integers(0, 10, rows), minlength=10) for rows in (1000, 500))
        found.append(population_stability_index(one, other))
    assert np.mean(found) == pytest.approx(psi_by_chance(10, 1000, 500), rel=0.2)


@pytest.mark.parametrize("categories", [2, 10, 100])
def test_chance_alone_is_no_skew_however_many_categories(categories):
    draw = np.random.default_rng(categories)
    [feature] = describe(draw.integers(0, categories, 5000), "INT64")
    for _ in range(50):
        values, missing = present_values(draw.integers(0, categories, 300))
        psi = feature_psi(feature, Bins(feature.edges, feature.categories).count(values).tolist(), missing)
        assert not is_skewed(feature, psi, 5000, 300, 0.2)
