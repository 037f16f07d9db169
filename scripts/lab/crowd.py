"""Load: many short calls at once, so that a given number of events comes within a given time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from lab.channels import member_of
from lab.switchboard import Switchboard
from lab.truth import Truth

#: Seconds between two helpings.
HELPING: Final = 0.01


class Crowd:
    """As many callers as there are phones, again and again: all call, all ring, all talk, all go.

    Attributes:
        calls: How many began.
    """

    def __init__(self, board: Switchboard, truth: Truth, *, queue: str, phones: Sequence[str]) -> None:
        self.calls = 0
        self._board = board
        self._truth = truth
        self._queue = queue
        self._phones = phones

    async def play(
        self, events: int, seconds: float, *, tell: Callable[[], None], sent: Callable[[], int]
    ) -> dict[str, Any]:
        """Say at least ``events`` events within about ``seconds``; return how it went.

        Args:
            tell: Sends what was said.
            sent: How many events were sent so far, by anybody.
        """
        began, first = time.monotonic(), sent()
        wave = self._wave()
        while (done := sent() - first) < events:
            target = min(events, int(events * (time.monotonic() - began + HELPING) / seconds))
            while sent() - first < target:
                wave = self._more(wave)
                tell()
            behind = began + seconds * done / events - time.monotonic()
            await asyncio.sleep(max(0.0, min(HELPING, behind + HELPING)))
        for _ in wave:
            pass
        tell()
        return {"burst": sent() - first, "took": round(time.monotonic() - began, 3)}

    def _more(self, wave: Iterator[None]) -> Iterator[None]:
        """Play one more step, of a new wave if this one is over."""
        for _ in wave:
            return wave
        return self._wave()

    def _clock(self) -> None:
        self._board.at = max(self._board.at, datetime.now(UTC))

    def _wave(self) -> Iterator[None]:
        board, truth, queue = self._board, self._truth, self._queue
        callers, legs = [], []
        for _ in self._phones:
            self._clock()
            self.calls += 1
            caller = board.call(f"139{self.calls:08d}", exten="4002")
            callers.append(caller)
            truth.began("call", caller, board.at, call=caller)
            board.route(caller, queue, business="consultation")
            truth.began("visit", caller, board.at, call=caller, queue=queue)
            board.join(caller, queue)
            yield
        for caller, phone in zip(callers, self._phones, strict=True):
            self._clock()
            legs.append(board.ring(caller, phone))
            yield
        for caller, leg, phone in zip(callers, legs, self._phones, strict=True):
            self._clock()
            agent = member_of(phone)
            truth.ended("visit", caller, board.at, outcome="answered", agent=agent)
            truth.began("talk", leg, board.at, call=caller, leg=leg, agent=agent, queue=queue, assisted=False)
            board.answer(leg)
            yield
        for caller, leg in zip(callers, legs, strict=True):
            self._clock()
            truth.ended("talk", leg, board.at)
            board.hang_up(caller)
            truth.ended("call", caller, board.at)
            yield
