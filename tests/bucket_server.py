"""A small object store on loopback that speaks what S3 and Cloud Storage's XML API have in common.

Objects can be listed (in pages), read (whole and in ranges), written (on condition, and in parts) and deleted. It fails
when it is told to. Sources: https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations_Amazon_Simple_Storage_Service.html,
https://cloud.google.com/storage/docs/xml-api/reference-methods.
"""

from __future__ import annotations

import hashlib
import re
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Callable

_PAGE = 3  # so that a listing has several
_WRITTEN = "Sun, 22 Nov 2026 10:00:00 GMT"


@dataclass
class Fault:
    """What goes wrong, how often, with which requests. `status` 0 breaks the connection off in the middle."""

    method: str
    path: str
    times: int
    status: int


@dataclass
class BucketServer:
    """The store.

    Attributes:
        objects: Its contents: `bucket/key` -> bytes.
        written: When they all were written.
        requests: What was asked, in words like `GET /bucket/key`.
        before: Called with method and path before a request is answered.
    """

    objects: dict[str, bytes] = field(default_factory=dict)
    written: datetime = field(default_factory=lambda: datetime.now(UTC))
    requests: list[str] = field(default_factory=list)
    before: Callable[[str, str], None] = lambda method, path: None
    _faults: list[Fault] = field(default_factory=list)
    _parts: dict[str, dict[int, bytes]] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), lambda *args: _Handler(self, *args))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def fail(self, method: str, path: str, *, times: int = 1, status: int = 500) -> None:
        """The next requests of this method whose path and query contain a regular expression fail."""
        self._faults.append(Fault(method, path, times, status))

    def heal(self) -> None:
        self._faults.clear()

    def names(self, prefix: str) -> set[str]:
        """The objects under `bucket/prefix/`, relative to it."""
        with self.lock:
            return {key.removeprefix(f"{prefix}/") for key in self.objects if key.startswith(f"{prefix}/")}

    def fault_of(self, method: str, path: str) -> Fault | None:
        with self.lock:
            for fault in self._faults:
                if fault.times and fault.method == method and re.search(fault.path, path):
                    fault.times -= 1
                    return fault
        return None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, store: BucketServer, *args: Any) -> None:
        self.store = store
        super().__init__(*args)

    def log_message(self, *_: object) -> None:
        pass

    def _begin(self) -> bool:
        """Reads the request. Whether it is to be answered; else it failed, as it was told to."""
        path = unquote(self.path)
        self.store.requests.append(f"{self.command} {path}")
        self.store.before(self.command, path)
        url = urlsplit(self.path)
        self.key = unquote(url.path).strip("/")
        self.query = {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
        fault = self.store.fault_of(self.command, path)
        if fault and fault.status == 0 and self.command == "PUT":
            self.rfile.read(int(self.headers.get("content-length", 0)) // 2)
            self.close_connection = True
            return False
        self.body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.breaks = fault is not None and fault.status == 0
        if fault and fault.status:
            self._answer(fault.status, b"<Error><Code>Fault</Code></Error>")
            return False
        return True

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if status != 204:
            self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if getattr(self, "breaks", False):
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
        else:
            self.wfile.write(body)

    def do_GET(self) -> None:
        if not self._begin():
            return
        if "list-type" in self.query or "prefix" in self.query:
            self._list()
            return
        with self.store.lock:
            content = self.store.objects.get(self.key)
        if content is None:
            self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
            return
        described = {"etag": _etag(content), "last_modified": _WRITTEN}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("range", ""))
        if not wanted:
            self._answer(200, content, **described)
            return
        start, end = int(wanted[1]), min(int(wanted[2]) + 1, len(content))
        if start >= len(content):
            self._answer(416)
            return
        self._answer(206, content[start:end], content_range=f"bytes {start}-{end - 1}/{len(content)}", **described)

    do_HEAD = do_GET  # noqa: N815

    def _list(self) -> None:
        prefix, delimiter = self.query.get("prefix", ""), self.query.get("delimiter", "")
        after = self.query.get("continuation-token", "")
        with self.store.lock:
            objects = {
                key.removeprefix(f"{self.key}/"): content
                for key, content in self.store.objects.items()
                if key.startswith(f"{self.key}/")
            }
        entries: dict[str, str] = {}
        for key, content in sorted(objects.items()):
            if not key.startswith(prefix):
                continue
            rest = key[len(prefix) :]
            if delimiter and delimiter in rest:
                folder = prefix + rest.partition(delimiter)[0] + delimiter
                entries[folder] = f"<CommonPrefixes><Prefix>{escape(folder)}</Prefix></CommonPrefixes>"
            else:
                entries[key] = (
                    f"<Contents><Key>{escape(key)}</Key><LastModified>{self.store.written:%FT%TZ}</LastModified>"
                    f"<ETag>{escape(_etag(content))}</ETag><Size>{len(content)}</Size></Contents>"
                )
        names = [name for name in sorted(entries) if name > after]
        page, more = names[:_PAGE], len(names) > _PAGE
        token = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if more else ""
        body = (
            f"<ListBucketResult><IsTruncated>{str(more).lower()}</IsTruncated>{token}"
            f"{''.join(entries[name] for name in page)}</ListBucketResult>"
        )
        self._answer(200, body.encode(), content_type="application/xml")

    def do_PUT(self) -> None:
        if not self._begin():
            return
        with self.store.lock:
            if "uploadId" in self.query:
                self.store._parts[self.query["uploadId"]][int(self.query["partNumber"])] = self.body
                self._answer(200, etag=_etag(self.body))
                return
            only_new = self.headers.get("if-none-match") == "*"
            only_new |= self.headers.get("x-goog-if-generation-match") == "0"
            if only_new and self.key in self.store.objects:
                self._answer(412, b"<Error><Code>PreconditionFailed</Code></Error>")
                return
            self.store.objects[self.key] = self.body
        self._answer(200, etag=_etag(self.body), x_goog_generation="1")

    def do_POST(self) -> None:
        if not self._begin():
            return
        with self.store.lock:
            if "uploads" in self.query:
                upload = f"upload-{len(self.store._parts)}"
                self.store._parts[upload] = {}
                names = f"<Bucket>b</Bucket><Key>k</Key><UploadId>{upload}</UploadId>"
                body = f"<InitiateMultipartUploadResult>{names}</InitiateMultipartUploadResult>"
            elif "uploadId" in self.query:
                parts = self.store._parts.pop(self.query["uploadId"])
                content = b"".join(parts[number] for number in sorted(parts))
                self.store.objects[self.key] = content
                etag = f"<ETag>{escape(_etag(content))}</ETag>"
                body = f"<CompleteMultipartUploadResult>{etag}</CompleteMultipartUploadResult>"
            else:
                keys = re.findall(r"<Key>(.*?)</Key>", self.body.decode())
                for key in keys:
                    self.store.objects.pop(f"{self.key}/{key}", None)
                deleted = "".join(f"<Deleted><Key>{key}</Key></Deleted>" for key in keys)
                body = f"<DeleteResult>{deleted}</DeleteResult>"
        self._answer(200, body.encode(), content_type="application/xml", x_goog_generation="1")

    def do_DELETE(self) -> None:
        if not self._begin():
            return
        with self.store.lock:
            if "uploadId" in self.query:
                self.store._parts.pop(self.query["uploadId"], None)
            else:
                self.store.objects.pop(self.key, None)
        self._answer(204)


def _etag(content: bytes) -> str:
    return f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'
