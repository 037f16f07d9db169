"""Where a server that refuses to run as root runs, and as whom.

An ordinary user runs it as himself, in the folder he names. Root runs it as ``postgres`` or ``nobody``; if
that user can not enter the folder, say because the repository is below /root, the server's files are put in
a private folder below the system's temporary one, and the named folder remembers which. Programs that he
can not reach are copied there as well. No right of any folder that is not ours is changed.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from lab.errors import LabError
from lab.prefix import replace

SOCKET_PATH_BYTES = 107
"""Longest path of a Unix socket (sockaddr_un has 108 bytes, the last one is zero)."""

_SOCKET_NAME = "/.s.PGSQL.5432.lock"


@dataclass(frozen=True)
class Seat:
    """A place for one server, its user and its programs.

    Attributes:
        data: The data folder; may not exist yet. Its parent belongs to us.
        socket: Folder of the Unix socket; only the user (and root) may enter.
        programs: Where the server's programs are, readable for the user.
        uid: The user, ``None`` if it is the one we are.
        stand_ins: Folders that were made elsewhere in place of the one named.
        notes: Files in the named folder that remember where.
    """

    data: Path
    socket: Path
    programs: Path
    uid: int | None = None
    gid: int | None = None
    stand_ins: tuple[Path, ...] = ()
    notes: tuple[Path, ...] = ()

    @property
    def log(self) -> Path:
        """The server's log file."""
        return self.data.with_name("log")

    def run(self, program: str, *words: str) -> subprocess.CompletedProcess[str]:
        """Run one of the programs to its end, as the user."""
        return subprocess.run(
            [self.programs / program, *words],
            capture_output=True,
            text=True,
            check=False,
            cwd=self.data.parent,
            env=_environment(),
            user=self.uid,
            group=self.gid,
            extra_groups=None if self.uid is None else [],
        )

    def spawn(self, program: str, *words: str, log: BinaryIO) -> subprocess.Popen[bytes]:
        """Start one of the programs, as the user, apart from our terminal."""
        return subprocess.Popen(
            [self.programs / program, *words],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=self.data.parent,
            env=_environment(),
            user=self.uid,
            group=self.gid,
            extra_groups=None if self.uid is None else [],
            start_new_session=True,  # Ctrl-C is for us; we stop it in order
        )

    def erase(self) -> None:
        """Remove the data, the log, the socket's folder and whatever stands in for the named folder."""
        for folder in (self.data, self.socket, *self.stand_ins):
            shutil.rmtree(folder, ignore_errors=True)
        for file in (self.log, *self.notes):
            file.unlink(missing_ok=True)


def take_seat(folder: Path, programs: Path) -> Seat:
    """Make ``folder``, or one in its stead, fit for a server that must not be root.

    Args:
        folder: Where the server's files shall be; made if need be.
        programs: Where its programs are.

    Raises:
        LabError: As root: there is no unprivileged user.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if os.geteuid() != 0:
        folder.chmod(0o700)
        return Seat(folder / "data", _socket_folder(folder, folder), programs, notes=_notes(folder))
    user = _unprivileged_user()
    home = folder if _can_enter(user, folder) else _stand_in(folder)
    _own(home, user)
    if not _can_enter(user, programs):
        programs = _reachable_copy(programs)
    socket = _socket_folder(folder, home)
    _own(socket, user)
    stand_ins = () if home == folder else (home,)
    return Seat(home / "data", socket, programs, user.pw_uid, user.pw_gid, stand_ins, _notes(folder))


def _unprivileged_user() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise LabError(
        "PostgreSQL must not run as root and there is no user nobody.", "run this as another user."
    )


def _can_enter(user: pwd.struct_passwd, folder: Path) -> bool:
    """Ask the kernel, as the user, whether every folder above lets him through."""
    # A closed folder is ours to give away; then only the way to it counts.
    is_open = folder.stat().st_uid == user.pw_uid or folder.stat().st_mode & 0o005 == 0o005
    done = subprocess.run(
        ["/bin/sh", "-c", 'cd -- "$0"', str(folder if is_open else folder.parent)],
        check=False,
        capture_output=True,
        cwd="/",
        user=user.pw_uid,
        group=user.pw_gid,
        extra_groups=[],
    )
    return done.returncode == 0


def _own(folder: Path, user: pwd.struct_passwd) -> None:
    os.chown(folder, user.pw_uid, user.pw_gid)
    folder.chmod(0o700)


def _notes(folder: Path) -> tuple[Path, Path]:
    """Name the files that remember a folder in place of ``folder`` and of its socket's folder."""
    return folder / "elsewhere", folder / "socket-elsewhere"


def _stand_in(folder: Path) -> Path:
    """Return the folder that stands in for ``folder``, the same one every time."""
    note, _ = _notes(folder)
    return _remembered(note) or _remember(note)


def _socket_folder(folder: Path, home: Path) -> Path:
    """Return a folder whose path leaves room for the socket's name, the same one every time."""
    near = home / "socket"
    if len(os.fsencode(near)) + len(_SOCKET_NAME) <= SOCKET_PATH_BYTES:
        near.mkdir(exist_ok=True, mode=0o700)
        return near
    _, note = _notes(folder)
    return _remembered(note) or _remember(note)


def _remembered(note: Path) -> Path | None:
    """Return the folder that a note names, unless it was swept away or is somebody else's by now."""
    try:
        place = Path(note.read_text().strip())
        owner = place.lstat().st_uid
    except OSError:
        return None
    ours = {os.geteuid(), _unprivileged_user().pw_uid if os.geteuid() == 0 else os.geteuid()}
    return place if owner in ours and place.is_dir() and not place.is_symlink() else None


def _remember(note: Path) -> Path:
    place = Path(tempfile.mkdtemp(prefix="ctid-"))
    note.write_text(f"{place}\n")
    return place


def _reachable_copy(programs: Path) -> Path:
    """Return a copy of a fetched set's programs that every user can run; made once, then remembered."""
    prefix = next((above for above in programs.parents if (above / "recipe").exists()), None)
    if prefix is None:
        raise LabError(f"The PostgreSQL in {programs} can only be run by root.", "install postgresql-15.")
    note = prefix.with_name(f"{prefix.name}-copied-to")
    with note.with_suffix(".lock").open("w") as only_one:
        fcntl.flock(only_one, fcntl.LOCK_EX)
        copy = (_remembered(note) or _remember(note)) / prefix.name
        if not (copy / "recipe").exists() or (copy / "recipe").read_text() != (prefix / "recipe").read_text():
            _copy(prefix, copy)
    return copy / programs.relative_to(prefix)


def _copy(prefix: Path, copy: Path) -> None:
    new = copy.with_name(f"{copy.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    # LLVM is two thirds of it and only for jit, which is off.
    shutil.copytree(prefix, new, symlinks=True, ignore=shutil.ignore_patterns("libLLVM*"))
    copy.parent.chmod(0o755)
    replace(copy, new)


def _environment() -> dict[str, str]:
    # PG* variables of the person at the terminal are about other servers.
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
    return kept | {"LC_ALL": "C.UTF-8"}
