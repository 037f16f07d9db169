"""Which Debian archive this machine uses, read from its own apt configuration."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lab.errors import MissingTool

MIRROR_VARIABLE = "CTID_DEBIAN_MIRROR"

SUITES = frozenset(
    {"oldoldstable", "oldstable", "stable", "testing", "unstable"}  # names that move
    | {"bullseye", "bookworm", "trixie", "forky", "sid"}
)
"""Suites of the main archive. Those of the security archive end in ``-security`` and are not here."""

_PROXY_LINE = re.compile(r"Acquire::(https?|socks5h|ftp)::(Proxy|CAInfo|Verify|Ssl)", re.IGNORECASE)


@dataclass(frozen=True)
class Source:
    """One archive that apt is told to use.

    Attributes:
        address: As apt writes it; ``mirror+file:`` addresses are passed on unchanged.
    """

    address: str
    suites: tuple[str, ...]
    components: tuple[str, ...]

    def is_main_archive(self) -> bool:
        """Tell the archive that holds all of Debian from security updates and other vendors' archives."""
        return "main" in self.components and not SUITES.isdisjoint(self.suites)


def find_address(etc: Path = Path("/etc/apt")) -> str:
    """Find the address of the main Debian archive that this machine uses.

    Args:
        etc: Where apt keeps its list of sources.

    Raises:
        MissingTool: The machine's apt names no Debian archive.
    """
    if named := os.environ.get(MIRROR_VARIABLE):
        return named
    for address in (*_indexed_addresses(), *_listed_addresses(etc)):
        return address
    raise MissingTool(
        "This machine's apt does not name a Debian archive.",
        f"set {MIRROR_VARIABLE} to the address of a Debian mirror, the folder that holds dists/ and pool/.",
    )


def proxy_settings() -> list[str]:
    """Return the machine's apt lines about proxies and certificates, in apt.conf's own syntax."""
    dump = _output("apt-config", "dump")
    return [line for line in dump.splitlines() if _PROXY_LINE.match(line)]


def _indexed_addresses() -> list[str]:
    """Return archives whose lists apt has downloaded; empty on an image that was stripped of its lists."""
    fields = "$(REPO_URI)|$(ORIGIN)|$(LABEL)|$(COMPONENT)"
    lines = _output("apt-get", "indextargets", "--format", fields, "Created-By: Packages").splitlines()
    # The security archive calls itself "Debian-Security", so the label tells them apart.
    return [line.split("|")[0] for line in lines if line.split("|")[1:] == ["Debian", "Debian", "main"]]


def _listed_addresses(etc: Path) -> list[str]:
    found = [source.address for source in read_sources(etc) if source.is_main_archive()]
    # Other vendors use Debian's suite names too; the real archive's folder is nearly always called "debian".
    return sorted(found, key=lambda address: not address.rstrip("/").endswith("/debian"))


def read_sources(etc: Path) -> Iterator[Source]:
    """Read every enabled source of binary packages below ``etc``, one-line files first."""
    parts = etc / "sources.list.d"
    for path in (etc / "sources.list", *sorted(parts.glob("*.list"))):
        if path.is_file():
            yield from _one_line_sources(path.read_text(errors="replace"))
    for path in sorted(parts.glob("*.sources")):
        yield from _stanza_sources(path.read_text(errors="replace"))


def _one_line_sources(text: str) -> Iterator[Source]:
    for line in text.splitlines():
        words = re.sub(r"\[[^]]*\]", " ", line.partition("#")[0]).split()
        if len(words) >= 3 and words[0] == "deb":
            yield Source(words[1], (words[2],), tuple(words[3:]))


def _stanza_sources(text: str) -> Iterator[Source]:
    kept = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for stanza in re.split(r"\n\s*\n", kept):
        folded = re.sub(r"\n[ \t]+", " ", stanza)
        pairs = (line.partition(":") for line in folded.splitlines() if ":" in line)
        fields = {key.strip().lower(): value.split() for key, _, value in pairs}
        if "deb" not in fields.get("types", []) or fields.get("enabled") == ["no"]:
            continue
        for address in fields.get("uris", []):
            yield Source(address, tuple(fields.get("suites", [])), tuple(fields.get("components", [])))


def _output(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout if done.returncode == 0 else ""
