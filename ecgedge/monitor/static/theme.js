/** Dark or light: as the system is, or as the user chose. */
import { byId, setText } from "./format.js";

const THEMES = ["auto", "dark", "light"];
const system = matchMedia("(prefers-color-scheme: light)");
const chosen = () => localStorage.getItem("theme") ?? "auto";

/** Apply it, and again where it changes; `changed` is called for what is drawn on canvases. */
export function setUpTheme(changed = () => {}) {
  const button = byId("theme"); // the login page has none
  const apply = () => {
    const light = chosen() === "light" || (chosen() === "auto" && system.matches);
    document.documentElement.dataset.theme = light ? "light" : "dark";
    if (button) setText(button, `Theme: ${chosen()}`);
    changed();
  };
  const next = () => {
    localStorage.setItem("theme", THEMES[(THEMES.indexOf(chosen()) + 1) % THEMES.length]);
    apply();
  };
  button?.addEventListener("click", next);
  system.addEventListener("change", apply);
  apply();
}
