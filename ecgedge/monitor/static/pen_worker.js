/** The pen in a thread of its own: the page's own thread need not wait for what is drawn, nor the trace for the page. */
import { Pen } from "./pen.js";

const TELL_MS = 250;

let pen = null;
let told = { frames: 0, atMs: 0, latencyMs: [] };

/** What a message asks for, by its `do`. */
const take = {
  open({ canvas }) {
    pen = new Pen(canvas.getContext("2d"));
    requestAnimationFrame(frame);
  },
  leads: ({ leads }) => pen.restart(leads),
  plan: ({ plan }) => pen.setPlan(plan),
  off: ({ off }) => pen.setOff(off),
  block: ({ block }) => pen.push(block),
  clear: () => pen.clear(),
};

onmessage = ({ data }) => take[data.do](data);

/** Each frame draws what is new; what was drawn is told now and then. */
function frame() {
  requestAnimationFrame(frame);
  const sentMs = pen.draw();
  const nowMs = Date.now();
  told.frames += 1;
  told.latencyMs.push(...sentMs.map((ms) => nowMs - ms));
  if (told.latencyMs.length === 0 || nowMs - told.atMs < TELL_MS) return;
  postMessage(told);
  told = { frames: 0, atMs: nowMs, latencyMs: [] };
}
