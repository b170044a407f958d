"""The client: one class for every server of TensorFlow Serving's API or of the Open Inference Protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, TypeVar

from servable.client.calls import target_of
from servable.client.connect import Options
from servable.client.retry import Retry
from servable.client.steps import run

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
        retry: What is sent again when it fails, and when; None for nothing. See `Retry` for what is safe.
        hedge_after: Seconds without an answer after which a prediction is sent a second time; the first answer wins,
            the other request is cancelled. None, the default, for never. A good value is what 19 of 20 requests need.
        binary: Whether tensors of the Open Inference Protocol travel in binary, not as JSON. None where the server
            says that it can.

    Raises:
        InvalidArgument: The address, the dialect, the token, or a number is none, or a file cannot be used.
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
        cert: Files = None,
        retry: Retry | None = Retry(),  # noqa: B008  # frozen
        hedge_after: float | None = None,
        binary: bool | None = None,
    ) -> None:
        options = Options(url, timeout, dialect, token, ca, cert, retry, hedge_after, binary)
        self.url = url
        self._calls = options.calls()
        self._transport = options.transport()

    @property
    def timeout(self) -> float:
        """Seconds that a call may take in all, unless it says otherwise itself."""
        return self._calls.timeout

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
        self._transport.close()

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
            x: An array, or anything numpy makes one of, for a model with one input; else a dict of them by name, or
                a DataFrame whose columns are the inputs (or, for one input, the columns of its matrix). The dtype is
                made to fit where no value changes its kind (float64 to float32, but not float to integer). Strings may
                be str or bytes.
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
        target = target_of(model, version, label)
        return self._run(self._calls.predict(target, x, signature, outputs, timeout))

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
        target = target_of(model, version, label)
        return self._run(self._calls.classify(target, examples, context, signature, timeout))

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
        target = target_of(model, version, label)
        return self._run(self._calls.regress(target, examples, context, signature, timeout))

    def metadata(
        self, model: str, *, version: int | None = None, label: str | None = None, timeout: float | None = None
    ) -> Metadata:
        """What a version takes and gives: its signatures, with names, datatypes and shapes.

        Raises:
            NotFound: No such model, version or label.
            Unavailable, DeadlineExceeded: As for `predict`.
        """
        return self._run(self._calls.metadata(target_of(model, version, label), timeout))

    def status(self, model: str, *, timeout: float | None = None) -> list[VersionStatus]:
        """The state of every version that the server knows of, newest first.

        Raises:
            NotFound: No such model.
            Unavailable, DeadlineExceeded: As for `predict`.
        """
        return self._run(self._calls.status(target_of(model), timeout))

    def models(self, *, timeout: float | None = None) -> list[ListedVersion]:
        """Every version of every model that the server has. Over HTTP alone, as all that follows up to `remove`.

        Raises:
            FailedPrecondition: The client speaks gRPC.
            Unavailable, DeadlineExceeded: As for `predict`.

        Example:
            >>> client.models()  # doctest: +SKIP
            [ListedVersion(model='digits', version=3, state='READY', reason='')]
        """
        return self._run(self._calls.models(timeout))

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

        target, archive = target_of(model, version), archive_of(Path(source))
        return self._run(self._calls.upload(target, archive, progress, timeout, wait=wait))

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
        self._run(self._calls.load(target_of(model, version), timeout))

    def unload(self, model: str, *, timeout: float | None = None) -> None:
        """Takes a model out of service until it is loaded again or the server restarts. Its files stay.

        Raises:
            NotFound: There is no such model.
        """
        self._run(self._calls.unload(target_of(model), timeout))

    def unpin(self, model: str, *, timeout: float | None = None) -> None:
        """Takes the pin of a model away, so that its version policy decides again; NotFound where there is no model."""
        self._run(self._calls.unpin(target_of(model), timeout))

    def remove(self, model: str, version: int | None = None, *, timeout: float | None = None) -> None:
        """Deletes a version from the server's disk, or a whole model. The newest version before it takes over.

        Raises:
            NotFound: There is no such model or version.
            FailedPrecondition: The version is pinned; or the server was started with this very model.
        """
        self._run(self._calls.remove(target_of(model, version), timeout))

    def ready(self, model: str | None = None, *, timeout: float | None = None) -> bool:
        """Whether the server takes requests; with `model`, whether a version of it is available. Raises nothing."""
        return self._run(self._calls.ready(model, timeout))

    def wait_until_ready(self, model: str | None = None, *, timeout: float = 30.0) -> None:
        """Returns once the server, or the model, takes requests.

        Over gRPC our server tells of it at once; else it is asked again and again, at most once a second.

        Raises:
            DeadlineExceeded: It does not after `timeout` seconds; the message says what it said last.
        """
        self._run(self._calls.wait_until_ready(model, timeout))

    def _run(self, steps: Steps[T]) -> T:
        return run(steps, self._transport)
