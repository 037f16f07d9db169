"""What a route is: its address, who may, what it says. The API description is made of these."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiohttp import web

from ctid.web.rights import Rights
from ctid.web.sessions import Session

Answer = Callable[[web.Request, Session | None], Awaitable[web.StreamResponse]]


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """Why not (RFC 9457).

    Attributes:
        title: The status in words.
        detail: What is wrong and what to do.
        code: For programs.
    """

    status: int
    title: str
    code: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Route:
    """One method at one path.

    Attributes:
        rights: Who may ask (rights.py). There is no default.
        path: With ``{name}`` for what varies; a value never holds a slash.
        body: Type of the JSON body, if one is needed.
        query: What has to be in the query string.
        filters: What may be in it.
        replies: Status to (meaning, type of the JSON body or ``None``).
    """

    method: str
    path: str
    rights: Rights
    summary: str
    answer: Answer
    body: type | None = None
    query: tuple[str, ...] = ()
    filters: tuple[str, ...] = ()
    replies: Mapping[int, tuple[str, Any]] = field(default_factory=lambda: {200: ("done", None)})


def json(content: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """Answer with JSON."""
    return web.Response(
        body=msgspec.json.encode(content), status=status, content_type="application/json", headers=headers
    )


def refused(status: int, code: str, detail: str) -> web.Response:
    """Answer with a problem; ``detail`` is read by people."""
    title = web.Response(status=status).reason or "refused"
    problem = Problem(status=status, title=title, code=code, detail=detail)
    return web.Response(
        body=msgspec.json.encode(problem), status=status, content_type="application/problem+json"
    )
