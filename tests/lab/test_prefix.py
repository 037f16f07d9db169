"""Packages are unpacked completely, harmlessly and movably, or not at all."""

import stat
import subprocess
from pathlib import Path

import pytest

from lab import prefix as prefixes
from lab.errors import FetchFailed
from lab.progress import ignore


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A small .deb made here: a script, a set-uid program, a manual page."""
    tree = tmp_path / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN/control").write_text(
        "Package: greeting\nVersion: 1:2.0\nArchitecture: all\n"
        "Maintainer: Nobody <nobody@example.org>\nDescription: says hello\n"
    )
    for name in ("usr/bin/greet", "usr/bin/rise", "usr/share/man/man1/greet.1"):
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('#!/bin/sh\necho "hello $1"\n')
        path.chmod(0o755)
    (tree / "usr/bin/rise").chmod(0o4755)
    deb = tmp_path / "greeting_1%3a2.0_all.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "--build", tree, deb], check=True, capture_output=True)
    return deb


def test_unpacked_without_manuals_and_without_rights(tmp_path: Path, package: Path) -> None:
    prefix = tmp_path / "prefix"
    prefixes.unpack([package], prefix, ignore)
    assert (prefix / "usr/bin/greet").is_file()
    assert not (prefix / "usr/share/man").exists()
    assert stat.S_IMODE((prefix / "usr/bin/rise").stat().st_mode) == 0o755


def test_damaged_package_is_named(tmp_path: Path, package: Path) -> None:
    package.write_bytes(package.read_bytes()[:-200])
    with pytest.raises(FetchFailed, match="greeting_1%3a2"):
        prefixes.unpack([package], tmp_path / "prefix", ignore)


def test_lacking_program_is_named(tmp_path: Path, package: Path) -> None:
    prefix = tmp_path / "prefix"
    prefixes.unpack([package], prefix, ignore)
    with pytest.raises(FetchFailed, match="usr/sbin/asterisk"):
        prefixes.wrap(prefix, "usr/sbin/asterisk")


def test_new_folder_replaces_the_old_one_whole(tmp_path: Path) -> None:
    prefix, new = tmp_path / "prefix", tmp_path / "prefix.new"
    for folder, file in ((prefix, "old"), (new, "new"), (tmp_path / "prefix.old", "older")):
        folder.mkdir()
        (folder / file).touch()
    prefixes.replace(prefix, new)
    assert [path.name for path in prefix.iterdir()] == ["new"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["prefix"]
