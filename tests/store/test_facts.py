"""The journal: nothing twice, nothing lost, and every derived row follows from the facts."""

from __future__ import annotations

import itertools
import secrets
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ctid.acd.facts import Anomaly, CallerLeft, CallMerged, Fact
from ctid.errors import RowRefused, StaleEpoch
from ctid.store import derive, facts
from ctid.store.pool import Pool
from tests.fakes_facts import BEGIN, abandoned_call, answered_call, cut, floors, seconds, store_facts, uuid_of

DERIVED = ["call", "queue_visit", "offer", "talk", "handled_call", "transfer", "agent_state", "recording"]
BOOT = BEGIN - timedelta(days=1)


def key_of(number: str) -> str:
    return number.lstrip("0")


async def write(pool: Pool, batch: list[Fact]) -> int:
    return await store_facts(pool, batch, system="ast", boot=BOOT, key_of=key_of)


async def contents(pool: Pool, tables: list[str]) -> dict[str, list[Any]]:
    return {
        table: sorted(
            (tuple(row.items()) for row in await pool.fetch(f"select * from {table}")),
            key=repr,
        )
        for table in tables
    }


async def wipe(pool: Pool) -> None:
    """Empty every table; the journal lets only a superuser who turns its trigger off."""
    async with pool.transaction() as connection:
        await connection.execute("set local session_replication_role = replica")
        await connection.execute(f"truncate {', '.join(['fact', *DERIVED])}")


async def test_a_batch_written_again_changes_nothing(pool: Pool) -> None:
    batch = answered_call(1) + abandoned_call(2)
    assert await write(pool, batch) == len(batch)
    before = await contents(pool, ["fact", *DERIVED])
    assert await write(pool, batch) == 0
    assert await write(pool, batch + batch) == 0
    assert await contents(pool, ["fact", *DERIVED]) == before


async def test_a_fact_twice_in_one_batch_counts_once(pool: Pool) -> None:
    batch = answered_call(1)
    assert await write(pool, batch + batch) == len(batch)


async def test_what_was_told_first_stays(pool: Pool) -> None:
    """The journal and what is derived from it never part ways, even if somebody tells it differently."""
    told = [fact for fact in abandoned_call(1) if isinstance(fact, CallerLeft)]
    await write(pool, told)
    await write(pool, [msgspec.structs.replace(told[0], outcome="timeout")])
    assert await pool.fetchval("select outcome from queue_visit") == "abandoned"
    assert await pool.fetchval("select body->>'outcome' from fact") == "abandoned"


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    told=floors(most=4),
    places=st.lists(st.integers(0, 200), max_size=6),
    seed=st.randoms(use_true_random=False),
)
async def test_any_cut_any_order_and_any_repetition_lead_to_the_same_rows(
    pool: Pool, told: list[Fact], places: list[int], seed: Any
) -> None:
    await wipe(pool)
    await write(pool, told)
    expected = await contents(pool, DERIVED)
    await wipe(pool)
    batches = cut(told, places) * 2
    seed.shuffle(batches)
    for batch in batches:
        await write(pool, batch)
    assert await contents(pool, DERIVED) == expected


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(told=floors(most=4))
async def test_derived_rows_can_be_made_anew_from_the_journal(pool: Pool, told: list[Fact]) -> None:
    await wipe(pool)
    await write(pool, told)
    expected = await contents(pool, DERIVED)
    await pool.execute(f"truncate {', '.join(DERIVED)}")
    kept = [facts._DECODER.decode(row["body"]) for row in await pool.fetch("select body from fact")]
    async with pool.transaction() as connection:
        for sql, rows in derive.rows("ast", kept, key_of):
            await connection.executemany(sql, rows)
    assert await contents(pool, DERIVED) == expected


async def test_facts_come_back_as_they_went(pool: Pool) -> None:
    batch = answered_call(3)
    await write(pool, batch)
    call = batch[0].call
    back = await facts.of_call(pool, system="ast", call=call)
    assert sorted(back, key=repr) == sorted((fact for fact in batch if fact.call == call), key=repr)
    assert await facts.of_call(pool, system="other", call=call) == []


async def test_a_killed_write_leaves_nothing_and_is_repeated(pool: Pool) -> None:
    batch = answered_call(1)
    async with pool.connection() as connection:
        begun = connection.transaction()
        await begun.start()
        await facts._insert(
            connection, [(None, *facts.storable(fact)) for fact in batch], facts.Origin(system="ast")
        )
        connection.terminate()  # as when ctid is killed half-way
    assert await contents(pool, ["fact"]) == {"fact": []}
    assert await write(pool, batch) == len(batch)


async def test_no_character_is_unstorable(pool: Pool) -> None:
    odd = 'NUL \0, backslash-u \\u0000, both \\\0, 王小明 🙂 " \n \x7f'
    await write(pool, [Anomaly(at=BEGIN, call="a\0b", kind="odd", what=odd)])
    [back] = await facts.of_call(pool, system="ast", call="a\ufffdb")
    assert isinstance(back, Anomaly)
    assert back.what == odd.replace("\0", "\ufffd")


async def test_a_value_that_can_not_be_stored_is_refused_whole(pool: Pool) -> None:
    too_long = Anomaly(at=BEGIN, kind=secrets.token_hex(10_000), what="too long for an index")
    with pytest.raises(RowRefused, match="index"):
        await write(pool, [*answered_call(1), too_long])
    assert await contents(pool, ["fact"]) == {"fact": []}


async def test_every_column_of_an_answered_call(pool: Pool) -> None:
    await write(pool, answered_call(1))
    [call] = await pool.fetch("select * from call")
    begin = BEGIN + seconds(0.25)
    up = begin + seconds(1 + 0.2 + 2.8)
    assert dict(call) == {
        "system": "ast",
        "call": "ast-1700000000.2",
        "leg": "ast-1700000000.2",
        "channel": "PJSIP/trunk-1",
        "caller_number": "013800138000",
        "caller_key": "13800138000",
        "caller_name": "王小明",
        "dialled": "4008",
        "adopted": False,
        "began_at": begin,
        "line": "hotline",
        "business": "repair",
        "vip": True,
        "recording": uuid_of(1),
        "ended_at": up + seconds(10),
        "lasted": seconds(14),
        "answered": True,
        "participants": ["PJSIP/201", "PJSIP/trunk"],
        "cause": 16,
        "cause_text": "Normal Clearing",
        "end_reason": "hangup",
        "merged_into": None,
        "recovered": False,
        "recovered_parts": [],
    }
    [visit] = await pool.fetch(
        "select outcome, waited, in_time, agent, first_ring_to_answer, source from queue_visit"
    )
    assert tuple(visit) == ("answered", seconds(3), True, "201", seconds(2.8), "inbound")
    [offer] = await pool.fetch(
        "select dial_delay, rang, rings, verdict, outcome, rang_at, ended_at from offer"
    )
    assert tuple(offer) == (seconds(0.1), seconds(2.8), 0.56, "within", "answered", up - seconds(2.8), up)
    [talk] = await pool.fetch("select began_at, ended_at, talked, held, holds, ended_by, assisted from talk")
    assert tuple(talk) == (up, up + seconds(10), seconds(8), seconds(2), 1, "caller", False)
    [handled] = await pool.fetch("select talked, held, wrapped, handled from handled_call")
    assert tuple(handled) == (seconds(8), seconds(2), seconds(6), seconds(16))
    [recording] = await pool.fetch(
        "select recording, call, began_at, stopped_at, expected, result from recording"
    )
    assert tuple(recording) == (uuid_of(1), "ast-1700000000.2", up, up + seconds(10), seconds(10), None)
    assert await pool.fetchval("select distinct boot from fact") == BOOT


async def test_a_merged_call_points_to_the_one_that_goes_on(pool: Pool) -> None:
    await write(pool, [CallMerged(at=BEGIN, call="a", merged="b")])
    assert [tuple(row) for row in await pool.fetch("select call, merged_into from call")] == [("b", "a")]


SPOOL = UUID(int=7)


async def spooled(pool: Pool, batch: list[Fact], first: int, **more: Any) -> int:
    numbers = range(first, first + len(batch))
    return await store_facts(
        pool, batch, system="ast", boot=BOOT, key_of=key_of, spool=SPOOL, numbers=numbers, **more
    )


async def unwritten(pool: Pool) -> list[tuple[int, str]]:
    rows = await pool.fetch("select number, why from fact_unwritten order by 1")
    return [(row["number"], row["why"]) for row in rows]


async def test_a_batch_whose_commit_got_no_answer_is_skipped(pool: Pool) -> None:
    """F13: written again, in any cut, it changes nothing, and nothing passes for a repetition."""
    batch = answered_call(1)
    assert await spooled(pool, batch, 1) == len(batch)
    before = await contents(pool, ["fact", "fact_unwritten", "spool", *DERIVED])
    assert await spooled(pool, batch, 1) == 0
    assert await spooled(pool, batch[3:9], 4) == 0
    assert await contents(pool, ["fact", "fact_unwritten", "spool", *DERIVED]) == before
    more = [*batch[-2:], *abandoned_call(5)]
    assert await spooled(pool, more, len(batch) - 1) == len(more) - 2
    assert await facts.position(pool, SPOOL) == len(batch) + len(more) - 2
    assert await unwritten(pool) == []
    assert await facts.position(pool, UUID(int=8)) == 0


async def test_every_number_is_accounted_for(pool: Pool) -> None:
    """F15: a fact that was there already, from an earlier life or twice in a batch, leaves its number."""
    batch = answered_call(1)
    await write(pool, batch[:3])
    assert await spooled(pool, [*batch, batch[0], batch[-1]], 1) == len(batch) - 3
    last = len(batch)
    assert await unwritten(pool) == [(number, "again") for number in (1, 2, 3, last + 1, last + 2)]
    origin = facts.Origin(system="ast", spool=SPOOL)
    for _ in range(2):
        await facts.refuse(pool, last + 3, "NUL \0", origin)
    assert (await unwritten(pool))[-1] == (last + 3, "refused")
    assert await facts.position(pool, SPOOL) == last + 3
    numbers = [row["number"] for row in await pool.fetch("select number from fact where number is not null")]
    assert sorted([*numbers, *(n for n, _ in await unwritten(pool))]) == list(range(1, last + 4))


async def test_an_old_epoch_writes_nothing(pool: Pool) -> None:
    """F28: neither facts, nor a position, nor a note."""
    lead = "insert into leader (name, epoch, holder, host, pid) values ($1, $2, '', '', 0)"
    await pool.execute(lead, "main", 5)
    await pool.execute(lead, "other", 4)
    for epoch in (4, 6):
        with pytest.raises(StaleEpoch):
            await spooled(pool, answered_call(1), 1, epoch=epoch)
        with pytest.raises(StaleEpoch):
            await facts.refuse(pool, 1, "", facts.Origin(system="", spool=SPOOL, epoch=epoch))
    empty = await contents(pool, ["fact", "fact_unwritten", "spool"])
    assert empty == {"fact": [], "fact_unwritten": [], "spool": []}
    await spooled(pool, answered_call(1), 1, epoch=5)
    await spooled(pool, abandoned_call(2), 100, epoch=4, leader="other")
    assert await pool.fetchval("select array_agg(distinct epoch order by epoch) from fact") == [4, 5]


def by_the_books(fact: Fact, **more: Any) -> Fact:
    return msgspec.structs.replace(fact, recovered=True, **more)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.randoms(use_true_random=False), places=st.lists(st.integers(0, 200), max_size=4))
async def test_what_is_recovered_is_never_overwritten(pool: Pool, seed: Any, places: list[int]) -> None:
    """F39: whatever comes first, in one batch or not, the books are right and the row says so."""
    await wipe(pool)
    told = answered_call(1)
    second = timedelta(seconds=1)
    books = [by_the_books(fact, at=fact.at + second) for fact in told if type(fact).__name__ == "CallEnded"]
    books += [
        by_the_books(fact, at=fact.at + second, outcome="abandoned", agent="")
        for fact in told
        if isinstance(fact, CallerLeft)
    ]
    both = told + books
    seed.shuffle(both)
    for batch in cut(both, places):
        await write(pool, batch)
    [call] = await pool.fetch("select ended_at, line, recovered, recovered_parts from call")
    assert tuple(call) == (books[0].at, "hotline", True, ["CallEnded"])
    [visit] = await pool.fetch("select left_at, outcome, agent, position, recovered_parts from queue_visit")
    assert tuple(visit) == (books[1].at, "abandoned", "", 1, ["CallerLeft"])
    assert await pool.fetchval("select count(*) from talk where recovered") == 0
    assert await pool.fetchval("select count(*) from fact where recovered") == 2


async def test_the_books_correct_a_fact_of_the_same_instant(pool: Pool) -> None:
    """F39: a guess that was right about when, and wrong about what."""
    [left] = [fact for fact in abandoned_call(1) if isinstance(fact, CallerLeft)]
    guess = msgspec.structs.replace(left, outcome="unknown_end")
    assert await write(pool, [guess]) == 1
    assert await write(pool, [by_the_books(left)]) == 1
    assert await write(pool, [by_the_books(left), guess]) == 0
    assert await pool.fetchval("select outcome from queue_visit") == "abandoned"


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
async def test_a_call_found_half_way_does_not_hide_its_beginning(pool: Pool, order: tuple[int, ...]) -> None:
    """F03: adopted after each of two restarts; the real beginning stays, or comes to light."""
    real = answered_call(1)[0]
    sights = [
        msgspec.structs.replace(real, at=real.at + timedelta(seconds=n), adopted=True, caller_number="")
        for n in (20, 40)
    ]
    every = [real, *sights]
    for place in order:
        await write(pool, [every[place]])
    [call] = await pool.fetch("select began_at, adopted, caller_number from call")
    assert tuple(call) == (real.at, False, "013800138000")
    await wipe(pool)
    for sight in sights if order[0] else reversed(sights):
        await write(pool, [sight])
    assert await pool.fetchval("select began_at from call") == sights[0].at


async def test_a_guess_never_replaces_what_was_seen(pool: Pool) -> None:
    """F08: an end that an earlier life saw, and a later one did not know of."""
    told = answered_call(1)
    later = timedelta(minutes=1)
    unknown = {"CallerLeft": "outcome", "OfferEnded": "outcome", "TalkEnded": "ended_by"}
    guesses = [
        msgspec.structs.replace(fact, at=fact.at + later, **{unknown[type(fact).__name__]: "unknown_end"})
        for fact in told
        if type(fact).__name__ in unknown
    ]
    [ended] = [fact for fact in told if type(fact).__name__ == "CallEnded"]
    guesses.append(msgspec.structs.replace(ended, at=ended.at + later, end_reason="unseen"))
    await write(pool, told)
    before = await contents(pool, DERIVED)
    assert await write(pool, guesses) == len(guesses) == 4
    assert await contents(pool, DERIVED) == before
    await wipe(pool)
    await write(pool, guesses)
    assert await pool.fetchval("select outcome from queue_visit") == "unknown_end"
    await write(pool, told)
    assert await contents(pool, DERIVED) == before


async def test_two_systems_do_not_mix(pool: Pool) -> None:
    batch = answered_call(1)
    for system in ("east", "west"):
        await store_facts(pool, batch, system=system, boot=None, key_of=key_of)
    assert await pool.fetchval("select count(*) from call") == 2


def half_hour(minutes: int) -> datetime:
    return BEGIN + timedelta(minutes=minutes)


async def test_the_queue_view_belongs_to_the_half_hour_of_joining(pool: Pool) -> None:
    await write(
        pool,
        [
            *answered_call(1),
            *answered_call(2, agent="202", rang=30, begin=half_hour(29)),  # answered in the next half-hour
            *abandoned_call(3, waited=3),
            *abandoned_call(4, waited=9, begin=half_hour(30)),
        ],
    )
    rows = await pool.fetch(
        "select began_at, offered, answered, abandoned, short_abandoned, in_time, missed, service_level,"
        " average_speed_of_answer, longest_wait from v_queue_interval order by 1"
    )
    assert [tuple(row) for row in rows] == [
        (half_hour(0), 3, 2, 1, 1, 1, 1, 0.5, seconds((3 + 30.2) / 2), seconds(30.2)),
        (half_hour(30), 1, 0, 1, 0, 0, 1, 0.0, None, seconds(9)),
    ]


async def test_the_other_views(pool: Pool) -> None:
    await write(pool, [*answered_call(1), *answered_call(9, rang=16), *abandoned_call(30, waited=9)])
    offers = await pool.fetch(
        "select agent, offers, answered, within, late, excluded, ring_rule from v_offer_interval order by 1"
    )
    assert [tuple(row) for row in offers] == [("201", 2, 2, 1, 1, 0, 0.5), ("202", 1, 0, 0, 0, 1, None)]
    [handled] = await pool.fetch(
        "select handled, talked, held, wrapped, average_handle_time from v_handled_interval"
    )
    assert tuple(handled) == (2, seconds(16), seconds(4), seconds(12), seconds(16))
    states = await pool.fetch("select state, began_at, ended_at, lasted from v_agent_state order by began_at")
    assert all(row["lasted"] == row["ended_at"] - row["began_at"] for row in states if row["ended_at"])
    assert [row["state"] for row in states if row["ended_at"] is None] == ["idle"]
