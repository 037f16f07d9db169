"""What others wrote down: Asterisk's CEL and queue_log, and SIPp's callers. Knows nothing of ctid.

Read with as little cleverness as possible; lines that are not whole (Asterisk was killed while
it wrote) are left out and counted in ``Books.torn``.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FIELDS = 14


@dataclass(frozen=True, slots=True)
class Cel:
    """One line of the CEL file; ``at`` in epoch seconds."""

    event: str
    at: float
    number: str
    channel: str
    app: str
    uniqueid: str
    linkedid: str
    user_event: str
    extra: dict[str, Any]

    @property
    def interface(self) -> str:
        """``PJSIP/1001-0000002a`` is on ``PJSIP/1001``."""
        return self.channel.rpartition("-")[0] or self.channel


@dataclass(frozen=True, slots=True)
class QueueLine:
    """One line of queue_log; ``place`` is its place in the file."""

    place: int
    at: float
    leg: str
    queue: str
    agent: str
    verb: str
    words: tuple[str, ...]


@dataclass(slots=True)
class Caller:
    """One SIPp caller and when what happened to him (epoch seconds)."""

    number: str
    call_id: str
    times: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class CelCall:
    """Everything that CEL says under one Linkedid.

    Attributes:
        participants: Phones that were in a bridge with somebody, and the caller's.
        talked: Two were in a bridge.
        moved_to: Linkedid that a channel of it took later.
        recordings: UUIDs that the dialplan named.
        answered: Uniqueid -> when its channel was answered.
        gone: Uniqueid -> when its channel was hung up.
    """

    linkedid: str
    began: float
    last: float
    number: str = ""
    ended: float | None = None
    talked: bool = False
    is_spied: bool = False
    moved_to: str = ""
    participants: set[str] = field(default_factory=set)
    recordings: set[str] = field(default_factory=set)
    queued: set[str] = field(default_factory=set)
    answered: dict[str, float] = field(default_factory=dict)
    gone: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class Books:
    """All of it."""

    cel: list[Cel]
    queue_lines: list[QueueLine]
    callers: list[Caller]
    recordings: Path
    torn: int = 0

    @property
    def starts(self) -> list[float]:
        """When Asterisk's queues were started."""
        return [line.at for line in self.queue_lines if line.verb == "QUEUESTART"]

    def start_after(self, at: float) -> float | None:
        """The first start of Asterisk after an instant (to the second: queue_log knows no more)."""
        return next((start for start in self.starts if start > at - 1), None)


def read(*, cel: Path, queue_log: Path, recordings: Path, callers: Iterable[Path] = ()) -> Books:
    """Read the books, older parts of rotated files first.

    Args:
        cel, queue_log: The newest file; ``FILE.*`` beside it are its older parts, oldest last.
        callers: Folders with SIPp's ``*.calls``.
    """
    lines = [line for file in _parts(queue_log) for line in _text(file)]
    books = Books([], [], [], recordings)
    for text in (text for file in _parts(cel) for text in _text(file)):
        if (event := cel_of(text)) is None:
            books.torn += 1
        else:
            books.cel.append(event)
    for place, text in enumerate(lines):
        if (line := queue_line_of(place, text)) is None:
            books.torn += 1
        else:
            books.queue_lines.append(line)
    for folder in callers:
        for file in sorted(folder.rglob("*.calls")):
            books.callers += callers_of(_text(file))
    return books


def _parts(file: Path) -> list[Path]:
    older = sorted(file.parent.glob(f"{file.name}.*"), key=lambda part: part.stat().st_mtime_ns)
    return [part for part in (*older, file) if part.exists()]


def _text(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]


def cel_of(text: str) -> Cel | None:
    """Read one line; ``None`` if it is not whole."""
    words = next(csv.reader([text]), [])
    if len(words) != FIELDS:
        return None
    try:
        extra = json.loads(words[12]) if words[12] else {}
        at = float(words[1])
    except ValueError:
        return None
    return Cel(words[0], at, words[2], words[5], words[6], words[8], words[9], words[11], extra)


def queue_line_of(place: int, text: str) -> QueueLine | None:
    """Read one line; ``None`` if it is not whole."""
    words = text.split("|")
    if len(words) < 5 or not words[0].isdecimal():
        return None
    at, leg, queue, agent, verb, *more = words
    return QueueLine(place, float(at), leg, queue, agent, verb, tuple(more))


def callers_of(lines: Iterable[str]) -> list[Caller]:
    """Read SIPp's log: ``CALL-ID NUMBER WHAT SECONDS MICROSECONDS``."""
    found: dict[tuple[str, str], Caller] = {}
    for line in lines:
        words = line.split()
        if len(words) == 5:
            call_id, number, what, seconds, micros = words
            caller = found.setdefault((call_id, number), Caller(number, call_id))
            caller.times[what] = float(seconds) + float(micros) / 1e6
    return [*found.values()]


def calls_of(events: Sequence[Cel]) -> dict[str, CelCall]:
    """Follow every channel and bridge through CEL; keyed by Linkedid."""
    calls: dict[str, CelCall] = {}
    linkedids: dict[str, str] = {}
    bridges: dict[str, dict[str, Cel]] = {}
    for event in events:
        call = calls.setdefault(event.linkedid, CelCall(event.linkedid, event.at, event.at))
        call.last = max(call.last, event.at)
        _follow_move(calls, linkedids, event)
        _note(call, event)
        _follow_bridge(calls, bridges, event)
    return calls


def _follow_move(calls: dict[str, CelCall], linkedids: dict[str, str], event: Cel) -> None:
    before = linkedids.get(event.uniqueid)
    linkedids[event.uniqueid] = event.linkedid
    if before is None or before == event.linkedid or event.event == "LINKEDID_END":
        return
    old, new = calls[before], calls[event.linkedid]
    old.moved_to = old.moved_to or event.linkedid
    if event.uniqueid in old.answered:
        new.answered[event.uniqueid] = old.answered[event.uniqueid]
        new.participants |= _phones([event])


def _note(call: CelCall, event: Cel) -> None:
    match event.event:
        case "CHAN_START" if event.uniqueid == event.linkedid:
            call.number = event.number
            call.participants |= _phones([event])
        case "ANSWER":
            call.answered.setdefault(event.uniqueid, event.at)
        case "APP_START" if event.app == "Queue":
            call.queued.add(event.uniqueid)
        case "CHAN_END":
            call.gone[event.uniqueid] = event.at
        case "LINKEDID_END":
            call.ended = event.at
    if event.app == "ChanSpy":
        call.is_spied = True
    if event.user_event == "CtidCall" or event.event == "CtidCall":
        name = str(event.extra.get("extra", "")).partition(" ")[0]
        call.recordings |= {name} if len(name) == 36 else set()


def _follow_bridge(calls: dict[str, CelCall], bridges: dict[str, dict[str, Cel]], event: Cel) -> None:
    bridge = str(event.extra.get("bridge_id", ""))
    if event.event == "BRIDGE_EXIT":
        bridges.get(bridge, {}).pop(event.uniqueid, None)
    elif event.event == "BRIDGE_ENTER":
        company = bridges.setdefault(bridge, {})
        company[event.uniqueid] = event
        if len(company) > 1:
            for one in company.values():
                calls[one.linkedid].talked = True
                calls[one.linkedid].participants |= _phones([one])


def _phones(events: Iterable[Cel]) -> set[str]:
    return {event.interface for event in events if not event.channel.startswith("Local/")}


def recorded_files(folder: Path) -> Iterator[Path]:
    """Every finished recording below the folder of recordings."""
    yield from folder.glob("[0-9][0-9][0-9][0-9]/[0-9][0-9]/[0-9][0-9]/*.wav")


def raw_files(folder: Path) -> Iterator[Path]:
    """What Asterisk wrote and nobody has joined yet."""
    yield from (*folder.glob("*-caller.wav"), *folder.glob("*-agent.wav"))
