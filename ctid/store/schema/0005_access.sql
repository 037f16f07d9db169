-- Passwords, more roles, roles lent for a time, and the log of who did what.

alter table app_user
    drop constraint app_user_role_check,
    add constraint app_user_role_check check (
        role in ('agent', 'leader', 'inspector', 'complaints', 'info', 'supervisor', 'auditor', 'admin')
    ),
    add column password    text,
    add column must_change boolean not null default false;

comment on column app_user.role is
    'agent | leader | inspector | complaints | info | supervisor | auditor | admin';
comment on column app_user.password is 'argon2id, in its own encoding; null: he signs in with tokens only';
comment on column app_user.must_change is 'Somebody else knows his password: he must choose another first';

alter table app_token
    add column kind    text        not null default 'token' check (kind in ('token', 'session')),
    add column used_at timestamptz not null default clock_timestamp();
update app_token set kind = 'session' where parent is not null;

comment on table app_token is 'Tokens for signing in, and the sessions opened with them or with a password';
comment on column app_token.kind is 'token | session; a session opens no other';
comment on column app_token.parent is 'A session: the token it was opened with; null: a token, or opened with a password';
comment on column app_token.used_at is 'A session: last sign of its screens, to a minute; PostgreSQL''s clock, UTC';

create table delegation (
    delegation bigint      generated always as identity primary key,
    name       text        not null references app_user,
    role       text        not null check (role in ('leader', 'supervisor', 'complaints', 'info', 'inspector')),
    starts_at  timestamptz not null,
    ends_at    timestamptz not null check (ends_at > starts_at and ends_at <= starts_at + interval '93 days'),
    given_by   text        not null references app_user (name),
    given_at   timestamptz not null default clock_timestamp(),
    revoked_at timestamptz
);
create index delegation_by_name on delegation (name, ends_at);

comment on table delegation is 'A role lent to somebody for a time: he has it beside his own';
comment on column delegation.delegation is 'Its number';
comment on column delegation.name is 'Who has it';
comment on column delegation.role is 'leader | supervisor | complaints | info | inspector';
comment on column delegation.starts_at is 'UTC';
comment on column delegation.ends_at is 'UTC; at that instant it is over';
comment on column delegation.given_by is 'Who lent it';
comment on column delegation.given_at is 'PostgreSQL''s clock, UTC';
comment on column delegation.revoked_at is 'Taken back before its end; null: not';

create table audit (
    number   bigint      not null primary key check (number > 0),
    at       timestamptz not null,
    who      text        not null,
    action   text        not null check (action ~ '^[a-z_]{1,40}$'),
    target   text        not null,
    detail   text        not null,
    previous bytea       not null check (octet_length(previous) = 32),
    hash     bytea       not null unique check (octet_length(hash) = 32)
);
create index audit_by_who on audit (who, number);

comment on table audit is 'Who did what, one row after the other; each row seals the one before it';
comment on column audit.number is 'Without gaps, from 1';
comment on column audit.at is 'ctid''s clock, UTC, microseconds';
comment on column audit.who is 'Sign-in name as it was shown; empty: nobody was signed in';
comment on column audit.action is 'What was done, past participle';
comment on column audit.target is 'To whom or what; empty: to nothing in particular';
comment on column audit.detail is 'A JSON object, as text since its hash is of the very bytes';
comment on column audit.previous is 'Hash of the row before; of the first: zeros';
comment on column audit.hash is 'SHA-256 over all the other columns; see ctid.store.audit';

create function audit_is_append_only() returns trigger language plpgsql as $$
begin
    raise exception 'the audit log is append-only' using errcode = 'insufficient_privilege';
end
$$;
create trigger audit_keeps_its_rows before update or delete on audit
    for each row execute function audit_is_append_only();
create trigger audit_keeps_all_rows before truncate on audit
    for each statement execute function audit_is_append_only();
