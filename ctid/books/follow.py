"""Follow a book while Asterisk writes it and logrotate takes it away: nothing twice, nothing left out.

    volume that grows --renamed, deleted--> read on until its successor has text --> successor
    volume that grows --shorter, or other text before our place--> its copy, if there is one, then on
    no volume where the position says so --> lost, and the book from its beginning

Plain blocking calls for a thread; nothing here sleeps.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Final, Generic

import msgspec

from ctid.books.volumes import (
    R,
    Reader,
    Volume,
    best_copy,
    change_of,
    close,
    in_order,
    inode_of,
    listing,
    volumes,
)

WITNESS: Final = 4096
"""Bytes before a position that prove that it is the right file."""

CHUNK: Final = 256 * 1024
AT_ONCE: Final = 4 * 1024 * 1024
"""Bytes that one poll reads at most, so that a book of years does not come as one list."""

_STEPS: Final = 100
_LOOKS: Final = 3


class Position(msgspec.Struct, frozen=True):
    """A place between two records of a book.

    Attributes:
        offset: Bytes from the beginning of the file's (unpacked) text.
        crc: CRC-32 of the at most ``WITNESS`` bytes before it.
    """

    inode: int
    offset: int
    crc: int


class Follower(Generic[R]):
    """Reads what is new in a book. For one thread.

    Attributes:
        lost: How often records may have been left out: the file was cut without a copy, or
            the position's file is gone. Then compare with :func:`ctid.books.period.read_period`.
        is_behind: The last poll stopped early: there is more to read at once.
    """

    def __init__(self, path: Path, reader: Callable[[], Reader[R]], position: Position | None = None) -> None:
        """Prepare; nothing is opened yet, and nothing needs to be there.

        Args:
            reader: ``QueueLines`` or ``CelReader``.
            position: Where an earlier one was; ``None``: the beginning of the file at ``path``.
        """
        self.lost = 0
        self.is_behind = False
        self._path = path
        self._make = reader
        self._volume: Volume | None = None
        self._known = position
        self._damaged = 0
        #: How the files looked when the open one had no successor.
        self._last: object = None
        self._enter(0)

    @property
    def position(self) -> Position | None:
        """After the last record that ``poll`` returned; ``None``: there was nothing so far."""
        if self._volume is None or not self._at:
            # Of a file with nothing read an inode is all we would know; the end of the last one says more.
            return self._known
        end = len(self._recent) - (self._read - self._at)
        return Position(self._volume.inode, self._at, zlib.crc32(self._recent[max(0, end - WITNESS) : end]))

    @property
    def damaged(self) -> int:
        """Places so far where something stood that is no record."""
        return self._damaged + self._reader.damaged

    def poll(self) -> list[R]:
        """Return the records that are new, in the order of the book.

        Raises:
            OSError: The file is there and can not be read. Try again later; nothing is lost by it.
        """
        records: list[R] = []
        try:
            self.is_behind = self._read_on(records)
        except OSError:
            # What was read before is not lost by it; the next poll will meet the error alone.
            if not records:
                raise
        return records

    def close(self) -> None:
        """Let the file go; the position stays."""
        self._known = self.position
        if self._volume:
            self._volume.close()
        self._volume = None
        self._damaged += self._reader.damaged
        self._enter(0)

    @property
    def _at(self) -> int:
        return self._base + self._reader.consumed

    def _enter(self, offset: int, witness: bytes = b"") -> None:
        """Begin to read at ``offset``, behind ``witness``."""
        self._reader = self._make()
        self._base = self._read = offset
        self._recent = witness

    def _read_on(self, records: list[R]) -> bool:
        """Read what is new; tell whether there is more."""
        budget = AT_ONCE
        for _ in range(_STEPS):
            if self._volume is None and not self._begin():
                return False
            budget -= self._drain(records, budget)
            if budget <= 0:
                return True
            if self._volume and not self._move_on(records):
                return False
        return True

    def _begin(self) -> bool:
        """Open the file that the position is in, or the book from its beginning."""
        if self._known is None:
            self._volume = self._open()
            return self._volume is not None
        self._last = None
        # A copy may be finished and the file be cut while we look: then the next look finds the copy.
        if any(self._resume(self._known) for _ in range(_LOOKS)):
            return True
        self._volume = self._open()
        if self._volume:
            self.lost += 1
            self._known = None
        return self._volume is not None

    def _resume(self, known: Position) -> bool:
        opened = volumes(self._path)
        found = _find(opened, known, self._path)
        close(volume for volume in opened if volume is not found)
        if found is None:
            return False
        witness = found.text_before(known.offset, WITNESS)
        if zlib.crc32(witness) != known.crc:
            found.close()
            return False
        self._enter(known.offset, witness)
        self._volume = found
        return True

    def _open(self) -> Volume | None:
        try:
            return Volume(self._path)
        except FileNotFoundError:
            return None

    def _drain(self, records: list[R], budget: int) -> int:
        """Read the open file to its end or for ``budget`` bytes; return how many it were."""
        size = 0
        while self._volume and size < budget:
            data = self._volume.read_at(self._read, CHUNK)
            # Only now: had it been cut before or while we read, other text would stand here.
            if not self._is_still_there(self._volume):
                self.close()
            elif not data:
                break
            else:
                self._take(data, records)
                size += len(data)
        return size

    def _is_still_there(self, volume: Volume) -> bool:
        """Tell whether the file still holds what was read of it, or what it was chosen for."""
        if not self._read:
            return volume.begins_as_before()
        witness = self._recent[-WITNESS:]
        return volume.is_packed or volume.text_before(self._read, len(witness)) == witness

    def _take(self, data: bytes, records: list[R]) -> None:
        records += self._reader.feed(data)
        self._read += len(data)
        self._recent = (self._recent + data)[-(self._read - self._at + WITNESS) :]

    def _move_on(self, records: list[R]) -> bool:
        """Go over to the next file once this one is finished; tell whether there is more to read."""
        current = self._volume
        if current is None or (inode_of(self._path) == current.inode and not current.is_packed):
            return False
        if self._is_replaced_by_a_copy(current):
            self.close()
            return True
        successor = self._successor(current)
        if successor is None:
            return False
        # Somebody writes into the next file, so nobody writes into this one any more.
        size = self._drain(records, AT_ONCE)
        if self._volume is None or size >= AT_ONCE:
            successor.close()
            return True
        self.lost += current.is_broken
        self._reader.finish()
        self.close()
        self._volume = successor
        return True

    def _is_replaced_by_a_copy(self, current: Volume) -> bool:
        """Tell whether a copy has taken the place of the file (restored, edited), not a successor."""
        if current.inode in listing(self._path).values() or not (copy := self._open()):
            return False
        is_copy = copy.is_same(current) and copy.size_bytes >= self._at
        copy.close()
        return is_copy

    def _successor(self, current: Volume) -> Volume | None:
        """Open the file that was begun after ``current``; ``None``: there is none with text."""
        seen = (listing(self._path), change_of(self._path))
        if seen == self._last:
            return None
        opened = volumes(self._path)
        later = [
            volume
            for volume in in_order(opened, self._path, self._make)
            if not volume.is_same(current)
            and (volume.path == self._path or volume.order(self._make) > current.order(self._make))
        ]
        chosen = best_copy(later, later[0], self._path) if later else None
        close(volume for volume in opened if volume is not chosen)
        if chosen and listing(self._path) != seen[0]:
            # It may have been copied and cut before its beginning was looked at.
            chosen.close()
            return None
        self._last = None if chosen else seen
        return chosen


def _find(opened: list[Volume], position: Position, path: Path) -> Volume | None:
    """Return the file that a position is in, by inode and text, or else by its text alone."""
    fitting = [volume for volume in opened if _is_in(position, volume)]
    fitting.sort(key=lambda v: (v.inode != position.inode, v.path != path, v.is_packed, -v.size_bytes))
    return fitting[0] if fitting else None


def _is_in(position: Position, volume: Volume) -> bool:
    witness = volume.text_before(position.offset, WITNESS)
    return witness != b"" and zlib.crc32(witness) == position.crc
