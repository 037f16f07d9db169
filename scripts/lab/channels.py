"""What a pretend Asterisk consists of: legs, callers whom an agent took, and phones in queues."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass
class Channel:
    """One leg."""

    uniqueid: str
    name: str
    linkedid: str
    state: str = "Down"
    bridge: str = ""
    queue: str = ""
    application: str = ""
    joined_at: datetime | None = None
    caller: str = ""
    dialled_by: str = ""
    number: str = ""
    exten: str = "s"
    context: str = ""
    shown_name: str = ""
    app: tuple[str, str] = ("", "")
    is_outgoing: bool = False
    dialstatus: str = ""
    hangup_source: str = ""
    position: int = 0
    rung_at: datetime | None = None
    visit: Visit | None = None

    @property
    def shown_number(self) -> str:
        return self.number or (self.name.partition("/")[2].rpartition("-")[0] if self.is_outgoing else "")


@dataclass
class Visit:
    """A caller an agent took, until the queue is done with the two.

    Attributes:
        held, rang: Whole seconds, as ``queue_log`` has them.
    """

    queue: str
    member: str
    phone: str
    connected_at: datetime
    held: int
    rang: int
    position: int


@dataclass
class Seat:
    """One phone in one queue."""

    queue: str
    interface: str
    paused: bool = False
    reason: str = ""
    status: int = 1

    @property
    def member(self) -> str:
        """MemberName: in the lab the number behind the slash."""
        return member_of(self.interface)


def member_of(interface: str) -> str:
    """Return the MemberName of a phone."""
    return interface.partition("/")[2].partition("@")[0].removesuffix("/n")
