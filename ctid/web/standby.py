"""What a daemon that stands by answers: alive, but not ready, and who leads instead."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from ctid.settings import Web
from ctid.web.api.health import HealthApi
from ctid.web.gate import add_headers
from ctid.web.routes import Route
from ctid.web.server import Listener

ASKERS: Final = 16
"""Connections at once; a load balancer or two."""


class StandbyServer:
    """``/healthz`` and ``/readyz`` on the port that the pages will have.

    Args:
        settings: ``settings.web``.
        state: Returns who leads, in words.
    """

    def __init__(self, settings: Web, *, state: Callable[[], str]) -> None:
        async def leader() -> str:
            return state()

        application = web.Application(client_max_size=1024)
        application.on_response_prepare.append(add_headers)
        for route in HealthApi({"leader": leader}).routes():
            application.router.add_route(route.method, route.path, _open_to_all(route))
        self._listener = Listener(application, settings.host, settings.port, most=ASKERS)

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: The address is taken; on one host the leader has it.
        """
        await self._listener.start()

    async def close(self) -> None:
        """Stop listening."""
        await self._listener.close()


def _open_to_all(route: Route) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def answer(request: web.Request) -> web.StreamResponse:
        return await route.answer(request, None)

    return answer
