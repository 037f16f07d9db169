"""Legs come, ring, are answered, bridged and hung up; what that means for calls and agents."""

from __future__ import annotations

from datetime import datetime

import msgspec

from ctid.acd import talks, visits
from ctid.acd.call import EndReason, Leg, interface_of, with_participants
from ctid.acd.linkage import add, end_call, is_elsewhere, leg_of, move
from ctid.acd.recording import stop
from ctid.acd.tables import Tables
from ctid.ami.events import (
    BridgeEnter,
    BridgeLeave,
    ChanSpyStart,
    DialBegin,
    DialEnd,
    DialState,
    Hangup,
    HangupRequest,
    LocalBridge,
    LocalOptimizationBegin,
    Newchannel,
    Newstate,
    Rename,
)

_replace = msgspec.structs.replace


def on_newchannel(t: Tables, event: Newchannel) -> None:
    """A leg came into being, and with it perhaps a call."""
    uniqueid = event.uniqueid
    if uniqueid in t.legs or uniqueid in t.gone:
        return
    t.seen[uniqueid] = event.at
    add(t, event, event.at, is_adopted=uniqueid != event.linkedid)
    if event.state == "Up":
        up(t, t.legs[uniqueid], event.at)


def on_newstate(t: Tables, event: Newstate) -> None:
    """A leg rings or is answered."""
    leg = leg_of(t, event)
    if leg is None:
        return
    if event.state == "Up":
        up(t, leg, event.at)
    elif event.state == "Ringing":
        ringing(t, leg, event.at)


def up(t: Tables, leg: Leg, at: datetime) -> None:
    """The leg was answered."""
    if leg.is_up:
        return
    number = leg.agent or t.owners.get(leg.interface, "")
    t.legs[leg.uniqueid] = _replace(leg, is_up=True, agent=number)
    if number:
        t.line_up(leg.uniqueid, number, at)
    visits.picked_up(t, leg.uniqueid, at)


def ringing(t: Tables, leg: Leg, at: datetime) -> None:
    """The leg says that it rings."""
    if not leg.is_up and not leg.is_ringing:
        number = leg.agent or t.owners.get(leg.interface, "")
        t.legs[leg.uniqueid] = _replace(leg, is_ringing=True, agent=number)
        if number:
            t.ring(leg.uniqueid, number, at)
    visits.rang(t, leg.uniqueid, at)


def on_rename(t: Tables, event: Rename) -> None:
    """Another phone took the leg over (pickup): what rings or talks there is his now."""
    leg = t.legs.get(event.uniqueid)
    if leg is None:
        return
    interface = interface_of(event.newname)
    if interface != leg.interface:
        _off_phone(t, leg)
        t.phones_up.setdefault(interface, set()).add(leg.uniqueid)
        number = t.owners.get(interface, "")
        if leg.agent and number != leg.agent:
            t.silent(leg.uniqueid, leg.agent, event.at)
            if number:
                (t.line_up if leg.is_up else t.ring)(leg.uniqueid, number, event.at)
            leg = _replace(leg, agent=number)
    t.legs[leg.uniqueid] = _replace(leg, channel=event.newname, interface=interface)


def _off_phone(t: Tables, leg: Leg) -> None:
    legs = t.phones_up[leg.interface]
    legs.discard(leg.uniqueid)
    if not legs:
        del t.phones_up[leg.interface]


def on_hangup_request(t: Tables, event: HangupRequest) -> None:
    """The far end of the leg wants to go: this is who ended the call."""
    leg = leg_of(t, event)
    if leg is None:
        return
    t.legs[leg.uniqueid] = _replace(leg, parting=event.cause)
    talks.parting(t, leg)


def on_hangup(t: Tables, event: Hangup) -> None:
    """A leg is gone, and with it whatever lived on it."""
    uniqueid = event.uniqueid
    leg = t.legs.get(uniqueid)
    if leg is None:
        if uniqueid not in t.gone and t.is_synced:
            t.anomaly(event.at, event.linkedid, "orphan_event", "Hangup of an unknown leg")
        return
    if is_elsewhere(t, leg, event.linkedid):
        leg = move(t, leg, event.linkedid, event.at)
    call = t.calls[leg.call]
    if uniqueid == call.leg or (len(call.legs) == 1 and not call.cause):
        t.calls[leg.call] = _replace(call, cause=event.cause, cause_text=event.cause_text)
    drop(t, leg, event.at, cause=event.cause)


def drop(t: Tables, leg: Leg, at: datetime, *, cause: int = 0, end_reason: EndReason = "hangup") -> None:
    """Take the leg out of everything; the last one ends the call."""
    uniqueid = leg.uniqueid
    is_seen = end_reason == "hangup"
    visits.leg_gone(t, leg, at, cause, is_seen=is_seen)
    recording = t.recordings.pop(uniqueid, None)
    if recording is not None and (stopped := stop(recording, at)) is not None:
        t.facts.append(stopped)
    left_at = at if leg.bridge or leg.left_at is None else leg.left_at
    talks.leg_gone(t, leg, left_at, is_seen=is_seen)
    if leg.agent:
        t.silent(uniqueid, leg.agent, left_at)
    if leg.bridge:
        _out_of_bridge(t, leg)
    del t.legs[uniqueid]
    _off_phone(t, leg)
    t.forget(uniqueid, at)
    call = t.calls[leg.call]
    call = _replace(call, legs=call.legs - {uniqueid})
    t.calls[leg.call] = call
    if not call.legs:
        end_call(t, call, at, end_reason)


def on_bridge_enter(t: Tables, event: BridgeEnter) -> None:
    """A leg can hear others; two in a bridge are a conversation."""
    leg = leg_of(t, event)
    if leg is None:
        return
    if leg.bridge and leg.bridge != event.bridge:
        leg = leave_bridge(t, leg, event.at)
    company = enter_bridge(t, leg, event.bridge)
    t.announce(leg.call)
    visits.moved_on(t, leg.uniqueid, event.at)
    if len(company) > 1:
        for uniqueid in sorted(company):
            talks.bridged(t, t.legs[uniqueid], event.at)


def enter_bridge(t: Tables, leg: Leg, bridge: str) -> set[str]:
    """Put the leg into the bridge; return everybody who is in it now."""
    t.legs[leg.uniqueid] = _replace(leg, bridge=bridge)
    company = t.bridges.setdefault(bridge, set())
    company.add(leg.uniqueid)
    if len(company) > 1:
        for uniqueid in company:
            other = t.legs[uniqueid]
            call = t.calls[other.call]
            if not call.is_answered:
                call = _replace(call, is_answered=True)
            t.calls[other.call] = with_participants(call, *(() if other.is_local else (other.interface,)))
    return company


def on_bridge_leave(t: Tables, event: BridgeLeave) -> None:
    """A leg hears nobody now; for good or not, what follows tells."""
    leg = leg_of(t, event)
    if leg is not None and leg.bridge == event.bridge:
        leave_bridge(t, leg, event.at)


def leave_bridge(t: Tables, leg: Leg, at: datetime) -> Leg:
    """Take the leg out of its bridge."""
    _out_of_bridge(t, leg)
    t.legs[leg.uniqueid] = leg = _replace(leg, bridge="", left_at=at)
    return leg


def _out_of_bridge(t: Tables, leg: Leg) -> None:
    company = t.bridges[leg.bridge]
    company.discard(leg.uniqueid)
    if not company:
        del t.bridges[leg.bridge]


def on_dial_begin(t: Tables, event: DialBegin) -> None:
    """One leg rings another. A Local member's real phone is found this way."""
    dialler = t.legs.get(event.uniqueid)
    if dialler is None:
        return
    t.announce(dialler.call)
    if dialler.half in t.offers:
        phone = t.legs.get(event.dest_uniqueid)
        if phone is not None:
            t.legs[phone.uniqueid] = _replace(phone, behind=dialler.half)
    elif event.dest_uniqueid not in t.offers:
        visits.moved_on(t, dialler.uniqueid, event.at)


def on_dial_state(t: Tables, event: DialState) -> None:
    """The far phone rings, says this; ``Newstate`` may have said it already."""
    if event.dial_status == "RINGING":
        visits.rang(t, event.dest_uniqueid, event.at)


def on_dial_end(t: Tables, event: DialEnd) -> None:
    """The far phone was answered or given up."""
    if event.dial_status == "ANSWER":
        visits.picked_up(t, event.dest_uniqueid, event.at, caller=event.uniqueid)
    else:
        visits.given_up(t, event.dest_uniqueid, event.dial_status, event.at)


def on_local_bridge(t: Tables, event: LocalBridge) -> None:
    """Two halves of a Local channel belong together."""
    for one, two in ((event.one, event.two), (event.two, event.one)):
        leg = t.legs.get(one)
        if leg is not None:
            t.legs[one] = _replace(leg, half=two)


def on_local_optimization(t: Tables, event: LocalOptimizationBegin) -> None:
    """A Local channel is cut out: the phone behind it carries the talk on."""
    talks.carried_on(t, event.one, event.source_uniqueid)


def on_spy(t: Tables, event: ChanSpyStart) -> None:
    """The leg only listens: it is not a call, unless it has been one before."""
    leg = t.legs.get(event.spyer)
    if leg is not None:
        t.calls[leg.call] = _replace(t.calls[leg.call], is_spying=True)
