// The floor: queues and agents, as they are now.

import { el, icon, list, timer } from "./draw.js";
import { state } from "./state.js";
import { language, named, t } from "./words.js";

const STATES = ["idle", "ringing", "talking", "wrapping_up", "paused", "unreachable", "logged_out"];
const byText = (key) => (one, other) => one[key].localeCompare(other[key], "en", { numeric: true });

export function drawFloor(acts) {
  const queues = [...(state.floor?.queues.values() ?? [])].sort(byText("queue"));
  const agents = [...(state.floor?.agents.values() ?? [])].sort(byText("agent"));
  const again = language();
  list(document.getElementById("queues"), queues, (card) => card.queue, queue, { again });
  list(document.getElementById("agents"), agents, (card) => card.agent, agent, { again: again + (state.user?.agent ?? "") });
  say("queues-empty", queues.length, state.floor ? t("queues.empty") : t("loading"));
  say("agents-empty", agents.length, state.floor ? t("agents.empty") : t("loading"));
  drawCounts(agents);
  drawOwn(agents, acts);
}

function say(id, count, text) {
  const node = document.getElementById(id);
  node.hidden = count > 0;
  node.textContent = text;
}

/** What people call a queue, in their language. */
export function titleOf(name) {
  return state.floor?.queues.get(name)?.titles?.[language()] || name;
}

function queue(card) {
  return el("article", { class: "card queue", "data-card": true, "data-busy": card.waiting > 0 },
    el("h3", {}, el("bdi", {}, titleOf(card.queue))),
    el("p", { class: "big" }, el("span", {}, String(card.waiting)), el("span", { class: "unit" }, t("queue.waiting"))),
    el("dl", {},
      el("div", { class: "longest" }, el("dt", {}, t("queue.longest")),
        el("dd", {}, timer(card.longest_since, { "data-limit": card.answer_within_seconds || null }) ?? "–",
          el("span", { class: "late" }, icon("late"), t("queue.late")))),
      el("div", {}, el("dt", {}, t("queue.idle")), el("dd", {}, `${card.idle} / ${card.agents}`)),
      el("div", {}, el("dt", {}, t("queue.talking")), el("dd", {}, String(card.talking)))));
}

function agent(card) {
  const isMe = Boolean(card.agent) && card.agent === state.user?.agent;
  return el("li", { class: "agent", "data-state": card.state, "data-me": isMe },
    el("span", { class: "number" }, card.agent),
    el("span", { class: "name" }, el("bdi", {}, card.name), isMe ? el("span", { class: "tag" }, t("agents.me")) : null),
    el("span", { class: "state" }, icon(card.state), el("span", {}, named("state", card.state)),
      card.reason ? el("span", { class: "reason" }, el("bdi", {}, named("reason", card.reason))) : null),
    timer(card.since) ?? el("span", { class: "timer" }, "–"),
    el("span", { class: "muted queues-of" }, card.queues.map(titleOf).join(" · ")));
}

function drawCounts(agents) {
  const counts = STATES.map((name) => [name, agents.filter((card) => card.state === name).length]).filter(([, count]) => count);
  list(document.getElementById("counts"), counts, ([name]) => name,
    ([name, count]) => el("span", { class: "count", "data-state": name }, icon(name), `${named("state", name)} ${count}`), { again: language() });
}

function drawOwn(agents, acts) {
  const own = agents.filter((card) => card.agent && card.agent === state.user?.agent);
  list(document.getElementById("own"), own, (card) => card.agent, (card) =>
    el("div", { class: "card mine", "data-state": card.state },
      el("p", { class: "state" }, icon(card.state), el("span", {}, named("state", card.state)),
        card.reason && card.state === "paused" ? el("span", { class: "reason" }, el("bdi", {}, named("reason", card.reason))) : null,
        timer(card.since)),
      card.state === "wrapping_up"
        ? el("p", { class: "acts" },
            card.until ? el("span", { class: "muted" }, t("wrap_up.left"), " ", el("time", { class: "timer", "data-until": card.until })) : null,
            el("button", { type: "button", class: "primary", "data-focus": "wrap-up", on: { click: acts.endWrapUp } }, t("wrap_up.end"), el("kbd", {}, "Alt+W")))
        : null), { again: language() });
}
