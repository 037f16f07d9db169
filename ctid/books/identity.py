"""What the books tell of calls that we know in part, under the names that we gave already.

A stay in a queue is named by the instant it began, and so is a talk. CEL and AMI stamp
the same thing milliseconds apart: told from the books, what is in our tables must begin at
the instant that stands there, or it would be there twice.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

import msgspec

from ctid.ami.events import AmiEvent, Newchannel, Newstate, QueueCallerJoin
from ctid.books.ledger import SAME
from ctid.store.ledger import Rows


def renamed(events: Sequence[AmiEvent], rows: Rows) -> list[AmiEvent]:
    """Return the events, with the beginnings we know at the instants we know.

    Args:
        events: In order of time.
        rows: What our tables say about the calls in them.

    Returns:
        In the same order, although a renamed beginning may now be dated after what followed on it:
        the core goes by the order.
    """
    calls = {row.call: row.began_at for row in rows.calls if row.began_at is not None}
    visits: dict[tuple[str, str], list[datetime]] = {}
    for visit in rows.visits:
        visits.setdefault((visit.call, visit.queue), []).append(visit.joined_at)
    talks: dict[str, list[datetime]] = {}
    for talk in rows.talks:
        talks.setdefault(talk.leg, []).append(talk.began_at)
    return [_renamed(event, calls, visits, talks) for event in events]


def _renamed(
    event: AmiEvent,
    calls: Mapping[str, datetime],
    visits: Mapping[tuple[str, str], list[datetime]],
    talks: Mapping[str, list[datetime]],
) -> AmiEvent:
    match event:
        case Newchannel(uniqueid=uniqueid) if uniqueid in calls:
            known: Iterable[datetime] = (calls[uniqueid],)
        case QueueCallerJoin(linkedid=call, queue=queue):
            known = visits.get((call, queue), ())
        case Newstate(uniqueid=leg, state="Up"):
            known = talks.get(leg, ())
        case _:
            return event
    nearest = min(known, key=lambda at: abs(at - event.at), default=None)
    if nearest is None or abs(nearest - event.at) > SAME:
        return event
    return msgspec.structs.replace(event, at=nearest)
