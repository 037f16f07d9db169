"""An outside caller writes AMI events with his SIP user name: none is believed, each is counted.

Every variation is a real INVITE to a real Asterisk, sent while another call is being talked
on; that call must still be measured right (docs: ``ctid/ami/guard.py``).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote

import pytest
import pytest_asyncio

from lab import ledger
from lab.floor import LINES
from lab.phone import Plan
from lab.scenes import Figure, Notebook
from lab.spy import Spy
from lab.stage import Stage

pytestmark = pytest.mark.timeout(90, func_only=True)

MARK = "FORGED"
"""In everything that is forged, so that any trace of it can be found."""


@dataclass(frozen=True)
class Knowledge:
    """What the forger knows: far more than anybody outside can.

    Attributes:
        number: The SequenceNumber that comes next, exactly.
        stamp: Asterisk's clock.
        agent_channel, agent_leg, caller_leg: Of the live call beside.
    """

    number: int
    stamp: float
    agent_channel: str
    agent_leg: str
    caller_leg: str
    action_id: str = "1"

    def numbered(self, offset: int) -> str:
        return f"SequenceNumber: {self.number + offset}"


@dataclass(frozen=True)
class Forgery:
    """One way to try.

    Attributes:
        lines: What is to stand in the stream, from the caller's knowledge.
        where: ``from``: the caller's number; ``to``: the dialled extension; ``both``.
        newline: As it is written in the URI.
        is_damaging: Something of it must be noticed and counted.
    """

    name: str
    lines: Callable[[Knowledge], Sequence[str]]
    where: str = "from"
    newline: str = "\r\n"
    is_damaging: bool = True

    def text(self, known: Knowledge) -> str:
        return self.newline.join(self.lines(known))


def _connect(_: Knowledge) -> Sequence[str]:
    return ["1", "", "Event: AgentConnect", f"Queue: {MARK}", "Interface: PJSIP/1002", "X: "]


def _numbered(offset: int) -> Callable[[Knowledge], Sequence[str]]:
    """The exact next number, or one of those just after it: an INVITE causes several events."""
    return lambda k: [
        "1",
        "",
        "Event: UserEvent",
        "Privilege: user,all",
        k.numbered(offset),
        f"Queue: {MARK}",
        "",
        "",
    ]


def _short(offset: int) -> Callable[[Knowledge], Sequence[str]]:
    """Short enough to survive the cut at 79 characters together with its number."""
    return lambda k: ["1", "", "Event: Hangup", k.numbered(offset), f"Uniqueid: {k.agent_leg}", "", ""]


FORGERIES = [
    Forgery("plain_event", _connect),
    Forgery("line_feed_only", _connect, newline="\n"),
    Forgery("carriage_return_only", _connect, newline="\r", is_damaging=False),
    Forgery("in_dialled_extension", lambda k: ["4001", *_connect(k)[1:]], where="to"),
    Forgery("line_feed_in_dialled_extension", lambda k: ["4001", "Uniqueid: 9.9"], where="to", newline="\n"),
    Forgery("in_both", lambda k: ["4001", *_connect(k)[1:]], where="both"),
    *(Forgery(f"exact_number_plus_{i}", _numbered(i)) for i in range(4)),
    *(Forgery(f"hangup_of_the_live_call_plus_{i}", _short(i)) for i in range(4)),
    Forgery(
        "hangup_of_the_live_call", lambda k: ["1", "", "Event: Hangup", f"Uniqueid: {k.agent_leg}", "", ""]
    ),
    Forgery("response", lambda k: ["1", "", "Response: Success", f"Message: {MARK}", "", ""]),
    Forgery(
        "response_with_action_id",
        lambda k: ["1", "", "Response: Error", "ActionID: 1", f"Message: {MARK}", "", ""],
    ),
    Forgery(
        "list_end",
        lambda k: ["1", "", "Event: QueueStatusComplete", "EventList: Complete", "ActionID: 1", "", ""],
    ),
    Forgery("goodbye", lambda k: ["1", "", "Response: Goodbye", "", ""]),
    Forgery("second_uniqueid_in_the_same_frame", lambda k: ["1", f"Uniqueid: {k.agent_leg}", "X: "]),
    Forgery("second_linkedid_in_the_same_frame", lambda k: ["1", f"Linkedid: {k.caller_leg}", "X: "]),
    Forgery("second_event_header", lambda k: ["1", "Event: Hangup", f"Uniqueid: {k.agent_leg}", "X: "]),
    Forgery("rest_completes_a_join", lambda k: ["1", "", "Event: QueueCallerJoin", "Queue: moving", "X: "]),
    Forgery(
        "rest_completes_a_numbered_join",
        lambda k: ["1", "", "Event: QueueCallerJoin", k.numbered(1), "Queue: moving", "X: "],
    ),
    Forgery(
        "rest_completes_a_hangup",
        lambda k: [
            "1",
            "",
            "Event: Hangup",
            "Privilege: call,all",
            f"Timestamp: {k.stamp:.6f}",
            k.numbered(0),
        ],
    ),
    Forgery(
        "full_prologue",
        lambda k: [
            "1",
            "",
            "Event: Shutdown",
            "Privilege: system,all",
            f"Timestamp: {k.stamp:.6f}",
            k.numbered(1),
            "",
            "",
        ],
    ),
    Forgery("shutdown", lambda k: ["1", "", "Event: Shutdown", "", ""]),
    Forgery("fully_booted", lambda k: ["1", "", "Event: FullyBooted", "Uptime: 1", "", ""]),
    Forgery("empty_lines_only", lambda k: ["1", "", "", "", "", ""]),
    Forgery("garbage", lambda k: ["1", "", "\x01\x02\x7f:::", ": :", "Event", "", ""]),
]


@dataclass
class Attack:
    """A stage with a live call on it and a spy beside it."""

    stage: Stage
    spy: Spy
    figures: list[Figure] = field(default_factory=list)

    async def send(self, forgery: Forgery, known: Knowledge) -> None:
        """Put the INVITE on the wire; whatever Asterisk makes of the call is fine."""
        text = quote(forgery.text(known), safe="")
        attacker = await self.stage.caller()
        line = LINES["survey"].did
        user = text if forgery.where in {"from", "both"} else attacker.user
        extension = text if forgery.where in {"to", "both"} else line
        call = await attacker.send_invite(attacker.uri(extension), from_user=user)
        await asyncio.sleep(0.35)
        await call.hang_up()


@pytest_asyncio.fixture(loop_scope="session")
async def attack(centre: Stage) -> AsyncIterator[Attack]:
    async with Spy(centre.exchange) as spy:
        yield Attack(centre, spy)


async def channels(stage: Stage) -> list[list[str]]:
    """Return ``core show channels concise``, cut into fields."""
    text = await asyncio.to_thread(stage.exchange.cli, "core show channels concise")
    return [line.split("!") for line in text.splitlines() if "!" in line]


@pytest.mark.parametrize("forgery", FORGERIES, ids=lambda it: it.name)
async def test_forgery_is_counted_and_changes_nothing(attack: Attack, forgery: Forgery) -> None:
    """B12, B13, B14, B18, S04: headers and whole events, in From and in the dialled extension."""
    stage = attack.stage
    agent = stage.agent("1002")
    agent.plan = Plan(answer_after=0.3)
    caller = await stage.caller()
    book = Notebook(forgery.name, caller.user, "repair")
    call = await caller.dial(LINES["repair"].did)
    taken = await (await stage.offered(caller)).answered()
    counted = await stage.daemon.metric("ctid_ami_quarantined_total")
    pops = {number: len(screen.received) for number, screen in stage.screens.items()}

    rows = await channels(stage)
    mine = next(row for row in rows if row[0].startswith("PJSIP/1002-"))
    trunk = next(row for row in rows if row[0].startswith("PJSIP/trunk-"))
    known = Knowledge(
        await attack.spy.next_number(),
        taken.clock.answered.wall if taken.clock.answered else 0.0,
        mine[0],
        mine[-1],
        trunk[-1],
    )
    await attack.send(forgery, known)
    await asyncio.sleep(0.6)
    assert taken.clock.ended is None, "the live call was ended"
    await call.hang_up()
    await taken.ended(5)
    wrapped = await stage.save_note(taken, after=0.3)
    book.answered(call, taken)
    book.talked(taken, wrapped)

    entries = await ledger.compare(stage.pool, book.figures)
    assert [it for it in entries if not it.is_right] == [], "the live call was measured wrong"
    if forgery.is_damaging:
        assert await stage.daemon.metric("ctid_ami_quarantined_total") > counted, "nothing was counted"
    await assert_no_trace(stage, pops)
    await stage.daemon.until_ready(10)


async def assert_no_trace(stage: Stage, pops: dict[str, int]) -> None:
    """Nothing forged is in the journal, in a metric, or on any screen."""
    facts = await stage.pool.fetch("select kind, body from fact where body::text like $1", f"%{MARK}%")
    assert facts == []
    assert MARK not in await stage.daemon.metrics()
    ghosts = await stage.pool.fetch(
        "select * from queue_visit where queue <> all($1::text[]) or caller_number !~ '^[0-9+]*$'",
        [*LINES, *(f"agent-{number}" for number in stage.phones)],
    )
    assert ghosts == []
    assert (
        await stage.pool.fetchval(
            "select count(*) from queue_visit where queue = 'moving' and caller_number = '1'"
        )
        == 0
    )
    for number, screen in stage.screens.items():
        strange = [it for it in screen.received[pops[number] :] if MARK in str(it.message)]
        assert strange == []
    assert await stage.daemon.metric("ctid_queue_callers_waiting", queue="moving") == 0
