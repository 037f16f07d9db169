"""One playable file per call, also when ctid is killed in the middle of it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from lab.dialog import PhoneCall
from lab.floor import CALLER_TONE, LINES, tone_of
from lab.phone import Plan
from lab.stage import Stage
from lab.tones import channels_of, loudest

pytestmark = pytest.mark.timeout(90, func_only=True)

AGENT = "1002"
TONES = (CALLER_TONE, tone_of(AGENT))


async def talk(stage: Stage) -> tuple[PhoneCall, PhoneCall]:
    """Begin a call to the repair line that is being talked on."""
    stage.agent(AGENT).plan = Plan(answer_after=0.3)
    caller = await stage.caller()
    call = await caller.dial(LINES["repair"].did)
    return call, await (await stage.offered(caller)).answered()


async def filed(stage: Stage, caller: str, *, within: float = 20.0) -> Path:
    """Return the file of the caller's recording once the archive is done with it."""
    async with asyncio.timeout(within):
        while True:
            row = await stage.pool.fetchrow(
                "select r.* from recording r join call c using (recording) "
                "where c.caller_number = $1 and r.filed_at is not null",
                caller,
            )
            if row:
                assert row["result"] in {"complete", "repaired"}, dict(row)
                return stage.exchange.recordings / row["path"]
            await asyncio.sleep(0.1)


def assert_apart(file: Path, *, seconds: float) -> None:
    """The caller hums on the left, the agent on the right, from beginning to end."""
    channels, rate = channels_of(file)
    assert len(channels) == 2
    assert len(channels[0]) / rate == pytest.approx(seconds, abs=0.4)
    for at in (0.3, seconds / 2, -0.8):
        assert loudest(file, TONES, at=at, seconds=0.3) == list(TONES), f"at {at} s"


async def test_caller_left_agent_right_through_a_hold(centre: Stage) -> None:
    call, taken = await talk(centre)
    await asyncio.sleep(3)
    await call.hang_up()
    await taken.ended(5)
    await centre.save_note(taken)
    assert_apart(await filed(centre, call.phone.user), seconds=3)


async def test_ctid_killed_in_mid_call(fragile: Stage) -> None:
    """Killed, the call goes on and ends, ctid comes back: the file is joined all the same."""
    call, taken = await talk(fragile)
    await asyncio.sleep(1)
    await fragile.daemon.kill()
    await asyncio.sleep(1)
    await call.hang_up()
    await taken.ended(5)
    await fragile.daemon.start()
    assert_apart(await filed(fragile, call.phone.user), seconds=2)


async def test_ctid_back_before_the_call_ends(fragile: Stage) -> None:
    await fragile.open_screens()
    fragile.exchange.cli(f"queue unpause member PJSIP/{AGENT}")  # a pause that ctid set and could not end
    call, taken = await talk(fragile)
    await asyncio.sleep(1)
    await fragile.daemon.kill()
    await fragile.daemon.start()
    await asyncio.sleep(1)
    await call.hang_up()
    await taken.ended(5)
    assert taken.clock.answered is not None
    assert taken.clock.ended is not None
    seconds = taken.clock.ended.since(taken.clock.answered)
    assert_apart(await filed(fragile, call.phone.user), seconds=seconds)
