"""Who may do what: the one table that every route and every WebSocket topic goes by.

Nothing is allowed that is not written here: a route or topic without its right can not be
built, a role that is not named beside a right does not have it. Finer rules, such as which of
the tickets somebody sees, stand with their subject and only ever narrow what is said here.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final, get_args

from ctid.store.users import Role, User
from ctid.web.messages import SignedIn, Topic


class Rights(Enum):
    """What somebody may do; the value says for whom, in the API's description."""

    ANYONE = "anyone"
    OWN_SESSION = "signed in, also with a password that has to be changed first"
    SIGNED_IN = "signed in"
    TAKES_CALLS = "whoever has an agent number"
    OWN_AGENT = "the agent in the path himself, or a leader, supervisor or admin"
    SEE_PEOPLE = "supervisors, admins and auditors"
    KEEP_PEOPLE = "admins"
    LEND_ROLES = "supervisors and admins"
    SEE_AUDIT = "auditors and admins"


EVERYBODY: Final[frozenset[Role]] = frozenset(get_args(Role))
LEADING: Final[frozenset[Role]] = frozenset({"leader", "supervisor", "admin"})

#: Who has a right by his role alone.
HOLDERS: Final[Mapping[Rights, frozenset[Role]]] = {
    Rights.ANYONE: EVERYBODY,
    Rights.OWN_SESSION: EVERYBODY,
    Rights.SIGNED_IN: EVERYBODY,
    Rights.TAKES_CALLS: frozenset(),
    Rights.OWN_AGENT: LEADING,
    Rights.SEE_PEOPLE: frozenset({"supervisor", "admin", "auditor"}),
    Rights.KEEP_PEOPLE: frozenset({"admin"}),
    Rights.LEND_ROLES: frozenset({"supervisor", "admin"}),
    Rights.SEE_AUDIT: frozenset({"auditor", "admin"}),
}

_OF_EVERYBODY: Final = (Rights.ANYONE, Rights.OWN_SESSION, Rights.SIGNED_IN)

TOPICS: Final[Mapping[Topic, Rights]] = {"floor": Rights.SIGNED_IN, "pops": Rights.TAKES_CALLS}

#: Roles that may be lent, and by whom.
LENDERS: Final[Mapping[Role, frozenset[Role]]] = {
    "leader": frozenset({"supervisor", "admin"}),
    "inspector": frozenset({"supervisor", "admin"}),
    "complaints": frozenset({"supervisor", "admin"}),
    "info": frozenset({"supervisor", "admin"}),
    "supervisor": frozenset({"supervisor"}),
}


def may(user: User | None, right: Rights, *, agent: str = "") -> bool:
    """Say whether somebody has a right.

    Args:
        user: ``None``: nobody has signed in.
        agent: Number of the agent that it is about; empty: about none.
    """
    if right is Rights.ANYONE:
        return True
    if user is None or (user.must_change and right is not Rights.OWN_SESSION):
        return False
    if right is Rights.TAKES_CALLS:
        return bool(user.agent)
    if right is Rights.OWN_AGENT and (not agent or agent == user.agent):
        return bool(agent)
    return not user.roles.isdisjoint(HOLDERS[right])


def rights_of(user: User) -> tuple[str, ...]:
    """Return the names of what somebody may do whoever it is about, for his screens."""
    if user.must_change:
        return ()
    return tuple(
        right.name.lower()
        for right, roles in HOLDERS.items()
        if right not in _OF_EVERYBODY and (may(user, right) or not user.roles.isdisjoint(roles))
    )


def signed_in(user: User) -> SignedIn:
    """Return what a person's screens are told about him."""
    return SignedIn(
        name=user.name,
        role=user.role,
        agent=user.agent,
        language=user.language,
        lent=user.lent,
        rights=rights_of(user),
        must_change=user.must_change,
    )


def topics_of(user: User) -> set[Topic]:
    """Return what the screens of somebody may listen to."""
    return {topic for topic, right in TOPICS.items() if may(user, right)}
