"""The whole floor as one record, so that it can be put away and taken up again."""

from __future__ import annotations

from collections import deque
from datetime import datetime

import msgspec

from ctid.acd.agent import Agent, Member
from ctid.acd.call import Call, Leg
from ctid.acd.echoes import REMEMBERED, Echo, echo
from ctid.acd.offer import Offer
from ctid.acd.queue_entry import QueueEntry
from ctid.acd.recording import Recording
from ctid.acd.tables import Tables
from ctid.acd.talk import Talk


class State(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The tables of ``Tables``, under the same names; what belongs to the event at hand is not in it."""

    legs: dict[str, Leg]
    seen: dict[str, datetime]
    shown: dict[str, datetime]
    out: dict[str, datetime]
    calls: dict[str, Call]
    entries: dict[str, QueueEntry]
    offers: dict[str, Offer]
    talks: dict[str, Talk]
    recordings: dict[str, Recording]
    bridges: dict[str, set[str]]
    phones_up: dict[str, set[str]]
    waiting: dict[str, dict[str, float]]
    agents: dict[str, Agent]
    owners: dict[str, str]
    members: dict[tuple[str, str], Member]
    told: dict[tuple[str, str], datetime]
    arrivals: int
    gone: dict[str, datetime]
    heirs: dict[str, str]
    caps: list[tuple[datetime, str, str]]
    last_at: datetime | None
    lost_at: datetime | None
    boot: datetime | None
    system: str
    missed: dict[str, datetime]
    is_synced: bool
    is_asked: bool
    heard: list[Echo]


def state_of(t: Tables) -> State:
    """Return the floor; shares the tables' dicts, so use it before the next event."""
    heard = [echo(one) for one in t.heard]
    return State(**{name: getattr(t, name) for name in State.__struct_fields__} | {"heard": heard})


def restore(t: Tables, state: State) -> None:
    """Make the floor what it was; whose phone is whose, and which queues there are, today's policy says."""
    owners, queues = dict(t.owners), dict(t.waiting)
    for name in State.__struct_fields__:
        setattr(t, name, getattr(state, name))
    t.heard = deque(state.heard, maxlen=REMEMBERED)
    t.owners |= owners
    for queue in queues:
        t.waiting.setdefault(queue, {})
