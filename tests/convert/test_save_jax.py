"""JAX functions become SavedModels that answer as they do in an engine that knows nothing of JAX."""

from __future__ import annotations

import functools
import importlib.util
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_digits

from servable.convert.child import run_in_child
from servable.convert.converters import converter_of
from servable.convert.jax_program import Function
from servable.convert.save import save
from servable.errors import ConversionError
from servable.model.golden import read_examples
from servable.model.load import load

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.jax

IMAGES, LABELS = load_digits(return_X_y=True)
IMAGES = IMAGES.astype(np.uint8)
X = np.random.default_rng(0).random((4, 8), np.float32)


def pixels(images):
    return (images / 16 - 0.3) / 0.38


def network(params, x):
    for layer in params[:-1]:
        x = jax.nn.relu(x @ layer["w"] + layer["b"])
    return {"probabilities": jax.nn.softmax(x @ params[-1]["w"] + params[-1]["b"]), "parts": (x, jnp.argmax(x, -1))}


def loss(params, x, labels):
    return -jnp.log(network(params, x)["probabilities"][jnp.arange(len(x)), labels] + 1e-6).mean()


@pytest.fixture(scope="module")
def params() -> list[dict[str, jax.Array]]:
    keys = jax.random.split(jax.random.key(0), 2)
    params = [
        {"w": jax.random.normal(key, (size, width)) * 0.1, "b": jnp.zeros(width)}
        for key, size, width in zip(keys, (64, 32), (32, 10), strict=True)
    ]
    step = jax.jit(lambda params, x, y: jax.tree.map(lambda p, g: p - 0.3 * g, params, jax.grad(loss)(params, x, y)))
    for _ in range(60):
        params = step(params, pixels(IMAGES[:512]), LABELS[:512])
    return params


@pytest.fixture(scope="module")
def digits(params, tmp_path_factory) -> Any:
    """The network with its preprocessing, written by a child that has TensorFlow."""
    model = functools.partial(jax.jit(network), params)
    folder = tmp_path_factory.mktemp("models") / "digits"
    return save(model, folder, examples=IMAGES[:40], preprocess=pixels, input_name="images")


def test_a_network_answers_as_it_does_on_all_digits_for_any_number_of_rows(digits, params):
    with load(digits.path) as servable:
        assert str(servable.signatures["serving_default"]) == (
            "serving_default(images: UINT8 [-1, 64]) -> "
            "parts_0: FP32 [-1, 32], parts_1: INT32 [-1], probabilities: FP32 [-1, 10]"
        )
        assert servable.batch_safe is True
        for rows in (1, 2, 7, len(IMAGES)):
            answer = servable.predict(IMAGES[:rows])
            expected = network(params, pixels(IMAGES[:rows]))
            np.testing.assert_allclose(answer["probabilities"], expected["probabilities"], atol=1e-5)
        assert (answer["probabilities"].argmax(-1) == LABELS).mean() > 0.8


def test_golden_answers_are_those_of_jax_also_for_one_row(digits, params):
    records = read_examples(digits.path)
    assert [len(record.inputs["images"].array) for record in records] == [32, 8, 1]
    expected = network(params, pixels(IMAGES[:32]))["probabilities"]
    np.testing.assert_allclose(records[0].outputs["probabilities"].array, expected, atol=1e-6)
    assert {"jax", "jaxlib", "tensorflow", "numpy", "python"} <= set(digits.manifest.frameworks)


def test_parameters_are_variables_and_the_file_does_not_tell_where_it_was_written(digits):
    content = (digits.path / "saved_model.pb").read_bytes()
    assert len(content) < 40_000
    assert sum(path.stat().st_size for path in (digits.path / "variables").iterdir()) > 64 * 32 * 4
    assert not re.search(rb"/(tmp|home|work|usr)/", content)


@pytest.fixture(scope="module")
def with_tensorflow(tmp_path_factory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("jax_versions")
    return folder, run_in_child("jax_versions:make", {"folder": str(folder)}, print)


def test_strings_go_through_a_table_of_tensorflow(with_tensorflow):
    rows = (np.arange(12, dtype=np.float32).reshape(4, 3) ** 2 / 20)[[2, 0, 3]]
    with load(with_tensorflow[0] / "words") as servable:
        assert str(servable.signatures["serving_default"].inputs[0]) == "word: BYTES [-1]"
        answer = servable.predict(["blue", "red", "unheard of"])
    np.testing.assert_allclose(answer, jax.nn.softmax(rows), atol=1e-6)


def test_a_convolution_with_pooling_is_saved_right(with_tensorflow):
    made = with_tensorflow[1]
    with load(with_tensorflow[0] / "pooled") as servable:
        np.testing.assert_allclose(servable.predict(np.array(made["images"], np.float32)), made["pooled"], atol=1e-5)


def test_tensorflow_gives_arguments_by_name(with_tensorflow):
    with load(with_tensorflow[0] / "measured") as servable:
        answer = servable.predict({"word": ["ab", "abc"], "factor": np.array([1, 10], np.float32)})
    np.testing.assert_allclose(answer.sum(-1), [1, 10], rtol=1e-5)


def test_a_table_that_nobody_holds_is_refused(with_tensorflow):
    message, hint = with_tensorflow[1]["untracked"]
    assert "table or a variable that would not be saved" in message
    assert "tf.Module" in hint


def test_preprocessing_that_fails_on_the_examples_is_refused(with_tensorflow):
    assert "preprocess fails on the examples: InvalidArgumentError" in with_tensorflow[1]["failing"][0]


def test_a_module_of_pytorch_can_be_saved_where_tensorflow_was_first(with_tensorflow):
    assert with_tensorflow[1]["torch"] == 1


def test_numbers_keep_64_bits_where_jax_does(with_tensorflow):
    with load(with_tensorflow[0] / "wide") as servable:
        assert str(servable.signatures["serving_default"]) == (
            "serving_default(n: INT64 [-1], x: FP64 [-1, 3]) -> output_0: FP64 [-1, 3], output_1: INT64 [-1]"
        )


class Affine(NamedTuple):
    """A model as equinox and flax have it: a pytree that can be called."""

    factor: jax.Array
    name: str

    def __call__(self, x):
        return x * self.factor


@pytest.mark.parametrize(
    "model",
    [
        jax.jit(lambda x: x * 2),
        lambda x: x * 2,
        functools.partial(lambda factor, x: x * factor, jnp.float32(2)),
        functools.partial(lambda x, factor, double: x * factor * (2 if double else 1), factor=jnp.ones(8), double=True),
        jax.tree_util.Partial(lambda factor, x: x * factor, jnp.float32(2)),
        Affine(jnp.float32(2), "affine"),
    ],
    ids=["jit", "function", "partial", "keywords", "Partial", "pytree"],
)
def test_every_kind_of_function_is_taken_and_answers_with_its_weights_apart(model):
    assert converter_of(model).__name__ == "servable.convert.jax"
    np.testing.assert_array_equal(Function(model, None).answers(X)["outputs"].array, X * 2)


def test_only_arrays_become_weights():
    function = Function(functools.partial(lambda *_, **__: X, [jnp.ones(3), 2, "a"], key=jax.random.key(0)), None)
    assert [weight.shape for weight in function.weights] == [(3,)]


def test_other_objects_are_not_taken_for_functions_of_jax():
    assert converter_of(3).__name__ == "servable.convert.python_object"


def values(x):
    if x.sum() > 0:
        return x
    return -x


def through_numpy(x):
    return jnp.asarray(np.log(np.asarray(x)))


def four_rows(x):
    return x + np.ones((4, 1), np.float32)


REFUSED = {
    "values": (
        values,
        X,
        r"values computes depends on values .*test_save_jax\.py, line \d+: if x\.sum",
        "jax.lax.cond",
    ),
    "numpy": (through_numpy, X, r"through_numpy takes an array out of JAX \(test_save_jax\.py", "jax.numpy"),
    "rows": (four_rows, X, r"four_rows is not for every number of rows \(test_save_jax\.py", "x.shape[0]"),
    "shape": (lambda x: x.reshape(4, 2, 4), X, "is not for every number of rows", "x.shape[0]"),
    "strings": (values, np.array(["a"]), "Input 'inputs' holds strings, and JAX has none", "tf.function"),
    "fails": (lambda x: x @ jnp.ones((9, 2)), X, "<lambda> fails on the examples: TypeError: dot_general", None),
    "number": (lambda x: {"x": x, "n": 3}, X, "type int as 'n'", "arrays"),
    "names": (lambda a, b: a + b, {"a": X, "c": X}, "<lambda> takes a, b; given are a, c", "arguments"),
    "spaces": (lambda rows: rows["n rooms"], {"n rooms": X}, "cannot be called 'n rooms'", "underscores"),
    "nothing": (lambda x: None, X, "gives nothing", None),
}


@pytest.mark.parametrize(("model", "examples", "message", "hint"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_saved_is_refused_by_name_and_leaves_nothing(tmp_path, model, examples, message, hint):
    with pytest.raises(ConversionError, match=message) as caught:
        save(model, tmp_path / "m", examples=examples)
    assert len(str(caught.value)) < 600
    assert (hint or "") in (caught.value.hint or "")
    assert list((tmp_path / "m").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"format": "onnx"}, "cannot be written as 'onnx'"),
        ({"preprocess": 3}, "preprocess= is a int"),
        ({"datatype": "FP64"}, "JAX computes in float32 here"),
        ({"datatype": "BF16"}, "FP32 or FP64, not BF16"),
    ],
)
def test_what_was_asked_for_and_is_not_there_is_refused(tmp_path, arguments, message):
    with pytest.raises(ConversionError, match=message):
        save(jax.jit(lambda x: x), tmp_path / "m", examples=X, **arguments)


def test_a_function_that_keeps_a_state_is_refused_with_the_table(with_tensorflow):
    message, hint = with_tensorflow[1]["counts"]
    assert re.search(r"outputs +FP32 +\d+ of 15", message)
    assert "state" in hint


def test_without_tensorflow_the_hint_says_what_to_install(tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "tensorflow" else find(name))
    with pytest.raises(ConversionError, match="TensorFlow is not installed") as caught:
        save(jax.jit(lambda x: x), tmp_path / "m", examples=X)
    assert caught.value.hint == 'pip install "servable[tensorflow-cpu]"'
