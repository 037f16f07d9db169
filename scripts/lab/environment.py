"""A virtual environment with exactly what the lock names."""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from lab import debian
from lab.errors import FetchFailed, MissingTool
from lab.places import CACHE, ROOT, VENV
from lab.progress import Report

LOCK = ROOT / "config" / "requirements-dev.txt"
STAMP = VENV / "lock.sha256"
"""Says which lock the environment was made from; written last."""


def make_environment(report: Report) -> None:
    """Make the virtual environment, or bring it up to date with the lock.

    Raises:
        LabError: It can not be made; the message says what to do.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "venv.lock").open("w") as only_one:
        fcntl.flock(only_one, fcntl.LOCK_EX)
        if _is_current():
            return
        _make_venv(report)
        _install_locked(report)
        report("installing ctid", None)
        editable = ["--no-deps", "--no-build-isolation", "--no-index", "--editable", str(ROOT)]
        _pip(editable, report=None)
        STAMP.write_text(fingerprint())
        report("ready", 1.0)


def fingerprint() -> str:
    """Return a digest that changes whenever the environment must be brought up to date."""
    digest = hashlib.sha256()
    # The editable install carries the version and the commands of pyproject.toml, and the repository's path.
    for part in (
        LOCK.read_bytes(),
        (ROOT / "pyproject.toml").read_bytes(),
        os.fsencode(ROOT),
        os.fsencode(VENV),
    ):
        digest.update(part + b"\0")
    return digest.hexdigest()


def _is_current() -> bool:
    try:
        return STAMP.read_text() == fingerprint() and (VENV / "bin" / "python").exists()
    except FileNotFoundError:
        return False


def _make_venv(report: Report) -> None:
    if _works(VENV / "bin" / "python"):
        return
    report("making the virtual environment", None)
    if importlib.util.find_spec("venv") is None:
        raise MissingTool(
            "This Python has no venv module.", "install it, as root: apt-get install python3-venv"
        )
    shutil.rmtree(VENV, ignore_errors=True)
    with_pip = importlib.util.find_spec("ensurepip") is not None
    _run([sys.executable, "-m", "venv", *([] if with_pip else ["--without-pip"]), str(VENV)])
    if not with_pip:  # Debian keeps it in python3-venv; its wheel can be had without being root
        wheels = debian.ensure("pip", report) / "usr/share/python-wheels"
        wheel = next(wheels.glob("pip-*.whl"))
        _run([str(VENV / "bin" / "python"), f"{wheel}/pip", "install", "--no-index", "--quiet", str(wheel)])


def _works(python: Path) -> bool:
    """Tell whether an environment is there, has pip, is new enough and stands where it was made."""
    question = "import pip, sys; print(sys.prefix, sys.version_info >= (3, 11))"
    try:
        done = subprocess.run([python, "-c", question], capture_output=True, text=True, check=False)
    except OSError:
        return False
    return done.stdout.strip() == f"{VENV} True" and (VENV / "bin" / "pip").is_file()


def _install_locked(report: Report) -> None:
    total = len(re.findall(r"^[a-z0-9]", LOCK.read_text(), re.MULTILINE))
    # Without compiling: most modules are never imported, and those that are compile themselves.
    # Without dependencies: the lock names them all, and pip 23 trips over an extra (coverage[toml])
    # as soon as a newer version than the locked one is out.
    words = ["--no-compile", "--no-deps", "--require-hashes", "--requirement", str(LOCK)]
    _pip(words, report=report, total=total)


def _pip(words: list[str], *, report: Report | None, total: int = 1) -> None:
    python = str(VENV / "bin" / "python")
    command = [python, "-m", "pip", "install", "--no-input", "--disable-pip-version-check", *words]
    said: list[str] = []
    seen, doing = 0, f"fetching {total} packages"
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as pip:
        for line in pip.stdout or ():
            said.append(line.rstrip())
            # "Processing": from a folder on this machine.
            seen += line.startswith(("Collecting ", "Processing ", "Requirement already satisfied"))
            if line.startswith("Installing collected"):
                doing = f"installing {total} packages"
            if report is not None:
                report(doing, min(seen / total, 1.0))
    if pip.returncode:
        raise FetchFailed(
            "pip failed:\n" + "\n".join(f"  {line}" for line in said[-15:]),
            "check the network and pip's configuration (pip config list), then run it again.",
        )


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()[-3:]
        raise FetchFailed(f"{' '.join(command[:3])} failed: {' '.join(said)}", "install python3-venv.")
