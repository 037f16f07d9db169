"""Debian packages in private folders: a real Asterisk and its tools, without touching the machine.

    asterisk, prefix = program("asterisk-22", "asterisk"), ensure("asterisk-22")

A set is fetched once; from then on :func:`ensure` costs two small reads and no network. A folder is complete
if it holds its ``recipe``, which is written last, before the folder gets its name: one that was left
half-unpacked has another name and is done again. ``manifest`` says exactly what is inside.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from lab import prefix as prefixes
from lab.apt import KEYRING, Package, PrivateApt
from lab.errors import FetchFailed, LabError, MissingTool
from lab.places import CACHE, HOME
from lab.progress import Report, showing

ASTERISK_VARIABLE = "CTID_ASTERISK"
"""Names a host's own Asterisk program, which then stands in for ``asterisk-22``."""


@dataclass(frozen=True)
class PackageSet:
    """What to fetch together into one folder.

    Attributes:
        suites: Tried in this order.
        packages: Their dependencies come with them, recommendations do not.
        programs: Paths inside the folder that :func:`program` offers by their last part.
        in_place: Programs that are replaced by their wrapper; see :func:`lab.prefix.wrap_in_place`.
    """

    suites: tuple[str, ...]
    packages: tuple[str, ...]
    programs: tuple[str, ...] = ()
    in_place: tuple[str, ...] = ()

    def fingerprint(self) -> str:
        """Return a digest that changes whenever the folder must be made anew."""
        recipe = {"set": asdict(self), "unwanted": prefixes.UNWANTED, "edition": 1}
        return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()


SETS: dict[str, PackageSet] = {
    # Testing before unstable: it migrates as a set that fits together. Bookworm and trixie have no Asterisk.
    "asterisk-22": PackageSet(("forky", "sid"), ("asterisk",), ("usr/sbin/asterisk", "usr/sbin/astcanary")),
    "asterisk-16": PackageSet(("bullseye",), ("asterisk",), ("usr/sbin/asterisk", "usr/sbin/astcanary")),
    "tools": PackageSet(
        ("bookworm",),
        ("sip-tester", "prometheus"),
        ("usr/bin/sipp", "usr/bin/prometheus", "usr/bin/promtool"),
    ),
    "postgresql-15": PackageSet(("bookworm",), ("postgresql-15",), in_place=("usr/lib/postgresql/15/bin/*",)),
    # See lab.browser. The headless shell needs neither GTK nor a desktop; the font has the Chinese letters.
    "chromium": PackageSet(("bookworm",), ("chromium-headless-shell", "fonts-wqy-microhei")),
    # Where the machine has none: systemd-analyze judges our unit without a systemd that runs.
    "systemd": PackageSet(("bookworm",), ("systemd",), ("usr/bin/systemd-analyze",)),
    # A set of its own, so that whoever breaks nothing need not fetch it.
    "faults": PackageSet(("bookworm",), ("faketime", "strace"), ("usr/bin/strace",)),
    # Where the machine has none: see lab.certificate.
    "openssl": PackageSet(("bookworm",), ("openssl",), ("usr/bin/openssl",)),
    "libatomic": PackageSet(("bookworm",), ("libatomic1",)),
    # Only the wheel in it, for a Python whose venv comes without pip.
    "pip": PackageSet(("bookworm",), ("python3-pip-whl",)),
}


def ensure(set_name: str, report: Report | None = None) -> Path:
    """Return the folder of a package set, fetching it first if it is not there.

    Safe to call from several threads and processes at once.

    Args:
        set_name: A key of :data:`SETS`.
        report: Where progress goes; by default to standard error.

    Raises:
        LabError: The set can not be fetched; the message says what to do.
    """
    if set_name == "asterisk-22" and (own := _own_asterisk()):
        return own[0]
    wanted = SETS[set_name]
    prefix = HOME / set_name
    if _is_complete(prefix, wanted):
        return prefix
    with _only_one(set_name):
        if _is_complete(prefix, wanted):  # somebody else was faster
            return prefix
        if report is not None:
            _fetch(set_name, wanted, prefix, report)
        else:
            with showing() as make:
                _fetch(set_name, wanted, prefix, make(set_name))
    return prefix


def program(set_name: str, name: str) -> Path:
    """Return the path of a program that can be started like any other.

    It is a script that ends as the program itself, so the pid is the program's; ``ps`` calls it ``ld-linux``.

    Args:
        set_name: A key of :data:`SETS`.
        name: For instance ``asterisk``, ``sipp`` or ``promtool``.

    Raises:
        LabError: The set can not be fetched.
        KeyError: The set has no such program.
    """
    if set_name == "asterisk-22" and name == "asterisk" and (own := _own_asterisk()):
        return own[1]
    wrapper = ensure(set_name) / prefixes.WRAPPERS / name
    if not wrapper.exists():
        raise KeyError(f"{set_name} has no program {name}")
    return wrapper


def modules_folder(prefix: Path) -> Path:
    """Return the folder with Asterisk's modules, below what :func:`ensure` returned.

    Raises:
        MissingTool: There is no Asterisk below ``prefix``.
    """
    for pattern in (
        "usr/lib/*-linux-gnu/asterisk/modules",
        "usr/lib*/asterisk/modules",
        "lib*/asterisk/modules",
    ):
        for folder in sorted(prefix.glob(pattern)):
            return folder
    raise MissingTool(
        f"No Asterisk modules below {prefix}.",
        f"let {ASTERISK_VARIABLE} name the asterisk program of a complete installation, or unset it.",
    )


def _own_asterisk() -> tuple[Path, Path] | None:
    """Return the root of the host's own installation and its program, if the user named one."""
    named = os.environ.get(ASTERISK_VARIABLE)
    if not named:
        return None
    path = Path(named)
    if not os.access(path, os.X_OK):
        raise MissingTool(
            f"{ASTERISK_VARIABLE} names {named}, which is not a program.", "correct it, or unset it."
        )
    above = path.absolute().parent.parent
    return (above.parent if above.name == "usr" else above), path.absolute()


def _is_complete(prefix: Path, wanted: PackageSet) -> bool:
    try:
        recipe = (prefix / "recipe").read_text()
    except FileNotFoundError:
        return False
    return recipe == wanted.fingerprint()


@contextmanager
def _only_one(set_name: str) -> Iterator[None]:
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{set_name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _fetch(set_name: str, wanted: PackageSet, prefix: Path, report: Report) -> None:
    apt = PrivateApt(CACHE / set_name, keyring=KEYRING)
    packages = _download(apt, wanted, report)
    new = prefix.with_name(f"{prefix.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    prefixes.unpack([apt.archives / package.file for package in packages], new, report)
    for path in wanted.programs:
        prefixes.wrap(new, path)
    for path in wanted.in_place:
        prefixes.wrap_in_place(new, path)
    manifest = sorted(f"{package.file} {package.sha256}" for package in packages)
    (new / "manifest").write_text("\n".join([*manifest, ""]))
    (new / "recipe").write_text(wanted.fingerprint())
    prefixes.replace(prefix, new)
    report("ready", 1.0)


def _download(apt: PrivateApt, wanted: PackageSet, report: Report) -> list[Package]:
    """Download from the first suite that has everything."""
    refused: LabError | None = None
    for suite in wanted.suites:
        try:
            packages = apt.choose(suite, wanted.packages, report)
            apt.download(packages, wanted.packages, report)
        except FetchFailed as error:
            refused = error
        else:
            return packages
    raise refused or FetchFailed("No suite is named.", "name one in the package set.")
