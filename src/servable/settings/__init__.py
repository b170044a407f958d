"""Settings: one table, read from flags, environment variables and TOML files.

    flag --rest-port 8501  >  environment SERVABLE_REST_PORT  >  rest_port = 8501 in servable.toml  >  default

Example:
    >>> found = load_server_settings({"max_body_size": "1MiB"}, environ={})
    >>> found.values.max_body_size
    1048576
    >>> [row.origin for row in found.rows() if row.setting.name == "max_body_size"]
    ['flag --max-body-size']
"""

from servable.settings.load import (
    CONFIG_FILE,
    CONFIG_VARIABLE,
    TOKEN_VARIABLE,
    Resolved,
    Row,
    load_model_settings,
    load_server_settings,
)
from servable.settings.table import SECTIONS, ModelSettings, PerModelSettings, ServerSettings, Setting, table

__all__ = [
    "CONFIG_FILE",
    "CONFIG_VARIABLE",
    "SECTIONS",
    "TOKEN_VARIABLE",
    "ModelSettings",
    "PerModelSettings",
    "Resolved",
    "Row",
    "ServerSettings",
    "Setting",
    "load_model_settings",
    "load_server_settings",
    "table",
]
