"""Passwords: argon2id, one at a time in a thread of its own, the same time for everybody.

Hashing is slow on purpose, and holds a core while it lasts. One thread does it all, so that
a morning on which two hundred people sign in at once costs the calls nothing.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

import argon2

from ctid.errors import PasswordsBusy

T = TypeVar("T")

SHORTEST: Final = 10
LONGEST: Final = 128
"""Characters."""
MOST_WAITING: Final = 300
"""Passwords in the queue, a quarter of a minute of them; further ones are told to come later."""

#: What is left out looks like something else on paper or on the telephone.
_LETTERS: Final = "abcdefghjkmnpqrstuvwxyz23456789"


class Passwords:
    """Hashes and checks passwords.

    The cost is the least that OWASP recommends (Password Storage Cheat Sheet: argon2id,
    19 MiB, two passes, one lane), about 40 ms of one core.
    """

    def __init__(self) -> None:
        self._hasher = argon2.PasswordHasher(
            time_cost=2, memory_cost=19 * 1024, parallelism=1, type=argon2.Type.ID
        )
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="passwords")
        self._nobodys = self._hasher.hash(secrets.token_urlsafe(16))
        self._waiting = 0

    async def encode(self, password: str) -> str:
        """Return what is stored of a password.

        Raises:
            PasswordsBusy: Nothing was done.
        """
        return await self._do(lambda: self._hasher.hash(password))

    async def is_right(self, password: str, encoded: str | None) -> bool:
        """Say whether a password is the one that was encoded.

        Args:
            encoded: ``None``: there is none, which takes as long to find out.

        Raises:
            PasswordsBusy: Nothing was done.
        """
        return await self._do(lambda: self._matches(password, encoded))

    def _matches(self, password: str, encoded: str | None) -> bool:
        try:
            matches = self._hasher.verify(encoded or self._nobodys, password)
        except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError, UnicodeError):
            return False
        return matches and encoded is not None

    async def _do(self, work: Callable[[], T]) -> T:
        if self._waiting >= MOST_WAITING:
            raise PasswordsBusy
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        finally:
            self._waiting -= 1


def why_unfit(password: str, *, name: str) -> str:
    """Say why a password is not good enough, as a code; empty: it is.

    Length is what counts (NIST SP 800-63B 5.1.1); rules about kinds of characters make people
    choose worse ones.
    """
    if len(password) < SHORTEST:
        return "too_short"
    if len(password) > LONGEST:
        return "too_long"
    if len(name) > 2 and name.casefold() in password.casefold():
        return "holds_the_name"
    if len(set(password)) < 5:
        return "too_simple"
    return ""


def first_password() -> str:
    """Return a password to be told to a person and changed by him: 70 bits, easy to read aloud."""
    letters = [secrets.choice(_LETTERS) for _ in range(14)]
    return "".join(letters[:5]) + "-" + "".join(letters[5:10]) + "-" + "".join(letters[10:])
