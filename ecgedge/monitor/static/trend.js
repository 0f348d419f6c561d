/** The course of the estimate over hours: interval band, threshold and recovery line, hatched where invalid. */
import { byId, clock, cssValue, fixed, serverClock } from "./format.js";

const DAY_MS = 86_400_000;
const REDRAW_MS = 2000;
const MARK = { alarm: "▲", ack: "✓" };

/**
 * The spans without a valid estimate, [from, to] in ms.
 * @param {{t: number[], validity: string[]}} points in order of time
 */
export function invalidSpans({ t, validity }) {
  const spans = [];
  for (let i = 0; i < t.length; i++) {
    if (validity[i] !== "invalid") continue;
    const last = spans.at(-1);
    if (last && i > 0 && validity[i - 1] === "invalid") last[1] = t[i];
    else spans.push([i > 0 ? t[i - 1] : t[i], t[i]]);
  }
  return spans;
}

export class Trend {
  constructor() {
    this.hours = 1;
    this.limits = {};
    this.inAlarm = false;
    this.clear();
    for (const button of document.querySelectorAll("[data-hours]")) {
      button.onclick = () => this.show(Number(button.dataset.hours));
    }
    new ResizeObserver(() => this.resize()).observe(byId("plot"));
  }

  clear() {
    this.points = { t: [], value: [], low: [], high: [], validity: [] };
    this.marks = [];
    this.redraw();
  }

  /** @param {object} trend of a "history" message; @param {object[]} events of it */
  fill(trend, events) {
    const valid = trend.validity.map((state) => state !== "invalid");
    const only = (values) => values.map((v, i) => (valid[i] ? v : null));
    this.points = {
      t: [...trend.t_ms],
      value: only(trend.mpcwp_mmhg),
      low: only(trend.low),
      high: only(trend.high),
      validity: [...trend.validity],
    };
    this.marks = [];
    for (const event of events) this.mark(event);
    this.redraw();
  }

  /** @param {object} estimate */
  add(estimate) {
    const { points } = this;
    const valid = estimate.validity !== "invalid";
    const [low, high] = (valid && estimate.interval_mmhg) || [null, null];
    points.t.push(estimate.wall_ms);
    points.value.push(valid ? estimate.mpcwp_mmhg : null);
    points.low.push(low);
    points.high.push(high);
    points.validity.push(estimate.validity);
    const old = points.t.findIndex((t) => t > estimate.wall_ms - DAY_MS);
    if (old > 500) for (const column of Object.values(points)) column.splice(0, old);
    this.later();
  }

  /** @param {object} event an alarm that comes on, or a user's acknowledgement, becomes a mark */
  mark(event) {
    if (event.type !== "alarm" || !event.wall_ms) return;
    if (event.user) this.marks.push({ t: event.wall_ms, kind: "ack" });
    else if (event.signal === "on") this.marks.push({ t: event.wall_ms, kind: "alarm" });
    if (this.marks.length > 500) this.marks.shift();
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
    this.plot ??= this.make();
    const to = serverClock.nowMs() / 1000;
    const { t, value, low, high } = this.points;
    this.plot.setData([t.map((ms) => ms / 1000), high, low, value], false);
    this.plot.setScale("x", { min: to - this.hours * 3600, max: to });
    const seen = value.filter((v, i) => v !== null && t[i] / 1000 > to - this.hours * 3600);
    const said = seen.length
      ? `last ${fixed(seen.at(-1), 0)}, lowest ${fixed(Math.min(...seen), 0)}, highest ${fixed(Math.max(...seen), 0)} mmHg`
      : "no valid estimate";
    byId("plot").setAttribute("aria-label", `Trend of the estimate over ${this.hours} h: ${said}`);
  }

  /** The theme has changed. */
  restyle() {
    this.plot?.destroy();
    this.plot = null;
    this.redraw();
  }

  resize() {
    const { clientWidth: width, clientHeight: height } = byId("plot");
    this.plot?.setSize({ width, height });
  }

  make() {
    const host = byId("plot");
    const axis = { stroke: cssValue("--soft"), grid: { stroke: cssValue("--grid"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
    return new uPlot(
      {
        width: host.clientWidth,
        height: host.clientHeight,
        legend: { show: false },
        padding: [8, 10, 0, 0],
        cursor: { drag: { x: false, y: false }, points: { show: false } },
        scales: { x: { time: true }, y: { range: (_, low, high) => [Math.min(0, low ?? 0), Math.max(30, Math.ceil((high ?? 0) / 5) * 5)] } },
        axes: [{ ...axis, size: 28, values: (_, ticks) => ticks.map((s) => clock(1000 * s).slice(0, 5)) }, { ...axis, size: 38 }],
        series: [
          {},
          { stroke: cssValue("--band"), points: { show: false } },
          { stroke: cssValue("--band"), points: { show: false } },
          { stroke: cssValue("--accent"), width: 2, points: { show: false } },
        ],
        bands: [{ series: [1, 2], fill: cssValue("--band") }],
        hooks: { drawClear: [(plot) => this.drawInvalid(plot)], draw: [(plot) => this.drawOver(plot)] },
      },
      [[], [], [], []],
      host,
    );
  }

  drawInvalid({ ctx, bbox, valToPos }) {
    ctx.save();
    ctx.beginPath();
    for (const [from, to] of invalidSpans(this.points)) {
      const left = Math.max(bbox.left, valToPos(from / 1000, "x", true));
      const right = Math.min(bbox.left + bbox.width, valToPos(to / 1000, "x", true));
      if (right > left) ctx.rect(left, bbox.top, right - left, bbox.height);
    }
    ctx.clip();
    ctx.strokeStyle = cssValue("--soft");
    ctx.globalAlpha = 0.5;
    ctx.lineWidth = 1;
    ctx.beginPath();
    for (let x = bbox.left - bbox.height; x < bbox.left + bbox.width; x += 9) {
      ctx.moveTo(x, bbox.top + bbox.height);
      ctx.lineTo(x + bbox.height, bbox.top);
    }
    ctx.stroke();
    ctx.restore();
  }

  drawOver({ ctx, bbox, valToPos }) {
    const ratio = devicePixelRatio;
    const level = (mmhg, style, dash) => {
      if (!Number.isFinite(mmhg)) return;
      const y = valToPos(mmhg, "y", true);
      ctx.strokeStyle = cssValue(style);
      ctx.lineWidth = 1.5 * ratio;
      ctx.setLineDash(dash);
      ctx.beginPath();
      ctx.moveTo(bbox.left, y);
      ctx.lineTo(bbox.left + bbox.width, y);
      ctx.stroke();
    };
    ctx.save();
    level(this.limits.elevated_mmhg, "--limit", []);
    if (this.inAlarm) level(this.limits.recovery_mmhg, "--recovery", [6 * ratio, 4 * ratio]);
    ctx.fillStyle = cssValue("--text");
    ctx.font = `${12 * ratio}px system-ui, sans-serif`;
    ctx.textAlign = "center";
    for (const { t, kind } of this.marks) {
      const x = valToPos(t / 1000, "x", true);
      if (x >= bbox.left && x <= bbox.left + bbox.width) ctx.fillText(MARK[kind], x, bbox.top + (kind === "ack" ? 28 : 14) * ratio);
    }
    ctx.restore();
  }
}
