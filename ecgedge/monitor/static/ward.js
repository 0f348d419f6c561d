/** The page of a ward: every bed's tile, and one sound for the most urgent of them. */
import { showDead, showMode, showUser, wireCommon } from "./common.js";
import { Connection } from "./connection.js";
import { byId, element, serverClock, setText } from "./format.js";
import { Tiles } from "./tiles.js";

const tiles = new Tiles(byId("tiles"), {
  onChange() {
    sound();
    count();
  },
});
const overlay = showDead("These beds");
const { tone } = wireCommon({ onTheme() {}, keys: {} });
export const ward = { tiles, tone };

const take = {
  hello(message) {
    serverClock.set(message.server_ms);
    tiles.clear();
    tiles.lifetimeS = message.lifetime_s;
    showMode(message);
    if (message.user !== undefined) showUser(message.user);
    connection.send({ do: "watch_ward" });
  },
  beds({ beds }) {
    tiles.keep(beds);
    count();
  },
  tile: (message) => tiles.take(message),
  health(message) {
    serverClock.set(message.server_ms);
    const facts = [`Heartbeat ${message.heartbeat}`, `Viewers ${message.viewers}`, `CPU ${Math.round(message.cpu_percent)} %`];
    byId("health").replaceChildren(...facts.map((fact) => element("span", fact)));
    tiles.tick();
    count();
  },
};

function sound() {
  const heard = tiles.sorted.find(({ worst }) => worst?.signal === "on" && !worst.audible);
  tone.set(overlay.dead ? "medium" : (heard?.worst.priority ?? "none"));
}

function count() {
  const beds = [...tiles.tiles.values()].map(({ said }) => said);
  const calling = beds.filter(({ worst }) => worst?.signal === "on").length;
  setText(byId("count"), `${beds.length} beds, ${calling} with an alarm that calls. Estimates of mPCWP in mmHg.`);
}

export const connection = new Connection(`${location.origin.replace(/^http/, "ws")}/ws`, {
  onMessage: (message) => take[message.type]?.(message),
  onBlock() {},
  onAlive: () => overlay.hide(),
  onDead(why) {
    overlay.show(why);
    tiles.clear();
    sound();
  },
});
