"""Fan-out: whole state first, differences after; a slow screen costs nobody else anything."""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack

from msgspec.structs import replace

from ctid.sinks.pop import Background, PastCall
from ctid.web.client import Limits
from ctid.web.hub import difference
from ctid.web.messages import AgentCard, FloorState, QueueCard
from tests.fakes_web import Screen, WebDaemon, ended, handled, moment, offer, pop_of, running, screen


async def state_of(one: Screen) -> tuple[object, object]:
    """Return desk and floor of a screen that has just connected."""
    desk = await one.next("desk")
    floor = await one.next("floor.snapshot")
    return desk["desk"], floor["floor"]


async def test_first_the_whole_state(daemon: WebDaemon) -> None:
    made = offer("c", "201")
    await daemon.pops.write([made])
    async with screen(daemon.url, "token-201") as one:
        hello = await one.next()
        assert hello["type"] == "hello"
        assert hello["version"] == 1
        assert hello["user"] == {
            "name": "agent201",
            "role": "agent",
            "agent": "201",
            "language": "en",
            "lent": [],
            "rights": ["takes_calls"],
            "must_change": False,
        }
        assert hello["topics"] == ["floor", "pops"]
        desk = await one.next()
        assert [pop["leg"] for pop in desk["desk"]["open"]] == [made.leg]
        assert (await one.next())["type"] == "floor.snapshot"


async def test_a_pop_reaches_all_screens_of_its_agent_and_no_other(daemon: WebDaemon) -> None:
    async with (
        screen(daemon.url, "token-201") as mine,
        screen(daemon.url, "token-201") as mine_too,
        screen(daemon.url, "token-202") as other,
        screen(daemon.url, "token-leader") as leader,
    ):
        for one in (mine, mine_too, other, leader):
            await one.next("floor.snapshot")
        made = offer("c", "201")
        await daemon.pops.write([made, ended(made, "answered"), handled(made)])
        for one in (mine, mine_too):
            assert [(await one.next())["type"] for _ in range(3)] == [
                "pop.offered",
                "pop.answered",
                "pop.closed",
            ]
        for one in (other, leader):
            assert (await one.tell(type="sync"))["type"] == "ack"
            assert one.socket.closed is False
        assert daemon.observed[0][:2] == ("browser", "shown")


async def test_after_any_disturbance_the_state_of_a_reload(daemon: WebDaemon) -> None:
    """F20: what happened while a screen was away is there when it is back, once, in order."""
    first, second, third = (offer(f"c{n}", "201") for n in range(3))
    async with screen(daemon.url, "token-201") as one:
        await one.next("floor.snapshot")
        await daemon.pops.write([first])
        await one.next("pop.offered")
    await daemon.pops.write([ended(first, "no_answer"), second, ended(second, "declined"), third])
    async with screen(daemon.url, "token-201") as back, screen(daemon.url, "token-201") as reloaded:
        desk, floor = await state_of(back)
        assert (desk, floor) == await state_of(reloaded)
        assert [pop["leg"] for pop in desk["open"]] == [third.leg]  # type: ignore[index]
        assert [pop["reason"] for pop in desk["missed"]] == ["no_answer", "declined"]  # type: ignore[index]
        assert all(pop["expires_at"] for pop in desk["missed"])  # type: ignore[index]


async def test_floor_comes_as_differences_that_add_up(daemon: WebDaemon) -> None:
    async with screen(daemon.url, "token-leader") as one:
        snapshot = await one.next("floor.snapshot")
        busy = replace(daemon.floor.queues[1], waiting=9)
        daemon.floor = replace(daemon.floor, queues=(busy,), agents=daemon.floor.agents[:3])
        daemon.hub.floor_changed()
        changed = await one.next("floor.changed")
        assert changed["version"] == snapshot["version"] + 1
        assert [card["waiting"] for card in changed["queues"]] == [9]
        assert changed["agents"] == []
        assert (changed["gone_queues"], changed["gone_agents"]) == (["complaint"], ["204"])


async def test_floor_is_not_computed_while_nobody_looks() -> None:
    daemon = WebDaemon(limits=Limits(floor_seconds=0.01))
    reads = []
    daemon.hub._read_floor = lambda: reads.append(1) or daemon.floor  # type: ignore[func-returns-value]
    async with running(daemon):
        for _ in range(5):
            daemon.hub.floor_changed()
            await asyncio.sleep(0.02)
        assert reads == []
        async with screen(daemon.url, "token-leader") as one:
            await one.next("floor.snapshot")
            seen = len(reads)
            for _ in range(200):  # two hundred changes within a moment
                daemon.hub.floor_changed()
            await asyncio.sleep(0.03)
            assert 1 <= len(reads) - seen <= 5


def test_difference_applied_gives_the_new_floor() -> None:
    old = FloorState(
        queues=(QueueCard(queue="a"), QueueCard(queue="b")), agents=(AgentCard(agent="1", state="idle"),)
    )
    new = FloorState(queues=(QueueCard(queue="b", waiting=1), QueueCard(queue="c")), exchange="lost")
    change = difference(old, new, 8)
    queues = {card.queue: card for card in old.queues} | {card.queue: card for card in change.queues}
    for gone in change.gone_queues:
        del queues[gone]
    assert tuple(queues[name] for name in sorted(queues)) == new.queues
    assert (change.gone_agents, change.version, change.exchange) == (("1",), 8, "lost")


def _upgrade(daemon: WebDaemon, token: str) -> socket.socket:
    """Open a WebSocket by hand that never reads anything."""
    address = ("127.0.0.1", int(daemon.url.rpartition(":")[2]))
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.connect(address)
    raw.sendall(
        b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
        b"Authorization: Bearer %s\r\n\r\n" % (address[1], token.encode())
    )
    return raw


async def test_f23_stalled_screens_are_cut_off_and_cost_others_nothing() -> None:
    """Five screens stop reading: bounded memory, then 1013; the sixth misses nothing."""
    daemon = WebDaemon(limits=Limits(soft_bytes=16_384, hard_bytes=200_000, linger_seconds=0.1))
    async with running(daemon):
        with ExitStack() as stack:
            for _ in range(5):
                stack.enter_context(_upgrade(daemon, "token-201"))
            async with screen(daemon.url, "token-201") as good:
                await good.next("floor.snapshot")
                async with asyncio.timeout(15):
                    while len(daemon.hub) < 6:
                        await asyncio.sleep(0.01)
                background = Background(
                    calls=tuple(PastCall(at=moment(), queue="x" * 1000) for _ in range(20))
                )
                daemon.history.of_number["13812345678"] = background
                worst = 0
                for n in range(400):
                    made = offer(f"c{n}", "201")
                    await daemon.pops.write([made])
                    daemon.pops._show(daemon.book.enriched(made.leg, background))
                    await good.next("pop.offered")
                    await daemon.pops.write([ended(made, "answered"), handled(made)])
                    await good.next("pop.closed")
                    worst = max([worst, *(c.transport.get_write_buffer_size() for c in daemon.hub._clients)])
                async with asyncio.timeout(15):
                    while len(daemon.hub) > 1:
                        await asyncio.sleep(0.02)
                assert worst < 300_000
                assert good.socket.closed is False


async def test_a_screen_that_is_behind_gets_the_floor_coalesced() -> None:
    daemon = WebDaemon(limits=Limits(soft_bytes=2_000, hard_bytes=50_000_000, floor_seconds=0.02))
    async with running(daemon):
        with _upgrade(daemon, "token-leader") as raw:
            async with asyncio.timeout(15):
                while not daemon.hub._clients:
                    await asyncio.sleep(0.01)
            [client] = daemon.hub._clients
            daemon.floor = replace(
                daemon.floor, queues=tuple(QueueCard(queue=f"q{n:05}" + "x" * 400) for n in range(20_000))
            )
            daemon.hub.floor_changed()
            async with asyncio.timeout(10):
                while not client.is_behind or client.floor_version != -1:
                    await asyncio.sleep(0.02)
            buffered = client.transport.get_write_buffer_size()
            for n in range(10):
                daemon.floor = replace(daemon.floor, queues=(QueueCard(queue="q", waiting=n),))
                daemon.hub.floor_changed()
                await asyncio.sleep(0.03)
            assert client.transport.get_write_buffer_size() <= buffered
            raw.settimeout(0)
            tail = b""
            async with asyncio.timeout(20):
                while b'"waiting":9' not in tail:
                    try:
                        tail = tail[-400:] + raw.recv(1 << 20)
                    except BlockingIOError:
                        await asyncio.sleep(0.005)
            assert b"floor.snapshot" in tail


async def test_restart_tells_screens_to_come_back_within_a_second() -> None:
    daemon = WebDaemon()
    loop = asyncio.get_running_loop()
    async with running(daemon), screen(daemon.url, "token-201") as one:
        await one.next("floor.snapshot")
        with _upgrade(daemon, "token-201"):
            began = loop.time()
            closing = asyncio.create_task(daemon.web.close())
            assert await one.closed() == 1012
            await closing
            assert loop.time() - began < 1.0


async def test_a_frame_reaches_two_hundred_screens() -> None:
    """Every screen of an agent gets the frame; none is awaited."""
    async with running(WebDaemon(limits=Limits(per_user=200))) as daemon:
        with ExitStack() as stack:
            for _ in range(200):
                stack.enter_context(_upgrade(daemon, "token-202"))
            async with asyncio.timeout(10):
                while len(daemon.hub) < 200:
                    await asyncio.sleep(0.01)
            [message] = daemon.book.offered(pop_of(offer("many", "202")))
            assert daemon.hub.show("202", message) == 200


async def test_beats_say_that_all_is_well_and_what_time_it_is() -> None:
    limits = Limits(beat_seconds=0.05)
    async with running(WebDaemon(limits=limits)) as daemon, screen(daemon.url, "token-201") as one:
        assert (await one.next("beat"))["now"] < (await one.next("beat"))["now"]


async def test_who_comes_during_the_end_is_sent_away(daemon: WebDaemon) -> None:
    await daemon.hub.close()
    async with screen(daemon.url, "token-201") as one:
        assert await one.closed() == 1012
