"""The note after a call: begun without a window, ended by note, cap or agent, never at a person's cost."""

from __future__ import annotations

from datetime import timedelta

import pytest

from ctid.acd.facts import (
    WRAP_UP_REASON,
    AgentStateChanged,
    CallHandled,
    SetPause,
    TalkEnded,
    WrapUpEnded,
    WrapUpStarted,
)
from ctid.acd.rules import QueueRule
from tests.fakes_floor import SALES, WITH_NOTE, Watched

SECOND = timedelta(seconds=1)


@pytest.fixture
def watched() -> Watched:
    watched = Watched({"sales": WITH_NOTE, "support": QueueRule()})
    watched.board.login(SALES, "sales", "support")
    watched.see()
    return watched


def pauses(watched: Watched) -> list[bool]:
    return [command.paused for command in watched.commands if isinstance(command, SetPause)]


def states(watched: Watched) -> list[tuple[str, str]]:
    return [(fact.state, fact.reason) for fact in watched.told(AgentStateChanged)[2:]]


def test_the_pause_is_asked_for_the_moment_the_agent_answers(watched: Watched) -> None:
    _, phone = watched.talk()
    assert watched.commands == [SetPause(agent="1001", interface=SALES, paused=True, reason=WRAP_UP_REASON)]
    assert watched.state("1001") == "talking"

    watched.board.wait(60)
    watched.board.hang_up(phone)
    watched.see()
    assert watched.state("1001") == "wrapping_up"
    started = watched.told(WrapUpStarted)[0]
    assert started.until == started.at + 30 * SECOND == watched.centre.next_deadline()
    assert started.at == watched.told(TalkEnded)[0].at
    assert watched.told(CallHandled) == []


def test_the_saved_note_ends_it(watched: Watched) -> None:
    _, phone = watched.talk()
    watched.board.wait(60)
    watched.board.hang_up(phone)
    watched.see()
    watched.board.wait(12)
    watched.take(watched.centre.end_wrap_up("1001", watched.board.at))
    watched.see()

    ended, handled = watched.told(WrapUpEnded)[0], watched.told(CallHandled)[0]
    assert (ended.ended_by, round(ended.wrapped / SECOND)) == ("saved", 12)
    assert handled.handled == handled.talked + handled.held + handled.wrapped
    assert round(handled.handled / SECOND) == 72
    assert pauses(watched) == [True, False]
    assert [state for state, _ in states(watched)] == ["ringing", "talking", "wrapping_up", "idle"]
    assert watched.centre.next_deadline() is None
    assert watched.centre.end_wrap_up("1001", watched.board.at).facts == ()
    assert watched.centre.end_wrap_up("nobody", watched.board.at).facts == ()


def test_the_cap_ends_it_at_the_cap(watched: Watched) -> None:
    _, phone = watched.talk()
    watched.board.hang_up(phone)
    watched.see()
    watched.board.wait(29)
    assert watched.tick() == []
    watched.board.wait(5)
    watched.tick()

    started, ended = watched.told(WrapUpStarted)[0], watched.told(WrapUpEnded)[0]
    assert (ended.ended_by, ended.at, ended.wrapped) == ("cap", started.until, 30 * SECOND)
    assert watched.state("1001") == "idle"
    assert pauses(watched) == [True, False]


def test_the_agent_ends_it_by_lifting_the_pause_himself(watched: Watched) -> None:
    _, phone = watched.talk()
    watched.board.hang_up(phone)
    watched.see()
    watched.is_obedient = False
    watched.board.wait(3)
    watched.board.pause(SALES, None)
    watched.see()

    assert [fact.ended_by for fact in watched.told(WrapUpEnded)] == ["agent"]
    assert watched.state("1001") == "idle"
    assert states(watched)[-2:] == [("wrapping_up", ""), ("idle", "")]


def test_a_pause_of_his_own_during_the_note_ends_it_and_stays(watched: Watched) -> None:
    _, phone = watched.talk()
    watched.board.hang_up(phone)
    watched.see()
    watched.board.wait(3)
    watched.board.pause(SALES, "lunch")
    watched.see()

    assert [fact.ended_by for fact in watched.told(WrapUpEnded)] == ["agent"]
    assert len(watched.told(CallHandled)) == 1
    assert pauses(watched) == [True]
    assert watched.state("1001") == "paused"
    assert [state for state, _ in states(watched)][-1] == "paused"


def test_a_pause_of_his_own_during_the_call_waits_for_the_note(watched: Watched) -> None:
    _, phone = watched.talk()
    watched.board.pause(SALES, "lunch")
    watched.board.wait(5)
    watched.board.hang_up(phone)
    watched.see()
    assert watched.state("1001") == "wrapping_up"
    watched.board.wait(5)
    watched.take(watched.centre.end_wrap_up("1001", watched.board.at))

    assert watched.state("1001") == "paused"
    assert states(watched)[-1] == ("paused", "lunch")
    assert pauses(watched) == [True]
    assert watched.board.seats["sales", SALES].reason == "lunch"


def test_a_pause_from_before_the_call_is_respected(watched: Watched) -> None:
    caller = watched.board.call()
    watched.board.join(caller, "sales")
    phone = watched.board.ring(caller, SALES)
    watched.board.pause(SALES, "meeting")
    watched.board.answer(phone)
    watched.board.wait(5)
    watched.board.hang_up(phone)
    watched.see()
    assert watched.state("1001") == "wrapping_up"
    watched.take(watched.centre.end_wrap_up("1001", watched.board.at))

    assert pauses(watched) == []
    assert states(watched)[-1] == ("paused", "meeting")


def test_lifting_our_pause_during_the_call_means_no_note(watched: Watched) -> None:
    _, phone = watched.talk()
    watched.board.pause(SALES, None)
    watched.board.wait(5)
    watched.board.hang_up(phone)
    watched.see()

    assert watched.told(WrapUpStarted) == []
    assert [fact.wrapped for fact in watched.told(CallHandled)] == [timedelta(0)]
    assert watched.state("1001") == "idle"
    _, phone = watched.talk()
    watched.board.hang_up(phone)
    watched.see()
    assert len(watched.told(WrapUpStarted)) == 1


def test_a_pause_that_never_came_is_still_lifted(watched: Watched) -> None:
    watched.is_obedient = False
    _, phone = watched.talk()
    watched.board.hang_up(phone)
    watched.see()
    watched.take(watched.centre.end_wrap_up("1001", watched.board.at))

    assert pauses(watched) == [True, False]


def test_the_next_call_ends_the_note_of_the_last(watched: Watched) -> None:
    watched.is_obedient = False
    _, phone = watched.talk()
    watched.board.hang_up(phone)
    watched.see()
    watched.board.wait(4)
    _, phone = watched.talk()

    assert [fact.ended_by for fact in watched.told(WrapUpEnded)] == ["agent"]
    assert watched.state("1001") == "talking"
    watched.board.hang_up(phone)
    watched.see()
    assert len(watched.told(WrapUpStarted)) == 2
    assert watched.state("1001") == "wrapping_up"


def test_a_queue_without_wrap_up_handles_the_call_at_once(watched: Watched) -> None:
    _, phone = watched.talk(queue="support")
    watched.board.hang_up(phone)
    watched.see()

    assert watched.commands == []
    assert len(watched.told(CallHandled)) == 1
    assert watched.state("1001") == "idle"


def test_two_phones_are_both_paused(watched: Watched) -> None:
    watched.board.login("Local/1001@agents", "sales")
    _, phone = watched.talk()
    watched.board.hang_up(phone)
    watched.see()

    assert sorted(command.interface for command in watched.commands if isinstance(command, SetPause)) == [
        "Local/1001@agents",
        SALES,
    ]
    watched.board.logout("Local/1001@agents", "sales")
    assert watched.centre.floor().agents[0].queues == ("sales", "support")


def test_the_pause_stays_while_another_call_needs_it(watched: Watched) -> None:
    _, first = watched.talk()
    _, second = watched.talk(queue="support")
    watched.board.hang_up(second)
    watched.see()
    assert pauses(watched) == [True]
    watched.board.hang_up(first)
    watched.see()
    assert watched.state("1001") == "wrapping_up"
