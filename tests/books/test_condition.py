"""What ``ctid check`` says of the books."""

from __future__ import annotations

from pathlib import Path

import pytest

from ctid.books import condition

TRACES = Path(__file__).parent / "traces"


@pytest.mark.parametrize("version", ["16", "22"])
def test_real_books_are_well(version: str) -> None:
    folder = TRACES / version
    assert condition.of_queue_log(folder / "queue_log") == ("ok", str(folder / "queue_log"))
    assert condition.of_cel(folder / "ctid.csv") == ("ok", str(folder / "ctid.csv"))


def test_a_site_may_do_without(tmp_path: Path) -> None:
    assert condition.of_queue_log(None)[0] == condition.of_cel(None)[0] == "warning"


def test_books_that_are_not_there(tmp_path: Path) -> None:
    """F39: before the first call there is no CEL file; a queue_log there is always."""
    level, text = condition.of_queue_log(tmp_path / "queue_log")
    assert level == "problem"
    assert "logger.conf" in text
    level, text = condition.of_cel(tmp_path / "ctid.csv")
    assert level == "warning"
    assert "cel_custom.conf" in text
    assert condition.of_cel(tmp_path / "no" / "ctid.csv")[0] == "problem"


def test_a_book_that_can_not_be_read(tmp_path: Path) -> None:
    for look in (condition.of_queue_log, condition.of_cel):
        level, text = look(tmp_path)  # whoever runs the tests may be root, whom no mode keeps out
        assert level == "problem"
        assert "let ctid's user read it" in text


OLD = b",".join([b'"ANSWER"', b'"1795571889.361462"', *[b'"x"'] * 11]) + b"\n"


@pytest.mark.parametrize(
    ("text", "level", "words"),
    [
        (b"", "ok", "empty"),
        (OLD, "warning", "13 fields"),
        (b'"ANSWER","1795571889.361462","138"\n', "problem", "3 fields"),
        (b"ANSWER,1795571889.361462,138\n", "problem", "no record"),
        (b'"ANSWER","2026-11-25 01:58:09","138"\n', "problem", "dateformat"),
    ],
)
def test_other_layouts_of_the_cel_file(tmp_path: Path, text: bytes, level: str, words: str) -> None:
    path = tmp_path / "ctid.csv"
    path.write_bytes(text)
    seen, told = condition.of_cel(path)
    assert seen == level
    assert words in told


def test_a_file_that_is_no_queue_log(tmp_path: Path) -> None:
    path = tmp_path / "messages"
    path.write_bytes(b"[2026-11-25 01:58:09.361] NOTICE hello\n")
    assert condition.of_queue_log(path)[0] == "problem"
