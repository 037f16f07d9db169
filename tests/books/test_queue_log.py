"""Lines of queue_log: real ones, bad ones, and any cut through them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctid.books.queue_log import MAX_LINE, QueueLine, QueueLines, parse

TRACES = Path(__file__).parent / "traces"
AT = datetime(2026, 11, 25, 1, 58, 9, tzinfo=UTC)
GOOD = b"1795571889|lab22-1795571889.2|repair|1001|CONNECT|3|lab22-1795571889.8|3\n"
OTHER = b"1795571890|lab22-1795571889.4|repair|NONE|ABANDON|1|1|6\n"


def read(data: bytes) -> tuple[list[QueueLine], QueueLines]:
    lines = QueueLines()
    return lines.feed(data), lines


@pytest.mark.parametrize("version", ["16", "22"])
def test_a_real_book_is_read_whole(version: str) -> None:
    raw = (TRACES / version / "queue_log").read_bytes()
    found, lines = read(raw)
    assert len(found) == raw.count(b"\n")
    assert (lines.consumed, lines.damaged) == (len(raw), 0)
    verbs = [line.verb for line in found]
    assert {"QUEUESTART", "ENTERQUEUE", "CONNECT", "BLINDTRANSFER", "ATTENDEDTRANSFER"} <= set(verbs)
    assert {"RINGCANCELED", "RINGNOANSWER", "ABANDON", "PAUSEALL", "ODDVERB"} <= set(verbs)
    moved = next(line for line in found if line.verb == "ATTENDEDTRANSFER")
    assert moved.data[0] == "BRIDGE"
    assert moved.agent == "1012"


def test_fields() -> None:
    assert parse(GOOD) == QueueLine(
        AT, "lab22-1795571889.2", "repair", "1001", "CONNECT", ("3", "lab22-1795571889.8", "3")
    )
    assert parse(b"1795571889|NONE|NONE|NONE|QUEUESTART|") == QueueLine(
        AT, "NONE", "NONE", "NONE", "QUEUESTART"
    )


def test_a_bar_in_the_number_or_the_url_stays_in_data() -> None:
    """B58: the position is still the last field."""
    line = parse(b"1795571889|1.9|repair|NONE|ENTERQUEUE|http://a/?b|c|138|00|CONNECT|4\n")
    assert line
    assert (line.verb, line.agent, line.data[-1]) == ("ENTERQUEUE", "NONE", "4")
    assert line.data == ("http://a/?b", "c", "138", "00", "CONNECT", "4")


@pytest.mark.parametrize(
    ("agent", "seen"),
    [("NONE", "NONE"), ("王|小", "王|小"), ("王小明", "王小明"), ("a|b|c", "a|b|c"), ("", "")],
)
def test_odd_names_of_agents(agent: str, seen: str) -> None:
    """B59: called NONE, with a bar, in Chinese."""
    line = parse(f"1795571889|1.9|repair|{agent}|CONNECT|3|1.10|3\n".encode())
    assert line
    assert (line.agent, line.verb, line.data) == (seen, "CONNECT", ("3", "1.10", "3"))


def test_no_text_of_a_caller_becomes_the_verb() -> None:
    """B58, B66: a site's own verb stays, though a known one stands in its data."""
    line = parse(b"1795571889|1.9|repair|NONE|name|x|CONNECT|0|1.9|0")
    assert line
    assert line.verb == "name"
    line = parse(b"1795571889|1.9|repair|1001|VIP|x|CONNECT|0|1.9|0")
    assert line
    assert line.verb == "VIP"


@pytest.mark.parametrize(
    "rest",
    [
        "WITHDRAW|4|1|12|0123456789012345678901234567890123456789",
        "RINGCANCELED|3012",
        "ATTENDEDTRANSFER|APP|Queue|1|4|1",
        "SOMETHINGNEW|x",
        "COMPLETEAGENT",
    ],
)
def test_rare_and_unknown_verbs(rest: str) -> None:
    """B66."""
    line = parse(f"1795571889|1.9|repair|1001|{rest}".encode())
    assert line
    assert "|".join((line.verb, *line.data)) == rest


@pytest.mark.parametrize("call", ["1.9", "1.10", "sys-1.1", "ctid-7f3a/leg;2"])
def test_uniqueids_of_any_form(call: str) -> None:
    """B67."""
    line = parse(f"1795571889|{call}|repair|1001|CONNECT|1|1.2|1".encode())
    assert line
    assert line.call == call


def test_fractions_of_a_second_are_kept() -> None:
    line = parse(b"1795571889.25|1.9|repair|NONE|ABANDON|1|1|6")
    assert line
    assert line.at == AT.replace(microsecond=250_000)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"x",
        b"1795571889",
        b"1795571889|1.9|repair|NONE",
        b"abc|1.9|q|NONE|ABANDON",
        b"-1|1.9|q|NONE|ABANDON",
        b"999999999999|1.9|q|NONE|ABANDON",
        b"1795571889||q|NONE|ABANDON",
        b"1795571889|1.9|q|NONE|",
        b"\xff\xfe|1.9|q|NONE|ABANDON",
    ],
)
def test_what_is_no_line(line: bytes) -> None:
    assert parse(line) is None


def test_wrong_utf8_is_replaced() -> None:
    line = parse(b"1795571889|1.9|repair|\xe7\x8e|ABANDON|1")
    assert line
    assert "�" in line.agent


def test_a_line_without_its_end_waits() -> None:
    """B60."""
    lines = QueueLines()
    assert lines.feed(GOOD + OTHER[:30]) == [parse(GOOD)]
    assert (lines.consumed, lines.damaged) == (len(GOOD), 0)
    assert lines.feed(OTHER[30:]) == [parse(OTHER)]
    assert lines.consumed == len(GOOD + OTHER)


def test_what_never_ended_is_counted() -> None:
    """B60: the file is finished, its last line is not."""
    _, lines = read(GOOD + OTHER[:30])
    lines.finish()
    assert (lines.consumed, lines.damaged) == (len(GOOD) + 30, 1)


@pytest.mark.parametrize("size", [1, 4096, 3 * MAX_LINE])
def test_nuls_after_a_power_loss_are_skipped(size: int) -> None:
    """B61: a torn line, a block of NULs, and the next line right behind it."""
    raw = GOOD + OTHER[:20] + b"\0" * size + OTHER + GOOD
    lines = QueueLines()
    found = [line for at in range(0, len(raw), 1000) for line in lines.feed(raw[at : at + 1000])]
    assert found == [parse(GOOD), parse(OTHER), parse(GOOD)]
    assert (lines.consumed, lines.damaged) == (len(raw), 1)


def test_order_and_repetition_are_left_alone() -> None:
    """B62, B63."""
    found, _ = read(OTHER + GOOD + GOOD)
    assert found == [parse(OTHER), parse(GOOD), parse(GOOD)]


def test_a_line_of_ten_megabytes_is_given_up() -> None:
    """B64: counted once, and nothing after it is lost."""
    lines = QueueLines()
    found = lines.feed(GOOD + b"1795571889|1.9|repair|NONE|ENTERQUEUE|")
    for _ in range(160):
        found += lines.feed(b"x|" * 32 * 1024)
    found += lines.feed(b"\n" + OTHER)
    assert found == [parse(GOOD), parse(OTHER)]
    assert lines.damaged == 1
    assert lines.consumed == len(GOOD) + 38 + 160 * 64 * 1024 + 1 + len(OTHER)


PIECES = st.one_of(
    st.sampled_from([GOOD, OTHER, b"\0" * 50, b"\n", b"junk\n", OTHER[:17]]),
    st.binary(max_size=40),
    st.text(alphabet="|ABNONE1.王\n", max_size=40).map(str.encode),
)


@given(st.lists(PIECES, max_size=30).map(b"".join), st.lists(st.integers(1, 90), min_size=1, max_size=20))
def test_cuts_change_nothing(raw: bytes, sizes: list[int]) -> None:
    """B60: wherever reads end, the same lines come out, and ``consumed`` is always safe to go on from."""
    whole, at_once = read(raw)
    cut = QueueLines()
    found: list[QueueLine] = []
    at = step = 0
    while at < len(raw):
        size = sizes[step % len(sizes)]
        found += cut.feed(raw[at : at + size])
        at, step = at + size, step + 1
        assert found + read(raw[cut.consumed :])[0] == whole
    assert (cut.consumed, cut.damaged) == (at_once.consumed, at_once.damaged)
