"""Reminders before, escalations after, each once."""

from __future__ import annotations

from datetime import timedelta

from ctid.tickets import commands as c
from ctid.tickets.due import due, overdue_from, raise_alarm
from ctid.tickets.ticket import Ticket
from tests.tickets.test_workflow import AT, HOUR, TIMES, do, opened


def kinds(ticket: Ticket, later: timedelta) -> list[str]:
    return [alarm.kind for alarm in due([ticket], AT + later, TIMES)[0]]


def after_all(ticket: Ticket, later: timedelta) -> Ticket:
    for alarm in due([ticket], AT + later, TIMES)[0]:
        ticket = raise_alarm(ticket, alarm, AT + later, times=TIMES).ticket
    return ticket


def test_a_reminder_before_and_an_escalation_after_each_once() -> None:
    ticket = opened("difficult_issue")
    before = HOUR - TIMES.remind_before
    assert due([ticket], AT, TIMES) == ([], AT + before)
    assert kinds(ticket, before) == ["promise_reminder"]
    ticket = after_all(ticket, before)
    assert due([ticket], AT + before, TIMES) == ([], AT + HOUR)
    assert kinds(ticket, HOUR) == ["promise_broken"]
    ticket = after_all(ticket, HOUR)
    assert ticket.promise == "broken"
    assert overdue_from(ticket) == AT + HOUR
    assert due([ticket], AT + 9 * HOUR, TIMES) == ([], None)
    ticket = do(ticket, c.Reply, result="told him", at=AT + 2 * HOUR)
    assert overdue_from(ticket) is None
    ticket = do(ticket, c.MakePromise, until=AT + 5 * HOUR, at=AT + 2 * HOUR)
    assert kinds(ticket, 5 * HOUR) == ["promise_reminder", "promise_broken"]


def test_what_was_missed_is_raised_late_and_a_fulfilled_promise_is_not() -> None:
    ticket = opened("difficult_issue")
    assert kinds(ticket, 24 * HOUR) == ["promise_reminder", "promise_broken"]
    alarm = due([ticket], AT + HOUR, TIMES)[0][1]
    replied = do(ticket, c.Reply, result="told him")
    assert not raise_alarm(replied, alarm, AT + HOUR, times=TIMES).events


def test_a_complaint_goes_up_by_its_timer_until_nobody_is_above() -> None:
    ticket = opened("complaint")
    for level in (2, 3):
        later = TIMES.level * (level - 1)
        assert kinds(ticket, later) == ["level_passed"]
        ticket = after_all(ticket, later)
        assert ticket.level == level
    assert due([ticket], AT + 100 * HOUR, TIMES) == ([], None)


def test_a_call_back_and_a_deadline_fall_due() -> None:
    ticket = opened("survey", source="petition")
    ticket = do(do(ticket, c.Dispatch, to="team"), c.Complete, result="possible")
    assert kinds(ticket, TIMES.call_back) == ["call_back_due"]
    assert overdue_from(ticket) == AT + TIMES.call_back
    assert kinds(ticket, timedelta(days=5)) == ["call_back_due", "deadline_passed"]
    several = due([opened("complaint"), ticket], AT + 5 * HOUR, TIMES)
    assert [alarm.kind for alarm in several[0]] == ["call_back_due", "level_passed"]
    assert several[1] == AT + timedelta(days=5)
