"""The audit log, and whether it is whole."""

from __future__ import annotations

from typing import Protocol

import msgspec
from aiohttp import web

from ctid.store.audit import MAX_PAGE, Row, Verdict
from ctid.web.rights import Rights
from ctid.web.routes import Problem, Route, json, refused
from ctid.web.sessions import Session


class Wanted(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which rows: older than ``before``, of ``who``; at most ``limit``."""

    before: int = 0
    who: str = ""
    limit: int = 100


class AuditStore(Protocol):
    """``ctid.store.audit.AuditLog``."""

    async def page(self, *, before: int = 0, who: str = "", limit: int = MAX_PAGE) -> list[Row]: ...
    async def verify(self) -> Verdict: ...


class AuditApi:
    """``/api/v1/audit``."""

    def __init__(self, log: AuditStore) -> None:
        self._log = log

    def routes(self) -> list[Route]:
        return [
            Route(
                "GET",
                "/api/v1/audit",
                Rights.SEE_AUDIT,
                "Who did what, newest first",
                self._page,
                filters=Wanted.__struct_fields__,
                replies={200: ("rows", list[Row]), 400: ("a filter is wrong", Problem)},
            ),
            Route(
                "GET",
                "/api/v1/audit/verdict",
                Rights.SEE_AUDIT,
                "Read the whole log and say whether each row seals the one before",
                self._verify,
                replies={200: ("what was found", Verdict)},
            ),
        ]

    async def _page(self, request: web.Request, _session: Session | None) -> web.StreamResponse:
        try:
            wanted = msgspec.convert(dict(request.query), Wanted, strict=False)
        except msgspec.ValidationError as error:
            return refused(400, "bad_filter", str(error))
        if not 0 <= wanted.before < 2**63 or not 0 < wanted.limit <= MAX_PAGE:
            return refused(400, "bad_filter", f"before: a row's number; limit: 1 to {MAX_PAGE}")
        return json(await self._log.page(before=wanted.before, who=wanted.who, limit=wanted.limit))

    async def _verify(self, _request: web.Request, _session: Session | None) -> web.StreamResponse:
        return json(await self._log.verify())
