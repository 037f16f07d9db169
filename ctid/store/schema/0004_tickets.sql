-- Tickets as they go their way: steps, deadlines, promises, call-backs, and all that happened.
-- What lists ask for is a column; the rest of the ticket (form, steps, notices) is its body.

alter table ticket drop constraint ticket_type_check;
alter table ticket add constraint ticket_type_check check (type in (
    'consultation', 'repair', 'complaint', 'survey', 'inspection', 'difficult_issue', 'emergency_repair', 'memo'));
alter table ticket
    add column opening       text        not null default '',
    add column version       integer     not null default 1,
    add column step          text        not null default 'open' check (step in (
        'open', 'answered', 'appointed', 'ordered', 'dispatched', 'completed', 'accepted', 'judged',
        'verified', 'replied', 'restored', 'closed')),
    add column source        text        not null default 'call' check (source in (
        'call', 'mayors_hotline', 'consumer_association', 'petition', 'mobile_operator', 'other')),
    add column line          text        not null default '',
    add column opened_by     text        not null default '',
    add column desk          text        not null default '' check (desk in ('', 'complaints', 'info', 'leaders')),
    add column level         integer     not null default 0,
    add column due_at        timestamptz,
    add column level_due_at  timestamptz,
    add column promise       text        not null default '' check (promise in ('', 'open', 'kept', 'broken')),
    add column verdict       text        not null default '' check (verdict in ('', 'upheld', 'rejected', 'praise')),
    add column verification  text        not null default '',
    add column claimed_by    text        not null default '',
    add column claimed_until timestamptz,
    add column closed_at     timestamptz,
    add column next_at       timestamptz,
    add column overdue_from  timestamptz,
    add column body          jsonb       not null default '{}';
-- Written before there were steps: their state says as much as is known.
update ticket set step = 'closed', closed_at = opened_at where state = 'closed';
update ticket set step = 'dispatched' where state = 'waiting' and type in ('repair', 'survey');
update ticket set promise = 'open', overdue_from = promised_at, next_at = promised_at
where promised_at is not null and state <> 'closed';
create unique index ticket_by_opening on ticket (opened_by, opening) where opening <> '';
create index ticket_by_next on ticket (next_at) where next_at is not null;
create index ticket_by_assignee on ticket (assigned_to, opened_at) where state <> 'closed';
create index ticket_by_call on ticket (system, call) where call <> '';
-- A note written after its pop is gone names the call by its Linkedid alone.
create index call_by_linkedid on call (call);
create index ticket_by_time on ticket (opened_at);

comment on column ticket.type is 'consultation, repair, complaint, survey, inspection, difficult_issue, emergency_repair or memo';
comment on column ticket.state is 'open; waiting: somebody outside works on it; closed';
comment on column ticket.opening is 'Id of the request that opened it; empty: not known';
comment on column ticket.version is 'Grows with every command; who writes on an older one is refused';
comment on column ticket.step is 'Where in its workflow it is, see ctid/tickets/workflow.py';
comment on column ticket.source is 'call, mayors_hotline, consumer_association, petition, mobile_operator or other';
comment on column ticket.line is 'Name of the dialled line; empty: none';
comment on column ticket.opened_by is 'Agent''s number, or the user''s name';
comment on column ticket.desk is 'Who answers for it if nobody is named: complaints, info, leaders; empty: the assignee';
comment on column ticket.level is 'Of a complaint, from 1; 0: no complaint';
comment on column ticket.due_at is 'Deadline of its source, UTC; null: none';
comment on column ticket.level_due_at is 'The next level is told then, UTC; null: never';
comment on column ticket.promise is 'Of the last promise: open, kept or broken; empty: none';
comment on column ticket.verdict is 'Of a complaint: upheld, rejected or praise; empty: none yet';
comment on column ticket.verification is 'Linkedid of the call that verified the result; empty: none';
comment on column ticket.claimed_by is 'Who contacts the customer now; empty: nobody';
comment on column ticket.claimed_until is 'Nobody else does before, UTC';
comment on column ticket.closed_at is 'UTC; null: still open';
comment on column ticket.next_at is 'The next reminder or escalation is due then, UTC; null: none';
comment on column ticket.overdue_from is 'Overdue once this is past, UTC; null: nobody waits';
comment on column ticket.body is 'Form, steps, call-backs, notices, what was raised, as JSON';


create table ticket_event (
    ticket  bigint      not null references ticket,
    ordinal bigint      generated always as identity,
    command text        not null default '',
    kind    text        not null,
    at      timestamptz not null,
    actor   text        not null default '',
    detail  jsonb       not null default '{}',
    primary key (ticket, ordinal)
);
create index ticket_event_by_command on ticket_event (ticket, command) where command <> '';
create index ticket_event_by_time on ticket_event (at);
create function refuse_ticket_change() returns trigger language plpgsql as $$
begin
    raise exception 'what happened to a ticket stays: % of % is refused', tg_op, tg_table_name
        using errcode = 'object_not_in_prerequisite_state';
end $$;
create trigger ticket_event_is_append_only before update or delete or truncate on ticket_event
    for each statement execute function refuse_ticket_change();

comment on table ticket_event is 'Append-only: everything that happened to a ticket';
comment on column ticket_event.ticket is 'Number of the ticket';
comment on column ticket_event.ordinal is 'Order in which it was written';
comment on column ticket_event.command is 'Id of the command; empty: raised by the clock';
comment on column ticket_event.kind is 'opened, step_reached, promise_kept, promise_broken, level_raised ...';
comment on column ticket_event.at is 'UTC';
comment on column ticket_event.actor is 'Agent''s number, or the user''s name; empty: the clock';
comment on column ticket_event.detail is 'What the kind does not say';


create table ticket_call_back (
    ticket   bigint      not null references ticket,
    ordinal  integer     not null,
    number   text        not null,
    due_at   timestamptz not null,
    attempts integer     not null,
    result   text        not null check (result in ('open', 'confirmed', 'exhausted')),
    primary key (ticket, ordinal)
);
create index ticket_call_back_due on ticket_call_back (due_at) where result = 'open';

comment on table ticket_call_back is 'Customers to be called because of a ticket';
comment on column ticket_call_back.ticket is 'Number of the ticket';
comment on column ticket_call_back.ordinal is 'Place in the ticket, from 0';
comment on column ticket_call_back.number is 'To be called';
comment on column ticket_call_back.due_at is 'To be called until then, UTC';
comment on column ticket_call_back.attempts is 'Times he was called so far';
comment on column ticket_call_back.result is 'open until he confirmed, or the attempts are exhausted';
