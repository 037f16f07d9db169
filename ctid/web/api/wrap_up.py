"""Ending the wrap-up: the note is saved."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from ctid.errors import AsteriskError, LogUnavailable
from ctid.web.rights import Rights
from ctid.web.routes import Problem, Route, refused
from ctid.web.sessions import Session

EndWrapUp = Callable[[str], Awaitable[bool]]
"""Takes the agent's number; False: he was not wrapping up. May raise ``AsteriskError``."""


class WrapUpApi:
    """``/api/v1/agents/{agent}/wrap-up/end``."""

    def __init__(self, end_wrap_up: EndWrapUp) -> None:
        self._end_wrap_up = end_wrap_up

    def routes(self) -> list[Route]:
        return [
            Route(
                "POST",
                "/api/v1/agents/{agent}/wrap-up/end",
                Rights.OWN_AGENT,
                "End an agent's wrap-up: he can be offered the next call",
                self._end,
                replies={
                    204: ("ended", None),
                    409: ("he was not wrapping up", Problem),
                    503: ("Asterisk can not be told now", Problem),
                },
            )
        ]

    async def _end(self, request: web.Request, _session: Session | None) -> web.StreamResponse:
        agent = request.match_info["agent"]
        try:
            if await self._end_wrap_up(agent):
                return web.Response(status=204)
        except AsteriskError:
            return refused(503, "exchange_unavailable", "Asterisk does not answer; try again in a moment")
        except LogUnavailable:
            return refused(503, "disk_unavailable", "this can not be written down now; try again in a moment")
        return refused(409, "not_wrapping_up", f"agent {agent} is not wrapping up")
