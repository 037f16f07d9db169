"""A certificate for the loopback, and how a browser is told to believe it."""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from lab import debian
from lab.progress import Report

_DAYS = "2"


@dataclass(frozen=True)
class Certificate:
    """Self-signed, for 127.0.0.1.

    Attributes:
        file, key: PEM; the key can only be read by us.
        fingerprint: SHA-256 of the public key, base64: Chromium's ``--ignore-certificate-errors-spki-list``.
    """

    file: Path
    key: Path
    fingerprint: str


def make_certificate(folder: Path) -> Certificate:
    """Make a new key and its certificate in ``folder``.

    Raises:
        LabError: The machine has no openssl and it can not be fetched.
    """
    file, key, config = folder / "loopback.crt", folder / "loopback.key", folder / "loopback.cnf"
    folder.mkdir(parents=True, exist_ok=True)
    # A private openssl finds no configuration of the machine's, and wants one.
    config.write_text("[req]\ndistinguished_name = names\n[names]\n")
    key.touch(mode=0o600)
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc")
    names = ("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1")
    words = ("-config", str(config), *curve, *names, "-days", _DAYS, "-keyout", str(key), "-out", str(file))
    _openssl("req", "-x509", *words)
    public = _openssl("pkey", "-in", str(key), "-pubout", "-outform", "DER")
    return Certificate(file, key, base64.b64encode(hashlib.sha256(public).digest()).decode())


def openssl(report: Report | None = None) -> Path:
    """Return the machine's own openssl, else a private one of Debian's.

    Args:
        report: Where progress goes if it must be fetched; by default to standard error.

    Raises:
        LabError: There is none and it can not be fetched.
    """
    own = shutil.which("openssl")
    if own:
        return Path(own)
    debian.ensure("openssl", report)
    return debian.program("openssl", "openssl")


def _openssl(*words: str) -> bytes:
    return subprocess.run([openssl(), *words], capture_output=True, check=True).stdout
