"""The drivers do what they say, to small processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.faults.drivers import (
    FakeClock,
    can_mount,
    failing,
    few_descriptors,
    filled,
    no_file_may_grow,
    small_disk,
)

WRITER = """
import os, sys, time
file = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT, 0o600)
for line in sys.stdin:
    try:
        os.write(file, b"x" * 1000)
        os.fdatasync(file)
        print("fine", flush=True)
    except OSError as error:
        print(error.strerror, flush=True)
"""


class Writer:
    """A process that writes 1000 bytes and fdatasyncs at each word."""

    def __init__(self, file: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.write() == "fine"

    @property
    def pid(self) -> int:
        return self.process.pid

    def write(self) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


def test_a_system_call_fails_just_as_often_as_said(tmp_path: Path) -> None:
    """EIO at the second fdatasync and at no other."""
    with Writer(tmp_path / "file") as writer:
        with failing(writer.pid, "fdatasync:error=EIO:when=2", log=tmp_path / "strace"):
            assert [writer.write() for _ in range(3)] == ["fine", "Input/output error", "fine"]
        assert writer.write() == "fine"


def test_no_file_may_grow(tmp_path: Path) -> None:
    with Writer(tmp_path / "file") as writer:
        with no_file_may_grow(writer.pid, bytes_at_most=1_000):
            assert writer.write() == "File too large"
        assert writer.write() == "fine"


def test_a_small_disk_is_full_and_has_room_again(tmp_path: Path) -> None:
    """Where we may mount."""
    if not can_mount():
        with pytest.raises(subprocess.CalledProcessError), small_disk(tmp_path / "disk", kibibytes=1024):
            pass
        return
    with small_disk(tmp_path / "disk", kibibytes=1024), Writer(tmp_path / "disk" / "file") as writer:
        with filled(tmp_path / "disk"):
            for _ in range(5):  # the page that the file already has is still its own
                said = writer.write()
            assert said == "No space left on device"
        assert writer.write() == "fine"
    assert not (tmp_path / "disk" / "file").exists()


def test_few_descriptors(tmp_path: Path) -> None:
    """As said, and only meanwhile."""
    with few_descriptors(os.getpid(), 3), pytest.raises(OSError, match="Too many open files"):
        (tmp_path / "file").open("w")
    (tmp_path / "file").touch()


def test_a_fake_clock_steps_and_monotonic_does_not(tmp_path: Path) -> None:
    """By as much as said."""
    clock = FakeClock(tmp_path)
    program = "import sys, time\nfor line in sys.stdin: print(time.time(), time.monotonic(), flush=True)\n"
    with subprocess.Popen(
        [sys.executable, "-c", program],
        env=os.environ | clock.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for seconds in (0, -3_600, 86_400):
            clock.step(seconds)
            process.stdin.write("\n")
            process.stdin.flush()
            wall, monotonic = (float(word) for word in process.stdout.readline().split())
            assert abs(wall - time.time() - seconds) < 2
            assert abs(monotonic - time.monotonic()) < 2
        process.stdin.close()
