"""What ctid remembers over its own death: all that went into the core, written down first.

    batch ──▶ inputs log (state_dir/inputs) ──▶ core ──▶ facts
                     └── now and then: the core's whole state (checkpoint), and a shorter log

After ``kill -9`` the core is what it was: the last checkpoint, and every input since once
more. The facts that come out again are the same, to the key, so writing them twice is
harmless. What happened between the last input and the new beginning is not in here;
that is what Asterisk's books are for.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog

from ctid.acd.centre import Centre
from ctid.acd.facts import Fact, Step
from ctid.acd.state import State
from ctid.ami import events as ami
from ctid.ami.events import AmiEvent, Gap, LinkLost, Snapshot
from ctid.errors import LogUnavailable
from ctid.store.segments import SegmentLog
from ctid.store.whole import write_whole

_log = structlog.get_logger()

CHECKPOINT_SECONDS: Final = 30.0
SYNC_SECONDS: Final = 0.5
"""For power cuts; a dead process alone loses nothing that was written."""
RETRY_SECONDS: Final = 5.0
"""Before the next try to write on a disk that is full or broken."""
_MOST_READ: Final = 2_000


class Tick(msgspec.Struct, frozen=True, gc=False):
    """Time passed, as the core was told."""

    at: datetime


class NoteSaved(msgspec.Struct, frozen=True, gc=False):
    """An agent saved his note."""

    at: datetime
    agent: str


class Recovered(msgspec.Struct, frozen=True, gc=False):
    """The next so many inputs are from the books."""

    count: int


Input = AmiEvent | Snapshot | LinkLost | Gap | Tick | NoteSaved | Recovered

#: Every input there is, by the name under which it is written down.
_KINDS: Final[dict[str, type[msgspec.Struct]]] = {
    name: kind
    for name, kind in (vars(ami) | {one.__name__: one for one in (Tick, NoteSaved, Recovered)}).items()
    if isinstance(kind, type)
    and issubclass(kind, (AmiEvent, Snapshot, LinkLost, Gap, Tick, NoteSaved, Recovered))
}
_DECODERS: Final[dict[str, msgspec.msgpack.Decoder[Any]]] = {
    name: msgspec.msgpack.Decoder(kind) for name, kind in _KINDS.items()
}
_ENCODER: Final = msgspec.msgpack.Encoder()
_BATCH: Final = msgspec.msgpack.Decoder(list[tuple[str, msgspec.Raw]])


class Checkpoint(msgspec.Struct, frozen=True):
    """The core after every input up to and with ``number``.

    Attributes:
        log: Which log the number is of; another log means another, or an emptied, folder.
        version: Of ctid; the records of another version may mean something else.
    """

    log: str
    number: int
    version: str
    state: State


class Memory:
    """Keeps the inputs and the checkpoints.

    Args:
        folder: For the checkpoint; the log has one of its own.
        log: Opened.
        version: Of ctid.
    """

    def __init__(self, folder: Path, log: SegmentLog, *, version: str) -> None:
        self._file = folder / "checkpoint"
        self._log = log
        self._version = version
        self._has_hole = False
        self._is_failing = False
        self.is_restored = False

    # -- at the beginning --------------------------------------------------------

    def restore(self, centre: Centre) -> list[Fact]:
        """Make the core what it was; return the facts of what it was told since the checkpoint.

        Without a checkpoint of this ctid and this whole log the core stays as it is, empty, and that
        is what is remembered from now on.

        Raises:
            OSError: The folder can not be written.
        """
        checkpoint = self._read()
        if checkpoint is None:
            write_whole(self._file, self._checkpoint(centre))
            return []
        centre.restore(checkpoint.state)
        self.is_restored = True
        facts: list[Fact] = []
        number = checkpoint.number
        while records := self._log.read(number, _MOST_READ):
            for number, record in records:  # noqa: B007 - the next read begins there
                facts += self._replay(centre, record)
        if centre.last_at is not None:
            # Whoever remembers has not been listening since.
            lost = LinkLost(at=centre.last_at, why="ctid was restarted")
            self.note([lost])
            centre.receive(lost)
        return facts

    def _checkpoint(self, centre: Centre) -> bytes:
        return _ENCODER.encode(
            Checkpoint(
                log=str(self._log.id), number=self._log.last, version=self._version, state=centre.state()
            )
        )

    def _read(self) -> Checkpoint | None:
        try:
            found = msgspec.msgpack.decode(self._file.read_bytes(), type=Checkpoint)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError) as error:
            _log.warning("what was remembered can not be read; beginning anew", why=str(error))
            return None
        if (found.log, found.version) != (str(self._log.id), self._version):
            return None
        if not self._is_whole(found.number):
            _log.warning("what was remembered is damaged; beginning anew, from the books")
            return None
        return found

    def _is_whole(self, number: int) -> bool:
        """Whether every input since is there: a core that was not told one of them would lie."""
        if self._log.last < number:
            return False
        while records := self._log.read(number, _MOST_READ):
            if [one for one, _ in records] != list(range(number + 1, number + 1 + len(records))):
                return False
            number = records[-1][0]
        return number == self._log.last

    def _replay(self, centre: Centre, record: bytes) -> list[Fact]:
        inputs = [_DECODERS[name].decode(raw) for name, raw in _BATCH.decode(record)]
        return [fact for step in apply(centre, inputs) for fact in step.facts]

    # -- while running ------------------------------------------------------------

    def note(self, inputs: Sequence[Input]) -> None:
        """Write down what the core is told next; never raises.

        After a failure (own disk full) the core goes on; nothing is written until a whole
        checkpoint was, for a log with a hole would lie.
        """
        if self._has_hole or not inputs:
            return
        record = _ENCODER.encode([(type(one).__name__, one) for one in inputs])
        try:
            self._log.append([record])
        except LogUnavailable as error:
            self._has_hole = True
            self._note_failing(str(error))

    async def durable(self) -> None:
        """Wait until all that was noted is on the disk.

        Raises:
            LogUnavailable: It can not be written.
        """
        if self._has_hole:
            raise LogUnavailable("the inputs log can not be written")
        await asyncio.to_thread(self._log.sync)

    async def run(
        self, centre: Centre, is_delivered: Callable[[], bool], settled: Callable[[], Awaitable[None]]
    ) -> None:
        """Make the log durable, and checkpoints, for ever.

        Args:
            is_delivered: All facts so far are where they survive us (the spool).
            settled: Waits until those are on the disk.
        """
        while True:
            for _ in range(round(CHECKPOINT_SECONDS / SYNC_SECONDS)):
                await asyncio.sleep(SYNC_SECONDS)
                if self._has_hole:
                    break
                with contextlib.suppress(LogUnavailable):
                    await asyncio.to_thread(self._log.sync)
            await self.checkpoint(centre, is_delivered, settled)
            if self._is_failing:
                await asyncio.sleep(RETRY_SECONDS)

    async def checkpoint(
        self, centre: Centre, is_delivered: Callable[[], bool], settled: Callable[[], Awaitable[None]]
    ) -> None:
        """Put the core's state away, and forget the inputs that made it; never raises."""
        while not is_delivered():  # noqa: ASYNC110 - true for instants only, between two batches
            await asyncio.sleep(0.02)
        try:
            if not self._log.is_open:
                await asyncio.to_thread(self._log.open)
            if self._has_hole:
                # What is noted from here on does not follow on the checkpoint of before.
                self._file.unlink(missing_ok=True)
                self._has_hole = False
            number, state = self._log.last, self._checkpoint(centre)
            await settled()
            await asyncio.to_thread(write_whole, self._file, state)
            await asyncio.to_thread(self._log.forget, number)
        except (OSError, LogUnavailable) as error:
            self._has_hole = self._has_hole or not self._file.exists()
            self._note_failing(str(error))
        else:
            if self._is_failing and not self._has_hole:
                self._is_failing = False
                _log.info("remembers again")

    def _note_failing(self, why: str) -> None:
        if not self._is_failing:
            self._is_failing = True
            _log.error("can not remember; a restart now would have to look everything up", why=why)


def apply(centre: Centre, inputs: Iterable[Input]) -> Iterable[Step]:
    """Tell the core; the one place that knows how, live and at a replay."""
    rest = iter(inputs)
    for one in rest:
        match one:
            case Tick(at=at):
                yield centre.tick(at)
            case NoteSaved(at=at, agent=agent):
                yield centre.end_wrap_up(agent, at)
            case Recovered(count=count):
                yield centre.recover([one for one in islice(rest, count) if isinstance(one, AmiEvent)])
            case Gap():
                pass  # a snapshot was asked for, and follows
            case _:
                yield centre.receive(one)
