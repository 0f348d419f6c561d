/** The ward: a tile for each bed, the most urgent first. */
import { brief, byUrgency, symbol } from "./alarms.js";
import { element, serverClock, setText } from "./format.js";
import { describeEstimate } from "./numbers.js";

/** Alarms by urgency; then beds without a feed, without a valid number, and the rest; each by its name. */
export function tileOrder(a, b) {
  if (a.worst && b.worst) return byUrgency(a.worst, b.worst) || byName(a, b);
  if (a.worst || b.worst) return a.worst ? -1 : 1;
  return trouble(b) - trouble(a) || byName(a, b);
}

const byName = (a, b) => a.bed.localeCompare(b.bed, undefined, { numeric: true });
const trouble = ({ feed, estimate }) => (feed === "connected" ? 0 : 2) + (estimate?.validity === "valid" ? 0 : 1);

const SORT_MS = 50;

export class Tiles {
  /** @param {HTMLElement} list @param {{onChange: () => void}} on called once for all tiles of one frame */
  constructor(list, on) {
    this.list = list;
    this.on = on;
    this.lifetimeS = 600;
    this.tiles = new Map(); // bed: {said, item}
    this.due = false;
  }

  /** @param {object} said a message of type "tile" */
  take(said) {
    const known = this.tiles.get(said.bed);
    const item = known?.item ?? newItem(said.bed);
    this.tiles.set(said.bed, { said, item });
    this.draw(said, item);
    if (this.due) return;
    this.due = true;
    setTimeout(() => this.sort(), SORT_MS); // not by frames: a page that is hidden sounds, too
  }

  /** @returns {object[]} what was said of each bed, in order */
  get sorted() {
    return [...this.tiles.values()].map(({ said }) => said).sort(tileOrder);
  }

  sort() {
    this.due = false;
    const order = this.sorted.map(({ bed }) => this.tiles.get(bed).item);
    order.forEach((item, i) => {
      if (this.list.children[i] !== item) this.list.insertBefore(item, this.list.children[i] ?? null);
    });
    this.on.onChange();
  }

  /** Ages grow, and old numbers are blanked. */
  tick() {
    for (const { said, item } of this.tiles.values()) this.draw(said, item);
  }

  /** @param {string[]} beds all that are served */
  keep(beds) {
    for (const [bed, { item }] of this.tiles) {
      if (beds.includes(bed)) continue;
      this.tiles.delete(bed);
      item.remove();
    }
  }

  clear() {
    this.tiles.clear();
    this.list.replaceChildren();
  }

  draw({ estimate, worst, active, feed, leads_off: off }, item) {
    const tile = item.firstChild;
    const [, value, detail, state, what] = tile.children;
    const shown = describeEstimate(estimate, serverClock.nowMs(), this.lifetimeS);
    setText(value, shown.value);
    setText(detail, shown.value === "--" ? "no number" : shown.interval.replace(" mmHg", ""));
    const lives = feed === "connected";
    tile.dataset.state = lives ? shown.state : "old";
    setText(state, lives ? shown.age : `feed ${feed}${shown.value === "--" ? "" : `, ${shown.age}`}`);
    if (worst) tile.dataset.signal = worst.signal;
    else delete tile.dataset.signal;
    tile.dataset.priority = worst?.priority ?? "none";
    const more = active > 1 ? ` (+${active - 1})` : "";
    const calm = shown.reason || (off?.length ? `Leads off: ${off.join(", ")}` : "No alarms");
    setText(what.firstChild, worst ? `${symbol(worst.priority)} ${worst.priority}` : "");
    what.firstChild.hidden = !worst;
    setText(what.lastChild, worst ? brief(worst) + more : calm);
  }
}

function newItem(bed) {
  const item = element("li");
  const tile = element("a", undefined, "tile");
  tile.href = `/bed/${encodeURIComponent(bed)}`;
  const what = element("span", undefined, "what");
  what.append(element("span", "", "pill flash"), element("span", ""));
  tile.append(element("span", bed, "bed"), element("b", "--"), element("small", ""), element("small", ""), what);
  item.append(tile);
  return item;
}
