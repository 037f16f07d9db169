"""The page and its parts: a fixed list of files of this package, read once.

No path ever comes from a client: each file has its own route.
"""

from __future__ import annotations

import hashlib
from importlib.resources import files
from typing import Final

from aiohttp import hdrs, web

from ctid.web.rights import Rights
from ctid.web.routes import Route
from ctid.web.sessions import Session

_HTML: Final = "text/html"
_SCRIPT: Final = "text/javascript"
_STYLE: Final = "text/css"

_MODULES: Final = (
    *("main", "clock", "draw", "floor", "link", "pops", "state", "words"),
    *("phone", "line", "calls", "bell", "sound", "handset", "vendor/jssip"),
)

FILES: Final = {
    "/": ("index.html", _HTML),
    "/ui/page.css": ("page.css", _STYLE),
    "/ui/icon.svg": ("icon.svg", "image/svg+xml"),
    **{f"/ui/{name}.js": (f"{name}.js", _SCRIPT) for name in _MODULES},
    "/ui/vendor/jssip.licences.txt": ("vendor/jssip.licences.txt", "text/plain"),
    "/ui/locales/zh-CN.json": ("locales/zh-CN.json", "application/json"),
    "/ui/locales/en.json": ("locales/en.json", "application/json"),
}
"""Address to (file in ``ctid/web/ui``, media type)."""


class Page:
    """One file."""

    def __init__(self, name: str, media_type: str) -> None:
        self._body = files("ctid.web").joinpath("ui", *name.split("/")).read_bytes()
        self._media_type = media_type
        self._tag = f'"{hashlib.sha256(self._body).hexdigest()[:20]}"'

    async def answer(self, request: web.Request, _session: Session | None) -> web.StreamResponse:
        headers = {hdrs.ETAG: self._tag, hdrs.CACHE_CONTROL: "no-cache"}
        if request.headers.get(hdrs.IF_NONE_MATCH) == self._tag:
            return web.Response(status=304, headers=headers)
        return web.Response(body=self._body, content_type=self._media_type, charset="utf-8", headers=headers)


def routes() -> list[Route]:
    """Read all files and return their routes.

    Raises:
        OSError: The package is not whole.
    """
    return [
        Route("GET", path, Rights.ANYONE, f"The page: {name}", Page(name, media_type).answer)
        for path, (name, media_type) in FILES.items()
    ]
