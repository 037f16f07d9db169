"""Facts as the core would tell them: whole calls, to be written, counted and compared."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from hypothesis import strategies as st

from ctid.acd.facts import (
    AgentStateChanged,
    Anomaly,
    CallEnded,
    CallerJoined,
    CallerLeft,
    CallHandled,
    CallRouted,
    CallStarted,
    Fact,
    Held,
    OfferEnded,
    OfferMade,
    OfferRang,
    RecordingStarted,
    RecordingStopped,
    Resumed,
    TalkEnded,
    TalkStarted,
    Transferred,
    WrapUpEnded,
    WrapUpStarted,
)
from ctid.store.facts import Origin, store
from ctid.store.pool import Pool

BEGIN = datetime(2026, 11, 22, 1, 0, tzinfo=UTC)


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


def uuid_of(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012x}"


def answered_call(
    number: int,
    *,
    queue: str = "repair",
    agent: str = "201",
    caller: str = "013800138000",
    rang: float = 2.8,
    talked: float = 8,
    begin: datetime = BEGIN,
) -> list[Fact]:
    """Joined after 1 s, rung 0.1 s later, held for 2 s, wrapped up for 6 s, recorded."""
    t = begin + seconds(number * 0.25)
    call, leg = f"ast-1700000000.{2 * number}", f"ast-1700000000.{2 * number + 1}"
    joined = t + seconds(1)
    up = joined + seconds(0.1 + 0.1 + rang)
    end = up + seconds(talked + 2)
    stay = {"call": call, "queue": queue, "joined_at": joined}
    phone = {"agent": agent, "interface": f"PJSIP/{agent}", "leg": leg}
    talk = {"call": call, "queue": queue, **phone}
    return [
        CallStarted(
            at=t,
            call=call,
            leg=call,
            channel="PJSIP/trunk-1",
            caller_number=caller,
            caller_name="王小明",
            dialled="4008",
        ),
        CallRouted(at=t, call=call, line="hotline", business="repair", vip=True, recording=uuid_of(number)),
        CallerJoined(at=joined, **stay, leg=call, caller_number=caller, caller_name="王小明", position=1),
        OfferMade(at=joined + seconds(0.1), **stay, **phone, caller_number=caller, caller_name="王小明"),
        OfferRang(at=joined + seconds(0.2), **stay, **phone, after=seconds(0.1)),
        OfferEnded(
            at=up,
            **stay,
            **phone,
            outcome="answered",
            rang=seconds(rang),
            rings=seconds(rang) / seconds(5),
            verdict="within" if rang <= 15 else "late",
            offered_at=joined + seconds(0.1),
        ),
        CallerLeft(
            at=up,
            **stay,
            **phone,
            outcome="answered",
            waited=up - joined,
            in_time=up - joined <= seconds(20),
            first_ring_to_answer=seconds(rang),
        ),
        AgentStateChanged(
            at=up, agent=agent, state="talking", previous="ringing", lasted=seconds(rang), queues=(queue,)
        ),
        TalkStarted(at=up, **talk),
        RecordingStarted(at=up, call=call, recording=uuid_of(number), leg=call),
        Held(at=up + seconds(1), **talk),
        Resumed(at=up + seconds(3), **talk, held=seconds(2)),
        RecordingStopped(at=end, call=call, recording=uuid_of(number), began_at=up, expected=end - up),
        TalkEnded(
            at=end,
            **talk,
            began_at=up,
            talked=seconds(talked),
            held=seconds(2),
            holds=1,
            ended_by="caller",
        ),
        CallEnded(
            at=end,
            call=call,
            began_at=t,
            lasted=end - t,
            answered=True,
            participants=(f"PJSIP/{agent}", "PJSIP/trunk"),
            cause=16,
            cause_text="Normal Clearing",
        ),
        AgentStateChanged(
            at=end, agent=agent, state="wrapping_up", previous="talking", lasted=end - up, queues=(queue,)
        ),
        WrapUpStarted(at=end, call=call, agent=agent, queue=queue, leg=leg, until=end + seconds(30)),
        WrapUpEnded(
            at=end + seconds(6),
            call=call,
            agent=agent,
            queue=queue,
            leg=leg,
            wrapped=seconds(6),
            ended_by="saved",
        ),
        CallHandled(
            at=end + seconds(6),
            **talk,
            talked=seconds(talked),
            held=seconds(2),
            wrapped=seconds(6),
            handled=seconds(talked + 8),
        ),
        AgentStateChanged(
            at=end + seconds(6),
            agent=agent,
            state="idle",
            previous="wrapping_up",
            lasted=seconds(6),
            queues=(queue,),
        ),
    ]


def abandoned_call(
    number: int,
    *,
    queue: str = "repair",
    waited: float = 9,
    caller: str = "02161234567",
    begin: datetime = BEGIN,
) -> list[Fact]:
    """Hung up while the first agent rang."""
    t = begin + seconds(number * 0.25)
    call, leg = f"ast-1700000000.{2 * number}", f"ast-1700000000.{2 * number + 1}"
    stay = {"call": call, "queue": queue, "joined_at": t}
    phone = {"agent": "202", "interface": "PJSIP/202", "leg": leg}
    end = t + seconds(waited)
    return [
        CallStarted(
            at=t,
            call=call,
            leg=call,
            channel="PJSIP/trunk-1",
            caller_number=caller,
            caller_name="",
            dialled="4008",
        ),
        CallerJoined(at=t, **stay, leg=call, caller_number=caller, caller_name="", position=1),
        OfferMade(at=t, **stay, **phone, caller_number=caller, caller_name=""),
        OfferEnded(
            at=end,
            **stay,
            **phone,
            outcome="cancelled_by_caller",
            rang=seconds(waited),
            rings=waited / 5,
            verdict="excluded",
            offered_at=t,
            ring_estimated=True,
        ),
        CallerLeft(
            at=end,
            **stay,
            outcome="abandoned",
            waited=seconds(waited),
            short=waited < 5,
            in_time=None if waited < 5 else False,
        ),
        CallEnded(
            at=end,
            call=call,
            began_at=t,
            lasted=seconds(waited),
            answered=False,
            participants=("PJSIP/trunk",),
            cause=16,
            cause_text="Normal Clearing",
        ),
        Anomaly(at=end, call=call, kind="orphan_event", what="AgentComplete of an unknown leg"),
    ]


def transferred(number: int, *, begin: datetime = BEGIN) -> Fact:
    call, leg = f"ast-1700000000.{2 * number}", f"ast-1700000000.{2 * number + 1}"
    return Transferred(
        at=begin + seconds(number * 0.25 + 8),
        call=call,
        agent="201",
        interface="PJSIP/201",
        leg=leg,
        queue="repair",
        kind="blind",
        target="complaints",
    )


@st.composite
def floors(draw: st.DrawFn, *, most: int = 6) -> list[Fact]:
    """Several calls at once, their facts in order of time."""
    told: list[Fact] = []
    for number in range(draw(st.integers(1, most))):
        queue = draw(st.sampled_from(["repair", "complaint", "unheard-of"]))
        if draw(st.booleans()):
            agent = draw(st.sampled_from(["201", "202", "999"]))
            rang = draw(st.sampled_from([0.0, 2.8, 15.0, 15.000001, 18.0, 61.0]))
            told += answered_call(number, queue=queue, agent=agent, rang=rang)
            told += [transferred(number)] if draw(st.booleans()) else []
        else:
            told += abandoned_call(number, queue=queue, waited=draw(st.sampled_from([0.5, 5.0, 20.0, 700.0])))
    return sorted(told, key=lambda fact: fact.at)


def cut(told: list[Fact], at: list[int]) -> list[list[Fact]]:
    """Cut into batches at the given places (any numbers)."""
    places = sorted({place % (len(told) + 1) for place in at} | {0, len(told)})
    return [told[a:b] for a, b in itertools.pairwise(places)]


async def store_facts(
    pool: Pool,
    facts: Sequence[Fact],
    *,
    system: str = "ast22",
    boot: datetime | None = None,
    key_of: Callable[[str], str] = str,
    numbers: Sequence[int] | None = None,
    spool: UUID | None = None,
    epoch: int | None = None,
    leader: str = "main",
) -> int:
    """Store facts, by default as nobody's in particular."""
    origin = Origin(system=system, boot=boot, spool=spool, epoch=epoch, leader=leader)
    return await store(pool, facts, numbers, origin, key_of)
