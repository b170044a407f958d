"""Boosted trees of XGBoost and LightGBM answer as they do in their own frameworks: gaps and categories included."""

from __future__ import annotations

import json
import subprocess
import sys

import lightgbm as lgb
import numpy as np
import onnx
import pandas as pd
import pytest
import requests
import xgboost as xgb
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import StackingRegressor, VotingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn_saving import one_thread, saved  # noqa: F401  # a fixture
from tabular_data import BENIGN, DIABETES, EARNS, IRIS, NAMES, PEOPLE, PROGRESS, RICH, SPECIES, TUMOURS, sent, strangers

from servable.convert.save import save
from servable.errors import ConversionError, GoldenMismatch, ServableError
from servable.model.load import load

pytestmark = [
    pytest.mark.boosting,
    pytest.mark.filterwarnings("ignore:X does not have valid feature names"),
    pytest.mark.filterwarnings("ignore::UserWarning:xgboost.*"),
    pytest.mark.filterwarnings("ignore:The argument 'eval_set' is deprecated"),
    pytest.mark.filterwarnings("ignore::UserWarning:lightgbm.*"),
]
LIGHT = {"n_estimators": 10, "verbose": -1, "n_jobs": 1}
XGB = {"n_estimators": 10, "n_jobs": 1}
# LightGBM takes for zero what is smaller than 1e-35.
ZEROS = np.select([np.abs(DIABETES) > 0.02, DIABETES > 0.01, DIABETES < 0.01], [DIABETES, 1e-36, 0.0], np.nan)


def forests():
    """Models with their data; all rows are examples, so that the proof is on all of them."""
    yield "xgboost two classes", xgb.XGBClassifier(**XGB), TUMOURS, BENIGN
    yield "xgboost three classes", xgb.XGBClassifier(**XGB), IRIS, SPECIES
    yield "xgboost base score", xgb.XGBClassifier(base_score=0.2, **XGB), TUMOURS, BENIGN
    yield "xgboost hinge", xgb.XGBClassifier(objective="binary:hinge", **XGB), TUMOURS, BENIGN
    yield "xgboost regression", xgb.XGBRegressor(**XGB), DIABETES, PROGRESS
    yield "xgboost dart", xgb.XGBRegressor(booster="dart", rate_drop=0.3, **XGB), DIABETES, PROGRESS
    yield "xgboost forest", xgb.XGBRFRegressor(**XGB), DIABETES, PROGRESS
    yield "xgboost counts", xgb.XGBRegressor(objective="count:poisson", **XGB), DIABETES, PROGRESS
    yield "xgboost gamma", xgb.XGBRegressor(objective="reg:gamma", **XGB), DIABETES, PROGRESS
    quantiles = {"objective": "reg:quantileerror", "quantile_alpha": [0.1, 0.9]}
    yield "xgboost quantiles", xgb.XGBRegressor(**quantiles, **XGB), DIABETES, PROGRESS
    vectors = {"multi_strategy": "multi_output_tree"}
    yield "xgboost vector leaves", xgb.XGBRegressor(**vectors, **XGB), DIABETES, np.stack([PROGRESS, -PROGRESS], 1)
    yield "xgboost other gap", xgb.XGBRegressor(missing=-1.0, **XGB), np.nan_to_num(DIABETES, nan=-1.0), PROGRESS
    yield "lightgbm two classes", lgb.LGBMClassifier(**LIGHT), TUMOURS, BENIGN
    yield "lightgbm factor", lgb.LGBMClassifier(sigmoid=2.0, **LIGHT), TUMOURS, BENIGN
    yield "lightgbm names", lgb.LGBMClassifier(**LIGHT), IRIS, NAMES
    yield "lightgbm one against all", lgb.LGBMClassifier(objective="multiclassova", **LIGHT), IRIS, SPECIES
    yield "lightgbm regression", lgb.LGBMRegressor(**LIGHT), DIABETES, PROGRESS
    yield "lightgbm square roots", lgb.LGBMRegressor(reg_sqrt=True, **LIGHT), DIABETES, PROGRESS
    yield "lightgbm counts", lgb.LGBMRegressor(objective="poisson", **LIGHT), DIABETES, PROGRESS
    yield "lightgbm entropy", lgb.LGBMRegressor(objective="cross_entropy_lambda", **LIGHT), TUMOURS, BENIGN
    yield "lightgbm dart", lgb.LGBMRegressor(boosting_type="dart", **LIGHT), DIABETES, PROGRESS
    bags = {"boosting_type": "rf", "bagging_freq": 1, "bagging_fraction": 0.5}
    yield "lightgbm forest", lgb.LGBMRegressor(**bags, **LIGHT), DIABETES, PROGRESS
    yield "lightgbm zero is a gap", lgb.LGBMRegressor(zero_as_missing=True, **LIGHT), ZEROS, PROGRESS
    yield "lightgbm constant", lgb.LGBMRegressor(**LIGHT), DIABETES, np.full(len(PROGRESS), 3.0)


@pytest.mark.parametrize(("model", "x", "y"), [pytest.param(*rest, id=name) for name, *rest in forests()])
def test_every_row_is_answered_as_the_framework_does(tmp_path, model, x, y):
    version = save(model.fit(x, y), tmp_path / "m", examples=x)
    assert version.manifest.batch_safe is True


def test_gaps_that_training_did_not_have_go_where_the_framework_sends_them(tmp_path):
    whole = np.nan_to_num(DIABETES)
    for number, model in enumerate((xgb.XGBRegressor(**XGB), lgb.LGBMRegressor(**LIGHT)), 1):
        model.fit(whole, PROGRESS)
        with saved(model, tmp_path, whole[:8], version=number) as servable:
            np.testing.assert_allclose(servable.predict(DIABETES), model.predict(DIABETES), rtol=1e-5)


@pytest.mark.parametrize("model", [xgb.XGBRanker(**XGB), lgb.LGBMRanker(**LIGHT)], ids=["xgboost", "lightgbm"])
def test_rankers_give_predictions(tmp_path, model):
    groups = {"qid": np.arange(150) // 10} if isinstance(model, xgb.XGBModel) else {"group": [10] * 15}
    with saved(model.fit(IRIS, SPECIES, **groups), tmp_path, IRIS) as servable:
        assert str(servable.signatures["serving_default"]).endswith("-> predictions: FP32 [-1]")


class Renamed(xgb.XGBClassifier):
    """A class of the user's own."""


def test_a_class_derived_from_a_known_one_is_known(tmp_path):
    assert save(Renamed(**XGB).fit(IRIS, SPECIES), tmp_path / "m", examples=IRIS).number == 1


def test_only_the_rounds_up_to_the_best_one_count(tmp_path):
    train, rest = slice(0, 200), slice(200, None)
    evaluated = [(DIABETES[rest], PROGRESS[rest])]
    boosted = xgb.XGBRegressor(n_estimators=200, early_stopping_rounds=3, n_jobs=1)
    boosted.fit(DIABETES[train], PROGRESS[train], eval_set=evaluated, verbose=False)
    light = lgb.LGBMRegressor(**LIGHT | {"n_estimators": 200})
    stop = lgb.early_stopping(3, verbose=False)
    light.fit(DIABETES[train], PROGRESS[train], eval_set=evaluated, callbacks=[stop])
    for model in (boosted, light):
        version = save(model, tmp_path / "m", examples=DIABETES)
        graph = onnx.load(version.path / "model.onnx").graph
        (node,) = [node for node in graph.node if node.op_type == "TreeEnsembleRegressor"]
        trees = next(attribute.ints for attribute in node.attribute if attribute.name == "nodes_treeids")
        assert len(set(trees)) < 200


def with_categories():
    return PEOPLE.astype({"job": "category", "grade": "category"}), strangers().astype({"grade": "category"})


@pytest.mark.parametrize("datatype", ["FP32", "FP64"])
@pytest.mark.parametrize(
    "model",
    [
        xgb.XGBRegressor(enable_categorical=True, max_cat_to_onehot=1, **XGB),
        xgb.XGBRegressor(enable_categorical=True, max_cat_to_onehot=9, **XGB),
        lgb.LGBMRegressor(min_data_per_group=5, cat_smooth=1, **LIGHT),
    ],
    ids=["xgboost sets", "xgboost one category", "lightgbm"],
)
def test_categories_are_sent_as_what_they_are_called(tmp_path, model, datatype):
    table, _ = with_categories()
    model.fit(table, EARNS)
    with saved(model, tmp_path, table, datatype=datatype) as servable:
        assert f"job: BYTES [-1], grade: {datatype} [-1]" in str(servable.signatures["serving_default"])
        np.testing.assert_allclose(servable.predict(sent(table)), model.predict(table), rtol=1e-5)


def test_unknown_categories_are_missing_ones(tmp_path):
    table, new = with_categories()
    model = lgb.LGBMRegressor(**LIGHT).fit(table, EARNS)
    new["job"] = pd.Categorical(new["job"])
    with saved(model, tmp_path, table[:8]) as servable:
        np.testing.assert_allclose(servable.predict(sent(new)), model.predict(new), rtol=1e-5)


def test_xgboost_has_no_answer_for_unknown_categories_and_a_version_takes_them_for_missing(tmp_path):
    table = PEOPLE[["job"]].replace("Ärztin", "medic").astype("category")
    model = xgb.XGBRegressor(enable_categorical=True, **XGB).fit(table, EARNS)
    with pytest.raises(xgb.core.XGBoostError, match="not in the training set"):
        model.predict(pd.DataFrame({"job": pd.Categorical(["zoologist"])}))
    with saved(model, tmp_path, table[:8]) as servable:
        missing = model.predict(table[table["job"].isna()][:1])
        np.testing.assert_allclose(servable.predict(["zoologist", "diver", ""]), np.repeat(missing, 3), rtol=1e-6)


def test_names_that_xgboost_loses_have_to_come_with_the_examples(tmp_path):
    table, _ = with_categories()
    model = xgb.XGBRegressor(enable_categorical=True, **XGB).fit(table, EARNS)
    few = table[:8].assign(job=table["job"][:8].cat.remove_categories("Ärztin"))
    with pytest.raises(ConversionError, match="not ASCII"):
        save(model, tmp_path / "m", examples=few)


def test_categories_behind_other_steps_are_refused(tmp_path):
    table, _ = with_categories()
    before = ColumnTransformer([("p", "passthrough", ["job", "age"])]).set_output(transform="pandas")
    model = make_pipeline(before, lgb.LGBMRegressor(**LIGHT)).fit(table, EARNS)
    with pytest.raises(ConversionError, match="trained on 1 columns of the dtype category, and gets 0"):
        save(model, tmp_path / "m", examples=table)


@pytest.mark.parametrize("datatype", ["FP32", "FP64"])
def test_decimals_behind_a_scaler_stay_on_their_side_of_a_split(tmp_path, datatype):
    x = np.round(np.nan_to_num(IRIS), 1)
    model = make_pipeline(StandardScaler(), xgb.XGBClassifier(**XGB)).fit(x, SPECIES)
    if datatype == "FP64":
        assert save(model, tmp_path / "m", examples=x, datatype=datatype).number == 1
        return
    with pytest.raises(GoldenMismatch) as caught:
        save(model, tmp_path / "m", examples=x, datatype=datatype)
    assert 'datatype="FP64"' in (caught.value.hint or "")


@pytest.mark.parametrize("model", [xgb.XGBRegressor(**XGB), lgb.LGBMRegressor(**LIGHT)], ids=["xgboost", "lightgbm"])
def test_numbers_of_categories_need_no_names(tmp_path, model):
    x = np.stack([PEOPLE["age"], PEOPLE["job"].astype("category").cat.codes.replace(-1, np.nan)], 1)
    if isinstance(model, xgb.XGBModel):
        model.set_params(feature_types=["q", "c"], enable_categorical=True).fit(x, EARNS)
    else:
        model.fit(x, EARNS, categorical_feature=[1])
    assert save(model, tmp_path / "m", examples=x).number == 1


def boosters():
    label = xgb.DMatrix(IRIS, SPECIES)
    yield "xgboost classes", xgb.train({"objective": "multi:softmax", "num_class": 3}, label, 5), IRIS, "FP32 [-1]"
    yield "xgboost", xgb.train({"objective": "multi:softprob", "num_class": 3}, label, 5), IRIS, "FP32 [-1, 3]"
    table = pd.DataFrame(IRIS, columns=list("abcd"))
    named = xgb.train({}, xgb.DMatrix(table, SPECIES), 5)
    yield "xgboost on a table", named, table, "FP32 [-1]"
    light = lgb.train({"objective": "multiclass", "num_class": 3, "verbose": -1}, lgb.Dataset(IRIS, SPECIES), 5)
    yield "lightgbm", light, IRIS, "FP32 [-1, 3]"
    categories, _ = with_categories()
    yield "lightgbm categories", lgb.train({"verbose": -1}, lgb.Dataset(categories, EARNS), 5), categories, "FP32 [-1]"
    matrix = xgb.DMatrix(categories, EARNS, enable_categorical=True)
    yield "xgboost categories", xgb.train({}, matrix, 5), categories, "FP32 [-1]"


@pytest.mark.parametrize(("booster", "x", "output"), [pytest.param(*rest, id=name) for name, *rest in boosters()])
def test_boosters_give_predictions(tmp_path, booster, x, output):
    with saved(booster, tmp_path, x) as servable:
        assert str(servable.signatures["serving_default"]).endswith(f"-> predictions: {output}")


def test_a_fitted_transformer_goes_before_a_booster(tmp_path):
    scaler = StandardScaler().fit(IRIS)
    booster = xgb.train({}, xgb.DMatrix(scaler.transform(IRIS), SPECIES), 5)
    with saved(booster, tmp_path, IRIS, preprocess=scaler, datatype="FP64") as servable:
        expected = booster.predict(xgb.DMatrix(scaler.transform(IRIS)))
        np.testing.assert_allclose(servable.predict(IRIS), expected, rtol=1e-5)


def columns(last):
    """Raw people in: gaps are filled, numbers scaled, jobs encoded."""
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    jobs = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore"))
    before = ColumnTransformer([("n", numbers, ["age"]), ("j", jobs, ["job"]), ("g", "passthrough", ["grade"])])
    return make_pipeline(before, last).fit(PEOPLE, RICH)


@pytest.mark.parametrize("datatype", ["FP32", "FP64"])
@pytest.mark.parametrize("last", [xgb.XGBClassifier(**XGB), lgb.LGBMClassifier(**LIGHT)], ids=["xgboost", "lightgbm"])
def test_a_pipeline_of_raw_columns_answers_for_gaps_and_strangers(tmp_path, last, datatype):
    model = columns(last)
    with saved(model, tmp_path, PEOPLE, datatype=datatype) as servable:
        answer = servable.predict(sent(strangers()))
    np.testing.assert_allclose(answer["probabilities"], model.predict_proba(strangers()), atol=1e-5)


@pytest.mark.parametrize("last", [xgb.XGBClassifier(**XGB), lgb.LGBMClassifier(**LIGHT)], ids=["xgboost", "lightgbm"])
def test_it_is_served_to_clients_that_send_nan_and_empty_strings(models, start, last):
    model = columns(last)
    save(model, models / "people", examples=PEOPLE[:8])
    server = start()
    new = strangers()[:5]
    body = json.dumps({"inputs": {name: column.tolist() for name, column in sent(new).items()}})
    answer = requests.post(f"http://{server.addresses.rest}/v1/models/people:predict", body, timeout=20)
    assert answer.status_code == 200, answer.text
    np.testing.assert_allclose(answer.json()["outputs"]["probabilities"], model.predict_proba(new), atol=1e-5)


@pytest.mark.parametrize(
    "ensemble",
    [
        VotingClassifier([("a", LogisticRegression()), ("b", xgb.XGBClassifier(**XGB))], voting="soft"),
        CalibratedClassifierCV(lgb.LGBMClassifier(**LIGHT), cv=2),
        GridSearchCV(xgb.XGBClassifier(**XGB), {"max_depth": [1, 2]}, cv=2),
        StackingRegressor([("a", Ridge()), ("b", lgb.LGBMRegressor(**LIGHT))], cv=2),
    ],
    ids=lambda each: type(each).__name__,
)
def test_boosted_trees_may_be_parts_of_ensembles(tmp_path, ensemble):
    x = np.nan_to_num(IRIS)
    assert save(ensemble.fit(x, SPECIES > 0), tmp_path / "m", examples=x).number == 1


def test_what_onnxmltools_registered_is_there_again(tmp_path):
    from skl2onnx import update_registered_converter
    from skl2onnx._supported_operators import sklearn_operator_name_map as names

    def theirs(scope, operator, container):
        raise AssertionError("not asked")

    update_registered_converter(lgb.LGBMRegressor, "Theirs", lambda operator: None, theirs)
    try:
        save(lgb.LGBMRegressor(**LIGHT).fit(IRIS, SPECIES), tmp_path / "m", examples=IRIS[:8])
        assert names[lgb.LGBMRegressor] == "Theirs"
    finally:
        del names[lgb.LGBMRegressor]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (xgb.XGBRegressor(booster="gblinear", **XGB), "booster='gblinear' has no trees"),
        (lgb.LGBMRegressor(linear_tree=True, **LIGHT), "linear trees"),
        (xgb.XGBRegressor(**XGB), "not fitted|need to call fit"),
    ],
    ids=["linear booster", "linear trees", "unfitted"],
)
def test_what_has_no_equivalent_is_refused_by_name(tmp_path, model, message):
    if "unfitted" not in message and "not fitted" not in message:
        model.fit(np.nan_to_num(DIABETES), PROGRESS)
    with pytest.raises(ConversionError, match=message):
        save(model, tmp_path / "m", examples=np.nan_to_num(DIABETES[:8]))
    assert list((tmp_path / "m").iterdir()) == []


def test_several_labels_a_row_are_refused(tmp_path):
    model = xgb.XGBClassifier(**XGB).fit(IRIS, np.stack([SPECIES > 0, SPECIES > 1], 1).astype(int))
    with pytest.raises(ConversionError, match="several labels"):
        save(model, tmp_path / "m", examples=IRIS[:8])


def test_numbers_on_the_edge_of_float32_are_refused_with_a_hint(tmp_path):
    x = np.arange(100.0)[:, None] + 1e8
    model = lgb.LGBMRegressor(min_child_samples=1, min_data_in_bin=1, **LIGHT).fit(x, np.arange(100) // 5 % 2)
    with pytest.raises(GoldenMismatch, match="predictions") as caught:
        save(model, tmp_path / "m", examples=x)
    assert 'datatype="FP64"' in (caught.value.hint or "")
    assert save(model, tmp_path / "m", examples=x, datatype="FP64").number == 1


def test_wrong_preprocessing_is_refused_with_the_table(tmp_path, monkeypatch):
    model = columns(xgb.XGBClassifier(**XGB))
    from servable.convert import sklearn

    def otherwise(wrapped, examples, inputs):
        changed = columns(xgb.XGBClassifier(**XGB))
        changed[0].named_transformers_["n"][1].mean_ += 1
        return write_graph(changed, examples, inputs)

    write_graph = sklearn.write_graph
    monkeypatch.setattr(sklearn, "write_graph", otherwise)
    with pytest.raises(GoldenMismatch, match=r"probabilities +FP32 +\d+ of"):
        save(model, tmp_path / "m", examples=PEOPLE)
    assert list((tmp_path / "m").iterdir()) == []


def test_the_framework_is_recorded(tmp_path):
    version = save(lgb.LGBMRegressor(**LIGHT).fit(IRIS, SPECIES), tmp_path / "m", examples=IRIS[:8])
    assert version.manifest.frameworks["lightgbm"] == lgb.__version__
    booster = xgb.train({}, xgb.DMatrix(IRIS, SPECIES), 2)
    version = save(booster, tmp_path / "m", examples=IRIS[:8])
    assert xgb.__version__ in version.manifest.frameworks.values()
    assert "lightgbm" not in version.manifest.frameworks


def test_a_damaged_file_is_not_loaded(tmp_path):
    version = save(xgb.XGBClassifier(**XGB).fit(IRIS, SPECIES), tmp_path / "m", examples=IRIS[:8])
    path = version.path / "model.onnx"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(ServableError, match=r"model\.onnx"):
        load(version.path)


def test_neither_framework_is_imported_for_another_model():
    code = (
        "import sys, numpy as np\n"
        "from sklearn.linear_model import LinearRegression\n"
        "from servable.convert.converters import converter_of\n"
        "converter_of(LinearRegression()), converter_of('m.onnx'), converter_of(object())\n"
        "print([name for name in ('xgboost', 'lightgbm', 'skl2onnx', 'onnx') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, text=True, capture_output=True, timeout=60)
    assert done.stdout.strip() == "[]"
