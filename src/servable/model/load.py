"""`servable.load`: a version in this process, run by the same engines as in the server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

from servable.engines.load import Loaded, load_version
from servable.engines.native import run, unload
from servable.errors import FailedPrecondition, InvalidArgument, ManifestError
from servable.model.bucket import fetch, find_bucket_version
from servable.model.signatures import Signature, find_signature
from servable.model.versions import find_version
from servable.storage.cache import Cache
from servable.storage.location import Location
from servable.storage.uri import bucket_uri, local_path
from servable.wire.tensors import Tensor, as_tensor

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import ArrayLike, NDArray

    from servable.engines.options import EngineOptions
    from servable.model.signatures import TensorSpec
    from servable.storage.cache import Entry


def load(path: str | os.PathLike[str], options: EngineOptions | None = None) -> Servable:
    """Loads a version into this process.

    Its files are compared with its manifest and its golden examples are run, as a server does it.

    Args:
        path: Folder of a version, or folder of a model: then its newest version. Or the URI of one in a bucket, like
            `s3://bucket/models/digits`: it is downloaded into the cache, once.
        options: Threads of the engine. Default: what the version says.

    Raises:
        ServableError: See `servable.engines.load.load_version`, and for URIs `servable.model.bucket.fetch`.

    Example:
        >>> with load("models/digits") as digits:  # doctest: +SKIP
        ...     digits.predict(x)["label"]
    """
    if (uri := bucket_uri(path)) is not None:
        return _load_from_bucket(Location(uri), options)
    folder = find_version(local_path(path))
    return Servable(folder, load_version(folder, options))


def _load_from_bucket(place: Location, options: EngineOptions | None) -> Servable:
    version = find_bucket_version(place)
    cache = Cache.from_environment()
    entry = fetch(version, cache)
    try:
        loaded = load_version(entry.path, options)
    except ManifestError:
        # The copy in the cache was damaged since: once more, from the bucket.
        cache.discard(entry)
        entry = fetch(version, cache)
        loaded = load_version(entry.path, options)
    return Servable(entry.path, loaded, name=str(version), entry=entry)


class Servable:
    """A loaded version. Calls may come from many threads at once.

    Attributes:
        path: The version's folder.
        signatures: What it takes and gives, by name of the signature.
        batch_safe: Whether rows of a batch are proven independent; None for unknown.
    """

    def __init__(self, path: Path, loaded: Loaded, *, name: str = "", entry: Entry | None = None) -> None:
        self.path = path
        self._name = name or f"{path.parent.name}/{path.name}"
        self._entry = entry
        self.signatures: dict[str, Signature] = {signature.name: signature for signature in loaded.signatures}
        self.batch_safe = loaded.batch_safe
        self._loaded: Loaded | None = loaded

    def predict(
        self,
        x: ArrayLike | Mapping[str, ArrayLike],
        *,
        signature: str | None = None,
        outputs: Sequence[str] | None = None,
        timeout: float | None = None,
    ) -> NDArray[Any] | dict[str, NDArray[Any]]:
        """Runs the model once on a batch.

        Args:
            x: One array where the signature has one input; else a dict of arrays by input name.
            signature: Name of the signature. Default: `serving_default`.
            outputs: Names of the wanted outputs. Default: all.
            timeout: In seconds. Default: no limit.

        Returns:
            One array where there is one output, else a dict of arrays by output name. Strings are object arrays of
            bytes.

        Raises:
            InvalidArgument: Wrong input names, datatypes or shapes.
            NotFound: No such signature or output.
            FailedPrecondition: It is closed.
            DeadlineExceeded: It took longer than `timeout`.
        """
        loaded = self._loaded
        if loaded is None:
            raise FailedPrecondition(f"{self!r} is closed")
        wanted = find_signature(loaded.signatures, signature)
        inputs = {spec.name: _tensor(value, spec) for spec, value in _bind(x, wanted)}
        answer = run(loaded.servable, wanted.name, inputs, outputs or (), timeout)
        arrays = {name: tensor.array.copy() for name, tensor in answer.items()}
        single = len(wanted.outputs) == 1 or (outputs is not None and len(outputs) == 1)
        return next(iter(arrays.values())) if single else arrays

    def close(self) -> None:
        """Unloads the version and gives its memory back. Calls that run are finished first. May be called twice."""
        loaded, self._loaded = self._loaded, None
        if loaded is not None:
            unload(loaded.servable)
        if self._entry is not None:
            self._entry.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = " (closed)" if self._loaded is None else ""
        lines = "".join(f"\n  {signature}" for signature in self.signatures.values())
        return f"Servable {self._name}{state}{lines}"


def _bind(x: ArrayLike | Mapping[str, ArrayLike], signature: Signature) -> list[tuple[TensorSpec, ArrayLike]]:
    expected = [spec.name for spec in signature.inputs]
    if not isinstance(x, Mapping):
        if len(expected) != 1:
            raise InvalidArgument(f"Takes {len(expected)} inputs", hint=f"give a dict with {', '.join(expected)}")
        return [(signature.inputs[0], x)]
    if set(x) != set(expected):
        given = ", ".join(map(str, x)) or "nothing"
        raise InvalidArgument(f"Takes {', '.join(expected)}, given {given}")
    return [(spec, x[spec.name]) for spec in signature.inputs]


def _tensor(value: ArrayLike, spec: TensorSpec) -> Tensor:
    try:
        return as_tensor(value, spec.datatype)
    except InvalidArgument as error:
        raise InvalidArgument(f"Input '{spec.name}': {error}", hint=error.hint) from error
