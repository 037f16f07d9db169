"""The JSON messages of the WebSocket ``/ws``, version 1.

Every message is one text frame holding one object with a ``type``. Times are RFC 3339,
UTC, Asterisk's clock; durations are seconds and say so in their name. Unknown fields are
to be ignored by the client, so fields may be added without a new version; a field that is
renamed or removed makes a new one.

    client                                server
      |  (cookie and Origin, or) auth       |
      |------------------------------------>|
      |  hello, desk, floor.snapshot        |   what a reload would show
      |<------------------------------------|
      |  pop.offered|enriched|answered|withdrawn|closed, floor.changed, beat
      |<------------------------------------|
      |  seen, dismiss, subscribe, sync     |   each answered by ack or error
      |------------------------------------>|

After a lost connection the client connects again and gets all of ``hello``, ``desk`` and
``floor.snapshot``: its state is replaced, so it equals the state after a reload. Close
codes: 1008 refused or too much, 1009 message too long, 1012 ctid restarts (come back),
1013 too slow (come back).
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Literal

import msgspec

from ctid.acd.facts import AgentState
from ctid.sinks.pop import (
    Desk,
    PopAnswered,
    PopClosed,
    PopEnriched,
    PopOffered,
    PopWithdrawn,
)
from ctid.store.users import Language, Role
from ctid.tickets.due import AlarmKind
from ctid.tickets.ticket import Step, TicketType

VERSION: Final = 1

Topic = Literal["pops", "floor"]
NewsKind = AlarmKind | Literal["opened", "assigned", "forwarded", "step_reached", "level_raised"]
MessageId = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]
Seq = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]


class Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """What ctid sends."""


class SignedIn(msgspec.Struct, frozen=True, kw_only=True):
    """Whose screen this is."""

    name: str
    role: Role
    agent: str
    """Agent number; empty for people who take no calls."""
    language: Language
    lent: tuple[Role, ...] = ()
    """Roles he has for a time beside his own."""
    rights: tuple[str, ...] = ()
    """What he may do beyond what everybody may, whoever it is about."""
    must_change: bool = False
    """He has to choose a password of his own before anything else."""


class Hello(Message, frozen=True, kw_only=True, tag="hello"):
    """The connection is authenticated.

    Attributes:
        boot: Changes when ctid restarts.
        now: ctid's clock, for timers on a screen whose clock is wrong.
        topics: What this connection is subscribed to.
    """

    boot: str
    seq: int
    now: datetime
    user: SignedIn
    topics: tuple[Topic, ...]
    version: int = VERSION


class DeskSnapshot(Message, frozen=True, kw_only=True, tag="desk"):
    """All pops of one's own; replaces what the screen shows."""

    seq: int
    desk: Desk


class QueueCard(msgspec.Struct, frozen=True, kw_only=True):
    """One queue now.

    Attributes:
        waiting: Callers.
        longest_since: When the one who has waited longest joined; ``None``: nobody waits.
        agents: Members who are logged in.
        idle: Of these, free to take a call.
        talking: Of these, on the phone.
        answer_within_seconds: What the service level promises; 0: nothing.
        titles: What people call it, by language; may be empty.
    """

    queue: str
    titles: dict[str, str] = {}
    waiting: int = 0
    longest_since: datetime | None = None
    agents: int = 0
    idle: int = 0
    talking: int = 0
    answer_within_seconds: float = 0.0


class AgentCard(msgspec.Struct, frozen=True, kw_only=True):
    """One agent now.

    Attributes:
        since: In this state; ``None``: not known.
        reason: Of the pause.
        until: When the cap ends the wrap-up.
    """

    agent: str
    state: AgentState
    name: str = ""
    since: datetime | None = None
    reason: str = ""
    until: datetime | None = None
    queues: tuple[str, ...] = ()


class FloorState(msgspec.Struct, frozen=True, kw_only=True):
    """The whole floor; queues and agents sorted by name."""

    queues: tuple[QueueCard, ...] = ()
    agents: tuple[AgentCard, ...] = ()
    exchange: Literal["in_sync", "lost"] = "in_sync"
    """``lost``: no connection to Asterisk, so what is shown is old."""


class FloorSnapshot(Message, frozen=True, kw_only=True, tag="floor.snapshot"):
    """The floor; replaces what the screen shows."""

    version: int
    floor: FloorState


class FloorChanged(Message, frozen=True, kw_only=True, tag="floor.changed"):
    """What differs from ``version - 1``; a screen that has another version asks to ``sync``.

    Attributes:
        queues, agents: New or changed cards, whole.
        gone_queues, gone_agents: Cards to take away.
    """

    version: int
    queues: tuple[QueueCard, ...] = ()
    agents: tuple[AgentCard, ...] = ()
    gone_queues: tuple[str, ...] = ()
    gone_agents: tuple[str, ...] = ()
    exchange: Literal["in_sync", "lost"] = "in_sync"


class TicketNews(Message, frozen=True, kw_only=True, tag="ticket.news"):
    """Something happened to a ticket of one's own, or of one's desk.

    Attributes:
        kind: What happened; ``promise_reminder``: a promise falls due soon; ``promise_broken``,
            ``deadline_passed``, ``level_passed`` and ``call_back_due``: it is late.
        ticket: Its number.
        step: Where in its workflow it is now.
        level: Of a complaint, from 1; 0: no complaint.
        due_at: Overdue then; ``None``: nobody waits.
    """

    kind: NewsKind
    at: datetime
    ticket: int
    form: TicketType
    subject: str
    step: Step
    level: int
    assigned_to: str
    due_at: datetime | None


class Beat(Message, frozen=True, kw_only=True, tag="beat"):
    """Every 15 s: the connection is alive, and so late is it."""

    now: datetime


class Ack(Message, frozen=True, kw_only=True, tag="ack"):
    """The command with this id was carried out."""

    id: int


class Error(Message, frozen=True, kw_only=True, tag="error"):
    """Something was refused; nothing has changed.

    Attributes:
        code: For programs, from the list.
        what: For people, in English; screens translate the code.
        id: Of the command, if it could be read.
    """

    code: Literal[
        "bad_message",
        "bad_token",
        "store_unavailable",
        "not_authenticated",
        "forbidden",
        "unknown_pop",
        "too_many",
    ]
    what: str
    id: int | None = None


class Command(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", forbid_unknown_fields=False):
    """What a screen sends.

    Attributes:
        id: Chosen by the screen; comes back in ``ack`` or ``error``. Commands may be
            repeated: carrying one out twice changes nothing.
    """

    id: MessageId = 0


class Auth(Command, frozen=True, kw_only=True, tag="auth"):
    """First message of a client without cookie; within 5 s."""

    token: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    last_seq: Seq = 0


class Subscribe(Command, frozen=True, kw_only=True, tag="subscribe"):
    """Ask for a topic; its whole state follows. Pops: one's own only."""

    topic: Topic
    agent: Annotated[str, msgspec.Meta(max_length=40)] = ""


class Unsubscribe(Command, frozen=True, kw_only=True, tag="unsubscribe"):
    """Ask for no more of a topic."""

    topic: Topic


class Sync(Command, frozen=True, kw_only=True, tag="sync"):
    """Ask for the whole state again. ``last_seq`` is only for the log: all of it comes."""

    last_seq: Seq = 0


class Seen(Command, frozen=True, kw_only=True, tag="seen"):
    """The pop is drawn on the screen; this is what delivery is measured by."""

    pop: Annotated[str, msgspec.Meta(max_length=64)]


class Dismiss(Command, frozen=True, kw_only=True, tag="dismiss"):
    """Put a pop away on all of one's own screens; a ringing one can not be."""

    pop: Annotated[str, msgspec.Meta(max_length=64)]


FromServer = (
    Hello
    | DeskSnapshot
    | PopOffered
    | PopEnriched
    | PopAnswered
    | PopWithdrawn
    | PopClosed
    | FloorSnapshot
    | FloorChanged
    | TicketNews
    | Beat
    | Ack
    | Error
)
FromClient = Auth | Subscribe | Unsubscribe | Sync | Seen | Dismiss

_decoder: msgspec.json.Decoder[FromClient] = msgspec.json.Decoder(FromClient)
_encoder = msgspec.json.Encoder()


def encode(message: FromServer) -> bytes:
    """Return the message as JSON, UTF-8."""
    return _encoder.encode(message)


def decode(text: str) -> FromClient:
    """Read what a screen sent.

    Raises:
        ValueError: Not one of our commands; the text says why, without echoing it.
    """
    try:
        return _decoder.decode(text)
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
        raise ValueError(str(error)) from error


def schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of all messages, both directions."""
    (server, client), components = msgspec.json.schema_components(
        (FromServer, FromClient), ref_template="#/$defs/{name}"
    )
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"ctid WebSocket messages, version {VERSION}",
        "$defs": {**components, "FromServer": server, "FromClient": client},
        "anyOf": [{"$ref": "#/$defs/FromServer"}, {"$ref": "#/$defs/FromClient"}],
    }
