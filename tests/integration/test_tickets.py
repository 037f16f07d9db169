"""A note of a real call: filled in from it, ends its wrap-up, stands in the pop of the next call."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from lab.floor import LINES
from lab.phone import Phone, Plan
from lab.stage import Stage

pytestmark = pytest.mark.timeout(60, func_only=True)

TICKETS = "/api/v1/tickets"
FORM = {"subject": "停水", "content": "早上起没有水", "address": "南京路 1 号"}
SAVED = "select count(*) from fact where kind = 'WrapUpEnded' and body->>'ended_by' = 'saved' and call = $1"


async def answered(stage: Stage, caller: Phone, *, besides: int = 0) -> tuple[str, dict[str, Any]]:
    """Call, talk, hang up; return the agent in wrap-up and his pop, after so many earlier offers."""
    seen = {agent: len(screen.received) for agent, screen in stage.screens.items()}
    call = await caller.dial(LINES["billing"].did)
    taken = await (await stage.offered(caller, besides=besides)).answered()
    agent = taken.phone.user
    came = await stage.screens[agent].expect(lambda it: it.type == "pop.answered", after=seen[agent])
    pop = came.pop
    await call.hang_up()
    await taken.ended(5)
    return agent, pop


async def saved(stage: Stage, agent: str, body: dict[str, Any]) -> dict[str, Any]:
    """Save the note; his own phone knows of the end before ctid does, so the wrap-up is ended anew."""
    status, view = await stage.screens[agent].ask("POST", TICKETS, body)
    assert status == 201, view
    first: dict[str, Any] = view
    async with asyncio.timeout(2):
        while view["wrap_up"] == "not_wrapping_up":
            await asyncio.sleep(0.02)
            _, view = await stage.screens[agent].ask("POST", TICKETS, body)
    assert view["wrap_up"] == "ended"
    return first


async def test_note_of_a_call(centre: Stage) -> None:
    for number in ("1007", "1008"):
        centre.agent(number).plan = Plan(answer_after=0.1)
    caller = await centre.caller()
    agent, pop = await answered(centre, caller)
    before = await centre.daemon.metric("ctid_tickets_open", type="repair", state="open")
    opening = {"id": f"note-{pop['id']}", "type": "repair", "fields": FORM}
    view = await saved(centre, agent, {"opening": opening, "pop": pop["id"], "end_wrap_up": True})
    ticket = view["ticket"]
    assert (ticket["call"], ticket["caller_number"], ticket["opened_by"]) == (pop["call"], caller.user, agent)
    assert ticket["line"] == "billing"
    async with asyncio.timeout(5):
        while not await centre.pool.fetchval(SAVED, pop["call"]):
            await asyncio.sleep(0.05)
        while await centre.daemon.metric("ctid_tickets_open", type="repair", state="open") != before + 1:
            await asyncio.sleep(0.05)

    known = {screen: len(centre.screens[screen].received) for screen in ("1007", "1008")}
    agent, pop = await answered(centre, caller, besides=1)

    def shows_it(message: Any) -> bool:
        tickets = (message.pop.get("background") or {}).get("tickets", [])
        return str(ticket["ticket"]) in [one["id"] for one in tickets]

    await centre.screens[agent].expect(shows_it, after=known[agent])
    status, _ = await centre.screens[agent].ask("GET", f"{TICKETS}/{ticket['ticket']}")
    assert status == 200, "who has the customer on the line sees his ticket"
    assert (await centre.screens["1001"].ask("GET", f"{TICKETS}/{ticket['ticket']}"))[0] == 404
    await centre.screens[agent].ask("POST", f"/api/v1/agents/{agent}/wrap-up/end")
