"""TFRecord: a file of records, each with its length and two checksums.

Source: https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details. One record is

    uint64 length, uint32 masked CRC-32C of the length, length bytes, uint32 masked CRC-32C of the bytes

all little-endian.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, BinaryIO

from servable import _native
from servable.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")
_READ_STEP = 1 << 20


def masked_crc32c(data: bytes) -> int:
    """CRC-32C, rotated and shifted so that a checksum of data that holds checksums stays a good one."""
    crc: int = _native.crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def write_records(file: BinaryIO, records: Iterable[bytes]) -> None:
    """Appends records to a binary file."""
    for record in records:
        length = struct.pack("<Q", len(record))
        file.write(length + _FOOTER.pack(masked_crc32c(length)))
        file.write(record)
        file.write(_FOOTER.pack(masked_crc32c(record)))


class _CutShort(Exception):  # noqa: N818  # not an error by itself
    """The file ends within a record."""


def read_records(
    file: BinaryIO, *, max_bytes: int = 1 << 31, if_cut_short: Callable[[], object] | None = None
) -> Iterator[bytes]:
    """The records of a binary file, from where it stands to its end.

    Args:
        file: The file.
        max_bytes: The longest record that is taken.
        if_cut_short: Called where the file ends within a record, as that of a process ends that was killed; what is
            whole has been given by then.

    Raises:
        InvalidArgument: It is no TFRecord file, or it is damaged or holds a longer record; or it ends within a record,
            and `if_cut_short` is None.
    """
    try:
        yield from _read_records(file, max_bytes)
    except _CutShort:
        if if_cut_short is None:
            raise InvalidArgument("TFRecord: the file is cut short") from None
        if_cut_short()


def _read_records(file: BinaryIO, max_bytes: int) -> Iterator[bytes]:
    while header := file.read(_HEADER.size):
        if len(header) < _HEADER.size:
            raise _CutShort
        length, checksum = _HEADER.unpack(header)
        if masked_crc32c(header[:8]) != checksum:
            raise InvalidArgument("TFRecord: the checksum of a length is wrong; is this a TFRecord file?")
        if length > max_bytes:
            raise InvalidArgument(f"TFRecord: a record of {length} bytes is over the limit of {max_bytes}")
        record, footer = _read_exactly(file, length), file.read(_FOOTER.size)
        if len(footer) < _FOOTER.size:
            raise _CutShort
        if masked_crc32c(record) != _FOOTER.unpack(footer)[0]:
            raise InvalidArgument("TFRecord: the checksum of a record is wrong: the file is damaged")
        yield record


def _read_exactly(file: BinaryIO, length: int) -> bytes:
    # In steps: the length is only a claim until the bytes are there.
    parts = []
    while length:
        part = file.read(min(length, _READ_STEP))
        if not part:
            raise _CutShort
        parts.append(part)
        length -= len(part)
    return b"".join(parts)
