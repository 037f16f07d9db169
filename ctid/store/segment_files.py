"""One segment of a log as a file: what is done to files, and to the folder they are in, so that it lasts."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from uuid import UUID

from ctid.store.segment_format import records
from ctid.store.whole import sync_folder

_BLOCK_BYTES: Final = 1 << 20
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC


class Segment:
    """One file.

    Attributes:
        first: Number of its first record, whether that is written yet or not.
        fd: Open for appending while something may still be written or synced; else -1.
    """

    __slots__ = ("fd", "first", "path", "size_bytes")

    def __init__(self, path: Path, first: int) -> None:
        self.path = path
        self.first = first
        self.size_bytes = 0
        self.fd = -1

    def create(self) -> None:
        """Make the file; durable with the next ``sync_folder``.

        Raises:
            OSError: It can not be made, or is there already.
        """
        self.fd = os.open(self.path, _FLAGS | os.O_EXCL, 0o600)

    def reopen(self) -> None:
        """Go on appending to an existing file."""
        self.close()
        self.fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def remove(self) -> None:
        self.close()
        self.path.unlink(missing_ok=True)

    def append(self, block: bytes) -> None:
        """Write all of ``block``, with one call.

        Raises:
            OSError: It did not fit; the file is as it was, unless ``ftruncate`` fails, too.
        """
        written = os.write(self.fd, block) if block else 0
        if written < len(block):
            os.ftruncate(self.fd, self.size_bytes)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.size_bytes += len(block)

    def records(self, log: UUID, start: int) -> Iterator[tuple[int, bytes, int]]:
        """Yield number and body of each intact record from offset ``start`` on, and where it ends."""
        size_bytes = _BLOCK_BYTES
        with self.path.open("rb") as file:
            while start < self.size_bytes:
                file.seek(start)
                block = file.read(min(size_bytes, self.size_bytes - start))
                done = 0
                for number, begin, done in records(block, log):
                    yield number, block[begin:done], start + done
                if start + len(block) >= self.size_bytes:
                    return
                start += done
                # Nothing intact in it: perhaps one long record, or a long stretch of damage.
                size_bytes = _BLOCK_BYTES if done else size_bytes * 2

    def replace(self, block: bytes) -> None:
        """Put a new file with this content into the old one's place once it is durable.

        Raises:
            OSError: It could not be written; the old file is untouched.
        """
        fresh = self.path.with_suffix(".new")
        fd = os.open(fresh, _FLAGS | os.O_TRUNC, 0o600)
        try:
            view = memoryview(block)
            while view:
                view = view[os.write(fd, view) :]
            os.fdatasync(fd)
            fresh.rename(self.path)
            sync_folder(self.path.parent)
        except OSError:
            os.close(fd)
            fresh.unlink(missing_ok=True)
            raise
        self.close()
        self.fd, self.size_bytes = fd, len(block)

    def cut(self, size_bytes: int) -> None:
        """Shorten the file to what is good in it."""
        os.truncate(self.path, size_bytes)
        self.size_bytes = size_bytes
        self.sync()

    def sync(self) -> None:
        """Make the file durable as it lies there, on a descriptor of its own."""
        fd = os.open(self.path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.fdatasync(fd)
        finally:
            os.close(fd)
