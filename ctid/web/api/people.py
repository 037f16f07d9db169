"""Who may sign in, and who has which role for a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated, Protocol, TypeVar

import msgspec
from aiohttp import web

from ctid.errors import PasswordsBusy, StoreError, StoreUnavailable
from ctid.store.delegations import Delegation
from ctid.store.users import Language, Role, User, UserRow
from ctid.web.passwords import Passwords, first_password
from ctid.web.rights import LENDERS, Rights
from ctid.web.routes import Problem, Route, json, refused
from ctid.web.sessions import Session

T = TypeVar("T")

Name = Annotated[str, msgspec.Meta(pattern=r"^[\w.@-]{1,64}$")]
Number = Annotated[str, msgspec.Meta(pattern=r"^[0-9A-Za-z_-]{0,32}$")]

_NOBODY = "there is nobody of this name who may sign in"


class Person(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What somebody is; an agent needs his agent number."""

    role: Role
    agent: Number = ""
    language: Language = "zh-CN"


class NewPerson(Person, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Somebody who is to sign in."""

    name: Name


class FirstPassword(msgspec.Struct, frozen=True, kw_only=True):
    """To be told to the person, who has to change it; it can not be shown again."""

    name: str
    password: str


class Loan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A role to be lent; times with zone, at most 93 days."""

    name: Name
    role: Role
    starts_at: datetime
    ends_at: datetime


class PeopleStore(Protocol):
    """``ctid.store.users.Users``."""

    async def list_users(self) -> list[UserRow]: ...
    async def create_user(
        self, name: str, *, role: Role, agent: str = "", language: Language = "zh-CN", by: str = ...
    ) -> User: ...
    async def change_user(
        self, name: str, *, role: Role, agent: str, language: Language, by: str = ...
    ) -> bool: ...
    async def set_password(self, name: str, encoded: str, *, must_change: bool, by: str) -> bool: ...
    async def revoke(self, name: str, *, by: str = ...) -> bool: ...


class DelegationStore(Protocol):
    """``ctid.store.delegations.Delegations``."""

    async def lend(
        self, name: str, role: Role, *, starts_at: datetime, ends_at: datetime, by: str
    ) -> int: ...
    async def take_back(self, delegation: int, *, by: str) -> bool: ...
    async def current(self) -> list[Delegation]: ...


class PeopleApi:
    """``/api/v1/people`` and ``/api/v1/delegations``."""

    def __init__(self, people: PeopleStore, delegations: DelegationStore, passwords: Passwords) -> None:
        self._people = people
        self._delegations = delegations
        self._passwords = passwords

    def routes(self) -> list[Route]:
        path, one = "/api/v1/people", "/api/v1/people/{name}"
        unknown, clash = {404: (_NOBODY, Problem)}, {409: ("refused, and why", Problem)}
        bad = {400: ("a field is wrong", Problem)}
        first = {200: ("his first password", FirstPassword)}
        return [
            Route("GET", path, Rights.SEE_PEOPLE, "Everybody, revoked ones included", self._list,
                  replies={200: ("by name", list[UserRow])}),
            Route("POST", path, Rights.KEEP_PEOPLE, "Add somebody, with a first password", self._add,
                  body=NewPerson, replies={201: first[200], **bad, **clash}),
            Route("PUT", one, Rights.KEEP_PEOPLE, "Change what somebody is", self._change,
                  body=Person, replies={204: ("changed", None), **bad, **unknown, **clash}),
            Route("POST", f"{one}/password", Rights.KEEP_PEOPLE, "Give somebody a new first password",
                  self._reset, replies={**first, **unknown}),
            Route("DELETE", one, Rights.KEEP_PEOPLE, "End somebody's access at once", self._revoke,
                  replies={204: ("revoked", None), **unknown, **clash}),
            Route("GET", "/api/v1/delegations", Rights.SEE_PEOPLE, "Roles that are lent, now or later",
                  self._lent, replies={200: ("the next to end first", list[Delegation])}),
            Route("POST", "/api/v1/delegations", Rights.LEND_ROLES, "Lend somebody a role for a time",
                  self._lend, body=Loan,
                  replies={201: ("lent", Delegation), **bad, **clash, 403: ("not yours to lend", Problem)}),
            Route("DELETE", "/api/v1/delegations/{delegation}", Rights.LEND_ROLES, "Take a role back now",
                  self._take_back,
                  replies={204: ("taken back", None), 404: ("there is none, or it is over", Problem)}),
        ]  # fmt: skip

    async def _list(self, _request: web.Request, _session: Session | None) -> web.StreamResponse:
        return json(await self._people.list_users())

    async def _add(self, request: web.Request, session: Session | None) -> web.StreamResponse:
        wanted = await _read(request, NewPerson)
        if isinstance(wanted, web.Response):
            return wanted

        async def work(by: str) -> web.Response:
            await self._people.create_user(
                wanted.name, role=wanted.role, agent=wanted.agent, language=wanted.language, by=by
            )
            return await self._with_first_password(wanted.name, by, status=201)

        return await _clashing(session, work)

    async def _change(self, request: web.Request, session: Session | None) -> web.StreamResponse:
        wanted = await _read(request, Person)
        if isinstance(wanted, web.Response):
            return wanted
        name = request.match_info["name"]

        async def work(by: str) -> web.Response:
            is_known = await self._people.change_user(
                name, role=wanted.role, agent=wanted.agent, language=wanted.language, by=by
            )
            return web.Response(status=204) if is_known else refused(404, "unknown_person", _NOBODY)

        return await _clashing(session, work)

    async def _reset(self, request: web.Request, session: Session | None) -> web.StreamResponse:
        assert session is not None
        return await self._with_first_password(request.match_info["name"], session.user.name)

    async def _with_first_password(self, name: str, by: str, *, status: int = 200) -> web.Response:
        password = first_password()
        try:
            encoded = await self._passwords.encode(password)
        except PasswordsBusy:
            return refused(503, "busy", "too many people sign in right now; try again in a moment")
        if not await self._people.set_password(name, encoded, must_change=True, by=by):
            return refused(404, "unknown_person", _NOBODY)
        return json(FirstPassword(name=name, password=password), status=status)

    async def _revoke(self, request: web.Request, session: Session | None) -> web.StreamResponse:
        name = request.match_info["name"]

        async def work(by: str) -> web.Response:
            if name == by:
                return refused(409, "oneself", "ask another admin to end your own access")
            is_known = await self._people.revoke(name, by=by)
            return web.Response(status=204) if is_known else refused(404, "unknown_person", _NOBODY)

        return await _clashing(session, work)

    async def _lent(self, _request: web.Request, _session: Session | None) -> web.StreamResponse:
        return json(await self._delegations.current())

    async def _lend(self, request: web.Request, session: Session | None) -> web.StreamResponse:
        assert session is not None
        loan = await _read(request, Loan)
        if isinstance(loan, web.Response):
            return loan
        if loan.starts_at.tzinfo is None or loan.ends_at.tzinfo is None:
            return refused(400, "bad_body", "starts_at, ends_at: with zone, such as 2026-11-25T09:30:00Z")
        # What was lent to him he can not lend on: a chain would outlive what it hangs on.
        if session.user.role not in LENDERS.get(loan.role, ()):
            return refused(403, "forbidden", f"role: {loan.role} is not yours to lend")

        async def work(by: str) -> web.Response:
            number = await self._delegations.lend(
                loan.name, loan.role, starts_at=loan.starts_at, ends_at=loan.ends_at, by=by
            )
            given = msgspec.structs.asdict(loan)
            return json(Delegation(delegation=number, given_by=by, **given), status=201)

        return await _clashing(session, work)

    async def _take_back(self, request: web.Request, session: Session | None) -> web.StreamResponse:
        assert session is not None
        number = request.match_info["delegation"]
        is_number = number.isascii() and number.isdigit() and len(number) <= 18
        if is_number and await self._delegations.take_back(int(number), by=session.user.name):
            return web.Response(status=204)
        return refused(404, "unknown_delegation", "there is no such delegation, or it is over")


async def _read(request: web.Request, kind: type[T]) -> T | web.Response:
    try:
        return msgspec.json.decode(await request.read(), type=kind)
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
        return refused(400, "bad_body", str(error))


async def _clashing(
    session: Session | None, work: Callable[[str], Awaitable[web.Response]]
) -> web.StreamResponse:
    """Do something in the name of who asks; what the database has against it is told to him."""
    assert session is not None
    try:
        return await work(session.user.name)
    except StoreUnavailable:
        raise
    except StoreError as error:
        return refused(409, "clash", str(error))
