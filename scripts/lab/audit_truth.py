"""A truth journal held against PostgreSQL, in SQL that shares nothing with ctid.

The n-th visit of a call to a queue is compared with the n-th row about that call and queue, and
likewise talks on a leg; what only one side has is a difference, too. Times may be off by a
second (reliability.md, L1), outcomes and agents not at all.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import asyncpg

from lab.truth import read

_PREPARE: Final = """
create temp table truth (body jsonb not null);
create function pg_temp.far(one timestamptz, two timestamptz) returns boolean language sql as
    $$ select abs(extract(epoch from one - two)) > 1.0 $$;
"""

_CALLS: Final = """
with told as (
    select body->>'call' as call, body->>'merged' as merged, coalesce(body->>'end', 'hangup') as how,
           (body->>'began')::timestamptz as began, (body->>'ended')::timestamptz as ended
    from truth where body->>'kind' = 'call')
select coalesce(told.call, call.call), concat_ws(', ',
    case when told.call is null then 'a call that never was' end,
    case when call.call is null then 'missing' end,
    case when call.began_at is null then 'no begin' end,
    case when call.ended_at is null then 'no end' end,
    case when pg_temp.far(call.began_at, told.began) then 'began ' || (call.began_at - told.began) end,
    case when pg_temp.far(call.ended_at, told.ended) then 'ended ' || (call.ended_at - told.ended) end,
    case when call.call is not null and call.end_reason is distinct from told.how
         then 'ended by ' || coalesce(call.end_reason, 'none') || ' for ' || coalesce(told.how, 'none') end,
    case when call.merged_into is distinct from told.merged
         then 'merged ' || coalesce(call.merged_into, 'not') end)
from told full join call using (call)"""

_VISITS: Final = """
with told as (
    select body->>'call' as call, body->>'queue' as queue, body->>'outcome' as outcome,
           body->>'agent' as agent, (body->>'began')::timestamptz as began,
           (body->>'ended')::timestamptz - (body->>'began')::timestamptz as waited,
           row_number() over (partition by body->>'call', body->>'queue' order by body->>'began') as n
    from truth where body->>'kind' = 'visit'),
kept as (
    select *, row_number() over (partition by call, queue order by joined_at) as n from queue_visit)
select call || ' ' || queue || ' ' || n, concat_ws(', ',
    case when told.outcome is null then 'never was (' || coalesce(kept.outcome, 'open') || ')' end,
    case when kept.joined_at is null then 'missing (' || told.outcome || ')' end,
    case when kept.left_at is null then 'no end' end,
    case when kept.joined_at is not null and kept.outcome is distinct from told.outcome
         then coalesce(kept.outcome, 'open') || ' for ' || coalesce(told.outcome, 'none') end,
    case when pg_temp.far(kept.joined_at, told.began) then 'joined ' || (kept.joined_at - told.began) end,
    case when kept.joined_at is not null and told.outcome <> 'unknown_end'
              and coalesce(kept.agent, '') <> coalesce(told.agent, '')
         then 'by ' || coalesce(kept.agent, 'nobody') || ' for ' || coalesce(told.agent, 'nobody') end,
    case when told.outcome <> 'unknown_end' and abs(extract(epoch from kept.waited - told.waited)) > 1.0
         then 'waited ' || kept.waited || ' for ' || told.waited end)
from told full join kept using (call, queue, n)"""

_TALKS: Final = """
with told as (
    select body->>'call' as call, body->>'leg' as leg, body->>'agent' as agent,
           (body->>'assisted')::boolean as assisted, body->>'end' is null as is_seen,
           (body->>'began')::timestamptz as began, (body->>'ended')::timestamptz as ended,
           row_number() over (partition by body->>'call', body->>'leg' order by body->>'began') as n
    from truth where body->>'kind' = 'talk'),
kept as (
    select *, row_number() over (partition by call, leg order by began_at) as n from talk)
select call || ' ' || leg || ' ' || n, concat_ws(', ',
    case when told.agent is null then 'a talk that never was' end,
    case when kept.began_at is null then 'missing' end,
    case when kept.ended_at is null then 'no end' end,
    case when kept.began_at is not null and kept.agent is distinct from told.agent
         then 'of ' || coalesce(kept.agent, 'nobody') || ' for ' || coalesce(told.agent, 'nobody') end,
    case when kept.began_at is not null and kept.assisted is distinct from told.assisted
         then 'assisted ' || coalesce(kept.assisted::text, 'unsaid') end,
    case when pg_temp.far(kept.began_at, told.began) then 'began ' || (kept.began_at - told.began) end,
    case when pg_temp.far(kept.ended_at, told.ended) then 'ended ' || (kept.ended_at - told.ended) end,
    case when told.is_seen and kept.ended_by = 'unknown_end' then 'end unknown' end)
from told full join kept using (call, leg, n)"""


async def differences(dsn: str, truth: Path | Sequence[dict[str, object]]) -> list[str]:
    """Return what PostgreSQL says otherwise than the journal, one line each; empty: all is well.

    Args:
        truth: The journal's file, or its records.
    """
    records = read(truth) if isinstance(truth, Path) else truth
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(_PREPARE)
        rows = [(json.dumps(record),) for record in records]
        await connection.executemany("insert into truth values ($1::jsonb)", rows)
        found = []
        for name, sql in (("call", _CALLS), ("visit", _VISITS), ("talk", _TALKS)):
            found += [f"{name} {about}: {what}" for about, what in await connection.fetch(sql) if what]
        return found
    finally:
        await connection.close()
