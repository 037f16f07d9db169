"""The note after a call: a pause that ctid sets while the agent still talks, and ends.

There is no window for the next call to slip in: the pause is asked for the moment the
agent answers, and is lifted by the saved note, the cap, or the agent himself. A pause of
his own is never touched.
"""

from __future__ import annotations

from datetime import datetime
from heapq import heappop, heappush
from typing import Literal

import msgspec

from ctid.acd.agent import Agent, AgentStatus, WrapUp
from ctid.acd.facts import (
    WRAP_UP_REASON,
    ZERO,
    CallHandled,
    SetPause,
    TalkEnded,
    WrapUpEnded,
    WrapUpStarted,
)
from ctid.acd.tables import Tables
from ctid.acd.talk import Talk, handled

_replace = msgspec.structs.replace

Ending = Literal["saved", "cap", "agent", "unknown_end"]


def prepare(t: Tables, talk: Talk, at: datetime) -> None:
    """The agent has answered: see to it that nothing rings him while he writes the note."""
    agent = t.agent(talk.agent)
    if agent.wrap is not None:
        finish(t, agent, at, "agent", keep_pause=True)
        agent = t.agents[talk.agent]
    agent = _replace(agent, is_unwilling=False)
    if (
        t.rule(talk.queue).wrap_up > ZERO
        and agent.status is not AgentStatus.PAUSED
        and not (agent.ours or agent.is_pausing)
    ):
        agent = _replace(agent, is_pausing=True, released_at=None)
        _set_pause(t, agent, paused=True)
    t.put(agent, at)


def ask_again(t: Tables, agent: Agent) -> None:
    """The pause that we asked for did not come before the link was lost: it may never have been heard."""
    _set_pause(t, agent, paused=True)


def _set_pause(t: Tables, agent: Agent, *, paused: bool) -> None:
    for phone in sorted(agent.phones):
        t.commands.append(
            SetPause(
                agent=agent.number,
                interface=phone,
                paused=paused,
                reason=WRAP_UP_REASON if paused else "",
            )
        )


def begin(t: Tables, ended: TalkEnded, *, is_partial: bool) -> None:
    """The talk is over: the note begins, or the call is handled already."""
    agent = t.agent(ended.agent)
    cap = t.rule(ended.queue).wrap_up
    if cap <= ZERO or ended.assisted or agent.is_unwilling or ended.ended_by == "unknown_end":
        if not ended.assisted and not is_partial:
            t.facts.append(handled(ended))
        t.put(agent, ended.at)
        release(t, agent.number, ended.at)
        return
    wrap = WrapUp(
        call=ended.call,
        queue=ended.queue,
        leg=ended.leg,
        interface=ended.interface,
        began_at=ended.at,
        until=ended.at + cap,
        talked=ended.talked,
        held=ended.held,
        partial=is_partial,
    )
    heappush(t.caps, (wrap.until, agent.number, wrap.leg))
    t.put(_replace(agent, wrap=wrap), ended.at)
    t.facts.append(
        WrapUpStarted(
            at=ended.at,
            call=ended.call,
            agent=agent.number,
            queue=ended.queue,
            leg=ended.leg,
            until=wrap.until,
        )
    )


def finish(t: Tables, agent: Agent, at: datetime, ended_by: Ending, *, keep_pause: bool = False) -> None:
    """The note is done: the call is handled, and our pause lifted if it is still there."""
    wrap = agent.wrap
    if wrap is None:
        return
    at = max(at, wrap.began_at)
    t.put(_replace(agent, wrap=None), at)
    if not wrap.is_adopted:
        _tell_end(t, agent.number, wrap, at, ended_by)
    if not keep_pause:
        release(t, agent.number, at)


def _tell_end(t: Tables, number: str, wrap: WrapUp, at: datetime, ended_by: Ending) -> None:
    wrapped = at - wrap.began_at
    t.facts.append(
        WrapUpEnded(
            at=at,
            call=wrap.call,
            agent=number,
            queue=wrap.queue,
            leg=wrap.leg,
            wrapped=wrapped,
            ended_by=ended_by,
        )
    )
    if not wrap.partial:
        t.facts.append(
            CallHandled(
                at=at,
                call=wrap.call,
                agent=number,
                interface=wrap.interface,
                leg=wrap.leg,
                queue=wrap.queue,
                talked=wrap.talked,
                held=wrap.held,
                wrapped=wrapped,
                handled=wrap.talked + wrap.held + wrapped,
            )
        )


def release(t: Tables, number: str, at: datetime) -> None:
    """Lift our pause, unless it is not there or still needed for a call he is on."""
    agent = t.agents[number]
    if not (agent.ours or agent.is_pausing) or agent.wrap is not None:
        return
    if any(t.rule(t.talks[line].queue).wrap_up > ZERO for line in agent.lines if line in t.talks):
        return
    t.agents[number] = agent = _replace(agent, is_pausing=False, released_at=at)
    _set_pause(t, agent, paused=False)


def interrupted(t: Tables, agent: Agent, at: datetime, *, is_unwilling: bool) -> None:
    """The agent paused himself, or lifted our pause: either way he is done with the note.

    Done during the call, only the latter means that he wants no wrap-up afterwards.
    """
    if agent.wrap is not None:
        finish(t, agent, at, "agent", keep_pause=not is_unwilling)
    elif is_unwilling and agent.lines:
        t.put(_replace(agent, is_unwilling=True), at)


def next_cap(t: Tables) -> datetime | None:
    """When the next wrap-up reaches its cap."""
    while t.caps:
        until, number, leg = t.caps[0]
        agent = t.agents.get(number)
        if (
            agent is not None
            and agent.wrap is not None
            and (agent.wrap.leg, agent.wrap.until) == (leg, until)
        ):
            return until
        heappop(t.caps)
    return None


def expire(t: Tables, at: datetime) -> None:
    """End every wrap-up whose cap has come, at its cap."""
    while (until := next_cap(t)) is not None and until <= at:
        finish(t, t.agents[t.caps[0][1]], until, "cap")
