"""The pump: what arrives reaches every outbox in order, and commands reach Asterisk, once."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest

from ctid.acd.centre import Centre
from ctid.acd.facts import CallEnded, CallHandled, Fact, RequestSnapshot, SetPause, WrapUpEnded
from ctid.ami.actions import Action, QueuePause
from ctid.ami.batches import Delivery
from ctid.ami.events import AmiEvent, Gap, Hangup, LinkLost, Newchannel, Snapshot
from ctid.errors import ActionFailed, ActionTimedOut, AsteriskError
from ctid.memory import Input, Recovered, apply
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


class Books:
    """What was asked of the books, and what they answer."""

    def __init__(self, *told: AmiEvent) -> None:
        self.told = told
        self.asked: list[tuple[datetime, datetime]] = []
        self.inputs: list[Input] = []

    async def missed(self, since: datetime, until: datetime) -> Sequence[AmiEvent]:
        self.asked.append((since, until))
        return [event for event in self.told if since < event.at < until]


async def pumped(books: Books, *batches: Sequence[Delivery]) -> list[Fact]:
    """Feed batches through a pump that asks ``books``; return the facts."""
    link = FakeLink()
    sink = ListSink("one")
    outbox = Outbox(sink)
    async with asyncio.TaskGroup() as group:
        pump = Pump(
            link=link,  # type: ignore[arg-type]
            centre=Centre({"sales": WITH_NOTE}, {}),
            outboxes=[outbox],
            orders=Orders(link, group),  # type: ignore[arg-type]
            changed=lambda: None,
            note=lambda inputs: books.inputs.extend(inputs),
            missed=books.missed,
            now=lambda: BEGIN,
        )
        runs = [group.create_task(part.run()) for part in (pump, outbox)]
        for batch in batches:
            link.batches.put_nowait(list(batch))
            while not link.batches.empty():
                await asyncio.sleep(0)
            for _ in range(10):
                await asyncio.sleep(0)
        await outbox.drained()
        for run in runs:
            run.cancel()
    return sink.facts


BEGIN = datetime(2026, 11, 25, 8, tzinfo=UTC)
TENTH = timedelta(milliseconds=100)


def at(seconds: float) -> datetime:
    return BEGIN + timedelta(seconds=seconds)


def newchannel(seconds: float, leg: str) -> Newchannel:
    return Newchannel(at=at(seconds), channel=f"PJSIP/trunk-{leg}", uniqueid=leg, linkedid=leg)


def hangup(seconds: float, leg: str) -> Hangup:
    return Hangup(at=at(seconds), channel=f"PJSIP/trunk-{leg}", uniqueid=leg, linkedid=leg, cause=16)


def snapshot(seconds: float) -> Snapshot:
    return Snapshot(at=at(seconds), boot=at(-1000), system="", channels=(), queues=(), members=(), entries=())


async def test_after_a_lost_link_the_books_are_asked_about_the_time_between() -> None:
    """F39: from the last that was heard to the snapshot; what they tell comes before the snapshot."""
    books = Books(hangup(5, "1"))
    lost = LinkLost(at=at(3), why="cut")
    facts = await pumped(
        books, [snapshot(0)], [newchannel(1, "1"), newchannel(2, "2")], [lost], [snapshot(10)], [snapshot(20)]
    )
    # Of the first snapshot nothing is asked: nobody knows of a time before it.
    assert books.asked == [(at(3) - TENTH, at(10) + TENTH)]
    ends = [(fact.call, fact.at, fact.recovered) for fact in facts if isinstance(fact, CallEnded)]
    assert ends[0] == ("1", at(5), True)


async def test_inputs_are_noted_as_the_core_is_told() -> None:
    """F25: the books' words are announced by their number, and a replay tells the same."""
    books = Books(hangup(5, "1"), newchannel(6, "3"))
    await pumped(books, [snapshot(0)], [newchannel(1, "1")], [LinkLost(at=at(3), why="cut")], [snapshot(10)])
    assert [type(one).__name__ for one in books.inputs] == [
        "Snapshot",
        "Newchannel",
        "LinkLost",
        "Recovered",
        "Hangup",
        "Newchannel",
        "Snapshot",
    ]
    assert books.inputs[3] == Recovered(2)
    centre = Centre({"sales": WITH_NOTE}, {})
    again = [fact for step in apply(centre, books.inputs) for fact in step.facts]
    assert again == await pumped(
        Books(*books.told),
        [snapshot(0)],
        [newchannel(1, "1")],
        [LinkLost(at=at(3), why="cut")],
        [snapshot(10)],
    )


async def test_a_gap_is_looked_up_some_seconds_back() -> None:
    """F04: a number that is missing is told later than its event should have come."""
    books = Books()
    await pumped(
        books,
        [snapshot(0)],
        [newchannel(20, "1")],
        [Gap(at=at(20))],
        [hangup(21, "1")],
        [snapshot(22)],
    )
    assert books.asked == [(at(15), at(22) + TENTH)]


async def test_the_earliest_doubt_counts_and_is_settled_once() -> None:
    books = Books()
    await pumped(
        books,
        [snapshot(0), newchannel(20, "1")],
        [Gap(at=at(20))],
        [Gap(at=at(30))],
        [snapshot(31)],
        [snapshot(40)],
    )
    assert books.asked == [(at(15), at(31) + TENTH)]


async def test_what_ami_told_since_the_login_is_not_told_by_the_books() -> None:
    """F08: both tell of the time between the login and the snapshot; AMI's word counts, at its instant."""
    books = Books(newchannel(9.5, "2"), newchannel(5, "3"))
    facts = await pumped(
        books,
        [snapshot(0)],
        [newchannel(1, "1")],
        [LinkLost(at=at(3), why="cut")],
        [snapshot(10), newchannel(9.51, "2"), hangup(11, "2")],
    )
    order = [(type(one).__name__, getattr(one, "uniqueid", "")) for one in books.inputs[3:]]
    assert order == [
        ("Recovered", ""),
        ("Newchannel", "3"),
        ("Newchannel", "2"),
        ("Snapshot", ""),
        ("Hangup", "2"),
    ]
    (end,) = (fact for fact in facts if isinstance(fact, CallEnded) and fact.call == "2")
    assert (end.began_at, end.recovered) == (at(9.51), False)


async def test_without_books_nothing_is_announced() -> None:
    books = Books()
    await pumped(books, [snapshot(0)], [LinkLost(at=at(3), why="cut")], [snapshot(10)])
    assert [type(one).__name__ for one in books.inputs] == ["Snapshot", "LinkLost", "Snapshot"]
