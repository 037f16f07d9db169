// Microphones, speakers and levels.

import { changed, phone } from "./phone.js";

const PROBLEMS = { NotAllowedError: "denied", SecurityError: "denied", NotFoundError: "none", NotReadableError: "busy" };
const LEVEL_MS = 100;
const QUIET_DB = -60; // shown as nothing

export const devices = { microphone: [], speaker: [] }; // of MediaDeviceInfo
let context = null;
let isLent = false; // some browsers say "prompt" of a microphone that they lend until the page is closed

/** Returns the id of the device chosen as "microphone", "speaker" or "bell"; empty: the browser's own choice. */
export const chosen = (use) => localStorage.getItem(`ctid.phone.${use}`) ?? "";

/** Whether the browser cleans the agent's voice: echo, noise, loudness. Good headsets do it themselves. */
export const isCleaned = () => localStorage.getItem("ctid.phone.cleaned") !== "no";

export function choose(use, id, label = "") {
  localStorage.setItem(`ctid.phone.${use}`, id);
  localStorage.setItem(`ctid.phone.${use}.label`, label);
  if (use === "speaker") for (const voice of document.querySelectorAll("audio.voice")) lead(voice);
  if (use === "microphone" || use === "cleaned") for (const call of [phone.call, phone.consult]) exchange(call);
}

/** Returns a stream of the microphone, or null and a problem told. */
export async function openMicrophone() {
  const clean = isCleaned();
  const wanted = { echoCancellation: clean, noiseSuppression: clean, autoGainControl: clean };
  const stream = await ask({ ...wanted, deviceId: chosen("microphone") ? { exact: chosen("microphone") } : undefined }, wanted);
  if (stream) {
    phone.problem = "";
    isLent = true;
    if (await list()) { // now the devices have names
      close(stream);
      return openMicrophone();
    }
  }
  changed();
  return stream;
}

async function ask(wanted, otherwise) {
  if (!navigator.mediaDevices) return tell("insecure");
  try {
    return await navigator.mediaDevices.getUserMedia({ audio: wanted });
  } catch (error) {
    // The chosen one was unplugged: any other is better than none.
    if (otherwise && (error.name === "OverconstrainedError" || error.name === "NotFoundError")) return ask(otherwise, null);
    return tell(PROBLEMS[error.name] ?? "other");
  }
}

function tell(problem) {
  phone.problem = problem;
  return null;
}

export const close = (stream) => stream?.getTracks().forEach((track) => track.stop());

/** In a call, speaks with the microphone that is chosen now. */
async function exchange(call) {
  const sender = call?.session.connection?.getSenders().find((one) => one.track?.kind === "audio");
  if (!sender) return;
  const stream = await openMicrophone();
  const [track] = stream?.getAudioTracks() ?? [];
  if (!track || sender.transport?.state === "closed") return close(stream);
  track.enabled = sender.track.enabled;
  await sender.replaceTrack(track);
  close(call.microphone);
  call.microphone = stream;
}

/** Finds out, without asking anybody, whether a call could be answered; and again whenever that changes. */
export async function watchDevices() {
  if (!navigator.mediaDevices) return changed(tell("insecure"));
  navigator.mediaDevices.addEventListener("devicechange", look);
  const permission = await navigator.permissions.query({ name: "microphone" }).catch(() => null);
  permission?.addEventListener("change", look);
  return look();
}

export async function look() {
  await list();
  for (const call of [phone.call, phone.consult]) {
    if (call?.microphone?.getTracks().some((track) => track.readyState === "ended")) exchange(call); // unplugged
  }
  const permission = await navigator.permissions.query({ name: "microphone" }).catch(() => null);
  const may = permission?.state ?? "granted"; // where it can not be asked, the first call tells
  phone.problem = !devices.microphone.length ? "none" : { denied: "denied", prompt: isLent ? "" : "ask" }[may] ?? "";
  changed();
}

/** Lists the devices; says whether the microphone has turned out to be another one than thought. */
async function list() {
  const found = await navigator.mediaDevices.enumerateDevices();
  devices.microphone = found.filter((one) => one.kind === "audioinput");
  devices.speaker = found.filter((one) => one.kind === "audiooutput");
  recognise("speaker", devices.speaker);
  recognise("bell", devices.speaker);
  return recognise("microphone", devices.microphone);
}

/** Some browsers give a device another id at every visit: then its label tells which one was chosen. */
function recognise(use, found) {
  const label = localStorage.getItem(`ctid.phone.${use}.label`);
  const same = found.find((one) => one.label === label);
  if (!label || !same || found.some((one) => one.deviceId === chosen(use))) return false;
  localStorage.setItem(`ctid.phone.${use}`, same.deviceId);
  return true;
}

/** Plays what comes over a connection, as long as the element stays in the page. */
export function play(connection) {
  const voice = document.createElement("audio");
  voice.className = "voice";
  voice.autoplay = true;
  lead(voice);
  connection.addEventListener("track", ({ track }) => {
    voice.srcObject = new MediaStream([track]);
    voice.play().catch(() => {});
  });
  document.body.append(voice);
  return voice;
}

const lead = (voice) => voice.setSinkId?.(chosen("speaker")).catch(() => {});

/** Shows the loudness of a stream in a bar until the returned function is called. */
export function measure(stream, bar) {
  context ??= new AudioContext();
  context.resume();
  const source = context.createMediaStreamSource(stream);
  const analyser = context.createAnalyser();
  source.connect(analyser);
  const samples = new Float32Array(analyser.fftSize);
  const timer = setInterval(() => {
    if (document.hidden) return;
    analyser.getFloatTimeDomainData(samples);
    const power = samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length;
    bar.value = Math.max(0, 1 - (10 * Math.log10(power + 1e-12)) / QUIET_DB);
  }, LEVEL_MS);
  return () => {
    clearInterval(timer);
    source.disconnect();
    bar.value = 0;
  };
}
