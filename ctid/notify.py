"""What systemd is told (sd_notify(3)): ready, how it is, stopping, and that we are alive."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta


def notify(*said: str) -> None:
    """Tell systemd, e.g. ``notify("READY=1", "STATUS=leading")``; silence if nobody listens. Never waits."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        out.setblocking(False)
        out.sendto("\n".join(said).encode(), "\0" + address[1:] if address[0] == "@" else address)


def patience() -> timedelta | None:
    """Return after how much silence systemd kills us (``WatchdogSec=``); ``None``: never."""
    usec = os.environ.get("WATCHDOG_USEC", "")
    pid = os.environ.get("WATCHDOG_PID", str(os.getpid()))
    return timedelta(microseconds=int(usec)) if usec.isdecimal() and pid == str(os.getpid()) else None


class Progress:
    """Whether a queue is emptied, or has nothing in it.

    Args:
        waiting: How much is in it.
        taken: How much was ever taken out of it; only ever grows.
    """

    def __init__(self, waiting: Callable[[], int], taken: Callable[[], int]) -> None:
        self._waiting = waiting
        self._taken = taken
        self._last = taken()

    def __call__(self) -> bool:
        """Say whether anything was taken since the last call, if there was anything to take."""
        last, self._last = self._last, self._taken()
        return self._last != last or not self._waiting()


class Watchdog:
    """Sends ``WATCHDOG=1`` from the loop itself, three times in ``WatchdogSec``.

    A loop that stands still sends none, nor one whose pump is stuck: systemd then ends us
    (SIGABRT) and starts us anew.
    """

    def __init__(self, progress: Callable[[], bool], status: Callable[[], str] = lambda: "") -> None:
        """Do nothing yet.

        Args:
            progress: The pump gets on, or has nothing to do.
            status: Shown by ``systemctl status``.
        """
        self._progress = progress
        self._status = status

    async def run(self) -> None:
        """Send until cancelled; without a watchdog, nothing but wait."""
        limit = patience()
        if limit is None:
            await asyncio.get_running_loop().create_future()
            return
        while True:
            if self._progress():
                notify("WATCHDOG=1", f"STATUS={self._status()}")
            await asyncio.sleep(limit.total_seconds() / 3)
