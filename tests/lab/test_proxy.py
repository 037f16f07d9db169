"""The fault proxy: against a TCP peer of a few lines, and against the real PostgreSQL."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote

import asyncpg
import pytest

from lab.postgres import PrivatePostgres
from lab.proxy import FaultProxy, Flow
from lab.proxy_judges import AmiJudge, CommitFault, FrameFault, PostgresJudge, event_named

BANNER = b"Asterisk Call Manager/11.0.0\r\n"
FRAMES = [f"Event: {name}\r\nUniqueid: {number}\r\n\r\n".encode() for number, name in enumerate("ABCBD")]


class Peer:
    """Says ``greeting``, then gives back whatever it is told; remembers how its clients went."""

    def __init__(self, greeting: bytes = b"") -> None:
        self.greeting = greeting
        self.heard = b""
        self.ends: list[str] = []

    async def __aenter__(self) -> Peer:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()[:2]
        self.address = (str(host), int(port))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(self.greeting)
        try:
            while block := await reader.read(65_536):
                self.heard += block
                writer.write(block)
            self.ends.append("fin")
        except ConnectionResetError:
            self.ends.append("reset")
        writer.close()

    async def ended(self) -> str:
        async with asyncio.timeout(5):
            while not self.ends:
                await asyncio.sleep(0.005)
        return self.ends[-1]


Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def through(proxy: FaultProxy) -> AsyncIterator[Ends]:
    assert not isinstance(proxy.address, Path)
    reader, writer = await asyncio.open_connection(*proxy.address)
    yield reader, writer
    writer.transport.abort()


async def said(ends: Ends, count: int) -> bytes:
    async with asyncio.timeout(5):
        return await ends[0].readexactly(count)


async def test_passes_on_both_ways_and_ends_with_fin() -> None:
    async with Peer() as peer, FaultProxy(peer.address) as proxy, through(proxy) as ends:
        ends[1].write(b"hello")
        assert await said(ends, 5) == b"hello"
        ends[1].write_eof()
        assert await peer.ended() == "fin"
        assert await ends[0].read() == b""


async def test_reset_reaches_both_sides() -> None:
    async with Peer(b"hi") as peer, FaultProxy(peer.address) as proxy, through(proxy) as ends:
        await said(ends, 2)
        assert proxy.reset() == 1
        with pytest.raises(ConnectionResetError):
            await said(ends, 1)
        assert await peer.ended() == "reset"


async def test_finish_is_a_fin_for_both_sides() -> None:
    async with Peer(b"hi") as peer, FaultProxy(peer.address) as proxy, through(proxy) as ends:
        await said(ends, 2)
        assert proxy.finish() == 1
        assert await ends[0].read() == b""
        assert await peer.ended() == "fin"


async def test_black_hole_keeps_connections_and_tells_no_end() -> None:
    async with Peer(b"hi") as peer, FaultProxy(peer.address) as proxy, through(proxy) as ends:
        await said(ends, 2)
        proxy.black_hole()
        ends[1].write(b"lost?")
        ends[1].write_eof()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ends[0].read(1), 0.3)
        assert peer.heard == b""
        assert peer.ends == []
        async with through(proxy) as late:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(late[0].read(1), 0.1)
        proxy.fair()
        assert await said(ends, 5) == b"lost?"
        assert await peer.ended() == "fin"


async def test_latency_and_bandwidth() -> None:
    async with Peer() as peer, FaultProxy(peer.address) as proxy, through(proxy) as ends:
        proxy.down = Flow(latency=0.1)
        began = time.monotonic()
        ends[1].write(b"x")
        await said(ends, 1)
        assert time.monotonic() - began >= 0.1
        proxy.down = Flow(bytes_per_second=10_000)
        began = time.monotonic()
        ends[1].write(b"x" * 5_000)
        await said(ends, 5_000)
        assert 0.4 <= time.monotonic() - began < 3


async def test_slices_and_limits() -> None:
    async with Peer() as peer, FaultProxy(peer.address) as proxy, through(proxy) as ends:
        proxy.up = Flow(slice_bytes=1)
        proxy.down = Flow(limit_bytes=7)
        ends[1].write(b"0123456789")
        assert await said(ends, 7) == b"0123456"
        with pytest.raises(ConnectionResetError):
            await said(ends, 1)
        assert proxy.cuts == 1


async def test_refuses_while_closed_and_keeps_its_port() -> None:
    async with Peer(b"hi") as peer:
        proxy = FaultProxy(peer.address)
        await proxy.open()
        before = proxy.address
        await proxy.close()
        with pytest.raises(ConnectionRefusedError):
            async with through(proxy):
                pass
        await proxy.open()
        assert proxy.address == before
        async with through(proxy) as ends:
            assert await said(ends, 2) == b"hi"
        await proxy.close()


async def frames_through(*faults: FrameFault, count: int) -> bytes:
    async with Peer(BANNER + b"".join(FRAMES)) as peer:
        proxy = FaultProxy(peer.address, judge=lambda: AmiJudge(list(faults)))
        proxy.down = Flow(slice_bytes=3)
        async with proxy, through(proxy) as ends:
            return await said(ends, len(BANNER) + count)


def told(*numbers: int) -> bytes:
    return BANNER + b"".join(FRAMES[number] for number in numbers)


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (FrameFault("drop", event_named("B")), told(0, 2, 3, 4)),
        (FrameFault("drop", event_named("B"), number=2), told(0, 1, 2, 4)),
        (FrameFault("drop", event_named("B"), times=2), told(0, 2, 4)),
        (FrameFault("duplicate", event_named("c")), told(0, 1, 2, 2, 3, 4)),
        (FrameFault("reorder", event_named("A", "D")), told(1, 0, 2, 3, 4)),
        (FrameFault("delay", event_named("A"), seconds=0.05), told(1, 2, 3, 4, 0)),
        (FrameFault("cut", event_named("C")), told(0, 1)),
        (FrameFault("cut inside", event_named("C"), bytes_in=9), told(0, 1) + FRAMES[2][:9]),
    ],
    ids=lambda value: value.deed if isinstance(value, FrameFault) else "",
)
async def test_ami_frames_are_hit_one_by_one(fault: FrameFault, expected: bytes) -> None:
    """Dropped, doubled, late, swapped or cut: each as said, and only that one."""
    assert await frames_through(fault, count=len(expected) - len(BANNER)) == expected
    assert fault.done == fault.times


@pytest.fixture
async def ledger(postgres: PrivatePostgres) -> AsyncIterator[asyncpg.Connection]:
    """A direct connection to a database with one table."""
    postgres.createdb("proxied")
    connection = await asyncpg.connect(postgres.dsn("proxied"))
    await connection.execute("create table line (number int)")
    yield connection
    await connection.close()
    postgres.dropdb("proxied")


@asynccontextmanager
async def proxied(ledger: asyncpg.Connection, folder: Path, fault: CommitFault) -> AsyncIterator[str]:
    target = Path(await ledger.fetchval("show unix_socket_directories")) / ".s.PGSQL.5432"
    user = await ledger.fetchval("select current_user")
    proxy = FaultProxy(target, listen=folder / ".s.PGSQL.5432", judge=lambda: PostgresJudge(fault))
    async with proxy:
        yield f"postgresql://{user}@/proxied?host={quote(str(folder), safe='')}&port=5432"


async def insert(dsn: str, number: int) -> None:
    connection = await asyncpg.connect(dsn)
    async with connection.transaction():
        await connection.execute("insert into line values ($1)", number)
    await connection.close()


@pytest.mark.parametrize(("when", "rows"), [("after", 1), ("before", 0)])
async def test_a_cut_at_commit(ledger: asyncpg.Connection, tmp_path: Path, when: str, rows: int) -> None:
    """The client is told nothing; PostgreSQL did it, or did not."""
    fault = CommitFault(when="before" if when == "before" else "after", left=1, spare=1)
    async with proxied(ledger, tmp_path, fault) as dsn:
        await insert(dsn, 1)
        with pytest.raises((OSError, asyncpg.PostgresError, asyncpg.InterfaceError)):
            await insert(dsn, 2)
        await insert(dsn, 3)
    assert (fault.seen, fault.done) == (3, 1)
    assert await ledger.fetchval("select count(*) from line where number = 2") == rows
    assert await ledger.fetchval("select count(*) from line where number <> 2") == 2


async def test_a_prepared_commit_is_one_too(ledger: asyncpg.Connection, tmp_path: Path) -> None:
    fault = CommitFault(left=1)
    async with proxied(ledger, tmp_path, fault) as dsn:
        connection = await asyncpg.connect(dsn, statement_cache_size=0)
        await connection.execute("begin")
        await connection.execute("insert into line values (7)")
        with pytest.raises((OSError, asyncpg.PostgresError, asyncpg.InterfaceError)):
            await connection.fetch("commit")
    assert fault.done == 1
    assert await ledger.fetchval("select count(*) from line where number = 7") == 1
