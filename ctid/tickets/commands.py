"""What can be done to a ticket."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import msgspec

from ctid.tickets.ticket import Delivery, Desk, Tried

Id = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_.:-]{1,64}$")]
Line = Annotated[str, msgspec.Meta(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
Text = Annotated[str, msgspec.Meta(min_length=2, max_length=4000, pattern=r"^[^\x00]*$")]
Number = Annotated[str, msgspec.Meta(pattern=r"^\+?[0-9][0-9 -]{2,23}$")]
Moment = Annotated[datetime, msgspec.Meta(tz=True)]


class Command(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", forbid_unknown_fields=True):
    """Something to be done once.

    Attributes:
        id: Chosen by who asks; the same id again does nothing.
        version: Of the ticket as he saw it.
    """

    id: Id
    version: int


class Answer(Command, frozen=True, kw_only=True, tag="answer"):
    """A question is answered."""

    result: Text


class Appoint(Command, frozen=True, kw_only=True, tag="appoint"):
    """The customer agreed to a time for the visit (约单)."""

    visit_at: Moment


class Order(Command, frozen=True, kw_only=True, tag="order"):
    """The work order exists (创单)."""

    order: Line


class Dispatch(Command, frozen=True, kw_only=True, tag="dispatch"):
    """Somebody is sent (派单)."""

    to: Line


class Complete(Command, frozen=True, kw_only=True, tag="complete"):
    """The work outside is done."""

    result: Text


class Accept(Command, frozen=True, kw_only=True, tag="accept"):
    """The desk takes it on; of an inspection: a case is filed."""


class Reject(Command, frozen=True, kw_only=True, tag="reject"):
    """No case is filed, and why."""

    reason: Text


class Judge(Command, frozen=True, kw_only=True, tag="judge"):
    """Who is responsible for what was complained about, and what came of it."""

    verdict: Literal["upheld", "rejected", "praise"]
    responsible: Line
    result: Text


class Escalate(Command, frozen=True, kw_only=True, tag="escalate"):
    """Beyond one's authority: one level up."""

    reason: Text


class Verify(Command, frozen=True, kw_only=True, tag="verify"):
    """It was asked by telephone whether all is well; ``call`` is the Linkedid."""

    call: Line


class Reply(Command, frozen=True, kw_only=True, tag="reply"):
    """The customer was told."""

    result: Text


class Restore(Command, frozen=True, kw_only=True, tag="restore"):
    """The emergency is over; these customers are to be asked whether all works again."""

    customers: Annotated[tuple[Number, ...], msgspec.Meta(min_length=1, max_length=200)]


class Forward(Command, frozen=True, kw_only=True, tag="forward"):
    """Another desk has to answer."""

    desk: Desk


class Close(Command, frozen=True, kw_only=True, tag="close"):
    """Nothing is left to do."""


class Note(Command, frozen=True, kw_only=True, tag="note"):
    """Something to remember."""

    text: Text


class Assign(Command, frozen=True, kw_only=True, tag="assign"):
    """Somebody else answers for it."""

    to: Line


class Claim(Command, frozen=True, kw_only=True, tag="claim"):
    """I contact the customer now."""


class Release(Command, frozen=True, kw_only=True, tag="release"):
    """I do not contact the customer any more."""


class MakePromise(Command, frozen=True, kw_only=True, tag="promise"):
    """The customer was promised an answer."""

    until: Moment


class Attempt(Command, frozen=True, kw_only=True, tag="attempt"):
    """A customer was called back.

    Attributes:
        call_back: Index in the ticket's call-backs, from 0.
        call: Linkedid; empty: not called through Asterisk.
    """

    call_back: Annotated[int, msgspec.Meta(ge=0)]
    result: Tried
    call: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_.:-]{0,200}$")] = ""


class Deliver(Command, frozen=True, kw_only=True, tag="deliver"):
    """What became of a message about an emergency; ``notice`` is its index, from 0."""

    notice: Annotated[int, msgspec.Meta(ge=0)]
    status: Delivery


AnyCommand = (
    Answer
    | Appoint
    | Order
    | Dispatch
    | Complete
    | Accept
    | Reject
    | Judge
    | Escalate
    | Verify
    | Reply
    | Restore
    | Forward
    | Close
    | Note
    | Assign
    | Claim
    | Release
    | MakePromise
    | Attempt
    | Deliver
)


def name_of(command: Command) -> str:
    """Return the command's name, as in its JSON."""
    return str(type(command).__struct_config__.tag)
