"""Facts on our own disk, on their way to PostgreSQL: a log, its syncing, and what a record looks like.

A record is the JSON of [systemname, boot, when it was put (Unix time, seconds), fact]. Records are
handed on once they are durable; while the disk can not make them so, as they are: better in
PostgreSQL than nowhere.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import Final

import msgspec
import structlog

from ctid.acd.facts import Fact
from ctid.errors import LogUnavailable
from ctid.store.segments import SegmentLog

_log = structlog.get_logger()

_PACE_SECONDS: Final = 0.02
"""Between two syncs: what comes meanwhile shares the next one."""
_RETRY_SECONDS: Final = (0.2, 5.0)
_FORGET_BYTES: Final = 1 << 20
"""Less than that is not worth a new file."""


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One record."""

    system: str
    boot: datetime | None
    put_at: float
    fact: msgspec.Raw


_ENTRIES: Final = msgspec.json.Decoder(Entry)


def entry_of(body: bytes) -> Entry:
    """Read a record.

    Raises:
        msgspec.DecodeError: It is none.
    """
    return _ENTRIES.decode(body)


class Spool:
    """The log of facts.

    Attributes:
        log: As long as it is not ``is_open``, it says nothing.
        is_full: The last attempt to put something failed.
        is_broken: The last attempt to open it, or to make it durable, failed.
        opened_at: Number of its last record when it was opened.
    """

    def __init__(self, log: SegmentLog) -> None:
        self.log = log
        self.is_open = False
        self.is_full = False
        self.is_broken = False
        self.opened_at = 0
        self._appended = asyncio.Event()
        self._tried = asyncio.Event()

    async def open(self) -> None:
        """Open the log; if that fails, ``run`` tries again. Never raises."""
        try:
            await asyncio.to_thread(self.log.open)
        except LogUnavailable as error:
            self._note_broken(str(error))
            return
        self.is_open, self.is_broken, self.is_full = True, False, False
        self.opened_at = self.log.last
        if self.log.corrupt:
            _log.error("spool has damaged records; their facts are lost", records=self.log.corrupt)

    async def close(self) -> None:
        """Make durable what there is, and close the log."""
        if self.is_open:
            self.is_open = False
            with suppress(LogUnavailable):
                await asyncio.to_thread(self.log.sync)
            await asyncio.to_thread(self.log.close)

    def put(self, facts: Sequence[Fact], system: str, boot: datetime | None) -> None:
        """Write facts, all or none.

        Raises:
            LogUnavailable: Not open, full or broken; nothing was written.
        """
        now, encode = time.time(), msgspec.json.encode
        self.put_records(
            [encode(Entry(system, boot, now, msgspec.Raw(encode(fact)))) for fact in facts],
        )

    def put_records(self, bodies: Sequence[bytes]) -> None:
        """Write records; raises as ``put``."""
        try:
            if not self.is_open:
                raise LogUnavailable("the spool is not open")
            self.log.append(bodies)
        except LogUnavailable as error:
            self._note_full(str(error))
            self._appended.set()  # a sync may be what mends it
            raise
        if self.is_full:
            self.is_full = False
            _log.info("spool takes facts again")
        self._appended.set()

    @property
    def handed(self) -> int:
        """Number of the last record that may be handed on."""
        return self.log.last if self.is_broken else self.log.durable

    async def forget(self, through: int, *, whatever_size: bool = False) -> None:
        """Let the log forget what is settled, now and then. Never raises."""
        if self.log.size_bytes < _FORGET_BYTES and not (whatever_size or self.is_full):
            return
        before = self.log.size_bytes
        await asyncio.to_thread(self.log.forget, through)
        if self.log.size_bytes < before and self.is_full and not self.is_broken:
            self.is_full = False
            _log.info("spool has room again")

    async def run(self) -> None:
        """Make durable what is put, for ever; open the log as soon as that is possible."""
        wait = _RETRY_SECONDS[0]
        while True:
            if not self.is_broken:
                await self._appended.wait()
            self._appended.clear()
            await self._sync()
            self._tried.set()
            self._tried = asyncio.Event()
            await asyncio.sleep(wait if self.is_broken else _PACE_SECONDS)
            wait = min(wait * 2, _RETRY_SECONDS[1]) if self.is_broken else _RETRY_SECONDS[0]

    async def _sync(self) -> None:
        if not self.is_open:
            await self.open()
            return
        try:
            await asyncio.to_thread(self.log.sync)
        except LogUnavailable as error:
            self._note_broken(str(error))
        else:
            if self.is_broken:
                self.is_broken = self.is_full = False
                _log.info("spool is durable again")

    async def tried(self) -> None:
        """Wait until the next attempt to make things durable is over."""
        await self._tried.wait()

    async def until_durable(self) -> None:
        """Wait until everything put so far is on disk.

        Raises:
            LogUnavailable: The disk is full or broken.
        """
        last = self.log.last
        while self.is_full or self.is_broken or self.log.durable < last:
            if self.is_full or self.is_broken:
                raise LogUnavailable("the spool's disk is full or broken")
            await self._tried.wait()

    def _note_full(self, why: str) -> None:
        if not self.is_full:
            self.is_full = True
            _log.error("spool takes no facts", why=why)

    def _note_broken(self, why: str) -> None:
        if not self.is_broken:
            self.is_broken = True
            _log.error("spool can not be made durable", why=why)
