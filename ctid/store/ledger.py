"""What the derived tables say about some calls: what reports read, to be held against Asterisk's books."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

import msgspec

from ctid.store.pool import Pool


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
where system = $1 and coalesce(began_at, ended_at) >= $2 and coalesce(began_at, ended_at) < $3"""


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


async def calls_between(pool: Pool, *, system: str, since: datetime, until: datetime) -> list[str]:
    """Return the calls that began in a period, by our own tables.

    Raises:
        StoreUnavailable: PostgreSQL is away.
    """
    return [str(row["call"]) for row in await pool.fetch(_BETWEEN, system, since, until)]
