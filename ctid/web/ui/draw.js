// Elements out of values. Text only ever becomes a text node: a caller's name can not become markup.

/** Makes an element; children are elements, texts, or null for nothing. */
export function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") for (const [event, act] of Object.entries(value)) node.addEventListener(event, act);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== ""));
  return node;
}

export const timer = (since, props = {}) => (since ? el("time", { class: "timer", "data-since": since, ...props }) : null);

const NS = "http://www.w3.org/2000/svg";
const SHAPES = {
  ringing: "M6 3c-1.500.7-2.300 2.200-2 3.900C4.800 13.300 9.700 18.200 16.100 19c1.700.3 3.200-.5 3.900-2l-.9-3.400-4.300-1.300-1.900 1.900c-2.200-1-4-2.800-5-5l1.900-1.900L8.500 3z",
  talking: "M4 4h16v11H10l-5 4v-4H4z",
  idle: "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zm-1.500 12.500L7 12l1.400-1.400 2.100 2.100 5.100-5.100L17 9z",
  paused: "M7 4h4v16H7zm6 0h4v16h-4z",
  wrapping_up: "M4 16.500V20h3.500L18 9.500 14.500 6zM20 7.500 16.500 4l1.200-1.200 3.500 3.500z",
  logged_out: "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zm0 3a6 6 0 1 1 0 12 6 6 0 0 1 0-12z",
  unreachable: "M12 3 1.500 21h21zm-1 6h2v6h-2zm0 8h2v2h-2z",
  answered: "M4 4h16v11H10l-5 4v-4H4z",
  withdrawn: "M5.600 4.200 12 10.600l6.400-6.400 1.400 1.400L13.400 12l6.400 6.400-1.400 1.400L12 13.400l-6.400 6.400-1.400-1.400 6.400-6.400-6.400-6.400z",
  vip: "m12 2 3 6.500 7 .9-5.200 4.800L18.200 21 12 17.600 5.800 21l1.400-6.800L2 9.400l7-.9z",
  late: "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zm-1 4h2v5l4 2-1 1.800-5-2.800z",
  ticket: "M3 6h18v4a2 2 0 0 0 0 4v4H3v-4a2 2 0 0 0 0-4z",
};

/** Makes an icon that says what the text beside it says. */
export function icon(name) {
  const svg = document.createElementNS(NS, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(NS, "path");
  path.setAttribute("d", SHAPES[name] ?? SHAPES.unreachable);
  svg.append(path);
  return svg;
}

/**
 * Makes the children of `parent` be the drawn `items`, in order. An item that is the same as
 * before keeps its element, so focus, selection and scroll survive; in one that changed, focus
 * goes to the element with the same data-focus.
 */
export function list(parent, items, key, draw, { again = "" } = {}) {
  const before = parent.drawn ?? new Map();
  const after = new Map();
  const focus = parent.contains(document.activeElement) ? document.activeElement.dataset.focus : null;
  for (const item of items) {
    const name = key(item);
    const print = JSON.stringify(item) + again;
    const old = before.get(name);
    after.set(name, old?.print === print ? old : { print, node: draw(item) });
  }
  const nodes = [...after.values()].map((entry) => entry.node);
  if (nodes.length !== parent.children.length || nodes.some((node, at) => node !== parent.children[at])) {
    parent.replaceChildren(...nodes);
    if (focus) parent.querySelector(`[data-focus="${CSS.escape(focus)}"]`)?.focus({ preventScroll: true });
  }
  parent.drawn = after;
}
