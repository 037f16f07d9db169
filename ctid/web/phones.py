"""The SIP passwords of agents whose phone is in the page."""

from __future__ import annotations

import stat
from pathlib import Path

from pydantic import SecretStr

from ctid.errors import SettingsError
from ctid.settings import read_toml


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
