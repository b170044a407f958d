"""Models listed and changed by the client and by the commands, on a real server."""

from __future__ import annotations

import json
import tarfile
import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest

from archives import model_files, zipped
from servable.cli import main
from servable.client import AsyncClient, Client, ListedVersion
from servable.client.archive import archive_of
from servable.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ServableError,
    TooLarge,
)
from servers import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from servable.server import ModelServer

X = np.ones((2, 2), np.float32)


@pytest.fixture
def url(start: Callable[..., ModelServer]) -> str:
    server = start(repository="write", ready=False, load_retries=0)
    return f"http://{server.addresses.rest}"


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    with Client(url) as client:
        yield client


@pytest.fixture
def version(tmp_path: Path) -> Path:
    """The folder of a version that answers 5."""
    folder = tmp_path / "work" / "digits" / "4"
    (folder / "assets").mkdir(parents=True)
    (folder / "model.onnx").write_bytes(model_files(5)["model.onnx"])
    (folder / "assets" / ("long" * 50)).write_bytes(b"name")
    (folder / ".hidden").write_bytes(b"no")
    return folder


def test_a_folder_is_uploaded_listed_unloaded_loaded_and_removed(client: Client, version: Path) -> None:
    seen: list[tuple[int, int]] = []
    found = client.upload(version, "digits", progress=lambda sent, size: seen.append((sent, size)))
    assert (found.model, found.version, found.state) == ("digits", 1, "AVAILABLE")
    assert seen[-1][0] == seen[-1][1] == archive_of(version).size
    assert client.predict("digits", X).tolist() == [[5.0], [5.0]]
    assert client.models() == [ListedVersion("digits", 1, "READY")]
    client.unload("digits")
    with pytest.raises(NotFound):
        client.predict("digits", X)
    client.load("digits")
    assert client.upload(version, "digits", 7).version == 7
    client.load("digits", 1)
    assert client.metadata("digits").version == 1
    client.unpin("digits")
    client.load("digits")
    client.remove("digits", 7)
    client.remove("digits")
    assert eventually(lambda: client.models() == [])


def test_what_is_packed_is_a_tar_of_the_size_it_says(version: Path, tmp_path: Path) -> None:
    archive = archive_of(version)
    file = tmp_path / "sent.tar"
    file.write_bytes(b"".join(archive.pieces()))
    assert file.stat().st_size == archive.size
    with tarfile.open(file) as found:
        assert sorted(found.getnames()) == sorted(["model.onnx", "assets/" + "long" * 50])


def test_a_single_file_and_an_archive_are_uploaded_too(client: Client, version: Path, tmp_path: Path) -> None:
    (tmp_path / "trained.onnx").write_bytes(model_files(6)["model.onnx"])
    (tmp_path / "x.zip").write_bytes(zipped(model_files(8)))
    client.upload(tmp_path / "trained.onnx", "m")
    assert client.predict("m", X).tolist() == [[6.0], [6.0]]
    client.upload(tmp_path / "x.zip", "m")
    assert client.predict("m", X).tolist() == [[8.0], [8.0]]


def test_errors_are_typed(client: Client, version: Path, tmp_path: Path) -> None:
    client.upload(version, "m", 1)
    with pytest.raises(AlreadyExists):
        client.upload(version, "m", 1)
    with pytest.raises(InvalidArgument):
        client.upload(version, ".m")
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    with pytest.raises(ServableError, match="cannot be loaded"):
        client.upload(tmp_path / "bad.onnx", "m")
    with pytest.raises(NotFound):
        client.upload(tmp_path / "missing", "m")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidArgument, match="empty"):
        client.upload(tmp_path / "empty", "m")
    for change in (client.load, client.unload, client.remove, client.unpin):
        with pytest.raises(NotFound):
            change("nobody")
    with Client("grpc://127.0.0.1:1") as other, pytest.raises(FailedPrecondition, match="over HTTP"):
        other.models()


def test_limits_and_rights_are_told(start: Callable[..., ModelServer], version: Path) -> None:
    with Client(f"http://{start().addresses.rest}") as client, pytest.raises(PermissionDenied, match="--repository"):
        client.upload(version, "m")
    small = start(repository="write", max_upload_size=100)
    with Client(f"http://{small.addresses.rest}") as client, pytest.raises(TooLarge, match="max_upload_size"):
        client.upload(version, "m")


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    said = capsys.readouterr()
    return int(ended.value.code or 0), said.out, said.err


def test_the_commands_upload_load_unload_and_remove(
    url: str, client: Client, version: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, _ = run(capsys, "upload", str(version), "--to", url, "--json")
    assert (status, json.loads(out)["model"], json.loads(out)["version"]) == (0, "digits", 1)
    status, _, err = run(capsys, "upload", str(version.parent), "--to", url)
    assert (status, "digits: version 2 answers.\n" in err) == (0, True)
    assert run(capsys, "load", "digits", "--version", "1", "--url", url)[0] == 0
    assert client.metadata("digits").version == 1
    assert "digits: version 3 is stored, but not served.\n" in run(capsys, "upload", str(version), "--to", url)[2]
    assert run(capsys, "load", "digits", "--unpin", "--url", url)[0] == 0
    assert "servable load digits" in run(capsys, "unload", "digits", "--url", url)[2]
    assert run(capsys, "remove", "digits", "--version", "3", "--url", url)[0] == 0
    assert run(capsys, "remove", "digits", "--yes", "--url", url)[0] == 0
    assert eventually(lambda: client.models() == [])
    status, _, err = run(capsys, "upload", str(version / "model.onnx"), "--to", url)
    assert (status, "--model" in err) == (1, True)


def test_the_async_client_uploads_and_changes_models(url: str, version: Path) -> None:
    import asyncio

    async def change() -> None:
        async with AsyncClient(url) as client:
            sent: list[tuple[int, int]] = []
            found = await client.upload(version, "digits", 4, progress=lambda *bytes_: sent.append(bytes_))
            assert (found.version, found.state) == (4, "AVAILABLE")
            assert sent[-1][0] == sent[-1][1]
            assert [(each.model, each.version) for each in await client.models()] == [("digits", 4)]
            await client.unload("digits")
            assert not await client.ready("digits")
            await client.load("digits")
            await client.wait_until_ready("digits")
            await client.remove("digits")

    asyncio.run(change())


@pytest.mark.parametrize("kind", ["rest", "grpc"])
def test_waiting_ends_when_a_model_comes(start: Callable[..., ModelServer], version: Path, kind: str) -> None:
    server = start(repository="write", ready=False)
    address = {"rest": f"http://{server.addresses.rest}", "grpc": f"grpc://{server.addresses.grpc}"}[kind]
    with Client(f"http://{server.addresses.rest}") as changing, Client(address) as client:
        uploading = threading.Timer(0.05, changing.upload, [version, "digits"])
        uploading.start()
        client.wait_until_ready("digits", timeout=20)
        uploading.join()
        assert client.ready("digits")
