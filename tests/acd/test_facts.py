"""Every fact has a name of its own for ever."""

from __future__ import annotations

import inspect

import msgspec
import pytest

from ctid.acd import facts
from ctid.acd.facts import Fact
from tests.fakes_facts import BEGIN, answered_call

KINDS = [kind for _, kind in inspect.getmembers(facts, inspect.isclass) if issubclass(kind, Fact)]
#: What each fact is about, within its call.
ABOUT = {
    "merged": "CallMerged",
    "queue": "QueueFact CallerJoined CallerLeft",
    "leg": "OfferFact OfferMade OfferRang OfferEnded TalkFact TalkStarted Held Resumed Transferred TalkEnded "
    "CallHandled WrapUpStarted WrapUpEnded",
    "agent": "AgentStateChanged",
    "recording": "RecordingStarted RecordingMuted RecordingUnmuted RecordingStopped",
    "kind": "Anomaly",
    "": "Fact CallStarted CallRouted CallEnded Resynchronised",
}


@pytest.mark.parametrize("kind", KINDS)
def test_about(kind: type[Fact]) -> None:
    values = {
        field.name: BEGIN if field.name in {"at", "joined_at", "began_at", "until"} else field.name
        for field in msgspec.structs.fields(kind)
    }
    expected = next(about for about, names in ABOUT.items() if kind.__name__ in names.split())
    assert kind(**values).about == expected  # type: ignore[arg-type]


def test_keys_are_unique_within_a_call() -> None:
    told = answered_call(1)
    assert len({(fact.call, type(fact), fact.about, fact.at) for fact in told}) == len(told)
