"""Exit codes and deadlines of the whole life of a daemon, without an Asterisk."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ctid.settings import Database
from ctid.store.pool import Pool
from lab.daemon import Daemon, free_port, toml
from lab.floor import policy_table
from lab.places import ROOT
from lab.postgres import PrivatePostgres


@pytest.fixture
async def daemon(tmp_path: Path, database: Database) -> AsyncIterator[Daemon]:
    """A daemon whose Asterisk is away for good."""
    secret = tmp_path / "secret"
    secret.write_text("unheard")
    account = {"username": "ctid", "secret_file": str(secret)}
    daemon = Daemon(
        tmp_path / "ctid",
        asterisk={"port": free_port(), "account": account, "recordings": str(tmp_path)},
        dsn=database.address().get_secret_value(),
        policy=toml(policy_table()),
    )
    yield daemon
    await daemon.kill()


async def until_answers(daemon: Daemon, text: str) -> str:
    async with asyncio.timeout(15):
        while True:
            _, said = await daemon.answer("/readyz")
            if text in said:
                return said
            await asyncio.sleep(0.02)


async def test_a_stop_is_quick_with_nothing_there(daemon: Daemon, postgres: PrivatePostgres) -> None:
    """F27: neither Asterisk nor PostgreSQL is there: exit 0 within 10 s."""
    await daemon.start(ready=False)
    await until_answers(daemon, '"leader":"ok"')
    await asyncio.to_thread(postgres.stop, "immediate")
    began = time.monotonic()
    assert await daemon.stop() == 0
    assert time.monotonic() - began <= 10


async def test_another_epoch_ends_it_with_75(daemon: Daemon, database: Database) -> None:
    """F28: the row has an epoch that is not its own: it ends within 5 s, and with 75."""
    await daemon.start(ready=False)
    await until_answers(daemon, '"leader":"ok"')
    async with Pool(database) as pool:
        await pool.execute("update leader set epoch = epoch + 1, holder = 'x', beat_at = clock_timestamp()")
    began = time.monotonic()
    assert await daemon.ended(10) == 75
    assert time.monotonic() - began <= 5


async def test_a_state_folder_that_can_not_be_written(daemon: Daemon) -> None:
    (daemon.folder / "state").rmdir()
    (daemon.folder / "state").touch()
    await daemon.start(ready=False)
    assert await daemon.ended(15) == 1
    assert "can not start" in daemon.log_tail()


def test_not_even_a_stuck_disk_keeps_the_process() -> None:
    """F27: a thread that never comes back, as one in an ``fdatasync`` on a dead disk, is left behind."""
    program = """
import asyncio, threading
from ctid import serve

async def main():
    stuck = asyncio.create_task(asyncio.to_thread(threading.Event().wait))
    await asyncio.sleep(0)
    serve._end_at_the_latest(0.3, 75)

asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, timeout=20, check=False)
    assert done.returncode == 75
