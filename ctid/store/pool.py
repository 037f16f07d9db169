"""The connections to PostgreSQL, with deadlines; the only file that sees the driver's errors.

A pool opens even while PostgreSQL is away: the first use then says ``StoreUnavailable``,
and so does every later one until it is back.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from types import TracebackType
from typing import Any, Final, Self, TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from ctid.errors import RowRefused, SchemaError, StoreError, StoreUnavailable
from ctid.settings import Database

Connection: TypeAlias = "asyncpg.Connection[Record] | PoolConnectionProxy[Record]"
Record: TypeAlias = asyncpg.Record

CLOSE_SECONDS: Final = 0.5
"""So long PostgreSQL has to say goodbye to a connection of its own."""

#: SQLSTATE classes that pass by themselves, or once an operator has acted: connection
#: lost, login refused, out of space or memory, shutting down, disk trouble, deadlock.
_PASSING = ("08", "28", "40", "53", "57", "58")
_PASSING_STATES = frozenset({"25006", "3D000", "55P03"})  # read-only, no such database, lock
_READ_ONLY = "25006"
_NOT_MIGRATED = frozenset({"42P01", "42703", "42883", "3F000"})  # unknown table, column, function, schema
_WRITE = "write postgresql://USER@HOST/NAME, with special characters as %XX"
_UNSTORABLE = ("22", "23", "54")  # the value itself is wrong, or too long for an index


async def _keep(_connection: Connection) -> None:
    """Leave a returned connection as it is: nobody changes its session, and a reset is a round trip."""


async def connect(*args: Any, **kwargs: Any) -> asyncpg.Connection[Record]:
    """Connect; what Python says of a DSN that it can not read quotes it, password included."""
    try:
        return await asyncpg.connect(*args, **kwargs)
    except asyncpg.ClientConfigurationError:
        raise  # a ValueError, too, but one that ``translated`` knows what to keep of
    except ValueError:
        raise StoreError(f"database.dsn: can not be read; {_WRITE}") from None


def translated(error: Exception) -> StoreError:
    """Say in our words what the driver meant.

    Args:
        error: From asyncpg, or an ``OSError`` (``TimeoutError`` is one).
    """
    text = str(error) or type(error).__name__
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""
        if state == _READ_ONLY:
            return StoreUnavailable(f"PostgreSQL is read-only: {text}")
        if state.startswith(_PASSING) or state in _PASSING_STATES:
            return StoreUnavailable(text)
        if state in _NOT_MIGRATED:
            return SchemaError(f"{text}; run `ctid migrate`")
        return RowRefused(text) if state.startswith(_UNSTORABLE) else StoreError(text)
    if isinstance(error, asyncpg.ClientConfigurationError):
        # What it quotes may be a piece of a password.
        plain = text.partition(", got ")[0].partition(": '")[0]
        return StoreError(f"database.dsn: {plain}; {_WRITE}")
    if isinstance(error, asyncpg.DataError):
        return RowRefused(text)
    # asyncpg has no class of its own for "connection is closed" and "pool is closing".
    if isinstance(error, asyncpg.InterfaceError) and "clos" not in text:
        return StoreError(text)
    return StoreUnavailable(text)


@contextmanager
def translation(on_error: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Raise in our words what the driver raises in its own, telling ``on_error`` first."""
    try:
        yield
    except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError) as error:
        on_error()
        raise translated(error) from error


class Pool:
    """At most ``database.pool`` connections, each use of one bounded by ``database.timeout``.

    Cancelling a caller gives its connection back, or closes it.

    Attributes:
        on_error: Called at every use that failed; may be set later.
    """

    def __init__(self, database: Database, *, on_error: Callable[[], None] = lambda: None) -> None:
        self._database = database
        self.on_error = on_error
        self._seconds = database.timeout.total_seconds()
        self._pool: asyncpg.Pool[Record] | None = None

    async def open(self) -> Self:
        """Prepare the pool; connects to nothing yet.

        Raises:
            OSError: ``dsn_file`` can not be read.
        """
        address = self._database.address().get_secret_value()
        self._pool = await asyncpg.create_pool(
            address,
            min_size=0,
            max_size=self._database.pool,
            timeout=self._seconds,
            command_timeout=self._seconds,
            reset=_keep,
            connect=connect,
            server_settings={"application_name": "ctid", "timezone": "UTC"},
        )
        return self

    async def close(self, *, within: timedelta | None = None) -> None:
        """Close every connection, at the latest after ``within``; by default ``database.timeout``."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        try:
            async with asyncio.timeout(within.total_seconds() if within else self._seconds):
                await pool.close()
        except TimeoutError:
            pool.terminate()

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Lend one connection.

        Raises:
            StoreUnavailable: None to be had in time, or lost in use; nothing uncommitted remains.
            StoreError: Anything else PostgreSQL said inside the block.
        """
        if self._pool is None:
            raise StoreUnavailable("the pool is not open")
        try:
            with translation(self.on_error):
                async with self._pool.acquire(timeout=self._seconds) as connection:
                    yield connection
        except StoreUnavailable as error:
            if "read-only" in str(error) and self._pool is not None:
                # The name may point to the new primary by now: connect anew.
                await self._pool.expire_connections()
            raise

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Lend one connection inside a transaction; errors as in ``connection``.

        After ``StoreUnavailable`` the outcome may be unknown (lost at COMMIT): every write
        is therefore one that may be repeated.
        """
        async with self.connection() as connection, connection.transaction():
            yield connection

    async def fetch(self, sql: str, *args: Any) -> list[Record]:
        """Return all rows; errors as in ``connection``."""
        async with self.connection() as connection:
            return await connection.fetch(sql, *args)

    async def fetchrow(self, sql: str, *args: Any) -> Record | None:
        """Return the first row, if there is one; errors as in ``connection``."""
        async with self.connection() as connection:
            return await connection.fetchrow(sql, *args)

    async def fetchval(self, sql: str, *args: Any) -> Any:
        """Return the first column of the first row, or ``None``; errors as in ``connection``."""
        async with self.connection() as connection:
            return await connection.fetchval(sql, *args)

    async def execute(self, sql: str, *args: Any) -> str:
        """Run one statement and return PostgreSQL's status line; errors as in ``connection``."""
        async with self.connection() as connection:
            return await connection.execute(sql, *args)


class OwnConnection:
    """One connection outside the pool whose session is kept: for a lock that lasts as long as it.

    Attributes:
        ended: Set once the session is over, whoever ended it.
        pid: Of its backend.
    """

    def __init__(self, connection: asyncpg.Connection[Record]) -> None:
        self._connection = connection
        self.ended = asyncio.Event()
        self.pid: int = connection.get_server_pid()
        connection.add_termination_listener(lambda _connection: self.ended.set())

    @classmethod
    async def open(cls, database: Database, *, name: str, within: timedelta) -> Self:
        """Connect.

        Args:
            name: As administrators see it in ``pg_stat_activity``.
            within: For connecting and for each statement.

        Raises:
            StoreError: As ``Pool.connection``; also if ``dsn_file`` can not be read.
        """
        with translation():
            connection = await connect(
                database.address().get_secret_value(),
                timeout=within.total_seconds(),
                command_timeout=within.total_seconds(),
                server_settings={"application_name": name, "timezone": "UTC"},
            )
        return cls(connection)

    async def fetchrow(self, sql: str, *args: Any) -> Record | None:
        """Return the first row, if there is one; errors as in ``Pool.connection``."""
        with translation():
            return await self._connection.fetchrow(sql, *args)

    async def fetchval(self, sql: str, *args: Any) -> Any:
        """Return the first column of the first row, or ``None``; errors as in ``Pool.connection``."""
        with translation():
            return await self._connection.fetchval(sql, *args)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """Make a transaction of the block; errors as in ``Pool.connection``."""
        with translation():
            async with self._connection.transaction():
                yield

    async def close(self) -> None:
        """End the session: politely, if PostgreSQL listens. Never raises."""
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._connection.close()
        except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError):
            self._connection.terminate()
