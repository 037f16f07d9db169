-- The journal: what ctid concluded, for ever; and the tables and views derived from it.
--
-- Times are UTC; a caller number is stored as Asterisk gave it and, beside it, as it is
-- compared (`caller_key`). Derived rows hold values that each fact sets, never sums: the
-- same fact may be applied again, and facts may come in any order.

create table fact (
    system     text        not null,
    call       text        not null,
    kind       text        not null,
    about      text        not null,
    at         timestamptz not null,
    boot       timestamptz,
    body       jsonb       not null,
    written_at timestamptz not null default clock_timestamp(),
    primary key (system, call, kind, about, at)
);
create index fact_by_time on fact (at);

comment on table fact is 'Append-only: everything ctid concluded; the key names the same fact for ever';
comment on column fact.system is 'Asterisk''s systemname, empty if it has none';
comment on column fact.call is 'Linkedid of the call; empty for facts about an agent only';
comment on column fact.kind is 'Name of the fact, a class of ctid/acd/facts.py';
comment on column fact.about is 'What within the call: a queue, a leg, an agent, a recording';
comment on column fact.at is 'When it became true, Asterisk''s clock, UTC';
comment on column fact.boot is 'Start of this run of Asterisk, UTC; null if unknown';
comment on column fact.body is 'The whole fact as JSON; durations in ISO 8601';
comment on column fact.written_at is 'When it was stored, PostgreSQL''s clock, UTC';

create function refuse_change() returns trigger language plpgsql as $$
begin
    raise exception 'the journal is append-only: % of % is refused', tg_op, tg_table_name
        using errcode = 'object_not_in_prerequisite_state';
end $$;
create trigger fact_is_append_only before update or delete or truncate on fact
    for each statement execute function refuse_change();


create table call (
    system        text not null,
    call          text not null,
    leg           text,
    channel       text,
    caller_number text,
    caller_key    text,
    caller_name   text,
    dialled       text,
    adopted       boolean,
    began_at      timestamptz,
    line          text,
    business      text,
    vip           boolean,
    recording     text,
    ended_at      timestamptz,
    lasted        interval,
    answered      boolean,
    participants  text[],
    cause         integer,
    cause_text    text,
    end_reason    text,
    merged_into   text,
    primary key (system, call)
);
create index call_by_time on call (began_at);
create index call_by_caller on call (caller_key, began_at) where caller_key <> '';

comment on table call is 'One row per call: everything that shares a Linkedid';
comment on column call.system is 'Asterisk''s systemname, empty if it has none';
comment on column call.call is 'Linkedid';
comment on column call.leg is 'Uniqueid of the caller''s channel';
comment on column call.channel is 'Asterisk''s name of the caller''s channel';
comment on column call.caller_number is 'As Asterisk gave it; empty if withheld';
comment on column call.caller_key is 'The number as it is compared; empty if withheld';
comment on column call.caller_name is 'As Asterisk gave it';
comment on column call.dialled is 'Number the caller dialled';
comment on column call.adopted is 'Already under way when ctid began to watch: began_at is the first sight';
comment on column call.began_at is 'First channel seen, UTC';
comment on column call.line is 'Name of the dialled line in policy.toml';
comment on column call.business is 'consultation, repair, complaint, survey or inspection; empty if unknown';
comment on column call.vip is 'The caller is on the VIP list';
comment on column call.recording is 'UUID of the recording asked for; empty: none';
comment on column call.ended_at is 'Last channel gone, UTC; null: still going on';
comment on column call.lasted is 'From began_at to ended_at';
comment on column call.answered is 'Somebody talked with the caller';
comment on column call.participants is 'Phones that took part, sorted';
comment on column call.cause is 'Hang-up cause, ITU-T Q.850';
comment on column call.cause_text is 'The cause in Asterisk''s words';
comment on column call.end_reason is 'hangup, asterisk_lost or unseen';
comment on column call.merged_into is 'Linkedid of the call it became part of at a transfer';


create table queue_visit (
    system               text        not null,
    call                 text        not null,
    queue                text        not null,
    joined_at            timestamptz not null,
    leg                  text,
    caller_number        text,
    caller_key           text,
    caller_name          text,
    position             integer,
    source               text,
    left_at              timestamptz,
    outcome              text,
    waited               interval,
    short                boolean,
    in_time              boolean,
    agent                text,
    interface            text,
    agent_leg            text,
    first_ring_to_answer interval,
    primary key (system, call, queue, joined_at)
);
create index queue_visit_by_queue on queue_visit (queue, joined_at);
create index queue_visit_by_time on queue_visit (joined_at);

comment on table queue_visit is 'One row per stay of a call in a queue';
comment on column queue_visit.system is 'Asterisk''s systemname, empty if it has none';
comment on column queue_visit.call is 'Linkedid';
comment on column queue_visit.queue is 'Name in queues.conf';
comment on column queue_visit.joined_at is 'When the caller began to wait, UTC';
comment on column queue_visit.leg is 'Uniqueid of the caller''s channel';
comment on column queue_visit.caller_number is 'As Asterisk gave it; empty if withheld';
comment on column queue_visit.caller_key is 'The number as it is compared; empty if withheld';
comment on column queue_visit.caller_name is 'As Asterisk gave it';
comment on column queue_visit.position is 'Place in the queue at joining, from 1';
comment on column queue_visit.source is 'inbound or transfer';
comment on column queue_visit.left_at is 'Answered or gone, UTC; null: still waiting';
comment on column queue_visit.outcome is 'answered, abandoned, timeout, exit_key, leave_empty, join_empty, full, withdrawn, redirected or unknown_end; null: still waiting';
comment on column queue_visit.waited is 'Join to answer, or join to leaving; ringing included';
comment on column queue_visit.short is 'Abandoned sooner than the queue''s short-abandon limit';
comment on column queue_visit.in_time is 'Met the service level; null where the formula leaves it out';
comment on column queue_visit.agent is 'Number of the agent who answered; empty: nobody';
comment on column queue_visit.interface is 'Phone that answered; empty: none';
comment on column queue_visit.agent_leg is 'Uniqueid of the channel that answered; empty: none';
comment on column queue_visit.first_ring_to_answer is 'From the first sign of any phone ringing to the answer';


create table offer (
    system        text not null,
    call          text not null,
    leg           text not null,
    queue         text,
    joined_at     timestamptz,
    agent         text,
    interface     text,
    offered_at    timestamptz,
    rang_at       timestamptz,
    dial_delay    interval,
    ended_at      timestamptz,
    outcome       text,
    rang          interval,
    rings         double precision,
    verdict       text,
    ring_estimated boolean,
    primary key (system, call, leg)
);
create index offer_by_agent on offer (agent, offered_at);
create index offer_by_time on offer (offered_at);

comment on table offer is 'One row per ringing of one agent for one caller';
comment on column offer.system is 'Asterisk''s systemname, empty if it has none';
comment on column offer.call is 'Linkedid';
comment on column offer.leg is 'Uniqueid of the agent''s channel';
comment on column offer.queue is 'Name in queues.conf';
comment on column offer.joined_at is 'The stay in the queue it belongs to, UTC';
comment on column offer.agent is 'Agent''s number';
comment on column offer.interface is 'His phone as the queue knows it';
comment on column offer.offered_at is 'The phone was called, UTC';
comment on column offer.rang_at is 'The phone said it rings, UTC; null: it never did';
comment on column offer.dial_delay is 'From offered_at to rang_at';
comment on column offer.ended_at is 'Answered or given up, UTC; null: still ringing';
comment on column offer.outcome is 'answered, no_answer, declined, unreachable, cancelled_by_caller, cancelled, answered_elsewhere or unknown_end; null: still ringing';
comment on column offer.rang is 'From the first sign of ringing to the end';
comment on column offer.rings is 'rang in cadence cycles of the queue; 3.0 is exactly three rings';
comment on column offer.verdict is 'Three-ring rule: within, late, no_answer, declined or excluded';
comment on column offer.ring_estimated is 'No sign of ringing was seen; rang counts from offered_at';


create table talk (
    system    text        not null,
    call      text        not null,
    leg       text        not null,
    began_at  timestamptz not null,
    queue     text,
    agent     text,
    interface text,
    ended_at  timestamptz,
    talked    interval,
    held      interval,
    holds     integer,
    ended_by  text,
    assisted  boolean,
    primary key (system, call, leg, began_at)
);
create index talk_by_agent on talk (agent, began_at);
create index talk_by_time on talk (began_at);

comment on table talk is 'One row per part that one agent had in one call';
comment on column talk.system is 'Asterisk''s systemname, empty if it has none';
comment on column talk.call is 'Linkedid';
comment on column talk.leg is 'Uniqueid of the agent''s channel';
comment on column talk.began_at is 'Answered, or took over, UTC';
comment on column talk.queue is 'Queue that gave him the call; empty: none';
comment on column talk.agent is 'Agent''s number';
comment on column talk.interface is 'His phone as the queue knows it';
comment on column talk.ended_at is 'His part was over, UTC; null: still talking';
comment on column talk.talked is 'On his own channel, without hold';
comment on column talk.held is 'Sum of his holds';
comment on column talk.holds is 'How many holds';
comment on column talk.ended_by is 'caller, agent, transfer, other or unknown_end';
comment on column talk.assisted is 'Consulted only: in nobody''s handle time';


create table handled_call (
    system     text        not null,
    call       text        not null,
    leg        text        not null,
    handled_at timestamptz not null,
    queue      text        not null,
    agent      text        not null,
    interface  text        not null,
    talked     interval    not null,
    held       interval    not null,
    wrapped    interval    not null,
    handled    interval    not null,
    primary key (system, call, leg, handled_at)
);
create index handled_call_by_agent on handled_call (agent, handled_at);
create index handled_call_by_time on handled_call (handled_at);

comment on table handled_call is 'One row per call an agent is done with, note included';
comment on column handled_call.system is 'Asterisk''s systemname, empty if it has none';
comment on column handled_call.call is 'Linkedid';
comment on column handled_call.leg is 'Uniqueid of the agent''s channel';
comment on column handled_call.handled_at is 'When he was done, UTC';
comment on column handled_call.queue is 'Queue that gave him the call; empty: none';
comment on column handled_call.agent is 'Agent''s number';
comment on column handled_call.interface is 'His phone as the queue knows it';
comment on column handled_call.talked is 'On his own channel, without hold';
comment on column handled_call.held is 'Sum of his holds';
comment on column handled_call.wrapped is 'Time for the note';
comment on column handled_call.handled is 'talked + held + wrapped';


create table transfer (
    system    text        not null,
    call      text        not null,
    leg       text        not null,
    at        timestamptz not null,
    queue     text        not null,
    agent     text        not null,
    interface text        not null,
    kind      text        not null,
    target    text        not null,
    primary key (system, call, leg, at)
);
create index transfer_by_time on transfer (at);

comment on table transfer is 'One row per caller that an agent gave to somebody else';
comment on column transfer.system is 'Asterisk''s systemname, empty if it has none';
comment on column transfer.call is 'Linkedid';
comment on column transfer.leg is 'Uniqueid of the agent''s channel';
comment on column transfer.at is 'When, UTC';
comment on column transfer.queue is 'Queue that had given him the call; empty: none';
comment on column transfer.agent is 'Number of the agent who gave the call away';
comment on column transfer.interface is 'His phone as the queue knows it';
comment on column transfer.kind is 'blind or attended';
comment on column transfer.target is 'Extension (blind), or the phone that took over (attended)';


create table agent_state (
    system          text        not null,
    agent           text        not null,
    at              timestamptz not null,
    state           text        not null,
    reason          text        not null,
    queues          text[]      not null,
    previous        text        not null,
    previous_reason text        not null,
    lasted          interval    not null,
    primary key (system, agent, at)
);
create index agent_state_by_time on agent_state (at);

comment on table agent_state is 'One row per change of what an agent does';
comment on column agent_state.system is 'Asterisk''s systemname, empty if it has none';
comment on column agent_state.agent is 'Agent''s number';
comment on column agent_state.at is 'When he changed, UTC';
comment on column agent_state.state is 'logged_out, idle, ringing, talking, wrapping_up, paused or unreachable';
comment on column agent_state.reason is 'Of the pause; else empty';
comment on column agent_state.queues is 'He is a member of these, sorted';
comment on column agent_state.previous is 'What he did before';
comment on column agent_state.previous_reason is 'Of the pause before; else empty';
comment on column agent_state.lasted is 'How long he had done that';


create table recording (
    recording  text not null primary key,
    system     text,
    call       text,
    leg        text,
    began_at   timestamptz,
    stopped_at timestamptz,
    expected   interval,
    result     text check (result in ('complete', 'repaired', 'truncated', 'missing', 'empty')),
    problem    text,
    path       text,
    duration   interval,
    size_bytes bigint,
    sha256     text,
    filed_at   timestamptz
);
create index recording_by_call on recording (system, call);
create index recording_unfiled on recording (stopped_at) where filed_at is null;

comment on table recording is 'One row per recording, whether its file was found or not';
comment on column recording.recording is 'UUID chosen by ctid';
comment on column recording.system is 'Asterisk''s systemname, empty if it has none';
comment on column recording.call is 'Linkedid';
comment on column recording.leg is 'Uniqueid of the recorded channel';
comment on column recording.began_at is 'When Asterisk began to record, UTC';
comment on column recording.stopped_at is 'When it stopped, UTC; null: still recording';
comment on column recording.expected is 'How long the file should be';
comment on column recording.result is 'complete, repaired, truncated, missing, or empty (nobody talked); null: not filed yet';
comment on column recording.problem is 'For people: what was wrong; empty: nothing';
comment on column recording.path is 'Relative to the recordings folder; empty: no file';
comment on column recording.duration is 'Frames of the file / its rate';
comment on column recording.size_bytes is 'Of the file, bytes';
comment on column recording.sha256 is 'Of the file, hexadecimal';
comment on column recording.filed_at is 'When the archive was done with it, PostgreSQL''s clock, UTC';


create table ticket (
    ticket        bigint generated always as identity primary key,
    type          text        not null check (type in ('consultation', 'repair', 'complaint', 'survey',
                                                       'inspection', 'difficult_issue')),
    system        text        not null default '',
    call          text        not null default '',
    caller_number text        not null,
    caller_key    text        not null,
    subject       text        not null,
    state         text        not null default 'open' check (state in ('open', 'waiting', 'closed')),
    opened_at     timestamptz not null default clock_timestamp(),
    promised_at   timestamptz,
    assigned_to   text        not null default ''
);
create index ticket_open_by_caller on ticket (caller_key, opened_at) where state <> 'closed' and caller_key <> '';

comment on table ticket is 'What an agent wrote down';
comment on column ticket.ticket is 'Number of the ticket';
comment on column ticket.type is 'consultation, repair, complaint, survey, inspection or difficult_issue';
comment on column ticket.system is 'Asterisk''s systemname; empty: none, or opened without a call';
comment on column ticket.call is 'Linkedid of the call it was opened in; empty: none';
comment on column ticket.caller_number is 'As Asterisk gave it, or as typed';
comment on column ticket.caller_key is 'The number as it is compared; empty if withheld';
comment on column ticket.subject is 'One line for people';
comment on column ticket.state is 'open, waiting or closed';
comment on column ticket.opened_at is 'UTC';
comment on column ticket.promised_at is 'The customer was promised an answer until then, UTC; null: no promise';
comment on column ticket.assigned_to is 'Agent''s number; empty: nobody';


-- Reporting views. A figure belongs to the half-hour in which its caller joined (queues),
-- its phone was called (offers) or the agent was done (handling); half-hours are UTC.

create view v_queue_interval as
select system,
       queue,
       date_bin('30 minutes', joined_at, timestamptz '2000-01-01 00:00:00+00') as began_at,
       count(*) filter (where outcome is distinct from 'join_empty' and outcome is distinct from 'full') as offered,
       count(*) filter (where outcome is null) as waiting,
       count(*) filter (where outcome = 'answered') as answered,
       count(*) filter (where outcome = 'abandoned') as abandoned,
       count(*) filter (where outcome = 'abandoned' and short) as short_abandoned,
       count(*) filter (where outcome = 'timeout') as timeout,
       count(*) filter (where outcome = 'leave_empty') as leave_empty,
       count(*) filter (where outcome = 'exit_key') as exit_key,
       count(*) filter (where outcome in ('withdrawn', 'redirected')) as withdrawn,
       count(*) filter (where outcome in ('join_empty', 'full')) as blocked,
       count(*) filter (where outcome = 'unknown_end') as unknown_end,
       count(*) filter (where in_time) as in_time,
       count(*) filter (where not in_time) as missed,
       count(*) filter (where in_time)::double precision
           / nullif(count(*) filter (where in_time is not null), 0) as service_level,
       avg(waited) filter (where outcome = 'answered') as average_speed_of_answer,
       avg(waited) filter (where outcome = 'abandoned') as average_time_to_abandon,
       max(waited) as longest_wait
from queue_visit
group by 1, 2, 3;

comment on view v_queue_interval is 'Queue by half-hour of joining';
comment on column v_queue_interval.system is 'Asterisk''s systemname, empty if it has none';
comment on column v_queue_interval.queue is 'Name in queues.conf';
comment on column v_queue_interval.began_at is 'Begin of the half-hour, UTC';
comment on column v_queue_interval.offered is 'Stays in the queue, without those blocked at entry';
comment on column v_queue_interval.waiting is 'Of these, still waiting';
comment on column v_queue_interval.answered is 'Of these, answered by an agent';
comment on column v_queue_interval.abandoned is 'Of these, the caller hung up';
comment on column v_queue_interval.short_abandoned is 'Of the abandoned, sooner than the short-abandon limit';
comment on column v_queue_interval.timeout is 'Of the offered, sent on because nobody answered in time';
comment on column v_queue_interval.leave_empty is 'Of the offered, sent on because no agent was left';
comment on column v_queue_interval.exit_key is 'Of the offered, left by pressing a key';
comment on column v_queue_interval.withdrawn is 'Of the offered, taken out or redirected by somebody else';
comment on column v_queue_interval.blocked is 'Never let in: no agent, or the queue was full';
comment on column v_queue_interval.unknown_end is 'Of the offered, the end was not seen';
comment on column v_queue_interval.in_time is 'Met the service level';
comment on column v_queue_interval.missed is 'Missed the service level';
comment on column v_queue_interval.service_level is 'Ratio 0-1: in_time / (in_time + missed); null: nothing to judge';
comment on column v_queue_interval.average_speed_of_answer is 'Mean wait of the answered';
comment on column v_queue_interval.average_time_to_abandon is 'Mean wait of the abandoned';
comment on column v_queue_interval.longest_wait is 'Longest finished wait';

create view v_offer_interval as
select system,
       queue,
       agent,
       date_bin('30 minutes', offered_at, timestamptz '2000-01-01 00:00:00+00') as began_at,
       count(*) as offers,
       count(*) filter (where outcome = 'answered') as answered,
       count(*) filter (where verdict = 'within') as within,
       count(*) filter (where verdict = 'late') as late,
       count(*) filter (where verdict = 'no_answer') as no_answer,
       count(*) filter (where verdict = 'declined') as declined,
       count(*) filter (where verdict = 'excluded') as excluded,
       count(*) filter (where verdict = 'within')::double precision
           / nullif(count(*) filter (where verdict <> 'excluded'), 0) as ring_rule,
       avg(rang) as average_ring,
       avg(rang) filter (where outcome = 'answered') as average_ring_answered
from offer
group by 1, 2, 3, 4;

comment on view v_offer_interval is 'Ringing by queue, agent and half-hour';
comment on column v_offer_interval.system is 'Asterisk''s systemname, empty if it has none';
comment on column v_offer_interval.queue is 'Name in queues.conf';
comment on column v_offer_interval.agent is 'Agent''s number';
comment on column v_offer_interval.began_at is 'Begin of the half-hour, UTC';
comment on column v_offer_interval.offers is 'Times the phone was called';
comment on column v_offer_interval.answered is 'Of these, answered';
comment on column v_offer_interval.within is 'Answered within the rings allowed';
comment on column v_offer_interval.late is 'Answered, or taken away, after that';
comment on column v_offer_interval.no_answer is 'Rang out';
comment on column v_offer_interval.declined is 'Refused by the agent';
comment on column v_offer_interval.excluded is 'Taken away before the limit, or phone unreachable';
comment on column v_offer_interval.ring_rule is 'Ratio 0-1: within / (offers - excluded); null: nothing to judge';
comment on column v_offer_interval.average_ring is 'Mean ringing of all offers that ended';
comment on column v_offer_interval.average_ring_answered is 'Mean ringing of the answered';

create view v_handled_interval as
select system,
       queue,
       agent,
       date_bin('30 minutes', handled_at, timestamptz '2000-01-01 00:00:00+00') as began_at,
       count(*) as handled,
       sum(talked) as talked,
       sum(held) as held,
       sum(wrapped) as wrapped,
       avg(handled_call.handled) as average_handle_time
from handled_call
group by 1, 2, 3, 4;

comment on view v_handled_interval is 'Handling by queue, agent and half-hour in which the agent was done';
comment on column v_handled_interval.system is 'Asterisk''s systemname, empty if it has none';
comment on column v_handled_interval.queue is 'Name in queues.conf; empty: calls no queue gave him';
comment on column v_handled_interval.agent is 'Agent''s number';
comment on column v_handled_interval.began_at is 'Begin of the half-hour, UTC';
comment on column v_handled_interval.handled is 'Calls he was done with';
comment on column v_handled_interval.talked is 'Sum, without hold';
comment on column v_handled_interval.held is 'Sum';
comment on column v_handled_interval.wrapped is 'Sum of the time for notes';
comment on column v_handled_interval.average_handle_time is 'Mean of talked + held + wrapped';

create view v_agent_state as
select system, agent, previous as state, previous_reason as reason, at - lasted as began_at, at as ended_at, lasted
from agent_state
where lasted > interval '0'
union all
(select distinct on (system, agent) system, agent, state, reason, at, null::timestamptz, null::interval
from agent_state
order by system, agent, at desc);

comment on view v_agent_state is 'What each agent did, from when to when';
comment on column v_agent_state.system is 'Asterisk''s systemname, empty if it has none';
comment on column v_agent_state.agent is 'Agent''s number';
comment on column v_agent_state.state is 'logged_out, idle, ringing, talking, wrapping_up, paused or unreachable';
comment on column v_agent_state.reason is 'Of the pause; else empty';
comment on column v_agent_state.began_at is 'UTC';
comment on column v_agent_state.ended_at is 'UTC; null: he still does it';
comment on column v_agent_state.lasted is 'From began_at to ended_at; null: he still does it';
