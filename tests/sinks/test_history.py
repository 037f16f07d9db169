"""What the pop says of a caller, from a real PostgreSQL."""

from __future__ import annotations

from datetime import timedelta

import pytest

from ctid.errors import StoreUnavailable
from ctid.settings import Database
from ctid.sinks.history import StoredHistory
from ctid.sinks.pop import Background
from ctid.store.pool import Pool
from tests.fakes_facts import abandoned_call, answered_call, store_facts

CALLER = "13800138000"


def bare(number: str) -> str:
    return number.lstrip("0")


async def test_last_calls_and_open_tickets_of_the_same_person(pool: Pool) -> None:
    for batch in (answered_call(1), abandoned_call(8, caller="0" + CALLER)):
        await store_facts(pool, batch, system="ast", key_of=bare)
    await pool.execute(
        "insert into ticket (type, caller_number, caller_key, subject, state) values "
        "('repair', $1, $1, E'No\\x07 light\u202e', 'open'), ('repair', $1, $1, 'done', 'closed')",
        CALLER,
    )
    found = await StoredHistory(pool, limit=5, normalise=bare).of("00" + CALLER)
    assert [(call.outcome, call.agent, call.queue, call.talked_seconds) for call in found.calls] == [
        ("abandoned", "", "repair", 0.0),
        ("answered", "201", "repair", 8.0),
    ]
    assert [(ticket.title, ticket.form, ticket.state) for ticket in found.tickets] == [
        ("No light", "repair", "open")
    ]


async def test_withheld_numbers_and_no_wish_for_calls(pool: Pool) -> None:
    await store_facts(pool, answered_call(1), system="ast", key_of=bare)
    assert await StoredHistory(pool, limit=5, normalise=lambda number: "").of("x") == Background()
    assert (await StoredHistory(pool, limit=0, normalise=bare).of(CALLER)).calls == ()


async def test_database_away_is_said() -> None:
    nowhere = Database(dsn="postgresql://127.0.0.1:1/none", timeout=timedelta(seconds=1))
    async with Pool(nowhere) as pool:
        with pytest.raises(StoreUnavailable):
            await StoredHistory(pool, limit=5, normalise=bare).of(CALLER)
