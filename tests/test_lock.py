"""One daemon per state folder (F28)."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ctid.lock import HostLock
from lab.places import ROOT

HOLD = """
import asyncio, subprocess, sys
from pathlib import Path
from ctid.lock import HostLock
lock = HostLock(Path(sys.argv[1]))
assert asyncio.run(lock.acquire(asyncio.Event()))
lock.sign("first")
child = subprocess.Popen(["sleep", "60"], stdout=subprocess.DEVNULL)
print(child.pid, flush=True)
sys.stdin.read()
"""


async def test_the_second_waits_until_the_first_is_gone(tmp_path: Path) -> None:
    """F28: start twice on one host; the kernel lets the second in, however the first ended (F27)."""
    folder = tmp_path / "state"
    first = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert first.stdout is not None
    child = int(await asyncio.to_thread(first.stdout.readline))
    try:
        with HostLock(folder) as second:
            waiting = asyncio.create_task(second.acquire(asyncio.Event()))
            await asyncio.sleep(0.3)
            assert not waiting.done()
            assert second.state == f"standby: pid {first.pid} on this host has {folder / 'lock'}"
            first.kill()
            first.communicate()
            began = time.monotonic()
            assert await waiting
            assert time.monotonic() - began <= 0.5, "programs that the first started hold it still"
            assert second.predecessor == "first"
            assert second.state == ""
            second.sign("b")
            assert (folder / "lock").read_text() == f"{os.getpid()} b\n"
    finally:
        first.kill()
        os.kill(child, 9)


async def test_told_to_stop_while_waiting(tmp_path: Path) -> None:
    with HostLock(tmp_path) as first, HostLock(tmp_path) as second:
        assert await first.acquire(asyncio.Event())
        stop = asyncio.Event()
        waiting = asyncio.create_task(second.acquire(stop))
        await asyncio.sleep(0.05)
        stop.set()
        assert await waiting is False
        first.release()
        first.release()
        assert await second.acquire(asyncio.Event())


async def test_a_folder_that_can_not_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"Not a directory|File exists"), HostLock(tmp_path / "file") as lock:
        await lock.acquire(asyncio.Event())
