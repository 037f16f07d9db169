"""A day with every fault in it, compared by ``ctid reconcile`` with Asterisk's own books."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.faults.campaigns import CAMPAIGNS
from tests.faults.rig import Rig

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

FAULTS = ("ctid-kill", "pg-stop", "ami-reset", "commit-cut", "frame-loss", "ctid-freeze", "asterisk-kill")


async def reconciled(rig: Rig, since: datetime, *words: str) -> tuple[int, dict[str, Any]]:
    """Run the command; return its exit code and what it found."""
    when = since.astimezone().strftime("%Y-%m-%dT%H:%M:%S")
    done = await asyncio.to_thread(rig.daemon.command, "reconcile", "--since", when, "--json", *words)
    assert done.returncode in (0, 1), done.stderr
    return done.returncode, json.loads(done.stdout)


async def by_hand(rig: Rig, sql: str) -> str:
    """Change the database as somebody with every right would."""
    connection = await asyncpg.connect(rig.dsn)
    try:
        async with connection.transaction():
            await connection.execute("set local session_replication_role = replica")  # no triggers
            return str(await connection.execute(sql))
    finally:
        await connection.close()


async def test_a_day_of_faults_has_no_difference_and_a_deleted_row_is_one(tmp_path: Path) -> None:
    """F02, F03, F09, F12, F13, F25, F26 in one day: 0 differences; then exactly what is taken away."""
    since = datetime.now(UTC) - timedelta(seconds=2)
    async with Rig(tmp_path, seed=20_262) as rig:
        for name in FAULTS:
            rig.call(rate=4, seconds=5)
            await asyncio.sleep(1.5)
            await CAMPAIGNS[name].strike(rig)
        await rig.quiet()
        assert await rig.audited(within=60) == []
        rig.assert_lively()

        code, found = await reconciled(rig, since)
        assert (code, found["differences"], found["holes"], found["open"]) == (0, [], [], 0)
        assert found["calls"] > 80
        assert found["visits"] > 80

        one = "select ctid from fact where spool is not null order by random() limit 1"
        assert await by_hand(rig, f"delete from fact where ctid = ({one})") == "DELETE 1"
        code, found = await reconciled(rig, since)
        assert (code, found["differences"]) == (1, [])
        assert [hole["count"] for hole in found["holes"]] == [1]

        gone = (
            "delete from queue_visit where ctid = (select ctid from queue_visit where queue = 'load' limit 1)"
        )
        assert await by_hand(rig, gone) == "DELETE 1"
        code, found = await reconciled(rig, since, "--queue", "load")
        assert code == 1
        (told,) = found["differences"]
        assert (told["ledger"], told["queue"]) == ("visits", "load")
        assert (await reconciled(rig, since, "--queue", "lonely"))[0] == 0
