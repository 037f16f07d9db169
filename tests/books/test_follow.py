"""Following a book: nothing twice, nothing left out, whatever becomes of its files."""

from __future__ import annotations

import gzip
import os
import random
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctid.books import follow
from ctid.books.cel import CelEvent, CelReader
from ctid.books.follow import Follower, Position
from ctid.books.period import read_period
from ctid.books.queue_log import QueueLine, QueueLines
from lab.exchange import Exchange

BEGAN = 1_795_571_889


def line(number: int, *, at: int = 0) -> bytes:
    """Line ``number`` of a book; one each ten seconds."""
    return f"{at or BEGAN + 10 * number}|1.{number}|repair|NONE|ENTERQUEUE||13800000001|1\n".encode()


def numbers(lines: Sequence[QueueLine]) -> list[int]:
    return [int(each.call.removeprefix("1.")) for each in lines]


class Book:
    """A book that a test writes, with a follower that may be started anew at any time."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "queue_log"
        self.follower = Follower(self.path, QueueLines)
        self.read: list[int] = []
        self.lost = 0
        self.written = 0

    def write(self, count: int = 1, *, path: Path | None = None) -> None:
        with (path or self.path).open("ab") as file:
            for _ in range(count):
                file.write(line(self.written))
                self.written += 1

    def poll(self) -> None:
        self.read += numbers(self.follower.poll())

    def restart(self) -> None:
        """As a new process would: all it has is the position, stored as JSON."""
        position = self.follower.position
        self.lost += self.follower.lost
        self.follower.close()
        stored = msgspec.json.decode(msgspec.json.encode(position), type=Position | None)
        self.follower = Follower(self.path, QueueLines, stored)

    def rotated(self, number: int = 1, packed: bool = False) -> Path:
        return self.path.with_name(f"queue_log.{number}" + ".gz" * packed)

    def check(self, *, lost: int = 0) -> None:
        """Everything that was written was read once, in order."""
        self.poll()
        assert self.read == list(range(self.written))
        assert (self.lost + self.follower.lost, self.follower.damaged) == (lost, 0)


def pack(path: Path) -> None:
    """Compress a file as logrotate does: the date stays, the plain one goes last."""
    status = path.stat()
    packed = path.with_name(path.name + ".gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    os.utime(packed, ns=(status.st_atime_ns, status.st_mtime_ns))
    path.unlink()


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Book]:
    book = Book(tmp_path)
    yield book
    book.follower.close()


@pytest.fixture(params=[False, True], ids=["running", "restarted"])
def between(request: pytest.FixtureRequest, book: Book) -> Callable[[], None]:
    """What happens while files are moved: nothing, or ctid is down."""
    return book.restart if request.param else lambda: None


def test_a_file_that_is_not_there_yet(book: Book, between: Callable[[], None]) -> None:
    """F39."""
    book.poll()
    assert book.follower.position is None
    between()
    book.path.touch()
    book.poll()
    between()
    book.write(3)
    book.check()


def test_a_partial_last_line_waits(book: Book, between: Callable[[], None]) -> None:
    """F39, B60: the position is before it, so that a restart reads it whole."""
    book.write(2)
    half = line(2)[:20]
    with book.path.open("ab") as file:
        file.write(half)
    book.poll()
    position = book.follower.position
    assert position
    assert position.offset == len(line(0) + line(1))
    between()
    with book.path.open("ab") as file:
        file.write(line(2)[20:])
    book.written += 1
    book.check()


def test_renamed_and_begun_anew(book: Book, between: Callable[[], None]) -> None:
    """F39: what Asterisk still writes into the old file is read before the new one."""
    book.write(3)
    book.poll()
    book.path.rename(book.rotated())
    between()
    book.poll()
    book.path.touch()
    book.write(2, path=book.rotated())
    book.poll()
    between()
    book.write(1, path=book.rotated())
    book.write(2)
    book.check()
    book.write(2)
    book.check()


def test_rotated_more_than_once_unseen(book: Book, between: Callable[[], None]) -> None:
    """F39: logrotate's numbers grow with age."""
    book.write(2)
    book.poll()
    book.write(2)
    between()
    for _ in range(3):
        for number in (3, 2, 1):
            if book.rotated(number).exists():
                book.rotated(number).rename(book.rotated(number + 1))
        book.path.rename(book.rotated())
        book.write(2)
    book.check()


def test_rotated_more_than_once_by_asterisk(book: Book, between: Callable[[], None]) -> None:
    """F39: the numbers of ``logger rotate`` (sequential) grow with time."""
    book.write(2)
    book.poll()
    between()
    for number in range(3):
        book.write(2)
        book.path.rename(book.rotated(number))
    book.write(2)
    book.check()


def test_rotated_and_compressed(book: Book, between: Callable[[], None]) -> None:
    """F39: found again by its text, since the compressed file is another one."""
    book.write(3)
    book.poll()
    between()
    book.write(3)
    book.path.rename(book.rotated(2))
    pack(book.rotated(2))
    book.write(3)
    book.path.rename(book.rotated(1))
    pack(book.rotated(1))
    book.write(3)
    book.check()


def test_a_position_in_a_compressed_file(book: Book) -> None:
    """F39: stopped in the middle of what is an archive now."""
    book.write(200)
    book.poll()
    book.restart()
    book.write(20)
    book.path.rename(book.rotated())
    pack(book.rotated())
    book.poll()
    book.restart()
    book.check()
    book.write(1)
    book.restart()
    book.check()


def test_copied_and_truncated(book: Book, between: Callable[[], None]) -> None:
    """F39: the rest of the copy first, then the file from its beginning."""
    book.write(5)
    book.poll()
    book.write(5)
    between()
    shutil.copy(book.path, book.rotated())
    os.truncate(book.path, 0)
    book.poll()
    between()
    book.write(2)
    book.check()


def test_copied_truncated_and_grown_beyond(book: Book, between: Callable[[], None]) -> None:
    """F39: the file is longer than before, and yet not the same."""
    book.write(5)
    book.poll()
    book.write(1)
    between()
    shutil.copy(book.path, book.rotated())
    os.truncate(book.path, 0)
    book.write(50)
    book.check()


def test_copied_and_truncated_in_one_poll_with_compression(book: Book, between: Callable[[], None]) -> None:
    """F39."""
    book.write(5)
    book.poll()
    between()
    for number in (2, 1):
        book.write(5)
        shutil.copy(book.path, book.rotated(number))
        pack(book.rotated(number))
        os.truncate(book.path, 0)
    book.write(5)
    book.check()


def test_truncated_without_a_copy_is_told(book: Book, between: Callable[[], None]) -> None:
    """F39: nobody can give that back, so nobody claims to."""
    book.write(5)
    book.poll()
    between()
    os.truncate(book.path, 0)
    book.write(2)
    book.check(lost=1)


def test_deleted_while_followed(book: Book) -> None:
    """F39: Asterisk goes on writing into a file without a name."""
    book.write(2)
    book.poll()
    with book.path.open("ab") as file:
        book.path.unlink()
        for _ in range(3):
            file.write(line(book.written))
            book.written += 1
        file.flush()
        book.poll()
        assert len(book.read) == 5
        file.write(line(book.written))
        book.written += 1
    book.write(2)
    book.check()


def test_deleted_while_ctid_was_down_is_told(book: Book) -> None:
    """F39."""
    book.write(2)
    book.poll()
    book.restart()
    book.path.unlink()
    book.poll()
    assert book.follower.lost == 0
    book.write(2)
    book.check(lost=1)


def test_another_file_with_the_same_inode_is_not_taken_for_it(book: Book) -> None:
    """F39: file systems give inodes to new files at once."""
    book.write(3)
    book.poll()
    position = book.follower.position
    assert position
    book.restart()
    text = book.path.read_bytes()
    book.rotated().write_bytes(text)
    book.path.write_bytes(b"".join(line(number) for number in range(3, 9)))
    assert book.path.stat().st_ino == position.inode
    book.written = 9
    book.check()


def test_a_restored_copy_of_the_file_is_read_on(book: Book) -> None:
    """F39: an editor, or a restore, put a copy in its place."""
    book.write(3)
    book.poll()
    copy = book.path.with_name("other")
    shutil.copy(book.path, copy)
    copy.rename(book.path)
    book.write(2)
    book.check()


def test_a_backup_beside_the_file_is_not_read_twice(book: Book, between: Callable[[], None]) -> None:
    book.write(3)
    shutil.copy(book.path, book.path.with_name("queue_log.bak"))
    book.poll()
    between()
    book.write(2)
    book.path.rename(book.rotated())
    book.write(2)
    book.check()


def test_an_unfinished_line_of_a_finished_file_is_counted(book: Book) -> None:
    """B60: Asterisk was killed in the middle of it."""
    book.write(1)
    with book.path.open("ab") as file:
        file.write(b"17955718")
    book.poll()
    book.path.rename(book.rotated())
    book.write(1)
    book.poll()
    assert book.read == [0, 1]
    assert book.follower.damaged == 1


def test_a_broken_archive_is_told(book: Book) -> None:
    book.write(2000)
    book.poll()
    book.restart()
    book.write(20_000)
    book.path.rename(book.rotated())
    pack(book.rotated())
    packed = book.rotated(packed=True)
    packed.write_bytes(packed.read_bytes()[:-2000])
    book.write(1)
    for _ in range(5):
        book.poll()
    assert book.follower.lost == 1
    assert book.read[-1] == 22_000
    assert len(set(book.read)) == len(book.read)


def test_a_large_book_comes_in_parts(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "AT_ONCE", 1000)
    monkeypatch.setattr(follow, "CHUNK", 500)
    book.write(200)
    book.poll()
    assert book.follower.is_behind
    assert len(book.read) < 30
    while book.follower.is_behind:
        book.poll()
    book.check()


def test_a_file_that_may_not_be_read(book: Book, tmp_path: Path) -> None:
    """F39: an error, not silence; and nothing is lost by it."""
    book.write(2)
    book.poll()
    book.write(1)
    book.path.rename(book.rotated())
    book.path.mkdir()  # whoever runs the tests may be root, whom no mode keeps out
    book.poll()
    book.restart()
    with pytest.raises(OSError, match="not a file"):
        Follower(book.path, QueueLines).poll()
    book.path.rmdir()
    book.write(1)
    book.check()


def wait_for(path: Path) -> None:
    while not path.exists():
        time.sleep(0.001)


def rotate_by_rename(book: Book, step: int, lock: threading.Lock) -> None:
    for number in range(40, 0, -1):
        if book.rotated(number).exists():
            book.rotated(number).rename(book.rotated(number + 1))
    book.path.rename(book.rotated())


def rotate_by_copy(book: Book, step: int, lock: threading.Lock) -> None:
    for number in range(40, 0, -1):
        if book.rotated(number).exists():
            book.rotated(number).rename(book.rotated(number + 1))
    # What is written between the two is lost to everybody: here nobody writes then.
    with lock:
        shutil.copy(book.path, book.rotated())
        time.sleep(0.002)
        os.truncate(book.path, 0)


def rotate_by_asterisk(book: Book, step: int, lock: threading.Lock) -> None:
    book.path.rename(book.rotated(step))


ROTATIONS = [rotate_by_rename, rotate_by_copy, rotate_by_asterisk]


@pytest.mark.parametrize("rotate", ROTATIONS, ids=["rename", "copytruncate", "sequential"])
def test_rotated_in_a_loop_while_it_is_written(
    book: Book, rotate: Callable[[Book, int, threading.Lock], None]
) -> None:
    """F39: the follower is stopped and started again all the while, too."""
    lock, done = threading.Lock(), threading.Event()
    writes = random.Random(39)

    def write() -> None:
        # As Asterisk: one descriptor for many lines, opened again a while after the rotation.
        while not done.is_set():
            with book.path.open("ab", buffering=0) as file:
                for _ in range(writes.randrange(1, 60)):
                    with lock:
                        text = line(book.written)
                        cut = writes.randrange(len(text))
                        file.write(text[:cut])
                        file.write(text[cut:])
                        book.written += 1
            time.sleep(0.001)

    def turn() -> None:
        for step in range(30):
            time.sleep(0.03)
            wait_for(book.path)
            rotate(book, step, lock)

    writer = threading.Thread(target=write)
    writer.start()
    rotator = threading.Thread(target=turn)
    rotator.start()
    polls = 0
    while rotator.is_alive():
        book.poll()
        polls += 1
        if polls % 5 == 0:
            book.restart()
    done.set()
    writer.join()
    book.check()
    assert book.written > 500


STEPS = st.lists(
    st.sampled_from(["write", "half", "poll", "restart", "rename", "copy", "pack", "sequential"]), max_size=40
)


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_any_order_of_events(tmp_path_factory: pytest.TempPathFactory, steps: list[str]) -> None:
    """F39, B60: whatever is done between two polls, in whatever order."""
    book = Book(tmp_path_factory.mktemp("book"))
    lock = threading.Lock()
    half = b""
    for step, what in enumerate(steps):
        if what == "half" and not half:
            half = line(book.written)
            with book.path.open("ab") as file:
                file.write(half[:20])
        elif what in ("write", "rename", "copy", "sequential") and half:
            with book.path.open("ab") as file:
                file.write(half[20:])
            half, book.written = b"", book.written + 1
        if what == "write":
            book.write(3)
        elif what in ("rename", "copy", "sequential") and book.path.exists() and book.path.stat().st_size:
            # Asterisk's own numbers would collide with logrotate's: nobody uses both.
            (rotate_by_copy if what == "copy" else rotate_by_rename)(book, step, lock)
        elif what == "pack" and book.rotated(2).exists():
            pack(book.rotated(2))
            book.rotated(2, packed=True).rename(book.path.with_name(f"queue_log.{1000 + step}.gz"))
        elif what == "poll":
            book.poll()
        elif what == "restart" and book.read:
            book.restart()
    if half:
        with book.path.open("ab") as file:
            file.write(half[20:])
        book.written += 1
    first = book.read[0] if book.read else None
    book.poll()
    book.follower.close()
    if first == 0:
        assert book.read == list(range(book.written))
        assert book.lost + book.follower.lost == 0
    else:  # the follower began after some files were full: the rest is for read_period
        assert book.read == list(range(book.read[0], book.written)) if book.read else True


def test_a_record_of_ten_megabytes_is_passed(tmp_path: Path) -> None:
    """B64: the position goes on, too."""
    path = tmp_path / "queue_log"
    path.write_bytes(line(0) + b"x" * 10_000_000 + b"\n" + line(1))
    follower = Follower(path, QueueLines)
    seen = follower.poll()
    while follower.is_behind:
        seen += follower.poll()
    assert (numbers(seen), follower.damaged, follower.lost) == ([0, 1], 1, 0)
    assert follower.position
    assert follower.position.offset == path.stat().st_size
    follower.close()


def test_a_period_is_read_from_all_files_that_hold_a_part_of_it(book: Book) -> None:
    for number in (4, 3, 2, 1):
        book.write(20)
        book.path.rename(book.rotated(number))
    for number in (4, 3):
        pack(book.rotated(number))
    shutil.copy(book.rotated(2), book.path.with_name("queue_log.bak"))
    book.write(20)

    def seen(first: int, last: int) -> list[int]:
        since, until = (
            datetime.fromtimestamp(BEGAN + 10 * number, UTC) + timedelta(seconds=0.5)
            for number in (first, last)
        )
        return numbers(list(read_period(book.path, QueueLines, since, until)))

    assert seen(0, 200) == list(range(100))
    assert seen(15, 45) == list(range(15, 46))
    assert seen(85, 86) == [85, 86]
    assert seen(300, 400) == []


def test_a_period_without_any_file(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    assert list(read_period(tmp_path / "a" / "queue_log", QueueLines, now, now)) == []


def test_a_period_tells_what_could_not_be_read(tmp_path: Path) -> None:
    """B60, B61."""
    path = tmp_path / "queue_log"
    path.write_bytes(line(0) + b"\0" * 100 + line(1) + b"garbage\n")
    told: list[tuple[Path, int]] = []
    since = datetime.fromtimestamp(BEGAN, UTC)
    found = read_period(
        path, QueueLines, since, since + timedelta(hours=1), on_damage=lambda *damage: told.append(damage)
    )
    assert numbers(list(found)) == [0, 1]
    assert told == [(path, 2)]


DIALPLAN = """
[book]
exten => s,1,QueueLog(repair,${UNIQUEID},NONE,BOOKED)
 same => n,Answer()
 same => n,Hangup()
"""


@pytest.mark.timeout(120, func_only=True)
@pytest.mark.parametrize("version", [22, 16])
def test_asterisk_rotates_during_calls(tmp_path: Path, version: int) -> None:
    """F39: ``logger rotate``, and what logrotate does, on both books of a real Asterisk."""
    with Exchange(version, folder=tmp_path / "asterisk", dialplan=DIALPLAN) as exchange:
        queue_log, cel = Follower(exchange.queue_log, QueueLines), Follower(exchange.cel, CelReader)
        lines: list[QueueLine] = []
        events: list[CelEvent] = []

        def poll() -> None:
            lines.extend(queue_log.poll())
            events.extend(cel.poll())

        for step in range(9):
            for _ in range(3):
                exchange.cli("channel originate Local/s@book application Wait 0.05")
                poll()
            if step % 3 == 0:
                exchange.cli("logger rotate")
            elif step % 3 == 1:
                exchange.queue_log.rename(exchange.queue_log.with_name(f"queue_log-{step}"))
                poll()
                exchange.cli("logger reload")
                exchange.cel.rename(exchange.cel.with_name(f"ctid.csv.{step}"))
            poll()
        until = time.monotonic() + 20
        while sum(event.kind == "LINKEDID_END" for event in events) < 27 and time.monotonic() < until:
            time.sleep(0.05)
            poll()
        booked = [each.call for each in lines if each.verb == "BOOKED"]
        assert len(booked) == len(set(booked)) == 27
        assert {event.uniqueid for event in events} >= set(booked)
        assert len({(e.kind, e.uniqueid, e.at) for e in events}) == len(events)
        ended = [event.linkedid for event in events if event.kind == "LINKEDID_END"]
        assert len(ended) == len(set(ended)) == 27
        assert (queue_log.lost, queue_log.damaged, cel.lost, cel.damaged) == (0, 0, 0, 0)
        queue_log.close()
        cel.close()
