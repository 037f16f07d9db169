"""Legs, bridges and merges of the calls that Asterisk carries.

A call is everything with one Linkedid. Legs keep their Uniqueid for life but can change
their call: at an attended transfer the consult call's legs quietly take the customer's
Linkedid, and the consult call is *merged*.

A call is announced with its first sign of substance (it queues, dials, is bridged, routed
or recorded), or with its end: a supervisor's spying leg has none, and is never a call.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

from ctid.acd.facts import ZERO, CallEnded, CallRouted, CallStarted

_replace = msgspec.structs.replace

_NO_LEGS: frozenset[str] = frozenset()

#: How we know that the call is over.
EndReason = Literal["hangup", "asterisk_lost", "unseen"]


class Leg(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One Asterisk channel.

    Attributes:
        call: Linkedid, now.
        interface: Channel name without its serial: the phone or trunk.
        is_ringing, is_up: It says it rings; it was answered.
        bridge: Where it is now; empty: nowhere.
        left_at: When it was last taken out of a bridge.
        parting: Q.850 cause with which the far end asked to hang up; -1: it did not.
        half: The other half, for a Local channel.
        behind: The offered leg that this phone is behind, for a Local member's real phone.
        agent: Whose phone it is, once it rings or is up.
    """

    uniqueid: str
    channel: str
    call: str
    interface: str
    is_ringing: bool = False
    is_up: bool = False
    bridge: str = ""
    left_at: datetime | None = None
    parting: int = -1
    half: str = ""
    behind: str = ""
    agent: str = ""

    @property
    def is_local(self) -> bool:
        """Asterisk talking to itself; nobody's phone."""
        return self.channel.startswith("Local/")


class Call(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One call.

    Attributes:
        leg: The first leg.
        legs: Uniqueids, live; talks: carriers of the agents' talks, live.
        participants: Phones that took part so far.
        routed: What was decided for it; ``None``: nobody told.
        consulted_from: The call its agent had on hold when he began this one.
        is_known: Announced by ``CallStarted``.
        is_spying: Begun by a supervisor to listen.
        is_served: An agent has talked in it.
        merged_into: The call that took it up, once that happened.
        is_over: Its end has been told, and then one more leg of it was seen: nothing is told twice.
    """

    linkedid: str
    leg: str
    channel: str
    began_at: datetime
    caller_number: str = ""
    caller_name: str = ""
    dialled: str = ""
    line: str = ""
    routed: CallRouted | None = None
    legs: frozenset[str] = _NO_LEGS
    talks: frozenset[str] = _NO_LEGS
    participants: frozenset[str] = _NO_LEGS
    consulted_from: str = ""
    merged_into: str = ""
    is_over: bool = False
    is_adopted: bool = False
    is_known: bool = False
    is_spying: bool = False
    is_answered: bool = False
    is_served: bool = False
    cause: int = 0
    cause_text: str = ""

    @property
    def is_transferred(self) -> bool:
        """Whoever queues in it now comes from an agent: was transferred, or is consulted about one."""
        return self.is_served or bool(self.consulted_from)


def interface_of(channel: str) -> str:
    """Return the phone or trunk a channel belongs to: ``PJSIP/201-0000001a`` is on ``PJSIP/201``.

    A Local channel's halves end in ``;1`` and ``;2`` and are stripped likewise.
    """
    return channel.rpartition("-")[0] or channel


def announced(call: Call) -> CallStarted:
    """State that the call began."""
    return CallStarted(
        at=call.began_at,
        call=call.linkedid,
        leg=call.leg,
        channel=call.channel,
        caller_number=call.caller_number,
        caller_name=call.caller_name,
        dialled=call.dialled,
        adopted=call.is_adopted,
    )


def ended(call: Call, at: datetime, end_reason: EndReason = "hangup") -> CallEnded:
    """State that the last leg is gone."""
    return CallEnded(
        at=max(at, call.began_at),
        call=call.linkedid,
        began_at=call.began_at,
        lasted=max(at - call.began_at, ZERO),
        answered=call.is_answered,
        participants=tuple(sorted(call.participants)),
        cause=call.cause,
        cause_text=call.cause_text,
        end_reason=end_reason,
    )


def with_participants(call: Call, *interfaces: str) -> Call:
    """Note who takes part."""
    if all(interface in call.participants for interface in interfaces):
        return call
    return _replace(call, participants=call.participants.union(interfaces))
