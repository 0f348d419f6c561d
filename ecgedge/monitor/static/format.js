/** Numbers, times and elements: small helpers that every part of the page uses. */

/** @param {string} id */
export const byId = (id) => document.getElementById(id);

/**
 * Make an element; its text is text, never markup.
 * @param {string} tag
 * @param {string} [text]
 * @param {string} [className]
 */
export function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

/** Write a text only where it changes, so that nothing is laid out or read aloud again. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** A custom property of style.css, for what is drawn on canvases. @param {string} name */
export const cssValue = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** @param {number | null | undefined} value */
export const fixed = (value, digits = 1) => (Number.isFinite(value) ? value.toFixed(digits) : "--");

/** @param {number} seconds "8 s", "3 min", "2 h 5 min" */
export function span(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  const minutes = Math.floor(s / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** @param {number} seconds "1:05" */
export const countdown = (seconds) => {
  const s = Math.max(0, Math.ceil(seconds));
  return `${Math.floor(s / 60)}:${String(s % 60).padStart(2, "0")}`;
};

/** @param {number} ms epoch */
export const clock = (ms) => new Date(ms).toLocaleTimeString([], { hour12: false });

/** The server's wall clock, as far as the last message tells. */
export const serverClock = {
  offsetMs: 0,
  set(serverMs) {
    this.offsetMs = serverMs - Date.now();
  },
  nowMs() {
    return Date.now() + this.offsetMs;
  },
};
