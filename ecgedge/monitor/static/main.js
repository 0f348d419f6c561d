/** The page of one bed: what comes over the connection goes to the part that shows it. */
import { Connection } from "./connection.js";
import { byId, serverClock, setText } from "./format.js";
import { Numbers } from "./numbers.js";
import { Sweep } from "./sweep.js";

const bedOfPath = () => {
  const [, room, name] = location.pathname.split("/");
  return room === "bed" && name ? decodeURIComponent(name) : null;
};

export const page = { bed: bedOfPath(), hello: null, sweep: new Sweep(byId("stage")), numbers: new Numbers() };
const { sweep, numbers } = page;

const take = {
  hello(message) {
    page.hello = message;
    serverClock.set(message.server_ms);
    numbers.lifetimeS = message.lifetime_s;
    page.bed ??= message.beds[0];
    setText(byId("bed-name"), page.bed);
    connection.send({ do: "watch", bed: page.bed });
  },
  bed(message) {
    sweep.setLeads(message.leads, message.rate_hz);
  },
  estimate(message) {
    numbers.set(message);
  },
  expired() {
    numbers.expire();
  },
};

export const connection = new Connection(`${location.origin.replace(/^http/, "ws")}/ws`, {
  onMessage: (message) => take[message.type]?.(message),
  onBlock: (block) => sweep.push(block),
  onAlive: () => document.body.classList.remove("dead"),
  onDead: () => document.body.classList.add("dead"),
});
setInterval(() => numbers.draw(), 500);
