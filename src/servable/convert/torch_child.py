"""Converts a program of torch.export in a child, for a process that does not use PyTorch itself."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from servable.convert.child import run_in_child
from servable.convert.conversion import Conversion
from servable.convert.draft import Draft
from servable.convert.onnx_file import FILE
from servable.model.examples import Examples
from servable.model.formats import format_of
from servable.model.golden import GoldenExample, read_examples, write_examples
from servable.wire.tensors import as_tensor

if TYPE_CHECKING:
    from collections.abc import Callable

_ENVIRONMENT = {"CUDA_VISIBLE_DEVICES": ""}


def convert_in_child(conversion: Conversion) -> Draft:
    """The draft of a `.pt2` file.

    Raises:
        ServableError: What `servable.convert.torch.convert` raised in the child.
    """
    conversion.say("Starting PyTorch")
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        given = {name: as_tensor(array) for name, array in conversion.examples.arrays.items()}
        write_examples(scratch, [GoldenExample(given)])
        arguments = {
            "path": str(Path(conversion.model).absolute()),
            "folder": str(conversion.folder),
            "scratch": str(scratch),
            "names": list(given),  # the file keeps them in no order
            "single": conversion.examples.single,
            "datatype": conversion.datatype,
        }
        made = run_in_child("servable.convert.torch_child:write", arguments, conversion.say, _ENVIRONMENT)
        records = read_examples(scratch)
    return Draft(format_of("onnx", FILE), records, frameworks=made["frameworks"], hint=made["hint"])


def write(
    say: Callable[[str], None], path: str, folder: str, scratch: str, names: list[str], *, single: bool, datatype: str
) -> dict[str, Any]:
    """The child's side: writes the model into `folder`, and the examples with their answers into `scratch`."""
    import torch  # noqa: F401  # from here on the conversion is done in this process

    from servable.convert.torch import convert

    (given,) = read_examples(Path(scratch))
    arrays = {name: given.inputs[name].array for name in names}
    examples = Examples(arrays[names[0]] if single else arrays, arrays, single=single)
    draft = convert(Conversion(path, examples, Path(folder), datatype=datatype, say=say))
    write_examples(Path(scratch), draft.examples)
    return {"frameworks": dict(draft.frameworks), "hint": draft.hint}
