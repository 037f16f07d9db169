"""One ticket, and what is written down of everything that happens to it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final, Literal

import msgspec

TicketType = Literal[
    "consultation",
    "repair",
    "complaint",
    "survey",
    "inspection",
    "difficult_issue",
    "emergency_repair",
    "memo",
]
Source = Literal["call", "mayors_hotline", "consumer_association", "petition", "mobile_operator", "other"]
Step = Literal[
    "open",
    "answered",
    "appointed",
    "ordered",
    "dispatched",
    "completed",
    "accepted",
    "judged",
    "verified",
    "replied",
    "restored",
    "closed",
]
State = Literal["open", "waiting", "closed"]
Desk = Literal["", "complaints", "info", "leaders"]
Verdict = Literal["", "upheld", "rejected", "praise"]
Promise = Literal["", "open", "kept", "broken"]
Tried = Literal["confirmed", "no_answer", "busy", "not_confirmed"]
Delivery = Literal["pending", "sent", "delivered", "failed"]

TOP_LEVEL: Final = 3
"""Of a complaint; nobody is above."""


class Stamp(msgspec.Struct, frozen=True, kw_only=True):
    """A step was reached."""

    step: Step
    at: datetime
    by: str


class CallBack(msgspec.Struct, frozen=True, kw_only=True):
    """A customer to be called.

    Attributes:
        attempts: Times he was called so far.
        result: ``open`` until he confirmed or the attempts are exhausted.
    """

    number: str
    due_at: datetime
    attempts: int = 0
    result: Literal["open", "confirmed", "exhausted"] = "open"


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody to be told of an emergency, and how far the message has come."""

    number: str
    status: Delivery = "pending"


class Ticket(msgspec.Struct, frozen=True, kw_only=True):
    """One ticket.

    Attributes:
        ticket: Number; 0: not stored yet.
        version: Grows with every command: who writes on an older one is refused.
        fields: The form, keyed by the name of the field.
        system, call: The call it was opened in; empty: none.
        caller_number: To be called back; as Asterisk gave it, or as typed.
        caller_key: The number as it is compared.
        opened_by, assigned_to, claimed_by: Agent's number, or the user's name if he has none.
        desk: Who answers for it if nobody is named.
        level: Of a complaint, from 1; 0: no complaint.
        due_at: Deadline of its source; ``None``: none.
        level_due_at: Then the next level is told.
        promised_at: The customer was promised an answer until then.
        claimed_until: Nobody else contacts the customer before.
        steps: Every step reached, in order.
        raised: Reminders and escalations that were told; each once.
        done: Ids of the last commands carried out.
    """

    ticket: int = 0
    version: int = 1
    type: TicketType
    step: Step = "open"
    subject: str
    fields: dict[str, str] = {}
    source: Source = "call"
    system: str = ""
    call: str = ""
    line: str = ""
    caller_number: str = ""
    caller_key: str = ""
    opened_at: datetime
    opened_by: str = ""
    assigned_to: str = ""
    desk: Desk = ""
    level: int = 0
    due_at: datetime | None = None
    level_due_at: datetime | None = None
    promised_at: datetime | None = None
    promise: Promise = ""
    claimed_by: str = ""
    claimed_until: datetime | None = None
    verdict: Verdict = ""
    verification: str = ""
    closed_at: datetime | None = None
    steps: tuple[Stamp, ...] = ()
    call_backs: tuple[CallBack, ...] = ()
    notices: tuple[Notice, ...] = ()
    raised: tuple[str, ...] = ()
    done: tuple[str, ...] = ()

    @property
    def state(self) -> State:
        """In three words: ``waiting`` while somebody outside works on it."""
        if self.step == "closed":
            return "closed"
        return "waiting" if self.step == "dispatched" else "open"


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something happened to a ticket; kept for ever.

    Attributes:
        command: Id of the command; empty: the clock.
        kind: Past participle: ``opened``, ``step_reached``, ``promise_kept`` ...
        detail: What the kind does not say.
    """

    kind: str
    at: datetime
    actor: str
    command: str = ""
    detail: dict[str, str] = {}


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A ticket as it is now, and what happened; no events: it was done already."""

    ticket: Ticket
    events: tuple[Event, ...] = ()


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """Nothing has changed: a code for programs, a sentence for people."""

    code: str
    why: str


SOURCES: Final[dict[Source, timedelta]] = {
    "mayors_hotline": timedelta(days=1),
    "consumer_association": timedelta(days=3),
    "petition": timedelta(days=5),
    "mobile_operator": timedelta(days=1),
    "other": timedelta(days=3),
}
"""Until when what others pass on is to be dealt with; a call has no deadline of its own."""


class Times(msgspec.Struct, frozen=True, kw_only=True):
    """How long things may take.

    Attributes:
        remind_before: A promise falls due.
        level: Until a complaint goes one level up.
        call_back: From the end of the work to the call to the customer.
        claim: Nobody else contacts the customer for so long.
        attempts: To reach a customer before it is given up.
        sources: Deadline by where a ticket comes from; missing: none.
    """

    remind_before: timedelta = timedelta(minutes=15)
    level: timedelta = timedelta(hours=4)
    call_back: timedelta = timedelta(hours=2)
    claim: timedelta = timedelta(minutes=15)
    attempts: int = 3
    sources: dict[Source, timedelta] = msgspec.field(default_factory=lambda: dict(SOURCES))


def dwells(ticket: Ticket, now: datetime) -> list[tuple[Step, timedelta]]:
    """Return how long the ticket stayed in each step, in order; the last one up to ``now``.

    ``closed`` lasts no time; a ticket that was written before there were steps has none.
    """
    ends = [*(stamp.at for stamp in ticket.steps[1:]), ticket.closed_at or now]
    return [(stamp.step, end - stamp.at) for stamp, end in zip(ticket.steps, ends, strict=False)]
