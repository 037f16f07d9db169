"""The SIP passwords of agents whose phone is in the page."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from pydantic import SecretStr

from ctid.errors import SettingsError
from ctid.settings import Web, read_toml

_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})


def phone_problems(settings: Web, config: Path) -> list[str]:
    """Say what would keep the softphone from working; never raises."""
    if settings.phone is None:
        return []
    problems = []
    address = urlsplit(settings.public_url)
    if address.scheme != "https" and address.hostname not in _LOOPBACK:
        problems.append(
            f"{config}: web.public_url: browsers lend a microphone to https pages only; "
            "put ctid behind https, or remove [web.phone]"
        )
    try:
        read_passwords(settings.phone.passwords_file)
    except SettingsError as error:
        problems += [f"{config}: web.phone.passwords_file: {text}" for text in error.problems]
    return problems


def read_passwords(file: Path) -> dict[str, SecretStr]:
    """Read who has which SIP password.

    Returns:
        Keyed by agent number; one per agent with a phone in the page.

    Raises:
        SettingsError: It can not be read, others can read it, or it is not numbers and passwords;
            all problems at once, and never a password in them.
    """
    try:
        mode = file.stat().st_mode
    except OSError as error:
        raise SettingsError([f'{file}: {error.strerror}; write lines like 1001 = "..." into it']) from error
    if stat.S_IMODE(mode) & 0o077:
        raise SettingsError([f"{file}: others can read the passwords in it; chmod 600 {file}"])
    table = read_toml(file)
    wrong = [
        f"{file}: {number}: must be a text that is not empty: the agent's SIP password"
        for number, password in table.items()
        if not isinstance(password, str) or not password
    ]
    if wrong:
        raise SettingsError(wrong)
    return {number: SecretStr(password) for number, password in table.items()}
