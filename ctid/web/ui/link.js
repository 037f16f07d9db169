// The WebSocket: connects, comes back after any disturbance, and notices when it is dead.

const FIRST_MS = 500;
const LONGEST_MS = 10_000;
// Beats come every 15 s; in a background tab timers run about once a minute.
const SILENT_MS = 75_000;
const ANSWER_MS = 4_000;

/**
 * @param {object} on
 *   message(message), live(), lost(), signedOut(): what to do then.
 */
export function connect(on) {
  let socket = null;
  let wait = FIRST_MS;
  let retry = 0;
  let heard = 0;
  let ids = 0;
  let isWanted = true;

  async function open() {
    clearTimeout(retry);
    if (!isWanted || socket) return;
    const may = await mayConnect();
    if (!isWanted || socket) return;
    if (may === "signed_out") return on.signedOut();
    if (may === "unknown") {
      on.lost();
      return later();
    }
    const mine = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws`);
    socket = mine;
    heard = Date.now();
    mine.onmessage = ({ data }) => {
      if (socket !== mine) return;
      heard = Date.now();
      const message = JSON.parse(data);
      if (message.type === "hello") {
        wait = FIRST_MS;
        on.live();
      }
      on.message(message);
    };
    mine.onclose = () => drop(mine);
  }

  function drop(mine) {
    if (socket !== mine) return;
    socket = null;
    mine.onmessage = mine.onclose = null;
    mine.close();
    on.lost();
    later();
  }

  function later() {
    if (!isWanted) return;
    clearTimeout(retry);
    retry = setTimeout(open, wait * (0.5 + Math.random()));
    wait = Math.min(wait * 2, LONGEST_MS);
  }

  function send(command) {
    if (socket?.readyState !== WebSocket.OPEN) return false;
    socket.send(JSON.stringify({ ...command, id: ++ids }));
    return true;
  }

  /** Asks for the whole state, at once; without an answer the connection is dead. */
  function verify() {
    const asked = socket;
    if (!asked) return open();
    const before = Date.now();
    if (asked.readyState === WebSocket.OPEN) send({ type: "sync" });
    setTimeout(() => { if (socket === asked && heard < before) drop(asked); }, ANSWER_MS);
  }

  const watch = setInterval(() => { if (socket && Date.now() - heard > SILENT_MS) drop(socket); }, 5_000);
  const soon = () => { wait = FIRST_MS; verify(); };
  addEventListener("online", soon);
  addEventListener("offline", () => { if (socket) drop(socket); });
  open();

  return {
    send,
    verify: soon,
    close() {
      isWanted = false;
      clearInterval(watch);
      clearTimeout(retry);
      removeEventListener("online", soon);
      const mine = socket;
      socket = null;
      if (mine) { mine.onmessage = mine.onclose = null; mine.close(); }
    },
  };
}

async function mayConnect() {
  try {
    const answer = await fetch("/api/v1/session", { cache: "no-store" });
    if (answer.status === 204) return "signed_out";
    return answer.ok ? "signed_in" : "unknown";
  } catch {
    return "unknown";
  }
}
