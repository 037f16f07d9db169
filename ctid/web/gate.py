"""What every request passes: right host, known person, own page, enough rights.

Default deny: a route is only reachable through ``Gate.guarded``, and has its rights written
beside it. Nothing that went wrong inside is told outside.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from urllib.parse import urlsplit

import structlog
from aiohttp import hdrs, web

from ctid.errors import StoreError
from ctid.web.rights import Rights, may
from ctid.web.routes import Route, refused
from ctid.web.sessions import Session, Sessions

log = structlog.get_logger()

COOKIE = "ctid_session"
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_WITHOUT_HOST_CHECK = frozenset({"/healthz", "/readyz"})

_POLICY = "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Server": "ctid",
}


class Gate:
    """Decides who gets to a route.

    Args:
        sessions: Who is who.
        proxies: Addresses whose ``X-Forwarded-For`` is believed.
        public_url: As browsers reach us: the only Origin that may act, and the name of the cookie.
    """

    def __init__(self, sessions: Sessions, public_url: str, proxies: Collection[str] = ()) -> None:
        self._proxies = frozenset(proxies)
        self._sessions = sessions
        address = urlsplit(public_url)
        self.origin = f"{address.scheme}://{address.netloc}".lower()
        self.is_secure = address.scheme == "https"
        self.hosts = {address.netloc.lower()}

    @property
    def cookie(self) -> str:
        """Name of the cookie; the prefix makes browsers insist on Secure and this very host."""
        return f"__Host-{COOKIE}" if self.is_secure else COOKIE

    def allow_hosts(self, port: int) -> None:
        """Also answer to this machine's own names at ``port``."""
        self.hosts |= {f"{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]")}

    def move_to(self, netloc: str) -> None:
        """Be reached there instead: the port was not known before."""
        self.origin = f"{self.origin.partition('://')[0]}://{netloc}"
        self.hosts.add(netloc)

    def guarded(self, route: Route) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """Return the route's answer behind its rights."""

        async def answer(request: web.Request) -> web.StreamResponse:
            session, is_cookie = await self.who(request)
            denied = self._denied(route, request, session, is_cookie=is_cookie)
            return denied or await route.answer(request, session)

        return answer

    async def who(self, request: web.Request) -> tuple[Session | None, bool]:
        """Return who asks, and whether he showed a cookie (which a browser sends unasked).

        Raises:
            StoreError: Nobody can say now.
        """
        scheme, _, token = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
        if scheme.lower() == "bearer":
            return await self._sessions.of_secret(token.strip()), False
        secret = request.cookies.get(self.cookie, "")
        return (await self._sessions.of_secret(secret) if secret else None), bool(secret)

    def address_of(self, request: web.Request) -> str:
        """Return where a request comes from: the last address that is not a proxy of ours."""
        told = ",".join(request.headers.getall("X-Forwarded-For", ())).split(",")
        hops = [request.remote or "", *(hop.strip() for hop in reversed(told) if hop.strip())]
        return next((hop for hop in hops if hop not in self._proxies), hops[-1])[:64]

    def is_own_page(self, request: web.Request) -> bool:
        """Say whether the request comes from a page of ours; without either header: no."""
        origin = request.headers.get(hdrs.ORIGIN)
        if origin is not None:
            return origin.lower() == self.origin
        return request.headers.get("Sec-Fetch-Site") == "same-origin"

    def _denied(
        self, route: Route, request: web.Request, session: Session | None, *, is_cookie: bool
    ) -> web.Response | None:
        acts = request.method not in _SAFE_METHODS
        by_browser = is_cookie or route.rights is Rights.ANYONE
        if acts and by_browser and not self.is_own_page(request):
            return refused(403, "foreign_origin", f"only pages of {self.origin} may do this")
        if route.rights is Rights.ANYONE:
            return None
        if session is None:
            return refused(401, "not_authenticated", "sign in first: POST /api/v1/session")
        if may(session.user, route.rights, agent=request.match_info.get("agent", "")):
            return None
        if session.user.must_change:
            return refused(403, "password_due", "choose a password of your own first")
        return refused(403, "forbidden", f"this is for {route.rights.value}")


def may_act_for(session: Session, agent: str) -> bool:
    """Say whether a person may act for, or look at the pops of, an agent."""
    return may(session.user, Rights.OWN_AGENT, agent=agent)


def middleware(gate: Gate) -> Callable[..., Awaitable[web.StreamResponse]]:
    """Return the outermost layer: host check, and problems instead of pages of the library."""

    @web.middleware
    async def politely(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        if request.path not in _WITHOUT_HOST_CHECK and request.host.lower() not in gate.hosts:
            return refused(421, "unknown_host", f"this is {gate.origin}; settings: web.public_url")
        try:
            return await handler(request)
        except web.HTTPException as error:
            allow = error.headers.get(hdrs.ALLOW)
            response = refused(error.status, "http", _SAID.get(error.status, error.reason))
            if allow:
                response.headers[hdrs.ALLOW] = allow
            return response
        except StoreError as error:
            log.warning("store_unavailable", path=request.path, why=str(error))
            return refused(503, "store_unavailable", "the database does not answer; try again in a moment")
        except Exception:
            # A bug in one page must not take the calls with it, and must not be shown outside.
            log.exception("page_failed", method=request.method, path=request.path)
            return refused(500, "internal", "something is wrong in ctid; the log says what")

    return politely


_SAID = {
    404: "nothing here; the API is described at /api/openapi.json",
    405: "not with this method",
    413: "more than we read",
}


async def add_headers(_request: web.Request, response: web.StreamResponse) -> None:
    """Put the security headers on whatever leaves."""
    for name, value in HEADERS.items():
        response.headers[name] = value
    response.headers.setdefault(hdrs.CACHE_CONTROL, "no-store")


def add_headers_for(phone: str) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    """Return ``add_headers`` for pages that are a phone as well.

    Args:
        phone: Address of Asterisk's WebSocket: the page may connect there and nowhere else, and may
            ask for the microphone.
    """
    address = urlsplit(phone)
    allowed = {
        "Content-Security-Policy": f"{_POLICY}; connect-src 'self' {address.scheme}://{address.netloc}",
        "Permissions-Policy": HEADERS["Permissions-Policy"].replace("microphone=()", "microphone=(self)"),
    }

    async def add(request: web.Request, response: web.StreamResponse) -> None:
        await add_headers(request, response)
        response.headers.update(allowed)

    return add
