"""Which test stands for which fault (F), bad input (B) and security control (S): found, not kept by hand.

    PYTHONPATH=scripts:. python -m tests.faults.rows --write    # tests/faults/README.md

A test names a row in its docstring, a comment or its parameters: ``F15``, or a range, ``B68-B72``.
What stands outside of any test counts for the whole file.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
TESTS = HERE.parent
README = HERE / "README.md"

_NAME = re.compile(r"\b([FBS])(\d\d)(?:[-–]\1?(\d\d))?\b")


def numbered(kind: str, first: int, last: int) -> list[str]:
    """Return names of rows: ``F09`` to ``F17``."""
    return [f"{kind}{number:02d}" for number in range(first, last + 1)]


REQUIRED = frozenset(
    [*numbered("F", 9, 17), *numbered("F", 25, 45), *numbered("B", 1, 67), "S14", "S15", "S22", "S27"]
)
"""Each of these has at least one test."""


def titles() -> dict[str, str]:
    """Every row and what it is about, in order."""
    lines = (HERE / "rows.txt").read_text(encoding="utf-8").splitlines()
    return {line[:3]: line[4:] for line in lines}


def named_in(text: str) -> set[str]:
    """Return the rows that a text names."""
    found: set[str] = set()
    for kind, first, last in _NAME.findall(text):
        found |= set(numbered(kind, int(first), int(last or first)))
    return found


def tests_by_row() -> dict[str, list[str]]:
    """Return the tests that name each row; those that do not exist are left out."""
    found: dict[str, list[str]] = {row: [] for row in titles()}
    for file in sorted(TESTS.rglob("test_*.py")):
        for test, text in _parts(file):
            for row in named_in(text) & found.keys():
                found[row].append(test)
    return found


def _parts(file: Path) -> Iterator[tuple[str, str]]:
    """Yield each test of a file with its text, decorators included; last the rest of the file."""
    path = str(file.relative_to(TESTS.parent))
    text = file.read_text(encoding="utf-8")
    lines = text.splitlines()
    rest = dict(enumerate(lines, 1))
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            while first > 1 and lines[first - 2].startswith("#"):
                first -= 1
            numbers = range(first, (node.end_lineno or first) + 1)
            yield f"{path}::{node.name}", "\n".join(rest.pop(number, "") for number in numbers)
    yield path, "\n".join(rest.values())


def readme() -> str:
    """Return the table."""
    lines = [
        "# Which test stands for which fault",
        "",
        "Made by `PYTHONPATH=scripts:. python -m tests.faults.rows --write` from what the tests say of",
        "themselves; a test sees to it that it is up to date. F: faults, B: bad inputs, S: security",
        "controls; numbers as in the design notes, all of them in `rows.txt`.",
        "`scripts/faults` does the faults of `test_campaigns.py` for hours.",
        "",
        "| | what | tests |",
        "|---|---|---|",
    ]
    about = titles()
    for row, tests in tests_by_row().items():
        shown = "<br>".join(f"`{test.removeprefix('tests/')}`" for test in tests)
        lines.append(f"| {row} | {about[row]} | {shown or '—'} |")
    return "\n".join([*lines, ""])


def without_test() -> set[str]:
    """Return the required rows that no test names."""
    tests = tests_by_row()
    return {row for row in REQUIRED if not tests[row]}


def main() -> None:
    """Write the table, or print which required rows have no test."""
    if "--write" in sys.argv[1:]:
        README.write_text(readme(), encoding="utf-8")
    print("without a test:", *(sorted(without_test()) or ["none"]))


if __name__ == "__main__":
    main()
