"""Recordings: each ends as one file and one row, whatever happens to files, disk, database and daemon."""

from __future__ import annotations

import asyncio
import hashlib
import os
import struct
import wave
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog

from ctid.acd.facts import RecordingStopped, TalkEnded
from ctid.settings import Archive, Database
from ctid.sinks import archive, shelf
from ctid.sinks.archive import ArchiveSink
from ctid.store import recordings
from ctid.store.pool import Pool
from ctid.store.recordings import Recording
from lab.postgres import PrivatePostgres
from tests.fakes_facts import answered_call, seconds, store_facts, uuid_of

NAME = uuid_of(1)
CALL = "ast-1700000000.2"
RATE = 8000


class Tell:
    """What the sink tells the metrics, and when."""

    def __init__(self) -> None:
        self.results: list[str] = []
        self.lags: list[timedelta] = []
        self.told = asyncio.Event()

    def __call__(self, result: str, lag: timedelta) -> None:
        self.results.append(result)
        self.lags.append(lag)
        self.told.set()

    async def wait(self) -> None:
        async with asyncio.timeout(10):
            await self.told.wait()
        self.told.clear()


@asynccontextmanager
async def running(
    pool: Pool, folder: Path, *, give_up: float = 300, now: datetime | None = None
) -> AsyncIterator[tuple[ArchiveSink, Tell]]:
    tell = Tell()
    sink = ArchiveSink(
        pool,
        folder,
        Archive(settle="0s", give_up=f"{give_up}s"),
        on_filed=tell,
        now=lambda: now or datetime.now(UTC),
    )
    task = asyncio.create_task(sink.run())
    try:
        yield sink, tell
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def stopped(expected: float = 1.0, *, name: str = NAME, ago: float = 60, call: str = CALL) -> list[Any]:
    end = datetime.now(UTC) - seconds(ago)
    talk = TalkEnded(
        at=end,
        call=call,
        agent="201",
        interface="PJSIP/201",
        leg="x",
        began_at=end - seconds(expected),
        talked=seconds(expected),
        held=seconds(0),
        holds=0,
        ended_by="caller",
    )
    # Asterisk began to record at the answer, long before somebody talked.
    began = end - seconds(expected + 30)
    recording = RecordingStopped(at=end, call=call, recording=name, began_at=began, expected=end - began)
    return [recording, talk]


def leg(
    folder: Path, side: str, length: float, *, name: str = NAME, level: int = 1000, age: float = 60
) -> Path:
    path = folder / f"{name}-{side}.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(struct.pack("<h", level) * int(length * RATE))
    then = datetime.now(UTC).timestamp() - age
    os.utime(path, (then, then))
    return path


def both(folder: Path, length: float, *, name: str = NAME) -> None:
    leg(folder, "caller", length, name=name, level=100)
    leg(folder, "agent", length, name=name, level=-100)


def unfinish(path: Path) -> None:
    """Leave the header as Asterisk writes it at first."""
    status = path.stat()
    content = path.read_bytes()
    path.write_bytes(content[:4] + bytes(4) + content[8:40] + bytes(4) + content[44:])
    os.utime(path, (status.st_mtime, status.st_mtime))


async def row(pool: Pool, name: str = NAME) -> Recording:
    found = await recordings.find(pool, name)
    assert found is not None
    return found


async def filed(pool: Pool, folder: Path, told: list[Any], **more: Any) -> Recording:
    async with running(pool, folder, **more) as (sink, tell):
        await sink.write(told)
        await tell.wait()
    return await row(pool)


async def test_a_good_recording(pool: Pool, tmp_path: Path) -> None:
    both(tmp_path, 1.0)
    async with running(pool, tmp_path) as (sink, tell):
        await sink.write(stopped())
        await tell.wait()
        assert tell.results == ["complete"]
        assert seconds(59) < tell.lags[0] < seconds(75)
        assert sink.pending == 0
    found = await row(pool)
    path = archive.path_of(tmp_path, found)
    assert path is not None
    began = datetime.now(UTC) - seconds(91)
    assert path == tmp_path / f"{began:%Y/%m/%d}" / f"{NAME}.wav"
    assert (found.result, found.problem, found.duration) == ("complete", "", seconds(1))
    assert found.size_bytes == path.stat().st_size == 44 + 4 * RATE
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    with wave.open(str(path)) as file:
        assert file.readframes(1) == struct.pack("<hh", 100, -100)  # caller left, agent right
    assert [one.name for one in tmp_path.iterdir()] == [path.relative_to(tmp_path).parts[0]]
    assert path.stat().st_mode & 0o007 == 0


async def test_an_unfinished_header_is_repaired(pool: Pool, tmp_path: Path) -> None:
    both(tmp_path, 1.0)
    unfinish(tmp_path / f"{NAME}-agent.wav")
    found = await filed(pool, tmp_path, stopped())
    assert (found.result, found.duration) == ("repaired", seconds(1))


async def test_a_file_still_being_written_is_waited_for(pool: Pool, tmp_path: Path) -> None:
    leg(tmp_path, "caller", 1.0)
    agent = leg(tmp_path, "agent", 0.5, age=0)
    unfinish(agent)
    async with running(pool, tmp_path) as (sink, tell):
        await sink.write(stopped(ago=0))
        await asyncio.sleep(0.3)
        assert not tell.results
        leg(tmp_path, "agent", 1.0)
        await tell.wait()
    assert (await row(pool)).result == "complete"


async def test_a_file_that_comes_late_is_waited_for(pool: Pool, tmp_path: Path) -> None:
    leg(tmp_path, "caller", 1.0)
    async with running(pool, tmp_path) as (sink, tell):
        await sink.write(stopped(5, ago=0))
        await asyncio.sleep(0.2)
        leg(tmp_path, "caller", 5.0)
        leg(tmp_path, "agent", 5.0)
        await tell.wait()
    assert (await row(pool)).result == "complete"


@pytest.mark.parametrize(
    ("there", "due", "result"),
    [
        (10, 10.9, "complete"),
        (10, 11.1, "truncated"),
        (98.5, 100, "complete"),
        (97.9, 100, "truncated"),
        (12, 10, "complete"),
    ],
)
async def test_how_much_may_lack(pool: Pool, tmp_path: Path, there: float, due: float, result: str) -> None:
    both(tmp_path, there)
    found = await filed(pool, tmp_path, stopped(due))
    assert found.result == result
    assert bool(found.problem) == (result == "truncated")


async def test_what_nobody_talked_in_is_not_missing(pool: Pool, tmp_path: Path) -> None:
    found = await filed(pool, tmp_path, stopped(5)[:1])
    assert (found.result, found.path) == ("empty", "")
    assert archive.path_of(tmp_path, found) is None


async def test_no_file_is_missing_after_a_while(pool: Pool, tmp_path: Path) -> None:
    found = await filed(pool, tmp_path, stopped(5), give_up=10)
    assert (found.result, found.path, found.duration) == ("missing", "", seconds(0))


async def test_one_side_only(pool: Pool, tmp_path: Path) -> None:
    leg(tmp_path, "caller", 1.0)
    found = await filed(pool, tmp_path, stopped(), give_up=10)
    assert (found.result, found.duration) == ("truncated", seconds(1))
    assert "agent's side is missing" in (found.problem or "")


@pytest.mark.parametrize("size", [0, 10, 44])
async def test_files_without_sound(pool: Pool, tmp_path: Path, size: int) -> None:
    both(tmp_path, 1.0)
    for file in tmp_path.glob("*.wav"):
        os.truncate(file, size)
        os.utime(file, (0, 0))
    found = await filed(pool, tmp_path, stopped(5))
    assert (found.result, found.duration) == ("truncated", seconds(0))
    assert found.problem


async def test_a_file_that_is_none_is_kept_and_told(pool: Pool, tmp_path: Path) -> None:
    leg(tmp_path, "caller", 1.0)
    (tmp_path / f"{NAME}-agent.wav").write_bytes(b"not a wav file at all")
    os.utime(tmp_path / f"{NAME}-agent.wav", (0, 0))
    found = await filed(pool, tmp_path, stopped())
    assert found.result == "truncated"
    assert "-agent.wav" in (found.problem or "")
    assert (tmp_path / f"{NAME}-agent.wav").exists()


async def test_links_are_not_followed(pool: Pool, tmp_path: Path) -> None:
    folder, outside = tmp_path / "recordings", tmp_path / "outside"
    folder.mkdir()
    outside.mkdir()
    secret = leg(outside, "agent", 1.0)
    before = secret.read_bytes()
    leg(folder, "caller", 1.0)
    (folder / f"{NAME}-agent.wav").symlink_to(secret)
    found = await filed(pool, folder, stopped())
    assert found.result == "truncated"
    assert secret.read_bytes() == before
    path = archive.path_of(folder, found)
    assert path is not None
    with wave.open(str(path)) as file:
        right = file.readframes(file.getnframes())[2:4]
    assert right == b"\0\0", "the linked file must not be in the recording"


async def test_a_linked_folder_is_not_written_through(pool: Pool, tmp_path: Path) -> None:
    folder, outside = tmp_path / "recordings", tmp_path / "outside"
    folder.mkdir()
    outside.mkdir()
    both(folder, 1.0)
    began = datetime.now(UTC) - seconds(91)
    (folder / f"{began:%Y}").symlink_to(outside)
    async with running(pool, folder) as (sink, _):
        with structlog.testing.capture_logs() as log:
            await sink.write(stopped())
            await asyncio.sleep(0.2)
        assert sink.pending == 1
    assert list(outside.iterdir()) == []
    assert len(list(folder.glob("*.wav"))) == 2
    assert "recording can not be filed yet" in [entry["event"] for entry in log]


async def test_a_fifo_does_not_hang_it(pool: Pool, tmp_path: Path) -> None:
    leg(tmp_path, "caller", 1.0)
    os.mkfifo(tmp_path / f"{NAME}-agent.wav")
    found = await filed(pool, tmp_path, stopped())
    assert found.result == "truncated"


@pytest.mark.parametrize(
    "name", ["", "../../etc/passwd", "x" * 36, NAME.upper().replace("0", "A"), f"{NAME}/..", f"{NAME}\n"]
)
async def test_names_that_are_not_ours(pool: Pool, tmp_path: Path, name: str) -> None:
    async with running(pool, tmp_path) as (sink, tell):
        await sink.write(stopped(name=name))
        await asyncio.sleep(0.05)
        assert (sink.pending, tell.results) == (0, [])
    with pytest.raises(shelf.BadName):
        shelf.place_of(name, datetime.now(UTC))
    with pytest.raises(shelf.BadName), shelf.Shelf(tmp_path).found(name):
        pass
    with pytest.raises(shelf.BadName):
        shelf.Shelf(tmp_path).forget_legs(name, shelf.SIDES)


@pytest.mark.parametrize(
    "place", ["", "../x.wav", f"/2026/11/22/{NAME}.wav", f"2026/11/22/../{NAME}.wav", f"2026/11/22/{NAME}"]
)
def test_places_that_are_not_ours(tmp_path: Path, place: str) -> None:
    with pytest.raises(shelf.BadName):
        shelf.Shelf(tmp_path).path_of(place)


def test_a_link_at_a_place_of_ours(tmp_path: Path) -> None:
    folder = tmp_path / "2026/11/22"
    folder.mkdir(parents=True)
    (tmp_path / "secret").write_text("x")
    (folder / f"{NAME}.wav").symlink_to(tmp_path / "secret")
    with pytest.raises(shelf.BadName):
        shelf.Shelf(tmp_path).path_of(f"2026/11/22/{NAME}.wav")
    with pytest.raises(FileNotFoundError):
        shelf.Shelf(tmp_path).path_of(f"2026/11/22/{uuid_of(2)}.wav")


async def test_no_room_leaves_asterisks_files_alone(
    pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both(tmp_path, 1.0)
    real = os.write

    def full(file: int, block: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    async with running(pool, tmp_path) as (sink, tell):
        with structlog.testing.capture_logs() as log:
            await sink.write(stopped())
            await asyncio.sleep(0.3)
        assert tell.results == []
        assert len(list(tmp_path.glob(f"{NAME}-*.wav"))) == 2
        assert not list(tmp_path.rglob(".*.part"))
        assert "No space left" in log[0]["why"]
        monkeypatch.setattr(os, "write", real)
        await tell.wait()
    assert (await row(pool)).result == "complete"


async def test_files_while_postgresql_is_away(
    database: Database, postgres: PrivatePostgres, tmp_path: Path
) -> None:
    both(tmp_path, 1.0)
    unfinish(tmp_path / f"{NAME}-agent.wav")
    async with Pool(database) as pool, running(pool, tmp_path) as (sink, tell):
        await asyncio.to_thread(postgres.stop, "immediate")
        try:
            await sink.write(stopped())
            await asyncio.sleep(0.5)
            assert len(list(tmp_path.glob("2*/*/*/*.wav"))) == 1
        finally:
            await asyncio.to_thread(postgres.start)
        await tell.wait()
        assert tell.results == ["repaired"], "what was found before must not be forgotten"


async def test_what_was_left_undone_is_finished(pool: Pool, tmp_path: Path) -> None:
    """ctid died after the journal had the facts: the archive was never told."""
    both(tmp_path, 10.0)
    await store_facts(pool, answered_call(1), system="ast")
    async with running(pool, tmp_path) as (_, tell):
        await tell.wait()
    found = await row(pool)
    assert (found.result, found.duration, found.call) == ("complete", seconds(10), CALL)


async def test_a_recording_whose_call_ended_unseen_is_finished(pool: Pool, tmp_path: Path) -> None:
    both(tmp_path, 10.0)
    told = [fact for fact in answered_call(1) if not isinstance(fact, RecordingStopped)]
    await store_facts(pool, told, system="ast")
    async with running(pool, tmp_path) as (_, tell):
        await tell.wait()
    assert (await row(pool)).result == "complete"


async def test_joined_but_not_told_before_the_end(pool: Pool, tmp_path: Path) -> None:
    """ctid died between deleting Asterisk's files and telling PostgreSQL."""
    both(tmp_path, 1.0)
    told = stopped()
    place = shelf.place_of(NAME, told[0].began_at)
    with shelf.Shelf(tmp_path).found(NAME) as found:
        shelf.Shelf(tmp_path).put(found, place)
    shelf.Shelf(tmp_path).forget_legs(NAME, shelf.SIDES)
    again = await filed(pool, tmp_path, told)
    assert (again.result, again.path, again.duration) == ("complete", place, seconds(1))


async def test_joined_and_not_yet_deleted(pool: Pool, tmp_path: Path) -> None:
    """ctid died between the rename and the deletion."""
    both(tmp_path, 1.0)
    told = stopped()
    with shelf.Shelf(tmp_path).found(NAME) as found:
        shelf.Shelf(tmp_path).put(found, shelf.place_of(NAME, told[0].began_at))
    assert (await filed(pool, tmp_path, told)).result == "complete"
    assert not list(tmp_path.glob("*.wav"))


async def test_another_recording_under_the_same_name_is_not_overwritten(pool: Pool, tmp_path: Path) -> None:
    both(tmp_path, 1.0)
    first = await filed(pool, tmp_path, stopped())
    path = archive.path_of(tmp_path, first)
    assert path is not None
    before = path.read_bytes()
    both(tmp_path, 2.0)
    async with running(pool, tmp_path) as (sink, _):
        await sink.write(stopped(2))
        async with asyncio.timeout(5):
            while sink.pending:
                await asyncio.sleep(0.01)
    assert path.read_bytes() == before
    assert len(list(tmp_path.glob("*.wav"))) == 2
    assert await row(pool) == first


async def test_told_twice_is_filed_once(pool: Pool, tmp_path: Path) -> None:
    both(tmp_path, 1.0)
    unfinish(tmp_path / f"{NAME}-agent.wav")
    told = stopped()
    async with running(pool, tmp_path) as (sink, tell):
        await sink.write(told * 9)
        await tell.wait()
        await sink.write(told)
        async with asyncio.timeout(5):
            while sink.pending:
                await asyncio.sleep(0.01)
        assert tell.results == ["repaired"]
    assert (await row(pool)).result == "repaired"


async def test_the_journal_and_the_archive_may_come_in_any_order(pool: Pool, tmp_path: Path) -> None:
    both(tmp_path, 10.0)
    await filed(pool, tmp_path, stopped(10))
    await store_facts(pool, answered_call(1), system="ast")
    found = await row(pool)
    assert (found.result, found.call, found.expected) == ("complete", CALL, seconds(10))
    assert await recordings.of_call(pool, system="ast", call=CALL) == [found]


async def test_one_hopeless_recording_does_not_hold_up_the_next(pool: Pool, tmp_path: Path) -> None:
    both(tmp_path, 1.0, name=uuid_of(2))
    async with running(pool, tmp_path) as (sink, tell):
        await sink.write(stopped(ago=0, expected=5))
        await sink.write(stopped(name=uuid_of(2), call="other"))
        await tell.wait()
        assert sink.pending == 1
    assert (await row(pool, uuid_of(2))).result == "complete"
