"""The locks hold what pyproject.toml asks for, with hashes, and name no place to download from."""

import re
import tomllib

import pytest
from packaging.requirements import Requirement

from lab.places import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
WANTED = {
    "requirements.txt": [
        *PROJECT["project"]["dependencies"],
        *PROJECT["project"]["optional-dependencies"]["agi"],
        *PROJECT["project"]["optional-dependencies"]["audio"],
    ],
    "requirements-dev.txt": [*PROJECT["project"]["dependencies"], *PROJECT["dependency-groups"]["dev"]],
}


def locked(name: str) -> dict[str, list[str]]:
    """Return the locked versions by package; several where Python's version decides."""
    found: dict[str, list[str]] = {}
    text = (ROOT / "config" / name).read_text()
    for package, version in re.findall(r"^([a-z0-9-]+)==([^ ;]+)", text, re.MULTILINE):
        found.setdefault(package, []).append(version)
    return found


@pytest.mark.parametrize("name", WANTED)
def test_every_requirement_is_locked(name: str) -> None:
    versions = locked(name)
    for line in WANTED[name]:
        requirement = Requirement(line)
        assert requirement.name in versions, f"run scripts/lock: {line}"
        assert all(version in requirement.specifier for version in versions[requirement.name]), line


@pytest.mark.parametrize("name", WANTED)
def test_every_package_has_hashes_and_no_address(name: str) -> None:
    text = (ROOT / "config" / name).read_text()
    assert "://" not in text
    assert "index-url" not in text
    assert "find-links" not in text
    for entry in re.split(r"\n(?=[a-z0-9])", text)[1:]:
        assert "--hash=sha256:" in entry, entry


def test_both_locks_agree() -> None:
    development = locked("requirements-dev.txt")
    for package, versions in locked("requirements.txt").items():
        assert development[package] == versions
