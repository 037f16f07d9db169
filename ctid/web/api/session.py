"""Signing in and out, and one's own password."""

from __future__ import annotations

import math
from typing import Annotated

import msgspec
from aiohttp import hdrs, web

from ctid.errors import StoreError
from ctid.web.gate import Gate
from ctid.web.messages import SignedIn
from ctid.web.rights import Rights, signed_in
from ctid.web.routes import Problem, Route, json, refused
from ctid.web.sessions import Session, Sessions
from ctid.web.sign_in import NotNow, SignIns

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=100, pattern="^[^\\x00]*$")]
Typed = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]

_BODY = 'the body must be JSON: {"name": "...", "password": "..."} or {"token": "..."}'
_UNFIT = {
    "too_short": "new: at least 10 characters",
    "too_long": "new: at most 128 characters",
    "holds_the_name": "new: without your name in it",
    "too_simple": "new: with at least 5 different characters",
    "the_old_one": "new: another one than now",
}


class SignIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a person shows: his name and password, or a token."""

    name: Name | None = None
    password: Typed | None = None
    token: Typed | None = None


class NewPassword(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One's own password, old and new."""

    old: Typed
    new: Typed


class SessionApi:
    """POST, GET and DELETE of ``/api/v1/session``, and PUT of its password."""

    def __init__(self, sessions: Sessions, sign_ins: SignIns, gate: Gate) -> None:
        self._sessions = sessions
        self._sign_ins = sign_ins
        self._gate = gate

    def routes(self) -> list[Route]:
        path = "/api/v1/session"
        opened = {
            200: ("signed in", SignedIn),
            401: ("wrong name, password or token", Problem),
            429: ("too many failures, or too many at once; see Retry-After", Problem),
            503: ("the database does not answer", Problem),
        }
        return [
            Route(
                "POST",
                path,
                Rights.ANYONE,
                "Sign in with name and password, or a token; sets the session cookie",
                self._open,
                body=SignIn,
                replies=opened,
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
                Rights.OWN_SESSION,
                "Sign out; closes all screens of this session",
                self._close,
                replies={204: ("signed out", None)},
            ),
            Route(
                "PUT",
                f"{path}/password",
                Rights.OWN_SESSION,
                "Change one's password; ends all other sessions",
                self._change,
                body=NewPassword,
                replies={**opened, 422: ("the new one is not good enough", Problem)},
            ),
        ]

    async def _open(self, request: web.Request, before: Session | None) -> web.StreamResponse:
        try:
            shown = msgspec.json.decode(await request.read(), type=SignIn)
        except (msgspec.MsgspecError, RecursionError, UnicodeError):
            return refused(400, "bad_body", _BODY)
        if shown.token is not None and shown.name is None and shown.password is None:
            answer = await self._with_token(shown.token)
        elif shown.name is not None and shown.password is not None and shown.token is None:
            opened = await self._sign_ins.with_password(
                shown.name.strip(), shown.password, self._gate.address_of(request)
            )
            answer = _not_now(opened) if isinstance(opened, NotNow) else self._let_in(*opened)
        else:
            return refused(400, "bad_body", _BODY)
        if answer.status == 200 and before is not None:
            await self._sign_out_quietly(before)
        return answer

    async def _with_token(self, token: str) -> web.Response:
        try:
            opened = await self._sessions.sign_in(token.strip())
        except StoreError:
            return refused(
                503,
                "store_unavailable",
                "this token is not known yet and the database does not answer; try again in a moment",
            )
        if opened is None:
            return refused(401, "bad_token", "this token is not valid; ask for a new one")
        return self._let_in(*opened)

    async def _sign_out_quietly(self, session: Session) -> None:
        """The browser has another session now; this one ends, if not now then by itself."""
        try:
            await self._sessions.sign_out(session)
        except StoreError:
            return

    async def _show(self, _request: web.Request, session: Session | None) -> web.StreamResponse:
        return json(signed_in(session.user)) if session else web.Response(status=204)

    async def _close(self, _request: web.Request, session: Session | None) -> web.StreamResponse:
        assert session is not None
        response = web.Response(status=204)
        response.del_cookie(
            self._gate.cookie, path="/", httponly=True, samesite="Strict", secure=self._gate.is_secure
        )
        await self._sessions.sign_out(session)
        return response

    async def _change(self, request: web.Request, session: Session | None) -> web.StreamResponse:
        assert session is not None
        try:
            typed = msgspec.json.decode(await request.read(), type=NewPassword)
        except (msgspec.MsgspecError, RecursionError, UnicodeError):
            return refused(400, "bad_body", 'the body must be JSON: {"old": "...", "new": "..."}')
        opened = await self._sign_ins.change(session, typed.old, typed.new, self._gate.address_of(request))
        return _not_now(opened) if isinstance(opened, NotNow) else self._let_in(*opened)

    def _let_in(self, secret: str, session: Session) -> web.Response:
        response = json(signed_in(session.user))
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


def _not_now(why: NotNow) -> web.Response:
    if why.why == "unfit":
        return refused(422, why.detail, _UNFIT[why.detail])
    if why.why == "bad_password":
        answer = refused(401, "bad_password", "wrong name or password")
    else:
        answer = refused(429, why.why, "wait before you try again; Retry-After says how many seconds")
    if why.wait:
        answer.headers[hdrs.RETRY_AFTER] = str(math.ceil(why.wait.total_seconds()))
    return answer
