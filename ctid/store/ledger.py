"""What the derived tables say about some calls: what reports read, to be held against Asterisk's books."""

from __future__ import annotations

from collections.abc import Container, Sequence
from datetime import datetime, timedelta
from typing import Final, Literal

import msgspec

from ctid.store.pool import Pool

Ledger = Literal["calls", "visits", "offers", "talks", "recordings"]
LEDGERS: Final[tuple[Ledger, ...]] = ("calls", "visits", "offers", "talks", "recordings")


class CallRow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A row of ``call``; ``None`` where no fact has said it."""

    call: str
    adopted: bool | None
    began_at: datetime | None
    ended_at: datetime | None
    participants: tuple[str, ...]
    end_reason: str | None
    merged_into: str | None
    line: str | None


class VisitRow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A row of ``queue_visit``."""

    call: str
    queue: str
    joined_at: datetime
    left_at: datetime | None
    outcome: str | None
    waited: timedelta | None
    agent: str | None


class OfferRow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A row of ``offer``."""

    call: str
    leg: str
    offered_at: datetime | None
    ended_at: datetime | None
    outcome: str | None


class TalkRow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A row of ``talk``; ``handled``: the agent was done with it."""

    call: str
    leg: str
    began_at: datetime
    ended_at: datetime | None
    ended_by: str | None
    handled: bool


class RecordingRow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A row of ``recording``."""

    call: str | None
    recording: str
    began_at: datetime | None
    stopped_at: datetime | None


class Rows(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """All that is known about some calls."""

    calls: tuple[CallRow, ...] = ()
    visits: tuple[VisitRow, ...] = ()
    offers: tuple[OfferRow, ...] = ()
    talks: tuple[TalkRow, ...] = ()
    recordings: tuple[RecordingRow, ...] = ()

    def of(self, calls: Container[str]) -> Rows:
        """Return the rows of some of them."""
        return Rows(
            calls=tuple(row for row in self.calls if row.call in calls),
            visits=tuple(row for row in self.visits if row.call in calls),
            offers=tuple(row for row in self.offers if row.call in calls),
            talks=tuple(row for row in self.talks if row.call in calls),
            recordings=tuple(row for row in self.recordings if row.call in calls),
        )


class Hole(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Facts that the journal had once: their numbers are missing.

    Attributes:
        spool: Whose numbers; each daemon's own disk counts for itself.
        after: The last number that is there before.
        count: How many are missing.
        at: When the fact before became true, UTC; ``None``: nothing is before.
    """

    spool: str
    after: int
    count: int
    at: datetime | None


_CALLS: Final = """
select call, adopted, began_at, ended_at, coalesce(participants, '{}') as participants, end_reason,
       merged_into, line
from call where system = $1 and call = any($2)"""
_VISITS: Final = """
select call, queue, joined_at, left_at, outcome, waited, agent
from queue_visit where system = $1 and call = any($2) order by joined_at"""
_OFFERS: Final = """
select call, leg, offered_at, ended_at, outcome from offer where system = $1 and call = any($2)"""
_TALKS: Final = """
select call, leg, began_at, ended_at, ended_by,
       exists (select from handled_call h where h.system = t.system and h.call = t.call and h.leg = t.leg)
           as handled
from talk t where system = $1 and call = any($2) order by began_at"""
_RECORDINGS: Final = """
select call, recording, began_at, stopped_at from recording where system = $1 and call = any($2)"""

#: Calls that nobody but us tells of: known here, unknown to the books of the period.
_BETWEEN: Final = """
select call from call
where ($1::text is null or system = $1)
  and coalesce(began_at, ended_at) >= $2 and coalesce(began_at, ended_at) < $3"""


async def rows_of(pool: Pool, *, system: str, calls: Sequence[str]) -> Rows:
    """Return what the tables say about some calls.

    Args:
        system: Asterisk's ``systemname``.
        calls: Linkedids.

    Raises:
        StoreUnavailable: PostgreSQL is away.
    """
    ids = list(calls)
    async with pool.connection() as connection:
        return Rows(
            calls=tuple(
                CallRow(**{**row, "participants": tuple(row["participants"])})
                for row in await connection.fetch(_CALLS, system, ids)
            ),
            visits=tuple(VisitRow(**row) for row in await connection.fetch(_VISITS, system, ids)),
            offers=tuple(OfferRow(**row) for row in await connection.fetch(_OFFERS, system, ids)),
            talks=tuple(TalkRow(**row) for row in await connection.fetch(_TALKS, system, ids)),
            recordings=tuple(RecordingRow(**row) for row in await connection.fetch(_RECORDINGS, system, ids)),
        )


#: A number without a row left a hole between its neighbours. The first number of a spool is 1.
_HOLES: Final = """
with numbered as (
    select spool, number, at from fact where spool is not null
    union all
    select spool, number, at from fact_unwritten
    union all
    select spool, applied + 1, null from spool -- so that the last one can be missed, too
), neighbours as (
    select spool, number, at,
           lag(number, 1, 0::bigint) over (partition by spool order by number) as before,
           lag(at) over (partition by spool order by number) as before_at
    from numbered
)
select spool::text, before as after, number - before - 1 as count, before_at as at
from neighbours
where number > before + 1 and coalesce(before_at, at) < $2 and coalesce(at, before_at) >= $1
order by spool, number"""


async def holes_between(pool: Pool, *, since: datetime, until: datetime) -> list[Hole]:
    """Return where facts of a period are missing by their number.

    Raises:
        StoreUnavailable: PostgreSQL is away.
    """
    return [Hole(**row) for row in await pool.fetch(_HOLES, since, until)]


async def calls_between(pool: Pool, *, system: str | None, since: datetime, until: datetime) -> list[str]:
    """Return the calls that began in a period, by our own tables.

    Args:
        system: ``None``: of all servers.

    Raises:
        StoreUnavailable: PostgreSQL is away.
    """
    return [str(row["call"]) for row in await pool.fetch(_BETWEEN, system, since, until)]


async def watched_until(pool: Pool) -> datetime | None:
    """Return when the newest fact became true; ``None``: there are none.

    Raises:
        StoreUnavailable: PostgreSQL is away.
    """
    at: datetime | None = await pool.fetchval("select max(at) from fact")
    return at
