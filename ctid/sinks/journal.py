"""Facts into PostgreSQL: each exactly once, one transaction per batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

import msgspec
import structlog

from ctid.acd.facts import Fact
from ctid.errors import RowRefused, SinkUnavailable, StoreError
from ctid.store import facts as journal
from ctid.store.pool import Pool

_log = structlog.get_logger()


class JournalSink:
    """The durable truth. While PostgreSQL is away, facts wait in the outbox."""

    name = "journal"

    def __init__(
        self,
        pool: Pool,
        *,
        system: Callable[[], str] | str,
        normalise: Callable[[str], str],
        boot: Callable[[], datetime | None] = lambda: None,
        on_refused: Callable[[str, Fact], None] = lambda sink, fact: None,
    ) -> None:
        """Write through ``pool``.

        Args:
            system: Asterisk's ``systemname``, or where to ask for it.
            normalise: A caller's number -> the number as it is compared.
            boot: Where to ask for the identity of this run of Asterisk.
            on_refused: Told of a fact that PostgreSQL will never take.
        """
        self._pool = pool
        self._system = system
        self._normalise = normalise
        self._boot = boot
        self._on_refused = on_refused
        self._is_away = False

    async def write(self, facts: Sequence[Fact]) -> None:
        """Store facts; those stored before are left alone.

        Raises:
            SinkUnavailable: PostgreSQL is away, or not migrated; safe to retry.
        """
        if not facts:
            return
        try:
            await self._store(facts)
        except StoreError as error:
            self._note_away(str(error))
            raise SinkUnavailable(str(error)) from error
        if self._is_away:
            self._is_away = False
            _log.info("journal writes again")

    async def _store(self, facts: Sequence[Fact]) -> None:
        """Store all, cutting the batch in half to find what can not be stored."""
        system = self._system if isinstance(self._system, str) else self._system()
        try:
            await journal.write(self._pool, facts, system=system, boot=self._boot(), key_of=self._normalise)
        except RowRefused as error:
            if len(facts) == 1:
                self._refuse(facts[0], error)
                return
            middle = len(facts) // 2
            await self._store(facts[:middle])
            await self._store(facts[middle:])

    def _refuse(self, fact: Fact, error: RowRefused) -> None:
        # The log is the only place left where it can be kept.
        _log.error("journal can not store a fact", why=str(error), fact=msgspec.json.encode(fact).decode())
        self._on_refused(self.name, fact)

    def _note_away(self, why: str) -> None:
        if not self._is_away:
            self._is_away = True
            _log.warning("journal can not write; facts wait in the outbox", why=why)
