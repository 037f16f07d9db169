"""The state diagrams in the docstrings are the transitions in the code."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from types import ModuleType

import msgspec
import pytest

from ctid.acd import agent, offer, queue_entry, recording, talk
from ctid.acd.agent import Agent, Member, WrapUp, derive, place
from ctid.acd.facts import WRAP_UP_REASON
from ctid.acd.offer import Offer
from ctid.acd.queue_entry import DOOR_OUTCOMES, STATUS_OUTCOMES, QueueEntry, advance
from ctid.acd.recording import Recording
from ctid.acd.talk import Talk

AT = datetime(2026, 11, 22, 9, tzinfo=UTC)
LATER = AT + timedelta(seconds=3)
_ARROW = re.compile(r"^ {4}(\w+) +--(.+?)-+> *(\w+)$", re.MULTILINE)

Arrows = set[tuple[str, str, str]]
replace = msgspec.structs.replace


def drawn(module: ModuleType) -> Arrows:
    """Read the arrows of a module's docstring."""
    found = {(source, sign, target) for source, sign, target in _ARROW.findall(module.__doc__ or "")}
    assert found
    return found


def test_queue_entry() -> None:
    entry = QueueEntry(call="c", queue="q", leg="l", joined_at=AT)
    entries = {
        "WAITING": entry,
        "CONNECTING": replace(entry, stage=queue_entry.Stage.CONNECTING, answering=True),
        "LEAVING": replace(entry, stage=queue_entry.Stage.LEAVING, left_at=AT),
    }
    events = "AgentCalled AgentConnect QueueCallerAbandon QueueCallerLeave Hangup moved_on CONTINUE"
    signs = (*events.split(), *STATUS_OUTCOMES, *DOOR_OUTCOMES)
    coded: Arrows = set()
    for stage, before in entries.items():
        for sign in (name.replace("_", " ") for name in signs):
            plain = _went(before, sign, hung_up=False)
            parting = _went(before, sign, hung_up=True)
            answering = _went(replace(before, answering=True), sign, hung_up=False)
            if plain != stage:
                coded.add((stage, sign, plain))
            if parting != plain:
                coded.add((stage, f"{sign}, hung up", parting))
            if answering != plain:
                coded.add((stage, f"{sign}, answering", answering))

    assert coded == drawn(queue_entry)


def _went(entry: QueueEntry, sign: str, *, hung_up: bool) -> str:
    after, outcome = advance(entry, sign, LATER, hung_up=hung_up)
    return outcome or after.stage.name


def test_offer() -> None:
    fresh = Offer(
        call="c",
        queue="q",
        joined_at=AT,
        caller="l",
        agent="1",
        interface="PJSIP/1",
        leg="m",
        offered_at=AT,
    )
    rung, _ = offer.ring(fresh, AT)
    offers = {"OFFERED": fresh, "RANG": rung, "ANSWERED": offer.answer(rung, AT)}
    coded: Arrows = set()
    for stage, before in offers.items():
        assert before.stage.name == stage
        for sign, after in (("Ringing", offer.ring(before, AT)[0]), ("Up", offer.answer(before, AT))):
            if after.stage is not before.stage:
                coded.add((stage, sign, after.stage.name))
        coded.add((stage, "end", "over"))

    assert coded == drawn(offer)


def test_recording() -> None:
    named = Recording(recording="uuid", call="c", leg="l")
    running, _ = recording.start(named, AT)
    muted, _ = recording.mute(running, AT, muted=True)
    coded: Arrows = set()
    for stage, before in {"NAMED": named, "RUNNING": running, "MUTED": muted}.items():
        assert before.stage.name == stage
        for sign, after in (
            ("MixMonitorStart", recording.start(before, AT)[0]),
            ("MixMonitorMute 1", recording.mute(before, AT, muted=True)[0]),
            ("MixMonitorMute 0", recording.mute(before, AT, muted=False)[0]),
        ):
            if after.stage is not before.stage:
                coded.add((stage, sign, after.stage.name))
        coded.add((stage, "Hangup", "over"))
        if recording.stop(before, LATER) is not None:
            coded.add((stage, "MixMonitorStop", "over"))

    assert coded == drawn(recording)


def test_talk() -> None:
    talking = Talk(agent="1", interface="PJSIP/1", call="c", leg="l", carrier="l", queue="q", began_at=AT)
    holding, _ = talk.hold(talking, AT)
    coded: Arrows = set()
    for stage, before in {"TALKING": talking, "HOLDING": holding}.items():
        assert before.stage.name == stage
        for sign, after in (("Hold", talk.hold(before, AT)[0]), ("Unhold", talk.resume(before, AT)[0])):
            if after.stage is not before.stage:
                coded.add((stage, sign, after.stage.name))
        coded |= {(stage, "leg gone", "over"), (stage, "AttendedTransfer", "over")}

    assert coded == drawn(talk)


SEAT = Member(agent="1", queue="q", interface="PJSIP/1")
NOTE = WrapUp(call="c", queue="q", leg="l", interface="PJSIP/1", began_at=AT, until=LATER)
IN = place(Agent(number="1"), None, SEAT)
PAUSED = replace(SEAT, paused=True, reason="lunch")
GONE = replace(SEAT, status=5)
RINGS = frozenset({"leg"})

#: What each arrow of the agent's diagram does to his record.
CHANGES = [
    ("login", Agent(number="1"), IN),
    ("logout", IN, place(IN, SEAT, None)),
    ("pause", IN, place(IN, SEAT, PAUSED)),
    ("unpause", place(IN, SEAT, PAUSED), IN),
    ("phone lost", IN, place(IN, SEAT, GONE)),
    ("phone back", place(IN, SEAT, GONE), IN),
    ("ring", IN, replace(IN, rings=RINGS)),
    ("ring over", replace(IN, rings=RINGS), IN),
    ("answer", replace(IN, rings=RINGS), replace(IN, lines=RINGS)),
    ("leg gone", replace(IN, lines=RINGS), IN),
    ("wrap-up", replace(IN, lines=RINGS), replace(IN, wrap=NOTE)),
    ("wrap-up over", replace(IN, wrap=NOTE), IN),
    ("ring", place(IN, SEAT, PAUSED), replace(place(IN, SEAT, PAUSED), rings=RINGS)),
    ("ring", replace(IN, wrap=NOTE), replace(IN, wrap=NOTE, rings=RINGS)),
]


def test_agent() -> None:
    assert {(derive(before), sign, derive(after)) for sign, before, after in CHANGES} == drawn(agent)


@pytest.mark.parametrize(("reason", "state"), [("lunch", "paused"), (WRAP_UP_REASON, "idle"), ("", "paused")])
def test_our_own_pause_is_none_of_the_agents(reason: str, state: str) -> None:
    assert derive(place(IN, SEAT, replace(SEAT, paused=True, reason=reason))) == state
