"""Whoever only knocks, or says odd things, leaves every listener answering."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from lab.floor import LINES
from lab.phone import Plan
from lab.stage import Stage

KNOCKS = 1000


async def knock(port: int, count: int) -> None:
    """Open a TCP connection and close it, many times, a few at once."""
    few = asyncio.Semaphore(20)

    async def one(abrupt: bool) -> None:
        async with few:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            if abrupt:
                writer.transport.abort()
            else:
                writer.close()
                await writer.wait_closed()

    await asyncio.gather(*(one(i % 2 == 0) for i in range(count)))


@pytest.mark.timeout(60, func_only=True)
@pytest.mark.parametrize("listener", ["fastagi_port", "web_port", "metrics_port"])
async def test_a_thousand_connections_that_say_nothing(centre: Stage, listener: str) -> None:
    await knock(getattr(centre.daemon, listener), KNOCKS)
    await assert_everything_answers(centre)


async def assert_everything_answers(stage: Stage) -> None:
    """The page is alive, metrics come, and the dialplan gets ctid's own decision."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(3)) as session:
        for path in ("/healthz", "/readyz"):
            async with session.get(stage.daemon.url + path) as response:
                assert response.status == 200, path
    routed = await stage.daemon.metric("ctid_agi_requests_total")
    stage.agent("1002").plan = Plan(answer_after=0.2)
    caller = await stage.caller()
    call = await caller.dial(LINES["repair"].did)
    taken = await (await stage.offered(caller)).answered()
    await call.hang_up()
    await taken.ended(5)
    await stage.save_note(taken)
    assert await stage.daemon.metric("ctid_agi_requests_total") == routed + 1
