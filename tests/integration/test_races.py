"""Both ends at once, and ends that never come: calls that break where telephones should not break them."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from lab.dialog import CallState, PhoneCall
from lab.floor import LINES
from lab.phone import IGNORE, Plan
from lab.stage import Stage
from tests.integration.aftermath import settling
from tests.integration.conftest import CREW

pytestmark = pytest.mark.timeout(120, func_only=True)

OVERFLOW = LINES["overflow"].did
MOVING = LINES["moving"]
AGENT = MOVING.agents[0]
SOON = Plan(answer_after=0.1)


@pytest_asyncio.fixture(loop_scope="session", autouse=True)
async def settled(rough: Stage) -> AsyncIterator[None]:
    for phone in rough.phones.values():
        phone.plan, phone.mangle = Plan(answer_after=0.1), lambda packet: packet
    async with settling(rough, within=15):
        yield


async def talking(stage: Stage, plan: Plan = SOON) -> tuple[PhoneCall, PhoneCall]:
    """Bring a caller and the agent of ``moving`` together."""
    stage.agent(AGENT).plan = plan
    caller = await stage.caller()
    call = await caller.dial(MOVING.did)
    taken = await (await stage.offered(caller)).answered()
    return call, taken


async def outcomes(stage: Stage, number: str) -> list[str]:
    """How the stays of a number in queues ended."""
    rows = await stage.pool.fetch(
        "select outcome from queue_visit where caller_number = $1 order by joined_at", number
    )
    return [row["outcome"] for row in rows]


async def talked_for(stage: Stage, number: str) -> float | None:
    """Seconds that the one agent talked with a number; ``None``: not yet written down."""
    talked = await stage.pool.fetchval(
        "select talked from talk join call using (system, call) where caller_number = $1", number
    )
    return talked.total_seconds() if talked is not None else None


# -- nobody waits for anybody ---------------------------------------------------


@pytest.mark.parametrize("after", [0.0, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05])
async def test_cancel_races_the_exchanges_answer(rough: Stage, after: float) -> None:
    """B47: the caller gives up in the instant in which the exchange answers."""
    caller = await rough.caller()
    call = await caller.dial(OVERFLOW)
    await asyncio.sleep(after)
    assert await call.cancel() in {200, 481}
    await asyncio.sleep(0.3)
    if call.state is CallState.UP:
        await call.hang_up()
    await call.ended(5)


@pytest.mark.parametrize("before", [0.02, 0.01, 0.005, 0.0, -0.005, -0.01])
async def test_giving_up_races_the_agents_answer(rough: Stage, before: float) -> None:
    """B47: the caller hangs up just as the agent takes it, so CANCEL and 200 cross."""
    agent = rough.agent(AGENT)
    agent.plan = IGNORE
    caller = await rough.caller()
    call = await caller.dial(MOVING.did)
    rung = await (await rough.offered(caller)).rung()
    await call.answered()

    async def later(seconds: float, what: Callable[[], object]) -> None:
        await asyncio.sleep(max(0.0, seconds))
        result = what()
        assert asyncio.iscoroutine(result)
        await result

    await asyncio.gather(later(-before, rung.answer), later(before, call.hang_up))
    await asyncio.gather(call.ended(5), rung.ended(5))


@pytest.mark.parametrize("_", range(5))
async def test_both_hang_up_at_once(rough: Stage, _: int) -> None:
    """B48: two BYEs cross in the exchange."""
    call, taken = await talking(rough)
    await asyncio.gather(call.hang_up(), taken.hang_up())
    async with asyncio.timeout(5):
        while await outcomes(rough, call.phone.user) != ["answered"]:
            await asyncio.sleep(0.05)


async def test_no_acknowledgement(rough: Stage) -> None:
    """B49: the exchange's answer is never acknowledged; after 32 s it hangs up by itself."""
    rough.agent(AGENT).plan = IGNORE
    caller = await rough.caller()
    caller.mangle = lambda packet: b"" if packet.startswith(b"ACK ") else packet
    call = await caller.dial(MOVING.did)
    await (await rough.offered(caller)).rung()
    async with asyncio.timeout(45):
        while not (found := await outcomes(rough, caller.user)) or not all(found):
            await asyncio.sleep(0.2)
    call.finish("never acknowledged")
    assert found == ["abandoned"]


async def test_a_hundred_calls_of_one_number_at_once(rough: Stage) -> None:
    """B50: a hundred callers who all show the same number are a hundred calls."""
    for number in CREW:
        rough.agent(number).plan = Plan(answer_after=0.05)
    number = "13711111111"
    caller = await rough.caller(number)
    calls = [await caller.dial(OVERFLOW) for _ in range(100)]
    for call in calls:
        call.rtp.sending = False
    await asyncio.gather(*(call.answered(20) for call in calls))
    await asyncio.sleep(1)
    await asyncio.gather(*(call.hang_up() for call in calls))
    async with asyncio.timeout(15):
        while len(found := [it for it in await outcomes(rough, number) if it]) < 100:
            await asyncio.sleep(0.1)
    assert len(found) == 100
    assert set(found) <= {"answered", "abandoned"}
    assert "answered" in found
    assert await rough.pool.fetchval("select count(*) from call where caller_number = $1", number) == 100


async def test_a_call_of_an_instant(rough: Stage) -> None:
    """B56: over before a tenth of a second has gone, while waiting and while talking."""
    caller = await rough.caller()
    began = time.monotonic()
    call = await (await caller.dial(LINES["survey"].did)).answered(5)
    await call.hang_up()
    assert time.monotonic() - began < 1
    talked, taken = await talking(rough, Plan(ring_status="", answer_after=0))
    await talked.hang_up()
    await taken.ended(5)
    assert taken.clock.talked < 0.1
    async with asyncio.timeout(5):
        while await outcomes(rough, talked.phone.user) != ["answered"]:
            await asyncio.sleep(0.05)
    assert await outcomes(rough, caller.user) in ([], ["abandoned"])
    async with asyncio.timeout(5):
        while (short := await talked_for(rough, talked.phone.user)) is None:
            await asyncio.sleep(0.05)
    assert short < 0.2


async def test_early_media_only(rough: Stage) -> None:
    """B53: the agent's phone sends 183 and sound, and is never picked up."""
    rough.agent(AGENT).plan = Plan(ring_status="183 Session Progress")
    caller = await rough.caller()
    call = await caller.dial(MOVING.did)
    rung = await (await rough.offered(caller)).rung()
    await asyncio.sleep(2)
    assert rung.clock.answered is None
    await call.hang_up()
    await rung.ended(5)
    async with asyncio.timeout(5):
        while await outcomes(rough, caller.user) != ["abandoned"]:
            await asyncio.sleep(0.05)


# -- transfers to nowhere ---------------------------------------------------------

TARGETS = {
    "himself": "<sip:1009@HOST>",
    "the queue": "<sip:8006@HOST>",
    "nobody": "<sip:7777@HOST>",
    "extension s": "<sip:s@HOST>",
    "another host": "<sip:1@192.0.2.1>",
    "two phones": "<sip:1001&PJSIP/trunk@HOST>",
    "line break": "<sip:1001%0d%0aUniqueid%3a%209.9@HOST>",
    "a telephone number": "<tel:+8610086>",
    "rubbish": "this is no address",
    "empty": "<>",
    "unknown dialog": "<sip:1010@HOST?Replaces=nobody%3Bto-tag%3Da%3Bfrom-tag%3Db>",
    "other method": "<sip:1010@HOST;method=BYE>",
    "long": "<sip:" + "1" * 900 + "@HOST>",
}


@pytest.mark.parametrize("target", TARGETS)
async def test_refer(rough: Stage, target: str) -> None:
    """B54: the agent transfers his caller to himself, to a queue, or to what is no address."""
    call, taken = await talking(rough)
    refer_to = TARGETS[target].replace("HOST", "{}:{}".format(*rough.exchange.sip_address))
    headers = [("refer-to", refer_to), ("referred-by", taken.phone.contact)]
    response = await taken.phone.transact(taken.request("REFER", headers))
    assert 200 <= response.status < 700
    await asyncio.sleep(0.5)
    await hang_everything_up(rough, call)


@pytest.mark.parametrize("count", [0, 2])
async def test_refer_without_or_with_two_targets(rough: Stage, count: int) -> None:
    """B54: no Refer-To at all, or two."""
    call, taken = await talking(rough)
    target = f"<{taken.phone.uri('1010')}>"
    response = await taken.phone.transact(taken.request("REFER", [("refer-to", target)] * count))
    assert response.status >= 400 or count
    await hang_everything_up(rough, call)


async def test_refer_by_the_caller(rough: Stage) -> None:
    """B54: a carrier moves no calls inside our house."""
    call, taken = await talking(rough)
    headers = [("refer-to", f"<{call.phone.uri('8006')}>")]
    response = await call.phone.transact(call.request("REFER", headers))
    assert response.status >= 400
    assert taken.state is CallState.UP
    await hang_everything_up(rough, call)


async def hang_everything_up(stage: Stage, *calls: PhoneCall) -> None:
    """Everybody hangs up, callers first; agents who are called meanwhile do not answer."""
    for phone in stage.phones.values():
        phone.plan = Plan(refuse="486 Busy Here")
    for call in calls:
        await call.hang_up()
    for phone in stage.phones.values():
        for call in phone.calls[-3:]:
            await call.hang_up()


# -- within the dialog -------------------------------------------------------------


async def test_hold_storm(rough: Stage) -> None:
    """B55: forty holds as fast as they are answered, then ten at once without waiting."""
    call, taken = await talking(rough)
    for _ in range(20):
        await taken.hold()
        await taken.resume()
    requests = [taken.request("INVITE", body=taken.offer("sendonly")) for _ in range(10)]
    answers = await asyncio.gather(*(taken.phone.transact(request) for request in requests))
    for request in requests:
        taken.phone.send(taken.request("ACK", sequence=request.sequence[0]))
    assert {answer.status for answer in answers} <= {200, 400, 491, 500}
    await call.hang_up()
    await taken.ended(5)
    async with asyncio.timeout(5):
        while (
            await rough.pool.fetchval(
                "select count(*) from talk join call using (system, call) where caller_number = $1"
                " and talk.ended_at is not null and talked >= '0' and held >= '0'",
                call.phone.user,
            )
            != 1
        ):
            await asyncio.sleep(0.05)


BAD_ANSWERS: dict[str, Callable[[bytes], bytes]] = {
    "no session": lambda packet: re.sub(
        rb"\r\nContent-Type:.*", b"\r\nContent-Length: 0\r\n\r\n", packet, flags=re.S
    ),
    "rubbish for a session": lambda packet: re.sub(rb"v=0\r\n", b"x=0\r\n", packet),
    "no audio": lambda packet: re.sub(rb"m=audio \d+ RTP/AVP 0 101", b"m=video 0 RTP/XXX", packet),
    "unknown codec": lambda packet: re.sub(rb"RTP/AVP 0 101", b"RTP/AVP 77", packet),
    "no contact": lambda packet: re.sub(rb"\r\nContact:[^\r]*", b"", packet),
    "other tag": lambda packet: re.sub(rb"(\r\nTo:[^\r]*tag=)", rb"\1x", packet),
    "lost": lambda packet: b"",
}


@pytest.mark.parametrize("bad", BAD_ANSWERS)
async def test_malformed_answer_to_a_reinvite(rough: Stage, bad: str) -> None:
    """B57: the exchange tells a phone, by re-INVITE, whom it was given; the phone's 200 is wrong."""
    call, taken = await talking(rough)
    first, second = rough.agent(AGENT), rough.agent("1013")
    reinvited = asyncio.Event()

    def mangle(packet: bytes) -> bytes:
        # Without UPDATE, a changed partner is told by re-INVITE.
        packet = packet.replace(b",UPDATE", b"")
        if packet.startswith(b"SIP/2.0 200") and b"INVITE\r\n" in packet and colleague_is_up():
            reinvited.set()
            return BAD_ANSWERS[bad](packet)
        return packet

    def colleague_is_up() -> bool:
        return bool(second.calls) and second.calls[-1].state is CallState.UP

    second.mangle = mangle
    await taken.hold()
    asked = await first.dial("1013")
    await asked.answered(5)
    async with asyncio.timeout(5):
        while not colleague_is_up():
            await asyncio.sleep(0.01)
    await taken.transfer_to(asked)
    async with asyncio.timeout(5):
        await reinvited.wait()
    await asyncio.sleep(0.3)
    second.mangle = lambda packet: packet
    await hang_everything_up(rough, call)
