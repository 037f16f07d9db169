"""CEL: bytes to channel events, as config/asterisk/cel_custom.conf makes Asterisk write them.

A record is 14 quoted fields (13 in files of older days: no name) and a line break; quotes
inside a field are doubled, and line breaks may stand there, too. Therefore the beginning
of a record can not be forged inside a field: a quote that a caller sent is never single. That is
what reading begins again by wherever a file is damaged.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

MAX_RECORD: Final = 1024 * 1024
"""Bytes; a longer record is given up. Usual are 150 to 500."""

FIELDS: Final = 14
"""Of a record."""

USER_DEFINED: Final = "USER_DEFINED"

_FIELD: Final = rb'"([^"\0]*+(?:""[^"\0]*+)*+)"'
#: Asterisk's own word, or one of our dialplan's: nothing that a caller writes, so no quote in it. Where a
#: record begins must not depend on what was read before.
_TYPE: Final = rb'"([^"\0\r\n]{1,80})"'
_RECORD: Final = re.compile(_TYPE + (rb"," + _FIELD) * 12 + rb"(?:," + _FIELD + rb")?+\r?\n")
_OPEN: Final = rb'"[^"\0]*+(?:""[^"\0]*+)*+(?:"\r?)?'
_UNFINISHED: Final = re.compile(
    rb"(?:" + _FIELD.replace(b"(", b"(?:", 1) + rb",){0,13}(?:" + _OPEN + rb")?\Z"
)
#: A type (or the name of a user-defined event) and an instant, where no field can begin (after a comma)
#: and no quote can be one of two: such a thing is nowhere inside a record, whatever a caller sends.
_BEGINNING: Final = re.compile(rb'(?<![,"])"[^",\0\r\n][^"\0\r\n]{0,79}","[0-9]{9,11}\.[0-9]{1,6}",')
_LONGEST_BEGINNING: Final = 80 + 11 + 1 + 6 + len('"","",')
_INSTANT: Final = re.compile(r"[0-9]{9,11}\.[0-9]{1,6}")
_ANY_RECORD: Final = re.compile(
    rb'"[^",\0\r\n]{1,80}"' + rb"(?:," + _FIELD.replace(b"(", b"(?:", 1) + rb")++\r?\n"
)
_BLANK: Final = re.compile(rb"[\r\n]*+")


class CelEvent(msgspec.Struct, frozen=True):
    """One record of the book.

    Attributes:
        at: UTC, microseconds. Records of different channels may be out of order by milliseconds.
        kind: ``CHAN_START``, ``ANSWER``, ``BRIDGE_ENTER`` ...; ``USER_DEFINED`` for all of CELGenUserEvent,
            although Asterisk writes their own name there.
        number, name: The channel's caller at this moment.
        channel: Asterisk's name of it.
        application, arguments: What ran on it; ``AppQueue`` and ``AppDial`` for legs that were rung.
        uniqueid, linkedid: Leg and call.
        peer: Channel names of the others in the bridge, as far as they are known; commas between.
        user_kind: Name of a user-defined event (``CtidCall``); a finer name of STREAM_BEGIN and STREAM_END.
        extra: Decoded; empty where there is none or it is broken. A user-defined event's text
            is in ``extra["extra"]``.
    """

    at: datetime
    kind: str
    number: str
    name: str
    exten: str
    context: str
    channel: str
    application: str
    arguments: str
    uniqueid: str
    linkedid: str
    peer: str
    user_kind: str
    extra: dict[str, Any]


def parse(record: bytes) -> CelEvent | None:
    """Read one whole record with its line break; ``None``: it is not one, or not one of ours."""
    found = _RECORD.fullmatch(record)
    return _event(found) if found else None


def count_fields(tail: bytes) -> int:
    """Return how many fields the last whole record at the end of a file has; 0: there is none."""
    last = b""
    for beginning in _BEGINNING.finditer(tail):
        found = _ANY_RECORD.match(tail, beginning.start())
        last = found[0] if found else last
    return len(re.findall(_FIELD, last))


def _event(found: re.Match[bytes]) -> CelEvent | None:
    raw = [(field or b"").decode("utf-8", "replace").replace('""', '"') for field in found.groups()]
    kind, at, number, exten, context, channel, application, arguments, *ids, user_kind, extra, name = raw
    instant = _instant(at)
    if instant is None:
        return None
    return CelEvent(
        at=instant,
        kind=USER_DEFINED if kind == user_kind else kind,
        number=number,
        name=name,
        exten=exten,
        context=context,
        channel=channel,
        application=application,
        arguments=arguments,
        uniqueid=ids[0],
        linkedid=ids[1],
        peer=ids[2],
        user_kind=user_kind,
        extra=_decoded(extra),
    )


def _instant(text: str) -> datetime | None:
    if not _INSTANT.fullmatch(text):
        return None
    seconds, _, fraction = text.partition(".")
    try:
        return datetime.fromtimestamp(int(seconds), UTC).replace(microsecond=int(fraction.ljust(6, "0")))
    except (ValueError, OverflowError, OSError):
        return None


def _decoded(text: str) -> dict[str, Any]:
    if not text:
        return {}
    try:
        decoded = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return {}
    return decoded if isinstance(decoded, dict) else {}


class CelReader:
    """Cuts a stream of bytes into records. One per file; sans-I/O.

    Attributes:
        consumed: Bytes of all that was fed that are done with: the end of a record, or of
            something damaged that is skipped.
        damaged: Places where something stood that is no record: torn, NULs, too long.
    """

    def __init__(self) -> None:
        self.consumed = 0
        self.damaged = 0
        self._rest = b""
        #: Damage is counted, and no whole record came since.
        self._is_lost = False
        #: A record begins where ``_rest`` does, if one is there at all.
        self._is_certain = True

    def feed(self, data: bytes) -> list[CelEvent]:
        """Take in ``data``, return the events that it completes, in the order of the file."""
        text = self._rest + data
        events: list[CelEvent] = []
        place = 0
        while True:
            if self._is_certain:
                place = _after_blank(text, place)
                found = _RECORD.match(text, place)
                if event := _event(found) if found else None:
                    events.append(event)
                    self._is_lost = False
                    place += len(found[0]) if found else 0
                    continue
                if _may_go_on(text, place):
                    break
                self._lose()
            beginning = _BEGINNING.search(text, place + 1)
            if not beginning:
                place = _keep_from(text, place)
                break
            self._is_certain = True
            place = beginning.start()
        self.consumed += place
        self._rest = text[place:]
        return events

    def finish(self) -> None:
        """Give up what has no end: nobody writes to this file any more."""
        self.damaged += bool(self._rest) and not self._is_lost
        self.consumed += len(self._rest)
        self._rest, self._is_lost, self._is_certain = b"", False, True

    def _lose(self) -> None:
        self.damaged += not self._is_lost
        self._is_lost = True
        self._is_certain = False


def _after_blank(text: bytes, place: int) -> int:
    found = _BLANK.match(text, place)
    return found.end() if found else place


def _may_go_on(text: bytes, place: int) -> bool:
    """Tell whether what stands at ``place`` can become a record with more bytes."""
    size = len(text) - place
    return size <= MAX_RECORD and (not size or _UNFINISHED.match(text, place) is not None)


def _keep_from(text: bytes, place: int) -> int:
    """Return from where on a beginning may stand that the end of ``text`` cuts in two.

    The last byte before it that is no quote is kept, too: what is before decides whether it is one.
    """
    quote = text.find(b'"', max(place + 1, len(text) - _LONGEST_BEGINNING))
    before = text[place : quote if quote >= 0 else len(text)].rstrip(b'"')
    return place + max(0, len(before) - 1)
