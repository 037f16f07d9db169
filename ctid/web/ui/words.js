// The words of the page. Nothing here or elsewhere in the page speaks a language by itself.

export const LANGUAGES = ["zh-CN", "en"];
const REMEMBERED = "ctid.language";

let catalogue = {};
let current = "zh-CN";

export const language = () => current;
export const remembered = () => localStorage.getItem(REMEMBERED);

/** Returns the text of a key; `values` fill its {places}. */
export function t(key, values = {}) {
  const text = catalogue[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (place, name) => String(values[name] ?? place));
}

/** Returns the text of a key made of `kind` and a value from the server; a value nobody foresaw is shown as it is. */
export const named = (kind, value) => catalogue[`${kind}.${value}`] ?? value;

export async function speak(wanted, { remember = false } = {}) {
  current = LANGUAGES.includes(wanted) ? wanted : "zh-CN";
  if (remember) localStorage.setItem(REMEMBERED, current);
  const answer = await fetch(`/ui/locales/${current}.json`);
  catalogue = await answer.json();
  document.documentElement.lang = current;
  for (const node of document.querySelectorAll("[data-t]")) node.textContent = t(node.dataset.t);
  for (const node of document.querySelectorAll("[data-t-label]")) node.setAttribute("aria-label", t(node.dataset.tLabel));
}

export const firstLanguage = () =>
  remembered() ?? (navigator.languages.some((tag) => tag.toLowerCase().startsWith("zh")) ? "zh-CN" : "en");
