"""What a snapshot corrects, and what it must leave alone."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctid.acd.facts import (
    AgentStateChanged,
    Anomaly,
    CallEnded,
    CallerJoined,
    CallerLeft,
    CallHandled,
    CallStarted,
    OfferEnded,
    RecordingStopped,
    RequestSnapshot,
    Resynchronised,
    SetPause,
    TalkEnded,
    TalkStarted,
    WrapUpEnded,
    WrapUpStarted,
)
from ctid.acd.rules import QueueRule
from ctid.ami.events import LinkLost
from tests.fakes_floor import SALES, SUPPORT, WITH_NOTE, Watched

SECOND = timedelta(seconds=1)


def corrections(watched: Watched) -> list[int]:
    return [fact.corrections for fact in watched.told(Resynchronised)]


def busy_floor() -> Watched:
    """Somebody waits, somebody is rung for, somebody talks, somebody is paused."""
    watched = Watched({"sales": WITH_NOTE})
    board = watched.board
    board.login(SALES, "sales", "support")
    board.login(SUPPORT, "sales")
    board.login("PJSIP/1003", "support")
    board.pause("PJSIP/1003", "lunch")
    watched.talk()
    rung = board.call("2")
    board.join(rung, "sales")
    board.ring(rung, SUPPORT)
    board.join(board.call("3"), "support")
    board.wait(10)
    return watched


def test_a_snapshot_right_after_live_events_corrects_nothing() -> None:
    watched = busy_floor()
    watched.snapshot()
    facts = len(watched.facts)
    watched.board.wait(6)
    watched.snapshot()

    assert corrections(watched) == [0, 0]
    assert len(watched.facts) == facts + 1
    assert not [command for command in watched.commands if isinstance(command, RequestSnapshot)]


def test_a_snapshot_tells_everything_to_who_came_late() -> None:
    told = busy_floor()
    told.see()
    late = Watched({"sales": WITH_NOTE})
    late.board = told.board
    late.snapshot()

    assert {fact.adopted for fact in late.told(CallStarted)} == {True}
    assert len(late.told(CallStarted)) == 3
    assert sorted((fact.queue, fact.at, fact.joined_at) for fact in late.told(CallerJoined)) == sorted(
        (fact.queue, fact.joined_at, fact.joined_at) for fact in late.told(CallerJoined)
    )
    for ours, theirs in zip(late.told(CallerJoined), told.told(CallerJoined)[1:], strict=True):
        assert abs(ours.joined_at - theirs.joined_at) <= SECOND
        assert (ours.queue, ours.leg, ours.caller_number) == (theirs.queue, theirs.leg, theirs.caller_number)
    assert {agent: late.state(agent) for agent in ("1001", "1002", "1003")} == {
        "1001": "talking",
        "1002": "ringing",
        "1003": "paused",
    }
    late.board.wait(6)
    late.snapshot()
    assert corrections(late)[-1] == 0


def test_a_caller_rung_for_before_we_listened_is_answered_not_gone() -> None:
    """F25: leaving without a known ringing is the exit key, unless DialEnd says that he was answered."""
    watched = Watched()
    board = watched.board
    board.login(SALES, "sales")
    caller = board.call()
    board.join(caller, "sales")
    phone = board.ring(caller, SALES)
    board.wait(5)
    board.take()
    watched.snapshot()
    board.wait(1)
    board.answer(phone)
    watched.see()
    (left,) = watched.told(CallerLeft)
    assert (left.outcome, left.agent) == ("answered", "1001")
    assert watched.told(Anomaly) == []


def test_an_adopted_talk_has_its_wrap_up_but_no_handle_time() -> None:
    told = busy_floor()
    told.see()
    late = Watched({"sales": WITH_NOTE})
    late.board = told.board
    late.snapshot()
    talking = late.told(TalkStarted)[0]
    assert (talking.agent, talking.queue) == ("1001", "sales")

    late.board.wait(5)
    late.board.hang_up(talking.leg)
    late.see()
    assert [fact.ended_by for fact in late.told(TalkEnded)] == ["agent"]
    assert [fact.agent for fact in late.told(WrapUpStarted)] == ["1001"]
    late.board.wait(31)
    late.tick()
    assert [fact.ended_by for fact in late.told(WrapUpEnded)] == ["cap"]
    assert late.told(CallHandled) == []


def test_what_ended_while_nobody_listened_ends_unseen_with_the_last_sign_of_life() -> None:
    """F09: closed by two lists, at the last evidence."""
    watched = busy_floor()
    watched.see()
    lost_at = watched.board.at
    watched.centre.receive(LinkLost(at=lost_at, why="test"))
    watched.board.wait(60)
    for uniqueid in list(watched.board.channels):
        watched.board.channels.pop(uniqueid)
    watched.board.take()
    watched.snapshot()
    assert watched.told(CallEnded) == []
    assert isinstance(watched.commands[-1], RequestSnapshot)
    watched.board.wait(6)
    watched.snapshot()

    ended = watched.told(CallEnded)
    assert {(fact.end_reason, fact.at) for fact in ended} == {("unseen", lost_at)}
    assert len(ended) == 3
    assert {(fact.outcome, fact.at) for fact in watched.told(CallerLeft)[1:]} == {("unknown_end", lost_at)}
    assert [fact.outcome for fact in watched.told(OfferEnded)] == ["answered", "unknown_end"]
    assert [fact.ended_by for fact in watched.told(TalkEnded)] == ["unknown_end"]
    assert watched.told(CallHandled) == []
    assert watched.state("1001") == "idle"


def test_a_leg_heard_of_between_two_snapshots_is_alive() -> None:
    watched = Watched()
    caller = watched.board.call()
    watched.board.join(caller, "sales")
    watched.board.wait(10)
    watched.see()
    hidden = watched.board.channels.pop(caller)
    watched.snapshot()
    watched.board.channels[caller] = hidden
    watched.board.wait(3)
    watched.board.up(caller)
    watched.see()
    watched.board.channels.pop(caller)
    watched.board.wait(3)
    watched.snapshot()
    assert watched.told(CallEnded) == []
    watched.board.wait(6)
    watched.snapshot()
    assert [fact.end_reason for fact in watched.told(CallEnded)] == ["unseen"]


def test_a_new_boot_closes_everything_as_lost() -> None:
    watched = busy_floor()
    watched.board.tell(next(iter(watched.board.channels)), "CtidCall", recording="uuid", line="hotline")
    watched.see()
    lost_at = watched.board.at
    watched.snapshot()
    watched.centre.receive(LinkLost(at=lost_at + SECOND, why="test"))
    board = watched.board
    board.channels.clear()
    board.wait(30)
    board.boot = board.at - 5 * SECOND
    watched.snapshot()

    assert {(fact.end_reason, fact.at) for fact in watched.told(CallEnded)} == {
        ("asterisk_lost", lost_at + SECOND)
    }
    assert {fact.outcome for fact in watched.told(CallerLeft)} == {"answered", "unknown_end"}
    assert watched.centre.floor().calls == ()
    assert watched.told(RecordingStopped) == []
    assert watched.told(Anomaly) == []


def test_an_event_younger_than_the_snapshot_outweighs_it() -> None:
    watched = busy_floor()
    watched.snapshot()
    watched.board.wait(6)
    watched.see()
    old = watched.board.snapshot()
    watched.board.wait(0.5)
    watched.board.pause("PJSIP/1003", None)
    watched.board.pause(SUPPORT, "late")
    for channel in list(watched.board.channels.values()):
        if channel.queue == "support":
            watched.board.hang_up(channel.uniqueid)
    watched.board.login("PJSIP/1004", "sales")
    young = watched.board.call("4")
    watched.board.join(young, "sales")
    watched.see()
    facts = len(watched.facts)
    watched.take(watched.centre.receive(old))

    assert corrections(watched)[-1] == 0
    assert len(watched.facts) == facts + 1
    assert watched.state("1003") == "idle"


def test_a_newborn_is_left_to_its_own_event() -> None:
    watched = busy_floor()
    watched.snapshot()
    watched.board.wait(6)
    watched.see()
    watched.board.join(watched.board.call("5"), "sales")
    coming = watched.board.take()
    watched.board.wait(0.1)
    watched.take(watched.centre.receive(watched.board.snapshot()))
    assert corrections(watched)[-1] == 0

    for event in coming:
        watched.take(watched.centre.receive(event))
    assert [fact.adopted for fact in watched.told(CallStarted)][-1] is False


def test_a_missed_member_a_missed_pause_and_a_missed_log_out_are_corrected() -> None:
    """F10, F29: Asterisk is right about who is a member and who is paused."""
    watched = busy_floor()
    watched.snapshot()
    board = watched.board
    board.wait(6)
    board.pause("PJSIP/1003", "meeting")
    board.login("PJSIP/1005", "sales")
    board.logout(SUPPORT, "sales")
    board.take()
    board.wait(1)
    watched.snapshot()

    assert corrections(watched)[-1] == 3
    last = {fact.agent: fact for fact in watched.told(AgentStateChanged)}
    assert (last["1003"].state, last["1003"].reason) == ("paused", "meeting")
    assert last["1005"].state == "idle"
    assert last["1002"].queues == ()


def test_a_missed_answer_is_an_unknown_end_and_a_talk_without_beginning() -> None:
    watched = Watched()
    board = watched.board
    board.login(SALES, "sales")
    watched.snapshot()
    caller = board.call()
    board.join(caller, "sales")
    phone = board.ring(caller, SALES)
    watched.see()
    watched.centre.receive(LinkLost(at=board.at, why="test"))
    board.wait(5)
    board.answer(phone)
    board.take()
    board.wait(5)
    watched.snapshot()
    assert [fact.outcome for fact in watched.told(OfferEnded)] == ["unknown_end"]
    assert [fact.queue for fact in watched.told(TalkStarted)] == ["sales"]
    board.wait(6)
    watched.snapshot()

    assert [fact.outcome for fact in watched.told(CallerLeft)] == ["unknown_end"]
    assert watched.state("1001") == "talking"
    assert watched.told(CallEnded) == []


def test_a_missed_move_to_another_queue_ends_one_stay_and_begins_another() -> None:
    watched = Watched()
    board = watched.board
    caller = board.call()
    board.join(caller, "sales")
    watched.snapshot()
    watched.centre.receive(LinkLost(at=board.at, why="test"))
    board.wait(20)
    board.leave(caller, "TIMEOUT")
    board.join(caller, "support")
    board.take()
    board.wait(5)
    watched.snapshot()

    assert [(fact.queue, fact.outcome) for fact in watched.told(CallerLeft)] == [("sales", "unknown_end")]
    assert [fact.queue for fact in watched.told(CallerJoined)] == ["sales", "support"]


def test_a_missed_bridge_is_seen_and_a_missed_merge_too() -> None:
    """F31: a transfer that nobody watched."""
    watched = Watched()
    board = watched.board
    board.login(SALES, "sales")
    caller, phone = watched.talk()
    watched.snapshot()
    watched.centre.receive(LinkLost(at=board.at, why="test"))
    board.unbridge(phone)
    other = board.leg("PJSIP/1002")
    board.up(other)
    board.channels[phone].linkedid = other
    board.bridge(phone, other)
    board.take()
    board.wait(9)
    watched.snapshot()
    floor = watched.centre.floor()

    assert {call.call for call in floor.calls} == {caller, other}
    board.wait(6)
    watched.snapshot()
    assert corrections(watched)[-1] == 0


def test_spying_legs_are_never_calls() -> None:
    """F33: not even when they are only seen in a list."""
    watched = Watched()
    board = watched.board
    spy = board.leg("PJSIP/1010")
    board.channels[spy].application = "ChanSpy"
    listed = board.snapshot()
    board.take()
    spied = [
        channel.__class__(
            channel=channel.channel,
            uniqueid=channel.uniqueid,
            linkedid=channel.linkedid,
            state="Up",
            application="ChanSpy",
        )
        for channel in listed.channels
    ]
    watched.take(watched.centre.receive(listed.__class__(**{**_fields(listed), "channels": tuple(spied)})))
    board.gone(spy)
    watched.see()

    assert watched.told(CallStarted) == []
    assert watched.told(CallEnded) == []


def test_a_second_line_of_an_agent_who_talks_is_no_second_talk() -> None:
    watched = Watched()
    board = watched.board
    board.login(SALES, "sales")
    watched.talk()
    watched.snapshot()
    watched.centre.receive(LinkLost(at=board.at, why="test"))
    own, other = board.leg(SALES), board.leg(SUPPORT)
    for leg in (own, other):
        board.up(leg)
    board.bridge(own, other)
    board.take()
    board.wait(5)
    watched.snapshot()
    assert len(watched.told(TalkStarted)) == 1
    assert watched.state("1001") == "talking"


def test_who_left_the_queue_since_is_not_brought_back() -> None:
    watched = Watched()
    board = watched.board
    caller = board.call()
    board.join(caller, "sales")
    board.wait(9)
    watched.see()
    old = board.snapshot()
    board.wait(0.1)
    board.leave(caller, "TIMEOUT")
    watched.see()
    watched.take(watched.centre.receive(old))
    assert len(watched.told(CallerJoined)) == 1
    assert [fact.outcome for fact in watched.told(CallerLeft)] == ["timeout"]


def _fields(snapshot: object) -> dict[str, object]:
    return {name: getattr(snapshot, name) for name in snapshot.__struct_fields__}  # type: ignore[attr-defined]


@pytest.mark.parametrize(("cap", "state"), [(30, "wrapping_up"), (0, "idle")])
def test_our_own_pause_left_over_from_before_a_restart_is_lifted(cap: int, state: str) -> None:
    """F29: nobody stays paused because ctid forgot that it was its own doing."""
    watched = Watched({"sales": QueueRule(wrap_up=cap * SECOND)})
    board = watched.board
    board.login(SALES, "sales")
    board.pause(SALES, "ctid:wrap-up")
    board.take()
    board.wait(3)
    watched.snapshot()
    watched.tick()
    assert watched.state("1001") == state
    board.wait(31)
    watched.tick()

    assert watched.state("1001") == "idle"
    assert [command.paused for command in watched.commands if isinstance(command, SetPause)] == [False]
    assert watched.told(WrapUpEnded) == []
    assert not board.seats["sales", SALES].paused


def test_a_pause_that_was_not_lifted_is_lifted_again() -> None:
    watched = Watched({"sales": WITH_NOTE})
    board = watched.board
    board.login(SALES, "sales")
    watched.snapshot()
    _, phone = watched.talk()
    board.hang_up(phone)
    watched.see()
    watched.is_obedient = False
    watched.take(watched.centre.end_wrap_up("1001", board.at))
    board.wait(1)
    watched.snapshot()
    assert len([command for command in watched.commands if isinstance(command, SetPause)]) == 2
    watched.is_obedient = True
    board.wait(5)
    watched.snapshot()

    assert [command.paused for command in watched.commands if isinstance(command, SetPause)] == [
        True,
        False,
        False,
    ]
    assert not board.seats["sales", SALES].paused


def test_a_pause_that_was_lost_with_the_link_is_asked_for_again() -> None:
    watched = Watched({"sales": WITH_NOTE})
    board = watched.board
    board.login(SALES, "sales")
    watched.snapshot()
    watched.is_obedient = False
    watched.talk()
    watched.centre.receive(LinkLost(at=board.at, why="test"))
    watched.is_obedient = True
    board.wait(3)
    watched.snapshot()
    board.wait(6)
    watched.snapshot()

    assert [command.paused for command in watched.commands if isinstance(command, SetPause)] == [True, True]
    assert board.seats["sales", SALES].reason == "ctid:wrap-up"


@settings(max_examples=30, deadline=None)
@given(st.integers(min_value=0, max_value=60))
def test_a_gap_anywhere_ends_with_the_same_floor(cut: int) -> None:
    """F08: Whatever part of the stream is missed: after two snapshots we see what Asterisk sees."""
    full, gapped = Watched({"sales": WITH_NOTE}), Watched({"sales": WITH_NOTE})
    full.is_obedient = gapped.is_obedient = False
    full.board = gapped.board = board = busy_floor().board
    board.hang_up(next(one.uniqueid for one in board.channels.values() if one.state == "Up"))
    board.answer(next(one.uniqueid for one in board.channels.values() if one.state == "Ringing"))
    said = board.take()
    for number, event in enumerate(said):
        full.take(full.centre.receive(event))
        if number < cut:
            gapped.take(gapped.centre.receive(event))
        elif number == cut:
            gapped.centre.receive(LinkLost(at=event.at, why="test"))
    for _ in range(3):
        board.wait(10)
        full.snapshot()
        gapped.snapshot()

    ours, theirs = gapped.centre.floor(), full.centre.floor()
    assert {call.call for call in ours.calls} == {call.call for call in theirs.calls}
    assert [[one.leg for one in queue.waiting] for queue in ours.queues] == [
        [one.leg for one in queue.waiting] for queue in theirs.queues
    ]
    states = {view.agent: view.state for view in theirs.agents if view.state != "wrapping_up"}
    assert {view.agent: view.state for view in ours.agents if view.agent in states} == states
