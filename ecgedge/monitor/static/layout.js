/** Where each lead is drawn: columns, rows and the size of a millimetre, from the number of leads and the space. */

/** What ECG paper has: 25 mm a second, and 10 mm a millivolt. */
export const SPEED_MM_S = 25;
export const GAIN_MM_MV = 10;

const LEAST_ROW_MM = 16; // 1.6 mV a lead
const LEAST_COLUMN_MM = 62.5; // 2.5 s at 25 mm/s
const PULSE_MM = 9; // the calibration pulse before each row's first lead
const SMALLEST_MM_PX = 1.6;
const LARGEST_MM_PX = 7;

/**
 * @typedef {{x: number, y: number, width: number, height: number}} Cell
 * @typedef {{columns: number, rows: number, mmPx: number, pulsePx: number, cells: Cell[]}} Layout
 */

/**
 * Choose the columns that give the largest millimetre, and fill them from the top.
 * @param {number} leads
 * @param {number} widthPx
 * @param {number} heightPx
 * @returns {Layout}
 */
export function layoutLeads(leads, widthPx, heightPx) {
  const size = (columns) =>
    Math.min(
      heightPx / Math.ceil(leads / columns) / LEAST_ROW_MM,
      widthPx / (columns * LEAST_COLUMN_MM + PULSE_MM),
    );
  const choices = [1, 2, 4].filter((columns) => columns <= Math.max(leads, 1));
  const columns = choices.reduce((best, next) => (size(next) > size(best) ? next : best));
  const rows = Math.max(1, Math.ceil(leads / columns));
  const mmPx = Math.max(SMALLEST_MM_PX, Math.min(LARGEST_MM_PX, size(columns)));
  const pulsePx = PULSE_MM * mmPx;
  const width = (widthPx - pulsePx) / columns;
  const height = heightPx / rows;
  const cells = Array.from({ length: leads }, (_, i) => ({
    x: pulsePx + Math.floor(i / rows) * width,
    y: (i % rows) * height,
    width,
    height,
  }));
  return { columns, rows, mmPx, pulsePx, cells };
}
