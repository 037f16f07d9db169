"""Any floor that can be played: what must hold whatever happens, and however it is told."""

from __future__ import annotations

import gzip
import random
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ctid.acd.centre import Centre
from ctid.acd.facts import (
    ZERO,
    Anomaly,
    CallEnded,
    CallerJoined,
    CallerLeft,
    CallHandled,
    CallStarted,
    Fact,
    OfferEnded,
    OfferMade,
    TalkEnded,
    TalkStarted,
    WrapUpEnded,
    WrapUpStarted,
)
from ctid.acd.rules import QueueRule
from ctid.acd.state import State
from ctid.ami.events import LinkLost, Snapshot
from ctid.replay import events, raw
from lab.channels import Channel
from tests.fakes_floor import WITH_NOTE, Watched

PHONES = ("PJSIP/1001", "PJSIP/1002", "PJSIP/1003")
QUEUES = ("sales", "support")
PAIRS = (
    (CallStarted, CallEnded),
    (CallerJoined, CallerLeft),
    (OfferMade, OfferEnded),
    (TalkStarted, TalkEnded),
    (WrapUpStarted, WrapUpEnded),
)

Test = Callable[[Channel], bool]


class Floor(RuleBasedStateMachine):
    """People call, ring, talk, pause and go; sometimes the line to Asterisk is cut."""

    def __init__(self) -> None:
        super().__init__()
        self.watched = Watched({"sales": WITH_NOTE, "support": QueueRule()})
        self.board = self.watched.board
        for phone in PHONES:
            self.board.login(phone, *QUEUES)
        self.watched.snapshot()
        self.was_cut = False
        self.consultations: list[tuple[str, str, str]] = []

    def _one(self, dice: int, test: Test) -> str:
        found = [one.uniqueid for one in self.board.channels.values() if test(one)]
        return found[dice % len(found)] if found else ""

    def _hear(self) -> None:
        self.board.wait(0.5)
        self.watched.see()

    @rule(queue=st.sampled_from(QUEUES), first=st.booleans())
    def somebody_calls(self, queue: str, first: bool) -> None:
        if len(self.board.channels) < 20:
            self.board.join(self.board.call(), queue, position=1 if first else 0)
            self._hear()

    @rule(dice=st.integers(0, 99), phone=st.sampled_from(PHONES), signal=st.booleans())
    def a_phone_rings(self, dice: int, phone: str, signal: bool) -> None:
        caller = self._one(dice, lambda one: bool(one.queue))
        if caller and not any(one.name.startswith(phone) for one in self.board.channels.values()):
            self.board.ring(caller, phone, signal=signal)
            self._hear()

    @rule(dice=st.integers(0, 99), how=st.sampled_from(["answer", "answer", "no_answer", "refuse", "gone"]))
    def the_ringing_ends(self, dice: int, how: str) -> None:
        phone = self._one(dice, lambda one: bool(one.caller) and one.state != "Up")
        if phone:
            getattr(self.board, how)(phone)
            self._hear()

    @rule(dice=st.integers(0, 99), status=st.sampled_from(["", "KEY", "TIMEOUT", "LEAVEEMPTY", "WITHDRAW"]))
    def somebody_leaves_the_queue(self, dice: int, status: str) -> None:
        caller = self._one(dice, lambda one: bool(one.queue))
        if caller:
            self.board.leave(caller, status)
            self._hear()

    @rule(dice=st.integers(0, 99))
    def somebody_hangs_up(self, dice: int) -> None:
        leg = self._one(dice, lambda one: not one.caller or one.state == "Up")
        if leg:
            self.board.hang_up(leg)
            self._hear()

    @rule(dice=st.integers(0, 99), on=st.booleans())
    def hold(self, dice: int, on: bool) -> None:
        leg = self._one(dice, lambda one: bool(one.bridge))
        if leg:
            (self.board.hold if on else self.board.unhold)(leg)
            self._hear()

    @rule(dice=st.integers(0, 99), queue=st.sampled_from(QUEUES))
    def blind_transfer(self, dice: int, queue: str) -> None:
        phone = self._one(dice, self._talks_to_a_caller)
        if phone:
            self.board.blind_transfer(phone, queue)
            self._hear()

    def _talks_to_a_caller(self, one: Channel) -> bool:
        caller = self.board.channels.get(one.caller)
        return bool(one.bridge and one.dialled_by and caller and caller.bridge == one.bridge)

    @rule(dice=st.integers(0, 99), colleague=st.sampled_from(PHONES))
    def an_agent_consults(self, dice: int, colleague: str) -> None:
        phone = self._one(dice, self._talks_to_a_caller)
        if phone and not any(one.name.startswith(colleague) for one in self.board.channels.values()):
            self.board.hold(phone)
            own, other = self.board.consult(phone, colleague)
            self._hear()
            self.board.consulted(own, other)
            self.consultations.append((phone, own, other))
            self._hear()

    @precondition(lambda self: self.consultations)
    @rule(joins=st.booleans())
    def the_consultation_ends(self, joins: bool) -> None:
        phone, own, other = self.consultations.pop()
        channels = self.board.channels
        if not {phone, own, other} <= set(channels):
            return
        if joins and self._talks_to_a_caller(channels[phone]) and channels[own].bridge:
            self.board.attended_transfer(phone, own, other)
        else:
            self.board.hang_up(own)
        self._hear()

    @rule(dice=st.integers(0, 99), phone=st.sampled_from(PHONES))
    def an_agent_calls_another(self, dice: int, phone: str) -> None:
        other = PHONES[dice % len(PHONES)]
        if phone != other and len(self.board.channels) < 20:
            self.board.consulted(*self.board.dial(phone, other))
            self._hear()

    @rule(phone=st.sampled_from(PHONES), reason=st.sampled_from([None, "lunch", "meeting"]))
    def pause(self, phone: str, reason: str | None) -> None:
        self.board.pause(phone, reason)
        self._hear()

    @rule(phone=st.sampled_from(PHONES), queue=st.sampled_from(QUEUES))
    def log_in_or_out(self, phone: str, queue: str) -> None:
        (self.board.logout if (queue, phone) in self.board.seats else self.board.login)(phone, queue)
        self._hear()

    @rule(phone=st.sampled_from(PHONES), status=st.sampled_from([1, 5]))
    def a_phone_is_lost_or_found(self, phone: str, status: int) -> None:
        self.board.phone_status(phone, status)
        self._hear()

    @rule(agent=st.sampled_from(["1001", "1002", "1003"]))
    def the_note_is_saved(self, agent: str) -> None:
        self.watched.take(self.watched.centre.end_wrap_up(agent, self.board.at))
        self._hear()

    @rule(seconds=st.integers(1, 40))
    def time_passes(self, seconds: int) -> None:
        self.board.wait(seconds)
        self.watched.tick()

    @rule()
    def a_snapshot(self) -> None:
        self.board.wait(3)
        self.watched.snapshot()

    @precondition(lambda self: self.board.channels)
    @rule(lost=st.integers(1, 30), dice=st.integers(0, 99))
    def the_line_is_cut(self, lost: int, dice: int) -> None:
        self.was_cut = True
        self.watched.centre.receive(LinkLost(at=self.board.at, why="test"))
        self.board.wait(1)
        leg = self._one(dice, lambda one: not one.caller or one.state == "Up")
        if leg:
            self.board.hang_up(leg)
        self.board.said = self.board.said[lost:]
        for _ in range(2):
            self.board.wait(6)
            self.watched.snapshot()

    @rule(down=st.integers(2, 30))
    def asterisk_dies(self, down: int) -> None:
        """F02: nobody says good-bye; what was open then ended with the last that was heard of it."""
        self.was_cut = True
        self.board.restart(down)
        self.watched.centre.receive(LinkLost(at=self.board.at, why="test"))
        self.watched.snapshot()

    @rule()
    def ctid_is_killed(self) -> None:
        """F25: another centre goes on from what was put away; nothing that follows may differ."""
        heir = Centre({"sales": WITH_NOTE, "support": QueueRule()}, {})
        heir.restore(msgspec.convert(msgspec.to_builtins(self.watched.centre.state()), State))
        self.watched.centre = heir

    @invariant()
    def no_duration_is_negative(self) -> None:
        for fact in self.watched.facts[-50:]:
            assert all(value >= ZERO for value in _durations(fact)), fact

    @invariant()
    def an_agent_has_one_talk_of_his_own(self) -> None:
        open_talks: Counter[str] = Counter()
        for talk in self.watched.centre._tables.talks.values():
            open_talks[talk.agent] += bool(talk.queue)
        assert all(count <= 1 for count in open_talks.values())

    @invariant()
    def we_hold_what_lives_and_no_more(self) -> None:
        tables = self.watched.centre._tables
        if not self.was_cut:
            assert set(tables.legs) == set(self.board.channels)
        assert set(tables.entries) | set(tables.talks) | set(tables.offers) <= set(tables.legs)
        assert set(tables.seen) == set(tables.legs)
        assert {leg.call for leg in tables.legs.values()} == set(tables.calls)

    def teardown(self) -> None:
        """Everybody goes home; then every beginning has its end."""
        while self.board.channels:
            self.board.hang_up(next(iter(self.board.channels)))
        for _ in range(3):
            self.board.wait(60)
            self.watched.tick()
            self.watched.snapshot()
        facts = self.watched.facts
        for begins, ends in PAIRS:
            begun = Counter((fact.call, fact.about) for fact in facts if isinstance(fact, begins))
            ended = Counter((fact.call, fact.about) for fact in facts if isinstance(fact, ends))
            assert begun == ended, begins
        keys = Counter((fact.call, type(fact), fact.about, fact.at) for fact in facts)
        assert max(keys.values(), default=1) == 1
        for handled in self.watched.told(CallHandled):
            assert handled.handled == handled.talked + handled.held + handled.wrapped
        if not self.was_cut:
            assert self.watched.told(Anomaly) == []
        assert not any(seat.reason.startswith("ctid:") for seat in self.board.seats.values())


def _durations(fact: Fact) -> list[timedelta]:
    values = (getattr(fact, name) for name in fact.__struct_fields__)
    return [value for value in values if isinstance(value, timedelta)]


TestFloor = Floor.TestCase
TestFloor.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)


TRACES = Path(__file__).parents[1] / "traces" / "22"


@pytest.mark.parametrize("seed", range(60))
def test_no_order_of_events_raises(seed: int) -> None:
    """F08: Shuffled, thinned, doubled or jumbled: it may make no sense, but it must not fall over."""
    dice = random.Random(seed)
    names = dice.sample(sorted(path.name for path in TRACES.glob("*.gz")), 2)
    said = [event for name in names for event in events([raw(gzip.decompress((TRACES / name).read_bytes()))])]
    match seed % 4:
        case 0:
            dice.shuffle(said)
        case 1:
            said = [event for event in said if dice.random() > 0.15]
        case 2:
            said = [event for event in said for _ in range(dice.choice([1, 2]))]
        case _:
            order = {id(event): place + dice.uniform(-6, 6) for place, event in enumerate(said)}
            said.sort(key=lambda event: order[id(event)])
    centre = Centre({"sales": WITH_NOTE}, {})
    empty = Snapshot(
        at=said[0].at, boot=said[0].at, system="", channels=(), queues=(), members=(), entries=()
    )
    if seed % 2:
        centre.receive(empty)
    for event in said:
        step = centre.receive(event)
        assert all(value >= ZERO for fact in step.facts for value in _durations(fact))
        centre.floor()
        centre.tick(event.at)
    assert centre.receive(empty).facts
