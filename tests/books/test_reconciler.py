"""The reconciler at work: files that Asterisk writes, a real PostgreSQL, and what is missing in between."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ctid.acd.facts import Fact
from ctid.books import reconciler as module
from ctid.books.reading import Reading
from ctid.books.reconciler import Reconciler
from ctid.store.pool import Pool
from tests.books.test_ledger import compare, know
from tests.books.test_translation import AGENTS, RULES
from tests.fakes_books import write_books
from tests.fakes_facts import store_facts
from tests.fakes_floor import Watched

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


class Bench:
    """A reconciler whose mended facts go straight into the journal."""

    def __init__(self, pool: Pool, folder: Path) -> None:
        self.pool = pool
        self.folder = folder
        self.put: list[tuple[Fact, bool]] = []
        self.mismatches: Mapping[str, int] = {}
        self.repaired: Counter[str] = Counter()
        self.is_settled = True
        self.is_deaf = False
        self.reading = Reading(
            folder / "ctid.csv", folder / "queue_log", checkpoint=folder / "books.json", since=LONG_AGO
        )
        self.reconciler = Reconciler(
            self.reading,
            pool,
            rules=lambda: RULES,
            agents=lambda: AGENTS,
            system=lambda: "ast22",
            is_settled=lambda: self.is_settled,
            put=lambda fact, is_counted: self.put.append((fact, is_counted)),
            noted=self,
            after=timedelta(0),
        )

    def ledger(self, mismatches: Mapping[str, int], repaired: Mapping[str, int]) -> None:
        self.mismatches = mismatches
        self.repaired.update(repaired)

    async def write(self) -> None:
        """What the journal does with mended facts, beside."""
        while True:
            if self.put and not self.is_deaf:
                facts = [fact for fact, _ in self.put]
                await store_facts(self.pool, facts, system="ast22", boot=None, key_of=str)
            await asyncio.sleep(0.01)

    async def until(self, is_so: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not is_so():
                await asyncio.sleep(0.01)

    def is_done(self) -> bool:
        """All that is over was compared."""
        return self.reading.groups.heard_at is not None and not list(self.reading.groups)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look more often than once a second: only the clock is another."""
    monkeypatch.setattr(module, "_EVERY_SECONDS", 0.05)
    monkeypatch.setattr(module, "_SAVE_SECONDS", 0.05)


@asynccontextmanager
async def working(pool: Pool, folder: Path):  # type: ignore[no-untyped-def]
    bench = Bench(pool, folder)
    tasks = [asyncio.create_task(work()) for work in (bench.reconciler.run, bench.write)]
    try:
        yield bench
    finally:
        for task in tasks:
            task.cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(outcome, asyncio.CancelledError), outcome
        bench.reading.close()


async def test_what_is_right_is_left_alone(pool: Pool, tmp_path: Path) -> None:
    await know(pool, "22/answered")
    write_books(tmp_path, "22/answered")
    async with working(pool, tmp_path) as bench:
        await bench.until(bench.is_done)
    assert bench.put == []
    assert set(bench.mismatches.values()) == {0}


async def test_a_missing_call_is_mended(pool: Pool, tmp_path: Path) -> None:
    """F39: of a call that we know nothing about, everything comes back, marked."""
    write_books(tmp_path, "22/answered")
    async with working(pool, tmp_path) as bench:
        await bench.until(bench.is_done)
    assert await compare(pool, "22/answered") == []
    assert all(fact.recovered for fact, _ in bench.put)
    # A call, a stay, an offer, a talk; our counters did not have them.
    assert bench.repaired == {"calls": 1, "visits": 1, "offers": 1, "talks": 1}
    first: dict[Fact, bool] = {}
    for fact, is_counted in bench.put:  # a slow PostgreSQL may be told twice
        first.setdefault(fact, is_counted)
    assert not any(first.values())
    assert set(bench.mismatches.values()) == {0}
    assert await pool.fetchval("select bool_and(recovered) from queue_visit")


async def test_it_is_counted_once_however_often_it_must_be_tried(pool: Pool, tmp_path: Path) -> None:
    """F39: while PostgreSQL does not have the mended facts yet they are put again, but counted once."""
    write_books(tmp_path, "22/answered")
    async with working(pool, tmp_path) as bench:
        bench.is_deaf = True
        await bench.until(lambda: len({is_counted for _, is_counted in bench.put}) == 2)
        bench.is_deaf = False
        await bench.until(bench.is_done)
    assert bench.repaired["calls"] == 1


async def test_a_contradiction_stands(pool: Pool, tmp_path: Path) -> None:
    """F40: a talk that the books do not have can not be mended: it is counted until a person did."""
    await know(pool, "22/answered")
    await pool.execute(
        "insert into talk (system, call, leg, began_at, queue, agent, interface)"
        " select system, call, 'ast22-9.9', began_at, queue, '1009', interface from talk"
    )
    write_books(tmp_path, "22/answered")
    async with working(pool, tmp_path) as bench:
        await bench.until(bench.is_done)
        await bench.until(lambda: bench.mismatches.get("talks") == 1)
    assert bench.put == []
    assert {ledger: count for ledger, count in bench.mismatches.items() if count} == {"talks": 1}


async def test_nothing_is_judged_before_all_is_written(pool: Pool, tmp_path: Path) -> None:
    """F39: while facts are still under way a missing row proves nothing."""
    write_books(tmp_path, "22/answered")
    async with working(pool, tmp_path) as bench:
        bench.is_settled = False
        await bench.until(lambda: len(list(bench.reading.groups)) > 0)
        await asyncio.sleep(0.3)
        assert bench.put == []
        await know(pool, "22/answered")
        bench.is_settled = True
        await bench.until(bench.is_done)
    assert bench.put == []


async def test_the_place_is_kept(pool: Pool, tmp_path: Path) -> None:
    """F25: the next life begins behind what was compared, and in front of what was not."""
    write_books(tmp_path, "22/answered")
    async with working(pool, tmp_path) as bench:
        await bench.until(bench.is_done)
        await asyncio.sleep(0.2)
    begun = await _first_mark(tmp_path)
    assert begun == []
    write_books(tmp_path, "22/record_mix")
    async with working(pool, tmp_path) as bench:
        await bench.until(bench.is_done)
    assert len({fact.call for fact, _ in bench.put}) == 1
    assert await compare(pool, "22/record_mix") == []


async def _first_mark(folder: Path) -> Sequence[object]:
    """Return what a new reading finds that nobody has compared."""
    reading = Reading(
        folder / "ctid.csv", folder / "queue_log", checkpoint=folder / "books.json", since=LONG_AGO
    )
    await reading.read()
    reading.close()
    return list(reading.groups)


async def test_a_call_under_way_is_read_again(pool: Pool, tmp_path: Path) -> None:
    """F25: the place stays in front of the oldest call that is not over."""
    cel, _ = write_books(tmp_path, "22/answered")
    whole = cel.read_text().splitlines(keepends=True)
    cel.write_text("".join(whole[:5]))
    async with working(pool, tmp_path) as bench:
        await bench.until(lambda: (tmp_path / "books.json").exists() and len(list(bench.reading.groups)) == 1)
        await asyncio.sleep(0.2)
    with cel.open("a") as book:
        book.writelines(whole[5:])
    async with working(pool, tmp_path) as bench:
        await bench.until(bench.is_done)
    assert await compare(pool, "22/answered") == []


async def test_a_call_without_an_end_is_forgotten_after_a_day(tmp_path: Path) -> None:
    """Memory is bounded although LINKEDID_END is not among the events in cel.conf."""
    cel, _ = write_books(tmp_path, "22/answered")
    kept = [line for line in cel.read_text().splitlines(keepends=True) if "LINKEDID_END" not in line]
    cel.write_text("".join(kept))
    reading = Reading(cel, tmp_path / "queue_log", checkpoint=tmp_path / "books.json", since=LONG_AGO)
    await reading.read()
    (group,) = reading.groups
    for hours, count in ((23, 1), (25, 0)):
        at = group.last_at + timedelta(hours=hours)
        with (tmp_path / "queue_log").open("a") as book:
            book.write(f"{int(at.timestamp())}|NONE|NONE|NONE|CONFIGRELOAD|\n")
        await reading.read()
        assert reading.due(at) == []
        assert len(list(reading.groups)) == count
    reading.close()


async def test_a_consultation_that_outlives_the_callers_call(pool: Pool, tmp_path: Path) -> None:
    """F39: the agent's call to a colleague is seen in the light of the one he had on hold, however long ago.

    Alone it would look like a talk of its own, which nobody had.
    """
    watched = Watched(RULES, {"PJSIP/1001": "1001", "PJSIP/1002": "1002"})
    board = watched.board
    for phone in ("PJSIP/1001", "PJSIP/1002"):
        board.login(phone, "sales")
    watched.snapshot()
    caller, phone = watched.talk("PJSIP/1001")
    board.hold(phone)
    own, other = board.consult(phone, "PJSIP/1002")
    board.wait(2)
    board.consulted(own, other)
    board.wait(2)
    board.hang_up(caller)
    watched.see()

    async def write() -> None:
        books: Any = board.books
        (tmp_path / "ctid.csv").write_text("".join(f"{line}\n" for line in books.cel))
        (tmp_path / "queue_log").write_text("".join(f"{line}\n" for line in books.queue_log))
        await store_facts(pool, watched.facts, system="ast22", boot=None, key_of=str)

    await write()
    async with working(pool, tmp_path) as bench:
        await bench.until(lambda: any(group.is_compared for group in bench.reading.groups))
        await asyncio.sleep(0.2)
        assert len(list(bench.reading.groups)) == 2
        board.wait(60)
        board.hang_up(own)
        watched.see()
        await write()
        await bench.until(bench.is_done)
    assert bench.put == []
    assert set(bench.mismatches.values()) == {0}
