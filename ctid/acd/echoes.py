"""An echo: what Asterisk's books say of something that AMI told as well.

Both stamp the same thing within milliseconds of each other, but not at the same instant, and
not always in the same order. So around the moments at which we stopped and began to listen it
is not the time that tells an echo from news, but what is said.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from ctid.ami.events import AmiEvent

#: By so much at most AMI and CEL stamp the same thing differently, and threads overtake each other.
CLOCKS_APART: Final = timedelta(milliseconds=100)
#: So many of the last events are remembered: some seconds of a busy exchange.
REMEMBERED: Final = 1024

#: What makes two events of one kind say the same; a field that a kind lacks counts as empty.
_SAYING: Final = (
    "uniqueid",
    "dest_uniqueid",
    "bridge",
    "state",
    "name",
    "one",
    "spyer",
    "transferer",
    "orig_transferer",
)

Echo = tuple[datetime, tuple[str, ...]]
"""When something was said, and what."""


def echo(event: AmiEvent | Echo) -> Echo:
    """Return what another witness of the same thing would say; what is an echo already stays one."""
    if isinstance(event, tuple):
        return event
    return event.at, (type(event).__name__, *(getattr(event, field, "") for field in _SAYING))


def by_saying(echoes: Iterable[Echo]) -> Mapping[tuple[str, ...], Sequence[datetime]]:
    """Sort by what was said."""
    found: dict[tuple[str, ...], list[datetime]] = defaultdict(list)
    for at, saying in echoes:
        found[saying].append(at)
    return found


def is_echo(event: AmiEvent, told: Mapping[tuple[str, ...], Sequence[datetime]]) -> bool:
    """Tell whether one of ``told`` says the same, at about the same time."""
    at, saying = echo(event)
    return any(abs(at - other) <= CLOCKS_APART for other in told.get(saying, ()))


def without_echoes(events: Sequence[AmiEvent], told: Iterable[AmiEvent]) -> list[AmiEvent]:
    """Leave out what ``told`` says as well."""
    sayings = by_saying(echo(event) for event in told)
    return [event for event in events if not is_echo(event, sayings)]
