"""Holds what we wrote down against Asterisk's books, call by call, and mends what is missing.

a call is over ──▶ some seconds later ──▶ its rows == the books? ──yes──▶ done
                                           │ no: the facts that are missing, as ``recovered``
                                           ▼
                              twice more ──▶ still not? ──▶ ``ctid_ledger_mismatches``
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

import structlog

from ctid.acd.facts import Fact
from ctid.acd.rules import QueueRule
from ctid.books.company import Company
from ctid.books.groups import Group
from ctid.books.ledger import Difference, differences
from ctid.books.reading import Reading
from ctid.errors import StoreError
from ctid.store.ledger import LEDGERS, Ledger, rows_of
from ctid.store.pool import Pool

_log = structlog.get_logger()

_EVERY_SECONDS: Final = 1.0
_SAVE_SECONDS: Final = 5.0
_AT_ONCE: Final = 100
_TRIES: Final = 3
#: Calls whose contradictions are remembered; a flood stops the gauge here.
_MOST_KEPT: Final = 10_000


class Noted(Protocol):
    """What metrics want to know."""

    def ledger(self, mismatches: Mapping[str, int], repaired: Mapping[str, int]) -> None:
        """How many differences stand, by ledger; how many were mended since the last time."""


class Reconciler:
    """Compares for ever.

    Args:
        reading: Both books.
        rules, agents: As for ``Centre``.
        system: Where to ask for Asterisk's ``systemname``.
        is_settled: The core is in step, and all it concluded is in PostgreSQL.
        put: Where the missing facts go; told whether our counters have an end of it already.
        after: So long a call must be over.
    """

    def __init__(
        self,
        reading: Reading,
        pool: Pool,
        *,
        rules: Callable[[], Mapping[str, QueueRule]],
        agents: Callable[[], Mapping[str, str]],
        system: Callable[[], str],
        is_settled: Callable[[], bool],
        put: Callable[[Fact, bool], None],
        noted: Noted,
        after: timedelta,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._reading = reading
        self._pool = pool
        self._rules = rules
        self._agents = agents
        self._system = system
        self._is_settled = is_settled
        self._put = put
        self._noted = noted
        self._after = after
        self._now = now
        self._tries: Counter[str] = Counter()
        self._mended_at: dict[str, datetime] = {}
        self._standing: dict[str, set[tuple[Ledger, str]]] = {}
        self._repaired: Counter[str] = Counter()
        self._settled_at: datetime | None = None

    async def run(self) -> None:
        """Read, compare and mend, until cancelled."""
        saved_at = 0.0
        loop = asyncio.get_running_loop()
        while True:
            await self._reading.read()
            if self._has_settled():
                try:
                    await self._compare_all(self._due())
                except StoreError:
                    self._settled_at = None
            if loop.time() - saved_at > _SAVE_SECONDS:
                await self._reading.save()
                saved_at = loop.time()
            await asyncio.sleep(_EVERY_SECONDS)

    def _has_settled(self) -> bool:
        """Whether there was time since the last disturbance for everything to be written down."""
        now = self._now()
        if not self._is_settled():
            self._settled_at = None
            return False
        self._settled_at = self._settled_at or now
        return now - self._settled_at >= self._after

    def _due(self) -> list[Group]:
        """What is over for long enough, and was not mended just now: that is under way to PostgreSQL."""
        long_ago = self._now() - self._after
        due = self._reading.due(long_ago)
        return [group for group in due if self._mended_at.get(min(group.calls), long_ago) <= long_ago]

    async def _compare_all(self, due: Sequence[Group]) -> None:
        """Compare some at a time, the oldest first; as fast as they come, but never in the way of a call."""
        for begin in range(0, len(due), _AT_ONCE):
            some = due[begin : begin + _AT_ONCE]
            first, last = min(group.began_at for group in some), max(group.last_at for group in some)
            near = [one for one in self._reading.groups if one.last_at >= first and one.began_at <= last]
            await self._compare(some, Company(near, self._agents()))
        if due:
            self._forget_compared()

    def _forget_compared(self) -> None:
        """A group is needed as long as there is one to be seen in its light: that one may go on for hours."""
        company = Company(self._reading.groups, self._agents())
        for group in list(self._reading.groups):
            if group.is_compared and all(other.is_compared for other in company.of(group)):
                self._reading.forget(group)

    async def _compare(self, due: Sequence[Group], company: Company) -> None:
        rules = self._rules()
        calls = sorted({call for group in due for call in group.calls})
        rows = await rows_of(self._pool, system=self._system(), calls=calls)
        for group in due:
            self._judge(group, differences(company.facts_of(group, rules), rows.of(group.calls)))
            await asyncio.sleep(0)  # a call costs a millisecond or two, and the loop has more to do
        self._noted.ledger(self._mismatches(), self._repaired)
        self._repaired = Counter()

    def _judge(self, group: Group, found: Sequence[Difference]) -> None:
        name = min(group.calls)
        for call in group.calls:
            self._standing.pop(call, None)
        mendable = [one for one in found if one.repair]
        if mendable and self._tries[name] < _TRIES:
            self._tries[name] += 1
            self._mended_at[name] = self._now()
            self._mend(mendable, is_first=self._tries[name] == 1)
            return  # and look at it once more
        for one in found:
            _log.error("a call contradicts Asterisk's books", ledger=one.ledger, call=one.call, what=one.what)
            if one.call in self._standing or len(self._standing) < _MOST_KEPT:
                self._standing.setdefault(one.call, set()).add((one.ledger, one.about))
        del self._tries[name]
        self._mended_at.pop(name, None)
        group.is_compared = True

    def _mend(self, found: Sequence[Difference], *, is_first: bool) -> None:
        for one in found:
            if is_first:
                self._repaired[one.ledger] += 1
            _log.info("mended from Asterisk's books", ledger=one.ledger, call=one.call, what=one.what)
            for fact in one.repair:
                self._put(fact, one.is_counted or not is_first)

    def _mismatches(self) -> Mapping[str, int]:
        standing = Counter(ledger for rows in self._standing.values() for ledger, _ in rows)
        return {ledger: standing[ledger] for ledger in LEDGERS}
