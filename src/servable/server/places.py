"""Where the models of a server are: which folder belongs to a name, and which names a client may add."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from servable.errors import FailedPrecondition, InvalidArgument, NotFound
from servable.lifecycle import FoldersSource
from servable.lifecycle.folders import is_passed_over, version_number

if TYPE_CHECKING:
    from collections.abc import Callable

    from servable.lifecycle import Source

_NEW_NAME = re.compile(r"\w[\w.\-]{0,127}")
_LONGEST_NAME = 255


class Places(Protocol):
    """The folders of models."""

    def find(self, name: str) -> Path:
        """The folder of a model that is there; NotFound where none is."""

    def changeable(self, name: str) -> Path:
        """The folder of a model that is there, whose pin and versions clients may change.

        Raises:
            NotFound: There is no such model.
            FailedPrecondition: It is followed from a bucket.
        """

    def take(self, name: str) -> Path:
        """The folder for a new version of a model, which may be a new model. It need not be there yet.

        Raises:
            InvalidArgument: No model can have this name.
            FailedPrecondition: The server serves a fixed list, which does not have it.
        """

    def removable(self, name: str) -> Path:
        """The folder of a model that may be removed whole.

        Raises:
            NotFound: There is no such model.
            FailedPrecondition: The server was told of it by name.
        """

    def staging(self, name: str) -> Path:
        """The folder in which uploads for a model are collected; on the disk of the models, if need be."""


class ManyModels:
    """A folder whose children are models; new ones may come."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def find(self, name: str) -> Path:
        folder = self._root / name
        if not is_plain(name) or not folder.is_dir():
            raise _unknown(name)
        return folder

    def changeable(self, name: str) -> Path:
        return self.find(name)

    def take(self, name: str) -> Path:
        if is_plain(name) and (self._root / name).is_dir():
            return self._root / name
        if not _NEW_NAME.fullmatch(name) or is_passed_over(name) or version_number(name) is not None:
            raise InvalidArgument(
                f"{name[:_LONGEST_NAME]!r} is no name for a model",
                hint="letters, digits, dots, dashes and underscores, and not a number alone",
            )
        return self._root / name

    def removable(self, name: str) -> Path:
        return self.find(name)

    def staging(self, name: str) -> Path:  # noqa: ARG002
        return self._root


class NamedModels:
    """Models that the server was told of by name. `folders` says which these are now."""

    def __init__(self, folders: Callable[[], Mapping[str, Path]]) -> None:
        self._folders = folders

    def find(self, name: str) -> Path:
        folder = self._folders().get(name)
        if folder is None:
            raise _unknown(name)
        return folder

    def changeable(self, name: str) -> Path:
        return self.find(name)

    def take(self, name: str) -> Path:
        folder = self._folders().get(name)
        if folder is None:
            known = ", ".join(sorted(self._folders())[:10])
            raise FailedPrecondition(
                f"This server takes no new models, and has none called {name[:_LONGEST_NAME]!r}",
                hint=f"it serves {known or 'none'}; one that serves a folder of models takes new ones",
            )
        return folder

    def removable(self, name: str) -> Path:
        self.find(name)
        raise FailedPrecondition(
            f"The server was started with the model {name}: it cannot be removed whole",
            hint="unload it, remove its versions one by one, or take it off the list of models",
        )

    def staging(self, name: str) -> Path:
        return self.take(name)


def places_of(source: Source, models: str | Path | Mapping[str, str | Path]) -> Places:
    """The places of a server that follows folders: of all models in one, of one model, or of a fixed list."""
    if isinstance(source, FoldersSource):
        return ManyModels(source.path)
    if isinstance(models, Mapping):
        folders = {name: Path(path).absolute() for name, path in models.items()}
    else:
        folder = Path(models).absolute()
        folders = {folder.name: folder}
    return NamedModels(lambda: folders)


def is_plain(name: str) -> bool:
    """Whether a name can be that of a child of a folder, and of none that is hidden."""
    return (
        bool(name)
        and len(name.encode("utf-8", "replace")) <= _LONGEST_NAME
        and name.isprintable()
        and "/" not in name
        and not is_passed_over(name)
    )


def _unknown(name: str) -> NotFound:
    return NotFound(f"There is no model {name[:_LONGEST_NAME]!r}")
