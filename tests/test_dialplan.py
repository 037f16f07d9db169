"""S06: what comes from outside is filtered before any use, line by line of ``dialplan/``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

FOLDER = Path(__file__).parents[1] / "dialplan"

_STEP = re.compile(r"\s*(?:exten\s*=>\s*([^,]+),\w+|same\s*=>\s*n)(?:\((\w+)\))?,(\w+)\((.*)\)\s*")
_SENT_BY_STRANGERS = re.compile(r"\$\{(?:EXTEN|CALLERID|CHANNEL\(pjsip|PJSIP_HEADER|SIPPEER|CDR\(src)")
_CALLERS_OWN = re.compile(r"CALLERID\(|\bCTID_CALLER\b|\bCTID_DIALLED\b|\bEXTEN\b")


class Step(NamedTuple):
    """One priority."""

    file: str
    line: int
    application: str
    arguments: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


def steps(text: str, file: str = "") -> Iterator[Step]:
    for number, line in enumerate(text.splitlines(), 1):
        if found := _STEP.fullmatch(re.sub(r"(?<!\\);.*", "", line)):
            yield Step(file, number, found[3], found[4])


def without_filters(text: str) -> str:
    """Cut out every ``${FILTER(...)}`` and ``${LEN(...)}``, inner ones included."""
    for function in ("FILTER", "LEN"):
        while (start := text.find(f"${{{function}(")) >= 0:
            depth, end = 0, start
            for end in range(start, len(text)):
                depth += (text[end] == "{") - (text[end] == "}")
                if depth == 0 and end > start + 1:
                    break
            text = text[:start] + text[end + 1 :]
    return text


def complaints(step: Step) -> list[str]:
    """Return what is wrong with a step."""
    found = []
    bare = without_filters(step.arguments)
    if _SENT_BY_STRANGERS.search(bare):
        target = step.arguments.partition("=")[0].removeprefix("LOCAL(").rstrip(")")
        # One place may look at the name as it came: the one that measures and filters it.
        if not (step.application == "Set" and target == "shown"):
            found.append("EXTEN or CALLERID without FILTER")
    if (
        step.application in {"System", "TrySystem", "SHELL", "Exec", "Originate"}
        or "SHELL(" in step.arguments
    ):
        found.append("runs a command or another application")
    if step.application == "MixMonitor":
        if any(split(step.arguments)[2:]):
            found.append("MixMonitor with a command")
        if _CALLERS_OWN.search(step.arguments):
            found.append("the caller's own text in a file name")
    if step.application == "Dial" and "&" in bare:
        found.append("Dial of several at once")
    return found


def split(arguments: str) -> list[str]:
    """Split at commas outside brackets."""
    parts, depth = [""], 0
    for character in arguments:
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return parts


ALL = [step for file in sorted(FOLDER.glob("*.conf")) for step in steps(file.read_text("utf-8"), file.name)]


def test_every_line_is_understood() -> None:
    for file in FOLDER.glob("*.conf"):
        wanted = re.findall(r"^\s*(?:exten|same)\s*=>", file.read_text("utf-8"), re.MULTILINE)
        assert len(wanted) == sum(step.file == file.name for step in ALL), file


@pytest.mark.parametrize("step", ALL, ids=str)
def test_nothing_of_strangers_is_used_as_it_came(step: Step) -> None:
    assert not complaints(step)


@pytest.mark.parametrize(
    "bad",
    [
        "exten => _X.,1,Dial(PJSIP/${EXTEN})",
        "exten => _X.,1,Dial(PJSIP/${EXTEN:1}@trunk)",
        "exten => s,1,System(echo ${CALLERID(num)})",
        "exten => s,1,System(date)",
        "exten => s,1,MixMonitor(/x/${CALLERID(num)}.wav)",
        "exten => s,1,MixMonitor(/x/${FILTER(0-9,${CALLERID(num)})}.wav)",
        "exten => s,1,MixMonitor(/x/${UNIQUEID}.wav,b,/bin/mv ${UNIQUEID})",
        "exten => s,1,Set(x=${SHELL(id)})",
        "exten => s,1,Set(x=${CALLERID(name)})",
        "exten => s,1,Dial(PJSIP/1001&PJSIP/1002)",
        "exten => s,1,Queue(${EXTEN})",
        "exten => s,1,Goto(x,${EXTEN},1)",
        "exten => s,1,Playback(${FILTER(a-z,x)}${EXTEN})",
    ],
)
def test_the_complaints_can_be_made(bad: str) -> None:
    (step,) = steps(bad)
    assert complaints(step)


def test_the_callers_number_is_filtered_before_the_daemon_is_asked() -> None:
    inbound = [step for step in ALL if step.file == "ctid-inbound.conf"]
    first_use = next(i for i, step in enumerate(inbound) if step.application == "AGI")
    before = " ".join(step.arguments for step in inbound[:first_use])
    for name in ("CTID_DIALLED=${FILTER(0-9+,${EXTEN})}", "CTID_CALLER=${FILTER(0-9+,${CALLERID(num)"):
        assert name in before


def test_an_answer_comes_before_every_recording() -> None:
    """Started on an unanswered channel, Asterisk 22 loses the agent's side in half of the calls."""
    text = (FOLDER / "ctid-queue.conf").read_text("utf-8")
    assert text.index(",Answer()") < text.index("Gosub(ctid-recording,start,1)")
    uses = [step for step in ALL if "ctid-recording,start" in step.arguments]
    assert [step.file for step in uses] == ["ctid-queue.conf"]


def test_the_sentinel_is_cleared_before_every_question() -> None:
    for file in ("ctid-inbound.conf", "ctid-fallback.conf"):
        steps_here = [step for step in ALL if step.file == file]
        asked = next(i for i, step in enumerate(steps_here) if step.application == "AGI")
        before = [step.arguments for step in steps_here[:asked]]
        after = steps_here[asked + 1 :]
        assert "CTID_OK=" in before
        assert "AGIEXITONHANGUP=yes" in before
        assert any(text.startswith("TIMEOUT(absolute)=") for text in before)
        assert after[0].arguments == "TIMEOUT(absolute)=0"
        assert '"${CTID_OK}" = "1"' in after[1].arguments


def test_the_default_leaves_nothing_of_a_half_made_decision() -> None:
    from ctid.routing.variables import FROM_ROUTE

    text = (FOLDER / "ctid-fallback.conf").read_text("utf-8").partition("[ctid-default]")[2]
    set_there = {step.arguments.partition("=")[0] for step in steps(text) if step.application == "Set"}
    assert set_there == set(FROM_ROUTE) - {"CTID_OK"}
