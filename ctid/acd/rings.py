"""How long a phone rang, in rings of the country's bell, and whether that was within three of them."""

from __future__ import annotations

from datetime import timedelta

from ctid.acd.facts import OfferOutcome, RingVerdict
from ctid.acd.rules import QueueRule


def cycles(rang: timedelta, rule: QueueRule) -> float:
    """Return ``rang`` in cadence cycles: 3.0 is the instant before the fourth ring begins."""
    return rang / rule.ring_cycle


def verdict(outcome: OfferOutcome, rang: timedelta, rule: QueueRule) -> RingVerdict:
    """Judge one offer by the three-ring rule.

    Ringing out counts against the agent even if the queue gave up before the limit:
    else a queue whose ring time is a hair shorter than three rings would never see a miss.
    A phone that was called off in time, or never rang, says nothing about the agent.
    """
    match outcome:
        case "answered":
            return "within" if rang <= rule.ring_limit else "late"
        case "no_answer":
            return "no_answer"
        case "declined":
            return "declined"
        case "cancelled_by_caller" | "cancelled" | "answered_elsewhere":
            return "excluded" if rang <= rule.ring_limit else "no_answer"
    return "excluded"  # unreachable, unknown_end
