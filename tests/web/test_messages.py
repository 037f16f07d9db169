"""What may come in, what goes out, and that both are described."""

from __future__ import annotations

import json

import pytest

from ctid.sinks.pop import Desk
from ctid.web import messages
from ctid.web.messages import DeskSnapshot, Dismiss, Seen, Subscribe, Sync, decode, encode

#: B70 and B72: depth, NaN, duplicates, huge numbers; stale or impossible last_seq.
UNREADABLE = [
    "",
    "null",
    "[]",
    "{}",
    '{"type":"unknown"}',
    '{"type":"sync","last_seq":NaN}',
    '{"type":"sync","last_seq":-1}',
    '{"type":"sync","last_seq":9223372036854775808}',
    '{"type":"sync","last_seq":1e400}',
    '{"type":"sync","last_seq":' + "9" * 5000 + "}",
    '{"type":"sync","id":-5}',
    '{"type":"subscribe","topic":"everything"}',
    '{"type":"seen","pop":"' + "x" * 65 + '"}',
    '{"type":"seen","pop":null}',
    '{"type":"auth","token":""}',
    '{"type":"seen","pop":"\ud800"}',
    "[" * 10_000 + "]" * 10_000,
    '{"type":"sync","x":' + "[" * 10_000 + "]" * 10_000 + "}",
]


TAGS = """hello desk pop.offered pop.enriched pop.answered pop.withdrawn pop.closed floor.snapshot
floor.changed ticket.news beat ack error auth subscribe unsubscribe sync seen dismiss"""


@pytest.mark.parametrize("text", UNREADABLE, ids=range(len(UNREADABLE)))
def test_b70_b72_unreadable_messages_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        decode(text)


def test_commands_are_read() -> None:
    assert decode('{"type":"sync","last_seq":12,"new":1}') == Sync(last_seq=12)
    assert decode('{"type":"seen","pop":"a","pop":"b"}') == Seen(pop="b")
    assert decode('{"type":"dismiss","pop":"a","id":3}') == Dismiss(pop="a", id=3)
    assert decode('{"type":"subscribe","topic":"pops"}') == Subscribe(topic="pops")


def test_messages_carry_type_and_nothing_python() -> None:
    assert json.loads(encode(DeskSnapshot(seq=3, desk=Desk()))) == {
        "type": "desk",
        "seq": 3,
        "desk": {"open": [], "missed": []},
    }


def test_schema_describes_every_message_of_both_directions() -> None:
    schema = messages.schema()
    text = json.dumps(schema)
    for tag in TAGS.split():
        assert f'"enum": ["{tag}"]' in text or f'"const": "{tag}"' in text, tag
    names = set(schema["$defs"])
    for part in text.split('"$ref": "#/$defs/')[1:]:
        assert part.partition('"')[0] in names
