"""Recordings: finds the files of each, joins them, and tells what became of it.

    stopped --settle--> looked for --both sides closed by Asterisk----------> complete
                            |------quiet, but never closed (Asterisk died)--> repaired
                            |------shorter than it should be----------------> truncated
                            |------give_up, and nothing there---------------> missing
                            '------nobody talked, and nothing there---------> empty

The joined file has the caller on the left and the agent on the right. Asterisk's own two
files are deleted only once the joined one is on disk and was read back.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec
import structlog

from ctid.acd.facts import Fact, RecordingStopped, TalkEnded
from ctid.errors import StoreError
from ctid.settings import Archive
from ctid.sinks import shelf, wav
from ctid.sinks.shelf import Shelf
from ctid.store import recordings
from ctid.store.pool import Pool
from ctid.store.recordings import Filed, Recording, Result, Unfiled

_log = structlog.get_logger()

_TOLERANCE: Final = timedelta(seconds=1)
_TOLERANCE_RATIO: Final = 0.02
_QUIET: Final = timedelta(seconds=10)
"""An open file that nobody wrote to for so long is not being recorded any more."""
_REMEMBERED_CALLS: Final = 10_000
_SLOWEST: Final = timedelta(minutes=1)
_RECALL_EVERY: Final = timedelta(seconds=5)
_FASTEST: Final = timedelta(milliseconds=200)


class _Job(msgspec.Struct, kw_only=True):
    """One recording to be filed.

    Attributes:
        filed: What was found, once it was; then only PostgreSQL has to be told.
        wait: Until the next try.
    """

    stopped: Unfiled
    filed: Filed | None = None
    wait: timedelta = _FASTEST


def is_short(duration: timedelta, expected: timedelta) -> bool:
    """Tell whether more is lacking than clocks and frames explain: 2 % or a second."""
    return duration < expected - max(expected * _TOLERANCE_RATIO, _TOLERANCE)


def path_of(folder: Path, recording: Recording) -> Path | None:
    """Return the playable file of a recording; ``None`` if it has none.

    Raises:
        BadName: Its path leads out of ``folder``.
        FileNotFoundError: The file is gone.
    """
    return Shelf(folder).path_of(recording.path) if recording.path else None


class ArchiveSink:
    """Files recordings one after the other, beside the flow of facts; ``run`` does the work."""

    name = "archive"

    def __init__(
        self,
        pool: Pool,
        folder: Path,
        settings: Archive,
        *,
        on_filed: Callable[[str, timedelta], None] = lambda result, lag: None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """File into ``folder``, where the dialplan records.

        Args:
            on_filed: Told the result and the time since the recording stopped.
        """
        self._pool = pool
        self._shelf = Shelf(folder)
        self._settings = settings
        self._on_filed = on_filed
        self._now = now
        self._jobs: list[tuple[float, int, _Job]] = []
        self._numbers = itertools.count()
        self._known: set[str] = set()
        self._talks: dict[str, dict[tuple[str, datetime], timedelta]] = {}
        self._filled = asyncio.Event()

    @property
    def pending(self) -> int:
        """Recordings not filed yet."""
        return len(self._known)

    async def write(self, facts: Sequence[Fact]) -> None:
        """Take note of recordings that stopped; never raises.

        What is only noted when ctid dies is found again in PostgreSQL by ``run``.
        """
        for fact in facts:
            if isinstance(fact, TalkEnded) and not fact.assisted:
                self._add_talk(fact)
            elif isinstance(fact, RecordingStopped):
                stopped = Unfiled(
                    recording=fact.recording,
                    call=fact.call,
                    began_at=fact.began_at,
                    stopped_at=fact.at,
                    expected=fact.expected,
                )
                self._note(stopped, self._settings.settle)

    async def run(self) -> None:
        """File for ever, beginning with what was left undone."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._recall())
            while True:
                await self._file(await self._next())

    def _note(self, stopped: Unfiled, after: timedelta) -> None:
        if not shelf.is_name(stopped.recording):
            _log.warning("recording has no name of ours and is not filed", recording=stopped.recording)
        elif stopped.recording not in self._known:
            self._known.add(stopped.recording)
            self._put(_Job(stopped=stopped), after)

    def _add_talk(self, fact: TalkEnded) -> None:
        # By what was said, not as a sum: the same fact may come twice.
        talks = self._talks.setdefault(fact.call, {})
        talks[fact.leg, fact.began_at] = fact.talked + fact.held
        while len(self._talks) > _REMEMBERED_CALLS:
            del self._talks[next(iter(self._talks))]

    def _talked(self, stopped: Unfiled) -> timedelta:
        """How long agents had the caller, as far as that is known."""
        return max(stopped.talked, sum(self._talks.get(stopped.call, {}).values(), timedelta(0)))

    def _put(self, job: _Job, after: timedelta) -> None:
        due = asyncio.get_running_loop().time() + after.total_seconds()
        heapq.heappush(self._jobs, (due, next(self._numbers), job))
        self._filled.set()

    async def _next(self) -> _Job:
        """Wait for the next job that is due."""
        clock = asyncio.get_running_loop().time
        while True:
            self._filled.clear()
            left = self._jobs[0][0] - clock() if self._jobs else None
            if left is not None and left <= 0:
                return heapq.heappop(self._jobs)[2]
            try:
                async with asyncio.timeout(left):
                    await self._filled.wait()
            except TimeoutError:
                continue

    async def _recall(self) -> None:
        """Note what stopped in an earlier life, or outlived one: then nobody tells its end."""
        wait = _FASTEST
        while True:
            try:
                left = await recordings.unfiled(self._pool)
            except StoreError:
                await asyncio.sleep(wait.total_seconds())
                wait = min(wait * 2, _SLOWEST)
                continue
            for one in left:
                if self._now() - one.stopped_at > self._settings.settle:
                    self._note(one, timedelta(0))
            wait = _FASTEST
            await asyncio.sleep(_RECALL_EVERY.total_seconds())

    async def _file(self, job: _Job) -> None:
        # Only now: the end of the talk may have been told after the end of the recording.
        talked = self._talked(job.stopped)
        expected = min(talked, job.stopped.expected)
        stopped = msgspec.structs.replace(job.stopped, talked=talked, expected=expected)
        try:
            job.filed = job.filed or await asyncio.to_thread(self._look, stopped)
            if job.filed and await recordings.file(self._pool, job.filed):
                self._tell(job.filed, stopped)
        except (OSError, StoreError) as error:
            _log.warning("recording can not be filed yet", recording=stopped.recording, why=str(error))
        else:
            if job.filed:
                self._known.discard(stopped.recording)
                return
        job.wait = min(job.wait * 2, _SLOWEST)
        self._put(job, job.wait)

    def _tell(self, filed: Filed, stopped: Unfiled) -> None:
        if filed.problem:
            _log.warning(
                "recording is not as it should be",
                recording=filed.recording,
                result=filed.result,
                why=filed.problem,
            )
        self._on_filed(filed.result, max(timedelta(0), self._now() - stopped.stopped_at))

    # -- in a thread -----------------------------------------------------------

    def _look(self, stopped: Unfiled) -> Filed | None:
        """Look for the files and join them; ``None``: not yet.

        Raises:
            OSError: No room, or no access; Asterisk's files are still there.
        """
        place = shelf.place_of(stopped.recording, stopped.began_at)
        with self._shelf.found(stopped.recording) as found:
            if not found.legs and not found.problems:
                return self._without_legs(stopped, place)
            if self._may_still_come(stopped, found):
                return None
            if not found.legs:
                return self._filed(stopped, place, None, "missing", "; ".join(found.problems))
            try:
                sound = self._shelf.put(found, place)
            except (FileExistsError, wav.NotWav) as error:
                kept = "; ".join([*found.problems, str(error), "Asterisk's own files are kept"])
                return self._filed(stopped, place, self._shelf.stored(place), "truncated", kept)
            self._shelf.forget_legs(stopped.recording, found.legs)
        result, problem = _judged(stopped, found, sound)
        return self._filed(stopped, place, sound, result, problem)

    def _without_legs(self, stopped: Unfiled, place: str) -> Filed | None:
        if sound := self._shelf.stored(place):  # joined in an earlier life, but PostgreSQL was not told
            short = is_short(sound.duration, stopped.expected)
            problem = _shortage(sound, stopped) if short else ""
            return self._filed(stopped, place, sound, "truncated" if short else "complete", problem)
        if stopped.expected <= _TOLERANCE:
            return self._filed(stopped, place, None, "empty", "")
        if self._now() - stopped.stopped_at < self._settings.give_up:
            return None
        return self._filed(stopped, place, None, "missing", "Asterisk left no file")

    def _may_still_come(self, stopped: Unfiled, found: shelf.Found) -> bool:
        if found.is_whole:
            return False
        now = self._now()
        if len(found.legs) + len(found.problems) < len(shelf.SIDES):
            return now - stopped.stopped_at < self._settings.give_up
        return bool(found.legs) and now - found.newest < max(_QUIET, self._settings.settle)

    def _filed(
        self, stopped: Unfiled, place: str, sound: wav.Sound | None, result: Result, problem: str
    ) -> Filed:
        if sound is None:
            return Filed(recording=stopped.recording, result=result, problem=problem)
        return Filed(
            recording=stopped.recording,
            result=result,
            problem=problem,
            path=place,
            duration=sound.duration,
            size_bytes=sound.size_bytes,
            sha256=sound.sha256,
        )


def _judged(stopped: Unfiled, found: shelf.Found, sound: wav.Sound) -> tuple[Result, str]:
    absent = [f"the {side}'s side is missing" for side in shelf.SIDES if side not in found.legs]
    if absent or found.problems:
        return "truncated", "; ".join([*absent, *found.problems])
    if is_short(sound.duration, stopped.expected):
        return "truncated", _shortage(sound, stopped)
    if not found.is_whole:
        return "repaired", "Asterisk did not close the file; its length was taken from its size"
    return "complete", ""


def _shortage(sound: wav.Sound, stopped: Unfiled) -> str:
    there, due = sound.duration.total_seconds(), stopped.expected.total_seconds()
    return f"{there:.1f} s long instead of {due:.1f} s"
