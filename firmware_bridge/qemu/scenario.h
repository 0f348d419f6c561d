/* What this run plays and which faults it has. QEMU's loader writes it, with the record behind it, into RAM that the
 * image does not touch; scenario.py makes it. All words little endian.
 *
 * Research use only. Licence: Apache-2.0.
 */
#ifndef SCENARIO_H
#define SCENARIO_H

#include <stdint.h>

#define SCENARIO_ADDRESS 0x21000000u
#define SCENARIO_MAGIC 0x31424545u /* "EEB1" */
#define SCENARIO_CHANNELS 8u
#define NEVER 0xFFFFFFFFu

/* Each sample is paced by the line, not by the clock: nothing is ever dropped for want of room, and the emulator
 * may run as fast as it can. */
#define FLAG_STEPPED 1u

/* Faults of one direction of the line, each a probability a byte in millionths. */
typedef struct {
    uint32_t drop_ppm;
    uint32_t flip_ppm; /* one bit of the byte */
} line_faults;

typedef struct {
    uint32_t magic;
    uint32_t flags;
    uint32_t record_samples;  /* per channel; the record begins again after its last one */
    uint32_t play_samples;    /* to be sent in all, resets included */
    uint32_t rate_hz;
    uint32_t samples_per_frame;
    uint32_t lsb_pv;
    uint32_t gain_centi;
    uint32_t seed;            /* of the faults */
    line_faults sent;         /* on what the device sends */
    line_faults received;     /* on what it receives */
    uint32_t reset_at;        /* sample of the record at which the chip resets, or NEVER */
    uint32_t reset_gap;       /* samples of the record that pass until it is back; below 171 s */
    int32_t drift_ppm;        /* the device's clock is that much too fast */
    uint32_t lead_off;        /* as in DATA, from sample `lead_off_from` of the record to `lead_off_to` */
    uint32_t lead_off_from;
    uint32_t lead_off_to;
    uint32_t ack_after_ms;    /* a user presses the button that long after an alarm's signal; NEVER: nobody does */
    uint32_t ping_every_ms;   /* NEVER: the device does not ask */
    uint32_t wait_results;    /* after its last sample it listens until so many results have come, */
    uint32_t linger_ms;       /* and then for that long */
    uint8_t leads[SCENARIO_CHANNELS];
    int32_t record[];         /* counts, sample by sample, within it channel by channel */
} scenario;

#define SCENARIO ((const scenario *)SCENARIO_ADDRESS)

#endif
