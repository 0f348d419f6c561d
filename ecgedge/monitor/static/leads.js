/** Each lead by itself, the model that answers, and why it is that one. */
import { byId, element, fixed, setText } from "./format.js";
import { MISSING } from "./protocol.js";

const SPAN_S = 2;
const FLAT_MV = 0.02;
const RAIL_COUNTS = 32000;

/** What the last seconds of each lead were: how much is missing, how far it moved. */
export class LeadWatch {
  /** @param {string[]} names @param {number} rateHz */
  constructor(names, rateHz) {
    this.names = names;
    this.enough = rateHz * SPAN_S;
    this.said = names.map(() => "waiting");
    this.restart();
  }

  restart() {
    this.seen = 0;
    this.counts = this.names.map(() => ({ low: Infinity, high: -Infinity, missing: 0, railed: 0 }));
  }

  /** @param {import("./protocol.js").Block} block */
  push(block) {
    for (let lead = 0; lead < this.names.length; lead++) {
      const tally = this.counts[lead];
      for (let i = lead * block.samples; i < (lead + 1) * block.samples; i++) {
        const count = block.counts[i];
        if (count === MISSING) tally.missing++;
        else {
          if (count < tally.low) tally.low = count;
          if (count > tally.high) tally.high = count;
          if (count > RAIL_COUNTS || count < -RAIL_COUNTS) tally.railed++;
        }
      }
    }
    this.seen += block.samples;
    if (this.seen < this.enough) return;
    this.said = this.counts.map((tally) => judge(tally, this.seen, block.mvPerCount));
    this.restart();
  }
}

/** @returns {string} "ok", "flat", "limit", "no data" or "gaps 3 %" */
export function judge({ low, high, missing, railed }, seen, mvPerCount) {
  if (missing === seen) return "no data";
  if (missing > 0) return `gaps ${Math.max(1, Math.round((100 * missing) / seen))} %`;
  if (railed > 0.01 * seen) return "limit";
  return (high - low) * mvPerCount < FLAT_MV ? "flat" : "ok";
}

/**
 * @param {string[]} names
 * @param {string[]} said what `LeadWatch` found, by lead
 * @param {Set<string>} off
 * @param {object | null} estimate
 */
export function showLeads(names, said, off, estimate) {
  const used = new Set(estimate?.variant ? estimate.leads : []);
  const words = names.map((name, i) => (off.has(name) ? "off" : used.has(name) && said[i] === "ok" ? "used" : said[i]));
  const list = byId("lead-list");
  const shown = JSON.stringify([names, words]);
  if (list.dataset.shown !== shown) list.replaceChildren(...names.map((name, i) => chip(name, words[i])));
  list.dataset.shown = shown;
  const sqi = estimate?.sqi;
  byId("sqi").value = sqi ?? 0;
  setText(byId("sqi-value"), fixed(sqi, 2));
  setText(byId("variant"), describeVariant(names, off, estimate));
}

function chip(name, word) {
  const made = element("li", `${name} `);
  made.dataset.state = word.split(" ")[0];
  made.append(element("small", word));
  return made;
}

/** Say which model answers, and why: the one for the leads that are on. */
export function describeVariant(names, off, estimate) {
  if (!estimate || estimate.variant === undefined) return "No model has answered yet";
  const on = names.filter((name) => !off.has(name));
  if (!estimate.variant) return `No model answers: ${estimate.reason || "none takes these leads"}`;
  const why = off.size ? `${[...off].join(", ")} off` : `all ${on.length} leads are on`;
  return `Model ${estimate.variant} (${estimate.leads.length} ${estimate.leads.length === 1 ? "lead" : "leads"}), as ${why}`;
}
