/** The alarms of a bed: which are shown, in which order, and what a user can do about them. */
import { byId, countdown, element, serverClock, setText } from "./format.js";

const RANK = { high: 3, medium: 2, low: 1, none: 0 };
const SHOWN = { on: 2, latched: 1, acknowledged: 0 };
const SYMBOL = { high: "▲", medium: "◆", low: "●" };

const waits = ({ signal }) => signal !== "acknowledged";

/**
 * Most urgent first, as the server orders them: those that nobody has seen; then by priority; then those that call
 * before those that have gone; then a patient's before a device's; then the newest.
 */
export const byUrgency = (a, b) =>
  waits(b) - waits(a) ||
  RANK[b.priority] - RANK[a.priority] ||
  SHOWN[b.signal] - SHOWN[a.signal] ||
  (b.kind === "physiological") - (a.kind === "physiological") ||
  b.t_s - a.t_s;

/** "***" for a patient's alarm, "!!!" for a device's: as many as its priority is urgent. */
export const marks = (alarm) => (alarm.kind === "physiological" ? "*" : "!").repeat(RANK[alarm.priority] ?? 0);

/** @param {string} priority */
export const symbol = (priority) => SYMBOL[priority] ?? "";

/** "◆ medium": the highest priority among some, as an acknowledged one may be higher than the one that calls. */
function highest(alarms) {
  const { priority } = alarms.reduce((a, b) => (RANK[b.priority] > RANK[a.priority] ? b : a));
  return `${symbol(priority)} ${priority}`;
}

/** @param {string} condition "MPCWP_ELEVATED" reads "mPCWP elevated" */
export const title = (condition) => {
  const words = condition.toLowerCase().replaceAll("_", " ").replace("mpcwp", "mPCWP");
  return words[0] === "m" && words[1] === "P" ? words : words[0].toUpperCase() + words.slice(1);
};

/** What it is, for little space; beside it stands its priority. */
export const brief = (alarm) => `${marks(alarm)} ${title(alarm.condition)}${alarm.signal === "on" ? "" : `, ${alarm.signal}`}`;

/** One line that tells all of an alarm without its colour. */
export function describe(alarm) {
  const state = alarm.signal === "on" ? "" : `, ${alarm.signal === "latched" ? "has gone, not yet seen" : alarm.signal}`;
  const by = alarm.signal === "acknowledged" && alarm.user ? ` by ${alarm.user}` : "";
  return `${marks(alarm)} ${title(alarm.condition)} (${alarm.priority} priority${state}${by}): ${alarm.text.replace(/,(?=\S)/g, ", ")}`;
}

export class Alarms {
  /** @param {{acknowledge: (alarm: object) => void, sounding: (priority: string) => void}} on */
  constructor(on) {
    this.on = on;
    this.byCondition = new Map();
    this.pauseEndsMs = null;
    this.mayAct = false;
    byId("ack").onclick = () => this.acknowledgeTop();
    byId("more").onclick = () => {
      this.open = !this.open;
      this.draw();
    };
    this.draw();
  }

  /** @param {object[]} events the current state of each condition that is shown */
  reset(events) {
    this.byCondition = new Map(events.filter((e) => e.signal !== "off").map((e) => [e.condition, e]));
    this.pauseEndsMs = null; // a server that has started anew knows of none
    this.draw();
  }

  /** @param {object} event of type "alarm" */
  take(event) {
    if (event.signal === "off") this.byCondition.delete(event.condition);
    else this.byCondition.set(event.condition, event);
    this.draw();
  }

  /** @param {object} event of type "audio"; @param {number | null} speed stream seconds a second; null: as fast as may be */
  takeAudio(event, speed) {
    const paused = event.state === "paused";
    this.setPause(event, paused ? event.ends_s - event.t_s : null, speed);
    for (const [condition, alarm] of this.byCondition) {
      this.byCondition.set(condition, { ...alarm, audible: paused ? "paused" : undefined });
    }
    this.draw();
  }

  /** @param {object} event any that tells how long a pause still lasts; @param {number | null} leftS */
  setPause(event, leftS, speed) {
    this.pauseEndsMs = leftS == null ? null : event.wall_ms + (leftS * 1000) / (speed ?? Infinity);
    this.tick();
  }

  get paused() {
    return this.pauseEndsMs !== null && this.pauseEndsMs > serverClock.nowMs();
  }

  get sorted() {
    return [...this.byCondition.values()].sort(byUrgency);
  }

  /** Open the question for the most urgent alarm that can be acknowledged. */
  acknowledgeTop() {
    const alarm = this.sorted.find(waits);
    if (alarm && this.mayAct) this.on.acknowledge(alarm);
  }

  draw() {
    const [top, ...others] = this.sorted;
    const banner = byId("alarm");
    banner.dataset.priority = top?.priority ?? "none";
    if (top) banner.dataset.signal = top.signal;
    else delete banner.dataset.signal;
    setText(byId("alarm-symbol"), top ? symbol(top.priority) : "");
    byId("alarm-symbol").hidden = !top;
    setText(byId("alarm-words"), top ? describe(top) : "No alarms");
    byId("more").hidden = others.length === 0;
    byId("more").setAttribute("aria-expanded", String(Boolean(this.open)));
    setText(byId("more"), others.length ? `+${others.length} ${others.length === 1 ? "other" : "others"} (${highest(others)})` : "");
    byId("ack").hidden = !this.mayAct || !top || !waits(top);
    byId("pause").hidden = !this.mayAct;
    byId("alarm-list").hidden = !this.open || others.length === 0;
    byId("alarm-list").replaceChildren(...others.map((alarm) => this.row(alarm)));
    this.tick();
  }

  row(alarm) {
    const row = element("li", `${symbol(alarm.priority)} ${describe(alarm)}`);
    if (this.mayAct && waits(alarm)) {
      const button = element("button", "Acknowledge");
      button.setAttribute("aria-label", `Acknowledge ${title(alarm.condition)}`);
      button.onclick = () => this.on.acknowledge(alarm);
      row.append(button);
    }
    return row;
  }

  /** Count a pause down, and say what is to be heard. */
  tick() {
    const { paused } = this;
    if (!paused) this.pauseEndsMs = null;
    setText(byId("pause-left"), paused ? `Sound paused ${countdown((this.pauseEndsMs - serverClock.nowMs()) / 1000)}` : "");
    setText(byId("pause"), paused ? "Resume sound" : "Pause sound");
    const heard = this.sorted.find((each) => each.signal === "on" && !each.audible);
    this.on.sounding(heard && !paused ? heard.priority : "none");
  }
}
