/** The door: as light or dark as the rest, and a word where the last try failed. */
import { byId } from "./format.js";
import { setUpTheme } from "./theme.js";

setUpTheme();
const failed = new URLSearchParams(location.search).get("failed");
if (failed !== null) byId("failed").textContent = failed === "wait" ? "Too many tries. Wait a minute." : "Name or password is wrong.";
