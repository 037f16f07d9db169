"""Addresses of pops, filled from a template that can not be turned against people.

The scheme is from an allow-list and, like the host, written out in the template, so a
caller's number or name can only end up percent-encoded in the path, query or fragment.
"""

from __future__ import annotations

import string
from urllib.parse import quote, urlsplit

from ctid.errors import SettingsError
from ctid.sinks.pop import Pop

PLACES = ("id", "call", "leg", "agent", "queue", "line", "business", "number", "name")
_SCHEMES = ("https", "http")


class PopUrl:
    """A template such as ``https://crm.example/find?tel={number}``.

    Raises:
        SettingsError: Not an address we would open on somebody's screen.
    """

    def __init__(self, template: str) -> None:
        problems = list(_problems(template))
        if problems:
            raise SettingsError([f"pop address {template!r}: {problem}" for problem in problems])
        self._template = template

    def fill(self, pop: Pop) -> str:
        """Return the address for ``pop``; every value is percent-encoded."""
        values = {
            "id": pop.id,
            "call": pop.call,
            "leg": pop.leg,
            "agent": pop.agent,
            "queue": pop.queue,
            "line": pop.line,
            "business": pop.business,
            "number": pop.caller_number,
            "name": pop.caller_name,
        }
        return self._template.format_map({name: quote(value, safe="") for name, value in values.items()})


def _problems(template: str) -> list[str]:
    if any(character in "\\" or not "!" <= character <= "~" for character in template):
        return ["must not hold blanks, backslashes or control characters; percent-encode them"]
    try:
        fields = list(string.Formatter().parse(template))
        address = urlsplit(template)
    except ValueError as error:
        return [f"is not an address: {error}"]
    problems = []
    if address.scheme not in _SCHEMES:
        problems.append("must begin with https:// or http://")
    if not address.hostname or "{" in address.netloc or "@" in address.netloc:
        problems.append("must name its host in full, without user or placeholder")
    for _text, name, form, conversion in fields:
        if name is not None and (name not in PLACES or form or conversion):
            problems.append(f"knows no {{{name}}}; use one of {', '.join(PLACES)}")
    return problems
