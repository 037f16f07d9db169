"""Typed actions to bytes: the only place that writes AMI, so the only place that can be tricked.

AMI is lines: a line break inside a value would be a second action
(``Reason: x\\r\\nAction: Originate``), and Asterisk believes it. So nothing here is
escaped or cleaned: a value that does not fit on its line is refused, whole.

Beyond the wire, an action that can dial or move somebody is refused unless its
target has the fixed, narrow form named in its class: Asterisk's own languages
(``&`` for several phones, ``/regex/`` for several channels, ``,`` for several
variables) are never reachable from a value.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from typing import Final, Literal

import msgspec

from ctid.ami.framing import CONTROL
from ctid.errors import ActionRefused

#: Bytes in one line, line break not counted (Asterisk: 1024).
MAX_LINE: Final = 1000
#: Lines of one action (Asterisk: 128).
MAX_LINES: Final = 100

#: Attributes whose header is not simply the attribute in CamelCase.
_HEADERS: Final = {"caller_id": "CallerID", "sender": "From", "body": "Base64Body", "asynchronous": "Async"}

_NUMBER: Final = re.compile(r"\+?[0-9]{3,20}")
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,79}")
_DEVICE: Final = re.compile(r"(?:PJSIP|SIP|IAX2|DAHDI|Local)/[A-Za-z0-9_.@/;+-]{1,79}")
_VARIABLE: Final = re.compile(r"_{0,2}CTID_[A-Z_]{1,60}")
_READABLE: Final = re.compile(r"[A-Za-z0-9_]{1,79}|CHANNEL\([a-z]{1,20}\)")


def header_of(attribute: str) -> str:
    """Return the AMI header that an action's attribute is written as."""
    return _HEADERS.get(attribute) or "".join(part.capitalize() for part in attribute.split("_"))


class Action(msgspec.Struct, frozen=True, kw_only=True):
    """A request to Asterisk; the class name is the action's name.

    Attributes left at ``None`` or empty are not sent.
    """


class Ping(Action, frozen=True, kw_only=True):
    """Is anybody there?"""


class CoreShowChannels(Action, frozen=True, kw_only=True):
    """List the legs there are."""


class QueueStatus(Action, frozen=True, kw_only=True):
    """List queues, members and waiting callers."""

    queue: str = ""


class CoreSettings(Action, frozen=True, kw_only=True):
    """Version and ``systemname``."""


class CoreStatus(Action, frozen=True, kw_only=True):
    """When Asterisk started."""


class QueuePause(Action, frozen=True, kw_only=True):
    """Pause or unpause a member, in one queue or in all of his.

    Attributes:
        queue: Empty: all queues the interface is a member of.
    """

    interface: str
    paused: bool
    reason: str = ""
    queue: str = ""


class QueueAdd(Action, frozen=True, kw_only=True):
    """Make a phone a member of a queue."""

    queue: str
    interface: str
    member_name: str = ""
    state_interface: str = ""
    penalty: int = 0
    paused: bool = False


class QueueRemove(Action, frozen=True, kw_only=True):
    """Take a phone out of a queue."""

    queue: str
    interface: str


class QueuePenalty(Action, frozen=True, kw_only=True):
    """Change a member's penalty; higher is asked later."""

    interface: str
    penalty: int
    queue: str = ""


class QueueRule(Action, frozen=True, kw_only=True):
    """Show the rules by which penalties relax with waiting time."""

    rule: str = ""


class MessageSend(Action, frozen=True, kw_only=True):
    """Send a SIP text MESSAGE.

    Attributes:
        to: ``pjsip:201`` or ``pjsip:endpoint/sip:uri``; what 16 understands.
        destination: The same on 18 and later, where ``to`` is then the To header only.
        body: Any text; goes over the wire as base64.
    """

    to: str
    sender: str
    body: str
    destination: str = ""


class MixMonitorMute(Action, frozen=True, kw_only=True):
    """Put silence into (1), or sound back into (0), a recording.

    Attributes:
        direction: As Asterisk sees the channel: ``read`` is what comes from it.
    """

    channel: str
    direction: Literal["read", "write", "both"] = "both"
    state: bool


class GetVar(Action, frozen=True, kw_only=True):
    """Read a variable of a leg; also a real sign of life (takes the channel's lock)."""

    variable: str
    channel: str = ""


class Originate(Action, frozen=True, kw_only=True):
    """Ring a phone, then send it to an extension. Never an application, never synchronous.

    Attributes:
        channel: One phone, as the store knows it; never from a client.
        exten: ``+`` and 3 to 20 digits.
        timeout: Milliseconds to ring.
        variables: Pairs; only names beginning with ``CTID_`` (or ``_CTID_``, ``__CTID_``).
    """

    channel: str
    context: str
    exten: str
    priority: int = 1
    caller_id: str = ""
    timeout: int = 30_000
    asynchronous: bool = True
    variables: tuple[tuple[str, str], ...] = ()


class Hangup(Action, frozen=True, kw_only=True):
    """Hang up one leg.

    Attributes:
        cause: ITU-T Q.850; 16 is normal clearing.
    """

    channel: str
    cause: int = 16


class Redirect(Action, frozen=True, kw_only=True):
    """Send one leg to an extension."""

    channel: str
    context: str
    exten: str
    priority: int = 1


class BlindTransfer(Action, frozen=True, kw_only=True):
    """Let this leg's phone transfer its caller to an extension."""

    channel: str
    context: str
    exten: str


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """What Asterisk answered.

    Attributes:
        headers: Keyed by Asterisk's own spelling; ``Output`` lines joined by line breaks.
        items: Of a list action: name and headers of each item, in order.
    """

    headers: dict[str, str]
    items: tuple[tuple[str, dict[str, str]], ...] = ()

    @property
    def message(self) -> str:
        """Asterisk's own words."""
        return self.headers.get("Message", "")


#: These answer with a list that ends with ``EventList: Complete``.
LISTS: Final = (CoreShowChannels, QueueStatus)

#: attribute -> what it must look like, wherever it is used to dial, move or name.
_SHAPES: Final = {
    "context": (_NAME, "a context name"),
    "exten": (_NUMBER, "3 to 20 digits, with or without +"),
    "variable": (_READABLE, "a plain variable, or CHANNEL(...)"),
}


def serialize(action: Action, action_id: str) -> bytes:
    """Write one action for the wire.

    Args:
        action: What to ask.
        action_id: Unguessable, so that nobody else can write its reply.

    Raises:
        ActionRefused: It would not be exactly this action on the wire, or its target
            is not of the form its class promises.
    """
    _check_targets(action)
    lines = [f"Action: {type(action).__name__}", f"ActionID: {action_id}"]
    lines += [f"{header}: {value}" for header, value in _headers(action)]
    if len(lines) > MAX_LINES:
        raise ActionRefused(f"{type(action).__name__}: {len(lines)} lines, at most {MAX_LINES} are safe")
    return b"".join(map(_line, lines)) + b"\r\n"


def _line(text: str) -> bytes:
    name = text.partition(":")[0]
    if CONTROL.search(text):
        raise ActionRefused(f"{name}: has a line break or another control character in it")
    try:
        line = text.encode()
    except UnicodeEncodeError:
        raise ActionRefused(f"{name}: is not Unicode text") from None
    if len(line) > MAX_LINE:
        raise ActionRefused(f"{name}: {len(line)} bytes, at most {MAX_LINE} fit on a line")
    return line + b"\r\n"


def _headers(action: Action) -> Iterator[tuple[str, str]]:
    for attribute in action.__struct_fields__:
        value = getattr(action, attribute)
        if attribute == "variables":
            yield from (("Variable", f"{name}={text}") for name, text in value)
        elif attribute == "body":
            yield header_of(attribute), _base64(value)
        elif isinstance(value, bool):
            yield header_of(attribute), _truth(attribute, value)
        elif value not in ("", None):
            yield header_of(attribute), str(value)


def _truth(attribute: str, value: bool) -> str:
    # MixMonitorMute wants a number, the others understand words (ast_true).
    return str(int(value)) if attribute == "state" else "true" if value else "false"


def _base64(text: str) -> str:
    try:
        return base64.b64encode(text.encode()).decode()
    except UnicodeEncodeError:
        raise ActionRefused("body: is not Unicode text") from None


def _check_targets(action: Action) -> None:
    for attribute, (shape, wanted) in _SHAPES.items():
        value = getattr(action, attribute, None)
        if value is not None and not shape.fullmatch(value):
            raise ActionRefused(f"{type(action).__name__}: {attribute} must be {wanted}")
    if getattr(action, "channel", "").startswith("/"):
        raise ActionRefused(f"{type(action).__name__}: a pattern would hit several channels; name one")
    if isinstance(action, Originate):
        _check_originate(action)


def _check_originate(action: Originate) -> None:
    if not _DEVICE.fullmatch(action.channel):
        raise ActionRefused("Originate: channel must be one phone, such as PJSIP/201")
    if not action.asynchronous:
        raise ActionRefused("Originate: a synchronous one would hold up every other event")
    for name, value in action.variables:
        if not _VARIABLE.fullmatch(name):
            raise ActionRefused("Originate: only variables named CTID_... may be set")
        if "," in value:
            raise ActionRefused(f"Originate: {name}: a comma would begin another variable")
