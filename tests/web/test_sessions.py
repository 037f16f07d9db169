"""Tokens and sessions in memory: believed for a bounded time, checked every few seconds."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ctid.errors import StoreUnavailable
from ctid.store.users import SESSION_LASTS, User, hash_of
from ctid.web.sessions import KNOWN_LIMIT, TRUSTED_FOR, Session, Sessions
from tests.fakes_web import FakeUsers


class Setting:
    """Sessions with a clock that is set by hand."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)
        self.users = FakeUsers()
        self.users.add("token", User(name="li", role="agent", agent="201"))
        self.ended: list[str] = []
        self.sessions = Sessions(self.users, on_end=self.ended.append, now=lambda: self.now)

    async def sign_in(self) -> tuple[str, Session]:
        opened = await self.sessions.sign_in("token")
        assert opened
        return opened


async def test_signing_in_opens_a_session_of_its_own() -> None:
    at = Setting()
    (one, _), (two, session) = await at.sign_in(), await at.sign_in()
    assert len({one, two, "token"}) == 3
    assert session.key == hash_of(two)
    assert session.expires_at - at.now <= SESSION_LASTS
    assert (await at.sessions.of_secret(two)) == session


@pytest.mark.parametrize("token", ["", "wrong", "x" * 201, "toke\u0301n", "\ud800"])
async def test_what_is_not_a_token_is_nobody(token: str) -> None:
    at = Setting()
    assert await at.sessions.of_secret(token) is None
    assert await at.sessions.sign_in(token) is None


async def test_revoking_the_token_ends_its_sessions_at_the_next_check() -> None:
    at = Setting()
    secret, session = await at.sign_in()
    await at.users.revoke_token(hash_of("token"))
    await at.sessions.recheck()
    assert sorted(at.ended) == sorted([session.key, hash_of("token")])
    assert await at.sessions.of_secret(secret) is None


async def test_a_changed_role_ends_the_session() -> None:
    at = Setting()
    _, session = await at.sign_in()
    grant = at.users.grants[session.key]
    at.users.grants[session.key] = type(grant)(
        hash=grant.hash, user=User(name="li", role="leader"), expires_at=grant.expires_at, parent=grant.parent
    )
    await at.sessions.recheck()
    assert at.ended == [session.key]


async def test_known_ones_are_believed_without_the_database_but_not_for_ever() -> None:
    at = Setting()
    secret, _session = await at.sign_in()
    at.users.is_away = True
    await at.sessions.recheck()
    assert at.ended == []
    assert await at.sessions.of_secret(secret)
    memory_secret, in_memory = await at.sign_in()
    assert not in_memory.is_stored
    at.now += TRUSTED_FOR
    with pytest.raises(StoreUnavailable):
        await at.sessions.of_secret(secret)
    await at.sessions.recheck()
    assert len(at.ended) == 3
    with pytest.raises(StoreUnavailable):
        await at.sessions.of_secret(memory_secret)


async def test_a_session_only_in_memory_hangs_on_its_token() -> None:
    at = Setting()
    await at.sessions.of_secret("token")
    at.users.is_away = True
    secret, session = await at.sign_in()
    at.users.is_away = False
    await at.sessions.recheck()
    assert await at.sessions.of_secret(secret)
    await at.users.revoke_token(hash_of("token"))
    await at.sessions.recheck()
    assert session.key in at.ended


async def test_a_session_expires() -> None:
    at = Setting()
    secret, session = await at.sign_in()
    at.now += SESSION_LASTS
    at.users.grants.clear()
    assert await at.sessions.of_secret(secret) is None
    await at.sessions.recheck()
    assert session.key in at.ended


async def test_a_session_opened_during_a_check_survives_it() -> None:
    at = Setting()
    await at.sign_in()
    asked = at.users.grants_of
    opened: list[tuple[str, Session]] = []

    async def grants_of(hashes):  # type: ignore[no-untyped-def]
        found = await asked(hashes)
        if not opened:
            opened.append((await at.sessions.sign_in("token")) or ("", None))  # type: ignore[arg-type]
        return found

    at.users.grants_of = grants_of  # type: ignore[method-assign]
    await at.sessions.recheck()
    assert at.ended == []
    assert await at.sessions.of_secret(opened[0][0])


async def test_signing_out_forgets_even_without_the_database() -> None:
    at = Setting()
    secret, session = await at.sign_in()
    at.users.is_away = True
    with pytest.raises(StoreUnavailable):
        await at.sessions.sign_out(session)
    assert at.ended == [session.key]
    with pytest.raises(StoreUnavailable):
        await at.sessions.of_secret(secret)


async def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctid.web.sessions.KNOWN_LIMIT", 3)
    assert KNOWN_LIMIT == 10_000
    at = Setting()
    for _ in range(9):
        await at.sign_in()
    assert len(at.sessions._known) == 3


async def test_a_token_revoked_in_the_same_moment_opens_nothing() -> None:
    at = Setting()
    await at.sessions.of_secret("token")
    at.users.grants.clear()
    assert await at.sessions.sign_in("token") is None
    assert at.ended == [hash_of("token")]
