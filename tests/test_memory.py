"""The core after a kill is what it was, whenever the kill came; with a real log on a real disk."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
from collections.abc import Sequence
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from ctid.acd.centre import Centre
from ctid.acd.facts import Fact
from ctid.acd.rules import QueueRule
from ctid.ami.events import Gap, LinkLost
from ctid.errors import LogUnavailable
from ctid.memory import Input, Memory, NoteSaved, Recovered, Tick, apply
from ctid.store.segments import SegmentLog
from tests.fakes_gap import Window, live

RULES = {"sales": QueueRule(), "wrap": QueueRule(wrap_up=timedelta(seconds=4)), "support": QueueRule()}
AGENTS = {"PJSIP/1005": "1005"}
SECOND = timedelta(seconds=1)


class Life:
    """One life of ctid: its log, its memory and its core. To kill it is to forget it."""

    def __init__(self, folder: Path, *, version: str = "1", cap_bytes: int = 1 << 30) -> None:
        self.log = SegmentLog(folder / "inputs", segment_bytes=1 << 14, cap_bytes=cap_bytes)
        self.log.open()
        self.memory = Memory(folder, self.log, version=version)
        self.centre = Centre(RULES, AGENTS)
        self.again = self.memory.restore(self.centre)

    def hear(self, inputs: Sequence[Input]) -> list[Fact]:
        """Note, then tell, as the pump does."""
        self.memory.note(inputs)
        return [fact for step in apply(self.centre, inputs) for fact in step.facts]

    async def checkpoint(self) -> None:
        await self.memory.checkpoint(self.centre, lambda: True, at_once)


async def at_once() -> None:
    """All facts are on the disk."""


def batches(size: int = 3) -> list[list[Input]]:
    """A day: notes, ticks, a lost link, a hole and what the books told of it."""
    said: list[Input] = list(live("22/wrapup"))
    missed = Window("22/wrapup", RULES, AGENTS).books(said[5].at, said[20].at)
    said[25:25] = [
        LinkLost(at=said[24].at, why="cut"),
        Gap(at=said[24].at),
        Recovered(len(missed)),
        *missed,
        Tick(said[24].at),
    ]
    said += [Tick(said[-1].at + 2 * SECOND), NoteSaved(said[-1].at + 3 * SECOND, "1005")]
    # What the books told follows its announcement in one record.
    cuts = [0, *(n for n in range(size, len(said), size) if not 25 < n <= 28 + len(missed)), len(said)]
    return [said[begin:end] for begin, end in pairwise(cuts)]


def keys(facts: Sequence[Fact]) -> list[tuple[object, ...]]:
    return [(type(fact), fact.call, fact.about, fact.at) for fact in facts]


def same_but_deaf(one: Centre, other: Centre) -> bool:
    """The same floor, apart from what every restart adds: that the link is lost."""
    states = [msgspec.structs.asdict(centre.state()) for centre in (one, other)]
    for state in states:
        for name in ("lost_at", "is_synced", "is_asked", "last_at"):
            del state[name]
    return states[0] == states[1]


@pytest.mark.parametrize("kill", range(24))
async def test_killed_anywhere(tmp_path: Path, kill: int) -> None:
    """F25: kill -9 after any input; the facts that come out again are the same, to the key."""
    whole = batches()
    checkpoint_at = kill // 2
    one = Life(tmp_path)
    facts: list[Fact] = []
    for number, batch in enumerate(whole[:kill]):
        if number == checkpoint_at:
            await one.checkpoint()
            facts = []
        facts += one.hear(batch)
    two = Life(tmp_path)
    assert two.again == facts
    assert keys(two.again) == keys(facts)
    assert same_but_deaf(two.centre, one.centre)
    assert two.centre.is_behind
    assert two.memory.is_restored


async def test_killed_while_a_checkpoint_is_written(tmp_path: Path) -> None:
    """F25: half a checkpoint beside the whole one is of no meaning; nor is a whole one whose log is long."""
    whole = batches()
    one = Life(tmp_path)
    for batch in whole[:10]:
        one.hear(batch)
    (tmp_path / "checkpoint.new").write_bytes(b"half")
    before = (tmp_path / "checkpoint").read_bytes()
    assert same_but_deaf(Life(shutil_copy(tmp_path, "half")).centre, one.centre)
    # Written, but the log was not shortened yet: what it holds before the number is not told again.
    inputs = shutil_copy(tmp_path, "long")
    await one.checkpoint()
    shutil.copy(tmp_path / "checkpoint", inputs / "checkpoint")
    two = Life(inputs)
    assert two.again == []
    assert same_but_deaf(two.centre, one.centre)
    assert before != (tmp_path / "checkpoint").read_bytes()


def shutil_copy(folder: Path, name: str) -> Path:
    return Path(shutil.copytree(folder, folder.parent / f"{folder.name}-{name}"))


@pytest.mark.parametrize("torn", [1, 7, 40])
async def test_a_torn_tail_costs_the_last_batch_only(tmp_path: Path, torn: int) -> None:
    """F25: the power went while a record was written."""
    whole = batches()
    one = Life(tmp_path)
    for batch in whole[:9]:
        one.hear(batch)
    calm = Life(shutil_copy(tmp_path, "calm"))
    one.hear(whole[9])
    newest = max((tmp_path / "inputs").glob("*.log"))
    os.truncate(newest, newest.stat().st_size - torn)
    two = Life(tmp_path)
    assert two.again == calm.again
    assert same_but_deaf(two.centre, calm.centre)


async def test_a_damaged_record_begins_anew(tmp_path: Path) -> None:
    """F25: a core that was not told one of its inputs would lie; an empty one asks the books."""
    whole = batches()
    one = Life(tmp_path)
    for batch in whole[:9]:
        one.hear(batch)
    newest = max((tmp_path / "inputs").glob("*.log"))
    block = bytearray(newest.read_bytes())
    place = block.index(b"AgentCalled")
    block[place] ^= 4
    newest.write_bytes(block)
    two = Life(tmp_path)
    assert two.log.corrupt == 1
    assert (two.again, two.memory.is_restored, two.centre.last_at) == ([], False, None)
    facts = two.hear(whole[0])
    assert Life(tmp_path).again == facts


async def test_another_version_begins_empty(tmp_path: Path) -> None:
    one = Life(tmp_path)
    one.hear(batches()[0])
    two = Life(tmp_path, version="2")
    assert (two.again, two.memory.is_restored, two.centre.last_at) == ([], False, None)
    two.hear(batches()[1])
    assert Life(tmp_path, version="2").again


async def test_another_log_begins_empty(tmp_path: Path) -> None:
    one = Life(tmp_path)
    one.hear(batches()[0])
    await one.checkpoint()
    shutil.rmtree(tmp_path / "inputs")
    two = Life(tmp_path)
    assert (two.again, two.memory.is_restored, two.centre.last_at) == ([], False, None)


async def test_a_checkpoint_that_is_none(tmp_path: Path) -> None:
    one = Life(tmp_path)
    one.hear(batches()[0])
    (tmp_path / "checkpoint").write_bytes(b"\xc1 not a checkpoint")
    two = Life(tmp_path)
    assert not two.memory.is_restored


async def test_full_disk_and_after(tmp_path: Path) -> None:
    """F15, F25: a log with a hole is never told again; a whole checkpoint makes it good."""
    whole = batches()
    one = Life(tmp_path, cap_bytes=2000)
    for batch in whole[:12]:
        one.hear(batch)
    with pytest.raises(LogUnavailable):
        await one.memory.durable()
    # Killed now: what was remembered is the beginning, without a hole.
    begun = Life(shutil_copy(tmp_path, "killed"))
    assert begun.centre.last_at is not None
    assert one.centre.last_at is not None
    assert begun.centre.last_at < one.centre.last_at
    await one.checkpoint()
    await one.memory.durable()
    one.hear(whole[12])
    two = Life(tmp_path)
    assert two.memory.is_restored
    assert same_but_deaf(two.centre, one.centre)


async def test_a_checkpoint_waits_until_the_facts_are_where_they_survive(tmp_path: Path) -> None:
    """F25: inputs are forgotten only when what followed from them can not be lost any more."""
    one = Life(tmp_path)
    facts = one.hear(batches()[0])
    order: list[str] = []
    is_delivered = False

    async def settle() -> None:
        order.append("settled")
        assert Life(shutil_copy(tmp_path, "meanwhile")).again == facts

    task = asyncio.create_task(one.memory.checkpoint(one.centre, lambda: is_delivered, settle))
    await asyncio.sleep(0.05)
    assert order == []
    is_delivered = True
    await task
    assert order == ["settled"]
    assert Life(tmp_path).again == []


async def test_two_restarts_in_a_row(tmp_path: Path) -> None:
    """F25: a restart notes that nobody listened; the next one knows it, too."""
    one = Life(tmp_path)
    facts = [fact for batch in batches()[:6] for fact in one.hear(batch)]
    two = Life(tmp_path)
    three = Life(tmp_path)
    assert two.again == facts
    assert three.again == facts
    assert msgspec.msgpack.encode(three.centre.state()) == msgspec.msgpack.encode(two.centre.state())


async def test_a_disk_that_takes_nothing_stops_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """F15: full, or mounted read-only under us: ctid goes on, says so once, and remembers when it can."""
    whole = batches()
    one = Life(tmp_path)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refuse)
        patch.setattr(os, "open", refuse)
        patch.setattr(one.log, "append", lambda bodies: refuse_log())
        for batch in whole[:3]:
            one.hear(batch)
            await one.checkpoint()
    assert capsys.readouterr().out.count("can not remember") == 1
    await one.checkpoint()
    one.hear(whole[3])
    two = Life(tmp_path)
    assert two.memory.is_restored
    assert same_but_deaf(two.centre, one.centre)


def refuse_log() -> int:
    raise LogUnavailable("read-only")


async def test_a_log_that_could_not_be_opened_is_opened_later(tmp_path: Path) -> None:
    one = Life(tmp_path)
    one.log.close()
    one.hear(batches()[0])
    await one.checkpoint()
    one.hear(batches()[1])
    assert Life(tmp_path).memory.is_restored
