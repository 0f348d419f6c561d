/* The front end as PROTOCOL.md describes it: what it sends, and what it does with what it hears.
 *
 * Research use only. Licence: Apache-2.0.
 */
#ifndef DEVICE_H
#define DEVICE_H

#include <stdbool.h>
#include <stdint.h>

#include "../c/eeb.h"
#include "line.h"
#include "scenario.h"

#define DEVICE_ALERTS 24u

/* What happened since the chip got power. Stands in RAM that outlives a reset. */
typedef struct {
    uint32_t magic;
    uint32_t boots;
    uint32_t position;          /* place in the record */
    uint32_t data_sent;
    uint32_t data_no_room;      /* frames dropped because the line was too slow */
    uint32_t samples_sent;
    uint32_t info_sent;
    uint32_t acks_sent;
    uint32_t pings_sent;
    uint32_t pongs_sent;
    uint32_t errors_sent;
    uint32_t config_acks_sent;
    uint32_t control_no_room;   /* other frames dropped */
    uint32_t results;
    uint32_t results_with_value;
    uint32_t alerts;
    uint32_t alerts_untracked;  /* more conditions at once than DEVICE_ALERTS */
    uint32_t alerts_expired;    /* taken off after the host started anew, or was lost */
    uint32_t acks_granted;      /* signals that became acknowledged after our ACK */
    uint32_t pings;
    uint32_t pongs;
    uint32_t pongs_impossible;
    uint32_t configs;
    uint32_t errors;
    uint32_t unexpected;        /* types that a host has no reason to send */
    uint32_t host_lost;         /* times that nothing whole came for 15 s */
    eeb_counters wire;          /* of the decoders before the last reset */
    line_tallies line;
} device_tally;

/* An alarm as the device shows it. */
typedef struct {
    uint16_t condition;         /* 0: this place is free */
    uint8_t kind;
    uint8_t priority;
    uint8_t signal;
    uint8_t acks;               /* sent for this signal */
    uint64_t since_us;          /* of the signal, or of the last ACK */
    uint64_t told_us;           /* when the host last spoke of it */
} device_alert;

/* What stands on the device's display. */
typedef struct {
    bool host_present;
    bool has_number;
    eeb_result last;
    device_alert alerts[DEVICE_ALERTS];
} device_display;

/* What the last exchange of clocks said. */
typedef struct {
    int64_t offset_us;          /* the host's clock is ahead by this */
    int64_t round_trip_us;
} device_clock;

/* Start the device, or start it again: `tally` says which. */
void device_start(const scenario *plan, device_tally *tally);

/* What there is to do now. True while the device runs, false once it has played and listened long enough. */
bool device_step(void);

const device_display *device_shown(void);
const device_clock *device_host_clock(void);

/* The tally with the counters of the present decoder added. */
device_tally device_counted(void);

#endif
