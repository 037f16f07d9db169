"""The journal's sink: nothing lost while PostgreSQL is away, nothing twice when it is back."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import structlog

from ctid.acd.facts import Anomaly, Fact
from ctid.acd.rules import QueueRule
from ctid.errors import LogUnavailable, SinkUnavailable, StaleEpoch
from ctid.settings import Database
from ctid.sinks.base import Outbox
from ctid.sinks.journal import JournalSink
from ctid.sinks.metrics import MetricsSink
from ctid.store.pool import Pool
from ctid.store.segments import SegmentLog
from lab.postgres import PrivatePostgres
from tests.fakes_facts import BEGIN, answered_call
from tests.faults.drivers import small_disk

LOST = """
select place from spool, generate_series(1, applied) as place
where not exists (select from fact where fact.spool = spool.spool and number = place)
and not exists (select from fact_unwritten as gone where gone.spool = spool.spool and number = place)
order by 1
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def log_in(folder: Path, *, cap_bytes: int = 1 << 30) -> SegmentLog:
    return SegmentLog(folder, segment_bytes=1 << 20, cap_bytes=cap_bytes)


def journal(pool: Pool, folder: Path, **more: Any) -> JournalSink:
    settings = {"system": "ast", "normalise": lambda number: number.lstrip("0"), **more}
    return JournalSink(pool, settings.pop("log", None) or log_in(folder), **settings)


@asynccontextmanager
async def running(sink: JournalSink) -> AsyncIterator[asyncio.Task[None]]:
    """Run the sink as the daemon does; it must not end by itself."""
    await sink.open()
    task = asyncio.create_task(sink.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await sink.close()


async def drained(sink: JournalSink, seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        await sink.drained()


async def count(pool: Pool) -> int:
    return int(await pool.fetchval("select count(*) from fact"))


async def lost(pool: Pool) -> list[int]:
    """Return the numbers that are neither in the journal nor accounted for."""
    return [row["place"] for row in await pool.fetch(LOST)]


def one_call(number: int) -> list[Fact]:
    """Return a call of its own agent: no fact of it is also one of another call."""
    return answered_call(number, agent=f"a{number}")


def calls(number: int, start: int = 0) -> list[Fact]:
    return [fact for one in range(start, start + number) for fact in one_call(one)]


async def test_facts_go_through_the_spool_in_order(pool: Pool, folder: Path) -> None:
    sink = journal(pool, folder)
    async with running(sink):
        for number in range(10):
            await sink.write(one_call(number))
        await sink.until_durable()
        await drained(sink)
        assert (sink.backlog, sink.backlog_age) == (0, 0.0)
    rows = await pool.fetch(
        "select number, body->>'fact' as kind, epoch, recovered from fact order by number"
    )
    assert [row["number"] for row in rows] == list(range(1, len(calls(10)) + 1))
    assert [row["kind"] for row in rows] == [type(fact).__name__ for fact in calls(10)]
    assert {row["epoch"] for row in rows} == {None}
    assert await lost(pool) == []
    assert sum(file.stat().st_size for file in folder.iterdir()) == 0


async def test_asks_for_the_system_at_every_write(pool: Pool, folder: Path) -> None:
    """What is known when a fact is concluded stays with it, whenever it is written."""
    names = iter(["east", "west", "east"])
    sink = journal(pool, folder, system=lambda: next(names))
    await sink.open()
    for _ in range(3):
        await sink.write(one_call(1))
    async with running(sink):
        await drained(sink)
    rows = await pool.fetch("select system from call order by system")
    assert [row["system"] for row in rows] == ["east", "west"]
    assert await lost(pool) == []
    again = await pool.fetch("select why, body from fact_unwritten")
    assert [tuple(row) for row in again] == [("again", None)] * len(one_call(1))


async def test_nothing_to_write_needs_nothing(folder: Path) -> None:
    pool = Pool(Database(dsn="postgresql://nobody@127.0.0.1:1/nothing"))
    await journal(pool, folder).write([])


@pytest.mark.parametrize("mode", ["immediate", "fast"])
async def test_facts_wait_on_disk_while_postgresql_is_away(
    database: Database, postgres: PrivatePostgres, folder: Path, mode: str
) -> None:
    """F12: nothing lost, in order, once; the age of the oldest is known meanwhile."""
    async with Pool(database) as pool:
        sink = journal(pool, folder)
        async with running(sink):
            outbox = Outbox(sink, batch=50, retry_seconds=(0.01, 0.1))
            delivering = asyncio.create_task(outbox.run())
            told = calls(20)
            for fact in told[:200]:
                outbox.put(fact)
            await asyncio.to_thread(postgres.stop, mode)
            try:
                with structlog.testing.capture_logs() as log:
                    for fact in told[200:]:
                        outbox.put(fact)
                    await outbox.drained()
                    await sink.until_durable()
                    await asyncio.sleep(0.3)
                    assert sink.backlog >= len(told) - 200
                    assert 0.2 < sink.backlog_age < 20
            finally:
                await asyncio.to_thread(postgres.start)
            await drained(sink)
            delivering.cancel()
        assert await count(pool) == len(told)
        assert await lost(pool) == []
        waits = "journal can not write; facts wait in the spool"
        assert [entry["event"] for entry in log].count(waits) <= 1


async def test_a_restart_goes_on_where_postgresql_was(
    database: Database, postgres: PrivatePostgres, folder: Path
) -> None:
    """F12: ctid started, and restarted, while PostgreSQL is away."""
    async with Pool(database) as pool:
        async with running(journal(pool, folder)) as _:
            pass
        sink = journal(pool, folder)
        async with running(sink):
            await sink.write(calls(3))
            await drained(sink)
        await asyncio.to_thread(postgres.stop, "immediate")
        try:
            for number in range(3, 6):
                sink = journal(pool, folder)
                async with running(sink):
                    await sink.write(one_call(number))
                    assert sink.backlog == len(calls(number - 2))
        finally:
            await asyncio.to_thread(postgres.start)
        sink = journal(pool, folder)
        async with running(sink):
            await drained(sink)
        assert await count(pool) == len(calls(6))
        assert await lost(pool) == []


async def test_a_connection_lost_at_commit_leaves_each_fact_once(database: Database, folder: Path) -> None:
    """F13: cut at every packet from the server, the one that confirms COMMIT among them."""
    unseen_commits = 0
    async with Pool(database) as direct:
        for cut_after in range(8, 45):
            told, errors, seen = one_call(cut_after), [], 0
            mine = "select count(*) from fact where call = $1"
            async with Cut(database, cut_after) as cut, Pool(cut.database) as through:
                through.on_error = lambda errors=errors: errors.append(1)
                sink = journal(through, folder)
                async with running(sink):
                    await sink.write(told)
                    while sink.backlog:
                        if len(errors) > seen:  # and it takes a while until the next try
                            seen = len(errors)
                            unseen_commits += await direct.fetchval(mine, told[0].call) > 0
                        await asyncio.sleep(0.005)
            assert await direct.fetchval(mine, told[0].call) == sum(f.call == told[0].call for f in told)
            stays = "select count(*) from queue_visit where call = $1"
            assert await direct.fetchval(stays, told[0].call) == 1
        assert await lost(direct) == []
        assert await direct.fetchval("select count(*) from fact_unwritten") == 0, "not skipped by position"
    assert unseen_commits > 0, "no cut fell between COMMIT and its reply"


async def test_an_end_of_the_backend_at_commit_leaves_each_fact_once(pool: Pool, folder: Path) -> None:
    """F13: the backend dies in the COMMIT itself, three times; it was not stored then."""
    await pool.execute("create sequence deaths")
    await pool.execute("""
        create function die() returns trigger language plpgsql as $$ begin
            if nextval('deaths') <= 3 then perform pg_terminate_backend(pg_backend_pid()); end if;
            return null; end $$""")
    await pool.execute("""
        create constraint trigger dies after insert on fact deferrable initially deferred
        for each row execute function die()""")
    sink = journal(pool, folder)
    async with running(sink):
        await sink.write(calls(5))
        await drained(sink)
    assert await count(pool) == len(calls(5))
    assert await lost(pool) == []


async def test_one_unstorable_fact_does_not_hold_up_the_rest(pool: Pool, folder: Path) -> None:
    refused: list[tuple[str, Fact]] = []
    sink = journal(pool, folder, on_refused=lambda name, fact: refused.append((name, fact)))
    bad = Anomaly(at=BEGIN, kind=secrets.token_hex(10_000), what="the key does not fit \0 an index")
    told = one_call(1)
    with structlog.testing.capture_logs() as log:
        async with running(sink):
            await sink.write([*told[:7], bad, *told[7:]])
            await drained(sink)
    assert refused == [("journal", bad)]
    assert await count(pool) == len(told)
    assert [entry["log_level"] for entry in log] == ["error"]
    [row] = await pool.fetch("select number, why, body from fact_unwritten")
    assert (row["number"], row["why"]) == (8, "refused")
    assert bad.kind in row["body"]
    assert await lost(pool) == []


async def test_a_record_of_another_ctid_is_kept_and_told(pool: Pool, folder: Path) -> None:
    """F27: after a downgrade the spool may hold facts that this ctid does not know."""
    log = log_in(folder)
    log.open()
    log.append([b'["ast",null,1.5,{"fact":"FromTheFuture","at":1}]', b"\xff\0 no JSON"])
    log.close()
    sink = journal(pool, folder)
    async with running(sink):
        await sink.write(one_call(1))
        await drained(sink)
    rows = await pool.fetch("select number, body from fact_unwritten order by 1")
    assert [row["number"] for row in rows] == [1, 2]
    assert "FromTheFuture" in rows[0]["body"]
    assert await count(pool) == len(one_call(1))
    assert await lost(pool) == []


async def test_an_unmigrated_database_only_delays(empty_database: Database, folder: Path) -> None:
    async with Pool(empty_database) as pool:
        sink = journal(pool, folder)
        with structlog.testing.capture_logs() as log:
            async with running(sink):
                await sink.write(one_call(1))
                while not log:
                    await asyncio.sleep(0.01)
                assert sink.backlog == len(one_call(1))
        assert "ctid migrate" in log[0]["why"]


async def test_a_locked_table_delays_and_leaks_nothing(database: Database, folder: Path) -> None:
    """F14: writing to the spool goes on at once; afterwards no connection is left over."""
    quick = database.model_copy(update={"timeout": database.timeout / 5})
    blocker = await asyncpg.connect(database.address().get_secret_value())
    async with Pool(quick) as pool:
        sink = journal(pool, folder)
        async with running(sink):
            await sink.write(one_call(0))
            await drained(sink)
            async with blocker.transaction():
                await blocker.execute("lock table fact in access exclusive mode")
                until = time.monotonic() + 3
                number = 0
                while time.monotonic() < until:
                    began = time.monotonic()
                    number += 1
                    await sink.write(one_call(number))
                    assert time.monotonic() - began < 0.25
                    await asyncio.sleep(0.05)
                assert sink.backlog == len(calls(number))
            await drained(sink)
            assert await count(pool) == len(calls(number + 1))
            mine = await blocker.fetchval(
                "select count(*) from pg_stat_activity where datname = current_database()"
                " and pid <> pg_backend_pid()"
            )
            assert mine <= quick.pool
    await blocker.close()


async def test_a_read_only_postgresql_counts_as_away(database: Database, folder: Path) -> None:
    """F44: as after a failover, until somebody makes it writable."""
    owner = await asyncpg.connect(database.address().get_secret_value())
    name = await owner.fetchval("select current_database()")
    async with Pool(database) as pool:
        sink = journal(pool, folder)
        await owner.execute(f'alter database "{name}" set default_transaction_read_only = on')
        with structlog.testing.capture_logs() as log:
            async with running(sink):
                await sink.write(calls(3))
                while not log:
                    await asyncio.sleep(0.01)
                assert "read-only" in log[0]["why"]
                assert sink.backlog == len(calls(3))
                await owner.execute("set default_transaction_read_only = off")
                await owner.execute(f'alter database "{name}" set default_transaction_read_only = off')
                await drained(sink)
        assert await count(pool) == len(calls(3))
    await owner.close()


async def test_a_killed_backend_takes_all_down_and_nothing_along(
    database: Database, postgres: PrivatePostgres, folder: Path
) -> None:
    """F45: kill -9 of a backend makes PostgreSQL drop every session and recover."""
    async with Pool(database) as pool:
        sink = journal(pool, folder)
        async with running(sink):
            for number in range(60):
                await sink.write(one_call(number))
                if number % 20 == 10:
                    victim = await asyncpg.connect(database.address().get_secret_value())
                    os.kill(await victim.fetchval("select pg_backend_pid()"), signal.SIGKILL)
                    victim.terminate()
                await asyncio.sleep(0.01)
            await drained(sink)
        assert await count(pool) == len(calls(60))
        assert await lost(pool) == []


async def take_lead(pool: Pool, epoch: int) -> None:
    """As ``store.lease`` does: hold the row, then change it."""
    async with pool.transaction() as connection:
        await connection.execute("select from leader where name = 'main' for update")
        await connection.execute(
            "insert into leader (name, epoch, holder, host, pid) values ('main', $1, 'x', 'h', 1)"
            " on conflict (name) do update set epoch = excluded.epoch",
            epoch,
        )


async def test_writes_of_an_old_epoch_are_refused(pool: Pool, folder: Path) -> None:
    """F28: the lead is lost; nothing more is written, and what was not stays on our disk."""
    await take_lead(pool, 7)
    sink = journal(pool, folder, epoch=lambda: 7)
    async with running(sink) as task:
        await sink.write(calls(2))
        await drained(sink)
        await take_lead(pool, 8)
        await sink.write(calls(1, 2))
        with pytest.raises(StaleEpoch, match="epoch 7 of main is over"):
            await asyncio.wait_for(task, 10)
    assert await count(pool) == len(calls(2))
    assert await pool.fetchval("select array_agg(distinct epoch) from fact") == [7]
    assert await pool.fetchval("select applied from spool") == len(calls(2))
    later = journal(pool, folder, epoch=lambda: 8)
    async with running(later):
        await drained(later)
    assert await count(pool) == len(calls(3))
    assert await lost(pool) == []


async def test_without_any_leader_row_an_epoch_is_stale(pool: Pool, folder: Path) -> None:
    """F28: also when somebody emptied the table."""
    sink = journal(pool, folder, epoch=lambda: 1)
    async with running(sink) as task:
        await sink.write(calls(1))
        with pytest.raises(StaleEpoch):
            await asyncio.wait_for(task, 10)
    assert await count(pool) == 0


async def test_the_lead_can_not_change_inside_a_write(database: Database, folder: Path) -> None:
    """F28: who takes the lead waits for the write that is under way."""
    async with Pool(database) as pool:
        await take_lead(pool, 1)
        blocker = await asyncpg.connect(database.address().get_secret_value())
        sink = journal(pool, folder, epoch=lambda: 1)
        async with running(sink):
            async with blocker.transaction():
                await blocker.execute("lock table call in access exclusive mode")
                await sink.write(calls(1))
                while not await blocker.fetchval("select count(*) from pg_locks where not granted"):
                    await asyncio.sleep(0.01)
                taking = asyncio.create_task(take_lead(pool, 2))
                await asyncio.sleep(0.2)
                assert not taking.done()
            await taking
        await blocker.close()
        assert await count(pool) == len(calls(1))


async def test_facts_wait_until_we_know_our_epoch(pool: Pool, folder: Path) -> None:
    """F28: PostgreSQL was away when the lead was taken on this host."""
    epochs: list[int | None] = [None]
    sink = journal(pool, folder, epoch=lambda: epochs[0])
    async with running(sink):
        await sink.write(calls(1))
        await sink.until_durable()
        await asyncio.sleep(0.3)
        assert (await count(pool), sink.backlog) == (0, len(calls(1)))
        await take_lead(pool, 3)
        epochs[0] = 3
        await drained(sink)
    assert await pool.fetchval("select array_agg(distinct epoch) from fact") == [3]


async def test_a_spool_that_lost_its_end_uses_no_number_twice(pool: Pool, folder: Path) -> None:
    """F15: a state folder restored from a backup: what it numbers anew must not pass for settled."""
    sink = journal(pool, folder)
    async with running(sink):
        await sink.write(calls(1))
        await drained(sink)
    old = {file.name: file.read_bytes() for file in folder.iterdir()}
    async with running(journal(pool, folder)) as _:
        pass
    sink = journal(pool, folder)
    async with running(sink):
        await sink.write(calls(2, 1))
        await drained(sink)
    for file in folder.iterdir():
        file.unlink()
    for name, content in old.items():
        (folder / name).write_bytes(content)
    sink = journal(pool, folder)
    await sink.open()
    await sink.write(calls(1, 3))
    async with asyncio.TaskGroup() as group:
        task = group.create_task(sink.run())
        await sink.write(calls(1, 4))
        await drained(sink)
        task.cancel()
    await sink.close()
    assert await count(pool) == len(calls(5))


async def test_damaged_records_are_counted_and_passed_over(pool: Pool, folder: Path) -> None:
    """F15: the rest arrives; the numbers of the damaged ones are missing, for `ctid reconcile` to find."""
    sink = journal(pool, folder)
    await sink.open()
    await sink.write(calls(1))
    await sink.close()
    [file] = folder.iterdir()
    block = bytearray(file.read_bytes())
    block[block.find(b"CallRouted")] ^= 1
    block[-3] ^= 1
    file.write_bytes(block)
    sink = journal(pool, folder)
    async with running(sink):
        await drained(sink)
        assert sink.spool_corrupt == 2
    assert await count(pool) == len(calls(1)) - 2
    await sink.open()
    await sink.write(calls(1, 1))
    async with running(sink):
        await drained(sink)
    assert await lost(pool) == [2, len(calls(1))]


@pytest.fixture(name="small_disk")
def _small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB of its own."""
    with small_disk(tmp_path / "disk", kibibytes=256) as place:
        yield place


async def test_a_full_disk_of_our_own_is_survived(
    database: Database, postgres: PrivatePostgres, small_disk: Path
) -> None:
    """F17: with PostgreSQL away, too, facts wait in memory and commands are refused; it resumes by itself."""
    async with Pool(database) as pool:
        sink = journal(pool, small_disk / "spool")
        async with running(sink):
            outbox = Outbox(sink, batch=50, retry_seconds=(0.01, 0.05))
            delivering = asyncio.create_task(outbox.run())
            await asyncio.to_thread(postgres.stop, "immediate")
            try:
                for fact in calls(60):
                    outbox.put(fact)
                while not sink.is_spool_full:
                    await asyncio.sleep(0.01)
                with pytest.raises(LogUnavailable):
                    await sink.until_durable()
                assert outbox.pending > 0
                with pytest.raises(SinkUnavailable):
                    await sink.write(calls(60))
            finally:
                await asyncio.to_thread(postgres.start)
            async with asyncio.timeout(20):
                await outbox.drained()
            await drained(sink)
            assert not sink.is_spool_full
            delivering.cancel()
        assert await count(pool) == len(calls(60))
        assert await lost(pool) == []


async def test_a_full_disk_and_a_living_postgresql(pool: Pool, small_disk: Path) -> None:
    """F17: somebody else filled the disk; facts go straight to PostgreSQL until there is room."""
    sink = journal(pool, small_disk / "spool")
    async with running(sink):
        await sink.write(calls(1))
        await drained(sink)
        with pytest.raises(OSError, match="space"):
            (small_disk / "big").write_bytes(bytes(1 << 20))
        await sink.write(calls(5, 1))
        assert await count(pool) == len(calls(6))
        assert sink.is_spool_full
        (small_disk / "big").unlink()
        await sink.write(calls(1, 6))
        assert not sink.is_spool_full
        await drained(sink)
    assert await count(pool) == len(calls(7))
    assert await pool.fetchval("select count(*) from fact where spool is null") == len(calls(5))


async def test_a_disk_that_is_not_there_yet(pool: Pool, tmp_path: Path) -> None:
    """F17: the spool can not even be opened at the start; it is, once that is possible."""
    place = tmp_path / "not a folder"
    place.write_text("")
    sink = journal(pool, place)
    async with running(sink):
        assert sink.is_spool_full
        await sink.write(calls(1))
        assert await count(pool) == len(calls(1))
        place.unlink()
        async with asyncio.timeout(10):
            while sink.is_spool_full:
                await asyncio.sleep(0.05)
        await sink.write(calls(1, 1))
        await drained(sink)
    assert await pool.fetchval("select count(*) from fact where spool is not null") == len(calls(1))


async def fill(sink: JournalSink) -> None:
    for number in range(100):
        await sink.write(one_call(number))


async def test_the_cap_makes_facts_wait_and_drops_nothing(pool: Pool, folder: Path) -> None:
    """F15: bounded, with an alarm."""
    known: list[int | None] = [None]
    sink = journal(pool, folder, log=log_in(folder, cap_bytes=20_000), epoch=lambda: known[0])
    metrics = MetricsSink({"repair": QueueRule()}, teams={})
    metrics.watch_spool(sink)
    async with running(sink):
        with pytest.raises(SinkUnavailable, match="cap"):
            await fill(sink)
        page = metrics.render().decode()
        assert "\nctid_spool_full 1.0\n" in page
        assert f"\nctid_spool_facts {sink.backlog:.1f}\n" in page
        assert f"\nctid_spool_bytes {sink.spool_bytes:.1f}\n" in page
        known[0] = 0
        await drained(sink)
        await sink.write(one_call(100))
        await drained(sink)
    page = metrics.render().decode()
    assert "\nctid_spool_full 0.0\n" in page
    assert "\nctid_spool_corrupt_total 0.0\n" in page


async def test_a_disk_that_breaks_does_not_hold_facts_back(
    pool: Pool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F15 and F17: EIO for ever at fdatasync: what was put reaches PostgreSQL from memory."""
    sink = journal(pool, folder)
    async with running(sink):
        await sink.write(calls(1))
        await drained(sink)

        def broken(fd: int) -> None:
            raise OSError(5, "Input/output error")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fdatasync", broken)
            await sink.write(calls(2, 1))
            with pytest.raises(LogUnavailable):
                await sink.until_durable()
            await drained(sink)
            assert await count(pool) == len(calls(3))
            await sink.write(calls(1, 3))
            assert await count(pool) == len(calls(4))
        async with asyncio.timeout(10):
            while sink.is_spool_full:
                await asyncio.sleep(0.05)
        await sink.write(calls(1, 4))
        await sink.until_durable()
        await drained(sink)
    assert await count(pool) == len(calls(5))
    assert await lost(pool) == []


async def test_two_daemons_with_the_same_facts(database: Database, tmp_path: Path) -> None:
    """F28: without fencing (or right around a change of the lead) each fact is there once all the same."""
    told = calls(10)
    async with Pool(database) as one, Pool(database) as other:
        first, second = journal(one, tmp_path / "1"), journal(other, tmp_path / "2")
        async with running(first), running(second):
            await asyncio.gather(first.write(told), second.write(told[::-1]))
            await drained(first)
            await drained(second)
        assert await count(one) == len(told)
        assert await lost(one) == []
        assert await one.fetchval("select count(*) from fact_unwritten where why = 'again'") == len(told)


async def test_is_fast_enough(pool: Pool, folder: Path) -> None:
    """A tenth of the goal of 10,000/s, so that a loaded machine does not fail it."""
    told = calls(100)
    sink = journal(pool, folder)
    async with running(sink):
        began = time.perf_counter()
        for start in range(0, len(told), 500):
            await sink.write(told[start : start + 500])
        assert len(told) / (time.perf_counter() - began) > 10_000
        await drained(sink)
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
