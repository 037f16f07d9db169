"""What a pop is, and everything a screen may be told about one.

One pop per offer: the ringing of one agent for one caller. The messages are whole
(they carry the new state, not a difference), so each can be applied twice.

    ringing --OfferEnded(answered)--> answered --CallHandled--> closed
    ringing --OfferEnded(other)-----> withdrawn --dismissed or expired--> closed
    withdrawn(unknown_end) --TalkStarted--> answered
    (a call found in a snapshot) --TalkStarted--> answered
"""

from __future__ import annotations

import hashlib
import hmac
import re
from datetime import datetime
from typing import Literal

import msgspec

from ctid.acd.facts import OfferMade, OfferOutcome

PopState = Literal["ringing", "answered", "withdrawn"]

#: Characters that would hide or reorder what follows them, and control characters:
#: a caller chooses his own name, and must not be able to forge another line or number.
_TRICKS = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")

MAX_NAME = 80
"""Characters of a caller's name that reach a screen."""


class PastCall(msgspec.Struct, frozen=True, kw_only=True):
    """An earlier call of the same number.

    Attributes:
        outcome: As in ``ctid.acd.facts.VisitOutcome``; empty: it never came to a queue.
        talked_seconds: 0 when nobody talked with him.
    """

    at: datetime
    queue: str = ""
    agent: str = ""
    outcome: str = ""
    talked_seconds: float = 0.0
    business: str = ""
    note: str = ""


class OpenTicket(msgspec.Struct, frozen=True, kw_only=True):
    """A ticket of the caller that nobody has closed yet."""

    id: str
    title: str
    form: str = ""
    state: str = ""
    opened_at: datetime | None = None
    due_at: datetime | None = None


class Background(msgspec.Struct, frozen=True, kw_only=True):
    """What we know of a caller: newest call first, most urgent ticket first."""

    calls: tuple[PastCall, ...] = ()
    tickets: tuple[OpenTicket, ...] = ()


class Pop(msgspec.Struct, frozen=True, kw_only=True):
    """One agent is being rung for one caller.

    Attributes:
        id: Opaque and unguessable; the same for the same offer, always.
        joined_at, offered_at, ended_at: Asterisk's clock, UTC.
        waited_seconds: In the queue when the phone began to ring.
        background: ``None`` as long as it is not known (yet); then calls and tickets.
        reason: Why it was withdrawn; empty while it was not.
        expires_at: A withdrawn pop leaves the missed list then.
    """

    id: str
    call: str
    leg: str
    agent: str
    interface: str
    queue: str
    caller_number: str
    caller_name: str
    joined_at: datetime
    offered_at: datetime
    waited_seconds: float
    line: str = ""
    business: str = ""
    vip: bool = False
    background: Background | None = None
    state: PopState = "ringing"
    reason: OfferOutcome | Literal[""] = ""
    ended_at: datetime | None = None
    expires_at: datetime | None = None


class PopMessage(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """Something happened to a pop; ``pop`` is all of it, as it is now.

    Attributes:
        seq: Counts what the web hub has sent since it started; 0: not sent.
    """

    pop: Pop
    seq: int = 0


class PopOffered(PopMessage, frozen=True, kw_only=True, tag="pop.offered"):
    """The agent's phone is being called: open the pop."""


class PopEnriched(PopMessage, frozen=True, kw_only=True, tag="pop.enriched"):
    """More is known: history, tickets, line."""


class PopAnswered(PopMessage, frozen=True, kw_only=True, tag="pop.answered"):
    """The agent took the call; the pop stays until he is done with it."""


class PopWithdrawn(PopMessage, frozen=True, kw_only=True, tag="pop.withdrawn"):
    """The phone stopped ringing unanswered; the pop goes to the missed list."""


class PopClosed(PopMessage, frozen=True, kw_only=True, tag="pop.closed"):
    """Nothing is left to show: the call is handled, or the agent put the pop away."""


class Desk(msgspec.Struct, frozen=True, kw_only=True):
    """All pops of one agent: what a screen shows after a reload, oldest first.

    Attributes:
        open: Ringing and answered ones.
        missed: Withdrawn ones that are neither put away nor expired.
    """

    open: tuple[Pop, ...] = ()
    missed: tuple[Pop, ...] = ()


def pop_id(key: bytes, offer: OfferMade) -> str:
    """Derive the pop's id from call, leg and agent: 128 bits nobody can guess without ``key``."""
    about = "\x00".join((offer.call, offer.leg, offer.agent)).encode()
    return hmac.new(key, about, hashlib.sha256).hexdigest()[:32]


def shown(text: str, limit: int = MAX_NAME) -> str:
    """Make a caller's own text safe to show: no control or direction characters, not too long."""
    clean = _TRICKS.sub("", text).strip()
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"
