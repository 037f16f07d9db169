"""One pop per ringing offer, at once, to exactly the ringing agent."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import timedelta

import msgspec
import pytest

from ctid.acd.facts import CallEnded, CallStarted, TalkEnded, TalkStarted
from ctid.errors import ActionTimedOut
from ctid.sinks.pop import Background, PastCall, PopMessage
from ctid.sinks.pop_book import PopBook
from ctid.sinks.pop_url import PopUrl
from ctid.sinks.pops import BACKLOG, PopSink
from tests.fakes_web import KEY, FakeHistory, FakePhones, ended, handled, joined, moment, offer, routed

URL = PopUrl("https://ctid.example/pop/{id}")
NUMBER = "13812345678"
KNOWN = Background(calls=(PastCall(at=moment(-60), queue="repair"),))


class FakeScreens:
    """Screens of agents 201 and 202; nobody is at any other."""

    def __init__(self) -> None:
        self.shown: list[tuple[str, PopMessage]] = []

    def show(self, agent: str, message: PopMessage) -> int:
        self.shown.append((agent, message))
        return 1 if agent in ("201", "202") else 0

    @property
    def types(self) -> list[str]:
        return [f"{agent} {type(message).__name__}" for agent, message in self.shown]


class Floor:
    """A pop sink with its surroundings."""

    def __init__(self) -> None:
        self.screens = FakeScreens()
        self.phones = FakePhones()
        self.history = FakeHistory()
        self.observed: list[tuple[str, str, float]] = []
        self.sink = PopSink(
            book=PopBook(),
            screens=self.screens,
            url=URL,
            key=KEY,
            phones=self.phones,
            history=self.history,
            observe=lambda *what: self.observed.append(what),
        )

    def results(self, channel: str) -> list[str]:
        return [result for name, result, _seconds in self.observed if name == channel]

    async def until(self, channel: str, result: str) -> None:
        async with asyncio.timeout(15):
            while result not in self.results(channel):
                await asyncio.sleep(0.005)


@pytest.fixture
async def floor() -> AsyncIterator[Floor]:
    floor = Floor()
    task = asyncio.create_task(floor.sink.run())
    yield floor
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_shown_at_once_without_any_await(floor: Floor) -> None:
    """Nothing slow stands between a fact and the screen: one step of the coroutine does it."""
    floor.phones.delay = floor.history.delay = 60
    writing = floor.sink.write([joined("c"), routed("c", vip=True), offer("c", "201")])
    with pytest.raises(StopIteration):
        writing.send(None)
    assert floor.screens.types == ["201 PopOffered"]
    pop = floor.screens.shown[0][1].pop
    assert (pop.vip, pop.business, pop.line, pop.waited_seconds) == (True, "repair", "hotline", 12.0)
    assert pop.background is None
    [(channel, result, seconds)] = floor.observed
    assert (channel, result) == ("browser", "shown")
    assert 0 <= seconds < 1


async def test_the_ringing_agent_and_no_other(floor: Floor) -> None:
    one, two = offer("c", "201"), offer("c", "202")
    await floor.sink.write([one, two, ended(one, "answered_elsewhere"), ended(two, "answered"), handled(two)])
    assert floor.screens.types == [
        "201 PopOffered",
        "202 PopOffered",
        "201 PopWithdrawn",
        "202 PopAnswered",
        "202 PopClosed",
    ]
    assert all(message.pop.agent == agent for agent, message in floor.screens.shown)


async def test_written_twice_shown_once(floor: Floor) -> None:
    facts = [joined("c"), offer("c", "201")]
    await floor.sink.write(facts)
    await floor.sink.write(facts)
    await floor.until("phone", "sent")
    assert floor.screens.types[0] == "201 PopOffered"
    assert floor.screens.types.count("201 PopOffered") == 1
    assert len(floor.phones.texts) == 1
    assert floor.history.asked == [NUMBER]


async def test_history_fetched_while_the_caller_waits(floor: Floor) -> None:
    floor.history.of_number[NUMBER] = KNOWN
    await floor.sink.write([joined("c")])
    await floor.until("history", "found")
    await floor.sink.write([offer("c", "201")])
    assert floor.screens.shown[0][1].pop.background == KNOWN
    assert floor.screens.types == ["201 PopOffered"]
    await floor.sink.write([offer("c", "202")])
    assert floor.history.asked == [NUMBER]


async def test_slow_history_follows(floor: Floor) -> None:
    floor.history.of_number[NUMBER] = KNOWN
    floor.history.delay = 0.3
    await floor.sink.write([joined("c"), offer("c", "201")])
    assert floor.screens.shown[0][1].pop.background is None
    await floor.until("history", "found")
    assert floor.results("history") == ["late", "found"]
    assert floor.screens.types == ["201 PopOffered", "201 PopEnriched"]
    assert floor.screens.shown[1][1].pop.background == KNOWN


async def test_history_of_nobody_is_not_asked_for(floor: Floor) -> None:
    await floor.sink.write([joined("c", number=""), offer("c", "201", number="")])
    await floor.until("phone", "sent")
    assert floor.history.asked == []


async def test_database_away_costs_only_the_history(floor: Floor) -> None:
    floor.history.is_away = True
    await floor.sink.write([joined("c"), offer("c", "201")])
    await floor.until("history", "failed")
    await floor.until("phone", "sent")
    assert floor.screens.types == ["201 PopOffered"]


async def test_text_to_the_phone_carries_the_address(floor: Floor) -> None:
    await floor.sink.write([routed("c", vip=True), offer("c", "201", name="O'Brien\r\nEvent: x")])
    await floor.until("phone", "sent")
    [(interface, text)] = floor.phones.texts
    pop = floor.screens.shown[0][1].pop
    assert interface == "PJSIP/201"
    assert text == f"[VIP] O'BrienEvent: x {NUMBER} · repair · https://ctid.example/pop/{pop.id}"


async def test_agent_without_browser_still_gets_the_text(floor: Floor) -> None:
    await floor.sink.write([offer("c", "209")])
    await floor.until("phone", "sent")
    assert floor.results("browser") == ["absent"]


async def test_texts_late_failed_and_stale_are_counted(floor: Floor) -> None:
    floor.phones.error = ActionTimedOut("no answer")
    await floor.sink.write([offer("c", "201")])
    await floor.until("phone", "failed")
    floor.phones.error = None
    gone = offer("d", "201")
    await floor.sink.write([gone, ended(gone, "cancelled")])
    await floor.until("phone", "stale")
    assert floor.phones.texts == []


async def test_a_text_has_a_deadline() -> None:
    floor = Floor()
    floor.sink._phone_timeout = 0.02
    floor.phones.delay = 60
    async with asyncio.TaskGroup() as group:
        task = group.create_task(floor.sink.run())
        await floor.sink.write([offer("c", "201")])
        await floor.until("phone", "late")
        task.cancel()


async def test_backlogs_are_bounded() -> None:
    """Nobody works (run() is not started): the screens get all, the rest is dropped and counted."""
    floor = Floor()
    count = BACKLOG + 5
    await floor.sink.write([offer(f"c{n}", "201") for n in range(count)])
    assert floor.results("browser") == ["shown"] * count
    assert floor.results("phone") == ["dropped"] * 5
    assert floor.results("history") == ["dropped"] * 5


async def test_what_is_known_of_a_call_ends_with_it(floor: Floor) -> None:
    over = CallEnded(
        at=moment(),
        call="c",
        began_at=moment(-9),
        lasted=moment() - moment(-9),
        answered=False,
        participants=(),
        cause=16,
        cause_text="",
    )
    await floor.sink.write([joined("c"), routed("c")])
    await floor.until("history", "found")
    await floor.sink.write([over])
    assert floor.sink._routes == floor.sink._backgrounds == floor.sink._wanted == {}


async def test_acknowledged_by_the_agents_own_screen_only(floor: Floor) -> None:
    await floor.sink.write([offer("c", "201")])
    pop = floor.screens.shown[0][1].pop
    floor.sink.acknowledge("202", pop.id)
    floor.sink.acknowledge("201", "unknown")
    assert "acknowledged" not in floor.results("browser")
    floor.sink.acknowledge("201", pop.id)
    assert floor.results("browser") == ["shown", "acknowledged"]


async def test_putting_away_tells_the_other_screens(floor: Floor) -> None:
    made = offer("c", "201")
    await floor.sink.write([made])
    pop = floor.screens.shown[0][1].pop
    assert not floor.sink.dismiss("201", pop.id)
    await floor.sink.write([ended(made, "no_answer")])
    assert floor.sink.dismiss("201", pop.id)
    assert floor.screens.types[-1] == "201 PopClosed"


async def test_fast_enough_for_forty_calls_a_second(floor: Floor) -> None:
    """A thousand offers: far below the 25 ms that 40 a second leave for each."""
    began = time.perf_counter()
    for n in range(1000):
        await floor.sink.write([joined(f"c{n}"), routed(f"c{n}"), offer(f"c{n}", "201")])
    assert (time.perf_counter() - began) / 1000 < 0.005


def talks(call: str, agent: str, queue: str = "repair") -> TalkStarted:
    return TalkStarted(
        at=moment(), call=call, agent=agent, interface=f"PJSIP/{agent}", leg=f"{call}-{agent}", queue=queue
    )


def started(call: str, *, adopted: bool) -> CallStarted:
    return CallStarted(
        at=moment(),
        call=call,
        leg=call,
        channel="PJSIP/trunk-1",
        caller_number=NUMBER,
        caller_name="王小明",
        dialled="4008",
        adopted=adopted,
    )


async def test_after_a_restart_who_talks_has_his_pop_back(floor: Floor) -> None:
    floor.history.of_number[NUMBER] = KNOWN
    talk = talks("c", "201")
    await floor.sink.write([started("c", adopted=True), talk, talk])
    await floor.until("history", "found")
    assert floor.screens.types == ["201 PopAnswered", "201 PopEnriched"]
    pop = floor.screens.shown[-1][1].pop
    assert (pop.state, pop.caller_number, pop.queue, pop.background) == ("answered", NUMBER, "repair", KNOWN)
    assert floor.phones.texts == []
    await floor.sink.write([handled(offer("c", "201")), talk])
    assert floor.screens.types[2:] == ["201 PopClosed"]


async def test_talks_that_no_offer_led_to_open_nothing(floor: Floor) -> None:
    facts = [
        started("c", adopted=False),
        talks("c", "201"),
        started("d", adopted=True),
        talks("d", "201", ""),
    ]
    await floor.sink.write(facts)
    assert floor.screens.types == []


async def test_an_end_nobody_saw_was_an_answer_if_he_talks(floor: Floor) -> None:
    made, other = offer("c", "201"), offer("d", "201")
    await floor.sink.write([made, ended(made, "unknown_end"), talks("c", "201")])
    await floor.sink.write([other, ended(other, "no_answer"), talks("d", "201")])
    assert floor.screens.types == [
        "201 PopOffered",
        "201 PopWithdrawn",
        "201 PopAnswered",
        "201 PopOffered",
        "201 PopWithdrawn",
    ]
    pop = floor.screens.shown[2][1].pop
    assert (pop.state, pop.reason, pop.expires_at) == ("answered", "", None)


async def test_a_gap_mended_during_the_talk_shows_the_pop_late(floor: Floor) -> None:
    """Whoever talks needs his pop; whose talk is over, or was another's, does not."""
    made, past, missed = (msgspec.structs.replace(offer(it, "201"), recovered=True) for it in "cde")
    of_past = talks("d", "201")
    told = TalkEnded(
        at=of_past.at,
        call="d",
        agent="201",
        interface="PJSIP/201",
        leg=of_past.leg,
        queue="repair",
        began_at=of_past.at,
        talked=timedelta(seconds=1),
        held=timedelta(0),
        holds=0,
        ended_by="agent",
    )
    await floor.sink.write([past, ended(past, "answered"), of_past, told, missed, ended(missed, "answered")])
    assert floor.screens.types == []
    await floor.sink.write([made, ended(made, "answered"), talks("c", "201")])
    assert floor.screens.types == ["201 PopOffered", "201 PopAnswered"]
