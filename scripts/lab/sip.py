"""SIP messages: bytes to records and back, for the simulated phones. No I/O, no clock."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

ALLOW = "INVITE,ACK,CANCEL,BYE,OPTIONS,REFER,NOTIFY,UPDATE,INFO,MESSAGE"
_COMPACT = {"v": "via", "f": "from", "t": "to", "i": "call-id", "m": "contact", "l": "content-length"}


@dataclass(slots=True)
class SipMessage:
    """One request or response.

    Attributes:
        start: Request line or status line.
        headers: (name in lower case, value) in order of arrival; names repeat.
    """

    start: str
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""

    @property
    def is_request(self) -> bool:
        return not self.start.startswith("SIP/2.0")

    @property
    def method(self) -> str:
        """Of the request, or of the request that this answers."""
        return self.start.split(" ", 1)[0] if self.is_request else self.sequence[1]

    @property
    def status(self) -> int:
        """Three digits of a response; 0 for a request."""
        return 0 if self.is_request else int(self.start.split()[1])

    @property
    def call_id(self) -> str:
        return self.first("call-id")

    @property
    def sequence(self) -> tuple[int, str]:
        """CSeq: number and method."""
        number, method = self.first("cseq").split()
        return int(number), method

    @property
    def branch(self) -> str:
        """Transaction id, from the topmost Via."""
        found = re.search(r"branch=([^;,\s]+)", self.first("via"))
        return found[1] if found else ""

    def first(self, name: str) -> str:
        """Return the first header of that name; empty if there is none."""
        return next((value for key, value in self.headers if key == name.lower()), "")

    def all(self, name: str) -> list[str]:
        """Return every header of that name, in order."""
        return [value for key, value in self.headers if key == name.lower()]

    def encode(self) -> bytes:
        """Render for the wire; Content-Length is always right."""
        lines = [self.start, *(f"{key.title()}: {value}" for key, value in self.headers)]
        head = "\r\n".join([*lines, f"Content-Length: {len(self.body)}"])
        return head.encode("utf-8", "surrogateescape") + b"\r\n\r\n" + self.body


def parse(packet: bytes) -> SipMessage:
    """Read one datagram.

    Raises:
        ValueError: It is not SIP (keep-alives, noise).
    """
    head, _, body = packet.partition(b"\r\n\r\n")
    start, *lines = head.decode("utf-8", "replace").split("\r\n")
    if "SIP/2.0" not in start:
        raise ValueError("not SIP")
    headers = []
    for line in lines:
        name, _, value = line.partition(":")
        key = name.strip().lower()
        if key != "content-length":
            headers.append((_COMPACT.get(key, key), value.strip()))
    return SipMessage(start, headers, body)


def tag_of(address: str) -> str:
    """Return the tag of a From or To header; empty if it has none."""
    found = re.search(r";\s*tag=([^;>\s]+)", address)
    return found[1] if found else ""


def uri_of(address: str) -> str:
    """Return the bare URI of a name-addr or addr-spec."""
    found = re.search(r"<([^>]+)>", address)
    return found[1] if found else address.split(";")[0].strip()


def display_name_of(address: str) -> str:
    """Return the name shown to people; empty if there is none."""
    found = re.match(r'\s*"((?:[^"\\]|\\.)*)"', address)
    if found:
        return re.sub(r"\\(.)", r"\1", found[1])
    return address.split("<")[0].strip() if "<" in address else ""


def quoted(name: str) -> str:
    """Return a display name as it goes on the wire."""
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def user_of(address: str) -> str:
    """Return the user part of an address, not unescaped."""
    found = re.match(r"sips?:([^@;>]+)@", uri_of(address))
    return found[1] if found else ""


def token(size: int = 8) -> str:
    """Return a fresh tag, branch or Call-ID part."""
    return secrets.token_hex(size)


def reply(
    request: SipMessage,
    status: str,
    *,
    contact: str,
    to_tag: str = "",
    headers: Sequence[tuple[str, str]] = (),
    body: bytes = b"",
) -> SipMessage:
    """Build the response to a request; ``status`` is for example ``"180 Ringing"``."""
    to = request.first("to")
    if to_tag and not tag_of(to):
        to = f"{to};tag={to_tag}"
    copied = [(key, value) for key, value in request.headers if key in {"via", "record-route"}]
    own = [
        ("from", request.first("from")),
        ("to", to),
        ("call-id", request.call_id),
        ("cseq", request.first("cseq")),
        ("contact", contact),
        ("allow", ALLOW),
        ("supported", "replaces"),
        *headers,
    ]
    if body:
        own.append(("content-type", "application/sdp"))
    return SipMessage(f"SIP/2.0 {status}", copied + own, body)


def session_description(ip: str, port: int, direction: str, version: int) -> bytes:
    """Offer PCMU and telephone events at ``ip:port``."""
    lines = [
        "v=0",
        f"o=- 1 {version} IN IP4 {ip}",
        "s=-",
        f"c=IN IP4 {ip}",
        "t=0 0",
        f"m=audio {port} RTP/AVP 0 101",
        "a=rtpmap:0 PCMU/8000",
        "a=rtpmap:101 telephone-event/8000",
        "a=fmtp:101 0-15",
        "a=ptime:20",
        f"a={direction}",
    ]
    return "\r\n".join([*lines, ""]).encode()


def media_of(body: bytes) -> tuple[tuple[str, int] | None, str]:
    """Return where the other side wants its audio (``None``: nowhere), and its direction."""
    text = body.decode("ascii", "replace")
    address = re.search(r"^c=IN IP4 (\S+)", text, re.MULTILINE)
    port = re.search(r"^m=audio (\d+)", text, re.MULTILINE)
    found = re.search(r"^a=(sendonly|recvonly|inactive|sendrecv)", text, re.MULTILINE)
    direction = found[1] if found else "sendrecv"
    return ((address[1], int(port[1])) if address and port else None), direction


#: What to answer to an offer of that direction.
ANSWER_DIRECTION = {
    "sendrecv": "sendrecv",
    "sendonly": "recvonly",
    "recvonly": "sendonly",
    "inactive": "inactive",
}


def digest(challenge: str, *, user: str, password: str, method: str, uri: str) -> str:
    """Answer a ``WWW-Authenticate`` header (MD5, with or without qop=auth)."""
    asked = {
        key: quoted or bare for key, quoted, bare in re.findall(r'(\w+)=(?:"([^"]*)"|([^,\s]+))', challenge)
    }

    def md5(text: str) -> str:
        return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()

    one = md5(f"{user}:{asked['realm']}:{password}")
    two = md5(f"{method}:{uri}")
    answer = {"username": user, "realm": asked["realm"], "nonce": asked["nonce"], "uri": uri}
    tail = ""
    if "auth" in asked.get("qop", ""):
        cnonce = token(4)
        answer |= {"response": md5(f"{one}:{asked['nonce']}:00000001:{cnonce}:auth:{two}"), "cnonce": cnonce}
        tail = ", qop=auth, nc=00000001"
    else:
        answer["response"] = md5(f"{one}:{asked['nonce']}:{two}")
    if "opaque" in asked:
        answer["opaque"] = asked["opaque"]
    return (
        "Digest " + ", ".join(f'{key}="{value}"' for key, value in answer.items()) + tail + ", algorithm=MD5"
    )
