"""Makes a version of a PyTorch module, or of a program of torch.export: as ONNX."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from servable.convert.draft import Draft
from servable.convert.onnx_file import FILE
from servable.convert.torch_child import convert_in_child
from servable.errors import ConversionError, NotFound
from servable.model.formats import format_of
from servable.model.golden import GoldenExample
from servable.model.origin import package_versions
from servable.wire.tensors import BYTES, as_tensor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from servable.convert.conversion import Conversion
    from servable.model.examples import Examples
    from servable.wire.tensors import Tensor

_PROGRAM = ".pt2"
_WEIGHTS = (".pt", ".pth")


def takes(model: object) -> bool:
    """Whether it is a module or an exported program of PyTorch, or the path of a file of PyTorch."""
    if isinstance(model, str | Path):
        return Path(model).suffix in (_PROGRAM, *_WEIGHTS)
    torch = sys.modules.get("torch")
    if torch is None or any(cls.__module__.split(".")[0] == "keras" for cls in type(model).__mro__):
        return False
    kinds = (torch.nn.Module, torch.export.ExportedProgram, torch.jit.ScriptFunction)
    return isinstance(model, kinds)


def convert(conversion: Conversion) -> Draft:
    """Writes a module as `model.onnx`, with its own answers to the examples.

    The module is traced in evaluation mode, and left in the mode in which it was; the number of rows stays open. The
    names of a dict of examples are those of the arguments of `forward`, or of `preprocess`. Outputs are named as
    `servable.convert.chain.name_outputs` says.

    Args:
        conversion: Its model is a `torch.nn.Module`, a `torch.export.ExportedProgram`, or the path of a `.pt2` file;
            its `preprocess` a module or a function of tensors.

    Raises:
        NotFound: There is no such file.
        ConversionError: It cannot be traced, does something that a version cannot do, or has an operator without an
            equivalent in ONNX; or onnxscript is not installed.
    """
    conversion.allow("onnx", preprocess=True)
    in_file = isinstance(conversion.model, str | Path)
    if in_file and conversion.preprocess is None and "torch" not in sys.modules:
        return convert_in_child(conversion)
    _require_packages()
    model = _program(conversion.model) if in_file else conversion.model
    from servable.convert import torch_onnx
    from servable.convert.torch_module import Served

    examples, datatype = conversion.examples, conversion.datatype
    inputs = _inputs(examples, datatype)
    served = Served.of(model, conversion.preprocess, list(inputs), single=examples.single)
    served.require_datatype(datatype)
    with served.evaluated():
        records = list(_records(served, _split(examples, served.rows, model), datatype))
        conversion.say("Tracing the module")
        program = torch_onnx.trace(served, records[0].inputs)
        if served.rows is None:
            records += _records(served, examples.first_row(), datatype)
    conversion.say("Writing ONNX")
    torch_onnx.write(program, served, records[0], conversion.folder / FILE)
    return Draft(
        format_of("onnx", FILE),
        records,
        frameworks=package_versions("torch", "onnxscript", "onnx", "numpy"),
        hint="a function of PyTorch that ONNX computes in another way, or answers that differ from call to call",
    )


def _require_packages() -> None:
    if "tensorflow" in sys.modules and "triton" not in sys.modules:
        # torch.export would import Triton, and where TensorFlow has been first, its LLVM ends the process. A module
        # that is None cannot be imported; PyTorch does without, as it does where Triton is not installed.
        sys.modules["triton"] = None  # type: ignore[assignment]
    try:
        import onnxscript  # noqa: F401
        import torch  # noqa: F401
    except ImportError as error:
        raise ConversionError(
            f"{error.name} is needed to save PyTorch models", hint='pip install "servable[torch]"'
        ) from error


def _program(path: str | Path) -> Any:
    import torch

    if not Path(path).is_file():
        raise NotFound(f"There is no file {path}")
    if Path(path).suffix in _WEIGHTS:
        raise ConversionError(
            f"{path} holds weights, a pickled module or TorchScript, but no program to export",
            hint="load it in Python and save the module, or write a .pt2 file with torch.export.save",
        )
    try:
        return torch.export.load(path)
    except Exception as error:
        first = " ".join(str(error).split("\n")[0].split())[:300]
        raise ConversionError(
            f"{path} is no program of torch.export: {first}",
            hint="write it with torch.export.save(torch.export.export(...), path), by this version of PyTorch",
        ) from error


def _split(examples: Examples, rows: int | None, model: Any) -> list[Examples]:
    if rows is None:
        return examples.split()
    parts = [part for part in examples.split(rows) if part.rows == rows]
    if not parts:
        raise ConversionError(
            f"The {type(model).__name__} takes {rows} rows at once; there are {examples.rows} examples",
            hint="export it with dynamic_shapes, or give so many examples",
        )
    return parts


def _inputs(examples: Examples, datatype: str) -> dict[str, Tensor]:
    """The examples as tensors: floats in the datatype that was asked for, everything else as it is."""
    inputs = {}
    for name, array in examples.arrays.items():
        floats = np.issubdtype(array.dtype, np.floating)
        inputs[name] = tensor = as_tensor(array, datatype if floats else None)
        if tensor.datatype == BYTES:
            raise ConversionError(
                f"Input '{name}' holds strings, and PyTorch has none",
                hint="give numbers (token ids, category numbers), or wrap the model in a class with predict",
            )
    return inputs


def _records(served: Any, parts: list[Examples], datatype: str) -> Iterator[GoldenExample]:
    for part in parts:
        inputs = _inputs(part, datatype)
        yield GoldenExample(inputs, served.answers(inputs))
