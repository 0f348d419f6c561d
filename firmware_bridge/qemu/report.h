/* What happened, as one line of JSON on the emulator's console.
 *
 * Research use only. Licence: Apache-2.0.
 */
#ifndef REPORT_H
#define REPORT_H

#include <stdint.h>

/* `awake_ticks`: of BOARD_CLOCK_HZ, since the last reset, in which the core did not sleep. */
void report_write(uint64_t awake_ticks);

#endif
