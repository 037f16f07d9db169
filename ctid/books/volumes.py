"""The files of one book: the one that grows, and its rotated siblings, plain or gzip-compressed.

A rotated file is known by what is in it, never by its name alone: ``queue_log.1`` is the newest
for logrotate and the oldest for Asterisk's own ``logger rotate``.
"""

from __future__ import annotations

import errno
import gzip
import io
import os
import re
import stat
import zlib
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol, TypeVar

HEAD: Final = 4096
"""Bytes at the beginning by which two files are known to be the same."""

FIRST: Final = 64 * 1024
"""Bytes in which the first record is looked for."""

_GZIP: Final = b"\x1f\x8b"
_LISTINGS: Final = 10


class Record(Protocol):
    """What a book consists of."""

    @property
    def at(self) -> datetime:
        """UTC."""


R = TypeVar("R", bound=Record)
R_co = TypeVar("R_co", bound=Record, covariant=True)


class Reader(Protocol[R_co]):
    """Cuts the bytes of one file into records: :class:`QueueLines`, :class:`CelReader`."""

    consumed: int
    damaged: int

    def feed(self, data: bytes) -> Sequence[R_co]:
        """Take in ``data``, return what it completes."""

    def finish(self) -> None:
        """Give up what has no end."""


class Volume:
    """One file of a book, open for reading; what becomes of its name does not matter then.

    Attributes:
        path: Its name when it was opened.
        inode: Its identity on the disk as long as it is there.
        is_packed: gzip-compressed, therefore not written to any more.
        is_broken: Compressed, and can not be unpacked to its end.
    """

    def __init__(self, path: Path) -> None:
        """Open it.

        Raises:
            OSError: It is not there, or must not be read.
        """
        self.path = path
        self._file = io.FileIO(path, "rb", opener=_open_file)
        self.inode = os.fstat(self._file.fileno()).st_ino
        self._head = b""
        self.is_packed = os.pread(self._file.fileno(), len(_GZIP), 0) == _GZIP
        self.is_broken = False
        self._unpacked = gzip.GzipFile(fileobj=self._file) if self.is_packed else None

    def close(self) -> None:
        """Let it go."""
        self._file.close()

    @property
    def written_ns(self) -> int:
        """When it was last written to, nanoseconds since 1970."""
        return os.fstat(self._file.fileno()).st_mtime_ns

    @property
    def size_bytes(self) -> int:
        """Of the file as it is on the disk."""
        return os.fstat(self._file.fileno()).st_size

    def read_at(self, offset: int, size: int) -> bytes:
        """Return up to ``size`` bytes of its text from ``offset`` on; empty: there are none."""
        if self._unpacked is None:
            return os.pread(self._file.fileno(), size, offset)
        try:
            self._unpacked.seek(offset)
            return self._unpacked.read(size) if self._unpacked.tell() == offset else b""
        except (EOFError, zlib.error, gzip.BadGzipFile):
            self.is_broken = True
            return b""

    def text_before(self, offset: int, size: int) -> bytes:
        """Return the ``size`` bytes before ``offset``; fewer at the beginning of the file."""
        size = min(size, offset)
        return self.read_at(offset - size, size) if size else b""

    def head(self) -> bytes:
        """Return the first ``HEAD`` bytes of its text, or as many as there are now."""
        if len(self._head) < HEAD:
            self._head = self.read_at(0, HEAD)
        return self._head

    def begins_as_before(self) -> bool:
        """Tell whether what ``head`` returned last is still there."""
        return self.is_packed or self.read_at(0, len(self._head)) == self._head

    def is_same(self, other: Volume) -> bool:
        """Tell whether one is the other, or a copy of it, whole or in part."""
        mine, theirs = self.head(), other.head()
        size = min(len(mine), len(theirs))
        return self.inode == other.inode or (size > 0 and mine[:size] == theirs[:size])

    def order(self, reader: Callable[[], Reader[Record]]) -> tuple[datetime, int]:
        """Return what files of a book are sorted by: their first record, then their last change."""
        written = self.written_ns
        records = reader().feed(self.head()) or reader().feed(self.read_at(0, FIRST))
        began = records[0].at if records else datetime.fromtimestamp(written / 1e9, UTC)
        return began, written


def volumes(path: Path) -> list[Volume]:
    """Open all files of the book that have something in them; in no order.

    Files are renamed while this looks: it looks again until it saw them all at one instant.
    Rotated ones that may not be read are left out.

    Raises:
        OSError: ``path`` itself may not be read, or the files never stand still.
    """
    for _ in range(_LISTINGS):
        before = listing(path)
        # The growing one first: nothing else is open yet if it can not be read.
        names = sorted(before, key=lambda name: name != path)
        opened = [volume for name in names if (volume := _opened(name, is_needed=name == path))]
        if before == listing(path) and all(before[volume.path] == volume.inode for volume in opened):
            return opened
        close(opened)
    raise OSError(errno.EAGAIN, "is renamed all the time", str(path))


def close(opened: Iterable[Volume]) -> None:
    """Let all of them go."""
    for volume in opened:
        volume.close()


def in_order(opened: list[Volume], path: Path, reader: Callable[[], Reader[R]]) -> list[Volume]:
    """Sort files from the oldest to the one that grows."""
    return sorted(opened, key=lambda volume: (volume.path == path, volume.order(reader)))


def best_copy(opened: list[Volume], like: Volume, path: Path) -> Volume:
    """Return the fullest of the copies of one file: not packed before packed, then the longest."""
    copies = [volume for volume in opened if volume.is_same(like)]
    return max(copies, key=lambda volume: (not volume.is_packed, volume.size_bytes, volume.path == path))


def listing(path: Path) -> dict[Path, int]:
    """Return the inode of each file of the book that is not empty."""
    # queue_log.1, queue_log-20261125.gz (dateext), ctid-20261125.csv (extension .csv)
    belongs = re.compile(rf"{re.escape(path.stem)}(?:{re.escape(path.suffix)}|[.-].+)")
    found: dict[Path, int] = {}
    if path.parent.is_dir():
        for name in os.listdir(path.parent):
            if belongs.fullmatch(name) and (inode := _inode_of_text(path.parent / name)):
                found[path.parent / name] = inode
    return found


def _inode_of_text(path: Path) -> int:
    try:
        status = path.stat()
    except OSError:
        return 0
    return status.st_ino if status.st_size and path.is_file() else 0


def _open_file(path: str, flags: int) -> int:
    # Not waiting for somebody to write into a named pipe, should one have been put there.
    number = os.open(path, flags | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise OSError(errno.EINVAL, "not a file", path)
    return number


def _opened(path: Path, *, is_needed: bool) -> Volume | None:
    try:
        return Volume(path)
    except FileNotFoundError:
        return None
    except OSError:
        if is_needed:
            raise
        return None


def inode_of(path: Path) -> int:
    """Return the inode of a file; 0: it is not there."""
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return 0


def change_of(path: Path) -> tuple[int, int]:
    """Return size and instant of the last change of a file; zeros: it is not there."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return 0, 0
    return status.st_size, status.st_mtime_ns
