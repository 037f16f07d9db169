"""The API's description, made from the routes and their types: it can not be out of date."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec
from aiohttp import web

from ctid.web import messages
from ctid.web.rights import Rights
from ctid.web.routes import Problem, Route, json
from ctid.web.sessions import Session

_PLACE = re.compile(r"{(\w+)}")


class OpenApi:
    """``/api/openapi.json`` and ``/api/messages.json``."""

    def __init__(self, routes: Sequence[Route], *, version: str) -> None:
        own = [
            Route(
                "GET", "/api/openapi.json", Rights.ANYONE, "This description (OpenAPI 3.1)", self._show_api
            ),
            Route(
                "GET",
                "/api/messages.json",
                Rights.ANYONE,
                "JSON Schema of the WebSocket messages",
                self._show_messages,
            ),
        ]
        self._own = own
        self.document = describe([*routes, *own], version=version)

    def routes(self) -> list[Route]:
        return self._own

    async def _show_api(self, _request: web.Request, _session: Session | None) -> web.StreamResponse:
        return json(self.document)

    async def _show_messages(self, _request: web.Request, _session: Session | None) -> web.StreamResponse:
        return json(messages.schema())


def describe(routes: Sequence[Route], *, version: str) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of ``routes``."""
    types: list[Any] = [route.body for route in routes if route.body] + [Problem]
    types += [body for route in routes for _meaning, body in route.replies.values() if body]
    _, schemas = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "ctid",
            "version": version,
            "description": "CTI daemon for Asterisk. WebSocket messages: /api/messages.json",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "cookie": {"type": "apiKey", "in": "cookie", "name": "ctid_session"},
                "token": {"type": "http", "scheme": "bearer"},
            },
        },
    }


def _operation(route: Route) -> dict[str, Any]:
    name = re.sub(r"\W+", "_", route.path).strip("_") or "root"
    operation: dict[str, Any] = {
        "operationId": f"{route.method.lower()}_{name}",
        "summary": route.summary,
        "description": f"For: {route.rights.value}.",
        "parameters": _parameters(route),
        "security": [] if route.rights is Rights.ANYONE else [{"cookie": []}, {"token": []}],
        "responses": {str(status): _reply(*reply) for status, reply in _replies(route).items()},
    }
    if route.body:
        operation["requestBody"] = {"required": True, "content": _content(route.body)}
    return operation


def _parameters(route: Route) -> list[dict[str, Any]]:
    places = [("path", name, True) for name in _PLACE.findall(route.path)]
    places += [("query", name, True) for name in route.query]
    places += [("query", name, False) for name in route.filters]
    return [
        {"name": name, "in": where, "required": required, "schema": {"type": "string"}}
        for where, name, required in places
    ]


def _replies(route: Route) -> dict[int, tuple[str, Any]]:
    replies = dict(route.replies)
    if route.rights is not Rights.ANYONE:
        replies.setdefault(401, ("not signed in", Problem))
    if route.rights is Rights.OWN_AGENT or route.method not in ("GET", "HEAD"):
        replies.setdefault(403, ("not yours, or not from our own page", Problem))
    return dict(sorted(replies.items()))


def _reply(meaning: str, body: Any) -> dict[str, Any]:
    return {"description": meaning, "content": _content(body)} if body else {"description": meaning}


def _content(body: Any) -> dict[str, Any]:
    kind = "application/problem+json" if issubclass(body, Problem) else "application/json"
    return {kind: {"schema": {"$ref": f"#/components/schemas/{body.__name__}"}}}
