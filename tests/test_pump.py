"""The pump: what arrives reaches every outbox in order, and commands reach Asterisk, once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from ctid.acd.centre import Centre
from ctid.acd.facts import CallHandled, Fact, RequestSnapshot, SetPause, WrapUpEnded
from ctid.ami.actions import Action, QueuePause
from ctid.errors import ActionFailed, ActionTimedOut, AsteriskError
from ctid.pump import Orders, Pump
from ctid.sinks.base import Outbox
from tests.fakes_floor import WITH_NOTE, Watched


class FakeLink:
    """Asterisk's side of the pump: batches to hand out, and what was asked of it."""

    def __init__(self, error: AsteriskError | None = None) -> None:
        self.batches: asyncio.Queue[list[object]] = asyncio.Queue()
        self.sent: list[Action] = []
        self.snapshots: list[str] = []
        self._error = error

    async def act(self, action: Action) -> None:
        self.sent.append(action)
        if self._error:
            raise self._error

    def request_snapshot(self, why: str) -> None:
        self.snapshots.append(why)


class ListSink:
    """Keeps what it is given."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.facts: list[Fact] = []

    async def write(self, facts: list[Fact]) -> None:
        self.facts.extend(facts)


class Stage:
    """A pump between a fake Asterisk and two sinks, on the exchange's clock."""

    def __init__(self, link: FakeLink, group: asyncio.TaskGroup) -> None:
        self.floor = Watched({"sales": WITH_NOTE})
        self.floor.is_obedient = False
        self.link = link
        self.sinks = [ListSink("one"), ListSink("two")]
        self.outboxes = [Outbox(sink) for sink in self.sinks]
        self.changes = 0
        self.centre = Centre({"sales": WITH_NOTE}, {})
        self.pump = Pump(
            link=link,  # type: ignore[arg-type]
            centre=self.centre,
            outboxes=self.outboxes,
            orders=Orders(link, group),  # type: ignore[arg-type]
            changed=self.changed,
            now=lambda: self.floor.board.at,
        )

    def changed(self) -> None:
        self.changes += 1

    async def settle(self) -> None:
        """Hand over what the exchange said, and wait until every sink has what came of it."""
        self.link.batches.put_nowait(list(self.floor.board.take()))
        while not self.link.batches.empty():
            await asyncio.sleep(0)
        for _ in range(10):
            await asyncio.sleep(0)
        for outbox in self.outboxes:
            await outbox.drained()


@asynccontextmanager
async def pumping(error: AsteriskError | None = None) -> AsyncIterator[Stage]:
    async with asyncio.TaskGroup() as group:
        stage = Stage(FakeLink(error), group)
        runs = [group.create_task(part.run()) for part in (stage.pump, *stage.outboxes)]
        yield stage
        for run in runs:
            run.cancel()


def conversation(stage: Stage) -> None:
    board = stage.floor.board
    board.login("PJSIP/1001", "sales")
    caller = board.call()
    board.join(caller, "sales")
    phone = board.ring(caller, "PJSIP/1001")
    board.wait(2)
    board.answer(phone)
    board.wait(5)
    board.hang_up(caller)


async def test_every_sink_gets_every_fact_in_order() -> None:
    async with pumping() as stage:
        conversation(stage)
        await stage.settle()
    names = [type(fact).__name__ for fact in stage.sinks[0].facts]
    assert stage.sinks[0].facts == stage.sinks[1].facts
    assert names.index("CallStarted") < names.index("OfferMade") < names.index("TalkEnded")
    assert stage.changes > 0


async def test_the_wrap_up_pause_is_asked_for_once_while_he_still_talks() -> None:
    async with pumping() as stage:
        conversation(stage)
        await stage.settle()
    pauses = [action for action in stage.link.sent if isinstance(action, QueuePause)]
    assert [(action.interface, action.paused) for action in pauses] == [("PJSIP/1001", True)]


async def test_the_cap_ends_a_wrap_up_that_nobody_ends() -> None:
    async with pumping() as stage:
        conversation(stage)
        await stage.settle()
        stage.floor.board.wait(31)
        await stage.settle()
    ended = [fact for fact in stage.sinks[0].facts if isinstance(fact, WrapUpEnded)]
    assert [fact.ended_by for fact in ended] == ["cap"]
    assert ended[0].wrapped == timedelta(seconds=30)


async def test_a_saved_note_ends_the_wrap_up_at_once() -> None:
    async with pumping() as stage:
        conversation(stage)
        await stage.settle()
        stage.floor.board.wait(4)
        assert stage.pump.end_wrap_up("1001")
        assert not stage.pump.end_wrap_up("1001")
        await stage.settle()
    handled = [fact for fact in stage.sinks[0].facts if isinstance(fact, CallHandled)]
    assert len(handled) == 1
    # The pretend exchange lets a few microseconds pass with every event.
    assert abs(handled[0].wrapped - timedelta(seconds=4)) < timedelta(milliseconds=1)


@pytest.mark.parametrize(
    ("error", "snapshots"),
    [(ActionFailed("Interface not found"), ["pause refused"]), (ActionTimedOut("no answer"), [])],
)
async def test_a_pause_that_went_wrong_is_never_sent_again(
    error: AsteriskError, snapshots: list[str]
) -> None:
    async with pumping(error) as stage:
        conversation(stage)
        await stage.settle()
    assert len(stage.link.sent) == 1
    assert stage.link.snapshots == snapshots


async def test_a_wish_for_a_snapshot_is_passed_on() -> None:
    link = FakeLink()
    async with asyncio.TaskGroup() as group:
        orders = Orders(link, group)  # type: ignore[arg-type]
        orders.give(RequestSnapshot(why="orphan"))
        orders.give(SetPause(agent="1", interface="PJSIP/1", paused=False, reason=""))
    assert link.snapshots == ["orphan"]
    assert [action.paused for action in link.sent if isinstance(action, QueuePause)] == [False]
