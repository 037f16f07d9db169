"""One connection from login to loss: bytes become batches, questions get answers.

    booting --FullyBooted--> syncing --snapshot--> live
                                ^                    |
                                +--- fell behind ----+

While syncing, events are kept back; the snapshot is delivered first and they follow it.
While live, nothing is kept back; a snapshot is brought up to date with the events that
came while it was collected, and takes its place in the stream (``snapshot.py``).

Nothing here waits for the reader of the batches: if he falls too far behind, what waits
is replaced by one ``LinkLost``, and the session syncs anew.
"""

from __future__ import annotations

import asyncio
import functools
import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec
import structlog

from ctid.ami import actions
from ctid.ami.actions import Action, Reply, serialize
from ctid.ami.batches import Batches, Delivery, LinkObserver
from ctid.ami.decoding import event_of, is_read
from ctid.ami.events import AmiEvent, Gap, LinkLost
from ctid.ami.framing import Frame, Framer
from ctid.ami.guard import Findings, SequenceGuard
from ctid.ami.requests import Done, Request, Requests
from ctid.ami.snapshot import boot_of, brought_up, snapshot_of
from ctid.errors import ActionFailed, ActionTimedOut, AsteriskError, FramingError
from ctid.settings import Asterisk

_log = structlog.get_logger()

#: Seconds between the beginnings of two snapshots; lists take Asterisk's locks.
#: The second one after a login comes as soon as it may: what was only under way then has settled.
SNAPSHOT_GAP: Final = 5.0
#: Seconds. A deadlocked Asterisk still answers pings; only a real list proves it alive.
SNAPSHOT_EVERY: Final = 30.0
#: Seconds between two log lines, or reports to the observer, about the same thing.
_LOG_EVERY: Final = 10.0
_REPORT_EVERY: Final = 1.0

_SNAPSHOT: Final = (
    actions.Ping(),
    actions.CoreSettings(),
    actions.CoreStatus(),
    actions.QueueStatus(),
    actions.CoreShowChannels(),
)


class Lost(Exception):
    """The connection is over.

    Attributes:
        kind: ``unreachable``, ``refused``, ``cut`` (in the middle of the login), ``lost``,
            ``dead`` (no sign of life), ``framing``, ``astray`` (event numbers), ``closed`` (by us).
        why: For people.
        was_in_step: All was well until then.
    """

    def __init__(self, kind: str, why: str) -> None:
        super().__init__(kind, why)
        self.kind = kind
        self.why = why
        self.was_in_step = False


class Session:
    """One connection.

    Args:
        settings: Deadlines, and whether events need numbers.
        batches: Where deliveries go.
        limit: Deliveries that may wait there.
        observer: For metrics.
        write: Puts bytes on the wire.
        end: Gives the connection up.
        answer_login: Gets the reply to the login.

    Attributes:
        booted: Asterisk said that it is up.
        in_sync: A snapshot was delivered, and events since are believed.
        boot: When this Asterisk started.
        system: Its ``systemname``.
    """

    def __init__(
        self,
        settings: Asterisk,
        *,
        batches: Batches,
        limit: int,
        observer: LinkObserver,
        write: Callable[[bytes], None],
        end: Callable[[Lost], None],
        answer_login: Callable[[Frame], None],
    ) -> None:
        self.booted = asyncio.Event()
        self.in_sync = False
        self.boot = datetime.now(UTC)
        self.system = ""
        self._settings = settings
        self._batches = batches
        self._limit = limit
        self._observer = observer
        self._write = write
        self._end = end
        self._answer_login = answer_login
        self._loop = asyncio.get_running_loop()
        self._framer = Framer()
        self._guard = SequenceGuard(require=settings.require_sequence_numbers)
        self._requests = Requests(self._odd_list)
        self._logins: set[str] = set()
        self._alive_at = self._loop.time()
        self._batch: list[Delivery] = []
        self._kept: list[Delivery] | None = []
        self._kept_overflowed = False
        self._since: list[AmiEvent] | None = None
        self._wanted = asyncio.Event()
        self._why = ""
        self._settling: asyncio.TimerHandle | None = None
        self._said: dict[str, float] = {}
        self._reported_at = 0.0

    # -- what arrives ------------------------------------------------------

    def expect_login(self, action_ids: list[str]) -> None:
        """The login was sent under these ActionIDs."""
        self._logins.update(action_ids)
        for action_id in action_ids:
            self._guard.expect(action_id)

    def received(self, data: bytes) -> None:
        """Take in what was read from the socket."""
        now = self._alive_at = self._loop.time()
        try:
            frames = self._framer.feed(data)
        except FramingError as error:
            self._end(Lost("framing", str(error)))
            return
        self._apply(self._guard.sift(frames, now, rest_is_torn=self._framer.rest_is_torn), now)

    def _settle(self) -> None:
        self._settling = None
        now = self._loop.time()
        self._apply(self._guard.settle(now), now)

    def _apply(self, frames: list[Frame], now: float) -> None:
        clock = time.time()
        for frame in frames:
            if frame.kind == "event" and (frame.number is not None or not frame.action_id):
                self._take_event(frame, clock)
            elif frame.action_id in self._logins:
                self._answer_login(frame)
            elif self._requests.answer(frame):
                self._guard.forget(frame.action_id, answered=True)
        if self._guard.findings.resync or self._guard.findings.quarantined:
            self._report_findings(now)
        if self._batch:
            self._deliver(clock)
        if self._settling is None and (deadline := self._guard.deadline) is not None:
            self._settling = self._loop.call_at(deadline, self._settle)
        if now - self._reported_at > _REPORT_EVERY:
            self._report_counts(now)

    def _take_event(self, frame: Frame, clock: float) -> None:
        if frame.name == "FullyBooted":
            # After a login, without a number; or with one, once the boot that we logged in to is over.
            self._note_boot(frame, clock)
            return
        if frame.number is None and not is_read(frame.name, frame.headers):
            return
        try:
            event = event_of(frame.name, frame.headers, clock)
        except msgspec.ValidationError as error:
            self._observer.undecodable(frame.name)
            if self._may_say(f"undecodable {frame.name}", for_ever=True):
                _log.warning("event can not be read, skipped", event_name=frame.name, why=str(error))
            self.request_snapshot(f"{frame.name} could not be read")
            return
        self._batch.append(event)
        if self._since is not None:
            self._since.append(event)

    def _note_boot(self, frame: Frame, clock: float) -> None:
        uptime = frame.headers.get("Uptime", "")
        self.boot = datetime.fromtimestamp(clock - (int(uptime) if uptime.isdigit() else 0), UTC)
        self.booted.set()

    def _deliver(self, clock: float) -> None:
        batch, self._batch = self._batch, []
        newest = batch[-1]
        if isinstance(newest, AmiEvent):
            self._observer.lag(clock - newest.at.timestamp())
        if self._kept is None:
            if self._batches.deliveries + len(batch) > self._limit:
                self._fall_behind(len(batch))
            else:
                self._batches.put_nowait(batch)
        elif len(self._kept) + len(batch) > self._limit:
            self._observer.gap(len(self._kept) + len(batch))
            self._kept = []
            self._kept_overflowed = True
        else:
            self._kept += batch

    def _fall_behind(self, more: int) -> None:
        gone = self._batches.take_all() + more
        _log.error("events are not being worked off, gave them up", events=gone)
        self._observer.gap(gone)
        self._batches.put_nowait([LinkLost(at=datetime.now(UTC), why="fell behind")])
        self._kept = []
        self.in_sync = False
        self.request_snapshot("fell behind")

    # -- what is noticed ---------------------------------------------------

    def _report_findings(self, now: float) -> None:
        found, self._guard.findings = self._guard.findings, Findings()
        for reason, count in found.quarantined.items():
            for _ in range(count):
                self._observer.quarantined(reason)
        if found.missing:
            self._observer.gap(found.missing)
        if found.resync:
            self._batch.append(Gap(at=datetime.now(UTC)))
            if self._may_say("findings"):
                _log.warning(
                    "events not believed or lost", reasons=dict(found.quarantined), missing=found.missing
                )
            self.request_snapshot(found.resync)
        if self._guard.astray:
            self._end(Lost("astray", "the event numbers jumped; only a new login tells where they are"))
        if self._guard.numberless and self._settings.require_sequence_numbers:
            self.in_sync = False
            if self._may_say("numberless"):
                _log.error(
                    "events have no SequenceNumber, so none is believed",
                    remedy="set debug = on in the [general] section of manager.conf, then: manager reload",
                )

    def _report_counts(self, now: float) -> None:
        self._reported_at = now
        for name, count in self._framer.take_counts().items():
            self._observer.event(name, count)

    def _odd_list(self, name: str, what: str) -> None:
        if self._may_say(f"{name} {what}"):
            _log.warning("odd list from Asterisk", action=name, what=what)

    def _may_say(self, what: str, *, for_ever: bool = False) -> bool:
        now = self._loop.time()
        said = self._said.get(what)
        if said is not None and (for_ever or now - said < _LOG_EVERY):
            return False
        self._said[what] = now
        return True

    # -- what is asked -------------------------------------------------------

    async def act(self, action: Action, timeout: timedelta) -> Reply:  # noqa: ASYNC109
        """Send one action, once, and wait for its answer.

        Raises:
            ActionRefused: It is not safe to send.
            ActionFailed: Asterisk said no.
            ActionTimedOut: It said nothing in time; the action may have happened.
            AmiDown: The connection went away meanwhile; likewise.
        """
        answer: asyncio.Future[Reply | AsteriskError] = self._loop.create_future()
        action_id = self._send(action, lambda outcome: _resolve(answer, outcome))
        try:
            async with asyncio.timeout(timeout.total_seconds()):
                outcome = await answer
        except TimeoutError:
            raise ActionTimedOut(f"{type(action).__name__}: no answer in time") from None
        finally:
            if self._requests.drop(action_id):
                self._guard.forget(action_id, answered=False)
        if isinstance(outcome, AsteriskError):
            raise outcome
        return outcome

    def _send(self, action: Action, done: Done) -> str:
        action_id = secrets.token_hex(16)
        line = serialize(action, action_id)
        self._guard.expect(action_id)
        self._requests.add(action_id, Request(action, done))
        self._write(line)
        return action_id

    def abandon(self, error: AsteriskError) -> None:
        """The connection is gone: tell everybody who waits for an answer."""
        self._requests.fail_all(error)
        self._report_counts(self._loop.time())
        if self._settling:
            self._settling.cancel()

    # -- keeping in step -----------------------------------------------------

    async def run(self) -> None:
        """Ping, and take snapshots once Asterisk is up; for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._stay_alive())
            group.create_task(self._stay_in_step())

    async def _stay_alive(self) -> None:
        every = self._settings.ping_every.total_seconds()
        patience = self._settings.dead_after.total_seconds()
        ping_at = self._loop.time()
        while True:
            now = self._loop.time()
            silent = now - self._alive_at
            if silent >= patience:
                self._end(Lost("dead", f"no sign of life for {silent:.0f} s"))
                return
            if now >= ping_at:
                ping_at = now + every
                self._ping()
            await asyncio.sleep(max(0.01, min(ping_at - now, patience - silent)))

    def _ping(self) -> None:
        """Send a ping; its answer is a sign of life like any other byte."""
        begun = self._loop.time()

        def done(outcome: Reply | AsteriskError) -> None:
            result = "ok" if isinstance(outcome, Reply) else "failed"
            self._observer.action("Ping", result, self._loop.time() - begun)

        self._send(actions.Ping(), done)

    def request_snapshot(self, why: str) -> None:
        """Ask for a snapshot soon: one at a time, and not too often."""
        self._why = why
        self._wanted.set()

    async def _stay_in_step(self) -> None:
        await self.booted.wait()
        taken = failed = 0
        while True:
            begun = self._loop.time()
            self._wanted.clear()
            try:
                await self._take_snapshot()
            except AsteriskError as error:
                failed += 1
                # One odd list can be a caller's doing; silence, or another one, is not.
                self.in_sync = self.in_sync and failed == 1 and isinstance(error, ActionFailed)
                _log.error("no snapshot of Asterisk's channels and queues", why=str(error))
                self.request_snapshot("the last one failed")
            else:
                taken, failed = taken + 1, 0
            pause = SNAPSHOT_GAP if taken == 1 else SNAPSHOT_EVERY
            try:
                async with asyncio.timeout(pause):
                    await self._wanted.wait()
                await asyncio.sleep(begun + SNAPSHOT_GAP - self._loop.time())
                _log.info("comparing with Asterisk", why=self._why)
            except TimeoutError:
                self._why = "periodic"

    async def _take_snapshot(self) -> None:
        """Ask for everything at once; the last answer delivers the snapshot.

        Raises:
            AsteriskError: One of the answers was no, or did not come in time.
        """
        done: asyncio.Future[Reply | AsteriskError] = self._loop.create_future()
        asked_at = datetime.now(UTC)
        replies: dict[str, Reply] = {}
        self._since = []

        def answered(name: str, outcome: Reply | AsteriskError) -> None:
            if isinstance(outcome, Reply):
                replies[name] = outcome
                if name == "CoreShowChannels" and "QueueStatus" in replies and not done.done():
                    self._deliver_snapshot(asked_at, replies)
            elif name in (
                "CoreSettings",
                "CoreStatus",
            ):  # only names and dates: better without than not at all
                replies[name] = Reply(headers={})
            if name == "CoreShowChannels" or name not in replies:
                _resolve(done, outcome)

        # Answered in this order; the ping tells Asterisk's clock.
        sent = [
            self._send(action, functools.partial(answered, type(action).__name__)) for action in _SNAPSHOT
        ]
        try:
            async with asyncio.timeout(self._settings.action_timeout.total_seconds()):
                outcome = await done
        except TimeoutError:
            outcome = ActionTimedOut("snapshot: no answer in time")
        finally:
            self._since = None
            for action_id in sent:
                if self._requests.drop(action_id):
                    self._guard.forget(action_id, answered=False)
        if isinstance(outcome, AsteriskError):
            raise outcome

    def _deliver_snapshot(self, asked_at: datetime, replies: dict[str, Reply]) -> None:
        nothing = Reply(headers={})
        clock = replies.get("Ping", nothing).headers.get("Timestamp", "")
        self.system = replies.get("CoreSettings", nothing).headers.get("SystemName", self.system)
        self.boot = boot_of(replies.get("CoreStatus", nothing).headers, self.boot)
        snapshot = snapshot_of(
            at=datetime.fromtimestamp(float(clock), UTC) if clock.replace(".", "").isdigit() else asked_at,
            boot=self.boot,
            system=self.system,
            items=[*replies["QueueStatus"].items, *replies["CoreShowChannels"].items],
            undecodable=self._observer.undecodable,
        )
        self.in_sync = not (self._guard.numberless and self._settings.require_sequence_numbers)
        if self._kept is None:
            self._batch.append(brought_up(snapshot, self._since or ()))
        elif self._kept_overflowed:
            self._kept, self._kept_overflowed, self.in_sync = [], False, False
            self.request_snapshot("too much happened during the snapshot")
        else:
            kept, self._kept = self._kept, None
            self._batch = [snapshot, *kept, *self._batch]


def _resolve(future: asyncio.Future[Reply | AsteriskError], outcome: Reply | AsteriskError) -> None:
    if not future.done():
        future.set_result(outcome)
