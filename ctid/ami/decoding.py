"""Headers to typed events: which events ctid reads, and how their text becomes values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, TypeVar

import msgspec

from ctid.ami import events
from ctid.ami.events import AmiEvent

Record = TypeVar("Record")

_NAMED_OTHERWISE: Final = {"VarSet": events.QueueStatusVariable}
#: Bases, and what has another name on the wire.
_NOT_READ: Final = {
    "AmiEvent",
    "ChannelEvent",
    "DialEvent",
    "QueueMemberEvent",
    "QueueStatusVariable",
}

#: Event name -> the class it becomes.
EVENTS: Final[Mapping[str, type[AmiEvent]]] = {
    name: kind
    for name, kind in vars(events).items()
    if isinstance(kind, type) and issubclass(kind, AmiEvent) and name not in _NOT_READ
} | _NAMED_OTHERWISE

#: Items of our own list actions -> the record they become.
LISTED: Final[Mapping[str, type[msgspec.Struct]]] = {
    "CoreShowChannel": events.ShownChannel,
    "QueueParams": events.ShownQueue,
    "QueueMember": events.ShownMember,
    "QueueEntry": events.ShownEntry,
}


def headers_of(kind: type[msgspec.Struct]) -> frozenset[str]:
    """Return the AMI headers that a class of ``events.py`` reads."""
    return frozenset(field.encode_name for field in msgspec.structs.fields(kind))


#: Event name -> the headers that are read of it; every other event is skipped.
WANTED: Final[Mapping[str, frozenset[str]]] = {name: headers_of(kind) for name, kind in EVENTS.items()}

#: Of events that are read only in some cases: the header that tells, and its values in those cases.
ONLY_IF: Final[Mapping[str, tuple[str, frozenset[str]]]] = {
    "VarSet": ("Variable", frozenset({"QUEUESTATUS"})),
    "UserEvent": ("UserEvent", frozenset({"CtidCall", "QueueExit", "ExitKey"})),
}

#: Written C-escaped by manager_channels.c; numbers and extensions are not.
_ESCAPED: Final = ("CallerIDName",)
_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)
#: A caller may put a tab or worse into his name; it is left out, as the dialplan does.
_ESCAPES: Final = dict.fromkeys("nrtabfv", "")
#: What Asterisk prints where it knows nothing.
_UNKNOWN: Final = "<unknown>"


def event_of(name: str, headers: dict[str, str], received: float) -> AmiEvent:
    """Turn an event's headers into its record.

    Args:
        name: One of ``EVENTS``.
        headers: At least those of ``WANTED`` that Asterisk sent; changed in place.
        received: Seconds since the epoch; stands in for a missing ``Timestamp``.

    Raises:
        msgspec.ValidationError: A mandatory header is missing, or is not of its type.
    """
    if "Timestamp" not in headers:
        headers["Timestamp"] = repr(received)
    return record_of(EVENTS[name], headers)


def is_read(name: str, headers: Mapping[str, str]) -> bool:
    """Tell whether an event is one of ``EVENTS``, in a case that is read."""
    if name not in ONLY_IF:
        return name in EVENTS
    header, values = ONLY_IF[name]
    return headers.get(header) in values


def record_of(kind: type[Record], headers: dict[str, Any]) -> Record:
    """Turn headers into the given record; names unescaped, ``<unknown>`` made empty.

    Raises:
        msgspec.ValidationError: A mandatory header is missing, or is not of its type.
    """
    for header in ("CallerIDName", "CallerIDNum"):
        value = headers.get(header)
        if value == _UNKNOWN:
            headers[header] = ""
        elif value and header in _ESCAPED and "\\" in value:
            headers[header] = _ESCAPE.sub(lambda found: _ESCAPES.get(found[1], found[1]), value)
    return msgspec.convert(headers, kind, strict=False)
