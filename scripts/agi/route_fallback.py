#!/usr/bin/env python3
"""Route one call from the last good policy on disk, for when the daemon is not there.

The dialplan runs it by AGI(); CTID_FALLBACK_SCRIPT holds program and arguments, e.g.

    /opt/ctid/venv/bin/python,-Es,/opt/ctid/scripts/agi/route_fallback.py,/var/lib/ctid/last-good-routes.json

and the dialplan appends the dialled number and the caller's. It sets the variables that the
daemon would set, CTID_OK last; whatever goes wrong, it leaves CTID_OK unset, says nothing, and
the dialplan takes its default queue. Nothing of the daemon is imported: it must start fast.
"""

from __future__ import annotations

import json
import os
import sys

# pyst2 needs pprint for its debug output only, but importing it takes a third of our start.
_pprint = type(sys)("pprint")
_pprint.pformat = repr  # type: ignore[attr-defined]
sys.modules.setdefault("pprint", _pprint)

from asterisk.agi import AGI, AGIException, AGIHangup  # type: ignore[import-untyped]  # noqa: E402

TYPE_CHECKING = False  # like typing's, without its start-up time
if TYPE_CHECKING:
    from typing import Any, TextIO

VERSION = 1
"""Of last-good-routes.json; see ctid/routing/writing.py."""


class CarefulAgi(AGI):  # type: ignore[misc]  # pyst2 has no types
    """pyst2's AGI, made fit for names that people chose and for callers who hang up.

    It escapes what pyst2 puts on the wire raw, takes the in-band HANGUP line for what it is (the
    real reply follows) and the end of input as a hang-up, and keeps quiet on stderr, which
    Asterisk would print on its console line by line.
    """

    def __init__(self, stdin: TextIO, stdout: TextIO) -> None:
        with open(os.devnull, "w", encoding="utf-8") as nowhere:
            super().__init__(stdin, stdout, nowhere)
            self.stderr = _Silence()

    def _quote(self, string: object) -> str:
        text = "".join(character for character in str(string) if character >= " ")
        escaped = text.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'

    def get_result(self, stdin: object = None) -> dict[str, tuple[str, str]]:
        """Read the reply to one command.

        Raises:
            AGIHangup: The caller, or Asterisk, is gone.
            AGIException: Asterisk refused the command.
        """
        line = self.stdin.readline()
        while line.startswith("HANGUP"):
            line = self.stdin.readline()
        if not line:
            raise AGIHangup("end of input")
        if not line.startswith("200 result=") or line.startswith("200 result=-1"):
            raise AGIException(line.strip())
        return {"result": (line.strip().removeprefix("200 result="), "")}


class _Silence:
    """Takes what pyst2 would print."""

    def write(self, text: str) -> None:
        """Drop it."""


def variables(route: dict[str, Any], *, is_line: bool) -> dict[str, str]:
    """Turn one route of last-good-routes.json into the dialplan's variables, CTID_OK last."""
    return {
        "CTID_QUEUE": str(route["queue"]),
        "CTID_ACTION": "queue",
        "CTID_PRIORITY": "0",
        "CTID_TIMEOUT": str(route["timeout"]),
        "CTID_OVERFLOW_QUEUE": str(route.get("overflow_queue", "")),
        "CTID_OVERFLOW_TIMEOUT": str(route.get("overflow_timeout", 0)),
        "CTID_AGENT_QUEUE": "",
        "CTID_AGENT_TIMEOUT": "0",
        "CTID_RULE": "",
        "CTID_LANGUAGE": str(route.get("language", "")),
        "CTID_GREETING": str(route.get("greeting", "")),
        "CTID_NAME_PREFIX": str(route.get("name_prefix", "")),
        "CTID_RECORD": "1" if route.get("record", True) else "0",
        "CTID_RECORDING": "",  # the dialplan makes one from the leg's own id
        "CTID_LINE": str(route.get("line", "")) if is_line else "",
        "CTID_BUSINESS": str(route.get("business", "")),
        "CTID_VIP": "0",
        "CTID_OK": "1",
    }


def choose(routes: dict[str, Any], dialled: str) -> dict[str, str]:
    """Return the variables for a dialled number.

    Raises:
        KeyError: The file is of another version, or lacks what it must have.
    """
    if routes["version"] != VERSION:
        raise KeyError("version")
    line = routes["lines"].get(dialled)
    return variables(line or routes["default"], is_line=line is not None)


def main() -> int:
    """Answer one AGI request on standard input and output."""
    try:
        agi = CarefulAgi(sys.stdin, sys.stdout)
        with open(sys.argv[1], encoding="utf-8") as file:
            chosen = choose(json.load(file), sys.argv[2])
        for name, value in chosen.items():
            agi.set_variable(name, value)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, AGIException):
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
