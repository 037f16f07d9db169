"""List replies to one ``Snapshot``, brought up to date with what happened meanwhile.

Asterisk lists channels and queues one after the other, and goes on sending events in
between: an event may be older or newer than the list it stands in. On a live
connection the snapshot is therefore delivered after these events, with their effect
applied: a leg that was hung up while it was being listed is not listed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import msgspec

from ctid.ami import events as ami
from ctid.ami.decoding import LISTED, record_of
from ctid.ami.events import AmiEvent, Snapshot

Record = TypeVar("Record")

#: Time zones differ from UTC by multiples of this.
_ZONE_STEP = 900


def snapshot_of(
    *,
    at: datetime,
    boot: datetime,
    system: str,
    items: Iterable[tuple[str, dict[str, str]]],
    undecodable: Callable[[str], None],
) -> Snapshot:
    """Make a snapshot of the items of CoreShowChannels and QueueStatus.

    Args:
        at: When it was asked for, Asterisk's clock.
        items: Event name and headers of each.
        undecodable: Told the name of each item that can not be read; it is left out.
    """
    found: dict[type[msgspec.Struct], list[msgspec.Struct]] = {kind: [] for kind in LISTED.values()}
    for name, headers in items:
        kind = LISTED.get(name)
        if kind is None:
            continue
        try:
            found[kind].append(record_of(kind, headers))
        except msgspec.ValidationError:
            undecodable(name)
    return Snapshot(
        at=at,
        boot=boot,
        system=system,
        channels=_all(found, ami.ShownChannel),
        queues=_all(found, ami.ShownQueue),
        members=_all(found, ami.ShownMember),
        entries=_all(found, ami.ShownEntry),
    )


def _all(
    found: Mapping[type[msgspec.Struct], list[msgspec.Struct]], kind: type[Record]
) -> tuple[Record, ...]:
    return tuple(item for item in found[kind] if isinstance(item, kind))  # type: ignore[index]


def brought_up(snapshot: Snapshot, events: Iterable[AmiEvent]) -> Snapshot:
    """Return the snapshot with the effect of events that came while it was collected."""
    channels = {shown.uniqueid: shown for shown in snapshot.channels}
    members = {(shown.queue, shown.interface): shown for shown in snapshot.members}
    entries = {(shown.queue, shown.uniqueid): shown for shown in snapshot.entries}
    for event in events:
        if isinstance(event, ami.QueueMemberEvent):
            _apply_to_members(members, event)
        elif isinstance(event, ami.ChannelEvent):
            _apply_to_channels(channels, event)
            _apply_to_entries(entries, event)
    return msgspec.structs.replace(
        snapshot,
        channels=tuple(channels.values()),
        members=tuple(members.values()),
        entries=tuple(entries.values()),
    )


def _apply_to_channels(channels: dict[str, ami.ShownChannel], event: ami.ChannelEvent) -> None:
    shown = channels.get(event.uniqueid)
    match event:
        case ami.Hangup():
            channels.pop(event.uniqueid, None)
        case ami.Newchannel() if shown is None:
            channels[event.uniqueid] = ami.ShownChannel(
                channel=event.channel,
                uniqueid=event.uniqueid,
                linkedid=event.linkedid,
                state=event.state,
                caller_number=event.caller_number,
                caller_name=event.caller_name,
                exten=event.exten,
                context=event.context,
            )
        case ami.Newstate() if shown:
            channels[event.uniqueid] = msgspec.structs.replace(shown, state=event.state)
        case ami.BridgeEnter() if shown:
            channels[event.uniqueid] = msgspec.structs.replace(shown, bridge=event.bridge)
        case ami.BridgeLeave() if shown and shown.bridge == event.bridge:
            channels[event.uniqueid] = msgspec.structs.replace(shown, bridge="")


def _apply_to_entries(entries: dict[tuple[str, str], ami.ShownEntry], event: ami.ChannelEvent) -> None:
    match event:
        case ami.QueueCallerLeave() | ami.QueueCallerAbandon():
            entries.pop((event.queue, event.uniqueid), None)
        case ami.QueueCallerJoin() if (event.queue, event.uniqueid) not in entries:
            entries[event.queue, event.uniqueid] = ami.ShownEntry(
                queue=event.queue,
                channel=event.channel,
                uniqueid=event.uniqueid,
                position=event.position,
                caller_number=event.caller_number,
                caller_name=event.caller_name,
            )


def _apply_to_members(members: dict[tuple[str, str], ami.ShownMember], event: ami.QueueMemberEvent) -> None:
    if isinstance(event, ami.QueueMemberRemoved):
        members.pop((event.queue, event.interface), None)
        return
    members[event.queue, event.interface] = ami.ShownMember(
        queue=event.queue,
        member=event.member,
        interface=event.interface,
        state_interface=event.state_interface,
        penalty=event.penalty,
        status=event.status,
        paused=event.paused,
        reason=event.reason,
    )


def boot_of(status: Mapping[str, str], estimate: datetime) -> datetime:
    """Return the instant at which Asterisk started, the same at every login.

    Args:
        status: The reply to CoreStatus; its start time is in Asterisk's own time zone,
            which it does not tell.
        estimate: Now less the ``Uptime`` that FullyBooted told, right within minutes.
    """
    try:
        text = f"{status['CoreStartupDate']} {status['CoreStartupTime']}"
        local = datetime.strptime(text, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    except (KeyError, ValueError):
        return estimate.replace(microsecond=0)
    steps = round((local - estimate).total_seconds() / _ZONE_STEP)
    return local - timedelta(seconds=steps * _ZONE_STEP)
