"""How long somebody waited."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from ctid.acd.offer import Offer
from ctid.acd.queue_entry import QueueEntry, advance, joined, left
from ctid.acd.rules import QueueRule

AT = datetime(2026, 11, 22, 9, tzinfo=UTC)
SECOND = timedelta(seconds=1)
ENTRY = QueueEntry(call="c", queue="q", leg="l", joined_at=AT)


def offer(answered_at: datetime | None = None) -> Offer:
    return Offer(
        call="c",
        queue="q",
        joined_at=AT,
        caller="l",
        agent="1",
        interface="PJSIP/1",
        leg="m",
        offered_at=AT + SECOND,
        answered_at=answered_at,
    )


def test_the_wait_stops_when_he_leaves_not_when_we_know_why() -> None:
    leaving, _ = advance(ENTRY, "QueueCallerAbandon", AT + 30 * SECOND)
    fact = left(leaving, AT + 90 * SECOND, "timeout", QueueRule())
    assert (fact.at, fact.waited) == (AT + 30 * SECOND, 30 * SECOND)


def test_an_answer_ends_the_wait_when_the_phone_is_picked_up() -> None:
    fact = left(ENTRY, AT + 9 * SECOND, "answered", QueueRule(), offer(AT + 6 * SECOND))
    assert (fact.waited, fact.first_ring_to_answer, fact.agent) == (6 * SECOND, 5 * SECOND, "1")


def test_an_answer_without_any_sign_ends_it_when_we_hear_of_it() -> None:
    assert left(ENTRY, AT + 9 * SECOND, "answered", QueueRule(), offer()).waited == 9 * SECOND


def test_a_wait_is_never_negative() -> None:
    assert left(ENTRY, AT - SECOND, "abandoned", QueueRule()).waited == 0 * SECOND


def test_where_he_came_from() -> None:
    assert joined(ENTRY, 1, transferred=True).source == "transfer"
    assert joined(ENTRY, 1, transferred=False).source == "inbound"
