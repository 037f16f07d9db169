"""The unit, and what systemd is told: ready, alive, stopping (S22, F26)."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path

import pytest

from ctid import notify
from ctid.notify import Progress, Watchdog
from lab import debian
from lab.daemon import Daemon, free_port, toml
from lab.floor import AGENTS, LINES, policy_table
from lab.places import ROOT
from lab.postgres import PrivatePostgres

UNIT = ROOT / "config" / "systemd" / "ctid.service"
EXPOSURE = 2.5
"""S22 allows so much."""


def analyze(*words: str) -> subprocess.CompletedProcess[str]:
    """Run systemd-analyze: the machine's, or one of our own."""
    own = shutil.which("systemd-analyze") or debian.program("systemd", "systemd-analyze")
    return subprocess.run([str(own), *words], capture_output=True, text=True, timeout=50, check=False)


def test_s22_the_unit_exposes_little() -> None:
    """S22: at most 2.5 of 10 by systemd's own count."""
    done = analyze("security", "--offline=yes", "--no-pager", str(UNIT))
    found = re.search(r"Overall exposure level for ctid\.service: ([\d.]+)", done.stdout)
    assert found, done.stdout + done.stderr
    assert float(found[1]) <= EXPOSURE, done.stdout


def test_s22_the_unit_is_well_formed(tmp_path: Path) -> None:
    """S22: systemd understands every line; only the program and its neighbours are not here."""
    unit = tmp_path / "ctid.service"
    text = UNIT.read_text(encoding="utf-8").replace("/opt/ctid/bin/ctid", "/bin/true")
    unit.write_text(text, encoding="utf-8")
    done = analyze("verify", "--man=no", str(unit))
    complaints = [
        line for line in done.stderr.splitlines() if "ctid.service" in line and "not found" not in line
    ]
    assert complaints == [], done.stderr
    unit.write_text(text + "\n[Service]\nNonsense=yes\n", encoding="utf-8")
    assert "Nonsense" in analyze("verify", "--man=no", str(unit)).stderr, "it does not look at all"


def test_s22_the_unit_says_what_was_promised() -> None:
    """S22, F26, F28: the watchdog kills, everything restarts, no core dump with secrets in it (S14)."""
    lines = {*UNIT.read_text(encoding="utf-8").splitlines()}
    assert {"Type=notify", "Restart=always", "RestartForceExitStatus=75", "LimitCORE=0"} <= lines
    assert {"NoNewPrivileges=yes", "ProtectSystem=strict", "PrivateTmp=yes", "ProtectHome=yes"} <= lines
    assert {"CapabilityBoundingSet=", "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX"} <= lines
    assert any(line.startswith("WatchdogSec=") for line in lines)
    assert any(line.startswith("MemoryMax=") for line in lines)


class Listener:
    """systemd's end of NOTIFY_SOCKET."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address)
        self._socket.setblocking(False)
        self.said: list[tuple[float, str]] = []

    async def until(self, line: str, *, within: float = 20.0) -> float:
        """Wait for a line and return when it came."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(within):
            while True:
                text = (await loop.sock_recv(self._socket, 4096)).decode()
                self.said.append((time.monotonic(), text))
                if line in text.splitlines():
                    return self.said[-1][0]

    def drain(self) -> int:
        """Drop what has come until now; return how much it was."""
        count = 0
        while True:
            try:
                self._socket.recv(4096)
            except BlockingIOError:
                return count
            count += 1

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def listener(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Listener]:
    address = str(tmp_path / "notify")
    listener = Listener(address)
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    yield listener
    listener.close()


@pytest.fixture
async def daemon(
    tmp_path: Path, postgres: PrivatePostgres, template: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Daemon]:
    """The real ctid, whose Asterisk is away, with a watchdog of 0.6 s."""
    monkeypatch.setenv("WATCHDOG_USEC", "600000")
    name = f"systemd_{os.getpid()}_{free_port()}"
    (tmp_path / "secret").write_text("x")
    daemon = Daemon(
        tmp_path / "ctid",
        asterisk={
            "port": free_port(),
            "account": {"username": "ctid", "secret_file": str(tmp_path / "secret")},
            "queue_log": "",
            "cel": "",
        },
        dsn=postgres.createdb(name, template=template),
        policy=toml(policy_table(LINES, AGENTS)),
    )
    yield daemon
    await daemon.stop()
    postgres.dropdb(name)


async def test_f26_ready_alive_frozen_and_stopping(listener: Listener, daemon: Daemon) -> None:
    """F26: WATCHDOG=1 comes while ctid lives, stops under SIGSTOP, goes on after, and STOPPING=1 ends it."""
    await daemon.start(ready=False)
    await listener.until("READY=1")
    first = await listener.until("WATCHDOG=1")
    assert await listener.until("WATCHDOG=1") - first < 0.6
    assert any("STATUS=no AMI connection" in text for _, text in listener.said)
    daemon.signal(signal.SIGSTOP)
    await asyncio.sleep(0.1)
    listener.drain()
    await asyncio.sleep(1.2)
    assert listener.drain() == 0, "a frozen ctid said that it lives"
    daemon.signal(signal.SIGCONT)
    await listener.until("WATCHDOG=1", within=5)
    stopping = asyncio.create_task(daemon.stop())
    await listener.until("STOPPING=1", within=10)
    assert await stopping == 0


async def beats(listener: Listener, progress: Callable[[], bool], seconds: float) -> int:
    task = asyncio.create_task(Watchdog(progress, lambda: "here").run())
    await asyncio.sleep(seconds)
    task.cancel()
    return listener.drain()


async def test_f26_a_stuck_pump_is_no_sign_of_life(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F26: the loop runs, but batches lie about and nobody takes them."""
    monkeypatch.setenv("WATCHDOG_USEC", "150000")
    waiting, taken = [0], [0]
    progress = Progress(lambda: waiting[0], lambda: taken[0])
    assert await beats(listener, progress, 0.4) >= 4
    waiting[0] = 3
    assert await beats(listener, progress, 0.4) == 0
    taken[0] = 1
    assert await beats(listener, progress, 0.01) == 1


async def test_without_systemd_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify.notify("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", "/nonexistent/socket")
    notify.notify("READY=1")


@pytest.mark.parametrize(
    ("usec", "pid", "seconds"),
    [("", "", None), ("10000000", "", 10.0), ("10000000", "1", None), ("x", "", None)],
)
def test_the_patience_of_systemd(
    usec: str, pid: str, seconds: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", usec)
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    if pid:
        monkeypatch.setenv("WATCHDOG_PID", pid)
    assert notify.patience() == (timedelta(seconds=seconds) if seconds else None)


async def test_an_abstract_socket_is_spoken_to(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"ctid-test-{os.getpid()}"
    listener = Listener(f"\0{name}")
    monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
    notify.notify("READY=1", "STATUS=so")
    assert await listener.until("STATUS=so", within=1)
    listener.close()
