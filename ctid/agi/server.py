"""The FastAGI server: accept, decide within the deadline, else the default route.

Every way out that is not a full answer leaves ``CTID_OK`` unset, and the dialplan goes on
by itself. One request, one connection, one answer::

    reading --request--> deciding --commands--> answered --end of file--> closed
       |                     |
       | 2 s, 16 KiB         | decision_timeout, or a bug
       v                     v
     closed               the line's default

All commands go out at once, followed by our end of file: res_agi.c polls the socket before
each line, but reads it through a stdio buffer, so several lines in one segment would get
stuck there if the end of file behind them did not keep the socket readable. One round trip
instead of eighteen, and Asterisk executes them in order, the sentinel last.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Literal, cast

import structlog

from ctid import descriptors
from ctid.agi.framing import AgiRequest, ReplyReader, RequestReader, set_variables
from ctid.errors import AgiFramingError
from ctid.settings import FastAgi

log = structlog.get_logger()

HEADER_DEADLINE: Final = 2.0
"""Seconds from accepting to the request's blank line."""
FAREWELL: Final = 5.0
"""Seconds that Asterisk has to read our answer, and that ``close`` waits for answers under way."""

Result = Literal["decided", "late", "failed", "lost", "unknown", "malformed", "slow", "crowded", "closed"]
"""How a connection ended.

decided    the route was decided, and Asterisk took it
late       the default was used: no decision within the deadline
failed     the default was used: deciding raised an exception
lost       the connection, or the channel, went away before Asterisk took the answer
unknown    no such script
malformed  not FastAGI, or too much of it
slow       no whole request within the header deadline
crowded    too many connections at once, or no file descriptor to spare
closed     the connection ended before a request was there (health checks, port scans)
"""

Route = Callable[[AgiRequest], Awaitable[Mapping[str, str]]]
Default = Callable[[AgiRequest], Mapping[str, str]]
Observe = Callable[[str, Result, float], None]


class FastAgiServer:
    """Listens for the dialplan's questions.

    Args:
        settings: Where to listen, how long to decide, how many connections at once.
        route: Decides one request; returns variables to set.
        default: The same without waiting and without any source that can be away.
        observe: Told once per connection: script (``route`` or empty), result, and the
            seconds from accepting to the answer, or to the end where there was none.
    """

    def __init__(self, settings: FastAgi, route: Route, default: Default, *, observe: Observe) -> None:
        self._settings = settings
        self._route = route
        self._default = default
        self._observe = observe
        self._server: asyncio.Server | None = None
        self._open: set[_Connection] = set()
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def port(self) -> int:
        """The port in use; differs from the settings if they say 0."""
        assert self._server is not None, "not started"
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: The address can not be had.
        """
        settings = self._settings
        self._server = await asyncio.get_running_loop().create_server(
            lambda: _Connection(self), settings.host, settings.port, backlog=settings.max_connections
        )

    async def close(self) -> None:
        """Stop listening, let answers under way finish within ``FAREWELL``, then drop the rest."""
        if self._server is None:
            return
        self._server.close()
        try:
            async with asyncio.timeout(FAREWELL):
                await self._empty.wait()
        except TimeoutError:
            log.warning("agi.dropped_at_close", connections=len(self._open))
        await self.abort()

    async def abort(self) -> None:
        """Stop listening and drop what is under way: the dialplan goes on by itself."""
        if self._server is None:
            return
        self._server.close()
        for connection in tuple(self._open):
            connection.abort()
        await self._empty.wait()
        await self._server.wait_closed()

    def admit(self, connection: _Connection) -> bool:
        """Count ``connection`` in, if there is room."""
        if len(self._open) >= self._settings.max_connections or not descriptors.for_calls(
            connection.descriptor
        ):
            return False
        self._open.add(connection)
        self._empty.clear()
        return True

    def dismiss(self, connection: _Connection, script: str, result: Result, seconds: float) -> None:
        """Count ``connection`` out."""
        self._open.discard(connection)
        if not self._open:
            self._empty.set()
        self._observe(script, result, seconds)

    async def decide(self, request: AgiRequest) -> tuple[Result, list[bytes]]:
        """Return how it was decided and the commands; no commands if even the default failed."""
        result: Result = "decided"
        for attempt in (self._in_time, self._at_once):
            try:
                return result, set_variables(await attempt(request))
            except TimeoutError:
                result = "late"
            except Exception:
                # The one broad net in ctid: a bug in deciding must not cost a caller his call.
                log.exception("agi.deciding_failed", script=request.script)
                result = "failed"
        return result, []

    async def _in_time(self, request: AgiRequest) -> Mapping[str, str]:
        async with asyncio.timeout(self._settings.decision_timeout.total_seconds()):
            return await self._route(request)

    async def _at_once(self, request: AgiRequest) -> Mapping[str, str]:
        return self._default(request)


class _Connection(asyncio.Protocol):
    """One request from Asterisk."""

    def __init__(self, server: FastAgiServer) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._began = time.perf_counter()  # uvloop's clock ticks in milliseconds
        self._answered: float | None = None
        self._reader = RequestReader()
        self._replies = ReplyReader()
        self._awaited = 0
        self._script = ""
        self._result: Result = "closed"
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do all of it but are no subclass.
        self._transport = cast("asyncio.Transport", transport)
        self._timer = self._loop.call_later(HEADER_DEADLINE, self._end, "slow")
        if not self._server.admit(self):
            self._end("crowded")

    def data_received(self, data: bytes) -> None:
        try:
            if self._task:
                self._take_replies(data)
            elif request := self._reader.feed(data):
                self._timer.cancel()
                self._take_request(request)
        except AgiFramingError as error:
            log.warning("agi.malformed", why=str(error))
            self._end("malformed")

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        if self._task and not self._task.done():
            self._task.cancel()
        if self._task and (self._answered is None or self._awaited > 0) and self._result != "malformed":
            self._result = "lost"
        ended = time.perf_counter() if self._answered is None else self._answered
        self._server.dismiss(self, self._script, self._result, ended - self._began)

    @property
    def descriptor(self) -> int:
        """Number of the file descriptor."""
        return descriptors.of(self._transport)

    def abort(self) -> None:
        """Drop the connection now."""
        self._transport.abort()

    def _take_request(self, request: AgiRequest) -> None:
        if request.script != "route":
            self._end("unknown")
            return
        self._script = request.script
        self._task = self._loop.create_task(self._answer(request))
        if self._reader.rest:
            self._take_replies(self._reader.rest)

    async def _answer(self, request: AgiRequest) -> None:
        result, commands = await self._server.decide(request)
        if self._transport.is_closing():
            return
        self._result = result
        self._answered = time.perf_counter()
        self._timer = self._loop.call_later(FAREWELL, self.abort)
        self._awaited += len(commands)
        self._transport.write(b"".join(commands))
        self._transport.write_eof()

    def _take_replies(self, data: bytes) -> None:
        for reply in self._replies.feed(data):
            # 511 and the like: the channel is gone; the sentinel was not taken either.
            self._awaited -= reply.code == 200

    def _end(self, result: Result) -> None:
        self._result = result
        self._transport.abort()
