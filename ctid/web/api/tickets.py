"""Tickets: lists, one, a new one, commands."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated, Final, Literal, get_args

import msgspec
from aiohttp import web

from ctid.errors import AsteriskError, LogUnavailable
from ctid.sinks.pop_book import PopBook
from ctid.store.calls import OneCall
from ctid.store.tickets import Happened, Sight, Wanted
from ctid.tickets.commands import AnyCommand
from ctid.tickets.desk import TicketDesk
from ctid.tickets.forms import FORMS, Field, FieldError
from ctid.tickets.opening import InCall, Invalid, Opening
from ctid.tickets.ticket import Change, Refusal, State, Step, Ticket, TicketType, dwells
from ctid.tickets.workflow import possible
from ctid.web.api.wrap_up import EndWrapUp
from ctid.web.rights import Rights
from ctid.web.routes import Problem, Route, json, refused
from ctid.web.sessions import Session
from ctid.web.ticket_rights import may_see, person_of, sight_of, why_not, why_not_open

WrapUp = Literal["not_asked", "ended", "not_wrapping_up", "unavailable"]
CallOf = Callable[[str], Awaitable[OneCall | None]]
"""Takes a Linkedid; ``None``: not written down. May raise ``StoreError``."""

_UNKNOWN: Final = "there is no such ticket, or it is not yours to see"
_STATUS: Final = {"forbidden": 403, "promise_past": 422}


class NewTicket(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a person writes down.

    Attributes:
        pop: Id of the pop it belongs to; its call, line and number are filled in.
        call: Linkedid, if the pop is gone or there was none; empty: no call.
        end_wrap_up: The note is written: end the wrap-up, too.
    """

    opening: Opening
    pop: Annotated[str, msgspec.Meta(max_length=64)] = ""
    call: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_.:-]{0,200}$")] = ""
    end_wrap_up: bool = False


class TicketCommand(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a person does to a ticket."""

    command: AnyCommand


class Dwell(msgspec.Struct, frozen=True, kw_only=True):
    """How long a ticket stayed in a step."""

    step: Step
    seconds: float


class TicketView(msgspec.Struct, frozen=True, kw_only=True):
    """A ticket, and what can be done to it.

    Attributes:
        can: Commands it takes now.
        events: Everything that happened to it, in order; in answer to a command: what did now.
        wrap_up: What became of the wish to end the wrap-up.
    """

    ticket: Ticket
    state: State
    can: tuple[str, ...]
    dwells: tuple[Dwell, ...]
    events: tuple[Happened, ...] = ()
    wrap_up: WrapUp = "not_asked"


class TicketPage(msgspec.Struct, frozen=True, kw_only=True):
    """Some tickets of ``count``."""

    tickets: tuple[TicketView, ...]
    count: int


class Forms(msgspec.Struct, frozen=True, kw_only=True):
    """What each form asks for, keyed by type."""

    forms: dict[str, tuple[Field, ...]]


class FormProblem(Problem, frozen=True, kw_only=True):
    """A form that was refused.

    Attributes:
        errors: Every wrong field, and what to write instead.
    """

    errors: tuple[FieldError, ...]


class TicketsApi:
    """``/api/v1/tickets``.

    Args:
        system: Asterisk's systemname now.
        call_of: Looks a call up that has no pop any more.
        end_wrap_up: Called with an agent's number.
    """

    def __init__(
        self,
        desk: TicketDesk,
        *,
        book: PopBook,
        call_of: CallOf,
        system: Callable[[], str],
        end_wrap_up: EndWrapUp,
    ) -> None:
        self._desk = desk
        self._book = book
        self._call_of = call_of
        self._system = system
        self._end_wrap_up = end_wrap_up

    def routes(self) -> list[Route]:
        path, wrong = "/api/v1/tickets", {422: ("every wrong field", FormProblem), 400: ("not JSON", Problem)}
        found = {200: ("the ticket", TicketView), 404: (_UNKNOWN, Problem)}
        return [
            Route("GET", path, Rights.SIGNED_IN, "Tickets one may see", self._list,
                  filters=Wanted.__struct_fields__,
                  replies={200: ("a page of them", TicketPage), 400: ("a filter is wrong", Problem)}),
            Route("POST", path, Rights.SIGNED_IN, "Open a ticket", self._open, body=NewTicket,
                  replies={201: ("opened", TicketView), 200: ("opened before", TicketView), **wrong,
                           404: ("no such pop or call", Problem)}),
            Route("GET", f"{path}/{{ticket}}", Rights.SIGNED_IN, "One ticket with all that happened",
                  self._show, replies=found),
            Route("POST", f"{path}/{{ticket}}/commands", Rights.SIGNED_IN, "Do something to a ticket",
                  self._do, body=TicketCommand,
                  replies={**found, 400: ("not a command", Problem), 409: ("refused, and why", Problem),
                           422: ("a value can not be", Problem)}),
            Route("GET", "/api/v1/ticket-forms", Rights.SIGNED_IN, "What each form asks for", self._forms,
                  replies={200: ("the forms", Forms)}),
        ]  # fmt: skip

    async def _forms(self, _request: web.Request, _session: Session | None) -> web.StreamResponse:
        return json(Forms(forms={str(kind): form for kind, form in FORMS.items()}))

    async def _list(self, request: web.Request, session: Session | None) -> web.StreamResponse:
        try:
            wanted = msgspec.convert(dict(request.query), Wanted, strict=False)
        except msgspec.ValidationError as error:
            return refused(400, "bad_filter", str(error))
        if wanted.type and wanted.type not in get_args(TicketType):
            return refused(400, "bad_filter", f"type: one of {', '.join(get_args(TicketType))}")
        if wanted.due_before is not None and wanted.due_before.tzinfo is None:
            return refused(400, "bad_filter", "due_before: with zone, such as 2026-11-25T09:30:00Z")
        key = self._desk.normalise(wanted.caller_key)
        if wanted.caller_key and not key:
            return refused(400, "bad_filter", "caller_key: a telephone number")
        wanted = msgspec.structs.replace(wanted, caller_key=key)
        tickets, count = await self._desk.find(wanted, self._sight(session))
        return json(TicketPage(tickets=tuple(_view(ticket) for ticket in tickets), count=count))

    async def _show(self, request: web.Request, session: Session | None) -> web.StreamResponse:
        number = _number(request)
        ticket = await self._desk.one(number) if number else None
        if ticket is None or not may_see(ticket, self._sight(session)):
            return refused(404, "unknown_ticket", _UNKNOWN)
        return json(_view(ticket, events=tuple(await self._desk.events_of(ticket.ticket))))

    async def _open(self, request: web.Request, session: Session | None) -> web.StreamResponse:
        assert session is not None
        if refusal := why_not_open(session.user):
            return refused(403, refusal.code, refusal.why)
        try:
            wanted = msgspec.json.decode(await request.read(), type=NewTicket)
        except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
            return refused(400, "bad_body", str(error))
        inside = await self._inside(wanted, session)
        if inside is None:
            return refused(404, "unknown_call", "there is no such pop or call of yours; leave it out")
        done = await self._desk.open(wanted.opening, person_of(session.user), _now(), inside=inside)
        if isinstance(done, Invalid):
            return _wrong_form(done)
        wrap_up = await self._wrapped_up(session) if wanted.end_wrap_up else "not_asked"
        return json(_view(done.ticket, wrap_up=wrap_up), status=201 if done.events else 200)

    async def _do(self, request: web.Request, session: Session | None) -> web.StreamResponse:
        assert session is not None
        try:
            command = msgspec.json.decode(await request.read(), type=TicketCommand).command
        except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
            return refused(400, "bad_body", str(error))
        sight, user = self._sight(session), session.user

        def may(ticket: Ticket) -> Refusal | None:
            if not may_see(ticket, sight):
                return Refusal(code="unknown_ticket", why=_UNKNOWN)
            return why_not(user, ticket, command)

        number = _number(request)
        done = await self._desk.do(number, command, person_of(user), _now(), may=may) if number else None
        if done is None or (isinstance(done, Refusal) and done.code == "unknown_ticket"):
            return refused(404, "unknown_ticket", _UNKNOWN)
        if isinstance(done, Refusal):
            return refused(_STATUS.get(done.code, 409), done.code, done.why)
        return json(_done(done))

    def _sight(self, session: Session | None) -> Sight:
        assert session is not None
        agent = session.user.agent
        pops = self._book.desk(agent, _now()).open if agent else ()
        return sight_of(session.user, {self._desk.normalise(pop.caller_number) for pop in pops})

    async def _inside(self, wanted: NewTicket, session: Session) -> InCall | None:
        """Return the call the ticket belongs to; ``None``: not one of his."""
        pop = self._book.find(wanted.pop) if wanted.pop else None
        if pop is not None and pop.agent == session.user.agent:
            return InCall(
                system=self._system(), call=pop.call, line=pop.line, caller_number=pop.caller_number
            )
        if not wanted.call:
            return None if wanted.pop else InCall()
        call = await self._call_of(wanted.call)
        if call is None or (session.user.roles == {"agent"} and session.user.agent not in call.agents):
            return None
        return InCall(system=call.system, call=call.call, line=call.line, caller_number=call.caller_number)

    async def _wrapped_up(self, session: Session) -> WrapUp:
        """End the wrap-up; the ticket is stored, whatever becomes of it."""
        try:
            ended = bool(session.user.agent) and await self._end_wrap_up(session.user.agent)
        except (AsteriskError, LogUnavailable):
            return "unavailable"
        return "ended" if ended else "not_wrapping_up"


def _now() -> datetime:
    return datetime.now(UTC)


def _number(request: web.Request) -> int:
    """Return the ticket's number; 0: not a number a ticket can have."""
    text = request.match_info["ticket"]
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else 0


def _view(ticket: Ticket, *, events: tuple[Happened, ...] = (), wrap_up: WrapUp = "not_asked") -> TicketView:
    stayed = tuple(
        Dwell(step=step, seconds=lasted.total_seconds()) for step, lasted in dwells(ticket, _now())
    )
    return TicketView(
        ticket=ticket,
        state=ticket.state,
        can=tuple(possible(ticket.type, ticket.step)),
        dwells=stayed,
        events=events,
        wrap_up=wrap_up,
    )


def _done(change: Change) -> TicketView:
    events = tuple(Happened(**msgspec.structs.asdict(event)) for event in change.events)
    return _view(change.ticket, events=events)


def _wrong_form(invalid: Invalid) -> web.Response:
    problem = FormProblem(
        status=422,
        title="Unprocessable Entity",
        code="bad_form",
        detail="; ".join(f"{one.field}: {one.fix}" for one in invalid.errors),
        errors=invalid.errors,
    )
    return web.Response(
        body=msgspec.json.encode(problem), status=422, content_type="application/problem+json"
    )
