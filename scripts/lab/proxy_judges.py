"""Judges for :mod:`lab.proxy`: one reads AMI frames, one PostgreSQL's protocol."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

from lab.proxy import Cut

# -- AMI ----------------------------------------------------------------------

_FRAME_END: Final = b"\r\n\r\n"
_BANNER: Final = b"Asterisk Call Manager"

Deed = Literal["drop", "duplicate", "delay", "reorder", "cut", "cut inside"]
"""``reorder`` swaps with the next frame; ``cut`` ends the connection before the frame, ``cut inside``
after ``bytes_in`` bytes of it."""


@dataclass
class FrameFault:
    """What shall happen to frames from Asterisk.

    Attributes:
        matches: Which frames are meant.
        number: The first of these that is hit, from 1, counted over all connections.
        times: So many in a row are hit.
        seconds: Of ``delay``.
        bytes_in: Of ``cut inside``.
        seen, done: Matching frames so far; of these, hit.
    """

    deed: Deed
    matches: Callable[[bytes], bool]
    number: int = 1
    times: int = 1
    seconds: float = 0.1
    bytes_in: int = 1
    seen: int = 0
    done: int = 0

    def hits(self, frame: bytes) -> bool:
        """Count the frame; tell whether it is hit."""
        if not self.matches(frame):
            return False
        self.seen += 1
        if not self.number <= self.seen < self.number + self.times:
            return False
        self.done += 1
        return True


def event_named(*names: str) -> Callable[[bytes], bool]:
    """Return a test for frames that are one of these events."""
    lines = [f"event: {name}".lower().encode() for name in names]
    return lambda frame: frame.split(b"\r\n", 1)[0].strip().lower() in lines


class AmiJudge:
    """Hits frames on their way from Asterisk; what the daemon sends passes untouched.

    faults = [FrameFault("drop", event_named("Hangup"))]
    proxy = FaultProxy(target, judge=lambda: AmiJudge(faults))
    """

    def __init__(self, faults: list[FrameFault]) -> None:
        self._faults = faults
        self._buffer = b""
        self._held = b""

    def upward(self, block: bytes) -> Iterator[bytes]:
        """Pass on everything."""
        yield block

    def downward(self, block: bytes, late: Callable[[bytes, float], None]) -> Iterator[bytes]:
        """Pass on whole frames, those that are hit changed.

        Raises:
            Cut: As a fault says.
        """
        self._buffer += block
        if self._buffer.startswith(_BANNER) and (end := self._buffer.find(b"\r\n")) >= 0:
            banner, self._buffer = self._buffer[: end + 2], self._buffer[end + 2 :]  # a line, not a frame
            yield banner
        while (end := self._buffer.find(_FRAME_END)) >= 0:
            frame, self._buffer = self._buffer[: end + 4], self._buffer[end + 4 :]
            held, self._held = self._held, b""
            yield from self._judge(frame, late)
            if held:
                yield held

    def _judge(self, frame: bytes, late: Callable[[bytes, float], None]) -> Iterator[bytes]:
        hit = next((fault for fault in self._faults if fault.hits(frame)), None)
        match hit.deed if hit else "":
            case "":
                yield frame
            case "duplicate":
                yield frame + frame
            case "delay" if hit:
                late(frame, hit.seconds)
            case "reorder":
                self._held = frame
            case "cut":
                raise Cut
            case "cut inside" if hit:
                yield frame[: hit.bytes_in]
                raise Cut


# -- PostgreSQL ---------------------------------------------------------------

_SSL, _GSS = 80877103, 80877104


@dataclass
class CommitFault:
    """Which COMMITs shall be cut.

    Attributes:
        when: ``before`` PostgreSQL sees it, or ``after`` PostgreSQL did it and before the client is told.
        left: So many more are cut.
        spare: So many are let through first.
        seen, done: COMMITs so far; cut.
    """

    when: Literal["before", "after"] = "after"
    left: int = 0
    spare: int = 0
    seen: int = 0
    done: int = 0

    def takes(self) -> bool:
        """Count a COMMIT; tell whether it is cut."""
        self.seen += 1
        if not self.left:
            return False
        if self.spare:
            self.spare -= 1
            return False
        self.left -= 1
        self.done += 1
        return True


class PostgresJudge:
    """Knows a client's COMMIT, in the simple and in the extended protocol (v3).

    fault = CommitFault()
    proxy = FaultProxy(socket_path, judge=lambda: PostgresJudge(fault))
    """

    def __init__(self, fault: CommitFault) -> None:
        self._fault = fault
        self._buffer = b""
        self._is_started = False
        self._is_deaf = False
        self._statements: set[bytes] = set()
        self._portals: set[bytes] = set()

    def upward(self, block: bytes) -> Iterator[bytes]:
        """Pass on whole messages.

        Raises:
            Cut: Before a COMMIT, as the fault says.
        """
        self._buffer += block
        while message := self._next():
            if self._commits(message) and self._fault.takes():
                if self._fault.when == "before":
                    raise Cut
                self._is_deaf = True
            yield message

    def downward(self, block: bytes, late: Callable[[bytes, float], None]) -> Iterator[bytes]:
        """Pass on everything, but not the answer to a COMMIT that is to be cut.

        Raises:
            Cut: In its stead.
        """
        if self._is_deaf:
            raise Cut
        yield block

    def _commits(self, message: bytes) -> bool:
        """Tell whether the message makes PostgreSQL commit: a Query, or the Execute of a prepared one."""
        kind, words = message[:1], message[5:].split(b"\0", 2)
        match kind:
            case b"Q":
                return _says_commit(words[0])
            case b"P":
                _keep(self._statements, words[0], _says_commit(words[1]))
            case b"B":
                _keep(self._portals, words[0], words[1] in self._statements)
            case b"E":
                return words[0] in self._portals
        return False

    def _next(self) -> bytes:
        """Take the next whole message out of the buffer; empty: there is none yet."""
        head = 1 if self._is_started else 0  # what comes before the start has no type
        if len(self._buffer) < head + 8 - 4 * head:
            return b""
        (length,) = struct.unpack_from("!I", self._buffer, head)
        if len(self._buffer) < head + length:
            return b""
        message, self._buffer = self._buffer[: head + length], self._buffer[head + length :]
        if not self._is_started:
            (code,) = struct.unpack_from("!I", message, 4)
            self._is_started = code not in (_SSL, _GSS)
        return message


def _says_commit(sql: bytes) -> bool:
    words = sql.strip(b" \r\n\t;").upper().split()
    return words[:1] in ([b"COMMIT"], [b"END"]) and b"PREPARED" not in words


def _keep(names: set[bytes], name: bytes, is_in: bool) -> None:
    (names.add if is_in else names.discard)(name)
