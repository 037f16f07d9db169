"""Each kind of difference between our tables and the books is found once, and mended for good."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import pytest

from ctid.acd.facts import Fact
from ctid.books.company import Company
from ctid.books.groups import Groups
from ctid.books.ledger import Difference, differences
from ctid.store import facts as journal
from ctid.store.ledger import rows_of
from ctid.store.pool import Pool
from tests.books.test_translation import AGENTS, NAMES, NOT_LET_IN, RULES
from tests.fakes_books import TRACES, WITHOUT_QUEUE_LOG, recorded
from tests.fakes_facts import store_facts

TOLD = sorted(set(NAMES) - WITHOUT_QUEUE_LOG)
#: Before the dialplan wrote QUEUESTATUS into CEL; and Asterisk's end, which no AMI of the time told.
UNTOLD = {*NOT_LET_IN, "zz_restart"}


async def write(pool: Pool, name: str, facts: Sequence[Fact]) -> None:
    system = f"ast{name.partition('/')[0]}"
    await store_facts(pool, facts, system=system, boot=None, key_of=str)


async def know(pool: Pool, name: str) -> None:
    """Write down what was concluded live."""
    golden = (TRACES / f"{name}.facts").read_bytes().splitlines()
    await write(pool, name, [journal.decode(line) for line in golden])


async def compare(pool: Pool, name: str) -> list[Difference]:
    """Hold the tables against the books of a trace."""
    groups = Groups()
    groups.add(*recorded(name))
    company = Company(groups, AGENTS)
    found: list[Difference] = []
    for group in groups:
        rows = await rows_of(pool, system=f"ast{name.partition('/')[0]}", calls=sorted(group.calls))
        found += differences(company.facts_of(group, RULES), rows)
    return found


async def mend(pool: Pool, name: str, found: Sequence[Difference]) -> None:
    await write(pool, name, [fact for one in found for fact in one.repair])


async def test_no_trace_differs(pool: Pool) -> None:
    """F39: what AMI told and what the books tell of the same calls is the same, in every table."""
    found = {}
    for name in TOLD:
        if name.partition("/")[2] not in UNTOLD:
            await know(pool, name)
            found[name] = [one.what for one in await compare(pool, name)]
    assert {name: what for name, what in found.items() if what} == {}


async def test_nothing_known_is_mended_whole(pool: Pool) -> None:
    """F39: of a day without ctid everything that the books know comes back, and stays."""
    for name in TOLD:
        if name.partition("/")[2] not in UNTOLD:
            found = await compare(pool, name)
            assert found
            assert all(one.repair for one in found)
            await mend(pool, name, found)
            assert await compare(pool, name) == [], name


DAMAGE = [
    ("calls", "delete from call", "the call is missing"),
    ("calls", "update call set ended_at = null", "not at all here"),
    ("calls", "update call set ended_at = ended_at + interval '3 seconds'", "ended "),
    ("calls", "update call set participants = '{PJSIP/1001}'", "took part: "),
    ("calls", "update call set end_reason = 'unseen'", "seen by Asterisk alone"),
    ("calls", "update call set end_reason = 'asterisk_lost'", "its end is hangup, not asterisk_lost"),
    ("calls", "update call set adopted = true, began_at = began_at + interval '2 seconds'", "began "),
    ("visits", "delete from queue_visit", "the stay in the queue is missing (answered)"),
    ("visits", "update queue_visit set outcome = null, left_at = null", "ended as answered, not at all here"),
    ("visits", "update queue_visit set outcome = 'unknown_end'", "ended as answered, not unknown_end"),
    ("visits", "update queue_visit set outcome = 'abandoned', agent = ''", "answered, not abandoned"),
    ("visits", "update queue_visit set agent = '1002'", "answered by 1001, not 1002"),
    ("visits", "update queue_visit set left_at = left_at + interval '2 seconds'", "left "),
    (
        "visits",
        "update queue_visit set joined_at = date_trunc('second', joined_at), outcome = 'unknown_end'",
        "ended as answered, not unknown_end",
    ),
    ("offers", "delete from offer", "the ringing is missing (answered)"),
    ("offers", "update offer set outcome = null, ended_at = null", "ended as answered, not at all"),
    ("offers", "update offer set outcome = 'unknown_end'", "ended as answered, not unknown_end"),
    ("talks", "delete from talk", "the talk of 1001 is missing"),
    ("talks", "update talk set ended_at = null, ended_by = null", "the talk of 1001 ended "),
    ("talks", "update talk set ended_by = 'unknown_end'", "ended by caller, not unseen"),
    ("talks", "update talk set ended_at = ended_at + interval '2 seconds'", "the talk of 1001 ended "),
]


@pytest.mark.parametrize(("ledger", "sql", "what"), DAMAGE)
async def test_damage_is_found_once_and_mended(pool: Pool, ledger: str, sql: str, what: str) -> None:
    """F39, F40: one row is wrong: one difference, in the right ledger, and its repair leaves none."""
    await know(pool, "22/answered")
    await pool.execute(sql)
    (found,) = await compare(pool, "22/answered")
    assert found.ledger == ledger
    assert what in found.what
    assert found.repair
    await mend(pool, "22/answered", [found])
    assert await compare(pool, "22/answered") == []


@pytest.mark.parametrize(
    ("table", "column"), [("queue_visit", "outcome"), ("offer", "outcome"), ("talk", "ended_by")]
)
async def test_what_was_mended_is_not_undone(pool: Pool, table: str, column: str) -> None:
    """F39: the facts of AMI, written late, do not win over what the books said."""
    await know(pool, "22/answered")
    await pool.execute(f"update {table} set {column} = 'unknown_end'")
    await mend(pool, "22/answered", await compare(pool, "22/answered"))
    before = await pool.fetch(f"select * from {table}")
    await know(pool, "22/answered")
    assert await pool.fetch(f"select * from {table}") == before


LIES = [
    ("visits", "queue_visit", "queue, joined_at", "'support', joined_at", "a stay from "),
    ("talks", "talk", "leg, began_at", "'ast22-1.1', began_at", "a talk from "),
    ("offers", "offer", "leg", "'ast22-1.1'", "a ringing ("),
]


@pytest.mark.parametrize(("ledger", "table", "columns", "values", "what"), LIES)
async def test_what_the_books_do_not_have_only_a_person_can_judge(
    pool: Pool, ledger: str, table: str, columns: str, values: str, what: str
) -> None:
    """F39: a row too many is a difference without a repair."""
    await know(pool, "22/answered")
    names = await pool.fetch(
        "select column_name from information_schema.columns where table_name = $1 and is_generated = 'NEVER'",
        table,
    )
    own = {name.strip() for name in columns.split(",")}
    rest = ", ".join(str(row["column_name"]) for row in names if row["column_name"] not in own)
    await pool.execute(f"insert into {table} ({columns}, {rest}) select {values}, {rest} from {table}")
    (found,) = await compare(pool, "22/answered")
    assert (found.ledger, found.repair) == (ledger, ())
    assert found.what.startswith(what)


async def test_a_merge_that_was_missed(pool: Pool) -> None:
    """F39: which call a consult call became part of."""
    name = "22/attended_transfer_refer"
    await know(pool, name)
    await pool.execute("update call set merged_into = null")
    (found,) = await compare(pool, name)
    assert "became part of" in found.what
    await mend(pool, name, [found])
    assert await compare(pool, name) == []


async def test_a_second_of_difference_is_none(pool: Pool) -> None:
    """L1 of the design allows a second: clocks and threads are no contradiction."""
    await know(pool, "22/answered")
    await pool.execute("update call set ended_at = ended_at + $1", timedelta(milliseconds=900))
    await pool.execute("update talk set ended_at = ended_at + $1", timedelta(milliseconds=900))
    assert await compare(pool, "22/answered") == []


async def test_two_visits_of_one_queue_are_two(pool: Pool) -> None:
    """The same caller in the same queue again: each stay finds its own row."""
    name = "22/two_callers_positions"
    await know(pool, name)
    await pool.execute("delete from queue_visit where ctid = (select max(ctid) from queue_visit)")
    (found,) = await compare(pool, name)
    assert found.ledger == "visits"
    await mend(pool, name, [found])
    assert await compare(pool, name) == []
