"""A JAX function with its parameters apart, run for its own answers, and traced for any number of rows."""

from __future__ import annotations

import functools
import json
import traceback
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.export
import numpy as np

from servable.convert.chain import Chain, title
from servable.engines.python_model import describe
from servable.errors import ConversionError, InvalidArgument, ServableError
from servable.wire.tensors import Tensor, as_tensor

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_NOT_OWN = (str(Path(jax.__file__).parent), str(Path(__file__).parent), "<")
_WRAP = "or wrap the model in a class with predict, which is served as Python"


class Function:
    """A model, what comes before it, and the arrays that they hold.

    Attributes:
        weights: The arrays that the model holds, on the processor.
    """

    def __init__(self, model: Any, preprocess: Any) -> None:
        self.title = title(model)
        self._preprocess = preprocess
        # `functools.partial` is no pytree, jax.tree_util.Partial is one.
        tree = (model.args, model.keywords) if isinstance(model, functools.partial) else model
        self._partial = model.func if isinstance(model, functools.partial) else None
        self._leaves, self._tree = jax.tree_util.tree_flatten(tree)
        self._lifted = [position for position, leaf in enumerate(self._leaves) if _is_weight(leaf)]
        self.weights = [np.asarray(self._leaves[position]) for position in self._lifted]

    def __call__(self, weights: Sequence[Any], value: Any) -> dict[str, Any]:
        """The named outputs, with other weights."""
        leaves = list(self._leaves)
        for position, weight in zip(self._lifted, weights, strict=True):
            leaves[position] = weight
        model = jax.tree_util.tree_unflatten(self._tree, leaves)
        if self._partial is not None:
            args, keywords = model
            model = functools.partial(self._partial, *args, **keywords)
        return Chain(model, self._preprocess, (jax.Array, np.ndarray))(value)

    def answers(self, value: Any) -> dict[str, Tensor]:
        """The function's own answers on the processor, by output name.

        Raises:
            ConversionError: It fails on the examples, or gives what cannot be served.
        """
        try:
            with jax.default_device(jax.devices("cpu")[0]):
                named = self([jax.numpy.asarray(weight) for weight in self.weights], _to_jax(value))
        except ConversionError:
            raise
        except Exception as error:
            raise ConversionError(f"{self.title} fails on the examples: {describe(error)[:500]}") from error
        if not named:
            raise ConversionError(f"{self.title} gives nothing")
        return {name: _answer(name, array) for name, array in named.items()}


@dataclass(frozen=True)
class Program:
    """A function that JAX has traced.

    Attributes:
        exported: Takes a list of weights and a list of arrays, gives a list of arrays.
        weights: As it takes them.
        batched: Whether the first axis of all arrays that go in is open.
    """

    exported: Any
    weights: list[Any]
    batched: bool

    def write(self, folder: Path) -> None:
        """Writes it for `read_program`."""
        (folder / "program").write_bytes(self.exported.serialize())
        for number, weight in enumerate(self.weights):
            (folder / f"{number}.weight").write_bytes(weight.tobytes())
        kinds = [(weight.dtype.name, weight.shape) for weight in self.weights]
        (folder / "weights.json").write_text(json.dumps({"kinds": kinds, "batched": self.batched}))


def read_program(folder: Path) -> Program:
    """What `Program.write` wrote."""
    index = json.loads((folder / "weights.json").read_text())
    weights = [
        np.frombuffer((folder / f"{number}.weight").read_bytes(), np.dtype(name)).reshape(shape)
        for number, (name, shape) in enumerate(index["kinds"])
    ]
    exported = jax.export.deserialize(bytearray((folder / "program").read_bytes()))
    return Program(exported, weights, index["batched"])


@dataclass(frozen=True)
class Form:
    """Inputs and outputs of a version: `(name, datatype, shape)` of each, and the names that come out."""

    inputs: list[tuple[str, str, list[int | None]]]
    outputs: list[str]
    single: bool

    @classmethod
    def of(cls, program: Program, example: Any, *, single: bool) -> Form:
        inputs = []
        for name, tensor in example.inputs.items():
            sizes = [None, *tensor.shape[1:]] if program.batched and tensor.shape else list(tensor.shape)
            inputs.append((name, tensor.datatype, sizes))
        return cls(inputs, list(example.outputs), single)

    def to_json(self) -> dict[str, Any]:
        return {"inputs": self.inputs, "outputs": self.outputs, "single": self.single}


def trace(function: Function, value: Any) -> Program:
    """The program of a function, for any number of rows where all arrays of `value` have the same number.

    Raises:
        ConversionError: JAX cannot trace it, or only for one number of rows.
    """
    leaves, tree = jax.tree_util.tree_flatten(_to_jax(value))
    sizes = {leaf.shape[0] if leaf.ndim else None for leaf in leaves}
    batched = len(sizes) == 1 and None not in sizes
    rows = jax.export.symbolic_shape("rows")[0] if batched else None

    def flat(weights: list[Any], arrays: list[Any]) -> list[Any]:
        return list(function(weights, jax.tree_util.tree_unflatten(tree, arrays)).values())

    specs = [jax.ShapeDtypeStruct((rows, *leaf.shape[1:]) if batched else leaf.shape, leaf.dtype) for leaf in leaves]
    held = [jax.ShapeDtypeStruct(weight.shape, weight.dtype) for weight in function.weights]
    try:
        with without_paths():
            exported = jax.export.export(jax.jit(flat), platforms=["cpu"])(held, specs)
        if batched:
            _compile(exported, held, leaves)
    except ServableError:
        raise
    except Exception as error:
        raise _explain(error, function.title) from error
    return Program(exported, function.weights, batched)


def _compile(exported: Any, held: list[Any], leaves: list[Any]) -> None:
    """For one row more than the examples have: some sizes are looked at only by the compiler."""
    more = [jax.ShapeDtypeStruct((leaf.shape[0] + 1, *leaf.shape[1:]), leaf.dtype) for leaf in leaves]
    jax.jit(exported.call).lower(held, more).compile()


@contextmanager
def without_paths() -> Iterator[None]:
    """What JAX traces meanwhile does not tell where on the disk the function was written."""
    frames = jax.config.jax_traceback_in_locations_limit
    jax.config.update("jax_traceback_in_locations_limit", 0)
    try:
        yield
    finally:
        jax.config.update("jax_traceback_in_locations_limit", frames)


def _is_weight(leaf: Any) -> bool:
    if not isinstance(leaf, jax.Array | np.ndarray):
        return False
    return not jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.extended)  # keys of random numbers stay where they are


def _to_jax(value: Any) -> Any:
    return jax.tree_util.tree_map(jax.numpy.asarray, value)


def _answer(name: str, array: Any) -> Tensor:
    try:
        return as_tensor(np.asarray(array))
    except (TypeError, InvalidArgument) as error:
        raise ConversionError(
            f"Output '{name}' is an array of {array.dtype} that cannot be served", hint="convert it with .astype"
        ) from error


def _explain(error: Exception, name: str) -> ConversionError:
    where = _line(error)
    if isinstance(error, jax.errors.TracerBoolConversionError | jax.errors.TracerIntegerConversionError):
        return ConversionError(
            f"What {name} computes depends on values of arrays{where}",
            hint=f"choose with jnp.where or jax.lax.cond, {_WRAP}",
        )
    if isinstance(error, jax.errors.TracerArrayConversionError):
        return ConversionError(f"{name} takes an array out of JAX{where}", hint=f"use jax.numpy, {_WRAP}")
    first = " ".join(str(error).strip().split("\n")[0].split())[:300]
    if "rows" in str(error) or "refining shapes" in str(error):
        return ConversionError(
            f"{name} is not for every number of rows{where}",
            hint="take the number from an argument with x.shape[0], and do not loop over rows",
        )
    return ConversionError(
        f"{name} cannot be traced: {type(error).__name__}: {first}{where}",
        hint=f"use functions of JAX alone on arrays, {_WRAP}",
    )


def _line(error: Exception) -> str:
    """The last line of the user's own code that an error passed through, as ` (net.py, line 3: return x)`."""
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(_NOT_OWN)]
    if not own:
        return ""
    return f" ({Path(own[-1].filename).name}, line {own[-1].lineno}: {(own[-1].line or '').strip()[:80]})"
