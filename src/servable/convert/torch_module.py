"""A PyTorch module as it is to be served: what comes before it, its inputs and outputs by name, in evaluation mode."""

from __future__ import annotations

import copy
import inspect
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from servable.convert.chain import Chain, title
from servable.engines.python_model import describe
from servable.errors import ConversionError, InvalidArgument
from servable.wire.tensors import Tensor, as_tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_DATATYPES = {"FP32": torch.float32, "FP64": torch.float64}


class Program:
    """An exported program, called with its arguments by name or by position."""

    def __init__(self, program: Any) -> None:
        self.module = program.module()
        self.__signature__ = inspect.signature(self.module.forward)
        spec = program.call_spec.in_spec
        self._positional = spec.child(0).num_children if hasattr(spec, "child") else spec.children_specs[0].num_children
        user_inputs = set(program.graph_signature.user_inputs)
        inputs = [node for node in program.graph.nodes if node.op == "placeholder" and node.name in user_inputs]
        sizes = [node.meta["val"].shape[0] for node in inputs if node.meta["val"].ndim]
        fixed = all(isinstance(size, int) for size in sizes) and len(set(sizes)) == 1
        self.rows: int | None = sizes[0] if fixed else None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        bound = self.__signature__.bind(*args, **kwargs).arguments
        values = list(bound.values())
        by_name = dict(list(bound.items())[self._positional :])
        return self.module(*values[: self._positional], **by_name)


class Served(torch.nn.Module):  # type: ignore[misc]  # PyTorch is not there where types are checked
    """The module that is traced: tensors in, in the order of `names`; a tuple of tensors out.

    Attributes:
        names: Of the inputs.
        outputs: Names of the outputs; known once it has answered.
        rows: How many rows it takes at once; None where that is open.
        open_axes: Whether it is up to a program which axes are open.
    """

    def __init__(self, chain: Chain, modules: Sequence[Any], names: list[str], *, single: bool) -> None:
        super().__init__()
        self.inner = torch.nn.ModuleList(modules)
        self._chain = chain
        self._single = single
        self.names = names
        self.outputs: list[str] = []
        self.rows = getattr(chain.model, "rows", None)
        self.open_axes = isinstance(chain.model, Program)
        self.forward = self._tuple_of(len(names))

    @classmethod
    def of(cls, model: Any, preprocess: Any, names: list[str], *, single: bool) -> Served:
        """The model as the user has it, with what comes before.

        Raises:
            ConversionError: It is TorchScript, a model without weights, or `preprocess` is no function.
        """
        model = Program(model) if isinstance(model, torch.export.ExportedProgram) else _on_processor(_plain(model))
        if preprocess is not None:
            if not callable(preprocess):
                raise ConversionError(
                    f"preprocess= is a {type(preprocess).__name__}", hint="give a function of tensors or a module"
                )
            preprocess = _on_processor(_plain(preprocess))
        modules = [each for each in (getattr(model, "module", model), preprocess) if _is_module(each)]
        return cls(Chain(model, preprocess, torch.Tensor), modules, names, single=single)

    def _tuple_of(self, count: int) -> Callable[..., tuple[Any, ...]]:
        """What is traced. Older versions of PyTorch fail over `*tensors`, and over an output that is an input."""

        def forward(*tensors: Any) -> tuple[Any, ...]:
            outputs = self._named(tensors).values()
            return tuple(each.clone() if any(each is given for given in tensors) else each for each in outputs)

        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        parameters = [inspect.Parameter(f"tensor_{number}", kind) for number in range(count)]
        forward.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return forward

    def _named(self, tensors: Sequence[Any]) -> dict[str, Any]:
        return self._chain(tensors[0] if self._single else dict(zip(self.names, tensors, strict=True)))

    def require_datatype(self, datatype: str) -> None:
        """Raises ConversionError where the weights are of another kind of float than the version is to compute in."""
        wanted = _DATATYPES.get(datatype)
        if wanted is None:
            raise ConversionError(f"Numbers become FP32 or FP64, not {datatype}")
        for name, parameter in self.inner.named_parameters():
            if parameter.is_floating_point() and parameter.dtype != wanted:
                raise ConversionError(
                    f"Parameter '{name.partition('.')[2]}' is {_word(parameter.dtype)}, the version is to compute in "
                    f"{_word(wanted)}",
                    hint='save model.float(), or with datatype="FP64" where the weights are float64',
                )

    @contextmanager
    def evaluated(self) -> Iterator[None]:
        """Evaluation mode, without gradients and compilation; afterwards every module is as it was.

        Raises:
            ConversionError: Answering or tracing has changed a buffer: a version keeps no state between calls.
        """
        tops = [module for module in self.inner if module.training and not isinstance(module, torch.fx.GraphModule)]
        training = [(module, module.training) for module in self.inner.modules()]
        kept = {name: (buffer, buffer.detach().clone()) for name, buffer in self.inner.named_buffers()}
        for module in tops:
            module.eval()
        try:
            with torch.no_grad(), torch.compiler.set_stance("force_eager"):
                yield
                if changed := self._changed(kept):
                    raise ConversionError(
                        f"forward changes the buffer '{changed.partition('.')[2]}', and a version keeps no state",
                        hint="take the state as an input and give the new one as an output",
                    )
        finally:
            for name, (buffer, before) in kept.items():
                buffer.data.copy_(before)
                path, _, leaf = name.rpartition(".")
                setattr(self.inner.get_submodule(path), leaf, buffer)
            for module in tops:
                module.train()
            for module, was in training:
                module.training = was

    def _changed(self, kept: Mapping[str, tuple[Any, Any]]) -> str | None:
        """The name of a buffer that is another one now, or holds other values; NaN is like NaN."""
        now = dict(self.inner.named_buffers())
        for name, (buffer, before) in kept.items():
            same = (buffer == before) | (torch.isnan(buffer) & torch.isnan(before))
            if now.get(name) is not buffer or not bool(same.all()):
                return name
        return None

    def answers(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The module's own answers, by output name.

        Raises:
            ConversionError: It fails on the inputs, or gives what ONNX cannot carry.
        """
        try:
            named = self._named(tensors_of(inputs))
        except ConversionError:
            raise
        except Exception as error:
            raise ConversionError(f"{title(self._chain.model)} fails on the examples: {describe(error)}") from error
        if not named:
            raise ConversionError("The model gives nothing")
        self.outputs = list(named)
        if taken := set(self.outputs) & set(self.names):
            raise ConversionError(f"An input cannot be called '{taken.pop()}': an output is", hint="rename one of them")
        return {name: _answer(name, tensor) for name, tensor in named.items()}


def tensors_of(inputs: Mapping[str, Tensor]) -> list[Any]:
    """Tensors of PyTorch with memory of their own: modules may write into what they are given."""
    return [torch.from_numpy(tensor.array.copy()) for tensor in inputs.values()]


def _is_module(value: Any) -> bool:
    return isinstance(value, torch.nn.Module)


def _plain(model: Any) -> Any:
    """The module inside one that torch.compile made; raises ConversionError for TorchScript."""
    if isinstance(model, torch.jit.ScriptModule | torch.jit.ScriptFunction):
        raise ConversionError(
            f"{type(model).__name__} is TorchScript, which PyTorch no longer exports",
            hint="save the module that it was made of, before torch.jit.script or torch.jit.trace",
        )
    return getattr(model, "_orig_mod", model)


def _on_processor(model: Any) -> Any:
    """The module, or a copy of it where its weights are on a GPU: the version is proven on the processor."""
    if not _is_module(model):
        return model
    devices = {tensor.device.type for tensor in (*model.parameters(), *model.buffers())}
    if devices <= {"cpu"}:
        return model
    try:
        return copy.deepcopy(model).cpu()
    except Exception as error:
        raise ConversionError(
            f"The weights of {type(model).__name__} cannot be copied from {', '.join(sorted(devices - {'cpu'}))}: "
            f"{describe(error)}",
            hint="save model.cpu()",
        ) from error


def _word(dtype: Any) -> str:
    return str(dtype).removeprefix("torch.")


def _answer(name: str, tensor: Any) -> Tensor:
    try:
        return as_tensor(tensor.detach().numpy().copy())
    except (TypeError, RuntimeError, InvalidArgument) as error:
        raise ConversionError(
            f"Output '{name}' is a tensor of {_word(tensor.dtype)} that cannot be served: {describe(error)}",
            hint="convert it in forward, with .float() or .to_dense() for example",
        ) from error
