"""The values that a client passes around; none of them knows a protocol."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from servable.errors import DeadlineExceeded

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    import numpy as np
    from numpy.typing import NDArray

    from servable.client.examples import Example
    from servable.client.exchange import Reply, Request
    from servable.client.steps import Steps
    from servable.model.signatures import Signature
    from servable.wire.examples import Classes
    from servable.wire.tensors import Tensor

DEFAULT_SIGNATURE = "serving_default"


@dataclass(frozen=True, slots=True)
class Target:
    """Which version of which model is meant; the newest one where neither version nor label is given."""

    model: str
    version: int | None = None
    label: str | None = None

    def __str__(self) -> str:
        if self.label is not None:
            return f"{self.model}@{self.label}"
        return self.model if self.version is None else f"{self.model}/{self.version}"


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a version takes and gives.

    Attributes:
        model: Name of the model.
        version: Number of the version that was asked, or None where the server does not say.
        signatures: By name. A server that speaks only the Open Inference Protocol tells of one, `serving_default`.
    """

    model: str
    version: int | None
    signatures: Mapping[str, Signature]


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """The state of one version in a server.

    Attributes:
        version: Its number.
        state: START, LOADING, AVAILABLE, UNLOADING or END.
        code: Name of the canonical status code, `OK` where nothing went wrong.
        message: What went wrong, or empty.
    """

    version: int
    state: str
    code: str = "OK"
    message: str = ""


class Deadline:
    """A moment until which a call may take.

    Example:
        >>> Deadline(5.0).remaining() <= 5.0
        True
    """

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self._end = time.monotonic() + timeout

    def within(self, seconds: float) -> Deadline:
        """A deadline in `seconds`, but never later than this one."""
        return Deadline(max(0.0, min(seconds, self._end - time.monotonic())))

    def allows(self, seconds: float) -> bool:
        """Whether there is time left after a pause of so many seconds."""
        return time.monotonic() + seconds < self._end

    def remaining(self) -> float:
        """Seconds that are left; DeadlineExceeded where none are."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise self.exceeded()
        return left

    def exceeded(self) -> DeadlineExceeded:
        return DeadlineExceeded(f"No answer within {self.timeout:g} s", hint="give it longer with timeout=")


class Dialect(Protocol):
    """How requests and replies look over HTTP; nothing is sent here. Only `not_ready` is given replies that failed."""

    def predict(
        self, target: Target, signature: str, inputs: Mapping[str, Tensor], outputs: tuple[str, ...], /
    ) -> Request: ...

    def read_predict(self, reply: Reply, signature: Signature, /) -> dict[str, NDArray[Any]]: ...

    def metadata(self, target: Target) -> Request: ...

    def read_metadata(self, target: Target, reply: Reply) -> Metadata: ...

    def ready(self, model: str | None) -> Request: ...

    def not_ready(self, reply: Reply) -> str | None: ...


class Backend(Protocol):
    """What is asked of a server in one protocol, over HTTP or gRPC: steps, without sockets. All raise ServableError."""

    def predict(
        self,
        target: Target,
        signature: Signature,
        inputs: Mapping[str, Tensor],
        outputs: tuple[str, ...],
        until: Deadline,
    ) -> Steps[dict[str, NDArray[Any]]]: ...

    def classify(
        self, target: Target, signature: str, examples: Sequence[Example], context: Example | None, until: Deadline
    ) -> Steps[list[Classes]]: ...

    def regress(
        self, target: Target, signature: str, examples: Sequence[Example], context: Example | None, until: Deadline
    ) -> Steps[NDArray[np.float32]]: ...

    def metadata(self, target: Target, until: Deadline) -> Steps[Metadata]: ...

    def status(self, model: str, until: Deadline) -> Steps[list[VersionStatus]]: ...

    def not_ready(self, model: str | None, until: Deadline) -> Steps[str | None]:
        """Why the server, or the model, is not ready; None where it is. Sent once, never again."""

    def change(self, model: str | None, until: Deadline) -> Steps[bool]:
        """Waits until the server tells that it, or the model, is ready; False where it tells no such thing."""
