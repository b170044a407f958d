"""Protocol buffers by hand: read the fields of a message, write the fields of a message.

Source: https://protobuf.dev/programming-guides/encoding/. Enough for the few messages here, and free of the clash that
two registrations of TensorFlow's descriptors in one process end in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from servable.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

VARINT, FIXED64, LENGTH_DELIMITED, FIXED32 = 0, 1, 2, 5
_MAX_VARINT_BYTES = 10
_MAX_FIELD_NUMBER = (1 << 29) - 1


class Field(NamedTuple):
    """One field as it stands in a message.

    Attributes:
        number: The field's number.
        kind: The wire type: VARINT, FIXED64, LENGTH_DELIMITED or FIXED32.
        data: The bytes of the value, without tag and length; a view, nothing is copied.
        value: The unsigned number of a VARINT, else 0.
    """

    number: int
    kind: int
    data: memoryview
    value: int

    @property
    def signed(self) -> int:
        """The value of an int32, int64 or enum field."""
        return self.value - (1 << 64) if self.value >> 63 else self.value

    def text(self) -> str:
        """The value of a string field; broken UTF-8 is an InvalidArgument."""
        try:
            return str(self.message(), "utf-8")
        except UnicodeDecodeError as error:
            raise InvalidArgument(f"Field {self.number} is not UTF-8: {error.reason}") from None

    def message(self) -> memoryview:
        """The bytes of a field that holds a message, a string or bytes; InvalidArgument for any other."""
        if self.kind != LENGTH_DELIMITED:
            raise InvalidArgument(f"Field {self.number} has wire type {self.kind}, expected {LENGTH_DELIMITED}")
        return self.data


def fields(message: bytes | memoryview) -> Iterator[Field]:
    r"""The fields of `message` in the order they stand, unknown ones too.

    Raises:
        InvalidArgument: It is cut short, or no message (groups count as such: no contract here has them).

    Example:
        >>> [(f.number, f.value) for f in fields(b"\x08\x96\x01")]
        [(1, 150)]
    """
    data = memoryview(message)
    at = 0
    while at < len(data):
        tag, at = _read_varint(data, at)
        number, kind = tag >> 3, tag & 7
        if not 0 < number <= _MAX_FIELD_NUMBER:
            raise InvalidArgument(f"Malformed message: no field has number {number}")
        start, value = at, 0
        if kind == VARINT:
            value, at = _read_varint(data, at)
        elif kind == LENGTH_DELIMITED:
            size, start = _read_varint(data, at)
            at = start + size
        elif kind in (FIXED32, FIXED64):
            at += 4 if kind == FIXED32 else 8
        else:
            raise InvalidArgument(f"Malformed message: field {number} has wire type {kind}")
        if at > len(data):
            raise InvalidArgument(f"Malformed message: field {number} is cut short")
        yield Field(number, kind, data[start:at], value)


def _read_varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    for position in range(at, min(at + _MAX_VARINT_BYTES, len(data))):
        octet = data[position]
        value |= (octet & 0x7F) << shift
        if octet < 0x80:
            return value & ((1 << 64) - 1), position + 1
        shift += 7
    raise InvalidArgument("Malformed message: a number is cut short or too long")


def varints(raw: bytes) -> NDArray[np.uint64]:
    r"""All numbers of a packed field at once.

    Example:
        >>> varints(b"\x96\x01\x07").tolist()
        [150, 7]
    """
    octets = np.frombuffer(raw, np.uint8)
    ends = np.flatnonzero(octets < 0x80)
    if not octets.size:
        return np.zeros(0, np.uint64)
    if octets[-1] >= 0x80:
        raise InvalidArgument("Malformed message: a number is cut short or too long")
    starts = np.concatenate(([0], ends[:-1] + 1))
    lengths = ends - starts + 1
    longest = int(lengths.max())
    if longest > _MAX_VARINT_BYTES:
        raise InvalidArgument("Malformed message: a number is cut short or too long")
    values = np.zeros(len(ends), np.uint64)
    for position in range(longest):
        reach = lengths > position
        bits = (octets[starts[reach] + position] & 0x7F).astype(np.uint64)
        values[reach] |= bits << np.uint64(7 * position)
    return values


def varint(value: int) -> bytes:
    """One number as it stands on the wire; a negative one as its 64-bit two's complement.

    Example:
        >>> varint(150).hex()
        '9601'
    """
    value &= (1 << 64) - 1
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


class Writer:
    """Collects the fields of one message; big buffers are copied once, by `to_bytes`.

    Example:
        >>> Writer().number(1, 150).to_bytes().hex()
        '089601'
    """

    def __init__(self) -> None:
        self._parts: list[Any] = []
        self._size = 0

    def number(self, field: int, value: int) -> Writer:
        return self._add(varint(field << 3 | VARINT) + varint(value))

    def data(self, field: int, value: bytes | bytearray | memoryview | NDArray[np.uint8]) -> Writer:
        """A bytes field; an array must be one-dimensional and contiguous."""
        self._add(varint(field << 3 | LENGTH_DELIMITED) + varint(len(value)))
        return self._add(value)

    def fixed(self, field: int, kind: int, value: bytes) -> Writer:
        """A field of FIXED32 or FIXED64: four or eight bytes."""
        return self._add(varint(field << 3 | kind) + value)

    def text(self, field: int, value: str) -> Writer:
        return self.data(field, value.encode())

    def message(self, field: int, value: Writer) -> Writer:
        self._add(varint(field << 3 | LENGTH_DELIMITED) + varint(value._size))
        self._parts += value._parts
        self._size += value._size
        return self

    def to_bytes(self) -> bytes:
        return b"".join(self._parts)

    def _add(self, part: bytes | bytearray | memoryview | NDArray[np.uint8]) -> Writer:
        self._parts.append(part)
        self._size += len(part)
        return self
