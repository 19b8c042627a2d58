"""What can go wrong between us and PostgreSQL.

SocleError
├── DatabaseError            PostgreSQL answered with an error
└── DatabaseUnavailable      no answer from PostgreSQL
    ├── ConnectFailed        no session could be opened
    ├── ConnectionLost       the session ended before its answer was complete; a write may or may not have happened
    └── PoolTimeout          no session became free in time
ProtocolViolation            the peer does not speak the protocol (is a ConnectionLost: the session is given up)
"""

from __future__ import annotations

from socle_platform.errors import SocleError


class DatabaseError(SocleError):
    """PostgreSQL refused the statement.

    Fields as in the manual, «Error and Notice Message Fields»; a field that was not sent is None. `position` is the
    1-based character index in the statement.
    """

    def __init__(
        self,
        sqlstate: str,
        message: str,
        detail: str | None = None,
        hint: str | None = None,
        schema: str | None = None,
        table: str | None = None,
        column: str | None = None,
        constraint: str | None = None,
        severity: str = "ERROR",
        *,
        datatype: str | None = None,
        context: str | None = None,
        position: int | None = None,
        internal_position: int | None = None,
        internal_query: str | None = None,
        file: str | None = None,
        line: str | None = None,
        routine: str | None = None,
    ) -> None:
        super().__init__(message)
        self.args = (message,)  # PostgreSQL's words, even where it has none
        self.sqlstate = sqlstate
        self.detail = detail
        self.hint = hint
        self.schema = schema
        self.table = table
        self.column = column
        self.constraint = constraint
        self.severity = severity
        self.datatype = datatype
        self.context = context
        self.position = position
        self.internal_position = internal_position
        self.internal_query = internal_query
        self.file = file
        self.line = line
        self.routine = routine

    @property
    def message(self) -> str:
        """PostgreSQL's primary message."""
        return str(self.args[0])

    def __str__(self) -> str:
        return f"{self.severity} {self.sqlstate}: {self.message}"


class DatabaseUnavailable(SocleError):
    """The database cannot be reached."""


class ConnectFailed(DatabaseUnavailable):
    """No session with the database could be opened.

    `error` is the server's own answer when it gave one (wrong password, starting up …).
    """

    def __init__(self, message: str | None = None, error: DatabaseError | None = None) -> None:
        super().__init__(message)
        self.error = error


class ConnectionLost(DatabaseUnavailable):
    """The connection to the database was lost before the answer was complete.

    `error` is the server's farewell when it sent one (57P01 on shutdown …).
    """

    def __init__(self, message: str | None = None, error: DatabaseError | None = None) -> None:
        super().__init__(message)
        self.error = error


class ProtocolViolation(ConnectionLost):
    """The database's answer does not follow the protocol."""


class PoolTimeout(DatabaseUnavailable):
    """No database connection became free in time."""
