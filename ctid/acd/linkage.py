"""Which leg belongs to which call: legs taken in, moved between calls, and calls that end."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from ctid.acd.call import Call, EndReason, Leg, ended, interface_of, with_participants
from ctid.acd.echoes import CLOCKS_APART, REMEMBERED, by_saying, echo, is_echo
from ctid.acd.facts import CallMerged
from ctid.acd.tables import Tables
from ctid.ami.events import AmiEvent, ChannelEvent, Newchannel, ShownChannel

_replace = msgspec.structs.replace


def add(t: Tables, event: ChannelEvent | ShownChannel, at: datetime, *, is_adopted: bool) -> Leg:
    """Take in a leg; its call too, if it is the first leg of it that we see."""
    interface = interface_of(event.channel)
    leg = Leg(uniqueid=event.uniqueid, channel=event.channel, call=event.linkedid, interface=interface)
    t.legs[leg.uniqueid] = leg
    t.phones_up.setdefault(interface, set()).add(leg.uniqueid)
    call = t.calls.get(leg.call)
    if call is not None:
        t.calls[leg.call] = _replace(call, legs=call.legs | {leg.uniqueid})
        return leg
    t.calls[leg.call] = Call(
        linkedid=leg.call,
        leg=leg.uniqueid,
        channel=event.channel,
        began_at=at,
        caller_number=getattr(event, "caller_number", ""),
        caller_name=getattr(event, "caller_name", ""),
        dialled=getattr(event, "exten", ""),
        legs=frozenset((leg.uniqueid,)),
        participants=frozenset(() if leg.is_local else (interface,)),
        consulted_from=_consulted_from(t, interface),
        is_adopted=is_adopted,
    )
    return leg


def _consulted_from(t: Tables, interface: str) -> str:
    """The call that the agent at this phone has open already: the new one is a consultation."""
    number = t.owners.get(interface)
    agent = t.agents.get(number) if number is not None else None
    if agent is None:
        return ""
    return next((t.talks[line].call for line in sorted(agent.lines) if line in t.talks), "")


def leg_of(t: Tables, event: ChannelEvent) -> Leg | None:
    """The leg an event is about, moved to the call the event names.

    An unknown leg is taken in (Asterisk is right) and told as an anomaly if we should have
    known it; ``None`` for the late word about a leg already hung up.
    """
    uniqueid = event.uniqueid
    leg = t.legs.get(uniqueid)
    if leg is None:
        if uniqueid in t.gone:
            return None
        if t.is_synced:
            t.anomaly(event.at, event.linkedid, "orphan_event", f"{type(event).__name__} of an unknown leg")
        leg = add(t, event, event.at, is_adopted=True)
    elif is_elsewhere(t, leg, event.linkedid) and not _is_late(t, event):
        leg = move(t, leg, event.linkedid, event.at)
    t.seen[uniqueid] = max(event.at, t.seen.get(uniqueid, event.at))
    return leg


def news(t: Tables, events: Sequence[AmiEvent]) -> list[AmiEvent]:
    """Leave out of what the books say all that AMI has said already.

    Of a leg that we know it is what is younger than the last we heard of it. Around that last
    word the clocks do not decide: there it is what we did not hear, word for word.
    """
    heard = [echo(one) for one in t.heard]
    told = by_saying(heard)
    # Of what was before, nobody remembers every word.
    since = min((at for at, _ in heard), default=None) if len(heard) == REMEMBERED else None
    return [event for event in events if not is_echo(event, told) and _is_younger(t, event, since)]


def _is_younger(t: Tables, event: AmiEvent, since: datetime | None) -> bool:
    uniqueid = getattr(event, "uniqueid", "")
    if not uniqueid:
        return True
    if uniqueid in t.gone:
        return False
    seen = t.seen.get(uniqueid)
    is_remembered = since is None or event.at >= since + CLOCKS_APART
    return seen is None or event.at > (seen - CLOCKS_APART if is_remembered else seen)


def is_elsewhere(t: Tables, leg: Leg, linkedid: str) -> bool:
    """Tell whether Asterisk has the leg in another call than we; not so if it left that call for ours.

    A leg's Linkedid only ever changes to that of an older call, never back. But a word from
    before can come later: AMI and the books stamp the same thing differently.
    """
    return leg.call != linkedid and t.heirs.get(linkedid) != leg.call


def _is_late(t: Tables, event: ChannelEvent) -> bool:
    """Overtaken by a younger word about the leg: calls that merged since would merge back."""
    seen = t.seen.get(event.uniqueid)
    return seen is not None and event.at < seen


def phone_leg(t: Tables, uniqueid: str, channel: str, linkedid: str, at: datetime) -> Leg:
    """The leg of a phone that a queue rings, taken in if its own beginning was not heard."""
    leg = t.legs.get(uniqueid)
    if leg is None:
        t.seen[uniqueid] = at
        newborn = Newchannel(at=at, channel=channel, uniqueid=uniqueid, linkedid=linkedid)
        leg = add(t, newborn, at, is_adopted=True)
    return leg


def move(t: Tables, leg: Leg, linkedid: str, at: datetime) -> Leg:
    """The leg belongs to another call now; the first leg to do so merges the calls."""
    old = t.calls[leg.call]
    t.note_heir(old.linkedid, linkedid)
    new = t.calls.get(linkedid)
    if new is None:
        is_over = linkedid in t.gone
        new = Call(
            linkedid=linkedid,
            leg=leg.uniqueid,
            channel=leg.channel,
            began_at=at,
            is_adopted=True,
            is_known=is_over,
            is_over=is_over,
        )
    leg = _replace(leg, call=linkedid)
    t.legs[leg.uniqueid] = leg
    interfaces = () if leg.is_local or not leg.is_up else (leg.interface,)
    talk = {leg.uniqueid} & old.talks
    new = _replace(new, legs=new.legs | {leg.uniqueid}, talks=new.talks | talk)
    t.calls[linkedid] = with_participants(new, *interfaces)
    if old.is_known and not old.merged_into:
        t.announce(linkedid)
        t.facts.append(CallMerged(at=at, call=linkedid, merged=old.linkedid))
    old = _replace(
        old,
        legs=old.legs - {leg.uniqueid},
        talks=old.talks - talk,
        merged_into=old.merged_into or linkedid,
    )
    t.calls[old.linkedid] = old
    if not old.legs:
        end_call(t, old, at)
    return leg


def end_call(t: Tables, call: Call, at: datetime, end_reason: EndReason = "hangup") -> None:
    """The last leg is gone. A call without substance is told now, a spying leg never."""
    if call.is_over or (not call.is_known and (call.is_spying or call.merged_into)):
        del t.calls[call.linkedid]
        return
    t.announce(call.linkedid)
    t.facts.append(ended(call, at, end_reason))
    del t.calls[call.linkedid]
