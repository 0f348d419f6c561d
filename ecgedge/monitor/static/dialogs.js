/** Keyboard, and the dialogs: acknowledge, model card, help. */
import { title } from "./alarms.js";
import { byId, element, setText } from "./format.js";

/**
 * Single keys, listed in the help; a checkbox there turns them off.
 * @param {Record<string, [string, () => void]>} keys
 */
export function setUpKeys(keys) {
  for (const [key, [what]] of Object.entries(keys)) {
    const line = element("tr");
    line.append(element("th"), element("td", what));
    line.firstChild.append(element("kbd", key));
    byId("key-list").tBodies[0].append(line);
  }
  document.addEventListener("keydown", (event) => {
    const dialog = event.target.closest("dialog"); // one that has just been closed may still have the focus
    const typing = dialog ? dialog.open : event.target.closest("input, select, textarea");
    if (typing || event.ctrlKey || event.metaKey || event.altKey || !byId("keys-on").checked) return;
    if (!Object.hasOwn(keys, event.key)) return;
    event.preventDefault();
    keys[event.key][1]();
  });
}

/** Buttons that close the dialog they stand in. */
export function setUpClosing() {
  for (const button of document.querySelectorAll("[data-close]")) {
    button.onclick = () => button.closest("dialog").close();
  }
}

const LOST = "The server has gone before it answered. Once it is back, look whether this was done.";

/**
 * Ask who it is, and do it.
 * @param {string} what the title
 * @param {string} text
 * @param {string | null} user who is logged in
 * @param {(user: string) => Promise<{ok: boolean, error: string | null}>} act
 */
export function askUser(what, text, user, act) {
  const name = byId("ack-user");
  setText(byId("ack-title"), what);
  setText(byId("ack-text"), text);
  setText(byId("ack-error"), "");
  name.value = user ?? sessionStorage.getItem("user") ?? "";
  name.readOnly = user !== null;
  byId("ack-form").onsubmit = async (event) => {
    event.preventDefault();
    if (name.value.trim() === "") return;
    if (user === null) sessionStorage.setItem("user", name.value.trim());
    const answer = await act(name.value.trim());
    if (answer.ok) byId("ack-dialog").close();
    else setText(byId("ack-error"), answer.error ? `Not done: ${answer.error}` : LOST);
  };
  byId("ack-dialog").showModal();
}

/** @param {object} alarm */
export const question = (alarm) => `${title(alarm.condition)}: ${alarm.text}`;

/** Show what the bundle says of itself. @param {string} bed @param {object} bundle */
export async function openCard(bed, bundle) {
  const facts = { Name: bundle.name, "Trained on": bundle.trained_on, "SHA-256": bundle.id };
  const lines = Object.entries(facts).map(([name, value]) => {
    const line = element("div");
    line.append(element("dt", name), element("dd", value ?? "--"));
    return line;
  });
  byId("card-facts").replaceChildren(...lines);
  byId("card").showModal();
  try {
    const answer = await fetch(`/card?bed=${encodeURIComponent(bed)}`);
    if (!answer.ok) throw new Error(`the server answers ${answer.status}`);
    byId("card-text").replaceChildren(...readable(await answer.text()));
  } catch (error) {
    setText(byId("card-text"), `The model card cannot be read: ${error.message}`);
  }
}

/** Markdown's headings and paragraphs as elements; tables and lists stay as they are written. */
export function readable(markdown) {
  return markdown.split(/\n{2,}/).map((part) => {
    const heading = /^(#+) +(.*)$/.exec(part.trim());
    if (heading) return element("h3", heading[2]);
    return /^\s*[|`\-*]/.test(part) ? element("pre", part) : element("p", part);
  });
}
