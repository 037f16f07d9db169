"""Asterisk is right: a snapshot corrects what we missed."""

from __future__ import annotations

from ctid.acd.facts import Resynchronised
from ctid.acd.tables import Tables
from ctid.ami.events import LinkLost, Snapshot


def on_link_lost(t: Tables, event: LinkLost) -> None:
    """The connection is gone: nothing is guessed."""
    t.lost_at = event.at
    t.is_synced = False
    t.is_asked = False


def on_snapshot(t: Tables, event: Snapshot) -> None:
    """Correct everything that differs."""
    t.boot = event.boot
    t.is_synced = True
    t.is_asked = False
    t.facts.append(Resynchronised(at=event.at, corrections=0))
