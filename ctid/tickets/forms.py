"""What each form asks for, as data, and every wrong field of a form at once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from ctid.tickets.ticket import TicketType


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """One field of a form.

    Attributes:
        longest: In characters.
        pattern: Regular expression for the whole value; empty: anything.
        fix: What to write, for people.
    """

    name: str
    required: bool = True
    shortest: int = 1
    longest: int = 200
    pattern: str = ""
    fix: str


class FieldError(msgspec.Struct, frozen=True, kw_only=True):
    """A field that is wrong, why, and what to write instead."""

    field: str
    code: Literal["required", "too_short", "too_long", "bad_format", "unknown"]
    fix: str


_TIME: Final = r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)"
NUMBER: Final = r"\+?[0-9][0-9 -]{2,23}"
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")

_SUBJECT: Final = Field(name="subject", longest=120, fix="say in one line what it is about")
_CONTENT: Final = Field(name="content", shortest=2, longest=4000, fix="write down what the customer said")
_CUSTOMER: Final = Field(name="customer", required=False, longest=80, fix="name of the customer")
_CONTACT: Final = Field(
    name="contact", longest=25, pattern=NUMBER, fix="a telephone number: digits, spaces, hyphens"
)
_MAY_CONTACT: Final = msgspec.structs.replace(_CONTACT, required=False)
_ADDRESS: Final = Field(name="address", shortest=4, fix="where to go: street, house, flat")
_COMMON: Final = (_SUBJECT, _CONTENT, _CUSTOMER)

FORMS: Final[Mapping[TicketType, tuple[Field, ...]]] = {
    "consultation": (*_COMMON, _MAY_CONTACT),
    "repair": (*_COMMON, _CONTACT, _ADDRESS),
    "complaint": (
        *_COMMON,
        _CONTACT,
        Field(name="against", required=False, longest=80, fix="whom or what the complaint is about"),
    ),
    "survey": (*_COMMON, _CONTACT, _ADDRESS),
    "inspection": (
        *_COMMON,
        _CONTACT,
        Field(name="inspector", longest=80, fix="name of the inspector who handles the case"),
        _ADDRESS,
    ),
    "difficult_issue": (
        *_COMMON,
        _CONTACT,
        Field(
            name="called_at",
            longest=40,
            pattern=_TIME,
            fix="when the customer called, such as 2026-11-25T09:30:00+08:00",
        ),
    ),
    "emergency_repair": (
        _SUBJECT,
        _CONTENT,
        Field(name="area", fix="which streets or buildings are affected"),
        Field(name="department", longest=80, fix="which department reports it"),
    ),
    "memo": (*_COMMON, _MAY_CONTACT),
}


def errors_of(kind: TicketType, fields: Mapping[str, str]) -> list[FieldError]:
    """Return what is wrong with a form: in its order, then what it does not ask for."""
    form = FORMS[kind]
    found = [error for field in form if (error := _error(field, fields.get(field.name, "").strip()))]
    known = {field.name for field in form}
    return found + [
        FieldError(field=name, code="unknown", fix=f"leave it out: a {kind} form has no such field")
        for name in sorted(fields.keys() - known)
    ]


def _error(field: Field, value: str) -> FieldError | None:
    if not value:
        return FieldError(field=field.name, code="required", fix=field.fix) if field.required else None
    if len(value) < field.shortest:
        fix = f"{field.fix}; at least {field.shortest} characters"
        return FieldError(field=field.name, code="too_short", fix=fix)
    if len(value) > field.longest:
        fix = f"{field.fix}; at most {field.longest} characters"
        return FieldError(field=field.name, code="too_long", fix=fix)
    if _CONTROL.search(value):
        fix = f"{field.fix}; without control characters"
        return FieldError(field=field.name, code="bad_format", fix=fix)
    if field.pattern and not re.fullmatch(field.pattern, value, re.ASCII):
        return FieldError(field=field.name, code="bad_format", fix=field.fix)
    return None
