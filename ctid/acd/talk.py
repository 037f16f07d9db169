"""An agent's own part of a call, measured on his own leg.

    TALKING --Hold-------------> HOLDING
    HOLDING --Unhold-----------> TALKING
    TALKING --leg gone---------> over
    HOLDING --leg gone---------> over
    TALKING --AttendedTransfer-> over
    HOLDING --AttendedTransfer-> over

``AgentComplete`` is not used: it can be late, lack its fields, span two agents, or come
while the agent still talks. A talk ends when that agent leaves for good. ``Unhold`` without
``Hold`` (every REFER sends one) says nothing; a hold nobody ended lasts to the end.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import Enum

import msgspec

from ctid.acd.facts import ZERO, CallHandled, Held, Resumed, TalkEnd, TalkEnded, TalkStarted

_replace = msgspec.structs.replace


class Stage(Enum):
    """What the agent does on his leg."""

    TALKING = "TALKING"
    HOLDING = "HOLDING"


class Talk(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One agent talking on one leg.

    Attributes:
        leg: The leg it began on; names the talk for ever.
        carrier: The leg it is on now: a Local channel may be cut out of the path.
        peer: The customer's leg; empty for calls no queue gave him.
        assisted: Helping a colleague: not part of anybody's handle time.
        partial: Found in a snapshot; its beginning was not seen.
        parting: Who or what ended it, as soon as that is known.
    """

    agent: str
    interface: str
    call: str
    leg: str
    carrier: str
    queue: str
    began_at: datetime
    peer: str = ""
    assisted: bool = False
    partial: bool = False
    held_at: datetime | None = None
    held: timedelta = ZERO
    holds: int = 0
    parting: TalkEnd | None = None

    @property
    def stage(self) -> Stage:
        return Stage.TALKING if self.held_at is None else Stage.HOLDING


def started(talk: Talk) -> TalkStarted:
    """State that the agent talks."""
    return TalkStarted(
        at=talk.began_at,
        call=talk.call,
        agent=talk.agent,
        interface=talk.interface,
        leg=talk.leg,
        queue=talk.queue,
    )


def hold(talk: Talk, at: datetime) -> tuple[Talk, Held | None]:
    """The agent parks the caller on music; a repeated Hold says nothing."""
    if talk.held_at is not None:
        return talk, None
    fact = Held(
        at=at, call=talk.call, agent=talk.agent, interface=talk.interface, leg=talk.leg, queue=talk.queue
    )
    return _replace(talk, held_at=at, holds=talk.holds + 1), fact


def resume(talk: Talk, at: datetime) -> tuple[Talk, Resumed | None]:
    """The agent takes the caller back."""
    if talk.held_at is None:
        return talk, None
    held = max(at - talk.held_at, ZERO)
    fact = Resumed(
        at=at,
        call=talk.call,
        agent=talk.agent,
        interface=talk.interface,
        leg=talk.leg,
        queue=talk.queue,
        held=held,
    )
    return _replace(talk, held_at=None, held=talk.held + held), fact


def end(talk: Talk, at: datetime, ended_by: TalkEnd) -> TalkEnded:
    """The agent is out of the call; an open hold counts to the end."""
    at = max(at, talk.began_at)
    held = talk.held + (max(at - talk.held_at, ZERO) if talk.held_at is not None else ZERO)
    return TalkEnded(
        at=at,
        call=talk.call,
        agent=talk.agent,
        interface=talk.interface,
        leg=talk.leg,
        queue=talk.queue,
        began_at=talk.began_at,
        talked=max(at - talk.began_at - held, ZERO),
        held=held,
        holds=talk.holds,
        ended_by=ended_by,
        assisted=talk.assisted,
    )


def handled(ended: TalkEnded) -> CallHandled:
    """The agent is done with the call at once: no note to write."""
    return CallHandled(
        at=ended.at,
        call=ended.call,
        agent=ended.agent,
        interface=ended.interface,
        leg=ended.leg,
        queue=ended.queue,
        talked=ended.talked,
        held=ended.held,
        wrapped=ZERO,
        handled=ended.talked + ended.held,
    )
