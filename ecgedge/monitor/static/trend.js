/** The course of the estimate over hours: what is kept of it, and which part is shown. */
import { byId, fixed, serverClock } from "./format.js";
import { drawPlot } from "./plot.js";

const DAY_MS = 86_400_000;
const HOUR_MS = 3_600_000;
const STEP_MS = 30_000; // as the server keeps it: one point a step
const REDRAW_MS = 2000;
const MOST_MARKS = 500;

/** @returns {import("./plot.js").Point} */
function pointOf({ at_ms: atMs, validity, mpcwp_mmhg: value, interval_mmhg: interval }) {
  const valid = validity !== "invalid";
  const [low, high] = (valid && interval) || [null, null];
  return { atMs, value: valid ? value : null, low, high, valid };
}

export class Trend {
  constructor() {
    this.hours = 1;
    this.limits = {};
    this.inAlarm = false;
    this.points = [];
    this.marks = [];
    this.context = byId("plot").querySelector("canvas").getContext("2d");
    for (const button of document.querySelectorAll("[data-hours]")) {
      button.onclick = () => this.show(Number(button.dataset.hours));
    }
    new ResizeObserver(() => this.resize()).observe(byId("plot"));
  }

  /** @param {object} trend of a "history" message; @param {object[]} events of it */
  fill(trend, events) {
    this.points = trend.t_ms.map((atMs, i) =>
      pointOf({ at_ms: atMs, validity: trend.validity[i], mpcwp_mmhg: trend.mpcwp_mmhg[i], interval_mmhg: [trend.low[i], trend.high[i]] }),
    );
    this.marks = [];
    for (const event of events) this.mark(event);
    this.redraw();
  }

  /** Of the estimates of a step the newest stands, one with a number before one without. @param {object} estimate */
  add(estimate) {
    const point = pointOf(estimate);
    const last = this.points.at(-1);
    const sameStep = last && Math.floor(last.atMs / STEP_MS) === Math.floor(point.atMs / STEP_MS);
    if (sameStep && last.value !== null && point.value === null) return;
    if (sameStep) this.points.pop();
    this.points.push(point);
    while (this.points[0].atMs < point.atMs - DAY_MS) this.points.shift();
    this.later();
  }

  /** @param {object} event an alarm that comes on, or a user's acknowledgement, becomes a mark */
  mark({ type, at_ms: atMs, user, signal }) {
    if (type !== "alarm" || !atMs || !(user || signal === "on")) return;
    this.marks.push({ atMs, kind: user ? "ack" : "alarm" });
    if (this.marks.length > MOST_MARKS) this.marks.shift();
    this.later();
  }

  show(hours) {
    this.hours = hours;
    for (const button of document.querySelectorAll("[data-hours]")) {
      button.setAttribute("aria-pressed", String(Number(button.dataset.hours) === hours));
    }
    this.redraw();
  }

  later() {
    this.timer ??= setTimeout(() => this.redraw(), REDRAW_MS);
  }

  redraw() {
    clearTimeout(this.timer);
    this.timer = null;
    const toMs = Math.max(serverClock.nowMs(), this.points.at(-1)?.atMs ?? 0); // a feed that plays faster is ahead
    const fromMs = toMs - this.hours * HOUR_MS;
    const points = this.points.filter(({ atMs }) => atMs >= fromMs);
    const { clientWidth: width, clientHeight: height } = byId("plot");
    drawPlot(this.context, { width, height }, { fromMs, toMs, points, marks: this.marks, levels: this.levels() });
    byId("plot").setAttribute("aria-label", `Trend of the estimate over ${this.hours} h: ${inWords(points)}`);
  }

  levels() {
    const { elevated_mmhg: elevated, recovery_mmhg: recovery } = this.limits;
    const levels = [{ mmhg: elevated, style: "--limit", dash: [] }];
    if (this.inAlarm) levels.push({ mmhg: recovery, style: "--recovery", dash: [6, 4] });
    return levels.filter(({ mmhg }) => Number.isFinite(mmhg));
  }

  resize() {
    const ratio = window.devicePixelRatio || 1;
    const { clientWidth: width, clientHeight: height } = byId("plot");
    this.context.canvas.width = Math.round(width * ratio);
    this.context.canvas.height = Math.round(height * ratio);
    this.context.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.redraw();
  }
}

function inWords(points) {
  const seen = points.map(({ value }) => value).filter((value) => value !== null);
  if (seen.length === 0) return "no valid estimate";
  return `last ${fixed(seen.at(-1), 0)}, lowest ${fixed(Math.min(...seen), 0)}, highest ${fixed(Math.max(...seen), 0)} mmHg`;
}
