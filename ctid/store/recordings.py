"""What became of every recording."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final, Literal

import msgspec

from ctid.store.pool import Pool

Result = Literal["complete", "repaired", "truncated", "missing", "empty"]


class Filed(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the archive found.

    Attributes:
        result: ``empty``: nobody talked, so nothing was to be recorded.
        problem: For people; empty if all is well.
        path: Relative to the recordings folder; empty if there is no file.
        sha256: Hexadecimal; empty if there is no file.
    """

    recording: str
    result: Result
    problem: str = ""
    path: str = ""
    duration: timedelta = timedelta(0)
    size_bytes: int = 0
    sha256: str = ""


class Unfiled(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A recording that stopped, whose file was not looked for yet.

    Attributes:
        expected: How long the file should be at most, waiting included.
        talked: How long agents had the caller, as far as that is known: Asterisk records
            only then (MixMonitor's option ``b``).
    """

    recording: str
    call: str
    began_at: datetime
    stopped_at: datetime
    expected: timedelta
    talked: timedelta = timedelta(0)


class Recording(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One recording as it is known; ``None`` where it is not known yet."""

    recording: str
    system: str | None
    call: str | None
    began_at: datetime | None
    stopped_at: datetime | None
    expected: timedelta | None
    result: str | None
    problem: str | None
    path: str | None
    duration: timedelta | None
    size_bytes: int | None
    sha256: str | None
    filed_at: datetime | None


_COLUMNS: Final = ", ".join(Recording.__struct_fields__)

# A call that ended unseen (Asterisk died, or ctid was away) leaves a recording that never stopped.
_UNFILED: Final = """
select r.recording, coalesce(r.call, '') as call, coalesce(r.began_at, r.stopped_at, c.ended_at) as began_at,
       coalesce(r.stopped_at, c.ended_at) as stopped_at,
       coalesce(r.expected, c.lasted, interval '0') as expected,
       coalesce((select sum(talked + held) from talk t
                 where t.system = r.system and t.call = r.call and not coalesce(assisted, false)),
                interval '0') as talked
from recording r left join call c using (system, call)
where r.filed_at is null and coalesce(r.stopped_at, c.ended_at) is not null
order by coalesce(r.stopped_at, c.ended_at)
"""

_FILE: Final = """
insert into recording (recording, result, problem, path, duration, size_bytes, sha256, filed_at)
values ($1, $2, $3, $4, $5, $6, $7, clock_timestamp())
on conflict (recording) do update set
    result = excluded.result, problem = excluded.problem, path = excluded.path,
    duration = excluded.duration, size_bytes = excluded.size_bytes, sha256 = excluded.sha256,
    filed_at = excluded.filed_at
where recording.filed_at is null or recording.result = 'missing'
"""


async def unfiled(pool: Pool) -> list[Unfiled]:
    """Return what was left undone, oldest first.

    Raises:
        StoreUnavailable: PostgreSQL is away or slow.
    """
    return [Unfiled(**row) for row in await pool.fetch(_UNFILED)]


async def file(pool: Pool, filed: Filed) -> bool:
    """Store what the archive found; what was stored before stays, unless it was ``missing``.

    Returns:
        Whether this is new.

    Raises:
        StoreUnavailable: PostgreSQL is away or slow.
    """
    arguments: tuple[Any, ...] = msgspec.structs.astuple(filed)
    return await pool.execute(_FILE, *arguments) == "INSERT 0 1"


async def find(pool: Pool, recording: str) -> Recording | None:
    """Return one recording by its UUID.

    Raises:
        StoreUnavailable: PostgreSQL is away or slow.
    """
    row = await pool.fetchrow(f"select {_COLUMNS} from recording where recording = $1", recording)  # noqa: S608
    return Recording(**row) if row else None


async def of_call(pool: Pool, *, system: str, call: str) -> list[Recording]:
    """Return the recordings of one call, oldest first.

    Raises:
        StoreUnavailable: PostgreSQL is away or slow.
    """
    rows = await pool.fetch(
        f"select {_COLUMNS} from recording where system = $1 and call = $2 order by began_at",  # noqa: S608
        system,
        call,
    )
    return [Recording(**row) for row in rows]
