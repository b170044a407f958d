"""Puts a rim around the ONNX graph that skl2onnx writes, so that it takes and gives what the estimator does.

Everything inside gets a prefix, so no column of the user can have the name of a value inside.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from servable.errors import ConversionError
from servable.wire.tensors import numpy_dtype

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_PREFIX = "sklearn/"
_COLUMN, _FLAT, _SENT = "rim/column", "rim/flat", "sent"


class Rim:
    """New inputs and outputs around a converted model.

    The inputs are told apart by position: skl2onnx changes names that are no identifiers, like `n rooms`.
    """

    def __init__(self, model: Any) -> None:
        import onnx
        from onnx import compose

        self._helper, self._tensor = onnx.helper, onnx.TensorProto
        self.model = compose.add_prefix(model, _PREFIX)
        self._graph = self.model.graph
        self._inner_inputs = list(self._graph.input)
        self._inner_outputs = list(self._graph.output)
        self._before: list[Any] = []
        self._after: list[Any] = []
        del self._graph.input[:]
        del self._graph.output[:]

    @property
    def tensors(self) -> list[Any]:
        """The outputs inside, up to the first that is no tensor."""
        return list(itertools.takewhile(lambda output: output.type.HasField("tensor_type"), self._inner_outputs))

    def take_array(self, name: str, datatype: str) -> None:
        """The only input, called `name`, which is sent as `datatype`."""
        (inner,) = self._inner_inputs
        shape = [dim.dim_value or None for dim in inner.type.tensor_type.shape.dim]
        self._take(name, datatype, shape)
        self._cast(name, inner.name, inner)

    def take_columns(self, datatypes: Mapping[str, str]) -> None:
        """One input of shape [-1] for each of those inside, which have shape [-1, 1]; by name what it is sent as."""
        for (name, datatype), inner in zip(datatypes.items(), self._inner_inputs, strict=True):
            self._take_column(name, datatype, inner.name, inner)

    def take_table(self, datatypes: Mapping[str, str]) -> None:
        """One input of shape [-1] for each column of the only one inside, which has shape [-1, n]."""
        (inner,) = self._inner_inputs
        columns = [f"{_COLUMN}/{position}" for position in range(len(datatypes))]
        for (name, datatype), column in zip(datatypes.items(), columns, strict=True):
            self._take_column(name, datatype, column, inner)
        self._before.append(self._node("Concat", columns, inner.name, axis=1))

    def give(self, outputs: Sequence[tuple[str, bool]]) -> None:
        """The first outputs, under new names; the others are dropped.

        Args:
            outputs: For each its name, and whether [-1, 1] has to become [-1].
        """
        taken = {declared.name for declared in self._graph.input}
        for inner, (name, flat) in zip(self._inner_outputs, outputs, strict=False):
            if name in taken:
                raise ConversionError(f"An input cannot be called '{name}': an output is", hint="rename the column")
            shape = None if flat else [dim.dim_value or None for dim in inner.type.tensor_type.shape.dim]
            element = inner.type.tensor_type.elem_type
            self._after.append(
                self._node("Reshape", [inner.name, _FLAT], name) if flat else self._node("Identity", [inner.name], name)
            )
            self._graph.output.append(self._helper.make_tensor_value_info(name, element, shape or [None]))

    def finish(self) -> bytes:
        """The model with its rim, as the bytes of an .onnx file."""
        inside = list(self._graph.node)
        del self._graph.node[:]
        self._graph.node.extend([*self._before, *inside, *self._after])
        for name, shape in ((_COLUMN, [-1, 1]), (_FLAT, [-1])):
            constant = self._helper.make_tensor(name, self._tensor.INT64, [len(shape)], shape)
            self._graph.initializer.append(constant)
        content: bytes = self.model.SerializeToString()
        return content

    def _take_column(self, name: str, datatype: str, column: str, like: Any) -> None:
        self._take(name, datatype, [None])
        self._before.append(self._node("Reshape", [name, _COLUMN], f"{column}/{_SENT}"))
        self._cast(f"{column}/{_SENT}", column, like)

    def _take(self, name: str, datatype: str, shape: list[int | None]) -> None:
        element = self._helper.np_dtype_to_tensor_dtype(numpy_dtype(datatype))
        self._graph.input.append(self._helper.make_tensor_value_info(name, element, shape))

    def _cast(self, sent: str, name: str, like: Any) -> None:
        """What was sent, as it is inside."""
        element = like.type.tensor_type.elem_type
        if element == self._tensor.STRING:
            self._before.append(self._node("Identity", [sent], name))
        else:
            self._before.append(self._node("Cast", [sent], name, to=element))

    def _node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> Any:
        return self._helper.make_node(kind, inputs, [output], **attributes)
