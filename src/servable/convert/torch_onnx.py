"""Traces a PyTorch module with torch.export, refuses what ONNX would get wrong, and writes ONNX."""

from __future__ import annotations

import io
import logging
import re
import traceback
import warnings
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from servable.convert.torch_module import tensors_of
from servable.errors import ConversionError, ServableError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from servable.convert.torch_module import Served
    from servable.model.golden import GoldenExample
    from servable.wire.tensors import Tensor

# The one that PyTorch writes without a converter of versions in between; ONNX Runtime 1.20 knows up to 21.
_OPSET = 18
# A protobuf message ends at 2 GiB. What is over this goes into a file of weights beside the graph.
_MAX_WEIGHTS = 1900 << 20
_LOGGERS = ("torch", "torch.export", "torch._dynamo", "torch.onnx", "torch.fx", "onnxscript", "onnx_ir")
# Arguments of operators that are random only where they are told to be.
_CHANCES = {"dropout", "dropout_p", "train", "training"}
_WRAP = "or wrap the model in a class with predict, which is served as Python"
# Code that is not the user's, and code without a file.
_NOT_OWN = (str(Path(torch.__file__).parent), str(Path(__file__).parent), "<")
_FILE_LINE = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+), in .*\n\s*(?P<code>.+)')


def trace(served: Served, inputs: Mapping[str, Tensor]) -> Any:
    """The program of what is served, with an open number of rows.

    Args:
        served: In evaluation mode.
        inputs: Of any number of rows.

    Raises:
        ConversionError: It cannot be traced, only for one number of rows, or does what a version cannot do.
    """
    tensors = tensors_of(inputs)
    sizes = {tensor.shape[0] if tensor.ndim else None for tensor in tensors}
    rows = sizes.pop() if len(sizes) == 1 else None
    if served.open_axes:
        axes: Any = [dict.fromkeys(range(tensor.ndim), torch.export.Dim.AUTO) for tensor in tensors]
    else:
        axes = [{0: torch.export.Dim("batch")} if rows else None for _ in tensors]
    if rows == 1 and served.rows != 1:
        # A size of 1 is never taken for an open one.
        tensors = [torch.cat([tensor, tensor]) for tensor in tensors]
    with _silent():
        try:
            program = torch.export.export(served, tuple(tensors), dynamic_shapes=tuple(axes), strict=False)
        except ServableError:
            raise
        except Exception as error:
            raise _explain(error) from error
    _check(program)
    return program


def write(program: Any, served: Served, example: GoldenExample, file: Path) -> None:
    """Writes a program as ONNX: one file, and one of weights beside it where they are too big for one.

    Raises:
        ConversionError: An operator has no equivalent in ONNX.
    """
    with _silent():
        try:
            onnx = torch.onnx.export(
                program,
                dynamo=True,
                opset_version=_OPSET,
                input_names=list(example.inputs),
                output_names=list(served.outputs),
                verbose=False,
            )
        except Exception as error:
            raise _explain_operator(error, program) from error
        _clean(onnx.model.graph)
        weights = sum(each.const_value.nbytes for each in onnx.model.graph.initializers.values() if each.const_value)
        onnx.save(str(file), external_data=weights > _MAX_WEIGHTS)


def _clean(graph: Any) -> None:
    for part in (*graph.all_nodes(), *graph.inputs, *graph.outputs):
        part.metadata_props.clear()  # it tells where on the disk the module was written
    for value in graph.inputs:
        for axis, size in enumerate(value.shape):
            # An axis that might have been open and is not comes out as an open one whose name is its size.
            if str(getattr(size, "value", None)).isdigit():
                value.shape[axis] = int(size.value)


@contextmanager
def _silent() -> Iterator[None]:
    """Neither warnings nor logs nor listings of the exporter, which are about itself."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            for logger in loggers:
                logger.setLevel(logging.CRITICAL)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _check(program: Any) -> None:
    """Refuses operators that learn or answer by chance: their ONNX would be something else, or nothing at all."""
    for node in program.graph.nodes:
        schema = getattr(node.target, "_schema", None)
        if schema is None:  # not an operator: an input, a choice of an output
            continue
        arguments = {argument.name: argument.default_value for argument in schema.arguments}
        arguments |= dict(zip(arguments, node.args, strict=False)) | node.kwargs
        if _trains(schema.name, node.target.tags, arguments):
            raise ConversionError(
                f"{_where(node)} computes in training mode",
                hint="call model.eval() before torch.export.export; give F.dropout training=self.training",
            )
        if torch.Tag.nondeterministic_seeded in node.target.tags and not _CHANCES & arguments.keys():
            raise ConversionError(
                f"{_where(node)} answers by chance", hint="draw random numbers outside, and take them as an input"
            )


def _trains(name: str, tags: Collection[Any], arguments: Mapping[str, Any]) -> bool:
    if "batch_norm" in name:
        # Without running statistics a batch is normalised by itself in evaluation, too: such is the model.
        return bool(arguments.get("training")) and arguments.get("running_mean") is not None
    if "dropout" not in name and torch.Tag.nondeterministic_seeded not in tags:
        return False
    chances = [arguments[key] for key in ("dropout", "dropout_p") if key in arguments]
    chances += [arguments["p"]] if "dropout" in name and "p" in arguments else []
    training = arguments.get("train", arguments.get("training", bool(chances)))
    return training is not False and (not chances or any(chances))


def _where(node: Any) -> str:
    """`Layer 'encoder.0' (Dropout), aten.dropout`."""
    operator = ".".join(str(node.target).split(".")[:2])
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    if len(stack) < 2:
        return f"{operator}{_line(node.meta.get('stack_trace') or '')}"
    path, kind = stack[-1]
    kind = kind if isinstance(kind, str) else kind.__name__
    name = ".".join(path.split(".")[2:])  # without `inner.0`, which is ours
    named = f"Layer '{name}' ({kind.rpartition('.')[2]})" if name else kind.rpartition(".")[2]
    return f"{named}, {operator}{_line(node.meta.get('stack_trace') or '')}"


def _line(text: str) -> str:
    """The last line of the user's own code in a stack, as ` (net.py, line 3: return x)`."""
    own = [match for match in _FILE_LINE.finditer(text) if not match["file"].startswith(_NOT_OWN)]
    if not own:
        return ""
    return f" ({Path(own[-1]['file']).name}, line {own[-1]['line']}: {own[-1]['code'].strip()[:80]})"


def _explain(error: Exception) -> ConversionError:
    """What torch.export says in pages, in a line."""
    where = _line("".join(traceback.format_tb(error.__traceback__))) or _line(str(error))
    text = str(error)
    if "data-dependent" in text:
        return ConversionError(
            f"What is computed depends on values of tensors{where}",
            hint=f"choose with torch.where or torch.cond, {_WRAP}",
        )
    if "Constraints violated" in text or "specialized" in text:
        sizes = re.findall(r"constant \((\d+)\)", text)
        fixed = f" to {sizes[0]}" if sizes else ""
        return ConversionError(
            f"The module fixes the number of rows{fixed}{where}",
            hint="take it from an input with x.shape[0] and do not loop over rows, or save a program of torch.export",
        )
    first = " ".join(text.strip().split("\n")[0].split())[:300]
    return ConversionError(
        f"The module cannot be traced: {type(error).__name__}: {first}{where}",
        hint=f"use functions of torch alone on tensors, {_WRAP}",
    )


def _explain_operator(error: BaseException, program: Any) -> ConversionError:
    """Names the operator that has no equivalent, and its layer."""
    causes = [error]
    while (cause := causes[-1].__cause__) is not None:
        causes.append(cause)
    for text in map(str, causes):
        if found := re.search(r"translating node .*target=torch\.ops\.(\w+\.\w+)", text):
            # The program has been taken apart further than we see it: linalg_eigvals became linalg_eig.
            node = next((node for node in program.graph.nodes if str(node.target).startswith(found[1])), None)
            where = found[1] if node is None else _where(node)
            return ConversionError(f"{where} has no equivalent in ONNX", hint=f"write it with other functions, {_WRAP}")
    first = " ".join(str(causes[-1]).strip().split("\n")[0].split())[:300]
    return ConversionError(f"PyTorch cannot write the module as ONNX: {type(causes[-1]).__name__}: {first}")
