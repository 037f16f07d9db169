"""The fixed calls of ``scripts/demo --once``, each judged by the phones' own clocks.

A scene is a function of the stage; it plays one thing that happens in a call centre and
returns the *figures* its phones saw. ``lab.ledger`` finds what ctid says about each.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from lab.dialog import CallFailedError, PhoneCall
from lab.floor import LINES, TRANSFER_TO_OVERFLOW
from lab.phone import IGNORE, Phone, Plan

if TYPE_CHECKING:
    from lab.stage import Stage

Measure = Literal["outcome", "wait", "offer", "ring", "rang", "talk", "hold", "wrap", "handle", "pause"]
RING_CYCLE = 5.0
"""Seconds of one ring in China, the site of ``lab.floor``."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One thing the phones saw, for ctid's word to be held against.

    Attributes:
        caller: Number of the caller; names the call.
        agent: Whom it is about; empty for what is about the caller only.
        seen: Seconds, or an outcome.
    """

    scene: str
    measure: Measure
    caller: str
    queue: str
    agent: str
    seen: float | str


Scene = Callable[["Stage"], Awaitable[list[Figure]]]


class Notebook:
    """Collects the figures of one caller in one scene."""

    def __init__(self, scene: str, caller: str, queue: str) -> None:
        self.figures: list[Figure] = []
        self._scene = scene
        self._caller = caller
        self._queue = queue

    def note(self, measure: Measure, seen: float | str, *, agent: str = "", queue: str = "") -> None:
        """Write one figure down."""
        self.figures.append(Figure(self._scene, measure, self._caller, queue or self._queue, agent, seen))

    def answered(self, call: PhoneCall, taken: PhoneCall) -> None:
        """The caller waited from his own 200 (the exchange answers, then queues him) to the agent's.

        A queue that was reached by transfer is noted by hand: no 200 began it.
        """
        assert taken.clock.answered is not None
        assert call.clock.answered is not None
        agent = taken.phone.user
        self.note("outcome", "answered")
        self.note("wait", taken.clock.answered.since(call.clock.answered))
        self.note("offer", "answered", agent=agent)
        self.rang(taken)

    def rang(self, rung: PhoneCall, *, queue: str = "") -> None:
        """So long the agent's bell rang, and so many rings had begun."""
        agent, seconds = rung.phone.user, rung.clock.rang
        self.note("rang", seconds, agent=agent, queue=queue)
        self.note("ring", str(int(seconds // RING_CYCLE) + 1), agent=agent, queue=queue)

    def abandoned(self, call: PhoneCall) -> None:
        """The caller hung up, having waited since the exchange answered."""
        assert call.clock.answered is not None
        assert call.clock.ended is not None
        self.note("outcome", "abandoned")
        self.note("wait", call.clock.ended.since(call.clock.answered))

    def talked(self, taken: PhoneCall, wrapped: float, *, queue: str = "") -> None:
        """The agent's own part is over, note included."""
        agent = taken.phone.user
        talked, held = taken.clock.talked, taken.clock.held
        self.note("talk", talked, agent=agent, queue=queue)
        self.note("hold", held, agent=agent, queue=queue)
        self.note("wrap", wrapped, agent=agent, queue=queue)
        self.note("handle", talked + held + wrapped, agent=agent, queue=queue)


async def _answered_after(stage: Stage, scene: str, queue: str, seconds: float) -> list[Figure]:
    """The agent lets it ring for ``seconds``, talks for 2 s, and writes his note for 1.5 s."""
    agent = stage.agent(LINES[queue].agents[0])
    agent.plan = Plan(answer_after=seconds)
    caller = await stage.caller()
    book = Notebook(scene, caller.user, queue)
    call = await caller.dial(LINES[queue].did, name="王小明")
    taken = await (await agent.incoming()).answered(seconds + 10)
    await asyncio.sleep(2)
    await call.hang_up()
    await taken.ended(5)
    wrapped = await stage.save_note(taken, after=1.5)
    book.answered(call, taken)
    book.talked(taken, wrapped)
    return book.figures


async def one_ring(stage: Stage) -> list[Figure]:
    """Answered within the first ring (3 s)."""
    return await _answered_after(stage, "answered, 1 ring", "consultation", 3.0)


async def two_rings(stage: Stage) -> list[Figure]:
    """Answered within the second ring (8 s)."""
    return await _answered_after(stage, "answered, 2 rings", "repair", 8.0)


async def four_rings(stage: Stage) -> list[Figure]:
    """Answered within the fourth ring (17 s): late by the three-ring rule."""
    return await _answered_after(stage, "answered, 4 rings", "tariffs", 17.0)


async def abandoned_waiting(stage: Stage) -> list[Figure]:
    """Nobody is there; the caller gives up after 6 s."""
    caller = await stage.caller()
    book = Notebook("abandoned, waiting", caller.user, "survey")
    call = await (await caller.dial(LINES["survey"].did, name="李娜")).answered()
    await asyncio.sleep(6)
    await call.hang_up()
    book.abandoned(call)
    return book.figures


async def abandoned_ringing(stage: Stage) -> list[Figure]:
    """The agent's phone rings for 3 s, then the caller gives up."""
    agent = stage.agent("1004")
    agent.plan = IGNORE
    caller = await stage.caller()
    book = Notebook("abandoned, ringing", caller.user, "inspection")
    call = await caller.dial(LINES["inspection"].did)
    rung = await (await agent.incoming()).rung()
    await asyncio.sleep(3)
    await call.hang_up()
    await rung.ended(5)
    book.abandoned(call)
    book.note("offer", "cancelled_by_caller", agent="1004")
    book.rang(rung)
    return book.figures


async def second_agent(stage: Stage) -> list[Figure]:
    """The first agent lets it ring out (6 s), the second takes it."""
    first, second = stage.agent("1005"), stage.agent("1006")
    first.plan, second.plan = IGNORE, Plan(answer_after=1.5)
    caller = await stage.caller()
    book = Notebook("ignored, second takes it", caller.user, "faults")
    call = await caller.dial(LINES["faults"].did)
    ignored = await first.incoming()
    taken = await (await second.incoming()).answered()
    await asyncio.sleep(2)
    await taken.hang_up()
    await call.ended(5)
    wrapped = await stage.save_note(taken, after=1)
    book.note("offer", "no_answer", agent="1005")
    book.rang(ignored)
    book.answered(call, taken)
    book.talked(taken, wrapped)
    return book.figures


async def two_at_once(stage: Stage) -> list[Figure]:
    """Two callers of one line in the same instant, two agents."""
    agents = [stage.agent("1007"), stage.agent("1008")]
    for agent in agents:
        agent.plan = Plan(answer_after=2.0)
    callers = [await stage.caller(), await stage.caller()]
    calls = await asyncio.gather(*(caller.dial(LINES["billing"].did) for caller in callers))

    async def serve(agent: Phone) -> list[Figure]:
        taken = await (await agent.incoming()).answered()
        call = next(it for it in calls if it.phone.user in taken.invite.first("from"))
        book = Notebook("two at once", call.phone.user, "billing")
        await asyncio.sleep(2.5)
        await call.hang_up()
        await taken.ended(5)
        wrapped = await stage.save_note(taken, after=1)
        book.answered(call, taken)
        book.talked(taken, wrapped)
        return book.figures

    one, other = await asyncio.gather(*(serve(agent) for agent in agents))
    return one + other


async def hold_and_resume(stage: Stage) -> list[Figure]:
    """Two holds of 1.5 s and 1 s within the talk."""
    agent = stage.agent("1009")
    agent.plan = Plan(answer_after=1.0)
    caller = await stage.caller()
    book = Notebook("hold and resume", caller.user, "moving")
    call = await caller.dial(LINES["moving"].did)
    taken = await (await agent.incoming()).answered()
    for seconds in (1.5, 1.0):
        await asyncio.sleep(1)
        await taken.hold()
        await asyncio.sleep(seconds)
        await taken.resume()
    await asyncio.sleep(1)
    await taken.hang_up()
    await call.ended(5)
    wrapped = await stage.save_note(taken, after=1)
    book.answered(call, taken)
    book.talked(taken, wrapped)
    return book.figures


async def blind_transfer(stage: Stage) -> list[Figure]:
    """The agent sends the caller to another queue; an agent there answers."""
    first, second = stage.agent("1010"), stage.agent("1011")
    first.plan, second.plan = Plan(answer_after=1.0), Plan(answer_after=2.0)
    caller = await stage.caller()
    book = Notebook("blind transfer", caller.user, "contracts")
    call = await caller.dial(LINES["contracts"].did)
    taken = await (await first.incoming()).answered()
    await asyncio.sleep(2)
    await taken.transfer(first.uri(TRANSFER_TO_OVERFLOW))
    await taken.ended(5)
    note = asyncio.create_task(stage.save_note(taken, after=1))
    again = await (await second.incoming()).answered()
    await asyncio.sleep(2)
    await call.hang_up()
    await again.ended(5)
    book.answered(call, taken)
    book.talked(taken, await note)
    assert taken.clock.ended is not None
    assert again.clock.answered is not None
    book.note("outcome", "answered", queue="overflow")
    book.note("wait", again.clock.answered.since(taken.clock.ended), queue="overflow")
    book.note("offer", "answered", agent="1011", queue="overflow")
    book.rang(again, queue="overflow")
    book.talked(again, await stage.save_note(again, after=1), queue="overflow")
    return book.figures


async def attended_transfer(stage: Stage) -> list[Figure]:
    """The agent holds the caller, asks a colleague, and joins the two."""
    first, second = stage.agent("1012"), stage.agent("1013")
    first.plan, second.plan = Plan(answer_after=1.0), Plan(answer_after=1.0)
    caller = await stage.caller()
    book = Notebook("attended transfer", caller.user, "meters")
    call = await caller.dial(LINES["meters"].did)
    taken = await (await first.incoming()).answered()
    await asyncio.sleep(1.5)
    await taken.hold()
    asked = await first.dial("1013", name="1012")
    colleague = await (await second.incoming()).answered()
    await asked.answered()
    await asyncio.sleep(1.5)
    await taken.transfer_to(asked)
    await taken.ended(5)
    note = asyncio.create_task(stage.save_note(taken, after=1))
    await asyncio.sleep(2)
    await call.hang_up()
    await colleague.ended(5)
    book.answered(call, taken)
    book.talked(taken, await note)
    assert colleague.clock.ended is not None
    assert taken.clock.ended is not None
    # The colleague's talk with the caller begins when the first agent is out.
    book.note("talk", colleague.clock.ended.since(taken.clock.ended), agent="1013")
    return book.figures


async def agent_pauses(stage: Stage) -> list[Figure]:
    """The agent is at lunch: the caller waits until he is back."""
    agent = stage.agent("1014")
    agent.plan = Plan(answer_after=1.0)
    paused = await (await agent.dial("*131")).ended(10)
    caller = await stage.caller()
    book = Notebook("agent pauses", caller.user, "leaks")
    call = await caller.dial(LINES["leaks"].did)
    await asyncio.sleep(4)
    back = await agent.dial("*14")
    taken = await (await agent.incoming()).answered()
    assert paused.clock.ended is not None
    assert back.clock.invited is not None
    # As long as he dials, he is on the telephone; the pause is what lies between.
    book.note("pause", back.clock.invited.since(paused.clock.ended), agent="1014")
    await asyncio.sleep(2)
    await call.hang_up()
    await taken.ended(5)
    wrapped = await stage.save_note(taken, after=1)
    book.answered(call, taken)
    book.talked(taken, wrapped)
    return book.figures


SCENES: dict[str, Scene] = {
    scene.__name__: scene
    for scene in (
        one_ring,
        two_rings,
        four_rings,
        abandoned_waiting,
        abandoned_ringing,
        second_agent,
        two_at_once,
        hold_and_resume,
        blind_transfer,
        attended_transfer,
        agent_pauses,
    )
}
"""Every scene, by name; they do not disturb each other and may be played together."""


STAGGER = 0.2
"""Seconds between the beginnings: a dozen calls in one instant would measure the machine, not ctid."""


async def play_all(stage: Stage, on_end: Callable[[str], None] = lambda name: None) -> list[Figure]:
    """Play every scene at once and return all figures, in the order of ``SCENES``."""

    async def play(place: int, name: str, scene: Scene) -> list[Figure]:
        await asyncio.sleep(place * STAGGER)
        try:
            figures = await scene(stage)
        except (TimeoutError, CallFailedError, RuntimeError) as error:
            # Nobody will agree with this outcome: the table shows it as wrong, and why.
            figures = [Figure(name, "outcome", "", "", "", f"not played: {error!r}")]
        on_end(name)
        return figures

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(play(i, *scene)) for i, scene in enumerate(SCENES.items())]
    return [figure for task in tasks for figure in task.result()]
