"""A pop reaches the ringing agent in every way there is, and nobody else in any."""

from __future__ import annotations

import asyncio
import json
import re

import pytest

from lab import sip
from lab.floor import LINES, VIP_CALLER
from lab.phone import IGNORE, Plan
from lab.stage import Stage

pytestmark = pytest.mark.timeout(60, func_only=True)


def strangers(stage: Stage, caller: str, *agents: str) -> list[str]:
    """Agents other than these whose screen or telephone was told anything about the caller."""
    return [
        number
        for number in stage.phones
        if number not in agents
        and (
            stage.screens[number].pops_of(caller)
            or any(caller in text.text for text in stage.phones[number].messages)
        )
    ]


async def test_pop_follows_the_ringing(centre: Stage) -> None:
    """1005 lets it ring, 1006 takes it: each sees his own pop begin and end, nobody sees another's."""
    centre.agent("1005").plan, centre.agent("1006").plan = IGNORE, Plan(answer_after=1)
    first, second = centre.screens["1005"], centre.screens["1006"]
    texts = {number: len(centre.agent(number).messages) for number in centre.phones}
    caller = await centre.caller()
    call = await caller.dial(LINES["faults"].did, name="王小明")
    rung = await (await centre.offered(caller)).rung()
    assert rung.phone.user == "1005"
    offered = await first.pop("pop.offered", caller.user)
    assert offered.pop["agent"] == "1005"
    assert offered.pop["queue"] == "faults"
    assert not second.pops_of(caller.user)

    text = await centre.agent("1005").text()
    assert text.content_type.startswith("text/plain")
    assert re.search(rf"{re.escape(centre.daemon.url)}/pop\S+", text.text)
    assert sip.display_name_of(rung.invite.first("from")).startswith("[报修]")

    address = re.search(r"<([^>]+)>", rung.invite.first("call-info"))
    assert address, "no Call-Info"
    status, page = await first.ask("GET", address[1].removeprefix(centre.daemon.url))
    assert (status, page["caller_number"]) == (200, caller.user)
    status, _ = await second.ask("GET", address[1].removeprefix(centre.daemon.url))
    assert status == 404, "another agent may not read this pop"

    taken = await (await centre.offered(caller, besides=1)).answered()
    assert taken.phone.user == "1006"
    withdrawn = await first.pop("pop.withdrawn", caller.user)
    assert withdrawn.pop["reason"] == "no_answer"
    assert (await second.pop("pop.offered", caller.user)).pop["id"] != offered.pop["id"]
    await second.pop("pop.answered", caller.user)
    await call.hang_up()
    await taken.ended(5)
    await centre.save_note(taken)
    assert not [it for it in first.pops_of(caller.user) if it.type == "pop.answered"]
    assert strangers(centre, caller.user, "1005", "1006") == []
    told = [number for number in centre.phones if len(centre.agent(number).messages) > texts[number]]
    assert told == ["1005", "1006"]


async def test_pop_is_withdrawn_when_the_caller_gives_up(centre: Stage) -> None:
    centre.agent("1004").plan = IGNORE
    caller = await centre.caller()
    call = await caller.dial(LINES["inspection"].did)
    rung = await (await centre.offered(caller)).rung()
    await centre.screens["1004"].pop("pop.offered", caller.user)
    await call.hang_up()
    await rung.ended(5)
    withdrawn = await centre.screens["1004"].pop("pop.withdrawn", caller.user)
    assert withdrawn.pop["reason"] == "cancelled_by_caller"
    assert strangers(centre, caller.user, "1004") == []


async def test_pop_comes_while_the_phone_still_rings(centre: Stage) -> None:
    """From the INVITE at the agent's phone to the pop on his screen: at once."""
    centre.agent("1001").plan = IGNORE
    late = []
    for _ in range(5):
        caller = await centre.caller()
        call = await caller.dial(LINES["consultation"].did)
        rung = await (await centre.offered(caller)).rung()
        offered = await centre.screens["1001"].pop("pop.offered", caller.user)
        assert rung.clock.invited is not None
        late.append(offered.at.since(rung.clock.invited))
        await call.hang_up()
        await rung.ended(5)
    assert sorted(late)[2] < 0.1, late


async def test_vip_and_history_are_on_the_pop(centre: Stage) -> None:
    """A known VIP calls twice: the second pop shows him as such, and his first call."""
    centre.agent("1001").plan = Plan(answer_after=0.3)
    for turn in (1, 2):
        caller = await centre.caller(VIP_CALLER)
        call = await caller.dial(LINES["consultation"].did, name="张伟")
        taken = await (await centre.offered(caller, besides=turn - 1)).answered()
        assert "VIP" in sip.display_name_of(taken.invite.first("from"))
        await call.hang_up()
        await taken.ended(5)
        await centre.save_note(taken)
        await asyncio.sleep(0.5)

    def is_known(it: object) -> bool:
        return '"calls": [{' in json.dumps(getattr(it, "pop", {}))

    known = await centre.screens["1001"].expect(
        lambda it: is_known(it) and it.pop["caller_number"] == VIP_CALLER
    )
    assert known.pop["vip"] is True
