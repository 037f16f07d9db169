"""Who counts, and as what."""

from __future__ import annotations

from datetime import timedelta

import pytest

from ctid.acd.facts import VisitOutcome
from ctid.acd.rules import QueueRule
from ctid.acd.service_level import in_time, is_short

RULE = QueueRule(service_level_within=timedelta(seconds=20), short_abandon=timedelta(seconds=5))


@pytest.mark.parametrize(
    ("outcome", "seconds", "expected"),
    [
        ("answered", 20.0, True),
        ("answered", 20.001, False),
        ("abandoned", 4.9, None),
        ("abandoned", 20.0, None),
        ("abandoned", 20.001, False),
        ("timeout", 1.0, False),
        ("exit_key", 1.0, False),
        ("leave_empty", 1.0, False),
        ("withdrawn", 1.0, False),
        ("redirected", 1.0, False),
        ("join_empty", 0.0, None),
        ("full", 0.0, None),
        ("unknown_end", 99.0, None),
    ],
)
def test_in_time(outcome: VisitOutcome, seconds: float, expected: bool | None) -> None:
    assert in_time(outcome, timedelta(seconds=seconds), RULE) is expected


def test_the_oracle_of_the_trade() -> None:
    """70 answered in time, 10 abandoned in time, 20 answered late: 77.8 % (Cisco, "ignore")."""
    stays: list[tuple[VisitOutcome, int]] = [("answered", 10)] * 70 + [("abandoned", 10)] * 10
    stays += [("answered", 30)] * 20
    judged = [in_time(outcome, timedelta(seconds=waited), RULE) for outcome, waited in stays]
    counted = [one for one in judged if one is not None]
    assert round(sum(counted) / len(counted), 3) == 0.778


def test_short_is_a_class_of_abandons_only() -> None:
    assert is_short("abandoned", timedelta(seconds=4.999), RULE)
    assert not is_short("abandoned", timedelta(seconds=5), RULE)
    assert not is_short("timeout", timedelta(seconds=1), RULE)


def test_a_short_abandon_is_left_out_even_past_a_tight_service_level() -> None:
    rule = QueueRule(service_level_within=timedelta(seconds=2))
    assert in_time("abandoned", timedelta(seconds=3), rule) is None
