// The softphone as the agent sees and uses it. Built once per language, so nothing jumps and
// focus stays; every act has a key, and the key is written on it.

import * as calls from "./calls.js";
import { el, timer } from "./draw.js";
import { current, phone } from "./phone.js";
import { choose, chosen, close, devices, isCleaned, look, measure, openMicrophone } from "./sound.js";
import { language, t } from "./words.js";

const DIGITS = [..."123456789*0#"];
const parts = {};
const buttons = {}; // by the code of their key
const levels = { microphone: null, voice: null }; // {stream, stop} of what is being measured

const acts = {
  KeyA: () => (phone.call ? calls.answer() : calls.callNumber(take())),
  KeyH: calls.hangUp,
  KeyO: calls.toggleHold,
  KeyM: calls.toggleMute,
  KeyN: () => parts.number.focus(),
  KeyT: () => calls.transfer(take()),
  KeyC: () => (phone.consult ? calls.handOver() : calls.consult(take())),
  KeyB: calls.backToCaller,
};

function take() {
  const { value } = parts.number;
  if (value) parts.number.value = "";
  else parts.number.focus();
  return value;
}

/** Does what a key means for the phone; says whether it means anything. */
export function phoneKey(event) {
  if (!isHere() || event.repeat || event.ctrlKey || event.metaKey) return false;
  if (event.altKey) {
    if (!buttons[event.code]?.disabled) acts[event.code]?.(); // what its button can not do now, the key can not
    return event.code in acts;
  }
  if (!DIGITS.includes(event.key) || event.target.matches("input, select, textarea")) return false;
  if (current()?.state !== "talking") return false;
  press(event.key);
  return true;
}

const isHere = () => phone.place === "here" && parts.built;

export function drawHandset() {
  const root = document.getElementById("phone");
  root.hidden = phone.place === "unknown" || phone.place === "elsewhere";
  if (root.hidden) return;
  if (parts.built !== language()) build(root);
  root.dataset.state = state();
  root.dataset.line = lineNow();
  drawLine();
  drawCall();
  drawButtons();
  drawProblem();
  drawDevices();
  drawLevels();
}

/** What keeps the agent from being called, if anything: the first that is to be mended. */
function lineNow() {
  if (phone.place !== "here") return phone.place;
  return phone.line === "registered" && phone.problem ? "voiceless" : phone.line;
}

/** What the agent hears: the word for the call in front. */
function state() {
  const call = current();
  if (!call) return "idle";
  if (call.state === "ringing" && phone.doubt) return "checking";
  if (call.state === "answering") return "ringing";
  return call.isHeld ? "held" : call.state;
}

function build(root) {
  const typed = parts.number?.value ?? "";
  parts.built = language();
  parts.line = el("p", { class: "line", role: "status" });
  parts.state = el("span", { class: "word" });
  parts.who = el("bdi", { class: "name" });
  parts.timer = el("span", {});
  root.replaceChildren(
    el("div", { class: "phone-head" }, el("h3", {}, t("phone.title")), parts.line),
    el("p", { class: "phone-call" }, parts.state, parts.who, parts.timer),
    el("div", { class: "main-keys" }, button("answer", "A", "primary"), button("hang_up", "H", "end"), button("hold", "O"), button("mute", "M")),
    buildNumber(typed), buildMiddle(), buildDevices());
}

function button(name, key, kind = "quiet") {
  const word = document.createTextNode("");
  parts[name] = el("button", { type: "button", class: kind, "aria-keyshortcuts": `Alt+${key}`, on: { click: acts[`Key${key}`] } },
    word, el("kbd", {}, `Alt+${key}`));
  parts[name].word = word;
  buttons[`Key${key}`] = parts[name];
  return parts[name];
}

function buildNumber(typed) {
  parts.number = el("input", {
    type: "tel", autocomplete: "off", maxlength: "32", "aria-label": t("phone.number"), placeholder: `${t("phone.number")} Alt+N`,
    on: { keydown: (event) => { if (event.key === "Enter" && !phone.call) acts.KeyA(); } },
  });
  parts.number.value = typed;
  return el("div", { class: "number-row" }, parts.number, button("transfer", "T"), button("consult", "C"), button("back", "B"));
}

function buildMiddle() {
  parts.keys = DIGITS.map((digit) => el("button", { type: "button", "data-digit": digit, on: { click: () => press(digit) } }, digit));
  parts.microphone = bar();
  parts.voice = bar();
  parts.usual = el("div", { class: "usual" }, el("div", { class: "digits", role: "group", "aria-label": t("phone.digits") }, parts.keys),
    el("div", { class: "levels" }, el("label", {}, t("phone.level.me"), parts.microphone), el("label", {}, t("phone.level.other"), parts.voice)));
  parts.problem = el("p", { role: "alert" });
  parts.again = el("button", { type: "button", class: "primary", on: { click: allow } });
  parts.help = el("div", { class: "help" }, parts.problem, parts.again);
  return el("div", { class: "middle" }, parts.usual, parts.help);
}

const bar = () => el("meter", { min: "0", max: "1", value: "0" });

function buildDevices() {
  const select = (use, name) => {
    parts[`${use}s`] = el("select", { on: { change: ({ target }) => choose(use, target.value, target.value && target.selectedOptions[0].label) } });
    return el("label", {}, name, parts[`${use}s`]);
  };
  parts.cleaned = el("input", { type: "checkbox", on: { change: ({ target }) => choose("cleaned", target.checked ? "yes" : "no") } });
  parts.cleaned.checked = isCleaned();
  parts.drawn = "";
  return el("details", { class: "devices" }, el("summary", {}, t("phone.devices")),
    select("microphone", t("phone.microphone")), select("speaker", t("phone.speaker")), select("bell", t("phone.bell")),
    el("label", { class: "check" }, parts.cleaned, t("phone.cleaned")), el("p", { class: "muted" }, t("phone.keys")));
}

function press(digit) {
  calls.press(digit);
  const key = parts.keys[DIGITS.indexOf(digit)];
  key.classList.add("pressed");
  setTimeout(() => key.classList.remove("pressed"), 200);
}

async function allow() {
  close(await openMicrophone());
  await look();
}

function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function drawLine() {
  const line = lineNow();
  const isMuted = line === "registered" && phone.isMute;
  const waits = phone.consult && phone.call ? t("phone.waits", { who: phone.call.name || phone.call.number }) : "";
  write(parts.line, phone.notice ? t(`phone.notice.${phone.notice}`) : waits || (isMuted ? t("phone.touch") : t(`phone.line.${line}`)));
  parts.line.classList.toggle("wrong", Boolean(phone.notice) || isMuted || ["refused", "failed", "voiceless"].includes(line));
  parts.line.classList.toggle("waits", Boolean(waits) && !phone.notice);
}

function drawCall() {
  const call = current();
  write(parts.state, t(`phone.state.${state()}`));
  write(parts.who, call ? [call.name, call.number].filter(Boolean).join(" ") || t("caller.unknown") : "");
  const since = call && call.state !== "answering" ? call.since : "";
  if (parts.timer.dataset.at !== since) {
    parts.timer.dataset.at = since;
    parts.timer.replaceChildren(...[since && timer(since)].filter(Boolean));
  }
}

function set(name, word, isUsable) {
  write(parts[name].word, word);
  parts[name].disabled = !isUsable;
}

function drawButtons() {
  const call = current();
  const isTalk = call?.state === "talking";
  const isFree = isTalk && !call.isBusy;
  const isReady = lineNow() === "registered" || phone.problem === "ask";
  set("answer", call ? t("phone.answer") : t("phone.call"), call ? call.state === "ringing" && !phone.doubt : isReady);
  set("hang_up", call?.state === "ringing" ? t("phone.decline") : t("phone.hang_up"), Boolean(call));
  set("hold", call?.isHeld ? t("phone.resume") : t("phone.hold"), isFree);
  set("mute", call?.isMuted ? t("phone.unmute") : t("phone.mute"), isTalk);
  parts.hold.setAttribute("aria-pressed", String(Boolean(call?.isHeld)));
  parts.mute.setAttribute("aria-pressed", String(Boolean(call?.isMuted)));
  set("transfer", t("phone.transfer"), isFree && !phone.consult);
  const isAsking = Boolean(phone.consult);
  set("consult", isAsking ? t("phone.hand_over") : t("phone.consult"), isFree);
  set("back", t("phone.back"), isAsking);
  parts.transfer.hidden = isAsking;
  parts.back.hidden = !isAsking;
  for (const key of parts.keys) key.disabled = !isTalk || call.isHeld;
  parts.number.disabled = phone.place !== "here";
}

function drawProblem() {
  const { problem } = phone;
  parts.usual.classList.toggle("covered", Boolean(problem));
  parts.help.classList.toggle("covered", !problem);
  write(parts.problem, problem ? t(`phone.problem.${problem}`) : "");
  write(parts.again, problem === "ask" ? t("phone.allow") : t("phone.again"));
  parts.again.hidden = problem === "insecure";
}

function drawDevices() {
  const print = JSON.stringify([devices, chosen("microphone"), chosen("speaker"), chosen("bell")]);
  if (parts.drawn === print) return;
  parts.drawn = print;
  fill(parts.microphones, devices.microphone, chosen("microphone"));
  fill(parts.speakers, devices.speaker, chosen("speaker"));
  fill(parts.bells, devices.speaker, chosen("bell"));
}

function fill(select, found, id) {
  const named = found.filter((one) => one.deviceId && one.deviceId !== "default");
  select.replaceChildren(el("option", { value: "" }, t("phone.default")),
    ...named.map((one, at) => el("option", { value: one.deviceId, selected: one.deviceId === id }, one.label || `${at + 1}`)));
}

function drawLevels() {
  const call = current();
  level("microphone", call?.microphone, parts.microphone);
  level("voice", call?.voice?.srcObject, parts.voice);
}

function level(name, stream, meter) {
  if (levels[name]?.stream === stream && levels[name]?.meter === meter) return;
  levels[name]?.stop();
  levels[name] = stream ? { stream, meter, stop: measure(stream, meter) } : null;
}
