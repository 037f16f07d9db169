"""What an earlier life of ctid left open: ended, once a snapshot shows that it is over.

A call that ended while ctid was dead ended unseen. It is closed with the last instant at
which ctid certainly watched, as ``unknown_end`` (kpis-and-conventions, B.4); so its recording
is filed too, and reports do not count it as still going on. A call that the snapshot still
shows goes on in the core, and ends by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import structlog

from ctid.acd.facts import ZERO, CallEnded, CallerLeft, Fact, OfferEnded, TalkEnded
from ctid.acd.rings import cycles
from ctid.acd.rules import QueueRule
from ctid.ami.events import Snapshot
from ctid.errors import StoreError
from ctid.store.pool import Pool

_log = structlog.get_logger()

_PATIENCE: Final = timedelta(seconds=2)
"""So much a call's first fact may lie before our own start and yet be of this life: two clocks."""

_WATCHED: Final = "select max(at) from fact where system = $1 and at < $2"
_CALLS: Final = """
select call, began_at, coalesce(answered, false) as answered from call
where system = $1 and ended_at is null and merged_into is null and began_at < $2
and call <> all($3::text[])"""
_VISITS: Final = """
select call, queue, joined_at from queue_visit
where system = $1 and left_at is null and joined_at < $2 and call <> all($3::text[])"""
_OFFERS: Final = """
select call, queue, joined_at, agent, interface, leg, offered_at, coalesce(rang_at, offered_at) as rang_at
from offer where system = $1 and ended_at is null and offered_at < $2 and joined_at is not null
and call <> all($3::text[])"""
_TALKS: Final = """
select call, agent, interface, leg, coalesce(queue, '') as queue, began_at
from talk where system = $1 and ended_at is null and began_at < $2 and call <> all($3::text[])"""


class Leftovers:
    """Closes them, once, after the first snapshot.

    Args:
        system: Where to ask for Asterisk's ``systemname``.
        put: Where the facts go.
        written: Waits until all that was concluded before is in PostgreSQL.
    """

    def __init__(
        self,
        pool: Pool,
        rules: Mapping[str, QueueRule],
        *,
        system: Callable[[], str],
        put: Callable[[Fact], None],
        written: Callable[[], Awaitable[None]],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._pool = pool
        self._rules = rules
        self._system = system
        self._put = put
        self._written = written
        self._born = now()
        self._first: Snapshot | None = None
        self._seen = asyncio.Event()

    def shown(self, snapshot: Snapshot) -> None:
        """Take the first snapshot; later ones are the core's alone. Never blocks."""
        if self._first is None:
            self._first = snapshot
            self._seen.set()

    async def run(self) -> None:
        """Wait for the snapshot, then for PostgreSQL; close what is left, and be done."""
        await self._seen.wait()
        assert self._first is not None
        await self._written()
        live = sorted({channel.linkedid for channel in self._first.channels})
        wait = timedelta(milliseconds=200)
        while True:
            try:
                facts = await self._left(self._born - _PATIENCE, live)
            except StoreError:
                await asyncio.sleep(wait.total_seconds())
                wait = min(wait * 2, timedelta(seconds=30))
                continue
            for fact in facts:
                self._put(fact)
            if facts:
                _log.info("closed what an earlier run left open", facts=len(facts))
            return

    async def _left(self, before: datetime, live: Sequence[str]) -> list[Fact]:
        system = self._system()
        at = await self._pool.fetchval(_WATCHED, system, before)
        if at is None:
            return []
        found: list[Fact] = []
        for sql, close in (
            (_OFFERS, self._offers),
            (_VISITS, _visits),
            (_TALKS, _talks),
            (_CALLS, _calls),
        ):
            found += close(await self._pool.fetch(sql, system, before, live), at)
        return found

    def _offers(self, rows: Sequence[Any], at: datetime) -> Iterator[Fact]:
        for row in rows:
            rang = max(ZERO, at - row["rang_at"])
            yield OfferEnded(
                at=max(at, row["offered_at"]),
                call=row["call"],
                queue=row["queue"],
                joined_at=row["joined_at"],
                agent=row["agent"],
                interface=row["interface"],
                leg=row["leg"],
                outcome="unknown_end",
                rang=rang,
                rings=cycles(rang, self._rules.get(row["queue"], QueueRule())),
                verdict="excluded",
                offered_at=row["offered_at"],
            )


def _visits(rows: Sequence[Any], at: datetime) -> Iterator[Fact]:
    for row in rows:
        yield CallerLeft(
            at=max(at, row["joined_at"]),
            call=row["call"],
            queue=row["queue"],
            joined_at=row["joined_at"],
            outcome="unknown_end",
            waited=max(ZERO, at - row["joined_at"]),
        )


def _talks(rows: Sequence[Any], at: datetime) -> Iterator[Fact]:
    for row in rows:
        yield TalkEnded(
            at=max(at, row["began_at"]),
            call=row["call"],
            agent=row["agent"],
            interface=row["interface"],
            leg=row["leg"],
            queue=row["queue"],
            began_at=row["began_at"],
            talked=max(ZERO, at - row["began_at"]),
            held=ZERO,
            holds=0,
            ended_by="unknown_end",
        )


def _calls(rows: Sequence[Any], at: datetime) -> Iterator[Fact]:
    for row in rows:
        yield CallEnded(
            at=max(at, row["began_at"]),
            call=row["call"],
            began_at=row["began_at"],
            lasted=max(ZERO, at - row["began_at"]),
            answered=row["answered"],
            participants=(),
            cause=0,
            cause_text="",
            end_reason="unseen",
        )
