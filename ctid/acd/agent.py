"""What one agent does: declared by him (member, pause) and derived from his phone.

    logged_out   --login--------> idle
    idle         --logout-------> logged_out
    idle         --pause--------> paused
    paused       --unpause------> idle
    idle         --phone lost---> unreachable
    unreachable  --phone back---> idle
    idle         --ring---------> ringing
    ringing      --ring over----> idle
    ringing      --answer-------> talking
    talking      --leg gone-----> idle
    talking      --wrap-up------> wrapping_up
    wrapping_up  --wrap-up over-> idle
    paused       --ring---------> ringing
    wrapping_up  --ring---------> ringing

The state is not stepped along these arrows but derived afresh after every event, the first
that applies: talking, ringing, wrapping_up, logged_out, paused, unreachable, idle. So a
pause during a call shows when the call is over, and no order of events can wedge it.

An agent is *paused* when he is paused in every queue he is in and at least one of these
pauses is a person's; AMI reports pauses once per queue, we once per agent. The pause that
ctid itself sets for the wrap-up (``ctid:wrap-up``) is none of the agent's own.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import Enum

import msgspec

from ctid.acd.facts import WRAP_UP_REASON, ZERO, AgentState, AgentStateChanged

_replace = msgspec.structs.replace
_TICK = timedelta(microseconds=1)
#: Device states that mean there is no phone: invalid, unavailable.
_GONE = frozenset({4, 5})


class AgentStatus(Enum):
    """What the agent declared."""

    LOGGED_OUT = "logged_out"
    AVAILABLE = "available"
    PAUSED = "paused"


class Member(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An agent's place in one queue.

    Attributes:
        reason: Of the pause; empty when not paused.
    """

    agent: str
    queue: str
    interface: str
    paused: bool = False
    reason: str = ""
    status: int = 0
    penalty: int = 0

    @property
    def is_ours(self) -> bool:
        """Paused by ctid for the wrap-up."""
        return self.paused and self.reason == WRAP_UP_REASON

    @property
    def is_gone(self) -> bool:
        """No phone registered."""
        return self.status in _GONE


class WrapUp(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The note after one call.

    Attributes:
        talked, held: Of the talk, for its handle time.
        partial: The talk's beginning was not seen: no handle time.
        is_adopted: Found in a snapshot, of a call we know nothing about.
    """

    call: str
    queue: str
    leg: str
    interface: str
    began_at: datetime
    until: datetime
    talked: timedelta = ZERO
    held: timedelta = ZERO
    partial: bool = False
    is_adopted: bool = False


class Agent(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One person.

    Attributes:
        queues: Member of these, sorted.
        phones: The phones he is a member with, as the queues know them.
        places: Memberships, one per queue and phone; ``ours`` and ``theirs`` of them
            paused by ctid and by people, ``gone`` of them without a phone.
        pause_reason: The last reason a person gave.
        rings, lines: Legs of his that ring, and that are up.
        wrap: The note he is writing.
        is_pausing: We asked for the wrap-up pause and did not see it yet.
        is_unwilling: He removed our pause during the call: he wants no wrap-up.
        released_at: When we asked for our pause to be lifted, until it is.
        state, reason, since, told_queues: As last reported.
    """

    number: str
    queues: tuple[str, ...] = ()
    phones: frozenset[str] = frozenset()
    places: int = 0
    ours: int = 0
    theirs: int = 0
    gone: int = 0
    pause_reason: str = ""
    rings: frozenset[str] = frozenset()
    lines: frozenset[str] = frozenset()
    wrap: WrapUp | None = None
    is_pausing: bool = False
    is_unwilling: bool = False
    released_at: datetime | None = None
    state: AgentState = "logged_out"
    reason: str = ""
    since: datetime | None = None
    told_queues: tuple[str, ...] = ()

    @property
    def status(self) -> AgentStatus:
        """What he declared."""
        if not self.places:
            return AgentStatus.LOGGED_OUT
        if self.theirs and self.ours + self.theirs == self.places:
            return AgentStatus.PAUSED
        return AgentStatus.AVAILABLE


def derive(agent: Agent) -> AgentState:
    """Return the state that follows from everything known."""
    if agent.lines:
        return "talking"
    if agent.rings:
        return "ringing"
    if agent.wrap is not None:
        return "wrapping_up"
    if not agent.places:
        return "logged_out"
    if agent.theirs and agent.ours + agent.theirs == agent.places:
        return "paused"
    if agent.gone == agent.places:
        return "unreachable"
    return "idle"


def settle(agent: Agent, at: datetime) -> tuple[Agent, AgentStateChanged | None]:
    """Report what he does now, if that is something else than last reported.

    Timestamps of different legs are not quite in order: a change is never told earlier
    than the one before it, and never at the same instant, which would be the same fact.
    """
    state = derive(agent)
    reason = agent.pause_reason if state == "paused" else ""
    if state == agent.state and reason == agent.reason and agent.queues == agent.told_queues:
        return agent, None
    if agent.since is not None and at <= agent.since:
        at = agent.since + _TICK
    changed = AgentStateChanged(
        at=at,
        agent=agent.number,
        state=state,
        reason=reason,
        previous=agent.state,
        previous_reason=agent.reason,
        lasted=at - agent.since if agent.since is not None else ZERO,
        queues=agent.queues,
    )
    return _replace(agent, state=state, reason=reason, since=at, told_queues=agent.queues), changed


def place(agent: Agent, old: Member | None, new: Member | None) -> Agent:
    """Account for one membership that came, changed or went."""
    places, ours, theirs, gone = agent.places, agent.ours, agent.theirs, agent.gone
    for member, step in ((old, -1), (new, 1)):
        if member is not None:
            places += step
            ours += step * member.is_ours
            theirs += step * (member.paused and not member.is_ours)
            gone += step * member.is_gone
    reason = agent.pause_reason
    if new is not None and new.paused and not new.is_ours:
        reason = new.reason
    return _replace(
        agent,
        places=places,
        ours=ours,
        theirs=theirs,
        gone=gone,
        pause_reason=reason,
        released_at=agent.released_at if ours else None,
    )
