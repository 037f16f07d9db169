"""One telephone, one spelling: whatever way a carrier or a person writes a number.

``+86 10 8888 5002``, ``0086 10 88885002`` and ``010-88885002`` are all
``+861088885002``; short codes (``110``, ``12345``) and our own extensions stay as they are.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Final

import phonenumbers
from phonenumbers import NumberParseException, PhoneNumberFormat

#: Country names of Asterisk's indications.conf that are not ISO 3166.
_REGIONS: Final = {"UK": "GB"}
_ALLOWED = re.compile(r"\+?[\d*#]+")
_SPACERS = re.compile(r"[\s().\-/\u2010-\u2015]")


def region_of(country: str) -> str:
    """Return the ISO region of a country as the policy names it (``cn``, ``uk``)."""
    upper = country.upper()
    return _REGIONS.get(upper, upper)


def calling_code(country: str) -> str:
    """Return ``+86`` for ``cn``; empty for a country without one."""
    code = phonenumbers.country_code_for_region(region_of(country))
    return f"+{code}" if code else ""


@lru_cache(maxsize=16_384)
def normalise(text: str, country: str, area_code: str = "") -> str:
    """Return the one spelling of a number.

    Args:
        text: As received or typed; digits of any script, with the usual punctuation.
        country: Where it was dialled, e.g. ``cn``.
        area_code: Put before a number that lacks one, with its zero, e.g. ``010``.

    Returns:
        E.164 with its plus sign if the number is a real one; else its digits, such as a
        short code or an extension; empty if it is no number at all (withheld, ``alice``).
    """
    plain = _SPACERS.sub("", unicodedata.normalize("NFKC", text))
    if not _ALLOWED.fullmatch(plain):
        return ""
    plain = "".join(_digit(character) for character in plain)
    return _real(plain, country) or (_real(area_code + plain, country) if area_code else "") or plain


def _digit(character: str) -> str:
    """Arabic-Indic and other digits become ASCII; ``+``, ``*`` and ``#`` stay."""
    return str(unicodedata.digit(character)) if character.isdigit() else character


def _real(plain: str, country: str) -> str:
    try:
        number = phonenumbers.parse(plain, region_of(country))
    except NumberParseException:
        return ""
    if not phonenumbers.is_valid_number(number):
        return ""
    return phonenumbers.format_number(number, PhoneNumberFormat.E164)


def spellings(number: str) -> tuple[str, ...]:
    """Return the ways a carrier may write a normalised number, itself first."""
    if not number.startswith("+"):
        return (number,)
    parsed = phonenumbers.parse(number)
    national = _SPACERS.sub("", phonenumbers.format_number(parsed, PhoneNumberFormat.NATIONAL))
    digits = number[1:]
    bare = phonenumbers.national_significant_number(parsed)
    return tuple(dict.fromkeys((number, digits, f"00{digits}", national, bare)))


def prefixes_of(prefix: str, country: str) -> frozenset[str]:
    """Return what a normalised number may begin with to match ``prefix``.

    ``139`` matches the mobile ``+86139...`` as well as an extension ``139``; ``010``
    the landline ``+8610...``.
    """
    plain = _SPACERS.sub("", unicodedata.normalize("NFKC", prefix))
    if not _ALLOWED.fullmatch(plain):
        return frozenset()
    if plain.startswith("+"):
        return frozenset({plain})
    return frozenset({plain, calling_code(country) + plain.lstrip("0")})
