"""Callers join queues, phones ring for them, and they are answered or go."""

from __future__ import annotations

from datetime import datetime

import msgspec

from ctid.acd import members, talks, wrap_ups
from ctid.acd.call import Leg
from ctid.acd.facts import CallRouted, OfferOutcome, VisitOutcome
from ctid.acd.linkage import leg_of, phone_leg
from ctid.acd.offer import Offer, answer, end, made, refusal, ring
from ctid.acd.queue_entry import DOOR_OUTCOMES, QueueEntry, Stage, advance, joined, left
from ctid.acd.recording import Recording, name
from ctid.acd.tables import Tables
from ctid.acd.talk import Talk
from ctid.ami.events import (
    AgentCalled,
    AgentConnect,
    AgentRingNoAnswer,
    QueueCallerAbandon,
    QueueCallerJoin,
    QueueCallerLeave,
    QueueStatusVariable,
    UserEvent,
)

_replace = msgspec.structs.replace

#: Q.850: answered elsewhere.
_ELSEWHERE = 26
#: Taken out of a caller's name by dialplan/ctid-inbound.conf.
_NOT_SHOWN = frozenset('"\\|')


# -- joining ------------------------------------------------------------------


def on_join(t: Tables, event: QueueCallerJoin) -> None:
    """A caller began to wait."""
    leg = leg_of(t, event)
    if leg is None:
        return
    before = t.entries.get(leg.uniqueid)
    out_at = t.out.get(leg.uniqueid)
    if out_at is not None and event.at <= out_at:
        return  # old news, told by the books before
    if before is not None:
        if before.queue == event.queue and before.stage is not Stage.LEAVING:
            return
        _step(t, before, "moved on", event.at)
    t.announce(leg.call)
    call = t.calls[leg.call]
    entry = QueueEntry(
        call=leg.call,
        queue=event.queue,
        leg=leg.uniqueid,
        joined_at=event.at,
        caller_number=event.caller_number,  # the dialplan left nothing of "anonymous" or "s"
        caller_name=_own_name(event.caller_name, call.caller_name, event.caller_number),
        rank=_rank(t, event.queue, event.position, event.count),
    )
    wait(t, entry)
    t.facts.append(joined(entry, event.position, transferred=call.is_transferred))


def _own_name(shown: str, given: str, number: str) -> str:
    """The caller's own name: the dialplan puts words such as [VIP] before it, for the phones.

    It also takes out what a name must not hold, and shows the number where a name is lacking
    or too long for a phone (ctid-caller-name in dialplan/ctid-queue.conf).
    """
    own = "".join(letter for letter in given if letter not in _NOT_SHOWN).strip()
    is_his = shown.endswith(own) if own else not shown
    is_number = bool(number) and shown != number and shown.endswith(number)
    return own if is_his or is_number else shown or own


def _rank(t: Tables, queue: str, position: int, count: int) -> float:
    """At the end, as a rule; a caller with priority goes between two who wait already."""
    t.arrivals += 1
    waiting = t.waiting.get(queue)
    if not waiting or not 0 < position < count or position > len(waiting):
        return float(t.arrivals)
    ranks = sorted(waiting.values())
    behind = ranks[position - 1]
    return (ranks[position - 2] + behind) / 2 if position > 1 else behind - 1


def wait(t: Tables, entry: QueueEntry) -> None:
    """Write the caller down as waiting."""
    t.entries[entry.leg] = entry
    t.waiting.setdefault(entry.queue, {})[entry.leg] = entry.rank


# -- ringing ------------------------------------------------------------------


def on_called(t: Tables, event: AgentCalled) -> None:
    """The queue rings one member for this caller."""
    caller = leg_of(t, event)
    uniqueid = event.dest_uniqueid
    if caller is None or uniqueid in t.offers or uniqueid in t.talks or uniqueid in t.gone:
        return
    entry = t.entries.get(caller.uniqueid)
    if entry is None:
        entry = _unseen_entry(t, caller, event)
    elif entry.stage is not Stage.WAITING:
        entry, _ = advance(entry, "AgentCalled", event.at)
    number = t.owner(event.interface)
    offer = Offer(
        call=entry.call,
        queue=entry.queue,
        joined_at=entry.joined_at,
        caller=entry.leg,
        agent=number,
        interface=event.interface,
        leg=uniqueid,
        offered_at=event.at,
        caller_number=entry.caller_number,
        caller_name=entry.caller_name,
    )
    t.offers[uniqueid] = offer
    wait(t, _replace(entry, offers=entry.offers | {uniqueid}))
    t.facts.append(made(offer))
    members.called(t, event.queue, event.interface, event.at)
    phone = phone_leg(t, uniqueid, event.dest_channel or event.interface, caller.call, event.at)
    if phone.agent and phone.agent != number:
        t.silent(uniqueid, phone.agent, event.at)
    t.legs[uniqueid] = _replace(phone, agent=number)
    t.ring(uniqueid, number, event.at)


def _unseen_entry(t: Tables, caller: Leg, event: AgentCalled) -> QueueEntry:
    """A phone rings for a caller we did not see join: better a late visit than no pop."""
    if t.is_synced:
        t.anomaly(event.at, caller.call, "unseen_join", "AgentCalled for a caller who does not wait")
    t.announce(caller.call)
    call = t.calls[caller.call]
    entry = QueueEntry(
        call=caller.call,
        queue=event.queue,
        leg=caller.uniqueid,
        joined_at=event.at,
        caller_number=call.caller_number,
        caller_name=call.caller_name,
        rank=_rank(t, event.queue, 0, 0),
    )
    t.facts.append(joined(entry, 0, transferred=call.is_transferred))
    return entry


def rang(t: Tables, uniqueid: str, at: datetime) -> None:
    """The rung phone says it rings."""
    offer = t.offers.get(uniqueid)
    if offer is None:
        return
    t.offers[uniqueid], fact = ring(offer, at)
    if fact is None:
        return
    t.facts.append(fact)
    entry = t.entries.get(offer.caller)
    if entry is not None and entry.first_ring_at is None:
        t.entries[offer.caller] = _replace(entry, first_ring_at=at)


def picked_up(t: Tables, uniqueid: str, at: datetime, caller: str = "") -> None:
    """The rung phone was answered; whether it gets the caller, ``AgentConnect`` will tell.

    Args:
        caller: Whom it was rung for, if that is told: its ringing may have begun before we listened.
    """
    offer = t.offers.get(uniqueid)
    if offer is not None and offer.answered_at is not None:
        return
    if offer is not None:
        t.offers[uniqueid] = answer(offer, at)
        caller = offer.caller
    entry = t.entries.get(caller)
    if entry is not None and not entry.answering:
        t.entries[caller] = _replace(entry, answering=True)


def on_ring_no_answer(t: Tables, event: AgentRingNoAnswer) -> None:
    """The member did not take it."""
    leg_of(t, event)
    given_up(t, event.dest_uniqueid, "NOANSWER", event.at)


def given_up(t: Tables, uniqueid: str, status: str, at: datetime) -> None:
    """The rung phone was not answered: refused, rang out, was called off, or never rang."""
    offer = t.offers.get(uniqueid)
    if offer is None:
        return
    phone = t.legs.get(uniqueid)
    if status == "CANCEL":
        outcome = _called_off(t, offer)
    elif status == "BUSY":
        outcome = "declined"
    elif phone is not None and phone.parting >= 0:
        outcome = refusal(offer, phone.parting)
    else:
        outcome = "no_answer" if offer.rang_at is not None else "unreachable"
    _end_offer(t, offer, at, outcome)


def _called_off(t: Tables, offer: Offer) -> OfferOutcome:
    entry = t.entries.get(offer.caller)
    if entry is not None and entry.answering and offer.answered_at is None:
        return "answered_elsewhere"
    caller = t.legs.get(offer.caller)
    return "cancelled" if caller is not None and caller.parting < 0 else "cancelled_by_caller"


def _end_offer(t: Tables, offer: Offer, at: datetime, outcome: OfferOutcome) -> None:
    del t.offers[offer.leg]
    entry = t.entries.get(offer.caller)
    if entry is not None:
        t.entries[offer.caller] = _replace(entry, offers=entry.offers - {offer.leg})
    t.facts.append(end(offer, at, outcome, t.rule(offer.queue)))
    t.rung_out(offer.leg, offer.agent, at)


# -- leaving ------------------------------------------------------------------


def on_connect(t: Tables, event: AgentConnect) -> None:
    """The member and the caller are joined."""
    caller = leg_of(t, event)
    uniqueid = event.dest_uniqueid
    if caller is None or uniqueid in t.talks or uniqueid in t.gone:
        return
    entry = t.entries.get(caller.uniqueid)
    offer = _winner(t, event, entry)
    if uniqueid in t.offers:
        _end_offer(t, offer, offer.answered_at or event.at, "answered")
    if entry is not None:
        _step(t, entry, "AgentConnect", event.at, winner=offer)
    elif t.is_synced:
        t.anomaly(event.at, caller.call, "unseen_join", "AgentConnect for a caller who does not wait")
    _begin_talk(t, caller, offer, event)


def _winner(t: Tables, event: AgentConnect, entry: QueueEntry | None) -> Offer:
    offer = t.offers.get(event.dest_uniqueid)
    if offer is None:
        offer = Offer(
            call=event.linkedid,
            queue=event.queue,
            joined_at=entry.joined_at if entry is not None else event.at,
            caller=event.uniqueid,
            agent=t.owner(event.interface),
            interface=event.interface,
            leg=event.dest_uniqueid,
            offered_at=event.at,
        )
    return answer(offer, event.at)


def _begin_talk(t: Tables, caller: Leg, offer: Offer, event: AgentConnect) -> None:
    phone = phone_leg(t, offer.leg, event.dest_channel or event.interface, caller.call, event.at)
    number, interface = offer.agent, offer.interface
    if phone.agent and phone.agent != number:  # somebody picked the call up
        number, interface = phone.agent, phone.interface
    call = t.calls[caller.call]
    t.calls[caller.call] = _replace(call, is_answered=True)
    at = offer.answered_at or event.at
    members.called(t, event.queue, offer.interface, event.at)
    t.legs[offer.leg] = _replace(phone, agent=number, is_up=True)
    t.line_up(offer.leg, number, at)
    talk = Talk(
        agent=number,
        interface=interface,
        call=caller.call,
        leg=offer.leg,
        carrier=offer.leg,
        queue=event.queue,
        began_at=at,
        peer=caller.uniqueid,
        assisted=bool(call.consulted_from) and not call.merged_into,
    )
    talks.begin(t, talk)
    wrap_ups.prepare(t, talk, at)


def on_abandon(t: Tables, event: QueueCallerAbandon) -> None:
    """Left unanswered, for one of several reasons."""
    _sign(t, leg_of(t, event), "QueueCallerAbandon", event.at)


def on_leave(t: Tables, event: QueueCallerLeave) -> None:
    """No longer waiting."""
    _sign(t, leg_of(t, event), "QueueCallerLeave", event.at)


def on_status(t: Tables, event: QueueStatusVariable) -> None:
    """Queue() returned. Of a caller who was not let in, only the UserEvent names the queue."""
    _sign(t, leg_of(t, event), event.value, event.at)


def moved_on(t: Tables, uniqueid: str, at: datetime) -> None:
    """The leg does something that nobody does who still has to do with a queue."""
    entry = t.entries.get(uniqueid)
    if entry is not None and entry.stage is Stage.LEAVING:
        _step(t, entry, "moved on", at)


def leg_gone(t: Tables, leg: Leg, at: datetime, cause: int, *, is_seen: bool = True) -> None:
    """The leg is gone: the ringing on it is over, and so is the wait of whoever waited on it."""
    if not is_seen:
        lose_offer(t, leg.uniqueid, at)
        if leg.uniqueid in t.entries:
            close(t, leg.uniqueid, at, "unknown_end")
        return
    offer = t.offers.get(leg.uniqueid)
    if offer is not None:
        if cause == _ELSEWHERE:
            _end_offer(t, offer, at, "answered_elsewhere")
        elif leg.parting >= 0 and offer.answered_at is None:
            _end_offer(t, offer, at, refusal(offer, leg.parting))
        else:
            _end_offer(t, offer, at, _called_off(t, offer))
    entry = t.entries.get(leg.uniqueid)
    if entry is not None:
        _step(t, entry, "Hangup", at)


def lose_offer(t: Tables, uniqueid: str, at: datetime) -> None:
    """The ringing is over, and we did not see how."""
    offer = t.offers.get(uniqueid)
    if offer is not None:
        _end_offer(t, offer, at, "unknown_end")


def _sign(t: Tables, leg: Leg | None, sign: str, at: datetime) -> None:
    if leg is None:
        return
    entry = t.entries.get(leg.uniqueid)
    if entry is not None:
        _step(t, entry, sign, at, hung_up=leg.parting >= 0)


def _step(
    t: Tables,
    entry: QueueEntry,
    sign: str,
    at: datetime,
    *,
    hung_up: bool = False,
    winner: Offer | None = None,
) -> None:
    after, outcome = advance(entry, sign, at, hung_up=hung_up)
    if after is entry and outcome is None:
        return
    t.entries[entry.leg] = after
    if outcome is not None:
        close(t, entry.leg, at, outcome, winner)
    else:
        t.waiting[entry.queue].pop(entry.leg, None)


def close(t: Tables, leg: str, at: datetime, outcome: VisitOutcome, winner: Offer | None = None) -> None:
    """The stay is over."""
    entry = t.entries.pop(leg)
    t.out[leg] = at
    t.waiting[entry.queue].pop(leg, None)
    t.facts.append(left(entry, at, outcome, t.rule(entry.queue), winner))


# -- what the dialplan tells --------------------------------------------------


def on_user_event(t: Tables, event: UserEvent) -> None:
    """Our own dialplan speaks; everybody else's UserEvents are none of ours."""
    leg = t.legs.get(event.uniqueid)
    if leg is None:
        return
    if event.name == "CtidCall":
        _routed(t, leg, event)
    elif event.name == "QueueExit":
        if leg.uniqueid in t.entries:
            _sign(t, leg, event.status, event.at)
        elif event.status in DOOR_OUTCOMES:
            _turned_away(t, leg, event)


def _turned_away(t: Tables, leg: Leg, event: UserEvent) -> None:
    t.announce(leg.call)
    entry = QueueEntry(call=leg.call, queue=event.queue, leg=leg.uniqueid, joined_at=event.at)
    t.facts.append(left(entry, event.at, DOOR_OUTCOMES[event.status], t.rule(event.queue)))


def _routed(t: Tables, leg: Leg, event: UserEvent) -> None:
    t.announce(leg.call)
    routed = CallRouted(
        at=event.at,
        call=leg.call,
        line=event.line,
        business=event.business,
        vip=event.vip == "1",
        recording=event.recording,
    )
    t.calls[leg.call] = _replace(t.calls[leg.call], line=event.line, routed=routed)
    t.facts.append(routed)
    if event.recording:
        recording = t.recordings.get(leg.uniqueid) or Recording(recording="", call=leg.call, leg=leg.uniqueid)
        t.recordings[leg.uniqueid], fact = name(recording, event.recording)
        if fact is not None:
            t.facts.append(fact)
