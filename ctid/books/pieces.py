"""Legs and stays in queues, pieced together from records of both books."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

import msgspec

from ctid.books.cel import CelEvent
from ctid.books.queue_log import QueueLine

#: queue_log tells whole seconds, and its thread may be late.
SLACK: Final = timedelta(seconds=2.5)
#: What one hang-up leads to is over within this.
_TEARDOWN: Final = timedelta(seconds=0.3)
#: Kinds of records about something that ends.
_ENDS: Final = frozenset({"BRIDGE_EXIT", "HANGUP", "APP_END", "STREAM_END"})
_INSTANT: Final = timedelta(microseconds=1)


class Stay(msgspec.Struct, kw_only=True):
    """A caller in a queue, pieced together from both books.

    Attributes:
        queue: Its name.
        began_at, ended_at: Queue() began and returned (CEL); ``None``: not written.
        lines: What queue_log says about it; empty: he was not let in.
    """

    queue: str
    began_at: datetime
    ended_at: datetime | None = None
    lines: list[QueueLine] = msgspec.field(default_factory=list)


class Leg(msgspec.Struct, kw_only=True):
    """One channel, as far as CEL tells.

    Attributes:
        linkedids: Call it belongs to since when; a transfer changes it.
        is_bare: No application was ever told, as of a phone that still rings.
        parting_at: Its far end wanted to go: the first to do so ended the call.
    """

    uniqueid: str
    channel: str
    began_at: datetime
    linkedids: list[tuple[datetime, str]]
    is_bare: bool = True
    is_offered: bool = False
    is_dialled: bool = False
    answered_at: datetime | None = None
    bridged_at: datetime | None = None
    gone_at: datetime | None = None
    cause: int = 0
    parting_at: datetime | None = None

    def linkedid(self, at: datetime) -> str:
        """Return the call it belonged to."""
        return next((one for since, one in reversed(self.linkedids) if since <= at), self.linkedids[0][1])


def legs_of(records: Sequence[CelEvent]) -> dict[str, Leg]:
    """Piece the channels together, keyed by Uniqueid.

    Args:
        records: In order of time.
    """
    legs: dict[str, Leg] = {}
    for record in records:
        leg = legs.get(record.uniqueid)
        if leg is None:
            leg = legs[record.uniqueid] = Leg(
                uniqueid=record.uniqueid,
                channel=record.channel,
                began_at=record.at,
                linkedids=[(record.at, record.linkedid)],
            )
        if leg.linkedids[-1][1] != record.linkedid:
            leg.linkedids.append((record.at, record.linkedid))
        leg.is_bare = leg.is_bare and not record.application
        # Not known yet when the channel is made: it gets its application a moment later.
        leg.is_offered = leg.is_offered or record.application == "AppQueue"
        leg.is_dialled = leg.is_dialled or record.application == "AppDial"
        match record.kind:
            case "ANSWER":
                leg.answered_at = leg.answered_at or record.at
            case "BRIDGE_ENTER":
                leg.bridged_at = leg.bridged_at or record.at
            case "HANGUP":
                leg.gone_at, leg.cause = record.at, cause_of(record)
    return legs


def stays_of(
    records: Sequence[CelEvent], lines: Sequence[QueueLine], legs: Mapping[str, Leg]
) -> dict[str, list[Stay]]:
    """Piece the stays in queues together, keyed by the caller's Uniqueid, in order."""
    stays = _calls_of_queue(records)
    current: dict[str, Stay | None] = {}
    for line in lines:
        if line.call not in legs:
            continue
        if line.verb == "ENTERQUEUE":
            current[line.call] = _entered(stays.setdefault(line.call, []), line)
        stay = current.get(line.call)
        if stay is not None and stay.queue != line.queue:
            # After a Redirect the first queue speaks once more when the caller hangs up.
            stay = next((one for one in reversed(stays[line.call]) if one.queue == line.queue), None)
        if stay is not None:
            stay.lines.append(line)
    return stays


def _calls_of_queue(records: Sequence[CelEvent]) -> dict[str, list[Stay]]:
    """Every call of Queue(), let in or not."""
    found: dict[str, list[Stay]] = {}
    for record in records:
        if record.application != "Queue":
            continue
        queue = record.arguments.partition(",")[0]
        stays = found.setdefault(record.uniqueid, [])
        if record.kind == "APP_START":
            stays.append(Stay(queue=queue, began_at=record.at))
        elif record.kind == "APP_END" and stays and stays[-1].ended_at is None:
            stays[-1].ended_at = record.at
    return found


def _entered(stays: list[Stay], line: QueueLine) -> Stay:
    """The call of Queue() that this ENTERQUEUE belongs to; made up if CEL lacks it."""
    for stay in stays:
        if not stay.lines and stay.queue == line.queue and abs(stay.began_at - line.at) <= SLACK:
            return stay
    stay = Stay(queue=line.queue, began_at=line.at)
    stays.append(stay)
    stays.sort(key=lambda one: one.began_at)
    return stay


def note_exits(legs: Mapping[str, Leg], stays: Mapping[str, Sequence[Stay]]) -> None:
    """Whoever left a queue otherwise than by hanging up hung up later, be it by a millisecond."""
    for uniqueid, those in stays.items():
        leg = legs[uniqueid]
        for stay in those:
            is_exit = any(line.verb.startswith(("EXIT", "WITHDRAW")) for line in stay.lines)
            if is_exit and stay.ended_at and leg.parting_at and leg.parting_at <= stay.ended_at:
                leg.parting_at = stay.ended_at + _INSTANT


def note_partings(records: Sequence[CelEvent], by_channel: Mapping[str, Leg]) -> None:
    """Find who hung up: each HANGUP names the channel whose far end wanted to go.

    That wish came before everything that it led to, also on other channels.

    Args:
        records: In order of time.
    """
    led_to: dict[str, list[datetime]] = {}
    for record in records:
        if record.kind in _ENDS:
            led_to.setdefault(record.linkedid, []).append(record.at)
    for record in records:
        source = (
            by_channel.get(str(record.extra.get("hangupsource", ""))) if record.kind == "HANGUP" else None
        )
        if source is None or source.parting_at is not None:
            continue
        source.parting_at = _parting(led_to[record.linkedid], source) - _INSTANT


def _parting(ends: Sequence[datetime], source: Leg) -> datetime:
    """When the first thing happened that the hang-up of this leg led to.

    Args:
        ends: When something ended in the same call, in order.
    """
    gone_at = source.gone_at or source.began_at
    # A talk may be shorter than what is looked through: not before he was brought together with anybody.
    begin = max(gone_at - _TEARDOWN, source.bridged_at or source.began_at)
    place = bisect_left(ends, begin)
    return ends[place] if place < len(ends) and ends[place] <= gone_at else gone_at


def cause_of(record: CelEvent) -> int:
    """Return the Q.850 cause of a HANGUP; 0 where there is none."""
    cause = record.extra.get("hangupcause", 0)
    return int(cause) if isinstance(cause, int) or str(cause).isdigit() else 0


def number(data: Sequence[str]) -> int:
    """Return the first field as a number; 0 where it is none."""
    return int(data[0]) if data and data[0].isdigit() else 0
