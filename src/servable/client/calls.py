"""What the methods of a client do, step by step: shared by the sync and the async client. No sockets here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from servable.client import repository
from servable.client.retry import Retry, backoff
from servable.client.steps import Pause
from servable.client.types import DEFAULT_SIGNATURE, Backend, Deadline, Metadata, Target, VersionStatus
from servable.errors import DeadlineExceeded, FailedPrecondition, InvalidArgument, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from servable.client.archive import Archive
    from servable.client.examples import Example
    from servable.client.repository import ListedVersion, Uploaded
    from servable.client.rest import Rest
    from servable.client.steps import Steps
    from servable.model.signatures import Signature
    from servable.wire.examples import Classes

_POLL = Retry(pause=0.02, longest_pause=1.0)
_SHORTEST_QUESTION_S = 0.02
_MOST_CACHED = 1024


class Calls:
    """The calls of one client.

    Args:
        backend: The protocol that is spoken.
        timeout: Seconds that a call may take in all, unless it says otherwise itself.
        place: What the server is called in messages.
    """

    def __init__(self, backend: Backend, timeout: float, place: str) -> None:
        self.timeout = seconds(timeout)
        self._backend = backend
        self._place = place
        self._signatures: dict[tuple[Target, str], Signature] = {}

    def predict(
        self, target: Target, x: Any, signature: str | None, outputs: Sequence[str] | None, timeout: float | None
    ) -> Steps[NDArray[Any] | dict[str, NDArray[Any]]]:
        until = self._deadline(timeout)
        name, wanted = signature or DEFAULT_SIGNATURE, tuple(outputs or ())
        known = yield from self._signature(target, name, until)
        try:
            found = yield from self._run(target, known, x, wanted, until)
        except (InvalidArgument, FailedPrecondition):
            # Perhaps a version with other inputs has taken over since we asked.
            fresh = yield from self._signature(target, name, until, again=True)
            if fresh == known:
                raise
            found = yield from self._run(target, fresh, x, wanted, until)
        return next(iter(found.values())) if len(found) == 1 else found

    def classify(
        self,
        target: Target,
        examples: Sequence[Example],
        context: Example | None,
        signature: str | None,
        timeout: float | None,
    ) -> Steps[list[Classes]]:
        until, name = self._deadline(timeout), signature or DEFAULT_SIGNATURE
        return (yield from self._backend.classify(target, name, _examples(examples), context, until))

    def regress(
        self,
        target: Target,
        examples: Sequence[Example],
        context: Example | None,
        signature: str | None,
        timeout: float | None,
    ) -> Steps[NDArray[np.float32]]:
        until, name = self._deadline(timeout), signature or DEFAULT_SIGNATURE
        return (yield from self._backend.regress(target, name, _examples(examples), context, until))

    def metadata(self, target: Target, timeout: float | None) -> Steps[Metadata]:
        return self._backend.metadata(target, self._deadline(timeout))

    def status(self, target: Target, timeout: float | None) -> Steps[list[VersionStatus]]:
        return self._backend.status(target.model, self._deadline(timeout))

    def models(self, timeout: float | None) -> Steps[list[ListedVersion]]:
        send = self._rest().send(repository.index(), self._deadline(timeout), repeatable=True)
        return repository.read_index((yield from send))

    def upload(
        self,
        target: Target,
        archive: Archive,
        progress: Callable[[int, int], None] | None,
        timeout: float,
        *,
        wait: bool,
    ) -> Steps[Uploaded]:
        request = repository.upload(target.model, target.version, wait=wait, size=archive.size)
        send = self._rest().send(request, self._deadline(timeout), body=archive.pieces(progress))
        return repository.read_uploaded((yield from send))

    def load(self, target: Target, timeout: float) -> Steps[None]:
        request = repository.change(target.model, "load", target.version)
        yield from self._rest().send(request, self._deadline(timeout))

    def unload(self, target: Target, timeout: float | None) -> Steps[None]:
        yield from self._rest().send(repository.change(target.model, "unload"), self._deadline(timeout))

    def unpin(self, target: Target, timeout: float | None) -> Steps[None]:
        yield from self._rest().send(repository.unpin(target.model), self._deadline(timeout))

    def remove(self, target: Target, timeout: float | None) -> Steps[None]:
        yield from self._rest().send(repository.remove(target.model, target.version), self._deadline(timeout))

    def ready(self, model: str | None, timeout: float | None) -> Steps[bool]:
        return (yield from self._backend.not_ready(model, self._deadline(timeout))) is None

    def wait_until_ready(self, model: str | None, timeout: float) -> Steps[None]:
        until = Deadline(seconds(timeout))
        for poll in range(1, 1 << 30):
            # One question at least, however short the time is; and none that takes it all.
            question = Deadline(max(until.within(self.timeout).timeout, _SHORTEST_QUESTION_S))
            reason = yield from self._backend.not_ready(model, question)
            if reason is None:
                return
            if until.allows(0.0) and (yield from self._backend.change(model, until)):
                continue
            pause = backoff(_POLL, min(poll, 10))
            if not until.allows(pause):
                what = self._place if model is None else f"{model} at {self._place}"
                raise DeadlineExceeded(f"{what} was not ready within {timeout:g} s: {reason}")
            yield Pause(pause)

    def _rest(self) -> Rest:
        from servable.client.rest import Rest

        if not isinstance(self._backend, Rest):
            raise FailedPrecondition("Models are listed and changed over HTTP", hint="such as http://localhost:8501")
        return self._backend

    def _deadline(self, timeout: float | None) -> Deadline:
        return Deadline(self.timeout if timeout is None else seconds(timeout))

    def _run(
        self, target: Target, signature: Signature, x: Any, outputs: tuple[str, ...], until: Deadline
    ) -> Steps[dict[str, NDArray[Any]]]:
        from servable.client.values import to_tensors

        found = yield from self._backend.predict(target, signature, to_tensors(x, signature), outputs, until)
        missing = [name for name in outputs if name not in found]
        if missing:
            raise InvalidArgument(f"{target} has no output {missing[0]!r}", hint=f"it has {', '.join(found)}")
        return {name: found[name] for name in outputs or found}

    def _signature(self, target: Target, name: str, until: Deadline, *, again: bool = False) -> Steps[Signature]:
        key = target, name
        known = None if again else self._signatures.get(key)
        if known is None:
            signatures = (yield from self._backend.metadata(target, until)).signatures
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


def seconds(timeout: float) -> float:
    """The number of seconds, if it is a sensible one; else InvalidArgument."""
    if not 0 < timeout <= 366 * 86400:
        raise InvalidArgument(f"A timeout is a number of seconds above 0, not {timeout!r}")
    return float(timeout)


def target_of(model: str, version: int | None = None, label: str | None = None) -> Target:
    """Which version is meant; InvalidArgument where that is not clear."""
    if not model:
        raise InvalidArgument("The name of the model is empty")
    if version is not None and label is not None:
        raise InvalidArgument("Give a version or a label, not both")
    if label == "":
        raise InvalidArgument("The label is empty")
    return Target(model, version, label)
