"""A durable log on our own disk: numbered records in segment files.

Numbers are 1, 2, 3 … and grow for ever, also over restarts. A folder holds one log:

    ID.NNNNNNNNNNNNNNNNNNNN.log      one segment: records N, N+1 … one after another (``segment_format``)
    ID.NNNNNNNNNNNNNNNNNNNN.new      one being written; of no meaning after a crash, removed at opening

ID is the log's UUID, N the number of the segment's first record, 20 digits. There is always at
least one segment, perhaps an empty one: its name remembers the last number when all before it were
forgotten.

Written and durable are two things. ``append`` writes to the page cache: that outlives us, not the
machine. ``sync`` makes durable. After a failed fdatasync the kernel may have thrown the pages away
and still say yes to the next fdatasync, so a file is never synced again after a failure: what was
not durable yet is also in memory and goes into a new file, which takes the old one's place (F15).
The same at opening: the newest segment is copied, because nobody knows what an earlier process was
told about it.
"""

from __future__ import annotations

import os
import re
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final
from uuid import UUID, uuid4

from ctid.errors import LogUnavailable
from ctid.store.segment_files import Segment
from ctid.store.segment_format import HEAD_BYTES, framed, records, taken
from ctid.store.whole import sync_folder

_NAME: Final = re.compile(r"([0-9a-f-]{36})\.(\d{20})\.log")
_PLACES: Final = 4
_PENDING_BYTES: Final = 64 << 20
"""At most so much is kept in memory while the disk takes its time to sync."""


class SegmentLog:
    """See the module. All methods may be called from any thread.

    ``open``, ``sync`` and ``forget`` wait for the disk; nothing else does, nor waits for them to end.

    Attributes:
        id: Made at the first opening, for ever.
        last: Number of the newest record ever written; 0 before the first.
        durable: This record, and all before it, survive a power failure.
        size_bytes: Of all segments together.
        corrupt: How many records were found damaged since the opening, or at it; their numbers are
            missing for ever.
    """

    def __init__(self, folder: Path, *, segment_bytes: int, cap_bytes: int) -> None:
        """Say where; nothing is touched before ``open``.

        Args:
            segment_bytes: A segment that would get larger is followed by a new one.
            cap_bytes: All segments together never get larger.
        """
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._cap_bytes = cap_bytes
        self._lock = threading.RLock()
        self._syncing = threading.Lock()
        self._forget_all()
        self.id = UUID(int=0)

    def _forget_all(self) -> None:
        self._segments: list[Segment] = []
        self._pending: deque[tuple[int, bytes]] = deque()
        self._pending_bytes = 0
        self._lost: list[range] = []
        #: Where a reading may go on: (segment's first, last number read) -> offset; of several readers.
        self._places: dict[tuple[int, int], int] = {}
        self._is_suspect = False
        self._is_folder_dirty = False
        self.last = 0
        self.durable = 0
        self.size_bytes = 0
        self.corrupt = 0

    @property
    def is_open(self) -> bool:
        return bool(self._segments)

    @property
    def first(self) -> int:
        """Number of the oldest record kept; ``last + 1`` if there is none."""
        return self._segments[0].first if self._segments else self.last + 1

    def open(self) -> None:
        """Read what is there, cut off a torn tail, leave out what is damaged.

        Raises:
            LogUnavailable: The folder can not be read or written, or holds two logs.
        """
        with self._lock, self._translation():
            self.close()
            self._forget_all()
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._folder.chmod(0o700)
            try:
                self._find()
                self._verify()
            except BaseException:
                self.close()
                raise

    def close(self) -> None:
        """Close the files. What ``sync`` did not make durable is left to the kernel."""
        with self._lock:
            for segment in self._segments:
                segment.close()
            self._segments = []

    def append(self, bodies: Sequence[bytes]) -> int:
        """Write records, all or none; return the number of the last.

        Raises:
            LogUnavailable: Disk full or broken, or the cap is reached; nothing was written.
        """
        with self._lock, self._translation():
            numbered = [(n, framed(body, n, self.id)) for n, body in enumerate(bodies, self.last + 1)]
            block = b"".join(frame for _, frame in numbered)
            self._make_sure_of_room(len(block))
            self._write(block)
            self._pending.extend(numbered)
            self._pending_bytes += len(block)
            self.size_bytes += len(block)
            self.last += len(numbered)
            return self.last

    def sync(self) -> int:
        """Make durable what was appended before the call; return ``durable``.

        Raises:
            LogUnavailable: The disk is broken. What is not durable stays in memory, and the next
                call writes it into a new file.
        """
        with self._syncing, self._translation():
            with self._lock:
                self._make_sure_of_being_open()
                last = self.last
                is_clean = last == self.durable or self._is_suspect
                dirty = [] if is_clean else [os.dup(one.fd) for one in self._segments if one.fd >= 0]
                is_folder_dirty = self._is_folder_dirty and not is_clean
            try:
                for fd in dirty:
                    os.fdatasync(fd)
                if is_folder_dirty:
                    self._sync_folder()
            except OSError:
                with self._lock:
                    self._is_suspect = True
            finally:
                for fd in dirty:
                    os.close(fd)
            with self._lock:
                self._make_sure_of_being_open()
                if self._is_suspect:
                    self._rewrite()
                self._note_durable(last)
                return self.durable

    def read(self, after: int, limit: int, *, through: int | None = None) -> list[tuple[int, bytes]]:
        """Return up to ``limit`` records with numbers above ``after``, oldest first, durable or not.

        Args:
            through: None above this.

        Raises:
            LogUnavailable: The disk is broken.
        """
        found: list[tuple[int, bytes]] = []
        with self._lock, self._translation():
            newest = self.last if through is None else min(through, self.last)
            for place, segment in enumerate(self._segments):
                # What is not durable of a suspect segment is read from memory.
                end = min(self._end_of(place), newest, self.durable if self._is_suspect else self.last)
                if after < end and len(found) < limit and segment.size_bytes:
                    found += self._read(segment, max(after, segment.first - 1), end, limit - len(found))
            if self._is_suspect:
                found += [(n, frame[HEAD_BYTES:]) for n, frame in self._pending if after < n <= newest]
        return found[:limit]

    def forget(self, through: int) -> None:
        """Remove the segments that hold nothing above ``through``; the newest number is kept in mind.

        Never raises: what can not be removed now is removed next time.
        """
        with self._syncing, suppress(OSError):
            self._forget(through)

    def _forget(self, through: int) -> None:
        with self._lock:
            if self._segments and self.last <= through and self._segments[-1].size_bytes:
                # Its successor must be there before it goes: the name is what remembers `last`.
                self._start(self.last + 1)
                self._note_durable(self.last)
        if self._is_folder_dirty:
            self._sync_folder()
        with self._lock:
            gone = [
                segment
                for place, segment in enumerate(self._segments[:-1])
                if self._end_of(place) <= min(through, self.last)
            ]
            for segment in gone:
                segment.remove()
                self._segments.remove(segment)
                self.size_bytes -= segment.size_bytes
            if gone:
                self._lost = [some for some in self._lost if some.stop > self.first]
        if gone:
            sync_folder(self._folder)

    def skip(self, through: int) -> None:
        """Use no number up to ``through``: it has been used, though the log does not know.

        Raises:
            LogUnavailable: The disk is broken.
        """
        with self._lock, self._translation():
            self._make_sure_of_being_open()
            if through > self.last:
                self._note_lost(self.last + 1, through + 1)
                self._start(through + 1)
                self.last = through

    @contextmanager
    def _translation(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise LogUnavailable(f"{self._folder}: {error.strerror or error}") from error

    def _find(self) -> None:
        """List the segments; make the first one if there is none."""
        for stray in self._folder.glob("*.new"):
            stray.unlink()
        named = [(one, _NAME.fullmatch(one.name)) for one in sorted(self._folder.iterdir())]
        found = [(one, UUID(match[1]), int(match[2])) for one, match in named if match]
        ids = {log for _, log, _ in found}
        if len(ids) > 1:
            raise LogUnavailable(f"{self._folder}: holds segments of {len(ids)} logs; move one of them away")
        self.id = ids.pop() if ids else uuid4()
        self._segments = [Segment(path, first) for path, _, first in found]
        if not found:
            self._start(1)

    def _verify(self) -> None:
        """Find out which records are intact; take the newest segment into use."""
        *finished, newest = self._segments
        self.last = self._segments[0].first - 1
        for segment, following in zip(finished, self._segments[1:], strict=True):
            block = self._load(segment)
            self._check(block, following.first - 1)
            self._note_lost(self.last + 1, following.first)
            self.last = following.first - 1
            segment.sync()
        block = self._load(newest)
        cut = self._check(block, None)
        self._take_into_use(newest, block, cut)
        self.durable = self.last
        self.size_bytes = sum(segment.size_bytes for segment in self._segments)

    def _load(self, segment: Segment) -> bytes:
        segment.path.chmod(0o600)
        block = segment.path.read_bytes()
        segment.size_bytes = len(block)
        return block

    def _check(self, block: bytes, end: int | None) -> int:
        """Note the newest number up to ``end`` and those missing before; return where its record ends."""
        cut = 0
        for number, _, stop in records(block, self.id):
            if end is not None and number > end:
                break
            self._note_lost(self.last + 1, number)
            self.last, cut = max(self.last, number), stop
        return cut

    def _take_into_use(self, segment: Segment, block: bytes, cut: int) -> None:
        """Copy the newest segment, without its tail: nobody knows whether the original is on disk."""
        if block:
            try:
                segment.replace(block[:cut])
            except OSError:  # the disk is full: then as well as it can be done in place
                segment.cut(cut)
        segment.reopen()
        if unreadable := taken(block[cut:], self.id):
            self._note_lost(self.last + 1, self.last + 1 + unreadable)
            self.last += unreadable
            self._start(self.last + 1)

    def _note_lost(self, begin: int, end: int) -> None:
        """Count the numbers from ``begin`` up to, not including, ``end``, unless they are counted."""
        known = any(begin in some for some in self._lost)
        if begin < end and not known:
            self._lost.append(range(begin, end))
            self.corrupt += end - begin

    def _end_of(self, place: int) -> int:
        """Return the highest number that counts in the segment at that place."""
        return self._segments[place + 1].first - 1 if place + 1 < len(self._segments) else self.last

    def _make_sure_of_being_open(self) -> None:
        if not self._segments:
            raise LogUnavailable(f"{self._folder}: is not open")

    def _make_sure_of_room(self, size_bytes: int) -> None:
        self._make_sure_of_being_open()
        if self._is_suspect:
            raise LogUnavailable(f"{self._folder}: could not be made durable; waits for the next sync")
        if self.size_bytes + size_bytes > self._cap_bytes:
            raise LogUnavailable(f"{self._folder}: full: its cap of {self._cap_bytes} bytes is reached")
        if self._pending and self._pending_bytes + size_bytes > _PENDING_BYTES:
            raise LogUnavailable(f"{self._folder}: the disk does not keep up")

    def _write(self, block: bytes) -> None:
        """Write to the newest segment, or to a new one if that is long enough; all or nothing."""
        newest = self._segments[-1]
        if newest.size_bytes and newest.size_bytes + len(block) > self._segment_bytes:
            self._start(self.last + 1)
        size_bytes = self._segments[-1].size_bytes
        try:
            self._segments[-1].append(block)
        except OSError:
            # Should half of it still be there, everything not durable moves to a new file.
            self._is_suspect = os.fstat(self._segments[-1].fd).st_size != size_bytes
            raise

    def _sync_folder(self) -> None:
        """Make the names of the files durable; not under the lock, so a file may come meanwhile."""
        self._is_folder_dirty = False
        try:
            sync_folder(self._folder)
        except OSError:
            self._is_folder_dirty = True
            raise

    def _start(self, first: int) -> None:
        segment = Segment(self._path(first), first)
        segment.create()
        self._is_folder_dirty = True
        self._segments.append(segment)

    def _note_durable(self, number: int) -> None:
        """Drop from memory what is on disk, and close the files that are finished."""
        self.durable = max(self.durable, number)
        while self._pending and self._pending[0][0] <= self.durable:
            self._pending_bytes -= len(self._pending.popleft()[1])
        for place, segment in enumerate(self._segments[:-1]):
            if self._end_of(place) <= self.durable:
                segment.close()

    def _rewrite(self) -> None:
        """Put what is not durable into a new file, and never look at the old one again."""
        place = next((i for i in range(len(self._segments)) if self._end_of(i) > self.durable), -1)
        suspect = self._segments[place]
        self._places.clear()
        # What was durable before the failure is on disk, and moves along.
        kept = [(n, framed(body, n, self.id)) for n, body, _ in suspect.records(self.id, 0)]
        kept = [record for record in kept if record[0] <= self.durable]
        for segment in self._segments[place + 1 :] if place >= 0 else []:
            segment.remove()
            segment.size_bytes = 0
            self._segments.remove(segment)
        suspect.replace(b"".join(frame for _, frame in [*kept, *self._pending]))
        self._is_suspect = False
        self.size_bytes = sum(one.size_bytes for one in self._segments)
        self._note_durable(self.last)

    def _read(self, segment: Segment, after: int, end: int, limit: int) -> list[tuple[int, bytes]]:
        """Return records of one segment; go on where a reading up to ``after`` stopped, if one did."""
        found: list[tuple[int, bytes]] = []
        start = self._places.get((segment.first, after), 0)
        for number, body, stop in segment.records(self.id, start):
            if number > end:
                break
            if number <= after:
                continue
            self._note_lost((found[-1][0] if found else after) + 1, number)
            found.append((number, body))
            start = stop
            if len(found) == limit:
                break
        if len(found) < limit:
            self._note_lost((found[-1][0] if found else after) + 1, end + 1)
        if found:
            self._places[segment.first, found[-1][0]] = start
            while len(self._places) > _PLACES:
                del self._places[next(iter(self._places))]
        return found

    def _path(self, first: int) -> Path:
        return self._folder / f"{self.id}.{first:020}.log"
