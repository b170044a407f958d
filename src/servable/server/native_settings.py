"""From the settings of a server to those of the data plane."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from servable.version import __version__

if TYPE_CHECKING:
    from servable.settings import ServerSettings


def native_settings(settings: ServerSettings) -> dict[str, object]:
    """The settings that the data plane knows (`native/dataplane/src/listen/settings.rs`)."""

    def address(port: int | None) -> str:
        host = f"[{settings.bind}]" if ":" in settings.bind else settings.bind
        return "" if port is None else f"{host}:{port}"

    known = asdict(settings)
    same = ("grpc_socket_path", "io_threads", "engine_threads", "max_rows", "max_connections", "max_queued_bytes")
    return {name: known[name] for name in (*same, "metrics_path", "tensor_content", "check_method_names", "cors")} | {
        "rest_address": address(settings.rest_port),
        "grpc_address": address(settings.grpc_port),
        "grpc": {
            "max_message_bytes": settings.grpc_max_message_size,
            "max_streams": settings.grpc_max_streams,
            "keepalive_s": settings.grpc_keepalive,
            "keepalive_timeout_s": settings.grpc_keepalive_timeout,
            "max_connection_age_s": settings.grpc_max_connection_age,
        },
        "max_body_bytes": settings.max_body_size,
        "max_upload_bytes": settings.max_upload_size,
        "max_header_bytes": settings.max_header_size,
        "send_timeout_s": settings.send_timeout,
        "request_timeout_s": settings.request_timeout,
        "max_held": settings.max_held_requests,
        "access_log": {"off": "", "stderr": "-"}.get(settings.access_log, settings.access_log),
        "server_version": __version__,
    }
