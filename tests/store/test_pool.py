"""Deadlines, cancellation, and what the driver's errors become."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import asyncpg
import pytest

from ctid.errors import RowRefused, SchemaError, StoreError, StoreUnavailable
from ctid.settings import Database
from ctid.store.pool import OwnConnection, Pool
from lab.postgres import PrivatePostgres

OTHERS = (
    "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
)


async def connections(database: Database) -> int:
    """How many connections others have to the database, busy or not."""
    own = await asyncpg.connect(database.address().get_secret_value())
    try:
        return int(await own.fetchval(OTHERS))
    finally:
        await own.close()


async def test_opens_while_postgresql_is_away() -> None:
    async with Pool(Database(dsn="postgresql://nobody@127.0.0.1:1/nothing", timeout="1s")) as pool:
        with pytest.raises(StoreUnavailable):
            await pool.fetchval("select 1")


async def test_says_what_is_wrong_with_a_dsn() -> None:
    async with Pool(Database(dsn="mysql://somewhere")) as pool:
        with pytest.raises(StoreError, match=r"database\.dsn"):
            await pool.fetchval("select 1")


async def test_a_closed_pool_is_unavailable(database: Database) -> None:
    pool = await Pool(database).open()
    await pool.close()
    await pool.close()
    with pytest.raises(StoreUnavailable):
        await pool.fetchval("select 1")


@pytest.mark.parametrize(
    ("sql", "error"),
    [
        ("select * from no_such_table", SchemaError),
        ("select no_such_column from fact", SchemaError),
        ("select 1/0", RowRefused),
        ("insert into fact (system) values (null)", RowRefused),
        ("sel ect", StoreError),
        ("do $$ begin raise exception 'gone' using errcode = '57P01'; end $$", StoreUnavailable),
        ("do $$ begin raise exception 'full' using errcode = '53100'; end $$", StoreUnavailable),
        ("do $$ begin raise exception 'lock' using errcode = '55P03'; end $$", StoreUnavailable),
        ("do $$ begin raise exception 'knot' using errcode = '40P01'; end $$", StoreUnavailable),
    ],
)
async def test_translates_what_postgresql_says(pool: Pool, sql: str, error: type[StoreError]) -> None:
    with pytest.raises(StoreError) as caught:
        await pool.execute(sql)
    assert type(caught.value) is error


async def test_wrong_arguments_are_a_bug_of_ours_not_an_outage(pool: Pool) -> None:
    with pytest.raises(StoreError) as caught:
        await pool.fetchval("select $1::integer", 1, 2)
    assert not isinstance(caught.value, StoreUnavailable)
    with pytest.raises(RowRefused):
        await pool.fetchval("select $1::integer", "not a number")


async def test_a_read_only_server_is_unavailable_and_left(database: Database) -> None:
    async with Pool(database) as pool:
        name = await pool.fetchval("select current_database()")
        await pool.execute(f'alter database "{name}" set default_transaction_read_only = on')
        await pool._pool.expire_connections()  # type: ignore[union-attr]
        with pytest.raises(StoreUnavailable, match="read-only"):
            await pool.execute(
                "insert into ticket (type, caller_number, caller_key, subject) values ('repair', '', '', '')"
            )
        # The primary is back under the same name: only a new connection can see it.
        other = await asyncpg.connect(database.address().get_secret_value())
        await other.execute("set default_transaction_read_only = off")
        await other.execute(f'alter database "{name}" reset default_transaction_read_only')
        await other.close()
        await pool.execute(
            "insert into ticket (type, caller_number, caller_key, subject) values ('repair', '', '', '')"
        )


async def test_a_slow_statement_ends_at_the_deadline(database: Database) -> None:
    quick = database.model_copy(update={"timeout": timedelta(seconds=0.3)})
    async with Pool(quick) as pool:
        async with asyncio.timeout(2):
            with pytest.raises(StoreUnavailable):
                await pool.execute("select pg_sleep(30)")
        assert await pool.fetchval("select 1") == 1


async def test_waiting_for_a_connection_ends_at_the_deadline(database: Database) -> None:
    small = database.model_copy(update={"timeout": timedelta(seconds=0.3), "pool": 2})
    async with Pool(small) as pool, pool.connection(), pool.connection():
        async with asyncio.timeout(2):
            with pytest.raises(StoreUnavailable):
                await pool.fetchval("select 1")


async def test_cancelled_callers_leave_no_connection_behind(database: Database) -> None:
    small = database.model_copy(update={"pool": 3})
    async with Pool(small) as pool:
        for round_ in range(30):
            tasks = [asyncio.create_task(pool.execute("select pg_sleep(0.02)")) for _ in range(12)]
            await asyncio.sleep(0.001 * (round_ % 15))
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        async with asyncio.timeout(5):
            assert await asyncio.gather(*(pool.fetchval("select 1") for _ in range(6))) == [1] * 6
        assert await connections(database) <= 3
    assert await connections(database) == 0


async def test_a_locked_table_does_not_hold_connections_for_ever(database: Database) -> None:
    quick = database.model_copy(update={"timeout": timedelta(seconds=0.3), "pool": 2})
    async with Pool(quick) as pool:
        blocker = await asyncpg.connect(database.address().get_secret_value())
        async with blocker.transaction():
            await blocker.execute("lock table call in access exclusive mode")
            for _ in range(4):
                with pytest.raises(StoreUnavailable):
                    await pool.fetch("select * from call")
        await blocker.close()
        assert await pool.fetch("select * from call") == []


async def test_survives_a_crash_of_postgresql(database: Database, postgres: PrivatePostgres) -> None:
    errors: list[int] = []
    async with Pool(database, on_error=lambda: errors.append(1)) as pool:
        assert await pool.fetchval("select 1") == 1
        await asyncio.to_thread(postgres.stop, "immediate")
        try:
            with pytest.raises(StoreUnavailable):
                await pool.fetchval("select 1")
        finally:
            await asyncio.to_thread(postgres.start)
        assert await pool.fetchval("select 2") == 2
    assert errors == [1]


async def test_an_unreadable_dsn_never_shows_its_password() -> None:
    """S14: the leader's connection is the first that is made."""
    database = Database(dsn="postgresql://ctid:se:cr/et@db/ctid")
    with pytest.raises(StoreError, match=r"database\.dsn") as told:
        await OwnConnection.open(database, name="ctid leader", within=timedelta(seconds=1))
    assert "cr" not in str(told.value).replace("ctid", "")
