"""Records of the CEL file: real ones, bad ones, and any cut through them."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctid.books.cel import MAX_RECORD, CelEvent, CelReader, parse

TRACES = Path(__file__).parent / "traces"


def record(kind: str = "ANSWER", at: str = "1795571889.361462", **fields: Any) -> bytes:
    """Write a record as cel_custom does."""
    names = "number exten context channel application arguments uniqueid linkedid peer user_kind extra name"
    values = [kind, at, *(str(fields.get(name, "")) for name in names.split())]
    return (",".join('"' + value.replace('"', '""') + '"' for value in values) + "\n").encode()


GOOD = record(uniqueid="1.1", linkedid="1.1", channel="PJSIP/trunk-00000001", name="王小明")
OTHER = record("HANGUP", "1795571890.000001", uniqueid="1.1", linkedid="1.1", extra='{"hangupcause":16}')


def read(data: bytes) -> tuple[list[CelEvent], CelReader]:
    reader = CelReader()
    return reader.feed(data), reader


def event(raw: bytes) -> CelEvent:
    found = parse(raw)
    assert found
    return found


@pytest.mark.parametrize("version", ["16", "22"])
def test_a_real_book_is_read_as_a_csv_reader_reads_it(version: str) -> None:
    raw = (TRACES / version / "ctid.csv").read_bytes()
    found, reader = read(raw)
    assert (reader.consumed, reader.damaged) == (len(raw), 0)
    rows = list(csv.reader(io.StringIO(raw.decode(), newline="")))
    assert len(found) == len(rows)
    for seen, row in zip(found, rows, strict=True):
        assert f"{seen.at.timestamp():.6f}" == row[1]
        assert [seen.number, seen.exten, seen.context, seen.channel, seen.application] == row[2:7]
        assert [seen.arguments, seen.uniqueid, seen.linkedid, seen.peer, seen.user_kind] == row[7:12]
        assert seen.name == row[13]
        assert bool(seen.extra) == bool(row[12])
    extra = {seen.kind: seen.extra for seen in found if seen.extra}
    assert set(extra["HANGUP"]) == {"hangupcause", "hangupsource", "dialstatus"}
    assert set(extra["BRIDGE_ENTER"]) == {"bridge_id", "bridge_technology"}
    assert extra["BLINDTRANSFER"]["extension"] == "8006"
    assert "transferee_channel_uniqueid" in extra["ATTENDEDTRANSFER"]
    assert set(extra["LOCAL_OPTIMIZE"]) == {"local_two", "local_two_uniqueid"}
    ours = next(seen for seen in found if seen.user_kind == "CtidCall")
    assert ours.kind == "USER_DEFINED"
    assert len(ours.extra["extra"].split(" ", 3)) == 4


def test_microseconds_are_exact() -> None:
    assert event(GOOD).at == datetime(2026, 11, 25, 1, 58, 9, 361462, tzinfo=UTC)
    assert event(record(at="1795571889.000001")).at.microsecond == 1


def test_thirteen_fields_of_older_days_have_no_name() -> None:
    found = event(GOOD.removesuffix(',"王小明"\n'.encode()) + b"\n")
    assert (found.name, found.uniqueid) == ("", "1.1")


@pytest.mark.parametrize("count", [1, 12, 15, 20])
def test_other_layouts_are_not_guessed_at(count: int) -> None:
    fields = [b'"ANSWER"', b'"1795571889.361462"', *[b'"x"'] * (count - 2)][:count]
    found, reader = read(b",".join(fields) + b"\n" + GOOD)
    assert (found, reader.damaged) == ([event(GOOD)], 1)


@pytest.mark.parametrize(
    "text", ['a "q" b', 'ends "', '"', '","', "two\nlines\r\nthree", '\n"HANGUP","1.1","x"\n']
)
def test_quotes_and_line_breaks_stay_inside_a_field(text: str) -> None:
    """B65."""
    raw = record(name=text, user_kind=text, arguments=text)
    found, reader = read(raw + GOOD)
    assert [found[0].name, found[0].user_kind, found[0].arguments] == [text] * 3
    assert found[1:] == [event(GOOD)]
    assert reader.damaged == 0


def test_extra_is_json_or_nothing() -> None:
    """B65: broken, of another type, or nested without end."""
    texts = ["{", "[]", "7", '{"a":', "[" * 100_000, '{"a":"\n"}']
    assert [event(record(extra=text)).extra for text in texts] == [{}] * len(texts)
    assert event(record(extra='{"a":"王\\"\\n"}')).extra == {"a": '王"\n'}


def test_a_record_without_its_end_waits() -> None:
    """B60."""
    reader = CelReader()
    assert reader.feed(GOOD + OTHER[:-1]) == [event(GOOD)]
    assert (reader.consumed, reader.damaged) == (len(GOOD), 0)
    assert reader.feed(b"\n") == [event(OTHER)]


@pytest.mark.parametrize("torn_at", [1, 5, 9, 20, 28, 29, 60, len(GOOD) - 1])
def test_a_torn_record_costs_nothing_else(torn_at: int) -> None:
    """B60: the disk was full; the next record follows on half of one."""
    found, reader = read(OTHER + GOOD[:torn_at] + OTHER + OTHER)
    assert found[0] == found[-1] == event(OTHER)
    assert set(map(str, found)) == {str(event(OTHER))}
    assert (reader.consumed, reader.damaged) == (2 * len(OTHER) + torn_at + len(OTHER), 1)


def test_what_never_ended_is_counted() -> None:
    """B60: the file is finished, its last record is not."""
    _, reader = read(GOOD + OTHER[:30])
    reader.finish()
    assert (reader.consumed, reader.damaged) == (len(GOOD) + 30, 1)


@pytest.mark.parametrize("size", [1, 4096, 2 * MAX_RECORD])
def test_nuls_after_a_power_loss_are_skipped(size: int) -> None:
    """B61: a torn record, a block of NULs, and the next record right behind it."""
    raw = GOOD + OTHER[:40] + b"\0" * size + OTHER + GOOD
    reader = CelReader()
    found = [seen for at in range(0, len(raw), 5000) for seen in reader.feed(raw[at : at + 5000])]
    assert found == [event(GOOD), event(OTHER), event(GOOD)]
    assert (reader.consumed, reader.damaged) == (len(raw), 1)


def test_order_and_repetition_are_left_alone() -> None:
    """B62, B63."""
    assert read(OTHER + GOOD + GOOD)[0] == [event(OTHER), event(GOOD), event(GOOD)]


def test_a_record_of_ten_megabytes_is_given_up() -> None:
    """B64: counted once; reading begins again at the next record."""
    reader = CelReader()
    found = reader.feed(GOOD + GOOD[:-2])
    for _ in range(160):
        found += reader.feed(b'x""HANGUP"",""1795571889.1"",\n' * 2184)
    assert found == [event(GOOD)]
    found += reader.feed(b'"\n' + OTHER + GOOD)
    assert found[1:] == [event(OTHER), event(GOOD)]
    assert reader.damaged == 1
    assert reader.consumed == len(GOOD) + len(GOOD) - 2 + 160 * 2184 * 30 + 2 + len(OTHER + GOOD)


FORGED = record(
    "HANGUP", "1795571889.000000", uniqueid="1.1", linkedid="1.1", extra='{"hangupcause":99}'
).decode()


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "\n" + FORGED},
        {"name": '"\n' + FORGED},
        {"number": "HANGUP", "exten": "1795571889.000000"},
        {"number": 'x"HANGUP', "exten": "1795571889.000000"},
        {"number": ",", "exten": ",1795571889.000000"},
        {"number": '\n"HANGUP', "exten": "1795571889.000000"},
        {"name": "\0" + FORGED},
    ],
)
@pytest.mark.parametrize("torn_at", [0, 3, 9, 28, 50])
def test_a_caller_can_not_forge_a_record(fields: dict[str, str], torn_at: int) -> None:
    """B60, B65: not even where the record before his is torn, so that reading begins again in the middle."""
    evil = record(uniqueid="9.9", linkedid="9.9", **fields)
    for more in (b"", b',"a fifteenth field"'):
        found, _ = read(GOOD[:torn_at] + evil.removesuffix(b"\n") + more + b"\n" + OTHER)
        assert found[-1] == event(OTHER)
        assert all(seen.kind == "ANSWER" and seen.uniqueid == "9.9" for seen in found[:-1])
        if not torn_at and not more and "\0" not in evil.decode():
            assert found[0] == event(evil)


PIECES = st.one_of(
    st.sampled_from([GOOD, OTHER, b"\0" * 50, b"\n", GOOD[:33], GOOD[40:], record(name='"\n"')]),
    st.text(alphabet='",\n\0A1.', max_size=30).map(str.encode),
)


@given(st.lists(PIECES, max_size=20).map(b"".join), st.lists(st.integers(1, 200), min_size=1, max_size=20))
def test_cuts_change_nothing(raw: bytes, sizes: list[int]) -> None:
    """B60: wherever reads end, the same events come out, and ``consumed`` is always safe to go on from."""
    whole, at_once = read(raw)
    cut = CelReader()
    found: list[CelEvent] = []
    at = step = 0
    while at < len(raw):
        size = sizes[step % len(sizes)]
        found += cut.feed(raw[at : at + size])
        at, step = at + size, step + 1
        assert found + read(raw[cut.consumed :])[0] == whole
    for reader in (cut, at_once):
        reader.finish()
        assert reader.consumed == len(raw)
    assert cut.damaged == at_once.damaged


@given(st.lists(st.integers(1, 60), min_size=1, max_size=20), st.integers(1, 60))
def test_no_cut_helps_a_forger(sizes: list[int], torn_at: int) -> None:
    """B60, B65: the byte before a beginning is known also when the read ended there."""
    evil = record(uniqueid="9.9", linkedid="9.9", number="HANGUP", exten="1795571889.000000")
    raw = GOOD[:torn_at] + evil.removesuffix(b"\n") + b',"a fifteenth field"\n' + OTHER
    reader = CelReader()
    found: list[CelEvent] = []
    at = step = 0
    while at < len(raw):
        size = sizes[step % len(sizes)]
        found += reader.feed(raw[at : at + size])
        at, step = at + size, step + 1
    assert found == [event(OTHER)]
