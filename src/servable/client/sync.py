"""The client: one class for every server of TensorFlow Serving's API or of the Open Inference Protocol."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from servable.client import repository
from servable.client.credentials import Credentials
from servable.client.types import DEFAULT_SIGNATURE, Backend, Deadline, Metadata, Target, VersionStatus
from servable.errors import DeadlineExceeded, FailedPrecondition, InvalidArgument, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from types import TracebackType

    import numpy as np
    from numpy.typing import NDArray

    from servable.client.examples import Example
    from servable.client.repository import ListedVersion, Uploaded
    from servable.client.rest import Rest
    from servable.model.signatures import Signature
    from servable.wire.examples import Classes

_SHORTEST_PAUSE_S = 0.02
_LONGEST_PAUSE_S = 1.0
_MOST_CACHED = 1024


class Client:
    """Talks to a model server: numpy arrays in, numpy arrays out.

    Threads may share a client; connections are kept and used again. What a model takes is asked for once and kept, so
    that one array needs no name and lists get the right dtype; when a request is refused, it is asked for again.

    Args:
        url: `http://host:8501` or `https://...` for REST, `grpc://host:8500`, `grpcs://host:8500` (TLS) or
            `unix:/path/to.sock` for gRPC (needs `pip install 'servable[grpc]'`).
        timeout: Seconds that a call may take in all, unless it says otherwise itself.
        dialect: What to speak over HTTP. `auto` asks the server once. `servable` is the Open Inference Protocol with
            tensors in binary and with labels and signatures; `oip` is that protocol alone, for other servers; `tfs` is
            TensorFlow Serving's JSON.
        token: The token that the server asks for (`servable token create` makes one).
        ca: A PEM file with the certificates that the server's own must come from; those of the system by default.
        cert: What the client shows to a server with mutual TLS: a PEM file with its certificate and its private key, or
            two files.

    Raises:
        InvalidArgument: The address, the timeout, the dialect or the token is none, or a file cannot be used.
        FailedPrecondition: The address is one for gRPC, and grpcio is not installed.

    Example:
        >>> with Client("http://localhost:8501") as client:  # doctest: +SKIP
        ...     client.predict("digits", x).argmax(axis=1)
        array([7, 2, 1])
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float = 30.0,
        dialect: str = "auto",
        token: str | None = None,
        ca: str | Path | None = None,
        cert: str | Path | tuple[str | Path, str | Path] | None = None,
    ) -> None:
        self.url = url
        self.timeout = _seconds(timeout)
        self._backend = _backend(url, dialect, _credentials(token, ca, cert))
        self._signatures: dict[tuple[Target, str], Signature] = {}

    def __repr__(self) -> str:
        return f"Client({self.url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections. Calls after it fail."""
        self._backend.close()

    def predict(
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
        """Runs a model on `x`.

        Args:
            model: Name of the model.
            x: An array, or anything numpy makes one of, for a model with one input; else a dict of them by name. The
                dtype is made to fit where no value changes its kind (float64 to float32, but not float to integer).
                Strings may be str or bytes.
            version: Number of the version; the newest one by default.
            label: Label of the version, instead of its number.
            signature: Name of the signature; `serving_default` by default.
            outputs: Names of the outputs that are wanted; all by default.
            timeout: Seconds that the call may take in all.

        Returns:
            The array, where the answer has one output; else a dict of arrays by name. Strings come as object arrays of
            bytes.

        Raises:
            NotFound: No such model, version or label.
            InvalidArgument: The inputs do not fit the model, or the request is wrong in another way.
            ResourceExhausted: The request is over a limit of the server.
            Unavailable: The server cannot be reached, or cannot take the request now; see `retry_after`.
            DeadlineExceeded: There was no answer in time.
            Internal: The model failed, or the answer cannot be read.
        """
        target, until = _target(model, version, label), self._deadline(timeout)
        name, wanted = signature or DEFAULT_SIGNATURE, tuple(outputs or ())
        known = self._signature(target, name, until)
        try:
            found = self._run(target, known, x, wanted, until)
        except (InvalidArgument, FailedPrecondition):
            # Perhaps a version with other inputs has taken over since we asked.
            fresh = self._signature(target, name, until, again=True)
            if fresh == known:
                raise
            found = self._run(target, fresh, x, wanted, until)
        return next(iter(found.values())) if len(found) == 1 else found

    def classify(
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
        """Classifies rows of named features with a model that takes `tf.Example`s.

        Over HTTP this is TensorFlow Serving's `:classify`, whatever the dialect.

        Args:
            model: Name of the model.
            examples: One dict for each row: a value, or a list or array of them, by name of the feature. Integers and
                bools make an int64 feature, floats a float feature, str and bytes a bytes feature. Over gRPC also
                serialized `tf.Example`s.
            context: Features that every row gets, unless it has them itself.
            version: Number of the version; the newest one by default.
            label: Label of the version, instead of its number.
            signature: Name of the signature; `serving_default` by default.
            timeout: Seconds that the call may take in all.

        Returns:
            For each row its classes as `(label, score)`, in the order of the model. A model without labels gives empty
            ones, a model without scores gives 0.

        Raises:
            NotFound, InvalidArgument, ResourceExhausted, Unavailable, DeadlineExceeded, Internal: As for `predict`.

        Example:
            >>> client.classify("iris", [{"petal_length": 1.4}])  # doctest: +SKIP
            [[('setosa', 0.97), ('versicolor', 0.03)]]
        """
        target, name = _target(model, version, label), signature or DEFAULT_SIGNATURE
        return self._backend.classify(target, name, _examples(examples), context, self._deadline(timeout))

    def regress(
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
        """One value for each row of named features. Arguments and errors are those of `classify`.

        Returns:
            float32 of shape `[len(examples)]`.

        Example:
            >>> client.regress("prices", [{"rooms": 3, "area": 71.5}])  # doctest: +SKIP
            array([210000.], dtype=float32)
        """
        target, name = _target(model, version, label), signature or DEFAULT_SIGNATURE
        return self._backend.regress(target, name, _examples(examples), context, self._deadline(timeout))

    def metadata(
        self, model: str, *, version: int | None = None, label: str | None = None, timeout: float | None = None
    ) -> Metadata:
        """What a version takes and gives: its signatures, with names, datatypes and shapes.

        Raises:
            NotFound: No such model, version or label.
            Unavailable, DeadlineExceeded: As for `predict`.
        """
        return self._backend.metadata(_target(model, version, label), self._deadline(timeout))

    def status(self, model: str, *, timeout: float | None = None) -> list[VersionStatus]:
        """The state of every version that the server knows of, newest first.

        Raises:
            NotFound: No such model.
            Unavailable, DeadlineExceeded: As for `predict`.
        """
        return self._backend.status(_target(model).model, self._deadline(timeout))

    def models(self, *, timeout: float | None = None) -> list[ListedVersion]:
        """Every version of every model that the server has. Over HTTP alone, as all that follows up to `remove`.

        Raises:
            FailedPrecondition: The client speaks gRPC.
            Unavailable, DeadlineExceeded: As for `predict`.

        Example:
            >>> client.models()  # doctest: +SKIP
            [ListedVersion(model='digits', version=3, state='READY', reason='')]
        """
        return repository.read_index(self._rest().send(repository.index(), self._deadline(timeout)))

    def upload(
        self,
        source: str | Path,
        model: str,
        version: int | None = None,
        *,
        wait: bool = True,
        progress: Callable[[int, int], None] | None = None,
        timeout: float = 3600.0,
    ) -> Uploaded:
        """Sends a version to the server, which serves it by its version policy.

        Args:
            source: The folder of a version, the file of a model, or a tar, tar.gz or zip of one of them.
            model: Name of the model; may be a new one.
            version: Number of the version; the next one by default.
            wait: Until the version answers, or has failed to load.
            progress: Called with the bytes that were sent and those there are in all.
            timeout: Seconds that the call may take in all.

        Raises:
            AlreadyExists: The version is there already; it is not touched.
            InvalidArgument: It is no model, or the archive is damaged.
            PermissionDenied: The server lets nobody change its models, or takes no Python models.
            TooLarge, StorageFull: It is over a limit of the server, or its disk is full.
            ServableError: It is stored, but does not load; the message says why.
            FailedPrecondition: The client speaks gRPC, or the server takes no new models.
            NotFound: There is nothing at `source`.

        Example:
            >>> client.upload("models/digits/3", "digits").version  # doctest: +SKIP
            3
        """
        from pathlib import Path

        from servable.client.archive import archive_of

        archive = archive_of(Path(source))
        request = repository.upload(_target(model).model, version, wait=wait, size=archive.size)
        reply = self._rest().send(request, self._deadline(timeout), archive.pieces(progress))
        return repository.read_uploaded(reply)

    def load(self, model: str, version: int | None = None, *, timeout: float = 3600.0) -> None:
        """Has a model served again that was unloaded or has failed, and returns once it answers.

        Args:
            model: Name of the model.
            version: Pins the model to this version, as `servable pin` does; `unpin` takes that back.
            timeout: Seconds that the call may take in all.

        Raises:
            NotFound: There is no such model or version.
            ServableError: It does not load; the message says why.
        """
        self._rest().send(repository.change(_target(model).model, "load", version), self._deadline(timeout))

    def unload(self, model: str, *, timeout: float | None = None) -> None:
        """Takes a model out of service until it is loaded again or the server restarts. Its files stay.

        Raises:
            NotFound: There is no such model.
        """
        self._rest().send(repository.change(_target(model).model, "unload"), self._deadline(timeout))

    def unpin(self, model: str, *, timeout: float | None = None) -> None:
        """Takes the pin of a model away, so that its version policy decides again; NotFound where there is no model."""
        self._rest().send(repository.unpin(_target(model).model), self._deadline(timeout))

    def remove(self, model: str, version: int | None = None, *, timeout: float | None = None) -> None:
        """Deletes a version from the server's disk, or a whole model. The newest version before it takes over.

        Raises:
            NotFound: There is no such model or version.
            FailedPrecondition: The version is pinned; or the server was started with this very model.
        """
        self._rest().send(repository.remove(_target(model).model, version), self._deadline(timeout))

    def ready(self, model: str | None = None, *, timeout: float | None = None) -> bool:
        """Whether the server takes requests; with `model`, whether a version of it is available. Raises nothing."""
        return self._backend.not_ready(model, self._deadline(timeout)) is None

    def wait_until_ready(self, model: str | None = None, *, timeout: float = 30.0) -> None:
        """Returns once the server, or the model, takes requests.

        Raises:
            DeadlineExceeded: It does not after `timeout` seconds; the message says what it said last.
        """
        end = time.monotonic() + _seconds(timeout)
        pause = _SHORTEST_PAUSE_S
        while True:
            left = max(end - time.monotonic(), _SHORTEST_PAUSE_S)
            reason = self._backend.not_ready(model, Deadline(min(left, self.timeout)))
            if reason is None:
                return
            if time.monotonic() + pause >= end:
                what = self.url if model is None else f"{model} at {self.url}"
                raise DeadlineExceeded(f"{what} was not ready within {timeout:g} s: {reason}")
            time.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE_S)

    def _rest(self) -> Rest:
        from servable.client.rest import Rest

        if not isinstance(self._backend, Rest):
            raise FailedPrecondition("Models are listed and changed over HTTP", hint="such as http://localhost:8501")
        return self._backend

    def _deadline(self, timeout: float | None) -> Deadline:
        return Deadline(self.timeout if timeout is None else _seconds(timeout))

    def _run(
        self, target: Target, signature: Signature, x: Any, outputs: tuple[str, ...], until: Deadline
    ) -> dict[str, NDArray[Any]]:
        from servable.client.values import to_tensors

        found = self._backend.predict(target, signature, to_tensors(x, signature), outputs, until)
        missing = [name for name in outputs if name not in found]
        if missing:
            raise InvalidArgument(f"{target} has no output {missing[0]!r}", hint=f"it has {', '.join(found)}")
        return {name: found[name] for name in outputs or found}

    def _signature(self, target: Target, name: str, until: Deadline, *, again: bool = False) -> Signature:
        key = target, name
        known = None if again else self._signatures.get(key)
        if known is None:
            signatures = self._backend.metadata(target, until).signatures
            if name not in signatures:
                hint = f"it has {', '.join(signatures) or 'none that takes tensors'}"
                raise NotFound(f"{target} has no signature {name!r}", hint=hint)
            if len(self._signatures) >= _MOST_CACHED:
                self._signatures.clear()
            known = self._signatures[key] = signatures[name]
        return known


def _examples(examples: Any) -> Sequence[Example]:
    from servable.client.examples import check_examples

    return check_examples(examples)


def _seconds(timeout: float) -> float:
    if not 0 < timeout <= 366 * 86400:
        raise InvalidArgument(f"A timeout is a number of seconds above 0, not {timeout!r}")
    return float(timeout)


def _target(model: str, version: int | None = None, label: str | None = None) -> Target:
    if not model:
        raise InvalidArgument("The name of the model is empty")
    if version is not None and label is not None:
        raise InvalidArgument("Give a version or a label, not both")
    if label == "":
        raise InvalidArgument("The label is empty")
    return Target(model, version, label)


def _credentials(
    token: str | None, ca: str | Path | None, cert: str | Path | tuple[str | Path, str | Path] | None
) -> Credentials:
    files = (str(cert[0]), str(cert[1])) if isinstance(cert, tuple) else None if cert is None else str(cert)
    return Credentials(token, None if ca is None else str(ca), files)


def _backend(url: str, dialect: str, credentials: Credentials) -> Backend:
    """Imports come late: a program that never speaks to a server pays for none of this."""
    scheme, _, rest = url.partition(":")
    try:
        host, port = urlsplit(url).hostname, urlsplit(url).port
    except ValueError:
        host, port = None, None
    if (credentials.ca or credentials.cert) and scheme in ("http", "grpc", "unix"):
        raise InvalidArgument(f"{url} speaks without certificates", hint="with TLS it is https:// or grpcs://")
    if scheme in ("http", "https") and host:
        from servable.client.rest import Rest

        return Rest(url, dialect, credentials)
    if (scheme in ("grpc", "grpcs") and host and port) or (scheme == "unix" and rest):
        from servable.client.rpc import Rpc

        target = url if scheme == "unix" else urlsplit(url).netloc
        return Rpc(target, credentials, secure=scheme == "grpcs")
    raise InvalidArgument(
        f"{url!r} is no address of a server", hint="such as http://localhost:8501 or grpc://localhost:8500"
    )
