"""Messages to typed events: the part of AMI that ctid acts upon.

One class per event name; an attribute is the header it was read from (``uniqueid``
is ``Uniqueid``). Events not listed here are counted and skipped without being
decoded, which is nine tenths of what Asterisk sends.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

#: Attributes whose header is not simply the attribute in CamelCase.
_HEADERS = {
    "at": "Timestamp",
    "caller_number": "CallerIDNum",
    "caller_name": "CallerIDName",
    "uniqueid": "Uniqueid",
    "linkedid": "Linkedid",
    "dest_uniqueid": "DestUniqueid",
    "dest_linkedid": "DestLinkedid",
    "cause_text": "Cause-txt",
    "bridge": "BridgeUniqueid",
    "bridge_size": "BridgeNumChannels",
    "state": "ChannelStateDesc",
    "name": "UserEvent",
    "member": "MemberName",
    "ring_ms": "RingTime",
    "spyer": "SpyerUniqueid",
    "spyee": "SpyeeUniqueid",
    "one": "LocalOneUniqueid",
    "two": "LocalTwoUniqueid",
    "one_channel": "LocalOneChannel",
    "two_channel": "LocalTwoChannel",
    "transferer": "TransfererUniqueid",
    "transferee": "TransfereeUniqueid",
    "orig_transferer": "OrigTransfererUniqueid",
    "second_transferer": "SecondTransfererUniqueid",
    "transfer_target": "TransferTargetUniqueid",
    "recording": "CtidRecording",
    "line": "CtidLine",
    "priority": "CtidPriority",
    "business": "CtidBusiness",
    "vip": "CtidVip",
    "reason": "PausedReason",
    "newname": "Newname",
}


def header_of(attribute: str) -> str:
    """Return the AMI header that an event attribute is read from."""
    return _HEADERS.get(attribute) or "".join(part.capitalize() for part in attribute.split("_"))


class AmiEvent(msgspec.Struct, frozen=True, kw_only=True, gc=False, rename=header_of):
    """What every event has.

    Attributes:
        at: Asterisk's own clock (``timestampevents=yes``), UTC, microseconds;
            the instant of receipt where Asterisk sent none.
    """

    at: datetime


class ChannelEvent(AmiEvent, frozen=True, kw_only=True, gc=False):
    """An event about one leg.

    Attributes:
        channel: Asterisk's name for it, e.g. ``PJSIP/201-0000001a``.
        uniqueid: Identity of the leg.
        linkedid: Identity of the call at this moment; changes at a transfer.
    """

    channel: str
    uniqueid: str
    linkedid: str


class Newchannel(ChannelEvent, frozen=True, kw_only=True, gc=False):
    """A leg came into being."""

    state: str = ""
    caller_number: str = ""
    caller_name: str = ""
    exten: str = ""
    context: str = ""


class Newstate(ChannelEvent, frozen=True, kw_only=True, gc=False):
    """A leg's state changed: ``Ring``, ``Ringing``, ``Up`` ..."""

    state: str


class Rename(AmiEvent, frozen=True, kw_only=True, gc=False):
    """A channel changed its name (pickup, masquerade); ``uniqueid`` stays."""

    uniqueid: str
    newname: str


class HangupRequest(ChannelEvent, frozen=True, kw_only=True, gc=False):
    """The far end of this leg asked to hang up; ``cause`` (Q.850) is 0 where it gave none."""

    cause: int = 0


class Hangup(ChannelEvent, frozen=True, kw_only=True, gc=False):
    """A leg is gone."""

    cause: int = 0
    cause_text: str = ""


class DialEvent(AmiEvent, frozen=True, kw_only=True, gc=False):
    """One leg rings another; the caller's side may be missing (originate, ``_attended`` Local legs)."""

    uniqueid: str = ""
    linkedid: str = ""
    dest_channel: str
    dest_uniqueid: str
    dest_linkedid: str = ""


class DialBegin(DialEvent, frozen=True, kw_only=True, gc=False):
    """The far phone is being called."""


class DialState(DialEvent, frozen=True, kw_only=True, gc=False):
    """``RINGING``, ``PROGRESS`` ... of the far phone."""

    dial_status: str


class DialEnd(DialEvent, frozen=True, kw_only=True, gc=False):
    """``ANSWER``, ``NOANSWER``, ``CANCEL``, ``BUSY`` ...; comes twice for cancelled legs."""

    dial_status: str


class QueueCallerJoin(ChannelEvent, frozen=True, kw_only=True, gc=False):
    """A caller began to wait."""

    queue: str
    position: int = 0
    count: int = 0
    caller_number: str = ""
    caller_name: str = ""
    exten: str = ""


class QueueCallerLeave(ChannelEvent, frozen=True, kw_only=True, gc=False):
    """A caller is no longer waiting; does not say why."""

    queue: str


class QueueCallerAbandon(ChannelEvent, frozen=True, kw_only=True, gc=False):
    """Left unanswered; also sent for time-out and leave-empty, so it is *not* "abandoned" by itself."""

    queue: str


class AgentCalled(ChannelEvent, frozen=True, kw_only=True, gc=False):
    """The queue rings one member for this caller (``uniqueid`` is the caller's leg)."""

    queue: str
    member: str = ""
    interface: str
    dest_channel: str = ""
    dest_uniqueid: str = ""


class AgentConnect(ChannelEvent, frozen=True, kw_only=True, gc=False):
    """The member answered and the two are about to talk."""

    queue: str
    member: str = ""
    interface: str
    dest_channel: str = ""
    dest_uniqueid: str = ""


class AgentRingNoAnswer(ChannelEvent, frozen=True, kw_only=True, gc=False):
    """The member did not take it: rang out, refused, or unreachable.

    Attributes:
        ring_ms: Milliseconds here (whole seconds in other events: app_queue.c, rna()).
    """

    queue: str
    member: str = ""
    interface: str
    dest_uniqueid: str = ""
    ring_ms: int = 0


class AgentComplete(AmiEvent, frozen=True, kw_only=True, gc=False):
    """The queue is done with this call; may lack every channel field (asterisk.md 5.9)."""

    queue: str
    member: str = ""
    interface: str
    uniqueid: str = ""
    linkedid: str = ""
    dest_uniqueid: str = ""


class BridgeEnter(ChannelEvent, frozen=True, kw_only=True, gc=False):
    """A leg can hear others now."""

    bridge: str
    bridge_size: int = 0


class BridgeLeave(ChannelEvent, frozen=True, kw_only=True, gc=False):
    """A leg can not hear others any more."""

    bridge: str
    bridge_size: int = 0


class Hold(ChannelEvent, frozen=True, kw_only=True, gc=False):
    """This leg's phone put the other side on hold."""


class Unhold(ChannelEvent, frozen=True, kw_only=True, gc=False):
    """This leg's phone took the other side back; also sent without a Hold before (REFER)."""


class BlindTransfer(AmiEvent, frozen=True, kw_only=True, gc=False):
    """``transferer`` sent ``transferee`` to an extension."""

    result: str
    transferer: str
    transferee: str
    extension: str = ""
    context: str = ""


class AttendedTransfer(AmiEvent, frozen=True, kw_only=True, gc=False):
    """``orig_transferer`` joined his caller with somebody he consulted."""

    result: str
    orig_transferer: str
    second_transferer: str = ""
    transferee: str = ""
    transfer_target: str = ""
    dest_type: str = ""


class LocalBridge(AmiEvent, frozen=True, kw_only=True, gc=False):
    """The two halves of a Local channel were joined."""

    one: str
    two: str
    one_channel: str = ""
    two_channel: str = ""


class LocalOptimizationBegin(AmiEvent, frozen=True, kw_only=True, gc=False):
    """A Local channel is about to be cut out of the path."""

    one: str
    two: str
    source_uniqueid: str = msgspec.field(default="", name="SourceUniqueid")


class QueueMemberEvent(AmiEvent, frozen=True, kw_only=True, gc=False):
    """A member's place in one queue, whole.

    Attributes:
        status: Asterisk device state: 0 unknown, 1 not in use, 2 in use, 3 busy,
            4 invalid, 5 unavailable, 6 ringing, 7 ring+in use, 8 on hold.
    """

    queue: str
    member: str = ""
    interface: str
    state_interface: str = ""
    penalty: int = 0
    status: int = 0
    paused: bool = False
    reason: str = ""


class QueueMemberStatus(QueueMemberEvent, frozen=True, kw_only=True, gc=False):
    """Device state of a member; repeated once per queue."""


class QueueMemberPause(QueueMemberEvent, frozen=True, kw_only=True, gc=False):
    """Paused, unpaused, or paused again with another reason."""


class QueueMemberAdded(QueueMemberEvent, frozen=True, kw_only=True, gc=False):
    """An agent's phone was added to a queue."""


class QueueMemberRemoved(QueueMemberEvent, frozen=True, kw_only=True, gc=False):
    """An agent's phone was taken out of a queue."""


class QueueMemberPenalty(QueueMemberEvent, frozen=True, kw_only=True, gc=False):
    """A member's penalty changed."""


class UserEvent(AmiEvent, frozen=True, kw_only=True, gc=False):
    """Sent by our own dialplan fragments; see ``dialplan/`` for the names.

    ``QueueExit``   Queue() returned: ``status`` is QUEUESTATUS.
    ``ExitKey``     the caller pressed a key to leave the queue.
    ``CtidCall``    a call was routed: line, recording id, VIP and so on.
    """

    name: str
    channel: str = ""
    uniqueid: str = ""
    linkedid: str = ""
    queue: str = ""
    status: str = ""
    recording: str = ""
    line: str = ""
    business: str = ""
    vip: str = ""
    digit: str = ""


class QueueStatusVariable(ChannelEvent, frozen=True, kw_only=True, gc=False):
    """``VarSet`` of QUEUESTATUS; every other VarSet is skipped."""

    variable: str
    value: str = ""


class MixMonitorStart(ChannelEvent, frozen=True, kw_only=True, gc=False):
    """A recording runs on this leg; its file name is not told."""


class MixMonitorStop(ChannelEvent, frozen=True, kw_only=True, gc=False):
    """A recording was stopped on purpose; nothing is sent at hang-up."""


class MixMonitorMute(ChannelEvent, frozen=True, kw_only=True, gc=False):
    """Recording muted (``mute`` 1) or unmuted (0)."""

    mute: bool = msgspec.field(name="State")
    direction: str = ""


class ChanSpyStart(AmiEvent, frozen=True, kw_only=True, gc=False):
    """A supervisor's leg began to listen to an agent's leg; a spy leg is never a call."""

    spyer: str
    spyee: str = ""


class ChanSpyStop(AmiEvent, frozen=True, kw_only=True, gc=False):
    """The listening ended."""

    spyer: str
    spyee: str = ""


class FullyBooted(AmiEvent, frozen=True, kw_only=True, gc=False):
    """Asterisk is ready; sent after every login.

    Attributes:
        uptime: Whole seconds since Asterisk started; the boot identity is ``at - uptime``.
    """

    uptime: int = 0


class Shutdown(AmiEvent, frozen=True, kw_only=True, gc=False):
    """Asterisk says good-bye (not always: asterisk.md 5.19)."""

    restart: str = ""


# -- snapshot: what a list action answered, for reconciliation ---------------


class ShownChannel(msgspec.Struct, frozen=True, kw_only=True, gc=False, rename=header_of):
    """One ``CoreShowChannel``."""

    channel: str
    uniqueid: str
    linkedid: str
    state: str = ""
    caller_number: str = ""
    caller_name: str = ""
    exten: str = ""
    context: str = ""
    bridge: str = msgspec.field(default="", name="BridgeId")
    application: str = ""
    application_data: str = ""


class ShownQueue(msgspec.Struct, frozen=True, kw_only=True, gc=False, rename=header_of):
    """One ``QueueParams``."""

    queue: str
    strategy: str = ""
    calls: int = 0


class ShownMember(msgspec.Struct, frozen=True, kw_only=True, gc=False, rename=header_of):
    """One ``QueueMember``; list events say Name and Location for the same things."""

    queue: str
    member: str = msgspec.field(default="", name="Name")
    interface: str = msgspec.field(name="Location")
    state_interface: str = ""
    penalty: int = 0
    status: int = 0
    paused: bool = False
    reason: str = ""


class ShownEntry(msgspec.Struct, frozen=True, kw_only=True, gc=False, rename=header_of):
    """One ``QueueEntry``: a waiting caller; has no Linkedid.

    Attributes:
        wait: Whole seconds waited so far.
    """

    queue: str
    channel: str
    uniqueid: str
    position: int = 0
    wait: int = 0
    caller_number: str = ""
    caller_name: str = ""


class Snapshot(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The floor as Asterisk lists it.

    Not a consistent cut: events already on their way are delivered after it.

    Attributes:
        at: When it was asked for, Asterisk's clock, UTC.
        boot: Identity of this run of Asterisk (its start instant, whole seconds, UTC).
        system: Asterisk's ``systemname``; empty if it has none.
    """

    at: datetime
    boot: datetime
    system: str
    channels: tuple[ShownChannel, ...]
    queues: tuple[ShownQueue, ...]
    members: tuple[ShownMember, ...]
    entries: tuple[ShownEntry, ...]


class LinkLost(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The AMI connection is gone: what we know grows stale from ``at`` on."""

    at: datetime
    why: str


class Gap(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Events are missing, on a connection that lives.

    Attributes:
        at: They were sent before this, UTC.
    """

    at: datetime
