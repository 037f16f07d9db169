"""Both catalogues hold exactly the keys that the page and the server use, with the same places."""

from __future__ import annotations

import re
from importlib.resources import files
from typing import get_args

import pytest

from ctid.acd.facts import AgentState, OfferOutcome, VisitOutcome
from ctid.sinks.pop import PopState
from ctid.store.users import Language, Role
from ctid.tickets.ticket import TicketType
from ctid.web.pages import FILES
from ctid.web.words import LANGUAGES, preferred, words

#: Kinds whose keys are made of a value, and all values there are.
KINDS = {
    "business": get_args(TicketType),
    "language": get_args(Language),
    "link": ("connecting", "live", "offline"),
    "offer": get_args(OfferOutcome),
    "outcome": get_args(VisitOutcome),
    "pop.state": get_args(PopState),
    "phone.line": ("connecting", "registered", "refused", "failed", "other_tab", "voiceless"),
    "phone.notice": ("call_failed", "transfer_failed"),
    "phone.problem": ("insecure", "none", "denied", "ask", "busy", "other"),
    "phone.state": ("idle", "ringing", "checking", "calling", "talking", "held"),
    "problem": ("bad_token", "store_unavailable", "network"),
    "reason": ("ctid:wrap-up",),
    "role": get_args(Role),
    "state": get_args(AgentState),
    "theme": ("auto", "light", "dark"),
    "ticket": ("open", "waiting"),
}


def sources() -> dict[str, str]:
    ui = files("ctid.web").joinpath("ui")
    names = [
        name for name, _media in FILES.values() if name.endswith((".js", ".html")) and "vendor" not in name
    ]
    texts = {name: ui.joinpath(name).read_text(encoding="utf-8") for name in names}
    texts["pop.py"] = files("ctid.web.api").joinpath("pop.py").read_text(encoding="utf-8")
    return texts


def used() -> set[str]:
    """Find the keys in the sources; keys made of a value count with all values."""
    keys: set[str] = set()
    for text in sources().values():
        keys |= set(re.findall(r"""\bt\("([\w.:-]+)\"""", text))
        keys |= set(re.findall(r'data-t(?:-label)?="([\w.:-]+)"', text))
        keys |= set(re.findall(r"""(?:say|words\(language\))\[["']([\w.:-]+)["']\]""", text))
        keys |= {key for pair in re.findall(r't\(\w+ \? "([\w.]+)" : "([\w.]+)"', text) for key in pair}
        keys |= set(re.findall(r'"((?:banner|problem)\.\w+)"', text))
        kinds = re.findall(r"""(?:t\(`|say(?:\.get\(|\[)f["'])([\w.]+)\.(?:\$?{)""", text)
        kinds += re.findall(r"""named\("(\w+)\"""", text)
        keys |= {f"{kind}.{value}" for kind in kinds for value in KINDS[kind]}
    return keys


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_key_is_missing_and_none_unused(language: str) -> None:
    assert set(words(language)) == used()


def test_places_are_the_same_in_every_language() -> None:
    chinese, english = words("zh-CN"), words("en")
    for key in chinese:
        places = set(re.findall(r"{\w+}", chinese[key]))
        assert places == set(re.findall(r"{\w+}", english[key])), key
        assert chinese[key].strip(), key
        assert english[key].strip(), key


def test_no_words_outside_the_catalogues() -> None:
    """No Chinese in the sources, and no English sentence between tags."""
    for name, text in sources().items():
        code = re.sub(r"//[^\n]*|/\*.*?\*/", "", text, flags=re.S)
        assert not re.search(r"[\u4e00-\u9fff]", code), name
        if name.endswith(".html"):
            between = re.findall(r">([^<>]+)<", re.sub(r"<(title|noscript).*?</\1>", "", text, flags=re.S))
            assert {part.strip() for part in between} <= {"", "ctid"}


def test_every_module_is_served() -> None:
    for name, text in sources().items():
        for module in re.findall(r'from "\./(\w+\.js)"', text):
            assert f"/ui/{module}" in FILES, f"{name} imports {module}"


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh-CN"),
        ("zh-TW", "zh-CN"),
        ("en-US,en;q=0.9", "en"),
        ("fr, en;q=0.5", "en"),
        ("fr", "zh-CN"),
        ("", "zh-CN"),
    ],
)
def test_language_of_a_browser(header: str, language: str) -> None:
    assert preferred(header) == language
    assert words("tlh") == words("en")
