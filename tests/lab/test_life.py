"""Seeded life, played in no time: what people did, and what the core makes of what AMI says of it."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta

import msgspec
import pytest

from ctid.acd.centre import Centre
from ctid.acd.facts import (
    Anomaly,
    CallEnded,
    CallerLeft,
    CallMerged,
    Fact,
    SetPause,
    Step,
    TalkEnded,
)
from ctid.acd.rules import QueueRule
from ctid.ami.decoding import event_of
from ctid.ami.events import AmiEvent
from ctid.ami.framing import Framer
from ctid.ami.guard import SequenceGuard
from lab.ami_text import Announcer
from lab.channels import member_of
from lab.life import Life
from lab.switchboard import Switchboard
from lab.truth import Record, Truth, of_kind

MEMBERS = {
    "sales": [f"PJSIP/{number}" for number in range(1001, 1016)],
    "support": [f"PJSIP/{number}" for number in range(1010, 1025)],
}
AGENTS = {phone: member_of(phone) for phones in MEMBERS.values() for phone in phones}
CLOSE = timedelta(milliseconds=50)


class Played:
    """Some minutes of life, heard by a centre that may order about."""

    def __init__(self, seed: int, seconds: float) -> None:
        self.board, self.truth = Switchboard(), Truth()
        for queue, phones in MEMBERS.items():
            for phone in phones:
                self.board.login(phone, queue)
        self.centre = Centre(
            {"sales": QueueRule(wrap_up=timedelta(seconds=1)), "support": QueueRule()}, AGENTS
        )
        self.facts: list[Fact] = []
        self.said: list[AmiEvent] = self.board.take()
        self._take(self.centre.receive(self.board.snapshot()))
        life = Life(self.board, self.truth, members=MEMBERS, seed=seed, rate=5)
        end = self.board.at + timedelta(seconds=seconds)
        while self.board.at < end or not self.truth.is_over:
            if self.board.at >= end and not life.is_hurried:
                life.hurry()
            self._live(life)

    def _live(self, life: Life) -> None:
        due, deadline = life.next_at, self.centre.next_deadline()
        assert due is not None
        if deadline is not None and deadline < due:
            self.board.at = max(self.board.at, deadline)
            self._take(self.centre.tick(deadline))
        life.step(due)
        while said := self.board.take():
            self.said += said
            for event in said:
                self._take(self.centre.receive(event))

    def _take(self, step: Step) -> None:
        self.facts += step.facts
        for command in step.commands:
            if isinstance(command, SetPause):
                self.board.obey(command)


@pytest.fixture(scope="module")
def played() -> Played:
    """About 300 calls."""
    return Played(seed=1, seconds=60)


def _near(one: datetime, told: str) -> bool:
    return abs(one - datetime.fromisoformat(told)) < CLOSE


def test_every_kind_of_end_is_played(played: Played) -> None:
    outcomes = Counter(record["outcome"] for record in of_kind(played.truth.told, "visit"))
    assert set(outcomes) == {"answered", "abandoned", "timeout", "exit_key"}
    assert min(outcomes.values()) >= 5
    assert any(record.get("merged") for record in of_kind(played.truth.told, "call"))


def test_visits_are_what_was_decided(played: Played) -> None:
    told = of_kind(played.truth.told, "visit")
    left = [fact for fact in played.facts if isinstance(fact, CallerLeft)]

    def fits(record: Record, fact: CallerLeft) -> bool:
        same = (fact.call, fact.queue, fact.outcome, fact.agent)
        mine = (record["call"], record["queue"], record["outcome"], record["agent"])
        return same == mine and _near(fact.joined_at, record["began"]) and _near(fact.at, record["ended"])

    assert [record for record in told if sum(fits(record, fact) for fact in left) != 1] == []
    assert len(left) == len(told)


def test_talks_are_what_was_decided(played: Played) -> None:
    told = of_kind(played.truth.told, "talk")
    ended = [fact for fact in played.facts if isinstance(fact, TalkEnded)]

    def fits(record: Record, fact: TalkEnded) -> bool:
        same = (fact.call, fact.leg, fact.agent, fact.assisted)
        mine = (record["call"], record["leg"], record["agent"], record["assisted"])
        return same == mine and _near(fact.began_at, record["began"]) and _near(fact.at, record["ended"])

    assert [record for record in told if sum(fits(record, fact) for fact in ended) != 1] == []
    assert len(ended) == len(told)


def test_calls_are_what_was_decided(played: Played) -> None:
    told = of_kind(played.truth.told, "call")
    ended = {fact.call: fact for fact in played.facts if isinstance(fact, CallEnded)}
    merged = {fact.merged: fact.call for fact in played.facts if isinstance(fact, CallMerged)}
    assert {record["call"] for record in told} == set(ended)
    for record in told:
        assert _near(ended[record["call"]].at, record["ended"])
        assert merged.get(record["call"]) == record.get("merged")
    assert [fact for fact in played.facts if isinstance(fact, Anomaly)] == []


def test_the_same_seed_is_the_same_life(played: Played) -> None:
    assert Played(seed=1, seconds=60).said == played.said


def test_the_text_of_it_is_believed_and_read_back(played: Played) -> None:
    """What ``lab.ami_text`` writes passes the guard without a doubt, and means the same."""
    framer, guard, announcer = Framer(), SequenceGuard(), Announcer("pbx")
    heard: list[AmiEvent] = []
    for number, event in enumerate(played.said):
        frames = guard.sift(framer.feed(announcer.text([event])), number / 100)
        heard += [event_of(frame.name, frame.headers, 0.0) for frame in frames]
    assert not guard.findings.quarantined
    assert list(map(_meant, heard)) == list(map(_meant, played.said))


def _meant(event: AmiEvent) -> dict[str, object]:
    """An event without what only the text has."""
    values = msgspec.structs.asdict(event)
    for name in ("caller_name", "context", "exten", "member", "state_interface", "caller_number", "priority"):
        values.pop(name, None)
    at = values["at"]
    assert isinstance(at, datetime)
    return {"event": type(event).__name__, **values, "at": at}


def test_an_event_heard_twice_is_no_new_fact(played: Played) -> None:
    """F08: told twice in a row, an event leads to what it led to, or to the same fact by its key."""
    once, twice = (Centre({"sales": QueueRule(), "support": QueueRule()}, AGENTS) for _ in range(2))
    known = set()
    for event in played.said:
        facts = once.receive(event).facts
        assert twice.receive(event).facts == facts, event
        known |= set(map(_key, facts))
        again = (fact for fact in twice.receive(event).facts if not isinstance(fact, Anomaly))
        assert set(map(_key, again)) <= known, event


def _key(fact: Fact) -> tuple[object, ...]:
    return type(fact), fact.call, fact.about, fact.at
