"""The folder of a model whose pin is to be read or changed: a local one, or one in a bucket."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from servable.cli.folders import model_folder
from servable.errors import NotFound, ServableError
from servable.lifecycle import pin_path
from servable.settings import CONFIG_FILE
from servable.storage.uri import BucketUri, bucket_uri

if TYPE_CHECKING:
    from collections.abc import Iterator

    from servable.storage.location import Location

_MAX_FILE = 1 << 20


@contextmanager
def folder_to_pin(model: str, models: str) -> Iterator[tuple[Path, str]]:
    """A local folder with the versions, the settings and the pin of a model, and where the model really is.

    For a model in a bucket it is a sketch: its versions are empty folders. A pin that was changed is then written to
    the bucket at the end.

    Args:
        model: Its name, or the path or URI of its folder.
        models: The folder of models, or of this one model.

    Raises:
        NotFound: There is no such model.
        ServableError: The bucket cannot be read or written to.
    """
    uri = _uri(model, models)
    if uri is None:
        folder = model_folder(model, models).absolute()
        yield folder, str(folder)
        return
    place = _find(uri, model)
    with tempfile.TemporaryDirectory(prefix="servable-pin-") as parent:
        folder = Path(parent) / place.uri.name
        _sketch(place, folder)
        before = _text(folder)
        try:
            yield folder, str(place)
        except ServableError as error:
            error.message = error.message.replace(str(folder), str(place))
            raise
        _write_back(place, before, _text(folder))


def _uri(model: str, models: str) -> BucketUri | None:
    """Where the model may be, if that is in a bucket."""
    parent = bucket_uri(models)
    is_name = "/" not in model and model not in (".", "..")
    return parent / model if parent and is_name else bucket_uri(model)


def _find(uri: BucketUri, model: str) -> Location:
    from servable.model.bucket import bucket_versions
    from servable.storage.location import Location

    for candidate in (uri, uri.parent):
        place = Location(candidate)
        if candidate.name == model.rstrip("/").rpartition("/")[2] and bucket_versions(place.list()):
            return place
    raise NotFound(f"No model {model} in {uri.parent}", hint="--models names the folder of models")


def _sketch(place: Location, folder: Path) -> None:
    from servable.model.bucket import bucket_versions, look_into

    listing = place.list()
    pin = pin_path(folder)
    pin.parent.mkdir(parents=True)
    for number, name in bucket_versions(listing).items():
        contents = look_into(place / name)
        if contents.has_manifest or contents.objects:
            (folder / str(number)).mkdir()
    if CONFIG_FILE in listing.objects:
        (folder / CONFIG_FILE).write_bytes(place.read(CONFIG_FILE, _MAX_FILE))
    if pin.parent.name in listing.folders and pin.name in (place / pin.parent.name).list().objects:
        pin.write_bytes((place / pin.parent.name).read(pin.name, _MAX_FILE))


def _write_back(place: Location, before: bytes | None, now: bytes | None) -> None:
    path = pin_path(Path())
    if now == before:
        return
    if now is None:
        (place / path.parent.name).delete([path.name])
    else:
        (place / path.parent.name).write(path.name, now)


def _text(folder: Path) -> bytes | None:
    path = pin_path(folder)
    return path.read_bytes() if path.exists() else None
