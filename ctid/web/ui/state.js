// What the page knows. `apply` is the only way in; the same messages give the same state,
// and `desk` and `floor.snapshot` replace it, so a reconnection equals a reload.

export const state = {
  user: null,
  boot: "",
  connection: "connecting", // connecting | live | offline
  doubt: false,             // ringing pops may be over: not shown until ctid has said so
  open: new Map(),          // pops by id: ringing and answered
  missed: new Map(),
  isDeskKnown: false,
  floor: null,              // {version, queues: Map, agents: Map, exchange}
  seq: 0,
};

export function forget() {
  Object.assign(state, { user: null, boot: "", isDeskKnown: false, floor: null, seq: 0, doubt: false });
  state.open.clear();
  state.missed.clear();
}

const byId = (pops) => new Map(pops.map((pop) => [pop.id, pop]));
const byName = (cards, name) => new Map(cards.map((card) => [card[name], card]));

/** Takes one message in. Returns "sync" if the whole state has to be asked for again. */
export function apply(message) {
  if (typeof message.seq === "number") state.seq = message.seq;
  switch (message.type) {
    case "hello":
      state.user = message.user;
      state.boot = message.boot;
      return "";
    case "desk":
      state.open = byId(message.desk.open);
      state.missed = byId(message.desk.missed);
      state.isDeskKnown = true;
      state.doubt = false;
      return "";
    case "pop.offered":
    case "pop.enriched":
    case "pop.answered":
    case "pop.withdrawn":
      place(message.pop);
      return "";
    case "pop.closed":
      state.open.delete(message.pop.id);
      state.missed.delete(message.pop.id);
      return "";
    case "floor.snapshot":
      state.floor = {
        version: message.version,
        queues: byName(message.floor.queues, "queue"),
        agents: byName(message.floor.agents, "agent"),
        exchange: message.floor.exchange,
      };
      return "";
    case "floor.changed":
      return change(message);
    default:
      return "";
  }
}

function place(pop) {
  const [home, other] = pop.state === "withdrawn" ? [state.missed, state.open] : [state.open, state.missed];
  other.delete(pop.id);
  home.set(pop.id, pop);
}

function change(message) {
  const floor = state.floor;
  if (!floor || floor.version !== message.version - 1) return "sync";
  floor.version = message.version;
  floor.exchange = message.exchange;
  for (const card of message.queues) floor.queues.set(card.queue, card);
  for (const card of message.agents) floor.agents.set(card.agent, card);
  for (const name of message.gone_queues) floor.queues.delete(name);
  for (const name of message.gone_agents) floor.agents.delete(name);
  return "";
}
