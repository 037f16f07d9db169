// Calls: what an agent does with them, and what becomes of them.

import { ring, silence } from "./bell.js";
import { now } from "./clock.js";
import { changed, current, phone } from "./phone.js";
import { close, openMicrophone, play } from "./sound.js";

const MEDIA = { pcConfig: { iceServers: [] } };
// All candidates are this machine's own addresses: they come at once or not at all.
const CANDIDATES_MS = 200;
const DIGIT_MS = 160;

/** Takes an incoming session. One call at a time: a second one finds the agent busy. */
export function receive(session, doubtful) {
  if (phone.call || phone.consult) return session.terminate({ status_code: 486 });
  phone.notice = "";
  phone.call = follow(session, "ringing");
  if (!phone.doubt) ring(doubtful);
  return changed();
}

function follow(session, state) {
  const { uri, display_name: name } = session.remote_identity;
  const number = uri.user ?? "";
  const call = {
    session, state, number, name: name && name !== number ? name : "",
    since: moment(), isHeld: false, isMuted: false, isBusy: false, microphone: null, voice: null,
  };
  session.on("accepted", () => talk(call));
  session.on("ended", () => over(call));
  session.on("failed", () => over(call));
  session.on("icecandidate", ({ ready }) => setTimeout(ready, CANDIDATES_MS));
  return call;
}

const moment = () => new Date(now()).toISOString();

function talk(call) {
  call.state = "talking";
  call.since = moment();
  changed();
}

function over(call) {
  if (call.state === "ringing") silence();
  if (call.state === "calling") phone.notice = call.isMine ? "" : "call_failed";
  call.state = "over";
  close(call.microphone);
  call.voice?.remove();
  if (phone.call === call) { phone.call = phone.consult; phone.consult = null; }
  else if (phone.consult === call) phone.consult = null;
  changed();
}

export async function answer() {
  const { call } = phone;
  if (call?.state !== "ringing" || call.isBusy || phone.doubt) return;
  call.isBusy = true;
  const microphone = await openMicrophone();
  call.isBusy = false;
  if (!microphone || call.state !== "ringing") return close(microphone);
  silence();
  call.microphone = microphone;
  call.state = "answering";
  call.session.answer({ ...MEDIA, mediaStream: microphone });
  call.voice = play(call.session.connection);
  changed();
}

/** Calls a number; returns the call, or null: no microphone. */
async function dial(number) {
  phone.notice = "";
  const microphone = await openMicrophone();
  if (!microphone) return null;
  if (!phone.agent?.isRegistered()) {
    close(microphone);
    return fail("call_failed");
  }
  const session = phone.agent.call(number, { ...MEDIA, mediaStream: microphone });
  const call = follow(session, "calling");
  call.number = number;
  call.microphone = microphone;
  call.voice = play(session.connection);
  return call;
}

export async function callNumber(text) {
  const number = dialled(text);
  if (!number || phone.call) return;
  const call = await dial(number);
  if (call && phone.call) return end(call); // somebody called meanwhile
  phone.call = call;
  changed();
}

/** Returns what of a text can be dialled. */
const dialled = (text) => text.replace(/[^0-9*#+]/g, "");

export const hangUp = () => end(current());

function end(call) {
  if (!call || call.state === "over") return;
  call.isMine = true;
  call.session.terminate(call.state === "ringing" ? { status_code: 486 } : {});
}

export function toggleHold() {
  const call = current();
  if (call?.state === "talking") hold(call, !call.isHeld);
}

/** Puts a call on hold or takes it back; resolves when the other side has agreed. */
function hold(call, wanted) {
  if (call.isHeld === wanted) return Promise.resolve(true);
  return new Promise((done) => {
    const act = wanted ? "hold" : "unhold";
    const isSent = call.session[act]({}, () => { call.isBusy = false; changed(); done(true); });
    if (!isSent) return done(false);
    call.isHeld = wanted;
    call.isBusy = true;
    return changed();
  });
}

export function toggleMute() {
  const call = current();
  if (call?.state !== "talking") return;
  call.isMuted = !call.isMuted;
  call.session[call.isMuted ? "mute" : "unmute"]({ audio: true });
  changed();
}

export function press(digit) {
  const call = current();
  if (call?.state !== "talking" || call.isHeld) return;
  call.session.sendDTMF(digit, { transportType: "RFC2833", duration: DIGIT_MS, interToneGap: DIGIT_MS });
}

export function transfer(text) {
  const number = dialled(text);
  if (!number || phone.consult || phone.call?.state !== "talking") return;
  refer(number, {});
}

export async function consult(text) {
  const number = dialled(text);
  const { call } = phone;
  if (!number || phone.consult || call?.state !== "talking" || call.isBusy) return;
  if (!(await hold(call, true)) || phone.call !== call) return;
  const asked = await dial(number);
  if (asked && (phone.call !== call || phone.consult)) return end(asked); // the caller gave up meanwhile
  phone.consult = asked;
  if (!asked) await hold(call, false);
  changed();
}

export function handOver() {
  const { call, consult: asked } = phone;
  if (asked?.state === "talking" && call) refer(asked.session.remote_identity.uri.clone(), { replaces: asked.session });
}

export async function backToCaller() {
  const { call, consult: asked } = phone;
  if (!asked || !call) return;
  end(asked);
  await hold(call, false);
}

/** Asks Asterisk to connect the caller with somebody else; we leave once it has. */
function refer(target, options) {
  const { call, consult: asked } = phone;
  phone.notice = "";
  call.isBusy = true;
  const failed = () => { call.isBusy = false; fail("transfer_failed"); };
  const eventHandlers = { requestFailed: failed, failed, accepted: () => { end(asked); end(call); } };
  if (!call.session.refer(target, { ...options, eventHandlers })) failed();
  changed();
}

function fail(notice) {
  phone.notice = notice;
  changed();
  return null;
}

/** The connection to Asterisk is gone: what rang can not be answered any more, talks go on. */
export function dropRinging() {
  if (phone.call?.state === "ringing") end(phone.call);
}
