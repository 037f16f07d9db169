"""Legs of every kind: Local members, late words, names that change."""

from __future__ import annotations

from datetime import timedelta

import pytest

from ctid.acd.facts import CallEnded, CallMerged, CallStarted, Held, TalkEnded, TalkStarted
from ctid.ami import events as ami
from tests.fakes_floor import SALES, Watched

SECOND = timedelta(seconds=1)
LOCAL = "Local/1006@agents"


def local_call(watched: Watched, member: str) -> tuple[str, str, str, str]:
    """A caller, the two halves of a Local member, and the real phone behind it."""
    board = watched.board
    caller = board.call()
    board.join(caller, "sales")
    one, two = board.leg(LOCAL, caller), board.leg(LOCAL, caller)
    board.said.append(ami.LocalBridge(at=board.at, one=one, two=two))
    board.channels[one].caller, board.channels[one].dialled_by = caller, member
    board.said.append(
        ami.AgentCalled(
            **board._in_queue(caller),  # type: ignore[arg-type]
            interface=member,
            dest_uniqueid=one,
        )
    )
    phone = board.leg("PJSIP/1006", caller)
    for dest in (phone, "nobody"):
        board.said.append(
            ami.DialBegin(at=board.at, uniqueid=two, linkedid=caller, dest_channel="", dest_uniqueid=dest)
        )
    board._newstate(phone, "Ringing")
    board._newstate(one, "Ringing")
    board.wait(2)
    board.up(phone)
    board.bridge(phone, two)
    board.answer(one)
    watched.see()
    return caller, one, two, phone


@pytest.mark.parametrize("is_optimised", [True, False])
def test_a_local_member_is_one_talk_on_one_clock(is_optimised: bool) -> None:
    """F32: with the Local channel optimised away, and without."""
    member = LOCAL if is_optimised else f"{LOCAL}/n"
    watched = Watched()
    board = watched.board
    board.login(member, "sales")
    seat = board._seat(board.seats["sales", member])
    board.said.append(
        ami.QueueMemberStatus(**{**seat, "state_interface": "PJSIP/1006", "penalty": 1})  # type: ignore[arg-type]
    )
    caller, one, two, phone = local_call(watched, member)
    if is_optimised:
        board.said.append(ami.LocalOptimizationBegin(at=board.at, one=one, two=two, source_uniqueid=phone))
        board.bridge(phone, name=board.channels[caller].bridge)
        board.wants_to_go(two)
        board.gone(one)
        board.gone(two)
    board.wait(5)
    board.hold(phone)
    board.wait(3)
    board.unhold(phone)
    board.wait(2)
    board.wants_to_go(phone)
    board.unbridge(phone)
    board.gone(phone)
    for leg in (one, two, caller):
        if leg in board.channels:
            board.gone(leg)
    watched.see()

    assert [(fact.agent, fact.leg, fact.queue) for fact in watched.told(TalkStarted)] == [
        ("1006", one, "sales")
    ]
    ended = watched.told(TalkEnded)[0]
    assert (round(ended.talked / SECOND), round(ended.held / SECOND)) == (7, 3)
    assert (ended.ended_by, ended.leg, len(watched.told(Held))) == ("agent", one, 1)
    assert watched.state("1006") == "idle"
    assert watched.told(CallEnded)[0].participants == ("PJSIP/1006", "PJSIP/trunk")


def test_an_optimised_local_channel_that_carries_no_talk_changes_none() -> None:
    """F32: no participant is lost or won by it."""
    watched = Watched()
    watched.board.login(SALES, "sales")
    _, phone = watched.talk()
    watched.board.said.append(
        ami.LocalOptimizationBegin(at=watched.board.at, one=phone, two="x", source_uniqueid="nobody")
    )
    watched.board.hang_up(phone)
    watched.see()
    assert [fact.leg for fact in watched.told(TalkEnded)] == [phone]


def test_late_words_about_a_leg_that_is_gone_say_nothing() -> None:
    watched = Watched()
    board = watched.board
    board.login(SALES, "sales")
    watched.snapshot()
    caller, phone = watched.talk()
    board.hang_up(caller)
    watched.see()
    facts = len(watched.facts)
    head = {"at": board.at, "channel": "PJSIP/x-1", "uniqueid": phone, "linkedid": caller}
    queued = {**head, "queue": "sales"}
    late = [
        ami.Newchannel(**head),
        ami.Newstate(**head, state="Up"),
        ami.HangupRequest(**head),
        ami.Hangup(**head),
        ami.BridgeEnter(**head, bridge="b"),
        ami.BridgeLeave(**head, bridge="b"),
        ami.Hold(**head),
        ami.Unhold(**head),
        ami.MixMonitorStart(**head),
        ami.QueueCallerJoin(**queued),
        ami.QueueCallerLeave(**queued),
        ami.AgentCalled(**queued, interface=SALES, dest_uniqueid="x"),
        ami.AgentConnect(**queued, interface=SALES, dest_uniqueid="x"),
        ami.AgentRingNoAnswer(**queued, interface=SALES, dest_uniqueid="x"),
        ami.QueueStatusVariable(**head, variable="QUEUESTATUS", value="TIMEOUT"),
    ]
    for event in late:  # type: ignore[attr-defined]
        watched.take(watched.centre.receive(event))
    assert len(watched.facts) == facts


def test_a_leg_can_be_born_up_and_be_moved_from_bridge_to_bridge() -> None:
    watched = Watched()
    board = watched.board
    board.login(SALES, "sales")
    board.said.append(
        ami.Newchannel(at=board.at, channel="PJSIP/1001-1", uniqueid="a", linkedid="a", state="Up")
    )
    assert watched.state("1001") == "talking"
    for bridge in ("one", "two", "two"):
        board.said.append(
            ami.BridgeEnter(at=board.at, channel="PJSIP/1001-1", uniqueid="a", linkedid="a", bridge=bridge)
        )
    board.said.append(ami.Rename(at=board.at, uniqueid="a", newname="PJSIP/trunk-9"))
    board.said.append(
        ami.BridgeLeave(at=board.at, channel="PJSIP/trunk-9", uniqueid="a", linkedid="a", bridge="one")
    )
    watched.see()
    assert watched.centre._tables.bridges == {"two": {"a"}}
    assert watched.told(TalkStarted) == []


def test_a_hangup_tells_of_a_merge_as_well() -> None:
    watched = Watched()
    board = watched.board
    one, two = board.call("1"), board.call("2")
    board.bridge(two)
    watched.see()
    board.channels[two].linkedid = one
    board.channels[two].bridge = ""
    board.gone(two)
    board.gone(one)
    watched.see()
    assert [(fact.call, fact.merged) for fact in watched.told(CallMerged)] == [(one, two)]
    assert [fact.call for fact in watched.told(CallEnded)] == [two, one]


def test_a_call_without_substance_merges_without_a_word() -> None:
    watched = Watched()
    board = watched.board
    quiet = board.call("1")
    board.channels[quiet].linkedid = "elsewhere"
    board.up(quiet)
    board.gone(quiet)
    watched.see()
    assert watched.told(CallMerged) == []
    assert [(fact.call, fact.adopted) for fact in watched.told(CallStarted)] == [("elsewhere", True)]


def test_legs_merge_one_by_one() -> None:
    watched = Watched()
    board = watched.board
    first, old = board.call("1"), board.call("2")
    second = board.leg("PJSIP/9", old)
    board.bridge(old, second)
    board.bridge(first)
    for leg in (old, second):
        board.channels[leg].linkedid = first
        board.up(leg)
    watched.see()
    assert [(fact.call, fact.merged) for fact in watched.told(CallMerged)] == [(first, old)]
    assert [fact.call for fact in watched.told(CallEnded)] == [old]


def test_states_that_mean_nothing_to_us() -> None:
    watched = Watched()
    caller = watched.board.call()
    watched.see()
    watched.board._newstate(caller, "Dialing Offhook")
    assert watched.see() == []


def test_a_phone_whose_birth_was_not_heard_still_rings_and_talks_to_its_end() -> None:
    watched = Watched()
    board = watched.board
    board.login(SALES, "sales")
    caller = board.call()
    board.join(caller, "sales")
    watched.see()
    phone = board.ring(caller, SALES)
    said = board.take()
    for event in said:
        if not isinstance(event, ami.Newchannel):
            watched.take(watched.centre.receive(event))
    assert watched.state("1001") == "ringing"
    board.answer(phone)
    board.hang_up(phone)
    watched.see()
    assert [fact.ended_by for fact in watched.told(TalkEnded)] == ["agent"]
    assert watched.state("1001") == "idle"
