// The bell. Each burst is started by itself, so that a page that stood still rings no further.

import { changed, phone } from "./phone.js";
import { chosen } from "./sound.js";

const EVERY_MS = 3_000;
const LATE_MS = 1_500;
const TONES = [[880, 0, 0.35], [660, 0.4, 0.35], [880, 0.8, 0.35]]; // hertz, begin, length in seconds

let context = null;
let gain = null;
let timer = 0;

/** Rings until `silence`; `doubtful` is called instead of a burst that comes too late. */
export function ring(doubtful) {
  silence();
  prepare();
  burst();
  const due = Date.now() + EVERY_MS;
  timer = setTimeout(() => (Date.now() - due > LATE_MS ? doubtful() : ring(doubtful)), EVERY_MS);
}

export function silence() {
  clearTimeout(timer);
  timer = 0;
  gain?.disconnect();
  gain = null;
}

export const isRinging = () => timer !== 0;

function burst() {
  gain = context.createGain();
  gain.gain.value = 0.25;
  gain.connect(context.destination);
  const at = context.currentTime + 0.02;
  for (const [hertz, begin, length] of TONES) {
    const tone = context.createOscillator();
    tone.frequency.value = hertz;
    tone.connect(gain);
    tone.start(at + begin);
    tone.stop(at + begin + length);
  }
}

/** Makes the bell ready; a browser lets a page sound only once somebody has touched it. */
export function prepare() {
  if (!context) {
    context = new AudioContext();
    context.addEventListener("statechange", tell);
    for (const touch of ["pointerdown", "keydown"]) addEventListener(touch, () => context.resume(), { capture: true });
    tell();
  }
  if (context.setSinkId && context.sinkId !== chosen("bell")) context.setSinkId(chosen("bell")).catch(() => {});
}

function tell() {
  phone.isMute = context.state !== "running";
  changed();
}
