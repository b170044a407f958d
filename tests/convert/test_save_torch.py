"""PyTorch modules become versions that answer as they do, or are refused with what to do instead."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
import torch_modules as modules
from sklearn.datasets import load_digits
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx

from servable.convert import torch_onnx
from servable.convert.save import save
from servable.errors import ConversionError, GoldenMismatch, InvalidArgument, NotFound
from servable.model.golden import read_examples
from servable.model.load import load

if TYPE_CHECKING:
    from servable.model.versions import Version

pytestmark = pytest.mark.torch

IMAGES, LABELS = load_digits(return_X_y=True)
IMAGES = IMAGES.astype(np.float32)
X = np.random.default_rng(0).random((4, 8), np.float32)


def trained(model: nn.Module, x: torch.Tensor, steps: int = 60) -> nn.Module:
    torch.manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    target = torch.from_numpy(LABELS)
    for step in range(steps):
        rows = slice(step * 32 % len(x), step * 32 % len(x) + 32)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[rows]), target[rows]).backward()
        optimizer.step()
    return model


@pytest.fixture(scope="module")
def mlp() -> nn.Module:
    """Left in training mode, as it is after training."""
    layers = nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 10)
    return trained(nn.Sequential(*layers), torch.from_numpy(IMAGES))


@pytest.fixture(scope="module")
def cnn() -> nn.Module:
    layers = nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()
    net = nn.Sequential(*layers, nn.Linear(128, 10))
    return trained(net, modules.Pixels()(torch.from_numpy(IMAGES.reshape(-1, 8, 8))))


@pytest.fixture(scope="module")
def digits(mlp, tmp_path_factory) -> Version:
    return save(mlp, tmp_path_factory.mktemp("models") / "digits", examples=IMAGES[:40])


def own(model: nn.Module, *x: np.ndarray) -> np.ndarray:
    """The module's own answer in evaluation mode."""
    training = model.training
    with torch.no_grad():
        answer = model.eval()(*map(torch.from_numpy, x))
    model.train(training)
    return answer


def saved(model, tmp_path, examples, **arguments):
    return load(save(model, tmp_path / "m", examples=examples, **arguments).path)


def test_a_network_answers_as_it_does_on_all_digits_for_any_number_of_rows(mlp, digits):
    with load(digits.path) as servable:
        assert str(servable.signatures["serving_default"]) == (
            "serving_default(inputs: FP32 [-1, 64]) -> outputs: FP32 [-1, 10]"
        )
        assert servable.batch_safe is True
        for rows in (1, 2, 7, len(IMAGES)):
            np.testing.assert_allclose(servable.predict(IMAGES[:rows]), own(mlp, IMAGES[:rows]), atol=1e-4, rtol=1e-4)


def test_training_mode_and_statistics_are_left_as_they_were(mlp, tmp_path):
    mlp[3].eval()
    before = {name: tensor.clone() for name, tensor in mlp.state_dict().items()}
    save(mlp, tmp_path / "m", examples=IMAGES[:8])
    assert [mlp.training, mlp[1].training, mlp[3].training] == [True, True, False]
    assert all(torch.equal(tensor, before[name]) for name, tensor in mlp.state_dict().items())
    mlp.train()


def test_golden_answers_are_those_of_pytorch_also_for_one_row(mlp, digits):
    records = read_examples(digits.path)
    assert [len(record.inputs["inputs"].array) for record in records] == [32, 8, 1]
    np.testing.assert_array_equal(records[0].outputs["outputs"].array, own(mlp, IMAGES[:32]))
    assert {"torch", "onnxscript", "onnx", "numpy", "python"} <= set(digits.manifest.frameworks)


def test_nothing_is_printed_or_left_over_and_progress_is_told(mlp, tmp_path, capfd):
    stages: list[str] = []
    version = save(mlp, tmp_path / "m", examples=IMAGES[:2], progress=stages.append)
    assert capfd.readouterr() == ("", "")
    assert stages[:3] == ["Converting Sequential", "Tracing the module", "Writing ONNX"]
    assert sorted(path.name for path in version.path.iterdir()) == ["assets.extra", "model.onnx", "servable.json"]


def test_the_file_does_not_tell_where_it_was_written(digits):
    content = (digits.path / "model.onnx").read_bytes()
    assert b".py" not in content
    assert str(Path.cwd()).encode() not in content


@pytest.mark.parametrize("as_function", [False, True], ids=["module", "function"])
def test_preprocessing_is_inside(cnn, tmp_path, as_function):
    pixels = modules.Pixels()
    raw = IMAGES.reshape(-1, 8, 8).astype(np.uint8)
    preprocess = (lambda images: ((images / 16 - 0.3) / 0.38).unsqueeze(1)) if as_function else pixels
    with saved(cnn, tmp_path, raw[:8], preprocess=preprocess, input_name="images") as servable:
        assert str(servable.signatures["serving_default"].inputs[0]) == "images: UINT8 [-1, 8, 8]"
        answer = servable.predict(raw[:100])
    np.testing.assert_allclose(answer, own(nn.Sequential(pixels, cnn), raw[:100]), atol=1e-4)
    accuracy = (answer.argmax(-1) == LABELS[:100]).mean()
    assert accuracy > 0.8


def test_another_preprocessing_in_the_version_than_in_training_is_refused_with_the_table(cnn, tmp_path):
    class Drifting(nn.Module):
        """Normalises in another way when it is traced than when it is run."""

        def forward(self, images):
            return images.unsqueeze(1) / (255 if torch.compiler.is_exporting() else 16)

    with pytest.raises(GoldenMismatch, match=r"outputs +FP32 +\d+ of 90") as caught:
        save(cnn, tmp_path / "m", examples=IMAGES[:8].reshape(-1, 8, 8), preprocess=Drifting())
    assert caught.value.hint
    assert list((tmp_path / "m").iterdir()) == []


def test_a_transformer_keeps_its_rows_apart(tmp_path):
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    x = np.random.default_rng(1).random((5, 6, 8), np.float32)
    with saved(model, tmp_path, x) as servable:
        assert servable.batch_safe is True
        for rows in (1, 2, 7):
            more = np.resize(x, (rows, 6, 8))
            np.testing.assert_allclose(servable.predict(more), own(model, more), atol=1e-5)


def test_rows_on_the_second_axis_are_found_to_influence_each_other(tmp_path):
    model = nn.TransformerEncoderLayer(8, 2, 16)
    with saved(model, tmp_path, np.random.default_rng(1).random((5, 6, 8), np.float32)) as servable:
        assert servable.batch_safe is False


def test_a_recurrent_network_gives_its_states_too(tmp_path):
    model = nn.LSTM(8, 4, num_layers=2, dropout=0.3, batch_first=True)
    with saved(model, tmp_path, np.random.default_rng(1).random((3, 6, 8), np.float32)) as servable:
        outputs = servable.signatures["serving_default"].outputs
    assert [str(each) for each in outputs] == [
        "output_0: FP32 [-1, 6, 4]",
        "output_1_0: FP32 [2, -1, 4]",
        "output_1_1: FP32 [2, -1, 4]",
    ]


def test_inputs_are_arguments_and_outputs_keep_their_names(tmp_path):
    model = modules.Pooled()
    tokens = np.arange(15).reshape(5, 3) % 10
    weights = np.random.default_rng(0).random((5, 3), np.float32)
    with saved(model, tmp_path, {"weights": weights, "tokens": tokens}) as servable:
        assert str(servable.signatures["serving_default"]) == (
            "serving_default(weights: FP32 [-1, 3], tokens: INT64 [-1, 3]) -> "
            "logits: FP32 [-1, 2], parts_0: FP32 [-1, 8], parts_1: INT64 [-1], same: INT64 [-1, 3]"
        )
        answer = servable.predict({"tokens": tokens[:2], "weights": weights[:2]})
    expected = own(model, tokens[:2], weights[:2])
    np.testing.assert_allclose(answer["logits"], expected["logits"], atol=1e-6)
    np.testing.assert_array_equal(answer["parts_1"], expected["parts"][1])


def test_named_tuples_name_the_outputs(tmp_path):
    with saved(modules.Bounds(), tmp_path, X) as servable:
        answer = servable.predict(X)
    np.testing.assert_array_equal(answer["low"], X.min(1))
    np.testing.assert_array_equal(answer["high"], X.max(1))


def test_a_module_of_one_dict_gets_the_dict(tmp_path):
    with saved(modules.OfOneDict(), tmp_path, {"a": X, "b": X / 2}) as servable:
        np.testing.assert_array_equal(servable.predict({"a": X[:1], "b": X[:1]}), np.zeros((1, 8)))


def test_numbers_are_float64_where_it_is_asked_for(tmp_path):
    with saved(nn.Linear(8, 2).double(), tmp_path, X, datatype="FP64") as servable:
        assert servable.predict(X.astype(np.float64)).dtype == np.float64


def test_one_example_is_enough(tmp_path):
    with saved(nn.Linear(8, 2), tmp_path, X[:1]) as servable:
        assert servable.predict(X).shape == (4, 2)


def test_compiled_modules_are_saved_as_what_they_compile(tmp_path):
    first, second = nn.Linear(8, 2), nn.Linear(2, 2)
    version = save(
        torch.compile(nn.Sequential(first, torch.compile(second))), tmp_path / "m", examples=X, preprocess=torch.relu
    )
    expected = own(nn.Sequential(nn.ReLU(), first, second), X)
    np.testing.assert_array_equal(read_examples(version.path)[0].outputs["outputs"].array, expected)


def test_weights_that_are_too_big_for_one_file_get_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr(torch_onnx, "_MAX_WEIGHTS", 1 << 16)
    model = nn.Sequential(nn.Linear(8, 4096), nn.Linear(4096, 2))
    version = save(model, tmp_path / "m", examples=X)
    assert "model.onnx.data" in version.manifest.files
    with load(version.path) as servable:
        np.testing.assert_allclose(servable.predict(X), own(model, X), atol=1e-5)


def exported(model: nn.Module, *, dynamic: bool = True, rows: int = 4) -> torch.export.ExportedProgram:
    batch = torch.export.Dim("batch")
    shapes = {"input": {0: batch}} if dynamic else None
    return torch.export.export(model, (torch.from_numpy(np.resize(X, (rows, 8))),), dynamic_shapes=shapes)


def test_a_program_keeps_the_axes_open_that_it_has(tmp_path):
    model = nn.Sequential(nn.Linear(8, 3), nn.Dropout()).eval()
    with saved(exported(model), tmp_path, X) as servable:
        assert str(servable.signatures["serving_default"]) == (
            "serving_default(inputs: FP32 [-1, 8]) -> outputs: FP32 [-1, 3]"
        )
        np.testing.assert_allclose(servable.predict(X[:1]), own(model, X[:1]), atol=1e-6)
    version = save(exported(model, dynamic=False), tmp_path / "m", examples=np.resize(X, (10, 8)))
    assert [record.inputs["inputs"].shape for record in read_examples(version.path)] == [(4, 8), (4, 8)]
    assert str(version.manifest.signatures[0].inputs[0]) == "inputs: FP32 [4, 8]"


def test_a_program_may_have_more_axes_open_than_the_first(tmp_path):
    model = nn.Embedding(10, 3).eval()
    tokens = np.arange(12).reshape(3, 4) % 10
    shapes = {"input": {0: torch.export.Dim("batch"), 1: torch.export.Dim("length", max=512)}}
    program = torch.export.export(model, (torch.from_numpy(tokens),), dynamic_shapes=shapes)
    with saved(program, tmp_path, {"input": tokens}) as servable:
        assert str(servable.signatures["serving_default"].inputs[0]) == "input: INT64 [-1, -1]"
        assert servable.predict(np.ones((2, 7), int)).shape == (2, 7, 3)


def test_a_program_takes_several_inputs_by_name(tmp_path):
    batch = torch.export.Dim("batch")
    tokens, weights = torch.zeros((4, 3), dtype=torch.int64), torch.rand((4, 3))
    program = torch.export.export(
        modules.Pooled().eval(),
        (tokens,),
        {"weights": weights},
        dynamic_shapes={"tokens": {0: batch}, "weights": {0: batch}},
    )
    with saved(program, tmp_path, {"weights": weights.numpy(), "tokens": tokens.numpy()}) as servable:
        answer = servable.predict({"tokens": tokens.numpy(), "weights": weights.numpy()})
    assert next(iter(answer)) == "logits"


def test_a_program_in_a_file_is_taken_with_preprocessing_before_it(tmp_path):
    model = nn.Sequential(nn.Linear(8, 3)).eval()
    torch.export.save(exported(model), tmp_path / "trained.pt2")
    with saved(str(tmp_path / "trained.pt2"), tmp_path, X, preprocess=torch.abs) as servable:
        np.testing.assert_allclose(servable.predict(-X), own(model, X), atol=1e-6)


def test_a_program_in_a_file_is_converted_in_a_child_where_pytorch_is_not_in_use(tmp_path, monkeypatch):
    model = nn.Sequential(nn.Linear(8, 3)).eval()
    torch.export.save(exported(model), tmp_path / "trained.pt2")
    expected = own(model, X)
    stages: list[str] = []
    with monkeypatch.context() as patched:
        patched.delitem(sys.modules, "torch")
        version = save(tmp_path / "trained.pt2", tmp_path / "m", examples=X, progress=stages.append)
        assert "torch" not in sys.modules
    assert stages[1:4] == ["Starting PyTorch", "Tracing the module", "Writing ONNX"]
    assert "torch" in version.manifest.frameworks
    records = read_examples(version.path)
    assert [len(record.inputs["inputs"].array) for record in records] == [4, 1]
    np.testing.assert_allclose(records[0].outputs["outputs"].array, expected, atol=1e-6)


def test_examples_may_be_tensors_with_gradients(tmp_path):
    x = torch.rand(4, 8, requires_grad=True)
    with saved(nn.Linear(8, 2), tmp_path, {"input": x}) as servable:
        assert str(servable.signatures["serving_default"].inputs[0]) == "input: FP32 [-1, 8]"


def test_a_program_for_a_fixed_number_of_rows_needs_so_many_examples(tmp_path):
    with pytest.raises(ConversionError, match="takes 4 rows at once; there are 2"):
        save(exported(nn.Sequential(nn.Linear(8, 3)), dynamic=False), tmp_path / "m", examples=X[:2])


@pytest.mark.parametrize("layer", [nn.Dropout(), nn.BatchNorm1d(8)], ids=["dropout", "batch_norm"])
def test_a_program_that_was_exported_in_training_mode_is_refused(tmp_path, layer):
    with pytest.raises(ConversionError, match=r"aten\.(dropout|batch_norm).* training mode") as caught:
        save(exported(nn.Sequential(layer)), tmp_path / "m", examples=X)
    assert "model.eval()" in (caught.value.hint or "")


def test_a_training_step_that_exports_wrongly_is_refused_with_the_table(tmp_path):
    x, y = torch.from_numpy(X), torch.tensor([0, 1, 2, 1])
    step = make_fx(modules.Step())(x, y)
    with pytest.raises(GoldenMismatch, match=r"0_weight +FP32 +\d+ of 256"):
        save(step, tmp_path / "m", examples={"arg0_1": X, "arg1_1": y.numpy()})


def test_a_training_step_that_cannot_be_traced_is_refused(tmp_path):
    with pytest.raises(ConversionError, match="The module cannot be traced: "):
        save(modules.Step(), tmp_path / "m", examples={"x": X, "y": np.array([0, 1, 2, 1])})


REFUSED = {
    "values": (
        modules.Branches(),
        r"depends on values .*torch_modules\.py, line \d+: if x\.sum\(\) > 0:",
        "torch.cond",
    ),
    "numpy": (modules.InNumpy(), r"cannot be traced: .*numpy.*torch_modules\.py", "functions of torch"),
    "rows": (modules.FourRows(), "fixes the number of rows to 4", "x.shape[0]"),
    "dropout": (
        modules.Deep(modules.AlwaysDrops()),
        r"Layer 'first\.1' \(AlwaysDrops\), aten\.dropout \(torch_modules\.py, line .*computes in training mode",
        "training=self.training",
    ),
    "chance": (modules.Noisy(), r"Noisy, aten\.rand_like .* by chance", "as an input"),
    "state": (modules.Deep(modules.Counts()), r"changes the buffer 'first\.1\.calls'", "as an input"),
    "operator": (
        modules.Deep(modules.Eigenvalues()),
        r"Layer 'first\.1' \(Eigenvalues\), aten\.linalg_eig\w* \(.*\) has no equivalent in ONNX",
        "with other functions",
    ),
    "number": (modules.ANumber(), "type int as 'output_1'", "arrays"),
    "sparse": (modules.Sparse(), "Output 'outputs' is a tensor of float32 that cannot be served", "to_dense"),
    "half": (nn.Linear(8, 2).half(), "Parameter 'weight' is float16", "model.float()"),
    "double": (nn.Linear(8, 2).double(), "Parameter 'weight' is float64", 'datatype="FP64"'),
    "meta": (nn.Linear(8, 2, device="meta"), "weights of Linear cannot be copied from meta", "model.cpu()"),
    "shape": (nn.Linear(9, 2), "Linear fails on the examples: RuntimeError: ", None),
}


@pytest.mark.parametrize(("model", "message", "hint"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_saved_is_refused_by_name_and_leaves_nothing(tmp_path, model, message, hint):
    with pytest.raises(ConversionError, match=message) as caught:
        save(model, tmp_path / "m", examples=X)
    assert len(str(caught.value)) < 500
    assert (hint or "") in (caught.value.hint or "")
    assert list((tmp_path / "m").iterdir()) == []


def test_a_module_whose_state_is_refused_keeps_it(tmp_path):
    model = modules.Counts()
    with pytest.raises(ConversionError):
        save(model, tmp_path / "m", examples=X)
    assert model.calls == 0


def test_strings_are_refused(tmp_path):
    with pytest.raises(ConversionError, match="Input 'inputs' holds strings, and PyTorch has none"):
        save(nn.Linear(8, 2), tmp_path / "m", examples=["a", "b"])


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_torchscript_is_refused(tmp_path):
    with pytest.raises(ConversionError, match="TorchScript") as caught:
        save(torch.jit.trace(nn.Linear(8, 2), torch.from_numpy(X)), tmp_path / "m", examples=X)
    assert "before torch.jit" in (caught.value.hint or "")


def test_other_names_than_those_of_arguments_are_refused(tmp_path):
    with pytest.raises(ConversionError, match="Pooled takes tokens, weights, scale; given are ids, weights"):
        save(modules.Pooled(), tmp_path / "m", examples={"ids": np.zeros((2, 3), int), "weights": np.ones((2, 3))})


def test_an_input_with_the_name_of_an_output_is_refused(tmp_path):
    with pytest.raises(ConversionError, match="cannot be called 'outputs'"):
        save(nn.Linear(8, 2), tmp_path / "m", examples=X, input_name="outputs")


def test_files_that_are_no_programs_are_refused(tmp_path):
    with pytest.raises(NotFound):
        save(tmp_path / "missing.pt2", tmp_path / "m", examples=X)
    for name, message in (("weights.pt", "no program"), ("broken.pt2", "is no program of torch.export")):
        (tmp_path / name).write_bytes(b"PK\x03\x04")
        with pytest.raises(ConversionError, match=message):
            save(tmp_path / name, tmp_path / "m", examples=X)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"format": "saved_model"}, "cannot be written as 'saved_model'"),
        ({"signatures": {"other": None}}, "takes no signatures="),
        ({"preprocess": 3}, "preprocess= is a int"),
        ({"datatype": "FP16"}, "FP32 or FP64, not FP16"),
    ],
)
def test_what_was_asked_for_and_is_not_there_is_refused(tmp_path, arguments, message):
    with pytest.raises(InvalidArgument, match=message):
        save(nn.Linear(8, 2), tmp_path / "m", examples=X, **arguments)
