"""Reminders and escalations reach screens and figures, once, late if need be."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from ctid.errors import RowRefused
from ctid.sinks.ticket_figures import TicketFigures
from ctid.store.pool import Pool
from ctid.store.tickets import Tickets
from ctid.ticket_clock import LOOK_SECONDS, TicketClock
from ctid.tickets import commands as c
from ctid.tickets.desk import TicketDesk
from ctid.tickets.opening import InCall, Opening
from ctid.tickets.ticket import Change, Ticket
from ctid.web.messages import TicketNews
from tests.fakes_web import WebDaemon, running, screen

HOUR = timedelta(hours=1)
FORM = {"subject": "no light", "content": "the box is dark", "contact": "13812345678"}


class Screens:
    """Remembers what it was told, and whom."""

    def __init__(self) -> None:
        self.told: list[tuple[str, set[str], set[str]]] = []

    def tell(self, message: TicketNews, *, persons: Collection[str], roles: Collection[str]) -> int:
        self.told.append((message.kind, set(persons), set(roles)))
        return 1


class Bench:
    """A clock on a real desk, with a time of its own."""

    def __init__(self, pool: Pool, screens: Any = None) -> None:
        self.now = datetime.now(UTC)
        self.registry = CollectorRegistry()
        self.screens = Screens() if screens is None else screens
        self.desk = TicketDesk(Tickets(pool), normalise=str)
        self.clock = TicketClock(
            self.desk, screens=self.screens, figures=TicketFigures(self.registry), now=lambda: self.now
        )

    async def open(self, kind: Any, **more: Any) -> Ticket:
        opening = Opening(id=f"{kind}{len(more)}", type=kind, fields=FORM, **more)
        done = await self.desk.open(opening, "201", self.now, inside=InCall())
        assert isinstance(done, Change), done
        return done.ticket

    def figure(self, name: str) -> float:
        lines = generate_latest(self.registry).decode().splitlines()
        return next(float(line.rpartition(" ")[2]) for line in lines if line.rpartition(" ")[0] == name)


@pytest.fixture
def bench(pool: Pool) -> Bench:
    return Bench(pool)


async def test_a_promise_is_reminded_of_then_escalated_each_once(bench: Bench) -> None:
    await bench.open("consultation", promised_at=bench.now + HOUR)
    assert await bench.clock.look() == LOOK_SECONDS
    bench.now += HOUR - timedelta(minutes=15, seconds=5)
    assert await bench.clock.look() == pytest.approx(5)
    assert bench.figure('ctid_tickets_open{state="open",type="consultation"}') == 1
    for _ in range(2):
        bench.now += timedelta(seconds=5)
        await bench.clock.look()
    bench.now += HOUR
    for _ in range(2):
        await bench.clock.look()
    assert bench.screens.told == [
        ("opened", {"201"}, set()),
        ("promise_reminder", {"201"}, set()),
        ("promise_broken", {"201"}, {"leader", "supervisor"}),
    ]
    assert bench.figure('ctid_promises_total{result="broken"}') == 1
    assert bench.figure('ctid_tickets_overdue{type="consultation"}') == 1


async def test_what_was_missed_while_ctid_was_down_is_raised_at_the_next_start(
    bench: Bench, pool: Pool
) -> None:
    ticket = await bench.open("complaint", source="mayors_hotline")
    later = Bench(pool)
    later.now = bench.now + timedelta(days=2)
    await later.clock.look()
    assert [(kind, roles) for kind, _, roles in later.screens.told] == [
        ("level_passed", {"complaints", "leader", "supervisor"}),
        ("deadline_passed", {"complaints", "leader", "supervisor"}),
    ]
    after = await later.desk.one(ticket.ticket)
    assert after
    assert after.level == 2


async def test_a_complaint_given_up_by_hand_is_told_to_those_above(bench: Bench) -> None:
    ticket = await bench.open("complaint")
    up = c.Escalate(id="e", version=1, reason="beyond me")
    await bench.desk.do(ticket.ticket, up, "complaints", bench.now, may=lambda ticket: None)
    assert bench.screens.told == [
        ("opened", {"201"}, {"complaints"}),
        ("level_raised", {"201"}, {"complaints", "leader", "supervisor"}),
    ]


async def test_a_kept_promise_counts_as_kept(bench: Bench) -> None:
    ticket = await bench.open("consultation", promised_at=bench.now + HOUR)
    reply = c.Reply(id="r", version=1, result="told him")
    for _ in range(2):
        await bench.desk.do(ticket.ticket, reply, "201", bench.now, may=lambda ticket: None)
    assert bench.figure('ctid_promises_total{result="kept"}') == 1
    assert bench.figure('ctid_promises_total{result="broken"}') == 0


async def test_a_call_back_is_due(bench: Bench) -> None:
    ticket = await bench.open("memo")
    answer = c.Answer(id="a", version=1, result="from Monday on")
    await bench.desk.do(ticket.ticket, answer, "info", bench.now, may=lambda ticket: None)
    bench.now += 3 * HOUR
    await bench.clock.look()
    assert bench.figure("ctid_callbacks_due") == 1
    assert [kind for kind, _, _ in bench.screens.told] == ["opened", "step_reached", "call_back_due"]


async def test_one_bad_ticket_does_not_silence_the_others(bench: Bench, pool: Pool) -> None:
    bad = await bench.open("consultation", promised_at=bench.now + HOUR)
    await bench.open("consultation", promised_at=bench.now + 2 * HOUR, source="other")
    await pool.execute("""update ticket set body = '{"steps": 1}' where ticket = $1""", bad.ticket)
    with pytest.raises(RowRefused, match=f"ticket {bad.ticket}"):
        await bench.desk.one(bad.ticket)
    bench.now += 2 * HOUR
    assert await bench.clock.look() == LOOK_SECONDS
    assert [kind for kind, _, _ in bench.screens.told][2:] == ["promise_reminder", "promise_broken"]


async def test_the_clock_runs_by_itself_and_tells_the_right_screens(pool: Pool) -> None:
    daemon = WebDaemon()
    bench = Bench(pool, daemon.hub)
    async with (
        running(daemon),
        screen(daemon.url, "token-201") as own,
        screen(daemon.url, "token-202") as other,
        screen(daemon.url, "token-leader") as leader,
    ):
        for one in (own, other, leader):
            await one.next("hello")
        task = asyncio.create_task(bench.clock.run())
        try:
            await bench.open("consultation", promised_at=bench.now + HOUR)
            assert (await own.next("ticket.news"))["kind"] == "opened"
            bench.now += 2 * HOUR
            await bench.open("consultation")
            kinds = [(await own.next("ticket.news"))["kind"] for _ in range(3)]
            assert sorted(kinds) == ["opened", "promise_broken", "promise_reminder"]
            news = await leader.next("ticket.news")
            assert (news["kind"], news["form"], news["assigned_to"]) == (
                "promise_broken",
                "consultation",
                "201",
            )
            await other.tell(type="sync")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await other.next("ticket.news")
        finally:
            task.cancel()
