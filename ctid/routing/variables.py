"""The only list of ``CTID_*`` names that pass between ctid and the dialplan.

A test holds it against every ``CTID_`` in ``dialplan/``.
"""

from __future__ import annotations

from typing import Final

#: Set by ``route``, in this order; CTID_OK always last. name -> what it means.
FROM_ROUTE: Final = {
    "CTID_QUEUE": "queue to wait in; empty: none (see CTID_ACTION)",
    "CTID_ACTION": "queue | closed | reject: which part of the dialplan goes on",
    "CTID_PRIORITY": "QUEUE_PRIO, whole number, higher is served sooner",
    "CTID_TIMEOUT": "whole seconds to wait in CTID_QUEUE",
    "CTID_OVERFLOW_QUEUE": "queue to try after CTID_TIMEOUT; empty: none",
    "CTID_OVERFLOW_TIMEOUT": "whole seconds to wait there",
    "CTID_AGENT_QUEUE": "personal queue of the agent who knows the caller; empty: none",
    "CTID_AGENT_TIMEOUT": "whole seconds to try that agent first",
    "CTID_RULE": "name in queuerules.conf: skills that relax with waiting time; empty: none",
    "CTID_LANGUAGE": "CHANNEL(language)",
    "CTID_GREETING": "sound file played before the queue; empty: none",
    "CTID_NAME_PREFIX": "put before the caller's name on the agent's phone, e.g. [报修][VIP]",
    "CTID_RECORD": "1: record; 0: do not",
    "CTID_RECORDING": "UUID of the recording, chosen by ctid",
    "CTID_LINE": "name of the dialled line in policy.toml",
    "CTID_BUSINESS": "consultation | repair | complaint | survey | inspection",
    "CTID_VIP": "1 if on the VIP list",
    "CTID_OK": "1: every variable above is set; anything else: fall back",
}

#: Set by the dialplan itself.
IN_DIALPLAN: Final = {
    "CTID_POP_URL": "global: where a pop can be fetched, %s is replaced by the leg",
    "CTID_FASTAGI": "global: host:port of the daemon",
    "CTID_RECORDINGS": "global: folder of the recordings",
    "CTID_FALLBACK_QUEUE": "global: queue when nobody decides",
    "CTID_FALLBACK_SCRIPT": "global: pyst2 script that decides when the daemon is away; empty: none",
    "CTID_GUARD_SECONDS": "global: longest a caller waits for the daemon",
    "CTID_DIALLED": "the dialled number, filtered",
    "CTID_CALLER": "the caller's number, filtered",
    "CTID_CALL": "Linkedid of the call, inherited by the agents' legs",
    "CTID_AGENT_QUEUES": "set_var at an agent's endpoint: queues for *11, e.g. repair&complaint:2",
}

ALL: Final = FROM_ROUTE | IN_DIALPLAN
