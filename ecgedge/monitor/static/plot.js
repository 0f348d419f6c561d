/** How a trend is drawn: axes, hatching where it is invalid, the band of the interval, the line, levels and marks. */
import { clock, cssValue } from "./format.js";

const PAD = { left: 38, right: 10, top: 8, bottom: 22 };
const FONT = "12px system-ui, sans-serif";
const LEAST_LABEL_PX = { x: 64, y: 18 };
const MINUTE_MS = 60_000;
const TIME_STEPS_MS = [5, 10, 15, 30, 60, 120, 180, 240, 360, 720].map((minutes) => minutes * MINUTE_MS);
const VALUE_STEPS = [5, 10, 20, 50];
/** Points further apart than this are not joined: nothing was estimated between them. */
const HOLE_MS = 5 * MINUTE_MS;
const HATCH_PX = 9;
const MARK = { alarm: { text: "▲", downPx: 14 }, ack: { text: "✓", downPx: 28 } };

/**
 * An estimate on the axis; `value`, `low` and `high` are null where it is invalid.
 * @typedef {{atMs: number, value: number | null, low: number | null, high: number | null, valid: boolean}} Point
 */

/** The spans without a valid estimate, [from, to] in ms. @param {Point[]} points in order of time */
export function invalidSpans(points) {
  const spans = [];
  points.forEach(({ atMs, valid }, i) => {
    if (valid) return;
    if (i > 0 && !points[i - 1].valid) spans.at(-1)[1] = atMs;
    else spans.push([i > 0 ? points[i - 1].atMs : atMs, atMs]);
  });
  return spans;
}

/** Points that are joined by a line: without those that lack a number, and apart where time is missing. */
export function runs(points) {
  const found = [];
  let last = null;
  for (const point of points) {
    if (point.value !== null && last && point.atMs - last.atMs <= HOLE_MS) found.at(-1).push(point);
    else if (point.value !== null) found.push([point]);
    last = point.value === null ? null : point;
  }
  return found;
}

/** The least step of these with so much room for each label; the largest where none has. */
const stepFor = (steps, span, roomPx, leastPx) => steps.find((step) => (roomPx * step) / span >= leastPx) ?? steps.at(-1);

/**
 * @param {CanvasRenderingContext2D} context in CSS pixels
 * @param {{width: number, height: number}} size
 * @param {{fromMs: number, toMs: number, points: Point[], marks: {atMs: number, kind: string}[],
 *   levels: {mmhg: number, style: string, dash: number[]}[]}} shown
 */
export function drawPlot(context, size, shown) {
  const box = { x: PAD.left, y: PAD.top, width: size.width - PAD.left - PAD.right, height: size.height - PAD.top - PAD.bottom };
  if (box.width <= 0 || box.height <= 0) return;
  const [bottom, top] = valueRange(shown.points);
  const xOf = (ms) => box.x + ((ms - shown.fromMs) / (shown.toMs - shown.fromMs)) * box.width;
  const yOf = (mmhg) => box.y + ((top - mmhg) / (top - bottom)) * box.height;
  const to = { context, box, xOf, yOf };
  context.clearRect(0, 0, size.width, size.height);
  drawAxes(to, shown, bottom, top);
  context.save();
  context.beginPath();
  context.rect(box.x, box.y, box.width, box.height);
  context.clip();
  drawInvalid(to, invalidSpans(shown.points));
  for (const run of runs(shown.points)) drawRun(to, run);
  for (const level of shown.levels) drawLevel(to, level);
  context.restore();
  drawMarks(to, shown.marks.filter(({ atMs }) => atMs >= shown.fromMs && atMs <= shown.toMs));
}

/** From 0 to 30 mmHg, and further where it must be. */
function valueRange(points) {
  const numbers = points.flatMap(({ value, low, high }) => [value, low, high]).filter((v) => v !== null);
  const lowest = numbers.reduce((a, b) => Math.min(a, b), 0);
  const highest = numbers.reduce((a, b) => Math.max(a, b), 30);
  return [Math.floor(lowest / 5) * 5, Math.ceil(highest / 5) * 5];
}

function drawAxes({ context, box, xOf, yOf }, { fromMs, toMs }, bottom, top) {
  const valueStep = stepFor(VALUE_STEPS, top - bottom, box.height, LEAST_LABEL_PX.y);
  const timeStep = stepFor(TIME_STEPS_MS, toMs - fromMs, box.width, LEAST_LABEL_PX.x);
  const zoneMs = new Date(toMs).getTimezoneOffset() * MINUTE_MS; // whole hours are the user's
  context.font = FONT;
  context.fillStyle = cssValue("--soft");
  context.strokeStyle = cssValue("--grid");
  context.lineWidth = 1;
  context.beginPath();
  context.textAlign = "right";
  context.textBaseline = "middle";
  for (let mmhg = Math.ceil(bottom / valueStep) * valueStep; mmhg <= top; mmhg += valueStep) {
    const y = Math.round(yOf(mmhg)) + 0.5;
    context.moveTo(box.x, y);
    context.lineTo(box.x + box.width, y);
    context.fillText(String(mmhg), box.x - 6, y);
  }
  context.textAlign = "center";
  context.textBaseline = "top";
  for (let ms = Math.ceil((fromMs - zoneMs) / timeStep) * timeStep + zoneMs; ms <= toMs; ms += timeStep) {
    const x = Math.round(xOf(ms)) + 0.5;
    context.moveTo(x, box.y);
    context.lineTo(x, box.y + box.height);
    if (x < box.x + box.width - PAD.right) context.fillText(clock(ms).slice(0, 5), x, box.y + box.height + 6);
  }
  context.stroke();
}

function drawInvalid({ context, box, xOf }, spans) {
  if (spans.length === 0) return;
  context.save();
  context.beginPath();
  for (const [from, to] of spans) context.rect(xOf(from), box.y, xOf(to) - xOf(from), box.height);
  context.clip();
  context.strokeStyle = cssValue("--soft");
  context.globalAlpha = 0.5;
  context.lineWidth = 1;
  context.beginPath();
  for (let x = box.x - box.height; x < box.x + box.width; x += HATCH_PX) {
    context.moveTo(x, box.y + box.height);
    context.lineTo(x + box.height, box.y);
  }
  context.stroke();
  context.restore();
}

/** The line of some joined points, over the band of those that have an interval. */
function drawRun({ context, xOf, yOf }, run) {
  const banded = run.filter(({ low, high }) => low !== null && high !== null);
  context.fillStyle = cssValue("--band");
  context.beginPath();
  for (const { atMs, high } of banded) context.lineTo(xOf(atMs), yOf(high));
  for (const { atMs, low } of [...banded].reverse()) context.lineTo(xOf(atMs), yOf(low));
  context.fill();
  context.strokeStyle = cssValue("--accent");
  context.lineWidth = 2;
  context.lineJoin = "round";
  context.lineCap = "round";
  context.beginPath();
  for (const { atMs, value } of run) context.lineTo(xOf(atMs), yOf(value));
  if (run.length === 1) context.lineTo(xOf(run[0].atMs), yOf(run[0].value)); // a point by itself is a dot
  context.stroke();
}

function drawLevel({ context, box, yOf }, { mmhg, style, dash }) {
  context.strokeStyle = cssValue(style);
  context.lineWidth = 1.5;
  context.setLineDash(dash);
  context.beginPath();
  context.moveTo(box.x, yOf(mmhg));
  context.lineTo(box.x + box.width, yOf(mmhg));
  context.stroke();
  context.setLineDash([]);
}

function drawMarks({ context, box, xOf }, marks) {
  context.fillStyle = cssValue("--text");
  context.textAlign = "center";
  context.textBaseline = "alphabetic";
  for (const { atMs, kind } of marks) context.fillText(MARK[kind].text, xOf(atMs), box.y + MARK[kind].downPx);
}
