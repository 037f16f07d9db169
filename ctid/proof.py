"""What lets ctid survive itself and be believed: its memory, and Asterisk's books beside its own.

start:  memory ──▶ core as it was ──▶ snapshot, and before it what the books tell of the time between
always: each call that is over ──▶ held against the books (``books.reconciler``)
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

import structlog

from ctid import __version__
from ctid.acd.centre import Centre
from ctid.acd.facts import Fact
from ctid.acd.rules import QueueRule
from ctid.ami.events import AmiEvent
from ctid.books.comparison import system_of
from ctid.books.identity import renamed
from ctid.books.reading import Reading
from ctid.books.reconciler import Noted, Reconciler
from ctid.errors import LogUnavailable, StoreError
from ctid.memory import Input, Memory
from ctid.settings import Settings
from ctid.sinks.base import Outbox
from ctid.sinks.journal import JournalSink
from ctid.store.ledger import rows_of, watched_until
from ctid.store.pool import Pool
from ctid.store.segments import SegmentLog

_log = structlog.get_logger()

_INPUTS_CAP: Final = 1 << 30
_SEGMENT: Final = 8 << 20
_MOST_UNSPOOLED: Final = 5_000
"""Facts that may wait for our own disk while we still call ourselves settled."""


class Proof:
    """Memory and books of one daemon.

    Args:
        centre: The core, still empty.
        rules, agents: Of today's policy.
        system: Where to ask for Asterisk's ``systemname``.
        journal: With its outbox: where facts are safe.
        put: Where mended facts go; told whether our counters have them already.

    Attributes:
        is_restored: The core is what it was when an earlier process on this host ended.
        doubtful_since: From when on an empty core must look into the books; ``None``: no need.
    """

    def __init__(
        self,
        loaded: Settings,
        pool: Pool,
        centre: Centre,
        *,
        rules: Callable[[], Mapping[str, QueueRule]],
        agents: Callable[[], Mapping[str, str]],
        system: Callable[[], str],
        is_in_sync: Callable[[], bool],
        journal: JournalSink,
        outbox: Outbox,
        put: Callable[[Fact, bool], None],
        noted: Noted,
    ) -> None:
        folder = loaded.state_dir
        self._settings = loaded
        self._pool = pool
        self._centre = centre
        self._system = system
        self._is_in_sync = is_in_sync
        self._journal = journal
        self._outbox = outbox
        self._inputs = SegmentLog(folder / "inputs", segment_bytes=_SEGMENT, cap_bytes=_INPUTS_CAP)
        self._memory = Memory(folder, self._inputs, version=__version__)
        self._reading: Reading | None = None
        self._rules, self._agents, self._put, self._noted = rules, agents, put, noted
        self.doubtful_since: datetime | None = None

    @property
    def is_restored(self) -> bool:
        return self._memory.is_restored

    async def open(self) -> list[Fact]:
        """Make the core what it was; return what it concludes once more of its last inputs."""
        facts: list[Fact] = []
        try:
            await asyncio.to_thread(self._inputs.open)
            facts = self._memory.restore(self._centre)
        except LogUnavailable as error:
            _log.error("nothing is remembered over a restart", why=str(error))
        watched = self._centre.last_at or await self._watched_until()
        if not self.is_restored:
            self.doubtful_since = watched
        asterisk = self._settings.asterisk
        if asterisk.cel is not None and asterisk.queue_log is not None:
            self._reading = Reading(
                asterisk.cel,
                asterisk.queue_log,
                checkpoint=self._settings.state_dir / "books.json",
                since=watched or datetime.now(UTC),
            )
            await self._reading.save()
        else:
            _log.warning("no books of Asterisk: what AMI misses stays missing, and nothing is proved")
        return facts

    async def _watched_until(self) -> datetime | None:
        """Ask PostgreSQL: another host may have watched before us."""
        try:
            return await watched_until(self._pool)
        except StoreError:
            return None

    # -- what the pump needs ------------------------------------------------------

    def note(self, inputs: Sequence[Input]) -> None:
        """Write down what the core is told next; never raises."""
        self._memory.note(inputs)

    async def durable(self) -> None:
        """Wait until all that was noted is on the disk.

        Raises:
            LogUnavailable: It can not be written.
        """
        await self._memory.durable()

    async def missed(self, since: datetime, until: datetime) -> Sequence[AmiEvent]:
        """Return what the books tell of a time; never raises."""
        if self._reading is None:
            return ()
        is_new = self.doubtful_since is not None
        self.doubtful_since = None
        events = await self._reading.missed(since, until, whole=is_new)
        if events:
            _log.info("read in Asterisk's books what AMI did not tell", events=len(events))
        return await self._under_known_names(events) if is_new and events else events

    @property
    def steps(self) -> int:
        """Grows while ``missed`` gets on."""
        return self._reading.steps if self._reading else 0

    async def _under_known_names(self, events: Sequence[AmiEvent]) -> Sequence[AmiEvent]:
        """What another daemon wrote of these calls keeps the names it gave."""
        calls = sorted({call for event in events if (call := getattr(event, "linkedid", ""))})
        try:
            rows = await rows_of(self._pool, system=system_of(calls[0]) if calls else "", calls=calls)
        except StoreError:
            return events
        return renamed(events, rows)

    # -- always ---------------------------------------------------------------------

    async def run(self) -> None:
        """Keep the memory short and durable, and compare with the books; for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(
                self._memory.run(self._centre, lambda: not self._outbox.pending, self._journal.until_durable)
            )
            if self._reading is not None:
                reconciler = Reconciler(
                    self._reading,
                    self._pool,
                    rules=self._rules,
                    agents=self._agents,
                    system=self._system,
                    is_settled=self._is_settled,
                    put=self._put,
                    noted=self._noted,
                    after=self._settings.reconcile.after,
                )
                group.create_task(reconciler.run())

    def _is_settled(self) -> bool:
        """All that was concluded of calls that are over for a while is in PostgreSQL."""
        patience = self._settings.reconcile.after.total_seconds() / 2
        return (
            self._is_in_sync()
            and not self._centre.is_behind
            and self._outbox.pending <= _MOST_UNSPOOLED
            and self._journal.backlog_age <= patience
        )

    async def close(self) -> None:
        """Put everything away for the next time."""
        if not self._outbox.pending:
            # Else the inputs are all there still, and are gone through once more.
            await self._memory.checkpoint(self._centre, lambda: True, self._journal.until_durable)
        await asyncio.to_thread(self._inputs.close)
        if self._reading is not None:
            await self._reading.save()
            self._reading.close()
