// The line to Asterisk: one tab of a browser registers, the next takes over when it closes.

import { isRinging, prepare, ring, silence } from "./bell.js";
import { dropRinging, receive } from "./calls.js";
import { changed, isTalking, phone } from "./phone.js";
import { watchDevices } from "./sound.js";

const LOCK = "ctid.phone";
const AGAIN_MS = 5_000;
const REFUSED_AGAIN_MS = 30_000;
const ANSWER_MS = 4_000;
const REGISTER_SECONDS = 60; // a connection that died without a word is found dead at the next registration

let leaving = null; // AbortController of the time this page wants to be the phone
let retry = 0;

/** Becomes the agent's phone as soon as no other tab is; does nothing if it is already wanted. */
export async function begin() {
  if (leaving) return;
  leaving = new AbortController();
  const { signal } = leaving;
  const account = await ask(signal);
  if (signal.aborted) return;
  if (!account) { show("elsewhere"); return; }
  if (!isSecureContext) { phone.problem = "insecure"; show("here"); return; }
  await watchDevices();
  let isFirst = true;
  await navigator.locks.request(LOCK, { ifAvailable: true }, (lock) => (lock ? serve(signal) : (isFirst = false)));
  if (isFirst || signal.aborted) return;
  show("other_tab");
  navigator.locks.request(LOCK, { signal }, () => serve(signal)).catch(() => {});
}

/** Stops being the phone; a talk is not cut, and may be ended by its keys. */
export function end() {
  leaving?.abort();
  leaving = null;
  show("unknown");
}

function show(place) {
  phone.place = place;
  changed();
}

/** Returns the account, or null: the phone is elsewhere. */
async function ask(signal) {
  while (!signal.aborted) {
    const answer = await fetch("/api/v1/phone", { cache: "no-store" }).catch(() => null);
    if (answer?.status === 200) return answer.json();
    if (answer && answer.status < 500) return null;
    await new Promise((done) => setTimeout(done, AGAIN_MS));
  }
  return null;
}

/** Registers, and keeps the lock until the page leaves and its last talk is over. */
async function serve(signal) {
  show("here");
  prepare();
  await connect(signal);
  if (!signal.aborted) await new Promise((done) => signal.addEventListener("abort", done, { once: true }));
  clearTimeout(retry);
  dropRinging();
  while (isTalking()) await new Promise((done) => setTimeout(done, 200));
  phone.agent?.stop();
  phone.agent = null;
}

async function connect(signal) {
  const account = await ask(signal);
  if (!account || signal.aborted) return;
  const { UA, WebSocketInterface } = await import("./vendor/jssip.js");
  const agent = new UA({
    sockets: [new WebSocketInterface(account.address)],
    uri: `sip:${account.user}@${new URL(account.address).hostname}`,
    password: account.password,
    register_expires: REGISTER_SECONDS,
    session_timers: false,
    connection_recovery_min_interval: 1,
    connection_recovery_max_interval: 8,
    user_agent: "ctid",
  });
  phone.agent?.stop();
  phone.agent = agent;
  listen(agent, signal);
  agent.start();
}

function listen(agent, signal) {
  const on = (name, act) => agent.on(name, (event) => { if (phone.agent === agent) act(event); });
  on("connecting", () => say("connecting"));
  on("disconnected", () => { dropRinging(); say("connecting"); });
  on("registered", () => say("registered"));
  on("registrationFailed", ({ response }) => {
    const isRefused = [401, 403, 404, 407].includes(response?.status_code);
    say(isRefused ? "refused" : "failed");
    later(() => reconnect(signal), isRefused ? REFUSED_AGAIN_MS : AGAIN_MS);
  });
  on("newRTCSession", ({ originator, session }) => { if (originator === "remote") receive(session, verify); });
  on("newMessage", () => {}); // ctid's text for phones with a display; unheard it would be refused
}

function say(line) {
  phone.line = line;
  changed();
}

function later(act, wait) {
  clearTimeout(retry);
  retry = setTimeout(act, wait);
}

/** Starts afresh with what ctid says now; never in a talk. */
function reconnect(signal) {
  if (signal.aborted || phone.agent?.isRegistered()) return;
  if (isTalking()) later(() => reconnect(signal), AGAIN_MS);
  else connect(signal);
}

/**
 * The page stood still: nothing rings until Asterisk has answered a question, since by then
 * everything it said before has been read as well.
 */
export function verify() {
  const { agent } = phone;
  if (!agent || phone.doubt) return;
  phone.doubt = true;
  silence();
  changed();
  const lost = setTimeout(() => { dropRinging(); sure(); if (leaving && !isTalking()) connect(leaving.signal); }, ANSWER_MS);
  const sure = () => {
    clearTimeout(lost);
    phone.doubt = false;
    if (phone.call?.state === "ringing" && !isRinging()) ring(verify);
    changed();
  };
  const heard = ({ response }) => { if (response) sure(); };
  agent.sendOptions(agent.configuration.uri.toString(), null, { eventHandlers: { succeeded: heard, failed: heard } });
}

addEventListener("beforeunload", (event) => { if (isTalking()) event.preventDefault(); });
addEventListener("pagehide", () => phone.agent?.stop());
addEventListener("pageshow", ({ persisted }) => { if (persisted && leaving && phone.place === "here") connect(leaving.signal); });
document.addEventListener("freeze", silence);
document.addEventListener("resume", verify);
