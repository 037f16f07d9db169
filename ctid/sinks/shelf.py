"""The folder of recordings: the two files of Asterisk in, one file per recording out.

    FOLDER/<uuid>-caller.wav, FOLDER/<uuid>-agent.wav   written by the dialplan
    FOLDER/YYYY/MM/DD/<uuid>.wav                        left: caller, right: agent (UTC date of its begin)

Everything is opened beneath the folder and never through a link, whatever a name says.
All of it blocks: call it in a thread.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from ctid.errors import CtidError
from ctid.sinks import wav

_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_STORED: Final = re.compile(rf"\d{{4}}/\d{{2}}/\d{{2}}/{_UUID.pattern}\.wav")
_FLAGS: Final = os.O_CLOEXEC | os.O_NOFOLLOW
SIDES: Final = ("caller", "agent")  # left, right


class BadName(CtidError):
    """Not the name of a recording of ours."""


class Found(msgspec.Struct, kw_only=True):
    """What lies in the folder for one recording.

    Attributes:
        legs: Open files by side; only those that hold what Asterisk writes.
        problems: For people: why a side is not among them.
        newest: When the last of them was written to.
    """

    legs: dict[str, tuple[int, wav.Leg]]
    problems: list[str]
    newest: datetime

    @property
    def is_whole(self) -> bool:
        """Both sides are there and Asterisk is done with them."""
        return len(self.legs) == len(SIDES) and all(leg.is_finished for _, leg in self.legs.values())


def is_name(recording: str) -> bool:
    """Tell whether this can be a recording of ours: a UUID in lower case."""
    return _UUID.fullmatch(recording) is not None


def place_of(recording: str, began_at: datetime) -> str:
    """Return where the joined file goes, relative to the folder.

    Raises:
        BadName: Not a UUID.
    """
    if not is_name(recording):
        raise BadName(f"not a UUID: {recording!r}")
    return f"{began_at.astimezone(UTC):%Y/%m/%d}/{recording}.wav"


class Shelf:
    """One folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path_of(self, place: str) -> Path:
        """Return the file at ``place``, as ``place_of`` gave it.

        Raises:
            BadName: Not such a place, or it leads out of the folder.
            FileNotFoundError: Nothing there.
        """
        if not _STORED.fullmatch(place):
            raise BadName(f"not the place of a recording: {place!r}")
        path = self._folder / place
        if path.resolve(strict=True) != self._folder.resolve() / place:
            raise BadName(f"a link on the way to {place!r}")
        return path

    @contextlib.contextmanager
    def found(self, recording: str) -> Iterator[Found]:
        """Open what there is of ``recording``.

        Raises:
            BadName: Not a UUID.
            OSError: The folder can not be read.
        """
        if not is_name(recording):
            raise BadName(f"not a UUID: {recording!r}")
        found = Found(legs={}, problems=[], newest=datetime.fromtimestamp(0, UTC))
        with contextlib.ExitStack() as opened:
            folder = opened.enter_context(_folder(self._folder))
            for side in SIDES:
                with contextlib.suppress(FileNotFoundError):
                    self._look(folder, f"{recording}-{side}.wav", side, found, opened)
            yield found

    def _look(self, folder: int, name: str, side: str, found: Found, opened: contextlib.ExitStack) -> None:
        try:
            file = os.open(name, os.O_RDONLY | os.O_NONBLOCK | _FLAGS, dir_fd=folder)
            opened.callback(os.close, file)
            status = os.fstat(file)
            if not stat.S_ISREG(status.st_mode):
                raise wav.NotWav("it is not a file")
            found.newest = max(found.newest, datetime.fromtimestamp(status.st_mtime, UTC))
            found.legs[side] = (file, wav.read_leg(file))
        except FileNotFoundError:
            raise
        except (wav.NotWav, OSError) as error:
            found.problems.append(f"{name}: {error}")

    def put(self, found: Found, place: str) -> wav.Sound:
        """Join what was found into the file at ``place``: whole, or not at all.

        Raises:
            FileExistsError: Another recording lies there; nothing was changed.
            NotWav: The two can not be joined.
            OSError: No room, or no access.
        """
        *parts, name = place.split("/")
        part = f".{name}.part"
        with contextlib.ExitStack() as opened:
            folder = opened.enter_context(_folder(self._folder))
            for step in parts:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(step, 0o750, dir_fd=folder)
                    os.fsync(folder)
                folder = opened.enter_context(_folder(step, within=folder))
            with contextlib.suppress(FileNotFoundError):
                os.unlink(part, dir_fd=folder)
            file = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | _FLAGS, 0o640, dir_fd=folder)
            opened.callback(os.close, file)
            try:
                sound = wav.join(found.legs.get("caller"), found.legs.get("agent"), file)
                if (before := self._stored(folder, name)) is not None and before != sound:
                    raise FileExistsError(f"{place} holds another recording of the same name")
                os.rename(part, name, src_dir_fd=folder, dst_dir_fd=folder)
                os.fsync(folder)
            except BaseException:
                os.unlink(part, dir_fd=folder)
                raise
        return sound

    def stored(self, place: str) -> wav.Sound | None:
        """Read the file at ``place``; ``None`` if there is none, or it is not whole.

        Raises:
            OSError: It can not be read.
        """
        *parts, name = place.split("/")
        with contextlib.ExitStack() as opened:
            folder = opened.enter_context(_folder(self._folder))
            try:
                for step in parts:
                    folder = opened.enter_context(_folder(step, within=folder))
            except FileNotFoundError:
                return None
            return self._stored(folder, name)

    def _stored(self, folder: int, name: str) -> wav.Sound | None:
        try:
            file = os.open(name, os.O_RDONLY | os.O_NONBLOCK | _FLAGS, dir_fd=folder)
        except FileNotFoundError:
            return None
        try:
            return wav.read_joined(file)
        except wav.NotWav:
            return None
        finally:
            os.close(file)

    def forget_legs(self, recording: str, sides: Iterable[str]) -> None:
        """Delete Asterisk's own files of a recording whose joined file is safe.

        Raises:
            BadName: Not a UUID.
            OSError: They can not be deleted.
        """
        if not is_name(recording):
            raise BadName(f"not a UUID: {recording!r}")
        with _folder(self._folder) as folder:
            for side in sides:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(f"{recording}-{side}.wav", dir_fd=folder)


@contextlib.contextmanager
def _folder(path: Path | str, *, within: int | None = None) -> Iterator[int]:
    # The recordings folder itself may be a link that the operator made; nothing below it may.
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | (os.O_NOFOLLOW if within is not None else 0)
    folder = os.open(path, flags, dir_fd=within)
    try:
        yield folder
    finally:
        os.close(folder)
