"""A daemon that runs out of file descriptors goes on with calls (F42)."""

from __future__ import annotations

import asyncio
import contextlib
import resource
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from lab.floor import LINES
from lab.phone import Plan
from lab.postgres import PrivatePostgres
from lab.stage import Stage

pytestmark = pytest.mark.timeout(120, func_only=True)

AGENT = "1011"
FLOOR = {"overflow": replace(LINES["overflow"], agents=(AGENT,), wrap_up=0)}
FEW = 64


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stage(tmp_path_factory: pytest.TempPathFactory, postgres: PrivatePostgres) -> AsyncIterator[Stage]:
    folder: Path = tmp_path_factory.mktemp("few")
    async with Stage(folder, lines=FLOOR, agents=(AGENT,), postgres=postgres) as stage:
        stage.agent(AGENT).plan = Plan(answer_after=0.2)
        yield stage


async def knocked(port: int) -> tuple[asyncio.StreamWriter, bool]:
    """Open a connection and ask for a page; return it and whether there was an answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    try:
        return writer, b"200" in await asyncio.wait_for(reader.read(64), 5)
    except (ConnectionError, TimeoutError):
        return writer, False


async def talk(stage: Stage) -> str:
    """Let one caller in, be answered and hang up; return his number."""
    caller = await stage.caller()
    call = await caller.dial(LINES["overflow"].did)
    taken = await (await stage.offered(caller)).answered()
    await asyncio.sleep(0.3)
    await call.hang_up()
    await taken.ended(5)
    return caller.user


async def test_f42_with_64_descriptors_web_clients_are_refused_first(stage: Stage) -> None:
    """F42: ``prlimit --nofile=64``: pages are refused, while calls are routed, popped and written down."""
    decided = await stage.daemon.metric("ctid_agi_requests_total", result="decided")
    resource.prlimit(stage.daemon.pid, resource.RLIMIT_NOFILE, (FEW, FEW))
    knocks = [await knocked(stage.daemon.web_port) for _ in range(100)]
    answered = sum(is_answered for _, is_answered in knocks)
    assert 1 <= answered < 64, "some get in, then no more"
    in_use = len(list(Path(f"/proc/{stage.daemon.pid}/fd").iterdir()))
    assert in_use < FEW - 20, f"{in_use} of {FEW} are taken, most of them by pages"

    callers = list(await asyncio.gather(*(talk(stage) for _ in range(2))))
    await stage.screens[AGENT].pop("pop.offered", callers[0])
    async with asyncio.timeout(20):
        while await stage.pool.fetchval(
            "select count(*) from queue_visit where outcome = 'answered' and caller_number = any($1)", callers
        ) != len(callers):
            await asyncio.sleep(0.1)
    for writer, _ in knocks:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
    await stage.daemon.until_ready()
    assert await stage.daemon.metric("ctid_agi_requests_total", result="decided") == decided + 2
    assert await stage.daemon.metric("ctid_ami_disconnects_total") == 0
    assert "Too many open files" not in stage.daemon.log.read_text()
