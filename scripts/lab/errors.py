"""What can go wrong while the lab is set up, in words for the person at the terminal.

LabError
├── MissingTool       the machine lacks something only its owner can add
├── FetchFailed       the archive did not give us what we asked for
└── PostgresFailed    the private PostgreSQL would not do what it was told
"""


class LabError(Exception):
    """Something the user must know, and what to do about it.

    Attributes:
        what: One sentence: what is wrong or missing.
        remedy: One sentence: what to do.
    """

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"{what}\n  What to do: {remedy}")
        self.what = what
        self.remedy = remedy


class MissingTool(LabError):
    """The machine lacks a program or file that we can not fetch ourselves."""


class FetchFailed(LabError):
    """Packages could not be chosen, downloaded or verified."""


class PostgresFailed(LabError):
    """The private PostgreSQL did not start, stop or obey."""
