"""Typed events and snapshots to the text a real Asterisk sends for them (22.10, ``config/asterisk``).

With ``timestampevents = yes`` and ``debug = on`` a live event begins with Privilege, Timestamp,
SequenceNumber, File, Line and Func; then come SystemName and its own headers, and a channel is
described whole from ChannelState to Linkedid. Some events that ctid skips are there, too: as many
as remain with our ``disabledevents``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from ctid.ami import events as ami
from ctid.ami.events import AmiEvent, Snapshot

_STATES: Final = {"Down": 0, "Ring": 4, "Ringing": 5, "Up": 6}
_AGENT: Final = frozenset(
    {
        "QueueCallerJoin",
        "QueueCallerLeave",
        "QueueCallerAbandon",
        "AgentCalled",
        "AgentConnect",
        "AgentComplete",
        "AgentRingNoAnswer",
        "QueueMemberStatus",
        "QueueMemberPause",
        "QueueMemberAdded",
        "QueueMemberRemoved",
        "QueueMemberPenalty",
    }
)


@dataclass
class _Leg:
    """What is printed of a channel."""

    channel: str
    uniqueid: str
    linkedid: str
    state: str
    number: str
    exten: str
    context: str

    def text(self, prefix: str = "") -> str:
        """Describe it as manager_channels.c does."""
        p = prefix
        return (
            f"{p}Channel: {self.channel}\r\n"
            f"{p}ChannelState: {_STATES.get(self.state, 0)}\r\n"
            f"{p}ChannelStateDesc: {self.state}\r\n"
            f"{p}CallerIDNum: {self.number or '<unknown>'}\r\n"
            f"{p}CallerIDName: 王小明\r\n"
            f"{p}ConnectedLineNum: <unknown>\r\n"
            f"{p}ConnectedLineName: <unknown>\r\n"
            f"{p}Language: zh\r\n"
            f"{p}AccountCode: \r\n"
            f"{p}Context: {self.context}\r\n"
            f"{p}Exten: {self.exten}\r\n"
            f"{p}Priority: 1\r\n"
            f"{p}Uniqueid: {self.uniqueid}\r\n"
            f"{p}Linkedid: {self.linkedid}\r\n"
        )


def _bridge(name: str, size: int, prefix: str = "") -> str:
    p = prefix
    return (
        f"{p}BridgeUniqueid: {name}\r\n"
        f"{p}BridgeType: basic\r\n"
        f"{p}BridgeTechnology: simple_bridge\r\n"
        f"{p}BridgeCreator: <unknown>\r\n"
        f"{p}BridgeName: <unknown>\r\n"
        f"{p}BridgeNumChannels: {size}\r\n"
        f"{p}BridgeVideoSourceMode: none\r\n"
    )


def _member(event: ami.QueueMemberEvent, member: str, location: str) -> str:
    """``member`` and ``location`` are header names: lists have others than events."""
    return (
        f"Queue: {event.queue}\r\n{member}: {event.member}\r\n{location}: {event.interface}\r\n"
        f"StateInterface: {event.interface}\r\nMembership: dynamic\r\nPenalty: {event.penalty}\r\n"
        "CallsTaken: 0\r\nLastCall: 0\r\nLastPause: 0\r\nLoginTime: 0\r\nInCall: 0\r\n"
        f"Status: {event.status}\r\nPaused: {int(event.paused)}\r\nPausedReason: {event.reason}\r\n"
    )


class Announcer:
    """Renders live events; knows of each leg what the events said of it.

    Args:
        system: ``systemname``.

    Attributes:
        number: SequenceNumber of the next event.
    """

    def __init__(self, system: str) -> None:
        self.number = 0
        self._system = system
        self._legs: dict[str, _Leg] = {}

    def restart(self) -> None:
        """Asterisk begins anew."""
        self.number = 0
        self._legs.clear()

    def text(self, events: Iterable[AmiEvent]) -> bytes:
        """Return the frames of these events, with what else is said at such occasions."""
        return "".join(frame for event in events for frame in self._frames(event)).encode()

    def _frames(self, event: AmiEvent) -> Iterator[str]:
        name = "VarSet" if isinstance(event, ami.QueueStatusVariable) else type(event).__name__
        if isinstance(event, ami.BridgeEnter) and event.bridge_size == 1:
            yield self.frame("BridgeCreate", event.at, _bridge(event.bridge, 0))
        body = _BODIES.get(type(event), _of_channel)
        yield self.frame(name, event.at, body(self, event))
        if isinstance(event, ami.QueueCallerJoin):
            yield self.frame("MusicOnHoldStart", event.at, self.leg(event).text() + "Class: ctid\r\n")
        elif isinstance(event, ami.AgentConnect):
            yield self.frame("MusicOnHoldStop", event.at, self.leg(event).text())
        elif isinstance(event, ami.Hangup):
            self._legs.pop(event.uniqueid, None)

    def frame(self, name: str, at: datetime, body: str) -> str:
        """Number and render one event."""
        number, self.number = self.number, self.number + 1
        kind = "agent" if name in _AGENT else {"UserEvent": "user", "VarSet": "dialplan"}.get(name, "call")
        return (
            f"Event: {name}\r\nPrivilege: {kind},all\r\nTimestamp: {at.timestamp():.6f}\r\n"
            f"SequenceNumber: {number}\r\nFile: manager.c\r\nLine: 593\r\nFunc: manager_default_msg_cb\r\n"
            f"SystemName: {self._system}\r\n{body}\r\n"
        )

    def leg(self, event: Any, prefix: str = "") -> _Leg:
        """The leg an event is about, brought up to date with what the event says."""
        uniqueid = getattr(event, f"{prefix}uniqueid")
        channel, linkedid = getattr(event, f"{prefix}channel", ""), getattr(event, f"{prefix}linkedid", "")
        leg = self._legs.get(uniqueid)
        if leg is None:
            leg = self._legs[uniqueid] = _Leg(channel, uniqueid, linkedid, "Down", "", "s", "ctid-agents")
        if isinstance(event, ami.Newchannel):
            leg.number, leg.exten, leg.context = event.caller_number, event.exten, "ctid-inbound"
        leg.state = getattr(event, "state", "") or leg.state
        leg.channel, leg.linkedid = channel or leg.channel, linkedid or leg.linkedid
        return leg

    def known(self, uniqueid: str, prefix: str) -> str:
        """Describe a leg known by its id only."""
        return self._legs[uniqueid].text(prefix)


Body = Callable[[Announcer, Any], str]


def _of_channel(a: Announcer, event: Any) -> str:
    return a.leg(event).text()


def _of_dial(a: Announcer, event: Any) -> str:
    begin = a.leg(event).text() if event.uniqueid else ""
    status = getattr(event, "dial_status", "")
    end = f"DialStatus: {status}\r\n" if status else f"DialString: {event.dest_channel}\r\n"
    return begin + a.leg(event, "dest_").text("Dest") + end


def _of_offer(a: Announcer, event: Any) -> str:
    number = event.interface.partition("/")[2]
    more = f"RingTime: {event.ring_ms}\r\n" if isinstance(event, ami.AgentRingNoAnswer) else ""
    if isinstance(event, ami.AgentConnect):
        more = "HoldTime: 1\r\nRingTime: 1\r\n"
    elif isinstance(event, ami.AgentComplete):
        more = "HoldTime: 1\r\nTalkTime: 1\r\nReason: caller\r\n"
    return (
        a.leg(event).text()
        + a.leg(event, "dest_").text("Dest")
        + f"Queue: {event.queue}\r\nInterface: {event.interface}\r\nMemberName: {number}\r\n{more}"
    )


def _of_join(a: Announcer, event: ami.QueueCallerJoin) -> str:
    return (
        a.leg(event).text()
        + f"Queue: {event.queue}\r\nPosition: {event.position}\r\nCount: {event.count}\r\n"
    )


def _of_leave(a: Announcer, event: Any) -> str:
    return a.leg(event).text() + f"Queue: {event.queue}\r\nPosition: 1\r\nCount: 0\r\n"


def _of_abandon(a: Announcer, event: Any) -> str:
    return (
        a.leg(event).text() + f"Queue: {event.queue}\r\nPosition: 1\r\nOriginalPosition: 1\r\nHoldTime: 1\r\n"
    )


def _of_hangup(a: Announcer, event: ami.Hangup) -> str:
    return (
        a.leg(event).text() + f"Cause: {event.cause}\r\nCause-txt: {event.cause_text}\r\nTechCause: 200\r\n"
    )


def _of_request(a: Announcer, event: ami.HangupRequest) -> str:
    return a.leg(event).text() + f"Cause: {event.cause}\r\nTechCause: 200\r\n"


def _of_bridging(a: Announcer, event: Any) -> str:
    return _bridge(event.bridge, event.bridge_size) + a.leg(event).text()


def _of_member(a: Announcer, event: ami.QueueMemberEvent) -> str:
    return _member(event, "MemberName", "Interface") + "Ringinuse: 0\r\nWrapuptime: 0\r\n"


def _of_user(a: Announcer, event: ami.UserEvent) -> str:
    more = f"UserEvent: {event.name}\r\n"
    for attribute in ("queue", "status", "digit", "line", "recording", "business", "vip"):
        if value := getattr(event, attribute):
            more += f"{ami.header_of(attribute)}: {value}\r\n"
    return a.leg(event).text() + more


def _of_variable(a: Announcer, event: ami.QueueStatusVariable) -> str:
    return a.leg(event).text() + f"Variable: {event.variable}\r\nValue: {event.value}\r\n"


def _of_blind(a: Announcer, event: ami.BlindTransfer) -> str:
    return (
        f"Result: {event.result}\r\n"
        + a.known(event.transferer, "Transferer")
        + a.known(event.transferee, "Transferee")
        + _bridge("gone", 2)
        + f"IsExternal: Yes\r\nContext: {event.context}\r\nExtension: {event.extension}\r\n"
    )


def _of_attended(a: Announcer, event: ami.AttendedTransfer) -> str:
    return (
        f"Result: {event.result}\r\n"
        + a.known(event.orig_transferer, "OrigTransferer")
        + _bridge("first", 2, "Orig")
        + a.known(event.second_transferer, "SecondTransferer")
        + _bridge("second", 2, "Second")
        + a.known(event.transferee, "Transferee")
        + a.known(event.transfer_target, "TransferTarget")
        + f"IsExternal: No\r\nDestType: {event.dest_type}\r\nDestBridgeUniqueid: first\r\n"
    )


_BODIES: Final[dict[type[AmiEvent], Body]] = {
    ami.DialBegin: _of_dial,
    ami.DialState: _of_dial,
    ami.DialEnd: _of_dial,
    ami.AgentCalled: _of_offer,
    ami.AgentConnect: _of_offer,
    ami.AgentComplete: _of_offer,
    ami.AgentRingNoAnswer: _of_offer,
    ami.QueueCallerJoin: _of_join,
    ami.QueueCallerLeave: _of_leave,
    ami.QueueCallerAbandon: _of_abandon,
    ami.Hangup: _of_hangup,
    ami.HangupRequest: _of_request,
    ami.BridgeEnter: _of_bridging,
    ami.BridgeLeave: _of_bridging,
    ami.QueueMemberStatus: _of_member,
    ami.QueueMemberPause: _of_member,
    ami.QueueMemberAdded: _of_member,
    ami.QueueMemberRemoved: _of_member,
    ami.UserEvent: _of_user,
    ami.QueueStatusVariable: _of_variable,
    ami.BlindTransfer: _of_blind,
    ami.AttendedTransfer: _of_attended,
}


# -- lists --------------------------------------------------------------------


def _list(action: str, action_id: str, items: list[tuple[str, str]]) -> bytes:
    begin = f"Response: Success\r\nActionID: {action_id}\r\nEventList: start\r\nMessage: List follows\r\n\r\n"
    middle = "".join(f"Event: {name}\r\nActionID: {action_id}\r\n{body}\r\n" for name, body in items)
    end = (
        f"Event: {action}Complete\r\nActionID: {action_id}\r\nEventList: Complete\r\n"
        f"ListItems: {len(items)}\r\n\r\n"
    )
    return (begin + middle + end).encode()


def channel_list(snapshot: Snapshot, action_id: str) -> bytes:
    """Answer CoreShowChannels."""
    items = []
    for one in snapshot.channels:
        leg = _Leg(one.channel, one.uniqueid, one.linkedid, one.state, one.caller_number, "s", "ctid-wait")
        more = (
            f"Application: {one.application}\r\nApplicationData: {one.application_data}\r\n"
            f"Duration: 00:00:01\r\nBridgeId: {one.bridge}\r\n"
        )
        items.append(("CoreShowChannel", leg.text() + more))
    return _list("CoreShowChannels", action_id, items)


def queue_list(snapshot: Snapshot, action_id: str) -> bytes:
    """Answer QueueStatus."""
    items = []
    for queue in snapshot.queues:
        items.append(
            ("QueueParams", f"Queue: {queue.queue}\r\nStrategy: rrmemory\r\nCalls: {queue.calls}\r\n")
        )
        for member in snapshot.members:
            if member.queue == queue.queue:
                items.append(("QueueMember", _member(member, "Name", "Location") + "Wrapuptime: 0\r\n"))  # type: ignore[arg-type]
        for entry in snapshot.entries:
            if entry.queue == queue.queue:
                items.append(("QueueEntry", _entry(entry)))
    return _list("QueueStatus", action_id, items)


def _entry(entry: ami.ShownEntry) -> str:
    return (
        f"Queue: {entry.queue}\r\nPosition: {entry.position}\r\nChannel: {entry.channel}\r\n"
        f"Uniqueid: {entry.uniqueid}\r\nCallerIDNum: {entry.caller_number or 'unknown'}\r\n"
        "CallerIDName: 王小明\r\nConnectedLineNum: unknown\r\nConnectedLineName: unknown\r\n"
        f"Wait: {entry.wait}\r\nPriority: 0\r\n"
    )
