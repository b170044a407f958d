"""From how a user names one version to its folder."""

from __future__ import annotations

from pathlib import Path

from servable.cli.folders import model_folder
from servable.errors import NotFound
from servable.model.versions import find_version, list_versions, version_number


def version_folder(name: str, models: str) -> Path:
    """The folder of a version.

    Args:
        name: The path of a version's folder, or of a model's: then its newest version. Else MODEL/VERSION, or MODEL, in
            the folder of models.
        models: The folder of models.

    Raises:
        NotFound: There is no such version.
        InvalidArgument: It is a folder without a model.

    Example:
        >>> version_folder("digits/3", "models")  # doctest: +SKIP
        PosixPath('/srv/models/digits/3')
    """
    path = Path(name)
    if path.exists():
        return find_version(path.absolute())
    model, _, last = name.rstrip("/").rpartition("/")
    number = version_number(last)
    if number is None or not model:
        return find_version(model_folder(name, models).absolute())
    folder = model_folder(model, models)
    known = list_versions(folder)
    if number not in known:
        raise NotFound(f"There is no version {number} in {folder}", hint=f"there are: {', '.join(map(str, known))}")
    return known[number].absolute()
