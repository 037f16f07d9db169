"""Users, tokens and sessions in a real PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from ctid.errors import StoreError
from ctid.store.pool import Pool
from ctid.store.users import Users, hash_of, new_token


@pytest.fixture
async def users(pool: Pool) -> Users:
    users = Users(pool)
    await users.create_user("li", role="agent", agent="201")
    return users


def in_an_hour() -> datetime:
    return datetime.now(UTC) + timedelta(hours=1)


async def test_a_token_leads_to_its_user_and_is_not_stored(users: Users, pool: Pool) -> None:
    token = await users.issue_token("li")
    user = await users.user_of_token(token)
    assert user
    assert (user.name, user.role, user.agent, user.language) == ("li", "agent", "201", "zh-CN")
    assert await users.user_of_token(token + "x") is None
    assert token not in str(await pool.fetch("select * from app_token"))


async def test_an_expired_token_is_nobodys(users: Users) -> None:
    assert await users.user_of_token(await users.issue_token("li", lasts=timedelta(seconds=-1))) is None


async def test_a_revoked_token_ends_with_its_sessions(users: Users) -> None:
    token, other, session = await users.issue_token("li"), await users.issue_token("li"), new_token()
    assert await users.open_session(hash_of(token), hash_of(session), in_an_hour())
    [grant] = await users.grants_of([hash_of(session)])
    assert (grant.parent, grant.user.name) == (hash_of(token), "li")
    assert await users.revoke_token(hash_of(token))
    assert not await users.revoke_token(hash_of(token))
    assert await users.grants_of([hash_of(token), hash_of(session)]) == []
    assert await users.user_of_token(other)
    assert not await users.open_session(hash_of(token), hash_of(new_token()), in_an_hour())


async def test_a_session_neither_opens_another_nor_outlives_its_token(users: Users) -> None:
    token, session = await users.issue_token("li", lasts=timedelta(hours=1)), new_token()
    await users.open_session(hash_of(token), hash_of(session), datetime.now(UTC) + timedelta(days=90))
    [grant] = await users.grants_of([hash_of(session)])
    assert grant.expires_at < datetime.now(UTC) + timedelta(hours=2)
    assert not await users.open_session(hash_of(session), hash_of(new_token()), in_an_hour())


async def test_revoking_a_user_ends_everything(users: Users) -> None:
    token, session = await users.issue_token("li"), new_token()
    await users.open_session(hash_of(token), hash_of(session), in_an_hour())
    assert await users.revoke("li")
    assert await users.grants_of([hash_of(token), hash_of(session)]) == []
    with pytest.raises(StoreError, match="no such user"):
        await users.issue_token("li")
    assert not await users.revoke("nobody")
    [row] = await users.list_users()
    assert row.revoked_at
    assert row.tokens == 0


async def test_a_revoked_user_can_come_back_without_his_old_tokens(users: Users) -> None:
    token = await users.issue_token("li")
    await users.revoke("li")
    await users.create_user("li", role="leader")
    assert await users.user_of_token(token) is None
    user = await users.user_of_token(await users.issue_token("li"))
    assert user
    assert (user.role, user.agent) == ("leader", "")


async def test_refused_users_say_why(users: Users) -> None:
    with pytest.raises(StoreError, match="there already is one"):
        await users.create_user("li", role="leader")
    with pytest.raises(StoreError, match="needs his agent number"):
        await users.create_user("wang", role="agent")
    for name in ("", "a b", "x" * 65, "a'; drop table app_user"):
        with pytest.raises(StoreError):
            await users.create_user(name, role="leader")
    with pytest.raises(StoreError):
        await users.create_user("wang", role="agent", agent="201")
    with pytest.raises(StoreError):
        await users.create_user("wang", role="king")  # type: ignore[arg-type]


async def test_listed_by_name_with_live_tokens(users: Users) -> None:
    await users.create_user("chen", role="leader", language="en")
    token = await users.issue_token("li")
    await users.open_session(hash_of(token), hash_of(new_token()), in_an_hour())
    assert [(row.name, row.tokens) for row in await users.list_users()] == [("chen", 0), ("li", 1)]


async def test_old_sessions_are_forgotten_and_tokens_are_not(users: Users, pool: Pool) -> None:
    token = await users.issue_token("li")
    await users.open_session(hash_of(token), hash_of("old"), datetime.now(UTC) - timedelta(days=31))
    await users.open_session(hash_of(token), hash_of("ended"), datetime.now(UTC) - timedelta(days=1))
    await users.open_session(hash_of(token), hash_of("new"), in_an_hour())
    left = {row["hash"] for row in await pool.fetch("select hash from app_token")}
    assert left == {hash_of(token), hash_of("ended"), hash_of("new")}
