"""`servable.load`: a version in this process, run by the same engines as in the server."""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Self

from servable.engines.load import Loaded, load_version
from servable.engines.native import run, unload
from servable.errors import FailedPrecondition, InvalidArgument, ManifestError
from servable.model.bind import bind
from servable.model.bucket import fetch, find_bucket_version
from servable.model.signatures import Signature, find_signature
from servable.model.versions import find_version
from servable.storage.cache import Cache
from servable.storage.location import Location
from servable.storage.uri import bucket_uri, local_path

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence
    from concurrent.futures import Future
    from pathlib import Path

    from numpy.typing import NDArray

    from servable.engines.options import EngineOptions
    from servable.model.signatures import TensorSpec
    from servable.storage.cache import Entry

    Answer = NDArray[Any] | dict[str, NDArray[Any]]

# Batches that wait for a thread: one is there when it is done with the last one, although the caller is slow.
_AHEAD = 2


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
        x: Any,
        *,
        signature: str | None = None,
        outputs: Sequence[str] | None = None,
        timeout: float | None = None,
    ) -> Answer:
        """Runs the model once on a batch.

        Args:
            x: One array where the signature has one input; else a dict of arrays by input name, or a DataFrame with
                these columns. A DataFrame for a signature of one input is the columns of that.
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
        answer = run(loaded.servable, wanted.name, bind(x, wanted), outputs or (), timeout)
        arrays = {name: tensor.array.copy() for name, tensor in answer.items()}
        single = len(wanted.outputs) == 1 or (outputs is not None and len(outputs) == 1)
        return next(iter(arrays.values())) if single else arrays

    def predict_batches(
        self,
        batches: Iterable[Any],
        *,
        signature: str | None = None,
        outputs: Sequence[str] | None = None,
        timeout: float | None = None,
        threads: int | None = None,
    ) -> Generator[Answer, None, None]:
        """Runs the model on one batch after the other, on several threads at once.

        No more batches are taken than are needed to keep the threads busy, so an endless iterator is fine. To stop
        early is too: what runs is finished, what waits is given up.

        Args:
            batches: Each as `predict` takes it. They are taken on the caller's thread.
            signature: As for `predict`.
            outputs: As for `predict`.
            timeout: For each batch, in seconds. Default: no limit.
            threads: How many run at once. Default: one a core.

        Yields:
            The answers, as of `predict`, in the order of the batches.

        Raises:
            InvalidArgument: As `predict`, in the place of that answer; or `threads` is below 1.
            ServableError: As `predict`, in the place of that answer.

        Example:
            >>> with load("models/digits") as digits:  # doctest: +SKIP
            ...     for answer in digits.predict_batches(np.array_split(x, 100)):
            ...         print(answer["label"])
        """
        count = (os.cpu_count() or 1) if threads is None else threads
        if count < 1:
            raise InvalidArgument(f"threads must be at least 1, not {count}")

        def ask(batch: Any) -> Answer:
            return self.predict(batch, signature=signature, outputs=outputs, timeout=timeout)

        return _in_order(ask, batches, count)

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
        lines = "".join(map(_describe, self.signatures.values()))
        return f"Servable {self._name}{state}{lines}"


def _in_order(ask: Callable[[Any], Answer], batches: Iterable[Any], threads: int) -> Generator[Answer, None, None]:
    """The answers in the order of the batches, of which a few more than there are threads are under way."""
    pool = ThreadPoolExecutor(threads, thread_name_prefix="servable-predict")
    under_way: deque[Future[Answer]] = deque()
    try:
        for batch in batches:
            under_way.append(pool.submit(ask, batch))
            if len(under_way) > threads + _AHEAD:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _describe(signature: Signature) -> str:
    sides = (("takes", signature.inputs), ("gives", signature.outputs))
    width = max((len(spec.name) for _, specs in sides for spec in specs), default=0)
    lines = [f"\n  {signature.name}"]
    for word, specs in sides:
        for spec in specs:
            lines.append(f"\n    {word}  {spec.name.ljust(width)}  {spec.datatype} {_shape(spec)}")
            word = " " * len(word)  # noqa: PLW2901  # said once for each side
    return "".join(lines)


def _shape(spec: TensorSpec) -> str:
    """`[n, 2]`: n for the rows, ? for any other open size."""
    if spec.shape is None:
        return "of any shape"
    sizes = ["?" if size == -1 else str(size) for size in spec.shape]
    if spec.shape[:1] == (-1,):
        sizes[0] = "n"
    return f"[{', '.join(sizes)}]"
