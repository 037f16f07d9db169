"""The two HTTP listeners, built from what is handed in.

    hub = Hub(book=book, floor=floor)
    sessions = Sessions(Users(pool), on_end=hub.end_session)
    pops = PopSink(book=book, screens=hub, ...)
    server = WebServer(settings.web, hub=hub, sessions=sessions, book=book, pops=pops,
                       floor=floor, end_wrap_up=end_wrap_up,
                       checks={"asterisk": ..., "database": ...}, version=version)
    group.create_task(hub.run()); group.create_task(sessions.run())
    await server.start(); ...; await server.close()

Neither touches signals; closing takes less than a second even with silent screens.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from ctid import descriptors
from ctid.descriptors import Door
from ctid.settings import Metrics, Web
from ctid.sinks.pop_book import PopBook
from ctid.web import pages
from ctid.web.api.floor import FloorApi
from ctid.web.api.health import Check, HealthApi
from ctid.web.api.openapi import OpenApi
from ctid.web.api.phone import PhoneApi
from ctid.web.api.pop import PopApi
from ctid.web.api.session import SessionApi
from ctid.web.api.wrap_up import EndWrapUp, WrapUpApi
from ctid.web.gate import Gate, add_headers, add_headers_for, middleware
from ctid.web.hub import Hub
from ctid.web.messages import FloorState
from ctid.web.routes import Route
from ctid.web.sessions import Sessions
from ctid.web.sign_in import SignIns
from ctid.web.sockets import Pops, Sockets

MAX_BODY: Final = 64 * 1024
IDLE_SECONDS: Final = 75.0
"""A connection that asks nothing, or never finishes asking, is closed."""
CLOSE_SECONDS: Final = 0.5
BROWSING: Final = 500
"""Connections beside those of the screens: pages being loaded, the API."""
SCRAPERS: Final = 32
"""Connections to ``/metrics`` at once."""


class _Runner(web.AppRunner):
    """A runner whose connections come in by a door."""

    def __init__(self, application: web.Application, *, most: int) -> None:
        super().__init__(
            application,
            handle_signals=False,
            access_log=None,
            keepalive_timeout=IDLE_SECONDS,
            shutdown_timeout=CLOSE_SECONDS,
        )
        self._most = most

    @property
    def server(self) -> web.Server | None:
        """What makes the protocol of each connection."""
        return self._open if super().server is not None else None  # type: ignore[return-value]

    def _open(self) -> Door:
        server = super().server
        assert server is not None
        return Door(server, self._is_room)

    def _is_room(self, descriptor: int) -> bool:
        server = super().server
        is_full = server is not None and len(server.connections) >= self._most
        return not is_full and descriptors.for_screens(descriptor)


class Listener:
    """One aiohttp application on one address.

    Args:
        most: Connections at once; further ones are closed at once.
    """

    def __init__(self, application: web.Application, host: str, port: int, *, most: int) -> None:
        self._runner = _Runner(application, most=most)
        self._host = host
        self._port = port

    @property
    def port(self) -> int:
        """The real port, once started."""
        return self._port

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: The address is taken or not ours.
        """
        await self._runner.setup()
        try:
            site = web.TCPSite(self._runner, self._host, self._port, backlog=1024)
            await site.start()
        except OSError:
            await self._runner.cleanup()
            raise
        self._port = int(self._runner.addresses[0][1])

    async def close(self) -> None:
        """Stop listening and end every connection."""
        await self._runner.cleanup()


class WebServer:
    """Pages, API and WebSocket.

    Args:
        settings: ``settings.web``; with port 0 any free one is taken, and ``public_url``'s
            port is then the one taken.
        hub: Runs beside it: its ``run()`` is the caller's to start.
        sessions: As ``hub``.
        sign_ins: Who knows his password.
        pops: Told what people do with their pops.
        end_wrap_up: Called with an agent's number.
        checks: What ``/readyz`` asks; name to check.
        more: Routes of further subjects.
    """

    def __init__(
        self,
        settings: Web,
        *,
        hub: Hub,
        sessions: Sessions,
        sign_ins: SignIns,
        book: PopBook,
        pops: Pops,
        floor: Callable[[], FloorState],
        end_wrap_up: EndWrapUp,
        checks: Mapping[str, Check],
        more: Sequence[Route] = (),
        version: str = "0",
    ) -> None:
        self._settings = settings
        self._hub = hub
        self.gate = Gate(sessions, settings.public_url, settings.trusted_proxies)
        api = [
            *SessionApi(sessions, sign_ins, self.gate).routes(),
            *FloorApi(floor).routes(),
            *WrapUpApi(end_wrap_up).routes(),
            *PopApi(book).routes(),
            *PhoneApi(settings.phone).routes(),
            *HealthApi(checks).routes(),
            *more,
            *Sockets(
                hub=hub,
                sessions=sessions,
                gate=self.gate,
                pops=pops,
                max_clients=settings.max_clients,
            ).routes(),
        ]
        self.routes = [*api, *OpenApi(api, version=version).routes(), *pages.routes()]
        self._listener = Listener(
            self._application(self.routes),
            settings.host,
            settings.port,
            most=settings.max_clients + BROWSING,
        )

    @property
    def url(self) -> str:
        """Where it listens, once started."""
        host = f"[{self._settings.host}]" if ":" in self._settings.host else self._settings.host
        return f"http://{host}:{self._listener.port}"

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: The address is taken or not ours.
        """
        await self._listener.start()
        self.gate.allow_hosts(self._listener.port)
        if self._settings.port == 0:
            self.gate.move_to(urlsplit(self.url).netloc)

    async def close(self) -> None:
        """Tell the screens to come back later, and stop."""
        await self._listener.close()

    def _application(self, routes: Sequence[Route]) -> web.Application:
        application = web.Application(middlewares=[middleware(self.gate)], client_max_size=MAX_BODY)
        phone = self._settings.phone
        application.on_response_prepare.append(add_headers_for(phone.address) if phone else add_headers)
        application.on_shutdown.append(self._close_screens)
        for route in routes:
            application.router.add_route(route.method, route.path, self.gate.guarded(route))
        return application

    async def _close_screens(self, _application: web.Application) -> None:
        await self._hub.close()


class MetricsServer:
    """``/metrics`` on an address of its own.

    Args:
        settings: ``settings.metrics``.
        render: Returns the exposition; runs in a thread, since it may take long.
        content_type: Of what ``render`` returns.
    """

    def __init__(
        self,
        settings: Metrics,
        *,
        render: Callable[[], bytes],
        content_type: str = "text/plain; version=0.0.4; charset=utf-8",
    ) -> None:
        application = web.Application(client_max_size=1024)
        application.on_response_prepare.append(add_headers)
        application.router.add_get("/metrics", self._answer)
        self._render = render
        self._rendering: asyncio.Task[bytes] | None = None
        self._content_type = content_type
        self._listener = Listener(application, settings.host, settings.port, most=SCRAPERS)

    @property
    def port(self) -> int:
        return self._listener.port

    async def start(self) -> None:
        """Listen; raises ``OSError`` if the address is taken."""
        await self._listener.start()

    async def close(self) -> None:
        await self._listener.close()

    async def _answer(self, _request: web.Request) -> web.Response:
        # Scrapes that overlap share one page: the threads are there for recordings, too.
        if self._rendering is None or self._rendering.done():
            self._rendering = asyncio.create_task(asyncio.to_thread(self._render))
        body = await asyncio.shield(self._rendering)
        return web.Response(body=body, headers={hdrs.CONTENT_TYPE: self._content_type})
