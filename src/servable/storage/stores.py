"""The clients of object stores: made by obstore, told by the environment variables that each store's own tools read."""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from servable.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ServableError,
    Unauthenticated,
    Unavailable,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from servable.storage.uri import BucketUri

# One request carries no more than a few megabytes, so none is to take longer.
_CLIENT = {"timeout": "60s", "connect_timeout": "5s"}
_RETRIES = {"max_retries": 6, "retry_timeout": timedelta(seconds=60)}
_LONGEST_MESSAGE = 500


def obstore() -> ModuleType:
    """The package obstore, imported when the first bucket is named.

    Raises:
        FailedPrecondition: It is not installed.
    """
    try:
        import obstore
        import obstore.store
    except ImportError:
        raise FailedPrecondition(
            "Buckets need the package obstore, which is not installed", hint="pip install 'servable[buckets]'"
        ) from None
    return obstore


def open_store(uri: BucketUri) -> Any:
    """A client for the bucket of a URI. Asks nothing yet.

    Raises:
        FailedPrecondition: obstore is not installed.
        InvalidArgument: The environment holds something for this kind of store that cannot be used.
    """
    module = obstore()
    with told(str(uri)):
        if uri.scheme == "s3":
            return module.store.S3Store(uri.bucket, **_options(_s3_endpoint()))
        if uri.scheme == "gs":
            endpoint = _gcs_endpoint()
            # An emulator asks for no credentials; without any the client would look for those of the machine.
            config = {"base_url": endpoint, "bearer_token": "emulator"} if endpoint else {}
            return module.store.GCSStore(uri.bucket, config=config, **_options(endpoint))
        return module.store.AzureStore(uri.bucket, **_options(os.environ.get("AZURE_STORAGE_ENDPOINT", "")))


def _options(endpoint: str) -> dict[str, Any]:
    client = _CLIENT | ({"allow_http": True} if endpoint.startswith("http://") else {})
    return {"client_options": client, "retry_config": _RETRIES}


def _s3_endpoint() -> str:
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL", "")


def _gcs_endpoint() -> str:
    """Where an emulator listens: `STORAGE_EMULATOR_HOST` as Google's own clients take it, with or without a scheme."""
    host = os.environ.get("STORAGE_EMULATOR_HOST", "")
    return host if not host or "://" in host else f"http://{host}"


@contextmanager
def told(place: str) -> Iterator[None]:
    """Raises what obstore raises as errors of our tree, naming the place."""
    try:
        yield
    except (ServableError, GeneratorExit):
        raise
    except Exception as error:
        # Asked only now: what is raised here may come from elsewhere than obstore, and goes on as it is.
        known = _known_error(error)
        if known is None:
            raise
        kind, hint = known
        # Below the message comes a dump of the client's structures.
        message = str(error).partition("\n\nDebug source")[0].strip()[:_LONGEST_MESSAGE]
        raise kind(f"{place}: {message}", hint=hint) from error


def _known_error(error: Exception) -> tuple[type[ServableError], str | None] | None:
    if isinstance(error, FileNotFoundError) and error.filename is None:  # obstore's own has no file name
        return _BY_STATUS["404"]
    if type(error) is ValueError:  # a name that no object can have
        return InvalidArgument, None
    errors = obstore().exceptions
    by_class = {
        errors.AlreadyExistsError: (AlreadyExists, None),
        errors.PreconditionError: (AlreadyExists, None),
        errors.PermissionDeniedError: _BY_STATUS["403"],
        errors.UnauthenticatedError: _BY_STATUS["401"],
        errors.UnknownConfigurationKeyError: (InvalidArgument, None),
        errors.InvalidPathError: (InvalidArgument, None),
    }
    if type(error) in by_class or not isinstance(error, errors.BaseError):
        return by_class.get(type(error))
    # Listings have no classes for what was refused.
    status = _STATUS.search(str(error))
    return _BY_STATUS.get(status[1] if status else "", _UNREACHABLE)


_STATUS = re.compile(r"non-2xx status code: (\d{3})")
_BY_STATUS: dict[str, tuple[type[ServableError], str]] = {
    "401": (Unauthenticated, "the credentials are missing or wrong: see the guide on buckets"),
    "403": (PermissionDenied, "the credentials are missing, or do not allow it: see the guide on buckets"),
    "404": (NotFound, "check the URI, and that the bucket is there"),
}
_UNREACHABLE = (Unavailable, "is the store reachable, are the endpoint, the region and the credentials right?")
