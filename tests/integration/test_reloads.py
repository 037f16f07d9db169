"""Asterisk reads its files again with calls on the floor: ctid sees what Asterisk sees."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections import defaultdict
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from lab.dialog import PhoneCall
from lab.floor import LINES
from lab.phone import IGNORE, Plan
from lab.stage import Stage
from tests.integration.aftermath import settling

pytestmark = pytest.mark.timeout(60, func_only=True)

WITHIN = 5.0
"""Seconds until ctid's view must equal ``QueueStatus`` (F10)."""

Queues = dict[str, tuple[frozenset[tuple[str, bool]], int]]
"""Queue -> (its agents and whether each is paused there, how many wait)."""


@pytest_asyncio.fixture(loop_scope="session", autouse=True)
async def settled(rough: Stage) -> AsyncIterator[None]:
    for phone in rough.phones.values():
        phone.plan, phone.mangle = Plan(answer_after=0.1), lambda packet: packet
    async with settling(rough, within=15):
        yield


async def by_asterisk(stage: Stage) -> Queues:
    """Ask Asterisk itself, over a connection of our own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", stage.exchange.ami_port)
    action = secrets.token_hex(8)
    secret = stage.exchange.ctid_secret_file.read_text().strip()
    writer.write(
        f"Action: Login\r\nUsername: ctid\r\nSecret: {secret}\r\nEvents: off\r\n\r\n"
        f"Action: QueueStatus\r\nActionID: {action}\r\n\r\n".encode()
    )
    text = await reader.readuntil(f"Event: QueueStatusComplete\r\nActionID: {action}\r\n".encode())
    writer.close()
    members: defaultdict[str, set[tuple[str, bool]]] = defaultdict(set)
    waiting: defaultdict[str, int] = defaultdict(int)
    for block in text.decode().split("\r\n\r\n"):
        said = dict(re.findall(r"^(\w+): (.*?)\r?$", block, re.MULTILINE))
        if said.get("Event") == "QueueMember":
            number = said["Location"].removeprefix("PJSIP/")
            members[said["Queue"]].add((number, said["Paused"] == "1"))
        elif said.get("Event") == "QueueEntry":
            waiting[said["Queue"]] += 1
    names = members.keys() | waiting.keys()
    return {
        name: (frozenset(members[name]), waiting[name]) for name in names if not name.startswith("agent-")
    }


async def by_ctid(stage: Stage) -> Queues:
    """Ask ctid's API."""
    _, floor = await next(iter(stage.screens.values())).ask("GET", "/api/v1/floor")
    members: defaultdict[str, set[tuple[str, bool]]] = defaultdict(set)
    for agent in floor["agents"]:
        for queue in agent.get("queues", ()):
            members[queue].add((agent["agent"], agent["state"] == "paused"))
    waiting = {queue["queue"]: queue["waiting"] for queue in floor["queues"]}
    names = members.keys() | {name for name, count in waiting.items() if count}
    return {name: (frozenset(members[name]), waiting.get(name, 0)) for name in names}


async def assert_equal(stage: Stage) -> None:
    """Wait until both say the same, for at most ``WITHIN`` seconds."""
    give_up = time.monotonic() + WITHIN
    while (ours := await by_ctid(stage)) != (theirs := await by_asterisk(stage)):
        assert time.monotonic() < give_up, {
            name: (ours.get(name), theirs.get(name))
            for name in ours.keys() | theirs.keys()
            if ours.get(name) != theirs.get(name)
        }
        await asyncio.sleep(0.1)


async def busy(stage: Stage) -> list[PhoneCall]:
    """Let one caller talk, one ring, one wait, and two agents be paused or logged in by telephone."""
    stage.agent("1009").plan, stage.agent("1010").plan = Plan(answer_after=0.1), IGNORE
    callers = [await stage.caller() for _ in range(3)]
    calls = [
        await caller.dial(LINES[queue].did)
        for caller, queue in zip(callers, ("moving", "contracts", "survey"), strict=True)
    ]
    await (await stage.offered(callers[0])).answered()
    await (await stage.offered(callers[1])).rung()
    await calls[2].answered()
    await (await stage.agent("1014").dial("*131")).ended(10)
    cli = stage.exchange.cli
    await asyncio.to_thread(cli, "queue add member PJSIP/1020 to repair")
    await assert_equal(stage)
    return calls


@pytest.mark.parametrize("command", ["core reload", "queue reload all", "module reload app_queue"])
async def test_reload_during_calls(rough: Stage, command: str) -> None:
    """F10: members, pauses and waiting callers equal ``QueueStatus`` within 5 s; calls go on."""
    calls = await busy(rough)
    await asyncio.to_thread(rough.exchange.cli, command)
    await assert_equal(rough)
    assert all(call.clock.ended is None for call in calls)
    await asyncio.sleep(1)  # what a reload does, it may do a moment later
    await assert_equal(rough)
    await end(rough, calls)


async def test_members_that_come_and_go_without_us(rough: Stage) -> None:
    """F10, F29: somebody else's changes, one of them to an agent who talks."""
    calls = await busy(rough)
    cli = rough.exchange.cli
    for command in (
        "queue remove member PJSIP/1009 from moving",
        "queue pause member PJSIP/1012 reason lunch",
        "queue set penalty 3 on PJSIP/1007 in billing",
        "queue add member PJSIP/1015 to billing",
    ):
        await asyncio.to_thread(cli, command)
    await assert_equal(rough)
    _, floor = await rough.screens["1009"].ask("GET", "/api/v1/floor")
    assert [it["state"] for it in floor["agents"] if it["agent"] == "1009"] == ["talking"]
    for command in (
        "queue add member PJSIP/1009 to moving as 1009 state_interface PJSIP/1009",
        "queue unpause member PJSIP/1012",
        "queue set penalty 0 on PJSIP/1007 in billing",
        "queue remove member PJSIP/1015 from billing",
    ):
        await asyncio.to_thread(cli, command)
    await assert_equal(rough)
    await end(rough, calls)


async def end(stage: Stage, calls: list[PhoneCall]) -> None:
    """Undo what ``busy`` did."""
    for call in calls:
        await call.hang_up()
    await (await stage.agent("1014").dial("*14")).ended(10)
    await asyncio.to_thread(stage.exchange.cli, "queue remove member PJSIP/1020 from repair")
    await assert_equal(stage)
