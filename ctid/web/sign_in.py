"""Signing in with a password, and changing it: checked slowly, guessed even more slowly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, Protocol

import structlog

from ctid.errors import PasswordsBusy, StoreError
from ctid.store.audit import Detail
from ctid.store.users import SESSION_LASTS, User, hash_of, new_token
from ctid.web.backoff import PAIR, Backoff
from ctid.web.passwords import Passwords, why_unfit
from ctid.web.sessions import Session, Sessions

log = structlog.get_logger()

AT_ONCE: Final = 3
"""Attempts of one name from one address that are being checked; further ones come later."""

Outcome = Literal["opened", "refused", "slowed", "busy", "unavailable"]
OUTCOMES: Final[tuple[Outcome, ...]] = ("opened", "refused", "slowed", "busy", "unavailable")
Why = Literal["bad_password", "too_many_failures", "busy", "unfit"]


class PasswordStore(Protocol):
    """What of ``ctid.store.users.Users`` is needed; raises ``StoreError`` when it can not answer."""

    async def password_of(self, name: str) -> str | None: ...
    async def open_session_of(
        self, name: str, encoded: str, session_hash: str, expires_at: datetime, detail: Detail
    ) -> User | None: ...
    async def set_password(self, name: str, encoded: str, *, must_change: bool, by: str) -> bool: ...


class Notes(Protocol):
    """Where it is written down; ``ctid.store.audit.AuditLog``."""

    async def note(self, who: str, action: str, target: str = "", detail: Detail | None = None) -> int: ...


@dataclass(frozen=True, slots=True)
class NotNow:
    """Why somebody was not let in.

    Attributes:
        wait: Not before this has passed; zero: whenever he wants.
        detail: Which rule a new password breaks.
    """

    why: Why
    wait: timedelta = timedelta(0)
    detail: str = ""


class SignIns:
    """Lets people in who know their password.

    Args:
        observe: Told how each attempt ended.
        now: ctid's clock.
    """

    def __init__(
        self,
        users: PasswordStore,
        sessions: Sessions,
        audit: Notes,
        *,
        observe: Callable[[Outcome], None] = lambda outcome: None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._users = users
        self._sessions = sessions
        self._audit = audit
        self._observe = observe
        self._now = now
        self._backoff = Backoff()
        self._trying: Counter[tuple[str, str]] = Counter()
        self.passwords = Passwords()

    async def with_password(self, name: str, password: str, address: str) -> tuple[str, Session] | NotNow:
        """Open a session and return its secret, for the cookie.

        An unknown name takes as long as a wrong password, and is told the same.

        Args:
            address: Where the person is, as far as we know.

        Raises:
            StoreError: PostgreSQL can not be asked; nothing has happened.
        """
        pair = name, address
        wait = self._backoff.wait(name, address, self._now())
        if self._trying[pair] >= AT_ONCE:
            wait = max(wait, timedelta(seconds=1))
        if wait:
            self._observe("slowed")
            return NotNow("too_many_failures", wait)
        self._trying[pair] += 1
        try:
            return await self._checked(name, password, address)
        except PasswordsBusy:
            self._observe("busy")
            return NotNow("busy", timedelta(seconds=15))
        except StoreError:
            self._observe("unavailable")
            raise
        finally:
            self._trying[pair] -= 1
            if not self._trying[pair]:
                del self._trying[pair]

    async def change(
        self, session: Session, old: str, new: str, address: str
    ) -> tuple[str, Session] | NotNow:
        """Set one's own password, end all of one's sessions, and open another.

        Raises:
            StoreError: PostgreSQL can not be asked.
        """
        name = session.user.name
        if why := why_unfit(new, name=name) or ("the_old_one" if new == old else ""):
            return NotNow("unfit", detail=why)
        opened = await self.with_password(name, old, address)
        if isinstance(opened, NotNow):
            return opened
        await self._users.set_password(name, await self.passwords.encode(new), must_change=False, by=name)
        return await self.with_password(name, new, address)

    async def _checked(self, name: str, password: str, address: str) -> tuple[str, Session] | NotNow:
        encoded = await self._users.password_of(name)
        is_right = await self.passwords.is_right(password, encoded)
        secret, expires_at = new_token(), self._now() + SESSION_LASTS
        user = None
        if is_right and encoded:
            how = {"with": "password", "address": address}
            user = await self._users.open_session_of(name, encoded, hash_of(secret), expires_at, how)
        if user is None:
            return await self._failed(name, address)
        self._backoff.succeeded(name, address)
        self._observe("opened")
        return secret, self._sessions.opened(secret, user, expires_at)

    async def _failed(self, name: str, address: str) -> NotNow:
        count = self._backoff.failed(name, address, self._now())
        self._observe("refused")
        if count == PAIR.free:
            log.warning("passwords_are_guessed", user=name, address=address, failures=count)
        await self._audit.note("", "sign_in_refused", name, {"address": address})
        return NotNow("bad_password", self._backoff.wait(name, address, self._now()))
