"""Wrap-up has no window: between the talk and the saved note no call slips in."""

from __future__ import annotations

import asyncio

import pytest

from lab.floor import LINES
from lab.phone import IGNORE, Plan
from lab.stage import Stage

CALLERS = 11


SAVED = """
select count(*) from fact
where kind = 'WrapUpEnded' and body->>'agent' = '1009' and body->>'ended_by' = 'saved'"""


@pytest.mark.timeout(120, func_only=True)
async def test_next_caller_is_never_offered_before_the_note_is_saved(centre: Stage) -> None:
    """Ten times, with the whole queue waiting; Asterisk tries waiting callers every second."""
    agent, line = centre.agent("1009"), LINES["moving"]
    agent.plan = Plan(answer_after=0.1)
    known = len(agent.calls)
    calls = [await (await centre.caller()).dial(line.did) for _ in range(CALLERS)]
    await asyncio.gather(*(call.answered() for call in calls))
    for turn in range(CALLERS - 1):
        async with asyncio.timeout(8):
            while len(agent.calls) <= known + turn:
                await asyncio.sleep(0.005)
        taken = await agent.calls[known + turn].answered()
        await asyncio.sleep(0.05 * turn)  # also talks so short that the pause races with the end
        await taken.hang_up()
        await asyncio.sleep(1.4)
        assert len(agent.calls) == known + turn + 1, f"turn {turn}: rung during wrap-up"
        if turn == CALLERS - 2:
            agent.plan = IGNORE
        await centre.save_note(taken)
    for call in calls:
        await call.hang_up()
    # Through the spool a fact takes a moment to PostgreSQL.
    async with asyncio.timeout(5):
        while await centre.pool.fetchval(SAVED) < CALLERS - 1:
            await asyncio.sleep(0.05)


@pytest.mark.timeout(60, func_only=True)
async def test_nothing_to_save_is_told(centre: Stage) -> None:
    """Saving a note without a wrap-up changes nothing and says so."""
    status, _ = await centre.screens["1015"].ask("POST", "/api/v1/agents/1015/wrap-up/end")
    assert status == 409
    status, _ = await centre.screens["1015"].ask("POST", "/api/v1/agents/1001/wrap-up/end")
    assert status == 403
