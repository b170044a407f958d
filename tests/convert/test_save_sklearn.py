from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_digits, load_iris
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
    StackingClassifier,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.svm import SVC, LinearSVC
from sklearn_saving import one_thread, saved  # noqa: F401  # a fixture

from servable.convert.save import save
from servable.errors import ConversionError, GoldenMismatch

IRIS, SPECIES = load_iris(return_X_y=True)
NAMES = load_iris().target_names[SPECIES]
PEOPLE = pd.DataFrame(
    {"age": [20, 30, np.nan, 50] * 10, "n rooms": [1, 2, 3, 4] * 10, "job": ["a", "b", "c", "a"] * 10}
)
BOUGHT = np.array([0, 1, 0, 1] * 10)


def by_columns():
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    jobs = OneHotEncoder(handle_unknown="ignore")
    columns = ColumnTransformer([("numbers", numbers, ["age", "n rooms"]), ("jobs", jobs, ["job"])])
    return make_pipeline(columns, LogisticRegression()).fit(PEOPLE, BOUGHT)


def test_a_pipeline_answers_as_it_did_on_all_digits(tmp_path):
    x, y = load_digits(return_X_y=True)
    model = make_pipeline(StandardScaler(), MLPClassifier([16], max_iter=300, random_state=0)).fit(x, y)
    with saved(model, tmp_path, x[:8]) as servable:
        answer = servable.predict(x)
        assert servable.batch_safe is True
    np.testing.assert_allclose(answer["probabilities"], model.predict_proba(x), atol=1e-5)
    assert (answer["label"] == model.predict(x)).all()


@pytest.mark.parametrize(
    ("model", "signature"),
    [
        (LogisticRegression(max_iter=500), "label: INT64 [-1], probabilities: FP32 [-1, 3]"),
        (RandomForestClassifier(5), "label: INT64 [-1], probabilities: FP32 [-1, 3]"),
        (LinearSVC(), "label: INT64 [-1], scores: FP32 [-1, 3]"),
        (SVC(), "label: INT64 [-1], scores: FP32 [-1, 3]"),
        (LinearRegression(), "predictions: FP32 [-1]"),
        (RandomForestRegressor(5), "predictions: FP32 [-1]"),
        (IsolationForest(n_estimators=10), "label: INT64 [-1], scores: FP32 [-1]"),
        (StandardScaler(), "outputs: FP32 [-1, 4]"),
    ],
    ids=lambda each: type(each).__name__,
)
def test_outputs_are_named_and_shaped_by_the_kind_of_estimator(tmp_path, model, signature):
    model.fit(IRIS, SPECIES)
    with saved(model, tmp_path, IRIS[::10]) as servable:
        assert str(servable.signatures["serving_default"]) == f"serving_default(inputs: FP32 [-1, 4]) -> {signature}"


def votes(**arguments):
    parts = [("a", LogisticRegression(max_iter=500)), ("gone", "drop"), ("b", GaussianNB())]
    return VotingClassifier(parts, weights=[1, 5, 2], **arguments)


@pytest.mark.parametrize(
    "model",
    [
        votes(voting="soft"),
        votes(voting="hard"),
        VotingRegressor([("a", LinearRegression()), ("gone", "drop"), ("b", KNeighborsRegressor())], weights=[1, 5, 2]),
        CalibratedClassifierCV(LinearSVC()),
        CalibratedClassifierCV(HistGradientBoostingClassifier(max_iter=3), cv=2),
        StackingClassifier([("a", GaussianNB()), ("b", HistGradientBoostingClassifier(max_iter=3))], cv=2),
        GridSearchCV(make_pipeline(StandardScaler(), SVC()), {"svc__C": [1, 10]}, cv=2),
        GaussianProcessRegressor(alpha=0.1),
        KNeighborsRegressor(),
        OneVsRestClassifier(LogisticRegression()),
    ],
    ids=lambda each: " ".join(str(each).split())[:50],
)
def test_ensembles_and_neighbours_answer_alike(tmp_path, model):
    assert save(model.fit(IRIS, SPECIES), tmp_path / "m", examples=IRIS[::3], datatype="FP64").number == 1


def test_labels_that_are_strings_stay_strings(tmp_path):
    with saved(LogisticRegression(max_iter=500).fit(IRIS, NAMES), tmp_path, IRIS[::10]) as servable:
        assert servable.predict(IRIS[:1])["label"].tolist() == [b"setosa"]


@pytest.mark.parametrize("labels", [SPECIES > 0, SPECIES.astype(float)], ids=["bool", "float"])
def test_labels_of_other_kinds_are_integers(tmp_path, labels):
    with saved(LogisticRegression(max_iter=500).fit(IRIS, labels), tmp_path, IRIS[::10]) as servable:
        assert servable.predict(IRIS[:1])["label"].dtype == np.int64


def test_the_input_can_be_named(tmp_path):
    model = LinearRegression().fit(IRIS, SPECIES)
    with saved(model, tmp_path, IRIS[:4], input_name="sizes in cm") as servable:
        assert servable.predict({"sizes in cm": IRIS[:1]}).shape == (1,)


def test_several_predictions_a_row_keep_their_shape(tmp_path):
    both = np.stack([SPECIES, SPECIES + 1], 1)
    with saved(LinearRegression().fit(IRIS, both), tmp_path, IRIS[:4]) as servable:
        assert servable.predict(IRIS[:3]).shape == (3, 2)
    with saved(MultiOutputClassifier(LogisticRegression(max_iter=500)).fit(IRIS, both), tmp_path, IRIS[:4]) as servable:
        assert servable.predict(IRIS[:3]).shape == (3, 2)


def test_a_table_becomes_one_input_a_column(tmp_path):
    model = by_columns()
    with saved(model, tmp_path, PEOPLE[:4]) as servable:
        shown = str(servable.signatures["serving_default"])
        assert shown.startswith("serving_default(age: FP32 [-1], n rooms: FP32 [-1], job: BYTES [-1])")
        new = pd.DataFrame({"age": [33, np.nan], "n rooms": [1, 2], "job": ["b", "never seen"]})
        answer = servable.predict({name: new[name].to_numpy() for name in new})
    np.testing.assert_allclose(answer["probabilities"], model.predict_proba(new), atol=1e-6)


def test_a_dict_of_columns_is_as_good_as_a_table(tmp_path):
    columns = {name: PEOPLE[name].to_numpy()[:4] for name in PEOPLE}
    with saved(by_columns(), tmp_path, columns) as servable:
        assert len(servable.signatures["serving_default"].inputs) == 3


@pytest.mark.parametrize("table", [pd.DataFrame(IRIS, columns=list("abcd")), None], ids=["table", "array"])
def test_columns_are_put_together_for_a_model_that_takes_one_table(tmp_path, table):
    model = RandomForestClassifier(5).fit(IRIS if table is None else table, SPECIES)
    columns = {name: IRIS[::10, position] for position, name in enumerate("abcd")}
    with saved(model, tmp_path, columns) as servable:
        answer = servable.predict({name: IRIS[:, position] for position, name in enumerate("abcd")})
    assert (answer["label"] == model.predict(IRIS if table is None else table)).all()


def test_numbers_that_float32_cannot_tell_apart_are_refused_and_float64_helps(tmp_path):
    model = LinearRegression().fit(IRIS + 1e7, SPECIES)
    with pytest.raises(GoldenMismatch, match="predictions") as caught:
        save(model, tmp_path / "m", examples=IRIS[:8] + 1e7)
    assert 'datatype="FP64"' in (caught.value.hint or "")
    assert save(model, tmp_path / "m", examples=IRIS[:8] + 1e7, datatype="FP64").number == 1


@pytest.mark.parametrize("model", [KMeans(3, random_state=0), KNeighborsClassifier()], ids=lambda m: type(m).__name__)
def test_distances_are_exact_in_float64(tmp_path, model):
    model.fit(IRIS, SPECIES)
    assert save(model, tmp_path / "m", examples=IRIS[::10], datatype="FP64").manifest.batch_safe is True


@pytest.mark.parametrize(
    ("model", "examples", "message"),
    [
        (LogisticRegression(), IRIS, "not fitted"),
        (LinearRegression().fit(IRIS, SPECIES), IRIS[:, :3], "X has 3 features"),
        (LinearRegression().fit(IRIS, SPECIES), IRIS[0], "Expected 2D array"),
        (FunctionTransformer(np.log1p).fit(IRIS), IRIS, "FunctionTransformer cannot be written as ONNX"),
        (by_columns(), {"age": [1.0], "n rooms": [1, 2], "job": ["a"]}, "different lengths: age"),
        (by_columns(), {**PEOPLE[:4].to_dict("list"), "age": np.ones((4, 2))}, "Column 'age' has 2 dimensions"),
    ],
    ids=["unfitted", "features", "one dimension", "function", "lengths", "column"],
)
def test_what_cannot_be_converted_is_refused_and_leaves_nothing(tmp_path, model, examples, message):
    with pytest.raises(ConversionError, match=message):
        save(model, tmp_path / "m", examples=examples[:8] if not isinstance(examples, dict) else examples)
    assert list((tmp_path / "m").iterdir()) == []


def test_an_input_with_the_name_of_an_output_is_refused(tmp_path):
    with pytest.raises(ConversionError, match="'label'"):
        save(LogisticRegression(max_iter=500).fit(IRIS, SPECIES), tmp_path / "m", examples=IRIS[:4], input_name="label")


def test_packages_are_recorded(tmp_path):
    version = save(LinearRegression().fit(IRIS, SPECIES), tmp_path / "m", examples=IRIS[:4])
    assert {"scikit-learn", "skl2onnx", "onnx", "numpy", "python"} <= set(version.manifest.frameworks)
