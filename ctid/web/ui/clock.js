// Time as ctid has it: a screen whose own clock is wrong still shows right timers.

let offset = 0;

export const now = () => Date.now() + offset;
export const setClock = (theirs) => { offset = Date.parse(theirs) - Date.now(); };

/** 65000 -> "1:05", 3605000 -> "1:00:05". */
export function spell(milliseconds) {
  const seconds = Math.max(0, Math.floor(milliseconds / 1000));
  const two = (value) => String(value).padStart(2, "0");
  const hours = Math.floor(seconds / 3600);
  const minutes = Math.floor(seconds / 60) % 60;
  return hours ? `${hours}:${two(minutes)}:${two(seconds % 60)}` : `${minutes}:${two(seconds % 60)}`;
}

/** Brings every timer of the page up to date: counting from data-since, or down to data-until. */
export function tick() {
  for (const node of document.querySelectorAll("[data-since],[data-until]")) {
    const { since, until, limit } = node.dataset;
    const passed = since ? now() - Date.parse(since) : Date.parse(until) - now();
    const text = spell(passed);
    if (node.textContent !== text) node.textContent = text;
    if (limit) node.closest("[data-card]")?.toggleAttribute("data-late", passed > Number(limit) * 1000);
  }
}
