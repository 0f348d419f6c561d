/** The big number: the last estimate with its interval and age, or why there is none. Never an old one. */
import { byId, fixed, serverClock, setText, span } from "./format.js";

const OLD_S = 30; // a few windows were missed

/**
 * What is shown of an estimate.
 * @param {object | null} estimate the last event of that type, with `wall_ms`
 * @param {number} nowMs
 * @param {number} lifetimeS after which a number is blanked
 * @returns {{state: string, value: string, interval: string, probability: string, age: string, reason: string}}
 */
export function describeEstimate(estimate, nowMs, lifetimeS) {
  const blank = { value: "--", interval: "", probability: "--", age: "--" };
  if (!estimate) return { ...blank, state: "none", reason: "No estimate yet" };
  const ageS = Math.max(0, (nowMs - estimate.wall_ms) / 1000);
  if (estimate.expired || ageS > lifetimeS) {
    const reason = estimate.expired || `The last estimate is ${span(ageS)} old: too old to be shown`;
    return { ...blank, state: "expired", age: span(ageS), reason };
  }
  if (estimate.validity === "invalid" || estimate.mpcwp_mmhg == null) {
    return { ...blank, state: "invalid", age: span(ageS), reason: estimate.reason || "No valid estimate" };
  }
  const old = ageS > OLD_S ? `The last estimate is ${span(ageS)} old` : "";
  const doubt = estimate.validity === "valid" ? "" : `Questionable: ${estimate.reason || "no reason given"}`;
  const [low, high] = estimate.interval_mmhg ?? [];
  return {
    state: old ? "old" : estimate.validity,
    value: fixed(estimate.mpcwp_mmhg, 0),
    interval: low == null ? "no interval" : `${fixed(low, 0)} to ${fixed(high, 0)} mmHg`,
    probability: estimate.p_gt_18 == null ? "--" : `${fixed(100 * estimate.p_gt_18, 0)} %`,
    age: span(ageS),
    reason: old || doubt,
  };
}

export class Numbers {
  constructor() {
    this.lifetimeS = 600;
    this.estimate = null;
  }

  /** @param {object | null} estimate */
  set(estimate) {
    this.estimate = estimate;
    this.draw();
  }

  /** Nobody may see the last estimate any more. @param {object} event of type "expired" */
  expire({ reason, wall_ms: wallMs, t_s: tS, since_s: sinceS }) {
    const last = this.estimate ?? { wall_ms: wallMs - 1000 * (tS - sinceS) };
    this.estimate = { ...last, expired: reason };
    this.draw();
  }

  draw() {
    const shown = describeEstimate(this.estimate, serverClock.nowMs(), this.lifetimeS);
    byId("number").dataset.state = shown.state;
    setText(byId("mpcwp"), shown.value);
    setText(byId("interval"), shown.interval);
    setText(byId("probability"), shown.probability);
    setText(byId("age"), shown.age);
    setText(byId("reason"), shown.reason);
    const calibration = this.estimate?.calibration;
    setText(byId("calibrated"), calibration ? `set against ${fixed(calibration.reference_mmhg)} mmHg` : "");
  }
}
