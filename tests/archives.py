"""Archives of models, honest and hostile, in memory."""

from __future__ import annotations

import io
import tarfile
import zipfile
from typing import TYPE_CHECKING

import version_folders

if TYPE_CHECKING:
    from collections.abc import Mapping


def model_files(value: float = 1.0, top: str = "") -> dict[str, bytes]:
    """A version whose answer is always `value`."""
    return {f"{top}model.onnx": version_folders.constant(value).SerializeToString()}


def tar(files: Mapping[str, bytes], compression: str = "") -> bytes:
    """A tar; `gz` as compression is gzip."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=f"w:{compression}") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def zipped(files: Mapping[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tar_entry(name: str, kind: bytes, link: str = "") -> bytes:
    """A tar with one entry that is no plain file."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo(name)
        entry.type, entry.linkname = kind, link
        archive.addfile(entry)
    return buffer.getvalue()
