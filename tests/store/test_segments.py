"""The log on our own disk: nothing that was durable is ever lost, and no number is used twice."""

from __future__ import annotations

import errno
import os
import random
import resource
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from ctid.errors import LogUnavailable
from ctid.store.segment_files import Segment
from ctid.store.segment_format import HEAD_BYTES, framed, records, taken
from ctid.store.segments import SegmentLog
from lab import debian
from tests.faults.drivers import small_disk

REPOSITORY = Path(__file__).parents[2]


def opened(folder: Path, *, segment_bytes: int = 1 << 20, cap_bytes: int = 1 << 30) -> SegmentLog:
    log = SegmentLog(folder, segment_bytes=segment_bytes, cap_bytes=cap_bytes)
    log.open()
    return log


def body(number: int) -> bytes:
    return f"record {number} 王 ".encode() * (number % 5 + 1)


def everything(log: SegmentLog, at_once: int = 7) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    while some := log.read(max(found, default=0), at_once):
        assert len(some) <= at_once
        found.update(some)
    return found


def fill(log: SegmentLog, with_what: bytes) -> None:
    for _ in range(1000):
        log.append([with_what])


def written(folder: Path, count: int, *, segment_bytes: int = 1 << 20) -> Path:
    """Write records 1 to ``count``; return the newest segment."""
    log = opened(folder, segment_bytes=segment_bytes)
    for number in range(1, count + 1):
        assert log.append([body(number)]) == number
    assert log.sync() == count
    log.close()
    return max(folder.iterdir())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def test_records_come_back_in_order_from_several_segments(folder: Path) -> None:
    written(folder, 100, segment_bytes=500)
    log = opened(folder)
    assert everything(log) == {number: body(number) for number in range(1, 101)}
    assert log.read(42, 1) == [(43, body(43))]
    assert log.read(100, 5) == []
    assert len(list(folder.iterdir())) > 5
    assert log.size_bytes == sum(file.stat().st_size for file in folder.iterdir())


def test_several_at_once_and_none_at_all(folder: Path) -> None:
    log = opened(folder)
    assert log.append([]) == 0
    assert log.append([b"a", b"", b"c"]) == 3
    assert everything(log) == {1: b"a", 2: b"", 3: b"c"}


def test_a_reopened_log_is_the_same_and_counts_on(folder: Path) -> None:
    first = opened(folder)
    first.append([b"a", b"b"])
    first.close()
    again = opened(folder)
    assert (again.id, again.first, again.last, again.durable) == (first.id, 1, 2, 2)
    assert again.append([b"c"]) == 3
    assert everything(again) == {1: b"a", 2: b"b", 3: b"c"}


def test_numbers_survive_when_everything_was_forgotten(folder: Path) -> None:
    """F15: also if it happened as the last thing before a restart."""
    log = opened(folder, segment_bytes=100)
    log.append([body(number) for number in range(1, 21)])
    log.sync()
    log.forget(20)
    assert (log.first, log.last, log.size_bytes, len(list(folder.iterdir()))) == (21, 20, 0, 1)
    log.close()
    again = opened(folder)
    assert (again.id, again.first, again.last, again.durable) == (log.id, 21, 20, 20)
    assert again.append([b"more"]) == 21


def test_only_whole_segments_are_forgotten(folder: Path) -> None:
    written(folder, 30, segment_bytes=300)
    log = opened(folder, segment_bytes=300)
    log.forget(0)
    assert log.first == 1
    log.forget(17)
    assert 1 < log.first <= 18
    assert sorted(everything(log)) == list(range(log.first, 31))


def test_only_the_owner_may_look(folder: Path) -> None:
    newest = written(folder, 3)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(newest.stat().st_mode) == 0o600


def test_the_cap_is_never_passed_and_room_comes_back(folder: Path) -> None:
    """F15: full is an error that says so; nothing half-written remains."""
    log = opened(folder, segment_bytes=1000, cap_bytes=3000)
    with pytest.raises(LogUnavailable, match="cap of 3000 bytes"):
        fill(log, b"x" * 100)
    kept = log.last
    assert 2800 <= log.size_bytes <= 3000
    assert sorted(everything(log)) == list(range(1, kept + 1))
    log.sync()
    log.forget(kept // 2)
    assert log.append([b"x" * 100]) == kept + 1


@pytest.mark.parametrize("newest", [True, False])
def test_a_segment_cut_at_every_byte(folder: Path, tmp_path: Path, newest: bool) -> None:
    """F15: torn last record. What is whole is kept, the rest cut off; counting goes on."""
    written(folder, 12, segment_bytes=400)
    segments = sorted(folder.iterdir())
    victim = segments[-1] if newest else segments[0]
    begin = int(victim.name.split(".")[1])
    follower = 13 if newest else int(segments[1].name.split(".")[1])
    whole = victim.read_bytes()
    log_id = opened(folder).id
    ends = [stop for _, _, stop in records(whole, log_id)]
    for length in range(len(whole)):
        copy = tmp_path / "copy"
        shutil.copytree(folder, copy)
        os.truncate(copy / victim.name, length)
        log = opened(copy)
        intact = begin - 1 + sum(end <= length for end in ends)
        kept = [*range(1, intact + 1), *range(follower, 13)]
        assert everything(log) == {number: body(number) for number in kept}, length
        if newest:
            assert (log.last, log.corrupt) == (intact, 0), length
            assert log.append([b"next"]) == intact + 1
            assert log.read(intact, 9) == [(intact + 1, b"next")]
        else:
            assert (log.last, log.corrupt) == (12, follower - 1 - intact), length
        log.close()
        shutil.rmtree(copy)


@pytest.mark.parametrize("newest", [True, False])
def test_a_flipped_bit_costs_one_record(folder: Path, tmp_path: Path, newest: bool) -> None:
    """F15: in every byte, heads and lengths too; isolated, counted, and its number never used again."""
    written(folder, 12, segment_bytes=400)
    segments = sorted(folder.iterdir())
    victim = segments[-1] if newest else segments[0]
    whole = victim.read_bytes()
    log_id = opened(folder).id
    numbers = {
        at: number for number, begin, end in records(whole, log_id) for at in range(begin - HEAD_BYTES, end)
    }
    for at in range(len(whole)):
        copy = tmp_path / "copy"
        shutil.copytree(folder, copy)
        flipped = bytearray(whole)
        flipped[at] ^= 1 << at % 8
        (copy / victim.name).write_bytes(flipped)
        for _ in range(2):  # the second time on what the first opening left
            log = opened(copy)
            kept = {number: body(number) for number in range(1, 13) if number != numbers[at]}
            assert everything(log) == kept, at
            assert (log.last, log.corrupt) == (12, 1), at
            log.close()
        log = opened(copy)
        assert log.append([b"next"]) == 13
        assert everything(log) == kept | {13: b"next"}
        log.close()
        shutil.rmtree(copy)


def test_a_bit_flipped_behind_our_back_is_found_when_it_is_read(folder: Path) -> None:
    """F15: while the log is open."""
    newest = written(folder, 9)
    log = opened(folder)
    block = bytearray(newest.read_bytes())
    block[block.find(b"record 5")] ^= 4
    newest.write_bytes(block)
    for _ in range(2):
        assert sorted(everything(log)) == [1, 2, 3, 4, 6, 7, 8, 9]
    assert log.corrupt == 1


def test_a_block_of_zeros_at_the_end_is_a_torn_write(folder: Path) -> None:
    """F15: what file systems leave after a power failure."""
    newest = written(folder, 3)
    with newest.open("ab") as file:
        file.write(bytes(4096))
    log = opened(folder)
    assert (log.last, log.corrupt, log.size_bytes) == (3, 0, newest.stat().st_size)


def test_a_rest_that_says_nothing_takes_as_many_numbers_as_it_could_hold(folder: Path) -> None:
    log = opened(folder)
    assert taken(b"\xff" * HEAD_BYTES * 3, log.id) == 3
    assert taken(framed(b"abc", 7, log.id)[:-1], log.id) == 0


def test_a_record_inside_a_record_is_not_taken_for_one(folder: Path) -> None:
    """B12: what somebody outside sends may look like anything; it does not know the log's id."""
    log = opened(folder)
    forged = framed(b"forged", 2, opened(folder.with_name("another")).id)
    log.append([b"before " + forged, b"after"])
    log.sync()
    log.close()
    newest = max(folder.iterdir())
    block = bytearray(newest.read_bytes())
    block[5] ^= 1  # the length of the first record
    newest.write_bytes(block)
    assert everything(opened(folder)) == {2: b"after"}


def test_two_logs_in_one_folder_are_refused(folder: Path) -> None:
    written(folder, 1)
    other = written(folder.with_name("other"), 1)
    shutil.copy(other, folder)
    with pytest.raises(LogUnavailable, match="2 logs"):
        opened(folder)


def test_what_another_crash_left_half_made_is_removed(folder: Path) -> None:
    """F15: crash while a segment was being written anew."""
    newest = written(folder, 2)
    newest.with_suffix(".new").write_bytes(b"half")
    log = opened(folder)
    assert everything(log) == {1: body(1), 2: body(2)}
    assert [file.suffix for file in folder.iterdir()] == [".log"]


@pytest.mark.parametrize("removed", range(1, 6))
def test_a_crash_while_segments_are_removed(folder: Path, removed: int) -> None:
    """F15: crash while deleting: whatever was gone by then, the rest is whole."""
    written(folder, 40, segment_bytes=300)
    for file in sorted(folder.iterdir())[:removed]:
        file.unlink()
    log = opened(folder)
    assert log.corrupt == 0
    assert sorted(everything(log)) == list(range(log.first, 41))
    assert log.append([b"next"]) == 41


class Disk:
    """Makes fdatasync fail, which no real disk does on demand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.failures = 0
        self.failed: list[int] = []
        self.synced: list[int] = []
        self._real = os.fdatasync
        monkeypatch.setattr(os, "fdatasync", self._sync)

    def _sync(self, fd: int) -> None:
        file = os.fstat(fd).st_ino
        assert file not in self.failed, "synced again after it had failed"
        if self.failures > 0:
            self.failures -= 1
            self.failed.append(file)
            os.dup(fd)  # or the number of the inode would soon mean another file
            raise OSError(errno.EIO, "Input/output error")
        self.synced.append(file)
        self._real(fd)


@pytest.mark.parametrize("durable", [0, 3])
@pytest.mark.parametrize("failures", [1, 2, 3])
def test_a_file_that_failed_to_sync_is_never_trusted_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch, durable: int, failures: int
) -> None:
    """F15: EIO at fdatasync. What was not durable is written into a new file, maybe not at the first try."""
    log = opened(folder, segment_bytes=400)
    log.append([body(number) for number in range(1, durable + 1)])
    log.sync()
    disk = Disk(monkeypatch)
    disk.failures = failures
    for number in range(durable + 1, 12):
        log.append([body(number)])
    tries = 0
    while log.durable < 11:
        tries += 1
        try:
            assert log.sync() == 11
        except LogUnavailable:
            assert log.durable == durable
            assert everything(log) == {number: body(number) for number in range(1, 12)}, "from memory"
            with pytest.raises(LogUnavailable):
                log.append([b"not now"])
    assert tries == failures if failures > 1 else tries == 1
    assert log.append([body(12)]) == 12
    log.sync()
    assert everything(log) == {number: body(number) for number in range(1, 13)}
    assert not {file.stat().st_ino for file in folder.iterdir()} & set(disk.failed)
    log.close()
    again = opened(folder)
    assert everything(again) == {number: body(number) for number in range(1, 13)}
    assert again.corrupt == 0


def test_numbers_that_somebody_else_knows_of_are_skipped(folder: Path) -> None:
    log = opened(folder)
    log.append([b"a", b"b"])
    log.skip(1)
    assert log.append([b"c"]) == 3
    log.skip(9)
    assert log.append([b"j"]) == 10
    assert (log.sync(), log.corrupt) == (10, 6)
    log.close()
    again = opened(folder)
    assert everything(again) == {1: b"a", 2: b"b", 3: b"c", 10: b"j"}
    assert (again.last, again.corrupt) == (10, 6)


def test_the_newest_segment_is_copied_at_opening(folder: Path) -> None:
    """F15: an earlier process may have been told that its sync failed, and the next sync would lie."""
    newest = written(folder, 3)
    before = newest.stat().st_ino
    opened(folder)
    assert newest.stat().st_ino != before


def test_appending_goes_on_while_the_disk_syncs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = opened(folder)
    entered, leave = threading.Event(), threading.Event()
    real = os.fdatasync

    def slow(fd: int) -> None:
        entered.set()
        assert leave.wait(10)
        real(fd)

    log.append([b"a"])
    monkeypatch.setattr(os, "fdatasync", slow)
    syncing = threading.Thread(target=log.sync)
    syncing.start()
    assert entered.wait(10)
    assert log.append([b"b"]) == 2
    assert log.durable == 0
    leave.set()
    syncing.join()
    assert log.durable == 1
    assert log.sync() == 2


@pytest.fixture(name="small_disk")
def _small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB of its own."""
    with small_disk(tmp_path / "disk", kibibytes=64) as place:
        yield place


def test_a_full_disk_leaves_nothing_half_written(small_disk: Path) -> None:
    """F15 and F17: a real ENOSPC; what was written stays, and writing resumes by itself."""
    log = opened(small_disk / "spool", segment_bytes=16_000)
    with pytest.raises(LogUnavailable, match="No space left"):
        fill(log, b"x" * 999)
    full = log.last
    assert 50 <= full <= 65
    assert sorted(everything(log)) == list(range(1, full + 1))
    assert log.sync() == full
    log.close()
    log = opened(small_disk / "spool", segment_bytes=16_000)  # there is no room for a copy either
    assert (log.last, log.corrupt) == (full, 0)
    log.forget(20)
    assert log.append([b"again"]) == full + 1
    assert log.sync() == full + 1


def test_a_file_that_may_not_grow_leaves_nothing_half_written(folder: Path) -> None:
    """F15: the write that is cut short by a limit, not refused."""
    log = opened(folder)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, before[1]))
    try:
        with pytest.raises(LogUnavailable, match=r"large|space"):
            fill(log, b"x" * 300)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    kept = log.last
    assert max(folder.iterdir()).stat().st_size == log.size_bytes
    assert log.append([b"on"]) == kept + 1
    assert sorted(everything(log)) == list(range(1, kept + 2))


#: Appends for ever; prints each number that sync() promised.
WRITER = """
import random, sys
from pathlib import Path
from ctid.errors import LogUnavailable
from ctid.store.segments import SegmentLog
log = SegmentLog(Path(sys.argv[1]), segment_bytes=3000, cap_bytes=1 << 30)
log.open()
for turn in range(int(sys.argv[2])):
    try:
        for _ in range(random.randrange(1, 5)):
            numbers = range(log.last + 1, log.last + random.randrange(2, 9))
            log.append([b"%d " % number * 20 for number in numbers])
        durable = log.sync()
    except LogUnavailable as error:
        print("away", error, flush=True)
        continue
    print(durable, flush=True)
    if turn % 7 == 6:
        log.forget(durable - 50)
"""


def check_promise(folder: Path, promised: int) -> int:
    """Return the newest number of the log after making sure that it holds what was promised."""
    log = opened(folder, segment_bytes=3000)
    assert log.last >= promised
    assert log.corrupt == 0
    assert everything(log, 500) == {n: b"%d " % n * 20 for n in range(log.first, log.last + 1)}
    log.close()
    return log.last


def test_kill_9_at_any_instant_loses_nothing_promised(folder: Path) -> None:
    """F15: 50 times; what sync() returned is there, and every number means one record for ever."""
    newest, chance = 0, random.Random(15)
    for _ in range(50):
        child = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder), "1000000"],
            stdout=subprocess.PIPE,
            cwd=REPOSITORY,
            text=True,
        )
        assert child.stdout is not None
        assert int(child.stdout.readline()) > newest
        time.sleep(chance.uniform(0, 0.03))
        child.send_signal(signal.SIGKILL)
        lines = child.stdout.read().split("\n")
        child.wait()
        child.stdout.close()
        promised = max([newest, *(int(line) for line in lines[:-1] if line)])
        newest = check_promise(folder, promised)


@pytest.mark.parametrize("when", ["3", "5+4", "6..8", "4+1"])
def test_the_kernel_says_eio(folder: Path, when: str) -> None:
    """F15: fdatasync fails with EIO, injected by strace: once, often, three times running, for ever."""
    strace = [str(debian.program("faults", "strace")), "-f", "-qq", "-e", "trace=fdatasync"]
    inject = f"inject=fdatasync:error=EIO:when={when}"
    ran = subprocess.run(
        [*strace, "-e", inject, "-o", f"{folder}.strace", sys.executable, "-c", WRITER, str(folder), "30"],
        capture_output=True,
        cwd=REPOSITORY,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    told = ran.stdout.splitlines()
    assert Path(str(folder) + ".strace").read_text().count("EIO") >= 1
    promised = [int(line) for line in told if not line.startswith("away")]
    assert promised == sorted(promised)
    assert any(line.startswith("away") for line in told) == (when in ("6..8", "4+1"))
    check_promise(folder, promised[-1])


def test_a_folder_that_fails_to_sync_makes_nothing_durable(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F15: a new file whose name may be lost holds nothing that survives; the next sync makes it good."""
    log = opened(folder, segment_bytes=200)
    log.append([body(1)])
    log.sync()
    for number in range(2, 30):
        log.append([body(number)])

    def refuse(_: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr("ctid.store.segments.sync_folder", refuse)
        patch.setattr("ctid.store.segment_files.sync_folder", refuse)
        with pytest.raises(LogUnavailable):
            log.sync()
        log.forget(1)
    assert log.durable == 1
    assert log.sync() == 29
    log.append([body(30)])
    assert log.sync() == 30
    log.close()
    assert everything(opened(folder)) == {number: body(number) for number in range(1, 31)}


def test_reading_goes_on_where_it_stopped(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though more is written meanwhile, and somebody else reads elsewhere: nothing is read twice."""
    begun: list[int] = []
    records_of = Segment.records

    def watched(self: Segment, log: UUID, start: int) -> Iterator[tuple[int, bytes, int]]:
        begun.append(start)
        return records_of(self, log, start)

    monkeypatch.setattr(Segment, "records", watched)
    log = opened(folder)
    for number in range(1, 101):
        log.append([body(number)])
    after = 0
    while some := log.read(after, 10, through=50):
        assert [number for number, _ in some] == list(range(after + 1, after + 11))
        after = some[-1][0]
        assert log.read(after, 1)[0][0] == after + 1
        log.append([body(log.last + 1)])
    assert after == 50
    assert begun.count(0) == 1
    assert sorted(begun) == begun
