"""The floor, for programs; screens get it through the WebSocket."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from ctid.web.messages import FloorState
from ctid.web.rights import Rights
from ctid.web.routes import Route, json
from ctid.web.sessions import Session


class FloorApi:
    """``/api/v1/floor``."""

    def __init__(self, floor: Callable[[], FloorState]) -> None:
        self._floor = floor

    def routes(self) -> list[Route]:
        return [
            Route(
                "GET",
                "/api/v1/floor",
                Rights.SIGNED_IN,
                "Queues and agents as they are now",
                self._show,
                replies={200: ("the floor", FloorState)},
            )
        ]

    async def _show(self, _request: web.Request, _session: Session | None) -> web.StreamResponse:
        return json(self._floor())
