"""A ticket begins: the form is checked, and whoever answers for it is named."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Final

import msgspec
from msgspec.structs import replace

from ctid.tickets.commands import Id, Moment, Number
from ctid.tickets.forms import NUMBER, FieldError, errors_of
from ctid.tickets.ticket import (
    Change,
    Desk,
    Event,
    Notice,
    Source,
    Stamp,
    Ticket,
    TicketType,
    Times,
)

_DESKS: Final[dict[TicketType, Desk]] = {
    "complaint": "complaints",
    "memo": "info",
    "difficult_issue": "leaders",
}


class Opening(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is written down for a new ticket.

    Attributes:
        id: Chosen by who asks; the same id again opens nothing.
        leader: Direct leader a difficult issue is handed to; empty: any leader.
        notify: Whom to tell of an emergency.
    """

    id: Id
    type: TicketType
    fields: dict[str, str]
    source: Source = "call"
    promised_at: Moment | None = None
    leader: Annotated[str, msgspec.Meta(pattern=r"^[\w.@-]{0,64}$")] = ""
    notify: Annotated[tuple[Number, ...], msgspec.Meta(max_length=100)] = ()


class InCall(msgspec.Struct, frozen=True, kw_only=True):
    """The call a ticket is opened in; all empty: none."""

    system: str = ""
    call: str = ""
    line: str = ""
    caller_number: str = ""


class Invalid(msgspec.Struct, frozen=True, kw_only=True):
    """A form that was refused: every wrong field at once."""

    errors: tuple[FieldError, ...]


def open_ticket(
    opening: Opening, actor: str, at: datetime, *, inside: InCall, times: Times
) -> Change | Invalid:
    """Begin a ticket.

    Args:
        actor: Agent's number, or the user's name.
        inside: The call it is opened in; its number stands in for a missing ``contact``.

    Returns:
        The ticket, without a number as yet, or what is wrong with the form.
    """
    fields = _filled(opening, inside)
    if errors := [*errors_of(opening.type, fields), *_errors_beside(opening, at)]:
        return Invalid(errors=tuple(errors))
    ticket = _timed(_begun(opening, fields, actor, at), opening, inside=inside, times=times)
    detail = {"type": ticket.type, "subject": ticket.subject, "desk": ticket.desk}
    event = Event(kind="opened", at=at, actor=actor, command=opening.id, detail=detail)
    return Change(ticket=ticket, events=(event,))


def _filled(opening: Opening, inside: InCall) -> dict[str, str]:
    """Return the fields that hold something, the caller's number among them if it can be one."""
    fields = {name: value.strip() for name, value in opening.fields.items() if value.strip()}
    is_number = re.fullmatch(NUMBER, inside.caller_number, re.ASCII)
    if "contact" not in fields and is_number and opening.type != "emergency_repair":
        fields["contact"] = inside.caller_number
    return fields


def _begun(opening: Opening, fields: dict[str, str], actor: str, at: datetime) -> Ticket:
    return Ticket(
        type=opening.type,
        subject=fields["subject"],
        fields=fields,
        source=opening.source,
        caller_number=fields.get("contact", ""),
        opened_at=at,
        opened_by=actor,
        assigned_to=_assignee(opening, actor),
        desk=_DESKS.get(opening.type, ""),
        level=int(opening.type == "complaint"),
        steps=(Stamp(step="open", at=at, by=actor),),
        notices=tuple(Notice(number=number) for number in opening.notify),
        done=(opening.id,),
    )


def _timed(ticket: Ticket, opening: Opening, *, inside: InCall, times: Times) -> Ticket:
    """Add the call it was opened in, and until when what is to be done."""
    deadline = times.sources.get(ticket.source)
    return replace(
        ticket,
        system=inside.system,
        call=inside.call,
        line=inside.line,
        due_at=ticket.opened_at + deadline if deadline else None,
        level_due_at=ticket.opened_at + times.level if ticket.level else None,
        promised_at=opening.promised_at,
        promise="open" if opening.promised_at else "",
    )


def _assignee(opening: Opening, actor: str) -> str:
    if opening.type == "difficult_issue":
        return opening.leader
    return "" if opening.type in _DESKS else actor


def _errors_beside(opening: Opening, at: datetime) -> list[FieldError]:
    found = []
    if opening.type == "difficult_issue" and opening.promised_at is None:
        found.append(
            FieldError(field="promised_at", code="required", fix="until when the customer gets his answer")
        )
    if opening.promised_at is not None and opening.promised_at <= at:
        found.append(
            FieldError(field="promised_at", code="bad_format", fix="a promise lies in the future; with zone")
        )
    if opening.type == "emergency_repair" and not opening.notify:
        found.append(
            FieldError(field="notify", code="required", fix="the telephone numbers of those to be told")
        )
    if opening.type != "emergency_repair" and opening.notify:
        found.append(
            FieldError(field="notify", code="unknown", fix="leave it out: only emergencies are sent round")
        )
    return found
