"""CPU per AMI event: ctid's way from bytes to facts against stock panoramisk's reading.

The stream is one recorded queue call over and over, each time with its own channels and
times, as Asterisk writes it with ``debug = on``. It comes through a real socket; CPU is that
of reading it and of all that follows.

    stock      panoramisk 1.4, one handler for every event that reads three headers
    frame      ctid: cut, skip what is not used, check and decode what is
    pipeline   ctid: the same, and the guard, the core, and four outboxes
    names      nothing but the event's name: what can not be undercut
"""

from __future__ import annotations

import asyncio
import gzip
import re
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from panoramisk import Manager
from panoramisk.ami_protocol import AMIProtocol
from panoramisk.message import Message

from ctid.acd.centre import Centre
from ctid.acd.facts import Fact
from ctid.acd.rules import QueueRule
from ctid.ami.decoding import event_of
from ctid.ami.framing import Framer
from ctid.ami.guard import SequenceGuard
from ctid.replay import raw
from ctid.sinks.base import Outbox
from lab.bench import interleaved, ratio, report

TRACE: Final = Path(__file__).parents[2] / "tests" / "traces" / "22" / "rna_then_second.txt.gz"
CALLS: Final = 100
"""Repetitions of the recorded call in one round."""
SPACING: Final = 60
"""Seconds between two of them, in the time that the recording tells."""
SEGMENT: Final = 64 * 1024
"""Bytes read at once: what a busy Asterisk has ready."""
SINKS: Final = ("journal", "metrics", "pops", "archive")

_LIVE: Final = re.compile(rb"Event: [^\r]*\r\nPrivilege: [^\r]*\r\n(?:Timestamp: [^\r]*\r\n)?")
_SECONDS: Final = re.compile(rb"(?<=[-\s])17953\d{5}(?=\.)")
_CHANNEL: Final = re.compile(rb"-0000([0-9a-f]{4})(?=[\r;])")


def recorded_call() -> list[bytes]:
    """Return the live events of the recording, each with its empty line cut off."""
    frames = raw(gzip.decompress(TRACE.read_bytes())).split(b"\r\n\r\n")
    return [frame for frame in frames if _LIVE.match(frame)]


def stream(calls: int) -> tuple[bytes, int]:
    """Return bytes as from a socket, and how many events they hold."""
    frames = recorded_call()
    number = 1000
    out = []
    for turn in range(calls):
        for frame in frames:
            number += 1
            numbered = (
                b"SequenceNumber: %d\r\nFile: manager.c\r\nLine: 593\r\nFunc: manager_default_msg_cb\r\n"
                % number
            )
            out.append(_moved(_LIVE.sub(lambda found, mark=numbered: found[0] + mark, frame, count=1), turn))
    return b"\r\n\r\n".join(out) + b"\r\n\r\n", len(out)


def _moved(frame: bytes, turn: int) -> bytes:
    """Make another call of it: later, on other channels."""
    frame = _SECONDS.sub(lambda found: b"%d" % (int(found[0]) + turn * SPACING), frame)
    return _CHANNEL.sub(lambda found: b"-%04x%s" % (turn + 1, found[1]), frame)


class Nothing:
    """A sink that is never run: the facts stay in its outbox."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def write(self, facts: Sequence[Fact]) -> None:
        """Never called."""


def measure(take: Callable[[bytes], None], data: bytes, events: int) -> float:
    """Return the microseconds of CPU per event that reading the stream and ``take`` cost.

    Writing it is this process's work, too, but not counted, and never at the same time:
    another process would share the caches, and slow down the fastest reader most.
    """
    used = 0.0
    writer, reader = socket.socketpair()
    with writer, reader:
        writer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * SEGMENT)
        for at in range(0, len(data), SEGMENT):
            writer.sendall(data[at : at + SEGMENT])
            began = time.process_time()
            take(reader.recv(SEGMENT))
            used += time.process_time() - began
    return used / events * 1e6


def stock() -> Callable[[bytes], None]:
    """panoramisk as it ships."""

    def handle(manager: Manager, event: Message) -> None:
        seen.append((event.event, event.uniqueid, event.channel))
        seen.clear()

    seen: list[tuple[str, str, str]] = []
    manager = Manager(loop=asyncio.new_event_loop())
    manager.loop.close()
    manager.register_event("*", handle)
    protocol = AMIProtocol()
    protocol.connection_made(asyncio.Transport())
    protocol.factory, protocol.encoding, protocol.version = manager, "utf8", "11.0.0"
    return protocol.data_received


def names() -> Callable[[bytes], None]:
    """Nothing but the name of each event."""
    rest = b""
    found: list[bytes] = []

    def take(data: bytes) -> None:
        nonlocal rest
        *parts, rest = (rest + data).split(b"\r\n\r\n")
        found.extend(part[7 : part.find(b"\r", 7)] for part in parts)
        found.clear()

    return take


def frame() -> Callable[[bytes], None]:
    """Cut, skip, check, decode."""
    framer = Framer()

    def take(data: bytes) -> None:
        for it in framer.feed(data):
            if not isinstance(it, int):
                event_of(it.name, it.headers, 0.0)

    return take


def pipeline() -> tuple[Callable[[bytes], None], list[Outbox]]:
    """All the way to the outboxes."""
    framer, guard = Framer(), SequenceGuard()
    centre = Centre(rules={"sales": QueueRule()}, agents={})
    outboxes = [Outbox(Nothing(name), limit=10_000_000) for name in SINKS]

    def take(data: bytes) -> None:
        now = time.monotonic()
        for it in guard.sift(framer.feed(data), now, rest_is_torn=framer.rest_is_torn):
            for fact in centre.receive(event_of(it.name, it.headers, 0.0)).facts:
                for outbox in outboxes:
                    outbox.put(fact)

    return take, outboxes


def main() -> None:
    """Measure, print the table and, last, one line of JSON."""
    call = recorded_call()
    read = sum(not isinstance(it, int) for it in Framer().feed(stream(1)[0]))
    data, events = stream(CALLS)
    facts = 0

    def whole() -> float:
        nonlocal facts
        take, outboxes = pipeline()
        figure = measure(take, data, events)
        facts = outboxes[0].pending
        assert facts >= CALLS * 5, "the calls did not become facts"
        return figure

    figures = interleaved(
        {
            "stock": lambda: measure(stock(), data, events),
            "frame": lambda: measure(frame(), data, events),
            "pipeline": whole,
            "names": lambda: measure(names(), data, events),
        }
    )
    ratios = {name: ratio(figures, "stock", name) for name in ("frame", "pipeline")}
    more = {
        "events_per_call": len(call),
        "read_per_call": read,
        "facts_per_call": round(facts / CALLS, 2),
        "ceiling": ratio(figures, "stock", "names"),
    }
    title = f"CPU per AMI event; {len(call)} events a call, {read} of them used"
    report("ami", title, figures, unit="us", stock="stock", ratios=ratios, more=more)


if __name__ == "__main__":
    main()
