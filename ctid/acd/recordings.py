"""Recordings start, fall silent and stop on the legs they run on."""

from __future__ import annotations

from ctid.acd.linkage import leg_of
from ctid.acd.recording import Recording, mute, start, stop
from ctid.acd.tables import Tables
from ctid.ami.events import MixMonitorMute, MixMonitorStart, MixMonitorStop


def on_start(t: Tables, event: MixMonitorStart) -> None:
    """A recording runs; its name came before, or comes next."""
    leg = leg_of(t, event)
    if leg is None:
        return
    t.announce(leg.call)
    known = t.recordings.get(leg.uniqueid) or Recording(recording="", call=leg.call, leg=leg.uniqueid)
    t.recordings[leg.uniqueid], fact = start(known, event.at)
    if fact is not None:
        t.facts.append(fact)


def on_mute(t: Tables, event: MixMonitorMute) -> None:
    """Silenced, or hearing again."""
    recording = t.recordings.get(event.uniqueid)
    if recording is None:
        return
    t.recordings[event.uniqueid], fact = mute(recording, event.at, muted=event.mute)
    if fact is not None:
        t.facts.append(fact)


def on_stop(t: Tables, event: MixMonitorStop) -> None:
    """Stopped on purpose."""
    recording = t.recordings.pop(event.uniqueid, None)
    if recording is not None and (stopped := stop(recording, event.at)) is not None:
        t.facts.append(stopped)
