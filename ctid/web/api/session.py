"""Signing in and out."""

from __future__ import annotations

from typing import Annotated

import msgspec
from aiohttp import web

from ctid.errors import StoreError
from ctid.web.gate import Gate
from ctid.web.messages import SignedIn
from ctid.web.routes import Problem, Rights, Route, json, refused
from ctid.web.sessions import Session, Sessions


class SignIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a person shows."""

    token: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class SessionApi:
    """POST, GET and DELETE of ``/api/v1/session``."""

    def __init__(self, sessions: Sessions, gate: Gate) -> None:
        self._sessions = sessions
        self._gate = gate

    def routes(self) -> list[Route]:
        path = "/api/v1/session"
        return [
            Route(
                "POST",
                path,
                Rights.ANYONE,
                "Sign in with a token; sets the session cookie",
                self._open,
                body=SignIn,
                replies={
                    200: ("signed in", SignedIn),
                    401: ("not a valid token", Problem),
                    503: ("the token is not known yet and the database does not answer", Problem),
                },
            ),
            Route(
                "GET",
                path,
                Rights.ANYONE,
                "Who am I",
                self._show,
                replies={200: ("you are", SignedIn), 204: ("nobody: sign in", None)},
            ),
            Route(
                "DELETE",
                path,
                Rights.SIGNED_IN,
                "Sign out; closes all screens of this session",
                self._close,
                replies={204: ("signed out", None)},
            ),
        ]

    async def _open(self, request: web.Request, _session: Session | None) -> web.StreamResponse:
        try:
            shown = msgspec.json.decode(await request.read(), type=SignIn)
        except (msgspec.MsgspecError, RecursionError, UnicodeError):
            return refused(400, "bad_body", 'the body must be JSON: {"token": "..."}')
        try:
            opened = await self._sessions.sign_in(shown.token.strip())
        except StoreError:
            return refused(
                503,
                "store_unavailable",
                "this token is not known yet and the database does not answer; try again in a moment",
            )
        if opened is None:
            return refused(401, "bad_token", "this token is not valid; ask for a new one")
        secret, session = opened
        response = json(_signed_in(session))
        response.set_cookie(
            self._gate.cookie,
            secret,
            path="/",
            httponly=True,
            samesite="Strict",
            secure=self._gate.is_secure,
            expires=session.expires_at.strftime("%a, %d %b %Y %H:%M:%S GMT"),
        )
        return response

    async def _show(self, _request: web.Request, session: Session | None) -> web.StreamResponse:
        return json(_signed_in(session)) if session else web.Response(status=204)

    async def _close(self, _request: web.Request, session: Session | None) -> web.StreamResponse:
        assert session is not None
        response = web.Response(status=204)
        response.del_cookie(
            self._gate.cookie, path="/", httponly=True, samesite="Strict", secure=self._gate.is_secure
        )
        await self._sessions.sign_out(session)
        return response


def _signed_in(session: Session) -> SignedIn:
    user = session.user
    return SignedIn(name=user.name, role=user.role, agent=user.agent, language=user.language)
