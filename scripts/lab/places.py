"""Where everything that the lab fetches, builds or runs is kept: below one git-ignored folder."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The repository."""

HOME = Path(os.environ.get("CTID_LAB") or ROOT / ".ctid").absolute()
"""The lab. ``CTID_LAB`` moves it, for instance to a larger disk."""

ASTERISK_22 = HOME / "asterisk-22"
ASTERISK_16 = HOME / "asterisk-16"
TOOLS = HOME / "tools"
POSTGRES = HOME / "postgres"
CACHE = HOME / "cache"
VENV = HOME / "venv"
