"""Archives from strangers: nothing leaves the folder, nothing grows beyond its limits, nothing crashes."""

from __future__ import annotations

import gzip
import io
import stat
import struct
import tarfile
import zipfile
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from archives import tar, tar_entry, zipped
from servable.errors import InvalidArgument, ServableError, TooLarge
from servable.server import unpack as module
from servable.server.unpack import content_of, unpack

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FILES = {"model.onnx": b"weights", "assets/words.txt": b"a\nb\n", "variables/empty": b""}


@pytest.fixture
def into(tmp_path: Path) -> Callable[..., Path]:
    """Unpacks bytes into a fresh folder, and returns it."""
    count = 0

    def unpack_one(archive: bytes, max_bytes: int = 1 << 20) -> Path:
        nonlocal count
        count += 1
        folder = tmp_path / str(count) / "content"
        folder.mkdir(parents=True)
        file = tmp_path / f"{count}.archive"
        file.write_bytes(archive)
        unpack(file, folder, max_bytes)
        return folder

    return unpack_one


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "archive",
    [tar(FILES), tar(FILES, "gz"), zipped(FILES), zipped(FILES, zipfile.ZIP_STORED)],
    ids=["tar", "tar.gz", "zip", "stored zip"],
)
def test_what_was_packed_comes_out(into: Callable[..., Path], archive: bytes) -> None:
    assert contents(into(archive)) == FILES


def test_one_folder_at_the_top_is_stripped_and_two_are_not(into: Callable[..., Path]) -> None:
    packed = into(tar({f"./digits/{name}": content for name, content in FILES.items()}))
    assert content_of(packed) == packed / "digits"
    packed = into(tar(FILES))
    assert content_of(packed) == packed


def test_what_macos_leaves_in_archives_is_passed_over(into: Callable[..., Path]) -> None:
    extra = {"__MACOSX/x": b"1", "m/._model.onnx": b"2", "m/.DS_Store": b"3", "m/model.onnx": b"4"}
    assert contents(into(zipped(extra))) == {"m/model.onnx": b"4"}


@pytest.mark.parametrize(
    "name",
    ["../out", "/etc/out", "a/../../out", "a\\..\\out", "a\nb", "..", "a/" * 40 + "b", "x" * 300, "\udcff"],
)
def test_names_that_lead_out_or_are_no_names_are_refused(into: Callable[..., Path], tmp_path: Path, name: str) -> None:
    for pack in (tar, zipped) if name != "\udcff" else (tar,):
        with pytest.raises(ServableError):
            into(pack({name: b"x"}))
    assert not list(tmp_path.rglob("out"))


@pytest.mark.parametrize(
    ("kind", "link"),
    [
        (tarfile.SYMTYPE, "/etc/passwd"),
        (tarfile.LNKTYPE, "model.onnx"),
        (tarfile.FIFOTYPE, ""),
        (tarfile.CHRTYPE, ""),
        (tarfile.BLKTYPE, ""),
        (tarfile.GNUTYPE_SPARSE, ""),
    ],
)
def test_links_and_devices_are_refused(into: Callable[..., Path], kind: bytes, link: str) -> None:
    with pytest.raises(InvalidArgument):
        into(tar_entry("model.onnx", kind, link))


def test_a_link_in_a_zip_is_refused(into: Callable[..., Path]) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        entry = zipfile.ZipInfo("model.onnx")
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(entry, "/etc/passwd")
    with pytest.raises(InvalidArgument, match="neither a plain file nor a folder"):
        into(buffer.getvalue())


def test_a_name_twice_is_refused_in_whatever_form(into: Callable[..., Path]) -> None:
    for first, second in [("a", "./a"), ("a", "a/b"), ("a/b", "a"), ("a//b", "a/b")]:
        with pytest.raises(InvalidArgument):
            into(tar({first: b"1", second: b"2"}))


def test_bombs_are_stopped_by_bytes_by_ratio_and_by_entries(
    into: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    zeros = {"model.onnx": bytes(1 << 20)}
    for pack in (zipped, lambda files: tar(files, "gz")):
        with pytest.raises(TooLarge, match="max_upload_size"):
            into(pack(zeros), max_bytes=1 << 19)
    monkeypatch.setattr(module, "FREE_BYTES", 1000)
    for pack in (zipped, lambda files: tar(files, "gz")):
        with pytest.raises(TooLarge, match="times its size"):
            into(pack(zeros), max_bytes=0)
    monkeypatch.setattr(module, "MAX_ENTRIES", 10)
    for pack in (tar, zipped):
        with pytest.raises(TooLarge, match="entries"):
            into(pack({str(number): b"" for number in range(11)}))


def test_a_header_that_claims_gigabytes_takes_no_memory(into: Callable[..., Path]) -> None:
    header = tarfile.TarInfo("pax")
    header.type, header.size = tarfile.XHDTYPE, 5 << 30
    with pytest.raises(TooLarge, match="header"):
        into(header.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    # A zip whose directory claims to be huge: the end record is the last 22 bytes.
    broken = bytearray(zipped(FILES))
    struct.pack_into("<I", broken, len(broken) - 10, 0xFFFF_0000)
    with pytest.raises(ServableError):
        into(bytes(broken))


def test_an_encrypted_file_is_refused(into: Callable[..., Path]) -> None:
    archive = bytearray(zipped(FILES))
    for signature, offset in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        archive[archive.index(signature) + offset] |= 1
    with pytest.raises(InvalidArgument, match="encrypted"):
        into(bytes(archive))


def test_an_archive_that_is_cut_off_is_refused_wherever_it_is_cut(into: Callable[..., Path]) -> None:
    whole = tar(FILES)
    end = 512 * (2 * len(FILES))  # each a header; two contents; then zeros
    for length in [0, 1, 511, 512, 513, 1024, end - 512]:
        with pytest.raises(InvalidArgument):
            into(whole[:length])
    for packed in (tar(FILES, "gz"), zipped(FILES)):
        for length in range(0, len(packed) - 1, 37):
            with pytest.raises(InvalidArgument):
                into(packed[:length])


def test_what_is_no_archive_is_refused_with_a_hint(into: Callable[..., Path]) -> None:
    for garbage in (b"", b"PK\x03\x04", b"\x1f\x8b", b"hello", gzip.compress(b"hello"), bytes(512), bytes(2000)):
        try:
            folder = into(garbage)
        except InvalidArgument:
            continue
        assert contents(folder) == {}  # zeros are an empty tar


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([tar(FILES), tar(FILES, "gz"), zipped(FILES)]), st.data())
def test_damaged_archives_never_crash_or_leave_the_folder(
    into: Callable[..., Path], tmp_path: Path, archive: bytes, data: st.DataObject
) -> None:
    changed = bytearray(archive)
    for _ in range(data.draw(st.integers(1, 8))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    with suppress(ServableError):
        into(bytes(changed))
    outside = [path for path in tmp_path.iterdir() if not path.name.split(".")[0].isdigit()]
    assert not outside


NAMES = st.lists(st.sampled_from(["..", ".", "", "a", "b", "é", "\x00", "\\", "C:", "~"]), max_size=5).map("/".join)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(NAMES, max_size=4))
def test_whatever_the_names_files_come_out_inside_or_not_at_all(
    into: Callable[..., Path], tmp_path: Path, names: list[str]
) -> None:
    with suppress(ServableError):
        into(tar(dict.fromkeys(names, b"x")))
    for path in tmp_path.rglob("*"):
        if path.is_file() and path.suffix != ".archive":
            assert path.relative_to(tmp_path).parts[1] == "content"
