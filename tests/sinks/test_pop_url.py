"""S25: a caller can not steer the address that opens on an agent's screen."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest
from msgspec.structs import replace

from ctid.errors import SettingsError
from ctid.sinks.pop_url import PLACES, PopUrl
from tests.fakes_web import offer, pop_of

POP = pop_of(offer("c1", "201"))
NASTY = [
    "javascript:alert(1)",
    "\\\\evil\\x",
    "a&b=c#d?e",
    "//evil.example/",
    "王 小明",
    "%0d%0aX: y",
    "{id}",
]


@pytest.mark.parametrize("value", NASTY)
def test_values_only_ever_are_values(value: str) -> None:
    url = PopUrl("https://crm.example/find/{number}?name={name}").fill(
        replace(POP, caller_number=value, caller_name=value)
    )
    parts = urlsplit(url)
    assert (parts.scheme, parts.netloc, parts.fragment) == ("https", "crm.example", "")
    assert parts.path.count("/") == 2
    assert parse_qs(parts.query) == {"name": [value]}


def test_every_place_can_be_filled() -> None:
    PopUrl("https://x.example/" + "/".join(f"{{{place}}}" for place in PLACES)).fill(POP)


@pytest.mark.parametrize(
    "template",
    [
        "javascript:alert({id})",
        "data:text/html,{name}",
        "file:///etc/passwd",
        "https:\\\\evil.example\\{id}",
        "//evil.example/{id}",
        "https://{name}/x",
        "https://user@host/{id}",
        "https://host/{unknown}",
        "https://host/{id!r}",
        "https://host/{id:>9}",
        "https://host/{id.call}",
        "https://host/{}",
        "https://host/{id",
        "https://host/a b",
        "https://host/\n",
        "https:///x",
        "",
    ],
)
def test_unsafe_templates_are_refused(template: str) -> None:
    with pytest.raises(SettingsError, match="pop address"):
        PopUrl(template)
