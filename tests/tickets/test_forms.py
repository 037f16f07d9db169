"""A wrong form names every wrong field and the fix at once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from ctid.tickets.forms import FORMS, errors_of
from ctid.tickets.opening import InCall, Invalid, Opening, open_ticket
from ctid.tickets.ticket import Change, Times

AT = datetime(2026, 11, 25, 9, tzinfo=UTC)


def test_every_wrong_field_at_once() -> None:
    found = errors_of("repair", {"subject": " ", "content": "x", "contact": "call me", "colour": "red"})
    assert [(one.field, one.code) for one in found] == [
        ("subject", "required"),
        ("content", "too_short"),
        ("contact", "bad_format"),
        ("address", "required"),
        ("colour", "unknown"),
    ]
    assert all(one.fix for one in found)


@pytest.mark.parametrize("kind", sorted(FORMS))
def test_an_empty_form_asks_for_all_it_needs(kind: str) -> None:
    wanted = [field.name for field in FORMS[kind] if field.required]  # type: ignore[index]
    assert [one.field for one in errors_of(kind, {})] == wanted  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("subject", "x" * 121, "too_long"),
        ("subject", "x\x00y", "bad_format"),
        ("content", "line\nline\ttab", ""),
        ("contact", "+86 138-1234-5678", ""),
        ("contact", "１２３４５", "bad_format"),
    ],
)
def test_bounds(name: str, value: str, code: str) -> None:
    fields = {"subject": "s", "content": "content", "contact": "12345"}
    found = errors_of("consultation", {**fields, name: value})
    assert [(one.field, one.code) for one in found] == ([(name, code)] if code else [])


def opened(opening: Opening, number: str = "13812345678") -> Change | Invalid:
    return open_ticket(opening, "201", AT, inside=InCall(call="1.1", caller_number=number), times=Times())


def test_what_stands_beside_the_form() -> None:
    issue = opened(Opening(id="1", type="difficult_issue", fields={}, notify=("123",)), number="anonymous")
    assert isinstance(issue, Invalid)
    assert [one.field for one in issue.errors] == [
        "subject",
        "content",
        "contact",
        "called_at",
        "promised_at",
        "notify",
    ]
    emergency = opened(
        Opening(id="1", type="emergency_repair", fields={}, promised_at=AT - timedelta(seconds=1))
    )
    assert isinstance(emergency, Invalid)
    assert [one.field for one in emergency.errors][-2:] == ["promised_at", "notify"]


def test_the_call_fills_in_number_line_and_deadline_of_the_source() -> None:
    fields = {"subject": " dark ", "content": "no light"}
    done = opened(Opening(id="1", type="complaint", fields=fields, source="mayors_hotline"))
    assert isinstance(done, Change)
    ticket = done.ticket
    assert (ticket.subject, ticket.caller_number, ticket.call) == ("dark", "13812345678", "1.1")
    assert ticket.due_at == AT + timedelta(days=1)
    assert ticket.level_due_at == AT + Times().level
    leader = Opening(
        id="1",
        type="difficult_issue",
        leader="li",
        promised_at=AT + timedelta(hours=1),
        fields={**fields, "called_at": "2026-11-25T09:00:00+08:00"},
    )
    handed = opened(leader)
    assert isinstance(handed, Change)
    assert (handed.ticket.assigned_to, handed.ticket.desk) == ("li", "leaders")
