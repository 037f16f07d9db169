"""Real recordings told badly: events lost, doubled and out of order, and then Asterisk's own lists."""

from __future__ import annotations

import gzip
import random
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ctid.acd.centre import Centre
from ctid.acd.facts import CallEnded, CallMerged, CallStarted, Fact
from ctid.acd.rules import QueueRule
from ctid.ami.events import AmiEvent, ChanSpyStart, Snapshot
from ctid.replay import events, raw

TRACES = Path(__file__).parents[1] / "traces"
#: Whole in themselves: their calls end before they do, and few enough for many turns.
WHOLE = sorted(
    str(path.relative_to(TRACES))
    for path in TRACES.glob("*/*.txt.gz")
    if not any(word in path.name for word in ("load", "zz_restart"))
)
WINDOW = 0.2
"""Seconds within which Asterisk's threads may overtake each other."""
SECOND = timedelta(seconds=1)


@cache
def recording(name: str) -> tuple[AmiEvent, ...]:
    return tuple(events([raw(gzip.decompress((TRACES / name).read_bytes()))]))


def spoilt(said: tuple[AmiEvent, ...], dice: random.Random, *, lost: float, twice: float) -> list[AmiEvent]:
    """Return the events as a bad line would: each within ``WINDOW`` of where it belongs."""
    late = [
        # That a leg only listens is said once, of a leg that is known: without it, it is a call to anybody.
        (event.at.timestamp() + (WINDOW if is_spy else dice.uniform(0, WINDOW)), place, event)
        for place, event in enumerate(said)
        for is_spy in (isinstance(event, ChanSpyStart),)
        for _ in range(_times(dice, 0.0 if is_spy else lost, twice))
    ]
    return [event for _, _, event in sorted(late, key=lambda it: it[:2])]


def _times(dice: random.Random, lost: float, twice: float) -> int:
    return 0 if dice.random() < lost else 2 if dice.random() < twice else 1


def nothing_there(at: datetime, boot: datetime) -> Snapshot:
    return Snapshot(at=at, boot=boot, system="", channels=(), queues=(), members=(), entries=())


def concluded(said: list[AmiEvent], began: datetime, ended: datetime) -> tuple[Centre, list[Fact]]:
    """Tell a centre everything, then show it twice that nothing is left."""
    centre = Centre({}, {}, default_rule=QueueRule())
    facts = list(centre.receive(nothing_there(began, began)).facts)
    for event in said:
        facts += centre.receive(event).facts
    for turn in (5, 10, 40):
        facts += centre.receive(nothing_there(ended + turn * SECOND, began)).facts
    return centre, facts


def calls(facts: list[Fact]) -> set[str]:
    """Return the calls there were; one that became part of another counts as that."""
    merged = {fact.merged for fact in facts if isinstance(fact, CallMerged)}
    return {fact.call for fact in facts if isinstance(fact, CallStarted)} - merged


def settled(centre: Centre) -> bool:
    floor = centre.floor()
    busy = [agent for agent in floor.agents if agent.state in {"ringing", "talking"}]
    return not floor.calls and not busy and not any(queue.waiting for queue in floor.queues)


@pytest.mark.parametrize("name", WHOLE)
@settings(max_examples=4, deadline=None)
@example(seed=391)  # the end of a call overtakes the first word of another leg in it
@given(seed=st.integers(0, 2**32))
def test_told_badly_it_ends_the_same(name: str, seed: int) -> None:
    """F08: shuffled within 200 ms, doubled, and one event in fifty lost: no call lives on, none is new."""
    said = recording(name)
    began, ended = said[0].at - SECOND, said[-1].at
    _, right = concluded(list(said), began, ended)
    centre, facts = concluded(spoilt(said, random.Random(seed), lost=0.02, twice=0.1), began, ended)
    assert settled(centre)
    assert calls(facts) <= {event.linkedid for event in said if getattr(event, "linkedid", "")}
    assert calls(facts) == calls(right)
    started = [fact.call for fact in facts if isinstance(fact, CallStarted)]
    finished = [fact.call for fact in facts if isinstance(fact, CallEnded)]
    assert len(set(started)) == len(started)
    assert set(finished) == set(started)


@pytest.mark.parametrize("name", WHOLE)
def test_doubled_and_in_order_nothing_differs(name: str) -> None:
    """F08: a duplicate tells nothing new; at most the same fact again, which the journal's key takes."""
    said = recording(name)
    began, ended = said[0].at - SECOND, said[-1].at
    _, right = concluded(list(said), began, ended)
    _, facts = concluded([event for event in said for _ in range(2)], began, ended)
    assert [*dict.fromkeys(map(repr, facts))] == [*map(repr, right)]
