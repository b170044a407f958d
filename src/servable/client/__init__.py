"""The client: numpy in and out, over REST or gRPC, to this server and to others that speak its protocols."""

from servable.client.aio import AsyncClient
from servable.client.repository import ListedVersion, Uploaded
from servable.client.retry import Retry
from servable.client.sync import Client
from servable.client.types import Metadata, VersionStatus

__all__ = ["AsyncClient", "Client", "ListedVersion", "Metadata", "Retry", "Uploaded", "VersionStatus"]
