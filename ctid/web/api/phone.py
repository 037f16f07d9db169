"""What an agent's own page needs to be his phone."""

from __future__ import annotations

import asyncio

import msgspec
import structlog
from aiohttp import web

from ctid import settings
from ctid.errors import SettingsError
from ctid.web.phones import read_passwords
from ctid.web.rights import Rights
from ctid.web.routes import Problem, Route, json, refused
from ctid.web.sessions import Session

log = structlog.get_logger()


class PhoneAccount(msgspec.Struct, frozen=True, kw_only=True):
    """Where to register, and as whom.

    Attributes:
        address: Of Asterisk's WebSocket.
        user: The agent's number, which is his SIP user.
    """

    address: str
    user: str
    password: str

    def __repr__(self) -> str:
        return f"PhoneAccount(address={self.address!r}, user={self.user!r})"


class PhoneApi:
    """``GET /api/v1/phone``.

    Args:
        phone: ``settings.web.phone``; ``None``: every phone is elsewhere.
    """

    def __init__(self, phone: settings.Phone | None) -> None:
        self._phone = phone

    def routes(self) -> list[Route]:
        return [
            Route(
                "GET",
                "/api/v1/phone",
                Rights.SIGNED_IN,
                "My own phone in the page: address and SIP password",
                self._show,
                replies={
                    200: ("register with this", PhoneAccount),
                    204: ("my phone is elsewhere, or I take no calls", None),
                    503: ("the passwords can not be read", Problem),
                },
            )
        ]

    async def _show(self, _request: web.Request, session: Session | None) -> web.StreamResponse:
        assert session is not None
        agent = session.user.agent
        if self._phone is None or not agent:
            return web.Response(status=204)
        try:
            passwords = await asyncio.to_thread(read_passwords, self._phone.passwords_file)
        except SettingsError as error:
            log.error("phone_passwords_unreadable", problems=error.problems)
            return refused(
                503, "phone_unavailable", "the phones' passwords can not be read; the log says why"
            )
        password = passwords.get(agent)
        if password is None:
            return web.Response(status=204)
        return json(
            PhoneAccount(address=self._phone.address, user=agent, password=password.get_secret_value())
        )
