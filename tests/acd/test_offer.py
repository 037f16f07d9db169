"""What the end of a ringing means."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from ctid.acd.offer import Offer, Stage, answer, end, made, refusal, ring
from ctid.acd.rules import QueueRule

AT = datetime(2026, 11, 22, 9, tzinfo=UTC)
SECOND = timedelta(seconds=1)
OFFER = Offer(
    call="c", queue="q", joined_at=AT, caller="l", agent="1", interface="PJSIP/1", leg="m", offered_at=AT
)


def test_rang_counts_from_the_first_sign() -> None:
    rung, fact = ring(OFFER, AT + 2 * SECOND)
    again, nothing = ring(rung, AT + 3 * SECOND)
    assert fact is not None
    assert fact.after == 2 * SECOND
    assert (again, nothing) == (rung, None)
    ended = end(answer(rung, AT + 7 * SECOND), AT + 7 * SECOND, "answered", QueueRule())
    assert (ended.rang, ended.rings, ended.ring_estimated) == (5 * SECOND, 1.0, False)


def test_without_a_sign_it_counts_from_the_offer_and_is_marked() -> None:
    ended = end(OFFER, AT + 5 * SECOND, "no_answer", QueueRule())
    assert (ended.rang, ended.ring_estimated) == (5 * SECOND, True)


def test_a_phone_that_cannot_be_reached_never_rang() -> None:
    ended = end(OFFER, AT + 5 * SECOND, "unreachable", QueueRule())
    assert (ended.rang, ended.rings, ended.ring_estimated, ended.verdict) == (
        0 * SECOND,
        0.0,
        False,
        "excluded",
    )


def test_the_first_answer_counts_and_ends_the_ringing() -> None:
    picked = answer(OFFER, AT + SECOND)
    assert answer(picked, AT + 2 * SECOND) is picked
    assert ring(picked, AT + 2 * SECOND) == (picked, None)
    assert [offer.stage for offer in (OFFER, ring(OFFER, AT)[0], picked)] == list(Stage)


@pytest.mark.parametrize(
    ("cause", "silent", "rung"),
    [(17, "declined", "declined"), (21, "declined", "declined"), (19, "unreachable", "no_answer"),
     (18, "unreachable", "no_answer"), (3, "unreachable", "declined"), (0, "unreachable", "declined")],
)  # fmt: skip
def test_refusal(cause: int, silent: str, rung: str) -> None:
    assert refusal(OFFER, cause) == silent
    assert refusal(ring(OFFER, AT)[0], cause) == rung


def test_an_offer_names_the_caller() -> None:
    assert made(OFFER).about == "m"
