/** What both pages have: theme, keys, sound, the mark of what is no patient, the cover when the server is gone. */
import { setUpClosing, setUpKeys } from "./dialogs.js";
import { byId, element, setText, span } from "./format.js";
import { setUpTheme } from "./theme.js";
import { Tone } from "./tone.js";

/**
 * Wire the header's buttons and the keys.
 * @param {{onTheme: () => void, keys: Record<string, [string, () => void]>}} own
 * @returns {{tone: Tone}}
 */
export function wireCommon({ onTheme, keys }) {
  const tone = new Tone();
  const toggleSound = () => {
    tone.toggle();
    byId("sound").setAttribute("aria-pressed", String(tone.enabled));
    setText(byId("sound"), tone.enabled ? "Sound on" : "Sound off");
  };
  const openHelp = () => byId("help").showModal();
  byId("sound").onclick = toggleSound;
  byId("open-help").onclick = openHelp;
  setUpTheme(onTheme);
  setUpClosing();
  setUpKeys({
    ...keys,
    s: ["Sound on this screen on or off", toggleSound],
    t: ["Theme: as the system, dark, light", () => byId("theme").click()],
    "?": ["This help", openHelp],
  });
  return { tone };
}

/** What is not a patient's is marked over the whole page. @param {{mode: string, simulated: boolean, notice: string}} hello */
export function showMode({ mode, simulated, notice }) {
  const mark = mode === "real" ? (simulated ? "SIMULATED" : "") : mode.toUpperCase();
  byId("watermark").dataset.mark = mark;
  byId("mode").hidden = mark === "";
  setText(byId("mode"), mark);
  setText(byId("notice"), notice);
}

/** Who is logged in, and the way out. @param {string | null} user */
export function showUser(user) {
  byId("logout").hidden = user === null;
  setText(byId("logout").lastElementChild, `Log out ${user}`);
}

/** Where the session has ended, the way leads to the door. */
async function backToLogin() {
  try {
    const answer = await fetch("/whoami");
    if (answer.status === 401) location.assign(`/login?next=${encodeURIComponent(location.pathname)}`);
  } catch {
    // No server, no door: the cover says so already.
  }
}

/** The cover over a page whose server is gone: nothing beneath it is live. @param {string} what "This bed" */
export function showDead(what) {
  const cover = byId("dead");
  const overlay = {
    dead: false,
    show(why) {
      byId("main").inert = true;
      document.body.classList.add("dead");
      backToLogin();
      if (overlay.dead) return;
      overlay.dead = true;
      overlay.sinceMs = performance.now();
      const since = element("span");
      since.setAttribute("aria-hidden", "true");
      cover.replaceChildren(
        element("strong", "No connection"),
        element("p", `${why} ${what} cannot be seen from here. Trying again by itself.`),
        since,
      );
    },
    hide() {
      overlay.dead = false;
      byId("main").inert = false;
      document.body.classList.remove("dead");
      cover.replaceChildren();
    },
  };
  setInterval(() => {
    if (overlay.dead) setText(cover.lastChild, `for ${span((performance.now() - overlay.sinceMs) / 1000)}`);
  }, 500);
  return overlay;
}
