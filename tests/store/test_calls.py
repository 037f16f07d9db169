"""What the pop and the router want to know about a caller, and that an index answers it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from ctid.acd.facts import CallMerged, CallStarted
from ctid.store import calls
from ctid.store.pool import Pool
from tests.fakes_facts import BEGIN, abandoned_call, answered_call, seconds, store_facts, uuid_of

CALLER = "13800138000"


async def write(pool: Pool, batch: list) -> None:  # type: ignore[type-arg]
    await store_facts(pool, batch, system="ast", boot=None, key_of=lambda number: number.lstrip("0"))


async def test_history_is_newest_first_and_only_of_calls_that_are_over(pool: Pool) -> None:
    await write(pool, answered_call(1))
    await write(pool, abandoned_call(8, caller="0" + CALLER))
    await write(pool, answered_call(16, caller="02161234567"))
    now = CallStarted(
        at=BEGIN + timedelta(hours=1),
        call="now",
        leg="now",
        channel="PJSIP/trunk-9",
        caller_number=CALLER,
        caller_name="",
        dialled="",
    )
    await write(pool, [now])
    past = await calls.history_of(pool, CALLER, limit=5)
    assert [(one.outcome, one.agent, one.queue, one.waited, one.talked) for one in past] == [
        ("abandoned", "", "repair", seconds(9), seconds(0)),
        ("answered", "201", "repair", seconds(3), seconds(8)),
    ]
    assert (past[1].line, past[1].business, past[1].dialled, past[1].recording) == (
        "hotline",
        "repair",
        "4008",
        uuid_of(1),
    )
    assert await calls.history_of(pool, CALLER, limit=1) == past[:1]
    assert await calls.history_of(pool, CALLER, limit=0) == []


async def test_a_withheld_number_has_no_history(pool: Pool) -> None:
    await write(pool, answered_call(1, caller=""))
    assert await calls.history_of(pool, "", limit=5) == []
    assert await calls.last_agent_of(pool, "", since=BEGIN) is None
    assert await calls.open_tickets_of(pool, "") == []


async def test_a_consult_call_is_not_a_call_of_its_own(pool: Pool) -> None:
    batch = answered_call(1)
    await write(pool, [*batch, CallMerged(at=BEGIN + seconds(9), call="other", merged=batch[0].call)])
    assert await calls.history_of(pool, CALLER, limit=5) == []


async def test_the_last_agent_is_the_last_who_talked(pool: Pool) -> None:
    await write(pool, answered_call(1, agent="201"))
    await write(pool, answered_call(50, agent="202"))
    assert await calls.last_agent_of(pool, CALLER, since=BEGIN) == "202"
    assert await calls.last_agent_of(pool, CALLER, since=BEGIN + timedelta(days=1)) is None
    assert await calls.last_agent_of(pool, "999", since=BEGIN) is None


async def test_one_call_with_all_who_talked(pool: Pool) -> None:
    batch = answered_call(1)
    await write(pool, batch)
    found = await calls.call_of(pool, batch[0].call)
    assert found
    assert (found.system, found.line, found.caller_number, found.agents) == (
        "ast",
        "hotline",
        "0" + CALLER,
        ("201",),
    )
    assert await calls.call_of(pool, "no.1") is None


async def test_open_tickets(pool: Pool) -> None:
    for state, subject in (("open", "no water"), ("closed", "old"), ("waiting", "call back")):
        await pool.execute(
            "insert into ticket (type, caller_number, caller_key, subject, state, assigned_to)"
            " values ('repair', $1, $1, $2, $3, '201')",
            CALLER,
            subject,
            state,
        )
    assert [one.subject for one in await calls.open_tickets_of(pool, CALLER)] == ["call back", "no water"]
    assert await calls.open_tickets_of(pool, "1") == []


@pytest.mark.parametrize(
    ("sql", "index"),
    [
        (calls._HISTORY.replace("$1", "'1'").replace("$2", "5"), "call_by_caller"),
        (calls._CALL.replace("$1", "'1'"), "call_by_linkedid"),
        (calls._LAST_AGENT.replace("$1", "'1'").replace("$2", "now()"), "call_by_caller"),
    ],
)
async def test_an_index_answers(pool: Pool, sql: str, index: str) -> None:
    async with pool.transaction() as connection:
        await connection.execute("set local enable_seqscan = off")
        plan = "\n".join(row[0] for row in await connection.fetch("explain " + sql))
    assert index in plan
    assert "Seq Scan" not in plan
