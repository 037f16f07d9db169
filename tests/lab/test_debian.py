"""A real, small package set from the real mirror: fetched once, verified, never half."""

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from lab import debian
from lab.apt import PrivateApt
from lab.errors import FetchFailed, MissingTool
from lab.places import CACHE
from lab.progress import ignore

pytestmark = pytest.mark.timeout(300)  # a slow mirror is no failure

SMALL = debian.PackageSet(("bookworm",), ("hostname",), ("bin/hostname",))
TOOLS = ("apt-get", "apt-config", "dpkg", "dpkg-deb", "tar", "gpgv")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with bookworm's index as scripts/setup left it, so that the mirror is asked for little."""
    cache = tmp_path_factory.mktemp("cache")
    if (lists := CACHE / "tools" / "lists").is_dir():
        shutil.copytree(lists, cache / "small" / "lists")
    return cache


@pytest.fixture
def home(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty lab that knows one small set."""
    monkeypatch.delenv(debian.ASTERISK_VARIABLE, raising=False)
    monkeypatch.setattr(debian, "HOME", tmp_path)
    monkeypatch.setattr(debian, "CACHE", cache)
    monkeypatch.setitem(debian.SETS, "small", SMALL)
    return tmp_path


def runs(program: Path) -> bool:
    return subprocess.run([program, "--version"], capture_output=True, check=False).returncode == 0


def cached_package(cache: Path) -> Path:
    return next((cache / "small" / "archives").glob("hostname_*.deb"))


def test_fetched_once_then_neither_network_nor_programs(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = debian.program("small", "hostname")
    assert runs(program)
    manifest = (home / "small" / "manifest").read_text()
    assert "hostname_" in manifest
    assert "libc6_" in manifest  # the whole closure

    monkeypatch.setenv("PATH", "")
    before = time.monotonic()
    assert debian.ensure("small") == home / "small"
    assert time.monotonic() - before < 0.2


def test_moved_folder_still_runs(home: Path) -> None:
    debian.ensure("small")
    (home / "small").rename(home / "moved elsewhere")
    assert runs(home / "moved elsewhere" / "run" / "hostname")


def test_half_unpacked_folder_is_done_again(home: Path) -> None:
    for name in ("small", "small.new"):
        (home / name / "run").mkdir(parents=True)
        (home / name / "run" / "hostname").touch()  # as a kill in the middle would leave it
    assert runs(debian.program("small", "hostname"))
    assert not (home / "small.new").exists()


def test_changed_recipe_is_fetched_anew(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    debian.ensure("small")
    changed = debian.PackageSet(("bookworm",), ("hostname",), ("bin/hostname", "bin/dnsdomainname"))
    monkeypatch.setitem(debian.SETS, "small", changed)
    assert debian.program("small", "dnsdomainname").exists()


def test_damaged_cache_is_noticed_and_fetched_again(home: Path, cache: Path) -> None:
    debian.ensure("small")
    package = cached_package(cache)
    good = package.read_bytes()
    # The same size: apt would believe it.
    package.write_bytes(good[:-1000] + bytes(1000))
    shutil.rmtree(home / "small")
    assert runs(debian.program("small", "hostname"))
    assert package.read_bytes() == good


def test_interrupted_download_is_resumed(home: Path, cache: Path) -> None:
    debian.ensure("small")
    package = cached_package(cache)
    good = package.read_bytes()
    package.unlink()
    (package.parent / "partial" / package.name).write_bytes(good[:5000])
    shutil.rmtree(home / "small")
    debian.ensure("small")
    assert package.read_bytes() == good


def test_everybody_at_once_fetches_once(home: Path) -> None:
    unpacked: list[str] = []

    def report(doing: str, done: float | None) -> None:
        if doing == "ready":
            unpacked.append(doing)

    threads = [threading.Thread(target=debian.ensure, args=("small", report)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert unpacked == ["ready"]


@pytest.mark.parametrize("lacking", TOOLS)
def test_missing_program_is_named(
    home: Path, tmp_path: Path, lacking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "path"
    folder.mkdir()
    for tool in set(TOOLS) - {lacking}:
        (folder / tool).symlink_to(shutil.which(tool) or pytest.fail(f"{tool} is needed for this test"))
    monkeypatch.setenv("PATH", str(folder))
    with pytest.raises(MissingTool, match=rf"program {lacking} is not there[^$]*What to do: "):
        debian.ensure("small", ignore)
    assert not (home / "small").exists()


def test_setup_without_apt_says_so_and_fails(home: Path) -> None:
    script = "from lab import setup; import sys; sys.exit(setup.main(['tools', 'asterisk-22']))"
    environment = {"PATH": "/nowhere", "PYTHONPATH": os.pathsep.join(sys.path), "CTID_LAB": str(home)}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "apt-get is not there" in done.stderr
    assert "Traceback" not in done.stderr


def test_missing_keyring_is_named(home: Path, cache: Path) -> None:
    with pytest.raises(MissingTool, match="apt-get install debian-archive-keyring"):
        PrivateApt(cache / "unsigned", keyring=home / "nowhere.gpg")


def test_wrong_keyring_is_refused(home: Path) -> None:
    (home / "empty.gpg").touch()
    apt = PrivateApt(home / "cache", keyring=home / "empty.gpg")
    with pytest.raises(FetchFailed, match=r"(?s)InRelease.*What to do"):
        apt.choose("bookworm", ["hostname"], ignore)


def test_unknown_package_is_named(home: Path, cache: Path) -> None:
    with pytest.raises(FetchFailed, match="no-such-telephone"):
        PrivateApt(cache / "small").choose("bookworm", ["no-such-telephone"], ignore)


def test_unreachable_mirror_is_explained(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CTID_DEBIAN_MIRROR", "http://127.0.0.1:1/debian")
    with pytest.raises(FetchFailed, match=r"(?s)127\.0\.0\.1.*What to do: check the network"):
        PrivateApt(home / "empty").choose("bookworm", ["hostname"], ignore)


def test_cache_is_enough_while_the_network_is_away(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    debian.ensure("small")
    shutil.rmtree(home / "small")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    assert runs(debian.program("small", "hostname"))


def test_own_asterisk_stands_in(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = home / "usr" / "sbin" / "asterisk"
    modules = home / "usr" / "lib" / "x86_64-linux-gnu" / "asterisk" / "modules"
    modules.mkdir(parents=True)
    program.parent.mkdir(parents=True)
    program.touch(mode=0o755)
    monkeypatch.setenv(debian.ASTERISK_VARIABLE, str(program))
    assert debian.program("asterisk-22", "asterisk") == program
    assert debian.ensure("asterisk-22") == home
    assert debian.modules_folder(home) == modules


def test_own_asterisk_that_is_not_there_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(debian.ASTERISK_VARIABLE, "/nowhere/asterisk")
    with pytest.raises(MissingTool, match="/nowhere/asterisk"):
        debian.ensure("asterisk-22")


def test_asterisk_without_modules_is_named(home: Path) -> None:
    with pytest.raises(MissingTool, match="modules"):
        debian.modules_folder(home)
