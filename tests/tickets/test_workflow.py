"""The steps in the docstring are those in the table; no sequence of commands gets around them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctid.tickets import commands as c
from ctid.tickets import workflow
from ctid.tickets.deeds import act
from ctid.tickets.due import due, raise_alarm
from ctid.tickets.opening import InCall, Opening, open_ticket
from ctid.tickets.ticket import Change, Refusal, Ticket, TicketType, Times, dwells
from ctid.tickets.workflow import WORKFLOWS, possible

AT = datetime(2026, 11, 25, 9, tzinfo=UTC)
HOUR = timedelta(hours=1)
TIMES = Times()
FIELDS = {
    "consultation": {},
    "repair": {"address": "Nanjing Road 1"},
    "complaint": {},
    "survey": {"address": "Nanjing Road 1"},
    "inspection": {"inspector": "Li", "address": "Nanjing Road 1"},
    "difficult_issue": {"called_at": "2026-11-25T09:00:00Z"},
    "emergency_repair": {"area": "north", "department": "network"},
    "memo": {},
}


def opened(kind: TicketType, **more: Any) -> Ticket:
    fields = {"subject": "no light", "content": "the box is dark", **FIELDS[kind]}
    if kind == "difficult_issue":
        more.setdefault("promised_at", AT + HOUR)
    if kind == "emergency_repair":
        more.setdefault("notify", ("13900000001", "13900000002"))
    opening = Opening(id="open", type=kind, fields=fields, **more)
    change = open_ticket(
        opening, "201", AT, inside=InCall(call="1.1", caller_number="13812345678"), times=TIMES
    )
    assert isinstance(change, Change), change
    return change.ticket


def do(
    ticket: Ticket, command: type[c.Command], *, by: str = "201", at: datetime = AT, **what: Any
) -> Ticket:
    """Carry out a command that has to succeed."""
    done = tried(ticket, command, by=by, at=at, **what)
    assert isinstance(done, Change), done
    assert done.events
    return done.ticket


def tried(
    ticket: Ticket, command: type[c.Command], *, by: str = "201", at: datetime = AT, **what: Any
) -> Change | Refusal:
    name = f"c{ticket.version}"
    return act(ticket, command(id=name, version=ticket.version, **what), by, at, times=TIMES)


def refused(done: Change | Refusal) -> str:
    assert isinstance(done, Refusal), done
    assert done.why
    return done.code


def test_the_diagram_is_the_table() -> None:
    drawn: dict[str, dict[tuple[str, str], str]] = {}
    for line in (workflow.__doc__ or "").splitlines():
        if heading := re.fullmatch(r"(\w+):", line):
            drawn[heading[1]] = {}
            last = drawn[heading[1]]
        elif arrow := re.fullmatch(r" {4}(\w+) --(\w+)--> (\w+)", line):
            last[arrow[1], arrow[2]] = arrow[3]
    assert drawn == WORKFLOWS
    assert set(drawn) == set(get_args(TicketType))


def test_a_repair_goes_its_three_steps_in_order_and_each_has_its_time() -> None:
    ticket = opened("repair")
    for command, what in ((c.Order, {"order": "A1"}), (c.Dispatch, {"to": "team 3"}), (c.Close, {})):
        assert refused(tried(ticket, command, **what)) == "wrong_step"
    ticket = do(ticket, c.Appoint, visit_at=AT + HOUR, at=AT + HOUR)
    assert refused(tried(ticket, c.Dispatch, to="team 3")) == "wrong_step"
    ticket = do(ticket, c.Order, order="A1", at=AT + 3 * HOUR)
    ticket = do(ticket, c.Dispatch, to="team 3", at=AT + 6 * HOUR)
    assert ticket.state == "waiting"
    assert dwells(ticket, AT + 10 * HOUR) == [
        ("open", HOUR),
        ("appointed", 2 * HOUR),
        ("ordered", 3 * HOUR),
        ("dispatched", 4 * HOUR),
    ]
    ticket = do(ticket, c.Complete, result="new box")
    assert [one.number for one in ticket.call_backs] == ["13812345678"]
    assert refused(tried(ticket, c.Close)) == "call_backs_open"


def test_an_emergency_waits_for_every_customer_or_for_the_attempts() -> None:
    ticket = do(opened("emergency_repair"), c.Deliver, notice=1, status="failed")
    assert [one.status for one in ticket.notices] == ["pending", "failed"]
    assert refused(tried(ticket, c.Deliver, notice=2, status="sent")) == "unknown_notice"
    assert refused(tried(ticket, c.Close)) == "wrong_step"
    ticket = do(ticket, c.Restore, customers=("13800000001", "13800000002", "13800000001"))
    assert len(ticket.call_backs) == 2
    assert refused(tried(ticket, c.Attempt, call_back=0, result="confirmed")) == "not_claimed"
    ticket = do(ticket, c.Claim)
    ticket = do(ticket, c.Attempt, call_back=0, result="confirmed")
    assert refused(tried(ticket, c.Attempt, call_back=0, result="busy")) == "call_back_over"
    for _ in range(TIMES.attempts):
        assert refused(tried(ticket, c.Close)) == "call_backs_open"
        ticket = do(ticket, c.Attempt, call_back=1, result="no_answer")
    assert ticket.call_backs[1].result == "exhausted"
    assert do(ticket, c.Close).closed_at == AT


def test_an_inspection_needs_its_verification_call() -> None:
    ticket = do(opened("inspection"), c.Accept)
    ticket = do(ticket, c.Complete, result="mended")
    assert refused(tried(ticket, c.Close)) == "wrong_step"
    ticket = do(ticket, c.Verify, call="1700000000.5")
    assert do(ticket, c.Close).verification == "1700000000.5"
    assert do(opened("inspection"), c.Reject, reason="not ours").state == "closed"


def test_a_complaint_is_the_desks_and_goes_up_by_hand_until_nobody_is_above() -> None:
    ticket = opened("complaint")
    assert (ticket.desk, ticket.level, ticket.assigned_to) == ("complaints", 1, "")
    ticket = do(ticket, c.Escalate, reason="beyond me")
    ticket = do(ticket, c.Escalate, reason="beyond me, too")
    assert (ticket.level, ticket.level_due_at) == (3, None)
    assert refused(tried(ticket, c.Escalate, reason="more")) == "no_level_left"
    ticket = do(do(ticket, c.Accept), c.Judge, verdict="upheld", responsible="202", result="he was rude")
    assert do(ticket, c.Close).verdict == "upheld"


def test_a_memo_comes_back_with_a_call_to_the_customer() -> None:
    ticket = do(opened("memo"), c.Forward, desk="leaders")
    ticket = do(ticket, c.Answer, result="from Monday on")
    assert ticket.call_backs[0].number == "13812345678"


def test_a_command_again_does_nothing_and_an_old_version_is_refused() -> None:
    ticket = opened("consultation")
    note = c.Note(id="n", version=1, text="asked again")
    once = act(ticket, note, "201", AT, times=TIMES)
    assert isinstance(once, Change)
    again = act(once.ticket, note, "201", AT, times=TIMES)
    assert again == Change(ticket=once.ticket)
    other = c.Note(id="m", version=1, text="me too")
    assert refused(act(once.ticket, other, "202", AT, times=TIMES)) == "changed_meanwhile"


def test_two_agents_do_not_contact_the_same_customer() -> None:
    ticket = do(opened("consultation"), c.Claim)
    assert refused(tried(ticket, c.Claim, by="202")) == "claimed"
    assert refused(tried(ticket, c.Reply, by="202", result="done")) == "claimed"
    assert refused(tried(ticket, c.Release, by="202")) == "not_claimed"
    late = AT + TIMES.claim
    assert do(ticket, c.Claim, by="202", at=late).claimed_by == "202"
    assert do(do(ticket, c.Release), c.Claim, by="202").claimed_by == "202"


@pytest.mark.parametrize(("later", "result"), [(HOUR, "kept"), (HOUR + timedelta(seconds=1), "broken")])
def test_a_promise_is_kept_to_the_second(later: timedelta, result: str) -> None:
    ticket = opened("difficult_issue")
    done = tried(ticket, c.Reply, result="told him", at=AT + later)
    assert isinstance(done, Change)
    assert [one.kind for one in done.events if "promise" in one.kind] == [f"promise_{result}"]
    assert (done.ticket.promise, done.ticket.promised_at) == (result, None)
    assert do(done.ticket, c.Close).state == "closed"


def test_a_promise_stands_in_the_way_of_closing() -> None:
    ticket = do(opened("consultation"), c.Answer, result="told him")
    assert refused(tried(ticket, c.MakePromise, until=AT)) == "promise_past"
    ticket = do(ticket, c.MakePromise, until=AT + HOUR)
    assert refused(tried(ticket, c.MakePromise, until=AT + 2 * HOUR)) == "promise_open"
    assert refused(tried(ticket, c.Close)) == "promise_open"
    ticket = do(do(ticket, c.Reply, result="told him"), c.Close)
    assert refused(tried(ticket, c.Note, text="too late")) == "closed"


def test_whoever_rejects_a_case_has_to_reply_first() -> None:
    ticket = opened("inspection", promised_at=AT + HOUR)
    assert refused(tried(ticket, c.Reject, reason="not ours")) == "promise_open"
    assert do(do(ticket, c.Reply, result="told him"), c.Reject, reason="not ours").state == "closed"


def test_a_customer_nobody_reaches_does_not_keep_a_ticket_open_for_ever() -> None:
    ticket = opened("survey", promised_at=AT + HOUR)
    ticket = do(do(do(ticket, c.Dispatch, to="team"), c.Complete, result="possible"), c.Claim)
    for _ in range(TIMES.attempts):
        ticket = do(ticket, c.Attempt, call_back=0, result="busy")
    closed = tried(ticket, c.Close)
    assert isinstance(closed, Change)
    assert "promise_broken" in [one.kind for one in closed.events]


TEXT = "because"
ANY: dict[type[c.Command], dict[str, Any]] = {
    c.Answer: {"result": TEXT},
    c.Appoint: {"visit_at": AT},
    c.Order: {"order": "A1"},
    c.Dispatch: {"to": "team"},
    c.Complete: {"result": TEXT},
    c.Accept: {},
    c.Reject: {"reason": TEXT},
    c.Judge: {"verdict": "upheld", "responsible": "202", "result": TEXT},
    c.Escalate: {"reason": TEXT},
    c.Verify: {"call": "1.2"},
    c.Reply: {"result": TEXT},
    c.Restore: {"customers": ("13800000001", "13800000002")},
    c.Forward: {"desk": "leaders"},
    c.Close: {},
    c.Note: {"text": TEXT},
    c.Assign: {"to": "203"},
    c.Claim: {},
    c.Release: {},
    c.MakePromise: {"until": AT + 3 * HOUR},
    c.Attempt: {"call_back": 0, "result": "no_answer"},
    c.Deliver: {"notice": 0, "status": "sent"},
}
MUST = {
    "repair": ["appointed", "ordered", "dispatched", "completed"],
    "survey": ["dispatched", "completed"],
    "emergency_repair": ["restored"],
    "complaint": ["accepted", "judged"],
    "difficult_issue": ["replied"],
}


def test_every_command_is_tried() -> None:
    assert set(ANY) == set(get_args(c.AnyCommand))


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(get_args(TicketType)), st.data())
def test_no_sequence_of_commands_gets_around_the_rules(kind: TicketType, data: st.DataObject) -> None:
    ticket, now, settled = opened(kind), AT, 0
    made = int(ticket.promise == "open")
    for number in range(data.draw(st.integers(1, 40))):
        now += data.draw(st.sampled_from([timedelta(0), timedelta(minutes=7), HOUR]))
        for alarm in due([ticket], now, TIMES)[0]:
            raised = raise_alarm(ticket, alarm, now, times=TIMES)
            assert len(raised.events) == 1
            assert not raise_alarm(raised.ticket, alarm, now, times=TIMES).events
            ticket = raised.ticket
            settled += alarm.kind == "promise_broken"
        # Mostly what is possible, so that long ways are gone; else anything.
        names = possible(kind, ticket.step) if data.draw(st.integers(0, 3)) else []
        choice = [one for one in ANY if c.name_of(one(id="x", version=0, **ANY[one])) in names] or list(ANY)
        command = data.draw(st.sampled_from(choice))
        what = dict(ANY[command])
        if command is c.Attempt:
            what |= {"call_back": data.draw(st.integers(0, 2))}
            what |= {"result": data.draw(st.sampled_from(["confirmed", "no_answer"]))}
        if command is c.MakePromise:
            what = {"until": now + HOUR}
        by = data.draw(st.sampled_from(["201", "202"]))
        before = ticket
        done = act(ticket, command(id=f"{number}", version=ticket.version, **what), by, now, times=TIMES)
        if isinstance(done, Refusal):
            continue
        ticket = done.ticket
        assert done.events
        assert ticket.version == before.version + 1
        assert before.state != "closed"
        holds = before.claimed_until is not None and now < before.claimed_until and before.claimed_by != by
        assert not (holds and command in (c.Reply, c.Attempt, c.Claim))
        settled += sum(one.kind in ("promise_kept", "promise_broken") for one in done.events)
        made += command is c.MakePromise
    assert settled == made - (ticket.promise == "open")
    if ticket.state == "closed":
        went = [stamp.step for stamp in ticket.steps]
        if went[1:] != ["closed"]:
            assert went[1 : 1 + len(MUST.get(kind, []))] == MUST.get(kind, [])
        else:
            assert kind == "inspection"
        assert kind != "inspection" or len(went) == 2 or ticket.verification
        assert all(one.result != "open" for one in ticket.call_backs)
        assert kind not in ("emergency_repair", "repair", "survey") or ticket.call_backs
        assert ticket.promised_at is None
        assert kind != "complaint" or ticket.verdict
        assert due([ticket], now + 1000 * HOUR, TIMES) == ([], None)
