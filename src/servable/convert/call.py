"""How the named tensors of a request become the arguments of a model, and its results the named outputs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from servable.errors import ConversionError, InvalidArgument
from servable.model.examples import bind_inputs
from servable.model.golden import GoldenExample
from servable.model.signatures import DEFAULT_SIGNATURE, Signature, TensorSpec
from servable.wire.tensors import BYTES, Tensor, as_tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from servable.model.examples import Examples

SINGLE_OUTPUT = "outputs"
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_MAX_LINE = 400


@dataclass(frozen=True)
class Call:
    """How a model is called with named tensors.

    Attributes:
        specs: The inputs, in the order of the model.
        form: What the model takes: one `array`, a `dict` of them, a `list`, or `keywords`.
    """

    specs: tuple[TensorSpec, ...]
    form: str

    def ask(self, function: Callable[..., Any], tensors: Mapping[str, Any]) -> Any:
        """Calls a function.

        Example:
            >>> numbers = Call((TensorSpec("a", "FP32", (-1,)), TensorSpec("b", "FP32", (-1,))), "list")
            >>> numbers.ask(sum, {"a": 1, "b": 2})
            3
        """
        ordered = [tensors[spec.name] for spec in self.specs]
        match self.form:
            case "array":
                return function(ordered[0])
            case "list":
                return function(ordered)
            case "keywords":
                return function(**tensors)
            case _:
                return function(dict(tensors))

    def named(self, value: Any) -> dict[str, Any]:
        """What the model would be called with, as named tensors: the reverse of `ask`."""
        if isinstance(value, Mapping):
            return {spec.name: value[spec.name] for spec in self.specs}
        values = value if isinstance(value, list | tuple) else [value]
        return {spec.name: each for spec, each in zip(self.specs, values, strict=True)}

    def bind(self, examples: Examples) -> dict[str, Tensor]:
        """Examples as tensors of these inputs; raises ConversionError where they have others."""
        return bind_inputs(examples, Signature(DEFAULT_SIGNATURE, self.specs, ()))

    def to_json(self) -> dict[str, Any]:
        """As a child process gets it."""
        return {"form": self.form, "specs": [spec.to_json() for spec in self.specs]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Call:
        return cls(tuple(TensorSpec.from_json(spec) for spec in data["specs"]), str(data["form"]))


def call_of_examples(examples: Examples, datatype: str = "FP32", form: str | None = None) -> Call:
    """The call that examples show. The first axis is open; numbers with a fraction are of the datatype that is given.

    Raises:
        ConversionError: A column holds what no tensor can.
    """
    specs = []
    for name, array in examples.arrays.items():
        try:
            found = as_tensor(array).datatype
        except InvalidArgument as error:
            raise ConversionError(f"Examples of '{name}': {error}", hint=error.hint) from error
        kind = datatype if found in ("FP32", "FP64") else found
        specs.append(TensorSpec(name, kind, (-1, *array.shape[1:]) if array.ndim else ()))
    return Call(tuple(specs), form or ("array" if examples.single else "dict"))


def name_outputs(value: Any, names: Sequence[str] = ()) -> dict[str, Any]:
    """What a model answers, by name of the output.

    A dict keeps its keys. One tensor is called `outputs`. Several are called by `names`, where these are as many and
    differ, else `output_0`, `output_1`, ...

    Example:
        >>> name_outputs((1, 2))
        {'output_0': 1, 'output_1': 2}
    """
    if isinstance(value, Mapping):
        return {str(name): each for name, each in value.items()}
    if not isinstance(value, list | tuple):
        return {SINGLE_OUTPUT: value}
    if len(names) != len(value) or len(set(names)) < len(names):
        names = [f"output_{index}" for index in range(len(value))]
    return dict(zip(names, value, strict=True))


def golden_of(
    run: Callable[[dict[str, Tensor]], Mapping[str, Any]],
    call: Call,
    examples: Examples,
    signature: str = DEFAULT_SIGNATURE,
) -> list[GoldenExample]:
    """Examples with the answers that `run` gives to them: named tensors in, named arrays out.

    Raises:
        ConversionError: `run` raises an error on them, or answers what no tensor can hold.
    """
    return [_record(run, call.bind(part), signature) for part in examples.split()]


def _record(
    run: Callable[[dict[str, Tensor]], Mapping[str, Any]], inputs: dict[str, Tensor], signature: str
) -> GoldenExample:
    outputs = {}
    for name, value in run(inputs).items():
        try:
            outputs[name] = as_tensor(np.asarray(value))
        except InvalidArgument as error:
            raise ConversionError(f"Output '{name}': {error}", hint="answer with arrays or a flat dict") from error
    return GoldenExample(inputs, outputs, signature)


def as_served(examples: Sequence[GoldenExample], signatures: Sequence[Signature]) -> list[GoldenExample]:
    """Examples with their answers in the datatypes in which the version serves them: JAX counts in int32, say.

    An answer that does not fit stays as it is, and the proof will tell of it.
    """
    known = {signature.name: {spec.name: spec for spec in signature.outputs} for signature in signatures}

    def cast(example: GoldenExample) -> GoldenExample:
        specs = known.get(example.signature, {})
        outputs = {name: _cast(tensor, specs.get(name)) for name, tensor in (example.outputs or {}).items()}
        return replace(example, outputs=outputs)

    return [cast(example) for example in examples]


def _cast(tensor: Tensor, spec: TensorSpec | None) -> Tensor:
    if spec is None or BYTES in (spec.datatype, tensor.datatype):
        return tensor
    integers = tensor.array.dtype.kind in "iu" and spec.datatype.startswith(("INT", "UINT"))
    floats = {tensor.datatype, spec.datatype} == {"FP32", "FP64"}
    try:
        return as_tensor(tensor.array, spec.datatype) if integers or floats else tensor
    except InvalidArgument:
        return tensor


def line_of(error: BaseException) -> str:
    r"""An error in one line: those of frameworks go on for pages.

    Example:
        >>> line_of(ValueError("no  such layer\n\nCall arguments: ..."))
        'no such layer'
    """
    paragraphs = [" ".join(each.split()) for each in _COLOURS.sub("", str(error)).split("\n\n") if each.strip()]
    if not paragraphs:
        return type(error).__name__
    line = paragraphs[0]
    if line.startswith("in user code:"):  # TensorFlow shows the whole way to the error first
        line = paragraphs[-1]
    elif len(paragraphs) > 1 and (line.endswith(":") or line.startswith("Exception encountered")):
        line = f"{line} {paragraphs[1]}"  # Keras says where, then what
    return line[:_MAX_LINE]
