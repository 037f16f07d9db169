"""What PostgreSQL knows about the lead: one advisory lock, and one row with a growing epoch.

The lock says who leads now, the row who was the last to, and the epoch in it is what every
write of the journal is measured by. All times are PostgreSQL's.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import socket
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Protocol, Self

import msgspec

from ctid.store.pool import OwnConnection, Record

#: Advisory locks with one 64-bit key are shown in two halves.
_HOLDER_OF_LOCK: Final = """
    select pid from pg_locks
    where locktype = 'advisory' and granted and objsubid = 1
      and database = (select oid from pg_database where datname = current_database())
      and (classid::bigint << 32 | objid::bigint) = $1
"""
_LOOK: Final = f"""
    select epoch, holder, host, pid, since, beat_at, ({_HOLDER_OF_LOCK} limit 1) as locked_by,
           clock_timestamp() - beat_at as silent_for
    from (select 1) as one left join leader on name = $2
"""  # noqa: S608
_EVICT: Final = f"select pg_terminate_backend(pid, 1000) from ({_HOLDER_OF_LOCK}) as it where pid = $2"  # noqa: S608
#: A frozen daemon may be in the middle of a transaction that holds the row; no healthy one idles there.
_FREE_ROW: Final = """
    select count(pg_terminate_backend(pid, 1000)) from pg_stat_activity
    where pid <> pg_backend_pid() and usename = current_user and state like 'idle in transaction%'
      and state_change < clock_timestamp() - interval '1 second'
      and pid in (
          select pid from pg_locks
          where relation = 'leader'::regclass and granted and mode <> 'AccessShareLock'
            and database = (select oid from pg_database where datname = current_database())
      )
"""
#: Unlike an update, this also waits for transactions that hold the row with ``for key share``.
_HOLD_ROW: Final = "select epoch from leader where name = $1 for update"
_TAKE: Final = """
    insert into leader as it (name, epoch, holder, host, pid, since, beat_at)
    values ($1, $5::bigint + 1, $2, $3, $4, clock_timestamp(), clock_timestamp())
    on conflict (name) do update
    set epoch = greatest(it.epoch, $5::bigint) + 1, holder = excluded.holder, host = excluded.host,
        pid = excluded.pid, since = excluded.since, beat_at = excluded.beat_at
    where it.epoch = $6 and it.beat_at is not distinct from $7
    returning epoch
"""
_BEAT: Final = """
    update leader set beat_at = clock_timestamp(), holder = $3, host = $4, pid = $5
    where name = $1 and epoch = $2 returning true
"""
_CLEAR: Final = (
    "update leader set holder = '' where name = $1 and epoch = $2 returning pg_advisory_unlock($3)"
)


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """Who leads, as PostgreSQL has it.

    Attributes:
        epoch: 0: nobody ever led.
        holder: Empty: nobody, or he stopped in good order.
        since: When he took the lead.
        beat_at: His last sign of life.
        silent_for_seconds: Since then, by PostgreSQL's clock.
        locked_by: Backend that has the advisory lock; 0: none.
    """

    epoch: int = 0
    holder: str = ""
    host: str = ""
    pid: int = 0
    since: datetime | None = None
    beat_at: datetime | None = None
    silent_for_seconds: float = 0.0
    locked_by: int = 0

    def __str__(self) -> str:
        since = f" since {self.since:%F %T} UTC" if self.since else ""
        return f"{self.host or '(unknown host)'} pid {self.pid} leads{since}"


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Who we are.

    Attributes:
        holder: Random; what follows its dot is the same for all who can see each other's pids.
    """

    holder: str
    host: str
    pid: int

    @classmethod
    def own(cls) -> Self:
        """Return that of this process; another one each time."""
        return cls(holder=f"{secrets.token_hex(8)}.{_machine()}", host=socket.gethostname(), pid=os.getpid())

    def knows_dead(self, other: Standing) -> bool:
        """Say whether ``other`` ran beside us and is certainly gone."""
        machine = self.holder.partition(".")[2]
        return bool(machine) and other.holder.partition(".")[2] == machine and _is_gone(other.pid)


class _Source(Protocol):
    """A pool, or a connection."""

    async def fetchrow(self, sql: str, *args: Any) -> Record | None: ...


async def look(source: _Source, name: str) -> Standing:
    """Return who leads.

    Raises:
        StoreError: PostgreSQL is away, or not migrated.
    """
    row = await source.fetchrow(_LOOK, key_of(name), name)
    assert row is not None, "one row comes of nothing, too"
    silent = row["silent_for"]
    return Standing(
        epoch=row["epoch"] or 0,
        holder=row["holder"] or "",
        host=row["host"] or "",
        pid=row["pid"] or 0,
        since=row["since"],
        beat_at=row["beat_at"],
        silent_for_seconds=silent.total_seconds() if silent is not None else 0.0,
        locked_by=row["locked_by"] or 0,
    )


def key_of(name: str) -> int:
    """Return the key of the advisory lock of a leader's name."""
    digest = hashlib.blake2b(f"ctid leader {name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


class Lease:
    """The lead as seen from one session of PostgreSQL, which holds the lock for as long as it lives.

    Every method raises ``StoreError`` if PostgreSQL is away or says no; the session is useless then.
    """

    def __init__(self, connection: OwnConnection, name: str) -> None:
        self.connection = connection
        self._name = name
        self._key = key_of(name)

    async def look(self) -> Standing:
        """Return who leads."""
        return await look(self.connection, self._name)

    async def lock(self, *, evicting: int = 0) -> bool:
        """Take the lock if it is free, ending the session of backend ``evicting`` first if that has it."""
        if evicting and evicting != self.connection.pid:
            await self.connection.fetchval(_EVICT, self._key, evicting)
        return bool(await self.connection.fetchval("select pg_try_advisory_lock($1)", self._key))

    async def take(self, seen: Standing, identity: Identity, *, above: int) -> int | None:
        """Take lock and row from whom we saw there.

        Args:
            above: The new epoch is greater than this, whatever stands in the row.

        Returns:
            The new epoch; ``None``: somebody moved since we looked.
        """
        if not await self.lock(evicting=seen.locked_by):
            return None
        own = (identity.holder, identity.host, identity.pid)
        async with self.connection.transaction():
            await self.connection.fetchval(_FREE_ROW)
            await self.connection.fetchval("select set_config('lock_timeout', '1s', true)")
            await self.connection.fetchval(_HOLD_ROW, self._name)
            epoch: int | None = await self.connection.fetchval(
                _TAKE, self._name, *own, above, seen.epoch, seen.beat_at
            )
        if epoch is None:
            await self.connection.fetchval("select pg_advisory_unlock($1)", self._key)
        return epoch

    async def beat(self, epoch: int, identity: Identity) -> bool:
        """Give a sign of life. False: the epoch in the row is another one."""
        own = (identity.holder, identity.host, identity.pid)
        return bool(await self.connection.fetchval(_BEAT, self._name, epoch, *own))

    async def clear(self, epoch: int) -> None:
        """Say in the row that nobody leads, and give the lock back."""
        await self.connection.fetchval(_CLEAR, self._name, epoch, self._key)


def _machine() -> str:
    """Name what all processes that can see each other share: boot and pid namespace; empty: unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
        return hashlib.blake2b(
            f"{boot}{os.readlink('/proc/self/ns/pid')}".encode(), digest_size=6
        ).hexdigest()
    except OSError:
        return ""


def _is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2]
        return state.split()[0] in "ZX"
    except ProcessLookupError:
        return True
    except OSError:
        return False
