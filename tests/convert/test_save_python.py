from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import servable_test_models as models

from servable.convert.save import save
from servable.errors import ConversionError, GoldenMismatch
from servable.model.load import load

X = np.array([[1.0, -2.0], [3.0, 4.0]])


def saved(model, tmp_path, examples=X, **arguments):
    return load(save(model, tmp_path / "m", examples=examples, **arguments).path)


def test_an_object_without_a_state_is_its_source(tmp_path):
    with saved(models.Doubler(), tmp_path) as servable:
        assert servable.predict(X).tolist() == (2 * X).tolist()
        assert str(servable.signatures["serving_default"]).endswith("(inputs: FP64 [-1, 2]) -> outputs: FP64 [-1, 2]")
        assert servable.batch_safe is True


def test_an_object_with_save_and_load_is_restored_by_them(tmp_path):
    version = save(models.Scaler(2.5), tmp_path / "m", examples=X)
    assert set(version.manifest.files) == {"model.py", "factor.json", "assets.extra/tf_serving_warmup_requests"}
    with load(version.path) as servable:
        answer = servable.predict(X)
        assert answer["scaled"].tolist() == (2.5 * X).tolist()
        assert answer["sign"].dtype == np.int8


def test_a_dict_of_examples_is_what_predict_gets(tmp_path):
    with saved(models.Adder(), tmp_path, {"a": [1, 2], "b": [10, 20]}) as servable:
        assert servable.predict({"a": [5], "b": [6]}).tolist() == [11]


def test_text_stays_text(tmp_path):
    with saved(models.Greeter(), tmp_path, ["Ada", "Bob"]) as servable:
        assert servable.predict(["Łukasz"]).tolist() == ["hello Łukasz".encode()]


def test_rows_that_influence_each_other_are_found(tmp_path):
    with saved(models.Centred(), tmp_path) as servable:
        assert servable.batch_safe is False


def test_a_declared_signature_goes_before_the_examples(tmp_path):
    with saved(models.Declared(), tmp_path) as servable:
        assert servable.predict([[1, 2, 3]]).tolist() == [6]


def test_one_example_leaves_batching_open(tmp_path):
    with saved(models.Doubler(), tmp_path, X[:1]) as servable:
        assert servable.batch_safe is None


def test_it_can_be_loaded_where_the_module_is_not(tmp_path):
    version = save(models.Scaler(3.0), tmp_path / "m", examples=X)
    code = (
        "import sys\n"
        "from servable.model.load import load\n"
        "with load(sys.argv[1]) as s: print(s.predict([[1.0, 1.0]])['scaled'].tolist())\n"
        "assert 'servable_test_models' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code, version.path], check=True, text=True, capture_output=True)
    assert done.stdout.strip() == "[[3.0, 3.0]]"


def test_the_packages_it_imports_are_recorded(tmp_path):
    version = save(models.Doubler(), tmp_path / "m", examples=X)
    assert version.manifest.frameworks["numpy"] == np.__version__


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (models.Stateful(2.0), "state that would be lost: factor"),
        (models.NeedsArguments(1), "cannot make it again: TypeError"),
        (models.SaveOnly(), "SaveOnly has no load"),
        (models.WritesModelPy(), r"wrote model\.py"),
        (models.Fails(), "predict of Fails fails on the examples: KeyError: 'age'"),
        (models.make_local(), "defined inside another thing"),
        (models.Doubler, "Class Doubler cannot be saved"),
        (3, "An object of type int cannot be saved"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_what_cannot_be_kept_is_refused_and_leaves_nothing(tmp_path, model, message):
    with pytest.raises(ConversionError, match=message) as caught:
        save(model, tmp_path / "m", examples=X)
    assert caught.value.hint or "fails" in message
    assert list((tmp_path / "m").iterdir()) == []


def test_preprocessing_belongs_into_predict(tmp_path):
    with pytest.raises(ConversionError, match="takes no preprocess=") as caught:
        save(models.Doubler(), tmp_path / "m", examples=X, preprocess=np.log1p)
    assert "start of predict" in (caught.value.hint or "")


def test_a_state_that_the_constructor_makes_again_is_no_state(tmp_path):
    with saved(models.Stateful(), tmp_path) as servable:
        assert servable.predict(X).tolist() == X.tolist()


@pytest.mark.parametrize("model", [models.Forgetful(2.5), models.Random()], ids=["forgetful", "random"])
def test_a_restored_object_that_answers_otherwise_is_refused(tmp_path, model):
    with pytest.raises(GoldenMismatch, match="outside") as caught:
        save(model, tmp_path / "m", examples=X)
    assert "load(folder)" in (caught.value.hint or "")
    assert list((tmp_path / "m").iterdir()) == []
