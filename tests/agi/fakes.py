"""Asterisk's end of FastAGI: words as it splits them, lines as it reads them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

MAX_ARGS = 128

ENVIRONMENT = (
    b"agi_network: yes\n"
    b"agi_network_script: route?did=5002&caller=%2B8613800138000\n"
    b"agi_request: agi://127.0.0.1:4573/route?did=5002&caller=%2B8613800138000\n"
    b"agi_channel: PJSIP/trunk-0000002a\n"
    b"agi_language: en\n"
    b"agi_type: PJSIP\n"
    b"agi_uniqueid: 1795380308.42\n"
    b"agi_version: 22.10.1\n"
    b"agi_callerid: +8613800138000\n"
    b"agi_calleridname: \xe7\x8e\x8b\xe5\xb0\x8f\xe6\x98\x8e\n"
    b"agi_callingpres: 0\n"
    b"agi_callingani2: 0\n"
    b"agi_callington: 0\n"
    b"agi_callingtns: 0\n"
    b"agi_dnid: 5002\n"
    b"agi_rdnis: unknown\n"
    b"agi_context: ctid-route\n"
    b"agi_extension: 5002\n"
    b"agi_priority: 5\n"
    b"agi_enhanced: 0.0\n"
    b"agi_accountcode: \n"
    b"agi_threadid: 139937110894272\n"
    b"\n"
)


def words_of(line: str) -> list[str]:
    """Split a command as res_agi.c: parse_args() of Asterisk 16 and 22 does, state by state."""
    words: list[str] = []
    quoted = escaped = False
    between = True
    for character in line:
        if character == '"' and not escaped:
            quoted = not quoted
            if quoted and between:
                words.append("")
                between = False
        elif character in " \t" and not quoted and not escaped:
            between = True
        elif character == "\\" and not escaped:
            escaped = True
        else:
            if between:
                if len(words) >= MAX_ARGS - 1:
                    continue
                words.append("")
                between = False
            words[-1] += character
            escaped = False
    return words


@dataclass
class Channel:
    """A call in AGI().

    Reads as res_agi.c: run_agi() does: it waits for the socket to be readable, then takes
    one line out of a stdio buffer. Lines already in that buffer do not make the socket
    readable; only more bytes or the end of file do.

    Attributes:
        variables: Set by the server.
        commands: As they arrived.
        refuse: Reply to every command instead of executing it.
    """

    variables: dict[str, str] = field(default_factory=dict)
    commands: list[str] = field(default_factory=list)
    refuse: bytes = b""

    async def ask(self, port: int, environment: bytes = ENVIRONMENT) -> dict[str, str]:
        """Run AGI() to its end and return the variables.

        Raises:
            TimeoutError: The conversation did not end within 10 s.
        """
        async with asyncio.timeout(10):
            return await self._converse(port, environment)

    async def _converse(self, port: int, environment: bytes) -> dict[str, str]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(environment)
            buffer = b""
            while True:
                data = await reader.read(4096)
                line, newline, buffer = (buffer + data).partition(b"\n")
                if newline:
                    writer.write(self._execute(line.decode()))
                elif not data:
                    break
                else:
                    buffer = line
            writer.write(b"HANGUP\n")
            await writer.drain()
        finally:
            writer.close()
            await writer.wait_closed()
        return self.variables

    def _execute(self, line: str) -> bytes:
        self.commands.append(line)
        words = words_of(line)
        if self.refuse:
            return self.refuse
        if words[:2] != ["SET", "VARIABLE"] or len(words) != 4:
            return b"510 Invalid or unknown command\n"
        self.variables[words[2]] = words[3]
        return b"200 result=1\n"
