"""The table of faults and tests is up to date, and complete where it has to be."""

from __future__ import annotations

from tests.faults import rows


def test_the_table_is_up_to_date() -> None:
    """Else: ``PYTHONPATH=scripts:. python -m tests.faults.rows --write``."""
    assert rows.README.read_text(encoding="utf-8") == rows.readme()


def test_each_required_row_has_a_test() -> None:
    assert rows.without_test() == set()


def test_every_row_has_a_title() -> None:
    expected = [*rows.numbered("F", 1, 45), *rows.numbered("B", 1, 84), *rows.numbered("S", 1, 28)]
    assert [*rows.titles()] == expected


def test_names_are_found_as_words_and_in_ranges() -> None:
    text = "{0}15, ({1}60) and {1}68-{1}72 or {1}80–82, but not 0x{0}1500, X{1}12 or S123".format("F", "B")
    expected = {
        *rows.numbered("F", 15, 15),
        *rows.numbered("B", 60, 60),
        *rows.numbered("B", 68, 72),
        *rows.numbered("B", 80, 82),
    }
    assert rows.named_in(text) == expected
