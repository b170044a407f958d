"""The native data plane: sockets, wire formats, routing, batching and engines. The boundary between Python and Rust.

One tensor crosses as `(name, datatype, shape, data)`: a datatype of the Open Inference Protocol (`FP32`, `BYTES`), and
a little-endian, row-major, contiguous buffer, which is not copied; for `BYTES` a list of bytes, row-major.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, final

__all__ = [
    "FolderWatch",
    "NativeError",
    "Servable",
    "Server",
    "TensorBuffer",
    "crc32c",
    "load",
    "load_python",
    "load_remote",
]

_NamedTensor: TypeAlias = tuple[str, str, tuple[int, ...], Any]

class NativeError(Exception):
    """What the data plane refuses or fails at. `args`: `(grpc_status: int, message: str, reason: str)`."""

@final
class TensorBuffer:
    """The memory of a tensor, for the buffer protocol. Read-only; lives as long as a view of it does."""

    def __len__(self, /) -> int: ...

@final
class Servable:
    """What an engine loaded for one version."""

    @property
    def signatures(self, /) -> str:
        """JSON list of `{"name", "method_name", "inputs", "outputs"}`.

        Inputs and outputs are `{"name", "datatype", "shape", "tensor_name"}`; a shape of null is of unknown rank, a
        dimension of -1 is open. Those that no client can call are left out.
        """
    @property
    def description(self, /) -> str:
        """As `signatures`, of all of them, with all that is known: for `load_remote`."""
    @property
    def footprint(self, /) -> int:
        """Bytes that the engine holds for it, estimated while it was loaded."""
    def run(
        self,
        /,
        signature: str,
        inputs: Sequence[_NamedTensor],
        outputs: Sequence[str],
        timeout: float | None,
    ) -> list[_NamedTensor]:
        """One call of the engine, without batching; no names in `outputs` stand for all. Lets go of the GIL."""
    def release(self, /) -> None:
        """Gives up this reference. The engine is unloaded once no request uses it any more."""
    def wait_ended(self, /, timeout: float) -> bool:
        """After `release`: whether it is unloaded and its memory given back within `timeout` seconds."""

@final
class Server:
    """Sockets and routing. Settings: JSON; see `native/dataplane/src/listen/settings.rs`."""

    def __new__(
        cls,
        /,
        settings: str,
        reload: Callable[[bytes], None] | None = None,
        repository: Callable[[str], str] | None = None,
        warn: Callable[[str], None] | None = None,
    ) -> Server:
        """The functions are called on threads of their own; what the first two raise is answered.

        `reload` gets a serialized ReloadConfigRequest. `repository` gets a request to list or change models as JSON,
        see `native/dataplane/src/listen/repository.rs`, and gives the answer as JSON.

        `warn` is called, on the thread of the request log, with what goes wrong with its files.
        """
    def start(self, /) -> str:
        """Binds the ports and starts all threads. JSON: `{"rest", "grpc", "grpc_socket"}`, null for what is off."""
    def apply(self, /, snapshot: str, servables: Mapping[str, Servable]) -> None:
        """Makes a routing snapshot (JSON; see `native/dataplane/src/route.rs`) the one in force."""
    def set_tls(self, /, settings: str) -> None:
        """Takes other certificates (JSON; see `native/dataplane/src/listen/tls.rs`) for the handshakes from now on."""
    def set_tokens(self, /, tokens: str) -> None:
        """Takes other tokens (JSON; see `native/dataplane/src/listen/tokens.rs`) for the requests from now on."""
    def stop(self, /, grace: float) -> bool:
        """Refuses what is new and finishes what was accepted; whether all was within `grace` seconds."""
    def wait_demand(self, /, timeout: float) -> list[str] | None:
        """The models that requests wait for and that are not loaded, told once; waits for the first one.

        Empty after `timeout` seconds, None once the server has stopped. Lets go of the GIL.
        """
    def take_inputs(self, /) -> list[tuple[str, int, str, list[_NamedTensor]]]:
        """Model, version, signature and inputs of the requests that were kept since the last call.

        Those of versions whose `skew_sample` in the snapshot is over 0; see `native/dataplane/src/skew.rs`.
        """
    def set_skew_metrics(self, page: str, /) -> None:
        """What the page of metrics says of them from now on."""
    def usage(self, /) -> str:
        """JSON: for each model that answers `{"idle_s": 1.5, "in_flight": 0}`; null where it was not used yet."""
    def metrics(self, /) -> str:
        """The page that Prometheus reads."""

@final
class FolderWatch:
    """Tells that something in folders has changed, by the file system's own events. Watches until it is deleted."""

    def __new__(
        cls, folders: Sequence[str | os.PathLike[str]], recursive: bool, passed_over: Sequence[str], /
    ) -> FolderWatch:
        """OSError where a folder is not there, or cannot be watched.

        What lies in or under a folder whose name begins with one of `passed_over` is passed over.
        """
    def wait(self, timeout: float, quiet: float, /) -> bool:
        """Whether something has changed since the last call, or does within `timeout` seconds.

        From the first change on waits until none has come for `quiet` seconds. Lets go of the GIL.
        """

def load(path: str, engine: str, options: str) -> Servable:
    """Loads a file (`onnx`, `litert`) or a folder (`tensorflow`). Options: JSON; see `native/dataplane/src/engine/`."""

def load_python(
    function: Callable[[str, list[_NamedTensor]], Sequence[_NamedTensor]], signatures: str, options: str
) -> Servable:
    """Makes any callable a servable: `function(signature, inputs) -> outputs`, one call a batch."""

def load_remote(signatures: str, options: str, unload: Callable[[], None]) -> Servable:
    """A servable that runs in another server; see `native/dataplane/src/engine/remote/`.

    `signatures` is the `description` of the servable there. `unload` is called once nobody uses this one any more;
    `wait_ended` then waits for its return too.
    """

def crc32c(data: Any, /) -> int:
    """CRC-32C (Castagnoli) of a buffer, for TFRecord files."""
