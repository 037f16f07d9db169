"""The life of one recording, on the leg it runs on.

    NAMED --MixMonitorStart--------> RUNNING
    RUNNING --MixMonitorMute 1-----> MUTED
    MUTED --MixMonitorMute 0-------> RUNNING
    RUNNING --MixMonitorStop-------> over
    RUNNING --Hangup---------------> over
    MUTED --MixMonitorStop---------> over
    MUTED --Hangup-----------------> over
    NAMED --Hangup-----------------> over

``MixMonitorStart`` does not tell the file's name, so the dialplan announces it in
``UserEvent(CtidCall)`` before or after; whichever comes second starts the recording.
Nothing is sent at hang-up: the leg's end is the recording's end.
"""

from __future__ import annotations

from datetime import datetime
from enum import Enum

import msgspec

from ctid.acd.facts import (
    ZERO,
    Fact,
    RecordingMuted,
    RecordingStarted,
    RecordingStopped,
    RecordingUnmuted,
)

_replace = msgspec.structs.replace


class Stage(Enum):
    """How far the recording got."""

    NAMED = "NAMED"
    RUNNING = "RUNNING"
    MUTED = "MUTED"


class Recording(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One recording.

    Attributes:
        recording: The UUID we chose; empty while only ``MixMonitorStart`` was seen.
        began_at: ``None`` while only the name is known.
    """

    recording: str
    call: str
    leg: str
    began_at: datetime | None = None
    muted_at: datetime | None = None

    @property
    def stage(self) -> Stage:
        if self.began_at is None:
            return Stage.NAMED
        return Stage.RUNNING if self.muted_at is None else Stage.MUTED


def start(recording: Recording, at: datetime) -> tuple[Recording, RecordingStarted | None]:
    """Asterisk records; a second start on the same leg changes nothing."""
    if recording.began_at is not None:
        return recording, None
    running = _replace(recording, began_at=at)
    return running, _started(running, at) if recording.recording else None


def name(recording: Recording, uuid: str) -> tuple[Recording, RecordingStarted | None]:
    """The dialplan tells the name; the first name stays."""
    if recording.recording:
        return recording, None
    named = _replace(recording, recording=uuid)
    return named, _started(named, named.began_at) if named.began_at is not None else None


def _started(recording: Recording, at: datetime) -> RecordingStarted:
    return RecordingStarted(at=at, call=recording.call, recording=recording.recording, leg=recording.leg)


def mute(recording: Recording, at: datetime, *, muted: bool) -> tuple[Recording, Fact | None]:
    """Silence the recording, or let it hear again. Repeating either says nothing."""
    if recording.stage is Stage.RUNNING and muted:
        fact: Fact = RecordingMuted(at=at, call=recording.call, recording=recording.recording)
        return _replace(recording, muted_at=at), fact if recording.recording else None
    if recording.muted_at is not None and not muted:
        fact = RecordingUnmuted(
            at=at,
            call=recording.call,
            recording=recording.recording,
            muted=max(at - recording.muted_at, ZERO),
        )
        return _replace(recording, muted_at=None), fact if recording.recording else None
    return recording, None


def stop(recording: Recording, at: datetime) -> RecordingStopped | None:
    """The leg is gone, or the recording was stopped; nothing to tell if it never ran under our name."""
    if recording.began_at is None or not recording.recording:
        return None
    return RecordingStopped(
        at=at,
        call=recording.call,
        recording=recording.recording,
        began_at=recording.began_at,
        expected=max(at - recording.began_at, ZERO),
    )
