#include "sampler.h"

#include <stddef.h>

#include "board.h"

#define BLOCKS 8u
#define SYSTICK_TICKS (BOARD_CLOCK_HZ / 1000u)
#define FULL_SCALE 0x7FFFFF

static const scenario *plan;
static uint32_t *position;
static block blocks[BLOCKS];
static volatile uint32_t filled;   /* blocks completed */
static volatile uint32_t released; /* blocks taken by the main loop */
static volatile uint32_t index;    /* of the next sample */
static volatile uint32_t steps;    /* sample periods that have passed, if the line paces them */
static volatile bool done;
static volatile uint8_t frame_samples;      /* of the block that is being filled */
static volatile uint8_t next_frame_samples;

/* SysTick wakes, but does not tell the time: a busy host stops an emulated core for longer than its periods, and they
 * become one interrupt. The counter goes on, and what is due is made up for, later but with nothing lost; a chip's
 * converter would have no such patience. */
static uint64_t raw_ticks;
static uint32_t counter_seen;
static uint64_t due_q16;    /* in ticks, when the next sample is to be taken */
static uint64_t period_q16;

static uint64_t update_raw(void)
{
    const uint32_t now = counter_now();
    raw_ticks += now - counter_seen;
    counter_seen = now;
    return raw_ticks;
}

uint64_t device_us(void)
{
    const uint32_t state = irq_off();
    uint64_t us;
    if ((plan->flags & FLAG_STEPPED) != 0u) {
        us = (uint64_t)steps * 1000000u / plan->rate_hz;
    } else {
        us = update_raw() * (uint64_t)(1000000 + plan->drift_ppm) / BOARD_CLOCK_HZ;
    }
    irq_restore(state);
    return us;
}

static bool lead_is_off(void)
{
    return *position >= plan->lead_off_from && *position < plan->lead_off_to;
}

static void begin_block(block *to)
{
    to->sample_index = index;
    to->t_us = (uint64_t)index * 1000000u / plan->rate_hz;
    to->lead_off = 0u;
    to->samples = 0u;
    frame_samples = next_frame_samples;
}

static void fill(block *to)
{
    const int32_t *from = &plan->record[(size_t)(*position % plan->record_samples) * SCENARIO_CHANNELS];
    int32_t *counts = &to->counts[(size_t)to->samples * SCENARIO_CHANNELS];
    const uint32_t off = lead_is_off() ? plan->lead_off : 0u;
    uint32_t i;
    for (i = 0u; i < SCENARIO_CHANNELS; i++) {
        counts[i] = ((off | (off >> 16)) >> i & 1u) != 0u ? FULL_SCALE : from[i];
    }
    to->lead_off |= off;
    to->samples++;
}

static bool is_room(void)
{
    return filled - released < BLOCKS;
}

static void take_sample(void)
{
    block *to = &blocks[filled % BLOCKS];
    if (to->samples == 0u) {
        begin_block(to);
    }
    fill(to);
    index++;
    (*position)++;
    done = *position >= plan->play_samples;
    if (to->samples >= frame_samples || done) {
        filled++;
    }
}

void systick_handler(void)
{
    const uint64_t now_q16 = update_raw() << 16;
    if ((plan->flags & FLAG_STEPPED) != 0u) {
        if (is_room()) {
            steps++;
            if (!done) {
                take_sample();
            }
        }
        return;
    }
    while (!done && is_room() && due_q16 <= now_q16) {
        take_sample();
        due_q16 += period_q16;
    }
}

void sampler_start(const scenario *chosen, uint32_t *place)
{
    plan = chosen;
    position = place;
    next_frame_samples = (uint8_t)chosen->samples_per_frame;
    counter_seen = counter_now();
    period_q16 = ((uint64_t)BOARD_CLOCK_HZ << 16) * 1000000u / chosen->rate_hz / (uint64_t)(1000000 + chosen->drift_ppm);
    done = *position >= chosen->play_samples;
    systick_start(SYSTICK_TICKS);
}

void sampler_pause(bool pause)
{
    if ((plan->flags & FLAG_STEPPED) == 0u) {
        return;
    }
    if (pause) {
        systick_stop();
    } else {
        systick_start(SYSTICK_TICKS);
    }
}

uint32_t sampler_frame(uint8_t samples)
{
    const uint32_t state = irq_off();
    const block *now = &blocks[filled % BLOCKS];
    const bool begun = is_room() && now->samples > 0u;
    const uint32_t first = index + (begun ? (uint32_t)frame_samples - now->samples : 0u);
    next_frame_samples = samples;
    irq_restore(state);
    return first;
}

const block *sampler_block(void)
{
    return filled != released ? &blocks[released % BLOCKS] : NULL;
}

void sampler_release(void)
{
    blocks[released % BLOCKS].samples = 0u;
    released++;
}

uint32_t sampler_index(void)
{
    return index;
}

bool sampler_done(void)
{
    return done;
}
