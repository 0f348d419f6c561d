/* The converter: every sample period it takes the record's next sample, by the device's clock.
 *
 * Research use only. Licence: Apache-2.0.
 */
#ifndef SAMPLER_H
#define SAMPLER_H

#include <stdbool.h>
#include <stdint.h>

#include "scenario.h"

#define MAX_SAMPLES_PER_FRAME 25u

/* The samples of one frame. */
typedef struct {
    uint32_t sample_index;
    uint64_t t_us;
    uint32_t lead_off;
    uint8_t samples;
    int32_t counts[MAX_SAMPLES_PER_FRAME * SCENARIO_CHANNELS];
} block;

/* Begin at sample index 0 and time 0. `position` is the place in the record: the caller's, moved on with each sample,
 * so that it can outlive a reset. */
void sampler_start(const scenario *plan, uint32_t *position);

/* Frames of another length from the next one on; returns the index of its first sample. */
uint32_t sampler_frame(uint8_t samples);

/* The oldest block that is complete, or NULL; it stays there until sampler_release(). */
const block *sampler_block(void);
void sampler_release(void);

/* Samples taken since the start. */
uint32_t sampler_index(void);

/* Whether the record has been played. */
bool sampler_done(void);

/* Let time stand still, if the line paces it: the core sleeps until something is received. */
void sampler_pause(bool pause);

/* Microseconds of the device's clock since the start; never goes back. */
uint64_t device_us(void);

#endif
