"""The three-ring rule, exact in every country."""

from __future__ import annotations

from datetime import timedelta

import pytest

from ctid.acd.facts import OfferOutcome, RingVerdict
from ctid.acd.rings import cycles, verdict
from ctid.acd.rules import RING_CYCLES, QueueRule

MS = timedelta(milliseconds=1)
#: End of the third ring's pause: kpis-and-conventions B.3.
LIMITS = {"cn": 15.0, "us": 18.0, "uk": 9.0, "jp": 9.0, "be": 12.0, "es": 13.5, "se": 18.0, "in": 9.0}


@pytest.mark.parametrize(("country", "limit"), LIMITS.items())
def test_three_rings_end_where_the_fourth_begins(country: str, limit: float) -> None:
    rule = QueueRule(ring_cycle=timedelta(seconds=RING_CYCLES[country]))

    assert rule.ring_limit == timedelta(seconds=limit)
    assert cycles(rule.ring_limit, rule) == 3.0
    assert verdict("answered", rule.ring_limit, rule) == "within"
    assert verdict("answered", rule.ring_limit + MS, rule) == "late"


@pytest.mark.parametrize(
    ("outcome", "in_time", "too_long"),
    [
        ("answered", "within", "late"),
        ("no_answer", "no_answer", "no_answer"),
        ("declined", "declined", "declined"),
        ("cancelled_by_caller", "excluded", "no_answer"),
        ("cancelled", "excluded", "no_answer"),
        ("answered_elsewhere", "excluded", "no_answer"),
        ("unreachable", "excluded", "excluded"),
        ("unknown_end", "excluded", "excluded"),
    ],
)
def test_every_outcome(outcome: OfferOutcome, in_time: RingVerdict, too_long: RingVerdict) -> None:
    rule = QueueRule()
    assert verdict(outcome, rule.ring_limit, rule) == in_time
    assert verdict(outcome, rule.ring_limit + MS, rule) == too_long
