"""`servable.json`: what a version is, what its files are, where it came from."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from servable.errors import InvalidArgument, ManifestError
from servable.model.signatures import Signature, read_signatures
from servable.model.statistics_json import statistics_from_json, statistics_to_json
from servable.model.tolerance import Tolerance, tolerance_from_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from servable.model.statistics import SignatureStatistics

FILE_NAME = "servable.json"
SCHEMA = 1
MAX_BYTES = 16 << 20


@dataclass(frozen=True)
class FileRecord:
    """Size in bytes and SHA-256, in hex, of one file."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Origin:
    """Where a version came from.

    Attributes:
        run: The training run, as the user calls it.
        parent_version: The version that it was trained on from.
        git_commit: The commit that was checked out when it was saved.
        created: When it was saved: ISO 8601, UTC.
    """

    run: str | None = None
    parent_version: int | None = None
    git_commit: str | None = None
    created: str | None = None


@dataclass(frozen=True)
class Manifest:
    """The contents of `servable.json`.

    Attributes:
        format: `onnx` or `python`.
        file: The file that the engine opens, beside the manifest.
        signatures: What the version takes and gives.
        files: Every file of the version but the manifest itself, by path with forward slashes.
        frameworks: Versions of the packages that made it.
        origin: Where it came from.
        tolerance: How far answers may be from the golden examples, by datatype; the defaults for what is missing.
        batch_safe: Whether rows of a batch are independent: proven, disproven, or None for unknown.
        engine_options: What the engine is told: threads for `onnx`; class and calling form for `python`.
        statistics: What its inputs looked like in training, by signature.
    """

    format: str
    file: str
    signatures: tuple[Signature, ...]
    files: Mapping[str, FileRecord] = field(default_factory=dict)
    frameworks: Mapping[str, str] = field(default_factory=dict)
    origin: Origin = field(default_factory=Origin)
    tolerance: Mapping[str, Tolerance] = field(default_factory=dict)
    batch_safe: bool | None = None
    engine_options: Mapping[str, Any] = field(default_factory=dict)
    statistics: Mapping[str, SignatureStatistics] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "format": self.format,
            "file": self.file,
            "batch_safe": self.batch_safe,
            "signatures": [signature.to_json() for signature in self.signatures],
            "tolerance": {name: vars(limit) for name, limit in self.tolerance.items()},
            "engine_options": dict(self.engine_options),
            "frameworks": dict(self.frameworks),
            "origin": vars(self.origin),
            "statistics": statistics_to_json(self.statistics),
            "files": {name: vars(record) for name, record in sorted(self.files.items())},
        }


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Writes `servable.json` into a version's folder."""
    content = manifest.to_json()
    # On one line: they are many numbers that nobody reads one by one.
    statistics = json.dumps(content.pop("statistics"), ensure_ascii=False)
    text = json.dumps(content, indent=2, ensure_ascii=False).removesuffix("\n}")
    (folder / FILE_NAME).write_text(f'{text},\n  "statistics": {statistics}\n}}\n', encoding="utf-8")


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a version's folder; None where it has none, like any folder that TF Serving serves.

    Raises:
        ManifestError: It cannot be read, is not of this form, or was written by a newer servable.
    """
    path = folder / FILE_NAME
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ManifestError(f"{path}: {error.strerror}") from error
    if len(raw) > MAX_BYTES:
        raise ManifestError(f"{path}: larger than {MAX_BYTES >> 20} MiB")
    return parse_manifest(raw, str(path))


def parse_manifest(raw: bytes, place: str) -> Manifest:
    """The manifest of the text of a `servable.json`; errors name the place that it came from.

    Raises:
        ManifestError: It is not of this form, or was written by a newer servable.
    """
    try:
        return manifest_from_json(json.loads(raw))
    except (InvalidArgument, ValueError, RecursionError) as error:
        hint = error.hint if isinstance(error, InvalidArgument) else "save the version again, or copy it again whole"
        raise ManifestError(f"{place}: {error}", hint=hint) from error


def manifest_from_json(data: Any) -> Manifest:
    """The manifest of parsed JSON; keys that are not known are passed over.

    Raises:
        ManifestError: It has another form, or a newer schema.
    """
    schema = _get(data, "schema", int)
    if schema > SCHEMA:
        raise ManifestError(
            f"the manifest has schema {schema}, this servable reads up to {SCHEMA}",
            hint="update it: pip install --upgrade servable",
        )
    batch_safe = data.get("batch_safe")
    if not isinstance(batch_safe, bool | None):
        raise ManifestError("'batch_safe' must be true, false or null")
    return Manifest(
        format=_get(data, "format", str),
        file=inside(_get(data, "file", str)),
        signatures=read_signatures(_get(data, "signatures", list)),
        files={inside(name): _file_record(record) for name, record in _get(data, "files", dict).items()},
        frameworks={name: str(version) for name, version in _get(data, "frameworks", dict, {}).items()},
        origin=_origin(_get(data, "origin", dict, {})),
        tolerance=tolerance_from_json(_get(data, "tolerance", dict, {})),
        batch_safe=batch_safe,
        engine_options=_get(data, "engine_options", dict, {}),
        statistics=statistics_from_json(_get(data, "statistics", dict, {})),
    )


def _get(data: Any, key: str, kind: type, default: Any = None) -> Any:
    if not isinstance(data, dict):
        raise ManifestError(f"an object with '{key}' was expected, found {type(data).__name__}")
    value = data.get(key, default)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ManifestError(f"'{key}' must be {_KINDS[kind]}" if key in data else f"'{key}' is missing")
    return value


_KINDS = {int: "an integer", str: "a string", list: "a list", dict: "an object"}


def inside(name: str) -> str:
    """The relative name of a file again.

    A manifest may come from anywhere; what it names must not lead out of the version's folder.

    Raises:
        ManifestError: It does.
    """
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
        raise ManifestError(f"the file name '{name}' leads out of the version's folder")
    return name


def _file_record(data: Any) -> FileRecord:
    return FileRecord(_get(data, "size", int), _get(data, "sha256", str))


def _origin(data: dict[str, Any]) -> Origin:
    return Origin(**{name: data.get(name) for name in ("run", "parent_version", "git_commit", "created")})


def record_files(folder: Path) -> dict[str, FileRecord]:
    """Size and SHA-256 of every file below a version's folder, but for the manifest.

    Files are read in pieces, so their size does not matter to memory.
    """
    records = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name != FILE_NAME:
            records[name] = FileRecord(path.stat().st_size, _sha256(path))
    return records


def verify_files(folder: Path, manifest: Manifest) -> None:
    """Compares the files of a version with what its manifest says: first all sizes, then all checksums.

    Files that the manifest does not name are passed over.

    Raises:
        ManifestError: A file is missing or is not what it was.
    """
    again = "copy the version again, or save it again"
    for name, record in manifest.files.items():
        path = folder / name
        if not path.is_file():
            raise ManifestError(f"{path} is missing", hint=again)
        if (size := path.stat().st_size) != record.size:
            raise ManifestError(f"{path} has {size} bytes, saved were {record.size}", hint=again)
    for name, record in manifest.files.items():
        if _sha256(folder / name) != record.sha256:
            raise ManifestError(f"{folder / name} is not the file that was saved: its checksum differs", hint=again)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
