"""What breaks things: killers, freezers, full disks, wrong clocks, failing system calls.

Each is a function or a context manager over a :class:`tests.faults.rig.Rig` or a pid, takes its
times from the rig's seed, and leaves everything running again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Literal

from lab import debian
from lab.proxy_judges import FrameFault
from tests.faults.rig import Rig


async def kill_daemon(rig: Rig, *, down: float | None = None) -> float:
    """Kill ctid (SIGKILL), start it again; return the seconds until it was ready."""
    await rig.daemon.kill()
    await asyncio.sleep(rig.chance.uniform(0, 0.5) if down is None else down)
    began = time.monotonic()
    await rig.daemon.start()
    return time.monotonic() - began


async def stop_daemon(rig: Rig) -> int:
    """End ctid in good order (SIGTERM), start it again; return its exit code."""
    code = await rig.daemon.stop()
    await rig.daemon.start()
    return code


@contextlib.asynccontextmanager
async def frozen(pid: int) -> AsyncIterator[None]:
    """Keep a process stopped (SIGSTOP) for as long as the ``with`` block lasts."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


async def stop_postgres(
    rig: Rig, *, seconds: float, mode: Literal["fast", "immediate", "kill"] = "immediate"
) -> None:
    """Stop PostgreSQL, or kill it with all its backends, for so long."""
    stop = rig.postgres.kill if mode == "kill" else lambda: rig.postgres.stop(mode)
    await asyncio.to_thread(stop)
    try:
        await asyncio.sleep(seconds)
    finally:
        await asyncio.to_thread(rig.postgres.start)


async def kill_asterisk(rig: Rig, *, down: float = 0.5) -> None:
    """Kill Asterisk (SIGKILL) with all its calls, start it again on the same folders and ports."""
    await asyncio.to_thread(rig.exchange.kill)
    rig.hang_up_all()
    await asyncio.sleep(down)
    await asyncio.to_thread(rig.exchange.start)


def cut_ami(rig: Rig) -> None:
    """Cut ctid off from AMI in one of the ways in which that happens."""
    way = rig.chance.choice(("reset", "reset", "finish", "inside a frame"))
    if way == "inside a frame":
        # At a random byte of whatever Asterisk says next.
        cut = FrameFault("cut inside", lambda frame: True, bytes_in=rig.chance.randrange(1, 200))
        rig.frame_faults[:] = [cut]
    elif way == "finish":
        rig.ami.finish()
    else:
        rig.ami.reset()


# -- the machine under it -------------------------------------------------------


def can_mount() -> bool:
    """Tell whether we may mount a tmpfs."""
    return os.geteuid() == 0


@contextlib.contextmanager
def small_disk(folder: Path, *, kibibytes: int) -> Iterator[Path]:
    """Make ``folder`` (empty) a disk of so many kibibytes of its own: a tmpfs. Root only."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kibibytes}k", "tmpfs", str(folder)]
    subprocess.run(mount, check=True, capture_output=True)
    try:
        yield folder
    finally:
        # Lazily: whoever still has a file open there keeps it until he closes it.
        subprocess.run(["umount", "-l", str(folder)], check=True, capture_output=True)


@contextlib.contextmanager
def filled(folder: Path) -> Iterator[Path]:
    """Fill the disk that ``folder`` is on, to the last byte; make room again at the end."""
    ballast = folder / "ballast"
    try:
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            while file.write(b"\0" * 65_536):
                pass
        yield ballast
    finally:
        ballast.unlink(missing_ok=True)


@contextlib.contextmanager
def no_file_may_grow(pid: int, *, bytes_at_most: int = 0) -> Iterator[None]:
    """Let every write of a process past so many bytes of any file fail with EFBIG (RLIMIT_FSIZE).

    What an ordinary user can do instead of :func:`small_disk`; it hits the process's log, too.
    """
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (bytes_at_most, before[1]))
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, before)


@contextlib.contextmanager
def few_descriptors(pid: int, count: int) -> Iterator[None]:
    """Let a process open no file or socket past so many (RLIMIT_NOFILE)."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (count, before[1]))
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


@contextlib.contextmanager
def failing(pid: int, what: str, *, log: Path) -> Iterator[None]:
    """Let system calls of a process fail, as strace says: ``fdatasync:error=EIO:when=3``.

    Args:
        log: Gets what strace saw of these calls.
    """
    call = what.split(":")[0]
    words = ["-f", "-qq", "-p", str(pid), "-o", str(log), "-e", f"trace={call}", "-e", f"inject={what}"]
    tracer = subprocess.Popen(
        [debian.program("faults", "strace"), *words], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        _await(lambda: _tracer_of(pid) == tracer.pid, tracer)
        yield
    finally:
        tracer.terminate()
        tracer.communicate()


def _tracer_of(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("TracerPid:"))


def _await(condition: Callable[[], bool], tracer: subprocess.Popen[bytes]) -> None:
    give_up = time.monotonic() + 10
    while not condition():
        if tracer.poll() is not None or time.monotonic() > give_up:
            raise RuntimeError(f"strace does not trace: {tracer.communicate()[1].decode()}")
        time.sleep(0.01)


class FakeClock:
    """A wall clock that a process shows instead of the machine's; its monotonic clock stays true.

    Attributes:
        environment: For the process to be started.
    """

    def __init__(self, folder: Path) -> None:
        """Choose the file that says by how much; the clock is right as yet."""
        folder.mkdir(parents=True, exist_ok=True)
        self._file = folder / "clock"
        self.step(0)
        library = next(debian.ensure("faults").rglob("libfaketime.so.1"))
        self.environment = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def step(self, seconds: float) -> None:
        """Set it to so many seconds after (negative: before) the machine's."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{seconds:+.0f}\n")
        new.replace(self._file)  # never half-written: libfaketime reads it at every call
