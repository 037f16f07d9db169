"""Who may sign in, and the passwords, tokens and sessions they do it with.

Every change is noted in the audit log, in the same transaction.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

import msgspec

from ctid.errors import StoreError
from ctid.store import audit
from ctid.store.pool import Connection, Pool

Role = Literal["agent", "leader", "inspector", "complaints", "info", "supervisor", "auditor", "admin"]
Language = Literal["zh-CN", "en"]

TOKEN_LASTS: Final = timedelta(days=365)
SESSION_LASTS: Final = timedelta(hours=12)
SESSION_IDLES: Final = timedelta(minutes=30)
"""Without a request and without an open screen; then it has ended."""
CONSOLE: Final = "(console)"
"""Who acts from the command line of ctid's own host; no sign-in name looks like this."""
KEEP_SESSIONS: Final = timedelta(days=30)
"""After their end, for whoever asks who was signed in."""

#: A token is valid while neither it, nor the token it was opened with, nor its user is
#: revoked, and it has not expired.
_VALID: Final = """
select t.hash, t.kind, t.parent, least(t.expires_at, p.expires_at) as expires_at,
       u.name, u.role, u.agent, u.language, u.must_change,
       array(select distinct d.role from delegation d where d.name = u.name and d.revoked_at is null
             and clock_timestamp() >= d.starts_at and clock_timestamp() < d.ends_at
             order by d.role) as lent
from app_token t
join app_user u using (name)
left join app_token p on p.hash = t.parent
where t.hash = any($1::text[])
  and t.revoked_at is null and u.revoked_at is null and p.revoked_at is null
  and least(t.expires_at, p.expires_at) > clock_timestamp()
  and (t.kind = 'token' or t.used_at > clock_timestamp() - $2::interval)
"""


class User(msgspec.Struct, frozen=True, kw_only=True):
    """A person.

    Attributes:
        agent: Agent number; empty for people who take no calls.
        lent: Roles he has for a time beside his own, sorted.
        must_change: Somebody else knows his password: he may do nothing before he has changed it.
    """

    name: str
    role: Role
    agent: str = ""
    language: Language = "zh-CN"
    lent: tuple[Role, ...] = ()
    must_change: bool = False

    @property
    def roles(self) -> frozenset[Role]:
        """His own role and the lent ones."""
        return frozenset({self.role, *self.lent})


class UserRow(User, frozen=True, kw_only=True):
    """A person, for ``ctid user list``.

    Attributes:
        tokens: How many valid ones he has, sessions not counted.
        has_password: He may sign in with one.
    """

    created_at: datetime
    revoked_at: datetime | None
    tokens: int
    has_password: bool = False


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """A valid token: whose, and until when.

    Attributes:
        is_session: It opens no other.
        parent: Hash of the token a session was opened with; empty for a token, and for a
            session opened with a password.
    """

    hash: str
    user: User
    expires_at: datetime
    is_session: bool = False
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
        self, name: str, *, role: Role, agent: str = "", language: Language = "zh-CN", by: str = CONSOLE
    ) -> User:
        """Add a person, or bring a revoked one back with what is given now.

        Raises:
            StoreError: The name is taken or has odd characters, the agent number belongs to
                somebody else, or an agent has no number.
        """
        if role == "agent" and not agent:
            raise StoreError(f"user {name}: an agent needs his agent number")
        async with self._pool.transaction() as connection:
            await _want_free(connection, agent, name)
            found = await connection.fetchval(
                "insert into app_user (name, role, agent, language) values ($1, $2, $3, $4) "
                "on conflict (name) do update set role = $2, agent = $3, language = $4, "
                "revoked_at = null, password = null, must_change = false "
                "where app_user.revoked_at is not null returning name",
                name,
                role,
                agent,
                language,
            )
            if found is None:
                raise StoreError(
                    f"user {name}: there already is one; revoke him first, or choose another name"
                )
            await audit.note(connection, by, "user_added", name, {"role": role, "agent": agent})
        return User(name=name, role=role, agent=agent, language=language)

    async def change_user(
        self, name: str, *, role: Role, agent: str, language: Language, by: str = CONSOLE
    ) -> bool:
        """Change what a person is; if his rights change, his sessions end. False: there is no such user.

        Raises:
            StoreError: The agent number belongs to somebody else, or an agent has none, or nobody
                would be left who may do this.
        """
        if role == "agent" and not agent:
            raise StoreError("agent: an agent needs his agent number")
        async with self._pool.transaction() as connection:
            before = await connection.fetchrow(
                "select role, agent from app_user where name = $1 and revoked_at is null for update", name
            )
            if before is None:
                return False
            await _want_free(connection, agent, name)
            await connection.execute(
                "update app_user set role = $2, agent = $3, language = $4 where name = $1",
                name,
                role,
                agent,
                language,
            )
            if by != CONSOLE:
                await _keep_an_admin(connection, name)
            if (before["role"], before["agent"]) != (role, agent):
                await _end_sessions(connection, name)
            await audit.note(
                connection, by, "user_changed", name, {"role": role, "agent": agent, "was": before["role"]}
            )
        return True

    async def set_password(self, name: str, encoded: str, *, must_change: bool, by: str) -> bool:
        """Set a password and end every session of the person; False: there is no such user.

        Args:
            encoded: argon2id, in its own encoding.
            must_change: Somebody else knows it.
        """
        async with self._pool.transaction() as connection:
            found = await connection.fetchval(
                "update app_user set password = $2, must_change = $3 "
                "where name = $1 and revoked_at is null returning name",
                name,
                encoded,
                must_change,
            )
            if found is None:
                return False
            await _end_sessions(connection, name)
            await audit.note(connection, by, "password_set", name)
        return True

    async def password_of(self, name: str) -> str | None:
        """Return a person's encoded password; ``None``: there is no such user, or he has none."""
        found = await self._pool.fetchval(
            "select password from app_user where name = $1 and revoked_at is null", name
        )
        return None if found is None else str(found)

    async def open_session_of(
        self, name: str, encoded: str, session_hash: str, expires_at: datetime, detail: audit.Detail
    ) -> User | None:
        """Write down a session opened with a password; ``None`` if that is not his any more.

        Args:
            encoded: The password that was checked, as it is stored.
            detail: For the audit log.
        """
        async with self._pool.transaction() as connection:
            found = await connection.fetchval(
                "insert into app_token (hash, name, kind, expires_at) "
                "select $3, name, 'session', $4 from app_user "
                "where name = $1 and password = $2 and revoked_at is null returning name",
                name,
                encoded,
                session_hash,
                expires_at,
            )
            if found is None:
                return None
            await _forget_sessions(connection, name)
            await audit.note(connection, name, "signed_in", "", detail)
        grants = await self.grants_of([session_hash])
        return grants[0].user if grants else None

    async def mark_used(self, hashes: Sequence[str]) -> None:
        """Note that these sessions are in use: they do not end for idleness."""
        await self._pool.execute(
            "update app_token set used_at = clock_timestamp() where hash = any($1::text[]) "
            "and kind = 'session' and revoked_at is null",
            list(hashes),
        )

    async def issue_token(self, name: str, *, lasts: timedelta = TOKEN_LASTS, by: str = CONSOLE) -> str:
        """Make a token for a person and return it; it can not be read again later.

        Raises:
            StoreError: There is no such user, or he is revoked.
        """
        token = new_token()
        async with self._pool.transaction() as connection:
            found = await connection.fetchval(
                "insert into app_token (hash, name, expires_at) "
                "select $1, name, $3 from app_user where name = $2 and revoked_at is null returning name",
                hash_of(token),
                name,
                datetime.now(UTC) + lasts,
            )
            if found is None:
                raise StoreError(f"user {name}: there is no such user; see `ctid user list`")
            await audit.note(connection, by, "token_issued", name)
        return token

    async def open_session(self, token_hash: str, session_hash: str, expires_at: datetime) -> bool:
        """Write down a session opened with a token; False if the token is not valid any more."""
        async with self._pool.transaction() as connection:
            name = await connection.fetchval(
                "insert into app_token (hash, name, kind, parent, expires_at) "
                "select $2, t.name, 'session', t.hash, least($3, t.expires_at) "
                "from app_token t join app_user u using (name) "
                "where t.hash = $1 and t.revoked_at is null and u.revoked_at is null "
                "and t.expires_at > clock_timestamp() and t.kind = 'token' returning name",
                token_hash,
                session_hash,
                expires_at,
            )
            if name is None:
                return False
            await _forget_sessions(connection, name)
            await audit.note(connection, name, "signed_in", "", {"with": "token"})
        return True

    async def user_of_token(self, token: str) -> User | None:
        """Return whose token (or session) this is; ``None``: nobody's, or not any more."""
        found = await self.grants_of([hash_of(token)])
        return found[0].user if found else None

    async def grants_of(self, hashes: Sequence[str]) -> list[Grant]:
        """Return those of the given tokens and sessions that are valid."""
        rows = await self._pool.fetch(_VALID, list(hashes), SESSION_IDLES)
        return [
            Grant(
                hash=row["hash"],
                is_session=row["kind"] == "session",
                parent=row["parent"] or "",
                expires_at=row["expires_at"],
                user=User(
                    name=row["name"],
                    role=row["role"],
                    agent=row["agent"],
                    language=row["language"],
                    lent=tuple(row["lent"]),
                    must_change=row["must_change"] and row["kind"] == "session" and not row["parent"],
                ),
            )
            for row in rows
        ]

    async def revoke_token(self, token_hash: str) -> bool:
        """End a token and the sessions opened with it, or one session; False: it was not valid."""
        async with self._pool.transaction() as connection:
            row = await connection.fetchrow(
                "update app_token set revoked_at = clock_timestamp() "
                "where hash = $1 and revoked_at is null returning name, kind",
                token_hash,
            )
            if row is not None:
                action = "signed_out" if row["kind"] == "session" else "token_revoked"
                await audit.note(connection, row["name"], action)
        return row is not None

    async def revoke(self, name: str, *, by: str = CONSOLE) -> bool:
        """End a person's access and all his tokens and sessions; False: there is no such user.

        Raises:
            StoreError: He is the last admin; from the console that does not matter.
        """
        async with self._pool.transaction() as connection:
            found = await _revoke(connection, name)
            if found:
                if by != CONSOLE:
                    await _keep_an_admin(connection, name)
                await audit.note(connection, by, "user_revoked", name)
            return found

    async def list_users(self) -> list[UserRow]:
        """Return everybody, by name, revoked ones included."""
        rows = await self._pool.fetch(
            "select name, role, agent, language, created_at, revoked_at, (select count(*) from app_token t "
            "where t.name = u.name and t.kind = 'token' and t.revoked_at is null "
            "and t.expires_at > clock_timestamp()) as tokens, password is not null as has_password, "
            "must_change from app_user u order by name"
        )
        return [UserRow(**row) for row in rows]


async def _forget_sessions(connection: Connection, name: str) -> None:
    """Forget his sessions that ended long ago: they grow by one per sign-in."""
    await connection.execute(
        "delete from app_token where name = $1 and kind = 'session' "
        "and expires_at < clock_timestamp() - $2::interval",
        name,
        KEEP_SESSIONS,
    )


async def _want_free(connection: Connection, agent: str, name: str) -> None:
    """Raise ``StoreError`` if an agent number is somebody else's."""
    holder = await connection.fetchval(
        "select name from app_user where agent = $1 and agent <> '' and name <> $2 and revoked_at is null",
        agent,
        name,
    )
    if holder is not None:
        raise StoreError(f"agent: {agent} is the number of {holder}")


async def _end_sessions(connection: Connection, name: str) -> None:
    await connection.execute(
        "update app_token set revoked_at = clock_timestamp() "
        "where name = $1 and kind = 'session' and revoked_at is null",
        name,
    )


async def _keep_an_admin(connection: Connection, name: str) -> None:
    """Refuse what was just done to ``name`` if no admin is left."""
    if not await connection.fetchval(
        "select exists (select from app_user where role = 'admin' and revoked_at is null)"
    ):
        raise StoreError(f"user {name}: the last admin; make somebody else admin first")


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
