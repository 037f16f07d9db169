"""What AMI did not tell is read in Asterisk's books, and then it is as if nothing had been missed.

Every recorded trace, with every sort of hole cut into it: the core is fed up to the cut, with
what the books say of the hole, with a snapshot, and with the rest.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from functools import cache

import pytest

from ctid.acd import facts as f
from ctid.acd.facts import Fact
from tests.books.test_translation import AGENTS, NAMES, RULES, UNTOLD, UNTOLD_OF, by_key, unlike
from tests.fakes_books import WITHOUT_QUEUE_LOG
from tests.fakes_gap import Window

TOLD = sorted(set(NAMES) - WITHOUT_QUEUE_LOG)
#: The books are asked up to a tenth of a second after the snapshot: a snapshot in the midst of a REFER,
#: with the consultation heard and the transfer not, can not be put right.
IN_THE_MIDST = {"attended_transfer_refer"}


@cache
def window(name: str) -> Window:
    return Window(name, RULES, AGENTS)


def differences(found: Sequence[Fact], wanted: Sequence[Fact], name: str) -> Iterator[str]:
    """Say what is not as it was to be, in the facts that the books can witness."""
    trace = name.partition("/")[2]
    ours, theirs = by_key(found, trace), by_key(wanted, trace)
    for key in ours.keys() | theirs.keys():
        if len(ours.get(key, [])) != len(theirs.get(key, [])):
            yield f"{key}: {len(ours.get(key, []))} times, not {len(theirs.get(key, []))}"
            continue
        for one, other in zip(ours[key], theirs[key], strict=True):
            for field in set(one.__struct_fields__) - UNTOLD - UNTOLD_OF.get(trace, set()):
                told, true = getattr(one, field), getattr(other, field)
                if unlike(told, true):
                    yield f"{key} {field}: {told}, not {true}"


def holes(name: str, most: int) -> list[tuple[int, int]]:
    """Return pairs of places, any at all."""
    size = len(window(name).said)
    pairs = [(begin, end) for begin in range(size) for end in range(begin + 1, size + 1)]
    return random.Random(name).sample(pairs, min(most, len(pairs)))


@pytest.mark.parametrize("name", TOLD)
def test_a_hole_anywhere_leaves_no_trace(name: str) -> None:
    """F39, F08: invariant v: events with a gap, a snapshot and the books are worth all events."""
    whole = window(name).whole()
    found = {hole: list(differences(window(name).facts(*hole), whole, name)) for hole in holes(name, 120)}
    assert {hole: said for hole, said in found.items() if said} == {}


@pytest.mark.parametrize("name", [name for name in TOLD if name.partition("/")[2] not in IN_THE_MIDST])
def test_the_snapshot_may_come_later_than_the_first_events(name: str) -> None:
    """F39: what is told between the login and the snapshot is in AMI and in the books, and counts once."""
    whole = window(name).whole()
    dice = random.Random(name)
    found = {}
    for begin, end in holes(name, 60):
        asked = min(end + dice.randrange(6), len(window(name).said))
        found[begin, end, asked] = list(differences(window(name).facts(begin, end, asked=asked), whole, name))
    assert {hole: said for hole, said in found.items() if said} == {}


@pytest.mark.parametrize("name", TOLD)
def test_books_read_twice_say_nothing_new(name: str) -> None:
    """F08: the books of a hole, fed once more, change nothing at all."""
    for hole in holes(name, 20):
        once, twice = window(name).facts(*hole), window(name).facts(*hole, times=2)
        assert once == twice, hole


@pytest.mark.parametrize("name", TOLD)
def test_books_of_what_was_heard_say_nothing_new(name: str) -> None:
    """F08: the books of a whole trace that AMI told as well lead to no fact and to no doubt."""
    said = window(name).said
    heard = window(name).facts(len(said), len(said), times=0, has_snapshot=False)
    again = window(name).facts(len(said), len(said), has_snapshot=False)
    assert again == heard


def test_what_the_books_told_is_marked() -> None:
    """F39: only the facts of the hole are marked as recovered."""
    facts = window("22/answered").facts(8, 16)
    marked = {type(fact) for fact in facts if fact.recovered}
    assert {f.OfferEnded, f.CallerLeft, f.TalkStarted} <= marked
    assert f.CallStarted not in marked
    assert f.CallEnded not in marked


def test_without_the_books_it_is_not_the_same() -> None:
    """These tests can fail."""
    seen = window("22/answered")
    assert list(differences(seen.facts(8, 16, times=0), seen.whole(), "22/answered"))
