"""Which step follows which, for each type of ticket.

consultation:
    open --answer--> answered
    answered --close--> closed

repair:
    open --appoint--> appointed
    appointed --order--> ordered
    ordered --dispatch--> dispatched
    dispatched --complete--> completed
    completed --close--> closed

complaint:
    open --accept--> accepted
    accepted --judge--> judged
    judged --close--> closed

survey:
    open --dispatch--> dispatched
    dispatched --complete--> completed
    completed --close--> closed

inspection:
    open --accept--> accepted
    open --reject--> closed
    accepted --complete--> completed
    completed --verify--> verified
    verified --close--> closed

difficult_issue:
    open --reply--> replied
    replied --close--> closed

emergency_repair:
    open --restore--> restored
    restored --close--> closed

memo:
    open --answer--> answered
    answered --close--> closed

No ticket closes while a customer waits for a call-back or for what he was promised.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ctid.tickets.ticket import Step, TicketType

#: Step and command to the next step, by type.
WORKFLOWS: Final[Mapping[TicketType, Mapping[tuple[Step, str], Step]]] = {
    "consultation": {("open", "answer"): "answered", ("answered", "close"): "closed"},
    "repair": {
        ("open", "appoint"): "appointed",
        ("appointed", "order"): "ordered",
        ("ordered", "dispatch"): "dispatched",
        ("dispatched", "complete"): "completed",
        ("completed", "close"): "closed",
    },
    "complaint": {
        ("open", "accept"): "accepted",
        ("accepted", "judge"): "judged",
        ("judged", "close"): "closed",
    },
    "survey": {
        ("open", "dispatch"): "dispatched",
        ("dispatched", "complete"): "completed",
        ("completed", "close"): "closed",
    },
    "inspection": {
        ("open", "accept"): "accepted",
        ("open", "reject"): "closed",
        ("accepted", "complete"): "completed",
        ("completed", "verify"): "verified",
        ("verified", "close"): "closed",
    },
    "difficult_issue": {("open", "reply"): "replied", ("replied", "close"): "closed"},
    "emergency_repair": {("open", "restore"): "restored", ("restored", "close"): "closed"},
    "memo": {("open", "answer"): "answered", ("answered", "close"): "closed"},
}

#: Commands that lead to no other step, where they do not stand in a workflow; to any open ticket.
ANYWHERE: Final = frozenset(
    {"note", "assign", "claim", "release", "promise", "attempt", "reply", "escalate", "forward", "deliver"}
)
#: Of these, for one type only.
ONLY_FOR: Final[Mapping[str, TicketType]] = {
    "escalate": "complaint",
    "forward": "memo",
    "deliver": "emergency_repair",
}


def possible(kind: TicketType, step: Step) -> list[str]:
    """Return the commands a ticket takes now, those that lead on first."""
    if step == "closed":
        return []
    on = [command for before, command in WORKFLOWS[kind] if before == step]
    here = (name for name in sorted(ANYWHERE) if ONLY_FOR.get(name, kind) == kind and name not in on)
    return [*on, *here]
