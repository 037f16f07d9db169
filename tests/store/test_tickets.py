"""The ticket desk on a real PostgreSQL: one transaction, one writer, nothing forgotten."""

from __future__ import annotations

import asyncio
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from ctid.errors import StoreError
from ctid.settings import Database
from ctid.store import calls
from ctid.store.migrate import SCHEMA, migrate
from ctid.store.pool import Pool
from ctid.store.tickets import Sight, SortKey, Tickets, Wanted
from ctid.tickets import commands as c
from ctid.tickets.desk import TicketDesk
from ctid.tickets.opening import InCall, Invalid, Opening
from ctid.tickets.ticket import Change, Refusal, Ticket

AT = datetime(2026, 11, 25, 9, tzinfo=UTC)
HOUR = timedelta(hours=1)
CALLER = "13812345678"
ALL = Sight(everything=True)
FORM = {"subject": "no light", "content": "The BOX is dark", "address": "Nanjing Road 1"}


@pytest.fixture
def desk(pool: Pool) -> TicketDesk:
    return TicketDesk(Tickets(pool), normalise=lambda number: number.lstrip("0"))


async def opened(desk: TicketDesk, name: str = "o1", by: str = "201", **more: Any) -> Ticket:
    opening = Opening(**{"id": name, "type": "repair", "fields": FORM, **more})
    done = await desk.open(
        opening, by, AT, inside=InCall(system="ast", call="1.1", line="hotline", caller_number="0" + CALLER)
    )
    assert isinstance(done, Change), done
    return done.ticket


async def do(desk: TicketDesk, number: int, command: c.Command, *, by: str = "201", at: datetime = AT) -> Any:
    return await desk.do(number, command, by, at, may=lambda ticket: None)


async def test_what_is_stored_comes_back(desk: TicketDesk, pool: Pool) -> None:
    ticket = await opened(desk, promised_at=AT + HOUR, source="petition")
    assert await desk.one(ticket.ticket) == ticket
    done = await do(desk, ticket.ticket, c.Appoint(id="a", version=1, visit_at=AT + 2 * HOUR))
    assert await desk.one(ticket.ticket) == done.ticket
    [opening, appointed, step] = await desk.events_of(ticket.ticket)
    assert (opening.kind, appointed.command, step.detail["step"]) == ("opened", "a", "appointed")
    assert appointed.detail == {"visit_at": "2026-11-25T11:00:00Z"}
    assert await desk.one(999) is None
    assert await do(desk, 999, c.Claim(id="x", version=1)) is None


async def test_the_pop_shows_it_until_it_is_closed(desk: TicketDesk, pool: Pool) -> None:
    ticket = await opened(desk, type="consultation", fields={"subject": "fee", "content": "how much"})
    [shown] = await calls.open_tickets_of(pool, CALLER)
    assert (shown.ticket, shown.subject, shown.state) == (ticket.ticket, "fee", "open")
    await do(desk, ticket.ticket, c.Answer(id="a", version=1, result="ten"))
    await do(desk, ticket.ticket, c.Close(id="b", version=2))
    assert await calls.open_tickets_of(pool, CALLER) == []


async def test_a_form_sent_twice_is_one_ticket(desk: TicketDesk, pool: Pool) -> None:
    numbers = {ticket.ticket for ticket in await asyncio.gather(*(opened(desk) for _ in range(5)))}
    assert len(numbers) == 1
    assert await pool.fetchval("select count(*) from ticket_event") == 1
    assert (await opened(desk, by="202")).ticket not in numbers
    wrong = await desk.open(Opening(id="w", type="repair", fields={}), "201", AT, inside=InCall())
    assert isinstance(wrong, Invalid)
    assert await pool.fetchval("select count(*) from ticket") == 2


async def test_of_two_who_write_at_once_one_is_refused(desk: TicketDesk) -> None:
    number = (await opened(desk)).ticket
    claims = [do(desk, number, c.Claim(id=f"c{by}", version=1), by=f"{by}") for by in range(201, 206)]
    done = await asyncio.gather(*claims)
    assert sum(isinstance(one, Change) for one in done) == 1
    assert {one.code for one in done if isinstance(one, Refusal)} == {"changed_meanwhile"}


async def test_a_command_again_does_nothing_even_long_after(desk: TicketDesk) -> None:
    number = (await opened(desk)).ticket
    for version in range(1, 71):
        await do(desk, number, c.Note(id=f"n{version}", version=version, text="again"))
    again = await do(desk, number, c.Note(id="n1", version=71, text="again"))
    assert (again.events, again.ticket.version) == ((), 71)


async def test_what_happened_can_not_be_changed(desk: TicketDesk, pool: Pool) -> None:
    await opened(desk)
    for statement in (
        "update ticket_event set kind = 'x'",
        "delete from ticket_event",
        "truncate ticket_event",
    ):
        with pytest.raises((StoreError, asyncpg.PostgresError), match="stays"):
            await pool.execute(statement)


async def test_ticket_and_event_are_written_together_or_not_at_all(desk: TicketDesk, pool: Pool) -> None:
    number = (await opened(desk)).ticket
    await pool.execute("alter table ticket_event add check (kind <> 'claimed')")
    with pytest.raises(StoreError):
        await do(desk, number, c.Claim(id="c", version=1))
    ticket = await desk.one(number)
    assert ticket
    assert (ticket.version, ticket.claimed_by) == (1, "")


async def test_found_by_all_that_lists_ask_for(desk: TicketDesk) -> None:
    first = await opened(desk, source="petition")
    second = await opened(
        desk, "o2", by="202", type="complaint", fields={"subject": "100% rude", "content": "he hung up"}
    )

    async def found(sight: Sight = ALL, **wanted: Any) -> list[int]:
        return [one.ticket for one in (await desk.find(Wanted(**wanted), sight))[0]]

    both = [second.ticket, first.ticket]
    assert await found() == both
    assert (
        await found(type="repair") == await found(text="box IS") == await found(assigned_to="201") == both[1:]
    )
    assert await found(text="100%") == both[:1]
    assert await found(text="100_") == await found(text="' or true --") == await found(state="closed") == []
    assert await found(caller_key=CALLER) == both
    assert await found(due_before=AT + timedelta(days=6)) == both[1:]
    assert (await desk.find(Wanted(limit=1, offset=1), ALL))[1] == 2
    assert await found(limit=1, offset=1) == both[1:]
    sorts: dict[SortKey, list[int]] = {
        "due": both[::-1],
        "ticket": both[::-1],
        "type": both,
        "assigned_to": both,
    }
    for sort, order in sorts.items():
        assert await found(sort=sort) == order, sort
    assert await found(Sight(person="202")) == await found(Sight(types=("complaint",))) == both[:1]
    assert await found(Sight(caller_keys=(CALLER,))) == both
    assert await found(Sight()) == await found(Sight(caller_keys=("",))) == []


async def test_what_is_due_is_raised_once_by_whoever_comes_first(desk: TicketDesk) -> None:
    ticket = await opened(desk, promised_at=AT + HOUR)
    assert await desk.next_at() == AT + HOUR - desk.times.remind_before
    assert await desk.due(AT) == []
    assert await desk.due(AT + HOUR) == [ticket.ticket]
    raised = await asyncio.gather(*(desk.raise_due(ticket.ticket, AT + HOUR) for _ in range(4)))
    assert sorted(alarm.kind for some in raised for alarm, _ in some) == [
        "promise_broken",
        "promise_reminder",
    ]
    assert await desk.due(AT + 9 * HOUR) == []
    assert await desk.next_at() is None


async def test_figures(desk: TicketDesk, pool: Pool) -> None:
    number = (
        await opened(
            desk,
            type="emergency_repair",
            notify=("123",),
            fields={"subject": "cable cut", "content": "all dark", "area": "north", "department": "net"},
        )
    ).ticket
    await opened(desk, "o2", source="petition")
    await do(desk, number, c.Restore(id="r", version=1, customers=("13800000001", "13800000002")))
    figures = await desk.figures(AT + 3 * HOUR)
    assert figures.open == {("emergency_repair", "open"): 1, ("repair", "open"): 1}
    assert figures.overdue == {"emergency_repair": 1, "repair": 0}
    assert figures.call_backs_due == 2
    await do(desk, number, c.Claim(id="c", version=2))
    await do(desk, number, c.Attempt(id="t", version=3, call_back=0, result="confirmed"))
    assert (await desk.figures(AT + 3 * HOUR)).call_backs_due == 1


async def test_tickets_of_an_older_ctid_are_taken_over(empty_database: Database, tmp_path: Path) -> None:
    for file in sorted(SCHEMA.glob("*.sql")):
        if file.name < "0004":
            shutil.copy(file, tmp_path)
    await migrate(empty_database, folder=tmp_path)
    async with Pool(empty_database) as pool:
        for state in ("open", "waiting", "closed"):
            await pool.execute(
                "insert into ticket (type, caller_number, caller_key, subject, state, opened_at, promised_at)"
                " values ('repair', $1, $1, $2, $2, $3, $4)",
                CALLER,
                state,
                AT,
                AT + HOUR,
            )
        assert "0004_tickets.sql" in await migrate(empty_database)
        desk = TicketDesk(Tickets(pool), normalise=str)
        found, _ = await desk.find(Wanted(sort="ticket"), ALL)
        assert [(one.step, one.state) for one in found] == [
            ("open", "open"),
            ("dispatched", "waiting"),
            ("closed", "closed"),
        ]
        assert {one.subject for one in await calls.open_tickets_of(pool, CALLER)} == {"open", "waiting"}
        assert await desk.due(AT + HOUR) == [found[0].ticket, found[1].ticket]
        assert len(await desk.raise_due(found[0].ticket, AT + HOUR)) == 2


async def test_a_ticket_from_before_there_were_steps_can_be_worked_on(desk: TicketDesk, pool: Pool) -> None:
    number = await pool.fetchval(
        "insert into ticket (type, caller_number, caller_key, subject) "
        "values ('consultation', $1, $1, 'old') returning ticket",
        CALLER,
    )
    done = await do(desk, number, c.Answer(id="a", version=1, result="yes"))
    assert done.ticket.step == "answered"
