"""The kinds of value that a setting can have: how each is read from text or TOML, and how it is shown.

A reader takes what a flag, an environment variable or a TOML file gave (text, or TOML's own int, bool, list, table)
and answers the value, or raises ValueError with a text that ends the sentence "rest_port ...".
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

_LARGEST_INT = 2**63 - 1
_LONGEST_TEXT = 4096
_LARGEST_POSITIVE = 1000
_LONGEST_DURATION_S = 366 * 86400.0

_SIZE = re.compile(r"(\d{1,19})(?:\.(\d{1,6}))?\s*([a-z]*)", re.IGNORECASE)
_SIZE_UNITS: dict[str, int] = {"": 1, "b": 1} | {
    prefix + suffix: base**power
    for power, prefix in enumerate("kmgt", start=1)
    for suffix, base in (("", 1024), ("b", 1000), ("ib", 1024))
}
_DURATION = re.compile(r"(?:\d{1,9}(?:\.\d{1,9})?(?:ms|us|s|m|h|d))+", re.IGNORECASE)
_DURATION_PART = re.compile(r"([\d.]+)(ms|us|s|m|h|d)", re.IGNORECASE)
_DURATION_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PLAIN_NUMBER = re.compile(r"\d{1,9}(?:\.\d{1,9})?")
_LABEL = re.compile(r"\w{1,128}")
_TRUE = frozenset({"true", "1", "yes", "on"})
_FALSE = frozenset({"false", "0", "no", "off"})

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 100
_shown = _short.repr


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of value.

    Attributes:
        name: What the reference calls it, e.g. `duration`.
        metavar: What stands for it in the help of a command, e.g. `TIME`.
        read: From text or a TOML value to the value; ValueError if it cannot be.
        show: From the value to text that `read` takes back.
        choices: The words that are allowed, where they are few.
    """

    name: str
    metavar: str
    read: Callable[[object], Any]
    show: Callable[[Any], str] = str
    choices: tuple[str, ...] = ()


def read_text(raw: object) -> str:
    """Any text of one line, up to 4096 characters."""
    if not isinstance(raw, str) or len(raw) > _LONGEST_TEXT or not raw.isprintable():
        raise ValueError(f"must be one line of at most {_LONGEST_TEXT} printable characters, not {_shown(raw)}")
    return raw


def read_address(raw: object) -> str:
    """A host name or an IP address; an IPv6 address may stand in brackets, which are left out."""
    text = read_text(raw).strip()
    if re.fullmatch(r"[\w.:%-]{1,253}|\[[\w:.%-]{1,250}\]", text, re.ASCII):
        return text.strip("[]")
    raise ValueError(f"must be an address such as 127.0.0.1 or ::1, not {_shown(raw)}")


def read_url_path(raw: object) -> str:
    """A path on a server, from its first slash."""
    if isinstance(raw, str) and re.fullmatch(r"/[\w./~%+-]{0,255}", raw, re.ASCII):
        return raw
    raise ValueError(f"must be a path such as /metrics, not {_shown(raw)}")


def read_bool(raw: object) -> bool:
    """True or false; from text also 1, 0, yes, no, on, off."""
    if isinstance(raw, bool):
        return raw
    word = raw.strip().lower() if isinstance(raw, str) else ""
    if word in _TRUE or word in _FALSE:
        return word in _TRUE
    raise ValueError(f"must be true or false, not {_shown(raw)}")


def _whole_number(raw: object) -> int | None:
    if isinstance(raw, int) and not isinstance(raw, bool):
        return raw
    if isinstance(raw, str) and re.fullmatch(r"\s*[+-]?\d{1,19}\s*", raw, re.ASCII):
        return int(raw)
    return None


def integer(minimum: int = 0, maximum: int = _LARGEST_INT) -> Kind:
    """A whole number from `minimum` to `maximum`, both included."""

    def read(raw: object) -> int:
        number = _whole_number(raw)
        if number is None:
            raise ValueError(f"must be a whole number, not {_shown(raw)}")
        if not minimum <= number <= maximum:
            raise ValueError(f"must be from {minimum} to {maximum}, not {number}")
        return number

    return Kind("whole number", "N", read)


def choice(*words: str) -> Kind:
    """One of a few words."""

    def read(raw: object) -> str:
        if isinstance(raw, str) and raw.strip().lower() in words:
            return raw.strip().lower()
        raise ValueError(f"must be one of {', '.join(words)}, not {_shown(raw)}")

    return Kind("choice", "|".join(words), read, choices=words)


def read_port(raw: object) -> int | None:
    """A TCP port, 0 for any free one; `off` reads as None."""
    if isinstance(raw, str) and raw.strip().lower() == "off":
        return None
    number = _whole_number(raw)
    if number is None or not 0 <= number <= 65535:
        raise ValueError(f"must be a port from 0 to 65535 or off, not {_shown(raw)}")
    return number


def show_port(value: int | None) -> str:
    return "off" if value is None else str(value)


def read_size(raw: object) -> int:
    """Bytes: a whole number, or text with a unit.

    kB, MB, GB, TB are powers of 1000; KiB, MiB, GiB, TiB and the bare letters k, m, g, t powers of 1024, in any case.

    Example:
        >>> read_size("64MiB"), read_size("1.5 GB"), read_size(100)
        (67108864, 1500000000, 100)
    """
    match = _SIZE.fullmatch(str(raw).strip()) if isinstance(raw, (str, int)) and not isinstance(raw, bool) else None
    unit = _SIZE_UNITS.get(match[3].lower()) if match else None
    if match is None or unit is None:
        raise ValueError(f"must be a size such as 64MiB or 1GB, not {_shown(raw)}")
    fraction = match[2] or ""
    size = int(match[1]) * unit + int(fraction or "0") * unit // int(10 ** len(fraction))
    if size > _LARGEST_INT:
        raise ValueError(f"must be below 8 EiB, not {_shown(raw)}")
    return size


def show_size(value: int) -> str:
    for power, unit in ((4, "TiB"), (3, "GiB"), (2, "MiB"), (1, "KiB")):
        if value and value % 1024**power == 0:
            return f"{value // 1024**power}{unit}"
    return str(value)


def read_share(raw: object) -> float:
    """A number from 0 to 1, or a percentage.

    Example:
        >>> read_share("0.25"), read_share("1%"), read_share(1)
        (0.25, 0.01, 1.0)
    """
    text = str(raw).strip() if isinstance(raw, (int, float, str)) and not isinstance(raw, bool) else ""
    if _PLAIN_NUMBER.fullmatch(text.removesuffix("%").rstrip()):
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        if share <= 1:
            return share
    raise ValueError(f"must be from 0 to 1, or a percentage such as 1%, not {_shown(raw)}")


def read_duration(raw: object) -> float:
    """Seconds: a number, or text of parts with units us, ms, s, m, h, d; at most 366 days, to the microsecond.

    Example:
        >>> read_duration("1h30m"), read_duration("250ms"), read_duration(2)
        (5400.0, 0.25, 2.0)
    """
    if isinstance(raw, (int, float)) and not isinstance(raw, bool):
        seconds = float(raw) if abs(raw) <= _LONGEST_DURATION_S else float("inf")
    elif isinstance(raw, str) and _PLAIN_NUMBER.fullmatch(raw.strip()):
        seconds = float(raw)
    elif isinstance(raw, str) and len(raw) <= 64 and _DURATION.fullmatch(raw.strip()):
        parts = _DURATION_PART.findall(raw)
        seconds = sum(float(number) * _DURATION_UNITS[unit.lower()] for number, unit in parts)
    else:
        raise ValueError(f"must be a time such as 250ms, 30s or 1h30m, not {_shown(raw)}")
    if not 0 <= seconds <= _LONGEST_DURATION_S:
        raise ValueError(f"must be from 0 to 366 days, not {_shown(raw)}")
    return round(seconds, 6)


def show_duration(value: float) -> str:
    microseconds = round(value * 1e6)
    parts = []
    for unit, length in (
        ("d", 86400000000),
        ("h", 3600000000),
        ("m", 60000000),
        ("s", 1000000),
        ("ms", 1000),
        ("us", 1),
    ):
        count, microseconds = divmod(microseconds, length)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def _items(raw: object) -> list[object]:
    if isinstance(raw, str):
        return [part.strip() for part in raw.split(",") if part.strip()]
    if isinstance(raw, (list, tuple)):
        return list(raw)
    raise ValueError(f"must be a list such as 1,8,32, not {_shown(raw)}")


def read_list(raw: object) -> tuple[str, ...]:
    """Texts of one line: from text, what stands between its commas; empty for none."""
    texts = [read_text(item).strip() for item in _items(raw)]
    if any("," in text for text in texts):
        raise ValueError(f"must be texts without commas, not {_shown(raw)}")
    return tuple(text for text in texts if text)


def read_fraction(raw: object) -> float:
    """A number from 0 to 1."""
    is_number = isinstance(raw, (int, float)) and not isinstance(raw, bool)
    if is_number or (isinstance(raw, str) and re.fullmatch(r"\s*\d?(\.\d{1,9})?\s*", raw, re.ASCII) and raw.strip()):
        number = float(raw)  # type: ignore[arg-type]
        if 0 <= number <= 1:
            return number
    raise ValueError(f"must be a number from 0 to 1 such as 0.5, not {_shown(raw)}")


def read_positive(raw: object) -> float:
    """A number above 0, up to 1000.

    Example:
        >>> read_positive("0.25")
        0.25
    """
    text = str(raw).strip() if isinstance(raw, (int, float, str)) and not isinstance(raw, bool) else ""
    if _PLAIN_NUMBER.fullmatch(text) and 0 < float(text) <= _LARGEST_POSITIVE:
        return float(text)
    raise ValueError(f"must be a number above 0 and at most {_LARGEST_POSITIVE}, not {_shown(raw)}")


def read_batch_sizes(raw: object) -> tuple[int, ...]:
    """Whole numbers above 0 in rising order; empty for none."""
    numbers = [_whole_number(item) for item in _items(raw)]
    sizes = tuple(number for number in numbers if number is not None and 0 < number <= _LARGEST_INT)
    if len(sizes) < len(numbers) or list(sizes) != sorted(set(sizes)):
        raise ValueError(f"must be whole numbers above 0 in rising order such as 1,8,32, not {_shown(raw)}")
    return sizes


def show_list(value: tuple[object, ...]) -> str:
    return ",".join(map(str, value))


def read_version_policy(raw: object) -> str:
    """`latest`, `latest:N`, `all`, or the numbers of versions; in one spelling.

    Example:
        >>> read_version_policy("latest"), read_version_policy([2, 1])
        ('latest:1', '1,2')
    """
    word = raw.strip().lower() if isinstance(raw, str) else ""
    if word in ("all", "latest"):
        return {"all": "all", "latest": "latest:1"}[word]
    if re.fullmatch(r"latest:0*[1-9]\d{0,8}", word, re.ASCII):
        return f"latest:{int(word.partition(':')[2])}"
    listed = raw if isinstance(raw, (str, list, tuple)) else [raw]
    numbers = [_whole_number(item) for item in _items(listed)]
    versions = [number for number in numbers if number is not None and 0 <= number <= _LARGEST_INT]
    if not versions or len(versions) < len(numbers):
        raise ValueError(f"must be latest, latest:N, all, or version numbers such as 3,5, not {_shown(raw)}")
    return ",".join(map(str, sorted(set(versions))))


def read_labels(raw: object) -> dict[str, int]:
    """Labels and the versions that they name: a TOML table, or `stable=2,next=3`.

    A label is made of letters, digits and underscores, as TensorFlow Serving's path syntax asks.
    """
    if not isinstance(raw, Mapping):
        pairs = [str(item).partition("=") for item in _items(raw)]
        raw = {name.strip(): number for name, _, number in pairs}
    labels = {}
    for name, value in raw.items():
        number = _whole_number(value)
        if not _LABEL.fullmatch(name) or number is None or not 0 <= number <= _LARGEST_INT:
            raise ValueError(f"must be names with version numbers such as stable=2,next=3, not {name}={_shown(value)}")
        labels[name] = number
    return labels


def show_labels(value: Mapping[str, int]) -> str:
    return ",".join(f"{name}={number}" for name, number in value.items())


TEXT = Kind("text", "TEXT", read_text)
PATH = Kind("path", "PATH", read_text)
ADDRESS = Kind("address", "HOST", read_address)
URL_PATH = Kind("path on the server", "/PATH", read_url_path)
BOOL = Kind("true or false", "", read_bool, lambda value: str(value).lower())
PORT = Kind("port", "PORT", read_port, show_port)
SIZE = Kind("size", "SIZE", read_size, show_size)
SHARE = Kind("share", "SHARE", read_share, lambda value: f"{value:.9f}".rstrip("0").rstrip("."))
DURATION = Kind("time", "TIME", read_duration, show_duration)
BATCH_SIZES = Kind("list of whole numbers", "N,N", read_batch_sizes, show_list)
LIST = Kind("list of texts", "TEXT,TEXT", read_list, show_list)
FRACTION = Kind("share", "SHARE", read_fraction, "{:g}".format)
POSITIVE = Kind("number", "NUMBER", read_positive, "{:g}".format)
VERSION_POLICY = Kind("version policy", "POLICY", read_version_policy)
LABELS = Kind("table of versions", "LABEL=N", read_labels, show_labels)
