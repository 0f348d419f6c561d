/** The door, as light or dark as the rest; it works without this. */
import { setUpTheme } from "./theme.js";

setUpTheme();
