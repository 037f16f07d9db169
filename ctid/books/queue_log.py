"""queue_log: bytes to lines of the book, as Asterisk 16 to 22 write them.

    1795571889|lab22-1795571889.2|consultation|NONE|ENTERQUEUE||13800000001|1
    epoch     |caller's Uniqueid |queue       |agent|verb     |data ...

Nothing in it is quoted (logger.c writes texts as they are), so a ``|`` in a caller's number or
a URL shifts what follows it inside ``data``; what stands before the verb does not shift.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

import msgspec

MAX_LINE: Final = 64 * 1024
"""Bytes; a longer line is given up. Asterisk's own buffer for one line is a sixteenth of it."""

#: What app_queue, app_agent_pool and pbx write; sites may add others with QueueLog().
_KNOWN: Final = re.compile(
    "ABANDON|ADDMEMBER|AGENTCALLBACKLOGIN|AGENTCALLBACKLOGOFF|AGENTDUMP|AGENTLOGIN|AGENTLOGOFF|"
    "ATTENDEDTRANSFER|BLINDTRANSFER|COMPLETEAGENT|COMPLETECALLER|CONFIGRELOAD|CONNECT|DID|ENTERQUEUE|"
    "EXITEMPTY|EXITWITHKEY|EXITWITHTIMEOUT|INFO|PAUSE|PAUSEALL|PENALTY|QUEUESTART|REMOVEMEMBER|"
    "RINGCANCELED|RINGNOANSWER|SYSCOMPAT|TRANSFER|UNPAUSE|UNPAUSEALL|WITHDRAW"
)
_EPOCH: Final = re.compile(r"([0-9]{1,12})(?:\.([0-9]{1,9}))?")
_VERB: Final = re.compile(r"[A-Z][A-Z0-9_]*")
_AGENT, _VERB_AT = 3, 4


class QueueLine(msgspec.Struct, frozen=True):
    """One line of the book.

    Attributes:
        at: UTC; whole seconds, cut off, never rounded.
        call: The caller's Uniqueid; ``NONE`` for what concerns no call.
        queue: Name; ``NONE`` for all of them.
        agent: Member's name, or interface for ADDMEMBER and REMOVEMEMBER; ``NONE``: nobody's.
        verb: Also those that we do not know.
        data: All further fields. Of ENTERQUEUE the last is the position, whatever is before it.
    """

    at: datetime
    call: str
    queue: str
    agent: str
    verb: str
    data: tuple[str, ...] = ()


def parse(line: bytes) -> QueueLine | None:
    """Read one line, with or without its line break; ``None``: not a line of the book."""
    fields = line.decode("utf-8", "replace").rstrip("\r\n").split("|")
    at = _instant(fields[0])
    if at is None or len(fields) <= _VERB_AT:
        return None
    verb_at = _find_verb(fields)
    verb = fields[verb_at]
    if not verb or not fields[1]:
        return None
    agent = "|".join(fields[_AGENT:verb_at])
    # A line without data ends with a bar: "CONFIGRELOAD|".
    data = fields[verb_at + 1 :]
    return QueueLine(at, fields[1], fields[2], agent, verb, tuple(data) if any(data) else ())


def _instant(text: str) -> datetime | None:
    found = _EPOCH.fullmatch(text)
    if not found:
        return None
    try:
        whole = datetime.fromtimestamp(int(found[1]), UTC)
    except (ValueError, OverflowError, OSError):
        return None
    # adaptive_logger and realtime tables write fractions; the file never did so far.
    return whole.replace(microsecond=int(found[2].ljust(6, "0")[:6])) if found[2] else whole


def _find_verb(fields: list[str]) -> int:
    """Return where the verb is: later than usual if the agent's name has a ``|`` in it.

    Only a piece that can not be a verb is taken for a part of a name, so that nothing in
    ``data`` (a caller may have written it) ever becomes the verb of a line that has one.
    """
    if fields[_AGENT] == "NONE" or _VERB.fullmatch(fields[_VERB_AT]):
        return _VERB_AT
    later = (place for place in range(_VERB_AT + 1, len(fields)) if _KNOWN.fullmatch(fields[place]))
    return next(later, _VERB_AT)


class QueueLines:
    """Cuts a stream of bytes into lines of the book. One per file; sans-I/O.

    Attributes:
        consumed: Bytes of all that was fed that are done with: always at the end of a line.
        damaged: Places where something stood that is no line: torn, NULs, too long.
    """

    def __init__(self) -> None:
        self.consumed = 0
        self.damaged = 0
        self._rest = b""
        self._is_skipping = False
        self._is_counted = False

    def feed(self, data: bytes) -> list[QueueLine]:
        """Take in ``data``, return the lines that it completes, in the order of the file."""
        *whole, self._rest = (self._rest + data).split(b"\n")
        read = [line for raw in whole if (line := self._take(raw)) is not None]
        if len(self._rest) > MAX_LINE:
            # What follows on a block of NULs may be whole; what follows on a long text is its rest.
            after_nuls = self._rest.rfind(b"\0") + 1
            self._is_skipping = not after_nuls
            self._drop(after_nuls or len(self._rest))
        return read

    def finish(self) -> None:
        """Give up what has no end: nobody writes to this file any more."""
        if self._rest:
            self._drop(len(self._rest))
        self._is_skipping = self._is_counted = False

    def _take(self, raw: bytes) -> QueueLine | None:
        self.consumed += len(raw) + 1
        after_nuls = raw.rfind(b"\0") + 1
        is_whole = len(raw) - after_nuls <= MAX_LINE and (after_nuls or not self._is_skipping)
        line = parse(raw[after_nuls:]) if is_whole else None
        if after_nuls or (line is None and raw.strip()):
            self._count()
        self._is_skipping = self._is_counted = False
        return line

    def _drop(self, size: int) -> None:
        self.consumed += size
        self._rest = self._rest[size:]
        self._count()

    def _count(self) -> None:
        self.damaged += not self._is_counted
        self._is_counted = True
