"""Who may see, open and work on which tickets.

Agents: their own, and those of the customers on their line. The complaints desk and the
inspectors: complaints; the information desk: memos. Leaders and above: all. Auditors: all,
but they change nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from ctid.store.tickets import Sight
from ctid.store.users import User
from ctid.tickets.commands import Command, name_of
from ctid.tickets.ticket import Refusal, Ticket, TicketType

_SEES_ALL: Final = frozenset({"leader", "supervisor", "admin", "auditor"})
_LEADS: Final = frozenset({"leader", "supervisor", "admin"})
_TYPES: Final[Mapping[str, tuple[TicketType, ...]]] = {
    "complaints": ("complaint",),
    "inspector": ("complaint",),
    "info": ("memo",),
}
#: Commands that belong to a desk: roles beside those who lead, by type of ticket and command.
_RESERVED: Final[Mapping[tuple[TicketType, str], frozenset[str]]] = {
    ("complaint", "accept"): frozenset({"complaints"}),
    ("complaint", "judge"): frozenset({"complaints", "inspector"}),
    ("complaint", "close"): frozenset({"complaints"}),
    ("memo", "answer"): frozenset({"info"}),
    ("memo", "forward"): frozenset({"info"}),
}


def person_of(user: User) -> str:
    """Return how a user is named in tickets: by his agent's number, if he has one."""
    return user.agent or user.name


def sight_of(user: User, caller_keys: Collection[str]) -> Sight:
    """Return which tickets a user may see; ``caller_keys`` are the customers on his line."""
    return Sight(
        everything=not user.roles.isdisjoint(_SEES_ALL),
        types=tuple(sorted({kind for role in user.roles for kind in _TYPES.get(role, ())})),
        person=person_of(user),
        caller_keys=tuple(key for key in caller_keys if key),
    )


def may_see(ticket: Ticket, sight: Sight) -> bool:
    """Say whether a ticket is within sight; the same rule as the lists'."""
    own = sight.person and sight.person in (ticket.assigned_to, ticket.opened_by, ticket.claimed_by)
    return bool(
        sight.everything or ticket.type in sight.types or own or ticket.caller_key in sight.caller_keys
    )


def why_not_open(user: User) -> Refusal | None:
    """Say why a user may not open tickets."""
    if user.roles == {_READS_ONLY}:
        return Refusal(code="forbidden", why="auditors look and change nothing")
    return None


_READS_ONLY: Final[str] = "auditor"


def why_not(user: User, ticket: Ticket, command: Command) -> Refusal | None:
    """Say why a user may not carry a command out on a ticket that he sees."""
    if refusal := why_not_open(user):
        return refusal
    reserved = _RESERVED.get((ticket.type, name_of(command)))
    if reserved is None or not user.roles.isdisjoint(reserved | _LEADS):
        return None
    return Refusal(
        code="forbidden",
        why=f"to {name_of(command)} a {ticket.type} is for: {', '.join(sorted(reserved | _LEADS))}",
    )
