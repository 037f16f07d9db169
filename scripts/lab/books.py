"""Asterisk's own books as a pretend Asterisk keeps them: channel events (CEL) and ``queue_log``.

What is written, in which order and how much later than the AMI event of the same thing was
learnt from a real 22.10 with ``config/asterisk`` and ``dialplan`` as they are here (every
scene of ``lab.scenes``; time-out, key, refusal and restart from recorded traces of 16 and 22):

* The first field of CEL is ``${eventtype}``: of a USER_DEFINED event the user's own name,
  ``CtidCall``, not ``USER_DEFINED``; the name stands in field 12 once more.
* CEL has its own clock reading, 50 to 500 microseconds after the AMI event's ``Timestamp``.
  ``queue_log`` has whole seconds, cut off; its spans are differences of such.
* 22 writes STREAM_BEGIN and STREAM_END, too (``events = ALL``); 16 does not.
* ``queue_log`` names a member by MemberName. A pause in all queues is one PAUSEALL with
  queue NONE, then one PAUSE for each queue.
* A refused phone is ``RINGNOANSWER|0`` whatever it rang; one that rang when its caller hung up
  or pressed the key ``RINGCANCELED|ms``; one that lost the race of ringall nothing.
* A time-out while a phone rings is a RINGNOANSWER first, then EXITWITHTIMEOUT.
* A killed Asterisk writes nothing; the next one begins ``queue_log`` with QUEUESTART, and says
  nothing in the CEL.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from lab.channels import Channel

#: How much later than the AMI event: the middle of what was measured.
CEL_AFTER: Final = timedelta(microseconds=150)


class Books(Protocol):
    """Where the lines go; each without its line break."""

    def note_cel(self, line: str) -> None:
        """One line of ``cel-custom/ctid.csv``."""

    def note_queue(self, line: str) -> None:
        """One line of ``queue_log``."""


class KeptBooks:
    """In memory.

    Attributes:
        cel, queue_log: Lines so far.
    """

    def __init__(self) -> None:
        self.cel: list[str] = []
        self.queue_log: list[str] = []

    def note_cel(self, line: str) -> None:
        """Keep it."""
        self.cel.append(line)

    def note_queue(self, line: str) -> None:
        """Keep it."""
        self.queue_log.append(line)


class UnkeptBooks:
    """Nobody reads them: for benches of something else."""

    def note_cel(self, line: str) -> None:
        """Forget it."""

    def note_queue(self, line: str) -> None:
        """Forget it."""


class BookFiles:
    """In files, appended as Asterisk does; each line is written at once unless ``is_lazy``.

    Attributes:
        is_lazy: Leave lines in the buffer until ``flush``.
    """

    def __init__(self, cel: Path, queue_log: Path) -> None:
        for path in (cel, queue_log):
            path.parent.mkdir(parents=True, exist_ok=True)
        self.is_lazy = False
        self._cel: IO[str] = cel.open("a", encoding="utf-8", newline="")
        self._queue_log: IO[str] = queue_log.open("a", encoding="utf-8", newline="")

    def note_cel(self, line: str) -> None:
        """Append it."""
        self._cel.write(line + "\n")
        if not self.is_lazy:
            self._cel.flush()

    def note_queue(self, line: str) -> None:
        """Append it."""
        self._queue_log.write(line + "\n")
        if not self.is_lazy:
            self._queue_log.flush()

    def flush(self) -> None:
        """Hand everything to the kernel."""
        self._cel.flush()
        self._queue_log.flush()

    def close(self) -> None:
        """Be done."""
        self._cel.close()
        self._queue_log.close()


def _quoted(value: str) -> str:
    return '"' + value.replace('"', '""') + '"'


def cel_line(fields: tuple[str, ...]) -> str:
    """Render the 14 fields of ``config/asterisk/cel_custom.conf`` as CSV_QUOTE does."""
    return ",".join(map(_quoted, fields))


class Clerk:
    """Writes down what happens to channels and queues.

    Args:
        books: Where to.
    """

    def __init__(self, books: Books) -> None:
        self._books = books

    def cel(
        self, kind: str, channel: Channel, at: datetime, *, peer: str = "", user: str = "", **extra: object
    ) -> None:
        """Write one channel event; ``extra`` becomes its JSON."""
        application, arguments = channel.app
        fields = (
            kind,
            f"{(at + CEL_AFTER).timestamp():.6f}",
            channel.shown_number,
            channel.exten,
            channel.context,
            channel.name,
            application,
            arguments,
            channel.uniqueid,
            channel.linkedid,
            peer,
            user,
            json.dumps(extra, separators=(",", ":"), ensure_ascii=False) if extra else "",
            channel.shown_name,
        )
        self._books.note_cel(cel_line(fields))

    def hangup(self, channel: Channel, at: datetime, cause: int, *, is_last: bool) -> None:
        """Write how a leg ends: its application, itself, and its call with the last leg."""
        if channel.app[0] in ("Queue", "Dial"):
            self.cel("APP_END", channel, at)
        if not channel.is_outgoing:
            channel.app = ("", "")
        self.cel(
            "HANGUP",
            channel,
            at,
            hangupcause=cause,
            hangupsource=channel.hangup_source,
            dialstatus="" if channel.is_outgoing else channel.dialstatus,
        )
        self.cel("CHAN_END", channel, at)
        if is_last:
            self.cel("LINKEDID_END", channel, at)

    def stream(self, channel: Channel, at: datetime, *, begins: bool) -> None:
        """Music on hold begins or ends for this leg."""
        if begins:
            self.cel("STREAM_BEGIN", channel, at, user="MOH_STREAM_BEGIN", **{"class": "ctid"})
        else:
            self.cel("STREAM_END", channel, at, user="MOH_STREAM_END")

    def queue(self, at: datetime, call: str, queue: str, member: str, *words: str | int) -> None:
        """Write one line of ``queue_log``; an empty name is written as NONE."""
        text = "|".join(map(str, words))
        end = "" if len(words) > 1 else "|"
        self._books.note_queue(
            f"{int(at.timestamp())}|{call or 'NONE'}|{queue or 'NONE'}|{member or 'NONE'}|{text}{end}"
        )


def whole_seconds(began: datetime, ended: datetime) -> int:
    """Return what Asterisk makes of a span: the difference of two ``time(NULL)``."""
    return int(ended.timestamp()) - int(began.timestamp())
