"""One daemon per state folder: a lock that the kernel gives back, however its holder ends."""

from __future__ import annotations

import asyncio
import fcntl
import os
from pathlib import Path
from typing import Final, Self

import structlog

_log = structlog.get_logger()

LOOK_SECONDS: Final = 0.1


class HostLock:
    """``flock`` on ``state_dir/lock``; whoever comes second waits.

    What stands in the file is for people, and for the next holder: pid and holder's id.

    Attributes:
        predecessor: Id of the last one who signed; certainly gone once we have the lock.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / "lock"
        self._fd = -1
        self._is_held = False
        self.predecessor = ""

    @property
    def state(self) -> str:
        """Who has it; empty: we do."""
        if self._is_held:
            return ""
        pid = self._read()[0]
        return f"standby: pid {pid or '(unknown)'} on this host has {self._file}"

    async def acquire(self, stop: asyncio.Event) -> bool:
        """Wait for the lock. False: ``stop`` was set first.

        Raises:
            OSError: The file can not be written or locked.
        """
        self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
        self._fd = os.open(self._file, os.O_RDWR | os.O_CREAT, 0o640)  # PEP 446: not inherited
        is_told = False
        while not stop.is_set():
            if self._try():
                return True
            if not is_told:
                _log.info("standing by", why=self.state)
                is_told = True
            # A kernel lock has no event to wait for.
            await asyncio.sleep(LOOK_SECONDS)
        return False

    def sign(self, holder: str) -> None:
        """Write who we are into the file."""
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()} {holder}\n".encode(), 0)

    def release(self) -> None:
        """Let the next one in; harmless if it was never ours."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1
        self._is_held = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def _try(self) -> bool:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        self._is_held = True
        self.predecessor = self._read()[1]
        return True

    def _read(self) -> tuple[str, str]:
        words = os.pread(self._fd, 200, 0).decode(errors="replace").split() if self._fd >= 0 else []
        return (words[0] if words else ""), (words[1] if len(words) > 1 else "")
