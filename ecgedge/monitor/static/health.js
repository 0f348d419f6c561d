/** The strip at the foot: is the feed alive, is the machine, and does anybody watch over them. */
import { byId, element, fixed } from "./format.js";

const LATE_MS = 500;
const LITTLE_DISK_GB = 1;
const BUSY_PERCENT = 90;
/** A ward takes whole hops: less than a second of samples waits in any case. */
const MANY_SAMPLES = 1000;

const item = (name, value, state = "good") => ({ name, value, state });

/**
 * What the strip says, in order; state is "good", "warn" or "bad".
 * @param {object} health the server's message
 * @param {string} bed
 * @param {{holes: number, p99Ms: number | null, dropped: number}} seen what the page itself measured
 */
export function describeHealth(health, bed, seen) {
  const { feed = {}, latency_ms: latency = {}, queue } = health.beds?.[bed] ?? {};
  const items = [
    feed.alive ? item("Feed", "alive") : item("Feed", `no samples for ${fixed(feed.age_s, 0)} s`, "bad"),
    item("Latency p50/p99", `${fixed(latency.p50, 0)}/${fixed(latency.p99, 0)} ms`, latency.p99 > LATE_MS ? "warn" : "good"),
    item("To screen p99", `${fixed(seen.p99Ms, 0)} ms`, seen.p99Ms > LATE_MS ? "warn" : "good"),
    item("Queue", String(queue ?? "--"), queue > MANY_SAMPLES ? "warn" : "good"),
    item("CPU", `${fixed(health.cpu_percent, 0)} %`, health.cpu_percent > BUSY_PERCENT ? "warn" : "good"),
    item("Memory", `${fixed(health.memory_mb, 0)} MB`),
    item("Disk free", `${fixed(health.disk_free_gb, 1)} GB`, health.disk_free_gb < LITTLE_DISK_GB ? "bad" : "good"),
    clockItem(health.clock_synchronised),
    item("Viewers", String(health.viewers ?? "--")),
    item("Heartbeat", String(health.heartbeat)),
  ];
  if (seen.holes) items.push(item("Blocks lost", String(seen.holes), "warn"));
  if (seen.dropped) items.push(item("Unreadable", String(seen.dropped), "warn"));
  return items;
}

function clockItem(synchronised) {
  if (synchronised === true) return item("Clock", "held");
  return synchronised === false ? item("Clock", "not held by a time server", "warn") : item("Clock", "unknown");
}

const MARK = { good: "●", warn: "▲", bad: "■" };

/** @param {{name: string, value: string, state: string}[]} items */
export function showHealth(items) {
  const spans = items.map(({ name, value, state }) => {
    const span = element("span", `${MARK[state]} ${name} ${value}`);
    span.dataset.state = state;
    return span;
  });
  byId("health").replaceChildren(...spans);
}

/** @param {number[]} values @returns {number | null} */
export function p99(values) {
  if (values.length === 0) return null;
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.ceil(0.99 * sorted.length) - 1];
}
