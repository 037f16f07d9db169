// Puts the page together: words, theme, account, connection, drawing.

import { setClock, tick } from "./clock.js";
import { el } from "./draw.js";
import { drawFloor } from "./floor.js";
import { drawHandset, phoneKey } from "./handset.js";
import * as line from "./line.js";
import { connect } from "./link.js";
import { isTalking, onChange } from "./phone.js";
import { drawPops, spoken } from "./pops.js";
import { apply, forget, state } from "./state.js";
import { firstLanguage, language, LANGUAGES, named, remembered, speak, t } from "./words.js";

const THEMES = ["auto", "light", "dark"];
const find = (id) => document.getElementById(id);
let link = null;
let notice = ""; // key of a text about the last thing the person did
let isDrawn = false;

const acts = {
  redraw: () => draw(),
  dismiss: (pop) => link?.send({ type: "dismiss", pop: pop.id }),
  endWrapUp,
};

function draw() {
  isDrawn = false;
  const phase = document.body.dataset.phase;
  find("sign-in").hidden = phase !== "signed_out";
  find("main").hidden = phase !== "signed_in";
  find("sign-out").hidden = phase !== "signed_in";
  document.body.dataset.connection = state.connection;
  document.body.dataset.takesCalls = String(!state.user || Boolean(state.user.agent));
  find("link").hidden = phase !== "signed_in";
  find("link").textContent = t(`link.${state.connection}`);
  const user = state.user;
  find("me").textContent = user ? [user.name, named("role", user.role), user.agent].filter(Boolean).join(" · ") : "";
  drawBanner(phase);
  drawTheme();
  drawLanguages();
  if (phase === "signed_in") {
    drawPops(acts);
    drawFloor(acts);
    drawHandset();
  }
  tick();
}

/** Draws once for all messages that have come; in a hidden tab too, where frames are not drawn. */
function drawSoon() {
  if (isDrawn) return;
  isDrawn = true;
  queueMicrotask(draw);
}

function drawBanner(phase) {
  const banner = find("banner");
  let key = phase === "signed_out" && isTalking() ? "banner.talking" : notice;
  if (phase !== "signed_out" && state.connection === "offline") key = "banner.offline";
  else if (phase === "signed_in" && state.floor?.exchange === "lost") key = "banner.exchange";
  banner.hidden = !key;
  const text = key ? t(key) : "";
  if (banner.textContent !== text) banner.textContent = text;
}

function drawTheme() {
  const theme = localStorage.getItem("ctid.theme") ?? "auto";
  document.documentElement.dataset.theme = theme;
  find("theme").textContent = t(`theme.${theme}`);
}

function drawLanguages() {
  const parent = find("languages");
  if (parent.dataset.for === language()) return;
  parent.dataset.for = language();
  parent.replaceChildren(...LANGUAGES.map((name) =>
    el("button", { type: "button", lang: name, "aria-pressed": String(name === language()), on: { click: () => choose(name) } }, t(`language.${name}`))));
}

async function choose(name) {
  await speak(name, { remember: true });
  draw();
  find("languages").querySelector("[aria-pressed=true]")?.focus();
}

function take(message) {
  if (message.type === "hello" || message.type === "beat") setClock(message.now);
  if (message.type === "hello" && message.user.agent) line.begin();
  if (message.type === "hello" && !remembered() && message.user.language !== language()) {
    speak(message.user.language).then(draw);
  }
  if (apply(message) === "sync") link.send({ type: "sync" });
  if (message.type === "pop.offered") find("said").textContent = spoken(message.pop);
  if (message.type === "pop.withdrawn") find("said").textContent = t("said.withdrawn", { why: named("offer", message.pop.reason) });
  drawSoon();
  if (message.type === "pop.offered") queueMicrotask(() => link?.send({ type: "seen", pop: message.pop.id })); // drawn by now
}

function enter() {
  find("sign-in-error").textContent = "";
  link = connect({
    message: take,
    live: () => {
      document.body.dataset.phase = "signed_in";
      state.connection = "live";
      drawSoon();
    },
    lost: () => { state.connection = "offline"; drawSoon(); },
    signedOut: leave,
  });
}

function leave() {
  link?.close();
  link = null;
  line.end();
  forget();
  state.connection = "connecting";
  notice = "";
  document.body.dataset.phase = "signed_out";
  draw();
  find("token").focus();
}

/** Take a token from the link's fragment (no server ever sees it), and out of the address bar. */
function tokenInLink() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (token) history.replaceState(null, "", location.pathname);
  return token;
}

async function signIn(event) {
  event?.preventDefault();
  const field = find("token");
  let code = "";
  try {
    const answer = await fetch("/api/v1/session", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ token: field.value.trim() }),
    });
    if (!answer.ok) code = (await answer.json()).code;
  } catch {
    code = "network";
  }
  if (!code) {
    field.value = "";
    return enter();
  }
  document.body.dataset.phase = "signed_out";
  const isKnown = ["bad_token", "store_unavailable", "network"].includes(code);
  find("sign-in-error").textContent = isKnown ? t(`problem.${code}`) : t("problem.other");
  field.focus();
}

async function signOut() {
  if (isTalking()) {
    notice = "banner.hang_up_first";
    return draw();
  }
  await fetch("/api/v1/session", { method: "DELETE" }).catch(() => null);
  leave();
}

async function endWrapUp() {
  const agent = state.user?.agent;
  if (!agent) return;
  const answer = await fetch(`/api/v1/agents/${encodeURIComponent(agent)}/wrap-up/end`, { method: "POST" }).catch(() => null);
  notice = answer?.ok || answer?.status === 409 ? "" : "problem.wrap_up";
  drawSoon();
}

function keys(event) {
  if (event.altKey && event.code === "KeyW") endWrapUp();
  else if (event.altKey && event.code === "KeyP") find("open").firstElementChild?.focus();
  else if (!phoneKey(event)) return;
  event.preventDefault();
}

/** What is on the screen may be over: hide what rings until ctid has told. */
function doubt() {
  if (document.body.dataset.phase !== "signed_in") return;
  state.doubt = true;
  draw();
}

let ticked = Date.now();
function everySecond() {
  // The page stood still (frozen tab, sleeping laptop): what it shows is of then.
  if (Date.now() - ticked > 5_000 && !document.hidden) { doubt(); link?.verify(); line.verify(); }
  ticked = Date.now();
  tick();
}

async function start() {
  await speak(firstLanguage());
  find("sign-in").addEventListener("submit", signIn);
  find("sign-out").addEventListener("click", signOut);
  find("theme").addEventListener("click", () => {
    const next = THEMES[(THEMES.indexOf(document.documentElement.dataset.theme) + 1) % THEMES.length];
    localStorage.setItem("ctid.theme", next);
    draw();
  });
  addEventListener("keydown", keys);
  document.addEventListener("freeze", doubt);
  document.addEventListener("resume", () => { doubt(); link?.verify(); });
  addEventListener("pageshow", (event) => { if (event.persisted) { doubt(); link?.verify(); } });
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && Date.now() - ticked > 5_000) { doubt(); link?.verify(); }
  });
  setInterval(everySecond, 1000);
  onChange(() => { if (!isTalking() && notice === "banner.hang_up_first") notice = ""; drawSoon(); });
  draw();
  const token = tokenInLink();
  if (!token) return enter(); // the first question of the connection is who we are
  find("token").value = token;
  return signIn();
}

start();
