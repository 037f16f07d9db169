"""A proxy in user space that does to a connection what networks do: cut, freeze, slow down, slice.

    async with FaultProxy(("127.0.0.1", 5038)) as proxy:
        ...  # connect to proxy.address
        proxy.reset()

``judge`` looks at what flows and may change or cut it; see :mod:`lab.proxy_judges` for one that
knows AMI frames and one that knows PostgreSQL's COMMIT. It needs no right and no kernel module.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol, Self

Address = tuple[str, int] | Path
"""Of TCP, or a Unix socket."""

_BLOCK: Final = 65_536


class Cut(Exception):
    """A judge says: cut this connection here."""


class Judge(Protocol):
    """Looks at one connection. Each method returns the pieces to pass on instead of ``block``."""

    def upward(self, block: bytes) -> Iterator[bytes]:
        """From client to server. May raise Cut, after pieces that still go through."""

    def downward(self, block: bytes, late: Callable[[bytes, float], None]) -> Iterator[bytes]:
        """From server to client; ``late(piece, seconds)`` passes on a piece after others."""


class Fair:
    """Changes nothing."""

    def upward(self, block: bytes) -> Iterator[bytes]:
        yield block

    def downward(self, block: bytes, late: Callable[[bytes, float], None]) -> Iterator[bytes]:
        yield block


@dataclass
class Flow:
    """What one direction is like; may be changed at any time.

    Attributes:
        latency: Seconds that each block waits.
        bytes_per_second: At most; 0: as many as come. A slow reader, seen from the sender.
        slice_bytes: Passed on in segments of so many bytes; 0: as they come.
        limit_bytes: The connection is cut after exactly so many; -1: never.
    """

    latency: float = 0.0
    bytes_per_second: float = 0.0
    slice_bytes: int = 0
    limit_bytes: int = -1


@dataclass(eq=False)
class _Link:
    """One connection through the proxy."""

    client: asyncio.StreamWriter
    task: asyncio.Task[None] | None = None
    server: asyncio.StreamWriter | None = None
    passed: dict[str, int] = field(default_factory=lambda: {"up": 0, "down": 0})

    def abort(self) -> None:
        """RST to both sides (a Unix socket knows no RST: it just ends)."""
        for writer in (self.client, self.server):
            if writer is not None:
                _abort(writer)

    def finish(self) -> None:
        """FIN to both sides."""
        for writer in (self.client, self.server):
            if writer is not None:
                writer.close()


class FaultProxy:
    """One listener in front of one target.

    Attributes:
        target: May be changed; new connections go there.
        address: Where to connect to; for a Unix socket its path.
        up, down: From client to server, and back.
        judge: Makes the judge of a new connection.
        connections, cuts: Ever taken; cut by us.
    """

    address: Address

    def __init__(
        self,
        target: Address | None = None,
        *,
        listen: Address = ("127.0.0.1", 0),
        judge: Callable[[], Judge] = Fair,
    ) -> None:
        """Prepare; ``listen`` may name a Unix socket, whose folder is made."""
        self.target = target
        self.judge = judge
        self.up, self.down = Flow(), Flow()
        self.connections = self.cuts = 0
        self._listen = listen
        self._links: set[_Link] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def open(self) -> None:
        """Listen; on the same port as before if it was closed."""
        if isinstance(self._listen, Path):
            self._listen.parent.mkdir(parents=True, exist_ok=True)
            self._listen.unlink(missing_ok=True)
            self._server = await asyncio.start_unix_server(self._serve, self._listen)
            self.address = self._listen
        else:
            self._server = await asyncio.start_server(self._serve, *self._listen)
            host, port = self._server.sockets[0].getsockname()[:2]
            self.address = self._listen = (host, port)

    async def close(self) -> None:
        """Refuse new connections and cut all that there are."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        ending = [link.task for link in self._links if link.task is not None]
        self._end(_Link.abort)
        await asyncio.gather(*ending, return_exceptions=True)
        if server is not None:
            await server.wait_closed()

    @property
    def live(self) -> int:
        """Connections now."""
        return len(self._links)

    def fair(self) -> None:
        """Be a good network again, for new and old connections."""
        self.up, self.down = Flow(), Flow()
        self._flowing.set()

    def reset(self) -> int:
        """RST on every connection; return how many there were."""
        return self._end(_Link.abort)

    def finish(self) -> int:
        """FIN on every connection, in both directions."""
        return self._end(_Link.finish)

    def black_hole(self) -> None:
        """Pass on nothing more, not even an end; connections and listener stay open."""
        self._flowing.clear()

    def _end(self, how: Callable[[_Link], None]) -> int:
        links = [*self._links]
        for link in links:
            how(link)
            if link.task is not None:
                link.task.cancel()
        self.cuts += len(links)
        return len(links)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        link = _Link(writer)
        link.task = asyncio.create_task(self._carry(link, reader))
        self._links.add(link)
        # Awaited apart: when we cancel it, this one must not end as cancelled, asyncio would log it.
        await asyncio.wait([link.task])
        self._links.discard(link)
        link.finish()

    async def _carry(self, link: _Link, reader: asyncio.StreamReader) -> None:
        await self._flowing.wait()
        try:
            from_server, link.server = await self._connect()
        except OSError:
            link.abort()
            return
        judge = self.judge()
        client, server = link.client, link.server

        def late(piece: bytes, seconds: float) -> None:
            asyncio.get_running_loop().call_later(seconds, _write, client, piece)

        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(link, "up", reader, server, judge.upward))
                group.create_task(
                    self._pump(link, "down", from_server, client, lambda block: judge.downward(block, late))
                )
        except* (Cut, OSError) as group_error:
            if group_error.subgroup(Cut) is not None:
                self.cuts += 1
            link.abort()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self.target is None:
            raise ConnectionRefusedError
        if isinstance(self.target, Path):
            return await asyncio.open_unix_connection(self.target)
        return await asyncio.open_connection(*self.target)

    async def _pump(
        self,
        link: _Link,
        way: str,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        judged: Callable[[bytes], Iterator[bytes]],
    ) -> None:
        while block := await reader.read(_BLOCK):
            for piece in judged(block):
                await self._pass_on(link, way, piece, writer)
        await self._flowing.wait()
        with contextlib.suppress(OSError, RuntimeError):
            writer.write_eof()

    async def _pass_on(self, link: _Link, way: str, piece: bytes, writer: asyncio.StreamWriter) -> None:
        flow = self.up if way == "up" else self.down
        size = flow.slice_bytes or len(piece) or 1
        if flow.bytes_per_second:
            size = max(1, min(size, int(flow.bytes_per_second / 10)))
        for start in range(0, len(piece), size):
            segment = piece[start : start + size]
            await asyncio.sleep(flow.latency)
            await self._flowing.wait()
            if 0 <= flow.limit_bytes < link.passed[way] + len(segment):
                writer.write(segment[: flow.limit_bytes - link.passed[way]])
                await writer.drain()
                raise Cut
            writer.write(segment)
            await writer.drain()
            link.passed[way] += len(segment)
            if flow.bytes_per_second:
                await asyncio.sleep(len(segment) / flow.bytes_per_second)


def _write(writer: asyncio.StreamWriter, piece: bytes) -> None:
    if not writer.is_closing():
        writer.write(piece)


def _abort(writer: asyncio.StreamWriter) -> None:
    found = writer.get_extra_info("socket")
    if found is not None and found.family != socket.AF_UNIX:
        with contextlib.suppress(OSError):
            found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
