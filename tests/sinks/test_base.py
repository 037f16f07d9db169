"""The outbox: in order, at least once, never blocking, never losing in silence."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from ctid.acd.facts import Fact, Resynchronised
from ctid.errors import SinkUnavailable
from ctid.sinks.base import Outbox
from tests.fakes_facts import BEGIN, seconds


def numbered(number: int) -> Resynchronised:
    return Resynchronised(at=BEGIN + seconds(number), corrections=number)


class ListSink:
    """Keeps what it gets; refuses as often as told to, and may be slow."""

    name = "list"

    def __init__(self, *, refusals: int = 0) -> None:
        self.refusals = refusals
        self.batches: list[list[Fact]] = []
        self.open = asyncio.Event()
        self.open.set()

    async def write(self, facts: Sequence[Fact]) -> None:
        if self.refusals:
            self.refusals -= 1
            raise SinkUnavailable("not now")
        await self.open.wait()
        self.batches.append(list(facts))

    @property
    def facts(self) -> list[Fact]:
        return [fact for batch in self.batches for fact in batch]


async def delivered(outbox: Outbox) -> None:
    """Run the outbox until it is empty."""
    async with asyncio.timeout(5):
        running = asyncio.create_task(outbox.run())
        try:
            await outbox.drained()
        finally:
            running.cancel()


async def test_delivers_in_order_and_in_batches() -> None:
    sink = ListSink()
    outbox = Outbox(sink, batch=4)
    for number in range(10):
        outbox.put(numbered(number))
    assert outbox.pending == 10
    await delivered(outbox)
    assert sink.facts == [numbered(number) for number in range(10)]
    assert [len(batch) for batch in sink.batches] == [4, 4, 2]
    assert outbox.pending == 0


async def test_tries_the_same_batch_again() -> None:
    sink = ListSink(refusals=3)
    outbox = Outbox(sink, batch=4, retry_seconds=(0.001, 0.01))
    for number in range(6):
        outbox.put(numbered(number))
    await delivered(outbox)
    assert sink.facts == [numbered(number) for number in range(6)]


async def test_tells_of_every_fact_dropped_for_room_oldest_first() -> None:
    dropped: list[tuple[str, Fact]] = []
    sink = ListSink()
    outbox = Outbox(sink, limit=3, on_drop=lambda name, fact: dropped.append((name, fact)))
    for number in range(5):
        outbox.put(numbered(number))
    assert dropped == [("list", numbered(0)), ("list", numbered(1))]
    await delivered(outbox)
    assert sink.facts == [numbered(2), numbered(3), numbered(4)]


async def test_what_is_dropped_while_the_sink_is_busy_is_not_taken_for_delivered() -> None:
    dropped: list[Fact] = []
    sink = ListSink()
    outbox = Outbox(sink, limit=4, batch=2, on_drop=lambda name, fact: dropped.append(fact))
    sink.open.clear()
    running = asyncio.create_task(outbox.run())
    for number in range(4):
        outbox.put(numbered(number))
    await asyncio.sleep(0)  # the sink has 0 and 1 in hand
    await asyncio.sleep(0)
    for number in range(4, 7):
        outbox.put(numbered(number))  # makes room by dropping 0, 1 and 2
    sink.open.set()
    async with asyncio.timeout(5):
        await outbox.drained()
    running.cancel()
    assert set(sink.facts) | set(dropped) == {numbered(number) for number in range(7)}
    assert [fact for fact in sink.facts if fact not in dropped] == [numbered(n) for n in (3, 4, 5, 6)]
    assert outbox.pending == 0


async def test_a_cancelled_outbox_keeps_what_was_not_delivered() -> None:
    sink = ListSink()
    outbox = Outbox(sink)
    sink.open.clear()
    running = asyncio.create_task(outbox.run())
    outbox.put(numbered(1))
    await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert outbox.pending == 1
    sink.open.set()
    await delivered(outbox)
    assert sink.facts == [numbered(1)]
