"""What ctid would have concluded, had it heard of a call from Asterisk's books alone.

The same core, fed by ``translation``: so a call that AMI told and the books tell, too, is judged
twice by the same rules, from two witnesses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Final

import msgspec

from ctid.acd import facts as f
from ctid.acd.centre import Centre
from ctid.acd.facts import ZERO, Fact
from ctid.acd.rules import QueueRule
from ctid.ami.events import Snapshot
from ctid.books.cel import CelEvent
from ctid.books.queue_log import QueueLine
from ctid.books.translation import events_of

#: What the books can witness. Neither ringing signs, nor holds, nor notes, nor agents' states.
WITNESSED: Final = (
    f.CallStarted,
    f.CallRouted,
    f.CallEnded,
    f.CallMerged,
    f.CallerJoined,
    f.CallerLeft,
    f.OfferMade,
    f.OfferEnded,
    f.TalkStarted,
    f.TalkEnded,
    f.CallHandled,
    f.Transferred,
    f.RecordingStarted,
    f.RecordingStopped,
)


def facts_of(
    records: Sequence[CelEvent],
    lines: Sequence[QueueLine],
    *,
    rules: Mapping[str, QueueRule],
    agents: Mapping[str, str],
    is_lost: bool = False,
) -> list[Fact]:
    """Conclude from the books what happened in some calls.

    Args:
        records, lines: As for ``translation.events_of``.
        rules, agents: As for ``Centre``.
        is_lost: Asterisk died in them: what is still open ended then, as ``asterisk_lost``.

    Returns:
        Facts marked ``recovered``, in order. The note of a talk is not in the books: a call is
        handled with the talk.
    """
    if not records:
        return []
    without_notes = {queue: msgspec.structs.replace(rule, wrap_up=ZERO) for queue, rule in rules.items()}
    centre = Centre(without_notes, agents)
    facts: list[Fact] = []
    events = events_of(records, lines)
    boot = events[0].at - timedelta(days=1)
    nothing = Snapshot(at=boot, boot=boot, system="", channels=(), queues=(), members=(), entries=())
    facts += centre.receive(nothing).facts
    for event in events:
        facts += centre.receive(event).facts
    if is_lost:
        end = events[-1].at
        facts += centre.receive(msgspec.structs.replace(nothing, at=end, boot=end)).facts
    return [msgspec.structs.replace(fact, recovered=True) for fact in facts if isinstance(fact, WITNESSED)]
