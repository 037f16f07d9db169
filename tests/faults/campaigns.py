"""One fault again and again under load, and an audit after every few of them.

async with Rig(folder, seed=7) as rig:
    async for result in run(CAMPAIGNS["ctid-kill"], rig, count=100):
        print(result)
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from lab.proxy_judges import FrameFault, event_named
from tests.faults import drivers
from tests.faults.rig import Rig

CALLING_SECONDS = 10.0
"""A crowd calls for so long; then, if the faults are not over, the next one does."""

LOSSES = ("Hangup", "AgentConnect", "QueueCallerJoin", "BridgeEnter", "QueueCallerAbandon", "Newchannel")
"""Events whose loss hurts."""


@dataclass(frozen=True, slots=True)
class Campaign:
    """One kind of fault.

    Attributes:
        strike: Do it once; returns how often it was done (0: it did not come to it).
        full, quick: How often in a full run, and in a run of the tests.
        group: So many between two audits.
        pause: Seconds between two, least and most.
        rate: Calls per second meanwhile.
        settle: Seconds within which ctid must have everything right after the last call.
    """

    name: str
    strike: Callable[[Rig], Awaitable[int]]
    full: int
    quick: int
    group: int = 10
    pause: tuple[float, float] = (0.05, 3.0)
    rate: float = 3.0
    settle: float = 30.0


@dataclass(frozen=True, slots=True)
class Result:
    """What a group of faults led to.

    Attributes:
        faults, calls: In this group.
        total: Faults of the whole campaign so far.
        differences: New ones, in words.
    """

    campaign: str
    faults: int
    total: int
    calls: int
    seconds: float
    differences: list[str]

    def of(self, ledger: str) -> int:
        """How many differences are in ``L1``, ``L2`` or ``L3``."""
        return sum(text.startswith(ledger) for text in self.differences)


async def run(
    campaign: Campaign, rig: Rig, *, count: int, until: float = float("inf")
) -> AsyncIterator[Result]:
    """Do it ``count`` times, or until an instant of the monotonic clock; a result per group.

    Raises:
        RuntimeError: It can not be done: nothing happens, however long one waits.
    """
    total, known = 0, set[str]()
    while total < count and time.monotonic() < until:
        began, calls = time.monotonic(), rig.calls_made
        done = await _group(campaign, rig, min(campaign.group, count - total))
        total += done
        await rig.quiet()
        found = await rig.audited(within=campaign.settle)
        new = [text for text in found if text not in known]
        known |= set(found)
        calls = rig.calls_made - calls
        yield Result(campaign.name, done, total, calls, time.monotonic() - began, new)


async def _group(campaign: Campaign, rig: Rig, count: int) -> int:
    done = vain = 0
    rig.call(rate=campaign.rate, seconds=CALLING_SECONDS)
    while done < count:
        if not rig.are_calling:
            rig.call(rate=campaign.rate, seconds=CALLING_SECONDS)
        await asyncio.sleep(rig.chance.uniform(*campaign.pause))
        struck = await campaign.strike(rig)
        done += struck
        vain = 0 if struck else vain + 1
        if vain > 20:
            raise RuntimeError(f"{campaign.name}: nothing to strike at")
    return done


# -- the faults -----------------------------------------------------------------


async def _kill_daemon(rig: Rig) -> int:
    await drivers.kill_daemon(rig)
    return 1


async def _lose_host(rig: Rig) -> int:
    """Kill ctid and lose its disk: another host takes over, which knows PostgreSQL and the books only."""
    await rig.daemon.kill()
    shutil.rmtree(rig.daemon.folder / "state")
    (rig.daemon.folder / "state").mkdir()
    await rig.daemon.start()
    return 1


async def _stop_daemon(rig: Rig) -> int:
    code = await drivers.stop_daemon(rig)
    if code:
        raise RuntimeError(f"ctid ended with code {code} after SIGTERM: {rig.daemon.log_tail()}")
    return 1


async def _freeze_daemon(rig: Rig) -> int:
    async with drivers.frozen(rig.daemon.pid):
        await asyncio.sleep(rig.chance.uniform(0.5, 6.0))
    return 1


async def _stop_postgres(rig: Rig) -> int:
    mode = rig.chance.choice(("immediate", "immediate", "kill"))
    await drivers.stop_postgres(rig, seconds=rig.chance.uniform(0.0, 2.0), mode=mode)
    return 1


async def _outage(rig: Rig) -> int:
    await drivers.stop_postgres(rig, seconds=15.0)
    return 1


async def _cut_commit(rig: Rig) -> int:
    """Cut one connection at its next COMMIT, mostly after PostgreSQL did it."""
    fault = rig.commit_fault
    done = fault.done
    fault.when = rig.chance.choice(("after", "after", "after", "before"))
    fault.left = 1
    give_up = time.monotonic() + 5
    while fault.done == done and time.monotonic() < give_up:
        await asyncio.sleep(0.01)
    fault.left = 0
    return fault.done - done


async def _cut_ami(rig: Rig) -> int:
    before = rig.ami.cuts
    drivers.cut_ami(rig)
    give_up = time.monotonic() + 3
    while rig.ami.cuts == before and time.monotonic() < give_up:
        await asyncio.sleep(0.01)
    rig.frame_faults.clear()
    return int(rig.ami.cuts > before)


async def _lose_frame(rig: Rig) -> int:
    fault = FrameFault("drop", event_named(rig.chance.choice(LOSSES)))
    rig.frame_faults[:] = [fault]
    give_up = time.monotonic() + 5
    while not fault.done and time.monotonic() < give_up:
        await asyncio.sleep(0.01)
    rig.frame_faults.clear()
    return fault.done


async def _kill_asterisk(rig: Rig) -> int:
    await drivers.kill_asterisk(rig, down=rig.chance.uniform(0.1, 1.0))
    return 1


_ALL = (
    Campaign("ctid-kill", _kill_daemon, full=100, quick=5),
    Campaign("host-loss", _lose_host, full=30, quick=3),
    Campaign("ctid-stop", _stop_daemon, full=50, quick=3),
    Campaign("ctid-freeze", _freeze_daemon, full=30, quick=2, group=5),
    Campaign("pg-stop", _stop_postgres, full=100, quick=5, pause=(0.2, 2.0)),
    Campaign("pg-outage", _outage, full=4, quick=1, group=1, rate=5.0),
    Campaign("commit-cut", _cut_commit, full=500, quick=20, group=50, pause=(0.0, 0.2), rate=4.0),
    Campaign("ami-reset", _cut_ami, full=300, quick=10, group=20, pause=(0.1, 1.5)),
    Campaign("frame-loss", _lose_frame, full=100, quick=5, pause=(0.0, 1.0)),
    Campaign("asterisk-kill", _kill_asterisk, full=30, quick=2, group=3, pause=(1.0, 6.0), settle=60.0),
)

CAMPAIGNS = {campaign.name: campaign for campaign in _ALL}
"""By name, in the order in which they are run."""
