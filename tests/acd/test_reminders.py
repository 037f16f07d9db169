"""What is open is said once more, and nothing else."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from datetime import datetime

import pytest

from ctid.acd import facts as f
from ctid.acd.facts import Fact
from ctid.sinks.metrics import MetricsSink
from ctid.sinks.pop_book import PopBook
from ctid.sinks.pop_url import PopUrl
from ctid.sinks.pops import PopSink
from tests.fakes_floor import SALES, SUPPORT, WITH_NOTE, Watched
from tests.fakes_web import KEY

RULES = {"sales": WITH_NOTE, "support": WITH_NOTE}
KINDS = ("CallStarted", "CallerJoined", "OfferMade", "OfferRang", "TalkStarted", "WrapUpStarted")


class NoScreens:
    """Nobody sits at a screen; the book knows all the same."""

    def show(self, agent: str, message: object) -> int:
        return 0


@pytest.fixture
def busy() -> Watched:
    """One waits, one is rung for, one talks, one writes his note; four calls, one of them over."""
    watched = Watched(RULES, {})
    board = watched.board
    for phone in (SALES, SUPPORT, "PJSIP/1003"):
        board.login(phone, "sales")
    watched.see()
    caller, _ = watched.talk(SALES)
    board.wait(5)
    board.hang_up(caller)
    watched.see()
    watched.talk(SUPPORT)
    rung = board.call()
    board.join(rung, "sales")
    board.ring(rung, "PJSIP/1003")
    board.wait(3)
    waiting = board.call()
    board.join(waiting, "sales")
    watched.snapshot()
    return watched


def named(facts: Sequence[Fact]) -> list[str]:
    return [type(fact).__name__ for fact in facts if type(fact).__name__ in KINDS]


def test_what_is_open_is_said(busy: Watched) -> None:
    """F25: beginnings without an end, each once, and what every agent does."""
    said = busy.centre.reminders()
    assert sorted(named(said)) == sorted(
        ["CallStarted"] * 3
        + ["CallerJoined"] * 2
        + ["OfferMade", "OfferRang", "TalkStarted", "WrapUpStarted"]
    )
    states = {fact.agent: fact.state for fact in said if isinstance(fact, f.AgentStateChanged)}
    assert states == {"1001": "wrapping_up", "1002": "talking", "1003": "ringing"}
    assert {type(fact) for fact in said} <= {
        f.CallStarted,
        f.CallRouted,
        f.CallerJoined,
        f.OfferMade,
        f.OfferRang,
        f.TalkStarted,
        f.WrapUpStarted,
        f.AgentStateChanged,
    }


def test_they_name_what_was_said_when_it_began(busy: Watched) -> None:
    """A beginning has the key it had: who stores it by mistake stores nothing new."""
    known = {(type(fact), fact.call, fact.about, fact.at) for fact in busy.facts}
    said = [fact for fact in busy.centre.reminders() if not isinstance(fact, f.AgentStateChanged)]
    assert {(type(fact), fact.call, fact.about, fact.at) for fact in said} <= known


def test_nothing_open_nothing_said() -> None:
    assert Watched(RULES, {}).centre.reminders() == ()


def gauges(facts: Sequence[Fact]) -> list[str]:
    sink = MetricsSink(RULES, teams={}, elapsed=lambda: 0.0)
    asyncio.run(sink.write(facts))
    page = sink.render().decode()
    return sorted(re.findall(r"^ctid_(?:queue_callers|agents|queue_wait_oldest\w*)\{.*$", page, re.MULTILINE))


def test_gauges_are_those_of_who_was_there_all_along(busy: Watched) -> None:
    """F25: a sink that begins with the reminders shows the same floor."""
    resynced = [fact for fact in busy.facts if isinstance(fact, f.Resynchronised)][-1:]
    lived, told = gauges(busy.facts), gauges([*busy.centre.reminders(), *resynced])
    assert any(not line.endswith(" 0.0") for line in lived)
    assert told == lived


def showing(book: PopBook) -> PopSink:
    return PopSink(
        book=book,
        screens=NoScreens(),
        url=PopUrl("https://ctid.example/pop/{id}"),
        key=KEY,
    )


def pops(facts: Sequence[Fact], at: datetime) -> set[tuple[str, str, str]]:
    book = PopBook()
    asyncio.run(showing(book).write(facts))
    return on_desks(book, at)


def on_desks(book: PopBook, at: datetime) -> set[tuple[str, str, str]]:
    """What the screens of the two agents show as open."""
    desks = [book.desk(agent, at) for agent in ("1002", "1003")]
    return {(pop.agent, pop.leg, pop.state) for desk in desks for pop in desk.open}


def test_pops_are_those_of_who_was_there_all_along(busy: Watched) -> None:
    """F25: the agent whose phone rings has his pop again, and so has the one who talks."""
    lived, told = pops(busy.facts, busy.board.at), pops(busy.centre.reminders(), busy.board.at)
    assert {state for _, _, state in lived} == {"ringing", "answered"}
    assert told == lived


def test_what_follows_ends_what_was_reminded_of(busy: Watched) -> None:
    """F25: the pops of who was only reminded close with the same facts."""
    book = PopBook()
    sink = showing(book)
    asyncio.run(sink.write(busy.centre.reminders()))
    before = len(busy.facts)
    for leg in list(busy.board.channels):
        if leg in busy.board.channels:
            busy.board.hang_up(leg)
    busy.see()
    busy.board.wait(60)
    busy.tick()
    asyncio.run(sink.write(busy.facts[before:]))
    assert on_desks(book, busy.board.at) == set()
