"""Agents' talks begin, hold, are handed over and end."""

from __future__ import annotations

from datetime import datetime

import msgspec

from ctid.acd import wrap_ups
from ctid.acd.call import Leg
from ctid.acd.facts import TalkEnd, TalkEnded, Transferred
from ctid.acd.tables import Tables
from ctid.acd.talk import Talk, end, hold, resume, started
from ctid.ami.events import AttendedTransfer, BlindTransfer, Hold, Unhold

_replace = msgspec.structs.replace


def begin(t: Tables, talk: Talk) -> None:
    """Write a talk down and tell of it."""
    t.talks[talk.carrier] = talk
    call = t.calls[talk.call]
    served = call.is_served or not talk.assisted
    t.calls[talk.call] = _replace(call, talks=call.talks | {talk.carrier}, is_served=served)
    t.facts.append(started(talk))


def bridged(t: Tables, leg: Leg, at: datetime) -> None:
    """An agent talks with somebody that no queue gave him.

    A second conversation of an agent who has one open is his consultation: its time is in
    the hold of the first. The colleague he consults assists until he takes over.
    """
    uniqueid = leg.uniqueid
    if not leg.agent or leg.is_local or leg.behind or uniqueid in t.talks or uniqueid in t.offers:
        return
    if any(line in t.talks for line in t.agents[leg.agent].lines):
        return
    call = t.calls[leg.call]
    helps = any(t.talks[carrier].began_at < at for carrier in call.talks)
    begin(
        t,
        Talk(
            agent=leg.agent,
            interface=leg.interface,
            call=leg.call,
            leg=uniqueid,
            carrier=uniqueid,
            queue="",
            began_at=at,
            assisted=helps or bool(call.consulted_from),
        ),
    )


def on_hold(t: Tables, leg: Leg | None, event: Hold) -> None:
    """The agent's phone parks the other side."""
    talk = _talk_on(t, leg)
    if talk is not None:
        t.talks[talk.carrier], fact = hold(talk, event.at)
        if fact is not None:
            t.facts.append(fact)


def on_unhold(t: Tables, leg: Leg | None, event: Unhold) -> None:
    """The agent's phone takes the other side back; a REFER sends this without a hold."""
    talk = _talk_on(t, leg)
    if talk is not None:
        t.talks[talk.carrier], fact = resume(talk, event.at)
        if fact is not None:
            t.facts.append(fact)


def _talk_on(t: Tables, leg: Leg | None) -> Talk | None:
    if leg is None:
        return None
    return t.talks.get(leg.uniqueid) or t.talks.get(leg.behind)


def parting(t: Tables, leg: Leg) -> None:
    """Somebody asks to hang up: the first to do so ended every talk of the call.

    Local halves are no persons, and are hung up when they are cut out of the path.
    """
    if leg.is_local and leg.uniqueid not in t.talks:
        return
    for carrier in t.calls[leg.call].talks:
        talk = t.talks[carrier]
        if talk.parting is None:
            by: TalkEnd = "other" if leg.agent else "caller"
            if carrier in (leg.uniqueid, leg.behind):
                by = "agent"
            t.talks[carrier] = _replace(talk, parting=by)


def on_blind_transfer(t: Tables, event: BlindTransfer) -> None:
    """An agent sent his caller to an extension; his own leg goes right after."""
    talk = _talk_on(t, t.legs.get(event.transferer))
    if talk is None or event.result != "Success":
        return
    _tell_transfer(t, talk, event.at, "blind", event.extension)
    t.talks[talk.carrier] = _replace(talk, parting="transfer")


def _tell_transfer(t: Tables, talk: Talk, at: datetime, kind: str, target: str) -> None:
    t.facts.append(
        Transferred(
            at=at,
            call=talk.call,
            agent=talk.agent,
            interface=talk.interface,
            leg=talk.leg,
            queue=talk.queue,
            kind="blind" if kind == "blind" else "attended",
            target=target,
        )
    )


def on_attended_transfer(t: Tables, event: AttendedTransfer) -> None:
    """An agent joined his caller with the colleague he consulted, and is out."""
    leg = t.legs.get(event.orig_transferer)
    talk = _talk_on(t, leg)
    if leg is None or talk is None or event.result != "Success" or event.dest_type == "Threeway":
        return
    heirs = _heirs(t, talk, event)
    target = t.legs.get(event.transfer_target)
    phone = heirs[0].interface if heirs else target.interface if target is not None else ""
    _tell_transfer(t, talk, event.at, "attended", phone)
    left_at = event.at if leg.bridge or leg.left_at is None else leg.left_at
    finish(t, talk, left_at, "transfer")
    for heir in heirs:
        _tell_end(t, heir, event.at, "transfer")
        begin(
            t,
            Talk(
                agent=heir.agent,
                interface=heir.interface,
                call=leg.call,
                leg=heir.leg,
                carrier=heir.carrier,
                queue=heir.queue,
                began_at=event.at,
                peer=event.transferee,
            ),
        )


def _heirs(t: Tables, talk: Talk, event: AttendedTransfer) -> list[Talk]:
    """The colleagues who assisted this agent: they have the caller now."""
    calls = {talk.call}
    for uniqueid in (event.orig_transferer, event.second_transferer, event.transfer_target):
        leg = t.legs.get(uniqueid)
        if leg is not None:
            calls.add(leg.call)
    carriers = {carrier for linkedid in calls if linkedid in t.calls for carrier in t.calls[linkedid].talks}
    assisting = (t.talks[carrier] for carrier in sorted(carriers))
    return [other for other in assisting if other.assisted and other.agent != talk.agent]


def carried_on(t: Tables, half: str, uniqueid: str) -> None:
    """The Local channel under a talk is cut out; the phone behind it is the carrier now."""
    talk = t.talks.get(half)
    if talk is None or uniqueid not in t.legs or uniqueid in t.talks:
        return
    del t.talks[half]
    t.talks[uniqueid] = _replace(talk, carrier=uniqueid)
    call = t.calls[t.legs[uniqueid].call]
    t.calls[call.linkedid] = _replace(call, talks=(call.talks - {half}) | {uniqueid})


def leg_gone(t: Tables, leg: Leg, at: datetime, *, is_seen: bool = True) -> None:
    """The agent is out of the call for good."""
    talk = t.talks.get(leg.uniqueid)
    if talk is None:
        return
    if not is_seen:
        t.talks[talk.carrier] = talk = _replace(talk, partial=True)
    finish(t, talk, at, (talk.parting or "other") if is_seen else "unknown_end")


def finish(t: Tables, talk: Talk, at: datetime, ended_by: TalkEnd) -> None:
    """Close a talk; the note follows, or the call is handled."""
    ended = _tell_end(t, talk, at, ended_by)
    wrap_ups.begin(t, ended, is_partial=talk.partial)


def _tell_end(t: Tables, talk: Talk, at: datetime, ended_by: TalkEnd) -> TalkEnded:
    del t.talks[talk.carrier]
    leg = t.legs.get(talk.carrier)
    for linkedid in {talk.call, leg.call if leg is not None else talk.call}:
        call = t.calls.get(linkedid)
        if call is not None and talk.carrier in call.talks:
            t.calls[linkedid] = _replace(call, talks=call.talks - {talk.carrier})
    ended = end(talk, at, ended_by)
    t.facts.append(ended)
    return ended
