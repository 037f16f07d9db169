"""FastAGI bytes to requests and replies, and commands to bytes. No I/O here.

One conversation, as res_agi.c holds it::

    Asterisk                                    ctid
    agi_network: yes
    agi_network_script: route?did=...
    agi_request: agi://...
    agi_callerid: ...      (the caller's own text)
    (blank line)                 ------------->
                                 <-------------  SET VARIABLE CTID_QUEUE "repair"
    200 result=1                 ------------->
    HANGUP                       ------------->  at any moment, also at the very end

What comes before ``agi_request`` is written by the dialplan; what comes after it can be
forged by an outside caller, who may put line breaks into his number. Hence the first of
two equal headers counts, and what we decide upon travels in the query of the script.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Final
from urllib.parse import unquote

import msgspec

from ctid.errors import AgiFramingError

MAX_REQUEST: Final = 16 * 1024
"""Bytes. A real environment has about 700."""
MAX_HEADERS: Final = 128
"""A real environment has about 22."""
MAX_REPLY: Final = 16 * 1024
"""Bytes of one reply, all its lines."""
MAX_COMMAND: Final = 2000
"""Bytes of one command. Asterisk before 2025-07 reads 2048 at a time and would take the
rest of a longer line for the next command."""

SENTINEL: Final = "CTID_OK"

_SCRIPT = re.compile(r"[a-z][a-z0-9_-]{0,39}")
_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]{0,79}")
_UNQUOTABLE = re.compile(r"[\r\n\0]")
_ESCAPES = str.maketrans({'"': '\\"', "\\": "\\\\"})
_REPLY = re.compile(r"([1-9]\d\d)(?:([ -])(.*))?", re.DOTALL)
_RESULT = re.compile(r"result=(\S*)\s*(?:\((.*)\))?", re.DOTALL)


class AgiRequest(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the dialplan asks.

    Attributes:
        script: Name asked for, without its query; empty if there is none or it is not a plain name.
        query: What follows the ``?``; the only part that the caller has no hand in.
        environment: ``agi_*`` headers without that prefix, tens of them; of equal ones the first.
        ignored: Lines that were no header, or a header for the second time.
    """

    script: str
    query: Mapping[str, str]
    environment: Mapping[str, str]
    ignored: int = 0

    @property
    def dialled(self) -> str:
        """The number the caller dialled."""
        return self._asked("did", "extension")

    @property
    def caller(self) -> str:
        """The caller's number as the network gave it; empty if withheld."""
        number = self._asked("caller", "callerid")
        return "" if number == "unknown" else number

    @property
    def call(self) -> str:
        """Linkedid of the call."""
        return self._asked("call", "uniqueid")

    def _asked(self, key: str, header: str) -> str:
        found = self.query.get(key)
        return self.environment.get(header, "") if found is None else found


class Reply(msgspec.Struct, frozen=True, gc=False):
    """What Asterisk answered to one command.

    Attributes:
        code: 200 done, 510 unknown command, 511 not on a dead channel, 520 wrong usage.
        result: What follows ``result=``; empty if nothing does.
        value: What stands in brackets after it; ``None`` if nothing does.
        text: The whole reply without its code, lines joined by line feeds.
    """

    code: int
    result: str = ""
    value: str | None = None
    text: str = ""


_DONE: Final = Reply(200, "1", None, "result=1")


class RequestReader:
    """Collects one request environment.

    Attributes:
        rest: After the request is complete: the bytes that follow it.
    """

    __slots__ = ("_buffer", "rest")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self.rest = b""

    def feed(self, data: bytes) -> AgiRequest | None:
        """Add ``data``; return the request once its blank line is there.

        Raises:
            AgiFramingError: More than ``MAX_REQUEST`` bytes or ``MAX_HEADERS`` headers.
        """
        buffer = self._buffer
        searched = max(0, len(buffer) - 1)
        buffer += data
        end = buffer.find(b"\n\n", searched)
        if end > MAX_REQUEST or (end < 0 and len(buffer) > MAX_REQUEST):
            raise AgiFramingError(f"no end of the request within {MAX_REQUEST} bytes")
        if end < 0:
            return None
        self.rest = bytes(buffer[end + 2 :])
        return request_of(buffer[:end].decode(errors="replace"))


def request_of(text: str) -> AgiRequest:
    """Read a request environment, blank line excluded.

    Raises:
        AgiFramingError: More than ``MAX_HEADERS`` headers.
    """
    lines = text.split("\n")
    if len(lines) > MAX_HEADERS:
        raise AgiFramingError(f"more than {MAX_HEADERS} headers")
    environment: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(": ")
        if colon and name.startswith("agi_"):
            environment.setdefault(name[4:], value)
    script, _, query = environment.get("network_script", "").partition("?")
    return AgiRequest(
        script=script if _SCRIPT.fullmatch(script) else "",
        query=_query(query),
        environment=environment,
        ignored=len(lines) - len(environment),
    )


def _query(text: str) -> dict[str, str]:
    """Split ``a=1&b=``. A plus sign stays one: it begins international numbers."""
    pairs = (part.partition("=") for part in reversed(text.split("&")) if part)
    return {unquote(key): unquote(value) for key, _, value in pairs}


class ReplyReader:
    """Cuts what Asterisk sends after the request into replies.

    ``HANGUP`` lines are taken out wherever they stand: they answer no command, and the
    real reply still comes. ``100 Trying`` announces the real reply and is dropped.

    Attributes:
        hung_up: A ``HANGUP`` line was seen. It says nothing about the call: an absolute
            time-out in the dialplan looks the same.
        ignored: Lines that belong to no reply.
    """

    __slots__ = ("_buffer", "_lines", "_size", "hung_up", "ignored")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._lines: list[str] = []
        self._size = 0
        self.hung_up = False
        self.ignored = 0

    def feed(self, data: bytes) -> Iterator[Reply]:
        """Add ``data`` and yield every reply it completes.

        Raises:
            AgiFramingError: One reply has more than ``MAX_REPLY`` bytes.
        """
        self._buffer += data
        *lines, rest = self._buffer.split(b"\n")
        self._buffer = bytearray(rest)
        for line in lines:
            if line == b"200 result=1" and not self._lines:
                yield _DONE  # what nearly every reply is
            elif reply := self._line(line.rstrip(b"\r").decode(errors="replace")):
                yield reply
        if len(self._buffer) > MAX_REPLY:
            raise AgiFramingError(f"no end of the reply within {MAX_REPLY} bytes")

    def _line(self, line: str) -> Reply | None:
        if self._lines:
            return self._continued(line)
        if line == "HANGUP":
            self.hung_up = True
            return None
        found = _REPLY.fullmatch(line)
        if not found:
            self.ignored += 1
            return None
        if found[2] == "-":
            self._lines, self._size = [line], len(line)
            return None
        return None if found[1] == "100" else _reply(int(found[1]), found[3] or "")

    def _continued(self, line: str) -> Reply | None:
        """Go on with a reply of many lines, such as the usage after 520."""
        code = self._lines[0][:3]
        self._lines.append(line)
        self._size += len(line)
        if self._size > MAX_REPLY:
            raise AgiFramingError(f"no end of the reply within {MAX_REPLY} bytes")
        if not line.startswith(f"{code} "):
            return None
        text = "\n".join(
            part.removeprefix(code)[1:] if part.startswith(code) else part for part in self._lines
        )
        self._lines = []
        return _reply(int(code), text)


def _reply(code: int, text: str) -> Reply:
    found = _RESULT.match(text)
    return Reply(code, found[1], found[2], text) if found else Reply(code, text=text)


def quote(text: str) -> str:
    """Quote one argument so that Asterisk reads back exactly ``text``.

    Inside quotes only ``"`` and ``\\`` mean something to res_agi.c: parse_args(); nothing
    is expanded on this way (``AGIEXECFULL`` concerns EXEC only, which we do not send).

    Raises:
        AgiFramingError: ``text`` has a line break or NUL, which no quoting carries over.
    """
    if _UNQUOTABLE.search(text):
        raise AgiFramingError("a line break or NUL can not be sent to Asterisk")
    return f'"{text.translate(_ESCAPES)}"'


@lru_cache(maxsize=1024)  # but for the recording's UUID, one call is much like the other
def set_variable(name: str, value: str) -> bytes:
    """Return the command that sets a channel variable to exactly ``value``.

    Raises:
        AgiFramingError: The name is not a plain variable's (``FUNCTION()`` would run
            one), the value can not be quoted, or the command is too long.
    """
    if not _VARIABLE.fullmatch(name):
        raise AgiFramingError(f"{name!r} is not the name of a variable")
    try:
        command = f"SET VARIABLE {name} {quote(value)}\n".encode()
    except UnicodeEncodeError as error:
        raise AgiFramingError(f"{name}: not text that UTF-8 can carry") from error
    if len(command) > MAX_COMMAND:
        raise AgiFramingError(f"{name}: more than {MAX_COMMAND} bytes")
    return command


def set_variables(variables: Mapping[str, str]) -> list[bytes]:
    """Return the commands for all ``variables``, the sentinel last whatever their order.

    Raises:
        AgiFramingError: See ``set_variable``.
    """
    commands = [set_variable(name, value) for name, value in variables.items() if name != SENTINEL]
    commands.append(set_variable(SENTINEL, "1"))
    return commands
