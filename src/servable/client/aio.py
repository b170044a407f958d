"""The client for asyncio. It is `Client` with other sockets: see there for what arguments mean and calls raise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, TypeVar

from servable.client.calls import target_of
from servable.client.connect import Options
from servable.client.retry import Retry
from servable.client.steps import run_async

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from types import TracebackType

    import numpy as np
    from numpy.typing import NDArray

    from servable.client.connect import Files
    from servable.client.examples import Example
    from servable.client.repository import ListedVersion, Uploaded
    from servable.client.steps import Steps
    from servable.client.types import Metadata, VersionStatus
    from servable.wire.examples import Classes

T = TypeVar("T")


class AsyncClient:
    """`Client` for asyncio: the same arguments, the same methods, to be awaited.

    A client belongs to one event loop; any number of tasks may share it. A task that is cancelled cancels its request:
    its connection is closed, and our server then stops working on it.

    Args:
        url, timeout, dialect, token, ca, cert, retry, hedge_after, binary: As for `Client`.

    Raises:
        InvalidArgument, FailedPrecondition: As for `Client`.

    Example:
        >>> async with AsyncClient("http://localhost:8501") as client:  # doctest: +SKIP
        ...     one, two = await asyncio.gather(client.predict("digits", x), client.predict("cats", x))
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float = 30.0,
        dialect: str = "auto",
        token: str | None = None,
        ca: str | Path | None = None,
        cert: Files = None,
        retry: Retry | None = Retry(),  # noqa: B008  # frozen
        hedge_after: float | None = None,
        binary: bool | None = None,
    ) -> None:
        options = Options(url, timeout, dialect, token, ca, cert, retry, hedge_after, binary)
        self.url = url
        self._calls = options.calls()
        self._transport = options.async_transport()

    @property
    def timeout(self) -> float:
        """Seconds that a call may take in all, unless it says otherwise itself."""
        return self._calls.timeout

    def __repr__(self) -> str:
        return f"AsyncClient({self.url!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connections. Calls after it fail."""
        await self._transport.close()

    async def predict(
        self,
        model: str,
        x: Any,
        *,
        version: int | None = None,
        label: str | None = None,
        signature: str | None = None,
        outputs: Sequence[str] | None = None,
        timeout: float | None = None,
    ) -> NDArray[Any] | dict[str, NDArray[Any]]:
        """Runs a model on `x`. As `Client.predict`."""
        target = target_of(model, version, label)
        return await self._run(self._calls.predict(target, x, signature, outputs, timeout))

    async def classify(
        self,
        model: str,
        examples: Sequence[Example],
        *,
        context: Example | None = None,
        version: int | None = None,
        label: str | None = None,
        signature: str | None = None,
        timeout: float | None = None,
    ) -> list[Classes]:
        """Classifies rows of named features with a model that takes `tf.Example`s. As `Client.classify`."""
        target = target_of(model, version, label)
        return await self._run(self._calls.classify(target, examples, context, signature, timeout))

    async def regress(
        self,
        model: str,
        examples: Sequence[Example],
        *,
        context: Example | None = None,
        version: int | None = None,
        label: str | None = None,
        signature: str | None = None,
        timeout: float | None = None,
    ) -> NDArray[np.float32]:
        """One value for each row of named features. As `Client.regress`."""
        target = target_of(model, version, label)
        return await self._run(self._calls.regress(target, examples, context, signature, timeout))

    async def metadata(
        self, model: str, *, version: int | None = None, label: str | None = None, timeout: float | None = None
    ) -> Metadata:
        """What a version takes and gives: its signatures, with names, datatypes and shapes. As `Client.metadata`."""
        return await self._run(self._calls.metadata(target_of(model, version, label), timeout))

    async def status(self, model: str, *, timeout: float | None = None) -> list[VersionStatus]:
        """The state of every version that the server knows of, newest first. As `Client.status`."""
        return await self._run(self._calls.status(target_of(model), timeout))

    async def models(self, *, timeout: float | None = None) -> list[ListedVersion]:
        """Every version of every model that the server has. As `Client.models`."""
        return await self._run(self._calls.models(timeout))

    async def upload(
        self,
        source: str | Path,
        model: str,
        version: int | None = None,
        *,
        wait: bool = True,
        progress: Callable[[int, int], None] | None = None,
        timeout: float = 3600.0,
    ) -> Uploaded:
        """Sends a version to the server, which serves it by its version policy. As `Client.upload`."""
        import asyncio
        from pathlib import Path

        from servable.client.archive import archive_of

        target, archive = target_of(model, version), await asyncio.to_thread(archive_of, Path(source))
        return await self._run(self._calls.upload(target, archive, progress, timeout, wait=wait))

    async def load(self, model: str, version: int | None = None, *, timeout: float = 3600.0) -> None:
        """Has a model served again that was unloaded or has failed, and returns once it answers. As `Client.load`."""
        await self._run(self._calls.load(target_of(model, version), timeout))

    async def unload(self, model: str, *, timeout: float | None = None) -> None:
        """Takes a model out of service, and leaves its files. As `Client.unload`."""
        await self._run(self._calls.unload(target_of(model), timeout))

    async def unpin(self, model: str, *, timeout: float | None = None) -> None:
        """Takes the pin of a model away. As `Client.unpin`."""
        await self._run(self._calls.unpin(target_of(model), timeout))

    async def remove(self, model: str, version: int | None = None, *, timeout: float | None = None) -> None:
        """Deletes a version from the server's disk, or a whole model. As `Client.remove`."""
        await self._run(self._calls.remove(target_of(model, version), timeout))

    async def ready(self, model: str | None = None, *, timeout: float | None = None) -> bool:
        """Whether the server, or the model, takes requests. As `Client.ready`."""
        return await self._run(self._calls.ready(model, timeout))

    async def wait_until_ready(self, model: str | None = None, *, timeout: float = 30.0) -> None:
        """Returns once the server, or the model, takes requests. As `Client.wait_until_ready`."""
        await self._run(self._calls.wait_until_ready(model, timeout))

    async def _run(self, steps: Steps[T]) -> T:
        return await run_async(steps, self._transport)
