"""The floor as people see it: a frozen picture of who waits, who does what, and which calls live."""

from __future__ import annotations

from datetime import datetime

import msgspec

from ctid.acd.agent import Agent
from ctid.acd.facts import AgentState
from ctid.acd.tables import Tables


class Waiting(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One caller in a queue.

    Attributes:
        position: 1 is served next.
        ringing: Numbers of the agents whose phones ring for him.
    """

    call: str
    leg: str
    caller_number: str
    caller_name: str
    joined_at: datetime
    position: int
    ringing: tuple[str, ...]


class QueueView(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One queue and its callers, in order of service."""

    queue: str
    waiting: tuple[Waiting, ...]


class AgentView(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One agent.

    Attributes:
        reason: Of the pause.
        queues: Member of these.
        phones: The phones he is a member with.
        queue, call, leg: Of what he rings, talks or writes about; empty otherwise.
        until: When the wrap-up is cut off.
        is_holding: He has put his caller on hold.
    """

    agent: str
    state: AgentState
    since: datetime | None
    reason: str
    queues: tuple[str, ...]
    phones: tuple[str, ...]
    queue: str = ""
    call: str = ""
    leg: str = ""
    until: datetime | None = None
    is_holding: bool = False


class CallView(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One live call."""

    call: str
    leg: str
    caller_number: str
    caller_name: str
    dialled: str
    line: str
    began_at: datetime
    answered: bool


class Floor(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Everything at one instant.

    Attributes:
        at: Of the last event applied; ``None`` before the first.
        is_synced: Asterisk is being watched, and was asked since the connection came up.
    """

    at: datetime | None
    is_synced: bool
    queues: tuple[QueueView, ...]
    agents: tuple[AgentView, ...]
    calls: tuple[CallView, ...]


def waiting_counts(t: Tables) -> dict[str, int]:
    """Count the callers in each queue that has some."""
    return {queue: len(legs) for queue, legs in t.waiting.items() if legs}


def idle_agents(t: Tables) -> dict[str, set[str]]:
    """Name the agents who could take a call at once, by queue."""
    idle: dict[str, set[str]] = {}
    for agent in t.agents.values():
        if agent.state == "idle":
            for queue in agent.queues:
                idle.setdefault(queue, set()).add(agent.number)
    return idle


def picture(t: Tables) -> Floor:
    """Draw the floor; costs a microsecond or so per caller, agent and call."""
    return Floor(
        at=t.last_at,
        is_synced=t.is_synced,
        queues=tuple(_queue(t, queue) for queue in sorted(t.waiting)),
        agents=tuple(_agent(t, t.agents[number]) for number in sorted(t.agents)),
        calls=tuple(
            CallView(
                call=call.linkedid,
                leg=call.leg,
                caller_number=call.caller_number,
                caller_name=call.caller_name,
                dialled=call.dialled,
                line=call.line,
                began_at=call.began_at,
                answered=call.is_answered,
            )
            for call in t.calls.values()
            if call.is_known
        ),
    )


def _queue(t: Tables, queue: str) -> QueueView:
    waiting = t.waiting[queue]
    entries = [t.entries[leg] for leg in sorted(waiting, key=waiting.__getitem__)]
    return QueueView(
        queue=queue,
        waiting=tuple(
            Waiting(
                call=entry.call,
                leg=entry.leg,
                caller_number=entry.caller_number,
                caller_name=entry.caller_name,
                joined_at=entry.joined_at,
                position=position,
                ringing=tuple(sorted(t.offers[leg].agent for leg in entry.offers)),
            )
            for position, entry in enumerate(entries, 1)
        ),
    )


def _agent(t: Tables, agent: Agent) -> AgentView:
    queue, call, leg = _occupation(t, agent)
    wrap = agent.wrap
    return AgentView(
        agent=agent.number,
        state=agent.state,
        since=agent.since,
        reason=agent.reason,
        queues=agent.queues,
        phones=tuple(sorted(agent.phones)),
        queue=queue,
        call=call,
        leg=leg,
        until=wrap.until if wrap is not None and agent.state == "wrapping_up" else None,
        is_holding=any(t.talks[line].held_at is not None for line in agent.lines if line in t.talks),
    )


def _occupation(t: Tables, agent: Agent) -> tuple[str, str, str]:
    """Queue, call and leg of what the agent is busy with."""
    for line in sorted(agent.lines):
        if line in t.talks:
            talk = t.talks[line]
            return talk.queue, talk.call, talk.leg
    for leg in sorted(agent.lines | agent.rings):
        if leg in t.offers:
            offer = t.offers[leg]
            return offer.queue, offer.call, offer.leg
    for leg in sorted(agent.lines or agent.rings):
        return "", t.legs[leg].call, leg
    if agent.wrap is not None:
        return agent.wrap.queue, agent.wrap.call, agent.wrap.leg
    return "", "", ""
