/* The serial line: a ring for each direction, filled and emptied by the UART's interrupts, and the scenario's faults.
 *
 * Research use only. Licence: Apache-2.0.
 */
#ifndef LINE_H
#define LINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "scenario.h"

/* What the line has done, since the chip got power: it outlives a reset. */
typedef struct {
    uint32_t dropped;  /* bytes, by the scenario */
    uint32_t flipped;
    uint32_t overrun;  /* received bytes that found the ring full */
} line_tally;

typedef struct {
    line_tally sent;
    line_tally received;
} line_tallies;

/* `tallies` is the caller's and is added to. */
void line_init(const scenario *plan, uint32_t boot, line_tallies *tallies);

/* Bytes that line_send() would take now. */
size_t line_room(void);

/* Queue bytes to be sent, all or, if there is no room, none. */
bool line_send(const uint8_t *bytes, size_t size);

/* Whether all that was queued has left. */
bool line_idle(void);

/* Whether a received byte waits. */
bool line_waiting(void);

/* The next received byte, if there is one. */
bool line_receive(uint8_t *byte);

#endif
