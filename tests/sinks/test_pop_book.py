"""The pops as they are: opened, answered, withdrawn, missed, expired; each fact twice."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest

from ctid.acd.facts import OfferOutcome
from ctid.sinks.pop import Background, PastCall, pop_id, shown
from ctid.sinks.pop_book import MISSED_FOR, MISSED_LIMIT, OPEN_LIMIT, RING_LIMIT, PopBook
from tests.fakes_web import KEY, ended, offer, pop_of

UNANSWERED = [outcome for outcome in get_args(OfferOutcome) if outcome != "answered"]


def types(messages: list) -> list[str]:  # type: ignore[type-arg]
    return [type(message).__name__ for message in messages]


def now() -> datetime:
    return datetime.now(UTC)


def test_answered_stays_until_handled() -> None:
    book, made = PopBook(), offer("c", "201")
    assert types(book.offered(pop_of(made))) == ["PopOffered"]
    assert types(book.ended(ended(made, "answered"))) == ["PopAnswered"]
    assert [pop.state for pop in book.desk("201", now()).open] == ["answered"]
    assert types(book.handled(made.leg)) == ["PopClosed"]
    assert book.desk("201", now()) == book.desk("nobody", now())
    assert len(book) == 0


@pytest.mark.parametrize("outcome", UNANSWERED)
def test_any_other_end_withdraws(outcome: OfferOutcome) -> None:
    book, made = PopBook(), offer("c", "201")
    book.offered(pop_of(made))
    [message] = book.ended(ended(made, outcome))
    assert (message.pop.state, message.pop.reason) == ("withdrawn", outcome)
    desk = book.desk("201", now())
    assert (desk.open, [pop.reason for pop in desk.missed]) == ((), [outcome])


def test_facts_that_come_twice_or_late_say_nothing() -> None:
    book, made = PopBook(), offer("c", "201")
    pop = pop_of(made)
    book.offered(pop)
    assert book.offered(pop) == []
    end = ended(made, "no_answer")
    book.ended(end)
    before = book.desk("201", now())
    assert book.ended(end) == []
    assert book.ended(ended(made, "answered")) == []
    assert book.offered(pop) == []
    assert book.handled(made.leg) == []
    assert book.desk("201", now()) == before


def test_end_before_the_offer_opens_no_dead_pop() -> None:
    book, made = PopBook(), offer("c", "201")
    assert book.ended(ended(made, "cancelled")) == []
    assert book.offered(pop_of(made)) == []


def test_each_agent_sees_his_own_only() -> None:
    book = PopBook()
    one, two = offer("c", "201"), offer("c", "202")
    book.offered(pop_of(one))
    book.offered(pop_of(two))
    book.ended(ended(one, "answered_elsewhere"))
    book.ended(ended(two, "answered"))
    first, second = book.desk("201", now()), book.desk("202", now())
    assert ([pop.agent for pop in first.missed], first.open) == (["201"], ())
    assert ([pop.agent for pop in second.open], second.missed) == (["202"], ())


def test_enriched_only_when_something_is_new() -> None:
    book, made = PopBook(), offer("c", "201")
    background = Background(calls=(PastCall(at=made.at),))
    assert book.enriched(made.leg, background) == []
    book.offered(pop_of(made))
    assert types(book.enriched(made.leg, background)) == ["PopEnriched"]
    assert book.enriched(made.leg, background) == []
    assert types(book.routed("c", line="l", business="repair", vip=True)) == ["PopEnriched"]
    assert book.routed("c", line="l", business="repair", vip=True) == []
    assert book.routed("other", line="l", business="repair", vip=True) == []


def test_only_the_agent_himself_puts_away_and_not_while_it_rings() -> None:
    book, made = PopBook(), offer("c", "201")
    pop = pop_of(made)
    book.offered(pop)
    assert book.dismissed("201", pop.id) == []
    book.ended(ended(made, "declined"))
    assert book.dismissed("202", pop.id) == []
    assert book.dismissed("201", "unknown") == []
    assert types(book.dismissed("201", pop.id)) == ["PopClosed"]
    assert book.desk("201", now()).missed == ()


def test_missed_expires_and_a_ring_without_end_too() -> None:
    book = PopBook()
    missed, lost = offer("c", "201"), offer("d", "201")
    book.offered(pop_of(missed))
    book.offered(pop_of(lost))
    book.ended(ended(missed, "no_answer"))
    assert book.expired(now()) == []
    later = now() + MISSED_FOR + timedelta(seconds=1)
    assert later > lost.at + RING_LIMIT
    assert book.desk("201", later).missed == book.desk("201", later).open == ()
    assert types(book.expired(later)) == ["PopClosed", "PopClosed"]
    assert len(book) == 0


def test_lists_are_bounded_and_what_makes_room_is_told() -> None:
    book = PopBook()
    offers = [offer(f"c{n}", "201") for n in range(OPEN_LIMIT + 1)]
    last = [types(book.offered(pop_of(made))) for made in offers][-1]
    assert last == ["PopClosed", "PopOffered"]
    for made in offers:
        book.ended(ended(made, "no_answer"))
    more = offer("more", "201")
    book.offered(pop_of(more))
    assert types(book.ended(ended(more, "no_answer"))) == ["PopClosed", "PopWithdrawn"]
    assert len(book.desk("201", now()).missed) == MISSED_LIMIT


def test_ids_are_opaque_and_stable() -> None:
    made = offer("c", "201")
    assert pop_id(KEY, made) == pop_id(KEY, made)
    assert len(pop_id(KEY, made)) == 32
    assert pop_id(KEY, made) != pop_id(b"other", made)
    assert made.leg not in pop_id(KEY, made)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("王小明", "王小明"),
        ("a\r\nb\x00", "ab"),
        ("\u202e123\u200b4", "1234"),
        ("x" * 400, "x" * 79 + "…"),
        ("<script>alert(1)</script>", "<script>alert(1)</script>"),
        ("👩‍💻", "👩💻"),
    ],
)
def test_a_callers_own_text_is_made_safe(given: str, expected: str) -> None:
    assert shown(given) == expected
