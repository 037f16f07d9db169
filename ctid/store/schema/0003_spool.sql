-- Exactly once, by one daemon, and with the books: positions of spools, the lead, what is recovered.
--
-- Every fact has a number in the spool of the daemon that wrote it. A number below `spool.applied`
-- that is neither in `fact` nor in `fact_unwritten` is a fact that was lost, or deleted by hand.

create table leader (
    name    text        not null primary key,
    epoch   bigint      not null,
    holder  text        not null,
    host    text        not null,
    pid     integer     not null,
    since   timestamptz not null default clock_timestamp(),
    beat_at timestamptz not null default clock_timestamp()
);

comment on table leader is 'Which daemon leads; only it may write the journal';
comment on column leader.name is 'One per Asterisk server, `leader.name` in ctid.toml';
comment on column leader.epoch is 'Grows by one with every change of the lead; a write with another epoch is refused';
comment on column leader.holder is 'Identity of the run of the daemon that leads';
comment on column leader.host is 'Where it runs';
comment on column leader.pid is 'Its process there';
comment on column leader.since is 'When it took the lead, PostgreSQL''s clock, UTC';
comment on column leader.beat_at is 'Its last sign of life, PostgreSQL''s clock, UTC';

create table spool (
    spool      uuid        not null primary key,
    applied    bigint      not null default 0,
    host       text        not null default '',
    created_at timestamptz not null default clock_timestamp()
);

comment on table spool is 'One row per spool: a daemon''s own disk, where facts wait to be written here';
comment on column spool.spool is 'Made by the daemon with its state folder';
comment on column spool.applied is 'All records up to this number are settled: in fact, or in fact_unwritten';
comment on column spool.host is 'Where the daemon ran when the spool was new';
comment on column spool.created_at is 'First write from it, PostgreSQL''s clock, UTC';

alter table fact
    add column spool     uuid,
    add column number    bigint,
    add column epoch     bigint,
    add column recovered boolean not null default false,
    drop constraint fact_pkey,
    add primary key (system, call, kind, about, at, recovered);
create unique index fact_by_number on fact (spool, number) where spool is not null;

comment on column fact.spool is 'Spool it came through; null: written directly';
comment on column fact.number is 'Its number there, without gaps (see fact_unwritten)';
comment on column fact.epoch is 'Of the leader that wrote it; null: nobody was leading';
comment on column fact.recovered is 'Not heard on AMI but found in Asterisk''s own books; part of the key, so that it can correct what was heard';

create table fact_unwritten (
    spool  uuid        not null,
    number bigint      not null,
    why    text        not null check (why in ('again', 'refused')),
    body   text,
    at     timestamptz not null default clock_timestamp(),
    primary key (spool, number)
);

comment on table fact_unwritten is 'Records of a spool that are not in fact, and why';
comment on column fact_unwritten.spool is 'Spool it came through';
comment on column fact_unwritten.number is 'Its number there';
comment on column fact_unwritten.why is 'again: the fact was there already; refused: PostgreSQL can not store it';
comment on column fact_unwritten.body is 'Of a refused fact: as much of its JSON as can be stored';
comment on column fact_unwritten.at is 'PostgreSQL''s clock, UTC';

-- A part of a row that was set by a recovered fact is never overwritten by one that was heard.

alter table call
    add column recovered boolean not null default false,
    add column recovered_parts text[] not null default '{}';
alter table queue_visit
    add column recovered boolean not null default false,
    add column recovered_parts text[] not null default '{}';
alter table offer
    add column recovered boolean not null default false,
    add column recovered_parts text[] not null default '{}';
alter table talk
    add column recovered boolean not null default false,
    add column recovered_parts text[] not null default '{}';
alter table handled_call
    add column recovered boolean not null default false,
    add column recovered_parts text[] not null default '{}';
alter table transfer
    add column recovered boolean not null default false,
    add column recovered_parts text[] not null default '{}';
alter table recording
    add column recovered boolean not null default false,
    add column recovered_parts text[] not null default '{}';

comment on column call.recovered is 'Something of the row comes from Asterisk''s own books, not from AMI';
comment on column call.recovered_parts is 'Kinds of the facts that do, sorted, classes of ctid/acd/facts.py';
comment on column queue_visit.recovered is 'Something of the row comes from Asterisk''s own books, not from AMI';
comment on column queue_visit.recovered_parts is 'Kinds of the facts that do, sorted, classes of ctid/acd/facts.py';
comment on column offer.recovered is 'Something of the row comes from Asterisk''s own books, not from AMI';
comment on column offer.recovered_parts is 'Kinds of the facts that do, sorted, classes of ctid/acd/facts.py';
comment on column talk.recovered is 'Something of the row comes from Asterisk''s own books, not from AMI';
comment on column talk.recovered_parts is 'Kinds of the facts that do, sorted, classes of ctid/acd/facts.py';
comment on column handled_call.recovered is 'Something of the row comes from Asterisk''s own books, not from AMI';
comment on column handled_call.recovered_parts is 'Kinds of the facts that do, sorted, classes of ctid/acd/facts.py';
comment on column transfer.recovered is 'Something of the row comes from Asterisk''s own books, not from AMI';
comment on column transfer.recovered_parts is 'Kinds of the facts that do, sorted, classes of ctid/acd/facts.py';
comment on column recording.recovered is 'Something of the row comes from Asterisk''s own books, not from AMI';
comment on column recording.recovered_parts is 'Kinds of the facts that do, sorted, classes of ctid/acd/facts.py';
