"""Facts into PostgreSQL, each exactly once: first onto our own disk, from there in order.

    outbox ──write──▶ spool ──run──▶ PostgreSQL
                        └── full or broken, and nothing waits in it: directly ──▶

PostgreSQL remembers how far a spool was applied in the transaction that applied it; so a batch
whose COMMIT got no answer is written again without effect.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from itertools import takewhile
from typing import Final, NamedTuple

import msgspec
import structlog

from ctid.acd.facts import Fact
from ctid.errors import LogUnavailable, RowRefused, SinkUnavailable, StaleEpoch, StoreError
from ctid.sinks.spool import Spool, entry_of
from ctid.store import facts as journal
from ctid.store.facts import Origin
from ctid.store.pool import Pool
from ctid.store.segments import SegmentLog

_log = structlog.get_logger()

UNFENCED: Final = 0
"""As epoch: there is no lead to compete for; write."""
_BATCH: Final = 1000
_RETRY_SECONDS: Final = (0.05, 2.0)
_EPOCH_SECONDS: Final = 0.1


class JournalSink:
    """The durable truth."""

    name = "journal"

    def __init__(
        self,
        pool: Pool,
        log: SegmentLog,
        *,
        system: Callable[[], str] | str,
        normalise: Callable[[str], str],
        boot: Callable[[], datetime | None] = lambda: None,
        epoch: Callable[[], int | None] = lambda: UNFENCED,
        leader: str = "main",
        on_refused: Callable[[str, Fact], None] = lambda sink, fact: None,
    ) -> None:
        """Write through ``pool``.

        Args:
            log: The spool; opened and closed here.
            system: Asterisk's ``systemname``, or where to ask for it.
            normalise: A caller's number -> the number as it is compared.
            boot: Where to ask for the identity of this run of Asterisk.
            epoch: Where to ask for the epoch of our lead. ``None``: we do not know it yet, so
                facts stay in the spool. ``UNFENCED``: nobody else could lead.
            leader: Name of the lead.
            on_refused: Told of a fact that PostgreSQL will never take.
        """
        self._pool = pool
        self._spool = Spool(log)
        self._system = system
        self._normalise = normalise
        self._boot = boot
        self._epoch = epoch
        self._leader = leader
        self._on_refused = on_refused
        self._is_away = False
        self._settled: int | None = None
        self._oldest = (-1, 0.0)
        self._emptied = asyncio.Event()

    async def open(self) -> None:
        """Open the spool; if its disk refuses, ``run`` tries again. Never raises."""
        await self._spool.open()

    async def close(self) -> None:
        """Close the spool; what is in it is there at the next start."""
        if self._settled is not None:
            await self._spool.forget(self._settled, whatever_size=True)
        await self._spool.close()

    async def write(self, facts: Sequence[Fact]) -> None:
        """Keep facts on our own disk; ``run`` takes them to PostgreSQL.

        Raises:
            SinkUnavailable: Our disk and PostgreSQL are both away; safe to retry.
            StaleEpoch: Another daemon leads by now (seen only when writing directly).
        """
        if not facts:
            return
        system = self._system if isinstance(self._system, str) else self._system()
        try:
            self._spool.put(facts, system, self._boot())
        except LogUnavailable as error:
            await self._write_directly(facts, system, str(error))

    async def _write_directly(self, facts: Sequence[Fact], system: str, why: str) -> None:
        epoch = self._epoch()
        if self.backlog or epoch is None:
            raise SinkUnavailable(why)
        origin = Origin(system=system, boot=self._boot(), epoch=epoch or None, leader=self._leader)
        try:
            await self._store([(0, fact) for fact in facts], origin)
        except StaleEpoch:
            raise
        except StoreError as error:
            raise SinkUnavailable(f"{why}; and {error}") from error

    @property
    def backlog(self) -> int:
        """Records on our disk that are not yet in PostgreSQL."""
        log = self._spool.log
        settled = log.first - 1 if self._settled is None else self._settled
        return max(0, log.last - settled) if self._spool.is_open else 0

    @property
    def backlog_age(self) -> float:
        """Seconds since the oldest of them was put there; 0 if there is none. For any thread."""
        if not self.backlog:
            return 0.0
        settled = self._settled or 0
        if self._oldest[0] != settled:
            with suppress(LogUnavailable, msgspec.DecodeError):
                for _, body in self._spool.log.read(settled, 1):
                    self._oldest = (settled, entry_of(body).put_at)
        return max(0.0, time.time() - self._oldest[1]) if self._oldest[1] else 0.0

    @property
    def spool_bytes(self) -> int:
        """Size of the spool on our disk."""
        return self._spool.log.size_bytes

    @property
    def is_spool_full(self) -> bool:
        """The spool takes nothing more: its disk, or its share of it, is full or broken."""
        return self._spool.is_full or self._spool.is_broken

    @property
    def spool_corrupt(self) -> int:
        """Records of the spool found damaged."""
        return self._spool.log.corrupt

    async def until_durable(self) -> None:
        """Wait until everything put so far is on disk; what waits in an outbox is not put yet.

        Raises:
            LogUnavailable: The disk is full or broken.
        """
        await self._spool.until_durable()

    async def drained(self) -> None:
        """Wait until everything put so far is in PostgreSQL."""
        while self.backlog:
            self._emptied.clear()
            await self._emptied.wait()

    async def run(self) -> None:
        """Take the spool to PostgreSQL for ever.

        Raises:
            StaleEpoch: Another daemon leads by now; nothing more may be written.
        """
        tasks = [asyncio.create_task(self._spool.run()), asyncio.create_task(self._drain())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _drain(self) -> None:
        wait = _RETRY_SECONDS[0]
        while True:
            try:
                await self._apply_some()
            except StaleEpoch:
                raise
            except (StoreError, LogUnavailable) as error:
                self._note_away(str(error))
                await asyncio.sleep(wait)
                wait = min(wait * 2, _RETRY_SECONDS[1])
            else:
                wait = _RETRY_SECONDS[0]

    async def _apply_some(self) -> None:
        """Apply the next batch; wait for it if there is none."""
        epoch = self._epoch()
        if epoch is None or not self._spool.is_open:
            await asyncio.sleep(_EPOCH_SECONDS)
            return
        if self._settled is None:
            self._settled = await self._find_position()
        end = self._spool.handed
        if self._settled >= end:
            await self._spool.tried()
            return
        records = self._spool.log.read(self._settled, _BATCH, through=end)
        # Should all of them be damaged, there is nothing to write.
        self._settled = await self._apply(records, epoch) if records else end
        self._note_back()
        await self._spool.forget(self._settled)
        if not self.backlog:
            self._emptied.set()

    async def _find_position(self) -> int:
        """Ask PostgreSQL how far the spool is settled; never use a number twice."""
        log = self._spool.log
        settled = await journal.position(self._pool, log.id)
        if settled > self._spool.opened_at:
            # The log fell back behind what PostgreSQL knows (restored, or its end damaged): what
            # we put since then has numbers that were used before.
            fresh = [body for _, body in log.read(self._spool.opened_at, log.last)]
            log.skip(max(settled, log.last))
            self._spool.put_records(fresh)
            _log.error("spool lost its end", last=self._spool.opened_at, settled=settled, moved=len(fresh))
            settled = log.last - len(fresh)
        return max(settled, log.first - 1)

    async def _apply(self, records: Sequence[tuple[int, bytes]], epoch: int) -> int:
        """Write records, up to the first from another Asterisk; return the last number settled."""
        told = [_told(number, body) for number, body in records]
        first = told[0]
        origin = Origin(
            system=first.system,
            boot=first.boot,
            spool=self._spool.log.id,
            epoch=epoch or None,
            leader=self._leader,
        )
        if first.fact is None:
            await self._refuse(first.number, first.text, "no fact that we know", origin)
            return first.number
        source = (first.system, first.boot)
        same = takewhile(lambda one: one.fact and (one.system, one.boot) == source, told)
        facts = [(one.number, one.fact) for one in same if one.fact]
        await self._store(facts, origin)
        return facts[-1][0]

    async def _store(self, facts: Sequence[tuple[int, Fact]], origin: Origin) -> None:
        """Store all, cutting the batch in half to find what can not be stored."""
        numbers, plain = zip(*facts, strict=True)
        try:
            await journal.store(self._pool, plain, numbers, origin, self._normalise)
        except RowRefused as error:
            if len(facts) == 1:
                await self._refuse(numbers[0], msgspec.json.encode(plain[0]).decode(), str(error), origin)
                self._on_refused(self.name, plain[0])
                return
            middle = len(facts) // 2
            await self._store(facts[:middle], origin)
            await self._store(facts[middle:], origin)

    async def _refuse(self, number: int, text: str, why: str, origin: Origin) -> None:
        if origin.spool:
            await journal.refuse(self._pool, number, text, origin)
            _log.error("journal can not store a fact; see fact_unwritten", why=why[:200], number=number)
        else:
            # The log is the only place left where it can be kept.
            _log.error("journal can not store a fact", why=why[:200], fact=text)

    def _note_away(self, why: str) -> None:
        if not self._is_away:
            self._is_away = True
            _log.warning("journal can not write; facts wait in the spool", why=why, facts=self.backlog)

    def _note_back(self) -> None:
        if self._is_away:
            self._is_away = False
            _log.info("journal writes again")


class _Told(NamedTuple):
    """A record, read; without a fact if a newer ctid wrote it, or something else."""

    number: int
    system: str
    boot: datetime | None
    fact: Fact | None
    text: str


def _told(number: int, body: bytes) -> _Told:
    text = body.decode(errors="replace")
    try:
        entry = entry_of(body)
    except msgspec.DecodeError:
        return _Told(number, "", None, None, text)
    try:
        return _Told(number, entry.system, entry.boot, journal.decode(bytes(entry.fact)), text)
    except msgspec.DecodeError:
        return _Told(number, entry.system, entry.boot, None, bytes(entry.fact).decode(errors="replace"))
