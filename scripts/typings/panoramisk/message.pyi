from collections.abc import Mapping
from typing import Any

class Message:
    success: bool
    event: str
    uniqueid: str
    channel: str
    message: str
    def __init__(self, headers: Mapping[str, Any], content: str = "") -> None: ...
