"""An apt of our own: chooses, downloads and verifies packages without touching the machine's.

Its state, lists and cache are below one folder of ours and its list of installed packages is empty, so it
finds the whole dependency closure of what it is asked for. It needs no root and installs nothing.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.archive import find_address, proxy_settings
from lab.errors import FetchFailed, MissingTool
from lab.progress import Report

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")

_CONF = """\
Dir::State "{home}";
Dir::State::Lists "{home}/lists";
Dir::State::status "{home}/status";
Dir::Cache "{home}";
Dir::Cache::archives "{home}/archives";
Dir::Log "{home}";
Dir::Etc::Main "/dev/null";
Dir::Etc::Parts "/dev/null";
Dir::Etc::SourceList "{home}/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "/dev/null";
Dir::Etc::Trusted "/dev/null";
Dir::Etc::TrustedParts "/dev/null";
APT::Architecture "{architecture}";
APT::Architectures {{ "{architecture}"; }};
APT::Install-Recommends "false";
APT::Sandbox::User "";
APT::Keep-Downloaded-Packages "true";
Binary::apt-get::APT::Keep-Downloaded-Packages "true";
Acquire::AllowInsecureRepositories "false";
Acquire::ForceHash "sha256";
Acquire::GzipIndexes "true";
Acquire::Languages "none";
Acquire::Retries "3";
Acquire::http::Timeout "30";
Acquire::https::Timeout "30";
// Local mirrors are often frozen on purpose, and old suites for good. What is fetched here serves
// demo and tests only; it is still signed by Debian.
Acquire::Check-Valid-Until "false";
Acquire::Check-Date "false";
Debug::NoLocking "1";
"""

_URI_LINE = re.compile(r"^'(?P<address>[^']+)' (?P<file>\S+) (?P<size>\d+) SHA256:(?P<sha256>[0-9a-f]{64})$")


@dataclass(frozen=True)
class Package:
    """One .deb of the closure, as the signed index describes it.

    Attributes:
        file: Name in our cache, ``NAME_VERSION_ARCHITECTURE.deb``, a colon in the version written ``%3a``.
        sha256: Hexadecimal.
    """

    file: str
    size_bytes: int
    sha256: str


class PrivateApt:
    """Debian packages for one set, below one cache folder.

    Attributes:
        archives: Where the verified .deb files are after :meth:`download`.
    """

    def __init__(self, home: Path, *, keyring: Path = KEYRING) -> None:
        """Prepare the cache folder.

        Raises:
            MissingTool: A program of Debian's, or its keyring, is not there.
        """
        self.home = home
        self.archives = home / "archives"
        self._keyring = keyring
        self._require_tools()
        for folder in (home / "lists" / "partial", self.archives / "partial", home / "none" / "partial"):
            folder.mkdir(parents=True, exist_ok=True)
        (home / "status").touch()

    def choose(self, suite: str, names: Sequence[str], report: Report) -> list[Package]:
        """Fetch the suite's index and choose the newest closure of ``names`` that fits together.

        Raises:
            FetchFailed: The suite lacks a package, or neither the mirror nor our cache has its index.
        """
        self._configure(suite)
        try:
            self._apt_get(
                "update", "-o", "APT::Update::Error-Mode=any", doing=f"reading {suite}", report=report
            )
        except FetchFailed:
            if not any((self.home / "lists").glob(f"*_{suite}_main_binary-*")):
                raise
            report(f"mirror does not answer, using the index of last time for {suite}", None)
        # With an empty archives folder apt names every file, not only those it still lacks.
        nowhere = f"Dir::Cache::archives={self.home / 'none'}"
        listing = self._apt_get(
            "install", "--print-uris", "-o", nowhere, *names, doing="choosing", report=report
        )
        lines = (_URI_LINE.match(line) for line in listing.splitlines())
        return [Package(line["file"], int(line["size"]), line["sha256"]) for line in lines if line]

    def download(self, packages: Sequence[Package], names: Sequence[str], report: Report) -> None:
        """Bring every package into :attr:`archives`; what is there already and intact is kept.

        Raises:
            FetchFailed: Something could not be downloaded or is not what the index promised.
        """
        report("verifying the cache", None)
        # apt itself trusts a cached file of the right size.
        for package in packages:
            if not self._is_intact(package):
                (self.archives / package.file).unlink(missing_ok=True)
        missing = [package for package in packages if not (self.archives / package.file).exists()]
        if not missing:
            return
        size_mb = sum(package.size_bytes for package in missing) / 1e6
        doing = f"downloading {len(missing)} packages, {size_mb:.0f} MB,"
        self._apt_get("install", "--download-only", *names, doing=doing, report=report)
        if broken := [package.file for package in missing if not self._is_intact(package)]:
            raise FetchFailed(f"Downloaded but damaged: {', '.join(broken)}.", "run it again.")

    def _is_intact(self, package: Package) -> bool:
        path = self.archives / package.file
        if not path.is_file() or path.stat().st_size != package.size_bytes:
            return False
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == package.sha256

    def _configure(self, suite: str) -> None:
        architecture = subprocess.check_output(["dpkg", "--print-architecture"], text=True).strip()
        conf = _CONF.format(home=self.home, architecture=architecture)
        (self.home / "apt.conf").write_text("\n".join([conf, *proxy_settings(), ""]))
        source = f"deb [signed-by={self._keyring}] {find_address()} {suite} main\n"
        (self.home / "sources.list").write_text(source)

    def _apt_get(self, *words: str, doing: str, report: Report) -> str:
        """Run apt-get to its end and return what it printed; its own progress goes to ``report``."""
        environment = os.environ | {
            "APT_CONFIG": str(self.home / "apt.conf"),
            "DEBIAN_FRONTEND": "noninteractive",
            "LC_ALL": "C",
        }
        log = self.home / "apt.log"
        inlet, outlet = os.pipe()
        report(doing, None)
        command = ["apt-get", "-qq", "-y", "-o", f"APT::Status-Fd={outlet}", *words]
        with os.fdopen(inlet, errors="replace") as status:
            with log.open("wb") as output, os.fdopen(outlet, "wb"):
                apt_get = subprocess.Popen(
                    command,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    pass_fds=[outlet],
                )
            for line in status:
                _pass_on(line, doing, report)
        text = log.read_text(errors="replace")
        if apt_get.wait() != 0:
            raise _explain(text)
        return text

    def _require_tools(self) -> None:
        for tool in ("apt-get", "apt-config", "dpkg", "dpkg-deb", "tar"):
            if not shutil.which(tool):
                raise MissingTool(
                    f"The program {tool} is not there; packages are fetched from Debian with it.",
                    "use Debian 12 or a later Debian, or name a host's own Asterisk with CTID_ASTERISK.",
                )
        # apt of Debian 13 verifies with sqv, older ones with gpgv.
        if not shutil.which("gpgv") and not shutil.which("sqv"):
            raise MissingTool(
                "The program gpgv is not there; signatures are checked with it.", _install("gpgv")
            )
        if not self._keyring.is_file():
            raise MissingTool(
                f"Debian's keys are not at {self._keyring}; downloads can not be verified.",
                _install("debian-archive-keyring"),
            )


def _install(package: str) -> str:
    return f"install it, as root: apt-get install {package}"


def _pass_on(line: str, doing: str, report: Report) -> None:
    """Translate ``dlstatus:3:41.5:Retrieving file 3 of 20``."""
    kind, _, rest = line.partition(":")
    percent = rest.split(":")[1:2]
    if kind == "dlstatus" and percent:
        report(doing, float(percent[0]) / 100)


def _explain(text: str) -> FetchFailed:
    """Turn what apt-get printed into one sentence and a remedy."""
    complaints = [line.strip() for line in text.splitlines() if line.startswith(("E:", "W:", "Err:"))]
    said = " ".join(complaints[-3:]) or "apt-get failed without a word."
    if "Unable to locate package" in text or "has no installation candidate" in text:
        return FetchFailed(said, "choose a mirror that has the suite, see CTID_DEBIAN_MIRROR.")
    if "NO_PUBKEY" in text or "is not signed" in text or "couldn't be verified" in text:
        return FetchFailed(said, "update Debian's keys: apt-get install debian-archive-keyring")
    return FetchFailed(
        said,
        "check the network and the mirror in this machine's apt configuration (apt-get update must work), "
        "then run it again: it goes on where it stopped.",
    )
