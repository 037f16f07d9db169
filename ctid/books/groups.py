"""Records of both books, sorted into groups of calls that belong together.

A group is every call whose legs ever shared a Linkedid: a consult call and the call it was
transferred into are one. It is closed when each of its calls has had its ``LINKEDID_END``, or
when Asterisk died in it, which a later ``QUEUESTART`` proves.

Pure: records in, groups out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from ctid.books.cel import CelEvent
from ctid.books.queue_log import QueueLine

#: QUEUESTART is told in whole seconds, and a start takes longer than this.
_BOOT_SLACK: Final = timedelta(seconds=1)
#: Lines about calls of which CEL says nothing, kept in case it is only late.
_MOST_STRAY: Final = 10_000


class Group(msgspec.Struct, kw_only=True, eq=False):
    """Calls that belong together.

    Attributes:
        calls: Linkedids; open: those that have not ended.
        records, lines: In the order of the files.
        began_at, last_at: Of the oldest and the newest record.
        channels: Every channel's name, e.g. ``PJSIP/201-0000001a``.
        mark: Where in the reading the first record came; smaller is earlier.
        is_lost: Asterisk died while it was open.
        is_compared: As it stands, our tables were held against it.
    """

    calls: set[str] = msgspec.field(default_factory=set)
    open: set[str] = msgspec.field(default_factory=set)
    records: list[CelEvent] = msgspec.field(default_factory=list)
    lines: list[QueueLine] = msgspec.field(default_factory=list)
    began_at: datetime = datetime.max.replace(tzinfo=UTC)
    last_at: datetime = datetime.min.replace(tzinfo=UTC)
    channels: set[str] = msgspec.field(default_factory=set)
    mark: int = 0
    is_lost: bool = False
    is_compared: bool = False

    @property
    def is_closed(self) -> bool:
        return self.is_lost or not self.open

    @property
    def is_whole(self) -> bool:
        """Each call's first leg is there from its beginning."""
        begun = {record.uniqueid for record in self.records if record.kind == "CHAN_START"}
        return self.calls <= begun

    def take_in(self, record: CelEvent) -> None:
        """Add the next record."""
        self.is_compared = False
        self.records.append(record)
        self.channels.add(record.channel)
        self.began_at = min(self.began_at, record.at)
        self.last_at = max(self.last_at, record.at)


class Groups:
    """All groups that are not taken yet.

    Attributes:
        heard_at: The newest instant in either book; ``None``: nothing read yet.
    """

    def __init__(self) -> None:
        self.heard_at: datetime | None = None
        self._of_call: dict[str, Group] = {}
        self._of_leg: dict[str, Group] = {}
        self._stray: dict[str, list[QueueLine]] = {}

    def __iter__(self) -> Iterator[Group]:
        return iter({id(group): group for group in self._of_call.values()}.values())

    def add(self, records: Iterable[CelEvent], lines: Iterable[QueueLine], mark: int = 0) -> None:
        """Take in what was read next from the two files."""
        for record in records:
            self._add_record(record, mark)
        for line in lines:
            self._add_line(line)

    def take(self, group: Group) -> None:
        """Forget a group: it is done with."""
        for call in group.calls:
            self._of_call.pop(call, None)
        for record in group.records:
            self._of_leg.pop(record.uniqueid, None)

    def _add_record(self, record: CelEvent, mark: int) -> None:
        self._hear(record.at)
        if not record.linkedid:
            return
        group = self._of_leg.get(record.uniqueid)
        other = self._of_call.get(record.linkedid)
        if group is None:
            group = other or Group(mark=mark)
        elif other is not None and other is not group:
            group = self._merge(group, other)
        if record.linkedid not in group.calls:
            group.calls.add(record.linkedid)
            group.open.add(record.linkedid)
            self._of_call[record.linkedid] = group
        self._of_leg[record.uniqueid] = group
        group.take_in(record)
        group.lines += self._stray.pop(record.uniqueid, ())
        if record.kind == "LINKEDID_END":
            group.open.discard(record.linkedid)

    def _merge(self, one: Group, two: Group) -> Group:
        for call in two.calls:
            self._of_call[call] = one
        for record in two.records:
            self._of_leg[record.uniqueid] = one
        one.calls |= two.calls
        one.open |= two.open
        one.records += two.records
        one.channels |= two.channels
        one.began_at = min(one.began_at, two.began_at)
        one.last_at = max(one.last_at, two.last_at)
        one.lines = sorted(one.lines + two.lines, key=lambda line: line.at)
        one.mark = min(one.mark, two.mark)
        one.is_compared = False
        return one

    def _add_line(self, line: QueueLine) -> None:
        self._hear(line.at)
        if line.verb == "QUEUESTART":
            self._restarted(line.at)
        group = self._of_leg.get(line.call)
        if group is not None:
            group.lines.append(line)
        elif line.call not in ("NONE", "MANAGER", "REALTIME"):
            self._stray.setdefault(line.call, []).append(line)
            while len(self._stray) > _MOST_STRAY:
                del self._stray[next(iter(self._stray))]

    def _restarted(self, at: datetime) -> None:
        for group in self:
            if not group.is_closed and group.last_at <= at + _BOOT_SLACK:
                group.is_lost = True

    def _hear(self, at: datetime) -> None:
        if self.heard_at is None or at > self.heard_at:
            self.heard_at = at
