-- People who may look at ctid's pages, and the tokens they show for it.
-- Of a token only its SHA-256 is stored; a token is 256 random bits, so no salt is needed.

create table app_user (
    name       text        not null primary key check (name ~ '^[[:alnum:]._@-]{1,64}$'),
    role       text        not null check (role in ('agent', 'leader', 'inspector', 'supervisor', 'admin')),
    agent      text        not null default '',
    language   text        not null default 'zh-CN' check (language in ('zh-CN', 'en')),
    created_at timestamptz not null default clock_timestamp(),
    revoked_at timestamptz,
    check (role <> 'agent' or agent <> '')
);
create unique index app_user_by_agent on app_user (agent) where agent <> '' and revoked_at is null;

comment on table app_user is 'Who may sign in; never deleted, only revoked';
comment on column app_user.name is 'Sign-in name';
comment on column app_user.role is 'agent | leader | inspector | supervisor | admin';
comment on column app_user.agent is 'Agent number whose pops he sees; empty: takes no calls';
comment on column app_user.language is 'Of his screens: zh-CN | en';
comment on column app_user.created_at is 'PostgreSQL''s clock, UTC';
comment on column app_user.revoked_at is 'He may not sign in since; null: he may';

create table app_token (
    hash       text        not null primary key check (hash ~ '^[0-9a-f]{64}$'),
    name       text        not null references app_user,
    parent     text        references app_token,
    created_at timestamptz not null default clock_timestamp(),
    expires_at timestamptz not null,
    revoked_at timestamptz
);
create index app_token_by_name on app_token (name);
create index app_token_by_parent on app_token (parent);

comment on table app_token is 'Tokens for signing in, and the sessions opened with them';
comment on column app_token.hash is 'SHA-256 of the token, hexadecimal';
comment on column app_token.name is 'Whose it is';
comment on column app_token.parent is 'A session: the token it was opened with; null: a token';
comment on column app_token.created_at is 'PostgreSQL''s clock, UTC';
comment on column app_token.expires_at is 'UTC';
comment on column app_token.revoked_at is 'Not valid since; null: not revoked';
