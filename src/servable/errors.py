"""The one error tree. Each class has a stable code, a gRPC and an HTTP status, and often a hint.

    ServableError
    ├── InvalidArgument        the call cannot be right, whatever the state: mend it
    │   ├── SettingsError      a setting, flag, variable or file is wrong
    │   ├── ManifestError      a version's `servable.json` or golden examples cannot be used
    │   └── ConversionError    a trained model cannot be turned into a version
    ├── NotFound               no such model, version, label or signature
    ├── AlreadyExists          the version number is taken
    ├── Unauthenticated        no token, or one that is unknown or has expired
    ├── PermissionDenied       a token whose scopes are not enough
    ├── FailedPrecondition     right, but not in this state
    │   ├── EngineMissing      the engine of this format is not installed
    │   ├── GoldenMismatch     a version no longer answers as it did when it was saved
    │   └── GateMismatch       a version does not answer as the request log says that is its gate
    ├── ResourceExhausted      over a limit: try again later, or with less
    │   ├── TooLarge           what was sent is larger than allowed
    │   └── StorageFull        there is no room on the disk
    ├── Unavailable            not now: starting, stopping, or gone; has `retry_after`
    ├── DeadlineExceeded       took longer than it was given
    ├── Unimplemented          known, not supported
    ├── DataLoss               a file is damaged beyond reading
    └── Internal               a fault of ours, or of the model's own code

The names are those of the canonical status codes (https://grpc.io/docs/guides/status-codes/) where there is one.
"""

# ruff: noqa: N818  # the canonical names do not end in "Error"

from __future__ import annotations

from typing import ClassVar


class ServableError(Exception):
    """Base of all errors that servable raises.

    Attributes:
        code: Stable snake_case word; does not change between releases.
        grpc_status: Canonical status number (https://grpc.io/docs/guides/status-codes/).
        http_status: Status over REST.
        hint: What to do about it, or None.

    Example:
        >>> try:
        ...     raise NotFound("No model 'digits'", hint="servable status lists the models")
        ... except ServableError as error:
        ...     print(error.code, "-", error)
        not_found - No model 'digits'
    """

    code: ClassVar[str] = "unknown"
    grpc_status: ClassVar[int] = 2
    http_status: ClassVar[int] = 500

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message


class InvalidArgument(ServableError, ValueError):
    code = "invalid_argument"
    grpc_status = 3
    http_status = 400


class SettingsError(InvalidArgument):
    code = "settings"


class ManifestError(InvalidArgument):
    code = "manifest"


class ConversionError(InvalidArgument):
    code = "conversion"


class NotFound(ServableError, LookupError):
    code = "not_found"
    grpc_status = 5
    http_status = 404


class AlreadyExists(ServableError):
    code = "already_exists"
    grpc_status = 6
    http_status = 409


class Unauthenticated(ServableError):
    code = "unauthenticated"
    grpc_status = 16
    http_status = 401


class PermissionDenied(ServableError):
    code = "permission_denied"
    grpc_status = 7
    http_status = 403


class FailedPrecondition(ServableError):
    code = "failed_precondition"
    grpc_status = 9
    http_status = 400


class EngineMissing(FailedPrecondition):
    code = "engine_missing"


class GoldenMismatch(FailedPrecondition):
    code = "golden_mismatch"


class GateMismatch(FailedPrecondition):
    code = "gate_mismatch"


class ResourceExhausted(ServableError):
    """Over a limit. `retry_after` is in seconds where the other side said when to come back."""

    code = "resource_exhausted"
    grpc_status = 8
    http_status = 429

    def __init__(self, message: str, *, hint: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


class TooLarge(ResourceExhausted):
    code = "too_large"
    http_status = 413


class StorageFull(ResourceExhausted):
    code = "storage_full"
    http_status = 507


class Unavailable(ServableError):
    """Not now. `retry_after` is in seconds where the other side said when to come back."""

    code = "unavailable"
    grpc_status = 14
    http_status = 503

    def __init__(self, message: str, *, hint: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


class DeadlineExceeded(ServableError, TimeoutError):
    code = "deadline_exceeded"
    grpc_status = 4
    http_status = 504


class Unimplemented(ServableError):
    code = "unimplemented"
    grpc_status = 12
    http_status = 501


class DataLoss(ServableError):
    code = "data_loss"
    grpc_status = 15
    http_status = 500


class Internal(ServableError):
    code = "internal"
    grpc_status = 13
    http_status = 500


def all_errors() -> list[type[ServableError]]:
    """Every class of the tree, parents first."""
    found: list[type[ServableError]] = [ServableError]
    for parent in found:
        found.extend(parent.__subclasses__())
    return found


def from_status(grpc_status: int, message: str) -> ServableError:
    """The error of a canonical status number; ServableError itself for a number that no class has.

    Example:
        >>> type(from_status(5, "Servable not found for request: Latest(m)")).__name__
        'NotFound'
    """
    for cls in all_errors():
        if cls.grpc_status == grpc_status:
            return cls(message)
    return ServableError(message)
