"""Raw columns and text, gaps and unknown categories included, come out as in scikit-learn."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import requests
from sklearn.compose import ColumnTransformer, make_column_selector, make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn_saving import one_thread, saved  # noqa: F401  # a fixture
from tabular_data import DIABETES, EARNS, IRIS, NAMES, PEOPLE, PROGRESS, RICH, SPECIES, TUMOURS, sent, strangers

from servable.convert.save import save
from servable.errors import ConversionError, GoldenMismatch

pytestmark = pytest.mark.filterwarnings("ignore:Found unknown categories")
HIST = {"max_iter": 10}


def on_columns(encoder, names, last=None):
    before = ColumnTransformer([("encoder", encoder, names)])
    return make_pipeline(before, last or LogisticRegression()).fit(PEOPLE, RICH)


IGNORE = {"handle_unknown": "ignore"}
KNOWN = {"handle_unknown": "use_encoded_value", "unknown_value": -1}


@pytest.mark.parametrize("datatype", ["FP32", "FP64"])
@pytest.mark.parametrize(
    "encoder",
    [
        OneHotEncoder(**IGNORE),
        OneHotEncoder(**IGNORE, drop="first"),
        OneHotEncoder(**IGNORE, drop="if_binary", sparse_output=False),
        OneHotEncoder(**IGNORE, max_categories=3),
        OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=45),
        OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=45, drop="first"),
        OrdinalEncoder(**KNOWN, encoded_missing_value=-2),
        OrdinalEncoder(**KNOWN, encoded_missing_value=-2, max_categories=3),
        make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(**IGNORE)),
        make_pipeline(SimpleImputer(strategy="constant", fill_value="none"), OneHotEncoder(**IGNORE)),
    ],
    ids=lambda each: each if isinstance(each, str) else " ".join(str(each).split())[:90],
)
def test_strings_with_gaps_and_unknown_ones_are_encoded_as_in_training(tmp_path, encoder, datatype):
    model = on_columns(encoder, ["job"])
    with saved(model, tmp_path, PEOPLE[["job"]], datatype=datatype) as servable:
        answer = servable.predict(sent(strangers()[["job"]]))
    np.testing.assert_allclose(answer["probabilities"], model.predict_proba(strangers()), atol=1e-6)


@pytest.mark.parametrize("datatype", ["FP32", "FP64"])
@pytest.mark.parametrize(
    "encoder",
    [
        SimpleImputer(),
        SimpleImputer(strategy="median", add_indicator=True),
        SimpleImputer(missing_values=3, strategy="constant", fill_value=7),
        OneHotEncoder(**IGNORE),
        OrdinalEncoder(**KNOWN, encoded_missing_value=-2),
    ],
    ids=lambda each: each if isinstance(each, str) else str(each),
)
def test_numbers_with_gaps_are_encoded_as_in_training(tmp_path, encoder, datatype):
    names = ["grade", "member"] if getattr(encoder, "missing_values", None) == 3 else ["age", "grade", "member"]
    model = on_columns(make_pipeline(encoder, StandardScaler(with_mean=False)), names)
    new = PEOPLE[names].assign(grade=4)
    with saved(model, tmp_path, PEOPLE[names], datatype=datatype) as servable:
        assert "member: BOOL [-1]" in str(servable.signatures["serving_default"])
        answer = servable.predict(sent(new))
    np.testing.assert_allclose(answer["probabilities"], model.predict_proba(new), atol=1e-6)


def test_transformers_inside_transformers_answer_alike(tmp_path):
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    inner = ColumnTransformer([("n", numbers, ["age"]), ("j", OneHotEncoder(**IGNORE), ["job"])])
    outer = ColumnTransformer([("inner", inner, ["age", "job"])], remainder="passthrough")
    model = make_pipeline(outer, LogisticRegression()).fit(PEOPLE, RICH)
    with saved(model, tmp_path, PEOPLE[:40]) as servable:
        answer = servable.predict(sent(strangers()))
    np.testing.assert_allclose(answer["probabilities"], model.predict_proba(strangers()), atol=1e-5)


def test_columns_may_be_chosen_by_their_kind(tmp_path):
    texts = (OneHotEncoder(**IGNORE), make_column_selector(dtype_include=["object", "string"]))
    numbers = (SimpleImputer(), make_column_selector(dtype_include="number"))
    model = make_pipeline(make_column_transformer(texts, numbers), LogisticRegression()).fit(PEOPLE, RICH)
    assert save(model, tmp_path / "m", examples=PEOPLE).number == 1


def test_an_encoder_alone_takes_numbers_and_strings_side_by_side(tmp_path):
    model = OneHotEncoder(**IGNORE).fit(PEOPLE[["job", "grade"]])
    with saved(model, tmp_path, PEOPLE[["job", "grade"]][:40]) as servable:
        new = strangers()[["job", "grade"]]
        assert (servable.predict(sent(new)) == model.transform(new).toarray()).all()


@pytest.mark.parametrize("datatype", ["FP32", "FP64"])
@pytest.mark.parametrize(
    ("model", "x", "y"),
    [
        (HistGradientBoostingClassifier(**HIST), TUMOURS, TUMOURS[:, 0] > 14),
        (HistGradientBoostingClassifier(**HIST), IRIS, NAMES),
        (HistGradientBoostingClassifier(**HIST, early_stopping=True), IRIS, SPECIES),
        (HistGradientBoostingRegressor(**HIST), DIABETES, PROGRESS),
        (HistGradientBoostingRegressor(**HIST, loss="poisson"), DIABETES, PROGRESS),
        (HistGradientBoostingRegressor(**HIST, loss="quantile", quantile=0.9), DIABETES, PROGRESS),
    ],
    ids=["two classes", "names", "early stopping", "regression", "counts", "quantile"],
)
def test_histogram_trees_answer_for_every_row(tmp_path, model, x, y, datatype):
    assert save(model.fit(x, y), tmp_path / "m", examples=x, datatype=datatype).manifest.batch_safe is True


def test_histogram_trees_take_categories_by_name_and_unknown_ones_for_missing(tmp_path):
    table = PEOPLE.astype({"job": "category"})
    model = HistGradientBoostingRegressor(**HIST, categorical_features="from_dtype").fit(table, EARNS)
    new = strangers().astype({"job": "category"})
    with saved(model, tmp_path, table) as servable:
        np.testing.assert_allclose(servable.predict(sent(new)), model.predict(new), rtol=1e-5)


def test_a_fitted_transformer_goes_before_the_model(tmp_path):
    before = ColumnTransformer([("n", SimpleImputer(), ["age"]), ("j", OneHotEncoder(**IGNORE), ["job"])])
    model = LogisticRegression(max_iter=1000).fit(before.fit_transform(PEOPLE), RICH)
    with saved(model, tmp_path, PEOPLE[["age", "job"]][:40], preprocess=before) as servable:
        answer = servable.predict(sent(strangers()[["age", "job"]]))
    expected = model.predict_proba(before.transform(strangers()[["age", "job"]]))
    np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-6)


def test_gaps_and_booleans_go_through_json(models, start):
    jobs = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(**IGNORE))
    before = ColumnTransformer([("a", SimpleImputer(), ["age", "member"]), ("j", jobs, ["job"])])
    model = make_pipeline(before, LogisticRegression(max_iter=1000)).fit(PEOPLE, RICH)
    save(model, models / "people", examples=PEOPLE[["age", "member", "job"]][:8])
    new = strangers()[["age", "member", "job"]][:20]
    body = json.dumps({"inputs": {name: column.tolist() for name, column in sent(new).items()}})
    answer = requests.post(f"http://{start().addresses.rest}/v1/models/people:predict", body, timeout=20)
    assert answer.status_code == 200, answer.text
    np.testing.assert_allclose(answer.json()["outputs"]["probabilities"], model.predict_proba(new), atol=1e-5)


WORDS = ["good day, Sir", "bad Day 12", "fine night's sleep", "Äpfel und Öl", "naïve café, résumé", "Привет мир", ""]
VECTORIZERS = [
    TfidfVectorizer(),
    TfidfVectorizer(ngram_range=(1, 2)),
    TfidfVectorizer(sublinear_tf=True, stop_words="english"),
    TfidfVectorizer(lowercase=False, token_pattern="[a-z]+"),
    CountVectorizer(binary=True),
    CountVectorizer(analyzer="char", ngram_range=(1, 2)),
]


@pytest.mark.parametrize("vectorizer", VECTORIZERS, ids=str)
def test_text_is_split_into_words_as_in_training_in_every_language(tmp_path, vectorizer):
    model = make_pipeline(vectorizer, LogisticRegression()).fit(WORDS * 4, [1, 0, 1, 1, 0, 0, 1] * 4)
    new = np.array(["Good Sir", "ÄPFEL_x ÖL a", "ПРИВЕТ, мир!", "日本語 ½ x²", "nothing known", "", "é"])
    with saved(model, tmp_path, WORDS) as servable:
        answer = servable.predict(new)
    np.testing.assert_allclose(answer["probabilities"], model.predict_proba(new), atol=1e-6)


def test_text_beside_other_columns_is_split_alike(tmp_path):
    table = pd.DataFrame({"text": WORDS * 4, "length": [float(len(words)) for words in WORDS * 4]})
    before = ColumnTransformer([("t", TfidfVectorizer(), "text"), ("n", "passthrough", ["length"])])
    model = make_pipeline(before, LogisticRegression(max_iter=1000)).fit(table, [1, 0, 1, 1, 0, 0, 1] * 4)
    assert save(model, tmp_path / "m", examples=table).number == 1


def test_text_that_onnx_splits_otherwise_is_refused(tmp_path):
    model = make_pipeline(CountVectorizer(analyzer="char"), LogisticRegression())
    model.fit(["a  b", "bad day"] * 10, [1, 0] * 10)
    with pytest.raises(GoldenMismatch, match="probabilities") as caught:
        save(model, tmp_path / "m", examples=["a  b", "bad day"])
    assert "another way" in (caught.value.hint or "")
    assert list((tmp_path / "m").iterdir()) == []


def a_function(table):
    return table


NO_WAY = [
    ({"preprocess": a_function}, PEOPLE[["grade"]], "the function a_function"),
    ({"preprocess": 3}, PEOPLE[["grade"]], "an object of type int"),
    ({}, PEOPLE[["grade"]].assign(day=pd.Timestamp("2024-01-01")), "Examples of 'day'.*datetime64"),
    ({"signatures": {"other": a_function}}, PEOPLE[["grade"]], "takes no signatures="),
    ({"format": "tflite"}, PEOPLE[["grade"]], "cannot be written as 'tflite'"),
]


@pytest.mark.parametrize(
    ("arguments", "examples", "message"), NO_WAY, ids=["function", "object", "date", "signatures", "format"]
)
def test_what_has_no_way_into_onnx_is_refused_by_name(tmp_path, arguments, examples, message):
    model = on_columns("passthrough", ["grade"])
    with pytest.raises(ConversionError, match=message) as caught:
        save(model, tmp_path / "m", examples=examples, **arguments)
    assert caught.value.hint


def test_strings_and_marks_of_gaps_in_one_table_are_refused(tmp_path):
    model = on_columns(
        make_pipeline(SimpleImputer(strategy="most_frequent", add_indicator=True), OneHotEncoder()), ["job"]
    )
    with pytest.raises(ConversionError, match="add_indicator=True") as caught:
        save(model, tmp_path / "m", examples=PEOPLE)
    assert "MissingIndicator" in (caught.value.hint or "")


def test_what_was_written_and_does_not_run_is_an_error_of_the_conversion(tmp_path):
    model = make_pipeline(KNNImputer(), LogisticRegression(max_iter=1000)).fit(IRIS, SPECIES)
    with pytest.raises(ConversionError, match=r"does not run: .*knn_imputer") as caught:
        save(model, tmp_path / "m", examples=IRIS[:8])
    assert caught.value.hint
    assert list((tmp_path / "m").iterdir()) == []
