"""Roles lent to somebody for a time: a leader stands in for the supervisor who is off."""

from __future__ import annotations

from datetime import datetime

import msgspec

from ctid.errors import StoreError
from ctid.store import audit
from ctid.store.pool import Pool
from ctid.store.users import Role


class Delegation(msgspec.Struct, frozen=True, kw_only=True):
    """A role that somebody has beside his own.

    Attributes:
        name: Who has it.
        starts_at, ends_at: From then until before then, UTC.
        given_by: Who lent it.
    """

    delegation: int
    name: str
    role: Role
    starts_at: datetime
    ends_at: datetime
    given_by: str


class Delegations:
    """The delegations in PostgreSQL; all methods raise ``StoreUnavailable`` when it is away."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def lend(self, name: str, role: Role, *, starts_at: datetime, ends_at: datetime, by: str) -> int:
        """Lend a role and return the number of the delegation.

        Raises:
            StoreError: There is no such user, he has the role anyhow, or it is too long.
        """
        async with self._pool.transaction() as connection:
            number = await connection.fetchval(
                "insert into delegation (name, role, starts_at, ends_at, given_by) "
                "select u.name, $2, $3, $4, $5 from app_user u "
                "where u.name = $1 and u.revoked_at is null and u.role <> $2 returning delegation",
                name,
                role,
                starts_at,
                ends_at,
                by,
            )
            if number is None:
                raise StoreError(f"user {name}: there is no such user, or he is {role} anyhow")
            times = {"from": starts_at.isoformat(), "until": ends_at.isoformat()}
            await audit.note(connection, by, "role_lent", name, {"role": role, **times})
            return int(number)

    async def take_back(self, delegation: int, *, by: str) -> bool:
        """End a delegation now; False: there is none, or it is over."""
        async with self._pool.transaction() as connection:
            row = await connection.fetchrow(
                "update delegation set revoked_at = clock_timestamp() where delegation = $1 "
                "and revoked_at is null and ends_at > clock_timestamp() returning name, role",
                delegation,
            )
            if row is None:
                return False
            await audit.note(connection, by, "role_taken_back", row["name"], {"role": row["role"]})
            return True

    async def current(self) -> list[Delegation]:
        """Return those that are not over, the next to end first."""
        rows = await self._pool.fetch(
            "select delegation, name, role, starts_at, ends_at, given_by from delegation "
            "where revoked_at is null and ends_at > clock_timestamp() order by ends_at, delegation"
        )
        return [Delegation(**row) for row in rows]
