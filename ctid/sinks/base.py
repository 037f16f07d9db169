"""What a sink is, and the bounded queue in front of it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from ctid.acd.facts import Fact
from ctid.errors import SinkUnavailable


class Sink(Protocol):
    """A destination for facts. Slow or down is its problem, never the caller's."""

    name: str

    async def write(self, facts: Sequence[Fact]) -> None:
        """Deliver ``facts`` in order, at least once.

        Raises:
            SinkUnavailable: Nothing was delivered; safe to retry.
        """


class Outbox:
    """A bounded queue in front of one sink, and the only place where retry lives.

    Attributes:
        pending: Facts not yet delivered.
    """

    def __init__(
        self,
        sink: Sink,
        *,
        limit: int = 100_000,
        batch: int = 500,
        on_drop: Callable[[str, Fact], None] = lambda sink, fact: None,
        retry_seconds: tuple[float, float] = (0.05, 5.0),
    ) -> None:
        self.sink = sink
        self._facts: deque[Fact] = deque()
        self._limit = limit
        self._batch = batch
        self._on_drop = on_drop
        self._retry_seconds = retry_seconds
        self._filled = asyncio.Event()
        self._emptied = asyncio.Event()
        self._emptied.set()

    @property
    def pending(self) -> int:
        return len(self._facts)

    def put(self, fact: Fact) -> None:
        """Queue a fact; when full, give the oldest to ``on_drop``. Never blocks, never raises."""
        if len(self._facts) >= self._limit:
            self._on_drop(self.sink.name, self._facts.popleft())
        self._facts.append(fact)
        self._filled.set()
        self._emptied.clear()

    async def run(self) -> None:
        """Deliver for ever; a batch that fails is tried again, slower each time."""
        wait = self._retry_seconds[0]
        while True:
            await self._filled.wait()
            batch = [self._facts[i] for i in range(min(self._batch, len(self._facts)))]
            try:
                await self.sink.write(batch)
            except SinkUnavailable:
                await asyncio.sleep(wait)
                wait = min(wait * 2, self._retry_seconds[1])
                continue
            wait = self._retry_seconds[0]
            self._forget(batch)

    def _forget(self, delivered: Sequence[Fact]) -> None:
        # Some of these may have been dropped for room while the sink was busy.
        for fact in delivered:
            if self._facts and self._facts[0] is fact:
                self._facts.popleft()
        if not self._facts:
            self._filled.clear()
            self._emptied.set()

    async def drained(self) -> None:
        """Wait until everything put so far is delivered."""
        await self._emptied.wait()
