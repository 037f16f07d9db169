"""What a pretend Asterisk answers to CoreShowChannels and QueueStatus."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ctid.ami import events as ami
from ctid.ami.events import Snapshot

if TYPE_CHECKING:
    from lab.switchboard import Switchboard


def listed(board: Switchboard) -> Snapshot:
    """List channels, queues, members and who waits."""
    queues = sorted(
        {seat.queue for seat in board.seats.values()} | {c.queue for c in board.channels.values()}
    )
    return Snapshot(
        at=board.at,
        boot=board.boot,
        system=board.system,
        channels=tuple(
            ami.ShownChannel(
                channel=one.name,
                uniqueid=one.uniqueid,
                linkedid=one.linkedid,
                state=one.state,
                caller_number=one.number,
                bridge=one.bridge,
                application="Queue" if one.application else one.app[0] or "AppQueue",
                application_data=f"{one.application},,,,60"
                if one.application
                else one.app[1] or "(Outgoing Line)",
            )
            for one in board.channels.values()
        ),
        queues=tuple(ami.ShownQueue(queue=queue) for queue in queues if queue),
        members=tuple(
            ami.ShownMember(
                queue=seat.queue,
                member=seat.member,
                interface=seat.interface,
                status=seat.status,
                paused=seat.paused,
                reason=seat.reason,
            )
            for seat in board.seats.values()
        ),
        entries=tuple(
            ami.ShownEntry(
                queue=queue,
                channel=one.name,
                uniqueid=one.uniqueid,
                position=position,
                wait=int((board.at - one.joined_at).total_seconds()) if one.joined_at else 0,
                caller_number=one.number,
            )
            for queue in queues
            if queue
            for position, one in enumerate(board.waiting(queue), 1)
        ),
    )
