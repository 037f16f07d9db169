"""A recorded conversation with Asterisk in, its facts out.

Two kinds of recording are understood: raw AMI bytes, and the text that
``scripts/record-trace`` writes::

    ## +0.014                   seconds since the start; one message follows
    Event: Newchannel
    ...
    ## +1.031 >>> SENT          what we sent follows; skipped
    >>> Action: Redirect
    #### anything               a note; skipped

Recordings are trusted: nobody forges events in a file, and many have no sequence numbers,
so the guard against forgery is not used here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from ctid.acd.centre import Centre
from ctid.acd.facts import Fact
from ctid.acd.rules import QueueRule
from ctid.ami.decoding import event_of, is_read
from ctid.ami.events import AmiEvent
from ctid.ami.framing import Frame, Framer

_BLOCK = re.compile(rb"^##[^\n]*\n", re.MULTILINE)
_PLAIN: Mapping[str, QueueRule] = {}
_NOBODY: Mapping[str, str] = {}


def raw(recording: bytes) -> bytes:
    """Return the AMI bytes in a recording: what a socket would have delivered."""
    if b"## +" not in recording[:4096]:
        return recording
    blocks = (block.strip() for block in _BLOCK.split(recording))
    return b"".join(
        block.replace(b"\n", b"\r\n") + b"\r\n\r\n"
        for block in blocks
        if block.startswith((b"Event: ", b"Response: "))
    )


def events(chunks: Iterable[bytes]) -> Iterator[AmiEvent]:
    """Cut reads of any size into the events that ctid acts upon.

    In a recording with sequence numbers an event without one, or a damaged one, is left
    out; in one without, only the torn are: an old dialplan may repeat a header.
    """
    framer = Framer()
    is_numbered = False
    for chunk in chunks:
        for frame in framer.feed(chunk):
            if isinstance(frame, int):
                is_numbered = True
                continue
            is_numbered = is_numbered or frame.number is not None
            if frame.kind != "event" or not is_read(frame.name, frame.headers):
                continue
            if not _is_believed(frame, is_numbered):
                continue
            try:
                yield event_of(frame.name, dict(frame.headers), 0.0)
            except msgspec.ValidationError:
                continue  # a header we need is missing: not an event as we know it


def _is_believed(frame: Frame, is_numbered: bool) -> bool:
    if is_numbered:
        return frame.number is not None and not frame.damage
    return frame.damage != "torn"


def replay(
    chunks: Iterable[bytes],
    rules: Mapping[str, QueueRule] = _PLAIN,
    agents: Mapping[str, str] = _NOBODY,
    *,
    default_rule: QueueRule | None = None,
) -> Iterator[Fact]:
    """Conclude from recorded AMI bytes what ctid would have concluded live.

    Args:
        chunks: ``raw(...)`` of a recording, whole or cut anywhere.
        rules, agents, default_rule: As for ``Centre``.
    """
    centre = Centre(rules, agents, default_rule=default_rule)
    for event in events(chunks):
        due = centre.next_deadline()
        if due is not None and due <= event.at:
            yield from centre.tick(event.at).facts
        yield from centre.receive(event).facts
