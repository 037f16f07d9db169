"""What an earlier run of ctid left open is closed once, and nothing that still lives."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from ctid.acd.facts import CallEnded, CallerLeft, Fact, OfferEnded, TalkEnded
from ctid.ami.events import ShownChannel, Snapshot
from ctid.leftovers import Leftovers
from ctid.store.pool import Pool
from tests.fakes_facts import BEGIN, answered_call, store_facts

LATER = BEGIN + timedelta(hours=1)


def snapshot(*calls: str) -> Snapshot:
    channels = tuple(ShownChannel(channel="PJSIP/x-1", uniqueid=call, linkedid=call) for call in calls)
    return Snapshot(at=LATER, boot=BEGIN, system="ast", channels=channels, queues=(), members=(), entries=())


async def write(pool: Pool, told: list[Fact]) -> None:
    await store_facts(pool, told, system="ast")


async def closed(pool: Pool, *live: str) -> list[Fact]:
    """Start anew an hour later, with ``live`` calls on the exchange."""
    put: list[Fact] = []

    async def written() -> None:
        """Nothing is in a spool."""

    leftovers = Leftovers(pool, {}, system=lambda: "ast", put=put.append, written=written, now=lambda: LATER)
    async with asyncio.timeout(10):
        task = asyncio.create_task(leftovers.run())
        leftovers.shown(snapshot(*live))
        await task
    return put


def until(told: list[Fact], kind: type[Fact]) -> list[Fact]:
    """The call as ctid knew it when it was killed, just before ``kind``."""
    stop = next(place for place, fact in enumerate(told) if isinstance(fact, kind))
    return told[:stop]


@pytest.mark.parametrize(
    ("killed_before", "closes"),
    [
        (CallEnded, {"CallEnded"}),
        (TalkEnded, {"CallEnded", "TalkEnded"}),
        (OfferEnded, {"CallEnded", "CallerLeft", "OfferEnded"}),
    ],
)
async def test_what_was_open_is_closed_at_the_last_instant_that_was_watched(
    pool: Pool, killed_before: type[Fact], closes: set[str]
) -> None:
    known = until(answered_call(1), killed_before)
    await write(pool, known)
    found = await closed(pool)
    assert {type(fact).__name__ for fact in found} == closes
    assert {fact.at for fact in found} == {max(fact.at for fact in known)}
    for fact in found:
        if isinstance(fact, CallerLeft | OfferEnded):
            assert fact.outcome == "unknown_end"
    await write(pool, found)
    assert await closed(pool) == []


async def test_a_call_that_still_lives_is_left_alone(pool: Pool) -> None:
    known = until(answered_call(1), TalkEnded)
    await write(pool, known)
    assert await closed(pool, known[0].call) == []


async def test_finished_calls_and_an_empty_journal_give_nothing(pool: Pool) -> None:
    assert await closed(pool) == []
    await write(pool, answered_call(1))
    assert await closed(pool) == []
