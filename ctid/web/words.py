"""The catalogues of words, one per language; pages of the server use the same as the browser."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Final

LANGUAGES: Final = ("zh-CN", "en")


@cache
def words(language: str) -> dict[str, str]:
    """Return the catalogue of a language: key to text; English for one we do not have."""
    name = language if language in LANGUAGES else "en"
    text = files("ctid.web").joinpath("ui", "locales", f"{name}.json").read_text(encoding="utf-8")
    catalogue: dict[str, str] = json.loads(text)
    return catalogue


def preferred(accept_language: str) -> str:
    """Return the first of our languages that the header names; Chinese if it names none."""
    for part in accept_language.split(","):
        tag = part.partition(";")[0].strip().lower()
        if tag.startswith("zh"):
            return "zh-CN"
        if tag.startswith("en"):
            return "en"
    return "zh-CN"
