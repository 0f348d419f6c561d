/** An audible alarm, by option: bursts of pulses modelled on IEC 60601-1-8, the more and the sooner the more urgent. */

const PULSES = {
  high: { at: [0, 0.2, 0.4, 0.75, 0.95, 1.5, 1.7, 1.9, 2.25, 2.45], lengthS: 0.12, everyMs: 5000, hz: 660 },
  medium: { at: [0, 0.35, 0.7], lengthS: 0.2, everyMs: 8000, hz: 523 },
  low: { at: [0, 0.4], lengthS: 0.2, everyMs: 20000, hz: 392 },
};

/** @param {string} priority @returns {{at: number[], lengthS: number, everyMs: number, hz: number} | null} */
export const pattern = (priority) => PULSES[priority] ?? null;

export class Tone {
  constructor() {
    this.context = null;
    this.priority = "none";
    this.timer = null;
  }

  get enabled() {
    return this.context !== null;
  }

  /** Browsers allow sound only after a user's own act: call this from one. */
  toggle() {
    if (this.context) {
      this.context.close();
      this.context = null;
    } else {
      this.context = new AudioContext();
    }
    this.restart();
  }

  /** @param {string} priority of the most urgent alarm that is to be heard, or "none" */
  set(priority) {
    if (priority === this.priority) return;
    this.priority = priority;
    this.restart();
  }

  restart() {
    clearInterval(this.timer);
    const burst = pattern(this.priority);
    if (!this.context || !burst) return;
    this.play(burst);
    this.timer = setInterval(() => this.play(burst), burst.everyMs);
  }

  play({ at, lengthS, hz }) {
    const start = this.context.currentTime + 0.05;
    for (const offset of at) {
      const gain = this.context.createGain();
      gain.connect(this.context.destination);
      gain.gain.setValueAtTime(0, start + offset);
      gain.gain.linearRampToValueAtTime(0.25, start + offset + 0.02);
      gain.gain.setValueAtTime(0.25, start + offset + lengthS - 0.03);
      gain.gain.linearRampToValueAtTime(0, start + offset + lengthS);
      for (const harmonic of [1, 2, 3, 4]) {
        const note = this.context.createOscillator();
        note.frequency.value = hz * harmonic;
        note.connect(gain);
        note.start(start + offset);
        note.stop(start + offset + lengthS);
      }
    }
  }
}
