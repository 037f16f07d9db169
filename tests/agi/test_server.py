"""The FastAGI server at the other end of real sockets (reliability.md F34-F37, B33-B45)."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from ctid.agi import server as module
from ctid.agi.framing import AgiRequest
from ctid.agi.server import FastAgiServer, Result
from ctid.settings import FastAgi
from tests.agi.fakes import ENVIRONMENT, Channel

DECIDED = {"CTID_QUEUE": "repair", "CTID_NAME_PREFIX": '[报修]"\\'}
DEFAULT = {"CTID_QUEUE": "overflow"}


@dataclass
class Site:
    """A server, and what it told about its connections."""

    server: FastAgiServer
    observed: list[tuple[str, Result, float]] = field(default_factory=list)

    @property
    def port(self) -> int:
        return self.server.port

    async def results(self, count: int) -> list[Result]:
        """Wait until ``count`` connections have ended."""
        async with asyncio.timeout(10):
            while len(self.observed) < count:
                await asyncio.sleep(0.005)
        return [result for _, result, _ in self.observed]


async def decided(request: AgiRequest) -> Mapping[str, str]:
    return DECIDED


def default(request: AgiRequest) -> Mapping[str, str]:
    return DEFAULT


@asynccontextmanager
async def serving(
    route: module.Route = decided,
    default: Callable[[AgiRequest], Mapping[str, str]] = default,
    *,
    timeout_ms: int = 300,
    connections: int = 500,
) -> AsyncIterator[Site]:
    settings = FastAgi(
        port=0, decision_timeout=timedelta(milliseconds=timeout_ms), max_connections=connections
    )
    observed: list[tuple[str, Result, float]] = []
    server = FastAgiServer(settings, route, default, observe=lambda *seen: observed.append(seen))
    await server.start()
    try:
        yield Site(server, observed)
    finally:
        await server.close()


async def said(port: int, data: bytes, *, finish: bool = False) -> bytes:
    """Send ``data`` and return everything the server says until it ends the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data)
        if finish:
            writer.write_eof()
        async with asyncio.timeout(10):
            try:
                return await reader.read()
            except ConnectionResetError:
                return b""
    finally:
        writer.close()


def reset(port: int, data: bytes = b"") -> None:
    """Connect, send ``data`` and slam the connection."""
    with socket.create_connection(("127.0.0.1", port)) as peer:
        peer.sendall(data)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def test_a_call_is_routed_in_one_round_trip() -> None:
    async with serving() as site:
        channel = Channel()
        variables = await channel.ask(site.port)
        assert variables == {**DECIDED, "CTID_OK": "1"}
        assert channel.commands[-1] == 'SET VARIABLE CTID_OK "1"'
        assert await site.results(1) == ["decided"]
        script, _, seconds = site.observed[0]
        assert script == "route"
        assert 0 <= seconds < 0.3


async def test_the_request_may_come_byte_by_byte() -> None:
    async with serving() as site:
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
        for byte in ENVIRONMENT:
            writer.write(bytes([byte]))
            await writer.drain()
        assert (await reader.read()).count(b"SET VARIABLE") == 3
        writer.close()


async def test_f36_a_decision_too_late_is_the_default() -> None:
    """F36: a look-up that takes 30 s costs the caller the deadline and no more."""

    async def slow(request: AgiRequest) -> Mapping[str, str]:
        await asyncio.sleep(30)
        return DECIDED

    async with serving(slow, timeout_ms=50) as site:
        assert await Channel().ask(site.port) == {**DEFAULT, "CTID_OK": "1"}
        assert await site.results(1) == ["late"]
        assert 0.04 < site.observed[0][2] < 0.3


async def test_a_bug_in_deciding_is_the_default() -> None:
    async def broken(request: AgiRequest) -> Mapping[str, str]:
        raise ZeroDivisionError

    async with serving(broken) as site:
        assert await Channel().ask(site.port) == {**DEFAULT, "CTID_OK": "1"}
        assert await site.results(1) == ["failed"]


async def test_b43_a_decision_that_can_not_be_sent_is_the_default() -> None:
    """B43: a decision that can not be sent is the default."""

    async def injecting(request: AgiRequest) -> Mapping[str, str]:
        return {"CTID_QUEUE": 'x"\nHANGUP\n'}

    async with serving(injecting) as site:
        channel = Channel()
        assert await channel.ask(site.port) == {**DEFAULT, "CTID_OK": "1"}
        assert len(channel.commands) == 2


async def test_f35_without_any_decision_nothing_is_set() -> None:
    """F35: no sentinel, so the dialplan goes on by itself."""

    async def broken(request: AgiRequest) -> Mapping[str, str]:
        raise ZeroDivisionError

    def no_default(request: AgiRequest) -> Mapping[str, str]:
        raise LookupError

    async with serving(broken, no_default) as site:
        channel = Channel()
        assert await channel.ask(site.port) == {}
        assert channel.commands == []
        assert await site.results(1) == ["failed"]


async def test_b34_connect_and_close_a_thousand_times_is_harmless() -> None:
    """F37, B34: port scans and health checks."""
    async with serving() as site:
        for _ in range(500):
            await asyncio.to_thread(reset, site.port)
            socket.create_connection(("127.0.0.1", site.port)).close()
        assert set(await site.results(1000)) == {"closed"}
        assert await Channel().ask(site.port) == {**DECIDED, "CTID_OK": "1"}


async def test_b33_a_request_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """F37, B33: the header deadline."""
    monkeypatch.setattr(module, "HEADER_DEADLINE", 0.1)
    async with serving() as site:
        assert await said(site.port, ENVIRONMENT[:-1]) == b""
        assert await site.results(1) == ["slow"]


async def test_f37_a_slow_loris_is_cut_off_however_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """F37: a byte now and then does not move the header deadline."""
    monkeypatch.setattr(module, "HEADER_DEADLINE", 0.2)
    async with serving() as site:
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
        began = asyncio.get_running_loop().time()
        while not reader.at_eof() and reader.exception() is None:
            writer.write(b"a")
            await asyncio.sleep(0.01)
        assert asyncio.get_running_loop().time() - began < 1
        assert await site.results(1) == ["slow"]
        writer.close()


async def test_f37_a_megabyte_of_header_is_cut_off() -> None:
    """F37: at 16 KiB; the next one is served."""
    async with serving() as site:
        assert await said(site.port, b"agi_request: " + b"x" * 1_000_000) == b""
        assert await site.results(1) == ["malformed"]
        assert await Channel().ask(site.port) == {**DECIDED, "CTID_OK": "1"}


@pytest.mark.parametrize("script", [b"../../x", b"elsewhere", b"", b"x" * 10_000])
async def test_b37_an_unknown_script_sets_nothing(script: bytes) -> None:
    """B37: an unknown script sets nothing."""
    async with serving() as site:
        assert await said(site.port, b"agi_network_script: " + script + b"\n\n") == b""
        assert await site.results(1) == ["unknown"]
        assert site.observed[0][0] == ""


async def test_b45_bytes_that_are_not_utf8_change_nothing() -> None:
    """B45: bytes that are not UTF-8 change nothing."""
    async with serving() as site:
        environment = ENVIRONMENT.replace("王小明".encode(), "王小明".encode("gbk"))
        assert await Channel().ask(site.port, environment) == {**DECIDED, "CTID_OK": "1"}


async def test_b38_a_request_that_a_caller_cut_in_two_is_still_routed() -> None:
    """B38: a request that a caller cut in two is still routed."""
    async with serving() as site:
        environment = ENVIRONMENT.replace(
            b"agi_calleridname: ", b"agi_calleridname: x\n\n200 result=1\nHANGUP\n"
        )
        assert await Channel().ask(site.port, environment) == {**DECIDED, "CTID_OK": "1"}


async def test_f37_beyond_the_limit_a_connection_is_closed_at_once() -> None:
    """F37: bounded; closed means that the dialplan goes on at once."""
    async with serving(connections=2) as site:
        waiting = [await asyncio.open_connection("127.0.0.1", site.port) for _ in range(2)]
        await asyncio.sleep(0.05)
        assert await said(site.port, b"") == b""
        assert await site.results(1) == ["crowded"]
        for _, writer in waiting:
            writer.close()
        await site.results(3)
        assert await Channel().ask(site.port) == {**DECIDED, "CTID_OK": "1"}


async def test_f37_five_hundred_at_once_are_all_answered() -> None:
    """F37: as many as may come."""
    async with serving() as site:
        answers = await asyncio.gather(*(Channel().ask(site.port) for _ in range(500)))
        assert all(answer == {**DECIDED, "CTID_OK": "1"} for answer in answers)
        assert set(await site.results(500)) == {"decided"}


async def test_f37_calls_are_served_while_the_port_is_flooded() -> None:
    """F37: 300 that say nothing, a megabyte, resets without end; every call is answered in time."""
    async with serving() as site:
        silent = [await asyncio.open_connection("127.0.0.1", site.port) for _ in range(300)]
        for _, writer in silent:
            writer.write(b"agi_network: yes\n")
        waited: list[float] = []

        async def nuisance() -> None:
            while True:
                await asyncio.to_thread(reset, site.port, b"x" * 20_000)
                await said(site.port, b"agi_request: " + b"x" * 1_000_000)

        flood = asyncio.create_task(nuisance())
        clock = asyncio.get_running_loop().time
        for _ in range(30):
            began = clock()
            assert await Channel().ask(site.port) == {**DECIDED, "CTID_OK": "1"}
            waited.append(clock() - began)
        flood.cancel()
        for _, writer in silent:
            writer.transport.abort()
        assert sorted(waited)[len(waited) // 2] < 0.3
        assert max(waited) < 1.5


async def test_f36_a_hangup_in_band_takes_no_answer_away() -> None:
    """F36, B40: HANGUP answers no command and ends no call; the answer counts as taken, or as lost."""
    async with serving() as site:
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
        writer.write(ENVIRONMENT + b"HANGUP\n")
        commands = (await reader.read()).count(b"\n")
        assert commands == 3
        writer.write(b"200 result=1\n" * commands)
        writer.close()
        assert await site.results(1) == ["decided"]


async def test_b40_a_channel_that_is_gone_did_not_take_the_answer() -> None:
    """B40: a channel that is gone did not take the answer."""
    async with serving() as site:
        await Channel(refuse=b"511 Command Not Permitted on a dead channel or intercept routine\n").ask(
            site.port
        )
        assert await site.results(1) == ["lost"]


async def test_a_caller_who_hangs_up_while_we_decide_is_lost_and_deciding_stops() -> None:
    stopped = asyncio.Event()

    async def slow(request: AgiRequest) -> Mapping[str, str]:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            stopped.set()
            raise
        return DECIDED

    async with serving(slow, timeout_ms=10_000) as site:
        await asyncio.to_thread(reset, site.port, ENVIRONMENT)
        assert await site.results(1) == ["lost"]
        async with asyncio.timeout(1):
            await stopped.wait()


async def test_rubbish_instead_of_replies_is_cut_off() -> None:
    async with serving() as site:
        await said(site.port, ENVIRONMENT + b"2" * 100_000)
        assert await site.results(1) == ["malformed"]


async def test_a_channel_that_never_takes_the_answer_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FAREWELL", 0.1)
    async with serving() as site:
        _, writer = await asyncio.open_connection("127.0.0.1", site.port)
        writer.write(ENVIRONMENT)
        assert await site.results(1) == ["lost"]
        writer.close()


async def test_closing_lets_the_answer_under_way_finish() -> None:
    async def thinking(request: AgiRequest) -> Mapping[str, str]:
        await asyncio.sleep(0.1)
        return DECIDED

    async with serving(thinking) as site:
        port = site.port
        asking = asyncio.create_task(Channel().ask(port))
        await asyncio.sleep(0.05)
        await site.server.close()
        assert await asking == {**DECIDED, "CTID_OK": "1"}
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))


async def test_closing_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FAREWELL", 0.1)
    async with serving() as site:
        _, writer = await asyncio.open_connection("127.0.0.1", site.port)
        await asyncio.sleep(0.02)
        await site.server.close()
        assert await site.results(1) == ["closed"]
        writer.close()


async def test_closing_what_never_began_is_nothing() -> None:
    server = FastAgiServer(FastAgi(port=0), decided, default, observe=lambda *seen: None)
    await server.close()
    with pytest.raises(AssertionError, match="not started"):
        server.port  # noqa: B018
