"""The states of a version, and the error that ended it.

The five public states and their meaning are TensorFlow Serving's
(https://github.com/tensorflow/serving/blob/master/tensorflow_serving/core/servable_state.h):

    START -> LOADING -> AVAILABLE -> UNLOADING -> END        END carries the error if there was one

A `Phase` is finer: it tells a load that runs from one that waits for its retry, and a version that was unloaded from
one that failed. The manager works on phases and publishes states.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum

from servable.errors import ServableError

MAX_MESSAGE = 4096
"""Characters of an error message that are kept: an engine may print a whole graph."""

_PERMANENT_CODES = frozenset({3, 9, 12, 15})  # INVALID_ARGUMENT, FAILED_PRECONDITION, UNIMPLEMENTED, DATA_LOSS
_UNKNOWN, _NOT_FOUND, _PERMISSION_DENIED, _RESOURCE_EXHAUSTED, _UNAVAILABLE = 2, 5, 7, 8, 14


_CODE_NAMES = (
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
    "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
    "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
)  # fmt: skip


class State(StrEnum):
    """Public state of a version; the value is the name that goes over the wire."""

    START = "START"
    LOADING = "LOADING"
    AVAILABLE = "AVAILABLE"
    UNLOADING = "UNLOADING"
    END = "END"


class Phase(Enum):
    """What the manager knows of a version; `state` is what it publishes of it."""

    NEW = "new"  # wanted, no load started
    LOADING = "loading"  # a load runs
    WAITING = "waiting"  # a load failed, its retry is to come; nothing is in memory
    AVAILABLE = "available"
    UNLOADING = "unloading"
    EVICTED = "evicted"  # not in memory until a request asks for it
    ENDED = "ended"  # unloaded, or never loaded
    FAILED = "failed"  # finally failed: not tried again by itself

    @property
    def state(self) -> State:
        return _STATES[self]

    @property
    def in_memory(self) -> bool:
        """Whether an engine holds memory for it, or may do so."""
        return self in (Phase.LOADING, Phase.AVAILABLE, Phase.UNLOADING)

    @property
    def over(self) -> bool:
        return self in (Phase.ENDED, Phase.FAILED)


_STATES = {
    Phase.NEW: State.START,
    Phase.LOADING: State.LOADING,
    Phase.WAITING: State.LOADING,
    Phase.AVAILABLE: State.AVAILABLE,
    Phase.UNLOADING: State.UNLOADING,
    # As TensorFlow Serving has it: the version is known, and nothing has been done about it yet.
    Phase.EVICTED: State.START,
    Phase.ENDED: State.END,
    Phase.FAILED: State.END,
}


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a load, or the look at a model's folder, failed.

    Attributes:
        code: Canonical status number (https://grpc.io/docs/guides/status-codes/), never 0.
        message: For the reader of the status; at most MAX_MESSAGE characters when made by `of`.
        permanent: A retry of the same files cannot help.

    Example:
        >>> Failure.of(FileNotFoundError(2, "No such file", "model.onnx")).code
        5
    """

    code: int
    message: str
    permanent: bool = False

    @property
    def code_name(self) -> str:
        """The name of its code, e.g. `NOT_FOUND`."""
        return _CODE_NAMES[self.code] if 0 <= self.code < len(_CODE_NAMES) else "UNKNOWN"

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """The failure that an exception stands for. A hint, where there is one, follows the message."""
        if isinstance(error, ServableError):
            text = f"{error.message} ({error.hint})" if error.hint else error.message
            return cls(error.grpc_status or _UNKNOWN, text[:MAX_MESSAGE], error.grpc_status in _PERMANENT_CODES)
        text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        return cls(_code_of(error), text[:MAX_MESSAGE])


def _code_of(error: BaseException) -> int:
    match error:
        case FileNotFoundError():
            return _NOT_FOUND
        case PermissionError():
            return _PERMISSION_DENIED
        case MemoryError():
            return _RESOURCE_EXHAUSTED
        case OSError():
            return _UNAVAILABLE
    return _UNKNOWN


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """One version in a status report.

    Attributes:
        version: Its number.
        state: Where it is.
        since: When it came into this state, in seconds of the manager's clock.
        failure: What went wrong last; also while a retry is awaited. None once it is available.
        evicted: It is not in memory, and is loaded when a request asks for it.
    """

    version: int
    state: State
    since: float
    failure: Failure | None = None
    evicted: bool = False

    @property
    def code(self) -> int:
        """Canonical status number, 0 if nothing went wrong."""
        return self.failure.code if self.failure else 0

    @property
    def message(self) -> str:
        return self.failure.message if self.failure else ""
