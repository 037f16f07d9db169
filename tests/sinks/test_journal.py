"""The journal's sink: nothing lost while PostgreSQL is away, nothing twice when it is back."""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import Any

import asyncpg
import pytest
import structlog

from ctid.acd.facts import Anomaly, Fact
from ctid.errors import SinkUnavailable
from ctid.settings import Database
from ctid.sinks.base import Outbox
from ctid.sinks.journal import JournalSink
from ctid.store.pool import Pool
from lab.postgres import PrivatePostgres
from tests.fakes_facts import BEGIN, answered_call


def journal(pool: Pool, **more: Any) -> JournalSink:
    return JournalSink(pool, system="ast", normalise=lambda number: number.lstrip("0"), **more)


async def count(pool: Pool) -> int:
    return int(await pool.fetchval("select count(*) from fact"))


async def test_asks_for_the_system_at_every_write(pool: Pool) -> None:
    names = iter(["east", "west"])
    sink = JournalSink(pool, system=lambda: next(names), normalise=str)
    await sink.write(answered_call(1))
    await sink.write(answered_call(1))
    rows = await pool.fetch("select system from call order by system")
    assert [row["system"] for row in rows] == ["east", "west"]


async def test_nothing_to_write_needs_no_postgresql() -> None:
    pool = Pool(Database(dsn="postgresql://nobody@127.0.0.1:1/nothing"))
    await journal(pool).write([])


async def test_facts_wait_while_postgresql_is_away(database: Database, postgres: PrivatePostgres) -> None:
    async with Pool(database) as pool:
        sink = journal(pool)
        outbox = Outbox(sink, batch=50, retry_seconds=(0.01, 0.1))
        running = asyncio.create_task(outbox.run())
        told = [fact for number in range(20) for fact in answered_call(number)]
        for fact in told[:200]:
            outbox.put(fact)
        await asyncio.to_thread(postgres.stop, "immediate")
        try:
            with structlog.testing.capture_logs() as log:
                for fact in told[200:]:
                    outbox.put(fact)
                with pytest.raises(SinkUnavailable):
                    await sink.write(told[:1])
                await asyncio.sleep(0.3)
                assert outbox.pending >= len(told) - 200
        finally:
            await asyncio.to_thread(postgres.start)
        async with asyncio.timeout(20):
            await outbox.drained()
        running.cancel()
        assert await count(pool) == len(told)
        assert [entry["event"] for entry in log].count("journal can not write; facts wait in the outbox") <= 1


async def test_a_connection_lost_at_commit_leaves_each_fact_once(database: Database) -> None:
    """Cut at every packet from the server, the one that confirms COMMIT among them (F13)."""
    unseen_commits = 0
    for cut_after in range(8, 45):
        told = answered_call(cut_after)
        async with Cut(database, cut_after) as cut, Pool(cut.database) as through, Pool(database) as direct:
            mine = "select count(*) from fact where call = $1"
            for attempt in range(10):
                try:
                    await journal(through).write(told)
                except SinkUnavailable:
                    assert attempt < 9
                    unseen_commits += await direct.fetchval(mine, told[0].call) > 0
                else:
                    break
            assert await direct.fetchval(mine, told[0].call) == sum(
                fact.call == told[0].call for fact in told
            )
            assert (
                await direct.fetchval("select count(*) from queue_visit where call = $1", told[0].call) == 1
            )
    assert unseen_commits > 0, "no cut fell between COMMIT and its reply"


async def test_one_unstorable_fact_does_not_hold_up_the_rest(pool: Pool) -> None:
    refused: list[tuple[str, Fact]] = []
    sink = journal(pool, on_refused=lambda name, fact: refused.append((name, fact)))
    bad = Anomaly(at=BEGIN, kind=secrets.token_hex(10_000), what="the key does not fit an index")
    told = answered_call(1)
    with structlog.testing.capture_logs() as log:
        await sink.write([*told[:7], bad, *told[7:]])
    assert refused == [("journal", bad)]
    assert await count(pool) == len(told)
    assert [entry["log_level"] for entry in log] == ["error"]


async def test_an_unmigrated_database_only_delays(empty_database: Database) -> None:
    async with Pool(empty_database) as pool:
        with pytest.raises(SinkUnavailable, match="ctid migrate"):
            await journal(pool).write(answered_call(1))


async def test_a_locked_table_delays_and_leaks_nothing(database: Database) -> None:
    quick = database.model_copy(update={"timeout": database.timeout / 5})
    async with Pool(quick) as pool:
        blocker = await asyncpg.connect(database.address().get_secret_value())
        async with blocker.transaction():
            await blocker.execute("lock table queue_visit in access exclusive mode")
            for _ in range(3):
                with pytest.raises(SinkUnavailable):
                    await journal(pool).write(answered_call(1))
            assert await blocker.fetchval("select count(*) from fact") == 0
        await blocker.close()
        await journal(pool).write(answered_call(1))
        assert await count(pool) == len(answered_call(1))


async def test_two_writers_of_the_same_facts(database: Database) -> None:
    told = [fact for number in range(10) for fact in answered_call(number)]
    async with Pool(database) as one, Pool(database) as other:

        async def deliver(pool: Pool, facts: list[Fact]) -> None:
            while True:
                try:
                    return await journal(pool).write(facts)
                except SinkUnavailable:
                    await asyncio.sleep(0.01)

        async with asyncio.timeout(10):
            await asyncio.gather(deliver(one, told), deliver(other, told[::-1]))
        assert await count(one) == len(told)


async def test_is_fast_enough(pool: Pool) -> None:
    """A tenth of the goal of 10,000/s, so that a loaded machine does not fail it."""
    told = [fact for number in range(100) for fact in answered_call(number)]
    began = time.perf_counter()
    for start in range(0, len(told), 500):
        await journal(pool).write(told[start : start + 500])
    assert len(told) / (time.perf_counter() - began) > 1000


class Cut:
    """A proxy to PostgreSQL that drops a connection after so many packets from the server, three times."""

    def __init__(self, database: Database, after: int) -> None:
        self._dsn = database.address().get_secret_value()
        self._after = after
        self._cuts = 3
        self._timeout = database.timeout

    async def __aenter__(self) -> Cut:
        plain = await asyncpg.connect(self._dsn)
        folder = await plain.fetchval("show unix_socket_directories")
        port = await plain.fetchval("show port")
        user, name = await plain.fetchrow("select current_user, current_database()")
        await plain.close()
        self._path = f"{folder}/.s.PGSQL.{port}"
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        dsn = f"postgresql://{user}@127.0.0.1:{self.port}/{name}?sslmode=disable"
        self.database = Database(dsn=dsn, timeout=self._timeout)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_unix_connection(self._path)
        up = asyncio.create_task(self._pipe(reader, up_writer, None))
        cut = self._after if self._cuts > 0 else None
        self._cuts -= 1
        await self._pipe(up_reader, writer, cut)
        writer.transport.abort()
        up_writer.close()
        await asyncio.gather(up, return_exceptions=True)

    async def _pipe(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, cut: int | None
    ) -> None:
        packets = 0
        try:
            while block := await reader.read(65536):
                packets += 1
                if packets == cut:
                    return
                writer.write(block)
                await writer.drain()
        except ConnectionError:
            return
