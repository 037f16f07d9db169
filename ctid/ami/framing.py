"""Bytes to frames: cut what Asterisk sends, look at little of it, check all of what is used.

A *frame* is what ends with an empty line: an event, a reply, or remains of one. Nine
tenths of the frames are events that ctid does not act upon; of those only the
beginning is looked at::

    Event: VarSet                  \\
    Privilege: dialplan,all         |  the prologue: written by Asterisk itself, in this
    Timestamp: 1795379780.601620    |  order (16 and 22, ``debug = on``); it ends where the
    SequenceNumber: 469            /   first text of somebody else could begin

and they come out as their bare number. A frame that is used is checked whole: every
line a header, every header once, no control character anywhere, and a channel's
description from ``ChannelStateDesc`` to ``Linkedid`` complete and in order. Text is decoded
per frame, never per read, so that a read may end inside a character.

Nothing here decides what to believe: that is ``guard.py``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Final, Literal, NamedTuple

import msgspec

from ctid.ami.decoding import ONLY_IF, WANTED
from ctid.errors import FramingError

#: Bytes without an empty line after which the stream is given up (a frame of 10,000
#: headers, or with one of a megabyte, still passes).
MAX_MESSAGE: Final = 8 * 1024 * 1024

Kind = Literal["event", "reply", "banner", "stray"]
Damage = Literal["", "torn", "damaged"]

_END: Final = b"\r\n\r\n"
_STAMP: Final = b"\r\nTimestamp: "
_NUMBER: Final = b"\r\nSequenceNumber: "
#: Seconds, dot, microseconds: fixed until the year 2286.
_STAMP_LENGTH: Final = len("1795379780.601620")
_NUMBER_AT: Final = _STAMP_LENGTH + len(_NUMBER)

_PROLOGUE: Final = re.compile(
    rb"Event: ([A-Za-z0-9]{1,60})\r\nPrivilege: [a-z,<>]{1,100}"
    rb"(?:\r\nTimestamp: [0-9]{10}\.[0-9]{6})?(?:\r\nSequenceNumber: (-?[0-9]{1,10}))?(?=\r\n|\Z)"
)
#: A channel's description, from just before the first part that an outsider can write.
_DESCRIPTION: Final = (
    "ChannelStateDesc",
    "CallerIDNum",
    "CallerIDName",
    "ConnectedLineNum",
    "ConnectedLineName",
    "Language",
    "AccountCode",
    "Context",
    "Exten",
    "Priority",
    "Uniqueid",
    "Linkedid",
)
#: These may come more than once: ``channelvars`` in manager.conf, output of a command.
_REPEATABLE: Final = frozenset({"ChanVariable", "Output"})
#: No header, name or number that is sound has one.
CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_HEADER_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,60}(?:\([^()]{0,80}\))?")
_BANNER: Final = b"Asterisk Call Manager"
_MAX_BREEDS: Final = 512
_MAX_SHAPES: Final = 8
#: Headers in the longest event that is worth an expression; AttendedTransfer has about 90.
_MAX_NAMES: Final = 150


class Frame(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One frame that is not simply skipped.

    Attributes:
        name: Of the event; ``Success``, ``Error`` ... of a reply; text of the banner.
        number: ``SequenceNumber`` from the prologue; ``None`` anywhere else.
        stamped: The prologue has a ``Timestamp``.
        headers: Of an event with a number: only those its class in ``events.py`` reads.
            Otherwise all; ``Output`` lines joined by line breaks.
        is_skipped: Nobody reads it; it only counts.
        damage: ``torn``: ends before it can end; ``damaged``: not as Asterisk writes.
    """

    kind: Kind
    name: str = ""
    number: int | None = None
    stamped: bool = False
    headers: dict[str, str] = {}
    is_skipped: bool = False
    damage: Damage = ""

    @property
    def action_id(self) -> str:
        """The request this answers; empty: none."""
        return self.headers.get("ActionID", "") if self.number is None else ""


class Shape(NamedTuple):
    """How frames of a breed look that have the same headers in the same order.

    Attributes:
        read: The headers that are read, in their order.
        matches: Finds their values in the rest of a frame, or finds the frame different.
    """

    read: tuple[str, ...]
    matches: Callable[[str], re.Match[str] | None]


class Breed:
    """One kind of prologue: an event's name with its privileges. Mutable: counts.

    Attributes:
        wanted: Headers its class reads; ``None``: skipped.
        closing: Begins a header near the end of every whole frame; empty: unknown.
        only_if: Read a frame only if its ``closing`` header is one of these; empty: always.
        shapes: Those seen so far; one, or a few.
        seen: Frames so far.
    """

    __slots__ = ("closing", "name", "only_if", "seen", "shapes", "wanted")

    def __init__(self, name: str, wanted: frozenset[str] | None, part: bytes) -> None:
        self.name = name
        self.wanted = wanted
        self.seen = 0
        self.only_if: tuple[bytes, ...] = ()
        self.closing = b"\r\nLinkedid: " if b"\r\nLinkedid: " in part else b""
        self.shapes: list[Shape] = []
        if name in ONLY_IF:
            header, values = ONLY_IF[name]
            self.closing = f"\r\n{header}: ".encode()
            self.only_if = tuple(f"\r\n{header}: {value}\r\n".encode() for value in values)


class Framer:
    """Cuts a byte stream into frames. One per connection.

    Args:
        wanted: Headers read of each event, keyed by event name; all others are skipped.
        limit: Bytes; see ``MAX_MESSAGE``.
    """

    def __init__(self, wanted: Mapping[str, frozenset[str]] = WANTED, *, limit: int = MAX_MESSAGE) -> None:
        self._wanted = wanted
        self._limit = limit
        self._rest = bytearray()
        self._breeds: dict[bytes, Breed] = {}
        self._begun = False

    def feed(self, data: bytes) -> list[Frame | int]:
        """Take in ``data``; return what it completes, in order.

        Returns:
            Frames; a skipped event with a whole prologue is the bare number in it.

        Raises:
            FramingError: No end of a frame within the limit.
        """
        rest = self._rest
        if rest:
            searched = max(0, len(rest) - len(_END) + 1)
            rest += data
            end = rest.rfind(_END, searched)
            whole = bytes(rest[:end]) if end >= 0 else b""
            if end >= 0:
                del rest[: end + len(_END)]
        else:
            end = data.rfind(_END)
            whole = data[:end] if end >= 0 else b""
            rest += data[end + len(_END) :] if end >= 0 else data
        if len(rest) > self._limit:
            raise FramingError(f"no end of a message within {self._limit} bytes")
        return self._cut(whole) if end >= 0 else []

    @property
    def rest_is_torn(self) -> bool:
        """What is left over can not become an event or a reply, so it belongs to the last frame."""
        head = bytes(self._rest[:10])
        return self._begun and not any(
            head.startswith(begin) or begin.startswith(head) for begin in (b"Event: ", b"Response: ")
        )

    def take_counts(self) -> dict[str, int]:
        """Return how often each event came since the last call; skipped ones under ``other``."""
        counts: dict[str, int] = {}
        for breed in self._breeds.values():
            name = breed.name if breed.wanted is not None else "other"
            counts[name] = counts.get(name, 0) + breed.seen
            breed.seen = 0
        return {name: count for name, count in counts.items() if count}

    def _cut(self, whole: bytes) -> list[Frame | int]:
        frames: list[Frame | int] = []
        if not self._begun:
            self._begun = True
            whole = _take_banner(whole, frames)
        for part in whole.split(_END):
            prefix, _, rest = part.partition(_STAMP)
            breed = self._breeds.get(prefix)
            if breed is None or rest[_STAMP_LENGTH:_NUMBER_AT] != _NUMBER:
                frames.extend(self._look(part))
                continue
            closing = rest.rfind(breed.closing)
            try:
                number = int(rest[_NUMBER_AT : rest.find(b"\r", _NUMBER_AT)])
            except ValueError:
                closing = -1
            if closing < 0:
                frames.extend(self._look(part))
                continue
            breed.seen += 1
            if breed.wanted is None or (breed.only_if and not rest.startswith(breed.only_if, closing)):
                frames.append(number)
            else:
                read = _read(breed, rest.decode("utf-8", "replace"), number)
                frames.append(read or _read_lines(breed, part, number, stamped=True))
        return frames

    def _look(self, part: bytes) -> Iterator[Frame | int]:
        """Look closer at a frame whose breed is not known yet, or that is not of its breed."""
        part = part.strip(b"\r\n")
        found = _PROLOGUE.match(part)
        if found and found[2]:
            yield self._numbered(part, found)
        elif b"\r\n\n" in part:
            # Some list replies end one byte short of an empty line (asterisk issue 761).
            for piece in part.split(b"\r\n\n"):
                yield from self._look(piece)
        elif part:
            yield _whole(part)

    def _numbered(self, part: bytes, found: re.Match[bytes]) -> Frame | int:
        name, number = found[1].decode(), int(found[2])
        stamped = _STAMP in found[0]
        if _is_torn(part):
            return Frame(kind="event", name=name, number=number, stamped=stamped, damage="torn")
        prefix = part[: part.find(b"\r\n", part.find(b"\r\n") + 2)]
        breed = self._breeds.get(prefix)
        if breed is None:
            breed = Breed(name, self._wanted.get(name), part)
            if len(self._breeds) < _MAX_BREEDS:
                self._breeds[prefix] = breed
        breed.seen += 1
        closing = part.rfind(breed.closing)
        if breed.wanted is None or (breed.only_if and not part.startswith(breed.only_if, closing)):
            # A bare number stands for a whole prologue; let the guard judge a shorter one.
            return number if stamped else Frame(kind="event", name=name, number=number, is_skipped=True)
        return _read_lines(breed, part, number, stamped=stamped)


def _take_banner(whole: bytes, frames: list[Frame | int]) -> bytes:
    if not whole.startswith(_BANNER):
        return whole
    text, _, whole = whole.partition(b"\r\n")
    frames.append(Frame(kind="banner", name=text.decode(errors="replace")))
    return whole


def _is_torn(part: bytes) -> bool:
    """Tell whether a channel's description (or CEL's) ends before its last header."""
    described = part.find(b"\r\nChannelStateDesc: ")
    if described >= 0:
        return part.find(b"\r\nLinkedid: ", described) < 0
    listed = part.find(b"\r\nCallerIDnum: ") if part.startswith(b"Event: CEL\r\n") else -1
    return listed >= 0 and part.find(b"\r\nLinkedID: ", listed) < 0


def _read(breed: Breed, rest: str, number: int) -> Frame | None:
    """Take out the headers that an event's class reads, if the frame has a known shape.

    A shape is the order of its headers. Its expression covers every byte, so what matches
    is checked whole: in form, each header once, and no control character anywhere.
    """
    for shape in breed.shapes:
        if found := shape.matches(rest):
            headers = dict(zip(shape.read, found.groups(), strict=True))
            return Frame(kind="event", name=breed.name, number=number, stamped=True, headers=headers)
    return None


def _read_lines(breed: Breed, part: bytes, number: int, *, stamped: bool) -> Frame:
    """Do the same line by line, and remember the shape of a good frame."""
    pairs, damage = _pairs(part.decode(errors="replace"))
    names = tuple(name for name, _ in pairs)
    damage = damage or _damage_of(names)
    wanted = breed.wanted or frozenset()
    is_usual = stamped and len(names) == len(set(names)) <= _MAX_NAMES
    if not damage and is_usual and len(breed.shapes) < _MAX_SHAPES:
        breed.shapes.append(_shape(names, wanted))
    headers = {name: value for name, value in pairs if name in wanted}
    return Frame(
        kind="event", name=breed.name, number=number, stamped=stamped, headers=headers, damage=damage
    )


def _shape(names: tuple[str, ...], wanted: frozenset[str]) -> Shape:
    """Write the expression for what follows the prologue's ``Timestamp: ``."""
    lines = [
        f"{'' if name == 'Timestamp' else re.escape(name) + ': '}{_value(name, wanted)}" for name in names
    ]
    expression = re.compile("\r\n".join(lines[names.index("Timestamp") :]))
    return Shape(tuple(name for name in names if name in wanted), expression.fullmatch)


def _value(name: str, wanted: frozenset[str]) -> str:
    # Possessive: a value ends at its line break or not at all.
    anything = r"[^\x00-\x1f\x7f]*+"
    return f"({anything})" if name in wanted else anything


def _whole(part: bytes) -> Frame:
    """Read a frame without a number: a reply, an item of a list, remains, or a forgery."""
    text = part.decode(errors="replace")
    if not text.startswith(("Event:", "Response:")):
        return Frame(kind="stray", damage="damaged")
    pairs, damage = _pairs(text)
    names = tuple(name for name, _ in pairs)
    headers: dict[str, str] = {}
    for name, value in pairs:
        headers[name] = f"{headers[name]}\n{value}" if name == "Output" and name in headers else value
    return Frame(
        kind="event" if names[0] == "Event" else "reply",
        name=pairs[0][1],
        headers=headers,
        damage=damage or _damage_of(names, pairs[0][1]),
    )


def _pairs(text: str) -> tuple[list[tuple[str, str]], Damage]:
    damage: Damage = "damaged" if CONTROL.search(text.replace("\r\n", "")) else ""
    pairs: list[tuple[str, str]] = []
    for line in text.split("\r\n"):
        name, colon, value = line.partition(":")
        if not colon or not _HEADER_NAME.fullmatch(name):
            damage = "damaged"
        else:
            pairs.append((name, value.removeprefix(" ")))
    return pairs, damage


def _damage_of(names: tuple[str, ...], event: str = "") -> Damage:
    single = [name for name in names if not name.endswith(")") and name not in _REPEATABLE]
    if len(set(single)) != len(single):
        return "damaged"
    if event == "QueueEntry":
        return ""  # names a caller without a channel's description (app_queue.c)
    for name in names:
        if name.endswith("ChannelStateDesc"):
            prefix = name.removesuffix("ChannelStateDesc")
            mine = [other for other in names if other in {prefix + part for part in _DESCRIPTION}]
            if mine != [prefix + part for part in _DESCRIPTION]:
                return "torn"
    return ""
