"""Asterisk is right: a snapshot corrects what we missed, and nothing else.

A snapshot is no consistent cut: what was under way when it was asked for is told before or
after it. So an event younger than the snapshot outweighs it; a leg is given up only when
two snapshots lack it and nothing was heard of it between them; a leg born in the last
seconds is left to its own Newchannel. After a lost link nothing is guessed: what ended
unseen ended with the last we heard of it, as ``unknown_end``.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from heapq import heappush
from typing import Final

import msgspec

from ctid.acd import legs, linkage, members, talks, visits, wrap_ups
from ctid.acd.agent import Agent, WrapUp
from ctid.acd.call import Leg
from ctid.acd.facts import ZERO, RequestSnapshot, Resynchronised
from ctid.acd.queue_entry import QueueEntry, Stage, joined
from ctid.acd.tables import Tables
from ctid.acd.talk import Talk
from ctid.ami.events import LinkLost, ShownChannel, ShownEntry, Snapshot

_replace = msgspec.structs.replace

#: CoreStatus tells the start to the second, always the same; only where it is silent it is reckoned.
_SAME_BOOT: Final = timedelta(seconds=0.9)
#: The start is told in whole seconds, cut off; nothing happens in the rest of its second yet.
_WHOLE_SECOND: Final = timedelta(seconds=1)
#: A leg or a wait younger than this may still be announced by its own event.
_NEWBORN: Final = timedelta(seconds=2)
#: Our request to lift a pause may still be under way.
_LIFTING: Final = timedelta(seconds=2)


def on_link_lost(t: Tables, event: LinkLost) -> None:
    """The connection is gone; what we know grows stale, and nothing is guessed."""
    if t.is_synced or t.lost_at is None:
        # A connection that was never in step is no sign of life of what we know.
        t.lost_at = event.at
    t.is_synced = False
    t.is_asked = False


def on_snapshot(t: Tables, event: Snapshot) -> None:
    """Correct everything that differs, and count it."""
    corrections = 0
    if t.boot is not None and abs(event.boot - t.boot) > _SAME_BOOT:
        corrections += _restarted(t, event)
        t.boot = None
    t.boot = t.boot or event.boot
    t.system = event.system
    is_stale = not t.is_synced or t.is_asked
    t.is_asked = False
    corrections += _members(t, event)
    corrections += _channels(t, event, is_stale=is_stale)
    corrections += _entries(t, event, is_stale=is_stale)
    for agent in list(t.agents.values()):
        if agent.ours:
            _orphaned_pause(t, agent, event.at)
        elif agent.is_pausing and is_stale:
            wrap_ups.ask_again(t, agent)
    t.is_synced = True
    if t.missed and not t.is_asked:
        t.commands.append(RequestSnapshot(why="unseen"))
    t.facts.append(Resynchronised(at=event.at, corrections=corrections))


def _restarted(t: Tables, event: Snapshot) -> int:
    """Asterisk started anew: nothing that was open before can still live.

    What is heard of the new one before its first snapshot lives, of course.
    """
    shown = {channel.uniqueid for channel in event.channels}
    born = event.boot + _WHOLE_SECOND
    lost = [leg for leg in t.legs.values() if leg.uniqueid not in shown and t.seen[leg.uniqueid] < born]
    for leg in sorted(lost, key=lambda leg: t.seen[leg.uniqueid]):  # a call ends with its last
        sign = t.seen[leg.uniqueid]
        if t.lost_at is not None and t.lost_at < born:
            sign = max(sign, t.lost_at)
        legs.drop(t, leg, sign, end_reason="asterisk_lost")
    t.told.clear()
    return len(lost)


# -- members ------------------------------------------------------------------


def _members(t: Tables, event: Snapshot) -> int:
    corrections = 0
    shown = set()
    for member in event.members:
        key = (member.queue, member.interface)
        shown.add(key)
        if _is_younger(t.told.get(key), event.at):
            continue
        known = t.members.get(key)
        if known is None or not members.same(t, known, member):
            members.enrol(t, member, event.at)
            corrections += 1
    listed = {queue.queue for queue in event.queues}
    for queue in listed:
        t.waiting.setdefault(queue, {})
    gone = [key for key in t.members if key[0] in listed and key not in shown]
    for key in gone:
        if not _is_younger(t.told.get(key), event.at):
            members.remove(t, key, event.at)
            corrections += 1
    return corrections


def _is_younger(told: datetime | None, asked: datetime) -> bool:
    return told is not None and told >= asked


def _orphaned_pause(t: Tables, agent: Agent, at: datetime) -> None:
    """Our pause is there, but no note that we know of: we were restarted, or not heard."""
    if agent.wrap is not None or agent.lines:
        return
    if agent.released_at is not None:
        if at > agent.released_at + _LIFTING:
            wrap_ups.release(t, agent.number, at)
        return
    cap = max((t.rule(queue).wrap_up for queue in agent.queues), default=ZERO)
    wrap = WrapUp(call="", queue="", leg="", interface="", began_at=at, until=at + cap, is_adopted=True)
    heappush(t.caps, (wrap.until, agent.number, wrap.leg))
    t.put(_replace(agent, wrap=wrap), at)


# -- legs ---------------------------------------------------------------------


def _channels(t: Tables, event: Snapshot, *, is_stale: bool) -> int:
    shown = {channel.uniqueid: channel for channel in event.channels}
    corrections = sum(_unseen(t, leg, event.at) for leg in list(t.legs.values()) if leg.uniqueid not in shown)
    fresh = []
    # A call's first leg is the one it is named after, and knows the caller best.
    for channel in sorted(event.channels, key=lambda channel: channel.uniqueid != channel.linkedid):
        uniqueid = channel.uniqueid
        if uniqueid in t.legs:
            t.missed.pop(uniqueid, None)
            is_older = not _is_younger(t.seen.get(uniqueid), event.at)
            t.shown[uniqueid] = event.at
            if is_stale and is_older and _differs(t, t.legs[uniqueid], channel):
                fresh.append(channel)
        elif uniqueid not in t.gone and (is_stale or not _is_newborn(uniqueid, event.at)):
            _adopt(t, channel, event.at)
            fresh.append(channel)
    for channel in fresh:
        _correct(t, channel, event.at)
    for channel in fresh:
        _adopt_talk(t, channel, shown, event.at)
    return corrections + len(fresh)


def _is_newborn(uniqueid: str, at: datetime) -> bool:
    """A Uniqueid holds the second of its birth: ``[systemname-]epoch.counter``."""
    born = uniqueid.rpartition("-")[2].partition(".")[0]
    return born.isdigit() and int(born) >= (at - _NEWBORN).timestamp()


def _unseen(t: Tables, leg: Leg, at: datetime) -> int:
    """Close a leg that two snapshots lack and nobody spoke of between them."""
    uniqueid = leg.uniqueid
    seen = t.seen.get(uniqueid, at)
    if seen >= at:
        return 0
    first = t.missed.get(uniqueid)
    if first is None or seen >= first:
        t.missed[uniqueid] = at
        return 0
    legs.drop(t, leg, _evidence(t, uniqueid, seen), end_reason="unseen")
    return 1


def _evidence(t: Tables, uniqueid: str, seen: datetime) -> datetime:
    """The last instant at which the leg certainly lived."""
    shown = t.shown.get(uniqueid, seen)
    lost = t.lost_at if t.lost_at is not None and t.lost_at > seen else seen
    return max(seen, shown, lost)


def _differs(t: Tables, leg: Leg, channel: ShownChannel) -> bool:
    is_elsewhere = linkage.is_elsewhere(t, leg, channel.linkedid)
    return is_elsewhere or (leg.is_up, leg.bridge) != (channel.state == "Up", channel.bridge)


def _adopt(t: Tables, channel: ShownChannel, at: datetime) -> None:
    linkage.add(t, channel, at, is_adopted=True)
    t.seen[channel.uniqueid] = t.shown[channel.uniqueid] = at
    if channel.application == "ChanSpy":
        t.calls[channel.linkedid] = _replace(t.calls[channel.linkedid], is_spying=True)
    else:
        t.announce(channel.linkedid)


def _correct(t: Tables, channel: ShownChannel, at: datetime) -> None:
    """Bring the leg to where Asterisk shows it."""
    leg = t.legs[channel.uniqueid]
    if linkage.is_elsewhere(t, leg, channel.linkedid):
        leg = linkage.move(t, leg, channel.linkedid, at)
    if channel.state == "Up":
        legs.up(t, leg, at)
    elif channel.state == "Ringing":
        legs.ringing(t, leg, at)
    leg = t.legs[channel.uniqueid]
    if leg.bridge and leg.bridge != channel.bridge:
        leg = legs.leave_bridge(t, leg, _evidence(t, leg.uniqueid, t.seen[leg.uniqueid]))
    if channel.bridge and leg.bridge != channel.bridge:
        legs.enter_bridge(t, leg, channel.bridge)


def _adopt_talk(t: Tables, channel: ShownChannel, shown: dict[str, ShownChannel], at: datetime) -> None:
    """An agent talks, and we missed how it began: his wrap-up is due, its handle time unknown."""
    leg = t.legs[channel.uniqueid]
    company = t.bridges.get(leg.bridge, ())
    if not leg.agent or leg.is_local or len(company) < 2 or leg.uniqueid in t.talks:
        return
    if any(line in t.talks for line in t.agents[leg.agent].lines):
        return
    visits.lose_offer(t, leg.uniqueid, at)
    queue = peer = ""
    for uniqueid in sorted(company):
        other = shown.get(uniqueid)
        if other is not None and other.application == "Queue":
            queue, peer = other.application_data.partition(",")[0], uniqueid
    talk = Talk(
        agent=leg.agent,
        interface=leg.interface,
        call=leg.call,
        leg=leg.uniqueid,
        carrier=leg.uniqueid,
        queue=queue,
        began_at=at,
        peer=peer,
        partial=True,
    )
    talks.begin(t, talk)
    wrap_ups.prepare(t, talk, at)


# -- waiting callers ----------------------------------------------------------


def _entries(t: Tables, event: Snapshot, *, is_stale: bool) -> int:
    corrections = 0
    shown = {(entry.uniqueid, entry.queue) for entry in event.entries}
    for entry in [entry for entry in t.entries.values() if (entry.leg, entry.queue) not in shown]:
        corrections += _unseen_entry(t, entry, event.at)
    for one in sorted(event.entries, key=lambda one: (one.queue, one.position)):
        t.missed.pop(f"queue {one.uniqueid}", None)
        if _is_unknown(t, one, event.at, is_stale=is_stale):
            _adopt_entry(t, one, event.at)
            corrections += 1
    return corrections


def _is_unknown(t: Tables, one: ShownEntry, at: datetime, *, is_stale: bool) -> bool:
    known = t.entries.get(one.uniqueid)
    if (known is not None and known.queue == one.queue) or one.uniqueid not in t.legs:
        return False
    if _is_younger(t.out.get(one.uniqueid), at):
        return False  # he has left the queue since
    return is_stale or timedelta(seconds=one.wait) >= _NEWBORN


def _adopt_entry(t: Tables, one: ShownEntry, at: datetime) -> None:
    known = t.entries.get(one.uniqueid)
    if known is not None:
        visits.close(t, known.leg, at, "unknown_end")
    call = t.calls[t.legs[one.uniqueid].call]
    t.announce(call.linkedid)
    t.arrivals += 1
    entry = QueueEntry(
        call=call.linkedid,
        queue=one.queue,
        leg=one.uniqueid,
        joined_at=at - timedelta(seconds=one.wait),
        caller_number=one.caller_number or call.caller_number,
        caller_name=one.caller_name or call.caller_name,
        rank=float(t.arrivals),
    )
    visits.wait(t, entry)
    t.facts.append(joined(entry, one.position, transferred=call.is_transferred))


def _unseen_entry(t: Tables, entry: QueueEntry, at: datetime) -> int:
    """Close a stay that two snapshots lack; one on its way out is told by its leg."""
    key = f"queue {entry.leg}"
    seen = max(t.seen.get(entry.leg, entry.joined_at), entry.joined_at)
    if entry.stage is Stage.LEAVING or seen >= at:
        return 0
    first = t.missed.get(key)
    if first is None or seen >= first:
        t.missed[key] = at
        return 0
    t.missed.pop(key)
    visits.close(t, entry.leg, _evidence(t, "", seen), "unknown_end")
    return 1
