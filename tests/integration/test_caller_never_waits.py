"""ctid dead, frozen, or without its database: every caller still reaches an agent, and soon."""

from __future__ import annotations

import asyncio
import signal
import statistics
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace

import pytest
import pytest_asyncio

from lab.daemon import DaemonFailed
from lab.dialog import PhoneCall
from lab.floor import LINES
from lab.phone import Plan
from lab.stage import Stage

pytestmark = pytest.mark.timeout(120, func_only=True)

DEAD = 0.1
"""Seconds that a caller may lose when ctid is dead."""
FROZEN = 5.0
"""And when it is frozen: the guard in the dialplan waits 3 s."""

CREW = ("1011", "1016", "1017", "1018", "1019", "1020")
FLOOR = {**LINES, "overflow": replace(LINES["overflow"], agents=CREW, wrap_up=0)}
"""The queue of the fallback with six agents who need no time for notes."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with Stage(tmp_path_factory.mktemp("waits"), lines=FLOOR) as stage:
        for number in CREW:
            stage.agent(number).plan = Plan(answer_after=0.2)
        yield stage


@pytest_asyncio.fixture(autouse=True, loop_scope="session")
async def healed(stage: Stage) -> AsyncIterator[None]:
    """Whatever a test did, the next one begins with a daemon that runs."""
    yield
    try:
        stage.daemon.signal(signal.SIGCONT)
        await stage.daemon.until_ready()
    except DaemonFailed:
        await stage.daemon.kill()
        await stage.daemon.start()


async def reach(stage: Stage, *, after: float = 0.0) -> tuple[PhoneCall, PhoneCall, float]:
    """Dial the overflow line after a while; return the call, the agent's side, and seconds to his INVITE."""
    await asyncio.sleep(after)
    caller = await stage.caller()
    call = await caller.dial(LINES["overflow"].did)
    taken = await (await stage.offered(caller, within=15)).answered()
    assert taken.clock.invited is not None
    assert call.clock.invited is not None
    return call, taken, taken.clock.invited.since(call.clock.invited)


async def serve(stage: Stage, count: int, *, every: float) -> list[float]:
    """Let callers in one after the other; each reaches an agent, talks a little, hangs up."""

    async def one(after: float) -> float:
        call, taken, seconds = await reach(stage, after=after)
        await asyncio.sleep(0.3)
        assert taken.rtp.received > 5, "the agent does not hear the caller"
        await call.hang_up()
        await taken.ended(5)
        return seconds

    return list(await asyncio.gather(*(one(i * every) for i in range(count))))


@dataclass(frozen=True)
class Usual:
    """Seconds from dialling to the agent's INVITE with everything well, in this very run."""

    seconds: Sequence[float]

    def extra(self, seconds: Sequence[float]) -> float:
        """Return how much longer others took, comparing the typical and the slowest with their like.

        The slowest with the slowest: a busy machine makes some calls slow either way.
        """
        return max(
            statistics.median(seconds) - statistics.median(self.seconds), max(seconds) - max(self.seconds)
        )


@pytest_asyncio.fixture(loop_scope="session")
async def usual(stage: Stage) -> Usual:
    """What callers get when all is well."""
    return Usual(await serve(stage, 12, every=0.25))


async def test_killed(stage: Stage, usual: Usual) -> None:
    """F34: ``kill -9`` in the middle of arriving calls."""
    arriving = asyncio.create_task(serve(stage, 16, every=0.25))
    await asyncio.sleep(1.6)
    await stage.daemon.kill()
    seconds = await arriving
    assert len(seconds) == 16
    assert usual.extra(seconds) <= DEAD, f"{usual}, now {seconds}"
    await stage.daemon.start()


async def test_killed_while_it_decides(stage: Stage, usual: Usual) -> None:
    """F35: frozen with questions of the dialplan open, then killed: those callers go on at once."""
    stage.daemon.signal(signal.SIGSTOP)
    arriving = asyncio.create_task(serve(stage, 4, every=0.05))
    await asyncio.sleep(0.6)
    await stage.daemon.kill()
    seconds = await arriving
    assert usual.extra(seconds) <= 0.6 + DEAD, f"{usual}, now {seconds}"
    await stage.daemon.start()


async def test_frozen(stage: Stage, usual: Usual) -> None:
    """F26: SIGSTOP in the middle of arriving calls; afterwards it goes on as if nothing had been."""
    arriving = asyncio.create_task(serve(stage, 10, every=0.3))
    await asyncio.sleep(1.2)
    stage.daemon.signal(signal.SIGSTOP)
    seconds = await arriving
    assert max(seconds) > 2.5, "ctid was not frozen at all"
    assert usual.extra(seconds) <= FROZEN, f"{usual}, now {seconds}"
    stage.daemon.signal(signal.SIGCONT)
    await stage.daemon.until_ready()
    assert usual.extra(await serve(stage, 5, every=0.3)) <= DEAD


async def test_restarted_daemon_knows_the_calls_that_went_on(stage: Stage) -> None:
    """A caller who talks through ``kill -9`` and restart is found, and his end is written down."""
    call, taken, _ = await reach(stage)
    await stage.daemon.kill()
    await asyncio.sleep(1)
    assert taken.clock.ended is None
    await stage.daemon.start()
    await asyncio.sleep(1)
    await call.hang_up()
    await taken.ended(5)
    async with asyncio.timeout(10):
        while not await stage.pool.fetchval(
            "select ended_at is not null from call where caller_number = $1", call.phone.user
        ):
            await asyncio.sleep(0.1)


async def test_database_away(stage: Stage, usual: Usual) -> None:
    """PostgreSQL stops: calls are routed, popped and later written down, as if it had been there."""
    await stage.open_screens()  # earlier ones died with earlier daemons
    routed = await stage.daemon.metric("ctid_agi_requests_total")
    await asyncio.to_thread(stage.postgres.stop, "immediate")
    callers = []

    async def one(after: float) -> float:
        call, taken, seconds = await reach(stage, after=after)
        callers.append(call.phone.user)
        await stage.screens[taken.phone.user].pop("pop.offered", call.phone.user)
        await call.hang_up()
        return seconds

    seconds = await asyncio.gather(*(one(i * 0.3) for i in range(5)))
    await asyncio.to_thread(stage.postgres.start)
    assert usual.extra(seconds) <= 0.3, f"{usual}, now {seconds}"
    assert await stage.daemon.metric("ctid_agi_requests_total") - routed == 5, (
        "the fallback decided, not ctid"
    )
    async with asyncio.timeout(20):
        while True:
            done = await stage.pool.fetchval(
                "select count(*) from queue_visit where outcome = 'answered' and caller_number = any($1)",
                callers,
            )
            if done == 5:
                return
            await asyncio.sleep(0.2)
