"""F38: the wall clock of ctid's machine steps an hour and a day, forth and back, under calls."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncpg
import pytest

from tests.faults.drivers import FakeClock
from tests.faults.rig import Rig

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

HOUR = 3_600.0
STEPS = (HOUR, 0.0, -HOUR, 24 * HOUR, 0.0)
"""Seconds that the clock is wrong; the last time right again, as NTP would make it."""

NEGATIVE = """
select count(*) from (
    select lasted from call union all select waited from queue_visit union all select rang from offer
    union all select talked from talk union all select held from talk
    union all select handled from handled_call union all select wrapped from handled_call
    union all select lasted from agent_state
) as told (duration) where duration < interval '0'"""


async def test_the_clock_steps(tmp_path: Path) -> None:
    """F38: calls are dated by Asterisk, timers run by the steady clock; nothing is lost, nothing negative."""
    clock = FakeClock(tmp_path)
    async with Rig(tmp_path / "rig", seed=38, environment=clock.environment) as rig:
        for step in STEPS:
            rig.call(rate=4, seconds=4)
            await asyncio.sleep(2)
            clock.step(step)
        await rig.quiet()
        await rig.daemon.until_ready()
        assert await rig.audited(within=60) == []
        rig.assert_lively()
        connection = await asyncpg.connect(rig.dsn)
        assert await connection.fetchval(NEGATIVE) == 0
        await connection.close()
        assert len(rig.books().callers) == 16 * len(STEPS)
