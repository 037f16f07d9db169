"""What ``agi://.../route`` answers: the policy, the floor, and who spoke with the caller before."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Final
from uuid import uuid4

import structlog

from ctid.agi.framing import AgiRequest
from ctid.errors import CtidError
from ctid.routing.decide import CallRequest, FloorView, decide, decide_open
from ctid.routing.policy import Policy

log = structlog.get_logger()

LOOK_UP: Final = 0.15
"""Seconds that the last agent may take to be found; half of what a decision may take."""

LastAgent = Callable[[str, datetime], Awaitable[str | None]]
"""Given the caller's number (normalised, not empty) and the earliest instant that counts,
tell the number of the agent who spoke with him last. May raise ``CtidError``, may be slow."""


class Router:
    """Decides requests by the policy.

    Args:
        policy: Replaced by ``adopt`` when people change it.
        floor: As last known; must not block.
        last_agent: Looks into the past; given up after ``LOOK_UP``.
        clock: The instant, aware.
        recording: Chooses the UUID of a recording.
    """

    def __init__(
        self,
        policy: Policy,
        floor: Callable[[], FloorView],
        last_agent: LastAgent,
        clock: Callable[[], datetime],
        *,
        recording: Callable[[], str] = lambda: str(uuid4()),
    ) -> None:
        self._policy = policy
        self._floor = floor
        self._last_agent = last_agent
        self._clock = clock
        self._recording = recording

    def adopt(self, policy: Policy) -> None:
        """Decide by ``policy`` from the next request on."""
        self._policy = policy

    async def route(self, request: AgiRequest) -> dict[str, str]:
        """Return the variables for one call: ``FastAgiServer``'s ``route``."""
        policy, now = self._policy, self._clock()
        call = CallRequest(
            dialled=request.dialled,
            caller=request.caller,
            recording=self._recording(),
            last_agent=await self._who_spoke(policy, request, now),
        )
        return decide(policy, call, self._floor(), now).variables()

    def default(self, request: AgiRequest) -> dict[str, str]:
        """Return the line's plain route: ``FastAgiServer``'s ``default``."""
        call = CallRequest(dialled=request.dialled, recording=self._recording())
        return decide_open(self._policy, call).variables()

    async def _who_spoke(self, policy: Policy, request: AgiRequest, now: datetime) -> str | None:
        found = policy.line_of(request.dialled)
        caller = policy.number(request.caller)
        if not found or not caller or not (wanted := found[1].last_agent):
            return None
        try:
            async with asyncio.timeout(LOOK_UP):
                return await self._last_agent(caller, now - wanted.within)
        except (TimeoutError, CtidError) as error:
            log.warning("agi.last_agent_unknown", why=type(error).__name__)
            return None
