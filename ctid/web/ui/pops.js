// The agent's own pops: who calls and why, what was before; and what he missed.

import { spell } from "./clock.js";
import { el, icon, list, timer } from "./draw.js";
import { titleOf } from "./floor.js";
import { state } from "./state.js";
import { language, named, t } from "./words.js";

const folded = new Set(); // ids whose details the agent folded

const newest = (one, other) => Date.parse(other.offered_at) - Date.parse(one.offered_at) || (one.id < other.id ? -1 : 1);
const ringingFirst = (one, other) => (other.state === "ringing") - (one.state === "ringing") || newest(one, other);

export function drawPops(acts) {
  const hidden = state.doubt;
  const pops = [...state.open.values()].filter((pop) => !(hidden && pop.state === "ringing")).sort(ringingFirst);
  const again = language() + [...folded].join() + state.connection;
  list(document.getElementById("open"), pops, (pop) => pop.id, (pop) => card(pop, acts), { again });
  const missed = [...state.missed.values()].sort((one, other) => Date.parse(other.ended_at) - Date.parse(one.ended_at));
  list(document.getElementById("missed"), missed, (pop) => pop.id, (pop) => row(pop, acts), { again: language() });
  document.getElementById("missed-part").hidden = missed.length === 0;
  const empty = document.getElementById("pops-empty");
  empty.hidden = pops.length > 0;
  empty.textContent = !state.isDeskKnown ? t("loading") : state.doubt ? t("pops.checking") : t("pops.empty");
  const ringing = pops.find((pop) => pop.state === "ringing");
  document.title = ringing ? `☎ ${who(ringing)} · ctid` : "ctid";
}

export const who = (pop) => pop.caller_name || pop.caller_number || t("caller.unknown");

/** Says a pop for people who do not see it. */
export const spoken = (pop) =>
  [pop.vip ? t("pop.vip") : "", t("said.call", { who: who(pop), number: pop.caller_number }), why(pop)].filter(Boolean).join(", ");

const why = (pop) => [pop.business && named("business", pop.business), pop.line, titleOf(pop.queue)].filter(Boolean).join(" · ");

function card(pop, acts) {
  const isFolded = folded.has(pop.id);
  const fold = () => { folded.has(pop.id) ? folded.delete(pop.id) : folded.add(pop.id); acts.redraw(); };
  const isRinging = pop.state === "ringing";
  const keys = (event) => {
    if (event.target !== event.currentTarget) { if (event.key !== "Escape") return; }
    if (event.key === "Enter") fold();
    else if (event.key === "Escape") isRinging ? fold() : acts.dismiss(pop);
    else return;
    event.preventDefault();
  };
  return el("article", {
    class: "card pop", "data-state": pop.state, "data-vip": pop.vip, "data-id": pop.id, "data-focus": pop.id,
    tabindex: "0", "aria-label": spoken(pop), on: { keydown: keys },
  },
    el("p", { class: "state" }, icon(pop.state), el("span", {}, t(`pop.state.${pop.state}`)),
      timer(isRinging ? pop.offered_at : pop.ended_at), pop.vip ? badge() : null,
      isRinging && state.connection !== "live" ? el("span", { class: "unsure" }, t("pop.unsure")) : null),
    el("p", { class: "who" }, el("bdi", {}, who(pop))),
    el("p", { class: "number" }, pop.caller_name ? el("bdi", {}, pop.caller_number || t("caller.no_number")) : ""),
    el("dl", { class: "why" },
      fact(t("pop.business"), pop.business && named("business", pop.business)),
      fact(t("pop.line"), pop.line), fact(t("pop.queue"), titleOf(pop.queue)),
      fact(t("pop.waited"), spell(pop.waited_seconds * 1000))),
    isFolded ? null : before(pop),
    el("p", { class: "acts" },
      el("button", { type: "button", class: "quiet", "data-focus": `fold ${pop.id}`, "aria-expanded": String(!isFolded), on: { click: fold } },
        t(isFolded ? "pop.unfold" : "pop.fold"), el("kbd", {}, "Enter")),
      isRinging ? null : el("button", { type: "button", class: "quiet", on: { click: () => acts.dismiss(pop) } }, t("pop.dismiss"), el("kbd", {}, "Esc"))));
}

const badge = () => el("span", { class: "vip" }, icon("vip"), t("pop.vip"));
const fact = (name, value) => (value ? el("div", {}, el("dt", {}, name), el("dd", {}, el("bdi", {}, value))) : null);

function before(pop) {
  if (!pop.background) return el("p", { class: "muted" }, t("pop.no_background"));
  const { calls, tickets } = pop.background;
  return el("div", { class: "before" },
    el("h3", {}, t("pop.tickets", { n: tickets.length })),
    tickets.length ? el("ul", {}, tickets.map(ticket)) : el("p", { class: "muted" }, t("pop.no_tickets")),
    el("h3", {}, t("pop.calls")),
    calls.length ? el("ul", {}, calls.map(call)) : el("p", { class: "muted" }, t("pop.no_calls")));
}

const ticket = (found) => el("li", {}, icon("ticket"), el("span", { class: "main" }, el("bdi", {}, found.title || found.id)),
  el("span", { class: "muted" }, [found.form && named("business", found.form), named("ticket", found.state),
    found.due_at && t("ticket.due", { at: moment(found.due_at) })].filter(Boolean).join(" · ")));

const call = (found) => el("li", {}, el("time", { datetime: found.at }, moment(found.at)),
  el("span", { class: "main" }, [titleOf(found.queue), named("outcome", found.outcome)].filter(Boolean).join(" · ")),
  el("span", { class: "muted" }, [found.agent && t("pop.by", { agent: found.agent }),
    found.talked_seconds ? spell(found.talked_seconds * 1000) : ""].filter(Boolean).join(" · ")));

function row(pop, acts) {
  return el("li", { "data-id": pop.id },
    icon("withdrawn"),
    el("span", { class: "main" }, pop.vip ? badge() : null, el("bdi", {}, who(pop)), pop.caller_name ? el("span", { class: "number" }, el("bdi", {}, pop.caller_number)) : null),
    el("span", { class: "muted" }, [named("offer", pop.reason), moment(pop.ended_at)].join(" · ")),
    el("button", { type: "button", class: "quiet", "data-focus": pop.id, "aria-label": t("missed.dismiss", { who: who(pop) }), on: { click: () => acts.dismiss(pop) } }, "×"));
}

function moment(text) {
  const at = new Date(text);
  const isToday = at.toDateString() === new Date().toDateString();
  const time = { hour: "2-digit", minute: "2-digit", hour12: false };
  return at.toLocaleString(language(), isToday ? time : { month: "short", day: "numeric", ...time });
}
