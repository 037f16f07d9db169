"""Whether one stay in a queue met what the queue promises (formula ``ignore_short``, 4PS F4)."""

from __future__ import annotations

from datetime import timedelta

from ctid.acd.facts import VisitOutcome
from ctid.acd.rules import QueueRule


def is_short(outcome: VisitOutcome, waited: timedelta, rule: QueueRule) -> bool:
    """Whether the caller gave up before anybody could fairly be expected to answer."""
    return outcome == "abandoned" and waited < rule.short_abandon


def in_time(outcome: VisitOutcome, waited: timedelta, rule: QueueRule) -> bool | None:
    """Whether the stay met the service level; ``None`` where the formula leaves it out.

    Left out: giving up within the limit, being turned away at the door (blocked is a
    figure of its own), and ends we did not see. Every other way out is a miss.
    """
    match outcome:
        case "answered":
            return waited <= rule.service_level_within
        case "abandoned":
            patient = waited > rule.service_level_within and not is_short(outcome, waited, rule)
            return False if patient else None
        case "timeout" | "exit_key" | "leave_empty" | "withdrawn" | "redirected":
            return False
    return None  # join_empty, full, unknown_end
