"""One caller in one queue, from joining to leaving.

    WAITING    --AgentConnect-----------------> answered
    WAITING    --QueueCallerAbandon, hung up--> abandoned
    WAITING    --QueueCallerAbandon-----------> LEAVING
    WAITING    --QueueCallerLeave, answering--> CONNECTING
    WAITING    --QueueCallerLeave, hung up----> abandoned
    WAITING    --QueueCallerLeave-------------> exit_key
    WAITING    --Hangup-----------------------> abandoned
    WAITING    --moved on---------------------> redirected
    CONNECTING --AgentConnect-----------------> answered
    CONNECTING --AgentCalled------------------> WAITING
    CONNECTING --QueueCallerAbandon, hung up--> abandoned
    CONNECTING --QueueCallerAbandon-----------> LEAVING
    CONNECTING --Hangup-----------------------> abandoned
    CONNECTING --moved on---------------------> redirected
    LEAVING    --AgentConnect-----------------> answered
    LEAVING    --TIMEOUT----------------------> timeout
    LEAVING    --LEAVEEMPTY-------------------> leave_empty
    LEAVING    --LEAVEUNAVAIL-----------------> leave_empty
    LEAVING    --WITHDRAW---------------------> withdrawn
    LEAVING    --Hangup-----------------------> abandoned
    LEAVING    --moved on---------------------> redirected

``QueueCallerAbandon`` means "left unanswered" only: Asterisk sends it for time-out,
leave-empty and withdrawal too, and for neither exit key nor answer (app_queue.c:
record_abandoned). So it is an abandon at once if the caller's phone had asked to hang up,
and else what ``QUEUESTATUS`` says, or his ``Hangup``, or what he does next.
``QueueCallerLeave`` comes last in every case and first in two: an answer (then a phone was
picked up before) and the exit key (then none was).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import Enum
from typing import Final

import msgspec

from ctid.acd.facts import ZERO, CallerJoined, CallerLeft, VisitOutcome
from ctid.acd.offer import Offer
from ctid.acd.rules import QueueRule
from ctid.acd.service_level import in_time, is_short

_replace = msgspec.structs.replace

#: QUEUESTATUS of a caller who waited, and what it means.
STATUS_OUTCOMES: Final[dict[str, VisitOutcome]] = {
    "TIMEOUT": "timeout",
    "LEAVEEMPTY": "leave_empty",
    "LEAVEUNAVAIL": "leave_empty",
    "WITHDRAW": "withdrawn",
}

#: QUEUESTATUS of a caller who was not let in.
DOOR_OUTCOMES: Final[dict[str, VisitOutcome]] = {
    "JOINEMPTY": "join_empty",
    "JOINUNAVAIL": "join_empty",
    "FULL": "full",
}


class Stage(Enum):
    """Where the caller is with the queue."""

    WAITING = "WAITING"
    CONNECTING = "CONNECTING"
    LEAVING = "LEAVING"


class QueueEntry(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A caller's stay in a queue.

    Attributes:
        leg: The caller's.
        rank: Orders the queue; smaller is served sooner.
        left_at: Set once he is out; the wait stops here, not at hang-up.
        offers: Legs of the phones rung for him now.
        first_ring_at: The first ringing sign of any phone rung for him.
        answering: A phone rung for him was picked up.
    """

    call: str
    queue: str
    leg: str
    joined_at: datetime
    caller_number: str = ""
    caller_name: str = ""
    rank: float = 0.0
    stage: Stage = Stage.WAITING
    left_at: datetime | None = None
    offers: frozenset[str] = frozenset()
    first_ring_at: datetime | None = None
    answering: bool = False


#: What the caller's leg can go through, seen from the queue.
Sign = str


def advance(
    entry: QueueEntry, sign: Sign, at: datetime, *, hung_up: bool = False
) -> tuple[QueueEntry, VisitOutcome | None]:
    """Apply one sign about the caller's leg; an outcome means that the stay is over.

    A sign that does not fit the stage leaves the entry as it was.
    """
    match entry.stage, sign:
        case _, "AgentConnect":
            return entry, "answered"
        case ((Stage.WAITING | Stage.CONNECTING), "QueueCallerAbandon"):
            out = _replace(entry, stage=Stage.LEAVING, left_at=at)
            return out, "abandoned" if hung_up else None
        case Stage.WAITING, "QueueCallerLeave":
            if entry.answering:
                return _replace(entry, stage=Stage.CONNECTING), None
            return _replace(entry, left_at=at), "abandoned" if hung_up else "exit_key"
        case Stage.CONNECTING, "AgentCalled":  # the agent was gone before he was connected
            return _replace(entry, stage=Stage.WAITING, answering=False), None
        case Stage.LEAVING, status if status in STATUS_OUTCOMES:
            return entry, STATUS_OUTCOMES[status]
        case _, "Hangup":
            return entry, "abandoned"
        case _, "moved on":
            return entry, "redirected"
    return entry, None


def joined(entry: QueueEntry, position: int, *, transferred: bool) -> CallerJoined:
    """State that the caller waits."""
    return CallerJoined(
        at=entry.joined_at,
        call=entry.call,
        queue=entry.queue,
        joined_at=entry.joined_at,
        leg=entry.leg,
        caller_number=entry.caller_number,
        caller_name=entry.caller_name,
        position=position,
        source="transfer" if transferred else "inbound",
    )


def left(
    entry: QueueEntry, at: datetime, outcome: VisitOutcome, rule: QueueRule, winner: Offer | None = None
) -> CallerLeft:
    """State how the stay ended.

    Args:
        entry: The stay.
        at: When it ended, unless the entry knows better.
        outcome: How.
        rule: The queue's.
        winner: The offer that was answered; its phone's answer ends the wait, not the
            later AgentConnect (an announcement to the agent may come between).
    """
    if winner is not None and winner.answered_at is not None:
        at = winner.answered_at
    elif entry.left_at is not None:
        at = entry.left_at
    at = max(at, entry.joined_at)
    waited = at - entry.joined_at
    return CallerLeft(
        at=at,
        call=entry.call,
        queue=entry.queue,
        joined_at=entry.joined_at,
        outcome=outcome,
        waited=waited,
        short=is_short(outcome, waited, rule),
        in_time=in_time(outcome, waited, rule),
        agent=winner.agent if winner is not None else "",
        interface=winner.interface if winner is not None else "",
        leg=winner.leg if winner is not None else "",
        first_ring_to_answer=_first_ring_to_answer(entry, at, winner),
    )


def _first_ring_to_answer(entry: QueueEntry, at: datetime, winner: Offer | None) -> timedelta | None:
    if winner is None:
        return None
    return max(at - (entry.first_ring_at or winner.offered_at), ZERO)
