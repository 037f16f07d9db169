"""Whole calls through the whole floor: what the recorded traces do not show."""

from __future__ import annotations

from datetime import timedelta

import pytest

from ctid.acd.centre import Centre
from ctid.acd.facts import (
    AgentStateChanged,
    Anomaly,
    CallEnded,
    CallerJoined,
    CallerLeft,
    CallHandled,
    CallMerged,
    CallRouted,
    CallStarted,
    Held,
    OfferEnded,
    OfferMade,
    RecordingMuted,
    RecordingStarted,
    RecordingStopped,
    RecordingUnmuted,
    RequestSnapshot,
    Resumed,
    TalkEnded,
    TalkStarted,
    Transferred,
    WrapUpStarted,
)
from ctid.acd.rules import QueueRule
from ctid.ami import events as ami
from tests.fakes_floor import SALES, SUPPORT, WITH_NOTE, Watched

SECOND = timedelta(seconds=1)


@pytest.fixture
def watched() -> Watched:
    watched = Watched()
    watched.board.login(SALES, "sales")
    watched.board.login(SUPPORT, "sales", "support")
    watched.snapshot()
    return watched


def offers(watched: Watched) -> list[tuple[str, str]]:
    return [(fact.agent, fact.outcome) for fact in watched.told(OfferEnded)]


def outcomes(watched: Watched) -> list[tuple[str, str]]:
    return [(fact.queue, fact.outcome) for fact in watched.told(CallerLeft)]


# -- waiting and leaving ------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        ("TIMEOUT", "timeout"),
        ("LEAVEEMPTY", "leave_empty"),
        ("LEAVEUNAVAIL", "leave_empty"),
        ("WITHDRAW", "withdrawn"),
        ("KEY", "exit_key"),
    ],
)
def test_leaving_is_no_abandon(watched: Watched, status: str, outcome: str) -> None:
    caller = watched.board.call()
    watched.board.join(caller, "sales")
    watched.board.wait(40)
    watched.board.leave(caller, status)
    watched.board.wait(3)
    watched.board.hang_up(caller)
    watched.see()

    left = watched.told(CallerLeft)
    assert [(fact.outcome, fact.in_time) for fact in left] == [(outcome, False)]
    assert abs(left[0].waited - 40 * SECOND) < SECOND


def test_hung_up_by_asterisk_while_waiting_counts_as_abandoned_as_in_queue_log(watched: Watched) -> None:
    caller = watched.board.call()
    watched.board.join(caller, "sales")
    watched.board.wait(30)
    watched.board.leave(caller)
    watched.board.gone(caller)
    watched.see()
    assert outcomes(watched) == [("sales", "abandoned")]


def test_redirected_while_waiting(watched: Watched) -> None:
    """F33: Redirect takes a caller out of his queue."""
    for move in ("queue", "dial", "bridge", "join at once"):
        caller = watched.board.call()
        watched.board.join(caller, "sales")
        watched.board.wait(5)
        if move != "join at once":
            watched.board.leave(caller)
        if move in ("queue", "join at once"):
            watched.board.join(caller, "support")
            watched.board.leave(caller, "TIMEOUT")
        elif move == "dial":
            watched.board.channels[caller].queue = "sales"
            other = watched.board.leg("PJSIP/9", caller)
            watched.board.said.append(
                ami.DialBegin(
                    at=watched.board.at,
                    uniqueid=caller,
                    linkedid=caller,
                    dest_channel="",
                    dest_uniqueid=other,
                )
            )
        else:
            watched.board.bridge(caller)
        watched.see()
        assert watched.told(CallerLeft)[-1 if "i" in move and move != "join at once" else -2].outcome == (
            "redirected"
        )
    assert {outcome for _, outcome in outcomes(watched)} == {"redirected", "timeout"}


def test_an_overflow_is_not_a_transfer_but_queueing_after_a_talk_is(watched: Watched) -> None:
    """F31: into another queue."""
    caller, phone = watched.talk()
    watched.board.said.append(
        ami.BlindTransfer(
            at=watched.board.at, result="Success", transferer=phone, transferee=caller, extension="5002"
        )
    )
    watched.board.gone(phone)
    watched.board.unbridge(caller)
    watched.board.join(caller, "support")
    watched.board.leave(caller, "TIMEOUT")
    watched.board.join(caller, "sales")
    watched.board.hang_up(caller)
    watched.see()

    assert [fact.source for fact in watched.told(CallerJoined)] == ["inbound", "transfer", "transfer"]
    assert [(fact.kind, fact.target) for fact in watched.told(Transferred)] == [("blind", "5002")]
    assert [fact.ended_by for fact in watched.told(TalkEnded)] == ["transfer"]
    assert outcomes(watched) == [("sales", "answered"), ("support", "timeout"), ("sales", "abandoned")]


def test_the_dialplan_alone_may_tell_how_the_wait_ended(watched: Watched) -> None:
    caller = watched.board.call()
    watched.board.join(caller, "sales")
    watched.board.leave(caller)
    watched.board.tell(caller, "QueueExit", queue="sales", status="TIMEOUT")
    watched.see()
    assert outcomes(watched) == [("sales", "timeout")]


def test_two_phones_picked_up_at_once_and_one_gets_the_caller(watched: Watched) -> None:
    board = watched.board
    caller = board.call()
    board.join(caller, "sales")
    loser, winner = board.ring(caller, SALES), board.ring(caller, SUPPORT)
    board.up(loser)
    board.up(winner)
    board.connect(winner)
    board.gone(loser, 26)
    watched.see()
    assert offers(watched) == [("1002", "answered"), ("1001", "answered_elsewhere")]
    assert (watched.state("1001"), watched.state("1002")) == ("idle", "talking")


def test_turned_away_at_the_door(watched: Watched) -> None:
    caller = watched.board.call()
    watched.board.tell(caller, "QueueExit", queue="full", status="FULL")
    watched.board.tell(caller, "QueueExit", queue="full", status="CONTINUE")
    watched.board.tell(caller, "ExitKey", queue="full")
    watched.see()
    left = watched.told(CallerLeft)[0]
    assert (left.outcome, left.waited, left.in_time, left.short) == ("full", timedelta(0), None, False)
    assert len(watched.told(CallerLeft)) == 1


def test_priority_goes_ahead_and_positions_close_up(watched: Watched) -> None:
    callers = [watched.board.call(str(number)) for number in range(5)]
    for caller in callers[:3]:
        watched.board.join(caller, "sales")
    watched.board.join(callers[3], "sales", position=1)
    watched.board.join(callers[4], "sales", position=3)
    watched.see()

    def waiting() -> list[tuple[str, int]]:
        queue = next(view for view in watched.centre.floor().queues if view.queue == "sales")
        return [(one.caller_number, one.position) for one in queue.waiting]

    assert waiting() == [("3", 1), ("0", 2), ("4", 3), ("1", 4), ("2", 5)]
    watched.board.hang_up(callers[0])
    watched.see()
    assert waiting() == [("3", 1), ("4", 2), ("1", 3), ("2", 4)]


# -- ringing ------------------------------------------------------------------


def test_refused_by_cause(watched: Watched) -> None:
    caller = watched.board.call()
    watched.board.join(caller, "sales")
    for cause in (17, 21, 38, 19):
        watched.board.refuse(watched.board.ring(caller, SALES), cause)
    watched.board.refuse(watched.board.ring(caller, SALES, signal=False), 3)
    watched.see()
    assert [outcome for _, outcome in offers(watched)] == [
        "declined",
        "declined",
        "declined",
        "no_answer",
        "unreachable",
    ]


def test_called_off_by_whom(watched: Watched) -> None:
    board = watched.board
    caller = board.call()
    board.join(caller, "sales")
    board.ring(caller, SALES)
    board.answer(board.ring(caller, SUPPORT))
    impatient = board.call()
    board.join(impatient, "sales")
    board.ring(impatient, SALES)
    board.hang_up(impatient)
    leaving = board.call()
    board.join(leaving, "sales")
    board.ring(leaving, SALES)
    board.leave(leaving, "KEY")
    watched.see()
    assert offers(watched) == [
        ("1001", "answered_elsewhere"),
        ("1002", "answered"),
        ("1001", "cancelled_by_caller"),
        ("1001", "cancelled"),
    ]


@pytest.mark.parametrize(
    ("cause", "outcome"), [(26, "answered_elsewhere"), (16, "cancelled"), (0, "cancelled")]
)
def test_a_leg_hung_up_without_a_word_ends_its_offer(watched: Watched, cause: int, outcome: str) -> None:
    caller = watched.board.call()
    watched.board.join(caller, "sales")
    watched.board.gone(watched.board.ring(caller, SALES), cause)
    watched.see()
    assert offers(watched) == [("1001", outcome)]
    assert watched.state("1001") == "idle"


def test_a_refusal_known_by_the_legs_end_only(watched: Watched) -> None:
    caller = watched.board.call()
    watched.board.join(caller, "sales")
    phone = watched.board.ring(caller, SALES)
    watched.board.wants_to_go(phone, 21)
    watched.board.gone(phone, 21)
    watched.see()
    assert offers(watched) == [("1001", "declined")]


def test_busy_is_said_by_dial_end_too(watched: Watched) -> None:
    caller = watched.board.call()
    watched.board.join(caller, "sales")
    phone = watched.board.ring(caller, SALES)
    watched.board.said.append(
        ami.DialEnd(
            at=watched.board.at, uniqueid=caller, dest_channel="", dest_uniqueid=phone, dial_status="BUSY"
        )
    )
    watched.see()
    assert offers(watched) == [("1001", "declined")]


def test_caller_goes_while_the_agent_hears_the_announcement(watched: Watched) -> None:
    caller = watched.board.call()
    watched.board.join(caller, "sales")
    phone = watched.board.ring(caller, SALES)
    watched.board.picked_up(phone)
    assert watched.state("1001") == "talking"
    watched.board.wait(3)
    watched.board.wants_to_go(caller)
    watched.board.leave(caller)
    watched.board.gone(phone)
    watched.board.gone(caller)
    watched.see()

    assert outcomes(watched) == [("sales", "abandoned")]
    assert offers(watched) == [("1001", "cancelled_by_caller")]
    assert watched.told(TalkStarted) == []
    assert watched.state("1001") == "idle"


def test_agent_goes_during_the_announcement_and_the_caller_waits_on(watched: Watched) -> None:
    caller = watched.board.call()
    watched.board.join(caller, "sales")
    phone = watched.board.ring(caller, SALES)
    watched.board.picked_up(phone)
    watched.board.gone(phone)
    watched.board.wait(1)
    again = watched.board.ring(caller, SUPPORT)
    watched.see()
    queue = watched.centre.floor().queues[0]
    assert [one.ringing for one in queue.waiting] == [("1002",)]
    watched.board.answer(again)
    watched.see()
    assert outcomes(watched) == [("sales", "answered")]


def test_the_wait_ends_when_the_phone_is_picked_up(watched: Watched) -> None:
    caller = watched.board.call()
    watched.board.join(caller, "sales")
    phone = watched.board.ring(caller, SALES)
    watched.board.wait(4)
    watched.board.picked_up(phone)
    watched.board.wait(6)  # announcement to the agent
    watched.board.connect(phone)
    watched.see()

    left, talk = watched.told(CallerLeft)[0], watched.told(TalkStarted)[0]
    assert abs(left.waited - 4 * SECOND) < SECOND / 10
    assert talk.at == left.at == watched.told(OfferEnded)[0].at


def test_a_call_picked_up_by_another_phone_is_his(watched: Watched) -> None:
    """F33: pickup; the talk is his who took it."""
    caller = watched.board.call()
    watched.board.join(caller, "sales")
    phone = watched.board.ring(caller, SALES)
    assert watched.state("1001") == "ringing"
    for name in ("PJSIP/1001-1<MASQ>", "PJSIP/1002-0000ffff"):
        watched.board.said.append(ami.Rename(at=watched.board.at, uniqueid=phone, newname=name))
    watched.board.channels[phone].name = "PJSIP/1002-0000ffff"
    watched.board.said.append(ami.Rename(at=watched.board.at, uniqueid="nobody", newname="PJSIP/1-1"))
    watched.board.said.append(ami.Rename(at=watched.board.at, uniqueid=caller, newname="PJSIP/other-1"))
    assert watched.state("1002") == "ringing"
    assert watched.state("1001") == "idle"
    watched.board.answer(phone)
    watched.see()

    assert [(fact.agent, fact.interface) for fact in watched.told(TalkStarted)] == [("1002", SUPPORT)]
    assert watched.state("1002") == "talking"
    watched.board.said.append(ami.Rename(at=watched.board.at, uniqueid=phone, newname="PJSIP/1001-0000aaaa"))
    assert (watched.state("1001"), watched.state("1002")) == ("talking", "idle")


def test_a_customer_put_in_the_place_of_his_agent_frees_the_agent(watched: Watched) -> None:
    """Transferred while the second queue still rings: his channel takes over the waiting leg."""
    board = watched.board
    own = board.leg(SALES)
    board.up(own)
    board.join(own, "support")
    assert watched.state("1001") == "talking"
    board.channels[own].name = "PJSIP/trunk-000000ff"
    board.said.append(ami.Rename(at=board.at, uniqueid=own, newname="PJSIP/trunk-000000ff"))
    assert watched.state("1001") == "idle"
    board.answer(board.ring(own, SUPPORT))
    watched.see()
    assert [fact.agent for fact in watched.told(TalkStarted)] == ["1002"]
    board.hang_up(own)
    watched.see()
    assert watched.centre._tables.phones_up == {}


# -- talking ------------------------------------------------------------------


def test_holds_are_counted_and_an_open_one_lasts_to_the_end(watched: Watched) -> None:
    board = watched.board
    caller, phone = watched.talk()
    board.hold(caller)  # the caller's own hold is none of the agent's
    board.unhold(phone)
    for pause in (3, 5):
        board.wait(10)
        board.hold(phone)
        board.hold(phone)
        board.wait(pause)
        if pause == 3:
            board.unhold(phone)
    watched.see()
    assert watched.centre.floor().agents[0].is_holding
    board.hang_up(caller)
    watched.see()

    ended = watched.told(TalkEnded)[0]
    assert (round(ended.talked / SECOND), round(ended.held / SECOND), ended.holds) == (20, 8, 2)
    assert ended.ended_by == "caller"
    assert (len(watched.told(Held)), len(watched.told(Resumed))) == (2, 1)


def consult(watched: Watched, first: str, queue: str = "") -> tuple[str, str]:
    """Agent 1001 holds his caller and calls 1002, directly or through a queue."""
    board = watched.board
    board.hold(first)
    own = board.leg(SALES, exten="1002")
    board.up(own)
    if queue:
        board.join(own, queue)
        colleague = board.ring(own, SUPPORT)
        board.wait(2)
        board.answer(colleague)
    else:
        colleague = board.leg(SUPPORT, own)
        board.channels[colleague].caller = own
        board.said.append(
            ami.DialBegin(at=board.at, uniqueid=own, linkedid=own, dest_channel="", dest_uniqueid=colleague)
        )
        board.up(colleague)
        board.bridge(colleague, own)
    board.wait(20)
    watched.see()
    return own, colleague


def complete(watched: Watched, caller: str, first: str, own: str, colleague: str) -> None:
    """Agent 1001 joins the two and is out."""
    board = watched.board
    bridge = board.channels[caller].bridge
    board.unbridge(first)
    board.channels[colleague].linkedid = caller
    board.bridge(colleague, name=bridge)
    board.said.append(
        ami.AttendedTransfer(
            at=board.at,
            result="Success",
            orig_transferer=first,
            second_transferer=own,
            transferee=caller,
            transfer_target=colleague,
            dest_type="Bridge",
        )
    )
    board.gone(own)
    board.gone(first)
    board.wait(30)
    board.hang_up(caller)
    watched.see()


@pytest.mark.parametrize("queue", ["", "support"])
def test_attended_transfer(queue: str) -> None:
    """F31: before and after the colleague answered, one call with two talks."""
    watched = Watched({"sales": QueueRule(), "support": WITH_NOTE})
    watched.board.login(SALES, "sales")
    watched.board.login(SUPPORT, "support")
    watched.snapshot()
    caller, first = watched.talk()
    watched.board.wait(10)
    own, colleague = consult(watched, first, queue)
    complete(watched, caller, first, own, colleague)

    ended = watched.told(TalkEnded)
    parts = [(fact.agent, fact.call, fact.queue, fact.assisted, fact.ended_by) for fact in ended]
    assert parts == [
        ("1001", caller, "sales", False, "transfer"),
        ("1002", own, queue, True, "transfer"),
        ("1002", caller, queue, False, "caller"),
    ]
    assert [round((fact.talked + fact.held) / SECOND) for fact in ended] == [32 if queue else 30, 20, 30]
    assert [(fact.kind, fact.target) for fact in watched.told(Transferred)] == [("attended", SUPPORT)]
    assert [(fact.call, fact.merged) for fact in watched.told(CallMerged)] == [(caller, own)]
    assert {fact.call for fact in watched.told(CallEnded)} == {caller, own}
    if queue:
        assert [fact.source for fact in watched.told(CallerJoined)] == ["inbound", "transfer"]
        assert [(fact.agent, fact.call) for fact in watched.told(WrapUpStarted)] == [("1002", caller)]
    else:
        assert [fact.agent for fact in watched.told(CallHandled)] == ["1001", "1002"]
    assert watched.told(Anomaly) == []


def test_a_consultation_without_transfer_is_help_and_nothing_else(watched: Watched) -> None:
    caller, first = watched.talk()
    own, _ = consult(watched, first)
    watched.board.hang_up(own)
    watched.board.unhold(first)
    watched.board.wait(5)
    watched.board.hang_up(caller)
    watched.see()

    assert [(fact.agent, fact.assisted) for fact in watched.told(TalkEnded)] == [
        ("1002", True),
        ("1001", False),
    ]
    assert [fact.agent for fact in watched.told(CallHandled)] == ["1001"]
    assert watched.told(Transferred) == []


def test_the_customer_goes_while_his_agent_consults(watched: Watched) -> None:
    caller, first = watched.talk()
    own, _ = consult(watched, first)
    watched.board.hang_up(caller)
    assert watched.state("1001") == "talking"
    watched.board.hang_up(own)
    watched.see()
    assert watched.state("1001") == "idle"
    assert {fact.agent for fact in watched.told(CallHandled)} == {"1001"}


@pytest.mark.parametrize(("result", "kind"), [("Fail", "Bridge"), ("Success", "Threeway")])
def test_no_transfer_when_it_failed_or_he_stays(watched: Watched, result: str, kind: str) -> None:
    """F31: a failed transfer is none."""
    caller, first = watched.talk()
    own, colleague = consult(watched, first)
    watched.board.said.append(
        ami.AttendedTransfer(
            at=watched.board.at,
            result=result,
            orig_transferer=first,
            second_transferer=own,
            transferee=caller,
            transfer_target=colleague,
            dest_type=kind,
        )
    )
    watched.board.said.append(
        ami.BlindTransfer(at=watched.board.at, result="Fail", transferer=first, transferee=caller)
    )
    watched.see()
    assert watched.told(Transferred) == []
    assert watched.told(TalkEnded) == []


def test_transferred_to_somebody_who_is_no_agent(watched: Watched) -> None:
    """F31: to a stranger."""
    caller, first = watched.talk()
    board = watched.board
    own = board.leg(SALES)
    outside = board.leg("PJSIP/trunk", own)
    board.bridge(own, outside)
    complete(watched, caller, first, own, outside)
    assert [fact.target for fact in watched.told(Transferred)] == ["PJSIP/trunk"]
    assert [fact.agent for fact in watched.told(TalkEnded)] == ["1001"]


def test_a_transfer_to_nobody_we_know(watched: Watched) -> None:
    caller, first = watched.talk()
    watched.board.said.append(
        ami.AttendedTransfer(at=watched.board.at, result="Success", orig_transferer=first, transferee=caller)
    )
    watched.see()
    assert [fact.target for fact in watched.told(Transferred)] == [""]


def test_agents_talking_to_each_other(watched: Watched) -> None:
    board = watched.board
    own = board.leg(SALES)
    board.up(own)
    assert watched.state("1001") == "talking"
    colleague = board.leg(SUPPORT, own)
    board._newstate(colleague, "Ringing")
    assert watched.state("1002") == "ringing"
    assert watched.centre.floor().agents[1].call == own
    board.up(colleague)
    board.bridge(own, colleague)
    board.wait(5)
    board.hang_up(colleague)
    watched.see()

    assert [(fact.agent, fact.queue, fact.assisted, fact.ended_by) for fact in watched.told(TalkEnded)] == [
        ("1001", "", False, "other"),
        ("1002", "", False, "agent"),
    ]
    assert watched.told(CallEnded)[0].participants == (SALES, SUPPORT)


# -- recordings ---------------------------------------------------------------


@pytest.mark.parametrize("is_named_first", [True, False])
def test_a_recording(watched: Watched, is_named_first: bool) -> None:
    board = watched.board
    caller = board.call()

    def name() -> None:
        board.tell(caller, "CtidCall", recording="uuid", line="hotline", business="repair", vip="1")

    def said(kind: type[ami.ChannelEvent], **more: object) -> None:
        channel = board.channels[caller]
        board.said.append(kind(at=board.at, channel=channel.name, uniqueid=caller, linkedid=caller, **more))

    if is_named_first:
        name()
    began_at = board.at
    said(ami.MixMonitorStart)
    said(ami.MixMonitorStart)
    if not is_named_first:
        name()
    name()
    board.wait(10)
    said(ami.MixMonitorMute, mute=True)
    said(ami.MixMonitorMute, mute=True)
    board.wait(4)
    said(ami.MixMonitorMute, mute=False)
    said(ami.MixMonitorMute, mute=False)
    if is_named_first:
        board.hang_up(caller)
    else:
        said(ami.MixMonitorStop)
        said(ami.MixMonitorStop)
    watched.see()

    assert [(fact.at, fact.recording) for fact in watched.told(RecordingStarted)] == [(began_at, "uuid")]
    assert len(watched.told(RecordingMuted)) == 1
    assert [round(fact.muted / SECOND) for fact in watched.told(RecordingUnmuted)] == [4]
    assert [round(fact.expected / SECOND) for fact in watched.told(RecordingStopped)] == [14]
    routed = watched.told(CallRouted)[0]
    assert (routed.line, routed.business, routed.vip, routed.recording) == ("hotline", "repair", True, "uuid")
    assert watched.told(CallStarted)[0].at < routed.at


def test_a_recording_that_is_not_ours_or_never_ran_says_nothing(watched: Watched) -> None:
    board = watched.board
    caller = board.call()
    channel = board.channels[caller]
    head = {"at": board.at, "channel": channel.name, "uniqueid": caller, "linkedid": caller}
    board.said.append(ami.MixMonitorStart(**head))  # type: ignore[arg-type]
    board.said.append(ami.MixMonitorMute(**head, mute=True))  # type: ignore[arg-type]
    board.said.append(ami.MixMonitorMute(**head, mute=False))  # type: ignore[arg-type]
    board.hang_up(caller)
    other = board.call()
    board.tell(other, "CtidCall", recording="uuid")
    board.tell(other, "CtidCall", recording="")
    board.said.append(ami.MixMonitorMute(at=board.at, channel="", uniqueid="nobody", linkedid="", mute=True))
    board.said.append(ami.MixMonitorMute(at=board.at, channel="", uniqueid=other, linkedid=other, mute=True))
    board.hang_up(other)
    board.said.append(ami.UserEvent(at=board.at, name="CtidCall", uniqueid="nobody"))
    watched.see()
    assert {type(fact).__name__ for fact in watched.facts if "Recording" in type(fact).__name__} == set()


# -- members ------------------------------------------------------------------


def test_one_agent_in_two_queues_is_paused_once(watched: Watched) -> None:
    before = len(watched.told(AgentStateChanged))
    watched.board.pause(SUPPORT, "lunch")
    watched.board.wait(60)
    watched.board.pause(SUPPORT, "meeting")
    watched.board.wait(60)
    watched.board.pause(SUPPORT, None)
    watched.see()

    changes = watched.told(AgentStateChanged)[before:]
    assert [(fact.state, fact.reason, round(fact.lasted / SECOND)) for fact in changes] == [
        ("paused", "lunch", 0),
        ("paused", "meeting", 60),
        ("idle", "", 60),
    ]


def test_paused_in_one_queue_only_is_not_paused(watched: Watched) -> None:
    watched.board.pause(SUPPORT, "Auto-Pause", "support")
    assert watched.state("1002") == "idle"


def test_a_lost_phone(watched: Watched) -> None:
    watched.board.phone_status(SUPPORT, 5)
    assert watched.state("1002") == "unreachable"
    watched.board.pause(SUPPORT, "lunch")
    assert watched.state("1002") == "paused"
    watched.board.pause(SUPPORT, None)
    watched.board.phone_status(SUPPORT, 1)
    assert watched.state("1002") == "idle"
    watched.board.logout(SUPPORT, "sales", "support")
    assert watched.state("1002") == "logged_out"


def test_a_phone_whose_owner_becomes_known_later() -> None:
    """F11: an agent nobody named."""
    watched = Watched()
    board = watched.board
    up, ringing, idle = board.leg("PJSIP/7"), board.leg("PJSIP/8", "x"), board.leg("PJSIP/9", "x")
    board.up(up)
    board._newstate(ringing, "Ringing")
    for phone in ("7", "8", "9"):
        board.login(f"PJSIP/{phone}", "sales")
    assert [watched.state(phone) for phone in ("7", "8", "9")] == ["talking", "ringing", "idle"]
    assert idle in board.channels


def test_agents_are_known_by_the_number_people_gave() -> None:
    watched = Watched(agents={SALES: "201"})
    watched.board.login(SALES, "sales")
    watched.talk()
    assert {fact.agent for fact in watched.told(TalkStarted)} == {"201"}
    assert [view.phones for view in watched.centre.floor().agents] == [(SALES,)]


# -- what does not fit --------------------------------------------------------


def test_an_unknown_leg_is_taken_in_and_told(watched: Watched) -> None:
    """B21, F11: Asterisk is right; it is taken in."""
    board = watched.board
    caller = board.call()
    board.take()
    board.up(caller)
    board.gone(caller)
    board.said.append(ami.Hangup(at=board.at, channel="PJSIP/trunk-1", uniqueid="other", linkedid="other"))
    watched.see()
    assert [fact.kind for fact in watched.told(Anomaly)] == ["orphan_event", "orphan_event"]
    assert [command for command in watched.commands if isinstance(command, RequestSnapshot)] == [
        RequestSnapshot(why="orphan_event")
    ]
    assert watched.told(CallStarted)[0].adopted


def test_before_the_first_snapshot_an_unknown_leg_is_no_surprise() -> None:
    watched = Watched()
    caller = watched.board.call()
    watched.board.take()
    watched.board.up(caller)
    watched.board.gone(caller)
    watched.board.said.append(
        ami.Hangup(at=watched.board.at, channel="PJSIP/trunk-1", uniqueid="other", linkedid="other")
    )
    watched.see()
    assert watched.told(Anomaly) == []


@pytest.mark.parametrize("is_synced", [True, False])
def test_a_missed_join_does_not_cost_the_pop(is_synced: bool) -> None:
    watched = Watched()
    if is_synced:
        watched.snapshot()
    board = watched.board
    caller = board.call()
    watched.see()
    board.join(caller, "sales")
    board.take()
    phone = board.ring(caller, SALES)
    board.answer(phone)
    watched.see()
    assert [fact.agent for fact in watched.told(OfferMade)] == ["1001"]
    assert outcomes(watched) == [("sales", "answered")]
    assert [fact.kind for fact in watched.told(Anomaly)] == ["unseen_join"] * is_synced


@pytest.mark.parametrize("is_synced", [True, False])
def test_a_missed_join_and_ringing_do_not_cost_the_talk(is_synced: bool) -> None:
    watched = Watched()
    if is_synced:
        watched.snapshot()
    board = watched.board
    caller = board.call()
    watched.see()
    board.join(caller, "sales")
    phone = board.ring(caller, SALES)
    board.take()
    board.answer(phone)
    watched.see()
    assert [fact.agent for fact in watched.told(TalkStarted)] == ["1001"]
    assert [fact.kind for fact in watched.told(Anomaly) if fact.kind == "unseen_join"] == (
        ["unseen_join"] * is_synced
    )


def test_a_missed_ringing_still_answers_the_caller(watched: Watched) -> None:
    board = watched.board
    caller = board.call()
    board.join(caller, "sales")
    watched.see()
    phone = board.ring(caller, SALES)
    board.take()
    board.picked_up(phone)
    board.take()
    board.connect(phone)
    watched.see()
    assert outcomes(watched) == [("sales", "answered")]
    board.hang_up(phone)
    assert watched.state("1001") == "idle"


def test_a_phone_that_said_whose_it_is_before_the_queue_did(watched: Watched) -> None:
    board = watched.board
    caller = board.call()
    board.join(caller, "sales")
    phone = board.leg(SALES, caller)
    board._newstate(phone, "Ringing")
    assert watched.state("1001") == "ringing"
    board.said.append(
        ami.AgentCalled(**board._in_queue(caller), interface=SUPPORT, dest_uniqueid=phone)  # type: ignore[arg-type]
    )
    assert (watched.state("1001"), watched.state("1002")) == ("idle", "ringing")


def test_saying_everything_twice_changes_nothing() -> None:
    """F08: a duplicate is a no-op."""
    once, twice = Watched({"sales": WITH_NOTE}), Watched({"sales": WITH_NOTE})
    once.is_obedient = twice.is_obedient = False
    once.snapshot()
    twice.snapshot()
    board = once.board
    board.login(SALES, "sales")
    caller = board.call()
    board.join(caller, "sales")
    phone = board.ring(caller, SALES)
    board.answer(phone)
    board.hold(phone)
    board.unhold(phone)
    board.pause(SALES, "lunch")
    board.hang_up(caller)
    waiting = board.call()
    board.join(waiting, "sales")
    board.no_answer(board.ring(waiting, SALES))
    board.leave(waiting, "TIMEOUT")
    board.hang_up(waiting)
    for event in board.take():
        once.take(once.centre.receive(event))
        twice.take(twice.centre.receive(event))
        twice.take(twice.centre.receive(event))

    assert twice.facts == once.facts
    assert len(once.facts) > 20
    assert once.told(Anomaly) == []


def test_events_that_say_nothing_about_the_floor(watched: Watched) -> None:
    step = watched.centre.receive(ami.FullyBooted(at=watched.board.at, uptime=5))
    assert (step.facts, step.commands) == ((), ())
    watched.board.said.append(ami.ChanSpyStart(at=watched.board.at, spyer="nobody"))
    watched.board.said.append(ami.LocalBridge(at=watched.board.at, one="a", two="b"))
    watched.board.said.append(ami.LocalOptimizationBegin(at=watched.board.at, one="a", two="b"))
    watched.board.said.append(
        ami.DialState(at=watched.board.at, dest_channel="", dest_uniqueid="x", dial_status="PROGRESS")
    )
    watched.board.said.append(ami.DialBegin(at=watched.board.at, dest_channel="", dest_uniqueid="x"))
    assert watched.see() == []


def test_a_spying_leg_is_no_call_and_no_talk(watched: Watched) -> None:
    """F33: who listens in takes no part."""
    board = watched.board
    watched.talk()
    spy = board.leg("PJSIP/1010", exten="*5551001")
    board.up(spy)
    board.said.append(ami.ChanSpyStart(at=board.at, spyer=spy))
    board.wait(5)
    board.hang_up(spy)
    watched.see()
    assert spy not in {fact.call for fact in watched.facts}


def test_nothing_is_left_when_everybody_has_gone(watched: Watched) -> None:
    board = watched.board
    for _ in range(3):
        caller, phone = watched.talk()
        own, colleague = consult(watched, phone)
        complete(watched, caller, phone, own, colleague)
    watched.see()
    tables = vars(watched.centre._tables)
    left = {
        name: len(table)
        for name, table in tables.items()
        if hasattr(table, "__len__")
        and name
        not in {"rules", "waiting", "agents", "owners", "members", "told", "gone", "heirs", "heard", "system"}
    }
    assert set(left.values()) == {0}, left
    assert board.channels == {}


def test_a_default_rule_judges_queues_nobody_named() -> None:
    """F11: an unknown queue."""
    centre = Centre({}, {}, default_rule=QueueRule(rings=1, ring_cycle=SECOND))
    watched = Watched()
    watched.centre = centre
    watched.board.login(SALES, "other")
    watched.talk(queue="other", ring=1.5)
    assert [fact.verdict for fact in watched.told(OfferEnded)] == ["late"]
