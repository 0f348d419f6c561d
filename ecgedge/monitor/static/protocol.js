/** What comes over the wire: the layout of a block of samples, as docs/page.md has it. */

/** The count that stands for a sample nobody measured (a gap, a lead off). */
export const MISSING = -32768;
const HEADER_BYTES = 32;

/**
 * Some samples of every lead, lead by lead.
 * @typedef {{tS: number, sentMs: number, mvPerCount: number, seq: number, leads: number, samples: number,
 *   counts: Int16Array}} Block
 */

/**
 * Read a binary message.
 * @param {ArrayBuffer} buffer
 * @returns {Block | null} null where it is none of ours, or cut.
 */
export function decodeBlock(buffer) {
  if (buffer.byteLength < HEADER_BYTES) return null;
  const view = new DataView(buffer);
  if (view.getUint8(0) !== 1 || view.getUint8(1) !== 1) return null;
  const leads = view.getUint16(2, true);
  const samples = view.getUint32(4, true);
  if (buffer.byteLength !== HEADER_BYTES + 2 * leads * samples) return null;
  return {
    leads,
    samples,
    tS: view.getFloat64(8, true),
    sentMs: view.getFloat64(16, true),
    mvPerCount: view.getUint32(24, true) / 1e6,
    seq: view.getUint32(28, true),
    counts: new Int16Array(buffer, HEADER_BYTES),
  };
}

/**
 * Read a text message.
 * @param {string} text
 * @returns {object | null} null where it is no object with a type.
 */
export function decodeText(text) {
  try {
    const message = JSON.parse(text);
    return message && typeof message.type === "string" ? message : null;
  } catch {
    return null;
  }
}
