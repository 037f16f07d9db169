"""Who is asking: tokens and sessions to users, also while PostgreSQL is away.

A person shows his password or token once and gets a session: a cookie with 256 random bits
of its own, of which only the hash is kept. Sessions are in PostgreSQL, so they outlive a
restart, and in memory, so that people keep their screens when PostgreSQL does not answer.
What is in memory is checked again every few seconds: a revoked one ends within five. A session
that nobody asks with and no screen is open of ends by itself.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

import structlog
from msgspec.structs import replace

from ctid.errors import StoreError
from ctid.store.users import SESSION_LASTS, Grant, User, hash_of, new_token

log = structlog.get_logger()

RECHECK_SECONDS: Final = 2.0
MARK_SECONDS: Final = 60.0
"""So often PostgreSQL is told which sessions are in use."""
TRUSTED_FOR: Final = timedelta(hours=12)
"""So long a known token is believed without PostgreSQL."""
KNOWN_LIMIT: Final = 10_000
MAX_TOKEN: Final = 200


class UserStore(Protocol):
    """What of ``ctid.store.users.Users`` is needed; raises ``StoreError`` when it can not answer."""

    async def grants_of(self, hashes: Sequence[str]) -> list[Grant]: ...
    async def open_session(self, token_hash: str, session_hash: str, expires_at: datetime) -> bool: ...
    async def revoke_token(self, token_hash: str) -> bool: ...
    async def mark_used(self, hashes: Sequence[str]) -> None: ...


@dataclass(frozen=True, slots=True)
class Session:
    """Somebody who may ask.

    Attributes:
        key: Hash of the secret; names the session, opens nothing.
        parent: Hash of the token it was opened with; empty: a token itself, or opened with a password.
        is_session: It opens no other, and ends with signing out.
        is_stored: PostgreSQL knows of it.
        checked_at: When PostgreSQL last said that it is valid.
    """

    key: str
    user: User
    expires_at: datetime
    checked_at: datetime
    parent: str = ""
    is_session: bool = False
    is_stored: bool = True


class Sessions:
    """All sessions and tokens in use.

    Args:
        users: PostgreSQL.
        on_end: Told the key of a session that ended or whose user is another now.
        on_change: Told the key of a session whose user may do other things now.
        in_use: Keys of the sessions that have a screen open.
        now: ctid's clock.
    """

    def __init__(
        self,
        users: UserStore,
        *,
        on_end: Callable[[str], None] = lambda key: None,
        on_change: Callable[[str], None] = lambda key: None,
        in_use: Callable[[], Collection[str]] = tuple,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._users = users
        self._on_end = on_end
        self._on_change = on_change
        self._in_use = in_use
        self._now = now
        self._used: set[str] = set()
        self._mark_at = now()
        self._known: dict[str, Session] = {}

    async def of_secret(self, secret: str) -> Session | None:
        """Return the session of a cookie or token; ``None``: not valid.

        Raises:
            StoreError: It is not known here, and PostgreSQL can not be asked.
        """
        if not secret or len(secret) > MAX_TOKEN:
            return None
        key = hash_of(secret)
        known = self._fresh(key)
        if known is not None:
            self._used.add(key)
            return known
        found = await self._users.grants_of([key])
        return self._remember(_session(found[0], self._now())) if found else None

    async def sign_in(self, token: str) -> tuple[str, Session] | None:
        """Open a session with a token; return its secret, for the cookie. ``None``: not a valid token.

        Raises:
            StoreError: The token is not known here, and PostgreSQL can not be asked.
        """
        opener = await self.of_secret(token)
        if opener is None or opener.is_session:
            return None
        secret = new_token()
        expires_at = min(self._now() + SESSION_LASTS, opener.expires_at)
        try:
            if not await self._users.open_session(opener.key, hash_of(secret), expires_at):
                self._end(opener.key)
                return None
            is_stored = True
        except StoreError as error:
            log.warning("session_only_in_memory", why=str(error))
            is_stored = False
        session = Session(
            hash_of(secret),
            opener.user,
            expires_at,
            self._now(),
            parent=opener.key,
            is_session=True,
            is_stored=is_stored,
        )
        return secret, self._remember(session)

    def opened(self, secret: str, user: User, expires_at: datetime) -> Session:
        """Take in a session that was opened with a password and is written down."""
        return self._remember(Session(hash_of(secret), user, expires_at, self._now(), is_session=True))

    async def sign_out(self, session: Session) -> None:
        """End a session. A token stays valid: it can only be revoked.

        Raises:
            StoreError: PostgreSQL can not be told; the session has ended here.
        """
        if session.is_session:
            self._end(session.key)
            if session.is_stored:
                await self._users.revoke_token(session.key)

    async def run(self) -> None:
        """Check what is in memory, every few seconds, until cancelled."""
        while True:
            await asyncio.sleep(RECHECK_SECONDS)
            await self.recheck()

    async def recheck(self) -> None:
        """End what was revoked, has expired, or is too long unchecked; never raises."""
        for key in [key for key in self._known if self._fresh(key) is None]:
            self._end(key)
        if not self._known:
            return
        asked = {session: _proof(session) for session in self._known.values()}
        try:
            await self._mark()  # before they are asked for: while PostgreSQL was away nobody was idle
            grants = await self._users.grants_of(sorted(set(asked.values())))
        except StoreError:
            return  # believed for a while; see TRUSTED_FOR
        valid = {grant.hash: grant for grant in grants}
        for session, proof in asked.items():
            self._compare(session, valid.get(proof))

    def _compare(self, session: Session, grant: Grant | None) -> None:
        if session.key not in self._known:
            return  # ended while we were asking
        if grant is None or replace(grant.user, lent=()) != replace(session.user, lent=()):
            self._end(session.key)
            return
        # A session in memory only goes by its token's grant, for which nothing has to be changed.
        self._known[session.key] = dataclasses.replace(session, user=grant.user, checked_at=self._now())
        if grant.user.lent != session.user.lent:
            self._on_change(session.key)

    async def _mark(self) -> None:
        """Tell PostgreSQL which sessions are in use, if it is time to."""
        if self._now() < self._mark_at:
            return
        used, self._used = self._used, set()
        try:
            await self._users.mark_used(sorted(used | {*self._in_use()} & self._known.keys()))
        except StoreError:
            self._used |= used
            raise
        self._mark_at = self._now() + timedelta(seconds=MARK_SECONDS)

    def _fresh(self, key: str) -> Session | None:
        session = self._known.get(key)
        now = self._now()
        if session is None or session.expires_at <= now or session.checked_at + TRUSTED_FOR <= now:
            return None
        return session

    def _remember(self, session: Session) -> Session:
        self._known[session.key] = session
        while len(self._known) > KNOWN_LIMIT:
            self._end(next(iter(self._known)))
        return session

    def _end(self, key: str) -> None:
        if self._known.pop(key, None) is not None:
            self._on_end(key)


def _proof(session: Session) -> str:
    """Return the hash that PostgreSQL knows."""
    return session.key if session.is_stored else session.parent


def _session(grant: Grant, now: datetime) -> Session:
    return Session(
        grant.hash, grant.user, grant.expires_at, now, parent=grant.parent, is_session=grant.is_session
    )
