/** The way to the server: one WebSocket, opened again by itself, and called dead after two seconds of silence. */
import { decodeBlock, decodeText } from "./protocol.js";

/** The server says each second that it is alive. */
export const SILENCE_MS = 2000;
const CHECK_MS = 200;
const OPEN_WITHIN_MS = 5000;
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 8000;

/**
 * How long to wait before try number `n` (from 0): doubled each time, spread so that screens do not come back at once.
 * @param {number} n
 * @param {number} spread of [0, 1)
 */
export const backoffMs = (n, spread) => Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** n) * (0.75 + spread / 2);

export class Connection {
  /**
   * @param {string} url
   * @param {{onMessage: (message: object) => void, onBlock: (block: object) => void,
   *   onAlive: () => void, onDead: (why: string) => void}} on
   */
  constructor(url, on) {
    this.url = url;
    this.on = on;
    this.alive = false;
    this.dropped = 0; // messages that could not be read
    this.tries = 0;
    this.lastSignMs = performance.now();
    this.answers = new Map();
    this.nextId = 1;
    this.open();
    setInterval(() => this.check(), CHECK_MS);
  }

  open() {
    const socket = new WebSocket(this.url);
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    this.openedMs = performance.now();
    socket.onmessage = (event) => socket === this.socket && this.take(event.data);
    socket.onclose = () => socket === this.socket && this.lost("The connection to the server is closed.");
  }

  take(data) {
    const message = typeof data === "string" ? decodeText(data) : decodeBlock(data);
    if (message === null) {
      this.dropped += 1;
    } else if (typeof data !== "string") {
      this.on.onBlock(message);
    } else {
      this.takeMessage(message);
    }
  }

  takeMessage(message) {
    // After a silence a greeting is not enough: a server that greets and says no more is not back.
    if (message.type === "health" || (message.type === "hello" && this.tries === 0)) this.sign();
    if (message.type === "answer") {
      this.answers.get(message.id)?.(message);
      this.answers.delete(message.id);
    }
    this.on.onMessage(message);
  }

  /** The server gave a sign of life. */
  sign() {
    this.lastSignMs = performance.now();
    this.tries = 0;
    if (this.alive) return;
    this.alive = true;
    this.on.onAlive();
  }

  check() {
    const now = performance.now();
    if (this.alive && now - this.lastSignMs > SILENCE_MS) this.lost("The server has been silent for 2 s.");
    else if (this.socket && !this.alive && now - this.openedMs > OPEN_WITHIN_MS) this.lost("The server does not answer.");
  }

  /** Give this socket up, say so, and try again a little later. */
  lost(why) {
    const socket = this.socket;
    this.socket = null;
    socket?.close();
    this.alive = false;
    for (const tell of this.answers.values()) tell({ ok: false, error: null });
    this.answers.clear();
    this.on.onDead(why);
    setTimeout(() => this.open(), backoffMs(this.tries, Math.random()));
    this.tries += 1;
  }

  /** Send a message that needs no answer. */
  send(message) {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  /**
   * Send a command.
   * @param {object} command
   * @returns {Promise<{ok: boolean, error: string | null}>} without an error where nobody knows whether it was done
   */
  ask(command) {
    if (!this.alive) return Promise.resolve({ ok: false, error: "the server is gone" });
    const id = this.nextId++;
    return new Promise((resolve) => {
      this.answers.set(id, resolve);
      this.send({ ...command, id });
    });
  }
}
