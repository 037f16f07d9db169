"""Every recorded trace yields its golden facts and metrics, however its bytes are cut.

The second opinion is Asterisk's own: the ``queue_log`` lines at the end of each trace are
read here by a few lines that share nothing with ctid, and must agree one by one.
"""

from __future__ import annotations

import asyncio
import gzip
import random
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from ctid.acd.centre import Centre
from ctid.acd.facts import (
    Anomaly,
    CallEnded,
    CallerJoined,
    CallerLeft,
    CallStarted,
    Fact,
    OfferEnded,
    OfferMade,
    TalkEnded,
    TalkStarted,
)
from ctid.acd.rules import QueueRule
from ctid.ami.events import Snapshot
from ctid.replay import events, raw, replay
from ctid.sinks.metrics import MetricsSink

TRACES = Path(__file__).parent / "traces"
RECORDED = sorted(str(path.relative_to(TRACES)).removesuffix(".txt.gz") for path in TRACES.glob("*/*.txt.gz"))
QUEUES = (
    "autopause dyn full leave load localq localqn ringall rna sales strict support wrap".split()  # noqa: SIM905
)
RULES = {queue: QueueRule() for queue in QUEUES} | {"wrap": QueueRule(wrap_up=timedelta(seconds=4))}
#: Traces that end before their calls do.
CUT_OFF = {"22/zz_restart", "16/zz_restart"}

SECOND = timedelta(seconds=1)


def recording(name: str) -> bytes:
    return gzip.decompress((TRACES / f"{name}.txt.gz").read_bytes())


def conclude(chunks: Sequence[bytes]) -> list[Fact]:
    return list(replay(chunks, RULES))


def lines(facts: Sequence[Fact]) -> str:
    # Nothing in a recording was recovered from the books: not worth a word in every line.
    said = (msgspec.json.encode(fact).decode() for fact in facts)
    return "".join(line.replace(',"recovered":false', "") + "\n" for line in said)


def figures(facts: Sequence[Fact]) -> str:
    sink = MetricsSink(RULES, teams={}, elapsed=lambda: 0.0)
    asyncio.run(sink.write(facts))
    return sink.golden_text()


def golden(path: Path, text: str, update: bool) -> str:
    """Return what the golden file holds; with ``--update``, write it first."""
    if update:
        path.write_text(text, encoding="utf-8")
    return path.read_text(encoding="utf-8")


def test_both_versions_are_recorded() -> None:
    assert sum(name.startswith("22/") for name in RECORDED) >= 40
    assert sum(name.startswith("16/") for name in RECORDED) >= 40


@pytest.mark.parametrize("name", RECORDED)
def test_facts_and_metrics(name: str, update: bool) -> None:
    """F30, F31, F32, F33: transfers, Local members, spies, redirects as recorded, on both versions."""
    facts = conclude([raw(recording(name))])

    assert lines(facts) == golden(TRACES / f"{name}.facts", lines(facts), update)
    assert figures(facts) == golden(TRACES / f"{name}.metrics", figures(facts), update)


@pytest.mark.parametrize("name", RECORDED)
def test_cut_anywhere(name: str) -> None:
    """B01: whole recordings, cut at a thousand places."""
    data = raw(recording(name))
    dice = random.Random(name)
    cuts = sorted({0, len(data), *(dice.randrange(len(data)) for _ in range(1000))})

    facts = conclude([data[begin:end] for begin, end in pairwise(cuts)])

    assert lines(facts) == (TRACES / f"{name}.facts").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", RECORDED)
def test_facts_make_sense(name: str) -> None:
    facts = conclude([raw(recording(name))])

    keys = Counter((fact.call, type(fact).__name__, fact.about, fact.at) for fact in facts)
    assert [key for key, times in keys.items() if times > 1] == []
    assert [fact for fact in facts if isinstance(fact, Anomaly)] == []
    assert [fact for fact in facts for value in msgspec.structs.astuple(fact) if _is_negative(value)] == []
    if name not in CUT_OFF:
        for opens, closes in (
            (CallStarted, CallEnded),
            (CallerJoined, CallerLeft),
            (OfferMade, OfferEnded),
            (TalkStarted, TalkEnded),
        ):
            begun = Counter((fact.call, fact.about) for fact in facts if isinstance(fact, opens))
            ended = Counter((fact.call, fact.about) for fact in facts if isinstance(fact, closes))
            turned_away = Counter(
                (fact.call, fact.about)
                for fact in facts
                if isinstance(fact, CallerLeft) and fact.outcome in {"join_empty", "full"}
            )
            assert begun == ended - (turned_away if closes is CallerLeft else Counter())


@pytest.mark.parametrize("name", RECORDED)
def test_nothing_is_an_anomaly_to_who_watched_from_the_start(name: str) -> None:
    found = list(events([raw(recording(name))]))
    centre = Centre(RULES, {})
    began = found[0].at - SECOND
    nothing: dict[str, Any] = dict.fromkeys(("channels", "queues", "members", "entries"), ())
    centre.receive(Snapshot(at=began, boot=began, system="", **nothing))

    steps = [centre.receive(event) for event in found]

    assert [fact for step in steps for fact in step.facts if isinstance(fact, Anomaly)] == []


def _is_negative(value: object) -> bool:
    return isinstance(value, timedelta) and value < timedelta(0)


# -- Asterisk's own book --------------------------------------------------------------


class Line(NamedTuple):
    """One line of queue_log."""

    second: int
    call: str
    queue: str
    member: str
    verb: str
    data: tuple[str, ...]


_LINE = re.compile(r"^#### (\d{10})\|(.*)$", re.MULTILINE)
_OUT = {
    "ABANDON": "abandoned",
    "EXITWITHTIMEOUT": "timeout",
    "EXITEMPTY": "leave_empty",
    "EXITWITHKEY": "exit_key",
    "CONNECT": "answered",
}
_MISSED = {"no_answer", "declined", "unreachable"}
_CANCELLED = {"cancelled", "cancelled_by_caller"}


def queue_log(text: str) -> list[Line]:
    """Read the queue_log lines of a trace."""
    found = []
    for second, rest in _LINE.findall(text):
        call, queue, member, verb, *data = rest.split("|")
        found.append(Line(int(second), call, queue, member, verb, tuple(data)))
    return found


def phones(text: str) -> dict[tuple[str, str], str]:
    """Phone by queue and member name, as the trace's own events say."""
    found = {}
    for block in text.split("\n\n"):
        headers = dict(re.findall(r"^(Queue|MemberName|Interface): (.+)$", block, re.MULTILINE))
        if len(headers) == 3:
            found[headers["Queue"], headers["MemberName"]] = headers["Interface"]
    return found


def callers(facts: Sequence[Fact]) -> dict[tuple[str, str], str]:
    """The caller's leg, which is what queue_log calls a call, by call and queue."""
    return {(fact.call, fact.queue): fact.leg for fact in facts if isinstance(fact, CallerJoined)}


BOOKED = [name for name in RECORDED if "load" not in name and "webrtc" not in name]


@pytest.mark.parametrize("name", BOOKED)
def test_visits_agree_with_queue_log(name: str) -> None:
    text = recording(name).decode()
    facts = conclude([raw(text.encode())])
    expected = []
    entered: dict[tuple[str, str], int] = {}
    for line in queue_log(text):
        if line.verb == "ENTERQUEUE":
            entered[line.call, line.queue] = line.second
        elif line.verb in _OUT:
            waited = line.data[0] if line.verb == "CONNECT" else line.data[2]
            waited = line.data[3] if line.verb == "EXITWITHKEY" else waited
            expected.append((line.call, line.queue, _OUT[line.verb], int(waited), line))
    left = [
        fact for fact in facts if isinstance(fact, CallerLeft) and fact.outcome not in {"join_empty", "full"}
    ]

    legs = callers(facts)
    assert [(fact.leg, fact.queue) for fact in facts if isinstance(fact, CallerJoined)] == list(entered)
    assert [(legs[fact.call, fact.queue], fact.queue, fact.outcome) for fact in left] == [
        visit[:3] for visit in expected
    ]
    for fact, (_, _, _, seconds, line) in zip(left, expected, strict=True):
        assert abs(fact.waited - seconds * SECOND) <= SECOND
        if line.verb == "CONNECT":
            assert (fact.interface, fact.leg) == (phones(text)[line.queue, line.member], line.data[1])
            assert abs(fact.at.timestamp() - line.second) < 1.1


@pytest.mark.parametrize("name", BOOKED)
def test_offers_agree_with_queue_log(name: str) -> None:
    text = recording(name).decode()
    facts = conclude([raw(text.encode())])
    offers = [fact for fact in facts if isinstance(fact, OfferEnded)]
    legs = callers(facts)
    who = phones(text)
    told: defaultdict[str, list[tuple[str, str, str]]] = defaultdict(list)
    for line in queue_log(text):
        if line.verb in {"CONNECT", "RINGNOANSWER", "RINGCANCELED"}:
            told[line.verb].append((line.call, line.queue, who[line.queue, line.member]))
    ours = {
        verb: [
            (legs[fact.call, fact.queue], fact.queue, fact.interface)
            for fact in offers
            if fact.outcome in outcomes
        ]
        for verb, outcomes in (
            ("CONNECT", {"answered"}),
            ("RINGNOANSWER", _MISSED),
            ("RINGCANCELED", _CANCELLED),
        )
    }

    assert ours == {verb: told[verb] for verb in ours}
    assert {fact.outcome for fact in offers} <= {"answered", "answered_elsewhere"} | _MISSED | _CANCELLED
    rung = [line for line in queue_log(text) if line.verb in {"RINGNOANSWER", "RINGCANCELED"}]
    unanswered = [fact for fact in offers if fact.outcome in _MISSED | _CANCELLED]
    for line, fact in zip(rung, unanswered, strict=True):
        if line.data[0] != "0":  # 486: app_queue counts nothing
            assert abs((fact.at - fact.offered_at) / SECOND - int(line.data[0]) / 1000) < 0.05


@pytest.mark.parametrize("name", [name for name in BOOKED if name not in CUT_OFF])
def test_talks_agree_with_queue_log(name: str) -> None:
    text = recording(name).decode()
    facts = conclude([raw(text.encode())])
    talks = [fact for fact in facts if isinstance(fact, TalkEnded) and fact.queue]
    legs = callers(facts)
    ends = {"COMPLETECALLER": "caller", "COMPLETEAGENT": "agent", "ATTENDEDTRANSFER": "transfer"} | {
        "BLINDTRANSFER": "transfer"
    }
    booked = [line for line in queue_log(text) if line.verb in ends]
    first = [(legs[fact.call, fact.queue], fact.queue, fact.ended_by) for fact in talks]

    told = [(line.call, line.queue, ends[line.verb]) for line in booked]
    if name.endswith("/redirect_ami"):  # one COMPLETECALLER for each, at the caller's very end
        assert first == [(*told[0][:2], "other"), told[1]]
        return
    assert first == told
    for fact, line in zip(talks, booked, strict=True):
        seconds = line.data[1] if line.verb.startswith("COMPLETE") else line.data[3]
        # A transfer is booked when it was asked for or done, in whole seconds of time_t.
        assert abs(fact.talked + fact.held - int(seconds) * SECOND) <= 1.1 * SECOND


@pytest.mark.parametrize("name", [name for name in RECORDED if "load" in name])
def test_under_load_every_call_is_accounted_for(name: str) -> None:
    text = recording(name)
    entered = text.count(b"\nEvent: QueueCallerJoin\n")
    outcomes = Counter(fact.outcome for fact in conclude([raw(text)]) if isinstance(fact, CallerLeft))

    assert entered > 100
    assert sum(outcomes.values()) == entered
    assert outcomes == {"answered": text.count(b"\nEvent: AgentConnect\n")}
