"""Brings the schema up to date: numbered plain SQL, each file once, one process at a time."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import asyncpg
import msgspec

from ctid.errors import SchemaError, StoreError
from ctid.settings import Database
from ctid.store.pool import Connection, Pool, connect, translated

SCHEMA: Final = Path(__file__).with_name("schema")
_NAME: Final = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")
_LOCK: Final = 0x63746964  # "ctid"; one migration at a time per database
_PATIENCE_SECONDS: Final = 300
"""For the lock and for each file: long, since an index on a large table takes its time."""

_LEDGER: Final = """
create table if not exists schema_migration (
    number     integer     not null primary key,
    name       text        not null,
    checksum   text        not null,
    applied_at timestamptz not null default clock_timestamp()
);
comment on table schema_migration is 'Which migrations this database has seen';
comment on column schema_migration.number is 'Number of the file';
comment on column schema_migration.name is 'Name of the file';
comment on column schema_migration.checksum is 'SHA-256 of the file, hexadecimal';
comment on column schema_migration.applied_at is 'PostgreSQL''s clock, UTC';
"""


class Migration(msgspec.Struct, frozen=True, kw_only=True):
    """One file of ``store/schema``."""

    number: int
    name: str
    sql: str
    checksum: str


def migrations(folder: Path = SCHEMA) -> list[Migration]:
    """Read all migrations, lowest number first.

    Raises:
        SchemaError: A file is misnamed, or a number is given twice.
    """
    found: dict[int, Migration] = {}
    for file in sorted(folder.glob("*.sql")):
        named = _NAME.fullmatch(file.name)
        if not named:
            raise SchemaError(f"{file.name}: name it NNNN_what.sql, lower case")
        number = int(named[1])
        if number in found:
            raise SchemaError(f"{file.name}: number {number} is taken by {found[number].name}")
        sql = file.read_text(encoding="utf-8")
        checksum = hashlib.sha256(sql.encode()).hexdigest()
        found[number] = Migration(number=number, name=file.name, sql=sql, checksum=checksum)
    return [found[number] for number in sorted(found)]


def missing(known: Sequence[Migration], applied: dict[int, tuple[str, str]]) -> list[Migration]:
    """Return what is still to be applied.

    Args:
        known: This ctid's migrations, lowest first.
        applied: The database's, by number: name and checksum.

    Raises:
        SchemaError: The database is newer, or a file was changed after it was applied.
    """
    by_number = {one.number: one for one in known}
    for number, (name, checksum) in sorted(applied.items()):
        if number not in by_number:
            raise SchemaError(
                f"the database has {name}, which this ctid does not know; install the newer ctid"
            )
        if by_number[number].checksum != checksum:
            raise SchemaError(
                f"{by_number[number].name} was changed after it was applied; "
                "restore the file and put the change into a new migration"
            )
    newest = max(applied, default=0)
    still = [one for one in known if one.number not in applied]
    if still and still[0].number < newest:
        raise SchemaError(
            f"{still[0].name} comes before {applied[newest][0]}, already applied; give it a higher number"
        )
    return still


async def migrate(database: Database, *, folder: Path = SCHEMA) -> list[str]:
    """Apply what is missing, each file in its own transaction; harmless if nothing is.

    Returns:
        Names of the files applied now.

    Raises:
        SchemaError: See ``missing``.
        StoreUnavailable: PostgreSQL is away.
        StoreError: A file could not be applied; nothing of that file remains.
    """
    known = migrations(folder)
    try:
        connection = await connect(
            database.address().get_secret_value(),
            timeout=database.timeout.total_seconds(),
            command_timeout=_PATIENCE_SECONDS,
            server_settings={
                "application_name": "ctid migrate",
                "timezone": "UTC",
                "client_min_messages": "warning",
            },
        )
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        raise translated(error) from error
    try:
        await connection.execute("select pg_advisory_lock($1)", _LOCK)
        return await _apply(connection, known)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        raise translated(error) from error
    finally:
        # Closing gives the lock back, whatever happened.
        await asyncio.shield(connection.close(timeout=database.timeout.total_seconds()))


async def _apply(connection: Connection, known: Sequence[Migration]) -> list[str]:
    await connection.execute(_LEDGER)
    done = []
    for one in missing(known, await _applied(connection)):
        async with connection.transaction():
            try:
                await connection.execute(one.sql)
            except asyncpg.PostgresError as error:
                raise StoreError(f"{one.name}: {error}") from error
            await connection.execute(
                "insert into schema_migration (number, name, checksum) values ($1, $2, $3)",
                one.number,
                one.name,
                one.checksum,
            )
        done.append(one.name)
    return done


async def _applied(connection: Connection) -> dict[int, tuple[str, str]]:
    rows = await connection.fetch("select number, name, checksum from schema_migration")
    return {row["number"]: (row["name"], row["checksum"]) for row in rows}


async def check(pool: Pool, *, folder: Path = SCHEMA) -> None:
    """Make sure that schema and ctid fit together.

    Raises:
        SchemaError: They do not; says what to do.
        StoreUnavailable: PostgreSQL is away.
    """
    async with pool.connection() as connection:
        known = await connection.fetchval("select to_regclass('schema_migration') is not null")
        applied = await _applied(connection) if known else {}
    if still := missing(migrations(folder), applied):
        raise SchemaError(f"the database lacks {', '.join(one.name for one in still)}; run `ctid migrate`")
