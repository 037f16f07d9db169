"""What is known about a caller: for the pop, and for the route to the agent who knows him."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

import msgspec

from ctid.store.pool import Pool


class PastCall(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One earlier call of a caller.

    Attributes:
        queue: Last queue he was in; empty: none.
        outcome: Of that stay (``VisitOutcome``); empty: he was in no queue.
        agent: Last agent he talked with; empty: nobody.
        talked: With all agents together, without hold.
        recording: UUID; empty: none.
    """

    system: str
    call: str
    began_at: datetime
    dialled: str
    line: str
    business: str
    queue: str
    outcome: str
    agent: str
    waited: timedelta
    talked: timedelta
    recording: str


class OpenTicket(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A ticket that is not closed.

    Attributes:
        promised_at: The customer was promised an answer until then.
        assigned_to: Agent's number; empty: nobody.
    """

    ticket: int
    type: str
    subject: str
    state: str
    opened_at: datetime
    promised_at: datetime | None
    assigned_to: str


class OneCall(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One call, for what is written down about it.

    Attributes:
        caller_number: As Asterisk gave it; empty if withheld.
        agents: Who talked with the caller.
    """

    system: str
    call: str
    line: str
    caller_number: str
    agents: tuple[str, ...]


_HISTORY: Final = """
select c.system, c.call, c.began_at, coalesce(c.dialled, '') as dialled, coalesce(c.line, '') as line,
       coalesce(c.business, '') as business, coalesce(v.queue, '') as queue,
       coalesce(v.outcome, '') as outcome, coalesce(t.agent, '') as agent,
       coalesce(v.waited, interval '0') as waited, coalesce(t.talked, interval '0') as talked,
       coalesce(c.recording, '') as recording
from call c
left join lateral (
    select queue, outcome, waited from queue_visit
    where system = c.system and call = c.call order by joined_at desc limit 1
) v on true
left join lateral (
    select (array_agg(agent order by began_at desc))[1] as agent, sum(talked) as talked from talk
    where system = c.system and call = c.call and not coalesce(assisted, false)
) t on true
where c.caller_key = $1 and c.caller_key <> '' and c.ended_at is not null and c.merged_into is null
order by c.began_at desc
limit $2
"""

_CALL: Final = """
select c.system, c.call, coalesce(c.line, '') as line, coalesce(c.caller_number, '') as caller_number,
       array(select distinct agent from talk t where t.system = c.system and t.call = c.call
             and t.agent <> '') as agents
from call c
where c.call = $1
order by c.began_at desc nulls last
limit 1
"""

_LAST_AGENT: Final = """
select t.agent
from call c join talk t using (system, call)
where c.caller_key = $1 and c.caller_key <> '' and c.began_at >= $2 and not coalesce(t.assisted, false)
order by t.began_at desc
limit 1
"""


async def history_of(pool: Pool, caller_number: str, *, limit: int) -> list[PastCall]:
    """Return a caller's calls that are over, newest first.

    Args:
        caller_number: As it is compared (the journal's ``normalise``); empty: nobody's.

    Raises:
        StoreUnavailable: PostgreSQL is away or slow.
    """
    return [PastCall(**row) for row in await pool.fetch(_HISTORY, caller_number, limit)]


async def open_tickets_of(pool: Pool, caller_number: str, *, limit: int = 20) -> list[OpenTicket]:
    """Return a caller's tickets that are not closed, newest first; arguments as in ``history_of``.

    Raises:
        StoreUnavailable: PostgreSQL is away or slow.
    """
    rows = await pool.fetch(
        "select ticket, type, subject, state, opened_at, promised_at, assigned_to from ticket "
        "where caller_key = $1 and caller_key <> '' and state <> 'closed' order by opened_at desc limit $2",
        caller_number,
        limit,
    )
    return [OpenTicket(**row) for row in rows]


async def call_of(pool: Pool, call: str) -> OneCall | None:
    """Return a call by its Linkedid, the latest if several systems have one; ``None``: not written down.

    Raises:
        StoreUnavailable: PostgreSQL is away or slow.
    """
    row = await pool.fetchrow(_CALL, call)
    return None if row is None else OneCall(**{**row, "agents": tuple(row["agents"])})


async def last_agent_of(pool: Pool, caller_number: str, *, since: datetime) -> str | None:
    """Return the agent who talked last with a caller, in calls begun at ``since`` or later.

    Raises:
        StoreUnavailable: PostgreSQL is away or slow.
    """
    found = await pool.fetchval(_LAST_AGENT, caller_number, since)
    return None if found is None else str(found)
