"""The WebSocket ``/ws``: who is it, then listen to what he asks (messages.py).

A browser is known by its cookie and must come from our own page; anything else shows a
token in its first message, within five seconds.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Protocol

from aiohttp import WSMsgType, hdrs, web

from ctid.errors import StoreError
from ctid.store.users import hash_of
from ctid.web.client import Client, Limits
from ctid.web.gate import Gate
from ctid.web.hub import Hub
from ctid.web.messages import (
    Ack,
    Auth,
    Dismiss,
    Error,
    FromClient,
    FromServer,
    Seen,
    Subscribe,
    Sync,
    Unsubscribe,
    decode,
    encode,
)
from ctid.web.rights import TOPICS, Rights, signed_in, topics_of
from ctid.web.routes import Route, refused
from ctid.web.sessions import Session, Sessions


class Pops(Protocol):
    """What screens may do to pops; ``ctid.sinks.pops.PopSink``."""

    def acknowledge(self, agent: str, pop_id: str) -> None: ...
    def dismiss(self, agent: str, pop_id: str) -> bool: ...


class Allowance:
    """A bucket of messages that refills with time."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._left = float(limits.burst)
        self._at = asyncio.get_running_loop().time()
        self.strikes = 0

    def take(self) -> bool:
        """Take one message out; False: there was none."""
        now = asyncio.get_running_loop().time()
        self._left = min(self._limits.burst, self._left + (now - self._at) * self._limits.per_second)
        self._at = now
        self._left -= 1
        return self._left >= 0


class Sockets:
    """All of ``/ws``."""

    def __init__(self, *, hub: Hub, sessions: Sessions, gate: Gate, pops: Pops, max_clients: int) -> None:
        self._hub = hub
        self._sessions = sessions
        self._gate = gate
        self._pops = pops
        self._max_clients = max_clients
        self._limits = hub.limits
        self._strangers: Counter[str] = Counter()

    def routes(self) -> list[Route]:
        return [
            Route(
                "GET",
                "/ws",
                Rights.ANYONE,  # it asks for itself: the first message may be the token
                "WebSocket; messages: /api/messages.json",
                self.answer,
                replies={101: ("from here on WebSocket messages", None)},
            )
        ]

    async def answer(self, request: web.Request, session: Session | None) -> web.StreamResponse:
        """Upgrade, find out who it is, serve."""
        if denied := self._denied(request, session):
            return denied
        socket = web.WebSocketResponse(
            heartbeat=self._limits.beat_seconds,
            max_msg_size=self._limits.message_bytes,
            compress=False,  # no bombs, and one frame fits all
            timeout=self._limits.linger_seconds,
        )
        await socket.prepare(request)
        session = session or await self._introduced(socket, request.remote or "")
        if session is not None and request.transport is not None:
            await self._serve(socket, request.transport, session)
        return socket

    def _denied(self, request: web.Request, session: Session | None) -> web.Response | None:
        origin = request.headers.get(hdrs.ORIGIN)
        if (session or origin is not None) and not self._is_trusted(request, origin):
            return refused(403, "foreign_origin", f"only pages of {self._gate.origin} may connect")
        if len(self._hub) + self._strangers.total() >= self._max_clients:
            return refused(503, "too_many", "too many screens; settings: web.max_clients")
        if (
            session is None
            and self._strangers[request.remote or ""] >= self._limits.unauthenticated_per_address
        ):
            return refused(429, "too_many", "too many connections from there that have not signed in")
        if session and session.user.must_change:
            return refused(403, "password_due", "choose a password of your own first")
        if session and self._hub.connections_of(session.user.name) >= self._limits.per_user:
            return refused(429, "too_many", "too many screens of this user")
        return None

    def _is_trusted(self, request: web.Request, origin: str | None) -> bool:
        if origin is not None:
            return origin.lower() == self._gate.origin
        return hdrs.AUTHORIZATION in request.headers  # a program, not a page: no browser can send it

    async def _introduced(self, socket: web.WebSocketResponse, address: str) -> Session | None:
        """Wait for the token; ``None``: closed."""
        self._strangers[address] += 1
        try:
            async with asyncio.timeout(self._limits.unauthenticated_seconds):
                message = await socket.receive()
        except TimeoutError:
            await socket.close(code=1008, message=b"sign in within 5 seconds")
            return None
        finally:
            self._strangers[address] -= 1
            if not self._strangers[address]:
                del self._strangers[address]
        if message.type is not WSMsgType.TEXT:
            await socket.close(code=1008, message=b"the first message must be auth")
            return None
        return await self._checked(socket, message.data)

    async def _checked(self, socket: web.WebSocketResponse, text: str) -> Session | None:
        command: FromClient | None = None
        try:
            command = decode(text)
            session = await self._sessions.of_secret(command.token) if isinstance(command, Auth) else None
            error = Error(code="bad_token", what="this token is not valid; ask for a new one")
        except ValueError as why:
            session, error = None, Error(code="bad_message", what=str(why))
        except StoreError:
            session, error = (
                None,
                Error(
                    code="store_unavailable",
                    what="this token is not known yet and the database does not answer; try again",
                ),
            )
        if session is None:
            await socket.send_str(encode(error).decode())
            await socket.close(code=1008, message=error.code.encode())
        elif self._hub.connections_of(session.user.name) >= self._limits.per_user:
            await socket.close(code=1008, message=b"too many screens of this user")
            return None
        return session

    async def _serve(
        self, socket: web.WebSocketResponse, transport: asyncio.Transport, session: Session
    ) -> None:
        user = session.user
        allowed = frozenset(topics_of(user))
        client = Client(
            transport, self._limits, session.key, user.name, user.roles, user.agent, allowed=allowed
        )
        self._hub.attach(client, signed_in(user))
        try:
            await self._listen(socket, client)
        finally:
            self._hub.detach(client)

    async def _listen(self, socket: web.WebSocketResponse, client: Client) -> None:
        allowance = Allowance(self._limits)
        async for message in socket:
            if not client.is_open:
                return
            if message.type is not WSMsgType.TEXT:
                client.drop(1003, "text only")
            elif not allowance.take():
                client.drop(1008, "too many messages")
            else:
                self._take(client, message.data, allowance)

    def _take(self, client: Client, text: str, allowance: Allowance) -> None:
        try:
            command = decode(text)
        except ValueError as why:
            allowance.strikes += 1
            self._hub.reply(client, Error(code="bad_message", what=str(why)))
            if allowance.strikes >= self._limits.strikes:
                client.drop(1008, "too many messages that can not be read")
            return
        self._hub.reply(client, self._carried_out(client, command))

    def _carried_out(self, client: Client, command: FromClient) -> FromServer:
        match command:
            case Subscribe(topic=topic, agent=agent):
                if topic not in client.allowed:
                    return Error(code="forbidden", what=f"this is for {TOPICS[topic].value}", id=command.id)
                if topic == "pops" and agent not in ("", client.agent):
                    return Error(code="forbidden", what="pops of one's own agent number only", id=command.id)
                self._hub.subscribe(client, {*client.topics, topic})
            case Unsubscribe(topic=topic):
                self._hub.subscribe(client, client.topics - {topic})
            case Sync():
                self._hub.sync(client)
            case Seen(pop=pop):
                self._pops.acknowledge(client.agent, pop)
            case Dismiss(pop=pop):
                if not self._pops.dismiss(client.agent, pop):
                    return Error(
                        code="unknown_pop", what="not a pop of yours, or it still rings", id=command.id
                    )
            case Auth() if hash_of(command.token) != client.session:
                return Error(code="bad_message", what="signed in already, with something else", id=command.id)
        return Ack(id=command.id)
