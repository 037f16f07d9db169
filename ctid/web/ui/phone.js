// What the softphone knows. `line.js` and `calls.js` change it, `handset.js` shows it.

export const phone = {
  place: "unknown",   // unknown | elsewhere | other_tab | here
  line: "connecting", // connecting | registered | refused | failed
  problem: "",        // with the microphone: insecure | none | denied | ask | busy | other
  notice: "",         // of the last thing the agent did: transfer_failed | call_failed
  doubt: false,       // the page stood still: what rings may be over
  isMute: false,      // the browser lets no page ring before it was touched
  agent: null,        // JsSIP's user agent, while this tab is the phone
  call: null,
  consult: null,      // the call to a colleague while `call` is on hold
};

let listener = () => {};

export const onChange = (act) => { listener = act; };
export const changed = () => listener();

/** The call that is heard and spoken in. */
export const current = () => phone.consult ?? phone.call;

export const isTalking = () => [phone.call, phone.consult].some((call) => call && call.state !== "ringing");
