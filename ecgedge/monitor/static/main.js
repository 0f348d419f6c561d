/** The page of one bed: what comes over the connection goes to the part that shows it. */
import { Alarms } from "./alarms.js";
import { showDead, showMode, showUser, wireCommon } from "./common.js";
import { Connection } from "./connection.js";
import { askUser, openCard, question } from "./dialogs.js";
import { byId, element, serverClock, setText, span } from "./format.js";
import { describeHealth, p99, showHealth } from "./health.js";
import { LeadWatch, showLeads } from "./leads.js";
import { Log } from "./log.js";
import { Numbers } from "./numbers.js";
import { QUIET_MS, Sweep } from "./sweep.js";
import { Trend } from "./trend.js";

/** @returns {string | null} the bed that the address names */
function bedOfPath() {
  const [, room, name] = location.pathname.split("/");
  return room === "bed" && name ? decodeURIComponent(name) : null;
}

/** "leads off: I,II (electrode RA)" names the electrode. */
export const electrodeOf = (text) => /\(electrodes? ([^)]+)\)/.exec(text)?.[1] ?? null;

const overlay = showDead("This bed");
const sweep = new Sweep(byId("stage"));
const numbers = new Numbers();
const trend = new Trend();
const log = new Log();
const { tone } = wireCommon({
  onTheme() {
    sweep.resize();
    trend.redraw();
  },
  keys: {
    a: ["Acknowledge the most urgent alarm", () => alarms.acknowledgeTop()],
    p: ["Pause or resume the sound of alarms", pauseOrResume],
    1: ["Trend of 1 h", () => trend.show(1)],
    8: ["Trend of 8 h", () => trend.show(8)],
    d: ["Trend of a day", () => trend.show(24)],
    m: ["Model card", () => byId("open-card").click()],
    l: ["Find in events", () => byId("log-find").focus()],
  },
});
const alarms = new Alarms({ acknowledge, sounding: (priority) => tone.set(overlay.dead ? "medium" : priority) });
export const page = { bed: bedOfPath(), hello: null, off: new Set(), leads: new LeadWatch([], 500), sweep, numbers, trend, log, alarms, tone };

/** What an event means for the number and the sound, whether it is new or of the past. */
const retell = {
  estimate: (event) => numbers.set(event),
  expired: (event) => numbers.expire(event),
  self_check: (event) => alarms.setPause(event, event.audio_pause_left_s, page.hello.speed),
  audio: (event) => alarms.takeAudio(event, page.hello.speed),
};

const take = {
  hello(message) {
    page.hello = { ...page.hello, ...message }; // again, and shorter, where another bundle serves
    const { server_ms: serverMs, lifetime_s: lifetimeS, limits, role, user } = page.hello;
    serverClock.set(serverMs);
    numbers.lifetimeS = lifetimeS;
    trend.limits = limits;
    alarms.mayAct = role === "acknowledge" || role === "admin";
    showMode(page.hello);
    showUser(user);
    showBeds();
    connection.send({ do: "watch", bed: page.bed });
  },
  beds({ beds }) {
    page.hello.beds = beds;
    showBeds();
    if (!beds.includes(page.bed)) dead(`No bed ${page.bed} is served.`);
    else if (overlay.dead) connection.send({ do: "watch", bed: page.bed });
  },
  gone({ bed }) {
    dead(`No bed ${bed} is served.`);
  },
  bed({ leads, rate_hz: rateHz, mode, limits, lifetime_s: lifetimeS, pause_max_s: pauseMaxS }) {
    if (connection.alive) overlay.hide(); // it was not served for a while
    trend.limits = limits ?? trend.limits; // a bed may have a policy of its own
    numbers.lifetimeS = lifetimeS ?? numbers.lifetimeS;
    page.hello.pause_max_s = pauseMaxS ?? page.hello.pause_max_s;
    page.leads = new LeadWatch(leads, rateHz);
    sweep.setLeads(leads, rateHz);
    showMode({ ...page.hello, mode });
    drawLeads();
  },
  history({ trend: past, events, alarms: active, leads_off: off }) {
    page.off = new Set(off);
    alarms.reset(active);
    log.reset(page.bed, events);
    trend.fill(past, events);
    numbers.set(null);
    for (const event of events) retell[event.type]?.(event);
    showOff();
    drawTrendLine();
  },
  estimate(event) {
    retell.estimate(event);
    trend.add(event);
    drawLeads();
  },
  expired: (event) => retell.expired(event),
  alarm(event) {
    alarms.take(event);
    trend.mark(event);
    showOff();
    drawTrendLine();
  },
  self_check: (event) => retell.self_check(event),
  audio: (event) => retell.audio(event),
  feed({ state, lead }) {
    if (state === "lead_off") page.off.add(lead);
    if (state === "lead_on") page.off.delete(lead);
    showOff();
  },
  health(message) {
    serverClock.set(message.server_ms);
    const { holes, latencyMs } = sweep.stats;
    const toScreenMs = p99(latencyMs.map((ms) => ms + serverClock.offsetMs));
    showHealth(describeHealth(message, page.bed, { holes, p99Ms: toScreenMs, dropped: connection.dropped }));
  },
};

/** Say on the lead itself that it is off, with the electrode where the alarm tells it. */
function showOff() {
  const alarm = alarms.byCondition.get("LEAD_OFF");
  const electrode = alarm ? electrodeOf(alarm.text) : null;
  const text = electrode ? `LEAD OFF: ${electrode}` : "LEAD OFF";
  sweep.setOff(new Map([...page.off].map((lead) => [lead, text])));
  drawLeads();
}

function drawLeads() {
  const { names, said } = page.leads;
  showLeads(names, sweep.quietMs > QUIET_MS ? names.map(() => "no data") : said, page.off, numbers.estimate);
}

function drawTrendLine() {
  trend.inAlarm = ["MPCWP_ELEVATED", "MPCWP_RISING"].some((name) => alarms.byCondition.has(name));
  trend.later();
}

function showBeds() {
  const { beds, ward } = page.hello;
  page.bed ??= beds[0];
  setText(byId("bed-name"), page.bed);
  document.title = `${page.bed}, ecgedge`;
  byId("home").textContent = ward ? "\u2190 ward" : "ecgedge";
  byId("bed-pick").hidden = beds.length < 2;
  byId("bed-select").replaceChildren(...beds.map((bed) => element("option", bed)));
  byId("bed-select").value = page.bed;
  byId("bed-select").onchange = (event) => location.assign(`/bed/${encodeURIComponent(event.target.value)}`);
}

function acknowledge(alarm) {
  const { condition } = alarm;
  askUser("Acknowledge", question(alarm), page.hello.user, (user) => connection.ask({ do: "ack", bed: page.bed, condition, user }));
}

function pauseOrResume() {
  if (!page.hello || !alarms.mayAct) return;
  const [what, command] = alarms.paused
    ? ["Resume sound", { do: "resume" }]
    : ["Pause sound", { do: "pause", duration_s: page.hello.pause_max_s }];
  const text = alarms.paused ? "Alarms are heard again." : `No alarm of this bed is heard for ${span(page.hello.pause_max_s)}. All are shown.`;
  askUser(what, text, page.hello.user, (user) => connection.ask({ ...command, bed: page.bed, user }));
}

/** Nothing on the page is live any more: it is blanked, and covered. */
function dead(why) {
  sweep.clear();
  numbers.set(null);
  overlay.show(why);
  alarms.tick();
}

function eachHalfSecond() {
  numbers.draw();
  drawLeads();
  alarms.tick();
}

export const connection = new Connection(`${location.origin.replace(/^http/, "ws")}/ws`, {
  onMessage(message) {
    if (message.bed !== undefined && message.bed !== page.bed) return;
    take[message.type]?.(message);
    if (message.wall_ms !== undefined) log.add(message);
  },
  onBlock(block) {
    if (block.leads !== page.leads.names.length) return;
    sweep.push(block);
    page.leads.push(block);
  },
  onAlive: () => overlay.hide(),
  onDead: dead,
});

byId("pause").onclick = pauseOrResume;
byId("open-card").onclick = () => page.hello && openCard(page.bed, page.hello.bundle);
setInterval(eachHalfSecond, 500);
