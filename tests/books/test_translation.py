"""The books and AMI, two witnesses of the same recorded calls, lead to the same facts.

Every trace that was recorded with CEL on AMI holds both: the live events, of which the golden
facts were concluded, and the records that Asterisk writes into its files.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from ctid.acd import facts as f
from ctid.acd.facts import Fact
from ctid.acd.rules import QueueRule
from ctid.ami import events as ami
from ctid.ami.framing import CONTROL
from ctid.books.cel import CelEvent
from ctid.books.queue_log import QueueLine
from ctid.books.shadow import WITNESSED, facts_of
from ctid.books.translation import events_of
from ctid.store.facts import decode
from tests.fakes_books import TRACES, WITHOUT_QUEUE_LOG, recorded

QUEUES = (
    "autopause",
    "dyn",
    "full",
    "leave",
    "localq",
    "localqn",
    "ringall",
    "rna",
    "sales",
    "strict",
    "support",
)
RULES = {queue: QueueRule() for queue in (*QUEUES, "wrap")}
AGENTS = {f"PJSIP/{number}": str(number) for number in range(1001, 1011)}
NAMES = sorted(
    str(path.relative_to(TRACES)).removesuffix(".txt.gz")
    for path in TRACES.glob("*/*.txt.gz")
    if not path.name.startswith("load")
)

#: What the books can not tell: ringing signs, holds, notes; and words that only AMI has.
UNTOLD = {
    "recovered",
    "ring_estimated",
    "first_ring_to_answer",
    "rings",
    "rang",
    "verdict",
    "talked",
    "held",
    "holds",
    "wrapped",
    "handled",
    "cause_text",
    "position",
    "caller_name",
}
#: A member is known to the queue as ``Local/1006@agents/n``; no channel is called so.
UNTOLD_OF = {"local_member_n": {"interface"}}
#: Before the dialplan wrote QUEUESTATUS into CEL, nobody could tell why a caller was not let in.
NOT_LET_IN = {"join_empty", "queue_full"}
#: Neither can it be told whether a phone that was not answered rang at all, ...
ALIKE = ({"no_answer", "unreachable"},)
CLOSE = timedelta(milliseconds=250)


def by_key(facts: Sequence[Fact], trace: str) -> dict[tuple[str, str, str], list[Fact]]:
    found: dict[tuple[str, str, str], list[Fact]] = defaultdict(list)
    for fact in facts:
        is_door = isinstance(fact, f.CallerLeft) and fact.outcome in ("join_empty", "full")
        is_note = isinstance(fact, f.CallHandled) and trace == "wrapup"
        if isinstance(fact, WITNESSED) and not is_note and not (is_door and trace in NOT_LET_IN):
            found[type(fact).__name__, fact.call, fact.about].append(fact)
    return found


def unlike(one: Any, other: Any) -> bool:
    if {one, other} in ALIKE if isinstance(one, str) else False:
        return False
    if hasattr(one, "year") or isinstance(one, timedelta):
        return other is None or abs(one - other) > CLOSE
    return bool(one != other)


@pytest.mark.parametrize("name", sorted(set(NAMES) - WITHOUT_QUEUE_LOG))
def test_books_and_ami_agree(name: str) -> None:
    """F39: what was missed on AMI can be concluded from queue_log and CEL."""
    trace = name.partition("/")[2]
    by_books = by_key(facts_of(*recorded(name), rules=RULES, agents=AGENTS), trace)
    golden = (TRACES / f"{name}.facts").read_bytes().splitlines()
    by_ami = by_key([decode(line) for line in golden], trace)
    assert {key: len(facts) for key, facts in by_books.items()} == {
        key: len(facts) for key, facts in by_ami.items()
    }
    for key, facts in by_books.items():
        for ours, theirs in zip(facts, by_ami[key], strict=True):
            for field in set(ours.__struct_fields__) - UNTOLD - UNTOLD_OF.get(trace, set()):
                one, other = getattr(ours, field), getattr(theirs, field)
                assert not unlike(one, other), f"{key} {field}: books {one}, AMI {other}"


def test_everything_is_marked() -> None:
    facts = facts_of(*recorded("22/answered"), rules=RULES, agents=AGENTS)
    assert len(facts) == 9
    assert all(fact.recovered for fact in facts)


def test_asterisk_died() -> None:
    """F02: what was open when Asterisk died ended with its last sign of life."""
    records, lines = recorded("22/answered")
    talking = [record for record in records if record.kind not in ("BRIDGE_EXIT", "APP_END", "HANGUP")]
    alive = [record for record in talking if record.kind not in ("CHAN_END", "LINKEDID_END")]
    facts = facts_of(alive, lines, rules=RULES, agents=AGENTS, is_lost=True)
    (end,) = (fact for fact in facts if isinstance(fact, f.CallEnded))
    (talk,) = (fact for fact in facts if isinstance(fact, f.TalkEnded))
    assert (end.end_reason, end.at) == ("asterisk_lost", max(record.at for record in alive))
    assert talk.ended_by == "unknown_end"


def test_half_a_call_is_told_as_far_as_it_goes() -> None:
    """A phone that rings has no application in CEL yet; it is an offer all the same."""
    records, lines = recorded("22/answered")
    ringing = [record for record in records if record.at < records[4].at]
    facts = facts_of(ringing, lines[:1], rules=RULES, agents=AGENTS)
    assert [type(fact) for fact in facts] == [f.CallStarted, f.CallerJoined, f.OfferMade]
    assert msgspec.json.encode(facts[2]).count(b'"1001"') == 1


@pytest.mark.parametrize(
    "sent", ["1\r\n\r\nEvent: Hangup\r\nX: ", "1\nEvent: Hangup", "1\rEvent: Hangup", "1\x7f", "1\0"]
)
def test_what_a_caller_forged_is_in_no_fact(sent: str) -> None:
    """B12, S04: the books keep line breaks that AMI cannot carry; the call counts, its number does not."""
    began = datetime(2026, 11, 25, 9, tzinfo=UTC)
    about = {"channel": "PJSIP/trunk-00000001", "uniqueid": "1.1", "linkedid": "1.1"}
    empty = dict.fromkeys(("context", "application", "arguments", "peer", "user_kind"), "") | {"extra": {}}
    start = CelEvent(at=began, kind="CHAN_START", number=sent, name=sent, exten=sent, **about, **empty)
    told = [event for event in events_of([start], []) if isinstance(event, ami.Newchannel)]
    assert [(it.caller_number, it.caller_name, it.exten) for it in told] == [("", CONTROL.sub("", sent), "")]
    line = QueueLine(began, "1.1", "sales", "NONE", "ENTERQUEUE", ("", sent, "1"))
    joins = [event for event in events_of([start], [line]) if isinstance(event, ami.QueueCallerJoin)]
    assert [it.caller_number for it in joins] == [""]
