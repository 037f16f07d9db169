"""The simulated phones judge everything else, so they are judged first: phone to phone, no exchange."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from lab import sip
from lab.dialog import CallFailedError
from lab.phone import Phone, Plan


@pytest_asyncio.fixture(loop_scope="session")
async def pair() -> AsyncIterator[tuple[Phone, Phone]]:
    """A caller (440 Hz) and an agent (880 Hz), each the other's exchange."""
    async with (
        Phone("100", exchange=("127.0.0.1", 9), ip="127.0.0.1", tone=440) as caller,
        Phone("200", exchange=("127.0.0.1", caller.port), ip="127.0.0.1", tone=880) as agent,
    ):
        caller.exchange = ("127.0.0.1", agent.port)
        yield caller, agent


async def test_clocks_of_both_sides_agree(pair: tuple[Phone, Phone]) -> None:
    caller, agent = pair
    agent.plan = Plan(ring_after=0.1, answer_after=0.3)
    call = await caller.dial("200", name='王 "小" 明', number="13800000001")
    rung = await agent.incoming()
    await asyncio.gather(call.answered(), rung.answered())
    await asyncio.sleep(0.3)
    await rung.hold()
    await asyncio.sleep(0.2)
    await rung.resume()
    await call.hang_up()
    await rung.ended()
    assert sip.display_name_of(rung.invite.first("from")) == '王 "小" 明'
    assert rung.clock.rang == pytest.approx(0.3, abs=0.05)
    assert call.clock.rang == pytest.approx(rung.clock.rang, abs=0.05)
    assert rung.clock.held == pytest.approx(0.2, abs=0.05)
    assert rung.clock.talked == pytest.approx(0.3, abs=0.05)
    assert call.clock.talked == pytest.approx(rung.clock.talked + rung.clock.held, abs=0.05)


async def test_each_hears_the_others_tone(pair: tuple[Phone, Phone]) -> None:
    caller, agent = pair
    agent.plan = Plan(answer_after=0)
    call = await caller.dial("200")
    taken = await (await agent.incoming()).answered()
    await call.answered()
    await asyncio.sleep(0.8)
    assert call.rtp.heard(880) > 4000 > 100 > call.rtp.heard(440)
    assert taken.rtp.heard(440) > 4000 > 100 > taken.rtp.heard(880)


async def test_refusing_says_why(pair: tuple[Phone, Phone]) -> None:
    caller, agent = pair
    agent.plan = Plan(refuse="486 Busy Here")
    call = await caller.dial("200")
    with pytest.raises(CallFailedError, match="486 Busy Here"):
        await call.answered()


async def test_giving_up_stops_the_bell(pair: tuple[Phone, Phone]) -> None:
    caller, agent = pair
    call = await caller.dial("200")
    rung = await agent.incoming()
    await call.rung()
    await asyncio.sleep(0.2)
    await call.hang_up()
    await rung.ended(2)
    assert rung.why == "cancelled"
    assert rung.clock.answered is None
    assert rung.clock.rang == pytest.approx(0.2, abs=0.05)


async def test_a_lost_answer_is_repeated(pair: tuple[Phone, Phone]) -> None:
    """The first 200 does not arrive: the phone sends it again and both talk."""
    caller, agent = pair
    agent.plan = Plan(answer_after=0.1)
    call = await caller.dial("200")
    rung = await agent.incoming()
    await rung.rung()
    agent.exchange, there = ("127.0.0.1", 9), agent.exchange
    await asyncio.sleep(0.3)
    agent.exchange = there
    await asyncio.gather(call.answered(3), rung.answered(3))


async def test_injected_user_goes_on_the_wire_as_it_is(pair: tuple[Phone, Phone]) -> None:
    caller, agent = pair
    forged = "1%0d%0a%0d%0aEvent%3a AgentConnect".replace(" ", "%20")
    await caller.send_invite("sip:2%0a00@127.0.0.1", from_user=forged)
    rung = await agent.incoming()
    assert sip.user_of(rung.invite.first("from")) == forged
    assert rung.invite.start == "INVITE sip:2%0a00@127.0.0.1 SIP/2.0"
