"""Writes nodes into the graph that skl2onnx builds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray


class Nodes:
    """Nodes for one operator. Values are told by their names; `given` is a variable of skl2onnx."""

    def __init__(self, scope: Any, container: Any) -> None:
        from onnx import TensorProto

        self._scope, self._container, self._types = scope, container, TensorProto

    def add(self, kind: str, inputs: Sequence[str], output: str = "", domain: str = "", **attributes: Any) -> str:
        """Adds a node with one output, and returns the output's name: the one given, or a new one."""
        output = output or self._scope.get_unique_variable_name(kind.lower())
        name = self._scope.get_unique_operator_name(kind)
        self._container.add_node(kind, list(inputs), [output], name=name, op_domain=domain, **attributes)
        return output

    def constant(self, array: NDArray[Any]) -> str:
        """A constant: integers, float32, float64 or strings."""
        from onnx import helper

        text = array.dtype.kind == "O"
        kind = self._types.STRING if text else helper.np_dtype_to_tensor_dtype(array.dtype)
        content = [each.encode() for each in array.ravel()] if text else array.ravel().tolist()
        name: str = self._scope.get_unique_variable_name("constant")
        self._container.add_initializer(name, kind, list(array.shape), content)
        return name

    def number(self, value: float, *, double: bool = False) -> str:
        """A constant of one number."""
        return self.constant(np.array([value], np.float64 if double else np.float32))

    def to_float(self, name: str, *, double: bool = False) -> str:
        """The same numbers as float32 or float64."""
        return self.add("Cast", [name], to=self._types.DOUBLE if double else self._types.FLOAT)

    def columns(self, table: str, positions: Sequence[int]) -> str:
        """Some columns of a table."""
        return self.add("Gather", [table, self.constant(np.array(positions, np.int64))], axis=1)

    def concatenated(self, tables: Sequence[str]) -> str:
        """Tables side by side."""
        return tables[0] if len(tables) == 1 else self.add("Concat", tables, axis=1)

    def encode(self, given: Any, name: str, codes: Mapping[Any, float], unknown: float) -> str:
        """The code of each value, as float32; `unknown` for a value without one. NaN is always unknown."""
        if is_text(given):
            keys: dict[str, Any] = {"keys_strings": [str(value) for value in codes]}
        else:
            name = self.to_float(name)
            keys = {"keys_floats": [float(value) for value in codes]}
        values = list(codes.values())
        return self.add(
            "LabelEncoder", [name], domain="ai.onnx.ml", default_float=unknown, values_floats=values, **keys
        )

    def equals_string(self, name: str, string: str) -> str:
        """Whether strings are this one. `Equal` itself takes strings only from opset 19 on."""
        found = self.add(
            "LabelEncoder", [name], domain="ai.onnx.ml", keys_strings=[string], values_int64s=[1], default_int64=0
        )
        return self.add("Cast", [found], to=self._types.BOOL)


def is_text(given: Any) -> bool:
    """Whether a variable holds strings."""
    return type(given.type).__name__ == "StringTensorType"


def is_double(given: Any) -> bool:
    """Whether a variable holds float64."""
    return type(given.type).__name__ == "DoubleTensorType"
