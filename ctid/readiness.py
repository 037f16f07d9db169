"""Whether ctid is of use now: what ``/readyz`` asks, one check per part."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from ctid.web.api.health import Check, Degraded

FRESH: Final = 1.0
"""Seconds; whoever asks again sooner gets the same answer, so asking can not wear PostgreSQL out."""
DATABASE_SECONDS: Final = 0.5
"""PostgreSQL may take so long; then it counts as away. Less than a check may take."""

Why = Callable[[], str]
"""Returns why not; empty: all is well. Does not wait."""


class Database:
    """PostgreSQL reachable: fine. Away, while the spool takes the facts: of use all the same.

    Args:
        ask: Returns why PostgreSQL is of no use; may be slow.
        spool: Why the spool takes nothing.
    """

    def __init__(self, ask: Callable[[], Awaitable[str]], spool: Why) -> None:
        self._ask = ask
        self._spool = spool
        self._asking: asyncio.Task[str] | None = None
        self._asked_at = float("-inf")

    async def __call__(self) -> str | Degraded:
        """Answer ``/readyz``."""
        why = await self._why()
        if why and not self._spool():
            return Degraded(why=f"{why}; facts wait in the spool")
        return why

    async def _why(self) -> str:
        now = asyncio.get_running_loop().time()
        if self._asking is None or (self._asking.done() and now - self._asked_at >= FRESH):
            self._asking, self._asked_at = asyncio.create_task(self._in_time()), now
        return await asyncio.shield(self._asking)

    async def _in_time(self) -> str:
        try:
            async with asyncio.timeout(DATABASE_SECONDS):
                return await self._ask()
        except TimeoutError:
            return f"no answer within {DATABASE_SECONDS:g} s"


def at_once(why: Why) -> Check:
    """Make a check of what needs no waiting."""

    async def check() -> str:
        return why()

    return check


def checks(
    *, asterisk: Why, ask_database: Callable[[], Awaitable[str]], spool: Why, loop: Why, leader: Why
) -> dict[str, Check]:
    """Return the checks of ``/readyz`` by name.

    Args:
        asterisk: Why we are not in step with Asterisk.
        ask_database: Why PostgreSQL is of no use; may be slow, may hang.
        spool: Why the spool takes nothing: full, or broken.
        loop: ``StallMonitor.why_not_ready``.
        leader: Why it is not for us to serve: another daemon leads.
    """
    return {
        "asterisk": at_once(asterisk),
        "database": Database(ask_database, spool),
        "spool": at_once(spool),
        "loop": at_once(loop),
        "leader": at_once(leader),
    }
