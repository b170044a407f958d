"""From what the user names to the folders of models."""

from __future__ import annotations

from pathlib import Path

from servable.errors import FailedPrecondition, InvalidArgument, NotFound, ServableError
from servable.lifecycle import is_model_folder
from servable.lifecycle.folders import child_folders, is_passed_over
from servable.storage.uri import bucket_uri, local_path

_MOST_LISTED = 10


def models_to_serve(arguments: tuple[str, ...]) -> str | Path | dict[str, str | Path]:
    """What `servable serve` is to serve: folders, or URIs of buckets as they are.

    Args:
        arguments: One folder, or several of `NAME=DIR` and of folders of single models.

    Raises:
        NotFound: A folder is not there.
        InvalidArgument: A name is given twice, or a folder among several is not that of one model.
    """
    if len(arguments) == 1 and not _is_named(arguments[0]):
        return _existing(arguments[0])
    models: dict[str, str | Path] = {}
    for argument in arguments:
        name, folder = _named(argument)
        if name in models:
            raise InvalidArgument(f"The model {name} is named twice: {models[name]} and {folder}")
        models[name] = folder
    return models


def _is_named(argument: str) -> bool:
    name, separator, _ = argument.partition("=")
    return bool(separator) and "://" not in name and not Path(argument).is_dir()


def _named(argument: str) -> tuple[str, str | Path]:
    if _is_named(argument):
        name, _, folder = argument.partition("=")
        if not name:
            raise InvalidArgument(f"There is no name before the = of {argument!r}", hint="write NAME=DIR")
        return name, _existing(folder)
    if (uri := bucket_uri(argument)) is not None:
        return uri.name, argument
    folder_path = local_path(argument)
    _existing(argument)
    if not is_model_folder(folder_path):
        raise InvalidArgument(
            f"{folder_path} is not the folder of one model: it holds no version",
            hint="give one folder of models, or several of NAME=DIR",
        )
    return folder_path.name, folder_path


def _existing(folder: str) -> str | Path:
    if bucket_uri(folder) is not None:
        return folder
    path = Path(folder)
    if not path.is_dir():
        what = "is not a folder" if path.exists() else "is not there"
        raise NotFound(
            f"The folder {path.absolute()} {what}",
            hint="name a folder of models (models/digits/1/model.onnx is version 1 of the model digits in models)",
        )
    return path


def model_folder(model: str, models: str) -> Path:
    """The folder of one model.

    Args:
        model: Its name, or the path of its folder.
        models: The folder of models, or the folder of this one model.

    Raises:
        NotFound: There is none.
        FailedPrecondition: It is in a bucket.
    """
    for place in (model, models):
        if bucket_uri(place) is not None:
            raise FailedPrecondition(
                f"{place} is in a bucket, and this command works on folders",
                hint="copy the versions that it needs",
            )
    parent = Path(models)
    plain_name = "/" not in model and model not in (".", "..")
    candidates = [parent / model, parent] if plain_name else []
    for candidate in [*candidates, Path(model)]:
        if (candidate is not parent or parent.absolute().name == model) and _holds_versions(candidate):
            return candidate
    raise NotFound(f"No model {model} in {parent.absolute()}", hint=_others(parent))


def _holds_versions(folder: Path) -> bool:
    try:
        return is_model_folder(folder)
    except (OSError, ServableError):
        return False


def _others(parent: Path) -> str:
    try:
        names = [name for name in child_folders(parent) if not is_passed_over(name) and _holds_versions(parent / name)]
    except (OSError, ServableError):
        return "--models names the folder of models"
    more = ", ..." if len(names) > _MOST_LISTED else ""
    return f"models there: {', '.join(names[:_MOST_LISTED])}{more}" if names else "--models names the folder of models"
