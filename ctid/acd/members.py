"""Agents' places in queues: log-in, log-out, pause, phone lost and found."""

from __future__ import annotations

from datetime import datetime

import msgspec

from ctid.acd import wrap_ups
from ctid.acd.agent import Member, place
from ctid.acd.tables import Tables
from ctid.ami.events import (
    QueueMemberAdded,
    QueueMemberEvent,
    QueueMemberPause,
    QueueMemberPenalty,
    QueueMemberRemoved,
    QueueMemberStatus,
    ShownMember,
)

_replace = msgspec.structs.replace

Changed = QueueMemberStatus | QueueMemberAdded | QueueMemberPenalty


def on_change(t: Tables, event: Changed) -> None:
    """The device state, the penalty, or all of a new place; repeated once per queue."""
    key = (event.queue, event.interface)
    old = t.members.get(key)
    if old is None or not same(t, old, event):
        enrol(t, event, event.at)
    t.told[key] = event.at


def same(t: Tables, member: Member, event: QueueMemberEvent | ShownMember) -> bool:
    """Whether the place is told as we know it; a restart may have given the phone to another agent."""
    return (
        member.agent == t.owner(event.interface)
        and member.paused == event.paused
        and member.reason == (event.reason if event.paused else "")
        and member.is_gone == (event.status in (4, 5))
        and member.penalty == event.penalty
    )


def on_pause(t: Tables, event: QueueMemberPause) -> None:
    """Paused, unpaused or paused for another reason, in one queue."""
    key = (event.queue, event.interface)
    old = t.members.get(key)
    was_ours = old is not None and old.is_ours
    enrol(t, event, event.at)
    t.told[key] = event.at
    agent = t.agents[t.members[key].agent]
    if t.members[key].is_ours:
        t.put(_replace(agent, is_pausing=False), event.at)
    elif event.paused or was_ours:
        wrap_ups.interrupted(t, agent, event.at, is_unwilling=not event.paused)


def enrol(t: Tables, event: QueueMemberEvent | ShownMember, at: datetime) -> None:
    """Write the place down as told, and what it means for the agent."""
    key = (event.queue, event.interface)
    number = t.owner(event.interface)
    if event.state_interface:
        t.owners.setdefault(event.state_interface, number)
    old = t.members.get(key)
    if old is not None and old.agent != number:
        remove(t, key, at)
        old = None
    new = Member(
        agent=number,
        queue=event.queue,
        interface=event.interface,
        paused=event.paused,
        reason=event.reason if event.paused else "",
        status=event.status,
        penalty=event.penalty,
    )
    _write(t, key, old, new, at)
    if old is None:
        _find_lines(t, number, event.interface, at)
        _find_lines(t, number, event.state_interface, at)


def _write(t: Tables, key: tuple[str, str], old: Member | None, new: Member, at: datetime) -> None:
    t.members[key] = new
    agent = place(t.agent(new.agent), old, new)
    if old is None:
        queues = tuple(sorted({*agent.queues, new.queue}))
        agent = _replace(agent, queues=queues, phones=agent.phones | {new.interface})
        t.waiting.setdefault(new.queue, {})
    t.put(agent, at)


def _find_lines(t: Tables, number: str, interface: str, at: datetime) -> None:
    """Legs that rang or were up before we knew whose phone it is."""
    for uniqueid in sorted(t.phones_up.get(interface, ())):
        leg = t.legs[uniqueid]
        if not leg.agent:
            t.legs[uniqueid] = _replace(leg, agent=number)
            if leg.is_up:
                t.line_up(uniqueid, number, at)
            elif leg.is_ringing:
                t.ring(uniqueid, number, at)


def called(t: Tables, queue: str, interface: str, at: datetime) -> None:
    """A queue rings this phone, so it is a member, whatever we knew."""
    key = (queue, interface)
    if key not in t.members:
        new = Member(agent=t.owner(interface), queue=queue, interface=interface)
        _write(t, key, None, new, at)


def on_removed(t: Tables, event: QueueMemberRemoved) -> None:
    """An agent's phone was taken out of a queue."""
    remove(t, (event.queue, event.interface), event.at)


def remove(t: Tables, key: tuple[str, str], at: datetime) -> None:
    """Take a place away; the agent stays in the queue if he is there with another phone."""
    t.told.pop(key, None)
    old = t.members.pop(key, None)
    if old is None:
        return
    agent = place(t.agents[old.agent], old, None)
    if not any((old.queue, phone) in t.members for phone in agent.phones):
        agent = _replace(agent, queues=tuple(queue for queue in agent.queues if queue != old.queue))
    t.put(agent, at)
