"""Both books, read while Asterisk writes them, sorted into groups, and where to begin next time."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec
import structlog

from ctid.ami.events import AmiEvent
from ctid.books.cel import CelReader
from ctid.books.follow import Follower, Position
from ctid.books.groups import Group, Groups
from ctid.books.queue_log import QueueLines
from ctid.books.translation import events_of
from ctid.store.whole import write_whole

_log = structlog.get_logger()

_POLL_SECONDS: Final = 0.05
_LONGEST_SILENCE: Final = timedelta(days=1)
_LATE_SECONDS: Final = 0.5
"""CEL passes through a queue inside Asterisk: so late a record may be when its moment is over."""


class Places(msgspec.Struct, frozen=True):
    """A place in each book.

    Attributes:
        since: What was over before this is none of ours.
    """

    since: datetime
    cel: Position | None = None
    queue_log: Position | None = None


class Reading:
    """Follows both books.

    Reading begins where no group was open any more when it last stopped, so it needs to
    remember nothing but two places; what is read again is compared again, to no effect.

    Args:
        cel, queue_log: The files.
        checkpoint: Where the places are kept.
        since: Without a checkpoint, groups that were over before this are none of ours.

    Attributes:
        groups: What was read and is not done with.
        steps: Grows while ``missed`` gets on.
    """

    def __init__(self, cel: Path, queue_log: Path, *, checkpoint: Path, since: datetime) -> None:
        self.groups = Groups()
        self._checkpoint = checkpoint
        begin = _read(checkpoint) or Places(since)
        self._since = begin.since
        self._cel = Follower(cel, CelReader, begin.cel)
        self._queue_log = Follower(queue_log, QueueLines, begin.queue_log)
        self._marks: dict[int, Places] = {}
        self._mark = 0
        self._saved: Places | None = None
        self._only_one = asyncio.Lock()
        self._is_asked = False
        self.steps = 0
        self._is_unreadable = False

    @property
    def lost(self) -> int:
        """How often a part of a book was gone before it was read."""
        return self._cel.lost + self._queue_log.lost

    @property
    def damaged(self) -> int:
        """Places that could not be read."""
        return self._cel.damaged + self._queue_log.damaged

    async def read(self) -> None:
        """Take in all that is new; never raises."""
        async with self._only_one:
            while True:
                self._mark += 1
                self._marks[self._mark] = self._places()
                try:
                    records = await asyncio.to_thread(self._cel.poll)
                    lines = await asyncio.to_thread(self._queue_log.poll)
                except OSError as error:
                    self._note_unreadable(error)
                    return
                self._is_unreadable = False
                self.steps += self._is_asked
                self.groups.add(records, lines, self._mark)
                if not self._cel.is_behind and not self._queue_log.is_behind:
                    return

    def _places(self) -> Places:
        return Places(self._since, self._cel.position, self._queue_log.position)

    def _note_unreadable(self, error: OSError) -> None:
        if not self._is_unreadable:
            self._is_unreadable = True
            _log.error(
                "Asterisk's books can not be read; nothing is proved meanwhile",
                why=str(error),
                remedy="let ctid read asterisk.queue_log and asterisk.cel; run `ctid check`",
            )

    async def missed(self, since: datetime, until: datetime, *, whole: bool = False) -> list[AmiEvent]:
        """Return what the books tell of a time, in AMI's words; waits a moment for what is late.

        Args:
            since: After this.
            until: Before this; recent.
            whole: Calls that were under way at ``since`` from their beginning.
        """
        self._is_asked = True
        try:
            return await self._missed(since, until, whole=whole)
        finally:
            self._is_asked = False

    async def _missed(self, since: datetime, until: datetime, *, whole: bool) -> list[AmiEvent]:
        loop = asyncio.get_running_loop()
        give_up = loop.time() + _LATE_SECONDS
        await self.read()
        while (self.groups.heard_at is None or self.groups.heard_at <= until) and loop.time() < give_up:
            await asyncio.sleep(_POLL_SECONDS)
            await self.read()
        parts = [
            (list(group.records), list(group.lines))  # more may be read meanwhile
            for group in self.groups
            if group.last_at > since or (whole and not group.is_closed)
        ]
        told: list[AmiEvent] = []
        for records, lines in parts:
            events = events_of(records, lines)
            told += [event for event in events if (whole or since < event.at) and event.at < until]
            self.steps += 1
            await asyncio.sleep(0)  # of an hour's outage they are many, and the loop has more to do
        return sorted(told, key=lambda event: event.at)

    def due(self, now: datetime) -> list[Group]:
        """Return the groups that are over since before ``now``; those before our time are forgotten.

        So are those of which the books say nothing for a day: their end is not in there.
        """
        self._forget_silent()
        over = (group for group in self.groups if group.is_closed and group.last_at <= now)
        closed = [group for group in over if not group.is_compared]
        for group in closed:
            if not group.is_whole or group.last_at < self._since:
                self.groups.take(group)
        return [group for group in closed if group.is_whole and group.last_at >= self._since]

    def _forget_silent(self) -> None:
        newest = self.groups.heard_at
        for group in list(self.groups):
            if newest is not None and group.last_at <= newest - _LONGEST_SILENCE and not group.is_closed:
                _log.warning("the books do not tell the end of a call", call=min(group.calls))
                self.groups.take(group)

    def forget(self, group: Group) -> None:
        """The group is not needed any more."""
        self.groups.take(group)

    async def save(self) -> None:
        """Keep the place where reading must begin next time; never raises."""
        asked = {group.mark for group in self.groups} | {self._mark}
        place = self._marks.get(min(asked)) or self._saved or self._places()
        self._marks = {mark: self._marks[mark] for mark in asked if mark in self._marks}
        if place != self._saved:
            try:
                await asyncio.to_thread(write_whole, self._checkpoint, msgspec.json.encode(place))
            except OSError as error:
                _log.warning("the place in the books can not be kept", why=str(error))
                return
            self._saved = place

    def close(self) -> None:
        """Let the files go."""
        self._cel.close()
        self._queue_log.close()


def _read(checkpoint: Path) -> Places | None:
    try:
        return msgspec.json.decode(checkpoint.read_bytes(), type=Places)
    except (OSError, msgspec.MsgspecError):
        return None  # from the beginning: more work, the same outcome
