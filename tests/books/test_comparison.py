"""``ctid reconcile``: a day of recorded calls, held against the files that Asterisk would have written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from ctid.ami.events import Newchannel
from ctid.settings import Database
from ctid.store import facts as journal
from ctid.store.pool import Pool
from tests.books.test_ledger import TOLD, UNTOLD
from tests.books.test_translation import AGENTS
from tests.fakes_books import TRACES, recorded, write_books
from tests.fakes_facts import store_facts
from tests.fakes_gap import live

DAY = sorted(name for name in TOLD if name.startswith("22/") and name.partition("/")[2] not in UNTOLD)
POLICY = """
[site]
time_zone = "Asia/Shanghai"
country = "cn"
default_queue = "sales"
timeout = "60s"
language = "en"
record = true
[queues.sales]
skill = "sales"
[queues.support]
skill = "sales"
[lines.sales]
numbers = ["5001"]
business = "consultation"
queue = "sales"
hours = "always"
[hours.always]
always = true
"""


@dataclass
class Day:
    """Books, settings and a journal with what was concluded live."""

    config: Path
    cel: Path
    pool: Pool

    def reconcile(self, *arguments: str, zone: str = "UTC") -> subprocess.CompletedProcess[str]:
        """Run the command as a person would."""
        period = ["--since", "2026-11-22", "--until", "2026-11-23"] if "--since" not in arguments else []
        return subprocess.run(
            [sys.executable, "-m", "ctid", "reconcile", "--config", str(self.config), *period, *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "TZ": zone},
        )

    async def forget(self, sql: str) -> None:
        """Delete by hand, past the trigger that forbids it."""
        async with self.pool.transaction() as connection:
            await connection.execute("alter table fact disable trigger user")
            await connection.execute(sql)
            await connection.execute("alter table fact enable trigger user")


@pytest.fixture
async def day(pool: Pool, database: Database, tmp_path: Path) -> Day:
    (tmp_path / "log").mkdir()
    cel, queue_log = write_books(tmp_path / "log", *DAY)
    facts = [
        journal.decode(line) for name in DAY for line in (TRACES / f"{name}.facts").read_bytes().splitlines()
    ]
    await store_facts(
        pool, facts, system="ast22", boot=None, key_of=str, spool=uuid4(), numbers=range(1, len(facts) + 1)
    )
    (tmp_path / "policy.toml").write_text(
        POLICY
        + "".join(
            f'[agents.{number}]\nname = "{number}"\ninterfaces = ["{phone}"]\nskills = {{ sales = 5 }}\n'
            for phone, number in AGENTS.items()
        )
    )
    (tmp_path / "secret").write_text("x")
    config = tmp_path / "ctid.toml"
    config.write_text(
        f'policy = "policy.toml"\nstate_dir = "state"\n'
        f'[asterisk]\nqueue_log = "{queue_log}"\ncel = "{cel}"\n'
        f'[asterisk.account]\nusername = "ctid"\nsecret_file = "secret"\n'
        f'[database]\ndsn = "{database.dsn}"\n'
    )
    return Day(config, cel, pool)


async def test_a_day_without_differences(day: Day) -> None:
    """F40: nothing lost: no line but the sum, exit 0."""
    done = day.reconcile()
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1
    calls = len({record.linkedid for name in DAY for record in recorded(name)[0]})
    assert done.stdout.startswith(f"0 differences in {calls} calls and ")
    assert done.returncode == 0


async def test_one_fact_deleted_by_hand(day: Day) -> None:
    """F40: its number is missing: exactly one line says where."""
    await day.forget("delete from fact where number = 17")
    done = day.reconcile()
    told = [line for line in done.stdout.splitlines() if line.startswith("journal")]
    assert len(told) == 1
    assert "after number 16 of " in told[0]
    assert "a fact is missing" in told[0]
    assert "1 differences in " in done.stdout
    assert done.returncode == 1


async def test_one_stay_deleted_by_hand(day: Day) -> None:
    """F40: a row of a derived table is missing: exactly one line, with the call's id."""
    call = await day.pool.fetchval(
        "select call from queue_visit where queue = 'support' and outcome = 'answered' order by call limit 1"
    )
    await day.pool.execute("delete from queue_visit where call = $1 and queue = 'support'", call)
    done = day.reconcile()
    told = [line for line in done.stdout.splitlines() if line.startswith("visits")]
    assert len(told) == 1
    assert call in told[0]
    assert "the stay in the queue is missing (answered)" in told[0]
    assert done.returncode == 1


async def test_one_queue_only(day: Day) -> None:
    await day.pool.execute("delete from queue_visit")
    sales, support = day.reconcile("--queue", "sales"), day.reconcile("--queue", "support")
    assert "missing" in support.stdout
    assert 0 < support.stdout.count("visits") < sales.stdout.count("visits")
    assert day.reconcile("--queue", "nowhere").returncode == 0


async def test_as_json(day: Day) -> None:
    await day.pool.execute("delete from talk where call = (select min(call) from talk)")
    done = day.reconcile("--json")
    outcome = json.loads(done.stdout)
    assert {one["ledger"] for one in outcome["differences"]} == {"talks"}
    assert (outcome["open"], outcome["unread"], outcome["holes"]) == (0, 0, [])
    assert done.returncode == 1


async def test_a_call_that_the_books_do_not_have(day: Day) -> None:
    """F40: a call too many is told, too."""
    await day.pool.execute(
        "insert into call (system, call, began_at, ended_at)"
        " select system, 'ast22-1795365000.9999', began_at, ended_at from call limit 1"
    )
    done = day.reconcile()
    assert "a call that the books do not have" in done.stdout
    assert done.returncode == 1


@pytest.mark.parametrize("zone", ["Asia/Shanghai", "America/New_York"])
async def test_periods_are_local_time(day: Day, zone: str) -> None:
    """F40: who says eight o'clock means his own eight o'clock."""
    first = min(one.at for name in DAY for one in live(name) if isinstance(one, Newchannel))
    last = max(record.at for name in DAY for record in recorded(name)[0])
    begin, end = (at.astimezone(_zone(zone)) for at in (first, last))
    whole = day.reconcile(
        "--since", f"{begin:%F %H:%M}", "--until", f"{end:%F} 23:59:59", "--json", zone=zone
    )
    before = day.reconcile("--since", "2026-11-01", "--until", f"{begin:%F %H:%M}", "--json", zone=zone)
    assert json.loads(whole.stdout)["calls"] > 40
    assert json.loads(before.stdout)["calls"] == 0
    assert datetime.fromisoformat(json.loads(whole.stdout)["since"]) == begin.replace(second=0, microsecond=0)


def _zone(name: str) -> object:
    from zoneinfo import ZoneInfo

    return ZoneInfo(name)


async def test_what_is_not_over_is_left_out(day: Day, tmp_path: Path) -> None:
    """F40: a call that is still going on is no difference."""
    records, _ = recorded("22/answered")
    cut = [line for line in day.cel.read_text().splitlines(keepends=True) if "LINKEDID_END" not in line]
    assert len(records) > 10
    day.cel.write_text("".join(cut))
    done = day.reconcile()
    assert "are not over" in done.stdout
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--since", "2026-11-23", "--until", "2026-11-22"], "is not before --until"),
        (["--since", "yesterday"], "does not match"),
    ],
)
async def test_a_period_that_is_none(day: Day, arguments: list[str], told: str) -> None:
    done = day.reconcile(*arguments)
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode == 2


async def test_an_unreadable_book(day: Day) -> None:
    """F42: the book is not there: exit 2, and what to do."""
    day.cel.unlink()
    done = day.reconcile()
    assert str(day.cel) in done.stderr
    assert "let ctid read it" in done.stderr
    assert done.returncode == 2


async def test_no_books_at_all(day: Day) -> None:
    text = day.config.read_text()
    day.config.write_text("\n".join(line for line in text.splitlines() if not line.startswith("queue_log")))
    text = day.config.read_text().replace("[asterisk]\n", '[asterisk]\nqueue_log = ""\n')
    day.config.write_text(text)
    done = day.reconcile()
    assert "name both files to compare with" in done.stderr or "asterisk.cel" in done.stderr
    assert done.returncode == 2


async def test_postgresql_is_away(day: Day) -> None:
    """F16: it can not be told whether anything differs: that is not the answer "it differs"."""
    day.config.write_text(
        day.config.read_text().replace("/test_", "/nowhere_").replace("dbname=test_", "dbname=nowhere_")
    )
    done = day.reconcile()
    assert "Traceback" not in done.stderr
    assert done.returncode == 2


async def test_a_damaged_book_is_told(day: Day) -> None:
    """B60: a place that can not be read is counted, and the rest compared."""
    with day.cel.open("ab") as book:
        book.write(b"\0" * 300)
        book.write(b'"HANGUP","torn')
    done = day.reconcile()
    assert "could not be read" in done.stdout
    assert done.returncode == 0


def test_the_day_is_a_day() -> None:
    """The traces of one version were recorded on one day, in this time zone too."""
    days = {record.at.astimezone(UTC).date() for name in DAY for record in recorded(name)[0]}
    assert days == {datetime(2026, 11, 22, tzinfo=UTC).date()}
