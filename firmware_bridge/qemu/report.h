/* What happened, as one line of JSON on the emulator's console.
 *
 * Research use only. Licence: Apache-2.0.
 */
#ifndef REPORT_H
#define REPORT_H

void report_write(void);

#endif
