"""URIs of buckets: `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix`."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from servable.errors import InvalidArgument

SCHEMES = ("s3", "gs", "az")

_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*)://(.*)", re.DOTALL)
# What pathlib makes of a URI: one slash is lost.
_FLATTENED = re.compile(rf"({'|'.join(SCHEMES)}):/[^/].*", re.DOTALL)
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._\-]{1,221}")
_LONGEST = 1024


@dataclass(frozen=True, slots=True)
class BucketUri:
    """A place in a bucket. `str` gives the URI, without a slash at its end.

    Attributes:
        scheme: One of SCHEMES.
        bucket: The bucket, or the container of Azure.
        prefix: Names joined by slashes; empty for the bucket itself.

    Example:
        >>> BucketUri("s3", "models", "vision/digits") / "3"
        BucketUri(scheme='s3', bucket='models', prefix='vision/digits/3')
    """

    scheme: str
    bucket: str
    prefix: str = ""

    @property
    def name(self) -> str:
        """The last name in it."""
        return self.prefix.rpartition("/")[2] or self.bucket

    @property
    def parent(self) -> BucketUri:
        return BucketUri(self.scheme, self.bucket, self.prefix.rpartition("/")[0])

    def __truediv__(self, name: str) -> BucketUri:
        return BucketUri(self.scheme, self.bucket, f"{self.prefix}/{name}" if self.prefix else name)

    def __str__(self) -> str:
        return f"{self.scheme}://{self.bucket}" + (f"/{self.prefix}" if self.prefix else "")


def bucket_uri(place: str | os.PathLike[str]) -> BucketUri | None:
    """The place in a bucket that a text names; None for a local path.

    Raises:
        InvalidArgument: It is a URI that cannot be used: of another scheme, without a bucket, with `..` in it; or one
            that went through pathlib, which breaks it.

    Example:
        >>> bucket_uri("gs://models/digits/"), bucket_uri("models/digits")
        (BucketUri(scheme='gs', bucket='models', prefix='digits'), None)
    """
    text = os.fspath(place)
    if _FLATTENED.fullmatch(text):
        raise InvalidArgument(f"{text} is a URI that pathlib has broken", hint="give it as text, not as a Path")
    found = _URI.fullmatch(text)
    if found is None or found[1] == "file":
        return None
    scheme, rest = found[1].lower(), found[2]
    if scheme not in SCHEMES:
        raise InvalidArgument(f"{text[:_LONGEST]}: no storage of kind {scheme}", hint="known are s3, gs and az")
    bucket, _, prefix = rest.partition("/")
    names = [name for name in prefix.split("/") if name]
    is_clean = all(name not in (".", "..") and name.isprintable() and "\\" not in name for name in names)
    if not _BUCKET.fullmatch(bucket) or not is_clean or len(text) > _LONGEST:
        raise InvalidArgument(f"{text[:_LONGEST]!r} names no place in a bucket", hint=f"write {scheme}://BUCKET/PREFIX")
    return BucketUri(scheme, bucket, "/".join(names))


def local_path(place: str | os.PathLike[str]) -> Path:
    """The absolute local path that a text names: a path, or a `file://` URI.

    Example:
        >>> local_path("file:///models/my%20digits")
        PosixPath('/models/my digits')
    """
    text = os.fspath(place)
    if text.startswith("file://"):
        text = unquote(text.removeprefix("file://").removeprefix("localhost"))
    return Path(text).absolute()
