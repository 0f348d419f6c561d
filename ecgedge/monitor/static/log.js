/** What has happened at this bed: filtered here, exported by the server. */
import { describe } from "./alarms.js";
import { byId, clock, element, fixed } from "./format.js";

const KEPT = 1000;
const SHOWN = 200;
const QUIET = new Set(["estimate", "self_check", "trend"]);

/** @param {object} event @returns {string} one line for a person */
export function sentence(event) {
  const by = event.user ? ` (${event.user})` : "";
  switch (event.type) {
    case "alarm":
      return event.signal === "off" ? `${event.condition} off: ${event.text}${by}` : describe(event) + (event.signal === "acknowledged" ? "" : by);
    case "feed":
      return [event.state.replaceAll("_", " "), event.lead, event.age_s == null ? null : `${fixed(event.age_s)} s`].filter(Boolean).join(" ");
    case "estimate":
      return event.validity === "invalid" ? `invalid: ${event.reason}` : `${fixed(event.mpcwp_mmhg)} mmHg, ${event.validity}`;
    default:
      return (event.text ?? event.reason ?? event.state ?? "") + by;
  }
}

/** @param {object} event @param {string} kind of the filter @param {string} words */
export function matches(event, kind, words) {
  const ofKind = kind === "" ? !QUIET.has(event.type) : kind === "user" ? Boolean(event.user) : event.type === kind;
  return ofKind && (words === "" || `${event.type} ${sentence(event)}`.toLowerCase().includes(words.toLowerCase()));
}

export class Log {
  constructor() {
    this.events = [];
    byId("log-filter").onchange = () => this.draw();
    byId("log-find").oninput = () => this.draw();
  }

  /** @param {string} bed @param {object[]} events */
  reset(bed, events) {
    this.events = [...events];
    for (const format of ["csv", "jsonl"]) {
      byId(`log-${format}`).href = `/api/events?bed=${encodeURIComponent(bed)}&format=${format}`;
    }
    this.draw();
  }

  /** @param {object} event */
  add(event) {
    if (event.type === "self_check") return;
    this.events.push(event);
    if (this.events.length > KEPT) this.events.splice(0, this.events.length - KEPT);
    if (matches(event, byId("log-filter").value, byId("log-find").value)) this.draw();
  }

  draw() {
    const kind = byId("log-filter").value;
    const words = byId("log-find").value;
    const rows = [];
    for (let i = this.events.length - 1; i >= 0 && rows.length < SHOWN; i--) {
      if (matches(this.events[i], kind, words)) rows.push(row(this.events[i]));
    }
    byId("log-rows").replaceChildren(...rows);
  }
}

function row(event) {
  const line = element("tr");
  const time = event.wall_ms ? clock(event.wall_ms) : `${fixed(event.t_s)} s`;
  line.append(element("td", time), element("td", event.type === "alarm" ? sentence(event) : `${event.type}: ${sentence(event)}`));
  return line;
}
