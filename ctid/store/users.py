"""Who may sign in, and the tokens and sessions they do it with."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

import msgspec

from ctid.errors import StoreError
from ctid.store.pool import Connection, Pool

Role = Literal["agent", "leader", "inspector", "supervisor", "admin"]
Language = Literal["zh-CN", "en"]

TOKEN_LASTS: Final = timedelta(days=365)
SESSION_LASTS: Final = timedelta(hours=12)
KEEP_SESSIONS: Final = timedelta(days=30)
"""After their end, for whoever asks who was signed in."""

#: A token is valid while neither it, nor the token it was opened with, nor its user is
#: revoked, and it has not expired.
_VALID: Final = """
select t.hash, t.parent, least(t.expires_at, p.expires_at) as expires_at,
       u.name, u.role, u.agent, u.language
from app_token t
join app_user u using (name)
left join app_token p on p.hash = t.parent
where t.hash = any($1::text[])
  and t.revoked_at is null and u.revoked_at is null and p.revoked_at is null
  and least(t.expires_at, p.expires_at) > clock_timestamp()
"""


class User(msgspec.Struct, frozen=True, kw_only=True):
    """A person.

    Attributes:
        agent: Agent number; empty for people who take no calls.
    """

    name: str
    role: Role
    agent: str = ""
    language: Language = "zh-CN"


class UserRow(User, frozen=True, kw_only=True):
    """A person, for ``ctid user list``.

    Attributes:
        tokens: How many valid ones he has, sessions not counted.
    """

    created_at: datetime
    revoked_at: datetime | None
    tokens: int


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """A valid token: whose, and until when.

    Attributes:
        parent: Hash of the token a session was opened with; empty for a token.
    """

    hash: str
    user: User
    expires_at: datetime
    parent: str = ""


def new_token() -> str:
    """Return 256 random bits, safe in a URL, a header and a shell."""
    return secrets.token_urlsafe(32)


def hash_of(token: str) -> str:
    """Return what is stored of a token."""
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()


class Users:
    """The users in PostgreSQL.

    All methods raise ``StoreUnavailable`` when PostgreSQL is away or slow.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def create_user(
        self, name: str, *, role: Role, agent: str = "", language: Language = "zh-CN"
    ) -> User:
        """Add a person, or bring a revoked one back with what is given now.

        Raises:
            StoreError: The name is taken or has odd characters, the agent number belongs to
                somebody else, or an agent has no number.
        """
        if role == "agent" and not agent:
            raise StoreError(f"user {name}: an agent needs his agent number")
        found = await self._pool.fetchval(
            "insert into app_user (name, role, agent, language) values ($1, $2, $3, $4) "
            "on conflict (name) do update set role = $2, agent = $3, language = $4, revoked_at = null "
            "where app_user.revoked_at is not null returning name",
            name,
            role,
            agent,
            language,
        )
        if found is None:
            raise StoreError(f"user {name}: there already is one; revoke him first, or choose another name")
        return User(name=name, role=role, agent=agent, language=language)

    async def issue_token(self, name: str, *, lasts: timedelta = TOKEN_LASTS) -> str:
        """Make a token for a person and return it; it can not be read again later.

        Raises:
            StoreError: There is no such user, or he is revoked.
        """
        token = new_token()
        found = await self._pool.fetchval(
            "insert into app_token (hash, name, expires_at) "
            "select $1, name, $3 from app_user where name = $2 and revoked_at is null returning name",
            hash_of(token),
            name,
            datetime.now(UTC) + lasts,
        )
        if found is None:
            raise StoreError(f"user {name}: there is no such user; see `ctid user list`")
        return token

    async def open_session(self, token_hash: str, session_hash: str, expires_at: datetime) -> bool:
        """Write down a session opened with a token; False if the token is not valid any more.

        The user's sessions that ended long ago are forgotten: they grow by one per sign-in.
        """
        found = await self._pool.fetchval(
            "with forgotten as (delete from app_token o using app_token t where t.hash = $1 "
            "and o.name = t.name and o.parent is not null "
            "and o.expires_at < clock_timestamp() - $4::interval) "
            "insert into app_token (hash, name, parent, expires_at) "
            "select $2, t.name, t.hash, least($3, t.expires_at) "
            "from app_token t join app_user u using (name) "
            "where t.hash = $1 and t.revoked_at is null and u.revoked_at is null "
            "and t.expires_at > clock_timestamp() and t.parent is null returning hash",
            token_hash,
            session_hash,
            expires_at,
            KEEP_SESSIONS,
        )
        return found is not None

    async def user_of_token(self, token: str) -> User | None:
        """Return whose token (or session) this is; ``None``: nobody's, or not any more."""
        found = await self.grants_of([hash_of(token)])
        return found[0].user if found else None

    async def grants_of(self, hashes: Sequence[str]) -> list[Grant]:
        """Return those of the given tokens and sessions that are valid."""
        rows = await self._pool.fetch(_VALID, list(hashes))
        return [
            Grant(
                hash=row["hash"],
                parent=row["parent"] or "",
                expires_at=row["expires_at"],
                user=User(name=row["name"], role=row["role"], agent=row["agent"], language=row["language"]),
            )
            for row in rows
        ]

    async def revoke_token(self, token_hash: str) -> bool:
        """End a token and the sessions opened with it, or one session; False: it was not valid."""
        status = await self._pool.execute(
            "update app_token set revoked_at = clock_timestamp() where hash = $1 and revoked_at is null",
            token_hash,
        )
        return status.endswith(" 1")

    async def revoke(self, name: str) -> bool:
        """End a person's access and all his tokens and sessions; False: there is no such user."""
        async with self._pool.transaction() as connection:
            return await _revoke(connection, name)

    async def list_users(self) -> list[UserRow]:
        """Return everybody, by name, revoked ones included."""
        rows = await self._pool.fetch(
            "select name, role, agent, language, created_at, revoked_at, (select count(*) from app_token t "
            "where t.name = u.name and t.parent is null and t.revoked_at is null "
            "and t.expires_at > clock_timestamp()) as tokens from app_user u order by name"
        )
        return [UserRow(**row) for row in rows]


async def _revoke(connection: Connection, name: str) -> bool:
    found = await connection.fetchval(
        "update app_user set revoked_at = coalesce(revoked_at, clock_timestamp()) "
        "where name = $1 returning name",
        name,
    )
    await connection.execute(
        "update app_token set revoked_at = clock_timestamp() where name = $1 and revoked_at is null", name
    )
    return found is not None
