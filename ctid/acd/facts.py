"""Everything a sink may learn.

A *fact* is what we concluded; an *event* is what Asterisk said. Facts are past
participles, immutable, and each has a natural key: (system, call, kind, about, at)
names the same fact for ever, whoever concludes it and however often, so writing
one twice is harmless.

Times are Asterisk's clock, UTC, microseconds. Durations are ``timedelta``, never
negative. ``agent`` is the agent's number, ``interface`` his phone as the queue knows
it, ``leg`` the Uniqueid of his channel.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal

import msgspec

ZERO = timedelta(0)

#: How a stay in a queue ended. ``abandoned``: the caller hung up, nothing else.
VisitOutcome = Literal[
    "answered",
    "abandoned",
    "timeout",
    "exit_key",
    "leave_empty",
    "join_empty",
    "full",
    "withdrawn",
    "redirected",
    "unknown_end",
]

#: How the ringing of one agent ended.
OfferOutcome = Literal[
    "answered",
    "no_answer",
    "declined",
    "unreachable",
    "cancelled_by_caller",
    "cancelled",
    "answered_elsewhere",
    "unknown_end",
]

#: The three-ring rule for one offer (kpis-and-conventions B.3, offer view).
RingVerdict = Literal["within", "late", "no_answer", "declined", "excluded"]

AgentState = Literal["logged_out", "idle", "ringing", "talking", "wrapping_up", "paused", "unreachable"]

TalkEnd = Literal["caller", "agent", "transfer", "other", "unknown_end"]


class Fact(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag_field="fact", tag=True):
    """What every fact has.

    Attributes:
        at: When it became true.
        call: Linkedid of the call; empty for facts about an agent only.
        recovered: Not heard on AMI but found in Asterisk's own books (queue_log, CEL).
    """

    at: datetime
    call: str = ""
    recovered: bool = False

    @property
    def about(self) -> str:
        """What, within the call, the fact is about; part of the natural key."""
        return ""


class CallStarted(Fact, frozen=True, kw_only=True, gc=False):
    """A new call reached Asterisk."""

    leg: str
    channel: str
    caller_number: str
    caller_name: str
    dialled: str
    adopted: bool = False
    """Found in a snapshot: it began before we were watching, ``at`` is the first sight."""


class CallRouted(Fact, frozen=True, kw_only=True, gc=False):
    """The dialplan told what was decided for the call."""

    line: str
    business: str
    vip: bool
    recording: str
    """UUID of the recording, empty if none was asked for."""


class CallEnded(Fact, frozen=True, kw_only=True, gc=False):
    """The last leg of the call is gone."""

    began_at: datetime
    lasted: timedelta
    answered: bool
    """An agent or somebody else talked with the caller."""
    participants: tuple[str, ...]
    """Phones that took part (channel names without the serial), sorted."""
    cause: int
    cause_text: str
    end_reason: Literal["hangup", "asterisk_lost", "unseen"] = "hangup"


class CallMerged(Fact, frozen=True, kw_only=True, gc=False):
    """A consult call became part of another at a transfer; ``call`` is the one that goes on."""

    merged: str

    @property
    def about(self) -> str:
        return self.merged


class QueueFact(Fact, frozen=True, kw_only=True, gc=False):
    """About one stay of the call in one queue; the stay is (call, queue, joined_at)."""

    queue: str
    joined_at: datetime

    @property
    def about(self) -> str:
        return self.queue


class CallerJoined(QueueFact, frozen=True, kw_only=True, gc=False):
    """A caller began to wait."""

    leg: str
    caller_number: str
    caller_name: str
    position: int
    source: Literal["inbound", "transfer"] = "inbound"


class CallerLeft(QueueFact, frozen=True, kw_only=True, gc=False):
    """A stay in a queue ended.

    Attributes:
        waited: Join to answer, or join to leaving; ringing included.
        short: Abandoned sooner than the queue's short-abandon limit.
        in_time: Met the service level; ``None`` where the formula leaves it out
            (short abandons).
        agent, interface: Who answered; empty otherwise.
    """

    outcome: VisitOutcome
    waited: timedelta
    short: bool = False
    in_time: bool | None = None
    agent: str = ""
    interface: str = ""
    leg: str = ""
    first_ring_to_answer: timedelta | None = None


class OfferFact(Fact, frozen=True, kw_only=True, gc=False):
    """About the ringing of one agent for one caller; the offer is (call, leg)."""

    queue: str
    joined_at: datetime
    agent: str
    interface: str
    leg: str

    @property
    def about(self) -> str:
        return self.leg


class OfferMade(OfferFact, frozen=True, kw_only=True, gc=False):
    """An agent's phone was called. This is when the pop opens."""

    caller_number: str
    caller_name: str


class OfferRang(OfferFact, frozen=True, kw_only=True, gc=False):
    """The agent's phone said it rings."""

    after: timedelta
    """Post-dial delay: from the offer to the first sign of ringing."""


class OfferEnded(OfferFact, frozen=True, kw_only=True, gc=False):
    """The phone stopped ringing, answered or not. This is when the pop is withdrawn or kept.

    Attributes:
        rang: From the first ringing sign to the end.
        ring_estimated: No ringing sign was seen; counted from the offer.
        rings: ``rang`` in cadence cycles; 3.0 is exactly three rings, in every country.
        verdict: The three-ring rule.
    """

    outcome: OfferOutcome
    rang: timedelta
    rings: float
    verdict: RingVerdict
    offered_at: datetime
    ring_estimated: bool = False


class TalkFact(Fact, frozen=True, kw_only=True, gc=False):
    """About one agent talking on one leg; ``queue`` is empty for calls no queue gave him."""

    agent: str
    interface: str
    leg: str
    queue: str = ""

    @property
    def about(self) -> str:
        return self.leg


class TalkStarted(TalkFact, frozen=True, kw_only=True, gc=False):
    """The agent answered (or, after an attended transfer, took over)."""


class Held(TalkFact, frozen=True, kw_only=True, gc=False):
    """The agent put the caller on hold."""


class Resumed(TalkFact, frozen=True, kw_only=True, gc=False):
    """The agent took the caller back."""

    held: timedelta


class Transferred(TalkFact, frozen=True, kw_only=True, gc=False):
    """The agent gave the caller to somebody else."""

    kind: Literal["blind", "attended"]
    target: str
    """Extension (blind), or the phone that took over (attended)."""


class TalkEnded(TalkFact, frozen=True, kw_only=True, gc=False):
    """That agent's own part of the call is over.

    Attributes:
        talked: On the agent's own leg, without hold.
        held: Sum of his holds; a hold still open at the end counts to the end.
        holds: How many.
        assisted: A consult leg or other help: not part of anybody's handle time.
    """

    began_at: datetime
    talked: timedelta
    held: timedelta
    holds: int
    ended_by: TalkEnd
    assisted: bool = False


class CallHandled(TalkFact, frozen=True, kw_only=True, gc=False):
    """The agent is done with the call, note included: handled = talked + held + wrapped."""

    talked: timedelta
    held: timedelta
    wrapped: timedelta
    handled: timedelta


class WrapUpStarted(Fact, frozen=True, kw_only=True, gc=False):
    """The agent writes his note."""

    agent: str
    queue: str
    leg: str
    until: datetime
    """When the cap ends it."""

    @property
    def about(self) -> str:
        return self.leg


class WrapUpEnded(Fact, frozen=True, kw_only=True, gc=False):
    """The note is saved, or the time for it is over."""

    agent: str
    queue: str
    leg: str
    wrapped: timedelta
    ended_by: Literal["saved", "cap", "agent", "unknown_end"]

    @property
    def about(self) -> str:
        return self.leg


class AgentStateChanged(Fact, frozen=True, kw_only=True, gc=False):
    """An agent does something else now; one fact per agent, not per queue.

    Attributes:
        reason: Of the pause, else empty.
        previous, lasted: What he did before and for how long.
        queues: He is a member of these, sorted.
    """

    agent: str
    state: AgentState
    reason: str = ""
    previous: AgentState = "logged_out"
    previous_reason: str = ""
    lasted: timedelta = ZERO
    queues: tuple[str, ...] = ()

    @property
    def about(self) -> str:
        return self.agent


class RecordingStarted(Fact, frozen=True, kw_only=True, gc=False):
    """Asterisk records the call under the name we chose."""

    recording: str
    leg: str

    @property
    def about(self) -> str:
        return self.recording


class RecordingMuted(Fact, frozen=True, kw_only=True, gc=False):
    """The recording holds silence from here on."""

    recording: str

    @property
    def about(self) -> str:
        return self.recording


class RecordingUnmuted(Fact, frozen=True, kw_only=True, gc=False):
    """The recording hears again."""

    recording: str
    muted: timedelta

    @property
    def about(self) -> str:
        return self.recording


class RecordingStopped(Fact, frozen=True, kw_only=True, gc=False):
    """The leg being recorded is gone (or the recording was stopped): the file is complete soon.

    ``expected`` is how long the file should be.
    """

    recording: str
    began_at: datetime
    expected: timedelta

    @property
    def about(self) -> str:
        return self.recording


class Anomaly(Fact, frozen=True, kw_only=True, gc=False):
    """An event did not fit what we believed. Asterisk is right: a resync follows.

    Attributes:
        kind: From a short fixed list (it is a metric label), e.g. ``orphan_event``.
        what: For the log; no numbers or names of people.
    """

    kind: str
    what: str

    @property
    def about(self) -> str:
        return self.kind


class Resynchronised(Fact, frozen=True, kw_only=True, gc=False):
    """A snapshot was applied; ``corrections`` is how much of our picture was wrong."""

    corrections: int


# -- commands: the only thing that flows back ---------------------------------


class SetPause(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Pause or unpause an agent's phone in all his queues.

    Attributes:
        reason: ``ctid:wrap-up`` is ours; every other reason belongs to people.
    """

    agent: str
    interface: str
    paused: bool
    reason: str


class RequestSnapshot(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Our picture may be wrong; ask Asterisk."""

    why: str


Command = SetPause | RequestSnapshot

WRAP_UP_REASON = "ctid:wrap-up"


class Step(msgspec.Struct, frozen=True, gc=False):
    """What one event led to."""

    facts: tuple[Fact, ...] = ()
    commands: tuple[Command, ...] = ()
