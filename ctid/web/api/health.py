"""Is ctid alive, and is it of use."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import msgspec
from aiohttp import web

from ctid.web.rights import Rights
from ctid.web.routes import Route, json
from ctid.web.sessions import Session


class Degraded(msgspec.Struct, frozen=True):
    """Not all is well, but ctid is of use all the same."""

    why: str


Check = Callable[[], Awaitable[str | Degraded]]
"""Returns why not; empty: all is well."""

CHECK_SECONDS: Final = 1.0


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """Ready or not.

    Attributes:
        checks: Name to "ok", to what is wrong, or to what is wrong but costs nothing yet ("degraded: ...").
    """

    ready: bool
    checks: dict[str, str]


class HealthApi:
    """``/healthz`` and ``/readyz``."""

    def __init__(self, checks: Mapping[str, Check]) -> None:
        self._checks = checks

    def routes(self) -> list[Route]:
        return [
            Route("GET", "/healthz", Rights.ANYONE, "Alive", self._alive),
            Route(
                "GET",
                "/readyz",
                Rights.ANYONE,
                "Leading, in sync with Asterisk, and the database reachable or spooling",
                self._ready,
                replies={200: ("ready", Health), 503: ("not ready, and why", Health)},
            ),
        ]

    async def _alive(self, _request: web.Request, _session: Session | None) -> web.StreamResponse:
        return json({"alive": True})

    async def _ready(self, _request: web.Request, _session: Session | None) -> web.StreamResponse:
        found = await asyncio.gather(*(_checked(check) for check in self._checks.values()))
        checks = {name: _said(why) for name, why in zip(self._checks, found, strict=True)}
        is_ready = not any(isinstance(why, str) and why for why in found)
        return json(Health(ready=is_ready, checks=checks), status=200 if is_ready else 503)


def _said(why: str | Degraded) -> str:
    return f"degraded: {why.why}" if isinstance(why, Degraded) else why or "ok"


async def _checked(check: Check) -> str | Degraded:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            return await check()
    except TimeoutError:
        return f"no answer within {CHECK_SECONDS:g} s"
