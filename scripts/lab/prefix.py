"""A folder with unpacked packages whose programs run with their own libraries, wherever the folder is."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lab.errors import FetchFailed
from lab.progress import Report

WRAPPERS = "run"
"""Folder inside the prefix that holds one small script per program."""

UNWANTED = (
    "./usr/share/doc",
    "./usr/share/man",
    "./usr/share/locale",
    "./usr/share/i18n",
    "./usr/share/mime",
    "./usr/share/perl",
    "./usr/share/perl5",
    "./usr/lib/systemd",
    "./usr/lib/*-linux-gnu/perl",
    "./usr/lib/*-linux-gnu/perl-base",
    "./usr/lib/*-linux-gnu/gconv",
    "./var/lib",
)
"""What no program of ours reads; a third of the disk space."""

_LIBRARIES = ("lib/*-linux-gnu", "usr/lib/*-linux-gnu", "usr/lib", "usr/lib/*-linux-gnu/pulseaudio")
_LOADERS = ("lib/*-linux-gnu/ld-linux*.so.*", "usr/lib/*-linux-gnu/ld-linux*.so.*")


def unpack(packages: Sequence[Path], prefix: Path, report: Report) -> None:
    """Unpack .deb files into one folder. No maintainer script runs, nothing outside the folder changes.

    Args:
        packages: Verified .deb files.
        prefix: A folder that is not there yet.

    Raises:
        FetchFailed: A package can not be unpacked.
    """
    prefix.mkdir(parents=True)
    prefix.chmod(0o755)  # whatever root's umask: an unprivileged user may have to run what is inside
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for number, _ in enumerate(pool.map(lambda package: _unpack_one(package, prefix), packages), 1):
            report(f"unpacking {len(packages)} packages", number / len(packages))
    _drop_privileges(prefix)


def _unpack_one(package: Path, prefix: Path) -> None:
    # Read by dpkg-deb, written by tar: tar can leave things out and keeps base-files' /lib -> usr/lib links
    # from replacing folders that are already there.
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE) as reader:
        excluded = [f"--exclude={pattern}" for pattern in UNWANTED]
        options = ["--no-same-owner", "--keep-directory-symlink", *excluded]
        command = ["tar", "-x", "-C", str(prefix), *options]
        writer = subprocess.run(command, stdin=reader.stdout, capture_output=True, text=True, check=False)
    if reader.returncode or writer.returncode:
        said = writer.stderr.strip().splitlines()[-1:] or ["dpkg-deb failed."]
        raise FetchFailed(
            f"{package.name} can not be unpacked: {said[0]}",
            "look for free disk space (df -h); if there is enough, delete that file and run it again.",
        )


def _drop_privileges(prefix: Path) -> None:
    """Take set-uid and set-gid rights away: unpacked by root, they would be real."""
    for folder, _, files in os.walk(prefix):
        for name in files:
            path = Path(folder, name)
            mode = path.lstat().st_mode
            if stat.S_ISREG(mode) and mode & (stat.S_ISUID | stat.S_ISGID):
                path.chmod(stat.S_IMODE(mode) & 0o777)


def wrap(prefix: Path, program: str) -> Path:
    """Write the script that runs a program with the prefix's own loader and libraries.

    The script finds everything relative to itself, so that the whole folder may be moved.

    Args:
        prefix: The unpacked folder.
        program: Path inside the prefix; may hold ``*``, the first match counts.

    Raises:
        FetchFailed: The packages do not hold the program.
    """
    target = next(iter(sorted(prefix.glob(program))), None)
    if target is None:
        raise FetchFailed(f"The fetched packages hold no {program}.", "report it: Debian has moved it.")
    command = f'"$here/../{target.relative_to(prefix)}" "$@"'
    if needed := _loader_of(prefix, target):
        command = f'"$here/../{needed}" --library-path "{search_path(prefix, "$here/..")}" {command}'
    wrapper = prefix / WRAPPERS / target.name
    _write_script(wrapper, command)
    return wrapper


def wrap_in_place(prefix: Path, program: str) -> None:
    """Put the script where the program was, for programs that start their neighbours by path.

    PostgreSQL's initdb runs the ``postgres`` beside it, and both find ``share/`` from their own path.
    """
    for target in list(prefix.glob(program)):
        needed = _loader_of(prefix, target)
        if needed is None or target.is_symlink():
            continue
        real = target.rename(target.with_name(f"{target.name}.elf"))
        up = "/".join(".." for _ in target.relative_to(prefix).parent.parts)
        libraries = search_path(prefix, f"$here/{up}")
        command = f'"$here/{up}/{needed}" --library-path "{libraries}" --argv0 "$0" "$here/{real.name}" "$@"'
        _write_script(target, command)


def _write_script(path: Path, command: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\nhere=${{0%/*}}\nexec {command}\n")
    path.chmod(0o755)


def search_path(prefix: Path, start: str) -> str:
    """Return the loader's search path; ``start`` stands for the prefix in it."""
    return ":".join(f"{start}/{folder.relative_to(prefix)}" for folder in _matches(prefix, _LIBRARIES))


def loader(prefix: Path) -> Path:
    """Return the prefix's dynamic loader.

    Raises:
        FetchFailed: There is none: the packages hold no dynamic program.
    """
    # Not /lib64/ld-linux: before Debian 13 that is an absolute link, which leads out of the prefix.
    for path in _matches(prefix, _LOADERS):
        return path
    raise FetchFailed(f"There is no dynamic loader in {prefix}.", "delete that folder and run it again.")


def _loader_of(prefix: Path, target: Path) -> Path | None:
    """Return the loader, relative to the prefix, if ``target`` needs one."""
    path = loader(prefix)
    # 0: a dynamic program; 2: one without a fixed loader; 1: a script or a static program.
    verdict = subprocess.run([path, "--verify", target], capture_output=True, check=False)
    return path.relative_to(prefix) if verdict.returncode in (0, 2) else None


def _matches(prefix: Path, patterns: Sequence[str]) -> Iterator[Path]:
    for pattern in patterns:
        yield from sorted(prefix.glob(pattern))


def replace(prefix: Path, new: Path) -> None:
    """Put a finished folder in the place of an older or unfinished one."""
    old = prefix.with_name(f"{prefix.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if prefix.exists():
        prefix.rename(old)
    new.rename(prefix)
    shutil.rmtree(old, ignore_errors=True)
