"""One leader, however PostgreSQL, its sessions and the other daemons behave (F28)."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from ctid.acd.facts import Resynchronised
from ctid.errors import LeadLost, StaleEpoch
from ctid.settings import Database, Leader
from ctid.store.leader import Leadership, Watch
from ctid.store.lease import Identity, Standing, key_of, look
from ctid.store.pool import Pool
from lab.places import ROOT
from lab.postgres import PrivatePostgres
from tests.fakes_facts import store_facts

LEASE = timedelta(seconds=1)
NEVER = asyncio.Event


def leadership(database: Database, name: str = "a", *, machine: str = "", **more: Any) -> Leadership:
    """One that shares no machine with others, so that only its signs of life tell that it lives."""
    identity = Identity(holder=f"{name}.{machine or name}", host=f"host-{name}", pid=1)
    return Leadership(database, Leader(lease=LEASE), identity=identity, **more)


@asynccontextmanager
async def running(lead: Leadership) -> AsyncIterator[asyncio.Task[None]]:
    """Let it beat; the task's exception is the test's to look at."""
    task = asyncio.create_task(lead.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait({task})
        await lead.release()


async def until(holds: Callable[[], object], within: float = 5.0) -> None:
    async with asyncio.timeout(within):
        while not holds():
            await asyncio.sleep(0.01)


async def standing(database: Database) -> Standing:
    async with Pool(database) as pool:
        return await look(pool, "main")


async def store(database: Database, *, epoch: int) -> int:
    """Write a fact under an epoch; return how many were new."""
    fact = Resynchronised(call="", at=datetime.now(UTC), corrections=0)
    async with Pool(database) as pool:
        return await store_facts(pool, [fact], system="s", boot=None, key_of=str, epoch=epoch)


async def seconds(work: Any) -> float:
    began = time.monotonic()
    await work
    return time.monotonic() - began


@asynccontextmanager
async def administrator(database: Database) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    connection = await asyncpg.connect(database.address().get_secret_value())
    try:
        yield connection
    finally:
        await connection.close()


async def end_session(database: Database) -> None:
    async with administrator(database) as admin:
        assert await admin.fetchval(
            "select count(pg_terminate_backend(pid, 5000)) from pg_stat_activity"
            " where application_name like 'ctid leader%' and datname = current_database()"
        )


async def test_the_first_leads_and_the_second_stands_by(database: Database) -> None:
    """F28: start twice; the second says who leads, and takes over at once after a stop in good order."""
    first, second = leadership(database, "a"), leadership(database, "b")
    assert first.state == "standby: looking for who leads"
    assert await first.acquire(NEVER())
    assert (first.epoch, first.is_leader, first.state) == (1, True, "leading")
    async with running(first):
        waiting = asyncio.create_task(second.acquire(NEVER()))
        await until(lambda: "host-a" in second.state)
        assert second.state.startswith("standby: host-a pid 1 leads since ")
        assert not second.is_leader
        await asyncio.sleep(1.5 * LEASE.total_seconds())
        assert not waiting.done()
    took = await seconds(waiting)
    assert took < LEASE.total_seconds(), "the stop in good order should have spared the lease"
    assert second.epoch == 2
    assert not first.is_leader
    await second.release()
    assert (await standing(database)).holder == ""


async def test_other_names_are_other_leads(database: Database) -> None:
    one = Leadership(database, Leader(name="north", lease=LEASE))
    other = Leadership(database, Leader(name="south", lease=LEASE))
    assert await one.acquire(NEVER())
    assert await other.acquire(NEVER())
    assert key_of("north") != key_of("south")
    await one.release()
    await other.release()


async def test_told_to_stop_while_standing_by(database: Database) -> None:
    first, second = leadership(database, "a"), leadership(database, "b")
    assert await first.acquire(NEVER())
    async with running(first):
        stop = asyncio.Event()
        waiting = asyncio.create_task(second.acquire(stop))
        await until(lambda: "host-a" in second.state)
        stop.set()
        async with asyncio.timeout(0.3):
            assert await waiting is False
    assert (await standing(database)).epoch == 1


async def test_the_end_of_its_session_does_not_end_a_lead(database: Database) -> None:
    """F28: ``pg_terminate_backend`` on the lock holder, with a standby waiting: the leader stays it."""
    first, second = leadership(database, "a"), leadership(database, "b")
    assert await first.acquire(NEVER())
    async with running(first) as beating:
        waiting = asyncio.create_task(second.acquire(NEVER()))
        await until(lambda: "host-a" in second.state)
        for _ in range(3):
            before = (await standing(database)).locked_by
            await end_session(database)
            async with asyncio.timeout(1):
                while (await standing(database)).locked_by in (0, before):
                    await asyncio.sleep(0.01)
        await asyncio.sleep(1.5 * LEASE.total_seconds())
        assert not waiting.done()
        assert not beating.done()
        assert (await standing(database)).holder == first.identity.holder
        assert first.epoch == (await standing(database)).epoch == 1
        waiting.cancel()
    await second.release()


async def test_a_crashed_leader_is_missed_after_the_lease(database: Database) -> None:
    """F28: two hosts, the leader's dies: no sign of life for the lease, then the standby leads."""
    first, second = leadership(database, "a"), leadership(database, "b")
    assert await first.acquire(NEVER())
    await end_session(database)
    took = await seconds(second.acquire(NEVER()))
    assert 0.9 * LEASE.total_seconds() <= took <= 3 * LEASE.total_seconds()
    assert second.epoch == 2
    with pytest.raises(LeadLost, match="host-b"):
        await first.run()
    await first.release()
    assert (await standing(database)).holder == second.identity.holder
    await second.release()


async def test_a_dead_neighbour_is_not_waited_for(database: Database) -> None:
    """F28: one host, the leader was killed: its pid tells, no lease has to pass."""
    child = subprocess.Popen(["true"])
    child.wait()
    dead = Identity(holder="dead.here", host="here", pid=child.pid)
    first = Leadership(database, Leader(lease=timedelta(minutes=5)), identity=dead)
    assert await first.acquire(NEVER())
    await end_session(database)
    second = leadership(database, "b", machine="here")
    assert await seconds(second.acquire(NEVER())) < 0.5
    assert second.epoch == 2
    await first.release()
    await second.release()


async def test_a_predecessor_is_not_waited_for(database: Database) -> None:
    """F28: whoever had our state folder's lock before is gone, even if his session still stands."""
    first = leadership(database, "a")
    assert await first.acquire(NEVER())
    second = leadership(database, "b", predecessor=first.identity.holder)
    assert await seconds(second.acquire(NEVER())) < 1.5 * LEASE.total_seconds()
    assert second.epoch == 2
    await first.release()
    await second.release()


@asynccontextmanager
async def frozen_later(database: Database) -> AsyncIterator[subprocess.Popen[str]]:
    words = [sys.executable, str(Path(__file__).with_name("leading.py"))]
    words += [database.address().get_secret_value(), str(LEASE.total_seconds())]
    child = subprocess.Popen(
        words, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    try:
        yield child
    finally:
        child.send_signal(signal.SIGCONT)
        child.kill()
        child.communicate()


async def said(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    async with asyncio.timeout(10):
        return (await asyncio.to_thread(child.stdout.readline)).strip()


async def test_a_frozen_leader_loses_the_lead(database: Database) -> None:
    """F28: SIGSTOP keeps its session and its lock; the second takes both, SIGCONT finds the lead lost."""
    async with frozen_later(database) as first:
        assert await said(first) == "leading 1"
        second = leadership(database, "b")
        waiting = asyncio.create_task(second.acquire(NEVER()))
        await until(lambda: "leads since" in second.state)
        first.send_signal(signal.SIGSTOP)
        took = await seconds(waiting)
        print(f"took over from a frozen leader after {took:.1f} s, lease {LEASE.total_seconds():g} s")
        assert took <= 3 * LEASE.total_seconds()
        assert second.epoch == 2
        async with running(second) as beating:
            first.send_signal(signal.SIGCONT)
            began = time.monotonic()
            assert await said(first) == "lost 1"
            assert time.monotonic() - began <= 5
            assert await asyncio.to_thread(first.wait, 5) == 0
            assert not beating.done()
            assert await store(database, epoch=2) == 1
            with pytest.raises(StaleEpoch):
                await store(database, epoch=1)


async def test_a_leader_frozen_in_a_transaction_does_not_keep_the_row(database: Database) -> None:
    """F28: the journal of a frozen leader holds the row ``for share``; the take-over ends that session."""
    first, second = leadership(database, "a"), leadership(database, "b")
    assert await first.acquire(NEVER())
    async with administrator(database) as frozen:
        await frozen.execute("begin")
        assert await frozen.fetchval("select epoch from leader where name = 'main' for share") == 1
        took = await seconds(second.acquire(NEVER()))
        assert took <= 4 * LEASE.total_seconds()
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError)):
            await frozen.execute("commit")
    assert second.epoch == 2
    await first.release()
    await second.release()


async def test_a_write_in_flight_is_in_before_the_epoch_grows(database: Database) -> None:
    """F28: who holds the row, even ``for key share``, is waited for; who comes later sees the new epoch."""
    first, second = leadership(database, "a"), leadership(database, "b")
    assert await first.acquire(NEVER())
    await end_session(database)
    async with administrator(database) as early, administrator(database) as late:
        await early.execute("begin")
        await early.fetchval("select epoch from leader where name = 'main' for key share")
        waiting = asyncio.create_task(second.acquire(NEVER()))
        until_then = time.monotonic() + 2 * LEASE.total_seconds()
        while time.monotonic() < until_then:  # busy, not idle in its transaction
            await early.execute("select pg_sleep(0.05)")
            assert not waiting.done()
        await early.execute("commit")
        await waiting
        assert await late.fetchval("select epoch from leader where name = 'main' for key share") == 2
    await first.release()
    await second.release()


async def test_leads_without_postgresql_and_asks_for_no_epoch(
    database: Database, postgres: PrivatePostgres
) -> None:
    """F28: PostgreSQL away at the start: provisional within seconds, properly as soon as it is back."""
    lead = leadership(database)
    await asyncio.to_thread(postgres.stop)
    took = await seconds(lead.acquire(NEVER()))
    assert 1.5 <= took <= 3
    assert (lead.is_leader, lead.epoch, lead.state) == (True, None, "provisional")
    async with running(lead):
        await asyncio.to_thread(postgres.start)
        await until(lambda: lead.epoch == 1)
        assert lead.state == "leading"


async def test_an_unreachable_postgresql_costs_no_more_than_the_patience() -> None:
    nowhere = Database(dsn="postgresql://nobody@127.0.0.1:1/nothing", timeout="30s")
    lead = leadership(nowhere, patience=timedelta(seconds=0.3))
    assert await seconds(lead.acquire(NEVER())) < 1.5
    assert lead.epoch is None
    await lead.release()


async def test_a_standing_leader_goes_before_a_provisional_one(
    database: Database, postgres: PrivatePostgres
) -> None:
    """F28: the second started during an outage; when PostgreSQL is back, the first still leads."""
    first = leadership(database, "a")
    assert await first.acquire(NEVER())
    async with running(first) as beating:
        await asyncio.to_thread(postgres.stop)
        second = leadership(database, "b", patience=timedelta(seconds=0.3))
        assert await second.acquire(NEVER())
        assert second.epoch is None
        async with running(second) as provisional:
            await asyncio.to_thread(postgres.start)
            async with asyncio.timeout(5):
                with pytest.raises(LeadLost, match="host-a"):
                    await provisional
            assert second.epoch is None
        assert not beating.done()
        assert first.epoch == (await standing(database)).epoch == 1


async def test_two_provisional_leaders_become_one(database: Database, postgres: PrivatePostgres) -> None:
    """F28: both started during an outage; exactly one leads afterwards."""
    await asyncio.to_thread(postgres.stop)
    both = [leadership(database, name, patience=timedelta(seconds=0.2)) for name in "ab"]
    await asyncio.gather(*(lead.acquire(NEVER()) for lead in both))
    async with running(both[0]) as one, running(both[1]) as other:
        await asyncio.to_thread(postgres.start)
        done, pending = await asyncio.wait({one, other}, timeout=5, return_when=asyncio.FIRST_COMPLETED)
        assert len(done) == len(pending) == 1
        assert isinstance(next(iter(done)).exception(), LeadLost)
        assert [lead.epoch for lead in both if lead.epoch] == [1]


async def test_a_restart_of_postgresql_changes_nothing(database: Database, postgres: PrivatePostgres) -> None:
    """F28: PostgreSQL restarts twice with a standby waiting: the leader stays it, under the same epoch."""
    first, second = leadership(database, "a"), leadership(database, "b")
    assert await first.acquire(NEVER())
    async with running(first) as beating:
        waiting = asyncio.create_task(second.acquire(NEVER()))
        await until(lambda: "host-a" in second.state)
        for mode in ("fast", "immediate"):
            await asyncio.to_thread(postgres.stop, mode)
            await asyncio.sleep(2.5 * LEASE.total_seconds())  # longer than the lease
            assert first.is_leader
            assert not second.is_leader, "who saw a leader never leads without PostgreSQL"
            await asyncio.to_thread(postgres.start)
            await asyncio.sleep(2.5 * LEASE.total_seconds())
            assert not waiting.done()
            assert not beating.done()
        assert first.epoch == (await standing(database)).epoch == 1
        waiting.cancel()
    await second.release()


async def test_an_emptied_table_is_led_under_a_higher_epoch(database: Database) -> None:
    """F28: epochs grow, even over a restored backup."""
    lead = leadership(database)
    assert await lead.acquire(NEVER())
    async with administrator(database) as admin:
        await admin.execute("update leader set epoch = 7")
        async with running(lead) as beating:
            with pytest.raises(LeadLost):
                await beating
        lead = leadership(database, "b")
        assert await lead.acquire(NEVER())
        assert lead.epoch == 8
        async with running(lead):
            await admin.execute("delete from leader")
            await until(lambda: lead.epoch == 9)


async def test_a_release_does_not_wait_for_a_database_that_is_away(
    database: Database, postgres: PrivatePostgres
) -> None:
    """F27: the stop is quick, whatever is away."""
    lead = leadership(database)
    assert await lead.acquire(NEVER())
    async with administrator(database) as blocker:
        await blocker.execute("begin")
        await blocker.execute("lock table leader in access exclusive mode")
        assert await seconds(lead.release()) < 1.5
    assert await lead.acquire(NEVER())
    await asyncio.to_thread(postgres.stop, "immediate")
    assert await seconds(lead.release()) < 1.5


class TestWatch:
    """What silence means; seconds of a steady clock."""

    ALIVE = Standing(epoch=1, holder="a", pid=1)

    def looked(self, watch: Watch, begin: float, end: float) -> bool:
        """Look four times a second at one who gives no sign."""
        at = begin
        while at <= end:
            watch.saw(self.ALIVE, at)
            at += 0.25
        return watch.is_silent

    def test_silence_is_a_whole_lease(self) -> None:
        assert not self.looked(Watch(2), 0, 1.75)
        assert self.looked(Watch(2), 0, 2)

    def test_after_an_outage_twice_as_long(self) -> None:
        watch = Watch(2)
        assert not self.looked(watch, 0, 1.5)
        watch.missed()
        assert not self.looked(watch, 10, 13.75)
        assert self.looked(watch, 14, 14)

    def test_a_pause_of_our_own_is_no_silence_of_his(self) -> None:
        watch = Watch(2)
        assert not self.looked(watch, 0, 1)
        assert not self.looked(watch, 60, 61.75)
        assert self.looked(watch, 62, 62)
