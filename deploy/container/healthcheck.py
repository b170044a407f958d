"""Exits with 0 once the server in this container has loaded its first models, and answers.

It asks `/startupz`, not `/readyz`: whoever restarts unhealthy containers must not do so because one model out of many
cannot be loaded. The port is that of `SERVABLE_REST_PORT`, else 8501; TLS is spoken where `SERVABLE_TLS_CERT` says so.
"""

from __future__ import annotations

import os
import ssl
import sys
import urllib.request

TIMEOUT_S = 2.0


def main() -> int:
    """0 for healthy, 1 for not: the statuses that HEALTHCHECK knows."""
    port = os.environ.get("SERVABLE_REST_PORT") or "8501"
    scheme = "https" if os.environ.get("SERVABLE_TLS_CERT") else "http"
    url = f"{scheme}://localhost:{port}/startupz"
    # The question goes to this container itself, whose certificate is for other names than localhost.
    context = ssl._create_unverified_context()  # noqa: S323, SLF001
    try:
        urllib.request.urlopen(url, timeout=TIMEOUT_S, context=context).close()  # noqa: S310
    except OSError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
